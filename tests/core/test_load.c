/* SPDX-License-Identifier: MIT
 * test_load.c - core/fill.c, flight.c, worker.c, load.c: loaders, single flight, refresh, failures.
 */
#include "rig.h"

#include "../../core/flight.h"

#include <sched.h>
#include <semaphore.h>
#include <stdio.h>

static struct rig rig;
static struct pln_terms terms;

static void setup(void) {
    struct pln_options options = {.ttl_ms = 10000, .load_timeout_ms = 5000};
    rig_open(&rig, 1, false, &options);
    terms = *pln_cache_terms(rig.caches[0]);
}

static void teardown(void) {
    rig_close(&rig);
}

#define CACHE rig.caches[0]

static int bring(void *arg, struct pln_bytes key, struct pln_load *load) {
    _Atomic int *n = arg;
    atomic_fetch_add(n, 1);
    (void) key;
    return pln_load_value(load, pln_key("brought"), 3);
}

static int bring_nothing(void *arg, struct pln_bytes key, struct pln_load *load) {
    (void) arg;
    (void) key;
    (void) load;
    return PLN_ABSENT;
}

static int fail_to_bring(void *arg, struct pln_bytes key, struct pln_load *load) {
    (void) arg;
    (void) key;
    return pln_load_error(load, "no row for k: disk on fire");
}

START_TEST(a_callers_loader_runs_once_and_its_value_stays) {
    _Atomic int n = 0;
    struct pln_result result;
    ck_assert_int_eq(pln_get_or_load(CACHE, pln_key("k"), NULL, bring, &n, &result), PLN_OK);
    ck_assert_str_eq(pln_source_name(result.source), "loaded");
    ck_assert_uint_eq(result.format, 3);
    pln_release(CACHE, result.value);
    ck_assert_int_eq(pln_get_or_load(CACHE, pln_key("k"), NULL, bring, &n, &result), PLN_OK);
    ck_assert_str_eq(pln_source_name(result.source), "l1");
    ck_assert_mem_eq(pln_value_data(result.value), "brought", 7);
    pln_release(CACHE, result.value);
    ck_assert_int_eq(n, 1);
}
END_TEST

START_TEST(an_absence_that_a_loader_reports_is_cached) {
    struct pln_result result;
    ck_assert_int_eq(pln_get_or_load(CACHE, pln_key("k"), NULL, bring_nothing, NULL, &result),
                     PLN_ABSENT);
    ck_assert_ptr_nonnull(result.value);
    pln_release(CACHE, result.value);
    rig_expect(CACHE, "k", NULL, "negative");
    ck_assert_uint_eq(rig_stat(CACHE, "loads"), 1);
    ck_assert_uint_eq(rig_stat(CACHE, "gets"), 2);
}
END_TEST

START_TEST(a_loaders_failure_reaches_the_caller_with_its_text_and_is_not_cached) {
    struct pln_result result;
    _Atomic int n = 0;
    ck_assert_int_eq(pln_get_or_load(CACHE, pln_key("k"), NULL, fail_to_bring, NULL, &result),
                     PLN_ELOADER);
    ck_assert_str_eq(pln_error_text(), "no row for k: disk on fire");
    ck_assert_int_eq(pln_get_or_load(CACHE, pln_key("k"), NULL, bring, &n, &result), PLN_OK);
    pln_release(CACHE, result.value);
    ck_assert_uint_eq(rig_stat(CACHE, "failures"), 1);
}
END_TEST

START_TEST(a_rules_loader_runs_on_a_worker) {
    rig_policy(&rig, CACHE, rig_rule("k:{id}", &terms, PLN_RULE_LOAD));
    rig_expect(CACHE, "k:1", "loaded 1", "loaded");
    rig_expect(CACHE, "k:1", "loaded 1", "l1");
    rig_expect(CACHE, "other", NULL, "miss");
    ck_assert_int_eq(rig.n_loads, 1);
}
END_TEST

static void *get_k(void *arg) {
    struct pln_result result;
    int status = pln_get(arg, pln_key("k:1"), NULL, &result);
    bool is_right = status == PLN_OK && result.len == 8;
    pln_release(arg, result.value);
    return is_right ? NULL : arg;
}

