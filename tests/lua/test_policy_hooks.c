/* SPDX-License-Identifier: MIT
 * test_policy_hooks.c - lua/vm.c: the functions of a policy as the core calls them. */
#include <check.h>
#include <pthread.h>
#include <stdio.h>
#include <unistd.h>

#include "fake_core.h"

static struct pln_cache cache;
static struct pln_load load;

static void setup(void) {
    fake_open(&cache);
    load = (struct pln_load){.n_tags = 0};
}

static void teardown(void) {
    fake_empty(&load);
    fake_close(&cache);
}

static void load_good(const char *text, uint32_t flags) {
    ck_assert_msg(fake_load_text(&cache, text, flags) == PLN_OK, "%s", pln_error_text());
}

static const char loaders[] =
    "cache.rule \"user:{id}:{part}\" {\n"
    "  load = function(key, m) return key .. '|' .. m.id .. '|' .. m.part end,\n"
    "}\n"
    "cache.rule \"table:*\" { load = function(key, m) return { rest = m['*'], n = 3 } end }\n"
    "cache.rule \"absent\" { load = function() return nil end }\n"
    "cache.rule \"absent-short\" { load = function() return nil, nil, '2s' end }\n"
    "cache.rule \"nothing\" { load = function() end }\n"
    "cache.rule \"sorry\" { load = function() return nil, 'the database is away' end }\n"
    "cache.rule \"raises\" {\n"
    "  load = function()\n"
    "    local x = nil\n"
    "    return x.y\n"
    "  end }\n"
    "cache.rule \"short\" { load = function() return 'v', nil, 2.5 end,\n"
    "  ttl = function() error('not called: load gave a ttl') end }\n"
    "cache.rule \"unstored\" { load = function() return 'v', nil, -1 end }\n"
    "cache.rule \"unstored-text\" { load = function() return 'v', nil, '0s' end }\n"
    "cache.rule \"strange\" { load = function() return 'v', nil, {} end }\n"
    "cache.rule \"print\" { load = function() return print end }\n"
    "cache.rule \"false\" { load = function() return false end }\n";

static void expect_value(const char *key, const char *value) {
    ck_assert_msg(fake_load_key(&cache, 0, key, &load) == PLN_OK, "%s", pln_error_text());
    ck_assert(pln_bytes_equal(load.value, pln_key(value)));
}

START_TEST(load_answers_with_a_value_absence_or_an_error) {
    load_good(loaders, 0);
    expect_value("user:7:name", "user:7:name|7|name");
    expect_value("user:8:x", "user:8:x|8|x");
    ck_assert_uint_eq(load.format, 0);
    ck_assert(!load.has_ttl);
    ck_assert_int_eq(fake_load_key(&cache, 0, "table:a:b", &load), PLN_OK);
    ck_assert_uint_eq(load.format, 1);
    ck_assert_int_eq(fake_load_key(&cache, 0, "false", &load), PLN_OK);
    ck_assert(pln_bytes_equal(load.value, pln_key("\xc2")));
    ck_assert_int_eq(fake_load_key(&cache, 0, "absent", &load), PLN_ABSENT);
    ck_assert(!load.has_ttl);
    ck_assert_int_eq(fake_load_key(&cache, 0, "nothing", &load), PLN_ABSENT);
    ck_assert_int_eq(fake_load_key(&cache, 0, "absent-short", &load), PLN_ABSENT);
    ck_assert(load.has_ttl && load.ttl_ms == 2000);
    ck_assert_int_eq(cache.n_failures, 0);
}
END_TEST

START_TEST(a_failing_load_names_file_line_and_rule) {
    load_good(loaders, 0);
    ck_assert_int_eq(fake_load_key(&cache, 0, "sorry", &load), PLN_ELOADER);
    ck_assert_str_eq(pln_error_text(), "policy.lua:8: rule 'sorry': load: the database is away");
    ck_assert_int_eq(cache.n_failures, 0); /* the loader's word, not the script's fault */
    ck_assert_int_eq(fake_load_key(&cache, 0, "raises", &load), PLN_ELOADER);
    ck_assert_str_eq(pln_error_text(), "policy.lua:9: rule 'raises': load: policy.lua:12: attempt "
                                       "to index a nil value (local 'x')");
    ck_assert_int_eq(cache.n_failures, 1);
    ck_assert_int_eq(fake_load_key(&cache, 0, "print", &load), PLN_ELOADER);
    ck_assert_str_eq(pln_error_text(),
                     "policy.lua:19: rule 'print': load: value: a function cannot be cached");
}
END_TEST

