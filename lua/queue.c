/* SPDX-License-Identifier: MIT
 *
 * queue.c - what was written behind and is not stored yet, and what could not be stored: flush,
 * queue, deadletters, retry_deadletter, drop_deadletter.
 */
#include "module.h"

/* flush([timeout]) -> true | nil, message, code */
static int cache_flush(lua_State *L) {
    struct pln_lua_cache *self = pln_lua_opened(L, 1);
    pln_ms timeout_ms = lua_isnoneornil(L, 2)
                            ? 0
                            : pln_lua_check_duration(L, 2, "the timeout of flush");
    return pln_lua_push_status(L, pln_flush(self->cache, timeout_ms));
}

static void set_integer(lua_State *L, const char *name, uint64_t value) {
    lua_pushinteger(L, (lua_Integer) value);
    lua_setfield(L, -2, name);
}

static void set_seconds(lua_State *L, const char *name, pln_ms ms) {
    lua_pushnumber(L, (lua_Number) ms / 1000);
    lua_setfield(L, -2, name);
}

static void set_text(lua_State *L, const char *name, const char *text) {
    lua_pushstring(L, text);
    lua_setfield(L, -2, name);
}

/* queue() -> { depth =, lag =, dead =, ours = } | nil, message, code */
static int cache_queue(lua_State *L) {
    struct pln_lua_cache *self = pln_lua_opened(L, 1);
    struct pln_queue_state state;
    int status = pln_queue_state(self->cache, &state);
    if (status != PLN_OK) {
        return pln_lua_push_status(L, status);
    }
    lua_createtable(L, 0, 4);
    set_integer(L, "depth", state.depth);
    set_seconds(L, "lag", state.lag_ms);
    set_integer(L, "dead", state.dead);
    lua_pushboolean(L, state.is_ours);
    lua_setfield(L, -2, "ours");
    return 1;
}

/* ---- dead letters ---- */

/* stack: letter (light), list. A value that is none of Lua's is left as bytes. */
static int add_letter(lua_State *L) {
    const struct pln_dead_letter *letter = lua_touserdata(L, 1);
    lua_createtable(L, 0, 8);
    set_text(L, "id", letter->id);
    set_text(L, "op", letter->op == PLN_STORE_DELETE ? "delete" : "set");
    lua_pushlstring(L, letter->key.data, letter->key.len);
    lua_setfield(L, -2, "key");
    if (letter->op != PLN_STORE_DELETE && !letter->is_absent) {
        if (pln_lua_decode(L, letter->value, letter->format) != PLN_OK) {
            lua_pushlstring(L, letter->value.data, letter->value.len);
        }
        lua_setfield(L, -2, "value");
    }
    set_text(L, "write_id", letter->write_id);
    set_integer(L, "attempts", letter->attempts);
    set_seconds(L, "age", letter->age_ms);
    set_text(L, "error", letter->error);
    lua_rawseti(L, 2, (lua_Integer) lua_rawlen(L, 2) + 1);
    return 0;
}

struct listing {
    lua_State *L;
    int list;
    bool has_raised; /* what, is on top of the stack */
};

/* Called by the core, which an error of Lua's must not leave. */
static bool visit_letter(void *arg, const struct pln_dead_letter *letter) {
    struct listing *listing = arg;
    lua_State *L = listing->L;
    lua_pushcfunction(L, add_letter);
    lua_pushlightuserdata(L, (void *) (uintptr_t) letter);
    lua_pushvalue(L, listing->list);
    listing->has_raised = lua_pcall(L, 2, 0, 0) != LUA_OK;
    return !listing->has_raised;
}

/* deadletters([most]) -> a list of { id =, key =, op =, value =, error =, attempts =, age =,
 * write_id = }, the oldest first | nil, message, code */
static int cache_deadletters(lua_State *L) {
    struct pln_lua_cache *self = pln_lua_opened(L, 1);
    lua_Integer most = luaL_optinteger(L, 2, 0);
    luaL_argcheck(L, lua_isnoneornil(L, 2) || most > 0, 2,
                  "the number of letters must be positive");
    lua_newtable(L);
    struct listing listing = {.L = L, .list = lua_gettop(L)};
    luaL_checkstack(L, 8, "no room for the letters");
    self->n_running++; /* a finalizer must not close it */
    int status = pln_dead_letters(self->cache, (size_t) most, visit_letter, &listing);
    self->n_running--;
    if (listing.has_raised) {
        return lua_error(L);
    }
    if (status != PLN_OK) {
        return pln_lua_push_status(L, status);
    }
    return 1;
}

/* The letter at 2: NULL for "all". Raises for nothing, so that a misspelt variable is not all. */
static const char *check_letter(lua_State *L) {
    size_t len;
    const char *id = luaL_checklstring(L, 2, &len);
    luaL_argcheck(L, len > 0 && strlen(id) == len, 2, "the id of a dead letter, or \"all\"");
    return strcmp(id, "all") == 0 ? NULL : id;
}

static int treat_letter(lua_State *L,
                        int (*treat)(struct pln_cache *cache, const char *id, size_t *n)) {
    struct pln_lua_cache *self = pln_lua_opened(L, 1);
    const char *id = check_letter(L);
    size_t n = 0;
    int status = treat(self->cache, id, &n);
    if (status != PLN_OK) {
        return pln_lua_push_status(L, status);
    }
    lua_pushinteger(L, (lua_Integer) n);
    return 1;
}

/* retry_deadletter(id or "all") -> how many wait again | nil, nil, "miss" | nil, message, code */
static int cache_retry_deadletter(lua_State *L) {
    return treat_letter(L, pln_retry_letter);
}

/* drop_deadletter(id or "all") -> how many are gone | nil, nil, "miss" | nil, message, code */
static int cache_drop_deadletter(lua_State *L) {
    return treat_letter(L, pln_drop_letter);
}

const luaL_Reg pln_lua_queue[] = {
    {"flush", cache_flush},
    {"queue", cache_queue},
    {"deadletters", cache_deadletters},
    {"retry_deadletter", cache_retry_deadletter},
    {"drop_deadletter", cache_drop_deadletter},
    {NULL, NULL},
};
