/* SPDX-License-Identifier: MIT
 * cluster.c - see cluster.h. */
#include "cluster.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* Small, so that a death is noticed soon, and yet so large that a busy machine is not taken for a
 * dead one. Replicas do not change their primaries, so that places keep their meaning. A
 * replica is told of to clients once it has heard something of its primary, which is a ping. */
static const char *const options[] = {"--cluster-enabled",
                                      "yes",
                                      "--cluster-config-file",
                                      "nodes.conf",
                                      "--cluster-node-timeout",
                                      "2000",
                                      "--cluster-replica-validity-factor",
                                      "0",
                                      "--cluster-allow-replica-migration",
                                      "no",
                                      "--repl-diskless-sync-delay",
                                      "0",
                                      "--repl-ping-replica-period",
                                      "1",
                                      NULL};

/* A question to every node that runs. */
struct view {
    struct test_cluster *cluster;
    size_t node;
    const char *flag; /* which the line of the node is to have */
    size_t found;
};

static bool runs(const struct test_cluster *cluster, size_t node) {
    return cluster->nodes[node].pid > 0;
}

size_t test_cluster_replica(const struct test_cluster *cluster, size_t primary, size_t nth) {
    return cluster->n_primaries + primary * cluster->n_replicas + nth;
}

/* The primary, at the start, of a replica; a primary is its own. */
static size_t group_of(const struct test_cluster *cluster, size_t node) {
    return node < cluster->n_primaries ? node : (node - cluster->n_primaries) / cluster->n_replicas;
}

/* Whether a node has a flag, in the eyes of another: "master", "slave", "fail", "handshake" (only
 * whole flags count). */
static bool has_flag(struct test_cluster *cluster, size_t viewer, size_t node, const char *flag) {
    redisReply *reply = test_node_ask(&cluster->nodes[viewer], "CLUSTER NODES");
    test_need(reply->str != NULL, "no answer to CLUSTER NODES");
    bool is_so = false;
    const char *line = strstr(reply->str, cluster->ids[node]);
    while (line != NULL && line != reply->str && line[-1] != '\n') {
        line = strstr(line + 1, cluster->ids[node]); /* it stood there as another's primary */
    }
    char flags[128] = "";
    if (line != NULL && sscanf(line, "%*s %*s %127s", flags) == 1) {
        char *rest = NULL;
        for (char *one = strtok_r(flags, ",", &rest); one != NULL;
             one = strtok_r(NULL, ",", &rest)) {
            is_so = is_so || strcmp(one, flag) == 0;
        }
    }
    freeReplyObject(reply);
    return is_so;
}

static bool all_see(struct test_cluster *cluster, size_t node, const char *flag) {
    bool is_so = true;
    for (size_t i = 0; i < cluster->n_nodes && is_so; i++) {
        is_so = !runs(cluster, i) || has_flag(cluster, i, node, flag);
    }
    return is_so;
}

static bool all_say(struct test_cluster *cluster, const char *command, const char *part) {
    bool is_so = true;
    for (size_t i = 0; i < cluster->n_nodes && is_so; i++) {
        is_so = !runs(cluster, i) || test_node_says(&cluster->nodes[i], command, part);
    }
    return is_so;
}

/* ---- start ---- */

static void give_slots(struct test_cluster *cluster) {
    for (size_t i = 0; i < cluster->n_primaries; i++) {
        size_t first = i * TEST_CLUSTER_SLOTS / cluster->n_primaries;
        size_t last = (i + 1) * TEST_CLUSTER_SLOTS / cluster->n_primaries - 1;
        test_node_tell(&cluster->nodes[i], "CLUSTER ADDSLOTSRANGE %d %d", (int) first, (int) last);
    }
}

/* Everybody is told of everybody, which is quicker than word of mouth; each has another epoch, or
 * they would have to agree on one first. */
static void introduce(struct test_cluster *cluster) {
    for (size_t i = 0; i < cluster->n_nodes; i++) {
        test_node_tell(&cluster->nodes[i], "CLUSTER SET-CONFIG-EPOCH %d", (int) i + 1);
    }
    for (size_t i = 0; i < cluster->n_nodes; i++) {
        for (size_t j = i + 1; j < cluster->n_nodes; j++) {
            test_node_tell(&cluster->nodes[i], "CLUSTER MEET 127.0.0.1 %d", cluster->nodes[j].port);
        }
    }
}

