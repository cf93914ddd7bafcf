/* SPDX-License-Identifier: MIT
 *
 * wrap.c - functions whose first result is cached by their arguments.
 *
 *     local find = cache:wrap(find_user, {prefix = "user", ttl = "15m"})
 *     find(7)             the key is user:7, where a policy's rule "user:{id}" finds it
 *     find.invalidate(7)  and so are find.peek(7), find.refresh(7), find.key(7)
 *
 * Arguments become a key that no other arguments become: see keying.c.
 */
#include "module.h"

/* Upvalues of the functions of a wrapped one, after those that all methods have. */
enum {
    CACHE = PLN_LUA_N_UPVALUES + 1,
    FUNCTION,
    OPTIONS, /* of get, or nil */
    PREFIX,
    KEY, /* the function that makes keys, or nil */
    N_UPVALUES = KEY,
};

/* ---- keys ---- */

/* Pushes the key for the arguments from `first` on. */
static void push_key(lua_State *L, int first) {
    int last = lua_gettop(L);
    luaL_checkstack(L, last + 10, "too many arguments");
    lua_pushvalue(L, lua_upvalueindex(PREFIX));
    if (!lua_isnil(L, lua_upvalueindex(KEY))) {
        lua_pushvalue(L, lua_upvalueindex(KEY));
        for (int i = first; i <= last; i++) {
            lua_pushvalue(L, i);
        }
        lua_call(L, last - first + 1, 1);
        if (lua_type(L, -1) != LUA_TSTRING && !lua_isinteger(L, -1)) {
            luaL_error(L, "wrap: the function 'key' must return a string or an integer, got a %s",
                       luaL_typename(L, -1));
        }
        bool has_prefix = lua_rawlen(L, -2) > 0;
        lua_pushstring(L, has_prefix ? ":" : "");
        lua_insert(L, -2);
        lua_concat(L, 3);
        return;
    }
    pln_lua_key_add(L, first, last, ": give wrap a function 'key' that makes one");
    pln_lua_key_shorten(L);
}

/* ---- the wrapped function ---- */

/* The result for the arguments from `first` on: what is cached, or, where that is not wanted, what
 * the function says now. The old one goes stale for all, and is kept for as long as that allows. */
static int find(lua_State *L, int first, bool is_anew) {
    struct pln_bytes tags[PLN_LUA_MAX_TAGS];
    struct pln_get_options options;
    int n_arguments = lua_gettop(L) - first + 1;
    push_key(L, first);
    int key = lua_gettop(L);
    lua_pushvalue(L, lua_upvalueindex(FUNCTION));
    lua_pushvalue(L, lua_upvalueindex(OPTIONS));
    lua_pushvalue(L, lua_upvalueindex(CACHE));
    struct pln_lua_cache *self = pln_lua_opened(L, key + 3);
    pln_lua_get_options(L, key + 2, &options, tags);
    if (is_anew) {
        int status = pln_expire(self->cache, pln_lua_check_key(L, key));
        if (status == PLN_EINVAL) { /* what Redis does not take now is told to it later */
            return pln_lua_push_status(L, status);
        }
        options.flags |= PLN_GET_NO_STALE;
    }
    struct pln_lua_loading loading = {.key = key,
                                      .loader = key + 1,
                                      .first_extra = first,
                                      .n_extra = n_arguments,
                                      .is_copy = (options.flags & PLN_LUA_COPY) != 0};
    options.flags &= ~PLN_LUA_COPY;
    return pln_lua_get_loading(L, self, &options, &loading);
}

/* stack: the wrapped object, arguments */
static int wrapped_call(lua_State *L) {
    return find(L, 2, false);
}

static int wrapped_refresh(lua_State *L) {
    return find(L, 1, true);
}

/* The key that a call with these arguments has. */
static int wrapped_key(lua_State *L) {
    push_key(L, 1);
    return 1;
}

/* As the cache's own method. */
static int wrapped_peek(lua_State *L) {
    push_key(L, 1);
    lua_pushvalue(L, lua_upvalueindex(CACHE));
    lua_insert(L, -2);
    lua_getfield(L, -2, "peek");
    lua_insert(L, -3);
    int before = lua_gettop(L) - 3;
    lua_call(L, 2, LUA_MULTRET);
    return lua_gettop(L) - before;
}

