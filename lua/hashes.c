/* SPDX-License-Identifier: MIT
 *
 * hashes.c - hashes of Redis: objects whose fields are read and written one by one.
 *
 * What reads gives a third result, "l1" or "l2": where a rule says hash_l1, the whole hash is kept
 * in the process, and a field costs no round trip. Values come back as strings, whatever they were.
 */
#include "put_off.h"

/* ---- reading ---- */

/* What becomes of a hash that has been read: a value of the cache's, or what a worker copied. */
struct reading {
    const struct pln_value *hash;  /* NULL: */
    const struct pln_bytes *pairs; /* fields and texts in turn */
    size_t n_pairs;
    const struct pln_bytes *fields;
    size_t n_fields;
};

static void push_text(lua_State *L, struct pln_bytes text) {
    lua_pushlstring(L, text.data, text.len);
}

/* One field after the other, from *at = 0 on. */
static bool next_field(const struct reading *reading, size_t *at, struct pln_bytes *field,
                       struct pln_bytes *text) {
    if (reading->hash != NULL) {
        return pln_hash_next(reading->hash, at, field, text);
    }
    if (*at == reading->n_pairs) {
        return false;
    }
    *field = reading->pairs[2 * *at];
    *text = reading->pairs[2 * *at + 1];
    ++*at;
    return true;
}

static bool find_field(const struct reading *reading, struct pln_bytes name,
                       struct pln_bytes *text) {
    struct pln_bytes field;
    size_t at = 0;
    while (next_field(reading, &at, &field, text)) {
        if (pln_bytes_equal(field, name)) {
            return true;
        }
    }
    return false;
}

/* stack: reading (light) -> the field's value, or nil */
static int build_one(lua_State *L) {
    const struct reading *reading = lua_touserdata(L, 1);
    struct pln_bytes text;
    if (find_field(reading, reading->fields[0], &text)) {
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
        if (find_field(reading, reading->fields[i], &text)) {
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
    while (next_field(reading, &at, &field, &text)) {
        push_text(L, field);
        push_text(L, text);
        lua_rawset(L, -3);
    }
    return 1;
}

/* nil, and where the value below it is from. */
static int push_how(lua_State *L, int source) {
    bool is_missing = lua_isnil(L, -1);
    lua_pushnil(L);
    lua_pushstring(L, is_missing ? pln_status_name(PLN_MISS) : pln_source_name(source));
    return 3;
}

/* ---- by a worker ---- */

/* Keeps all fields of a hash in one block. */
static int keep_pairs(struct pln_lua_call *call, const struct pln_value *hash) {
    struct pln_bytes field, text;
    size_t n = 0;
    for (size_t at = 0; pln_hash_next(hash, &at, &field, &text); n++) {
    }
    struct pln_bytes *pairs = malloc(2 * n * sizeof *pairs + pln_value_len(hash) + 1);
    if (pairs == NULL) {
        return pln_fail(PLN_ENOMEM, "hash: no memory for %zu fields", n);
    }
    const char *from = pln_value_data(hash);
    char *to = (char *) (pairs + 2 * n);
    memcpy(to, from, pln_value_len(hash));
    size_t i = 0;
    for (size_t at = 0; pln_hash_next(hash, &at, &field, &text); i += 2) {
        pairs[i] = pln_bytes_of(to + ((const char *) field.data - from), field.len);
        pairs[i + 1] = pln_bytes_of(to + ((const char *) text.data - from), text.len);
    }
    call->held = pairs;
    call->n_held = n;
    return PLN_OK;
}

static int run_read(struct pln_cache *cache, struct pln_lua_call *call) {
    struct pln_result result;
    int status = pln_hash_get(cache, call->first, call->list + 1, call->n - 1, &call->data,
                              &result);
    if (status == PLN_OK) {
        status = keep_pairs(call, result.value);
        call->number = result.source;
        pln_release(cache, result.value);
    }
    return status;
}

static int push_read(lua_State *L, const struct pln_lua_call *call, int status) {
    struct reading reading = {.pairs = call->held,
                              .n_pairs = call->n_held,
                              .fields = call->list + 1,
                              .n_fields = call->n - 1};
    if (status != PLN_OK) {
        return pln_lua_push_status(L, status);
    }
    lua_pushcfunction(L, call->build_hash);
    lua_pushlightuserdata(L, &reading);
    lua_call(L, 1, 1);
    return push_how(L, (int) call->number);
}

/* Reads the fields that are the words after the first; pushes value, nil, how. What L1 has is not
 * put off. */
static int read_hash(lua_State *L, const struct pln_lua_words *words,
                     const struct pln_data_options *options, lua_CFunction build) {
    struct pln_result result;
    struct pln_bytes name = pln_lua_check_key(L, 2);
    const struct pln_bytes *block = pln_lua_words_end(L, words);
    struct reading reading = {.fields = block + 1, .n_fields = (size_t) words->n - 1};
    struct pln_lua_cache *self = pln_lua_opened(L, 1);
    bool is_later = pln_lua_is_stand_in(L, 1);
    int status = is_later ? pln_hash_peek(self->cache, name, &result)
                          : pln_hash_get(self->cache, name, reading.fields, reading.n_fields,
                                         options, &result);
    if (is_later && status == PLN_MISS) {
        struct pln_lua_call call = {.run = run_read,
                                    .push = push_read,
                                    .first = name,
                                    .list = block,
                                    .n = (size_t) words->n,
                                    .data = *options,
                                    .build_hash = build};
        return pln_lua_carry_out(L, 1, &call);
    }
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
    return raised == LUA_OK ? push_how(L, result.source) : lua_error(L);
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
