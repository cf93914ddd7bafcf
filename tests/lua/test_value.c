/* SPDX-License-Identifier: MIT
 * test_value.c - lua/value.c: values to bytes and back, damaged bytes, units. */
#include <check.h>
#include <lualib.h>

#include "../../lua/internal.h"

static lua_State *L;

static void open_state(void) {
    L = luaL_newstate();
    luaL_openlibs(L);
}

static void close_state(void) {
    lua_close(L);
}

static void push_result_of(const char *source) {
    ck_assert_msg(luaL_dostring(L, source) == LUA_OK, "%s", lua_tostring(L, -1));
}

/* Encodes what the source returns and decodes that again: the copy is left on the stack. */
static void push_copy_of(const char *source) {
    struct pln_bytes bytes;
    uint8_t format;
    push_result_of(source);
    ck_assert_msg(pln_lua_encode(L, -1, &bytes, &format) == PLN_OK, "%s", pln_error_text());
    ck_assert_int_eq(pln_lua_decode(L, bytes, format), PLN_OK);
    lua_remove(L, -2);
    lua_remove(L, -2);
}

START_TEST(a_string_is_its_own_bytes) {
    struct pln_bytes bytes;
    uint8_t format = 9;
    lua_pushlstring(L, "a\0b", 3);
    ck_assert_int_eq(pln_lua_encode(L, 1, &bytes, &format), PLN_OK);
    ck_assert_uint_eq(format, PLN_LUA_RAW);
    ck_assert(pln_bytes_equal(bytes, pln_bytes_of("a\0b", 3)));
    ck_assert_int_eq(lua_gettop(L), 2);
    ck_assert_int_eq(pln_lua_decode(L, pln_bytes_of(NULL, 0), PLN_LUA_RAW), PLN_OK);
    ck_assert_str_eq(lua_tostring(L, -1), "");
}
END_TEST

START_TEST(numbers_keep_their_kind_and_value) {
    static const char *const numbers[] = {"0",
                                          "127",
                                          "128",
                                          "-1",
                                          "-32",
                                          "-33",
                                          "-129",
                                          "255",
                                          "256",
                                          "65535",
                                          "65536",
                                          "-32769",
                                          "2^31|0",
                                          "-2147483649",
                                          "math.maxinteger",
                                          "math.mininteger",
                                          "1.0",
                                          "-0.5",
                                          "1e300",
                                          "math.huge",
                                          "2^53",
                                          "true",
                                          "false",
                                          "nil"};
    for (size_t i = 0; i < PLN_ARRAY_LEN(numbers); i++) {
        lua_pushfstring(L, "return %s", numbers[i]);
        const char *source = lua_tostring(L, -1);
        push_copy_of(source);
        push_result_of(source);
        ck_assert_msg(lua_rawequal(L, -1, -2), "%s", numbers[i]);
        ck_assert_int_eq(lua_isinteger(L, -1), lua_isinteger(L, -2));
        lua_settop(L, 0);
    }
    push_copy_of("return 0/0");
    ck_assert(lua_tonumber(L, -1) != lua_tonumber(L, -1));
}
END_TEST

/* The values are compared by Lua, with integers told from floats. */
static const char compare[] =
    "function same(a, b)\n"
    "  if type(a) ~= 'table' or type(b) ~= 'table' then\n"
    "    return a == b and math.type(a) == math.type(b)\n"
    "  end\n"
    "  for k, v in next, a do if not same(v, rawget(b, k)) then return false end end\n"
    "  for k in next, b do if rawget(a, k) == nil then return false end end\n"
    "  return true\n"
    "end\n";

