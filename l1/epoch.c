/* SPDX-License-Identifier: MIT
 *
 * epoch.c - when memory that a reader may still see is given back.
 *
 * Concurrency Kit's epochs: a reader marks the epoch it began in; memory unlinked in epoch e is
 * freed once the epoch has moved on twice, which it does only past readers that have seen it.
 * Every thread has a record of its own, found by thread-specific data and given back when the
 * thread ends (core/base/ends.h), so that any number of threads may come and go.
 *
 * Unlinked entries do not wait with the thread that unlinked them (it may never come back) but in
 * one of a few shared limbos: lock-free stacks that anybody may push on. Whoever gets hold of
 * `is_taken` moves what has come into the limbo's own record and asks that which may be freed. The
 * move is needed: a poll that finds no reader at all frees everything its record holds, so nothing
 * may be added to it meanwhile. A thread stopped while it empties one limbo leaves the others.
 *
 * What all writers count together (bytes linked, bytes waiting) they count in their own records
 * first and tell the others when it has come to something, so that they do not share a line.
 */
#include "internal.h"

#include <linux/membarrier.h>
#include <sys/syscall.h>
#include <unistd.h>

#define IS_ADDRESS ((uint64_t) 1 << 63) /* in entry->times: see entry.c */

static void give_back(struct thread_record *record) {
    /* P6 release: pairs with take_used */
    atomic_store_explicit(&record->is_taken, false, memory_order_release);
}

static void end_thread(struct pln_ends *ends, void *part) {
    pthread_setspecific(PLN_CONTAINER_OF(ends, struct pln_l1, ends)->record_key, NULL);
    give_back(part);
}

static bool membarrier(int command) {
    return syscall(__NR_membarrier, command, 0, 0) == 0;
}

int pln_l1_epoch_init(struct pln_l1 *l1) {
    l1->has_membarrier = membarrier(MEMBARRIER_CMD_REGISTER_PRIVATE_EXPEDITED);
    if (pthread_key_create(&l1->record_key, NULL) != 0) {
        return pln_fail(PLN_ESYSTEM, "l1: the process has no thread-specific keys left");
    }
    if (pln_ends_open(&l1->ends, end_thread) < 0) {
        pthread_key_delete(l1->record_key);
        return PLN_ESYSTEM;
    }
    ck_epoch_init(&l1->epoch);
    for (size_t i = 0; i < PLN_L1_LIMBOS; i++) {
        ck_epoch_register(&l1->epoch, &l1->limbos[i].record, l1);
    }
    return PLN_OK;
}

void pln_l1_epoch_fini(struct pln_l1 *l1) {
    struct thread_record *next;
    pln_ends_close(&l1->ends);
    pthread_key_delete(l1->record_key);
    for (int i = 0; i < 2 * CK_EPOCH_LENGTH; i++) {
        pln_l1_reclaim(l1, SIZE_MAX); /* no reader is left: each call moves the epoch on */
    }
    struct pln_l1_usage usage;
    pln_l1_sum(l1, &usage);
    /* a value that is still lent would be read after this; in a child nobody may be left to */
    assert(usage.waiting_bytes == pln_l1_lent_bytes(l1));
    assert(usage.waiting_bytes == 0 || l1->is_child);
    /* relaxed: no other thread uses the table any more */
    for (struct thread_record *record = atomic_load_explicit(&l1->records, memory_order_relaxed);
         record != NULL; record = next) {
        next = record->next;
        free(record);
    }
}

/* ---- records ---- */

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

struct thread_record *pln_l1_record_new(struct pln_l1 *l1) {
    struct thread_record *record = take_used(l1);
    if (record == NULL) {
        record = link_new(l1);
    }
    if (record != NULL && !pln_ends_note(&l1->ends, record)) {
        give_back(record);
        return NULL;
    }
    if (record != NULL && pthread_setspecific(l1->record_key, record) != 0) {
        pln_ends_forget(&l1->ends, record);
        give_back(record);
        return NULL;
    }
    return record;
}

void pln_l1_part(struct pln_l1 *l1) {
    struct thread_record *record = pthread_getspecific(l1->record_key);
    if (record != NULL) {
        pln_ends_forget(&l1->ends, record);
        end_thread(&l1->ends, record);
    }
}

/* ---- counting ---- */

/* Adds to a thread's share of a sum, and hands it on where it is over a bound. */
static void add(_Atomic int64_t *share, _Atomic size_t *sum, int64_t n, size_t bound) {
    /* relaxed each: sums; the share has one writer */
    int64_t own = atomic_load_explicit(share, memory_order_relaxed) + n;
    if ((uint64_t) (own < 0 ? -own : own) > bound) {
        /* relaxed: as above */
        atomic_fetch_add_explicit(sum, (size_t) own, memory_order_relaxed);
        own = 0;
    }
    atomic_store_explicit(share, own, memory_order_relaxed);
}

