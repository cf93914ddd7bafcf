/* SPDX-License-Identifier: MIT
 *
 * drain.c - memory of the right size: slabs that change their class, or are given back.
 *
 * The budget bounds the sum of the entries' cells; the slabs that hold them may have a sixteenth
 * more, for cells that wait for readers and for those of sizes no longer asked for. Where a size
 * has no cell left and no slab may be added, the slab with most free cells of a few is closed (no
 * cell of it is taken any more), its entries are evicted, and once no reader sees them it is
 * released. Until then it is on its way out, and whoever needs memory next goes on with it.
 */
#include "internal.h"

#include <sys/mman.h>

enum {
    SEARCHED = 16, /* slabs */
    CELL_TRIES = 32,
    MOST_TRIES = 1024,
    DRAIN_TRIES = 1000,
    EMPTY_EVERY = 100,
    SLACK_SHARE = 16,
    SPARE_SLABS = 8, /* so that a tiny budget can hold several sizes */
    CHUNK = 16,
};

/* Of a place for a slab on its way out: somebody is at it. */
#define BUSY ((uint64_t) 1 << 63)

/* ---- slabs ---- */

static unsigned count_free(const struct slabs *slabs, size_t slab) {
    unsigned n = 0;
    for (size_t i = 0; i < slabs->words; i++) {
        /* relaxed: an estimate */
        n += (unsigned) __builtin_popcountll(atomic_load_explicit(
            &slabs->free_cells[slab * slabs->words + i], memory_order_relaxed));
    }
    return n;
}

/* The slab with most free cells of a few looked at, or -1. */
static ptrdiff_t sparsest(struct slabs *slabs) {
    ptrdiff_t best = -1;
    uint64_t most = 0;
    /* relaxed: whoever looks goes on where the last one stopped */
    size_t at = atomic_load_explicit(&slabs->drain_at, memory_order_relaxed);
    unsigned n_seen = 0;
    for (size_t i = 0; i < slabs->n_slabs && n_seen < SEARCHED; i++, at++) {
        at = at < slabs->n_slabs ? at : 0;
        /* relaxed: a guess; closing decides */
        uint32_t class = atomic_load_explicit(&slabs->class_of[at], memory_order_relaxed);
        if (class == 0 || (class & PLN_SLAB_CLOSED) != 0) {
            continue;
        }
        uint64_t share = 1 + ((uint64_t) count_free(slabs, at) << 32) /
                                 slabs->classes[class - 1].n_cells;
        if (share > most) {
            most = share;
            best = (ptrdiff_t) at;
        }
        n_seen++;
    }
    /* relaxed: as above */
    atomic_store_explicit(&slabs->drain_at, at, memory_order_relaxed);
    return best;
}

/* Keeps a slab's free cells from being taken; false where somebody else does already. */
static bool close_slab(struct slabs *slabs, size_t slab) {
    /* relaxed: the exchange decides */
    uint32_t class = atomic_load_explicit(&slabs->class_of[slab], memory_order_relaxed);
    return class != 0 && (class & PLN_SLAB_CLOSED) == 0 &&
           /* P12 release: pairs with take_from. relaxed on failure: nothing was done. no test: x86
            */
           atomic_compare_exchange_strong_explicit(&slabs->class_of[slab], &class,
                                                   class | PLN_SLAB_CLOSED, memory_order_acq_rel,
                                                   memory_order_relaxed);
}

static uint64_t all_free(const struct cell_class *cells, size_t word) {
    size_t left = cells->n_cells - word * 64;
    return left < 64 ? ((uint64_t) 1 << left) - 1 : UINT64_MAX;
}

/* Takes all cells of a closed slab, or none. */
static bool take_all(struct slabs *slabs, const struct cell_class *cells, size_t slab) {
    _Atomic uint64_t *bits = &slabs->free_cells[slab * slabs->words];
    size_t n_words = (cells->n_cells + 63) / 64, at = 0;
    for (; at < n_words; at++) {
        uint64_t all = all_free(cells, at);
        /* P4 acquire: the last reads of what lived there; pairs with pln_l1_cell_free. relaxed
         * on failure: nothing was taken. no test: x86 */
        if (!atomic_compare_exchange_strong_explicit(&bits[at], &all, 0, memory_order_acquire,
                                                     memory_order_relaxed)) {
            break;
        }
    }
    bool has_all = at == n_words;
    while (!has_all && at-- > 0) {
        /* P4 release: as if they had never been taken; pairs with take_from. no test: x86 */
        atomic_fetch_or_explicit(&bits[at], all_free(cells, at), memory_order_release);
    }
    return has_all;
}

