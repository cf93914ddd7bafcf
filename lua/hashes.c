/* SPDX-License-Identifier: MIT
 *
 * hashes.c - hashes of Redis: objects whose fields are read and written one by one.
 *
 * What reads gives a third result, "l1" or "l2": where a rule says hash_l1, the whole hash is kept
 * in the process, and a field costs no round trip. Values come back as strings, whatever they were.
 */
#include "module.h"

/* ---- reading ---- */

/* What becomes of a hash that has been read. */
struct reading {
    lua_State *L;
    const struct pln_value *hash;
    const struct pln_bytes *fields;
    size_t n_fields;
};

static void push_text(lua_State *L, struct pln_bytes text) {
    lua_pushlstring(L, text.data, text.len);
}

/* stack: reading (light) -> the field's value, or nil */
static int build_one(lua_State *L) {
    const struct reading *reading = lua_touserdata(L, 1);
    struct pln_bytes text;
    if (pln_hash_field(reading->hash, reading->fields[0], &text)) {
        push_text(L, text);
    } else {
        lua_pushnil(L);
    }
    return 1;
}

/* stack: reading (light) -> {field = value, ...} of the fields asked for */
static int build_some(lua_State *L) {
    const struct reading *reading = lua_touserdata(L, 1);
    struct pln_bytes text;
    lua_newtable(L);
    for (size_t i = 0; i < reading->n_fields; i++) {
        if (pln_hash_field(reading->hash, reading->fields[i], &text)) {
            push_text(L, reading->fields[i]);
            push_text(L, text);
            lua_rawset(L, -3);
        }
    }
    return 1;
}

/* stack: reading (light) -> all of it */
static int build_all(lua_State *L) {
    const struct reading *reading = lua_touserdata(L, 1);
    struct pln_bytes field, text;
    size_t at = 0;
    lua_newtable(L);
    while (pln_hash_next(reading->hash, &at, &field, &text)) {
        push_text(L, field);
        push_text(L, text);
        lua_rawset(L, -3);
    }
    return 1;
}

/* Reads the fields that are the words after the first; pushes value, nil, how. */
static int read_hash(lua_State *L, const struct pln_lua_words *words,
                     const struct pln_data_options *options, lua_CFunction build) {
    struct pln_result result;
    struct pln_bytes name = pln_lua_check_key(L, 2);
    const struct pln_bytes *block = pln_lua_words_end(L, words);
    struct reading reading = {.fields = block + 1, .n_fields = (size_t) words->n - 1};
    struct pln_lua_cache *self = pln_lua_opened(L, 1);
    int status = pln_hash_get(self->cache, name, reading.fields, reading.n_fields, options,
                              &result);
    if (status != PLN_OK) {
        return pln_lua_push_status(L, status);
    }
    reading.hash = result.value;
    lua_pushcfunction(L, build);
    lua_pushlightuserdata(L, &reading);
    self->n_running++; /* a finalizer must not close it while it lends a value */
    int raised = lua_pcall(L, 1, 1, 0);
    self->n_running--;
    pln_release(self->cache, result.value);
    if (raised != LUA_OK) {
        return lua_error(L);
    }
    bool is_missing = lua_isnil(L, -1);
    lua_pushnil(L);
    lua_pushstring(L, is_missing ? pln_status_name(PLN_MISS) : pln_source_name(result.source));
    return 3;
}

/* hget(name, field, [options]) -> value, nil, how */
static int cache_hget(lua_State *L) {
    struct pln_data_options options;
    struct pln_lua_words words;
    lua_settop(L, 4);
    pln_lua_data_options(L, 4, pln_lua_read_names, &options);
    pln_lua_words_begin(L, &words, "HGET");
    pln_lua_words_value(L, &words, 3);
    return read_hash(L, &words, &options, build_one);
}

/* hmget(name, {field, ...}, [options]) -> {field = value, ...}, nil, how */
static int cache_hmget(lua_State *L) {
    struct pln_data_options options;
    struct pln_lua_words words;
    lua_settop(L, 4);
    luaL_checktype(L, 3, LUA_TTABLE);
    pln_lua_data_options(L, 4, pln_lua_read_names, &options);
    pln_lua_words_begin(L, &words, "HMGET");
    pln_lua_words_list(L, &words, 3);
    return read_hash(L, &words, &options, build_some);
}

/* hgetall(name, [options]) -> {field = value, ...}, nil, how; an empty one where there is none */
static int cache_hgetall(lua_State *L) {
    struct pln_data_options options;
    struct pln_lua_words words;
    lua_settop(L, 3);
    pln_lua_data_options(L, 3, pln_lua_read_names, &options);
    pln_lua_words_begin(L, &words, "HGETALL");
    return read_hash(L, &words, &options, build_all);
}

/* hlen(name, [options]) */
static int cache_hlen(lua_State *L) {
    struct pln_data_options options;
    struct pln_lua_words words;
    lua_settop(L, 3);
    pln_lua_data_options(L, 3, pln_lua_read_names, &options);
    pln_lua_words_begin(L, &words, "HLEN");
    return pln_lua_data_call(L, 1, 2, &words, &options, pln_lua_build_any);
}

/* ---- writing ---- */

/* hset(name, {field = value, ...}, [options]) -> how many fields are new */
static int cache_hset(lua_State *L) {
    struct pln_data_options options;
    struct pln_lua_words words;
    lua_settop(L, 4);
    pln_lua_data_options(L, 4, pln_lua_write_names, &options);
    pln_lua_words_begin(L, &words, "HSET");
    pln_lua_words_pairs(L, &words, 3);
    return pln_lua_data_call(L, 1, 2, &words, &options, pln_lua_build_any);
}

/* hdel(name, field or list, [options]) -> how many were there */
static int cache_hdel(lua_State *L) {
    struct pln_data_options options;
    struct pln_lua_words words;
    lua_settop(L, 4);
    pln_lua_data_options(L, 4, pln_lua_write_names, &options);
    pln_lua_words_begin(L, &words, "HDEL");
    pln_lua_words_list(L, &words, 3);
    return pln_lua_data_call(L, 1, 2, &words, &options, pln_lua_build_any);
}

/* hincr(name, field, [by = 1], [options]) -> the new number */
static int cache_hincr(lua_State *L) {
    struct pln_data_options options;
    struct pln_lua_words words;
    lua_settop(L, 5);
    if (lua_isnil(L, 4)) {
        lua_pushinteger(L, 1);
        lua_replace(L, 4);
    }
    luaL_checktype(L, 4, LUA_TNUMBER);
    pln_lua_data_options(L, 5, pln_lua_write_names, &options);
    pln_lua_words_begin(L, &words, lua_isinteger(L, 4) ? "HINCRBY" : "HINCRBYFLOAT");
    pln_lua_words_value(L, &words, 3);
    pln_lua_words_value(L, &words, 4);
    return pln_lua_data_call(L, 1, 2, &words, &options, pln_lua_build_number);
}

const luaL_Reg pln_lua_hashes[] = {
    {"hget", cache_hget}, {"hmget", cache_hmget}, {"hgetall", cache_hgetall}, {"hlen", cache_hlen},
    {"hset", cache_hset}, {"hdel", cache_hdel},   {"hincr", cache_hincr},     {NULL, NULL},
};
