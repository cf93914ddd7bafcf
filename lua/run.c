/* SPDX-License-Identifier: MIT
 *
 * run.c - `perilune run`: what lua does, with perilune at hand. Options, the table `arg`, LUA_INIT
 * and the order in which things happen are those of Lua's own program (its manual,
 * section 7), so that a script need not know which of the two runs it. Differences: errors begin
 * with "perilune:", a wrong option exits with 2, and os.exit() closes the state.
 */
#include "program.h"

#include <lauxlib.h>
#include <lualib.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

/* What the options ask for. */
struct request {
    int script; /* index in argv; argc where there is none */
    bool wants_prompt, wants_version, has_chunk, ignores_environment;
};

/* ---- calls ---- */

/* The state that Ctrl-C interrupts; a signal handler can be told in no other way. */
static lua_State *interrupted_state;

static void raise_interrupted(lua_State *L, lua_Debug *debug) {
    (void) debug;
    lua_sethook(L, NULL, 0, 0);
    luaL_error(L, "interrupted!");
}

static void on_interrupt(int signal_number) {
    int events = LUA_MASKCALL | LUA_MASKRET | LUA_MASKLINE | LUA_MASKCOUNT;
    signal(signal_number, SIG_DFL); /* a second one ends the program */
    lua_sethook(interrupted_state, raise_interrupted, events, 1);
}

static int add_traceback(lua_State *L) {
    const char *message = lua_tostring(L, 1);
    if (message == NULL) {
        if (luaL_callmeta(L, 1, "__tostring") && lua_type(L, -1) == LUA_TSTRING) {
            return 1;
        }
        message = lua_pushfstring(L, "(error object is a %s value)", luaL_typename(L, 1));
    }
    luaL_traceback(L, L, message, 1);
    return 1;
}

int pln_program_call(lua_State *L, int n_arguments, int n_results) {
    int base = lua_gettop(L) - n_arguments;
    lua_pushcfunction(L, add_traceback);
    lua_insert(L, base);
    interrupted_state = L;
    void (*before)(int) = signal(SIGINT, on_interrupt);
    int status = lua_pcall(L, n_arguments, n_results, base);
    signal(SIGINT, before);
    lua_remove(L, base);
    return status;
}

int pln_program_report(lua_State *L, int status) {
    if (status != LUA_OK) {
        const char *message = lua_tostring(L, -1);
        fprintf(stderr, "perilune: %s\n", message == NULL ? "an error without a text" : message);
        lua_pop(L, 1);
    }
    return status;
}

static int call_chunk(lua_State *L, int load_status) {
    int status = load_status == LUA_OK ? pln_program_call(L, 0, 0) : load_status;
    return pln_program_report(L, status);
}

static int run_text(lua_State *L, const char *text, const char *name) {
    return call_chunk(L, luaL_loadbuffer(L, text, strlen(text), name));
}

/* ---- the state ---- */

/* os.exit([code, [close]]), with close true where it is not said */
static int exit_closed(lua_State *L) {
    lua_settop(L, 2);
    if (lua_isnil(L, 2)) {
        lua_pushboolean(L, 1);
        lua_replace(L, 2);
    }
    if (lua_isnil(L, 1)) {
        lua_pushboolean(L, 1);
        lua_replace(L, 1);
    }
    lua_pushvalue(L, lua_upvalueindex(1));
    lua_insert(L, 1);
    lua_call(L, 2, 0);
    return 0;
}

void pln_program_open(lua_State *L, bool is_closed_to_environment) {
    luaL_checkversion(L);
    if (is_closed_to_environment) {
        lua_pushboolean(L, 1);
        lua_setfield(L, LUA_REGISTRYINDEX, "LUA_NOENV");
    }
    luaL_openlibs(L);
    lua_gc(L, LUA_GCGEN, 0, 0); /* as lua's own program */
    luaL_getsubtable(L, LUA_REGISTRYINDEX, LUA_PRELOAD_TABLE);
    lua_pushcfunction(L, luaopen_perilune);
    lua_setfield(L, -2, "perilune");
    lua_getglobal(L, "os");
    lua_getfield(L, -1, "exit");
    lua_pushcclosure(L, exit_closed, 1);
    lua_setfield(L, -2, "exit");
    lua_pop(L, 2);
}

/* ---- options ---- */

static int refuse_option(const char *option) {
    fprintf(stderr,
            "perilune: run: unknown option '%s', or one that lacks its value\n"
            "usage: perilune run [-e chunk] [-l module] [-i] [-v] [-W] [-E] [--] "
            "[script.lua [arguments]]\n",
            option);
    return -1;
}

/* Reads the option argv[i]; returns how many arguments it takes, negative where it is wrong. */
static int read_option(char **argv, int argc, int i, struct request *request) {
    const char *option = argv[i];
    bool is_single = option[2] == 0;
    switch (option[1]) {
    case 'E':
        request->ignores_environment = true;
        return is_single ? 1 : refuse_option(option);
    case 'i':
        request->wants_prompt = true;
        request->wants_version = true;
        return is_single ? 1 : refuse_option(option);
    case 'v':
        request->wants_version = true;
        return is_single ? 1 : refuse_option(option);
    case 'W':
        return is_single ? 1 : refuse_option(option);
    case 'e':
        request->has_chunk = true; /* fall through */
    case 'l':
        if (is_single && (i + 1 >= argc || argv[i + 1][0] == '-')) {
            return refuse_option(option);
        }
        return is_single ? 2 : 1;
    default:
        return refuse_option(option);
    }
}

