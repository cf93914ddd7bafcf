/* SPDX-License-Identifier: MIT
 *
 * life.c - how long a value lives, and how it is kept in L1.
 *
 * A life has four points: loaded, due for refresh, stale, gone. L2 hands on what is left of it, so
 * that a copy in L1 is never fresher than its original; the terms' L1 ttl bounds it once more
 * (R12), as the last limit to a message that was lost unnoticed.
 */
#include "engine.h"

#include <math.h>

pln_ms pln_life_grace(const struct pln_terms *terms) {
    return terms->stale_ms > terms->stale_if_error_ms ? terms->stale_ms : terms->stale_if_error_ms;
}

static pln_ms least(pln_ms a, pln_ms b) {
    return a < b ? a : b;
}

static pln_ms bound(pln_ms ms) {
    return ms > 0 ? ms : PLN_FOREVER;
}

/* How long a value of this age may still live. */
static pln_ms left_at_most(const struct pln_terms *terms, pln_ms age) {
    pln_ms most = bound(terms->max_age_ms);
    return most == PLN_FOREVER ? most : most - age;
}

bool pln_life_bound(const struct pln_terms *terms, struct pln_l2_item *item) {
    item->life_left = least(item->life_left, left_at_most(terms, item->age));
    item->fresh_left = least(item->fresh_left, item->life_left);
    return item->life_left > 0;
}

pln_ms pln_life_since(const struct pln_terms *terms, pln_ms ms) {
    const pln_ms step = 10;
    bool is_compared = terms->write == PLN_WRITE_THROUGH || terms->write == PLN_WRITE_AROUND;
    return !is_compared ? ms : ms > step ? ms - step : 0;
}

struct pln_l2_item pln_life_shared(const struct pln_terms *terms, const struct pln_l2_item *item) {
    struct pln_l2_item shared = *item;
    shared.life_left = least(shared.life_left, bound(terms->l2_ttl_ms));
    pln_life_bound(terms, &shared);
    return shared;
}

struct pln_l1_life pln_life_of(const struct pln_terms *terms, pln_ms now, pln_ms age,
                               pln_ms fresh_left, pln_ms life_left) {
    struct pln_l1_life life;
    life.created = now - age;
    life_left = least(life_left, left_at_most(terms, age));
    life.end = pln_after(now, least(life_left, terms->l1_ttl_ms)); /* R12 */
    life.stale = least(pln_after(now, fresh_left), life.end);
    life.refresh = life.stale;
    if (terms->sliding) {
        pln_ms due = pln_slide_point(terms, now, age, fresh_left);
        life.refresh = least(due > life.created ? due : life.created, life.stale);
    }
    bool has_own_end = least(fresh_left, life_left) <= terms->l1_ttl_ms; /* else it is read anew */
    if (terms->early > 0 && life.stale != PLN_FOREVER && has_own_end) {
        pln_ms due = life.stale - pln_early_window(terms);
        life.refresh = due > life.created ? due : least(life.created, life.stale);
    }
    if (terms->refresh > 0 && fresh_left != PLN_FOREVER) {
        double ttl = (double) (age + fresh_left);
        pln_ms due = life.created + (pln_ms) (ttl * terms->refresh);
        life.refresh = least(due > life.created ? due : life.created, life.stale);
    }
    return life;
}

pln_ms pln_life_jittered(const struct pln_terms *terms, pln_ms ttl) {
    if (terms->jitter <= 0 || terms->sliding || ttl <= 0 || ttl == PLN_FOREVER) {
        return ttl;
    }
    pln_ms shorter = (pln_ms) llround((double) ttl * (1 - terms->jitter * pln_chance()));
    return shorter > 0 ? shorter : 1;
}

