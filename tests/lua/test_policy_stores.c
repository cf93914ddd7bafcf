/* SPDX-License-Identifier: MIT
 * test_policy_stores.c - lua/stores.c: the functions of a policy that write, and those that load
 * many keys. */
#include <check.h>
#include <stdio.h>

#include "fake_core.h"
#include "../../lua/script.h"

enum { MOST_ITEMS = 8 };

static struct pln_cache cache;
static struct pln_store_item items[MOST_ITEMS];

static void setup(void) {
    fake_open(&cache);
    memset(items, 0, sizeof items);
}

static void teardown(void) {
    fake_close(&cache);
}

/* ---- writing ---- */

static struct pln_store_item set(const char *key, const char *value, uint8_t format) {
    return (struct pln_store_item){.op = PLN_STORE_SET,
                                   .key = pln_key(key),
                                   .value = pln_key(value),
                                   .format = format,
                                   .id = "",
                                   .attempt = 1};
}

static struct pln_store_item removal(const char *key) {
    return (struct pln_store_item){
        .op = PLN_STORE_DELETE, .key = pln_key(key), .id = "", .attempt = 1};
}

static int store(size_t n) {
    const struct pln_rule *rule = fake_rule_of(&cache, items[0].key.data);
    ck_assert(rule->hooks & PLN_RULE_STORE);
    return cache.ruleset->hooks.store(cache.ruleset->hooks_arg, 0, rule, items, n);
}

static void expect_item(size_t i, int status, const char *error) {
    ck_assert_msg(items[i].status == status && strcmp(items[i].error, error) == 0,
                  "item %zu: %d '%s'", i, items[i].status, items[i].error);
}

START_TEST(through_a_function_gets_one_write_after_the_other) {
    fake_load_good(&cache,
                   "cache.rule 'u:{id}:{part}' { write = through(function(key, m, value, item)\n"
                   "  log.info('%s %s %s %s %s %s %s', key, m.id, m.part, value, item.op,\n"
                   "    item.attempt, item.version)\n"
                   "  assert(item.key == key and item.value == value and item.m == m)\n"
                   "  if m.id == '2' then return nil, 'the disk is full' end\n"
                   "  if m.id == '3' then return nil, 'no such column', 'never' end\n"
                   "  if m.id == '4' then return nil, 'the line broke', 'unknown' end\n"
                   "  if m.id == '5' then return false end\n"
                   "  if m.id == '6' then local x = nil; return x.y end\n"
                   "  if m.id == '7' then return 1 end\n"
                   "  if m.id == '8' then return nil, nil, 'never' end\n"
                   "end) }");
    items[0] = set("u:1:name", "Ada", 0);
    items[1] = set("u:2:name", "Bob", 0);
    items[2] = set("u:3:x", "", 0);
    items[3] = set("u:4:x", "", 0);
    items[4] = removal("u:5:x");
    items[5] = set("u:6:x", "", 0);
    items[6] = set("u:8:x", "", 0);
    items[7] = set("u:7:x", "7", 2);
    ck_assert_int_eq(store(8), PLN_OK);
    expect_item(0, PLN_OK, "");
    expect_item(1, PLN_ESTORE, "policy.lua:1: rule 'u:{id}:{part}': write: the disk is full");
    expect_item(2, PLN_EINVAL, "policy.lua:1: rule 'u:{id}:{part}': write: no such column");
    expect_item(3, PLN_ETIMEOUT, "policy.lua:1: rule 'u:{id}:{part}': write: the line broke");
    expect_item(4, PLN_ESTORE, "policy.lua:1: rule 'u:{id}:{part}': write: it returned false");
    expect_item(5, PLN_ESTORE,
                "policy.lua:1: rule 'u:{id}:{part}': write: policy.lua:9: attempt to index a nil "
                "value (local 'x')");
    expect_item(6, PLN_EINVAL, "policy.lua:1: rule 'u:{id}:{part}': write: it gave no reason");
    expect_item(7, PLN_OK, "");
    ck_assert_int_eq(cache.n_failures, 1); /* what one says is no fault of the script's */
    ck_assert_str_eq(cache.last_log, "perilune test: policy.lua: u:7:x 7 x 7 set 1 nil");
    items[0] = removal("u:1:name");
    ck_assert_int_eq(store(1), PLN_OK);
    ck_assert_str_eq(cache.last_log, "perilune test: policy.lua: u:1:name 1 name nil delete 1 nil");
}
END_TEST

