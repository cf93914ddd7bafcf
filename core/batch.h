/* SPDX-License-Identifier: MIT
 *
 * batch.h - private to core: what has been taken from the queue, and is to be stored: gathered,
 * tried, tried again, given up. A machine without threads, clocks, or a tier: whoever drives it
 * (turn.c) gives it entries and the time, and carries out what it asks for.
 */
#ifndef PLN_BATCH_H
#define PLN_BATCH_H

#include "base/base.h"
#include "../l2/l2.h"

struct pln_batches;

enum {
    PLN_HELD_MOST = 16384,          /* writes in memory; the rest stays in the queue */
    PLN_HELD_MOST_BYTES = 32 << 20, /* their keys and values */
    PLN_LONGEST_BACKOFF_MS = 60000, /* between two attempts */
};

/* How the writes of a key are stored, and in which group: those whose store is called together. It
 * answers the same for a key until the batches are cleared. NULL: there is no store for it here. */
typedef const struct pln_write_options *(*pln_batch_terms)(void *arg, struct pln_bytes key,
                                                           size_t *group);

int pln_batches_new(pln_batch_terms terms, void *arg, struct pln_batches **batches);
void pln_batches_free(struct pln_batches *batches);
/* Forgets all: they are in the queue. */
void pln_batches_clear(struct pln_batches *batches);

/* Adds what was taken, in the order of the queue; copied. Returns: PLN_OK; PLN_MISS (no store: it
 * was left out), PLN_ENOMEM (likewise: then all are to be cleared, or a later write of its key
 * would come before it). */
int pln_batches_add(struct pln_batches *batches, const struct pln_l2_entry *entry, pln_ns now);
/* Writes that are not stored yet, each of those that a later one stands for included. */
size_t pln_batches_count(const struct pln_batches *batches);
bool pln_batches_are_full(const struct pln_batches *batches);

/* From now on nothing waits for others to come with it. */
void pln_batches_set_hasty(struct pln_batches *batches, bool is_hasty);
/* Nor for its next attempt: once. */
void pln_batches_hurry(struct pln_batches *batches, pln_ns now);

/* When there will be a batch; PLN_FOREVER: not without more. */
pln_ns pln_batches_due(struct pln_batches *batches, pln_ns now);
/* Stores the next batch, where one is due: calls `store` on it, and on parts of it where it fails
 * as a whole. That sets the items' statuses, and returns false to break it off: then nothing was
 * stored by this call, and all is to be cleared. It may take its time: *now is what it is by then,
 * for it to say, and what is to be tried again waits from there on. Returns: PLN_OK; PLN_MISS (none
 * is due), PLN_PENDING (broken off), PLN_ENOMEM. */
typedef bool (*pln_batch_store)(void *arg, size_t group, struct pln_store_item *items, size_t n);
int pln_batches_store(struct pln_batches *batches, const pln_ns *now, pln_batch_store store,
                      void *arg);

/* What is over: stored, or needless since a later one was, in an order in which no write is ended
 * before an older one of its key. The memory is the batches', until the next call. */
const struct pln_l2_entry *pln_batches_over(struct pln_batches *batches, size_t *n);
void pln_batches_ended(struct pln_batches *batches); /* all of these */

/* The next that was given up, to be buried after those that it stands for (`older`) are ended; both
 * after all that is over. Until it is told that this is done no later write of its key is stored.
 */
struct pln_given_up {
    const struct pln_l2_entry *entry, *older;
    size_t n_older;
    size_t dead; /* letters that are kept */
    unsigned attempts;
    const char *error;
};
bool pln_batches_given_up(struct pln_batches *batches, struct pln_given_up *given_up);
void pln_batches_buried(struct pln_batches *batches);

/* What the last call of pln_batches_store() came to: writes to be tried again, and of those which
 * failed one, with its group and reason; "": none did. */
struct pln_batch_report {
    size_t n_stored, n_again, n_given_up, group;
    char error[PLN_STORE_TEXT];
};
const struct pln_batch_report *pln_batches_report(const struct pln_batches *batches);

#endif
