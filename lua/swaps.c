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

/* incr(key, [delta, [{initial =, ttl =, timeout =}]]) -> the sum */
static int cache_incr(lua_State *L) {
    static const char *const names[] = {"initial", "ttl", "timeout", NULL};
    struct pln_incr_options options = {.numerals = &numerals};
    int64_t sum;
    struct pln_lua_cache *self = pln_lua_opened(L, 1);
    struct pln_bytes key = pln_lua_check_key(L, 2);
    lua_Integer delta = luaL_optinteger(L, 3, 1);
    if (!lua_isnoneornil(L, 4)) {
        luaL_checktype(L, 4, LUA_TTABLE);
        pln_lua_check_names(L, 4, names);
    }
    options.has_initial = given_initial(L, 4, &options.initial);
    options.ttl_ms = pln_lua_given_duration(L, 4, "ttl");
    options.timeout_ms = pln_lua_given_duration(L, 4, "timeout");
    self = pln_lua_opened(L, 1);
    options.format = (uint8_t) pln_codec_of(self->cache, key, NULL);
    int status = pln_incr(self->cache, key, delta, &options, &sum);
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

/* The first may be a table that was read, and is a frozen one; the second is a value that was
 * cached, so it is bounded in depth. */
static bool is_equal(lua_State *L, int a, int b) {
    size_t n = 0;
    int top = lua_gettop(L);
    if (!lua_istable(L, a) || !lua_istable(L, b)) {
        return lua_rawequal(L, a, b) != 0;
    }
    luaL_checkstack(L, 6, "value");
    if (pln_lua_thaw(L, a)) {
        a = lua_gettop(L);
    }
    bool is_same = is_within(L, a, b, &n) && n == count_pairs(L, b);
    lua_settop(L, top);
    return is_same;
}

/* stack: result (light) -> its bytes, and the value that they stand for, or nil */
static int take_present(lua_State *L) {
    const struct pln_result *present = lua_touserdata(L, 1);
    struct pln_bytes bytes = {pln_value_data(present->value), present->len};
    lua_settop(L, 0);
    lua_pushlstring(L, bytes.len == 0 ? "" : bytes.data, bytes.len);
    if (pln_lua_decode(L, bytes, present->format) < 0) {
        lua_pushnil(L);
    }
    return 2;
}

/* Pushes these, and gives the value back whatever happens. */
static void push_present(lua_State *L, struct pln_lua_cache *self, struct pln_result *present) {
    lua_pushcfunction(L, take_present);
    lua_pushlightuserdata(L, present);
    self->n_running++; /* a finalizer that runs meanwhile must not close the cache */
    int raised = lua_pcall(L, 1, 2, 0);
    self->n_running--;
    pln_release(self->cache, present->value);
    present->value = NULL;
    if (raised != LUA_OK) {
        lua_error(L);
    }
}

/* As the key's rule wants it. */
static void encode(lua_State *L, int index, struct pln_bytes *bytes, uint8_t *format) {
    bool is_plain = false;
    int codec = pln_codec_of(pln_lua_opened(L, 1)->cache, pln_lua_check_key(L, 2), &is_plain);
    if (pln_lua_encode_as(L, index, codec, is_plain, bytes, format) < 0) {
        luaL_argerror(L, index, pln_error_text());
    }
}

/* stack: cache, key, old, new, options, what owns the bytes of both */
static int swap(lua_State *L, const struct pln_bytes *old, struct pln_bytes value,
                struct pln_swap_options *options) {
    struct pln_bytes expected = old != NULL ? *old : (struct pln_bytes){NULL, 0};
    struct pln_result present;
    for (int i = 0; i < MOST_TRIES; i++) {
        struct pln_lua_cache *self = pln_lua_opened(L, 1);
        int status = pln_swap(self->cache, pln_lua_check_key(L, 2), old != NULL ? &expected : NULL,
                              value, options, &present);
        if (status != PLN_NOT_STORED || present.value == NULL) {
            return pln_lua_push_status(L, status);
        }
        options->old_format = present.format;
        push_present(L, self, &present);
        if (old == NULL || !is_equal(L, 3, lua_gettop(L))) {
            lua_pushnil(L);
            lua_pushnil(L);
            lua_pushstring(L, pln_status_name(status));
            lua_pushvalue(L, -4);
            return 4;
        }
        lua_pop(L, 1);
        expected.data = lua_tolstring(L, -1, &expected.len); /* stays on the stack */
    }
    return pln_lua_push_failure(L, pln_fail(PLN_EBUSY, "cas: others write it all the time"));
}

/* cas(key, old, new, [{ttl =, timeout =}]) -> true | nil, nil, "not_stored", value | "miss" */
static int cache_cas(lua_State *L) {
    static const char *const names[] = {"ttl", "timeout", NULL};
    struct pln_swap_options options = {0};
    struct pln_bytes old = {NULL, 0}, value;
    pln_lua_opened(L, 1);
    pln_lua_check_key(L, 2);
    luaL_argcheck(L, !lua_isnoneornil(L, 4), 4, "the new value is nil; to remove one use delete");
    lua_settop(L, 5);
    luaL_checkstack(L, 2 * MOST_TRIES, "cas");
    if (!lua_isnil(L, 5)) {
        luaL_checktype(L, 5, LUA_TTABLE);
        pln_lua_check_names(L, 5, names);
    }
    options.ttl_ms = pln_lua_given_duration(L, 5, "ttl");
    options.timeout_ms = pln_lua_given_duration(L, 5, "timeout");
    bool has_old = !lua_isnil(L, 3);
    if (has_old) {
        encode(L, 3, &old, &options.old_format);
    }
    encode(L, 4, &value, &options.format);
    return swap(L, has_old ? &old : NULL, value, &options);
}

const luaL_Reg pln_lua_swaps[] = {
    {"incr", cache_incr},
    {"cas", cache_cas},
    {NULL, NULL},
};
