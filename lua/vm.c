/* SPDX-License-Identifier: MIT
 *
 * vm.c - policies in service: loading one, and the functions that the core calls through hooks.
 *
 * A loaded policy is a ruleset whose hooks point to a struct vm: the file's text and a script for
 * each worker, made before the policy is in force. A worker's script is used by one thread at a
 * time, so nothing here is locked; retire() runs after the last reference, when no call can be
 * under way. A script that ran out of memory is dropped and made anew at the next call.
 *
 * Only load can fail a request. A ttl, tags or related function that fails leaves the rule's own
 * values in place: it is counted each time, and logged once per second.
 */
#include "script.h"

#include <inttypes.h>
#include <math.h>
#include <stdio.h>

enum { N_HOOKS = 4, LOG_EVERY_MS = 1000 };

static const pln_ms never_logged = INT64_MIN;

struct vm {
    struct pln_source_text source;
    struct pln_cache *cache;
    const struct pln_host *host;
    struct pln_terms base;
    const struct pln_ruleset *ruleset; /* whose hooks these are: it outlives the vm */
    unsigned n_workers;
    struct pln_script **scripts; /* each used by its worker's thread alone */
    _Atomic pln_ms *logged_at;   /* by rule and hook */
    struct pln_spare_scripts spares;
};

/* One call of a policy's function, as its C frame sees it. */
struct call {
    struct vm *vm;
    const struct pln_match *match;
    struct pln_bytes key;
    struct pln_bytes value; /* not for load */
    uint8_t format;
    unsigned hook;
    struct pln_load *load;
    int status;          /* of load: PLN_OK, PLN_ABSENT, or a failure of the core's */
    bool has_ttl;        /* load gave one */
    bool is_answer;      /* load returned nil and an error: its word, not a fault of the script */
    char complaint[160]; /* about a ttl that load gave; "" for none */
};

