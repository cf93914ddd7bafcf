/* SPDX-License-Identifier: MIT
 *
 * value.c - Lua values as bytes and back.
 *
 * Encoding writes through msgpack-c into a userdata on the stack, so a raise for want of memory
 * leaves nothing behind. Decoding is a reader of our own over the bytes: msgpack-c's builds a tree
 * in malloc'ed zones first, which a raise would leak, and believes the counts in damaged bytes.
 * Here no count is believed beyond the bytes that are left, and depth is bounded both ways.
 */
#include "internal.h"

#include <inttypes.h>
#include <math.h>
#include <stdio.h>

#include <msgpack.h>

/* ---- encoding ---- */

struct buffer {
    lua_State *L;
    int slot; /* of the userdata that holds the bytes */
    char *data;
    size_t len, size;
};

static int append(void *arg, const char *bytes, size_t len) {
    struct buffer *buffer = arg;
    if (buffer->size - buffer->len < len) {
        size_t size = buffer->size * 2 + len;
        char *grown = lua_newuserdatauv(buffer->L, size, 0);
        memcpy(grown, buffer->data, buffer->len);
        lua_replace(buffer->L, buffer->slot);
        buffer->data = grown;
        buffer->size = size;
    }
    memcpy(buffer->data + buffer->len, bytes, len);
    buffer->len += len;
    return 0;
}

static size_t append_step(lua_State *L, const struct pln_lua_level *level, char *text,
                          size_t size) {
    int n;
    if (lua_type(L, level->key) == LUA_TSTRING) {
        n = snprintf(text, size, ".%s", lua_tostring(L, level->key));
    } else if (lua_isinteger(L, level->key)) {
        n = snprintf(text, size, "[%" PRId64 "]", (int64_t) lua_tointeger(L, level->key));
    } else {
        n = snprintf(text, size, "[%s]", luaL_typename(L, level->key));
    }
    return n < 0 ? 0 : (size_t) n < size ? (size_t) n : size - 1;
}

/* "value.user[3].conn" */
static size_t path_to(lua_State *L, const struct pln_lua_level *level, char *text, size_t size) {
    if (level == NULL) {
        return (size_t) snprintf(text, size, "value");
    }
    size_t at = path_to(L, level->up, text, size);
    return at + append_step(L, level, text + at, size - at);
}

int pln_lua_refuse(lua_State *L, const struct pln_lua_level *level, const char *what) {
    char path[160];
    path_to(L, level, path, sizeof path);
    return pln_fail(PLN_EINVAL, "%s: %s", path, what);
}

int pln_lua_refuse_type(lua_State *L, const struct pln_lua_level *level, int index) {
    char what[64];
    snprintf(what, sizeof what, "a %s cannot be cached", luaL_typename(L, index));
    return pln_lua_refuse(L, level, what);
}

static bool is_inside(const struct pln_lua_level *level, const void *table) {
    for (; level != NULL; level = level->up) {
        if (level->table == table) {
            return true;
        }
    }
    return false;
}

bool pln_lua_is_array(lua_State *L, int index, size_t *n_pairs) {
    size_t border = lua_rawlen(L, index);
    bool is_sequence = true;
    size_t n = 0;
    lua_pushnil(L);
    while (lua_next(L, index) != 0) {
        lua_pop(L, 1);
        n++;
        is_sequence = is_sequence && lua_isinteger(L, -1) && lua_tointeger(L, -1) >= 1 &&
                      (lua_Unsigned) lua_tointeger(L, -1) <= border;
    }
    *n_pairs = n;
    return is_sequence && n == border;
}

static int pack(lua_State *L, msgpack_packer *packer, int index, const struct pln_lua_level *up);

static int pack_text(lua_State *L, msgpack_packer *packer, int index,
                     const struct pln_lua_level *up) {
    size_t len;
    const char *text = lua_tolstring(L, index, &len);
    if (len > UINT32_MAX) {
        return pln_lua_refuse(L, up, "a string over 4 GB cannot be cached");
    }
    msgpack_pack_str(packer, len);
    msgpack_pack_str_body(packer, text, len);
    return PLN_OK;
}

