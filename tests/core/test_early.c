/* SPDX-License-Identifier: MIT
 * test_early.c - core/due.c, cost.c: loads before their time, by chance, and what they bring. With
 * PLN_TELL set it prints the figures that stand in due.c.
 */
#include "rig.h"

#include <math.h>
#include <stdio.h>

static struct rig rig;
static struct pln_terms terms;

static void setup(void) {
    struct pln_options options = {.ttl_ms = 10000};
    rig_open(&rig, 2, true, &options);
    terms = *pln_cache_terms(rig.caches[0]);
    terms.early = 1;
}

static void teardown(void) {
    rig_close(&rig);
}

#define A rig.caches[0]
#define B rig.caches[1]

enum { COST = 400, TTL = 10000, WINDOW = 4606 }; /* 4605.2 before it the chance is 1 in 100,000 */

/* A load that takes a while. */
static int bring(void *arg, struct pln_bytes key, struct pln_load *load) {
    char text[32];
    int *n = arg;
    (void) key;
    rig.now += COST;
    if (*n < 0) {
        return pln_load_error(load, "nothing today");
    }
    int len = snprintf(text, sizeof text, "own %d", ++*n);
    return pln_load_value(load, pln_bytes_of(text, (size_t) len), 0);
}

static struct pln_result get(struct pln_cache *cache, int *n) {
    struct pln_result result;
    ck_assert_msg(pln_get_or_load(cache, pln_key("k:1"), NULL, bring, n, &result) == PLN_OK, "%s",
                  pln_error_text());
    pln_release(cache, result.value);
    return result;
}

/* A rule on both caches, and a value that was just loaded. */
static void load_first(uint32_t hooks, int *n) {
    rig_policy(&rig, A, rig_rule("k:{id}", &terms, hooks));
    rig_policy(&rig, B, rig_rule("k:{id}", &terms, hooks));
    ck_assert_str_eq(pln_source_name(get(A, n).source), "loaded");
}

/* As if this cache had loaded before: else it does not know for how long, and waits for the end. */
static void know_cost(struct pln_cache *cache) {
    struct pln_match match;
    struct pln_ruleset *ruleset;
    pln_cost_note(pln_cache_match(cache, pln_key("k:1"), &match, &ruleset), COST);
    pln_ruleset_unref(ruleset);
}

/* ---- one key ---- */

START_TEST(before_the_window_no_hit_loads_and_at_its_end_all_but_each_does) {
    int n = 0;
    load_first(0, &n);
    rig.now += TTL - WINDOW - 1;
    for (int i = 0; i < 1000; i++) {
        ck_assert_str_eq(pln_source_name(get(A, &n).source), "l1");
    }
    ck_assert_int_eq(n, 1);
    rig.now += WINDOW; /* 1 ms is left: one draw in 400 does not load */
    for (int i = 0; i < 10 && n == 1; i++) {
        get(A, &n);
    }
    ck_assert_int_eq(n, 2);
    ck_assert_int_eq(get(A, &n).left_ms, TTL);
}
END_TEST

START_TEST(of_several_processes_one_loads_early_and_the_others_take_what_it_brought) {
    int n = 0;
    load_first(0, &n);
    know_cost(B);
    ck_assert_str_eq(pln_source_name(get(B, &n).source), "l2");
    rig.now += TTL - 1;
    for (int i = 0; i < 10 && n == 1; i++) {
        get(A, &n);
    }
    rig.now -= COST; /* as if both had asked at once: B's copy has 1 ms left */
    struct pln_result result = get(B, &n);
    for (int i = 0; i < 10 && result.left_ms < 2; i++) {
        result = get(B, &n);
    }
    ck_assert_str_eq(pln_source_name(result.source), "l2");
    ck_assert_int_gt(result.left_ms, 2);
    ck_assert_int_eq(n, 2);
}
END_TEST

START_TEST(an_early_load_that_fails_leaves_the_value_to_its_end) {
    int n = 0, failing = -1;
    load_first(0, &n);
    rig.now += TTL - COST - 2;
    for (int i = 0; i < 1000 && rig_stat(A, "load_errors") == 0; i++) {
        ck_assert_str_ne(pln_source_name(get(A, &failing).source), "loaded");
    }
    ck_assert_uint_eq(rig_stat(A, "load_errors"), 1);
    ck_assert_uint_eq(rig_stat(A, "stale_served"), 0);
    struct pln_result result = get(A, &failing); /* which waits for a retry */
    ck_assert_str_eq(pln_source_name(result.source), "l1");
    ck_assert_int_eq(result.left_ms, 2);
    ck_assert_uint_eq(rig_stat(A, "load_errors"), 1);
}
END_TEST

