/* SPDX-License-Identifier: MIT
 *
 * cluster.c - which servers a cluster has, and which slots each: looked up as a whole, and mended
 * slot by slot where a server says MOVED.
 *
 * A look asks one server that is known, those in charge first, then those of the URL. A server
 * becomes a node with its address and stays one, so that what a reader took from the map is never
 * freed under it. Only those in charge of slots are wanted: their links are listened to, and the
 * bus is up when all of them are. A server is wanted before the map leads to it, so that no value
 * of it is kept in L1 as long as nobody listens to it.
 */
#include "internal.h"
#include "topology.h"

#include <stdio.h>

static const pln_ns check_period = 30 * 1000000000LL;

/* ---- asking ---- */

/* Asks one server for the slots. */
static int ask(struct pln_redis *redis, const struct pln_endpoint *endpoint,
               struct pln_shards *shards) {
    struct pln_conn conn;
    struct pln_reply *reply = NULL;
    struct pln_batch batch;
    pln_ns deadline = pln_clock_precise() + redis->connect_timeout;
    int result = pln_conn_open(&conn, endpoint, redis->url.is_tls ? redis->tls : NULL, deadline);
    if (result != PLN_OK) {
        return result;
    }
    pln_batch_init(&batch);
    pln_batch_texts(&batch, "CLUSTER", "SLOTS", NULL);
    result = pln_conn_greet(&conn, &redis->url.login, deadline);
    if (result == PLN_OK) {
        result = pln_conn_exchange(&conn, &batch, deadline, &reply);
    }
    if (result == PLN_OK) {
        result = pln_shards_read(reply, shards);
    }
    if (result == PLN_OK && shards->n_ranges == 0) {
        pln_shards_fini(shards);
        result = pln_fail(PLN_EL2DOWN, "l2: redis at %s: the cluster has no slots",
                          endpoint->label);
    }
    pln_reply_free(reply);
    pln_batch_fini(&batch);
    pln_conn_close(&conn);
    return result;
}

/* The i-th server to be asked, NULL past the last. */
static const struct pln_endpoint *candidate(struct pln_redis *redis, size_t i) {
    size_t n = pln_nodes_count(redis);
    if (i < n) {
        return pln_pool_endpoint(&redis->nodes[i]->pool);
    }
    return i - n < redis->url.n_endpoints ? &redis->url.endpoints[i - n] : NULL;
}

/* ---- taking the answer ---- */

struct pln_node *pln_cluster_node(struct pln_redis *redis, const struct pln_address *address,
                                  size_t *place) {
    size_t n = pln_nodes_count(redis);
    for (size_t i = 0; i < n; i++) {
        const struct pln_endpoint *endpoint = pln_pool_endpoint(&redis->nodes[i]->pool);
        if (endpoint->port == address->port && strcmp(endpoint->host, address->host) == 0) {
            *place = i;
            return redis->nodes[i];
        }
    }
    return NULL;
}

/* The place of a server, which becomes a node where it is none. */
static int place_of(struct pln_redis *redis, const struct pln_address *address, uint16_t *place) {
    size_t found;
    if (pln_cluster_node(redis, address, &found) == NULL) {
        const struct pln_endpoint *endpoint = pln_places_find(&redis->servers, address);
        if (endpoint == NULL) {
            return PLN_ENOMEM;
        }
        found = pln_nodes_count(redis);
        int result = pln_node_add(redis, endpoint, false);
        if (result != PLN_OK) {
            return result;
        }
    }
    *place = (uint16_t) found;
    return PLN_OK;
}

/* Servers without an address of their own are where the one is that was asked. */
static void fill_in_host(struct pln_shards *shards, const struct pln_endpoint *asked) {
    for (size_t i = 0; i < shards->n_nodes; i++) {
        if (shards->nodes[i].host[0] == 0) {
            snprintf(shards->nodes[i].host, sizeof shards->nodes[i].host, "%s", asked->host);
        }
    }
}

static int take(struct pln_redis *redis, const struct pln_shards *shards) {
    uint16_t *places = malloc((shards->n_nodes + 1) * sizeof *places);
    bool *is_wanted = calloc(PLN_MOST_NODES, sizeof *is_wanted);
    int result = places == NULL || is_wanted == NULL
                     ? pln_fail(PLN_ENOMEM, "l2: no memory for the servers of a cluster")
                     : PLN_OK;
    for (size_t i = 0; result == PLN_OK && i < shards->n_nodes; i++) {
        result = place_of(redis, &shards->nodes[i], &places[i]);
    }
    for (size_t i = 0; result == PLN_OK && i < shards->n_ranges; i++) {
        const struct pln_slot_range *range = &shards->ranges[i];
        if (range->nodes[0] != PLN_NO_NODE) {
            unsigned place = places[range->nodes[0]];
            is_wanted[place] = true;
            redis->keeper.has_changed = redis->keeper.has_changed ||
                                        pln_slot_map_find(redis->slots, range->first) != place ||
                                        pln_slot_map_find(redis->slots, range->last) != place;
        }
    }
    for (size_t i = 0; result == PLN_OK && i < pln_nodes_count(redis); i++) {
        if (is_wanted[i]) {
            pln_node_want(redis->nodes[i], true);
        }
    }
    if (result == PLN_OK) {
        pln_shards_apply(shards, places, redis->slots);
    }
    for (size_t i = 0; result == PLN_OK && i < pln_nodes_count(redis); i++) {
        if (!is_wanted[i]) {
            pln_node_want(redis->nodes[i], false);
        }
    }
    if (result == PLN_OK && pln_scout_is_wanted(&redis->scout)) {
        pln_replicas_take_shards(redis, shards, places);
    }
    free(places);
    free(is_wanted);
    return result;
}

static int look(struct pln_redis *redis) {
    const struct pln_endpoint *endpoint;
    struct pln_shards shards;
    int result = PLN_EL2DOWN;
    for (int unwanted = 0; unwanted <= 1 && result != PLN_OK; unwanted++) {
        for (size_t i = 0; result != PLN_OK && (endpoint = candidate(redis, i)) != NULL; i++) {
            bool is_wanted = i < pln_nodes_count(redis) && pln_node_is_wanted(redis->nodes[i]);
            if (is_wanted == (unwanted == 1)) {
                continue;
            }
            result = ask(redis, endpoint, &shards);
            if (result == PLN_OK) {
                fill_in_host(&shards, endpoint);
                result = take(redis, &shards);
                pln_shards_fini(&shards);
            }
        }
    }
    if (result != PLN_OK) {
        char reason[PLN_ERROR_TEXT];
        snprintf(reason, sizeof reason, "%s", pln_error_text());
        return pln_fail(PLN_EL2DOWN, "l2: no server of the cluster tells the slots; the last: %s",
                        reason);
    }
    return PLN_OK;
}

static bool hear(struct pln_redis *redis) {
    (void) redis;
    return false; /* there is no line of news */
}

int pln_cluster_init(struct pln_redis *redis) {
    redis->slots = malloc(sizeof *redis->slots);
    if (redis->slots == NULL) {
        return pln_fail(PLN_ENOMEM, "l2: no memory for the slots of a cluster");
    }
    pln_slot_map_init(redis->slots);
    redis->keeper.look = look;
    redis->keeper.hear = hear;
    redis->keeper.period = check_period;
    return PLN_OK;
}

void pln_cluster_fini(struct pln_redis *redis) {
    free(redis->slots);
}
