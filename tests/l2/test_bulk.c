/* SPDX-License-Identifier: MIT
 * test_bulk.c - l2/node.c's second pool: commands that take long have connections of their own.
 * What takes long here is BLPOP, which keeps one connection waiting and nobody else at the server.
 */
#include <check.h>
#include <stdio.h>
#include <time.h>

#include "client.h"
#include "server.h"

static struct server server;
static struct client a;

/* One connection in each pool. */
static void set_up(void) {
    pln_test_redis_start(&server, NULL);
    client_init(&a);
    struct pln_l2_options options = client_options(&a, server.url);
    options.pool = options.bulk_pool = 1;
    options.timeout_ms = 100;
    ck_assert_msg(pln_l2_redis_new(&options, &a.l2) == PLN_OK, "%s", pln_error_text());
}

static void tear_down(void) {
    client_fini(&a);
    pln_test_redis_stop(&server);
}

static pln_ns in_ms(int ms) {
    return pln_clock_precise() + ms * 1000000LL;
}

/* A pop from a list that nobody has filled yet. */
struct pop {
    pthread_t thread;
    const char *list;
    pln_ns deadline;
    int status;
};

static void *pop(void *arg) {
    struct pop *pop = arg;
    struct pln_reply *reply = NULL;
    struct pln_bytes list = pln_key(pop->list);
    struct pln_bytes words[] = {pln_key("BLPOP"), list, pln_key("60")};
    pop->status = pln_l2_command(a.l2, &list, words, PLN_ARRAY_LEN(words), pop->deadline, &reply);
    if (pop->status == PLN_OK) {
        pln_reply_free(reply);
    }
    return NULL;
}

static void pop_begin(struct pop *begun, const char *list, int ms) {
    *begun = (struct pop){.list = list, .deadline = in_ms(ms)};
    ck_assert_int_eq(pthread_create(&begun->thread, NULL, pop, begun), 0);
}

static int pop_end(struct pop *begun) {
    pthread_join(begun->thread, NULL);
    return begun->status;
}

/* Waits until the server's INFO, or list of clients, says so. */
static void await_server(const char *command, const char *part) {
    pln_ns until = in_ms(20000);
    bool is_so = false;
    while (!is_so) {
        char *text = pln_test_redis_command(&server, "%s", command);
        is_so = strstr(text, part) != NULL;
        free(text);
        ck_assert_msg(pln_clock_precise() < until, "%s never says %s", command, part);
    }
}

static unsigned connections(void) {
    struct pln_l2_health health;
    pln_l2_health(a.l2, &health);
    return health.connections;
}

START_TEST(a_command_that_takes_long_keeps_no_value_waiting) {
    struct pop popping;
    struct pln_hashed key = key_of("k");
    struct pln_l2_item item = item_of("v");
    struct pln_l2_lease lease;
    ck_assert_int_eq(pln_l2_set(a.l2, &key, &item, 0, soon()), PLN_OK);
    ck_assert_uint_eq(connections(), 1); /* the other pool is made when it is used */
    pop_begin(&popping, "k", 60000);
    await_server("INFO clients", "blocked_clients:1");
    ck_assert_uint_eq(connections(), 2);
    for (int i = 0; i < 100; i++) {
        expect_text(&a, "k", "v");
    }
    ck_assert_int_eq(pln_l2_remove(a.l2, &key, soon()), PLN_OK);
    ck_assert_int_eq(pln_l2_lease(a.l2, &key, 1000, soon(), &lease), PLN_OK);
    ck_assert_int_eq(pln_l2_commit(a.l2, &key, &lease, &item, soon()), PLN_OK);
    await_server("INFO clients", "blocked_clients:1"); /* all the while */
    free(pln_test_redis_command(&server, "RPUSH k x"));
    ck_assert_int_eq(pop_end(&popping), PLN_OK);
}
END_TEST

START_TEST(commands_that_fail_leave_the_breaker_of_values_closed) {
    struct pln_l2_health health;
    struct pln_hashed key = key_of("k");
    struct pln_l2_item item = item_of("v");
    struct pop popping;
    int status = PLN_ETIMEOUT;
    ck_assert_int_eq(pln_l2_set(a.l2, &key, &item, 0, soon()), PLN_OK);
    for (int i = 0; i < 10 && status == PLN_ETIMEOUT; i++) {
        pop_begin(&popping, "empty", 20);
        status = pop_end(&popping);
    }
    ck_assert_int_eq(status, PLN_EL2DOWN); /* its own has opened */
    pln_l2_health(a.l2, &health);
    ck_assert(!health.breaker_open);
    expect_text(&a, "k", "v");
}
END_TEST

START_TEST(one_callers_short_deadline_ends_no_others_long_command) {
    struct pop first, hasty, patient;
    pop_begin(&first, "first", 60000);
    await_server("INFO clients", "blocked_clients:1");
    /* these two queue behind it and are sent together, and the hasty one waits for the answers */
    pop_begin(&hasty, "empty", 1500);
    nanosleep(&(struct timespec){.tv_nsec = 50000000}, NULL); /* for its place before the other */
    pop_begin(&patient, "full", 60000);
    nanosleep(&(struct timespec){.tv_nsec = 50000000}, NULL);
    free(pln_test_redis_command(&server, "RPUSH first x"));
    ck_assert_int_eq(pop_end(&first), PLN_OK);
    ck_assert_int_eq(pop_end(&hasty), PLN_ETIMEOUT); /* the connection was silent for a second */
    free(pln_test_redis_command(&server, "RPUSH full x"));
    free(pln_test_redis_command(&server, "RPUSH empty x"));
    ck_assert_int_eq(pop_end(&patient), PLN_OK);
}
END_TEST

START_TEST(a_number_of_connections_out_of_bounds_is_named) {
    struct client b;
    client_init(&b);
    struct pln_l2_options options = client_options(&b, server.url);
    options.bulk_pool = 257;
    ck_assert_int_eq(pln_l2_redis_new(&options, &b.l2), PLN_EINVAL);
    ck_assert_str_eq(pln_error_text(), "bulk_pool: 257 connections, 256 at most");
    client_fini(&b);
}
END_TEST

int main(void) {
    Suite *suite = suite_create("bulk");
    TCase *tests = tcase_create("bulk");
    suite_add_tcase(suite, tests);
    tcase_add_checked_fixture(tests, set_up, tear_down);
    tcase_set_timeout(tests, 90);
    tcase_add_test(tests, a_command_that_takes_long_keeps_no_value_waiting);
    tcase_add_test(tests, commands_that_fail_leave_the_breaker_of_values_closed);
    tcase_add_test(tests, one_callers_short_deadline_ends_no_others_long_command);
    tcase_add_test(tests, a_number_of_connections_out_of_bounds_is_named);
    SRunner *runner = srunner_create(suite);
    srunner_run_all(runner, CK_ENV);
    int failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed == 0 ? 0 : 1;
}