static size_t share_bytes(const struct pln_l1 *l1) {
    /* relaxed: before or after the budget was changed */
    return atomic_load_explicit(&l1->share_bytes, memory_order_relaxed);
}

void pln_l1_account(struct pln_l1 *l1, struct thread_record *record, const struct entry *entry,
                    int64_t bytes, int entries) {
    if (pln_l1_is_absent(entry)) {
        /* relaxed: a sum. One line for all, since such entries are few */
        atomic_fetch_add_explicit(&l1->absent_bytes, (size_t) bytes, memory_order_relaxed);
    }
    add(&record->live_bytes, &l1->live_bytes, bytes, share_bytes(l1));
    add(&record->entries, &l1->entries, entries, l1->share_entries);
}

void pln_l1_sum(const struct pln_l1 *l1, struct pln_l1_usage *usage) {
    /* relaxed each: sums of one moment or the next */
    size_t live = atomic_load_explicit(&l1->live_bytes, memory_order_relaxed);
    usage->entries = atomic_load_explicit(&l1->entries, memory_order_relaxed);
    usage->waiting_bytes = atomic_load_explicit(&l1->waiting_bytes, memory_order_relaxed) +
                           pln_l1_lent_bytes(l1);
    /* P7 acquire: pairs with link_new. no test: x86 */
    for (struct thread_record *record = atomic_load_explicit(&l1->records, memory_order_acquire);
         record != NULL; record = record->next) {
        /* relaxed each: as above */
        live += (size_t) atomic_load_explicit(&record->live_bytes, memory_order_relaxed);
        usage->entries += (size_t) atomic_load_explicit(&record->entries, memory_order_relaxed);
        usage->waiting_bytes += (size_t) atomic_load_explicit(&record->waiting_bytes,
                                                              memory_order_relaxed);
    }
    /* relaxed both: as above */
    usage->table_bytes = atomic_load_explicit(&l1->table_bytes, memory_order_relaxed);
    usage->held_bytes = atomic_load_explicit(&l1->slabs.bytes, memory_order_relaxed);
    usage->bytes = usage->table_bytes + live + usage->waiting_bytes;
    usage->absent_bytes = pln_l1_absent_bytes(l1);
    usage->max_bytes = pln_l1_max_bytes(l1);
}

/* ---- waiting ---- */

static struct entry *next_of(const struct entry *entry) {
    /* relaxed: ordered by whatever handed the entry over */
    uint64_t link = atomic_load_explicit(&entry->times, memory_order_relaxed);
    return (struct entry *) (uintptr_t) (link & ~IS_ADDRESS);
}

/* This thread's limbo, or another while somebody is at it: he may have stopped. */
static struct limbo *limbo_for(struct pln_l1 *l1, const struct thread_record *record) {
    size_t at = record->limbo;
    /* relaxed: any will do */
    while (at < record->limbo + PLN_L1_LIMBOS &&
           atomic_load_explicit(&l1->limbos[at % PLN_L1_LIMBOS].is_taken, memory_order_relaxed)) {
        at++;
    }
    return &l1->limbos[at % PLN_L1_LIMBOS];
}

void pln_l1_retire(struct pln_l1 *l1, struct thread_record *record, struct entry *entry) {
    struct limbo *limbo = limbo_for(l1, record);
    int64_t bytes = (int64_t) pln_l1_entry_bytes(l1, entry);
    pln_l1_account(l1, record, entry, -bytes, -1);
    if (l1->eviction == PLN_L1_ADAPTIVE) {
        pln_l1_adapt_retired(l1, entry);
    }
    add(&record->waiting_bytes, &l1->waiting_bytes, bytes, share_bytes(l1));
    PLN_POINT(retiring);
    /* P3 release: the entry is DEAD before `times` is overwritten; pairs with read_hit. no test:
     * fence */
    atomic_thread_fence(memory_order_release);
    /* Treiber's stack; taken only as a whole, so that addresses may come back. relaxed: the
     * exchange looks again */
    struct entry *first = atomic_load_explicit(&limbo->incoming, memory_order_relaxed);
    do {
        /* relaxed: ordered by the fence above and the exchange below */
        atomic_store_explicit(&entry->times, (uintptr_t) first | IS_ADDRESS, memory_order_relaxed);
        /* P8 release: pairs with empty. relaxed on failure: only the pointer is used. no test: x86
         */
    } while (!atomic_compare_exchange_weak_explicit(&limbo->incoming, &first, entry,
                                                    memory_order_release, memory_order_relaxed));
}

