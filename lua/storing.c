/* SPDX-License-Identifier: MIT
 *
 * storing.c - the field `write` of classes and rules: how what is written gets to the store of
 * record, and by which function.
 *
 *     write = through(function(key, m, value) ... end)
 *     write = behind { store = function(items) ... end, batch = 500, every = "1s" }
 *     write = around(store "archive")
 *
 * The words make a userdata that holds nothing in C that has to be freed: the function, or the name
 * of the program's store, is its user value. What they are given is checked where they stand.
 */
#include "script.h"

#include <stdio.h>

static const char writing_name[] = "perilune.write";
static const char store_name[] = "perilune.store";

static const char *const words[] = {
    [PLN_WRITE_ASIDE] = "aside",
    [PLN_WRITE_THROUGH] = "through",
    [PLN_WRITE_BEHIND] = "behind",
    [PLN_WRITE_AROUND] = "around",
};

static const char *const fulls[] = {
    [PLN_FULL_WAIT] = "wait",
    [PLN_FULL_THROUGH] = "through",
    [PLN_FULL_REFUSE] = "refuse",
};

static const struct pln_write_options defaults = {.when_full = PLN_FULL_WAIT,
                                                  .timeout_ms = 5000,
                                                  .batch = 500,
                                                  .every_ms = 100,
                                                  .most = 100000,
                                                  .attempts = 10,
                                                  .backoff_ms = 200,
                                                  .dead = 10000};

enum {
    HOUR_MS = 3600000,
    MINUTE_MS = 60000,
    MOST_BATCH = 10000,
    MOST_WAITING = 1000000000,
    MOST_ATTEMPTS = 1000000,
    MOST_DEAD = 10000000,
};

const char *pln_write_name(int i) {
    return i >= 1 && (size_t) i < PLN_ARRAY_LEN(words) ? words[i] : NULL;
}

/* ---- what the words are given ---- */

/* Refuses what is on top of the stack: the value of one of a word's fields. */
static _Noreturn void refuse_field(lua_State *L, const struct pln_write_options *writing,
                                   const char *name, const char *wanted) {
    bool is_in_rule = pln_compile_of(L)->statement.is_open; /* else the word itself is named */
    char got[80];
    pln_compile_refuse(L, "%s%s%s: %s, got %s", is_in_rule ? words[writing->strategy] : "",
                       is_in_rule ? ": " : "", name, wanted,
                       pln_compile_got(L, -1, got, sizeof got));
}

static void read_time(lua_State *L, struct pln_write_options *writing, const char *name,
                      pln_ms most, pln_ms *time) {
    pln_ms ms;
    if (pln_compile_field(L, 1, name) != LUA_TNIL) {
        if (!pln_lua_to_duration(L, -1, &ms)) {
            refuse_field(L, writing, name, "a duration such as \"2s\" or seconds");
        }
        if (ms <= 0 || ms > most) {
            refuse_field(L, writing, name,
                         most == HOUR_MS ? "more than 0 and at most 1 hour"
                                         : "more than 0 and at most 1 minute");
        }
        *time = ms;
    }
    lua_pop(L, 1);
}

static void read_count(lua_State *L, struct pln_write_options *writing, const char *name, int most,
                       size_t *count) {
    char wanted[80];
    if (pln_compile_field(L, 1, name) != LUA_TNIL) {
        lua_Integer n = lua_isinteger(L, -1) ? lua_tointeger(L, -1) : 0;
        if (n < 1 || n > most) {
            snprintf(wanted, sizeof wanted, "a whole number from 1 to %d", most);
            refuse_field(L, writing, name, wanted);
        }
        *count = (size_t) n;
    }
    lua_pop(L, 1);
}

static void read_when_full(lua_State *L, struct pln_write_options *writing) {
    if (pln_compile_field(L, 1, "when_full") != LUA_TNIL) {
        const char *name = pln_compile_text(L, -1);
        uint8_t i = PLN_FULL_WAIT;
        while (i < PLN_ARRAY_LEN(fulls) && (name == NULL || strcmp(name, fulls[i]) != 0)) {
            i++;
        }
        if (i == PLN_ARRAY_LEN(fulls)) {
            refuse_field(L, writing, "when_full", "\"wait\", \"through\" or \"refuse\"");
        }
        writing->when_full = i;
    }
    lua_pop(L, 1);
}

static void read_in_order(lua_State *L, struct pln_write_options *writing) {
    if (pln_compile_field(L, 1, "in_order") != LUA_TNIL) {
        if (!lua_isboolean(L, -1)) {
            refuse_field(L, writing, "in_order", "true or false");
        }
        writing->in_order = lua_toboolean(L, -1);
        if (writing->in_order && writing->when_full == PLN_FULL_THROUGH) {
            refuse_field(L, writing, "in_order",
                         "not with when_full = \"through\", which passes what waits: false");
        }
    }
    lua_pop(L, 1);
}

