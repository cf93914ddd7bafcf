/* SPDX-License-Identifier: MIT
 *
 * shared.c - shared.incr, shared.get, shared.set: numbers that the functions of a policy have in
 * common, although each worker has a state of its own. They live in the core, with the cache.
 *
 * They are for functions: a file is read once for each worker, and whenever it is loaded again, so
 * what it counted while it is read would mean nothing, and what it asked would differ each time.
 */
#include "script.h"

/* NULL: a cache.test asks the function, and what it counts would be no request's. */
static struct pln_cache *cache_of(lua_State *L, const char *function) {
    const struct pln_script *script = pln_script_of(L);
    if (script->compiler != NULL) {
        luaL_error(L,
                   "shared.%s: it is for functions that are called later, not for the file as "
                   "it is read, which is more than once",
                   function);
    }
    return script->cache;
}

static struct pln_bytes check_name(lua_State *L) {
    struct pln_bytes name;
    name.data = luaL_checklstring(L, 1, &name.len);
    return name;
}

static void check_status(lua_State *L, int status) {
    if (status < 0) {
        luaL_error(L, "%s", pln_error_text());
    }
}

/* incr(name, [by]) -> the new number; it wraps */
static int shared_incr(lua_State *L) {
    struct pln_cache *cache = cache_of(L, "incr");
    struct pln_bytes name = check_name(L);
    int64_t sum, by = luaL_optinteger(L, 2, 1);
    if (cache == NULL) {
        sum = by;
    } else {
        check_status(L, pln_shared_add(cache, name, by, &sum));
    }
    lua_pushinteger(L, sum);
    return 1;
}

/* get(name) -> the number; 0 where it was never counted */
static int shared_get(lua_State *L) {
    struct pln_cache *cache = cache_of(L, "get");
    struct pln_bytes name = check_name(L);
    int64_t number = 0;
    check_status(L, cache == NULL ? PLN_OK : pln_shared_get(cache, name, &number));
    lua_pushinteger(L, number);
    return 1;
}

/* set(name, number) */
static int shared_set(lua_State *L) {
    struct pln_cache *cache = cache_of(L, "set");
    struct pln_bytes name = check_name(L);
    int64_t number = luaL_checkinteger(L, 2);
    check_status(L, cache == NULL ? PLN_OK : pln_shared_set(cache, name, number));
    return 0;
}

void pln_shared_open(lua_State *L) {
    static const luaL_Reg functions[] = {
        {"incr", shared_incr}, {"get", shared_get}, {"set", shared_set}, {NULL, NULL}};
    luaL_newlib(L, functions);
    lua_setfield(L, -2, "shared");
}
