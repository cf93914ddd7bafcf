/* SPDX-License-Identifier: MIT
 *
 * boards.c - sorted sets of Redis as leaderboards.
 *
 *     local board = cache:board "game:42"
 *     board:add("ada", 1200)
 *     for _, entry in ipairs(board:top(10)) do print(entry.rank, entry.member, entry.score) end
 *
 * The highest score comes first, with rank 1. Members of one score have ranks of their own, in the
 * order that Redis has for them from the top: by their bytes, the greater first. A rank and what is
 * told with it are read in one step.
 */
#include "put_off.h"

static const char class_name[] = "perilune.board";

/* Where a method finds what it stands on, on its stack. */
struct board {
    int cache, name;
};

/* Fits the arguments to `n` beside the board, and pushes its cache and name. */
static struct board enter(lua_State *L, int n) {
    luaL_checkudata(L, 1, class_name);
    lua_settop(L, 1 + n);
    lua_getiuservalue(L, 1, 1);
    lua_getiuservalue(L, 1, 2);
    pln_lua_opened(L, 2 + n);
    return (struct board){.cache = 2 + n, .name = 3 + n};
}

/* ---- answers ---- */

/* member, score, member, score -> {{member =, score =, rank =}, ...} */
static void push_entries(lua_State *L, const struct pln_answer *list, lua_Integer first_rank) {
    size_t n = pln_answer_len(list) / 2;
    lua_createtable(L, (int) n, 0);
    for (size_t i = 0; i < n; i++) {
        lua_createtable(L, 0, 3);
        pln_lua_build_any(L, pln_answer_at(list, 2 * i));
        lua_setfield(L, -2, "member");
        pln_lua_build_number(L, pln_answer_at(list, 2 * i + 1));
        lua_setfield(L, -2, "score");
        lua_pushinteger(L, first_rank + (lua_Integer) i);
        lua_setfield(L, -2, "rank");
        lua_rawseti(L, -2, (lua_Integer) i + 1);
    }
}

static int build_top(lua_State *L, const struct pln_answer *answer) {
    push_entries(L, answer, 1);
    return 1;
}

/* {how many are before the first, members and scores} -> a list of entries */
static int build_around(lua_State *L, const struct pln_answer *answer) {
    if (pln_answer_kind(answer) == PLN_ANSWER_NIL) {
        return pln_lua_build_any(L, answer);
    }
    push_entries(L, pln_answer_at(answer, 1), pln_answer_integer(pln_answer_at(answer, 0)) + 1);
    return 1;
}

/* The same, of one entry -> rank, score */
static int build_rank(lua_State *L, const struct pln_answer *answer) {
    if (pln_answer_kind(answer) == PLN_ANSWER_NIL) {
        return pln_lua_build_any(L, answer);
    }
    lua_pushinteger(L, pln_answer_integer(pln_answer_at(answer, 0)) + 1);
    pln_lua_build_number(L, pln_answer_at(pln_answer_at(answer, 1), 1));
    return 2;
}

/* ---- methods ---- */

/* add(member, score, [options]) -> true */
static int board_add(lua_State *L) {
    struct pln_data_options options;
    struct pln_lua_words words;
    struct board board = enter(L, 3);
    luaL_checktype(L, 3, LUA_TNUMBER);
    pln_lua_data_options(L, 4, pln_lua_write_names, &options);
    pln_lua_words_begin(L, &words, "ZADD");
    pln_lua_words_value(L, &words, 3);
    pln_lua_words_value(L, &words, 2);
    return pln_lua_data_call(L, board.cache, board.name, &words, &options, pln_lua_build_done);
}

/* incr(member, [by = 1], [options]) -> the new score */
static int board_incr(lua_State *L) {
    struct pln_data_options options;
    struct pln_lua_words words;
    struct board board = enter(L, 3);
    if (lua_isnil(L, 3)) {
        lua_pushinteger(L, 1);
        lua_replace(L, 3);
    }
    luaL_checktype(L, 3, LUA_TNUMBER);
    pln_lua_data_options(L, 4, pln_lua_write_names, &options);
    pln_lua_words_begin(L, &words, "ZINCRBY");
    pln_lua_words_value(L, &words, 3);
    pln_lua_words_value(L, &words, 2);
    return pln_lua_data_call(L, board.cache, board.name, &words, &options, pln_lua_build_number);
}

/* remove(member or list, [options]) -> how many were there */
static int board_remove(lua_State *L) {
    struct pln_data_options options;
    struct pln_lua_words words;
    struct board board = enter(L, 2);
    pln_lua_data_options(L, 3, pln_lua_write_names, &options);
    pln_lua_words_begin(L, &words, "ZREM");
    pln_lua_words_list(L, &words, 2);
    return pln_lua_data_call(L, board.cache, board.name, &words, &options, pln_lua_build_any);
}

/* size([options]) */
static int board_size(lua_State *L) {
    struct pln_data_options options;
    struct pln_lua_words words;
    struct board board = enter(L, 1);
    pln_lua_data_options(L, 2, pln_lua_read_names, &options);
    pln_lua_words_begin(L, &words, "ZCARD");
    return pln_lua_data_call(L, board.cache, board.name, &words, &options, pln_lua_build_any);
}

