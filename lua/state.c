/* SPDX-License-Identifier: MIT
 *
 * state.c - the states in which policies run: memory cap, time budget, protected calls, and errors
 * as text.
 *
 * The budget is kept by a count hook that looks at the clock. When it is gone the hook raises, and
 * goes on to raise at every instruction, so nothing of the script runs on: no pcall (the sandbox's
 * own hands the error up), no __close, no loop around them. What the hook raises is a light
 * userdata, for which no handler of the script has a meaning; the text is made here.
 *
 * One instruction may be much work where a text or a table is large: to compare two texts of 10 MB,
 * to look for the next field among a million empty ones. So the larger the largest block of a state
 * is, the more often the hook is called; and where the cap is reached, which makes Lua look through
 * all that there is, it is called next. Functions in C that loop charge their steps themselves.
 */
#include "script.h"

#include <stdio.h>
#include <time.h>

enum {
    HOOK_EVERY = 1000,      /* instructions: a look at the clock each 5 to 10 us, below 1% */
    SMALL_BYTES = 64 << 10, /* blocks up to here are no reason to look more often */
    LOOK_EVERY = 4096,      /* steps in C: 10 to 40 us */
    WALL_FACTOR = 4,
    WALL_LEAST_MS = 1000,
};

static void on_count(lua_State *L, lua_Debug *place);

struct pln_script *pln_script_of(lua_State *L) {
    struct pln_script *script;
    memcpy(&script, lua_getextraspace(L), sizeof script);
    return script;
}

static unsigned hook_interval(const struct pln_script *script) {
    size_t every = script->largest_bytes <= SMALL_BYTES
                       ? HOOK_EVERY
                       : (size_t) HOOK_EVERY * SMALL_BYTES / script->largest_bytes;
    return every == 0 ? 1 : (unsigned) every;
}

/* lua_sethook() may be called at any time, even from signals: also amid an allocation. */
static void look_every(struct pln_script *script, unsigned n) {
    if (script->is_armed && !script->is_over && script->hook_every != n) {
        script->hook_every = n;
        lua_sethook(script->L, on_count, LUA_MASKCOUNT, (int) n);
    }
}

static void look_soon(struct pln_script *script) {
    script->steps = LOOK_EVERY;
    look_every(script, 1);
}

static void note_block(struct pln_script *script, size_t size) {
    if (size > script->largest_bytes) {
        script->largest_bytes = size;
        if (hook_interval(script) < script->hook_every) {
            look_every(script, hook_interval(script));
        }
    }
}

static void *allocate(void *arg, void *block, size_t old_size, size_t size) {
    struct pln_script *script = arg;
    size_t old = block == NULL ? 0 : old_size; /* without a block it is a type */
    size_t limit = PLN_SCRIPT_MEMORY + (script->is_describing ? PLN_SCRIPT_RESERVE : 0);
    if (size == 0) {
        free(block);
        script->used_bytes -= old;
        return NULL;
    }
    if (!script->is_trusted && size > old && script->used_bytes - old + size > limit) {
        look_soon(script);
        return NULL;
    }
    void *moved = realloc(block, size);
    if (moved != NULL) {
        script->used_bytes += size - old;
        note_block(script, size);
    }
    return moved;
}

/* Nothing is called outside of a protected call, so nothing comes here; should it, it is said. */
static int on_panic(lua_State *L) {
    const char *text = lua_type(L, -1) == LUA_TSTRING ? lua_tostring(L, -1) : "no text";
    pln_logf(pln_script_of(L)->host, PLN_LOG_ERROR, "policy: an error outside of any call: %s",
             text);
    return 0;
}

static int open_environment(lua_State *L) {
    pln_sandbox_open(L, pln_script_of(L)->is_trusted);
    return 0;
}

