/* SPDX-License-Identifier: MIT
 *
 * engine.c - the end of an engine that all of the process shares by name, and the engine's work
 * where the system starts no threads for it. Opening stands in module.c.
 */
#include "module.h"

#include <math.h>

int pln_lua_shutdown(lua_State *L) {
    return pln_lua_push_status(L, pln_shutdown(luaL_checkstring(L, 1)));
}

/* step([seconds]) -> seconds until it is of use again */
static int cache_step(lua_State *L) {
    struct pln_lua_cache *self = pln_lua_opened(L, 1);
    bool is_least = lua_isnoneornil(L, 2) ||
                    (lua_type(L, 2) == LUA_TNUMBER && lua_tonumber(L, 2) == 0);
    pln_ms most = is_least ? 0 : pln_lua_check_duration(L, 2, "seconds");
    pln_ms next = pln_step(self->cache, most);
    lua_pushnumber(L, next == PLN_FOREVER ? HUGE_VAL : (lua_Number) next / 1000);
    return 1;
}

const luaL_Reg pln_lua_engines[] = {{"step", cache_step}, {NULL, NULL}};
