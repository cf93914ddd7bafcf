/* SPDX-License-Identifier: MIT
 * test_alert.c - core/alert.c: windows on a clock that is moved by hand.
 *
 * The cache's first worker looks as well, about once a second: at a time at which the test has
 * looked, or will, it sees the same. So requests come before the clock is moved. */
#include "rig.h"
#include "../../core/alert.h"

static struct rig rig;
static struct pln_cache *cache;
static _Atomic int n_told;
static struct pln_alert_news told; /* the last; read when the worker has nothing to tell */

static void keep_news(void *arg, unsigned worker, unsigned index,
                      const struct pln_alert_news *news) {
    (void) arg;
    ck_assert_uint_eq(worker, 0);
    ck_assert_uint_eq(index, 0);
    told = *news;
    atomic_fetch_add(&n_told, 1);
}

static void setup(void) {
    struct pln_options options = {.max_bytes = 1 << 20};
    rig_open(&rig, 1, false, &options);
    cache = rig.caches[0];
    atomic_store(&n_told, 0);
}

static void teardown(void) {
    rig_close(&rig);
}

static void watch(struct pln_alert alert) {
    struct pln_ruleset *ruleset = pln_ruleset_new();
    ruleset->alerts = malloc(sizeof alert);
    ruleset->alerts[0] = alert;
    ruleset->alerts[0].name = strdup("test");
    ruleset->alerts[0].file = strdup("policy.lua");
    ruleset->n_alerts = 1;
    ruleset->hooks.alert = keep_news;
    pln_cache_set_policy_take(cache, ruleset);
    pln_alerts_look(cache->alerts, 0);
}

static struct pln_alert below_half = {.metric = PLN_METRIC_HIT_RATIO,
                                      .bound = PLN_ALERT_BELOW,
                                      .limit = 0.5,
                                      .over = 60000,
                                      .min_requests = 10,
                                      .has_call = true};

static void get(const char *key, int times) {
    struct pln_result result;
    while (times-- > 0) {
        ck_assert_int_ge(pln_get(cache, pln_key(key), NULL, &result), 0);
        pln_release(cache, result.value);
    }
}

static void pass(pln_ms ms) {
    atomic_fetch_add(&rig.now, ms);
    pln_alerts_look(cache->alerts, 0);
}

static void expect_told(int times) {
    ck_assert_int_eq(atomic_load(&n_told), times);
}

START_TEST(what_is_below_its_bound_is_told_once_per_window) {
    rig_set(cache, "hit", "v");
    watch(below_half);
    get("hit", 5);
    get("miss", 15);
    pass(59000);
    expect_told(0); /* not before the window is full */
    pass(1000);
    expect_told(1);
    ck_assert_double_eq_tol(told.value, 0.25, 1e-9);
    ck_assert_uint_eq(told.requests, 20);
    pass(0);
    get("miss", 20);
    pass(30000);
    get("miss", 20);
    pass(29000);
    expect_told(1);
    pass(1000);
    expect_told(2);
    ck_assert_double_eq(told.value, 0);
    ck_assert_uint_eq(told.requests, 40);
    ck_assert_uint_eq(rig_stat(cache, "policy_alerts"), 2);
}
END_TEST

START_TEST(a_few_requests_say_nothing) {
    watch(below_half);
    get("miss", 9);
    pass(60000);
    expect_told(0);
    get("miss", 10);
    pass(60000);
    expect_told(1);
}
END_TEST

START_TEST(what_has_left_the_window_does_not_count) {
    rig_set(cache, "hit", "v");
    watch(below_half);
    get("miss", 100);
    get("hit", 20);
    pass(60000);
    expect_told(1);
    get("hit", 20);
    for (int i = 0; i < 12; i++) {
        pass(5000); /* to the next time it may be told */
    }
    expect_told(1); /* of all since the beginning 40 of 140 were hits, of the last minute's all */
}
END_TEST

START_TEST(a_window_goes_on_under_a_policy_that_states_it_again) {
    struct pln_alert other = below_half;
    watch(below_half);
    get("miss", 10);
    pass(30000);
    watch(below_half);
    get("miss", 10);
    pass(30000);
    expect_told(1);
    ck_assert_uint_eq(told.requests, 20);
    other.limit = 0.6;
    watch(other);
    get("miss", 10);
    pass(59000);
    expect_told(1); /* another alert, with a window of its own */
    pass(1000);
    expect_told(2);
    pln_cache_set_policy_take(cache, pln_ruleset_new());
    get("miss", 10);
    pass(120000);
    expect_told(2);
}
END_TEST

START_TEST(hits_of_l1_have_a_share_of_their_own) {
    struct pln_alert alert = below_half;
    alert.metric = PLN_METRIC_L1_HIT_RATIO;
    rig_set(cache, "hit", "v");
    watch(alert);
    get("hit", 4);
    get("miss", 6);
    pass(60000);
    expect_told(1);
    ck_assert_double_eq_tol(told.value, 0.4, 1e-9);
}
END_TEST

