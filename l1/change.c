/* SPDX-License-Identifier: MIT
 *
 * change.c - what is done to entries that stay, and to those whose time has come: new times,
 * marks for a successor, claims, the sweep, usage.
 */
#include "internal.h"

enum {
    SLABS_A_SWEEP = 4,
    MOVES_A_SWEEP = 1024,
};

/* ---- changing in place ---- */

/* Lets the next reader claim the entry's refresh. */
static void reopen(struct entry *entry) {
    /* relaxed: a claim orders nothing */
    atomic_fetch_and_explicit(&entry->state, (uint8_t) ~ENTRY_CLAIMED, memory_order_relaxed);
}

int pln_l1_retime(struct pln_l1 *l1, const struct pln_hashed *key, pln_ms now, pln_ms refresh,
                  pln_ms stale, pln_ms end) {
    struct thread_record *record = pln_l1_record(l1);
    if (record == NULL) {
        return PLN_MISS;
    }
    pln_l1_enter(l1, record);
    struct entry *entry = pln_l1_find(l1, key);
    bool is_found = entry != NULL && !pln_l1_is_gone(l1, entry, now);
    if (is_found) {
        pln_l1_retime_entry(entry, refresh, stale, end); /* should it die, nobody reads them */
        reopen(entry);
    }
    pln_l1_leave(record);
    return is_found ? PLN_OK : PLN_MISS;
}

int pln_l1_prolong(struct pln_l1 *l1, const struct pln_hashed *key, pln_ms now, pln_ms former,
                   const struct pln_l1_life *life) {
    struct thread_record *record = pln_l1_record(l1);
    if (record == NULL || former <= now) {
        return PLN_MISS;
    }
    pln_l1_enter(l1, record);
    struct entry *entry = pln_l1_find(l1, key);
    bool is_done = entry != NULL && !pln_l1_is_gone(l1, entry, now) &&
                   pln_l1_prolong_entry(entry, former, life);
    if (is_done) {
        reopen(entry);
    }
    pln_l1_leave(record);
    return is_done ? PLN_OK : PLN_MISS;
}

size_t pln_l1_marks(struct pln_l1 *l1, const struct pln_hashed *key, pln_ms now, uint64_t *stamp,
                    uint16_t marks[PLN_MAX_TAGS]) {
    struct thread_record *record = pln_l1_record(l1);
    struct pln_l1_hit hit;
    size_t n = 0;
    if (record == NULL) {
        return 0;
    }
    pln_l1_enter(l1, record);
    const struct entry *entry = pln_l1_look_up(l1, key, now, &hit);
    if (entry != NULL && (n = pln_l1_n_marks(entry)) > 0) {
        const char *at = (const char *) entry + entry->value.offset + entry->value.len;
        memcpy(stamp, at, sizeof *stamp);
        memcpy(marks, at + sizeof *stamp, n * sizeof *marks);
    }
    pln_l1_leave(record);
    return n;
}

bool pln_l1_claim_refresh(struct pln_l1 *l1, const struct pln_hashed *key) {
    struct thread_record *record = pln_l1_record(l1);
    bool is_ours = false;
    if (record == NULL) {
        return false;
    }
    pln_l1_enter(l1, record);
    struct entry *entry = pln_l1_find(l1, key);
    if (entry != NULL) {
        /* relaxed: who has the claim matters, not what came before it. On a dead entry it is one
         * that nobody will see */
        uint8_t before = atomic_fetch_or_explicit(&entry->state, ENTRY_CLAIMED,
                                                  memory_order_relaxed);
        is_ours = pln_l1_is_visible(before) && (before & ENTRY_CLAIMED) == 0;
    }
    pln_l1_leave(record);
    return is_ours;
}

void pln_l1_unclaim_refresh(struct pln_l1 *l1, const struct pln_hashed *key) {
    struct thread_record *record = pln_l1_record(l1);
    if (record == NULL) {
        return;
    }
    pln_l1_enter(l1, record);
    struct entry *entry = pln_l1_find(l1, key);
    if (entry != NULL) {
        reopen(entry); /* on a dead entry nobody sees it */
    }
    pln_l1_leave(record);
}

