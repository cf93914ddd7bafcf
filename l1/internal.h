/* SPDX-License-Identifier: MIT
 *
 * internal.h - what the files of l1 share: the layout of entries and buckets, and their doors.
 *
 * Labels of this folder:
 *   P1  slot published / slot loaded: an entry's bytes before its pointer
 *   P2  version before VISIBLE / version after it is seen: which of two entries is the newer
 *   P3  DEAD before `created` is overwritten / a second look at the state
 *   P4  last read by a borrower / before the memory is freed
 *   P5  a generation set / read
 *   P6  a thread's record, or a limbo, given back / taken
 *   P7  a thread's record linked / found
 *   P8  a waiting entry's link pushed / taken
 */
#ifndef PLN_L1_INTERNAL_H
#define PLN_L1_INTERNAL_H

#include <ck_epoch.h>
#include <pthread.h>

#include "l1.h"

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

enum {
    PLN_L1_SLOTS = 16,
    PLN_L1_VERSIONS = 256, /* stripes of version counters: two writers seldom share one */
    PLN_L1_LIMBOS = 4,
};

enum entry_state {
    ENTRY_PENDING = 0, /* linked, returned by nobody */
    ENTRY_VISIBLE = 1,
    ENTRY_DEAD = 2,    /* for good */
    ENTRY_CLAIMED = 4, /* with VISIBLE: somebody reloads it */
};

/* 48 bytes before the key, so that with a key of 16 they make one cache line:
 *
 *     0                12          16        24        28      40        44        48
 *     | counted value, | generat-  | created | version | times | touched | state.. | key, value,
 *     | its offset     | ion       |         |         |       |         |         | marks
 *
 * The key's length is the value's offset less these 48. `created` is set before an entry is linked
 * and by nobody after; between death and freeing it holds the address of the next entry that
 * waits. Whoever acts on it looks at the state again after reading it (P3). The other times are
 * offsets from it. */
struct entry {
    struct pln_value value; /* refs: the table's one, and one for each borrower */
    uint32_t generation;
    _Atomic int64_t created;
    _Atomic uint32_t version; /* 0 until it is linked */
    _Atomic uint32_t refresh, stale, end;
    _Atomic uint32_t touched; /* low bits of the last hit's time */
    _Atomic uint8_t state;    /* enum entry_state */
    uint8_t n_marks;
    uint8_t cost;
    bool is_absent;
    char bytes[]; /* key, value, then (marked ones) stamp and marks */
};

static_assert(offsetof(struct entry, bytes) == 48, "an entry's header has grown");

static inline size_t pln_l1_key_len(const struct entry *entry) {
    return entry->value.offset - offsetof(struct entry, bytes);
}

/* Two neighbouring cache lines. A slot is a tag in the upper 16 bits and an entry's address. */
struct bucket {
    _Alignas(128) _Atomic uint64_t slots[PLN_L1_SLOTS];
};

struct limbo {
    _Alignas(PLN_CACHE_LINE) struct entry *_Atomic incoming; /* anybody pushes */
    atomic_bool is_taken; /* by the one who empties it: over `record` */
    ck_epoch_record_t record;
};

struct pln_l1 {
    /* line 0: read by every operation, written never after new */
    _Alignas(PLN_CACHE_LINE) struct bucket *buckets;
    size_t n_buckets;
    const _Atomic uint64_t *marks;
    struct pln_counts *counts;
    pthread_key_t record_key;
    enum pln_l1_eviction eviction;
    bool has_membarrier;
    size_t max_bytes, max_item_bytes, max_waiting_bytes, table_bytes;
    size_t map_bytes;

    /* line 2: written seldom, read by every operation */
    _Alignas(PLN_CACHE_LINE) _Atomic uint32_t generation;

    /* line 3: written by every writer */
    _Alignas(PLN_CACHE_LINE) _Atomic size_t live_bytes; /* linked */
    _Atomic size_t waiting_bytes;                       /* unlinked, not yet freed */
    _Atomic size_t entries;
    _Atomic size_t sweep_at;

    _Alignas(PLN_CACHE_LINE) _Atomic uint32_t versions[PLN_L1_VERSIONS];
    ck_epoch_t epoch;
    struct thread_record *_Atomic records;
    struct limbo limbos[PLN_L1_LIMBOS];
};

/* ---- epoch.c ---- */

