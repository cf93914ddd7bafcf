/* SPDX-License-Identifier: MIT
 *
 * day.h - the sizes that a day's requests store: what small values leave behind must hold large
 * ones at noon, and the other way round at night.
 */
#ifndef PLN_BENCH_DAY_H
#define PLN_BENCH_DAY_H

#include <stddef.h>
#include <stdint.h>

enum {
    DAY_PHASES = 24,
    DAY_LEAST = 8,
    DAY_MOST = 256 << 10,
};

/* The next size at a moment of the day, 0 to 1: log-normal round a median that walks from 60 bytes
 * over 4 KB to 200 bytes, but for a few phases in which all are of one size. */
size_t day_size(uint64_t *random, double moment);

#endif
