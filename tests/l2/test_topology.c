/* SPDX-License-Identifier: MIT
 * test_topology.c - real clusters and sentinels: what they say is read as it is meant, and the
 * tests' own cluster.h and sentinels.h do what they promise. */
#include <check.h>
#include <poll.h>
#include <stdio.h>

#include "../../l2/topology.h"
#include "cluster.h"
#include "reply.h"
#include "sentinels.h"

static struct test_cluster cluster;
static struct test_sentinels set;

/* ---- a cluster ---- */

static struct pln_shards read_shards(size_t node) {
    struct pln_shards shards;
    redisReply *raw = test_node_ask(&cluster.nodes[node], "CLUSTER SLOTS");
    struct pln_reply *reply = test_reply_of(raw);
    ck_assert_msg(pln_shards_read(reply, &shards) == PLN_OK, "%s", pln_error_text());
    test_reply_free(reply);
    freeReplyObject(raw);
    return shards;
}

/* The place of an endpoint in the cluster. */
static size_t place_of(const struct pln_address *endpoint) {
    size_t i = 0;
    while (i < cluster.n_nodes && cluster.nodes[i].port != endpoint->port) {
        i++;
    }
    ck_assert_msg(i < cluster.n_nodes, "nobody is at port %d", endpoint->port);
    ck_assert_msg(endpoint->host[0] == 0 || strcmp(endpoint->host, "127.0.0.1") == 0, "host %s",
                  endpoint->host);
    return i;
}

/* The map as a node sees it, in places of the cluster. */
static void map_of(size_t node, struct pln_slot_map *map) {
    struct pln_shards shards = read_shards(node);
    uint16_t places[TEST_CLUSTER_NODES];
    ck_assert_uint_le(shards.n_nodes, TEST_CLUSTER_NODES);
    for (size_t i = 0; i < shards.n_nodes; i++) {
        places[i] = (uint16_t) place_of(&shards.nodes[i]);
    }
    pln_slot_map_init(map);
    pln_shards_apply(&shards, places, map);
    pln_shards_fini(&shards);
}

/* The answer to GET is an error that sends on. */
static struct pln_redirect redirect_of(size_t node, const char *key) {
    struct pln_redirect redirect;
    redisReply *reply = test_node_ask(&cluster.nodes[node], "GET %s", key);
    ck_assert_int_eq(reply->type, REDIS_REPLY_ERROR);
    ck_assert_msg(pln_moved_read(pln_bytes_of(reply->str, reply->len), &redirect), "not read: %s",
                  reply->str);
    freeReplyObject(reply);
    ck_assert_uint_eq(redirect.slot, pln_slot_of(pln_bytes_of(key, strlen(key))));
    return redirect;
}

static void expect_value(size_t node, const char *key, const char *value) {
    redisReply *reply = test_node_ask(&cluster.nodes[node], "GET %s", key);
    ck_assert_msg(reply->type == REDIS_REPLY_STRING && strcmp(reply->str, value) == 0,
                  "%s at %zu is %s", key, node, reply->str == NULL ? "nil" : reply->str);
    freeReplyObject(reply);
}

START_TEST(a_cluster_is_mapped_whole_and_sends_to_the_right_node) {
    static struct pln_slot_map map;
    test_cluster_start(&cluster, 3, 1);
    for (size_t node = 0; node < cluster.n_nodes; node++) {
        map_of(node, &map);
        ck_assert_uint_eq(pln_slot_map_covered(&map), PLN_N_SLOTS);
        ck_assert_uint_eq(pln_slot_map_find(&map, 0), 0);
        ck_assert_uint_eq(pln_slot_map_find(&map, PLN_N_SLOTS - 1), 2);
    }
    /* each primary with its replica */
    struct pln_shards shards = read_shards(0);
    ck_assert_uint_eq(shards.n_ranges, 3);
    ck_assert_uint_eq(shards.n_nodes, 6);
    for (size_t i = 0; i < shards.n_ranges; i++) {
        const struct pln_slot_range *range = &shards.ranges[i];
        ck_assert_uint_eq(range->n_nodes, 2);
        size_t primary = place_of(&shards.nodes[range->nodes[0]]);
        ck_assert_uint_eq(place_of(&shards.nodes[range->nodes[1]]),
                          test_cluster_replica(&cluster, primary, 0));
    }
    pln_shards_fini(&shards);
    /* slots as the server reckons them, and where it sends who asks the wrong node */
    for (int i = 0; i < 200; i++) {
        char key[64];
        snprintf(key, sizeof key, "%s%d{%d}}x%s", i % 3 == 0 ? "{" : "", i, i * 7,
                 i % 2 ? "{" : "");
        unsigned slot = pln_slot_of(pln_bytes_of(key, strlen(key)));
        ck_assert_msg(slot == test_cluster_slot(&cluster, key), "%s: %u", key, slot);
        size_t owner = pln_slot_map_find(&map, slot);
        struct pln_redirect redirect = redirect_of((owner + 1) % 3, key);
        ck_assert(!redirect.is_ask);
        ck_assert_uint_eq(place_of(&redirect.to), owner);
    }
    test_cluster_stop(&cluster);
}
END_TEST

