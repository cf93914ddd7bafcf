/* SPDX-License-Identifier: MIT
 * test_policy_patterns.c - lua/pattern.c, safe_strings.c and safe_tables.c: what policies have in
 * the place of the library's functions answers as these do. Patterns, texts and tables are made at
 * random from a seed; results and errors must be the same, to the byte. */
#include <check.h>
#include <lualib.h>
#include <stdio.h>

#include "../../lua/script.h"

enum { BUDGET_MS = 300000 };

static pln_ms no_time(void *arg) {
    (void) arg;
    return 0;
}

static void no_log(void *arg, int level, const char *line) {
    (void) arg;
    (void) level;
    (void) line;
}

static const struct pln_host host = {no_time, NULL, no_log, NULL, "test"};

/* Called with the library's tables `string` and `table`, a seed and a number of rounds. */
static const char comparing[] =
    "local strings, tables, seed, rounds = ...\n"
    "if math.randomseed then math.randomseed(seed) end\n"
    "local random, is_older = math.random, _VERSION == 'Lua 5.3' -- gmatch begins at 1 there\n"
    "local pieces = { 'a', 'b', 'c', '.', '%a', '%d', '%w', '%s', '%p', '%A', '%W', '%z', '%.',\n"
    "  '%(', '[ab]', '[^a]', '[a-c]', '[%a-]', '[]a]', '[^]]', '[b-]', '[%]]', '[a%-c]', '%bab',\n"
    "  '%b()', '%f[a]', '%f[%W]', '%f[^b]', '(', ')', '()', '(a)', '(.-)', '(%a*)', '%1', '%2',\n"
    "  '%0', '^', '$', '*', '+', '-', '?', '*', '+', '-', '?', '%', '[', ']', '[^', '%b', '%f',\n"
    "  '\\0', '\\xff', '%u', '%x', '%g', '%c', '%l' }\n"
    "local letters = { 'a', 'b', 'c', 'a', 'b', 'A', '(', ')', ' ', '1', '\\0', '\\n', '-', ']',\n"
    "  '%', '\\xff' }\n"
    "local news = { 'x', '%0', '%1', '%2', '%%', '%', '<', '%9', '%x', '' }\n"
    "local function text(from, longest)\n"
    "  local list = {}\n"
    "  for i = 1, random(0, longest) do list[i] = from[random(#from)] end\n"
    "  return tables.concat(list)\n"
    "end\n"
    "local function place() return random(4) > 1 and random(-14, 14) or nil end\n"
    "local function shown(list)\n"
    "  local out = {}\n"
    "  for i = 1, list.n do out[i] = strings.format('%q', list[i]) end\n"
    "  return tables.concat(out, ', ')\n"
    "end\n"
    "local function compare(name, mine, theirs, ...)\n"
    "  local a, b = tables.pack(pcall(mine, ...)), tables.pack(pcall(theirs, ...))\n"
    "  if not a[1] and not b[1] then -- a function's name is not the matter\n"
    "    a[2], b[2] = strings.gsub(a[2], \"to '.-' \", ''), strings.gsub(b[2], \"to '.-' \", '')\n"
    "  end\n"
    "  local same = a.n == b.n\n"
    "  for i = 1, a.n do same = same and rawequal(a[i], b[i]) end\n"
    "  if not same then\n"
    "    local with = tables.pack(...)\n"
    "    for i = 1, with.n do\n"
    "      if type(with[i]) == 'function' or type(with[i]) == 'table' then with[i] = type(with[i]) end\n"
    "    end\n"
    "    error(name .. '(' .. shown(with) .. ') gave ' .. shown(a) .. ', not ' .. shown(b), 0)\n"
    "  end\n"
    "  return a[1]\n"
    "end\n"
    "local function each(gmatch)\n"
    "  return function(...)\n"
    "    local all = {}\n"
    "    for a, b, c in gmatch(...) do\n"
    "      all[#all + 1] = tostring(a) .. ',' .. tostring(b) .. ',' .. tostring(c)\n"
    "    end\n"
    "    return tables.concat(all, ';')\n"
    "  end\n"
    "end\n"
    "local by = { a = 'A', b = false, c = 7, [1] = 'one', ab = 'AB' }\n"
    "local function call(a, b) if a == 'b' then return nil end return b or tostring(a) .. '!' end\n"
    "local n_good, n_found = 0, 0\n"
    "for i = 1, rounds do\n"
    "  local s, p = text(letters, 12), text(pieces, 6)\n"
    "  if random(10) == 1 then s = s .. ('a'):rep(random(300)) end\n"
    "  local good = compare('find', string.find, strings.find, s, p, place(), random(5) == 1)\n"
    "  n_good = n_good + (good and 1 or 0)\n"
    "  n_found = n_found + (pcall(strings.find, s, p) and strings.find(s, p) and 1 or 0)\n"
    "  compare('match', string.match, strings.match, s, p, place())\n"
    "  local from = not is_older and place() or nil\n"
    "  compare('gmatch', each(string.gmatch), each(strings.gmatch), s, p, from)\n"
    "  compare('gsub', string.gsub, strings.gsub, s, p, text(news, 3), random(3) == 1 and 2 or nil)\n"
    "  compare('gsub', string.gsub, strings.gsub, s, p, by)\n"
    "  compare('gsub', string.gsub, strings.gsub, s, p, call)\n"
    "  compare('gsub', string.gsub, strings.gsub, s, p, function() return {} end, random(-1, 1))\n"
    "  compare('rep', string.rep, strings.rep, s, random(-1, 9), random(2) == 1 and p or nil)\n"
    "  compare('format', string.format, strings.format, '%s|%d|%q|%5.1f', s, i, p, i / 3)\n"
    "  local packed = strings.pack('s4zi3', s, 'z', i)\n"
    "  compare('pack', string.pack, strings.pack, 's1zi3', s, 'z', i)\n"
    "  compare('pack', string.pack, strings.pack, 'c' .. random(0, 40), s)\n"
    "  compare('unpack', string.unpack, strings.unpack, 's4zi3', packed)\n"
    "end\n"
    "assert(n_good > rounds / 4 and n_found > rounds / 10, 'too few patterns are good ones')\n"
    "local function list()\n"
    "  local t = {}\n"
    "  for i = 1, random(0, 12) do t[i] = random(4) == 1 and text(letters, 3) or random(9) end\n"
    "  return t\n"
    "end\n"
    "local function after(f)\n"
    "  return function(t, ...)\n"
    "    local copy = tables.move(t, 1, #t, 1, {})\n"
    "    local result = f(copy, ...)\n"
    "    return shown { n = #copy, tables.unpack(copy) }, result ~= copy and result or 'itself'\n"
    "  end\n"
    "end\n"
    "local function is_more(a, b) return tostring(a) > tostring(b) end\n"
    "for _ = 1, rounds do\n"
    "  local t, from, to = list(), random(-2, 14), random(-2, 14)\n"
    "  compare('concat', table.concat, tables.concat, t, text(letters, 2))\n"
    "  compare('concat', table.concat, tables.concat, t, ',', from, to)\n"
    "  local largest = is_older and 2 or math.maxinteger -- 5.3 cuts it in its message\n"
    "  compare('concat', table.concat, tables.concat, t, ',', largest, largest)\n"
    "  compare('unpack', table.unpack, tables.unpack, t, from, to)\n"
    "  compare('move', after(table.move), after(tables.move), t, from, to, random(-2, 14))\n"
    "  local to_itself = random(-2, 14)\n"
    "  local function move_to_itself(move)\n"
    "    return after(function(copy, ...) return move(copy, from, to, to_itself, copy) end)\n"
    "  end\n"
    "  compare('move', move_to_itself(table.move), move_to_itself(tables.move), t)\n"
    "  compare('insert', after(table.insert), after(tables.insert), t, from)\n"
    "  compare('remove', after(table.remove), after(tables.remove), t)\n"
    "  compare('sort', after(table.sort), after(tables.sort), t)\n"
    "  compare('sort', after(table.sort), after(tables.sort), t, is_more)\n"
    "  compare('sort', after(table.sort), after(tables.sort), t, rawequal)\n"
    "end\n";

