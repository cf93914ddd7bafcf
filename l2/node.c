/* SPDX-License-Identifier: MIT
 *
 * node.c - the servers of a client: which of them a key belongs to, and whether all are heard.
 *
 * The cache above knows one bus, which is up or not. So the links of several servers are reported
 * as one: up when the last of those that are wanted comes up, down when the first of them goes.
 *
 * Nodes are only ever added, and go with the client.
 *
 * Each has two pools. Values, leases and tags go over the first, where nothing is ever sent that
 * takes long; whatever a program asks for beside them (data structures, scripts, locks, any
 * command) goes over the second, which is made when it is first used. So a script that runs for a
 * second, or an answer of a hundred megabytes, keeps no read of a value waiting for its connection.
 * (It may keep the server itself busy: that no client can help.) Each pool has a breaker of its
 * own, of the same make; the second is more patient with a connection that is silent, since
 * somebody else's long command may be the reason.
 */
#include "async.h"
#include "topology.h"

#include <stdio.h>

/* A connection that says nothing for so long is given up, though others wait on it. Shorter, and
 * one caller's deadline would end another's command that is allowed to take longer. */
static const pln_ns bulk_silence = 10 * 1000000000LL;

/* ---- addresses ---- */

const struct pln_endpoint *pln_places_find(struct pln_places *places,
                                           const struct pln_address *address) {
    struct pln_endpoint *made;
    for (size_t i = 0; i < places->n; i++) {
        if (places->endpoints[i]->port == address->port &&
            strcmp(places->endpoints[i]->host, address->host) == 0) {
            return places->endpoints[i];
        }
    }
    if (places->endpoints == NULL) {
        places->endpoints = calloc(PLN_MOST_NODES, sizeof(struct pln_endpoint *));
    }
    if (places->n == PLN_MOST_NODES) {
        pln_fail(PLN_EL2DOWN, "l2: more than %d addresses of servers", PLN_MOST_NODES);
        return NULL;
    }
    made = calloc(1, sizeof *made);
    if (places->endpoints == NULL || made == NULL) {
        free(made);
        pln_fail(PLN_ENOMEM, "l2: no memory for an address");
        return NULL;
    }
    made->host = strdup(address->host);
    made->port = address->port;
    made->weight = 1;
    const char *format = strchr(address->host, ':') != NULL ? "[%s]:%d" : "%s:%d";
    if (made->host == NULL || asprintf(&made->label, format, made->host, made->port) < 0) {
        free(made->host);
        free(made);
        pln_fail(PLN_ENOMEM, "l2: no memory for an address");
        return NULL;
    }
    places->endpoints[places->n++] = made;
    return made;
}

void pln_places_fini(struct pln_places *places) {
    for (size_t i = 0; i < places->n; i++) {
        free(places->endpoints[i]->host);
        free(places->endpoints[i]->label);
        free(places->endpoints[i]);
    }
    free(places->endpoints);
    *places = (struct pln_places){0};
}

/* ---- life ---- */

static void free_node(struct pln_node *node) {
    if (node != NULL) {
        pln_link_stop(node);
        pln_pool_fini(&node->pool);
        pln_pool_fini(&node->bulk);
        pln_replicas_fini(node);
        pln_floor_fini(node);
        free(node);
    }
}

/* The pool's server may have moved, or its slots. */
static void on_trouble(void *arg) {
    struct pln_node *node = arg;
    pln_keeper_ask(node->redis);
}

struct pln_pool pln_node_constants(struct pln_node *node, const struct pln_endpoint *endpoint) {
    struct pln_redis *redis = node->redis;
    return (struct pln_pool){.endpoint = endpoint,
                             .login = &redis->url.login,
                             .tls = redis->url.is_tls ? redis->tls : NULL,
                             .takes_replicas = redis->slots != NULL,
                             .client_name = redis->client_name,
                             .host = &redis->host,
                             .counts = redis->counts,
                             .connect_timeout = redis->connect_timeout,
                             .clock_period = redis->ping,
                             .on_other_server = pln_link_drop,
                             .on_doubt = pln_link_hurry,
                             .on_trouble = on_trouble,
                             .arg = node};
}

