/* SPDX-License-Identifier: MIT
 *
 * module.c - require "perilune": opening a cache, its life as a userdata, and the list of methods.
 *
 * The userdata is made first and is empty; then the cache is opened into it. So whatever raises,
 * the collector closes what was opened. close(), __close and __gc are the same code, and twice is
 * fine. A collected cache whose loader is just running (a finalizer at the state's end) is left
 * open: its memory goes with the process, which is better than taking it from under the loader.
 */
#include "module.h"

#include <stdio.h>
#include <time.h>

#define EXPORT __attribute__((visibility("default")))

EXPORT int luaopen_perilune(lua_State *L);

const char pln_lua_kind = 0;

/* ---- statuses ---- */

int pln_lua_push_failure(lua_State *L, int status) {
    lua_pushnil(L);
    lua_pushstring(L, pln_error_text());
    lua_pushstring(L, pln_status_name(status));
    return 3;
}

int pln_lua_push_status(lua_State *L, int status) {
    if (status == PLN_OK) {
        lua_pushboolean(L, 1);
        return 1;
    }
    if (status == PLN_EINVAL) {
        return luaL_error(L, "%s", pln_error_text());
    }
    if (status < 0) {
        return pln_lua_push_failure(L, status);
    }
    lua_pushnil(L);
    lua_pushnil(L);
    lua_pushstring(L, pln_status_name(status));
    return 3;
}

/* ---- keys and texts ---- */

bool pln_lua_top_text(lua_State *L, struct pln_bytes *text) {
    if (lua_isboolean(L, -1)) {
        lua_pushstring(L, lua_toboolean(L, -1) ? "true" : "false");
        lua_replace(L, -2);
    }
    if (lua_type(L, -1) != LUA_TSTRING && !lua_isinteger(L, -1)) {
        return false;
    }
    text->data = lua_tolstring(L, -1, &text->len);
    return true;
}

/* ---- a cache's life ---- */

static void log_nothing(void *arg, int level, const char *line) {
    (void) arg;
    (void) level;
    (void) line;
}

/* Pushes an empty cache. */
static struct pln_lua_cache *push_cache(lua_State *L) {
    struct pln_lua_cache *self = lua_newuserdatauv(L, sizeof *self, 1);
    *self = (struct pln_lua_cache){.kind = &pln_lua_kind};
    lua_pushvalue(L, lua_upvalueindex(PLN_LUA_CLASS));
    lua_setmetatable(L, -2);
    return self;
}

/* A boolean option of the module's own; false where it is not given. */
static bool own_flag(lua_State *L, const char *name, bool when_absent) {
    int type = lua_getfield(L, 1, name);
    bool flag = type == LUA_TNIL ? when_absent : lua_toboolean(L, -1);
    if (type != LUA_TNIL && type != LUA_TBOOLEAN) {
        lua_pushfstring(L, "option '%s' must be true or false, got a %s", name,
                        luaL_typename(L, -1));
        luaL_argerror(L, 1, lua_tostring(L, -1));
    }
    lua_pop(L, 1);
    return flag;
}

/* Loads the policy that the options name, if any. stack: 1 options */
static int load_policy(lua_State *L, struct pln_cache *cache) {
    uint32_t flags = own_flag(L, "trusted", false) ? PLN_POLICY_TRUSTED : 0;
    int type = lua_getfield(L, 1, "policy");
    if (type == LUA_TNIL) {
        return PLN_OK;
    }
    luaL_argcheck(L, type == LUA_TSTRING, 1, "option 'policy' must be a file's path");
    return pln_load_policy(cache, lua_tostring(L, -1), flags);
}

static void close_cache(struct pln_lua_cache *self) {
    struct pln_cache *cache = self->cache;
    self->cache = NULL;
    pln_close(cache);
}

/* open([options]) -> cache | nil, message, code */
static int module_open(lua_State *L) {
    struct pln_options options = {0};
    lua_settop(L, 1);
    if (lua_isnil(L, 1)) {
        lua_newtable(L);
        lua_replace(L, 1);
    }
    luaL_checktype(L, 1, LUA_TTABLE);
    pln_lua_open_options(L, 1, &options);
    options.log = own_flag(L, "log", true) ? NULL : log_nothing;
    struct pln_lua_cache *self = push_cache(L);
    int cache = lua_gettop(L);
    snprintf(self->name, sizeof self->name, "%s", options.name == NULL ? "perilune" : options.name);
    int status = pln_open(&options, &self->cache);
    if (status == PLN_EINVAL) {
        return luaL_argerror(L, 1, pln_error_text());
    }
    if (status == PLN_OK) {
        status = load_policy(L, self->cache);
    }
    if (status < 0) {
        int n = pln_lua_push_failure(L, status); /* before closing, which may fail in other words */
        close_cache(self);
        return n;
    }
    lua_pushvalue(L, cache);
    return 1;
}

