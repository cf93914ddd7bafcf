/* SPDX-License-Identifier: MIT
 *
 * lists.c - cache.warm with its sources: the statement that names keys ahead.
 *
 * A source (`keys { ... }`, `file "..."`, `zset "..." { top = n }`, `previous { top = n }`) is a
 * userdata that stands in the list part of cache.warm's table. It holds nothing in C: its names are
 * user values. Every source may be called with its limits, `{ top = n, priority = p }`.
 */
#include "script.h"

#include <stdio.h>

static const char source_name[] = "perilune.warm_source";

enum { DEFAULT_TOP = 10000, MOST_KEYS = 1000000 };

struct source {
    enum pln_warm_kind kind;
    size_t top;
    int8_t priority;
};

static const char *const words_of[] = {
    [PLN_WARM_KEYS] = "keys",         [PLN_WARM_FILE] = "file",     [PLN_WARM_ZSET] = "zset",
    [PLN_WARM_PREVIOUS] = "previous", [PLN_WARM_FUNCTION] = "keys",
};

/* ---- the words: keys, file, zset, previous ---- */

static void refuse_word(lua_State *L, int index, const char *wanted) {
    char got[80];
    pln_compile_refuse(L, "%s is wanted, got %s", wanted,
                       pln_compile_got(L, index, got, sizeof got));
}

static int push_source(lua_State *L, enum pln_warm_kind kind) {
    struct source *source = lua_newuserdatauv(L, sizeof *source, 1);
    bool is_ranked = kind == PLN_WARM_ZSET || kind == PLN_WARM_PREVIOUS;
    *source = (struct source){.kind = kind, .top = is_ranked ? DEFAULT_TOP : 0};
    luaL_setmetatable(L, source_name);
    lua_pushvalue(L, 1);
    lua_setiuservalue(L, -2, 1);
    return 1;
}

static int word_keys(lua_State *L) {
    pln_compile_word(L, "keys");
    if (lua_isfunction(L, 1)) {
        return push_source(L, PLN_WARM_FUNCTION);
    }
    if (!lua_istable(L, 1)) {
        refuse_word(L, 1, "a list such as keys { \"product:1\", \"product:2\" }");
    }
    return push_source(L, PLN_WARM_KEYS);
}

static int word_file(lua_State *L) {
    const char *name = pln_compile_text(L, 1);
    pln_compile_word(L, "file");
    if (name == NULL || name[0] == 0) {
        refuse_word(L, 1, "a path such as file \"hot-keys.txt\"");
    }
    return push_source(L, PLN_WARM_FILE);
}

static int word_zset(lua_State *L) {
    const char *name = pln_compile_text(L, 1);
    pln_compile_word(L, "zset");
    if (name == NULL || name[0] == 0) {
        refuse_word(L, 1, "the name of a sorted set in Redis");
    }
    return push_source(L, PLN_WARM_ZSET);
}

/* Reads a whole number of the limits at `index`; false where it is not there. */
static bool read_limit(lua_State *L, int index, const char *name, lua_Integer least,
                       lua_Integer most, lua_Integer *number) {
    char wanted[80];
    if (pln_compile_field(L, index, name) == LUA_TNIL) {
        return false;
    }
    *number = lua_isinteger(L, -1) ? lua_tointeger(L, -1) : least - 1;
    if (*number < least || *number > most) {
        snprintf(wanted, sizeof wanted, "%s: a whole number from %d to %d", name, (int) least,
                 (int) most);
        refuse_word(L, -1, wanted);
    }
    return true;
}

/* { top = 5000, priority = 1 } */
static void read_source_limits(lua_State *L, int index, struct source *source) {
    static const char *const names[] = {"top", "priority", NULL};
    lua_Integer number;
    pln_compile_check_names(L, index, names, false, false);
    if (read_limit(L, index, "top", 1, MOST_KEYS, &number)) {
        source->top = (size_t) number;
    }
    if (read_limit(L, index, "priority", -128, 127, &number)) {
        source->priority = (int8_t) number;
    }
}

