/* SPDX-License-Identifier: MIT
 *
 * test_simulate.c - a trace on a virtual clock: what is counted follows from the requests, their
 * times and the policy, whatever the real clock does.
 */
#include "../../core/simulate.h"
#include "rig.h"

#include <stdio.h>

static void no_log(void *arg, int level, const char *line) {
    (void) arg;
    (void) level;
    (void) line;
}

static struct pln_simulation *simulation;
static struct pln_simulation_report report;

static void begin(size_t max_bytes, bool has_l2) {
    struct pln_options cache = {.max_bytes = max_bytes, .ttl_ms = 10000, .log = no_log};
    struct pln_simulation_options options = {.cache = &cache, .has_l2 = has_l2};
    ck_assert_msg(pln_simulation_open(&options, &simulation) == PLN_OK, "%s", pln_error_text());
}

static int never_load(void *arg, unsigned worker, const struct pln_match *match,
                      struct pln_bytes key, struct pln_load *load) {
    (void) arg;
    (void) worker;
    (void) match;
    (void) key;
    (void) load;
    ck_abort_msg("a simulation loads nothing");
    return PLN_ELOADER;
}

/* What a rule's functions say: a second of life for each byte, and a key that will be wanted. */
static int shape(void *arg, unsigned worker, const struct pln_match *match, struct pln_bytes key,
                 struct pln_bytes value, uint8_t format, struct pln_load *load) {
    (void) arg;
    ck_assert_uint_eq(worker, 0);
    ck_assert_uint_eq(format, 0);
    if ((match->rule->hooks & PLN_RULE_TTL) != 0) {
        pln_load_ttl(load, (pln_ms) value.len * 1000);
    }
    return (match->rule->hooks & PLN_RULE_RELATED) != 0 && pln_bytes_equal(key, pln_key("first"))
               ? pln_load_related(load, pln_key("second"))
               : PLN_OK;
}

/* One rule for all keys. */
static void rule(struct pln_terms terms, uint32_t hooks) {
    struct pln_cache *cache = pln_simulation_cache(simulation);
    struct pln_ruleset *ruleset = pln_ruleset_new();
    ruleset->rules = malloc(sizeof *ruleset->rules);
    ruleset->rules[0] = rig_rule("*", &terms, hooks);
    ruleset->n_rules = 1;
    ruleset->hooks = (struct pln_hooks){.load = never_load, .shape = shape};
    pln_cache_set_policy_take(cache, ruleset);
}

static struct pln_terms terms_of(pln_ms ttl, pln_ms stale, double refresh) {
    struct pln_terms terms = *pln_cache_terms(pln_simulation_cache(simulation));
    terms.ttl_ms = ttl;
    terms.stale_ms = stale;
    terms.refresh = refresh;
    return terms;
}

static void play(const char *key, size_t value_bytes, pln_ms at) {
    ck_assert_msg(pln_simulation_get(simulation, pln_key(key), value_bytes, at) == PLN_OK, "%s",
                  pln_error_text());
    pln_simulation_report(simulation, &report);
}

static void end(void) {
    uint64_t answered = report.l1_hits + report.stale + report.l2_hits + report.waited +
                        report.misses + report.failures;
    ck_assert_uint_eq(answered, report.requests);
    pln_simulation_close(simulation);
}

START_TEST(the_clock_is_that_of_the_requests) {
    begin(1 << 20, false);
    play("a", 100, 5000000);
    play("a", 100, 5009999);
    ck_assert_uint_eq(report.l1_hits, 1);
    play("a", 100, 5000000); /* earlier: it is as late as the one before */
    ck_assert_uint_eq(report.l1_hits, 2);
    play("a", 300, 5010000); /* its ttl of 10 s is over */
    ck_assert_uint_eq(report.l1_hits, 2);
    ck_assert_uint_eq(report.waited, 2);
    ck_assert_uint_eq(report.loads, 2);
    ck_assert_uint_eq(report.loaded_bytes, 400);
    ck_assert_uint_eq(report.served_bytes, 600);
    ck_assert_uint_eq(report.requests, 4);
    end();
}
END_TEST

START_TEST(what_is_stale_is_served_while_one_load_runs_behind) {
    begin(1 << 20, false);
    rule(terms_of(10000, 5000, 0), PLN_RULE_LOAD);
    play("a", 100, 0);
    play("a", 100, 12000);
    ck_assert_uint_eq(report.stale, 1);
    ck_assert_uint_eq(report.loads, 2);
    ck_assert_uint_eq(report.refreshes, 1);
    play("a", 100, 12001); /* of the load behind */
    ck_assert_uint_eq(report.l1_hits, 1);
    play("a", 100, 12000 + 15000); /* past what may be served stale */
    ck_assert_uint_eq(report.stale, 1);
    ck_assert_uint_eq(report.waited, 2);
    end();
}
END_TEST

