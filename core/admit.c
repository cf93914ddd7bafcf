/* SPDX-License-Identifier: MIT
 *
 * admit.c - what is kept at all: never a key that the policy denies, and where a rule says so no
 * value before it has been missed so often.
 *
 * Misses are counted in a table of a 256th of L1's budget, made when a rule first asks for it. A
 * cell has some bits of a key's hash, how often it was missed, and since when; a bucket of eight is
 * a cache line. A key that finds neither its cell nor an empty one takes the oldest. So a count is
 * too low where many keys are missed, hardly ever too high (two keys in one bucket have the same 24
 * bits once in two million), and what was forgotten is stored a miss or two later.
 *
 * Labels: A1  the table's cells / the pointer to it.
 */
#include "flight.h"
#include "schema.h"

enum {
    CELLS = 8, /* of a bucket */
    COUNT_BITS = 8,
    SINCE_BITS = 32, /* ms, of the cache's clock; wraps, so no window is over half of it */
    MOST_COUNT = (1 << COUNT_BITS) - 1,
    MOST_TRIES = 4, /* against others at one cell */
    SHARE = 256,
    LEAST_BUCKETS = 64,
    MOST_BUCKETS = 1 << 14, /* 1 MiB */
};

struct pln_misses {
    size_t n_buckets;
    _Alignas(PLN_CACHE_LINE) _Atomic uint64_t cells[];
};

/* A cell as its parts: 24 bits of the hash, count, time of the first miss that is counted. */
struct cell {
    uint32_t mark, count, since;
};

static struct cell unpack(uint64_t bits) {
    return (struct cell){.mark = (uint32_t) (bits >> (COUNT_BITS + SINCE_BITS)),
                         .count = (uint32_t) (bits >> SINCE_BITS) & MOST_COUNT,
                         .since = (uint32_t) bits};
}

static uint64_t pack(struct cell cell) {
    return (uint64_t) cell.mark << (COUNT_BITS + SINCE_BITS) | (uint64_t) cell.count << SINCE_BITS |
           cell.since;
}

/* The table, made now where there is none; NULL where memory is out. */
static struct pln_misses *misses_of(struct pln_cache *cache) {
    /* A1 acquire: the cells before the pointer; pairs with the exchange below */
    struct pln_misses *misses = atomic_load_explicit(&cache->misses, memory_order_acquire);
    if (misses != NULL) {
        return misses;
    }
    struct pln_l1_usage usage;
    pln_l1_usage(cache->l1, &usage);
    size_t n = usage.max_bytes / SHARE / (CELLS * sizeof(uint64_t));
    n = n < LEAST_BUCKETS ? LEAST_BUCKETS : n > MOST_BUCKETS ? MOST_BUCKETS : n;
    size_t bytes = sizeof *misses + n * CELLS * sizeof(uint64_t);
    struct pln_misses *created = aligned_alloc(PLN_CACHE_LINE, bytes);
    if (created == NULL) {
        return NULL;
    }
    memset(created, 0, bytes);
    created->n_buckets = n;
    /* A1 release: the cells before the pointer; acquire on failure: another thread's cells. Pairs
     * with the load above */
    if (!atomic_compare_exchange_strong_explicit(&cache->misses, &misses, created,
                                                 memory_order_acq_rel, memory_order_acquire)) {
        free(created);
        return misses;
    }
    return created;
}

/* The cell of a key, or else the one that it may take: an empty one, or the oldest. */
static _Atomic uint64_t *find_cell(struct pln_misses *misses, uint64_t hash, uint32_t now,
                                   uint64_t *bits) {
    size_t at = (size_t) ((hash & UINT32_MAX) * misses->n_buckets >> 32) * CELLS;
    uint32_t oldest = 0;
    _Atomic uint64_t *best = NULL;
    for (size_t i = at; i < at + CELLS; i++) {
        /* relaxed: a cell is all there is to know, and its exchange looks again */
        uint64_t found = atomic_load_explicit(&misses->cells[i], memory_order_relaxed);
        struct cell cell = unpack(found);
        bool is_own = cell.count > 0 && cell.mark == hash >> 40;
        uint32_t age = cell.count == 0 ? UINT32_MAX : now - cell.since;
        if (best == NULL || is_own || age > oldest) {
            best = &misses->cells[i];
            oldest = age;
            *bits = found;
        }
        if (is_own) {
            break;
        }
    }
    return best;
}

