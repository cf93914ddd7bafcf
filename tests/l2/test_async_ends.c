/* SPDX-License-Identifier: MIT
 * test_async_ends.c - l2/async.c, courier.c: deadlines, lost connections, crowds and the end: a get
 * ends once, with the reason why there is no answer, and no other gets what was meant for it. */
#include <check.h>
#include <sched.h>
#include <stdio.h>

#include "asks.h"

enum { SOME = 100 };

/* ---- deadlines ---- */

START_TEST(a_deadline_ends_a_get_and_its_late_answer_is_given_to_nobody) {
    fill();
    begin_some(0, 1, in_ms(20000));
    await(1);
    pln_test_redis_pause(&server);
    for (size_t i = 1; i < SOME; i++) { /* each has a deadline of its own */
        begin_some(i, 1, in_ms(20 + (int) i % 7 * 5));
        begin_some(SOME + i, 1, in_ms(20000));
    }
    await(SOME);
    expect_all(1, SOME - 1, PLN_ETIMEOUT);
    ck_assert_ptr_nonnull(strstr(asks[1].error, "no answer before the deadline"));
    ck_assert_uint_eq(client_count(&a, PLN_COUNT_L2_TIMEOUTS), SOME - 1);
    pln_test_redis_resume(&server);
    await(2 * SOME - 1);
    expect_all(SOME + 1, SOME - 1, PLN_OK);
    begin_some(0, MANY, in_ms(20000));
    await(2 * SOME - 1 + MANY);
    expect_all(0, MANY, PLN_OK);
    /* all that over one connection: the late answers came, and went nowhere */
    ck_assert_uint_eq(client_count(&a, PLN_COUNT_L2_CONNECTS), 2);
}
END_TEST

/* Begins one as soon as the breaker lets somebody try. */
static int begin_at_last(struct ask *ask, unsigned number, int patience_ms) {
    int result = PLN_EL2DOWN;
    for (pln_ns until = in_ms(10000); result == PLN_EL2DOWN && pln_clock_precise() < until;) {
        *ask = (struct ask){.left = 0};
        result = begin(ask, number, in_ms(patience_ms));
    }
    return result;
}

static int get_at_last(struct ask *ask, unsigned number) {
    int result = PLN_EL2DOWN;
    for (pln_ns until = in_ms(10000); result != PLN_OK && pln_clock_precise() < until;) {
        result = get_one(ask, number);
    }
    return result;
}

/* Nothing can be sent behind so many, so no command of the last get's own is late. */
START_TEST(a_server_that_is_silent_too_long_is_given_up) {
    struct ask ask;
    reopen(proxy.url, 100, 250);
    fill();
    ck_assert_int_eq(get_one(&ask, 1), PLN_OK);
    pln_test_redis_pause(&server);
    begin_some(0, SOME, in_ms(60000));
    begin_some(SOME, 1, in_ms(150));
    await(1 + SOME + 1);
    expect_all(SOME, 1, PLN_ETIMEOUT);
    expect_all(0, SOME, PLN_EL2DOWN);
    ck_assert_ptr_nonnull(strstr(asks[0].error, "said nothing for 100 ms"));
    pln_test_redis_resume(&server);
    ck_assert_int_eq(get_at_last(&ask, 2), PLN_OK); /* so many late ones open the breaker */
    ck_assert(ask.is_right);
}
END_TEST

START_TEST(a_silent_server_is_given_up_for_what_was_not_sent) {
    struct ask ask;
    reopen(server.url, 3000, 250); /* all are begun within a third of it */
    fill();
    ck_assert_int_eq(get_one(&ask, 1), PLN_OK);
    pln_test_redis_pause(&server);
    begin_some(0, 4096, in_ms(1000));
    await(1 + 4096);
    expect_all(0, 4096, PLN_ETIMEOUT);
    ck_assert_msg(begin_at_last(&ask, 1, 6000) == PLN_OK, "%s", pln_error_text());
    await(1 + 4096 + 1);
    ck_assert_int_eq(ask.status, PLN_ETIMEOUT);
    pln_test_redis_resume(&server);
    ck_assert_int_eq(get_at_last(&ask, 2), PLN_OK);
    ck_assert_uint_eq(client_count(&a, PLN_COUNT_L2_CONNECTS), 3);
}
END_TEST

