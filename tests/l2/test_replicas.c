/* SPDX-License-Identifier: MIT
 * test_replicas.c - l2/replica.c and near.c: reads that go to replicas, alone, behind sentinels and
 * in a cluster, with some of them dead, silent, empty or strangers. All servers are real. */
#include <check.h>
#include <stdio.h>

#include "../../l2/internal.h"
#include "client.h"
#include "cluster.h"
#include "sentinels.h"

enum { MOST_REPLICAS = 2, N_KEYS = 60 };

static struct test_node primary, replicas[MOST_REPLICAS];
static struct test_sentinels set;
static struct test_cluster cluster;
static struct client a;

/* ---- servers ---- */

static void start_family(size_t n_replicas) {
    static const char *const options[] = {"--repl-diskless-sync-delay", "0", NULL};
    test_node_start(&primary, options);
    for (size_t i = 0; i < n_replicas; i++) {
        test_node_follow(&replicas[i], &primary, NULL);
    }
}

static void tear_down(void) {
    client_fini(&a);
    test_node_stop(&primary);
    for (size_t i = 0; i < MOST_REPLICAS; i++) {
        test_node_stop(&replicas[i]);
    }
}

static bool has_caught_up(void *arg) {
    struct test_node *const *nodes = arg;
    return test_node_number(nodes[0], "INFO replication", "master_repl_offset:") ==
           test_node_number(nodes[1], "INFO replication", "slave_repl_offset:");
}

/* Waits until a replica has what its primary has now. */
static void await_copy(struct test_node *of, struct test_node *replica) {
    test_until(has_caught_up, (struct test_node *[]){of, replica}, "a replica does not catch up");
}

static void await_copies(size_t n_replicas) {
    for (size_t i = 0; i < n_replicas; i++) {
        await_copy(&primary, &replicas[i]);
    }
}

/* ---- the client ---- */

static void open_at(const char *url) {
    client_init(&a);
    struct pln_l2_options options = client_options(&a, url);
    ck_assert_msg(pln_l2_redis_new(&options, &a.l2) == PLN_OK, "%s", pln_error_text());
    ck_assert_int_eq(pln_l2_start(a.l2), PLN_OK);
    ck_assert_msg(client_hears(&a, "+"), "%s", a.log);
}

static void open_client(void) {
    char url[64];
    snprintf(url, sizeof url, "redis://127.0.0.1:%d", primary.port);
    open_at(url);
}

static void set_text(const char *key, const char *text) {
    struct pln_hashed hashed = key_of(key);
    struct pln_l2_item item = item_of(text);
    int result = pln_l2_set(a.l2, &hashed, &item, 0, soon());
    ck_assert_msg(result == PLN_OK, "%s", pln_error_text());
}

/* Reads from a replica where it can be; the value has to be this one. Returns whether one had it.
 */
static bool read_near(enum pln_read how, const char *key, const char *expected) {
    struct pln_l2_value value;
    struct pln_hashed hashed = key_of(key);
    int result = pln_l2_get_near(a.l2, &hashed, how, soon(), &value);
    if (result != (expected == NULL ? PLN_MISS : PLN_OK)) {
        ck_abort_msg("%s: %d (%s)", key, result, result < 0 ? pln_error_text() : "");
    }
    if (result != PLN_OK) {
        return false;
    }
    if (expected != NULL && !pln_bytes_equal(value.item.value, pln_key(expected))) {
        ck_abort_msg("%s is %.*s, not %s", key, (int) value.item.value.len,
                     (const char *) value.item.value.data, expected);
    }
    bool is_near = value.is_from_replica;
    pln_l2_value_fini(&value);
    return is_near;
}

static size_t n_awaited;

static bool has_replicas(void *arg) {
    struct pln_l2_health health;
    struct pln_hashed hashed = key_of("nothing");
    struct pln_l2_value value;
    (void) arg;
    pln_l2_get_near(a.l2, &hashed, PLN_READ_REPLICA, soon(), &value); /* begins the search */
    pln_l2_health(a.l2, &health);
    return health.replicas == n_awaited;
}

static void await_replicas(size_t n) {
    n_awaited = n;
    test_until(has_replicas, NULL, "the replicas are not found, or not lost");
}

static struct pln_node *node(void) {
    return pln_redis_of(a.l2)->nodes[0];
}

