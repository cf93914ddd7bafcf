/* SPDX-License-Identifier: MIT
 * faults_cluster.c - the tier in a real Redis Cluster: values, leases, tags and messages, while
 * slots move, servers die and others take over. */
#include <check.h>
#include <stdio.h>

#include "../../l2/internal.h"
#include "../../l2/topology.h"
#include "client.h"
#include "cluster.h"
#include "load.h"

enum { N_KEYS = 300 };

static struct test_cluster cluster;
static struct client a, b;
static char url[64], names[N_KEYS][24];
static struct pln_hashed keys[N_KEYS];
static struct pln_l2_value values[N_KEYS];
static int statuses[N_KEYS];

static void open_client(struct client *client) {
    client_init(client);
    struct pln_l2_options options = client_options(client, url);
    ck_assert_msg(pln_l2_redis_new(&options, &client->l2) == PLN_OK, "%s", pln_error_text());
    ck_assert_int_eq(pln_l2_start(client->l2), PLN_OK);
    ck_assert_msg(client_hears(client, "+"), "%s", client->log);
    expect_story(client, "+");
}

static void set_up(size_t n_primaries, size_t n_replicas) {
    test_cluster_start(&cluster, n_primaries, n_replicas);
    snprintf(url, sizeof url, "redis+cluster://127.0.0.1:%d", cluster.nodes[0].port);
    open_client(&a);
    open_client(&b);
    for (size_t i = 0; i < N_KEYS; i++) {
        /* with a tag, without, and with a brace that is none */
        snprintf(names[i], sizeof names[i],
                 i % 3 == 0   ? "key%zu"
                 : i % 3 == 1 ? "u:{%zu}:x"
                              : "odd}%zu",
                 i);
        keys[i] = key_of(names[i]);
    }
}

static void set_up_alone(void) {
    set_up(3, 0);
}

static void set_up_replicated(void) {
    set_up(3, 1);
}

static void tear_down(void) {
    client_fini(&a);
    client_fini(&b);
    test_cluster_stop(&cluster);
}

static void set(struct client *client, const char *key, const char *text) {
    struct pln_hashed hashed = key_of(key);
    struct pln_l2_item item = item_of(text);
    int result = pln_l2_set(client->l2, &hashed, &item, 0, soon());
    ck_assert_msg(result == PLN_OK, "%s: %d %s", key, result, pln_error_text());
}

static void fill(void) {
    for (size_t i = 0; i < N_KEYS; i++) {
        set(&a, names[i], names[i]);
    }
}

/* Each key has its own value. */
static void check_many(void) {
    ck_assert_int_eq(pln_l2_get_many(b.l2, keys, N_KEYS, soon(), values, statuses), PLN_OK);
    for (size_t i = 0; i < N_KEYS; i++) {
        if (statuses[i] != PLN_OK || !pln_bytes_equal(values[i].item.value, keys[i].key)) {
            ck_abort_msg("%s: %d (%s)", names[i], statuses[i], pln_error_text());
        }
        pln_l2_value_fini(&values[i]);
    }
}

START_TEST(values_are_spread_and_read_one_by_one_or_together) {
    size_t n_of[3] = {0};
    fill();
    check_many();
    for (size_t i = 0; i < N_KEYS; i++) {
        expect_text(&b, names[i], names[i]);
        n_of[test_cluster_owner(&cluster,
                                pln_names_slot(&pln_redis_of(a.l2)->names, keys[i].key))]++;
    }
    ck_assert(n_of[0] > 0 && n_of[1] > 0 && n_of[2] > 0);
}
END_TEST

START_TEST(a_value_and_its_lease_are_in_one_slot) {
    struct pln_names *names_in = &pln_redis_of(a.l2)->names;
    for (size_t i = 0; i < 30; i++) {
        struct pln_batch batch;
        char name[64];
        pln_batch_init(&batch);
        pln_names_write_value(names_in, keys[i].key, &batch);
        ck_assert_int_eq(sscanf(batch.bytes, "$%*d\r\n%63[^\r]", name), 1);
        unsigned slot = test_cluster_slot(&cluster, name);
        ck_assert_uint_eq(slot, pln_names_slot(names_in, keys[i].key));
        pln_batch_fini(&batch);
        pln_names_write_lease(names_in, keys[i].key, &batch);
        ck_assert_int_eq(sscanf(batch.bytes, "$%*d\r\n%63[^\r]", name), 1);
        ck_assert_uint_eq(test_cluster_slot(&cluster, name), slot);
        pln_batch_fini(&batch);
    }
}
END_TEST

