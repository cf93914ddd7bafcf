/* SPDX-License-Identifier: MIT
 *
 * reads.c - get, peek, get_many, and loaders that are Lua functions.
 *
 * The plain get of a short value copies it to the C stack and pushes it from there: nothing is
 * borrowed, so nothing can leak when the push raises, and no protected call is paid for. All other
 * ways borrow the value and push it inside a protected call.
 *
 * A loader runs in the caller's state and thread, inside the core's call, and therefore protected:
 * the core must never be left by a longjmp. It cannot yield. While one runs the cache cannot be
 * closed, and its own key cannot be asked for: that would wait for itself.
 */
#include "module.h"

#include <math.h>

enum {
    SHORT_VALUE = 2048, /* copied by way of the stack; longer ones are borrowed */
    MAX_KEYS = 1 << 20, /* of one get_many */
    KEY = 2,            /* where get and peek have it on the stack */
};

/* A load under way, on the C stack of its get. */
struct pln_lua_load {
    struct pln_lua_load *outer;
    struct pln_bytes key;
};

/* ---- get ---- */

static void refuse_own_key(lua_State *L, const struct pln_lua_cache *self, struct pln_bytes key) {
    for (const struct pln_lua_load *load = self->loads; load != NULL; load = load->outer) {
        if (pln_bytes_equal(load->key, key)) {
            luaL_error(L, "the loader of '%s' asks for '%s' itself", key.data, key.data);
        }
    }
}

/* The options have PLN_GET_LONG: what does not fit the stack's buffer is borrowed. */
static int get_without_loader(lua_State *L, struct pln_lua_cache *self,
                              const struct pln_get_options *options, bool is_copy) {
    struct pln_bytes key = pln_lua_check_key(L, KEY);
    char buffer[SHORT_VALUE];
    struct pln_result result;
    if (self->loads != NULL) {
        refuse_own_key(L, self, key);
    }
    int status = pln_get_copy(self->cache, key, options, buffer, sizeof buffer, &result);
    if (result.value != NULL) {
        return pln_lua_push_read(L, self, KEY, is_copy, status, &result);
    }
    if (status == PLN_OK && result.format == PLN_LUA_RAW) {
        lua_pushlstring(L, buffer, result.len);
        return pln_lua_push_how(L, result.source);
    }
    if (status == PLN_OK) {
        return pln_lua_push_bytes(L, self, KEY, is_copy, (struct pln_bytes){buffer, result.len},
                                  &result);
    }
    return pln_lua_push_no_value(L, status);
}

/* ---- loaders ---- */

struct loader_call {
    lua_State *L;
    const struct pln_lua_loading *loading;
    struct pln_load *load;
    int status;   /* what the loader's results mean to the core */
    int error_at; /* stack index of its error, in the frame of the get; 0: none */
    int loaders;  /* stack index of those by name, where the rule may call for one */
    bool is_copy; /* of a table that is read */
    struct pln_cache *cache;
    struct pln_bytes of; /* the key */
    const char *name;
};

/* value | nil | nil, error | value, nil, ttl; on the stack from 1 on. Raises what went wrong. */
static int take_results(lua_State *L, struct loader_call *call) {
    struct pln_bytes bytes;
    uint8_t format;
    lua_settop(L, call->loading->gives_ttl ? 3 : 2);
    if (lua_isnil(L, 1) && !lua_isnil(L, 2)) {
        luaL_tolstring(L, 2, NULL);
        return lua_error(L);
    }
    if (call->loading->gives_ttl) {
        pln_lua_take_terms(L, 3, call->load);
    }
    if (lua_isnil(L, 1)) {
        call->status = PLN_ABSENT;
        return 0;
    }
    if (pln_same_take(L, 1, call->load)) {
        return 0;
    }
    bool is_plain = false;
    int codec = pln_codec_of(call->cache, call->of, &is_plain);
    if (pln_lua_encode_as(L, 1, codec, is_plain, &bytes, &format) < 0) {
        return luaL_error(L, "%s", pln_error_text());
    }
    call->status = pln_load_value(call->load, bytes, format);
    return 0;
}

/* Adds where an error was raised; what a loader returned as its error stays as it is. */
static int add_traceback(lua_State *L) {
    const char *text = luaL_tolstring(L, 1, NULL);
    luaL_traceback(L, L, text, 1);
    return 1;
}

/* stack: call (light), loader, arguments */
static int run_loader(lua_State *L) {
    struct loader_call *call = lua_touserdata(L, 1);
    if (call->loading->takes_old) {
        pln_same_push_old(L, call->load);
    }
    int n_arguments = lua_gettop(L) - 2;
    lua_pushcfunction(L, add_traceback);
    lua_replace(L, 1);
    if (lua_pcall(L, n_arguments, LUA_MULTRET, 1) != LUA_OK) {
        return lua_error(L);
    }
    lua_remove(L, 1);
    return take_results(L, call);
}

