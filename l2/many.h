/* SPDX-License-Identifier: MIT
 *
 * many.h - leases and commits of many keys; a part of l2.h.
 */
#ifndef PLN_L2_MANY_H
#define PLN_L2_MANY_H

#include "l2.h"

/* As pln_l2_lease() and pln_l2_commit() for each key, in one round trip; statuses[i] as from the
 * one of the key, without text. */
static inline void pln_l2_lease_many(struct pln_l2 *l2, const struct pln_hashed *keys,
                                     const pln_ms *lengths, size_t n, pln_ns deadline,
                                     struct pln_l2_lease *leases, int *statuses) {
    for (size_t i = 0; l2->ops->lease_many == NULL && i < n; i++) {
        statuses[i] = l2->ops->lease(l2, &keys[i], lengths[i], deadline, &leases[i]);
    }
    if (l2->ops->lease_many != NULL) {
        l2->ops->lease_many(l2, keys, lengths, n, deadline, leases, statuses);
    }
}
static inline void pln_l2_commit_many(struct pln_l2 *l2, const struct pln_hashed *keys,
                                      const struct pln_l2_lease *leases,
                                      const struct pln_l2_item *items, size_t n, pln_ns deadline,
                                      int *statuses) {
    for (size_t i = 0; l2->ops->commit_many == NULL && i < n; i++) {
        statuses[i] = l2->ops->commit(l2, &keys[i], &leases[i], &items[i], deadline);
    }
    if (l2->ops->commit_many != NULL) {
        l2->ops->commit_many(l2, keys, leases, items, n, deadline, statuses);
    }
}

#endif
