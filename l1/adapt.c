/* SPDX-License-Identifier: MIT
 *
 * adapt.c - eviction "adaptive": who stays is decided by how often and how lately he was asked for.
 *
 * After S3-FIFO (J. Yang et al., "FIFO Queues are All You Need for Cache Eviction", SOSP 2023),
 * made for samples instead of queues, with a window that learns:
 *
 *     new keys ──► window ── asked for since ──► main ── highest age / (1 + hits) ──► out
 *                    └────── not ──► out, remembered a while: who comes back goes to main
 *
 * An entry carries a bit (window or main), up to 3 hits, and the time of its last use. A hit writes
 * the count while it grows, nothing that others share. While the window holds more than its share
 * the least recently used of it in the sample goes, or to main where it has hits; else the entry
 * of main that ranks highest. Evicted keys leave 16 bits of their hash behind in the table's
 * ghosts, for as many evictions as there are entries.
 *
 * The window's share, from 5 to 90 percent, follows what another 5 percent would have won or lost
 * it: hits on keys that the window lost so short a time ago, against hits on main's entries that
 * were among the next to go (they rank over the third of a sample). It grows where new keys come
 * back soon, and shrinks to filter scans and loops.
 *
 * Simulated over the eight traces of the benchmark at four sizes, the mean hit ratio is 0.598
 * (S3-FIFO 0.595, LRU 0.556) and no cell is more than 0.5 points under LRU. Without the learning
 * window 0.596; without the time of last use 0.593; main ranked by hits alone, then age: 0.587 and
 * 6 points under LRU in a cell. Up to 7 hits: 0.599, and worse where the working set drifts.
 *
 * All counters are guesses: relaxed, and races cost precision only. The window's count alone is
 * exact: an entry leaves it once, by the exchange that takes its bit.
 */
#include "internal.h"

enum {
    HITS = 3,     /* bits 0 and 1 of `use` */
    WINDOW = 4,   /* a bit of `use` */
    SETTING = 16, /* ghosts of a line */
    JUDGED = 16,  /* hits between two changes of the window's share */
    FULL_SHARE = 1 << 16,
    FIRST_SHARE = FULL_SHARE / 10,
    LEAST_SHARE = FULL_SHARE / 20,
    MOST_SHARE = FULL_SHARE / 10 * 9,
    STEP = FULL_SHARE / 100,
    NEAR = 20, /* a 20th of the entries: how much more or less window is judged */
    TIME_BITS = 15,
};

#define TIME_MASK (((uint32_t) 1 << TIME_BITS) - 1)

static uint32_t load(const _Atomic uint32_t *at) {
    /* relaxed: a guess */
    return atomic_load_explicit(at, memory_order_relaxed);
}

static void store(_Atomic uint32_t *at, uint32_t value) {
    /* relaxed: a guess */
    atomic_store_explicit(at, value, memory_order_relaxed);
}

void pln_l1_adapt_init(struct adapt *adapt) {
    store(&adapt->share, FIRST_SHARE);
}

static uint32_t count_entries(const struct pln_l1 *l1) {
    /* relaxed: about how many */
    ssize_t n = (ssize_t) atomic_load_explicit(&l1->entries, memory_order_relaxed);
    return n > 0 ? (uint32_t) n : 1;
}

/* ---- ghosts: 16 bits of a hash, 15 of the time in evictions, 1 whether it left the window ---- */

/* So many evictions to a tick that the bits of time hold many times the entries there are. */
static unsigned tick_shift(const struct index *table) {
    unsigned shift = 0;
    while (table->n_buckets * SETTING >> shift > 1024) {
        shift++;
    }
    return shift;
}

static _Atomic uint32_t *set_of(const struct index *table, uint64_t hash) {
    return table->ghosts + ((hash & UINT32_MAX) * table->n_buckets >> 32) * SETTING;
}

static uint32_t mark_of(uint64_t hash) {
    return (uint32_t) (hash >> 48) << 16;
}

static uint32_t ticks_since(uint32_t ghost, uint32_t tick) {
    return (tick - (ghost >> 1)) & TIME_MASK;
}

/* Remembers an evicted key, in the place of the one of its set that was evicted first. */
static void remember(struct pln_l1 *l1, uint64_t hash, bool was_in_window) {
    const struct index *table = &pln_l1_view(l1)->present;
    _Atomic uint32_t *set = set_of(table, hash), *oldest = NULL;
    /* relaxed: a clock that may miss a tick */
    uint32_t tick = atomic_fetch_add_explicit(&l1->adapt.clock, 1, memory_order_relaxed) >>
                    tick_shift(table);
    uint32_t most = 0;
    for (size_t i = 0; i < SETTING; i++) {
        uint32_t ghost = load(&set[i]);
        uint32_t age = ghost == 0 ? TIME_MASK + 1 : ticks_since(ghost, tick);
        if (oldest == NULL || age > most) {
            oldest = &set[i];
            most = age;
        }
    }
    store(oldest, mark_of(hash) | (tick & TIME_MASK) << 1 | was_in_window);
}

