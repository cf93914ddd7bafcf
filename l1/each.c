/* SPDX-License-Identifier: MIT
 *
 * each.c - going through all entries, or the hottest, beside writers; removing those whose keys are
 * of a kind.
 *
 * In the order of the hashes, which is the order of the buckets of any table: so a table that is
 * replaced meanwhile does not lead astray. A bucket's worth of hashes is looked at at a time, in
 * the present table and in the old one if there is one. Each key found is then looked up as a
 * reader does it.
 *
 * A key that is there all the time is seen exactly once. It could be missed where it is
 * overwritten: its new entry is linked in a slot that was passed, and the old one is gone from the
 * slot that comes. (Two looks that see the same do not prove that this did not happen: the entry
 * may have jumped back and forth.) So, while anybody walks, each put notes between its link and its
 * end of the old entry that it changed its range of hashes. Whoever finds the old slot empty finds
 * the note, and looks again: after another thread's success, each time.
 *
 * What is collected is keys in slots, whatever their entries' states: pending ones too. So a
 * removal by walk is, for each of these keys, pln_l1_remove() at the moment its range is walked.
 * Of an entry that was linked before the walk began its key is in some slot from then on until the
 * entry is ended by another, or moved (which the two tables' order takes care of: see collect); so
 * either the walk ends it or somebody else did. And a put that links later has raised a stamp, or
 * not, before it checks: its fence is between its link and its check, the walk's caller's between
 * its raise and the walk. If the check did not see the raise, the link came before the walk's first
 * look, and the entry is among those above.
 */
#include "internal.h"

enum {
    FOUND = 4 * 4 * PLN_L1_HALF, /* keys: three buckets of either table at most */
};

struct walk {
    struct pln_l1 *l1;
    pln_l1_wanted wanted;
    const void *arg;
    uint64_t from, to; /* low halves of hashes: from <= hash < to */
    struct pln_hashed found[FOUND];
    size_t n;
};

static bool is_known(const struct walk *walk, const struct pln_hashed *key) {
    for (size_t i = 0; i < walk->n; i++) {
        if (walk->found[i].hash == key->hash && pln_bytes_equal(walk->found[i].key, key->key)) {
            return true;
        }
    }
    return false;
}

static void note(struct walk *walk, const struct entry *entry) {
    struct pln_bytes bytes = pln_l1_key(entry);
    if (!walk->wanted(walk->arg, bytes)) {
        return;
    }
    struct pln_hashed key = {bytes, walk->l1->hash(bytes, walk->l1->seed)};
    uint64_t at = key.hash & UINT32_MAX;
    if (at >= walk->from && at < walk->to && walk->n < FOUND && !is_known(walk, &key)) {
        walk->found[walk->n++] = key;
    }
}

/* Looks at the buckets of a table that hold the walk's range of hashes. */
static void look(struct walk *walk, const struct index *table) {
    size_t first = (size_t) (walk->from * table->n_buckets >> 32);
    size_t last = (size_t) ((walk->to - 1) * table->n_buckets >> 32);
    for (size_t at = first; at <= last && table->n_buckets > 0; at++) {
        for (unsigned i = 0; i < 2 * PLN_L1_HALF; i++) {
            PLN_POINT(slot);
            /* what was noted before a slot was emptied is seen with it: the acquire is both's */
            struct entry *entry = pln_l1_entry_at(&table->buckets[at].halves[i / PLN_L1_HALF],
                                                  i % PLN_L1_HALF);
            if (entry != NULL) {
                note(walk, entry);
            }
        }
    }
}

/* What puts note: a number that grows with each of the ranges' from `from` on, below `to`. */
static uint32_t changes(const struct pln_l1 *l1, uint64_t from, uint64_t to) {
    uint32_t sum = 0;
    for (uint64_t at = from / PLN_L1_RANGE; at <= (to - 1) / PLN_L1_RANGE; at++) {
        /* P15 acquire: what was linked before, for the looks that follow; pairs with
         * pln_l1_note_change. Of looks that were before, their own acquire says so. no test: x86 */
        sum += atomic_load_explicit(&l1->changes[at], memory_order_acquire);
    }
    return sum;
}

/* Collects the keys of the range: in one look during which no put linked anything, and of which no
 * table came that took some over. */
static void collect(struct walk *walk) {
    const struct pln_l1 *l1 = walk->l1;
    const struct view *view;
    uint32_t before;
    do {
        before = changes(l1, walk->from, walk->to);
        view = pln_l1_view(l1);
        walk->n = 0;
        look(walk, &view->old);
        look(walk, &view->present);
    } while (!PLN_RECHECK(changes(l1, walk->from, walk->to) == before) ||
             !PLN_RECHECK(pln_l1_view(l1) == view));
}

/* As a reader does it, but not overtaken: one that is may miss what is overwritten. */
static struct entry *look_up(struct pln_l1 *l1, const struct pln_hashed *key, pln_ms now,
                             struct pln_l1_hit *hit) {
    uint64_t at = key->hash & UINT32_MAX;
    struct entry *entry;
    uint32_t before;
    do {
        before = changes(l1, at, at + 1);
        entry = pln_l1_look_up(l1, key, now, hit);
    } while (entry == NULL && !PLN_RECHECK(changes(l1, at, at + 1) == before));
    return entry;
}

