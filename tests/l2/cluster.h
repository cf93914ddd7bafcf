/* SPDX-License-Identifier: MIT
 *
 * cluster.h - a real Redis Cluster of a test's own on loopback ports, and what happens to one:
 * nodes die, replicas take over, slots move while keys are read.
 *
 * Nodes are known by their place: the primaries first, then the replicas of the first, of the
 * second, and so on. A node keeps its place whatever becomes of it. Operations return once every
 * node that runs agrees. It takes three seconds to start: a node waits two before it believes that
 * a cluster is well.
 */
#ifndef PLN_TEST_CLUSTER_H
#define PLN_TEST_CLUSTER_H

#include "node.h"

enum { TEST_CLUSTER_NODES = 12, TEST_CLUSTER_ID = 40, TEST_CLUSTER_SLOTS = 16384 };

struct test_cluster {
    size_t n_primaries, n_replicas; /* at the start; replicas of each primary */
    size_t n_nodes;
    struct test_node nodes[TEST_CLUSTER_NODES];
    char ids[TEST_CLUSTER_NODES][TEST_CLUSTER_ID + 1];
};

/* Primary i has the slots from i * 16384 / n on. */
void test_cluster_start(struct test_cluster *cluster, size_t n_primaries, size_t n_replicas);
void test_cluster_stop(struct test_cluster *cluster);

/* The place of a replica at the start: the nth of a primary, both from 0. */
size_t test_cluster_replica(const struct test_cluster *cluster, size_t primary, size_t nth);
/* Who has a slot, as the first node that runs sees it. */
size_t test_cluster_owner(struct test_cluster *cluster, unsigned slot);
/* The slot of a key, as a server reckons it. */
unsigned test_cluster_slot(struct test_cluster *cluster, const char *key);

/* Kills a node; for what follows, see await_failover. */
void test_cluster_kill(struct test_cluster *cluster, size_t node);
/* Starts it again with what it knew, and waits until the others take it for alive. */
void test_cluster_restart(struct test_cluster *cluster, size_t node);
/* After a primary's death: waits until a replica has taken over. Returns which. */
size_t test_cluster_await_failover(struct test_cluster *cluster, size_t dead);
/* Has a replica take over from its primary, which lives. */
void test_cluster_failover(struct test_cluster *cluster, size_t replica);

/* The steps of a slot's move: from begin on, `from` answers ASK for keys that have gone; move_keys
 * takes at most n of them along and returns how many; after end, `from` answers MOVED. */
void test_cluster_move_begin(struct test_cluster *cluster, unsigned slot, size_t from, size_t to);
size_t test_cluster_move_keys(struct test_cluster *cluster, unsigned slot, size_t from, size_t to,
                              size_t n);
void test_cluster_move_end(struct test_cluster *cluster, unsigned slot, size_t from, size_t to);
/* All steps, for n slots from `first` on. */
void test_cluster_move(struct test_cluster *cluster, unsigned first, unsigned n, size_t from,
                       size_t to);

#endif
