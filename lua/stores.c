/* SPDX-License-Identifier: MIT
 *
 * stores.c - the functions of a policy that write to a store of record, and those that load many
 * keys at once: what they are given, and what is believed of their answers.
 *
 * Through and around a function is called for one write after the other, behind once for a batch.
 * What one says of a write is that write's status and error; where it raises, or says that none is
 * stored, it is the whole call's. One that had to be stopped has perhaps stored what it was given.
 */
#include "script.h"

/* A call of a function that writes. */
struct writing {
    struct pln_call call;
    struct pln_store_item *items;
    size_t n;
    int status; /* what none is stored with */
};

static struct writing *writing_of(lua_State *L) {
    return PLN_CONTAINER_OF(lua_touserdata(L, 1), struct writing, call);
}

/* With the text of the last failure. */
static void fail_last(struct pln_store_item *item, int status) {
    item->status = status;
    (void) snprintf(item->error, sizeof item->error, "%s", pln_error_text());
}

/* Fails one item with a text that names file, line and rule. */
static void fail_item(const struct writing *writing, struct pln_store_item *item, int status,
                      const char *what) {
    fail_last(item, pln_vm_fail(&writing->call, status, what));
}

/* ---- what they are given ---- */

static void push_captures(lua_State *L, const struct pln_rule *rule, struct pln_bytes key) {
    struct pln_match match = {.rule = rule};
    (void) pln_template_match(rule->pattern, key, match.captures, &match.n_captures);
    lua_createtable(L, 0, (int) match.n_captures);
    pln_call_set_captures(L, &match);
}

/* Pushes { key =, m =, value =, op =, id =, version =, attempt = }; false, with the item failed and
 * nothing pushed, where its value is nothing that Lua can read. */
static bool push_item(lua_State *L, const struct writing *writing, struct pln_store_item *item) {
    bool has_value = item->op == PLN_STORE_SET && !item->is_absent;
    if (has_value && pln_lua_decode(L, item->value, item->format) < 0) {
        char what[PLN_SCRIPT_ERROR + 1];
        snprintf(what, sizeof what, "%s", pln_error_text());
        fail_item(writing, item, PLN_EINVAL, what);
        return false;
    }
    lua_createtable(L, 0, 8);
    if (has_value) {
        lua_insert(L, -2);
        lua_setfield(L, -2, "value");
    }
    lua_pushlstring(L, item->key.data, item->key.len);
    lua_setfield(L, -2, "key");
    push_captures(L, writing->call.match->rule, item->key);
    lua_setfield(L, -2, "m");
    lua_pushstring(L, has_value ? "set" : "delete");
    lua_setfield(L, -2, "op");
    lua_pushinteger(L, item->attempt);
    lua_setfield(L, -2, "attempt");
    if (item->version != 0) {
        lua_pushstring(L, item->id);
        lua_setfield(L, -2, "id");
        lua_pushinteger(L, (lua_Integer) item->version);
        lua_setfield(L, -2, "version");
    }
    return true;
}

/* ---- what they answer ---- */

/* The word behind a reason. */
static int status_of(lua_State *L, int index) {
    const char *word = lua_type(L, index) == LUA_TSTRING ? lua_tostring(L, index) : "";
    return strcmp(word, "never") == 0     ? PLN_EINVAL
           : strcmp(word, "unknown") == 0 ? PLN_ETIMEOUT
                                          : PLN_ESTORE;
}

/* nil or false, why, word: raises that none is stored. stack: ..., answer, why, word */
static void take_failure(lua_State *L, struct writing *writing, int answer) {
    if (lua_isnil(L, answer + 1)) {
        lua_pushstring(L, lua_isnil(L, answer) ? "it gave no reason" : "it returned false");
        lua_replace(L, answer + 1);
    }
    writing->call.is_answer = true;
    writing->status = status_of(L, answer + 2);
    luaL_tolstring(L, answer + 1, NULL);
    lua_error(L);
}

static bool is_failure(lua_State *L, int answer) {
    return lua_isnil(L, answer) ? !lua_isnil(L, answer + 1) || !lua_isnil(L, answer + 2)
                                : lua_isboolean(L, answer) && !lua_toboolean(L, answer);
}

/* The reason on top of the stack, "why" or { "why", "never" }, becomes the item's. */
static void take_reason(lua_State *L, const struct writing *writing, struct pln_store_item *item) {
    int status = PLN_ESTORE, top = lua_gettop(L);
    char what[PLN_STORE_TEXT];
    size_t len;
    if (lua_istable(L, top)) {
        lua_rawgeti(L, top, 1);
        lua_rawgeti(L, top, 2);
        status = status_of(L, -1);
        lua_pop(L, 1);
    }
    const char *text = luaL_tolstring(L, -1, &len);
    pln_script_escape(what, sizeof what, text, len);
    fail_item(writing, item, status, what);
    lua_settop(L, top);
}

