/* SPDX-License-Identifier: MIT
 *
 * tier.h - an L1 as the benchmarks use it: the one place where its options are chosen, and short
 * ways to store and to read. A failure ends the program.
 */
#ifndef PLN_BENCH_TIER_H
#define PLN_BENCH_TIER_H

#include "../../core/base/stats.h"
#include "../../l1/l1.h"
#include "bench.h"

struct tier {
    struct pln_l1 *l1;
    struct pln_counts *counts;
    pln_l1_hash hash;
    uint64_t seed;
};

/* Largest value: a 16th of the budget, which is also what caches are opened with. */
void tier_new(struct tier *tier, size_t max_bytes, pln_l1_hash hash);
void tier_free(struct tier *tier);

/* A key of BENCH_KEY_BYTES, hashed; it is not copied. */
static inline struct pln_hashed tier_at(const struct tier *tier, const char *key) {
    struct pln_bytes bytes = pln_bytes_of(key, BENCH_KEY_BYTES);
    return (struct pln_hashed){bytes, tier->hash(bytes, tier->seed)};
}

/* False where there was no room (PLN_EBUSY). True also where the other thread stored the key a
 * moment later. */
bool tier_put(const struct tier *tier, const char *key, struct pln_bytes value, pln_ms now,
              pln_ms end);
bool tier_get(const struct tier *tier, const char *key, pln_ms now, void *buffer, size_t size);
size_t tier_entries(const struct tier *tier);
/* Bytes of the keys and values that can be read at a time. */
size_t tier_useful(const struct tier *tier, pln_ms now);
/* Goes through all entries. */
void tier_each(const struct tier *tier, pln_ms now, pln_l1_visit visit, void *arg);

#endif