START_TEST(a_rules_loader_loads_early_behind_the_caller) {
    int n = 0;
    load_first(PLN_RULE_LOAD, &n);
    rig.now += TTL - 1;
    for (int i = 0; i < 10 && rig_stat(A, "refreshes") == 0; i++) {
        rig_expect(A, "k:1", "own 1", "l1");
    }
    rig_await(A, "l1_replaces", 1);
    rig_expect(A, "k:1", "loaded 1", "l1");
}
END_TEST

START_TEST(what_lives_for_ever_is_never_loaded_early) {
    int n = 0;
    terms.ttl_ms = PLN_FOREVER;
    load_first(0, &n);
    rig.now += (pln_ms) 40 * 86400000;
    ck_assert_str_eq(pln_source_name(get(A, &n).source), "l2"); /* past the ttl of L1 */
    ck_assert_str_eq(pln_source_name(get(A, &n).source), "l1");
    ck_assert_int_eq(n, 1);
}
END_TEST

START_TEST(where_the_ttl_of_l1_ends_a_copy_the_value_is_read_and_not_loaded) {
    int n = 0;
    terms.l1_ttl_ms = 2000;
    load_first(0, &n);
    for (int left = TTL - 2000; left > 0; left -= 2000) {
        rig.now += 1999;
        for (int i = 0; i < 100; i++) { /* each would be certain to load, had the value ended */
            ck_assert_str_eq(pln_source_name(get(A, &n).source), "l1");
        }
        rig.now += 1;
        struct pln_result result = get(A, &n);
        ck_assert_str_eq(pln_source_name(result.source), "l2");
        ck_assert_int_eq(result.left_ms, 2000);
    }
    ck_assert_int_eq(n, 1);
    rig.now += 1999;
    for (int i = 0; i < 10 && n == 1; i++) {
        get(A, &n);
    }
    ck_assert_int_eq(n, 2);
}
END_TEST

/* ---- costs ---- */

START_TEST(a_loads_cost_is_a_moving_average_that_outlives_a_reload) {
    _Atomic uint32_t cell = 0;
    struct pln_terms measured = {.cost = &cell};
    struct pln_hashed key;
    int n = 0;
    for (int i = 0; i < 3; i++) {
        pln_cost_note(&measured, 100);
    }
    ck_assert_double_eq(pln_cost(&measured), 100);
    pln_cost_note(&measured, 900);
    ck_assert_double_eq(pln_cost(&measured), 200);
    for (int i = 0; i < 100; i++) {
        pln_cost_note(&measured, i % 4 == 0 ? 4 : 0); /* a clock of 4 ms, loads of 1 */
    }
    ck_assert_double_gt(pln_cost(&measured), 0.5);
    ck_assert_double_lt(pln_cost(&measured), 2);

    load_first(0, &n);
    struct pln_match match;
    struct pln_ruleset *ruleset;
    rig_policy(&rig, A, rig_rule("k:{id}", &terms, 0));
    pln_cache_key(A, pln_key("k:1"), &key);
    ck_assert_double_eq(pln_cost(pln_cache_match(A, key.key, &match, &ruleset)), COST);
    pln_ruleset_unref(ruleset);
    rig_policy(&rig, A, rig_rule("{any}", &terms, 0));
    ck_assert_double_eq(pln_cost(pln_cache_match(A, key.key, &match, &ruleset)), 0);
    pln_ruleset_unref(ruleset);
}
END_TEST

/* ---- what it brings ---- */

/* A key that is asked for at random times, `rate` times a second; a load takes 200 ms. */
struct played {
    double lapsed; /* share of the ttls that ended before anybody had loaded */
    double waited; /* requests in a ttl that came between its end and the next value */
    double lead;   /* how long before the end a load began, in ms, of those that began early */
    double loads;  /* in a minute */
};

static uint64_t dice;

