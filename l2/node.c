/* SPDX-License-Identifier: MIT
 *
 * node.c - the servers of a client: which of them a key belongs to, and whether all are heard.
 *
 * The cache above knows one bus, which is up or not. So the links of several servers are reported
 * as one: up when the last of them comes up, down when the first of them goes.
 */
#include "internal.h"
#include "topology.h"

#include <stdio.h>

/* ---- life ---- */

static void free_node(struct pln_node *node) {
    if (node != NULL) {
        pln_link_stop(node);
        pln_pool_fini(&node->pool);
        pln_floor_fini(node);
        free(node);
    }
}

static int new_node(struct pln_redis *redis, const struct pln_endpoint *endpoint,
                    struct pln_node **node) {
    struct pln_node *created = calloc(1, sizeof *created);
    if (created == NULL) {
        return pln_fail(PLN_ENOMEM, "l2: no memory for a server's connections");
    }
    created->redis = redis;
    created->is_wanted = true;
    created->link.wake_fd = -1;
    pln_floor_init(created);
    created->pool = (struct pln_pool){.endpoint = endpoint,
                                      .login = &redis->url.login,
                                      .tls = redis->url.is_tls ? redis->tls : NULL,
                                      .client_name = redis->client_name,
                                      .host = &redis->host,
                                      .counts = redis->counts,
                                      .connect_timeout = redis->connect_timeout,
                                      .timeout = redis->timeout,
                                      .clock_period = redis->ping,
                                      .on_other_server = pln_link_drop,
                                      .arg = created,
                                      .n_slots = redis->n_slots};
    int result = pln_pool_init(&created->pool);
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

/* One thread at a time. */
static int add(struct pln_redis *redis, const struct pln_endpoint *endpoint) {
    size_t n = pln_nodes_count(redis);
    struct pln_node *node = NULL;
    if (n == PLN_MOST_NODES) {
        return pln_fail(PLN_EINVAL, "l2: more than %d servers", PLN_MOST_NODES);
    }
    int result = new_node(redis, endpoint, &node);
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
        result = add(redis, &url->endpoints[i]);
    }
    if (result == PLN_OK) {
        result = pln_ring_new(labels, weights, url->n_endpoints, &redis->ring);
    }
    free(labels);
    free(weights);
    return result;
}

int pln_nodes_init(struct pln_redis *redis) {
    redis->nodes = calloc(PLN_MOST_NODES, sizeof(struct pln_node *));
    if (redis->nodes == NULL) {
        return pln_fail(PLN_ENOMEM, "l2: no memory for a client");
    }
    return redis->url.topology == PLN_RING ? make_ring(redis)
                                           : add(redis, &redis->url.endpoints[0]);
}

void pln_nodes_fini(struct pln_redis *redis) {
    for (size_t i = 0; i < pln_nodes_count(redis); i++) {
        free_node(redis->nodes[i]);
    }
    free(redis->nodes);
    pln_ring_free(redis->ring);
}

/* ---- who has a key ---- */

size_t pln_node_place(struct pln_redis *redis, struct pln_bytes key) {
    return redis->ring != NULL ? pln_ring_find(redis->ring, key) : 0;
}

struct pln_node *pln_node_at(struct pln_redis *redis, size_t place) {
    return redis->nodes[place];
}

/* ---- who is heard ---- */

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
    void (*event)(void *) = is_up ? events->on_up : events->on_down;
    if (event != NULL) {
        event(events->arg);
    }
}

void pln_node_heard(struct pln_node *node, bool is_heard) {
    struct pln_redis *redis = node->redis;
    pthread_mutex_lock(&redis->links_lock);
    node->is_heard = is_heard;
    report_locked(redis);
    pthread_mutex_unlock(&redis->links_lock);
}
