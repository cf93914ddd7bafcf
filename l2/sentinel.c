/* SPDX-License-Identifier: MIT
 *
 * sentinel.c - what is asked of sentinels and servers to find a master, and how their answers are
 * read.
 *
 *     GET-MASTER-ADDR-BY-NAME   two strings, host and port; nil: no such service
 *     SENTINELS, REPLICAS       an array; each element lists names and values in turn (an array in
 *                               RESP2, a map in RESP3), of which ip, port and flags are read
 *     +switch-master            service, old host, old port, new host, new port; blanks between
 *     ROLE                      "master", offset, replicas | "slave", host, port, state, offset |
 *                               "sentinel", services
 *
 * An answer that is not like that is refused whole. What a sentinel says of a master may be late:
 * whoever connects asks the server for its role before it believes it.
 */
#include "internal.h"
#include "topology.h"

enum { LAST_PORT = 65535 };

void pln_sentinel_ask_master(struct pln_batch *batch, const char *service) {
    pln_batch_texts(batch, "SENTINEL", "GET-MASTER-ADDR-BY-NAME", service, NULL);
}

void pln_sentinel_ask_sentinels(struct pln_batch *batch, const char *service) {
    pln_batch_texts(batch, "SENTINEL", "SENTINELS", service, NULL);
}

void pln_sentinel_ask_replicas(struct pln_batch *batch, const char *service) {
    pln_batch_texts(batch, "SENTINEL", "REPLICAS", service, NULL);
}

void pln_sentinel_subscribe(struct pln_batch *batch) {
    pln_batch_texts(batch, "SUBSCRIBE", "+switch-master", NULL);
}

void pln_sentinel_ask_role(struct pln_batch *batch) {
    pln_batch_texts(batch, "ROLE", NULL);
}

static bool is_text(struct pln_bytes bytes, const char *text) {
    return pln_bytes_equal(bytes, pln_bytes_of(text, strlen(text)));
}

static int refuse(const char *command, const struct pln_reply *reply, const char *expected) {
    if (reply->kind == PLN_REPLY_ERROR) {
        return pln_fail(PLN_EL2, "l2: %s: %.*s", command, (int) reply->bytes.len,
                        (const char *) reply->bytes.data);
    }
    return pln_fail(PLN_EL2, "l2: %s: expected %s", command, expected);
}

/* Host and port as strings. An empty host is no place: a sentinel speaks of other machines. */
static bool read_place(struct pln_bytes host, struct pln_bytes port, struct pln_address *endpoint) {
    int number;
    return host.len > 0 && pln_address_number(port, LAST_PORT, &number) &&
           pln_address_set(endpoint, host, number);
}

int pln_sentinel_read_master(const struct pln_reply *reply, struct pln_address *master) {
    const struct pln_reply *elements = reply->elements;
    struct pln_address read;
    if (reply->kind == PLN_REPLY_NIL) {
        return PLN_MISS;
    }
    if (reply->kind != PLN_REPLY_ARRAY || reply->n_elements != 2 ||
        !pln_reply_has_bytes(&elements[0]) || !pln_reply_has_bytes(&elements[1]) ||
        !read_place(elements[0].bytes, elements[1].bytes, &read)) {
        return refuse("SENTINEL GET-MASTER-ADDR-BY-NAME", reply, "a host and a port");
    }
    *master = read;
    return PLN_OK;
}

/* Whether the flags ("s_down,slave,disconnected") say that nobody should go there. */
static bool is_down(struct pln_bytes flags) {
    static const char *const bad[] = {"s_down", "o_down", "disconnected"};
    const char *at = flags.data;
    size_t left = flags.len;
    while (left > 0) {
        const char *comma = memchr(at, ',', left);
        size_t len = comma == NULL ? left : (size_t) (comma - at);
        for (size_t i = 0; i < PLN_ARRAY_LEN(bad); i++) {
            if (is_text(pln_bytes_of(at, len), bad[i])) {
                return true;
            }
        }
        size_t used = comma == NULL ? len : len + 1;
        at += used;
        left -= used;
    }
    return false;
}

/* One of a list of sentinels or replicas. */
static bool read_peer(const struct pln_reply *fields, struct pln_address *peer, bool *is_well) {
    struct pln_bytes host = {0}, port = {0}, flags = {0};
    if ((fields->kind != PLN_REPLY_ARRAY && fields->kind != PLN_REPLY_MAP) ||
        fields->n_elements % 2 != 0) {
        return false;
    }
    for (size_t i = 0; i < fields->n_elements; i += 2) {
        const struct pln_reply *name = &fields->elements[i], *value = name + 1;
        if (!pln_reply_has_bytes(name) || !pln_reply_has_bytes(value)) {
            return false;
        }
        if (is_text(name->bytes, "ip")) {
            host = value->bytes;
        } else if (is_text(name->bytes, "port")) {
            port = value->bytes;
        } else if (is_text(name->bytes, "flags")) {
            flags = value->bytes;
        }
    }
    *is_well = !is_down(flags);
    return flags.len > 0 && read_place(host, port, peer);
}