/* What a thread needs to read safely. */
struct thread_record {
    _Alignas(PLN_CACHE_LINE) ck_epoch_record_t record;
    atomic_bool is_taken;
    unsigned limbo; /* the one this thread pushes on */
    struct thread_record *next;
};

int pln_l1_epoch_init(struct pln_l1 *l1);
void pln_l1_epoch_fini(struct pln_l1 *l1);
/* This thread's record; NULL only where memory is out. */
struct thread_record *pln_l1_record(struct pln_l1 *l1);

/* Begins a section: what is found from here on is not freed before it ends. Sections do not nest.
 *
 * The mark "active" must be seen by whoever frees before this thread looks at a slot: a store, then
 * a load, which processors exchange. A fence in every hit would also end what one hit can overlap
 * with the next (a bare index of 1 M records takes 46 ns, with an lfence behind each request 122).
 * Taking it out of the hit has shown no gain so far (1 M keys: 101 ns with, 100 without), so
 * something else holds the hits apart. The one who frees pays for both sides: membarrier() makes
 * every running thread of the process pass a fence at some point, before the marks are looked at
 * (see pln_l1_reclaim). A mark that was made before that point is seen; a look at a slot that comes
 * after it finds the slot emptied. Where the system has no membarrier, the fence is here. */
static inline void pln_l1_enter(const struct pln_l1 *l1, struct thread_record *record) {
    if (l1->has_membarrier) {
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
/* Frees what no reader can see any more; outside any section of the caller's. */
void pln_l1_reclaim(struct pln_l1 *l1);
void pln_l1_unref(struct pln_l1 *l1, struct entry *entry);

/* ---- table.c ---- */

struct bucket *pln_l1_bucket(const struct pln_l1 *l1, uint64_t hash);
struct entry *pln_l1_slot_entry(uint64_t slot);
/* Bytes that an entry takes from the budget. */
size_t pln_l1_entry_bytes(const struct entry *entry);
/* The newest visible entry of a key, or NULL. Inside a section. */
struct entry *pln_l1_find(const struct pln_l1 *l1, const struct pln_hashed *key);
/* The live entry of a key and what it says, or NULL: a hit's whole search. Inside a section. */
struct entry *pln_l1_look_up(const struct pln_l1 *l1, const struct pln_hashed *key, pln_ms now,
                             struct pln_l1_hit *hit);
/* Copies the points of its life; false where it died meanwhile. */
bool pln_l1_read_hit(const struct entry *entry, struct pln_l1_hit *hit);
void pln_l1_write_times(struct entry *entry, const struct pln_l1_life *life);
/* True where nobody may return it: past its end, of a dropped generation, or with a mark against
 * it. */
bool pln_l1_is_gone(const struct pln_l1 *l1, const struct entry *entry, pln_ms now);
/* Ends an entry and those of its key that are older, oldest first; counts under `why`. */
void pln_l1_kill(struct pln_l1 *l1, struct thread_record *record, struct bucket *bucket,
                 struct entry *entry, enum pln_count why);
/* Ends an entry that has not become visible; the key's other entries stay. */
void pln_l1_withdraw(struct pln_l1 *l1, struct thread_record *record, struct bucket *bucket,
                     struct entry *entry);
/* Links an entry as pending: into a free slot, else in the place of its key's present one, else
 * after an eviction. PLN_EBUSY where nothing may go. */
int pln_l1_link(struct pln_l1 *l1, struct thread_record *record, const struct pln_hashed *key,
                struct entry *entry, pln_ms now);
/* Unlinks a dead entry, if nobody else did. */
bool pln_l1_unlink(struct pln_l1 *l1, struct thread_record *record, struct bucket *bucket,
                   struct entry *entry);
/* Ends all entries of a key older than `newest` (NULL: all). Returns how many were visible. */
unsigned pln_l1_kill_key(struct pln_l1 *l1, struct thread_record *record,
                         const struct pln_hashed *key, const struct entry *newest,
                         enum pln_count why);

/* ---- evict.c ---- */

/* Ends the entry of a bucket that can best be spared; false where there is none, or none may go. */
bool pln_l1_evict_one(struct pln_l1 *l1, struct thread_record *record, struct bucket *bucket,
                      pln_ms now);
/* Makes room for `bytes`: evicts, starting at a bucket; PLN_EBUSY after a bounded effort. */
int pln_l1_make_room(struct pln_l1 *l1, struct thread_record *record, struct bucket *bucket,
                     size_t bytes, pln_ms now);

#endif
