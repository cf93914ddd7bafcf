/* SPDX-License-Identifier: MIT
 *
 * entry.c - one entry: how it is written, and given another life.
 */
#include "internal.h"

static bool needs_extra(const struct pln_l1_item *item) {
    const struct pln_l1_life *life = &item->life;
    return item->n_marks > 0 || item->weight > 0 || item->priority != 0 ||
           life->refresh != life->stale || life->end != life->stale;
}

size_t pln_l1_item_bytes(const struct pln_hashed *key, const struct pln_l1_item *item) {
    return (size_t) (needs_extra(item) ? ENTRY_KEY_AT_EXTRA : ENTRY_KEY_AT) + key->key.len +
           item->value.len +
           (item->n_marks > 0 ? sizeof item->mark_stamp + item->n_marks * sizeof *item->marks : 0);
}

static void write_extra(struct entry *entry, const struct pln_l1_item *item) {
    entry->weight = item->weight;
    entry->priority = item->priority;
    entry->n_marks = item->n_marks;
    /* relaxed both: published with the entry (P1) */
    atomic_store_explicit(&entry->end, item->life.end, memory_order_relaxed);
    atomic_store_explicit(&entry->refresh, item->life.refresh, memory_order_relaxed);
}

void pln_l1_entry_init(struct entry *entry, const struct pln_hashed *key,
                       const struct pln_l1_item *item) {
    bool has_extra = needs_extra(item);
    size_t key_at = has_extra ? ENTRY_KEY_AT_EXTRA : ENTRY_KEY_AT;
    /* relaxed each: published with the slot (P1). The state first: whoever walks over the cells of
     * a slab must see it PENDING or DEAD */
    atomic_store_explicit(&entry->state,
                          (uint8_t) (ENTRY_PENDING | (has_extra ? ENTRY_EXTRA : 0) |
                                     (item->is_absent ? ENTRY_ABSENT : 0)),
                          memory_order_relaxed);
    /* relaxed each: as above */
    atomic_store_explicit(&entry->use, 0, memory_order_relaxed);
    atomic_store_explicit(&entry->stamp, 0, memory_order_relaxed);
    atomic_store_explicit(&entry->times, pln_l1_pack(item->life.created, 0, item->life.stale),
                          memory_order_relaxed);
    atomic_store_explicit(&entry->value.refs, 1, memory_order_relaxed);
    entry->value.len = (uint32_t) item->value.len;
    entry->value.offset = (uint16_t) (key_at + key->key.len);
    entry->value.format = item->format;
    entry->value.home = PLN_HOME_L1;
    entry->generation = (uint16_t) item->generation;
    char *at = (char *) entry + key_at;
    memcpy(at, key->key.data, key->key.len);
    if (item->value.len > 0) {
        memcpy(at + key->key.len, item->value.data, item->value.len);
    }
    if (has_extra) {
        write_extra(entry, item);
    }
    if (item->n_marks > 0) {
        at += key->key.len + item->value.len;
        memcpy(at, &item->mark_stamp, sizeof item->mark_stamp);
        memcpy(at + sizeof item->mark_stamp, item->marks, item->n_marks * sizeof *item->marks);
    }
}

/* Moves `stale`, where it is at `former`, or anywhere (negative). False where it is not, or the
 * entry has died. */
static bool move_stale(struct entry *entry, pln_ms former, pln_ms stale) {
    uint64_t times;
    do {
        /* relaxed: the fence and the state decide whether it is times or an address */
        times = atomic_load_explicit(&entry->times, memory_order_relaxed);
        /* P3 acquire: pairs with pln_l1_retire. no test: fence */
        atomic_thread_fence(memory_order_acquire);
        if (!pln_l1_is_visible(pln_l1_state(entry)) ||
            (former >= 0 && pln_l1_unpack_stale(times) != former)) {
            return false;
        }
        /* relaxed: no order among points of time. Where the entry has died since, the address in
         * its place has a bit that times never have, and the exchange fails */
    } while (!atomic_compare_exchange_weak_explicit(
        &entry->times, &times,
        pln_l1_pack(pln_l1_unpack_created(times), pln_l1_unpack_exponent(times), stale),
        memory_order_relaxed, memory_order_relaxed));
    return true;
}

pln_ms pln_l1_earliest(const struct pln_l1_hit *hit) {
    return hit->life.created - (((pln_ms) 1 << pln_l1_unpack_exponent(hit->kept_as)) - 1);
}

static void move_others(struct entry *entry, pln_ms refresh, pln_ms end) {
    if (pln_l1_has_extra(entry)) {
        /* relaxed both: a mix of points from two moves does no harm, since a refresh after `stale`
         * counts as one at `stale` (read_extra) */
        atomic_store_explicit(&entry->refresh, refresh, memory_order_relaxed);
        atomic_store_explicit(&entry->end, end, memory_order_relaxed);
    }
}

void pln_l1_retime_entry(struct entry *entry, pln_ms refresh, pln_ms stale, pln_ms end) {
    move_others(entry, refresh, end);
    (void) move_stale(entry, -1, stale);
}

bool pln_l1_prolong_entry(struct entry *entry, pln_ms former, const struct pln_l1_life *life) {
    if (!move_stale(entry, former, life->stale)) {
        return false;
    }
    move_others(entry, life->refresh, life->end);
    return true;
}
