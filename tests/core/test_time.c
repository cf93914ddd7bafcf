/* SPDX-License-Identifier: MIT
 * test_time.c - core/life.c: when values end, in which tier, and how much chance has to do with it.
 */
#include "rig.h"

#include <sched.h>
#include <stdio.h>

#include "../../core/flight.h"

static struct rig rig;
static struct pln_terms terms;

static void setup(void) {
    struct pln_options options = {.ttl_ms = 10000, .load_timeout_ms = 5000};
    rig_open(&rig, 1, false, &options);
    terms = *pln_cache_terms(rig.caches[0]);
}

static void setup_two(void) {
    struct pln_options options = {.ttl_ms = 10000};
    rig_open(&rig, 2, true, &options);
    terms = *pln_cache_terms(rig.caches[0]);
}

static void teardown(void) {
    rig_close(&rig);
}

#define A rig.caches[0]
#define B rig.caches[1]

/* Reads a key that is there, and says for how long it is fresh. */
static pln_ms left_of(struct pln_cache *cache, const char *key, const char *source) {
    struct pln_result result;
    ck_assert_int_eq(pln_get(cache, pln_key(key), NULL, &result), PLN_OK);
    ck_assert_str_eq(pln_source_name(result.source), source);
    pln_release(cache, result.value);
    return result.left_ms;
}

static void forget(struct pln_cache *cache, const char *name) {
    struct pln_hashed key;
    pln_cache_key(cache, pln_key(name), &key);
    pln_inval_key(cache->inval, &key);
}

/* Waits until no load is under way. */
static void await_no_flight(struct pln_cache *cache) {
    pln_ns deadline = pln_deadline(10000);
    while (pln_flights_count(cache->flights) > 0) {
        ck_assert_int_lt(pln_clock_precise(), deadline);
        sched_yield();
    }
}

/* ---- jitter ---- */

enum { MANY = 4000, PARTS = 10 };

/* Of a spread over PARTS equal parts, each holds MANY / PARTS of MANY give or take six standard
 * deviations: one run in 50 million is further off. */
static void expect_even(const int *counts) {
    for (int i = 0; i < PARTS; i++) {
        ck_assert_msg(counts[i] > 286 && counts[i] < 514, "%d of %d in part %d of %d", counts[i],
                      MANY, i + 1, PARTS);
    }
}

static void store(struct pln_cache *cache, const char *key, bool by_loading) {
    struct pln_result result;
    if (by_loading) {
        ck_assert_int_eq(pln_get(cache, pln_key(key), NULL, &result), PLN_OK);
        pln_release(cache, result.value);
    } else {
        rig_set(cache, key, "v");
    }
}

START_TEST(jitter_spreads_ttls_evenly_and_never_above_the_ttl) {
    int counts[PARTS] = {0};
    terms.jitter = 0.4;
    rig_policy(&rig, A, rig_rule("k:{id}", &terms, PLN_RULE_LOAD));
    for (int i = 0; i < MANY; i++) {
        char key[16];
        snprintf(key, sizeof key, "k:%d", i);
        store(A, key, _i == 1);
        pln_ms left = left_of(A, key, "l1");
        ck_assert_int_ge(left, 6000);
        ck_assert_int_le(left, 10000);
        counts[(10000 - left) * PARTS / 4001]++;
    }
    expect_even(counts);
}
END_TEST

START_TEST(what_a_caller_says_of_one_value_has_no_jitter) {
    struct pln_set_options options = {.ttl_ms = 7000};
    terms.jitter = 0.9;
    rig_policy(&rig, A, rig_rule("k:{id}", &terms, 0));
    ck_assert_int_eq(pln_set(A, pln_key("k:1"), pln_key("v"), &options), PLN_OK);
    ck_assert_int_eq(left_of(A, "k:1", "l1"), 7000);
}
END_TEST

static int bring_for_nobody(void *arg, struct pln_bytes key, struct pln_load *load) {
    (void) arg;
    (void) key;
    pln_load_ttl(load, -1);
    return pln_load_value(load, pln_key("brought"), 0);
}

