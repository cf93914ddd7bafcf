/* SPDX-License-Identifier: MIT
 *
 * decoded.c - values read, as Lua gets them; and tables that need not be decoded again.
 *
 * A handle remembers the tables that it has handed out, each with the bytes it was made of. A get
 * goes all its way as ever, and only at its end is looked whether the bytes that it brought are
 * those that are known of the key: then the table is handed out once more. So nothing that is void,
 * stale or replaced can be, whoever made it so; and a value that was loaded anew, and is the same,
 * need not be decoded. To know a value again by its address in L1 would be a little faster for
 * large ones, but needs it held there: by each state of each thread, for as long as that lives, and
 * L1 stores nothing while too much that has ended is held.
 *
 * All is in a Lua table of the registry, which names no handle and so keeps none alive:
 *
 *     [3 i + 1] key   [3 i + 2] table   [3 i + 3] its bytes   [key] i
 *
 * Who goes when there is no more room is found by a hand that passes once over what was used
 * since it came by last.
 */
#include "module.h"

#include <stdlib.h>

enum {
    FIRST_SLOTS = 64,
    MOST_SLOTS = 16384,
    MOST_OF_ALL = 4, /* a value takes at most this part of all bytes */
};

struct slot {
    const char *data; /* of a Lua string that the table keeps; NULL: free */
    size_t len;
    uint8_t format;
    bool is_used; /* since the hand came by */
};

struct pln_lua_decoded {
    int ref; /* of the table, in the registry */
    size_t bytes;
    size_t n, n_slots, hand;
    struct slot *slots;
};

/* ---- life ---- */

static struct pln_lua_decoded *decoded_new(lua_State *L, struct pln_lua_cache *self) {
    lua_newtable(L);
    int ref = luaL_ref(L, LUA_REGISTRYINDEX); /* may raise, so all of Lua's comes first */
    struct pln_lua_decoded *decoded = calloc(1, sizeof *decoded);
    struct slot *slots = calloc(FIRST_SLOTS, sizeof *slots);
    if (decoded == NULL || slots == NULL || self->cache == NULL || self->decoded != NULL) {
        luaL_unref(L, LUA_REGISTRYINDEX, ref); /* a finalizer may have closed it, or been here */
        free(decoded);
        free(slots);
        return self->decoded;
    }
    *decoded = (struct pln_lua_decoded){.ref = ref, .n_slots = FIRST_SLOTS, .slots = slots};
    self->decoded = decoded;
    return decoded;
}

void pln_lua_decoded_free(lua_State *L, struct pln_lua_cache *self) {
    if (self->decoded != NULL) {
        luaL_unref(L, LUA_REGISTRYINDEX, self->decoded->ref);
        free(self->decoded->slots);
        free(self->decoded);
        self->decoded = NULL;
    }
}

/* ---- room ----
 * Between the choice of a slot and its use nothing may run the collector, whose finalizers may call
 * this handle: so what follows uses only the raw functions, which do not. */

enum part { KEY = 1, TABLE, BYTES };

static lua_Integer place(size_t i, enum part part) {
    return (lua_Integer) i * 3 + part;
}

/* stack: the registry's table at `table` */
static void drop(lua_State *L, struct pln_lua_decoded *decoded, int table, size_t i) {
    lua_rawgeti(L, table, place(i, KEY));
    lua_pushnil(L);
    lua_rawset(L, table);
    for (enum part part = KEY; part <= BYTES; part++) {
        lua_pushboolean(L, 0);
        lua_rawseti(L, table, place(i, part));
    }
    decoded->bytes -= decoded->slots[i].len;
    decoded->n--;
    decoded->slots[i] = (struct slot){.data = NULL};
}

static void grow(struct pln_lua_decoded *decoded) {
    size_t n = decoded->n_slots * 2;
    struct slot *grown = n > MOST_SLOTS ? NULL : realloc(decoded->slots, n * sizeof *grown);
    if (grown != NULL) {
        memset(grown + decoded->n_slots, 0, (n - decoded->n_slots) * sizeof *grown);
        decoded->hand = decoded->n_slots;
        decoded->slots = grown;
        decoded->n_slots = n;
    }
}

