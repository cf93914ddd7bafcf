/* SPDX-License-Identifier: MIT
 *
 * write.c - what changes a key: set, expire, touch; and tags and clear, which change many.
 *
 * Where Redis is the store of record the order is: stamp, Redis (value and message in one step of
 * the server's), then L1 - and only if nothing was heard of the key in between, for then another
 * write may have come after this one (R9). A write whose outcome is unknown counts as one that may
 * have happened: the key is forgotten here (R4), and the caller is told.
 *
 * Without L2 the stripe alone orders writers: a set raises it, and is kept only if it was the last
 * to do so. What depends on the value that is there (nx, xx) has a lock besides: see swap.c.
 *
 * All that is of keys written aside. Of others a set and a delete take another way (store.h). What
 * only ends a key here, since its source has changed, is no delete: nothing is stored then.
 */
#include "store.h"

#include "compress.h"
#include "hosts.h"
#include "schema.h"
#include "shadow.h"

enum { MOST_TRIES = 16 }; /* of a set to be kept in L1, each overtaken by another within 1 us */

static const struct pln_set_options no_options = {0};

/* ---- what is stored ---- */

int pln_write_begin(struct write *write, struct pln_bytes key, struct pln_bytes value,
                    const struct pln_set_options *options, const char *verb) {
    int status = pln_schema_key(write->cache, key, &write->key);
    if (status < 0) {
        return status;
    }
    pln_wake(write->cache);
    write->terms = pln_cache_match(write->cache, write->key.key, &write->match, &write->ruleset);
    if (write->terms->is_denied) {
        return pln_admit_refuse(write->cache, &write->match, verb);
    }
    write->key.is_plain = write->terms->is_plain;
    write->item.is_absent = options->is_absent;
    write->item.format = options->format;
    write->item.value = options->is_absent ? pln_bytes_of(NULL, 0) : value;
    write->flags = options->flags;
    write->weight = options->weight != 0 ? (uint8_t) options->weight : write->terms->weight;
    write->priority = options->priority != 0 ? (int8_t) options->priority : write->terms->priority;
    write->deadline = options->timeout_ms > 0 ? pln_clock_precise() + options->timeout_ms * 1000000
                                              : PLN_FOREVER;
    return PLN_OK;
}

static int collect_tags(struct write *write, const struct pln_set_options *options) {
    int status = pln_load_rule_tags(&write->shape, &write->match);
    for (size_t i = 0; status == PLN_OK && i < options->n_tags; i++) {
        status = pln_load_tag(&write->shape, options->tags[i]);
    }
    return status;
}

int pln_write_shape(struct write *write, const struct pln_set_options *options) {
    const uint32_t shaping = PLN_RULE_TTL | PLN_RULE_TAGS;
    int status = collect_tags(write, options);
    if (status == PLN_OK && !options->is_absent && write->match.rule != NULL &&
        (write->match.rule->hooks & shaping) != 0) {
        status = pln_shape_by_rule(write->cache, write->ruleset, &write->match, write->key.key,
                                   write->item.value, write->item.format, &write->shape);
    }
    pln_ms ttl = options->ttl_ms;
    ttl = ttl == 0 ? write->shape.ttl_ms : ttl;
    ttl = ttl == 0 && options->is_absent ? write->terms->negative_ms : ttl;
    ttl = ttl == 0 ? write->terms->ttl_ms : ttl;
    if (options->ttl_ms == 0) { /* what a caller says of one value he means */
        ttl = pln_life_jittered(write->terms, ttl);
    }
    pln_ms grace = options->stale_ms > 0 ? options->stale_ms : pln_life_grace(write->terms);
    write->item.fresh_left = ttl;
    write->item.life_left = pln_after(ttl, options->is_absent || write->key.is_plain ? 0 : grace);
    write->item.tags = write->shape.tags;
    write->item.n_tags = write->shape.n_tags;
    return status;
}

