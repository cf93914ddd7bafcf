/* SPDX-License-Identifier: MIT
 *
 * l1.c - the facade: limits, generations, the two-phase store, removal.
 *
 * Each operation is: the thread's record, a section, a few calls into table.c. No section is held
 * across a caller's code, but for the check of a put and the visit of an iteration, which must not
 * use the table.
 */
#include "internal.h"

#include <errno.h>

enum {
    REFIT_EVERY = 256,   /* puts of a thread between two looks at the table's size */
    MOVES_A_PUT = 2,     /* buckets of an old table */
    ENDED_BY_PUT = 4096, /* buckets of an old table looked through: in some 100 us */
    FULL_SWEEP = 16384,
    HOT_FROM = 2 << 20, /* bytes of budget: the summary takes 64 KB */
};

/* ---- life ---- */

static int init(struct pln_l1 *l1, const struct pln_l1_options *options) {
    l1->max_item_bytes = options->max_item_bytes;
    l1->max_entries = options->max_entries;
    l1->share_entries = options->max_entries / 4096;
    l1->eviction = options->eviction;
    l1->weighs_bytes = options->weighs_bytes;
    l1->absent_share = options->absent_share;
    l1->hash = options->hash != NULL ? options->hash : pln_hash;
    l1->seed = options->seed;
    l1->counts = options->counts;
    l1->marks = options->marks;
    pln_l1_set_budget(l1, options->max_bytes);
    pln_l1_adapt_init(&l1->adapt);
    struct index *table = &l1->views[0].present;
    int status = pln_l1_table_new(table, pln_l1_table_fit(options->max_bytes, l1->max_entries),
                                  l1->eviction == PLN_L1_ADAPTIVE);
    if (status < 0) {
        return status;
    }
    atomic_init(&l1->began, -1);
    atomic_init(&l1->view, &l1->views[0]);
    atomic_init(&l1->table_bytes, table->map_bytes + sizeof *l1);
    if (table->map_bytes + sizeof *l1 >= options->max_bytes) {
        return pln_fail(PLN_EINVAL, "l1: a budget of %zu bytes leaves nothing for entries",
                        options->max_bytes);
    }
    if (options->max_bytes >= HOT_FROM) {
        status = pln_hot_new(&l1->hot);
        /* relaxed: nobody else knows of it yet */
        atomic_fetch_add_explicit(&l1->table_bytes, PLN_HOT_BYTES, memory_order_relaxed);
    }
    if (status == PLN_OK) {
        status = pln_l1_slabs_init(&l1->slabs, options->max_bytes);
    }
    return status < 0 ? status : pln_l1_epoch_init(l1);
}

int pln_l1_new(const struct pln_l1_options *options, struct pln_l1 **l1) {
    struct pln_l1 *created = aligned_alloc(128, (sizeof *created + 127) / 128 * 128);
    if (created == NULL) {
        return pln_fail(PLN_ENOMEM, "l1: no memory");
    }
    assert(options->counts != NULL);
    memset(created, 0, sizeof *created);
    int status = init(created, options);
    if (status < 0) {
        pln_l1_slabs_fini(&created->slabs);
        pln_l1_table_free(&created->views[0].present);
        pln_hot_free(created->hot);
        free(created);
        return status;
    }
    *l1 = created;
    return PLN_OK;
}

/* The other entries go with their slabs. */
static void free_large(struct pln_l1 *l1, const struct index *table) {
    for (size_t i = 0; i < table->n_buckets * 2 * PLN_L1_HALF; i++) {
        struct half *half = &table->buckets[i / 2 / PLN_L1_HALF].halves[i / PLN_L1_HALF % 2];
        /* relaxed: no other thread uses the table any more */
        struct entry *entry = pln_l1_slot_entry(
            atomic_load_explicit(&half->slots[i % PLN_L1_HALF], memory_order_relaxed));
        if (entry != NULL && pln_l1_is_large(l1, entry)) {
            pln_l1_cell_free(l1, entry);
        }
    }
}

void pln_l1_free(struct pln_l1 *l1) {
    if (l1 == NULL) {
        return;
    }
    pln_l1_epoch_fini(l1);
    /* relaxed: no other thread uses the table any more */
    struct view *view = atomic_load_explicit(&l1->view, memory_order_relaxed);
    free_large(l1, &view->old);
    free_large(l1, &view->present);
    pln_l1_table_free(&view->old);
    pln_l1_table_free(&view->present);
    pln_l1_table_free(&l1->withdrawn);
    pln_l1_slabs_fini(&l1->slabs);
    pln_hot_free(l1->hot);
    free(l1);
}

uint32_t pln_l1_generation(const struct pln_l1 *l1) {
    /* P5 acquire: pairs with pln_l1_set_generation. no test: x86 */
    return atomic_load_explicit(&l1->generation, memory_order_acquire);
}

void pln_l1_set_generation(struct pln_l1 *l1, uint32_t generation) {
    /* P5 release: pairs with pln_l1_generation. no test: x86 */
    uint32_t before = atomic_exchange_explicit(&l1->generation, generation, memory_order_acq_rel);
    /* seq_cst: before any look at entries that follows, as in a remove (store, then load). no test:
     * fence */
    atomic_thread_fence(memory_order_seq_cst);
    if (before / FULL_SWEEP != generation / FULL_SWEEP) {
        pln_l1_sweep_dropped(l1); /* entries know the low half of theirs only */
    }
}

/* ---- storing ---- */

