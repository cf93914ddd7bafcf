/* SPDX-License-Identifier: MIT
 *
 * slide.c - values that hits keep alive: the field `sliding`.
 *
 * A hit in the last nine tenths of the ttl prolongs the life to the rule's ttl from then on, but
 * not past max_age. What costs is done for one hit of those: an entry's refresh point is where the
 * first tenth ends, so hits before it know of nothing, and of those behind it one gets the claim.
 *
 * Where L2 keeps the value its life there is what is prolonged, on a worker, and the copy in L1 is
 * read anew: so it is never older, by more than the L1 ttl, than what was last looked at (R12). The
 * server prolongs only what is fresh there, and has lived by the rule: neither does a hit bring
 * back what was expired meanwhile, nor prolong what a call gave a shorter ttl. Without L2 the
 * points of the entry are moved, if they are still those that the hit has seen.
 */
#include "compress.h"

/* What is not worth a message more: a hundredth of the ttl. */
static pln_ms hundredth(pln_ms ttl) {
    return ttl / 100 + 10;
}

static pln_ms ttl_of(const struct pln_terms *terms) {
    return terms->use_l2 && terms->l2_ttl_ms > 0 && terms->l2_ttl_ms < terms->ttl_ms
               ? terms->l2_ttl_ms
               : terms->ttl_ms;
}

/* So long lives at least, from beginning to end, what lives by the rule. */
static pln_ms least_life(const struct pln_terms *terms) {
    pln_ms ttl = ttl_of(terms);
    ttl = terms->max_age_ms > 0 && terms->max_age_ms < ttl ? terms->max_age_ms : ttl;
    return ttl - hundredth(ttl);
}

pln_ms pln_slide_point(const struct pln_terms *terms, pln_ms now, pln_ms age, pln_ms fresh_left) {
    pln_ms ttl = ttl_of(terms), most = terms->max_age_ms > 0 ? terms->max_age_ms : PLN_FOREVER;
    if (ttl == PLN_FOREVER || fresh_left == PLN_FOREVER || age + fresh_left < least_life(terms) ||
        (most != PLN_FOREVER && age + fresh_left > most - hundredth(ttl))) {
        return PLN_FOREVER;
    }
    return now + fresh_left - (ttl - ttl / 10);
}

/* Under what an attempt that failed is noted: not under the key, where it would count as a load
 * that failed, which holds loads back and lets old values be served. */
static struct pln_hashed mark_of(const struct pln_hashed *key) {
    return (struct pln_hashed){key->key, ~key->hash};
}

static bool has_failed_lately(const struct pln_cache *cache, const struct pln_hashed *key,
                              pln_ms now) {
    struct pln_hashed mark = mark_of(key);
    return pln_failed_lately(cache, &mark, now);
}

/* What a hit at `now` makes of the life of a value of this age. */
static struct pln_l2_item prolonged(const struct pln_terms *terms, pln_ms age) {
    pln_ms ttl = ttl_of(terms);
    struct pln_l2_item item = {
        .age = age, .fresh_left = ttl, .life_left = pln_after(ttl, pln_life_grace(terms))};
    pln_life_bound(terms, &item);
    return item;
}

static void slide_in_l1(struct pln_cache *cache, const struct pln_hashed *key,
                        const struct pln_terms *terms, const struct pln_l1_hit *hit, pln_ms now) {
    struct pln_l2_item item = prolonged(terms, now - hit->life.created);
    if (terms->l1_ttl_ms != PLN_FOREVER) {
        pln_ms most = terms->l1_ttl_ms - item.age;
        item.life_left = item.life_left < most ? item.life_left : most;
    }
    struct pln_l1_life life = pln_life_of(terms, now, item.age, item.fresh_left, item.life_left);
    if (life.stale <= hit->life.stale) {
        return;
    }
    if (pln_l1_prolong(cache->l1, key, now, hit->life.stale, &life) == PLN_OK) {
        pln_count(cache->counts, PLN_COUNT_SLIDES, 1);
    } else {
        pln_l1_unclaim_refresh(cache->l1, key);
    }
}

/* ---- in L2, on a worker ---- */

struct slide_job {
    struct pln_job job;
    struct pln_cache *cache;
    size_t len;
    char key[];
};

