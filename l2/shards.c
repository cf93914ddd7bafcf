/* SPDX-License-Identifier: MIT
 *
 * shards.c - what a cluster says of itself: errors that send a command elsewhere, and the answer to
 * CLUSTER SLOTS.
 *
 *     MOVED 3999 10.0.0.2:6381      ASK 3999 :6381 (the host that was asked)
 *
 *     an array of ranges, each: first slot, last slot, then nodes, the primary first
 *     a node: host, port, id, and since 7.0 more of its names
 *
 * A host is what clients are meant to use, whatever else a server tells of a node: an address or a
 * name, NULL or "" for the host that was asked, "?" for one the server does not know.
 *
 * The answer is read whole or refused. It costs at most time and memory proportional to its size,
 * whatever is in it: nodes are told apart by a hash table, slots by a bit each.
 */
#include "topology.h"

enum {
    TABLE_SIZE = 2 * PLN_MOST_CLUSTER_NODES, /* of node places; never full, so a search ends */
    RANGE_HEAD = 2,                          /* elements of a range before its nodes */
    NODE_FIELDS = 2,                         /* elements of a node that are read */
};

struct reader {
    struct pln_shards shards;
    uint64_t seed; /* so that no list of hosts is slow to read */
    uint16_t table[TABLE_SIZE];
    uint8_t taken[PLN_N_SLOTS / 8]; /* a bit for each slot that a range had */
};

static const struct pln_bytes unknown_host = {"?", 1};

static bool skip_word(struct pln_bytes *text, const char *word) {
    size_t len = strlen(word);
    if (text->len < len || memcmp(text->data, word, len) != 0) {
        return false;
    }
    *text = pln_bytes_of((const char *) text->data + len, text->len - len);
    return true;
}

bool pln_moved_read(struct pln_bytes error_text, struct pln_redirect *redirect) {
    struct pln_redirect read = {0};
    struct pln_bytes rest = error_text;
    int slot;
    read.is_ask = skip_word(&rest, "ASK ");
    if (!read.is_ask && !skip_word(&rest, "MOVED ")) {
        return false;
    }
    const char *begin = rest.data;
    const char *blank = rest.len == 0 ? NULL : memchr(begin, ' ', rest.len);
    if (blank == NULL || !pln_address_number(pln_bytes_of(begin, (size_t) (blank - begin)),
                                             PLN_N_SLOTS - 1, &slot)) {
        return false;
    }
    rest = pln_bytes_of(blank + 1, rest.len - (size_t) (blank + 1 - begin));
    if (!pln_address_read(rest, &read.to) || strcmp(read.to.host, "?") == 0) {
        return false;
    }
    read.slot = (unsigned) slot;
    *redirect = read;
    return true;
}

static int fail_range(size_t range, const char *what) {
    return pln_fail(PLN_EL2, "l2: CLUSTER SLOTS: range %zu %s", range, what);
}

/* The place of an endpoint among the nodes, which it is added to where it is new. */
static int place_of(struct reader *reader, const struct pln_address *endpoint, uint16_t *place) {
    struct pln_shards *shards = &reader->shards;
    struct pln_bytes host = pln_bytes_of(endpoint->host, strlen(endpoint->host));
    size_t at = pln_hash(host, reader->seed ^ endpoint->port) % TABLE_SIZE;
    while (reader->table[at] != PLN_NO_NODE) {
        if (pln_address_equal(&shards->nodes[reader->table[at]], endpoint)) {
            *place = reader->table[at];
            return PLN_OK;
        }
        at = (at + 1) % TABLE_SIZE;
    }
    if (shards->n_nodes == PLN_MOST_CLUSTER_NODES) {
        return pln_fail(PLN_EL2, "l2: CLUSTER SLOTS: more than %d nodes", PLN_MOST_CLUSTER_NODES);
    }
    *place = reader->table[at] = (uint16_t) shards->n_nodes;
    shards->nodes[shards->n_nodes++] = *endpoint;
    return PLN_OK;
}

static int read_node(struct reader *reader, const struct pln_reply *node, size_t range,
                     uint16_t *place) {
    struct pln_address endpoint;
    if (node->kind != PLN_REPLY_ARRAY || node->n_elements < NODE_FIELDS ||
        node->elements[1].kind != PLN_REPLY_INTEGER) {
        return fail_range(range, "has a node that is not a host and a port");
    }
    const struct pln_reply *host = &node->elements[0];
    if (host->kind != PLN_REPLY_NIL && !pln_reply_has_bytes(host)) {
        return fail_range(range, "has a node whose host is no text");
    }
    struct pln_bytes name = host->kind == PLN_REPLY_NIL ? pln_bytes_of("", 0) : host->bytes;
    if (pln_bytes_equal(name, unknown_host)) {
        *place = PLN_NO_NODE;
        return PLN_OK;
    }
    if (!pln_address_set(&endpoint, name, node->elements[1].integer)) {
        return fail_range(range, "has a node whose host or port cannot be one");
    }
    return place_of(reader, &endpoint, place);
}

