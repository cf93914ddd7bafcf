/* SPDX-License-Identifier: MIT
 *
 * bulk_call.c - one call of a loader of many keys: the program's, in the thread that asks, or a
 * rule's, where the policy's states are: on a worker, or in this thread where it has a number.
 */
#include "alert.h"
#include "hosts.h"
#include "nested.h"
#include "way.h"

bool pln_rule_loads_many(const struct pln_rule *rule) {
    return rule != NULL && (rule->hooks & PLN_RULE_LOAD_MANY) != 0 && !rule->terms.is_denied;
}

bool pln_many_may_load(const struct pln_many *many) {
    if ((many->options->flags & PLN_GET_NO_LOAD) != 0) {
        return false;
    }
    struct pln_ruleset *ruleset = pln_cache_policy(many->cache);
    bool may_load = ruleset->loads_many;
    pln_ruleset_unref(ruleset);
    return may_load;
}

static int run(void *arg, unsigned worker) {
    const struct pln_bulk_call *call = arg;
    const struct pln_request *request = call->request;
    const struct pln_ruleset *ruleset = request->ruleset;
    struct pln_nested nested;
    if (call->loader == NULL && !pln_rule_loads_many(request->match.rule)) {
        return pln_fail(PLN_ELOADER, "get_many: the policy that could load this has been replaced");
    }
    pln_nested_enter_many(&nested, request->cache, call->bulk->keys, call->bulk->n);
    pln_fail(PLN_ELOADER, "get_many: the loader failed and gave no reason");
    int status = call->loader != NULL ? call->loader(call->arg, call->bulk)
                                      : ruleset->hooks.load_many(ruleset->hooks_arg, worker,
                                                                 request->match.rule, call->bulk);
    pln_nested_leave(&nested);
    return status;
}

int pln_bulk_load(struct pln_bulk_call *call) {
    struct pln_cache *cache = call->request->cache;
    pln_count(cache->counts, PLN_COUNT_LOADS, call->bulk->n);
    pln_ns began = pln_clock_precise();
    int status = call->loader != NULL || call->loads_as > 0
                     ? run(call, call->loads_as - 1)
                     : pln_ask_worker(cache, run, call, call->request->timeout_ms, "get_many",
                                      PLN_ETIMEOUT);
    pln_alerts_note_load(cache->alerts, pln_clock_precise() - began);
    return status > 0 ? pln_fail(PLN_ELOADER, "get_many: the loader returned status %d", status)
                      : status;
}
