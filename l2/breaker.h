/* SPDX-License-Identifier: MIT
 *
 * breaker.h - private to this folder: whether callers are let through to a node, and how often what
 * changes is told.
 */
#ifndef PLN_L2_BREAKER_H
#define PLN_L2_BREAKER_H

#include "l2.h"

#include <pthread.h>

/* From `backoff` to the next one, and a random point in it to wait for. */
pln_ns pln_backoff_next(pln_ns *backoff);

/* Tells of changes to and fro, but not of each where they come fast: a pair of lines in four
 * seconds, and how many were left out. */
struct pln_hush {
    bool is_told, is_owed; /* the change for the worse */
    pln_ns quiet_until;
    unsigned n_left_out;
};

/* It is down, or still is. Returns whether to say so, and of how many more times before. */
bool pln_hush_down(struct pln_hush *hush, unsigned *n_left_out);
/* It is up again. Returns whether to say so. */
bool pln_hush_up(struct pln_hush *hush);

/* How a caller's turn ended. */
enum pln_outcome {
    PLN_ANSWERED,
    PLN_LATE,    /* no answer in time */
    PLN_BROKEN,  /* the connection was lost */
    PLN_REFUSED, /* there was none to be had */
};

enum { PLN_BREAKER_SECONDS = 10 };

/* One second in which commands were late. */
struct pln_breaker_second {
    pln_ns begin;
    uint64_t n_answered; /* of all times, when the first of them was */
    unsigned n_late;
};

struct pln_breaker {
    const struct pln_host *host;
    struct pln_counts *counts;

    pthread_mutex_t lock;        /* guards all below */
    _Atomic unsigned n_failures; /* in a row; read without the lock, to see whether there are any */
    atomic_bool is_open;         /* likewise */
    uint32_t probe, n_probes;    /* who tries now, by number; 0: nobody */
    pln_ns backoff, retry_at, closed_at;
    pln_ns deaf_until; /* answers before that close nothing */
    struct pln_breaker_second seconds[PLN_BREAKER_SECONDS];
    struct pln_hush hush;
    char reason[256];
};

void pln_breaker_init(struct pln_breaker *breaker);
void pln_breaker_fini(struct pln_breaker *breaker);
static inline bool pln_breaker_is_open(struct pln_breaker *breaker) {
    /* relaxed: it may change at any time */
    return atomic_load_explicit(&breaker->is_open, memory_order_relaxed);
}
/* Return PLN_EL2DOWN while it is open, and it is nobody's turn to try. Who claims while it is open
 * is the one to try, and gets a number; its outcome decides. Who is admitted goes over a connection
 * that another has; who looks leaves it to another to claim. */
int pln_breaker_admit(struct pln_breaker *breaker);
int pln_breaker_look(struct pln_breaker *breaker);
int pln_breaker_claim(struct pln_breaker *breaker, uint32_t *probe);
/* An answer came in time. */
void pln_breaker_praise(struct pln_breaker *breaker, const char *label);

struct pln_turn_end {
    enum pln_outcome outcome; /* where it is a failure, its text is that of the last failure */
    uint32_t probe;           /* as claimed; 0 of others */
    unsigned n_late;          /* commands */
    uint64_t n_answered;      /* commands of all times; looked at where any is late */
};

void pln_breaker_end(struct pln_breaker *breaker, const struct pln_turn_end *end,
                     const char *label);

#endif
