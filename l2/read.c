/* SPDX-License-Identifier: MIT
 *
 * read.c - values out of Redis: plain GET, and whether what it brings is void.
 *
 * A value without tags is void if its tag clock is below the floor, or below the time of a mask
 * that its key fits (drops.h); both of these the link keeps current. With tags, or without a link,
 * the times are asked for after the value was read: so a tag that is dropped in between is seen,
 * and none that was dropped before is missed.
 */
#include "async.h"

enum { N_TIMES = 3 }; /* that are asked for beside those of tags */

/* ---- tags of what was read ---- */

static void drop(struct pln_reading *reading, size_t i, int status) {
    pln_l2_value_fini(&reading->values[i]);
    reading->statuses[i] = status;
}

/* Decides what the floor can decide. Returns how many times of tags have to be asked for, in *
 * n_tags, and whether anything has to be asked. */
static bool needs_times(struct pln_node *node, struct pln_reading *reading, size_t *n_tags) {
    uint64_t floor = pln_floor_now(node);
    bool needs = false;
    *n_tags = 0;
    for (size_t i = 0; i < reading->n; i++) {
        const struct pln_l2_item *item = &reading->values[i].item;
        if (reading->statuses[i] != PLN_OK) {
            continue;
        }
        if (floor != 0 && (item->tag_clock < floor ||
                           pln_drops_know(node, reading->keys[i].key, item->tag_clock))) {
            drop(reading, i, PLN_MISS);
        } else if (floor == 0 || item->n_tags > 0) {
            needs = true;
            *n_tags += item->n_tags;
        }
    }
    return needs;
}

static void write_times(struct pln_node *node, const struct pln_reading *reading, size_t n_tags,
                        struct pln_batch *batch) {
    pln_batch_command(batch, 2 + N_TIMES + n_tags);
    pln_batch_text(batch, "HMGET");
    pln_batch_text(batch, node->redis->names.tags);
    pln_batch_text(batch, "<");
    pln_batch_text(batch, "*");
    pln_batch_text(batch, "~");
    for (size_t i = 0; i < reading->n; i++) {
        for (size_t j = 0; reading->statuses[i] == PLN_OK && j < reading->values[i].item.n_tags;
             j++) {
            pln_batch_joined(batch, pln_key("t:"), reading->values[i].item.tags[j]);
        }
    }
}

/* Drops what is older than its tags. `times`: base, clear, the masks in force, then those of the
 * tags in order. */
static void apply_times(struct pln_reading *reading, const struct pln_reply *times) {
    size_t at = N_TIMES;
    bool is_lost = times[0].kind != PLN_REPLY_STRING;
    for (size_t i = 0; i < reading->n; i++) {
        if (reading->statuses[i] != PLN_OK) {
            continue;
        }
        uint64_t clock = reading->values[i].item.tag_clock;
        bool is_void = is_lost || pln_reply_number(&times[0]) > clock ||
                       pln_reply_number(&times[1]) > clock ||
                       pln_drops_void(times[2].bytes, reading->keys[i].key, clock);
        for (size_t j = 0; j < reading->values[i].item.n_tags; j++) {
            is_void = pln_reply_number(&times[at++]) > clock || is_void;
        }
        if (is_void) {
            drop(reading, i, PLN_MISS);
        }
    }
}

static int take_times(struct pln_node *node, struct pln_reading *reading, size_t n_tags,
                      const struct pln_reply *reply) {
    if (reply->kind != PLN_REPLY_ARRAY || reply->n_elements != N_TIMES + n_tags) {
        return pln_fail(PLN_EL2, "l2: redis at %s: the tags' times are damaged (%s)",
                        pln_pool_label(&node->pool), node->redis->names.tags);
    }
    apply_times(reading, reply->elements);
    return PLN_OK;
}

static int ask_times(struct pln_node **node, struct pln_pool *replica, size_t index,
                     struct pln_batch *batch, pln_ns deadline, struct pln_reply **reply) {
    return replica == NULL ? pln_redis_ask(node, index, batch, "HMGET", PLN_KIND(PLN_REPLY_ARRAY),
                                           deadline, reply)
                           : pln_redis_ask_pool(replica, index, batch, "HMGET",
                                                PLN_KIND(PLN_REPLY_ARRAY), deadline, reply);
}

int pln_read_times_over(struct pln_node *of, struct pln_pool *replica, size_t index,
                        struct pln_reading *reading, pln_ns deadline) {
    struct pln_node *node = pln_node_of_tags(of);
    struct pln_batch batch;
    struct pln_reply *reply = NULL;
    size_t n_tags;
    if (!needs_times(node, reading, &n_tags)) {
        return PLN_OK;
    }
    pln_batch_init(&batch);
    write_times(node, reading, n_tags, &batch);
    int result = ask_times(&node, replica, index, &batch, deadline, &reply);
    if (result == PLN_OK) {
        result = take_times(node, reading, n_tags, reply);
    }
    for (size_t i = 0; result != PLN_OK && i < reading->n; i++) {
        if (reading->statuses[i] == PLN_OK) {
            drop(reading, i, result);
        }
    }
    pln_reply_free(reply);
    pln_batch_fini(&batch);
    return result;
}

int pln_read_times(struct pln_node *node, size_t index, struct pln_reading *reading,
                   pln_ns deadline) {
    return pln_read_times_over(node, NULL, index, reading, deadline);
}

/* ---- get ---- */

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

