/* SPDX-License-Identifier: MIT
 *
 * store.c - stores of record: how the keys of a rule are written, whose function stores them, and
 * calling it.
 *
 * A rule that says nothing of writing is written as the options say, by their store. Stores that a
 * program has registered by name are kept beside its loaders, under the policy's lock. What is only
 * played (simulate.h, shadow.h) stores nothing: its writes are the live cache's, which has stored
 * them.
 */
#include "store.h"

#include "hosts.h"

#include <stdio.h>

int pln_register_store(struct pln_cache *cache, const char *name, pln_store store, void *arg) {
    return pln_register(cache, cache != NULL ? &cache->stores : NULL, "store", name,
                        (pln_function) store, arg);
}

/* ---- terms ---- */

static void default_ms(pln_ms *field, pln_ms value) {
    *field = *field != 0 ? *field : value;
}

static void fill_defaults(struct pln_write_options *writing) {
    writing->strategy = writing->strategy != 0 ? writing->strategy : PLN_WRITE_ASIDE;
    writing->when_full = writing->when_full != 0 ? writing->when_full : PLN_FULL_WAIT;
    writing->batch = writing->batch != 0 ? writing->batch : 500;
    writing->most = writing->most != 0 ? writing->most : 100000;
    writing->attempts = writing->attempts != 0 ? writing->attempts : 10;
    writing->dead = writing->dead != 0 ? writing->dead : 10000;
    default_ms(&writing->timeout_ms, 5000);
    default_ms(&writing->every_ms, 100);
    default_ms(&writing->backoff_ms, 200);
}

/* What is wrong whoever says it, the options or a rule. */
static int check(const struct pln_write_options *writing, const char *whose) {
    if (writing->strategy > PLN_WRITE_AROUND) {
        return pln_fail(PLN_EINVAL, "%s: no strategy has the number %u", whose, writing->strategy);
    }
    if (writing->when_full > PLN_FULL_REFUSE) {
        return pln_fail(PLN_EINVAL, "%s: when_full: no way has the number %u", whose,
                        writing->when_full);
    }
    if (writing->in_order && writing->when_full == PLN_FULL_THROUGH) {
        return pln_fail(PLN_EINVAL,
                        "%s: in_order: not with when_full through, which would pass "
                        "what waits",
                        whose);
    }
    if (writing->timeout_ms < 0 || writing->every_ms < 0 || writing->backoff_ms < 0) {
        return pln_fail(PLN_EINVAL, "%s: timeout, every and backoff must not be negative", whose);
    }
    return PLN_OK;
}

int pln_writing_resolve(const struct pln_write_options *given, struct pln_write_options *writing) {
    *writing = given != NULL ? *given : (struct pln_write_options){0};
    fill_defaults(writing);
    if (writing->strategy != PLN_WRITE_ASIDE && writing->store == NULL) {
        return pln_fail(PLN_EINVAL, "writing: a strategy but aside needs a store");
    }
    return check(writing, "writing");
}

bool pln_writing_equal(const struct pln_write_options *a, const struct pln_write_options *b) {
    static const struct pln_write_options aside = {0};
    b = b != NULL ? b : &aside;
    return a->strategy == b->strategy && a->in_order == b->in_order &&
           a->when_full == b->when_full && a->store == b->store && a->arg == b->arg &&
           a->timeout_ms == b->timeout_ms && a->batch == b->batch && a->every_ms == b->every_ms &&
           a->most == b->most && a->attempts == b->attempts && a->backoff_ms == b->backoff_ms &&
           a->dead == b->dead;
}

static bool has_own_store(const struct pln_rule *rule) {
    return (rule->hooks & PLN_RULE_STORE) != 0 || rule->store != NULL;
}

