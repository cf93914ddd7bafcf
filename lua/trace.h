/* SPDX-License-Identifier: MIT
 *
 * trace.h - a recorded sequence of requests, as `perilune simulate` replays it: text of one request
 * a line, oldest first, plain or packed by xz.
 *
 *     KEY
 *     KEY SIZE
 *     KEY SIZE TIME
 *
 * All lines have as many fields as the first. Fields are parted by blanks (spaces and tabs) or by
 * one comma, so a key, of 1 to 4096 bytes, has none of these. SIZE is the value's bytes, decimal
 * digits, at most 1 GiB. TIME is in seconds from any origin, digits with perhaps a point and more
 * digits, and does not go back. A line ends with a newline, which may have a carriage return before
 * it and may be missing at the end; blanks before or after its fields do not count.
 */
#ifndef PLN_LUA_TRACE_H
#define PLN_LUA_TRACE_H

#include "internal.h"

struct pln_trace_line {
    const char *key;
    uint32_t len;
    uint32_t size; /* of the value; 0 where the trace has none */
    pln_ms at;     /* 0 where the trace has no times */
};

struct pln_trace {
    struct pln_trace_line *lines;
    size_t n, n_keys; /* n_keys: different ones */
    uint64_t bytes;   /* of each key and its last value, once */
    bool has_sizes, has_times;
    char *text; /* where the keys are */
};

/* Reads a file; values have `value_bytes`, at most 1 GiB, where the trace has no sizes. Returns:
 * PLN_OK; PLN_EINVAL with "file:line: what is wrong", PLN_ENOMEM. Owns: what it made, for
 * pln_trace_fini(). */
int pln_trace_init(struct pln_trace *trace, const char *path, uint32_t value_bytes);
void pln_trace_fini(struct pln_trace *trace);

#endif
