/* SPDX-License-Identifier: MIT
 *
 * through.c - what has been stored elsewhere comes to Redis.
 *
 * Two such writes of a key may overlap; then the store's order is not known, and the one that comes
 * second must find that out. The script compares when what is there was made with when this store
 * was begun, on the server's clock: with the time since then, as it is when the command is sent. So
 * the begin seems later than it was by what the command took to get there, which is less than the
 * whole round trip; a value that was made within that of it is removed in a second one.
 *
 * Times are milliseconds there, and one caller may well write a key more often. But the clocks of
 * values count up, so what this client knew when the store was begun was there before it.
 */
#include "internal.h"

#include <inttypes.h>
#include <stdio.h>

/* A server that has been replaced may have begun to count anew. */
#define KNOWN_FOR ((pln_ns) 10 * 1000000000)

static struct pln_through_end *end_of(struct pln_redis *redis, const struct pln_hashed *key) {
    return &redis->throughs.ends[key->hash % PLN_N_THROUGHS];
}

static uint64_t known_by(struct pln_redis *redis, const struct pln_hashed *key, pln_ns began) {
    pthread_mutex_lock(&redis->throughs.lock);
    const struct pln_through_end *end = end_of(redis, key);
    bool is_known = end->hash == key->hash && end->at <= began && began - end->at < KNOWN_FOR;
    uint64_t clock = is_known ? end->clock : 0;
    pthread_mutex_unlock(&redis->throughs.lock);
    return clock;
}

static void note_end(struct pln_redis *redis, const struct pln_hashed *key, int64_t clock) {
    pthread_mutex_lock(&redis->throughs.lock);
    *end_of(redis, key) = (struct pln_through_end){
        .hash = key->hash, .clock = (uint64_t) clock, .at = pln_clock_precise()};
    pthread_mutex_unlock(&redis->throughs.lock);
}

/* What the script says. */
struct answer {
    int64_t is_stored, number, clock, margin;
};

static int read_answer(struct pln_node *node, const struct pln_reply *reply,
                       struct answer *answer) {
    const struct pln_reply *at = reply->elements;
    bool is_right = reply->n_elements == 4;
    for (size_t i = 0; i < 4 && is_right; i++) {
        is_right = at[i].kind == PLN_REPLY_INTEGER;
    }
    if (!is_right) {
        return pln_queue_no_answer("through");
    }
    *answer = (struct answer){at[0].integer, at[1].integer, at[2].integer, at[3].integer};
    if (answer->number > 1) {
        pln_feed_ack(&pln_node_of_tags(node)->feed, (uint64_t) answer->number);
    }
    return PLN_OK;
}

static int run(struct pln_redis *redis, const struct pln_hashed *key,
               const struct pln_l2_item *item, pln_ns began, pln_ns deadline,
               struct answer *answer) {
    struct pln_script_call call = {.script = PLN_SCRIPT_THROUGH,
                                   .key = key,
                                   .kind = PLN_MESSAGE_KEY,
                                   .payload = key->key,
                                   .since = began};
    uint8_t memory[PLN_SCRIPT_ITEM_MAX];
    char how[64];
    uint64_t clock = 0;
    struct pln_reply *reply;
    int result = pln_redis_clock_apart(redis, deadline, &clock);
    if (result != PLN_OK) {
        return result;
    }
    if (!redis->names.is_cluster || redis->names.is_tagged) {
        call.names[call.n_names++] = redis->names.last;
    }
    if (redis->names.is_tagged) { /* elsewhere every script has them, or none can */
        call.names[call.n_names++] = redis->names.tags;
    }
    snprintf(how, sizeof how, "%s %" PRIu64 " %" PRIu64,
             key->is_plain  ? "delete"
             : item != NULL ? "set"
                            : "remove",
             known_by(redis, key, began), clock);
    pln_script_add(&call, pln_key(how));
    if (item != NULL) {
        pln_script_add_envelope(&call, item, memory);
    }
    struct pln_node *node = pln_node_of(redis, key->key);
    result = pln_script_run(node, &call, deadline, &reply);
    if (result == PLN_OK) {
        result = read_answer(node, reply, answer);
        pln_reply_free(reply);
    }
    if (result == PLN_OK) {
        note_end(redis, key, answer->clock);
    }
    return result;
}

int pln_redis_through(struct pln_l2 *l2, const struct pln_hashed *key,
                      const struct pln_l2_item *item, pln_ns began, pln_ns deadline) {
    struct pln_redis *redis = pln_redis_of(l2);
    struct answer answer = {0};
    int result = item != NULL ? pln_envelope_check(item) : PLN_OK;
    if (result == PLN_OK) {
        result = pln_redis_check_key(key);
    }
    if (result == PLN_OK) {
        result = pln_nodes_await(redis, deadline);
    }
    pln_ns asked_at = pln_clock_precise();
    if (result == PLN_OK) {
        result = run(redis, key, key->is_plain ? NULL : item, began, deadline, &answer);
    }
    if (result != PLN_OK) {
        return result;
    }
    bool is_mixed = answer.is_stored == 0;
    if (answer.margin >= 0 && answer.margin <= (pln_clock_precise() - asked_at) / 1000 + 1) {
        is_mixed = true;
        result = run(redis, key, NULL, began, deadline, &answer);
    }
    if (result == PLN_OK && item != NULL && (is_mixed || key->is_plain)) {
        return PLN_NOT_STORED;
    }
    return result;
}
