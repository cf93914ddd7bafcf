/* SPDX-License-Identifier: MIT
 * test_policy_language.c - lua/tables.c, rules.c: rules as data, fields in `admit`, and every way
 * to get them wrong, with the text asserted to the letter. */
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

static void expect_refusal(const char *source, const char *text) {
    int status = fake_load_text(&cache, source, 0);
    ck_assert_msg(status == PLN_EPOLICY, "%s gave %d", source, status);
    ck_assert_msg(strcmp(pln_error_text(), text) == 0, "%s\n got: %s\nnot: %s", source,
                  pln_error_text(), text);
}

static const struct pln_rule *rule_of(const char *key) {
    struct pln_match match;
    pln_ruleset_match(cache.ruleset, pln_key(key), &match);
    ck_assert_msg(match.rule != NULL, "no rule for %s", key);
    return match.rule;
}

/* ---- admit ---- */

START_TEST(what_is_admitted_may_stand_together_and_is_inherited) {
    load_good("cache.class \"c\" { admit = { min_uses = 3, max_bytes = \"4k\" } }\n"
              "cache.rule \"a\" { class = \"c\", min_uses = 2 }\n"
              "cache.rule \"s:*\" { class = \"c\", admit = { deny = true } }");
    ck_assert_uint_eq(rule_of("a")->terms.min_uses, 2);
    ck_assert_uint_eq(rule_of("a")->terms.max_bytes, 4096);
    ck_assert(!rule_of("a")->terms.is_denied);
    ck_assert_uint_eq(rule_of("s:1")->terms.min_uses, 3);
    ck_assert(rule_of("s:1")->terms.is_denied);
    ck_assert_ptr_nonnull(strstr(rule_of("s:1")->origins, "min_uses 3 (class c, policy.lua:1)\n"
                                                          "deny true (policy.lua:3)\n"));
}
END_TEST

/* ---- cache.rules ---- */

START_TEST(rules_as_data_mean_what_statements_mean) {
    char origins[2048];
    load_good("cache.class \"page\" { ttl = \"15m\", stale = \"2m\" }\n"
              "cache.rule \"user:{id}\" { class = \"page\", tags = { \"u:{id}\" }, l2 = false }\n"
              "cache.rule \"*\" { ttl = \"30s\", load = loader \"db\" }");
    snprintf(origins, sizeof origins, "%s", rule_of("user:1")->origins);
    load_good(
        "cache.rules { classes = { page = { ttl = \"15m\", stale = \"2m\" } }, rules = {\n"
        "  { pattern = \"user:{id}\", class = \"page\", tags = { \"u:{id}\" }, l2 = false },\n"
        "  { pattern = \"*\", ttl = \"30s\", load = loader \"db\" } } }");
    const struct pln_rule *user = rule_of("user:1");
    ck_assert_uint_eq(cache.ruleset->n_rules, 2);
    ck_assert_int_eq(user->terms.ttl_ms, 900000);
    ck_assert_int_eq(user->terms.stale_if_error_ms, 120000);
    ck_assert(!user->terms.use_l2);
    ck_assert_str_eq(user->class_name, "page");
    ck_assert_str_eq(pln_template_text(user->tags[0]), "u:{id}");
    ck_assert_int_eq(user->line, 1);
    ck_assert_str_eq(rule_of("x")->loader, "db");
    for (char *at = origins; (at = strstr(at, "lua:2")) != NULL;) {
        at[4] = '1'; /* which is all that differs */
    }
    ck_assert_str_eq(user->origins, origins);
}
END_TEST

START_TEST(rules_as_data_join_those_that_are_stated) {
    load_good("cache.class \"page\" { ttl = \"15m\" }\n"
              "cache.rules { rules = { { pattern = \"a\", class = \"page\" } } }\n"
              "cache.rules { classes = { short = { ttl = 5 } } }\n"
              "cache.rule \"b\" { class = \"short\" }\n"
              "local list = {}\n"
              "for i = 1, 50 do list[i] = { pattern = \"n\" .. i, ttl = i } end\n"
              "cache.rules { rules = list }\n"
              "cache.rules {}");
    ck_assert_int_eq(rule_of("a")->terms.ttl_ms, 900000);
    ck_assert_int_eq(rule_of("b")->terms.ttl_ms, 5000);
    ck_assert_int_eq(rule_of("n50")->terms.ttl_ms, 50000);
    ck_assert_int_eq(rule_of("n50")->line, 7);
    ck_assert_uint_eq(cache.ruleset->n_rules, 52);
}
END_TEST

