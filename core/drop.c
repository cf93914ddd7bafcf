/* SPDX-License-Identifier: MIT
 *
 * drop.c - what ends keys: one, those of a list, those that begin with something, or fit a pattern.
 *
 * A delete goes the way that its key's rule writes (store.h). What is void because its source has
 * changed only ends in the tiers.
 *
 * As with one key (R8): L1 forgets before it is sent, so that who reads meanwhile asks Redis, and
 * again at the reply, since what was read before Redis did it may have been kept in between.
 */
#include "store.h"

#include "schema.h"

static void forget(struct pln_cache *cache, const struct pln_hashed *keys, size_t n) {
    for (size_t i = 0; i < n; i++) {
        pln_inval_key(cache->inval, &keys[i]);
    }
}

/* What becomes of a key where it only ends. */
enum place {
    HERE,   /* it is in L1 alone */
    SHARED, /* and in L2 */
    MARKED, /* there, and written through: its end must be seen */
};

static enum place place_of(struct pln_cache *cache, const struct pln_ruleset *ruleset,
                           struct pln_hashed *key) {
    struct pln_match match;
    pln_ruleset_match(ruleset, key->key, &match);
    const struct pln_terms *terms = match.rule != NULL ? &match.rule->terms : &cache->terms;
    int strategy = pln_store_terms(cache, match.rule)->strategy;
    key->is_plain = terms->is_plain;
    return !cache->has_l2 || !terms->use_l2                                ? HERE
           : strategy == PLN_WRITE_THROUGH || strategy == PLN_WRITE_AROUND ? MARKED
                                                                           : SHARED;
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

/* The first failure is told. */
static void note(int *first, char *text, int status) {
    if (status < 0 && *first == PLN_OK) {
        *first = status;
        memcpy(text, pln_error_text(), PLN_ERROR_TEXT);
    }
}

static int hash_all(struct pln_cache *cache, const struct pln_bytes *keys, size_t n,
                    struct pln_hashed **hashed) {
    *hashed = malloc(n * sizeof **hashed + 1);
    int status = *hashed == NULL ? pln_fail(PLN_ENOMEM, "delete: no memory for %zu keys", n)
                                 : PLN_OK;
    for (size_t i = 0; status == PLN_OK && i < n; i++) {
        status = pln_schema_key(cache, keys[i], &(*hashed)[i]);
    }
    return status;
}

int pln_cache_forget_many(struct pln_cache *cache, const struct pln_bytes *keys, size_t n) {
    char text[PLN_ERROR_TEXT] = "";
    struct pln_hashed *hashed;
    size_t n_shared = 0;
    int status = hash_all(cache, keys, n, &hashed);
    if (status == PLN_OK) {
        struct pln_ruleset *ruleset = pln_cache_policy(cache);
        forget(cache, hashed, n);
        for (size_t i = 0; i < n; i++) {
            struct pln_hashed key = hashed[i];
            enum place place = place_of(cache, ruleset, &key);
            if (place == MARKED) {
                note(&status, text, pln_through_forget(cache, &key));
            } else if (place == SHARED) {
                hashed[n_shared++] = hashed[i];
            }
        }
        pln_ruleset_unref(ruleset);
        note(&status, text, n_shared > 0 ? remove_shared(cache, hashed, n_shared) : PLN_OK);
    }
    free(hashed);
    return status < 0 && text[0] != 0 ? pln_fail(status, "%s", text) : status;
}

static int forget_one(struct pln_cache *cache, const struct pln_hashed *key) {
    struct pln_match match;
    struct pln_ruleset *ruleset;
    if (pln_store_may_be(cache)) {
        return pln_cache_forget_many(cache, &key->key, 1);
    }
    int status = PLN_OK;
    pln_inval_key(cache->inval, key); /* R8: before it is sent, and again at the reply */
    if (cache->has_l2 && pln_cache_match(cache, key->key, &match, &ruleset)->use_l2) {
        struct pln_attempt attempt = {.kind = PLN_ATTEMPT_REMOVE, .key = *key};
        pln_recovery_begin(cache->recovery, &attempt);
        status = pln_l2_remove(pln_cache_l2(cache), key, pln_cache_l2_deadline(cache, PLN_FOREVER));
        pln_inval_key(cache->inval, key);
        status = pln_recovery_end(cache->recovery, &attempt, status);
    }
    if (cache->has_l2) {
        pln_ruleset_unref(ruleset);
    }
    return status;
}

int pln_cache_forget(struct pln_cache *cache, struct pln_bytes key) {
    struct pln_hashed hashed;
    int status = pln_schema_key(cache, key, &hashed);
    return status < 0 ? status : forget_one(cache, &hashed);
}

/* ---- delete ---- */

/* As a removal from Redis (R8), with its place in the queue. */
static int delete_behind(struct pln_cache *cache, const struct pln_hashed *key,
                         const struct pln_match *match) {
    pln_inval_key(cache->inval, key);
    int status = pln_queued_delete(cache, key, match);
    pln_inval_key(cache->inval, key);
    return status;
}

/* By the key's strategy. */
static int delete_one(struct pln_cache *cache, const struct pln_hashed *key) {
    struct pln_match match;
    struct pln_ruleset *ruleset;
    if (!pln_store_may_be(cache)) {
        return forget_one(cache, key);
    }
    (void) pln_cache_match(cache, key->key, &match, &ruleset);
    int strategy = pln_store_strategy(cache, match.rule, "delete");
    int status = strategy < 0                   ? strategy
                 : strategy == PLN_WRITE_ASIDE  ? forget_one(cache, key)
                 : strategy == PLN_WRITE_BEHIND ? delete_behind(cache, key, &match)
                                                : pln_through_delete(cache, &key->key, 1);
    pln_ruleset_unref(ruleset);
    return status;
}

int pln_delete(struct pln_cache *cache, struct pln_bytes key) {
    struct pln_hashed hashed;
    int status = pln_schema_key(cache, key, &hashed);
    if (status < 0) {
        return status;
    }
    pln_count(cache->counts, PLN_COUNT_DELETES, 1);
    return delete_one(cache, &hashed);
}

/* Those that are written aside come first, then those behind, then the others. */
static int rank(struct pln_cache *cache, const struct pln_ruleset *ruleset, struct pln_bytes key) {
    struct pln_match match;
    pln_ruleset_match(ruleset, key, &match);
    int strategy = pln_store_terms(cache, match.rule)->strategy;
    return strategy == PLN_WRITE_ASIDE ? 0 : strategy == PLN_WRITE_BEHIND ? 1 : 2;
}

/* By each key's strategy. */
static int delete_each(struct pln_cache *cache, const struct pln_bytes *keys, size_t n) {
    char text[PLN_ERROR_TEXT] = "";
    struct pln_bytes *sorted = malloc(n * sizeof *sorted + 1);
    struct pln_ruleset *ruleset = pln_cache_policy(cache);
    size_t ends[3] = {0}, n_sorted = 0;
    int status = sorted != NULL ? PLN_OK
                                : pln_fail(PLN_ENOMEM, "delete: no memory for %zu keys", n);
    for (int turn = 0; status == PLN_OK && turn < 3; turn++) {
        for (size_t i = 0; i < n; i++) {
            if (rank(cache, ruleset, keys[i]) == turn) {
                sorted[n_sorted++] = keys[i];
            }
        }
        ends[turn] = n_sorted;
    }
    pln_ruleset_unref(ruleset);
    if (ends[0] > 0) {
        note(&status, text, pln_cache_forget_many(cache, sorted, ends[0]));
    }
    for (size_t i = ends[0]; i < ends[1]; i++) {
        struct pln_hashed key;
        int hashed = pln_schema_key(cache, sorted[i], &key);
        note(&status, text, hashed < 0 ? hashed : delete_one(cache, &key));
    }
    if (ends[2] > ends[1]) {
        note(&status, text, pln_through_delete(cache, sorted + ends[1], ends[2] - ends[1]));
    }
    free(sorted);
    return status < 0 && text[0] != 0 ? pln_fail(status, "%s", text) : status;
}

int pln_delete_many(struct pln_cache *cache, const struct pln_bytes *keys, size_t n) {
    struct pln_hashed *hashed;
    int status = hash_all(cache, keys, n, &hashed); /* one that is no key refuses all */
    free(hashed);
    if (status == PLN_OK) {
        pln_count(cache->counts, PLN_COUNT_DELETES, n);
        status = pln_store_may_be(cache) ? delete_each(cache, keys, n)
                                         : pln_cache_forget_many(cache, keys, n);
    }
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