START_TEST(a_deadline_that_has_passed_is_refused) {
    ck_assert_int_eq(begin(&asks[0], 0, in_ms(0)), PLN_ETIMEOUT);
}
END_TEST

static long times_asked(void) {
    char *stats = pln_test_redis_command(&server, "INFO commandstats");
    const char *times = strstr(stats, "cmdstat_time:calls=");
    long n = times == NULL ? 0 : strtol(times + strlen("cmdstat_time:calls="), NULL, 10);
    free(stats);
    return n;
}

/* On a connection that is never idle: its answers come a byte at a time. */
START_TEST(the_clock_of_the_server_is_asked_for_meanwhile) {
    struct ask ask;
    reopen(proxy.url, 60000, 20);
    fill();
    ck_assert_int_eq(get_one(&ask, 1), PLN_OK);
    long before = times_asked();
    pln_test_proxy_drip(&proxy, true);
    begin_some(0, MANY, in_ms(60000));
    size_t n = MANY;
    while (times_asked() == before && n < MOST_ASKS / 2) {
        begin_some(n++, 1, in_ms(60000));
    }
    ck_assert_int_gt(times_asked(), before);
    ck_assert_uint_lt(how_many_ended(), MANY); /* never idle so far */
    pln_test_proxy_drip(&proxy, false);
    await(1 + n);
    expect_all(0, n, PLN_OK);
}
END_TEST

/* ---- ends ---- */

START_TEST(a_killed_server_ends_all_at_once) {
    struct ask ask;
    fill();
    ck_assert_int_eq(get_one(&ask, 1), PLN_OK);
    pln_test_redis_pause(&server);
    begin_some(0, MANY, in_ms(600000));
    pln_test_redis_kill(&server);
    await(1 + MANY);
    expect_all(0, MANY, PLN_EL2DOWN);
    int result = PLN_OK;
    for (int i = 0; i < 3; i++) {
        result = get_one(&ask, 1);
        ck_assert_int_eq(result, PLN_EL2DOWN);
    }
    ck_assert_msg(client_logs(&a, "commands fail at once"), "%s", a.log);
    pln_test_redis_restart(&server);
    for (pln_ns until = in_ms(10000); result != PLN_MISS && pln_clock_precise() < until;) {
        result = get_one(&ask, 1); /* nothing is left in it */
    }
    ck_assert_int_eq(result, PLN_MISS);
}
END_TEST

START_TEST(an_answer_nobody_asked_for_ends_the_connection) {
    struct ask ask;
    reopen(proxy.url, 5000, 250);
    fill();
    ck_assert_int_eq(get_one(&ask, 1), PLN_OK);
    pln_test_redis_pause(&server);
    uint64_t before = client_count(&a, PLN_COUNT_L2_COMMANDS);
    begin_some(0, 1, in_ms(60000));
    while (client_count(&a, PLN_COUNT_L2_COMMANDS) == before) {
        sched_yield(); /* until it is sent */
    }
    pln_test_proxy_say(&proxy, "$1\r\nx\r\n$3\r\nfor\r\n+nobody\r\n");
    await(2);
    expect_all(0, 1, PLN_MISS);
    pln_test_redis_resume(&server);
    for (unsigned i = 0; i < SOME; i++) {
        ck_assert_int_eq(get_one(&ask, i), PLN_OK);
        ck_assert(ask.is_right);
    }
    ck_assert_uint_eq(client_count(&a, PLN_COUNT_L2_CONNECTS), 3);
}
END_TEST

START_TEST(nonsense_ends_the_connection) {
    static const char *const nonsense[] = {"?",       "$-2\r\n", "$x\r\n", "HTTP/1.1 400\r\n",
                                           "*-7\r\n", "$\r\n"};
    struct ask ask;
    reopen(proxy.url, 20000, 60000); /* TIME is not asked for, and counted, between */
    fill();
    ck_assert_int_eq(get_one(&ask, 1), PLN_OK);
    uint64_t before = client_count(&a, PLN_COUNT_L2_COMMANDS);
    pln_test_redis_pause(&server);
    begin_some(0, 2, in_ms(60000));
    while (client_count(&a, PLN_COUNT_L2_COMMANDS) < before + 2) {
        sched_yield();
    }
    pln_test_proxy_say(&proxy, nonsense[_i]);
    await(3);
    expect_all(0, 2, PLN_EL2DOWN);
    pln_test_redis_resume(&server);
    ck_assert_int_eq(get_one(&ask, 1), PLN_OK);
    ck_assert(ask.is_right);
}
END_TEST

