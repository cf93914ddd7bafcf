/* SPDX-License-Identifier: MIT
 *
 * nested.h - loads that ask the cache for other keys: what the present thread is in the midst of.
 */
#ifndef PLN_NESTED_H
#define PLN_NESTED_H

#include "engine.h"

/* A load under way in this thread. Lives in the frame that runs the loader. */
struct pln_nested {
    const struct pln_nested *up; /* the load that asked for this one */
    const struct pln_cache *cache;
    struct pln_bytes key;
    const struct pln_bytes *keys; /* of a load of many; NULL: the one above */
    size_t n_keys;
};

/* Around the call of a loader. */
void pln_nested_enter(struct pln_nested *nested, const struct pln_cache *cache,
                      struct pln_bytes key);
/* The same for a loader of many keys, which stay where they are meanwhile. */
void pln_nested_enter_many(struct pln_nested *nested, const struct pln_cache *cache,
                           const struct pln_bytes *keys, size_t n_keys);
void pln_nested_leave(const struct pln_nested *nested);

/* Whether this thread may wait for a load of the key. Returns: PLN_OK; PLN_ELOADER where it would
 * wait for itself, or where loads are nested too deep. */
int pln_nested_check(const struct pln_cache *cache, struct pln_bytes key);

#endif
