/* SPDX-License-Identifier: MIT
 *
 * internal.h - what the files of l1 share: the layout of buckets, threads and slabs, and their
 * doors.
 *
 * Labels of this folder:
 *   P1  slot published / slot loaded: an entry's bytes before its pointer
 *   P2  VISIBLE or DEAD set / state read: everything of an entry before it is seen so
 *   P3  DEAD before `times` holds an address / a second look at the state
 *   P4  last read of an entry / before its memory is used again
 *   P5  a generation set / read
 *   P6  a thread's record, or a limbo, given back / taken
 *   P7  a thread's record linked / found
 *   P8  a waiting entry's link pushed / taken
 *   P9  a version taken: what was linked before / what is looked for after
 *   P10 SETTLED before `stamp` is a time / a second look at the state
 *   P11 a view of the tables published / loaded
 *   P12 a slab's class set / read by who has taken a cell of it
 *   P13 a stage of a table's change ended / begun
 *   P14 a place for a slab on its way out left / taken
 *   P15 a put linked / looks of those who go through all entries
 *
 * Each order is needed by the language's rules; tests/house/mutate.lua takes them out in turn.
 * Where no test fails then on this kind of processor, the place says "no test:" and why.
 *   x86    the processor orders it anyway, and ThreadSanitizer finds no race without it: what it
 *          orders is atomic, or is ordered by another pair as well
 *   fence  the processor orders it anyway, or the exchange beside it does, and ThreadSanitizer
 *          does not see fences
 */
#ifndef PLN_L1_INTERNAL_H
#define PLN_L1_INTERNAL_H

#include <ck_epoch.h>
#include <pthread.h>
#include <sys/types.h>

#include "../core/base/ends.h"
#include "entry.h"
#include "slab.h"

/* ThreadSanitizer does not see the fences inside Concurrency Kit's assembler: it is told of the
 * edge that they make, from the end of a section to the freeing of what was read in it. */
#if defined(__SANITIZE_THREAD__)
#include <sanitizer/tsan_interface.h>
#define PLN_EDGE_FROM(address) __tsan_release(address)
#define PLN_EDGE_TO(address) __tsan_acquire(address)
#else
#define PLN_EDGE_FROM(address) ((void) 0)
#define PLN_EDGE_TO(address) ((void) 0)
#endif

/* A second look without which the algorithm would be wrong; marked so that a tool can take each one
 * out and see a test fail. */
#define PLN_RECHECK(expression) (expression)

enum {
    PLN_L1_HALF = 8,       /* slots of a cache line */
    PLN_L1_VERSIONS = 256, /* stripes of version counters: two writers seldom share one */
    PLN_L1_RANGES = 256,   /* of the low half of hashes, for which changes are noted */
    PLN_L1_LIMBOS = 4,
    PLN_L1_BATCHES = 16,
    PLN_L1_RECLAIMED = 1024, /* entries freed on a request's way: some 50 us */
};

/* One cache line of slots. A slot is a tag in the upper 16 bits and an entry's address. */
struct half {
    _Alignas(PLN_CACHE_LINE) _Atomic uint64_t slots[PLN_L1_HALF];
};

/* A key's home is one half of its bucket; it lives in the other, away, only where its home was
 * full: most hits look at one line. */
struct bucket {
    _Alignas(2 * PLN_CACHE_LINE) struct half halves[2];
};

struct index {
    struct bucket *buckets;
    size_t n_buckets;
    size_t map_bytes;
    _Atomic uint32_t *ghosts; /* a line a bucket, for eviction "adaptive" (adapt.c); else NULL */
};

/* What an operation looks at: the table, and while it is being replaced the old one too. Written
 * only while no operation can see it. */
struct view {
    struct index present;
    struct index old; /* n_buckets is 0 where there is none */
};

/* A slot. */
struct place {
    struct half *half;
    unsigned at;
};

/* Where a key may be: at most four halves, in order of precedence (see table.c). */
struct places {
    struct half *halves[4];
    unsigned n;
};

