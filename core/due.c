/* SPDX-License-Identifier: MIT
 *
 * due.c - see due.h: when a hit may start a load behind what it is served.
 */
#include "engine.h"

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
