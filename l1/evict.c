/* SPDX-License-Identifier: MIT
 *
 * evict.c - who goes when the budget is used up.
 *
 * Least recently used, by sample: the bucket in which the new entry is to live is the sample. Its
 * entries are a random one of all (the hash saw to that), its lines are in the cache already, and
 * evicting where one inserts keeps the buckets evenly filled. Simulated with 16 entries a sample
 * this comes within 0.2 points of exact LRU. Where the bucket is less than half full a neighbour
 * is taken.
 *
 * What nobody may return any more goes before anything else; of two that were used in the same
 * eighth of a second the cheaper goes first.
 */
#include "internal.h"

enum {
    FEWEST = PLN_L1_SLOTS / 2, /* a sample smaller than this says too little */
    TRIES = 256,               /* buckets looked at before a store is refused */
    SAME_TIME_SHIFT = 7,
};

/* The entries of a bucket, their memory asked for all at once. */
static size_t sample(const struct bucket *bucket, struct entry **entries) {
    size_t n = 0;
    for (size_t i = 0; i < PLN_L1_SLOTS; i++) {
        /* P1 acquire: pairs with link_at */
        struct entry *entry = pln_l1_slot_entry(
            atomic_load_explicit(&bucket->slots[i], memory_order_acquire));
        if (entry != NULL) {
            __builtin_prefetch(entry);
            entries[n++] = entry;
        }
    }
    return n;
}

static bool is_visible(const struct entry *entry) {
    /* P2 acquire: pairs with show and kill_one */
    return (atomic_load_explicit(&entry->state, memory_order_acquire) & ENTRY_VISIBLE) != 0;
}

/* How well an entry can be spared: its age in eighths of a second, then its cost. */
static uint64_t spareness(const struct entry *entry, pln_ms now) {
    /* relaxed: a guess is as good */
    uint32_t touched = atomic_load_explicit(&entry->touched, memory_order_relaxed);
    uint32_t age = (uint32_t) now - touched;
    if (entry->cost == 0) {
        return (uint64_t) age << 8;
    }
    uint32_t coarse = (age >> SAME_TIME_SHIFT) << SAME_TIME_SHIFT;
    return ((uint64_t) coarse << 8) - (coarse > 0 ? entry->cost : 0);
}

bool pln_l1_evict_one(struct pln_l1 *l1, struct thread_record *record, struct bucket *bucket,
                      pln_ms now) {
    struct entry *entries[PLN_L1_SLOTS];
    struct entry *worst = NULL;
    size_t n = sample(bucket, entries);
    for (size_t i = 0; i < n; i++) {
        if (!is_visible(entries[i])) {
            continue;
        }
        if (pln_l1_is_gone(l1, entries[i], now)) {
            pln_l1_kill(l1, record, bucket, entries[i], PLN_COUNT_L1_EXPIRATIONS);
            return true;
        }
        if (worst == NULL || spareness(entries[i], now) > spareness(worst, now)) {
            worst = entries[i];
        }
    }
    if (worst == NULL || l1->eviction == PLN_L1_NONE) {
        return false;
    }
    pln_l1_kill(l1, record, bucket, worst, PLN_COUNT_L1_EVICTIONS);
    return true;
}

static size_t fill_of(const struct bucket *bucket) {
    size_t n = 0;
    for (size_t i = 0; i < PLN_L1_SLOTS; i++) {
        /* relaxed: only how many */
        n += atomic_load_explicit(&bucket->slots[i], memory_order_relaxed) != 0;
    }
    return n;
}

static bool is_over(const struct pln_l1 *l1, size_t bytes) {
    /* relaxed: sums; two writers may pass together, by one entry each */
    return l1->table_bytes + atomic_load_explicit(&l1->live_bytes, memory_order_relaxed) + bytes >
           l1->max_bytes - l1->max_waiting_bytes;
}

static bool is_backed_up(const struct pln_l1 *l1) {
    /* relaxed: a sum */
    return atomic_load_explicit(&l1->waiting_bytes, memory_order_relaxed) > l1->max_waiting_bytes;
}

int pln_l1_make_room(struct pln_l1 *l1, struct thread_record *record, struct bucket *bucket,
                     size_t bytes, pln_ms now) {
    size_t at = (size_t) (bucket - l1->buckets);
    for (int i = 0; is_over(l1, bytes); i++) {
        if (i == TRIES || l1->n_buckets == 0) {
            return pln_fail(PLN_EBUSY, "l1: the budget of %zu bytes is used up%s", l1->max_bytes,
                            l1->eviction == PLN_L1_NONE ? " (eviction is \"none\")" : "");
        }
        struct bucket *sampled = &l1->buckets[at];
        /* a neighbour's entries are the better choice only where there are more of them */
        if ((i > 0 || fill_of(sampled) >= FEWEST || l1->n_buckets == 1) &&
            pln_l1_evict_one(l1, record, sampled, now)) {
            continue;
        }
        at = (at + 1) % l1->n_buckets;
    }
    for (int i = 0; i < CK_EPOCH_LENGTH && is_backed_up(l1); i++) {
        pln_l1_leave(record);
        pln_l1_reclaim(l1);
        pln_l1_enter(l1, record);
    }
    if (is_backed_up(l1)) {
        return pln_fail(PLN_EBUSY, "l1: over %zu bytes of ended entries wait for readers",
                        l1->max_waiting_bytes);
    }
    return PLN_OK;
}
