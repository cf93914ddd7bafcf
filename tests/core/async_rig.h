/* SPDX-License-Identifier: MIT
 *
 * async_rig.h - what the tests of reads that do not wait share: gets that are begun, watched, and
 * loaded for by hand.
 */
#ifndef PLN_TEST_ASYNC_RIG_H
#define PLN_TEST_ASYNC_RIG_H

#include "rig.h"

/* A get of "k:1" that was begun. */
struct begun {
    struct pln_cache *cache;
    struct pln_op *op; /* NULL: answered at once */
    int status;
    struct pln_result result;
};

struct begun async_begin(struct pln_cache *cache, struct pln_news *news, uint32_t flags,
                         const struct pln_get_options *options);
/* Waits by the descriptor, as an event loop does, until the op is in a state; fails after ten
 * seconds. */
void async_await(struct pln_news *news, struct pln_op *op, enum pln_op_state state);
/* Whether the descriptor is readable now. */
bool async_is_told(struct pln_news *news);
/* Waits until it is ready, and checks value and source; NULL: the source is a status' name. Frees
 * it. */
void async_expect(struct pln_news *news, struct begun *begun, const char *value,
                  const char *source);
/* Takes the load on, and hands a value over, or a status with NULL. */
void async_load(struct pln_op *op, const char *value, int status);

#endif
