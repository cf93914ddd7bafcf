/* SPDX-License-Identifier: MIT
 * test_policy_tests.c - lua/tests.c and policy.c: cache.test, with the texts to the letter. */
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

/* What the tests below are about; a test is appended, so it stands in line 15. */
static const char rules[] =
    "cache.class 'short' { ttl = '30s', jitter = '10%', negative = '5s' }\n"
    "cache.class 'page' {\n"
    "  ttl = '15m', refresh = 0.8, stale = '2m',\n"
    "}\n"
    "cache.rule 'user:{id}' {\n"
    "  class = 'page', max_bytes = '64k', read = 'replica', priority = -3,\n"
    "  tags = { 'users', 'user:{id}' },\n"
    "}\n"
    "cache.rule 'session:{id}' { class = 'short', l2 = false }\n"
    "cache.rule 'plain' {}\n"
    "cache.rule 'made:{id}' {\n"
    "  ttl = function(k, m, v) if v.days then return v.days .. 'd' end if v.no then return 0 end end, "
    "tags = function(key, m, value) return { key, m.id, value.tag } end,\n"
    "}\n"
    "cache.rule 'secret:*' { deny = true }\n";

static int load_with(const char *test) {
    char text[2000];
    snprintf(text, sizeof text, "%s%s", rules, test);
    return fake_load_text(&cache, text, 0);
}

static const char *const good[] = {
    "cache.test 'user:1' { class = 'page', ttl = '15m', stale = 120, refresh = '80%' }",
    "cache.test 'user:1' { tags = { 'user:1', 'users' }, rule = 'user:{id}' }",
    "cache.test 'user:1' { max_bytes = '64k', read = 'replica', priority = -3, l2 = true }",
    "cache.test 'user:1' { stale_if_error = '2m', l1_ttl = '1h', jitter = 0 }",
    "cache.test 'session:9' { l2 = false, tags = {}, negative = 5 }",
    "cache.test 'plain' { class = false, ttl = '5m' }",
    "cache.test 'nobody' { rule = false, class = false, ttl = '5m', tags = {} }",
    "cache.test 'made:1' { ttl = '5m' }",
    "cache.test 'made:1' { value = { days = 2, tag = 't' }, tags = { 'made:1', '1', 't' } }",
    "cache.test 'made:1' { value = { days = 2 }, ttl = '2d' }",
    "cache.test 'made:1' { value = {}, ttl = '5m', tags = { 'made:1', '1' } }",
    "cache.rule 'n:*' { ttl = function() return shared.incr('n', 9) end, tags = function() return { shared.get('n'), shared.incr('n', 3), shared.incr 'n' } end } cache.test 'n:1' { value = 1, tags = { '0', '3', '1' }, ttl = 9 }",
    "cache.test 'user:1' { value = 'v', tags = { 'users', 'user:1' } }",
    "cache.test 'secret:1' { denied = true } cache.test 'user:1' { denied = false, deny = false }",
    "for id = 1, 3 do cache.test('user:' .. id) { tags = { 'users', 'user:' .. id } } end",
};

