/* SPDX-License-Identifier: MIT
 *
 * nested.c - see nested.h. A loader may use the cache, for other keys: what it asks for may have a
 * loader of its own. Its own key it would wait for until the load's deadline, and a chain of loads
 * that never ends would wait in as many frames as the stack has; both are told at once. Each thread
 * keeps the list of the loads that it is in the midst of.
 */
#include "nested.h"
#include "own.h"

enum { DEEPEST = 8 };

void pln_nested_enter(struct pln_nested *nested, const struct pln_cache *cache,
                      struct pln_bytes key) {
    const void **innermost = pln_own(PLN_OWN_LOAD);
    *nested = (struct pln_nested){.up = *innermost, .cache = cache, .key = key};
    *innermost = nested;
}

void pln_nested_enter_many(struct pln_nested *nested, const struct pln_cache *cache,
                           const struct pln_bytes *keys, size_t n_keys) {
    pln_nested_enter(nested, cache, pln_bytes_of(NULL, 0));
    nested->keys = keys;
    nested->n_keys = n_keys;
}

static bool has_key(const struct pln_nested *nested, struct pln_bytes key) {
    for (size_t i = 0; i < nested->n_keys; i++) {
        if (pln_bytes_equal(nested->keys[i], key)) {
            return true;
        }
    }
    return nested->keys == NULL && pln_bytes_equal(nested->key, key);
}

void pln_nested_leave(const struct pln_nested *nested) {
    const void **innermost = pln_own(PLN_OWN_LOAD);
    assert(*innermost == nested);
    *innermost = nested->up;
}

int pln_nested_check(const struct pln_cache *cache, struct pln_bytes key) {
    int depth = 0;
    for (const struct pln_nested *at = *pln_own(PLN_OWN_LOAD); at != NULL; at = at->up, depth++) {
        if (at->cache == cache && has_key(at, key)) {
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