static void read_behind(lua_State *L, struct pln_write_options *writing) {
    size_t attempts = writing->attempts;
    read_count(L, writing, "batch", MOST_BATCH, &writing->batch);
    read_count(L, writing, "most", MOST_WAITING, &writing->most);
    read_count(L, writing, "dead", MOST_DEAD, &writing->dead);
    read_count(L, writing, "attempts", MOST_ATTEMPTS, &attempts);
    writing->attempts = (unsigned) attempts;
    read_time(L, writing, "every", HOUR_MS, &writing->every_ms);
    read_time(L, writing, "backoff", MINUTE_MS, &writing->backoff_ms);
    read_when_full(L, writing);
    read_in_order(L, writing);
}

/* What only behind has is told to be so, since no name is near. */
static void check_names(lua_State *L, const struct pln_write_options *writing) {
    static const char *const common[] = {"store", "timeout", NULL};
    static const char *const all[] = {"store",    "timeout", "batch",     "every",
                                      "in_order", "most",    "when_full", "attempts",
                                      "backoff",  "dead",    NULL};
    if (writing->strategy == PLN_WRITE_BEHIND) {
        pln_compile_check_names(L, 1, all, false, false);
        return;
    }
    for (size_t i = PLN_ARRAY_LEN(common) - 1; all[i] != NULL; i++) {
        if (pln_compile_field(L, 1, all[i]) != LUA_TNIL) {
            pln_compile_refuse(L, "%s: a field of behind, not of %s", all[i],
                               words[writing->strategy]);
        }
        lua_pop(L, 1);
    }
    pln_compile_check_names(L, 1, common, false, false);
}

static bool is_store(lua_State *L, int index) {
    return lua_isfunction(L, index) || luaL_testudata(L, index, store_name) != NULL;
}

/* through(f), through { store = f, timeout = "2s" }; the upvalue is the strategy. */
static int word_strategy(lua_State *L) {
    int strategy = (int) lua_tointeger(L, lua_upvalueindex(1));
    char got[80];
    pln_compile_word(L, words[strategy]);
    lua_settop(L, 1);
    struct pln_write_options *writing = lua_newuserdatauv(L, sizeof *writing, 1);
    *writing = defaults;
    writing->strategy = (uint8_t) strategy;
    luaL_setmetatable(L, writing_name);
    if (is_store(L, 1)) {
        lua_pushvalue(L, 1);
    } else if (lua_istable(L, 1)) {
        check_names(L, writing);
        read_time(L, writing, "timeout", HOUR_MS, &writing->timeout_ms);
        if (strategy == PLN_WRITE_BEHIND) {
            read_behind(L, writing);
        }
        pln_compile_field(L, 1, "store");
        if (!is_store(L, -1)) {
            refuse_field(L, writing, "store", "a function, or store \"name\"");
        }
    } else {
        pln_compile_refuse(L,
                           "a function, store \"name\" or a table is wanted, as in %s(f) or "
                           "%s { store = f }, got %s",
                           words[strategy], words[strategy],
                           pln_compile_got(L, 1, got, sizeof got));
    }
    lua_setiuservalue(L, 2, 1);
    return 1;
}

/* A userdata that holds nothing in C: the name is its user value. */
static int word_store(lua_State *L) {
    return pln_compile_named(L, "store", store_name, "store \"catalog\"", PLN_MAX_STORE_NAME);
}

void pln_compile_open_storing(lua_State *L) {
    static const char *const classes[] = {writing_name, store_name};
    for (size_t i = 0; i < PLN_ARRAY_LEN(classes); i++) {
        luaL_newmetatable(L, classes[i]);
        lua_pushboolean(L, false);
        lua_setfield(L, -2, "__metatable");
        lua_pop(L, 1);
    }
    for (int i = PLN_WRITE_THROUGH; i <= PLN_WRITE_AROUND; i++) {
        lua_pushinteger(L, i);
        lua_pushcclosure(L, word_strategy, 1);
        lua_setfield(L, -2, words[i]);
    }
    lua_pushcfunction(L, word_store);
    lua_setfield(L, -2, "store");
}

/* ---- the field ---- */

bool pln_writing_strategy(lua_State *L, int index, uint8_t *strategy) {
    const struct pln_write_options *writing = luaL_testudata(L, index, writing_name);
    bool is_false = lua_isboolean(L, index) && !lua_toboolean(L, index);
    if (writing != NULL) {
        *strategy = writing->strategy;
    } else if (is_false) {
        *strategy = PLN_WRITE_ASIDE;
    }
    return writing != NULL || is_false;
}