/* Where the hashes end that share a bucket with `from` in the larger of the tables. */
static uint64_t end_of_bucket(const struct pln_l1 *l1, uint64_t from) {
    const struct view *view = pln_l1_view(l1);
    uint64_t n = view->present.n_buckets;
    n = n > view->old.n_buckets ? n : view->old.n_buckets;
    uint64_t next = (from * n >> 32) + 1;
    uint64_t end = ((next << 32) + n - 1) / n;
    return end < (uint64_t) 1 << 32 ? end : (uint64_t) 1 << 32;
}

/* From here on puts note what they change, until end(). */
static void begin(struct pln_l1 *l1) {
    /* relaxed: ordered by the fence */
    atomic_fetch_add_explicit(&l1->walkers, 1, memory_order_relaxed);
    /* seq_cst: before the first look (store, then load); pairs with the fence in pln_l1_store. no
     * test: fence */
    atomic_thread_fence(memory_order_seq_cst);
}

static void end(struct pln_l1 *l1) {
    /* relaxed: who notes some more in vain does no harm */
    atomic_fetch_sub_explicit(&l1->walkers, 1, memory_order_relaxed);
}

/* Goes to the next range, and collects its keys; false at the end of all. Inside a section. */
static bool step(struct walk *walk) {
    walk->from = walk->to;
    if (walk->from >= (uint64_t) 1 << 32) {
        return false;
    }
    walk->to = end_of_bucket(walk->l1, walk->from);
    collect(walk);
    return true;
}

int pln_l1_each(struct pln_l1 *l1, pln_ms now, struct pln_bytes prefix, pln_l1_visit visit,
                void *arg) {
    struct thread_record *record = pln_l1_record(l1);
    struct pln_mask mask = {PLN_MASK_PREFIX, prefix};
    struct walk walk = {.l1 = l1, .wanted = pln_mask_fits, .arg = &mask};
    bool goes_on = true;
    if (record == NULL) {
        return pln_fail(PLN_ENOMEM, "l1: no memory to go through the keys");
    }
    begin(l1);
    while (goes_on) {
        pln_l1_enter(l1, record);
        goes_on = step(&walk);
        for (size_t i = 0; goes_on && i < walk.n; i++) {
            struct pln_l1_hit hit;
            struct entry *entry = look_up(l1, &walk.found[i], now, &hit);
            if (entry != NULL) {
                goes_on = visit(arg, pln_l1_key(entry), &hit);
            }
        }
        pln_l1_leave(record);
    }
    end(l1);
    return PLN_OK;
}

/* A section a bucket: nobody's memory waits for the whole walk. */
int pln_l1_remove_each(struct pln_l1 *l1, pln_l1_wanted wanted, const void *arg) {
    struct thread_record *record = pln_l1_record(l1);
    struct walk walk = {.l1 = l1, .wanted = wanted, .arg = arg};
    bool goes_on = true;
    if (record == NULL) {
        return pln_fail(PLN_ENOMEM, "l1: no memory to go through the keys");
    }
    begin(l1); /* its fence is also the one between the caller's raised stamps and the looks */
    while (goes_on) {
        pln_l1_enter(l1, record);
        goes_on = step(&walk);
        for (size_t i = 0; goes_on && i < walk.n; i++) {
            PLN_POINT(to_remove);
            pln_l1_kill_key(l1, record, &walk.found[i]);
        }
        pln_l1_leave(record);
        if (pln_l1_is_reclaim_due(l1)) {
            pln_l1_reclaim(l1, PLN_L1_RECLAIMED);
        }
    }
    end(l1);
    return PLN_OK;
}

/* ---- the hottest ---- */

/* The entry whose key has this hash, live and shown to readers. */
static struct entry *of_hash(struct pln_l1 *l1, uint64_t hash, pln_ms now) {
    struct places places = pln_l1_places(pln_l1_view(l1), hash);
    for (unsigned i = 0; i < places.n * PLN_L1_HALF; i++) {
        /* P1 acquire: pairs with link_at */
        uint64_t slot = atomic_load_explicit(
            &places.halves[i / PLN_L1_HALF]->slots[i % PLN_L1_HALF], memory_order_acquire);
        struct entry *entry = pln_l1_slot_entry(slot);
        if (slot != 0 && (slot ^ hash) >> 48 == 0 &&
            l1->hash(pln_l1_key(entry), l1->seed) == hash) {
            struct pln_hashed key = {pln_l1_key(entry), hash};
            struct pln_l1_hit hit;
            return pln_l1_look_up(l1, &key, now, &hit);
        }
    }
    return NULL;
}

int pln_l1_hottest(struct pln_l1 *l1, pln_ms now, size_t n, pln_l1_hot_visit visit, void *arg) {
    struct thread_record *record = pln_l1_record(l1);
    size_t most = n + n / 4 + 8; /* some may have left the table */
    struct pln_hot_key *keys = malloc(most * sizeof *keys);
    if (record == NULL || keys == NULL) {
        free(keys);
        return pln_fail(PLN_ENOMEM, "l1: no memory to tell the %zu hottest keys", n);
    }
    most = l1->hot != NULL ? pln_hot_top(l1->hot, keys, most) : 0;
    bool goes_on = true;
    for (size_t i = 0; i < most && n > 0 && goes_on; i++) {
        pln_l1_enter(l1, record);
        struct entry *entry = of_hash(l1, keys[i].hash, now);
        if (entry != NULL) {
            struct pln_l1_hot hot = {keys[i].requests, keys[i].share};
            goes_on = visit(arg, pln_l1_key(entry), &hot);
            n--;
        }
        pln_l1_leave(record);
    }
    free(keys);
    return PLN_OK;
}
