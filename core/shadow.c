/* SPDX-License-Identifier: MIT
 *
 * shadow.c - a candidate policy beside the live one.
 *
 * Who reads or writes a sampled key queues an event, and goes on. The candidate is a cache of its
 * own, without L2, that one thread has to itself (simulate.h): its worker, which plays the events
 * in their order, and so does nothing to the live cache but look at its L1. Where events come
 * faster than they are played, they are dropped, on both sides.
 */
#include "shadow.h"

#include <stdio.h>

enum {
    MOST_WAITING = 8192, /* events: some 2 MB */
    LEAST_BYTES = 1 << 16,
};

static const double USUAL_SAMPLE = 0.05;

/* ---- being told ---- */

static struct pln_told *copy_of(const struct pln_told *told) {
    size_t bytes = sizeof *told + told->n_tags * sizeof *told->tags + told->text.len;
    for (size_t i = 0; i < told->n_tags; i++) {
        bytes += told->tags[i].len;
    }
    struct pln_told *event = malloc(bytes);
    if (event == NULL) {
        return NULL;
    }
    *event = *told;
    struct pln_bytes *tags = (struct pln_bytes *) (event + 1);
    char *at = (char *) (tags + told->n_tags);
    for (size_t i = 0; i < told->n_tags; i++) {
        memcpy(at, told->tags[i].data, told->tags[i].len);
        tags[i] = pln_bytes_of(at, told->tags[i].len);
        at += told->tags[i].len;
    }
    if (told->text.len > 0) {
        memcpy(at, told->text.data, told->text.len);
    }
    event->text.data = at;
    event->tags = tags;
    return event;
}

/* Leaves the text of the caller's failure alone. */
static void tell(struct pln_cache *cache, const struct pln_told *told) {
    pthread_mutex_lock(&cache->shadow_lock);
    struct pln_shadow *shadow = cache->shadow;
    if (shadow != NULL) {
        struct pln_workers *workers = shadow->candidate->workers;
        bool has_room = pln_workers_depth(workers) < MOST_WAITING;
        struct pln_told *event = has_room ? copy_of(told) : NULL;
        if (event != NULL) {
            event->shadow = shadow;
            event->job = (struct pln_job){.run = pln_shadow_play, .drop = pln_shadow_drop};
            has_room = pln_workers_submit(workers, &event->job, false) == PLN_OK;
        }
        if (event == NULL || !has_room) {
            free(event);
            shadow->n_dropped++;
        }
    }
    pthread_mutex_unlock(&cache->shadow_lock);
}

void pln_shadow_saw(struct pln_cache *cache, const struct pln_hashed *key,
                    const struct pln_get_options *options, int status, uint8_t source, size_t len) {
    static const struct pln_get_options no_options = {0};
    options = options != NULL ? options : &no_options;
    struct pln_told told = {.kind = PLN_TOLD_READ,
                            .text = key->key,
                            .status = status,
                            .len = len,
                            .flags = options->flags & (PLN_GET_NO_STALE | PLN_GET_NO_LOAD),
                            .source = source,
                            .ttl_ms = options->ttl_ms,
                            .stale_ms = options->stale_ms,
                            .negative_ms = options->negative_ms,
                            .tags = options->tags,
                            .n_tags = options->n_tags};
    told.flags |= status == PLN_MISS ? PLN_GET_NO_LOAD : 0;
    if ((options->flags & PLN_GET_NO_L1) == 0) {
        tell(cache, &told);
    }
}

void pln_shadow_saw_many(struct pln_cache *cache, const struct pln_bytes *keys, size_t n,
                         const struct pln_get_options *options, const int *statuses,
                         const struct pln_result *results) {
    for (size_t i = 0; i < n; i++) {
        struct pln_hashed key;
        if (pln_cache_key(cache, keys[i], &key) == PLN_OK && pln_shadow_samples(cache, key.hash)) {
            if (results[i].source == PLN_FROM_L2) {
                pln_shadow_fetched(cache, &key, results[i].len);
            }
            pln_shadow_saw(cache, &key, options, statuses[i], results[i].source, results[i].len);
        }
    }
}

void pln_shadow_fetched(struct pln_cache *cache, const struct pln_hashed *key, size_t len) {
    tell(cache, &(struct pln_told){.kind = PLN_TOLD_FETCH, .text = key->key, .len = len});
}

