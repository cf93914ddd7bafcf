/* SPDX-License-Identifier: MIT
 * test_matcher.c - core/matcher.c: of many patterns it finds the one that trying them in turn would
 * find, whatever they and the keys look like. */
#include <check.h>
#include <stdio.h>

#include "../../core/policy.h"

static uint64_t seed;

static size_t chance(size_t n) {
    seed = seed * UINT64_C(6364136223846793005) + UINT64_C(1442695040888963407);
    return (size_t) (seed >> 33) % n;
}

/* ---- rulesets ---- */

static void add_rule(struct pln_ruleset *ruleset, const char *text) {
    struct pln_rule *rule = &ruleset->rules[ruleset->n_rules];
    *rule = (struct pln_rule){.line = (int) ruleset->n_rules + 1};
    if (pln_template_new(text, NULL, &rule->pattern) == PLN_OK) {
        ruleset->n_rules++;
    }
}

static struct pln_ruleset *ruleset_of(const char *const *texts) {
    struct pln_ruleset *ruleset = pln_ruleset_new();
    ruleset->rules = calloc(PLN_MAX_RULES, sizeof *ruleset->rules);
    while (*texts != NULL) {
        add_rule(ruleset, *texts++);
    }
    return ruleset;
}

/* Pieces that share beginnings and stops, so that rules overlap in many ways. */
static const char *const pieces[] = {"a",    "b",   ":",   "ab",  "aab", "::",  "user:", "\x01",
                                     "\xff", "{x}", "{y}", "{z}", "{x}", "{y}", "{{",    "/"};

static void chance_pattern(char text[64]) {
    text[0] = 0;
    for (size_t n = 1 + chance(6); n > 0; n--) {
        strcat(text, pieces[chance(PLN_ARRAY_LEN(pieces))]);
    }
    if (chance(4) == 0) {
        strcat(text, "*");
    }
}

static struct pln_ruleset *chance_ruleset(size_t n) {
    static const char *const none[] = {NULL};
    struct pln_ruleset *ruleset = ruleset_of(none);
    char text[64];
    while (ruleset->n_rules < n) {
        chance_pattern(text);
        add_rule(ruleset, text); /* those that are refused are drawn again */
    }
    return ruleset;
}

/* A key of any bytes, or one near to what some pattern wants: its sample, bent here and there. */
static struct pln_bytes chance_key(const struct pln_ruleset *ruleset, char key[128]) {
    static const char bytes[] = "ab:/{}u\x01\x02\xff";
    const struct pln_rule *rule = &ruleset->rules[chance(ruleset->n_rules)];
    struct pln_bytes sample = pln_template_sample(rule->pattern);
    bool is_near = chance(4) > 0;
    size_t len = 0, n = is_near ? sample.len : chance(24);
    for (size_t i = 0; i < n && len < 120; i++) {
        switch (is_near ? chance(8) : 8) {
        case 0: /* in its place one of those that matter, or none, or some more */
            key[len++] = bytes[chance(sizeof bytes)]; /* the zero as well */
            break;
        case 1:
            for (size_t k = chance(4); k > 0; k--) {
                key[len++] = bytes[chance(sizeof bytes)];
            }
            break;
        case 8:
            key[len++] = (char) chance(256);
            break;
        default:
            key[len++] = ((const char *) sample.data)[i];
        }
    }
    return pln_bytes_of(key, len);
}

/* ---- the oracle ---- */

static size_t try_each(const struct pln_ruleset *ruleset, struct pln_bytes key) {
    struct pln_bytes captures[PLN_MAX_CAPTURES];
    unsigned n;
    for (size_t i = 0; i < ruleset->n_rules; i++) {
        if (pln_template_match(ruleset->rules[i].pattern, key, captures, &n)) {
            return i;
        }
    }
    return SIZE_MAX;
}