/* What eviction "adaptive" has learned (adapt.c). */
struct adapt {
    _Alignas(PLN_CACHE_LINE) _Atomic uint32_t window; /* entries in it */
    _Atomic uint32_t share;                           /* of all entries that it may hold */
    _Atomic uint32_t clock;                           /* evictions */
    _Atomic uint32_t tail;                            /* the rank from which on one is soon to go */
    _Atomic uint32_t won, lost; /* hits that a larger window would have had, or not had */
};

struct limbo {
    _Alignas(PLN_CACHE_LINE) struct entry *_Atomic incoming; /* anybody pushes */
    atomic_bool is_taken;    /* by the one who empties it: over what follows */
    _Atomic unsigned n_used; /* batches */
    ck_epoch_record_t record;
    struct batch batches[PLN_L1_BATCHES];
};

/* Steps of a table's replacement (resize.c); l1->stage counts replacements above them. */
enum stage {
    STAGE_IDLE,
    STAGE_BEGINNING, /* somebody maps the new table */
    STAGE_PUBLISHED, /* both are seen; some may still see only the old one */
    STAGE_MOVING,    /* all see both */
    STAGE_ENDING,    /* somebody looks whether the old one is empty */
    STAGE_WITHDRAWN, /* new operations see only the present one */
    STAGE_UNMAPPING, /* nobody sees the old one */
    STAGES,
};

static inline enum stage pln_l1_stage(uint32_t stage) {
    return (enum stage)(stage % STAGES);
}

#define PLN_L1_RANGE (((uint64_t) 1 << 32) / PLN_L1_RANGES)

struct pln_l1 {
    /* line 0: read by every operation, seldom written */
    _Alignas(PLN_CACHE_LINE) struct view *_Atomic view;
    const _Atomic uint64_t *marks;
    struct pln_counts *counts;
    struct pln_hot *hot; /* NULL where the budget is small */
    pthread_key_t record_key;
    _Atomic uint32_t generation;
    enum pln_l1_eviction eviction;
    bool has_membarrier;
    _Atomic uint32_t tick; /* ms; a use within so much of the last is not written down */
    bool weighs_bytes;
    bool is_child; /* of a fork: values may be lent to threads that are not here */

    /* line 1: read by every writer */
    _Alignas(PLN_CACHE_LINE) _Atomic size_t max_bytes;
    size_t max_item_bytes, max_entries;
    size_t share_entries; /* a thread's share above this is told to the others */
    double absent_share;  /* of max_bytes, for entries that are absent; 0: no bound */
    pln_l1_hash hash;
    uint64_t seed;
    _Atomic uint32_t walkers; /* who goes through all entries, now */

    /* line 2: written by every writer now and then */
    _Alignas(PLN_CACHE_LINE) _Atomic size_t live_bytes; /* linked; without the records' shares */
    _Atomic size_t entries;
    _Atomic size_t waiting_bytes; /* unlinked, a reader may see it; without the records' shares */
    _Atomic size_t lent_bytes;    /* seen by no reader any more, but borrowed */
    _Atomic size_t absent_bytes;  /* of live_bytes: entries that are absent; of all threads */
    _Atomic size_t sweep_at;
    _Atomic size_t share_bytes;   /* as share_entries */
    _Atomic int64_t began;        /* when the first entry was put, or -1 */
    _Atomic uint32_t evicted_age; /* ms since the last victim's last use; 0 before there was one */

    /* of resize.c */
    _Alignas(PLN_CACHE_LINE) _Atomic uint32_t stage; /* enum stage */
    _Atomic size_t move_at, move_end;                /* the old table's next bucket; their number */
    size_t end_at;      /* so many of its buckets are empty; for STAGE_ENDING alone, as the next */
    unsigned end_looks; /* in vain, at the bucket after those */
    _Atomic size_t table_wanted; /* bytes that are to be free before a larger table is made */
    _Atomic size_t table_bytes;  /* present and old table, slabs' maps, this struct */
    struct view views[2];
    struct index withdrawn;

    _Alignas(PLN_CACHE_LINE) _Atomic uint32_t versions[PLN_L1_VERSIONS];
    _Alignas(PLN_CACHE_LINE) _Atomic uint32_t changes[PLN_L1_RANGES]; /* of each.c */
    ck_epoch_t epoch;
    struct thread_record *_Atomic records;
    struct adapt adapt;
    struct limbo limbos[PLN_L1_LIMBOS];
    struct slabs slabs;
    struct pln_ends ends; /* of threads that have records */
};

