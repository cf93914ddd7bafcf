/* SPDX-License-Identifier: MIT
 *
 * matcher.c - the first of many patterns that a key matches, without trying one after the other.
 *
 * All patterns lie in one tree by their steps: a node is a row of bytes that all patterns below it
 * have there, and below it they part by their next step. What a pattern takes of a key is settled
 * by the pattern and the key alone (a capture ends at the first stop), so a node is met at one
 * place in the key at most, and a search is never longer than trying each pattern. It is much
 * shorter where patterns begin differently, or alike behind a capture ("{tenant}:user:{id}").
 *
 *     "user:" ─┬─ "admin" ─ END               rule 2, which rule 1 leaves nothing
 *              ├─ {up to ":"} ─ ":posts" ─ END  rule 0, user:{id}:posts
 *              └─ LAST                          rule 1, user:{id}
 *
 * A node knows the first rule, in the order of the file, of all below it: what cannot come before
 * the best so far is not entered. The bytes on the way are tried before the captures, since they
 * cost least and mostly bring that best; on the way back up come the captures. That goes as deep
 * into the C stack as a pattern has captures.
 */
#include "policy.h"

#include <stddef.h>

enum { NONE = PLN_MAX_RULES, FIRST_NODES = 64 };

_Static_assert(NONE <= UINT16_MAX, "a rule's number fits two bytes");

/* Rules are told by their number, NONE for none. */
struct node {
    uint32_t text; /* its bytes, in the matcher's */
    uint32_t parent;
    uint32_t children; /* side by side: those that begin with a byte, then those behind a capture */
    uint16_t n_text, n_literals, n_fields;
    uint16_t least;           /* of all rules from here on */
    uint16_t end, last, rest; /* the rule whose pattern ends here, by that step */
};

struct pln_matcher {
    struct node *nodes;
    char *first; /* of each node: the byte that leads to it, or the stop of the capture that does */
    char *text;
};

/* ---- building ---- */

/* A rule's steps; in the order of the steps the rules below a node stand side by side. */
struct row {
    const uint16_t *steps;
    uint32_t at; /* of the steps among all */
    uint16_t rule;
};

/* The rows below a node, which agree in so many steps. */
struct range {
    uint32_t from, to, depth;
};

struct builder {
    struct row *rows;
    uint16_t *steps;
    struct node *nodes;
    struct range *ranges; /* of each node */
    size_t n_steps, n_nodes, most_nodes;
};

static int compare_rows(const void *a, const void *b) {
    const struct row *one = a, *other = b;
    size_t i = 0;
    while (one->steps[i] == other->steps[i]) {
        if (one->steps[i] >= PLN_STEP_LAST) {
            return (one->rule > other->rule) - (one->rule < other->rule);
        }
        i++;
    }
    return one->steps[i] < other->steps[i] ? -1 : 1;
}

static bool make_rows(struct builder *builder, const struct pln_rule *rules, size_t n) {
    size_t most = 0;
    for (size_t i = 0; i < n; i++) {
        most += strlen(pln_template_text(rules[i].pattern)) + 1; /* a step has a byte of text */
    }
    builder->rows = malloc((n + 1) * sizeof *builder->rows);
    builder->steps = malloc((most + 1) * sizeof *builder->steps);
    if (builder->rows == NULL || builder->steps == NULL) {
        return false;
    }
    for (size_t i = 0; i < n; i++) {
        uint16_t *steps = builder->steps + builder->n_steps;
        builder->rows[i] = (struct row){steps, (uint32_t) builder->n_steps, (uint16_t) i};
        builder->n_steps += pln_template_steps(rules[i].pattern, steps);
    }
    assert(builder->n_steps <= most);
    qsort(builder->rows, n, sizeof *builder->rows, compare_rows);
    return true;
}