static const struct {
    const char *test, *text;
} failing[] = {
    {"cache.test 'session:1' { ttl = '15m' }",
     "policy.lua:15: test 'session:1': ttl: expected 15m, got 30s (class short, policy.lua:1)"},
    {"cache.test 'user:1' { max_bytes = 100 }",
     "policy.lua:15: test 'user:1': max_bytes: expected 100, got 64k (policy.lua:5)"},
    {"cache.test 'user:1' { stale_if_error = '1h' }",
     "policy.lua:15: test 'user:1': stale_if_error: expected 1h, got 2m (as stale)"},
    {"cache.test 'user:1' { lease = '2s' }",
     "policy.lua:15: test 'user:1': lease: expected 2s, got 5s (cache)"},
    {"cache.test 'nobody' { ttl = '1s' }",
     "policy.lua:15: test 'nobody': ttl: expected 1s, got 5m (cache)"},
    {"cache.test 'made:1' { ttl = '1s' }",
     "policy.lua:15: test 'made:1': ttl: expected 1s, got 5m (cache)"},
    {"cache.test 'user:1' { class = 'short' }",
     "policy.lua:15: test 'user:1': class: expected short, got page (rule 'user:{id}', "
     "policy.lua:5)"},
    {"cache.test 'plain' { class = 'short' }",
     "policy.lua:15: test 'plain': class: expected short, got none (rule 'plain', policy.lua:10)"},
    {"cache.test 'user:1' { rule = false }",
     "policy.lua:15: test 'user:1': rule: expected none, got user:{id} (rule 'user:{id}', "
     "policy.lua:5)"},
    {"cache.test 'users:1' { rule = 'user:{id}' }",
     "policy.lua:15: test 'users:1': rule: expected user:{id}, got none (no rule matches)"},
    {"cache.test 'user:1' { tags = { 'users', 'user:2' } }",
     "policy.lua:15: test 'user:1': tags: expected users, user:2, got users, user:1 (rule "
     "'user:{id}', policy.lua:5)"},
    {"cache.test 'user:1' { tags = {} }",
     "policy.lua:15: test 'user:1': tags: expected none, got users, user:1 (rule 'user:{id}', "
     "policy.lua:5)"},
    {"cache.test 'made:1' { tags = { 'x' } }",
     "policy.lua:15: test 'made:1': tags: expected x, got a function, which needs a value (rule "
     "'made:{id}', policy.lua:11)"},
    {"cache.test 'made:1' { value = { days = 2 }, ttl = '1d' }",
     "policy.lua:15: test 'made:1': ttl: expected 1d, got 2d (rule 'made:{id}', policy.lua:11)"},
    {"cache.test 'made:1' { value = { no = true }, ttl = '1d' }",
     "policy.lua:15: test 'made:1': ttl: expected 1d, got not stored (rule 'made:{id}', "
     "policy.lua:11)"},
    {"cache.test 'made:1' { value = { tag = 'x' }, tags = { 'made:1', '1' } }",
     "policy.lua:15: test 'made:1': tags: expected made:1, 1, got made:1, 1, x (rule 'made:{id}', "
     "policy.lua:11)"},
    {"cache.test 'made:1' { value = { tag = {} }, tags = {} }",
     "policy.lua:15: test 'made:1': a function of its rule: [3]: a text of 1 to 250 bytes is "
     "wanted, got a table"},
    {"cache.test 'made:1' { value = { tag = '' }, tags = {} }",
     "policy.lua:15: test 'made:1': a function of its rule: [3]: a text of 1 to 250 bytes is "
     "wanted, got ''"},
    {"cache.test 'made:1' { value = { tag = ('x'):rep(5000) }, tags = {} }",
     "policy.lua:15: test 'made:1': a function of its rule: [3]: a text of 1 to 250 bytes is "
     "wanted, got 'xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx...'"},
    {"cache.test 'made:1' { value = { tag = 'a\\0b' }, tags = {} }",
     "policy.lua:15: test 'made:1': a function of its rule: [3]: a test cannot compare a tag with "
     "a zero byte"},
    {"cache.test 'made:1' { value = { days = 3654 }, ttl = '1d' }",
     "policy.lua:15: test 'made:1': a function of its rule: a duration such as \"15m\", seconds or "
     "nil is wanted, got '3654d'"},
    {"cache.test 'kept:1' { value = 1, ttl = '1d' }\n"
     "cache.rule 'kept:{id}' { ttl = function(k, m) m.id = 2 end }",
     "policy.lua:15: test 'kept:1': a function of its rule: policy.lua:16: the captures of a key "
     "cannot be changed"},
    {"cache.test 'slow:1' { value = 1, ttl = '1d' }\ncache.test 'slow:2' { value = 1, ttl = '1d' }\n"
     "cache.rule 'slow:{id}' { ttl = function() while true do end end }",
     "policy.lua:15: test 'slow:1': a function of its rule: policy.lua:17: stopped: the tests "
     "together ran longer than 1 s"},
    {"cache.test 'made:1' { value = 7, ttl = '1d' }",
     "policy.lua:15: test 'made:1': a function of its rule: "
     "policy.lua:12: attempt to index a number value (local 'v')"},
    {"cache.test 'made:1' { value = {}, ttl = '1d' }",
     "policy.lua:15: test 'made:1': ttl: expected 1d, got 5m (cache)"},
    {"cache.test 'user:1' { denied = true }",
     "policy.lua:15: test 'user:1': deny: expected true, got false (cache)"},
    {"cache.test 'session:1' { ttl = '1m', l2 = true }",
     "policy.lua:15: test 'session:1': ttl: expected 1m, got 30s (class short, policy.lua:1); l2: "
     "expected true, got false (policy.lua:9)"},
    {"cache.test 'plain' { ttl = 1 }\ncache.test 'plain' { ttl = '5m' }\n"
     "cache.test 'plain' { ttl = 2 }",
     "policy.lua:15: test 'plain': ttl: expected 1s, got 5m (cache); and 1 more of 3 tests"},
};

