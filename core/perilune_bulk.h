/* SPDX-License-Identifier: MIT
 *
 * perilune_bulk.h - reading many keys, and loading those that are missing by one call; a part of
 * perilune.h, which includes it.
 */
#ifndef PERILUNE_BULK_H
#define PERILUNE_BULK_H

#include "perilune.h"

#ifdef __cplusplus
extern "C" {
#endif

/* What a bulk loader is asked for. */
struct pln_bulk {
    size_t n;
    const struct pln_bytes *keys;
    const size_t *which;     /* where each stands among those that were asked for */
    struct pln_load **loads; /* to be filled by the pln_load_...() functions */
    int *statuses;           /* of each: PLN_ABSENT at first; PLN_OK with a value; or negative */
};

/* Brings the values of all keys that are missing. Returns: PLN_OK; or negative, and none is there.
 * Threads: as pln_loader. */
typedef int (*pln_bulk_loader)(void *arg, const struct pln_bulk *bulk);

/* As pln_get_many(), with a loader for what no tier has. It is called once, with all of these; a
 * key that another thread or process is loading just then is waited for instead, and only one that
 * did not come of that is asked for in another call. Each key is loaded by one of all who miss it,
 * and stored by its own rule, as with pln_get_or_load(). */
PLN_API int pln_get_or_load_many(struct pln_cache *cache, const struct pln_bytes *keys, size_t n,
                                 const struct pln_get_options *options, pln_bulk_loader loader,
                                 void *arg, struct pln_result *results, int *statuses);

#ifdef __cplusplus
}
#endif

#endif
