/* SPDX-License-Identifier: MIT
 *
 * load.h - callers that go on working while a test does harm to the server, and that know what
 * they may be told.
 *
 * Each thread owns some keys: it sets them, reads them alone and together, and stores through
 * leases. A value says its key and a version that only grows. So every answer can be judged: it
 * must be of that key, and no older than the last version that was acknowledged or seen; what was
 * tried later and not acknowledged may be there or not.
 */
#ifndef PLN_TEST_LOAD_H
#define PLN_TEST_LOAD_H

#include "../../l2/l2.h"

#include <pthread.h>

enum { LOAD_THREADS = 8, LOAD_KEYS = 6, LOAD_STATUSES = 48 };

struct load_key {
    char name[24];
    long least; /* the last version acknowledged or seen; 0: none */
    long last;  /* the last one tried */
    bool has_gone_back;
};

struct load_thread {
    struct load *load;
    pthread_t thread;
    unsigned number;
    struct load_key keys[LOAD_KEYS];
};

struct load {
    struct pln_l2 *l2;
    _Atomic int patience_ms; /* deadline of each call */
    atomic_bool may_lose;    /* the server may forget: a key may be missing */
    atomic_bool may_go_back; /* to an older version, each key once: a replica has taken over */
    size_t n_threads;
    size_t value_bytes; /* about; 0 for short values */
    atomic_bool is_stopping;

    pthread_mutex_t lock;     /* guards all below */
    pthread_cond_t moved;     /* broadcast with each count */
    long n_of[LOAD_STATUSES]; /* outcomes, by status + LOAD_STATUSES / 2 */
    long n_calls, n_ok;
    long n_wrong, n_late, n_lost;
    char complaint[512];          /* the first thing that was not right */
    char failure[PLN_ERROR_TEXT]; /* the last failure's text */
    struct load_thread threads[LOAD_THREADS];
};

/* Starts the threads; the caller has set l2, patience_ms, n_threads (and what is not zero). */
void load_start(struct load *load);
/* Both may be changed under way. */
void load_set_patience(struct load *load, int ms);
void load_let_lose(struct load *load);
void load_let_fail_over(struct load *load);
/* Starts them again over another client, knowing what they knew. */
void load_go_on(struct load *load, struct pln_l2 *l2, int patience_ms);
/* Waits until so many more calls have come back well, or have ended with a status; fails the test
 * after 20 seconds. */
void load_await_ok(struct load *load, long n);
void load_await(struct load *load, int status, long n);
long load_count(struct load *load, int status);
/* Ends the threads, and fails the test where an answer was wrong, a call came back more than two
 * seconds after its deadline, or something acknowledged was gone. */
void load_stop(struct load *load);
/* Reads every key once more, when the fault is over: what was acknowledged is there. Fails the
 * test otherwise; tries until the server answers. */
void load_check(struct load *load);

#endif
