/* SPDX-License-Identifier: MIT
 *
 * near.c - values from replicas, which may lag behind their primary.
 *
 * What a replica does not have, or has only past its time, it may merely not have yet: so for that
 * the primary is asked as if there were no replica, and only a fresh value ends the read here.
 * Where the primary cannot be asked, a value past its time is better than none.
 *
 * Whether a value is void is decided by the replica's own tags, read after it (in a cluster by
 * those of a replica of the tags' server): no later than the replica hears of a dropped tag its
 * values are void. A clear that the link has heard of holds at once.
 *
 * A replica has half of the time there is, so that its silence leaves the primary the other half.
 *
 * What is read here breaks R11 (fill from the node we subscribe to), within bounds: a message may
 * have come before the replica heard of the write, so L1 keeps the value for a short while only.
 * The other way would be a link to the replica itself: its subscribers hear a write's message after
 * the write (it comes in the stream of replication), so a value read from it under its own link's
 * generation could be kept like the primary's. That takes a link for each replica read from, the
 * generations of several links in one L1, and a node that is down as soon as one of them is.
 */
#include "internal.h"

#include <stdio.h>

enum { AT_ONCE = 512 }; /* keys that are sorted by server: bounds the parts */

/* What is asked of one replica. */
struct part {
    struct pln_node *node;
    struct pln_replica *replica;
    enum pln_read how;
    size_t index; /* of the connection */
    struct pln_reading reading;
    struct pln_request request;
};

static void write_keys(void *arg, const struct pln_slot *slot, struct pln_batch *batch) {
    const struct part *part = arg;
    (void) slot;
    pln_batch_command(batch, 1 + part->reading.n);
    pln_batch_text(batch, "MGET");
    for (size_t i = 0; i < part->reading.n; i++) {
        pln_names_write_value(&part->node->redis->names, part->reading.keys[i].key, batch);
    }
}

static void post(struct part *part, pln_ns deadline) {
    part->index = (size_t) (part->reading.keys[0].hash % part->replica->pool.n_slots);
    part->request = (struct pln_request){
        .write = write_keys, .arg = part, .kinds = PLN_KIND(PLN_REPLY_ARRAY)};
    for (size_t i = 0; i < part->reading.n; i++) {
        part->reading.statuses[i] = PLN_MISS;
    }
    pln_line_post(&part->replica->pool, part->index, &part->request, deadline);
}

/* Voids what is older than its tags. A replica that cannot say has brought nothing. */
static int check_times(struct part *part, pln_ns deadline) {
    struct pln_node *tags = pln_node_of_tags(part->node);
    struct pln_replica *replica = tags == part->node ? part->replica
                                                     : pln_replica_pick(tags, part->how);
    return pln_read_times_over(part->node, replica == NULL ? NULL : &replica->pool, part->index,
                               &part->reading, deadline);
}

/* Takes the answer: statuses are PLN_OK or PLN_MISS. */
static void finish(struct part *part, pln_ns deadline) {
    struct pln_pool *pool = &part->replica->pool;
    struct pln_reading *reading = &part->reading;
    struct pln_reply *reply = NULL;
    int result = pln_line_finish(pool, part->index, &part->request, &reply);
    if (result == PLN_OK && (reply->kind != PLN_REPLY_ARRAY || reply->n_elements != reading->n)) {
        pln_keeper_ask(part->node->redis); /* MOVED, perhaps */
        result = PLN_EL2;
    }
    for (size_t i = 0; result == PLN_OK && i < reading->n; i++) {
        reading->statuses[i] = pln_read_value(part->node->redis, pool, &reply->elements[i],
                                              &reading->values[i]);
    }
    pln_reply_free(reply);
    if (result == PLN_OK) {
        result = check_times(part, deadline);
    }
    if (result < 0) {
        pln_replica_doubt(part->node, part->replica);
    }
    for (size_t i = 0; i < reading->n; i++) {
        if (reading->statuses[i] < 0) {
            reading->statuses[i] = PLN_MISS;
        }
    }
}

