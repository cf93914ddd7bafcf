/* SPDX-License-Identifier: MIT
 * faults_sentinel.c - a master that sentinels watch: found, followed when it changes, and told of
 * where it cannot be. */
#include <check.h>
#include <stdio.h>

#include "../../l2/internal.h"
#include "client.h"
#include "load.h"
#include "sentinels.h"

static struct test_sentinels set;
static struct client a;
static struct load load;
static char url[256];

static void make_url(const char *service) {
    size_t len = (size_t) snprintf(url, sizeof url, "redis+sentinel://");
    for (size_t i = 0; i < set.n_sentinels; i++) {
        len += (size_t) snprintf(url + len, sizeof url - len, "%s127.0.0.1:%d", i > 0 ? "," : "",
                                 set.sentinels[i].port);
    }
    snprintf(url + len, sizeof url - len, "/%s", service);
}

static void open_client(struct client *client) {
    client_init(client);
    struct pln_l2_options options = client_options(client, url);
    ck_assert_msg(pln_l2_redis_new(&options, &client->l2) == PLN_OK, "%s", pln_error_text());
}

static void set_up(void) {
    test_sentinels_start(&set, 2, 3, 2);
    make_url(TEST_SERVICE);
    open_client(&a);
}

static void tear_down(void) {
    client_fini(&a);
    test_sentinels_stop(&set);
}

static int store(struct client *client, const char *key, const char *text) {
    struct pln_hashed hashed = key_of(key);
    struct pln_l2_item item = item_of(text);
    return pln_l2_set(client->l2, &hashed, &item, 0, soon());
}

static void start(void) {
    ck_assert_int_eq(pln_l2_start(a.l2), PLN_OK);
    ck_assert_msg(client_hears(&a, "+"), "%s", a.log);
    expect_story(&a, "+");
}

START_TEST(the_master_is_found_at_the_first_command) {
    ck_assert_msg(store(&a, "key", "text") == PLN_OK, "%s", pln_error_text());
    expect_text(&a, "key", "text");
    redisReply *reply = test_node_ask(&set.servers[test_sentinels_primary(&set, 0)],
                                      "EXISTS ns:v:key");
    ck_assert_int_eq(reply->integer, 1);
    freeReplyObject(reply);
}
END_TEST

START_TEST(a_switch_is_followed_though_the_old_master_lives) {
    start();
    ck_assert_int_eq(store(&a, "key", "before"), PLN_OK);
    size_t now = test_sentinels_failover(&set);
    ck_assert_msg(client_hears(&a, "- +"), "%s; %s", a.story, a.log);
    ck_assert_msg(store(&a, "key", "after") == PLN_OK, "%s", pln_error_text());
    expect_text(&a, "key", "after");
    redisReply *reply = test_node_ask(&set.servers[now], "STRLEN ns:v:key");
    ck_assert_int_gt(reply->integer, 0);
    freeReplyObject(reply);
    ck_assert(client_logs(&a, "the master of 'mymaster' is now at"));
}
END_TEST

START_TEST(a_dead_master_costs_the_switch_and_no_wrong_answer) {
    start();
    load = (struct load){.l2 = a.l2, .n_threads = 4};
    load_set_patience(&load, 500);
    load_start(&load);
    load_await_ok(&load, 200);
    load_let_fail_over(&load); /* replication is asynchronous */
    size_t dead = test_sentinels_kill_primary(&set);
    ck_assert_msg(client_hears(&a, "-"), "%s", a.log);
    test_sentinels_await_switch(&set, dead);
    ck_assert_msg(client_hears(&a, " +"), "%s", a.log);
    load_await_ok(&load, 1000);
    long failed_before = load_count(&load, PLN_EL2DOWN) + load_count(&load, PLN_ETIMEOUT);
    load_await_ok(&load, 1000);
    ck_assert_msg(load_count(&load, PLN_EL2DOWN) + load_count(&load, PLN_ETIMEOUT) == failed_before,
                  "%s", load.failure);
    load_stop(&load);
    load_check(&load);
    /* it comes back as the master it once was: nobody takes it for one */
    test_sentinels_rejoin(&set, dead);
    ck_assert_int_eq(store(&a, "key", "text"), PLN_OK);
    expect_text(&a, "key", "text");
}
END_TEST

