/* SPDX-License-Identifier: MIT
 *
 * async.c - get_async and get_many_async: ops, which are looked at until they are ready.
 *
 *     local op <close> = cache:get_async("user:7", nil, load_user)
 *     while not op:ready() do
 *         if op:wants_load() then op:load() else wait_for(op:pollfd(), op:timeout()) end
 *     end
 *     local user, err, how = op:result()
 *
 * An op holds its cache as a user value. What it brought is kept as user values too, so it is had
 * from the core once, and the core's op is freed then. Closing the cache ends what is under way.
 *
 * A loader runs in the coroutine that calls op:load(), outside all calls of the core's, and may
 * yield there. So nothing of the core's is held meanwhile but the op itself: when the loader
 * returns, it is asked anew whether there is still a load to be taken.
 */
#include "module.h"

static const char op_class[] = "perilune.op";
static const char spare_op = 0; /* its address is the registry's key of an op for the next get */

/* User values of an op. Those from RESULT on are its results, once it has them: three of a get, of
 * a call five at most. */
enum { CACHE = 1, LOADER, EXTRAS, KEY, N_USER_VALUES = KEY };
enum { RESULT = LOADER, N_CALL_VALUES = RESULT + 4 };

enum op_kind { GETS, GETS_MANY, CALLS };

struct lua_op {
    struct pln_lua_begun begun;
    enum op_kind kind;
    int n_results;    /* 0: they are not known */
    bool is_copy;     /* tables are the caller's own */
    bool takes_old;   /* the loader */
    bool is_loading;  /* likewise: it runs */
    bool has_message; /* what it failed with is in the place of its extra arguments */
};

static struct lua_op *to_op(lua_State *L) {
    return luaL_checkudata(L, 1, op_class);
}

/* The cache of the op at 1; it may be closed. */
static struct pln_lua_cache *cache_of(lua_State *L) {
    lua_getiuservalue(L, 1, CACHE);
    struct pln_lua_cache *cache = lua_touserdata(L, -1);
    lua_pop(L, 1);
    return cache;
}

/* ---- results ---- */

/* Its results are known, or nobody wants them. */
static void drop(struct lua_op *self) {
    pln_op_free(self->begun.op);
    pln_lua_call_drop(self->begun.call);
    self->begun = (struct pln_lua_begun){NULL, NULL};
}

/* Keeps the n results on top of the stack for the op at `index`; they stay. */
static int keep(lua_State *L, int index, struct lua_op *self, int n) {
    int first = lua_gettop(L) - n + 1;
    for (int i = 0; i < n; i++) {
        lua_pushvalue(L, first + i);
        lua_setiuservalue(L, index, RESULT + i);
    }
    self->n_results = n;
    drop(self);
    return n;
}

/* An outcome has no message: NULL. */
static int push_code(lua_State *L, const char *message, const char *code) {
    lua_pushnil(L);
    lua_pushstring(L, message);
    lua_pushstring(L, code);
    return 3;
}

/* Pushes what a get of the key at index `key` brought, whose value is given back. */
static int push_get(lua_State *L, struct pln_lua_cache *cache, int key, bool is_copy, int status,
                    struct pln_result *result) {
    if (status != PLN_OK) {
        pln_release(cache->cache, result->value); /* of what is absent: no bytes */
        result->value = NULL;
        return status < 0 ? pln_lua_push_status(L, status)
                          : push_code(L, NULL, pln_status_name(status));
    }
    if (result->value == NULL) {
        return push_code(L, "get: the value was lost when memory ran out", "no_memory");
    }
    if (!pln_lua_push_borrowed(L, cache, key, is_copy, result)) {
        pln_fail(PLN_EL2, "get: %s", pln_error_text());
        return pln_lua_push_failure(L, PLN_EL2);
    }
    lua_pushnil(L);
    lua_pushstring(L, pln_source_name(result->source));
    return 3;
}