int pln_script_new(const struct pln_source_text *source, const struct pln_host *host,
                   struct pln_script **script) {
    struct pln_script *created = calloc(1, sizeof *created);
    if (created == NULL) {
        return pln_fail(PLN_ENOMEM, "policy: no memory for a Lua state");
    }
    created->host = host;
    created->file = source->file;
    created->is_trusted = source->is_trusted;
    created->L = lua_newstate(allocate, created);
    if (created->L == NULL) {
        free(created);
        return pln_fail(PLN_ENOMEM, "policy: no memory for a Lua state");
    }
    memcpy(lua_getextraspace(created->L), &created, sizeof created);
    lua_atpanic(created->L, on_panic);
    if (pln_script_call(created, open_environment, NULL, PLN_SCRIPT_READ_MS) < 0) {
        pln_fail(PLN_ENOMEM, "policy: no Lua state: %s", created->error);
        pln_script_free(created);
        return PLN_ENOMEM;
    }
    *script = created;
    return PLN_OK;
}

void pln_script_free(struct pln_script *script) {
    if (script != NULL) {
        lua_close(script->L);
        assert(script->used_bytes == 0);
        free(script);
    }
}

/* ---- budget ----
 *
 * The budget is of this thread's processor time: on a crowded machine a good policy must not be
 * stopped for having waited. That clock costs a system call (0.2 us), the wall's does not; so the
 * wall is looked at first. At four times the budget it has the last word, but not before a second
 * has gone, which is as long as a thread may wait for its turn where much else is running. */

static pln_ns processor_time(void) {
    struct timespec time;
    clock_gettime(CLOCK_THREAD_CPUTIME_ID, &time);
    return (pln_ns) time.tv_sec * 1000000000 + time.tv_nsec;
}

pln_ns pln_script_spent(const struct pln_script *script) {
    return script->is_trusted ? 0 : processor_time() - script->started_processor;
}

static bool has_budget(const struct pln_script *script) {
    pln_ns budget = (pln_ns) script->budget_ms * 1000000, least = WALL_LEAST_MS * 1000000LL;
    pln_ns longest = WALL_FACTOR * budget > least ? WALL_FACTOR * budget : least;
    pln_ns waited = pln_clock_precise() - script->started;
    return waited < budget ||
           (waited < longest && processor_time() - script->started_processor < budget);
}

static _Noreturn void stop(struct pln_script *script, lua_State *L) {
    lua_pushlightuserdata(L, script);
    lua_error(L);
    abort(); /* lua_error() does not return, but is not declared so */
}

static void run_over(struct pln_script *script, lua_State *L, lua_Debug *place) {
    script->is_over = true;
    lua_getinfo(L, "Sl", place);
    snprintf(script->over_at, sizeof script->over_at, "%s:%d", place->short_src,
             place->currentline);
    lua_sethook(L, on_count, LUA_MASKCOUNT, 1);
}

static void on_count(lua_State *L, lua_Debug *place) {
    struct pln_script *script = pln_script_of(L);
    if (!script->is_over) {
        if (has_budget(script)) {
            look_every(script, hook_interval(script));
            return;
        }
        run_over(script, L, place);
    }
    stop(script, L);
}

void pln_script_charge(lua_State *L, size_t steps) {
    struct pln_script *script = pln_script_of(L);
    lua_Debug place;
    script->steps += steps;
    if (script->steps < LOOK_EVERY && !script->is_over) {
        return;
    }
    script->steps = 0;
    if (!script->is_over) {
        if (has_budget(script)) {
            return;
        }
        /* the script's own line: the nearest function that is not in C */
        for (int level = 1; lua_getstack(L, level, &place); level++) {
            lua_getinfo(L, "l", &place);
            if (place.currentline > 0) {
                break;
            }
        }
        run_over(script, L, &place);
    }
    stop(script, L);
}

static void arm(struct pln_script *script, unsigned budget_ms) {
    script->is_over = false;
    script->is_out_of_memory = false;
    script->budget_ms = budget_ms;
    script->steps = 0;
    if (!script->is_trusted) {
        if (script->largest_bytes > script->used_bytes) {
            script->largest_bytes = script->used_bytes; /* it has gone */
        }
        script->hook_every = hook_interval(script);
        script->started = pln_clock_precise();
        script->started_processor = processor_time();
        script->is_armed = true;
        lua_sethook(script->L, on_count, LUA_MASKCOUNT, (int) script->hook_every);
    }
}

