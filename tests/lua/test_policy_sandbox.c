/* SPDX-License-Identifier: MIT
 * test_policy_sandbox.c - lua/sandbox.c and lua/state.c: what a policy cannot do. Each attack ends
 * in a refusal with a text, and the cache goes on with the policy it had. */
#include <check.h>
#include <stdio.h>

#include "../../lua/internal.h"
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

static void load_good(const char *text) {
    ck_assert_msg(fake_load_text(&cache, text, 0) == PLN_OK, "%s", pln_error_text());
}

START_TEST(what_reaches_outside_is_not_there) {
    static const char *const names[] = {
        "io",          "package",        "require",   "debug",       "load",         "loadfile",
        "dofile",      "collectgarbage", "coroutine", "string.dump", "os.execute",   "os.getenv",
        "os.exit",     "os.remove",      "os.rename", "os.tmpname",  "os.setlocale", "_G.io",
        "_G._G.debug", "warn",           "('x').dump"};
    for (size_t i = 0; i < PLN_ARRAY_LEN(names); i++) {
        char source[200];
        snprintf(source, sizeof source,
                 "if %s ~= nil then error('it is there') end\n"
                 "cache.rule \"*\" {}",
                 names[i]);
        ck_assert_msg(fake_load_text(&cache, source, 0) == PLN_OK, "%s: %s", names[i],
                      pln_error_text());
    }
}
END_TEST

START_TEST(what_is_harmless_is_there) {
    load_good(
        "assert(os.time() > 0 and os.clock() >= 0 and os.date('%Y'))\n"
        "assert(('x'):rep(3, ',') == 'x,x,x' and ('%d'):format(7) == '7')\n"
        "assert(table.concat({1, 2}, '-') == '1-2' and #table.move({1, 2}, 1, 2, 3) == 4)\n"
        "local t = table.pack(3, 1, 2) table.sort(t) assert(t[1] == 1 and t.n == 3)\n"
        "table.insert(t, 9) assert(table.remove(t) == 9 and select('#', table.unpack(t)) == 3)\n"
        "assert(utf8.len('\\u{e9}') == 1 and math.type(3) == 'integer')\n"
        "local m = setmetatable({}, { __index = function() return 5 end })\n"
        "assert(m.x == 5 and getmetatable(m).__index)\n"
        "assert(setmetatable({}, nil))\n"
        "local ok, err = pcall(error, { code = 3 }) assert(not ok and err.code == 3)\n"
        "assert(select('#', pcall(function() return nil, nil end)) == 3)\n"
        "assert(select(3, xpcall(function(a, b) return a, b end, print, 1, 2)) == 2)\n"
        "local h = { xpcall(error, function(e) return e .. '!', 2 end, 'no', 0) }\n"
        "assert(h[1] == false and h[2] == 'no!')\n"
        "limit = 3 limit = limit + 1 assert(_G.limit == 4 and _G['limit'] == 4)\n"
        "local n = 0 for k, v in pairs(string) do n = n + (string[k] == v and 1 or 0) end\n"
        "assert(n == 16, n)\n"
        "for k in pairs(_G) do n = n + 1 end assert(n > 40)\n"
        "assert(string.byte == ('').byte and tostring(os):find '^os: ')\n"
        "cache.rule \"*\" {}");
}
END_TEST

