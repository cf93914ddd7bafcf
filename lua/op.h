/* SPDX-License-Identifier: MIT
 *
 * op.h - an op of Lua's, for op.c, which looks at it, and async.c, which begins it.
 */
#ifndef PLN_LUA_OP_H
#define PLN_LUA_OP_H

#include "module.h"

/* User values of an op. Those from OP_RESULT on are its results, once it has them: three of a get,
 * of a call five at most. */
enum { OP_CACHE = 1, OP_LOADER, OP_EXTRAS, OP_KEY, OP_N_USER_VALUES = OP_KEY };
enum { OP_RESULT = OP_LOADER, OP_N_CALL_VALUES = OP_RESULT + 4 };

enum pln_lua_op_kind { OP_GETS, OP_GETS_MANY, OP_CALLS, OP_LOCKS };

struct pln_lua_op {
    struct pln_lua_begun begun;
    enum pln_lua_op_kind kind;
    int n_results;    /* 0: they are not known */
    bool is_copy;     /* tables are the caller's own */
    bool takes_old;   /* the loader */
    bool is_loading;  /* likewise: it runs */
    bool has_message; /* what it failed with is in the place of its extra arguments */
};

/* Pushes an op without its cache. */
struct pln_lua_op *pln_lua_op_new(lua_State *L, enum pln_lua_op_kind kind);
/* The same, of the cache at index `cache`. */
struct pln_lua_op *pln_lua_op_push(lua_State *L, int cache, enum pln_lua_op_kind kind);
/* Keeps the n results on top of the stack for the op at `index`; they stay. */
int pln_lua_op_keep(lua_State *L, int index, struct pln_lua_op *self, int n);
/* Pushes what a get of the key at index `key` brought, whose value is given back. */
int pln_lua_op_push_get(lua_State *L, struct pln_lua_cache *cache, int key, bool is_copy,
                        int status, struct pln_result *result);

/* locks.c: pushes what came of the lock that the op at 1 has asked for; returns how many. */
int pln_lua_push_granted(lua_State *L, const struct pln_lua_begun *begun);

#endif
