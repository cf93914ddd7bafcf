/* SPDX-License-Identifier: MIT
 * test_callers.c - core/step.c and worker.c where the system starts no thread: callers do the work.
 * pthread_create() is the linker's to replace (--wrap). */
#include "rig.h"
#include "../l2/server.h"

#include <errno.h>
#include <sched.h>
#include <stdio.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

int __real_pthread_create(pthread_t *thread, const pthread_attr_t *attributes, void *(*run)(void *),
                          void *arg);
int __wrap_pthread_create(pthread_t *thread, const pthread_attr_t *attributes, void *(*run)(void *),
                          void *arg);

static atomic_bool is_refused;

int __wrap_pthread_create(pthread_t *thread, const pthread_attr_t *attributes, void *(*run)(void *),
                          void *arg) {
    return atomic_load(&is_refused) ? EAGAIN : __real_pthread_create(thread, attributes, run, arg);
}

static struct rig rig;
#define CACHE rig.caches[0]

static void begin(const struct pln_options *options) {
    atomic_store(&is_refused, true);
    rig_open(&rig, 1, false, options);
}

static void load_by_policy(pln_ms ttl, pln_ms stale) {
    struct pln_terms terms = CACHE->terms;
    terms.ttl_ms = ttl;
    terms.stale_ms = stale;
    rig_policy(&rig, CACHE, rig_rule("*", &terms, PLN_RULE_LOAD));
}

START_TEST(what_somebody_waits_for_is_loaded_by_him) {
    begin(NULL);
    load_by_policy(1000, 0);
    rig_expect(CACHE, "k", "loaded 1", "loaded");
    rig_expect(CACHE, "k", "loaded 1", "l1");
    ck_assert_str_eq(pln_mode(CACHE), "caller");
    ck_assert_ptr_nonnull(strstr(rig.last_log, "the system starts no thread"));
    ck_assert_int_eq(rig.n_logs, 1);
    rig_close(&rig);
}
END_TEST

START_TEST(what_runs_behind_waits_for_a_step) {
    begin(NULL);
    load_by_policy(1000, 60000);
    rig_expect(CACHE, "k", "loaded 1", "loaded");
    atomic_fetch_add(&rig.now, 1500);
    rig_expect(CACHE, "k", "loaded 1", "stale");
    rig_expect(CACHE, "k", "loaded 1", "stale");
    ck_assert_int_eq(rig.n_loads, 1);
    ck_assert_int_gt(pln_step(CACHE, 0), 0);
    ck_assert_int_eq(rig.n_loads, 2);
    rig_expect(CACHE, "k", "loaded 2", "l1");
    ck_assert_uint_eq(rig_stat(CACHE, "loads_waiting"), 0);
    rig_close(&rig);
}
END_TEST

START_TEST(a_step_does_one_piece_at_least_and_says_when_more_waits) {
    begin(NULL);
    load_by_policy(1000, 60000);
    rig_expect(CACHE, "a", "loaded 1", "loaded");
    rig_expect(CACHE, "b", "loaded 2", "loaded");
    atomic_fetch_add(&rig.now, 1500);
    rig_expect(CACHE, "a", "loaded 1", "stale");
    rig_expect(CACHE, "b", "loaded 2", "stale");
    ck_assert_int_eq(pln_step(CACHE, 0), 0);
    ck_assert_int_eq(rig.n_loads, 3);
    ck_assert_int_gt(pln_step(CACHE, 10000), 0);
    ck_assert_int_eq(rig.n_loads, 4);
    rig_close(&rig);
}
END_TEST