void pln_writing_settle(struct pln_cache *cache, struct pln_rule *rule) {
    uint8_t strategy = rule->terms.write != 0 ? rule->terms.write : PLN_WRITE_ASIDE;
    if (!has_own_store(rule) && strategy == cache->writing.strategy) {
        rule->writing = cache->writing;
    }
    rule->writing.strategy = strategy;
    fill_defaults(&rule->writing);
    if (strategy != PLN_WRITE_ASIDE) {
        /* relaxed: see pln_store_may_be() */
        atomic_store_explicit(&cache->may_store, true, memory_order_relaxed);
    }
}

const struct pln_write_options *pln_store_terms(const struct pln_cache *cache,
                                                const struct pln_rule *rule) {
    static const struct pln_write_options aside = {.strategy = PLN_WRITE_ASIDE};
    return cache->stand_in != NULL ? &aside : rule != NULL ? &rule->writing : &cache->writing;
}

bool pln_store_may_be(struct pln_cache *cache) {
    /* relaxed: a policy that comes meanwhile may hold for this call or not */
    return cache->stand_in == NULL && atomic_load_explicit(&cache->may_store, memory_order_relaxed);
}

uint64_t pln_store_changes(struct pln_cache *cache) {
    /* relaxed: who looks for a store has the lock under which this is changed */
    return atomic_load_explicit(&cache->registrations, memory_order_relaxed);
}

int pln_store_strategy(struct pln_cache *cache, const struct pln_rule *rule, const char *verb) {
    int strategy = pln_store_terms(cache, rule)->strategy;
    const struct pln_terms *terms = rule != NULL ? &rule->terms : &cache->terms;
    if (strategy != PLN_WRITE_BEHIND) {
        return strategy;
    }
    if (!cache->has_l2 || !terms->use_l2) {
        return pln_fail(PLN_EINVAL, "%s: the key is written behind, which needs Redis: %s", verb,
                        cache->has_l2 ? "its rule says l2 = false" : "the cache has none");
    }
    int status = pln_l2_queue_check(pln_cache_l2(cache));
    return status < 0 ? status : strategy;
}

int pln_store_check_client(struct pln_cache *cache) {
    struct pln_l2 *client = cache->stand_in == NULL ? pln_start_client(cache) : NULL;
    return client != NULL ? pln_l2_queue_check(client) : PLN_OK;
}

int pln_cache_check_policy(struct pln_cache *cache, const struct pln_ruleset *ruleset) {
    for (size_t i = 0; i < ruleset->n_rules; i++) {
        const struct pln_rule *rule = &ruleset->rules[i];
        if (rule->terms.write == PLN_WRITE_BEHIND && pln_store_check_client(cache) < 0) {
            char text[PLN_ERROR_TEXT];
            memcpy(text, pln_error_text(), sizeof text);
            return pln_fail(PLN_EPOLICY, "%s:%d: rule '%s': write: %s", rule->file, rule->line,
                            pln_template_text(rule->pattern), text);
        }
    }
    return PLN_OK;
}

/* ---- one call ---- */

struct call {
    struct pln_cache *cache;
    const struct pln_ruleset *ruleset;
    const struct pln_rule *rule;
    pln_store store; /* NULL: the policy's function */
    void *arg;
    struct pln_store_item *items;
    size_t n;
};

/* Whose store it is. */
static int find_store(struct call *call) {
    const struct pln_rule *rule = call->rule;
    if (rule == NULL || !has_own_store(rule)) {
        const struct pln_write_options *terms = pln_store_terms(call->cache, rule);
        call->store = terms->store;
        call->arg = terms->arg;
        return call->store != NULL ? PLN_OK
               : rule == NULL      ? pln_fail(PLN_ESTORE, "no store is given")
                                   : pln_fail(PLN_ESTORE, "%s:%d: rule '%s': no store is given",
                                              rule->file, rule->line, pln_template_text(rule->pattern));
    }
    if (rule->store == NULL) {
        return PLN_OK;
    }
    call->store = (pln_store) pln_registered_find(call->cache, &call->cache->stores, rule->store,
                                                  &call->arg);
    return call->store != NULL
               ? PLN_OK
               : pln_fail(PLN_ESTORE, "%s:%d: rule '%s': no store '%s' is registered", rule->file,
                          rule->line, pln_template_text(rule->pattern), rule->store);
}