static bool add_node(struct builder *builder, uint32_t parent, struct range range) {
    if (builder->n_nodes == builder->most_nodes) {
        size_t most = builder->most_nodes == 0 ? FIRST_NODES : 2 * builder->most_nodes;
        struct node *nodes = realloc(builder->nodes, most * sizeof *nodes);
        builder->nodes = nodes != NULL ? nodes : builder->nodes;
        struct range *ranges = realloc(builder->ranges, most * sizeof *ranges);
        builder->ranges = ranges != NULL ? ranges : builder->ranges;
        if (nodes == NULL || ranges == NULL) {
            return false;
        }
        builder->most_nodes = most;
    }
    builder->nodes[builder->n_nodes] = (struct node){
        .parent = parent, .least = NONE, .end = NONE, .last = NONE, .rest = NONE};
    builder->ranges[builder->n_nodes++] = range;
    return true;
}

/* Takes the bytes that all of a node's rows have next, and returns how many steps they agree in. */
static uint32_t take_text(struct builder *builder, uint32_t place) {
    struct node *node = &builder->nodes[place];
    const struct range *range = &builder->ranges[place];
    const struct row *first = &builder->rows[range->from], *last = &builder->rows[range->to - 1];
    uint32_t depth = range->depth;
    while (first->steps[depth] < PLN_STEP_FIELD && first->steps[depth] == last->steps[depth]) {
        depth++;
    }
    node->text = first->at + range->depth;
    node->n_text = (uint16_t) (depth - range->depth);
    for (uint32_t i = range->from; i < range->to; i++) {
        uint16_t rule = builder->rows[i].rule;
        node->least = rule < node->least ? rule : node->least;
    }
    return depth;
}

/* Gives a node its text, and a child for each step by which its rows part. */
static bool split(struct builder *builder, uint32_t place) {
    struct range range = builder->ranges[place];
    uint32_t depth = take_text(builder, place);
    builder->nodes[place].children = (uint32_t) builder->n_nodes;
    for (uint32_t from = range.from, to; from < range.to; from = to) {
        uint16_t step = builder->rows[from].steps[depth], rule = builder->rows[from].rule;
        for (to = from + 1; to < range.to && builder->rows[to].steps[depth] == step; to++) {
        }
        if (step < PLN_STEP_LAST &&
            !add_node(builder, place, (struct range){from, to, depth + 1})) {
            return false;
        }
        struct node *node = &builder->nodes[place];
        node->n_literals = (uint16_t) (node->n_literals + (step < PLN_STEP_FIELD));
        node->n_fields = (uint16_t) (node->n_fields +
                                     (step >= PLN_STEP_FIELD && step < PLN_STEP_LAST));
        node->last = step == PLN_STEP_LAST ? rule : node->last;
        node->rest = step == PLN_STEP_REST ? rule : node->rest;
        node->end = step == PLN_STEP_END ? rule : node->end;
    }
    return true;
}

/* Copies what is left of the steps: bytes. */
static bool finish(struct builder *builder, struct pln_matcher *matcher) {
    matcher->first = malloc(builder->n_nodes);
    matcher->text = malloc(builder->n_steps + 1);
    if (matcher->first == NULL || matcher->text == NULL) {
        return false;
    }
    for (size_t i = 0; i < builder->n_steps; i++) {
        matcher->text[i] = (char) builder->steps[i];
    }
    matcher->first[0] = 0;
    for (size_t i = 1; i < builder->n_nodes; i++) {
        const struct range *range = &builder->ranges[i];
        matcher->first[i] = (char) builder->rows[range->from].steps[range->depth - 1];
    }
    matcher->nodes = builder->nodes;
    builder->nodes = NULL;
    return true;
}

int pln_matcher_new(const struct pln_rule *rules, size_t n, struct pln_matcher **matcher) {
    struct builder builder = {.n_nodes = 0};
    struct pln_matcher *created = calloc(1, sizeof *created);
    assert(n > 0 && n <= PLN_MAX_RULES);
    bool is_made = created != NULL && make_rows(&builder, rules, n) &&
                   add_node(&builder, 0, (struct range){0, (uint32_t) n, 0});
    for (uint32_t i = 0; is_made && i < builder.n_nodes; i++) {
        is_made = split(&builder, i);
    }
    is_made = is_made && finish(&builder, created);
    free(builder.rows);
    free(builder.steps);
    free(builder.nodes);
    free(builder.ranges);
    if (!is_made) {
        pln_matcher_free(created);
        return pln_fail(PLN_ENOMEM, "policy: no memory to search %zu rules", n);
    }
    *matcher = created;
    return PLN_OK;
}

