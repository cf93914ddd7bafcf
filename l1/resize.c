/* SPDX-License-Identifier: MIT
 *
 * resize.c - another table in the place of the present one, while everybody goes on.
 *
 * The table is replaced when its buckets are too full for what the budget lets in (entries smaller
 * than was thought, or a larger budget), or far too many. One replacement at a time, in stages:
 *
 *   PUBLISHED   a view with both tables is seen by all who look from now on; they put into the new
 *               one. Some may still see, and put into, the old one alone.
 *   MOVING      a grace period later nobody does. Puts and sweeps move entries over, a few buckets
 *               each, from the first stage on.
 *   ENDING      one thread, off any request's path, goes through the old table: it is empty.
 *   WITHDRAWN   a view without it is published.
 *   UNMAPPING   a grace period later nobody sees it any more, and its memory goes.
 *
 * Moving. An entry that is visible and settled is marked MOVING, linked into the new table, and
 * unlinked from the old one. In between it stands in both. Readers look into the old table first,
 * so they see it in one or the other, and what it shadowed is newer (it is settled), so that the
 * value of its key does not go back when it sinks below them. A put that stopped before it settled
 * is helped to its end first.
 *
 * Where the entry is ended while it moves, whoever empties a slot of it leaves the retiring to the
 * mover, who alone knows both places. The mark is set only on a visible entry, by one exchange, and
 * never taken from a dead one: so who sees DEAD without MOVING knows that there is one place, and
 * that it is his to empty. A mover that stops for good leaves one entry, which the last pass ends.
 *
 * An operation that looked for the view before a replacement began, and finds nothing, looks at the
 * view again: the entry it wanted may have moved. A replacement cannot end, nor another begin,
 * while such an operation is under way.
 */
#include "internal.h"

#include <sys/mman.h>

enum {
    /* One slot for so many bytes of budget: with values of 100 bytes (144 each here) three in four
     * slots are used, and 7 % of the budget is slots. */
    BYTES_PER_SLOT = 118,
    SLOTS = 2 * PLN_L1_HALF,
    FULL_AT = 82, /* percent of all slots: from here on too many buckets are full */
    FULL_TO = 62, /* percent, after a replacement */
    /* the same while a third of the budget is free: then nothing should go for want of a slot */
    ROOMY_AT = 55,
    ROOMY_TO = 40,
    FULL_OF_FEW = 50,
    STOPPED_AFTER = 64, /* looks at an entry that is being moved: its mover has stopped */
};

/* ---- tables ---- */

size_t pln_l1_table_fit(size_t max_bytes, size_t max_entries) {
    size_t n = max_entries > 0 ? max_entries * 100 / FULL_OF_FEW / SLOTS
                               : max_bytes / BYTES_PER_SLOT / SLOTS;
    return n > 0 ? n : 1;
}

int pln_l1_table_new(struct index *table, size_t n_buckets, bool has_ghosts) {
    size_t slot_bytes = n_buckets * sizeof(struct bucket);
    size_t bytes = slot_bytes + (has_ghosts ? n_buckets * PLN_CACHE_LINE : 0);
    /* pages: aligned for any bucket, zeroed, and counted whole since hashing touches them all */
    void *memory = mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (memory == MAP_FAILED) {
        return pln_fail(PLN_ENOMEM, "l1: no memory for a table of %zu bytes", bytes);
    }
    madvise(memory, bytes, MADV_HUGEPAGE); /* where the system grants them */
    *table = (struct index){.buckets = memory, .n_buckets = n_buckets, .map_bytes = bytes};
    table->ghosts = has_ghosts ? (_Atomic uint32_t *) ((char *) memory + slot_bytes) : NULL;
    return PLN_OK;
}

void pln_l1_table_free(struct index *table) {
    if (table->buckets != NULL) {
        munmap(table->buckets, table->map_bytes);
        *table = (struct index){0};
    }
}

/* ---- stages ---- */

static bool advance(struct pln_l1 *l1, enum stage from, enum stage to) {
    /* relaxed: the exchange decides */
    uint32_t stage = atomic_load_explicit(&l1->stage, memory_order_relaxed);
    uint32_t next = stage - (uint32_t) from + (uint32_t) to + (to == STAGE_IDLE ? STAGES : 0);
    return pln_l1_stage(stage) == from &&
           /* P13 release and P13 acquire: each stage's work is done before the next begins.
            * relaxed on failure: somebody else went on */
           atomic_compare_exchange_strong_explicit(&l1->stage, &stage, next, memory_order_acq_rel,
                                                   memory_order_relaxed);
}