static int word_previous(lua_State *L) {
    pln_compile_word(L, "previous");
    if (!lua_istable(L, 1)) {
        refuse_word(L, 1, "a table such as previous { top = 10000 }");
    }
    push_source(L, PLN_WARM_PREVIOUS);
    read_source_limits(L, 1, lua_touserdata(L, -1));
    lua_settop(L, 2);
    return 1;
}

/* zset "stats:hot" { top = 5000 } */
static int limit_source(lua_State *L) {
    struct source *source = luaL_checkudata(L, 1, source_name);
    pln_compile_word(L, words_of[source->kind]);
    if (!lua_istable(L, 2)) {
        refuse_word(L, 2, "a table such as { top = 5000, priority = 1 }");
    }
    read_source_limits(L, 2, source);
    lua_settop(L, 1);
    return 1;
}

void pln_compile_open_sources(lua_State *L) {
    static const luaL_Reg words[] = {{"keys", word_keys},
                                     {"file", word_file},
                                     {"zset", word_zset},
                                     {"previous", word_previous},
                                     {NULL, NULL}};
    luaL_newmetatable(L, source_name);
    lua_pushcfunction(L, limit_source);
    lua_setfield(L, -2, "__call");
    lua_pushboolean(L, false);
    lua_setfield(L, -2, "__metatable");
    lua_pop(L, 1);
    luaL_setfuncs(L, words, 0);
}

/* ---- cache.warm ---- */

/* A path beside the policy's file, unless it is absolute. */
static char *beside(const struct pln_source_text *text, const char *path) {
    char *joined = NULL;
    const char *folder = path[0] == '/' ? "" : text->folder;
    return asprintf(&joined, "%s%s", folder, path) < 0 ? NULL : joined;
}

static void read_keys(lua_State *L, int index, struct pln_warm_source *source) {
    char got[80];
    size_t n = lua_rawlen(L, index);
    if (n > MOST_KEYS) {
        pln_compile_refuse(L, "keys: at most %d, got %zu", MOST_KEYS, n);
    }
    source->keys = pln_compile_own(L, calloc(n + 1, sizeof *source->keys));
    for (size_t i = 1; i <= n; i++) {
        size_t len = 0;
        lua_rawgeti(L, index, (lua_Integer) i);
        const char *key = lua_type(L, -1) == LUA_TSTRING ? lua_tolstring(L, -1, &len) : NULL;
        if (key == NULL || len == 0 || len > PLN_MAX_KEY) {
            pln_compile_refuse(L, "keys[%zu]: a key of 1 to %d bytes, got %s", i, PLN_MAX_KEY,
                               pln_compile_got(L, -1, got, sizeof got));
        }
        char *copy = pln_compile_own(L, malloc(len));
        memcpy(copy, key, len);
        source->keys[source->n_keys++] = pln_bytes_of(copy, len);
        lua_pop(L, 1);
    }
}

/* The functions of the sources before this one. */
static unsigned count_functions(const struct pln_warm_plan *plan) {
    unsigned n = 0;
    for (size_t i = 0; i < plan->n_sources; i++) {
        n += plan->sources[i].kind == PLN_WARM_FUNCTION;
    }
    return n;
}

/* What a source names is on top of the stack. */
static void read_named(lua_State *L, struct pln_warm_source *source, unsigned n_functions) {
    switch (source->kind) {
    case PLN_WARM_KEYS:
        read_keys(L, lua_gettop(L), source);
        break;
    case PLN_WARM_FILE:
        source->name = pln_compile_own(L, beside(pln_compile_of(L)->source, lua_tostring(L, -1)));
        break;
    case PLN_WARM_ZSET:
        source->name = pln_compile_own(L, strdup(lua_tostring(L, -1)));
        break;
    case PLN_WARM_FUNCTION:
        source->function = n_functions;
        lua_pushvalue(L, -1);
        pln_naming_keep(L, n_functions);
        break;
    case PLN_WARM_PREVIOUS:
        break;
    }
}