START_TEST(of_many_threads_that_miss_one_key_one_loads) {
    pthread_t threads[32];
    rig_policy(&rig, CACHE, rig_rule("k:{id}", &terms, PLN_RULE_LOAD));
    pthread_mutex_lock(&rig.gate);
    for (size_t i = 0; i < 32; i++) {
        pthread_create(&threads[i], NULL, get_k, CACHE);
    }
    rig_await(CACHE, "load_waits", 31);
    pthread_mutex_unlock(&rig.gate);
    for (size_t i = 0; i < 32; i++) {
        void *wrong;
        pthread_join(threads[i], &wrong);
        ck_assert_ptr_null(wrong);
    }
    ck_assert_int_eq(rig.n_loads, 1);
    ck_assert_uint_eq(rig_stat(CACHE, "loads"), 1);
    ck_assert_uint_eq(rig_stat(CACHE, "loads_served"), 32);
}
END_TEST

START_TEST(a_wait_for_a_load_ends_at_the_timeout) {
    struct pln_get_options hasty = {.timeout_ms = 20};
    struct pln_result result;
    rig_policy(&rig, CACHE, rig_rule("k:{id}", &terms, PLN_RULE_LOAD));
    pthread_mutex_lock(&rig.gate);
    ck_assert_int_eq(pln_get(CACHE, pln_key("k:1"), &hasty, &result), PLN_ETIMEOUT);
    ck_assert_str_eq(pln_error_text(), "get: no value within 20 ms");
    pthread_mutex_unlock(&rig.gate);
    rig_await(CACHE, "l1_inserts", 1); /* the load goes on, and its value is kept */
    rig_expect(CACHE, "k:1", "loaded 1", "l1");
}
END_TEST

START_TEST(a_delete_during_a_load_keeps_its_value_out) {
    pthread_t thread;
    rig_policy(&rig, CACHE, rig_rule("k:{id}", &terms, PLN_RULE_LOAD));
    pthread_mutex_lock(&rig.gate);
    pthread_create(&thread, NULL, get_k, CACHE);
    rig_await(CACHE, "loads", 1);
    ck_assert_int_eq(pln_delete(CACHE, pln_key("k:1")), PLN_OK);
    pthread_mutex_unlock(&rig.gate);
    pthread_join(thread, NULL);
    ck_assert_uint_eq(rig_stat(CACHE, "fills_refused"), 1);
    rig_expect(CACHE, "k:1", "loaded 2", "loaded");
}
END_TEST

static int delete_k(struct pln_cache *cache) {
    return pln_delete(cache, pln_key("k:1"));
}

static int drop_a_tag(struct pln_cache *cache) {
    return pln_invalidate_tag(cache, pln_key("tag"));
}

static int (*const invalidations[])(struct pln_cache *) = {delete_k, drop_a_tag, pln_clear};

START_TEST(a_read_after_an_invalidation_does_not_wait_for_an_older_load) {
    pthread_t thread;
    rig_policy(&rig, CACHE, rig_rule("k:{id}", &terms, PLN_RULE_LOAD));
    pthread_mutex_lock(&rig.gate);
    pthread_create(&thread, NULL, get_k, CACHE);
    rig_await(CACHE, "loads", 1);
    ck_assert_int_eq(invalidations[_i](CACHE), PLN_OK);
    struct pln_get_options hasty = {.timeout_ms = 20};
    struct pln_result result;
    ck_assert_int_eq(pln_get(CACHE, pln_key("k:1"), &hasty, &result), PLN_ETIMEOUT);
    ck_assert_uint_eq(rig_stat(CACHE, "load_waits"), 0);
    rig_await(CACHE, "loads", 2);
    pthread_mutex_unlock(&rig.gate);
    pthread_join(thread, NULL);
}
END_TEST

START_TEST(a_hit_past_the_refresh_point_is_served_and_loaded_behind) {
    terms.refresh = 0.8;
    rig_policy(&rig, CACHE, rig_rule("k:{id}", &terms, PLN_RULE_LOAD));
    rig_expect(CACHE, "k:1", "loaded 1", "loaded");
    rig.now += 7999;
    rig_expect(CACHE, "k:1", "loaded 1", "l1");
    ck_assert_uint_eq(rig_stat(CACHE, "refreshes"), 0);
    rig.now += 1;
    rig_expect(CACHE, "k:1", "loaded 1", "l1");
    rig_await(CACHE, "l1_replaces", 1);
    rig_expect(CACHE, "k:1", "loaded 2", "l1");
    ck_assert_uint_eq(rig_stat(CACHE, "refreshes"), 1);
    ck_assert_uint_eq(rig_stat(CACHE, "l1_hits"), 3);
}
END_TEST

