/* SPDX-License-Identifier: MIT
 *
 * events.c - what an event makes void: the keys and tags that the policy's cache.on names, filled
 * from the event's fields; or what its function answers.
 *
 * It is gathered first, then carried out: no Lua is on the stack while Redis is told. All of an
 * event is tried, whatever fails. What is told of several failures is first of all whether trying
 * again can help: who has an event from a stream (feeder.c) keeps it then.
 */
#include "feeder.h"
#include "store.h"

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
    return status < 0 && status != PLN_EINVAL && status != PLN_ETOOBIG && status != PLN_EPOLICY;
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

/* ---- what is to be carried out ---- */

struct list {
    struct pln_bytes *items; /* owned, bytes too */
    size_t n;
};

struct pln_raised {
    struct pln_cache *cache;
    struct list keys, tags, patterns;
    struct outcome outcome;
};

static int append(struct list *list, struct pln_bytes item, size_t longest, const char *what) {
    if (item.len == 0 || item.len > longest) {
        return pln_fail(PLN_EINVAL, "raise: a %s of %zu bytes, must be 1 to %zu", what, item.len,
                        longest);
    }
    bool is_full = (list->n & (list->n - 1)) == 0; /* it holds a power of two */
    size_t room = list->n == 0 ? 1 : 2 * list->n;
    struct pln_bytes *grown = is_full ? realloc(list->items, room * sizeof *grown) : list->items;
    list->items = grown != NULL ? grown : list->items;
    void *copy = grown != NULL ? malloc(item.len) : NULL;
    if (copy == NULL) {
        return pln_fail(PLN_ENOMEM, "raise: no memory for a %s", what);
    }
    memcpy(copy, item.data, item.len);
    list->items[list->n++] = pln_bytes_of(copy, item.len);
    return PLN_OK;
}

static void list_fini(struct list *list) {
    for (size_t i = 0; i < list->n; i++) {
        free((void *) list->items[i].data);
    }
    free(list->items);
}

int pln_raised_key(struct pln_raised *raised, struct pln_bytes key) {
    return append(&raised->keys, key, PLN_MAX_KEY, "key");
}

int pln_raised_tag(struct pln_raised *raised, struct pln_bytes tag) {
    return append(&raised->tags, tag, PLN_MAX_TAG, "tag");
}

int pln_raised_match(struct pln_raised *raised, struct pln_bytes pattern) {
    return append(&raised->patterns, pattern, PLN_MAX_KEY, "pattern");
}

/* Fills templates from the event; one that cannot be is noted, and left out. */
static void fill(struct pln_raised *raised, struct pln_template **templates, size_t n,
                 const struct pln_field *fields, size_t n_fields,
                 int (*add)(struct pln_raised *, struct pln_bytes)) {
    char text[PLN_MAX_KEY];
    for (size_t i = 0; i < n; i++) {
        size_t len = pln_template_fill_fields(templates[i], fields, n_fields, text, sizeof text);
        note(&raised->outcome, len == SIZE_MAX ? refuse(templates[i], fields, n_fields)
                                               : add(raised, pln_bytes_of(text, len)));
    }
}

/* Keys by one command and one message. */
static void carry_out(struct pln_raised *raised) {
    struct pln_cache *cache = raised->cache;
    if (raised->keys.n > 0) {
        pln_count(cache->counts, PLN_COUNT_DELETES, raised->keys.n);
        note(&raised->outcome, pln_cache_forget_many(cache, raised->keys.items, raised->keys.n));
    }
    for (size_t i = 0; i < raised->tags.n; i++) {
        note(&raised->outcome, pln_invalidate_tag(cache, raised->tags.items[i]));
    }
    for (size_t i = 0; i < raised->patterns.n; i++) {
        note(&raised->outcome, pln_invalidate_pattern(cache, raised->patterns.items[i]));
    }
}

int pln_raise(struct pln_cache *cache, struct pln_bytes event, const struct pln_field *fields,
              size_t n_fields) {
    struct pln_ruleset *ruleset = pln_cache_policy(cache);
    const struct pln_event_rule *rule = find(ruleset, event);
    struct pln_raised raised = {.cache = cache};
    if (rule != NULL && rule->is_function) {
        note(&raised.outcome,
             ruleset->hooks.raise(ruleset->hooks_arg, rule, fields, n_fields, &raised));
    } else if (rule != NULL) {
        fill(&raised, rule->keys, rule->n_keys, fields, n_fields, pln_raised_key);
        fill(&raised, rule->tags, rule->n_tags, fields, n_fields, pln_raised_tag);
    }
    carry_out(&raised);
    list_fini(&raised.keys);
    list_fini(&raised.tags);
    list_fini(&raised.patterns);
    pln_ruleset_unref(ruleset);
    if (raised.outcome.status < 0) {
        return pln_fail(raised.outcome.status, "%s", raised.outcome.text);
    }
    return rule != NULL ? PLN_OK : PLN_MISS;
}