static enum stage stage_of(const struct pln_l1 *l1) {
    /* P13 acquire: what the stage stands for; pairs with advance. no test: x86 */
    return pln_l1_stage(atomic_load_explicit(&l1->stage, memory_order_acquire));
}

bool pln_l1_is_replacing(const struct pln_l1 *l1) {
    /* relaxed: a sum */
    return stage_of(l1) != STAGE_IDLE ||
           atomic_load_explicit(&l1->table_wanted, memory_order_relaxed) > 0;
}

/* The view that nobody sees: the other one was published, and what followed waited for all who had
 * seen this one. */
static struct view *spare_view(struct pln_l1 *l1) {
    return &l1->views[pln_l1_view(l1) == &l1->views[0]];
}

static void publish(struct pln_l1 *l1, struct view *view) {
    /* P11 release: pairs with pln_l1_view */
    atomic_store_explicit(&l1->view, view, memory_order_release);
}

static void begin(struct pln_l1 *l1, size_t n_buckets) {
    struct index table;
    if (!advance(l1, STAGE_IDLE, STAGE_BEGINNING)) {
        return;
    }
    if (pln_l1_table_new(&table, n_buckets, l1->eviction == PLN_L1_ADAPTIVE) != PLN_OK) {
        advance(l1, STAGE_BEGINNING, STAGE_IDLE); /* the present one serves, if not as well */
        return;
    }
    struct view *view = spare_view(l1);
    *view = (struct view){.present = table, .old = pln_l1_view(l1)->present};
    /* relaxed each: a sum; the stage publishes the others */
    atomic_fetch_add_explicit(&l1->table_bytes, table.map_bytes, memory_order_relaxed);
    atomic_store_explicit(&l1->table_wanted, 0, memory_order_relaxed);
    atomic_store_explicit(&l1->move_at, 0, memory_order_relaxed);
    atomic_store_explicit(&l1->move_end, view->old.n_buckets, memory_order_relaxed);
    l1->end_at = 0;
    l1->end_looks = 0;
    publish(l1, view);
    PLN_POINT(published);
    advance(l1, STAGE_BEGINNING, STAGE_PUBLISHED);
}

void pln_l1_grace(struct pln_l1 *l1, uint32_t seen) {
    /* relaxed: advance looks again */
    if (atomic_load_explicit(&l1->stage, memory_order_relaxed) != seen) {
        return;
    }
    if (pln_l1_stage(seen) == STAGE_PUBLISHED) {
        advance(l1, STAGE_PUBLISHED, STAGE_MOVING);
    } else if (pln_l1_stage(seen) == STAGE_WITHDRAWN &&
               advance(l1, STAGE_WITHDRAWN, STAGE_UNMAPPING)) {
        size_t bytes = l1->withdrawn.map_bytes;
        pln_l1_table_free(&l1->withdrawn);
        /* relaxed: a sum */
        atomic_fetch_sub_explicit(&l1->table_bytes, bytes, memory_order_relaxed);
        advance(l1, STAGE_UNMAPPING, STAGE_IDLE);
    }
}

void pln_l1_stage_after_fork(struct pln_l1 *l1) {
    /* What a vanished thread had begun is begun anew, or left (memory that only it knew of). */
    advance(l1, STAGE_BEGINNING, pln_l1_view(l1)->old.n_buckets > 0 ? STAGE_PUBLISHED : STAGE_IDLE);
    advance(l1, STAGE_ENDING, pln_l1_view(l1)->old.n_buckets > 0 ? STAGE_MOVING : STAGE_WITHDRAWN);
    if (advance(l1, STAGE_UNMAPPING, STAGE_IDLE)) {
        l1->withdrawn = (struct index){0}; /* it may be unmapped, or be lost; it counts */
    }
}

/* ---- how large ---- */

void pln_l1_set_budget(struct pln_l1 *l1, size_t max_bytes) {
    /* relaxed both: bounds */
    atomic_store_explicit(&l1->max_bytes, max_bytes, memory_order_relaxed);
    atomic_store_explicit(&l1->share_bytes, max_bytes / 4096, memory_order_relaxed);
}

/* Begins with a table of so many buckets once there is room for it beside the present one: until
 * then puts find less room, and sweeps and puts give slabs up. */
static void want(struct pln_l1 *l1, size_t n_buckets) {
    /* relaxed both: sums */
    atomic_store_explicit(&l1->table_wanted, n_buckets * sizeof(struct bucket),
                          memory_order_relaxed);
    if (atomic_load_explicit(&l1->slabs.bytes, memory_order_relaxed) <= pln_l1_max_held(l1)) {
        begin(l1, n_buckets);
    }
}

