/* SPDX-License-Identifier: MIT
 *
 * fill.h - what fill.c and behind.c share: a fill under way, and its steps.
 */
#ifndef PLN_FILL_H
#define PLN_FILL_H

#include "flight.h"

/* The state of a fill. */
struct fill {
    struct pln_request *request;
    struct pln_cache *cache;
    struct pln_flight *flight;
    struct pln_stamp stamp;
    struct pln_l2_lease lease;
    bool has_lease;
    bool has_old;                /* there was a value of the key before */
    bool is_l2_away;             /* failed in this fill: not asked again */
    int worker;                  /* -1: in the caller's thread */
    struct pln_outcome fallback; /* a stale value of L2's */
};

/* ---- fill.c ---- */

/* Asks L2, where the request allows it. PLN_OK: the outcome is set. PLN_MISS: go on; a stale value
 * is the fallback. Negative: L2 failed. */
int pln_fill_ask(struct fill *fill, enum pln_read how, struct pln_outcome *outcome);
/* Whether the request's time is over. */
bool pln_fill_is_late(const struct fill *fill);
/* Whether the policy has a loader for the key, and the call allows it. */
bool pln_fill_has_loader(const struct pln_request *request);
/* All from the lease on, to the flight's end. */
void pln_fill_finish(struct fill *fill);
/* Ends the flight; turns a failure or miss into L2's stale value, where the terms allow that. */
void pln_fill_end(struct fill *fill, int status, struct pln_outcome *outcome);

/* ---- behind.c ---- */

/* Hands the rest of a fill to a worker; takes over the fallback. The flight is ended where that
 * fails. */
void pln_fill_hand_over(struct fill *fill, bool asks_l2_first, bool is_urgent);

#endif
