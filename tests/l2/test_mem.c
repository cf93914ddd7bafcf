/* SPDX-License-Identifier: MIT
 * test_mem.c - l2/mem.c: the tier's semantics over memory, and what tests can do to a client. */
#include <check.h>

#include "semantics.h"

static struct pln_l2_mem_server *server;
static struct client a, b;

static void open_client(struct client *client) {
    client_init(client);
    struct pln_l2_options options = client_options(client, NULL);
    ck_assert_int_eq(pln_l2_mem_new(&options, server, &client->l2), PLN_OK);
    ck_assert_int_eq(pln_l2_start(client->l2), PLN_OK);
    expect_story(client, "+");
}

static void set_up(void) {
    ck_assert_int_eq(pln_l2_mem_server_new(&server), PLN_OK);
    open_client(&a);
    open_client(&b);
}

static void tear_down(void) {
    client_fini(&a);
    client_fini(&b);
    pln_l2_mem_server_free(server);
}

START_TEST(memory_does_what_a_tier_must_do) {
    semantics[_i].run(&a, &b);
}
END_TEST

static void set(struct client *client, const char *key) {
    struct pln_hashed hashed = key_of(key);
    struct pln_l2_item item = item_of(key);
    ck_assert_int_eq(pln_l2_set(client->l2, &hashed, &item, 0, soon()), PLN_OK);
}

START_TEST(held_messages_come_one_by_one_and_in_order) {
    pln_l2_mem_hold(b.l2, true);
    set(&a, "1");
    set(&a, "2");
    set(&a, "3");
    expect_story(&b, "");
    expect_text(&b, "3", "3");
    ck_assert_uint_eq(pln_l2_mem_deliver(b.l2, 1), 1);
    expect_story(&b, "k:1");
    set(&a, "4");
    pln_l2_mem_hold(b.l2, false);
    expect_story(&b, "k:2 k:3 k:4");
    ck_assert_uint_eq(pln_l2_mem_deliver(b.l2, 9), 0);
}
END_TEST

START_TEST(a_parted_client_is_told_and_misses_what_happens) {
    pln_l2_mem_hold(b.l2, true);
    set(&a, "1");
    pln_l2_mem_part(b.l2);
    pln_l2_mem_hold(b.l2, false);
    set(&a, "2");
    pln_l2_mem_part(b.l2);
    expect_story(&b, "-");
    expect_text(&b, "2", "2");
    pln_l2_mem_join(b.l2);
    set(&a, "3");
    expect_story(&b, "+ k:3");
    ck_assert_uint_eq(client_count(&b, PLN_COUNT_BUS_LOSSES), 1);
}
END_TEST

START_TEST(a_cut_client_fails_and_changes_nothing) {
    struct pln_hashed key = key_of("1");
    struct pln_l2_item item = item_of("other");
    struct pln_l2_value value;
    struct pln_l2_health health;
    int status = 99;
    set(&a, "1");
    pln_l2_mem_cut(a.l2, true);
    ck_assert_int_eq(pln_l2_set(a.l2, &key, &item, 0, soon()), PLN_EL2DOWN);
    ck_assert_int_eq(pln_l2_get(a.l2, &key, soon(), &value), PLN_EL2DOWN);
    ck_assert_int_eq(pln_l2_get_many(a.l2, &key, 1, soon(), &value, &status), PLN_EL2DOWN);
    ck_assert_int_eq(status, PLN_EL2DOWN);
    pln_l2_health(a.l2, &health);
    ck_assert(health.breaker_open && health.bus_ok);
    pln_l2_mem_cut(a.l2, false);
    expect_text(&a, "1", "1");
}
END_TEST

START_TEST(values_and_leases_end_by_the_hosts_clock) {
    struct pln_hashed key = key_of("1");
    struct pln_l2_lease first, second;
    set(&a, "1");
    a.now += 120000;
    expect_text(&a, "1", NULL);
    expect_text(&b, "1", "1");
    ck_assert_int_eq(pln_l2_lease(a.l2, &key, 100, soon(), &first), PLN_OK);
    ck_assert_int_eq(pln_l2_lease(a.l2, &key, 100, soon(), &second), PLN_PENDING);
    ck_assert_int_eq(second.left, 100);
    a.now += 100;
    ck_assert_int_eq(pln_l2_release(a.l2, &key, &first, soon()), PLN_MISS);
    ck_assert_int_eq(pln_l2_lease(a.l2, &key, 100, soon(), &second), PLN_OK);
}
END_TEST

static void write_back(void *arg, struct pln_bytes key) {
    struct client *client = arg;
    struct pln_hashed hashed = {key, pln_hash(key, 0)};
    ck_assert_int_eq(pln_l2_remove(client->l2, &hashed, soon()), PLN_OK);
}

START_TEST(an_event_may_use_the_tier) {
    struct client c;
    client_init(&c);
    struct pln_l2_options options = client_options(&c, NULL);
    options.events = (struct pln_l2_events){.arg = &c, .on_key = write_back};
    ck_assert_int_eq(pln_l2_mem_new(&options, server, &c.l2), PLN_OK);
    ck_assert_int_eq(pln_l2_start(c.l2), PLN_OK);
    set(&a, "1");
    expect_text(&b, "1", NULL);
    expect_story(&a, "k:1");
    client_fini(&c);
}
END_TEST

START_TEST(namespaces_do_not_meet) {
    struct client c;
    client_init(&c);
    struct pln_l2_options options = client_options(&c, NULL);
    options.ns = "another";
    ck_assert_int_eq(pln_l2_mem_new(&options, server, &c.l2), PLN_OK);
    ck_assert_int_eq(pln_l2_start(c.l2), PLN_OK);
    set(&a, "1");
    expect_text(&c, "1", NULL);
    ck_assert_int_eq(pln_l2_clear(c.l2, soon()), PLN_OK);
    expect_text(&a, "1", "1");
    expect_story(&c, "+");
    client_fini(&c);
}
END_TEST

int main(void) {
    Suite *suite = suite_create("mem");
    TCase *tests = tcase_create("mem");
    suite_add_tcase(suite, tests);
    tcase_add_checked_fixture(tests, set_up, tear_down);
    tcase_add_loop_test(tests, memory_does_what_a_tier_must_do, 0, n_semantics);
    tcase_add_test(tests, held_messages_come_one_by_one_and_in_order);
    tcase_add_test(tests, a_parted_client_is_told_and_misses_what_happens);
    tcase_add_test(tests, a_cut_client_fails_and_changes_nothing);
    tcase_add_test(tests, values_and_leases_end_by_the_hosts_clock);
    tcase_add_test(tests, an_event_may_use_the_tier);
    tcase_add_test(tests, namespaces_do_not_meet);
    SRunner *runner = srunner_create(suite);
    srunner_run_all(runner, CK_ENV);
    int failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed == 0 ? 0 : 1;
}
