/* SPDX-License-Identifier: MIT
 *
 * locks.c - locks in Lua: cache:lock(), what it gives, and the servers that may keep one together.
 *
 *     local lock <close> = assert(cache:lock("report", "30s", { wait = "5s" }))
 *
 * A lock holds its cache as a user value, so that is not collected before it. Where the cache was
 * closed first, the lock is forgotten, and ends with its ttl.
 */
#include "op.h"
#include "put_off.h"

#include <math.h>

static const char lock_class[] = "perilune.lock", nodes_class[] = "perilune.nodes";

enum { CACHE = 1, N_USER_VALUES = CACHE, MOST_URLS = 15 };

struct lua_lock {
    struct pln_lock *lock; /* NULL: given back */
};

struct lua_nodes {
    struct pln_lock_nodes *nodes;
};

/* ---- servers ---- */

static int nodes_gc(lua_State *L) {
    struct lua_nodes *self = luaL_checkudata(L, 1, nodes_class);
    pln_lock_nodes_free(self->nodes);
    self->nodes = NULL;
    return 0;
}

static const luaL_Reg nodes_metamethods[] = {{"__gc", nodes_gc}, {NULL, NULL}};

/* nodes { url, ... [, timeout =] } -> the servers */
int pln_lua_open_nodes(lua_State *L) {
    const char *urls[MOST_URLS];
    luaL_checktype(L, 1, LUA_TTABLE);
    lua_settop(L, 1);
    lua_Unsigned n = lua_rawlen(L, 1);
    luaL_argcheck(L, n >= 1 && n <= MOST_URLS, 1, "expected a list of 1 to 15 URLs");
    luaL_checkstack(L, MOST_URLS + 8, "URLs");
    for (lua_Unsigned i = 0; i < n; i++) {
        int type = lua_rawgeti(L, 1, (lua_Integer) i + 1); /* stays, to keep the text */
        luaL_argcheck(L, type == LUA_TSTRING, 1, "a URL is a string");
        urls[i] = lua_tostring(L, -1);
    }
    pln_ms timeout = pln_lua_given_duration(L, 1, "timeout");
    struct lua_nodes *self = lua_newuserdatauv(L, sizeof *self, 0);
    self->nodes = NULL;
    pln_lua_set_class(L, nodes_class, nodes_metamethods, NULL);
    int status = pln_lock_nodes_new(urls, (size_t) n, timeout, &self->nodes);
    if (status == PLN_EINVAL) {
        return luaL_argerror(L, 1, pln_error_text());
    }
    return status < 0 ? pln_lua_push_failure(L, status) : 1;
}

/* ---- what is held ---- */

static struct lua_lock *to_lock(lua_State *L) {
    return luaL_checkudata(L, 1, lock_class);
}

/* Whether the cache of the lock at 1 is open yet. */
static bool has_cache(lua_State *L) {
    lua_getiuservalue(L, 1, CACHE);
    struct pln_lua_cache *cache = lua_touserdata(L, -1);
    lua_pop(L, 1);
    return cache != NULL && cache->cache != NULL;
}

static int push_lost(lua_State *L) {
    lua_pushnil(L);
    lua_pushnil(L);
    lua_pushliteral(L, "lost");
    return 3;
}

static int push_outcome(lua_State *L, int status) {
    return status == PLN_MISS ? push_lost(L) : pln_lua_push_status(L, status);
}

/* Ends the lock at 1, or forgets it where its cache has gone. */
static int give_back(lua_State *L) {
    struct lua_lock *self = to_lock(L);
    struct pln_lock *lock = self->lock;
    self->lock = NULL;
    if (lock == NULL) {
        return PLN_MISS;
    }
    if (!has_cache(L)) {
        pln_lock_free(lock);
        return pln_fail(PLN_ECLOSED, "lock: its cache was closed; it ends with its ttl");
    }
    return pln_unlock(lock);
}

