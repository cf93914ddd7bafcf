/* SPDX-License-Identifier: MIT
 *
 * cache.c - every read: the way of a key through the tiers.
 *
 *     pln_get_copy ─► pln_l1_get ── plain hit ─► done: no lock, no wait, no Lua
 *          └► read_through ─► L1 ── due for refresh ─► value now, load behind
 *                              │ ─── stale, allowed ──► value now, load behind
 *                              ▼ miss
 *                            flight ─► leader: fill.c ─► L2, lease, loader
 *                              └ follower: waits for the leader's outcome
 *
 * Each read ends in tally(), which counts it under exactly one of six heads.
 */
#include "fills.h"
#include "hosts.h"
#include "nested.h"
#include "schema.h"
#include "shadow.h"
#include "way.h"

static const struct pln_get_options no_options = {0};

/* ---- how a read ends ---- */

/* Counts how a read ended; every one passes here once, or copy_plain() does it. */
static int tally(struct pln_cache *cache, int status, const struct pln_result *result) {
    static const enum pln_count heads[] = {
        [PLN_FROM_MISS] = PLN_COUNT_MISSES,        [PLN_FROM_L1] = PLN_COUNT_L1_HITS,
        [PLN_FROM_L2] = PLN_COUNT_L2_HITS,         [PLN_FROM_LOADER] = PLN_COUNT_LOADS_SERVED,
        [PLN_FROM_STALE] = PLN_COUNT_STALE_SERVED,
    };
    bool has_failed = status < 0 || status == PLN_PENDING;
    pln_count(cache->counts, has_failed ? PLN_COUNT_FAILURES : heads[result->source], 1);
    return status;
}

/* Says where a value came from; a negative one is counted by its tier and told as negative. */
static int deliver(struct pln_cache *cache, bool is_absent, enum pln_source tier,
                   struct pln_result *result) {
    int status = is_absent ? PLN_ABSENT : PLN_OK;
    result->source = (uint8_t) tier;
    tally(cache, status, result);
    if (is_absent) {
        pln_count(cache->counts, PLN_COUNT_NEGATIVES, 1);
        result->source = PLN_FROM_NEGATIVE;
        result->len = 0;
    }
    return status;
}

/* A hit that needs nothing else: fresh, not due, and of the present generation, which is live. */
static bool is_plain(const struct pln_cache *cache, const struct pln_l1_hit *hit, pln_ms now) {
    uint32_t generation = pln_l1_generation(cache->l1);
    return now < hit->life.refresh && hit->generation == generation && generation % 2 == 0;
}

/* ---- past the plain hit ---- */

enum verdict {
    SERVE,       /* as it is */
    SERVE_STALE, /* past its ttl, but good enough while it is loaded anew */
    KEEP,        /* load first; this is what there is if that fails */
};

/* True where a load behind the caller's back can bring something. */
static bool can_load_behind(const struct pln_request *request, bool is_stale) {
    return pln_loader_can_run(request) ||
           (is_stale && request->cache->has_l2 && request->terms->use_l2);
}

/* Decides what to do with an entry that is not a plain hit, and starts the load behind it. Of all
 * callers one gets the claim: the others are served without further work. */
static enum verdict judge(struct pln_request *request, const struct pln_l1_hit *hit, pln_ms now) {
    struct pln_l1 *l1 = request->cache->l1;
    bool has_failed = pln_failed_lately(request->cache, &request->key, now);
    pln_ms window = pln_life_window(request->terms, request->options);
    if (has_failed && window < pln_life_grace(request->terms)) {
        window = pln_life_grace(request->terms);
    }
    bool is_doubtful = pln_life_in_doubt(request->cache, request->terms, request->options, hit,
                                         now);
    bool is_stale = now >= hit->life.stale;
    bool is_in_grace = now - hit->life.stale < window &&
                       (request->options->flags & PLN_GET_NO_STALE) == 0;
    if (is_doubtful || (is_stale && !is_in_grace)) {
        return KEEP;
    }
    if (now >= hit->life.refresh &&
        pln_due(request->cache, &request->key, request->terms, hit, now) &&
        (can_load_behind(request, is_stale) || request->loader != NULL) &&
        pln_l1_claim_refresh(l1, &request->key)) {
        if (request->loader != NULL && (is_stale || request->terms->early > 0)) {
            request->is_refresh = !is_stale; /* what L2 has of it is no answer */
            request->created = hit->life.created;
            return KEEP; /* the call's own loader cannot run behind: one caller pays */
        }
        pln_fill_behind(request->cache, &request->key, hit->life.created);
    }
    return is_stale ? SERVE_STALE : SERVE;
}