static int make_pools(struct pln_node *node, const struct pln_endpoint *endpoint) {
    struct pln_redis *redis = node->redis;
    node->pool = pln_node_constants(node, endpoint);
    node->pool.n_slots = redis->n_slots;
    node->pool.timeout = redis->timeout;
    int result = pln_pool_init(&node->pool);
    if (result == PLN_OK) {
        node->bulk = pln_node_constants(node, endpoint);
        node->bulk.n_slots = redis->n_bulk;
        node->bulk.timeout = redis->timeout > bulk_silence ? redis->timeout : bulk_silence;
        result = pln_pool_init(&node->bulk);
    }
    return result;
}

static int new_node(struct pln_redis *redis, const struct pln_endpoint *endpoint, bool is_wanted,
                    struct pln_node **node) {
    struct pln_node *created = calloc(1, sizeof *created);
    if (created == NULL) {
        return pln_fail(PLN_ENOMEM, "l2: no memory for a server's connections");
    }
    created->redis = redis;
    created->is_wanted = is_wanted;
    atomic_init(&created->link.is_idle, !is_wanted);
    created->link.wake_fd = -1;
    pln_floor_init(created);
    pln_feed_init(&created->feed);
    int result = make_pools(created, endpoint);
    if (result == PLN_OK) {
        result = pln_link_init(created);
    }
    if (result != PLN_OK) {
        free_node(created);
        return result;
    }
    *node = created;
    return PLN_OK;
}

void pln_node_move(struct pln_node *node, const struct pln_endpoint *endpoint) {
    pln_pool_move(&node->pool, endpoint);
    pln_pool_move(&node->bulk, endpoint);
}

void pln_node_require(struct pln_node *node, const char *run_id) {
    pln_pool_require(&node->pool, run_id);
    pln_pool_require(&node->bulk, run_id); /* hashes read over it are kept in L1, too: R11 */
}

void pln_node_checked(struct pln_node *node, const char *run_id) {
    pln_pool_checked(&node->pool, run_id);
    pln_pool_checked(&node->bulk, run_id);
}

uint64_t pln_nodes_trust(struct pln_redis *redis) {
    uint64_t sum = 0;
    for (size_t i = 0; i < pln_nodes_count(redis); i++) {
        uint64_t trust = pln_pool_trust(&redis->nodes[i]->pool);
        if (trust == 0) {
            return 0;
        }
        sum += trust;
    }
    return sum;
}

bool pln_nodes_await_trust(struct pln_redis *redis, pln_ns deadline) {
    bool is_trusted = true;
    for (size_t i = 0; is_trusted && i < pln_nodes_count(redis); i++) {
        is_trusted = pln_pool_await_trust(&redis->nodes[i]->pool, deadline);
    }
    return is_trusted && pln_clock_precise() < deadline;
}

bool pln_nodes_distrust(struct pln_redis *redis, uint64_t before, struct pln_l2_value *values,
                        int *statuses, size_t n) {
    bool is_refused = false;
    if (before != 0 && pln_nodes_trust(redis) == before) {
        return false;
    }
    for (size_t i = 0; i < n; i++) {
        if (statuses[i] == PLN_OK) {
            is_refused = true;
            pln_l2_value_fini(&values[i]);
            statuses[i] = pln_fail(PLN_EL2DOWN,
                                   "l2: %s: another server, which may lack what was "
                                   "acknowledged, and was not looked at yet",
                                   redis->url.label);
        }
    }
    return is_refused;
}

int pln_node_add(struct pln_redis *redis, const struct pln_endpoint *endpoint, bool is_wanted) {
    size_t n = pln_nodes_count(redis);
    struct pln_node *node = NULL;
    if (n == PLN_MOST_NODES) {
        return pln_fail(PLN_EINVAL, "l2: more than %d servers", PLN_MOST_NODES);
    }
    int result = new_node(redis, endpoint, is_wanted, &node);
    if (result == PLN_OK) {
        redis->nodes[n] = node;
        /* N1 release: the node before it is counted; pairs with pln_nodes_count() */
        atomic_store_explicit(&redis->n_nodes, n + 1, memory_order_release);
    }
    return result;
}