/* How often a key was missed within the window that its first miss began, `n` more times now. */
static unsigned count_misses(struct pln_misses *misses, uint64_t hash, pln_ms now, pln_ms window,
                             unsigned n) {
    struct cell cell = {.count = 0};
    for (int i = 0; i < MOST_TRIES; i++) {
        uint64_t bits = 0;
        _Atomic uint64_t *place = find_cell(misses, hash, (uint32_t) now, &bits);
        cell = unpack(bits);
        bool counts_on = cell.count > 0 && cell.mark == hash >> 40 &&
                         (uint32_t) now - cell.since < (window < INT32_MAX ? window : INT32_MAX);
        if (!counts_on) {
            cell = (struct cell){.mark = (uint32_t) (hash >> 40), .since = (uint32_t) now};
        }
        cell.count = cell.count + n < MOST_COUNT ? cell.count + n : MOST_COUNT;
        /* relaxed both: as in find_cell() */
        if (n == 0 || atomic_compare_exchange_strong_explicit(
                          place, &bits, pack(cell), memory_order_relaxed, memory_order_relaxed)) {
            break;
        }
    }
    return cell.count;
}

void pln_admit_note(struct pln_cache *cache, const struct pln_hashed *key,
                    const struct pln_terms *terms) {
    struct pln_misses *misses = terms->min_uses > 1 ? misses_of(cache) : NULL;
    if (misses != NULL) {
        count_misses(misses, key->hash, pln_now(&cache->host), terms->ttl_ms, 1);
    }
}

bool pln_admit_is_due(struct pln_cache *cache, const struct pln_hashed *key,
                      const struct pln_terms *terms) {
    struct pln_misses *misses = terms->min_uses > 1 ? misses_of(cache) : NULL;
    return misses == NULL || count_misses(misses, key->hash, pln_now(&cache->host), terms->ttl_ms,
                                          0) >= terms->min_uses;
}

/* ---- what is denied ---- */

int pln_admit_refuse(struct pln_cache *cache, const struct pln_match *match, const char *verb) {
    struct pln_rule *rule = (struct pln_rule *) match->rule;
    pln_count(cache->counts, PLN_COUNT_DENIED, 1);
    /* relaxed: of several at once one logs */
    if (!atomic_exchange_explicit(&rule->has_told, true, memory_order_relaxed)) {
        pln_logf(&cache->host, PLN_LOG_ERROR,
                 "%s:%d: rule '%s' denies a key that was given to %s: it must never be cached "
                 "(told once for a rule, counted as denied)",
                 rule->file, rule->line, pln_template_text(rule->pattern), verb);
    }
    return pln_fail(PLN_EDENIED, "%s: rule '%s' (%s:%d) denies the key: it must never be cached",
                    verb, pln_template_text(rule->pattern), rule->file, rule->line);
}

int pln_admit_check(struct pln_cache *cache, struct pln_bytes key, const char *verb) {
    struct pln_ruleset *ruleset = pln_cache_policy(cache);
    struct pln_match match = {.rule = NULL};
    int status = pln_schema_check(cache->schema, key);
    if (status == PLN_OK && ruleset->has_denied) {
        pln_ruleset_match(ruleset, key, &match);
        if (match.rule != NULL && match.rule->terms.is_denied) {
            status = pln_admit_refuse(cache, &match, verb);
        }
    }
    pln_ruleset_unref(ruleset);
    return status;
}

bool pln_admit_denies(const void *arg, struct pln_bytes key) {
    struct pln_match match;
    pln_ruleset_match(arg, key, &match);
    return match.rule != NULL && match.rule->terms.is_denied;
}
