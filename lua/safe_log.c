/* SPDX-License-Identifier: MIT
 *
 * safe_log.c - print and log.* of policies: to the cache's log, so many lines a second.
 */
#include "script.h"

enum { LINES_A_SECOND = 20, SECOND_MS = 1000 };

/* Of each script; what was held back is told with the first line that is let through. */
static bool may_say(struct pln_script *script) {
    pln_ms now = pln_now(script->host);
    if (script->log.n_lines == 0 || now - script->log.since >= SECOND_MS) {
        unsigned n_held = script->log.n_lines > LINES_A_SECOND
                              ? script->log.n_lines - LINES_A_SECOND
                              : 0;
        if (n_held > 0) {
            pln_logf(script->host, PLN_LOG_WARN, "%s: %u more lines in one second were left out",
                     script->file, n_held);
        }
        script->log.since = now;
        script->log.n_lines = 0;
    }
    return script->log.n_lines++ < LINES_A_SECOND;
}

static int say(lua_State *L, int level, int index) {
    struct pln_script *script = pln_script_of(L);
    if (!script->is_quiet && may_say(script)) {
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

void pln_safe_log_open(lua_State *L, bool is_trusted) {
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
    if (!is_trusted) {
        lua_pushcfunction(L, print_to_log);
        lua_setfield(L, -2, "print");
    }
}