void pln_compile_writing(lua_State *L, int body, unsigned owner, struct pln_policy_writing *said) {
    char got[80];
    uint8_t strategy;
    if (pln_compile_field(L, body, "write") == LUA_TNIL) {
        lua_pop(L, 1);
        return;
    }
    const char *text = pln_compile_text(L, -1);
    if (text != NULL && strcmp(text, words[PLN_WRITE_ASIDE]) == 0) {
        strategy = PLN_WRITE_ASIDE;
    } else if (!pln_writing_strategy(L, -1, &strategy)) {
        pln_compile_refuse(L,
                           "write: through(f), around(f), behind { store = f }, or \"aside\", "
                           "got %s",
                           pln_compile_got(L, -1, got, sizeof got));
    }
    said->options.strategy = strategy;
    if (strategy != PLN_WRITE_ASIDE) {
        said->options = *(const struct pln_write_options *) lua_touserdata(L, -1);
        lua_getiuservalue(L, -1, 1);
        said->has_function = lua_isfunction(L, -1);
        if (said->has_function) {
            pln_compile_keep_function(L, owner, PLN_RULE_STORE);
        } else {
            lua_getiuservalue(L, -1, 1);
            said->store = pln_compile_own(L, strdup(lua_tostring(L, -1)));
            lua_pop(L, 2);
        }
    }
    lua_pop(L, 1);
}

void pln_compile_check_writing(lua_State *L, const struct pln_rule *rule, bool is_own) {
    if (is_own && rule->terms.is_denied && rule->writing.strategy != PLN_WRITE_ASIDE) {
        pln_compile_refuse(L, "write: deny refuses the rule's keys, so this is never called");
    }
    if (rule->writing.strategy != PLN_WRITE_BEHIND) {
        return;
    }
    if (!rule->terms.use_l2) {
        pln_compile_refuse(L, "write: behind needs l2, where the writes wait: that is false here");
    }
    if (rule->terms.local_writes) {
        pln_compile_refuse(L, "local_writes: not with write = behind, which promises that Redis "
                              "has a write: that is to be false");
    }
}

bool pln_compile_rule_writing(lua_State *L, int body, struct pln_rule *rule, unsigned index,
                              const struct pln_policy_class *class) {
    const struct pln_compiler *compiler = pln_compile_of(L);
    struct pln_policy_writing said = {.store = NULL};
    pln_compile_writing(L, body, index, &said);
    bool is_own = said.options.strategy != 0;
    rule->store = said.store;
    if (!is_own && class != NULL) {
        said = class->writing;
        rule->store = said.store == NULL ? NULL : pln_compile_own(L, strdup(said.store));
        if (said.has_function) {
            unsigned owner = PLN_MAX_RULES + (unsigned) (class - compiler->classes);
            pln_compile_push_function(L, owner, PLN_RULE_STORE);
            pln_compile_keep_function(L, index, PLN_RULE_STORE);
        }
    }
    rule->writing = said.options;
    rule->hooks |= said.has_function ? PLN_RULE_STORE : 0;
    return is_own;
}

/* ---- telling ---- */

/* ", every 1s", where it is not the default, or is always told. */
static void tell_time(FILE *out, const char *name, pln_ms time, pln_ms otherwise) {
    char text[32];
    if (time != otherwise) {
        pln_policy_format_time(time, text, sizeof text);
        fprintf(out, ", %s %s", name, text);
    }
}

static void tell_count(FILE *out, const char *name, size_t count, size_t otherwise) {
    if (count != otherwise) {
        fprintf(out, ", %s %zu", name, count);
    }
}

void pln_writing_tell(FILE *out, const struct pln_rule *rule) {
    const struct pln_write_options *writing = &rule->writing;
    fputs(words[writing->strategy], out);
    if (writing->strategy == PLN_WRITE_BEHIND) {
        tell_count(out, "batch", writing->batch, 0);
        tell_time(out, "every", writing->every_ms, 0);
        fputs(writing->in_order ? ", in order" : "", out);
        tell_count(out, "most", writing->most, defaults.most);
        if (writing->when_full != defaults.when_full) {
            fprintf(out, ", %s when full", fulls[writing->when_full]);
        }
        tell_count(out, "attempts", writing->attempts, defaults.attempts);
        tell_time(out, "backoff", writing->backoff_ms, defaults.backoff_ms);
        tell_count(out, "dead", writing->dead, defaults.dead);
    }
    if (writing->strategy != PLN_WRITE_ASIDE) {
        tell_time(out, "timeout", writing->timeout_ms, defaults.timeout_ms);
        fputs(rule->store == NULL ? ", store function" : ", store '", out);
        fputs(rule->store == NULL ? "" : rule->store, out);
        fputs(rule->store == NULL ? "" : "'", out);
    }
}