/* stack: call (light), results */
static int take_protected(lua_State *L) {
    struct loader_call *call = lua_touserdata(L, 1);
    lua_remove(L, 1);
    return take_results(L, call);
}

int pln_lua_take_loaded(lua_State *L, int n, struct pln_cache *cache, struct pln_bytes key,
                        struct pln_load *load) {
    static const struct pln_lua_loading loading = {.gives_ttl = true};
    struct loader_call call = {
        .L = L, .loading = &loading, .load = load, .cache = cache, .of = key};
    lua_pushcfunction(L, take_protected);
    lua_insert(L, -n - 1);
    lua_pushlightuserdata(L, &call);
    lua_insert(L, -n - 1);
    return lua_pcall(L, n + 1, 0, 0) == LUA_OK ? call.status : PLN_ELOADER;
}

static int load_failed(struct loader_call *call) {
    call->error_at = lua_gettop(call->L);
    const char *text = lua_tostring(call->L, -1);
    return pln_fail(PLN_ELOADER, "%s", text == NULL ? "the loader failed" : text);
}

/* Called by the core. The frame is still that of the get, so its stack indices hold. */
static int load_by_function(void *arg, struct pln_bytes key, struct pln_load *load) {
    struct loader_call *call = arg;
    lua_State *L = call->L;
    const struct pln_lua_loading *loading = call->loading;
    (void) key; /* on the stack as a string already */
    call->load = load;
    lua_pushcfunction(L, run_loader);
    lua_pushlightuserdata(L, call);
    lua_pushvalue(L, loading->loader);
    if (loading->takes_key) {
        lua_pushvalue(L, loading->key);
    }
    for (int i = 0; i < loading->n_extra; i++) {
        lua_pushvalue(L, loading->first_extra + i);
    }
    if (lua_pcall(L, loading->n_extra + loading->takes_key + 2, 0, 0) != LUA_OK) {
        return load_failed(call);
    }
    return call->status;
}

/* stack: call (light), loaders -> function */
static int find_named(lua_State *L) {
    const struct loader_call *call = lua_touserdata(L, 1);
    if (lua_getfield(L, 2, call->name) == LUA_TNIL) {
        return luaL_error(L, "no loader '%s' is registered", call->name);
    }
    return 1;
}

/* Called by the core likewise, for a rule that calls for a loader by name. */
static int load_by_name(void *arg, const char *name, struct pln_bytes key, struct pln_load *load) {
    struct loader_call *call = arg;
    lua_State *L = call->L;
    call->name = name;
    lua_pushcfunction(L, find_named);
    lua_pushlightuserdata(L, call);
    lua_pushvalue(L, call->loaders);
    if (lua_pcall(L, 2, 1, 0) != LUA_OK) {
        return load_failed(call);
    }
    const struct pln_lua_loading *of_get = call->loading;
    struct pln_lua_loading loading = {.key = of_get->key,
                                      .loader = lua_gettop(L),
                                      .takes_key = true,
                                      .gives_ttl = true,
                                      .takes_old = true};
    call->loading = &loading;
    int status = load_by_function(call, key, load);
    call->loading = of_get;
    return status;
}

static int get_loading(lua_State *L, struct pln_lua_cache *self,
                       const struct pln_get_options *options, pln_loader loader,
                       struct loader_call *call) {
    struct pln_result result;
    struct pln_lua_load load = {.outer = self->loads};
    load.key.data = lua_tolstring(L, call->loading->key, &load.key.len);
    refuse_own_key(L, self, load.key);
    luaL_checkstack(L, call->loading->n_extra + 10, "too many arguments for the loader");
    call->cache = self->cache;
    call->of = load.key;
    self->loads = &load;
    self->n_running++;
    int status = pln_get_or_load(self->cache, load.key, options, loader, call, &result);
    self->n_running--;
    self->loads = load.outer;
    if (status == PLN_ELOADER && call->error_at != 0) {
        lua_pushnil(L);
        luaL_tolstring(L, call->error_at, NULL); /* whole: the core's text is cut */
        lua_pushstring(L, pln_status_name(status));
        return 3;
    }
    return pln_lua_push_read(L, self, call->loading->key, call->is_copy, status, &result);
}

int pln_lua_get_loading(lua_State *L, struct pln_lua_cache *self,
                        const struct pln_get_options *options,
                        const struct pln_lua_loading *loading) {
    struct loader_call call = {.L = L, .loading = loading, .is_copy = loading->is_copy};
    return get_loading(L, self, options, load_by_function, &call);
}