/* Compares the search with the trial; returns the rule. */
static size_t compare(const struct pln_ruleset *ruleset, struct pln_bytes key) {
    struct pln_match match;
    size_t wanted = try_each(ruleset, key);
    size_t found = pln_matcher_find(ruleset->matcher, key);
    ck_assert_msg(found == wanted, "key '%.*s' of %zu rules: %zu '%s' and not %zu '%s'",
                  (int) key.len, (const char *) key.data, ruleset->n_rules, found,
                  found == SIZE_MAX ? "" : pln_template_text(ruleset->rules[found].pattern), wanted,
                  wanted == SIZE_MAX ? "" : pln_template_text(ruleset->rules[wanted].pattern));
    pln_ruleset_match(ruleset, key, &match);
    ck_assert_ptr_eq(match.rule, found == SIZE_MAX ? NULL : &ruleset->rules[found]);
    ck_assert_uint_eq(match.index, found == SIZE_MAX ? 0 : found);
    return found;
}

START_TEST(it_finds_what_trying_in_turn_would_find) {
    size_t n_found = 0, n_keys = 0;
    seed = 7;
    for (size_t round = 0; round < 400; round++) {
        struct pln_ruleset *ruleset = chance_ruleset(1 + chance(round % 10 == 0 ? 400 : 24));
        ck_assert_int_eq(pln_ruleset_finish(ruleset), PLN_OK);
        for (size_t i = 0; i < 400; i++) {
            char key[128];
            n_found += compare(ruleset, chance_key(ruleset, key)) != SIZE_MAX;
            n_keys++;
        }
        pln_ruleset_unref(ruleset);
    }
    /* both ways out are met often */
    ck_assert_uint_gt(n_found, n_keys / 4);
    ck_assert_uint_lt(n_found, n_keys - n_keys / 10);
}
END_TEST

START_TEST(it_knows_every_short_key) {
    static const char alphabet[] = {'a', 'b', ':', 0};
    seed = 11;
    for (size_t round = 0; round < 40; round++) {
        struct pln_ruleset *ruleset = chance_ruleset(12);
        ck_assert_int_eq(pln_ruleset_finish(ruleset), PLN_OK);
        for (size_t len = 0; len <= 5; len++) {
            for (unsigned code = 0; code < 1u << (2 * len); code++) {
                char key[5];
                for (size_t i = 0; i < len; i++) {
                    key[i] = alphabet[code >> (2 * i) & 3];
                }
                compare(ruleset, pln_bytes_of(len == 0 ? NULL : key, len));
            }
        }
        pln_ruleset_unref(ruleset);
    }
}
END_TEST

START_TEST(a_rule_that_is_covered_is_told_as_comparing_with_each_would) {
    int n_covered = 0;
    seed = 13;
    for (int round = 0; round < 200; round++) {
        struct pln_ruleset *ruleset = chance_ruleset(30);
        ck_assert_int_eq(pln_ruleset_finish(ruleset), PLN_OK);
        for (size_t later = 0; later < ruleset->n_rules; later++) {
            size_t wanted = 0;
            while (wanted < later && !pln_template_covers(ruleset->rules[wanted].pattern,
                                                          ruleset->rules[later].pattern)) {
                wanted++;
            }
            size_t found = pln_matcher_find_cover(ruleset->matcher, ruleset->rules, later);
            ck_assert_uint_eq(found, wanted == later ? SIZE_MAX : wanted);
            n_covered += wanted < later;
        }
        pln_ruleset_unref(ruleset);
    }
    ck_assert_int_gt(n_covered, 500);
}
END_TEST

