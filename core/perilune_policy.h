/* SPDX-License-Identifier: MIT
 *
 * perilune_policy.h - what a program and its policy say to each other; a part of perilune.h, which
 * includes it: loaders that the policy knows by name, and numbers that its functions share.
 */
#ifndef PERILUNE_POLICY_H
#define PERILUNE_POLICY_H

#ifndef PERILUNE_H
#error "include perilune.h"
#endif

#ifdef __cplusplus
extern "C" {
#endif

enum {
    PLN_MAX_LOADER_NAME = 512, /* bytes */
    PLN_MAX_SHARED = 1024,     /* names of shared numbers in one cache */
    PLN_MAX_SHARED_NAME = 250, /* bytes */
};

/* Gives a loader the name by which rules call for it: load = loader "name". It is kept through
 * reloads, and one of the same name takes its place; NULL takes it back. A load that has begun ends
 * with the one it began with, so `arg` has to live until pln_close().
 * Returns: PLN_OK; PLN_EINVAL (no name, or a long one), PLN_ENOMEM.
 * Threads: any; the loader runs on the cache's workers, several at a time. */
PLN_API int pln_register_loader(struct pln_cache *cache, const char *name, pln_loader loader,
                                void *arg);

/* What a rule, or without one the cache's options, says of a key's life; the same as in
 * pln_options. A rule's ttl may be a function besides, which is asked when a value is loaded. */
struct pln_key_terms {
    pln_ms ttl_ms, stale_ms, stale_if_error_ms, negative_ms;
};

/* Returns: PLN_OK; PLN_EINVAL (the key), PLN_EDENIED (it must never be cached). Threads: any. */
PLN_API int pln_key_terms(struct pln_cache *cache, struct pln_bytes key,
                          struct pln_key_terms *terms);

/* The numbers that a policy's functions count in (shared.incr and its neighbours), whichever worker
 * they run on: one set for each cache, 0 to begin with, kept through reloads. The first adds and
 * hands back the sum, which wraps; the others read and write.
 * Returns: PLN_OK; PLN_EINVAL (the name), PLN_EBUSY (all names are given), PLN_ENOMEM.
 * Threads: any, lock-free. */
PLN_API int pln_shared_add(struct pln_cache *cache, struct pln_bytes name, int64_t by,
                           int64_t *sum);
PLN_API int pln_shared_get(struct pln_cache *cache, struct pln_bytes name, int64_t *number);
PLN_API int pln_shared_set(struct pln_cache *cache, struct pln_bytes name, int64_t number);

#ifdef __cplusplus
}
#endif

#endif
