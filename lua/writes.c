/* SPDX-License-Identifier: MIT
 *
 * writes.c - set, delete, expire, touch, tags, prefixes and patterns, clear, and events.
 *
 * All answer true, or nil, nil, outcome, or nil, message, code.
 */
#include "module.h"

#include <limits.h>

void pln_lua_encode_for(lua_State *L, int key, int index, int wanted, struct pln_bytes *value,
                        uint8_t *format) {
    bool is_plain = false;
    int codec = pln_codec_of(pln_lua_opened(L, 1)->cache, pln_lua_check_key(L, key), &is_plain);
    if (wanted != PLN_CODEC_RAW) {
        luaL_argcheck(L, !is_plain || wanted == codec, index + 1,
                      "option 'codec': the key's rule is plain, and says in which form it is");
        codec = wanted;
    }
    if (pln_lua_encode_as(L, index, codec, is_plain, value, format) < 0) {
        luaL_argerror(L, index, pln_error_text());
    }
}

struct pln_bytes pln_lua_take_set(lua_State *L, int at, struct pln_set_options *options,
                                  struct pln_bytes tags[PLN_LUA_MAX_TAGS]) {
    struct pln_bytes value = {"", 0};
    pln_lua_check_key(L, at);
    luaL_checkany(L, at + 1);
    pln_lua_set_options(L, at + 2, options, tags);
    options->is_absent = lua_isnil(L, at + 1);
    if (!options->is_absent) {
        pln_lua_encode_for(L, at, at + 1, options->format, &value, &options->format);
    }
    return value;
}

/* set(key, value, [options]); nil as the value stores "there is no such thing". */
static int cache_set(lua_State *L) {
    struct pln_lua_cache *self = pln_lua_opened(L, 1);
    struct pln_bytes tags[PLN_LUA_MAX_TAGS];
    struct pln_set_options options;
    struct pln_bytes value = pln_lua_take_set(L, 2, &options, tags);
    struct pln_bytes key = pln_lua_check_key(L, 2);
    return pln_lua_push_status(L, pln_set(self->cache, key, value, &options));
}

static int cache_delete(lua_State *L) {
    struct pln_lua_cache *self = pln_lua_opened(L, 1);
    return pln_lua_push_status(L, pln_delete(self->cache, pln_lua_check_key(L, 2)));
}

/* delete_many{key, ...} */
static int cache_delete_many(lua_State *L) {
    struct pln_lua_cache *self = pln_lua_opened(L, 1);
    size_t n;
    const struct pln_bytes *keys = pln_lua_push_keys(L, 2, &n);
    return pln_lua_push_status(L, pln_delete_many(self->cache, keys, n));
}

static int cache_expire(lua_State *L) {
    struct pln_lua_cache *self = pln_lua_opened(L, 1);
    return pln_lua_push_status(L, pln_expire(self->cache, pln_lua_check_key(L, 2)));
}

static int cache_touch(lua_State *L) {
    struct pln_lua_cache *self = pln_lua_opened(L, 1);
    struct pln_bytes key = pln_lua_check_key(L, 2);
    pln_ms ttl = pln_lua_check_duration(L, 3, "ttl");
    return pln_lua_push_status(L, pln_touch(self->cache, key, ttl));
}

static int cache_invalidate_tag(lua_State *L) {
    struct pln_lua_cache *self = pln_lua_opened(L, 1);
    return pln_lua_push_status(L, pln_invalidate_tag(self->cache, pln_lua_check_key(L, 2)));
}

static int cache_invalidate_prefix(lua_State *L) {
    struct pln_lua_cache *self = pln_lua_opened(L, 1);
    return pln_lua_push_status(L, pln_invalidate_prefix(self->cache, pln_lua_check_key(L, 2)));
}

static int cache_invalidate_pattern(lua_State *L) {
    struct pln_lua_cache *self = pln_lua_opened(L, 1);
    return pln_lua_push_status(L, pln_invalidate_pattern(self->cache, pln_lua_check_key(L, 2)));
}

static int cache_clear(lua_State *L) {
    return pln_lua_push_status(L, pln_clear(pln_lua_opened(L, 1)->cache));
}

/* ---- events ---- */

/* Reads name and value of one field of argument `arg`, from the top of the stack; their strings
 * replace them. */
static void take_field(lua_State *L, int arg, struct pln_field *field) {
    if (lua_type(L, -2) != LUA_TSTRING) {
        luaL_argerror(L, arg, "an event's fields have names");
    }
    field->name.data = lua_tolstring(L, -2, &field->name.len);
    if (!pln_lua_top_text(L, &field->value)) {
        lua_pushfstring(L, "field '%s' is a %s, must be a string, integer or boolean",
                        field->name.data, luaL_typename(L, -1));
        luaL_argerror(L, arg, lua_tostring(L, -1));
    }
}

size_t pln_lua_take_fields(lua_State *L, int at, struct pln_field fields[PLN_LUA_MAX_FIELDS]) {
    size_t n = 0;
    if (lua_isnil(L, at)) {
        return 0;
    }
    luaL_checktype(L, at, LUA_TTABLE);
    luaL_checkstack(L, PLN_LUA_MAX_FIELDS + LUA_MINSTACK, "too many fields");
    lua_pushnil(L);
    while (lua_next(L, at) != 0) {
        luaL_argcheck(L, n < PLN_LUA_MAX_FIELDS, at, "more than 64 fields");
        take_field(L, at, &fields[n++]);
        lua_insert(L, -2); /* the value's string stays, below the key that lua_next wants */
    }
    return n;
}

/* raise(event, [fields]) */
static int cache_raise(lua_State *L) {
    struct pln_lua_cache *self = pln_lua_opened(L, 1);
    struct pln_bytes event = pln_lua_check_key(L, 2);
    struct pln_field fields[PLN_LUA_MAX_FIELDS];
    lua_settop(L, 3);
    size_t n = pln_lua_take_fields(L, 3, fields);
    return pln_lua_push_status(L, pln_raise(self->cache, event, fields, n));
}

const luaL_Reg pln_lua_writes[] = {
    {"set", cache_set},
    {"delete", cache_delete},
    {"delete_many", cache_delete_many},
    {"expire", cache_expire},
    {"touch", cache_touch},
    {"invalidate_tag", cache_invalidate_tag},
    {"invalidate_prefix", cache_invalidate_prefix},
    {"invalidate_pattern", cache_invalidate_pattern},
    {"clear", cache_clear},
    {"raise", cache_raise},
    {NULL, NULL},
};
