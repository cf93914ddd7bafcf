/* SPDX-License-Identifier: MIT
 *
 * read.c - values out of Redis: plain GET and MGET, and whether what they bring is void.
 *
 * A value without tags is void if its tag clock is below the floor, which the link keeps current.
 * With tags, or without a link, the times are asked for after the value was read: so a tag that is
 * dropped in between is seen, and none that was dropped before is missed.
 */
#include "async.h"

enum {
    MANY_AT_ONCE = 8192, /* keys of one MGET: bounds the buffers, and how long a server is busy */
};

static size_t slot_of(struct pln_redis *redis, const struct pln_hashed *key) {
    return (size_t) (key->hash % redis->pool.n_slots);
}

static uint64_t number_in(const struct pln_reply *reply) {
    return reply->kind == PLN_REPLY_STRING ? strtoull(pln_reply_text(reply), NULL, 10) : 0;
}

/* ---- tags of what was read ---- */

/* Values of one call, with their statuses. */
struct reading {
    struct pln_l2_value *values;
    int *statuses;
    size_t n;
};

static void drop(struct reading *reading, size_t i, int status) {
    pln_l2_value_fini(&reading->values[i]);
    reading->statuses[i] = status;
}

/* Decides what the floor can decide. Returns how many times of tags have to be asked for, in *
 * n_tags, and whether anything has to be asked. */
static bool needs_times(struct pln_redis *redis, struct reading *reading, size_t *n_tags) {
    uint64_t floor = pln_floor_now(redis);
    bool needs = false;
    *n_tags = 0;
    for (size_t i = 0; i < reading->n; i++) {
        const struct pln_l2_item *item = &reading->values[i].item;
        if (reading->statuses[i] != PLN_OK) {
            continue;
        }
        if (floor != 0 && item->tag_clock < floor) {
            drop(reading, i, PLN_MISS);
        } else if (floor == 0 || item->n_tags > 0) {
            needs = true;
            *n_tags += item->n_tags;
        }
    }
    return needs;
}

static void write_times(struct pln_redis *redis, const struct reading *reading, size_t n_tags,
                        struct pln_batch *batch) {
    pln_batch_command(batch, 4 + n_tags);
    pln_batch_text(batch, "HMGET");
    pln_batch_text(batch, redis->names.tags);
    pln_batch_text(batch, "<");
    pln_batch_text(batch, "*");
    for (size_t i = 0; i < reading->n; i++) {
        for (size_t j = 0; reading->statuses[i] == PLN_OK && j < reading->values[i].item.n_tags;
             j++) {
            pln_batch_joined(batch, pln_key("t:"), reading->values[i].item.tags[j]);
        }
    }
}

/* Drops what is older than its tags. `times`: base, clear, then those of the tags in order. */
static void apply_times(struct reading *reading, const struct pln_reply *times) {
    size_t at = 2;
    bool is_lost = times[0].kind != PLN_REPLY_STRING;
    for (size_t i = 0; i < reading->n; i++) {
        if (reading->statuses[i] != PLN_OK) {
            continue;
        }
        uint64_t clock = reading->values[i].item.tag_clock;
        bool is_void = is_lost || number_in(&times[0]) > clock || number_in(&times[1]) > clock;
        for (size_t j = 0; j < reading->values[i].item.n_tags; j++) {
            is_void = number_in(&times[at++]) > clock || is_void;
        }
        if (is_void) {
            drop(reading, i, PLN_MISS);
        }
    }
}

static int take_times(struct pln_redis *redis, struct reading *reading, size_t n_tags,
                      const struct pln_reply *reply) {
    if (reply->kind != PLN_REPLY_ARRAY || reply->n_elements != 2 + n_tags) {
        return pln_fail(PLN_EL2, "l2: redis at %s: the tags' times are damaged (%s)",
                        redis->url.label, redis->names.tags);
    }
    apply_times(reading, reply->elements);
    return PLN_OK;
}

/* Turns what is void into misses. Where that cannot be found out, nothing is served. */
static int check_times(struct pln_redis *redis, size_t index, struct reading *reading,
                       pln_ns deadline) {
    struct pln_batch batch;
    struct pln_reply *reply = NULL;
    size_t n_tags;
    if (!needs_times(redis, reading, &n_tags)) {
        return PLN_OK;
    }
    pln_batch_init(&batch);
    write_times(redis, reading, n_tags, &batch);
    int result = pln_redis_ask(redis, index, &batch, "HMGET", deadline, &reply);
    if (result == PLN_OK) {
        result = take_times(redis, reading, n_tags, reply);
    }
    for (size_t i = 0; result != PLN_OK && i < reading->n; i++) {
        if (reading->statuses[i] == PLN_OK) {
            drop(reading, i, result);
        }
    }
    pln_replies_free(&reply, 1);
    pln_batch_fini(&batch);
    return result;
}

/* ---- get ---- */

/* A value from its reply; what cannot be one is counted, and a miss. */
static int read_value(struct pln_redis *redis, const struct pln_reply *reply, pln_ms server_now,
                      struct pln_l2_value *value) {
    int result = PLN_EINVAL;
    if (reply->kind == PLN_REPLY_NIL) {
        return PLN_MISS;
    }
    if (reply->kind == PLN_REPLY_STRING) {
        result = pln_envelope_read(reply->bytes, server_now, value);
    }
    if (result == PLN_EINVAL) {
        pln_count(redis->counts, PLN_COUNT_L2_BAD_VALUES, 1);
        return PLN_MISS;
    }
    return result;
}

