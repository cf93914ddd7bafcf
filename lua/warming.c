/* SPDX-License-Identifier: MIT
 *
 * warming.c - warming a cache, and whether it is warm.
 *
 *     cache:warm { deadline = "20s", progress = function(report) ... end }
 *     cache:warm { background = true } ... cache:ready()
 *
 * Functions of the host's are called in its state alone, by the thread that warms: what is warmed
 * in the background has none.
 */
#include "module.h"

#include <float.h>

/* ---- reports ---- */

static void set_count(lua_State *L, const char *name, size_t count) {
    lua_pushinteger(L, (lua_Integer) count);
    lua_setfield(L, -2, name);
}

static void set_flag(lua_State *L, const char *name, bool flag) {
    lua_pushboolean(L, flag);
    lua_setfield(L, -2, name);
}

static void push_counts(lua_State *L, const struct pln_warm_report *report) {
    lua_createtable(L, 0, 11);
    set_count(L, "wanted", report->wanted);
    set_count(L, "loaded", report->loaded);
    set_count(L, "present", report->present);
    set_count(L, "failed", report->failed);
}

static void push_report(lua_State *L, const struct pln_warm_report *report) {
    push_counts(L, report);
    lua_pushnumber(L, (lua_Number) report->took_ms / 1000);
    lua_setfield(L, -2, "took");
    set_flag(L, "deadline_passed", report->deadline_passed);
    set_flag(L, "ready", report->is_ready);
    set_flag(L, "following", report->is_following);
    if (report->error[0] != 0) {
        lua_pushstring(L, report->error);
        lua_setfield(L, -2, "error");
    }
}

/* ---- what the core calls, in the thread that warms ---- */

enum { PROGRESS = 3, ROWS = 4 }; /* places in the frame of warm() */

struct told {
    lua_State *L;
    bool has_failed; /* the error is on the stack, and is raised at the end */
};

struct telling {
    const char *source; /* of a row */
    struct pln_warm_report report;
};

/* stack: telling (light), function -> its result */
static int run_progress(lua_State *L) {
    const struct telling *telling = lua_touserdata(L, 1);
    push_report(L, &telling->report);
    lua_call(L, 1, 1);
    return 1;
}

/* stack: telling (light), rows -> true */
static int run_row(lua_State *L) {
    const struct telling *telling = lua_touserdata(L, 1);
    push_counts(L, &telling->report);
    lua_pushstring(L, telling->source);
    lua_setfield(L, -2, "source");
    lua_rawseti(L, 2, (lua_Integer) lua_rawlen(L, 2) + 1);
    lua_pushboolean(L, true);
    return 1;
}

/* Calls one of the two; false where it failed, or said so. */
static bool tell(struct told *told, lua_CFunction run, struct telling *telling, int place) {
    lua_State *L = told->L;
    if (told->has_failed) {
        return false;
    }
    lua_pushcfunction(L, run);
    lua_pushlightuserdata(L, telling);
    lua_pushvalue(L, place);
    if (lua_pcall(L, 2, 1, 0) != LUA_OK) {
        told->has_failed = true;
        return false;
    }
    bool stops = lua_isboolean(L, -1) && !lua_toboolean(L, -1);
    lua_pop(L, 1);
    return !stops;
}

static bool on_progress(void *arg, const struct pln_warm_report *report) {
    struct telling telling = {.report = *report};
    return tell(arg, run_progress, &telling, PROGRESS);
}

static void on_row(void *arg, const char *source, const struct pln_warm_report *row) {
    struct telling telling = {source, *row};
    (void) tell(arg, run_row, &telling, ROWS);
}

/* ---- options ---- */

/* Keeps the key on top of the stack as a string, as the n-th of the table `strings`. */
static void keep_key(lua_State *L, int strings, lua_Integer n) {
    if (lua_type(L, -1) != LUA_TSTRING && !lua_isinteger(L, -1)) {
        luaL_error(L, "option 'keys': key %I must be a string or integer, got a %s",
                   (LUAI_UACINT) n, luaL_typename(L, -1));
    }
    (void) lua_tostring(L, -1);
    lua_rawseti(L, strings, n);
}

/* Pushes a table with the keys of the list, or of the iterator, on top of the stack. */
static lua_Integer push_strings(lua_State *L) {
    int from = lua_gettop(L);
    lua_Integer n = 0;
    bool is_list = lua_istable(L, from);
    pln_lua_bare(L, from);
    lua_newtable(L);
    for (;;) {
        if (is_list) {
            lua_rawgeti(L, from, n + 1);
        } else {
            lua_pushvalue(L, from);
            lua_call(L, 0, 1);
        }
        if (lua_isnil(L, -1)) {
            lua_pop(L, 1);
            return n;
        }
        keep_key(L, from + 1, ++n);
    }
}

/* The keys lie in what is pushed. */
static void read_keys(lua_State *L, struct pln_warm_options *options) {
    int type = lua_getfield(L, 2, "keys");
    luaL_argcheck(L, type == LUA_TTABLE || type == LUA_TFUNCTION || type == LUA_TNIL, 2,
                  "option 'keys' must be a list, or a function that gives one key after the other");
    if (type == LUA_TNIL) {
        return;
    }
    lua_Integer n = push_strings(L);
    int strings = lua_gettop(L);
    struct pln_bytes *keys = lua_newuserdatauv(L, (size_t) (n + 1) * sizeof *keys, 0);
    for (lua_Integer i = 1; i <= n; i++) {
        lua_rawgeti(L, strings, i);
        keys[i - 1].data = lua_tolstring(L, -1, &keys[i - 1].len);
        lua_pop(L, 1);
    }
    options->keys = keys;
    options->n_keys = (size_t) n;
}