START_TEST(jitter_makes_no_life_of_a_ttl_that_says_not_to_store) {
    struct pln_result result;
    terms.jitter = 0.5;
    rig_policy(&rig, A, rig_rule("k:{id}", &terms, 0));
    for (int i = 1; i <= 2; i++) {
        ck_assert_int_eq(pln_get_or_load(A, pln_key("k:1"), NULL, bring_for_nobody, NULL, &result),
                         PLN_OK);
        pln_release(A, result.value);
        ck_assert_uint_eq(rig_stat(A, "loads"), (uint64_t) i);
    }
}
END_TEST

/* ---- loads that fail ---- */

START_TEST(after_a_failed_load_the_stale_value_is_served_at_once_and_the_next_comes_later) {
    const pln_ms ttl = 10000, grace = 60000;
    uint64_t errors = 0;
    struct pln_result result;
    terms.stale_if_error_ms = grace;
    terms.retry_ms = 5000;
    rig_policy(&rig, A, rig_rule("k:{id}", &terms, PLN_RULE_LOAD));
    rig_expect(A, "k:1", "loaded 1", "loaded");
    rig.load_status = PLN_ELOADER;
    rig.now += ttl;
    for (pln_ms past = 0; past < grace; past += 1000, rig.now += 1000) {
        errors += past % terms.retry_ms == 0;
        rig_expect(A, "k:1", "loaded 1", "stale");
        ck_assert_uint_eq(rig_stat(A, "load_errors"), errors);
    }
    ck_assert_uint_eq(rig_stat(A, "loads_held"), 48);
    for (int i = 1; i <= 3; i++) { /* its end was not put off, and nothing is left to wait with */
        ck_assert_int_eq(pln_get(A, pln_key("k:1"), NULL, &result), PLN_ELOADER);
        ck_assert_uint_eq(rig_stat(A, "load_errors"), errors + (uint64_t) i);
    }
    rig.load_status = PLN_OK;
    rig_expect(A, "k:1", "loaded 17", "loaded");
}
END_TEST

START_TEST(a_caller_who_takes_nothing_stale_does_not_wait_for_the_next_try) {
    struct pln_get_options options = {.flags = PLN_GET_NO_STALE};
    struct pln_result result;
    terms.stale_if_error_ms = 60000;
    rig_policy(&rig, A, rig_rule("k:{id}", &terms, PLN_RULE_LOAD));
    rig_expect(A, "k:1", "loaded 1", "loaded");
    rig.load_status = PLN_ELOADER;
    rig.now += 10000;
    rig_expect(A, "k:1", "loaded 1", "stale");
    ck_assert_int_eq(pln_get(A, pln_key("k:1"), &options, &result), PLN_ELOADER);
    rig.load_status = PLN_OK;
    ck_assert_int_eq(pln_get(A, pln_key("k:1"), &options, &result), PLN_OK);
    pln_release(A, result.value);
    rig_expect(A, "k:1", "loaded 4", "l1");
}
END_TEST

START_TEST(a_refresh_that_failed_is_tried_again_after_a_while_and_not_with_each_hit) {
    terms.refresh = 0.5;
    rig_policy(&rig, A, rig_rule("k:{id}", &terms, PLN_RULE_LOAD));
    rig_expect(A, "k:1", "loaded 1", "loaded");
    rig.load_status = PLN_ELOADER;
    rig.now += 5000;
    rig_expect(A, "k:1", "loaded 1", "l1");
    rig_await(A, "load_errors", 1);
    rig.now += 999;
    rig_expect(A, "k:1", "loaded 1", "l1");
    ck_assert_uint_eq(rig_stat(A, "loads_held"), 1);
    rig.load_status = PLN_OK;
    rig.now += 1;
    await_no_flight(A); /* whose end lets the next one begin */
    rig_expect(A, "k:1", "loaded 1", "l1");
    rig_await(A, "l1_replaces", 1);
    rig_expect(A, "k:1", "loaded 3", "l1");
    ck_assert_uint_eq(rig_stat(A, "refreshes"), 2);
}
END_TEST

/* ---- two tiers ---- */

