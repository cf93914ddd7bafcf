/* SPDX-License-Identifier: MIT
 *
 * events.c - cache.on, what an event makes void, and cache.events, where events come from.
 *
 * A cache.events names a channel, a stream, or both: for the core these are sources of their own.
 */
#include "script.h"

#include <stdio.h>

static const pln_ms default_idle = 30 * 1000, longest_idle = 86400 * 1000LL;

enum {
    DEFAULT_BATCH = 64,
    MOST_BATCH = 1000,
    DEFAULT_DEAD = 10000,
    MOST_DEAD = 10 * 1000 * 1000,
    MOST_SOURCES = 16,
};

/* ---- cache.on ---- */

static void refuse_same_event(lua_State *L, const struct pln_compiler *compiler) {
    char at[160];
    for (size_t i = 0; i < compiler->ruleset->n_events; i++) {
        if (strcmp(compiler->ruleset->events[i].name, compiler->statement.name) == 0) {
            const struct pln_event_rule *same = &compiler->ruleset->events[i];
            pln_compile_refuse(L, "there is one of this name already, at %s",
                               pln_compile_place(compiler, same->file, same->line, at, sizeof at));
        }
    }
}

void pln_compile_event(lua_State *L, int body) {
    static const char *const names[] = {"keys", "tags", NULL};
    struct pln_compiler *compiler = pln_compile_of(L);
    struct pln_ruleset *ruleset = compiler->ruleset;
    refuse_same_event(L, compiler);
    size_t n = ruleset->n_events;
    ruleset->events = pln_compile_grow(L, ruleset->events, n, sizeof *ruleset->events);
    struct pln_event_rule *event = &ruleset->events[n];
    *event = (struct pln_event_rule){.line = compiler->statement.line};
    ruleset->n_events++;
    event->name = pln_compile_own(L, strdup(compiler->statement.name));
    event->file = pln_compile_own(L, strdup(compiler->statement.file));
    if (lua_isfunction(L, body)) {
        event->is_function = true;
        lua_pushvalue(L, body);
        pln_raise_keep_function(L, n);
        return;
    }
    pln_compile_check_names(L, body, names, false, false);
    if (pln_compile_field(L, body, "keys") != LUA_TNIL) {
        pln_compile_templates(L, lua_gettop(L), "keys", NULL, &event->keys, &event->n_keys);
    }
    if (pln_compile_field(L, body, "tags") != LUA_TNIL) {
        pln_compile_templates(L, lua_gettop(L), "tags", NULL, &event->tags, &event->n_tags);
    }
    if (event->n_keys + event->n_tags == 0) {
        pln_compile_refuse(L, "it names nothing: give it keys, tags or both");
    }
}

/* ---- cache.events ---- */

static _Noreturn void refuse_field(lua_State *L, const char *field, const char *wanted) {
    char got[80];
    pln_compile_refuse(L, "%s: %s, got %s", field, wanted, pln_compile_got(L, -1, got, sizeof got));
}

/* A name in Redis, or NULL where the body does not say it. */
static char *read_name(lua_State *L, int body, const char *field) {
    char *copy = NULL;
    if (pln_compile_field(L, body, field) != LUA_TNIL) {
        const char *name = pln_compile_text(L, -1);
        size_t len = name != NULL ? strlen(name) : 0;
        if (len == 0 || len > PLN_SCRIPT_NAME) {
            refuse_field(L, field, "a name of 1 to 512 bytes");
        }
        copy = pln_compile_own(L, strndup(name, len));
    }
    lua_pop(L, 1);
    return copy;
}

static size_t read_number(lua_State *L, int body, const char *field, size_t otherwise,
                          size_t most) {
    char wanted[64];
    size_t number = otherwise;
    if (pln_compile_field(L, body, field) != LUA_TNIL) {
        lua_Integer given = lua_isinteger(L, -1) ? lua_tointeger(L, -1) : 0;
        if (given < 1 || (lua_Unsigned) given > most) {
            snprintf(wanted, sizeof wanted, "a whole number from 1 to %zu", most);
            refuse_field(L, field, wanted);
        }
        number = (size_t) given;
    }
    lua_pop(L, 1);
    return number;
}

