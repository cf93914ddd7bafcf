/* SPDX-License-Identifier: MIT
 *
 * named.h - private to what Redis keeps beside cached values: names in it (named.c), locks (lock.c,
 * redlock.c), limits and counters (limit.c), sessions (session.c).
 */
#ifndef PLN_NAMED_H
#define PLN_NAMED_H

#include "engine.h"

#include <stdatomic.h>

/* ---- named.c ---- */

enum {
    PLN_NAMED_MAX = 512, /* bytes of a lock's, counter's, user's name */
    PLN_NAMED_NUMBER = 24,
};

struct pln_named {
    size_t len;
    char text[1024];
};

/* Joins the cache's namespace, ":k:{" or the like, a name, and what follows it. */
int pln_named_make(const struct pln_cache *cache, const char *before, struct pln_bytes name,
                   const char *after, struct pln_named *made);
static inline struct pln_bytes pln_named_bytes(const struct pln_named *named) {
    return pln_bytes_of(named->text, named->len);
}
struct pln_bytes pln_named_number(int64_t number, char text[PLN_NAMED_NUMBER]);
/* The n integers of an answer. */
int pln_named_integers(const struct pln_reply *reply, const char *what, int64_t *numbers, size_t n);

/* ---- redlock.c ---- */

enum { PLN_LOCK_TOKEN = 33 }; /* 128 bits in hexadecimal, and a zero */

struct pln_lock {
    struct pln_cache *cache;
    struct pln_lock_nodes *nodes; /* a reference; NULL: the cache's Redis alone */
    atomic_uint refs;
    struct pln_named name, fence_name;
    atomic_llong ttl;
    atomic_llong until; /* of pln_lock_clock() */
    int64_t fence;
    char token[PLN_LOCK_TOKEN];
    pid_t owner; /* who took it: a forked child has a copy, and no lock */
};

/* Both are told while others change them; relaxed: each by itself, and nothing else with it. */
static inline pln_ms pln_lock_ttl(const struct pln_lock *lock) {
    return atomic_load_explicit(&lock->ttl, memory_order_relaxed);
}
static inline pln_ns pln_lock_until(const struct pln_lock *lock) {
    return atomic_load_explicit(&lock->until, memory_order_relaxed);
}
static inline void pln_lock_set(struct pln_lock *lock, pln_ms ttl, pln_ns until) {
    /* relaxed: likewise */
    atomic_store_explicit(&lock->ttl, ttl, memory_order_relaxed);
    atomic_store_explicit(&lock->until, until, memory_order_relaxed);
}

/* Servers that locks of other threads may use yet. */
void pln_lock_nodes_keep(struct pln_lock_nodes *nodes);

/* A clock that goes on while the system sleeps, as the servers' do. */
pln_ns pln_lock_clock(void);
/* One try. Sets fence and until. Returns: PLN_OK; PLN_PENDING (*left: for how long at most others
 * have it); PLN_EL2DOWN, PLN_ETIMEOUT and the like, and then nothing is held. */
int pln_lock_grant(struct pln_lock *lock, pln_ms *left);
/* Return PLN_OK; PLN_MISS where it is held no more; negative where too few servers answered. */
int pln_lock_prolong(struct pln_lock *lock, pln_ms ttl);
int pln_lock_give_back(struct pln_lock *lock);

/* ---- lock.c ---- */

/* A lock with nothing held yet, for pln_lock_grant(). */
int pln_lock_make(struct pln_cache *cache, struct pln_bytes name,
                  const struct pln_lock_options *options, struct pln_lock **lock);

/* When a lock is asked for again. */
struct pln_lock_tries {
    pln_ns deadline, longest, pause;
};

struct pln_lock_tries pln_lock_tries_of(const struct pln_lock_options *options);
/* Whether there is another try after one that ended with this status, others having it for `left`
 * more at most; and when, by pln_clock_precise(). */
bool pln_lock_tries_again(struct pln_lock_tries *tries, int status, pln_ms left, pln_ns *when);

/* ---- limit.c ---- */

/* As pln_limit(), at a time of the test's, in microseconds; 0: the server's. */
int pln_limit_at(struct pln_cache *cache, struct pln_bytes name,
                 const struct pln_limit_options *options, int64_t now,
                 struct pln_limit_result *result);

#endif
