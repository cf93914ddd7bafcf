/* SPDX-License-Identifier: MIT
 *
 * keying.c - keys made of parts, and parts of keys: perilune.key, and what wrap does with
 * arguments.
 *
 *     perilune.key("user", 7, "a:b")            "user:7:a%3Ab"
 *     perilune.key.parse "user:7:a%3Ab"         { "user", 7, "a:b", n = 3 }
 *
 * Parts become a key that no other parts become: numbers, booleans and nil as they are written; in
 * strings every byte that could be taken for something else (':', '%', control bytes) is written
 * %3A, and the first byte of a string that reads like a number, boolean or nil too. The names of
 * one kind of thing are therefore readable, and 1 and "1" differ.
 *
 * A key over 200 bytes ends in "%#" and 128 bits of XXH3 of all of it, behind as much of its head
 * as there is room for: no part has these two bytes in it. Of a billion long keys with one head two
 * are the same by chance once in 10^21 times; but who may choose keys, and wants to, can find two,
 * for it is no cryptographic hash.
 */
#include "module.h"

#include <math.h>
#include <stdio.h>

enum {
    LONGEST = 200,
    HASH_BYTES = 2 + 32, /* "%#" and hexadecimal digits */
};

/* ---- parts ---- */

static void add_escaped(luaL_Buffer *buffer, unsigned char byte) {
    static const char digits[] = "0123456789ABCDEF";
    luaL_addchar(buffer, '%');
    luaL_addchar(buffer, digits[byte >> 4]);
    luaL_addchar(buffer, digits[byte & 15]);
}

/* Pushes what a text reads like where it is no string's; false, and nothing is pushed, where it is.
 */
static bool push_other_type(lua_State *L, const char *text) {
    if (strcmp(text, "nil") == 0) {
        lua_pushnil(L);
    } else if (strcmp(text, "true") == 0 || strcmp(text, "false") == 0) {
        lua_pushboolean(L, text[0] == 't');
    } else if (strcmp(text, "inf") == 0 || strcmp(text, "-inf") == 0) {
        /* what "%.17g" writes of infinities is no number to Lua */
        lua_pushnumber(L, text[0] == '-' ? -HUGE_VAL : HUGE_VAL);
    } else {
        return lua_stringtonumber(L, text) != 0;
    }
    return true;
}

/* Pushes a string as it stands in a key. */
static void push_text(lua_State *L, int index) {
    size_t len;
    const char *text = lua_tolstring(L, index, &len);
    bool escapes_first = push_other_type(L, text);
    luaL_Buffer buffer;
    if (escapes_first) {
        lua_pop(L, 1);
    }
    luaL_buffinit(L, &buffer);
    if (len == 0) {
        luaL_addchar(&buffer, '%'); /* else followed by two digits: only the empty string ends so */
    }
    for (size_t i = 0; i < len; i++) {
        unsigned char byte = (unsigned char) text[i];
        if (byte == ':' || byte == '%' || byte < ' ' || byte == 0x7f || (i == 0 && escapes_first)) {
            add_escaped(&buffer, byte);
        } else {
            luaL_addchar(&buffer, (char) byte);
        }
    }
    luaL_pushresult(&buffer);
}

static void push_number(lua_State *L, int index) {
    int is_integer;
    lua_Integer integer = lua_tointegerx(L, index, &is_integer);
    if (is_integer) {
        lua_pushfstring(L, "%I", (LUAI_UACINT) integer); /* 1 and 1.0 are equal: one key */
        return;
    }
    char text[32];
    luaL_argcheck(L, !isnan(lua_tonumber(L, index)), index, "nan is no key");
    snprintf(text, sizeof text, "%.17g", lua_tonumber(L, index));
    lua_pushstring(L, text);
}

static void push_part(lua_State *L, int index, const char *help) {
    switch (lua_type(L, index)) {
    case LUA_TSTRING:
        push_text(L, index);
        break;
    case LUA_TNUMBER:
        push_number(L, index);
        break;
    case LUA_TNIL:
        lua_pushliteral(L, "nil");
        break;
    case LUA_TBOOLEAN:
        lua_pushstring(L, lua_toboolean(L, index) ? "true" : "false");
        break;
    default:
        lua_pushfstring(L, "a %s makes no key%s", luaL_typename(L, index), help);
        luaL_argerror(L, index, lua_tostring(L, -1));
    }
}

void pln_lua_key_add(lua_State *L, int first, int last, const char *help) {
    for (int i = first; i <= last; i++) {
        lua_pushliteral(L, ":");
        push_part(L, i, help);
        lua_concat(L, 3);
    }
}