START_TEST(tables_come_back_equal) {
    static const char *const tables[] = {
        "return {}",
        "return {1, 2, 3}",
        "return {1, 'two', {3, {4}}, true}",
        "return {name = 'x', n = 1, [1] = 'a', [2.5] = 'b', [true] = 'c', [-7] = 'd'}",
        "return {[2] = 'no one'}",
        "local t = {} for i = 1, 70000 do t[i] = i end return t",
        "local t = {} for i = 1, 70000 do t['k' .. i] = {i} end return t",
        "local t = {} for i = 1, 20 do t[i] = i end return t",
        "return {s = ('x'):rep(40), m = ('y'):rep(300), l = ('z'):rep(70000)}",
        "local t = {} for i = 1, 31 do t = {t} end return t",
        "return setmetatable({1}, {__index = error, __len = error, __pairs = error})",
        "local t = {'shared'} return {t, t, a = t}",
    };
    push_result_of(compare);
    for (size_t i = 0; i < PLN_ARRAY_LEN(tables); i++) {
        lua_settop(L, 0);
        lua_getglobal(L, "same");
        push_result_of(tables[i]);
        push_copy_of(tables[i]);
        ck_assert_int_eq(lua_pcall(L, 2, 1, 0), LUA_OK);
        ck_assert_msg(lua_toboolean(L, -1), "%s", tables[i]);
    }
}
END_TEST

START_TEST(what_cannot_be_cached_is_named_with_its_place) {
    static const struct {
        const char *source, *text;
    } cases[] = {
        {"return print", "value: a function cannot be cached"},
        {"return {user = {conn = io.stdout}}", "value.user.conn: a userdata cannot be cached"},
        {"return {1, {2, print}}", "value[2][2]: a function cannot be cached"},
        {"return {list = {[{}] = 1}}", "value.list[table]: a table cannot be a key"},
        {"return {[true] = print}", "value[boolean]: a function cannot be cached"},
        {"local t = {} t.a = {b = t} return t",
         "value.a.b: a table that contains itself cannot be cached"},
        {"local t = {} for i = 1, 32 do t = {t} end return {x = t}",
         "value.x[1][1][1][1][1][1][1][1][1][1][1][1][1][1][1][1][1][1][1][1][1][1][1][1][1][1][1]"
         "[1][1][1][1]: tables nested deeper than 32 cannot be cached"},
    };
    for (size_t i = 0; i < PLN_ARRAY_LEN(cases); i++) {
        struct pln_bytes bytes;
        uint8_t format;
        lua_settop(L, 0);
        push_result_of(cases[i].source);
        ck_assert_int_eq(pln_lua_encode(L, 1, &bytes, &format), PLN_EINVAL);
        ck_assert_str_eq(pln_error_text(), cases[i].text);
        ck_assert_int_eq(lua_gettop(L), 1);
    }
}
END_TEST

START_TEST(foreign_messagepack_is_read) {
    static const struct {
        const char *bytes;
        size_t len;
        double number;
    } cases[] = {{"\xcc\xff", 2, 255},
                 {"\xd0\x80", 2, -128},
                 {"\xd1\xff\x7f", 3, -129},
                 {"\xca\x3f\x00\x00\x00", 5, 0.5},
                 {"\xcf\xff\xff\xff\xff\xff\xff\xff\xff", 9, 18446744073709551615.0},
                 {"\xd3\xff\xff\xff\xff\xff\xff\xff\xfe", 9, -2}};
    for (size_t i = 0; i < PLN_ARRAY_LEN(cases); i++) {
        ck_assert_int_eq(pln_lua_decode(L, pln_bytes_of(cases[i].bytes, cases[i].len), 1), PLN_OK);
        ck_assert_double_eq(lua_tonumber(L, -1), cases[i].number);
    }
    ck_assert_int_eq(pln_lua_decode(L, pln_bytes_of("\xc4\x03\x00xy", 5), 1), PLN_OK); /* bin */
    ck_assert_uint_eq(lua_rawlen(L, -1), 3);
}
END_TEST

