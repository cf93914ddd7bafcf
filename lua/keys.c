/* SPDX-License-Identifier: MIT
 *
 * keys.c - L1 as a whole, in Lua: its budget, its keys in a list or one by one, the hottest of
 * them.
 *
 * Lua may raise an error wherever it needs memory, and the core's visitors may not be left so. What
 * they see is copied into a block that Lua owns, and becomes strings and tables afterwards; where
 * the block was too small it is made anew, larger.
 */
#include "module.h"

#include <math.h>
#include <string.h>

enum { FIRST_BLOCK = 16384, MOST_KEYS = 1 << 30 };

struct seen {
    double share;
    uint64_t requests;
    size_t len; /* of the key, which follows, and fills whole words */
};

struct block {
    size_t size, used;
    lua_Integer n, most;
    bool is_full;
    char *bytes;
};

static bool note(struct block *block, struct pln_bytes key, uint64_t requests, double share) {
    struct seen seen = {share, requests, key.len};
    size_t needed = sizeof seen + (key.len + 7) / 8 * 8;
    if (block->size - block->used < needed) {
        block->is_full = true;
        return false;
    }
    memcpy(block->bytes + block->used, &seen, sizeof seen);
    if (key.len > 0) {
        memcpy(block->bytes + block->used + sizeof seen, key.data, key.len);
    }
    block->used += needed;
    return ++block->n < block->most;
}

static bool note_key(void *arg, struct pln_bytes key) {
    return note(arg, key, 0, 0);
}

static bool note_hot(void *arg, struct pln_bytes key, uint64_t requests, double share) {
    return note(arg, key, requests, share);
}

/* The next key of a block; pushes it as a string. */
static const char *push_next(lua_State *L, const char *at, struct seen *seen) {
    memcpy(seen, at, sizeof *seen);
    lua_pushlstring(L, at + sizeof *seen, seen->len);
    return at + sizeof *seen + (seen->len + 7) / 8 * 8;
}

/* A block twice as large, on top of the stack in the place of the last one. */
static void grow(lua_State *L, struct block *block) {
    size_t size = block->size == 0 ? FIRST_BLOCK : 2 * block->size;
    char *bytes = lua_newuserdatauv(L, size, 0);
    lua_replace(L, 3);
    *block = (struct block){.size = size, .most = block->most, .bytes = bytes};
}

/* keys([prefix [, limit]]) -> a list of the keys in L1 that begin so */
static int cache_keys(lua_State *L) {
    struct pln_lua_cache *self = pln_lua_opened(L, 1);
    struct block block = {.most = luaL_optinteger(L, 3, MOST_KEYS)};
    struct pln_bytes prefix = {NULL, 0};
    luaL_argcheck(L, block.most > 0, 3, "limit must be positive");
    prefix.data = luaL_optlstring(L, 2, "", &prefix.len);
    lua_settop(L, 2);
    lua_pushnil(L);
    do {
        grow(L, &block);
        int status = pln_each(self->cache, prefix, note_key, &block);
        if (status < 0) {
            return pln_lua_push_status(L, status);
        }
    } while (block.is_full);
    lua_createtable(L, (int) block.n, 0);
    const char *at = block.bytes;
    for (lua_Integer i = 1; i <= block.n; i++) {
        struct seen seen;
        at = push_next(L, at, &seen);
        lua_rawseti(L, -2, i);
    }
    return 1;
}

/* ---- one after the other ---- */

/* Keys on their way to a for loop. The block is the userdata's first user value, the pattern its
 * second, the cache its third; all are given up where the loop ends. */
struct walk {
    const char *at;
    lua_Integer n_left;
    bool has_pattern;
};

enum { WALK_BLOCK = 1, WALK_PATTERN, WALK_CACHE, N_WALK = WALK_CACHE };

static int close_walk(lua_State *L) {
    struct walk *walk = lua_touserdata(L, 1);
    walk->n_left = 0;
    for (int i = 1; i <= N_WALK; i++) {
        lua_pushnil(L);
        lua_setiuservalue(L, 1, i);
    }
    return 0;
}

static const luaL_Reg walk_metamethods[] = {{"__close", close_walk}, {NULL, NULL}};

static bool fits_pattern(lua_State *L, const struct walk *walk) {
    struct pln_mask mask = {PLN_MASK_PATTERN, {NULL, 0}};
    struct pln_bytes key;
    if (!walk->has_pattern) {
        return true;
    }
    key.data = lua_tolstring(L, -1, &key.len);
    lua_getiuservalue(L, lua_upvalueindex(1), WALK_PATTERN);
    mask.text.data = lua_tolstring(L, -1, &mask.text.len);
    bool is_fit = pln_mask_fits(&mask, key);
    lua_pop(L, 1);
    return is_fit;
}

