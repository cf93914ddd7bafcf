/* SPDX-License-Identifier: MIT
 *
 * compare.c - what two policies have otherwise for the same keys. Keys are put together by the pair
 * of rules that they meet, and each pair is compared once.
 */
#include "shadow.h"

#include <stdio.h>

enum { NO_RULE = PLN_MAX_RULES, DESCRIPTION = 4096 };

/* What one policy says of a key. */
struct view {
    struct pln_ruleset *ruleset;
    struct pln_match match;
    const struct pln_terms *terms;
};

static struct view view_of(struct pln_cache *cache, struct pln_bytes key) {
    struct view view;
    view.terms = pln_cache_match(cache, key, &view.match, &view.ruleset);
    return view;
}

static unsigned index_of(const struct view *view) {
    return view->match.rule != NULL ? view->match.index : NO_RULE;
}

static void write_rule(FILE *out, const struct view *view) {
    const struct pln_rule *rule = view->match.rule;
    if (rule == NULL) {
        fprintf(out, "no rule");
    } else {
        fprintf(out, "rule '%s' (%s:%d)", pln_template_text(rule->pattern), rule->file, rule->line);
    }
}

/* The lines of two descriptions, which are of the same fields in the same order. */
static void write_terms(FILE *out, const struct view *live, const struct view *candidate) {
    char one[DESCRIPTION], other[DESCRIPTION];
    const struct pln_hooks *hooks = &candidate->ruleset->hooks;
    if (hooks->describe == NULL || hooks->describe(live->terms, one, sizeof one) >= sizeof one ||
        hooks->describe(candidate->terms, other, sizeof other) >= sizeof other) {
        return;
    }
    for (const char *a = one, *b = other; *a != 0 && *b != 0;) {
        int a_len = (int) strcspn(a, "\n"), b_len = (int) strcspn(b, "\n");
        if (a_len != b_len || memcmp(a, b, (size_t) a_len) != 0) {
            const char *value = memchr(b, ' ', (size_t) b_len);
            fprintf(out, "  %.*s, candidate %.*s\n", a_len, a, (int) (b + b_len - value - 1),
                    value + 1);
        }
        a += a_len + (a[a_len] == '\n');
        b += b_len + (b[b_len] == '\n');
    }
}

static void write_tags(FILE *out, const struct pln_rule *rule) {
    for (size_t i = 0; rule != NULL && i < rule->n_tags; i++) {
        fprintf(out, "%s%s", i == 0 ? "" : ", ", pln_template_text(rule->tags[i]));
    }
    if (rule == NULL || rule->n_tags == 0) {
        fprintf(out, "none");
    }
}

static bool has_same_tags(const struct pln_rule *a, const struct pln_rule *b) {
    size_t n = a == NULL ? 0 : a->n_tags;
    bool is_same = n == (b == NULL ? 0 : b->n_tags);
    for (size_t i = 0; is_same && i < n; i++) {
        is_same = strcmp(pln_template_text(a->tags[i]), pln_template_text(b->tags[i])) == 0;
    }
    return is_same;
}

/* Of the program's functions, by name. */
static void write_names(FILE *out, const char *what, const char *a, const char *b) {
    if (a != NULL && b != NULL && strcmp(a, b) != 0) {
        const char *noun = strchr(what, ' ') + 1;
        fprintf(out, "  %s '%s', candidate %s '%s'\n", what, a, noun, b);
    }
}

/* Of two that write behind, the numbers; the strategy is among the terms. */
static void write_writing(FILE *out, const struct pln_write_options *a,
                          const struct pln_write_options *b) {
    const struct {
        const char *name;
        long long one, other;
    } numbers[] = {{"timeout_ms", a->timeout_ms, b->timeout_ms},
                   {"batch", (long long) a->batch, (long long) b->batch},
                   {"every_ms", a->every_ms, b->every_ms},
                   {"in_order", a->in_order, b->in_order},
                   {"most", (long long) a->most, (long long) b->most},
                   {"when_full", a->when_full, b->when_full},
                   {"attempts", a->attempts, b->attempts},
                   {"backoff_ms", a->backoff_ms, b->backoff_ms},
                   {"dead", (long long) a->dead, (long long) b->dead}};
    for (size_t i = 0; a->strategy == b->strategy && i < PLN_ARRAY_LEN(numbers); i++) {
        if (numbers[i].one != numbers[i].other) {
            fprintf(out, "  write %s %lld, candidate %lld\n", numbers[i].name, numbers[i].one,
                    numbers[i].other);
        }
    }
}

