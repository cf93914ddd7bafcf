/* SPDX-License-Identifier: MIT
 * test_close.c - pln_close() while loads and calls run: it waits for them, but not for ever. */
#include "rig.h"

#include <sched.h>

static struct rig rig;
static atomic_bool is_freed;

#define CACHE rig.caches[0]

static void note_free(void *arg) {
    (void) arg;
    atomic_store(&is_freed, true); /* the last of the policy's users was the cache */
}

static void open_rig(pln_ms close_timeout_ms) {
    struct pln_options options = {.close_timeout_ms = close_timeout_ms, .workers = 2};
    rig_open(&rig, 1, true, &options);
    rig_policy(&rig, CACHE, rig_rule("k:{id}", pln_cache_terms(CACHE), PLN_RULE_LOAD));
    CACHE->policy->hooks.retire = note_free;
}

/* Has a worker begin a load, whose caller gives up. */
static void begin_load(void) {
    struct pln_get_options options = {.timeout_ms = 1};
    struct pln_result result;
    pthread_mutex_lock(&rig.gate);
    ck_assert_int_eq(pln_get(CACHE, pln_key("k:7"), &options, &result), PLN_ETIMEOUT);
    while (atomic_load(&rig.n_loads) == 0) {
        sched_yield();
    }
}

static void close_cache(void) {
    pln_close(CACHE);
    CACHE = NULL;
}

static void await_end(void) {
    while (!atomic_load(&is_freed)) { /* the test's own time limit bounds it */
        sched_yield();
    }
}

START_TEST(a_load_that_does_not_end_is_left_behind_and_told) {
    open_rig(20);
    begin_load();
    close_cache();
    ck_assert(!atomic_load(&is_freed));
    ck_assert_msg(strstr(rig.last_log, "not over after 20 ms (close_timeout): 'k:7' by the rule at "
                                       "test:1; memory and connections stay") != NULL,
                  "%s", rig.last_log);
    pthread_mutex_unlock(&rig.gate);
    await_end();
}
END_TEST

static int run_call(struct pln_cache *cache, void *arg) {
    (void) cache;
    (void) arg;
    atomic_fetch_add(&rig.n_loads, 1);
    pthread_mutex_lock(&rig.gate);
    pthread_mutex_unlock(&rig.gate);
    return PLN_OK;
}

START_TEST(so_is_a_call_of_the_programs) {
    struct pln_news *news;
    struct pln_op *op;
    open_rig(20);
    ck_assert_int_eq(pln_news_new(CACHE, &news), PLN_OK);
    begin_load();
    ck_assert_int_eq(pln_begin_call(news, run_call, NULL, NULL, &op), PLN_OK);
    while (atomic_load(&rig.n_loads) < 2) {
        sched_yield();
    }
    pln_op_free(op);
    pln_news_free(news);
    close_cache();
    ck_assert_msg(strstr(rig.last_log, "'k:7' by the rule at test:1") != NULL &&
                      strstr(rig.last_log, "a call") != NULL,
                  "%s", rig.last_log);
    pthread_mutex_unlock(&rig.gate);
    await_end();
}
END_TEST

START_TEST(a_warming_is_told_too) {
    struct pln_bytes keys[] = {pln_key("k:1")};
    struct pln_warm_options options = {.keys = keys, .n_keys = 1};
    open_rig(20);
    pthread_mutex_lock(&rig.gate);
    ck_assert_int_eq(pln_warm_start(CACHE, &options), PLN_OK);
    while (atomic_load(&rig.n_loads) == 0) {
        sched_yield();
    }
    close_cache();
    ck_assert_msg(strstr(rig.last_log, "a warming") != NULL, "%s", rig.last_log);
    pthread_mutex_unlock(&rig.gate);
    await_end();
}
END_TEST

START_TEST(a_load_that_ends_in_time_is_waited_for) {
    open_rig(60000);
    begin_load();
    pthread_mutex_unlock(&rig.gate);
    close_cache();
    ck_assert(atomic_load(&is_freed));
    ck_assert_int_eq(atomic_load(&rig.n_logs), 0);
}
END_TEST

static void teardown(void) {
    rig_close(&rig);
}

int main(void) {
    Suite *suite = suite_create("close");
    TCase *tests = tcase_create("close");
    tcase_add_checked_fixture(tests, NULL, teardown);
    tcase_set_timeout(tests, 60);
    tcase_add_test(tests, a_load_that_does_not_end_is_left_behind_and_told);
    tcase_add_test(tests, so_is_a_call_of_the_programs);
    tcase_add_test(tests, a_warming_is_told_too);
    tcase_add_test(tests, a_load_that_ends_in_time_is_waited_for);
    suite_add_tcase(suite, tests);
    return rig_run(suite);
}