static int serve_l1(struct pln_request *request, const struct pln_l1_hit *hit, pln_ms now,
                    enum pln_source tier, struct pln_value *value, struct pln_result *result) {
    request->is_from_l1 = true;
    *result = (struct pln_result){.value = value, .len = hit->len, .format = hit->format};
    pln_life_describe(&hit->life, now, result);
    return deliver(request->cache, hit->is_absent, tier, result);
}

static int serve_outcome(struct pln_cache *cache, struct pln_outcome *outcome,
                         struct pln_result *result) {
    pln_ms now = pln_now(&cache->host);
    bool is_absent = outcome->status == PLN_ABSENT;
    enum pln_source tier = outcome->source;
    if (tier == PLN_FROM_STALE && now < outcome->life.stale) {
        tier = PLN_FROM_L2; /* kept aside by a refresh that brought nothing newer */
    }
    *result = (struct pln_result){.value = outcome->value,
                                  .len = pln_value_len(outcome->value),
                                  .format = outcome->value->format};
    outcome->value = NULL;
    pln_life_describe(&outcome->life, now, result);
    return deliver(cache, is_absent, tier, result);
}

int pln_cache_deliver(struct pln_cache *cache, struct pln_outcome *outcome,
                      struct pln_result *result) {
    if (outcome->status == PLN_OK || outcome->status == PLN_ABSENT) {
        return serve_outcome(cache, outcome, result);
    }
    *result = (struct pln_result){.source = PLN_FROM_MISS};
    return tally(cache, outcome->status, result);
}

struct pln_flight *pln_cache_join(const struct pln_request *request, bool *leads) {
    struct pln_cache *cache = request->cache;
    struct pln_stamp stamp;
    pln_stamp_take(cache->inval, request->key.hash, &stamp);
    bool may_lag = pln_cache_read(request->options, request->terms) != PLN_READ_PRIMARY;
    struct pln_flight *flight = pln_flight_join(cache->flights, &stamp, &request->key, may_lag,
                                                leads);
    if (flight != NULL && !*leads && pln_workers_has_caller(cache->workers) &&
        !pln_flight_has_begun(cache->flights, flight) &&
        !pln_flight_is_own(cache->flights, flight)) {
        pln_flight_leave(cache->flights, flight); /* it may wait for this very worker */
        flight = pln_flight_lead(cache->flights, &stamp, &request->key, may_lag);
        *leads = true;
    }
    return flight;
}

/* Leads the key's flight or follows it. Returns as pln_flight_wait(). */
static int fly_once(struct pln_request *request, struct pln_outcome *outcome, bool *leads) {
    struct pln_cache *cache = request->cache;
    struct pln_patience patience = {
        .deadline = request->deadline,
        .soft_ms = request->soft_ms,
        .has_stale = request->has_stale,
        .takes_stale = (request->options->flags & PLN_GET_NO_STALE) == 0,
    };
    *leads = true;
    if (request->loads_as == 0) {
        pln_fills_yield();
    }
    if (pln_nested_check(cache, request->key.key) < 0) {
        pln_outcome_fail(outcome, PLN_ELOADER);
        return PLN_OK;
    }
    struct pln_flight *flight = pln_cache_join(request, leads);
    if (flight == NULL) {
        pln_outcome_fail(outcome, PLN_ENOMEM);
        return PLN_OK;
    }
    if (*leads) {
        pln_fill_lead(request, flight);
    } else {
        pln_count(cache->counts, PLN_COUNT_LOAD_WAITS, 1);
        pln_fills_yield();
    }
    int status = pln_flight_wait(cache->flights, flight, &patience, outcome);
    pln_flight_leave(cache->flights, flight);
    return status;
}

bool pln_way_may_do_better(const struct pln_request *request, const struct pln_outcome *outcome,
                           bool has_led) {
    if (outcome->status != PLN_MISS && outcome->status >= 0) {
        return false;
    }
    return outcome->is_leaders_own || (outcome->lacked_loader && !has_led &&
                                       (request->loader != NULL || pln_fill_has_loader(request)));
}

/* The same until a flight has ended for all. */
static int fly(struct pln_request *request, struct pln_outcome *outcome) {
    int status;
    bool leads;
    do {
        *outcome = (struct pln_outcome){0};
        status = fly_once(request, outcome, &leads);
    } while (status == PLN_OK && pln_way_may_do_better(request, outcome, leads) &&
             pln_clock_precise() < request->deadline);
    return status;
}

