/* SPDX-License-Identifier: MIT
 *
 * way.h - private to core: a read in pieces, for those who do other things in between: one of a key
 * (cache.c) and one of many (many.c).
 */
#ifndef PLN_WAY_H
#define PLN_WAY_H

#include "fill.h"

/* ---- cache.c ---- */

/* The way of a key through the tiers. */
struct pln_way {
    struct pln_request request;
    struct pln_l1_hit hit;  /* what L1 has of it */
    struct pln_value *kept; /* borrowed: the value of that; NULL: nothing, or it is served */
};

/* An L1 hit that needs nothing else. Returns: as pln_get(); PLN_PENDING: it takes more. */
int pln_way_plain(struct pln_cache *cache, const struct pln_hashed *key,
                  const struct pln_get_options *options, struct pln_result *result);
/* Begins a way; key and options are borrowed until its end. */
void pln_way_begin(struct pln_way *way, struct pln_cache *cache, const struct pln_hashed *key,
                   const struct pln_get_options *options, pln_loader loader, void *arg);
/* The rule's word, and L1. Returns: as pln_get(); PLN_PENDING: it has to fly. */
int pln_way_look(struct pln_way *way, struct pln_result *result);
/* True where another flight may bring what the last one did not: its leader had less time than this
 * caller, and gave up, or had no loader where this one, who followed, has. */
bool pln_way_may_do_better(const struct pln_request *request, const struct pln_outcome *outcome,
                           bool has_led);
/* What is told of a flight, which ended as pln_flight_wait() returned. Returns: as pln_get(). */
int pln_way_settle(struct pln_way *way, int flown, struct pln_outcome *outcome,
                   struct pln_result *result);
void pln_way_end(struct pln_way *way, int status, const struct pln_result *result);

/* ---- many.c ---- */

/* The keys that L1 did not answer, side by side as L2 wants them. */
struct pln_rest {
    size_t n;
    size_t n_plain; /* of them, at the end: plain ones, which are read one by one */
    size_t *index;  /* into the caller's arrays */
    struct pln_hashed *keys;
    struct pln_stamp *stamps;
    enum pln_read *reads;
    struct pln_l2_value *values;
    int *statuses;
    struct pln_l1_hit *hits; /* what L1 has of them, not good enough to be served at once */
    struct pln_value **kept; /* NULL: nothing */
};

/* A read of many keys. All but the rest is the caller's. */
struct pln_many {
    struct pln_cache *cache;
    const struct pln_bytes *keys;
    size_t n;
    const struct pln_get_options *options; /* never NULL */
    struct pln_result *results;
    int *statuses;
    unsigned loads_as; /* as in a request */
    struct pln_rest rest;
};

/* Looks at L1; rest.n keys are left. Returns: PLN_OK; negative: the call as a whole failed. The end
 * frees the rest in any case. */
int pln_many_look(struct pln_many *many);
/* Asks L2 for what is left, and the policy's bulk loaders for what that lacks. What is missing
 * then, or has failed, is counted, and a shadow told. */
void pln_many_ask(struct pln_many *many);
/* L2 alone: for who goes on with what is missing. */
void pln_many_fetch(struct pln_many *many);
/* And the loaders alone, with the counts (bulk.c). */
void pln_many_load(struct pln_many *many);
void pln_many_end(struct pln_many *many);
/* After a failure: serves what L1 still has, where the terms allow that. */
bool pln_many_keep(struct pln_cache *cache, const struct pln_hashed *key,
                   const struct pln_get_options *options, struct pln_result *result, int *status);

/* ---- bulk_call.c ---- */

bool pln_rule_loads_many(const struct pln_rule *rule);
/* Whether such a loader may be asked for what is missing. */
bool pln_many_may_load(const struct pln_many *many);

struct pln_bulk_call {
    pln_bulk_loader loader; /* NULL: that of the request's rule */
    void *arg;
    unsigned loads_as; /* as in a request */
    const struct pln_request *request;
    const struct pln_bulk *bulk; /* keys of that rule, where it is its loader */
};

/* Returns: PLN_OK; negative: nothing was loaded. */
int pln_bulk_load(struct pln_bulk_call *call);

#endif