/* Marks the slots of a range as taken; names those that cannot be. */
static int take_slots(struct reader *reader, int64_t first, int64_t last, size_t range) {
    if (first < 0 || first > last || last >= PLN_N_SLOTS) {
        return pln_fail(PLN_EL2,
                        "l2: CLUSTER SLOTS: range %zu is from slot %lld to %lld, expected 0 <= "
                        "first <= last <= %d",
                        range, (long long) first, (long long) last, PLN_N_SLOTS - 1);
    }
    for (int64_t slot = first; slot <= last; slot++) {
        uint8_t bit = (uint8_t) (1u << slot % 8);
        if (reader->taken[slot / 8] & bit) {
            return pln_fail(PLN_EL2,
                            "l2: CLUSTER SLOTS: range %zu, from slot %lld to %lld, has slot %lld, "
                            "which another range has too",
                            range, (long long) first, (long long) last, (long long) slot);
        }
        reader->taken[slot / 8] |= bit;
    }
    return PLN_OK;
}

static int read_range(struct reader *reader, const struct pln_reply *reply, size_t number) {
    struct pln_slot_range *range = &reader->shards.ranges[number];
    const struct pln_reply *elements = reply->elements;
    if (reply->kind != PLN_REPLY_ARRAY || reply->n_elements <= RANGE_HEAD ||
        elements[0].kind != PLN_REPLY_INTEGER || elements[1].kind != PLN_REPLY_INTEGER) {
        return fail_range(number, "is not two slots and at least one node");
    }
    if (reply->n_elements - RANGE_HEAD > PLN_MOST_RANGE_NODES) {
        return pln_fail(PLN_EL2, "l2: CLUSTER SLOTS: range %zu has %zu nodes, at most %d", number,
                        reply->n_elements - RANGE_HEAD, PLN_MOST_RANGE_NODES);
    }
    int result = take_slots(reader, elements[0].integer, elements[1].integer, number);
    if (result != PLN_OK) {
        return result;
    }
    range->first = (uint16_t) elements[0].integer;
    range->last = (uint16_t) elements[1].integer;
    range->n_nodes = 0;
    for (size_t i = RANGE_HEAD; i < reply->n_elements && result == PLN_OK; i++) {
        uint16_t place = PLN_NO_NODE;
        result = read_node(reader, &elements[i], number, &place);
        if (place != PLN_NO_NODE || i == RANGE_HEAD) {
            range->nodes[range->n_nodes++] = place;
        }
    }
    return result;
}

/* Memory for what the answer can hold at most. */
static int make_room(struct reader *reader, const struct pln_reply *reply) {
    size_t n_nodes = 1; /* not 0, for which calloc() may return NULL */
    for (size_t i = 0; i < reply->n_elements && n_nodes < PLN_MOST_CLUSTER_NODES; i++) {
        n_nodes += reply->elements[i].n_elements; /* two too many, which does no harm */
    }
    n_nodes = n_nodes < PLN_MOST_CLUSTER_NODES ? n_nodes : PLN_MOST_CLUSTER_NODES;
    reader->shards.nodes = calloc(n_nodes, sizeof *reader->shards.nodes);
    reader->shards.ranges = calloc(reply->n_elements + 1, sizeof *reader->shards.ranges);
    if (reader->shards.nodes == NULL || reader->shards.ranges == NULL) {
        return pln_fail(PLN_ENOMEM, "l2: no memory for a cluster's nodes");
    }
    return PLN_OK;
}

int pln_shards_read(const struct pln_reply *reply, struct pln_shards *shards) {
    if (reply->kind == PLN_REPLY_ERROR) {
        return pln_fail(PLN_EL2, "l2: CLUSTER SLOTS: %.*s", (int) reply->bytes.len,
                        (const char *) reply->bytes.data);
    }
    if (reply->kind != PLN_REPLY_ARRAY || reply->n_elements > PLN_N_SLOTS) {
        return pln_fail(PLN_EL2, "l2: CLUSTER SLOTS: expected an array of at most %d ranges",
                        PLN_N_SLOTS);
    }
    struct reader *reader = calloc(1, sizeof *reader);
    if (reader == NULL) {
        return pln_fail(PLN_ENOMEM, "l2: no memory for a cluster's nodes");
    }
    reader->seed = pln_random64();
    memset(reader->table, 0xff, sizeof reader->table); /* PLN_NO_NODE everywhere */
    int result = make_room(reader, reply);
    for (size_t i = 0; i < reply->n_elements && result == PLN_OK; i++) {
        result = read_range(reader, &reply->elements[i], i);
    }
    if (result == PLN_OK) {
        reader->shards.n_ranges = reply->n_elements;
        *shards = reader->shards;
    } else {
        pln_shards_fini(&reader->shards);
    }
    free(reader);
    return result;
}

void pln_shards_fini(struct pln_shards *shards) {
    if (shards != NULL) {
        free(shards->nodes);
        free(shards->ranges);
        *shards = (struct pln_shards){0};
    }
}

void pln_shards_apply(const struct pln_shards *shards, const uint16_t *places,
                      struct pln_slot_map *map) {
    uint16_t next[PLN_N_SLOTS];
    memset(next, 0xff, sizeof next); /* PLN_NO_NODE everywhere */
    for (size_t i = 0; i < shards->n_ranges; i++) {
        const struct pln_slot_range *range = &shards->ranges[i];
        if (range->nodes[0] != PLN_NO_NODE) {
            for (unsigned slot = range->first; slot <= range->last; slot++) {
                next[slot] = places[range->nodes[0]];
            }
        }
    }
    for (unsigned slot = 0; slot < PLN_N_SLOTS; slot++) {
        pln_slot_map_set(map, slot, next[slot]);
    }
}