static int make_ring(struct pln_redis *redis) {
    const struct pln_url *url = &redis->url;
    const char **labels = calloc(url->n_endpoints, sizeof *labels);
    unsigned *weights = calloc(url->n_endpoints, sizeof *weights);
    int result = labels == NULL || weights == NULL
                     ? pln_fail(PLN_ENOMEM, "l2: no memory for a ring")
                     : PLN_OK;
    for (size_t i = 0; result == PLN_OK && i < url->n_endpoints; i++) {
        labels[i] = url->endpoints[i].label;
        weights[i] = url->endpoints[i].weight;
        result = pln_node_add(redis, &url->endpoints[i], true);
    }
    if (result == PLN_OK) {
        result = pln_ring_new(labels, weights, url->n_endpoints, &redis->ring);
    }
    free(labels);
    free(weights);
    return result;
}

/* Until sentinels have told where the master is, it is nowhere, under the service's name. */
static int make_watched(struct pln_redis *redis) {
    redis->unknown = (struct pln_endpoint){.host = (char *) "", .label = redis->url.service};
    int result = pln_watch_init(redis);
    return result == PLN_OK ? pln_node_add(redis, &redis->unknown, true) : result;
}

/* The first server of the URL is a node, so that there is one to ask; it may be none that has
 * slots, or be known to the others by another name. */
static int make_cluster(struct pln_redis *redis) {
    int result = pln_cluster_init(redis);
    return result == PLN_OK ? pln_node_add(redis, &redis->url.endpoints[0], false) : result;
}

int pln_nodes_init(struct pln_redis *redis) {
    redis->nodes = calloc(PLN_MOST_NODES, sizeof(struct pln_node *));
    if (redis->nodes == NULL) {
        return pln_fail(PLN_ENOMEM, "l2: no memory for a client");
    }
    switch (redis->url.topology) {
    case PLN_RING:
        return make_ring(redis);
    case PLN_SENTINEL:
        return make_watched(redis);
    case PLN_CLUSTER:
        return make_cluster(redis);
    default:
        return pln_node_add(redis, &redis->url.endpoints[0], true);
    }
}

void pln_nodes_fini(struct pln_redis *redis) {
    size_t n = pln_nodes_count(redis);
    /* all threads before any node: they look at the others too. Couriers before links, on whose
     * agreement they may be waiting */
    for (size_t i = 0; i < n; i++) {
        pln_async_stop(&redis->nodes[i]->pool);
    }
    for (size_t i = 0; i < n; i++) {
        pln_link_stop(redis->nodes[i]);
    }
    for (size_t i = 0; i < n; i++) {
        free_node(redis->nodes[i]);
    }
    free(redis->nodes);
    pln_ring_free(redis->ring);
    pln_cluster_fini(redis);
    pln_places_fini(&redis->servers);
}

int pln_nodes_start(struct pln_redis *redis) {
    int result = PLN_OK;
    pthread_mutex_lock(&redis->links_lock);
    redis->is_started = true;
    for (size_t i = 0; result == PLN_OK && i < pln_nodes_count(redis); i++) {
        if (redis->nodes[i]->is_wanted) {
            result = pln_link_start(redis->nodes[i]);
        }
    }
    pthread_mutex_unlock(&redis->links_lock);
    return result;
}

/* ---- who has a key ---- */

size_t pln_node_place(struct pln_redis *redis, struct pln_bytes key) {
    if (redis->slots != NULL) {
        return pln_names_slot(&redis->names, key);
    }
    return redis->ring != NULL ? pln_ring_find(redis->ring, key) : 0;
}

struct pln_node *pln_node_at(struct pln_redis *redis, size_t place) {
    if (redis->slots == NULL) {
        return redis->nodes[place];
    }
    /* where nobody is known to have the slot, any server says who has */
    unsigned node = pln_slot_map_find(redis->slots, (unsigned) place);
    return redis->nodes[node == PLN_NO_NODE ? 0 : node];
}

struct pln_node *pln_node_of_name(struct pln_redis *redis, struct pln_bytes name) {
    return redis->slots != NULL ? pln_node_at(redis, pln_slot_of(name)) : pln_node_of(redis, name);
}

int pln_nodes_await(struct pln_redis *redis, pln_ns deadline) {
    if (pln_keeper_has_looked(redis)) {
        return PLN_OK;
    }
    int result = pln_keeper_start(redis);
    return result == PLN_OK ? pln_keeper_wait(redis, deadline) : result;
}

