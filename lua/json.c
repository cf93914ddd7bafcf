/* SPDX-License-Identifier: MIT
 *
 * json.c - Lua values as JSON and back, for keys that are shared with programs that know nothing
 * else. By jansson, whose trees are malloc'ed: a userdata has the root, and every node is in the
 * tree before Lua is called again, so that a raise loses nothing.
 *
 * A table is an array where its keys are 1..n (an empty one, too), else an object, whose keys are
 * strings. null is nil: fields that are null are not there.
 */
#include "internal.h"

#include <jansson.h>

static const char box_name[] = "perilune.json";

struct box {
    json_t *root; /* NULL: none */
};

static int box_gc(lua_State *L) {
    struct box *box = luaL_checkudata(L, 1, box_name);
    json_decref(box->root);
    box->root = NULL;
    return 0;
}

static struct box *push_box(lua_State *L) {
    struct box *box = lua_newuserdatauv(L, sizeof *box, 0);
    box->root = NULL;
    if (luaL_newmetatable(L, box_name)) {
        lua_pushcfunction(L, box_gc);
        lua_setfield(L, -2, "__gc");
        lua_pushboolean(L, 0);
        lua_setfield(L, -2, "__metatable");
    }
    lua_setmetatable(L, -2);
    return box;
}

/* ---- writing ---- */

/* Where a value goes: the root, an array's end, or an object's field. */
struct place {
    struct box *box;
    json_t *parent;  /* NULL: the root */
    const char *key; /* NULL: of an array */
};

/* Takes over the node, which is NULL where memory is out. */
static int put(const struct place *place, json_t *node) {
    int failed = node == NULL;
    if (node != NULL && place->parent == NULL) {
        place->box->root = node;
    } else if (node != NULL) {
        failed = place->key == NULL ? json_array_append_new(place->parent, node)
                                    : json_object_set_new(place->parent, place->key, node);
    }
    return failed ? pln_fail(PLN_ENOMEM, "value: no memory for JSON") : PLN_OK;
}

static int write_any(lua_State *L, int index, const struct pln_lua_level *up,
                     const struct place *place);

static int write_array(lua_State *L, int index, struct pln_lua_level *level, struct place place,
                       size_t n) {
    for (size_t i = 1; i <= n; i++) {
        lua_pushinteger(L, (lua_Integer) i);
        level->key = lua_gettop(L);
        lua_rawgeti(L, index, (lua_Integer) i);
        int status = write_any(L, lua_gettop(L), level, &place);
        if (status < 0) {
            return status;
        }
        lua_pop(L, 2);
    }
    return PLN_OK;
}

/* Whether the bytes are text as JSON has it. */
static bool is_text(const char *text, size_t len) {
    json_t *string = json_stringn(text, len);
    json_decref(string);
    return string != NULL;
}

static int write_object(lua_State *L, int index, struct pln_lua_level *level, struct place place) {
    lua_pushnil(L);
    while (lua_next(L, index) != 0) {
        size_t len = 0;
        level->key = lua_gettop(L) - 1;
        if (lua_type(L, level->key) != LUA_TSTRING) {
            return pln_lua_refuse(L, level, "in JSON only a string can be a key");
        }
        place.key = lua_tolstring(L, level->key, &len);
        if (strlen(place.key) != len || !is_text(place.key, len)) {
            return pln_lua_refuse(L, level, "a key that is not UTF-8 cannot be JSON");
        }
        int status = write_any(L, level->key + 1, level, &place);
        if (status < 0) {
            return status;
        }
        lua_pop(L, 1);
    }
    return PLN_OK;
}

static int write_contents(lua_State *L, int index, const struct pln_lua_level *up,
                          const struct place *place) {
    struct pln_lua_level level;
    size_t n;
    int status = pln_lua_descend(L, index, up, &level);
    if (status < 0) {
        return status;
    }
    bool is_array = pln_lua_is_array(L, index, &n);
    json_t *node = is_array ? json_array() : json_object();
    status = put(place, node);
    if (status < 0) {
        return status;
    }
    struct place within = {.box = place->box, .parent = node};
    return is_array ? write_array(L, index, &level, within, n)
                    : write_object(L, index, &level, within);
}

static int write_table(lua_State *L, int index, const struct pln_lua_level *up,
                       const struct place *place) {
    luaL_checkstack(L, 2, "value");
    bool is_frozen = pln_lua_thaw(L, index);
    int status = write_contents(L, is_frozen ? lua_gettop(L) : index, up, place);
    if (is_frozen && status == PLN_OK) {
        lua_pop(L, 1);
    }
    return status;
}

static int write_string(lua_State *L, int index, const struct pln_lua_level *up,
                        const struct place *place) {
    size_t len;
    const char *text = lua_tolstring(L, index, &len);
    if (!is_text(text, len)) {
        return pln_lua_refuse(L, up, "a string that is not UTF-8 cannot be JSON");
    }
    return put(place, json_stringn(text, len));
}