static pln_ns half_way(pln_ns deadline) {
    pln_ns now = pln_clock_precise();
    return deadline > now ? now + (deadline - now) / 2 : deadline;
}

static bool is_fresh(int status, const struct pln_l2_value *value) {
    return status == PLN_OK && value->item.fresh_left > 0;
}

static void count(struct pln_redis *redis, size_t n_hits, size_t n_asked) {
    pln_count(redis->counts, PLN_COUNT_REPLICA_HITS, n_hits);
    pln_count(redis->counts, PLN_COUNT_REPLICA_MISSES, n_asked - n_hits);
}

/* ---- one ---- */

int pln_redis_get_near(struct pln_l2 *l2, const struct pln_hashed *key, enum pln_read how,
                       pln_ns deadline, struct pln_l2_value *value) {
    struct pln_redis *redis = pln_redis_of(l2);
    struct pln_l2_value near = {0};
    int status = pln_redis_check_key(key);
    if (status != PLN_OK) {
        return status;
    }
    pln_nodes_await(redis, deadline);
    struct pln_node *node = pln_node_of(redis, key->key);
    struct pln_replica *replica = pln_replica_pick(node, how);
    status = PLN_MISS;
    if (replica != NULL) {
        struct part part = {
            .node = node, .replica = replica, .how = how, .reading = {key, &near, &status, 1}};
        pln_ns until = half_way(deadline);
        post(&part, until);
        finish(&part, until);
        count(redis, is_fresh(status, &near), 1);
    }
    near.is_from_replica = true;
    if (is_fresh(status, &near)) {
        *value = near;
        return PLN_OK;
    }
    int result = pln_redis_get(l2, key, deadline, value);
    if (result < 0 && status == PLN_OK) {
        *value = near;
        return PLN_OK;
    }
    pln_l2_value_fini(&near);
    return result;
}

/* ---- many ---- */

/* A key that may be read from a replica: where it is, how it may be read, and which it is. */
struct placed {
    size_t place, given;
    enum pln_read how;
};

static int compare_places(const void *left, const void *right) {
    const struct placed *a = left, *b = right;
    if (a->place != b->place) {
        return a->place < b->place ? -1 : 1;
    }
    if (a->how != b->how) {
        return a->how < b->how ? -1 : 1;
    }
    return a->given < b->given ? -1 : a->given > b->given;
}

/* Some keys sorted by server, with what is read of them, in the same order. */
struct split {
    size_t n, n_parts;
    struct placed placed[AT_ONCE];
    struct pln_hashed keys[AT_ONCE];
    struct pln_l2_value values[AT_ONCE];
    int statuses[AT_ONCE];
    struct part parts[]; /* as many as there are keys, at most */
};

static void post_parts(struct pln_redis *redis, struct split *split, pln_ns deadline) {
    split->n_parts = 0;
    for (size_t from = 0, to; from < split->n; from = to) {
        struct placed first = split->placed[from];
        struct pln_node *node = pln_node_at(redis, first.place);
        struct pln_replica *replica = pln_replica_pick(node, first.how);
        for (to = from; to < split->n && split->placed[to].place == first.place &&
                        split->placed[to].how == first.how;
             to++) {
            split->statuses[to] = PLN_MISS;
        }
        if (replica != NULL) {
            split->parts[split->n_parts] = (struct part){
                .node = node,
                .replica = replica,
                .how = first.how,
                .reading = {split->keys + from, split->values + from, split->statuses + from,
                            to - from}};
            post(&split->parts[split->n_parts++], deadline);
        }
    }
    for (size_t i = 0; i < split->n_parts; i++) {
        pln_line_flush(&split->parts[i].replica->pool, split->parts[i].index);
    }
}

