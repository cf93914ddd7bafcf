/* SPDX-License-Identifier: MIT
 * faults_time.c - clocks that jump, the host's and the server's; and writes that arrive when their
 * callers have long gone. */
#include "faults.h"

#include <stdio.h>

#include "fake.h"
#include "proxy.h"
#include "server.h"

static struct server server;
static struct proxy proxy;
static struct fake fake;
static struct client a;
static struct load load;

static void set_up(void) {
    pln_test_redis_start(&server, NULL);
    pln_test_proxy_start(&proxy, server.path);
    pln_test_fake_start(&fake);
}

static void tear_down(void) {
    pln_test_fake_stop(&fake);
    pln_test_proxy_stop(&proxy);
    pln_test_redis_stop(&server);
}

static void begin(const char *url, int patience_ms) {
    faults_open(&a, url, 2);
    ck_assert_int_eq(pln_l2_start(a.l2), PLN_OK);
    ck_assert(client_hears(&a, "+"));
    load = (struct load){.l2 = a.l2, .patience_ms = patience_ms, .n_threads = 4};
    load_start(&load);
    load_await_ok(&load, 200);
}

/* Deadlines, backoffs and heartbeats are of the monotonic clock; the host's own may say anything.
 */
START_TEST(the_hosts_clock_may_jump_and_nobody_notices) {
    static const pln_ms jumps[] = {0, 86400000LL * 365 * 50, 5, -86400000LL, INT64_MAX, 1000};
    begin(server.url, 5000);
    for (size_t i = 0; i < PLN_ARRAY_LEN(jumps); i++) {
        a.now = jumps[i]; /* a race only where somebody reads it */
        load_await_ok(&load, 200);
        faults_nap(20);
    }
    load_stop(&load);
    ck_assert_int_eq(load.n_ok, load.n_calls);
    load_check(&load);
    expect_story(&a, "+");
    client_fini(&a);
}
END_TEST

static const char in_2001[] = "*2\r\n$9\r\n999999999\r\n$1\r\n0\r\n";
static const char in_2100[] = "*2\r\n$10\r\n4102444800\r\n$1\r\n0\r\n";

static int read_item(struct pln_l2_item *item) {
    struct pln_hashed key = key_of("a");
    struct pln_l2_value value = {0};
    int result = pln_l2_get(a.l2, &key, soon(), &value);
    *item = value.item;
    pln_l2_value_fini(&value);
    return result;
}

/* The values lie there since today, for two hours; the server's clock then goes back for years. */
START_TEST(a_server_whose_clock_goes_back_gives_no_value_longer_than_its_life) {
    struct pln_l2_item item;
    pln_test_fake_rule(&fake, (struct fake_rule){"TIME", 0, 0, in_2001});
    faults_open(&a, fake.url, 1);
    ck_assert_int_eq(read_item(&item), PLN_OK);
    ck_assert_int_ge(item.age, 0);
    ck_assert_int_le(item.fresh_left, 3600000);
    ck_assert_int_le(item.life_left, 7200000);
    client_fini(&a);
}
END_TEST

START_TEST(a_server_whose_clock_goes_ahead_has_misses_until_it_is_right) {
    struct pln_l2_item item;
    pln_test_fake_rule(&fake, (struct fake_rule){"TIME", 0, 0, in_2100});
    faults_open(&a, fake.url, 1);
    ck_assert_int_eq(read_item(&item), PLN_MISS);
    pln_test_fake_forget_rules(&fake);
    pln_ns until = faults_in(10000);
    while (read_item(&item) != PLN_OK) { /* it is asked for the time now and then */
        ck_assert(pln_clock_precise() < until);
        faults_nap(10);
    }
    ck_assert_int_le(item.life_left, 7200000);
    client_fini(&a);
}
END_TEST

/* Bytes that the network keeps, and delivers when their callers have given up and written anew:
 * the server has been told to close the door on them. */
START_TEST(writes_that_come_late_under_load_undo_nothing) {
    begin(proxy.url, 60);
    for (int i = 0; i < 8; i++) {
        pln_test_proxy_hold(&proxy);
        load_await(&load, PLN_ETIMEOUT, 3);
        load_await_ok(&load, 200); /* over new connections */
        pln_test_proxy_release(&proxy);
        load_await_ok(&load, 200);
    }
    load_stop(&load);
    load_check(&load);
    char *stats = pln_test_redis_command(&server, "INFO commandstats");
    ck_assert_ptr_nonnull(strstr(stats, "client|kill:calls="));
    free(stats);
    client_fini(&a);
}
END_TEST

/* The link has an end of its own: it is stopped while it waits for answers that do not come. */
static const char *const steps[] = {"PING", "INFO", "SUBSCRIBE", "SCRIPT", "PUBLISH", "EVALSHA"};

START_TEST(a_close_ends_a_link_that_waits_for_its_server) {
    pln_test_fake_rule(&fake, (struct fake_rule){steps[_i], 0, 0, "", .len = 0, .end = FAKE_STALL});
    faults_open(&a, fake.url, 1);
    ck_assert_int_eq(pln_l2_start(a.l2), PLN_OK);
    pln_ns until = faults_in(10000);
    while (pln_test_fake_met(&fake, 0) == 0) {
        ck_assert(pln_clock_precise() < until);
        faults_nap(1);
    }
    client_fini(&a); /* or the test's own time is over */
    until = faults_in(10000);
    while (pln_test_fake_open(&fake) > 0) {
        ck_assert_msg(pln_clock_precise() < until, "a connection stays open after the close");
        faults_nap(1);
    }
}
END_TEST

int main(void) {
    Suite *suite = suite_create("time");
    TCase *tests = faults_case(suite, set_up, tear_down);
    tcase_add_test(tests, the_hosts_clock_may_jump_and_nobody_notices);
    tcase_add_test(tests, a_server_whose_clock_goes_back_gives_no_value_longer_than_its_life);
    tcase_add_test(tests, a_server_whose_clock_goes_ahead_has_misses_until_it_is_right);
    tcase_add_test(tests, writes_that_come_late_under_load_undo_nothing);
    tcase_add_loop_test(tests, a_close_ends_a_link_that_waits_for_its_server, 0,
                        PLN_ARRAY_LEN(steps));
    return faults_run(suite);
}
