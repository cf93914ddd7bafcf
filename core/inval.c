/* SPDX-License-Identifier: MIT
 *
 * inval.c - why no old value comes back: the instance's side of rules R2 to R6 and R9.
 *
 * Three things are kept, all of fixed size:
 *
 *   stripes     an epoch for each of 2^16 groups of keys, raised by every invalidation of one
 *   marks       a time for each of 2^16 groups of tags, on a clock of this instance's own
 *   generation  even while the link is live, odd while messages may be missing
 *
 * A fill takes a stamp of all three before it asks for anything. Whatever replaces the value it
 * will be given runs, in Redis, after that question was asked, so its message arrives after the
 * stamp: either the check before the entry becomes visible sees it (and the value is handed out
 * but not kept), or it arrives later and ends the entry like any other. The pair that must not be
 * reordered is "link the entry, then look at the stripe" here against "raise the stripe, then look
 * for entries" there: a store followed by a load on both sides, hence a seq_cst fence in both
 * (C2). The entry's side of it is in pln_l1_put().
 *
 * Entries of an even generation are in doubt while the next, odd one lasts. Where all that was said
 * meanwhile has then been heard, the generation goes back to the same even one, and they are good
 * again; else it goes on to the next, and they never serve again. Entries filled while it is odd
 * serve only while it is, and no longer after they were loaded than the terms allow (life.c).
 */
#include "flight.h"
#include "shadow.h"

struct pln_inval {
    _Atomic uint64_t stripes[PLN_N_STRIPES];
    _Atomic uint64_t marks[PLN_N_MARKS];
    _Atomic uint64_t mark_clock;
    struct pln_l1 *l1;
    struct pln_cache *cache; /* whose shadow is told what becomes void; NULL in tests */
    pthread_mutex_t lock;    /* over the generation's steps; readers do without */
};

int pln_inval_new(struct pln_inval **inval) {
    struct pln_inval *created = calloc(1, sizeof *created); /* untouched pages cost nothing */
    if (created == NULL) {
        return pln_fail(PLN_ENOMEM, "open: no memory for the invalidation stripes");
    }
    pthread_mutex_init(&created->lock, NULL);
    *inval = created;
    return PLN_OK;
}

void pln_inval_free(struct pln_inval *inval) {
    if (inval != NULL) {
        pthread_mutex_destroy(&inval->lock);
        free(inval);
    }
}

void pln_inval_attach(struct pln_inval *inval, struct pln_l1 *l1, bool is_linked) {
    inval->l1 = l1;
    pln_l1_set_generation(l1, is_linked ? 1 : 0); /* a link begins as lost */
}

void pln_inval_watch(struct pln_inval *inval, struct pln_cache *cache) {
    inval->cache = cache;
}

static bool is_shadowed(const struct pln_inval *inval, uint64_t hash) {
    return inval->cache != NULL && pln_shadow_samples(inval->cache, hash);
}

const _Atomic uint64_t *pln_inval_marks(const struct pln_inval *inval) {
    return inval->marks;
}

static _Atomic uint64_t *stripe_of(struct pln_inval *inval, uint64_t hash) {
    return &inval->stripes[hash % PLN_N_STRIPES];
}

static uint16_t mark_of(struct pln_bytes tag) {
    return (uint16_t) pln_hash(tag, 0); /* unkeyed: a collision costs a load, not an error */
}

void pln_stamp_take(struct pln_inval *inval, uint64_t hash, struct pln_stamp *stamp) {
    stamp->inval = inval;
    stamp->stripe = stripe_of(inval, hash);
    stamp->n_marks = 0;
    /* acquire each: none of these may be read after the request that follows is on its way. The
     * system calls of the request order them in practice, this says it. No pair: the other side
     * is the server. */
    stamp->generation = pln_l1_generation(inval->l1);
    stamp->mark_clock = atomic_load_explicit(&inval->mark_clock, memory_order_acquire);
    stamp->epoch = atomic_load_explicit(stamp->stripe, memory_order_acquire);
}

void pln_stamp_tags(struct pln_stamp *stamp, const struct pln_bytes *tags, size_t n_tags) {
    assert(n_tags <= PLN_MAX_TAGS);
    for (size_t i = 0; i < n_tags; i++) {
        stamp->marks[i] = mark_of(tags[i]);
    }
    stamp->n_marks = (uint8_t) n_tags;
}

bool pln_stamp_holds(const void *arg) {
    const struct pln_stamp *stamp = arg;
    /* C2 acquire: pairs with forget_loads; the fence between link and this check is pln_l1_put's */
    if (atomic_load_explicit(stamp->stripe, memory_order_acquire) != stamp->epoch ||
        pln_l1_generation(stamp->inval->l1) != stamp->generation) {
        return false;
    }
    for (size_t i = 0; i < stamp->n_marks; i++) {
        /* C1 acquire: pairs with pln_inval_tag */
        if (atomic_load_explicit(&stamp->inval->marks[stamp->marks[i]], memory_order_acquire) >
            stamp->mark_clock) {
            return false;
        }
    }
    return true;
}

/* Makes every fill of the stripe that has a stamp fail its check, and comes before the search for
 * entries that passed it. */
static void forget_loads(_Atomic uint64_t *stripe) {
    /* C2 release: pairs with pln_stamp_holds */
    atomic_fetch_add_explicit(stripe, 1, memory_order_acq_rel);
    /* seq_cst: the raise above before the look at the table below (store, then load) */
    atomic_thread_fence(memory_order_seq_cst);
}

/* Ends a key's entries; where memory is too short even for that, everything is void. */
static void end_entries(struct pln_inval *inval, const struct pln_hashed *key) {
    if (pln_l1_remove(inval->l1, key) < 0) {
        pln_inval_all(inval);
    }
}

