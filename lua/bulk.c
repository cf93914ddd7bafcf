/* SPDX-License-Identifier: MIT
 *
 * bulk.c - get_many with a loader: one call of a Lua function for all keys that are missing.
 *
 * It is given them in a list, as the caller has named them, and returns their values in a table by
 * key; what is not in it does not exist. It runs in the caller's state, protected, as the loader of
 * a get does (reads.c).
 */
#include "module.h"

enum { KEYS = 2, LOADER = 4 }; /* in the frame of get_many */

struct bulk_call {
    lua_State *L;
    struct pln_cache *cache;
    const struct pln_bulk *bulk;
    int error_at; /* in that frame; 0: none */
};

/* stack: 1 call (light), 2 the caller's keys, 3 loader, 4 and on: its results */
enum { CALL = 1, ALL, FUNCTION, VALUES, ERROR, TTLS };

/* How long a value lives: a duration for all, or a table of them by key. */
static void take_ttl(lua_State *L, int key, struct pln_load *load) {
    lua_pushvalue(L, TTLS);
    if (lua_istable(L, TTLS)) {
        lua_pushvalue(L, key);
        lua_rawget(L, TTLS);
    }
    int at = lua_gettop(L);
    if (lua_type(L, at) == LUA_TNUMBER && lua_tonumber(L, at) < 0) {
        pln_load_ttl(load, -1); /* to be handed out, not to be stored */
    } else if (!lua_isnil(L, at)) {
        pln_load_ttl(load, pln_lua_check_duration(L, at, "a ttl that a loader returns"));
    }
}

/* The i-th key of those that were asked for. Returns its status. */
static int take_value(lua_State *L, const struct bulk_call *call, size_t i) {
    struct pln_load *load = call->bulk->loads[i];
    struct pln_bytes bytes;
    uint8_t format;
    bool is_plain = false;
    int codec = pln_codec_of(call->cache, call->bulk->keys[i], &is_plain);
    lua_rawgeti(L, ALL, (lua_Integer) call->bulk->which[i] + 1);
    int key = lua_gettop(L);
    take_ttl(L, key, load);
    lua_pushvalue(L, key);
    if (lua_rawget(L, VALUES) == LUA_TNIL) {
        return PLN_ABSENT;
    }
    if (pln_lua_encode_as(L, -1, codec, is_plain, &bytes, &format) < 0) {
        return luaL_error(L, "key '%s': %s", luaL_tolstring(L, key, NULL), pln_error_text());
    }
    return pln_load_value(load, bytes, format);
}

static int add_traceback(lua_State *L) {
    luaL_traceback(L, L, luaL_tolstring(L, 1, NULL), 1);
    return 1;
}

static void call_loader(lua_State *L, const struct pln_bulk *bulk) {
    lua_pushcfunction(L, add_traceback);
    lua_pushvalue(L, FUNCTION);
    lua_createtable(L, (int) bulk->n, 0);
    for (size_t i = 0; i < bulk->n; i++) {
        lua_rawgeti(L, ALL, (lua_Integer) bulk->which[i] + 1);
        lua_rawseti(L, -2, (lua_Integer) i + 1);
    }
    if (lua_pcall(L, 1, 3, VALUES) != LUA_OK) {
        lua_error(L);
    }
    lua_remove(L, VALUES);
}

static int run(lua_State *L) {
    const struct bulk_call *call = lua_touserdata(L, CALL);
    call_loader(L, call->bulk);
    if (lua_isnil(L, VALUES) && !lua_isnil(L, ERROR)) {
        lua_pushvalue(L, ERROR);
        luaL_tolstring(L, -1, NULL);
        return lua_error(L);
    }
    if (!lua_istable(L, VALUES)) {
        return luaL_error(L, "the loader of get_many must return a table by key, got a %s",
                          luaL_typename(L, VALUES));
    }
    for (size_t i = 0; i < call->bulk->n; i++) {
        call->bulk->statuses[i] = take_value(L, call, i);
        lua_settop(L, TTLS);
    }
    return 0;
}

/* Called by the core. The frame is still that of get_many, so its stack indices hold. */
static int load(void *arg, const struct pln_bulk *bulk) {
    struct bulk_call *call = arg;
    lua_State *L = call->L;
    call->bulk = bulk;
    lua_pushcfunction(L, run);
    lua_pushlightuserdata(L, call);
    lua_pushvalue(L, KEYS);
    lua_pushvalue(L, LOADER);
    if (lua_pcall(L, 3, 0, 0) != LUA_OK) {
        call->error_at = lua_gettop(L);
        const char *text = lua_tostring(L, -1);
        return pln_fail(PLN_ELOADER, "%s", text == NULL ? "the loader failed" : text);
    }
    return PLN_OK;
}

int pln_lua_get_many_loading(lua_State *L, struct pln_lua_cache *self, struct pln_lua_batch *batch,
                             struct pln_get_options *options) {
    struct bulk_call call = {.L = L, .cache = self->cache};
    int texts = lua_gettop(L); /* the keys, as pln_lua_push_answers() wants them on top */
    luaL_checkstack(L, 20, "get_many");
    options->flags &= ~PLN_LUA_WITH_OLD;
    self->n_running++;
    int status = pln_get_or_load_many(self->cache, batch->keys, batch->n, options, load, &call,
                                      batch->results, batch->statuses);
    self->n_running--;
    if (status < 0) { /* and nothing is borrowed */
        return pln_lua_push_status(L, status);
    }
    bool has_raised = false;
    for (size_t i = 0; i < batch->n; i++) {
        has_raised = has_raised || (batch->statuses[i] == PLN_ELOADER && call.error_at != 0);
    }
    lua_pushvalue(L, texts);
    int n = pln_lua_push_told(L, self, batch);
    if (has_raised) {
        lua_pushvalue(L, call.error_at); /* whole: the core's text is cut */
        lua_replace(L, -2);
    }
    return n;
}