static int fail_odd(void *arg, struct pln_bytes key, struct pln_load *load) {
    int *n = arg;
    (void) key;
    return ++*n % 2 == 1 ? pln_load_error(load, "odd") : pln_load_value(load, pln_key("v"), 0);
}

START_TEST(loads_that_fail_are_told_of_by_their_share) {
    struct pln_result result;
    struct pln_get_options unkept = {.flags = PLN_GET_NO_L1};
    struct pln_alert alert = below_half;
    int n = 0;
    alert.metric = PLN_METRIC_LOAD_ERRORS;
    alert.bound = PLN_ALERT_ABOVE;
    alert.limit = 0.49;
    watch(alert);
    for (int i = 0; i < 20; i++) {
        char key[] = {'k', (char) ('a' + i), 0};
        int status = pln_get_or_load(cache, pln_key(key), &unkept, fail_odd, &n, &result);
        pln_release(cache, status == PLN_OK ? result.value : NULL);
    }
    pass(60000);
    expect_told(1);
    ck_assert_double_eq_tol(told.value, 0.5, 1e-9);
    ck_assert_uint_eq(told.requests, 20);
}
END_TEST

START_TEST(times_are_told_by_their_percentile) {
    struct pln_alert alert = {.metric = PLN_METRIC_L2_LATENCY,
                              .bound = PLN_ALERT_P99_ABOVE,
                              .limit = 800,
                              .over = 60000,
                              .min_requests = 1000,
                              .has_call = true};
    watch(alert);
    for (int ms = 1; ms <= 1000; ms++) {
        pln_alerts_note_l2(cache->alerts, ms * 1000000LL);
        pln_alerts_note_load(cache->alerts, 5000000000);
    }
    pass(60000);
    expect_told(1);
    ck_assert_double_eq_tol(told.value, 990, 990 / 8.0);
    ck_assert_uint_eq(told.requests, 1000);
    alert.metric = PLN_METRIC_LOAD_LATENCY;
    watch(alert);
    for (int i = 0; i < 1000; i++) {
        pln_alerts_note_load(cache->alerts, i < 995 ? 1000 : 3600000000000); /* 1 us, an hour */
    }
    pass(60000);
    expect_told(1); /* 5 in 1000 are not one in 100 */
    for (int i = 0; i < 1000; i++) {
        pln_alerts_note_load(cache->alerts, i < 985 ? 0 : INT64_MAX);
    }
    pass(60000);
    expect_told(2);
    ck_assert_double_gt(told.value, 3600000);
}
END_TEST

START_TEST(memory_is_told_of_by_its_mean) {
    struct pln_l1_usage usage;
    struct pln_alert alert = below_half;
    pln_l1_usage(cache->l1, &usage);
    double share = (double) usage.bytes / (double) usage.max_bytes;
    alert.metric = PLN_METRIC_MEMORY;
    alert.bound = PLN_ALERT_ABOVE;
    alert.limit = share * 1.01;
    alert.min_requests = 0;
    watch(alert);
    pass(60000);
    expect_told(0);
    alert.limit = share * 0.99;
    watch(alert);
    pass(60000);
    expect_told(1);
    ck_assert_double_eq_tol(told.value, share, share / 100);
    ck_assert_uint_eq(told.requests, 0);
}
END_TEST

START_TEST(without_a_function_it_is_counted) {
    struct pln_alert alert = below_half;
    alert.has_call = false;
    watch(alert);
    get("miss", 10);
    pass(60000);
    expect_told(0);
    ck_assert_uint_eq(rig_stat(cache, "policy_alerts"), 1);
}
END_TEST

int main(void) {
    Suite *suite = suite_create("alert");
    TCase *tests = tcase_create("alert");
    suite_add_tcase(suite, tests);
    tcase_set_timeout(tests, 60);
    tcase_add_checked_fixture(tests, setup, teardown);
    tcase_add_test(tests, what_is_below_its_bound_is_told_once_per_window);
    tcase_add_test(tests, a_few_requests_say_nothing);
    tcase_add_test(tests, what_has_left_the_window_does_not_count);
    tcase_add_test(tests, a_window_goes_on_under_a_policy_that_states_it_again);
    tcase_add_test(tests, hits_of_l1_have_a_share_of_their_own);
    tcase_add_test(tests, loads_that_fail_are_told_of_by_their_share);
    tcase_add_test(tests, times_are_told_by_their_percentile);
    tcase_add_test(tests, memory_is_told_of_by_its_mean);
    tcase_add_test(tests, without_a_function_it_is_counted);
    return rig_run(suite);
}