START_TEST(a_slot_that_moves_is_asked_for_and_then_moved) {
    static struct pln_slot_map map;
    char key[32];
    test_cluster_start(&cluster, 3, 0);
    unsigned slot = test_cluster_slot(&cluster, "{tag}");
    size_t from = test_cluster_owner(&cluster, slot), to = (from + 1) % 3;
    for (int i = 0; i < 10; i++) {
        test_node_tell(&cluster.nodes[from], "SET {tag}%d %d", i, i);
    }
    test_cluster_move_begin(&cluster, slot, from, to);
    ck_assert_uint_eq(test_cluster_move_keys(&cluster, slot, from, to, 4), 4);
    int n_gone = 0;
    for (int i = 0; i < 10; i++) {
        snprintf(key, sizeof key, "{tag}%d", i);
        redisReply *reply = test_node_ask(&cluster.nodes[from], "GET %s", key);
        bool is_gone = reply->type == REDIS_REPLY_ERROR;
        freeReplyObject(reply);
        if (is_gone) {
            struct pln_redirect redirect = redirect_of(from, key);
            ck_assert(redirect.is_ask);
            ck_assert_uint_eq(place_of(&redirect.to), to);
            test_node_tell(&cluster.nodes[to], "ASKING");
            expect_value(to, key, key + 5);
            /* who does not say ASKING is sent back */
            redirect = redirect_of(to, key);
            ck_assert(!redirect.is_ask);
            ck_assert_uint_eq(place_of(&redirect.to), from);
        }
        n_gone += is_gone;
    }
    ck_assert_int_eq(n_gone, 4);
    ck_assert_uint_eq(test_cluster_move_keys(&cluster, slot, from, to, 100), 6);
    ck_assert_uint_eq(test_cluster_move_keys(&cluster, slot, from, to, 100), 0);
    test_cluster_move_end(&cluster, slot, from, to);
    struct pln_redirect redirect = redirect_of(from, "{tag}0");
    ck_assert(!redirect.is_ask);
    ck_assert_uint_eq(place_of(&redirect.to), to);
    expect_value(to, "{tag}9", "9");
    ck_assert_uint_eq(test_cluster_owner(&cluster, slot), to);

    unsigned first = (unsigned) (2 * PLN_N_SLOTS / 3 + 10); /* within the last primary's */
    test_cluster_move(&cluster, first, 20, 2, 0);
    for (size_t node = 0; node < cluster.n_nodes; node++) {
        map_of(node, &map);
        ck_assert_uint_eq(pln_slot_map_covered(&map), PLN_N_SLOTS);
        ck_assert_uint_eq(pln_slot_map_find(&map, first - 1), 2);
        ck_assert_uint_eq(pln_slot_map_find(&map, first), 0);
        ck_assert_uint_eq(pln_slot_map_find(&map, first + 19), 0);
        ck_assert_uint_eq(pln_slot_map_find(&map, first + 20), 2);
    }
    test_cluster_stop(&cluster);
}
END_TEST

/* Asked for a key of what was a primary's range at the start, a node sends to `owner`. */
static void expect_moved(size_t node, size_t range, size_t owner) {
    char key[32];
    unsigned slot;
    int i = 0;
    do {
        int len = snprintf(key, sizeof key, "key:%d", i++);
        slot = pln_slot_of(pln_bytes_of(key, (size_t) len));
    } while (slot * 3 / PLN_N_SLOTS != range);
    struct pln_redirect redirect = redirect_of(node, key);
    ck_assert(!redirect.is_ask);
    ck_assert_uint_eq(place_of(&redirect.to), owner);
}