static int push_many(lua_State *L, const struct lua_op *self, struct pln_lua_cache *cache) {
    struct pln_lua_batch batch = {.self = cache, .is_copy = self->is_copy};
    int status = pln_op_results(self->begun.op, &batch.n, &batch.results, &batch.statuses);
    lua_getiuservalue(L, 1, KEY);
    return status == PLN_OK ? pln_lua_push_answers(L, cache, &batch)
                            : pln_lua_push_failure(L, status);
}

/* result() -> as the method that was begun */
static int op_result(lua_State *L) {
    struct lua_op *self = to_op(L);
    struct pln_result result;
    lua_settop(L, 1);
    for (int i = 0; i < self->n_results; i++) {
        lua_getiuservalue(L, 1, RESULT + i);
    }
    if (self->n_results > 0) {
        return self->n_results;
    }
    if (self->begun.op == NULL) {
        return push_code(L, "the op was cancelled", "cancelled");
    }
    if (pln_op_look(self->begun.op) != PLN_OP_READY) {
        return luaL_error(L, "the op is not ready: wait until op:ready() is true");
    }
    if (self->kind == GETS_MANY) {
        return keep(L, 1, self, push_many(L, self, cache_of(L)));
    }
    int status = pln_op_result(self->begun.op, &result);
    if (self->kind == CALLS) {
        return keep(L, 1, self, pln_lua_call_push(L, self->begun.call, status));
    }
    if (status == PLN_ELOADER && self->has_message) { /* whole: the core's text is cut */
        lua_pushnil(L);
        lua_getiuservalue(L, 1, EXTRAS);
        lua_pushstring(L, pln_status_name(status));
        return keep(L, 1, self, 3);
    }
    lua_getiuservalue(L, 1, KEY);
    return keep(L, 1, self, push_get(L, cache_of(L), 2, self->is_copy, status, &result));
}

/* ---- waiting ---- */

static int op_ready(lua_State *L) {
    struct lua_op *self = to_op(L);
    lua_pushboolean(L, self->begun.op == NULL || pln_op_look(self->begun.op) == PLN_OP_READY);
    return 1;
}

static int op_wants_load(lua_State *L) {
    struct lua_op *self = to_op(L);
    lua_pushboolean(L, self->begun.op != NULL && pln_op_look(self->begun.op) == PLN_OP_WANTS_LOAD);
    return 1;
}

/* pollfd() -> the descriptor of the cache's ops | nil, message, code */
static int op_pollfd(lua_State *L) {
    to_op(L);
    struct pln_lua_cache *cache = cache_of(L);
    if (cache->cache == NULL) {
        return push_code(L, "the cache was closed, and the descriptor with it", "closed");
    }
    int fd = pln_news_fd(cache->news);
    if (fd < 0) {
        return pln_lua_push_failure(L, fd);
    }
    lua_pushinteger(L, fd);
    return 1;
}

static int op_events(lua_State *L) {
    to_op(L);
    lua_pushliteral(L, "r");
    return 1;
}

/* timeout() -> seconds; nil: only the descriptor need be waited for */
static int op_timeout(lua_State *L) {
    struct lua_op *self = to_op(L);
    pln_ms left = self->begun.op == NULL ? 0 : pln_op_timeout(self->begun.op);
    if (left == PLN_FOREVER) {
        lua_pushnil(L);
    } else {
        lua_pushnumber(L, (lua_Number) left / 1000);
    }
    return 1;
}

static int op_cancel(lua_State *L) {
    struct lua_op *self = to_op(L);
    drop(self);
    return 0;
}

/* ---- loading ---- */

/* The frame of load(): the op, its message handler, and what is called. */
enum { HANDLER = 2, FUNCTION };

static int add_traceback(lua_State *L) {
    const char *text = luaL_tolstring(L, 1, NULL);
    luaL_traceback(L, L, text, 1);
    return 1;
}