START_TEST(changes_are_heard_by_the_others) {
    struct pln_hashed key = key_of("key1"), tagged = key_of("u:{7}:x");
    set(&a, "key1", "one");
    ck_assert(client_hears(&b, "k:key1"));
    set(&a, "u:{7}:x", "two");
    ck_assert(client_hears(&b, "k:u:{7}:x"));
    set(&a, "odd}1", "three");
    ck_assert(client_hears(&b, "k:odd}1"));
    expect_story(&b, "k:key1 k:u:{7}:x k:odd}1");
    ck_assert_int_eq(pln_l2_expire(a.l2, &tagged, soon()), PLN_OK);
    ck_assert(client_hears(&b, "k:u:{7}:x"));
    expect_story(&b, "k:u:{7}:x");
    ck_assert_int_eq(pln_l2_remove(a.l2, &key, soon()), PLN_OK);
    ck_assert(client_hears(&b, "k:key1"));
    expect_text(&b, "key1", NULL);
    /* of what is not there no server's tracking tells, so it is published */
    struct pln_hashed nowhere = key_of("nowhere"), neither = key_of("neither");
    ck_assert_int_eq(pln_l2_remove(a.l2, &nowhere, soon()), PLN_OK);
    ck_assert(client_hears(&b, "k:nowhere"));
    ck_assert_int_eq(pln_l2_expire(a.l2, &neither, soon()), PLN_MISS);
    ck_assert(client_hears(&b, "x:neither"));
    ck_assert_int_eq(pln_l2_drop_tag(a.l2, pln_key("t"), soon()), PLN_OK);
    ck_assert(client_hears(&b, "t:t"));
    ck_assert_int_eq(pln_l2_clear(a.l2, soon()), PLN_OK);
    ck_assert(client_hears(&b, "clear"));
    expect_text(&b, "u:{7}:x", NULL);
}
END_TEST

START_TEST(tags_and_clear_reach_values_on_every_server) {
    struct pln_bytes tag = pln_key("odd");
    for (size_t i = 0; i < N_KEYS; i++) {
        struct pln_l2_item item = item_of(names[i]);
        item.tags = &tag;
        item.n_tags = i % 2;
        ck_assert_int_eq(pln_l2_set(a.l2, &keys[i], &item, 0, soon()), PLN_OK);
    }
    check_many();
    ck_assert_int_eq(pln_l2_drop_tag(b.l2, tag, soon()), PLN_OK);
    ck_assert_int_eq(pln_l2_get_many(a.l2, keys, N_KEYS, soon(), values, statuses), PLN_OK);
    for (size_t i = 0; i < N_KEYS; i++) {
        ck_assert_int_eq(statuses[i], i % 2 == 1 ? PLN_MISS : PLN_OK);
        if (statuses[i] == PLN_OK) {
            pln_l2_value_fini(&values[i]);
        }
    }
    ck_assert_int_eq(pln_l2_clear(b.l2, soon()), PLN_OK);
    ck_assert_int_eq(pln_l2_get_many(a.l2, keys, N_KEYS, soon(), values, statuses), PLN_OK);
    for (size_t i = 0; i < N_KEYS; i++) {
        ck_assert_int_eq(statuses[i], PLN_MISS);
    }
    set(&b, "key1", "after");
    expect_text(&a, "key1", "after");
}
END_TEST

START_TEST(a_lease_keeps_others_away_and_a_write_voids_it) {
    struct pln_l2_lease lease, other;
    struct pln_l2_item item = item_of("loaded");
    for (size_t i = 0; i < 9; i++) {
        ck_assert_int_eq(pln_l2_lease(a.l2, &keys[i], 5000, soon(), &lease), PLN_OK);
        ck_assert_uint_gt(lease.tag_clock, 0);
        ck_assert_int_eq(pln_l2_lease(b.l2, &keys[i], 5000, soon(), &other), PLN_PENDING);
        ck_assert_int_eq(pln_l2_commit(a.l2, &keys[i], &lease, &item, soon()), PLN_OK);
        char part[2 + sizeof names];
        snprintf(part, sizeof part, "f:%s", names[i]);
        ck_assert_msg(client_hears(&b, part), "%s: %s", part, b.story);
        expect_text(&b, names[i], "loaded");
        ck_assert_int_eq(pln_l2_lease(a.l2, &keys[i], 5000, soon(), &lease), PLN_OK);
        ck_assert_int_eq(pln_l2_remove(b.l2, &keys[i], soon()), PLN_OK);
        ck_assert_int_eq(pln_l2_commit(a.l2, &keys[i], &lease, &item, soon()), PLN_NOT_STORED);
        expect_text(&b, names[i], NULL);
    }
}
END_TEST