void pln_shadow_set(struct pln_cache *cache, const struct pln_hashed *key,
                    const struct pln_set_options *options) {
    tell(cache, &(struct pln_told){.kind = PLN_TOLD_SET,
                                   .text = key->key,
                                   .format = options->format,
                                   .is_absent = options->is_absent,
                                   .ttl_ms = options->ttl_ms,
                                   .stale_ms = options->stale_ms,
                                   .tags = options->tags,
                                   .n_tags = options->n_tags});
}

void pln_shadow_touch(struct pln_cache *cache, const struct pln_hashed *key, pln_ms ttl_ms) {
    tell(cache, &(struct pln_told){.kind = PLN_TOLD_TOUCH, .text = key->key, .ttl_ms = ttl_ms});
}

void pln_shadow_forget(struct pln_cache *cache, const struct pln_hashed *key) {
    tell(cache, &(struct pln_told){.kind = PLN_TOLD_FORGET, .text = key->key});
}

void pln_shadow_expire(struct pln_cache *cache, const struct pln_hashed *key) {
    tell(cache, &(struct pln_told){.kind = PLN_TOLD_EXPIRE, .text = key->key});
}

void pln_shadow_tag(struct pln_cache *cache, struct pln_bytes tag) {
    tell(cache, &(struct pln_told){.kind = PLN_TOLD_TAG, .text = tag});
}

void pln_shadow_match(struct pln_cache *cache, const struct pln_mask *mask) {
    bool is_prefix = mask->kind == PLN_MASK_PREFIX;
    tell(cache, &(struct pln_told){.kind = is_prefix ? PLN_TOLD_PREFIX : PLN_TOLD_PATTERN,
                                   .text = mask->text});
}

void pln_shadow_all(struct pln_cache *cache) {
    tell(cache, &(struct pln_told){.kind = PLN_TOLD_ALL});
}

/* ---- life ---- */

void pln_shadow_free(struct pln_shadow *shadow) {
    if (shadow != NULL) {
        pln_close(shadow->candidate);
        pln_comparison_fini(&shadow->comparison);
        pthread_mutex_destroy(&shadow->lock);
        free(shadow);
    }
}

static int open_candidate(struct pln_shadow *shadow) {
    struct pln_cache *live = shadow->live;
    struct pln_l1_usage usage;
    char name[80];
    pln_l1_usage(live->l1, &usage);
    snprintf(name, sizeof name, "%.56s-shadow", live->name);
    size_t max_bytes = (size_t) ((double) usage.max_bytes * shadow->sample);
    struct pln_options options = {.name = name,
                                  .eviction = live->eviction,
                                  .weigh = live->weigh,
                                  .log = live->host.log,
                                  .log_arg = live->host.log_arg,
                                  .policy_budget_ms = live->policy_budget_ms,
                                  .clock = live->host.clock,
                                  .clock_arg = live->host.clock_arg};
    options.max_bytes = max_bytes > LEAST_BYTES ? max_bytes : LEAST_BYTES;
    options.max_item_bytes = live->max_item_bytes < options.max_bytes ? live->max_item_bytes
                                                                      : options.max_bytes;
    options.max_entries = (size_t) ((double) live->max_entries * shadow->sample);
    options.max_entries += live->max_entries > 0 && options.max_entries == 0;
    struct pln_alone alone = {
        .load = pln_shadow_load, .arg = shadow, .seed = pln_random64(), .n_threads = 1};
    int status = pln_open_alone(&options, &alone, NULL, NULL, &shadow->candidate);
    if (status == PLN_OK) {
        shadow->candidate->terms = live->terms; /* what no rule says is the same for both */
    }
    return status;
}

int pln_shadow_new(struct pln_cache *live, double sample, struct pln_shadow **shadow) {
    sample = sample == 0 ? USUAL_SAMPLE : sample;
    if (!(sample > 0 && sample <= 1)) {
        return pln_fail(PLN_EINVAL, "sample: must be more than 0 and at most 1, got %g", sample);
    }
    struct pln_shadow *created = calloc(1, sizeof *created);
    if (created == NULL) {
        return pln_fail(PLN_ENOMEM, "shadow: no memory");
    }
    pthread_mutex_init(&created->lock, NULL);
    created->live = live;
    created->sample = sample;
    int status = open_candidate(created);
    if (status < 0) {
        pln_shadow_free(created);
        return status;
    }
    *shadow = created;
    return PLN_OK;
}

