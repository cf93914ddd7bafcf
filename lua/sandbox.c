/* SPDX-License-Identifier: MIT
 *
 * sandbox.c - what a policy may use: a global table built by whitelist.
 *
 * Left out is what reaches outside (io, os, require, debug), what runs code that was not in the
 * file (load and its kin, string.dump), what escapes the budget (coroutines, collectgarbage,
 * finalizers), and what would spoil the state for others (the string metatable). Replaced is what
 * catches errors, so that a spent budget cannot be caught, and what loops in C over sizes that
 * cost nothing to name. This guards against mistakes; hostile authors need a process of their own.
 */
#include "script.h"

#include <lualib.h>

enum {
    LONGEST_REP = 16 << 20, /* bytes, or rounds where the text is empty */
    LONGEST_MOVE = 1 << 20, /* elements */
};

/* Goes on in the library's function, in the same frame, so that its errors name the script's line.
 * None of those replaced has upvalues of its own. */
static int call_original(lua_State *L) {
    return lua_tocfunction(L, lua_upvalueindex(1))(L);
}

/* ---- catching errors ---- */

static bool must_go_up(lua_State *L, int status) {
    return status == LUA_ERRMEM || pln_script_of(L)->is_over;
}

static int safe_pcall(lua_State *L) {
    luaL_checkany(L, 1);
    int status = lua_pcall(L, lua_gettop(L) - 1, LUA_MULTRET, 0);
    if (status != LUA_OK && must_go_up(L, status)) {
        return lua_error(L);
    }
    lua_pushboolean(L, status == LUA_OK);
    lua_insert(L, 1);
    return lua_gettop(L);
}

/* The handler runs after the stack is unwound: inside, hooks would be off for it. */
static int safe_xpcall(lua_State *L) {
    luaL_checktype(L, 2, LUA_TFUNCTION);
    lua_pushvalue(L, 2);
    lua_pushvalue(L, 1);
    lua_replace(L, 2);
    lua_replace(L, 1); /* stack: handler, function, arguments */
    int status = lua_pcall(L, lua_gettop(L) - 2, LUA_MULTRET, 0);
    if (status == LUA_OK) {
        lua_pushboolean(L, true);
        lua_replace(L, 1);
        return lua_gettop(L);
    }
    if (must_go_up(L, status)) {
        return lua_error(L);
    }
    lua_pushboolean(L, false);
    lua_insert(L, 1); /* stack: false, handler, error */
    lua_call(L, 1, LUA_MULTRET);
    return lua_gettop(L);
}

/* ---- metatables ---- */

static int safe_setmetatable(lua_State *L) {
    static const char *const refused[] = {"__gc", "__metatable", NULL};
    luaL_checktype(L, 1, LUA_TTABLE);
    if (lua_type(L, 2) == LUA_TTABLE) {
        for (size_t i = 0; refused[i] != NULL; i++) {
            lua_pushstring(L, refused[i]);
            if (lua_rawget(L, 2) != LUA_TNIL) {
                return luaL_error(L, "setmetatable: a policy may not use %s", refused[i]);
            }
            lua_pop(L, 1);
        }
    }
    return call_original(L);
}

/* ---- loops in C ---- */

static int safe_rep(lua_State *L) {
    size_t len, len_separator;
    luaL_checklstring(L, 1, &len);
    luaL_optlstring(L, 3, "", &len_separator);
    lua_Integer n = luaL_checkinteger(L, 2);
    size_t round = len + len_separator == 0 ? 1 : len + len_separator;
    if (n > 0 && (size_t) n > LONGEST_REP / round) {
        return luaL_error(L, "string.rep: the result would be over %d MB", LONGEST_REP >> 20);
    }
    return call_original(L);
}

static void check_plain(lua_State *L, int index) {
    if (lua_istable(L, index) && lua_getmetatable(L, index) != 0) {
        luaL_argerror(L, index, "a table without a metatable is wanted");
    }
}

/* With __len or __index a table has any size it likes to name. */
static int safe_table_function(lua_State *L) {
    check_plain(L, 1);
    return call_original(L);
}

static int safe_move(lua_State *L) {
    lua_Integer from = luaL_checkinteger(L, 2), to = luaL_checkinteger(L, 3);
    check_plain(L, 1);
    check_plain(L, 5);
    if (to >= from && (lua_Unsigned) to - (lua_Unsigned) from >= LONGEST_MOVE) {
        return luaL_error(L, "table.move: over %d elements", LONGEST_MOVE);
    }
    return call_original(L);
}

/* ---- log ---- */

static int say(lua_State *L, int level, int index) {
    const struct pln_script *script = pln_script_of(L);
    if (!script->is_quiet) {
        pln_logf(script->host, level, "%s: %s", script->file, lua_tostring(L, index));
    }
    return 0;
}

static int print_to_log(lua_State *L) {
    int n = lua_gettop(L);
    luaL_Buffer line;
    luaL_buffinit(L, &line);
    for (int i = 1; i <= n; i++) {
        luaL_addstring(&line, i > 1 ? " " : "");
        luaL_tolstring(L, i, NULL);
        luaL_addvalue(&line);
    }
    luaL_pushresult(&line);
    return say(L, PLN_LOG_INFO, -1);
}

/* log.warn("ratio %.2f", x): upvalues are the level and string.format. */
static int format_to_log(lua_State *L) {
    luaL_checkstring(L, 1);
    if (lua_gettop(L) > 1) {
        lua_pushvalue(L, lua_upvalueindex(2));
        lua_insert(L, 1);
        lua_call(L, lua_gettop(L) - 1, 1);
    }
    return say(L, (int) lua_tointeger(L, lua_upvalueindex(1)), 1);
}

