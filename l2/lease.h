/* SPDX-License-Identifier: MIT
 *
 * lease.h - private to this folder: how scripts on one value are run (redis.c), and leases.
 */
#ifndef PLN_L2_LEASE_H
#define PLN_L2_LEASE_H

#include "internal.h"

/* ---- redis.c: what changes a value ---- */

/* Runs a script that answers with 1 or its message's number, with 0 for the outcome `otherwise`, or
 * with -1 for PLN_PENDING. */
int pln_redis_run(struct pln_redis *redis, const struct pln_script_call *call, int otherwise,
                  pln_ns deadline);
/* Stores an item by a call whose arguments before it are set. */
int pln_redis_run_item(struct pln_redis *redis, struct pln_script_call *call,
                       const struct pln_l2_item *item, pln_ns deadline);
/* In a cluster the tags' clock is on a server of its own, and read before what is stored under it;
 * elsewhere 0. */
int pln_redis_clock_apart(struct pln_redis *redis, pln_ns deadline, uint64_t *clock);

/* ---- lease.c: the right to load, and what is stored by it ---- */

int pln_redis_lease(struct pln_l2 *l2, const struct pln_hashed *key, pln_ms length, pln_ns deadline,
                    struct pln_l2_lease *lease);
void pln_redis_lease_many(struct pln_l2 *l2, const struct pln_hashed *keys, const pln_ms *lengths,
                          size_t n, pln_ns deadline, struct pln_l2_lease *leases, int *statuses);
int pln_redis_commit(struct pln_l2 *l2, const struct pln_hashed *key,
                     const struct pln_l2_lease *lease, const struct pln_l2_item *item,
                     pln_ns deadline);
void pln_redis_commit_many(struct pln_l2 *l2, const struct pln_hashed *keys,
                           const struct pln_l2_lease *leases, const struct pln_l2_item *items,
                           size_t n, pln_ns deadline, int *statuses);
int pln_redis_release(struct pln_l2 *l2, const struct pln_hashed *key,
                      const struct pln_l2_lease *lease, pln_ns deadline);

#endif
