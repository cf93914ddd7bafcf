/* SPDX-License-Identifier: MIT
 *
 * options.c - tables of options into the structs of perilune.h.
 *
 * A name that is not known raises, with the nearest one that is: an option that is silently ignored
 * is found in production. The same goes for values. All of a table is checked before anything is
 * done. Zero means "default" to the core, so a duration of zero is refused here, where the writer
 * can still say what was meant.
 */
#include "module.h"

#include <math.h>

/* ---- names and single values ---- */

/* "unknown option 'tll', did you mean 'ttl'?" */
static int refuse_name(lua_State *L, int index, const char *const *names) {
    if (lua_type(L, -2) != LUA_TSTRING) {
        lua_pushfstring(L, "option names are strings, got a %s", luaL_typename(L, -2));
        return luaL_argerror(L, index, lua_tostring(L, -1));
    }
    const char *name = lua_tostring(L, -2);
    const char *nearest = pln_nearest(names, name);
    if (nearest == NULL) {
        lua_pushfstring(L, "unknown option '%s'", name);
    } else {
        lua_pushfstring(L, "unknown option '%s', did you mean '%s'?", name, nearest);
    }
    return luaL_argerror(L, index, lua_tostring(L, -1));
}

/* Raises for the value on top of the stack. */
static int refuse_value(lua_State *L, int index, const char *name, const char *wanted) {
    const char *got = luaL_tolstring(L, -1, NULL);
    lua_pushfstring(L, "option '%s' must be %s, got %s '%s'", name, wanted, luaL_typename(L, -2),
                    got);
    return luaL_argerror(L, index, lua_tostring(L, -1));
}

static bool is_named(const char *const *names, const char *name) {
    for (; *names != NULL; names++) {
        if (strcmp(*names, name) == 0) {
            return true;
        }
    }
    return false;
}

void pln_lua_check_names(lua_State *L, int index, const char *const *names) {
    for (lua_pushnil(L); lua_next(L, index) != 0; lua_pop(L, 1)) {
        if (lua_type(L, -2) != LUA_TSTRING || !is_named(names, lua_tostring(L, -2))) {
            refuse_name(L, index, names);
        }
    }
}

/* The positive duration on top of the stack. */
static bool top_duration(lua_State *L, pln_ms *duration) {
    if (lua_type(L, -1) == LUA_TNUMBER && isinf(lua_tonumber(L, -1))) {
        *duration = PLN_FOREVER;
        return lua_tonumber(L, -1) > 0;
    }
    if (!pln_lua_to_duration(L, -1, duration)) {
        return false;
    }
    if (*duration == 0 && lua_type(L, -1) == LUA_TNUMBER && lua_tonumber(L, -1) > 0) {
        *duration = 1; /* half a millisecond is short, but not "the default" */
    }
    return *duration > 0;
}

static const char duration_wanted[] = "a positive duration, such as 30 or \"15m\"";

pln_ms pln_lua_check_duration(lua_State *L, int index, const char *name) {
    pln_ms duration = 0;
    lua_pushvalue(L, index);
    if (!top_duration(L, &duration)) {
        lua_pushfstring(L, "%s must be %s, got %s '%s'", name, duration_wanted,
                        luaL_typename(L, index), luaL_tolstring(L, -1, NULL));
        luaL_argerror(L, index, lua_tostring(L, -1));
    }
    lua_pop(L, 1);
    return duration;
}

/* ---- options of one call ---- */

enum kind { DURATION, FLAG, FLAG_WHEN_FALSE, WEIGHT, PRIORITY, READ, TAGS, CODEC };

struct field {
    const char *name;
    enum kind kind;
    size_t offset; /* of the duration, the flags, the number, or the tags' pointer */
    uint32_t flag;
};

#define GET(field) offsetof(struct pln_get_options, field)
#define SET(field) offsetof(struct pln_set_options, field)

static const struct field get_fields[] = {
    {"ttl", DURATION, GET(ttl_ms), 0},
    {"stale", DURATION, GET(stale_ms), 0},
    {"negative", DURATION, GET(negative_ms), 0},
    {"timeout", DURATION, GET(timeout_ms), 0},
    {"tags", TAGS, GET(tags), 0},
    {"no_stale", FLAG, GET(flags), PLN_GET_NO_STALE},
    {"own_stale", FLAG, GET(flags), PLN_GET_OWN_STALE},
    {"no_load", FLAG, GET(flags), PLN_GET_NO_LOAD},
    {"l1", FLAG_WHEN_FALSE, GET(flags), PLN_GET_NO_L1},
    {"l2", FLAG_WHEN_FALSE, GET(flags), PLN_GET_NO_L2},
    {"read", READ, GET(read), 0},
    {"max_staleness", DURATION, GET(max_staleness_ms), 0},
    {"soft_timeout", DURATION, GET(soft_timeout_ms), 0},
    {"keep", FLAG, GET(flags), PLN_GET_KEEP},
    {"with_old", FLAG, GET(flags), PLN_LUA_WITH_OLD},
    {"copy", FLAG, GET(flags), PLN_LUA_COPY},
};
static const char *const get_names[] = {
    "ttl",  "stale",     "negative", "timeout",       "tags",         "no_stale", "no_load",
    "l1",   "l2",        "read",     "max_staleness", "soft_timeout", "keep",     "with_old",
    "copy", "own_stale", NULL};