/* Memory for an entry within the budget, and the entry in it; PLN_EBUSY, PLN_ENOMEM. */
static int entry_new(struct pln_l1 *l1, struct thread_record *record, const struct pln_hashed *key,
                     const struct pln_l1_item *item, pln_ms now, struct entry **entry) {
    size_t bytes = pln_l1_item_bytes(key, item);
    size_t cell_bytes = pln_l1_cell_bytes(&l1->slabs, bytes);
    int status = item->is_absent ? pln_l1_make_absent_room(l1, record, key->hash, cell_bytes, now)
                                 : PLN_OK;
    if (status == PLN_OK) {
        status = pln_l1_make_room(l1, record, key->hash, cell_bytes, now);
    }
    if (status < 0) {
        return status;
    }
    *entry = pln_l1_take_cell(l1, record, bytes);
    if (*entry == NULL) {
        return pln_fail(PLN_EBUSY, "l1: no memory free for an entry of %zu bytes", bytes);
    }
    pln_l1_entry_init(*entry, key, item);
    return PLN_OK;
}

/* The note is gone before the section ends, after which others may free the entry. */
static int store_noted(struct pln_l1 *l1, struct thread_record *record,
                       const struct pln_hashed *key, struct entry *entry, uint32_t generation,
                       pln_ms now, pln_l1_check check, const void *check_arg) {
    pln_l1_enter(l1, record);
    /* release both, no pair: only a child looks at it, and the compiler is to keep the order */
    atomic_store_explicit(&record->storing, entry, memory_order_release);
    int status = pln_l1_store(l1, record, key, entry, generation, now, check, check_arg);
    atomic_store_explicit(&record->storing, NULL, memory_order_release);
    pln_l1_leave(record);
    return status;
}

/* Links, checks and shows; PLN_NOT_STORED where it was withdrawn. */
static int store(struct pln_l1 *l1, struct thread_record *record, const struct pln_hashed *key,
                 struct entry *entry, uint32_t generation, pln_ms now, pln_l1_check check,
                 const void *check_arg) {
    int64_t bytes = (int64_t) pln_l1_entry_bytes(l1, entry);
    /* before the link: from then on others may retire it */
    pln_l1_account(l1, record, entry, bytes, 1);
    int status = store_noted(l1, record, key, entry, generation, now, check, check_arg);
    if (status < 0 && l1->eviction == PLN_L1_NONE) {
        pln_l1_double(l1, record); /* nobody may go from the bucket: there must be more of them */
        status = store_noted(l1, record, key, entry, generation, now, check, check_arg);
    }
    if (status < 0) {
        pln_l1_account(l1, record, entry, -bytes, -1);
        pln_l1_cell_free(l1, entry);
    }
    return status;
}

/* What writers do for the table now and then. */
static void look_after(struct pln_l1 *l1, struct thread_record *record, pln_ms now) {
    if (pln_l1_is_reclaim_due(l1)) {
        pln_l1_reclaim(l1, PLN_L1_RECLAIMED);
    }
    if (++record->n_puts % REFIT_EVERY == 0) {
        pln_l1_refit(l1, record);
        pln_l1_set_tick(l1, now);
        pln_l1_trim(l1, record, 1);
        if (pln_l1_is_replacing(l1)) {
            pln_l1_reclaim(l1, PLN_L1_RECLAIMED); /* its stages wait for grace periods */
            pln_l1_move_end(l1, record, now, ENDED_BY_PUT);
        }
    }
    pln_l1_move(l1, record, now, MOVES_A_PUT);
}

int pln_l1_put(struct pln_l1 *l1, const struct pln_hashed *key, const struct pln_l1_item *item,
               pln_ms now, pln_l1_check check, const void *check_arg) {
    assert(key->key.len <= PLN_MAX_KEY && item->n_marks <= PLN_MAX_TAGS);
    if (item->value.len > l1->max_item_bytes || item->value.len > UINT32_MAX) {
        pln_count(l1->counts, PLN_COUNT_L1_REFUSALS, 1);
        return pln_fail(PLN_ETOOBIG, "l1: a value of %zu bytes, at most %zu", item->value.len,
                        l1->max_item_bytes);
    }
    if (check != NULL && !check(check_arg)) {
        return PLN_NOT_STORED;
    }
    struct thread_record *record = pln_l1_record(l1);
    struct entry *entry = NULL;
    int status = record != NULL ? entry_new(l1, record, key, item, now, &entry)
                                : pln_fail(PLN_ENOMEM, "l1: no memory for a thread's record");
    if (status == PLN_OK) {
        status = store(l1, record, key, entry, item->generation, now, check, check_arg);
    }
    if (status < 0) {
        pln_count(l1->counts, PLN_COUNT_L1_REFUSALS, 1);
    }
    if (record != NULL) {
        look_after(l1, record, now);
    }
    return status;
}

/* Ends all entries of a key, or makes them stale. */
static int find_all(struct pln_l1 *l1, const struct pln_hashed *key, bool is_end, pln_ms now) {
    struct thread_record *record = pln_l1_record(l1);
    if (record == NULL) {
        return pln_fail(PLN_ENOMEM, "l1: no memory to look for a key that is to be removed");
    }
    pln_l1_enter(l1, record);
    /* seq_cst: the caller's raised stamp before this search (store, then load); pairs with
     * pln_l1_store. no test: fence */
    atomic_thread_fence(memory_order_seq_cst);
    unsigned n = is_end ? pln_l1_kill_key(l1, record, key)
                        : pln_l1_expire_key(l1, record, key, now);
    pln_l1_leave(record);
    if (pln_l1_is_reclaim_due(l1)) {
        pln_l1_reclaim(l1, PLN_L1_RECLAIMED);
    }
    return n > 0 ? PLN_OK : PLN_MISS;
}

int pln_l1_remove(struct pln_l1 *l1, const struct pln_hashed *key) {
    return find_all(l1, key, true, 0);
}

int pln_l1_expire(struct pln_l1 *l1, const struct pln_hashed *key, pln_ms now) {
    return find_all(l1, key, false, now);
}