/* Attacks on the reading of a file, and what is said; "" where only the refusal counts. */
static const struct {
    const char *source, *text;
} attacks[] = {
    {"\nwhile true do end", "policy.lua:2: stopped: it ran longer than 1 s"},
    {"while true do pcall(function() while true do end end) end",
     "policy.lua:1: stopped: it ran longer than 1 s"},
    {"while true do xpcall(function() while true do end end, function() while true do end end) end",
     "policy.lua:1: stopped: it ran longer than 1 s"},
    {"local function f() local x <close> = setmetatable({}, { __close = function()\n"
     "while true do end end }) while true do end end while true do pcall(f) end",
     "policy.lua:2: stopped: it ran longer than 1 s"},
    {"error(setmetatable({}, { __tostring = function() while true do end end }))",
     "policy.lua:1: stopped: it ran longer than 1 s"},
    {"local t = {} while true do t[#t + 1] = ('x'):rep(1000):rep(1000) .. #t end",
     "policy.lua: out of memory (64 MB are allowed)"},
    {"local s = 'x' while true do s = s .. s end", "policy.lua: out of memory (64 MB are allowed)"},
    {"local t = {} while true do pcall(function() while true do\n"
     "t[#t + 1] = ('x'):rep(1000):rep(1000) .. #t end end) end",
     "policy.lua: out of memory (64 MB are allowed)"},
    {"string.pack('c1000000000', '')", "policy.lua:1: string.pack: the result would be over 16 MB"},
    {"setmetatable({}, { __gc = function() while true do end end })",
     "policy.lua:1: setmetatable: a policy may not use __gc"},
    {"setmetatable({}, { __gc = false })", "policy.lua:1: setmetatable: a policy may not use __gc"},
    {"setmetatable({}, { __metatable = 1 })",
     "policy.lua:1: setmetatable: a policy may not use __metatable"},
    {"string.rep('', 1 << 62)", "policy.lua:1: string.rep: the result would be over 16 MB"},
    {"('x'):rep(1 << 40)", "policy.lua:1: string.rep: the result would be over 16 MB"},
    {"('x'):rep(3, ('y'):rep(9000000))",
     "policy.lua:1: string.rep: the result would be over 16 MB"},
    {"table.move({}, 1, 1 << 53, 2, {})", "policy.lua:1: stopped: it ran longer than 1 s"},
    {"table.move({}, math.mininteger, math.maxinteger, 2)",
     "policy.lua:1: bad argument #3 to 'move' (too many elements to move)"},
    {"table.concat(setmetatable({}, { __len = function() return 1 << 53 end }))",
     "policy.lua:1: bad argument #1 to 'concat' (a table without a metatable is wanted)"},
    {"table.insert(setmetatable({}, { __len = function() return 1 << 53 end }), 1, 1)",
     "policy.lua:1: bad argument #1 to 'insert' (a table without a metatable is wanted)"},
    {"assert(getmetatable('') ~= false)", "policy.lua:1: assertion failed!"},
    {"getmetatable('').__index = nil", "policy.lua:1: attempt to index a boolean value"},
    {"setmetatable(cache, nil)",
     "policy.lua:1: bad argument #1 to 'setmetatable' (table expected, got cache)"},
    {"\ntable.insert({}, 1, 2, 3)", "policy.lua:2: wrong number of arguments to 'insert'"},
    {"\x1bLua", ""}, /* bytecode, or what pretends to be */
    {"local function f() return f() + 1 end f()", ""},
    {"local function f() return pcall(f) end f() error('ended')", "policy.lua:1: ended"},
    {"local t = {} for i = 1, 300 do t = setmetatable({}, { __index = t }) end return t.x + 1", ""},
    {"string.gsub(('x'):rep(100), '.', function() error('out', 0) end)", "out"},
    {"cache.class = nil cache.rule = nil cache.rule 'x' {}",
     "policy.lua:1: cache.class cannot be set: cache is read-only"},
    {"string.rep = nil", "policy.lua:1: string.rep cannot be set: string is read-only"},
    {"local sql = require 'perilune.sql'",
     "policy.lua:1: attempt to call a nil value (global 'require'): only trusted policies have it "
     "(--trusted, or trusted = true)"},
    {"\nlocal file = io.open 'x'",
     "policy.lua:2: attempt to index a nil value (global 'io'): only trusted policies have it "
     "(--trusted, or trusted = true)"},
    {"iO.open 'x'", "policy.lua:1: attempt to index a nil value (global 'iO')"},
    {"local f, s = pairs(string) s.rep = nil",
     "policy.lua:1: attempt to index a nil value (local 's')"},
};

START_TEST(attacks_end_and_change_nothing) {
    load_good("cache.rule \"*\" { ttl = 7 }");
    for (size_t i = 0; i < PLN_ARRAY_LEN(attacks); i++) {
        if (LUA_VERSION_NUM < 504 && strstr(attacks[i].source, "<close>") != NULL) {
            continue;
        }
        int status = fake_load_text(&cache, attacks[i].source, 0);
        ck_assert_msg(status == PLN_EPOLICY, "%s gave %d", attacks[i].source, status);
        ck_assert_msg(attacks[i].text[0] == 0 || strcmp(pln_error_text(), attacks[i].text) == 0,
                      "%s\n got: %s\nnot: %s", attacks[i].source, pln_error_text(),
                      attacks[i].text);
        ck_assert_uint_le(strlen(pln_error_text()), PLN_ERROR_TEXT);
    }
    ck_assert_int_eq(cache.ruleset->rules[0].terms.ttl_ms, 7000);
}
END_TEST