/* Pushes the loader: the call's own, or that which the rule calls for; nil: there is none. */
static void push_loader(lua_State *L, const struct lua_op *self) {
    const char *name = pln_op_loader(self->begun.op);
    if (name == NULL) {
        lua_getiuservalue(L, 1, LOADER);
        return;
    }
    lua_getiuservalue(L, 1, CACHE);
    if (lua_getiuservalue(L, -1, 1) == LUA_TTABLE) { /* the loaders by name: control.c */
        lua_getfield(L, -1, name);
        lua_remove(L, -2);
    }
    lua_remove(L, -2);
}

/* Pushes key and further arguments. */
static void push_arguments(lua_State *L) {
    lua_getiuservalue(L, 1, KEY);
    if (lua_getiuservalue(L, 1, EXTRAS) != LUA_TTABLE) {
        lua_pop(L, 1);
        return;
    }
    int extras = lua_gettop(L);
    lua_getfield(L, extras, "n");
    int n = (int) lua_tointeger(L, -1);
    lua_pop(L, 1);
    luaL_checkstack(L, n + LUA_MINSTACK, "too many arguments for the loader");
    for (int i = 1; i <= n; i++) {
        lua_rawgeti(L, extras, i);
    }
    lua_remove(L, extras);
}

/* Ends the load with the failure whose message is on top of the stack. */
static void fail_load(lua_State *L, struct lua_op *self) {
    const char *text = lua_type(L, -1) == LUA_TSTRING ? lua_tostring(L, -1) : "the loader failed";
    lua_pushvalue(L, -1);
    self->has_message = lua_type(L, -1) == LUA_TSTRING;
    lua_setiuservalue(L, 1, EXTRAS);
    pln_op_load_end(self->begun.op, pln_fail(PLN_ELOADER, "%s", text));
}

/* The loader has returned, or raised. */
static int loaded(lua_State *L, int raised, lua_KContext context) {
    struct lua_op *self = to_op(L);
    (void) context;
    self->is_loading = false;
    struct pln_load *load = self->begun.op == NULL ? NULL : pln_op_load(self->begun.op);
    if (load == NULL) { /* it was cancelled, or the cache closed, while the loader ran */
        lua_pushboolean(L, false);
        return 1;
    }
    struct pln_lua_cache *cache = cache_of(L);
    cache->n_running++; /* a finalizer that runs meanwhile must not close the cache */
    int status = PLN_ELOADER;
    if ((raised == LUA_OK || raised == LUA_YIELD) && lua_checkstack(L, LUA_MINSTACK)) {
        int n = lua_gettop(L) - HANDLER;
        struct pln_bytes key;
        lua_getiuservalue(L, 1, KEY);
        key.data = lua_tolstring(L, -1, &key.len); /* a string, which the op keeps */
        lua_pop(L, 1);
        status = pln_lua_take_loaded(L, n, cache->cache, key, load);
    }
    bool is_wanted = self->begun.op != NULL; /* or one cancelled it */
    if (is_wanted && status == PLN_ELOADER) {
        fail_load(L, self);
    } else if (is_wanted) {
        pln_op_load_end(self->begun.op, status);
    }
    cache->n_running--;
    lua_pushboolean(L, is_wanted);
    return 1;
}

/* load() -> whether there was a load to be run, and its value is wanted yet. May yield. */
static int op_load(lua_State *L) {
    struct lua_op *self = to_op(L);
    lua_settop(L, 1);
    if (self->begun.op == NULL || self->is_loading ||
        pln_op_look(self->begun.op) != PLN_OP_WANTS_LOAD) {
        lua_pushboolean(L, false);
        return 1;
    }
    lua_pushcfunction(L, add_traceback);
    push_loader(L, self);
    bool is_named = pln_op_loader(self->begun.op) != NULL;
    push_arguments(L);
    /* looked at last: what was allocated may have run a finalizer that closes the cache */
    struct pln_load *load = self->begun.op == NULL ? NULL : pln_op_load_begin(self->begun.op);
    if (load == NULL) {
        lua_pushboolean(L, false);
        return 1;
    }
    if (lua_isnil(L, FUNCTION)) {
        lua_pushfstring(L, "no loader '%s' is registered", pln_op_loader(self->begun.op));
        fail_load(L, self);
        lua_pushboolean(L, true);
        return 1;
    }
    if (self->takes_old || is_named) {
        pln_same_push_old(L, load);
    }
    self->is_loading = true;
    return loaded(L, lua_pcallk(L, lua_gettop(L) - FUNCTION, LUA_MULTRET, HANDLER, 0, loaded), 0);
}

