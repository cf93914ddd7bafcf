/* SPDX-License-Identifier: MIT
 *
 * bench_writes.h - what the benchmarks of writing share.
 */
#ifndef PLN_BENCH_WRITES_H
#define PLN_BENCH_WRITES_H

#include <hiredis/hiredis.h>

#include "../../core/engine.h"
#include "../l2/server.h"
#include "bench.h"

/* Ends the program where something has failed. */
void writes_need(bool is_well, const char *what);
/* A cache over the server, awake and with its link up. `writing` NULL: aside. */
struct pln_cache *writes_open(const struct server *server, const struct pln_write_options *writing);
/* The name of a key as text. */
enum { WRITES_KEY = BENCH_KEY_BYTES + 1 };
void writes_key(uint32_t number, char key[WRITES_KEY]);
/* Prints the medians of two series that were measured in turn, and their ratio. */
void writes_compare(const char *ratio, const char *name, const struct bench_series *ours,
                    const char *peer, const struct bench_series *theirs);
/* Adds the median and the 99th percentile of times in us, which are put in order. */
void writes_add(double *us, size_t n, struct bench_series *medians, struct bench_series *tails);

/* bench_writes_db.c: into SQLite and PostgreSQL */
void writes_into_databases(int rounds);

#endif
