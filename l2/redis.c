/* SPDX-License-Identifier: MIT
 *
 * redis.c - what changes a value, and any other command. Each change is one script (script.c);
 * reading is in read.c, and a client's life in client.c.
 */
#include "async.h"
#include "lease.h"

#include <stdio.h>

int pln_redis_check_key(const struct pln_hashed *key) {
    if (key->key.len > PLN_MAX_KEY) {
        return pln_fail(PLN_ETOOBIG, "l2: a key of %zu bytes, %d at most", key->key.len,
                        PLN_MAX_KEY);
    }
    return PLN_OK;
}

/* ---- plain commands ---- */

void pln_write_batch(void *arg, const struct pln_slot *slot, struct pln_batch *batch) {
    (void) slot;
    pln_batch_add(batch, arg);
}

int pln_redis_ask(struct pln_node **node, size_t index, struct pln_batch *batch,
                  const char *command, unsigned kinds, pln_ns deadline, struct pln_reply **reply) {
    struct pln_request request = {
        .write = pln_write_batch, .arg = batch, .kinds = kinds, .n_bytes = batch->len};
    struct pln_reply *got;
    int result = pln_route_ask(node, index, &request, deadline, &got);
    if (result == PLN_OK && got->kind == PLN_REPLY_ERROR && !pln_reply_is(got, "WRONGTYPE")) {
        result = pln_pool_refused(&(*node)->pool, command, got);
        pln_reply_free(got);
    }
    if (result == PLN_OK) {
        *reply = got;
    }
    return result;
}

int pln_redis_ask_pool(struct pln_pool *pool, size_t index, struct pln_batch *batch,
                       const char *command, unsigned kinds, pln_ns deadline,
                       struct pln_reply **reply) {
    struct pln_request request = {.write = pln_write_batch, .arg = batch, .kinds = kinds};
    struct pln_reply *got;
    int result = pln_line_ask(pool, index, &request, deadline, &got);
    if (result == PLN_OK && got->kind == PLN_REPLY_ERROR) {
        result = pln_pool_refused(pool, command, got);
        pln_reply_free(got);
    }
    if (result == PLN_OK) {
        *reply = got;
    }
    return result;
}

/* ---- what changes a value ---- */

/* Runs a script that answers with a number. */
static int run_for_number(struct pln_node *node, const struct pln_script_call *call,
                          pln_ns deadline, long long *number) {
    struct pln_reply *reply;
    int result = pln_script_run(node, call, deadline, &reply);
    if (result == PLN_OK) {
        *number = reply->kind == PLN_REPLY_INTEGER ? reply->integer : 0;
        pln_reply_free(reply);
        if (*number > 1 && call->script != PLN_SCRIPT_CLEAR &&
            call->script != PLN_SCRIPT_DROP_MATCH) { /* whose number is the clock */
            pln_feed_ack(&pln_node_of_tags(node)->feed, (uint64_t) *number);
        }
    }
    return result;
}

int pln_redis_run(struct pln_redis *redis, const struct pln_script_call *call, int otherwise,
                  pln_ns deadline) {
    long long number;
    int result = pln_redis_check_key(call->key);
    if (result == PLN_OK) {
        result = pln_nodes_await(redis, deadline);
    }
    if (result == PLN_OK) {
        result = run_for_number(pln_node_of(redis, call->key->key), call, deadline, &number);
    }
    return result != PLN_OK ? result : number >= 1 ? PLN_OK : number < 0 ? PLN_PENDING : otherwise;
}

int pln_redis_run_item(struct pln_redis *redis, struct pln_script_call *call,
                       const struct pln_l2_item *item, pln_ns deadline) {
    uint8_t memory[PLN_SCRIPT_ITEM_MAX];
    pln_script_add_item(call, item, memory);
    return pln_redis_run(redis, call, PLN_NOT_STORED, deadline);
}