static bool read_request(int argc, char **argv, int first, struct request *request) {
    int i = first;
    while (i < argc && argv[i][0] == '-' && argv[i][1] != 0) {
        if (strcmp(argv[i], "--") == 0) {
            i++;
            break;
        }
        int taken = read_option(argv, argc, i, request);
        if (taken < 0) {
            return false;
        }
        i += taken;
    }
    request->script = i;
    return true;
}

/* `-l name` and `-l global=name` */
static int require_module(lua_State *L, const char *argument) {
    const char *equals = strchr(argument, '=');
    const char *name = equals == NULL ? argument : equals + 1;
    lua_getglobal(L, "require");
    lua_pushstring(L, name);
    int status = pln_program_call(L, 1, 1);
    if (status == LUA_OK) {
        lua_pushlstring(L, argument,
                        equals == NULL ? strlen(argument) : (size_t) (equals - argument));
        lua_insert(L, -2);
        lua_pushglobaltable(L);
        lua_insert(L, -3);
        lua_settable(L, -3);
        lua_pop(L, 1);
    }
    return pln_program_report(L, status);
}

/* Carries out -e, -l and -W, in their order. */
static int obey_options(lua_State *L, char **argv, int first, int end) {
    int status = LUA_OK;
    for (int i = first; i < end && status == LUA_OK; i++) {
        char letter = argv[i][1];
        if (letter == 'W') {
            lua_warning(L, "@on", 0);
        } else if (letter == 'e' || letter == 'l') {
            const char *argument = argv[i][2] != 0 ? argv[i] + 2 : argv[++i];
            status = letter == 'e' ? run_text(L, argument, "=(command line)")
                                   : require_module(L, argument);
        }
    }
    return status;
}

static int obey_environment(lua_State *L) {
    const char *name = "=LUA_INIT_5_4";
    const char *text = getenv(name + 1);
    if (text == NULL) {
        name = "=LUA_INIT";
        text = getenv(name + 1);
    }
    if (text == NULL) {
        return LUA_OK;
    }
    return text[0] == '@' ? call_chunk(L, luaL_loadfile(L, text + 1)) : run_text(L, text, name);
}

/* ---- the script ---- */

/* The script is arg[0]; what stands before it has negative indices. */
static void set_arg(lua_State *L, int argc, char **argv, int script) {
    int zero = script < argc ? script : 0;
    lua_createtable(L, argc - zero, zero + 1);
    for (int i = 0; i < argc; i++) {
        lua_pushstring(L, argv[i]);
        lua_rawseti(L, -2, i - zero);
    }
    lua_setglobal(L, "arg");
}

/* Pushes arg[1] and what follows, as the script sees them now. Returns how many. */
static int push_arguments(lua_State *L) {
    if (lua_getglobal(L, "arg") != LUA_TTABLE) {
        luaL_error(L, "'arg' is not a table");
    }
    int n = (int) luaL_len(L, -1);
    luaL_checkstack(L, n + 3, "too many arguments to the script");
    for (int i = 1; i <= n; i++) {
        lua_rawgeti(L, -i, i);
    }
    lua_remove(L, -n - 1);
    return n;
}

static int run_script(lua_State *L, char **argv, int script) {
    bool is_stdin = strcmp(argv[script], "-") == 0 && strcmp(argv[script - 1], "--") != 0;
    int status = luaL_loadfile(L, is_stdin ? NULL : argv[script]);
    if (status == LUA_OK) {
        int n = push_arguments(L);
        status = pln_program_call(L, n, 0);
    }
    return pln_program_report(L, status);
}

/* ---- all together ---- */

static void print_version(void) {
    printf("perilune %s, %s\n", PLN_VERSION, LUA_RELEASE);
    fflush(stdout);
}

/* A prompt on a terminal, else a script on standard input. */
static int run_stdin(lua_State *L) {
    if (!isatty(STDIN_FILENO)) {
        return call_chunk(L, luaL_loadfile(L, NULL)) == LUA_OK ? EXIT_SUCCESS : EXIT_FAILURE;
    }
    print_version();
    pln_program_prompt(L, true);
    return EXIT_SUCCESS;
}

/* What is left to do when the options are carried out. */
static int run_what_follows(lua_State *L, int argc, char **argv, const struct request *request) {
    bool has_script = request->script < argc;
    if (has_script && run_script(L, argv, request->script) != LUA_OK) {
        return EXIT_FAILURE;
    }
    if (request->wants_prompt) {
        pln_program_prompt(L, false);
    } else if (!has_script && !request->has_chunk && !request->wants_version) {
        return run_stdin(L);
    }
    return EXIT_SUCCESS;
}

int pln_program_interact(lua_State *L, int argc, char **argv) {
    pln_program_obey_hangups();
    set_arg(L, argc, argv, argc);
    return obey_environment(L) == LUA_OK ? run_stdin(L) : EXIT_FAILURE;
}

int pln_program_run(lua_State *L, int argc, char **argv, int first) {
    struct request request = {0};
    if (!read_request(argc, argv, first, &request)) {
        return EXIT_USAGE;
    }
    if (request.wants_version) {
        print_version();
    }
    pln_program_open(L, request.ignores_environment);
    pln_program_obey_hangups();
    set_arg(L, argc, argv, request.script);
    if (!request.ignores_environment && obey_environment(L) != LUA_OK) {
        return EXIT_FAILURE;
    }
    if (obey_options(L, argv, first, request.script) != LUA_OK) {
        return EXIT_FAILURE;
    }
    return run_what_follows(L, argc, argv, &request);
}
