/* SPDX-License-Identifier: MIT
 *
 * entry.h - how an entry lies in memory: its header, its states, its points in time.
 *
 * Most entries have one point in time, their end, which is also when they are stale and when they
 * are due for refresh. Their `times` hold it to the millisecond, and when they were made as the
 * last 17 bits of a number of steps, each 2^exponent ms long:
 *
 *     63   62          22 21         17 16           0
 *     | 0 | stale, in ms  | exponent    | made         |    the last point before stale with these
 *     | 0 | made, in ms   | all ones                   |    never stale
 *     | 1 | the next entry that waits with this dead one (epoch.c)
 *
 * (Exact where an entry was made at most 131 s before it is stale; else up to a 65,000th of that
 * time late. The steps count from the clock's zero, not from stale: so a point once rounded stays
 * where it is however often stale is moved, which an absolute end needs.) An entry whose refresh or
 * end is another point, or that has a weight, a priority or marks, carries them in a struct extra.
 * One that was stored without it and is given a second point later lives as if stale were its end.
 */
#ifndef PLN_L1_ENTRY_H
#define PLN_L1_ENTRY_H

#include "l1.h"

enum entry_state {
    ENTRY_PENDING = 0, /* linked, returned by nobody */
    ENTRY_VISIBLE = 1,
    ENTRY_DEAD = 2,    /* for good */
    ENTRY_CLAIMED = 4, /* with VISIBLE: somebody reloads it */
    ENTRY_SETTLED = 8, /* with VISIBLE: no older entry of its key is left */
    ENTRY_MOVING = 16, /* on its way from the old table to the present one */
    /* of the entry itself, as it was made */
    ENTRY_EXTRA = 32,
    ENTRY_ABSENT = 64,
    ENTRY_MADE = ENTRY_EXTRA | ENTRY_ABSENT,
};

/* 28 bytes before the key, or 48 where an entry has more to say than when it ends:
 *
 *     0              12      16      24      25    26       28                          48
 *     | counted      | stamp | times | state | use | gener- | weight, priority, marks,  | key,
 * value, | value, its   |       |       |       |     | ation  | end, refresh              | marks
 *     | offset       |
 *
 * `stamp` is the entry's version until it is SETTLED and the time of its last use afterwards.
 * `times` packs when it was made and when it is stale (see entry.c); between death and freeing it
 * holds the address of the next entry that waits. Whoever acts on one of the two looks at the
 * state again after reading it (P3, P10). */
struct entry {
    struct pln_value value; /* refs: the table's one, and one for each borrower */
    _Atomic uint32_t stamp; /* 0 until it has a version */
    _Atomic uint64_t times;
    _Atomic uint8_t state; /* enum entry_state */
    _Atomic uint8_t use;   /* what the eviction policy remembers of it */
    uint16_t generation;   /* low half */
    /* what follows is there in an entry with ENTRY_EXTRA alone */
    uint8_t weight;
    int8_t priority;
    uint8_t n_marks;
    _Atomic int64_t end;
    _Atomic int64_t refresh;
};

enum {
    ENTRY_KEY_AT = 28,
    ENTRY_KEY_AT_EXTRA = 48,
};

static_assert(offsetof(struct entry, weight) == ENTRY_KEY_AT, "an entry's header has grown");
static_assert(sizeof(struct entry) == ENTRY_KEY_AT_EXTRA, "an entry's header has grown");

static inline uint8_t pln_l1_state(const struct entry *entry) {
    /* P2 acquire: version and everything else of a VISIBLE entry; pairs with show and kill. no
     * test: x86 */
    return atomic_load_explicit(&entry->state, memory_order_acquire);
}

static inline bool pln_l1_is_visible(uint8_t state) {
    return (state & (ENTRY_VISIBLE | ENTRY_DEAD)) == ENTRY_VISIBLE;
}

static inline bool pln_l1_has_extra(const struct entry *entry) {
    /* relaxed: this bit never changes */
    return (atomic_load_explicit(&entry->state, memory_order_relaxed) & ENTRY_EXTRA) != 0;
}

