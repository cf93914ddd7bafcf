/* SPDX-License-Identifier: MIT
 *
 * rehearse.c - what the candidate of a shadow does with what it was told (shadow.c), in its one
 * thread.
 *
 * What it would load is what the live L1 has at that moment; where that has nothing (the live
 * policy keeps the value out of L1, or it is gone), zeros of the length that the live read was
 * told.
 */
#include "shadow.h"

/* ---- what the candidate loads ---- */

static int load_zeros(struct pln_load *load, size_t len) {
    void *zeros = calloc(1, len + 1);
    if (zeros == NULL) {
        return pln_fail(PLN_ENOMEM, "shadow: no memory for a value of %zu bytes", len);
    }
    int status = pln_load_value(load, pln_bytes_of(zeros, len), 0);
    free(zeros);
    return status;
}

/* The live L1's value, or that of the candidate's own, to be lent. False where there is none. */
static bool borrow(struct pln_cache *cache, struct pln_bytes key, struct pln_l1_hit *hit,
                   struct pln_value **value) {
    struct pln_hashed hashed;
    return pln_cache_key(cache, key, &hashed) == PLN_OK &&
           pln_l1_borrow(cache->l1, &hashed, pln_now(&cache->host), PLN_L1_QUIET, hit, value) ==
               PLN_OK;
}

static int load_of(struct pln_cache *cache, struct pln_bytes key, struct pln_load *load) {
    struct pln_l1_hit hit;
    struct pln_value *value;
    if (!borrow(cache, key, &hit, &value)) {
        return PLN_MISS;
    }
    int status = hit.is_absent
                     ? PLN_ABSENT
                     : pln_load_value(load,
                                      pln_bytes_of(pln_value_data(value), pln_value_len(value)),
                                      hit.format);
    pln_release(cache, value);
    return status;
}

/* As much as a value has on average. */
static size_t usual_len(struct pln_shadow *shadow) {
    pthread_mutex_lock(&shadow->lock);
    const struct pln_shadow_side *side = &shadow->candidate_side;
    uint64_t len = side->fetches > 0 ? side->fetched_bytes / side->fetches : 0;
    pthread_mutex_unlock(&shadow->lock);
    return (size_t) len;
}

int pln_shadow_load(void *arg, struct pln_bytes key, struct pln_load *load) {
    struct pln_shadow *shadow = arg;
    const struct pln_told *told = shadow->playing;
    bool is_it = told != NULL && pln_bytes_equal(key, told->text);
    if (is_it && told->status < 0) {
        return pln_load_error(load, "shadow: the live cache's read failed");
    }
    int status = is_it && told->status == PLN_ABSENT ? PLN_ABSENT
                                                     : load_of(shadow->live, key, load);
    if (status == PLN_MISS && !is_it) {
        status = load_of(shadow->candidate, key, load);
    }
    if (status == PLN_MISS) {
        status = load_zeros(load, is_it ? told->len : usual_len(shadow));
    }
    if (status >= 0) {
        pthread_mutex_lock(&shadow->lock);
        shadow->candidate_side.fetches++;
        shadow->candidate_side.fetched_bytes += status == PLN_OK ? pln_value_len(load->value) : 0;
        pthread_mutex_unlock(&shadow->lock);
    }
    return status;
}

/* ---- playing ---- */

static void count(struct pln_shadow_side *side, int status, uint8_t source) {
    side->requests++;
    if (status < 0) {
        side->failures++;
    } else if (status == PLN_MISS) {
        side->misses++;
    } else if (source == PLN_FROM_STALE) {
        side->stale++;
    } else if (source == PLN_FROM_L2 || source == PLN_FROM_LOADER) {
        side->waited++;
    } else {
        side->hits++;
    }
}

static bool candidate_loads(const struct pln_shadow *shadow, struct pln_bytes key) {
    struct pln_match match;
    struct pln_ruleset *ruleset;
    pln_cache_match(shadow->candidate, key, &match, &ruleset);
    bool loads = match.rule != NULL && (match.rule->hooks & PLN_RULE_LOAD) != 0;
    pln_ruleset_unref(ruleset);
    return loads;
}