static int pack_array(lua_State *L, msgpack_packer *packer, int index, struct pln_lua_level *level,
                      size_t n) {
    msgpack_pack_array(packer, n);
    for (size_t i = 1; i <= n; i++) {
        lua_pushinteger(L, (lua_Integer) i);
        level->key = lua_gettop(L);
        lua_rawgeti(L, index, (lua_Integer) i);
        int status = pack(L, packer, lua_gettop(L), level);
        if (status < 0) {
            return status;
        }
        lua_pop(L, 2);
    }
    return PLN_OK;
}

static int pack_map(lua_State *L, msgpack_packer *packer, int index, struct pln_lua_level *level,
                    size_t n) {
    msgpack_pack_map(packer, n);
    lua_pushnil(L);
    while (lua_next(L, index) != 0) {
        int key = lua_gettop(L) - 1;
        int type = lua_type(L, key);
        level->key = key;
        if (type != LUA_TSTRING && type != LUA_TNUMBER && type != LUA_TBOOLEAN) {
            char what[64];
            snprintf(what, sizeof what, "a %s cannot be a key", lua_typename(L, type));
            return pln_lua_refuse(L, level, what);
        }
        int status = pack(L, packer, key, level);
        if (status == PLN_OK) {
            status = pack(L, packer, key + 1, level);
        }
        if (status < 0) {
            return status;
        }
        lua_pop(L, 1);
    }
    return PLN_OK;
}

int pln_lua_descend(lua_State *L, int index, const struct pln_lua_level *up,
                    struct pln_lua_level *level) {
    *level = (struct pln_lua_level){up, lua_topointer(L, index), 0, up == NULL ? 1 : up->depth + 1};
    if (is_inside(up, level->table)) {
        return pln_lua_refuse(L, up, "a table that contains itself cannot be cached");
    }
    if (level->depth > PLN_LUA_MAX_DEPTH) {
        return pln_lua_refuse(L, up, "tables nested deeper than 32 cannot be cached");
    }
    luaL_checkstack(L, 8, "value");
    return PLN_OK;
}

static int pack_contents(lua_State *L, msgpack_packer *packer, int index,
                         const struct pln_lua_level *up) {
    struct pln_lua_level level;
    size_t n;
    int status = pln_lua_descend(L, index, up, &level);
    if (status < 0) {
        return status;
    }
    if (pln_lua_is_array(L, index, &n)) {
        return pack_array(L, packer, index, &level, n);
    }
    return pack_map(L, packer, index, &level, n);
}

static int pack_table(lua_State *L, msgpack_packer *packer, int index,
                      const struct pln_lua_level *up) {
    luaL_checkstack(L, 2, "value");
    bool is_frozen = pln_lua_thaw(L, index);
    int status = pack_contents(L, packer, is_frozen ? lua_gettop(L) : index, up);
    if (is_frozen && status == PLN_OK) {
        lua_pop(L, 1);
    }
    return status;
}

static int pack(lua_State *L, msgpack_packer *packer, int index, const struct pln_lua_level *up) {
    switch (lua_type(L, index)) {
    case LUA_TNIL:
        msgpack_pack_nil(packer);
        return PLN_OK;
    case LUA_TBOOLEAN:
        lua_toboolean(L, index) ? msgpack_pack_true(packer) : msgpack_pack_false(packer);
        return PLN_OK;
    case LUA_TNUMBER:
        if (lua_isinteger(L, index)) {
            msgpack_pack_int64(packer, lua_tointeger(L, index));
        } else {
            msgpack_pack_double(packer, lua_tonumber(L, index));
        }
        return PLN_OK;
    case LUA_TSTRING:
        return pack_text(L, packer, index, up);
    case LUA_TTABLE:
        return pack_table(L, packer, index, up);
    default:
        return pln_lua_refuse_type(L, up, index);
    }
}

static int encode_msgpack(lua_State *L, int index, struct pln_bytes *bytes) {
    enum { FIRST_SIZE = 256 };
    struct buffer buffer = {L, 0, lua_newuserdatauv(L, FIRST_SIZE, 0), 0, FIRST_SIZE};
    buffer.slot = lua_gettop(L);
    msgpack_packer packer;
    msgpack_packer_init(&packer, &buffer, append);
    int status = pack(L, &packer, index, NULL);
    if (status < 0) {
        lua_settop(L, buffer.slot - 1);
        return status;
    }
    *bytes = pln_bytes_of(buffer.data, buffer.len);
    return PLN_OK;
}

