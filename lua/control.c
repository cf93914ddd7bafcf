/* SPDX-License-Identifier: MIT
 *
 * control.c - what is done to a cache as a whole: its policy, statistics.
 */
#include "module.h"

enum { MAX_STATS = 256 };

/* ---- policy ---- */

/* load_policy(path, [trusted]) */
static int cache_load_policy(lua_State *L) {
    struct pln_lua_cache *self = pln_lua_opened(L, 1);
    const char *path = luaL_checkstring(L, 2);
    if (!lua_isnoneornil(L, 3)) {
        luaL_checktype(L, 3, LUA_TBOOLEAN);
    }
    uint32_t flags = lua_toboolean(L, 3) ? PLN_POLICY_TRUSTED : 0;
    return pln_lua_push_status(L, pln_load_policy(self->cache, path, flags));
}

/* register_loader(name, function or nil): for the rules whose load is loader "name" */
static int cache_register_loader(lua_State *L) {
    struct pln_lua_cache *self = pln_lua_opened(L, 1);
    size_t len;
    const char *name = luaL_checklstring(L, 2, &len);
    luaL_argcheck(L, len > 0 && len <= PLN_MAX_LOADER_NAME && strlen(name) == len, 2,
                  "a name of 1 to 512 bytes, none of them zero");
    lua_settop(L, 3);
    if (!lua_isnil(L, 3)) {
        luaL_checktype(L, 3, LUA_TFUNCTION);
    }
    if (lua_getiuservalue(L, 1, 1) != LUA_TTABLE) {
        lua_newtable(L);
        lua_pushvalue(L, -1);
        lua_setiuservalue(L, 1, 1);
    }
    lua_pushvalue(L, 3);
    lua_setfield(L, -2, name);
    self->has_loaders = true;
    lua_pushboolean(L, 1);
    return 1;
}

/* Pushes a text that `write` makes as snprintf does, however long; it may grow between two calls.
 */
static void push_written(lua_State *L, struct pln_cache *cache, struct pln_bytes key,
                         size_t (*write)(struct pln_cache *, struct pln_bytes, char *, size_t)) {
    luaL_Buffer buffer;
    size_t size = 4096;
    for (;;) {
        luaL_buffinit(L, &buffer);
        size_t len = write(cache, key, luaL_prepbuffsize(&buffer, size), size);
        if (len < size) {
            luaL_pushresultsize(&buffer, len);
            return;
        }
        luaL_pushresultsize(&buffer, 0);
        lua_pop(L, 1);
        size = len + 256;
    }
}

static size_t write_prometheus(struct pln_cache *cache, struct pln_bytes key, char *buffer,
                               size_t size) {
    (void) key;
    return pln_prometheus(cache, buffer, size);
}

static int cache_explain(lua_State *L) {
    struct pln_lua_cache *self = pln_lua_opened(L, 1);
    push_written(L, self->cache, pln_lua_check_key(L, 2), pln_explain);
    return 1;
}

static size_t write_events(struct pln_cache *cache, struct pln_bytes key, char *buffer,
                           size_t size) {
    return pln_explain_events(cache, key.len > 0, buffer, size);
}

/* explain_events([as_json]) -> a text */
static int cache_explain_events(lua_State *L) {
    struct pln_lua_cache *self = pln_lua_opened(L, 1);
    bool as_json = lua_toboolean(L, 2);
    push_written(L, self->cache, as_json ? pln_key("json") : pln_key(""), write_events);
    return 1;
}

static int cache_prometheus(lua_State *L) {
    struct pln_lua_cache *self = pln_lua_opened(L, 1);
    push_written(L, self->cache, pln_bytes_of(NULL, 0), write_prometheus);
    return 1;
}

/* stats() -> a table of numbers by name, and of the mode */
static int cache_stats(lua_State *L) {
    struct pln_lua_cache *self = pln_lua_opened(L, 1);
    struct pln_stat stats[MAX_STATS];
    size_t n = pln_stats(self->cache, stats, MAX_STATS);
    n = n < MAX_STATS ? n : MAX_STATS;
    lua_createtable(L, 0, (int) n + 1);
    for (size_t i = 0; i < n; i++) {
        lua_pushinteger(L, (lua_Integer) stats[i].value);
        lua_setfield(L, -2, stats[i].name);
    }
    lua_pushstring(L, pln_mode(self->cache));
    lua_setfield(L, -2, "mode");
    return 1;
}

/* Rows as they are shown; there may be more by the time they are read. */
struct rows {
    struct pln_node_info *infos;
    size_t n, most;
};

static void keep_row(void *arg, const struct pln_node_info *info) {
    struct rows *rows = arg;
    if (rows->n < rows->most) {
        rows->infos[rows->n++] = *info;
    }
}

static void push_count(lua_State *L, const char *name, uint64_t value) {
    lua_pushinteger(L, (lua_Integer) value);
    lua_setfield(L, -2, name);
}

static void push_node(lua_State *L, const struct pln_node_info *info) {
    lua_createtable(L, 0, 7);
    lua_pushstring(L, info->address);
    lua_setfield(L, -2, "address");
    lua_pushboolean(L, info->is_up);
    lua_setfield(L, -2, "up");
    lua_pushstring(L, info->is_breaker_open ? "open" : "closed");
    lua_setfield(L, -2, "breaker");
    if (info->beat_age_ms != PLN_FOREVER) {
        lua_pushnumber(L, (lua_Number) info->beat_age_ms / 1000);
        lua_setfield(L, -2, "beat_age");
    }
    push_count(L, "connections", info->connections);
    push_count(L, "timeouts", info->timeouts);
    push_count(L, "errors", info->errors);
}

/* nodes() -> a list of tables, one for each server */
static int cache_nodes(lua_State *L) {
    struct pln_lua_cache *self = pln_lua_opened(L, 1);
    struct rows rows = {.most = pln_nodes(self->cache, NULL, NULL)};
    rows.infos = lua_newuserdatauv(L, (rows.most + 1) * sizeof *rows.infos, 0);
    pln_nodes(self->cache, keep_row, &rows);
    lua_createtable(L, (int) rows.n, 0);
    for (size_t i = 0; i < rows.n; i++) {
        push_node(L, &rows.infos[i]);
        lua_rawseti(L, -2, (lua_Integer) i + 1);
    }
    return 1;
}

const luaL_Reg pln_lua_controls[] = {
    {"load_policy", cache_load_policy},
    {"register_loader", cache_register_loader},
    {"explain", cache_explain},
    {"explain_events", cache_explain_events},
    {"stats", cache_stats},
    {"nodes", cache_nodes},
    {"prometheus", cache_prometheus},
    {NULL, NULL},
};
