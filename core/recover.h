/* SPDX-License-Identifier: MIT
 *
 * recover.h - private to what deals with operations that failed: kept.c (one, and the tables in
 * which they wait), recover.c (which wait, and for how long), redo.c (carrying them out).
 */
#ifndef PLN_RECOVER_H
#define PLN_RECOVER_H

#include "engine.h"

#define HASH_NONFATAL_OOM 1
#include <uthash.h>

struct pln_kept {
    UT_hash_handle hh;
    enum pln_attempt_kind kind;
    bool is_contested; /* somebody may have deleted the key since */
    unsigned n_looks;  /* how often messages were on their way when it was to be carried out */
    uint64_t round;    /* of the last of these times */
    uint64_t ticket;
    pln_ms at;
    struct pln_l2_item item; /* of a set, as of `at`; its bytes are in `memory` */
    void *memory;
    size_t memory_bytes;
    struct pln_hashed key; /* or tag; its bytes follow */
    char bytes[];
};

/* NULL where memory is out; a set whose value finds none becomes a delete. */
struct pln_kept *pln_kept_new(const struct pln_attempt *attempt);
void pln_kept_free(struct pln_kept *kept);
/* A set becomes a delete; before it is in a table. */
void pln_kept_forget_value(struct pln_kept *kept);
size_t pln_kept_bytes(const struct pln_kept *kept);
bool pln_kept_has_tag(const struct pln_kept *kept, struct pln_bytes tag);

/* Zeroed: empty. */
struct pln_backlog {
    struct pln_kept *by_key, *by_tag;
    size_t bytes;
};

struct pln_kept *pln_backlog_find(struct pln_backlog *backlog, enum pln_attempt_kind kind,
                                  struct pln_bytes key);
/* Returns false where memory is out. The key (or tag) is not in it. */
bool pln_backlog_add(struct pln_backlog *backlog, struct pln_kept *kept);
void pln_backlog_remove(struct pln_backlog *backlog, struct pln_kept *kept);
/* The oldest: of the tags, then of the keys. */
struct pln_kept *pln_backlog_first(struct pln_backlog *backlog);
size_t pln_backlog_count(const struct pln_backlog *backlog);
/* `visit` may remove what it is shown. */
void pln_backlog_each(struct pln_backlog *backlog, void (*visit)(void *, struct pln_kept *),
                      void *arg);

enum { PLN_FIRST_PAUSE_MS = 100 }; /* before a second attempt */

struct pln_recovery {
    struct pln_cache *cache;
    size_t most, most_bytes;
    _Atomic uint64_t tickets; /* given so far: the order in which operations began */
    _Atomic size_t n_waiting;
    pthread_mutex_t lock; /* over: */
    pthread_cond_t changed;
    struct pln_backlog backlog;
    struct pln_kept *under_way; /* of the backlog; freed by nobody else meanwhile */
    uint64_t clear;             /* the ticket of the one that waits, or 0 */
    uint64_t bar;               /* sets up to here bring no key back */
    bool is_linked, is_busy, is_ending;
    uint64_t round; /* of carrying out what waits */
    pln_ns due;     /* when to try again */
    pln_ms pause;
    uint64_t n_ended; /* since the queue was last empty */
};

/* Change what waits; the first counts it where that was done otherwise. Under the lock. */
void pln_recovery_count_locked(struct pln_recovery *recovery);
void pln_recovery_remove_locked(struct pln_recovery *recovery, struct pln_kept *kept);
bool pln_recovery_add_locked(struct pln_recovery *recovery, struct pln_kept *kept);

#endif
