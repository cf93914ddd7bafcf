/* SPDX-License-Identifier: MIT
 *
 * linear.h - is a recorded history of one key linearizable?
 *
 * A history is what threads did to a key, each operation with the times at which it began and
 * ended. It is linearizable if the operations can be put in an order that keeps to these times (one
 * that ended before another began comes first) and in which each has the result that a plain cell
 * would give:
 *
 *   put v     the cell holds v. Only of puts that were stored: another was never to be seen
 *   get v     the cell holds v
 *   get none  the cell holds nothing; or it held something that was evicted just before. From
 *             there on it holds nothing: what is gone does not come back
 *   remove    the cell holds nothing (so do clear and expiry)
 *
 * After J. M. Wing and C. Gong, "Testing and Verifying Concurrent Objects", 1993, with the states
 * that led nowhere remembered (G. Lowe, "Testing for linearizability", 2017).
 */
#ifndef PLN_TEST_LINEAR_H
#define PLN_TEST_LINEAR_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum {
    LINEAR_MOST = 128, /* operations of a history */
    LINEAR_NONE = 0,   /* no value */
};

enum linear_kind { LINEAR_PUT, LINEAR_GET, LINEAR_REMOVE };

struct linear_op {
    enum linear_kind kind;
    uint32_t value; /* put, or seen by a get; unique to a put */
    unsigned thread;
    uint64_t begin, end;
};

struct linear_history {
    struct linear_op ops[LINEAR_MOST];
    size_t n;
};

/* Sorts the history by its beginnings. */
bool linear_holds(struct linear_history *history);
/* One line an operation, on standard error. */
void linear_print(const struct linear_history *history);

#endif