static void play_read(struct pln_shadow *shadow, const struct pln_told *told) {
    struct pln_get_options options = {.flags = told->flags,
                                      .ttl_ms = told->ttl_ms,
                                      .stale_ms = told->stale_ms,
                                      .negative_ms = told->negative_ms,
                                      .tags = told->tags,
                                      .n_tags = told->n_tags};
    struct pln_result result;
    bool loads = (told->flags & PLN_GET_NO_LOAD) == 0 && !candidate_loads(shadow, told->text);
    uint64_t n_fetches = shadow->candidate_side.fetches; /* which this thread alone counts */
    int status = pln_get_or_load(shadow->candidate, told->text, &options,
                                 loads ? pln_shadow_load : NULL, shadow, &result);
    pln_release(shadow->candidate, result.value);
    bool has_waited = shadow->candidate_side.fetches > n_fetches; /* a negative does not say so */
    pthread_mutex_lock(&shadow->lock);
    count(&shadow->live_side, told->status, told->source);
    count(&shadow->candidate_side, status, has_waited ? (uint8_t) PLN_FROM_LOADER : result.source);
    shadow->n_differing += pln_comparison_add(&shadow->comparison, shadow->live, shadow->candidate,
                                              told->text);
    pthread_mutex_unlock(&shadow->lock);
}

static void play_set(struct pln_shadow *shadow, const struct pln_told *told) {
    struct pln_l1_hit hit;
    struct pln_value *value;
    struct pln_set_options options = {.format = told->format,
                                      .is_absent = told->is_absent,
                                      .ttl_ms = told->ttl_ms,
                                      .stale_ms = told->stale_ms,
                                      .tags = told->tags,
                                      .n_tags = told->n_tags};
    if (!borrow(shadow->live, told->text, &hit, &value)) {
        pln_delete(shadow->candidate, told->text); /* what it is now is not known */
        return;
    }
    pln_set(shadow->candidate, told->text,
            pln_bytes_of(pln_value_data(value), pln_value_len(value)), &options);
    pln_release(shadow->live, value);
}

static void play_other(struct pln_shadow *shadow, const struct pln_told *told) {
    struct pln_cache *candidate = shadow->candidate;
    switch (told->kind) {
    case PLN_TOLD_TOUCH:
        pln_touch(candidate, told->text, told->ttl_ms);
        break;
    case PLN_TOLD_FORGET:
        pln_delete(candidate, told->text);
        break;
    case PLN_TOLD_EXPIRE:
        pln_expire(candidate, told->text);
        break;
    case PLN_TOLD_TAG:
        pln_invalidate_tag(candidate, told->text);
        break;
    case PLN_TOLD_PREFIX:
        pln_invalidate_prefix(candidate, told->text);
        break;
    case PLN_TOLD_PATTERN:
        pln_invalidate_pattern(candidate, told->text);
        break;
    default:
        pln_clear(candidate);
    }
}

void pln_shadow_drop(struct pln_job *job) {
    free(PLN_CONTAINER_OF(job, struct pln_told, job));
}

void pln_shadow_play(struct pln_job *job, unsigned worker) {
    struct pln_told *told = PLN_CONTAINER_OF(job, struct pln_told, job);
    struct pln_shadow *shadow = told->shadow;
    (void) worker;
    shadow->playing = told;
    if (told->kind == PLN_TOLD_READ) {
        play_read(shadow, told);
    } else if (told->kind == PLN_TOLD_SET) {
        play_set(shadow, told);
    } else if (told->kind == PLN_TOLD_FETCH) {
        pthread_mutex_lock(&shadow->lock);
        shadow->live_side.fetches++;
        shadow->live_side.fetched_bytes += told->len;
        pthread_mutex_unlock(&shadow->lock);
    } else {
        play_other(shadow, told);
    }
    shadow->playing = NULL;
    pln_shadow_drop(job);
}
