/* SPDX-License-Identifier: MIT
 *
 * scans.c - iterators over hashes, sets and sorted sets that are too large to be fetched at once.
 *
 *     for field, value in cache:hscan("cart:7", { match = "item:*" }) do ... end
 *
 * Redis's own scans: what is there all the time comes at least once, and may come twice; what is
 * added or removed meanwhile may come or not. An iterator has no way to return a failure that a
 * for loop would not take for the end, so it raises the message.
 */
#include "put_off.h"

/* Upvalues of an iterator. */
enum {
    CACHE = 1,
    NAME,
    WORDS,   /* the command, then what follows the cursor */
    TIMEOUT, /* in milliseconds */
    CURSOR,  /* a string; nil once all has been fetched */
    BATCH,   /* a list of what has been fetched */
    NEXT,    /* where in it */
    N_UPVALUES = NEXT,
};

/* [cursor, list] -> cursor or nil, list */
static int build_batch(lua_State *L, const struct pln_answer *answer) {
    struct pln_bytes cursor = pln_answer_bytes(pln_answer_at(answer, 0));
    const struct pln_answer *list = pln_answer_at(answer, 1);
    if (cursor.len == 1 && *(const char *) cursor.data == '0') {
        lua_pushnil(L);
    } else {
        lua_pushlstring(L, cursor.data, cursor.len);
    }
    pln_lua_build_any(L, list);
    return 2;
}

/* Fetches the next batch into the upvalues. The stack is the iterator's, and empty. */
static void fetch(lua_State *L) {
    struct pln_data_options options = {.timeout_ms = lua_tointeger(L, lua_upvalueindex(TIMEOUT))};
    struct pln_lua_words words;
    lua_pushvalue(L, lua_upvalueindex(CACHE));
    lua_pushvalue(L, lua_upvalueindex(NAME));
    lua_rawgeti(L, lua_upvalueindex(WORDS), 1);
    pln_lua_words_begin(L, &words, lua_tostring(L, 3));
    pln_lua_words_text(L, &words, lua_tostring(L, lua_upvalueindex(CURSOR)));
    for (lua_Integer i = 2; i <= (lua_Integer) lua_rawlen(L, lua_upvalueindex(WORDS)); i++) {
        lua_rawgeti(L, lua_upvalueindex(WORDS), i);
        lua_rawseti(L, words.texts, ++words.n);
    }
    if (pln_lua_data_call(L, 1, 2, &words, &options, build_batch) != 2) {
        luaL_error(L, "%s", lua_tostring(L, -2)); /* nil, message, code */
    }
    lua_replace(L, lua_upvalueindex(BATCH));
    lua_replace(L, lua_upvalueindex(CURSOR));
    lua_pushinteger(L, 1);
    lua_replace(L, lua_upvalueindex(NEXT));
    lua_settop(L, 0);
}

/* Pushes the next `n` of the batch, fetching while there are none; false at the end. */
static bool push_next(lua_State *L, int n) {
    lua_settop(L, 0);
    lua_Integer next = lua_tointeger(L, lua_upvalueindex(NEXT));
    while (next > (lua_Integer) lua_rawlen(L, lua_upvalueindex(BATCH))) {
        if (lua_isnil(L, lua_upvalueindex(CURSOR))) {
            return false;
        }
        fetch(L);
        next = 1;
    }
    for (int i = 0; i < n; i++) {
        lua_rawgeti(L, lua_upvalueindex(BATCH), next + i);
    }
    lua_pushinteger(L, next + n);
    lua_replace(L, lua_upvalueindex(NEXT));
    return true;
}

static int next_single(lua_State *L) {
    return push_next(L, 1) ? 1 : 0;
}

static int next_pair(lua_State *L) {
    return push_next(L, 2) ? 2 : 0;
}

/* The same; a score is a number. */
static int next_scored(lua_State *L) {
    if (!push_next(L, 2)) {
        return 0;
    }
    const char *text = lua_tostring(L, 2);
    if (lua_stringtonumber(L, text) == 0) { /* "inf" is no number to Lua */
        lua_pushnumber(L, strtod(text, NULL));
    }
    lua_replace(L, 2);
    return 2;
}

/* ---- a page, put off ---- */

/* [cursor, list] -> list, cursor or nil */
static int build_page(lua_State *L, const struct pln_answer *answer) {
    build_batch(L, answer);
    lua_insert(L, -2);
    return 2;
}

/* The same; scores are numbers. */
static int build_scored_page(lua_State *L, const struct pln_answer *answer) {
    const struct pln_answer *list = pln_answer_at(answer, 1);
    build_page(L, answer);
    for (size_t i = 1; i < pln_answer_len(list); i += 2) {
        pln_lua_build_number(L, pln_answer_at(list, i));
        lua_rawseti(L, -3, (lua_Integer) i + 1);
    }
    return 2;
}

/* ---- beginning ---- */

/* (name, [{match =, count =, timeout =}]) -> an iterator. Put off: (name, options, [cursor]) ->
 * a list, and the cursor of the next one, if any. */
static int scan(lua_State *L, const char *command, lua_CFunction next) {
    static const char *const names[] = {"match", "count", "timeout", NULL};
    struct pln_data_options options;
    struct pln_lua_words words;
    bool is_page = pln_lua_is_stand_in(L, 1);
    lua_settop(L, 4);
    pln_lua_opened(L, 1);
    pln_lua_check_key(L, 2);
    pln_lua_data_options(L, 3, names, &options);
    lua_Integer count = pln_lua_count_option(L, 3, "count");
    pln_lua_words_begin(L, &words, command);
    if (is_page) {
        pln_lua_words_text(L, &words, luaL_optstring(L, 4, "0"));
    }
    if (lua_istable(L, 3) && lua_getfield(L, 3, "match") != LUA_TNIL) {
        luaL_argcheck(L, lua_type(L, -1) == LUA_TSTRING, 3, "option 'match' must be a string");
        pln_lua_words_text(L, &words, "MATCH");
        pln_lua_words_value(L, &words, lua_gettop(L));
    }
    if (count > 0) {
        pln_lua_words_text(L, &words, "COUNT");
        pln_lua_words_integer(L, &words, count);
    }
    if (is_page) {
        return pln_lua_data_call(L, 1, 2, &words, &options,
                                 next == next_scored ? build_scored_page : build_page);
    }
    lua_pushvalue(L, 1);
    lua_pushvalue(L, 2);
    lua_pushvalue(L, words.texts);
    lua_pushinteger(L, (lua_Integer) options.timeout_ms);
    lua_pushliteral(L, "0");
    lua_newtable(L);
    lua_pushinteger(L, 1);
    lua_pushcclosure(L, next, N_UPVALUES);
    return 1;
}

static int cache_hscan(lua_State *L) {
    return scan(L, "HSCAN", next_pair);
}

static int cache_sscan(lua_State *L) {
    return scan(L, "SSCAN", next_single);
}

static int cache_zscan(lua_State *L) {
    return scan(L, "ZSCAN", next_scored);
}

const luaL_Reg pln_lua_scans[] = {
    {"hscan", cache_hscan},
    {"sscan", cache_sscan},
    {"zscan", cache_zscan},
    {NULL, NULL},
};