/* By the loaders that the program has given names. */
static int get_by_rule(lua_State *L, struct pln_lua_cache *self,
                       const struct pln_get_options *options, bool is_copy) {
    const struct pln_lua_loading loading = {.key = KEY};
    struct pln_get_options by_name = {0};
    if (options != NULL) {
        by_name = *options;
    }
    lua_getiuservalue(L, 1, 1);
    struct loader_call call = {
        .L = L, .loading = &loading, .loaders = lua_gettop(L), .is_copy = is_copy};
    by_name.load_by_name = load_by_name;
    by_name.load_arg = &call;
    return get_loading(L, self, &by_name, NULL, &call);
}

bool pln_lua_is_callable(lua_State *L, int index) {
    if (lua_isfunction(L, index)) {
        return true;
    }
    if (luaL_getmetafield(L, index, "__call") == LUA_TNIL) {
        return false;
    }
    lua_pop(L, 1);
    return true;
}

/* get(key, [options], [loader, ...]); the options may be left out before a function. */
static int get_with_more(lua_State *L, struct pln_lua_cache *self) {
    struct pln_bytes tags[PLN_LUA_MAX_TAGS];
    struct pln_get_options options = {0};
    int loader = lua_isfunction(L, 3) ? 3 : 4;
    int n_arguments = lua_gettop(L);
    pln_lua_check_key(L, KEY);
    if (loader == 4) {
        pln_lua_get_options(L, 3, &options, tags);
    }
    bool takes_old = (options.flags & PLN_LUA_WITH_OLD) != 0;
    bool is_copy = (options.flags & PLN_LUA_COPY) != 0;
    options.flags &= ~(PLN_LUA_WITH_OLD | PLN_LUA_COPY);
    if (n_arguments < loader || lua_isnil(L, loader)) {
        if (self->has_loaders) {
            return get_by_rule(L, self, &options, is_copy);
        }
        options.flags |= PLN_GET_LONG;
        return get_without_loader(L, self, &options, is_copy);
    }
    if (!pln_lua_is_callable(L, loader)) {
        return luaL_typeerror(L, loader, "function");
    }
    struct pln_lua_loading loading = {.key = KEY,
                                      .loader = loader,
                                      .first_extra = loader + 1,
                                      .n_extra = n_arguments - loader,
                                      .takes_key = true,
                                      .gives_ttl = true,
                                      .takes_old = takes_old,
                                      .is_copy = is_copy};
    return pln_lua_get_loading(L, self, &options, &loading);
}

static int cache_get(lua_State *L) {
    static const struct pln_get_options plain = {.flags = PLN_GET_LONG};
    struct pln_lua_cache *self = pln_lua_opened(L, 1);
    if (lua_gettop(L) > 2) {
        return get_with_more(L, self);
    }
    if (self->has_loaders) {
        pln_lua_check_key(L, KEY);
        return get_by_rule(L, self, NULL, false);
    }
    return get_without_loader(L, self, &plain, false);
}

/* ---- peek ---- */

static void push_seconds(lua_State *L, pln_ms ms) {
    lua_pushnumber(L, ms == PLN_FOREVER ? (lua_Number) HUGE_VAL : (lua_Number) ms / 1000);
}

/* peek(key) -> value, nil, how, age, left */
static int cache_peek(lua_State *L) {
    struct pln_lua_cache *self = pln_lua_opened(L, 1);
    struct pln_result result;
    int status = pln_peek(self->cache, pln_lua_check_key(L, KEY), &result);
    int n = pln_lua_push_read(L, self, KEY, false, status, &result);
    if (n == 3 && (status == PLN_OK || status == PLN_ABSENT)) {
        push_seconds(L, result.age_ms);
        push_seconds(L, result.left_ms);
        n = 5;
    }
    return n;
}

/* ---- get_many ---- */

/* One allocation, owned by a userdata. */
static struct pln_lua_batch *push_batch(lua_State *L, size_t n) {
    size_t size = sizeof(struct pln_lua_batch) +
                  n * (sizeof(struct pln_bytes) + sizeof(struct pln_result) + sizeof(int));
    struct pln_lua_batch *batch = lua_newuserdatauv(L, size, 0);
    memset(batch, 0, size);
    batch->keys = (void *) (batch + 1);
    batch->results = (void *) (batch->keys + n);
    batch->statuses = (void *) (batch->results + n);
    batch->n = n;
    return batch;
}

void pln_lua_take_keys(lua_State *L, int index, struct pln_bytes *keys, size_t n) {
    lua_newtable(L);
    int texts = lua_gettop(L);
    for (size_t i = 0; i < n; i++) {
        lua_rawgeti(L, index, (lua_Integer) i + 1);
        if (lua_isboolean(L, -1) || !pln_lua_top_text(L, &keys[i])) {
            lua_pushfstring(L, "key %d is a %s, must be a string or an integer", (int) i + 1,
                            luaL_typename(L, -1));
            luaL_argerror(L, index, lua_tostring(L, -1));
        }
        lua_rawseti(L, texts, (lua_Integer) i + 1);
    }
}

