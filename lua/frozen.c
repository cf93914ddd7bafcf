/* SPDX-License-Identifier: MIT
 *
 * frozen.c - tables that are read by all who ask for a key, and changed by none.
 *
 * A frozen table is an empty one whose metatable leads to the contents:
 *
 *     handed out { } ─► metatable { __index = contents, __newindex = raises, __pairs, __len ... }
 *                                              └► { id = 7, tags = another frozen one }
 *
 * Lua calls __newindex only for fields that a table has not, so the contents cannot be handed out
 * themselves. A metatable for each costs memory once, and makes reading a field what it is of any
 * table with defaults: no function is called (a shared metatable with a function as its __index
 * takes several times as long for each field). What looks past metatables (next, rawget, JSON
 * libraries in C) sees an empty table: for these there is a copy.
 */
#include "internal.h"

static const char contents_key = 0; /* its address: where the metatable has the contents */

bool pln_lua_thaw(lua_State *L, int index) {
    if (!lua_getmetatable(L, index)) {
        return false;
    }
    if (lua_rawgetp(L, -1, &contents_key) != LUA_TTABLE) {
        lua_pop(L, 2);
        return false;
    }
    lua_remove(L, -2);
    return true;
}

void pln_lua_bare(lua_State *L, int index) {
    if (pln_lua_thaw(L, index)) {
        lua_replace(L, index);
    }
}

/* ---- what a frozen table does ---- */

static int frozen_newindex(lua_State *L) {
    const char *field = luaL_tolstring(L, 2, NULL);
    return luaL_error(L,
                      "attempt to set '%s' in a cached table, which is read-only: "
                      "take cache:copy(t), and change that",
                      field);
}

static int frozen_len(lua_State *L) {
    lua_pushinteger(L, pln_lua_thaw(L, 1) ? (lua_Integer) lua_rawlen(L, -1) : 0);
    return 1;
}

/* The contents are an upvalue: were they the loop's state, a program could get at them. */
static int next_pair(lua_State *L) {
    lua_settop(L, 2);
    if (lua_next(L, lua_upvalueindex(1)) == 0) {
        lua_pushnil(L);
        return 1;
    }
    return 2;
}

static int frozen_pairs(lua_State *L) {
    if (!pln_lua_thaw(L, 1)) {
        return luaL_typeerror(L, 1, "cached table");
    }
    lua_pushcclosure(L, next_pair, 1);
    lua_pushvalue(L, 1);
    lua_pushnil(L);
    return 3;
}

/* ---- freezing ---- */

/* Replaces the contents on top of the stack by what leads to them. */
static void wrap(lua_State *L) {
    lua_createtable(L, 0, 0);
    lua_createtable(L, 0, 8);
    lua_pushvalue(L, -3);
    lua_rawsetp(L, -2, &contents_key);
    lua_pushvalue(L, -3);
    lua_setfield(L, -2, "__index");
    lua_pushcfunction(L, frozen_newindex);
    lua_setfield(L, -2, "__newindex");
    lua_pushcfunction(L, frozen_pairs);
    lua_setfield(L, -2, "__pairs");
    lua_pushcfunction(L, frozen_len);
    lua_setfield(L, -2, "__len");
    lua_pushliteral(L, "perilune.table");
    lua_setfield(L, -2, "__name");
    lua_pushboolean(L, 0);
    lua_setfield(L, -2, "__metatable");
    lua_setmetatable(L, -2);
    lua_remove(L, -2);
}

void pln_lua_freeze(lua_State *L) {
    if (lua_type(L, -1) != LUA_TTABLE) {
        return;
    }
    int table = lua_gettop(L);
    luaL_checkstack(L, 8, "value");
    lua_pushnil(L);
    while (lua_next(L, table) != 0) {
        if (lua_type(L, -1) == LUA_TTABLE) {
            pln_lua_freeze(L);
            lua_pushvalue(L, -2);
            lua_insert(L, -2);
            lua_rawset(L, table); /* a field that is there: the traversal goes on */
        } else {
            lua_pop(L, 1);
        }
    }
    wrap(L);
}

/* ---- copying ---- */

static void copy(lua_State *L, int index, int depth) {
    if (lua_type(L, index) != LUA_TTABLE) {
        lua_pushvalue(L, index);
        return;
    }
    if (depth > PLN_LUA_MAX_DEPTH) {
        luaL_error(L, "copy: tables nested deeper than %d, or a table that contains itself",
                   PLN_LUA_MAX_DEPTH);
    }
    luaL_checkstack(L, 8, "copy");
    if (!pln_lua_thaw(L, index)) {
        lua_pushvalue(L, index);
    }
    int from = lua_gettop(L);
    size_t n = lua_rawlen(L, from);
    lua_createtable(L, n < 1024 ? (int) n : 1024, 0);
    lua_pushnil(L);
    while (lua_next(L, from) != 0) {
        copy(L, lua_gettop(L), depth + 1);
        lua_remove(L, -2);
        lua_pushvalue(L, -2);
        lua_insert(L, -2);
        lua_rawset(L, from + 1);
    }
    lua_remove(L, from);
}

void pln_lua_copy(lua_State *L, int index) {
    copy(L, lua_absindex(L, index), 1);
}
