/* SPDX-License-Identifier: MIT
 *
 * read_async.c - a get whose caller does not wait: GET, and where its value has tags, or the link
 * is down, the times of the tags after it, as read.c does it. Both are errands of the courier's
 * (async.c), in whose thread all here runs but the beginning.
 */
#include "async.h"

static struct pln_l2_get *get_of(struct pln_errand *errand) {
    return PLN_CONTAINER_OF(errand, struct pln_l2_get, errand);
}

static struct pln_redis *redis_of(const struct pln_l2_get *get) {
    return pln_redis_of(get->l2);
}

static void finish(struct pln_l2_get *get, int status, struct pln_l2_value value) {
    get->done(get, status, status == PLN_OK ? &value : NULL);
}

/* An answer that is an error: of all kinds only WRONGTYPE says something of the key. */
static int check(const struct pln_l2_get *get, const char *command, const struct pln_reply *reply) {
    bool is_refusal = reply->kind == PLN_REPLY_ERROR && !pln_reply_is(reply, "WRONGTYPE");
    return is_refusal ? pln_pool_refused(&redis_of(get)->pool, command, reply) : PLN_OK;
}

static void write_times(struct pln_errand *errand, struct pln_batch *batch) {
    struct pln_l2_get *get = get_of(errand);
    pln_read_ask_times(redis_of(get), &get->value, batch);
}

static void take_times(struct pln_errand *errand, int status, const struct pln_reply *reply) {
    struct pln_l2_get *get = get_of(errand);
    status = status == PLN_OK ? check(get, "HMGET", reply) : status;
    if (status == PLN_OK) {
        status = pln_read_take_times(redis_of(get), reply, &get->value);
    } else {
        pln_l2_value_fini(&get->value);
    }
    finish(get, status, get->value);
}

static void write_get(struct pln_errand *errand, struct pln_batch *batch) {
    const struct pln_l2_get *get = get_of(errand);
    static const char begun[] = "*2\r\n$3\r\nGET\r\n";
    pln_batch_begun(batch, pln_bytes_of(begun, sizeof begun - 1));
    pln_batch_joined(batch, pln_key(redis_of(get)->names.value), get->key.key);
}

static void take_value(struct pln_errand *errand, int status, const struct pln_reply *reply) {
    struct pln_l2_get *get = get_of(errand);
    struct pln_redis *redis = redis_of(get);
    struct pln_l2_value value;
    status = status == PLN_OK ? check(get, "GET", reply) : status;
    if (status == PLN_OK) {
        status = pln_read_value(redis, reply, pln_async_server_now(&redis->pool), &value);
    }
    if (status == PLN_PENDING) {
        get->value = value;
        errand->write = write_times;
        errand->end = take_times;
        pln_async_go_on(&redis->pool, errand);
        return;
    }
    finish(get, status, status == PLN_OK ? value : (struct pln_l2_value){0});
}

int pln_redis_get_async(struct pln_l2 *l2, struct pln_l2_get *get) {
    int result = pln_redis_check_key(&get->key);
    if (result != PLN_OK) {
        return result;
    }
    get->l2 = l2;
    get->errand = (struct pln_errand){
        .write = write_get, .end = take_value, .deadline = get->deadline};
    return pln_async_post(&pln_redis_of(l2)->pool, &get->errand);
}
