/* SPDX-License-Identifier: MIT
 *
 * client.c - a client of Redis: how it begins and ends, and how it fares.
 */
#include "internal.h"

#include <stdio.h>

enum {
    DEFAULT_POOL = 4,
    DEFAULT_BULK = 2,
    MOST_POOL = 256,
};

/* ---- how it fares ---- */

static struct pln_node_info look_at(struct pln_node *node, bool *is_link_ok) {
    struct pln_pool *pool = &node->pool;
    struct pln_node_info info = {
        .address = pln_pool_label(pool),
        .is_breaker_open = pln_pool_is_open(pool),
        .connections = (unsigned) (pln_pool_connections(pool) + pln_pool_connections(&node->bulk)),
        /* relaxed: only shown, here and below */
        .timeouts = atomic_load_explicit(&pool->n_timeouts, memory_order_relaxed),
        .errors = atomic_load_explicit(&pool->n_errors, memory_order_relaxed),
    };
    *is_link_ok = pln_link_is_ok(node, &info.beat_age_ms);
    info.is_up = *is_link_ok && !info.is_breaker_open;
    return info;
}

void pln_redis_health(struct pln_l2 *l2, struct pln_l2_health *health) {
    struct pln_redis *redis = pln_redis_of(l2);
    struct pln_l2_health now = {.bus_ok = true};
    for (size_t i = 0; i < pln_nodes_count(redis); i++) {
        bool is_link_ok;
        if (!pln_node_is_wanted(redis->nodes[i])) {
            continue;
        }
        struct pln_node_info info = look_at(redis->nodes[i], &is_link_ok);
        now.bus_ok = is_link_ok && now.bus_ok;
        now.beat_age = info.beat_age_ms > now.beat_age ? info.beat_age_ms : now.beat_age;
        now.breaker_open = now.breaker_open || info.is_breaker_open;
        now.connections += info.connections;
        now.n_nodes++;
        now.n_nodes_up += info.is_up;
        /* relaxed: only shown */
        unsigned peers = atomic_load_explicit(&redis->nodes[i]->n_peers, memory_order_relaxed);
        now.peers = peers > now.peers ? peers : now.peers;
        now.replicas += (unsigned) pln_replicas_count(redis->nodes[i]);
    }
    *health = now;
}

size_t pln_redis_nodes(struct pln_l2 *l2, pln_node_visit visit, void *arg) {
    struct pln_redis *redis = pln_redis_of(l2);
    size_t n = 0;
    for (size_t i = 0; i < pln_nodes_count(redis); i++) {
        bool is_link_ok;
        if (!pln_node_is_wanted(redis->nodes[i])) {
            continue;
        }
        if (visit != NULL) {
            struct pln_node_info info = look_at(redis->nodes[i], &is_link_ok);
            visit(arg, &info);
        }
        n++;
    }
    return n;
}

/* ---- life ---- */

int pln_redis_start(struct pln_l2 *l2) {
    struct pln_redis *redis = pln_redis_of(l2);
    int result = pln_keeper_start(redis);
    return result == PLN_OK ? pln_nodes_start(redis) : result;
}

void pln_redis_close(struct pln_l2 *l2) {
    struct pln_redis *redis = pln_redis_of(l2);
    pln_keeper_stop(redis); /* it adds nodes, and starts links */
    pln_scout_stop(redis);
    pln_pulse_stop(redis);
    pln_sweep_stop(redis);
    pln_nodes_fini(redis);
    pln_keeper_fini(redis);
    pln_scout_fini(redis);
    pln_pulse_fini(redis);
    pln_sweep_fini(redis);
    pln_tls_free(redis->tls);
    pln_url_fini(&redis->url);
    pln_names_fini(&redis->names);
    free(redis->client_name);
    pthread_mutex_destroy(&redis->throughs.lock);
    pthread_mutex_destroy(&redis->links_lock);
    free(redis);
}

static int make_client_name(struct pln_redis *redis) {
    if (asprintf(&redis->client_name, "perilune:%s", redis->host.name) < 0) {
        redis->client_name = NULL;
        return pln_fail(PLN_ENOMEM, "l2: no memory for names");
    }
    for (char *c = redis->client_name; *c != 0; c++) {
        *c = *c > ' ' && *c < 0x7f ? *c : '_'; /* what CLIENT SETNAME takes */
    }
    return PLN_OK;
}

static pln_ns ns_of(pln_ms duration, pln_ms otherwise) {
    pln_ms day = 24 * 3600 * 1000;
    duration = duration <= 0 ? otherwise : duration > day ? day : duration;
    return duration * 1000000;
}

int pln_l2_redis_new(const struct pln_l2_options *options, struct pln_l2 **l2) {
    struct pln_redis *redis = calloc(1, sizeof *redis);
    if (redis == NULL) {
        return pln_fail(PLN_ENOMEM, "l2: no memory for a client");
    }
    redis->l2.ops = &pln_redis_ops;
    redis->instance = pln_random64();
    redis->connect_timeout = ns_of(options->connect_timeout_ms, 1000);
    redis->timeout = ns_of(options->timeout_ms, 250);
    redis->ping = ns_of(options->ping_ms, 1000);
    redis->host = *options->host;
    redis->counts = options->counts;
    redis->events = options->events;
    redis->log_length = options->log_length;
    redis->keeps_lost = options->keeps_lost;
    redis->n_slots = options->pool == 0 ? DEFAULT_POOL : options->pool;
    redis->n_bulk = options->bulk_pool == 0 ? DEFAULT_BULK : options->bulk_pool;
    pthread_mutex_init(&redis->links_lock, NULL);
    pthread_mutex_init(&redis->throughs.lock, NULL);
    pln_scout_init(redis);
    pln_pulse_init(redis);
    pln_sweep_init(redis);
    int result = pln_keeper_init(redis);
    if (result == PLN_OK) {
        result = pln_url_read(options->url, &redis->url);
    }
    /* a cluster's servers tell of keys that change by tracking alone: see script.c */
    atomic_init(&redis->sweeper.wait, redis->url.topology == PLN_CLUSTER ? PLN_SWEEP_WAIT_MS : 0);
    redis->tracking = options->tracking || redis->url.topology == PLN_CLUSTER;
    if (result == PLN_OK && (redis->n_slots > MOST_POOL || redis->n_bulk > MOST_POOL)) {
        bool is_bulk = redis->n_slots <= MOST_POOL;
        result = pln_fail(PLN_EINVAL, "%s: %u connections, %d at most",
                          is_bulk ? "bulk_pool" : "pool", is_bulk ? redis->n_bulk : redis->n_slots,
                          MOST_POOL);
    }
    if (result == PLN_OK) {
        result = pln_url_login(&redis->url, options->username, options->password);
    }
    if (result == PLN_OK) {
        bool has_tls = redis->url.is_tls || redis->url.is_sentinel_tls;
        result = has_tls ? pln_tls_new(&options->tls, &redis->host, &redis->tls)
                         : pln_tls_refuse_unused(&options->tls);
    }
    if (result == PLN_OK) {
        result = pln_names_init(&redis->names, options->ns, redis->url.topology == PLN_CLUSTER,
                                redis->url.login.database);
    }
    if (result == PLN_OK) {
        result = make_client_name(redis);
    }
    if (result == PLN_OK) {
        result = pln_nodes_init(redis);
    }
    if (result != PLN_OK) {
        pln_redis_close(&redis->l2);
        return result;
    }
    *l2 = &redis->l2;
    return PLN_OK;
}