/* ---- alone ---- */

START_TEST(reads_go_to_the_replicas_in_turn_and_the_rest_to_the_primary) {
    struct pln_hashed key = key_of("k");
    struct pln_l2_lease lease;
    start_family(2);
    open_client();
    set_text("k", "v");
    await_copies(2);
    await_replicas(2);
    long before[] = {test_node_reads(&primary), test_node_reads(&replicas[0]),
                     test_node_reads(&replicas[1])};
    for (int i = 0; i < 100; i++) {
        ck_assert(read_near(PLN_READ_REPLICA, "k", "v"));
    }
    ck_assert_int_eq(test_node_reads(&primary), before[0]);
    ck_assert_int_eq(test_node_reads(&replicas[0]), before[1] + 50);
    ck_assert_int_eq(test_node_reads(&replicas[1]), before[2] + 50);
    ck_assert_uint_eq(client_count(&a, PLN_COUNT_REPLICA_HITS), 100);
    /* what replicas would refuse */
    ck_assert_int_eq(pln_l2_lease(a.l2, &key, 1000, soon(), &lease), PLN_OK);
    ck_assert_int_eq(pln_l2_remove(a.l2, &key, soon()), PLN_OK);
    ck_assert(!read_near(PLN_READ_PRIMARY, "k", NULL));
    ck_assert_int_eq(test_node_reads(&primary), before[0] + 1);
}
END_TEST

START_TEST(what_a_replica_lacks_the_primary_is_asked_for) {
    start_family(1);
    open_client();
    set_text("k", "v");
    await_copies(1);
    await_replicas(1);
    ck_assert(read_near(PLN_READ_REPLICA, "k", "v"));
    test_node_tell(&replicas[0], "DEL ns:v:k");
    ck_assert(!read_near(PLN_READ_REPLICA, "k", "v"));
    ck_assert(!read_near(PLN_READ_REPLICA, "none", NULL));
    test_node_tell(&replicas[0], "SET ns:v:k damaged");
    ck_assert(!read_near(PLN_READ_REPLICA, "k", "v"));
}
END_TEST

static void read_many(const enum pln_read *hows, size_t *n_near) {
    static struct pln_l2_value values[N_KEYS];
    static struct pln_hashed keys[N_KEYS];
    static char names[N_KEYS][16];
    int statuses[N_KEYS];
    for (size_t i = 0; i < N_KEYS; i++) {
        snprintf(names[i], sizeof names[i], "key%zu", i);
        keys[i] = key_of(names[i]);
    }
    ck_assert_int_eq(pln_l2_get_many_near(a.l2, keys, hows, N_KEYS, soon(), values, statuses),
                     PLN_OK);
    *n_near = 0;
    for (size_t i = 0; i < N_KEYS; i++) {
        int expected = i % 10 == 9 ? PLN_MISS : PLN_OK;
        if (statuses[i] != expected) {
            ck_abort_msg("%s: %d", names[i], statuses[i]);
        }
        if (expected == PLN_OK) {
            if (!pln_bytes_equal(values[i].item.value, keys[i].key)) {
                ck_abort_msg("%s has another's value", names[i]);
            }
            if (values[i].is_from_replica && hows[i] == PLN_READ_PRIMARY) {
                ck_abort_msg("%s is from a replica", names[i]);
            }
            *n_near += values[i].is_from_replica;
            pln_l2_value_fini(&values[i]);
        }
    }
}

static void set_many(void) {
    for (size_t i = 0; i < N_KEYS; i++) {
        char name[16];
        snprintf(name, sizeof name, "key%zu", i);
        if (i % 10 != 9) {
            set_text(name, name);
        }
    }
}

START_TEST(of_many_keys_each_is_read_where_it_may_be) {
    enum pln_read hows[N_KEYS];
    size_t n_near;
    start_family(2);
    open_client();
    set_many();
    await_copies(2);
    await_replicas(2);
    for (size_t i = 0; i < N_KEYS; i++) {
        hows[i] = i % 2 == 0 ? PLN_READ_REPLICA : PLN_READ_PRIMARY;
    }
    read_many(hows, &n_near);
    ck_assert_uint_eq(n_near, N_KEYS / 2);
    test_node_tell(&replicas[0], "DEL ns:v:key0");
    test_node_tell(&replicas[1], "DEL ns:v:key0");
    read_many(hows, &n_near);
    ck_assert_uint_eq(n_near, N_KEYS / 2 - 1);
    test_node_kill(&replicas[0]);
    test_node_kill(&replicas[1]);
    read_many(hows, &n_near);
    ck_assert_uint_eq(n_near, 0);
}
END_TEST