struct pln_bytes *pln_lua_push_keys(lua_State *L, int index, size_t *n) {
    luaL_checktype(L, index, LUA_TTABLE);
    pln_lua_bare(L, index);
    *n = lua_rawlen(L, index);
    luaL_argcheck(L, *n <= MAX_KEYS, index, "too many keys, at most 1048576");
    struct pln_bytes *keys = lua_newuserdatauv(L, *n * sizeof *keys, 0);
    pln_lua_take_keys(L, index, keys, *n);
    return keys;
}

static const char *how_of(const struct pln_lua_batch *batch, size_t i) {
    int status = batch->statuses[i];
    return status == PLN_OK ? pln_source_name(batch->results[i].source) : pln_status_name(status);
}

/* stack: batch (light), keys -> values, hows */
static int build_answers(lua_State *L) {
    const struct pln_lua_batch *batch = lua_touserdata(L, 1);
    lua_createtable(L, (int) batch->n, 0);
    lua_createtable(L, (int) batch->n, 0);
    for (size_t i = 0; i < batch->n; i++) {
        const struct pln_result *result = &batch->results[i];
        const char *how = how_of(batch, i);
        if (batch->statuses[i] == PLN_OK) {
            lua_rawgeti(L, 2, (lua_Integer) i + 1);
            if (pln_lua_push_value(L, batch->self, 5, batch->is_copy, result) == PLN_OK) {
                lua_rawseti(L, 3, (lua_Integer) i + 1);
            } else {
                how = pln_status_name(PLN_EL2);
            }
            lua_settop(L, 4);
        }
        lua_pushstring(L, how);
        lua_rawseti(L, 4, (lua_Integer) i + 1);
    }
    return 2;
}

int pln_lua_push_answers(lua_State *L, struct pln_lua_cache *self, struct pln_lua_batch *batch) {
    lua_pushcfunction(L, build_answers);
    lua_pushlightuserdata(L, batch);
    lua_pushvalue(L, -3);
    self->n_running++;
    int raised = lua_pcall(L, 2, 2, 0);
    self->n_running--;
    for (size_t i = 0; i < batch->n; i++) {
        pln_release(self->cache, batch->results[i].value);
    }
    return raised == LUA_OK ? 2 : lua_error(L);
}

int pln_lua_push_told(lua_State *L, struct pln_lua_cache *self, struct pln_lua_batch *batch) {
    char text[PLN_ERROR_TEXT];
    bool has_failed = false;
    memcpy(text, pln_error_text(), sizeof text);
    for (size_t i = 0; i < batch->n; i++) {
        has_failed = has_failed || batch->statuses[i] < 0;
    }
    int n = pln_lua_push_answers(L, self, batch);
    if (has_failed) {
        lua_pushstring(L, text);
    }
    return n + (has_failed ? 1 : 0);
}

/* get_many(keys, [options], [loader]) -> values, hows, each by the key's position; message */
static int cache_get_many(lua_State *L) {
    struct pln_lua_cache *self = pln_lua_opened(L, 1);
    struct pln_bytes tags[PLN_LUA_MAX_TAGS];
    struct pln_get_options options;
    luaL_checktype(L, 2, LUA_TTABLE);
    if (lua_isfunction(L, 3)) { /* the options may be left out before it */
        lua_pushnil(L);
        lua_insert(L, 3);
    }
    lua_settop(L, 4);
    luaL_argcheck(L, lua_isnil(L, 4) || pln_lua_is_callable(L, 4), 4,
                  "the loader must be a function");
    pln_lua_get_options(L, 3, &options, tags);
    pln_lua_bare(L, 2);
    size_t n = lua_rawlen(L, 2);
    luaL_argcheck(L, n <= MAX_KEYS, 2, "too many keys, at most 1048576");
    struct pln_lua_batch *batch = push_batch(L, n);
    pln_lua_take_keys(L, 2, batch->keys, n);
    self = pln_lua_opened(L, 1); /* again: what was allocated may have run a finalizer */
    batch->self = self;
    batch->is_copy = (options.flags & PLN_LUA_COPY) != 0;
    options.flags &= ~PLN_LUA_COPY;
    if (n > 0 && !lua_isnil(L, 4)) {
        return pln_lua_get_many_loading(L, self, batch, &options);
    }
    int status = n == 0 ? PLN_OK
                        : pln_get_many(self->cache, batch->keys, n, &options, batch->results,
                                       batch->statuses);
    if (status < 0) {
        return pln_lua_push_status(L, status);
    }
    return pln_lua_push_told(L, self, batch);
}

const luaL_Reg pln_lua_reads[] = {
    {"get", cache_get},
    {"peek", cache_peek},
    {"get_many", cache_get_many},
    {NULL, NULL},
};
