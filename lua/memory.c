/* SPDX-License-Identifier: MIT
 *
 * memory.c - perilune.memory(name): a handle on the server in memory that caches opened with
 * redis = "memory:NAME" share, for tests. What goes wrong is said by its methods; a cache as the
 * last argument says for whom, none means all.
 */
#include "module.h"

static const char class_name[] = "perilune.memory";

struct handle {
    struct pln_memory *memory; /* NULL: closed */
};

/* ---- arguments ---- */

static struct pln_memory *opened(lua_State *L) {
    struct handle *self = luaL_checkudata(L, 1, class_name);
    if (self->memory == NULL) {
        luaL_error(L, "attempt to use a closed memory");
    }
    return self->memory;
}

/* Takes the cache off the end of the arguments. A nil there is a variable that was misspelt, and
 * must not mean all. */
static struct pln_cache *take_cache(lua_State *L, int n_before) {
    struct pln_cache *cache = NULL;
    int last = lua_gettop(L);
    if (last >= 2 && (lua_isuserdata(L, last) || last > 1 + n_before || lua_isnil(L, last))) {
        cache = pln_lua_opened(L, last)->cache;
        lua_settop(L, last - 1);
    }
    luaL_argcheck(L, lua_gettop(L) <= 1 + n_before, 2 + n_before, "no such argument");
    return cache;
}

/* ---- faults ---- */

enum kind { DURATION, SHARE, FLAG, NUMBER, SEED };

#define FAULT(field) offsetof(struct pln_memory_faults, field)

static const struct fault {
    const char *name;
    enum kind kind;
    size_t offset;
} fault_table[] = {
    {"seed", SEED, FAULT(seed)},
    {"delay", DURATION, FAULT(delay_ms)},
    {"delay_random", DURATION, FAULT(delay_random_ms)},
    {"carried_out", SHARE, FAULT(carried_out)},
    {"out_of_memory", FLAG, FAULT(out_of_memory)},
    {"read_only", FLAG, FAULT(read_only)},
    {"message_delay", DURATION, FAULT(message_delay_ms)},
    {"message_random", DURATION, FAULT(message_random_ms)},
    {"hold", FLAG, FAULT(hold)},
    {"reorder", NUMBER, FAULT(reorder)},
    {"duplicate", SHARE, FAULT(duplicate)},
    {"lose", SHARE, FAULT(lose)},
};

static const char *const kind_wants[] = {
    [DURATION] = "a duration, such as 0.5 or \"20ms\"",
    [SHARE] = "a share, such as 0.1 or \"10%\"",
    [FLAG] = "true or false",
    [NUMBER] = "a whole number",
    [SEED] = "a whole number",
};

/* The integer on top of the stack. */
static bool top_integer(lua_State *L, lua_Integer *number) {
    int is_integer = 0;
    *number = lua_tointegerx(L, -1, &is_integer);
    return is_integer && lua_type(L, -1) == LUA_TNUMBER;
}

/* Puts the value on top of the stack into its field. The core sees to the bounds. */
static bool read_fault(lua_State *L, enum kind kind, void *field) {
    lua_Integer number;
    switch (kind) {
    case DURATION:
        return pln_lua_to_duration(L, -1, field);
    case SHARE:
        return pln_lua_to_share(L, -1, field);
    case FLAG:
        *(bool *) field = lua_toboolean(L, -1);
        return lua_isboolean(L, -1);
    case SEED:
        if (!top_integer(L, &number)) {
            return false;
        }
        *(uint64_t *) field = (uint64_t) number;
        return true;
    case NUMBER:
        if (!top_integer(L, &number) || number < 0 || number > INT32_MAX) {
            return false;
        }
        *(unsigned *) field = (unsigned) number;
        return true;
    }
    return false;
}

static void read_faults(lua_State *L, int index, struct pln_memory_faults *faults) {
    const char *names[PLN_ARRAY_LEN(fault_table) + 1] = {NULL};
    for (size_t i = 0; i < PLN_ARRAY_LEN(fault_table); i++) {
        names[i] = fault_table[i].name;
    }
    luaL_checktype(L, index, LUA_TTABLE);
    pln_lua_check_names(L, index, names);
    for (size_t i = 0; i < PLN_ARRAY_LEN(fault_table); i++) {
        const struct fault *fault = &fault_table[i];
        if (lua_getfield(L, index, fault->name) != LUA_TNIL &&
            !read_fault(L, fault->kind, (char *) faults + fault->offset)) {
            const char *got = luaL_tolstring(L, -1, NULL);
            lua_pushfstring(L, "option '%s' must be %s, got %s '%s'", fault->name,
                            kind_wants[fault->kind], luaL_typename(L, -2), got);
            luaL_argerror(L, index, lua_tostring(L, -1));
        }
        lua_pop(L, 1);
    }
}

/* ---- methods ---- */

/* Misuse raises, and nothing else can go wrong: memory itself, so that calls can be chained. */
static int finish(lua_State *L, int status) {
    if (status < 0) {
        return luaL_error(L, "%s", pln_error_text());
    }
    lua_settop(L, 1);
    return 1;
}

/* faults{...} or faults({...}, cache); all that the table does not name goes right */
static int memory_faults(lua_State *L) {
    struct pln_memory *memory = opened(L);
    struct pln_memory_faults faults = {0};
    struct pln_cache *cache = take_cache(L, 1);
    if (lua_gettop(L) > 1) {
        read_faults(L, 2, &faults);
    }
    return finish(L, pln_memory_faults(memory, cache, &faults));
}

