/* SPDX-License-Identifier: MIT
 *
 * editor.c - lines from a terminal: edited, completed and remembered by libedit, where the program
 * was built with it; else, and where standard input or output is no terminal, as they come.
 *
 * Ctrl-C while a line is typed throws that line away. It comes as a signal that breaks off the
 * read; its handler does nothing, and stays when nothing is read or run, so that nobody who presses
 * the keys once too often loses all.
 *
 * The history is a file that other prompts write too: the last to end has it. What cannot be read
 * or written is not remembered. A line that begins with a blank is not, nor one with a password in
 * a URL.
 */
#include "program.h"

#include <errno.h>
#include <lauxlib.h>
#include <limits.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>
#include <wchar.h>

#ifdef PLN_HAVE_LIBEDIT
#include <histedit.h>
#include <locale.h>
#else
typedef struct history History;
typedef struct editline EditLine;
#endif

enum { LINE_SIZE = 4096, MAX_HISTORY = 1000 };

struct pln_editor {
    EditLine *line; /* NULL: lines as they come */
    History *history;
    lua_State *L; /* while a line is read */
    int index;    /* of the editor in it */
    const char *prompt;
    char path[PATH_MAX]; /* of the history; empty: none */
};

/* ---- interruptions ---- */

static volatile sig_atomic_t is_interrupted; /* a handler can tell in no other way */

static void note_interrupt(int signal_number) {
    (void) signal_number;
    is_interrupted = 1;
}

/* So that a read ends with EINTR. */
static void catch_interrupt(struct sigaction *before) {
    struct sigaction now = {.sa_handler = note_interrupt}; /* without SA_RESTART */
    sigemptyset(&now.sa_mask);
    is_interrupted = 0;
    sigaction(SIGINT, &now, before);
}

/* ---- lines as they come ---- */

/* Pushes a line of any length. */
static enum pln_line read_plain(lua_State *L, const char *prompt) {
    char line[LINE_SIZE];
    luaL_Buffer buffer;
    fputs(prompt, stdout);
    fflush(stdout);
    luaL_buffinit(L, &buffer);
    while (fgets(line, sizeof line, stdin) != NULL) {
        size_t len = strcspn(line, "\n");
        luaL_addlstring(&buffer, line, len);
        if (line[len] == '\n') {
            luaL_pushresult(&buffer);
            return PLN_LINE_READ;
        }
    }
    clearerr(stdin);
    luaL_pushresult(&buffer);
    if (!is_interrupted && lua_rawlen(L, -1) > 0) {
        return PLN_LINE_READ; /* the last one, without its end */
    }
    lua_pop(L, 1);
    return is_interrupted ? PLN_LINE_INTERRUPTED : PLN_LINE_END;
}

#ifdef PLN_HAVE_LIBEDIT

/* ---- history ---- */

/* Makes the folders that the path names. */
static void make_folders(const char *path) {
    char folder[PATH_MAX];
    for (const char *slash = strchr(path + 1, '/'); slash != NULL; slash = strchr(slash + 1, '/')) {
        snprintf(folder, sizeof folder, "%.*s", (int) (slash - path), path);
        (void) mkdir(folder, 0700);
    }
}

static void begin_history(struct pln_editor *self) {
    HistEvent event;
    self->history = history_init();
    if (self->history == NULL) {
        return;
    }
    history(self->history, &event, H_SETSIZE, MAX_HISTORY);
    history(self->history, &event, H_SETUNIQUE, 1);
    if (self->path[0] != 0) {
        history(self->history, &event, H_LOAD, self->path);
    }
    el_set(self->line, EL_HIST, history, self->history);
}

static bool is_secret(const char *line) {
    const char *url = strstr(line, "://");
    return line[0] == ' ' || (url != NULL && strchr(url, '@') != NULL);
}

static void remember(struct pln_editor *self, const char *line) {
    HistEvent event;
    if (self->history != NULL && line[strspn(line, " \t\n")] != 0 && !is_secret(line)) {
        history(self->history, &event, H_ENTER, line);
    }
}

static void end_history(struct pln_editor *self) {
    HistEvent event;
    if (self->history == NULL) {
        return;
    }
    if (self->path[0] != 0) {
        mode_t mask = umask(077);
        make_folders(self->path);
        history(self->history, &event, H_SAVE, self->path);
        umask(mask);
    }
    history_end(self->history);
}

/* ---- completion ---- */

struct completion {
    EditLine *line;
    unsigned char done;
};

/* stack: completion (light), complete. Inserts what may be added, or shows what there is. */
static int complete_protected(lua_State *L) {
    struct completion *completion = lua_touserdata(L, 1);
    const LineInfo *info = el_line(completion->line);
    lua_pushlstring(L, info->buffer, (size_t) (info->cursor - info->buffer));
    lua_call(L, 1, 2);
    const char *added = lua_tostring(L, -2), *shown = lua_tostring(L, -1);
    if (added != NULL && el_insertstr(completion->line, added) == 0) {
        completion->done = CC_REFRESH;
    } else if (shown != NULL) {
        printf("\n%s", shown);
        fflush(stdout);
        completion->done = CC_REDISPLAY;
    }
    return 0;
}

