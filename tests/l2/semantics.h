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

#endif
