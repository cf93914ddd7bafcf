/* SPDX-License-Identifier: MIT
 *
 * url.c - where the servers are and how to log in.
 *
 *     redis://[login@]host[:port][/db]                 one server; rediss:// over TLS
 *     unix:path[?db=n]                                 also unix://path
 *     redis+sentinel://[login@]host[:port],.../service[/db]
 *     redis+cluster://[login@]host[:port],...
 *     redis+ring://[login@]host[:port][*weight],...[/db]
 *
 * A login is user[:password], or :password; a host a name, an address, or [an IPv6 address]. A
 * server of a ring may also be unix:/path, after which the database is said by ?db=n. After the ?
 * of the last three may come tls=true; of a ring db=n; of sentinels sentinel_username=,
 * sentinel_password= and sentinel_tls=true, for the sentinels themselves, where tls is of the
 * servers they name.
 *
 * Login, service, values after the ? and paths in a ring may hold any byte as %xx. A URL with a
 * fault is never quoted in the text of the failure, because that text ends up in logs.
 */
#include "internal.h"

#include <ctype.h>
#include <errno.h>
#include <stdio.h>

enum {
    DEFAULT_PORT = 6379,
    SENTINEL_PORT = 26379,
    LAST_PORT = 65535,
    LAST_DATABASE = 65535,
    MOST_ENDPOINTS = 1024,
    MOST_WEIGHT = 1000,
    MOST_PATH = 107, /* sun_path of a socket's address, without its zero */
};

static void fini_login(struct pln_login *login) {
    free(login->username);
    free(login->password);
}

void pln_url_fini(struct pln_url *url) {
    if (url == NULL) {
        return;
    }
    for (size_t i = 0; i < url->n_endpoints; i++) {
        free(url->endpoints[i].host);
        free(url->endpoints[i].path);
        free(url->endpoints[i].label);
    }
    free(url->endpoints);
    fini_login(&url->login);
    fini_login(&url->sentinel_login);
    free(url->service);
    free(url->label);
    *url = (struct pln_url){0};
}

static int no_memory(void) {
    return pln_fail(PLN_ENOMEM, "l2: no memory for a URL");
}

static int copy(const char *from, size_t len, char **to) {
    free(*to);
    *to = strndup(from, len);
    return *to == NULL ? no_memory() : PLN_OK;
}

static bool read_number(const char *text, size_t len, int last, int *number) {
    int read = 0;
    for (size_t i = 0; i < len; i++) {
        if (!isdigit((unsigned char) text[i])) {
            return false;
        }
        read = read * 10 + (text[i] - '0');
        if (read > last) {
            return false;
        }
    }
    *number = read;
    return len > 0;
}

static int hex_digit(char c) {
    if (isdigit((unsigned char) c)) {
        return c - '0';
    }
    return isxdigit((unsigned char) c) ? tolower((unsigned char) c) - 'a' + 10 : -1;
}

/* Replaces %xx by its byte, in place. */
static int decode(char *text) {
    char *to = text;
    for (char *from = text; *from != 0; from++) {
        if (*from != '%') {
            *to++ = *from;
            continue;
        }
        int high = hex_digit(from[1]);
        int low = high < 0 ? -1 : hex_digit(from[2]);
        if (low < 0 || (high == 0 && low == 0)) {
            return pln_fail(PLN_EINVAL,
                            "redis url: a %% must be followed by two hex digits, and not by 00");
        }
        *to++ = (char) (high << 4 | low);
        from += 2;
    }
    *to = 0;
    return PLN_OK;
}

static int copy_decoded(const char *from, size_t len, char **to) {
    int result = copy(from, len, to);
    return result == PLN_OK ? decode(*to) : result;
}

static int read_login(const char *text, size_t len, struct pln_login *login) {
    const char *colon = memchr(text, ':', len);
    size_t user_len = colon == NULL ? len : (size_t) (colon - text);
    int result = user_len > 0 ? copy_decoded(text, user_len, &login->username) : PLN_OK;
    if (result == PLN_OK && colon != NULL) {
        result = copy_decoded(colon + 1, len - user_len - 1, &login->password);
    }
    return result;
}

static int read_database(const char *text, size_t len, int *database) {
    if (read_number(text, len, LAST_DATABASE, database)) {
        return PLN_OK;
    }
    return pln_fail(PLN_EINVAL, "redis url: a database is a number from 0 to %d", LAST_DATABASE);
}

/* ---- one server ---- */