/* A free slot, with room for so many bytes. */
static size_t make_room(lua_State *L, struct pln_lua_decoded *decoded, int table, size_t len,
                        size_t max_bytes) {
    if (decoded->n == decoded->n_slots && decoded->bytes + len <= max_bytes) {
        grow(decoded);
    }
    for (;;) {
        size_t i = decoded->hand;
        struct slot *slot = &decoded->slots[i];
        bool has_room = decoded->bytes + len <= max_bytes;
        if (slot->data == NULL && has_room) {
            return i;
        }
        if (slot->data != NULL && (!has_room || decoded->n == decoded->n_slots)) {
            if (!slot->is_used) {
                drop(L, decoded, table, i);
                continue;
            }
            slot->is_used = false;
        }
        decoded->hand = (i + 1) % decoded->n_slots;
    }
}

/* ---- known tables ---- */

/* Pushes the registry's table and, above it, the slot of the key; or pushes nothing. */
static bool find(lua_State *L, const struct pln_lua_decoded *decoded, int key) {
    lua_rawgeti(L, LUA_REGISTRYINDEX, decoded->ref);
    lua_pushvalue(L, key);
    if (lua_rawget(L, -2) != LUA_TNUMBER) {
        lua_pop(L, 2);
        return false;
    }
    return true;
}

/* Pushes the table that was made of these bytes for the key. Raises nothing. What it leaves below
 * that table goes with the caller's frame: to clear it away is a tenth of a hit. */
static bool push_known(lua_State *L, struct pln_lua_cache *self, int key, struct pln_bytes bytes,
                       uint8_t format) {
    if (self->decoded == NULL || key == 0 || !find(L, self->decoded, key)) {
        return false;
    }
    size_t i = (size_t) lua_tointeger(L, -1);
    struct slot *slot = &self->decoded->slots[i];
    if (slot->len != bytes.len || slot->format != format ||
        memcmp(slot->data, bytes.data, bytes.len) != 0) {
        lua_pop(L, 2);
        return false;
    }
    slot->is_used = true;
    lua_rawgeti(L, -2, place(i, TABLE));
    return true;
}

/* Remembers the frozen table on top of the stack. */
static void remember(lua_State *L, struct pln_lua_cache *self, int key, struct pln_bytes bytes,
                     uint8_t format) {
    int value = lua_gettop(L);
    if (self->decoded == NULL && decoded_new(L, self) == NULL) {
        return;
    }
    const char *data = lua_pushlstring(L, bytes.data, bytes.len);
    struct pln_lua_decoded *decoded = self->decoded; /* by now: see above */
    if (decoded == NULL) {
        lua_settop(L, value);
        return;
    }
    if (find(L, decoded, key)) {
        drop(L, decoded, value + 2, (size_t) lua_tointeger(L, -1));
        lua_pop(L, 2);
    }
    lua_rawgeti(L, LUA_REGISTRYINDEX, decoded->ref);
    int table = lua_gettop(L);
    size_t i = make_room(L, decoded, table, bytes.len, self->decoded_bytes);
    for (enum part part = KEY; part <= BYTES; part++) {
        lua_pushvalue(L, part == KEY ? key : part == TABLE ? value : value + 1);
        lua_rawseti(L, table, place(i, part));
    }
    lua_pushvalue(L, key);
    lua_pushinteger(L, (lua_Integer) i);
    lua_rawset(L, table);
    decoded->slots[i] = (struct slot){.data = data, .len = bytes.len, .format = format};
    decoded->n++;
    decoded->bytes += bytes.len;
    lua_settop(L, value);
}

/* Pushes the value that the bytes stand for; tables frozen, unless copies are wanted. The key at
 * `key` (0: none) is a string. Returns as pln_lua_decode(). */
static int push_value(lua_State *L, struct pln_lua_cache *self, int key, bool is_copy,
                      struct pln_bytes bytes, uint8_t format) {
    is_copy = is_copy || self->decoded_bytes == 0;
    if (!is_copy && push_known(L, self, key, bytes, format)) {
        return PLN_OK;
    }
    int status = pln_lua_decode(L, bytes, format);
    if (status == PLN_OK && !is_copy && lua_type(L, -1) == LUA_TTABLE) {
        pln_lua_freeze(L);
        if (key != 0 && bytes.len <= self->decoded_bytes / MOST_OF_ALL) {
            luaL_checkstack(L, 8, "value");
            remember(L, self, key, bytes, format);
        }
    }
    return status;
}

