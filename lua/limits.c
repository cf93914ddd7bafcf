/* SPDX-License-Identifier: MIT
 *
 * limits.c - counters and limits in Lua. Times go in as durations and come out in seconds.
 */
#include "module.h"

lua_Integer pln_lua_take_count(lua_State *L, int at, pln_ms *ttl) {
    static const char *const names[] = {"ttl", NULL};
    pln_lua_check_key(L, at);
    lua_Integer by = luaL_optinteger(L, at + 1, 1);
    if (!lua_isnoneornil(L, at + 2)) {
        luaL_checktype(L, at + 2, LUA_TTABLE);
        pln_lua_check_names(L, at + 2, names);
    }
    *ttl = pln_lua_given_duration(L, at + 2, "ttl");
    return by;
}

/* A name's counter goes by so much. count(name [, by [, { ttl = }]]) -> its value */
static int cache_count(lua_State *L) {
    int64_t value;
    pln_ms ttl;
    pln_lua_opened(L, 1);
    lua_Integer by = pln_lua_take_count(L, 2, &ttl);
    struct pln_bytes name = pln_lua_check_key(L, 2);
    int status = pln_counter_add(pln_lua_opened(L, 1)->cache, name, by, ttl, &value);
    if (status != PLN_OK) {
        return pln_lua_push_status(L, status);
    }
    lua_pushinteger(L, value);
    return 1;
}

/* counter(name) -> its value; 0 where nothing was counted */
static int cache_counter(lua_State *L) {
    struct pln_lua_cache *self = pln_lua_opened(L, 1);
    int64_t value;
    int status = pln_counter_get(self->cache, pln_lua_check_key(L, 2), &value);
    if (status != PLN_OK) {
        return pln_lua_push_status(L, status);
    }
    lua_pushinteger(L, value);
    return 1;
}

/* reset_counter(name) -> true */
static int cache_reset_counter(lua_State *L) {
    struct pln_lua_cache *self = pln_lua_opened(L, 1);
    return pln_lua_push_status(L, pln_counter_reset(self->cache, pln_lua_check_key(L, 2)));
}

/* ---- limits ---- */

void pln_lua_take_limit(lua_State *L, int at, struct pln_limit_options *limit) {
    int index = at + 1;
    static const char *const names[] = {"rate", "per",      "kind",    "burst",
                                        "cost", "on_error", "timeout", NULL};
    static const char *const kinds[] = {"fixed", "sliding", "log", "bucket", NULL};
    static const char *const answers[] = {"allow", "deny", NULL};
    pln_lua_check_key(L, at);
    luaL_checktype(L, index, LUA_TTABLE);
    pln_lua_check_names(L, index, names);
    int kind = pln_lua_given_choice(L, index, "kind", kinds);
    *limit = (struct pln_limit_options){.rate = pln_lua_given_integer(L, index, "rate"),
                                        .per_ms = pln_lua_given_duration(L, index, "per"),
                                        .burst = pln_lua_given_integer(L, index, "burst"),
                                        .cost = pln_lua_given_integer(L, index, "cost"),
                                        .timeout_ms = pln_lua_given_duration(L, index, "timeout"),
                                        .kind = (uint8_t) (kind < 0 ? PLN_LIMIT_FIXED : kind)};
    int answer = pln_lua_given_choice(L, index, "on_error", answers);
    limit->on_away = (uint8_t) (answer < 0 ? PLN_LIMIT_FAIL : PLN_LIMIT_ALLOW + answer);
}

static void push_seconds(lua_State *L, pln_ms time) {
    lua_pushnumber(L, (lua_Number) time / 1000);
}

int pln_lua_push_limit(lua_State *L, int status, const struct pln_limit_result *result) {
    if (status != PLN_OK) {
        return pln_lua_push_status(L, status);
    }
    lua_pushboolean(L, result->is_allowed);
    lua_pushinteger(L, result->remaining);
    push_seconds(L, result->retry_ms);
    push_seconds(L, result->reset_ms);
    if (!result->is_guess) {
        return 4;
    }
    lua_pushliteral(L, "guess");
    return 5;
}

/* limit(name, { rate =, per =, kind =, burst =, cost =, on_error =, timeout = })
 * -> allowed, remaining, retry_after, reset [, "guess"] | nil, message, code */
static int cache_limit(lua_State *L) {
    struct pln_limit_options limit;
    struct pln_limit_result result;
    pln_lua_opened(L, 1);
    pln_lua_take_limit(L, 2, &limit);
    struct pln_bytes name = pln_lua_check_key(L, 2);
    return pln_lua_push_limit(L, pln_limit(pln_lua_opened(L, 1)->cache, name, &limit, &result),
                              &result);
}

const luaL_Reg pln_lua_limits[] = {
    {"count", cache_count},
    {"counter", cache_counter},
    {"reset_counter", cache_reset_counter},
    {"limit", cache_limit},
    {NULL, NULL},
};
