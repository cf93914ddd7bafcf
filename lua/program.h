/* SPDX-License-Identifier: MIT
 *
 * program.h - the parts of the program perilune: main.c chooses the command, run.c is `perilune
 * run`, which stands in for lua, hangup.c what SIGHUP does to it, prompt.c and editor.c are its
 * prompt, and the scripts have all the other commands.
 */
#ifndef PLN_LUA_PROGRAM_H
#define PLN_LUA_PROGRAM_H

#include <lua.h>
#include <stdbool.h>
#include <stddef.h>

/* Exit codes that every command shares. */
enum { EXIT_USAGE = 2 };

/* The Lua module's opener: in the program it needs no file to be required from. */
int luaopen_perilune(lua_State *L);

/* The program's scripts, made into C at build time; one without a name ends them. */
struct pln_program_script {
    const char *name;
    const unsigned char *text;
    size_t len;
};
extern const struct pln_program_script pln_program_scripts[];

/* Opens the standard libraries and makes perilune ready to be required; os.exit() closes the state,
 * so that caches end in order. `is_closed_to_environment`: LUA_PATH and its like are not read. */
void pln_program_open(lua_State *L, bool is_closed_to_environment);

/* Calls the function below `n_arguments` values; on an error the message with a traceback takes
 * their place. Ctrl-C raises "interrupted!" in it. Returns a status of Lua's. */
int pln_program_call(lua_State *L, int n_arguments, int n_results);

/* Writes the error on top of the stack to standard error, where the status says there is one, and
 * pops it. Returns the status. */
int pln_program_report(lua_State *L, int status);

/* perilune run: argv[first] is the first argument after "run". Returns the exit code. */
int pln_program_run(lua_State *L, int argc, char **argv, int first);

/* Without a command: a prompt where standard input is a terminal, else the script on it. The state
 * is open; a cache may be there as a global. Returns the exit code. */
int pln_program_interact(lua_State *L, int argc, char **argv);

/* Reads lines, runs them and prints what they yield, to the end of standard input. `is_bare`: not
 * for a script that has run, so that perilune is at hand, and .help is told of. */
void pln_program_prompt(lua_State *L, bool is_bare);

/* ---- editor.c: lines from a terminal ---- */

struct pln_editor;

enum pln_line { PLN_LINE_READ, PLN_LINE_END, PLN_LINE_INTERRUPTED };

/* Pushes an editor, which is a userdata. Its history is that of the file, NULL: of none; it is kept
 * there when the editor is collected. Its user value is the function that completes a line:
 * complete(text before the cursor) -> text to add, or nil, text to show, or nil. */
struct pln_editor *pln_editor_push(lua_State *L, const char *history);
/* Reads a line, and pushes it, where it says so. The editor is at `index`. */
enum pln_line pln_editor_read(lua_State *L, int index, const char *prompt);

/* From here on SIGHUP has the policies of all caches read again. */
void pln_program_obey_hangups(void);

/* watch(given): perilune watch, with the options that the script has read: those of a cache in
 * given.open, by name; its own under their dashes. -> exit code, or nil and what is wrong. */
int pln_program_watch(lua_State *L);

/* What `perilune simulate` cannot do in Lua: simulate.c. */
int pln_program_trace(lua_State *L);
int pln_program_replay(lua_State *L);
int pln_program_size(lua_State *L);

/* True once Ctrl-C was pressed, where that is only noted. */
bool pln_program_is_interrupted(void);

#endif
