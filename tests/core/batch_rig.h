/* SPDX-License-Identifier: MIT
 *
 * batch_rig.h - batches, a store that notes how it is called, and time, which is what the test
 * says.
 */
#ifndef PLN_TEST_BATCH_RIG_H
#define PLN_TEST_BATCH_RIG_H

#include "rig.h"

#include "../../core/batch.h"

enum { MS = 1000000 };

extern struct pln_batches *batches;
extern struct pln_write_options terms, others; /* of keys, and of those that begin with 'o' */
extern pln_ns now;

extern size_t n_calls, n_items;
extern bool is_away;            /* the store takes nothing */
extern const char *poison;      /* a value that makes a call fail as a whole */
extern const char *bad, *never; /* values that it says so of */
extern bool loses_lead, is_mute;
extern pln_ms takes;     /* a call: so long */
extern char item_id[64]; /* of the last item, likewise the next two */
extern uint64_t item_version;
extern unsigned item_attempt;

void batch_setup(void);
void batch_teardown(void);
bool batch_store(void *arg, size_t group, struct pln_store_item *items, size_t n);

/* Writes have the ids 1, 2, 3, ...; NULL: a removal. */
int add_taken(const char *key, const char *value, unsigned n_taken);
void add(const char *key, const char *value);
/* Lets time pass, and stores all that is due by then. */
void pass(pln_ms ms);

/* How the store was called since: "a=1 b=2 | c-", a call after the other. */
void expect_calls(const char *expected);
/* The ids that are over, "1 2", which are ended. */
void expect_over(const char *expected);
/* The next that is given up, which is buried. */
void expect_given_up(uint64_t id, size_t n_older, const char *error);
bool is_any_given_up(void);

#endif
