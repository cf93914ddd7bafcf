/* SPDX-License-Identifier: MIT
 *
 * open.c - a cache's beginning and end, and what it does with what the bus says.
 *
 * The parts are made bottom-up and ended top-down: sources of events and workers first (they use
 * everything), then the link (its events use L1), then what is left. What they do begins with the
 * first need (wake.c).
 */
#include "alert.h"
#include "feeder.h"
#include "heard.h"
#include "store.h"
#include "hosts.h"
#include "reload.h"
#include "schema.h"
#include "thread.h"
#include "warm.h"
#include "shadow.h"

/* ---- the bus's word ---- */

static void on_key(void *arg, struct pln_bytes bytes) {
    struct pln_cache *cache = arg;
    struct pln_hashed key = {bytes, pln_hash(bytes, cache->seed)};
    pln_inval_key(cache->inval, &key);
    pln_recovery_heard_key(cache->recovery, bytes);
    pln_flight_nudge(cache->flights, bytes); /* its lease is void too: whoever waits looks again */
    pln_heard_note(cache->heard, PLN_HEARD_KEY, bytes);
}

static void on_expire(void *arg, struct pln_bytes bytes) {
    struct pln_cache *cache = arg;
    struct pln_hashed key = {bytes, pln_hash(bytes, cache->seed)};
    pln_inval_expire(cache->inval, &key, pln_now(&cache->host));
    pln_recovery_heard_key(cache->recovery, bytes);
    pln_flight_nudge(cache->flights, bytes);
    pln_heard_note(cache->heard, PLN_HEARD_EXPIRE, bytes);
}

/* A copy whose original has another life now. It is as old as it was, and its L1 ttl has begun when
 * it was read (R12): of that is known that it lasts to its end, and for one from when it was made.
 */
static void retime_copy(struct pln_cache *cache, const struct pln_hashed *key,
                        const struct pln_terms *terms, const struct pln_l1_hit *hit, pln_ms now,
                        const struct pln_l2_item *item) {
    struct pln_terms bounded = *terms;
    pln_ms end = pln_after(hit->life.created, terms->l1_ttl_ms);
    end = end > hit->life.end ? end : hit->life.end;
    bounded.l1_ttl_ms = end == PLN_FOREVER ? terms->l1_ttl_ms : end - now;
    struct pln_l1_life life = pln_life_of(&bounded, now, now - hit->life.created, item->fresh_left,
                                          item->life_left);
    (void) pln_l1_retime(cache->l1, key, now, life.refresh, life.stale, life.end);
}

static void on_extend(void *arg, struct pln_bytes bytes, pln_ms fresh, pln_ms life) {
    struct pln_cache *cache = arg;
    struct pln_hashed key = {bytes, pln_hash(bytes, cache->seed)};
    struct pln_l2_item item = {.fresh_left = fresh, .life_left = life};
    struct pln_ruleset *ruleset;
    struct pln_match match;
    struct pln_l1_hit hit;
    pln_ms now = pln_now(&cache->host);
    if (pln_l1_get(cache->l1, &key, now, PLN_L1_QUIET, NULL, 0, &hit) != PLN_OK) {
        return;
    }
    const struct pln_terms *terms = pln_cache_match(cache, bytes, &match, &ruleset);
    if (terms->sliding) {
        (void) pln_l1_remove(cache->l1,
                             &key); /* to be read anew; else it ends when it would have */
    } else {
        retime_copy(cache, &key, terms, &hit, now, &item);
    }
    pln_ruleset_unref(ruleset);
}

static void on_tag(void *arg, struct pln_bytes tag) {
    struct pln_cache *cache = arg;
    pln_inval_tag(cache->inval, tag);
    pln_recovery_heard_tag(cache->recovery, tag);
    pln_heard_note(cache->heard, PLN_HEARD_TAG, tag);
}

