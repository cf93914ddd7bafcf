/* SPDX-License-Identifier: MIT
 *
 * change.c - what is done to entries that stay: new times, claims, the sweep, iteration, usage.
 */
#include "internal.h"

/* ---- changing in place ---- */

/* Lets the next reader claim the entry's refresh. */
static void reopen(struct entry *entry) {
    uint8_t claimed = ENTRY_VISIBLE | ENTRY_CLAIMED;
    /* relaxed: a claim orders nothing. On failure it is open, or dead */
    atomic_compare_exchange_strong_explicit(&entry->state, &claimed, ENTRY_VISIBLE,
                                            memory_order_relaxed, memory_order_relaxed);
}

int pln_l1_retime(struct pln_l1 *l1, const struct pln_hashed *key, pln_ms refresh, pln_ms stale,
                  pln_ms end) {
    struct thread_record *record = pln_l1_record(l1);
    struct pln_l1_hit hit;
    if (record == NULL) {
        return PLN_MISS;
    }
    pln_l1_enter(l1, record);
    struct entry *entry = pln_l1_find(l1, key);
    bool is_found = entry != NULL && pln_l1_read_hit(entry, &hit);
    if (is_found) {
        struct pln_l1_life life = {hit.life.created, refresh, stale, end};
        pln_l1_write_times(entry, &life); /* should it die just now, nobody reads them */
        reopen(entry);
    }
    pln_l1_leave(record);
    return is_found ? PLN_OK : PLN_MISS;
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
        uint8_t open = ENTRY_VISIBLE;
        /* relaxed: who has the claim matters, not what came before it */
        is_ours = atomic_compare_exchange_strong_explicit(
            &entry->state, &open, ENTRY_VISIBLE | ENTRY_CLAIMED, memory_order_relaxed,
            memory_order_relaxed);
    }
    pln_l1_leave(record);
    return is_ours;
}

/* ---- all entries ---- */

static struct entry *visible_at(const struct bucket *bucket, size_t i) {
    /* P1 acquire: pairs with link_at */
    struct entry *entry = pln_l1_slot_entry(
        atomic_load_explicit(&bucket->slots[i], memory_order_acquire));
    /* P2 acquire: pairs with show */
    return entry != NULL &&
                   (atomic_load_explicit(&entry->state, memory_order_acquire) & ENTRY_VISIBLE) != 0
               ? entry
               : NULL;
}

static size_t sweep_bucket(struct pln_l1 *l1, struct thread_record *record, struct bucket *bucket,
                           pln_ms now) {
    size_t n = 0;
    for (size_t i = 0; i < PLN_L1_SLOTS; i++) {
        struct entry *entry = visible_at(bucket, i);
        if (entry != NULL && pln_l1_is_gone(l1, entry, now)) {
            pln_l1_kill(l1, record, bucket, entry, PLN_COUNT_L1_EXPIRATIONS);
            n++;
        }
    }
    return n;
}

size_t pln_l1_sweep(struct pln_l1 *l1, pln_ms now, size_t n_buckets) {
    struct thread_record *record = pln_l1_record(l1);
    size_t n = 0;
    if (record == NULL) {
        return 0;
    }
    n_buckets = n_buckets < l1->n_buckets ? n_buckets : l1->n_buckets;
    /* relaxed: sweepers only share the work */
    size_t at = atomic_fetch_add_explicit(&l1->sweep_at, n_buckets, memory_order_relaxed);
    for (size_t i = 0; i < n_buckets; i++) {
        pln_l1_enter(l1, record); /* a section a bucket: nobody's memory waits for a whole sweep */
        n += sweep_bucket(l1, record, &l1->buckets[(at + i) % l1->n_buckets], now);
        pln_l1_leave(record);
    }
    pln_l1_reclaim(l1);
    return n;
}

void pln_l1_each(struct pln_l1 *l1, pln_ms now, pln_l1_visit visit, void *arg) {
    struct thread_record *record = pln_l1_record(l1);
    bool goes_on = record != NULL;
    for (size_t at = 0; goes_on && at < l1->n_buckets; at++) {
        pln_l1_enter(l1, record);
        for (size_t i = 0; goes_on && i < PLN_L1_SLOTS; i++) {
            struct entry *entry = visible_at(&l1->buckets[at], i);
            struct pln_l1_hit hit;
            if (entry != NULL && !pln_l1_is_gone(l1, entry, now) && pln_l1_read_hit(entry, &hit)) {
                goes_on = visit(arg, pln_bytes_of(entry->bytes, pln_l1_key_len(entry)), &hit);
            }
        }
        pln_l1_leave(record);
    }
}

void pln_l1_usage(const struct pln_l1 *l1, struct pln_l1_usage *usage) {
    /* relaxed each: sums of one moment or the next */
    usage->waiting_bytes = atomic_load_explicit(&l1->waiting_bytes, memory_order_relaxed);
    usage->entries = atomic_load_explicit(&l1->entries, memory_order_relaxed);
    usage->table_bytes = l1->table_bytes;
    usage->bytes = l1->table_bytes + usage->waiting_bytes +
                   atomic_load_explicit(&l1->live_bytes, memory_order_relaxed);
    usage->max_bytes = l1->max_bytes;
}
