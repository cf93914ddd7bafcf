/* SPDX-License-Identifier: MIT
 *
 * op.c - ops: what was begun and is looked at until it is ready, by ready, wants_load, load,
 * result.
 *
 * An op holds its cache as a user value. What it brought is kept as user values too, so it is had
 * from the core once, and the core's op is freed then. Closing the cache ends what is under way.
 *
 * A loader runs in the coroutine that calls op:load(), outside all calls of the core's, and may
 * yield there. So nothing of the core's is held meanwhile but the op itself: when the loader
 * returns, it is asked anew whether there is still a load to be taken.
 */
#include "op.h"

static const char op_class[] = "perilune.op";

static struct pln_lua_op *to_op(lua_State *L) {
    return luaL_checkudata(L, 1, op_class);
}

/* The cache of the op at 1; it may be closed. */
static struct pln_lua_cache *cache_of(lua_State *L) {
    lua_getiuservalue(L, 1, OP_CACHE);
    struct pln_lua_cache *cache = lua_touserdata(L, -1);
    lua_pop(L, 1);
    return cache;
}

/* ---- results ---- */

/* Its results are known, or nobody wants them. */
static void drop(struct pln_lua_op *self) {
    pln_op_free(self->begun.op);
    pln_lua_call_drop(self->begun.call);
    self->begun = (struct pln_lua_begun){NULL, NULL};
}