static pln_ms read_idle(lua_State *L, int body) {
    pln_ms idle = default_idle;
    if (pln_compile_field(L, body, "idle") != LUA_TNIL &&
        (!pln_lua_to_duration(L, -1, &idle) || idle < 1 || idle > longest_idle)) {
        refuse_field(L, "idle", "a duration of at most 1 day, such as \"30s\"");
    }
    lua_pop(L, 1);
    return idle;
}

/* The place of one more source; it belongs to the ruleset, whatever is refused then. */
static struct pln_event_source *add_source(lua_State *L, enum pln_event_kind kind) {
    const struct pln_compiler *compiler = pln_compile_of(L);
    struct pln_ruleset *ruleset = compiler->ruleset;
    if (ruleset->n_sources == MOST_SOURCES) {
        pln_compile_refuse(L, "a policy has at most %d channels and streams", MOST_SOURCES);
    }
    ruleset->sources = pln_compile_grow(L, ruleset->sources, ruleset->n_sources,
                                        sizeof *ruleset->sources);
    struct pln_event_source *source = &ruleset->sources[ruleset->n_sources++];
    *source = (struct pln_event_source){.kind = kind, .line = compiler->statement.line};
    source->file = pln_compile_own(L, strdup(compiler->statement.file));
    return source;
}

static void refuse_same_source(lua_State *L, const char *field) {
    const struct pln_compiler *compiler = pln_compile_of(L);
    const struct pln_ruleset *ruleset = compiler->ruleset;
    char at[160];
    const struct pln_event_source *last = &ruleset->sources[ruleset->n_sources - 1];
    for (const struct pln_event_source *source = ruleset->sources; source < last; source++) {
        if (source->kind == last->kind && strcmp(source->name, last->name) == 0) {
            pln_compile_refuse(
                L, "%s: '%s' is named already, at %s", field, last->name,
                pln_compile_place(compiler, source->file, source->line, at, sizeof at));
        }
    }
}

/* Returns the source, or NULL where the body names none of this kind. */
static struct pln_event_source *read_source(lua_State *L, int body, const char *field,
                                            enum pln_event_kind kind) {
    int type = pln_compile_field(L, body, field);
    lua_pop(L, 1);
    if (type == LUA_TNIL) {
        return NULL;
    }
    struct pln_event_source *source = add_source(L, kind);
    source->name = read_name(L, body, field);
    refuse_same_source(L, field);
    return source;
}

void pln_compile_sources(lua_State *L, int body) {
    static const char *const names[] = {"channel", "stream", "group", "idle",
                                        "batch",   "dead",   NULL};
    static const char *const of_streams[] = {"group", "idle", "batch", "dead"};
    pln_compile_check_names(L, body, names, false, false);
    bool has_channel = read_source(L, body, "channel", PLN_EVENT_CHANNEL) != NULL;
    struct pln_event_source *stream = read_source(L, body, "stream", PLN_EVENT_STREAM);
    if (stream == NULL && !has_channel) {
        pln_compile_refuse(L, "it names no source: give it a channel, a stream or both");
    }
    for (size_t i = 0; stream == NULL && i < PLN_ARRAY_LEN(of_streams); i++) {
        if (pln_compile_field(L, body, of_streams[i]) != LUA_TNIL) {
            pln_compile_refuse(L, "%s: it is a stream's, and none is named", of_streams[i]);
        }
        lua_pop(L, 1);
    }
    if (stream != NULL) {
        stream->group = read_name(L, body, "group");
        stream->idle = read_idle(L, body);
        stream->most = (unsigned) read_number(L, body, "batch", DEFAULT_BATCH, MOST_BATCH);
        stream->dead = read_number(L, body, "dead", DEFAULT_DEAD, MOST_DEAD);
    }
}
