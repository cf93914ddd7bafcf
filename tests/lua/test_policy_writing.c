/* SPDX-License-Identifier: MIT
 * test_policy_writing.c - lua/storing.c: what classes and rules say of writing, and every way to
 * get it wrong, with the text asserted to the letter. */
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

/* ---- what is stated ---- */

static const char strategies[] =
    "cache.class 'queued' { write = behind { store = store 'orders', every = '1s' } }\n"
    "cache.class 'direct' { write = through(function() end) }\n"
    "cache.rule 'p:{id}' { write = through { store = function() end, timeout = '2s' } }\n"
    "cache.rule 'a:{id}' { write = around(store 'archive') }\n"
    "cache.rule 'b:{id}' { write = behind { store = function() end, batch = 50, every = 2,\n"
    "  in_order = true, attempts = 3, backoff = '1s', most = 1000, when_full = 'refuse',\n"
    "  dead = 7, timeout = '10s' } }\n"
    "cache.rule 'q:{id}' { class = 'queued' }\n"
    "cache.rule 'd:{id}' { class = 'direct', codec = 'json' }\n"
    "cache.rule 'f:{id}' { class = 'queued', write = false }\n"
    "cache.rule 's:{id}' { class = 'direct', write = 'aside' }\n"
    "cache.rule 'm:{id}' { load_many = function() end }\n"
    "cache.rule '*' {}\n";

static void expect_line(const char *key, const char *line) {
    const char *origins = fake_rule_of(&cache, key)->origins;
    ck_assert_msg(strstr(origins, line) != NULL, "%s: no '%s' in\n%s", key, line, origins);
}

START_TEST(rules_say_how_they_are_written_and_inherit_it) {
    fake_load_good(&cache, strategies);
    const struct pln_rule *through = fake_rule_of(&cache, "p:1"), *b = fake_rule_of(&cache, "b:1");
    ck_assert_uint_eq(through->terms.write, PLN_WRITE_THROUGH);
    ck_assert_uint_eq(through->writing.strategy, PLN_WRITE_THROUGH);
    ck_assert_int_eq(through->writing.timeout_ms, 2000);
    ck_assert_uint_eq(through->hooks, PLN_RULE_STORE);
    ck_assert_ptr_null(through->store);
    ck_assert_str_eq(fake_rule_of(&cache, "a:1")->store, "archive");
    ck_assert_uint_eq(fake_rule_of(&cache, "a:1")->hooks, 0);
    ck_assert_uint_eq(fake_rule_of(&cache, "a:1")->terms.write, PLN_WRITE_AROUND);
    ck_assert_uint_eq(b->terms.write, PLN_WRITE_BEHIND);
    ck_assert_uint_eq(b->writing.batch, 50);
    ck_assert_int_eq(b->writing.every_ms, 2000);
    ck_assert(b->writing.in_order);
    ck_assert_uint_eq(b->writing.attempts, 3);
    ck_assert_int_eq(b->writing.backoff_ms, 1000);
    ck_assert_uint_eq(b->writing.most, 1000);
    ck_assert_uint_eq(b->writing.when_full, PLN_FULL_REFUSE);
    ck_assert_uint_eq(b->writing.dead, 7);
    ck_assert_int_eq(b->writing.timeout_ms, 10000);
    ck_assert_str_eq(fake_rule_of(&cache, "q:1")->store, "orders");
    ck_assert_uint_eq(fake_rule_of(&cache, "q:1")->writing.batch, 500);
    ck_assert_uint_eq(fake_rule_of(&cache, "d:1")->hooks, PLN_RULE_STORE);
    ck_assert_uint_eq(fake_rule_of(&cache, "f:1")->terms.write, PLN_WRITE_ASIDE);
    ck_assert_ptr_null(fake_rule_of(&cache, "f:1")->store);
    ck_assert_uint_eq(fake_rule_of(&cache, "s:1")->hooks, 0);
    ck_assert_uint_eq(fake_rule_of(&cache, "else")->writing.strategy, 0);
}
END_TEST

START_TEST(writing_is_told_with_its_place) {
    fake_load_good(&cache, strategies);
    expect_line("p:1", "write through, timeout 2s, store function (policy.lua:3)\n");
    expect_line("a:1", "write around, store 'archive' (policy.lua:4)\n");
    expect_line("b:1", "write behind, batch 50, every 2s, in order, most 1000, refuse when full, "
                       "attempts 3, backoff 1s, dead 7, timeout 10s, store function "
                       "(policy.lua:5)\n");
    expect_line("q:1", "write behind, batch 500, every 1s, store 'orders' "
                       "(class queued, policy.lua:1)\n");
    expect_line("d:1", "write through, store function (class direct, policy.lua:2)\n");
    expect_line("f:1", "write aside (policy.lua:10)\n");
    expect_line("else", "write aside (cache)\n");
    expect_line("m:1", "load by load_many (policy.lua:12)\n");
    expect_line("m:1", "load_many function (policy.lua:12)\n");
    ck_assert_uint_eq(fake_rule_of(&cache, "m:1")->hooks, PLN_RULE_LOAD | PLN_RULE_LOAD_MANY);
}
END_TEST

