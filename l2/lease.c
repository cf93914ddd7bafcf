/* SPDX-License-Identifier: MIT
 *
 * lease.c - the right to load a key, and what is stored by it: of one key, or of many in one round
 * trip. Each is a script of its own, over the connection that its key's commands go over; those of
 * many are all on their way before the first is waited for.
 */
#include "lease.h"

enum { MANY_AT_ONCE = 256 }; /* on their way: a line's queue takes four times as many */

/* ---- leases ---- */

/* A lease that is asked for. */
struct asked {
    struct pln_script_call call;
    struct pln_script_running running;
    struct pln_l2_lease taken;
};

static void begin_lease(const struct pln_hashed *key, pln_ms length, struct asked *asked) {
    asked->call = (struct pln_script_call){.script = PLN_SCRIPT_LEASE, .key = key};
    asked->taken = (struct pln_l2_lease){.tag_clock = 0};
    pln_put_big(asked->taken.token, pln_random64(), 8);
    pln_put_big(asked->taken.token + 8, pln_random64(), 8);
    pln_script_add(&asked->call, pln_bytes_of(asked->taken.token, sizeof asked->taken.token));
    pln_script_add_number(&asked->call, length < 1                ? 1
                                        : length > PLN_L2_LONGEST ? PLN_L2_LONGEST
                                                                  : length);
}

static bool is_integer(const struct pln_reply *reply, size_t i) {
    return i < reply->n_elements && reply->elements[i].kind == PLN_REPLY_INTEGER;
}

/* Takes the answer, and frees it. `clock`: the tags', where it is read apart, else 0. */
static int end_lease(const struct pln_node *node, struct asked *asked, uint64_t clock,
                     struct pln_reply *reply, struct pln_l2_lease *lease) {
    if (reply->kind != PLN_REPLY_ARRAY || !is_integer(reply, 0) || !is_integer(reply, 1)) {
        pln_reply_free(reply);
        return pln_fail(PLN_EL2, "l2: redis at %s: lease: an answer of an unexpected kind",
                        pln_pool_label(&node->pool));
    }
    int64_t number = reply->elements[1].integer;
    int result = PLN_OK;
    if (reply->elements[0].integer == 1) {
        asked->taken.tag_clock = clock != 0 ? clock : (uint64_t) number;
        asked->taken.is_empty = is_integer(reply, 2) && reply->elements[2].integer == 0;
    } else {
        result = PLN_PENDING;
        asked->taken.left = number < 0 ? PLN_FOREVER : number; /* not by us, if it has no end */
    }
    pln_reply_free(reply);
    *lease = asked->taken;
    return result;
}

int pln_redis_lease(struct pln_l2 *l2, const struct pln_hashed *key, pln_ms length, pln_ns deadline,
                    struct pln_l2_lease *lease) {
    struct pln_redis *redis = pln_redis_of(l2);
    struct asked asked;
    uint64_t clock = 0;
    struct pln_reply *reply;
    begin_lease(key, length, &asked);
    int result = pln_redis_check_key(key);
    if (result == PLN_OK) {
        result = pln_nodes_await(redis, deadline);
    }
    if (result == PLN_OK) {
        result = pln_redis_clock_apart(redis, deadline, &clock);
    }
    if (result != PLN_OK) {
        return result;
    }
    struct pln_node *node = pln_node_of(redis, key->key);
    result = pln_script_run(node, &asked.call, deadline, &reply);
    return result == PLN_OK ? end_lease(node, &asked, clock, reply, lease) : result;
}

static void lease_some(struct pln_redis *redis, const struct pln_hashed *keys,
                       const pln_ms *lengths, size_t n, uint64_t clock, pln_ns deadline,
                       struct asked *asked, struct pln_l2_lease *leases, int *statuses) {
    for (size_t i = 0; i < n; i++) {
        begin_lease(&keys[i], lengths[i], &asked[i]);
        pln_script_post(pln_node_of(redis, keys[i].key), &asked[i].call, deadline,
                        &asked[i].running);
    }
    for (size_t i = 0; i < n; i++) {
        pln_script_flush(&asked[i].running);
    }
    for (size_t i = 0; i < n; i++) {
        struct pln_reply *reply;
        statuses[i] = pln_script_finish(&asked[i].running, deadline, &reply);
        if (statuses[i] == PLN_OK) {
            statuses[i] = end_lease(asked[i].running.node, &asked[i], clock, reply, &leases[i]);
        }
    }
}

/* Whether many can be asked for; else every status says why not. */
static bool may_begin(struct pln_redis *redis, const struct pln_hashed *keys, size_t n,
                      pln_ns deadline, const void *memory, int *statuses) {
    int result = memory != NULL ? PLN_OK : pln_fail(PLN_ENOMEM, "l2: no memory for %zu keys", n);
    for (size_t i = 0; result == PLN_OK && i < n; i++) {
        result = pln_redis_check_key(&keys[i]);
    }
    if (result == PLN_OK) {
        result = pln_nodes_await(redis, deadline);
    }
    for (size_t i = 0; result != PLN_OK && i < n; i++) {
        statuses[i] = result;
    }
    return result == PLN_OK;
}