/* Asks the replicas for some keys, and leaves in `statuses` PLN_OK where one had a fresh value. */
static void get_some(struct pln_redis *redis, struct split *split, const struct pln_hashed *keys,
                     pln_ns deadline, struct pln_l2_value *values, int *statuses) {
    size_t n_hits = 0, n_asked = 0;
    for (size_t i = 0; i < split->n; i++) {
        split->placed[i].place = pln_node_place(redis, keys[split->placed[i].given].key);
    }
    qsort(split->placed, split->n, sizeof split->placed[0], compare_places);
    for (size_t i = 0; i < split->n; i++) {
        split->keys[i] = keys[split->placed[i].given];
    }
    post_parts(redis, split, deadline);
    for (size_t i = 0; i < split->n_parts; i++) {
        n_asked += split->parts[i].reading.n;
        finish(&split->parts[i], deadline);
    }
    for (size_t i = 0; i < split->n; i++) {
        size_t given = split->placed[i].given;
        if (is_fresh(split->statuses[i], &split->values[i])) {
            values[given] = split->values[i];
            values[given].is_from_replica = true;
            statuses[given] = PLN_OK;
            n_hits++;
        } else if (split->statuses[i] == PLN_OK) {
            pln_l2_value_fini(&split->values[i]);
        }
    }
    count(redis, n_hits, n_asked);
}

/* Asks the primaries for all that has no value yet. */
static int get_rest(struct pln_l2 *l2, const struct pln_hashed *keys, size_t n, pln_ns deadline,
                    struct pln_l2_value *values, int *statuses) {
    struct pln_hashed *rest_keys = calloc(n, sizeof *rest_keys);
    struct pln_l2_value *rest_values = calloc(n, sizeof *rest_values);
    int *rest_statuses = calloc(n, sizeof *rest_statuses);
    size_t n_rest = 0, at = 0;
    int result = rest_keys == NULL || rest_values == NULL || rest_statuses == NULL
                     ? pln_fail(PLN_ENOMEM, "l2: no memory for %zu keys", n)
                     : PLN_OK;
    for (size_t i = 0; result == PLN_OK && i < n; i++) {
        if (statuses[i] != PLN_OK) {
            rest_keys[n_rest++] = keys[i];
        }
    }
    if (result == PLN_OK && n_rest > 0) {
        result = pln_redis_get_many(l2, rest_keys, n_rest, deadline, rest_values, rest_statuses);
    }
    for (size_t i = 0; i < n; i++) {
        if (statuses[i] != PLN_OK) {
            statuses[i] = result == PLN_OK ? rest_statuses[at] : result;
            if (statuses[i] == PLN_OK) {
                values[i] = rest_values[at];
            }
            at++;
        }
    }
    free(rest_keys);
    free(rest_values);
    free(rest_statuses);
    return n_rest < n ? PLN_OK : result;
}

int pln_redis_get_many_near(struct pln_l2 *l2, const struct pln_hashed *keys,
                            const enum pln_read *hows, size_t n, pln_ns deadline,
                            struct pln_l2_value *values, int *statuses) {
    struct pln_redis *redis = pln_redis_of(l2);
    size_t at_once = n < AT_ONCE ? n : AT_ONCE;
    struct split *split = calloc(1, sizeof *split + at_once * sizeof split->parts[0]);
    pln_ns until = half_way(deadline);
    if (split == NULL) {
        return pln_fail(PLN_ENOMEM, "l2: no memory for many keys");
    }
    pln_nodes_await(redis, deadline);
    for (size_t i = 0; i < n; i++) {
        statuses[i] = PLN_MISS;
        if (hows[i] != PLN_READ_PRIMARY && pln_redis_check_key(&keys[i]) == PLN_OK) {
            split->placed[split->n++] = (struct placed){.given = i, .how = hows[i]};
        }
        if (split->n == AT_ONCE || (i == n - 1 && split->n > 0)) {
            get_some(redis, split, keys, until, values, statuses);
            split->n = 0;
        }
    }
    free(split);
    return n == 0 ? PLN_OK : get_rest(l2, keys, n, deadline, values, statuses);
}
