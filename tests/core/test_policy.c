/* SPDX-License-Identifier: MIT
 * test_policy.c - core/policy.c and core/template.c: patterns, templates, rulesets. */
#include <check.h>
#include <stdio.h>

#include "../../core/policy.h"

static struct pln_template *pattern_of(const char *text) {
    struct pln_template *pattern = NULL;
    ck_assert_msg(pln_template_new(text, NULL, &pattern) == PLN_OK, "%s", pln_error_text());
    return pattern;
}

/* Matches and writes the captures as "[7][x]"; "no" where it does not match. */
static const char *captures_of(const char *text, struct pln_bytes key) {
    static char out[256];
    struct pln_template *pattern = pattern_of(text);
    struct pln_bytes captures[PLN_MAX_CAPTURES];
    unsigned n = 0;
    strcpy(out, "no");
    if (pln_template_match(pattern, key, captures, &n)) {
        size_t at = 0;
        out[0] = 0;
        for (unsigned i = 0; i < n; i++) {
            at += (size_t) snprintf(out + at, sizeof out - at, "[%.*s]", (int) captures[i].len,
                                    (const char *) captures[i].data);
        }
    }
    pln_template_free(pattern);
    return out;
}

START_TEST(a_pattern_matches_whole_keys_and_captures) {
    static const struct {
        const char *pattern, *key, *captures;
    } cases[] = {
        {"user:{id}", "user:7", "[7]"},
        {"user:{id}", "user:", "no"},
        {"user:{id}", "user", "no"},
        {"user:{id}", "xuser:7", "no"},
        {"user:{id}", "user:7:posts", "[7:posts]"},
        {"user:{id}:posts", "user:7:posts", "[7]"},
        {"user:{id}:posts", "user:7:post", "no"},
        {"user:{id}:posts", "user:7:postsx", "no"},
        {"user:{id}:posts", "user::posts", "no"},
        {"{a}-{b}", "x-y-z", "[x][y-z]"},
        {"{a}/{b}/{c}", "1/2/3", "[1][2][3]"},
        {"{a}/{b}/{c}", "1//3", "no"},
        {"counter:*", "counter:", "[]"},
        {"counter:*", "counter:a:b", "[a:b]"},
        {"*", "", "[]"},
        {"*", "anything", "[anything]"},
        {"{all}", "", "no"},
        {"a{x}b*", "aqbrest", "[q][rest]"},
        {"{{{id}}}", "{7}", "[7]"},
        {"plain", "plain", ""},
        {"{x}aab", "1aaab", "no"}, /* the capture ends at the first 'a': no second try */
    };
    for (size_t i = 0; i < PLN_ARRAY_LEN(cases); i++) {
        const char *captures = captures_of(cases[i].pattern, pln_key(cases[i].key));
        ck_assert_msg(strcmp(captures, cases[i].captures) == 0, "%s on %s: %s", cases[i].pattern,
                      cases[i].key, captures);
    }
    ck_assert_str_eq(captures_of("a{x}:", pln_bytes_of("a\0:", 3)), "[]"); /* one zero byte */
    ck_assert_str_eq(captures_of("*", pln_bytes_of(NULL, 0)), "[]");
}
END_TEST

START_TEST(bad_patterns_are_refused_with_the_place) {
    static const struct {
        const char *pattern, *text;
    } cases[] = {
        {"", "'': it is empty"},
        {"user:{id", "'user:{id': at byte 6: '{' is not closed (\"{{\" is a brace itself)"},
        {"user:id}", "'user:id}': at byte 8: '}' without '{' (\"}}\" is a brace itself)"},
        {"{a}{b}", "'{a}{b}': at byte 4: two captures side by side: nothing says where one ends"},
        {"{a}*", "'{a}*': at byte 4: two captures side by side: nothing says where one ends"},
        {"a*b", "'a*b': at byte 2: '*' takes the rest of a key: it must come last"},
        {"a**", "'a**': at byte 2: '*' takes the rest of a key: it must come last"},
        {"{a}:{a}", "'{a}:{a}': at byte 5: this name is there already"},
        {"x{}", "'x{}': at byte 2: a name has letters, digits and '_', as in {id}"},
        {"x{1a}", "'x{1a}': at byte 2: a name has letters, digits and '_', as in {id}"},
        {"x{a b}", "'x{a b}': at byte 2: a name has letters, digits and '_', as in {id}"},
        {"{a}:{b}:{c}:{d}:{e}:{f}:{g}:{h}:{i}",
         "'{a}:{b}:{c}:{d}:{e}:{f}:{g}:{h}:{i}': at byte 33: a pattern has at most 8 captures"},
    };
    struct pln_template *pattern = NULL;
    for (size_t i = 0; i < PLN_ARRAY_LEN(cases); i++) {
        ck_assert_int_eq(pln_template_new(cases[i].pattern, NULL, &pattern), PLN_EINVAL);
        ck_assert_str_eq(pln_error_text(), cases[i].text);
        ck_assert_ptr_null(pattern);
    }
    char longest[514];
    memset(longest, 'x', sizeof longest);
    longest[513] = 0;
    ck_assert_int_eq(pln_template_new(longest, NULL, &pattern), PLN_EINVAL);
    longest[512] = 0;
    ck_assert_int_eq(pln_template_new(longest, NULL, &pattern), PLN_OK);
    ck_assert(pln_template_covers(pattern, pattern));
    pln_template_free(pattern);
}
END_TEST

