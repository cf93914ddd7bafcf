/* SPDX-License-Identifier: MIT
 * texts.h - included first where a test in C is compiled for Lua 5.3: in the texts that it loads
 * `<close>` is blanked out, so that what it would close waits for the collector. */
#ifndef TEXTS_H
#define TEXTS_H

#include <lauxlib.h>
#include <stdlib.h>
#include <string.h>

static inline int load_text(lua_State *L, const char *text, size_t len, const char *name) {
    static const char word[] = "<close>";
    char *copy = malloc(len + 1), *at = copy;
    memcpy(copy, text, len);
    copy[len] = 0;
    while ((at = strstr(at, word)) != NULL) {
        memset(at, ' ', sizeof word - 1);
    }
    int status = luaL_loadbufferx(L, copy, len, name, NULL);
    free(copy);
    return status;
}
#undef luaL_loadbuffer
#define luaL_loadbuffer load_text
#define luaL_loadstring(L, text) load_text(L, text, strlen(text), text)

#endif
