/* SPDX-License-Identifier: MIT
 *
 * due.h - what hits set going behind a value that is served, and what holds it back; a part of
 * engine.h, which includes it.
 *
 *   due.c    loads: failed ones are not tried again at once
 */
#ifndef PLN_DUE_H
#define PLN_DUE_H

#include "policy.h"

/* When loads of keys failed, as far as it matters still: a key's place is that of its hash, and one
 * who comes later takes it. What is forgotten so costs a load that might have waited. */
enum { PLN_N_FAILED = 1024 };

struct pln_failed {
    _Atomic uint64_t places[PLN_N_FAILED]; /* until when, and what it can of the hash */
};

/* A load of the key has failed: none where a value can be served meanwhile for the terms' `retry`.
 * Threads: any, likewise below. */
void pln_failed_note(struct pln_cache *cache, const struct pln_hashed *key,
                     const struct pln_terms *terms);
/* One has not. */
void pln_failed_clear(struct pln_cache *cache, const struct pln_hashed *key);
bool pln_failed_lately(const struct pln_cache *cache, const struct pln_hashed *key, pln_ms now);

#endif