START_TEST(a_third_result_is_the_ttl) {
    load_good(loaders, 0);
    ck_assert_int_eq(fake_load_key(&cache, 0, "short", &load), PLN_OK);
    ck_assert(load.has_ttl && load.ttl_ms == 2500);
    ck_assert_int_eq(cache.n_failures, 0);
    ck_assert_int_eq(fake_load_key(&cache, 0, "unstored", &load), PLN_OK);
    ck_assert(load.has_ttl && load.ttl_ms < 0);
    ck_assert_int_eq(fake_load_key(&cache, 0, "unstored-text", &load), PLN_OK);
    ck_assert(load.has_ttl && load.ttl_ms < 0);
    ck_assert_int_eq(fake_load_key(&cache, 0, "strange", &load), PLN_OK);
    ck_assert(!load.has_ttl);
    ck_assert_int_eq(cache.n_failures, 1);
    ck_assert_str_eq(cache.last_log,
                     "perilune test: policy.lua:18: rule 'strange': load: third result: a duration "
                     "such as \"15m\", seconds or nil is wanted, got a table (the rule's own terms "
                     "hold)");
}
END_TEST

START_TEST(load_sees_the_old_value_and_may_say_that_it_is_not_modified) {
    load_good("cache.rule \"k\" {\n"
              "  load = function(key, m, old) return old == 'v1' and not_modified or 'v2' end,\n"
              "  tags = function(key, m, value) return { value } end }\n"
              "cache.rule \"always\" { load = function() return not_modified end }",
              0);
    expect_value("k", "v2");
    ck_assert(!load.is_same);
    cache.old = "v1";
    expect_value("k", "v1");
    ck_assert(load.is_same);
    ck_assert_str_eq(load.tags, "v1,"); /* shaped anew */
    cache.old_format = 9;               /* a host's own: not for Lua */
    expect_value("k", "v2");
    cache.old = NULL;
    ck_assert_int_eq(fake_load_key(&cache, 0, "always", &load), PLN_ELOADER);
    ck_assert_str_eq(pln_error_text(), "policy.lua:4: rule 'always': load: no old value");
}
END_TEST

static const char shapers[] =
    "cache.rule \"p:{id}\" {\n"
    "  load = function(key, m) return { brand = 'acme', size = 3, id = m.id } end,\n"
    "  ttl = function(key, m, value) return value.size == 3 and '1h' or nil end,\n"
    "  tags = function(key, m, value) return { 'brand:' .. value.brand, m.id, 7 } end,\n"
    "  related = function(key, m, value) return { 'price:' .. value.id } end,\n"
    "}\n"
    "cache.rule \"s:{id}\" {\n"
    "  ttl = function(key, m, value) return #value end,\n"
    "  tags = function(key, m, value) if value ~= 'none' then return { value } end end,\n"
    "}\n";

START_TEST(ttl_tags_and_related_see_the_loaded_value) {
    load_good(shapers, 0);
    ck_assert_int_eq(fake_load_key(&cache, 3, "p:42", &load), PLN_OK);
    ck_assert(load.has_ttl && load.ttl_ms == 3600000);
    ck_assert_str_eq(load.tags, "brand:acme,42,7,");
    ck_assert_str_eq(load.related, "price:42,");
}
END_TEST

START_TEST(a_ttl_of_nothing_or_less_means_that_a_value_is_not_stored) {
    static const char *const nothings[] = {"0", "-1", "-0.5", "'0s'", "-math.huge"};
    for (size_t i = 0; i < PLN_ARRAY_LEN(nothings); i++) {
        char source[200];
        snprintf(source, sizeof source,
                 "cache.rule \"x\" { load = function() return 'v' end,\n"
                 "  ttl = function(key, m, value) return value == 'v' and %s or '1h' end }",
                 nothings[i]);
        load_good(source, 0);
        expect_value("x", "v");
        ck_assert(load.has_ttl && load.ttl_ms < 0);
        ck_assert_int_eq(fake_shape_key(&cache, "x", pln_key("v"), 0, &load), PLN_OK);
        ck_assert(load.has_ttl && load.ttl_ms < 0);
        ck_assert_int_eq(fake_shape_key(&cache, "x", pln_key("w"), 0, &load), PLN_OK);
        ck_assert(load.has_ttl && load.ttl_ms == 3600000);
    }
    ck_assert_int_eq(cache.n_failures, 0);
}
END_TEST