/* release() -> true | nil, nil, "lost" | nil, message, code */
static int lock_release(lua_State *L) {
    return push_outcome(L, give_back(L));
}

static int lock_close(lua_State *L) {
    give_back(L);
    return 0;
}

/* extend([ttl]) -> true | nil, nil, "lost" | nil, message, code */
static int lock_extend(lua_State *L) {
    struct lua_lock *self = to_lock(L);
    pln_ms ttl = lua_isnoneornil(L, 2) ? 0 : pln_lua_check_duration(L, 2, "ttl");
    if (self->lock == NULL) {
        return push_lost(L);
    }
    if (!has_cache(L)) {
        return luaL_error(L, "attempt to use a closed cache");
    }
    return push_outcome(L, pln_lock_extend(self->lock, ttl));
}

/* fence() -> a number that grows with every grant; nil once it was given back */
static int lock_fence(lua_State *L) {
    struct lua_lock *self = to_lock(L);
    if (self->lock == NULL) {
        luaL_pushfail(L);
    } else {
        lua_pushinteger(L, pln_lock_fence(self->lock));
    }
    return 1;
}

/* left() -> seconds for which it is sure to be held */
static int lock_left(lua_State *L) {
    struct lua_lock *self = to_lock(L);
    pln_ms left = self->lock == NULL ? 0 : pln_lock_left(self->lock);
    lua_pushnumber(L, (lua_Number) left / 1000);
    return 1;
}

/* ---- put off ---- */

static int run_release(struct pln_cache *cache, struct pln_lua_call *call) {
    struct pln_lock *lock = call->lock;
    (void) cache;
    call->lock = NULL;
    return lock == NULL ? PLN_MISS : pln_unlock(lock);
}

static int run_extend(struct pln_cache *cache, struct pln_lua_call *call) {
    (void) cache;
    return call->lock == NULL ? PLN_MISS : pln_lock_extend(call->lock, call->ttl);
}

static int push_call(lua_State *L, const struct pln_lua_call *call, int status) {
    (void) call;
    return push_outcome(L, status);
}

/* call_async("release"), call_async("extend", [ttl]) -> op | nil, message, code */
static int lock_call_async(lua_State *L) {
    static const char *const names[] = {"release", "extend", NULL};
    struct lua_lock *self = to_lock(L);
    bool is_release = luaL_checkoption(L, 2, NULL, names) == 0;
    struct pln_lua_call call = {
        .run = is_release ? run_release : run_extend, .push = push_call, .lock_at = &self->lock};
    call.ttl = is_release || lua_isnoneornil(L, 3) ? 0 : pln_lua_check_duration(L, 3, "ttl");
    lua_settop(L, 2);
    lua_getiuservalue(L, 1, CACHE);
    if (self->lock == NULL || (is_release && !has_cache(L))) {
        pln_lua_push_known(L, 3, is_release ? lock_release(L) : push_lost(L));
        return 1;
    }
    int n = pln_lua_put_off(L, 3, &call);
    if (n == 1 && is_release) {
        pln_lock_free(self->lock); /* the worker has a reference */
        self->lock = NULL;
    }
    return n;
}

static const luaL_Reg lock_metamethods[] = {
    {"__close", lock_close}, {"__gc", lock_close}, {NULL, NULL}};
static const luaL_Reg lock_methods[] = {{"release", lock_release},       {"extend", lock_extend},
                                        {"fence", lock_fence},           {"left", lock_left},
                                        {"call_async", lock_call_async}, {NULL, NULL}};

/* ---- taking one ---- */

/* Pushes the servers of the table at 4, or nil. */
static struct pln_lock_nodes *push_nodes(lua_State *L) {
    if (lua_isnoneornil(L, 4) || lua_getfield(L, 4, "nodes") == LUA_TNIL) {
        lua_settop(L, 4);
        lua_pushnil(L);
        return NULL;
    }
    struct lua_nodes *nodes = luaL_testudata(L, -1, nodes_class);
    luaL_argcheck(L, nodes != NULL && nodes->nodes != NULL, 4,
                  "option 'nodes' must be what perilune.nodes made");
    return nodes->nodes;
}