void pln_l1_unref(struct pln_l1 *l1, struct entry *entry) {
    /* P4 acquire: every borrower's last read before the memory goes; pairs with the release below.
     * One reference is ours, and nobody can take another of an unlinked entry */
    if (atomic_load_explicit(&entry->value.refs, memory_order_acquire) == 1 ||
        /* P4 release and P4 acquire: as above */
        atomic_fetch_sub_explicit(&entry->value.refs, 1, memory_order_acq_rel) == 1) {
        size_t bytes = pln_l1_entry_bytes(l1, entry);
        pln_l1_cell_free(l1, entry);
        PLN_POINT(returned);
        /* relaxed: a sum, no order */
        atomic_fetch_sub_explicit(&l1->lent_bytes, bytes, memory_order_relaxed);
    }
}

/* Drops the table's reference; what is still lent counts as that from here on. Returns the entry's
 * bytes. */
static size_t drop(struct pln_l1 *l1, struct entry *entry) {
    size_t bytes = pln_l1_entry_bytes(l1, entry);
    /* P4 acquire: as in pln_l1_unref */
    if (atomic_load_explicit(&entry->value.refs, memory_order_acquire) == 1) {
        pln_l1_cell_free(l1, entry);
    } else {
        /* relaxed: ordered by the reference, whose last holder takes it away again */
        atomic_fetch_add_explicit(&l1->lent_bytes, bytes, memory_order_relaxed);
        pln_l1_unref(l1, entry);
    }
    return bytes;
}

/* Frees up to `most` entries of a batch that nobody sees any more; returns how many. What is left
 * stands in the batch at any time, so that a child of this process finds it there: it may be made
 * between any two of these steps, and loses one entry at most. */
static size_t free_some(struct pln_l1 *l1, struct batch *batch, size_t most) {
    size_t bytes = 0, n = 0;
    for (; n < most && batch->first != NULL; n++) {
        struct entry *entry = batch->first;
        batch->first = next_of(entry);
        /* seq_cst, no pair: the compiler is to keep the order; a child has all of a thread's
         * stores up to one of them */
        atomic_signal_fence(memory_order_seq_cst);
        PLN_POINT(freeing);
        bytes += drop(l1, entry);
        PLN_POINT(freed);
    }
    /* relaxed: a sum, no order */
    atomic_fetch_sub_explicit(&l1->waiting_bytes, bytes, memory_order_relaxed);
    return n;
}

/* Frees what may be freed, as much as the caller has time for. */
static void free_ready(struct pln_l1 *l1, struct limbo *limbo, size_t most) {
    unsigned n_used = 0;
    for (size_t i = 0; i < PLN_L1_BATCHES; i++) {
        struct batch *batch = &limbo->batches[i];
        if (batch->is_ready) {
            most -= free_some(l1, batch, most);
            batch->is_ready = batch->is_used = batch->first != NULL;
        }
        n_used += batch->is_used;
    }
    /* relaxed: a hint for has_work */
    atomic_store_explicit(&limbo->n_used, n_used, memory_order_relaxed);
}

static struct batch *unused_batch(struct limbo *limbo) {
    for (size_t i = 0; i < PLN_L1_BATCHES; i++) {
        if (!limbo->batches[i].is_used) {
            return &limbo->batches[i];
        }
    }
    return NULL; /* what has come goes on waiting; what waits already may still be freed */
}

static bool needs_grace(uint32_t stage) {
    return pln_l1_stage(stage) == STAGE_PUBLISHED || pln_l1_stage(stage) == STAGE_WITHDRAWN;
}

/* Moves what has come into the limbo's record. */
static void collect(struct pln_l1 *l1, struct limbo *limbo) {
    /* P13 acquire: the stage's view was published before; pairs with resize.c. no test: x86 */
    uint32_t stage = atomic_load_explicit(&l1->stage, memory_order_acquire);
    /* relaxed: only whether there is work */
    bool has_come = atomic_load_explicit(&limbo->incoming, memory_order_relaxed) != NULL ||
                    needs_grace(stage);
    struct batch *batch = has_come ? unused_batch(limbo) : NULL;
    if (batch != NULL) {
        /* P8 acquire: the links; pairs with pln_l1_retire. no test: x86 */
        batch->first = atomic_exchange_explicit(&limbo->incoming, NULL, memory_order_acquire);
        PLN_POINT(collecting);
        batch->stage = stage;
        batch->is_used = true;
        ck_epoch_call(&limbo->record, &batch->link, NULL);
    }
}