START_TEST(a_value_that_was_set_is_shaped_too) {
    load_good(shapers, 0);
    ck_assert_int_eq(fake_shape_key(&cache, "s:1", pln_key("hello"), 0, &load), PLN_OK);
    ck_assert(load.has_ttl && load.ttl_ms == 5000);
    ck_assert_str_eq(load.tags, "hello,");
    ck_assert_int_eq(fake_shape_key(&cache, "s:1", pln_key("none"), 0, &load), PLN_OK);
    ck_assert_uint_eq(load.n_tags, 0);
    ck_assert_int_eq(cache.n_failures, 0);
    /* damaged bytes, and a format of the host's own: told, and no harm */
    ck_assert_int_eq(fake_shape_key(&cache, "s:1", pln_key("\xc1"), 1, &load), PLN_OK);
    ck_assert_int_eq(fake_shape_key(&cache, "s:1", pln_key("x"), 9, &load), PLN_OK);
    ck_assert_int_eq(cache.n_failures, 4);
    ck_assert(!load.has_ttl);
}
END_TEST

/* What a function may return wrongly, and what is said of it. */
static const struct {
    const char *field, *result, *said;
} strange[] = {
    {"ttl", "{}", "a duration such as \"15m\", seconds or nil is wanted, got a table"},
    {"ttl", "0/0", "a duration such as \"15m\", seconds or nil is wanted, got nan"},
    {"ttl", "'4000d'", "a duration such as \"15m\", seconds or nil is wanted, got '4000d'"},
    {"ttl", "math.huge", "a duration such as \"15m\", seconds or nil is wanted, got inf"},
    {"tags", "'a'", "a list of texts or nil is wanted, got 'a'"},
    {"tags", "{ 'good', true }", "[2]: a text of 1 to 250 bytes is wanted, got true"},
    {"tags", "{ '' }", "[1]: a text of 1 to 250 bytes is wanted, got ''"},
    {"tags", "{ ('x'):rep(251) }",
     "[1]: a text of 1 to 250 bytes is wanted, got "
     "'xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx...'"},
    {"tags",
     "{ table.unpack((function() local t = {} for i = 1, 65 do t[i] = i end return t end)()) }",
     "at most 64 are allowed, got 65"},
    {"tags",
     "setmetatable({}, { __len = function() return 3 end, __index = error }) and error('x', 0)",
     "x"},
    {"related", "{ ('x'):rep(4097) }",
     "[1]: a text of 1 to 4096 bytes is wanted, got "
     "'xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx...'"},
};

START_TEST(a_strange_result_leaves_the_rules_values_in_place) {
    for (size_t i = 0; i < PLN_ARRAY_LEN(strange); i++) {
        char source[300], said[400];
        snprintf(source, sizeof source, "cache.rule \"x\" { %s = function() return %s end }",
                 strange[i].field, strange[i].result);
        load_good(source, 0);
        ck_assert_int_eq(fake_shape_key(&cache, "x", pln_key("v"), 0, &load), PLN_OK);
        ck_assert(!load.has_ttl && load.n_tags == 0 && load.n_related == 0);
        ck_assert_int_eq(cache.n_failures, (int) i + 1);
        snprintf(said, sizeof said,
                 "perilune test: policy.lua:1: rule 'x': %s: %s (the rule's own terms hold)",
                 strange[i].field, strange[i].said);
        ck_assert_str_eq(cache.last_log, said);
        ck_assert_int_eq(cache.last_level, PLN_LOG_WARN);
    }
}
END_TEST

START_TEST(failures_are_counted_each_time_and_logged_once_a_second) {
    load_good("cache.rule \"x\" { ttl = function() error('t') end,\n"
              "                 tags = function() error('g') end }",
              0);
    for (int i = 0; i < 3; i++) {
        fake_shape_key(&cache, "x", pln_key("v"), 0, &load);
    }
    ck_assert_int_eq(cache.n_failures, 6);
    ck_assert_int_eq(cache.n_logs, 2);
    cache.now += 999;
    fake_shape_key(&cache, "x", pln_key("v"), 0, &load);
    ck_assert_int_eq(cache.n_logs, 2);
    cache.now += 1;
    fake_shape_key(&cache, "x", pln_key("v"), 0, &load);
    ck_assert_int_eq(cache.n_logs, 4);
}
END_TEST