/* Lets a closed slab's cells be taken again. */
static void open_slab(struct slabs *slabs, size_t slab) {
    /* relaxed: the exchange decides */
    uint32_t class = atomic_load_explicit(&slabs->class_of[slab], memory_order_relaxed);
    if ((class & PLN_SLAB_CLOSED) != 0 &&
        /* P12 release: pairs with take_from. relaxed on failure: it has been released. no test: x86
         */
        atomic_compare_exchange_strong_explicit(&slabs->class_of[slab], &class,
                                                class & ~PLN_SLAB_CLOSED, memory_order_release,
                                                memory_order_relaxed)) {
        /* relaxed: a hint; who freed a cell meanwhile may have set it already */
        atomic_fetch_or_explicit(&pln_l1_class_at(slabs, slab)->has_free[slab / 64],
                                 (uint64_t) 1 << slab % 64, memory_order_relaxed);
    }
}

/* Gives up the memory of a slab if it is closed and all its cells are free. */
static bool release(struct slabs *slabs, size_t slab) {
    /* relaxed: the taking of all cells decides */
    uint32_t class = atomic_load_explicit(&slabs->class_of[slab], memory_order_relaxed);
    if ((class & PLN_SLAB_CLOSED) == 0 ||
        !take_all(slabs, &slabs->classes[(class & ~PLN_SLAB_CLOSED) - 1], slab)) {
        return false;
    }
    PLN_POINT(emptied);
    PLN_UNPOISON(pln_l1_slab_at(slabs, slab), slabs->slab_bytes);
    madvise(pln_l1_slab_at(slabs, slab), slabs->slab_bytes, MADV_DONTNEED);
    /* P12 release: pairs with take_from; the unused bit hands the slab on to cut. no test: x86 */
    atomic_store_explicit(&slabs->class_of[slab], 0, memory_order_release);
    atomic_fetch_or_explicit(&slabs->unused[slab / 64], (uint64_t) 1 << slab % 64,
                             memory_order_release);
    /* relaxed: a sum */
    atomic_fetch_sub_explicit(&slabs->bytes, pln_l1_slab_cost(slabs), memory_order_relaxed);
    return true;
}

/* Up to `n` entries that live in a closed slab's cells, from number *from on, which is moved on;
 * inside a section. */
static size_t entries_of(struct slabs *slabs, size_t slab, size_t *from, struct entry **entries,
                         size_t n) {
    const struct cell_class *cells = pln_l1_class_at(slabs, slab);
    size_t found = 0;
    for (; *from < cells->n_cells && found < n; ++*from) {
        /* relaxed: a hint; the state decides */
        uint64_t bits = atomic_load_explicit(&slabs->free_cells[slab * slabs->words + *from / 64],
                                             memory_order_relaxed);
        struct entry *entry = (struct entry *) (void *) (pln_l1_slab_at(slabs, slab) +
                                                         *from * cells->cell_bytes);
        if ((bits >> *from % 64 & 1) == 0 && pln_l1_is_visible(pln_l1_state(entry))) {
            entries[found++] = entry;
        }
    }
    return found;
}

/* ---- entries ---- */

/* What slabs and large entries may have of memory. */
size_t pln_l1_max_held(const struct pln_l1 *l1) {
    size_t max_bytes = pln_l1_max_bytes(l1);
    /* relaxed both: sums that change with the table */
    size_t table_bytes = atomic_load_explicit(&l1->table_bytes, memory_order_relaxed) +
                         atomic_load_explicit(&l1->table_wanted, memory_order_relaxed);
    return max_bytes + max_bytes / SLACK_SHARE -
           (table_bytes < max_bytes ? table_bytes : max_bytes) + SPARE_SLABS * l1->slabs.slab_bytes;
}

