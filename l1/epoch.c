/* SPDX-License-Identifier: MIT
 *
 * epoch.c - when memory that a reader may still see is given back.
 *
 * Concurrency Kit's epochs: a reader marks the epoch it began in; memory unlinked in epoch e is
 * freed once the epoch has moved on twice, which it does only past readers that have seen it.
 * Every thread has a record of its own, found by thread-specific data and given back when the
 * thread ends, so that any number of threads may come and go.
 *
 * Unlinked entries do not wait with the thread that unlinked them (it may never come back) but in
 * one of a few shared limbos: lock-free stacks that anybody may push on. Whoever gets hold of
 * `is_taken` moves what has come into the limbo's own record and asks that which may be freed. The
 * move is needed: a poll that finds no reader at all frees everything its record holds, so nothing
 * may be added to it meanwhile. A thread stopped while it empties one limbo leaves the others.
 */
#include "internal.h"

#include <linux/membarrier.h>
#include <sys/syscall.h>
#include <unistd.h>

static void give_back(void *arg) {
    struct thread_record *record = arg;
    /* P6 release: pairs with take_used */
    atomic_store_explicit(&record->is_taken, false, memory_order_release);
}

static bool membarrier(int command) {
    return syscall(__NR_membarrier, command, 0, 0) == 0;
}

int pln_l1_epoch_init(struct pln_l1 *l1) {
    l1->has_membarrier = membarrier(MEMBARRIER_CMD_REGISTER_PRIVATE_EXPEDITED);
    if (pthread_key_create(&l1->record_key, give_back) != 0) {
        return pln_fail(PLN_ESYSTEM, "l1: the process has no thread-specific keys left");
    }
    ck_epoch_init(&l1->epoch);
    for (size_t i = 0; i < PLN_L1_LIMBOS; i++) {
        ck_epoch_register(&l1->epoch, &l1->limbos[i].record, l1);
    }
    return PLN_OK;
}

void pln_l1_epoch_fini(struct pln_l1 *l1) {
    struct thread_record *next;
    pthread_key_delete(l1->record_key);
    for (int i = 0; i < CK_EPOCH_LENGTH; i++) {
        pln_l1_reclaim(l1); /* no reader is left: each call moves the epoch on */
    }
    /* relaxed: no other thread uses the table any more */
    for (struct thread_record *record = atomic_load_explicit(&l1->records, memory_order_relaxed);
         record != NULL; record = next) {
        next = record->next;
        free(record);
    }
}

static struct thread_record *take_used(struct pln_l1 *l1) {
    /* P7 acquire: pairs with link_new */
    for (struct thread_record *record = atomic_load_explicit(&l1->records, memory_order_acquire);
         record != NULL; record = record->next) {
        bool is_taken = false;
        /* P6 acquire: pairs with give_back. relaxed on failure: nothing of it is used */
        if (atomic_compare_exchange_strong_explicit(&record->is_taken, &is_taken, true,
                                                    memory_order_acquire, memory_order_relaxed)) {
            return record;
        }
    }
    return NULL;
}

static struct thread_record *link_new(struct pln_l1 *l1) {
    struct thread_record *record = aligned_alloc(PLN_CACHE_LINE, sizeof *record);
    if (record == NULL) {
        return NULL;
    }
    memset(record, 0, sizeof *record);
    atomic_init(&record->is_taken, true);
    record->limbo = (unsigned) (((uintptr_t) record >> 8) % PLN_L1_LIMBOS);
    ck_epoch_register(&l1->epoch, &record->record, l1);
    /* relaxed: the exchange below looks again */
    record->next = atomic_load_explicit(&l1->records, memory_order_relaxed);
    /* P7 release: pairs with take_used. relaxed on failure: only the pointer is used */
    while (!atomic_compare_exchange_weak_explicit(&l1->records, &record->next, record,
                                                  memory_order_release, memory_order_relaxed)) {
    }
    return record;
}

struct thread_record *pln_l1_record(struct pln_l1 *l1) {
    struct thread_record *record = pthread_getspecific(l1->record_key);
    if (record != NULL) {
        return record;
    }
    record = take_used(l1);
    if (record == NULL) {
        record = link_new(l1);
    }
    if (record != NULL && pthread_setspecific(l1->record_key, record) != 0) {
        give_back(record);
        return NULL;
    }
    return record;
}