START_TEST(captures_are_this_keys_and_cannot_be_changed) {
    load_good(
        "local kept\n"
        "cache.rule \"a:{x}:{y}\" { load = function(key, m) kept = m return m.x .. m.y end }\n"
        "cache.rule \"b:{z}\" { load = function(key, m)\n"
        "  assert(m == kept and m.x == nil and m.y == nil)\n"
        "  assert(not pcall(function() m.z = 'other' end))\n"
        "  assert(not pcall(rawset, m, 'z', 'other'))\n"
        "  assert(getmetatable(m) == false)\n"
        "  return m.z end }\n",
        0);
    expect_value("a:1:2", "12");
    expect_value("b:3", "3");
}
END_TEST

START_TEST(each_worker_has_a_state_and_all_run_the_checked_text) {
    load_good("local n = 0\n"
              "cache.rule \"x\" { load = function() n = n + 1 return tostring(n) end }",
              0);
    expect_value("x", "1");
    expect_value("x", "2");
    fake_write(&cache, "edited", 6); /* after the check: does not matter */
    ck_assert_int_eq(fake_load_key(&cache, 1, "x", &load), PLN_OK);
    ck_assert(pln_bytes_equal(load.value, pln_key("1")));
}
END_TEST

START_TEST(a_file_that_reads_differently_each_time_is_refused) {
    static const char *const statements[] = {
        "cache.rule('x' .. tostring({}):gsub('%W', '')) {}",
        "if is_first then cache.alert 'memory' { above = 0.5 } end",
        "cache.alert(is_first and 'hit-ratio' or 'l1-hit-ratio') { below = 0.5 }",
        "cache.alert 'memory' { above = 0.5, call = is_first and print or nil }",
        "if is_first then cache.warm { keys { 'a' } } end",
        "cache.warm { keys(is_first and print or { 'a' }) }",
    };
    for (size_t i = 0; i < PLN_ARRAY_LEN(statements); i++) {
        char text[400], marker[80];
        snprintf(marker, sizeof marker, "%s/read", cache.folder);
        snprintf(text, sizeof text,
                 "local file = io.open('%s')\n"
                 "is_first = not file\n"
                 "file = file or io.open('%s', 'w') file:close()\n"
                 "%s\n"
                 "cache.rule 'key' { load = function() return 'v' end }",
                 marker, marker, statements[i]);
        int status = fake_load_text(&cache, text, PLN_POLICY_TRUSTED);
        unlink(marker);
        ck_assert_msg(status == PLN_EPOLICY, "%s", statements[i]);
        ck_assert_str_eq(pln_error_text(),
                         "policy.lua: it states other rules each time it is read");
        ck_assert_int_eq(cache.n_refused, (int) i + 1);
    }
}
END_TEST

START_TEST(statements_in_functions_are_refused) {
    load_good("cache.rule \"x\" { load = function() cache.rule \"y\" {} end }", 0);
    ck_assert_int_eq(fake_load_key(&cache, 0, "x", &load), PLN_ELOADER);
    ck_assert_str_eq(pln_error_text(),
                     "policy.lua:1: rule 'x': load: policy.lua:1: a statement of the policy stands "
                     "in a function that is called later; statements count only while the file is "
                     "read");
}
END_TEST

START_TEST(print_and_log_go_to_the_caches_log_once) {
    load_good("print('reading', 1, nil)\n"
              "cache.rule \"x\" { load = function(key)\n"
              "  log.warn('%s has %d', key, 3)\n"
              "  log.error('plain 100%')\n"
              "  return 'v' end }",
              0);
    ck_assert_int_eq(cache.n_logs, 1); /* not again when workers read the file */
    ck_assert_str_eq(cache.last_log, "perilune test: policy.lua: reading 1 nil");
    ck_assert_int_eq(cache.last_level, PLN_LOG_INFO);
    expect_value("x", "v");
    ck_assert_int_eq(cache.n_logs, 3);
    ck_assert_str_eq(cache.last_log, "perilune test: policy.lua: plain 100%");
    ck_assert_int_eq(cache.last_level, PLN_LOG_ERROR);
}
END_TEST

START_TEST(a_trusted_policy_has_all_of_lua) {
    const char trusted[] = "local str = require 'string'\n"
                           "assert(io.open and os.getenv and debug.traceback and coroutine.wrap)\n"
                           "local f = load('return 1 + 1')\n"
                           "cache.rule \"x\" { load = function(key, m)\n"
                           "  return str.rep(key, f()) end }\n"
                           "cache.rule \"f:{path}\" { load = function(key, m)\n"
                           "  local file, err = io.open(m.path)\n"
                           "  if not file then return nil, err end\n"
                           "  return file:read 'a' end }\n";
    ck_assert_int_eq(fake_load_text(&cache, trusted, 0), PLN_EPOLICY);
    load_good(trusted, PLN_POLICY_TRUSTED);
    expect_value("x", "xx");
    ck_assert_int_eq(fake_load_key(&cache, 0, "f:/nowhere", &load), PLN_ELOADER);
    ck_assert_str_eq(pln_error_text(), "policy.lua:6: rule 'f:{path}': load: /nowhere: No such "
                                       "file or directory");
}
END_TEST

