/* SPDX-License-Identifier: MIT
 *
 * replica.c - which replicas a node has, which of them are well, and which one a read goes to.
 *
 * Who they are is learnt where it is known: from the sentinels, from the cluster's list, or, where
 * there is neither, from the primary's own answer to ROLE. What is named there is not believed: an
 * address that a primary sees may lead somewhere else from here (a replica on the primary's own
 * machine is at 127.0.0.1). A replica is well when it says that it is in touch with its primary,
 * and that the data it has is of the same history as the node's (the replication id of INFO).
 *
 * One thread, the scout, asks all that, every ten seconds, and sooner where one is not well. A
 * reader whose question fails takes the replica for ill and goes on with the primary. So a replica
 * that falls silent costs those who are just asking it a part of their deadline, once; it is the
 * scout that tries it again, and nobody else waits for it.
 */
#include "internal.h"
#include "thread.h"
#include "topology.h"

#include <errno.h>
#include <stdio.h>

static const pln_ns period = 10 * 1000000000LL;

static pln_ns trip_of(_Atomic int64_t *trip) {
    return atomic_load_explicit(trip, memory_order_relaxed); /* relaxed: a number by itself */
}

static size_t count(struct pln_node *node) {
    /* R1 acquire: a replica before it is counted; pairs with add() */
    return atomic_load_explicit(&node->replicas.n, memory_order_acquire);
}

/* Has the scout look now. */
static void wake(struct pln_scout *scout) {
    pthread_mutex_lock(&scout->lock);
    pln_flag_set(&scout->has_news, true);
    pthread_cond_signal(&scout->asked);
    pthread_mutex_unlock(&scout->lock);
}

/* ---- which there are ---- */

/* A replica has no link to take down. */
static void ignore(void *arg) {
    (void) arg;
}

static int add(struct pln_node *node, const struct pln_endpoint *endpoint,
               struct pln_replica **added) {
    struct pln_redis *redis = node->redis;
    struct pln_replicas *replicas = &node->replicas;
    size_t n = count(node);
    struct pln_replica *replica = n < PLN_MOST_REPLICAS ? calloc(1, sizeof *replica) : NULL;
    if (replica == NULL) {
        return pln_fail(PLN_ENOMEM, "l2: redis at %s: no room for more than %zu replicas",
                        pln_pool_label(&node->pool), n);
    }
    replica->pool = pln_node_constants(node, endpoint);
    replica->pool.on_other_server = ignore;
    replica->pool.on_doubt = ignore;
    replica->pool.on_trouble = NULL;
    replica->pool.is_replica = true;
    replica->pool.is_readonly = redis->slots != NULL;
    replica->pool.n_slots = redis->n_slots;
    replica->pool.timeout = redis->timeout;
    int result = pln_pool_init(&replica->pool);
    if (result != PLN_OK) {
        free(replica);
        return result;
    }
    replicas->list[n] = replica;
    /* R1 release: the replica before it is counted; pairs with count() */
    atomic_store_explicit(&replicas->n, n + 1, memory_order_release);
    *added = replica;
    return PLN_OK;
}

static struct pln_replica *find(struct pln_node *node, const struct pln_endpoint *endpoint) {
    for (size_t i = 0; i < count(node); i++) {
        if (pln_pool_endpoint(&node->replicas.list[i]->pool) == endpoint) {
            return node->replicas.list[i];
        }
    }
    return NULL;
}

void pln_replicas_take(struct pln_node *node, const struct pln_address *addresses, size_t n) {
    bool is_named[PLN_MOST_REPLICAS] = {false};
    for (size_t i = 0; i < n; i++) {
        const struct pln_endpoint *endpoint = pln_places_find(&node->redis->servers, &addresses[i]);
        struct pln_replica *replica = endpoint == NULL ? NULL : find(node, endpoint);
        if (endpoint != NULL && replica == NULL && add(node, endpoint, &replica) != PLN_OK) {
            pln_logf(&node->redis->host, PLN_LOG_WARN, "%s", pln_error_text());
        }
        for (size_t j = 0; replica != NULL && j < count(node); j++) {
            is_named[j] = is_named[j] || node->replicas.list[j] == replica;
        }
    }
    bool has_new = false;
    for (size_t j = 0; j < count(node); j++) {
        struct pln_replica *replica = node->replicas.list[j];
        has_new = has_new || (is_named[j] && !pln_flag_is_set(&replica->is_listed));
        pln_flag_set(&replica->is_listed, is_named[j]);
    }
    if (has_new) {
        wake(&node->redis->scout);
    }
}

