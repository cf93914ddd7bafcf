/* SPDX-License-Identifier: MIT
 * test_queue_cluster.c - writes that wait, and those stored first, in a cluster: beside their
 * values where the namespace is in braces. */
#include <check.h>
#include <stdio.h>

#include "cluster.h"
#include "waiting.h"

static struct test_cluster cluster;
static struct client a, b;
static char url[64];

static void open_client(struct client *client, const char *ns) {
    client_init(client);
    struct pln_l2_options options = client_options(client, url);
    options.ns = ns;
    ck_assert_msg(pln_l2_redis_new(&options, &client->l2) == PLN_OK, "%s", pln_error_text());
    ck_assert_int_eq(pln_l2_start(client->l2), PLN_OK);
    ck_assert_msg(client_hears(client, "+"), "%s", client->log);
}

static void set_up(void) {
    test_cluster_start(&cluster, 2, 0);
    snprintf(url, sizeof url, "redis+cluster://127.0.0.1:%d", cluster.nodes[0].port);
    open_client(&a, "{shop}");
    open_client(&b, "{shop}");
}

static void tear_down(void) {
    client_fini(&a);
    client_fini(&b);
    test_cluster_stop(&cluster);
}

static int swap(struct client *client, const char *expected, const char *text) {
    struct pln_hashed key = key_of("swapped");
    struct pln_l2_item item = item_of(text);
    struct pln_l2_value value;
    struct pln_l2_swap how = {.item = &item, .expects = expected != NULL};
    struct pln_l2_write write = {
        .kind = PLN_L2_WRITE_SWAP, .swap = &how, .value = item.value, .most = 100};
    how.expected = pln_key(expected != NULL ? expected : "");
    int status = pln_l2_write(client->l2, &key, &write, soon(), &value);
    pln_l2_value_fini(&value);
    return status;
}

static int through(struct client *client, const char *text, pln_ns began) {
    struct pln_hashed key = key_of("through");
    struct pln_l2_item item = item_of(text);
    return pln_l2_through(client->l2, &key, &item, began, soon());
}

START_TEST(writes_wait_beside_their_values) {
    struct pln_l2_taking taking = taker('1', true);
    struct pln_l2_entries entries;
    struct pln_hashed key = key_of("c");
    struct pln_l2_item item = item_of("three");
    struct pln_l2_value value;
    struct pln_l2_write write = {.kind = PLN_L2_WRITE_SET,
                                 .item = &item,
                                 .value = item.value,
                                 .set_flags = PLN_SET_NX,
                                 .most = 5};
    ck_assert_int_eq(write_set(&a, "a", "one"), PLN_OK);
    ck_assert(client_hears(&b, "k:a"));
    expect_text(&b, "a", "one");
    ck_assert_int_eq(write_remove(&a, "a{x}"), PLN_OK);
    ck_assert_int_eq(pln_l2_write(b.l2, &key, &write, soon(), &value), PLN_OK);
    ck_assert_int_eq(pln_l2_write(b.l2, &key, &write, soon(), &value), PLN_NOT_STORED);
    ck_assert_int_eq(swap(&a, "no", "four"), PLN_MISS);
    ck_assert_int_eq(swap(&a, NULL, "four"), PLN_OK);
    ck_assert_int_eq(swap(&a, "four", "five"), PLN_OK);
    ck_assert_int_eq(pln_l2_write(b.l2, &key, &write, soon(), &value), PLN_EBUSY);
    expect_text(&b, "swapped", "five");
    expect_waiting(&b, "c", "c=three");
    expect_take(&b, &taking, "");
    taking.is_first = false;
    expect_taken(&b, &taking, "a=one a{x}- c=three swapped=four swapped=five", &entries);
    ck_assert_int_eq(pln_l2_queue_bury(b.l2, &taking, &entries.entries[0], 1, "why", 9, soon()),
                     PLN_OK);
    ck_assert_int_eq(pln_l2_queue_end(b.l2, &taking, entries.entries, entries.n, soon()), PLN_OK);
    pln_l2_entries_fini(&entries);
    expect_depth(&a, 0, 1);
    pln_l2_queue_leave(b.l2, &taking, soon());
}
END_TEST

START_TEST(writes_through_that_overlap_are_seen) {
    pln_ns began = pln_clock_precise();
    ck_assert_int_eq(through(&b, "b's", pln_clock_precise()), PLN_OK);
    ck_assert_int_eq(through(&a, "a's", began), PLN_NOT_STORED);
    expect_text(&b, "through", NULL);
    for (int i = 0; i < 20; i++) { /* several in one millisecond */
        ck_assert_int_eq(through(&a, "new", pln_clock_precise()), PLN_OK);
    }
    expect_text(&b, "through", "new");
    /* also where the namespace has no braces, and there is no queue */
    struct client c;
    open_client(&c, "apart");
    ck_assert_int_eq(pln_l2_queue_check(c.l2), PLN_EINVAL);
    ck_assert_int_eq(through(&c, "one", pln_clock_precise()), PLN_OK);
    expect_text(&c, "through", "one");
    client_fini(&c);
}
END_TEST

static void refuse(const char *where, const char *ns, const char *why) {
    struct client client;
    struct pln_hashed key = key_of("a");
    struct pln_l2_write write = {.kind = PLN_L2_WRITE_REMOVE, .most = 1000};
    struct pln_l2_value value;
    struct pln_l2_entries entries;
    client_init(&client);
    struct pln_l2_options options = client_options(&client, where);
    options.ns = ns;
    ck_assert_msg(pln_l2_redis_new(&options, &client.l2) == PLN_OK, "%s", pln_error_text());
    ck_assert_int_eq(pln_l2_queue_check(client.l2), PLN_EINVAL);
    ck_assert_msg(strstr(pln_error_text(), why) != NULL, "%s", pln_error_text());
    ck_assert_int_eq(pln_l2_write(client.l2, &key, &write, soon(), &value), PLN_EINVAL);
    ck_assert_int_eq(pln_l2_queue_find(client.l2, &key, soon(), &entries), PLN_EINVAL);
    client_fini(&client);
}

START_TEST(where_values_are_apart_there_is_no_queue) {
    struct client client;
    refuse("redis+cluster://127.0.0.1:1", "shop", "{shop} in the place of shop");
    refuse("redis+ring://127.0.0.1:1,127.0.0.1:2", "shop", "redis+ring");
    client_init(&client);
    struct pln_l2_options options = client_options(&client, "redis+cluster://127.0.0.1:1");
    options.ns = "{shop}";
    ck_assert_int_eq(pln_l2_redis_new(&options, &client.l2), PLN_OK);
    ck_assert_int_eq(pln_l2_queue_check(client.l2), PLN_OK);
    client_fini(&client);
}
END_TEST

int main(void) {
    Suite *suite = suite_create("queue_cluster");
    TCase *tests = tcase_create("cluster");
    suite_add_tcase(suite, tests);
    tcase_add_unchecked_fixture(tests, set_up, tear_down);
    tcase_set_timeout(tests, 60);
    tcase_add_test(tests, writes_wait_beside_their_values);
    tcase_add_test(tests, writes_through_that_overlap_are_seen);
    tcase_add_test(tests, where_values_are_apart_there_is_no_queue);
    SRunner *runner = srunner_create(suite);
    srunner_set_fork_status(runner, CK_NOFORK); /* one cluster for all, and its clients' threads */
    srunner_run_all(runner, CK_ENV);
    int failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed == 0 ? 0 : 1;
}
