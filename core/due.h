/* SPDX-License-Identifier: MIT
 *
 * due.h - what hits set going behind a value that is served, and what holds it back; a part of
 * engine.h, which includes it.
 *
 *   due.c    loads: by chance before their time; failed ones not again at once
 *   cost.c   what loads take, measured for each rule
 *   slide.c  lives that hits prolong
 *   popular.c  popular keys that are loaded anew without a request
 *
 * Early loads (the field `early`, a factor b): a hit that finds `left` of a value's ttl loads it
 * anew with the chance exp(-left / (b * c)), where c is what a load has taken of late. So one of
 * those who come shortly before the end loads, and none waits; what is asked for often is loaded
 * earlier, what is asked for seldom not at all. This is XFetch, from A. Vattani, F. Chierichetti,
 * K. Lowenstein, "Optimal Probabilistic Cache Stampede Prevention", VLDB 2015. Hits before the
 * entry's refresh point need not be asked: there the chance is below 1 in 100,000.
 */
#ifndef PLN_DUE_H
#define PLN_DUE_H

#include <pthread.h>

#include "policy.h"

struct pln_l1_hit;
struct pln_l2_item;

/* When loads of keys failed, as far as it matters still: a key's place is that of its hash, and one
 * who comes later takes it. What is forgotten so costs a load that might have waited. */
enum { PLN_N_FAILED = 1024 };

struct pln_failed {
    _Atomic uint64_t places[PLN_N_FAILED]; /* until when, and what it can of the hash */
};

/* A load of the key has failed: none where a value can be served meanwhile for the terms' `retry`.
 * Threads: any, likewise below. */
void pln_failed_note(struct pln_cache *cache, const struct pln_hashed *key,
                     const struct pln_terms *terms);
/* One has not. */
void pln_failed_clear(struct pln_cache *cache, const struct pln_hashed *key);
bool pln_failed_lately(const struct pln_cache *cache, const struct pln_hashed *key, pln_ms now);

/* How long before its end a value is due for refresh, where its terms have early loads; else 0. */
pln_ms pln_early_window(const struct pln_terms *terms);
/* Whether a hit loads early, by a random number above 0 and at most 1. */
bool pln_early_draw(const struct pln_terms *terms, pln_ms left, double chance);

/* Whether a hit past its refresh point is to start a load, as far as it can. */
bool pln_due(struct pln_cache *cache, const struct pln_hashed *key, const struct pln_terms *terms,
             const struct pln_l1_hit *hit, pln_ms now);
/* The same where the terms are still to be found. */
bool pln_due_by_rule(struct pln_cache *cache, const struct pln_hashed *key,
                     const struct pln_l1_hit *hit, pln_ms now);

/* ---- slide.c ---- */

/* From when on a hit prolongs a value's life, by what is left of it now; PLN_FOREVER: never. */
pln_ms pln_slide_point(const struct pln_terms *terms, pln_ms now, pln_ms age, pln_ms fresh_left);
/* Prolongs the life of what a hit in L1 has found past that point, once for all such hits. */
void pln_slide(struct pln_cache *cache, const struct pln_hashed *key, const struct pln_terms *terms,
               const struct pln_l1_hit *hit, pln_ms now);
/* The same of what was read from L2, where it is past that point. */
void pln_slide_read(struct pln_cache *cache, const struct pln_hashed *key,
                    const struct pln_terms *terms, const struct pln_l2_item *item);

/* ---- popular.c ---- */

struct pln_popular {
    pthread_mutex_t lock; /* over: */
    struct pln_popular_key *keys;
    size_t n;
};

/* Looks at the hottest keys, and starts the loads of those that are due. Once a second. */
void pln_popular_run(struct pln_cache *cache);
void pln_popular_fini(struct pln_popular *popular);
/* In a child: who was looking did not come along. */
void pln_popular_after_fork(struct pln_popular *popular);

/* ---- cost.c ---- */

/* Adds a load to the moving average, in which the last eight count for two thirds. The clock's
 * steps even out in it. */
void pln_cost_note(const struct pln_terms *terms, pln_ms took);
/* The average in ms; 0 before the first load. */
double pln_cost(const struct pln_terms *terms);
/* Gives the rules of a ruleset that is not in force yet a place each, with what is known of the
 * rules that have the same patterns now. Without memory nothing is kept. */
void pln_costs_follow(struct pln_ruleset *ruleset, const struct pln_ruleset *former);

#endif
