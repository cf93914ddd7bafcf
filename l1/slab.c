/* SPDX-License-Identifier: MIT
 *
 * slab.c - memory for entries: cells of a few sizes, cut from slabs, and pages for large ones.
 *
 * A slab is a power of two of bytes in one range of address space reserved at the start; it belongs
 * to one class (cells of one size) until it is given up. A bit says of each cell whether it is
 * free. A cell is taken by clearing its bit and freed by setting it: no list, so no address can
 * come back between two looks, and a thread that stops anywhere holds one cell at most.
 *
 * A slab changes its class only while whoever releases it holds all of its cells, taken like any
 * other. Who takes a cell looks at the class afterwards (P12): where it is not the one he came for
 * (the slab was released and cut anew, or is closed) he puts the cell back, and as long as he holds
 * it the slab cannot be released.
 *
 * A released slab's memory goes back to the system, so that a new cell's bytes are those of an
 * ended entry of the same class, or zero: a look at the state of a cell that is not yet written
 * sees DEAD or PENDING, never part of a value.
 *
 * What is larger than a quarter of a slab has pages of its own, straight from the system.
 */
#include "internal.h"

#include <sys/mman.h>
#include <sys/resource.h>
#include <unistd.h>

enum {
    LEAST_CELL = 32,
    FINE_UP_TO = 256, /* classes every 8 bytes, then every eighth */
    FEWEST_CELLS = 4,
    LEAST_SLAB = 4096,
    MOST_SLAB = 128 << 10,
    SLABS_A_BUDGET = 256,
    GROWTH = 16, /* address space for so many times the first budget, as a rule */
    CUT_TRIES = 16,
    LARGER_CLASSES = 8,
    BY_SIZE_UP_TO = 2048,
    HUGE_PAGE = 2 << 20,
    HUGE_FROM = 32 << 20, /* smaller budgets would be rounded up too much */
};

/* ---- classes ---- */

static void add_class(struct slabs *slabs, size_t cell_bytes) {
    struct cell_class *cells = &slabs->classes[slabs->n_classes++];
    assert(slabs->n_classes <= PLN_L1_CLASSES);
    cells->cell_bytes = (uint32_t) cell_bytes;
    cells->n_cells = (uint32_t) (slabs->slab_bytes / cell_bytes);
    cells->reciprocal = (uint32_t) ((((uint64_t) 1 << 32) + cell_bytes - 1) / cell_bytes);
}

/* Every 8 bytes, then every eighth, then whole fractions of a slab. */
static void make_classes(struct slabs *slabs) {
    size_t bytes = LEAST_CELL;
    for (; bytes <= FINE_UP_TO && bytes <= slabs->slab_bytes / 16; bytes += 8) {
        add_class(slabs, bytes);
    }
    for (bytes = bytes - 8 + bytes / 8; bytes < slabs->slab_bytes / 16; bytes += bytes / 8) {
        add_class(slabs, bytes & ~(size_t) 7);
    }
    for (size_t n = 16; n >= FEWEST_CELLS; n--) {
        bytes = (slabs->slab_bytes / n) & ~(size_t) 7;
        if (bytes > slabs->classes[slabs->n_classes - 1].cell_bytes) {
            add_class(slabs, bytes);
        }
    }
    for (size_t i = 0, kind = 0; i <= BY_SIZE_UP_TO / 8; i++) {
        while (kind < slabs->n_classes - 1 && slabs->classes[kind].cell_bytes < i * 8) {
            kind++;
        }
        slabs->class_by_size[i] = (uint8_t) kind;
    }
}

/* The class for so many bytes, or n_classes where they need pages of their own. */
static unsigned class_for(const struct slabs *slabs, size_t bytes) {
    if (bytes <= BY_SIZE_UP_TO && bytes <= slabs->classes[slabs->n_classes - 1].cell_bytes) {
        return slabs->class_by_size[(bytes + 7) / 8];
    }
    unsigned kind = slabs->class_by_size[BY_SIZE_UP_TO / 8];
    while (kind < slabs->n_classes && slabs->classes[kind].cell_bytes < bytes) {
        kind++;
    }
    return kind;
}

