/* SPDX-License-Identifier: MIT
 *
 * sessions.c - sessions in Lua: cache:sessions { ttl = } gives an object that makes and finds them.
 *
 * What the core hands out is borrowed, and Lua may raise wherever it needs memory. So it is copied
 * first, into what the call keeps; and what is put off (put_off.h) is had in the same way.
 */
#include "put_off.h"

#include <math.h>

static const char class[] = "perilune.sessions";

struct lua_sessions {
    struct pln_session_options options;
};

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

/* Carries it out on the cache that the sessions at 1 are in. */
static int carry_out(lua_State *L, struct pln_lua_call *call) {
    lua_getiuservalue(L, 1, 1);
    return pln_lua_carry_out(L, lua_gettop(L), call);
}

static int run_create(struct pln_cache *cache, struct pln_lua_call *call) {
    return pln_session_create(cache, &call->of, call->first, call->value, call->format,
                              call->session.id);
}

static int push_id(lua_State *L, const struct pln_lua_call *call, int status) {
    if (status != PLN_OK) {
        return pln_lua_push_status(L, status);
    }
    lua_pushstring(L, call->session.id);
    return 1;
}

/* create(user | nil [, data]) -> id */
static int sessions_create(lua_State *L) {
    struct pln_lua_call call = {.run = run_create, .push = push_id, .of = *to_options(L)};
    lua_settop(L, 3);
    call.first = lua_isnil(L, 2) ? pln_key("") : pln_lua_check_key(L, 2);
    call.value = encode(L, 3, &call.format);
    return carry_out(L, &call);
}

/* ---- one ---- */

static void push_text(lua_State *L, struct pln_bytes text) {
    lua_pushlstring(L, text.data, text.len);
}

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

/* Keeps the user and the data, in turn, in one block. */
static int keep_values(struct pln_lua_call *call) {
    const struct pln_session *session = &call->session;
    size_t n_user = pln_value_len(session->user), n_data = pln_value_len(session->data);
    char *held = malloc(n_user + n_data + 1);
    if (held == NULL) {
        return pln_fail(PLN_ENOMEM, "session: no memory for %zu bytes", n_user + n_data);
    }
    if (n_user > 0) {
        memcpy(held, pln_value_data(session->user), n_user);
    }
    if (n_data > 0) {
        memcpy(held + n_user, pln_value_data(session->data), n_data);
    }
    call->held = held;
    call->first = pln_bytes_of(held, n_user);
    call->value = pln_bytes_of(held + n_user, n_data);
    return PLN_OK;
}

static int run_get(struct pln_cache *cache, struct pln_lua_call *call) {
    int status = pln_session_get(cache, &call->of, call->first, &call->session);
    if (status == PLN_OK) {
        status = call->push == NULL ? PLN_OK : keep_values(call);
        pln_release(cache, call->session.user);
        pln_release(cache, call->session.data);
    }
    return status;
}

static int push_session(lua_State *L, const struct pln_lua_call *call, int status) {
    if (status != PLN_OK) {
        return pln_lua_push_status(L, status);
    }
    status = pln_lua_decode(L, call->value, call->session.format);
    if (status < 0) {
        return pln_lua_push_failure(L, status);
    }
    lua_pushnil(L);
    push_info(L, &call->session);
    if (call->first.len > 0) {
        push_text(L, call->first);
        lua_setfield(L, -2, "user");
    }
    return 3;
}

/* get(id) -> data, nil, { user =, id =, age =, idle =, left = } | nil, nil, "miss" | nil, message,
 * code */
static int sessions_get(lua_State *L) {
    struct pln_lua_call call = {.run = run_get, .push = push_session, .of = *to_options(L)};
    call.first = to_text(L, 2);
    return carry_out(L, &call);
}

/* touch(id) -> true | nil, nil, "miss" | nil, message, code */
static int sessions_touch(lua_State *L) {
    struct pln_lua_call call = {.run = run_get, .of = *to_options(L)};
    call.first = to_text(L, 2);
    return carry_out(L, &call);
}

static int run_update(struct pln_cache *cache, struct pln_lua_call *call) {
    return pln_session_update(cache, call->first, call->value, call->format);
}

/* update(id, data) -> true | nil, nil, "miss" | nil, message, code */
static int sessions_update(lua_State *L) {
    struct pln_lua_call call = {.run = run_update};
    to_options(L);
    lua_settop(L, 3);
    call.first = to_text(L, 2);
    call.value = encode(L, 3, &call.format);
    return carry_out(L, &call);
}

static int run_destroy(struct pln_cache *cache, struct pln_lua_call *call) {
    return pln_session_destroy(cache, call->first);
}