static uint64_t roll(void) {
    dice += UINT64_C(0x9e3779b97f4a7c15); /* splitmix64 */
    uint64_t x = dice;
    x = (x ^ (x >> 30)) * UINT64_C(0xbf58476d1ce4e5b9);
    x = (x ^ (x >> 27)) * UINT64_C(0x94d049bb133111eb);
    return x ^ (x >> 31);
}

static double gap(double rate) {
    return -log(((double) (roll() >> 11) + 0.5) * 0x1p-53) * 1000 / rate;
}

static struct played play(double rate, double early) {
    enum { TTLS = 5000, LOAD = 200 };
    _Atomic uint32_t cost = LOAD * 1000;
    struct pln_terms played = {.early = early, .cost = &cost};
    struct played sum = {0};
    double now = 0, end = TTL;
    dice = 12;
    for (int i = 0; i < TTLS; i++) {
        double left, due = end - (double) pln_early_window(&played);
        now = now > due ? now : due; /* who comes before that is served, and changes nothing */
        do {
            now += gap(rate);
            left = end - now;
        } while (left > 0 && !pln_early_draw(&played, (pln_ms) left,
                                             ((double) (roll() >> 11) + 0.5) * 0x1p-53));
        if (left > 0) {
            sum.lead += left;
            now += LOAD; /* behind; who comes meanwhile is served */
        } else {
            sum.lapsed++;
            double loaded = now + LOAD;
            while (now < loaded) {
                now += gap(rate);
                sum.waited++;
            }
        }
        end = now + TTL;
    }
    sum.lead /= sum.lapsed < TTLS ? TTLS - sum.lapsed : 1;
    sum.loads = TTLS * 60000 / now;
    sum.lapsed /= TTLS;
    sum.waited /= TTLS;
    return sum;
}

/* Of requests that come at random, n on average within early * cost, the chance that none loads
 * early is exp(-n); where n is large, the load begins early * cost * (ln n + 0.577) before the end
 * on average. */
START_TEST(early_loads_come_when_the_arithmetic_says_and_spare_the_waiting) {
    static const double rates[] = {5, 5, 5, 100, 100, 1000};
    static const double earlies[] = {0, 1, 2, 0, 1, 1};
    for (size_t i = 0; i < PLN_ARRAY_LEN(rates); i++) {
        struct played played = play(rates[i], earlies[i]);
        double n = rates[i] * earlies[i] * 0.2;
        if (getenv("PLN_TELL") != NULL) {
            printf("# %6g/s early %g: %5.1f%% lapse, %5.2f wait, %4.0f ms ahead, %.2f loads/min\n",
                   rates[i], earlies[i], played.lapsed * 100, played.waited, played.lead,
                   played.loads);
        }
        ck_assert_double_eq_tol(played.lapsed, exp(-n), 0.02);
        if (n >= 20) {
            double lead = earlies[i] * 200 * (log(n) + 0.5772);
            ck_assert_double_eq_tol(played.lead, lead, lead * 0.03);
            ck_assert_double_eq(played.waited, 0);
        }
        if (earlies[i] == 0) {
            ck_assert_double_gt(played.waited, 1 + rates[i] * 0.2 * 0.95);
        }
    }
}
END_TEST

int main(void) {
    Suite *suite = suite_create("early");
    TCase *tests = tcase_create("early");
    suite_add_tcase(suite, tests);
    tcase_add_checked_fixture(tests, setup, teardown);
    tcase_add_test(tests, before_the_window_no_hit_loads_and_at_its_end_all_but_each_does);
    tcase_add_test(tests, of_several_processes_one_loads_early_and_the_others_take_what_it_brought);
    tcase_add_test(tests, an_early_load_that_fails_leaves_the_value_to_its_end);
    tcase_add_test(tests, a_rules_loader_loads_early_behind_the_caller);
    tcase_add_test(tests, what_lives_for_ever_is_never_loaded_early);
    tcase_add_test(tests, where_the_ttl_of_l1_ends_a_copy_the_value_is_read_and_not_loaded);
    tcase_add_test(tests, a_loads_cost_is_a_moving_average_that_outlives_a_reload);
    tcase_add_test(tests, early_loads_come_when_the_arithmetic_says_and_spare_the_waiting);
    return rig_run(suite);
}
