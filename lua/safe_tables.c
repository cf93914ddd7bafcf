/* SPDX-License-Identifier: MIT
 *
 * safe_tables.c - the functions of `table` as a policy gets them: charged to the budget by the
 * elements that they touch, and for tables without a metatable only, since with __len or __index
 * one has any size it likes to name.
 */
#include "script.h"

static void check_plain(lua_State *L, int index) {
    if (lua_istable(L, index) && lua_getmetatable(L, index) != 0) {
        luaL_argerror(L, index, "a table without a metatable is wanted");
    }
}

/* insert and remove: what stands behind a given place moves. */
static int safe_shift(lua_State *L) {
    check_plain(L, 1);
    if (lua_istable(L, 1) && lua_gettop(L) >= 2) {
        lua_Integer place = lua_tointeger(L, 2), len = (lua_Integer) lua_rawlen(L, 1);
        pln_script_charge(L, place > 0 && place < len ? (size_t) (len - place) : 1);
    }
    return pln_call_original(L);
}

static int safe_concat(lua_State *L) {
    luaL_Buffer result;
    size_t len;
    luaL_checktype(L, 1, LUA_TTABLE);
    check_plain(L, 1);
    const char *separator = luaL_optlstring(L, 2, "", &len);
    lua_Integer from = luaL_optinteger(L, 3, 1);
    lua_Integer to = luaL_optinteger(L, 4, (lua_Integer) lua_rawlen(L, 1));
    luaL_buffinit(L, &result);
    for (lua_Integer i = from; i <= to; i++) {
        size_t before = luaL_bufflen(&result);
        lua_rawgeti(L, 1, i);
        if (!lua_isstring(L, -1)) {
            return luaL_error(L, "invalid value (%s) at index %I in table for 'concat'",
                              luaL_typename(L, -1), (LUAI_UACINT) i);
        }
        luaL_addvalue(&result);
        if (i == to) {
            break; /* before i goes past the largest number */
        }
        luaL_addlstring(&result, separator, len);
        pln_script_charge(L, 8 + (luaL_bufflen(&result) - before) / 16);
    }
    luaL_pushresult(&result);
    return 1;
}

static int safe_move(lua_State *L) {
    lua_Integer from = luaL_checkinteger(L, 2), last = luaL_checkinteger(L, 3);
    lua_Integer to = luaL_checkinteger(L, 4);
    int target = lua_isnoneornil(L, 5) ? 1 : 5;
    luaL_checktype(L, 1, LUA_TTABLE);
    luaL_checktype(L, target, LUA_TTABLE);
    check_plain(L, 1);
    check_plain(L, target);
    if (last >= from) {
        luaL_argcheck(L, from > 0 || last < LUA_MAXINTEGER + from, 3, "too many elements to move");
        lua_Integer n = last - from + 1;
        luaL_argcheck(L, to <= LUA_MAXINTEGER - n + 1, 4, "destination wrap around");
        /* from the end where the beginning would be overwritten before it is read */
        bool is_upwards = to > last || to <= from || !lua_rawequal(L, 1, target);
        for (lua_Integer i = 0; i < n; i++) {
            lua_Integer at = is_upwards ? i : n - 1 - i;
            lua_rawgeti(L, 1, from + at);
            lua_rawseti(L, target, to + at);
            pln_script_charge(L, 2);
        }
    }
    lua_pushvalue(L, target);
    return 1;
}

static int safe_unpack(lua_State *L) {
    check_plain(L, 1);
    if (lua_istable(L, 1)) {
        pln_script_charge(L, lua_rawlen(L, 1));
    }
    return pln_call_original(L);
}

/* ---- sort ---- */

static size_t comparing(lua_State *L) {
    size_t a = lua_type(L, 1) == LUA_TSTRING ? lua_rawlen(L, 1) : 0;
    size_t b = lua_type(L, 2) == LUA_TSTRING ? lua_rawlen(L, 2) : 0;
    return 8 + (a < b ? a : b) / 16;
}

/* The upvalue is the script's own function, or nil. */
static int is_less(lua_State *L) {
    pln_script_charge(L, comparing(L));
    if (lua_isnil(L, lua_upvalueindex(1))) {
        lua_pushboolean(L, lua_compare(L, 1, 2, LUA_OPLT));
    } else {
        lua_pushvalue(L, lua_upvalueindex(1));
        lua_insert(L, 1);
        lua_call(L, 2, 1);
    }
    return 1;
}

/* A function in Lua is counted by the hook, instruction by instruction; all else is charged. */
static int safe_sort(lua_State *L) {
    luaL_checktype(L, 1, LUA_TTABLE);
    check_plain(L, 1);
    if (!lua_isnoneornil(L, 2)) {
        luaL_checktype(L, 2, LUA_TFUNCTION);
    }
    lua_settop(L, 2);
    if (lua_isnil(L, 2) || lua_iscfunction(L, 2)) {
        lua_pushcclosure(L, is_less, 1);
    }
    return pln_call_original(L);
}

const struct pln_replacement pln_safe_tables[] = {
    {"concat", safe_concat}, {"insert", safe_shift},  {"remove", safe_shift}, {"move", safe_move},
    {"sort", safe_sort},     {"unpack", safe_unpack}, {NULL, NULL},
};
