/* SPDX-License-Identifier: MIT
 *
 * evict.c - who goes when the budget is used up.
 *
 * By sample: the bucket in which the new entry is to live, and its neighbours until there are
 * enough entries to choose from. They are random ones of all (the hash saw to that), the bucket's
 * lines are in the cache already, and evicting where one inserts keeps the buckets evenly filled.
 *
 * What nobody may return any more goes before anything else, then what has the lowest priority,
 * then what ranks lowest by the policy.
 */
#include "internal.h"

enum {
    SAMPLE = 40, /* entries to choose from: with 16, 24, 32, 48 within 1.0, 0.7, 0.5, 0.2 points of
                  * exact LRU in the worst of 32 cells, at 118, 126, 129, 135 ns a fill */
    SAMPLED_HALVES = 14,
    SEARCHED_HALVES = 4096, /* where they are almost empty: until there is anybody */
    OVERLAPPING = 8,        /* samples of one store */
    TRIES = 64, /* evictions for one store, and as many as small entries make up its bytes */
    LEAST_ENTRY = 64,
    /* A 20th of the budget may wait for readers, or 16 MB of at most a quarter: some large values.
     */
    WAITING_SHARE = 20,
    WAITING_LEAST = 16 << 20,
    RECLAIM_SHARE = 400,
    RECLAIM_LEAST = 64 << 10,
    TICKS = 64,
    FIRST_TICKS = 16,
    ROOM_SHARE = 128, /* of the budget, for what one store evicts */
};

/* ---- who ---- */

struct candidate {
    struct entry *entry;
    struct place place;
};

/* Adds a half's entries, their memory asked for all at once. */
static size_t sample_half(struct half *half, struct candidate *candidates, size_t n) {
    for (unsigned i = 0; i < PLN_L1_HALF; i++) {
        struct entry *entry = pln_l1_entry_at(half, i);
        if (entry != NULL) {
            __builtin_prefetch(entry);
            candidates[n++] = (struct candidate){entry, {half, i}};
        }
    }
    return n;
}

/* What a look at a sample finds. */
struct choice {
    const struct candidate *worst;
    uint64_t most;
    int lowest;            /* priority */
    uint64_t main_tops[3]; /* eviction "adaptive": the highest ranks outside its window */
};

static uint32_t age_of(const struct entry *entry, uint8_t state, pln_ms now) {
    /* relaxed: a guess is as good. What is not settled was stored just now */
    uint32_t stamp = atomic_load_explicit(&entry->stamp, memory_order_relaxed);
    return (state & ENTRY_SETTLED) != 0 ? (uint32_t) now - stamp : 0;
}

static void note_top(uint64_t tops[3], uint64_t rank) {
    for (size_t i = 0; i < 3; i++) {
        if (rank > tops[i]) {
            uint64_t lower = tops[i];
            tops[i] = rank;
            rank = lower;
        }
    }
}

/* The higher, the better it can be spared. */
static uint64_t spareness(const struct pln_l1 *l1, const struct entry *entry, uint8_t state,
                          pln_ms now, bool takes_window, struct choice *choice) {
    uint64_t rank = (uint64_t) age_of(entry, state, now) + 1;
    bool in_window = false;
    if (l1->eviction == PLN_L1_RANDOM) {
        return ((uintptr_t) entry ^ (uint64_t) now) * UINT64_C(0x9e3779b97f4a7c15) >> 8;
    }
    if (l1->eviction == PLN_L1_ADAPTIVE) {
        rank = pln_l1_adapt_rank(entry, (uint32_t) rank, &in_window);
        if (!in_window) {
            note_top(choice->main_tops, rank);
        }
    }
    rank <<= 8;
    if (l1->weighs_bytes) {
        rank = (rank >> 8) * pln_l1_entry_bytes(l1, entry);
    }
    rank = pln_l1_has_extra(entry) ? rank / (1 + (uint64_t) entry->weight) : rank;
    return rank >> 1 | (uint64_t) (in_window == takes_window) << 63;
}

static int priority_of(const struct entry *entry) {
    return pln_l1_has_extra(entry) ? entry->priority : 0;
}

static void note_age(struct pln_l1 *l1, const struct entry *victim, pln_ms now) {
    /* relaxed each: guesses */
    uint32_t age = (uint32_t) now - atomic_load_explicit(&victim->stamp, memory_order_relaxed);
    uint32_t known = atomic_load_explicit(&l1->evicted_age, memory_order_relaxed);
    if (age - known + known / 8 > known / 4) { /* not each time: all writers read it */
        /* relaxed: as above */
        atomic_store_explicit(&l1->evicted_age, age > 0 ? age : 1, memory_order_relaxed);
    }
}

