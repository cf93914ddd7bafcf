/* SPDX-License-Identifier: MIT
 *
 * shadow.c - cache:shadow(), its report and its end.
 */
#include "module.h"

/* shadow(path [, { sample = "5%", trusted = false }]) -> true | nil, message, code */
static int cache_shadow(lua_State *L) {
    static const char *const names[] = {"sample", "trusted", NULL};
    struct pln_lua_cache *self = pln_lua_opened(L, 1);
    const char *path = luaL_checkstring(L, 2);
    struct pln_shadow_options options = {0};
    lua_settop(L, 3);
    if (!lua_isnil(L, 3)) {
        luaL_checktype(L, 3, LUA_TTABLE);
        pln_lua_check_names(L, 3, names);
        lua_getfield(L, 3, "sample");
        if (!lua_isnil(L, -1) && (!pln_lua_to_share(L, -1, &options.sample) ||
                                  options.sample <= 0 || options.sample > 1)) {
            return luaL_argerror(L, 3,
                                 "option 'sample' must be a share such as \"5%\", more than 0 and "
                                 "at most 1");
        }
        options.flags = pln_lua_given_flag(L, 3, "trusted", false) ? PLN_POLICY_TRUSTED : 0;
    }
    return pln_lua_push_status(L, pln_shadow_begin(self->cache, path, &options));
}

static void set_count(lua_State *L, const char *name, uint64_t value) {
    lua_pushinteger(L, (lua_Integer) value);
    lua_setfield(L, -2, name);
}

static void set_side(lua_State *L, const char *name, const struct pln_shadow_side *side) {
    lua_createtable(L, 0, 9);
    set_count(L, "hits", side->hits);
    set_count(L, "stale", side->stale);
    set_count(L, "waited", side->waited);
    set_count(L, "misses", side->misses);
    set_count(L, "failures", side->failures);
    set_count(L, "requests", side->requests);
    set_count(L, "fetches", side->fetches);
    set_count(L, "fetched_bytes", side->fetched_bytes);
    uint64_t n = side->requests > 0 ? side->requests : 1;
    lua_pushnumber(L, (lua_Number) (side->hits + side->stale) / (lua_Number) n);
    lua_setfield(L, -2, "hit_ratio");
    lua_setfield(L, -2, name);
}

/* It may grow between two calls. */
static void set_terms(lua_State *L, struct pln_cache *cache) {
    luaL_Buffer buffer;
    size_t size = 1024, len;
    for (;;) {
        luaL_buffinit(L, &buffer);
        len = pln_shadow_terms(cache, luaL_prepbuffsize(&buffer, size), size);
        if (len < size) {
            break;
        }
        luaL_pushresultsize(&buffer, 0);
        lua_pop(L, 1);
        size = len + 256;
    }
    luaL_pushresultsize(&buffer, len);
    lua_setfield(L, -2, "terms");
}

/* shadow_report() -> a table | nil, nil, "miss" */
static int cache_shadow_report(lua_State *L) {
    struct pln_lua_cache *self = pln_lua_opened(L, 1);
    struct pln_shadow_report report;
    int status = pln_shadow_report(self->cache, &report);
    if (status != PLN_OK) {
        return pln_lua_push_status(L, status);
    }
    lua_createtable(L, 0, 12);
    lua_pushnumber(L, report.sample);
    lua_setfield(L, -2, "sample");
    lua_pushnumber(L, (lua_Number) report.took_ms / 1000);
    lua_setfield(L, -2, "took");
    set_side(L, "live", &report.live);
    set_side(L, "candidate", &report.candidate);
    set_count(L, "differing", report.differing);
    set_count(L, "dropped", report.dropped);
    set_count(L, "waiting", report.waiting);
    set_count(L, "policy_errors", report.policy_errors);
    set_count(L, "l1_bytes", report.l1_bytes);
    set_count(L, "max_bytes", report.max_bytes);
    set_count(L, "l1_entries", report.l1_entries);
    set_terms(L, self->cache);
    return 1;
}

/* shadow_end() -> true */
static int cache_shadow_end(lua_State *L) {
    pln_shadow_end(pln_lua_opened(L, 1)->cache);
    lua_pushboolean(L, 1);
    return 1;
}

const luaL_Reg pln_lua_shadows[] = {
    {"shadow", cache_shadow},
    {"shadow_report", cache_shadow_report},
    {"shadow_end", cache_shadow_end},
    {NULL, NULL},
};