static void read_source(lua_State *L, size_t i, struct pln_warm_plan *plan) {
    const struct source *from = luaL_testudata(L, -1, source_name);
    unsigned n_functions = count_functions(plan);
    char got[80];
    if (from == NULL) {
        pln_compile_refuse(
            L, "[%zu]: keys { ... }, file \"...\", zset \"...\" or previous { ... }, got %s", i,
            pln_compile_got(L, -1, got, sizeof got));
    }
    if (plan->n_sources == PLN_WARM_SOURCES) {
        pln_compile_refuse(L, "at most %d sources", PLN_WARM_SOURCES);
    }
    plan->sources = pln_compile_grow(L, plan->sources, plan->n_sources, sizeof *plan->sources);
    struct pln_warm_source *source = &plan->sources[plan->n_sources++];
    *source = (struct pln_warm_source){
        .kind = from->kind, .top = from->top, .priority = from->priority};
    lua_getiuservalue(L, -1, 1);
    read_named(L, source, n_functions);
    lua_pop(L, 1);
}

/* "2000/s" or a number per second, neither so small nor so large that the time between two is lost
 * in ns. */
static bool to_rate(lua_State *L, int index, double *rate) {
    char *end;
    if (lua_type(L, index) == LUA_TNUMBER) {
        *rate = lua_tonumber(L, index);
        return *rate >= 1e-6 && *rate <= 1e9;
    }
    const char *text = pln_compile_text(L, index);
    if (text == NULL) {
        return false;
    }
    *rate = strtod(text, &end);
    return end != text && *rate >= 1e-6 && *rate <= 1e9 && (*end == 0 || strcmp(end, "/s") == 0);
}

static void check_limit(lua_State *L, const char *field, bool is_good, const char *wanted) {
    char got[80];
    if (!is_good) {
        pln_compile_refuse(L, "%s: %s, got %s", field, wanted,
                           pln_compile_got(L, -1, got, sizeof got));
    }
}

static void read_limits(lua_State *L, int body, struct pln_warm_plan *plan) {
    if (pln_compile_field(L, body, "concurrency") != LUA_TNIL) {
        lua_Integer n = lua_isinteger(L, -1) ? lua_tointeger(L, -1) : 0;
        plan->concurrency = (unsigned) n;
        check_limit(L, "concurrency", n >= 1 && n <= 256, "a whole number from 1 to 256");
    }
    lua_settop(L, body);
    if (pln_compile_field(L, body, "rate") != LUA_TNIL) {
        check_limit(L, "rate", to_rate(L, -1, &plan->rate),
                    "keys per second from 1e-6 to 1e9, such as \"2000/s\"");
    }
    lua_settop(L, body);
    if (pln_compile_field(L, body, "deadline") != LUA_TNIL) {
        pln_ms ms = 0;
        bool is_good = pln_lua_to_duration(L, -1, &ms) && ms > 0 && ms <= 86400000;
        plan->deadline_ms = ms;
        check_limit(L, "deadline", is_good, "a duration of at most 1 day, such as \"20s\"");
    }
    lua_settop(L, body);
    if (pln_compile_field(L, body, "ready_at") != LUA_TNIL) {
        bool is_good = pln_lua_to_share(L, -1, &plan->ready_at) && plan->ready_at <= 1;
        check_limit(L, "ready_at", is_good, "a share between 0 and 1, such as \"90%\"");
    }
    lua_settop(L, body);
}

void pln_compile_warm(lua_State *L, int body) {
    static const char *const names[] = {"concurrency", "rate", "deadline", "ready_at", NULL};
    struct pln_compiler *compiler = pln_compile_of(L);
    char at[160];
    if (compiler->warm_line != 0) {
        pln_compile_refuse(
            L, "there is one already, at %s",
            pln_compile_place(compiler, compiler->warm_file, compiler->warm_line, at, sizeof at));
    }
    compiler->warm_line = compiler->statement.line;
    memcpy(compiler->warm_file, compiler->statement.file, sizeof compiler->warm_file);
    pln_compile_check_names(L, body, names, false, true);
    size_t n = lua_rawlen(L, body);
    for (size_t i = 1; i <= n; i++) {
        lua_rawgeti(L, body, (lua_Integer) i);
        read_source(L, i, &compiler->ruleset->warm);
        lua_pop(L, 1);
    }
    read_limits(L, body, &compiler->ruleset->warm);
}