void pln_replicas_take_shards(struct pln_redis *redis, const struct pln_shards *shards,
                              const uint16_t *places) {
    bool *is_done = calloc(PLN_MOST_NODES, sizeof *is_done);
    for (size_t i = 0; is_done != NULL && i < shards->n_ranges; i++) {
        const struct pln_slot_range *range = &shards->ranges[i];
        struct pln_address replicas[PLN_MOST_RANGE_NODES];
        if (range->nodes[0] == PLN_NO_NODE || is_done[places[range->nodes[0]]]) {
            continue; /* every range of a primary has the same replicas */
        }
        is_done[places[range->nodes[0]]] = true;
        for (size_t j = 1; j < range->n_nodes; j++) {
            replicas[j - 1] = shards->nodes[range->nodes[j]];
        }
        pln_replicas_take(redis->nodes[places[range->nodes[0]]], replicas,
                          (size_t) (range->n_nodes - 1));
    }
    free(is_done);
}

void pln_replicas_fini(struct pln_node *node) {
    for (size_t i = 0; i < count(node); i++) {
        pln_pool_fini(&node->replicas.list[i]->pool);
        free(node->replicas.list[i]);
    }
}

/* ---- asking them ---- */

/* One command of at most two words. */
static int ask(struct pln_pool *pool, const char *word, const char *second, unsigned kinds,
               pln_ns timeout, struct pln_reply **reply) {
    struct pln_batch batch;
    pln_batch_init(&batch);
    pln_batch_texts(&batch, word, second, NULL);
    int result = pln_redis_ask_pool(pool, 0, &batch, word, kinds, pln_clock_precise() + timeout,
                                    reply);
    pln_batch_fini(&batch);
    return result;
}

/* The value of "name:value" in an INFO; "" where there is none. */
static void take_field(const char *info, const char *name, char *value, size_t size) {
    char line[64];
    snprintf(line, sizeof line, "\n%s:", name);
    const char *at = strstr(info, line);
    snprintf(value, size, "%s", at == NULL ? "" : at + strlen(line));
    value[strcspn(value, "\r\n")] = 0;
}

/* What a server says of replication. */
struct standing {
    char role[16], link[16], replid[PLN_REPLID + 1];
};

static int ask_standing(struct pln_pool *pool, pln_ns timeout, struct standing *standing) {
    struct pln_reply *reply;
    int result = ask(pool, "INFO", "replication", PLN_KIND(PLN_REPLY_STRING), timeout, &reply);
    if (result == PLN_OK) {
        const char *info = pln_reply_text(reply);
        take_field(info, "role", standing->role, sizeof standing->role);
        take_field(info, "master_link_status", standing->link, sizeof standing->link);
        take_field(info, "master_replid", standing->replid, sizeof standing->replid);
        pln_reply_free(reply);
    }
    return result;
}

/* Times a PING, over a connection that is there already. */
static void measure(struct pln_pool *pool, pln_ns timeout, _Atomic int64_t *trip) {
    struct pln_reply *reply;
    pln_ns began = pln_clock_precise(), before = trip_of(trip);
    if (ask(pool, "PING", NULL, 0, timeout, &reply) == PLN_OK) {
        pln_ns took = pln_clock_precise() - began;
        pln_reply_free(reply);
        /* relaxed: a number by itself, with one writer */
        atomic_store_explicit(trip, before == 0 ? took : before + (took - before) / 4,
                              memory_order_relaxed);
    }
}

