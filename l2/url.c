/* SPDX-License-Identifier: MIT
 *
 * url.c - where a server is and how to log in.
 *
 *     redis://[user[:password]@]host[:port][/db]     host: a name, an address, or [an IPv6 address]
 *     unix:path[?db=n]                               also unix://path
 *
 * User and password may hold any byte as %xx. A URL with a fault is never quoted in the text of
 * the failure, because that text ends up in logs.
 */
#include "internal.h"

#include <ctype.h>
#include <errno.h>
#include <stdio.h>

enum { DEFAULT_PORT = 6379, LAST_PORT = 65535, LAST_DATABASE = 65535 };

void pln_url_fini(struct pln_url *url) {
    if (url != NULL) {
        free(url->host);
        free(url->path);
        free(url->username);
        free(url->password);
        free(url->label);
        *url = (struct pln_url){0};
    }
}

static int copy(const char *from, size_t len, char **to) {
    free(*to);
    *to = strndup(from, len);
    return *to == NULL ? pln_fail(PLN_ENOMEM, "l2: no memory for a URL") : PLN_OK;
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
                            "redis url: a %% in the login must be followed by two hex digits");
        }
        *to++ = (char) (high << 4 | low);
        from += 2;
    }
    *to = 0;
    return PLN_OK;
}

static int read_login(const char *text, size_t len, struct pln_url *url) {
    const char *colon = memchr(text, ':', len);
    size_t user_len = colon == NULL ? len : (size_t) (colon - text);
    int result = PLN_OK;
    if (user_len > 0) {
        result = copy(text, user_len, &url->username);
        if (result == PLN_OK) {
            result = decode(url->username);
        }
    }
    if (result == PLN_OK && colon != NULL) {
        result = copy(colon + 1, len - user_len - 1, &url->password);
        if (result == PLN_OK) {
            result = decode(url->password);
        }
    }
    return result;
}

static int read_address(const char *text, size_t len, struct pln_url *url) {
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
    url->port = DEFAULT_PORT;
    if (rest != end &&
        (*rest != ':' || !read_number(rest + 1, (size_t) (end - rest - 1), LAST_PORT, &url->port) ||
         url->port == 0)) {
        return pln_fail(PLN_EINVAL, "redis url: a port is a number from 1 to %d", LAST_PORT);
    }
    return copy(host, (size_t) (host_end - host), &url->host);
}

static int read_database(const char *text, struct pln_url *url) {
    if (read_number(text, strlen(text), LAST_DATABASE, &url->database)) {
        return PLN_OK;
    }
    return pln_fail(PLN_EINVAL, "redis url: a database is a number from 0 to %d", LAST_DATABASE);
}

static int read_tcp(const char *text, struct pln_url *url) {
    size_t len = strcspn(text, "/?#");
    const char *rest = text + len;
    const char *at = memrchr(text, '@', len);
    int result = PLN_OK;
    if (at != NULL) {
        result = read_login(text, (size_t) (at - text), url);
        len -= (size_t) (at + 1 - text);
        text = at + 1;
    }
    if (result == PLN_OK) {
        result = read_address(text, len, url);
    }
    if (result == PLN_OK && rest[0] == '/' && rest[1] != 0) {
        result = read_database(rest + 1, url);
    } else if (result == PLN_OK && rest[0] != '/' && rest[0] != 0) {
        result = pln_fail(PLN_EINVAL, "redis url: nothing but /db may follow the host");
    }
    return result;
}

static int read_unix(const char *text, struct pln_url *url) {
    if (strncmp(text, "//", 2) == 0) {
        text += 2;
    }
    size_t len = strcspn(text, "?");
    if (len == 0 || len > 107) { /* sun_path of a socket's address, with its zero */
        return pln_fail(PLN_EINVAL, "redis url: the path of a unix socket has 1 to 107 bytes");
    }
    if (text[len] != 0 && strncmp(text + len, "?db=", 4) != 0) {
        return pln_fail(PLN_EINVAL, "redis url: nothing but ?db=n may follow the path");
    }
    int result = copy(text, len, &url->path);
    if (result == PLN_OK && text[len] != 0) {
        result = read_database(text + len + 4, url);
    }
    return result;
}

static int make_label(struct pln_url *url) {
    /* NOLINTNEXTLINE(clang-analyzer-unix.Malloc): the host is freed by pln_url_fini() */
    int len = url->path != NULL
                  ? asprintf(&url->label, "%s", url->path)
                  : asprintf(&url->label, strchr(url->host, ':') != NULL ? "[%s]:%d" : "%s:%d",
                             url->host, url->port);
    if (len < 0) {
        url->label = NULL;
        return pln_fail(PLN_ENOMEM, "l2: no memory for a URL");
    }
    return PLN_OK;
}

int pln_url_read(const char *text, struct pln_url *url) {
    struct pln_url read = {0};
    int result;
    if (strncmp(text, "redis://", 8) == 0) {
        result = read_tcp(text + 8, &read);
    } else if (strncmp(text, "unix:", 5) == 0) {
        result = read_unix(text + 5, &read);
    } else if (strncmp(text, "rediss://", 9) == 0) {
        result = pln_fail(PLN_EINVAL, "redis url: rediss:// (TLS) is not supported");
    } else {
        result = pln_fail(PLN_EINVAL, "redis url: expected redis://host[:port][/db] or unix:path");
    }
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
        result = copy(username, strlen(username), &url->username);
    }
    if (result == PLN_OK && password != NULL) {
        result = copy(password, strlen(password), &url->password);
    }
    return result;
}