int pln_redis_clock_apart(struct pln_redis *redis, pln_ns deadline, uint64_t *clock) {
    return redis->slots == NULL
               ? PLN_OK
               : pln_floor_clock(pln_node_of_tags(redis->nodes[0]), deadline, clock);
}

static int redis_set(struct pln_l2 *l2, const struct pln_hashed *key,
                     const struct pln_l2_item *item, uint32_t flags, pln_ns deadline) {
    const char *mode = (flags & PLN_SET_NX) != 0 ? "nx" : (flags & PLN_SET_XX) != 0 ? "xx" : "";
    struct pln_script_call call = {
        .script = PLN_SCRIPT_SET, .key = key, .kind = PLN_MESSAGE_KEY, .payload = key->key};
    struct pln_redis *redis = pln_redis_of(l2);
    uint64_t clock = item->tag_clock;
    int result = pln_envelope_check(item);
    if (result == PLN_OK) {
        result = pln_nodes_await(redis, deadline);
    }
    if (result == PLN_OK && clock == 0) {
        result = pln_redis_clock_apart(redis, deadline, &clock);
    }
    if (result != PLN_OK) {
        return result;
    }
    pln_script_add(&call, pln_key(mode));
    pln_script_add_number(&call, (int64_t) clock);
    return pln_redis_run_item(redis, &call, item, deadline);
}

static int redis_remove(struct pln_l2 *l2, const struct pln_hashed *key, pln_ns deadline) {
    struct pln_script_call call = {
        .script = PLN_SCRIPT_REMOVE, .key = key, .kind = PLN_MESSAGE_KEY, .payload = key->key};
    return pln_redis_run(pln_redis_of(l2), &call, PLN_OK, deadline);
}

static int redis_expire(struct pln_l2 *l2, const struct pln_hashed *key, pln_ns deadline) {
    struct pln_script_call call = {
        .script = PLN_SCRIPT_EXPIRE, .key = key, .kind = PLN_MESSAGE_EXPIRE, .payload = key->key};
    return pln_redis_run(pln_redis_of(l2), &call, PLN_MISS, deadline);
}

static uint64_t redis_heard(struct pln_l2 *l2, const struct pln_hashed *key) {
    struct pln_redis *redis = pln_redis_of(l2);
    bool has_numbers = redis->slots == NULL && !redis->tracking && pln_nodes_count(redis) > 0;
    return has_numbers ? pln_feed_heard(&pln_node_of(redis, key->key)->feed) : 0;
}

static int redis_redo(struct pln_l2 *l2, const struct pln_hashed *key,
                      const struct pln_l2_redo *redo, pln_ns deadline) {
    struct pln_redis *redis = pln_redis_of(l2);
    struct pln_script_call call = {.script = PLN_SCRIPT_RECOVER,
                                   .key = key,
                                   .kind = redo->kind == PLN_REDO_EXPIRE ? PLN_MESSAGE_EXPIRE
                                                                         : PLN_MESSAGE_KEY,
                                   .payload = key->key,
                                   .has_moment = true,
                                   .moment = pln_clock_precise() / 1000000 - redo->age};
    if (redo->kind != PLN_REDO_SET) {
        pln_script_add(&call, pln_key(redo->kind == PLN_REDO_EXPIRE ? "expire" : "remove"));
        return pln_redis_run(redis, &call, PLN_NOT_STORED, deadline);
    }
    char what[32];
    snprintf(what, sizeof what, redo->heard != 0 ? "set %llu" : "set",
             (unsigned long long) redo->heard);
    int result = pln_envelope_check(redo->item);
    pln_script_add(&call, pln_key(what));
    return result == PLN_OK ? pln_redis_run_item(redis, &call, redo->item, deadline) : result;
}

