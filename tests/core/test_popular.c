/* SPDX-License-Identifier: MIT
 * test_popular.c - core/popular.c: popular keys are loaded anew without a request, for a while.
 */
#include "rig.h"

#include <stdio.h>

#include "../../core/flight.h"

static struct rig rig;
static struct pln_terms terms;

/* Due 8 s after a load, and looked at a second before. */
enum { TTL = 10000, LOOK = 7000, KEPT = 60000 };

static void setup(void) {
    struct pln_options options = {.ttl_ms = TTL, .refresh = 0.8};
    rig_open(&rig, 1, false, &options);
    terms = *pln_cache_terms(rig.caches[0]);
    terms.keep_hot_ms = KEPT;
}

static void teardown(void) {
    rig_close(&rig);
}

#define CACHE rig.caches[0]

/* More hits than may go by without one being counted. */
static void ask(const char *value) {
    for (int i = 0; i < 64; i++) {
        rig_expect(CACHE, "k:1", value, "l1");
    }
}

static void begin(void) {
    rig_policy(&rig, CACHE, rig_rule("k:{id}", &terms, PLN_RULE_LOAD));
    rig_expect(CACHE, "k:1", "loaded 1", "loaded");
    ask("loaded 1");
    pln_popular_run(CACHE);
    ck_assert_uint_eq(rig_stat(CACHE, "hot_refreshes"), 0);
}

/* As the worker does it, who may also come first. */
static void look(uint64_t n_refreshed) {
    pln_popular_run(CACHE);
    rig_await(CACHE, "l1_replaces", n_refreshed);
    ck_assert_uint_eq(rig_stat(CACHE, "hot_refreshes"), n_refreshed);
}

START_TEST(a_popular_key_stays_fresh_without_a_request_until_none_came_for_so_long) {
    begin();
    rig.now += LOOK - 1;
    look(0);
    rig.now += 1;
    for (uint64_t n = 1; n <= KEPT / LOOK; n++, rig.now += LOOK) {
        look(n);
    }
    look(KEPT / LOOK); /* 63 s after the last request */
    rig.now += TTL - LOOK;
    rig_expect(CACHE, "k:1", "loaded 10", "loaded"); /* left to its ttl */
}
END_TEST

START_TEST(while_it_is_asked_for_nobody_ever_waits) {
    char text[32];
    begin();
    for (unsigned n = 1; n <= 3 * KEPT / LOOK; n++) {
        rig.now += LOOK;
        look(n);
        snprintf(text, sizeof text, "loaded %u", n + 1);
        ask(text);
    }
    ck_assert_uint_eq(rig_stat(CACHE, "loads_served"), 1);
}
END_TEST

START_TEST(keys_of_other_rules_are_left_alone) {
    terms.keep_hot_ms = 0;
    begin();
    rig.now += LOOK + 500;
    look(0);
    rig_expect(CACHE, "k:1", "loaded 1", "l1");
}
END_TEST

/* Such as the copy of a hash: no loader knows it. */
START_TEST(keys_of_the_librarys_own_are_left_alone) {
    struct pln_bytes key = pln_bytes_of("\0h:x", 4);
    struct pln_result result;
    rig_policy(&rig, CACHE, rig_rule("*", &terms, PLN_RULE_LOAD));
    ck_assert_int_eq(pln_set(CACHE, key, pln_key("whole"), NULL), PLN_OK);
    for (int i = 0; i < 64; i++) {
        ck_assert_int_eq(pln_get(CACHE, key, NULL, &result), PLN_OK);
        pln_release(CACHE, result.value);
    }
    pln_popular_run(CACHE);
    rig.now += LOOK;
    look(0);
}
END_TEST

START_TEST(a_load_that_fails_is_tried_again_after_a_while) {
    begin();
    rig.load_status = PLN_ELOADER;
    rig.now += LOOK;
    pln_popular_run(CACHE);
    rig_await(CACHE, "load_errors", 1);
    rig.load_status = PLN_OK;
    rig.now += terms.retry_ms - 1;
    pln_popular_run(CACHE);
    ck_assert_uint_eq(rig_stat(CACHE, "hot_refreshes"), 1);
    pln_ns deadline = pln_deadline(10000);
    while (pln_flights_count(CACHE->flights) > 0) {
        ck_assert_int_lt(pln_clock_precise(), deadline);
    }
    rig.now += 1;
    pln_popular_run(CACHE);
    rig_await(CACHE, "l1_replaces", 1);
    ck_assert_uint_eq(rig_stat(CACHE, "hot_refreshes"), 2);
}
END_TEST

START_TEST(a_worker_looks_by_itself) {
    begin();
    rig.now += LOOK;
    rig_await(CACHE, "hot_refreshes", 1);
}
END_TEST

int main(void) {
    Suite *suite = suite_create("popular");
    TCase *tests = tcase_create("popular");
    suite_add_tcase(suite, tests);
    tcase_add_checked_fixture(tests, setup, teardown);
    tcase_set_timeout(tests, 30);
    tcase_add_test(tests, a_popular_key_stays_fresh_without_a_request_until_none_came_for_so_long);
    tcase_add_test(tests, while_it_is_asked_for_nobody_ever_waits);
    tcase_add_test(tests, keys_of_other_rules_are_left_alone);
    tcase_add_test(tests, keys_of_the_librarys_own_are_left_alone);
    tcase_add_test(tests, a_load_that_fails_is_tried_again_after_a_while);
    tcase_add_test(tests, a_worker_looks_by_itself);
    return rig_run(suite);
}
