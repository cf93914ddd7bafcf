/* SPDX-License-Identifier: MIT
 *
 * batch_parts.h - private to batch.c, which gathers, and attempt.c, which has it stored.
 */
#ifndef PLN_BATCH_PARTS_H
#define PLN_BATCH_PARTS_H

#include "batch.h"

#define HASH_NONFATAL_OOM 1
#include <uthash.h>

/* One write: the last of those that it stands for. */
struct item {
    struct item *prev, *next;    /* in its group, in the order in which they came; or over */
    struct item *ahead, *behind; /* of its key */
    struct chain *chain;
    struct pln_l2_entry entry; /* its bytes are in `memory` */
    void *memory;
    struct pln_l2_entry *older; /* that it stands for; their keys are its own */
    size_t n_older, room;
    pln_ns due, failed_at;      /* failed_at: first; 0: it has not */
    unsigned n_failed, n_tried; /* n_tried: as it was told, by former instances too */
    bool is_alone;              /* it has failed so, and is tried so */
    bool is_picked, is_given_up;
    bool has_failed; /* of the batch on its way, likewise the next */
    bool is_blamed;  /* the failure is its own: not of the whole call, or of one before it */
    size_t dead;     /* of the terms, where it is given up */
    char id[48];
    char *error; /* of what is given up; NULL: no memory for it */
};

/* The writes of a key. */
struct chain {
    UT_hash_handle hh;
    struct item *first, *last;
    size_t len;
    char key[];
};

/* Those whose store is called together. */
struct group {
    const struct pln_write_options *terms;
    struct item *items;
    size_t n;
    size_t limit;    /* items of a call, while the store seems away; 0: as many as the terms say */
    unsigned n_down; /* calls that failed as a whole, since one did not */
    pln_ns held_until; /* the group waits */
    pln_ns stored_at, bury_at;
};

struct pln_batches {
    pln_batch_terms terms;
    void *arg;
    struct chain *chains;
    struct group *groups;
    size_t n_groups, next; /* the group to be looked at first */
    struct item *over, *given_up;
    struct pln_l2_entry *listed; /* the list that was told last */
    size_t n_held, n_bytes, n_count;
    bool is_hasty;
    struct pln_batch_report report;
};

/* ---- batch.c ---- */

void pln_batch_item_free(struct item *item);
pln_ns pln_batch_pause(const struct pln_write_options *terms, unsigned n_failed);
/* Marks what would go together now; *due: when it is to, or the next of those that wait. What has
 * failed alone goes alone, and what is to wait for its next attempt waits; the rest goes with the
 * first that is due. Returns how many. */
size_t pln_batch_pick(struct group *group, pln_ns now, pln_ns *due);
/* Takes the first of a chain out of it; the chain ends with its last. */
void pln_batch_leave_chain(struct pln_batches *batches, struct item *item);

#endif