static void on_match(void *arg, const struct pln_mask *mask) {
    struct pln_cache *cache = arg;
    pln_inval_match(cache->inval, pln_mask_fits, mask);
    pln_recovery_heard_match(cache->recovery, mask);
    pln_heard_note(cache->heard,
                   mask->kind == PLN_MASK_PREFIX ? PLN_HEARD_PREFIX : PLN_HEARD_PATTERN,
                   mask->text);
}

static void on_clear(void *arg) {
    struct pln_cache *cache = arg;
    pln_inval_all(cache->inval);
    pln_recovery_heard_clear(cache->recovery);
    pln_heard_note(cache->heard, PLN_HEARD_CLEAR, pln_bytes_of(NULL, 0));
}

static void on_filled(void *arg, struct pln_bytes key) {
    struct pln_cache *cache = arg;
    pln_flight_nudge(cache->flights, key);
}

static void on_down(void *arg) {
    struct pln_cache *cache = arg;
    pln_inval_down(cache->inval);
    pln_recovery_down(cache->recovery);
    pln_heard_note(cache->heard, PLN_HEARD_DOWN, pln_bytes_of(NULL, 0));
}

static void on_part(void *arg, bool (*has)(const void *server, struct pln_bytes key),
                    const void *server) {
    struct pln_cache *cache = arg;
    pln_inval_match(cache->inval, has, server);
    pln_recovery_heard_clear(cache->recovery); /* any of the server's keys may have gone */
}

static void on_up(void *arg, bool is_whole) {
    struct pln_cache *cache = arg;
    pln_inval_up(cache->inval, is_whole);
    pln_recovery_up(cache->recovery, is_whole);
    pln_heard_note(cache->heard, is_whole ? PLN_HEARD_UP : PLN_HEARD_GAP, pln_bytes_of(NULL, 0));
}

static void on_certain(void *arg, pln_ms at) {
    struct pln_cache *cache = arg;
    /* C3 release: after the generation has moved on, where it had to; pairs with
     * pln_life_in_doubt() */
    atomic_store_explicit(&cache->certain_at, at, memory_order_release);
}

/* ---- open ---- */

static struct pln_terms terms_of(const struct pln_options *options) {
    return (struct pln_terms){
        .ttl_ms = options->ttl_ms,
        .l1_ttl_ms = options->l1_ttl_ms,
        .stale_ms = options->stale_ms,
        .stale_if_error_ms = options->stale_if_error_ms,
        .negative_ms = options->negative_ms,
        .lease_ms = options->lease_ms,
        .load_timeout_ms = options->load_timeout_ms,
        .replica_ttl_ms = options->replica_ttl_ms,
        .max_staleness_ms = options->max_staleness_ms,
        .read = (uint8_t) (PLN_READ_PRIMARY + pln_option_index(pln_reads, options->read)),
        .jitter = options->jitter,
        .refresh = options->refresh,
        .soft_timeout_ms = options->soft_timeout_ms,
        .use_l1 = true,
        .use_l2 = true,
        .l2_ttl_ms = options->l2_ttl_ms,
        .max_age_ms = options->max_age_ms,
        .retry_ms = options->retry_ms,
        .early = options->early,
        .sliding = options->sliding,
        .compress_bytes = options->compress_bytes,
        .compression = (uint8_t) (1 + pln_option_index(pln_compressions, options->compression)),
        .codec = (uint8_t) (1 + pln_option_index(pln_codecs, options->codec)),
        .write = options->writing != NULL ? options->writing->strategy : 0,
    };
}

static int open_l1(struct pln_cache *cache, const struct pln_options *options) {
    struct pln_l1_options l1_options = {
        .max_bytes = options->max_bytes,
        .max_item_bytes = options->max_item_bytes,
        .max_entries = options->max_entries,
        .eviction = (enum pln_l1_eviction) pln_option_index(pln_evictions, options->eviction),
        .absent_share = options->negative_share,
        .weighs_bytes = pln_option_index(pln_weighings, options->weigh) == 1,
        .seed = cache->seed,
        .counts = cache->counts,
        .marks = pln_inval_marks(cache->inval),
    };
    return pln_l1_new(&l1_options, &cache->l1);
}

