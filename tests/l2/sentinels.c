/* SPDX-License-Identifier: MIT
 * sentinels.c - see sentinels.h. */
#include "sentinels.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { MOST_ORDERS = 5, ORDER_MS = 30000 };

/* A switch that a wait is for. */
struct change {
    struct test_sentinels *set;
    size_t server;
};

static bool runs(const struct test_node *node) {
    return node->pid > 0;
}

/* A field of SENTINEL MASTER as a number; -1 where there is none. */
static long field(struct test_node *sentinel, const char *name) {
    redisReply *reply = test_node_ask(sentinel, "SENTINEL MASTER " TEST_SERVICE);
    long value = -1;
    for (size_t i = 0; i + 1 < reply->elements; i += 2) {
        if (strcmp(reply->element[i]->str, name) == 0) {
            value = strtol(reply->element[i + 1]->str, NULL, 10);
        }
    }
    freeReplyObject(reply);
    return value;
}

static bool are_linked(void *arg) {
    struct test_sentinels *set = arg;
    bool is_so = true;
    for (size_t i = 1; i < set->n_servers && is_so; i++) {
        is_so = test_node_is_linked(&set->servers[i]);
    }
    return is_so;
}

/* Whether a sentinel lists nobody whom it has lost, or not reached yet. */
static bool finds_all_well(struct test_node *sentinel, const char *command) {
    redisReply *reply = test_node_ask(sentinel, command);
    bool is_so = reply->type == REDIS_REPLY_ARRAY;
    for (size_t i = 0; i < reply->elements && is_so; i++) {
        redisReply *peer = reply->element[i];
        for (size_t j = 0; j + 1 < peer->elements; j += 2) {
            const char *value = peer->element[j + 1]->str;
            is_so = is_so && (strcmp(peer->element[j]->str, "flags") != 0 ||
                              (strstr(value, "down") == NULL && strstr(value, "disc") == NULL));
        }
    }
    freeReplyObject(reply);
    return is_so;
}

static bool have_met(void *arg) {
    struct test_sentinels *set = arg;
    bool is_so = true;
    for (size_t i = 0; i < set->n_sentinels && is_so; i++) {
        is_so = field(&set->sentinels[i], "num-other-sentinels") == (long) set->n_sentinels - 1 &&
                field(&set->sentinels[i], "num-slaves") == (long) set->n_servers - 1 &&
                finds_all_well(&set->sentinels[i], "SENTINEL SENTINELS " TEST_SERVICE) &&
                finds_all_well(&set->sentinels[i], "SENTINEL REPLICAS " TEST_SERVICE);
    }
    return is_so;
}

/* Sentinels look around every one to ten seconds; here more often, but within bounds that their
 * own rules set. While a switch is on they ask replicas for INFO once a second whatever is said
 * here. What they know of a replica is too old for them after five pings or three INFO, and then
 * there is "no good slave"; and a replica that says it is a master is turned back after four
 * publish periods, even the one that another sentinel has just promoted. So each of these must stay
 * well above a second. */
static void hurry(struct test_node *sentinel) {
    test_node_tell(sentinel, "SENTINEL DEBUG info-period 500 ping-period 400 ask-period 200 "
                             "publish-period 500 min-link-reconnect-period 100");
}

void test_sentinels_start(struct test_sentinels *set, size_t n_replicas, size_t n_sentinels,
                          unsigned quorum) {
    static const char *const options[] = {"--repl-diskless-sync-delay", "0", NULL};
    char lines[512];
    *set = (struct test_sentinels){.n_servers = 1 + n_replicas, .n_sentinels = n_sentinels};
    test_need(set->n_servers <= TEST_SENTINEL_NODES && n_sentinels <= TEST_SENTINEL_NODES,
              "too many nodes");
    for (size_t i = 0; i < set->n_servers; i++) {
        test_node_start(&set->servers[i], options);
        if (i > 0) {
            test_node_tell(&set->servers[i], "REPLICAOF 127.0.0.1 %d", set->servers[0].port);
        }
    }
    /* before there are sentinels, so that their first look finds all */
    test_until(are_linked, set, "replicas do not link to their primary");
    snprintf(lines, sizeof lines,
             "sentinel monitor " TEST_SERVICE " 127.0.0.1 %d %u\n"
             "sentinel down-after-milliseconds " TEST_SERVICE " 2000\n"
             "sentinel failover-timeout " TEST_SERVICE " 5000\n",
             set->servers[0].port, quorum);
    for (size_t i = 0; i < n_sentinels; i++) {
        test_node_start_sentinel(&set->sentinels[i], lines);
        hurry(&set->sentinels[i]);
    }
    test_until(have_met, set, "sentinels do not meet");
}

