/* SPDX-License-Identifier: MIT
 *
 * include.c - include "file.lua": a policy in several files.
 *
 * A path starts from the folder of the file that includes, and its name, in messages too, from the
 * folder of the policy. Only trusted policies reach out of that. The names are made of the words
 * that were written: what the folder holds (a link, say) is the business of whoever fills it. The
 * text is kept with the policy's, so that all states read the same.
 */
#include "script.h"

#include <stdio.h>

enum { LONGEST_PATH = PLN_SCRIPT_NAME };

/* ---- paths ---- */

/* Takes the last folder off a path; false where there is none to take. */
static bool go_up(char *path, size_t *len) {
    if (*len == 0 || (*len >= 2 && memcmp(path + *len - 2, "..", 2) == 0 &&
                      (*len == 2 || path[*len - 3] == '/'))) {
        return false;
    }
    while (*len > 0 && path[*len - 1] != '/') {
        --*len;
    }
    *len -= *len > 1; /* the slash, unless it is the root's */
    path[*len] = 0;
    return true;
}

static void append(char *path, size_t *len, const char *part, size_t part_len) {
    bool has_slash = *len == 0 || path[*len - 1] == '/';
    *len += (size_t) snprintf(path + *len, LONGEST_PATH + 1 - *len, "%s%.*s", has_slash ? "" : "/",
                              (int) part_len, part);
}

/* Adds what is written to what is there, "." and ".." carried out. */
static void walk(char *path, size_t *len, const char *written) {
    while (*written != 0) {
        size_t part = strcspn(written, "/");
        bool is_up = part == 2 && memcmp(written, "..", 2) == 0;
        bool is_here = part == 0 || (part == 1 && written[0] == '.');
        if (!is_here && (!is_up || !go_up(path, len))) {
            append(path, len, written, part);
        }
        written += part + (written[part] == '/');
    }
}

/* Makes the name of a file that another includes. */
static void make_name(lua_State *L, const char *includer, const char *written, char *name) {
    const char *slash = strrchr(includer, '/');
    size_t len = 0;
    if (strlen(includer) + strlen(written) + 1 > LONGEST_PATH) {
        pln_compile_refuse(L, "'%.40s...' is longer than %d bytes", written, LONGEST_PATH);
    }
    name[0] = 0;
    if (written[0] == '/') {
        append(name, &len, "/", 1);
    } else if (slash != NULL) {
        len = (size_t) snprintf(name, LONGEST_PATH + 1, "%.*s",
                                (int) (slash == includer ? 1 : slash - includer), includer);
    }
    walk(name, &len, written);
    bool is_outside = name[0] == '/' || strcmp(name, "..") == 0 || strncmp(name, "../", 3) == 0;
    if (is_outside && !pln_compile_of(L)->source->is_trusted) {
        pln_compile_refuse(L, "'%s' is outside the policy's folder", written);
    }
}

/* ---- reading ---- */

static void refuse_circle(lua_State *L, const struct pln_compiler *compiler, const char *name) {
    for (unsigned i = 0; i < compiler->n_reading; i++) {
        if (strcmp(compiler->reading[i], name) == 0) {
            pln_compile_refuse(L, "'%s' is being read: %s", name,
                               i + 1 == compiler->n_reading ? "it would include itself"
                                                            : "the files would include each other");
        }
    }
    if (compiler->n_reading == PLN_SCRIPT_DEPTH) {
        pln_compile_refuse(L, "files include each other %d deep at most", PLN_SCRIPT_DEPTH);
    }
}

int pln_compile_run(lua_State *L, const char *name, const struct pln_text *text) {
    struct pln_compiler *compiler = pln_compile_of(L);
    int top = lua_gettop(L);
    lua_pushfstring(L, "@%s", name);
    int status = luaL_loadbufferx(L, text->bytes, text->len, lua_tostring(L, -1), "t");
    if (status == LUA_OK) {
        assert(compiler->n_reading < PLN_SCRIPT_DEPTH);
        compiler->reading[compiler->n_reading++] = name;
        status = lua_pcall(L, 0, LUA_MULTRET, 0); /* to be back here, whatever happens */
        compiler->n_reading--;
    }
    if (status != LUA_OK) {
        return lua_error(L);
    }
    pln_compile_check_closed(L);
    return lua_gettop(L) - top - 1;
}

/* include "users.lua" -> what the file returns */
static int word_include(lua_State *L) {
    struct pln_compiler *compiler = pln_compile_of(L);
    const struct pln_included *included;
    char name[LONGEST_PATH + 1], got[80];
    pln_compile_check_closed(L);
    pln_compile_begin(compiler, "include", "");
    pln_compile_here(L);
    const char *written = pln_compile_text(L, 1);
    if (written == NULL || written[0] == 0) {
        pln_compile_refuse(L, "a path is wanted, as in include \"users.lua\", got %s",
                           pln_compile_got(L, 1, got, sizeof got));
    }
    make_name(L, compiler->statement.file, written, name);
    refuse_circle(L, compiler, name);
    if (pln_source_include(compiler->source, name, &included) < 0) {
        pln_compile_refuse(L, "%s", pln_error_text());
    }
    luaL_checkstack(L, LUA_MINSTACK, "include");
    return pln_compile_run(L, included->name, &included->text);
}

void pln_compile_open_include(lua_State *L) {
    lua_pushcfunction(L, word_include);
    lua_setfield(L, -2, "include");
}
