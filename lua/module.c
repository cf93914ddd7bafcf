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

#include <dlfcn.h>
#include <stdatomic.h>
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

/* A boolean option of the module's own, of the table at `index`. */
static bool own_flag(lua_State *L, int index, const char *name, bool when_absent) {
    int type = lua_getfield(L, index, name);
    bool flag = type == LUA_TNIL ? when_absent : lua_toboolean(L, -1);
    if (type != LUA_TNIL && type != LUA_TBOOLEAN) {
        lua_pushfstring(L, "option '%s' must be true or false, got a %s", name,
                        luaL_typename(L, -1));
        luaL_argerror(L, index, lua_tostring(L, -1));
    }
    lua_pop(L, 1);
    return flag;
}

/* How many bytes of values are remembered with their tables. */
static size_t decoded_option(lua_State *L, int index) {
    enum { DEFAULT_BYTES = 1 << 20 };
    size_t bytes = DEFAULT_BYTES;
    int type = lua_getfield(L, index, "decoded");
    bool is_none = type == LUA_TSTRING && strcmp(lua_tostring(L, -1), "none") == 0;
    if (is_none) {
        bytes = 0;
    } else if (type != LUA_TNIL && !pln_lua_to_size(L, -1, &bytes)) {
        const char *got = luaL_tolstring(L, -1, NULL);
        lua_pushfstring(L,
                        "option 'decoded' must be a size such as \"1m\", or \"none\", got %s '%s'",
                        luaL_typename(L, -2), got);
        luaL_argerror(L, index, lua_tostring(L, -1));
    }
    lua_pop(L, 1);
    return bytes;
}

/* The policy that the options name. */
struct policy {
    const char *path; /* NULL: none; else a string on the stack */
    uint32_t flags;
};

static struct policy own_policy(lua_State *L, int index) {
    struct policy policy = {.flags = own_flag(L, index, "trusted", false) ? PLN_POLICY_TRUSTED : 0};
    int type = lua_getfield(L, index, "policy");
    luaL_argcheck(L, type == LUA_TNIL || type == LUA_TSTRING, index,
                  "option 'policy' must be a file's path");
    policy.path = lua_tostring(L, -1);
    return policy;
}

static int load_policy(void *arg, struct pln_cache *cache) {
    const struct policy *policy = arg;
    return policy->path == NULL ? PLN_OK : pln_load_policy(cache, policy->path, policy->flags);
}

static void close_cache(lua_State *L, struct pln_lua_cache *self) {
    struct pln_cache *cache = self->cache;
    self->cache = NULL;
    pln_news_free(self->news);
    self->news = NULL;
    pln_lua_decoded_free(L, self);
    pln_close(cache);
}

/* Opens what all of the process shares by its name. What is wrong or other with the options is
 * told, and raises nothing: another opener may have chosen them. */
static int open_named(lua_State *L, struct pln_lua_cache *self, const struct pln_options *options,
                      struct policy *policy) {
    struct pln_engine_options engine = {.prepare = load_policy, .arg = policy, .stays = true};
    if (policy->path != NULL) {
        engine.settings = lua_pushfstring(L, "policy %s%s", policy->path,
                                          policy->flags != 0 ? ", trusted" : "");
    }
    return pln_open_named(options, &engine, &self->cache);
}

static int open_own(lua_State *L, struct pln_lua_cache *self, const struct pln_options *options,
                    struct policy *policy) {
    int status = pln_open(options, &self->cache);
    if (status == PLN_EINVAL) {
        luaL_argerror(L, 1, pln_error_text());
    }
    return status == PLN_OK ? load_policy(policy, self->cache) : status;
}

/* open([name], [options]) -> cache | nil, message, code */
static int module_open(lua_State *L) {
    struct pln_options options = {0};
    bool is_named = lua_type(L, 1) == LUA_TSTRING;
    int at = is_named ? 2 : 1;
    lua_settop(L, at);
    if (lua_isnil(L, at)) {
        lua_newtable(L);
        lua_replace(L, at);
    }
    luaL_checktype(L, at, LUA_TTABLE);
    pln_lua_open_options(L, at, &options);
    luaL_argcheck(L, !is_named || options.name == NULL, at,
                  "option 'name' is not for an engine, whose name is the first argument");
    options.name = is_named ? lua_tostring(L, 1) : options.name;
    options.log = own_flag(L, at, "log", true) ? NULL : log_nothing;
    struct policy policy = own_policy(L, at);
    size_t decoded_bytes = decoded_option(L, at);
    struct pln_lua_cache *self = push_cache(L);
    int cache = lua_gettop(L);
    self->decoded_bytes = decoded_bytes;
    const char *name = options.name == NULL ? options.ns : options.name;
    snprintf(self->name, sizeof self->name, "%s", name == NULL ? "perilune" : name);
    int status = is_named ? open_named(L, self, &options, &policy)
                          : open_own(L, self, &options, &policy);
    if (status < 0) {
        int n = pln_lua_push_failure(L, status); /* before closing, which may fail in other words */
        close_cache(L, self);
        return n;
    }
    lua_pushvalue(L, cache);
    return 1;
}

