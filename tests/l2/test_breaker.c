/* SPDX-License-Identifier: MIT
 * test_breaker.c - l2/breaker.c: when it opens, who may try, what closes it, what is told. */
#include <check.h>
#include <poll.h>

#include "../../l2/internal.h"
#include "client.h"

static struct client client;
static struct pln_breaker breaker;
static uint64_t n_answered;

static void set_up(void) {
    client_init(&client);
    breaker = (struct pln_breaker){.host = &client.host, .counts = client.counts};
    pln_breaker_init(&breaker);
    n_answered = 1000; /* of better days */
}

static void tear_down(void) {
    pln_breaker_fini(&breaker);
    client_fini(&client);
}

static void answer(void) {
    n_answered++;
    pln_breaker_praise(&breaker, "here");
}

static void end(enum pln_outcome outcome, uint32_t probe) {
    struct pln_turn_end turn = {outcome, probe, outcome == PLN_LATE, n_answered};
    pln_fail(PLN_EL2DOWN, "it is away");
    pln_breaker_end(&breaker, &turn, "here");
}

static void be_late(void) {
    end(PLN_LATE, 0);
}

static bool is_open(void) {
    return pln_breaker_is_open(&breaker);
}

/* Waits for the right to try. */
static uint32_t claim(void) {
    uint32_t probe;
    pln_ns until = pln_clock_precise() + 20000000000;
    while (pln_breaker_claim(&breaker, &probe) != PLN_OK) {
        ck_assert(pln_clock_precise() < until);
        poll(NULL, 0, 1);
    }
    return probe;
}

static size_t logged(const char *part) {
    size_t n = 0;
    for (const char *at = client.log; (at = strstr(at, part)) != NULL; at += strlen(part)) {
        n++;
    }
    return n;
}

START_TEST(a_refusal_opens_it_at_once_and_five_failures_in_a_row_do) {
    end(PLN_REFUSED, 0);
    ck_assert(is_open());
    ck_assert_int_eq(pln_breaker_admit(&breaker), PLN_EL2DOWN);
    ck_assert_ptr_nonnull(strstr(pln_error_text(), "it is away; not tried again before"));
    answer();
    ck_assert(!is_open());
    for (int i = 0; i < 4; i++) {
        end(PLN_BROKEN, 0);
    }
    ck_assert(!is_open());
    answer(); /* it is no row any more */
    for (int i = 0; i < 4; i++) {
        be_late();
    }
    ck_assert(!is_open());
    end(PLN_BROKEN, 0);
    ck_assert(is_open());
    ck_assert_uint_eq(client_count(&client, PLN_COUNT_L2_BREAKS), 2);
}
END_TEST

START_TEST(half_of_twenty_that_are_late_open_it) {
    for (int i = 0; i < 9; i++) {
        be_late();
        answer();
    }
    be_late();
    ck_assert(!is_open()); /* 19 */
    be_late();
    ck_assert(is_open());
    ck_assert_ptr_nonnull(strstr(client.log, "11 of the last 20 commands not answered in time"));
}
END_TEST

START_TEST(less_than_half_do_not_open_it) {
    for (int i = 0; i < 300; i++) {
        be_late();
        answer();
        answer();
    }
    ck_assert(!is_open());
}
END_TEST

/* What was under way when it opened may still be answered, but not by a server that is well. */
START_TEST(opened_for_a_share_it_hears_no_answer_before_the_first_try) {
    while (!is_open()) {
        be_late();
        answer();
        be_late();
    }
    ck_assert_int_eq(breaker.deaf_until, breaker.retry_at);
    breaker.retry_at = breaker.deaf_until = pln_clock_precise() + 60000000000;
    answer();
    ck_assert(is_open());
    breaker.retry_at = breaker.deaf_until = pln_clock_precise();
    uint32_t probe = claim();
    ck_assert_uint_ne(probe, 0);
    answer();
    ck_assert(!is_open());
    be_late(); /* what was before counts no more */
    ck_assert(!is_open());
}
END_TEST