struct pln_cache *pln_shadow_candidate(struct pln_shadow *shadow) {
    return shadow->candidate;
}

static void put_take(struct pln_cache *cache, struct pln_shadow *shadow, uint64_t below) {
    pthread_mutex_lock(&cache->shadow_lock);
    struct pln_shadow *former = cache->shadow;
    cache->shadow = shadow;
    /* relaxed: see pln_shadow_samples(); the pointer is guarded by the lock */
    atomic_store_explicit(&cache->shadow_below, below, memory_order_relaxed);
    pthread_mutex_unlock(&cache->shadow_lock);
    pln_shadow_free(former);
}

void pln_shadow_start_take(struct pln_cache *cache, struct pln_shadow *shadow) {
    shadow->began = pln_now(&cache->host);
    uint64_t below = shadow->sample < 1 ? (uint64_t) (shadow->sample * 0x1p64) : UINT64_MAX;
    put_take(cache, shadow, below > 0 ? below : 1);
}

void pln_shadow_end(struct pln_cache *cache) {
    put_take(cache, NULL, 0);
}

/* ---- around a fork ---- */

void pln_shadow_freeze(struct pln_cache *cache) {
    pthread_mutex_lock(&cache->shadow_lock);
    if (cache->shadow != NULL) {
        pthread_mutex_lock(&cache->shadow->lock);
    }
}

/* A child's candidate has no thread: it is told nothing more. */
void pln_shadow_thaw(struct pln_cache *cache, bool is_child) {
    if (is_child) {
        /* relaxed: a child has one thread */
        atomic_store_explicit(&cache->shadow_below, 0, memory_order_relaxed);
    }
    if (cache->shadow != NULL) {
        pthread_mutex_unlock(&cache->shadow->lock);
    }
    pthread_mutex_unlock(&cache->shadow_lock);
}

/* ---- seeing ---- */

int pln_shadow_report(struct pln_cache *cache, struct pln_shadow_report *report) {
    struct pln_l1_usage usage;
    uint64_t totals[PLN_N_COUNTS];
    pthread_mutex_lock(&cache->shadow_lock);
    struct pln_shadow *shadow = cache->shadow;
    if (shadow != NULL) {
        pln_l1_usage(shadow->candidate->l1, &usage);
        pln_counts_sum(shadow->candidate->counts, totals);
        pthread_mutex_lock(&shadow->lock);
        *report = (struct pln_shadow_report){
            .sample = shadow->sample,
            .took_ms = pln_now(&cache->host) - shadow->began,
            .live = shadow->live_side,
            .candidate = shadow->candidate_side,
            .differing = shadow->n_differing,
            .dropped = shadow->n_dropped,
            .waiting = pln_workers_depth(shadow->candidate->workers),
            .policy_errors = totals[PLN_COUNT_POLICY_ERRORS],
            .l1_bytes = usage.bytes,
            .max_bytes = usage.max_bytes,
            .l1_entries = usage.entries,
        };
        pthread_mutex_unlock(&shadow->lock);
    }
    pthread_mutex_unlock(&cache->shadow_lock);
    return shadow != NULL ? PLN_OK : PLN_MISS;
}

size_t pln_shadow_terms(struct pln_cache *cache, char *buffer, size_t size) {
    size_t len = 0;
    pthread_mutex_lock(&cache->shadow_lock);
    struct pln_shadow *shadow = cache->shadow;
    if (shadow != NULL) {
        pthread_mutex_lock(&shadow->lock);
        for (size_t i = 0; i < shadow->comparison.n_pairs; i++) {
            const struct pln_pair *pair = &shadow->comparison.pairs[i];
            if (pair->differs) {
                len += (size_t) snprintf(len < size ? buffer + len : NULL,
                                         len < size ? size - len : 0, "%llu request%s: %s",
                                         (unsigned long long) pair->n_requests,
                                         pair->n_requests == 1 ? "" : "s", pair->text);
            }
        }
        pthread_mutex_unlock(&shadow->lock);
    }
    pthread_mutex_unlock(&cache->shadow_lock);
    if (len == 0 && size > 0) {
        buffer[0] = 0;
    }
    return len;
}