static int write_any(lua_State *L, int index, const struct pln_lua_level *up,
                     const struct place *place) {
    switch (lua_type(L, index)) {
    case LUA_TNIL:
        return put(place, json_null());
    case LUA_TBOOLEAN:
        return put(place, json_boolean(lua_toboolean(L, index)));
    case LUA_TNUMBER:
        if (lua_isinteger(L, index)) {
            return put(place, json_integer((json_int_t) lua_tointeger(L, index)));
        }
        if (lua_tonumber(L, index) - lua_tonumber(L, index) != 0) {
            return pln_lua_refuse(L, up, "nan and infinities cannot be JSON");
        }
        return put(place, json_real(lua_tonumber(L, index)));
    case LUA_TSTRING:
        return write_string(L, index, up, place);
    case LUA_TTABLE:
        return write_table(L, index, up, place);
    default:
        return pln_lua_refuse_type(L, up, index);
    }
}

int pln_lua_encode_json(lua_State *L, int index, struct pln_bytes *bytes) {
    const size_t flags = JSON_COMPACT | JSON_ENCODE_ANY;
    int top = lua_gettop(L);
    struct place place = {.box = push_box(L)};
    int status = write_any(L, index, NULL, &place);
    if (status < 0) {
        json_decref(place.box->root);
        place.box->root = NULL;
        lua_settop(L, top);
        return status;
    }
    size_t len = json_dumpb(place.box->root, NULL, 0, flags);
    char *text = lua_newuserdatauv(L, len, 0);
    *bytes = pln_bytes_of(text, json_dumpb(place.box->root, text, len, flags));
    json_decref(place.box->root);
    place.box->root = NULL;
    lua_replace(L, top + 1);
    return PLN_OK;
}

/* ---- reading ---- */

static bool push(lua_State *L, const json_t *node, int depth);

static bool push_array(lua_State *L, const json_t *node, int depth) {
    size_t n = json_array_size(node);
    lua_createtable(L, n < 1024 ? (int) n : 1024, 0);
    for (size_t i = 0; i < n; i++) {
        if (!push(L, json_array_get(node, i), depth + 1)) {
            return false;
        }
        lua_rawseti(L, -2, (lua_Integer) i + 1);
    }
    return true;
}

static bool push_object(lua_State *L, const json_t *node, int depth) {
    json_t *object = (json_t *) (uintptr_t) node; /* it walks over it, and changes nothing */
    lua_createtable(L, 0, json_object_size(node) < 1024 ? (int) json_object_size(node) : 1024);
    for (void *at = json_object_iter(object); at != NULL; at = json_object_iter_next(object, at)) {
        lua_pushstring(L, json_object_iter_key(at));
        if (!push(L, json_object_iter_value(at), depth + 1)) {
            return false;
        }
        lua_rawset(L, -3);
    }
    return true;
}

/* False where it is too deep, with leftovers on the stack. */
static bool push(lua_State *L, const json_t *node, int depth) {
    luaL_checkstack(L, 4, "value");
    switch (json_typeof(node)) {
    case JSON_OBJECT:
        return depth < PLN_LUA_MAX_DEPTH && push_object(L, node, depth);
    case JSON_ARRAY:
        return depth < PLN_LUA_MAX_DEPTH && push_array(L, node, depth);
    case JSON_STRING:
        lua_pushlstring(L, json_string_value(node), json_string_length(node));
        return true;
    case JSON_INTEGER:
        lua_pushinteger(L, (lua_Integer) json_integer_value(node));
        return true;
    case JSON_REAL:
        lua_pushnumber(L, json_real_value(node));
        return true;
    case JSON_NULL:
        lua_pushnil(L);
        return true;
    default:
        lua_pushboolean(L, json_is_true(node));
        return true;
    }
}

int pln_lua_decode_json(lua_State *L, struct pln_bytes bytes) {
    json_error_t error;
    int top = lua_gettop(L);
    struct box *box = push_box(L);
    box->root = json_loadb(bytes.data, bytes.len, JSON_DECODE_ANY | JSON_ALLOW_NUL, &error);
    if (box->root == NULL) {
        lua_settop(L, top);
        return pln_fail(PLN_EINVAL, "value: damaged JSON at byte %d of %zu: %s", error.position,
                        bytes.len, error.text);
    }
    bool is_pushed = push(L, box->root, 0);
    json_decref(box->root);
    box->root = NULL;
    if (!is_pushed) {
        lua_settop(L, top);
        return pln_fail(PLN_EINVAL, "value: JSON nested deeper than %d", PLN_LUA_MAX_DEPTH);
    }
    lua_remove(L, top + 1);
    return PLN_OK;
}
