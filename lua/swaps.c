/* SPDX-License-Identifier: MIT
 *
 * swaps.c - cached values that change by what they are: incr and cas.
 *
 * A table may be written in more than one way, by the order of its fields. So where the bytes
 * differ the values are compared; if those are equal, it is tried again with the bytes that are
 * there.
 */
#include "module.h"

#include <stdio.h>

enum { MOST_TRIES = 16 }; /* of a cas, each time with another writer's bytes of an equal value */

/* ---- numbers as bytes: decimal digits in strings and JSON, else MessagePack's integers ---- */

static bool read_decimal(struct pln_bytes value, int64_t *number) {
    const char *at = value.data, *end = at + value.len;
    bool is_negative = at < end && *at == '-';
    int64_t sum = 0;
    at += is_negative;
    if (at == end) {
        return false;
    }
    for (; at < end; at++) { /* below zero, where there is one number more */
        int digit = *at - '0';
        if (digit < 0 || digit > 9 || __builtin_mul_overflow(sum, 10, &sum) ||
            __builtin_sub_overflow(sum, digit, &sum)) {
            return false;
        }
    }
    *number = sum;
    return is_negative || !__builtin_sub_overflow(0, sum, number);
}

static bool read_packed(struct pln_bytes value, int64_t *number) {
    const unsigned char *bytes = value.data;
    uint64_t bits = 0;
    if (value.len == 1 && (bytes[0] < 0x80 || bytes[0] >= 0xe0)) {
        *number = bytes[0] < 0x80 ? bytes[0] : bytes[0] - 256;
        return true;
    }
    if (value.len < 2 || bytes[0] < 0xcc || bytes[0] > 0xd3) {
        return false;
    }
    bool is_signed = bytes[0] >= 0xd0;
    size_t width = (size_t) 1 << (bytes[0] & 3);
    if (value.len != 1 + width) {
        return false;
    }
    for (size_t i = 1; i <= width; i++) {
        bits = bits << 8 | bytes[i];
    }
    unsigned shift = (unsigned) (64 - 8 * width);
    *number = is_signed ? (int64_t) (bits << shift) >> shift : (int64_t) bits;
    return is_signed || bits <= INT64_MAX;
}

static bool read_number(struct pln_bytes value, uint8_t format, int64_t *number) {
    return format == PLN_LUA_MSGPACK                         ? read_packed(value, number)
           : format == PLN_LUA_RAW || format == PLN_LUA_JSON ? read_decimal(value, number)
                                                             : false;
}

/* The shortest form, as of every integer that is cached. */
static size_t write_packed(int64_t number, char text[PLN_NUMERAL]) {
    uint64_t bits = (uint64_t) number;
    unsigned order = 0; /* of the width: 1, 2, 4, 8 bytes */
    if (number >= -32 && number < 128) {
        text[0] = (char) (number & 0xff);
        return 1;
    }
    bool is_signed = number < 0;
    while (order < 3 && (is_signed ? number < -((int64_t) 1 << ((8 << order) - 1))
                                   : bits >> (8 << order) != 0)) {
        order++;
    }
    size_t width = (size_t) 1 << order;
    text[0] = (char) ((is_signed ? 0xd0 : 0xcc) + order);
    for (size_t i = width; i > 0; i--, bits >>= 8) {
        text[i] = (char) (bits & 0xff);
    }
    return 1 + width;
}

static size_t write_number(int64_t number, uint8_t format, char text[PLN_NUMERAL]) {
    return format == PLN_LUA_MSGPACK
               ? write_packed(number, text)
               : (size_t) snprintf(text, PLN_NUMERAL, "%lld", (long long) number);
}

static const struct pln_numerals numerals = {read_number, write_number};

/* ---- incr ---- */

static bool given_initial(lua_State *L, int index, int64_t *initial) {
    int is_integer = 0;
    if (lua_isnoneornil(L, index) || lua_getfield(L, index, "initial") == LUA_TNIL) {
        return false;
    }
    *initial = lua_tointegerx(L, -1, &is_integer);
    luaL_argcheck(L, is_integer && lua_type(L, -1) == LUA_TNUMBER, index,
                  "option 'initial' must be a whole number");
    lua_pop(L, 1);
    return true;
}