static int wrapped_invalidate(lua_State *L) {
    push_key(L, 1);
    int key = lua_gettop(L);
    lua_pushvalue(L, lua_upvalueindex(CACHE));
    struct pln_lua_cache *self = pln_lua_opened(L, key + 1);
    return pln_lua_push_status(L, pln_delete(self->cache, pln_lua_check_key(L, key)));
}

/* ---- wrap ---- */

/* Moves one of wrap's own options out of the table at `index`, so that the rest is get's. */
static int take_option(lua_State *L, int index, const char *name) {
    int type = lua_getfield(L, index, name);
    lua_pushnil(L);
    lua_setfield(L, index, name);
    return type;
}

static void copy_table(lua_State *L, int from) {
    lua_newtable(L);
    for (lua_pushnil(L); lua_next(L, from) != 0; lua_pop(L, 1)) {
        lua_pushvalue(L, -2);
        lua_pushvalue(L, -2);
        lua_rawset(L, -5);
    }
}

/* Pushes a closure over the methods' upvalues and the five on stack indices 4 to 8. */
static void push_closure(lua_State *L, lua_CFunction function) {
    for (int i = 1; i <= PLN_LUA_N_UPVALUES; i++) {
        lua_pushvalue(L, lua_upvalueindex(i));
    }
    for (int i = 4; i < 4 + N_UPVALUES - PLN_LUA_N_UPVALUES; i++) {
        lua_pushvalue(L, i);
    }
    lua_pushcclosure(L, function, N_UPVALUES);
}

static void push_wrapped(lua_State *L) {
    static const luaL_Reg functions[] = {{"invalidate", wrapped_invalidate},
                                         {"refresh", wrapped_refresh},
                                         {"peek", wrapped_peek},
                                         {"key", wrapped_key},
                                         {NULL, NULL}};
    lua_newtable(L);
    for (const luaL_Reg *function = functions; function->name != NULL; function++) {
        push_closure(L, function->func);
        lua_setfield(L, -2, function->name);
    }
    lua_newtable(L);
    push_closure(L, wrapped_call);
    lua_setfield(L, -2, "__call");
    lua_pushliteral(L, "perilune.wrapped");
    lua_setfield(L, -2, "__name");
    lua_pushboolean(L, 0);
    lua_setfield(L, -2, "__metatable");
    lua_setmetatable(L, -2);
}

/* wrap(function, {prefix =, key =, and get's options}) -> an object to be called */
static int cache_wrap(lua_State *L) {
    static const char *const names[] = {
        "prefix",       "key",      "ttl",  "stale",     "negative", "timeout",
        "tags",         "no_stale", "l1",   "l2",        "read",     "max_staleness",
        "soft_timeout", "keep",     "copy", "own_stale", NULL};
    struct pln_bytes tags[PLN_LUA_MAX_TAGS];
    struct pln_get_options options;
    pln_lua_opened(L, 1);
    luaL_checktype(L, 2, LUA_TFUNCTION);
    luaL_checktype(L, 3, LUA_TTABLE);
    lua_settop(L, 3);
    pln_lua_check_names(L, 3, names);
    lua_pushvalue(L, 1);
    lua_pushvalue(L, 2);
    copy_table(L, 3);
    int prefix = take_option(L, 6, "prefix");
    int key = take_option(L, 6, "key");
    luaL_argcheck(L, prefix == LUA_TSTRING || prefix == LUA_TNIL, 3,
                  "option 'prefix' must be a string");
    luaL_argcheck(L, key == LUA_TFUNCTION || key == LUA_TNIL, 3, "option 'key' must be a function");
    luaL_argcheck(L, prefix != LUA_TNIL || key != LUA_TNIL, 3,
                  "an option 'prefix' is needed: it keeps the keys of two functions apart");
    if (prefix == LUA_TNIL) {
        lua_pushliteral(L, "");
        lua_replace(L, 7);
    }
    /* stack: 4 cache, 5 function, 6 get's options, 7 prefix, 8 key function */
    pln_lua_get_options(L, 6, &options, tags); /* a wrong option raises here, not at each call */
    push_wrapped(L);
    return 1;
}

const luaL_Reg pln_lua_wraps[] = {
    {"wrap", cache_wrap},
    {NULL, NULL},
};
