/* SPDX-License-Identifier: MIT
 *
 * data.c - any command of Redis; and sets, lists and streams under the names that Redis has for
 * what is done with them.
 *
 *     cache:redis("SET", cache:name "lock", 1, "NX")
 *     cache:sadd("online", "ada", { ttl = "1h" })
 *
 * A structure's name is one of the cache's own: the namespace is put before it, and the policy's
 * rules say how long it lives. redis() takes names as they are; name() gives the whole one.
 *
 * Results are Redis's: numbers, strings, lists; nil, nil, "miss" where it has nothing. What failed
 * is nil, message, code.
 */
#include "module.h"

/* ---- any command ---- */

/* redis(command, word, ..., [{timeout =, key =}]) */
static int cache_redis(lua_State *L) {
    static const char *const names[] = {"timeout", "key", NULL};
    struct pln_data_options options = {0};
    struct pln_lua_words words;
    struct pln_bytes key = {NULL, 0};
    int last = lua_gettop(L);
    pln_lua_opened(L, 1);
    const char *command = luaL_checkstring(L, 2);
    luaL_checkstack(L, 10, "too many words");
    if (last > 2 && lua_istable(L, last)) {
        pln_lua_data_options(L, last, names, &options);
        if (lua_getfield(L, last, "key") != LUA_TNIL) { /* stays where it is until the end */
            luaL_argcheck(L, lua_type(L, -1) == LUA_TSTRING, last, "option 'key' must be a string");
            key = pln_lua_check_key(L, lua_gettop(L));
        }
        last--;
    }
    pln_lua_words_begin(L, &words, command);
    for (int i = 3; i <= last; i++) {
        pln_lua_words_value(L, &words, i);
    }
    return pln_lua_command(L, 1, key, &words, options.timeout_ms, pln_lua_build_any);
}

/* name(name) -> the name that a structure has in Redis */
static int cache_name(lua_State *L) {
    pln_lua_push_data_name(L, 1, 2);
    return 1;
}

/* drop(name, [options]) -> true, or nil, nil, "miss" where there was none */
static int build_dropped(lua_State *L, const struct pln_answer *answer) {
    return pln_answer_integer(answer) > 0 ? pln_lua_build_done(L, answer)
                                          : pln_lua_build_any(L, NULL);
}

static int cache_drop(lua_State *L) {
    struct pln_data_options options;
    struct pln_lua_words words;
    lua_settop(L, 3);
    pln_lua_data_options(L, 3, pln_lua_read_names, &options);
    pln_lua_words_begin(L, &words, "UNLINK");
    return pln_lua_data_call(L, 1, 2, &words, &options, build_dropped);
}

/* ---- what calls look like ---- */

/* (name, [options]) */
static int call_plain(lua_State *L, const char *command) {
    struct pln_data_options options;
    struct pln_lua_words words;
    lua_settop(L, 3);
    pln_lua_data_options(L, 3, pln_lua_read_names, &options);
    pln_lua_words_begin(L, &words, command);
    return pln_lua_data_call(L, 1, 2, &words, &options, pln_lua_build_any);
}

/* (name, value or list, [options]): a write */
static int call_with_list(lua_State *L, const char *command) {
    struct pln_data_options options;
    struct pln_lua_words words;
    lua_settop(L, 4);
    pln_lua_data_options(L, 4, pln_lua_write_names, &options);
    pln_lua_words_begin(L, &words, command);
    pln_lua_words_list(L, &words, 3);
    return pln_lua_data_call(L, 1, 2, &words, &options, pln_lua_build_any);
}

/* (name, first, last, [options]) */
static int call_with_range(lua_State *L, const char *command, const char *const *names,
                           pln_lua_build build) {
    struct pln_data_options options;
    struct pln_lua_words words;
    lua_settop(L, 5);
    lua_Integer first = luaL_checkinteger(L, 3), last = luaL_checkinteger(L, 4);
    pln_lua_data_options(L, 5, names, &options);
    pln_lua_words_begin(L, &words, command);
    pln_lua_words_integer(L, &words, first);
    pln_lua_words_integer(L, &words, last);
    return pln_lua_data_call(L, 1, 2, &words, &options, build);
}

/* (name, [{count =, ttl =, timeout =}]): takes one, or with a count a list */
static int call_taking(lua_State *L, const char *command) {
    static const char *const names[] = {"count", "ttl", "timeout", NULL};
    struct pln_data_options options;
    struct pln_lua_words words;
    lua_settop(L, 3);
    pln_lua_data_options(L, 3, names, &options);
    lua_Integer count = pln_lua_count_option(L, 3, "count");
    pln_lua_words_begin(L, &words, command);
    if (count > 0) {
        pln_lua_words_integer(L, &words, count);
    }
    return pln_lua_data_call(L, 1, 2, &words, &options, pln_lua_build_any);
}

/* ---- sets ---- */

static int cache_sadd(lua_State *L) {
    return call_with_list(L, "SADD");
}

static int cache_srem(lua_State *L) {
    return call_with_list(L, "SREM");
}