/* The bytes of entries and tables. */
static size_t used(const struct pln_l1 *l1) {
    /* relaxed both: sums, the first may be below zero for a moment */
    ssize_t live = (ssize_t) atomic_load_explicit(&l1->live_bytes, memory_order_relaxed);
    size_t table = atomic_load_explicit(&l1->table_bytes, memory_order_relaxed);
    return table + (live > 0 ? (size_t) live : 0);
}

/* How many buckets the table should have; `n`, its present number, where that will do. */
static size_t wanted(const struct pln_l1 *l1, size_t n) {
    size_t fit = pln_l1_table_fit(pln_l1_max_bytes(l1), l1->max_entries);
    bool roomy = used(l1) < pln_l1_max_bytes(l1) / 3 * 2;
    /* relaxed: about how many */
    ssize_t counted = (ssize_t) atomic_load_explicit(&l1->entries, memory_order_relaxed);
    size_t entries = counted > 0 ? (size_t) counted : 0;
    size_t needed = entries * 100 / (roomy ? ROOMY_TO : FULL_TO) / SLOTS + 1;
    if (entries * 100 > n * SLOTS * (roomy ? ROOMY_AT : FULL_AT)) {
        return needed > fit ? needed : fit;
    }
    if (fit > n + n / 4) {
        return fit;
    }
    return fit < n / 2 && needed < n / 2 ? (needed > fit ? needed : fit) : n;
}

size_t pln_l1_count_buckets(struct pln_l1 *l1, struct thread_record *record) {
    pln_l1_enter(l1, record); /* the view */
    size_t n = pln_l1_view(l1)->present.n_buckets;
    pln_l1_leave(record);
    return n;
}

void pln_l1_refit(struct pln_l1 *l1, struct thread_record *record) {
    if (stage_of(l1) != STAGE_IDLE || l1->eviction == PLN_L1_NONE) {
        return; /* with "none" only pln_l1_double may change it */
    }
    size_t n = pln_l1_count_buckets(l1, record), better = wanted(l1, n);
    if (better != n) {
        want(l1, better);
    } else {
        /* relaxed: a bound */
        atomic_store_explicit(&l1->table_wanted, 0, memory_order_relaxed);
    }
}

/* Twice as many, because then each bucket's entries go into two of their own, and find room there:
 * with other numbers some might not. */
void pln_l1_double(struct pln_l1 *l1, struct thread_record *record) {
    size_t n = pln_l1_count_buckets(l1, record);
    if (used(l1) + 2 * n * sizeof(struct bucket) < pln_l1_max_bytes(l1)) {
        begin(l1, 2 * n);
    }
}

int pln_l1_resize(struct pln_l1 *l1, size_t max_bytes) {
    struct thread_record *record = pln_l1_record(l1);
    size_t most = (l1->slabs.n_slabs << l1->slabs.slab_shift) / 8 * 7;
    if (record == NULL) {
        return pln_fail(PLN_ENOMEM, "l1: no memory to change the budget");
    }
    if (max_bytes > most || max_bytes / BYTES_PER_SLOT < SLOTS) {
        return pln_fail(PLN_EINVAL, "l1: a budget of %zu bytes; it can be from %d to %zu",
                        max_bytes, BYTES_PER_SLOT * SLOTS, most);
    }
    pln_l1_set_budget(l1, max_bytes);
    pln_l1_refit(l1, record);
    return PLN_OK;
}

/* ---- moving ---- */

static bool mark(struct entry *entry, uint8_t state) {
    /* relaxed on success: it orders nothing, and on failure: it is looked at no more */
    return (state & (ENTRY_VISIBLE | ENTRY_SETTLED | ENTRY_DEAD | ENTRY_MOVING)) ==
               (ENTRY_VISIBLE | ENTRY_SETTLED) &&
           atomic_compare_exchange_strong_explicit(&entry->state, &state, state | ENTRY_MOVING,
                                                   memory_order_relaxed, memory_order_relaxed);
}

/* The entry is where it is to stay; false where it was ended meanwhile. */
static bool unmark(struct entry *entry) {
    /* relaxed: the exchange decides */
    uint8_t state = atomic_load_explicit(&entry->state, memory_order_relaxed);
    while ((state & ENTRY_DEAD) == 0) {
        /* P2 release: its new place before it; pairs with pln_l1_state. relaxed on failure: it is
         * looked at again. no test: x86 */
        if (atomic_compare_exchange_weak_explicit(&entry->state, &state,
                                                  state & (uint8_t) ~ENTRY_MOVING,
                                                  memory_order_release, memory_order_relaxed)) {
            return true;
        }
    }
    return false;
}