static void set_seconds(lua_State *L, const char *name, pln_ms ms) {
    lua_pushnumber(L, ms == PLN_FOREVER ? (lua_Number) HUGE_VAL : (lua_Number) ms / 1000);
    lua_setfield(L, -2, name);
}

/* -> key, { age =, left =, bytes = }; those that have gone since are passed over */
static int next_key(lua_State *L) {
    struct walk *walk = lua_touserdata(L, lua_upvalueindex(1));
    struct pln_result result;
    struct seen seen;
    lua_settop(L, 0);
    lua_getiuservalue(L, lua_upvalueindex(1), WALK_CACHE);
    while (walk->n_left > 0) {
        walk->at = push_next(L, walk->at, &seen);
        walk->n_left--;
        struct pln_lua_cache *self = pln_lua_opened(L, 1);
        if (fits_pattern(L, walk) &&
            pln_peek(self->cache, pln_lua_check_key(L, 2), &result) == PLN_OK) {
            pln_release(self->cache, result.value); /* only looked at */
            lua_createtable(L, 0, 3);
            set_seconds(L, "age", result.age_ms);
            set_seconds(L, "left", result.left_ms);
            lua_pushinteger(L, (lua_Integer) result.len);
            lua_setfield(L, -2, "bytes");
            return 2;
        }
        lua_settop(L, 1);
    }
    return 0;
}

/* each([prefix or pattern]) -> an iterator over the keys in L1 that begin so, or fit */
static int cache_each(lua_State *L) {
    pln_lua_opened(L, 1);
    struct block block = {.most = MOST_KEYS};
    struct pln_bytes text = {NULL, 0};
    text.data = luaL_optlstring(L, 2, "", &text.len);
    lua_settop(L, 2);
    lua_pushnil(L);
    const char *star = text.len > 0 ? memchr(text.data, '*', text.len) : NULL;
    struct pln_bytes prefix = {
        text.data, star == NULL ? text.len : (size_t) (star - (const char *) text.data)};
    do {
        grow(L, &block);
        int status = pln_each(pln_lua_opened(L, 1)->cache, prefix, note_key, &block);
        if (status < 0) {
            return pln_lua_push_status(L, status);
        }
    } while (block.is_full);
    struct walk *walk = lua_newuserdatauv(L, sizeof *walk, N_WALK);
    *walk = (struct walk){block.bytes, block.n, star != NULL};
    pln_lua_set_class(L, "perilune.keys", walk_metamethods, NULL);
    lua_pushvalue(L, 3);
    lua_setiuservalue(L, -2, WALK_BLOCK);
    lua_pushvalue(L, 2);
    lua_setiuservalue(L, -2, WALK_PATTERN);
    lua_pushvalue(L, 1);
    lua_setiuservalue(L, -2, WALK_CACHE);
    lua_pushvalue(L, -1);
    lua_pushcclosure(L, next_key, 1);
    lua_insert(L, -2);
    lua_pushnil(L);
    lua_insert(L, -2);
    lua_pushnil(L);
    lua_insert(L, -2);
    return 4; /* the iterator, nil, nil, what is closed */
}

/* hottest([n]) -> a list of { key =, requests =, share = }, hottest first */
static int cache_hottest(lua_State *L) {
    struct pln_lua_cache *self = pln_lua_opened(L, 1);
    struct block block = {.most = luaL_optinteger(L, 2, 10)};
    luaL_argcheck(L, block.most > 0, 2, "n must be positive");
    lua_settop(L, 2);
    lua_pushnil(L);
    do {
        grow(L, &block);
        int status = pln_hottest(self->cache, (size_t) block.most, note_hot, &block);
        if (status < 0) {
            return pln_lua_push_status(L, status);
        }
    } while (block.is_full);
    lua_createtable(L, (int) block.n, 0);
    const char *at = block.bytes;
    for (lua_Integer i = 1; i <= block.n; i++) {
        struct seen seen;
        lua_createtable(L, 0, 3);
        at = push_next(L, at, &seen);
        lua_setfield(L, -2, "key");
        lua_pushinteger(L, (lua_Integer) seen.requests);
        lua_setfield(L, -2, "requests");
        lua_pushnumber(L, seen.share);
        lua_setfield(L, -2, "share");
        lua_rawseti(L, -2, i);
    }
    return 1;
}

/* resize(bytes) -> true; bytes may be a text such as "64m", and one out of bounds raises */
static int cache_resize(lua_State *L) {
    struct pln_lua_cache *self = pln_lua_opened(L, 1);
    size_t max_bytes;
    luaL_argcheck(L, pln_lua_to_size(L, 2, &max_bytes), 2,
                  "expected a size such as \"64m\" or bytes");
    return pln_lua_push_status(L, pln_resize(self->cache, max_bytes));
}

const luaL_Reg pln_lua_keys[] = {
    {"keys", cache_keys},     {"each", cache_each}, {"hottest", cache_hottest},
    {"resize", cache_resize}, {NULL, NULL},
};
