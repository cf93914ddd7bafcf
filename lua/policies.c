/* SPDX-License-Identifier: MIT
 *
 * policies.c - methods for policies beside load_policy: reading one again, and running its tests.
 */
#include "module.h"

/* reload_policy() -> true; nil, nil, "miss" where none was loaded; nil, message, code */
static int cache_reload_policy(lua_State *L) {
    struct pln_lua_cache *self = pln_lua_opened(L, 1);
    return pln_lua_push_status(L, pln_reload_policy(self->cache));
}

/* perilune.reload_policies() -> how many caches of the process have one */
int pln_lua_reload_policies(lua_State *L) {
    lua_pushinteger(L, (lua_Integer) pln_reload_policies());
    return 1;
}

/* A test that has been run, on its way into a list. */
struct row {
    lua_State *L;
    int list; /* its stack index in the frame of test_policy() */
    bool is_any, has_failed;
    const char *key, *file, *failure;
    int line;
};

/* stack: row (light), list */
static int add_row(lua_State *L) {
    const struct row *row = lua_touserdata(L, 1);
    lua_createtable(L, 0, 4);
    lua_pushstring(L, row->key);
    lua_setfield(L, -2, "key");
    lua_pushstring(L, row->file);
    lua_setfield(L, -2, "file");
    lua_pushinteger(L, row->line);
    lua_setfield(L, -2, "line");
    lua_pushstring(L, row->failure);
    lua_setfield(L, -2, "failure");
    lua_rawseti(L, 2, (lua_Integer) lua_rawlen(L, 2) + 1);
    return 0;
}

/* Called in the midst of the core, so nothing may be raised through it. */
static void keep_row(void *arg, const char *key, const char *file, int line, const char *failure) {
    struct row *row = arg;
    if (row->has_failed) {
        return;
    }
    row->is_any = true;
    row->key = key;
    row->file = file;
    row->line = line;
    row->failure = failure;
    lua_pushcfunction(row->L, add_row);
    lua_pushlightuserdata(row->L, row);
    lua_pushvalue(row->L, row->list);
    row->has_failed = lua_pcall(row->L, 2, 0, 0) != LUA_OK; /* the error stays, for later */
}

/* test_policy(path, [trusted]) -> a list of { key, file, line, failure }, or nil, message, code */
static int cache_test_policy(lua_State *L) {
    pln_lua_opened(L, 1);
    const char *path = luaL_checkstring(L, 2);
    struct row row = {.L = L, .list = 4};
    lua_settop(L, 3);
    if (!lua_isnil(L, 3)) {
        luaL_checktype(L, 3, LUA_TBOOLEAN);
    }
    uint32_t flags = lua_toboolean(L, 3) ? PLN_POLICY_TRUSTED : 0;
    lua_newtable(L);
    luaL_checkstack(L, 10, "test_policy");
    /* looked at last: what was allocated may have closed it */
    struct pln_lua_cache *self = pln_lua_opened(L, 1);
    self->n_running++; /* a finalizer that runs meanwhile must not close the cache */
    int status = pln_policy_test(self->cache, path, flags, keep_row, &row);
    self->n_running--;
    if (row.has_failed) {
        return lua_error(L);
    }
    return status == PLN_OK || row.is_any ? 1 : pln_lua_push_status(L, status);
}

const luaL_Reg pln_lua_policies[] = {
    {"reload_policy", cache_reload_policy},
    {"test_policy", cache_test_policy},
    {NULL, NULL},
};
