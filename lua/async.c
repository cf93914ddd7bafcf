/* SPDX-License-Identifier: MIT
 *
 * async.c - get_async and get_many_async: beginning ops.
 *
 *     local op <close> = cache:get_async("user:7", nil, load_user)
 *     while not op:ready() do
 *         if op:wants_load() then op:load() else wait_for(op:pollfd(), op:timeout()) end
 *     end
 *     local user, err, how = op:result()
 */
#include "op.h"

static const char spare_op = 0; /* its address is the registry's key of an op for the next get */

int pln_lua_need_news(lua_State *L, struct pln_lua_cache *cache) {
    if (cache->cache == NULL) {
        return luaL_error(L, "attempt to use a closed cache");
    }
    if (cache->news != NULL && pln_news_are_lost(cache->news)) {
        pln_news_free(cache->news);
        cache->news = NULL;
    }
    return cache->news != NULL ? PLN_OK : pln_news_new(cache->cache, &cache->news);
}

/* Keeps loader, key and further arguments for the op on top of the stack. */
static void keep_loader(lua_State *L, int loader, int last) {
    int op = lua_gettop(L);
    lua_pushvalue(L, 2);
    lua_tostring(L, -1);
    lua_setiuservalue(L, op, OP_KEY);
    if (loader == 0) {
        return;
    }
    lua_pushvalue(L, loader);
    lua_setiuservalue(L, op, OP_LOADER);
    if (last > loader) {
        lua_createtable(L, last - loader, 1);
        for (int i = loader + 1; i <= last; i++) {
            lua_pushvalue(L, i);
            lua_rawseti(L, -2, i - loader);
        }
        lua_pushinteger(L, last - loader);
        lua_setfield(L, -2, "n");
        lua_setiuservalue(L, op, OP_EXTRAS);
    }
}

/* What a get is asked for, beside the cache at 1 and the key at 2. */
struct asked {
    struct pln_bytes key;
    struct pln_get_options options;
    uint32_t flags;   /* of pln_begin_get() */
    int loader, last; /* stack indices of the loader (0: there is none) and of its last argument */
    bool takes_old, is_copy;
};

static void take_asked(lua_State *L, const struct pln_lua_cache *cache, struct asked *asked,
                       struct pln_bytes tags[PLN_LUA_MAX_TAGS]) {
    int last = lua_gettop(L), loader = lua_isfunction(L, 3) ? 3 : 4;
    *asked = (struct asked){.key = pln_lua_check_key(L, 2), .last = last};
    if (loader == 4) {
        pln_lua_get_options(L, 3, &asked->options, tags);
    }
    if (last < loader || lua_isnil(L, loader)) {
        asked->flags = cache->has_loaders ? PLN_BEGIN_LOADS_NAMED : 0;
    } else if (!pln_lua_is_callable(L, loader)) {
        luaL_typeerror(L, loader, "function");
    } else {
        asked->flags = PLN_BEGIN_LOADS;
        asked->loader = loader;
    }
    asked->takes_old = (asked->options.flags & PLN_LUA_WITH_OLD) != 0;
    asked->is_copy = (asked->options.flags & PLN_LUA_COPY) != 0;
    asked->options.flags &= ~(PLN_LUA_WITH_OLD | PLN_LUA_COPY);
}

/* get_async(key, [options], [loader, ...]) -> op | nil, message, code */
static int cache_get_async(lua_State *L) {
    struct pln_lua_cache *cache = pln_lua_opened(L, 1);
    struct pln_bytes tags[PLN_LUA_MAX_TAGS];
    struct asked asked;
    struct pln_result result;
    take_asked(L, cache, &asked, tags);
    struct pln_lua_op *self = pln_lua_op_push(L, 1, OP_GETS);
    int op = lua_gettop(L);
    self->takes_old = asked.takes_old;
    self->is_copy = asked.is_copy;
    keep_loader(L, asked.loader, asked.last);
    int status = pln_lua_need_news(L, cache);
    if (status < 0) {
        return pln_lua_push_failure(L, status);
    }
    status = pln_begin_get(cache->news, asked.key, &asked.options, asked.flags, &result,
                           &self->begun.op);
    if (self->begun.op == NULL) {
        pln_lua_op_keep(L, op, self,
                        pln_lua_op_push_get(L, cache, 2, self->is_copy, status, &result));
    }
    lua_pushvalue(L, op);
    return 1;
}

