/* SPDX-License-Identifier: MIT
 *
 * answers.c - between Lua and Redis's commands: words out of Lua's values, Lua's values out of
 * answers.
 *
 * A word is a string, or a number as text from which the same number is read again. Booleans and
 * nil are refused: Redis has neither, and what is guessed for them is found in production.
 *
 * Lua may raise wherever it needs memory. So words are strings that a table owns; and an answer,
 * which is the core's memory, is only looked at in a protected call, and freed after it
 * (put_off.c).
 */
#include "put_off.h"

#include <math.h>
#include <stdio.h>

const char *const pln_lua_read_names[] = {"timeout", NULL};
const char *const pln_lua_write_names[] = {"ttl", "timeout", NULL};

/* ---- words ---- */

/* Takes the string on top of the stack as the next word. */
static void take_top(lua_State *L, struct pln_lua_words *words) {
    lua_rawseti(L, words->texts, ++words->n);
}

void pln_lua_words_begin(lua_State *L, struct pln_lua_words *words, const char *command) {
    lua_newtable(L);
    *words = (struct pln_lua_words){.texts = lua_gettop(L)};
    pln_lua_words_text(L, words, command);
}

void pln_lua_words_text(lua_State *L, struct pln_lua_words *words, const char *text) {
    lua_pushstring(L, text);
    take_top(L, words);
}

void pln_lua_words_integer(lua_State *L, struct pln_lua_words *words, lua_Integer number) {
    lua_pushfstring(L, "%I", (LUAI_UACINT) number);
    take_top(L, words);
}

/* The shortest text from which the same number is read; Redis takes "inf" as well. */
static void push_float(lua_State *L, lua_Number number) {
    char text[32];
    snprintf(text, sizeof text, "%.15g", number);
    if (strtod(text, NULL) != number) {
        snprintf(text, sizeof text, "%.17g", number);
    }
    lua_pushstring(L, text);
}

/* Takes the value on top of the stack, which argument `arg` has or is. */
static void take_value(lua_State *L, struct pln_lua_words *words, int arg) {
    int type = lua_type(L, -1);
    if (type != LUA_TSTRING && type != LUA_TNUMBER) {
        lua_pushfstring(L, "Redis takes strings and numbers, got a %s", luaL_typename(L, -1));
        luaL_argerror(L, arg, lua_tostring(L, -1));
    }
    if (lua_isinteger(L, -1)) {
        lua_tostring(L, -1); /* becomes a string in its place */
    } else if (type == LUA_TNUMBER) {
        luaL_argcheck(L, !isnan(lua_tonumber(L, -1)), arg, "nan is no number to Redis");
        push_float(L, lua_tonumber(L, -1));
        lua_replace(L, -2);
    }
    take_top(L, words);
}

void pln_lua_words_value(lua_State *L, struct pln_lua_words *words, int index) {
    lua_pushvalue(L, index);
    take_value(L, words, index);
}

void pln_lua_words_list(lua_State *L, struct pln_lua_words *words, int index) {
    if (!lua_istable(L, index)) {
        pln_lua_words_value(L, words, index);
        return;
    }
    pln_lua_bare(L, index);
    lua_Integer n = (lua_Integer) lua_rawlen(L, index);
    luaL_argcheck(L, n > 0, index, "the list is empty");
    for (lua_Integer i = 1; i <= n; i++) {
        lua_rawgeti(L, index, i);
        take_value(L, words, index);
    }
}

void pln_lua_words_pairs(lua_State *L, struct pln_lua_words *words, int index) {
    lua_Integer before = words->n;
    luaL_checktype(L, index, LUA_TTABLE);
    for (lua_pushnil(L); lua_next(L, index) != 0;) {
        lua_pushvalue(L, -2); /* lua_next wants its key as it was */
        take_value(L, words, index);
        take_value(L, words, index);
    }
    luaL_argcheck(L, words->n > before, index, "the table is empty");
}

const struct pln_bytes *pln_lua_words_end(lua_State *L, const struct pln_lua_words *words) {
    struct pln_bytes *block = lua_newuserdatauv(L, (size_t) words->n * sizeof *block, 0);
    for (lua_Integer i = 0; i < words->n; i++) {
        lua_rawgeti(L, words->texts, i + 1);
        block[i].data = lua_tolstring(L, -1, &block[i].len);
        lua_pop(L, 1); /* the table has it */
    }
    return block;
}

/* ---- answers ---- */

static void push_bytes(lua_State *L, const struct pln_answer *answer) {
    struct pln_bytes bytes = pln_answer_bytes(answer);
    lua_pushlstring(L, bytes.data, bytes.len);
}