/* A value past its ttl when loading has failed: as long as the terms say, and for as long as it
 * lives where only the link is lost. */
static bool may_serve_after_failure(const struct pln_request *request, const struct pln_l1_hit *hit,
                                    pln_ms now) {
    return (request->options->flags & PLN_GET_NO_STALE) == 0 &&
           (now < hit->life.stale || now - hit->life.stale < pln_life_grace(request->terms));
}

/* Before it flies. */
static void prepare(struct pln_way *way) {
    struct pln_request *request = &way->request;
    pln_ms now = pln_now(&request->cache->host);
    request->has_stale = request->soft_ms > 0 && way->kept != NULL &&
                         may_serve_after_failure(request, &way->hit, now) &&
                         !pln_life_in_doubt(request->cache, request->terms, request->options,
                                            &way->hit, now);
    pln_admit_note(request->cache, &request->key, request->terms);
}

/* The failure of one whose wait is over, or would be in vain. */
static int give_up(const struct pln_request *request, int flown) {
    return flown == PLN_EBUSY
               ? pln_fail(PLN_PENDING, "get: the key is being loaded by this thread, in a call "
                                       "that goes on once this one has returned")
               : pln_fail(PLN_ETIMEOUT, "get: no value within %lld ms",
                          (long long) request->timeout_ms);
}

int pln_way_settle(struct pln_way *way, int flown, struct pln_outcome *outcome,
                   struct pln_result *result) {
    struct pln_request *request = &way->request;
    struct pln_cache *cache = request->cache;
    struct pln_value *kept = way->kept;
    pln_ms now = pln_now(&cache->host);
    way->kept = NULL;
    if (flown == PLN_PENDING) {
        pln_count(cache->counts, PLN_COUNT_SOFT_TIMEOUTS, 1);
    }
    if (flown == PLN_PENDING && outcome->value == NULL && kept != NULL) {
        return serve_l1(request, &way->hit, now, PLN_FROM_STALE, kept, result);
    }
    if (flown != PLN_OK && outcome->value == NULL) {
        outcome->status = give_up(request, flown);
    } else if (outcome->status < 0) {
        pln_fail(outcome->status, "%s", outcome->text);
    }
    bool has_failed = outcome->status < 0 || outcome->status == PLN_PENDING;
    if (kept != NULL && has_failed) {
        pln_l1_unclaim_refresh(cache->l1, &request->key); /* there may have been no flight */
    }
    has_failed = has_failed || (outcome->status == PLN_MISS && request->is_refresh);
    if (kept != NULL && has_failed && may_serve_after_failure(request, &way->hit, now)) {
        return serve_l1(request, &way->hit, now, request->is_refresh ? PLN_FROM_L1 : PLN_FROM_STALE,
                        kept, result);
    }
    pln_release(cache, kept);
    if (outcome->source == PLN_FROM_STALE && now >= outcome->life.stale &&
        (request->options->flags & PLN_GET_NO_STALE) != 0) {
        pln_outcome_fini(outcome);
        outcome->status = PLN_MISS;
    }
    return pln_cache_deliver(cache, outcome, result);
}

void pln_request_begin(struct pln_request *request, struct pln_cache *cache,
                       const struct pln_hashed *key, const struct pln_get_options *options) {
    *request = (struct pln_request){
        .cache = cache, .key = *key, .options = options != NULL ? options : &no_options};
    request->terms = pln_cache_match(cache, request->key.key, &request->match, &request->ruleset);
    request->key.is_plain = request->terms->is_plain;
    request->timeout_ms = request->options->timeout_ms > 0 ? request->options->timeout_ms
                                                           : request->terms->load_timeout_ms;
    request->deadline = pln_deadline(request->timeout_ms);
    request->soft_ms = request->options->soft_timeout_ms > 0 ? request->options->soft_timeout_ms
                                                             : request->terms->soft_timeout_ms;
    request->is_wanted = (request->options->flags & PLN_GET_KEEP) != 0;
}

void pln_way_begin(struct pln_way *way, struct pln_cache *cache, const struct pln_hashed *key,
                   const struct pln_get_options *options, pln_loader loader, void *arg) {
    pln_wake(cache);
    way->kept = NULL;
    pln_request_begin(&way->request, cache, key, options);
    way->request.loader = loader;
    way->request.loader_arg = arg;
    pln_loader_choose(&way->request);
}

