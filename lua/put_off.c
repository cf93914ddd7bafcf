/* SPDX-License-Identifier: MIT
 *
 * put_off.c - what a method asks of the core, carried out at once, or by a worker.
 *
 * What is put off is copied into one block, which the worker and the op share: the one leaves there
 * what the other makes the method's results of. Lua knows nothing of it.
 */
#include "put_off.h"

/* ---- a call's life ---- */

/* Gives back what it brought. */
static void forget(struct pln_lua_call *call) {
    free(call->there.bytes);
    pln_answer_free(call->answered);
    free(call->held);
    pln_lock_free(call->lock);
}

void pln_lua_call_drop(struct pln_lua_call *call) {
    /* C1 release and C1 acquire: what the one did comes before the other's free() */
    if (call != NULL && atomic_fetch_sub_explicit(&call->n_users, 1, memory_order_acq_rel) == 1) {
        forget(call);
        free(call);
    }
}

static struct pln_bytes move(char **at, struct pln_bytes bytes) {
    struct pln_bytes moved = pln_bytes_of(*at, bytes.len);
    if (bytes.len > 0) {
        memcpy(*at, bytes.data, bytes.len);
    }
    *at += bytes.len;
    return moved;
}

/* A copy that has all bytes in its own block, of two users; NULL: no memory. Calls nothing of
 * Lua's. */
static struct pln_lua_call *copy(const struct pln_lua_call *given) {
    size_t size = sizeof *given + given->n * sizeof(struct pln_bytes) + given->first.len +
                  given->value.len + given->cas.old.len;
    for (size_t i = 0; i < given->n; i++) {
        size += given->list[i].len;
    }
    struct pln_lua_call *call = malloc(size);
    if (call == NULL) {
        return NULL;
    }
    memcpy(call, given, sizeof *call);
    atomic_init(&call->n_users, 2);
    struct pln_bytes *list = (void *) (call + 1);
    char *at = (void *) (list + given->n);
    call->first = move(&at, given->first);
    call->value = move(&at, given->value);
    call->cas.old = move(&at, given->cas.old);
    for (size_t i = 0; i < given->n; i++) {
        list[i] = move(&at, given->list[i]);
    }
    call->list = list;
    call->set.tags = given->n > 0 ? list : NULL;
    call->lock = given->lock_at != NULL ? *given->lock_at : NULL;
    if (call->lock != NULL) {
        pln_lock_keep(call->lock);
    }
    return call;
}

/* ---- in a worker ---- */

static int run(struct pln_cache *cache, void *arg) {
    struct pln_lua_call *call = arg;
    return call->run(cache, call);
}

static void end(void *arg) {
    pln_lua_call_drop(arg);
}

/* ---- results ---- */

struct pushing {
    const struct pln_lua_call *call;
    int status;
};

/* stack: pushing (light) */
static int push_protected(lua_State *L) {
    const struct pushing *pushing = lua_touserdata(L, 1);
    lua_settop(L, 0);
    return pushing->call->push(L, pushing->call, pushing->status);
}

/* Pushes what a call that did not fail brought; returns how many, or -1: an error is there. */
static int push(lua_State *L, const struct pln_lua_call *call, int status) {
    struct pushing pushing = {call, status};
    int before = lua_gettop(L);
    lua_pushcfunction(L, push_protected);
    lua_pushlightuserdata(L, &pushing);
    return lua_pcall(L, 1, LUA_MULTRET, 0) == LUA_OK ? lua_gettop(L) - before : -1;
}

int pln_lua_call_push(lua_State *L, struct pln_lua_call *call, int status) {
    if (status < 0 || call->push == NULL) {
        return pln_lua_push_status(L, status);
    }
    /* a finalizer that runs meanwhile may cancel the op; relaxed: we are one of its users */
    atomic_fetch_add_explicit(&call->n_users, 1, memory_order_relaxed);
    int n = push(L, call, status);
    pln_lua_call_drop(call);
    return n < 0 ? lua_error(L) : n;
}

/* ---- at once, or put off ---- */

