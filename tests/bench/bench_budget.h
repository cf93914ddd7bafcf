/* SPDX-License-Identifier: MIT
 *
 * bench_budget.h - the parts of bench_budget; each prints its own lines.
 */
#ifndef PLN_BENCH_BUDGET_H
#define PLN_BENCH_BUDGET_H

/* bench_sizes.c: gets of values of several sizes, and keys removed and stored again */
void bench_sizes(void);
/* bench_stalls.c: the longest that a request takes while a lot changes at once */
void bench_stalls(void);

#endif