START_TEST(damaged_messagepack_is_refused) {
    static const struct {
        const char *bytes;
        size_t len;
    } cases[] = {
        {"", 0},
        {"\xc1", 1},
        {"\x92\x01", 2},
        {"\x01\x02", 2},
        {"\xdd\xff\xff\xff\xff", 5},
        {"\xdf\xff\xff\xff\xff", 5},
        {"\xdb\xff\xff\xff\xffx", 6},
        {"\xa5"
         "abc",
         4},
        {"\x81\xc0\x01", 3},
        {"\xd4\x01\x02", 3},
        {"\xcb\x00", 2},
        {"\x81\xca\x7f\xc0\x00\x00\x01", 7},
        {"\xdc\x00", 2},
    };
    for (size_t i = 0; i < PLN_ARRAY_LEN(cases); i++) {
        ck_assert_msg(pln_lua_decode(L, pln_bytes_of(cases[i].bytes, cases[i].len), 1) ==
                          PLN_EINVAL,
                      "case %zu was taken", i);
        ck_assert_int_eq(lua_gettop(L), 0);
    }
    ck_assert_int_eq(pln_lua_decode(L, pln_bytes_of("\x92\x01", 2), 1), PLN_EINVAL);
    ck_assert_str_eq(pln_error_text(), "value: damaged MessagePack at byte 1 of 2");
    ck_assert_int_eq(pln_lua_decode(L, pln_bytes_of("x", 1), 7), PLN_EINVAL);
    ck_assert_str_eq(pln_error_text(),
                     "value: format 7 is unknown to Lua (0 raw, 1 MessagePack, 2 JSON)");
}
END_TEST

START_TEST(depth_is_bounded_and_chance_bytes_do_no_harm) {
    char deep[100000];
    memset(deep, '\x91', sizeof deep); /* an array of one array of one array ... */
    ck_assert_int_eq(pln_lua_decode(L, pln_bytes_of(deep, sizeof deep), 1), PLN_EINVAL);
    unsigned seed = 1;
    int taken = 0;
    for (int round = 0; round < 20000; round++) {
        char bytes[24];
        for (size_t i = 0; i < sizeof bytes; i++) {
            seed = seed * 1664525u + 1013904223u;
            bytes[i] = (char) (seed >> 24);
        }
        size_t len = 1 + (seed >> 8) % sizeof bytes;
        int status = pln_lua_decode(L, pln_bytes_of(bytes, len), 1);
        ck_assert_int_eq(lua_gettop(L), status == PLN_OK ? 1 : 0);
        taken += status == PLN_OK;
        lua_settop(L, 0);
    }
    ck_assert_int_gt(taken, 100);
}
END_TEST

static size_t memory_left;

/* Fails once `memory_left` is used up. */
static void *scarce(void *arg, void *block, size_t old_size, size_t size) {
    (void) arg;
    if (size == 0) {
        free(block);
        return NULL;
    }
    size_t more = block == NULL ? size : size > old_size ? size - old_size : 0;
    if (more > memory_left) {
        return NULL;
    }
    memory_left -= more;
    return realloc(block, size);
}

static int round_trip(lua_State *state) {
    struct pln_bytes bytes;
    uint8_t format;
    lua_createtable(state, 100, 0);
    for (int i = 1; i <= 100; i++) {
        lua_pushfstring(state, "a text number %d", i);
        lua_rawseti(state, -2, i);
    }
    if (pln_lua_encode(state, -1, &bytes, &format) < 0 ||
        pln_lua_decode(state, bytes, format) < 0) {
        return luaL_error(state, "refused");
    }
    pln_lua_freeze(state);
    if (pln_lua_encode_as(state, -1, PLN_LUA_JSON, false, &bytes, &format) < 0 ||
        pln_lua_decode(state, bytes, format) < 0) {
        return luaL_error(state, "refused");
    }
    pln_lua_copy(state, -1);
    return 0;
}

