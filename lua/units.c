/* SPDX-License-Identifier: MIT
 *
 * units.c - durations, sizes and shares from Lua values.
 */
#include "internal.h"

#include <math.h>

/* A number in the range in which the units' own parsers answer. */
static bool to_plain(lua_State *L, int index, double *number) {
    *number = lua_tonumber(L, index);
    return *number >= 0 && *number <= 1e12;
}

bool pln_lua_to_duration(lua_State *L, int index, pln_ms *duration) {
    double seconds;
    if (lua_type(L, index) == LUA_TSTRING) {
        return pln_parse_duration(lua_tostring(L, index), duration);
    }
    if (lua_type(L, index) != LUA_TNUMBER || !to_plain(L, index, &seconds)) {
        return false;
    }
    *duration = (pln_ms) llround(seconds * 1000);
    return true;
}

bool pln_lua_to_size(lua_State *L, int index, size_t *size) {
    double bytes;
    if (lua_type(L, index) == LUA_TSTRING) {
        return pln_parse_size(lua_tostring(L, index), size);
    }
    if (lua_type(L, index) != LUA_TNUMBER || !to_plain(L, index, &bytes)) {
        return false;
    }
    *size = (size_t) llround(bytes);
    return true;
}

bool pln_lua_to_share(lua_State *L, int index, double *share) {
    if (lua_type(L, index) == LUA_TSTRING) {
        return pln_parse_share(lua_tostring(L, index), share);
    }
    return lua_type(L, index) == LUA_TNUMBER && to_plain(L, index, share);
}
