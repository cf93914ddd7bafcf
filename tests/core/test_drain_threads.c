/* SPDX-License-Identifier: MIT
 *
 * test_drain_threads.c - in whose thread what is written behind is stored: drain.c where the system
 * starts none, where workers wait for it, and where a store does not return. pthread_create() is
 * the linker's to replace (--wrap).
 */
#include "async_rig.h"
#include "drain_rig.h"

#include <errno.h>
#include <sched.h>
#include <stdio.h>
#include <time.h>

int __real_pthread_create(pthread_t *thread, const pthread_attr_t *attributes, void *(*run)(void *),
                          void *arg);
int __wrap_pthread_create(pthread_t *thread, const pthread_attr_t *attributes, void *(*run)(void *),
                          void *arg);

static atomic_bool is_refused;

int __wrap_pthread_create(pthread_t *thread, const pthread_attr_t *attributes, void *(*run)(void *),
                          void *arg) {
    return atomic_load(&is_refused) ? EAGAIN : __real_pthread_create(thread, attributes, run, arg);
}

static void setup(void) {
    atomic_store(&is_refused, true);
    drain_setup();
    ck_assert_str_eq(pln_mode(A), "caller");
}

static void teardown(void) {
    drain_teardown();
    atomic_store(&is_refused, false);
}

static void step_until_stored(const char *key, const char *value) {
    pln_ns deadline = pln_deadline(10000);
    while (depth(A) > 0) {
        ck_assert(pln_clock_precise() < deadline);
        pln_step(A, 100);
    }
    db_expect(&db, key, value);
}

/* ---- callers ---- */

START_TEST(without_threads_a_step_stores) {
    struct pln_set_options options = {.timeout_ms = 1000}; /* no time for what runs behind */
    ck_assert_int_eq(pln_set(A, pln_key("k"), pln_key("v"), &options), PLN_OK);
    db_expect(&db, "k", NULL);
    pln_ms left = pln_step(A, 0);
    ck_assert_int_ge(left, 0);
    ck_assert_int_lt(left, 1000); /* the write is to be stored before long */
    step_until_stored("k", "v");
}
END_TEST

START_TEST(without_threads_a_flush_stores) {
    rig_set(A, "k", "v");
    flush(A);
    db_expect(&db, "k", "v");
}
END_TEST

START_TEST(without_threads_who_closes_stores) {
    expect_close_stores();
}
END_TEST

START_TEST(without_threads_who_waits_for_room_makes_it) {
    struct pln_set_options options = {.timeout_ms = 10000};
    writing.most = 1;
    drain_reopen(1);
    for (int i = 0; i < 5; i++) {
        char key[2] = {(char) ('a' + i), 0};
        ck_assert_int_eq(pln_set(A, pln_key(key), pln_key("v"), &options), PLN_OK);
    }
    db_expect(&db, "d", "v");
}
END_TEST

START_TEST(once_there_are_threads_one_stores) {
    rig_set(A, "k", "v");
    flush(A);
    atomic_store(&is_refused, false);
    pln_ns deadline = pln_deadline(10000);
    while (strcmp(pln_mode(A), "threads") != 0) {
        ck_assert(pln_clock_precise() < deadline);
        pln_step(A, 10);
    }
    rig_set(A, "l", "v");
    db_await(&db, "l", "v");
}
END_TEST

/* ---- workers ---- */

static int store_of_policy(void *arg, unsigned worker, const struct pln_rule *rule,
                           struct pln_store_item *items, size_t n) {
    (void) arg;
    (void) rule;
    ck_assert_uint_lt(worker, 1);
    return db_store(&db, items, n);
}

/* A rule whose store is a function of the policy's, which runs on a worker. */
static void put_policy(struct pln_cache *cache) {
    struct pln_ruleset *ruleset = pln_ruleset_new();
    struct pln_rule rule = behind_rule("{k}", PLN_RULE_STORE);
    free((char *) rule.store);
    rule.store = NULL;
    ruleset->rules = malloc(sizeof rule);
    ruleset->rules[0] = rule;
    ruleset->n_rules = 1;
    ruleset->hooks = (struct pln_hooks){.store = store_of_policy};
    pln_cache_set_policy_take(cache, ruleset);
}

