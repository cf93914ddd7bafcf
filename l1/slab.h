/* SPDX-License-Identifier: MIT
 *
 * slab.h - memory for entries: classes of cells, slabs, and what is known of each (slab.c,
 * drain.c).
 */
#ifndef PLN_L1_SLAB_H
#define PLN_L1_SLAB_H

#include "entry.h"

/* AddressSanitizer is told which cells are free: the header alone may be looked at then. */
#if defined(__SANITIZE_ADDRESS__)
#include <sanitizer/asan_interface.h>
#define PLN_POISON(cell, bytes)                                                                    \
    __asan_poison_memory_region((char *) (cell) + ENTRY_KEY_AT, (bytes) - (ENTRY_KEY_AT))
#define PLN_UNPOISON(cell, bytes) __asan_unpoison_memory_region((cell), (bytes))
#else
#define PLN_POISON(cell, bytes) ((void) 0)
#define PLN_UNPOISON(cell, bytes) ((void) 0)
#endif

struct thread_record;

enum {
    PLN_L1_DRAINED = 4,  /* slabs on their way out at a time */
    PLN_L1_CLASSES = 96, /* sizes of cells, at most */
};

/* Cells of one size, cut from slabs. */
struct cell_class {
    uint32_t cell_bytes;
    uint32_t n_cells;           /* of a slab */
    uint32_t reciprocal;        /* of cell_bytes, times 2^32 */
    _Atomic uint64_t *has_free; /* one bit a slab: it may have a free cell of this class */
};

struct slabs {
    char *reserved; /* address space for all slabs there may ever be */
    size_t reserved_bytes;
    char *base;        /* of the first slab */
    size_t n_slabs;    /* in the address space */
    size_t slab_bytes; /* a power of two */
    unsigned slab_shift;
    unsigned n_classes;
    unsigned words; /* of a slab's bitmap */
    unsigned page_bytes;
    _Atomic uint64_t *free_cells; /* words a slab: bit set where the cell is free */
    _Atomic uint32_t *class_of;   /* a slab's class plus one; 0: no memory behind it */
    _Atomic uint64_t *unused;     /* one bit a slab: it has no class */
    void *map;                    /* of the three arrays and the has_free of every class */
    size_t map_bytes;
    uint8_t class_by_size[257]; /* for sizes up to 2048, in steps of 8 */
    struct cell_class classes[PLN_L1_CLASSES];
    _Alignas(PLN_CACHE_LINE) _Atomic size_t bytes; /* slabs and large entries that have memory */
    _Atomic size_t drain_at;
    _Atomic uint64_t draining[PLN_L1_DRAINED]; /* closed slabs plus one, tries above; 0: none */
};

/* Entries that wait together: they were unlinked before the batch was made. */
struct batch {
    ck_epoch_entry_t link;
    struct entry *first;
    uint32_t stage;         /* when it was made */
    bool is_used, is_ready; /* ready: nobody sees its entries any more */
};

/* ---- slab.c ---- */

int pln_l1_slabs_init(struct slabs *slabs, size_t max_bytes);
void pln_l1_slabs_fini(struct slabs *slabs);
/* Bytes that an entry of so many would take. */
size_t pln_l1_cell_bytes(const struct slabs *slabs, size_t bytes);
/* Bytes that an entry takes. */
size_t pln_l1_entry_bytes(const struct pln_l1 *l1, const struct entry *entry);
/* Memory for an entry, at most `limit` bytes of it with memory behind; NULL where there is none at
 * the moment. Lock-free. */
struct entry *pln_l1_cell_take(struct pln_l1 *l1, struct thread_record *record, size_t bytes,
                               size_t limit);
/* A free cell that is somewhat larger than need be, or NULL. */
struct entry *pln_l1_cell_take_larger(struct pln_l1 *l1, struct thread_record *record,
                                      size_t bytes);
void pln_l1_cell_free(struct pln_l1 *l1, struct entry *entry);
/* True where it has pages of its own. */
bool pln_l1_is_large(const struct pln_l1 *l1, const struct entry *entry);

/* With a slab's class: its free cells are not to be taken. */
#define PLN_SLAB_CLOSED ((uint32_t) 1 << 31)

/* The class of a slab that holds a cell of the caller's. */
static inline const struct cell_class *pln_l1_class_at(const struct slabs *slabs, size_t slab) {
    /* relaxed: it cannot change while the cell is held */
    uint32_t class = atomic_load_explicit(&slabs->class_of[slab], memory_order_relaxed);
    return &slabs->classes[(class & ~PLN_SLAB_CLOSED) - 1];
}

static inline char *pln_l1_slab_at(const struct slabs *slabs, size_t slab) {
    return slabs->base + (slab << slabs->slab_shift);
}

/* A slab's memory, and that of its bitmap. */
static inline size_t pln_l1_slab_cost(const struct slabs *slabs) {
    return slabs->slab_bytes + slabs->words * sizeof(uint64_t);
}

#endif
