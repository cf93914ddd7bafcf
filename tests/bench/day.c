/* SPDX-License-Identifier: MIT
 *
 * day.c - sizes that shift over a simulated day.
 */
#include "day.h"

#include <math.h>

#include "bench.h"

/* Everybody asks for one kind of thing: a size for each of some phases, 0 for none. */
static const size_t flashes[DAY_PHASES] = {[5] = 1000, [13] = 9000, [14] = 48, [19] = 2500};

/* About normal, deviation 1: the sum of four evenly spread numbers. Cut off at 3.5. */
static double normal(uint64_t *random) {
    uint64_t bits = bench_random(random);
    double sum = 0;
    for (int i = 0; i < 4; i++, bits >>= 16) {
        sum += (double) (bits & UINT16_MAX) / UINT16_MAX;
    }
    return (sum - 2) * 1.7320508;
}

static double log_median(size_t phase) {
    double moment = (double) phase / (DAY_PHASES - 1);
    double from = moment < 0.5 ? log(60) : log(200);
    return from + (log(4096) - from) * (1 - cos(moment * 2 * 3.14159265)) / 2;
}

size_t day_size(uint64_t *random, double moment) {
    size_t phase = (size_t) (moment * DAY_PHASES);
    phase = phase < DAY_PHASES ? phase : DAY_PHASES - 1;
    if (flashes[phase] != 0) {
        return flashes[phase];
    }
    double size = exp(log_median(phase) + normal(random));
    return size < DAY_LEAST ? DAY_LEAST : size > DAY_MOST ? DAY_MOST : (size_t) size;
}