static const struct field set_fields[] = {
    {"ttl", DURATION, SET(ttl_ms), 0},         {"stale", DURATION, SET(stale_ms), 0},
    {"timeout", DURATION, SET(timeout_ms), 0}, {"weight", WEIGHT, SET(weight), 0},
    {"priority", PRIORITY, SET(priority), 0},  {"tags", TAGS, SET(tags), 0},
    {"nx", FLAG, SET(flags), PLN_SET_NX},      {"xx", FLAG, SET(flags), PLN_SET_XX},
    {"codec", CODEC, SET(format), 0},
};
static const char *const set_names[] = {"ttl",  "stale", "timeout", "weight", "priority",
                                        "tags", "nx",    "xx",      "codec",  NULL};

static size_t read_tag(lua_State *L, int index, struct pln_bytes *tags, size_t n) {
    if (n >= PLN_LUA_MAX_TAGS || !pln_lua_top_text(L, &tags[n])) {
        refuse_value(L, index, "tags", "a list of at most 64 strings");
    }
    return n + 1; /* the string stays on the stack */
}

/* The tags on top of the stack, one or a list; replaces them by their strings. */
static size_t read_tags(lua_State *L, int index, struct pln_bytes *tags) {
    if (!lua_istable(L, -1)) {
        return read_tag(L, index, tags, 0);
    }
    int list = lua_gettop(L);
    size_t n = 0;
    pln_lua_bare(L, list);
    /* and the room behind them that a function may count on, for what comes after the tags */
    luaL_checkstack(L, PLN_LUA_MAX_TAGS + LUA_MINSTACK, "too many tags");
    for (lua_Integer i = 1; lua_rawgeti(L, list, i) != LUA_TNIL; i++) {
        n = read_tag(L, index, tags, n);
    }
    lua_pop(L, 1);
    return n;
}

static void read_flag(lua_State *L, int index, const struct field *field, uint32_t *flags) {
    if (!lua_isboolean(L, -1)) {
        refuse_value(L, index, field->name, "true or false");
    }
    if (lua_toboolean(L, -1) == (field->kind == FLAG)) {
        *flags |= field->flag;
    }
}

static int32_t read_number(lua_State *L, int index, const char *name, int least, int most) {
    int is_integer = 0;
    lua_Integer value = lua_tointegerx(L, -1, &is_integer);
    if (!is_integer || value < least || value > most) {
        const char *wanted = lua_pushfstring(L, "an integer from %d to %d", least, most);
        refuse_value(L, index, name, wanted);
    }
    return (int32_t) value;
}

static uint8_t read_read(lua_State *L, int index, const char *name) {
    const char *text = lua_type(L, -1) == LUA_TSTRING ? lua_tostring(L, -1) : "";
    for (int i = PLN_READ_PRIMARY; pln_read_name(i) != NULL; i++) {
        if (strcmp(pln_read_name(i), text) == 0) {
            return (uint8_t) i;
        }
    }
    refuse_value(L, index, name, "'primary', 'replica' or 'nearest'");
    return PLN_READ_BY_RULE;
}

static uint8_t read_codec(lua_State *L, int index, const char *name) {
    const char *text = lua_type(L, -1) == LUA_TSTRING ? lua_tostring(L, -1) : "";
    for (int i = 1; pln_codec_name(i) != NULL; i++) {
        if (strcmp(pln_codec_name(i), text) == 0) {
            return (uint8_t) i;
        }
    }
    refuse_value(L, index, name, "'msgpack' or 'json'");
    return PLN_CODEC_RAW;
}

/* Puts the value on top of the stack into its place, and leaves the stack to its caller. Returns
 * the number of tags. */
static size_t read_field(lua_State *L, int index, const struct field *field, char *options,
                         struct pln_bytes *tags) {
    void *place = options + field->offset;
    switch (field->kind) {
    case DURATION:
        if (!top_duration(L, place)) {
            refuse_value(L, index, field->name, duration_wanted);
        }
        return 0;
    case FLAG:
    case FLAG_WHEN_FALSE:
        read_flag(L, index, field, place);
        return 0;
    case WEIGHT:
        *(uint32_t *) place = (uint32_t) read_number(L, index, field->name, 0, 255);
        return 0;
    case PRIORITY:
        *(int32_t *) place = read_number(L, index, field->name, -128, 127);
        return 0;
    case READ:
        *(uint8_t *) place = read_read(L, index, field->name);
        return 0;
    case CODEC:
        *(uint8_t *) place = read_codec(L, index, field->name);
        return 0;
    case TAGS:
        *(const struct pln_bytes **) place = tags;
        return read_tags(L, index, tags);
    }
    return 0;
}