static const struct {
    const char *test, *text;
} wrong[] = {
    {"cache.test 'x' { tll = 3 }",
     "policy.lua:15: test 'x': unknown field 'tll', did you mean 'ttl'?"},
    {"cache.test 'x' { ttl = 'soon' }",
     "policy.lua:15: test 'x': ttl: a duration such as \"15m\" or seconds, got 'soon'"},
    {"cache.test 'x' { class = true }",
     "policy.lua:15: test 'x': class: a name such as \"page\", or false for none, got true"},
    {"cache.test 'x' { tags = 'users' }",
     "policy.lua:15: test 'x': tags: a list of at most 64 texts such as { \"user:1\" }, got "
     "'users'"},
    {"cache.test 'x' { tags = { 'a', 1 } }",
     "policy.lua:15: test 'x': tags[2]: a text such as \"user:1\", got 1"},
    {"cache.test 'x' { denied = 'no' }",
     "policy.lua:15: test 'x': denied: true or false, got 'no'"},
    {"cache.test 'x' {}", "policy.lua:15: test 'x': it expects nothing: give it a field, as in "
                          "cache.test \"user:1\" { class = \"page\" }"},
    {"for i = 1, 4097 do cache.test('x' .. i) { ttl = '5m' } end",
     "policy.lua:15: test 'x4097': a policy has at most 4096 tests"},
    {"cache.test 'x'", "policy.lua:15: test 'x' at line 15 has no body"},
    {"cache.test { ttl = 1 }", "policy.lua:15: test: a name is wanted, as in cache.test \"user:1\" "
                               "{ ttl = \"15m\" }, got a table"},
};

START_TEST(a_test_that_holds_lets_the_file_pass) {
    ck_assert_msg(load_with(good[_i]) == PLN_OK, "%s: %s", good[_i], pln_error_text());
    ck_assert_uint_ge(cache.ruleset->n_tests, 1);
}
END_TEST

START_TEST(a_test_that_fails_refuses_the_file_and_says_expected_and_got) {
    const struct pln_ruleset *before = cache.ruleset;
    ck_assert_int_eq(load_with(failing[_i].test), PLN_EPOLICY);
    ck_assert_str_eq(pln_error_text(), failing[_i].text);
    ck_assert_ptr_eq(cache.ruleset, before);
    ck_assert_int_eq(cache.n_refused, 1);
}
END_TEST

START_TEST(a_wrong_test_is_refused_with_its_line) {
    ck_assert_int_eq(load_with(wrong[_i].test), PLN_EPOLICY);
    ck_assert_str_eq(pln_error_text(), wrong[_i].text);
}
END_TEST