START_TEST(what_is_loaded_under_a_tag_that_is_dropped_meanwhile_is_void) {
    struct pln_bytes tag = pln_key("t");
    struct pln_l2_lease lease;
    struct pln_l2_item item = item_of("old");
    item.tags = &tag;
    item.n_tags = 1;
    ck_assert_int_eq(pln_l2_lease(a.l2, &keys[0], 5000, soon(), &lease), PLN_OK);
    ck_assert_int_eq(pln_l2_drop_tag(b.l2, tag, soon()), PLN_OK);
    item.tag_clock = lease.tag_clock;
    pln_l2_commit(a.l2, &keys[0], &lease, &item, soon());
    expect_text(&a, names[0], NULL);
    expect_text(&b, names[0], NULL);
}
END_TEST

START_TEST(conditions_of_set_hold) {
    struct pln_l2_item item = item_of("x");
    ck_assert_int_eq(pln_l2_set(a.l2, &keys[0], &item, PLN_SET_XX, soon()), PLN_NOT_STORED);
    ck_assert_int_eq(pln_l2_set(a.l2, &keys[0], &item, PLN_SET_NX, soon()), PLN_OK);
    ck_assert_int_eq(pln_l2_set(a.l2, &keys[0], &item, PLN_SET_NX, soon()), PLN_NOT_STORED);
    ck_assert_int_eq(pln_l2_touch(a.l2, &keys[0], 1000, 2000, 0, soon()), PLN_OK);
    ck_assert_int_eq(pln_l2_clear(b.l2, soon()), PLN_OK);
    ck_assert(client_hears(&a, "clear"));
    ck_assert_int_eq(pln_l2_set(a.l2, &keys[0], &item, PLN_SET_NX, soon()), PLN_OK);
}
END_TEST

START_TEST(a_slot_on_its_way_is_read_and_written_on_both_sides) {
    struct pln_names *names_in = &pln_redis_of(a.l2)->names;
    char tagged[4][24];
    struct pln_hashed four[4];
    for (size_t i = 0; i < 4; i++) {
        snprintf(tagged[i], sizeof tagged[i], "{move}%zu", i);
        four[i] = key_of(tagged[i]);
        set(&a, tagged[i], tagged[i]);
    }
    unsigned slot = pln_names_slot(names_in, four[0].key);
    size_t from = test_cluster_owner(&cluster, slot), to = (from + 1) % 3;
    test_cluster_move_begin(&cluster, slot, from, to);
    ck_assert_uint_eq(test_cluster_move_keys(&cluster, slot, from, to, 2), 2);
    for (size_t i = 0; i < 4; i++) { /* half of them by ASK */
        expect_text(&b, tagged[i], tagged[i]);
    }
    ck_assert_int_eq(pln_l2_get_many(b.l2, four, 4, soon(), values, statuses), PLN_OK);
    for (size_t i = 0; i < 4; i++) {
        ck_assert_int_eq(statuses[i], PLN_OK);
        ck_assert(pln_bytes_equal(values[i].item.value, four[i].key));
        pln_l2_value_fini(&values[i]);
    }
    test_cluster_move_keys(&cluster, slot, from, to, 100);
    test_cluster_move_end(&cluster, slot, from, to);
    for (size_t i = 0; i < 4; i++) { /* by MOVED, the first time */
        expect_text(&b, tagged[i], tagged[i]);
        set(&a, tagged[i], "new");
        expect_text(&b, tagged[i], "new");
    }
    ck_assert_uint_eq(pln_slot_map_find(pln_redis_of(b.l2)->slots, slot),
                      pln_slot_map_find(pln_redis_of(a.l2)->slots, slot));
}
END_TEST