static void empty(struct pln_l1 *l1, struct limbo *limbo, size_t most) {
    ck_stack_t freed = CK_STACK_INITIALIZER;
    collect(l1, limbo);
    PLN_POINT(emptying);
    /* the other half of pln_l1_enter's fence: after what waits was unlinked, before the marks */
    if (l1->has_membarrier && !membarrier(MEMBARRIER_CMD_PRIVATE_EXPEDITED)) {
        return; /* cannot fail once registered; without it nothing may be freed */
    }
    ck_epoch_poll_deferred(&limbo->record, &freed);
    PLN_EDGE_TO(&l1->epoch);
    for (ck_stack_entry_t *link = CK_STACK_FIRST(&freed); link != NULL;
         link = CK_STACK_NEXT(link)) {
        struct batch *batch = PLN_CONTAINER_OF(
            PLN_CONTAINER_OF(link, ck_epoch_entry_t, stack_entry), struct batch, link);
        batch->is_ready = true;
        pln_l1_grace(l1, batch->stage);
    }
    free_ready(l1, limbo, most);
}

static bool has_work(const struct pln_l1 *l1, const struct limbo *limbo) {
    /* relaxed each: a hint; whoever retires next looks again */
    return atomic_load_explicit(&limbo->incoming, memory_order_relaxed) != NULL ||
           atomic_load_explicit(&limbo->n_used, memory_order_relaxed) > 0 ||
           needs_grace(atomic_load_explicit(&l1->stage, memory_order_relaxed));
}

/* Whoever is at a limbo keeps the others from it, not from the rest; what they retire meanwhile
 * goes there (see limbo_for). */
void pln_l1_reclaim(struct pln_l1 *l1, size_t most) {
    for (size_t i = 0; i < PLN_L1_LIMBOS; i++) {
        struct limbo *limbo = &l1->limbos[i];
        bool is_taken = false;
        if (has_work(l1, limbo) &&
            /* P6 acquire: pairs with the store below. relaxed on failure: somebody else is at it */
            atomic_compare_exchange_strong_explicit(&limbo->is_taken, &is_taken, true,
                                                    memory_order_acquire, memory_order_relaxed)) {
            empty(l1, limbo, most);
            /* P6 release: pairs with the exchange above */
            atomic_store_explicit(&limbo->is_taken, false, memory_order_release);
        }
    }
}

/* ---- after a fork ---- */

/* Nobody is left who may see what waits, in whatever state somebody who was at the limbo left it.
 */
static void free_waiting(struct pln_l1 *l1, struct limbo *limbo) {
    /* relaxed each: the child has one thread */
    struct batch come = {
        .first = atomic_exchange_explicit(&limbo->incoming, NULL, memory_order_relaxed)};
    free_some(l1, &come, SIZE_MAX);
    for (size_t i = 0; i < PLN_L1_BATCHES; i++) {
        free_some(l1, &limbo->batches[i], SIZE_MAX);
    }
    memset(limbo->record.pending, 0, sizeof limbo->record.pending);
    limbo->record.n_pending = 0;
    memset(limbo->batches, 0, sizeof limbo->batches);
    /* relaxed both: as above */
    atomic_store_explicit(&limbo->n_used, 0, memory_order_relaxed);
    atomic_store_explicit(&limbo->is_taken, false, memory_order_relaxed);
}

/* Gives back the record of a thread that did not come along, and ends what it was
 * storing or moving. */
static void forget(struct pln_l1 *l1, struct thread_record *record) {
    /* relaxed each: the child has one thread */
    struct entry *storing = atomic_load_explicit(&record->storing, memory_order_relaxed);
    struct entry *moving = atomic_load_explicit(&record->moving, memory_order_relaxed);
    if (storing != NULL) {
        pln_l1_withdraw(l1, record, storing);
        atomic_store_explicit(&record->storing, NULL, memory_order_relaxed);
    }
    if (moving != NULL) {
        pln_l1_finish_move(l1, record, moving);
        /* relaxed: as above */
        atomic_store_explicit(&record->moving, NULL, memory_order_relaxed);
    }
    ck_pr_store_uint(&record->record.active, 0);
    give_back(record);
}

void pln_l1_epoch_after_fork(struct pln_l1 *l1) {
    const struct thread_record *own = pthread_getspecific(l1->record_key);
    l1->has_membarrier = membarrier(MEMBARRIER_CMD_REGISTER_PRIVATE_EXPEDITED);
    /* relaxed: the child has one thread */
    struct thread_record *records = atomic_load_explicit(&l1->records, memory_order_relaxed);
    for (struct thread_record *record = records; record != NULL; record = record->next) {
        if (record != own) {
            forget(l1, record);
        }
    }
    for (size_t i = 0; i < PLN_L1_LIMBOS; i++) {
        free_waiting(l1, &l1->limbos[i]);
    }
    for (struct thread_record *record = records; record != NULL; record = record->next) {
        /* relaxed: as above */
        atomic_store_explicit(&record->waiting_bytes, 0, memory_order_relaxed);
    }
    atomic_store_explicit(&l1->waiting_bytes, 0, memory_order_relaxed);
}
