/* SPDX-License-Identifier: MIT
 *
 * perilune_policy.h - what a program and its policy say to each other; a part of perilune.h, which
 * includes it: loading a policy and seeing what it says, its events, loaders that it knows by name,
 * and numbers that its functions share.
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

enum pln_policy_flags {
    PLN_POLICY_TRUSTED = 1, /* the script gets all of Lua's libraries, and no limits */
};

/* Reads, checks and compiles a policy file, and puts it in the place of the one in force. A file
 * with any fault changes nothing. Returns: PLN_OK; PLN_EPOLICY with "file:line: what is wrong". */
PLN_API int pln_load_policy(struct pln_cache *cache, const char *path, uint32_t flags);

/* A field of an event: name and value. */
struct pln_field {
    struct pln_bytes name, value;
};

/* Carries out what the policy says of an event: ends its keys in all tiers (which is no delete: no
 * store is told, see perilune_store.h), and invalidates its tags and patterns; where it has a
 * function for that, asks it first. All is tried, whatever fails. The sources that the policy names
 * (cache.events) do the same with what comes over them. Returns: PLN_OK; PLN_MISS where no cache.on
 * names it; PLN_EINVAL where a field is missing, PLN_ETOOBIG, PLN_EPOLICY (its function failed);
 * else as pln_delete(), and the same may go well another time. */
PLN_API int pln_raise(struct pln_cache *cache, struct pln_bytes event,
                      const struct pln_field *fields, size_t n_fields);

/* Writes a description of what the policy says of a key: rule, line, every value and its origin.
 * Returns the length of the whole text, as snprintf does. */
PLN_API size_t pln_explain(struct pln_cache *cache, struct pln_bytes key, char *buffer,
                           size_t size);

/* Writes what the policy says of events: the fields that each needs, what it makes void, and the
 * channels and streams they come from; a line for each, or JSON. Returns likewise. */
PLN_API size_t pln_explain_events(struct pln_cache *cache, bool as_json, char *buffer, size_t size);

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