int pln_lua_put_off(lua_State *L, int cache, const struct pln_lua_call *call) {
    cache = lua_absindex(L, cache);
    if (pln_lua_is_stand_in(L, cache)) {
        lua_getiuservalue(L, cache, 1);
        cache = lua_gettop(L);
    }
    struct pln_lua_begun *begun = pln_lua_push_call(L, cache);
    struct pln_lua_cache *self = pln_lua_handle(L, cache);
    int status = pln_lua_need_news(L, self);
    if (status < 0) {
        return pln_lua_push_failure(L, status);
    }
    begun->call = copy(call);
    status = begun->call == NULL ? pln_fail(PLN_ENOMEM, "call_async: no memory for the arguments")
                                 : pln_begin_call(self->news, run, end, begun->call, &begun->op);
    return status == PLN_OK ? 1 : pln_lua_push_failure(L, status);
}

int pln_lua_carry_out(lua_State *L, int cache, struct pln_lua_call *call) {
    if (pln_lua_is_stand_in(L, cache)) {
        pln_lua_handle(L, cache)->has_put_off = true;
        return pln_lua_put_off(L, cache, call);
    }
    /* looked at last: what was allocated may have run a finalizer that closes it */
    int status = call->run(pln_lua_opened(L, cache)->cache, call);
    if (status < 0 || call->push == NULL) {
        forget(call);
        return pln_lua_push_status(L, status);
    }
    int n = push(L, call, status);
    forget(call);
    return n < 0 ? lua_error(L) : n;
}

/* ---- methods by name ---- */

struct pln_lua_cache *pln_lua_push_stand_in(lua_State *L, int cache) {
    struct pln_lua_cache *real = pln_lua_opened(L, cache);
    cache = lua_absindex(L, cache);
    struct pln_lua_cache *self = lua_newuserdatauv(L, sizeof *self, 1);
    *self = (struct pln_lua_cache){.kind = &pln_lua_kind, .stands_for = real};
    lua_pushvalue(L, cache);
    lua_setiuservalue(L, -2, 1);
    return self;
}

/* Raises: no method has this name. */
static void refuse(lua_State *L, const char *const *names, const char *name) {
    const char *near = pln_nearest(names, name);
    if (near != NULL) {
        lua_pushfstring(L, "no method '%s' to be called so, did you mean '%s'?", name, near);
        luaL_argerror(L, 2, lua_tostring(L, -1));
    }
    luaL_Buffer all;
    luaL_buffinit(L, &all);
    for (size_t i = 0; names[i] != NULL; i++) {
        luaL_addstring(&all, i == 0 ? "" : ", ");
        luaL_addstring(&all, names[i]);
    }
    luaL_pushresult(&all);
    lua_pushfstring(L, "no method '%s' to be called so, only %s", name, lua_tostring(L, -1));
    luaL_argerror(L, 2, lua_tostring(L, -1));
}

/* The method named at 2. Raises where there is none. */
static lua_CFunction check_method(lua_State *L, const char *const *others,
                                  const luaL_Reg *const *lists) {
    enum { MOST_NAMES = 100 };
    const char *names[MOST_NAMES] = {NULL};
    const char *name = luaL_checkstring(L, 2);
    size_t n = 0;
    while (others != NULL && others[n] != NULL) {
        names[n] = others[n];
        n++;
    }
    for (; *lists != NULL; lists++) {
        for (const luaL_Reg *method = *lists; method->name != NULL; method++) {
            if (strcmp(method->name, name) == 0) {
                return method->func;
            }
            names[n] = method->name;
            n += n + 1 < MOST_NAMES;
        }
    }
    names[n] = NULL;
    refuse(L, names, name);
    return NULL;
}

int pln_lua_put_off_method(lua_State *L, const struct pln_lua_cache *stand_in,
                           const char *const *others, const luaL_Reg *const *lists) {
    lua_CFunction method = check_method(L, others, lists);
    lua_remove(L, 2);
    int n = method(L); /* in this frame, whose upvalues are those of all methods */
    if (stand_in->has_put_off) {
        return n;
    }
    lua_getiuservalue(L, 1, 1); /* it knew its results: make them an op's */
    if (lua_touserdata(L, -1) == stand_in) {
        lua_getiuservalue(L, -1, 1);
        lua_remove(L, -2);
    }
    lua_insert(L, -n - 1);
    pln_lua_push_known(L, lua_gettop(L) - n, n);
    return 1;
}