static int read_address(const char *text, size_t len, struct pln_endpoint *endpoint) {
    const char *end = text + len;
    const char *host = text, *host_end, *rest;
    if (len > 0 && text[0] == '[') {
        host = text + 1;
        host_end = memchr(host, ']', (size_t) (end - host));
        if (host_end == NULL) {
            return pln_fail(PLN_EINVAL, "redis url: no ] after an IPv6 address");
        }
        rest = host_end + 1;
    } else {
        const char *colon = memchr(host, ':', len);
        host_end = rest = colon == NULL ? end : colon;
    }
    if (host_end == host) {
        return pln_fail(PLN_EINVAL, "redis url: no host; expected redis://host[:port][/db]");
    }
    if (rest != end &&
        (*rest != ':' ||
         !read_number(rest + 1, (size_t) (end - rest - 1), LAST_PORT, &endpoint->port) ||
         endpoint->port == 0)) {
        return pln_fail(PLN_EINVAL, "redis url: a port is a number from 1 to %d", LAST_PORT);
    }
    return copy(host, (size_t) (host_end - host), &endpoint->host);
}

static int read_path(const char *text, size_t len, struct pln_endpoint *endpoint) {
    int result = copy_decoded(text, len, &endpoint->path);
    endpoint->port = 0;
    if (result == PLN_OK && strlen(endpoint->path) > MOST_PATH) {
        result = pln_fail(PLN_EINVAL, "redis url: the path of a unix socket has 1 to %d bytes",
                          MOST_PATH);
    }
    return result;
}

static int read_weight(const char *text, size_t len, unsigned *weight) {
    int number = 0;
    if (!read_number(text, len, MOST_WEIGHT, &number) || number == 0) {
        return pln_fail(PLN_EINVAL, "redis url: a weight is a number from 1 to %d", MOST_WEIGHT);
    }
    *weight = (unsigned) number;
    return PLN_OK;
}

static int make_endpoint_label(struct pln_endpoint *endpoint) {
    /* NOLINTNEXTLINE(clang-analyzer-unix.Malloc): the host is freed by pln_url_fini() */
    int len = endpoint->path != NULL
                  ? asprintf(&endpoint->label, "%s", endpoint->path)
                  : asprintf(&endpoint->label,
                             strchr(endpoint->host, ':') != NULL ? "[%s]:%d" : "%s:%d",
                             endpoint->host, endpoint->port);
    if (len < 0) {
        endpoint->label = NULL;
        return no_memory();
    }
    return PLN_OK;
}

/* ---- several ---- */

static bool is_path(const char *text, const struct pln_url *url) {
    return url->topology == PLN_RING && strncmp(text, "unix:/", 6) == 0;
}

/* The endpoint that is to be filled in; it belongs to the URL already. */
static int new_endpoint(struct pln_url *url, struct pln_endpoint **added) {
    size_t most = url->topology == PLN_ALONE ? 1 : MOST_ENDPOINTS;
    if (url->n_endpoints == most) {
        return pln_fail(PLN_EINVAL, "redis url: at most %zu server%s may be named%s", most,
                        most == 1 ? "" : "s",
                        most == 1 ? "; for more say redis+sentinel, redis+cluster or redis+ring"
                                  : "");
    }
    struct pln_endpoint *more = realloc(url->endpoints, (url->n_endpoints + 1) * sizeof *more);
    if (more == NULL) {
        return no_memory();
    }
    url->endpoints = more;
    *added = &more[url->n_endpoints++];
    **added = (struct pln_endpoint){
        .port = url->topology == PLN_SENTINEL ? SENTINEL_PORT : DEFAULT_PORT, .weight = 1};
    return PLN_OK;
}

static int read_endpoint(const char *text, size_t len, struct pln_url *url) {
    struct pln_endpoint *endpoint = NULL;
    const char *star = memrchr(text, '*', len);
    int result = new_endpoint(url, &endpoint);
    if (result == PLN_OK && star != NULL && url->topology != PLN_RING) {
        result = pln_fail(PLN_EINVAL, "redis url: only the servers of a ring have a weight");
    } else if (result == PLN_OK && star != NULL) {
        result = read_weight(star + 1, (size_t) (text + len - star - 1), &endpoint->weight);
        len = (size_t) (star - text);
    }
    if (result == PLN_OK) {
        result = is_path(text, url) ? read_path(text + 5, len - 5, endpoint)
                                    : read_address(text, len, endpoint);
    }
    return result == PLN_OK ? make_endpoint_label(endpoint) : result;
}

/* Reads the list that begins at `text`; *rest is what follows it. */
static int read_endpoints(const char *text, struct pln_url *url, const char **rest) {
    for (;; text++) {
        size_t len = strcspn(text, is_path(text, url) ? ",?#" : ",/?#");
        int result = read_endpoint(text, len, url);
        text += len;
        if (result != PLN_OK || *text != ',') {
            *rest = text;
            return result;
        }
    }
}

static bool is_same(const struct pln_endpoint *a, const struct pln_endpoint *b) {
    if (a->path != NULL || b->path != NULL) {
        return a->path != NULL && b->path != NULL && strcmp(a->path, b->path) == 0;
    }
    return a->port == b->port && strcasecmp(a->host, b->host) == 0;
}

