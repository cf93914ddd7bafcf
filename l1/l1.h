/* SPDX-License-Identifier: MIT
 *
 * l1.h - the in-process tier: a bounded map from byte strings to byte strings with deadlines,
 * read without locks and without waiting. It knows nothing of caches, policies or Redis.
 *
 *     hash ──► half a bucket: 8 slots, one line ──► entry (header + key + value, one block)
 *
 *   l1.c      the facade: limits, generations, the two-phase store
 *   table.c   reading
 *   rival.c   the entries of one key: storing, overwriting and removing, with the argument
 *   entry.c   how an entry is written, and what its life says
 *   change.c  new times, claims, the sweep, usage
 *   each.c    going through all entries
 *   evict.c   who goes when the budget is used up
 *   hot.c     the hottest keys, from a sample of the hits
 *   adapt.c   what eviction "adaptive" learns
 *   slab.c    memory for entries
 *   drain.c   memory of the right size
 *   resize.c  another table in the place of the present one
 *   epoch.c   when memory that a reader may still see is given back
 *
 * A reader writes no shared line unless recency has to change, at most once a tick and entry. A
 * writer stopped at any point keeps nobody else from finishing.
 */
#ifndef PLN_L1_H
#define PLN_L1_H

#include "../core/base/base.h"
#include "../core/base/stats.h"

struct pln_l1;

enum pln_l1_eviction {
    PLN_L1_LRU,      /* the least recently used of a sample */
    PLN_L1_ADAPTIVE, /* by frequency and recency, as the requests teach (adapt.c) */
    PLN_L1_FIFO,     /* the oldest of a sample */
    PLN_L1_RANDOM,
    PLN_L1_NONE, /* refuse what does not fit */
};

/* How keys are hashed, as the caller does it: l1 hashes anew what it finds in its own memory. */
typedef uint64_t (*pln_l1_hash)(struct pln_bytes key, uint64_t seed);

struct pln_l1_options {
    size_t max_bytes;      /* table, entries and their slack */
    size_t max_entries;    /* 0: no bound but the bytes */
    size_t max_item_bytes; /* larger values are refused */
    enum pln_l1_eviction eviction;
    double absent_share;       /* of max_bytes, at most for entries that are absent; 0: no bound */
    bool weighs_bytes;         /* of two equally old entries the larger goes first */
    pln_l1_hash hash;          /* NULL: pln_hash() */
    uint64_t seed;             /* for it */
    struct pln_counts *counts; /* borrowed; insert, replace, remove, evict, expire, refuse */
    /* An entry may carry marks: indices into this array of counters. It is dead once one of them
     * is over the stamp it was stored with (tags are built on this). Borrowed. */
    const _Atomic uint64_t *marks;
};

/* The points in an entry's life, all on the caller's clock; PLN_FOREVER allowed in the last three.
 * created <= refresh <= stale <= end. */
struct pln_l1_life {
    pln_ms created; /* when its value was loaded or set */
    pln_ms refresh; /* from here on a hit says so: reload behind */
    pln_ms stale;   /* from here on it is past its ttl */
    pln_ms end;     /* from here on it is gone */
};

struct pln_l1_item {
    struct pln_bytes value;
    struct pln_l1_life life;
    uint64_t mark_stamp;
    const uint16_t *marks;
    uint32_t generation;
    uint8_t n_marks;
    uint8_t format;  /* the caller's, handed back */
    uint8_t weight;  /* of two entries of this priority it counts as 1 + weight times younger */
    int8_t priority; /* what has a lower one goes first */
    bool is_absent;  /* the caller's, handed back: "does not exist" */
};

/* What a find tells of the entry it found. */
struct pln_l1_hit {
    struct pln_l1_life life;
    size_t len;
    uint32_t generation;
    uint8_t format;
    bool is_absent;
    uint32_t kept_as; /* how life.created was, for: */
};

/* The earliest moment at which what was found may have been made: `created` is kept in steps, and
 * rounded up to one. */
pln_ms pln_l1_earliest(const struct pln_l1_hit *hit);

int pln_l1_new(const struct pln_l1_options *options, struct pln_l1 **l1);
void pln_l1_free(struct pln_l1 *l1);

