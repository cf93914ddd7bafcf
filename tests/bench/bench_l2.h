/* SPDX-License-Identifier: MIT
 *
 * bench_l2.h - the server and clients that the benchmarks of the second tier share.
 */
#ifndef PLN_BENCH_L2_H
#define PLN_BENCH_L2_H

#include <hiredis/hiredis.h>

#include "../../l2/l2.h"
#include "../l2/server.h"
#include "bench.h"

enum {
    N_KEYS = 10000,
    N_DRAWS = 1 << 18,
    THREADS = 64,
    ROUNDS = 7,
};

struct bed {
    struct server server;
    struct pln_l2 *l2;
    struct pln_counts *counts;
    redisContext *contexts[THREADS];
    uint32_t *draws;
    size_t n_ops; /* of each thread */
};

/* Ends the program where something has failed. */
void bed_need(bool is_well, const char *what);
/* Draw i of a thread; each begins elsewhere. */
static inline uint32_t bed_draw(const struct bed *bed, unsigned thread, size_t i) {
    return bed->draws[(thread * 4099U + i) % N_DRAWS];
}
/* Processor seconds that the server has used. */
double bed_server_seconds(const struct bed *bed);

/* bench_async.c */
void bench_async(struct bed *bed);

#endif
