/* SPDX-License-Identifier: MIT
 *
 * calls.c - one call of a policy's function, inside of the script's protected call: what it is
 * given, and what of its results is believed. Results are read by raw access and checked whole
 * before anything is put into the load.
 */
#include "script.h"

#include <stdio.h>

const char *pln_call_name(unsigned hook) {
    return hook == PLN_RULE_LOAD        ? "load"
           : hook == PLN_RULE_TTL       ? "ttl"
           : hook == PLN_RULE_TAGS      ? "tags"
           : hook == PLN_RULE_STORE     ? "write"
           : hook == PLN_RULE_LOAD_MANY ? "load_many"
                                        : "related";
}

/* ---- what functions are given ---- */

static const char captures_key = 0; /* its address is the key in the registry */

static int refuse_write(lua_State *L) {
    return luaL_error(L, "the captures of a key cannot be changed");
}

/* A userdata, so that not even rawset gets at it; its __index is the table with the captures. */
static void make_captures(lua_State *L) {
    lua_newuserdatauv(L, 0, 0);
    lua_createtable(L, 0, 4);
    lua_createtable(L, 0, PLN_MAX_CAPTURES);
    lua_setfield(L, -2, "__index");
    lua_pushcfunction(L, refuse_write);
    lua_setfield(L, -2, "__newindex");
    lua_pushliteral(L, "captures");
    lua_setfield(L, -2, "__name");
    lua_pushboolean(L, false);
    lua_setfield(L, -2, "__metatable");
    lua_setmetatable(L, -2);
    lua_pushvalue(L, -1);
    lua_rawsetp(L, LUA_REGISTRYINDEX, &captures_key);
}

static void clear_table(lua_State *L) {
    lua_pushnil(L);
    while (lua_next(L, -2) != 0) {
        lua_pop(L, 1);
        lua_pushvalue(L, -1);
        lua_pushnil(L);
        lua_rawset(L, -4); /* clearing a field is allowed while walking */
    }
}

void pln_call_set_captures(lua_State *L, const struct pln_match *match) {
    for (unsigned i = 0; i < match->n_captures; i++) {
        lua_pushlstring(L, match->captures[i].len == 0 ? "" : match->captures[i].data,
                        match->captures[i].len);
        lua_setfield(L, -2, pln_template_name(match->rule->pattern, i));
    }
}

void pln_call_push_captures(lua_State *L, const struct pln_match *match) {
    if (lua_rawgetp(L, LUA_REGISTRYINDEX, &captures_key) == LUA_TNIL) {
        lua_pop(L, 1);
        make_captures(L);
    }
    luaL_getmetafield(L, -1, "__index");
    clear_table(L);
    pln_call_set_captures(L, match);
    lua_pop(L, 1);
}

/* Calls the function with key, captures and the value, which is the old one for load. */
static void call_function(lua_State *L, const struct pln_call *call, int n_results) {
    pln_compile_push_function(L, call->match->index, call->hook);
    if (call->hook == PLN_RULE_LOAD && lua_isnil(L, -1)) {
        pln_stores_load_one(L, call);
        return;
    }
    lua_pushlstring(L, call->key.data, call->key.len);
    pln_call_push_captures(L, call->match);
    if (call->hook == PLN_RULE_LOAD) {
        pln_same_push_old(L, call->load);
    } else if (pln_lua_decode(L, call->value, call->format) < 0) {
        luaL_error(L, "%s", pln_error_text());
    }
    lua_call(L, 3, n_results);
}

/* ---- what functions return ---- */

bool pln_call_to_ttl(lua_State *L, int index, pln_ms *ttl) {
    if (lua_type(L, index) == LUA_TNUMBER && lua_tonumber(L, index) <= 0) {
        *ttl = -1;
        return true;
    }
    if (!pln_lua_to_duration(L, index, ttl) || (*ttl > PLN_TEN_YEARS_MS && *ttl != PLN_FOREVER)) {
        return false;
    }
    *ttl = *ttl == 0 ? -1 : *ttl;
    return true;
}

const char pln_call_ttl_wanted[] = "a duration such as \"15m\", seconds or nil is wanted";

