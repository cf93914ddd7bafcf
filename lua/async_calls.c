/* SPDX-License-Identifier: MIT
 *
 * async_calls.c - call_async: methods that go to Redis, carried out by a worker.
 *
 *     local op = cache:call_async("set", "user:7", user, { ttl = "15m" })
 *
 * Arguments are read and checked as by the method itself, with its functions.
 */
#include "put_off.h"

/* ---- in a worker ---- */

static int run_set(struct pln_cache *cache, struct pln_lua_call *call) {
    return pln_set(cache, call->first, call->value, &call->set);
}

static int run_delete(struct pln_cache *cache, struct pln_lua_call *call) {
    return pln_delete(cache, call->first);
}

static int run_delete_many(struct pln_cache *cache, struct pln_lua_call *call) {
    return pln_delete_many(cache, call->list, call->n);
}

static int run_expire(struct pln_cache *cache, struct pln_lua_call *call) {
    return pln_expire(cache, call->first);
}

static int run_touch(struct pln_cache *cache, struct pln_lua_call *call) {
    return pln_touch(cache, call->first, call->ttl);
}

static int run_tag(struct pln_cache *cache, struct pln_lua_call *call) {
    return pln_invalidate_tag(cache, call->first);
}

static int run_prefix(struct pln_cache *cache, struct pln_lua_call *call) {
    return pln_invalidate_prefix(cache, call->first);
}

static int run_pattern(struct pln_cache *cache, struct pln_lua_call *call) {
    return pln_invalidate_pattern(cache, call->first);
}

static int run_flush(struct pln_cache *cache, struct pln_lua_call *call) {
    return pln_flush(cache, call->ttl);
}

static int run_clear(struct pln_cache *cache, struct pln_lua_call *call) {
    (void) call;
    return pln_clear(cache);
}

static int run_raise(struct pln_cache *cache, struct pln_lua_call *call) {
    struct pln_field fields[PLN_LUA_MAX_FIELDS];
    for (size_t i = 0; i < call->n / 2; i++) {
        fields[i] = (struct pln_field){call->list[2 * i], call->list[2 * i + 1]};
    }
    return pln_raise(cache, call->first, fields, call->n / 2);
}

static int run_incr(struct pln_cache *cache, struct pln_lua_call *call) {
    return pln_incr(cache, call->first, call->number, &call->incr, &call->number);
}

static int run_cas(struct pln_cache *cache, struct pln_lua_call *call) {
    return pln_lua_cas_run(cache, call->first, call->value, &call->cas, &call->there);
}

static int run_count(struct pln_cache *cache, struct pln_lua_call *call) {
    return pln_counter_add(cache, call->first, call->number, call->ttl, &call->number);
}

static int run_counter(struct pln_cache *cache, struct pln_lua_call *call) {
    return pln_counter_get(cache, call->first, &call->number);
}

static int run_reset_counter(struct pln_cache *cache, struct pln_lua_call *call) {
    return pln_counter_reset(cache, call->first);
}

static int run_limit(struct pln_cache *cache, struct pln_lua_call *call) {
    return pln_limit(cache, call->first, &call->limit, &call->answer);
}

/* ---- results ---- */

static int push_number(lua_State *L, const struct pln_lua_call *call, int status) {
    if (status != PLN_OK) {
        return pln_lua_push_status(L, status);
    }
    lua_pushinteger(L, (lua_Integer) call->number);
    return 1;
}

static int push_cas(lua_State *L, const struct pln_lua_call *call, int status) {
    return pln_lua_cas_push(L, status, &call->there);
}

static int push_limit(lua_State *L, const struct pln_lua_call *call, int status) {
    return pln_lua_push_limit(L, status, &call->answer);
}

/* ---- arguments, from FIRST on; what they push stays ---- */

enum { FIRST = 3 };

static void take_first(lua_State *L, struct pln_lua_call *call) {
    call->first = pln_lua_check_key(L, FIRST);
}

static void take_none(lua_State *L, struct pln_lua_call *call) {
    (void) L;
    (void) call;
}

static void take_touch(lua_State *L, struct pln_lua_call *call) {
    take_first(L, call);
    call->ttl = pln_lua_check_duration(L, FIRST + 1, "ttl");
}

static void take_flush(lua_State *L, struct pln_lua_call *call) {
    call->ttl = lua_isnil(L, FIRST) ? 0 : pln_lua_check_duration(L, FIRST, "the timeout of flush");
}