START_TEST(a_replica_that_has_lost_its_master_is_left) {
    struct ask ask;
    fill();
    ck_assert_int_eq(get_one(&ask, 1), PLN_OK);
    command("CONFIG SET replica-serve-stale-data no");
    command("REPLICAOF 127.0.0.1 1");
    ask = (struct ask){.left = 1}; /* the next is begun when the first is refused */
    ck_assert_int_eq(begin(&ask, 1, in_ms(60000)), PLN_OK);
    await(2);
    ck_assert_uint_eq(ask.n_ended, 2);
    ck_assert_uint_ge(client_count(&a, PLN_COUNT_L2_ERRORS), 1);
    ck_assert_int_eq(ask.status, PLN_EL2DOWN);
    ck_assert_msg(strstr(ask.error, "refused") != NULL, "%s", ask.error);
}
END_TEST

START_TEST(more_than_the_bounds_is_refused) {
    struct ask ask;
    size_t n = 0;
    int result = PLN_OK;
    fill();
    ck_assert_int_eq(get_one(&ask, 1), PLN_OK);
    pln_test_redis_pause(&server);
    while (n < PLN_ARRAY_LEN(asks) && result == PLN_OK) {
        asks[n] = (struct ask){.left = 0};
        result = begin(&asks[n], (unsigned) n, in_ms(60000));
        n += result == PLN_OK;
    }
    ck_assert_int_eq(result, PLN_EBUSY);
    ck_assert_ptr_nonnull(strstr(pln_error_text(), "4096 asynchronous commands wait"));
    ck_assert_uint_ge(n, 4096);
    ck_assert_uint_le(n, 8192 + 1);
    pln_test_redis_resume(&server);
    await(1 + n);
    expect_all(0, n, PLN_OK);
}
END_TEST

START_TEST(closing_ends_what_is_in_flight) {
    struct ask ask;
    fill();
    ck_assert_int_eq(get_one(&ask, 1), PLN_OK);
    pln_test_redis_pause(&server);
    begin_some(0, MANY, in_ms(600000));
    for (size_t i = 0; i < MANY; i++) {
        asks[i].left = i % 2; /* some try to go on, and are told not to */
    }
    pln_l2_close(a.l2);
    a.l2 = NULL;
    ck_assert_uint_eq(n_ended, 1 + MANY);
    expect_all(0, MANY, PLN_EL2DOWN);
    ck_assert_ptr_nonnull(strstr(asks[0].error, "closed"));
}
END_TEST

int main(void) {
    Suite *suite = suite_create("async_ends");
    TCase *tests = tcase_create("async_ends");
    suite_add_tcase(suite, tests);
    tcase_add_checked_fixture(tests, asks_set_up, asks_tear_down);
    tcase_set_timeout(tests, 60);
    tcase_add_test(tests, a_deadline_ends_a_get_and_its_late_answer_is_given_to_nobody);
    tcase_add_test(tests, a_server_that_is_silent_too_long_is_given_up);
    tcase_add_test(tests, a_silent_server_is_given_up_for_what_was_not_sent);
    tcase_add_test(tests, a_deadline_that_has_passed_is_refused);
    tcase_add_test(tests, the_clock_of_the_server_is_asked_for_meanwhile);
    tcase_add_test(tests, a_killed_server_ends_all_at_once);
    tcase_add_test(tests, an_answer_nobody_asked_for_ends_the_connection);
    tcase_add_loop_test(tests, nonsense_ends_the_connection, 0, 6);
    tcase_add_test(tests, a_replica_that_has_lost_its_master_is_left);
    tcase_add_test(tests, more_than_the_bounds_is_refused);
    tcase_add_test(tests, closing_ends_what_is_in_flight);
    SRunner *runner = srunner_create(suite);
    srunner_run_all(runner, CK_ENV);
    int failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed == 0 ? 0 : 1;
}