int pln_cache_make_l2(struct pln_cache *cache, const struct pln_options *options, pln_l2_maker make,
                      void *arg, struct pln_l2 **l2) {
    struct pln_l2_options l2_options = {
        .url = options->redis,
        .username = options->username,
        .password = options->password,
        .tls = {.ca = options->tls_ca,
                .cert = options->tls_cert,
                .key = options->tls_key,
                .name = options->tls_name,
                .is_unchecked = options->tls_unverified},
        .ns = options->ns,
        .connect_timeout_ms = options->connect_timeout_ms,
        .timeout_ms = options->timeout_ms,
        .ping_ms = options->ping_ms,
        .pool = options->pool,
        .bulk_pool = options->bulk_pool,
        .tracking = options->tracking,
        .log_length = options->bus_log == PLN_NONE ? 0 : options->bus_log,
        .keeps_lost = pln_option_index(pln_losses, options->on_lost_writes) == 1,
        .counts = cache->counts,
        .host = &cache->host,
        .events = {.arg = cache,
                   .on_key = on_key,
                   .on_expire = on_expire,
                   .on_extend = on_extend,
                   .on_tag = on_tag,
                   .on_match = on_match,
                   .on_clear = on_clear,
                   .on_filled = on_filled,
                   .on_down = on_down,
                   .on_part = on_part,
                   .on_up = on_up,
                   .on_certain = on_certain},
    };
    return make(arg, &l2_options, l2);
}

static int make_redis(void *arg, const struct pln_l2_options *options, struct pln_l2 **l2) {
    (void) arg;
    return pln_l2_redis_new(options, l2);
}

static int attach(struct pln_cache *cache, const struct pln_options *options, bool has_l2) {
    cache->has_l2 = has_l2;
    pln_inval_attach(cache->inval, cache->l1, has_l2);
    pln_inval_watch(cache->inval, cache);
    return has_l2 && options->recovery != PLN_NONE
               ? pln_recovery_new(cache, options->recovery, options->max_bytes / 8,
                                  &cache->recovery)
               : PLN_OK;
}

static int build(struct pln_cache *cache, const struct pln_options *options, unsigned n_threads,
                 pln_l2_maker make, void *arg) {
    int status = pln_counts_new(&cache->counts);
    if (status == PLN_OK) {
        status = pln_start_new(options, make, arg, &cache->start);
    }
    if (status == PLN_OK) {
        status = pln_inval_new(&cache->inval);
    }
    if (status == PLN_OK) {
        status = open_l1(cache, options);
    }
    if (status == PLN_OK) {
        status = pln_flights_new(&cache->flights);
    }
    if (status == PLN_OK && (cache->policy = pln_ruleset_new()) == NULL) {
        status = pln_fail(PLN_ENOMEM, "open: no memory for an empty policy");
    }
    if (status == PLN_OK) {
        status = pln_schema_new(options->key_schema, &cache->schema);
    }
    if (status == PLN_OK) {
        status = pln_swaps_new(&cache->swaps);
    }
    if (status == PLN_OK) {
        status = pln_heard_new(&cache->heard);
    }
    if (status == PLN_OK) {
        status = pln_shared_new(&cache->shared);
    }
    if (status == PLN_OK) {
        status = pln_alerts_new(cache, &cache->alerts);
    }
    if (status == PLN_OK) {
        status = pln_reloads_new(cache, options->policy_watch_ms, &cache->reloads);
    }
    if (status == PLN_OK) {
        status = pln_feeders_new(cache, &cache->feeders);
    }
    if (status == PLN_OK) {
        status = pln_drain_new(cache, &cache->drain);
    }
    if (status == PLN_OK) {
        status = pln_readiness_new(&cache->readiness);
    }
    if (status == PLN_OK) {
        status = attach(cache, options, make != NULL);
    }
    if (status == PLN_OK) {
        status = pln_workers_new(cache, n_threads, &cache->workers);
    }
    if (status == PLN_OK) {
        status = pln_start_l2(cache);
    }
    return status == PLN_OK && cache->writing.strategy == PLN_WRITE_BEHIND
               ? pln_store_check_client(cache)
               : status;
}

