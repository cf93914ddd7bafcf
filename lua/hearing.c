/* SPDX-License-Identifier: MIT
 *
 * hearing.c - what is heard of other instances, in Lua: a host that has nothing else to do asks for
 * it, as nothing may call into its state from another thread.
 */
#include "module.h"

enum { USUAL = 1000 };

/* events([most]) -> true: they are kept from now on */
static int cache_events(lua_State *L) {
    struct pln_lua_cache *self = pln_lua_opened(L, 1);
    lua_Integer most = luaL_optinteger(L, 2, USUAL);
    luaL_argcheck(L, most > 0, 2, "the number of events must be positive");
    return pln_lua_push_status(L, pln_heard_keep(self->cache, (size_t) most));
}

/* poll_event() -> { kind =, key = | tag = | text =, lost = } | nil, nil, "miss" */
static int cache_poll_event(lua_State *L) {
    struct pln_lua_cache *self = pln_lua_opened(L, 1);
    struct pln_heard_event event;
    int status = pln_heard_next(self->cache, &event);
    if (status != PLN_OK) {
        return pln_lua_push_status(L, status);
    }
    lua_createtable(L, 0, 4);
    lua_pushstring(L, pln_heard_name(event.kind));
    lua_setfield(L, -2, "kind");
    if (event.kind <= PLN_HEARD_PATTERN) {
        lua_pushlstring(L, event.text, event.len);
        lua_setfield(L, -2,
                     event.kind <= PLN_HEARD_EXPIRE ? "key"
                     : event.kind == PLN_HEARD_TAG  ? "tag"
                                                    : "text");
    }
    if (event.is_cut) {
        lua_pushboolean(L, 1);
        lua_setfield(L, -2, "cut");
    }
    lua_pushinteger(L, (lua_Integer) event.lost);
    lua_setfield(L, -2, "lost");
    return 1;
}

const luaL_Reg pln_lua_hearing[] = {
    {"events", cache_events},
    {"poll_event", cache_poll_event},
    {NULL, NULL},
};