/* Adds the table `log` to the globals on top of the stack. */
static void add_log(lua_State *L) {
    static const char *const names[] = {"debug", "info", "warn", "error"};
    lua_createtable(L, 0, 4);
    for (int level = 0; level < 4; level++) {
        lua_pushinteger(L, level);
        lua_getfield(L, -3, "string");
        lua_getfield(L, -1, "format");
        lua_remove(L, -2);
        lua_pushcclosure(L, format_to_log, 2);
        lua_setfield(L, -2, names[level]);
    }
    lua_setfield(L, -2, "log");
}

/* ---- the whitelist ---- */

static const char *const base_names[] = {
    "_VERSION", "assert", "error",  "getmetatable", "ipairs",   "next",     "pairs", "rawequal",
    "rawget",   "rawlen", "rawset", "select",       "tonumber", "tostring", "type",  NULL};
static const char *const string_names[] = {
    "byte",  "char", "find",     "format",  "gmatch", "gsub",   "len",   "lower",
    "match", "pack", "packsize", "reverse", "sub",    "unpack", "upper", NULL};
static const char *const math_names[] = {
    "abs", "acos",       "asin", "atan",      "ceil", "cos",    "deg",
    "exp", "floor",      "fmod", "huge",      "log",  "max",    "maxinteger",
    "min", "mininteger", "modf", "pi",        "rad",  "random", "randomseed",
    "sin", "sqrt",       "tan",  "tointeger", "type", "ult",    NULL};
static const char *const utf8_names[] = {"char", "charpattern", "codepoint", "codes",
                                         "len",  "offset",      NULL};
static const char *const table_names[] = {"pack", NULL};
static const char *const os_names[] = {"clock", "date", "time", NULL};

/* A lua_CFunction put in the place of a library's, which becomes its upvalue. */
struct replacement {
    const char *name;
    lua_CFunction function;
};

static const struct replacement string_replacements[] = {{"rep", safe_rep}, {NULL, NULL}};
static const struct replacement table_replacements[] = {{"concat", safe_table_function},
                                                        {"insert", safe_table_function},
                                                        {"remove", safe_table_function},
                                                        {"sort", safe_table_function},
                                                        {"unpack", safe_table_function},
                                                        {"move", safe_move},
                                                        {NULL, NULL}};
static const struct replacement base_replacements[] = {{"setmetatable", safe_setmetatable},
                                                       {NULL, NULL}};

/* Copies named fields from the library table on top to the one below it. */
static void copy_names(lua_State *L, const char *const *names) {
    for (; *names != NULL; names++) {
        lua_getfield(L, -1, *names);
        lua_setfield(L, -3, *names);
    }
}

static void copy_replaced(lua_State *L, const struct replacement *replacements) {
    for (; replacements->name != NULL; replacements++) {
        lua_getfield(L, -1, replacements->name);
        lua_pushcclosure(L, replacements->function, 1);
        lua_setfield(L, -3, replacements->name);
    }
}

/* Opens a library and adds a table with what is allowed of it to the globals on top. */
static void add_library(lua_State *L, const char *name, lua_CFunction open,
                        const char *const *names, const struct replacement *replacements) {
    lua_createtable(L, 0, 16);
    luaL_requiref(L, name, open, 0);
    copy_names(L, names);
    if (replacements != NULL) {
        copy_replaced(L, replacements);
    }
    lua_pop(L, 1);
    lua_setfield(L, -2, name);
}

static void add_base(lua_State *L) {
    luaL_requiref(L, LUA_GNAME, luaopen_base, 0);
    copy_names(L, base_names);
    copy_replaced(L, base_replacements);
    lua_pop(L, 1);
    lua_pushcfunction(L, safe_pcall);
    lua_setfield(L, -2, "pcall");
    lua_pushcfunction(L, safe_xpcall);
    lua_setfield(L, -2, "xpcall");
    lua_pushcfunction(L, print_to_log);
    lua_setfield(L, -2, "print");
    lua_pushvalue(L, -1);
    lua_setfield(L, -2, LUA_GNAME);
}

/* Methods of strings come from the table of this sandbox, and nobody gets at their metatable. */
static void tie_strings(lua_State *L) {
    lua_pushliteral(L, "");
    lua_getmetatable(L, -1);
    lua_getfield(L, -3, LUA_STRLIBNAME);
    lua_setfield(L, -2, "__index");
    lua_pushboolean(L, false);
    lua_setfield(L, -2, "__metatable");
    lua_pop(L, 2);
}

static void open_whitelist(lua_State *L) {
    lua_createtable(L, 0, 32);
    add_base(L);
    add_library(L, LUA_STRLIBNAME, luaopen_string, string_names, string_replacements);
    add_library(L, LUA_TABLIBNAME, luaopen_table, table_names, table_replacements);
    add_library(L, LUA_MATHLIBNAME, luaopen_math, math_names, NULL);
    add_library(L, LUA_UTF8LIBNAME, luaopen_utf8, utf8_names, NULL);
    add_library(L, LUA_OSLIBNAME, luaopen_os, os_names, NULL);
    tie_strings(L);
    lua_pushvalue(L, -1);
    lua_rawseti(L, LUA_REGISTRYINDEX, LUA_RIDX_GLOBALS);
}

void pln_sandbox_open(lua_State *L, bool is_trusted) {
    if (is_trusted) {
        luaL_openlibs(L);
        lua_pushglobaltable(L);
    } else {
        open_whitelist(L);
    }
    add_log(L);
    pln_compile_open(L);
    lua_pop(L, 1);
}
