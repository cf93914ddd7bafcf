/* SPDX-License-Identifier: MIT
 * test_removes.c - l2/removes.c: removals that meet on a connection go as one command, and each
 * caller fares as if it were alone. */
#include <check.h>
#include <poll.h>
#include <stdio.h>

#include "../../l2/internal.h"
#include "client.h"
#include "proxy.h"
#include "server.h"

static struct server server;
static struct proxy proxy;
static struct client a;

static void set_up(void) {
    pln_test_redis_start(&server, NULL);
    pln_test_proxy_start(&proxy, server.path);
    client_init(&a);
    struct pln_l2_options options = client_options(&a, proxy.url);
    options.pool = 1;                             /* every key shares it */
    options.timeout_ms = options.ping_ms = 60000; /* nor is TIME asked for between */
    ck_assert_msg(pln_l2_redis_new(&options, &a.l2) == PLN_OK, "%s", pln_error_text());
}

static void tear_down(void) {
    client_fini(&a);
    pln_test_proxy_stop(&proxy);
    pln_test_redis_stop(&server);
}

/* A thread that does one thing to one key. */
struct caller {
    pthread_t thread;
    char key[24];
    int patience_ms;
    int result;
    char error[200];
};

static pln_ns until(const struct caller *caller) {
    return pln_clock_precise() + caller->patience_ms * 1000000LL;
}

static void *set_key(void *arg) {
    struct caller *caller = arg;
    struct pln_hashed key = key_of(caller->key);
    struct pln_l2_item item = item_of("text");
    caller->result = pln_l2_set(a.l2, &key, &item, 0, until(caller));
    return NULL;
}

static void *read_key(void *arg) {
    struct caller *caller = arg;
    struct pln_hashed key = key_of(caller->key);
    struct pln_l2_value value;
    caller->result = pln_l2_get(a.l2, &key, until(caller), &value);
    if (caller->result == PLN_OK) {
        pln_l2_value_fini(&value);
    }
    return NULL;
}

static void *remove_key(void *arg) {
    struct caller *caller = arg;
    struct pln_hashed key = key_of(caller->key);
    caller->result = pln_l2_remove(a.l2, &key, until(caller));
    snprintf(caller->error, sizeof caller->error, "%s", pln_error_text());
    return NULL;
}

static void begin(struct caller *caller, void *(*run)(void *), unsigned number, int patience_ms) {
    *caller = (struct caller){.patience_ms = patience_ms};
    snprintf(caller->key, sizeof caller->key, "key %u", number);
    ck_assert_int_eq(pthread_create(&caller->thread, NULL, run, caller), 0);
}

static void end(struct caller *caller) {
    pthread_join(caller->thread, NULL);
}

static void fill(unsigned n) {
    for (unsigned i = 0; i < n; i++) {
        struct caller caller;
        begin(&caller, set_key, i, 5000);
        end(&caller);
        ck_assert_int_eq(caller.result, PLN_OK);
    }
}

static struct pln_line *line(void) {
    return &pln_redis_of(a.l2)->nodes[0]->pool.slots[0].line;
}

/* Waits until so many are in flight, and so many queue. */
static void await(size_t n_in_flight, size_t n_queued) {
    pln_ns deadline = pln_clock_precise() + 10000000000;
    bool is_so = false;
    while (!is_so) {
        ck_assert_msg(pln_clock_precise() < deadline, "%zu in flight, %zu queued, not %zu and %zu",
                      line()->n_in_flight, line()->n_queued, n_in_flight, n_queued);
        poll(NULL, 0, 1);
        pthread_mutex_lock(&line()->lock);
        is_so = line()->n_in_flight == n_in_flight && line()->n_queued == n_queued;
        pthread_mutex_unlock(&line()->lock);
    }
}

static long messages_of_server(void) {
    char *stats = pln_test_redis_command(&server, "INFO commandstats");
    const char *at = strstr(stats, "cmdstat_publish:calls=");
    long n = at == NULL ? 0 : atol(at + strlen("cmdstat_publish:calls="));
    free(stats);
    return n;
}

/* The connection is held, and a reader has it, of a key that is not there: it asks once. */
static void begin_leader(struct caller *caller) {
    pln_test_proxy_hold(&proxy);
    begin(caller, read_key, 100, 60000);
    await(1, 0);
}

/* The reader is answered; the next sends all that wait, and that is held. */
static void end_leader(struct caller *caller, size_t n_waiting) {
    await(1, n_waiting);
    pln_test_proxy_pass(&proxy);
    end(caller);
    ck_assert_int_eq(caller->result, PLN_MISS);
    await(n_waiting, 0);
}