/* ---- the sweep ---- */

static size_t sweep_half(struct pln_l1 *l1, struct thread_record *record, struct half *half,
                         pln_ms now) {
    size_t n = 0;
    for (unsigned i = 0; i < PLN_L1_HALF; i++) {
        struct place place = {half, i};
        struct entry *entry = pln_l1_entry_at(half, i);
        uint8_t state = entry != NULL ? pln_l1_state(entry) : ENTRY_PENDING;
        if ((state & ENTRY_DEAD) != 0) {
            pln_l1_unlink(l1, record, place, entry); /* its thread stopped half way */
        } else if (pln_l1_is_visible(state) && pln_l1_is_gone(l1, entry, now)) {
            pln_l1_kill(l1, record, place, entry, PLN_COUNT_L1_EXPIRATIONS);
            n++;
        }
    }
    return n;
}

/* A section a bucket: nobody's memory waits for a whole sweep. */
static size_t sweep_bucket(struct pln_l1 *l1, struct thread_record *record, size_t at, pln_ms now) {
    pln_l1_enter(l1, record);
    const struct index *table = &pln_l1_view(l1)->present;
    struct bucket *bucket = &table->buckets[at % table->n_buckets];
    size_t n = sweep_half(l1, record, &bucket->halves[0], now) +
               sweep_half(l1, record, &bucket->halves[1], now);
    if (pln_l1_is_over(l1, record)) {
        pln_l1_evict_one(l1, record, bucket, now, PLN_COUNT_L1_EVICTIONS);
    }
    pln_l1_leave(record);
    return n;
}

static void drop_slot(struct pln_l1 *l1, struct thread_record *record, struct place place) {
    struct entry *entry = pln_l1_entry_at(place.half, place.at);
    if (entry != NULL && pln_l1_is_gone(l1, entry, INT64_MIN)) {
        pln_l1_kill(l1, record, place, entry, PLN_COUNT_L1_EXPIRATIONS);
    }
}

void pln_l1_sweep_dropped(struct pln_l1 *l1) {
    struct thread_record *record = pln_l1_record(l1);
    if (record == NULL) {
        return;
    }
    pln_l1_enter(l1, record);
    const struct view *view = pln_l1_view(l1);
    const struct index *tables[] = {&view->old, &view->present};
    for (size_t i = 0; i < PLN_ARRAY_LEN(tables); i++) {
        for (size_t at = 0; at < tables[i]->n_buckets * 2 * PLN_L1_HALF; at++) {
            struct bucket *bucket = &tables[i]->buckets[at / 2 / PLN_L1_HALF];
            struct half *half = &bucket->halves[at / PLN_L1_HALF % 2];
            drop_slot(l1, record, (struct place){half, at % PLN_L1_HALF});
        }
    }
    pln_l1_leave(record);
}

size_t pln_l1_sweep(struct pln_l1 *l1, pln_ms now, size_t n_buckets) {
    struct thread_record *record = pln_l1_record(l1);
    size_t n = 0;
    if (record == NULL) {
        return 0;
    }
    size_t all = pln_l1_count_buckets(l1, record);
    n_buckets = n_buckets < all ? n_buckets : all;
    /* relaxed: sweepers only share the work */
    size_t at = atomic_fetch_add_explicit(&l1->sweep_at, n_buckets, memory_order_relaxed);
    for (size_t i = 0; i < n_buckets; i++) {
        n += sweep_bucket(l1, record, at + i, now);
        if (pln_l1_is_reclaim_due(l1)) {
            pln_l1_reclaim(l1, PLN_L1_RECLAIMED);
        }
    }
    pln_l1_refit(l1, record);
    pln_l1_set_tick(l1, now);
    pln_l1_move(l1, record, now, MOVES_A_SWEEP);
    pln_l1_move_end(l1, record, now, SIZE_MAX);
    pln_l1_trim(l1, record, SLABS_A_SWEEP);
    pln_l1_reclaim(l1, SIZE_MAX);
    return n;
}

/* ---- what is used ---- */

void pln_l1_usage(const struct pln_l1 *l1, struct pln_l1_usage *usage) {
    pln_l1_sum(l1, usage);
}