/* Pushes the state's spare op, which is empty and knows no cache; it stays the spare one. */
static struct pln_lua_op *push_spare(lua_State *L) {
    if (lua_rawgetp(L, LUA_REGISTRYINDEX, &spare_op) != LUA_TUSERDATA) {
        pln_lua_op_new(L, OP_GETS);
        lua_pushvalue(L, -1);
        lua_rawsetp(L, LUA_REGISTRYINDEX, &spare_op);
    }
    return lua_touserdata(L, -1);
}

/* get_or_async(key, [options], [loader, ...]) -> false, and what get returns, where that is known
 * at once; else an op. For adapters: making an op costs four times as much as a hit does. */
static int cache_get_or_async(lua_State *L) {
    struct pln_lua_cache *cache = pln_lua_opened(L, 1);
    struct pln_bytes tags[PLN_LUA_MAX_TAGS];
    struct asked asked;
    struct pln_result result = {0};
    take_asked(L, cache, &asked, tags);
    /* from here on nothing runs that could take the spare op, until it is not the spare one */
    struct pln_lua_op *self = push_spare(L);
    int op = lua_gettop(L);
    int status = pln_lua_need_news(L, cache);
    if (status == PLN_OK) {
        status = pln_begin_get(cache->news, asked.key, &asked.options, asked.flags, &result,
                               &self->begun.op);
    }
    if (self->begun.op == NULL) {
        int n = status < 0 ? pln_lua_push_status(L, status)
                           : pln_lua_op_push_get(L, cache, 2, asked.is_copy, status, &result);
        lua_pushboolean(L, false);
        lua_insert(L, -n - 1); /* between its results and what it may have left below them */
        return n + 1;
    }
    lua_pushnil(L);
    lua_rawsetp(L, LUA_REGISTRYINDEX, &spare_op);
    lua_pushvalue(L, 1);
    lua_setiuservalue(L, op, OP_CACHE);
    self->takes_old = asked.takes_old;
    self->is_copy = asked.is_copy;
    lua_pushvalue(L, op);
    keep_loader(L, asked.loader, asked.last);
    return 1;
}

/* get_many_async(keys, [options]) -> op | nil, message, code */
static int cache_get_many_async(lua_State *L) {
    struct pln_lua_cache *cache = pln_lua_opened(L, 1);
    struct pln_bytes tags[PLN_LUA_MAX_TAGS];
    struct pln_get_options options;
    size_t n;
    lua_settop(L, 3);
    pln_lua_get_options(L, 3, &options, tags);
    const struct pln_bytes *keys = pln_lua_push_keys(L, 2, &n);
    int texts = lua_gettop(L);
    struct pln_lua_op *self = pln_lua_op_push(L, 1, OP_GETS_MANY);
    lua_pushvalue(L, texts);
    lua_setiuservalue(L, -2, OP_KEY);
    self->is_copy = (options.flags & PLN_LUA_COPY) != 0;
    options.flags &= ~PLN_LUA_COPY;
    int status = pln_lua_need_news(L, cache);
    if (status == PLN_OK) {
        status = pln_begin_get_many(cache->news, keys, n, &options, &self->begun.op);
    }
    return status == PLN_OK ? 1 : pln_lua_push_status(L, status);
}

const luaL_Reg pln_lua_asyncs[] = {
    {"get_async", cache_get_async},
    {"get_or_async", cache_get_or_async},
    {"get_many_async", cache_get_many_async},
    {"call_async", pln_lua_call_async},
    {NULL, NULL},
};
