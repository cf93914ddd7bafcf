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

/* ---- what several of them do ---- */

int semantic_set_tagged(struct client *client, const char *key, const char *text, const char *tag);
int semantic_take_lease(struct client *client, const char *key, struct pln_l2_lease *lease);
int semantic_commit(struct client *client, const char *key, const struct pln_l2_lease *lease,
                    const char *text, const char *tag);

/* ---- semantics_swap.c ---- */

void a_swap_takes_the_place_of_what_is_expected_alone(struct client *a, struct client *b);
void a_swap_leaves_tags_and_life_as_they_were(struct client *a, struct client *b);

#endif