static int cache_close(lua_State *L) {
    struct pln_lua_cache *self = pln_lua_handle(L, 1);
    if (self->n_running > 0) {
        return luaL_error(L, "cannot close a cache while a function that it called is running");
    }
    close_cache(self);
    lua_pushboolean(L, 1);
    return 1;
}

static int cache_gc(lua_State *L) {
    struct pln_lua_cache *self = pln_lua_handle(L, 1);
    if (self->n_running == 0) {
        close_cache(self);
    }
    return 0;
}

static int cache_tostring(lua_State *L) {
    struct pln_lua_cache *self = pln_lua_handle(L, 1);
    lua_pushfstring(L, "perilune.cache: %s (%s)", self->name,
                    self->cache == NULL ? "closed" : "open");
    return 1;
}

/* ---- the module ---- */

static int module_clock(lua_State *L) {
    struct timespec time;
    clock_gettime(CLOCK_MONOTONIC, &time);
    lua_pushnumber(L, (lua_Number) time.tv_sec + (lua_Number) time.tv_nsec / 1e9);
    return 1;
}

static const luaL_Reg life[] = {{"close", cache_close}, {NULL, NULL}};

static const luaL_Reg metamethods[] = {
    {"__close", cache_close},
    {"__gc", cache_gc},
    {"__tostring", cache_tostring},
    {NULL, NULL},
};

/* Sets functions with the methods' upvalues in the table on top of the stack. stack: class, table
 */
static void set_functions(lua_State *L, int class, const luaL_Reg *functions) {
    lua_pushvalue(L, class);
    for (int source = 0; source <= PLN_FROM_NEGATIVE; source++) {
        lua_pushstring(L, pln_source_name(source));
    }
    luaL_setfuncs(L, functions, PLN_LUA_N_UPVALUES);
}

/* Pushes the class: a metatable that programs cannot get at. */
static int push_class(lua_State *L) {
    const luaL_Reg *const lists[] = {life,
                                     pln_lua_reads,
                                     pln_lua_writes,
                                     pln_lua_wraps,
                                     pln_lua_controls,
                                     pln_lua_keys,
                                     pln_lua_locks,
                                     pln_lua_limits,
                                     pln_lua_sessions,
                                     pln_lua_data,
                                     pln_lua_hashes,
                                     pln_lua_scans,
                                     pln_lua_boards,
                                     pln_lua_policies,
                                     pln_lua_warmings,
                                     pln_lua_shadows,
                                     pln_lua_swaps,
                                     pln_lua_hearing};
    lua_newtable(L);
    int class = lua_gettop(L);
    lua_pushliteral(L, "perilune.cache");
    lua_setfield(L, class, "__name");
    lua_pushboolean(L, 0);
    lua_setfield(L, class, "__metatable");
    set_functions(L, class, metamethods);
    lua_newtable(L);
    for (size_t i = 0; i < PLN_ARRAY_LEN(lists); i++) {
        set_functions(L, class, lists[i]);
    }
    pln_lua_push_key_maker(L);
    lua_setfield(L, -2, "key");
    lua_setfield(L, class, "__index");
    return class;
}

int luaopen_perilune(lua_State *L) {
    static const luaL_Reg functions[] = {
        {"open", module_open}, {"nodes", pln_lua_open_nodes}, {NULL, NULL}};
    luaL_checkversion(L);
    int class = push_class(L);
    lua_newtable(L);
    set_functions(L, class, functions);
    lua_pushcfunction(L, module_clock);
    lua_setfield(L, -2, "clock");
    lua_pushcfunction(L, pln_lua_memory);
    lua_setfield(L, -2, "memory");
    pln_lua_push_key_maker(L);
    lua_setfield(L, -2, "key");
    pln_same_push(L);
    lua_setfield(L, -2, "not_modified");
    lua_pushcfunction(L, pln_lua_reload_policies);
    lua_setfield(L, -2, "reload_policies");
    lua_pushcfunction(L, pln_lua_notify);
    lua_setfield(L, -2, "notify");
    lua_pushliteral(L, "perilune");
    lua_setfield(L, -2, "_NAME");
    lua_pushliteral(L, PLN_VERSION);
    lua_setfield(L, -2, "_VERSION");
    return 1;
}
