/* SPDX-License-Identifier: MIT
 *
 * simulate.h - private to core: caches that are played with, beside their sources. What a load
 * function would bring is stood in for; one thread has the cache to itself, so that everything that
 * somebody waits for happens in that thread, in one order.
 */
#ifndef PLN_SIMULATE_H
#define PLN_SIMULATE_H

#include "engine.h"

struct pln_alone {
    pln_loader load; /* in the place of every load function of the policy */
    void *arg;
    uint64_t seed;
    unsigned n_threads; /* 0: what runs behind waits for pln_workers_step(); 1: that thread is the
                           one that uses the cache, in its jobs */
};

/* As pln_open_over(), for one thread's use; `alone` NULL: for all. */
int pln_open_alone(const struct pln_options *options, const struct pln_alone *alone,
                   pln_l2_maker make, void *arg, struct pln_cache **cache);

/* What a policy's load hook does, with the stand-in in the load function's place: the rule's ttl,
 * tags and related functions see what it brings. */
int pln_stand_in_load(const struct pln_request *request, unsigned worker, struct pln_load *load);

/* worker.c: in the place of a pool's threads, where it has none: runs what is queued; does what is
 * done once a second. */
void pln_workers_step(struct pln_workers *pool, bool sweeps);

#endif