START_TEST(a_replica_takes_over_when_told_and_when_its_primary_dies) {
    static struct pln_slot_map map;
    test_cluster_start(&cluster, 3, 1);
    size_t second = test_cluster_replica(&cluster, 1, 0);
    test_cluster_failover(&cluster, second);
    expect_moved(1, 1, second); /* who was replaced sends on */
    expect_moved(0, 1, second);
    map_of(0, &map);
    ck_assert_uint_eq(pln_slot_map_find(&map, PLN_N_SLOTS / 2), second);

    test_cluster_kill(&cluster, 0);
    size_t successor = test_cluster_await_failover(&cluster, 0);
    ck_assert_uint_eq(successor, test_cluster_replica(&cluster, 0, 0));
    map_of(2, &map);
    ck_assert_uint_eq(pln_slot_map_covered(&map), PLN_N_SLOTS);
    ck_assert_uint_eq(pln_slot_map_find(&map, 0), successor);

    test_cluster_restart(&cluster, 0);
    expect_moved(0, 0, successor);
    expect_moved(2, 0, successor);
    test_cluster_stop(&cluster);
}
END_TEST

/* ---- sentinels ---- */

static size_t server_of(const struct pln_address *endpoint) {
    size_t i = 0;
    while (i < set.n_servers && set.servers[i].port != endpoint->port) {
        i++;
    }
    ck_assert_msg(i < set.n_servers, "nobody is at port %d", endpoint->port);
    ck_assert_str_eq(endpoint->host, "127.0.0.1");
    return i;
}

static size_t read_peers(const char *command, struct pln_address *peers, int expected) {
    size_t n = 0;
    redisReply *raw = test_node_ask(&set.sentinels[0], command);
    struct pln_reply *reply = test_reply_of(raw);
    int result = pln_sentinel_read_peers(reply, peers, TEST_SENTINEL_NODES, &n);
    ck_assert_msg(result == expected, "%d: %s", result, pln_error_text());
    test_reply_free(reply);
    freeReplyObject(raw);
    return n;
}

static struct pln_role role_of(struct test_node *node) {
    struct pln_role role;
    redisReply *raw = test_node_ask(node, "ROLE");
    struct pln_reply *reply = test_reply_of(raw);
    ck_assert_msg(pln_role_read(reply, &role) == PLN_OK, "%s", pln_error_text());
    test_reply_free(reply);
    freeReplyObject(raw);
    return role;
}

static int read_master(const char *service, struct pln_address *master) {
    redisReply *raw = test_node_ask(&set.sentinels[0], "SENTINEL GET-MASTER-ADDR-BY-NAME %s",
                                    service);
    struct pln_reply *reply = test_reply_of(raw);
    int result = pln_sentinel_read_master(reply, master);
    test_reply_free(reply);
    freeReplyObject(raw);
    return result;
}

/* Listens at the first sentinel. */
static redisContext *subscribe(void) {
    redisContext *context = redisConnectWithTimeout("127.0.0.1", set.sentinels[0].port,
                                                    (struct timeval){30, 0});
    ck_assert(context != NULL && context->err == 0);
    redisSetTimeout(context, (struct timeval){30, 0});
    redisReply *reply = redisCommand(context, "SUBSCRIBE +switch-master");
    ck_assert_ptr_nonnull(reply);
    freeReplyObject(reply);
    return context;
}

/* The next news is of a switch between two servers. */
static void expect_switch(redisContext *context, size_t from, size_t to) {
    void *raw = NULL;
    struct pln_switch change;
    ck_assert_int_eq(redisGetReply(context, &raw), REDIS_OK);
    redisReply *news = raw;
    ck_assert_uint_eq(news->elements, 3);
    redisReply *payload = news->element[2];
    ck_assert_msg(pln_sentinel_read_switch(pln_bytes_of(payload->str, payload->len), &change),
                  "not read: %s", payload->str);
    ck_assert(pln_bytes_equal(change.service, pln_bytes_of(TEST_SERVICE, strlen(TEST_SERVICE))));
    ck_assert_uint_eq(server_of(&change.from), from);
    ck_assert_uint_eq(server_of(&change.to), to);
    freeReplyObject(news);
}