START_TEST(values_are_those_a_reader_gets) {
    fake_load_good(&cache, "cache.rule 'u' { write = around(function(key, m, value)\n"
                           "  return nil, type(value) .. ' ' .. tostring(type(value) == 'table'\n"
                           "    and value.n or value) end) }");
    items[0] = set("u", "bytes", 0);
    items[1] = set("u", "\x81\xa1n\x07", 1);
    items[2] = set("u", "{\"n\": 8}", 2);
    items[3] = set("u", "\xc2", 1);
    items[4] = set("u", "?", 9); /* a host's own */
    items[5] = set("u", "", 0);
    items[5].is_absent = true;
    ck_assert_int_eq(store(6), PLN_OK);
    expect_item(0, PLN_ESTORE, "policy.lua:1: rule 'u': write: string bytes");
    expect_item(1, PLN_ESTORE, "policy.lua:1: rule 'u': write: table 7");
    expect_item(2, PLN_ESTORE, "policy.lua:1: rule 'u': write: table 8");
    expect_item(3, PLN_ESTORE, "policy.lua:1: rule 'u': write: boolean false");
    expect_item(4, PLN_EINVAL,
                "policy.lua:1: rule 'u': write: value: format 9 is unknown to Lua (0 raw, 1 "
                "MessagePack, 2 JSON)");
    expect_item(5, PLN_ESTORE, "policy.lua:1: rule 'u': write: nil nil");
}
END_TEST

static const char batches[] =
    "local answer\n"
    "cache.class 'c' { write = behind(function(items)\n"
    "  local texts = {}\n"
    "  for i, item in ipairs(items) do\n"
    "    texts[i] = item.key .. item.m.id .. item.op .. tostring(item.value) .. item.id ..\n"
    "      item.version .. item.attempt\n"
    "  end\n"
    "  log.info(table.concat(texts, ' '))\n"
    "  local first = items[1].value\n"
    "  if first == 'none' then return nil, 'the database is away' end\n"
    "  if first == 'bad' then return nil, 'no such table', 'never' end\n"
    "  if first == 'false' then return false, 'no' end\n"
    "  if first == 'some' then return { [2] = 'too long', [3] = { 'not a\\nnumber', 'never' } } end\n"
    "  if first == 'raise' then error 'out of luck' end\n"
    "  if first == 'index' then return { [4] = 'x' } end\n"
    "  return first == 'true' or nil\n"
    "end) }\n"
    "cache.rule 'k:{id}' { class = 'c' }\n";

static int store_batch(const char *first) {
    for (size_t i = 0; i < 3; i++) {
        static const char *const keys[] = {"k:1", "k:2", "k:3"};
        items[i] = i == 1 ? removal(keys[i]) : set(keys[i], i == 0 ? first : "v", 0);
        items[i].id = "5-1";
        items[i].version = (5 << 20) + 1;
        items[i].attempt = 2;
    }
    return store(3);
}

START_TEST(behind_a_function_gets_a_batch) {
    fake_load_good(&cache, batches);
    ck_assert_int_eq(store_batch("true"), PLN_OK);
    ck_assert_str_eq(cache.last_log,
                     "perilune test: policy.lua: k:11settrue5-152428812 k:22deletenil5-152428812 "
                     "k:33setv5-152428812");
    ck_assert_int_eq(store_batch("nothing"), PLN_OK);
    for (size_t i = 0; i < 3; i++) {
        expect_item(i, PLN_OK, "");
    }
}
END_TEST

START_TEST(of_a_batch_none_or_some_may_fail) {
    fake_load_good(&cache, batches);
    ck_assert_int_eq(store_batch("none"), PLN_ESTORE);
    ck_assert_str_eq(pln_error_text(), "policy.lua:18: rule 'k:{id}': write: the database is away");
    expect_item(0, PLN_OK, "");
    ck_assert_int_eq(store_batch("bad"), PLN_EINVAL);
    ck_assert_str_eq(pln_error_text(), "policy.lua:18: rule 'k:{id}': write: no such table");
    ck_assert_int_eq(store_batch("false"), PLN_ESTORE);
    ck_assert_int_eq(cache.n_failures, 0);
    ck_assert_int_eq(store_batch("some"), PLN_OK);
    expect_item(0, PLN_OK, "");
    expect_item(1, PLN_ESTORE, "policy.lua:18: rule 'k:{id}': write: too long");
    expect_item(2, PLN_EINVAL, "policy.lua:18: rule 'k:{id}': write: not a\\nnumber");
    ck_assert_int_eq(store_batch("raise"), PLN_ESTORE);
    ck_assert_str_eq(pln_error_text(),
                     "policy.lua:18: rule 'k:{id}': write: policy.lua:14: out of luck");
    ck_assert_int_eq(store_batch("index"), PLN_ESTORE);
    ck_assert_str_eq(pln_error_text(),
                     "policy.lua:18: rule 'k:{id}': write: an index from 1 to 3 is wanted in the "
                     "table of what failed, got 4");
    ck_assert_int_eq(cache.n_failures, 2);
}
END_TEST

