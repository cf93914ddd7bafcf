/* SPDX-License-Identifier: MIT
 *
 * main.c - the program perilune. `run` is C (run.c), and so is having no command at all; the others
 * are in scripts/perilune_program.lua, part of this program, which is called with the arguments and
 * with a table of what it cannot do in Lua, and of what scripts/perilune_NAME.lua return, by NAME.
 */
#include "internal.h"
#include "program.h"

#include <signal.h>
#include <stdio.h>
#include <unistd.h>

struct command_line {
    int argc;
    char **argv;
};

/* ---- what the script is given ---- */

static volatile sig_atomic_t is_interrupted; /* a signal handler may write nothing else */

static void note_interrupt(int signal_number) {
    signal(signal_number, SIG_DFL); /* a second one ends the program */
    is_interrupted = 1;
}

/* From here on Ctrl-C is only noted. */
static int program_catch_interrupt(lua_State *L) {
    (void) L;
    signal(SIGINT, note_interrupt);
    return 0;
}

bool pln_program_is_interrupted(void) {
    return is_interrupted;
}

static int program_interrupted(lua_State *L) {
    lua_pushboolean(L, pln_program_is_interrupted());
    return 1;
}

/* Is standard error a terminal? */
static int program_is_terminal(lua_State *L) {
    lua_pushboolean(L, isatty(STDERR_FILENO));
    return 1;
}

/* nearest(name, list) -> the name in the list that it is a slip of, or nil */
static int program_nearest(lua_State *L) {
    enum { MAX_NAMES = 128 };
    const char *names[MAX_NAMES] = {NULL};
    const char *name = luaL_checkstring(L, 1);
    luaL_checktype(L, 2, LUA_TTABLE);
    luaL_checkstack(L, MAX_NAMES, "nearest");
    for (int i = 0; i < MAX_NAMES - 1 && lua_rawgeti(L, 2, i + 1) == LUA_TSTRING; i++) {
        names[i] = lua_tostring(L, -1);
    }
    lua_pushstring(L, pln_nearest(names, name));
    return 1;
}

/* duration(text) -> ms, or nil where it is none, or has no end */
static int program_duration(lua_State *L) {
    pln_ms duration;
    if (!pln_parse_duration(luaL_checkstring(L, 1), &duration) || duration == PLN_FOREVER) {
        return 0;
    }
    lua_pushinteger(L, duration);
    return 1;
}

static const luaL_Reg program_functions[] = {
    {"catch_interrupt", program_catch_interrupt},
    {"duration", program_duration},
    {"interrupted", program_interrupted},
    {"is_terminal", program_is_terminal},
    {"nearest", program_nearest},
    {"replay", pln_program_replay},
    {"size", pln_program_size},
    {"trace", pln_program_trace},
    {"watch", pln_program_watch},
    {NULL, NULL},
};

/* Pushes that table, with the names of the options that a cache has. */
static void push_program(lua_State *L) {
    luaL_newlib(L, program_functions);
    lua_newtable(L);
    for (size_t i = 0; pln_option_name(i) != NULL; i++) {
        lua_pushstring(L, pln_option_name(i));
        lua_rawseti(L, -2, (lua_Integer) i + 1);
    }
    lua_setfield(L, -2, "options");
}

/* ---- commands ---- */

static int load_script(lua_State *L, const struct pln_program_script *script) {
    char name[64];
    snprintf(name, sizeof name, "=%s", script->name);
    return luaL_loadbuffer(L, (const char *) script->text, script->len, name);
}

/* Runs the scripts, of which the last is given the arguments; its result is the exit code, or
 * "prompt". */
static int run_command(lua_State *L, const struct command_line *line) {
    const struct pln_program_script *script = pln_program_scripts;
    int status = LUA_OK;
    pln_program_open(L, false);
    luaL_checkstack(L, line->argc + 10, "too many arguments");
    push_program(L);
    for (; script[1].name != NULL && status == LUA_OK; script++) {
        status = load_script(L, script);
        if (status == LUA_OK) {
            lua_pushvalue(L, 1);
            status = pln_program_call(L, 1, 1);
        }
        if (status == LUA_OK) {
            lua_setfield(L, 1, strchr(script->name, '_') + 1);
        }
    }
    status = status == LUA_OK ? load_script(L, script) : status;
    if (status == LUA_OK) {
        lua_pushvalue(L, 1);
        for (int i = 1; i < line->argc; i++) {
            lua_pushstring(L, line->argv[i]);
        }
        status = pln_program_call(L, line->argc, 1);
    }
    if (pln_program_report(L, status) != LUA_OK) {
        return EXIT_FAILURE;
    }
    if (lua_type(L, -1) == LUA_TSTRING) { /* "prompt": not from within, where it could be traced */
        return pln_program_interact(L, line->argc, line->argv);
    }
    return (int) lua_tointeger(L, -1);
}

static bool wants_help(const struct command_line *line) {
    return line->argc > 2 && strcmp(line->argv[2], "--help") == 0;
}

/* stack: command line (light) -> exit code */
static int run_protected(lua_State *L) {
    const struct command_line *line = lua_touserdata(L, 1);
    int code;
    lua_settop(L, 0);
    if (line->argc < 2) {
        code = pln_program_run(L, line->argc, line->argv, 1);
    } else if (strcmp(line->argv[1], "run") == 0 && !wants_help(line)) {
        code = pln_program_run(L, line->argc, line->argv, 2);
    } else {
        code = run_command(L, line);
    }
    lua_pushinteger(L, code);
    return 1;
}

int main(int argc, char **argv) {
    struct command_line line = {argc, argv};
    lua_State *L = luaL_newstate();
    if (L == NULL) {
        fputs("perilune: no memory for a Lua state\n", stderr);
        return EXIT_FAILURE;
    }
    lua_pushcfunction(L, run_protected);
    lua_pushlightuserdata(L, &line);
    int code = EXIT_FAILURE;
    if (pln_program_report(L, lua_pcall(L, 1, 1, 0)) == LUA_OK) {
        code = (int) lua_tointeger(L, -1);
    }
    lua_close(L);
    return code;
}