/* destroy(id) -> true | nil, nil, "miss" | nil, message, code */
static int sessions_destroy(lua_State *L) {
    struct pln_lua_call call = {.run = run_destroy};
    to_options(L);
    call.first = to_text(L, 2);
    return carry_out(L, &call);
}

/* ---- all of a user ---- */

struct noted {
    struct pln_session *sessions;
    size_t n, room;
    bool is_full; /* no memory for another */
};

static bool note(void *arg, const struct pln_session *session) {
    enum { FIRST_ROOM = 16 };
    struct noted *noted = arg;
    if (noted->n == noted->room) {
        size_t room = noted->room == 0 ? FIRST_ROOM : 2 * noted->room;
        void *moved = realloc(noted->sessions, room * sizeof *session);
        if (moved == NULL) {
            noted->is_full = true;
            return false;
        }
        noted->sessions = moved;
        noted->room = room;
    }
    noted->sessions[noted->n++] = *session;
    return true;
}

static int run_of(struct pln_cache *cache, struct pln_lua_call *call) {
    struct noted noted = {0};
    int status = pln_session_of(cache, call->first, note, &noted);
    if (status == PLN_OK && noted.is_full) {
        status = pln_fail(PLN_ENOMEM, "sessions: no memory for more than %zu", noted.n);
    }
    if (status != PLN_OK) {
        free(noted.sessions);
        return status;
    }
    call->held = noted.sessions;
    call->n_held = noted.n;
    return PLN_OK;
}

static int push_all(lua_State *L, const struct pln_lua_call *call, int status) {
    const struct pln_session *sessions = call->held;
    if (status != PLN_OK) {
        return pln_lua_push_status(L, status);
    }
    lua_createtable(L, (int) call->n_held, 0);
    for (size_t i = 0; i < call->n_held; i++) {
        push_info(L, &sessions[i]);
        lua_rawseti(L, -2, (lua_Integer) i + 1);
    }
    return 1;
}

/* of(user) -> a list of { id =, age =, idle =, left = } | nil, message, code */
static int sessions_of(lua_State *L) {
    struct pln_lua_call call = {.run = run_of, .push = push_all};
    to_options(L);
    call.first = pln_lua_check_key(L, 2);
    return carry_out(L, &call);
}

static int run_destroy_all(struct pln_cache *cache, struct pln_lua_call *call) {
    return pln_session_destroy_all(cache, call->first, &call->n_held);
}

static int push_number(lua_State *L, const struct pln_lua_call *call, int status) {
    if (status != PLN_OK) {
        return pln_lua_push_status(L, status);
    }
    lua_pushinteger(L, (lua_Integer) call->n_held);
    return 1;
}

/* destroy_all(user) -> how many were ended | nil, message, code */
static int sessions_destroy_all(lua_State *L) {
    struct pln_lua_call call = {.run = run_destroy_all, .push = push_number};
    to_options(L);
    call.first = pln_lua_check_key(L, 2);
    return carry_out(L, &call);
}

/* ---- the class ---- */

static int sessions_call_async(lua_State *L);

/* Those from the second on can be put off. */
static const luaL_Reg methods[] = {{"call_async", sessions_call_async},
                                   {"create", sessions_create},
                                   {"get", sessions_get},
                                   {"touch", sessions_touch},
                                   {"update", sessions_update},
                                   {"destroy", sessions_destroy},
                                   {"of", sessions_of},
                                   {"destroy_all", sessions_destroy_all},
                                   {NULL, NULL}};

/* Pushes sessions of the cache at index `cache`. */
static void push_sessions(lua_State *L, int cache, const struct pln_session_options *options) {
    struct lua_sessions *self = lua_newuserdatauv(L, sizeof *self, 1);
    self->options = *options;
    lua_pushvalue(L, cache);
    lua_setiuservalue(L, -2, 1);
    pln_lua_set_class(L, class, NULL, methods);
}

/* call_async(method, ...) -> op | nil, message, code. The method is given sessions of a stand-in.
 */
static int sessions_call_async(lua_State *L) {
    static const luaL_Reg *const lists[] = {methods + 1, NULL};
    const struct pln_session_options *options = to_options(L);
    int top = lua_gettop(L);
    lua_getiuservalue(L, 1, 1);
    const struct pln_lua_cache *stand_in = pln_lua_push_stand_in(L, -1);
    push_sessions(L, top + 2, options);
    lua_replace(L, 1);
    lua_settop(L, top);
    return pln_lua_put_off_method(L, stand_in, NULL, lists);
}

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
    push_sessions(L, 1, &options);
    return 1;
}

const luaL_Reg pln_lua_sessions[] = {{"sessions", cache_sessions}, {NULL, NULL}};
