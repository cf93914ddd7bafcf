/* SPDX-License-Identifier: MIT
 *
 * simulate.c - what `perilune simulate` cannot do in Lua: read a trace, and play it through a
 * policy. What is made of the figures stands in scripts/perilune_simulate.lua.
 *
 * A trace and a simulation are held by userdata, so that what raises leaves nothing behind.
 */
#include "internal.h"
#include "program.h"
#include "trace.h"

#include <stdio.h>

enum { LOOK_EVERY = 1 << 14 }; /* requests between two looks whether Ctrl-C was pressed */

/* ---- traces ---- */

static const char trace_class[] = "perilune.trace";

static int trace_gc(lua_State *L) {
    pln_trace_fini(lua_touserdata(L, 1));
    return 0;
}

static void set_gc(lua_State *L, const char *name, lua_CFunction gc) {
    if (luaL_newmetatable(L, name)) {
        lua_pushcfunction(L, gc);
        lua_setfield(L, -2, "__gc");
    }
    lua_setmetatable(L, -2);
}

static int push_failure(lua_State *L) {
    lua_pushnil(L);
    lua_pushstring(L, pln_error_text());
    return 2;
}

static void set_integer(lua_State *L, const char *name, uint64_t value) {
    lua_pushinteger(L, (lua_Integer) value);
    lua_setfield(L, -2, name);
}

/* trace(path, value_bytes) -> trace, { requests, keys, bytes, sizes, times, seconds }
 * | nil, message */
int pln_program_trace(lua_State *L) {
    const char *path = luaL_checkstring(L, 1);
    lua_Integer value_bytes = luaL_checkinteger(L, 2);
    luaL_argcheck(L, value_bytes >= 1 && value_bytes <= 1 << 30, 2, "must be 1 byte to 1 GiB");
    struct pln_trace *trace = lua_newuserdatauv(L, sizeof *trace, 0);
    *trace = (struct pln_trace){.n = 0};
    set_gc(L, trace_class, trace_gc);
    if (pln_trace_init(trace, path, (uint32_t) value_bytes) < 0) {
        return push_failure(L);
    }
    lua_createtable(L, 0, 6);
    set_integer(L, "requests", trace->n);
    set_integer(L, "keys", trace->n_keys);
    set_integer(L, "bytes", trace->bytes);
    lua_pushboolean(L, trace->has_sizes);
    lua_setfield(L, -2, "sizes");
    lua_pushboolean(L, trace->has_times);
    lua_setfield(L, -2, "times");
    lua_pushnumber(L, (lua_Number) (trace->lines[trace->n - 1].at - trace->lines[0].at) / 1000);
    lua_setfield(L, -2, "seconds");
    return 2;
}

/* ---- replays ---- */

static int replay_gc(lua_State *L) {
    struct pln_simulation **simulation = lua_touserdata(L, 1);
    pln_simulation_close(*simulation);
    *simulation = NULL;
    return 0;
}

/* One line of a policy's failing functions is enough: they are counted. */
static void log_nothing(void *arg, int level, const char *line) {
    (void) arg;
    (void) level;
    (void) line;
}

/* The texts stay in the table at `index`. */
static int read_options(lua_State *L, int index, struct pln_options *options) {
    int status = PLN_OK;
    for (lua_pushnil(L); status == PLN_OK && lua_next(L, index) != 0; lua_pop(L, 1)) {
        status = pln_options_set(options, luaL_checkstring(L, -2), luaL_checkstring(L, -1));
    }
    return status;
}

static void push_report(lua_State *L, struct pln_simulation *simulation) {
    struct pln_simulation_report report;
    pln_simulation_report(simulation, &report);
    lua_createtable(L, 0, 16);
    set_integer(L, "requests", report.requests);
    set_integer(L, "l1_hits", report.l1_hits);
    set_integer(L, "stale", report.stale);
    set_integer(L, "l2_hits", report.l2_hits);
    set_integer(L, "waited", report.waited);
    set_integer(L, "misses", report.misses);
    set_integer(L, "failures", report.failures);
    set_integer(L, "loads", report.loads);
    set_integer(L, "refreshes", report.refreshes);
    set_integer(L, "loaded_bytes", report.loaded_bytes);
    set_integer(L, "served_bytes", report.served_bytes);
    set_integer(L, "evictions", report.evictions);
    set_integer(L, "policy_errors", report.policy_errors);
    set_integer(L, "l1_bytes", report.l1_bytes);
    set_integer(L, "l1_entries", report.l1_entries);
}

/* Plays every line; without times the clock goes by the rate. Negative: a failure. */
static int play(struct pln_simulation *simulation, const struct pln_trace *trace, double rate) {
    for (size_t i = 0; i < trace->n; i++) {
        const struct pln_trace_line *line = &trace->lines[i];
        pln_ms at = rate > 0 ? (pln_ms) ((double) i * 1000 / rate) : line->at;
        int status = pln_simulation_get(simulation, pln_bytes_of(line->key, line->len), line->size,
                                        at);
        if (status < 0) {
            return status;
        }
        if (i % LOOK_EVERY == 0 && pln_program_is_interrupted()) {
            return pln_fail(PLN_ECLOSED, "interrupted");
        }
    }
    return PLN_OK;
}

/* replay(trace, { policy =, trusted =, open = {texts}, max_bytes =, rate =, value_bytes =, l2 = })
 * -> report | nil, message */
int pln_program_replay(lua_State *L) {
    const struct pln_trace *trace = luaL_checkudata(L, 1, trace_class);
    struct pln_options cache = {.log = log_nothing};
    struct pln_simulation_options options = {.cache = &cache};
    luaL_checktype(L, 2, LUA_TTABLE);
    lua_settop(L, 2);
    struct pln_simulation **simulation = lua_newuserdatauv(L, sizeof(struct pln_simulation *), 0);
    *simulation = NULL;
    set_gc(L, "perilune.simulation", replay_gc);
    lua_getfield(L, 2, "open");
    luaL_checktype(L, 4, LUA_TTABLE);
    lua_getfield(L, 2, "max_bytes");
    lua_getfield(L, 2, "value_bytes");
    lua_getfield(L, 2, "rate");
    lua_getfield(L, 2, "l2");
    lua_getfield(L, 2, "trusted");
    lua_getfield(L, 2, "policy");
    options.value_bytes = (size_t) luaL_checkinteger(L, 6);
    double rate = luaL_optnumber(L, 7, 0);
    options.has_l2 = lua_toboolean(L, 8);
    uint32_t flags = lua_toboolean(L, 9) ? PLN_POLICY_TRUSTED : 0;
    const char *policy = luaL_checkstring(L, 10);
    int status = read_options(L, 4, &cache);
    cache.max_bytes = (size_t) luaL_checkinteger(L, 5);
    if (status == PLN_OK) {
        status = pln_simulation_open(&options, simulation);
    }
    if (status == PLN_OK) {
        status = pln_load_policy(pln_simulation_cache(*simulation), policy, flags);
    }
    if (status == PLN_OK) {
        status = play(*simulation, trace, rate);
    }
    if (status < 0) {
        return push_failure(L);
    }
    push_report(L, *simulation);
    return 1;
}

/* size(text) -> bytes, or nil where it is none */
int pln_program_size(lua_State *L) {
    size_t size;
    if (!pln_parse_size(luaL_checkstring(L, 1), &size)) {
        return 0;
    }
    lua_pushinteger(L, (lua_Integer) size);
    return 1;
}