static int redis_touch(struct pln_l2 *l2, const struct pln_hashed *key, pln_ms fresh, pln_ms life,
                       pln_ms least, pln_ns deadline) {
    uint8_t payload[PLN_MESSAGE_MAX];
    int result = pln_redis_check_key(key);
    if (result != PLN_OK) {
        return result;
    }
    struct pln_script_call call = {.script = PLN_SCRIPT_TOUCH,
                                   .key = key,
                                   .kind = PLN_MESSAGE_EXTEND,
                                   .payload = pln_message_extend(key->key, fresh, life, payload)};
    pln_script_add_duration(&call, fresh);
    pln_script_add_duration(&call, life < 1 ? 1 : life);
    pln_script_add_number(&call, least);
    return pln_redis_run(pln_redis_of(l2), &call, PLN_MISS, deadline);
}

/* ---- all of a tag, all of everything ---- */

int pln_redis_run_everywhere(struct pln_redis *redis, const struct pln_script_call *call,
                             int (*take)(struct pln_node *node, uint64_t number, const void *arg,
                                         pln_ns deadline),
                             const void *arg, pln_ns deadline) {
    int result = pln_nodes_await(redis, deadline);
    char text[PLN_ERROR_TEXT] = "";
    if (result != PLN_OK) {
        return result;
    }
    for (size_t i = 0; i < (redis->slots != NULL ? 1 : pln_nodes_count(redis)); i++) {
        struct pln_node *node = pln_node_of_tags(redis->nodes[i]);
        long long number = 0;
        int ran = run_for_number(node, call, deadline, &number);
        if (ran == PLN_OK && take != NULL) {
            ran = take(node, (uint64_t) number, arg, deadline);
        }
        if (ran != PLN_OK && result == PLN_OK) {
            result = ran;
            snprintf(text, sizeof text, "%s", pln_error_text());
        }
    }
    return result == PLN_OK ? PLN_OK : pln_fail(result, "%s", text);
}

static int redis_drop_tag(struct pln_l2 *l2, struct pln_bytes tag, pln_ns deadline) {
    struct pln_script_call call = {
        .script = PLN_SCRIPT_DROP_TAG, .kind = PLN_MESSAGE_TAG, .payload = tag};
    char field[2 + PLN_MAX_TAG] = "t:";
    if (tag.len > PLN_MAX_TAG) {
        return pln_fail(PLN_EINVAL, "l2: a tag of %zu bytes, %d at most", tag.len, PLN_MAX_TAG);
    }
    if (tag.len > 0) {
        memcpy(field + 2, tag.data, tag.len);
    }
    pln_script_add(&call, pln_bytes_of(field, 2 + tag.len));
    return pln_redis_run_everywhere(pln_redis_of(l2), &call, NULL, NULL, deadline);
}

static const struct pln_script_call clear_call = {
    .script = PLN_SCRIPT_CLEAR, .kind = PLN_MESSAGE_CLEAR}; /* the script appends the clock */

static int take_clear(struct pln_node *node, uint64_t clock, const void *arg, pln_ns deadline) {
    (void) arg;
    (void) deadline;
    pln_floor_raise(node, clock, true);
    return PLN_OK;
}

int pln_redis_clear_node(struct pln_node *node, pln_ns deadline) {
    long long clock;
    int result = run_for_number(node, &clear_call, deadline, &clock);
    return result == PLN_OK ? take_clear(node, (uint64_t) clock, NULL, deadline) : result;
}

static int redis_clear(struct pln_l2 *l2, pln_ns deadline) {
    return pln_redis_run_everywhere(pln_redis_of(l2), &clear_call, take_clear, NULL, deadline);
}

/* ---- the rest ---- */

