/* SPDX-License-Identifier: MIT
 *
 * due.c - see due.h: when a hit may start a load behind what it is served.
 *
 * What early loads bring and cost, where a load takes 200 ms and a value lives 10 s (test_early.c
 * plays it, by a seed):
 *
 *     requests/s   early   ttls that end unloaded   requests that wait   loads/min
 *       5           0       100 %                    2.0 per ttl          5.7
 *       5           1        37 %                    0.7                  5.9
 *       5           2        13 %                    0.3                  6.2
 *     100           0       100 %                   21.0                  5.9
 *     100           1         0 %                    0.0                  6.3
 *    1000           1         0 %                    0.0                  6.7
 */
#include "engine.h"

#include <math.h>

/* ---- loads that failed ---- */

enum { HASH_BITS = 23 }; /* beside 41 for a point in time, as in L1's entries */

static size_t place_of(const struct pln_hashed *key) {
    return key->hash % PLN_N_FAILED;
}

static uint64_t mark_of(const struct pln_hashed *key) {
    return key->hash >> (64 - HASH_BITS);
}

static bool is_of(uint64_t place, const struct pln_hashed *key) {
    return (place & ((UINT64_C(1) << HASH_BITS) - 1)) == mark_of(key);
}

void pln_failed_note(struct pln_cache *cache, const struct pln_hashed *key,
                     const struct pln_terms *terms) {
    if (terms->retry_ms > 0) {
        uint64_t until = (uint64_t) (pln_now(&cache->host) + terms->retry_ms);
        /* relaxed: a hint by itself; likewise below */
        atomic_store_explicit(&cache->failed.places[place_of(key)],
                              until << HASH_BITS | mark_of(key), memory_order_relaxed);
    }
}

void pln_failed_clear(struct pln_cache *cache, const struct pln_hashed *key) {
    _Atomic uint64_t *place = &cache->failed.places[place_of(key)];
    /* relaxed both: should another's failure be noted in between, it is tried again early */
    if (is_of(atomic_load_explicit(place, memory_order_relaxed), key)) {
        atomic_store_explicit(place, 0, memory_order_relaxed);
    }
}

bool pln_failed_lately(const struct pln_cache *cache, const struct pln_hashed *key, pln_ms now) {
    /* relaxed: as above */
    uint64_t place = atomic_load_explicit(&cache->failed.places[place_of(key)],
                                          memory_order_relaxed);
    return is_of(place, key) && now < (pln_ms) (place >> HASH_BITS);
}

/* ---- loads before their time ---- */

/* How far `left` is from a chance of 1 in 100,000, in units of early * cost. */
static const double furthest = 11.512925464970229;

pln_ms pln_early_window(const struct pln_terms *terms) {
    return terms->early > 0 ? (pln_ms) ceil(furthest * terms->early * pln_cost(terms)) : 0;
}

bool pln_early_draw(const struct pln_terms *terms, pln_ms left, double chance) {
    return -log(chance) * terms->early * pln_cost(terms) >= (double) left;
}

bool pln_due(struct pln_cache *cache, const struct pln_hashed *key, const struct pln_terms *terms,
             const struct pln_l1_hit *hit, pln_ms now) {
    if (terms->sliding && now < hit->life.stale) {
        pln_slide(cache, key, terms, hit, now);
        return false;
    }
    if (pln_failed_lately(cache, key, now)) {
        pln_count(cache->counts, PLN_COUNT_LOADS_HELD, 1);
        return false;
    }
    return terms->early <= 0 || now >= hit->life.stale ||
           pln_early_draw(terms, hit->life.stale - now, 1 - pln_chance());
}

bool pln_due_by_rule(struct pln_cache *cache, const struct pln_hashed *key,
                     const struct pln_l1_hit *hit, pln_ms now) {
    struct pln_match match;
    struct pln_ruleset *ruleset;
    const struct pln_terms *terms = pln_cache_match(cache, key->key, &match, &ruleset);
    bool is_due = pln_due(cache, key, terms, hit, now);
    pln_ruleset_unref(ruleset);
    return is_due;
}