static int open_over_memory(const struct pln_options *options, const char *name,
                            struct pln_cache **cache) {
    struct pln_memory *memory;
    int status = pln_memory_open(name, &memory);
    if (status < 0) {
        return status;
    }
    status = pln_open_over(options, pln_memory_client, memory, cache);
    if (status < 0) {
        pln_memory_close(memory);
        return status;
    }
    (*cache)->memory = memory;
    return PLN_OK;
}

int pln_open(const struct pln_options *options, struct pln_cache **cache) {
    bool has_redis = options != NULL && options->redis != NULL;
    const char *memory = has_redis ? pln_memory_name(options->redis) : NULL;
    if (memory != NULL) {
        return open_over_memory(options, memory, cache);
    }
    return pln_open_over(options, has_redis ? make_redis : NULL, NULL, cache);
}

int pln_open_over(const struct pln_options *options, pln_l2_maker make, void *arg,
                  struct pln_cache **cache) {
    return pln_open_alone(options, NULL, make, arg, cache);
}

int pln_open_alone(const struct pln_options *options, const struct pln_alone *alone,
                   pln_l2_maker make, void *arg, struct pln_cache **cache) {
    struct pln_options resolved;
    struct pln_write_options writing = {0};
    int status = pln_options_resolve(options, make != NULL, &resolved);
    if (status == PLN_OK) {
        status = pln_writing_resolve(resolved.writing, &writing);
    }
    if (status < 0) {
        return status;
    }
    struct pln_cache *created = aligned_alloc(PLN_CACHE_LINE, sizeof *created);
    if (created == NULL) {
        return pln_fail(PLN_ENOMEM, "open: no memory for a cache");
    }
    memset(created, 0, sizeof *created);
    pthread_mutex_init(&created->policy_lock, NULL);
    pthread_mutex_init(&created->popular.lock, NULL);
    pthread_mutex_init(&created->shadow_lock, NULL);
    created->terms = terms_of(&resolved);
    created->terms.cost = &created->cost;
    created->writing = writing;
    atomic_init(&created->may_store, writing.strategy != PLN_WRITE_ASIDE);
    created->max_item_bytes = resolved.max_item_bytes;
    created->max_entries = resolved.max_entries;
    created->eviction = pln_evictions[pln_option_index(pln_evictions, resolved.eviction)];
    created->weigh = pln_weighings[pln_option_index(pln_weighings, resolved.weigh)];
    created->timeout_ms = resolved.timeout_ms;
    created->n_workers = alone != NULL ? 1 : resolved.workers;
    created->policy_budget_ms = resolved.policy_budget_ms;
    created->close_timeout_ms = resolved.close_timeout_ms;
    created->seed = alone != NULL ? alone->seed : pln_random64();
    created->stand_in = alone != NULL ? alone->load : NULL;
    created->stand_in_arg = alone != NULL ? alone->arg : NULL;
    created->is_tracking = resolved.tracking;
    created->name = strdup(resolved.name);
    created->ns = strdup(resolved.ns);
    created->host = (struct pln_host){.clock = resolved.clock,
                                      .clock_arg = resolved.clock_arg,
                                      .log = resolved.log,
                                      .log_arg = resolved.log_arg,
                                      .name = created->name};
    status = created->name != NULL && created->ns != NULL
                 ? build(created, &resolved, alone != NULL ? alone->n_threads : resolved.workers,
                         make, arg)
                 : pln_fail(PLN_ENOMEM, "open: no memory for the name");
    if (status < 0) {
        pln_close(created);
        return status;
    }
    pln_fork_remember(created);
    if (alone != NULL) { /* what happens is to depend on nothing but what is played */
        pln_wake(created);
    }
    *cache = created;
    return PLN_OK;
}

