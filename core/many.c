/* SPDX-License-Identifier: MIT
 *
 * many.c - reading many keys at once: one look at L1 with all its memory fetched together, then one
 * round trip to L2 for what is left. bulk.c goes on where that can be loaded by one call.
 */
#include "compress.h"
#include "shadow.h"
#include "way.h"

static int rest_init(struct pln_rest *rest, size_t n) {
    *rest = (struct pln_rest){.index = calloc(n, sizeof *rest->index),
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

static void rest_fini(struct pln_rest *rest, struct pln_cache *cache) {
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

static bool is_plain(struct pln_cache *cache, const struct pln_ruleset *ruleset,
                     struct pln_bytes key) {
    struct pln_match match;
    pln_ruleset_match(ruleset, key, &match);
    return match.rule != NULL ? match.rule->terms.is_plain : cache->terms.is_plain;
}

/* Plain ones are put at the arrays' end first, */
static void add_to_rest(struct pln_rest *rest, size_t n, size_t i, const struct pln_hashed *key,
                        const struct pln_l1_hit *hit, struct pln_value *kept) {
    size_t at = key->is_plain ? n - ++rest->n_plain : rest->n++;
    rest->keys[at] = *key;
    rest->hits[at] = *hit;
    rest->kept[at] = kept;
    rest->index[at] = i;
}

/* and then brought behind the others. */
static void close_rest(struct pln_rest *rest, size_t n) {
    size_t from = n - rest->n_plain, to = rest->n;
    memmove(rest->keys + to, rest->keys + from, rest->n_plain * sizeof *rest->keys);
    memmove(rest->hits + to, rest->hits + from, rest->n_plain * sizeof *rest->hits);
    memmove(rest->kept + to, rest->kept + from, rest->n_plain * sizeof *rest->kept);
    memmove(rest->index + to, rest->index + from, rest->n_plain * sizeof *rest->index);
    rest->n += rest->n_plain;
}

/* Looks at L1 for all keys; those it does not answer go to the rest, with a stamp. */
static int look_at_l1(struct pln_cache *cache, const struct pln_bytes *keys, size_t n,
                      const struct pln_get_options *options, struct pln_rest *rest,
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
    struct pln_ruleset *ruleset = pln_cache_policy(cache);
    for (size_t i = 0; i < n; i++) {
        int allowed = statuses[i] == PLN_OK ? PLN_OK : pln_admit_check(cache, keys[i], "get_many");
        if (allowed < 0) {
            statuses[i] = allowed;
        } else if (statuses[i] != PLN_OK || !try_l1(cache, &hashed[i], options, &hits[i], values[i],
                                                    &results[i], &statuses[i])) {
            pln_wake(cache);
            hashed[i].is_plain = is_plain(cache, ruleset, keys[i]);
            add_to_rest(rest, n, i, &hashed[i], &hits[i], statuses[i] == PLN_OK ? values[i] : NULL);
        }
    }
    pln_ruleset_unref(ruleset);
    close_rest(rest, n);
    for (size_t i = 0; i < rest->n; i++) {
        pln_stamp_take(cache->inval, rest->keys[i].hash, &rest->stamps[i]);
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
    int opened = pln_compress_open(cache, terms, value);
    if (opened != PLN_OK) {
        pln_ruleset_unref(ruleset);
        return opened;
    }
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
                         struct pln_rest *rest) {
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

static int fetch(struct pln_cache *cache, const struct pln_get_options *options,
                 struct pln_rest *rest) {
    pln_ns deadline = options->timeout_ms > 0 ? pln_clock_precise() + options->timeout_ms * 1000000
                                              : PLN_FOREVER;
    size_t n = rest->n - rest->n_plain;
    int status = PLN_OK;
    if (n > 0) {
        status = choose_reads(cache, options, rest)
                     ? pln_l2_get_many_near(pln_cache_l2(cache), rest->keys, rest->reads, n,
                                            pln_cache_l2_deadline(cache, deadline), rest->values,
                                            rest->statuses)
                     : pln_l2_get_many(pln_cache_l2(cache), rest->keys, n,
                                       pln_cache_l2_deadline(cache, deadline), rest->values,
                                       rest->statuses);
    }
    for (size_t i = n; i < rest->n && status == PLN_OK; i++) {
        rest->statuses[i] = pln_l2_get(pln_cache_l2(cache), &rest->keys[i],
                                       pln_cache_l2_deadline(cache, deadline), &rest->values[i]);
    }
    return status;
}

static void ask_l2(struct pln_cache *cache, const struct pln_get_options *options,
                   struct pln_rest *rest, struct pln_result *results, int *statuses) {
    int asked = PLN_MISS;
    if (cache->has_l2 && rest->n > 0 && (options->flags & PLN_GET_NO_L2) == 0) {
        asked = fetch(cache, options, rest);
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

int pln_many_look(struct pln_many *many) {
    int status = rest_init(&many->rest, many->n);
    if (status == PLN_OK) {
        status = look_at_l1(many->cache, many->keys, many->n, many->options, &many->rest,
                            many->results, many->statuses);
    }
    return status;
}

void pln_many_fetch(struct pln_many *many) {
    ask_l2(many->cache, many->options, &many->rest, many->results, many->statuses);
}

void pln_many_ask(struct pln_many *many) {
    bool is_whole = true;
    pln_many_fetch(many);
    for (size_t i = 0; i < many->n && is_whole; i++) {
        is_whole = many->statuses[i] != PLN_MISS && many->statuses[i] >= 0;
    }
    if (!is_whole) {
        pln_many_load(many);
    }
    if (pln_shadow_is_there(many->cache)) {
        pln_shadow_saw_many(many->cache, many->keys, many->n, many->options, many->statuses,
                            many->results);
    }
}

void pln_many_end(struct pln_many *many) {
    rest_fini(&many->rest, many->cache);
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

int pln_get_many(struct pln_cache *cache, const struct pln_bytes *keys, size_t n,
                 const struct pln_get_options *options, struct pln_result *results, int *statuses) {
    static const struct pln_get_options no_options = {0};
    struct pln_many many = {.cache = cache,
                            .keys = keys,
                            .n = n,
                            .options = options != NULL ? options : &no_options,
                            .results = results,
                            .statuses = statuses};
    if (n == 0) {
        return PLN_OK;
    }
    int status = pln_many_look(&many);
    if (status == PLN_OK) {
        pln_many_ask(&many);
    }
    pln_many_end(&many);
    return status;
}