int pln_read_value(struct pln_redis *redis, struct pln_pool *pool, const struct pln_reply *reply,
                   struct pln_l2_value *value) {
    return read_value(redis, reply, pln_pool_server_now(pool), value);
}

/* *is_refused: it was there, but its server was not looked at. */
static int get_once(struct pln_redis *redis, const struct pln_hashed *key, pln_ns deadline,
                    struct pln_l2_value *value, bool *is_refused) {
    struct pln_batch batch;
    struct pln_reply *reply;
    struct pln_l2_value read = {0};
    uint64_t trust = pln_nodes_trust(redis);
    struct pln_node *node = pln_node_of(redis, key->key);
    size_t index = pln_node_slot(node, key);
    pln_batch_init(&batch);
    pln_batch_command(&batch, 2);
    pln_batch_text(&batch, "GET");
    pln_names_write_value(&redis->names, key->key, &batch);
    int status = pln_redis_ask(&node, index, &batch, "GET",
                               PLN_KIND(PLN_REPLY_STRING) | PLN_KIND(PLN_REPLY_NIL), deadline,
                               &reply);
    pln_batch_fini(&batch);
    *is_refused = false;
    if (status != PLN_OK) {
        return status;
    }
    status = pln_read_value(redis, &node->pool, reply, &read);
    pln_reply_free(reply);
    struct pln_reading reading = {key, &read, &status, 1};
    if (status == PLN_OK) {
        pln_read_times(node, index, &reading, deadline);
    }
    *is_refused = pln_nodes_distrust(redis, trust, &read, &status, 1);
    if (status == PLN_OK) {
        *value = read;
    }
    return status;
}

/* ---- plain values ----
 * Bytes that others may have written, and that say nothing of themselves: how long they live is
 * asked in the same step, and no tag, prefix or clear voids them. */

int pln_read_plain(const struct pln_reply *reply, pln_ms server_now, struct pln_l2_value *value) {
    if (reply->kind != PLN_REPLY_ARRAY || reply->n_elements != 2 ||
        reply->elements[0].kind != PLN_REPLY_STRING ||
        reply->elements[1].kind != PLN_REPLY_INTEGER) {
        return PLN_MISS;
    }
    struct pln_bytes bytes = reply->elements[0].bytes;
    int64_t left = reply->elements[1].integer;
    int status = pln_envelope_read(bytes, server_now, value);
    if (status != PLN_EINVAL) { /* one of ours, from before the key was plain */
        if (status == PLN_OK) {
            pln_l2_value_fini(value);
        }
        return PLN_MISS;
    }
    void *memory = malloc(bytes.len + 1);
    if (memory == NULL) {
        return pln_fail(PLN_ENOMEM, "l2: no memory for a value of %zu bytes", bytes.len);
    }
    if (bytes.len > 0) {
        memcpy(memory, bytes.data, bytes.len);
    }
    left = left < 0 ? PLN_FOREVER : left;
    *value = (struct pln_l2_value){
        .item = {.value = {memory, bytes.len}, .fresh_left = left, .life_left = left},
        .memory = memory};
    return PLN_OK;
}

static int get_plain(struct pln_redis *redis, const struct pln_hashed *key, pln_ns deadline,
                     struct pln_l2_value *value) {
    struct pln_script_call call = {.script = PLN_SCRIPT_PLAIN, .key = key};
    struct pln_node *node = pln_node_of(redis, key->key);
    struct pln_reply *reply;
    int status = pln_script_run(node, &call, deadline, &reply);
    if (status == PLN_OK) {
        status = pln_read_plain(reply, pln_pool_server_now(&node->pool), value);
        pln_reply_free(reply);
    }
    return status;
}

int pln_redis_get(struct pln_l2 *l2, const struct pln_hashed *key, pln_ns deadline,
                  struct pln_l2_value *value) {
    struct pln_redis *redis = pln_redis_of(l2);
    bool is_refused = false;
    int status = pln_redis_check_key(key);
    if (status == PLN_OK) {
        status = pln_nodes_await(redis, deadline);
    }
    if (status == PLN_OK && key->is_plain) {
        status = get_plain(redis, key, deadline, value);
    } else if (status == PLN_OK) {
        do {
            status = get_once(redis, key, deadline, value, &is_refused);
        } while (is_refused && pln_nodes_await_trust(redis, deadline));
    }
    return status;
}

/* ---- for read_async.c ---- */

int pln_read_now(struct pln_node *node, const struct pln_hashed *key, const struct pln_reply *reply,
                 pln_ms server_now, struct pln_l2_value *value) {
    size_t n_tags;
    int status = read_value(node->redis, reply, server_now, value);
    struct pln_reading reading = {key, value, &status, 1};
    bool is_pending = status == PLN_OK && needs_times(pln_node_of_tags(node), &reading, &n_tags);
    return is_pending ? PLN_PENDING : status;
}

void pln_read_ask_times(struct pln_node *node, struct pln_l2_value *value,
                        struct pln_batch *batch) {
    int status = PLN_OK;
    struct pln_reading reading = {NULL, value, &status, 1};
    write_times(node, &reading, value->item.n_tags, batch);
}

int pln_read_take_times(struct pln_node *node, const struct pln_hashed *key,
                        const struct pln_reply *reply, struct pln_l2_value *value) {
    int status = PLN_OK;
    struct pln_reading reading = {key, value, &status, 1};
    int result = take_times(node, &reading, value->item.n_tags, reply);
    if (result != PLN_OK) {
        drop(&reading, 0, result);
    }
    return status;
}
