/* SPDX-License-Identifier: MIT
 *
 * write.h - private to what puts a value into the tiers: write.c (set) and swap.c (in the place of
 * another one).
 */
#ifndef PLN_WRITE_H
#define PLN_WRITE_H

#include "flight.h"

/* What is stored, after rule and call have had their say. Zeroed but for `cache`. */
struct write {
    struct pln_cache *cache;
    struct pln_hashed key;
    struct pln_ruleset *ruleset; /* a reference */
    struct pln_match match;
    const struct pln_terms *terms;
    struct pln_load shape; /* tags and ttl */
    struct pln_l2_item item;
    uint32_t flags;
    uint8_t weight;
    int8_t priority;
    pln_ns deadline;
};

/* Checks key and options, and finds the rule. `verb` is what the program does: "set". */
int pln_write_begin(struct write *write, struct pln_bytes key, struct pln_bytes value,
                    const struct pln_set_options *options, const char *verb);
/* The tags and durations of a value that is new, by its rule and the call. */
int pln_write_shape(struct write *write, const struct pln_set_options *options);
/* Whether the value may be so large. */
int pln_write_check_size(const struct write *write, const char *verb);
/* Keeps it in L1 under a stamp that has its tags. Returns: as pln_l1_put(). */
int pln_write_keep(const struct write *write, const struct pln_stamp *stamp);
void pln_write_fini(struct write *write);

/* ---- swap.c ---- */

/* Locks by key, for who looks at a value and stores another, where there is no Redis to do both in
 * one step. What only stores takes none: see swap.c. */
struct pln_swaps;

int pln_swaps_new(struct pln_swaps **swaps);
void pln_swaps_free(struct pln_swaps *swaps);
void pln_swaps_lock(struct pln_swaps *swaps, uint64_t hash);
void pln_swaps_unlock(struct pln_swaps *swaps, uint64_t hash);
/* Around a fork. */
void pln_swaps_freeze(struct pln_swaps *swaps);
void pln_swaps_thaw(struct pln_swaps *swaps);

#endif