START_TEST(a_stale_value_is_served_while_it_is_loaded_behind) {
    terms.stale_ms = 5000;
    rig_policy(&rig, CACHE, rig_rule("k:{id}", &terms, PLN_RULE_LOAD));
    rig_expect(CACHE, "k:1", "loaded 1", "loaded");
    rig.now += 12000;
    pthread_mutex_lock(&rig.gate);
    rig_expect(CACHE, "k:1", "loaded 1", "stale");
    rig_expect(CACHE, "k:1", "loaded 1", "stale");
    pthread_mutex_unlock(&rig.gate);
    rig_await(CACHE, "l1_replaces", 1);
    rig_expect(CACHE, "k:1", "loaded 2", "l1");
    ck_assert_int_eq(rig.n_loads, 2);
}
END_TEST

START_TEST(a_stale_value_is_served_when_the_loader_fails_and_not_for_ever) {
    terms.stale_if_error_ms = 60000;
    struct pln_result result;
    rig_policy(&rig, CACHE, rig_rule("k:{id}", &terms, PLN_RULE_LOAD));
    rig_expect(CACHE, "k:1", "loaded 1", "loaded");
    rig.load_status = PLN_ELOADER;
    rig.now += 10001;
    rig_expect(CACHE, "k:1", "loaded 1", "stale");
    rig.now += 1000;
    rig_expect(CACHE, "k:1", "loaded 1", "stale");
    ck_assert_uint_eq(rig_stat(CACHE, "load_errors"), 2);
    rig.now += 60000;
    ck_assert_int_eq(pln_get(CACHE, pln_key("k:1"), NULL, &result), PLN_ELOADER);
    ck_assert_str_eq(pln_error_text(), "the source is out of order");
    rig.load_status = PLN_OK;
    rig_expect(CACHE, "k:1", "loaded 5", "loaded");
}
END_TEST

START_TEST(jitter_takes_off_at_most_its_share_and_never_adds) {
    pln_ms least = PLN_FOREVER;
    pln_ms most = 0;
    terms.jitter = 0.5;
    rig_policy(&rig, CACHE, rig_rule("k:{id}", &terms, PLN_RULE_LOAD));
    for (int i = 0; i < 300; i++) {
        char key[16];
        struct pln_result result;
        snprintf(key, sizeof key, "k:%d", i);
        ck_assert_int_eq(pln_get(CACHE, pln_key(key), NULL, &result), PLN_OK);
        least = result.left_ms < least ? result.left_ms : least;
        most = result.left_ms > most ? result.left_ms : most;
        pln_release(CACHE, result.value);
    }
    ck_assert_int_ge(least, 5000);
    ck_assert_int_le(most, 10000);
    ck_assert_int_lt(least, 5500); /* missed by chance once in 10^13 */
    ck_assert_int_gt(most, 9500);
}
END_TEST

START_TEST(related_keys_are_loaded_ahead) {
    rig_policy(&rig, CACHE, rig_rule("{any}", &terms, PLN_RULE_LOAD | PLN_RULE_RELATED));
    rig_expect(CACHE, "k", "loaded 1", "loaded");
    rig_await(CACHE, "l1_inserts", 2);
    rig_expect(CACHE, "related", "loaded 2", "l1");
}
END_TEST

START_TEST(a_rules_functions_shape_what_is_set) {
    struct pln_result result;
    rig_policy(&rig, CACHE, rig_rule("{any}", &terms, PLN_RULE_TTL | PLN_RULE_TAGS));
    rig_set(CACHE, "k", "seven b");
    ck_assert_int_eq(pln_get(CACHE, pln_key("k"), NULL, &result), PLN_OK);
    ck_assert_int_eq(result.left_ms, 7000);
    pln_release(CACHE, result.value);
    pln_invalidate_tag(CACHE, pln_key("shaped"));
    rig_expect(CACHE, "k", NULL, "miss");
}
END_TEST

START_TEST(a_value_over_a_rules_limit_is_handed_out_and_not_kept) {
    terms.max_bytes = 4;
    rig_policy(&rig, CACHE, rig_rule("k:{id}", &terms, PLN_RULE_LOAD));
    rig_expect(CACHE, "k:1", "loaded 1", "loaded");
    rig_expect(CACHE, "k:1", "loaded 2", "loaded");
    ck_assert_int_eq(pln_set(CACHE, pln_key("k:1"), pln_key("12345"), NULL), PLN_ETOOBIG);
}
END_TEST