void pln_lua_key_shorten(lua_State *L) {
    size_t len;
    const char *text = lua_tolstring(L, -1, &len);
    char shorter[LONGEST + 1];
    if (len > LONGEST) {
        struct pln_hash128 hash = pln_hash128(pln_bytes_of(text, len));
        memcpy(shorter, text, LONGEST - HASH_BYTES);
        snprintf(shorter + LONGEST - HASH_BYTES, HASH_BYTES + 1, "%%#%016llx%016llx",
                 (unsigned long long) hash.high, (unsigned long long) hash.low);
        lua_pushlstring(L, shorter, LONGEST);
        lua_replace(L, -2);
    }
}

/* ---- perilune.key ---- */

/* key(part, ...) -> a key. stack: the object itself, parts */
static int make_key(lua_State *L) {
    int last = lua_gettop(L);
    lua_remove(L, 1); /* so that errors name parts by their place */
    last--;
    luaL_checkstack(L, 10, "too many parts");
    luaL_argcheck(L, last >= 1, 1, "a key has at least one part");
    for (int i = 1; i <= last; i++) {
        luaL_argcheck(L, !lua_isnil(L, i), i, "nil is no part of a key");
    }
    push_part(L, 1, "");
    pln_lua_key_add(L, 2, last, "");
    pln_lua_key_shorten(L);
    return 1;
}

static int digit_of(char byte) {
    return byte >= '0' && byte <= '9'   ? byte - '0'
           : byte >= 'A' && byte <= 'F' ? byte - 'A' + 10
                                        : -1;
}

/* Pushes a part of a key as what it was; or returns why it is none. */
static const char *push_parsed(lua_State *L, const char *text, size_t len) {
    luaL_Buffer buffer;
    lua_pushlstring(L, text, len); /* with a zero behind it */
    const char *copy = lua_tostring(L, -1);
    if (memchr(copy, 0, len) == NULL && push_other_type(L, copy)) {
        lua_remove(L, -2);
        return NULL;
    }
    if (len == 0) {
        return "a part of it is empty";
    }
    luaL_buffinit(L, &buffer);
    for (size_t i = 0; i < len; i++) {
        if (copy[i] != '%') {
            luaL_addchar(&buffer, copy[i]);
        } else if (len > 1) {
            int high = i + 2 < len ? digit_of(copy[i + 1]) : -1;
            int low = i + 2 < len ? digit_of(copy[i + 2]) : -1;
            if (high < 0 || low < 0) {
                return "a '%' is not followed by two hexadecimal digits";
            }
            luaL_addchar(&buffer, (char) (high << 4 | low));
            i += 2;
        }
    }
    luaL_pushresult(&buffer);
    lua_remove(L, -2);
    return NULL;
}

static bool is_shortened(const char *text, size_t len) {
    const char *at = text + LONGEST - HASH_BYTES;
    return len == LONGEST && at[0] == '%' && at[1] == '#';
}

/* parse(key) -> a list of its parts, with n | nil, message, "invalid" */
static int parse_key(lua_State *L) {
    size_t len;
    const char *text = luaL_checklstring(L, 1, &len), *end = text + len;
    lua_Integer n = 0;
    lua_settop(L, 1);
    lua_newtable(L);
    for (const char *at = text; at <= end; n++) {
        const char *colon = at < end ? memchr(at, ':', (size_t) (end - at)) : NULL;
        const char *stop = colon != NULL ? colon : end;
        const char *why = is_shortened(text, len) ? "it was too long, and ends in a hash"
                                                  : push_parsed(L, at, (size_t) (stop - at));
        if (why != NULL) {
            lua_pushnil(L);
            lua_pushfstring(L, "'%s' is no key of perilune.key: %s", text, why);
            lua_pushstring(L, pln_status_name(PLN_EINVAL));
            return 3;
        }
        lua_rawseti(L, 2, n + 1);
        at = stop + 1;
    }
    lua_pushinteger(L, n);
    lua_setfield(L, 2, "n");
    return 1;
}

void pln_lua_push_key_maker(lua_State *L) {
    lua_newtable(L);
    lua_pushcfunction(L, parse_key);
    lua_setfield(L, -2, "parse");
    lua_createtable(L, 0, 3);
    lua_pushcfunction(L, make_key);
    lua_setfield(L, -2, "__call");
    lua_pushliteral(L, "perilune.key");
    lua_setfield(L, -2, "__name");
    lua_pushboolean(L, 0);
    lua_setfield(L, -2, "__metatable");
    lua_setmetatable(L, -2);
}