int pln_call_ttl(lua_State *L) {
    struct pln_call *call = lua_touserdata(L, 1);
    char got[80];
    pln_ms ttl;
    call_function(L, call, 1);
    if (lua_isnil(L, -1)) {
        return 0;
    }
    if (!pln_call_to_ttl(L, -1, &ttl)) {
        return luaL_error(L, "%s, got %s", pln_call_ttl_wanted,
                          pln_compile_got(L, -1, got, sizeof got));
    }
    pln_load_ttl(call->load, ttl);
    return 0;
}

struct pln_bytes pln_call_push_item(lua_State *L, int list, size_t i, size_t longest) {
    struct pln_bytes item = {NULL, 0};
    char got[80];
    lua_rawgeti(L, list, (lua_Integer) i);
    pln_compile_got(L, -1, got, sizeof got);
    item.data = lua_type(L, -1) == LUA_TSTRING || lua_isinteger(L, -1)
                    ? lua_tolstring(L, -1, &item.len)
                    : NULL;
    if (item.data == NULL || item.len == 0 || item.len > longest) {
        luaL_error(L, "[%d]: a text of 1 to %d bytes is wanted, got %s", (int) i, (int) longest,
                   got);
    }
    return item;
}

size_t pln_call_check_list(lua_State *L, int list, size_t longest) {
    char got[80];
    if (lua_isnil(L, list)) {
        return 0;
    }
    if (!lua_istable(L, list)) {
        luaL_error(L, "a list of texts or nil is wanted, got %s",
                   pln_compile_got(L, list, got, sizeof got));
    }
    size_t n = lua_rawlen(L, list);
    if (n > PLN_MAX_TAGS) {
        luaL_error(L, "at most %d are allowed, got %d", PLN_MAX_TAGS, (int) n);
    }
    for (size_t i = 1; i <= n; i++) {
        pln_call_push_item(L, list, i, longest);
        lua_pop(L, 1);
    }
    return n;
}

/* Adds a returned list to the load: all of it, or nothing where one item is wrong. */
int pln_call_list(lua_State *L) {
    struct pln_call *call = lua_touserdata(L, 1);
    bool is_tags = call->hook == PLN_RULE_TAGS;
    size_t longest = is_tags ? PLN_MAX_TAG : PLN_MAX_KEY;
    call_function(L, call, 1);
    int list = lua_gettop(L);
    size_t n = pln_call_check_list(L, list, longest);
    for (size_t i = 1; i <= n; i++) {
        struct pln_bytes item = pln_call_push_item(L, list, i, longest);
        int status = is_tags ? pln_load_tag(call->load, item) : pln_load_related(call->load, item);
        if (status < 0) {
            return luaL_error(L, "%s", pln_error_text());
        }
        lua_pop(L, 1);
    }
    return 0;
}

static void take_value(lua_State *L, int index, struct pln_call *call) {
    struct pln_bytes bytes;
    uint8_t format;
    if (pln_same_take(L, index, call->load)) {
        return;
    }
    const struct pln_terms *terms = &call->match->rule->terms;
    if (pln_lua_encode_as(L, index, terms->codec, terms->is_plain, &bytes, &format) < 0) {
        luaL_error(L, "%s", pln_error_text());
    }
    call->status = pln_load_value(call->load, bytes, format);
}

/* value or not_modified | nil | nil, error | value or nil, nil, ttl */
int pln_call_load(lua_State *L) {
    struct pln_call *call = lua_touserdata(L, 1);
    char got[80];
    pln_ms ttl;
    call_function(L, call, 3);
    int value = lua_gettop(L) - 2;
    if (lua_isnil(L, value) && !lua_isnil(L, value + 1)) {
        call->is_answer = true;
        luaL_tolstring(L, value + 1, NULL);
        return lua_error(L);
    }
    if (lua_isnil(L, value)) {
        call->status = PLN_ABSENT;
    } else {
        take_value(L, value, call);
    }
    if (!lua_isnil(L, value + 2)) {
        if (pln_call_to_ttl(L, value + 2, &ttl)) {
            pln_load_ttl(call->load, ttl);
            call->has_ttl = true;
        } else {
            snprintf(call->complaint, sizeof call->complaint, "third result: %s, got %s",
                     pln_call_ttl_wanted, pln_compile_got(L, value + 2, got, sizeof got));
        }
    }
    return 0;
}
