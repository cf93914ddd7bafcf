/* SPDX-License-Identifier: MIT
 * test_policy_fields.c - lua/rules.c: fields that stand together in `admit`, and those that exclude
 * or need each other, with the text asserted to the letter. */
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

/* ---- admit ---- */

START_TEST(what_is_admitted_may_stand_together_and_is_inherited) {
    fake_load_good(&cache, "cache.class \"c\" { admit = { min_uses = 3, max_bytes = \"4k\" } }\n"
                           "cache.rule \"a\" { class = \"c\", min_uses = 2 }\n"
                           "cache.rule \"s:*\" { class = \"c\", admit = { deny = true } }");
    ck_assert_uint_eq(fake_rule_of(&cache, "a")->terms.min_uses, 2);
    ck_assert_uint_eq(fake_rule_of(&cache, "a")->terms.max_bytes, 4096);
    ck_assert(!fake_rule_of(&cache, "a")->terms.is_denied);
    ck_assert_uint_eq(fake_rule_of(&cache, "s:1")->terms.min_uses, 3);
    ck_assert(fake_rule_of(&cache, "s:1")->terms.is_denied);
    ck_assert_ptr_nonnull(strstr(fake_rule_of(&cache, "s:1")->origins,
                                 "min_uses 3 (class c, policy.lua:1)\n"
                                 "deny true (policy.lua:3)\n"));
}
END_TEST

/* ---- time ---- */

START_TEST(fields_of_time_that_exclude_or_need_each_other_are_told) {
    static const char *const wrong[][2] = {
        {"cache.rule \"r\" { refresh = 0.5, early = 1 }",
         "policy.lua:1: rule 'r': early: not with refresh, which is 0.5 here: one of the two is to be 0"},
        {"cache.rule \"r\" { refresh = 0.5, sliding = true }",
         "policy.lua:1: rule 'r': sliding: not with refresh, which is 0.5 here: that is to be 0"},
        {"cache.rule \"r\" { keep_hot = \"10m\" }",
         "policy.lua:1: rule 'r': keep_hot: not without refresh, which says when: that is 0 here"},
        {"cache.class \"c\" { early = 11 }",
         "policy.lua:1: class 'c': early: from 0 to 10, got 11"},
        {"cache.class \"c\" { early = \"1\" }",
         "policy.lua:1: class 'c': early: a number, got '1'"},
        {"cache.class \"c\" { retry = \"2h\" }",
         "policy.lua:1: class 'c': retry: between 0 and 1 hour, got '2h'"},
    };
    for (size_t i = 0; i < PLN_ARRAY_LEN(wrong); i++) {
        fake_expect_refusal(&cache, wrong[i][0], wrong[i][1]);
    }
    fake_load_good(
        &cache,
        "cache.class \"c\" { refresh = 0.8 }\n"
        "cache.rule \"a\" { class = \"c\", keep_hot = \"10m\" }\n"
        "cache.rule \"b\" { class = \"c\", refresh = 0, early = 1.5 }\n"
        "cache.rule \"c\" { sliding = true, max_age = \"1d\", l2_ttl = \"1h\", retry = 0 }\n");
    ck_assert_int_eq(fake_rule_of(&cache, "a")->terms.keep_hot_ms, 600000);
    ck_assert_double_eq(fake_rule_of(&cache, "b")->terms.early, 1.5);
    ck_assert(fake_rule_of(&cache, "c")->terms.sliding);
    ck_assert_int_eq(fake_rule_of(&cache, "c")->terms.max_age_ms, 86400000);
    ck_assert_int_eq(fake_rule_of(&cache, "c")->terms.l2_ttl_ms, 3600000);
    ck_assert_int_eq(fake_rule_of(&cache, "c")->terms.retry_ms, 0);
}
END_TEST

int main(void) {
    Suite *suite = suite_create("policy_fields");
    TCase *tests = tcase_create("policy_fields");
    suite_add_tcase(suite, tests);
    tcase_set_timeout(tests, 60);
    tcase_add_checked_fixture(tests, setup, teardown);
    tcase_add_test(tests, what_is_admitted_may_stand_together_and_is_inherited);
    tcase_add_test(tests, fields_of_time_that_exclude_or_need_each_other_are_told);
    SRunner *runner = srunner_create(suite);
    srunner_run_all(runner, CK_ENV);
    int failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed == 0 ? 0 : 1;
}
