/* SPDX-License-Identifier: MIT
 *
 * cost.c - what loads take: for each rule, and for what no rule matches, a moving average that
 * outlives the policy's reloads.
 */
#include "engine.h"

enum { REMEMBERED = 8 };

void pln_cost_note(const struct pln_terms *terms, pln_ms took) {
    if (terms->cost == NULL) {
        return;
    }
    /* relaxed both: an average by itself; of two loads that end at once one may count for nothing
     */
    int64_t average = atomic_load_explicit(terms->cost, memory_order_relaxed);
    int64_t sample = took < 0 ? 0 : took < UINT32_MAX / 1000 ? took * 1000 : UINT32_MAX;
    average = average == 0 ? sample : average + (sample - average) / REMEMBERED;
    atomic_store_explicit(terms->cost, (uint32_t) average, memory_order_relaxed);
}

double pln_cost(const struct pln_terms *terms) {
    /* relaxed: as above */
    return terms->cost == NULL ? 0 : atomic_load_explicit(terms->cost, memory_order_relaxed) / 1e3;
}

static const char *text_of(const struct pln_ruleset *ruleset, size_t i) {
    return pln_template_text(ruleset->rules[i].pattern);
}

/* The former rule with a pattern, or none: its number, else that of rules. The search begins where
 * the last one ended, since most files change little. */
static size_t find(const struct pln_ruleset *former, const char *text, size_t from) {
    for (size_t n = 0; n < former->n_rules; n++) {
        size_t i = (from + n) % former->n_rules;
        if (strcmp(text_of(former, i), text) == 0) {
            return i;
        }
    }
    return former->n_rules;
}

void pln_costs_follow(struct pln_ruleset *ruleset, const struct pln_ruleset *former) {
    if (ruleset->costs != NULL) {
        return; /* it has been in force before */
    }
    ruleset->costs = calloc(ruleset->n_rules + 1, sizeof *ruleset->costs);
    if (ruleset->costs == NULL) {
        return;
    }
    for (size_t i = 0, at = 0; i < ruleset->n_rules; i++) {
        ruleset->rules[i].terms.cost = &ruleset->costs[i];
        size_t same = former->costs == NULL ? former->n_rules
                                            : find(former, text_of(ruleset, i), at);
        if (same < former->n_rules) {
            /* relaxed both: an average by itself, and nobody else has the new one yet */
            atomic_store_explicit(&ruleset->costs[i],
                                  atomic_load_explicit(&former->costs[same], memory_order_relaxed),
                                  memory_order_relaxed);
            at = same + 1;
        }
    }
}