START_TEST(a_test_expects_a_strategy) {
    fake_load_good(&cache, "cache.rule 'p' { write = through(function() end) }\n"
                           "cache.test 'p' { write = 'through' }\n"
                           "cache.test 'q' { write = 'aside' }\n"
                           "cache.test 'q' { write = false }");
    fake_expect_refusal(&cache,
                        "cache.rule 'p' { write = around(store 'x') }\n"
                        "cache.test 'p' { write = 'behind' }",
                        "policy.lua:2: test 'p': write: expected behind, got around "
                        "(policy.lua:1)");
    fake_expect_refusal(&cache, "cache.test 'p' { write = 'back' }",
                        "policy.lua:1: test 'p': write: \"aside\", \"through\", \"behind\" or "
                        "\"around\", got 'back'");
}
END_TEST

START_TEST(the_options_of_a_cache_hold_where_no_rule_says_otherwise) {
    cache.terms.write = PLN_WRITE_THROUGH;
    fake_load_good(&cache, "cache.rule 'p' {} cache.rule 'q' { write = false }");
    ck_assert_uint_eq(fake_rule_of(&cache, "p")->terms.write, PLN_WRITE_THROUGH);
    ck_assert_uint_eq(fake_rule_of(&cache, "p")->writing.strategy, 0);
    expect_line("p", "write through (cache)\n");
    ck_assert_uint_eq(fake_rule_of(&cache, "q")->terms.write, PLN_WRITE_ASIDE);
}
END_TEST

#define F "function() end"

