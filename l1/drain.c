/* SPDX-License-Identifier: MIT
 *
 * drain.c - memory of the right size: slabs that change their class, or are given back.
 *
 * The budget bounds the sum of the entries' cells; the slabs that hold them may have a sixteenth
 * more, for cells that wait for readers and for those of sizes no longer asked for. Where a size
 * has no cell left and no slab may be added, the slab with most free cells of a few is closed (no
 * cell of it is taken any more), its entries are evicted, and once no reader sees them it is
 * released. Where a reader still does it is opened again: somebody else's turn.
 */
#include "internal.h"

#include <sys/mman.h>

enum {
    SEARCHED = 16, /* slabs */
    CELL_TRIES = 16,
    SLACK_SHARE = 16,
    SPARE_SLABS = 8, /* so that a tiny budget can hold several sizes */
    CHUNK = 64,
};

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
           /* P12 release: pairs with take_from. relaxed on failure: nothing was done */
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
         * on failure: nothing was taken */
        if (!atomic_compare_exchange_strong_explicit(&bits[at], &all, 0, memory_order_acquire,
                                                     memory_order_relaxed)) {
            break;
        }
    }
    bool has_all = at == n_words;
    while (!has_all && at-- > 0) {
        /* P4 release: as if they had never been taken; pairs with take_from */
        atomic_fetch_or_explicit(&bits[at], all_free(cells, at), memory_order_release);
    }
    return has_all;
}

/* Gives up the memory of a closed slab if all its cells are free, else opens it again. */
static bool release(struct slabs *slabs, size_t slab) {
    const struct cell_class *cells = pln_l1_class_at(slabs, slab);
    if (!take_all(slabs, cells, slab)) {
        uint32_t class = (uint32_t) (cells - slabs->classes) + 1;
        /* P12 release: open again; pairs with take_from */
        atomic_store_explicit(&slabs->class_of[slab], class, memory_order_release);
        /* relaxed: a hint; who freed a cell meanwhile may have set it already */
        atomic_fetch_or_explicit(&cells->has_free[slab / 64], (uint64_t) 1 << slab % 64,
                                 memory_order_relaxed);
        return false;
    }
    madvise(pln_l1_slab_at(slabs, slab), slabs->slab_bytes, MADV_DONTNEED);
    /* P12 release: pairs with take_from; the unused bit hands the slab on to cut */
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
static size_t max_held(const struct pln_l1 *l1) {
    size_t max_bytes = pln_l1_max_bytes(l1);
    /* relaxed: a sum that changes with the table */
    size_t table_bytes = atomic_load_explicit(&l1->table_bytes, memory_order_relaxed);
    return max_bytes + max_bytes / SLACK_SHARE -
           (table_bytes < max_bytes ? table_bytes : max_bytes) + SPARE_SLABS * l1->slabs.slab_bytes;
}

/* Empties the slab that holds least of a few, and gives its memory up; false where there is none,
 * or a reader still looks at it. */
static bool drain(struct pln_l1 *l1, struct thread_record *record) {
    struct entry *entries[CHUNK];
    size_t from = 0, n;
    ptrdiff_t found = sparsest(&l1->slabs);
    if (found < 0 || !close_slab(&l1->slabs, (size_t) found)) {
        return false;
    }
    do {
        pln_l1_enter(l1, record);
        n = entries_of(&l1->slabs, (size_t) found, &from, entries, CHUNK);
        for (size_t i = 0; i < n; i++) {
            pln_l1_kill_anywhere(l1, record, entries[i], PLN_COUNT_L1_DRAINED);
        }
        pln_l1_leave(record);
    } while (n == CHUNK);
    for (int i = 0; i < CK_EPOCH_LENGTH; i++) {
        pln_l1_reclaim(l1);
    }
    return release(&l1->slabs, (size_t) found);
}

struct entry *pln_l1_take_cell(struct pln_l1 *l1, struct thread_record *record, size_t bytes) {
    size_t slabs = bytes / l1->slabs.slab_bytes;
    struct entry *cell = pln_l1_cell_take(l1, record, bytes, max_held(l1));
    if (cell == NULL) {
        pln_l1_reclaim(l1);
        cell = pln_l1_cell_take(l1, record, bytes, max_held(l1));
    }
    for (size_t i = 0; cell == NULL && i < CELL_TRIES + 2 * slabs; i++) {
        if (l1->eviction == PLN_L1_NONE || pln_l1_is_backed_up(l1, record)) {
            break;
        }
        drain(l1, record);
        cell = pln_l1_cell_take(l1, record, bytes, max_held(l1));
    }
    return cell;
}

void pln_l1_trim(struct pln_l1 *l1, struct thread_record *record, unsigned n) {
    /* relaxed: a sum */
    while (n-- > 0 && l1->eviction != PLN_L1_NONE &&
           atomic_load_explicit(&l1->slabs.bytes, memory_order_relaxed) > max_held(l1)) {
        drain(l1, record);
    }
}