/* Keeps the n results on top of the stack for the op at `index`; they stay. */
int pln_lua_op_keep(lua_State *L, int index, struct pln_lua_op *self, int n) {
    int first = lua_gettop(L) - n + 1;
    for (int i = 0; i < n; i++) {
        lua_pushvalue(L, first + i);
        lua_setiuservalue(L, index, OP_RESULT + i);
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
int pln_lua_op_push_get(lua_State *L, struct pln_lua_cache *cache, int key, bool is_copy,
                        int status, struct pln_result *result) {
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

static int push_many(lua_State *L, const struct pln_lua_op *self, struct pln_lua_cache *cache) {
    struct pln_lua_batch batch = {.self = cache, .is_copy = self->is_copy};
    int status = pln_op_results(self->begun.op, &batch.n, &batch.results, &batch.statuses);
    lua_getiuservalue(L, 1, OP_KEY);
    return status == PLN_OK ? pln_lua_push_answers(L, cache, &batch)
                            : pln_lua_push_failure(L, status);
}

/* result() -> as the method that was begun */
static int op_result(lua_State *L) {
    struct pln_lua_op *self = to_op(L);
    struct pln_result result;
    lua_settop(L, 1);
    for (int i = 0; i < self->n_results; i++) {
        lua_getiuservalue(L, 1, OP_RESULT + i);
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
    if (self->kind == OP_LOCKS) {
        return pln_lua_op_keep(L, 1, self, pln_lua_push_granted(L, &self->begun));
    }
    if (self->kind == OP_GETS_MANY) {
        return pln_lua_op_keep(L, 1, self, push_many(L, self, cache_of(L)));
    }
    int status = pln_op_result(self->begun.op, &result);
    if (self->kind == OP_CALLS) {
        return pln_lua_op_keep(L, 1, self, pln_lua_call_push(L, self->begun.call, status));
    }
    if (status == PLN_ELOADER && self->has_message) { /* whole: the core's text is cut */
        lua_pushnil(L);
        lua_getiuservalue(L, 1, OP_EXTRAS);
        lua_pushstring(L, pln_status_name(status));
        return pln_lua_op_keep(L, 1, self, 3);
    }
    lua_getiuservalue(L, 1, OP_KEY);
    return pln_lua_op_keep(L, 1, self,
                           pln_lua_op_push_get(L, cache_of(L), 2, self->is_copy, status, &result));
}

/* ---- waiting ---- */

static int op_ready(lua_State *L) {
    struct pln_lua_op *self = to_op(L);
    lua_pushboolean(L, self->begun.op == NULL || pln_op_look(self->begun.op) == PLN_OP_READY);
    return 1;
}

static int op_wants_load(lua_State *L) {
    struct pln_lua_op *self = to_op(L);
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
    struct pln_lua_op *self = to_op(L);
    pln_ms left = self->begun.op == NULL ? 0 : pln_op_timeout(self->begun.op);
    if (left == PLN_FOREVER) {
        lua_pushnil(L);
    } else {
        lua_pushnumber(L, (lua_Number) left / 1000);
    }
    return 1;
}

static int op_cancel(lua_State *L) {
    struct pln_lua_op *self = to_op(L);
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
static void push_loader(lua_State *L, const struct pln_lua_op *self) {
    const char *name = pln_op_loader(self->begun.op);
    if (name == NULL) {
        lua_getiuservalue(L, 1, OP_LOADER);
        return;
    }
    lua_getiuservalue(L, 1, OP_CACHE);
    if (lua_getiuservalue(L, -1, 1) == LUA_TTABLE) { /* the loaders by name: control.c */
        lua_getfield(L, -1, name);
        lua_remove(L, -2);
    }
    lua_remove(L, -2);
}

/* Pushes key and further arguments. */
static void push_arguments(lua_State *L) {
    lua_getiuservalue(L, 1, OP_KEY);
    if (lua_getiuservalue(L, 1, OP_EXTRAS) != LUA_TTABLE) {
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
static void fail_load(lua_State *L, struct pln_lua_op *self) {
    const char *text = lua_type(L, -1) == LUA_TSTRING ? lua_tostring(L, -1) : "the loader failed";
    lua_pushvalue(L, -1);
    self->has_message = lua_type(L, -1) == LUA_TSTRING;
    lua_setiuservalue(L, 1, OP_EXTRAS);
    pln_op_load_end(self->begun.op, pln_fail(PLN_ELOADER, "%s", text));
}

/* The loader has returned, or raised. */
static int loaded(lua_State *L, int raised, lua_KContext context) {
    struct pln_lua_op *self = to_op(L);
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
        lua_getiuservalue(L, 1, OP_KEY);
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
    struct pln_lua_op *self = to_op(L);
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

/* ---- the class ---- */

static const luaL_Reg metamethods[] = {{"__close", op_cancel}, {"__gc", op_cancel}, {NULL, NULL}};
static const luaL_Reg methods[] = {
    {"ready", op_ready},     {"result", op_result}, {"wants_load", op_wants_load},
    {"load", op_load},       {"pollfd", op_pollfd}, {"events", op_events},
    {"timeout", op_timeout}, {"cancel", op_cancel}, {NULL, NULL}};

struct pln_lua_op *pln_lua_op_new(lua_State *L, enum pln_lua_op_kind kind) {
    bool is_get = kind == OP_GETS || kind == OP_GETS_MANY;
    struct pln_lua_op *self = lua_newuserdatauv(L, sizeof *self,
                                                is_get ? OP_N_USER_VALUES : OP_N_CALL_VALUES);
    *self = (struct pln_lua_op){.kind = kind};
    pln_lua_set_class(L, op_class, metamethods, methods);
    return self;
}

struct pln_lua_op *pln_lua_op_push(lua_State *L, int cache, enum pln_lua_op_kind kind) {
    struct pln_lua_op *self = pln_lua_op_new(L, kind);
    lua_pushvalue(L, cache);
    lua_setiuservalue(L, -2, OP_CACHE);
    return self;
}

struct pln_lua_begun *pln_lua_push_call(lua_State *L, int cache) {
    return &pln_lua_op_push(L, cache, OP_CALLS)->begun;
}

void pln_lua_push_known(lua_State *L, int cache, int n) {
    struct pln_lua_op *self = pln_lua_op_push(L, cache, OP_CALLS);
    lua_insert(L, -n - 1);
    pln_lua_op_keep(L, lua_gettop(L) - n, self, n);
    lua_pop(L, n);
}