lua_Integer pln_lua_take_incr(lua_State *L, int at, struct pln_incr_options *options) {
    static const char *const names[] = {"initial", "ttl", "timeout", NULL};
    *options = (struct pln_incr_options){.numerals = &numerals};
    struct pln_bytes key = pln_lua_check_key(L, at);
    lua_Integer delta = luaL_optinteger(L, at + 1, 1);
    if (!lua_isnoneornil(L, at + 2)) {
        luaL_checktype(L, at + 2, LUA_TTABLE);
        pln_lua_check_names(L, at + 2, names);
    }
    options->has_initial = given_initial(L, at + 2, &options->initial);
    options->ttl_ms = pln_lua_given_duration(L, at + 2, "ttl");
    options->timeout_ms = pln_lua_given_duration(L, at + 2, "timeout");
    options->format = (uint8_t) pln_codec_of(pln_lua_opened(L, 1)->cache, key, NULL);
    return delta;
}

/* incr(key, [delta, [{initial =, ttl =, timeout =}]]) -> the sum */
static int cache_incr(lua_State *L) {
    struct pln_incr_options options;
    int64_t sum;
    pln_lua_opened(L, 1);
    lua_Integer delta = pln_lua_take_incr(L, 2, &options);
    struct pln_lua_cache *self = pln_lua_opened(L, 1);
    int status = pln_incr(self->cache, pln_lua_check_key(L, 2), delta, &options, &sum);
    if (status != PLN_OK) {
        return pln_lua_push_status(L, status);
    }
    lua_pushinteger(L, sum);
    return 1;
}

/* ---- cas ---- */

static bool is_equal(lua_State *L, int a, int b);

/* Whether all that the one table has the other has, too; *n counts it. */
static bool is_within(lua_State *L, int a, int b, size_t *n) {
    luaL_checkstack(L, 6, "value");
    for (lua_pushnil(L); lua_next(L, a) != 0; lua_pop(L, 1)) {
        int top = lua_gettop(L);
        lua_pushvalue(L, top - 1);
        lua_rawget(L, b);
        bool is_same = is_equal(L, top, top + 1);
        lua_settop(L, top);
        if (!is_same) {
            lua_pop(L, 2);
            return false;
        }
        ++*n;
    }
    return true;
}

static size_t count_pairs(lua_State *L, int table) {
    size_t n = 0;
    for (lua_pushnil(L); lua_next(L, table) != 0; lua_pop(L, 1)) {
        n++;
    }
    return n;
}

/* Of values that were bytes, so they are bounded in depth. */
static bool is_equal(lua_State *L, int a, int b) {
    size_t n = 0;
    if (!lua_istable(L, a) || !lua_istable(L, b)) {
        return lua_rawequal(L, a, b) != 0;
    }
    luaL_checkstack(L, 6, "value");
    return is_within(L, a, b, &n) && n == count_pairs(L, b);
}

/* Two values as bytes, which the one or the other state compares. */
struct pair {
    struct pln_bytes bytes[2];
    uint8_t formats[2];
};

/* stack: pair (light) -> whether they are equal */
static int compare(lua_State *L) {
    const struct pair *pair = lua_touserdata(L, 1);
    bool is_known = true;
    for (int i = 0; i < 2; i++) {
        is_known = is_known && pln_lua_decode(L, pair->bytes[i], pair->formats[i]) == PLN_OK;
    }
    lua_pushboolean(L, is_known && is_equal(L, 2, 3));
    return 1;
}

static void *allocate(void *arg, void *block, size_t old_size, size_t size) {
    (void) arg;
    (void) old_size;
    if (size == 0) {
        free(block);
        return NULL;
    }
    return realloc(block, size);
}

/* In a state of its own, so that any thread may ask: that is seldom, and takes some 10 us. */
static bool are_equal(struct pair *pair) {
    lua_State *L = lua_newstate(allocate, NULL);
    if (L == NULL) {
        return false;
    }
    lua_pushcfunction(L, compare);
    lua_pushlightuserdata(L, pair);
    bool is_same = lua_pcall(L, 1, 1, 0) == LUA_OK && lua_toboolean(L, -1);
    lua_close(L);
    return is_same;
}

/* Takes the value, and gives it back. */
static int take_there(struct pln_cache *cache, const struct pln_result *present,
                      struct pln_lua_there *there) {
    free(there->bytes);
    there->bytes = malloc(present->len + 1); /* also one of no bytes is there */
    there->len = present->len;
    there->format = present->format;
    if (there->bytes != NULL && present->len > 0) {
        memcpy(there->bytes, pln_value_data(present->value), present->len);
    }
    pln_release(cache, present->value);
    return there->bytes == NULL ? pln_fail(PLN_ENOMEM, "cas: no memory for what is there") : PLN_OK;
}