/* top([n = 10], [options]) -> a list of {member =, score =, rank =} */
static int board_top(lua_State *L) {
    struct pln_data_options options;
    struct pln_lua_words words;
    struct board board = enter(L, 2);
    lua_Integer n = luaL_optinteger(L, 2, 10);
    luaL_argcheck(L, n > 0, 2, "n must be positive");
    pln_lua_data_options(L, 3, pln_lua_read_names, &options);
    pln_lua_words_begin(L, &words, "ZREVRANGE");
    pln_lua_words_integer(L, &words, 0);
    pln_lua_words_integer(L, &words, n - 1);
    pln_lua_words_text(L, &words, "WITHSCORES");
    return pln_lua_data_call(L, board.cache, board.name, &words, &options, build_top);
}

/* The member at stack index 2 with up to n before and after it. */
static int look_around(lua_State *L, struct board board, lua_Integer n,
                       const struct pln_data_options *options, pln_lua_build build) {
    static const char script[] =
        "local rank = redis.call('ZREVRANK', KEYS[1], ARGV[1])\n"
        "if not rank then return false end\n"
        "local first = math.max(0, rank - ARGV[2])\n"
        "return {first, redis.call('ZREVRANGE', KEYS[1], first, rank + ARGV[2], 'WITHSCORES')}\n";
    struct pln_lua_words words;
    pln_lua_words_begin(L, &words, "EVAL");
    pln_lua_words_text(L, &words, script);
    pln_lua_words_integer(L, &words, 1);
    pln_lua_push_data_name(L, board.cache, board.name);
    pln_lua_words_value(L, &words, lua_gettop(L));
    pln_lua_words_value(L, &words, 2);
    pln_lua_words_integer(L, &words, n);
    return pln_lua_command(L, board.cache, pln_key(""), &words, options->timeout_ms, build);
}

/* rank(member, [options]) -> rank, score */
static int board_rank(lua_State *L) {
    struct pln_data_options options;
    struct board board = enter(L, 2);
    pln_lua_data_options(L, 3, pln_lua_read_names, &options);
    return look_around(L, board, 0, &options, build_rank);
}

/* around(member, [n = 5], [options]) -> the same list as top's, of those next to a member */
static int board_around(lua_State *L) {
    struct pln_data_options options;
    struct board board = enter(L, 3);
    lua_Integer n = luaL_optinteger(L, 3, 5);
    luaL_argcheck(L, n >= 0 && n <= INT32_MAX, 3, "n must not be negative");
    pln_lua_data_options(L, 4, pln_lua_read_names, &options);
    return look_around(L, board, n, &options, build_around);
}

static int board_tostring(lua_State *L) {
    luaL_checkudata(L, 1, class_name);
    lua_getiuservalue(L, 1, 2);
    lua_pushfstring(L, "perilune.board: %s", lua_tostring(L, -1));
    return 1;
}

/* ---- the class ---- */

static int board_call_async(lua_State *L);

/* Those from the second on can be put off. */
static const luaL_Reg methods[] = {
    {"call_async", board_call_async},
    {"add", board_add},
    {"incr", board_incr},
    {"remove", board_remove},
    {"size", board_size},
    {"top", board_top},
    {"rank", board_rank},
    {"around", board_around},
    {NULL, NULL},
};

/* Pushes the boards' metatable. It is put into the registry once it is whole. */
static void push_class(lua_State *L) {
    if (luaL_getmetatable(L, class_name) != LUA_TNIL) {
        return;
    }
    lua_pop(L, 1);
    lua_newtable(L);
    luaL_newlib(L, methods);
    lua_setfield(L, -2, "__index");
    lua_pushcfunction(L, board_tostring);
    lua_setfield(L, -2, "__tostring");
    lua_pushstring(L, class_name);
    lua_setfield(L, -2, "__name");
    lua_pushboolean(L, 0);
    lua_setfield(L, -2, "__metatable");
    lua_pushvalue(L, -1);
    lua_setfield(L, LUA_REGISTRYINDEX, class_name);
}

/* Pushes a board of the cache and the name at these indices. */
static void push_board(lua_State *L, int cache, int name) {
    lua_newuserdatauv(L, 0, 2);
    lua_pushvalue(L, cache);
    lua_setiuservalue(L, -2, 1);
    lua_pushvalue(L, name);
    lua_setiuservalue(L, -2, 2);
    push_class(L);
    lua_setmetatable(L, -2);
}

/* call_async(method, ...) -> op | nil, message, code. The method is given a board of a stand-in. */
static int board_call_async(lua_State *L) {
    static const luaL_Reg *const lists[] = {methods + 1, NULL};
    int top = lua_gettop(L);
    luaL_checkudata(L, 1, class_name);
    lua_getiuservalue(L, 1, 2);
    lua_getiuservalue(L, 1, 1);
    const struct pln_lua_cache *stand_in = pln_lua_push_stand_in(L, -1);
    push_board(L, top + 3, top + 1);
    lua_replace(L, 1);
    lua_settop(L, top);
    return pln_lua_put_off_method(L, stand_in, NULL, lists);
}

/* board(name) -> a board; nothing is asked of Redis yet */
static int cache_board(lua_State *L) {
    pln_lua_opened(L, 1);
    pln_lua_check_key(L, 2);
    push_board(L, 1, 2);
    return 1;
}

const luaL_Reg pln_lua_boards[] = {
    {"board", cache_board},
    {NULL, NULL},
};