int pln_nodes_need(struct pln_redis *redis) {
    if (pln_keeper_has_looked(redis)) {
        return PLN_OK;
    }
    int result = pln_keeper_start(redis);
    return result == PLN_OK
               ? pln_fail(PLN_EL2DOWN, "l2: %s: where the servers are is not known yet",
                          redis->url.label)
               : result;
}

struct pln_node *pln_node_of_tags(struct pln_node *node) {
    struct pln_redis *redis = node->redis;
    return redis->slots == NULL ? node : pln_node_at(redis, redis->names.tags_slot);
}

/* ---- who is heard ---- */

static void report_certain_locked(struct pln_redis *redis) {
    pln_ms certain_at = INT64_MAX;
    for (size_t i = 0; i < pln_nodes_count(redis); i++) {
        const struct pln_node *node = redis->nodes[i];
        if (node->is_wanted && node->certain_at < certain_at) {
            certain_at = node->certain_at;
        }
    }
    if (certain_at != redis->certain_at && redis->events.on_certain != NULL) {
        redis->events.on_certain(redis->events.arg, certain_at);
    }
    redis->certain_at = certain_at;
}

static void report_locked(struct pln_redis *redis) {
    const struct pln_l2_events *events = &redis->events;
    bool is_up = true;
    for (size_t i = 0; i < pln_nodes_count(redis); i++) {
        is_up = is_up && (redis->nodes[i]->is_heard || !redis->nodes[i]->is_wanted);
    }
    if (is_up == redis->is_bus_up) {
        return;
    }
    redis->is_bus_up = is_up;
    if (!is_up && events->on_down != NULL) {
        events->on_down(events->arg);
    } else if (is_up) {
        pln_count(redis->counts, PLN_COUNT_BUS_REPAIRS, !redis->has_gap);
        if (events->on_up != NULL) {
            events->on_up(events->arg, !redis->has_gap);
        }
        report_certain_locked(redis); /* not before what cannot be vouched for is gone */
        redis->has_gap = false;
        redis->was_up = true;
    }
}

static bool has_key(const void *arg, struct pln_bytes key) {
    const struct pln_node *node = arg;
    return pln_node_of(node->redis, key) == node;
}

/* Nobody knows what one server has said. In a ring it speaks of its own keys alone, which stay
 * where they are, and of tags and everything, which the others tell as well. */
static void report_gap_locked(struct pln_node *node) {
    struct pln_redis *redis = node->redis;
    const struct pln_l2_events *events = &redis->events;
    if (redis->ring != NULL && redis->was_up && events->on_part != NULL) {
        events->on_part(events->arg, has_key, node);
    } else {
        redis->has_gap = true;
    }
}

void pln_node_heard(struct pln_node *node, enum pln_hearing hearing) {
    struct pln_redis *redis = node->redis;
    pthread_mutex_lock(&redis->links_lock);
    node->is_heard = hearing != PLN_UNHEARD;
    if (hearing == PLN_HEARD_ANEW) {
        report_gap_locked(node);
    }
    if (node->is_heard) {
        node->certain_at = node->feed.certain_at;
    }
    report_locked(redis);
    pthread_mutex_unlock(&redis->links_lock);
}

void pln_node_certain(struct pln_node *node, pln_ms at) {
    struct pln_redis *redis = node->redis;
    pthread_mutex_lock(&redis->links_lock);
    node->certain_at = at;
    if (redis->is_bus_up) {
        report_certain_locked(redis);
    }
    pthread_mutex_unlock(&redis->links_lock);
}

void pln_node_want(struct pln_node *node, bool is_wanted) {
    struct pln_redis *redis = node->redis;
    pthread_mutex_lock(&redis->links_lock);
    if (node->is_wanted != is_wanted) {
        node->is_wanted = is_wanted;
        redis->has_gap = true; /* keys move with it */
        report_locked(redis);
        pln_link_set_idle(node, !is_wanted);
        if (is_wanted && redis->is_started && pln_link_start(node) != PLN_OK) {
            pln_logf(&redis->host, PLN_LOG_ERROR, "%s", pln_error_text());
        }
    }
    pthread_mutex_unlock(&redis->links_lock);
}

bool pln_node_is_wanted(struct pln_node *node) {
    pthread_mutex_lock(&node->redis->links_lock);
    bool is_wanted = node->is_wanted;
    pthread_mutex_unlock(&node->redis->links_lock);
    return is_wanted;
}