int pln_lua_encode_as(lua_State *L, int index, int codec, bool is_plain, struct pln_bytes *bytes,
                      uint8_t *format) {
    index = lua_absindex(L, index);
    luaL_checkstack(L, 6, "value");
    bool is_string = lua_type(L, index) == LUA_TSTRING, is_json = codec == PLN_LUA_JSON;
    if (is_string && !(is_plain && is_json)) {
        lua_pushvalue(L, index);
        bytes->data = lua_tolstring(L, -1, &bytes->len);
        *format = PLN_LUA_RAW;
        return PLN_OK;
    }
    if (is_plain && !is_json) {
        return pln_fail(PLN_EINVAL,
                        "value: the key's rule is plain, which takes strings, got a %s "
                        "(others with codec = \"json\")",
                        luaL_typename(L, index));
    }
    *format = is_json ? PLN_LUA_JSON : PLN_LUA_MSGPACK;
    return is_json ? pln_lua_encode_json(L, index, bytes) : encode_msgpack(L, index, bytes);
}

int pln_lua_encode(lua_State *L, int index, struct pln_bytes *bytes, uint8_t *format) {
    return pln_lua_encode_as(L, index, PLN_LUA_MSGPACK, false, bytes, format);
}

/* ---- decoding ---- */

struct reader {
    const unsigned char *at, *end;
};

static size_t left(const struct reader *reader) {
    return (size_t) (reader->end - reader->at);
}

/* A big-endian number of `width` bytes. */
static bool read_number(struct reader *reader, unsigned width, uint64_t *number) {
    if (left(reader) < width) {
        return false;
    }
    *number = 0;
    while (width-- > 0) {
        *number = *number << 8 | *reader->at++;
    }
    return true;
}

static bool push_text(lua_State *L, struct reader *reader, uint64_t len) {
    if (len > left(reader)) {
        return false;
    }
    lua_pushlstring(L, (const char *) reader->at, (size_t) len);
    reader->at += len;
    return true;
}

static bool push_float(lua_State *L, struct reader *reader, unsigned width) {
    uint64_t bits;
    if (!read_number(reader, width, &bits)) {
        return false;
    }
    if (width == 4) {
        uint32_t half = (uint32_t) bits;
        float number;
        memcpy(&number, &half, sizeof number);
        lua_pushnumber(L, (lua_Number) number);
    } else {
        double number;
        memcpy(&number, &bits, sizeof number);
        lua_pushnumber(L, number);
    }
    return true;
}

static bool push_unsigned(lua_State *L, struct reader *reader, unsigned width) {
    uint64_t number;
    if (!read_number(reader, width, &number)) {
        return false;
    }
    if (number <= INT64_MAX) {
        lua_pushinteger(L, (lua_Integer) number);
    } else {
        lua_pushnumber(L, (lua_Number) number); /* only foreign writers: we have no such integer */
    }
    return true;
}

static bool push_signed(lua_State *L, struct reader *reader, unsigned width) {
    uint64_t number;
    if (!read_number(reader, width, &number)) {
        return false;
    }
    unsigned shift = 64 - 8 * width;
    lua_pushinteger(L, (lua_Integer) (number << shift) >> shift);
    return true;
}

static bool push_any(lua_State *L, struct reader *reader, int depth);

/* Room for so many slots at once; damaged bytes may name a count far beyond what follows. */
static int room_for(uint64_t n) {
    return n < 1024 ? (int) n : 1024;
}

static bool push_array(lua_State *L, struct reader *reader, uint64_t n, int depth) {
    if (n > left(reader) || depth >= PLN_LUA_MAX_DEPTH) {
        return false;
    }
    lua_createtable(L, room_for(n), 0);
    for (uint64_t i = 1; i <= n; i++) {
        if (!push_any(L, reader, depth + 1)) {
            return false;
        }
        lua_rawseti(L, -2, (lua_Integer) i);
    }
    return true;
}

static bool is_key(lua_State *L, int index) {
    return !lua_isnil(L, index) &&
           (lua_type(L, index) != LUA_TNUMBER || !isnan(lua_tonumber(L, index)));
}