/* ---- hot.c ---- */

enum {
    PLN_HOT_EVERY = 16, /* one hit in so many is seen, on average */
    PLN_HOT_BYTES = 512 * 128 + 128,
};

/* The hottest keys of late, by their hashes. Shared by all threads. */
struct pln_hot;

struct pln_hot_key {
    uint64_t hash;
    uint64_t requests; /* in the window, estimated */
    double share;      /* of all in the window */
};

/* A thread's countdown to the hit that is seen next; zeroed, it sees the first. How many pass in
 * between is random, so that no regular program hides a key from it. */
struct pln_hot_turn {
    uint32_t left;
    uint32_t drawn;
};

int pln_hot_new(struct pln_hot **hot);
void pln_hot_free(struct pln_hot *hot);
/* Counts one sample. Threads: any, lock-free. */
void pln_hot_see(struct pln_hot *hot, uint64_t hash);
/* Counts this hit and draws when the next is counted. */
void pln_hot_take(struct pln_hot *hot, struct pln_hot_turn *turn, uint64_t hash);
/* The `most` hottest, hottest first. Returns how many there are. Threads: any, wait-free. */
size_t pln_hot_top(const struct pln_hot *hot, struct pln_hot_key *keys, size_t most);

/* To be called at each hit. */
static inline void pln_hot_hit(struct pln_hot *hot, struct pln_hot_turn *turn, uint64_t hash) {
    if (__builtin_expect(turn->left-- == 0, 0)) {
        pln_hot_take(hot, turn, hash);
    }
}

/* ---- epoch.c ---- */

/* What a thread needs to read safely, and what it counts before it tells the others. */
struct thread_record {
    _Alignas(PLN_CACHE_LINE) ck_epoch_record_t record;
    struct pln_hot_turn turn;
    unsigned limbo; /* the one this thread pushes on */
    atomic_bool is_taken;
    uint32_t n_puts;
    /* what it is at in its section, for a child; see fork.c */
    struct entry *_Atomic storing, *_Atomic moving;
    /* this thread's shares not yet added to the table's; others only read them */
    _Atomic int64_t live_bytes, entries, waiting_bytes;
    struct thread_record *next;
    uint32_t slab_of[PLN_L1_CLASSES]; /* where it last found a free cell */
};

int pln_l1_epoch_init(struct pln_l1 *l1);
void pln_l1_epoch_fini(struct pln_l1 *l1);
/* This thread's record; NULL only where memory is out. */
struct thread_record *pln_l1_record_new(struct pln_l1 *l1);

static inline struct thread_record *pln_l1_record(struct pln_l1 *l1) {
    struct thread_record *record = pthread_getspecific(l1->record_key);
    return record != NULL ? record : pln_l1_record_new(l1);
}

/* Begins a section: what is found from here on is not freed before it ends. Sections do not nest.
 *
 * The mark "active" must be seen by whoever frees before this thread looks at a slot: a store, then
 * a load, which processors exchange. A fence in every hit would also end what one hit can overlap
 * with the next (a bare index of 1 M records takes 46 ns, with an lfence behind each request 122).
 * The one who frees pays for both sides: membarrier() makes
 * every running thread of the process pass a fence at some point, before the marks are looked at
 * (see pln_l1_reclaim). A mark that was made before that point is seen; a look at a slot that comes
 * after it finds the slot emptied. Where the system has no membarrier, the fence is here. */
static inline void pln_l1_enter(const struct pln_l1 *l1, struct thread_record *record) {
    if (__builtin_expect(l1->has_membarrier, 1)) {
        ck_pr_store_uint(&record->record.active, 1);
        /* seq_cst, no pair: the compiler is to keep the order too */
        atomic_signal_fence(memory_order_seq_cst);
        ck_pr_store_uint(&record->record.epoch, ck_pr_load_uint(&l1->epoch.epoch));
        /* seq_cst, no pair: as above */
        atomic_signal_fence(memory_order_seq_cst);
    } else {
        ck_epoch_begin(&record->record, NULL);
    }
}

