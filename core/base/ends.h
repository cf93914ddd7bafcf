/* SPDX-License-Identifier: MIT
 *
 * ends.h - what threads give back at their end.
 *
 * A thread that ends may be in the midst of that while what it gives back to is being freed, and
 * pthread_key_delete() does not wait for it. So one key of the process knows what each thread has;
 * what is still there is given its part under a lock, and what is gone, nothing.
 */
#ifndef PLN_ENDS_H
#define PLN_ENDS_H

#include "base.h"

/* One that threads have parts of. Its fields are its own. */
struct pln_ends {
    void (*give_back)(struct pln_ends *ends, void *part); /* in the thread that ends; under a lock,
                                                             so it must not wait */
    uint64_t id;
    struct pln_ends *next;
};

/* Returns: PLN_OK; PLN_ESYSTEM: the process has no thread-specific keys left. */
int pln_ends_open(struct pln_ends *ends, void (*give_back)(struct pln_ends *ends, void *part));
/* Once it has returned no thread's end gives anything back. One that was not opened is allowed. */
void pln_ends_close(struct pln_ends *ends);

/* The calling thread has a part, which its end is to give back. False: no memory. */
bool pln_ends_note(struct pln_ends *ends, void *part);
/* It has given it back itself. */
void pln_ends_forget(struct pln_ends *ends, void *part);

/* Around fork(): the innermost lock. */
void pln_ends_freeze(void);
void pln_ends_thaw(void);

#endif
