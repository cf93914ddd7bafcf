/* SPDX-License-Identifier: MIT
 *
 * swap.h - a value in the place of another one, if that is there; a part of l2.h.
 */
#ifndef PLN_L2_SWAP_H
#define PLN_L2_SWAP_H

#include "l2.h"

struct pln_l2_swap {
    const struct pln_l2_item *item;
    bool expects; /* a value: this one, as it lies there; else none that is fresh */
    struct pln_bytes expected;
    uint8_t format, packing; /* of the expected one */
    bool keeps_life; /* it ends when the expected one would have; else the item's durations hold */
};

/* Stores the item if what is there is what is expected, voids the key's lease and tells the others,
 * in one step of the server's. What is stale or negative counts as none. The tags of a value that
 * was there go on, and the time from which they count; the item's are for what is new.
 * Returns: PLN_OK (*value is what is stored now, the caller's to fini; without memory where it
 * cannot be told); PLN_NOT_STORED (*value is what is there, likewise); PLN_MISS (a value was
 * expected, and there is none). */
static inline int pln_l2_swap(struct pln_l2 *l2, const struct pln_hashed *key,
                              const struct pln_l2_swap *swap, pln_ns deadline,
                              struct pln_l2_value *value) {
    *value = (struct pln_l2_value){.memory = NULL};
    return l2->ops->swap(l2, key, swap, deadline, value);
}

/* What a swap comes to where this is there (without memory: nothing is), before it is done. */
int pln_swap_compare(const struct pln_l2_swap *swap, const struct pln_l2_value *value);

#endif