static inline void pln_l1_leave(struct thread_record *record) {
    PLN_EDGE_FROM(record->record.global);
    ck_epoch_end(&record->record, NULL);
}

/* Gives up an unlinked entry: the table's reference goes once no reader can see it. To be called
 * inside a section, by the one who unlinked it. */
void pln_l1_retire(struct pln_l1 *l1, struct thread_record *record, struct entry *entry);
/* Frees what no reader can see any more, but no more than so many entries of each limbo; outside
 * any section of the caller's. */
void pln_l1_reclaim(struct pln_l1 *l1, size_t most);
/* Drops the reference of a borrower. */
void pln_l1_unref(struct pln_l1 *l1, struct entry *entry);
/* Adds to what is linked; told to the others when it has come to something. */
void pln_l1_account(struct pln_l1 *l1, struct thread_record *record, const struct entry *entry,
                    int64_t bytes, int entries);
/* Sums over all threads. */
void pln_l1_sum(const struct pln_l1 *l1, struct pln_l1_usage *usage);
static inline size_t pln_l1_lent_bytes(const struct pln_l1 *l1) {
    /* relaxed: a sum */
    return atomic_load_explicit(&l1->lent_bytes, memory_order_relaxed);
}
/* In a child: this thread is the only one, and in no section. Frees all that waits, and gives the
 * other threads' records back. */
void pln_l1_epoch_after_fork(struct pln_l1 *l1);

/* ---- entry.c ---- */

size_t pln_l1_item_bytes(const struct pln_hashed *key, const struct pln_l1_item *item);
/* Writes an entry into its memory. */
void pln_l1_entry_init(struct entry *entry, const struct pln_hashed *key,
                       const struct pln_l1_item *item);

/* Sets new points of time; when it was made is kept. */
void pln_l1_retime_entry(struct entry *entry, pln_ms refresh, pln_ms stale, pln_ms end);
/* The same where the entry is stale at `former`; else false, and nothing has changed. */
bool pln_l1_prolong_entry(struct entry *entry, pln_ms former, const struct pln_l1_life *life);
/* ---- table.c ---- */

static inline struct entry *pln_l1_slot_entry(uint64_t slot) {
    return (struct entry *) (uintptr_t) (slot & (UINT64_MAX >> 16));
}

static inline struct entry *pln_l1_entry_at(const struct half *half, unsigned at) {
    /* P1 acquire: pairs with link_at */
    return pln_l1_slot_entry(atomic_load_explicit(&half->slots[at], memory_order_acquire));
}

static inline struct bucket *pln_l1_bucket(const struct index *table, uint64_t hash) {
    return &table->buckets[((hash & UINT32_MAX) * table->n_buckets) >> 32];
}

static inline struct half *pln_l1_home(const struct bucket *bucket, uint64_t hash) {
    return (struct half *) (uintptr_t) &bucket->halves[hash >> 32 & 1];
}

/* For each.c, of a put that has linked its entry, and fenced that. */
static inline void pln_l1_note_change(struct pln_l1 *l1, uint64_t hash) {
    /* relaxed: ordered by the fence */
    if (atomic_load_explicit(&l1->walkers, memory_order_relaxed) > 0) {
        /* P15 release: the link before it; pairs with changes(). no test: x86 */
        atomic_fetch_add_explicit(&l1->changes[(hash & UINT32_MAX) / PLN_L1_RANGE], 1,
                                  memory_order_release);
    }
}

static inline const struct view *pln_l1_view(const struct pln_l1 *l1) {
    /* P11 acquire: the tables behind it; pairs with publish */
    return atomic_load_explicit(&l1->view, memory_order_acquire);
}

/* True where nobody may return it: past its end, of a dropped generation, or with a mark against
 * it. */
bool pln_l1_is_gone(const struct pln_l1 *l1, const struct entry *entry, pln_ms now);
/* True where entries of this generation are returned. */
bool pln_l1_is_served(const struct pln_l1 *l1, uint32_t generation);