static const char *const wrong[][2] = {
    {"cache.rule 'x' { write = true }",
     "policy.lua:1: rule 'x': write: through(f), around(f), behind { store = f }, or \"aside\", got "
     "true"},
    {"cache.rule 'x' { write = 'through' }",
     "policy.lua:1: rule 'x': write: through(f), around(f), behind { store = f }, or \"aside\", got "
     "'through'"},
    {"cache.class 'c' { write = through }",
     "policy.lua:1: class 'c': write: through(f), around(f), behind { store = f }, or \"aside\", got "
     "a function"},
    {"cache.rule 'x' { write = store 'orders' }",
     "policy.lua:1: rule 'x': write: through(f), around(f), behind { store = f }, or \"aside\", got "
     "a store"},
    {"cache.rule 'x' {\n  wirte = false }",
     "policy.lua:1: rule 'x': unknown field 'wirte', did you mean 'write'?"},
    {"cache.rule 'x' { load_may = " F " }",
     "policy.lua:1: rule 'x': unknown field 'load_may', did you mean 'load_many'?"},
    {"cache.rule 'x' { load_many = loader 'db' }",
     "policy.lua:1: rule 'x': load_many: a function, got a loader"},
    {"cache.class 'c' { load_many = " F " }",
     "policy.lua:1: class 'c': load_many: a field of rules, not of classes"},
    {"cache.rule 'x' { ttl = through(" F ") }",
     "policy.lua:1: rule 'x': ttl: a duration such as \"15m\" or seconds, or a function, got a "
     "write"},
    {"\nlocal w = through()",
     "policy.lua:2: through: a function, store \"name\" or a table is wanted, as in through(f) or "
     "through { store = f }, got nothing"},
    {"cache.rule 'x' { write = around 'orders' }",
     "policy.lua:1: rule 'x': a function, store \"name\" or a table is wanted, as in around(f) or "
     "around { store = f }, got 'orders'"},
    {"cache.rule 'x' { write = behind {} }",
     "policy.lua:1: rule 'x': behind: store: a function, or store \"name\", got nothing"},
    {"\nlocal w = behind { store = 'orders' }",
     "policy.lua:2: behind: store: a function, or store \"name\", got 'orders'"},
    {"cache.rule 'x' { write = behind { store = " F ", bacth = 5 } }",
     "policy.lua:1: rule 'x': unknown field 'bacth', did you mean 'batch'?"},
    {"cache.rule 'x' { write = through { store = " F ", timeuot = 5 } }",
     "policy.lua:1: rule 'x': unknown field 'timeuot', did you mean 'timeout'?"},
    {"cache.rule 'x' { write = through { store = " F ", batch = 5 } }",
     "policy.lua:1: rule 'x': batch: a field of behind, not of through"},
    {"cache.rule 'x' { write = around { store = " F ", in_order = true } }",
     "policy.lua:1: rule 'x': in_order: a field of behind, not of around"},
    {"cache.rule 'x' { write = behind { store = " F ", batch = 0 } }",
     "policy.lua:1: rule 'x': behind: batch: a whole number from 1 to 10000, got 0"},
    {"cache.rule 'x' { write = behind { store = " F ", batch = '5' } }",
     "policy.lua:1: rule 'x': behind: batch: a whole number from 1 to 10000, got '5'"},
    {"cache.rule 'x' { write = behind { store = " F ", most = 2.5 } }",
     "policy.lua:1: rule 'x': behind: most: a whole number from 1 to 1000000000, got 2.5"},
    {"cache.rule 'x' { write = behind { store = " F ", attempts = -1 } }",
     "policy.lua:1: rule 'x': behind: attempts: a whole number from 1 to 1000000, got -1"},
    {"cache.rule 'x' { write = behind { store = " F ", dead = {} } }",
     "policy.lua:1: rule 'x': behind: dead: a whole number from 1 to 10000000, got a table"},
    {"cache.rule 'x' { write = behind { store = " F ", every = '1 day' } }",
     "policy.lua:1: rule 'x': behind: every: a duration such as \"2s\" or seconds, got '1 day'"},
    {"cache.rule 'x' { write = behind { store = " F ", every = '2h' } }",
     "policy.lua:1: rule 'x': behind: every: more than 0 and at most 1 hour, got '2h'"},
    {"cache.rule 'x' { write = behind { store = " F ", backoff = '2m' } }",
     "policy.lua:1: rule 'x': behind: backoff: more than 0 and at most 1 minute, got '2m'"},
    {"cache.rule 'x' { write = through { store = " F ", timeout = 0 } }",
     "policy.lua:1: rule 'x': through: timeout: more than 0 and at most 1 hour, got 0"},
    {"cache.rule 'x' { write = behind { store = " F ", when_full = 'drop' } }",
     "policy.lua:1: rule 'x': behind: when_full: \"wait\", \"through\" or \"refuse\", got 'drop'"},
    {"cache.rule 'x' { write = behind { store = " F ", in_order = 1 } }",
     "policy.lua:1: rule 'x': behind: in_order: true or false, got 1"},
    {"cache.rule 'x' { write = behind { store = " F ", in_order = true, when_full = 'through' } }",
     "policy.lua:1: rule 'x': behind: in_order: not with when_full = \"through\", which passes what "
     "waits: false, got true"},
    {"cache.rule 'x' { write = behind { store = store '' } }",
     "policy.lua:1: rule 'x': a name of 1 to 512 bytes is wanted, as in store \"catalog\", got ''"},
    {"\nlocal s = store {}",
     "policy.lua:2: store: a name of 1 to 512 bytes is wanted, as in store \"catalog\", got a "
     "table"},
    {"cache.rule 'x' { deny = true, write = through(" F ") }",
     "policy.lua:1: rule 'x': write: deny refuses the rule's keys, so this is never called"},
    {"cache.rule 'x' { deny = true, load_many = " F " }",
     "policy.lua:1: rule 'x': load_many: deny refuses the rule's keys, so this is never called"},
    {"cache.rule 'x' { l2 = false, write = behind(" F ") }",
     "policy.lua:1: rule 'x': write: behind needs l2, where the writes wait: that is false here"},
    {"cache.class 'c' { write = behind(" F ") }\n"
     "cache.rule 'x' { class = 'c', local_writes = true }",
     "policy.lua:2: rule 'x': local_writes: not with write = behind, which promises that Redis has "
     "a write: that is to be false"},
};

START_TEST(what_is_wrong_is_told_with_its_line) {
    for (size_t i = 0; i < PLN_ARRAY_LEN(wrong); i++) {
        fake_expect_refusal(&cache, wrong[i][0], wrong[i][1]);
    }
}
END_TEST

int main(void) {
    Suite *suite = suite_create("policy_writing");
    TCase *tests = tcase_create("policy_writing");
    suite_add_tcase(suite, tests);
    tcase_set_timeout(tests, 60);
    tcase_add_checked_fixture(tests, setup, teardown);
    tcase_add_test(tests, rules_say_how_they_are_written_and_inherit_it);
    tcase_add_test(tests, writing_is_told_with_its_place);
    tcase_add_test(tests, a_test_expects_a_strategy);
    tcase_add_test(tests, the_options_of_a_cache_hold_where_no_rule_says_otherwise);
    tcase_add_test(tests, what_is_wrong_is_told_with_its_line);
    SRunner *runner = srunner_create(suite);
    srunner_run_all(runner, CK_ENV);
    int failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed == 0 ? 0 : 1;
}