static bool push_map(lua_State *L, struct reader *reader, uint64_t n, int depth) {
    if (n > left(reader) / 2 || depth >= PLN_LUA_MAX_DEPTH) {
        return false;
    }
    lua_createtable(L, 0, room_for(n));
    for (uint64_t i = 0; i < n; i++) {
        if (!push_any(L, reader, depth + 1) || !is_key(L, -1) || !push_any(L, reader, depth + 1)) {
            return false;
        }
        lua_rawset(L, -3);
    }
    return true;
}

static bool push_counted(lua_State *L, struct reader *reader, unsigned type, int depth) {
    static const unsigned char widths[] = {
        [0xc4] = 1, [0xc5] = 2, [0xc6] = 4, [0xd9] = 1, [0xda] = 2,
        [0xdb] = 4, [0xdc] = 2, [0xdd] = 4, [0xde] = 2, [0xdf] = 4};
    uint64_t n;
    if (!read_number(reader, widths[type], &n)) {
        return false;
    }
    switch (type) {
    case 0xdc:
    case 0xdd:
        return push_array(L, reader, n, depth);
    case 0xde:
    case 0xdf:
        return push_map(L, reader, n, depth);
    default:
        return push_text(L, reader, n);
    }
}

static bool push_simple(lua_State *L, struct reader *reader, unsigned type, int depth) {
    switch (type) {
    case 0xc0:
        lua_pushnil(L);
        return true;
    case 0xc2:
    case 0xc3:
        lua_pushboolean(L, type == 0xc3);
        return true;
    case 0xca:
    case 0xcb:
        return push_float(L, reader, type == 0xca ? 4 : 8);
    case 0xcc:
    case 0xcd:
    case 0xce:
    case 0xcf:
        return push_unsigned(L, reader, 1u << (type - 0xcc));
    case 0xd0:
    case 0xd1:
    case 0xd2:
    case 0xd3:
        return push_signed(L, reader, 1u << (type - 0xd0));
    case 0xc1: /* never used */
    case 0xc7: /* the extension types: nothing of ours */
    case 0xc8:
    case 0xc9:
    case 0xd4:
    case 0xd5:
    case 0xd6:
    case 0xd7:
    case 0xd8:
        return false;
    default:
        return push_counted(L, reader, type, depth);
    }
}

/* Pushes the next object; false where the bytes are none, with leftovers on the stack. */
static bool push_any(lua_State *L, struct reader *reader, int depth) {
    if (left(reader) == 0) {
        return false;
    }
    luaL_checkstack(L, 4, "value");
    unsigned type = *reader->at++;
    if (type < 0x80) {
        lua_pushinteger(L, (lua_Integer) type);
    } else if (type >= 0xe0) {
        lua_pushinteger(L, (lua_Integer) type - 256);
    } else if (type < 0x90) {
        return push_map(L, reader, type & 15, depth);
    } else if (type < 0xa0) {
        return push_array(L, reader, type & 15, depth);
    } else if (type < 0xc0) {
        return push_text(L, reader, type & 31);
    } else {
        return push_simple(L, reader, type, depth);
    }
    return true;
}

int pln_lua_decode(lua_State *L, struct pln_bytes bytes, uint8_t format) {
    if (format == PLN_LUA_RAW) {
        lua_pushlstring(L, bytes.len == 0 ? "" : bytes.data, bytes.len);
        return PLN_OK;
    }
    if (format == PLN_LUA_JSON) {
        return pln_lua_decode_json(L, bytes);
    }
    if (format != PLN_LUA_MSGPACK) {
        return pln_fail(PLN_EINVAL,
                        "value: format %u is unknown to Lua (0 raw, 1 MessagePack, 2 JSON)",
                        (unsigned) format);
    }
    int top = lua_gettop(L);
    struct reader reader = {bytes.data, (const unsigned char *) bytes.data + bytes.len};
    if (!push_any(L, &reader, 0) || left(&reader) > 0) {
        lua_settop(L, top);
        return pln_fail(PLN_EINVAL, "value: damaged MessagePack at byte %zu of %zu",
                        bytes.len - left(&reader), bytes.len);
    }
    return PLN_OK;
}
