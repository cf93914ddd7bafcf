/* SPDX-License-Identifier: MIT
 *
 * crash.h - what the processes of a run of crash.c share, and the doors of its rooms.
 *
 * Each key has one writer, whose writes of it are numbered 1, 2, ...: what a set stores begins with
 * its number, and a write whose number can be divided by CRASH_DELETES is a delete. Some keys are
 * counters instead, which pln_incr() adds to: there the number is the sum. Poison is written to a
 * key of its own each time, so that each is one dead letter.
 *
 * The board lies in memory that outlives who writes to it: what stands there as acknowledged was.
 */
#ifndef PLN_TEST_CRASH_H
#define PLN_TEST_CRASH_H

#include "../../core/perilune.h"
#include "../l2/server.h"
#include "database.h"

#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <time.h>

enum {
    CRASH_WORKERS = 4, /* processes */
    CRASH_WRITERS = 2, /* threads of each; and one that reads */
    CRASH_KEYS = 10,   /* of each writer */
    CRASH_ALL_KEYS = CRASH_WORKERS * CRASH_WRITERS * CRASH_KEYS,
    CRASH_NUMBERS = 1 << 15, /* of a key */
    CRASH_POISONS = 1 << 10, /* of a writer */
    CRASH_DELETES = 7,
    CRASH_KEY = 32, /* bytes */
    CRASH_TIMEOUT_MS = 120,
};

/* Where in the store's call a process can be ended or stopped. */
enum crash_point {
    CRASH_NOWHERE,
    CRASH_BEFORE,
    CRASH_AMID,
    CRASH_BEFORE_COMMIT,
    CRASH_AFTER_COMMIT,
    CRASH_N_POINTS
};

/* What is wrong with the store on purpose, in a try of the harness itself. */
enum crash_mutant {
    CRASH_SOUND,
    CRASH_LOSE,   /* some items are said to be stored, and are not */
    CRASH_LATE,   /* some are stored by a later call, whatever came between */
    CRASH_SWALLOW /* poison is said to be stored */
};

struct crash_key {
    _Atomic uint32_t tried, acked; /* the last numbers */
    _Atomic uint8_t is_acked[CRASH_NUMBERS / 8];
};

struct crash_poison {
    _Atomic uint32_t tried;
    _Atomic uint8_t is_acked[CRASH_POISONS];
    uint8_t n_letters[CRASH_POISONS]; /* set at the end */
};

struct crash_board {
    /* what the harness wants: */
    _Atomic int armed;    /* enum crash_point: who comes by ... */
    _Atomic int signal;   /* ... gets this */
    _Atomic bool is_over; /* nobody writes any more */
    /* what it gets: */
    _Atomic int hit;    /* who came by: 1 + worker */
    _Atomic int storer; /* who called the store last, likewise */
    _Atomic uint64_t n_acked, n_refused, n_reads, n_loads, n_store_calls, n_items;
    _Atomic unsigned n_faults; /* things that must not be */
    /* what was written: */
    struct crash_key keys[CRASH_ALL_KEYS];
    struct crash_poison poisons[CRASH_WORKERS * CRASH_WRITERS];
};

struct crash {
    struct server server;
    char where[160]; /* the database: see database.h */
    bool in_order;
    enum crash_mutant mutant;
    uint64_t dice;
    struct crash_board *board;
};

/* Says what must not be, the first few times, and counts it. */
void crash_fault(const struct crash *crash, const char *format, ...)
    __attribute__((format(printf, 2, 3)));

static inline void crash_nap_us(long us) {
    struct timespec time = {us / 1000000, us % 1000000 * 1000};
    nanosleep(&time, NULL);
}

/* From 0 to `below` - 1, by dice of the caller's. */
static inline uint32_t crash_roll(uint64_t *dice, uint32_t below) {
    *dice = *dice * 6364136223846793005 + 1442695040888963407;
    return (uint32_t) ((*dice >> 33) % below);
}

static inline bool crash_is_counter(unsigned key) {
    return key % 4 == 3;
}

static inline void crash_key_name(unsigned key, char name[CRASH_KEY]) {
    snprintf(name, CRASH_KEY, "key:%u", key);
}

static inline void crash_poison_name(unsigned writer, unsigned number, char name[CRASH_KEY]) {
    snprintf(name, CRASH_KEY, "poison:%u:%u", writer, number);
}

/* ---- crash_store.c ---- */

/* A process's way to the database. */
struct crash_store {
    const struct crash *crash;
    int worker; /* -1: of none */
    uint64_t dice;
    struct database *database;
    struct {
        char key[CRASH_KEY], value[DATABASE_TEXT];
        uint64_t version;
    } kept; /* by CRASH_LATE */
};
int crash_store(void *arg, struct pln_store_item *items, size_t n);

/* ---- crash_worker.c ---- */

/* A process that writes and reads until it is killed, or all is over. */
_Noreturn void crash_work(const struct crash *crash, int worker, uint64_t dice);
/* A process that waits until all is stored, and takes the dead letters down. */
_Noreturn void crash_flush(const struct crash *crash);

/* ---- crash_check.c ---- */

/* Compares the database with the board. */
void crash_check(const struct crash *crash);

#endif