START_TEST(what_is_left_of_a_life_comes_from_l2_to_the_millisecond) {
    static const pln_ms waits[] = {0, 1, 1233, 6000, 2763, 2};
    pln_ms left = 10000;
    rig_set(A, "k", "v");
    for (size_t i = 0; i < PLN_ARRAY_LEN(waits); i++) {
        rig.now += waits[i];
        left -= waits[i];
        ck_assert_int_eq(left_of(B, "k", "l2"), left);
        ck_assert_int_eq(left_of(B, "k", "l1"), left);
        forget(B, "k");
    }
    ck_assert_int_eq(left, 1);
    rig.now += 1;
    rig_expect(B, "k", NULL, "miss");
    rig_expect(A, "k", NULL, "miss");
}
END_TEST

START_TEST(a_value_lives_in_l2_no_longer_than_its_l2_ttl) {
    struct pln_set_options options = {.stale_ms = 60000};
    terms.l2_ttl_ms = 4000;
    for (size_t i = 0; i < 2; i++) {
        rig_policy(&rig, rig.caches[i], rig_rule("k:{id}", &terms, PLN_RULE_LOAD));
    }
    ck_assert_int_eq(pln_set(A, pln_key("k:1"), pln_key("v"), &options), PLN_OK);
    rig_expect(A, "k:2", "loaded 1", "loaded");
    rig.now += 3999;
    ck_assert_int_eq(left_of(B, "k:1", "l2"), 1);
    ck_assert_int_eq(left_of(B, "k:2", "l2"), 1);
    rig.now += 1;
    ck_assert_int_eq(left_of(A, "k:1", "l1"), 6000); /* its own copy has its ttl */
    ck_assert_int_eq(left_of(A, "k:2", "l1"), 6000);
    rig_expect(B, "k:1", "loaded 2", "loaded");
    rig_expect(B, "k:2", "loaded 3", "loaded");
}
END_TEST

START_TEST(nothing_prolongs_a_value_past_its_greatest_age) {
    struct pln_set_options options = {.ttl_ms = 20000, .stale_ms = 60000};
    terms.max_age_ms = 15000;
    for (size_t i = 0; i < 2; i++) {
        rig_policy(&rig, rig.caches[i], rig_rule("k:{id}", &terms, 0));
    }
    ck_assert_int_eq(pln_set(A, pln_key("k:1"), pln_key("v"), &options), PLN_OK);
    ck_assert_int_eq(left_of(A, "k:1", "l1"), 15000);
    rig.now += 9000;
    ck_assert_int_eq(left_of(B, "k:1", "l2"), 6000);
    ck_assert_int_eq(pln_touch(A, pln_key("k:1"), 10000), PLN_OK);
    ck_assert_int_eq(left_of(A, "k:1", "l1"), 6000);
    rig.now += 5999;
    ck_assert_int_eq(left_of(A, "k:1", "l1"), 1);
    ck_assert_int_eq(left_of(B, "k:1", "l1"), 1);
    rig.now += 1;
    rig_expect(A, "k:1", NULL, "miss"); /* and not served as stale either */
    rig_expect(B, "k:1", NULL, "miss");
}
END_TEST

/* Who touches a key without having read it does not know its age; who reads it does. */
START_TEST(what_l2_keeps_past_its_greatest_age_is_not_served) {
    struct pln_bytes key = pln_key("k:1");
    struct pln_get_options options = {0};
    struct pln_result result;
    int status;
    terms.max_age_ms = 12000;
    terms.stale_ms = terms.stale_if_error_ms = 60000;
    rig_policy(&rig, B, rig_rule("k:{id}", &terms, 0));
    rig_set(A, "k:1", "v");
    rig.now += 9000;
    ck_assert_int_eq(pln_touch(A, key, 60000), PLN_OK); /* where no such rule holds */
    ck_assert_int_eq(left_of(B, "k:1", "l2"), 3000);
    rig.now += 3000;
    rig_expect(B, "k:1", NULL, "miss");
    ck_assert_int_eq(pln_get_many(B, &key, 1, &options, &result, &status), PLN_OK);
    ck_assert_int_eq(status, PLN_MISS);
    ck_assert_int_eq(left_of(A, "k:1", "l1"), 57000);
}
END_TEST

