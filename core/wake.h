/* SPDX-License-Identifier: MIT
 *
 * wake.h - private to core: how a cache begins its work, in each process anew, and who does it; a
 * part of engine.h, which includes it.
 *
 *   wake.c      threads and connections, at the first need
 *   worker.c    threads that run jobs, and callers in their place where there can be none
 *   step.c      the engine's work, done by its callers
 *   registry.c  engines by name
 *
 * An open cache sleeps: it has no threads and no connections. What needs them wakes it: a read past
 * L1, a write, whoever asks how it fares. A hit in L1 does not look. A child of fork() finds each
 * cache asleep, and wakes it for itself.
 *
 * Label:
 *   W1  awake / seen to be: the client of L2, and what else was begun, comes before (wake.c)
 */
#ifndef PLN_WAKE_H
#define PLN_WAKE_H

#include "engine.h"

struct pln_start; /* opaque: what a cache is begun with */

/* Keeps the options, with copies of their texts, and how L2 is made (NULL: there is none), which
 * must be possible in every child, too. */
int pln_start_new(const struct pln_options *resolved, pln_l2_maker make, void *arg,
                  struct pln_start **start);
void pln_start_free(struct pln_start *start);
const struct pln_options *pln_start_options(const struct pln_start *start);
/* Makes the cache's client of L2, which connects to nothing yet. Returns: as the maker. */
int pln_start_l2(struct pln_cache *cache);
/* By a worker, or a caller in its place, now and then: begins what could not be begun at first. */
void pln_start_again(struct pln_cache *cache);
void pln_start_freeze(struct pln_start *start);
/* In a child the cache is asleep, without a client. */
void pln_start_thaw(struct pln_cache *cache, bool is_child);

struct pln_l2 *pln_wake_slowly(struct pln_cache *cache);
/* Returns whether this call woke it: then its sources of events follow the policy in force. */
bool pln_wake_first(struct pln_cache *cache);

static inline bool pln_is_awake(const struct pln_cache *cache) {
    /* W1 acquire: pairs with pln_wake_slowly() */
    return atomic_load_explicit(&cache->is_awake, memory_order_acquire);
}

/* Before a stamp is taken of what is to be read or written: a link that comes up voids it. */
static inline void pln_wake(struct pln_cache *cache) {
    if (__builtin_expect(!pln_is_awake(cache), 0)) {
        pln_wake_slowly(cache);
    }
}

/* The client of L2, NULL where there is none; wakes the cache. */
static inline struct pln_l2 *pln_cache_l2(struct pln_cache *cache) {
    return __builtin_expect(pln_is_awake(cache), 1) ? cache->l2 : pln_wake_slowly(cache);
}

/* The same, but wakes nobody: in a child of fork() there may be none yet. */
struct pln_l2 *pln_start_client(struct pln_cache *cache);

/* ---- open.c ---- */

int pln_cache_make_l2(struct pln_cache *cache, const struct pln_options *options, pln_l2_maker make,
                      void *arg, struct pln_l2 **l2);

/* ---- worker.c ---- */

/* A job runs once, on a worker whose number it is given, and frees itself. */
struct pln_job {
    struct pln_job *next;
    void (*run)(struct pln_job *job, unsigned worker);
    void (*drop)(struct pln_job *job); /* in the place of run, when the cache closes */
    /* what it does, for people; NULL: it is a call */
    void (*describe)(const struct pln_job *job, char *text, size_t size);
};

struct pln_workers;

/* A pool of n threads, of which none runs yet; 0: there will be none, and one caller. */
int pln_workers_new(struct pln_cache *cache, unsigned n, struct pln_workers **workers);
/* Starts those that do not run. Returns whether all do. */
bool pln_workers_start(struct pln_workers *workers);
/* Lets no job begin any more, and waits for those that run. False: at the deadline some still do;
 * the text says which. */
bool pln_workers_stop(struct pln_workers *workers, pln_ns deadline, char *text, size_t size);
/* Drops what is queued, and waits for what runs. */
void pln_workers_free(struct pln_workers *workers);
/* Queues a job; PLN_EBUSY where the queue is full (the job is still the caller's). Urgent ones
 * (somebody waits) go before those that run behind; where a worker submits one, or there are no
 * threads, it has run when this returns. */
int pln_workers_submit(struct pln_workers *workers, struct pln_job *job, bool is_urgent);
size_t pln_workers_depth(struct pln_workers *workers);
void pln_workers_freeze(struct pln_workers *workers);
/* A child has no threads yet, and nothing queued. */
void pln_workers_thaw(struct pln_workers *workers, bool is_child);

/* Whether callers are to do the work, since no thread runs. Threads: any; a hint. */
bool pln_workers_are_callers(const struct pln_workers *workers);
/* By a caller in a worker's place: runs one job. False where there is none, or others are at work.
 */
bool pln_workers_work(struct pln_workers *workers);
/* By a worker that waits in the midst of a job for what another one may have to do first: runs an
 * urgent one. False where there is none, or the caller is no worker. */
bool pln_workers_help(struct pln_workers *workers);
/* The same with what is done once a second, where it is time to. Returns when it is the next time.
 */
pln_ns pln_workers_keep_house(struct pln_workers *workers);

/* ---- step.c ---- */

/* Some of the engine's work at the end of a call, where callers are to do it: what takes a few
 * milliseconds, and one job where the caller has time. */
void pln_step_a_little(struct pln_cache *cache, bool has_time);

/* ---- registry.c ---- */

struct pln_engine; /* opaque: a cache that is found by its name */

/* Gives back a user's reference. Returns whether it was the last: then the cache is to be ended. */
bool pln_engine_leave(struct pln_engine *engine);
void pln_engines_freeze(void);
void pln_engines_thaw(bool is_child);

/* ---- options.c ---- */

/* A copy with texts of its own; what it has where this fails is to be ended, too. */
int pln_options_copy(const struct pln_options *options, struct pln_options *copy);
void pln_options_fini(struct pln_options *copy);
/* Whether two ways of writing, as given, are the same; the second may be NULL. */
bool pln_writing_equal(const struct pln_write_options *a, const struct pln_write_options *b);
/* Whether something is given in the place of what runs that differs; then PLN_EINVAL, naming the
 * option and both values. What is not given (zero) does not differ. */
int pln_options_compare(const struct pln_options *running, const struct pln_options *given);

#endif