START_TEST(the_first_in_the_file_wins_however_the_others_are_found) {
    static const char *const texts[] = {"user:{id}:posts", "{kind}:{id}:posts",
                                        "user:*",          "user:admin",
                                        "{tenant}/user",   "*",
                                        "user:{id}",       NULL};
    static const struct {
        const char *key;
        size_t rule;
    } cases[] = {
        {"user:1:posts", 0},
        {"shop:1:posts", 1},
        {"user::posts", 2},
        {"user:admin", 2},
        {"user:", 2},
        {"user", 5},
        {"x/user", 4},
        {"/user", 5},
        {"x/users", 5},
        {"x:y:posts/user", 4},
        {"", 5},
    };
    struct pln_ruleset *ruleset = ruleset_of(texts);
    ck_assert_int_eq(pln_ruleset_finish(ruleset), PLN_OK);
    for (size_t i = 0; i < PLN_ARRAY_LEN(cases); i++) {
        ck_assert_uint_eq(compare(ruleset, pln_key(cases[i].key)), cases[i].rule);
    }
    pln_ruleset_unref(ruleset);
}
END_TEST

START_TEST(the_same_pattern_twice_is_the_first_of_the_two) {
    static const char *const texts[] = {"b", "a:{x}", "a:{y}", "a:{z}", NULL};
    struct pln_ruleset *ruleset = ruleset_of(texts);
    ck_assert_int_eq(pln_ruleset_finish(ruleset), PLN_OK);
    ck_assert_uint_eq(compare(ruleset, pln_key("a:1")), 1);
    pln_ruleset_unref(ruleset);
}
END_TEST

/* As many as there may be, and the longest of all, one the beginning of the other. */
START_TEST(the_largest_rulesets_are_searched) {
    static const char *const none[] = {NULL};
    struct pln_ruleset *ruleset = ruleset_of(none);
    char text[PLN_MAX_STEPS];
    memset(text, 'x', sizeof text);
    for (size_t len = sizeof text - 1; len > 0; len--) {
        text[len] = 0;
        add_rule(ruleset, text);
    }
    for (unsigned i = 0; ruleset->n_rules < PLN_MAX_RULES; i++) {
        snprintf(text, sizeof text, "{t}:%u{x}:{y}/%u*", i % 64, i);
        add_rule(ruleset, text);
    }
    ck_assert_int_eq(pln_ruleset_finish(ruleset), PLN_OK);
    memset(text, 'x', sizeof text);
    for (size_t len = 0; len <= sizeof text; len++) {
        compare(ruleset, pln_bytes_of(text, len));
    }
    for (unsigned i = 0; i < PLN_MAX_RULES; i++) {
        int len = snprintf(text, sizeof text, "xx:%u#:%u/%u", i % 64, i, i);
        compare(ruleset, pln_bytes_of(text, (size_t) len));
    }
    pln_ruleset_unref(ruleset);
}
END_TEST

START_TEST(an_empty_ruleset_matches_nothing) {
    struct pln_ruleset *ruleset = pln_ruleset_new();
    struct pln_match match;
    ck_assert_int_eq(pln_ruleset_finish(ruleset), PLN_OK);
    pln_ruleset_match(ruleset, pln_key("a"), &match);
    ck_assert_ptr_null(match.rule);
    pln_ruleset_unref(ruleset);
}
END_TEST

int main(void) {
    Suite *suite = suite_create("matcher");
    TCase *tests = tcase_create("matcher");
    suite_add_tcase(suite, tests);
    tcase_set_timeout(tests, 120);
    tcase_add_test(tests, it_finds_what_trying_in_turn_would_find);
    tcase_add_test(tests, it_knows_every_short_key);
    tcase_add_test(tests, a_rule_that_is_covered_is_told_as_comparing_with_each_would);
    tcase_add_test(tests, the_first_in_the_file_wins_however_the_others_are_found);
    tcase_add_test(tests, the_same_pattern_twice_is_the_first_of_the_two);
    tcase_add_test(tests, the_largest_rulesets_are_searched);
    tcase_add_test(tests, an_empty_ruleset_matches_nothing);
    SRunner *runner = srunner_create(suite);
    srunner_run_all(runner, CK_ENV);
    int failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed == 0 ? 0 : 1;
}
