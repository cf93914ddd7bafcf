/* SPDX-License-Identifier: MIT
 * test_policy_stores.c - lua/storing.c, stores.c: what rules say of writing, every way to get it
 * wrong, with the text asserted to the letter, and the functions that write and load many. */
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
                   "end) }");
    items[0] = set("u:1:name", "Ada", 0);
    items[1] = set("u:2:name", "Bob", 0);
    items[2] = set("u:3:x", "", 0);
    items[3] = set("u:4:x", "", 0);
    items[4] = removal("u:5:x");
    items[5] = set("u:6:x", "", 0);
    items[6] = set("u:7:x", "7", 2);
    ck_assert_int_eq(store(7), PLN_OK);
    expect_item(0, PLN_OK, "");
    expect_item(1, PLN_ESTORE, "policy.lua:1: rule 'u:{id}:{part}': write: the disk is full");
    expect_item(2, PLN_EINVAL, "policy.lua:1: rule 'u:{id}:{part}': write: no such column");
    expect_item(3, PLN_ETIMEOUT, "policy.lua:1: rule 'u:{id}:{part}': write: the line broke");
    expect_item(4, PLN_ESTORE, "policy.lua:1: rule 'u:{id}:{part}': write: it returned false");
    expect_item(5, PLN_ESTORE,
                "policy.lua:1: rule 'u:{id}:{part}': write: policy.lua:9: attempt to index a nil "
                "value (local 'x')");
    expect_item(6, PLN_OK, "");
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
    "  if first == 'some' then return { [2] = 'too long', [3] = { 'not a number', 'never' } } end\n"
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
    expect_item(2, PLN_EINVAL, "policy.lua:18: rule 'k:{id}': write: not a number");
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
    expect_line("u:1", "load_many function (policy.lua:1)\n");
    expect_line("u:1", "load by load_many (policy.lua:1)\n");
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
    tcase_add_test(tests, rules_say_how_they_are_written_and_inherit_it);
    tcase_add_test(tests, writing_is_told_with_its_place);
    tcase_add_test(tests, a_test_expects_a_strategy);
    tcase_add_test(tests, the_options_of_a_cache_hold_where_no_rule_says_otherwise);
    tcase_add_test(tests, what_is_wrong_is_told_with_its_line);
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
