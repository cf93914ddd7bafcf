/* SPDX-License-Identifier: MIT
 *
 * warm.h - private to core: the rooms of warming and their doors to each other.
 *
 *   warm.c        a warming from its beginning to its report, and the watch over its threads
 *   warm_read.c   what each of them does: taking keys, reading, loading
 *   warm_list.c   gathering the keys
 *   warm_fleet.c  of several instances one loads
 *   previous.c    the hottest keys, saved for those who start next
 *   readiness.c   whether the cache is warm; warming in a thread of its own
 *   systemd.c     messages to the service manager
 */
#ifndef PLN_WARM_H
#define PLN_WARM_H

#include "named.h"

/* ---- warm_list.c ---- */

struct pln_warm_key {
    struct pln_bytes key; /* its bytes are the list's */
    uint32_t source;      /* the place of its row */
};

struct pln_warm_row {
    char *name;
    bool may_be_gone; /* it names what was there once: a key that is nowhere is not wanted */
    struct pln_warm_report report;
};

struct pln_warm_list {
    struct pln_warm_key *keys;
    size_t n, room, most;
    uint32_t *slots; /* places of keys by their hash, so that each is there once; 0: free */
    size_t n_slots;  /* a power of two */
    struct pln_warm_row *rows; /* of the sources, in the order in which they were read */
    size_t n_rows;
};

/* Fills a list from what the options name, or else the ruleset. `worker` is the number under which
 * functions of the policy are called. Returns: PLN_OK, or why a source cannot be read; the list is
 * to be ended in either case. */
int pln_warm_gather(struct pln_cache *cache, const struct pln_ruleset *ruleset,
                    const struct pln_warm_options *options, unsigned worker,
                    struct pln_warm_list *list);
void pln_warm_list_fini(struct pln_warm_list *list);

/* ---- warm_fleet.c ---- */

/* One instance's part in a warming of several. */
struct pln_warm_fleet {
    struct pln_cache *cache;
    struct pln_named name; /* of what is said of the leader in Redis */
    char token[PLN_LOCK_TOKEN];
    bool is_alone; /* there is no Redis to meet others at */
    bool is_leading;
};

/* What is warmed says whom it is warmed with: instances that name the same sources. */
void pln_warm_fleet_init(struct pln_warm_fleet *fleet, struct pln_cache *cache,
                         const struct pln_ruleset *ruleset, const struct pln_warm_options *options);
/* Takes or keeps the lead and says how far this instance is, or learns how far the leader is: of
 * the first *done keys each is loaded, or has failed. Sets is_leading. */
void pln_warm_fleet_meet(struct pln_warm_fleet *fleet, size_t *done);
/* Gives the lead back. */
void pln_warm_fleet_leave(struct pln_warm_fleet *fleet);

/* ---- previous.c ---- */

/* The name of the sorted set in Redis. */
int pln_previous_name(const struct pln_cache *cache, struct pln_named *name);
/* Saves the hottest keys where the policy has a source `previous` and it is time to; returns when
 * to call again. Threads: the first worker. */
pln_ns pln_previous_run(struct pln_cache *cache);
/* The same whatever the time, at the cache's end. */
void pln_previous_finish(struct pln_cache *cache);

/* ---- readiness.c ---- */

struct pln_readiness; /* opaque */

int pln_readiness_new(struct pln_readiness **readiness);
/* Has a warming end with the loads that it is at; false: at the deadline it has not. */
bool pln_readiness_stop(struct pln_readiness *readiness, pln_ns deadline);
/* Stops a warming that runs in a thread of its own. */
void pln_readiness_free(struct pln_readiness *readiness);
void pln_readiness_freeze(struct pln_readiness *readiness);
void pln_readiness_thaw(struct pln_readiness *readiness, bool is_child);
/* Tells how far a warming is. False where the cache is being closed. */
bool pln_readiness_tell(struct pln_readiness *readiness, const struct pln_warm_report *report);

/* ---- warm_read.c ---- */

struct pln_warm_thread {
    struct pln_warming *warming;
    pthread_t thread;
    unsigned worker;
    size_t low;     /* of its batch; SIZE_MAX: none */
    size_t at_once; /* loads that share their round trips */
};

/* One warming, shared by its threads. */
struct pln_warming {
    struct pln_cache *cache;
    const struct pln_warm_options *options;
    struct pln_warm_list list;
    unsigned n_threads;
    double rate, ready_at;
    pln_ns began, deadline;
    pthread_mutex_t lock; /* over: */
    pthread_cond_t changed;
    struct pln_warm_thread *threads;
    size_t next;    /* of the list; before it all is taken */
    size_t limit;   /* of the list, for now: what the leader is through with */
    uint32_t *late; /* places that were passed over, to be read again when this instance leads */
    size_t n_late, next_late;
    pln_ns next_at; /* when the rate allows the next load */
    unsigned n_running;
    bool is_leading, is_stopped;
    struct pln_warm_report report;
};

/* A thread's whole life; `arg` is a struct pln_warm_thread. */
void *pln_warm_thread(void *arg);

/* ---- warm.c ---- */

/* What pln_warm() does once it is sure to be the only one. */
int pln_warm_run(struct pln_cache *cache, const struct pln_warm_options *options,
                 struct pln_warm_report *report);

#endif