/* Whether a method is under way, in which Lua's collector runs a finalizer, say: it has the cache
 * in its hands, and only few methods look again whether it is there. */
static bool is_within_method(lua_State *L) {
    enum { MOST_LEVELS = 64 }; /* finding each takes as long as there are levels above it */
    lua_Debug frame;
    bool is_within = false;
    for (int level = 1; level < MOST_LEVELS && !is_within && lua_getstack(L, level, &frame);
         level++) {
        int top = lua_gettop(L);
        lua_getinfo(L, "f", &frame);
        is_within = lua_iscfunction(L, -1) && lua_getupvalue(L, -1, PLN_LUA_CLASS) != NULL &&
                    lua_rawequal(L, -1, lua_upvalueindex(PLN_LUA_CLASS));
        lua_settop(L, top);
    }
    return is_within;
}

static int cache_close(lua_State *L) {
    struct pln_lua_cache *self = pln_lua_handle(L, 1);
    if (self->n_running > 0) {
        return luaL_error(L, "cannot close a cache while a function that it called is running");
    }
    if (is_within_method(L)) {
        return luaL_error(L, "cannot close a cache in the midst of a method");
    }
    close_cache(L, self);
    lua_pushboolean(L, 1);
    return 1;
}

static int cache_gc(lua_State *L) {
    struct pln_lua_cache *self = pln_lua_handle(L, 1);
    if (self->n_running == 0) {
        close_cache(L, self);
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

/* Keeps the library where it is: closing the state that loaded it would take it from under its
 * threads. The linker's "nodelete" says the same, where who builds it can say that. */
static void pin_library(void) {
    static atomic_bool is_pinned;
    Dl_info info;
    /* relaxed: twice does no harm */
    if (!atomic_exchange_explicit(&is_pinned, true, memory_order_relaxed) &&
        dladdr((void *) (uintptr_t) pin_library, &info) != 0) {
        void *library = dlopen(info.dli_fname, RTLD_LAZY | RTLD_NOLOAD | RTLD_NODELETE);
        if (library != NULL) {
            dlclose(library); /* it stays all the same */
        }
    }
}

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
                                     pln_lua_engines,
                                     pln_lua_asyncs,
                                     pln_lua_copies,
                                     pln_lua_terms,
                                     pln_lua_swaps,
                                     pln_lua_hearing,
                                     pln_lua_queries,
                                     pln_lua_queue};
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
    pin_library();
    int class = push_class(L);
    lua_newtable(L);
    set_functions(L, class, functions);
    lua_pushcfunction(L, module_clock);
    lua_setfield(L, -2, "clock");
    lua_pushcfunction(L, pln_lua_memory);
    lua_setfield(L, -2, "memory");
    lua_pushcfunction(L, pln_lua_copy_function);
    lua_setfield(L, -2, "copy");
    lua_pushcfunction(L, pln_lua_hash);
    lua_setfield(L, -2, "hash");
    pln_lua_push_key_maker(L);
    lua_setfield(L, -2, "key");
    pln_same_push(L);
    lua_setfield(L, -2, "not_modified");
    lua_pushcfunction(L, pln_lua_reload_policies);
    lua_setfield(L, -2, "reload_policies");
    lua_pushcfunction(L, pln_lua_notify);
    lua_setfield(L, -2, "notify");
    lua_pushcfunction(L, pln_lua_shutdown);
    lua_setfield(L, -2, "shutdown");
    lua_pushliteral(L, "perilune");
    lua_setfield(L, -2, "_NAME");
    lua_pushliteral(L, PLN_VERSION);
    lua_setfield(L, -2, "_VERSION");
    return 1;
}