/* Gives a user's reference back; whether it was the last. This thread may end while another one
 * closes the cache for good: what it has there must not be given back then. */
static bool leave_engine(struct pln_cache *cache) {
    pln_l1_part(cache->l1);
    pln_counts_part(cache->counts);
    return pln_engine_leave(cache->engine);
}

/* Waits for all that may run the program's functions or a policy's, but not for ever. */
static bool stop(struct pln_cache *cache) {
    char text[400];
    pln_ns deadline = pln_deadline(cache->close_timeout_ms);
    if (cache->workers == NULL || cache->readiness == NULL || cache->flights == NULL) {
        return true; /* it failed to open */
    }
    bool has_warmed = pln_readiness_stop(cache->readiness, deadline);
    pln_flights_await_answers(cache->flights); /* workers may have to go on with them */
    if (!pln_drain_stop(cache->drain)) {       /* workers may be at its stores */
        return false;
    }
    bool has_loaded = pln_workers_stop(cache->workers, deadline, text, sizeof text);
    if (!has_warmed || !has_loaded) {
        pln_logf(&cache->host, PLN_LOG_WARN,
                 "close: not over after %lld ms (close_timeout): %s%s%s; memory and connections "
                 "stay until it is",
                 (long long) cache->close_timeout_ms, text, has_warmed || has_loaded ? "" : ", ",
                 has_warmed ? "" : "a warming");
    }
    return has_warmed && has_loaded;
}

static void end_all(struct pln_cache *cache) {
    pln_readiness_free(cache->readiness);
    pln_drain_finish(cache->drain); /* it needs workers */
    pln_workers_free(cache->workers);
    pln_previous_finish(cache);
    pln_recovery_finish(cache->recovery);
    pln_l2_close(cache->l2);
    pln_recovery_free(cache->recovery);
    pln_drain_free(cache->drain);
    pln_memory_close(cache->memory);
    if (cache->policy != NULL) {
        pln_ruleset_unref(cache->policy);
    }
    pln_registered_free(cache->loaders);
    pln_registered_free(cache->stores);
    pln_shared_free(cache->shared);
    pln_swaps_free(cache->swaps);
    pln_heard_free(cache->heard);
    pln_schema_free(cache->schema);
    pln_alerts_free(cache->alerts);
    pln_flights_free(cache->flights);
    /* relaxed: no other thread uses the cache any more */
    free(atomic_load_explicit(&cache->misses, memory_order_relaxed));
    pln_l1_free(cache->l1);
    pln_inval_free(cache->inval);
    pln_counts_free(cache->counts);
    pln_popular_fini(&cache->popular);
    pthread_mutex_destroy(&cache->popular.lock);
    pthread_mutex_destroy(&cache->policy_lock);
    pthread_mutex_destroy(&cache->shadow_lock);
    pln_start_free(cache->start);
    free(cache->ns);
    free(cache->name);
    free(cache);
}

static void *end_later(void *cache) {
    end_all(cache);
    return NULL;
}

void pln_close(struct pln_cache *cache) {
    pthread_t thread;
    if (cache == NULL || (cache->engine != NULL && !leave_engine(cache))) {
        return;
    }
    pln_shadow_end(cache);
    pln_fork_forget(cache);
    pln_reloads_free(cache->reloads);
    pln_feeders_free(cache->feeders);
    if (stop(cache) || pln_thread_start(&thread, end_later, cache) < 0) {
        end_all(cache);
    } else {
        pthread_detach(thread);
    }
}
