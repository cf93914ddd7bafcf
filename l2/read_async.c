/* SPDX-License-Identifier: MIT
 *
 * read_async.c - a get whose caller does not wait: GET, and where its value has tags, or the link
 * is down, the times of the tags after it, as read.c does it. Both are errands of a courier's
 * (async.c), in whose thread all here runs but the beginning; in a cluster of one courier after the
 * other, as the servers send it on.
 */
#include "async.h"
#include "topology.h"

enum { MOST_HOPS = 5 };

static struct pln_l2_get *get_of(struct pln_errand *errand) {
    return PLN_CONTAINER_OF(errand, struct pln_l2_get, errand);
}

static void finish(struct pln_l2_get *get, int status, struct pln_l2_value value) {
    pln_nodes_distrust(get->node->redis, get->trust, &value, &status, 1);
    get->done(get, status, status == PLN_OK ? &value : NULL);
}

/* An answer that is an error: of all kinds only WRONGTYPE says something of the key. */
static int check(const struct pln_l2_get *get, const char *command, const struct pln_reply *reply) {
    bool is_refusal = reply->kind == PLN_REPLY_ERROR && !pln_reply_is(reply, "WRONGTYPE");
    return is_refusal ? pln_pool_refused(&get->node->pool, command, reply) : PLN_OK;
}

/* In a cluster: whether the server has sent the command on, and it is on its way there. */
static bool is_sent_on(struct pln_l2_get *get, const struct pln_reply *reply) {
    struct pln_redirect redirect;
    struct pln_redis *redis = get->node->redis;
    size_t place;
    if (redis->slots == NULL || reply->kind != PLN_REPLY_ERROR ||
        !pln_moved_read(reply->bytes, &redirect) || ++get->n_hops > MOST_HOPS) {
        return false;
    }
    struct pln_node *node = pln_route_find(get->node, &redirect, &place);
    if (node == NULL) {
        return false; /* and the keeper was asked to look for it */
    }
    pln_route_note(redis, &redirect, node, place);
    get->node = node;
    get->errand.is_asking = redirect.is_ask;
    return pln_async_post(&node->pool, &get->errand) == PLN_OK;
}

static void write_times(struct pln_errand *errand, struct pln_batch *batch) {
    struct pln_l2_get *get = get_of(errand);
    pln_read_ask_times(get->node, &get->value, batch);
}

static void take_times(struct pln_errand *errand, int status, const struct pln_reply *reply) {
    struct pln_l2_get *get = get_of(errand);
    if (status == PLN_OK && is_sent_on(get, reply)) {
        return;
    }
    status = status == PLN_OK ? check(get, "HMGET", reply) : status;
    if (status == PLN_OK) {
        status = pln_read_take_times(get->node, &get->key, reply, &get->value);
    } else {
        pln_l2_value_fini(&get->value);
    }
    finish(get, status, get->value);
}

static void write_get(struct pln_errand *errand, struct pln_batch *batch) {
    const struct pln_l2_get *get = get_of(errand);
    static const char begun[] = "*2\r\n$3\r\nGET\r\n";
    pln_batch_begun(batch, pln_bytes_of(begun, sizeof begun - 1));
    pln_names_write_value(&get->node->redis->names, get->key.key, batch);
}

/* Asks for the times of a value's tags, of the server that has them. */
static void ask_times(struct pln_l2_get *get, const struct pln_l2_value *value) {
    struct pln_node *tags = pln_node_of_tags(get->node);
    bool is_here = tags == get->node;
    get->value = *value;
    get->node = tags;
    get->errand.write = write_times;
    get->errand.end = take_times;
    get->errand.kinds = PLN_KIND(PLN_REPLY_ARRAY);
    get->errand.is_asking = false;
    if (is_here) {
        pln_async_go_on(&tags->pool, &get->errand);
        return;
    }
    int result = pln_async_post(&tags->pool, &get->errand);
    if (result != PLN_OK) {
        pln_l2_value_fini(&get->value);
        finish(get, result, get->value);
    }
}

static void take_value(struct pln_errand *errand, int status, const struct pln_reply *reply) {
    struct pln_l2_get *get = get_of(errand);
    struct pln_l2_value value = {0};
    if (status == PLN_OK && is_sent_on(get, reply)) {
        return;
    }
    status = status == PLN_OK ? check(get, "GET", reply) : status;
    if (status == PLN_OK) {
        status = pln_read_now(get->node, &get->key, reply, pln_async_server_now(&get->node->pool),
                              &value);
    }
    if (status == PLN_PENDING) {
        ask_times(get, &value);
    } else {
        finish(get, status, value);
    }
}

static void write_plain(struct pln_errand *errand, struct pln_batch *batch) {
    const struct pln_l2_get *get = get_of(errand);
    pln_batch_command(batch, 4);
    pln_batch_text(batch, "EVAL");
    pln_batch_text(batch, pln_script_text(PLN_SCRIPT_PLAIN));
    pln_batch_text(batch, "1");
    pln_names_write_value(&get->node->redis->names, get->key.key, batch);
}

static void take_plain(struct pln_errand *errand, int status, const struct pln_reply *reply) {
    struct pln_l2_get *get = get_of(errand);
    struct pln_l2_value value = {0};
    if (status == PLN_OK && is_sent_on(get, reply)) {
        return;
    }
    status = status == PLN_OK ? check(get, "EVAL", reply) : status;
    if (status == PLN_OK) {
        status = pln_read_plain(reply, pln_async_server_now(&get->node->pool), &value);
    }
    get->done(get, status, status == PLN_OK ? &value : NULL);
}

int pln_redis_get_async(struct pln_l2 *l2, struct pln_l2_get *get) {
    struct pln_redis *redis = pln_redis_of(l2);
    int result = pln_redis_check_key(&get->key);
    if (result == PLN_OK) {
        result = pln_nodes_need(redis);
    }
    if (result != PLN_OK) {
        return result;
    }
    get->node = pln_node_of(redis, get->key.key);
    get->trust = pln_nodes_trust(redis);
    get->n_hops = 0;
    get->errand = (struct pln_errand){.write = write_get,
                                      .end = take_value,
                                      .deadline = get->deadline,
                                      .kinds = PLN_KIND(PLN_REPLY_STRING) |
                                               PLN_KIND(PLN_REPLY_NIL)};
    if (get->key.is_plain) {
        get->errand.write = write_plain;
        get->errand.end = take_plain;
        get->errand.kinds = PLN_KIND(PLN_REPLY_ARRAY);
    }
    return pln_async_post(&get->node->pool, &get->errand);
}