START_TEST(when_replicas_die_reads_go_on_at_the_primary_until_they_return) {
    start_family(2);
    open_client();
    set_text("k", "v");
    await_copies(2);
    await_replicas(2);
    test_node_kill(&replicas[0]);
    for (int i = 0; i < 50; i++) {
        read_near(PLN_READ_REPLICA, "k", "v");
    }
    await_replicas(1);
    ck_assert(read_near(PLN_READ_REPLICA, "k", "v")); /* the other's turn, always */
    test_node_kill(&replicas[1]);
    for (int i = 0; i < 50; i++) {
        ck_assert(!read_near(PLN_READ_REPLICA, "k", "v"));
    }
    await_replicas(0);
    test_node_restart(&replicas[0]);
    test_node_tell(&replicas[0], "REPLICAOF 127.0.0.1 %d", primary.port);
    await_replicas(1);
    ck_assert(read_near(PLN_READ_REPLICA, "k", "v"));
}
END_TEST

START_TEST(a_silent_replica_is_waited_for_once) {
    start_family(1);
    open_client();
    set_text("k", "v");
    await_copies(1);
    await_replicas(1);
    uint64_t before = client_count(&a, PLN_COUNT_REPLICA_MISSES);
    test_node_pause(&replicas[0]);
    for (int i = 0; i < 100; i++) { /* and each has its value */
        ck_assert(!read_near(PLN_READ_REPLICA, "k", "v"));
    }
    ck_assert_uint_eq(client_count(&a, PLN_COUNT_REPLICA_MISSES), before + 1);
    test_node_resume(&replicas[0]);
    await_replicas(1);
    ck_assert(read_near(PLN_READ_REPLICA, "k", "v"));
}
END_TEST

START_TEST(a_server_that_follows_no_more_is_left) {
    start_family(1);
    open_client();
    set_text("k", "v");
    await_copies(1);
    await_replicas(1);
    test_node_tell(&replicas[0], "REPLICAOF NO ONE");
    test_node_tell(&replicas[0], "FLUSHALL");
    pln_replica_doubt(node(), node()->replicas.list[0]); /* has it looked at now, not in 10 s */
    await_replicas(0);
    ck_assert(!read_near(PLN_READ_REPLICA, "k", "v"));
}
END_TEST

static bool is_found_strange(void *arg) {
    (void) arg;
    pthread_mutex_lock(&a.lock);
    bool is_so = strstr(a.log, "has other data than its primary") != NULL;
    pthread_mutex_unlock(&a.lock);
    return is_so;
}

START_TEST(an_address_that_leads_to_a_stranger_is_not_read_from) {
    struct test_node others, stranger;
    static const char *const options[] = {"--repl-diskless-sync-delay", "0", NULL};
    char port[16];
    test_node_start(&others, options);
    test_node_follow(&stranger, &others, NULL);
    snprintf(port, sizeof port, "%d", stranger.port);
    test_node_start(&primary, options);
    test_node_follow(&replicas[0], &primary, port);
    open_client();
    set_text("k", "v");
    read_near(PLN_READ_REPLICA, "k", "v");
    test_until(is_found_strange, NULL,
               "the stranger is not found out"); /* at a later look, maybe */
    ck_assert_ptr_nonnull(strstr(a.log, port));
    for (int i = 0; i < 10; i++) {
        ck_assert(!read_near(PLN_READ_REPLICA, "k", "v"));
    }
    ck_assert_int_eq(test_node_reads(&stranger), 0);
    test_node_stop(&stranger);
    test_node_stop(&others);
}
END_TEST