START_TEST(a_call_that_has_left_l1_does_a_piece_and_a_hit_does_none) {
    begin(NULL);
    load_by_policy(1000, 60000);
    rig_expect(CACHE, "a", "loaded 1", "loaded");
    rig_expect(CACHE, "b", "loaded 2", "loaded");
    atomic_fetch_add(&rig.now, 1500);
    rig_expect(CACHE, "a", "loaded 1", "stale");
    rig_expect(CACHE, "c", "loaded 3", "loaded"); /* and `a`, behind it */
    ck_assert_int_eq(rig.n_loads, 4);
    rig_expect(CACHE, "b", "loaded 2", "stale");
    struct pln_get_options hasty = {.timeout_ms = 50};
    struct pln_result result;
    ck_assert_int_eq(pln_get(CACHE, pln_key("d"), &hasty, &result), PLN_OK);
    pln_release(CACHE, result.value);
    ck_assert_int_eq(rig.n_loads, 5); /* who has little time does no more than his own */
    rig_close(&rig);
}
END_TEST

START_TEST(ended_values_are_swept_by_steps) {
    begin(NULL);
    for (int i = 0; i < 100; i++) {
        char key[8];
        snprintf(key, sizeof key, "k%d", i);
        struct pln_set_options options = {.ttl_ms = 1000};
        ck_assert_int_eq(pln_set(CACHE, pln_key(key), pln_key("v"), &options), PLN_OK);
    }
    atomic_fetch_add(&rig.now, 5000);
    pln_ns deadline = pln_deadline(20000);
    while (rig_stat(CACHE, "l1_entries") > 0) {
        ck_assert(pln_clock_precise() < deadline);
        pln_step(CACHE, 0);
        sched_yield();
    }
    rig_close(&rig);
}
END_TEST

START_TEST(once_threads_can_be_had_they_do_it) {
    begin(NULL);
    load_by_policy(1000, 60000);
    rig_expect(CACHE, "k", "loaded 1", "loaded");
    atomic_store(&is_refused, false);
    pln_ns deadline = pln_deadline(20000);
    while (strcmp(pln_mode(CACHE), "threads") != 0) {
        ck_assert(pln_clock_precise() < deadline);
        pln_step(CACHE, 0);
        sched_yield();
    }
    ck_assert_int_eq(pln_step(CACHE, 0), PLN_FOREVER);
    atomic_fetch_add(&rig.now, 1500);
    rig_expect(CACHE, "k", "loaded 1", "stale");
    rig_await(CACHE, "loads", 2);
    ck_assert_int_eq(rig.n_logs, 2);
    rig_close(&rig);
}
END_TEST

/* ---- several callers ---- */

enum { N_CALLERS = 6, N_KEYS = 400 };

static atomic_int users[8]; /* of each worker's number */
static atomic_bool is_shared;

static int load_alone(void *arg, unsigned worker, const struct pln_match *match,
                      struct pln_bytes key, struct pln_load *load) {
    (void) arg, (void) match;
    if (worker >= 2 || atomic_fetch_add(&users[worker], 1) != 0) {
        atomic_store(&is_shared, true);
    }
    sched_yield();
    atomic_fetch_sub(&users[worker], 1);
    return pln_load_value(load, key, 0);
}

static void *call(void *arg) {
    uintptr_t n_wrong = 0;
    for (int i = 0; i < N_KEYS; i++) {
        char key[24], text[24];
        struct pln_result result;
        snprintf(key, sizeof key, "%d-%d", (int) (uintptr_t) arg, i % 100);
        int status = pln_get_copy(CACHE, pln_key(key), NULL, text, sizeof text, &result);
        n_wrong += status != PLN_OK || result.len != strlen(key) ||
                   memcmp(text, key, result.len) != 0;
        if (i % 50 == 49) {
            atomic_fetch_add(&rig.now, 400);
            pln_step(CACHE, 0);
        }
    }
    return (void *) n_wrong;
}

