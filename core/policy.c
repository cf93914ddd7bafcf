/* SPDX-License-Identifier: MIT
 *
 * policy.c - the life of a ruleset, and the search for a key's rule.
 *
 * A ruleset is written by its builder alone, then published with one reference and only read from
 * there on. The first rule that matches, in the order of the file, is a key's; matcher.c finds it
 * without trying them all, but for rulesets made by hand and never finished.
 */
#include "policy.h"

struct pln_ruleset *pln_ruleset_new(void) {
    struct pln_ruleset *ruleset = calloc(1, sizeof *ruleset);
    if (ruleset != NULL) {
        atomic_init(&ruleset->refs, 1);
        ruleset->warm.concurrency = 8;
        ruleset->warm.ready_at = 1;
    }
    return ruleset;
}

int pln_ruleset_finish(struct pln_ruleset *ruleset) {
    assert(ruleset->matcher == NULL);
    return ruleset->n_rules == 0
               ? PLN_OK
               : pln_matcher_new(ruleset->rules, ruleset->n_rules, &ruleset->matcher);
}

void pln_ruleset_ref(struct pln_ruleset *ruleset) {
    /* relaxed: whoever copies a reference holds one, so the count cannot reach zero meanwhile */
    atomic_fetch_add_explicit(&ruleset->refs, 1, memory_order_relaxed);
}

static void free_templates(struct pln_template **templates, size_t n) {
    for (size_t i = 0; i < n; i++) {
        pln_template_free(templates[i]);
    }
    free(templates);
}

static void free_rules(struct pln_ruleset *ruleset) {
    for (size_t i = 0; i < ruleset->n_rules; i++) {
        struct pln_rule *rule = &ruleset->rules[i];
        pln_template_free(rule->pattern);
        free_templates(rule->tags, rule->n_tags);
        free((char *) rule->loader);
        free((char *) rule->store);
        free((char *) rule->class_name);
        free((char *) rule->file);
        free((char *) rule->origins);
    }
    free(ruleset->rules);
}

static void free_sources(struct pln_warm_plan *plan) {
    for (size_t i = 0; i < plan->n_sources; i++) {
        struct pln_warm_source *source = &plan->sources[i];
        for (size_t k = 0; k < source->n_keys; k++) {
            free((void *) source->keys[k].data);
        }
        free(source->keys);
        free(source->name);
    }
    free(plan->sources);
}

static void free_events(struct pln_ruleset *ruleset) {
    for (size_t i = 0; i < ruleset->n_events; i++) {
        struct pln_event_rule *event = &ruleset->events[i];
        free(event->name);
        free_templates(event->keys, event->n_keys);
        free_templates(event->tags, event->n_tags);
        free(event->file);
    }
    free(ruleset->events);
    for (size_t i = 0; i < ruleset->n_sources; i++) {
        free(ruleset->sources[i].name);
        free(ruleset->sources[i].group);
        free(ruleset->sources[i].file);
    }
    free(ruleset->sources);
}

void pln_ruleset_unref(struct pln_ruleset *ruleset) {
    if (ruleset == NULL) {
        return;
    }
    /* R1 acq_rel: every user's last reads come before the free, by whoever does that; one order for
     * both, since the thread sanitizer does not see a fence */
    if (atomic_fetch_sub_explicit(&ruleset->refs, 1, memory_order_acq_rel) != 1) {
        return;
    }
    if (ruleset->hooks.retire != NULL) {
        ruleset->hooks.retire(ruleset->hooks_arg);
    }
    pln_matcher_free(ruleset->matcher);
    free_rules(ruleset);
    free_sources(&ruleset->warm);
    free_events(ruleset);
    for (size_t i = 0; i < ruleset->n_alerts; i++) {
        free(ruleset->alerts[i].name);
        free(ruleset->alerts[i].file);
    }
    free(ruleset->alerts);
    for (size_t i = 0; i < ruleset->n_tests; i++) {
        free(ruleset->tests[i].key);
        free(ruleset->tests[i].failure);
    }
    free(ruleset->tests);
    for (size_t i = 0; i < ruleset->n_files; i++) {
        free(ruleset->files[i]);
    }
    free(ruleset->files);
    free(ruleset->costs);
    free(ruleset);
}

static size_t try_each(const struct pln_ruleset *ruleset, struct pln_bytes key,
                       struct pln_match *match) {
    size_t i = 0;
    while (i < ruleset->n_rules && !pln_template_match(ruleset->rules[i].pattern, key,
                                                       match->captures, &match->n_captures)) {
        i++;
    }
    return i;
}

void pln_ruleset_match(const struct pln_ruleset *ruleset, struct pln_bytes key,
                       struct pln_match *match) {
    size_t found = ruleset->matcher != NULL ? pln_matcher_find(ruleset->matcher, key,
                                                               match->captures, &match->n_captures)
                                            : try_each(ruleset, key, match);
    bool is_found = found < ruleset->n_rules;
    match->rule = is_found ? &ruleset->rules[found] : NULL;
    match->index = is_found ? (unsigned) found : 0;
    match->n_captures = is_found ? match->n_captures : 0;
}
