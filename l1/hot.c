/* SPDX-License-Identifier: MIT
 *
 * hot.c - the hottest keys: a summary of a sample of the hits, in memory of a fixed size.
 *
 *     one hit in 16 ──► hash ──► set of 10 cells (hash, count): its own cell counts one more,
 *                                or else the weakest of them may become its own
 *
 * Who comes without a cell takes over the weakest of the set, whose count is c, with a chance of
 * 1 in c + 1, and counts on from c. So a key that comes once seldom drives out one that came
 * often, and a flood of such keys raises the weakest counts only as the root of its length; what
 * a cell counts is on average what its key was seen. This is d-way RAP, from R. Ben Basat,
 * G. Einziger, R. Friedman, Y. Kassner, "Randomized Admission Policy for Efficient Top-k and
 * Frequency Estimation", INFOCOM 2017; random and ageing are done here in another way.
 *
 * Age: each time half a window of hits has been seen, all counts are halved. Each set does so for
 * itself when it is next used, so that no hit ever pays for all of them. Weighed so, the counts
 * tell as much as one and a half windows of hits that count in full.
 *
 * Nothing here orders anything else, so all is relaxed. A count is only added to or halved,
 * whoever owns its cell meanwhile: where threads meet, a sample may count for a neighbour, and one
 * key may get two cells, which pln_hot_top adds up; none can make a count run wild.
 */
#include "internal.h"

enum {
    N_SETS = 512, /* a power of two */
    N_CELLS = 10, /* with what else a set holds they make two cache lines */
    /* Samples. The hundredth key of a Zipf stream (0.99, 1 M keys) is some 670 of a window's. */
    HALF_WINDOW_SHIFT = 19,
    TELL = 64, /* samples of a set that it adds to those of all at once: a line all write */
};

struct set {
    _Alignas(128) _Atomic uint64_t hashes[N_CELLS];
    _Atomic uint32_t counts[N_CELLS]; /* 0: free */
    _Atomic uint32_t seen;            /* samples, halved as the counts are */
    _Atomic uint32_t age;             /* how many times it was halved */
};

struct pln_hot {
    struct set sets[N_SETS];
    _Alignas(128) _Atomic uint64_t seen; /* samples ever */
};

static_assert(sizeof(struct set) == 128, "a set of cells is more than two cache lines");
static_assert(sizeof(struct pln_hot) == PLN_HOT_BYTES, "what the header says it takes");

static uint64_t mixed(uint64_t x) {
    x = (x ^ (x >> 32)) * UINT64_C(0x9e3779b97f4a7c15);
    return x ^ (x >> 32);
}

int pln_hot_new(struct pln_hot **hot) {
    struct pln_hot *created = aligned_alloc(128, sizeof *created);
    if (created == NULL) {
        return pln_fail(PLN_ENOMEM, "l1: no memory to tell the hottest keys");
    }
    memset(created, 0, sizeof *created);
    *hot = created;
    return PLN_OK;
}

void pln_hot_free(struct pln_hot *hot) {
    free(hot);
}

/* ---- seeing ---- */

static uint32_t age_of(const struct pln_hot *hot) {
    /* relaxed: a few samples sooner or later is all the same */
    uint64_t seen = atomic_load_explicit(&hot->seen, memory_order_relaxed);
    return (uint32_t) (seen >> HALF_WINDOW_SHIFT);
}

static uint32_t aged(uint32_t count, uint32_t times) {
    return times < 32 ? count >> times : 0;
}

/* By exchange: a thread that was held up for a whole age in here must not take off more than there
 * is. */
static void halve(_Atomic uint32_t *count, uint32_t times) {
    /* relaxed, all three: a count has no order with anything */
    uint32_t old = atomic_load_explicit(count, memory_order_relaxed);
    while (!atomic_compare_exchange_weak_explicit(count, &old, aged(old, times),
                                                  memory_order_relaxed, memory_order_relaxed)) {
    }
}

static void grow_old(struct set *set, uint32_t age) {
    /* relaxed, all three: whoever moves the age halves; others may count meanwhile */
    uint32_t old = atomic_load_explicit(&set->age, memory_order_relaxed);
    if (old >= age || !atomic_compare_exchange_strong_explicit(
                          &set->age, &old, age, memory_order_relaxed, memory_order_relaxed)) {
        return;
    }
    for (size_t i = 0; i < N_CELLS; i++) {
        halve(&set->counts[i], age - old);
    }
    halve(&set->seen, age - old);
}

struct cell {
    uint64_t owner;
    size_t at;
    uint32_t count;
};