START_TEST(callers_never_share_a_workers_number) {
    pthread_t threads[N_CALLERS];
    begin(&(struct pln_options){.workers = 2});
    struct pln_terms terms = CACHE->terms;
    terms.ttl_ms = 300;
    terms.stale_ms = 60000;
    struct pln_ruleset *ruleset = pln_ruleset_new();
    ruleset->rules = malloc(sizeof *ruleset->rules);
    ruleset->rules[0] = rig_rule("*", &terms, PLN_RULE_LOAD);
    ruleset->n_rules = 1;
    ruleset->hooks = (struct pln_hooks){.load = load_alone};
    pln_cache_set_policy_take(CACHE, ruleset);
    for (int i = 0; i < N_CALLERS; i++) {
        __real_pthread_create(&threads[i], NULL, call, (void *) (uintptr_t) i);
    }
    for (int i = 0; i < N_CALLERS; i++) {
        void *n_wrong;
        pthread_join(threads[i], &n_wrong);
        ck_assert_ptr_null(n_wrong);
    }
    ck_assert(!atomic_load(&is_shared));
    rig_close(&rig);
}
END_TEST

/* ---- over a Redis ---- */

static pln_ms read_clock(void *arg) {
    return atomic_load((_Atomic int64_t *) arg);
}

static void no_log(void *arg, int level, const char *line) {
    (void) arg, (void) level, (void) line;
}

START_TEST(without_a_link_l1_keeps_its_word_on_staleness) {
    struct server server;
    struct pln_cache *caller, *other;
    _Atomic int64_t now = 1000000;
    pln_test_redis_start(&server, NULL);
    struct pln_options options = {.redis = server.url,
                                  .ns = "t",
                                  .max_staleness_ms = 500,
                                  .clock = read_clock,
                                  .clock_arg = (void *) &now,
                                  .log = no_log};
    ck_assert_int_eq(pln_open(&options, &other), PLN_OK);
    rig_await(other, "bus_ok", 1);
    atomic_store(&is_refused, true);
    ck_assert_int_eq(pln_open(&options, &caller), PLN_OK);
    rig_set(caller, "k", "v");
    rig_expect(other, "k", "v", "l2");
    rig_expect(caller, "k", "v", "l1");
    rig_set(other, "k", "w");
    atomic_fetch_add(&now, 501);
    rig_expect(caller, "k", "w", "l2");
    ck_assert_uint_eq(rig_stat(caller, "bus_ok"), 0);
    ck_assert_str_eq(pln_mode(caller), "caller");
    ck_assert_int_eq(pln_delete(caller, pln_key("k")), PLN_OK);
    rig_await(other, "bus_received", 2);
    rig_expect(other, "k", NULL, "miss");
    atomic_store(&is_refused, false);
    pln_ns deadline = pln_deadline(20000);
    while (rig_stat(caller, "bus_ok") == 0) {
        ck_assert(pln_clock_precise() < deadline);
        pln_step(caller, 0);
        sched_yield();
    }
    pln_close(caller);
    pln_close(other);
    pln_test_redis_stop(&server);
}
END_TEST

/* Each look is a try, none waits. */
START_TEST(a_lock_is_tried_again_by_who_looks) {
    struct server server;
    struct pln_cache *caller;
    struct pln_news *news;
    struct pln_op *op, *untaken;
    struct pln_lock *first, *second = NULL;
    pln_test_redis_start(&server, NULL);
    struct pln_options options = {.redis = server.url, .ns = "t", .log = no_log};
    struct pln_lock_options lock = {.ttl_ms = 60000, .wait_ms = 30000, .retry_ms = 5};
    atomic_store(&is_refused, true);
    ck_assert_int_eq(pln_open(&options, &caller), PLN_OK);
    ck_assert_int_eq(pln_lock(caller, pln_key("l"), &lock, NULL, &first), PLN_OK);
    ck_assert_str_eq(pln_mode(caller), "caller");
    ck_assert_int_eq(pln_news_new(caller, &news), PLN_OK);
    ck_assert_int_eq(pln_begin_lock(news, pln_key("l"), &lock, &op), PLN_OK);
    ck_assert_int_eq(pln_op_look(op), PLN_OP_UNDER_WAY);
    ck_assert_int_le(pln_op_timeout(op), 5);
    ck_assert_int_eq(pln_op_lock(op, NULL, &second), PLN_EINVAL);
    ck_assert_int_eq(pln_unlock(first), PLN_OK);
    while (pln_op_look(op) != PLN_OP_READY) {
        sched_yield();
    }
    ck_assert_int_eq(pln_op_lock(op, NULL, &second), PLN_OK);
    ck_assert_int_eq(pln_op_lock(op, NULL, &second), PLN_EINVAL);
    pln_op_free(op);
    ck_assert_int_eq(pln_unlock(second), PLN_OK);
    ck_assert_int_eq(pln_begin_lock(news, pln_key("l"), &lock, &untaken), PLN_OK);
    ck_assert_int_eq(pln_op_look(untaken), PLN_OP_READY);
    pln_op_free(untaken); /* which gives it back */
    lock.wait_ms = 0;
    ck_assert_int_eq(pln_lock(caller, pln_key("l"), &lock, NULL, &first), PLN_OK);
    ck_assert_int_eq(pln_unlock(first), PLN_OK);
    pln_news_free(news);
    pln_close(caller);
    atomic_store(&is_refused, false);
    pln_test_redis_stop(&server);
}
END_TEST