int pln_lua_cas_run(struct pln_cache *cache, struct pln_bytes key, struct pln_bytes value,
                    const struct pln_lua_cas *cas, struct pln_lua_there *there) {
    struct pln_swap_options options = cas->options;
    struct pln_bytes expected = cas->old;
    *there = (struct pln_lua_there){NULL, 0, 0};
    for (int i = 0; i < MOST_TRIES; i++) {
        struct pln_result present = {0};
        int status = pln_swap(cache, key, cas->has_old ? &expected : NULL, value, &options,
                              &present);
        if (status != PLN_NOT_STORED || present.value == NULL) {
            return status;
        }
        struct pln_lua_there before = *there; /* what `expected` points into */
        *there = (struct pln_lua_there){NULL, 0, 0};
        int taken = take_there(cache, &present, there);
        free(before.bytes);
        if (taken < 0) {
            return taken;
        }
        struct pair pair = {{cas->old, {there->bytes, there->len}},
                            {cas->options.old_format, there->format}};
        if (!cas->has_old || !are_equal(&pair)) {
            return status;
        }
        expected = pair.bytes[1];
        options.old_format = there->format;
    }
    return pln_fail(PLN_EBUSY, "cas: others write it all the time");
}

int pln_lua_cas_push(lua_State *L, int status, const struct pln_lua_there *there) {
    if (status != PLN_NOT_STORED || there->bytes == NULL) {
        return pln_lua_push_status(L, status);
    }
    lua_pushnil(L);
    lua_pushnil(L);
    lua_pushstring(L, pln_status_name(status));
    if (pln_lua_decode(L, (struct pln_bytes){there->bytes, there->len}, there->format) < 0) {
        lua_pushnil(L);
    }
    return 4;
}

struct pln_bytes pln_lua_take_cas(lua_State *L, int at, struct pln_lua_cas *cas) {
    static const char *const names[] = {"ttl", "timeout", NULL};
    int options = at + 3;
    struct pln_bytes value;
    pln_lua_check_key(L, at);
    luaL_argcheck(L, !lua_isnoneornil(L, at + 2), at + 2,
                  "the new value is nil; to remove one use delete");
    lua_settop(L, options);
    if (!lua_isnil(L, options)) {
        luaL_checktype(L, options, LUA_TTABLE);
        pln_lua_check_names(L, options, names);
    }
    *cas = (struct pln_lua_cas){.has_old = !lua_isnil(L, at + 1)};
    cas->options.ttl_ms = pln_lua_given_duration(L, options, "ttl");
    cas->options.timeout_ms = pln_lua_given_duration(L, options, "timeout");
    if (cas->has_old) {
        pln_lua_encode_for(L, at, at + 1, PLN_CODEC_RAW, &cas->old, &cas->options.old_format);
    }
    pln_lua_encode_for(L, at, at + 2, PLN_CODEC_RAW, &value, &cas->options.format);
    return value;
}

/* Pushes a cas's results and frees what it found, whatever happens. */
static int push_protected(lua_State *L) {
    const struct pln_lua_there *there = lua_touserdata(L, 1);
    return pln_lua_cas_push(L, PLN_NOT_STORED, there);
}

/* cas(key, old, new, [{ttl =, timeout =}]) -> true | nil, nil, "not_stored", value | "miss" */
static int cache_cas(lua_State *L) {
    struct pln_lua_cas cas;
    struct pln_lua_there there;
    pln_lua_opened(L, 1);
    struct pln_bytes value = pln_lua_take_cas(L, 2, &cas);
    int status = pln_lua_cas_run(pln_lua_opened(L, 1)->cache, pln_lua_check_key(L, 2), value, &cas,
                                 &there);
    if (status != PLN_NOT_STORED || there.bytes == NULL) {
        free(there.bytes);
        return pln_lua_push_status(L, status);
    }
    lua_pushcfunction(L, push_protected);
    lua_pushlightuserdata(L, &there);
    int raised = lua_pcall(L, 1, 4, 0);
    free(there.bytes);
    return raised == LUA_OK ? 4 : lua_error(L);
}

const luaL_Reg pln_lua_swaps[] = {
    {"incr", cache_incr},
    {"cas", cache_cas},
    {NULL, NULL},
};