/* Pushes a lock of the cache at index `cache`, with nothing held yet. */
static struct lua_lock *push_lock(lua_State *L, int cache) {
    cache = lua_absindex(L, cache);
    struct lua_lock *self = lua_newuserdatauv(L, sizeof *self, N_USER_VALUES);
    self->lock = NULL;
    lua_pushvalue(L, cache);
    lua_setiuservalue(L, -2, CACHE);
    pln_lua_set_class(L, lock_class, lock_metamethods, lock_methods);
    return self;
}

/* The lock is on top of the stack. */
static int push_taken(lua_State *L, int status, pln_ms left) {
    if (status == PLN_OK) {
        return 1;
    }
    if (status != PLN_PENDING) {
        return pln_lua_push_status(L, status);
    }
    lua_pushnil(L);
    lua_pushnil(L);
    lua_pushliteral(L, "busy");
    lua_pushnumber(L, left == PLN_FOREVER ? HUGE_VAL : (lua_Number) left / 1000);
    return 4;
}

int pln_lua_push_granted(lua_State *L, const struct pln_lua_begun *begun) {
    pln_ms left = 0;
    lua_getiuservalue(L, 1, OP_CACHE);
    struct lua_lock *self = push_lock(L, -1);
    /* looked at last: a finalizer may have cancelled it */
    int status = begun->op == NULL ? pln_fail(PLN_ECLOSED, "the op was cancelled")
                                   : pln_op_lock(begun->op, &left, &self->lock);
    return push_taken(L, status, left);
}

/* The cache at 1 is a stand-in. */
static int begin_lock(lua_State *L, struct pln_bytes name, const struct pln_lock_options *options) {
    pln_lua_handle(L, 1)->has_put_off = true;
    lua_getiuservalue(L, 1, 1);
    struct pln_lua_op *op = pln_lua_op_push(L, lua_gettop(L), OP_LOCKS);
    struct pln_lua_cache *cache = pln_lua_opened(L, 1);
    int status = pln_lua_need_news(L, cache);
    if (status == PLN_OK) {
        status = pln_begin_lock(cache->news, name, options, &op->begun.op);
    }
    return status == PLN_OK ? 1 : pln_lua_push_status(L, status);
}

/* lock(name [, ttl [, { wait =, retry =, nodes = }]])
 * -> lock | nil, nil, "busy", seconds | nil, message, code */
static int cache_lock(lua_State *L) {
    static const char *const names[] = {"wait", "retry", "nodes", NULL};
    struct pln_lock_options options = {0};
    pln_lua_opened(L, 1);
    struct pln_bytes name = pln_lua_check_key(L, 2);
    pln_ms left = 0;
    lua_settop(L, 4);
    options.ttl_ms = lua_isnil(L, 3) ? 0 : pln_lua_check_duration(L, 3, "ttl");
    if (!lua_isnil(L, 4)) {
        luaL_checktype(L, 4, LUA_TTABLE);
        pln_lua_check_names(L, 4, names);
    }
    options.wait_ms = pln_lua_given_duration(L, 4, "wait");
    options.retry_ms = pln_lua_given_duration(L, 4, "retry");
    options.nodes = push_nodes(L); /* at 5 */
    if (pln_lua_is_stand_in(L, 1)) {
        return begin_lock(L, name, &options);
    }
    struct lua_lock *self = push_lock(L, 1);
    int status = pln_lock(pln_lua_opened(L, 1)->cache, name, &options, &left, &self->lock);
    return push_taken(L, status, left);
}

const luaL_Reg pln_lua_locks[] = {{"lock", cache_lock}, {NULL, NULL}};