int pln_write_check_size(const struct write *write, const char *verb) {
    size_t limit = write->terms->max_bytes;
    return limit == 0 || write->item.value.len <= limit
               ? PLN_OK
               : pln_fail(PLN_ETOOBIG, "%s: %zu bytes, the key's rule allows %zu", verb,
                          write->item.value.len, limit);
}

int pln_write_keep(const struct write *write, const struct pln_stamp *stamp) {
    struct pln_cache *cache = write->cache;
    pln_ms now = pln_now(&cache->host);
    struct pln_l1_item entry = {
        .value = write->item.value,
        .life = pln_life_of(write->terms, now, 0, write->item.fresh_left, write->item.life_left),
        .mark_stamp = stamp->mark_clock,
        .marks = stamp->marks,
        .n_marks = stamp->n_marks,
        .generation = stamp->generation,
        .format = write->item.format,
        .weight = write->weight,
        .priority = write->priority,
        .is_absent = write->item.is_absent,
    };
    return pln_l1_put(cache->l1, &write->key, &entry, now, pln_stamp_holds, stamp);
}

void pln_write_fini(struct write *write) {
    pln_load_fini(&write->shape);
    pln_ruleset_unref(write->ruleset);
}

/* ---- set ---- */

/* PLN_NOT_STORED: somebody else's change came in between, of whom all that is known is that it has
 * raised the stripe; older entries may still be there. */
static int keep_in_l1(struct write *write, struct pln_stamp *stamp) {
    pln_stamp_tags(stamp, write->item.tags, write->item.n_tags);
    int status = pln_write_keep(write, stamp);
    if (status < 0) {
        /* L1 does not take it; the old value must go all the same */
        char text[PLN_ERROR_TEXT];
        memcpy(text, pln_error_text(), sizeof text);
        pln_inval_key(write->cache->inval, &write->key);
        return pln_fail(status, "%s", text);
    }
    return status;
}

/* What nx and xx ask for. */
static bool is_met(const struct write *write) {
    struct pln_cache *cache = write->cache;
    struct pln_l1_hit hit;
    pln_ms now = pln_now(&cache->host);
    bool is_there = pln_l1_get(cache->l1, &write->key, now, PLN_L1_QUIET, NULL, 0, &hit) ==
                        PLN_OK &&
                    !hit.is_absent && now < hit.life.stale;
    return is_there ? (write->flags & PLN_SET_NX) == 0 : (write->flags & PLN_SET_XX) == 0;
}

/* What is there once the stripe is raised is what a condition is about: see swap.c. One that does
 * not hold anyhow need not void the loads under way. */
static int try_set_l1(struct write *write) {
    struct pln_stamp stamp;
    bool is_plain = write->flags == 0;
    if (!is_plain && !is_met(write)) {
        return PLN_NOT_STORED;
    }
    pln_stamp_raise(write->cache->inval, write->key.hash, &stamp);
    if (!is_plain && !is_met(write)) {
        return PLN_NOT_STORED;
    }
    int status = keep_in_l1(write, &stamp);
    /* who raised the stripe since may have looked for this value before it could be seen */
    bool is_last = status == PLN_OK && (!is_plain || pln_stamp_holds(&stamp));
    return status < 0 || is_last ? status : PLN_PENDING;
}

/* L1 only. Who is overtaken tries again, so that of sets at once the last to end is kept. */
static int set_l1(struct write *write) {
    struct pln_cache *cache = write->cache;
    int status = PLN_PENDING;
    if (write->flags != 0) {
        pln_swaps_lock(cache->swaps, write->key.hash);
    }
    for (int i = 0; i < MOST_TRIES && status == PLN_PENDING; i++) {
        status = try_set_l1(write);
    }
    if (write->flags != 0) {
        pln_swaps_unlock(cache->swaps, write->key.hash);
    }
    if (status == PLN_PENDING) {
        /* as if it had been evicted at once: but nothing older may stay */
        pln_inval_key(cache->inval, &write->key);
        status = PLN_OK;
    }
    return status;
}