/* A table of reasons by an item's place in the list that was given. */
static void take_reasons(lua_State *L, const struct writing *writing, int reasons,
                         const size_t *which, size_t n) {
    char got[80];
    lua_pushnil(L);
    while (lua_next(L, reasons) != 0) {
        lua_Integer i = lua_isinteger(L, -2) ? lua_tointeger(L, -2) : 0;
        if (i < 1 || (size_t) i > n) {
            luaL_error(L, "an index from 1 to %d is wanted in the table of what failed, got %s",
                       (int) n, pln_compile_got(L, -2, got, sizeof got));
        }
        take_reason(L, writing, &writing->items[which[i - 1]]);
        lua_pop(L, 1);
    }
}

/* ---- the calls ---- */

/* f(items) */
static int write_batch(lua_State *L) {
    struct writing *writing = writing_of(L);
    size_t n = 0;
    size_t *which = lua_newuserdatauv(L, writing->n * sizeof *which, 0);
    pln_compile_push_function(L, writing->call.match->index, PLN_RULE_STORE);
    lua_createtable(L, (int) writing->n, 0);
    for (size_t i = 0; i < writing->n; i++) {
        if (writing->items[i].status == PLN_OK && push_item(L, writing, &writing->items[i])) {
            which[n++] = i;
            lua_rawseti(L, -2, (lua_Integer) n);
        }
    }
    if (n == 0) {
        return 0;
    }
    lua_call(L, 1, 3);
    int answer = lua_gettop(L) - 2;
    if (is_failure(L, answer)) {
        take_failure(L, writing, answer);
    }
    if (lua_istable(L, answer)) {
        take_reasons(L, writing, answer, which, n);
    }
    return 0;
}

/* f(key, m, value, item) */
static int write_one(lua_State *L) {
    struct writing *writing = writing_of(L);
    static const char *const names[] = {"key", "m", "value"};
    if (!push_item(L, writing, writing->items)) {
        return 0;
    }
    pln_compile_push_function(L, writing->call.match->index, PLN_RULE_STORE);
    for (size_t i = 0; i < PLN_ARRAY_LEN(names); i++) {
        lua_getfield(L, 2, names[i]);
    }
    lua_pushvalue(L, 2);
    lua_call(L, 4, 3);
    int answer = lua_gettop(L) - 2;
    if (is_failure(L, answer)) {
        take_failure(L, writing, answer);
    }
    return 0;
}

/* Runs one of the two. Returns: PLN_OK; negative with a text that names file, line and rule. */
static int run(void *arg, unsigned worker, struct writing *writing, lua_CFunction function,
               pln_ms budget) {
    struct pln_call *call = &writing->call;
    char what[PLN_SCRIPT_ERROR + 1];
    call->is_answer = false;
    writing->status = PLN_ESTORE;
    if (pln_vm_run(arg, worker, function, call, (unsigned) budget) == PLN_OK) {
        pln_vm_succeeded(arg, call);
        return PLN_OK;
    }
    snprintf(what, sizeof what, "%s", pln_error_text());
    pln_vm_failed(arg, call, what);
    return pln_vm_fail(call, call->is_out_of_time ? PLN_ETIMEOUT : writing->status, what);
}

/* The last one that is begun within the rule's time may take as long again. */
static void run_each(void *arg, unsigned worker, struct writing *all) {
    pln_ms timeout = all->call.match->rule->writing.timeout_ms;
    pln_ns until = pln_clock_precise() + (pln_ns) timeout * 1000000;
    for (size_t i = 0; i < all->n; i++) {
        struct writing one = {.call = all->call, .items = &all->items[i], .n = 1};
        if (one.items->status != PLN_OK) {
            continue;
        }
        if (!pln_vm_may_call(arg, &one.call)) {
            fail_item(&one, one.items, PLN_ESTORE, pln_vm_turned_off);
        } else if (i > 0 && pln_clock_precise() >= until) {
            fail_item(&one, one.items, PLN_ESTORE, "there was no time left for it");
        } else {
            int status = run(arg, worker, &one, write_one, timeout);
            if (status < 0) {
                fail_last(one.items, status);
            }
        }
    }
}

int pln_stores_run(void *arg, unsigned worker, const struct pln_rule *rule,
                   struct pln_store_item *items, size_t n) {
    struct pln_match match;
    struct writing writing = {
        .call = {.match = &match, .hook = PLN_RULE_STORE}, .items = items, .n = n};
    pln_vm_match(arg, rule, items[0].key, &match);
    if (rule->writing.strategy == PLN_WRITE_BEHIND) {
        return run(arg, worker, &writing, write_batch, rule->writing.timeout_ms);
    }
    run_each(arg, worker, &writing);
    return PLN_OK;
}

/* ---- loading many ---- */

struct loading {
    struct pln_call call;
    const struct pln_bulk *bulk;
};