/* Evicts what lives in a closed slab; in short sections, so that nobody waits for them. */
static void empty_slab(struct pln_l1 *l1, struct thread_record *record, size_t slab) {
    struct entry *entries[CHUNK];
    size_t from = 0, n;
    do {
        pln_l1_enter(l1, record);
        n = entries_of(&l1->slabs, slab, &from, entries, CHUNK);
        for (size_t i = 0; i < n; i++) {
            pln_l1_kill_anywhere(l1, record, entries[i], PLN_COUNT_L1_DRAINED);
        }
        pln_l1_leave(record);
    } while (n == CHUNK);
}

/* Takes a place of those for slabs on their way out, for oneself. Whoever stops while he has it
 * keeps the others from this one, not from the rest. */
static bool take_place(_Atomic uint64_t *place, uint64_t draining) {
    /* P14 acquire: pairs with leave_place. relaxed on failure: it is somebody else's. no test: x86
     */
    return (draining & BUSY) == 0 &&
           atomic_compare_exchange_strong_explicit(place, &draining, draining | BUSY,
                                                   memory_order_acquire, memory_order_relaxed);
}

static void leave_place(_Atomic uint64_t *place, uint64_t draining) {
    /* P14 release: what was done to the slab; pairs with take_place. no test: x86 */
    atomic_store_explicit(place, draining, memory_order_release);
}

/* Goes on with a slab. Where a value of it is lent for long it is opened again after many tries.
 * True where its memory has been given up. */
static bool go_on(struct pln_l1 *l1, struct thread_record *record, uint64_t *draining) {
    struct slabs *slabs = &l1->slabs;
    size_t slab = (size_t) (*draining & UINT32_MAX) - 1;
    uint64_t tries = *draining >> 32;
    bool is_released = release(slabs, slab);
    if (!is_released && tries % EMPTY_EVERY == EMPTY_EVERY - 1) {
        empty_slab(l1, record, slab); /* a put was under way when it was closed */
    }
    if (!is_released && tries >= DRAIN_TRIES) {
        open_slab(slabs, slab);
    }
    *draining = is_released || tries >= DRAIN_TRIES ? 0 : *draining + ((uint64_t) 1 << 32);
    return is_released;
}

/* Begins with another slab: the one that holds least of a few. */
static uint64_t begin(struct pln_l1 *l1, struct thread_record *record) {
    ptrdiff_t slab = sparsest(&l1->slabs);
    if (slab < 0 || !close_slab(&l1->slabs, (size_t) slab)) {
        return 0;
    }
    PLN_POINT(closed);
    empty_slab(l1, record, (size_t) slab);
    return (uint64_t) slab + 1;
}

/* Gets a slab nearer to being free; false where nothing can be done now. Not more than a few at a
 * time: what was evicted for them waits for readers, and to evict more would not help. */
static bool drain(struct pln_l1 *l1, struct thread_record *record) {
    bool is_released = false, has_begun = false;
    if (l1->eviction == PLN_L1_NONE) {
        return false;
    }
    pln_l1_reclaim(l1, PLN_L1_RECLAIMED);
    for (size_t i = 0; i < PLN_L1_DRAINED && !is_released && !has_begun; i++) {
        _Atomic uint64_t *place = &l1->slabs.draining[i];
        /* relaxed: the taking of the place decides */
        uint64_t draining = atomic_load_explicit(place, memory_order_relaxed);
        if (!take_place(place, draining)) {
            continue;
        }
        if (draining != 0) {
            is_released = go_on(l1, record, &draining);
        } else if (!pln_l1_is_backed_up(l1, record)) {
            draining = begin(l1, record);
            has_begun = draining != 0;
        }
        leave_place(place, draining);
    }
    return true;
}

/* As many as make room for it, and for what is over a budget that was lowered; in bounds. */
static size_t tries_for(const struct pln_l1 *l1, size_t bytes) {
    /* relaxed: a sum */
    size_t held = atomic_load_explicit(&l1->slabs.bytes, memory_order_relaxed);
    size_t max_held = pln_l1_max_held(l1);
    size_t over = (held > max_held ? held - max_held : 0) + bytes;
    size_t tries = CELL_TRIES + 2 * (over / l1->slabs.slab_bytes);
    return tries < MOST_TRIES ? tries : MOST_TRIES;
}

