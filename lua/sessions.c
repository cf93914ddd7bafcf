/* SPDX-License-Identifier: MIT
 *
 * sessions.c - sessions in Lua: cache:sessions { ttl = } gives an object that makes and finds them.
 *
 * What the core hands out is borrowed, and Lua may raise wherever it needs memory. So values are
 * made Lua's in a protected call, and a list is first noted in a block that Lua owns.
 */
#include "module.h"

#include <math.h>

static const char class[] = "perilune.sessions";

struct lua_sessions {
    struct pln_session_options options;
};

/* The cache that the sessions at 1 are in; raises where it was closed. */
static struct pln_lua_cache *cache_of(lua_State *L) {
    lua_getiuservalue(L, 1, 1);
    struct pln_lua_cache *cache = pln_lua_opened(L, -1);
    lua_pop(L, 1); /* the user value keeps it */
    return cache;
}

static const struct pln_session_options *to_options(lua_State *L) {
    const struct lua_sessions *self = luaL_checkudata(L, 1, class);
    return &self->options;
}

static struct pln_bytes to_text(lua_State *L, int index) {
    struct pln_bytes text;
    text.data = luaL_checklstring(L, index, &text.len);
    return text;
}

/* Makes bytes of the data at `index`; they lie on top of the stack. */
static struct pln_bytes encode(lua_State *L, int index, uint8_t *format) {
    struct pln_bytes data = {"", 0};
    if (pln_lua_encode(L, index, &data, format) < 0) {
        luaL_argerror(L, index, pln_error_text());
    }
    return data;
}

/* create(user | nil [, data]) -> id */
static int sessions_create(lua_State *L) {
    const struct pln_session_options *options = to_options(L);
    char id[PLN_SESSION_ID];
    uint8_t format;
    lua_settop(L, 3);
    struct pln_bytes user = lua_isnil(L, 2) ? pln_key("") : pln_lua_check_key(L, 2);
    struct pln_bytes data = encode(L, 3, &format);
    int status = pln_session_create(cache_of(L)->cache, options, user, data, format, id);
    if (status != PLN_OK) {
        return pln_lua_push_status(L, status);
    }
    lua_pushstring(L, id);
    return 1;
}

/* ---- one ---- */

static void set_seconds(lua_State *L, const char *name, pln_ms time) {
    lua_pushnumber(L, time == PLN_FOREVER ? HUGE_VAL : (lua_Number) time / 1000);
    lua_setfield(L, -2, name);
}

/* Pushes { id =, age =, idle =, left = }. */
static void push_info(lua_State *L, const struct pln_session *session) {
    lua_createtable(L, 0, 5);
    lua_pushstring(L, session->id);
    lua_setfield(L, -2, "id");
    set_seconds(L, "age", session->created_ms);
    set_seconds(L, "idle", session->seen_ms);
    set_seconds(L, "left", session->left_ms);
}

/* stack: a light pointer to the session */
static int push_session(lua_State *L) {
    const struct pln_session *session = lua_touserdata(L, 1);
    struct pln_bytes data = {pln_value_data(session->data), pln_value_len(session->data)};
    int status = pln_lua_decode(L, data, session->format);
    if (status < 0) {
        return pln_lua_push_failure(L, status);
    }
    lua_pushnil(L);
    push_info(L, session);
    if (pln_value_len(session->user) > 0) {
        lua_pushlstring(L, pln_value_data(session->user), pln_value_len(session->user));
        lua_setfield(L, -2, "user");
    }
    return 3;
}

static int get(lua_State *L, struct pln_session *session) {
    const struct pln_session_options *options = to_options(L);
    struct pln_bytes id = to_text(L, 2);
    return pln_session_get(cache_of(L)->cache, options, id, session);
}

/* get(id) -> data, nil, { user =, id =, age =, idle =, left = } | nil, nil, "miss" | nil, message,
 * code */
static int sessions_get(lua_State *L) {
    struct pln_session session;
    luaL_checkstack(L, 8, "session");
    int status = get(L, &session);
    if (status != PLN_OK) {
        return pln_lua_push_status(L, status);
    }
    struct pln_lua_cache *cache = cache_of(L);
    cache->n_running++; /* a finalizer that runs meanwhile must not close the cache */
    lua_settop(L, 2);
    lua_pushcfunction(L, push_session);
    lua_pushlightuserdata(L, &session);
    int raised = lua_pcall(L, 1, 3, 0);
    cache->n_running--;
    pln_release(cache->cache, session.user);
    pln_release(cache->cache, session.data);
    return raised != LUA_OK ? lua_error(L) : 3;
}

