/* SPDX-License-Identifier: MIT
 *
 * vm.c - policies in service: loading one, and the functions that the core calls through hooks.
 *
 * A loaded policy is a ruleset whose hooks point to a struct vm: the file's text and a script for
 * each worker, made before the policy is in force. A worker's script is used by one thread at a
 * time, so nothing here is locked; retire() runs after the last reference, when no call can be
 * under way. A script that ran out of memory is dropped and made anew at the next call.
 *
 * Only load can fail a request, and what stores.c does: load_many, and what writes. A ttl, tags or
 * related function that fails leaves the rule's own values in place: it is counted each time, and
 * logged once per second. One that goes on failing is turned off for a while (fuse.c). For load and
 * those of stores.c that is so only where it had to be stopped: an error that it raises costs
 * little, and the next key may do better.
 */
#include "script.h"

#include "../core/base/stats.h"

#include <stdio.h>

enum { N_HOOKS = 6, SHAPING = PLN_RULE_TTL | PLN_RULE_TAGS | PLN_RULE_RELATED };

struct vm {
    struct pln_source_text source;
    struct pln_cache *cache;
    const struct pln_host *host;
    struct pln_terms base;
    const struct pln_ruleset *ruleset; /* whose hooks these are: it outlives the vm */
    unsigned n_workers, n_numbers;     /* the latter with threads that warm */
    struct pln_script **scripts;       /* each used by its worker's thread alone */
    struct pln_spare_scripts spares;
    struct pln_fuse *fuses; /* by rule and hook */
    unsigned budget_ms;     /* of ttl, tags and related */
};

/* ---- two readings of one file ----
 *
 * Statements made by loops over something that differs from state to state would give rules, alerts
 * and sources other functions than they were checked with. */

static bool has_same_events(const struct pln_ruleset *a, const struct pln_ruleset *b) {
    for (size_t i = 0; i < a->n_events; i++) {
        if (a->events[i].is_function != b->events[i].is_function ||
            strcmp(a->events[i].name, b->events[i].name) != 0) {
            return false;
        }
    }
    return true;
}

static bool has_same_rules(const struct pln_ruleset *a, const struct pln_ruleset *b) {
    for (size_t i = 0; i < a->n_rules; i++) {
        if (a->rules[i].hooks != b->rules[i].hooks ||
            strcmp(pln_template_text(a->rules[i].pattern),
                   pln_template_text(b->rules[i].pattern)) != 0) {
            return false;
        }
    }
    return true;
}

static bool has_same_alerts(const struct pln_ruleset *a, const struct pln_ruleset *b) {
    for (size_t i = 0; i < a->n_alerts; i++) {
        if (a->alerts[i].metric != b->alerts[i].metric ||
            a->alerts[i].has_call != b->alerts[i].has_call) {
            return false;
        }
    }
    return true;
}

static bool has_same_warming(const struct pln_warm_plan *a, const struct pln_warm_plan *b) {
    for (size_t i = 0; i < a->n_sources; i++) {
        if (a->sources[i].kind != b->sources[i].kind) {
            return false;
        }
    }
    return true;
}