void pln_matcher_free(struct pln_matcher *matcher) {
    if (matcher != NULL) {
        free(matcher->nodes);
        free(matcher->first);
        free(matcher->text);
        free(matcher);
    }
}

/* ---- searching ---- */

struct search {
    const struct pln_matcher *matcher;
    const char *key;
    size_t len;
    unsigned best; /* so far: only those before it are looked for */
    /* NULL; or only those count that take all keys of this one */
    const struct pln_template *covered;
    const struct pln_rule *rules;
};

static void try_rule(struct search *search, unsigned rule) {
    if (rule < search->best &&
        (search->covered == NULL ||
         pln_template_covers(search->rules[rule].pattern, search->covered))) {
        search->best = rule;
    }
}

/* The patterns that end at a node, where the key has been followed up to `at`. */
static void try_ends(struct search *search, const struct node *node, size_t at) {
    try_rule(search, at == search->len ? node->end : node->last);
    try_rule(search, node->rest);
}

/* The child that the next byte leads to; 0, which is nobody's child, where there is none that can
 * bring anything. */
static uint32_t next_literal(const struct search *search, const struct node *node, size_t at) {
    const char *first = search->matcher->first + node->children;
    const char *found = at == search->len || node->n_literals == 0
                            ? NULL
                            : memchr(first, search->key[at], node->n_literals);
    if (found == NULL) {
        return 0;
    }
    uint32_t child = node->children + (uint32_t) (found - first);
    return search->matcher->nodes[child].least < search->best ? child : 0;
}

static bool has_text(const struct search *search, const struct node *node, size_t at) {
    return node->n_text == 0 ||
           (search->len - at >= node->n_text &&
            memcmp(search->key + at, search->matcher->text + node->text, node->n_text) == 0);
}

static void search_from(struct search *search, uint32_t from, size_t at);

static void try_fields(struct search *search, const struct node *node, size_t at) {
    uint32_t field = node->children + node->n_literals;
    for (uint32_t end = field + node->n_fields; field < end && at < search->len; field++) {
        if (search->matcher->nodes[field].least < search->best) {
            const char *start = search->key + at;
            const char *stop = memchr(start, search->matcher->first[field], search->len - at);
            if (stop != NULL && stop != start) {
                search_from(search, field, (size_t) (stop - search->key));
            }
        }
    }
}

/* Down along the bytes of the key, then up again through the captures on the way. */
static void search_from(struct search *search, uint32_t from, size_t at) {
    const struct node *nodes = search->matcher->nodes;
    uint32_t child = from;
    const struct node *node = &nodes[from];
    if (!has_text(search, node, at)) {
        return;
    }
    at += node->n_text;
    try_ends(search, node, at);
    while ((child = next_literal(search, node, at)) != 0 &&
           has_text(search, &nodes[child], at + 1)) {
        node = &nodes[child];
        at += 1 + (size_t) node->n_text;
        try_ends(search, node, at);
    }
    for (;; node = &nodes[node->parent]) {
        try_fields(search, node, at);
        if (node == &nodes[from]) {
            return;
        }
        at -= 1 + (size_t) node->n_text;
    }
}

static struct search search_for(const struct pln_matcher *matcher, struct pln_bytes key) {
    return (struct search){.matcher = matcher,
                           .key = key.len == 0 ? "" : (const char *) key.data,
                           .len = key.len,
                           .best = NONE};
}

size_t pln_matcher_find(const struct pln_matcher *matcher, struct pln_bytes key) {
    struct search search = search_for(matcher, key);
    search_from(&search, 0, 0);
    return search.best < NONE ? search.best : SIZE_MAX;
}

/* What takes all keys of a pattern matches its sample. */
size_t pln_matcher_find_cover(const struct pln_matcher *matcher, const struct pln_rule *rules,
                              size_t later) {
    const struct pln_template *pattern = rules[later].pattern;
    struct search search = search_for(matcher, pln_template_sample(pattern));
    search.best = (unsigned) later;
    search.covered = pattern;
    search.rules = rules;
    search_from(&search, 0, 0);
    return search.best < later ? search.best : SIZE_MAX;
}