static double read_number(lua_State *L, const char *name, double least, double most,
                          const char *wanted) {
    if (lua_getfield(L, 2, name) == LUA_TNIL) {
        return 0;
    }
    double number = lua_tonumber(L, -1);
    if (lua_type(L, -1) != LUA_TNUMBER || !(number >= least) || number > most) {
        lua_pushfstring(L, "option '%s' must be %s", name, wanted);
        luaL_argerror(L, 2, lua_tostring(L, -1));
    }
    return number;
}

static void read_options(lua_State *L, struct pln_warm_options *options, bool *is_behind) {
    static const char *const names[] = {
        "keys",    "file",  "top",    "concurrency", "rate",       "deadline", "ready_at",
        "l2_only", "alone", "notify", "progress",    "background", NULL};
    luaL_checktype(L, 2, LUA_TTABLE);
    pln_lua_check_names(L, 2, names);
    options->flags = (pln_lua_given_flag(L, 2, "l2_only", false) ? PLN_WARM_L2_ONLY : 0u) |
                     (pln_lua_given_flag(L, 2, "alone", false) ? PLN_WARM_ALONE : 0u) |
                     (pln_lua_given_flag(L, 2, "notify", false) ? PLN_WARM_NOTIFY : 0u);
    *is_behind = pln_lua_given_flag(L, 2, "background", false);
    options->top = (size_t) pln_lua_given_integer(L, 2, "top");
    lua_Integer concurrency = pln_lua_given_integer(L, 2, "concurrency");
    luaL_argcheck(L, concurrency <= 256, 2, "option 'concurrency' must be 1 to 256");
    options->concurrency = (unsigned) concurrency;
    options->deadline_ms = pln_lua_given_duration(L, 2, "deadline");
    luaL_argcheck(L, options->deadline_ms > 0 || lua_getfield(L, 2, "deadline") == LUA_TNIL, 2,
                  "option 'deadline' must be at least 1 ms");
    options->rate = read_number(L, "rate", 1e-6, 1e9,
                                "a number of keys per second from 1e-6 to 1e9");
    options->ready_at = read_number(L, "ready_at", DBL_MIN, 1, "a share such as 0.9");
    if (lua_getfield(L, 2, "file") != LUA_TNIL) {
        luaL_argcheck(L, lua_type(L, -1) == LUA_TSTRING, 2, "option 'file' must be a path");
        options->file = lua_tostring(L, -1);
    }
    read_keys(L, options);
    if (lua_getfield(L, 2, "progress") == LUA_TFUNCTION) {
        options->progress = on_progress;
        lua_copy(L, -1, PROGRESS);
    } else {
        luaL_argcheck(L, lua_isnil(L, -1), 2, "option 'progress' must be a function");
    }
    luaL_argcheck(L,
                  !*is_behind ||
                      (options->progress == NULL && options->keys == NULL && options->file == NULL),
                  2, "what is warmed in the background has no 'progress', 'keys' or 'file'");
}

/* ---- methods ---- */

/* warm([options]) -> report, or true in the background */
static int cache_warm(lua_State *L) {
    pln_lua_opened(L, 1);
    struct pln_warm_report report = {0};
    struct told told = {L, false};
    struct pln_warm_options options = {.row = on_row, .arg = &told};
    bool is_behind = false;
    lua_settop(L, 2);
    lua_pushnil(L);           /* PROGRESS */
    lua_createtable(L, 4, 0); /* ROWS */
    if (!lua_isnil(L, 2)) {
        read_options(L, &options, &is_behind);
    }
    luaL_checkstack(L, 10, "warm");
    /* looked at last: what was allocated, or called, may have closed it */
    struct pln_lua_cache *self = pln_lua_opened(L, 1);
    if (is_behind) {
        options.row = NULL;
        return pln_lua_push_status(L, pln_warm_start(self->cache, &options));
    }
    if (options.keys != NULL && options.n_keys == 0 && options.file == NULL) {
        report.is_ready = true; /* an empty list is not the policy's */
        push_report(L, &report);
        return 1;
    }
    self->n_running++;
    int status = pln_warm(self->cache, &options, &report);
    self->n_running--;
    if (told.has_failed) {
        return lua_error(L);
    }
    if (status < 0) {
        return pln_lua_push_status(L, status);
    }
    push_report(L, &report);
    lua_pushvalue(L, ROWS);
    lua_setfield(L, -2, "sources");
    return 1;
}

/* ready() -> whether it is warm, and the report of the present or last warming */
static int cache_ready(lua_State *L) {
    struct pln_lua_cache *self = pln_lua_opened(L, 1);
    struct pln_warm_report report;
    lua_pushboolean(L, pln_ready(self->cache, &report));
    push_report(L, &report);
    return 2;
}

const luaL_Reg pln_lua_warmings[] = {
    {"warm", cache_warm},
    {"ready", cache_ready},
    {NULL, NULL},
};

int pln_lua_notify(lua_State *L) {
    int status = pln_notify(luaL_checkstring(L, 1));
    return pln_lua_push_status(L, status);
}