static inline bool pln_l1_is_absent(const struct entry *entry) {
    /* relaxed: this bit never changes */
    return (atomic_load_explicit(&entry->state, memory_order_relaxed) & ENTRY_ABSENT) != 0;
}

static inline struct pln_bytes pln_l1_key(const struct entry *entry) {
    size_t at = pln_l1_has_extra(entry) ? ENTRY_KEY_AT_EXTRA : ENTRY_KEY_AT;
    return pln_bytes_of((const char *) entry + at, entry->value.offset - at);
}

static inline size_t pln_l1_n_marks(const struct entry *entry) {
    return pln_l1_has_extra(entry) ? entry->n_marks : 0;
}

/* ---- points in time ---- */

enum {
    PLN_MADE_BITS = 22,
    PLN_MANTISSA_BITS = 17,
};

#define PLN_MADE_MASK (((uint64_t) 1 << PLN_MADE_BITS) - 1)
#define PLN_NEVER_STALE PLN_MADE_MASK
#define PLN_MANTISSA_MASK (((uint64_t) 1 << PLN_MANTISSA_BITS) - 1)
#define PLN_LATEST (((pln_ms) 1 << 41) - 1) /* 69 years on the caller's clock */

static inline pln_ms pln_l1_clamp(pln_ms time) {
    return time < 0 ? 0 : time < PLN_LATEST ? time : PLN_LATEST;
}

/* The number of whole steps up to a point, rounded up. */
static inline uint64_t pln_l1_steps(uint64_t point, uint64_t exponent) {
    return (point + ((uint64_t) 1 << exponent) - 1) >> exponent;
}

/* Of a point that is not after `end`: the same, and none after it either. */
static inline uint64_t pln_l1_steps_within(uint64_t point, uint64_t end, uint64_t exponent) {
    uint64_t steps = pln_l1_steps(point, exponent), most = end >> exponent;
    return steps < most ? steps : most;
}

/* `created` is known to 2^exponent ms already; it is rounded up to steps of that size or larger,
 * so that it never moves by one whole step however often it is packed anew. */
static inline uint64_t pln_l1_pack(pln_ms created, unsigned exponent, pln_ms stale) {
    if (stale == PLN_FOREVER) { /* has no room for an exponent: the earliest it may have been */
        pln_ms earliest = created - (((pln_ms) 1 << exponent) - 1);
        return (uint64_t) pln_l1_clamp(earliest) << PLN_MADE_BITS | PLN_NEVER_STALE;
    }
    uint64_t end = (uint64_t) pln_l1_clamp(stale), made = (uint64_t) pln_l1_clamp(created);
    made = made < end ? made : end;
    uint64_t steps;
    while ((end >> exponent) - (steps = pln_l1_steps_within(made, end, exponent)) >
           PLN_MANTISSA_MASK) {
        exponent++;
    }
    return end << PLN_MADE_BITS | (uint64_t) exponent << PLN_MANTISSA_BITS |
           (steps & PLN_MANTISSA_MASK);
}

static inline unsigned pln_l1_unpack_exponent(uint64_t times) {
    return (times & PLN_MADE_MASK) == PLN_NEVER_STALE
               ? 0
               : (unsigned) ((times & PLN_MADE_MASK) >> PLN_MANTISSA_BITS);
}

static inline pln_ms pln_l1_unpack_stale(uint64_t times) {
    return (times & PLN_MADE_MASK) == PLN_NEVER_STALE ? PLN_FOREVER
                                                      : (pln_ms) (times >> PLN_MADE_BITS);
}

static inline pln_ms pln_l1_unpack_created(uint64_t times) {
    uint64_t point = times >> PLN_MADE_BITS,
             exponent = (times & PLN_MADE_MASK) >> PLN_MANTISSA_BITS;
    uint64_t steps = point >> exponent;
    return (times & PLN_MADE_MASK) == PLN_NEVER_STALE
               ? (pln_ms) point
               : (pln_ms) ((steps - ((steps - times) & PLN_MANTISSA_MASK)) << exponent);
}

#endif