static size_t in_pages(const struct slabs *slabs, size_t bytes) {
    return (bytes + slabs->page_bytes - 1) / slabs->page_bytes * slabs->page_bytes;
}

size_t pln_l1_cell_bytes(const struct slabs *slabs, size_t bytes) {
    unsigned kind = class_for(slabs, bytes);
    return kind < slabs->n_classes ? slabs->classes[kind].cell_bytes : in_pages(slabs, bytes);
}

/* ---- life ---- */

static size_t power_of_two(size_t bytes) {
    size_t power = LEAST_SLAB;
    while (power < MOST_SLAB && power * 2 <= bytes) {
        power *= 2;
    }
    return power;
}

/* Address space only; memory comes with the first touch. Less of it where the system is strict. */
static char *reserve(size_t *bytes, size_t least) {
    for (; *bytes >= least; *bytes /= 2) {
        void *space = mmap(NULL, *bytes, PROT_READ | PROT_WRITE,
                           MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
        if (space != MAP_FAILED) {
            return space;
        }
    }
    return NULL;
}

/* How many times the first budget may be. A process whose address space is bounded has other use
 * for it: then no more is taken than this budget needs. */
static size_t growth(size_t max_bytes) {
    struct rlimit limit;
    bool is_bounded = getrlimit(RLIMIT_AS, &limit) == 0 && limit.rlim_cur != RLIM_INFINITY;
    return is_bounded || max_bytes >= SIZE_MAX / 4 / GROWTH ? 1 : GROWTH;
}

static int map_arrays(struct slabs *slabs) {
    size_t bit_words = (slabs->n_slabs + 63) / 64;
    size_t n_words = slabs->n_slabs * slabs->words + bit_words * (1 + slabs->n_classes);
    slabs->map_bytes = n_words * sizeof(uint64_t) + slabs->n_slabs * sizeof(uint32_t);
    slabs->map = reserve(&slabs->map_bytes, slabs->map_bytes);
    if (slabs->map == NULL) {
        return pln_fail(PLN_ENOMEM, "l1: no address space for %zu slabs", slabs->n_slabs);
    }
    _Atomic uint64_t *words = slabs->map;
    slabs->free_cells = words;
    words += slabs->n_slabs * slabs->words;
    slabs->unused = words;
    for (size_t i = 0; i < slabs->n_classes; i++) {
        words += bit_words;
        slabs->classes[i].has_free = words;
    }
    slabs->class_of = (_Atomic uint32_t *) (words + bit_words);
    for (size_t i = 0; i < slabs->n_slabs; i++) {
        /* relaxed: nobody else knows of it yet */
        atomic_fetch_or_explicit(&slabs->unused[i / 64], (uint64_t) 1 << i % 64,
                                 memory_order_relaxed);
    }
    return PLN_OK;
}

int pln_l1_slabs_init(struct slabs *slabs, size_t max_bytes) {
    size_t least = max_bytes + max_bytes / 8 + 2 * (size_t) HUGE_PAGE;
    slabs->slab_bytes = power_of_two(max_bytes / SLABS_A_BUDGET);
    slabs->slab_shift = (unsigned) __builtin_ctzl(slabs->slab_bytes);
    slabs->page_bytes = (unsigned) sysconf(_SC_PAGESIZE);
    slabs->words = (unsigned) (slabs->slab_bytes / LEAST_CELL / 64);
    make_classes(slabs);
    slabs->reserved_bytes = least * growth(max_bytes);
    slabs->reserved = reserve(&slabs->reserved_bytes, least);
    if (slabs->reserved == NULL) {
        return pln_fail(PLN_ENOMEM, "l1: no address space for a budget of %zu bytes", max_bytes);
    }
    uintptr_t start = (uintptr_t) slabs->reserved;
    slabs->base = slabs->reserved + (-start & (HUGE_PAGE - 1));
    slabs->n_slabs = (slabs->reserved_bytes - HUGE_PAGE) >> slabs->slab_shift;
    if (max_bytes >= HUGE_FROM) {
        /* where the system grants them; nothing is lost where not */
        madvise(slabs->base, slabs->n_slabs << slabs->slab_shift, MADV_HUGEPAGE);
    }
    return map_arrays(slabs);
}

void pln_l1_slabs_fini(struct slabs *slabs) {
    if (slabs->reserved != NULL) {
        for (size_t i = 0; slabs->map != NULL && i < slabs->n_slabs; i++) {
            /* relaxed: no other thread uses them any more */
            if (atomic_load_explicit(&slabs->class_of[i], memory_order_relaxed) != 0) {
                PLN_UNPOISON(pln_l1_slab_at(slabs, i), slabs->slab_bytes);
            }
        }
        munmap(slabs->reserved, slabs->reserved_bytes);
    }
    if (slabs->map != NULL) {
        munmap(slabs->map, slabs->map_bytes);
    }
    slabs->reserved = NULL;
    slabs->map = NULL;
}

/* ---- where things are ---- */

static bool is_in_slab(const struct slabs *slabs, const void *cell) {
    return (uintptr_t) cell - (uintptr_t) slabs->base < slabs->n_slabs << slabs->slab_shift;
}

bool pln_l1_is_large(const struct pln_l1 *l1, const struct entry *entry) {
    return !is_in_slab(&l1->slabs, entry);
}

static size_t slab_of(const struct slabs *slabs, const void *cell) {
    return ((uintptr_t) cell - (uintptr_t) slabs->base) >> slabs->slab_shift;
}

static size_t bytes_of(const struct entry *entry) {
    size_t n_marks = pln_l1_n_marks(entry);
    return (size_t) entry->value.offset + entry->value.len +
           (n_marks > 0 ? sizeof(uint64_t) + n_marks * sizeof(uint16_t) : 0);
}

size_t pln_l1_entry_bytes(const struct pln_l1 *l1, const struct entry *entry) {
    const struct slabs *slabs = &l1->slabs;
    return is_in_slab(slabs, entry) ? pln_l1_class_at(slabs, slab_of(slabs, entry))->cell_bytes
                                    : in_pages(slabs, bytes_of(entry));
}

/* ---- taking ---- */

static bool may_hold(struct slabs *slabs, size_t bytes, size_t limit) {
    /* relaxed both: a sum; whoever goes over takes his share back */
    size_t before = atomic_fetch_add_explicit(&slabs->bytes, bytes, memory_order_relaxed);
    if (before + bytes > limit) {
        atomic_fetch_sub_explicit(&slabs->bytes, bytes, memory_order_relaxed);
        return false;
    }
    return true;
}

static struct entry *take_large(struct slabs *slabs, size_t bytes, size_t limit) {
    bytes = in_pages(slabs, bytes);
    if (!may_hold(slabs, bytes, limit)) {
        return NULL;
    }
    void *pages = mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (pages == MAP_FAILED) {
        /* relaxed: a sum */
        atomic_fetch_sub_explicit(&slabs->bytes, bytes, memory_order_relaxed);
        return NULL;
    }
    return pages;
}

/* Takes a free cell of a slab, if it has one and is of this class.
 * Linearization: the clearing of the bit. Each failed try is another thread's success. */
static struct entry *take_from(struct slabs *slabs, unsigned kind, size_t slab, size_t start) {
    const struct cell_class *cells = &slabs->classes[kind];
    _Atomic uint64_t *bits = &slabs->free_cells[slab * slabs->words];
    size_t n_words = (cells->n_cells + 63) / 64;
    /* relaxed: a first look, which spares the taking in vain */
    if (atomic_load_explicit(&slabs->class_of[slab], memory_order_relaxed) != kind + 1) {
        return NULL;
    }
    for (size_t i = 0; i < n_words; i++) {
        size_t at = (start + i) % n_words;
        /* relaxed: a hint */
        uint64_t present = atomic_load_explicit(&bits[at], memory_order_relaxed);
        while (present != 0) {
            uint64_t bit = present & -present;
            /* P4 acquire: the last reads of the cell's former entry; pairs with
             * pln_l1_cell_free */
            present = atomic_fetch_and_explicit(&bits[at], ~bit, memory_order_acquire);
            if ((present & bit) == 0) {
                continue;
            }
            /* P12 acquire: after the bit; pairs with cut and close. no test: x86 */
            if (atomic_load_explicit(&slabs->class_of[slab], memory_order_acquire) != kind + 1) {
                /* P4 release: as if it had never been taken; pairs with the clearing above. no
                 * test: x86 */
                atomic_fetch_or_explicit(&bits[at], bit, memory_order_release);
                return NULL;
            }
            size_t cell = at * 64 + (size_t) __builtin_ctzll(bit);
            char *taken = pln_l1_slab_at(slabs, slab) + cell * cells->cell_bytes;
            PLN_UNPOISON(taken, cells->cell_bytes);
            return (struct entry *) (void *) taken;
        }
    }
    return NULL;
}

static bool has_free_cell(struct slabs *slabs, size_t slab) {
    for (size_t i = 0; i < slabs->words; i++) {
        /* seq_cst: after the clearing in `forget`; pairs with the setting in pln_l1_cell_free. no
         * test: x86 */
        if (atomic_load_explicit(&slabs->free_cells[slab * slabs->words + i],
                                 memory_order_seq_cst) != 0) {
            return true;
        }
    }
    return false;
}

/* A slab that had nothing to take is not looked at again until a cell of it is freed. The bit is
 * cleared before the cells are looked at once more, and a cell is freed before the bit is looked
 * at: one of the two sees the other. */
static void forget(struct slabs *slabs, _Atomic uint64_t *word, size_t slab) {
    uint64_t bit = (uint64_t) 1 << slab % 64;
    /* seq_cst both: see above (store, then load). no test: x86 */
    atomic_fetch_and_explicit(word, ~bit, memory_order_seq_cst);
    if (has_free_cell(slabs, slab)) {
        atomic_fetch_or_explicit(word, bit, memory_order_seq_cst);
    }
}

/* Cuts a slab without a class into cells of this one. */
static bool cut(struct slabs *slabs, unsigned kind, size_t limit, uint32_t *found) {
    const struct cell_class *cells = &slabs->classes[kind];
    size_t bit_words = (slabs->n_slabs + 63) / 64;
    if (!may_hold(slabs, pln_l1_slab_cost(slabs), limit)) {
        return false;
    }
    for (size_t at = 0; at < bit_words; at++) {
        /* relaxed: a hint */
        uint64_t present = atomic_load_explicit(&slabs->unused[at], memory_order_relaxed);
        while (present != 0) {
            uint64_t bit = present & -present;
            /* P12 acquire: the slab as it was left; pairs with release. no test: x86 */
            present = atomic_fetch_and_explicit(&slabs->unused[at], ~bit, memory_order_acquire);
            if ((present & bit) == 0) {
                continue;
            }
            size_t slab = at * 64 + (size_t) __builtin_ctzll(bit);
            for (size_t i = 0; i < cells->n_cells; i += 64) {
                size_t left = cells->n_cells - i;
                /* relaxed: published with the class; who takes one before puts it back */
                atomic_store_explicit(&slabs->free_cells[slab * slabs->words + i / 64],
                                      left < 64 ? ((uint64_t) 1 << left) - 1 : UINT64_MAX,
                                      memory_order_relaxed);
            }
            /* P12 release: pairs with take_from. no test: x86 */
            atomic_store_explicit(&slabs->class_of[slab], kind + 1, memory_order_release);
            /* relaxed: a hint, which may come late */
            atomic_fetch_or_explicit(&cells->has_free[at], bit, memory_order_relaxed);
            *found = (uint32_t) slab;
            return true;
        }
    }
    /* relaxed: a sum */
    atomic_fetch_sub_explicit(&slabs->bytes, pln_l1_slab_cost(slabs), memory_order_relaxed);
    return false;
}

/* Looks for a slab with a free cell, from a thread's last one on. */
static struct entry *search(struct slabs *slabs, unsigned kind, uint32_t *slab, size_t start) {
    const struct cell_class *cells = &slabs->classes[kind];
    size_t bit_words = (slabs->n_slabs + 63) / 64, first = *slab / 64;
    for (size_t i = 0; i < bit_words; i++) {
        size_t at = (first + i) % bit_words;
        /* relaxed: a hint; P4 orders what is taken */
        uint64_t left = atomic_load_explicit(&cells->has_free[at], memory_order_relaxed);
        for (; left != 0; left &= left - 1) {
            size_t found = at * 64 + (size_t) __builtin_ctzll(left);
            struct entry *cell = take_from(slabs, kind, found, start);
            if (cell != NULL) {
                *slab = (uint32_t) found;
                return cell;
            }
            forget(slabs, &cells->has_free[at], found);
        }
    }
    return NULL;
}

struct entry *pln_l1_cell_take(struct pln_l1 *l1, struct thread_record *record, size_t bytes,
                               size_t limit) {
    struct slabs *slabs = &l1->slabs;
    unsigned kind = class_for(slabs, bytes);
    if (kind == slabs->n_classes) {
        return take_large(slabs, bytes, limit);
    }
    /* threads begin at different words, so that they seldom write the same line */
    size_t start = record->limbo * 8;
    uint32_t *slab = &record->slab_of[kind];
    struct entry *cell = take_from(slabs, kind, *slab, start);
    if (cell == NULL) {
        cell = search(slabs, kind, slab, start);
    }
    for (int i = 0; cell == NULL && i < CUT_TRIES && cut(slabs, kind, limit, slab); i++) {
        cell = take_from(slabs, kind, *slab, start);
    }
    return cell;
}

struct entry *pln_l1_cell_take_larger(struct pln_l1 *l1, struct thread_record *record,
                                      size_t bytes) {
    struct slabs *slabs = &l1->slabs;
    unsigned kind = class_for(slabs, bytes);
    struct entry *cell = NULL;
    for (unsigned i = 1; cell == NULL && i <= LARGER_CLASSES && kind + i < slabs->n_classes; i++) {
        cell = search(slabs, kind + i, &record->slab_of[kind + i], record->limbo * 8);
    }
    return cell;
}

void pln_l1_cell_free(struct pln_l1 *l1, struct entry *entry) {
    struct slabs *slabs = &l1->slabs;
    if (!is_in_slab(slabs, entry)) {
        size_t bytes = in_pages(slabs, bytes_of(entry));
        munmap(entry, bytes);
        /* relaxed: a sum */
        atomic_fetch_sub_explicit(&slabs->bytes, bytes, memory_order_relaxed);
        return;
    }
    size_t slab = slab_of(slabs, entry);
    const struct cell_class *cells = pln_l1_class_at(slabs, slab);
    uint64_t offset = (uint64_t) ((char *) entry - pln_l1_slab_at(slabs, slab));
    size_t cell = (size_t) (offset * cells->reciprocal >> 32);
    _Atomic uint64_t *has_free = &cells->has_free[slab / 64];
    PLN_POISON(entry, cells->cell_bytes);
    /* P4 release: the last reads of this entry before the next one's writes; pairs with take_from.
     * seq_cst: before the look at has_free (store, then load), see forget */
    atomic_fetch_or_explicit(&slabs->free_cells[slab * slabs->words + cell / 64],
                             (uint64_t) 1 << cell % 64, memory_order_seq_cst);
    /* seq_cst: as above. Where it was released meanwhile the bit is a false hint, no harm. no test:
     * x86 */
    if ((atomic_load_explicit(has_free, memory_order_seq_cst) >> slab % 64 & 1) == 0) {
        atomic_fetch_or_explicit(has_free, (uint64_t) 1 << slab % 64, memory_order_seq_cst);
    }
}
