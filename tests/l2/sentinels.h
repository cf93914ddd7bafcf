/* SPDX-License-Identifier: MIT
 *
 * sentinels.h - a primary, its replicas and the sentinels that watch them, all real, on loopback
 * ports; and what happens there: the primary dies and comes back, sentinels switch.
 *
 * Servers are known by their place, the first primary at 0. The service is "mymaster".
 */
#ifndef PLN_TEST_SENTINELS_H
#define PLN_TEST_SENTINELS_H

#include "node.h"

#define TEST_SERVICE "mymaster"

enum { TEST_SENTINEL_NODES = 8 };

struct test_sentinels {
    size_t n_servers, n_sentinels;
    struct test_node servers[TEST_SENTINEL_NODES];
    struct test_node sentinels[TEST_SENTINEL_NODES];
};

/* Returns once all sentinels know each other and the replicas. */
void test_sentinels_start(struct test_sentinels *set, size_t n_replicas, size_t n_sentinels,
                          unsigned quorum);
void test_sentinels_stop(struct test_sentinels *set);

/* The place of the server that a sentinel names. */
size_t test_sentinels_primary(struct test_sentinels *set, size_t sentinel);
/* Kills the primary. Returns its place. */
size_t test_sentinels_kill_primary(struct test_sentinels *set);
/* Waits until every sentinel that runs names the same server, which is not `old`, that is a master,
 * and the other servers that run are its replicas. Returns its place. A client hears of a switch
 * well before. */
size_t test_sentinels_await_switch(struct test_sentinels *set, size_t old);
/* Has the sentinels switch though the primary lives. Returns the new one's place. */
size_t test_sentinels_failover(struct test_sentinels *set);
/* Starts a server again, which comes up as the master it once was, and waits until the sentinels
 * have made it a replica. */
void test_sentinels_rejoin(struct test_sentinels *set, size_t server);

#endif