/* Pushes what load_many answers for keys: a table and nil, or nil and why. */
static void call_load_many(lua_State *L, const struct pln_match *match,
                           const struct pln_bytes *keys, size_t n) {
    char got[80];
    pln_compile_push_function(L, match->index, PLN_RULE_LOAD_MANY);
    int keys_at = lua_gettop(L) + 1;
    lua_createtable(L, (int) n, 0);
    lua_createtable(L, (int) n, 0);
    for (size_t i = 0; i < n; i++) {
        lua_pushlstring(L, keys[i].data, keys[i].len);
        lua_rawseti(L, keys_at, (lua_Integer) i + 1);
        push_captures(L, match->rule, keys[i]);
        lua_rawseti(L, keys_at + 1, (lua_Integer) i + 1);
    }
    lua_call(L, 2, 2);
    if (lua_isnil(L, -2) && !lua_isnil(L, -1)) {
        return;
    }
    if (!lua_istable(L, -2)) {
        luaL_error(L, "a table of values by their keys is wanted, got %s",
                   pln_compile_got(L, -2, got, sizeof got));
    }
    /* a list of values would be taken for the absence of all */
    for (lua_pushnil(L); lua_next(L, -3) != 0; lua_pop(L, 1)) {
        if (lua_type(L, -2) != LUA_TSTRING) {
            luaL_error(L, "a table of values by their keys is wanted, got one with the field %s",
                       pln_compile_got(L, -2, got, sizeof got));
        }
    }
}

static int encode(lua_State *L, const struct pln_terms *terms, struct pln_load *load) {
    struct pln_bytes bytes;
    uint8_t format;
    if (pln_same_take(L, -1, load)) {
        return PLN_OK;
    }
    int status = pln_lua_encode_as(L, -1, terms->codec, terms->is_plain, &bytes, &format);
    return status < 0 ? PLN_ELOADER : pln_load_value(load, bytes, format);
}

static int load_many(lua_State *L) {
    struct loading *loading = PLN_CONTAINER_OF(lua_touserdata(L, 1), struct loading, call);
    const struct pln_bulk *bulk = loading->bulk;
    struct pln_call *call = &loading->call;
    call_load_many(L, call->match, bulk->keys, bulk->n);
    int values = lua_gettop(L) - 1;
    if (lua_isnil(L, values)) {
        call->is_answer = true;
        luaL_tolstring(L, values + 1, NULL);
        return lua_error(L);
    }
    for (size_t i = 0; i < bulk->n; i++) {
        lua_pushlstring(L, bulk->keys[i].data, bulk->keys[i].len);
        if (lua_rawget(L, values) != LUA_TNIL) {
            bulk->statuses[i] = encode(L, &call->match->rule->terms, bulk->loads[i]);
            if (bulk->statuses[i] < 0) {
                int len = bulk->keys[i].len < 60 ? (int) bulk->keys[i].len : 60;
                snprintf(call->complaint, sizeof call->complaint, "key '%.*s': %.80s", len,
                         (const char *) bulk->keys[i].data, pln_error_text());
            }
        }
        lua_settop(L, values);
    }
    return 0;
}

void pln_stores_load_one(lua_State *L, const struct pln_call *call) {
    lua_pop(L, 1);
    call_load_many(L, call->match, &call->key, 1);
    if (!lua_isnil(L, -2)) {
        lua_pushlstring(L, call->key.data, call->key.len);
        lua_rawget(L, -3);
        lua_replace(L, -3);
        lua_pushnil(L);
        lua_replace(L, -2);
    }
    lua_pushnil(L);
}

static void shape_each(void *arg, unsigned worker, const struct pln_rule *rule,
                       const struct pln_bulk *bulk) {
    for (size_t i = 0; i < bulk->n; i++) {
        struct pln_match match;
        struct pln_call call = {.match = &match, .key = bulk->keys[i], .load = bulk->loads[i]};
        if (bulk->statuses[i] == PLN_OK) {
            pln_vm_match(arg, rule, call.key, &match);
            call.value = pln_load_peek(call.load, &call.format);
            pln_vm_shape(arg, worker, &call);
        }
    }
}

int pln_stores_load_many(void *arg, unsigned worker, const struct pln_rule *rule,
                         const struct pln_bulk *bulk) {
    struct pln_match match;
    struct loading loading = {.call = {.match = &match, .hook = PLN_RULE_LOAD_MANY}, .bulk = bulk};
    char what[PLN_SCRIPT_ERROR + 1];
    pln_vm_match(arg, rule, bulk->keys[0], &match);
    if (!pln_vm_may_call(arg, &loading.call)) {
        return pln_vm_fail(&loading.call, PLN_ELOADER, pln_vm_turned_off);
    }
    if (pln_vm_run(arg, worker, load_many, &loading.call, (unsigned) rule->terms.load_timeout_ms) <
        0) {
        snprintf(what, sizeof what, "%s", pln_error_text());
        pln_vm_failed(arg, &loading.call, what);
        return pln_vm_fail(&loading.call, PLN_ELOADER, what);
    }
    pln_vm_succeeded(arg, &loading.call);
    if (loading.call.complaint[0] != 0) {
        pln_vm_complain(arg, &loading.call, loading.call.complaint);
    }
    shape_each(arg, worker, rule, bulk);
    return PLN_OK;
}