/* Whether who touches it has a copy with a longer L1 ttl, or none: others' become no younger. */
START_TEST(a_touch_elsewhere_gives_a_copy_neither_a_new_l1_ttl_nor_a_new_age) {
    struct pln_terms longer = terms;
    terms.l1_ttl_ms = 6000;
    rig_policy(&rig, A, rig_rule("k:{id}", &longer, 0));
    rig_policy(&rig, B, rig_rule("k:{id}", &terms, 0));
    rig_set(A, "k:1", "v");
    rig.now += 1000;
    ck_assert_int_eq(left_of(B, "k:1", "l2"), 6000); /* so B's copy ends at 7000 */
    rig.now += 4000;
    ck_assert_int_eq(pln_touch(A, pln_key("k:1"), 60000), PLN_OK);
    ck_assert_int_eq(left_of(B, "k:1", "l1"), 2000);
    ck_assert_int_eq(pln_touch(A, pln_key("k:1"), 1000), PLN_OK);
    ck_assert_int_eq(left_of(B, "k:1", "l1"), 1000);
    ck_assert_int_eq(pln_touch(A, pln_key("k:1"), 60000), PLN_OK);
    rig.now += 2000;
    ck_assert_int_eq(left_of(B, "k:1", "l2"), 6000);

    terms.l1_ttl_ms = longer.l1_ttl_ms;
    terms.max_age_ms = 12000;
    rig_policy(&rig, B, rig_rule("k:{id}", &terms, 0));
    rig_set(B, "k:2", "v");
    rig.now += 9000;
    ck_assert_int_eq(pln_touch(A, pln_key("k:2"), 60000), PLN_OK);
    ck_assert_int_eq(left_of(B, "k:2", "l1"), 3000);
    rig.now += 3000;
    rig_expect(B, "k:2", NULL, "miss");
}
END_TEST

START_TEST(what_l2_keeps_for_failures_is_served_without_another_try) {
    terms.stale_if_error_ms = 60000;
    rig_policy(&rig, A, rig_rule("k:{id}", &terms, PLN_RULE_LOAD));
    rig_expect(A, "k:1", "loaded 1", "loaded");
    rig.load_status = PLN_ELOADER;
    rig.now += 10000;
    for (int i = 0; i < 5; i++) {
        forget(A, "k:1");
        rig_expect(A, "k:1", "loaded 1", "stale");
        ck_assert_uint_eq(rig_stat(A, "load_errors"), 1);
    }
    rig.now += 1000;
    forget(A, "k:1");
    rig_expect(A, "k:1", "loaded 1", "stale");
    ck_assert_uint_eq(rig_stat(A, "load_errors"), 2);
}
END_TEST

int main(void) {
    Suite *suite = suite_create("time");
    TCase *one = tcase_create("one");
    suite_add_tcase(suite, one);
    tcase_add_checked_fixture(one, setup, teardown);
    tcase_add_loop_test(one, jitter_spreads_ttls_evenly_and_never_above_the_ttl, 0, 2);
    tcase_add_test(one, what_a_caller_says_of_one_value_has_no_jitter);
    tcase_add_test(one, jitter_makes_no_life_of_a_ttl_that_says_not_to_store);
    tcase_add_test(one,
                   after_a_failed_load_the_stale_value_is_served_at_once_and_the_next_comes_later);
    tcase_add_test(one, a_caller_who_takes_nothing_stale_does_not_wait_for_the_next_try);
    tcase_add_test(one, a_refresh_that_failed_is_tried_again_after_a_while_and_not_with_each_hit);

    TCase *two = tcase_create("two");
    suite_add_tcase(suite, two);
    tcase_add_checked_fixture(two, setup_two, teardown);
    tcase_add_test(two, what_is_left_of_a_life_comes_from_l2_to_the_millisecond);
    tcase_add_test(two, a_value_lives_in_l2_no_longer_than_its_l2_ttl);
    tcase_add_test(two, nothing_prolongs_a_value_past_its_greatest_age);
    tcase_add_test(two, what_l2_keeps_past_its_greatest_age_is_not_served);
    tcase_add_test(two, a_touch_elsewhere_gives_a_copy_neither_a_new_l1_ttl_nor_a_new_age);
    tcase_add_test(two, what_l2_keeps_for_failures_is_served_without_another_try);
    return rig_run(suite);
}