/* Redis has it. */
static void keep_or_forget(struct write *write, struct pln_stamp *stamp) {
    if (!pln_stamp_advance(stamp, &write->key) || !write->terms->use_l1 ||
        write->item.value.len > write->cache->max_item_bytes ||
        keep_in_l1(write, stamp) != PLN_OK) {
        /* L1 may do without; but nothing older may be left there. Where the stripe was raised,
         * whoever did that may not have come to the entries yet. */
        pln_inval_key(write->cache->inval, &write->key);
    }
}

static int set_l2(struct write *write) {
    struct pln_cache *cache = write->cache;
    struct pln_stamp stamp;
    struct pln_l2_item shared = pln_life_shared(write->terms, &write->item);
    struct pln_attempt attempt = {
        .kind = PLN_ATTEMPT_SET,
        .key = write->key,
        .item = &shared,
        .stamp = &stamp,
        /* whether a plain value is newer cannot be seen later */
        .is_conditional = write->flags != 0 || write->key.is_plain,
    };
    void *packed;
    pln_compress_item(cache, write->terms, &shared, &packed);
    pln_stamp_take(cache->inval, write->key.hash, &stamp); /* R2 */
    pln_recovery_begin(cache->recovery, &attempt);
    int status = pln_l2_set(pln_cache_l2(cache), &write->key, &shared, write->flags,
                            pln_cache_l2_deadline(cache, write->deadline));
    status = pln_recovery_end(cache->recovery, &attempt, status);
    free(packed);
    if (status == PLN_OK) {
        keep_or_forget(write, &stamp);
    }
    if (status == PLN_OK || status == PLN_NOT_STORED) {
        return status;
    }
    pln_inval_key(cache->inval, &write->key); /* R4: it may have happened */
    if (status == PLN_EL2DOWN && write->terms->local_writes && write->flags == 0) {
        return set_l1(write);
    }
    return status;
}

/* Redis has it with its place in the queue. What failed was not acknowledged, so it is not kept. */
static int set_behind(struct write *write, bool is_kept) {
    struct pln_cache *cache = write->cache;
    struct pln_stamp stamp;
    if (!is_kept) { /* it is to be stored, and kept no longer than that takes */
        write->item.fresh_left = write->item.life_left = 1;
    }
    struct pln_l2_item shared = pln_life_shared(write->terms, &write->item);
    bool is_through = false;
    void *packed;
    pln_compress_item(cache, write->terms, &shared, &packed);
    pln_stamp_take(cache->inval, write->key.hash, &stamp); /* R2 */
    int status = pln_queued_set(write, &stamp, &shared, &is_through);
    free(packed);
    if (is_through) {
        return status;
    }
    if (status == PLN_OK) {
        keep_or_forget(write, &stamp);
    } else if (status < 0) {
        pln_inval_key(cache->inval, &write->key); /* R4: it may have happened */
    }
    return status;
}

static int check_set(const struct write *write, const struct pln_set_options *options) {
    int strategy = pln_store_terms(write->cache, write->match.rule)->strategy;
    if (options->flags != 0 && (strategy == PLN_WRITE_THROUGH || strategy == PLN_WRITE_AROUND)) {
        return pln_fail(PLN_EINVAL, "set: nx and xx are for keys that are written aside or behind: "
                                    "the store is written first here, and knows of no condition");
    }
    if (write->key.is_plain && write->item.n_tags > 0) {
        return pln_fail(PLN_EINVAL, "set: the key's rule is plain, and a plain value has no tags");
    }
    if ((options->flags & PLN_SET_NX) != 0 && (options->flags & PLN_SET_XX) != 0) {
        return pln_fail(PLN_EINVAL, "set: nx and xx exclude each other");
    }
    if (options->ttl_ms < 0 || options->stale_ms < 0 || options->timeout_ms < 0) {
        return pln_fail(PLN_EINVAL, "set: ttl, stale and timeout must not be negative");
    }
    if (options->weight > UINT8_MAX) {
        return pln_fail(PLN_EINVAL, "set: weight must be from 0 to 255, got %u", options->weight);
    }
    if (options->priority < INT8_MIN || options->priority > INT8_MAX) {
        return pln_fail(PLN_EINVAL, "set: priority must be from -128 to 127, got %d",
                        options->priority);
    }
    return PLN_OK;
}