/* An entry that was ended while this thread had it marked: it is this thread's to retire, once it
 * stands in the new table no more, where another mover may have put it. */
static void retire_marked(struct pln_l1 *l1, struct thread_record *record, struct entry *entry,
                          uint64_t hash) {
    struct bucket *bucket = pln_l1_bucket(&pln_l1_view(l1)->present, hash);
    for (unsigned i = 0; i < SLOTS; i++) {
        struct place place = {&bucket->halves[i / PLN_L1_HALF], i % PLN_L1_HALF};
        pln_l1_unlink(l1, record, place, entry);
    }
    pln_l1_retire(l1, record, entry);
}

/* Moves a settled entry. Linearization: none, its key's value stays. What was marked, but stood no
 * longer where it was seen, has been moved before, or was ended. False where it was ended. */
static bool move_marked(struct pln_l1 *l1, struct thread_record *record, struct place old,
                        struct entry *entry, uint64_t hash, pln_ms now) {
    struct place place;
    if (!PLN_RECHECK(pln_l1_entry_at(old.half, old.at) == entry)) {
        return unmark(entry);
    }
    bool is_linked = pln_l1_link(l1, record, &pln_l1_view(l1)->present, hash, entry, now, &place);
    PLN_POINT(twice);
    if (is_linked) {
        pln_l1_unlink(l1, record, old, entry); /* which leaves the retiring to us */
        PLN_POINT(moved);
        return PLN_RECHECK(unmark(entry));
    }
    pln_l1_kill(l1, record, old, entry, PLN_COUNT_L1_CROWDED);
    return false;
}

static void move_entry(struct pln_l1 *l1, struct thread_record *record, struct place old,
                       struct entry *entry, uint64_t hash, pln_ms now) {
    uint8_t state = pln_l1_state(entry);
    PLN_POINT(unmarked);
    if (!mark(entry, state)) {
        return; /* ended, or somebody else moves it */
    }
    /* release both, no pair: only a child looks at it, and the compiler is to keep the order */
    atomic_store_explicit(&record->moving, entry, memory_order_release);
    PLN_POINT(marked);
    bool is_alive = move_marked(l1, record, old, entry, hash, now);
    atomic_store_explicit(&record->moving, NULL, memory_order_release);
    if (!is_alive) {
        retire_marked(l1, record, entry, hash);
    }
}

/* Where it stands in both tables it leaves the old one, whose places come first. */
void pln_l1_finish_move(struct pln_l1 *l1, struct thread_record *record, struct entry *entry) {
    struct pln_bytes bytes = pln_l1_key(entry);
    struct places places = pln_l1_places(pln_l1_view(l1), l1->hash(bytes, l1->seed));
    struct place found = {0};
    if ((pln_l1_state(entry) & ENTRY_MOVING) == 0) {
        return; /* it had been moved */
    }
    for (unsigned i = 0; i < places.n * PLN_L1_HALF; i++) {
        struct place place = {places.halves[i / PLN_L1_HALF], i % PLN_L1_HALF};
        if (pln_l1_entry_at(place.half, place.at) == entry) {
            if (found.half != NULL) {
                pln_l1_unlink(l1, record, found, entry);
            }
            found = place;
        }
    }
    if (!unmark(entry)) {
        if (found.half != NULL) {
            pln_l1_unlink(l1, record, found, entry); /* it is marked, so the retiring is ours */
        }
        /* relaxed: the child has one thread, and is to do this once */
        atomic_fetch_and_explicit(&entry->state, (uint8_t) ~ENTRY_MOVING, memory_order_relaxed);
        pln_l1_retire(l1, record, entry);
    }
}

/* Empties a slot of the old table, as far as that can be done now. */
static void move_slot(struct pln_l1 *l1, struct thread_record *record, struct place place,
                      pln_ms now) {
    struct entry *entry = pln_l1_entry_at(place.half, place.at);
    uint8_t state = entry != NULL ? pln_l1_state(entry) : ENTRY_PENDING;
    if (entry == NULL || (state & (ENTRY_VISIBLE | ENTRY_DEAD)) == 0) {
        return; /* nothing, or a put that is under way */
    }
    if ((state & ENTRY_DEAD) != 0) {
        pln_l1_unlink(l1, record, place, entry);
    } else if (pln_l1_is_gone(l1, entry, now)) {
        pln_l1_kill(l1, record, place, entry, PLN_COUNT_L1_EXPIRATIONS);
    } else {
        struct pln_bytes bytes = pln_l1_key(entry);
        struct pln_hashed key = {bytes, l1->hash(bytes, l1->seed)};
        if ((state & ENTRY_SETTLED) == 0) {
            pln_l1_settle(l1, record, &key, entry, now);
        }
        move_entry(l1, record, place, entry, key.hash, now);
    }
}