START_TEST(tags_and_clears_hold_for_what_replicas_say) {
    struct pln_bytes tag = pln_key("t");
    struct pln_hashed key = key_of("k");
    struct pln_l2_item item = item_of("v");
    start_family(1);
    open_client();
    item.tags = &tag;
    item.n_tags = 1;
    ck_assert_int_eq(pln_l2_set(a.l2, &key, &item, 0, soon()), PLN_OK);
    await_copies(1);
    await_replicas(1);
    ck_assert(read_near(PLN_READ_REPLICA, "k", "v"));
    ck_assert_int_eq(pln_l2_drop_tag(a.l2, tag, soon()), PLN_OK);
    await_copies(1);
    ck_assert(!read_near(PLN_READ_REPLICA, "k", NULL));
    set_text("k", "w");
    await_copies(1);
    ck_assert(read_near(PLN_READ_REPLICA, "k", "w"));
    test_node_pause(&replicas[0]); /* it does not hear of the clear, we do */
    ck_assert_int_eq(pln_l2_clear(a.l2, soon()), PLN_OK);
    ck_assert(!read_near(PLN_READ_REPLICA, "k", NULL));
    test_node_resume(&replicas[0]);
}
END_TEST

START_TEST(a_value_past_its_time_is_the_primarys_or_else_better_than_none) {
    struct pln_hashed key = key_of("k");
    struct pln_l2_item item = item_of("v");
    struct pln_l2_value value;
    start_family(1);
    open_client();
    item.fresh_left = 0;
    ck_assert_int_eq(pln_l2_set(a.l2, &key, &item, 0, soon()), PLN_OK);
    await_copies(1);
    await_replicas(1);
    ck_assert(!read_near(PLN_READ_REPLICA, "k", "v"));
    test_node_kill(&primary);
    ck_assert_int_eq(pln_l2_get_near(a.l2, &key, PLN_READ_REPLICA, soon(), &value), PLN_OK);
    ck_assert(value.is_from_replica);
    ck_assert_int_le(value.item.fresh_left, 0);
    pln_l2_value_fini(&value);
}
END_TEST

static void set_trip(_Atomic int64_t *trip, int64_t ns) {
    atomic_store(trip, ns);
}

/* How often, of 200 times, each is picked: the primary, the first replica, the second. */
static void count_picks(int picks[3]) {
    struct pln_replicas *all = &node()->replicas;
    memset(picks, 0, 3 * sizeof *picks);
    for (int i = 0; i < 200; i++) {
        struct pln_replica *picked = pln_replica_pick(node(), PLN_READ_NEAREST);
        picks[picked == NULL ? 0 : picked == all->list[0] ? 1 : 2]++;
    }
}

START_TEST(the_nearest_is_who_answers_soonest_and_equals_share) {
    int picks[3];
    start_family(2);
    open_client();
    await_replicas(2);
    struct pln_replicas *all = &node()->replicas;
    ck_assert_int_gt(atomic_load(&all->trip), 0); /* all have been measured */
    ck_assert_int_gt(atomic_load(&all->list[0]->trip), 0);
    ck_assert_int_gt(atomic_load(&all->list[1]->trip), 0);
    set_trip(&all->trip, 1000000);
    set_trip(&all->list[0]->trip, 200000);
    set_trip(&all->list[1]->trip, 900000);
    count_picks(picks);
    ck_assert_int_eq(picks[1], 200);
    set_trip(&all->trip, 50000);
    count_picks(picks);
    ck_assert_int_eq(picks[0], 200);
    set_trip(&all->list[1]->trip, 51000);
    count_picks(picks);
    ck_assert(picks[0] > 0 && picks[2] > 0 && picks[1] == 0); /* one in 2^199 */
    atomic_store(&all->list[1]->is_well, false);
    count_picks(picks);
    ck_assert_int_eq(picks[0], 200);
}
END_TEST

/* ---- several servers ---- */