/* By its rule's strategy. */
static int put(struct write *write, const struct pln_set_options *options) {
    struct pln_cache *cache = write->cache;
    int strategy = pln_store_strategy(cache, write->match.rule, "set");
    /* else the policy says that it is not to be kept, or it cannot be */
    bool is_kept = write->item.fresh_left >= 0 && !(write->key.is_plain && options->is_absent);
    if (strategy < 0) {
        return strategy;
    }
    if (strategy == PLN_WRITE_ASIDE && !is_kept) {
        pln_count(cache->counts, PLN_COUNT_DELETES, 1);
        return pln_cache_forget(cache, write->key.key);
    }
    int status = strategy == PLN_WRITE_BEHIND               ? set_behind(write, is_kept)
                 : strategy == PLN_WRITE_THROUGH && is_kept ? pln_through_set(write)
                 : strategy != PLN_WRITE_ASIDE              ? pln_around_set(write)
                 : cache->has_l2 && write->terms->use_l2    ? set_l2(write)
                                                            : set_l1(write);
    pln_count(cache->counts, PLN_COUNT_SETS, 1);
    if (status == PLN_OK && pln_shadow_samples(cache, write->key.hash)) {
        pln_shadow_set(cache, &write->key, options);
    }
    return status;
}

int pln_set(struct pln_cache *cache, struct pln_bytes key, struct pln_bytes value,
            const struct pln_set_options *options) {
    struct write write = {.cache = cache};
    options = options != NULL ? options : &no_options;
    int status = pln_write_begin(&write, key, value, options, "set");
    if (status == PLN_OK) {
        status = pln_write_shape(&write, options);
    }
    if (status == PLN_OK) {
        status = pln_write_check_size(&write, "set");
    }
    if (status == PLN_OK) {
        status = check_set(&write, options);
    }
    if (status == PLN_OK) {
        status = put(&write, options);
    }
    pln_write_fini(&write);
    pln_step_a_little(cache, options->timeout_ms == 0);
    return status;
}

/* ---- expire, touch ---- */

static bool rule_uses_l2(struct pln_cache *cache, struct pln_bytes key) {
    struct pln_match match;
    struct pln_ruleset *ruleset;
    bool uses = cache->has_l2 && pln_cache_match(cache, key, &match, &ruleset)->use_l2;
    if (cache->has_l2) {
        pln_ruleset_unref(ruleset);
    }
    return uses;
}

int pln_expire(struct pln_cache *cache, struct pln_bytes bytes) {
    struct pln_hashed key;
    bool is_plain;
    int status = pln_schema_key(cache, bytes, &key);
    if (status < 0) {
        return status;
    }
    (void) pln_codec_of(cache, bytes, &is_plain);
    if (is_plain) { /* there is no place in it that could say so */
        pln_count(cache->counts, PLN_COUNT_DELETES, 1);
        return pln_cache_forget(cache, bytes);
    }
    pln_count(cache->counts, PLN_COUNT_EXPIRES, 1);
    pln_inval_expire(cache->inval, &key, pln_now(&cache->host));
    if (rule_uses_l2(cache, bytes)) {
        struct pln_attempt attempt = {.kind = PLN_ATTEMPT_EXPIRE, .key = key};
        pln_recovery_begin(cache->recovery, &attempt);
        status = pln_l2_expire(pln_cache_l2(cache), &key,
                               pln_cache_l2_deadline(cache, PLN_FOREVER));
        pln_inval_expire(cache->inval, &key, pln_now(&cache->host));
        status = pln_recovery_end(cache->recovery, &attempt, status);
    }
    return status == PLN_MISS ? PLN_OK : status;
}