/* What is loaded is handed out and not kept: the claim on the entry that stays is given back. */
static void have_old(void) {
    terms.stale_ms = 5000;
    terms.max_bytes = 4;
    rig_policy(&rig, CACHE, rig_rule("k:{id}", &terms, PLN_RULE_LOAD));
    rig_set(CACHE, "k:1", "old");
    rig.now += 12000;
}

static void await_landing(void) {
    pln_ns deadline = pln_deadline(10000);
    while (pln_flights_count(CACHE->flights) > 0) {
        ck_assert(pln_clock_precise() < deadline);
        sched_yield();
    }
}

START_TEST(a_refresh_whose_value_is_not_kept_is_followed_by_another) {
    have_old();
    for (uint64_t n = 1; n <= 3; n++) {
        rig_expect(CACHE, "k:1", "old", "stale");
        rig_await(CACHE, "loads", n);
        await_landing();
    }
}
END_TEST

START_TEST(a_callers_load_whose_value_is_not_kept_is_followed_by_another) {
    _Atomic int n = 0;
    struct pln_result result;
    have_old();
    for (int i = 1; i <= 3; i++) {
        ck_assert_int_eq(pln_get_or_load(CACHE, pln_key("k:1"), NULL, bring, &n, &result), PLN_OK);
        ck_assert_str_eq(pln_source_name(result.source), "loaded");
        pln_release(CACHE, result.value);
        ck_assert_int_eq(n, i);
    }
}
END_TEST

/* The read of a caller who brings no loader, and asks for none. */
static struct pln_request ask_only(const char *key) {
    static const struct pln_get_options options = {.flags = PLN_GET_NO_LOAD};
    struct pln_request request = {.cache = CACHE, .options = &options, .deadline = PLN_FOREVER};
    ck_assert_int_eq(pln_cache_key(CACHE, pln_key(key), &request.key), PLN_OK);
    request.terms = pln_cache_match(CACHE, request.key.key, &request.match, &request.ruleset);
    return request;
}

static struct pln_flight *begin(const struct pln_request *request) {
    struct pln_stamp stamp;
    bool leads;
    pln_stamp_take(CACHE->inval, request->key.hash, &stamp);
    struct pln_flight *flight = pln_flight_join(CACHE->flights, &stamp, &request->key, false,
                                                &leads);
    ck_assert(leads);
    return flight;
}

static void end(struct pln_request *request, struct pln_flight *flight) {
    pln_fill_lead(request, flight);
    pln_flight_leave(CACHE->flights, flight);
    pln_ruleset_unref(request->ruleset);
}

START_TEST(a_refresh_that_joins_a_load_which_brings_nothing_is_followed_by_another) {
    have_old();
    struct pln_request request = ask_only("k:1");
    struct pln_flight *flight = begin(&request);
    rig_expect(CACHE, "k:1", "old", "stale"); /* its claim waits for the flight */
    end(&request, flight);
    ck_assert_uint_eq(rig_stat(CACHE, "refreshes"), 0);
    rig_expect(CACHE, "k:1", "old", "stale");
    rig_await(CACHE, "loads", 1);
    await_landing();
}
END_TEST

static void *bring_own(void *arg) {
    struct pln_result result;
    int status = pln_get_or_load(CACHE, pln_key("k:1"), NULL, bring, arg, &result);
    pln_release(CACHE, result.value);
    return status == PLN_OK && result.source == PLN_FROM_LOADER ? NULL : arg;
}

START_TEST(who_brings_a_loader_is_not_told_what_a_leader_without_one_was) {
    pthread_t own, rules;
    void *wrong;
    _Atomic int n = 0;
    if (_i == 1) { /* a named loader that is not registered, which is a failure */
        struct pln_rule rule = rig_rule("k:{id}", &terms, PLN_RULE_LOAD);
        rule.loader = strdup("x");
        rig_policy(&rig, CACHE, rule);
    }
    struct pln_request request = ask_only("k:1");
    static const struct pln_get_options plain = {0};
    request.options = &plain;
    struct pln_flight *flight = begin(&request);
    pthread_create(&own, NULL, bring_own, &n);
    rig_await(CACHE, "load_waits", 1);
    end(&request, flight);
    pthread_join(own, &wrong);
    ck_assert_ptr_null(wrong);
    ck_assert_int_eq(n, 1);
    if (_i == 0) {
        rig_policy(&rig, CACHE, rig_rule("k:{id}", &terms, PLN_RULE_LOAD));
        ck_assert_int_eq(pln_clear(CACHE), PLN_OK);
        request = ask_only("k:1");
        flight = begin(&request);
        pthread_create(&rules, NULL, get_k, CACHE);
        rig_await(CACHE, "load_waits", 2);
        end(&request, flight);
        pthread_join(rules, &wrong);
        ck_assert_ptr_null(wrong);
        ck_assert_int_eq(rig.n_loads, 1);
    }
}
END_TEST

