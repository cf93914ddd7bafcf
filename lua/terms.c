/* SPDX-License-Identifier: MIT
 *
 * terms.c - how long values live, as loaders say it and as rules have it; and names for bytes,
 * which tell whether a value is still the same.
 */
#include "module.h"

#include <math.h>
#include <stdio.h>

/* ---- what a loader returns ---- */

static void take_ttl(lua_State *L, int index, struct pln_load *load) {
    if (lua_type(L, index) == LUA_TNUMBER && lua_tonumber(L, index) < 0) {
        pln_load_ttl(load, -1);
        return;
    }
    pln_load_ttl(load, pln_lua_check_duration(L, index, "the ttl that a loader returns"));
}

/* Unlike a ttl it may be 0: the value ends with that. */
static void take_stale(lua_State *L, int index, struct pln_load *load) {
    bool is_none = lua_type(L, index) == LUA_TNUMBER && lua_tonumber(L, index) == 0;
    pln_load_stale(
        load, is_none ? 0 : pln_lua_check_duration(L, index, "the stale that a loader returns"));
}

static void take_tags(lua_State *L, int index, struct pln_load *load) {
    if (!lua_istable(L, index)) {
        luaL_error(L, "the tags that a loader returns are a %s, must be a list",
                   luaL_typename(L, index));
    }
    /* by metamethods, too: the list may be part of a value that is read-only */
    for (lua_Integer i = 1; lua_geti(L, index, i) != LUA_TNIL; i++) {
        struct pln_bytes tag;
        if (!pln_lua_top_text(L, &tag)) {
            luaL_error(L, "a tag that a loader returns is a %s, must be a string",
                       luaL_typename(L, -1));
        }
        if (pln_load_tag(load, tag) < 0) { /* which copies */
            luaL_error(L, "%s", pln_error_text());
        }
        lua_pop(L, 1);
    }
    lua_pop(L, 1);
}

void pln_lua_take_terms(lua_State *L, int index, struct pln_load *load) {
    static const char *const names[] = {"ttl", "stale", "tags", NULL};
    static void (*const takers[])(lua_State *, int, struct pln_load *) = {take_ttl, take_stale,
                                                                          take_tags};
    if (lua_isnil(L, index)) {
        return;
    }
    if (!lua_istable(L, index)) {
        take_ttl(L, index, load);
        return;
    }
    pln_lua_check_names(L, index, names);
    lua_pushvalue(L, index);
    for (size_t i = 0; names[i] != NULL; i++) {
        lua_getfield(L, -1, names[i]);
        lua_replace(L, index); /* so that what is wrong with it is said of the result */
        if (!lua_isnil(L, index)) {
            takers[i](L, index, load);
        }
    }
    lua_pop(L, 1);
}

/* ---- what a rule has ---- */

static void set_seconds(lua_State *L, const char *name, pln_ms ms) {
    lua_pushnumber(L, ms == PLN_FOREVER ? (lua_Number) HUGE_VAL : (lua_Number) ms / 1000);
    lua_setfield(L, -2, name);
}

/* terms(key) -> { ttl =, stale =, stale_if_error =, negative = }, in seconds */
static int cache_terms(lua_State *L) {
    struct pln_lua_cache *self = pln_lua_opened(L, 1);
    struct pln_key_terms terms;
    int status = pln_key_terms(self->cache, pln_lua_check_key(L, 2), &terms);
    if (status < 0) {
        return pln_lua_push_status(L, status);
    }
    lua_createtable(L, 0, 4);
    set_seconds(L, "ttl", terms.ttl_ms);
    set_seconds(L, "stale", terms.stale_ms);
    set_seconds(L, "stale_if_error", terms.stale_if_error_ms);
    set_seconds(L, "negative", terms.negative_ms);
    return 1;
}

/* ---- names for bytes ---- */

/* hash(bytes) -> 32 hexadecimal digits */
int pln_lua_hash(lua_State *L) {
    struct pln_bytes bytes;
    char text[33];
    luaL_checktype(L, 1, LUA_TSTRING);
    bytes.data = lua_tolstring(L, 1, &bytes.len);
    struct pln_hash128 hash = pln_hash128(bytes);
    snprintf(text, sizeof text, "%016llx%016llx", (unsigned long long) hash.high,
             (unsigned long long) hash.low);
    lua_pushstring(L, text);
    return 1;
}

const luaL_Reg pln_lua_terms[] = {
    {"terms", cache_terms},
    {NULL, NULL},
};