static bool all_have_met(void *arg) {
    struct test_cluster *cluster = arg;
    bool is_so = true;
    for (size_t i = 0; i < cluster->n_nodes && is_so; i++) {
        is_so = all_see(cluster, i, "master");
    }
    return is_so;
}

static void link_replicas(struct test_cluster *cluster) {
    for (size_t i = cluster->n_primaries; i < cluster->n_nodes; i++) {
        test_node_tell(&cluster->nodes[i], "CLUSTER REPLICATE %s",
                       cluster->ids[group_of(cluster, i)]);
    }
}

/* How many nodes a node tells clients of. */
static size_t count_shown(struct test_node *node) {
    redisReply *reply = test_node_ask(node, "CLUSTER SLOTS");
    size_t n = 0;
    for (size_t i = 0; i < reply->elements; i++) {
        n += reply->element[i]->elements - 2;
    }
    freeReplyObject(reply);
    return n;
}

static bool is_whole(void *arg) {
    struct test_cluster *cluster = arg;
    bool is_so = all_say(cluster, "CLUSTER INFO", "cluster_state:ok") &&
                 all_say(cluster, "CLUSTER INFO", "cluster_slots_ok:16384");
    for (size_t i = 0; i < cluster->n_nodes && is_so; i++) {
        bool is_replica = i >= cluster->n_primaries;
        is_so = count_shown(&cluster->nodes[i]) == cluster->n_nodes &&
                (!is_replica ||
                 (test_node_is_linked(&cluster->nodes[i]) && all_see(cluster, i, "slave")));
    }
    return is_so;
}

void test_cluster_start(struct test_cluster *cluster, size_t n_primaries, size_t n_replicas) {
    *cluster = (struct test_cluster){.n_primaries = n_primaries,
                                     .n_replicas = n_replicas,
                                     .n_nodes = n_primaries * (1 + n_replicas)};
    test_need(n_primaries > 0 && cluster->n_nodes <= TEST_CLUSTER_NODES, "too many nodes");
    for (size_t i = 0; i < cluster->n_nodes; i++) {
        test_node_start(&cluster->nodes[i], options);
        redisReply *id = test_node_ask(&cluster->nodes[i], "CLUSTER MYID");
        test_need(id->str != NULL && strlen(id->str) == TEST_CLUSTER_ID, "a node has no id");
        memcpy(cluster->ids[i], id->str, TEST_CLUSTER_ID);
        freeReplyObject(id);
    }
    give_slots(cluster);
    introduce(cluster);
    test_until(all_have_met, cluster, "the nodes of a cluster do not meet");
    link_replicas(cluster);
    test_until(is_whole, cluster, "a cluster does not come up");
}

void test_cluster_stop(struct test_cluster *cluster) {
    for (size_t i = 0; i < cluster->n_nodes; i++) {
        test_node_stop(&cluster->nodes[i]);
    }
    cluster->n_nodes = 0;
}

/* ---- questions ---- */

static struct test_node *first_running(struct test_cluster *cluster) {
    size_t i = 0;
    while (i < cluster->n_nodes && !runs(cluster, i)) {
        i++;
    }
    test_need(i < cluster->n_nodes, "no node runs");
    return &cluster->nodes[i];
}

size_t test_cluster_owner(struct test_cluster *cluster, unsigned slot) {
    redisReply *reply = test_node_ask(first_running(cluster), "CLUSTER SLOTS");
    size_t owner = cluster->n_nodes;
    for (size_t i = 0; i < reply->elements; i++) {
        redisReply **range = reply->element[i]->element;
        if (range[0]->integer <= slot && slot <= range[1]->integer) {
            for (size_t j = 0; j < cluster->n_nodes; j++) {
                bool is_it = cluster->nodes[j].port == range[2]->element[1]->integer;
                owner = is_it ? j : owner;
            }
        }
    }
    freeReplyObject(reply);
    test_need(owner < cluster->n_nodes, "nobody has a slot");
    return owner;
}

unsigned test_cluster_slot(struct test_cluster *cluster, const char *key) {
    redisReply *reply = test_node_ask(first_running(cluster), "CLUSTER KEYSLOT %s", key);
    unsigned slot = (unsigned) reply->integer;
    freeReplyObject(reply);
    return slot;
}

/* ---- deaths ---- */

void test_cluster_kill(struct test_cluster *cluster, size_t node) {
    test_node_kill(&cluster->nodes[node]);
}