/* Whether a key was evicted lately, and forgets it; *near: from the window, and just now. */
static bool recall(struct pln_l1 *l1, uint64_t hash, bool *near) {
    const struct index *table = &pln_l1_view(l1)->present;
    _Atomic uint32_t *set = set_of(table, hash);
    unsigned shift = tick_shift(table);
    uint32_t tick = load(&l1->adapt.clock) >> shift, entries = count_entries(l1);
    for (size_t i = 0; i < SETTING; i++) {
        uint32_t ghost = load(&set[i]);
        if (ghost == 0 || ((ghost ^ mark_of(hash)) >> 16) != 0) {
            continue;
        }
        uint64_t since = (uint64_t) ticks_since(ghost, tick) << shift;
        *near = (ghost & 1) != 0 && since <= entries / NEAR + 1;
        store(&set[i], 0);
        return since <= entries;
    }
    return false;
}

/* ---- the window's share ---- */

static void judge(struct pln_l1 *l1) {
    struct adapt *adapt = &l1->adapt;
    uint32_t won = load(&adapt->won), lost = load(&adapt->lost);
    if (won + lost < JUDGED) {
        return;
    }
    uint32_t one = FULL_SHARE / count_entries(l1); /* the share of an entry */
    int64_t step = one > STEP ? one : STEP;
    int64_t share = load(&adapt->share) + step * ((int64_t) won - lost) / (won + lost);
    share = share < LEAST_SHARE ? LEAST_SHARE : share > MOST_SHARE ? MOST_SHARE : share;
    store(&adapt->share, (uint32_t) share);
    store(&adapt->won, 0);
    store(&adapt->lost, 0);
}

bool pln_l1_adapt_window_is_full(const struct pln_l1 *l1) {
    uint64_t allowed = (uint64_t) load(&l1->adapt.share) * count_entries(l1) / FULL_SHARE;
    return load(&l1->adapt.window) > (allowed > 0 ? allowed : 1);
}

/* ---- entries ---- */

static bool is_in_window(const struct entry *entry) {
    /* relaxed: a guess */
    return (atomic_load_explicit(&entry->use, memory_order_relaxed) & WINDOW) != 0;
}

uint64_t pln_l1_adapt_rank(const struct entry *entry, uint32_t age, bool *in_window) {
    static const uint64_t by_hits[] = {12, 6, 4, 3}; /* 12 / (1 + hits) */
    /* relaxed: a guess */
    uint8_t use = atomic_load_explicit(&entry->use, memory_order_relaxed);
    *in_window = (use & WINDOW) != 0;
    return *in_window ? (uint64_t) age * by_hits[0] : age * by_hits[use & HITS];
}

void pln_l1_adapt_hit(struct pln_l1 *l1, struct entry *entry, uint32_t age) {
    /* relaxed both: a count that may miss one */
    uint8_t use = atomic_load_explicit(&entry->use, memory_order_relaxed);
    bool in_window;
    if (pln_l1_adapt_rank(entry, age, &in_window) > load(&l1->adapt.tail) && !in_window) {
        /* relaxed: a count; few hits come here */
        atomic_fetch_add_explicit(&l1->adapt.lost, 1, memory_order_relaxed);
    }
    if ((use & HITS) < HITS) {
        /* relaxed: as above. By exchange: the window's bit is not to come back */
        atomic_compare_exchange_strong_explicit(&entry->use, &use, use + 1, memory_order_relaxed,
                                                memory_order_relaxed);
    }
}

void pln_l1_adapt_admit(struct pln_l1 *l1, struct entry *entry, uint64_t hash,
                        const struct entry *older) {
    bool near = false;
    uint8_t use = WINDOW;
    if (older != NULL) {
        /* relaxed: a guess */
        use = atomic_load_explicit(&older->use, memory_order_relaxed);
    } else if (recall(l1, hash, &near)) {
        use = 0;
    }
    if (near) {
        /* relaxed: a count */
        atomic_fetch_add_explicit(&l1->adapt.won, 1, memory_order_relaxed);
    }
    if ((use & WINDOW) != 0) {
        /* relaxed: a count */
        atomic_fetch_add_explicit(&l1->adapt.window, 1, memory_order_relaxed);
    }
    /* relaxed: published with the state */
    atomic_store_explicit(&entry->use, use, memory_order_relaxed);
    judge(l1);
}

/* Takes an entry out of the window; true for one caller. */
static bool leave_window(struct pln_l1 *l1, struct entry *entry) {
    /* relaxed both: the bit itself decides */
    uint8_t use = atomic_fetch_and_explicit(&entry->use, 0, memory_order_relaxed);
    if ((use & WINDOW) != 0) {
        atomic_fetch_sub_explicit(&l1->adapt.window, 1, memory_order_relaxed);
    }
    return (use & WINDOW) != 0;
}

bool pln_l1_adapt_spare(struct pln_l1 *l1, struct entry *entry) {
    /* relaxed: a guess */
    uint8_t use = atomic_load_explicit(&entry->use, memory_order_relaxed);
    return (use & WINDOW) != 0 && (use & HITS) > 0 && leave_window(l1, entry);
}

void pln_l1_adapt_evicted(struct pln_l1 *l1, const struct entry *entry, uint64_t third) {
    struct pln_bytes key = pln_l1_key(entry);
    uint32_t tail = load(&l1->adapt.tail);
    if (third > 0) {
        int64_t aim = third < UINT32_MAX ? (int64_t) third : UINT32_MAX;
        int64_t step = (aim - tail) / 32;
        store(&l1->adapt.tail, (uint32_t) (tail + (step != 0 ? step : aim > tail ? 1 : 0)));
    }
    remember(l1, l1->hash(key, l1->seed), is_in_window(entry));
}

void pln_l1_adapt_retired(struct pln_l1 *l1, struct entry *entry) {
    leave_window(l1, entry);
}
