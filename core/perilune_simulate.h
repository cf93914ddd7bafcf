/* SPDX-License-Identifier: MIT
 *
 * perilune_simulate.h - requests played through a cache on a virtual clock, to see what a policy
 * and a budget would do before they serve; a part of perilune.h, which includes it.
 */
#ifndef PERILUNE_SIMULATE_H
#define PERILUNE_SIMULATE_H

#include "perilune.h"

#ifdef __cplusplus
extern "C" {
#endif

/* ---- simulation ---- */

/* A cache whose clock goes by its requests, and whose sources are stood in for: each load brings
 * zeros, as many as the request says, and takes no time. All else is the real thing: L1 with its
 * budget and eviction, the policy with its ttl, tags and related functions, refreshing ahead and
 * serving stale. What runs behind a request is done before the next. */
struct pln_simulation; /* opaque */

struct pln_simulation_options {
    const struct pln_options *cache; /* NULL: all defaults; clock, redis and workers are not used */
    size_t value_bytes; /* of what is loaded behind, where no size is known; default 1024 */
    bool has_l2;        /* with an L2 in memory, without bounds */
};

/* Counts since the beginning; the first six make up the requests. */
struct pln_simulation_report {
    uint64_t l1_hits;  /* answered fresh by L1, negatives included */
    uint64_t stale;    /* by a value past its ttl */
    uint64_t l2_hits;  /* by L2 */
    uint64_t waited;   /* by a load that was waited for */
    uint64_t misses;   /* by nothing */
    uint64_t failures; /* ended in an error */
    uint64_t requests;
    uint64_t loads;        /* those that ran behind too */
    uint64_t refreshes;    /* loads behind a request */
    uint64_t loaded_bytes; /* of the values that they brought */
    uint64_t served_bytes; /* of the values that were handed out */
    uint64_t evictions;
    uint64_t policy_errors; /* functions of the policy that failed: the rule's own values held */
    uint64_t l1_bytes, l1_entries; /* at the end */
};

/* Opens one; the policy is loaded by pln_load_policy() into its cache.
 * Returns: PLN_OK; as pln_open(). Owns: the caller closes it. Threads: one at a time, for all here.
 */
PLN_API int pln_simulation_open(const struct pln_simulation_options *options,
                                struct pln_simulation **simulation);
/* NULL is allowed. The cache is closed with it. */
PLN_API void pln_simulation_close(struct pln_simulation *simulation);
/* Its cache, for a policy and for what can be seen of it; not for requests. */
PLN_API struct pln_cache *pln_simulation_cache(struct pln_simulation *simulation);

/* Plays one request at a point in time; what is earlier than the last one is taken for as late. A
 * key of a rule without a load function is loaded as by the caller's own loader. What becomes of
 * it is counted. Returns: PLN_OK; PLN_EINVAL (the key), PLN_ENOMEM. */
PLN_API int pln_simulation_get(struct pln_simulation *simulation, struct pln_bytes key,
                               size_t value_bytes, pln_ms at);
PLN_API void pln_simulation_report(struct pln_simulation *simulation,
                                   struct pln_simulation_report *report);

#ifdef __cplusplus
}
#endif

#endif
