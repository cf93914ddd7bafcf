/* SPDX-License-Identifier: MIT
 *
 * perilune_shadow.h - a candidate policy beside the live one, on a sample of the keys; a part of
 * perilune.h, which includes it.
 */
#ifndef PERILUNE_SHADOW_H
#define PERILUNE_SHADOW_H

#include "perilune.h"

#ifdef __cplusplus
extern "C" {
#endif

/* ---- shadow mode ---- */

/* Of the keys a sample is chosen by hash. Each read of one is told to a thread of the shadow's,
 * which plays it through the candidate policy and an L1 of its own, of the sample's share of
 * max_bytes; so are sets, deletes, expiries, tags, prefixes, clears. Its values are copies of the
 * live L1's, so nothing is loaded for it and nobody else sees it. Reads of other keys pay for one
 * comparison. What it does not know of: tags and a ttl that a load function gave for its value, and
 * what is warmed. */
struct pln_shadow_options {
    double sample;  /* share of the keys, more than 0, at most 1; default 0.05 */
    uint32_t flags; /* enum pln_policy_flags */
};

/* The same reads under one policy; the first five make up the requests. */
struct pln_shadow_side {
    uint64_t hits;     /* answered fresh by L1, negatives included */
    uint64_t stale;    /* by a value past its ttl */
    uint64_t waited;   /* by L2, or a load that was waited for */
    uint64_t misses;   /* by nothing */
    uint64_t failures; /* ended in an error */
    uint64_t requests;
    uint64_t fetches; /* values got from L2 or a loader, behind a read too */
    uint64_t fetched_bytes;
};

struct pln_shadow_report {
    double sample;
    pln_ms took_ms; /* since it began */
    struct pln_shadow_side live, candidate;
    uint64_t differing;     /* requests for which the two have other terms: pln_shadow_terms() */
    uint64_t dropped;       /* reads and writes that came too fast: neither side has them */
    uint64_t waiting;       /* likewise, but played soon */
    uint64_t policy_errors; /* of the candidate's functions */
    uint64_t l1_bytes, max_bytes, l1_entries; /* of the candidate's L1 */
};

/* Puts a policy file beside the one in force, in the place of another candidate; its report begins
 * anew. Returns: PLN_OK; PLN_EINVAL, PLN_EPOLICY as pln_load_policy(), PLN_ENOMEM, PLN_ESYSTEM: the
 * candidate that was there stays. Threads: any, for all here. */
PLN_API int pln_shadow_begin(struct pln_cache *cache, const char *path,
                             const struct pln_shadow_options *options);
/* Takes it away; no call of its functions is running when this returns. Nothing where there is
 * none; pln_close() does the same. */
PLN_API void pln_shadow_end(struct pln_cache *cache);
/* Returns: PLN_OK; PLN_MISS where there is none. */
PLN_API int pln_shadow_report(struct pln_cache *cache, struct pln_shadow_report *report);
/* Writes which terms differ, and for which keys, a paragraph for each pair of rules; of 64 pairs,
 * the first ones. Returns the length of the whole text, as snprintf does. */
PLN_API size_t pln_shadow_terms(struct pln_cache *cache, char *buffer, size_t size);

#ifdef __cplusplus
}
#endif

#endif
