/* SPDX-License-Identifier: MIT
 *
 * runs.h - many runs, in a process of their own: a fault ends it, whatever state it is in.
 */
#ifndef PLN_SIM_RUNS_H
#define PLN_SIM_RUNS_H

#include "history.h"
#include "seams.h"

struct sim_report {
    bool is_fault;
    uint64_t seed;   /* of the last run that was begun: that of the fault, where there is one */
    uint64_t n_runs; /* begun */
    char text[512];  /* what is wrong */
    struct sim_tally tally;
};

/* Which runs: n of them, from a seed on. */
struct sim_runs {
    uint64_t first, n;
    unsigned n_processes; /* that share them */
    enum sim_mutant mutant;
    FILE *trace; /* NULL: none; else n_processes is 1 */
};

/* Plays them up to the first fault of each process; reports the fault of the lowest seed. */
void sim_run(const struct sim_runs *runs, struct sim_report *report);

#endif
