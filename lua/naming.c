/* SPDX-License-Identifier: MIT
 *
 * naming.c - the functions of cache.warm, which name the keys to load ahead when these are wanted.
 *
 * One is called once for each warming, in the state of the thread that gathers, and returns a list,
 * or what stands after `in` in a for loop: an iterator with its state and first value, which is
 * called until it gives nil. Keys go to the core one by one, so no list need be in memory twice.
 */
#include "script.h"

#include <stdio.h>

struct naming {
    unsigned function;
    pln_key_sink add;
    void *add_arg;
    lua_Integer n;
    int status; /* of the core's */
};

void pln_naming_keep(lua_State *L, unsigned function) {
    pln_compile_keep_function(L, PLN_MAX_RULES + function, 0);
}

/* Gives the key on top of the stack to the core, and pops it; false where that wants no more. */
static bool give(lua_State *L, struct naming *naming) {
    char got[80];
    size_t len;
    naming->n++;
    if (lua_type(L, -1) != LUA_TSTRING && !lua_isinteger(L, -1)) {
        luaL_error(L, "key %d: a text or a whole number is wanted, got %s", (int) naming->n,
                   pln_compile_got(L, -1, got, sizeof got));
    }
    const char *text = lua_tolstring(L, -1, &len);
    naming->status = naming->add(naming->add_arg, pln_bytes_of(text, len));
    lua_pop(L, 1);
    return naming->status == PLN_OK;
}

static void give_list(lua_State *L, int list, struct naming *naming) {
    lua_Integer n = (lua_Integer) lua_rawlen(L, list);
    for (lua_Integer i = 1; i <= n; i++) {
        lua_rawgeti(L, list, i);
        if (!give(L, naming)) {
            return;
        }
    }
}

/* stack: ..., iterator, state, control */
static void give_iterated(lua_State *L, int iterator, struct naming *naming) {
    for (;;) {
        lua_pushvalue(L, iterator);
        lua_pushvalue(L, iterator + 1);
        lua_pushvalue(L, iterator + 2);
        lua_call(L, 2, 1);
        if (lua_isnil(L, -1)) {
            return;
        }
        lua_copy(L, -1, iterator + 2);
        if (!give(L, naming)) {
            return;
        }
    }
}

static int run_names(lua_State *L) {
    struct naming *naming = lua_touserdata(L, 1);
    char got[80];
    pln_compile_push_function(L, PLN_MAX_RULES + naming->function, 0);
    lua_call(L, 0, 3);
    if (lua_istable(L, 2)) {
        give_list(L, 2, naming);
    } else if (lua_isfunction(L, 2)) {
        give_iterated(L, 2, naming);
    } else {
        luaL_error(L, "keys: a list or an iterator is wanted of the function, got %s",
                   pln_compile_got(L, 2, got, sizeof got));
    }
    return 0;
}

int pln_naming_run(void *arg, unsigned worker, unsigned function, pln_key_sink add, void *add_arg) {
    struct naming naming = {function, add, add_arg, 0, PLN_OK};
    struct pln_script *script;
    int status = pln_vm_script(arg, worker, &script);
    if (status < 0) {
        return status;
    }
    if (pln_script_call(script, run_names, &naming, PLN_SCRIPT_LOAD_MS) < 0) {
        status = pln_fail(PLN_EPOLICY, "warm: %s", script->error);
    } else if (naming.status < 0) {
        status = naming.status;
    }
    if (script->is_out_of_memory) {
        pln_vm_leave(arg, worker);
    }
    return status;
}