/* Returns PLN_OK where the replica may be read from; else why it may not. */
static int check(struct pln_node *node, struct pln_replica *replica) {
    struct pln_redis *redis = node->redis;
    const struct pln_replicas *replicas = &node->replicas;
    struct standing standing;
    int result = ask_standing(&replica->pool, redis->connect_timeout, &standing);
    if (result != PLN_OK) {
        return result;
    }
    const char *label = pln_pool_label(&replica->pool);
    if (strcmp(standing.role, "slave") != 0 || strcmp(standing.link, "up") != 0) {
        return pln_fail(PLN_EL2DOWN, "l2: redis at %s is no replica that hears its primary", label);
    }
    if (replicas->replid[0] == 0 || strcmp(standing.replid, replicas->replid) != 0) {
        return pln_fail(PLN_EL2DOWN, "l2: redis at %s has other data than its primary at %s", label,
                        pln_pool_label(&node->pool));
    }
    measure(&replica->pool, redis->timeout, &replica->trip);
    return PLN_OK;
}

static void log_change(struct pln_node *node, struct pln_replica *replica, int result) {
    const struct pln_host *host = &node->redis->host;
    if (result == PLN_OK && replica->is_told) {
        pln_logf(host, PLN_LOG_WARN, "l2: the replica at %s is read from again",
                 pln_pool_label(&replica->pool));
    } else if (result != PLN_OK && !replica->is_told) {
        pln_logf(host, PLN_LOG_WARN, "%s; the replica is not read from until it is well",
                 pln_error_text());
    }
    replica->is_told = result != PLN_OK;
}

/* The replicas as the primary itself sees them, where nobody else tells. */
static void learn(struct pln_node *node) {
    struct pln_address addresses[PLN_MOST_REPLICAS];
    struct pln_reply *reply;
    size_t n;
    if (node->redis->keeper.look != NULL ||
        ask(&node->pool, "ROLE", NULL, PLN_KIND(PLN_REPLY_ARRAY), node->redis->timeout, &reply) !=
            PLN_OK) {
        return;
    }
    if (pln_role_read_replicas(reply, addresses, PLN_ARRAY_LEN(addresses), &n) == PLN_OK) {
        pln_replicas_take(node, addresses, n);
    }
    pln_reply_free(reply);
}

/* Returns whether all of a node's replicas are well. */
static bool look_at(struct pln_node *node) {
    struct pln_replicas *replicas = &node->replicas;
    struct standing standing;
    bool are_well = true;
    learn(node);
    if (ask_standing(&node->pool, node->redis->timeout, &standing) == PLN_OK) {
        memcpy(replicas->replid, standing.replid, sizeof standing.replid);
        measure(&node->pool, node->redis->timeout, &replicas->trip);
    }
    for (size_t i = 0; i < count(node) && !pln_flag_is_set(&node->redis->scout.is_stopping); i++) {
        struct pln_replica *replica = replicas->list[i];
        if (!pln_flag_is_set(&replica->is_listed)) {
            pln_flag_set(&replica->is_well, false);
            continue;
        }
        int result = check(node, replica);
        log_change(node, replica, result);
        pln_flag_set(&replica->is_well, result == PLN_OK);
        are_well = are_well && result == PLN_OK;
    }
    return are_well;
}

/* ---- the scout ---- */

static void rest(struct pln_scout *scout, pln_ns duration) {
    struct timespec until = pln_timespec(pln_clock_precise() + duration);
    int waited = 0;
    pthread_mutex_lock(&scout->lock);
    while (waited == 0 && !pln_flag_is_set(&scout->has_news) &&
           !pln_flag_is_set(&scout->is_stopping)) {
        waited = pthread_cond_clockwait(&scout->asked, &scout->lock, CLOCK_MONOTONIC, &until);
    }
    pthread_mutex_unlock(&scout->lock);
}

static void *run(void *arg) {
    struct pln_redis *redis = arg;
    struct pln_scout *scout = &redis->scout;
    pln_ns backoff = 0;
    pln_keeper_ask(redis); /* it has not looked for replicas before */
    while (!pln_flag_is_set(&scout->is_stopping)) {
        bool are_well = true;
        pln_flag_set(&scout->has_news, false);
        for (size_t i = 0; i < pln_nodes_count(redis) && !pln_flag_is_set(&scout->is_stopping);
             i++) {
            if (pln_node_is_wanted(redis->nodes[i])) {
                are_well = look_at(redis->nodes[i]) && are_well;
            }
        }
        backoff = are_well ? 0 : backoff;
        rest(scout, are_well ? period : pln_backoff_next(&backoff));
    }
    return NULL;
}