/* How old L1 knows a value to be; 0 where it does not have it. */
static pln_ms age_in_l1(struct pln_cache *cache, const struct pln_hashed *key, pln_ms now) {
    struct pln_l1_hit hit;
    return pln_l1_get(cache->l1, key, now, PLN_L1_QUIET, NULL, 0, &hit) == PLN_OK
               ? now - hit.life.created
               : 0;
}

int pln_touch(struct pln_cache *cache, struct pln_bytes bytes, pln_ms ttl_ms) {
    struct pln_hashed key;
    struct pln_match match;
    struct pln_ruleset *ruleset;
    int status = pln_schema_key(cache, bytes, &key);
    if (status == PLN_OK && ttl_ms <= 0) {
        status = pln_fail(PLN_EINVAL, "touch: ttl must be positive, got %lld ms",
                          (long long) ttl_ms);
    }
    if (status < 0) {
        return status;
    }
    pln_count(cache->counts, PLN_COUNT_TOUCHES, 1);
    const struct pln_terms *terms = pln_cache_match(cache, bytes, &match, &ruleset);
    pln_ms now = pln_now(&cache->host);
    struct pln_l2_item item = {.age = age_in_l1(cache, &key, now),
                               .fresh_left = ttl_ms,
                               .life_left = pln_after(ttl_ms, pln_life_grace(terms))};
    pln_life_bound(terms, &item);
    struct pln_l1_life life = pln_life_of(terms, now, 0, item.fresh_left, item.life_left);
    int in_l1 = pln_l1_retime(cache->l1, &key, now, life.refresh, life.stale, life.end);
    status = in_l1;
    if (cache->has_l2 && terms->use_l2) {
        item = pln_life_shared(terms, &item);
        status = pln_l2_touch(pln_cache_l2(cache), &key, item.fresh_left, item.life_left, 0,
                              pln_cache_l2_deadline(cache, PLN_FOREVER));
        if (status != PLN_OK) {
            pln_inval_key(cache->inval, &key); /* L1 must not outlive L2 */
        }
    }
    if (pln_shadow_samples(cache, key.hash)) {
        pln_shadow_touch(cache, &key, ttl_ms);
    }
    pln_ruleset_unref(ruleset);
    return status;
}

/* ---- many at once ---- */

int pln_invalidate_tag(struct pln_cache *cache, struct pln_bytes tag) {
    if (tag.len == 0 || tag.len > PLN_MAX_TAG) {
        return pln_fail(PLN_EINVAL, "tag: %zu bytes, must be 1 to %d", tag.len, PLN_MAX_TAG);
    }
    int status = PLN_OK;
    pln_count(cache->counts, PLN_COUNT_TAG_INVALIDATIONS, 1);
    pln_inval_tag(cache->inval, tag);
    if (cache->has_l2) {
        struct pln_attempt attempt = {.kind = PLN_ATTEMPT_TAG, .key = {tag, 0}};
        pln_recovery_begin(cache->recovery, &attempt);
        status = pln_l2_drop_tag(pln_cache_l2(cache), tag,
                                 pln_cache_l2_deadline(cache, PLN_FOREVER));
        pln_inval_tag(cache->inval, tag);
        status = pln_recovery_end(cache->recovery, &attempt, status);
    }
    return status;
}

int pln_clear(struct pln_cache *cache) {
    int status = PLN_OK;
    pln_count(cache->counts, PLN_COUNT_CLEARS, 1);
    pln_inval_all(cache->inval);
    if (cache->has_l2) {
        struct pln_attempt attempt = {.kind = PLN_ATTEMPT_CLEAR};
        pln_recovery_begin(cache->recovery, &attempt);
        status = pln_l2_clear(pln_cache_l2(cache), pln_cache_l2_deadline(cache, PLN_FOREVER));
        pln_inval_all(cache->inval);
        status = pln_recovery_end(cache->recovery, &attempt, status);
    }
    return status;
}