/* A number from its text, so that a whole one is an integer whatever protocol it came by. */
static void push_number(lua_State *L, const struct pln_answer *answer) {
    const char *text = pln_answer_bytes(answer).data;
    if (lua_stringtonumber(L, text) == 0) { /* "inf" is no number to Lua */
        lua_pushnumber(L, strtod(text, NULL));
    }
}

/* Pushes one value. Lists within lists end where the reader of answers has its limit. */
static void push_any(lua_State *L, const struct pln_answer *answer) {
    luaL_checkstack(L, 4, "an answer with too many lists in lists");
    switch (pln_answer_kind(answer)) {
    case PLN_ANSWER_INTEGER:
        lua_pushinteger(L, (lua_Integer) pln_answer_integer(answer));
        break;
    case PLN_ANSWER_NUMBER:
        push_number(L, answer);
        break;
    case PLN_ANSWER_BOOLEAN:
        lua_pushboolean(L, pln_answer_integer(answer) != 0);
        break;
    case PLN_ANSWER_STRING:
        push_bytes(L, answer);
        break;
    case PLN_ANSWER_ERROR:
        lua_createtable(L, 0, 1);
        push_bytes(L, answer);
        lua_setfield(L, -2, "err");
        break;
    case PLN_ANSWER_ARRAY:
        lua_createtable(L, (int) pln_answer_len(answer), 0);
        for (size_t i = 0; i < pln_answer_len(answer); i++) {
            push_any(L, pln_answer_at(answer, i));
            lua_rawseti(L, -2, (lua_Integer) i + 1);
        }
        break;
    default:
        lua_pushboolean(L, 0); /* nil would be a hole in its list */
    }
}

int pln_lua_build_any(lua_State *L, const struct pln_answer *answer) {
    if (pln_answer_kind(answer) == PLN_ANSWER_NIL) {
        lua_pushnil(L);
        lua_pushnil(L);
        lua_pushstring(L, pln_status_name(PLN_MISS));
        return 3;
    }
    push_any(L, answer);
    return 1;
}

int pln_lua_build_done(lua_State *L, const struct pln_answer *answer) {
    (void) answer;
    lua_pushboolean(L, 1);
    return 1;
}

int pln_lua_build_whether(lua_State *L, const struct pln_answer *answer) {
    lua_pushboolean(L, pln_answer_integer(answer) == 1);
    return 1;
}

int pln_lua_build_number(lua_State *L, const struct pln_answer *answer) {
    if (pln_answer_kind(answer) != PLN_ANSWER_STRING) {
        return pln_lua_build_any(L, answer);
    }
    push_number(L, answer);
    return 1;
}

static int run_data(struct pln_cache *cache, struct pln_lua_call *call) {
    return pln_data(cache, call->first, call->list, call->n, &call->data, &call->answered);
}

static int run_command(struct pln_cache *cache, struct pln_lua_call *call) {
    return pln_command(cache, call->first.len == 0 ? NULL : &call->first, call->list, call->n,
                       call->data.timeout_ms, &call->answered);
}

static int push_built(lua_State *L, const struct pln_lua_call *call, int status) {
    return status == PLN_OK ? call->build(L, call->answered) : pln_lua_push_status(L, status);
}

int pln_lua_data_call(lua_State *L, int cache, int name, const struct pln_lua_words *words,
                      const struct pln_data_options *options, pln_lua_build build) {
    struct pln_lua_call call = {.run = run_data,
                                .push = push_built,
                                .first = pln_lua_check_key(L, name),
                                .list = pln_lua_words_end(L, words),
                                .n = (size_t) words->n,
                                .data = *options,
                                .build = build};
    return pln_lua_carry_out(L, cache, &call);
}

int pln_lua_command(lua_State *L, int cache, struct pln_bytes key,
                    const struct pln_lua_words *words, pln_ms timeout, pln_lua_build build) {
    struct pln_lua_call call = {.run = run_command,
                                .push = push_built,
                                .first = key,
                                .list = pln_lua_words_end(L, words),
                                .n = (size_t) words->n,
                                .data = {.timeout_ms = timeout},
                                .build = build};
    return pln_lua_carry_out(L, cache, &call);
}

void pln_lua_push_data_name(lua_State *L, int cache, int name) {
    size_t len = 0;
    struct pln_bytes bytes = pln_lua_check_key(L, name);
    size_t size = bytes.len + 1024; /* the namespace is shorter */
    char *buffer = lua_newuserdatauv(L, size, 0);
    struct pln_lua_cache *self = pln_lua_opened(L, cache);
    if (pln_data_name(self->cache, bytes, buffer, size, &len) != PLN_OK) {
        luaL_argerror(L, name, pln_error_text());
    }
    lua_pushlstring(L, buffer, len);
    lua_remove(L, -2);
}