START_TEST(behind_sentinels_the_replicas_are_found_again_after_a_switch) {
    char url[96];
    test_sentinels_start(&set, 2, 1, 1);
    snprintf(url, sizeof url, "redis+sentinel://127.0.0.1:%d/" TEST_SERVICE, set.sentinels[0].port);
    open_at(url);
    await_replicas(2);
    set_text("k", "v");
    await_copy(&set.servers[0], &set.servers[1]);
    await_copy(&set.servers[0], &set.servers[2]);
    long before = test_node_reads(&set.servers[0]);
    for (int i = 0; i < 100; i++) {
        ck_assert(read_near(PLN_READ_REPLICA, "k", "v"));
    }
    ck_assert_int_eq(test_node_reads(&set.servers[0]), before);

    size_t old = test_sentinels_kill_primary(&set);
    size_t now = test_sentinels_await_switch(&set, old);
    await_replicas(1);
    while (!pln_link_is_ok(node(), &(pln_ms){0})) {
        ck_assert(client_hears(&a, "+"));
    }
    set_text("k", "w");
    await_copy(&set.servers[now], &set.servers[3 - now]); /* of 0, 1, 2 without the dead 0 */
    before = test_node_reads(&set.servers[now]);
    for (int i = 0; i < 20; i++) {
        ck_assert(read_near(PLN_READ_REPLICA, "k", "w"));
    }
    ck_assert_int_eq(test_node_reads(&set.servers[now]), before);
    client_fini(&a);
    test_sentinels_stop(&set);
}
END_TEST

START_TEST(in_a_cluster_each_key_is_read_from_its_shards_replica) {
    char url[64];
    enum pln_read hows[N_KEYS];
    size_t n_near;
    test_cluster_start(&cluster, 3, 1);
    snprintf(url, sizeof url, "redis+cluster://127.0.0.1:%d", cluster.nodes[0].port);
    open_at(url);
    set_many();
    for (size_t i = 0; i < 3; i++) {
        await_copy(&cluster.nodes[i], &cluster.nodes[test_cluster_replica(&cluster, i, 0)]);
    }
    await_replicas(3);
    long before = test_node_reads(&cluster.nodes[0]) + test_node_reads(&cluster.nodes[1]) +
                  test_node_reads(&cluster.nodes[2]);
    for (size_t i = 0; i < N_KEYS; i++) {
        char name[16];
        snprintf(name, sizeof name, "key%zu", i);
        if (i % 10 != 9 && !read_near(PLN_READ_REPLICA, name, name)) {
            ck_abort_msg("%s is not from a replica", name);
        }
        hows[i] = PLN_READ_REPLICA;
    }
    long after = test_node_reads(&cluster.nodes[0]) + test_node_reads(&cluster.nodes[1]) +
                 test_node_reads(&cluster.nodes[2]);
    ck_assert_int_eq(after, before);
    read_many(hows, &n_near);
    ck_assert_uint_eq(n_near, N_KEYS - N_KEYS / 10);

    /* a replica takes over: what it followed with is gone, and its keys are read at the new one */
    test_cluster_failover(&cluster, test_cluster_replica(&cluster, 1, 0));
    read_many(hows, &n_near);
    client_fini(&a);
    test_cluster_stop(&cluster);
}
END_TEST

int main(void) {
    Suite *suite = suite_create("replicas");
    TCase *tests = tcase_create("alone"), *many = tcase_create("several");
    suite_add_tcase(suite, tests);
    suite_add_tcase(suite, many);
    tcase_add_checked_fixture(tests, NULL, tear_down);
    tcase_set_timeout(tests, 90);
    tcase_set_timeout(many, 240);
    tcase_add_test(tests, reads_go_to_the_replicas_in_turn_and_the_rest_to_the_primary);
    tcase_add_test(tests, what_a_replica_lacks_the_primary_is_asked_for);
    tcase_add_test(tests, of_many_keys_each_is_read_where_it_may_be);
    tcase_add_test(tests, when_replicas_die_reads_go_on_at_the_primary_until_they_return);
    tcase_add_test(tests, a_silent_replica_is_waited_for_once);
    tcase_add_test(tests, a_server_that_follows_no_more_is_left);
    tcase_add_test(tests, an_address_that_leads_to_a_stranger_is_not_read_from);
    tcase_add_test(tests, tags_and_clears_hold_for_what_replicas_say);
    tcase_add_test(tests, a_value_past_its_time_is_the_primarys_or_else_better_than_none);
    tcase_add_test(tests, the_nearest_is_who_answers_soonest_and_equals_share);
    tcase_add_test(many, behind_sentinels_the_replicas_are_found_again_after_a_switch);
    tcase_add_test(many, in_a_cluster_each_key_is_read_from_its_shards_replica);
    SRunner *runner = srunner_create(suite);
    srunner_run_all(runner, CK_ENV);
    int failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed == 0 ? 0 : 1;
}
