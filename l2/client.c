/* SPDX-License-Identifier: MIT
 *
 * client.c - a client of Redis: its life, its servers, and which of them a key belongs to.
 *
 * The cache above knows one bus, which is up or not. So the links of several servers are reported
 * as one: up when the last of them comes up, down when the first of them goes.
 */
#include "internal.h"

#include <stdio.h>

enum {
    DEFAULT_POOL = 4,
    MOST_POOL = 256,
    MAX_NAMESPACE = 256,
};

/* ---- servers ---- */

struct pln_node *pln_redis_node(struct pln_redis *redis, struct pln_bytes key) {
    (void) key;
    return &redis->nodes[0];
}

static int init_node(struct pln_redis *redis, struct pln_node *node) {
    node->redis = redis;
    node->link.wake_fd = -1;
    pln_floor_init(node);
    node->pool = (struct pln_pool){.endpoint = &redis->url.endpoints[0],
                                   .login = &redis->url.login,
                                   .client_name = redis->client_name,
                                   .host = &redis->host,
                                   .counts = redis->counts,
                                   .connect_timeout = redis->connect_timeout,
                                   .timeout = redis->timeout,
                                   .clock_period = redis->ping,
                                   .on_other_server = pln_link_drop,
                                   .arg = node,
                                   .n_slots = redis->n_slots};
    int result = pln_pool_init(&node->pool);
    return result == PLN_OK ? pln_link_init(node) : result;
}

static void fini_node(struct pln_node *node) {
    pln_link_stop(node);
    pln_pool_fini(&node->pool);
    pln_floor_fini(node);
}

static int make_nodes(struct pln_redis *redis) {
    redis->nodes = calloc(1, sizeof *redis->nodes);
    if (redis->nodes == NULL) {
        return pln_fail(PLN_ENOMEM, "l2: no memory for a server's connections");
    }
    redis->n_nodes = redis->n_down = 1;
    return init_node(redis, &redis->nodes[0]);
}

/* ---- links ---- */

void pln_redis_link_up(struct pln_redis *redis) {
    pthread_mutex_lock(&redis->links_lock);
    assert(redis->n_down > 0);
    if (--redis->n_down == 0 && redis->events.on_up != NULL) {
        redis->events.on_up(redis->events.arg);
    }
    pthread_mutex_unlock(&redis->links_lock);
}

void pln_redis_link_down(struct pln_redis *redis) {
    pthread_mutex_lock(&redis->links_lock);
    if (redis->n_down++ == 0 && redis->events.on_down != NULL) {
        redis->events.on_down(redis->events.arg);
    }
    pthread_mutex_unlock(&redis->links_lock);
}

void pln_redis_health(struct pln_l2 *l2, struct pln_l2_health *health) {
    struct pln_redis *redis = pln_redis_of(l2);
    struct pln_l2_health now = {.bus_ok = true};
    for (size_t i = 0; i < redis->n_nodes; i++) {
        struct pln_node *node = &redis->nodes[i];
        pln_ms beat_age;
        now.bus_ok = pln_link_is_ok(node, &beat_age) && now.bus_ok;
        now.beat_age = beat_age > now.beat_age ? beat_age : now.beat_age;
        now.breaker_open = now.breaker_open || pln_pool_is_open(&node->pool);
        now.connections += (unsigned) pln_pool_connections(&node->pool);
    }
    *health = now;
}

/* ---- life ---- */

int pln_redis_start(struct pln_l2 *l2) {
    struct pln_redis *redis = pln_redis_of(l2);
    int result = PLN_OK;
    for (size_t i = 0; result == PLN_OK && i < redis->n_nodes; i++) {
        result = pln_link_start(&redis->nodes[i]);
    }
    return result;
}

void pln_redis_close(struct pln_l2 *l2) {
    struct pln_redis *redis = pln_redis_of(l2);
    for (size_t i = 0; i < redis->n_nodes; i++) {
        fini_node(&redis->nodes[i]);
    }
    free(redis->nodes);
    pln_url_fini(&redis->url);
    free(redis->names.value);
    free(redis->names.lease);
    free(redis->names.tags);
    free(redis->names.channel);
    free(redis->client_name);
    pthread_mutex_destroy(&redis->links_lock);
    free(redis);
}

static int join(char **to, const char *a, const char *b) {
    if (asprintf(to, "%s%s", a, b) < 0) {
        *to = NULL;
        return pln_fail(PLN_ENOMEM, "l2: no memory for names");
    }
    return PLN_OK;
}

static int make_names(struct pln_redis *redis, const char *ns) {
    if (strlen(ns) > MAX_NAMESPACE) {
        return pln_fail(PLN_EINVAL, "ns: a namespace of %zu bytes, %d at most", strlen(ns),
                        MAX_NAMESPACE);
    }
    if (join(&redis->names.value, ns, ":v:") != PLN_OK ||
        join(&redis->names.lease, ns, ":l:") != PLN_OK ||
        join(&redis->names.tags, ns, ":tags") != PLN_OK ||
        join(&redis->names.channel, ns, ":inv:1") != PLN_OK ||
        join(&redis->client_name, "perilune:", redis->host.name) != PLN_OK) {
        return PLN_ENOMEM;
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

static int check_url(const struct pln_url *url) {
    if (url->topology != PLN_ALONE) {
        return pln_fail(PLN_EINVAL, "redis url: sentinels, clusters and rings are not built yet");
    }
    if (url->is_tls) {
        return pln_fail(PLN_EINVAL, "redis url: TLS (rediss://) is not built in");
    }
    return PLN_OK;
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
    redis->tracking = options->tracking;
    redis->host = *options->host;
    redis->counts = options->counts;
    redis->events = options->events;
    redis->n_slots = options->pool == 0 ? DEFAULT_POOL : options->pool;
    pthread_mutex_init(&redis->links_lock, NULL);
    int result = pln_url_read(options->url, &redis->url);
    if (result == PLN_OK && redis->n_slots > MOST_POOL) {
        result = pln_fail(PLN_EINVAL, "pool: %u connections, %d at most", redis->n_slots,
                          MOST_POOL);
    }
    if (result == PLN_OK) {
        result = pln_url_login(&redis->url, options->username, options->password);
    }
    if (result == PLN_OK) {
        result = check_url(&redis->url);
    }
    if (result == PLN_OK) {
        result = make_names(redis, options->ns);
    }
    if (result == PLN_OK) {
        result = make_nodes(redis);
    }
    if (result != PLN_OK) {
        pln_redis_close(&redis->l2);
        return result;
    }
    *l2 = &redis->l2;
    return PLN_OK;
}