START_TEST(a_template_is_filled_from_its_patterns_captures) {
    struct pln_template *pattern = pattern_of("shop:{shop}:item:{id}:*");
    struct pln_template *tag = NULL;
    struct pln_bytes captures[PLN_MAX_CAPTURES];
    unsigned n = 0;
    char text[32];
    ck_assert_str_eq(pln_template_name(pattern, 0), "shop");
    ck_assert_str_eq(pln_template_name(pattern, 2), "*");
    ck_assert_ptr_null(pln_template_name(pattern, 3));
    ck_assert(pln_template_match(pattern, pln_key("shop:9:item:77:en"), captures, &n));
    ck_assert_uint_eq(n, 3);
    ck_assert_int_eq(pln_template_new("{{i{id}{shop}-*-{id}", pattern, &tag), PLN_OK);
    ck_assert_str_eq(pln_template_text(tag), "{{i{id}{shop}-*-{id}");
    size_t len = pln_template_fill(tag, captures, text, sizeof text);
    ck_assert_uint_eq(len, 11);
    ck_assert_mem_eq(text, "{i779-en-77", 11);
    ck_assert_uint_eq(pln_template_fill(tag, captures, text, 11), 11);
    ck_assert_uint_eq(pln_template_fill(tag, captures, text, 10), SIZE_MAX);
    pln_template_free(tag);
    tag = NULL;
    ck_assert_int_eq(pln_template_new("item:{ident}", pattern, &tag), PLN_EINVAL);
    ck_assert_str_eq(pln_error_text(), "'item:{ident}': at byte 6: pattern "
                                       "'shop:{shop}:item:{id}:*' has no {ident}");
    ck_assert_ptr_null(tag);
    pln_template_free(pattern);
}
END_TEST

START_TEST(an_event_template_is_filled_from_fields) {
    const struct pln_field fields[] = {{pln_key("id"), pln_key("7")}, {pln_key("a"), pln_key("")}};
    struct pln_template *template = NULL;
    char text[16];
    ck_assert_int_eq(pln_template_new_free("p:{id}{a}", &template), PLN_OK);
    ck_assert_uint_eq(pln_template_fill_fields(template, fields, 2, text, sizeof text), 3);
    ck_assert_mem_eq(text, "p:7", 3);
    ck_assert_uint_eq(pln_template_fill_fields(template, fields, 1, text, sizeof text), SIZE_MAX);
    pln_template_free(template);
    template = NULL;
    ck_assert_int_eq(pln_template_new_free("p:*", &template), PLN_EINVAL);
    ck_assert_str_eq(pln_error_text(), "'p:*': at byte 3: an event has no '*', only named fields");
}
END_TEST

static bool covers(const char *earlier, const char *later) {
    struct pln_template *first = pattern_of(earlier), *second = pattern_of(later);
    bool is_covered = pln_template_covers(first, second);
    pln_template_free(first);
    pln_template_free(second);
    return is_covered;
}

START_TEST(coverage_is_told) {
    ck_assert(covers("*", "user:{id}"));
    ck_assert(covers("*", "{x}"));
    ck_assert(!covers("{x}", "*"));
    ck_assert(covers("user:*", "user:{id}:posts"));
    ck_assert(covers("user:{id}", "user:{id}:posts"));
    ck_assert(!covers("user:{id}:posts", "user:{id}"));
    ck_assert(covers("user:{a}", "user:{b}"));
    ck_assert(!covers("user:{a}", "user:*"));
    ck_assert(covers("{a}:{b}", "user:{id}"));
    ck_assert(!covers("{a}:{b}", "us{id}"));
    ck_assert(!covers("session:{id}", "product:{id}"));
    ck_assert(covers("a{x}", "ab"));
    ck_assert(!covers("ab", "a{x}"));
}
END_TEST

static unsigned chance(unsigned *seed, unsigned n) {
    *seed = *seed * 1664525u + 1013904223u;
    return (*seed >> 16) % n;
}

