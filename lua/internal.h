/* SPDX-License-Identifier: MIT
 *
 * internal.h - what the files of the Lua room share. The room has two halves that meet here only:
 * the module (a host's state calls the cache) and the policy (the cache calls states of its own).
 *
 * A Lua function may raise wherever it allocates, and a raise jumps over C frames. So nothing in
 * this room holds malloc'ed memory across a Lua call unless a userdata owns it.
 */
#ifndef PLN_LUA_INTERNAL_H
#define PLN_LUA_INTERNAL_H

#include <lauxlib.h>
#include <lua.h>

#include "../core/base/base.h"
#include "compat.h"

enum pln_lua_format {
    PLN_LUA_RAW = 0,     /* a Lua string, as it is */
    PLN_LUA_MSGPACK = 1, /* a number, boolean, nil or table, as one MessagePack object */
    PLN_LUA_JSON = 2,    /* the same as a JSON text */
};

enum { PLN_LUA_MAX_DEPTH = 32 }; /* tables within tables of one value */

/* ---- value.c: bytes to Lua and back ---- */

/* Turns the value at `index` into bytes. Strings stay as they are; numbers, booleans, nil and
 * tables become MessagePack (a table is an array where its keys are 1..n, else a map; raw access).
 * Pushes one value that owns the bytes: they live as long as it is on the stack.
 * Returns: PLN_OK; PLN_EINVAL with nothing pushed and a text that names the place, as in
 * "value.user.conn: a userdata cannot be cached". Raises: only for want of memory. */
int pln_lua_encode(lua_State *L, int index, struct pln_bytes *bytes, uint8_t *format);

/* The same by an enum pln_codec. Plain values, which say nothing of their format, are strings, or
 * JSON whatever they are. */
int pln_lua_encode_as(lua_State *L, int index, int codec, bool is_plain, struct pln_bytes *bytes,
                      uint8_t *format);

/* Pushes the value that the bytes stand for.
 * Returns: PLN_OK; PLN_EINVAL with nothing pushed where the format is not one of ours or the bytes
 * are damaged. Raises: only for want of memory. */
int pln_lua_decode(lua_State *L, struct pln_bytes bytes, uint8_t format);

/* One table on the way down to the present value; `key` is the stack index of its present key. */
struct pln_lua_level {
    const struct pln_lua_level *up;
    const void *table;
    int key;
    int depth;
};

/* Goes down into a table. Returns: PLN_OK, with room on the stack; PLN_EINVAL where it is too deep,
 * or within itself. */
int pln_lua_descend(lua_State *L, int index, const struct pln_lua_level *up,
                    struct pln_lua_level *level);
/* Fail with a text that names the place. */
int pln_lua_refuse(lua_State *L, const struct pln_lua_level *level, const char *what);
int pln_lua_refuse_type(lua_State *L, const struct pln_lua_level *level, int index);
/* Counts a table's pairs; true where its keys are exactly 1..n. */
bool pln_lua_is_array(lua_State *L, int index, size_t *n_pairs);

/* ---- json.c: the same for JSON; as pln_lua_encode(), pln_lua_decode() ---- */

int pln_lua_encode_json(lua_State *L, int index, struct pln_bytes *bytes);
int pln_lua_decode_json(lua_State *L, struct pln_bytes bytes);

/* ---- frozen.c: tables that are read-only ---- */

/* Replaces the table on top of the stack by a frozen one, which its own tables are too; it must be
 * nobody else's. Other values stay. */
void pln_lua_freeze(lua_State *L);
/* Pushes the contents of a frozen table at `index`, which must not be changed; else pushes nothing
 * and returns false. */
bool pln_lua_thaw(lua_State *L, int index);
/* Puts the contents of a frozen table in its place, at `index`, counted from below, for a function
 * in C that reads a list past metatables, and hands it to nobody. Other values stay. */
void pln_lua_bare(lua_State *L, int index);
/* Pushes the value at `index`, a table as a copy that is the caller's own, all the way down and
 * without metatables. Raises where it is nested deeper than PLN_LUA_MAX_DEPTH. */
void pln_lua_copy(lua_State *L, int index);

/* ---- units.c ---- */

/* Units from the Lua value at `index`: a number (seconds, bytes, a share) or a text such as "15m",
 * "forever", "64k", "10%". Return false where it is none. */
bool pln_lua_to_duration(lua_State *L, int index, pln_ms *duration);
bool pln_lua_to_size(lua_State *L, int index, size_t *size);
bool pln_lua_to_share(lua_State *L, int index, double *share);

/* ---- policy.c: a policy's tests ---- */

typedef void (*pln_policy_visit)(void *arg, const char *key, const char *file, int line,
                                 const char *failure);
/* As pln_test_policy(); the visitor is also told the file of the test. */
int pln_policy_test(struct pln_cache *cache, const char *path, uint32_t flags,
                    pln_policy_visit visit, void *arg);

/* ---- same.c: the value that a loader is to replace ---- */

/* Pushes not_modified. Raises where memory is out. */
void pln_same_push(lua_State *L);
/* Pushes the value that a load is to replace, or nil: also for one that Lua cannot read, since a
 * host keeps its own formats. */
void pln_same_push_old(lua_State *L, const struct pln_load *load);
/* Where not_modified is at `index`: makes the old value the load's. False: it is something else.
 * Raises where there is no old value. */
bool pln_same_take(lua_State *L, int index, struct pln_load *load);

#endif
