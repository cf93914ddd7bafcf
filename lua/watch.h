/* SPDX-License-Identifier: MIT
 *
 * watch.h - `perilune watch`: processes that write and read through caches of their own, and what
 * they share.
 *
 *     watch_given.c   the command: its options
 *     watch.c         the parent that forks, hears of faults, judges
 *     watch_work.c    a child: a cache, threads that write and read, one that looks at the link
 *     watch_judge.c   what a read may bring
 *     watch_report.c  what is told of it, each second and at the end
 *
 * What is shared is mapped before the first fork, at the same place in all. A child may be killed
 * at any point, so all locks are robust, and whoever finds one left locked goes on: nothing under
 * them is ever half done in a way that matters.
 */
#ifndef PLN_LUA_WATCH_H
#define PLN_LUA_WATCH_H

#include "watch_judge.h"

#include <pthread.h>
#include <stdio.h>
#include <sys/types.h>

enum {
    PLN_WATCH_PROCESSES = 64,
    PLN_WATCH_NOTES = 16384, /* of a process that the parent has not yet taken */
    PLN_WATCH_URL = 512,
};

/* What a key is for: who is its store of record, and how a new version is made known. */
enum pln_watch_kind {
    PLN_WATCH_DELETE, /* a source behind a loader; deleted from the cache after each commit */
    PLN_WATCH_TAG,    /* likewise, by its tag */
    PLN_WATCH_EXPIRE, /* likewise, made stale */
    PLN_WATCH_RECORD, /* Redis is the store of record; set */
    PLN_WATCH_N_KINDS,
};

struct pln_watch_key {
    pthread_mutex_t writer; /* one at a time; held over the call to the cache */
    pthread_mutex_t lock;   /* guards all below */
    uint64_t version;       /* committed to the source, or tried */
    struct pln_truth truth;
};

/* What a child tells of. */
enum pln_watch_news {
    PLN_WATCH_OLD_READ,
    PLN_WATCH_LINK_UP,
    PLN_WATCH_LINK_DOWN,
    PLN_WATCH_STALL, /* it did not run though it should have */
};

struct pln_watch_note {
    enum pln_watch_news news;
    pln_ns at, until; /* until: of a stall */
    struct pln_old_read read;
};

struct pln_watch_counts {
    uint64_t reads, unanswered, writes, refused;
    uint64_t wrong; /* values that were never written, or of another key */
};

struct pln_watch_process {
    pthread_mutex_t lock; /* guards all below */
    bool must_stop;
    uint32_t life; /* of this child, unique in the run: it is the writer of its versions */
    struct pln_watch_counts counts;
    pln_ns stalled;  /* the longest time lately that a thread slept beyond its due */
    char wrong[160]; /* the first wrong value */
    size_t n_written, n_taken;
    struct pln_watch_note notes[PLN_WATCH_NOTES];
};

struct pln_watch_settings {
    struct pln_options options; /* of each cache; its texts are the caller's */
    unsigned processes, threads, keys;
    pln_ms lasts, pace;
    double writes; /* share of the operations */
    struct pln_bounds bounds;
    bool wants_json;
    uint32_t run; /* is in each key's name, so that runs do not meet */
};

struct pln_watch {
    struct pln_watch_settings settings;
    struct pln_watch_key *keys;          /* shared */
    struct pln_watch_process *processes; /* shared */
    pid_t pids[PLN_WATCH_PROCESSES];     /* the parent's, as all below; 0: has ended */
    uint32_t n_lives;
    struct pln_judge *judge;
    pln_ns began;
    uint64_t n_crashes, n_hung;
    size_t n_told[PLN_N_PHASES]; /* reads beyond their bound */
    struct {
        pln_ns at, stall; /* of the last line; the longest stall so far */
        struct pln_watch_counts counts;
    } told;
};

/* ---- watch_work.c ---- */

int pln_watch_lock(pthread_mutex_t *lock); /* robust; as pthread_mutex_lock() */
void pln_watch_unlock(pthread_mutex_t *lock);
enum pln_watch_kind pln_watch_kind_of(unsigned key);
const char *pln_watch_kind_name(enum pln_watch_kind kind);
/* The life of a child: returns its exit code once it is told to stop. Its process is its own. */
int pln_watch_work(struct pln_watch *watch, unsigned process);

/* ---- watch_report.c ---- */

/* The sum over all processes. */
void pln_watch_sum(struct pln_watch *watch, struct pln_watch_counts *counts);
/* A line on standard error about the second that has passed. */
void pln_watch_tell_second(struct pln_watch *watch, pln_ns now);
/* The first few reads beyond their bound, in full. */
void pln_watch_tell_read(struct pln_watch *watch, const struct pln_old_read *read);
/* The table, or JSON, on standard output. True where all was as it should be. */
bool pln_watch_tell_all(struct pln_watch *watch);

/* ---- watch.c ---- */

/* All of it, from the first fork to the table. Its settings are set. Returns the exit code. */
int pln_watch_run(struct pln_watch *watch);

#endif
