/* SPDX-License-Identifier: MIT
 *
 * waiting.h - writes that wait to be stored, in few words for tests.
 */
#ifndef PLN_TEST_WAITING_H
#define PLN_TEST_WAITING_H

#include "client.h"

#include "../../l2/queue.h"

/* Who takes: 100 writes at most, with a lead of five seconds. */
struct pln_l2_taking taker(char name, bool is_first);
int write_set(struct client *client, const char *key, const char *text);
int write_remove(struct client *client, const char *key);
int take(struct client *client, const struct pln_l2_taking *taking, struct pln_l2_entries *entries);
/* Takes, and returns how many there were. */
size_t count_taken(struct client *client, const struct pln_l2_taking *taking);
/* What is taken is this: "key=value key-", where a removal has a dash. */
void expect_taken(struct client *client, const struct pln_l2_taking *taking, const char *expected,
                  struct pln_l2_entries *entries);
/* The same where the entries are of no more interest. */
void expect_take(struct client *client, const struct pln_l2_taking *taking, const char *expected);
void expect_depth(struct client *client, uint64_t depth, uint64_t dead);
/* What waits for a key; NULL: nothing does. */
void expect_waiting(struct client *client, const char *key, const char *expected);

#endif