int pln_sentinel_read_peers(const struct pln_reply *reply, struct pln_address *peers, size_t size,
                            size_t *n_peers) {
    static const char unknown[] = "ERR No such master";
    size_t n = 0;
    if (reply->kind == PLN_REPLY_ERROR && reply->bytes.len >= sizeof unknown - 1 &&
        memcmp(reply->bytes.data, unknown, sizeof unknown - 1) == 0) {
        return PLN_MISS;
    }
    if (reply->kind != PLN_REPLY_ARRAY) {
        return refuse("SENTINEL SENTINELS or REPLICAS", reply, "an array");
    }
    for (size_t i = 0; i < reply->n_elements; i++) {
        struct pln_address peer;
        bool is_well;
        if (!read_peer(&reply->elements[i], &peer, &is_well)) {
            return refuse("SENTINEL SENTINELS or REPLICAS", reply,
                          "names and values, with ip, port and flags");
        }
        if (is_well && n < size) {
            peers[n++] = peer;
        }
    }
    *n_peers = n;
    return PLN_OK;
}

/* Takes the text up to a blank, or to the end. */
static struct pln_bytes take_word(struct pln_bytes *text) {
    const char *begin = text->data;
    const char *blank = text->len == 0 ? NULL : memchr(begin, ' ', text->len);
    size_t len = blank == NULL ? text->len : (size_t) (blank - begin);
    size_t used = blank == NULL ? len : len + 1;
    if (used > 0) {
        *text = pln_bytes_of(begin + used, text->len - used);
    }
    return pln_bytes_of(begin, len);
}

bool pln_sentinel_read_switch(struct pln_bytes payload, struct pln_switch *change) {
    struct pln_switch read = {0};
    struct pln_bytes words[5], rest = payload;
    for (size_t i = 0; i < PLN_ARRAY_LEN(words); i++) {
        words[i] = take_word(&rest);
    }
    read.service = words[0];
    if (rest.len > 0 || read.service.len == 0 || !read_place(words[1], words[2], &read.from) ||
        !read_place(words[3], words[4], &read.to)) {
        return false;
    }
    *change = read;
    return true;
}

static bool read_replica(const struct pln_reply *reply, struct pln_role *role) {
    const struct pln_reply *elements = reply->elements;
    if (reply->n_elements != 5 || !pln_reply_has_bytes(&elements[1]) ||
        elements[2].kind != PLN_REPLY_INTEGER || !pln_reply_has_bytes(&elements[3]) ||
        elements[4].kind != PLN_REPLY_INTEGER || elements[4].integer < -1) {
        return false;
    }
    role->kind = PLN_ROLE_REPLICA;
    role->is_linked = is_text(elements[3].bytes, "connected");
    role->offset = elements[4].integer;
    return elements[1].bytes.len > 0 &&
           pln_address_set(&role->master, elements[1].bytes, elements[2].integer);
}

static bool read_role(const struct pln_reply *reply, struct pln_role *role) {
    const struct pln_reply *elements = reply->elements;
    if (reply->kind != PLN_REPLY_ARRAY || reply->n_elements < 2 ||
        !pln_reply_has_bytes(&elements[0])) {
        return false;
    }
    if (is_text(elements[0].bytes, "slave")) {
        return read_replica(reply, role);
    }
    if (is_text(elements[0].bytes, "sentinel")) {
        role->kind = PLN_ROLE_SENTINEL;
        role->offset = -1;
        return elements[1].kind == PLN_REPLY_ARRAY;
    }
    role->kind = PLN_ROLE_MASTER;
    role->offset = elements[1].integer;
    return is_text(elements[0].bytes, "master") && elements[1].kind == PLN_REPLY_INTEGER &&
           elements[1].integer >= 0;
}

int pln_role_read(const struct pln_reply *reply, struct pln_role *role) {
    struct pln_role read = {0};
    if (!read_role(reply, &read)) {
        return refuse("ROLE", reply, "the role of a master, a replica or a sentinel");
    }
    *role = read;
    return PLN_OK;
}

int pln_role_read_replicas(const struct pln_reply *reply, struct pln_address *replicas, size_t size,
                           size_t *n_replicas) {
    struct pln_role role = {.kind = PLN_ROLE_SENTINEL};
    size_t n = 0;
    if (!read_role(reply, &role) || role.kind != PLN_ROLE_MASTER || reply->n_elements < 3 ||
        reply->elements[2].kind != PLN_REPLY_ARRAY) {
        return refuse("ROLE", reply, "the role of a master with its replicas");
    }
    const struct pln_reply *list = &reply->elements[2];
    for (size_t i = 0; i < list->n_elements; i++) {
        const struct pln_reply *fields = list->elements[i].elements;
        struct pln_address replica;
        if (list->elements[i].kind != PLN_REPLY_ARRAY || list->elements[i].n_elements < 2 ||
            !pln_reply_has_bytes(&fields[0]) || !pln_reply_has_bytes(&fields[1]) ||
            !read_place(fields[0].bytes, fields[1].bytes, &replica)) {
            return refuse("ROLE", reply, "replicas with a host and a port each");
        }
        if (n < size) {
            replicas[n++] = replica;
        }
    }
    *n_replicas = n;
    return PLN_OK;
}