/* A ring places keys by its servers' names, so one that stands there twice would be two. And Redis
 * speaks no TLS on unix sockets. */
static int check_ring(const struct pln_url *url) {
    for (size_t i = 0; i < url->n_endpoints; i++) {
        if (url->is_tls && url->endpoints[i].path != NULL) {
            return pln_fail(PLN_EINVAL, "redis url: tls=true, but server %zu is a unix socket",
                            i + 1);
        }
        for (size_t j = 0; j < i; j++) {
            if (is_same(&url->endpoints[i], &url->endpoints[j])) {
                return pln_fail(PLN_EINVAL,
                                "redis url: servers %zu and %zu of the ring are the same; for a "
                                "larger share say host:port*weight",
                                j + 1, i + 1);
            }
        }
    }
    return PLN_OK;
}

/* ---- what follows the servers ---- */

enum value { DATABASE, FLAG, TEXT };

static const struct parameter {
    const char *name;
    unsigned topologies; /* a bit for each that knows it */
    enum value value;
    size_t offset;
} parameters[] = {
    {"db", 1 << PLN_RING, DATABASE, offsetof(struct pln_url, login.database)},
    {"tls", 1 << PLN_SENTINEL | 1 << PLN_CLUSTER | 1 << PLN_RING, FLAG,
     offsetof(struct pln_url, is_tls)},
    {"sentinel_tls", 1 << PLN_SENTINEL, FLAG, offsetof(struct pln_url, is_sentinel_tls)},
    {"sentinel_username", 1 << PLN_SENTINEL, TEXT,
     offsetof(struct pln_url, sentinel_login.username)},
    {"sentinel_password", 1 << PLN_SENTINEL, TEXT,
     offsetof(struct pln_url, sentinel_login.password)},
};

static int read_value(const struct parameter *parameter, const char *text, size_t len,
                      struct pln_url *url) {
    void *field = (char *) url + parameter->offset;
    if (parameter->value == DATABASE) {
        return read_database(text, len, field);
    }
    if (parameter->value == TEXT) {
        return copy_decoded(text, len, field);
    }
    bool is_true = len == 4 && strncmp(text, "true", 4) == 0;
    if (!is_true && !(len == 5 && strncmp(text, "false", 5) == 0)) {
        return pln_fail(PLN_EINVAL, "redis url: %s is true or false", parameter->name);
    }
    *(bool *) field = is_true;
    return PLN_OK;
}

static int read_parameter(const char *text, size_t len, struct pln_url *url) {
    const char *equals = memchr(text, '=', len);
    size_t name_len = equals == NULL ? len : (size_t) (equals - text);
    for (size_t i = 0; i < PLN_ARRAY_LEN(parameters); i++) {
        const char *name = parameters[i].name;
        if (equals != NULL && strlen(name) == name_len && strncmp(name, text, name_len) == 0 &&
            (parameters[i].topologies >> url->topology & 1) != 0) {
            return read_value(&parameters[i], equals + 1, len - name_len - 1, url);
        }
    }
    return pln_fail(PLN_EINVAL, "redis url: after the ? may come %s, and nothing else",
                    url->topology == PLN_SENTINEL
                        ? "tls=true, sentinel_tls=true, sentinel_username=, sentinel_password="
                    : url->topology == PLN_RING ? "db=n, tls=true"
                                                : "tls=true");
}

static int read_parameters(const char *text, struct pln_url *url) {
    int result = PLN_OK;
    while (result == PLN_OK && *text != 0) {
        size_t len = strcspn(text, "&");
        result = read_parameter(text, len, url);
        text += len + (text[len] == '&');
    }
    return result;
}

/* The /service of sentinels. */
static int read_service(const char **text, struct pln_url *url) {
    size_t len = **text == '/' ? strcspn(*text + 1, "/?#") : 0;
    if (len == 0) {
        return pln_fail(PLN_EINVAL, "redis url: no service; expected "
                                    "redis+sentinel://host[:port],.../service[/db]");
    }
    int result = copy_decoded(*text + 1, len, &url->service);
    *text += 1 + len;
    return result;
}

/* The last parts: /db, and what comes after a question mark. */
static int read_rest(const char *text, struct pln_url *url) {
    int result = PLN_OK;
    if (*text == '/') {
        size_t len = strcspn(++text, "?#");
        result = len == 0 ? PLN_OK : read_database(text, len, &url->login.database);
        text += len;
    }
    if (result == PLN_OK && *text == '?' && url->topology != PLN_ALONE) {
        result = read_parameters(text + 1, url);
    } else if (result == PLN_OK && *text != 0) {
        result = pln_fail(PLN_EINVAL, "redis url: nothing but /db may follow the host");
    }
    if (result == PLN_OK && url->topology == PLN_CLUSTER && url->login.database != 0) {
        result = pln_fail(PLN_EINVAL, "redis url: a cluster has no databases but 0");
    }
    return result;
}