static const char *hook_name(unsigned hook) {
    return hook == PLN_RULE_LOAD   ? "load"
           : hook == PLN_RULE_TTL  ? "ttl"
           : hook == PLN_RULE_TAGS ? "tags"
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

static void push_captures(lua_State *L, const struct pln_match *match) {
    if (lua_rawgetp(L, LUA_REGISTRYINDEX, &captures_key) == LUA_TNIL) {
        lua_pop(L, 1);
        make_captures(L);
    }
    luaL_getmetafield(L, -1, "__index");
    clear_table(L);
    for (unsigned i = 0; i < match->n_captures; i++) {
        lua_pushlstring(L, match->captures[i].len == 0 ? "" : match->captures[i].data,
                        match->captures[i].len);
        lua_setfield(L, -2, pln_template_name(match->rule->pattern, i));
    }
    lua_pop(L, 1);
}

/* The value that a load is to replace. One that Lua cannot read is as good as none: a host keeps
 * its own formats. */
static void push_old(lua_State *L, const struct call *call) {
    uint8_t format;
    struct pln_bytes old = pln_load_old(call->load, &format);
    if (old.data == NULL || pln_lua_decode(L, old, format) < 0) {
        lua_pushnil(L);
    }
}

/* Calls the function with key, captures and the value, which is the old one for load. */
static void call_function(lua_State *L, const struct call *call, int n_results) {
    pln_compile_push_function(L, call->match->index, call->hook);
    lua_pushlstring(L, call->key.data, call->key.len);
    push_captures(L, call->match);
    if (call->hook == PLN_RULE_LOAD) {
        push_old(L, call);
    } else if (pln_lua_decode(L, call->value, call->format) < 0) {
        luaL_error(L, "%s", pln_error_text());
    }
    lua_call(L, 3, n_results);
}

/* ---- what functions return ---- */

/* A ttl; 0 or less means that the value is not stored, which the core takes as a negative one. */
static bool to_ttl(lua_State *L, int index, pln_ms *ttl) {
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

static const char ttl_wanted[] = "a duration such as \"15m\", seconds or nil is wanted";

static int run_ttl(lua_State *L) {
    struct call *call = lua_touserdata(L, 1);
    char got[80];
    pln_ms ttl;
    call_function(L, call, 1);
    if (lua_isnil(L, -1)) {
        return 0;
    }
    if (!to_ttl(L, -1, &ttl)) {
        return luaL_error(L, "%s, got %s", ttl_wanted, pln_compile_got(L, -1, got, sizeof got));
    }
    pln_load_ttl(call->load, ttl);
    return 0;
}

/* Pushes a list's i-th text; raises where it is none of 1 to `longest` bytes. */
static struct pln_bytes push_item(lua_State *L, int list, size_t i, size_t longest) {
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

/* Adds a returned list to the load: all of it, or nothing where one item is wrong. */
static int run_list(lua_State *L) {
    struct call *call = lua_touserdata(L, 1);
    bool is_tags = call->hook == PLN_RULE_TAGS;
    size_t longest = is_tags ? PLN_MAX_TAG : PLN_MAX_KEY;
    char got[80];
    call_function(L, call, 1);
    int list = lua_gettop(L);
    if (lua_isnil(L, list)) {
        return 0;
    }
    if (!lua_istable(L, list)) {
        return luaL_error(L, "a list of texts or nil is wanted, got %s",
                          pln_compile_got(L, list, got, sizeof got));
    }
    size_t n = lua_rawlen(L, list);
    if (n > PLN_MAX_TAGS) {
        return luaL_error(L, "at most %d are allowed, got %d", PLN_MAX_TAGS, (int) n);
    }
    for (size_t i = 1; i <= n; i++) {
        push_item(L, list, i, longest);
        lua_pop(L, 1);
    }
    for (size_t i = 1; i <= n; i++) {
        struct pln_bytes item = push_item(L, list, i, longest);
        int status = is_tags ? pln_load_tag(call->load, item) : pln_load_related(call->load, item);
        if (status < 0) {
            return luaL_error(L, "%s", pln_error_text());
        }
        lua_pop(L, 1);
    }
    return 0;
}

static void take_value(lua_State *L, int index, struct call *call) {
    struct pln_bytes bytes;
    uint8_t format;
    if (pln_same_is(L, index)) {
        call->status = pln_load_same(call->load);
        if (call->status < 0) {
            luaL_error(L, "%s", pln_error_text());
        }
        return;
    }
    if (pln_lua_encode(L, index, &bytes, &format) < 0) {
        luaL_error(L, "%s", pln_error_text());
    }
    call->status = pln_load_value(call->load, bytes, format);
}

/* load: value or not_modified | nil | nil, error | value or nil, nil, ttl */
static int run_load(lua_State *L) {
    struct call *call = lua_touserdata(L, 1);
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
        if (to_ttl(L, value + 2, &ttl)) {
            pln_load_ttl(call->load, ttl);
            call->has_ttl = true;
        } else {
            snprintf(call->complaint, sizeof call->complaint, "third result: %s, got %s",
                     ttl_wanted, pln_compile_got(L, value + 2, got, sizeof got));
        }
    }
    return 0;
}

/* ---- scripts ---- */

static int make_script(struct vm *vm, struct pln_script **script) {
    struct pln_script *created = NULL;
    struct pln_ruleset *again = NULL;
    int status = pln_script_new(&vm->source, vm->host, &created);
    if (status < 0) {
        return status;
    }
    created->is_quiet = true;
    status = pln_compile(created, &vm->source, &vm->base, &again);
    if (status == PLN_OK && !pln_compile_is_same(vm->ruleset, again)) {
        status = pln_fail(PLN_EPOLICY, "%s: it states other rules each time it is read",
                          vm->source.file);
    }
    created->is_quiet = false;
    created->cache = vm->cache;
    pln_ruleset_unref(again);
    if (status < 0) {
        pln_script_free(created);
        return status;
    }
    *script = created;
    return PLN_OK;
}

/* Runs one of the functions above in the worker's script. Returns: PLN_OK; negative with a text. */
static int run(struct vm *vm, unsigned worker, lua_CFunction function, struct call *call,
               unsigned budget_ms) {
    assert(worker < vm->n_workers);
    if (vm->scripts[worker] == NULL) {
        int status = make_script(vm, &vm->scripts[worker]);
        if (status < 0) {
            return status;
        }
    }
    struct pln_script *script = vm->scripts[worker];
    int status = pln_script_call(script, function, call, budget_ms);
    if (status < 0) {
        status = pln_fail(PLN_EPOLICY, "%s", script->error);
        if (script->is_out_of_memory) {
            vm->scripts[worker] = NULL;
            pln_script_free(script);
        }
    }
    return status;
}

/* ---- failing ---- */

static bool may_log(struct vm *vm, const struct call *call) {
    size_t i = (size_t) call->match->index * N_HOOKS + (size_t) __builtin_ctz(call->hook);
    pln_ms now = pln_now(vm->host);
    /* relaxed, twice: the time orders nothing, and of several failing at once one may log */
    pln_ms last = atomic_load_explicit(&vm->logged_at[i], memory_order_relaxed);
    if (last != never_logged && now - last < LOG_EVERY_MS) {
        return false;
    }
    return atomic_compare_exchange_strong_explicit(&vm->logged_at[i], &last, now,
                                                   memory_order_relaxed, memory_order_relaxed);
}

static void report(struct vm *vm, const struct call *call, const char *what) {
    const struct pln_rule *rule = call->match->rule;
    pln_cache_policy_failed(vm->cache);
    if (may_log(vm, call)) {
        pln_logf(vm->host, PLN_LOG_WARN, "%s:%d: rule '%s': %s: %s (the rule's own terms hold)",
                 rule->file, rule->line, pln_template_text(rule->pattern), hook_name(call->hook),
                 what);
    }
}

/* ---- hooks ---- */

static void shape_by(unsigned worker, struct call *call, unsigned hook, lua_CFunction function) {
    if ((call->match->rule->hooks & hook) != 0) {
        call->hook = hook;
        if (run(call->vm, worker, function, call, PLN_SCRIPT_SHAPE_MS) < 0) {
            report(call->vm, call, pln_error_text());
        }
    }
}

static void shape(unsigned worker, struct call *call) {
    if (!call->has_ttl) {
        shape_by(worker, call, PLN_RULE_TTL, run_ttl);
    }
    shape_by(worker, call, PLN_RULE_TAGS, run_list);
    shape_by(worker, call, PLN_RULE_RELATED, run_list);
}

/* The program's, by its name; then, on its value, the rule's functions as ever. */
static int load_by_name(unsigned worker, struct call *call) {
    const struct pln_rule *rule = call->match->rule;
    int status = pln_cache_load_by_name(call->vm->cache, rule->loader, call->key, call->load,
                                        &call->has_ttl);
    if (status < 0) {
        return pln_fail(status, "%s:%d: rule '%s': %s", rule->file, rule->line,
                        pln_template_text(rule->pattern), pln_error_text());
    }
    if (status == PLN_OK) {
        call->value = pln_load_peek(call->load, &call->format);
        shape(worker, call);
    }
    return status;
}

static int on_load(void *arg, unsigned worker, const struct pln_match *match, struct pln_bytes key,
                   struct pln_load *load) {
    struct vm *vm = arg;
    const struct pln_rule *rule = match->rule;
    struct call call = {.vm = vm, .match = match, .key = key, .hook = PLN_RULE_LOAD, .load = load};
    if (rule->loader != NULL) {
        return load_by_name(worker, &call);
    }
    if (run(vm, worker, run_load, &call, PLN_SCRIPT_LOAD_MS) < 0) {
        if (!call.is_answer) {
            pln_cache_policy_failed(vm->cache);
        }
        return pln_fail(PLN_ELOADER, "%s:%d: rule '%s': load: %s", rule->file, rule->line,
                        pln_template_text(rule->pattern), pln_error_text());
    }
    if (call.complaint[0] != 0) {
        report(vm, &call, call.complaint);
    }
    if (call.status == PLN_OK) {
        call.value = pln_load_peek(load, &call.format);
        shape(worker, &call);
    }
    return call.status;
}

static int on_shape(void *arg, unsigned worker, const struct pln_match *match, struct pln_bytes key,
                    struct pln_bytes value, uint8_t format, struct pln_load *load) {
    struct call call = {
        .vm = arg, .match = match, .key = key, .value = value, .format = format, .load = load};
    shape(worker, &call);
    return PLN_OK;
}

/* Events come from any thread, and none may wait for a load: they have scripts of their own. */
static int on_raise(void *arg, const struct pln_event_rule *event, const struct pln_field *fields,
                    size_t n_fields, struct pln_raised *raised) {
    struct vm *vm = arg;
    struct pln_script *script = pln_spare_take(&vm->spares);
    int status = script != NULL ? PLN_OK : make_script(vm, &script);
    if (status == PLN_OK) {
        size_t n = (size_t) (event - vm->ruleset->events);
        status = pln_raise_run(script, n, fields, n_fields, raised);
        pln_spare_give_take(&vm->spares, script);
    }
    if (status < 0) {
        pln_cache_policy_failed(vm->cache);
        return pln_fail(status, "%s:%d: on '%s': %s", event->file, event->line, event->name,
                        pln_error_text());
    }
    return status;
}

static int on_again(void *arg, struct pln_ruleset **ruleset) {
    const struct vm *vm = arg;
    uint32_t flags = vm->source.is_trusted ? PLN_POLICY_TRUSTED : 0;
    return pln_policy_read(vm->cache, vm->ruleset->files[0], flags, ruleset);
}

static void free_vm(void *arg) {
    struct vm *vm = arg;
    if (vm == NULL) {
        return;
    }
    for (unsigned i = 0; vm->scripts != NULL && i < vm->n_workers; i++) {
        pln_script_free(vm->scripts[i]);
    }
    free(vm->scripts);
    pln_spare_fini(&vm->spares);
    free(vm->logged_at);
    pln_source_fini(&vm->source);
    free(vm);
}

/* ---- loading ---- */

static struct vm *new_vm(struct pln_cache *cache) {
    struct vm *vm = calloc(1, sizeof *vm);
    if (vm != NULL) {
        vm->cache = cache;
        vm->host = pln_cache_host(cache);
        vm->base = *pln_cache_terms(cache);
        vm->n_workers = pln_cache_workers(cache);
        vm->scripts = calloc(vm->n_workers, sizeof(struct pln_script *));
    }
    return vm;
}

/* Makes the vm the ruleset's, which frees it from now on. */
static int join_take(struct vm *vm, struct pln_ruleset *ruleset) {
    size_t n = ruleset->n_rules * N_HOOKS;
    ruleset->hooks = (struct pln_hooks){on_load, on_shape, free_vm, on_raise, on_again};
    ruleset->hooks_arg = vm;
    vm->ruleset = ruleset;
    vm->logged_at = malloc((n + 1) * sizeof *vm->logged_at);
    if (vm->logged_at == NULL || vm->scripts == NULL) {
        return pln_fail(PLN_ENOMEM, "policy: no memory");
    }
    for (size_t i = 0; i < n; i++) {
        atomic_init(&vm->logged_at[i], never_logged);
    }
    return PLN_OK;
}

/* Makes the scripts of all workers, so that no load has to wait until its worker has read the file.
 * The one that was checked is the first. */
static int make_scripts_take(struct vm *vm, struct pln_script *checked) {
    int status = PLN_OK;
    bool has_functions = false;
    for (size_t i = 0; i < vm->ruleset->n_rules; i++) {
        has_functions = has_functions || vm->ruleset->rules[i].hooks != 0;
    }
    checked->cache = vm->cache;
    vm->scripts[0] = checked;
    for (unsigned i = 1; has_functions && i < vm->n_workers && status == PLN_OK; i++) {
        status = make_script(vm, &vm->scripts[i]);
    }
    return status;
}

int pln_vm_read(struct pln_cache *cache, const char *path, uint32_t flags,
                struct pln_ruleset **ruleset) {
    struct pln_script *script = NULL;
    struct pln_ruleset *created = NULL;
    int status = PLN_ENOMEM;
    struct vm *vm = new_vm(cache);
    if (vm == NULL) {
        return pln_fail(PLN_ENOMEM, "policy: no memory");
    }
    if ((status = pln_source_init(&vm->source, path, flags)) < 0 ||
        (status = pln_script_new(&vm->source, vm->host, &script)) < 0 ||
        (status = pln_compile(script, &vm->source, &vm->base, &created)) < 0) {
        pln_script_free(script);
        free_vm(vm);
        return status;
    }
    if ((status = join_take(vm, created)) < 0) {
        pln_script_free(script);
    } else {
        status = make_scripts_take(vm, script);
    }
    if (status < 0) {
        pln_ruleset_unref(created);
        return status;
    }
    *ruleset = created;
    return PLN_OK;
}
