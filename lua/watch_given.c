/* SPDX-License-Identifier: MIT
 * watch_given.c - the options of `perilune watch`: see watch.h. */
#include "watch.h"

#include "internal.h"
#include "program.h"

#include <stddef.h>
#include <unistd.h>

enum kind { COUNT, DURATION, SHARE };

static const char *const wants[] = {"a whole number", "a duration such as \"500ms\"",
                                    "a share such as \"10%\" or 0.1"};

static const struct setting {
    const char *name;
    enum kind kind;
    size_t offset;
    unsigned most; /* of counts */
} table[] = {
    {"--processes", COUNT, offsetof(struct pln_watch_settings, processes), PLN_WATCH_PROCESSES},
    {"--threads", COUNT, offsetof(struct pln_watch_settings, threads), 256},
    {"--keys", COUNT, offsetof(struct pln_watch_settings, keys), 100000},
    {"--for", DURATION, offsetof(struct pln_watch_settings, lasts), 0},
    {"--pace", DURATION, offsetof(struct pln_watch_settings, pace), 0},
    {"--writes", SHARE, offsetof(struct pln_watch_settings, writes), 0},
    {"--bound", DURATION, offsetof(struct pln_watch_settings, bounds.gap), 0},
    {"--delivery", DURATION, offsetof(struct pln_watch_settings, bounds.delivery), 0},
};

static bool parse(const struct setting *setting, const char *text, void *field) {
    char *end;
    switch (setting->kind) {
    case COUNT: {
        unsigned long number = strtoul(text, &end, 10);
        *(unsigned *) field = (unsigned) number;
        return *text >= '0' && *text <= '9' && *end == 0 && number >= 1 && number <= setting->most;
    }
    case DURATION:
        return pln_parse_duration(text, field) && *(pln_ms *) field != PLN_FOREVER;
    case SHARE:
        return pln_parse_share(text, field) && *(double *) field <= 1;
    }
    return false;
}

/* stack: given -> nothing; the last text pushed on failure */
static bool read_settings(lua_State *L, struct pln_watch_settings *settings) {
    for (size_t i = 0; i < PLN_ARRAY_LEN(table); i++) {
        if (lua_getfield(L, 1, table[i].name) == LUA_TSTRING &&
            !parse(&table[i], lua_tostring(L, -1), (char *) settings + table[i].offset)) {
            lua_pushfstring(L, "option '%s' must be %s, got '%s'", table[i].name,
                            wants[table[i].kind], lua_tostring(L, -1));
            return false;
        }
        lua_pop(L, 1);
    }
    return true;
}

/* The texts stay in the table, which outlives the run. stack: given */
static bool read_options(lua_State *L, struct pln_options *options) {
    lua_getfield(L, 1, "open");
    for (lua_pushnil(L); lua_next(L, -2) != 0; lua_pop(L, 1)) {
        if (pln_options_set(options, lua_tostring(L, -2), lua_tostring(L, -1)) < 0) {
            lua_pushstring(L, pln_error_text());
            return false;
        }
    }
    return true;
}

/* An option of the cache in ms, by name, so that it need not be one that this cache has. stack:
 * given */
static pln_ms option_or(lua_State *L, const char *name, pln_ms usual) {
    pln_ms value = usual;
    lua_getfield(L, 1, "open");
    if (lua_getfield(L, -1, name) == LUA_TSTRING) {
        pln_parse_duration(lua_tostring(L, -1), &value);
    }
    lua_pop(L, 2);
    return value;
}

/* What follows from the cache's options where it is not given; all in ns then. A link is dead after
 * two heartbeats, and the last one may wait for its command's timeout. */
static void set_bounds(lua_State *L, struct pln_bounds *bounds) {
    static const pln_ns ms = 1000000;
    pln_ms detection = 2 * option_or(L, "ping", 1000) + option_or(L, "timeout", 250);
    if (bounds->gap == 0) {
        bounds->gap = option_or(L, "max_staleness", 1000) + detection;
    }
    detection = detection < bounds->gap ? detection : bounds->gap;
    bounds->gap *= ms;
    bounds->delivery *= ms;
    bounds->detection = detection * ms;
    bounds->recovery = 2000 * ms;
}

int pln_program_watch(lua_State *L) {
    struct pln_watch watch = {.settings = {.processes = 4,
                                           .threads = 8,
                                           .keys = 200,
                                           .lasts = 60000,
                                           .pace = 5,
                                           .writes = 0.1,
                                           .bounds.delivery = 100}};
    struct pln_watch_settings *settings = &watch.settings;
    luaL_checktype(L, 1, LUA_TTABLE);
    luaL_checkstack(L, 10, "watch");
    settings->options.ns = "perilune-watch";
    if (!read_settings(L, settings) || !read_options(L, &settings->options)) {
        lua_pushnil(L);
        lua_insert(L, -2);
        return 2;
    }
    set_bounds(L, &settings->bounds);
    settings->run = (uint32_t) getpid() ^ (uint32_t) (pln_clock_precise() >> 10);
    lua_getfield(L, 1, "--json");
    settings->wants_json = lua_toboolean(L, -1);
    lua_pushinteger(L, pln_watch_run(&watch));
    return 1;
}