struct entry *pln_l1_take_cell(struct pln_l1 *l1, struct thread_record *record, size_t bytes) {
    size_t tries = tries_for(l1, bytes);
    struct entry *cell = pln_l1_cell_take(l1, record, bytes, pln_l1_max_held(l1));
    if (cell == NULL) {
        pln_l1_reclaim(l1, PLN_L1_RECLAIMED);
        cell = pln_l1_cell_take(l1, record, bytes, pln_l1_max_held(l1));
    }
    for (size_t i = 0; cell == NULL && i < tries && drain(l1, record); i++) {
        cell = pln_l1_cell_take(l1, record, bytes, pln_l1_max_held(l1));
    }
    return cell != NULL ? cell : pln_l1_cell_take_larger(l1, record, bytes);
}

void pln_l1_trim(struct pln_l1 *l1, struct thread_record *record, unsigned n) {
    /* relaxed: a sum */
    while (n-- > 0 &&
           atomic_load_explicit(&l1->slabs.bytes, memory_order_relaxed) > pln_l1_max_held(l1) &&
           drain(l1, record)) {
    }
}

/* ---- after a fork ---- */

static bool is_draining(const struct slabs *slabs, size_t slab) {
    for (size_t i = 0; i < PLN_L1_DRAINED; i++) {
        /* relaxed: the child has one thread */
        uint64_t draining = atomic_load_explicit(&slabs->draining[i], memory_order_relaxed);
        if ((draining & UINT32_MAX) == slab + 1) {
            return true;
        }
    }
    return false;
}

/* Takes the places from those who were at them; one whose slab was released is free. */
static void free_places(struct slabs *slabs) {
    for (size_t i = 0; i < PLN_L1_DRAINED; i++) {
        /* relaxed each: the child has one thread */
        uint64_t draining = atomic_load_explicit(&slabs->draining[i], memory_order_relaxed) & ~BUSY;
        size_t slab = (size_t) (draining & UINT32_MAX) - 1;
        if (draining != 0 &&
            atomic_load_explicit(&slabs->class_of[slab], memory_order_relaxed) == 0) {
            draining = 0;
        }
        /* relaxed: as above */
        atomic_store_explicit(&slabs->draining[i], draining, memory_order_relaxed);
    }
}

/* A slab without a class that nobody may cut: somebody was about to cut or release it. What it was
 * counted as stays counted. */
static void find_unused(struct slabs *slabs, size_t slab) {
    uint64_t bit = (uint64_t) 1 << slab % 64;
    /* relaxed each: the child has one thread */
    if ((atomic_load_explicit(&slabs->unused[slab / 64], memory_order_relaxed) & bit) == 0) {
        madvise(pln_l1_slab_at(slabs, slab), slabs->slab_bytes, MADV_DONTNEED);
        atomic_fetch_or_explicit(&slabs->unused[slab / 64], bit, memory_order_relaxed);
    }
}

size_t pln_l1_slabs_after_fork(struct pln_l1 *l1) {
    struct slabs *slabs = &l1->slabs;
    size_t held = 0, taken = 0;
    free_places(slabs);
    for (size_t slab = 0; slab < slabs->n_slabs; slab++) {
        /* relaxed: the child has one thread */
        uint32_t class = atomic_load_explicit(&slabs->class_of[slab], memory_order_relaxed);
        if (class == 0) {
            find_unused(slabs, slab);
            continue;
        }
        if ((class & PLN_SLAB_CLOSED) != 0 && !is_draining(slabs, slab)) {
            open_slab(slabs, slab); /* whoever closed it had not yet said so */
        }
        const struct cell_class *cells = pln_l1_class_at(slabs, slab);
        held += pln_l1_slab_cost(slabs);
        taken += (size_t) (cells->n_cells - count_free(slabs, slab)) * cells->cell_bytes;
    }
    /* relaxed: a sum; what is not slabs are large entries */
    size_t all = atomic_load_explicit(&slabs->bytes, memory_order_relaxed);
    return taken + (all > held ? all - held : 0);
}