START_TEST(a_cluster_that_is_not_there_is_told_and_found_later) {
    struct client c;
    client_init(&c);
    struct pln_l2_options options = client_options(&c, "redis+cluster://127.0.0.1:1");
    ck_assert_int_eq(pln_l2_redis_new(&options, &c.l2), PLN_OK);
    struct pln_l2_value value;
    ck_assert_int_eq(pln_l2_get(c.l2, &keys[0], soon(), &value), PLN_EL2DOWN);
    ck_assert_ptr_nonnull(strstr(pln_error_text(), "127.0.0.1:1"));
    client_fini(&c);
    client_init(&c);
    options.ns = "a}b";
    ck_assert_int_eq(pln_l2_redis_new(&options, &c.l2), PLN_EINVAL);
    ck_assert_ptr_nonnull(strstr(pln_error_text(), "ns: "));
    client_fini(&c);
}
END_TEST

/* ---- under load ---- */

static struct load load;

static void begin_load(int patience_ms) {
    load = (struct load){.l2 = a.l2, .n_threads = 4};
    load_set_patience(&load, patience_ms);
    load_start(&load);
    load_await_ok(&load, 200);
}

START_TEST(slots_move_under_load_without_a_failure) {
    begin_load(2000);
    for (unsigned first = 0; first < 4000; first += 500) {
        test_cluster_move(&cluster, first, 500, 0, 1);
        load_await_ok(&load, 20);
    }
    load_await_ok(&load, 500);
    for (int status = -20; status < 0; status++) {
        if (load_count(&load, status) > 0) {
            ck_abort_msg("%ld calls ended with %d: %s", load_count(&load, status), status,
                         load.failure);
        }
    }
    load_stop(&load);
    load_check(&load);
}
END_TEST

START_TEST(a_failover_costs_its_own_time_and_no_wrong_answer) {
    begin_load(500);
    load_let_fail_over(&load); /* replication is asynchronous */
    test_cluster_kill(&cluster, 1);
    size_t replica = test_cluster_await_failover(&cluster, 1);
    ck_assert_uint_eq(replica, test_cluster_replica(&cluster, 1, 0));
    ck_assert_msg(client_hears(&a, " +"), "%s", a.log);
    ck_assert_msg(client_hears(&b, " +"), "%s", b.log);
    load_await_ok(&load, 1000);
    long failed_before = load_count(&load, PLN_EL2DOWN) + load_count(&load, PLN_ETIMEOUT);
    load_await_ok(&load, 1000);
    long failed_after = load_count(&load, PLN_EL2DOWN) + load_count(&load, PLN_ETIMEOUT);
    ck_assert_msg(failed_after == failed_before, "%s", load.failure);
    load_stop(&load);
    load_check(&load);
}
END_TEST

START_TEST(a_planned_failover_is_followed) {
    fill();
    test_cluster_failover(&cluster, test_cluster_replica(&cluster, 0, 0));
    check_many();
    fill();
    check_many();
    ck_assert_msg(client_hears(&b, "+"), "%s", b.log);
}
END_TEST

int main(void) {
    Suite *suite = suite_create("cluster");
    TCase *tests = tcase_create("alone"), *replicated = tcase_create("replicated");
    suite_add_tcase(suite, tests);
    tcase_add_checked_fixture(tests, set_up_alone, tear_down);
    tcase_set_timeout(tests, 120);
    tcase_add_test(tests, values_are_spread_and_read_one_by_one_or_together);
    tcase_add_test(tests, a_value_and_its_lease_are_in_one_slot);
    tcase_add_test(tests, changes_are_heard_by_the_others);
    tcase_add_test(tests, tags_and_clear_reach_values_on_every_server);
    tcase_add_test(tests, a_lease_keeps_others_away_and_a_write_voids_it);
    tcase_add_test(tests, what_is_loaded_under_a_tag_that_is_dropped_meanwhile_is_void);
    tcase_add_test(tests, conditions_of_set_hold);
    tcase_add_test(tests, a_slot_on_its_way_is_read_and_written_on_both_sides);
    tcase_add_test(tests, a_cluster_that_is_not_there_is_told_and_found_later);
    suite_add_tcase(suite, replicated);
    tcase_add_checked_fixture(replicated, set_up_replicated, tear_down);
    tcase_set_timeout(replicated, 120);
    tcase_add_test(replicated, a_failover_costs_its_own_time_and_no_wrong_answer);
    tcase_add_test(replicated, a_planned_failover_is_followed);
    tcase_add_test(replicated, slots_move_under_load_without_a_failure);
    SRunner *runner = srunner_create(suite);
    srunner_run_all(runner, CK_ENV);
    int failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed == 0 ? 0 : 1;
}
