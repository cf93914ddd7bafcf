/* SPDX-License-Identifier: MIT
 *
 * floor.c - the least that a cache can cost a Lua program: a C function that pushes a string. A
 * fresh one each time, as Lua makes it of foreign bytes; nothing is looked up.
 */
#include <lauxlib.h>
#include <lua.h>

#define EXPORT __attribute__((visibility("default")))

EXPORT int luaopen_floor(lua_State *L);

static int push_string(lua_State *L) {
    size_t len;
    const char *text = lua_tolstring(L, lua_upvalueindex(1), &len);
    lua_pushlstring(L, text, len);
    return 1;
}

/* floor.pusher(text) -> a function that returns a fresh string of the same bytes */
static int make_pusher(lua_State *L) {
    luaL_checkstring(L, 1);
    lua_settop(L, 1);
    lua_pushcclosure(L, push_string, 1);
    return 1;
}

int luaopen_floor(lua_State *L) {
    static const luaL_Reg functions[] = {{"pusher", make_pusher}, {NULL, NULL}};
    luaL_newlib(L, functions);
    return 1;
}