static bool has_returned(void *arg) {
    struct view *view = arg;
    bool is_so = all_say(view->cluster, "CLUSTER INFO", "cluster_state:ok");
    for (size_t i = 0; i < view->cluster->n_nodes && is_so; i++) {
        is_so = !runs(view->cluster, i) || (!has_flag(view->cluster, i, view->node, "fail") &&
                                            !has_flag(view->cluster, i, view->node, "fail?"));
    }
    return is_so;
}

void test_cluster_restart(struct test_cluster *cluster, size_t node) {
    struct view view = {.cluster = cluster, .node = node};
    test_node_restart(&cluster->nodes[node]);
    test_until(has_returned, &view, "a node that was started again is not taken back");
}

static bool is_master_for_all(struct test_cluster *cluster, size_t node) {
    return test_node_is_master(&cluster->nodes[node]) && all_see(cluster, node, "master") &&
           all_say(cluster, "CLUSTER INFO", "cluster_state:ok");
}

static bool has_successor(void *arg) {
    struct view *view = arg;
    struct test_cluster *cluster = view->cluster;
    for (size_t i = 0; i < cluster->n_nodes; i++) {
        if (i != view->node && runs(cluster, i) &&
            group_of(cluster, i) == group_of(cluster, view->node) &&
            is_master_for_all(cluster, i)) {
            view->found = i;
            return true;
        }
    }
    return false;
}

size_t test_cluster_await_failover(struct test_cluster *cluster, size_t dead) {
    struct view view = {.cluster = cluster, .node = dead};
    test_until(has_successor, &view, "no replica takes over");
    return view.found;
}

static bool has_taken_over(void *arg) {
    struct view *view = arg;
    return is_master_for_all(view->cluster, view->node);
}

void test_cluster_failover(struct test_cluster *cluster, size_t replica) {
    struct view view = {.cluster = cluster, .node = replica};
    test_node_tell(&cluster->nodes[replica], "CLUSTER FAILOVER");
    test_until(has_taken_over, &view, "a replica does not take over when told");
}

/* ---- moves ---- */

void test_cluster_move_begin(struct test_cluster *cluster, unsigned slot, size_t from, size_t to) {
    /* in this order: ASK must not lead to a node that knows of nothing */
    test_node_tell(&cluster->nodes[to], "CLUSTER SETSLOT %u IMPORTING %s", slot,
                   cluster->ids[from]);
    test_node_tell(&cluster->nodes[from], "CLUSTER SETSLOT %u MIGRATING %s", slot,
                   cluster->ids[to]);
}

size_t test_cluster_move_keys(struct test_cluster *cluster, unsigned slot, size_t from, size_t to,
                              size_t n) {
    redisReply *keys = test_node_ask(&cluster->nodes[from], "CLUSTER GETKEYSINSLOT %u %d", slot,
                                     (int) n);
    test_need(keys->type == REDIS_REPLY_ARRAY, "no list of a slot's keys");
    size_t n_moved = keys->elements;
    for (size_t i = 0; i < n_moved; i++) {
        test_node_tell(&cluster->nodes[from], "MIGRATE 127.0.0.1 %d %b 0 30000",
                       cluster->nodes[to].port, keys->element[i]->str, keys->element[i]->len);
    }
    freeReplyObject(keys);
    return n_moved;
}

void test_cluster_move_end(struct test_cluster *cluster, unsigned slot, size_t from, size_t to) {
    /* the new owner first: until it knows, the old one has to send clients there by ASK */
    test_node_tell(&cluster->nodes[to], "CLUSTER SETSLOT %u NODE %s", slot, cluster->ids[to]);
    test_node_tell(&cluster->nodes[from], "CLUSTER SETSLOT %u NODE %s", slot, cluster->ids[to]);
    for (size_t i = 0; i < cluster->n_nodes; i++) {
        if (i != from && i != to && runs(cluster, i) && test_node_is_master(&cluster->nodes[i])) {
            test_node_tell(&cluster->nodes[i], "CLUSTER SETSLOT %u NODE %s", slot,
                           cluster->ids[to]);
        }
    }
}

void test_cluster_move(struct test_cluster *cluster, unsigned first, unsigned n, size_t from,
                       size_t to) {
    for (unsigned slot = first; slot < first + n; slot++) {
        test_cluster_move_begin(cluster, slot, from, to);
        while (test_cluster_move_keys(cluster, slot, from, to, 100) > 0) {
            continue;
        }
        test_cluster_move_end(cluster, slot, from, to);
    }
}