static int read_tcp(const char *text, struct pln_url *url) {
    const char *at = memrchr(text, '@', strcspn(text, "/?#"));
    int result = PLN_OK;
    if (at != NULL) {
        result = read_login(text, (size_t) (at - text), &url->login);
        text = at + 1;
    }
    if (result == PLN_OK) {
        result = read_endpoints(text, url, &text);
    }
    if (result == PLN_OK && url->topology == PLN_SENTINEL) {
        result = read_service(&text, url);
    }
    if (result == PLN_OK) {
        result = read_rest(text, url);
    }
    return result == PLN_OK && url->topology == PLN_RING ? check_ring(url) : result;
}

/* The one form that does not know %xx: a path is taken as it is. */
static int read_unix(const char *text, struct pln_url *url) {
    struct pln_endpoint *endpoint = NULL;
    if (strncmp(text, "//", 2) == 0) {
        text += 2;
    }
    size_t len = strcspn(text, "?");
    if (len == 0 || len > MOST_PATH) {
        return pln_fail(PLN_EINVAL, "redis url: the path of a unix socket has 1 to %d bytes",
                        MOST_PATH);
    }
    if (text[len] != 0 && strncmp(text + len, "?db=", 4) != 0) {
        return pln_fail(PLN_EINVAL, "redis url: nothing but ?db=n may follow the path");
    }
    int result = new_endpoint(url, &endpoint);
    if (result == PLN_OK) {
        endpoint->port = 0;
        result = copy(text, len, &endpoint->path);
    }
    if (result == PLN_OK && text[len] != 0) {
        result = read_database(text + len + 4, strlen(text + len + 4), &url->login.database);
    }
    return result == PLN_OK ? make_endpoint_label(endpoint) : result;
}

/* ---- the whole ---- */

static int make_label(struct pln_url *url) {
    static const char *const kinds[] = {[PLN_ALONE] = "",
                                        [PLN_SENTINEL] = "sentinel ",
                                        [PLN_CLUSTER] = "cluster ",
                                        [PLN_RING] = "ring "};
    const char *first = url->endpoints[0].label;
    char more[32] = "";
    if (url->n_endpoints > 1) {
        snprintf(more, sizeof more, " and %zu more", url->n_endpoints - 1);
    }
    if (asprintf(&url->label, "%s%s%s%s%s", kinds[url->topology],
                 url->service != NULL ? url->service : "", url->service != NULL ? " of " : "",
                 first, more) < 0) {
        url->label = NULL;
        return no_memory();
    }
    return PLN_OK;
}

static const struct scheme {
    const char *prefix;
    enum pln_topology topology;
    bool is_tls;
} schemes[] = {
    {"redis://", PLN_ALONE, false},
    {"rediss://", PLN_ALONE, true},
    {"redis+sentinel://", PLN_SENTINEL, false},
    {"redis+cluster://", PLN_CLUSTER, false},
    {"redis+ring://", PLN_RING, false},
};

static int read_any(const char *text, struct pln_url *url) {
    for (size_t i = 0; i < PLN_ARRAY_LEN(schemes); i++) {
        size_t len = strlen(schemes[i].prefix);
        if (strncmp(text, schemes[i].prefix, len) == 0) {
            url->topology = schemes[i].topology;
            url->is_tls = schemes[i].is_tls;
            return read_tcp(text + len, url);
        }
    }
    if (strncmp(text, "unix:", 5) == 0) {
        return read_unix(text + 5, url);
    }
    if (strncmp(text, "rediss+", 7) == 0) {
        return pln_fail(PLN_EINVAL, "redis url: TLS to several servers is said at the end: "
                                    "redis+...://...?tls=true");
    }
    return pln_fail(PLN_EINVAL,
                    "redis url: expected redis://host[:port][/db], rediss:// for TLS, unix:path, "
                    "redis+sentinel://, redis+cluster:// or redis+ring://");
}

int pln_url_read(const char *text, struct pln_url *url) {
    struct pln_url read = {0};
    int result = read_any(text, &read);
    if (result == PLN_OK) {
        result = make_label(&read);
    }
    if (result != PLN_OK) {
        pln_url_fini(&read);
        return result;
    }
    *url = read;
    return PLN_OK;
}

int pln_url_login(struct pln_url *url, const char *username, const char *password) {
    int result = PLN_OK;
    if (username != NULL) {
        result = copy(username, strlen(username), &url->login.username);
    }
    if (result == PLN_OK && password != NULL) {
        result = copy(password, strlen(password), &url->login.password);
    }
    return result;
}
