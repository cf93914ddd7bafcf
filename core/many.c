/* SPDX-License-Identifier: MIT
 *
 * many.c - reading many keys at once: one look at L1 with all its memory fetched together, then one
 * round trip to L2 for what is left. Loaders are not run: bulk.c goes on where one is given.
 */
#include "fill.h"
#include "shadow.h"

/* The keys that L1 did not answer, side by side as L2 wants them. */
struct rest {
    size_t n;
    size_t *index; /* into the caller's arrays */
    struct pln_hashed *keys;
    struct pln_stamp *stamps;
    enum pln_read *reads;
    struct pln_l2_value *values;
    int *statuses;
    struct pln_l1_hit *hits; /* what L1 has of them, not good enough to be served at once */
    struct pln_value **kept; /* NULL: nothing */
};

static int rest_init(struct rest *rest, size_t n) {
    *rest = (struct rest){.index = calloc(n, sizeof *rest->index),
                          .keys = calloc(n, sizeof *rest->keys),
                          .stamps = calloc(n, sizeof *rest->stamps),
                          .reads = calloc(n, sizeof *rest->reads),
                          .values = calloc(n, sizeof *rest->values),
                          .statuses = calloc(n, sizeof *rest->statuses),
                          .hits = calloc(n, sizeof *rest->hits),
                          .kept = calloc(n, sizeof *rest->kept)};
    if (rest->index == NULL || rest->keys == NULL || rest->stamps == NULL || rest->reads == NULL ||
        rest->values == NULL || rest->statuses == NULL || rest->hits == NULL ||
        rest->kept == NULL) {
        return pln_fail(PLN_ENOMEM, "get_many: no memory for %zu keys", n);
    }
    return PLN_OK;
}

static void rest_fini(struct rest *rest, struct pln_cache *cache) {
    for (size_t i = 0; i < rest->n; i++) {
        pln_release(cache, rest->kept[i]); /* what nobody was served */
    }
    free(rest->index);
    free(rest->keys);
    free(rest->stamps);
    free(rest->reads);
    free(rest->values);
    free(rest->statuses);
    free(rest->hits);
    free(rest->kept);
}

static int counted(struct pln_cache *cache, bool is_absent, enum pln_count head,
                   struct pln_result *result) {
    pln_count(cache->counts, head, 1);
    if (is_absent) {
        pln_count(cache->counts, PLN_COUNT_NEGATIVES, 1);
        result->source = PLN_FROM_NEGATIVE;
        result->len = 0;
    }
    return is_absent ? PLN_ABSENT : PLN_OK;
}

static int serve_l1(struct pln_cache *cache, const struct pln_l1_hit *hit, struct pln_value *value,
                    bool is_stale, struct pln_result *result) {
    *result = (struct pln_result){.value = value,
                                  .len = hit->len,
                                  .format = hit->format,
                                  .source = is_stale ? PLN_FROM_STALE : PLN_FROM_L1};
    pln_life_describe(&hit->life, pln_now(&cache->host), result);
    return counted(cache, hit->is_absent, is_stale ? PLN_COUNT_STALE_SERVED : PLN_COUNT_L1_HITS,
                   result);
}

/* True where a value of L1's may be handed out although it is stale, or of a doubtful generation:
 * within the stale window, or, after a failure of L2's, within the longer one for errors. */
static bool may_be_stale(struct pln_cache *cache, struct pln_bytes key,
                         const struct pln_get_options *options, const struct pln_l1_hit *hit,
                         bool is_after_failure) {
    struct pln_match match;
    struct pln_ruleset *ruleset;
    const struct pln_terms *terms = pln_cache_match(cache, key, &match, &ruleset);
    pln_ms window = is_after_failure ? pln_life_grace(terms) : terms->stale_ms;
    pln_ms now = pln_now(&cache->host), past = now - hit->life.stale;
    bool is_current = !pln_life_in_doubt(cache, terms, options, hit, now);
    pln_ruleset_unref(ruleset);
    return (options->flags & PLN_GET_NO_STALE) == 0 && (is_current || is_after_failure) &&
           (past < 0 || past < window);
}

