/* SPDX-License-Identifier: MIT
 * linear.c - the checker of linear.h: a depth-first search over the orders that are possible. */
#include "linear.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { SEEN_SLOTS = 1 << 16 };

/* A place in the search: which operations have taken effect, and what the cell holds. */
struct place {
    uint64_t done[LINEAR_MOST / 64];
    uint32_t value;
    bool is_used;
};

struct search {
    const struct linear_history *history;
    struct place *seen; /* places that were tried; where two meet the older is forgotten */
};

static bool is_done(const struct place *place, size_t i) {
    return (place->done[i / 64] >> i % 64 & 1) != 0;
}

static bool is_same(const struct place *a, const struct place *b) {
    return a->value == b->value && memcmp(a->done, b->done, sizeof a->done) == 0;
}

/* Whether a place has been tried in vain; remembers it. */
static bool was_seen(struct search *search, const struct place *place) {
    uint64_t hash = place->value;
    for (size_t i = 0; i < LINEAR_MOST / 64; i++) {
        hash = (hash ^ place->done[i]) * UINT64_C(0x9e3779b97f4a7c15);
        hash ^= hash >> 29;
    }
    struct place *slot = &search->seen[hash % SEEN_SLOTS];
    if (slot->is_used && is_same(slot, place)) {
        return true;
    }
    *slot = *place;
    slot->is_used = true;
    return false;
}

/* Lets an operation take effect; false where its result does not fit. */
static bool apply(const struct linear_op *op, struct place *place) {
    switch (op->kind) {
    case LINEAR_PUT:
        place->value = op->value;
        return true;
    case LINEAR_GET:
        if (op->value != LINEAR_NONE) {
            return place->value == op->value;
        }
        place->value = LINEAR_NONE;
        return true;
    default:
        place->value = LINEAR_NONE;
        return true;
    }
}

static bool search_from(struct search *search, struct place place) {
    const struct linear_history *history = search->history;
    uint64_t first_end = UINT64_MAX;
    bool is_complete = true;
    if (was_seen(search, &place)) {
        return false;
    }
    for (size_t i = 0; i < history->n; i++) {
        if (!is_done(&place, i)) {
            is_complete = false;
            first_end = history->ops[i].end < first_end ? history->ops[i].end : first_end;
        }
    }
    for (size_t i = 0; i < history->n && history->ops[i].begin <= first_end; i++) {
        struct place next = place;
        if (is_done(&place, i) || !apply(&history->ops[i], &next)) {
            continue;
        }
        next.done[i / 64] |= (uint64_t) 1 << i % 64;
        if (search_from(search, next)) {
            return true;
        }
    }
    return is_complete;
}

static int by_begin(const void *a, const void *b) {
    const struct linear_op *left = a, *right = b;
    return left->begin < right->begin ? -1 : left->begin > right->begin;
}

bool linear_holds(struct linear_history *history) {
    struct search search = {history, calloc(SEEN_SLOTS, sizeof *search.seen)};
    if (search.seen == NULL) {
        abort();
    }
    qsort(history->ops, history->n, sizeof history->ops[0], by_begin);
    bool holds = search_from(&search, (struct place){.value = LINEAR_NONE});
    free(search.seen);
    return holds;
}

void linear_print(const struct linear_history *history) {
    static const char *const names[] = {"put", "get", "remove"};
    for (size_t i = 0; i < history->n; i++) {
        const struct linear_op *op = &history->ops[i];
        fprintf(stderr, "%6llu to %6llu  thread %u  %s %u\n", (unsigned long long) op->begin,
                (unsigned long long) op->end, op->thread, names[op->kind], op->value);
    }
}