static void consider(const struct pln_l1 *l1, const struct candidate *candidate, uint8_t state,
                     pln_ms now, bool takes_window, struct choice *choice) {
    int priority = priority_of(candidate->entry);
    uint64_t rank = spareness(l1, candidate->entry, state, now, takes_window, choice);
    if (choice->worst == NULL || priority < choice->lowest ||
        (priority == choice->lowest && rank > choice->most)) {
        choice->worst = candidate;
        choice->most = rank;
        choice->lowest = priority;
    }
}

/* Evicts one of a sample, or one that is gone anyway. */
static bool evict_of(struct pln_l1 *l1, struct thread_record *record,
                     const struct candidate *candidates, size_t n, pln_ms now, enum pln_count why) {
    bool is_adaptive = l1->eviction == PLN_L1_ADAPTIVE, is_spared = false;
    struct choice choice;
    do { /* each further time one fewer is in the window */
        bool takes_window = is_adaptive && pln_l1_adapt_window_is_full(l1);
        choice = (struct choice){.worst = NULL};
        for (size_t i = 0; i < n; i++) {
            uint8_t state = pln_l1_state(candidates[i].entry);
            if (!pln_l1_is_visible(state)) {
                continue;
            }
            if (pln_l1_is_gone(l1, candidates[i].entry, now)) {
                pln_l1_kill(l1, record, candidates[i].place, candidates[i].entry,
                            PLN_COUNT_L1_EXPIRATIONS);
                return true;
            }
            consider(l1, &candidates[i], state, now, takes_window, &choice);
        }
        is_spared = is_adaptive && choice.worst != NULL &&
                    pln_l1_adapt_spare(l1, choice.worst->entry);
    } while (is_spared);
    if (choice.worst == NULL || l1->eviction == PLN_L1_NONE) {
        return false;
    }
    note_age(l1, choice.worst->entry, now);
    if (is_adaptive) {
        pln_l1_adapt_evicted(l1, choice.worst->entry, choice.main_tops[2]);
    }
    pln_l1_kill(l1, record, choice.worst->place, choice.worst->entry, why);
    return true;
}

/* A time of last use need not be more exact than a 64th of how long entries stay unused: what a hit
 * would write then is left out. (1 M keys: 10 ns of 94; 10 k keys: 4 of 26.) Before anything was
 * evicted entries have stayed since the first one came, and a 16th will do. */
void pln_l1_set_tick(struct pln_l1 *l1, pln_ms now) {
    /* relaxed each: guesses */
    pln_ms began = atomic_load_explicit(&l1->began, memory_order_relaxed);
    uint32_t age = atomic_load_explicit(&l1->evicted_age, memory_order_relaxed);
    if (began < 0 || began > now) {
        atomic_store_explicit(&l1->began, now, memory_order_relaxed);
        began = now;
    }
    if (age == 0) {
        age = (uint32_t) (now - began < INT32_MAX ? now - began : INT32_MAX) / FIRST_TICKS * TICKS;
    }
    /* relaxed both: as above */
    if (atomic_load_explicit(&l1->tick, memory_order_relaxed) != age / TICKS) {
        atomic_store_explicit(&l1->tick, age / TICKS, memory_order_relaxed);
    }
}

bool pln_l1_evict_one(struct pln_l1 *l1, struct thread_record *record, struct bucket *bucket,
                      pln_ms now, enum pln_count why) {
    struct candidate candidates[2 * PLN_L1_HALF];
    size_t n = sample_half(&bucket->halves[0], candidates, 0);
    n = sample_half(&bucket->halves[1], candidates, n);
    return evict_of(l1, record, candidates, n, now, why);
}

/* ---- the budget ---- */

size_t pln_l1_max_bytes(const struct pln_l1 *l1) {
    /* relaxed: a bound, before or after it was changed */
    return atomic_load_explicit(&l1->max_bytes, memory_order_relaxed);
}

static size_t max_waiting(const struct pln_l1 *l1) {
    size_t max_bytes = pln_l1_max_bytes(l1);
    size_t least = max_bytes / 4 < WAITING_LEAST ? max_bytes / 4 : WAITING_LEAST;
    return max_bytes / WAITING_SHARE > least ? max_bytes / WAITING_SHARE : least;
}

/* A sum may be below zero for a moment: who added has told nobody yet, who took away has. */
static bool is_more(size_t sum, size_t bound) {
    return (ssize_t) sum > 0 && sum > bound;
}