static void take_set(lua_State *L, struct pln_lua_call *call) {
    struct pln_bytes *tags = lua_newuserdatauv(L, PLN_LUA_MAX_TAGS * sizeof *tags, 0);
    call->value = pln_lua_take_set(L, FIRST, &call->set, tags);
    take_first(L, call);
    call->list = call->set.tags;
    call->n = call->set.n_tags;
}

static void take_list(lua_State *L, struct pln_lua_call *call) {
    call->list = pln_lua_push_keys(L, FIRST, &call->n);
}

/* Names and values in turn. */
static void take_raise(lua_State *L, struct pln_lua_call *call) {
    struct pln_field fields[PLN_LUA_MAX_FIELDS];
    struct pln_bytes *list = lua_newuserdatauv(L, 2 * PLN_LUA_MAX_FIELDS * sizeof *list, 0);
    take_first(L, call);
    size_t n = pln_lua_take_fields(L, FIRST + 1, fields);
    for (size_t i = 0; i < n; i++) {
        list[2 * i] = fields[i].name;
        list[2 * i + 1] = fields[i].value;
    }
    call->list = list;
    call->n = 2 * n;
}

static void take_incr(lua_State *L, struct pln_lua_call *call) {
    call->number = pln_lua_take_incr(L, FIRST, &call->incr);
    take_first(L, call);
}

static void take_cas(lua_State *L, struct pln_lua_call *call) {
    call->value = pln_lua_take_cas(L, FIRST, &call->cas);
    take_first(L, call);
}

static void take_count(lua_State *L, struct pln_lua_call *call) {
    call->number = pln_lua_take_count(L, FIRST, &call->ttl);
    take_first(L, call);
}

static void take_limit(lua_State *L, struct pln_lua_call *call) {
    pln_lua_take_limit(L, FIRST, &call->limit);
    take_first(L, call);
}

static const struct method {
    const char *name;
    int n_arguments; /* at most */
    void (*take)(lua_State *L, struct pln_lua_call *call);
    int (*run)(struct pln_cache *cache, struct pln_lua_call *call);
    int (*push)(lua_State *L, const struct pln_lua_call *call, int status);
} methods[] = {
    {"set", 3, take_set, run_set, NULL},
    {"delete", 1, take_first, run_delete, NULL},
    {"delete_many", 1, take_list, run_delete_many, NULL},
    {"expire", 1, take_first, run_expire, NULL},
    {"touch", 2, take_touch, run_touch, NULL},
    {"invalidate_tag", 1, take_first, run_tag, NULL},
    {"invalidate_prefix", 1, take_first, run_prefix, NULL},
    {"invalidate_pattern", 1, take_first, run_pattern, NULL},
    {"clear", 0, take_none, run_clear, NULL},
    {"flush", 1, take_flush, run_flush, NULL},
    {"raise", 2, take_raise, run_raise, NULL},
    {"incr", 3, take_incr, run_incr, push_number},
    {"cas", 4, take_cas, run_cas, push_cas},
    {"count", 3, take_count, run_count, push_number},
    {"counter", 1, take_first, run_counter, push_number},
    {"reset_counter", 1, take_first, run_reset_counter, NULL},
    {"limit", 2, take_limit, run_limit, push_limit},
};

/* Of these the C function itself is called, and what it asks of the core is put off. */
static const luaL_Reg *const lists[] = {pln_lua_data, pln_lua_hashes, pln_lua_scans, pln_lua_locks,
                                        NULL};

int pln_lua_call_async(lua_State *L) {
    const char *names[PLN_ARRAY_LEN(methods) + 1] = {NULL};
    pln_lua_opened(L, 1);
    const char *name = luaL_checkstring(L, 2);
    for (size_t i = 0; i < PLN_ARRAY_LEN(methods); i++) {
        const struct method *method = &methods[i];
        names[i] = method->name;
        if (strcmp(method->name, name) == 0) {
            struct pln_lua_call given = {.run = method->run, .push = method->push};
            if (method->run == run_set) {
                luaL_checkany(L, FIRST + 1);
            }
            lua_settop(L, FIRST - 1 + method->n_arguments);
            method->take(L, &given);
            return pln_lua_put_off(L, 1, &given);
        }
    }
    const struct pln_lua_cache *stand_in = pln_lua_push_stand_in(L, 1);
    lua_replace(L, 1);
    return pln_lua_put_off_method(L, stand_in, names, lists);
}