void pln_l1_unref(struct pln_l1 *l1, struct entry *entry) {
    /* P4 release and P4 acquire: every borrower's last read before the memory goes */
    if (atomic_fetch_sub_explicit(&entry->value.refs, 1, memory_order_acq_rel) == 1) {
        /* relaxed: a sum, no order */
        atomic_fetch_sub_explicit(&l1->waiting_bytes, pln_l1_entry_bytes(entry),
                                  memory_order_relaxed);
        free(entry);
    }
}

/* ---- waiting ---- */

/* Entries that wait together: they were unlinked before the batch was made. */
struct batch {
    ck_epoch_entry_t link;
    struct entry *first;
};

static struct entry *next_of(const struct entry *entry) {
    /* relaxed: ordered by whatever handed the entry over */
    return (struct entry *) (uintptr_t) atomic_load_explicit(&entry->created, memory_order_relaxed);
}

void pln_l1_retire(struct pln_l1 *l1, struct thread_record *record, struct entry *entry) {
    struct limbo *limbo = &l1->limbos[record->limbo];
    size_t bytes = pln_l1_entry_bytes(entry);
    /* relaxed each: sums, no order */
    atomic_fetch_sub_explicit(&l1->live_bytes, bytes, memory_order_relaxed);
    atomic_fetch_add_explicit(&l1->waiting_bytes, bytes, memory_order_relaxed);
    atomic_fetch_sub_explicit(&l1->entries, 1, memory_order_relaxed);
    /* P3 release: the entry is DEAD before `created` is overwritten; pairs with pln_l1_read_hit */
    atomic_thread_fence(memory_order_release);
    /* Treiber's stack; taken only as a whole, so that addresses may come back. relaxed: the
     * exchange looks again */
    struct entry *first = atomic_load_explicit(&limbo->incoming, memory_order_relaxed);
    do {
        /* relaxed: ordered by the fence above and the exchange below */
        atomic_store_explicit(&entry->created, (int64_t) (uintptr_t) first, memory_order_relaxed);
        /* P8 release: pairs with empty. relaxed on failure: only the pointer is used */
    } while (!atomic_compare_exchange_weak_explicit(&limbo->incoming, &first, entry,
                                                    memory_order_release, memory_order_relaxed));
}

static void free_batch(struct pln_l1 *l1, struct batch *batch) {
    struct entry *next;
    for (struct entry *entry = batch->first; entry != NULL; entry = next) {
        next = next_of(entry);
        pln_l1_unref(l1, entry);
    }
    free(batch);
}

static void empty(struct pln_l1 *l1, struct limbo *limbo) {
    ck_stack_t freed = CK_STACK_INITIALIZER;
    ck_stack_entry_t *next;
    /* relaxed: only whether there is work. Without memory they go on waiting; what waits already
     * may still be freed */
    bool has_come = atomic_load_explicit(&limbo->incoming, memory_order_relaxed) != NULL;
    struct batch *batch = has_come ? malloc(sizeof *batch) : NULL;
    if (batch != NULL) {
        /* P8 acquire: the links; pairs with pln_l1_retire */
        batch->first = atomic_exchange_explicit(&limbo->incoming, NULL, memory_order_acquire);
        ck_epoch_call(&limbo->record, &batch->link, NULL);
    }
    ck_epoch_poll_deferred(&limbo->record, &freed);
    PLN_EDGE_TO(&l1->epoch);
    for (ck_stack_entry_t *link = CK_STACK_FIRST(&freed); link != NULL; link = next) {
        next = CK_STACK_NEXT(link);
        free_batch(l1, PLN_CONTAINER_OF(PLN_CONTAINER_OF(link, ck_epoch_entry_t, stack_entry),
                                        struct batch, link));
    }
}

void pln_l1_reclaim(struct pln_l1 *l1) {
    /* the other half of pln_l1_enter's fence: after what waits was unlinked, before the marks */
    if (l1->has_membarrier && !membarrier(MEMBARRIER_CMD_PRIVATE_EXPEDITED)) {
        return; /* cannot fail once registered; without it nothing may be freed */
    }
    for (size_t i = 0; i < PLN_L1_LIMBOS; i++) {
        bool is_taken = false;
        /* P6 acquire: pairs with the store below. relaxed on failure: somebody else is at it */
        if (atomic_compare_exchange_strong_explicit(&l1->limbos[i].is_taken, &is_taken, true,
                                                    memory_order_acquire, memory_order_relaxed)) {
            empty(l1, &l1->limbos[i]);
            /* P6 release: pairs with the exchange above */
            atomic_store_explicit(&l1->limbos[i].is_taken, false, memory_order_release);
        }
    }
}