int pln_way_look(struct pln_way *way, struct pln_result *result) {
    struct pln_request *request = &way->request;
    struct pln_cache *cache = request->cache;
    pln_ms now = pln_now(&cache->host);
    if (pln_schema_check(cache->schema, request->key.key) < 0) {
        *result = (struct pln_result){.source = PLN_FROM_MISS};
        return tally(cache, PLN_EINVAL, result);
    }
    if (request->terms->is_denied) {
        *result = (struct pln_result){.source = PLN_FROM_MISS};
        return tally(cache, pln_admit_refuse(cache, &request->match, "get"), result);
    }
    if ((request->options->flags & PLN_GET_NO_L1) == 0 && request->terms->use_l1 &&
        pln_l1_borrow(cache->l1, &request->key, now, 0, &way->hit, &way->kept) == PLN_OK) {
        enum verdict verdict = judge(request, &way->hit, now);
        if (verdict != KEEP) {
            struct pln_value *value = way->kept;
            way->kept = NULL;
            return serve_l1(request, &way->hit, now,
                            verdict == SERVE_STALE ? PLN_FROM_STALE : PLN_FROM_L1, value, result);
        }
    }
    prepare(way);
    return PLN_PENDING;
}

void pln_way_end(struct pln_way *way, int status, const struct pln_result *result) {
    const struct pln_request *request = &way->request;
    if (pln_shadow_samples(request->cache, request->key.hash)) {
        uint8_t tier = request->is_from_l1 ? PLN_FROM_L1 : PLN_FROM_LOADER;
        pln_shadow_saw(request->cache, &request->key, request->options, status,
                       result->source == PLN_FROM_NEGATIVE ? tier : result->source, result->len);
    }
    pln_ruleset_unref(request->ruleset);
}

static int read_through(struct pln_cache *cache, const struct pln_hashed *key,
                        const struct pln_get_options *options, pln_loader loader, void *arg,
                        unsigned loads_as, struct pln_result *result) {
    struct pln_way way;
    pln_way_begin(&way, cache, key, options, loader, arg);
    way.request.loads_as = loads_as;
    int status = pln_way_look(&way, result);
    if (status == PLN_PENDING) {
        struct pln_outcome outcome = {0};
        int flown = fly(&way.request, &outcome);
        status = pln_way_settle(&way, flown, &outcome, result);
    }
    bool is_from_l1 = way.request.is_from_l1;
    bool may_take_time = way.request.options->timeout_ms == 0 && loads_as == 0;
    pln_way_end(&way, status, result);
    if (!is_from_l1) {
        pln_step_a_little(cache, may_take_time);
    }
    return status;
}

/* ---- the public reads ---- */

/* What is told to a shadow takes the long way, a hit too. */
static bool may_be_plain(const struct pln_cache *cache, const struct pln_get_options *options,
                         uint64_t hash) {
    return (options == NULL || (options->flags & PLN_GET_NO_L1) == 0) &&
           !pln_shadow_samples(cache, hash);
}

/* An L1 hit that needs nothing else, borrowed. Returns: as pln_get(); PLN_PENDING: it takes more.
 */
static int borrow_plain(struct pln_cache *cache, const struct pln_hashed *key, pln_ms now,
                        uint32_t flags, struct pln_result *result) {
    struct pln_l1_hit hit;
    struct pln_value *value = NULL;
    if (pln_l1_borrow(cache->l1, key, now, flags, &hit, &value) != PLN_OK ||
        !is_plain(cache, &hit, now)) {
        pln_release(cache, value);
        return PLN_PENDING;
    }
    *result = (struct pln_result){.value = value, .len = hit.len, .format = hit.format};
    pln_life_describe(&hit.life, now, result);
    return deliver(cache, hit.is_absent, PLN_FROM_L1, result);
}

/* The same, copied to the buffer, in as few instructions as it takes: most reads end here. */
static inline int copy_plain(struct pln_cache *cache, const struct pln_hashed *key,
                             const struct pln_get_options *options, void *buffer, size_t size,
                             struct pln_result *result) {
    struct pln_l1_hit hit;
    pln_ms now = pln_now(&cache->host);
    if (!may_be_plain(cache, options, key->hash) ||
        pln_l1_get(cache->l1, key, now, 0, buffer, size, &hit) != PLN_OK ||
        !is_plain(cache, &hit, now)) {
        return PLN_PENDING;
    }
    if (__builtin_expect(hit.len > size, 0) && options != NULL &&
        (options->flags & PLN_GET_LONG) != 0) {
        return borrow_plain(cache, key, now, PLN_L1_QUIET, result); /* it is counted in L1 */
    }
    *result = (struct pln_result){.len = hit.len, .format = hit.format, .source = PLN_FROM_L1};
    pln_life_describe(&hit.life, now, result);
    if (__builtin_expect(hit.is_absent, 0)) {
        return deliver(cache, true, PLN_FROM_L1, result);
    }
    pln_count(cache->counts, PLN_COUNT_L1_HITS, 1); /* as tally() */
    return hit.len > size ? PLN_TRUNCATED : PLN_OK;
}