START_TEST(a_function_out_of_time_or_memory_leaves_a_working_policy) {
    load_good("local kept\n"
              "cache.rule \"loop\" { ttl = function() while true do pcall(error) end end }\n"
              "cache.rule \"eat\" { load = function()\n"
              "  kept = kept or {}\n"
              "  while true do kept[#kept + 1] = ('x'):rep(1000):rep(1000) .. #kept end end }\n"
              "cache.rule \"fine\" { load = function() return kept and 'dirty' or 'clean' end }");
    ck_assert_int_eq(fake_shape_key(&cache, "loop", pln_key("v"), 0, &load), PLN_OK);
    ck_assert_int_eq(cache.n_failures, 1);
    ck_assert_str_eq(cache.last_log,
                     "perilune test: policy.lua:2: rule 'loop': ttl: policy.lua:2: stopped: it ran "
                     "longer than 5 ms (the rule's own terms hold)");
    ck_assert_int_eq(fake_load_key(&cache, 0, "eat", &load), PLN_ELOADER);
    ck_assert_str_eq(pln_error_text(), "policy.lua:3: rule 'eat': load: policy.lua: out of memory "
                                       "(64 MB are allowed)");
    ck_assert_int_eq(fake_load_key(&cache, 0, "fine", &load), PLN_OK);
    ck_assert(pln_bytes_equal(load.value, pln_key("clean"))); /* in a fresh state */
}
END_TEST

/* One text in Lua that C would keep a copy of for each place where it stands. */
START_TEST(what_a_policy_states_takes_no_more_memory_than_its_state) {
    static const char *const texts[][2] = {
        {"local k, t = ('x'):rep(4096), {} for i = 1, 20000 do t[i] = k end\n"
         "cache.warm { keys(t) }",
         "warm"},
        {"local k, t = ('x'):rep(1 << 20), {} for i = 1, 64 do t[i] = k end\n"
         "cache.test 'x' { tags = t }",
         "test 'x'"},
        /* the first 60 MB by what is quick to state, for there is a second for all of it */
        {"local k, t = ('x'):rep(4096), {} for i = 1, 15500 do t[i] = k end cache.warm { keys(t) }\n"
         "k, t = ('x'):rep(250), {} for i = 1, 64 do t[i] = k end\n"
         "for i = 1, 9999 do cache.on('e' .. i) { tags = t, keys = t } end",
         NULL},
    };
    for (size_t i = 0; i < PLN_ARRAY_LEN(texts); i++) {
        char text[200];
        ck_assert_int_eq(fake_load_text(&cache, texts[i][0], 0), PLN_EPOLICY);
        snprintf(text, sizeof text, "policy.lua:2: %s: what the policy states takes over 64 MB",
                 texts[i][1]);
        ck_assert_msg(texts[i][1] == NULL ? strstr(pln_error_text(), "takes over 64 MB") != NULL
                                          : strcmp(pln_error_text(), text) == 0,
                      "%zu: %s", i, pln_error_text());
        ck_assert_int_eq(fake_load_text(&cache, "cache.rule 'x' {}", 0), PLN_OK);
    }
}
END_TEST

START_TEST(a_huge_error_is_cut_and_its_bytes_escaped) {
    ck_assert_int_eq(fake_load_text(&cache, "error('a\\r\\n\\0b' .. ('x'):rep(10000000), 0)", 0),
                     PLN_EPOLICY);
    ck_assert_uint_eq(strlen(pln_error_text()), 400);
    ck_assert_int_eq(strncmp(pln_error_text(), "a\\013\\n\\000bxxx", 14), 0);
}
END_TEST

int main(void) {
    Suite *suite = suite_create("policy_sandbox");
    TCase *tests = tcase_create("policy_sandbox");
    suite_add_tcase(suite, tests);
    tcase_set_timeout(tests, 120);
    tcase_add_checked_fixture(tests, setup, teardown);
    tcase_add_test(tests, what_reaches_outside_is_not_there);
    tcase_add_test(tests, what_is_harmless_is_there);
    tcase_add_test(tests, attacks_end_and_change_nothing);
    tcase_add_test(tests, a_function_out_of_time_or_memory_leaves_a_working_policy);
    tcase_add_test(tests, what_a_policy_states_takes_no_more_memory_than_its_state);
    tcase_add_test(tests, a_huge_error_is_cut_and_its_bytes_escaped);
    SRunner *runner = srunner_create(suite);
    srunner_run_all(runner, CK_ENV);
    int failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed == 0 ? 0 : 1;
}
