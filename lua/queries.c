/* SPDX-License-Identifier: MIT
 *
 * queries.c - query, execute and changed: methods that are written in Lua, and loaded when the
 * first of them is called, so that programs without SQL need neither the files nor LuaSQL.
 */
#include "module.h"

static const char library[] = "perilune.query";

/* Calls the library's function of that name with what the method was called with. */
static int call_library(lua_State *L, const char *name) {
    pln_lua_opened(L, 1);
    luaL_checkstack(L, 6, "too many arguments");
    int n = lua_gettop(L);
    luaL_getsubtable(L, LUA_REGISTRYINDEX, LUA_LOADED_TABLE);
    if (lua_getfield(L, -1, library) != LUA_TTABLE) {
        lua_getglobal(L, "require");
        lua_pushstring(L, library);
        lua_call(L, 1, 1);
    }
    lua_getfield(L, -1, name);
    lua_insert(L, 1);
    lua_settop(L, 1 + n);
    lua_call(L, n, LUA_MULTRET);
    return lua_gettop(L);
}

/* query(connection, sql, [arguments, [options]]) -> rows, nil, how | nil, message, code */
static int cache_query(lua_State *L) {
    return call_library(L, "query");
}

/* execute(connection, sql, [arguments, [options]]) -> number of rows | nil, message, code */
static int cache_execute(lua_State *L) {
    return call_library(L, "execute");
}

/* changed(table, ...) -> true | nil, message, code */
static int cache_changed(lua_State *L) {
    return call_library(L, "changed");
}

const luaL_Reg pln_lua_queries[] = {
    {"query", cache_query},
    {"execute", cache_execute},
    {"changed", cache_changed},
    {NULL, NULL},
};
