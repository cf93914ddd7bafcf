/* SPDX-License-Identifier: MIT
 *
 * events.c - what an event makes void: the keys and tags that the policy's cache.on names, filled
 * from the event's fields.
 *
 * All of an event is tried, whatever fails. What is told of several failures is first of all
 * whether trying again can help: who has an event from a stream (feeder.c) keeps it then.
 */
#include "feeder.h"

static const struct pln_event_rule *find(const struct pln_ruleset *ruleset,
                                         struct pln_bytes event) {
    for (size_t i = 0; i < ruleset->n_events; i++) {
        if (pln_bytes_equal(pln_key(ruleset->events[i].name), event)) {
            return &ruleset->events[i];
        }
    }
    return NULL;
}

/* How the event fares so far. */
struct outcome {
    int status;
    char text[PLN_ERROR_TEXT];
};

bool pln_event_may_pass(int status) {
    return status < 0 && status != PLN_EINVAL && status != PLN_ETOOBIG;
}

static void note(struct outcome *outcome, int status) {
    bool is_first = outcome->status == PLN_OK;
    if (status < 0 &&
        (is_first || (pln_event_may_pass(status) && !pln_event_may_pass(outcome->status)))) {
        outcome->status = status;
        memcpy(outcome->text, pln_error_text(), sizeof outcome->text);
    }
}

/* Why a template cannot be filled. */
static int refuse(const struct pln_template *template, const struct pln_field *fields,
                  size_t n_fields) {
    struct pln_bytes name;
    for (size_t i = 0; (name = pln_template_field(template, i)).data != NULL; i++) {
        bool is_there = false;
        for (size_t f = 0; f < n_fields; f++) {
            is_there = is_there || pln_bytes_equal(fields[f].name, name);
        }
        if (!is_there) {
            return pln_fail(PLN_EINVAL, "raise: '%s' needs the field '%.*s', which the event lacks",
                            pln_template_text(template), (int) name.len, (const char *) name.data);
        }
    }
    return pln_fail(PLN_ETOOBIG, "raise: '%s' filled from the event is longer than %d bytes",
                    pln_template_text(template), PLN_MAX_KEY);
}

/* Carries out one list of an event. */
static void raise_each(struct pln_cache *cache, struct pln_template **templates, size_t n,
                       const struct pln_field *fields, size_t n_fields,
                       int (*act)(struct pln_cache *, struct pln_bytes), struct outcome *outcome) {
    char text[PLN_MAX_KEY];
    for (size_t i = 0; i < n; i++) {
        size_t len = pln_template_fill_fields(templates[i], fields, n_fields, text, sizeof text);
        note(outcome, len == SIZE_MAX ? refuse(templates[i], fields, n_fields)
                                      : act(cache, pln_bytes_of(text, len)));
    }
}

int pln_raise(struct pln_cache *cache, struct pln_bytes event, const struct pln_field *fields,
              size_t n_fields) {
    struct pln_ruleset *ruleset = pln_cache_policy(cache);
    const struct pln_event_rule *rule = find(ruleset, event);
    struct outcome outcome = {.status = PLN_OK};
    if (rule != NULL) {
        raise_each(cache, rule->keys, rule->n_keys, fields, n_fields, pln_delete, &outcome);
        raise_each(cache, rule->tags, rule->n_tags, fields, n_fields, pln_invalidate_tag, &outcome);
    }
    pln_ruleset_unref(ruleset);
    if (outcome.status < 0) {
        return pln_fail(outcome.status, "%s", outcome.text);
    }
    return rule != NULL ? PLN_OK : PLN_MISS;
}
