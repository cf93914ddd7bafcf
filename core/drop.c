/* SPDX-License-Identifier: MIT
 *
 * drop.c - what ends many keys at once: those of a list, those that begin with something, or fit a
 * pattern.
 *
 * As with one key (R8): L1 forgets before it is sent, so that who reads meanwhile asks Redis, and
 * again at the reply, since what was read before Redis did it may have been kept in between.
 */
#include "schema.h"

static void forget(struct pln_cache *cache, const struct pln_hashed *keys, size_t n) {
    for (size_t i = 0; i < n; i++) {
        pln_inval_key(cache->inval, &keys[i]);
    }
}

/* Moves the keys whose rules have them in L2 to the front. Returns how many. */
static size_t sort_shared(struct pln_cache *cache, struct pln_hashed *keys, size_t n) {
    size_t n_shared = 0;
    for (size_t i = 0; i < n && cache->has_l2; i++) {
        struct pln_match match;
        struct pln_ruleset *ruleset;
        struct pln_hashed key = keys[i];
        bool is_shared = pln_cache_match(cache, key.key, &match, &ruleset)->use_l2;
        pln_ruleset_unref(ruleset);
        if (is_shared) {
            keys[i] = keys[n_shared];
            keys[n_shared++] = key;
        }
    }
    return n_shared;
}

/* What Redis does not take of them is kept for later, each by itself. */
static int remove_shared(struct pln_cache *cache, const struct pln_hashed *keys, size_t n) {
    struct pln_attempt *attempts = calloc(n, sizeof *attempts);
    if (attempts == NULL) {
        return pln_fail(PLN_ENOMEM, "delete: no memory for %zu keys", n);
    }
    for (size_t i = 0; i < n; i++) {
        attempts[i] = (struct pln_attempt){.kind = PLN_ATTEMPT_REMOVE, .key = keys[i]};
        pln_recovery_begin(cache->recovery, &attempts[i]);
    }
    int status = pln_l2_remove_many(pln_cache_l2(cache), keys, n,
                                    pln_cache_l2_deadline(cache, PLN_FOREVER));
    forget(cache, keys, n);
    char text[PLN_ERROR_TEXT];
    for (size_t i = 0; i < n; i++) {
        pln_recovery_end(cache->recovery, &attempts[i], status);
        if (i == 0) {
            memcpy(text, pln_error_text(), sizeof text); /* one speaks for all */
        }
    }
    free(attempts);
    return status < 0 ? pln_fail(status, "%s", text) : status;
}

int pln_delete_many(struct pln_cache *cache, const struct pln_bytes *keys, size_t n) {
    struct pln_hashed *hashed = malloc(n * sizeof *hashed + 1);
    int status = hashed == NULL ? pln_fail(PLN_ENOMEM, "delete: no memory for %zu keys", n)
                                : PLN_OK;
    for (size_t i = 0; status == PLN_OK && i < n; i++) {
        status = pln_schema_key(cache, keys[i], &hashed[i]);
    }
    if (status == PLN_OK) {
        pln_count(cache->counts, PLN_COUNT_DELETES, n);
        forget(cache, hashed, n);
        size_t n_shared = sort_shared(cache, hashed, n);
        if (n_shared > 0) {
            status = remove_shared(cache, hashed, n_shared);
        }
    }
    free(hashed);
    return status;
}

static int drop(struct pln_cache *cache, enum pln_mask_kind kind, struct pln_bytes text) {
    struct pln_mask mask = {kind, text};
    int status = PLN_OK;
    if (text.len > PLN_MAX_KEY) {
        return pln_fail(PLN_EINVAL, "%s: %zu bytes, at most %d",
                        kind == PLN_MASK_PREFIX ? "prefix" : "pattern", text.len, PLN_MAX_KEY);
    }
    pln_count(cache->counts, PLN_COUNT_MATCH_INVALIDATIONS, 1);
    pln_inval_match(cache->inval, pln_mask_fits, &mask);
    if (cache->has_l2) {
        struct pln_attempt attempt = {.kind = PLN_ATTEMPT_MATCH, .mask = &mask};
        pln_recovery_begin(cache->recovery, &attempt);
        status = pln_l2_drop_match(pln_cache_l2(cache), &mask,
                                   pln_cache_l2_deadline(cache, PLN_FOREVER));
        pln_inval_match(cache->inval, pln_mask_fits, &mask);
        status = pln_recovery_end(cache->recovery, &attempt, status);
    }
    return status;
}

int pln_invalidate_prefix(struct pln_cache *cache, struct pln_bytes prefix) {
    return drop(cache, PLN_MASK_PREFIX, prefix);
}

int pln_invalidate_pattern(struct pln_cache *cache, struct pln_bytes pattern) {
    return drop(cache, PLN_MASK_PATTERN, pattern);
}