START_TEST(what_lua_cannot_read_does_not_hold_up_a_batch) {
    fake_load_good(&cache, "cache.rule 'k:{id}' { write = behind(function(items)\n"
                           "  assert(#items == 1 and items[1].key == 'k:2')\n"
                           "  return { 'no' } end) }");
    items[0] = set("k:1", "?", 9);
    items[1] = set("k:2", "v", 0);
    items[2] = set("k:3", "\xc1", 1);
    ck_assert_int_eq(store(3), PLN_OK);
    ck_assert_int_eq(items[0].status, PLN_EINVAL);
    expect_item(1, PLN_ESTORE, "policy.lua:1: rule 'k:{id}': write: no");
    ck_assert_int_eq(items[2].status, PLN_EINVAL);
    items[0] = set("k:1", "?", 9);
    ck_assert_int_eq(store(1), PLN_OK); /* nothing is left to be stored */
    ck_assert_int_eq(items[0].status, PLN_EINVAL);
}
END_TEST

static const char endless[] =
    "cache.rule 'b' { write = behind { store = function() while true do end end, timeout = 0.01 } }\n"
    "cache.rule 't' { write = through { store = function() while true do end end, timeout = 0.01 } }";

START_TEST(what_had_to_be_stopped_may_be_stored) {
    fake_load_good(&cache, endless);
    items[0] = set("b", "v", 0);
    ck_assert_int_eq(store(1), PLN_ETIMEOUT);
    ck_assert_str_eq(pln_error_text(), "policy.lua:1: rule 'b': write: policy.lua:1: stopped: it "
                                       "ran longer than 10 ms");
    items[0] = set("t", "v", 0);
    ck_assert_int_eq(store(1), PLN_OK);
    expect_item(0, PLN_ETIMEOUT,
                "policy.lua:2: rule 't': write: policy.lua:2: stopped: it ran "
                "longer than 10 ms");
}
END_TEST

START_TEST(through_it_is_turned_off_and_fails_at_once_but_behind_it_goes_on) {
    fake_load_good(&cache, endless);
    for (int i = 0; i < PLN_FUSE_FAILURES; i++) {
        items[0] = set("t", "v", 0);
        store(1);
        ck_assert_int_eq(items[0].status, PLN_ETIMEOUT);
    }
    ck_assert_str_eq(cache.last_log,
                     "perilune test: policy.lua:2: rule 't': write: policy.lua:2: stopped: it ran "
                     "longer than 10 ms; turned off for 10 s after 5 failures in a row");
    items[0] = set("t", "v", 0);
    ck_assert_int_eq(store(1), PLN_OK);
    expect_item(0, PLN_ESTORE,
                "policy.lua:2: rule 't': write: turned off for a while, since it "
                "had to be stopped again and again");
    cache.now += PLN_FUSE_OFF_MS;
    items[0] = set("t", "v", 0);
    store(1);
    ck_assert_int_eq(items[0].status, PLN_ETIMEOUT); /* tried again */
    for (int i = 0; i < PLN_FUSE_FAILURES + 1; i++) {
        items[0] = set("b", "v", 0);
        ck_assert_int_eq(store(1), PLN_ETIMEOUT);
    }
}
END_TEST

/* ---- loading many ---- */

static struct pln_load loads[MOST_ITEMS];
static int statuses[MOST_ITEMS];

static int load_many(const char *const *keys, size_t n) {
    struct pln_bytes bytes[MOST_ITEMS];
    struct pln_load *pointers[MOST_ITEMS];
    size_t which[MOST_ITEMS];
    for (size_t i = 0; i < n; i++) {
        fake_empty(&loads[i]);
        loads[i].cache = &cache;
        bytes[i] = pln_key(keys[i]);
        pointers[i] = &loads[i];
        which[i] = i;
        statuses[i] = PLN_ABSENT;
    }
    struct pln_bulk bulk = {n, bytes, which, pointers, statuses};
    const struct pln_rule *rule = fake_rule_of(&cache, keys[0]);
    ck_assert_uint_ne(rule->hooks & PLN_RULE_LOAD_MANY, 0);
    return cache.ruleset->hooks.load_many(cache.ruleset->hooks_arg, 0, rule, &bulk);
}

static void empty_all(void) {
    for (size_t i = 0; i < MOST_ITEMS; i++) {
        fake_empty(&loads[i]);
    }
}

static const char *const four[] = {"u:1", "u:2", "u:3", "u:4"};