static int write_many(struct pln_cache *cache, void *arg) {
    struct pln_set_options options = {.timeout_ms = 20000};
    int status = PLN_OK;
    (void) arg;
    for (int i = 0; i < 20 && status == PLN_OK; i++) {
        char key[2] = {(char) ('a' + i), 0};
        status = pln_set(cache, pln_key(key), pln_key("v"), &options);
    }
    return status;
}

START_TEST(a_worker_that_waits_for_room_stores_meanwhile) {
    atomic_store(&is_refused, false);
    rig_close(&rig);
    struct pln_options options = {.ttl_ms = 600000, .timeout_ms = 2000, .workers = 1};
    rig_open(&rig, 1, true, &options);
    writing.most = 2;
    writing.timeout_ms = 20000; /* so long would the two wait for each other */
    put_policy(A);
    struct pln_news *news;
    struct pln_op *op;
    struct pln_result result;
    ck_assert_int_eq(pln_news_new(A, &news), PLN_OK);
    pln_ns began = pln_clock_precise();
    ck_assert_int_eq(pln_begin_call(news, write_many, NULL, NULL, &op), PLN_OK);
    async_await(news, op, PLN_OP_READY);
    ck_assert_msg(pln_op_result(op, &result) == PLN_OK, "%s", pln_error_text());
    ck_assert(pln_clock_precise() - began < 15000LL * 1000000);
    pln_op_free(op);
    pln_news_free(news);
    flush(A);
    db_expect(&db, "t", "v");
}
END_TEST

START_TEST(a_load_of_the_hosts_is_not_asked_for_while_a_write_waits) {
    atomic_store(&is_refused, false);
    drain_reopen(2);
    struct pln_news *news;
    ck_assert_int_eq(pln_news_new(B, &news), PLN_OK);
    hold_store();
    rig_set(A, "k:1", "new");
    ck_assert_int_eq(pln_clear(A), PLN_OK);
    ck_assert_int_eq(pln_clear(B), PLN_OK);
    struct begun begun = async_begin(B, news, PLN_BEGIN_LOADS, NULL);
    async_expect(news, &begun, "new", "loaded");
    let_store_go();
    flush(A);
    ck_assert_int_eq(pln_clear(B), PLN_OK);
    begun = async_begin(B, news, PLN_BEGIN_LOADS, NULL);
    async_await(news, begun.op, PLN_OP_WANTS_LOAD);
    async_load(begun.op, "old", PLN_OK);
    async_expect(news, &begun, "old", "loaded");
    pln_news_free(news);
}
END_TEST

/* ---- a queue that fails as a test wants it to ---- */

static struct pln_l2_ops ops;
static struct pln_l2_queue_ops queue_ops;
static const struct pln_l2_queue_ops *real_ops;
static struct pln_l2_taking left_with; /* by whom the lead was given back last */
static unsigned n_left, n_taken_anew;

static void rule_queue(struct pln_cache *cache) {
    struct pln_l2 *l2 = pln_cache_l2(cache);
    ops = *l2->ops;
    real_ops = ops.queue;
    queue_ops = *real_ops;
    ops.queue = &queue_ops;
    l2->ops = &ops;
    n_left = n_taken_anew = 0;
}

static int take_few(struct pln_l2 *l2, const struct pln_l2_taking *taking, pln_ns deadline,
                    struct pln_l2_entries *entries, pln_ms *left) {
    return taking->most > 3 ? pln_fail(PLN_ETIMEOUT, "so many take too long")
                            : real_ops->take(l2, taking, deadline, entries, left);
}

START_TEST(what_cannot_be_taken_in_time_is_taken_little_by_little) {
    char key[16];
    for (int i = 0; i < 5; i++) {
        snprintf(key, sizeof key, "k%d", i);
        rig_set(A, key, "v");
    }
    rule_queue(A);
    queue_ops.take = take_few;
    flush(A);
    db_expect(&db, "k4", "v");
}
END_TEST

static void leave_unheard(struct pln_l2 *l2, const struct pln_l2_taking *taking, pln_ns deadline) {
    left_with = *taking;
    n_left++;
    real_ops->leave(l2, taking, deadline);
}

