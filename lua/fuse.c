/* SPDX-License-Identifier: MIT
 *
 * fuse.c - a function that fails each time costs its budget each time: after some failures in a
 * row it is not called for a while, and then once, to see.
 *
 * All accesses are relaxed. Each member stands for itself, nothing is handed over by them, and of
 * several workers that fail at once it does not matter who is counted first.
 */
#include "script.h"

enum { LOG_EVERY_MS = 1000 };

static const pln_ms never = INT64_MIN;

void pln_fuse_init(struct pln_fuse *fuse) {
    atomic_init(&fuse->logged_at, never);
    atomic_init(&fuse->off_until, never);
    atomic_init(&fuse->n_in_row, 0);
}

bool pln_fuse_lets(struct pln_fuse *fuse, pln_ms now) {
    /* relaxed: see the head of this file, also below */
    pln_ms until = atomic_load_explicit(&fuse->off_until, memory_order_relaxed);
    if (until == never) {
        return true;
    }
    /* relaxed: the one whose exchange succeeds tries; the others stay off while it does */
    return now >= until &&
           atomic_compare_exchange_strong_explicit(&fuse->off_until, &until, now + PLN_FUSE_OFF_MS,
                                                   memory_order_relaxed, memory_order_relaxed);
}

void pln_fuse_succeed(struct pln_fuse *fuse) {
    /* relaxed: a look first, since a function that works must not write to a shared line */
    if (atomic_load_explicit(&fuse->n_in_row, memory_order_relaxed) != 0) {
        /* relaxed, twice: as above */
        atomic_store_explicit(&fuse->n_in_row, 0, memory_order_relaxed);
        atomic_store_explicit(&fuse->off_until, never, memory_order_relaxed);
    }
}

bool pln_fuse_fail(struct pln_fuse *fuse, pln_ms now) {
    pln_ms on = never;
    /* relaxed: a count */
    unsigned before = atomic_fetch_add_explicit(&fuse->n_in_row, 1, memory_order_relaxed);
    /* relaxed: of those who fail at once one turns it off */
    return before + 1 >= PLN_FUSE_FAILURES &&
           atomic_compare_exchange_strong_explicit(&fuse->off_until, &on, now + PLN_FUSE_OFF_MS,
                                                   memory_order_relaxed, memory_order_relaxed);
}

bool pln_fuse_may_log(struct pln_fuse *fuse, pln_ms now) {
    /* relaxed, twice: of several failing at once one may log */
    pln_ms last = atomic_load_explicit(&fuse->logged_at, memory_order_relaxed);
    if (last != never && now - last < LOG_EVERY_MS) {
        return false;
    }
    return atomic_compare_exchange_strong_explicit(&fuse->logged_at, &last, now,
                                                   memory_order_relaxed, memory_order_relaxed);
}