START_TEST(want_of_memory_at_any_point_raises_and_leaks_nothing) {
    int n_failed = 0;
    for (size_t memory = 3000;; memory += 61) {
        memory_left = memory;
        lua_State *state = lua_newstate(scarce, NULL);
        if (state == NULL) {
            continue;
        }
        lua_pushcfunction(state, round_trip);
        int status = lua_pcall(state, 0, 0, 0);
        memory_left = SIZE_MAX;
        lua_close(state);
        if (status == LUA_OK) {
            break;
        }
        ck_assert_int_eq(status, LUA_ERRMEM);
        n_failed++;
    }
    ck_assert_int_gt(n_failed, 10);
}
END_TEST

/* Encodes what the source returns as JSON, compares, and decodes that again. */
static void expect_json(const char *source, const char *text) {
    struct pln_bytes bytes;
    uint8_t format;
    push_result_of(source);
    ck_assert_msg(pln_lua_encode_as(L, -1, PLN_LUA_JSON, false, &bytes, &format) == PLN_OK, "%s",
                  pln_error_text());
    ck_assert_uint_eq(format, PLN_LUA_JSON);
    ck_assert_msg(pln_bytes_equal(bytes, pln_key(text)), "%.*s", (int) bytes.len,
                  (const char *) bytes.data);
    ck_assert_int_eq(pln_lua_decode(L, bytes, format), PLN_OK);
    ck_assert_int_eq(lua_type(L, -1), lua_type(L, -3));
    ck_assert(lua_istable(L, -1) || lua_rawequal(L, -1, -3));
    lua_settop(L, 0);
}

START_TEST(json_is_what_others_read) {
    expect_json("return nil", "null");
    expect_json("return true", "true");
    expect_json("return -7", "-7");
    expect_json("return 0.5", "0.5");
    expect_json("return 1.0", "1.0");
    expect_json("return math.mininteger", "-9223372036854775808");
    expect_json("return {}", "[]");
    expect_json("return { 1, { 2 }, 'x' }", "[1,[2],\"x\"]");
    expect_json("return { a = { b = '\\0\\n' } }", "{\"a\":{\"b\":\"\\u0000\\n\"}}");
}
END_TEST

START_TEST(foreign_json_is_read_and_damaged_refused) {
    static const char *const good[] = {"1",    " [ 1 , 2 ] ", "{\"a\":null}", "\"\\u00fc\"",
                                       "null", "1e3",         "{}",           "[[[]]]"};
    static const char *const bad[] = {"",
                                      "{",
                                      "[1,]",
                                      "{\"a\"}",
                                      "nul",
                                      "1 2",
                                      "\"\xff\"",
                                      "NaN",
                                      "[1",
                                      "'a'",
                                      "99999999999999999999999",
                                      "{\"a\\u0000b\":1}"};
    for (size_t i = 0; i < PLN_ARRAY_LEN(good); i++) {
        ck_assert_msg(pln_lua_decode(L, pln_key(good[i]), PLN_LUA_JSON) == PLN_OK, "%s", good[i]);
        ck_assert_int_eq(lua_gettop(L), 1);
        lua_settop(L, 0);
    }
    for (size_t i = 0; i < PLN_ARRAY_LEN(bad); i++) {
        ck_assert_msg(pln_lua_decode(L, pln_key(bad[i]), PLN_LUA_JSON) == PLN_EINVAL, "%s", bad[i]);
        ck_assert_ptr_nonnull(strstr(pln_error_text(), "damaged JSON at byte"));
        ck_assert_int_eq(lua_gettop(L), 0);
    }
    char deep[80];
    memset(deep, '[', 40);
    memset(deep + 40, ']', 40);
    ck_assert_int_eq(pln_lua_decode(L, pln_bytes_of(deep, 80), PLN_LUA_JSON), PLN_EINVAL);
    ck_assert_str_eq(pln_error_text(), "value: JSON nested deeper than 32");
    ck_assert_int_eq(pln_lua_decode(L, pln_bytes_of(deep + 8, 64), PLN_LUA_JSON), PLN_OK);
}
END_TEST