static void install(struct pln_cache *cache, const struct pln_hashed *key,
                    const struct pln_terms *terms, struct pln_l1_item *item,
                    const struct pln_stamp *stamp) {
    if (!terms->use_l1 || terms->is_denied || item->value.len > cache->max_item_bytes) {
        return;
    }
    item->generation = stamp->generation;
    item->mark_stamp = stamp->mark_clock;
    item->marks = stamp->marks;
    item->n_marks = stamp->n_marks;
    if (pln_l1_put(cache->l1, key, item, pln_now(&cache->host), pln_stamp_holds, stamp) ==
        PLN_NOT_STORED) {
        pln_count(cache->counts, PLN_COUNT_FILLS_REFUSED, 1);
    }
}

void pln_life_keep(struct pln_cache *cache, const struct pln_hashed *key,
                   const struct pln_terms *terms, struct pln_stamp *stamp,
                   const struct pln_l2_item *item, struct pln_l1_life *life) {
    *life = pln_life_of(terms, pln_now(&cache->host), item->age, item->fresh_left, item->life_left);
    struct pln_l1_item entry = {
        .value = item->value,
        .life = *life,
        .format = item->format,
        .weight = terms->weight,
        .priority = terms->priority,
        .is_absent = item->is_absent,
    };
    pln_stamp_tags(stamp, item->tags, item->n_tags);
    install(cache, key, terms, &entry, stamp);
}

void pln_life_keep_read(struct pln_cache *cache, const struct pln_hashed *key,
                        const struct pln_terms *terms, struct pln_stamp *stamp,
                        const struct pln_l2_value *value, struct pln_l1_life *life) {
    struct pln_terms bounded = *terms;
    if (value->is_from_replica) {
        bounded.l1_ttl_ms = least(bounded.l1_ttl_ms, bounded.replica_ttl_ms);
    }
    pln_life_keep(cache, key, &bounded, stamp, &value->item, life);
    if (terms->sliding) {
        pln_slide_read(cache, key, terms, &value->item);
    }
}

bool pln_life_in_doubt(const struct pln_cache *cache, const struct pln_terms *terms,
                       const struct pln_get_options *options, const struct pln_l1_hit *hit,
                       pln_ms now) {
    pln_ms bound = options != NULL && options->max_staleness_ms > 0 ? options->max_staleness_ms
                                                                    : terms->max_staleness_ms;
    /* C3 acquire: before the generation, which has moved on before the time is written; pairs with
     * on_certain() */
    pln_ms certain_at = atomic_load_explicit(&cache->certain_at, memory_order_acquire);
    uint32_t generation = pln_l1_generation(cache->l1);
    if (!terms->use_l2) {
        return false;
    }
    if (generation % 2 == 0) {
        return hit->generation != generation; /* found in a gap that has ended without it */
    }
    /* what was filled in a gap, this one or one before it, has only its own time to vouch for it */
    pln_ms made = pln_l1_earliest(hit);
    bool is_vouched_for = hit->generation % 2 == 0 && certain_at > made;
    return now > pln_after(is_vouched_for ? certain_at : made, bound);
}

bool pln_cache_in_doubt(struct pln_cache *cache, struct pln_bytes key,
                        const struct pln_get_options *options, const struct pln_l1_hit *hit,
                        pln_ms now) {
    struct pln_match match;
    struct pln_ruleset *ruleset;
    uint32_t generation = pln_l1_generation(cache->l1);
    if (generation % 2 == 0 && hit->generation == generation) {
        return false;
    }
    const struct pln_terms *terms = pln_cache_match(cache, key, &match, &ruleset);
    bool is_in_doubt = pln_life_in_doubt(cache, terms, options, hit, now);
    pln_ruleset_unref(ruleset);
    return is_in_doubt;
}

void pln_life_describe(const struct pln_l1_life *life, pln_ms now, struct pln_result *result) {
    result->age_ms = now > life->created ? now - life->created : 0;
    result->left_ms = life->stale == PLN_FOREVER ? PLN_FOREVER : life->stale - now;
}
