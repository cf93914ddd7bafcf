/* SPDX-License-Identifier: MIT
 *
 * async_calls.c - call_async: methods that write, carried out by a worker.
 *
 *     local op = cache:call_async("set", "user:7", user, { ttl = "15m" })
 *
 * Arguments are read and checked as by the method itself; then what it needs is copied into one
 * block, which is the call's, and of which Lua knows nothing.
 */
#include "module.h"

#include <limits.h>

/* What a method was given. Bytes are Lua's until they are copied. */
struct call {
    int (*run)(struct pln_cache *cache, const struct call *call);
    struct pln_bytes first, value; /* key, tag, prefix or pattern */
    struct pln_set_options set;
    pln_ms ttl; /* of touch; of flush: its timeout */
    const struct pln_bytes *list;
    size_t n;
};

/* ---- in a worker ---- */

static int run_set(struct pln_cache *cache, const struct call *call) {
    return pln_set(cache, call->first, call->value, &call->set);
}

static int run_delete(struct pln_cache *cache, const struct call *call) {
    return pln_delete(cache, call->first);
}

static int run_delete_many(struct pln_cache *cache, const struct call *call) {
    return pln_delete_many(cache, call->list, call->n);
}

static int run_expire(struct pln_cache *cache, const struct call *call) {
    return pln_expire(cache, call->first);
}

static int run_touch(struct pln_cache *cache, const struct call *call) {
    return pln_touch(cache, call->first, call->ttl);
}

static int run_tag(struct pln_cache *cache, const struct call *call) {
    return pln_invalidate_tag(cache, call->first);
}

static int run_prefix(struct pln_cache *cache, const struct call *call) {
    return pln_invalidate_prefix(cache, call->first);
}

static int run_pattern(struct pln_cache *cache, const struct call *call) {
    return pln_invalidate_pattern(cache, call->first);
}

static int run_flush(struct pln_cache *cache, const struct call *call) {
    return pln_flush(cache, call->ttl);
}

static int run_clear(struct pln_cache *cache, const struct call *call) {
    (void) call;
    return pln_clear(cache);
}

static int run(struct pln_cache *cache, void *arg) {
    const struct call *call = arg;
    return call->run(cache, call);
}

/* ---- arguments, from 3 on; what they push stays ---- */

static void take_first(lua_State *L, struct call *call) {
    call->first = pln_lua_check_key(L, 3);
}

static void take_none(lua_State *L, struct call *call) {
    (void) L;
    (void) call;
}

static void take_touch(lua_State *L, struct call *call) {
    call->first = pln_lua_check_key(L, 3);
    call->ttl = pln_lua_check_duration(L, 4, "ttl");
}

static void take_flush(lua_State *L, struct call *call) {
    call->ttl = lua_isnil(L, 3) ? 0 : pln_lua_check_duration(L, 3, "the timeout of flush");
}

static void take_set(lua_State *L, struct call *call) {
    struct pln_bytes *tags = lua_newuserdatauv(L, PLN_LUA_MAX_TAGS * sizeof *tags, 0);
    call->first = pln_lua_check_key(L, 3);
    call->value = pln_bytes_of("", 0);
    pln_lua_set_options(L, 5, &call->set, tags);
    call->set.is_absent = lua_isnil(L, 4);
    if (!call->set.is_absent && pln_lua_encode(L, 4, &call->value, &call->set.format) < 0) {
        luaL_argerror(L, 4, pln_error_text());
    }
    call->list = call->set.tags;
    call->n = call->set.n_tags;
}

static void take_list(lua_State *L, struct call *call) {
    luaL_checktype(L, 3, LUA_TTABLE);
    size_t n = lua_rawlen(L, 3);
    luaL_argcheck(L, n <= INT_MAX / sizeof(struct pln_bytes), 3, "too many keys");
    struct pln_bytes *keys = lua_newuserdatauv(L, n * sizeof *keys, 0);
    pln_lua_take_keys(L, 3, keys, n);
    call->list = keys;
    call->n = n;
}

static const struct method {
    const char *name;
    int n_arguments; /* at most */
    void (*take)(lua_State *L, struct call *call);
    int (*run)(struct pln_cache *cache, const struct call *call);
} methods[] = {
    {"set", 3, take_set, run_set},
    {"delete", 1, take_first, run_delete},
    {"delete_many", 1, take_list, run_delete_many},
    {"expire", 1, take_first, run_expire},
    {"touch", 2, take_touch, run_touch},
    {"invalidate_tag", 1, take_first, run_tag},
    {"invalidate_prefix", 1, take_first, run_prefix},
    {"invalidate_pattern", 1, take_first, run_pattern},
    {"clear", 0, take_none, run_clear},
    {"flush", 1, take_flush, run_flush},
};

/* The method named at 2. Raises where there is none. */
static const struct method *check_method(lua_State *L) {
    const char *name = luaL_checkstring(L, 2);
    luaL_Buffer all;
    for (size_t i = 0; i < PLN_ARRAY_LEN(methods); i++) {
        if (strcmp(methods[i].name, name) == 0) {
            return &methods[i];
        }
    }
    luaL_buffinit(L, &all);
    for (size_t i = 0; i < PLN_ARRAY_LEN(methods); i++) {
        luaL_addstring(&all, i == 0 ? "" : ", ");
        luaL_addstring(&all, methods[i].name);
    }
    luaL_pushresult(&all);
    lua_pushfstring(L, "no method '%s' to be called so, only %s", name, lua_tostring(L, -1));
    luaL_argerror(L, 2, lua_tostring(L, -1));
    return NULL;
}

/* ---- the call's own memory ---- */

static struct pln_bytes move(char **at, struct pln_bytes bytes) {
    struct pln_bytes moved = pln_bytes_of(*at, bytes.len);
    if (bytes.len > 0) {
        memcpy(*at, bytes.data, bytes.len);
    }
    *at += bytes.len;
    return moved;
}

/* A copy that has all bytes in its own block; NULL: no memory. Calls nothing of Lua's. */
static struct call *copy(const struct call *given) {
    size_t size = sizeof *given + given->n * sizeof(struct pln_bytes) + given->first.len +
                  given->value.len;
    for (size_t i = 0; i < given->n; i++) {
        size += given->list[i].len;
    }
    struct call *call = malloc(size);
    if (call == NULL) {
        return NULL;
    }
    *call = *given;
    struct pln_bytes *list = (void *) (call + 1);
    char *at = (void *) (list + given->n);
    call->first = move(&at, given->first);
    call->value = move(&at, given->value);
    for (size_t i = 0; i < given->n; i++) {
        list[i] = move(&at, given->list[i]);
    }
    call->list = list;
    call->set.tags = given->n > 0 ? list : NULL;
    return call;
}

int pln_lua_call_async(lua_State *L) {
    struct pln_lua_cache *cache = pln_lua_opened(L, 1);
    const struct method *method = check_method(L);
    struct call given = {.run = method->run};
    if (method->run == run_set) {
        luaL_checkany(L, 4);
    }
    lua_settop(L, 2 + method->n_arguments);
    method->take(L, &given);
    struct pln_op **op = pln_lua_push_op(L, PLN_LUA_CALLS);
    int status = pln_lua_need_news(L, cache);
    if (status < 0) {
        return pln_lua_push_failure(L, status);
    }
    struct call *call = copy(&given);
    status = call == NULL ? pln_fail(PLN_ENOMEM, "call_async: no memory for the arguments")
                          : pln_begin_call(cache->news, run, free, call, op);
    return status == PLN_OK ? 1 : pln_lua_push_failure(L, status);
}