START_TEST(plain_values_say_nothing_of_their_form) {
    struct pln_bytes bytes;
    uint8_t format;
    lua_pushliteral(L, "text");
    ck_assert_int_eq(pln_lua_encode_as(L, 1, PLN_LUA_MSGPACK, true, &bytes, &format), PLN_OK);
    ck_assert(pln_bytes_equal(bytes, pln_key("text")) && format == PLN_LUA_RAW);
    ck_assert_int_eq(pln_lua_encode_as(L, 1, PLN_LUA_JSON, true, &bytes, &format), PLN_OK);
    ck_assert(pln_bytes_equal(bytes, pln_key("\"text\"")) && format == PLN_LUA_JSON);
    lua_pushinteger(L, 7);
    ck_assert_int_eq(pln_lua_encode_as(L, -1, PLN_LUA_MSGPACK, true, &bytes, &format), PLN_EINVAL);
}
END_TEST

START_TEST(units_are_read_from_numbers_and_texts) {
    pln_ms ms;
    size_t size;
    double share;
    lua_pushinteger(L, 90);        /* 1 */
    lua_pushliteral(L, "15m");     /* 2 */
    lua_pushnumber(L, 0.25);       /* 3 */
    lua_pushliteral(L, "64k");     /* 4 */
    lua_pushliteral(L, "10%");     /* 5 */
    lua_pushinteger(L, -1);        /* 6 */
    lua_pushnumber(L, 1e308 * 10); /* 7 */
    lua_pushboolean(L, 1);         /* 8 */
    lua_pushliteral(L, "forever"); /* 9 */
    ck_assert(pln_lua_to_duration(L, 1, &ms) && ms == 90000);
    ck_assert(pln_lua_to_duration(L, 2, &ms) && ms == 900000);
    ck_assert(pln_lua_to_duration(L, 3, &ms) && ms == 250);
    ck_assert(pln_lua_to_duration(L, 9, &ms) && ms == PLN_FOREVER);
    ck_assert(pln_lua_to_size(L, 4, &size) && size == 65536);
    ck_assert(pln_lua_to_size(L, 1, &size) && size == 90);
    ck_assert(pln_lua_to_share(L, 5, &share) && share > 0.0999 && share < 0.1001);
    ck_assert(pln_lua_to_share(L, 3, &share) && share > 0.2499 && share < 0.2501);
    for (int bad = 6; bad <= 8; bad++) {
        ck_assert(!pln_lua_to_duration(L, bad, &ms));
        ck_assert(!pln_lua_to_size(L, bad, &size));
        ck_assert(!pln_lua_to_share(L, bad, &share));
    }
    lua_pushnumber(L, 0.0 / 0.0);
    ck_assert(!pln_lua_to_duration(L, -1, &ms));
}
END_TEST

int main(void) {
    Suite *suite = suite_create("value");
    TCase *tests = tcase_create("value");
    suite_add_tcase(suite, tests);
    tcase_add_checked_fixture(tests, open_state, close_state);
    tcase_add_test(tests, a_string_is_its_own_bytes);
    tcase_add_test(tests, numbers_keep_their_kind_and_value);
    tcase_add_test(tests, tables_come_back_equal);
    tcase_add_test(tests, what_cannot_be_cached_is_named_with_its_place);
    tcase_add_test(tests, foreign_messagepack_is_read);
    tcase_add_test(tests, damaged_messagepack_is_refused);
    tcase_add_test(tests, depth_is_bounded_and_chance_bytes_do_no_harm);
    tcase_add_test(tests, want_of_memory_at_any_point_raises_and_leaks_nothing);
    tcase_add_test(tests, json_is_what_others_read);
    tcase_add_test(tests, foreign_json_is_read_and_damaged_refused);
    tcase_add_test(tests, plain_values_say_nothing_of_their_form);
    tcase_add_test(tests, units_are_read_from_numbers_and_texts);
    SRunner *runner = srunner_create(suite);
    srunner_run_all(runner, CK_ENV);
    int failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed == 0 ? 0 : 1;
}
