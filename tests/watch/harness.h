/* SPDX-License-Identifier: MIT
 *
 * harness.h - what a run of the watcher under faults consists of, and what can go wrong in it.
 */
#ifndef PLN_TEST_HARNESS_H
#define PLN_TEST_HARNESS_H

#include "../l2/sentinels.h"
#include "../l2/server.h"
#include "wire.h"

#include <pthread.h>
#include <stdint.h>
#include <stdio.h>
#include <time.h>

enum {
    HARNESS_ARGS = 64,
    HARNESS_ONLY = 256,
    HARNESS_KEPT = 100000, /* bytes that the server keeps for a subscriber */
};

struct harness {
    struct server server;
    struct wire *wire;               /* to it */
    struct test_sentinels sentinels; /* in the place of both */
    pid_t watcher;
    FILE *orders, *result; /* to its input; from its output, where that must be looked at */
    unsigned n_processes;
    double lasts, every;     /* seconds */
    char only[HARNESS_ONLY]; /* ",a,b,"; "": all */
    bool forgets, must_find, fails_over;
    uint64_t dice;
    const char *args[HARNESS_ARGS]; /* the watcher's */
    size_t n_args;
    pthread_t monitor;
    pthread_mutex_t lock; /* guards all below, and the order of what is written to `orders` */
    bool is_over, is_monitored;
    unsigned n_harms; /* begun and ended: odd while one is in force */
};

static inline void nap_ms(long ms) {
    struct timespec time = {ms / 1000, ms % 1000 * 1000000};
    nanosleep(&time, NULL);
}

long long now_ns(void);

/* ---- harm.c ---- */

/* Does something of what is wanted, announced to the watcher, and undoes it. */
void harness_do_harm(struct harness *harness);
/* False where nothing is left to do. */
bool harness_has_harm(const struct harness *harness);

#endif
