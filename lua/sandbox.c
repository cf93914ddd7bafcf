/* SPDX-License-Identifier: MIT
 *
 * sandbox.c - what a policy may use: a global table built by whitelist.
 *
 * Left out is what reaches outside (io, os, require, debug), what runs code that was not in the
 * file (load and its kin, string.dump), what escapes the budget (coroutines, collectgarbage,
 * finalizers), and what would spoil the state for others (the string metatable). Replaced is what
 * catches errors, so that a spent budget cannot be caught, and what loops in C over sizes that
 * cost nothing to name (safe_strings.c, safe_tables.c). What is left can be read, not written; nor
 * can globals, once the file is read. This guards against mistakes; hostile authors need a process
 * of their own.
 */
#include "script.h"

#include <lualib.h>

int pln_call_original(lua_State *L) {
    return lua_tocfunction(L, lua_upvalueindex(1))(L);
}

/* ---- catching errors ---- */

static bool must_go_up(lua_State *L, int status) {
    return pln_lua_is_memory_error(L, status) || pln_script_of(L)->is_over;
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
    return pln_call_original(L);
}

/* ---- faces: tables that can be read, and nothing else ----
 *
 * A face is a userdata, so that neither rawset nor the functions of `table` get at what is behind
 * it; and what is behind it is in no script's hands. */

/* Upvalues: the table, the key to go on from. */
static int next_field(lua_State *L) {
    lua_pushvalue(L, lua_upvalueindex(2));
    if (lua_next(L, lua_upvalueindex(1)) == 0) {
        return 0;
    }
    lua_pushvalue(L, -2);
    lua_replace(L, lua_upvalueindex(2));
    return 2;
}

static int each_field(lua_State *L) {
    lua_pushvalue(L, lua_upvalueindex(1));
    lua_pushnil(L);
    lua_pushcclosure(L, next_field, 2);
    return 1;
}

static int refuse_field(lua_State *L) {
    const char *name = lua_tostring(L, lua_upvalueindex(1));
    return luaL_error(L, "%s.%s cannot be set: %s is read-only", name, luaL_tolstring(L, 2, NULL),
                      name);
}

/* While the file is read globals are made as anywhere. After that a new value would be seen by the
 * calls that happen to run in the same worker, and by no others. */
static int set_global(lua_State *L) {
    if (pln_script_of(L)->compiler == NULL) {
        return luaL_error(L,
                          "global '%s' cannot be set: globals are fixed once the policy is read; "
                          "is a 'local' missing?",
                          luaL_tolstring(L, 2, NULL));
    }
    lua_settop(L, 3);
    lua_rawset(L, lua_upvalueindex(1));
    return 0;
}

/* Pops what sets a field, and puts a face in the place of the table below it. */
static void put_face(lua_State *L, const char *name) {
    lua_newuserdatauv(L, 0, 0);
    lua_createtable(L, 0, 5); /* stack: table, setter, face, metatable */
    lua_pushstring(L, name);
    lua_setfield(L, -2, "__name");
    lua_pushboolean(L, false);
    lua_setfield(L, -2, "__metatable");
    lua_pushvalue(L, -4);
    lua_pushcclosure(L, each_field, 1);
    lua_setfield(L, -2, "__pairs");
    lua_pushvalue(L, -4);
    lua_setfield(L, -2, "__index");
    lua_pushvalue(L, -3);
    lua_setfield(L, -2, "__newindex");
    lua_setmetatable(L, -2);
    lua_replace(L, -3);
    lua_pop(L, 1);
}

/* Puts faces before all tables in the globals on top of the stack, and before these themselves. */
static void close_globals(lua_State *L) {
    int globals = lua_gettop(L);
    lua_pushnil(L);
    while (lua_next(L, globals) != 0) {
        if (lua_istable(L, -1)) {
            const char *name = lua_tostring(L, -2); /* they are texts */
            lua_pushstring(L, name);
            lua_pushcclosure(L, refuse_field, 1);
            put_face(L, name);
            lua_pushvalue(L, -2);
            lua_insert(L, -2); /* stack: globals, name, name, face */
            lua_rawset(L, globals);
        } else {
            lua_pop(L, 1);
        }
    }
    lua_pushvalue(L, globals);
    lua_pushvalue(L, globals);
    lua_pushcclosure(L, set_global, 1);
    put_face(L, LUA_GNAME);
    lua_pushvalue(L, -1);
    lua_setfield(L, globals, LUA_GNAME);
    lua_rawseti(L, LUA_REGISTRYINDEX, LUA_RIDX_GLOBALS);
}

/* ---- the whitelist ---- */

static const char *const base_names[] = {
    "_VERSION", "assert", "error",  "getmetatable", "ipairs",   "next",     "pairs", "rawequal",
    "rawget",   "rawlen", "rawset", "select",       "tonumber", "tostring", "type",  NULL};
static const char *const string_names[] = {"byte",    "char", "len",   "lower",
                                           "reverse", "sub",  "upper", NULL};
static const char *const math_names[] = {"abs",        "acos",       "asin",
                                         "atan",       "ceil",       "cos",
                                         "deg",        "exp",        "floor",
                                         "fmod",       "huge",       "log",
                                         "max",        "maxinteger", "min",
                                         "mininteger", "modf",       "pi",
                                         "rad",        "random",     "sin",
                                         "sqrt",       "tan",        "tointeger",
                                         "type",       "ult",        PLN_LUA_RANDOMSEED,
                                         NULL};
static const char *const utf8_names[] = {"char", "charpattern", "codepoint", "codes",
                                         "len",  "offset",      NULL};
static const char *const table_names[] = {"pack", NULL};
static const char *const os_names[] = {"clock", "time", NULL};

static const struct pln_replacement base_replacements[] = {{"setmetatable", safe_setmetatable},
                                                           {NULL, NULL}};
static const struct pln_replacement os_replacements[] = {{"date", pln_safe_date}, {NULL, NULL}};

/* Copies named fields from the library table on top to the one below it. */
static void copy_names(lua_State *L, const char *const *names) {
    for (; *names != NULL; names++) {
        lua_getfield(L, -1, *names);
        lua_setfield(L, -3, *names);
    }
}

static void copy_replaced(lua_State *L, const struct pln_replacement *replacements) {
    for (; replacements->name != NULL; replacements++) {
        lua_getfield(L, -1, replacements->name);
        lua_pushcclosure(L, replacements->function, 1);
        lua_setfield(L, -3, replacements->name);
    }
}

/* Opens a library and adds a table with what is allowed of it to the globals on top. */
static void add_library(lua_State *L, const char *name, lua_CFunction open,
                        const char *const *names, const struct pln_replacement *replacements) {
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
    add_library(L, LUA_STRLIBNAME, luaopen_string, string_names, pln_safe_strings);
    add_library(L, LUA_TABLIBNAME, luaopen_table, table_names, pln_safe_tables);
    add_library(L, LUA_MATHLIBNAME, luaopen_math, math_names, NULL);
    add_library(L, LUA_UTF8LIBNAME, luaopen_utf8, utf8_names, NULL);
    add_library(L, LUA_OSLIBNAME, luaopen_os, os_names, os_replacements);
    tie_strings(L);
}

void pln_sandbox_open(lua_State *L, bool is_trusted) {
    if (is_trusted) {
        luaL_openlibs(L);
        lua_pushglobaltable(L);
    } else {
        open_whitelist(L);
    }
    pln_safe_log_open(L, is_trusted);
    pln_compile_open(L);
    if (!is_trusted) {
        close_globals(L);
    }
    lua_pop(L, 1);
}