static bool is_same(const struct pln_ruleset *a, const struct pln_ruleset *b) {
    return a->n_rules == b->n_rules && a->n_events == b->n_events && a->n_alerts == b->n_alerts &&
           a->warm.n_sources == b->warm.n_sources && has_same_events(a, b) &&
           has_same_rules(a, b) && has_same_alerts(a, b) && has_same_warming(&a->warm, &b->warm);
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
    if (status == PLN_OK && !is_same(vm->ruleset, again)) {
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

int pln_vm_script(void *arg, unsigned worker, struct pln_script **script) {
    struct vm *vm = arg;
    assert(worker < vm->n_numbers);
    int status = vm->scripts[worker] == NULL ? make_script(vm, &vm->scripts[worker]) : PLN_OK;
    *script = vm->scripts[worker];
    return status;
}

void pln_vm_leave(void *arg, unsigned worker) {
    struct vm *vm = arg;
    pln_script_free(vm->scripts[worker]);
    vm->scripts[worker] = NULL;
}

/* Counts where the last call had to be stopped. */
static bool count_overrun(struct vm *vm, const struct pln_script *script) {
    bool is_overrun = script->is_over || script->is_out_of_memory;
    if (is_overrun) {
        pln_cache_policy_count(vm->cache, script->is_over ? PLN_COUNT_POLICY_OUT_OF_TIME
                                                          : PLN_COUNT_POLICY_OUT_OF_MEMORY);
    }
    return is_overrun;
}

int pln_vm_run(void *arg, unsigned worker, lua_CFunction function, struct pln_call *call,
               unsigned budget_ms) {
    struct vm *vm = arg;
    struct pln_script *script;
    int status = pln_vm_script(vm, worker, &script);
    call->is_overrun = status < 0; /* it may have taken as long as reading may */
    if (status < 0) {
        return status;
    }
    if (script->is_running) { /* it used the cache, by a library of the host's */
        return pln_fail(PLN_EPOLICY, "%s: one of its functions waits for another", script->file);
    }
    status = pln_script_call(script, function, call, budget_ms);
    if (status < 0) {
        status = pln_fail(PLN_EPOLICY, "%s", script->error);
        call->is_overrun = count_overrun(vm, script);
        call->is_out_of_time = script->is_over;
        if (script->is_out_of_memory) {
            pln_vm_leave(vm, worker);
        }
    }
    return status;
}

void pln_vm_match(void *arg, const struct pln_rule *rule, struct pln_bytes key,
                  struct pln_match *match) {
    const struct vm *vm = arg;
    *match = (struct pln_match){.rule = rule, .index = (unsigned) (rule - vm->ruleset->rules)};
    (void) pln_template_match(rule->pattern, key, match->captures, &match->n_captures);
}

/* ---- failing ---- */

static struct pln_fuse *fuse_of(const struct vm *vm, const struct pln_call *call) {
    return &vm->fuses[call->match->index * N_HOOKS + (unsigned) __builtin_ctz(call->hook)];
}

static void log_failure(const struct vm *vm, const struct pln_call *call, const char *what,
                        bool is_turned_off) {
    const struct pln_rule *rule = call->match->rule;
    char turned_off[80] = "";
    unsigned others = SHAPING | (is_turned_off ? 0 : PLN_RULE_LOAD); /* of load a strange ttl */
    const char *rest = (call->hook & others) != 0 ? " (the rule's own terms hold)" : "";
    if (is_turned_off) {
        snprintf(turned_off, sizeof turned_off, "; turned off for %d s after %d failures in a row",
                 PLN_FUSE_OFF_MS / 1000, PLN_FUSE_FAILURES);
    }
    pln_logf(vm->host, PLN_LOG_WARN, "%s:%d: rule '%s': %s: %s%s%s", rule->file, rule->line,
             pln_template_text(rule->pattern), pln_call_name(call->hook), what, turned_off, rest);
}

/* Tells the fuse of a failure, and counts where that turned the function off. */
static bool turn_off(struct vm *vm, const struct pln_call *call) {
    bool is_turned_off = pln_fuse_fail(fuse_of(vm, call), pln_now(vm->host));
    if (is_turned_off) {
        pln_cache_policy_count(vm->cache, PLN_COUNT_POLICY_BREAKS);
    }
    return is_turned_off;
}

static void report(struct vm *vm, const struct pln_call *call, const char *what,
                   bool is_turned_off) {
    pln_cache_policy_failed(vm->cache);
    if (pln_fuse_may_log(fuse_of(vm, call), pln_now(vm->host)) || is_turned_off) {
        log_failure(vm, call, what, is_turned_off);
    }
}

bool pln_vm_may_call(void *arg, const struct pln_call *call) {
    struct vm *vm = arg;
    bool may = pln_fuse_lets(fuse_of(vm, call), pln_now(vm->host));
    if (!may) {
        pln_cache_policy_count(vm->cache, PLN_COUNT_POLICY_SKIPPED);
    }
    return may;
}

void pln_vm_succeeded(void *arg, const struct pln_call *call) {
    pln_fuse_succeed(fuse_of(arg, call));
}

void pln_vm_complain(void *arg, const struct pln_call *call, const char *what) {
    report(arg, call, what, false);
}

/* What is written behind is tried again by a schedule of its own, which needs no fuse. */
void pln_vm_failed(void *arg, const struct pln_call *call, const char *what) {
    struct vm *vm = arg;
    bool is_behind = call->hook == PLN_RULE_STORE &&
                     call->match->rule->writing.strategy == PLN_WRITE_BEHIND;
    if (!call->is_answer) {
        pln_cache_policy_failed(vm->cache);
    }
    if (!call->is_overrun || is_behind) {
        pln_fuse_succeed(fuse_of(vm, call)); /* it was not stopped */
    } else if (turn_off(vm, call)) {
        log_failure(vm, call, what, true);
    }
}

const char pln_vm_turned_off[] = "turned off for a while, since it had to be stopped again and "
                                 "again";

int pln_vm_fail(const struct pln_call *call, int status, const char *what) {
    const struct pln_rule *rule = call->match->rule;
    return pln_fail(status, "%s:%d: rule '%s': %s: %s", rule->file, rule->line,
                    pln_template_text(rule->pattern), pln_call_name(call->hook), what);
}

/* ---- hooks ---- */

static void shape_by(struct vm *vm, unsigned worker, struct pln_call *call, unsigned hook,
                     lua_CFunction function) {
    if ((call->match->rule->hooks & hook) == 0) {
        return;
    }
    call->hook = hook;
    if (!pln_vm_may_call(vm, call)) {
        return;
    }
    if (pln_vm_run(vm, worker, function, call, vm->budget_ms) < 0) {
        report(vm, call, pln_error_text(), turn_off(vm, call));
    } else {
        pln_fuse_succeed(fuse_of(vm, call));
    }
}

void pln_vm_shape(void *arg, unsigned worker, struct pln_call *call) {
    struct vm *vm = arg;
    if (!call->has_ttl) {
        shape_by(vm, worker, call, PLN_RULE_TTL, pln_call_ttl);
    }
    shape_by(vm, worker, call, PLN_RULE_TAGS, pln_call_list);
    shape_by(vm, worker, call, PLN_RULE_RELATED, pln_call_list);
}

static int load_failed(struct vm *vm, const struct pln_call *call) {
    char what[PLN_SCRIPT_ERROR + 1];
    snprintf(what, sizeof what, "%s", pln_error_text());
    pln_vm_failed(vm, call, what);
    return pln_vm_fail(call, PLN_ELOADER, what);
}

/* The program's, by its name; then, on its value, the rule's functions as ever. */
static int load_by_name(struct vm *vm, unsigned worker, struct pln_call *call) {
    const struct pln_rule *rule = call->match->rule;
    int status = pln_cache_load_by_name(vm->cache, rule->loader, call->key, call->load,
                                        &call->has_ttl);
    if (status < 0) {
        return pln_fail(status, "%s:%d: rule '%s': %s", rule->file, rule->line,
                        pln_template_text(rule->pattern), pln_error_text());
    }
    if (status == PLN_OK) {
        call->value = pln_load_peek(call->load, &call->format);
        pln_vm_shape(vm, worker, call);
    }
    return status;
}

static int on_load(void *arg, unsigned worker, const struct pln_match *match, struct pln_bytes key,
                   struct pln_load *load) {
    struct vm *vm = arg;
    struct pln_call call = {.match = match, .key = key, .hook = PLN_RULE_LOAD, .load = load};
    if (match->rule->loader != NULL) {
        return load_by_name(vm, worker, &call);
    }
    if (!pln_vm_may_call(vm, &call)) {
        return pln_vm_fail(&call, PLN_ELOADER, pln_vm_turned_off);
    }
    if (pln_vm_run(vm, worker, pln_call_load, &call, PLN_SCRIPT_LOAD_MS) < 0) {
        return load_failed(vm, &call);
    }
    pln_fuse_succeed(fuse_of(vm, &call));
    if (call.complaint[0] != 0) {
        report(vm, &call, call.complaint, false);
    }
    if (call.status == PLN_OK) {
        call.value = pln_load_peek(load, &call.format);
        pln_vm_shape(vm, worker, &call);
    }
    return call.status;
}

static int on_shape(void *arg, unsigned worker, const struct pln_match *match, struct pln_bytes key,
                    struct pln_bytes value, uint8_t format, struct pln_load *load) {
    struct pln_call call = {
        .match = match, .key = key, .value = value, .format = format, .load = load};
    pln_vm_shape(arg, worker, &call);
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
        count_overrun(vm, script);
        pln_spare_give_take(&vm->spares, script);
    }
    if (status < 0) {
        pln_cache_policy_failed(vm->cache);
        return pln_fail(status, "%s:%d: on '%s': %s", event->file, event->line, event->name,
                        pln_error_text());
    }
    return status;
}

static void on_alert(void *arg, unsigned worker, unsigned index,
                     const struct pln_alert_news *news) {
    struct vm *vm = arg;
    const struct pln_alert *alert = &vm->ruleset->alerts[index];
    struct pln_alert_call call = {.alert = alert, .index = index, .news = news};
    if (pln_vm_run(vm, worker, pln_alert_tell, &call.call, vm->budget_ms) < 0) {
        pln_cache_policy_failed(vm->cache);
        pln_logf(vm->host, PLN_LOG_WARN, "%s:%d: alert '%s': call: %s", alert->file, alert->line,
                 alert->name, pln_error_text());
    }
}

static int on_again(void *arg, struct pln_ruleset **ruleset) {
    const struct vm *vm = arg;
    uint32_t flags = vm->source.is_trusted ? PLN_POLICY_TRUSTED : 0;
    return pln_policy_read(vm->cache, vm->ruleset->files[0], flags, ruleset);
}

/* Any script may have been in the midst of a call, or of its end: all are made anew when they are
 * needed, and their memory is given up. */
static void after_fork(void *arg) {
    struct vm *vm = arg;
    for (unsigned i = 0; i < vm->n_numbers; i++) {
        vm->scripts[i] = NULL;
    }
    pln_spare_forget(&vm->spares);
}

static void free_vm(void *arg) {
    struct vm *vm = arg;
    if (vm == NULL) {
        return;
    }
    for (unsigned i = 0; vm->scripts != NULL && i < vm->n_numbers; i++) {
        pln_script_free(vm->scripts[i]);
    }
    free(vm->scripts);
    pln_spare_fini(&vm->spares);
    free(vm->fuses);
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
        vm->n_numbers = pln_cache_numbers(cache);
        vm->budget_ms = (unsigned) pln_cache_policy_budget(cache);
        vm->scripts = calloc(vm->n_numbers, sizeof(struct pln_script *));
    }
    return vm;
}

/* Makes the vm the ruleset's, which frees it from now on. */
static int join_take(struct vm *vm, struct pln_ruleset *ruleset) {
    size_t n = ruleset->n_rules * N_HOOKS;
    ruleset->hooks = (struct pln_hooks){.load = on_load,
                                        .shape = on_shape,
                                        .retire = free_vm,
                                        .raise = on_raise,
                                        .again = on_again,
                                        .name_keys = pln_naming_run,
                                        .leave = pln_vm_leave,
                                        .after_fork = after_fork,
                                        .describe = pln_policy_describe,
                                        .alert = on_alert,
                                        .store = pln_stores_run,
                                        .load_many = pln_stores_load_many};
    ruleset->hooks_arg = vm;
    vm->ruleset = ruleset;
    vm->fuses = malloc((n + 1) * sizeof *vm->fuses);
    if (vm->fuses == NULL || vm->scripts == NULL) {
        return pln_fail(PLN_ENOMEM, "policy: no memory");
    }
    for (size_t i = 0; i < n; i++) {
        pln_fuse_init(&vm->fuses[i]);
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