static void move_bucket(struct pln_l1 *l1, struct thread_record *record, size_t at, pln_ms now) {
    pln_l1_enter(l1, record);
    const struct index *old = &pln_l1_view(l1)->old;
    for (unsigned i = 0; at < old->n_buckets && i < SLOTS; i++) {
        struct place place = {&old->buckets[at].halves[i / PLN_L1_HALF], i % PLN_L1_HALF};
        move_slot(l1, record, place, now);
    }
    pln_l1_leave(record);
}

void pln_l1_move(struct pln_l1 *l1, struct thread_record *record, pln_ms now, size_t n) {
    enum stage stage = stage_of(l1);
    if (stage != STAGE_PUBLISHED && stage != STAGE_MOVING) {
        return;
    }
    /* relaxed: movers only share the work */
    size_t at = atomic_fetch_add_explicit(&l1->move_at, n, memory_order_relaxed);
    for (size_t i = 0; i < n; i++) {
        move_bucket(l1, record, at + i, now);
    }
}

/* What is left in a slot after everything was moved: a put that was under way, or an entry whose
 * mover is at it, or has stopped. Nobody puts into the old table any more. */
static bool is_empty_for_good(struct pln_l1 *l1, struct thread_record *record, struct place place,
                              pln_ms now) {
    move_slot(l1, record, place, now);
    struct entry *entry = pln_l1_entry_at(place.half, place.at);
    if (entry != NULL && l1->end_looks >= STOPPED_AFTER &&
        (pln_l1_state(entry) & ENTRY_MOVING) != 0) {
        pln_l1_kill(l1, record, place, entry, PLN_COUNT_L1_CROWDED);
        entry = NULL;
    }
    return entry == NULL;
}

static bool is_bucket_empty(struct pln_l1 *l1, struct thread_record *record, struct bucket *bucket,
                            pln_ms now) {
    bool is_empty = true;
    pln_l1_enter(l1, record);
    for (unsigned i = 0; i < SLOTS; i++) {
        struct place place = {&bucket->halves[i / PLN_L1_HALF], i % PLN_L1_HALF};
        /* relaxed: whether it is worth a look */
        is_empty = (atomic_load_explicit(&place.half->slots[place.at], memory_order_relaxed) == 0 ||
                    is_empty_for_good(l1, record, place, now)) &&
                   is_empty;
    }
    pln_l1_leave(record);
    return is_empty;
}

/* Looks through up to `n` buckets of the old table, from where the last look ended: what was empty
 * stays so. True at the table's end. */
static bool is_all_moved(struct pln_l1 *l1, struct thread_record *record, pln_ms now, size_t n) {
    const struct index *old = &pln_l1_view(l1)->old; /* this thread alone may take it away */
    for (; l1->end_at < old->n_buckets && n > 0; n--) {
        if (!is_bucket_empty(l1, record, &old->buckets[l1->end_at], now)) {
            l1->end_looks++;
            return false;
        }
        l1->end_at++;
        l1->end_looks = 0;
    }
    return l1->end_at == old->n_buckets;
}

void pln_l1_move_end(struct pln_l1 *l1, struct thread_record *record, pln_ms now, size_t n) {
    /* relaxed both: whether it is time */
    size_t end = atomic_load_explicit(&l1->move_end, memory_order_relaxed);
    bool is_time = atomic_load_explicit(&l1->move_at, memory_order_relaxed) >= end;
    if (stage_of(l1) != STAGE_MOVING || !is_time || !advance(l1, STAGE_MOVING, STAGE_ENDING)) {
        return;
    }
    if (!is_all_moved(l1, record, now, n)) {
        advance(l1, STAGE_ENDING, STAGE_MOVING);
        return;
    }
    struct view *view = spare_view(l1);
    *view = (struct view){.present = pln_l1_view(l1)->present};
    l1->withdrawn = pln_l1_view(l1)->old;
    publish(l1, view);
    advance(l1, STAGE_ENDING, STAGE_WITHDRAWN);
}