/* part([cache]), join([cache]): the link alone */
static int memory_part(lua_State *L) {
    struct pln_memory *memory = opened(L);
    return finish(L, pln_memory_link(memory, take_cache(L, 0), false));
}

static int memory_join(lua_State *L) {
    struct pln_memory *memory = opened(L);
    return finish(L, pln_memory_link(memory, take_cache(L, 0), true));
}

/* cut(["fail" or "hang",] [cache]) */
static int memory_cut(lua_State *L) {
    static const char *const names[] = {"fail", "hang", NULL};
    static const enum pln_memory_cut cuts[] = {PLN_MEMORY_FAILS, PLN_MEMORY_HANGS};
    struct pln_memory *memory = opened(L);
    struct pln_cache *cache = take_cache(L, 1);
    int how = luaL_checkoption(L, 2, "fail", names);
    return finish(L, pln_memory_cut(memory, cache, cuts[how]));
}

/* heal([cache]): commands and link */
static int memory_heal(lua_State *L) {
    struct pln_memory *memory = opened(L);
    return finish(L, pln_memory_cut(memory, take_cache(L, 0), PLN_MEMORY_UNCUT));
}

/* deliver([n,] [cache]) -> how many */
static int memory_deliver(lua_State *L) {
    struct pln_memory *memory = opened(L);
    struct pln_cache *cache = take_cache(L, 1);
    lua_Integer n = luaL_optinteger(L, 2, LUA_MAXINTEGER);
    size_t delivered = 0;
    luaL_argcheck(L, n >= 0, 2, "n must not be negative");
    int status = pln_memory_deliver(memory, cache, (size_t) n, &delivered);
    if (status < 0) {
        return finish(L, status);
    }
    lua_pushinteger(L, (lua_Integer) delivered);
    return 1;
}

/* forget(): a restart that loses everything */
static int memory_forget(lua_State *L) {
    pln_memory_forget(opened(L));
    return finish(L, PLN_OK);
}

/* evict(share) -> how many */
static int memory_evict(lua_State *L) {
    struct pln_memory *memory = opened(L);
    size_t evicted = 0;
    double share = 0;
    luaL_argcheck(L, pln_lua_to_share(L, 2, &share), 2, "expected a share such as 0.1 or \"10%\"");
    int status = pln_memory_evict(memory, share, &evicted);
    if (status < 0) {
        return finish(L, status);
    }
    lua_pushinteger(L, (lua_Integer) evicted);
    return 1;
}

static int memory_stats(lua_State *L) {
    struct pln_memory_stats stats;
    pln_memory_stats(opened(L), &stats);
    const struct {
        const char *name;
        uint64_t value;
    } list[] = {
        {"commands", stats.commands},       {"late", stats.late},
        {"carried_out", stats.carried_out}, {"refused", stats.refused},
        {"messages", stats.messages},       {"lost", stats.lost},
        {"duplicated", stats.duplicated},   {"clients", stats.clients},
        {"values", stats.values},           {"waiting", stats.waiting},
    };
    lua_createtable(L, 0, (int) PLN_ARRAY_LEN(list));
    for (size_t i = 0; i < PLN_ARRAY_LEN(list); i++) {
        lua_pushinteger(L, (lua_Integer) list[i].value);
        lua_setfield(L, -2, list[i].name);
    }
    return 1;
}

/* ---- life ---- */

static int memory_close(lua_State *L) {
    struct handle *self = luaL_checkudata(L, 1, class_name);
    struct pln_memory *memory = self->memory;
    self->memory = NULL;
    pln_memory_close(memory);
    lua_pushboolean(L, 1);
    return 1;
}

static int memory_tostring(lua_State *L) {
    struct handle *self = luaL_checkudata(L, 1, class_name);
    lua_pushfstring(L, "perilune.memory (%s)", self->memory == NULL ? "closed" : "open");
    return 1;
}

static const luaL_Reg methods[] = {
    {"faults", memory_faults},
    {"part", memory_part},
    {"join", memory_join},
    {"cut", memory_cut},
    {"heal", memory_heal},
    {"deliver", memory_deliver},
    {"forget", memory_forget},
    {"evict", memory_evict},
    {"stats", memory_stats},
    {"close", memory_close},
    {NULL, NULL},
};

static const luaL_Reg metamethods[] = {
    {"__close", memory_close},
    {"__gc", memory_close},
    {"__tostring", memory_tostring},
    {NULL, NULL},
};

/* Pushes the class, which it makes where this state has none yet. */
static void push_class(lua_State *L) {
    if (luaL_newmetatable(L, class_name) == 0) {
        return;
    }
    luaL_setfuncs(L, metamethods, 0);
    lua_pushboolean(L, 0);
    lua_setfield(L, -2, "__metatable");
    luaL_newlib(L, methods);
    lua_setfield(L, -2, "__index");
}

/* memory(name) -> handle */
int pln_lua_memory(lua_State *L) {
    const char *name = luaL_checkstring(L, 1);
    struct handle *self = lua_newuserdatauv(L, sizeof *self, 0);
    self->memory = NULL;
    push_class(L);
    lua_setmetatable(L, -2);
    int status = pln_memory_open(name, &self->memory);
    if (status == PLN_EINVAL) {
        return luaL_argerror(L, 1, pln_error_text());
    }
    return status < 0 ? pln_lua_push_failure(L, status) : 1;
}
