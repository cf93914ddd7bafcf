/* SPDX-License-Identifier: MIT
 *
 * trace.h - a recorded sequence of requests: text of one key a line, decimal digits, oldest first;
 * plain or packed by xz.
 */
#ifndef PLN_BENCH_TRACE_H
#define PLN_BENCH_TRACE_H

#include "../../core/base/base.h"

struct bench_trace {
    char name[64]; /* the file's, without folders and without .txt and .xz */
    struct pln_bytes *keys;
    uint32_t *numbers; /* the keys by number: 0 .. n_unique - 1 in the order they came first */
    size_t n, n_unique;
    char *text; /* where the keys' digits are */
};

/* Ends the program where the file cannot be read, or is no trace: names the file and the line. */
void bench_trace_read(struct bench_trace *trace, const char *path);
void bench_trace_free(struct bench_trace *trace);

#endif
