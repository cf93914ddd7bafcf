/* SPDX-License-Identifier: MIT
 * test_policy_alerts.c - lua/alerts.c: cache.alert, with the texts to the letter, and its function.
 */
#include <check.h>
#include <stdio.h>

#include "fake_core.h"

static struct pln_cache cache;

static void setup(void) {
    fake_open(&cache);
}

static void teardown(void) {
    fake_close(&cache);
}

static void load_good(const char *text) {
    ck_assert_msg(fake_load_text(&cache, text, 0) == PLN_OK, "%s", pln_error_text());
}

START_TEST(alerts_are_compiled) {
    load_good("cache.alert 'hit-ratio' { below = '80%', over = '5m', min_requests = 1000 }\n"
              "cache.alert 'l2-latency' { p99_above = '20ms', over = '1m' }\n"
              "cache.alert 'memory' { above = 0.9, call = function() end }\n");
    const struct pln_alert *alerts = cache.ruleset->alerts;
    ck_assert_uint_eq(cache.ruleset->n_alerts, 3);
    ck_assert_int_eq(alerts[0].metric, PLN_METRIC_HIT_RATIO);
    ck_assert_int_eq(alerts[0].bound, PLN_ALERT_BELOW);
    ck_assert_double_eq(alerts[0].limit, 0.8);
    ck_assert_int_eq(alerts[0].over, 300000);
    ck_assert_uint_eq(alerts[0].min_requests, 1000);
    ck_assert(!alerts[0].has_call);
    ck_assert_str_eq(alerts[0].file, "policy.lua");
    ck_assert_int_eq(alerts[1].bound, PLN_ALERT_P99_ABOVE);
    ck_assert_double_eq(alerts[1].limit, 20);
    ck_assert_uint_eq(alerts[1].min_requests, 100);
    ck_assert_int_eq(alerts[1].line, 2);
    ck_assert_int_eq(alerts[2].bound, PLN_ALERT_ABOVE);
    ck_assert_int_eq(alerts[2].over, 300000);
    ck_assert_uint_eq(alerts[2].min_requests, 0);
    ck_assert(alerts[2].has_call);
}
END_TEST

static const struct {
    const char *source, *text;
} wrong[] = {
    {"cache.alert 'hit-ratoi' { below = 1 }",
     "policy.lua:1: alert 'hit-ratoi': no such measure, did you mean 'hit-ratio'?; there are "
     "hit-ratio, l1-hit-ratio, load-errors, load-latency, l2-latency and memory"},
    {"cache.alert 'x' {}",
     "policy.lua:1: alert 'x': no such measure; there are hit-ratio, l1-hit-ratio, load-errors, "
     "load-latency, l2-latency and memory"},
    {"cache.alert 'hit-ratio' {}",
     "policy.lua:1: alert 'hit-ratio': it has no bound: give it below or above"},
    {"cache.alert 'hit-ratio' { below = 0.1, above = 0.2 }",
     "policy.lua:1: alert 'hit-ratio': it has two bounds: give it below or above"},
    {"cache.alert 'hit-ratio' { p99_above = 1 }",
     "policy.lua:1: alert 'hit-ratio': p99_above: it does not go with hit-ratio; give it below or "
     "above"},
    {"cache.alert 'l2-latency' { above = '20ms' }",
     "policy.lua:1: alert 'l2-latency': above: it does not go with l2-latency; give it p99_above"},
    {"cache.alert 'l2-latency' { p99_above = 'slow' }",
     "policy.lua:1: alert 'l2-latency': p99_above: a duration such as \"20ms\" or seconds, got "
     "'slow'"},
    {"cache.alert 'hit-ratio' { below = 80 }",
     "policy.lua:1: alert 'hit-ratio': below: a share such as \"80%\" or 0.8, got 80"},
    {"cache.alert 'hit-ratio' { below = 0.8, over = '500ms' }",
     "policy.lua:1: alert 'hit-ratio': over: a duration from 1 second to 1 day, such as \"5m\", "
     "got '500ms'"},
    {"cache.alert 'hit-ratio' { below = 0.8, min_requests = 0 }",
     "policy.lua:1: alert 'hit-ratio': min_requests: a whole number from 1 to 1000000000, got 0"},
    {"cache.alert 'memory' { above = 0.8, min_requests = 10 }",
     "policy.lua:1: alert 'memory': min_requests: it does not go with memory"},
    {"cache.alert 'memory' { above = 0.8, call = 'me' }",
     "policy.lua:1: alert 'memory': call: a function, got 'me'"},
    {"cache.alert 'memory' { abov = 0.8 }",
     "policy.lua:1: alert 'memory': unknown field 'abov', did you mean 'above'?"},
    {"for i = 1, 33 do cache.alert 'memory' { above = 0.8 } end",
     "policy.lua:1: alert 'memory': a policy has at most 32 alerts"},
};

START_TEST(a_wrong_alert_is_refused_with_its_line) {
    ck_assert_int_eq(fake_load_text(&cache, wrong[_i].source, 0), PLN_EPOLICY);
    ck_assert_str_eq(pln_error_text(), wrong[_i].text);
}
END_TEST

static void tell(unsigned index, double value) {
    struct pln_alert_news news = {value, 1234};
    cache.ruleset->hooks.alert(cache.ruleset->hooks_arg, 0, index, &news);
}

START_TEST(its_function_is_told_what_was_measured) {
    load_good("local function tell(a)\n"
              "  log.warn('%s %g %g %s %d', a.name, a.value, a.limit, a.over, a.requests)\n"
              "end\n"
              "cache.rule 'x' { load = print, ttl = print }\n"
              "cache.alert 'hit-ratio' { below = 0.8, over = '90s', call = tell }\n"
              "cache.alert 'load-latency' { p99_above = 2, over = '5m', call = tell }\n");
    tell(0, 0.25);
    ck_assert_str_eq(cache.last_log, "perilune test: policy.lua: hit-ratio 0.25 0.8 90s 1234");
    tell(1, 2500);
    ck_assert_str_eq(cache.last_log, "perilune test: policy.lua: load-latency 2.5 2 5m 1234");
    ck_assert_int_eq(cache.n_logs, 2);
    ck_assert_int_eq(cache.n_failures, 0);
}
END_TEST

START_TEST(a_function_that_fails_is_logged_and_counted) {
    load_good("\ncache.alert 'memory' { above = 0.8, call = function(a) error(a.nme.x) end }");
    tell(0, 0.9);
    ck_assert_str_eq(cache.last_log,
                     "perilune test: policy.lua:2: alert 'memory': call: policy.lua:2: attempt to "
                     "index a nil value (field 'nme')");
    ck_assert_int_eq(cache.n_failures, 1);
}
END_TEST

int main(void) {
    Suite *suite = suite_create("policy_alerts");
    TCase *tests = tcase_create("policy_alerts");
    suite_add_tcase(suite, tests);
    tcase_set_timeout(tests, 60);
    tcase_add_checked_fixture(tests, setup, teardown);
    tcase_add_test(tests, alerts_are_compiled);
    tcase_add_loop_test(tests, a_wrong_alert_is_refused_with_its_line, 0, PLN_ARRAY_LEN(wrong));
    tcase_add_test(tests, its_function_is_told_what_was_measured);
    tcase_add_test(tests, a_function_that_fails_is_logged_and_counted);
    SRunner *runner = srunner_create(suite);
    srunner_run_all(runner, CK_ENV);
    int failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed == 0 ? 0 : 1;
}