static int redis_command(struct pln_l2 *l2, const struct pln_bytes *key,
                         const struct pln_bytes *args, size_t n_args, pln_ns deadline,
                         struct pln_reply **reply) {
    struct pln_redis *redis = pln_redis_of(l2);
    struct pln_batch batch;
    char name[32];
    struct pln_reply *got;
    assert(n_args > 0);
    int result = pln_nodes_await(redis, deadline);
    if (result != PLN_OK) {
        return result;
    }
    pln_batch_init(&batch);
    pln_batch_command(&batch, n_args);
    for (size_t i = 0; i < n_args; i++) {
        pln_batch_bytes(&batch, args[i]);
    }
    snprintf(name, sizeof name, "%.*s", args[0].len > 24 ? 24 : (int) args[0].len,
             (const char *) args[0].data);
    struct pln_node *node = pln_node_of_name(redis, key == NULL ? pln_key("") : *key);
    size_t index = key == NULL ? 0 : pln_hash(*key, 0) % node->bulk.n_slots;
    struct pln_request request = {.write = pln_write_batch, .arg = &batch, .is_bulk = true};
    result = pln_route_ask(&node, index, &request, deadline, &got);
    pln_batch_fini(&batch);
    if (result == PLN_OK && got->kind == PLN_REPLY_ERROR) {
        result = pln_pool_refused(&node->bulk, name, got);
        pln_reply_free(got);
    } else if (result == PLN_OK && (result = pln_shape(args[0], got)) != PLN_OK) {
        pln_reply_free(got);
    }
    if (result == PLN_OK) {
        *reply = got;
    }
    return result;
}

struct ping {
    const struct pln_redis *redis;
    uint8_t payload[8];
};

static void write_ping(void *arg, const struct pln_slot *slot, struct pln_batch *batch) {
    const struct ping *ping = arg;
    uint8_t bytes[PLN_MESSAGE_MAX];
    /* relaxed: written by whoever leads the connection, and that is this thread */
    uint32_t incarnation = atomic_load_explicit(&slot->incarnation, memory_order_relaxed);
    struct pln_message message = {.kind = PLN_MESSAGE_PING,
                                  .origin = {ping->redis->instance, incarnation},
                                  .payload = pln_bytes_of(ping->payload, sizeof ping->payload)};
    pln_batch_command(batch, 3);
    pln_batch_text(batch, "PUBLISH");
    pln_batch_text(batch, ping->redis->names.channel);
    pln_batch_bytes(batch, pln_bytes_of(bytes, pln_message_write(&message, bytes)));
}

int pln_redis_ping(struct pln_node *node, uint64_t number, pln_ns deadline) {
    struct ping ping = {.redis = node->redis};
    struct pln_request request = {
        .write = write_ping, .arg = &ping, .kinds = PLN_KIND(PLN_REPLY_INTEGER), .is_link = true};
    struct pln_reply *reply;
    pln_put_big(ping.payload, number, sizeof ping.payload);
    int result = pln_line_ask(&node->pool, 0, &request, deadline, &reply);
    if (result == PLN_OK) {
        result = reply->kind == PLN_REPLY_INTEGER ? PLN_OK
                                                  : pln_pool_refused(&node->pool, "PUBLISH", reply);
        pln_reply_free(reply);
    }
    return result;
}

const struct pln_l2_ops pln_redis_ops = {
    .close = pln_redis_close,
    .start = pln_redis_start,
    .get = pln_redis_get,
    .get_many = pln_redis_get_many,
    .get_async = pln_redis_get_async,
    .get_near = pln_redis_get_near,
    .get_many_near = pln_redis_get_many_near,
    .set = redis_set,
    .remove = redis_remove,
    .remove_many = pln_redis_remove_many,
    .expire = redis_expire,
    .touch = redis_touch,
    .swap = pln_redis_swap,
    .heard = redis_heard,
    .redo = redis_redo,
    .write = pln_redis_write,
    .through = pln_redis_through,
    .queue = &pln_redis_queue_ops,
    .lease = pln_redis_lease,
    .lease_many = pln_redis_lease_many,
    .commit = pln_redis_commit,
    .commit_many = pln_redis_commit_many,
    .release = pln_redis_release,
    .drop_tag = redis_drop_tag,
    .drop_match = pln_redis_drop_match,
    .clear = redis_clear,
    .command = redis_command,
    .talk = pln_redis_talk,
    .health = pln_redis_health,
    .nodes = pln_redis_nodes,
};