struct places pln_l1_places(const struct view *view, uint64_t hash);
/* The newest visible entry of a key, or NULL. Inside a section. */
struct entry *pln_l1_find(struct pln_l1 *l1, const struct pln_hashed *key);
/* The live entry of a key and what it says, or NULL: a hit's whole search. Inside a section. */
struct entry *pln_l1_look_up(struct pln_l1 *l1, const struct pln_hashed *key, pln_ms now,
                             struct pln_l1_hit *hit);
/* Puts an entry into an empty slot of its bucket in a table, after an eviction where there is none;
 * false where nothing may go. */
bool pln_l1_link(struct pln_l1 *l1, struct thread_record *record, const struct index *table,
                 uint64_t hash, struct entry *entry, pln_ms now, struct place *place);
/* The slots of a half whose tag is that of a hash, one bit each; a hint. */
unsigned pln_l1_tag_matches(const struct half *half, uint64_t hash);
/* The entry of a slot if it is of this key, else NULL. */
struct entry *pln_l1_match(const struct half *half, unsigned at, const struct pln_hashed *key);

/* Versions wrap: of two rivals the newer is less than 2^31 ahead. */
static inline bool pln_l1_is_newer(uint32_t a, uint32_t b) {
    return (int32_t) (a - b) > 0;
}

/* An entry's version, given to it where it has none; 0 where it is settled, and older than all that
 * have one. */
uint32_t pln_l1_version_of(struct pln_l1 *l1, uint64_t hash, struct entry *entry);

/* ---- rival.c ---- */

/* Ends an entry at a place and, before it, those of its key that are older; counts under `why`. */
void pln_l1_kill(struct pln_l1 *l1, struct thread_record *record, struct place place,
                 struct entry *entry, enum pln_count why);
/* The same for an entry whose place is not known. */
void pln_l1_kill_anywhere(struct pln_l1 *l1, struct thread_record *record, struct entry *entry,
                          enum pln_count why);
/* In a child: takes back an entry that a vanished thread was storing and had not yet shown. */
void pln_l1_withdraw(struct pln_l1 *l1, struct thread_record *record, struct entry *entry);
/* Unlinks a dead entry, if nobody else did. */
void pln_l1_unlink(struct pln_l1 *l1, struct thread_record *record, struct place place,
                   struct entry *entry);
/* Links an entry, checks, shows it and ends the older ones of its key. PLN_NOT_STORED where it was
 * withdrawn or overtaken; PLN_EBUSY where its bucket is full and nothing may go. */
int pln_l1_store(struct pln_l1 *l1, struct thread_record *record, const struct pln_hashed *key,
                 struct entry *entry, uint32_t generation, pln_ms now, pln_l1_check check,
                 const void *check_arg);
/* Ends all entries of a key. Returns how many were visible. */
unsigned pln_l1_kill_key(struct pln_l1 *l1, struct thread_record *record,
                         const struct pln_hashed *key);
/* Makes the visible ones stale from `now` on, and ends the others. Likewise. */
unsigned pln_l1_expire_key(struct pln_l1 *l1, struct thread_record *record,
                           const struct pln_hashed *key, pln_ms now);
/* Does what is left to do of a stopped put: ends the older entries of a visible one's key, and says
 * that none is left. */
void pln_l1_settle(struct pln_l1 *l1, struct thread_record *record, const struct pln_hashed *key,
                   struct entry *entry, pln_ms now);

/* ---- evict.c ---- */

/* Ends the entry of a bucket that can best be spared; false where there is none, or none may go. */
bool pln_l1_evict_one(struct pln_l1 *l1, struct thread_record *record, struct bucket *bucket,
                      pln_ms now, enum pln_count why);
/* Makes room for an entry of so many bytes; PLN_EBUSY after a bounded effort. Outside a section. */
int pln_l1_make_room(struct pln_l1 *l1, struct thread_record *record, uint64_t hash, size_t bytes,
                     pln_ms now);
/* The same for an entry that is absent, within the share of these. */
int pln_l1_make_absent_room(struct pln_l1 *l1, struct thread_record *record, uint64_t hash,
                            size_t bytes, pln_ms now);