START_TEST(who_brings_no_loader_either_is_told_what_the_leader_was) {
    pthread_t thread;
    void *wrong;
    struct pln_request request = ask_only("k:1");
    struct pln_flight *flight = begin(&request);
    pthread_create(&thread, NULL, get_k, CACHE);
    rig_await(CACHE, "load_waits", 1);
    end(&request, flight);
    pthread_join(thread, &wrong);
    ck_assert_ptr_nonnull(wrong);
    ck_assert_uint_eq(rig_stat(CACHE, "misses"), 1);
}
END_TEST

START_TEST(a_cache_that_closes_ends_the_loads_it_has_not_begun) {
    rig_policy(&rig, CACHE, rig_rule("k:{id}", &terms, PLN_RULE_LOAD));
    pthread_mutex_lock(&rig.gate);
    for (int i = 0; i < 20; i++) {
        char key[16];
        struct pln_hashed hashed;
        snprintf(key, sizeof key, "k:%d", i);
        pln_cache_key(CACHE, pln_key(key), &hashed);
        pln_fill_behind(CACHE, &hashed, PLN_FOREVER);
    }
    ck_assert_uint_eq(pln_flights_count(CACHE->flights), 20);
    pthread_mutex_unlock(&rig.gate);
} /* teardown closes: its asserts find a flight that was left behind */
END_TEST

int main(void) {
    Suite *suite = suite_create("load");
    TCase *tests = tcase_create("load");
    suite_add_tcase(suite, tests);
    tcase_add_checked_fixture(tests, setup, teardown);
    tcase_add_test(tests, a_callers_loader_runs_once_and_its_value_stays);
    tcase_add_test(tests, an_absence_that_a_loader_reports_is_cached);
    tcase_add_test(tests, a_loaders_failure_reaches_the_caller_with_its_text_and_is_not_cached);
    tcase_add_test(tests, a_rules_loader_runs_on_a_worker);
    tcase_add_test(tests, of_many_threads_that_miss_one_key_one_loads);
    tcase_add_test(tests, a_wait_for_a_load_ends_at_the_timeout);
    tcase_add_test(tests, a_delete_during_a_load_keeps_its_value_out);
    tcase_add_loop_test(tests, a_read_after_an_invalidation_does_not_wait_for_an_older_load, 0,
                        PLN_ARRAY_LEN(invalidations));
    tcase_add_test(tests, a_hit_past_the_refresh_point_is_served_and_loaded_behind);
    tcase_add_test(tests, a_stale_value_is_served_while_it_is_loaded_behind);
    tcase_add_test(tests, a_stale_value_is_served_when_the_loader_fails_and_not_for_ever);
    tcase_add_test(tests, jitter_takes_off_at_most_its_share_and_never_adds);
    tcase_add_test(tests, related_keys_are_loaded_ahead);
    tcase_add_test(tests, a_rules_functions_shape_what_is_set);
    tcase_add_test(tests, a_value_over_a_rules_limit_is_handed_out_and_not_kept);
    tcase_add_test(tests, a_refresh_whose_value_is_not_kept_is_followed_by_another);
    tcase_add_test(tests, a_callers_load_whose_value_is_not_kept_is_followed_by_another);
    tcase_add_test(tests, a_refresh_that_joins_a_load_which_brings_nothing_is_followed_by_another);
    tcase_add_loop_test(tests, who_brings_a_loader_is_not_told_what_a_leader_without_one_was, 0, 2);
    tcase_add_test(tests, who_brings_no_loader_either_is_told_what_the_leader_was);
    tcase_add_test(tests, a_cache_that_closes_ends_the_loads_it_has_not_begun);
    return rig_run(suite);
}