/* ---- beginning ---- */

static const luaL_Reg metamethods[] = {{"__close", op_cancel}, {"__gc", op_cancel}, {NULL, NULL}};
static const luaL_Reg methods[] = {
    {"ready", op_ready},     {"result", op_result}, {"wants_load", op_wants_load},
    {"load", op_load},       {"pollfd", op_pollfd}, {"events", op_events},
    {"timeout", op_timeout}, {"cancel", op_cancel}, {NULL, NULL}};

/* Pushes an op of the cache at 1. */
static struct lua_op *push_op(lua_State *L, enum op_kind kind) {
    bool is_call = kind == CALLS;
    struct lua_op *self = lua_newuserdatauv(L, sizeof *self,
                                            is_call ? N_CALL_VALUES : N_USER_VALUES);
    *self = (struct lua_op){.kind = kind};
    lua_pushvalue(L, 1);
    lua_setiuservalue(L, -2, CACHE);
    pln_lua_set_class(L, op_class, metamethods, methods);
    return self;
}

struct pln_lua_begun *pln_lua_push_call(lua_State *L) {
    return &push_op(L, CALLS)->begun;
}

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
    lua_setiuservalue(L, op, KEY);
    if (loader == 0) {
        return;
    }
    lua_pushvalue(L, loader);
    lua_setiuservalue(L, op, LOADER);
    if (last > loader) {
        lua_createtable(L, last - loader, 1);
        for (int i = loader + 1; i <= last; i++) {
            lua_pushvalue(L, i);
            lua_rawseti(L, -2, i - loader);
        }
        lua_pushinteger(L, last - loader);
        lua_setfield(L, -2, "n");
        lua_setiuservalue(L, op, EXTRAS);
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
    struct lua_op *self = push_op(L, GETS);
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
        keep(L, op, self, push_get(L, cache, 2, self->is_copy, status, &result));
    }
    lua_pushvalue(L, op);
    return 1;
}

/* Pushes the state's spare op, which is empty and knows no cache; it stays the spare one. */
static struct lua_op *push_spare(lua_State *L) {
    if (lua_rawgetp(L, LUA_REGISTRYINDEX, &spare_op) != LUA_TUSERDATA) {
        struct lua_op *self = lua_newuserdatauv(L, sizeof *self, N_USER_VALUES);
        *self = (struct lua_op){.kind = GETS};
        pln_lua_set_class(L, op_class, metamethods, methods);
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
    struct lua_op *self = push_spare(L);
    int op = lua_gettop(L);
    int status = pln_lua_need_news(L, cache);
    if (status == PLN_OK) {
        status = pln_begin_get(cache->news, asked.key, &asked.options, asked.flags, &result,
                               &self->begun.op);
    }
    if (self->begun.op == NULL) {
        int n = status < 0 ? pln_lua_push_status(L, status)
                           : push_get(L, cache, 2, asked.is_copy, status, &result);
        lua_pushboolean(L, false);
        lua_insert(L, -n - 1); /* between its results and what it may have left below them */
        return n + 1;
    }
    lua_pushnil(L);
    lua_rawsetp(L, LUA_REGISTRYINDEX, &spare_op);
    lua_pushvalue(L, 1);
    lua_setiuservalue(L, op, CACHE);
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
    struct lua_op *self = push_op(L, GETS_MANY);
    lua_pushvalue(L, texts);
    lua_setiuservalue(L, -2, KEY);
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