void pln_inval_key(struct pln_inval *inval, const struct pln_hashed *key) {
    forget_loads(stripe_of(inval, key->hash));
    end_entries(inval, key);
    if (is_shadowed(inval, key->hash)) {
        pln_shadow_forget(inval->cache, key);
    }
}

/* Raise first, then walk. A fill that checked before its stripe was raised had linked its entry by
 * then, and the walk meets it, shown or pending; one that checks later is refused by the stripe. A
 * write whose stamp is from before (R9) finds the stripe raised at its reply, and forgets its key.
 * What takes its stamp later asks for its value later, and may stay: the walk ends it, too, where
 * it is early enough to be met, which costs a load. */
void pln_inval_match(struct pln_inval *inval, pln_l1_wanted wanted, const void *arg) {
    for (size_t i = 0; i < PLN_N_STRIPES; i++) { /* some 0.3 ms; the fence once, for all of them */
        /* C2 release: pairs with pln_stamp_holds */
        atomic_fetch_add_explicit(&inval->stripes[i], 1, memory_order_acq_rel);
    }
    atomic_thread_fence(memory_order_seq_cst); /* as in forget_loads */
    if (pln_l1_remove_each(inval->l1, wanted, arg) < 0) {
        pln_inval_all(inval);
    } else if (is_shadowed(inval, 0) && wanted == pln_mask_fits) {
        pln_shadow_match(inval->cache, arg);
    } else if (is_shadowed(inval, 0) && wanted != pln_admit_denies) { /* it has its own policy */
        pln_shadow_all(inval->cache); /* some of them: which is not to be said in an event */
    }
}

void pln_inval_expire(struct pln_inval *inval, const struct pln_hashed *key, pln_ms now) {
    forget_loads(stripe_of(inval, key->hash));
    if (pln_l1_expire(inval->l1, key, now) < 0) {
        pln_inval_all(inval);
    } else if (is_shadowed(inval, key->hash)) {
        pln_shadow_expire(inval->cache, key);
    }
}

void pln_stamp_raise(struct pln_inval *inval, uint64_t hash, struct pln_stamp *stamp) {
    pln_stamp_take(inval, hash, stamp);
    /* C2 release: pairs with pln_stamp_holds */
    stamp->epoch = atomic_fetch_add_explicit(stamp->stripe, 1, memory_order_acq_rel) + 1;
    atomic_thread_fence(memory_order_seq_cst); /* as in forget_loads */
}

bool pln_stamp_advance(struct pln_stamp *stamp, const struct pln_hashed *key) {
    uint64_t expected = stamp->epoch;
    /* C2 release: an own write is an invalidation to every older fill; pairs with
     * pln_stamp_holds. Failure: relaxed, only the fact counts. */
    if (atomic_compare_exchange_strong_explicit(stamp->stripe, &expected, expected + 1,
                                                memory_order_acq_rel, memory_order_relaxed)) {
        stamp->epoch++;
        return true;
    }
    forget_loads(stamp->stripe);
    end_entries(stamp->inval, key);
    return false;
}

void pln_inval_tag(struct pln_inval *inval, struct pln_bytes tag) {
    /* A fill that takes its stamp after this addition asks its source after the tag was
     * invalidated, so its value is a new one and the time below does not concern it.
     * acq_rel: before the mark below, and after what the caller did before it. */
    uint64_t time = atomic_fetch_add_explicit(&inval->mark_clock, 1, memory_order_acq_rel) + 1;
    _Atomic uint64_t *mark = &inval->marks[mark_of(tag)];
    /* relaxed: the exchange decides */
    uint64_t present = atomic_load_explicit(mark, memory_order_relaxed);
    while (present < time &&
           /* C1 release: pairs with pln_stamp_holds and with L1's look at an entry's marks.
            * Failure: relaxed, the loop looks again. */
           !atomic_compare_exchange_weak_explicit(mark, &present, time, memory_order_acq_rel,
                                                  memory_order_relaxed)) {
    }
    atomic_thread_fence(memory_order_seq_cst); /* as in forget_loads */
    if (is_shadowed(inval, 0)) {
        pln_shadow_tag(inval->cache, tag);
    }
}

/* Steps the generation: to the next odd number, the next even one, or the next but one. */
static void step(struct pln_inval *inval, bool (*wanted)(uint32_t present), uint32_t by) {
    pthread_mutex_lock(&inval->lock);
    uint32_t present = pln_l1_generation(inval->l1);
    if (wanted(present)) {
        pln_l1_set_generation(inval->l1, present + by);
    }
    pthread_mutex_unlock(&inval->lock);
}

static bool is_live(uint32_t generation) {
    return generation % 2 == 0;
}

static bool is_lost(uint32_t generation) {
    return generation % 2 == 1;
}

static bool is_any(uint32_t generation) {
    (void) generation;
    return true;
}

void pln_inval_all(struct pln_inval *inval) {
    step(inval, is_any, 2);
    if (is_shadowed(inval, 0)) {
        pln_shadow_all(inval->cache);
    }
}

void pln_inval_down(struct pln_inval *inval) {
    step(inval, is_live, 1);
}

void pln_inval_up(struct pln_inval *inval, bool is_whole) {
    step(inval, is_lost, is_whole ? (uint32_t) -1 : 1);
    if (!is_whole && is_shadowed(inval, 0)) {
        pln_shadow_all(inval->cache);
    }
}

/* ---- around a fork ---- */

void pln_inval_freeze(struct pln_inval *inval) {
    pthread_mutex_lock(&inval->lock);
}

void pln_inval_thaw(struct pln_inval *inval) {
    pthread_mutex_unlock(&inval->lock);
}
