/* SPDX-License-Identifier: MIT
 *
 * own.h - what the library keeps for each thread.
 */
#ifndef PLN_OWN_H
#define PLN_OWN_H

enum pln_own {
    PLN_OWN_LOAD,   /* nested.c: the innermost load that the thread is in the midst of */
    PLN_OWN_WORKER, /* worker.c: which worker the thread is */
    PLN_OWN_FILLS,  /* fills.c: the loads whose round trips it makes together */
    PLN_N_OWN,
};

/* The calling thread's; NULL in it at first. */
const void **pln_own(enum pln_own which);

#endif
