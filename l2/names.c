/* SPDX-License-Identifier: MIT
 *
 * names.c - what things are called in Redis.
 *
 * For a namespace N and a key K the value is N:v:K and its lease N:l:K. In a cluster both must be
 * on one server, which has them by the hash of their names or of what stands in braces there. Where
 * a key has such a tag of its own ("user:{42}:name") it decides for both. Where it has none, the
 * value keeps its name and the lease is called {N:v:K}:l, whose tag is the value's whole name. That
 * would be cut short by a closing brace in K, so such a key, without a tag, lies as N:u:{.}K with a
 * lease N:k:{.}K: all of these in one slot, and rare.
 */
#include "internal.h"
#include "topology.h"

#include <stdio.h>

enum { MAX_NAMESPACE = 256 };

enum form { PLAIN, WRAPPED, ODD };

static int join(char **to, const char *a, const char *ns, const char *b) {
    if (asprintf(to, "%s%s%s", a, ns, b) < 0) {
        *to = NULL;
        return pln_fail(PLN_ENOMEM, "l2: no memory for names");
    }
    return PLN_OK;
}

/* Whether a name has a part in braces that is not empty. */
static bool has_tag(struct pln_bytes name) {
    const char *begin = name.data;
    const char *open = name.len == 0 ? NULL : memchr(begin, '{', name.len);
    const char *close = open == NULL ? NULL : memchr(open, '}', (size_t) (begin + name.len - open));
    return close != NULL && close > open + 1;
}

static int check_braces(struct pln_names *names, const char *ns) {
    names->is_tagged = has_tag(pln_key(ns));
    if (!names->is_tagged && strpbrk(ns, "{}") != NULL) {
        return pln_fail(PLN_EINVAL,
                        "ns: in a cluster braces stand around what decides about the slot, as in "
                        "{shop}; got a single one or none between them");
    }
    names->slot = names->is_tagged ? pln_slot_of(pln_key(ns)) : 0;
    return PLN_OK;
}

int pln_names_init(struct pln_names *names, const char *ns, bool is_cluster, int database) {
    if (strlen(ns) > MAX_NAMESPACE) {
        return pln_fail(PLN_EINVAL, "ns: a namespace of %zu bytes, %d at most", strlen(ns),
                        MAX_NAMESPACE);
    }
    names->is_cluster = is_cluster;
    if (is_cluster && check_braces(names, ns) != PLN_OK) {
        return PLN_EINVAL;
    }
    if (join(&names->value, "", ns, ":v:") != PLN_OK ||
        join(&names->lease, "", ns, ":l:") != PLN_OK ||
        join(&names->odd_value, "", ns, ":u:") != PLN_OK ||
        join(&names->odd_lease, "", ns, ":k:") != PLN_OK ||
        join(&names->wrapped, "{", ns, ":v:") != PLN_OK ||
        join(&names->tags, "", ns, ":tags") != PLN_OK) {
        return PLN_ENOMEM;
    }
    char channel[32] = ":inv:2"; /* a server's channels know no databases, its messages do */
    if (database != 0) {
        snprintf(channel, sizeof channel, ":inv:2:%d", database);
    }
    if (join(&names->channel, "", ns, channel) != PLN_OK) {
        return PLN_ENOMEM;
    }
    bool is_apart = is_cluster && !names->is_tagged; /* what stands beside the tags' hash */
    if (join(&names->log, is_apart ? "{" : "", ns, is_apart ? ":tags}:log" : ":log") != PLN_OK ||
        join(&names->peers, is_apart ? "{" : "", ns, is_apart ? ":tags}:peers" : ":peers") !=
            PLN_OK ||
        join(&names->sweep, is_apart ? "{" : "", ns, is_apart ? ":tags}:sweep" : ":sweep") !=
            PLN_OK) {
        return PLN_ENOMEM;
    }
    if (join(&names->queue, "", ns, ":queue") != PLN_OK ||
        join(&names->last, "", ns, ":queue:last") != PLN_OK ||
        join(&names->lead, "", ns, ":queue:lead") != PLN_OK ||
        join(&names->dead, "", ns, ":queue:dead") != PLN_OK) {
        return PLN_ENOMEM;
    }
    names->tags_slot = pln_slot_of(pln_key(names->tags));
    return PLN_OK;
}

void pln_names_fini(struct pln_names *names) {
    free(names->value);
    free(names->lease);
    free(names->odd_value);
    free(names->odd_lease);
    free(names->wrapped);
    free(names->tags);
    free(names->log);
    free(names->peers);
    free(names->sweep);
    free(names->queue);
    free(names->last);
    free(names->lead);
    free(names->dead);
    free(names->channel);
}

static enum form form_of(const struct pln_names *names, struct pln_bytes key) {
    if (!names->is_cluster || names->is_tagged || has_tag(key)) {
        return PLAIN;
    }
    return key.len > 0 && memchr(key.data, '}', key.len) != NULL ? ODD : WRAPPED;
}

static void write_pieces(struct pln_batch *batch, const char *before, struct pln_bytes key,
                         const char *after) {
    struct pln_bytes pieces[] = {pln_key(before), key, pln_key(after)};
    pln_batch_pieces(batch, pieces, PLN_ARRAY_LEN(pieces));
}

void pln_names_write_value(const struct pln_names *names, struct pln_bytes key,
                           struct pln_batch *batch) {
    if (form_of(names, key) == ODD) {
        struct pln_bytes pieces[] = {pln_key(names->odd_value), pln_key("{.}"), key};
        pln_batch_pieces(batch, pieces, PLN_ARRAY_LEN(pieces));
    } else {
        write_pieces(batch, names->value, key, "");
    }
}

void pln_names_write_lease(const struct pln_names *names, struct pln_bytes key,
                           struct pln_batch *batch) {
    switch (form_of(names, key)) {
    case PLAIN:
        write_pieces(batch, names->lease, key, "");
        break;
    case WRAPPED:
        write_pieces(batch, names->wrapped, key, "}:l");
        break;
    case ODD: {
        struct pln_bytes pieces[] = {pln_key(names->odd_lease), pln_key("{.}"), key};
        pln_batch_pieces(batch, pieces, PLN_ARRAY_LEN(pieces));
        break;
    }
    }
}

unsigned pln_names_slot(const struct pln_names *names, struct pln_bytes key) {
    if (names->is_tagged) {
        return names->slot;
    }
    switch (form_of(names, key)) {
    case WRAPPED:
        return pln_crc16(pln_crc16(0, pln_key(names->value)), key) % PLN_N_SLOTS;
    case ODD:
        return pln_slot_of(pln_key("."));
    default:
        return pln_slot_of(key);
    }
}

static bool begins_with(struct pln_bytes name, const char *prefix) {
    size_t len = strlen(prefix);
    return name.len >= len && memcmp(name.data, prefix, len) == 0;
}

bool pln_names_read(const struct pln_names *names, struct pln_bytes name, struct pln_bytes *key) {
    size_t before = strlen(names->value);
    if (begins_with(name, names->odd_value)) {
        before += strlen("{.}");
    } else if (!begins_with(name, names->value)) {
        return false;
    }
    if (name.len < before) {
        return false;
    }
    *key = pln_bytes_of((const char *) name.data + before, name.len - before);
    return true;
}
