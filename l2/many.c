/* SPDX-License-Identifier: MIT
 *
 * many.c - many values at once: one MGET to each server that has some of them, all on their way
 * before the first is waited for.
 *
 * An MGET goes over the connection of its first key, not in parts over the connection of each:
 * measured, four parts over four connections take 1.8 times as long. Nothing is lost by it. Order
 * among the commands for a key matters for writes; a read that passes a write under way on another
 * connection finds the old value, as any read before that write does, and the write's own end, or
 * its message, forgets what was kept of it.
 */
#include "internal.h"

#include <stdio.h>

enum {
    MANY_AT_ONCE = 8192, /* keys of one MGET: bounds the buffers, and how long a server is busy */
    SPLIT_AT_ONCE = 512, /* keys that are sorted by server: bounds the parts */
};

/* The keys of one server. */
struct part {
    struct pln_node *node;
    struct pln_reading reading;
    size_t index; /* of the connection */
    struct pln_request request;
};

static void write_many(void *arg, const struct pln_slot *slot, struct pln_batch *batch) {
    const struct part *part = arg;
    (void) slot;
    pln_batch_command(batch, 1 + part->reading.n);
    pln_batch_text(batch, "MGET");
    for (size_t i = 0; i < part->reading.n; i++) {
        pln_names_write_value(&part->node->redis->names, part->reading.keys[i].key, batch);
    }
}

static void post(struct part *part, struct pln_node *node, size_t index,
                 const struct pln_hashed *keys, struct pln_l2_value *values, int *statuses,
                 size_t n, pln_ns deadline) {
    *part = (struct part){
        .node = node,
        .reading = {keys, values, statuses, n},
        .index = index,
        .request = {.write = write_many, .arg = part, .kinds = PLN_KIND(PLN_REPLY_ARRAY)}};
    for (size_t i = 0; i < n; i++) {
        part->request.n_bytes += keys[i].key.len;
    }
    pln_line_post(&node->pool, part->index, &part->request, deadline);
}

/* Each key by itself: while a slot is on its way, its keys are on two servers. */
static int get_each(struct part *part, pln_ns deadline) {
    struct pln_reading *reading = &part->reading;
    struct pln_redis *redis = part->node->redis;
    int failure = PLN_OK;
    for (size_t i = 0; i < reading->n; i++) {
        struct pln_reply *reply;
        struct part one = {.node = part->node, .reading = {.keys = reading->keys + i, .n = 1}};
        struct pln_request request = {
            .write = write_many, .arg = &one, .kinds = PLN_KIND(PLN_REPLY_ARRAY)};
        struct pln_node *node = pln_node_of(redis, reading->keys[i].key);
        int result = pln_route_ask(&node, part->index, &request, deadline, &reply);
        if (result == PLN_OK && (reply->kind != PLN_REPLY_ARRAY || reply->n_elements != 1)) {
            result = pln_pool_refused(&node->pool, "MGET", reply);
            pln_reply_free(reply);
        } else if (result == PLN_OK) {
            result = pln_read_value(redis, &node->pool, &reply->elements[0], &reading->values[i]);
            pln_reply_free(reply);
        }
        reading->statuses[i] = result;
        failure = result < 0 ? result : failure;
    }
    return failure;
}

/* Takes the answer; where it is a failure, no value is left. */
static int finish(struct part *part, pln_ns deadline) {
    struct pln_pool *pool = &part->node->pool;
    struct pln_reading *reading = &part->reading;
    struct pln_reply *reply = NULL;
    int result = pln_line_finish(pool, part->index, &part->request, &reply);
    if (result == PLN_OK && reply->kind == PLN_REPLY_ERROR && part->node->redis->slots != NULL) {
        pln_reply_free(reply);
        return get_each(part, deadline);
    }
    if (result == PLN_OK && pln_refusal_is_passing(reply)) {
        struct pln_node *node = part->node;
        pln_reply_free(reply);
        reply = NULL;
        result = pln_route_ask(&node, part->index, &part->request, deadline, &reply);
    }
    if (result == PLN_OK && (reply->kind != PLN_REPLY_ARRAY || reply->n_elements != reading->n)) {
        result = pln_pool_refused(pool, "MGET", reply);
    }
    for (size_t i = 0; i < reading->n; i++) {
        reading->statuses[i] = result == PLN_OK
                                   ? pln_read_value(part->node->redis, pool, &reply->elements[i],
                                                    &reading->values[i])
                                   : result;
    }
    pln_reply_free(reply);
    return result;
}

static int get_here(struct pln_node *node, const struct pln_hashed *keys, size_t n, pln_ns deadline,
                    struct pln_l2_value *values, int *statuses) {
    struct part part;
    post(&part, node, pln_node_slot(node, keys), keys, values, statuses, n, deadline);
    pln_line_flush(&node->pool, part.index);
    int result = finish(&part, deadline);
    return result == PLN_OK ? pln_read_times(node, part.index, &part.reading, deadline) : result;
}

/* ---- several servers ---- */

/* A key's place among the servers, and among the keys as they were given. */
struct placed {
    size_t place, given;
};

static int compare_places(const void *left, const void *right) {
    const struct placed *a = left, *b = right;
    if (a->place != b->place) {
        return a->place < b->place ? -1 : 1;
    }
    return a->given < b->given ? -1 : a->given > b->given;
}