/* The current generation; starts at 0. An entry serves while its own equals it, or is one less and
 * the current one is odd (the caller then treats it as of doubtful freshness); all others are gone.
 * It grows, by at most 16384 at once. Threads: any may ask, one at a time may set. */
uint32_t pln_l1_generation(const struct pln_l1 *l1);
void pln_l1_set_generation(struct pln_l1 *l1, uint32_t generation);

enum pln_l1_get_flags { PLN_L1_QUIET = 1 /* leave recency alone */ };

/* Finds a live entry and copies its first `size` bytes to `buffer`.
 * Returns: PLN_OK (hit->len tells the whole length), PLN_MISS. Threads: any, wait-free. */
int pln_l1_get(struct pln_l1 *l1, const struct pln_hashed *key, pln_ms now, unsigned flags,
               void *buffer, size_t size, struct pln_l1_hit *hit);

/* Finds a live entry and lends it. Owns: *value is the caller's until pln_l1_release(), and stays
 * readable also after the entry was removed. Threads: any, lock-free. */
int pln_l1_borrow(struct pln_l1 *l1, const struct pln_hashed *key, pln_ms now, unsigned flags,
                  struct pln_l1_hit *hit, struct pln_value **value);
void pln_l1_release(struct pln_l1 *l1, struct pln_value *value);

/* The marks of the key's live entry, for one that takes its place, and the stamp that they were
 * stored with. Returns: how many. Threads: any, wait-free. */
size_t pln_l1_marks(struct pln_l1 *l1, const struct pln_hashed *key, pln_ms now, uint64_t *stamp,
                    uint16_t marks[PLN_MAX_TAGS]);

/* As n times pln_l1_borrow, with the memory of many keys asked for together; statuses[i] is PLN_OK
 * or PLN_MISS. */
void pln_l1_borrow_many(struct pln_l1 *l1, const struct pln_hashed *keys, size_t n, pln_ms now,
                        struct pln_l1_hit *hits, struct pln_value **values, int *statuses);

/* Asked twice during a put: before the entry is linked, and after it is linked but not yet visible
 * (with a seq_cst fence between). False withdraws it. Must be quick and must not use the table. */
typedef bool (*pln_l1_check)(const void *arg);

/* Of entries that are absent the oldest of a sample goes, where they have their share; a put is
 * refused (PLN_EBUSY) where none is found.
 *
 * Stores an entry in the place of the key's present one, in two steps: linked where no reader
 * returns it, checked, then made visible or withdrawn. A remove that runs meanwhile withdraws it
 * too. `check` may be NULL.
 * Returns: PLN_OK, PLN_NOT_STORED (the check said no, or it was removed meanwhile); PLN_ETOOBIG,
 * PLN_EBUSY (budget: eviction "none", or memory waiting for readers), PLN_ENOMEM: the key's present
 * entry stays as it was. Threads: any, lock-free. */
int pln_l1_put(struct pln_l1 *l1, const struct pln_hashed *key, const struct pln_l1_item *item,
               pln_ms now, pln_l1_check check, const void *check_arg);

/* Ends every entry of the key, pending ones included: after it returns no find returns any that
 * was linked before it was called. Returns: PLN_OK, PLN_MISS; PLN_ENOMEM (a thread's first use of
 * the table): nothing was removed, and the caller must see to it that nothing old is served.
 * Threads: any, lock-free. */
int pln_l1_remove(struct pln_l1 *l1, const struct pln_hashed *key);

/* Makes every entry of the key stale from `now` on, where it is not; ends those that are pending:
 * after it returns no find returns any as fresh that was linked before it was called. Returns, and
 * Threads: as pln_l1_remove(). */
int pln_l1_expire(struct pln_l1 *l1, const struct pln_hashed *key, pln_ms now);

/* As pln_l1_remove() for every key that is wanted, one after the other: after it returns no find
 * returns an entry of such a key that was linked before it was called. Entries that come meanwhile
 * stay or go. `wanted` must not use the table; it is asked of a key more than once. Its time is
 * that of a look at the whole table. Returns: PLN_OK, PLN_ENOMEM (as above). Threads: any,
 * lock-free. */
typedef bool (*pln_l1_wanted)(const void *arg, struct pln_bytes key);
int pln_l1_remove_each(struct pln_l1 *l1, pln_l1_wanted wanted, const void *arg);