int pln_redis_get(struct pln_l2 *l2, const struct pln_hashed *key, pln_ns deadline,
                  struct pln_l2_value *value) {
    struct pln_redis *redis = pln_redis_of(l2);
    struct pln_batch batch;
    struct pln_reply *reply;
    struct pln_l2_value read = {0};
    int status = pln_redis_check_key(key);
    if (status != PLN_OK) {
        return status;
    }
    pln_batch_init(&batch);
    pln_batch_command(&batch, 2);
    pln_batch_text(&batch, "GET");
    pln_batch_joined(&batch, pln_key(redis->names.value), key->key);
    status = pln_redis_ask(redis, slot_of(redis, key), &batch, "GET", deadline, &reply);
    pln_batch_fini(&batch);
    if (status != PLN_OK) {
        return status;
    }
    status = read_value(redis, reply, pln_pool_server_now(&redis->pool), &read);
    pln_reply_free(reply);
    struct reading reading = {&read, &status, 1};
    if (status == PLN_OK) {
        check_times(redis, slot_of(redis, key), &reading, deadline);
    }
    if (status == PLN_OK) {
        *value = read;
    }
    return status;
}

/* ---- get_many ----
 * One MGET over the connection of the first key, not one over the connection of each: measured,
 * four parts over four connections take 1.8 times as long. Nothing is lost by it. Order among the
 * commands for a key matters for writes; a read that passes a write under way on another
 * connection finds the old value, as any read before that write does, and the write's own end, or
 * its message, forgets what was kept of it. */

static void write_many(struct pln_redis *redis, const struct pln_hashed *keys, size_t n,
                       struct pln_batch *batch) {
    pln_batch_command(batch, 1 + n);
    pln_batch_text(batch, "MGET");
    for (size_t i = 0; i < n; i++) {
        pln_batch_joined(batch, pln_key(redis->names.value), keys[i].key);
    }
}

/* Reads what goes into one command. On failure no value is left. */
static int get_some(struct pln_redis *redis, const struct pln_hashed *keys, pln_ns deadline,
                    struct reading *reading) {
    struct pln_batch batch;
    struct pln_reply *reply = NULL;
    size_t index = slot_of(redis, keys);
    pln_batch_init(&batch);
    write_many(redis, keys, reading->n, &batch);
    int result = pln_redis_ask(redis, index, &batch, "MGET", deadline, &reply);
    pln_batch_fini(&batch);
    if (result == PLN_OK && (reply->kind != PLN_REPLY_ARRAY || reply->n_elements != reading->n)) {
        result = pln_fail(PLN_EL2, "l2: redis at %s: MGET: an answer of an unexpected kind",
                          redis->url.label);
    }
    for (size_t i = 0; i < reading->n; i++) {
        reading->statuses[i] = result == PLN_OK ? read_value(redis, &reply->elements[i],
                                                             pln_pool_server_now(&redis->pool),
                                                             &reading->values[i])
                                                : result;
    }
    pln_replies_free(&reply, 1);
    return result == PLN_OK ? check_times(redis, index, reading, deadline) : result;
}

int pln_redis_get_many(struct pln_l2 *l2, const struct pln_hashed *keys, size_t n, pln_ns deadline,
                       struct pln_l2_value *values, int *statuses) {
    struct pln_redis *redis = pln_redis_of(l2);
    int failure = PLN_OK;
    bool has_answer = n == 0;
    for (size_t i = 0; i < n; i++) {
        int result = pln_redis_check_key(&keys[i]);
        if (result != PLN_OK) {
            return result;
        }
    }
    for (size_t at = 0; at < n; at += MANY_AT_ONCE) {
        size_t now = n - at < MANY_AT_ONCE ? n - at : MANY_AT_ONCE;
        struct reading reading = {values + at, statuses + at, now};
        int result = get_some(redis, keys + at, deadline, &reading);
        if (result == PLN_OK) {
            has_answer = true;
        } else {
            failure = result;
        }
    }
    return has_answer ? PLN_OK : failure;
}

/* ---- for read_async.c ---- */

int pln_read_value(struct pln_redis *redis, const struct pln_reply *reply, pln_ms server_now,
                   struct pln_l2_value *value) {
    size_t n_tags;
    int status = read_value(redis, reply, server_now, value);
    struct reading reading = {value, &status, 1};
    bool is_pending = status == PLN_OK && needs_times(redis, &reading, &n_tags);
    return is_pending ? PLN_PENDING : status;
}

void pln_read_ask_times(struct pln_redis *redis, struct pln_l2_value *value,
                        struct pln_batch *batch) {
    int status = PLN_OK;
    struct reading reading = {value, &status, 1};
    write_times(redis, &reading, value->item.n_tags, batch);
}

int pln_read_take_times(struct pln_redis *redis, const struct pln_reply *reply,
                        struct pln_l2_value *value) {
    int status = PLN_OK;
    struct reading reading = {value, &status, 1};
    int result = take_times(redis, &reading, value->item.n_tags, reply);
    if (result != PLN_OK) {
        drop(&reading, 0, result);
    }
    return status;
}