static void disarm(struct pln_script *script) {
    script->is_armed = false;
    lua_sethook(script->L, NULL, 0, 0);
    if (script->is_over) {
        lua_gc(script->L, LUA_GCCOLLECT, 0); /* what it took; there are no finalizers */
    }
}

/* ---- errors as text ---- */

void pln_script_escape(char *to, size_t size, const char *from, size_t len) {
    size_t at = 0;
    for (size_t i = 0; i < len; i++) {
        unsigned char byte = (unsigned char) from[i];
        char piece[8];
        int n = byte == '\n'                 ? snprintf(piece, sizeof piece, "\\n")
                : byte < ' ' || byte == 0x7f ? snprintf(piece, sizeof piece, "\\%03u", byte)
                                             : snprintf(piece, sizeof piece, "%c", byte);
        if (n < 0 || at + (size_t) n >= size) {
            break;
        }
        memcpy(to + at, piece, (size_t) n);
        at += (size_t) n;
    }
    to[at] = 0;
}

static int to_text(lua_State *L) {
    luaL_tolstring(L, 1, NULL);
    return 1;
}

static void describe_overrun(struct pln_script *script) {
    bool is_short = script->budget_ms < 1000;
    snprintf(script->error, sizeof script->error, "%s: stopped: it ran longer than %g %s",
             script->over_at, is_short ? script->budget_ms : script->budget_ms / 1000.0,
             is_short ? "ms" : "s");
}

/* What is to be said besides of a global that is missing: the sandbox may have left it out. */
static const char *hint_at_trust(const struct pln_script *script, const char *text, size_t len) {
    static const char *const names[] = {"require",  "io",        "package",
                                        "debug",    "coroutine", "load",
                                        "loadfile", "dofile",    "collectgarbage"};
    char end[48];
    for (size_t i = 0; !script->is_trusted && i < PLN_ARRAY_LEN(names); i++) {
        size_t n = (size_t) snprintf(end, sizeof end, "a nil value (global '%s')", names[i]);
        if (len >= n && memcmp(text + len - n, end, n) == 0) {
            return ": only trusted policies have it (--trusted, or trusted = true)";
        }
    }
    return "";
}

/* Writes the text of the error on top of the stack; the hook is still armed for a __tostring. */
static void describe(struct pln_script *script, int status) {
    lua_State *L = script->L;
    if (pln_lua_is_memory_error(L, status)) {
        script->is_out_of_memory = true;
        snprintf(script->error, sizeof script->error, "%s: out of memory (%d MB are allowed)",
                 script->file, PLN_SCRIPT_MEMORY >> 20);
        return;
    }
    if (!script->is_over && lua_type(L, -1) != LUA_TSTRING) {
        lua_pushcfunction(L, to_text);
        lua_insert(L, -2);
        if (lua_pcall(L, 1, 1, 0) != LUA_OK && !script->is_over) {
            snprintf(script->error, sizeof script->error, "%s: an error whose text cannot be had",
                     script->file);
            return;
        }
    }
    if (script->is_over) {
        describe_overrun(script);
        return;
    }
    size_t len;
    const char *text = lua_tolstring(L, -1, &len);
    pln_script_escape(script->error, sizeof script->error, text, len);
    size_t at = strlen(script->error);
    snprintf(script->error + at, sizeof script->error - at, "%s", hint_at_trust(script, text, len));
}

int pln_script_call(struct pln_script *script, lua_CFunction function, void *arg,
                    unsigned budget_ms) {
    lua_State *L = script->L;
    assert(!script->is_running && lua_gettop(L) == 0);
    script->is_running = true;
    script->error[0] = 0;
    arm(script, budget_ms);
    lua_pushcfunction(L, function);
    lua_pushlightuserdata(L, arg);
    int status = lua_pcall(L, 1, 0, 0);
    if (status != LUA_OK || script->is_over) {
        script->is_describing = true;
        describe(script, status);
        script->is_describing = false;
    }
    lua_settop(L, 0);
    disarm(script);
    script->is_running = false;
    return status == LUA_OK && !script->is_over ? PLN_OK : PLN_EPOLICY;
}