START_TEST(one_tries_at_a_time) {
    uint32_t other;
    end(PLN_REFUSED, 0);
    uint32_t probe = claim();
    ck_assert_uint_ne(probe, 0);
    breaker.retry_at = 0;
    ck_assert_int_eq(pln_breaker_claim(&breaker, &other), PLN_EL2DOWN);
    ck_assert_ptr_nonnull(strstr(pln_error_text(), "being tried at this moment"));
    ck_assert_int_eq(pln_breaker_admit(&breaker), PLN_EL2DOWN);
    end(PLN_REFUSED, probe);
    ck_assert(is_open());
    probe = claim();
    end(PLN_ANSWERED, probe);
    ck_assert(!is_open());
    ck_assert_int_eq(pln_breaker_claim(&breaker, &other), PLN_OK);
    ck_assert_uint_eq(other, 0);
}
END_TEST

/* Over a connection that another leads nobody claims, but not everybody is let through either. */
START_TEST(of_those_who_queue_one_is_admitted_at_a_time) {
    end(PLN_REFUSED, 0);
    breaker.backoff = 2000000000;
    breaker.retry_at = 0;
    ck_assert_int_eq(pln_breaker_admit(&breaker), PLN_OK);
    ck_assert_int_eq(pln_breaker_admit(&breaker), PLN_EL2DOWN);
    ck_assert(is_open());
}
END_TEST

START_TEST(an_old_try_decides_nothing) {
    end(PLN_REFUSED, 0);
    uint32_t old = claim();
    answer(); /* of another */
    ck_assert(!is_open());
    end(PLN_REFUSED, 0);
    ck_assert(is_open());
    end(PLN_ANSWERED, old);
    ck_assert(is_open());
    uint32_t probe = claim();
    ck_assert_uint_ne(probe, old);
    end(PLN_ANSWERED, probe);
    ck_assert(!is_open());
}
END_TEST

START_TEST(a_server_that_comes_and_goes_is_told_of_now_and_then) {
    for (int i = 0; i < 100; i++) {
        end(PLN_REFUSED, 0);
        answer();
    }
    ck_assert_uint_eq(logged("commands fail at once"), 1);
    ck_assert_uint_eq(logged("answers again"), 1);
    breaker.hush.quiet_until = 0; /* seconds later */
    end(PLN_REFUSED, 0);
    ck_assert_uint_eq(logged("(99 more times went untold)"), 1);
    answer();
    ck_assert_uint_eq(logged("answers again"), 2);
    end(PLN_REFUSED, 0);
    ck_assert_uint_eq(logged("commands fail at once"), 2);
    /* it stays away, so that is said at a later try */
    breaker.hush.quiet_until = 0;
    end(PLN_REFUSED, claim());
    ck_assert_uint_eq(logged("commands fail at once"), 3);
    end(PLN_REFUSED, claim());
    ck_assert_uint_eq(logged("commands fail at once"), 3);
    answer();
    ck_assert_uint_eq(logged("answers again"), 3);
}
END_TEST

int main(void) {
    Suite *suite = suite_create("breaker");
    TCase *tests = tcase_create("breaker");
    suite_add_tcase(suite, tests);
    tcase_add_checked_fixture(tests, set_up, tear_down);
    tcase_set_timeout(tests, 60);
    tcase_add_test(tests, a_refusal_opens_it_at_once_and_five_failures_in_a_row_do);
    tcase_add_test(tests, half_of_twenty_that_are_late_open_it);
    tcase_add_test(tests, less_than_half_do_not_open_it);
    tcase_add_test(tests, opened_for_a_share_it_hears_no_answer_before_the_first_try);
    tcase_add_test(tests, one_tries_at_a_time);
    tcase_add_test(tests, of_those_who_queue_one_is_admitted_at_a_time);
    tcase_add_test(tests, an_old_try_decides_nothing);
    tcase_add_test(tests, a_server_that_comes_and_goes_is_told_of_now_and_then);
    SRunner *runner = srunner_create(suite);
    srunner_run_all(runner, CK_ENV);
    int failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed == 0 ? 0 : 1;
}
