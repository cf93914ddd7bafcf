/* SPDX-License-Identifier: MIT
 *
 * compat.h - what the rooms use of Lua 5.4 and 5.3 has not, made of what 5.3 has. The rooms are
 * written for 5.4; for hosts with a Lua 5.3 (HAProxy 2.6, Apache's mod_lua) module and policies are
 * compiled once more, with this between, and no other file asks which Lua it is for.
 *
 * Under 5.3 __close is a field like any other: what it would close waits for close() or the
 * collector. That is the one thing that cannot be made up for here.
 */
#ifndef PLN_LUA_COMPAT_H
#define PLN_LUA_COMPAT_H

#include <lauxlib.h>
#include <lua.h>
#include <stdbool.h>
#include <string.h>

#if LUA_VERSION_NUM >= 504

/* Of each state its own. */
#define PLN_LUA_RANDOMSEED "randomseed"

/* Whether the error on top of the stack, of this status, says that memory is out. */
static inline bool pln_lua_is_memory_error(lua_State *L, int status) {
    (void) L;
    return status == LUA_ERRMEM;
}

#else

/* The numbers are libc's random() there, so the seed would be the whole host's: policies are not
 * given the function. For the end of a list that ends with NULL. */
#define PLN_LUA_RANDOMSEED NULL

/* A text like any other is what its buffers raise, and what lua_error() raises again. */
static inline bool pln_lua_is_memory_error(lua_State *L, int status) {
    static const char of_buffer[] = "not enough memory for buffer allocation";
    if (status != LUA_ERRRUN || lua_type(L, -1) != LUA_TSTRING) {
        return status == LUA_ERRMEM;
    }
    const char *text = lua_tostring(L, -1);
    size_t len = strlen(text), len_wanted = sizeof of_buffer - 1;
    return strcmp(text, "not enough memory") == 0 ||
           (len >= len_wanted && strcmp(text + len - len_wanted, of_buffer) == 0);
}

#define LUA_GNAME "_G"

#define luaL_pushfail(L) lua_pushnil(L)
#define luaL_bufflen(buffer) ((buffer)->n)
#define luaL_argexpected(L, condition, arg, wanted)                                                \
    ((void) ((condition) || luaL_typeerror(L, arg, wanted)))

static inline int luaL_typeerror(lua_State *L, int arg, const char *wanted) {
    const char *got = luaL_typename(L, arg);
    if (luaL_getmetafield(L, arg, "__name") == LUA_TSTRING) {
        got = lua_tostring(L, -1);
    } else if (lua_type(L, arg) == LUA_TLIGHTUSERDATA) {
        got = "light userdata";
    }
    return luaL_argerror(L, arg, lua_pushfstring(L, "%s expected, got %s", wanted, got));
}

/* The one user value of 5.3 is a table of as many as are wanted. It is made with the userdata, so
 * that to set one takes no memory, as in 5.4. */
static inline void *lua_newuserdatauv(lua_State *L, size_t size, int n_values) {
    void *block = lua_newuserdata(L, size);
    if (n_values > 0) {
        lua_createtable(L, n_values, 0);
        lua_setuservalue(L, -2);
    }
    return block;
}

/* Only for a userdata that has values. */
static inline int lua_getiuservalue(lua_State *L, int index, int n) {
    lua_getuservalue(L, index);
    int type = lua_rawgeti(L, -1, n);
    lua_remove(L, -2);
    return type;
}

static inline int lua_setiuservalue(lua_State *L, int index, int n) {
    lua_getuservalue(L, index);
    lua_insert(L, -2); /* stack: values, value */
    lua_rawseti(L, -2, n);
    lua_pop(L, 1);
    return 1;
}

#endif

#endif
