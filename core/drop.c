/* SPDX-License-Identifier: MIT
 *
 * drop.c - what ends many keys at once: those that begin with something, or fit a pattern.
 *
 * As with one key (R8): L1 forgets before it is sent, so that who reads meanwhile asks Redis, and
 * again at the reply, since what was read before Redis did it may have been kept in between.
 */
#include "engine.h"

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
        status = pln_l2_drop_match(cache->l2, &mask, pln_cache_l2_deadline(cache, PLN_FOREVER));
        pln_inval_match(cache->inval, pln_mask_fits, &mask);
    }
    return status;
}

int pln_invalidate_prefix(struct pln_cache *cache, struct pln_bytes prefix) {
    return drop(cache, PLN_MASK_PREFIX, prefix);
}

int pln_invalidate_pattern(struct pln_cache *cache, struct pln_bytes pattern) {
    return drop(cache, PLN_MASK_PATTERN, pattern);
}
