/* SPDX-License-Identifier: MIT
 *
 * semantics.h - what every implementation of the tier must do, said once: test_mem.c runs it over
 * memory, test_redis.c over a real server. Each function gets two fresh clients of one namespace
 * whose links are up, with empty stories.
 */
#ifndef PLN_TEST_SEMANTICS_H
#define PLN_TEST_SEMANTICS_H

#include "client.h"

struct semantic {
    const char *name;
    void (*run)(struct client *a, struct client *b);
};

extern const struct semantic semantics[];
extern const int n_semantics;

/* ---- of writes that wait, and of those that were stored first ---- */

extern const struct semantic queue_semantics[], through_semantics[];
extern const int n_queue_semantics, n_through_semantics;

/* ---- semantics_lease.c ---- */

void a_lease_tells_whether_there_is_a_value(struct client *a, struct client *b);
void many_leases_and_commits_are_each_as_one(struct client *a, struct client *b);

#endif