struct job {
    lua_Integer seed, rounds;
};

static int compare_all(lua_State *L) {
    const struct job *job = lua_touserdata(L, 1);
    if (luaL_loadbufferx(L, comparing, strlen(comparing), "=comparing", "t") != LUA_OK) {
        return lua_error(L);
    }
    luaL_requiref(L, "original strings", luaopen_string, 0);
    luaL_requiref(L, "original tables", luaopen_table, 0);
    lua_pushinteger(L, job->seed);
    srandom((unsigned) job->seed); /* where the numbers of Lua are those of libc */
    lua_pushinteger(L, job->rounds);
    lua_call(L, 4, 0);
    return 0;
}

START_TEST(what_policies_call_answers_as_the_library_does) {
    const char *seed = getenv("PLN_SEED");
    struct job job = {seed == NULL ? 20261 + _i : atoll(seed), 6000};
    char name[] = "policy.lua";
    const struct pln_source_text source = {.file = name};
    struct pln_script *script;
    ck_assert_int_eq(pln_script_new(&source, &host, &script), PLN_OK);
    int status = pln_script_call(script, compare_all, &job, BUDGET_MS);
    ck_assert_msg(status == PLN_OK, "PLN_SEED=%lld: %s", (long long) job.seed, script->error);
    pln_script_free(script);
}
END_TEST

int main(void) {
    Suite *suite = suite_create("policy_patterns");
    TCase *tests = tcase_create("policy_patterns");
    suite_add_tcase(suite, tests);
    tcase_set_timeout(tests, 300);
    tcase_add_loop_test(tests, what_policies_call_answers_as_the_library_does, 0, 4);
    SRunner *runner = srunner_create(suite);
    srunner_run_all(runner, CK_ENV);
    int failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed == 0 ? 0 : 1;
}
