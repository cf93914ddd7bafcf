/* SPDX-License-Identifier: MIT
 *
 * same.c - not_modified, which a load function returns in the place of a value where its source
 * has what it was shown as the old one. A userdata of its own, so that no value can be taken for
 * it; one to a state.
 */
#include "script.h"

static const char same_key = 0; /* its address is the key in the registry */

void pln_same_open(lua_State *L) {
    lua_newuserdatauv(L, 0, 0);
    lua_createtable(L, 0, 2);
    lua_pushliteral(L, "not_modified");
    lua_setfield(L, -2, "__name");
    lua_pushboolean(L, false);
    lua_setfield(L, -2, "__metatable");
    lua_setmetatable(L, -2);
    lua_pushvalue(L, -1);
    lua_rawsetp(L, LUA_REGISTRYINDEX, &same_key);
    lua_setfield(L, -2, "not_modified");
}

bool pln_same_is(lua_State *L, int index) {
    index = lua_absindex(L, index);
    lua_rawgetp(L, LUA_REGISTRYINDEX, &same_key);
    bool is_same = lua_rawequal(L, index, -1);
    lua_pop(L, 1);
    return is_same;
}