/* The cell of a hash, else the weakest. */
static struct cell find(const struct set *set, uint64_t hash) {
    struct cell weakest = {.count = UINT32_MAX};
    for (size_t i = 0; i < N_CELLS; i++) {
        /* relaxed, both: one who comes in between costs a sample */
        struct cell cell = {atomic_load_explicit(&set->hashes[i], memory_order_relaxed), i, 0};
        if (cell.owner == hash) {
            return cell;
        }
        cell.count = atomic_load_explicit(&set->counts[i], memory_order_relaxed);
        if (cell.count < weakest.count) {
            weakest = cell;
        }
    }
    return weakest;
}

void pln_hot_see(struct pln_hot *hot, uint64_t hash) {
    struct set *set = &hot->sets[mixed(hash) % N_SETS];
    grow_old(set, age_of(hot));
    struct cell cell = find(set, hash);
    /* relaxed, both: sums */
    uint32_t seen = atomic_fetch_add_explicit(&set->seen, 1, memory_order_relaxed);
    if (seen % TELL == TELL - 1) {
        atomic_fetch_add_explicit(&hot->seen, TELL, memory_order_relaxed);
    }
    if (cell.owner != hash) {
        if ((mixed(hash + seen) & UINT32_MAX) * ((uint64_t) cell.count + 1) > UINT32_MAX) {
            return;
        }
        /* relaxed, both: nothing hangs on it. It fails where another was faster: that one's cell
         * is no longer weak, and must not be taken from it by one who was held up */
        atomic_compare_exchange_strong_explicit(&set->hashes[cell.at], &cell.owner, hash,
                                                memory_order_relaxed, memory_order_relaxed);
    }
    /* relaxed: a sum */
    atomic_fetch_add_explicit(&set->counts[cell.at], 1, memory_order_relaxed);
}

void pln_hot_take(struct pln_hot *hot, struct pln_hot_turn *turn, uint64_t hash) {
    turn->drawn += UINT32_C(0x9e3779b9);
    uint64_t random = mixed(hash + turn->drawn) & UINT32_MAX;
    turn->left = (uint32_t) (random * (2 * PLN_HOT_EVERY - 1) >> 32);
    pln_hot_see(hot, hash);
}

/* ---- telling ---- */

/* Puts a key where its count belongs among the best `*n` of at most `most`. */
static void rank(struct pln_hot_key *keys, size_t *n, size_t most, struct pln_hot_key key) {
    if (*n == most && (most == 0 || keys[most - 1].requests >= key.requests)) {
        return;
    }
    size_t i = *n < most ? (*n)++ : most - 1;
    for (; i > 0 && keys[i - 1].requests < key.requests; i--) {
        keys[i] = keys[i - 1];
    }
    keys[i] = key;
}

/* A set as it would be at an age, with nothing twice. Returns its samples: at least what its cells
 * count, also where it is just being halved, so that no share is over 1. */
static uint32_t read_set(const struct set *set, uint32_t age, uint64_t *hashes, uint32_t *counts) {
    /* relaxed, all: estimates */
    uint32_t old = atomic_load_explicit(&set->age, memory_order_relaxed);
    uint32_t seen = atomic_load_explicit(&set->seen, memory_order_relaxed);
    uint32_t times = old < age ? age - old : 0, sum = 0;
    for (size_t i = 0; i < N_CELLS; i++) {
        uint32_t count = atomic_load_explicit(&set->counts[i], memory_order_relaxed); /* relaxed */
        size_t first = 0;
        hashes[i] = atomic_load_explicit(&set->hashes[i], memory_order_relaxed);
        while (hashes[first] != hashes[i]) {
            first++;
        }
        counts[i] = 0;
        counts[first] += aged(count, times);
        sum += aged(count, times);
    }
    seen = aged(seen, times);
    return seen > sum ? seen : sum;
}

size_t pln_hot_top(const struct pln_hot *hot, struct pln_hot_key *keys, size_t most) {
    uint32_t age = age_of(hot), counts[N_CELLS];
    uint64_t hashes[N_CELLS], seen = 0;
    size_t n = 0;
    for (size_t s = 0; s < N_SETS; s++) {
        seen += read_set(&hot->sets[s], age, hashes, counts);
        for (size_t i = 0; i < N_CELLS; i++) {
            if (counts[i] > 0) {
                struct pln_hot_key key = {hashes[i], (uint64_t) counts[i] * PLN_HOT_EVERY, 0};
                rank(keys, &n, most, key);
            }
        }
    }
    for (size_t i = 0; i < n; i++) {
        keys[i].share = (double) keys[i].requests / (double) (seen * PLN_HOT_EVERY);
    }
    return n;
}
