/* SPDX-License-Identifier: MIT
 *
 * prompt.c - lines from the user, run one after the other, as Lua's own program does it: an
 * expression is printed, a statement may take several lines, and "=" before an expression does no
 * harm. Lines that begin with a dot are commands of the prompt's own; these, and what completes a
 * line, are scripts/perilune_prompt.lua.
 */
#include "program.h"

#include <lauxlib.h>
#include <stdio.h>
#include <string.h>

#include "../core/perilune.h"

/* Places on the stack. */
enum { HELPER = 1, EDITOR, TEXT };

enum { INTERRUPTED = -1 }; /* beside Lua's statuses */

static enum pln_line read_line(lua_State *L, bool is_first) {
    lua_getglobal(L, is_first ? "_PROMPT" : "_PROMPT2");
    const char *given = lua_tostring(L, -1);
    const char *prompt = given != NULL ? given : is_first ? "> " : ">> ";
    enum pln_line line = pln_editor_read(L, EDITOR, prompt);
    lua_remove(L, line == PLN_LINE_READ ? -2 : -1);
    return line;
}

/* True where the chunk only lacks its end; the message stays. */
static bool is_incomplete(lua_State *L, int status) {
    static const char mark[] = "<eof>";
    size_t len;
    if (status != LUA_ERRSYNTAX) {
        return false;
    }
    const char *message = lua_tolstring(L, -1, &len);
    return len >= sizeof mark - 1 && strcmp(message + len - (sizeof mark - 1), mark) == 0;
}

/* Loads the text as an expression. */
static bool load_expression(lua_State *L) {
    const char *text = lua_pushfstring(L, "return %s;", lua_tostring(L, TEXT));
    if (luaL_loadbuffer(L, text, strlen(text), "=stdin") == LUA_OK) {
        lua_remove(L, -2);
        return true;
    }
    lua_pop(L, 2);
    return false;
}

/* Reads lines until they make a chunk, which is pushed, or what is wrong with it. */
static int load_statement(lua_State *L) {
    for (;;) {
        size_t len;
        const char *text = lua_tolstring(L, TEXT, &len);
        int status = luaL_loadbuffer(L, text, len, "=stdin");
        if (!is_incomplete(L, status)) {
            return status;
        }
        enum pln_line line = read_line(L, false);
        if (line != PLN_LINE_READ) {
            return line == PLN_LINE_INTERRUPTED ? INTERRUPTED : status;
        }
        lua_remove(L, -2); /* the message */
        lua_pushliteral(L, "\n");
        lua_insert(L, -2);
        lua_concat(L, 3);
    }
}

static void print_results(lua_State *L) {
    int n = lua_gettop(L) - EDITOR;
    if (n == 0) {
        return;
    }
    luaL_checkstack(L, LUA_MINSTACK, "too many results to print");
    lua_getglobal(L, "print");
    lua_insert(L, EDITOR + 1);
    if (lua_pcall(L, n, 0, 0) != LUA_OK) {
        pln_program_report(L, LUA_ERRRUN);
    }
}

/* Runs the text, as a chunk. */
static void run_text(lua_State *L) {
    const char *line = lua_tostring(L, TEXT);
    if (line[0] == '=') {
        lua_pushfstring(L, "return %s", line + 1);
        lua_replace(L, TEXT);
    }
    int status = load_expression(L) ? LUA_OK : load_statement(L);
    if (status == INTERRUPTED) {
        return;
    }
    lua_remove(L, TEXT);
    if (status == LUA_OK) {
        status = pln_program_call(L, 0, LUA_MULTRET);
    }
    if (pln_program_report(L, status) == LUA_OK) {
        print_results(L);
    }
}

/* Runs the text, as a command of the prompt's own. False: it was the last. */
static bool run_command(lua_State *L) {
    lua_getfield(L, HELPER, "command");
    lua_insert(L, TEXT);
    int status = pln_program_call(L, 1, 1);
    return pln_program_report(L, status) != LUA_OK || !lua_toboolean(L, -1);
}

static const struct pln_program_script *helper_script(void) {
    const struct pln_program_script *script = pln_program_scripts;
    while (strcmp(script->name, "perilune_prompt") != 0) {
        script++;
    }
    return script;
}

/* Pushes the helper and the editor. */
static bool begin(lua_State *L, bool is_bare) {
    const struct pln_program_script *script = helper_script();
    lua_settop(L, 0);
    int status = luaL_loadbuffer(L, (const char *) script->text, script->len, "=perilune_prompt");
    if (status == LUA_OK) {
        status = pln_program_call(L, 0, 1);
    }
    if (status == LUA_OK && is_bare) {
        lua_getfield(L, HELPER, "begin");
        status = pln_program_call(L, 0, 0);
    }
    if (pln_program_report(L, status) != LUA_OK) {
        return false;
    }
    lua_getfield(L, HELPER, "history");
    pln_editor_push(L, lua_tostring(L, -1));
    lua_remove(L, -2);
    lua_getfield(L, HELPER, "complete");
    lua_setiuservalue(L, EDITOR, 1);
    return true;
}

void pln_program_prompt(lua_State *L, bool is_bare) {
    enum pln_line line = PLN_LINE_READ;
    if (!begin(L, is_bare)) {
        return;
    }
    while (line != PLN_LINE_END) {
        lua_settop(L, EDITOR);
        line = read_line(L, true);
        if (line != PLN_LINE_READ) {
            continue;
        }
        if (lua_tostring(L, TEXT)[0] != '.') {
            run_text(L);
        } else if (!run_command(L)) {
            return;
        }
    }
    fputs("\n", stdout);
}
