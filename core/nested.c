/* SPDX-License-Identifier: MIT
 *
 * nested.c - see nested.h. A loader may use the cache, for other keys: what it asks for may have a
 * loader of its own. Its own key it would wait for until the load's deadline, and a chain of loads
 * that never ends would wait in as many frames as the stack has; both are told at once. Each thread
 * keeps the list of the loads that it is in the midst of.
 */
#include "nested.h"

enum { DEEPEST = 8 };

static _Thread_local const struct pln_nested *innermost;

void pln_nested_enter(struct pln_nested *nested, const struct pln_cache *cache,
                      struct pln_bytes key) {
    *nested = (struct pln_nested){.up = innermost, .cache = cache, .key = key};
    innermost = nested;
}

void pln_nested_leave(const struct pln_nested *nested) {
    assert(innermost == nested);
    innermost = nested->up;
}

int pln_nested_check(const struct pln_cache *cache, struct pln_bytes key) {
    int depth = 0;
    for (const struct pln_nested *at = innermost; at != NULL; at = at->up, depth++) {
        if (at->cache == cache && pln_bytes_equal(at->key, key)) {
            return pln_fail(PLN_ELOADER,
                            "get: '%.*s' is being loaded by its own loader, which "
                            "asked for it",
                            key.len > 100 ? 100 : (int) key.len, (const char *) key.data);
        }
    }
    if (depth >= DEEPEST) {
        return pln_fail(PLN_ELOADER, "get: loaders that ask for other keys are nested over %d deep",
                        DEEPEST);
    }
    return PLN_OK;
}
