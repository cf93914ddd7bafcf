/* SPDX-License-Identifier: MIT
 *
 * raise.c - cache.on with a function for its body: what an event makes void is asked for when the
 * event comes.
 *
 * It comes in any thread, and must not wait for a load that keeps a worker busy, so events have
 * scripts of their own. A few stay for the next event. They are taken and given back whole, by one
 * exchange and without a lock: a forked child finds none that is half in use. The answer is checked
 * to its end before any of it is handed on.
 */
#include "script.h"

enum { MOST_KEYS = 1024, MOST_TAGS = 64, MOST_PATTERNS = 16 };

static const char functions_key = 0; /* its address is the key in the registry */

/* ---- scripts for events ---- */

struct pln_script *pln_spare_take(struct pln_spare_scripts *spares) {
    struct pln_script *script = NULL;
    for (size_t i = 0; script == NULL && i < PLN_SPARE_SCRIPTS; i++) {
        /* E1 acquire: what the last user left; pairs with pln_spare_give_take() */
        script = atomic_exchange_explicit(&spares->slots[i], NULL, memory_order_acquire);
    }
    return script;
}

void pln_spare_give_take(struct pln_spare_scripts *spares, struct pln_script *script) {
    for (size_t i = 0; !script->is_out_of_memory && i < PLN_SPARE_SCRIPTS; i++) {
        struct pln_script *none = NULL;
        /* E1 release: pairs with pln_spare_take(); relaxed where it fails: nothing was read */
        if (atomic_compare_exchange_strong_explicit(&spares->slots[i], &none, script,
                                                    memory_order_release, memory_order_relaxed)) {
            return;
        }
    }
    pln_script_free(script);
}

void pln_spare_fini(struct pln_spare_scripts *spares) {
    struct pln_script *script;
    while ((script = pln_spare_take(spares)) != NULL) {
        pln_script_free(script);
    }
}

void pln_spare_forget(struct pln_spare_scripts *spares) {
    for (size_t i = 0; i < PLN_SPARE_SCRIPTS; i++) {
        /* relaxed: a child has one thread */
        atomic_store_explicit(&spares->slots[i], NULL, memory_order_relaxed);
    }
}

/* ---- the function ---- */

void pln_raise_keep_function(lua_State *L, size_t n) {
    if (lua_rawgetp(L, LUA_REGISTRYINDEX, &functions_key) == LUA_TNIL) {
        lua_pop(L, 1);
        lua_newtable(L);
        lua_pushvalue(L, -1);
        lua_rawsetp(L, LUA_REGISTRYINDEX, &functions_key);
    }
    lua_insert(L, -2);
    lua_rawseti(L, -2, (lua_Integer) n + 1);
    lua_pop(L, 1);
}

struct call {
    size_t n;
    const struct pln_field *fields;
    size_t n_fields;
    struct pln_raised *raised;
};

/* The fields of the function's answer. */
static const struct part {
    const char *name;
    size_t most, longest;
    int (*add)(struct pln_raised *raised, struct pln_bytes text);
} parts[] = {{"keys", MOST_KEYS, PLN_MAX_KEY, pln_raised_key},
             {"tags", MOST_TAGS, PLN_MAX_TAG, pln_raised_tag},
             {"match", MOST_PATTERNS, PLN_MAX_KEY, pln_raised_match}};

static void call_function(lua_State *L, const struct call *call) {
    lua_rawgetp(L, LUA_REGISTRYINDEX, &functions_key);
    lua_rawgeti(L, -1, (lua_Integer) call->n + 1);
    lua_createtable(L, 0, (int) call->n_fields);
    for (size_t i = 0; i < call->n_fields; i++) {
        const struct pln_field *field = &call->fields[i];
        lua_pushlstring(L, field->name.data, field->name.len);
        lua_pushlstring(L, field->value.len == 0 ? "" : field->value.data, field->value.len);
        lua_rawset(L, -3);
    }
    lua_call(L, 1, 1);
}

static void check_names(lua_State *L, int answer) {
    static const char *const names[] = {"keys", "tags", "match", NULL};
    char got[80];
    lua_pushnil(L);
    while (lua_next(L, answer) != 0) {
        lua_pop(L, 1);
        const char *name = pln_compile_text(L, -1);
        const char *near = name == NULL ? NULL : pln_nearest(names, name);
        if (near == NULL || strcmp(near, name) != 0) {
            luaL_error(L, "unknown field %s%s%s%s in the answer",
                       pln_compile_got(L, -1, got, sizeof got),
                       near == NULL ? "" : " (did you mean '", near == NULL ? "" : near,
                       near == NULL ? "" : "'?)");
        }
    }
}

/* Checks the text on top, or hands it on, and pops it. */
static void take_text(lua_State *L, const struct part *part, struct pln_raised *raised) {
    struct pln_bytes text = {NULL, 0};
    char got[80];
    pln_compile_got(L, -1, got, sizeof got);
    if (lua_type(L, -1) == LUA_TSTRING || lua_isinteger(L, -1)) {
        text.data = lua_tolstring(L, -1, &text.len);
    }
    if (text.len == 0 || text.len > part->longest) {
        luaL_error(L, "%s: a text of 1 to %d bytes is wanted, got %s", part->name,
                   (int) part->longest, got);
    }
    if (raised != NULL && part->add(raised, text) < 0) {
        luaL_error(L, "%s: %s", part->name, pln_error_text());
    }
    lua_pop(L, 1);
}

/* A text, a list of texts, or nothing. Without `raised` it is only checked. */
static void take_part(lua_State *L, int answer, const struct part *part,
                      struct pln_raised *raised) {
    char got[80];
    int type = pln_compile_field(L, answer, part->name);
    if (type == LUA_TSTRING) {
        take_text(L, part, raised);
        return;
    }
    if (type != LUA_TTABLE && type != LUA_TNIL) {
        luaL_error(L, "%s: a text or a list of texts is wanted, got %s", part->name,
                   pln_compile_got(L, -1, got, sizeof got));
    }
    size_t n = type == LUA_TTABLE ? lua_rawlen(L, -1) : 0;
    if (n > part->most) {
        luaL_error(L, "%s: at most %d, got %d", part->name, (int) part->most, (int) n);
    }
    for (size_t i = 1; i <= n; i++) {
        lua_rawgeti(L, -1, (lua_Integer) i);
        take_text(L, part, raised);
    }
    lua_pop(L, 1);
}

static int run(lua_State *L) {
    const struct call *call = lua_touserdata(L, 1);
    char got[80];
    call_function(L, call);
    int answer = lua_gettop(L);
    if (lua_isnil(L, answer)) {
        return 0;
    }
    if (!lua_istable(L, answer)) {
        return luaL_error(L, "a table with keys, tags or match is wanted, or nil, got %s",
                          pln_compile_got(L, answer, got, sizeof got));
    }
    check_names(L, answer);
    for (size_t i = 0; i < PLN_ARRAY_LEN(parts); i++) {
        take_part(L, answer, &parts[i], NULL);
    }
    for (size_t i = 0; i < PLN_ARRAY_LEN(parts); i++) {
        take_part(L, answer, &parts[i], call->raised);
    }
    return 0;
}

int pln_raise_run(struct pln_script *script, size_t n, const struct pln_field *fields,
                  size_t n_fields, struct pln_raised *raised) {
    struct call call = {n, fields, n_fields, raised};
    int status = pln_script_call(script, run, &call, PLN_SCRIPT_LOAD_MS);
    return status == PLN_OK ? PLN_OK : pln_fail(PLN_EPOLICY, "%s", script->error);
}