/* Prolongs what L2 has, and keeps it in L1. PLN_MISS: it is not there, or not to be prolonged. */
static int slide_in_l2(struct pln_cache *cache, const struct pln_hashed *key,
                       const struct pln_terms *terms) {
    struct pln_stamp stamp;
    struct pln_l2_value value;
    pln_stamp_take(cache->inval, key->hash, &stamp);
    int status = pln_l2_get(pln_cache_l2(cache), key, pln_cache_l2_deadline(cache, PLN_FOREVER),
                            &value);
    if (status == PLN_OK) {
        status = pln_compress_open(cache, terms, &value);
    }
    if (status != PLN_OK) {
        return status;
    }
    struct pln_l2_item *item = &value.item;
    struct pln_l2_item longer = prolonged(terms, item->age);
    longer = pln_life_shared(terms, &longer);
    if (!pln_life_bound(terms, item) || item->fresh_left <= 0 || item->is_absent) {
        status = PLN_MISS;
    } else if (longer.fresh_left > item->fresh_left + hundredth(terms->ttl_ms)) {
        status = pln_l2_touch(pln_cache_l2(cache), key, longer.fresh_left, longer.life_left,
                              least_life(terms), pln_cache_l2_deadline(cache, PLN_FOREVER));
        pln_count(cache->counts, PLN_COUNT_SLIDES, status == PLN_OK);
        item->fresh_left = longer.fresh_left;
        item->life_left = longer.life_left;
    } /* else others have prolonged it before */
    if (status == PLN_OK) {
        struct pln_l1_life life;
        pln_life_keep(cache, key, terms, &stamp, item, &life);
    }
    pln_l2_value_fini(&value);
    return status;
}

static void slide_run(struct pln_job *base, unsigned worker) {
    struct slide_job *job = PLN_CONTAINER_OF(base, struct slide_job, job);
    struct pln_cache *cache = job->cache;
    struct pln_hashed key;
    struct pln_match match;
    struct pln_ruleset *ruleset;
    (void) worker;
    (void) pln_cache_key(cache, pln_bytes_of(job->key, job->len), &key);
    const struct pln_terms *terms = pln_cache_match(cache, key.key, &match, &ruleset);
    if (terms->sliding && slide_in_l2(cache, &key, terms) != PLN_OK) {
        struct pln_hashed mark = mark_of(&key);
        pln_failed_note(cache, &mark, terms);
        pln_l1_unclaim_refresh(cache->l1, &key);
    }
    pln_ruleset_unref(ruleset);
    free(job);
}

static void slide_drop(struct pln_job *base) {
    free(PLN_CONTAINER_OF(base, struct slide_job, job));
}

static void slide_behind(struct pln_cache *cache, const struct pln_hashed *key) {
    struct slide_job *job = malloc(sizeof *job + key->key.len);
    if (job != NULL) {
        *job = (struct slide_job){{.run = slide_run, .drop = slide_drop}, cache, key->key.len};
        memcpy(job->key, key->key.data, key->key.len);
    }
    if (job == NULL || pln_workers_submit(cache->workers, &job->job, false) < 0) {
        pln_l1_unclaim_refresh(cache->l1, key);
        free(job);
    }
}

void pln_slide(struct pln_cache *cache, const struct pln_hashed *key, const struct pln_terms *terms,
               const struct pln_l1_hit *hit, pln_ms now) {
    if (hit->is_absent || has_failed_lately(cache, key, now) ||
        !pln_l1_claim_refresh(cache->l1, key)) {
        return;
    }
    if (cache->has_l2 && terms->use_l2) {
        slide_behind(cache, key);
    } else {
        slide_in_l1(cache, key, terms, hit, now);
    }
}

void pln_slide_read(struct pln_cache *cache, const struct pln_hashed *key,
                    const struct pln_terms *terms, const struct pln_l2_item *item) {
    pln_ms now = pln_now(&cache->host);
    if (item->fresh_left > 0 && !item->is_absent && !has_failed_lately(cache, key, now) &&
        now >= pln_slide_point(terms, now, item->age, item->fresh_left)) {
        (void) pln_l1_claim_refresh(cache->l1, key); /* hits on the copy need not do it again */
        slide_behind(cache, key);
    }
}