static int take_after(struct pln_l2 *l2, const struct pln_l2_taking *taking, pln_ns deadline,
                      struct pln_l2_entries *entries, pln_ms *left) {
    int status = real_ops->take(l2, taking, deadline, entries, left);
    if (n_left > 0 && status == PLN_OK) { /* should the same be heard now */
        real_ops->leave(l2, &left_with, deadline);
        ck_assert_int_eq(real_ops->hold(l2, taking, deadline), PLN_OK);
        n_taken_anew++;
    }
    return status;
}

START_TEST(a_lead_that_was_given_back_late_is_not_the_next_one) {
    rig_policy(&rig, A, behind_rule("{k}", 0)); /* it has no store, so the lead is offered */
    rig_set(A, "k", "v");
    rule_queue(A);
    queue_ops.take = take_after;
    queue_ops.leave = leave_unheard;
    pln_ns deadline = pln_deadline(20000);
    while (n_taken_anew == 0) {
        ck_assert(pln_clock_precise() < deadline);
        pln_step(A, 100);
    }
    register_db(A);
    flush(A);
}
END_TEST

/* ---- a store that hangs ---- */

static atomic_bool is_freed;

static void note_free(void *arg) {
    (void) arg;
    atomic_store(&is_freed, true); /* the last of the policy's users was the cache */
}

START_TEST(who_closes_leaves_a_call_that_hangs_behind_and_says_so) {
    atomic_store(&is_refused, false);
    writing.timeout_ms = 10;
    drain_reopen(1);
    A->policy->hooks.retire = note_free;
    hold_store();
    rig_set(A, "k", "1");
    await_call(1);
    rig_set(A, "l", "1");
    pln_close(A);
    A = NULL;
    ck_assert(!atomic_load(&is_freed));
    ck_assert_msg(strstr(rig.last_log, "a store has not returned") != NULL, "%s", rig.last_log);
    let_store_go();
    while (!atomic_load(&is_freed)) { /* the test's own time limit bounds it */
        sched_yield();
    }
    db_expect(&db, "k", "1");
}
END_TEST

static int store_slowly(void *arg, struct pln_store_item *items, size_t n) {
    struct timespec time = {.tv_nsec = 480 * 1000000};
    int status = db_store(arg, items, n);
    nanosleep(&time, NULL);
    return status;
}

START_TEST(who_closes_leaves_no_call_behind_that_keeps_to_its_time) {
    atomic_store(&is_refused, false);
    writing.store = store_slowly;
    writing.timeout_ms = 600;
    writing.batch = 1;
    writing.every_ms = 1;
    drain_reopen(1);
    for (int i = 0; i < 8; i++) {
        char key[2] = {(char) ('a' + i), 0};
        rig_set(A, key, "v");
    }
    await_call(1);
    pln_close(A);
    A = NULL;
    ck_assert_msg(strstr(rig.last_log, "closed before all was stored") != NULL, "%s", rig.last_log);
}
END_TEST

int main(void) {
    Suite *suite = suite_create("drain threads");
    TCase *tests = tcase_create("drain threads");
    suite_add_tcase(suite, tests);
    tcase_set_timeout(tests, 60);
    tcase_add_checked_fixture(tests, setup, teardown);
    tcase_add_test(tests, without_threads_a_step_stores);
    tcase_add_test(tests, without_threads_a_flush_stores);
    tcase_add_test(tests, without_threads_who_closes_stores);
    tcase_add_test(tests, without_threads_who_waits_for_room_makes_it);
    tcase_add_test(tests, once_there_are_threads_one_stores);
    tcase_add_test(tests, a_worker_that_waits_for_room_stores_meanwhile);
    tcase_add_test(tests, a_load_of_the_hosts_is_not_asked_for_while_a_write_waits);
    tcase_add_test(tests, what_cannot_be_taken_in_time_is_taken_little_by_little);
    tcase_add_test(tests, a_lead_that_was_given_back_late_is_not_the_next_one);
    tcase_add_test(tests, who_closes_leaves_no_call_behind_that_keeps_to_its_time);
    tcase_add_test(tests, who_closes_leaves_a_call_that_hangs_behind_and_says_so);
    return rig_run(suite);
}
