/* SPDX-License-Identifier: MIT
 *
 * bench.h - what all benchmarks share: workloads made before the clock starts, pinned threads, and
 * the one way in which a measurement is printed.
 *
 *     NAME metric=value [metric=value ...]        on standard output, all else on standard error
 */
#ifndef PLN_BENCH_H
#define PLN_BENCH_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum {
    BENCH_RUNS = 5,
    BENCH_KEY_BYTES = 16,
    BENCH_VALUE_BYTES = 100,
};

/* A fast generator of evenly spread numbers (splitmix64). */
uint64_t bench_random(uint64_t *state);

/* `n` draws from `n_keys` keys by Zipf's law; which key is the popular one is shuffled. Draw i has
 * the same odds everywhere, so threads may begin at different places. Freed by free(). */
uint32_t *bench_zipf(size_t n_keys, size_t n, double exponent, uint64_t seed);

/* Key number `number`, without touching memory: nothing but the cache under test is measured. */
static inline void bench_key(uint32_t number, char key[BENCH_KEY_BYTES]) {
    uint64_t words[2] = {0x6e696c7265706b65, number * UINT64_C(0x9e3779b97f4a7c15) + 1};
    __builtin_memcpy(key, words, sizeof words);
}

/* Keeps the compiler from dropping work whose result nobody uses. */
static inline void bench_use(const void *bytes) {
    __asm__ volatile("" : : "r"(bytes) : "memory");
}

/* Runs body(arg, thread) on pinned threads that start together; the body returns how many
 * operations it did. Returns nanoseconds an operation and thread. */
typedef size_t (*bench_body)(void *arg, unsigned thread);
double bench_time(unsigned n_threads, bench_body body, void *arg);

/* Samples of one measurement, and what else the machine did meanwhile. */
struct bench_series {
    double values[64];
    size_t n;
    double busy, own, wall; /* processor and clock seconds over all runs */
};

/* One timed run, added to a series. */
void bench_run(struct bench_series *series, unsigned n_threads, bench_body body, void *arg);
double bench_median(const struct bench_series *series);
/* "NAME METRIC=median min= max= runs=", and noisy=1 where others used over 5 % of the machine. */
void bench_print(const char *name, const char *metric, const struct bench_series *series);
/* "NAME METRIC=value" */
void bench_print_one(const char *name, const char *metric, double value);
/* Only lines whose name begins with `prefix` are wanted from now on. */
void bench_choose(const char *prefix);
bool bench_is_wanted(const char *name);
/* A warm-up and BENCH_RUNS timed runs, printed as "NAME ns=", where that line is wanted. */
void bench_measure(const char *name, unsigned n_threads, bench_body body, void *arg);

/* Bytes of this process that are in memory now, and at most since bench_resident_mark() (since the
 * start, or the fork, where the system does not allow the mark). */
size_t bench_resident(void);
size_t bench_resident_peak(void);
void bench_resident_mark(void);

/* The first line of all: processor, kernel, compiler. */
void bench_print_machine(void);

#endif