static struct pln_template *chance_pattern(unsigned *seed) {
    static const char *const pieces[] = {"a", "b", ":", "{x}", "{y}", "aa"};
    struct pln_template *pattern = NULL;
    do {
        char text[32] = "";
        unsigned n = 1 + chance(seed, 4);
        while (n-- > 0) {
            strcat(text, pieces[chance(seed, PLN_ARRAY_LEN(pieces))]);
        }
        if (chance(seed, 3) == 0) {
            strcat(text, "*");
        }
        if (pln_template_new(text, NULL, &pattern) < 0) {
            pattern = NULL;
        }
    } while (pattern == NULL);
    return pattern;
}

/* Tries every key of up to 7 bytes over the patterns' own bytes and a foreign one: long enough to
 * tell any two patterns of at most 5 pieces apart. */
static bool covers_all_keys(const struct pln_template *earlier, const struct pln_template *later) {
    static const char alphabet[] = "ab:x";
    struct pln_bytes captures[PLN_MAX_CAPTURES];
    unsigned n;
    char key[7];
    for (size_t len = 0; len <= sizeof key; len++) {
        for (unsigned code = 0; code < 1u << (2 * len); code++) {
            for (size_t i = 0; i < len; i++) {
                key[i] = alphabet[code >> (2 * i) & 3];
            }
            if (pln_template_match(later, pln_bytes_of(key, len), captures, &n) &&
                !pln_template_match(earlier, pln_bytes_of(key, len), captures, &n)) {
                return false;
            }
        }
    }
    return true;
}

START_TEST(coverage_agrees_with_trying_every_key) {
    unsigned seed = 42;
    int n_covered = 0;
    for (int round = 0; round < 1500; round++) {
        struct pln_template *earlier = chance_pattern(&seed), *later = chance_pattern(&seed);
        bool is_covered = pln_template_covers(earlier, later);
        ck_assert_msg(is_covered == covers_all_keys(earlier, later), "%s then %s: %d",
                      pln_template_text(earlier), pln_template_text(later), is_covered);
        n_covered += is_covered;
        pln_template_free(earlier);
        pln_template_free(later);
    }
    ck_assert_int_gt(n_covered, 50);
}
END_TEST

static void count_retirement(void *arg) {
    ++*(int *) arg;
}

START_TEST(the_first_rule_wins_and_the_last_user_frees) {
    int retired = 0;
    struct pln_match match;
    struct pln_ruleset *ruleset = pln_ruleset_new();
    ck_assert_uint_eq(ruleset->warm.concurrency, 8);
    ruleset->rules = calloc(2, sizeof *ruleset->rules);
    ruleset->n_rules = 2;
    ruleset->rules[0].pattern = pattern_of("user:{id}");
    ruleset->rules[0].class_name = strdup("page");
    ruleset->rules[1].pattern = pattern_of("u*");
    ruleset->hooks.retire = count_retirement;
    ruleset->hooks_arg = &retired;
    pln_ruleset_match(ruleset, pln_key("user:1"), &match);
    ck_assert_uint_eq(match.index, 0);
    ck_assert_ptr_eq(match.rule, &ruleset->rules[0]);
    ck_assert_uint_eq(match.n_captures, 1);
    pln_ruleset_match(ruleset, pln_key("user:"), &match);
    ck_assert_uint_eq(match.index, 1);
    pln_ruleset_match(ruleset, pln_key("x"), &match);
    ck_assert_ptr_null(match.rule);
    pln_ruleset_ref(ruleset);
    pln_ruleset_unref(ruleset);
    ck_assert_int_eq(retired, 0);
    pln_ruleset_unref(ruleset);
    ck_assert_int_eq(retired, 1);
    pln_ruleset_unref(NULL);
}
END_TEST

int main(void) {
    Suite *suite = suite_create("policy");
    TCase *tests = tcase_create("policy");
    suite_add_tcase(suite, tests);
    tcase_set_timeout(tests, 60);
    tcase_add_test(tests, a_pattern_matches_whole_keys_and_captures);
    tcase_add_test(tests, bad_patterns_are_refused_with_the_place);
    tcase_add_test(tests, a_template_is_filled_from_its_patterns_captures);
    tcase_add_test(tests, an_event_template_is_filled_from_fields);
    tcase_add_test(tests, coverage_is_told);
    tcase_add_test(tests, coverage_agrees_with_trying_every_key);
    tcase_add_test(tests, the_first_rule_wins_and_the_last_user_frees);
    SRunner *runner = srunner_create(suite);
    srunner_run_all(runner, CK_ENV);
    int failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed == 0 ? 0 : 1;
}