/* Called by libedit for a tabulator: no error of Lua's may leave it. */
static unsigned char complete(EditLine *line, int key) {
    struct pln_editor *self;
    struct completion completion = {line, CC_ERROR};
    (void) key;
    el_get(line, EL_CLIENTDATA, &self);
    lua_State *L = self->L;
    if (!lua_checkstack(L, 4)) {
        return CC_ERROR;
    }
    lua_pushcfunction(L, complete_protected);
    lua_pushlightuserdata(L, &completion);
    lua_getiuservalue(L, self->index, 1);
    if (lua_pcall(L, 2, 0, 0) != LUA_OK) {
        lua_pop(L, 1);
    }
    return completion.done;
}

/* ---- editing ---- */

/* A letter, for libedit. Its own function would miss a Ctrl-C that comes just before it reads: here
 * the signal is let through while it waits, and at no other time. */
static int read_letter(EditLine *line, wchar_t *letter) {
    struct pollfd input = {STDIN_FILENO, POLLIN, 0};
    mbstate_t state = {0};
    sigset_t none;
    (void) line;
    sigemptyset(&none);
    for (;;) {
        char byte;
        if (ppoll(&input, 1, NULL, &none) < 0) {
            if (errno == EINTR && !is_interrupted) {
                continue; /* another signal */
            }
            return -1;
        }
        ssize_t n = read(STDIN_FILENO, &byte, 1);
        if (n <= 0) {
            return (int) n;
        }
        size_t len = mbrtowc(letter, &byte, 1, &state);
        if (len == (size_t) -2) {
            continue;
        }
        if (len == (size_t) -1) {
            *letter = (unsigned char) byte; /* no letter in this locale: as it is */
        }
        return 1;
    }
}

static char *give_prompt(EditLine *line) {
    struct pln_editor *self;
    el_get(line, EL_CLIENTDATA, &self);
    return (char *) (uintptr_t) self->prompt; /* which libedit only reads */
}

static void begin_editing(struct pln_editor *self) {
    if (!isatty(STDIN_FILENO) || !isatty(STDOUT_FILENO)) {
        return;
    }
    setlocale(LC_CTYPE, ""); /* or libedit takes the bytes of a letter for letters */
    self->line = el_init("perilune", stdin, stdout, stderr);
    if (self->line == NULL) {
        return;
    }
    el_set(self->line, EL_CLIENTDATA, self);
    el_set(self->line, EL_PROMPT, give_prompt);
    el_set(self->line, EL_EDITOR, "emacs");
    el_set(self->line, EL_GETCFN, read_letter);
    /* wide: of other texts it would make copies, and never free them */
    el_wset(self->line, EL_ADDFN, L"perilune-complete", L"completes a name", complete);
    el_set(self->line, EL_BIND, "\t", "perilune-complete", NULL);
    begin_history(self);
    el_source(self->line, NULL); /* ~/.editrc */
}

/* Pushes a line. The editor's userdata is at self->index. */
static enum pln_line read_edited(lua_State *L, struct pln_editor *self) {
    int len = 0;
    sigset_t interrupt, before;
    sigemptyset(&interrupt);
    sigaddset(&interrupt, SIGINT);
    fflush(stdout);
    el_resize(self->line);
    pthread_sigmask(SIG_BLOCK, &interrupt, &before);
    const char *line = el_gets(self->line, &len);
    pthread_sigmask(SIG_SETMASK, &before, NULL);
    if (line == NULL && is_interrupted) {
        fputs("\n", stdout);
        el_reset(self->line);
        return PLN_LINE_INTERRUPTED;
    }
    if (line == NULL || len <= 0) {
        return PLN_LINE_END;
    }
    remember(self, line);
    lua_pushlstring(L, line, strcspn(line, "\n"));
    return PLN_LINE_READ;
}

static int editor_gc(lua_State *L) {
    struct pln_editor *self = lua_touserdata(L, 1);
    if (self->line != NULL) {
        end_history(self);
        el_end(self->line);
        self->line = NULL;
    }
    return 0;
}

#else

static void begin_editing(struct pln_editor *self) {
    (void) self;
}

static enum pln_line read_edited(lua_State *L, struct pln_editor *self) {
    return read_plain(L, self->prompt);
}

static int editor_gc(lua_State *L) {
    (void) L;
    return 0;
}

#endif

struct pln_editor *pln_editor_push(lua_State *L, const char *history_path) {
    struct pln_editor *self = lua_newuserdatauv(L, sizeof *self, 1);
    memset(self, 0, sizeof *self);
    if (history_path != NULL && strlen(history_path) < sizeof self->path) {
        memcpy(self->path, history_path, strlen(history_path) + 1);
    }
    signal(SIGINT, note_interrupt);
    lua_createtable(L, 0, 1);
    lua_pushcfunction(L, editor_gc);
    lua_setfield(L, -2, "__gc");
    lua_setmetatable(L, -2);
    begin_editing(self);
    return self;
}

enum pln_line pln_editor_read(lua_State *L, int index, const char *prompt) {
    struct pln_editor *self = lua_touserdata(L, index);
    struct sigaction before;
    self->L = L;
    self->index = lua_absindex(L, index);
    self->prompt = prompt;
    catch_interrupt(&before);
    enum pln_line line = self->line != NULL ? read_edited(L, self) : read_plain(L, prompt);
    sigaction(SIGINT, &before, NULL);
    return line;
}