/* ---- answers of reads ---- */

int pln_lua_push_no_value(lua_State *L, int status) {
    if (status == PLN_PENDING) { /* it is this thread's own load that it would wait for */
        return pln_lua_push_failure(L, status);
    }
    if (status < 0) {
        return pln_lua_push_status(L, status);
    }
    lua_pushnil(L);
    return pln_lua_push_how(L, status == PLN_ABSENT ? PLN_FROM_NEGATIVE : PLN_FROM_MISS);
}

/* A value that Lua cannot read is no misuse of ours: another program wrote it. */
static int push_unreadable(lua_State *L) {
    pln_fail(PLN_EL2, "get: %s", pln_error_text());
    return pln_lua_push_failure(L, PLN_EL2);
}

int pln_lua_push_bytes(lua_State *L, struct pln_lua_cache *self, int key, bool is_copy,
                       struct pln_bytes bytes, const struct pln_result *result) {
    if (push_value(L, self, key, is_copy, bytes, result->format) < 0) {
        return push_unreadable(L);
    }
    return pln_lua_push_how(L, result->source);
}

struct borrowed {
    struct pln_lua_cache *self;
    const struct pln_result *result;
    bool is_copy;
};

static struct pln_bytes bytes_of(const struct pln_result *result) {
    return (struct pln_bytes){pln_value_data(result->value), result->len};
}

/* stack: borrowed (light), key or nil -> the value, or nothing */
static int decode_borrowed(lua_State *L) {
    const struct borrowed *borrowed = lua_touserdata(L, 1);
    int key = lua_isnil(L, 2) ? 0 : 2;
    int status = push_value(L, borrowed->self, key, borrowed->is_copy, bytes_of(borrowed->result),
                            borrowed->result->format);
    return status < 0 ? 0 : 1;
}

bool pln_lua_push_borrowed(lua_State *L, struct pln_lua_cache *self, int key, bool is_copy,
                           struct pln_result *result) {
    struct borrowed borrowed = {self, result, is_copy};
    int top = lua_gettop(L), raised = LUA_OK;
    if (is_copy || !push_known(L, self, key, bytes_of(result), result->format)) {
        lua_pushcfunction(L, decode_borrowed);
        lua_pushlightuserdata(L, &borrowed);
        if (key == 0) {
            lua_pushnil(L);
        } else {
            lua_pushvalue(L, key);
        }
        self->n_running++; /* a finalizer that runs meanwhile must not close the cache */
        raised = lua_pcall(L, 2, LUA_MULTRET, 0);
        self->n_running--;
    }
    pln_release(self->cache, result->value);
    result->value = NULL;
    if (raised != LUA_OK) {
        lua_error(L);
    }
    return lua_gettop(L) > top;
}

int pln_lua_push_read(lua_State *L, struct pln_lua_cache *self, int key, bool is_copy, int status,
                      struct pln_result *result) {
    if (status != PLN_OK) {
        pln_release(self->cache, result->value);
        return pln_lua_push_no_value(L, status);
    }
    return pln_lua_push_borrowed(L, self, key, is_copy, result)
               ? pln_lua_push_how(L, result->source)
               : push_unreadable(L);
}

int pln_lua_push_value(lua_State *L, struct pln_lua_cache *self, int key, bool is_copy,
                       const struct pln_result *result) {
    return push_value(L, self, key, is_copy, bytes_of(result), result->format);
}

/* ---- copies ---- */

/* copy(value): as a function of the module, and as a method */
int pln_lua_copy_function(lua_State *L) {
    luaL_checkany(L, 1);
    pln_lua_copy(L, 1);
    return 1;
}

static int cache_copy(lua_State *L) {
    pln_lua_handle(L, 1);
    luaL_checkany(L, 2);
    pln_lua_copy(L, 2);
    return 1;
}

const luaL_Reg pln_lua_copies[] = {
    {"copy", cache_copy},
    {NULL, NULL},
};
