/* SPDX-License-Identifier: MIT
 *
 * put_off.h - calls of the core's that a method carries out itself, or puts off: then a worker
 * carries them out, and an op has the method's results.
 *
 * A method that ends in pln_lua_carry_out() can be put off without knowing it. call_async calls it
 * with a stand-in in the place of its cache, a userdata that no program ever sees: whoever asks for
 * the cache gets the one that it stands for, and pln_lua_carry_out() gives an op in the place of
 * results.
 */
#ifndef PLN_LUA_PUT_OFF_H
#define PLN_LUA_PUT_OFF_H

#include "module.h"

#include <stdatomic.h>

/* What a method was given, and what came of it. Bytes are Lua's until they are copied. */
struct pln_lua_call {
    atomic_uint n_users; /* the worker, and the op */
    /* carries it out; calls nothing of the host's Lua */
    int (*run)(struct pln_cache *cache, struct pln_lua_call *call);
    /* pushes the results of one that did not fail, and returns how many; NULL: the status says all.
     * The stack is empty. It may raise. */
    int (*push)(lua_State *L, const struct pln_lua_call *call, int status);
    struct pln_bytes first, value; /* key, name, event, tag, prefix or pattern */
    const struct pln_bytes *list;
    size_t n;
    struct pln_set_options set;
    struct pln_incr_options incr;
    struct pln_limit_options limit;
    struct pln_lua_cas cas; /* its value is the old one, `value` the new */
    pln_ms ttl;             /* of touch, count and extend; of flush: its timeout */
    int64_t number;         /* to add, and then the sum */
    struct pln_limit_result answer;
    struct pln_lua_there there;    /* what a cas has found */
    struct pln_data_options data;  /* of a command of Redis, */
    pln_lua_build build;           /* what its results are made by, */
    struct pln_answer *answered;   /* and of; NULL: nothing */
    lua_CFunction build_hash;      /* likewise of hashes.c */
    struct pln_session_options of; /* a session's */
    struct pln_session session;    /* what is known of one; its values are in `held` */
    uint8_t format;                /* of `value`, which is its data */
    void *held;                    /* malloc()'s; NULL: nothing */
    size_t n_held;
    struct pln_lock *const *lock_at; /* NULL; where a lock to be kept is, or NULL: it is lost */
    struct pln_lock *lock;           /* that one: a reference */
};

/* Carries a call out on the cache at index `cache`, or puts it off where that is a stand-in.
 * Returns the number of results that were pushed. */
int pln_lua_carry_out(lua_State *L, int cache, struct pln_lua_call *call);
/* Puts a call on the cache at index `cache` off -> op | nil, message, code. Raises where the cache
 * is closed. */
int pln_lua_put_off(lua_State *L, int cache, const struct pln_lua_call *call);

/* Pushes what stands for the open cache at index `cache`. */
struct pln_lua_cache *pln_lua_push_stand_in(lua_State *L, int cache);
/* Calls the method named at 2, of one of the lists (the last is NULL), with what follows as its
 * arguments; at 1 is the stand-in, or an object that has it as its first user value. Where the
 * method puts nothing off, its results are those of an op that is ready. `others` (may be NULL,
 * ends in NULL) are named as well where there is no such method. -> op | nil, message, code */
int pln_lua_put_off_method(lua_State *L, const struct pln_lua_cache *stand_in,
                           const char *const *others, const luaL_Reg *const *lists);
/* Whether the cache at index `cache` is a stand-in. */
static inline bool pln_lua_is_stand_in(lua_State *L, int cache) {
    return pln_lua_handle(L, cache)->stands_for != NULL;
}

#endif