/* Serves what L1 has, if it is fresh or may be stale. */
static bool try_l1(struct pln_cache *cache, const struct pln_hashed *key,
                   const struct pln_get_options *options, const struct pln_l1_hit *hit,
                   struct pln_value *value, struct pln_result *result, int *status) {
    pln_ms now = pln_now(&cache->host);
    bool is_fresh = now < hit->life.stale &&
                    !pln_cache_in_doubt(cache, key->key, options, hit, now);
    if (!is_fresh && !may_be_stale(cache, key->key, options, hit, false)) {
        return false;
    }
    if (now >= hit->life.refresh && pln_due_by_rule(cache, key, hit, now) &&
        pln_l1_claim_refresh(cache->l1, key)) {
        pln_fill_behind(cache, key, hit->life.created);
    }
    *status = serve_l1(cache, hit, value, !is_fresh, result);
    return true;
}

/* Looks at L1 for all keys; those it does not answer go to the rest, with a stamp. */
static int look_at_l1(struct pln_cache *cache, const struct pln_bytes *keys, size_t n,
                      const struct pln_get_options *options, struct rest *rest,
                      struct pln_result *results, int *statuses) {
    struct pln_hashed *hashed = calloc(n, sizeof *hashed);
    struct pln_l1_hit *hits = calloc(n, sizeof *hits);
    struct pln_value **values = calloc(n, sizeof *values);
    int status = PLN_OK;
    if (hashed == NULL || hits == NULL || values == NULL) {
        status = pln_fail(PLN_ENOMEM, "get_many: no memory for %zu keys", n);
        goto out;
    }
    for (size_t i = 0; i < n; i++) {
        status = pln_cache_key(cache, keys[i], &hashed[i]);
        if (status < 0) {
            status = pln_fail(status, "get_many: key %zu: %s", i + 1, pln_error_text());
            goto out;
        }
        statuses[i] = PLN_MISS;
        results[i] = (struct pln_result){.source = PLN_FROM_MISS};
    }
    if ((options->flags & PLN_GET_NO_L1) == 0) {
        pln_l1_borrow_many(cache->l1, hashed, n, pln_now(&cache->host), hits, values, statuses);
    }
    for (size_t i = 0; i < n; i++) {
        int allowed = statuses[i] == PLN_OK ? PLN_OK : pln_admit_check(cache, keys[i], "get_many");
        if (allowed < 0) {
            statuses[i] = allowed;
        } else if (statuses[i] != PLN_OK || !try_l1(cache, &hashed[i], options, &hits[i], values[i],
                                                    &results[i], &statuses[i])) {
            pln_stamp_take(cache->inval, hashed[i].hash, &rest->stamps[rest->n]);
            rest->keys[rest->n] = hashed[i];
            rest->hits[rest->n] = hits[i];
            rest->kept[rest->n] = statuses[i] == PLN_OK ? values[i] : NULL;
            rest->index[rest->n++] = i;
        }
    }
out:
    free(hashed);
    free(hits);
    free(values);
    return status;
}

/* Takes one answer of L2: into L1, and to the caller. */
static int take_l2(struct pln_cache *cache, const struct pln_hashed *key, struct pln_stamp *stamp,
                   struct pln_l2_value *value, uint32_t flags, struct pln_result *result) {
    const struct pln_l2_item *item = &value->item;
    struct pln_match match;
    struct pln_ruleset *ruleset;
    struct pln_l1_life life;
    int status = PLN_MISS;
    const struct pln_terms *terms = pln_cache_match(cache, key->key, &match, &ruleset);
    bool is_there = pln_life_bound(terms, &value->item);
    bool is_fresh = item->fresh_left > 0;
    bool is_allowed = is_fresh || (is_there && -item->fresh_left < terms->stale_ms &&
                                   (flags & PLN_GET_NO_STALE) == 0);
    if (is_allowed) {
        result->value = pln_value_new(item->value, item->format);
    }
    if (result->value != NULL) {
        pln_life_keep_read(cache, key, terms, stamp, value, &life);
        result->len = item->value.len;
        result->format = item->format;
        result->source = is_fresh ? PLN_FROM_L2 : PLN_FROM_STALE;
        pln_life_describe(&life, pln_now(&cache->host), result);
        status = counted(cache, item->is_absent,
                         is_fresh ? PLN_COUNT_L2_HITS : PLN_COUNT_STALE_SERVED, result);
    }
    pln_ruleset_unref(ruleset);
    return status;
}