START_TEST(sentinels_are_understood) {
    struct pln_address master, peers[TEST_SENTINEL_NODES];
    test_sentinels_start(&set, 2, 3, 2);
    ck_assert_int_eq(read_master(TEST_SERVICE, &master), PLN_OK);
    ck_assert_uint_eq(server_of(&master), 0);
    ck_assert_int_eq(read_master("nobody", &master), PLN_MISS);
    ck_assert_uint_eq(read_peers("SENTINEL SENTINELS " TEST_SERVICE, peers, PLN_OK), 2);
    ck_assert_int_ne(peers[0].port, peers[1].port);
    ck_assert_uint_eq(read_peers("SENTINEL REPLICAS " TEST_SERVICE, peers, PLN_OK), 2);
    ck_assert_uint_eq(server_of(&peers[0]) + server_of(&peers[1]), 3); /* 1 and 2 */
    read_peers("SENTINEL REPLICAS nobody", peers, PLN_MISS);

    ck_assert_int_eq(role_of(&set.sentinels[0]).kind, PLN_ROLE_SENTINEL);
    ck_assert_int_eq(role_of(&set.servers[0]).kind, PLN_ROLE_MASTER);
    struct pln_role replica = role_of(&set.servers[1]);
    ck_assert_int_eq(replica.kind, PLN_ROLE_REPLICA);
    ck_assert(replica.is_linked);
    ck_assert_int_ge(replica.offset, 0);
    ck_assert_uint_eq(server_of(&replica.master), 0);
    test_sentinels_stop(&set);
}
END_TEST

START_TEST(a_switch_is_heard_of_and_the_dead_are_passed_over) {
    struct pln_address master, peers[TEST_SENTINEL_NODES];
    test_sentinels_start(&set, 2, 3, 2);
    redisContext *news = subscribe();
    size_t old = test_sentinels_kill_primary(&set);
    ck_assert_uint_eq(old, 0);
    size_t now = test_sentinels_await_switch(&set, old);
    expect_switch(news, old, now);
    ck_assert_int_eq(read_master(TEST_SERVICE, &master), PLN_OK);
    ck_assert_uint_eq(server_of(&master), now);
    ck_assert_int_eq(role_of(&set.servers[now]).kind, PLN_ROLE_MASTER);

    test_sentinels_rejoin(&set, old);
    struct pln_role role = role_of(&set.servers[old]);
    ck_assert_int_eq(role.kind, PLN_ROLE_REPLICA);
    ck_assert_uint_eq(server_of(&role.master), now);

    size_t then = test_sentinels_failover(&set);
    ck_assert_uint_ne(then, now);
    expect_switch(news, now, then);
    redisFree(news);

    /* one that dies is soon no longer among those to go to */
    test_node_kill(&set.sentinels[2]);
    size_t n = 2;
    for (int tries = 0; tries < 1000 && n == 2; tries++) {
        n = read_peers("SENTINEL SENTINELS " TEST_SERVICE, peers, PLN_OK);
        poll(NULL, 0, 20);
    }
    ck_assert_uint_eq(n, 1);
    ck_assert_int_eq(peers[0].port, set.sentinels[1].port);
    test_sentinels_stop(&set);
}
END_TEST

int main(void) {
    Suite *suite = suite_create("topology");
    TCase *tests = tcase_create("topology");
    suite_add_tcase(suite, tests);
    tcase_set_timeout(tests, 240);
    tcase_add_test(tests, a_cluster_is_mapped_whole_and_sends_to_the_right_node);
    tcase_add_test(tests, a_slot_that_moves_is_asked_for_and_then_moved);
    tcase_add_test(tests, a_replica_takes_over_when_told_and_when_its_primary_dies);
    tcase_add_test(tests, sentinels_are_understood);
    tcase_add_test(tests, a_switch_is_heard_of_and_the_dead_are_passed_over);
    SRunner *runner = srunner_create(suite);
    srunner_run_all(runner, CK_ENV);
    int failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed == 0 ? 0 : 1;
}
