/* SPDX-License-Identifier: MIT
 *
 * same.c - the old value that a loader is shown, and not_modified, which it returns in the place of
 * a value where its source has the same. A userdata of its own, so that no value can be taken for
 * it; one to a state, in policies and in hosts.
 */
#include "internal.h"

static const char same_key = 0; /* its address is the key in the registry */

void pln_same_push(lua_State *L) {
    if (lua_rawgetp(L, LUA_REGISTRYINDEX, &same_key) != LUA_TNIL) {
        return;
    }
    lua_pop(L, 1);
    lua_newuserdatauv(L, 0, 0);
    lua_createtable(L, 0, 2);
    lua_pushliteral(L, "not_modified");
    lua_setfield(L, -2, "__name");
    lua_pushboolean(L, false);
    lua_setfield(L, -2, "__metatable");
    lua_setmetatable(L, -2);
    lua_pushvalue(L, -1);
    lua_rawsetp(L, LUA_REGISTRYINDEX, &same_key);
}

void pln_same_push_old(lua_State *L, const struct pln_load *load) {
    uint8_t format;
    struct pln_bytes old = pln_load_old(load, &format);
    if (old.data == NULL || pln_lua_decode(L, old, format) < 0) {
        lua_pushnil(L);
    }
}

bool pln_same_take(lua_State *L, int index, struct pln_load *load) {
    index = lua_absindex(L, index);
    lua_rawgetp(L, LUA_REGISTRYINDEX, &same_key);
    bool is_same = !lua_isnil(L, -1) && lua_rawequal(L, index, -1);
    lua_pop(L, 1);
    if (is_same && pln_load_same(load) < 0) {
        luaL_error(L, "%s", pln_error_text());
    }
    return is_same;
}