START_TEST(a_hot_key_that_is_refreshed_ahead_lets_nobody_wait) {
    begin(1 << 20, false);
    rule(terms_of(1000, 0, 0.8), PLN_RULE_LOAD);
    for (pln_ms at = 0; at < 100 * 1000; at += 10) {
        play("hot", 64, at);
    }
    ck_assert_uint_eq(report.waited, 1);
    ck_assert_uint_eq(report.l1_hits, report.requests - 1);
    ck_assert_uint_eq(report.refreshes, report.loads - 1);
    ck_assert_uint_eq(report.refreshes, 124); /* one in 800 ms */
    end();
}
END_TEST

START_TEST(functions_of_the_policy_see_the_stand_in) {
    begin(1 << 20, false);
    rule(terms_of(1, 0, 0), PLN_RULE_LOAD | PLN_RULE_TTL);
    play("three", 3, 0);
    play("three", 3, 2999);
    ck_assert_uint_eq(report.l1_hits, 1);
    play("three", 3, 3000);
    ck_assert_uint_eq(report.waited, 2);
    end();
}
END_TEST

START_TEST(what_is_loaded_ahead_is_there_for_the_next_request) {
    begin(1 << 20, false);
    rule(terms_of(10000, 0, 0), PLN_RULE_LOAD | PLN_RULE_RELATED);
    play("first", 10, 0);
    ck_assert_uint_eq(report.loads, 2);
    play("second", 10, 0);
    ck_assert_uint_eq(report.l1_hits, 1);
    ck_assert_uint_eq(report.loaded_bytes, 10 + 1024); /* whose size nobody had said */
    end();
}
END_TEST

/* Plays `n` keys in a round, ten times over. Returns the hits. */
static uint64_t rounds(size_t max_bytes, bool has_l2, int n) {
    char key[16];
    begin(max_bytes, has_l2);
    for (int i = 0; i < 10 * n; i++) {
        snprintf(key, sizeof key, "k%d", i % n);
        play(key, 1000, i / 10);
    }
    end();
    return report.l1_hits;
}

START_TEST(the_budget_bounds_what_is_kept) {
    ck_assert_uint_eq(rounds(4 << 20, false, 1000), 9000);
    ck_assert_uint_eq(report.evictions, 0);
    ck_assert_uint_eq(report.l1_entries, 1000);
    ck_assert_uint_lt(rounds(256 << 10, false, 1000), 4500);
    ck_assert_uint_gt(report.evictions, 0);
    ck_assert_uint_lt(report.l1_bytes, 272 << 10); /* what ended last may wait for readers */
}
END_TEST

START_TEST(an_l2_has_what_l1_gave_up) {
    rounds(256 << 10, true, 1000);
    ck_assert_uint_eq(report.loads, 1000);
    ck_assert_uint_eq(report.waited, 1000);
    ck_assert_uint_eq(report.l2_hits, 9000 - report.l1_hits);
    ck_assert_uint_gt(report.l2_hits, 0);
}
END_TEST

START_TEST(a_replay_is_the_same_each_time) {
    uint64_t first = rounds(256 << 10, false, 2000);
    ck_assert_uint_eq(rounds(256 << 10, false, 2000), first);
}
END_TEST

START_TEST(a_wrong_request_is_refused) {
    begin(1 << 20, false);
    ck_assert_int_eq(pln_simulation_get(simulation, pln_key(""), 1, 0), PLN_EINVAL);
    ck_assert_int_eq(pln_simulation_get(simulation, pln_key("a"), (size_t) 2 << 30, 0), PLN_EINVAL);
    play("a", 0, 0);
    ck_assert_uint_eq(report.requests, 1);
    end();
    pln_simulation_close(NULL);
    struct pln_options wrong = {.eviction = "most"};
    struct pln_simulation_options options = {.cache = &wrong};
    ck_assert_int_eq(pln_simulation_open(&options, &simulation), PLN_EINVAL);
}
END_TEST

int main(void) {
    Suite *suite = suite_create("simulate");
    TCase *tests = tcase_create("simulate");
    tcase_set_timeout(tests, 60);
    tcase_add_test(tests, the_clock_is_that_of_the_requests);
    tcase_add_test(tests, what_is_stale_is_served_while_one_load_runs_behind);
    tcase_add_test(tests, a_hot_key_that_is_refreshed_ahead_lets_nobody_wait);
    tcase_add_test(tests, functions_of_the_policy_see_the_stand_in);
    tcase_add_test(tests, what_is_loaded_ahead_is_there_for_the_next_request);
    tcase_add_test(tests, the_budget_bounds_what_is_kept);
    tcase_add_test(tests, an_l2_has_what_l1_gave_up);
    tcase_add_test(tests, a_replay_is_the_same_each_time);
    tcase_add_test(tests, a_wrong_request_is_refused);
    suite_add_tcase(suite, tests);
    return rig_run(suite);
}