START_TEST(dead_sentinels_are_passed_over) {
    test_node_kill(&set.sentinels[0]);
    test_node_kill(&set.sentinels[1]);
    ck_assert_msg(store(&a, "key", "text") == PLN_OK, "%s", pln_error_text());
}
END_TEST

START_TEST(others_are_learnt_from_the_one_that_is_given) {
    client_fini(&a);
    snprintf(url, sizeof url, "redis+sentinel://127.0.0.1:%d/%s", set.sentinels[0].port,
             TEST_SERVICE);
    open_client(&a);
    start();
    ck_assert_int_eq(store(&a, "key", "text"), PLN_OK);
    test_node_kill(&set.sentinels[0]);
    size_t dead = test_sentinels_kill_primary(&set);
    test_sentinels_await_switch(&set, dead);
    ck_assert_msg(client_hears(&a, "- +"), "%s; %s", a.story, a.log);
    ck_assert_int_eq(store(&a, "key", "text"), PLN_OK);
}
END_TEST

START_TEST(a_service_that_nobody_knows_is_told_by_name) {
    client_fini(&a);
    make_url("nobody");
    open_client(&a);
    ck_assert_int_eq(store(&a, "key", "text"), PLN_EL2DOWN);
    ck_assert_msg(strstr(pln_error_text(), "nobody") != NULL, "%s", pln_error_text());
    ck_assert_int_eq(pln_l2_start(a.l2), PLN_OK);
    ck_assert_msg(client_logs(&a, "knows no service 'nobody'"), "%s", a.log);
}
END_TEST

START_TEST(sentinels_may_ask_for_a_password_of_their_own) {
    client_fini(&a);
    test_node_tell(&set.sentinels[0], "ACL SETUSER default resetpass >hush");
    snprintf(url, sizeof url, "redis+sentinel://127.0.0.1:%d/%s?sentinel_password=wrong",
             set.sentinels[0].port, TEST_SERVICE);
    open_client(&a);
    ck_assert_int_eq(store(&a, "key", "text"), PLN_EL2DOWN);
    ck_assert_msg(strstr(pln_error_text(), "WRONGPASS") != NULL, "%s", pln_error_text());
    pthread_mutex_lock(&a.lock);
    ck_assert_ptr_null(strstr(a.log, "wrong;"));
    pthread_mutex_unlock(&a.lock);
    client_fini(&a);
    snprintf(url, sizeof url, "redis+sentinel://127.0.0.1:%d/%s?sentinel_password=hush",
             set.sentinels[0].port, TEST_SERVICE);
    open_client(&a);
    ck_assert_msg(store(&a, "key", "text") == PLN_OK, "%s", pln_error_text());
}
END_TEST

int main(void) {
    Suite *suite = suite_create("sentinel");
    TCase *tests = tcase_create("sentinel");
    suite_add_tcase(suite, tests);
    tcase_add_checked_fixture(tests, set_up, tear_down);
    tcase_set_timeout(tests, 120);
    tcase_add_test(tests, the_master_is_found_at_the_first_command);
    tcase_add_test(tests, a_switch_is_followed_though_the_old_master_lives);
    tcase_add_test(tests, a_dead_master_costs_the_switch_and_no_wrong_answer);
    tcase_add_test(tests, dead_sentinels_are_passed_over);
    tcase_add_test(tests, others_are_learnt_from_the_one_that_is_given);
    tcase_add_test(tests, a_service_that_nobody_knows_is_told_by_name);
    tcase_add_test(tests, sentinels_may_ask_for_a_password_of_their_own);
    SRunner *runner = srunner_create(suite);
    srunner_run_all(runner, CK_ENV);
    int failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed == 0 ? 0 : 1;
}