/* sismember(name, member, [options]) -> true or false */
static int cache_sismember(lua_State *L) {
    struct pln_data_options options;
    struct pln_lua_words words;
    lua_settop(L, 4);
    pln_lua_data_options(L, 4, pln_lua_read_names, &options);
    pln_lua_words_begin(L, &words, "SISMEMBER");
    pln_lua_words_value(L, &words, 3);
    return pln_lua_data_call(L, 1, 2, &words, &options, pln_lua_build_whether);
}

static int cache_smembers(lua_State *L) {
    return call_plain(L, "SMEMBERS");
}

static int cache_scard(lua_State *L) {
    return call_plain(L, "SCARD");
}

/* ---- lists ---- */

static int cache_lpush(lua_State *L) {
    return call_with_list(L, "LPUSH");
}

static int cache_rpush(lua_State *L) {
    return call_with_list(L, "RPUSH");
}

static int cache_lpop(lua_State *L) {
    return call_taking(L, "LPOP");
}

static int cache_rpop(lua_State *L) {
    return call_taking(L, "RPOP");
}

static int cache_lrange(lua_State *L) {
    return call_with_range(L, "LRANGE", pln_lua_read_names, pln_lua_build_any);
}

static int cache_ltrim(lua_State *L) {
    return call_with_range(L, "LTRIM", pln_lua_write_names, pln_lua_build_done);
}

static int cache_llen(lua_State *L) {
    return call_plain(L, "LLEN");
}

/* ---- streams ---- */

/* xadd(name, {field = value, ...}, [{maxlen =, ttl =, timeout =}]) -> the entry's id */
static int cache_xadd(lua_State *L) {
    static const char *const names[] = {"maxlen", "ttl", "timeout", NULL};
    struct pln_data_options options;
    struct pln_lua_words words;
    lua_settop(L, 4);
    pln_lua_data_options(L, 4, names, &options);
    lua_Integer most = pln_lua_count_option(L, 4, "maxlen");
    pln_lua_words_begin(L, &words, "XADD");
    if (most > 0) {
        pln_lua_words_text(L, &words, "MAXLEN");
        pln_lua_words_integer(L, &words, most);
    }
    pln_lua_words_text(L, &words, "*");
    pln_lua_words_pairs(L, &words, 3);
    return pln_lua_data_call(L, 1, 2, &words, &options, pln_lua_build_any);
}

/* Pushes an answer's i-th element. */
static void push_element(lua_State *L, const struct pln_answer *answer, size_t i) {
    struct pln_bytes bytes = pln_answer_bytes(pln_answer_at(answer, i));
    lua_pushlstring(L, bytes.data, bytes.len);
}

/* A list of {id =, fields = {field = value, ...}}. */
static int build_entries(lua_State *L, const struct pln_answer *answer) {
    lua_createtable(L, (int) pln_answer_len(answer), 0);
    for (size_t i = 0; i < pln_answer_len(answer); i++) {
        const struct pln_answer *entry = pln_answer_at(answer, i);
        const struct pln_answer *fields = pln_answer_at(entry, 1);
        lua_createtable(L, 0, 2);
        push_element(L, entry, 0);
        lua_setfield(L, -2, "id");
        lua_newtable(L);
        for (size_t k = 0; fields != NULL && k + 1 < pln_answer_len(fields); k += 2) {
            push_element(L, fields, k);
            push_element(L, fields, k + 1);
            lua_rawset(L, -3);
        }
        lua_setfield(L, -2, "fields");
        lua_rawseti(L, 1, (lua_Integer) i + 1);
    }
    return 1;
}

/* xrange(name, [from = "-"], [to = "+"], [{count =, timeout =}]) */
static int cache_xrange(lua_State *L) {
    static const char *const names[] = {"count", "timeout", NULL};
    struct pln_data_options options;
    struct pln_lua_words words;
    lua_settop(L, 5);
    pln_lua_data_options(L, 5, names, &options);
    lua_Integer count = pln_lua_count_option(L, 5, "count");
    pln_lua_words_begin(L, &words, "XRANGE");
    for (int i = 3; i <= 4; i++) {
        if (lua_isnil(L, i)) {
            pln_lua_words_text(L, &words, i == 3 ? "-" : "+");
        } else {
            pln_lua_words_value(L, &words, i);
        }
    }
    if (count > 0) {
        pln_lua_words_text(L, &words, "COUNT");
        pln_lua_words_integer(L, &words, count);
    }
    return pln_lua_data_call(L, 1, 2, &words, &options, build_entries);
}

static int cache_xlen(lua_State *L) {
    return call_plain(L, "XLEN");
}

static int cache_xdel(lua_State *L) {
    return call_with_list(L, "XDEL");
}

const luaL_Reg pln_lua_data[] = {
    {"redis", cache_redis},       {"name", cache_name},
    {"drop", cache_drop},         {"sadd", cache_sadd},
    {"srem", cache_srem},         {"sismember", cache_sismember},
    {"smembers", cache_smembers}, {"scard", cache_scard},
    {"lpush", cache_lpush},       {"rpush", cache_rpush},
    {"lpop", cache_lpop},         {"rpop", cache_rpop},
    {"lrange", cache_lrange},     {"ltrim", cache_ltrim},
    {"llen", cache_llen},         {"xadd", cache_xadd},
    {"xrange", cache_xrange},     {"xlen", cache_xlen},
    {"xdel", cache_xdel},         {NULL, NULL},
};