static void start(struct pln_redis *redis) {
    struct pln_scout *scout = &redis->scout;
    int result = PLN_OK;
    pthread_mutex_lock(&scout->lock);
    pln_flag_set(&scout->is_wanted, true);
    if (!scout->is_started) {
        result = pln_thread_start(&scout->thread, run, redis, "replicas");
        scout->is_started = result == PLN_OK;
    }
    pthread_mutex_unlock(&scout->lock);
    if (result != PLN_OK) {
        pln_logf(&redis->host, PLN_LOG_ERROR, "%s; they are not read from", pln_error_text());
    }
}

void pln_scout_init(struct pln_redis *redis) {
    pthread_mutex_init(&redis->scout.lock, NULL);
    pthread_cond_init(&redis->scout.asked, NULL);
}

void pln_scout_stop(struct pln_redis *redis) {
    struct pln_scout *scout = &redis->scout;
    if (scout->is_started) {
        pln_flag_set(&scout->is_stopping, true);
        wake(scout);
        pthread_join(scout->thread, NULL);
        scout->is_started = false;
    }
}

void pln_scout_fini(struct pln_redis *redis) {
    pthread_cond_destroy(&redis->scout.asked);
    pthread_mutex_destroy(&redis->scout.lock);
}

/* ---- choosing ---- */

static bool is_fit(struct pln_replica *replica) {
    return pln_flag_is_set(&replica->is_well) && pln_flag_is_set(&replica->is_listed) &&
           !pln_pool_is_open(&replica->pool);
}

size_t pln_replicas_count(struct pln_node *node) {
    size_t n = 0;
    for (size_t i = 0; i < count(node); i++) {
        n += is_fit(node->replicas.list[i]);
    }
    return n;
}

static struct pln_replica *pick_in_turn(struct pln_node *node) {
    struct pln_replicas *replicas = &node->replicas;
    size_t n = count(node);
    /* relaxed: whose turn it is need not be exact */
    unsigned turn = atomic_fetch_add_explicit(&replicas->turn, 1, memory_order_relaxed);
    for (size_t i = 0; i < n; i++) {
        struct pln_replica *replica = replicas->list[(turn + i) % n];
        if (is_fit(replica)) {
            return replica;
        }
    }
    return NULL;
}

/* The one with the shortest way, the primary among them. What differs by an eighth is equally far:
 * that much is noise. */
static struct pln_replica *pick_nearest(struct pln_node *node) {
    struct pln_replicas *replicas = &node->replicas;
    struct pln_replica *near[1 + PLN_MOST_REPLICAS];
    pln_ns least = pln_pool_is_open(&node->pool) ? 0 : trip_of(&replicas->trip);
    size_t n_near = 0;
    bool has_primary = least > 0;
    for (size_t i = 0; i < count(node); i++) {
        pln_ns trip = is_fit(replicas->list[i]) ? trip_of(&replicas->list[i]->trip) : 0;
        least = trip > 0 && (least == 0 || trip < least) ? trip : least;
    }
    if (has_primary && trip_of(&replicas->trip) <= least + least / 8) {
        near[n_near++] = NULL;
    }
    for (size_t i = 0; i < count(node) && n_near < PLN_ARRAY_LEN(near); i++) {
        pln_ns trip = is_fit(replicas->list[i]) ? trip_of(&replicas->list[i]->trip) : 0;
        if (trip > 0 && trip <= least + least / 8) {
            near[n_near++] = replicas->list[i];
        }
    }
    return n_near == 0 ? NULL : near[n_near == 1 ? 0 : pln_random64() % n_near];
}

struct pln_replica *pln_replica_pick(struct pln_node *node, enum pln_read how) {
    if (!pln_scout_is_wanted(&node->redis->scout)) {
        start(node->redis);
    }
    return how == PLN_READ_NEAREST ? pick_nearest(node) : pick_in_turn(node);
}

void pln_replica_doubt(struct pln_node *node, struct pln_replica *replica) {
    if (pln_flag_is_set(&replica->is_well)) {
        pln_flag_set(&replica->is_well, false);
        wake(&node->redis->scout);
    }
}
