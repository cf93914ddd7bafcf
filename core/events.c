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

/* What is carried out, and how it fares. */
struct raised {
    struct pln_cache *cache;
    const struct pln_field *fields;
    size_t n_fields;
    struct outcome outcome;
};

/* Fills a template into a text of PLN_MAX_KEY bytes. Returns PLN_OK, or why it cannot be. */
static int fill(const struct raised *raised, const struct pln_template *template, char *text,
                struct pln_bytes *filled) {
    size_t len = pln_template_fill_fields(template, raised->fields, raised->n_fields, text,
                                          PLN_MAX_KEY);
    *filled = pln_bytes_of(text, len);
    return len == SIZE_MAX ? refuse(template, raised->fields, raised->n_fields) : PLN_OK;
}

/* By one command and one message, without those that cannot be. */
static void raise_keys(struct raised *raised, struct pln_template **templates, size_t n) {
    struct pln_bytes *keys = malloc(n * (sizeof *keys + PLN_MAX_KEY) + 1);
    size_t n_keys = 0;
    if (keys == NULL) {
        note(&raised->outcome, pln_fail(PLN_ENOMEM, "raise: no memory for %zu keys", n));
        return;
    }
    char *texts = (char *) (keys + n);
    for (size_t i = 0; i < n; i++) {
        struct pln_hashed key;
        int status = fill(raised, templates[i], texts + i * PLN_MAX_KEY, &keys[n_keys]);
        if (status == PLN_OK) {
            status = pln_cache_key(raised->cache, keys[n_keys], &key);
        }
        note(&raised->outcome, status);
        n_keys += status == PLN_OK;
    }
    if (n_keys > 0) {
        note(&raised->outcome, pln_delete_many(raised->cache, keys, n_keys));
    }
    free(keys);
}

static void raise_tags(struct raised *raised, struct pln_template **templates, size_t n) {
    char text[PLN_MAX_KEY];
    for (size_t i = 0; i < n; i++) {
        struct pln_bytes tag;
        int status = fill(raised, templates[i], text, &tag);
        note(&raised->outcome, status == PLN_OK ? pln_invalidate_tag(raised->cache, tag) : status);
    }
}

int pln_raise(struct pln_cache *cache, struct pln_bytes event, const struct pln_field *fields,
              size_t n_fields) {
    struct pln_ruleset *ruleset = pln_cache_policy(cache);
    const struct pln_event_rule *rule = find(ruleset, event);
    struct raised raised = {cache, fields, n_fields, {.status = PLN_OK}};
    if (rule != NULL) {
        raise_keys(&raised, rule->keys, rule->n_keys);
        raise_tags(&raised, rule->tags, rule->n_tags);
    }
    pln_ruleset_unref(ruleset);
    if (raised.outcome.status < 0) {
        return pln_fail(raised.outcome.status, "%s", raised.outcome.text);
    }
    return rule != NULL ? PLN_OK : PLN_MISS;
}