/* Whom to ask for each key. False where that is the primary for all. */
static bool choose_reads(struct pln_cache *cache, const struct pln_get_options *options,
                         struct rest *rest) {
    struct pln_ruleset *ruleset = pln_cache_policy(cache);
    bool is_near = false;
    for (size_t i = 0; i < rest->n; i++) {
        struct pln_match match = {.rule = NULL};
        if (options->read == PLN_READ_BY_RULE) {
            pln_ruleset_match(ruleset, rest->keys[i].key, &match);
        }
        rest->reads[i] = pln_cache_read(options,
                                        match.rule != NULL ? &match.rule->terms : &cache->terms);
        is_near = is_near || rest->reads[i] != PLN_READ_PRIMARY;
    }
    pln_ruleset_unref(ruleset);
    return is_near;
}

static void ask_l2(struct pln_cache *cache, const struct pln_get_options *options,
                   struct rest *rest, struct pln_result *results, int *statuses) {
    pln_ns deadline = options->timeout_ms > 0 ? pln_clock_precise() + options->timeout_ms * 1000000
                                              : PLN_FOREVER;
    int asked = PLN_MISS;
    if (cache->has_l2 && rest->n > 0 && (options->flags & PLN_GET_NO_L2) == 0) {
        asked = choose_reads(cache, options, rest)
                    ? pln_l2_get_many_near(cache->l2, rest->keys, rest->reads, rest->n,
                                           pln_cache_l2_deadline(cache, deadline), rest->values,
                                           rest->statuses)
                    : pln_l2_get_many(cache->l2, rest->keys, rest->n,
                                      pln_cache_l2_deadline(cache, deadline), rest->values,
                                      rest->statuses);
    }
    for (size_t i = 0; i < rest->n; i++) {
        size_t at = rest->index[i];
        statuses[at] = asked == PLN_OK ? rest->statuses[i] : asked;
        if (statuses[at] == PLN_OK) {
            statuses[at] = take_l2(cache, &rest->keys[i], &rest->stamps[i], &rest->values[i],
                                   options->flags, &results[at]);
            pln_l2_value_fini(&rest->values[i]);
        }
        if (statuses[at] < 0 && rest->kept[i] != NULL &&
            may_be_stale(cache, rest->keys[i].key, options, &rest->hits[i], true)) {
            statuses[at] = serve_l1(cache, &rest->hits[i], rest->kept[i], true, &results[at]);
            rest->kept[i] = NULL;
        }
    }
}

bool pln_many_keep(struct pln_cache *cache, const struct pln_hashed *key,
                   const struct pln_get_options *options, struct pln_result *result, int *status) {
    struct pln_l1_hit hit;
    struct pln_value *value = NULL;
    if (pln_l1_borrow(cache->l1, key, pln_now(&cache->host), PLN_L1_QUIET, &hit, &value) ==
            PLN_OK &&
        may_be_stale(cache, key->key, options, &hit, true)) {
        *status = serve_l1(cache, &hit, value, true, result);
        return true;
    }
    pln_release(cache, value);
    return false;
}

int pln_many_read(struct pln_cache *cache, const struct pln_bytes *keys, size_t n,
                  const struct pln_get_options *options, struct pln_result *results,
                  int *statuses) {
    struct rest rest;
    int status = rest_init(&rest, n);
    if (status == PLN_OK) {
        status = look_at_l1(cache, keys, n, options, &rest, results, statuses);
    }
    if (status == PLN_OK) {
        ask_l2(cache, options, &rest, results, statuses);
    }
    rest_fini(&rest, cache);
    return status;
}

int pln_get_many(struct pln_cache *cache, const struct pln_bytes *keys, size_t n,
                 const struct pln_get_options *options, struct pln_result *results, int *statuses) {
    static const struct pln_get_options no_options = {0};
    if (n == 0) {
        return PLN_OK;
    }
    options = options != NULL ? options : &no_options;
    int status = pln_many_read(cache, keys, n, options, results, statuses);
    for (size_t i = 0; status == PLN_OK && i < n; i++) {
        if (statuses[i] == PLN_MISS || statuses[i] < 0) {
            pln_count(cache->counts, statuses[i] < 0 ? PLN_COUNT_FAILURES : PLN_COUNT_MISSES, 1);
        }
    }
    if (status == PLN_OK && pln_shadow_is_there(cache)) {
        pln_shadow_saw_many(cache, keys, n, options, statuses, results);
    }
    return status;
}
