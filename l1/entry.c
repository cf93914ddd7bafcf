/* SPDX-License-Identifier: MIT
 *
 * entry.c - one entry: how it is written, and what its life says.
 *
 * Most entries have one point in time, their end, which is also when they are stale and when they
 * are due for refresh. Their `times` hold it to the millisecond, and how long before it they were
 * made, rounded to 17 bits:
 *
 *     63   62          22 21         17 16           0
 *     | 0 | stale, in ms  | exponent    | mantissa     |    made at stale - (mantissa << exponent)
 *     | 0 | made, in ms   | all ones                   |    never stale
 *     | 1 | the next entry that waits with this dead one (epoch.c)
 *
 * (A ttl is exact up to 131 s, and every whole second up to 17 minutes.) An entry whose refresh or
 * end is another point, or that has a weight, a priority or marks, carries them in a struct extra.
 * One that was stored without it and is given a second point later lives as if stale were its end.
 */
#include "internal.h"

enum {
    MADE_BITS = 22,
    MANTISSA_BITS = 17,
};

#define MADE_MASK (((uint64_t) 1 << MADE_BITS) - 1)
#define NEVER_STALE MADE_MASK
#define MANTISSA_MASK (((uint64_t) 1 << MANTISSA_BITS) - 1)
#define LATEST (((pln_ms) 1 << 41) - 1) /* 69 years on the caller's clock */

static pln_ms clamp(pln_ms time) {
    return time < 0 ? 0 : time < LATEST ? time : LATEST;
}

static uint64_t pack(pln_ms created, pln_ms stale) {
    if (stale == PLN_FOREVER) {
        return (uint64_t) clamp(created) << MADE_BITS | NEVER_STALE;
    }
    stale = clamp(stale);
    uint64_t age = created < stale ? (uint64_t) (stale - created) : 0, exponent = 0;
    while (age >> exponent > MANTISSA_MASK) {
        exponent++;
    }
    return (uint64_t) stale << MADE_BITS | exponent << MANTISSA_BITS | age >> exponent;
}

static pln_ms unpack_stale(uint64_t times) {
    return (times & MADE_MASK) == NEVER_STALE ? PLN_FOREVER : (pln_ms) (times >> MADE_BITS);
}

static pln_ms unpack_created(uint64_t times) {
    pln_ms point = (pln_ms) (times >> MADE_BITS);
    uint64_t age = times & MADE_MASK;
    return age == NEVER_STALE ? point
                              : point - (pln_ms) ((age & MANTISSA_MASK) << (age >> MANTISSA_BITS));
}

/* ---- writing ---- */

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
    atomic_store_explicit(&entry->times, pack(item->life.created, item->life.stale),
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

void pln_l1_retime_entry(struct entry *entry, pln_ms refresh, pln_ms stale, pln_ms end) {
    uint64_t times;
    if (pln_l1_has_extra(entry)) {
        /* relaxed both: any mix of old and new points is one that was or will be true */
        atomic_store_explicit(&entry->refresh, refresh, memory_order_relaxed);
        atomic_store_explicit(&entry->end, end, memory_order_relaxed);
    }
    do {
        /* relaxed: the fence and the state decide whether it is times or an address */
        times = atomic_load_explicit(&entry->times, memory_order_relaxed);
        /* P3 acquire: pairs with pln_l1_retire */
        atomic_thread_fence(memory_order_acquire);
        if (!pln_l1_is_visible(pln_l1_state(entry))) {
            return;
        }
        /* relaxed: no order among points of time. Where the entry has died since, the address in
         * its place has a bit that times never have, and the exchange fails */
    } while (!atomic_compare_exchange_weak_explicit(&entry->times, &times,
                                                    pack(unpack_created(times), stale),
                                                    memory_order_relaxed, memory_order_relaxed));
}

/* ---- reading ---- */

bool pln_l1_read_hit(const struct pln_l1 *l1, const struct entry *entry, struct pln_l1_hit *hit) {
    /* relaxed each: the fence and the state decide whether they count */
    uint64_t times = atomic_load_explicit(&entry->times, memory_order_relaxed);
    uint32_t present = atomic_load_explicit(&l1->generation, memory_order_relaxed);
    pln_ms stale = unpack_stale(times);
    hit->life.created = unpack_created(times);
    hit->life.stale = stale;
    hit->life.refresh = stale;
    hit->life.end = stale;
    if (pln_l1_has_extra(entry)) {
        /* relaxed both: as above */
        hit->life.refresh = atomic_load_explicit(&entry->refresh, memory_order_relaxed);
        hit->life.end = atomic_load_explicit(&entry->end, memory_order_relaxed);
    }
    hit->len = entry->value.len;
    hit->generation = present - (uint16_t) (present - entry->generation);
    hit->format = entry->value.format;
    /* P3 acquire: not an address in its place; pairs with pln_l1_retire */
    atomic_thread_fence(memory_order_acquire);
    uint8_t state = pln_l1_state(entry);
    hit->is_absent = (state & ENTRY_ABSENT) != 0;
    return pln_l1_is_visible(state);
}

static bool is_marked(const struct pln_l1 *l1, const struct entry *entry) {
    size_t n_marks = pln_l1_n_marks(entry);
    uint64_t stamp;
    uint16_t mark;
    if (n_marks == 0) {
        return false;
    }
    const char *at = (const char *) entry + entry->value.offset + entry->value.len;
    memcpy(&stamp, at, sizeof stamp);
    at += sizeof stamp;
    for (size_t i = 0; i < n_marks; i++, at += sizeof mark) {
        memcpy(&mark, at, sizeof mark);
        /* acquire, no pair in this folder: the caller raises marks; see l1.h */
        if (atomic_load_explicit(&l1->marks[mark], memory_order_acquire) > stamp) {
            return true;
        }
    }
    return false;
}

bool pln_l1_is_served(const struct pln_l1 *l1, uint32_t generation) {
    uint32_t present = pln_l1_generation(l1);
    return generation == present || (present % 2 == 1 && generation == present - 1);
}

/* The low half is enough: pln_l1_set_generation ends what a later one could be taken for. */
static bool is_of_dropped_generation(const struct pln_l1 *l1, const struct entry *entry) {
    uint32_t present = pln_l1_generation(l1);
    uint16_t behind = (uint16_t) (present - entry->generation);
    return behind != 0 && !(present % 2 == 1 && behind == 1);
}

bool pln_l1_is_gone(const struct pln_l1 *l1, const struct entry *entry, pln_ms now) {
    /* relaxed both: as in pln_l1_read_hit; a dead one's may be anything, and it is gone too */
    pln_ms end = pln_l1_has_extra(entry)
                     ? atomic_load_explicit(&entry->end, memory_order_relaxed)
                     : unpack_stale(atomic_load_explicit(&entry->times, memory_order_relaxed));
    return is_of_dropped_generation(l1, entry) || now >= end || is_marked(l1, entry);
}