/* Templates, and which fields are functions: what these do is not compared. */
static void write_rest(FILE *out, const struct pln_rule *a, const struct pln_rule *b) {
    static const struct {
        uint32_t bit;
        const char *name;
    } functions[] = {{PLN_RULE_LOAD, "load"},   {PLN_RULE_TTL, "ttl"},
                     {PLN_RULE_TAGS, "tags"},   {PLN_RULE_RELATED, "related"},
                     {PLN_RULE_STORE, "write"}, {PLN_RULE_LOAD_MANY, "load_many"}};
    if (!has_same_tags(a, b)) {
        fprintf(out, "  tags ");
        write_tags(out, a);
        fprintf(out, ", candidate ");
        write_tags(out, b);
        fprintf(out, "\n");
    }
    uint32_t hooks = a == NULL ? 0 : a->hooks, changed = hooks ^ (b == NULL ? 0 : b->hooks);
    for (size_t i = 0; i < PLN_ARRAY_LEN(functions); i++) {
        if ((changed & functions[i].bit) != 0) {
            bool was = (hooks & functions[i].bit) != 0;
            fprintf(out, "  %s %s, candidate %s\n", functions[i].name,
                    was ? "by a function" : "by no function",
                    was ? "by no function" : "by a function");
        }
    }
    if (a != NULL && b != NULL) {
        write_names(out, "load loader", a->loader, b->loader);
        write_names(out, "write store", a->store, b->store);
        write_writing(out, &a->writing, &b->writing);
    }
}

/* NULL where memory is out. */
static char *compared(const struct view *live, const struct view *candidate, struct pln_bytes key) {
    char *text = NULL, *head = NULL;
    size_t len, head_len;
    FILE *out = open_memstream(&text, &len);
    if (out == NULL) {
        return NULL;
    }
    write_terms(out, live, candidate);
    write_rest(out, live->match.rule, candidate->match.rule);
    if (fclose(out) != 0 || len == 0) {
        return text;
    }
    out = open_memstream(&head, &head_len);
    if (out != NULL) {
        fprintf(out, "%.*s and others: ", key.len < 80 ? (int) key.len : 80,
                (const char *) key.data);
        write_rule(out, live);
        fprintf(out, ", candidate ");
        write_rule(out, candidate);
        fprintf(out, "\n%s", text);
        fclose(out);
    }
    free(text);
    return head;
}

void pln_comparison_fini(struct pln_comparison *comparison) {
    for (size_t i = 0; i < comparison->n_pairs; i++) {
        free(comparison->pairs[i].text);
    }
    pln_ruleset_unref(comparison->live);
    *comparison = (struct pln_comparison){.n_pairs = 0};
}

static struct pln_pair *find(struct pln_comparison *comparison, unsigned live, unsigned candidate) {
    for (size_t i = 0; i < comparison->n_pairs; i++) {
        struct pln_pair *pair = &comparison->pairs[i];
        if (pair->live == live && pair->candidate == candidate) {
            return pair;
        }
    }
    return NULL;
}

static struct pln_pair *add(struct pln_comparison *comparison, const struct view *live,
                            const struct view *candidate, struct pln_bytes key) {
    if (comparison->n_pairs == PLN_MOST_PAIRS) {
        return NULL;
    }
    char *text = compared(live, candidate, key);
    if (text == NULL) {
        return NULL;
    }
    struct pln_pair *pair = &comparison->pairs[comparison->n_pairs++];
    *pair = (struct pln_pair){index_of(live), index_of(candidate), text[0] != 0, 0, text};
    return pair;
}

bool pln_comparison_add(struct pln_comparison *comparison, struct pln_cache *live,
                        struct pln_cache *candidate, struct pln_bytes key) {
    struct view one = view_of(live, key), other = view_of(candidate, key);
    if (comparison->live != one.ruleset) {
        pln_comparison_fini(comparison);
        pln_ruleset_ref(one.ruleset);
        comparison->live = one.ruleset;
    }
    struct pln_pair *pair = find(comparison, index_of(&one), index_of(&other));
    if (pair == NULL) {
        pair = add(comparison, &one, &other, key);
    }
    if (pair != NULL) {
        pair->n_requests++;
    }
    pln_ruleset_unref(one.ruleset);
    pln_ruleset_unref(other.ruleset);
    return pair != NULL && pair->differs;
}
