/* SPDX-License-Identifier: MIT
 *
 * watch.c - where sentinels say the master is.
 *
 * A look asks one sentinel after the other, the one that answered last first, for the address of
 * the service, and learns of other sentinels; then it goes on listening to that one for news of a
 * switch. News is not believed but looked into: the sentinel is asked again. And what it names is
 * not believed either: a connection whose server says that it is no master is refused (conn.c), and
 * asks for another look.
 *
 * When the address changes, the connections to the former server are used no more and the link goes
 * down, before the first command is sent to the new one.
 */
#include "internal.h"
#include "topology.h"

#include <stdio.h>

static const pln_ns check_period = 10 * 1000000000LL;

/* ---- asking a sentinel ---- */

static const struct pln_endpoint *sentinel_at(const struct pln_redis *redis, size_t i) {
    const struct pln_places *more = &redis->keeper.places;
    return i < redis->url.n_endpoints ? &redis->url.endpoints[i]
                                      : more->endpoints[i - redis->url.n_endpoints];
}

static void learn_replicas(struct pln_redis *redis, const struct pln_reply *reply) {
    struct pln_address replicas[PLN_MOST_REPLICAS];
    size_t n = 0;
    if (pln_sentinel_read_peers(reply, replicas, PLN_ARRAY_LEN(replicas), &n) == PLN_OK) {
        pln_replicas_take(redis->nodes[0], replicas, n);
    }
}

/* Adds those it names to the ones that are asked. */
static void learn(struct pln_redis *redis, const struct pln_reply *reply) {
    struct pln_address peers[16];
    size_t n = 0;
    if (pln_sentinel_read_peers(reply, peers, PLN_ARRAY_LEN(peers), &n) != PLN_OK) {
        return; /* the ones that are known will do */
    }
    for (size_t i = 0; i < n; i++) {
        bool is_known = false;
        for (size_t j = 0; j < redis->keeper.n_sentinels; j++) {
            const struct pln_endpoint *known = sentinel_at(redis, j);
            is_known = is_known ||
                       (known->host != NULL && strcmp(known->host, peers[i].host) == 0 &&
                        known->port == peers[i].port);
        }
        if (!is_known && pln_places_find(&redis->keeper.places, &peers[i]) != NULL) {
            redis->keeper.n_sentinels = redis->url.n_endpoints + redis->keeper.places.n;
        }
    }
}

static int ask(struct pln_redis *redis, const struct pln_endpoint *sentinel,
               struct pln_address *master) {
    struct pln_conn *conn = &redis->keeper.conn;
    struct pln_reply *replies[3] = {NULL};
    bool wants_replicas = pln_scout_is_wanted(&redis->scout);
    struct pln_batch batch;
    pln_ns deadline = pln_clock_precise() + redis->connect_timeout;
    pln_batch_init(&batch);
    pln_sentinel_ask_master(&batch, redis->url.service);
    pln_sentinel_ask_sentinels(&batch, redis->url.service);
    if (wants_replicas) {
        pln_sentinel_ask_replicas(&batch, redis->url.service);
    }
    int result = pln_conn_open(conn, sentinel, redis->url.is_sentinel_tls ? redis->tls : NULL,
                               deadline);
    if (result == PLN_OK) {
        result = pln_conn_greet(conn, &redis->url.sentinel_login, deadline);
    }
    if (result == PLN_OK) {
        result = pln_conn_exchange(conn, &batch, deadline, replies);
    }
    if (result == PLN_OK) {
        result = pln_sentinel_read_master(replies[0], master);
        if (result == PLN_MISS) {
            result = pln_fail(PLN_EL2DOWN, "l2: the sentinel at %s knows no service '%s'",
                              sentinel->label, redis->url.service);
        }
    }
    if (result == PLN_OK) {
        learn(redis, replies[1]);
        if (wants_replicas) {
            learn_replicas(redis, replies[2]);
        }
    }
    pln_replies_free(replies, PLN_ARRAY_LEN(replies));
    pln_batch_fini(&batch);
    return result;
}

static void move_to(struct pln_redis *redis, const struct pln_address *master) {
    struct pln_node *node = redis->nodes[0];
    const struct pln_endpoint *to = pln_places_find(&redis->servers, master);
    if (to == NULL || to == pln_pool_endpoint(&node->pool)) {
        return;
    }
    if (pln_pool_endpoint(&node->pool) != &redis->unknown) {
        pln_logf(&redis->host, PLN_LOG_WARN, "l2: the master of '%s' is now at %s, no longer at %s",
                 redis->url.service, to->label, pln_pool_label(&node->pool));
    }
    redis->keeper.has_changed = true;
    pln_node_move(node, to);
    pln_link_drop(node);
}

/* Listens to the sentinel that has answered; without it there are the looks now and then. */
static void listen_to(struct pln_redis *redis) {
    struct pln_conn *conn = &redis->keeper.conn;
    struct pln_batch batch;
    pln_batch_init(&batch);
    pln_sentinel_subscribe(&batch);
    if (pln_conn_send(conn, &batch, pln_clock_precise() + redis->timeout) != PLN_OK) {
        pln_conn_close(conn);
    }
    pln_batch_fini(&batch);
}

static int look(struct pln_redis *redis) {
    struct pln_keeper *keeper = &redis->keeper;
    int result = PLN_EL2DOWN;
    size_t n = keeper->n_sentinels;
    for (size_t i = 0; i < n && result != PLN_OK; i++) {
        struct pln_address master;
        pln_conn_close(&keeper->conn);
        result = ask(redis, sentinel_at(redis, (keeper->turn + i) % n), &master);
        if (result == PLN_OK) {
            keeper->turn = (keeper->turn + i) % n;
            move_to(redis, &master);
            listen_to(redis);
        }
    }
    if (result != PLN_OK) {
        char reason[PLN_ERROR_TEXT];
        snprintf(reason, sizeof reason, "%s", pln_error_text());
        pln_conn_close(&keeper->conn);
        return pln_fail(PLN_EL2DOWN, "l2: of %zu sentinels none tells where '%s' is; the last: %s",
                        n, redis->url.service, reason);
    }
    return PLN_OK;
}

/* ---- news ---- */

static bool is_switch(const struct pln_redis *redis, const struct pln_reply *reply) {
    struct pln_switch change;
    return reply->kind == PLN_REPLY_ARRAY && reply->n_elements == 3 &&
           reply->elements[2].kind == PLN_REPLY_STRING &&
           pln_sentinel_read_switch(reply->elements[2].bytes, &change) &&
           pln_bytes_equal(change.service, pln_key(redis->url.service));
}

/* Returns whether there is reason to look. */
static bool hear(struct pln_redis *redis) {
    struct pln_conn *conn = &redis->keeper.conn;
    struct pln_reply *reply;
    bool has_switched = false;
    int result = pln_conn_fill(conn, pln_clock_precise());
    while (result == PLN_OK && (result = pln_conn_next(conn, &reply)) == PLN_OK) {
        has_switched = is_switch(redis, reply) || has_switched;
        pln_reply_free(reply);
    }
    if (result < 0) { /* another sentinel may be there to listen to */
        pln_conn_close(conn);
    }
    return has_switched || result < 0;
}

int pln_watch_init(struct pln_redis *redis) {
    redis->keeper.look = look;
    redis->keeper.hear = hear;
    redis->keeper.period = check_period;
    redis->keeper.n_sentinels = redis->url.n_endpoints;
    return PLN_OK;
}