START_TEST(a_test_may_stand_above_the_rules) {
    ck_assert_int_eq(fake_load_text(&cache,
                                    "cache.test 'x:1' { ttl = '1m' }\n"
                                    "cache.rule 'x:{id}' { ttl = '1m', load = print }",
                                    0),
                     PLN_OK);
    ck_assert_int_eq(fake_load_text(&cache,
                                    "cache.test 'x:1' { ttl = '2m' }\n"
                                    "cache.rule 'x:{id}' { ttl = '1m', load = print }",
                                    0),
                     PLN_EPOLICY);
    ck_assert_str_eq(pln_error_text(),
                     "policy.lua:1: test 'x:1': ttl: expected 2m, got 1m (policy.lua:2)");
}
END_TEST

/* Each takes 0.3 s of its processor, so the fourth is the last; or one before it, where the machine
 * is so busy that the time on the wall is over first. */
START_TEST(the_functions_that_tests_ask_have_one_budget) {
    unsigned last = 0;
    int end = 0;
    ck_assert_int_eq(load_with("cache.rule 'slow:{id}' { ttl = function()\n"
                               "local till = os.clock() + 0.3 while os.clock() < till do end\n"
                               "end }\n"
                               "for i = 1, 9 do\n"
                               "cache.test('slow:' .. i) { value = 1, ttl = '5m' } end"),
                     PLN_EPOLICY);
    sscanf(pln_error_text(),
           "policy.lua:19: test 'slow:%u': a function of its rule: policy.lua:16: stopped: the "
           "tests together ran longer than 1 s%n",
           &last, &end);
    ck_assert_msg(last >= 1 && last <= 4 && end > 0 && pln_error_text()[end] == 0, "%s",
                  pln_error_text());
}
END_TEST

static void keep_line(void *arg, const char *key, int line, const char *failure) {
    char *text = arg;
    size_t at = strlen(text);
    snprintf(text + at, 1000 - at, "%s %d %s\n", key, line, failure == NULL ? "held" : failure);
}

START_TEST(testing_tells_of_each_and_puts_nothing_in_force) {
    char told[1000] = "";
    const struct pln_ruleset *before = cache.ruleset;
    fake_write(&cache, "cache.test 'a' { ttl = 9 } cache.test 'b' { ttl = '5m' }", 56);
    ck_assert_int_eq(pln_test_policy(&cache, cache.path, 0, keep_line, told), PLN_EPOLICY);
    ck_assert_str_eq(told, "a 1 policy.lua:1: test 'a': ttl: expected 9s, got 5m (cache)\n"
                           "b 1 held\n");
    fake_write(&cache, "cache.test 'b' { ttl = '5m' }", 29);
    told[0] = 0;
    ck_assert_int_eq(pln_test_policy(&cache, cache.path, 0, keep_line, told), PLN_OK);
    ck_assert_str_eq(told, "b 1 held\n");
    fake_write(&cache, "cache.test {", 12);
    told[0] = 0;
    ck_assert_int_eq(pln_test_policy(&cache, cache.path, 0, keep_line, told), PLN_EPOLICY);
    ck_assert_str_eq(told, "");
    ck_assert_ptr_eq(cache.ruleset, before);
    ck_assert_int_eq(cache.n_refused, 0);
}
END_TEST

int main(void) {
    Suite *suite = suite_create("policy_tests");
    TCase *tests = tcase_create("policy_tests");
    suite_add_tcase(suite, tests);
    tcase_set_timeout(tests, 60);
    tcase_add_checked_fixture(tests, setup, teardown);
    tcase_add_loop_test(tests, a_test_that_holds_lets_the_file_pass, 0, PLN_ARRAY_LEN(good));
    tcase_add_loop_test(tests, a_test_that_fails_refuses_the_file_and_says_expected_and_got, 0,
                        PLN_ARRAY_LEN(failing));
    tcase_add_loop_test(tests, a_wrong_test_is_refused_with_its_line, 0, PLN_ARRAY_LEN(wrong));
    tcase_add_test(tests, a_test_may_stand_above_the_rules);
    tcase_add_test(tests, the_functions_that_tests_ask_have_one_budget);
    tcase_add_test(tests, testing_tells_of_each_and_puts_nothing_in_force);
    SRunner *runner = srunner_create(suite);
    srunner_run_all(runner, CK_ENV);
    int failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed == 0 ? 0 : 1;
}