/* A reader has the connection, which is held, and 40 removals wait, with a set among them. */
static void let_meet(struct caller callers[42]) {
    fill(41);
    pln_test_proxy_hold(&proxy);
    begin(&callers[0], read_key, 0, 60000);
    await(1, 0);
    for (unsigned i = 1; i < 42; i++) {
        if (i == 21) {
            begin(&callers[i], set_key, 5, 60000); /* it was removed before, and is there again */
        } else {
            begin(&callers[i], remove_key, i < 21 ? i : i - 1, 60000);
        }
        await(1, i);
    }
}

static void expect_removed(void) {
    struct caller reader;
    for (unsigned i = 0; i < 41; i++) {
        begin(&reader, read_key, i, 5000);
        end(&reader);
        ck_assert_int_eq(reader.result, i == 0 || i == 5 ? PLN_OK : PLN_MISS);
    }
}

START_TEST(removals_that_meet_are_one_command_and_one_message) {
    struct caller callers[42];
    bool has_hashes = _i == 0;
    let_meet(callers);
    long before = messages_of_server();
    if (!has_hashes) {
        free(pln_test_redis_command(&server, "SCRIPT FLUSH")); /* then each goes by itself */
    }
    pln_test_proxy_release(&proxy);
    for (unsigned i = 0; i < 42; i++) {
        end(&callers[i]);
        ck_assert_msg(callers[i].result == PLN_OK, "%u: %s", i, callers[i].error);
    }
    ck_assert_int_eq(messages_of_server() - before, has_hashes ? 3 : 41);
    if (has_hashes) {
        expect_removed();
    }
    ck_assert_uint_eq(line()->n_joined, 0);
    ck_assert_uint_eq(line()->bytes_in_flight, 0);
}
END_TEST

/* All have to queue before the first of them leaves, also on a machine that does much else. */
enum { IMPATIENT_MS = 5000 };

START_TEST(who_leaves_a_removal_takes_nobody_along) {
    struct caller callers[42];
    fill(41);
    begin_leader(&callers[0]);
    for (unsigned i = 1; i < 41; i++) {
        begin(&callers[i], remove_key, i, i % 2 == 0 ? IMPATIENT_MS : 60000);
    }
    end_leader(&callers[0], 40);
    for (unsigned i = 2; i < 41; i += 2) {
        end(&callers[i]);
        ck_assert_int_eq(callers[i].result, PLN_ETIMEOUT);
    }
    await(40, 0); /* they were sent, and none had an answer */
    pln_test_proxy_release(&proxy);
    for (unsigned i = 1; i < 41; i += 2) {
        end(&callers[i]);
        ck_assert_msg(callers[i].result == PLN_OK, "%u: %s", i, callers[i].error);
    }
    for (unsigned i = 1; i < 41; i++) {
        begin(&callers[0], read_key, i, 5000);
        end(&callers[0]);
        ck_assert_int_eq(callers[0].result, PLN_MISS);
    }
    ck_assert_uint_eq(client_count(&a, PLN_COUNT_L2_CONNECTS), 1);
}
END_TEST

START_TEST(a_lost_connection_ends_all_removals_in_flight) {
    struct caller callers[21];
    fill(21);
    begin_leader(&callers[0]);
    for (unsigned i = 1; i < 21; i++) {
        begin(&callers[i], remove_key, i, 60000);
    }
    end_leader(&callers[0], 20);
    pln_test_redis_kill(&server);
    for (unsigned i = 1; i < 21; i++) {
        end(&callers[i]);
        ck_assert_int_eq(callers[i].result, PLN_EL2DOWN);
    }
    ck_assert_uint_eq(line()->n_joined, 0);
}
END_TEST

int main(void) {
    Suite *suite = suite_create("removes");
    TCase *tests = tcase_create("removes");
    suite_add_tcase(suite, tests);
    tcase_add_checked_fixture(tests, set_up, tear_down);
    tcase_set_timeout(tests, 60);
    tcase_add_loop_test(tests, removals_that_meet_are_one_command_and_one_message, 0, 2);
    tcase_add_test(tests, who_leaves_a_removal_takes_nobody_along);
    tcase_add_test(tests, a_lost_connection_ends_all_removals_in_flight);
    SRunner *runner = srunner_create(suite);
    srunner_run_all(runner, CK_ENV);
    int failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed == 0 ? 0 : 1;
}