void pln_redis_lease_many(struct pln_l2 *l2, const struct pln_hashed *keys, const pln_ms *lengths,
                          size_t n, pln_ns deadline, struct pln_l2_lease *leases, int *statuses) {
    struct pln_redis *redis = pln_redis_of(l2);
    struct asked *asked = calloc(n < MANY_AT_ONCE ? n : MANY_AT_ONCE, sizeof *asked);
    uint64_t clock = 0;
    bool may = may_begin(redis, keys, n, deadline, asked, statuses);
    if (may) {
        int read = pln_redis_clock_apart(redis, deadline, &clock);
        may = read == PLN_OK;
        for (size_t i = 0; !may && i < n; i++) {
            statuses[i] = read;
        }
    }
    for (size_t at = 0; may && at < n; at += MANY_AT_ONCE) {
        lease_some(redis, keys + at, lengths + at, n - at < MANY_AT_ONCE ? n - at : MANY_AT_ONCE,
                   clock, deadline, asked, leases + at, statuses + at);
    }
    free(asked);
}

/* ---- what is stored by them ---- */

static struct pln_script_call commit_call(const struct pln_hashed *key,
                                          const struct pln_l2_lease *lease) {
    struct pln_script_call call = {
        .script = PLN_SCRIPT_COMMIT, .key = key, .kind = PLN_MESSAGE_FILLED, .payload = key->key};
    pln_script_add(&call, pln_bytes_of(lease->token, sizeof lease->token));
    return call;
}

int pln_redis_commit(struct pln_l2 *l2, const struct pln_hashed *key,
                     const struct pln_l2_lease *lease, const struct pln_l2_item *item,
                     pln_ns deadline) {
    struct pln_script_call call = commit_call(key, lease);
    int result = pln_envelope_check(item);
    if (result != PLN_OK) {
        return result;
    }
    pln_script_add_number(&call, (int64_t) lease->tag_clock);
    return pln_redis_run_item(pln_redis_of(l2), &call, item, deadline);
}

struct committed {
    struct pln_script_call call;
    struct pln_script_running running;
    uint8_t *memory; /* of its item; NULL: it is not on its way */
};

static int begin_commit(struct pln_redis *redis, const struct pln_hashed *key,
                        const struct pln_l2_lease *lease, const struct pln_l2_item *item,
                        pln_ns deadline, struct committed *committed) {
    int result = pln_envelope_check(item);
    committed->memory = result == PLN_OK ? malloc(pln_script_item_bytes(item)) : NULL;
    if (committed->memory == NULL) {
        return result == PLN_OK ? pln_fail(PLN_ENOMEM, "l2: no memory for a value's tags") : result;
    }
    committed->call = commit_call(key, lease);
    pln_script_add_number(&committed->call, (int64_t) lease->tag_clock);
    pln_script_add_item(&committed->call, item, committed->memory);
    pln_script_post(pln_node_of(redis, key->key), &committed->call, deadline, &committed->running);
    return PLN_OK;
}

static int end_commit(struct committed *committed, pln_ns deadline) {
    struct pln_reply *reply;
    int result = pln_script_finish(&committed->running, deadline, &reply);
    if (result == PLN_OK) {
        result = reply->kind == PLN_REPLY_INTEGER && reply->integer >= 1 ? PLN_OK : PLN_NOT_STORED;
        pln_reply_free(reply);
    }
    free(committed->memory);
    return result;
}

void pln_redis_commit_many(struct pln_l2 *l2, const struct pln_hashed *keys,
                           const struct pln_l2_lease *leases, const struct pln_l2_item *items,
                           size_t n, pln_ns deadline, int *statuses) {
    struct pln_redis *redis = pln_redis_of(l2);
    struct committed *committed = calloc(n < MANY_AT_ONCE ? n : MANY_AT_ONCE, sizeof *committed);
    bool may = may_begin(redis, keys, n, deadline, committed, statuses);
    for (size_t from = 0; may && from < n; from += MANY_AT_ONCE) {
        size_t to = n - from < MANY_AT_ONCE ? n : from + MANY_AT_ONCE;
        for (size_t i = from; i < to; i++) {
            statuses[i] = begin_commit(redis, &keys[i], &leases[i], &items[i], deadline,
                                       &committed[i - from]);
        }
        for (size_t i = from; i < to; i++) {
            if (statuses[i] == PLN_OK) {
                pln_script_flush(&committed[i - from].running);
            }
        }
        for (size_t i = from; i < to; i++) {
            statuses[i] = statuses[i] == PLN_OK ? end_commit(&committed[i - from], deadline)
                                                : statuses[i];
        }
    }
    free(committed);
}

int pln_redis_release(struct pln_l2 *l2, const struct pln_hashed *key,
                      const struct pln_l2_lease *lease, pln_ns deadline) {
    struct pln_script_call call = {
        .script = PLN_SCRIPT_RELEASE, .key = key, .kind = PLN_MESSAGE_FILLED, .payload = key->key};
    pln_script_add(&call, pln_bytes_of(lease->token, sizeof lease->token));
    return pln_redis_run(pln_redis_of(l2), &call, PLN_MISS, deadline);
}