START_TEST(what_is_wrong_in_data_is_told_with_its_place) {
    static const char *const wrong[][2] = {
        {"cache.rules \"x\"",
         "policy.lua:1: rules: a table is wanted, as in cache.rules { rules = { { pattern = "
         "\"user:{id}\", ttl = \"15m\" } } }, got 'x'"},
        {"\ncache.rules { ruels = {} }",
         "policy.lua:2: rules: unknown field 'ruels', did you mean 'rules'?"},
        {"cache.rules { { pattern = \"x\" } }", "policy.lua:1: rules: unknown field 1"},
        {"cache.rules { rules = 7 }", "policy.lua:1: rules: rules: a list of rules, got 7"},
        {"cache.rules { rules = { x = {} } }", "policy.lua:1: rules: unknown field 'x'"},
        {"cache.rules { rules = { [1] = { pattern = \"x\" }, [3] = { pattern = \"y\" } } }",
         "policy.lua:1: rules: rules: a list without holes, got one at rules[2]"},
        {"cache.rules { rules = { { pattern = \"x\" }, 7 } }",
         "policy.lua:1: rules[2]: a table such as { pattern = \"user:{id}\", ttl = \"15m\" }, got 7"},
        {"cache.rules { rules = { { ttl = 3 } } }",
         "policy.lua:1: rules[1]: pattern: a text of 1 to 512 bytes such as \"user:{id}\", got "
         "nothing"},
        {"cache.rules { rules = { { pattern = 7 } } }",
         "policy.lua:1: rules[1]: pattern: a text of 1 to 512 bytes such as \"user:{id}\", got 7"},
        {"cache.rules { rules = { { pattern = \"a\" }, { pattern = \"b:{id\" } } }",
         "policy.lua:1: rules[2]: 'b:{id': at byte 3: '{' is not closed (\"{{\" is a brace itself)"},
        {"cache.rules { rules = { { pattern = \"a\" }, { pattern = \"b\", tll = 1 } } }",
         "policy.lua:1: rules[2] 'b': unknown field 'tll', did you mean 'ttl'?"},
        {"cache.rules { rules = { { pattern = \"b\", ttl = false } } }",
         "policy.lua:1: rules[1] 'b': ttl: a duration such as \"15m\" or seconds, or a function, got "
         "false"},
        {"cache.rules { rules = { { pattern = \"b\", class = \"page\" } } }",
         "policy.lua:1: rules[1] 'b': class: the name of a class that stands above, got 'page'"},
        {"cache.rules { rules = { { pattern = \"*\" }, { pattern = \"b\" } } }",
         "policy.lua:1: rule 'b': it can never match: rule '*' at line 1 takes all its keys"},
        {"cache.rules { classes = 7 }",
         "policy.lua:1: rules: classes: a table of classes by name, got 7"},
        {"cache.rules { classes = { { ttl = 3 } } }",
         "policy.lua:1: rules: classes: names of 1 to 512 bytes, got 1"},
        {"cache.rules { classes = { page = \"15m\" } }",
         "policy.lua:1: rules: classes.page: a table such as { ttl = \"15m\" }, got '15m'"},
        {"cache.rules { classes = { page = { ttl = {} } } }",
         "policy.lua:1: rules, class 'page': ttl: a duration such as \"15m\" or seconds, got a "
         "table"},
        {"cache.class \"page\" {}\ncache.rules { classes = { page = {} } }",
         "policy.lua:2: rules, class 'page': there is one of this name already, at line 1"},
        {"cache.rule \"x\"\ncache.rules {}", "policy.lua:1: rule 'x' at line 1 has no body"},
    };
    for (size_t i = 0; i < PLN_ARRAY_LEN(wrong); i++) {
        expect_refusal(wrong[i][0], wrong[i][1]);
    }
}
END_TEST

int main(void) {
    Suite *suite = suite_create("policy_language");
    TCase *tests = tcase_create("policy_language");
    suite_add_tcase(suite, tests);
    tcase_set_timeout(tests, 60);
    tcase_add_checked_fixture(tests, setup, teardown);
    tcase_add_test(tests, what_is_admitted_may_stand_together_and_is_inherited);
    tcase_add_test(tests, rules_as_data_mean_what_statements_mean);
    tcase_add_test(tests, rules_as_data_join_those_that_are_stated);
    tcase_add_test(tests, what_is_wrong_in_data_is_told_with_its_place);
    SRunner *runner = srunner_create(suite);
    srunner_run_all(runner, CK_ENV);
    int failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed == 0 ? 0 : 1;
}
