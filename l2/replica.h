/* SPDX-License-Identifier: MIT
 *
 * replica.h - private to this folder: the servers that follow a node's, for reads that may lag.
 *
 * Labels of this file:
 *   R1 a replica / its place among the node's replicas
 */
#ifndef PLN_L2_REPLICA_H
#define PLN_L2_REPLICA_H

#include "transport.h"

struct pln_node;
struct pln_redis;
struct pln_address;
struct pln_shards;

enum {
    PLN_MOST_REPLICAS = 32, /* of one node, all those included that it ever had */
    PLN_REPLID = 40,
};

/* A server that follows a node's. It stays as long as the node. */
struct pln_replica {
    struct pln_pool pool;
    atomic_bool is_listed; /* it is named among the node's replicas */
    atomic_bool is_well;   /* when it was last asked it was in touch with the node's server */
    _Atomic int64_t trip;  /* a moving average of round trips, in ns; 0: not known */
    bool is_told;          /* of the scout: that it is not well was logged */
};

/* Those of one node. */
struct pln_replicas {
    struct pln_replica *list[PLN_MOST_REPLICAS];
    _Atomic size_t n;
    _Atomic unsigned turn;
    _Atomic int64_t trip;        /* of the node's own server */
    char replid[PLN_REPLID + 1]; /* of the scout: of the node's server; "" not known */
};

/* A thread that knows which replicas are well, and how far away; begun by the first read that may
 * use one. */
struct pln_scout {
    pthread_mutex_t lock; /* guards all below but the flags */
    pthread_cond_t asked;
    pthread_t thread;
    bool is_started;
    atomic_bool is_wanted; /* somebody reads from replicas */
    atomic_bool is_stopping, has_news;
};

void pln_scout_init(struct pln_redis *redis);
void pln_scout_stop(struct pln_redis *redis);
void pln_scout_fini(struct pln_redis *redis);
static inline bool pln_scout_is_wanted(const struct pln_scout *scout) {
    /* relaxed: a flag by itself */
    return atomic_load_explicit(&scout->is_wanted, memory_order_relaxed);
}

/* These are the node's replicas now. By one thread at a time: the keeper's, or, where nothing
 * moves, the scout's. */
void pln_replicas_take(struct pln_node *node, const struct pln_address *addresses, size_t n);
/* The same for all nodes of a cluster; `places` as in pln_shards_apply(). */
void pln_replicas_take_shards(struct pln_redis *redis, const struct pln_shards *shards,
                              const uint16_t *places);
void pln_replicas_fini(struct pln_node *node);
/* How many are fit to be read from. */
size_t pln_replicas_count(struct pln_node *node);

/* A replica to read from, NULL for the node's own server. Begins the scout. */
struct pln_replica *pln_replica_pick(struct pln_node *node, enum pln_read how);
/* One that has failed a read: not picked again before the scout has found it well. */
void pln_replica_doubt(struct pln_node *node, struct pln_replica *replica);

#endif
