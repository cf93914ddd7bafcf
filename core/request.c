/* SPDX-License-Identifier: MIT
 *
 * request.c - what every request needs before it goes anywhere: the key's hash, its rule, and the
 * deadlines of what it waits for; and what is kept of how it ended.
 */
#include "flight.h"

int pln_cache_key(const struct pln_cache *cache, struct pln_bytes key, struct pln_hashed *hashed) {
    if (key.len == 0 || key.len > PLN_MAX_KEY || key.data == NULL) {
        return pln_fail(PLN_EINVAL, "key: %zu bytes, must be 1 to %d", key.len, PLN_MAX_KEY);
    }
    *hashed = (struct pln_hashed){key, pln_hash(key, cache->seed)};
    return PLN_OK;
}

pln_ns pln_deadline(pln_ms timeout) {
    pln_ns now = pln_clock_precise();
    return timeout < (PLN_FOREVER - now) / 1000000 ? now + timeout * 1000000 : PLN_FOREVER;
}

pln_ns pln_cache_l2_deadline(const struct pln_cache *cache, pln_ns deadline) {
    pln_ns own = pln_deadline(cache->timeout_ms);
    return own < deadline ? own : deadline;
}

const struct pln_terms *pln_cache_match(struct pln_cache *cache, struct pln_bytes key,
                                        struct pln_match *match, struct pln_ruleset **ruleset) {
    *ruleset = pln_cache_policy(cache);
    pln_ruleset_match(*ruleset, key, match);
    return match->rule != NULL ? &match->rule->terms : &cache->terms;
}

int pln_key_terms(struct pln_cache *cache, struct pln_bytes key, struct pln_key_terms *terms) {
    struct pln_hashed hashed;
    struct pln_match match;
    struct pln_ruleset *ruleset;
    int status = pln_cache_key(cache, key, &hashed);
    if (status < 0) {
        return status;
    }
    const struct pln_terms *own = pln_cache_match(cache, key, &match, &ruleset);
    *terms = (struct pln_key_terms){own->ttl_ms, own->stale_ms, own->stale_if_error_ms,
                                    own->negative_ms};
    if (own->is_denied) {
        status = pln_fail(PLN_EDENIED, "terms: the policy says that the key must never be cached");
    }
    pln_ruleset_unref(ruleset);
    return status;
}

enum pln_read pln_cache_read(const struct pln_get_options *options, const struct pln_terms *terms) {
    uint8_t read = options->read != PLN_READ_BY_RULE ? options->read : terms->read;
    return read == PLN_READ_REPLICA || read == PLN_READ_NEAREST ? (enum pln_read) read
                                                                : PLN_READ_PRIMARY;
}

void pln_outcome_fini(struct pln_outcome *outcome) {
    if (outcome->value != NULL) {
        pln_value_drop(outcome->value);
        outcome->value = NULL;
    }
}

void pln_outcome_fail(struct pln_outcome *outcome, int status) {
    assert(status < 0);
    pln_outcome_fini(outcome);
    outcome->status = status;
    outcome->source = PLN_FROM_MISS;
    memcpy(outcome->text, pln_error_text(), sizeof outcome->text);
}

int pln_codec_of(struct pln_cache *cache, struct pln_bytes key, bool *is_plain) {
    struct pln_match match;
    struct pln_ruleset *ruleset;
    const struct pln_terms *terms = pln_cache_match(cache, key, &match, &ruleset);
    int codec = terms->codec == PLN_CODEC_JSON ? PLN_CODEC_JSON : PLN_CODEC_MSGPACK;
    if (is_plain != NULL) {
        *is_plain = terms->is_plain;
    }
    pln_ruleset_unref(ruleset);
    return codec;
}
