/* SPDX-License-Identifier: MIT
 *
 * remote.c - commands and scripts of the core's own on the cache's Redis: what is done there beside
 * the cached values.
 *
 * A script goes as its text, each time: some hundred bytes beside a round trip. Its hash would be
 * shorter, and one thing more to be remembered for each server, or forgotten by it.
 */
#include "engine.h"

#include <stdio.h>

enum { FEW_WORDS = 64 };

static int no_redis(const char *what) {
    return pln_fail(PLN_EL2DOWN, "%s: this cache has no Redis", what);
}

static pln_ns deadline_of(const struct pln_cache *cache, pln_ms timeout_ms) {
    return pln_deadline(timeout_ms > 0 ? timeout_ms : cache->timeout_ms);
}

int pln_remote_command(struct pln_cache *cache, const struct pln_bytes *key,
                       const struct pln_bytes *args, size_t n_args, pln_ms timeout_ms,
                       struct pln_reply **reply) {
    if (n_args == 0) {
        return pln_fail(PLN_EINVAL, "command: empty");
    }
    return pln_cache_l2(cache) == NULL ? no_redis("command")
                                       : pln_l2_command(pln_cache_l2(cache), key, args, n_args,
                                                        deadline_of(cache, timeout_ms), reply);
}

int pln_remote_run_on(struct pln_l2 *l2, const struct pln_remote_script *script,
                      const struct pln_bytes *keys, size_t n_keys, const struct pln_bytes *args,
                      size_t n_args, pln_ns deadline, struct pln_reply **reply) {
    struct pln_bytes few[FEW_WORDS], *many = NULL, *words = few;
    char count[24];
    size_t n = 3;
    if (3 + n_keys + n_args > FEW_WORDS) {
        words = many = malloc((3 + n_keys + n_args) * sizeof *words);
        if (words == NULL) {
            return pln_fail(PLN_ENOMEM, "%s: no memory for %zu arguments", script->name, n_args);
        }
    }
    snprintf(count, sizeof count, "%zu", n_keys);
    words[0] = pln_key("EVAL");
    words[1] = pln_key(script->text);
    words[2] = pln_key(count);
    for (size_t i = 0; i < n_keys; i++) {
        words[n++] = keys[i];
    }
    for (size_t i = 0; i < n_args; i++) {
        words[n++] = args[i];
    }
    int status = pln_l2_command(l2, n_keys > 0 ? keys : NULL, words, n, deadline, reply);
    free(many);
    return status;
}

int pln_remote_run(struct pln_cache *cache, const struct pln_remote_script *script,
                   const struct pln_bytes *keys, size_t n_keys, const struct pln_bytes *args,
                   size_t n_args, pln_ms timeout_ms, struct pln_reply **reply) {
    return pln_cache_l2(cache) == NULL
               ? no_redis(script->name)
               : pln_remote_run_on(pln_cache_l2(cache), script, keys, n_keys, args, n_args,
                                   deadline_of(cache, timeout_ms), reply);
}