/* Moves a live entry's points in time earlier or later, in place. Points are those of a
 * pln_l1_life; `created` is kept. An entry that was stored with one point alone (refresh, stale and
 * end the same) has but one later: it lives until `stale`. Returns: PLN_OK, PLN_MISS. Threads: any,
 * lock-free. */
int pln_l1_retime(struct pln_l1 *l1, const struct pln_hashed *key, pln_ms now, pln_ms refresh,
                  pln_ms stale, pln_ms end);

/* The same for an entry that is still stale at `former`, where that is yet to come: one that was
 * expired or replaced meanwhile is left alone. Returns, and Threads: likewise. */
int pln_l1_prolong(struct pln_l1 *l1, const struct pln_hashed *key, pln_ms now, pln_ms former,
                   const struct pln_l1_life *life);

/* True for one caller of all that see an entry due for refresh; the others are to leave it alone.
 * A put or retime opens it again. Threads: any, wait-free. */
bool pln_l1_claim_refresh(struct pln_l1 *l1, const struct pln_hashed *key);

/* Lets the next one claim it, where nothing came of the refresh; its points in time are left alone.
 * Threads: any, wait-free. */
void pln_l1_unclaim_refresh(struct pln_l1 *l1, const struct pln_hashed *key);

/* Gives memory of ended entries back, looking at up to `n_buckets` from where the last sweep
 * stopped. Returns: entries freed. Threads: any. */
size_t pln_l1_sweep(struct pln_l1 *l1, pln_ms now, size_t n_buckets);

/* True while the table is being replaced by one of another size, which sweeps bring to its end: the
 * next one is wanted soon. Threads: any. */
bool pln_l1_is_replacing(const struct pln_l1 *l1);

/* Calls `visit` for each live entry whose key begins with `prefix`; false stops. A key that is
 * there all the time is visited exactly once; one that comes or goes meanwhile once or not. `visit`
 * must not use the table. Returns: PLN_OK, PLN_ENOMEM. Threads: any, lock-free. */
typedef bool (*pln_l1_visit)(void *arg, struct pln_bytes key, const struct pln_l1_hit *hit);
int pln_l1_each(struct pln_l1 *l1, pln_ms now, struct pln_bytes prefix, pln_l1_visit visit,
                void *arg);

/* Calls `visit` for the hottest keys of late, at most `n`, hottest first, as far as they are still
 * here; false stops. Estimated from one hit in 16; those of ten million hits ago count half.
 * Budgets under 2 MiB keep no such summary. Threads: any, lock-free. */
struct pln_l1_hot {
    uint64_t requests; /* estimated */
    double share;      /* of all hits */
};
typedef bool (*pln_l1_hot_visit)(void *arg, struct pln_bytes key, const struct pln_l1_hot *hot);
int pln_l1_hottest(struct pln_l1 *l1, pln_ms now, size_t n, pln_l1_hot_visit visit, void *arg);

/* Changes the budget, up to some 16 times the first one. Returns at once: what is over goes, and
 * the table is replaced, a little with each put and more with each sweep. Returns: PLN_OK,
 * PLN_EINVAL (the bounds are in the text), PLN_ENOMEM. Threads: any. */
int pln_l1_resize(struct pln_l1 *l1, size_t max_bytes);

/* This thread keeps nothing in the table any more, as at its end; it may come back. To be called by
 * a thread that may end while others free the table. */
void pln_l1_part(struct pln_l1 *l1);

/* To be called in a child after fork(), by its one thread, before anything else uses the table;
 * what threads of the parent were at is ended or given up, and what is lost of it counts as used.
 * Values lent at the fork may be given back or not. Not while this thread is in a callback. */
void pln_l1_after_fork(struct pln_l1 *l1);

struct pln_l1_usage {
    size_t bytes;         /* all that counts against the budget */
    size_t waiting_bytes; /* of these: ended, but a reader may still look at them */
    size_t table_bytes;
    size_t
        held_bytes; /* memory for entries, taken from the system; at most a 16th over the budget */
    size_t absent_bytes; /* of the bytes: live entries that are absent */
    size_t entries;
    size_t max_bytes;
};
void pln_l1_usage(const struct pln_l1 *l1, struct pln_l1_usage *usage);

#endif