static __attribute__((noinline)) int copy_slowly(struct pln_cache *cache,
                                                 const struct pln_hashed *key,
                                                 const struct pln_get_options *options,
                                                 void *buffer, size_t size,
                                                 struct pln_result *result) {
    bool borrows = options != NULL && (options->flags & PLN_GET_LONG) != 0;
    int status = read_through(cache, key, options, NULL, NULL, 0, result);
    if (result->value != NULL && !(borrows && result->len > size)) {
        size_t n = result->len < size ? result->len : size;
        if (n > 0) {
            memcpy(buffer, pln_value_data(result->value), n);
        }
        pln_release(cache, result->value);
        result->value = NULL;
    }
    return status == PLN_OK && result->value == NULL && result->len > size ? PLN_TRUNCATED : status;
}

int pln_get_copy(struct pln_cache *cache, struct pln_bytes key,
                 const struct pln_get_options *options, void *buffer, size_t size,
                 struct pln_result *result) {
    struct pln_hashed hashed;
    int status = pln_cache_key(cache, key, &hashed);
    if (status < 0) {
        *result = (struct pln_result){.source = PLN_FROM_MISS};
        return tally(cache, status, result);
    }
    status = copy_plain(cache, &hashed, options, buffer, size, result);
    return status != PLN_PENDING ? status
                                 : copy_slowly(cache, &hashed, options, buffer, size, result);
}

int pln_way_plain(struct pln_cache *cache, const struct pln_hashed *key,
                  const struct pln_get_options *options, struct pln_result *result) {
    return may_be_plain(cache, options, key->hash)
               ? borrow_plain(cache, key, pln_now(&cache->host), 0, result)
               : PLN_PENDING;
}

int pln_get_or_load(struct pln_cache *cache, struct pln_bytes key,
                    const struct pln_get_options *options, pln_loader loader, void *arg,
                    struct pln_result *result) {
    struct pln_hashed hashed;
    int status = pln_cache_key(cache, key, &hashed);
    if (status < 0) {
        *result = (struct pln_result){.source = PLN_FROM_MISS};
        return tally(cache, status, result);
    }
    status = pln_way_plain(cache, &hashed, options, result);
    return status != PLN_PENDING ? status
                                 : read_through(cache, &hashed, options, loader, arg, 0, result);
}

int pln_get(struct pln_cache *cache, struct pln_bytes key, const struct pln_get_options *options,
            struct pln_result *result) {
    return pln_get_or_load(cache, key, options, NULL, NULL, result);
}

int pln_cache_load_as(struct pln_cache *cache, struct pln_bytes key,
                      const struct pln_get_options *options, unsigned worker,
                      struct pln_result *result) {
    struct pln_hashed hashed;
    int status = pln_cache_key(cache, key, &hashed);
    return status < 0 ? status
                      : read_through(cache, &hashed, options, NULL, NULL, worker + 1, result);
}

int pln_peek(struct pln_cache *cache, struct pln_bytes key, struct pln_result *result) {
    struct pln_hashed hashed;
    struct pln_l1_hit hit;
    *result = (struct pln_result){.source = PLN_FROM_MISS};
    int status = pln_cache_key(cache, key, &hashed);
    if (status < 0) {
        return status;
    }
    pln_count(cache->counts, PLN_COUNT_PEEKS, 1);
    pln_ms now = pln_now(&cache->host);
    if (pln_l1_borrow(cache->l1, &hashed, now, PLN_L1_QUIET, &hit, &result->value) != PLN_OK) {
        return PLN_MISS;
    }
    bool is_fresh = now < hit.life.stale && !pln_cache_in_doubt(cache, key, NULL, &hit, now);
    result->source = is_fresh ? PLN_FROM_L1 : PLN_FROM_STALE;
    result->len = hit.len;
    result->format = hit.format;
    pln_life_describe(&hit.life, now, result);
    if (hit.is_absent) {
        result->source = PLN_FROM_NEGATIVE;
    }
    return hit.is_absent ? PLN_ABSENT : PLN_OK;
}

void pln_release(struct pln_cache *cache, struct pln_value *value) {
    if (value == NULL) {
        return;
    }
    if (value->home == PLN_HOME_L1) {
        pln_l1_release(cache->l1, value);
    } else {
        pln_value_drop(value);
    }
}