/* Reads the fields that the table at `index` has; `names` are theirs. Returns the number of tags,
 * whose strings are left on the stack. */
static size_t read_fields(lua_State *L, int index, const struct field *fields, size_t n_fields,
                          const char *const *names, void *options, struct pln_bytes *tags) {
    size_t n_tags = 0;
    luaL_checktype(L, index, LUA_TTABLE);
    pln_lua_check_names(L, index, names);
    for (size_t i = 0; i < n_fields; i++) {
        lua_pushstring(L, fields[i].name);
        if (lua_rawget(L, index) == LUA_TNIL) {
            lua_pop(L, 1);
        } else if (fields[i].kind == TAGS) {
            n_tags = read_field(L, index, &fields[i], options, tags);
        } else {
            read_field(L, index, &fields[i], options, tags);
            lua_pop(L, 1);
        }
    }
    return n_tags;
}

void pln_lua_get_options(lua_State *L, int index, struct pln_get_options *options,
                         struct pln_bytes tags[PLN_LUA_MAX_TAGS]) {
    *options = (struct pln_get_options){0};
    if (!lua_isnoneornil(L, index)) {
        options->n_tags = read_fields(L, index, get_fields, PLN_ARRAY_LEN(get_fields), get_names,
                                      options, tags);
    }
}

void pln_lua_set_options(lua_State *L, int index, struct pln_set_options *options,
                         struct pln_bytes tags[PLN_LUA_MAX_TAGS]) {
    *options = (struct pln_set_options){0};
    if (!lua_isnoneornil(L, index)) {
        options->n_tags = read_fields(L, index, set_fields, PLN_ARRAY_LEN(set_fields), set_names,
                                      options, tags);
    }
}

#define DATA(field) offsetof(struct pln_data_options, field)

void pln_lua_data_options(lua_State *L, int index, const char *const *names,
                          struct pln_data_options *options) {
    static const struct field fields[] = {{"ttl", DURATION, DATA(ttl_ms), 0},
                                          {"timeout", DURATION, DATA(timeout_ms), 0}};
    *options = (struct pln_data_options){0};
    if (!lua_isnoneornil(L, index)) {
        read_fields(L, index, fields, PLN_ARRAY_LEN(fields), names, options, NULL);
    }
}

lua_Integer pln_lua_count_option(lua_State *L, int index, const char *name) {
    lua_Integer count = 0;
    if (lua_istable(L, index)) {
        lua_pushstring(L, name);
        if (lua_rawget(L, index) != LUA_TNIL) {
            count = read_number(L, index, name, 1, INT32_MAX);
        }
        lua_pop(L, 1);
    }
    return count;
}

/* ---- options of open ---- */

/* Of the module itself: read by module.c. */
static const char *const own_names[] = {"policy", "trusted", "log", "decoded", NULL};

enum { MAX_NAMES = 64 };

static void all_names(const char *names[MAX_NAMES]) {
    size_t n = 0;
    for (size_t i = 0; n < MAX_NAMES - PLN_ARRAY_LEN(own_names) && pln_option_name(i) != NULL;
         i++) {
        names[n++] = pln_option_name(i);
    }
    for (size_t i = 0; i < PLN_ARRAY_LEN(own_names); i++) {
        names[n++] = own_names[i];
    }
}

/* Makes the value on top of the stack a text as the core's parsers want it; false where there is
 * none for it. */
static bool top_option_text(lua_State *L) {
    if (lua_type(L, -1) == LUA_TNUMBER && isinf(lua_tonumber(L, -1))) {
        lua_pushstring(L, lua_tonumber(L, -1) > 0 ? "forever" : "-1");
    } else if (lua_type(L, -1) == LUA_TNUMBER) {
        luaL_tolstring(L, -1, NULL);
    } else if (lua_isboolean(L, -1)) {
        lua_pushstring(L, lua_toboolean(L, -1) ? "true" : "false");
    } else if (lua_type(L, -1) == LUA_TSTRING) {
        lua_pushvalue(L, -1);
    } else {
        return false;
    }
    lua_replace(L, -2);
    return true;
}

void pln_lua_open_options(lua_State *L, int index, struct pln_options *options) {
    const char *names[MAX_NAMES];
    all_names(names);
    pln_lua_check_names(L, index, names);
    lua_newtable(L);
    int texts = lua_gettop(L);
    for (size_t i = 0; pln_option_name(i) != NULL; i++) {
        const char *name = pln_option_name(i);
        if (lua_getfield(L, index, name) == LUA_TNIL) {
            lua_pop(L, 1);
            continue;
        }
        if (!top_option_text(L)) {
            refuse_value(L, index, name, "a string, number or boolean");
        }
        if (pln_options_set(options, name, lua_tostring(L, -1)) < 0) {
            luaL_argerror(L, index, pln_error_text());
        }
        lua_setfield(L, texts, name);
    }
}