static size_t waiting(const struct pln_l1 *l1, const struct thread_record *record) {
    /* relaxed both: sums */
    return atomic_load_explicit(&l1->waiting_bytes, memory_order_relaxed) +
           (size_t) atomic_load_explicit(&record->waiting_bytes, memory_order_relaxed) +
           pln_l1_lent_bytes(l1);
}

/* Whether entries, and so many bytes that wait for readers, are more than the budget. Another
 * thread's share may be missing: the sums are right by so much. */
static bool is_over(const struct pln_l1 *l1, const struct thread_record *record, size_t bytes,
                    size_t waiting_bytes) {
    size_t max_bytes = pln_l1_max_bytes(l1);
    /* relaxed each: sums; two writers may pass together, by one entry each */
    size_t live = atomic_load_explicit(&l1->live_bytes, memory_order_relaxed) +
                  (size_t) atomic_load_explicit(&record->live_bytes, memory_order_relaxed);
    size_t table = atomic_load_explicit(&l1->table_bytes, memory_order_relaxed) +
                   atomic_load_explicit(&l1->table_wanted, memory_order_relaxed);
    size_t entries = atomic_load_explicit(&l1->entries, memory_order_relaxed) +
                     (size_t) atomic_load_explicit(&record->entries, memory_order_relaxed);
    return is_more(table + live + waiting_bytes + bytes, max_bytes - max_bytes / ROOM_SHARE) ||
           (l1->max_entries > 0 && is_more(entries + (bytes > 0), l1->max_entries));
}

bool pln_l1_is_over(const struct pln_l1 *l1, const struct thread_record *record) {
    return is_over(l1, record, 0, waiting(l1, record));
}

bool pln_l1_is_backed_up(const struct pln_l1 *l1, const struct thread_record *record) {
    /* what is lent in a child may be so for good: it only counts */
    size_t for_good = l1->is_child ? pln_l1_lent_bytes(l1) : 0;
    return is_more(waiting(l1, record) - for_good, max_waiting(l1));
}

/* Adds what stands in the buckets from a hash's on, `skip` left out. */
static size_t sample(const struct index *table, uint64_t hash, size_t skip,
                     struct candidate *candidates, size_t n) {
    size_t at = (size_t) (pln_l1_bucket(table, hash) - table->buckets) + skip, before = n;
    for (unsigned i = 0; n < SAMPLE && i < (n > before ? SAMPLED_HALVES : SEARCHED_HALVES) &&
                         i < 2 * table->n_buckets;
         i++) {
        struct bucket *bucket = &table->buckets[(at + i / 2) % table->n_buckets];
        n = sample_half(&bucket->halves[i % 2], candidates, n);
    }
    return n;
}

/* Evicts one entry of a sample: of both tables where there are two, for one of them may have few,
 * and just those that should stay. Of the samples of one store some overlap, for what was looked at
 * is in the cache (a fill of 100 k entries: 23 % faster), and then one is taken far from these, or
 * a place would run out of all but those that should stay. */
static bool evict_near(struct pln_l1 *l1, struct thread_record *record, uint64_t hash, size_t i,
                       pln_ms now) {
    struct candidate candidates[SAMPLE + PLN_L1_HALF];
    const struct view *view = pln_l1_view(l1);
    const struct index *tables[] = {&view->present, &view->old};
    bool has_old = view->old.n_buckets > 0;
    hash += i / OVERLAPPING * UINT64_C(0x9e3779b97f4a7c15);
    size_t n = sample(tables[has_old && i % 2 == 1], hash, i % OVERLAPPING, candidates, 0);
    if (has_old && n < SAMPLE) {
        n = sample(tables[i % 2 == 0], hash, i % OVERLAPPING, candidates, n);
    }
    return evict_of(l1, record, candidates, n, now, PLN_COUNT_L1_EVICTIONS);
}

static bool reclaim_enough(struct pln_l1 *l1, const struct thread_record *record) {
    for (int i = 0; i < CK_EPOCH_LENGTH && pln_l1_is_backed_up(l1, record); i++) {
        pln_l1_reclaim(l1, PLN_L1_RECLAIMED);
    }
    return !pln_l1_is_backed_up(l1, record);
}