void test_sentinels_stop(struct test_sentinels *set) {
    for (size_t i = 0; i < set->n_sentinels; i++) {
        test_node_stop(&set->sentinels[i]);
    }
    for (size_t i = 0; i < set->n_servers; i++) {
        test_node_stop(&set->servers[i]);
    }
    set->n_sentinels = set->n_servers = 0;
}

size_t test_sentinels_primary(struct test_sentinels *set, size_t sentinel) {
    redisReply *reply = test_node_ask(&set->sentinels[sentinel],
                                      "SENTINEL GET-MASTER-ADDR-BY-NAME " TEST_SERVICE);
    test_need(reply->type == REDIS_REPLY_ARRAY && reply->elements == 2, "no master");
    long port = strtol(reply->element[1]->str, NULL, 10);
    freeReplyObject(reply);
    size_t found = set->n_servers;
    for (size_t i = 0; i < set->n_servers; i++) {
        found = set->servers[i].port == port ? i : found;
    }
    test_need(found < set->n_servers, "a sentinel names a stranger");
    return found;
}

static size_t first_sentinel(const struct test_sentinels *set) {
    size_t i = 0;
    while (i < set->n_sentinels && !runs(&set->sentinels[i])) {
        i++;
    }
    test_need(i < set->n_sentinels, "no sentinel runs");
    return i;
}

size_t test_sentinels_kill_primary(struct test_sentinels *set) {
    size_t primary = test_sentinels_primary(set, first_sentinel(set));
    test_node_kill(&set->servers[primary]);
    return primary;
}

/* Whether a sentinel is done: the one that leads a switch names the new server before that, and
 * changes replicas afterwards. */
static bool is_at_rest(struct test_node *sentinel) {
    redisReply *reply = test_node_ask(sentinel, "SENTINEL MASTER " TEST_SERVICE);
    bool is_so = false;
    for (size_t i = 0; i + 1 < reply->elements; i += 2) {
        is_so = is_so || (strcmp(reply->element[i]->str, "flags") == 0 &&
                          strcmp(reply->element[i + 1]->str, "master") == 0);
    }
    freeReplyObject(reply);
    return is_so;
}

static bool has_switched(void *arg) {
    struct change *change = arg;
    struct test_sentinels *set = change->set;
    size_t now = test_sentinels_primary(set, first_sentinel(set));
    bool is_so = now != change->server && runs(&set->servers[now]) &&
                 test_node_is_master(&set->servers[now]);
    for (size_t i = 0; i < set->n_sentinels && is_so; i++) {
        is_so = !runs(&set->sentinels[i]) ||
                (test_sentinels_primary(set, i) == now && is_at_rest(&set->sentinels[i]));
    }
    for (size_t i = 0; i < set->n_servers && is_so; i++) {
        is_so = i == now || !runs(&set->servers[i]) || test_node_is_linked(&set->servers[i]);
    }
    return is_so;
}

size_t test_sentinels_await_switch(struct test_sentinels *set, size_t old) {
    struct change change = {set, old};
    test_until(has_switched, &change, "the sentinels do not switch");
    return test_sentinels_primary(set, first_sentinel(set));
}

/* Refused while another switch is under way, or no replica was heard of lately. */
static bool takes_the_order(void *arg) {
    struct test_sentinels *set = arg;
    redisReply *reply = test_node_ask(&set->sentinels[first_sentinel(set)],
                                      "SENTINEL FAILOVER " TEST_SERVICE);
    bool is_so = reply->type != REDIS_REPLY_ERROR;
    freeReplyObject(reply);
    return is_so;
}

/* What was ordered is tried once: a sentinel that gives it up, for time or a replica that was lost
 * meanwhile, waits for another order. */
size_t test_sentinels_failover(struct test_sentinels *set) {
    struct change change = {set, test_sentinels_primary(set, first_sentinel(set))};
    int n_orders = 0;
    do {
        test_need(n_orders++ < MOST_ORDERS, "the sentinels give up what they are told to");
        test_until(takes_the_order, set, "the sentinels refuse to switch");
    } while (!test_is_soon(has_switched, &change, ORDER_MS));
    return test_sentinels_primary(set, first_sentinel(set));
}

static bool is_replica(void *arg) {
    struct change *change = arg;
    return test_node_is_linked(&change->set->servers[change->server]);
}

void test_sentinels_rejoin(struct test_sentinels *set, size_t server) {
    struct change change = {set, server};
    test_node_restart(&set->servers[server]);
    test_until(is_replica, &change, "a server that was started again is not made a replica");
}