bool pln_store_is_there(struct pln_cache *cache, const struct pln_rule *rule) {
    struct call call = {.cache = cache, .rule = rule};
    return pln_store_terms(cache, rule)->strategy != PLN_WRITE_ASIDE && find_store(&call) == PLN_OK;
}

static int ask_policy(void *arg, unsigned worker) {
    const struct call *call = arg;
    return call->ruleset->hooks.store(call->ruleset->hooks_arg, worker, call->rule, call->items,
                                      call->n);
}

/* What became of one item of a call that returned `status` with a text. */
static void judge(struct pln_store_item *item, int status, const char *text) {
    bool is_own = item->status < 0 && status != PLN_ETIMEOUT; /* else it may be stored, too */
    int own = is_own ? item->status : status;
    item->status = own == PLN_OK || own == PLN_EINVAL || own == PLN_ETIMEOUT ? own : PLN_ESTORE;
    if (item->status < 0 && item->error[0] == 0) {
        (void) snprintf(item->error, sizeof item->error, "%s", text);
    }
}

/* Returns the first item that is not stored, or NULL. */
static const struct pln_store_item *run_call(struct call *call) {
    static const char silent[] = "the store failed, and gave no reason";
    char text[PLN_STORE_TEXT];
    struct pln_counts *counts = call->cache->counts;
    const struct pln_store_item *first = NULL;
    size_t n_failed = 0;
    int status = find_store(call);
    if (status == PLN_OK) {
        pln_count(counts, PLN_COUNT_STORE_BATCHES, 1);
        pln_fail(PLN_ESTORE, "%s", silent);
        status = call->store != NULL
                     ? call->store(call->arg, call->items, call->n)
                     : pln_ask_worker(call->cache, ask_policy, call,
                                      pln_store_terms(call->cache, call->rule)->timeout_ms,
                                      "policy", PLN_ESTORE);
    }
    status = status > 0 ? pln_fail(PLN_ESTORE, "the store returned status %d", status) : status;
    bool has_said = status < 0 && call->items[0].error[0] != 0;
    (void) snprintf(text, sizeof text, "%.*s", PLN_STORE_TEXT - 1,
                    has_said     ? call->items[0].error
                    : status < 0 ? pln_error_text()
                                 : silent);
    for (size_t i = 0; i < call->n; i++) {
        judge(&call->items[i], status, text);
        n_failed += call->items[i].status < 0;
        first = first == NULL && call->items[i].status < 0 ? &call->items[i] : first;
    }
    pln_count(counts, PLN_COUNT_STORES, call->n - n_failed);
    pln_count(counts, PLN_COUNT_STORE_FAILURES, n_failed);
    return first;
}

int pln_store_run(struct pln_cache *cache, const struct pln_ruleset *ruleset,
                  const struct pln_rule *rule, struct pln_store_item *items, size_t n) {
    const struct pln_store_item *failed = NULL;
    struct call call = {.cache = cache, .ruleset = ruleset, .rule = rule};
    for (size_t i = 0; i < n; i += call.n + 1) { /* those side by side, in one call */
        call.items = items + i;
        for (call.n = 0; i + call.n < n && call.items[call.n].status == PLN_OK; call.n++) {
        }
        const struct pln_store_item *first = call.n > 0 ? run_call(&call) : NULL;
        failed = failed != NULL ? failed : first;
    }
    return failed == NULL ? PLN_OK : pln_fail(failed->status, "store: %s", failed->error);
}

void pln_store_fail(struct pln_store_item *item, int status, const char *text) {
    item->status = status < 0 ? status : PLN_OK;
    (void) snprintf(item->error, sizeof item->error, "%s", status < 0 && text != NULL ? text : "");
}