START_TEST(what_a_trusted_policy_makes_from_a_text_has_the_place_of_its_load) {
    static const char *const texts[][2] = {
        {"\nload('\\n\\ncache.rule \\'x\\' { tll = 1 }')()", "policy.lua:2: "},
        {"\nload('\\ncache.rule \\'x\\' { tll = 1 }', '=made')()", "made:2: "},
        {"\nreturn load('cache.rule \\'x\\' { tll = 1 }')()", "policy.lua:0: "},
    };
    for (size_t i = 0; i < PLN_ARRAY_LEN(texts); i++) {
        char text[100];
        ck_assert_int_eq(fake_load_text(&cache, texts[i][0], PLN_POLICY_TRUSTED), PLN_EPOLICY);
        snprintf(text, sizeof text, "%srule 'x': unknown field 'tll', did you mean 'ttl'?",
                 texts[i][1]);
        ck_assert_str_eq(pln_error_text(), text);
    }
}
END_TEST

static void *load_often(void *arg) {
    unsigned worker = *(unsigned *) arg;
    struct pln_load mine = {.n_tags = 0};
    size_t n_good = 0;
    for (int i = 0; i < 200; i++) {
        char key[32];
        snprintf(key, sizeof key, "p:%u", worker * 1000 + (unsigned) i);
        n_good += fake_load_key(&cache, worker, key, &mine) == PLN_OK && mine.n_tags == 3;
    }
    fake_empty(&mine);
    return (void *) n_good;
}

START_TEST(workers_run_at_the_same_time) {
    pthread_t threads[FAKE_WORKERS];
    unsigned workers[FAKE_WORKERS];
    load_good(shapers, 0);
    for (unsigned i = 0; i < FAKE_WORKERS; i++) {
        workers[i] = i;
        pthread_create(&threads[i], NULL, load_often, &workers[i]);
    }
    for (unsigned i = 0; i < FAKE_WORKERS; i++) {
        void *n_good;
        pthread_join(threads[i], &n_good);
        ck_assert_uint_eq((size_t) n_good, 200);
    }
}
END_TEST

int main(void) {
    Suite *suite = suite_create("policy_hooks");
    TCase *tests = tcase_create("policy_hooks");
    suite_add_tcase(suite, tests);
    tcase_set_timeout(tests, 60);
    tcase_add_checked_fixture(tests, setup, teardown);
    tcase_add_test(tests, load_answers_with_a_value_absence_or_an_error);
    tcase_add_test(tests, a_failing_load_names_file_line_and_rule);
    tcase_add_test(tests, a_third_result_is_the_ttl);
    tcase_add_test(tests, load_sees_the_old_value_and_may_say_that_it_is_not_modified);
    tcase_add_test(tests, ttl_tags_and_related_see_the_loaded_value);
    tcase_add_test(tests, a_ttl_of_nothing_or_less_means_that_a_value_is_not_stored);
    tcase_add_test(tests, a_value_that_was_set_is_shaped_too);
    tcase_add_test(tests, a_strange_result_leaves_the_rules_values_in_place);
    tcase_add_test(tests, failures_are_counted_each_time_and_logged_once_a_second);
    tcase_add_test(tests, captures_are_this_keys_and_cannot_be_changed);
    tcase_add_test(tests, each_worker_has_a_state_and_all_run_the_checked_text);
    tcase_add_test(tests, a_file_that_reads_differently_each_time_is_refused);
    tcase_add_test(tests, statements_in_functions_are_refused);
    tcase_add_test(tests, print_and_log_go_to_the_caches_log_once);
    tcase_add_test(tests, a_trusted_policy_has_all_of_lua);
    tcase_add_test(tests, what_a_trusted_policy_makes_from_a_text_has_the_place_of_its_load);
    tcase_add_test(tests, workers_run_at_the_same_time);
    SRunner *runner = srunner_create(suite);
    srunner_run_all(runner, CK_ENV);
    int failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed == 0 ? 0 : 1;
}