int pln_l1_make_room(struct pln_l1 *l1, struct thread_record *record, uint64_t hash, size_t bytes,
                     pln_ms now) {
    if (!reclaim_enough(l1, record)) { /* to evict more would not help */
        return pln_fail(PLN_EBUSY, "l1: over %zu bytes of ended entries wait for readers",
                        max_waiting(l1));
    }
    /* what is evicted here will wait too, and is counted from the next store on */
    size_t waiting_bytes = waiting(l1, record), tries = TRIES + bytes / LEAST_ENTRY;
    bool has_evicted = false, over = is_over(l1, record, bytes, waiting_bytes);
    for (size_t i = 0; over && i < tries; i++) {
        pln_l1_enter(l1, record);
        has_evicted = evict_near(l1, record, hash, i, now) || has_evicted;
        pln_l1_leave(record);
        over = is_over(l1, record, bytes, waiting_bytes);
    }
    /* else the next store goes on: the budget was lowered, or there are two tables for a while */
    if (over && !has_evicted && (l1->eviction == PLN_L1_NONE || !pln_l1_is_replacing(l1))) {
        return pln_fail(PLN_EBUSY, "l1: the budget of %zu bytes%s is used up%s",
                        pln_l1_max_bytes(l1), l1->max_entries > 0 ? " or entries" : "",
                        l1->eviction == PLN_L1_NONE ? " (eviction is \"none\")" : "");
    }
    (void) reclaim_enough(l1, record); /* for the next one */
    return PLN_OK;
}

/* ---- the share of "does not exist" ---- */

size_t pln_l1_absent_bytes(const struct pln_l1 *l1) {
    /* relaxed: a sum. In a child it may be short of what vanished threads held */
    ssize_t bytes = (ssize_t) atomic_load_explicit(&l1->absent_bytes, memory_order_relaxed);
    return bytes > 0 ? (size_t) bytes : 0;
}

/* Ends the absent entry of a sample that was not used for longest, or one that is gone anyway. */
static bool evict_absent(struct pln_l1 *l1, struct thread_record *record, uint64_t hash,
                         pln_ms now) {
    struct candidate candidates[SAMPLE + PLN_L1_HALF];
    const struct candidate *worst = NULL;
    const struct view *view = pln_l1_view(l1);
    uint32_t most = 0;
    size_t n = sample(&view->present, hash, 0, candidates, 0);
    if (view->old.n_buckets > 0 && n < SAMPLE) {
        n = sample(&view->old, hash, 0, candidates, n);
    }
    for (size_t i = 0; i < n; i++) {
        uint8_t state = pln_l1_state(candidates[i].entry);
        if (!pln_l1_is_visible(state) || !pln_l1_is_absent(candidates[i].entry)) {
            continue;
        }
        bool is_gone = pln_l1_is_gone(l1, candidates[i].entry, now);
        if (!is_gone && l1->eviction == PLN_L1_NONE) {
            continue;
        }
        uint32_t age = is_gone ? UINT32_MAX : age_of(candidates[i].entry, state, now);
        if (worst == NULL || age > most) {
            worst = &candidates[i];
            most = age;
        }
    }
    if (worst != NULL) {
        pln_l1_kill(l1, record, worst->place, worst->entry,
                    most == UINT32_MAX ? PLN_COUNT_L1_EXPIRATIONS : PLN_COUNT_L1_EVICTIONS);
    }
    return worst != NULL;
}

int pln_l1_make_absent_room(struct pln_l1 *l1, struct thread_record *record, uint64_t hash,
                            size_t bytes, pln_ms now) {
    size_t most = (size_t) ((double) pln_l1_max_bytes(l1) * l1->absent_share);
    if (l1->absent_share <= 0) {
        return PLN_OK;
    }
    for (size_t i = 0; i < TRIES && pln_l1_absent_bytes(l1) + bytes > most; i++) {
        pln_l1_enter(l1, record);
        evict_absent(l1, record, hash + i * UINT64_C(0x9e3779b97f4a7c15), now);
        pln_l1_leave(record);
    }
    return pln_l1_absent_bytes(l1) + bytes <= most
               ? PLN_OK
               : pln_fail(PLN_EBUSY, "l1: the share of what does not exist, %zu bytes, is used up",
                          most);
}

/* A 400th of the budget waits: time to look what can be freed. Of a small one more, for each look
 * costs a system call. */
bool pln_l1_is_reclaim_due(const struct pln_l1 *l1) {
    /* relaxed: a sum */
    size_t max_bytes = pln_l1_max_bytes(l1);
    size_t least = max_bytes / 32 < RECLAIM_LEAST ? max_bytes / 32 : RECLAIM_LEAST;
    size_t due = max_bytes / RECLAIM_SHARE > least ? max_bytes / RECLAIM_SHARE : least;
    return is_more(atomic_load_explicit(&l1->waiting_bytes, memory_order_relaxed), due);
}