START_TEST(many_are_loaded_by_one_call_and_shaped_each) {
    fake_load_good(&cache, "cache.rule 'u:{id}' { load_many = function(keys, ms)\n"
                           "  local values = {}\n"
                           "  for i, key in ipairs(keys) do\n"
                           "    values[key] = key .. ms[i].id\n"
                           "  end\n"
                           "  values['u:2'] = nil; values['u:3'] = print; values.other = 1\n"
                           "  return values\n"
                           "end, ttl = function(key, m, value) return tonumber(m.id) end,\n"
                           "tags = function(key, m, value) return { value } end }");
    ck_assert_msg(load_many(four, 4) == PLN_OK, "%s", pln_error_text());
    ck_assert(pln_bytes_equal(loads[0].value, pln_key("u:11")));
    ck_assert(loads[0].ttl_ms == 1000 && loads[3].ttl_ms == 4000);
    ck_assert_str_eq(loads[3].tags, "u:44,");
    ck_assert_int_eq(statuses[0], PLN_OK);
    ck_assert_int_eq(statuses[1], PLN_ABSENT);
    ck_assert_int_eq(statuses[2], PLN_ELOADER);
    ck_assert_int_eq(statuses[3], PLN_OK);
    ck_assert_str_eq(cache.last_log, "perilune test: policy.lua:1: rule 'u:{id}': load_many: key "
                                     "'u:3': value: a function cannot be cached");
    empty_all();
}
END_TEST

START_TEST(load_many_stands_in_for_load) {
    struct pln_load load = {.n_tags = 0};
    fake_load_good(&cache, "cache.rule 'u:{id}' { load_many = function(keys, ms)\n"
                           "  assert(#keys == 1 and #ms == 1)\n"
                           "  if ms[1].id == '1' then return { [keys[1]] = 'one' } end\n"
                           "  if ms[1].id == '2' then return {} end\n"
                           "  return nil, 'the database is away'\n"
                           "end }\n"
                           "cache.rule 'v' { load = function() return 'by load' end,\n"
                           "  load_many = function() error 'not called' end }");
    ck_assert_int_eq(fake_load_key(&cache, 0, "u:1", &load), PLN_OK);
    ck_assert(pln_bytes_equal(load.value, pln_key("one")));
    ck_assert_int_eq(fake_load_key(&cache, 0, "u:2", &load), PLN_ABSENT);
    ck_assert_int_eq(fake_load_key(&cache, 0, "u:3", &load), PLN_ELOADER);
    ck_assert_str_eq(pln_error_text(), "policy.lua:1: rule 'u:{id}': load: the database is away");
    ck_assert_int_eq(fake_load_key(&cache, 0, "v", &load), PLN_OK);
    ck_assert(pln_bytes_equal(load.value, pln_key("by load")));
    fake_empty(&load);
}
END_TEST

START_TEST(a_load_of_many_that_fails_names_file_line_and_rule) {
    static const char *const answers[][2] = {
        {"nil, 'the database is away'", "the database is away"},
        {"nil", "a table of values by their keys is wanted, got nothing"},
        {"{ 'a', 'b' }", "a table of values by their keys is wanted, got one with the field 1"},
        {"keys.x.y", "policy.lua:2: attempt to index a nil value (field 'x')"},
    };
    for (size_t i = 0; i < PLN_ARRAY_LEN(answers); i++) {
        char policy[200], text[200];
        snprintf(policy, sizeof policy,
                 "cache.rule 'u:{id}' { load_many = function(keys)\n  return %s end }",
                 answers[i][0]);
        snprintf(text, sizeof text, "policy.lua:1: rule 'u:{id}': load_many: %s", answers[i][1]);
        fake_load_good(&cache, policy);
        ck_assert_int_eq(load_many(four, 4), PLN_ELOADER);
        ck_assert_str_eq(pln_error_text(), text);
        ck_assert_int_eq(statuses[0], PLN_ABSENT);
    }
}
END_TEST

int main(void) {
    Suite *suite = suite_create("policy_stores");
    TCase *tests = tcase_create("policy_stores");
    suite_add_tcase(suite, tests);
    tcase_set_timeout(tests, 60);
    tcase_add_checked_fixture(tests, setup, teardown);
    tcase_add_test(tests, through_a_function_gets_one_write_after_the_other);
    tcase_add_test(tests, values_are_those_a_reader_gets);
    tcase_add_test(tests, behind_a_function_gets_a_batch);
    tcase_add_test(tests, of_a_batch_none_or_some_may_fail);
    tcase_add_test(tests, what_lua_cannot_read_does_not_hold_up_a_batch);
    tcase_add_test(tests, what_had_to_be_stopped_may_be_stored);
    tcase_add_test(tests, through_it_is_turned_off_and_fails_at_once_but_behind_it_goes_on);
    tcase_add_test(tests, many_are_loaded_by_one_call_and_shaped_each);
    tcase_add_test(tests, load_many_stands_in_for_load);
    tcase_add_test(tests, a_load_of_many_that_fails_names_file_line_and_rule);
    SRunner *runner = srunner_create(suite);
    srunner_run_all(runner, CK_ENV);
    int failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed == 0 ? 0 : 1;
}