/* touch(id) -> true | nil, nil, "miss" | nil, message, code */
static int sessions_touch(lua_State *L) {
    struct pln_session session;
    int status = get(L, &session);
    if (status == PLN_OK) {
        struct pln_cache *cache = cache_of(L)->cache;
        pln_release(cache, session.user);
        pln_release(cache, session.data);
    }
    return pln_lua_push_status(L, status);
}

/* update(id, data) -> true | nil, nil, "miss" | nil, message, code */
static int sessions_update(lua_State *L) {
    uint8_t format;
    to_options(L);
    lua_settop(L, 3);
    struct pln_bytes id = to_text(L, 2), data = encode(L, 3, &format);
    return pln_lua_push_status(L, pln_session_update(cache_of(L)->cache, id, data, format));
}

/* destroy(id) -> true | nil, nil, "miss" | nil, message, code */
static int sessions_destroy(lua_State *L) {
    to_options(L);
    struct pln_bytes id = to_text(L, 2);
    return pln_lua_push_status(L, pln_session_destroy(cache_of(L)->cache, id));
}

/* ---- all of a user ---- */

enum { FIRST_ROOM = 16 };

struct noted {
    size_t n, room;
    struct pln_session *sessions;
};

static bool note(void *arg, const struct pln_session *session) {
    struct noted *noted = arg;
    if (noted->n < noted->room) {
        noted->sessions[noted->n] = *session;
    }
    return ++noted->n <= noted->room;
}

/* of(user) -> a list of { id =, age =, idle =, left = } | nil, message, code */
static int sessions_of(lua_State *L) {
    struct noted noted = {.n = FIRST_ROOM};
    to_options(L);
    struct pln_bytes user = pln_lua_check_key(L, 2);
    do { /* anew with more room, where there was too little */
        noted.room = noted.n * 2;
        noted.n = 0;
        lua_settop(L, 2);
        noted.sessions = lua_newuserdatauv(L, noted.room * sizeof *noted.sessions, 0);
        int status = pln_session_of(cache_of(L)->cache, user, note, &noted);
        if (status != PLN_OK) {
            return pln_lua_push_status(L, status);
        }
    } while (noted.n > noted.room);
    lua_createtable(L, (int) noted.n, 0);
    for (size_t i = 0; i < noted.n; i++) {
        push_info(L, &noted.sessions[i]);
        lua_rawseti(L, -2, (lua_Integer) i + 1);
    }
    return 1;
}

/* destroy_all(user) -> how many were ended | nil, message, code */
static int sessions_destroy_all(lua_State *L) {
    size_t n;
    to_options(L);
    struct pln_bytes user = pln_lua_check_key(L, 2);
    int status = pln_session_destroy_all(cache_of(L)->cache, user, &n);
    if (status != PLN_OK) {
        return pln_lua_push_status(L, status);
    }
    lua_pushinteger(L, (lua_Integer) n);
    return 1;
}

static const luaL_Reg methods[] = {{"create", sessions_create},
                                   {"get", sessions_get},
                                   {"touch", sessions_touch},
                                   {"update", sessions_update},
                                   {"destroy", sessions_destroy},
                                   {"of", sessions_of},
                                   {"destroy_all", sessions_destroy_all},
                                   {NULL, NULL}};

/* sessions([{ ttl =, sliding = }]) -> an object with the methods above */
static int cache_sessions(lua_State *L) {
    static const char *const names[] = {"ttl", "sliding", NULL};
    struct pln_session_options options = {0};
    pln_lua_opened(L, 1);
    lua_settop(L, 2);
    if (!lua_isnil(L, 2)) {
        luaL_checktype(L, 2, LUA_TTABLE);
        pln_lua_check_names(L, 2, names);
    }
    options.ttl_ms = pln_lua_given_duration(L, 2, "ttl");
    options.is_fixed = !pln_lua_given_flag(L, 2, "sliding", true);
    struct lua_sessions *self = lua_newuserdatauv(L, sizeof *self, 1);
    self->options = options;
    lua_pushvalue(L, 1);
    lua_setiuservalue(L, -2, 1);
    pln_lua_set_class(L, class, NULL, methods);
    return 1;
}

const luaL_Reg pln_lua_sessions[] = {{"sessions", cache_sessions}, {NULL, NULL}};