START_TEST(a_name_is_looked_up_by_the_caller) {
    struct pln_cache *cache;
    struct pln_options options = {.redis = "redis://localhost:1", .log = no_log};
    struct pln_result result;
    atomic_store(&is_refused, true);
    ck_assert_int_eq(pln_open(&options, &cache), PLN_OK);
    ck_assert_int_eq(pln_get(cache, pln_key("k"), NULL, &result), PLN_EL2DOWN);
    ck_assert_msg(strstr(pln_error_text(), "refused") != NULL, "%s", pln_error_text());
    pln_close(cache);
}
END_TEST

/* The system's own refusal, which spares only the superuser. */
START_TEST(a_process_that_may_have_no_threads_goes_on) {
    int status = 0;
    pid_t child = getuid() == 0 ? fork() : -1;
    if (child == 0) {
        struct pln_cache *cache;
        struct pln_options options = {.log = no_log};
        struct rlimit none = {0, 0};
        bool is_set = setrlimit(RLIMIT_NPROC, &none) == 0 && setuid(65534) == 0;
        bool is_good = is_set && pln_open(&options, &cache) == PLN_OK &&
                       pln_set(cache, pln_key("k"), pln_key("v"), NULL) == PLN_OK &&
                       strcmp(pln_mode(cache), "caller") == 0 && pln_step(cache, 0) >= 0;
        _exit(is_good ? 0 : 1);
    }
    if (child > 0) {
        ck_assert_int_eq(waitpid(child, &status, 0), child);
    }
    ck_assert_int_eq(status, 0);
}
END_TEST

static void allow(void) {
    atomic_store(&is_refused, false);
}

int main(void) {
    Suite *suite = suite_create("callers");
    TCase *tests = tcase_create("callers");
    suite_add_tcase(suite, tests);
    tcase_add_checked_fixture(tests, NULL, allow);
    tcase_set_timeout(tests, 60);
    tcase_add_test(tests, what_somebody_waits_for_is_loaded_by_him);
    tcase_add_test(tests, what_runs_behind_waits_for_a_step);
    tcase_add_test(tests, a_step_does_one_piece_at_least_and_says_when_more_waits);
    tcase_add_test(tests, a_call_that_has_left_l1_does_a_piece_and_a_hit_does_none);
    tcase_add_test(tests, ended_values_are_swept_by_steps);
    tcase_add_test(tests, once_threads_can_be_had_they_do_it);
    tcase_add_test(tests, callers_never_share_a_workers_number);
    tcase_add_test(tests, without_a_link_l1_keeps_its_word_on_staleness);
    tcase_add_test(tests, a_lock_is_tried_again_by_who_looks);
    tcase_add_test(tests, a_name_is_looked_up_by_the_caller);
    tcase_add_test(tests, a_process_that_may_have_no_threads_goes_on);
    return rig_run(suite);
}
