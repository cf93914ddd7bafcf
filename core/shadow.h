/* SPDX-License-Identifier: MIT
 *
 * shadow.h - private to core: what the live cache tells its shadow (shadow.c), and how the terms of
 * two policies are compared (compare.c).
 *
 * All of it is for sampled keys alone: whoever calls has asked pln_shadow_samples(), which is all
 * that other keys pay for.
 */
#ifndef PLN_SHADOW_H
#define PLN_SHADOW_H

#include "simulate.h"

static inline bool pln_shadow_samples(const struct pln_cache *cache, uint64_t hash) {
    /* relaxed: a request too many or too few when a shadow begins or ends */
    uint64_t below = atomic_load_explicit(&cache->shadow_below, memory_order_relaxed);
    return __builtin_expect(hash < below, 0);
}

static inline bool pln_shadow_is_there(const struct pln_cache *cache) {
    return pln_shadow_samples(cache, 0);
}

/* How a read of a sampled key ended; `source` is the tier of a negative answer, too. */
void pln_shadow_saw(struct pln_cache *cache, const struct pln_hashed *key,
                    const struct pln_get_options *options, int status, uint8_t source, size_t len);
/* The same for many keys, of which some may be sampled. */
void pln_shadow_saw_many(struct pln_cache *cache, const struct pln_bytes *keys, size_t n,
                         const struct pln_get_options *options, const int *statuses,
                         const struct pln_result *results);
/* A value of so many bytes came from L2 or a loader. */
void pln_shadow_fetched(struct pln_cache *cache, const struct pln_hashed *key, size_t len);
/* A value was set, and is in L1 if anywhere. */
void pln_shadow_set(struct pln_cache *cache, const struct pln_hashed *key,
                    const struct pln_set_options *options);
void pln_shadow_touch(struct pln_cache *cache, const struct pln_hashed *key, pln_ms ttl_ms);
/* What is void. */
void pln_shadow_forget(struct pln_cache *cache, const struct pln_hashed *key);
void pln_shadow_expire(struct pln_cache *cache, const struct pln_hashed *key);
void pln_shadow_tag(struct pln_cache *cache, struct pln_bytes tag);
void pln_shadow_match(struct pln_cache *cache, const struct pln_mask *mask);
void pln_shadow_all(struct pln_cache *cache);

/* inval.c: tells a cache's shadow of all that becomes void. */
void pln_inval_watch(struct pln_inval *inval, struct pln_cache *cache);
/* Around a fork. */
void pln_shadow_freeze(struct pln_cache *cache);
void pln_shadow_thaw(struct pln_cache *cache, bool is_child);

/* ---- compare.c ---- */

enum { PLN_MOST_PAIRS = 64 };

/* A rule of the live policy and one of the candidate's that have a key in common. */
struct pln_pair {
    unsigned live, candidate; /* indices; PLN_MAX_RULES: no rule */
    bool differs;
    uint64_t n_requests;
    char *text; /* what differs; "" where nothing does */
};

/* Zeroed: empty. */
struct pln_comparison {
    struct pln_ruleset *live; /* a reference: indices are of this one */
    struct pln_pair pairs[PLN_MOST_PAIRS];
    size_t n_pairs;
};

/* Compares what the two policies say of a key; returns whether that differs. A live policy that was
 * reloaded begins anew. */
bool pln_comparison_add(struct pln_comparison *comparison, struct pln_cache *live,
                        struct pln_cache *candidate, struct pln_bytes key);
void pln_comparison_fini(struct pln_comparison *comparison);

/* ---- rehearse.c ---- */

struct pln_shadow {
    struct pln_cache *live, *candidate;
    double sample;
    pln_ms began;
    const struct pln_told *playing; /* the worker's */
    uint64_t n_dropped;             /* under the live cache's shadow_lock */
    pthread_mutex_t lock;           /* over: */
    struct pln_shadow_side live_side, candidate_side;
    uint64_t n_differing; /* requests */
    struct pln_comparison comparison;
};

enum pln_told_kind {
    PLN_TOLD_READ,
    PLN_TOLD_FETCH,
    PLN_TOLD_SET,
    PLN_TOLD_TOUCH,
    PLN_TOLD_FORGET,
    PLN_TOLD_EXPIRE,
    PLN_TOLD_TAG,
    PLN_TOLD_PREFIX,
    PLN_TOLD_PATTERN,
    PLN_TOLD_ALL,
};

/* What happened; its text and tags follow it in one block. */
struct pln_told {
    struct pln_job job;
    struct pln_shadow *shadow;
    enum pln_told_kind kind;
    struct pln_bytes text; /* the key, the tag, the prefix */
    int status;            /* of a read */
    size_t len;            /* of the value */
    uint32_t flags;        /* of a read; PLN_GET_NO_LOAD where the live one loaded nothing */
    uint8_t source, format;
    bool is_absent;
    pln_ms ttl_ms, stale_ms, negative_ms;
    const struct pln_bytes *tags;
    size_t n_tags;
};

/* A job of the candidate's worker. */
void pln_shadow_play(struct pln_job *job, unsigned worker);
void pln_shadow_drop(struct pln_job *job);
/* In the place of every loader, the candidate policy's and the caller's; `arg` is the shadow. */
int pln_shadow_load(void *arg, struct pln_bytes key, struct pln_load *load);

#endif