size_t pln_l1_absent_bytes(const struct pln_l1 *l1);
/* Sets how exact the times of last use are to be. */
void pln_l1_set_tick(struct pln_l1 *l1, pln_ms now);
/* True where there is more than the budget allows. */
bool pln_l1_is_over(const struct pln_l1 *l1, const struct thread_record *record);
size_t pln_l1_max_bytes(const struct pln_l1 *l1);
/* True where so much waits for readers that nothing more may be ended. */
bool pln_l1_is_backed_up(const struct pln_l1 *l1, const struct thread_record *record);
/* True where so much waits that it is time to look what can be freed. */
bool pln_l1_is_reclaim_due(const struct pln_l1 *l1);

/* ---- adapt.c ---- */

void pln_l1_adapt_init(struct adapt *adapt);
/* A hit, `age` ms after the last one. */
void pln_l1_adapt_hit(struct pln_l1 *l1, struct entry *entry, uint32_t age);
/* An entry about to be shown, in the place of `older` (may be NULL). Inside a section. */
void pln_l1_adapt_admit(struct pln_l1 *l1, struct entry *entry, uint64_t hash,
                        const struct entry *older);
/* The higher, the better it can be spared, among those of the window or of main. */
uint64_t pln_l1_adapt_rank(const struct entry *entry, uint32_t age, bool *in_window);
bool pln_l1_adapt_window_is_full(const struct pln_l1 *l1);
/* True where a victim is kept instead, and goes from the window to main. */
bool pln_l1_adapt_spare(struct pln_l1 *l1, struct entry *entry);
/* An entry is to be evicted; `third`: the third highest rank of main in the sample, or 0. */
void pln_l1_adapt_evicted(struct pln_l1 *l1, const struct entry *entry, uint64_t third);
void pln_l1_adapt_retired(struct pln_l1 *l1, struct entry *entry);

/* ---- drain.c ---- */

/* What slabs and large entries may have of memory. */
size_t pln_l1_max_held(const struct pln_l1 *l1);
/* Memory for an entry, made free where there is none; NULL after a bounded effort. Outside a
 * section. */
struct entry *pln_l1_take_cell(struct pln_l1 *l1, struct thread_record *record, size_t bytes);
/* Gives up to `n` slabs' memory back while more is held than the budget allows. */
void pln_l1_trim(struct pln_l1 *l1, struct thread_record *record, unsigned n);
/* In a child: takes up the slabs that vanished threads were at. Returns the bytes of all cells and
 * large entries that are not free. */
size_t pln_l1_slabs_after_fork(struct pln_l1 *l1);

/* ---- change.c ---- */

/* Ends all entries of generations that are not served. */
void pln_l1_sweep_dropped(struct pln_l1 *l1);

/* ---- resize.c ---- */

int pln_l1_table_new(struct index *table, size_t n_buckets, bool has_ghosts);
void pln_l1_table_free(struct index *table);
/* How many buckets suit a budget, or a bound of entries. */
size_t pln_l1_table_fit(size_t max_bytes, size_t max_entries);
/* How many buckets the present table has. Outside a section. */
size_t pln_l1_count_buckets(struct pln_l1 *l1, struct thread_record *record);
/* Begins to replace the table where it does not suit what it holds. Outside a section. */
void pln_l1_refit(struct pln_l1 *l1, struct thread_record *record);
/* Begins to replace the table by one twice as large, if the budget has room for it and nothing is
 * under way. Outside a section. */
void pln_l1_double(struct pln_l1 *l1, struct thread_record *record);
/* Moves what is in up to `n` buckets of an old table. Outside a section. */
void pln_l1_move(struct pln_l1 *l1, struct thread_record *record, pln_ms now, size_t n);
/* Looks through up to `n` buckets of an old table that was moved, and takes it away when it was
 * found empty to its end. Outside a section. */
void pln_l1_move_end(struct pln_l1 *l1, struct thread_record *record, pln_ms now, size_t n);
/* A grace period has passed since `seen` was the stage. */
void pln_l1_grace(struct pln_l1 *l1, uint32_t seen);
/* In a child: brings to its end what a vanished thread was moving. */
void pln_l1_finish_move(struct pln_l1 *l1, struct thread_record *record, struct entry *entry);
/* In a child: takes up what a thread that is no more was at. */
void pln_l1_stage_after_fork(struct pln_l1 *l1);
void pln_l1_set_budget(struct pln_l1 *l1, size_t max_bytes);

#endif
