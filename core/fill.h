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
/* Takes what L2 has said of the key, a value of the caller's where `status` is PLN_OK. Returns, and
 * sets the outcome: as above. */
int pln_fill_saw(struct fill *fill, int status, struct pln_l2_value *value,
                 struct pln_outcome *outcome);
/* Asks for the right to load, once. What is read afterwards may be kept. Returns: PLN_OK;
 * PLN_PENDING where another process has it; PLN_MISS where there is none, for L2 has no part in it
 * or is away. */
int pln_fill_try_lease(struct fill *fill);
void pln_fill_end_lease(struct fill *fill);
/* Gets the right to load, or another's value meanwhile. PLN_OK: the outcome is set. PLN_MISS: load
 * (with a lease, or without where L2 is away). Negative: the deadline. */
int pln_fill_lease(struct fill *fill, struct pln_outcome *outcome);
/* Looks at what the call's own loader said, and adds the call's tags. Returns: the status, or why
 * it is of no use. */
int pln_fill_check(const struct fill *fill, struct pln_load *load, int status);
/* Stores what was loaded, or ends the lease after a failure. `began`: the loading. Returns: PLN_OK
 * or PLN_ABSENT (the outcome is set), or the failure. Takes the load's value. */
int pln_fill_take(struct fill *fill, struct pln_load *load, int status, pln_ms began,
                  struct pln_outcome *outcome);
/* Ends the flight; turns a failure or miss into L2's stale value, where the terms allow that. */
void pln_fill_end(struct fill *fill, int status, struct pln_outcome *outcome);

/* ---- cache.c ---- */

/* A flight to lead or to follow, for pln_flight_leave(); NULL: no memory. */
struct pln_flight *pln_cache_join(const struct pln_request *request, bool *leads);
/* How a read ends: told and counted. Takes the outcome's value. */
int pln_cache_deliver(struct pln_cache *cache, struct pln_outcome *outcome,
                      struct pln_result *result);

/* ---- many.c ---- */

/* As pln_get_many(), of which it is the first part: what is missing, or failed, is not counted. */
int pln_many_read(struct pln_cache *cache, const struct pln_bytes *keys, size_t n,
                  const struct pln_get_options *options, struct pln_result *results, int *statuses);
/* After a failure: serves what L1 still has, where the terms allow that. */
bool pln_many_keep(struct pln_cache *cache, const struct pln_hashed *key,
                   const struct pln_get_options *options, struct pln_result *result, int *status);

/* ---- behind.c ---- */

/* Hands the rest of a fill to a worker; takes over the fallback. The flight is ended where that
 * fails. */
void pln_fill_hand_over(struct fill *fill, bool asks_l2_first, bool is_urgent);

#endif
