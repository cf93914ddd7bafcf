/* SPDX-License-Identifier: MIT
 *
 * fill.h - what fill.c, lease.c, behind.c, steps.c and bulk.c share: a fill under way, and its
 * steps.
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
    bool has_waited;             /* for another's */
    bool has_old;                /* there was a value of the key before */
    bool is_l2_away;             /* failed in this fill: not asked again */
    bool may_lag;                /* writes may wait that the loader's source does not have yet */
    int worker;                  /* -1: in the caller's thread */
    struct pln_outcome fallback; /* a stale value of L2's */
    struct pln_value *old;       /* while the loader runs: what it is shown */
    pln_ms load_began;
    pln_ns load_began_ns;
    struct pln_l2_item *later; /* where what is to be stored is left, for who stores many at once:
                                  then has_later is set; NULL: it is stored at once */
    bool has_later;
};

/* ---- fill.c ---- */

/* Asks L2, where the request allows it. PLN_OK: the outcome is set. PLN_MISS: go on; a stale value
 * is the fallback. Negative: L2 failed. */
int pln_fill_ask(struct fill *fill, enum pln_read how, struct pln_outcome *outcome);
/* What of it remains where somebody else waits for L2: the stamp comes before the question, and the
 * answer, whose value this frees, is taken as by pln_fill_ask(). */
bool pln_fill_uses_l2(const struct fill *fill);
void pln_fill_stamp(struct fill *fill);
int pln_fill_answered(struct fill *fill, pln_ns began, int status, struct pln_l2_value *value,
                      struct pln_outcome *outcome);
/* Whether all of it is left to a worker, since it may take too long for a caller who is to be
 * served something stale. */
bool pln_fill_leaves_all(struct fill *fill);
/* What follows L2's first answer. True where the call's own loader is to run, from the lease on;
 * else the fill is ended, or a worker's. */
bool pln_fill_asked(struct fill *fill, int status, struct pln_outcome *outcome);
/* Whether the request's time is over. */
bool pln_fill_is_late(const struct fill *fill);
/* Whether the policy has a loader for the key, and the call allows it. */
bool pln_fill_has_loader(const struct pln_request *request);
/* All from the lease on, to the flight's end. */
void pln_fill_finish(struct fill *fill);
/* Ends the flight; turns a failure or miss into L2's stale value, where the terms allow that. */
void pln_fill_end(struct fill *fill, int status, struct pln_outcome *outcome);

/* Around a load: what is there already is shown to it. */
void pln_fill_load_begins(struct fill *fill, struct pln_load *load);
void pln_fill_load_ends(struct fill *fill, struct pln_load *load, int status);
/* What a call's own loader returned, or PLN_ELOADER where it cannot be. Where the options are not
 * NULL it adds the call's tags. */
int pln_fill_check(const struct pln_get_options *options, struct pln_load *load, int status);
/* Stores what was loaded, and ends the lease. Returns PLN_OK with the outcome, or the failure. Of
 * what is left for later, outcome and load have the bytes. */
int pln_fill_store(struct fill *fill, struct pln_load *load, int status,
                   struct pln_outcome *outcome);
/* An item as L2 gets it. Owns: *packed is for free(). */
struct pln_l2_item pln_fill_packed(const struct fill *fill, const struct pln_l2_item *item,
                                   void **packed);
/* What became of its commit: a value that L2 took is kept in L1. */
void pln_fill_committed(struct fill *fill, const struct pln_l2_item *item, int status,
                        struct pln_l1_life *life);

/* ---- queued.c ---- */

/* Looks for what waits to be stored, before a loader is asked. PLN_MISS: it is to be asked; where
 * Redis could not be asked what it brings is not to be kept. Else its place is taken by this; to be
 * stored as what a loader says. */
int pln_fill_find_queued(struct fill *fill, struct pln_load *load);
/* Whether nothing waits of any key: then many loads need not look. */
bool pln_queued_is_empty(struct pln_cache *cache);

/* ---- lease.c ---- */

/* Asks for the right to load, once, and for nothing else. What is read afterwards may be kept.
 * Returns: PLN_OK; PLN_PENDING where another process has it; PLN_MISS where there is none, for L2
 * has no part in it or is away. */
int pln_fill_ask_lease(struct fill *fill);
/* Takes what became of asking: pln_l2_lease()'s status. Returns: as above. */
int pln_fill_leased(struct fill *fill, int status);
/* Gets the right to load, or another's value meanwhile. PLN_OK: the outcome is set. PLN_MISS: load
 * (with a lease, or without where L2 is away). Negative: the deadline. */
int pln_fill_get_lease(struct fill *fill, struct pln_outcome *outcome);
/* The same in pieces: PLN_PENDING: another has it, so sleep until pln_fill_nap(), or until nudged,
 * and try again. */
int pln_fill_try_lease(struct fill *fill, struct pln_outcome *outcome);
pln_ns pln_fill_nap(const struct fill *fill);
int pln_fill_retry_lease(struct fill *fill, struct pln_outcome *outcome);
/* Gives it back, where it is held. */
void pln_fill_end_lease(struct fill *fill);

/* ---- cache.c ---- */

/* All of a request but its loader; options are borrowed until its end, which lets go of its
 * ruleset. */
void pln_request_begin(struct pln_request *request, struct pln_cache *cache,
                       const struct pln_hashed *key, const struct pln_get_options *options);
/* A flight to lead or to follow, for pln_flight_leave(); NULL: no memory. */
struct pln_flight *pln_cache_join(const struct pln_request *request, bool *leads);
/* How a read ends: told and counted. Takes the outcome's value. */
int pln_cache_deliver(struct pln_cache *cache, struct pln_outcome *outcome,
                      struct pln_result *result);

/* ---- behind.c ---- */

/* Hands the rest of a fill to a worker; takes over the fallback. The flight is ended where that
 * fails. */
void pln_fill_hand_over(struct fill *fill, bool asks_l2_first, bool is_urgent);

#endif