/* Keys sorted by server, with what is read of them, in the same order. */
struct split {
    struct placed placed[SPLIT_AT_ONCE];
    struct pln_hashed keys[SPLIT_AT_ONCE];
    struct pln_l2_value values[SPLIT_AT_ONCE];
    int statuses[SPLIT_AT_ONCE];
    struct part parts[];
};

static size_t sort_keys(struct pln_redis *redis, const struct pln_hashed *keys, size_t n,
                        struct split *split) {
    size_t n_places = 0;
    for (size_t i = 0; i < n; i++) {
        split->placed[i] = (struct placed){pln_node_place(redis, keys[i].key), i};
    }
    qsort(split->placed, n, sizeof split->placed[0], compare_places);
    for (size_t i = 0; i < n; i++) {
        split->keys[i] = keys[split->placed[i].given];
        n_places += i == 0 || split->placed[i].place != split->placed[i - 1].place;
    }
    return n_places;
}

/* All over one connection to each server, so that what it is asked goes out in one piece. */
static void post_parts(struct pln_redis *redis, struct split *split, size_t n, pln_ns deadline) {
    size_t n_parts = 0, index = pln_node_slot(redis->nodes[0], split->keys);
    for (size_t from = 0, to; from < n; from = to) {
        for (to = from + 1; to < n && split->placed[to].place == split->placed[from].place; to++) {
        }
        post(&split->parts[n_parts++], pln_node_at(redis, split->placed[from].place), index,
             split->keys + from, split->values + from, split->statuses + from, to - from, deadline);
    }
    for (size_t i = 0; i < n_parts; i++) {
        pln_line_flush(&split->parts[i].node->pool, index);
    }
}

/* Looks at the tags of all that one server has them for: each part's own, or in a cluster one for
 * all. */
static int check_times(struct split *split, size_t n_parts, pln_ns deadline) {
    int failure = PLN_OK;
    for (size_t from = 0, to; from < n_parts; from = to) {
        struct part *part = &split->parts[from];
        struct pln_reading all = part->reading;
        const struct pln_node *tags = pln_node_of_tags(part->node);
        for (to = from + 1; to < n_parts && pln_node_of_tags(split->parts[to].node) == tags; to++) {
            all.n += split->parts[to].reading.n; /* they lie side by side */
        }
        int result = pln_read_times(part->node, part->index, &all, deadline);
        failure = result != PLN_OK ? result : failure;
    }
    return failure;
}

/* Returns PLN_OK where any key has its answer. */
static int finish_parts(struct split *split, size_t n_parts, size_t n, pln_ns deadline) {
    int failure = PLN_OK;
    char text[PLN_ERROR_TEXT] = "";
    for (size_t i = 0; i <= n_parts; i++) {
        int result = i < n_parts ? finish(&split->parts[i], deadline)
                                 : check_times(split, n_parts, deadline);
        if (result != PLN_OK && failure == PLN_OK) {
            failure = result;
            snprintf(text, sizeof text, "%s", pln_error_text());
        }
    }
    for (size_t i = 0; i < n; i++) {
        if (split->statuses[i] >= 0) {
            return PLN_OK;
        }
    }
    return pln_fail(failure, "%s", text);
}

static int get_split(struct pln_redis *redis, const struct pln_hashed *keys, size_t n,
                     pln_ns deadline, struct pln_l2_value *values, int *statuses) {
    struct split *split = malloc(sizeof *split + n * sizeof split->parts[0]);
    if (split == NULL) {
        return pln_fail(PLN_ENOMEM, "l2: no memory for many keys");
    }
    size_t n_parts = sort_keys(redis, keys, n, split);
    post_parts(redis, split, n, deadline);
    int result = finish_parts(split, n_parts, n, deadline);
    for (size_t i = 0; i < n; i++) {
        statuses[split->placed[i].given] = split->statuses[i];
        if (split->statuses[i] == PLN_OK) { /* else there is nothing in it */
            values[split->placed[i].given] = split->values[i];
        }
    }
    free(split);
    return result;
}

int pln_redis_get_many(struct pln_l2 *l2, const struct pln_hashed *keys, size_t n, pln_ns deadline,
                       struct pln_l2_value *values, int *statuses) {
    struct pln_redis *redis = pln_redis_of(l2);
    bool is_split = redis->ring != NULL || redis->slots != NULL;
    size_t at_once = is_split ? SPLIT_AT_ONCE : MANY_AT_ONCE;
    int failure = PLN_OK;
    uint64_t trust;
    bool has_answer;
    for (size_t i = 0; i < n; i++) {
        int result = pln_redis_check_key(&keys[i]);
        if (result != PLN_OK) {
            return result;
        }
    }
    int known = pln_nodes_await(redis, deadline);
    if (known != PLN_OK) {
        return known;
    }
    do {
        trust = pln_nodes_trust(redis);
        has_answer = n == 0;
        for (size_t at = 0; at < n; at += at_once) {
            size_t now = n - at < at_once ? n - at : at_once;
            int result = is_split ? get_split(redis, keys + at, now, deadline, values + at,
                                              statuses + at)
                                  : get_here(redis->nodes[0], keys + at, now, deadline, values + at,
                                             statuses + at);
            has_answer = has_answer || result == PLN_OK;
            failure = result == PLN_OK ? failure : result;
        }
    } while (pln_nodes_distrust(redis, trust, values, statuses, n) &&
             pln_nodes_await_trust(redis, deadline));
    return has_answer ? PLN_OK : failure;
}
