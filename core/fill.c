/* SPDX-License-Identifier: MIT
 *
 * fill.c - the way of the one who leads: stamp, L2, lease, loader, commit, install.
 *
 *     stamp ─► L2 get ── fresh ─► install in L1 ─────────────────────────────► done
 *                │ miss or stale
 *                ▼
 *              stamp ─► lease ── held elsewhere ─► sleep until told, look again
 *                         │ ours; where there is a value, L2 get once more (the last holder may
 *                         │ just have stored it)
 *                ┌────────┘ still missing
 *                ▼
 *              queue ── a write waits ─► that, in the place of the loader (queued.c)
 *                         │ none, or the rule does not write behind
 *              loader ─► commit, if the lease is still valid ─► install in L1 ─► done
 *
 * A value whose lease was voided is handed out to those who asked for it, and kept nowhere: a write
 * that came in between may have made it old. Without L2, or with L2 away, there is no lease: then
 * the stamp alone guards L1, which is sound because every invalidation passes the stripes (with
 * tracking alone it would not be: a server says nothing of a deleted key that it does not hold).
 *
 * The first look may be at a replica, where the terms say so: what it brings ends the fill only
 * where it is fresh, and is kept for a short while. From the lease on all is the primary's. So is
 * all that runs behind: a refresh for what lags would be none.
 *
 * The call's own loader runs in the caller's thread; the policy's runs on a worker, and so does the
 * rest of the way from the lease on (behind.c). A thread that warms is a worker of its own.
 */
#include "compress.h"
#include "fills.h"
#include "hosts.h"
#include "nested.h"
#include "shadow.h"

#include "alert.h"

/* ---- L2 ---- */

bool pln_fill_uses_l2(const struct fill *fill) {
    return fill->cache->has_l2 && fill->request->terms->use_l2 && !fill->is_l2_away &&
           (fill->request->options->flags & PLN_GET_NO_L2) == 0;
}

void pln_fill_stamp(struct fill *fill) {
    pln_stamp_take(fill->cache->inval, fill->request->key.hash, &fill->stamp);
}

/* True where an L2 value ends the fill: fresh, and newer than the one being refreshed. */
static bool is_answer(const struct fill *fill, const struct pln_l2_item *item, pln_ms now) {
    bool is_refresh = fill->request->is_refresh;
    if (item->fresh_left <= 0 || (is_refresh && fill->request->key.is_plain)) {
        return false; /* nobody knows how old a plain one is */
    }
    /* A clock reads in steps and L2's ages are estimates: what seems less than 10 ms younger than
     * the value at hand is that value. */
    return !is_refresh || now - item->age > fill->request->created + 10;
}

static int outcome_of_l2(struct pln_outcome *outcome, const struct pln_l2_item *item,
                         const struct pln_l1_life *life, uint8_t source) {
    struct pln_value *value = pln_value_new(item->value, item->format);
    if (value == NULL) {
        return pln_fail(PLN_ENOMEM, "get: no memory for a value of %zu bytes", item->value.len);
    }
    pln_outcome_fini(outcome);
    *outcome = (struct pln_outcome){.status = item->is_absent ? PLN_ABSENT : PLN_OK,
                                    .value = value,
                                    .life = *life,
                                    .source = source};
    return PLN_OK;
}

/* Shows L2's stale value to those who wait for the load. */
static void offer_fallback(struct fill *fill, pln_ms now) {
    const struct pln_terms *terms = fill->request->terms;
    pln_ms past = now - fill->fallback.life.stale;
    if (fill->fallback.status == PLN_OK && past < pln_life_grace(terms)) {
        pln_flight_offer(fill->cache->flights, fill->flight, &fill->fallback,
                         past < terms->stale_ms);
    }
}

int pln_fill_answered(struct fill *fill, pln_ns began, int status, struct pln_l2_value *value,
                      struct pln_outcome *outcome) {
    struct pln_request *request = fill->request;
    struct pln_l1_life life;
    if (status !=
        PLN_EL2DOWN) { /* which takes no time, and says nothing of how long answers take */
        pln_alerts_note_l2(fill->cache->alerts, pln_clock_precise() - began);
    }
    if (status == PLN_OK) {
        status = pln_compress_open(fill->cache, request->terms, value);
    }
    if (status != PLN_OK) {
        fill->is_l2_away = status < 0;
        return status;
    }
    if (!pln_life_bound(request->terms, &value->item)) {
        pln_l2_value_fini(value);
        return PLN_MISS;
    }
    pln_ms now = pln_now(&fill->cache->host);
    if (is_answer(fill, &value->item, now)) {
        pln_life_keep_read(fill->cache, &request->key, request->terms, &fill->stamp, value, &life);
        status = outcome_of_l2(outcome, &value->item, &life, PLN_FROM_L2);
    } else {
        life = pln_life_of(request->terms, now, value->item.age, value->item.fresh_left,
                           value->item.life_left);
        status = outcome_of_l2(&fill->fallback, &value->item, &life, PLN_FROM_STALE);
        if (status == PLN_OK) {
            offer_fallback(fill, now);
            status = PLN_MISS;
        }
    }
    pln_l2_value_fini(value);
    return status;
}

/* Asks L2. Returns as pln_fill_answered(). */
static int ask_l2(struct fill *fill, enum pln_read how, struct pln_outcome *outcome) {
    struct pln_l2_value value;
    pln_ns began = pln_clock_precise();
    int status = pln_l2_get_near(pln_cache_l2(fill->cache), &fill->request->key, how,
                                 pln_cache_l2_deadline(fill->cache, fill->request->deadline),
                                 &value);
    return pln_fill_answered(fill, began, status, &value, outcome);
}

bool pln_fill_is_late(const struct fill *fill) {
    return pln_clock_precise() >= fill->request->deadline;
}

int pln_fill_ask(struct fill *fill, enum pln_read how, struct pln_outcome *outcome) {
    if (!pln_fill_uses_l2(fill)) {
        return PLN_MISS;
    }
    pln_fill_stamp(fill);
    return ask_l2(fill, how, outcome);
}

/* ---- loading ---- */

static int call_loader(const struct fill *fill, struct pln_load *load) {
    struct pln_request *request = fill->request;
    const struct pln_hooks *hooks = &request->ruleset->hooks;
    struct pln_nested nested;
    int status;
    if (request->loader == NULL && fill->cache->stand_in != NULL) {
        return pln_stand_in_load(request, (unsigned) fill->worker, load);
    }
    pln_nested_enter(&nested, fill->cache, request->key.key);
    if (request->loader == NULL) {
        status = hooks->load(request->ruleset->hooks_arg, (unsigned) fill->worker, &request->match,
                             request->key.key, load);
    } else {
        pln_fail(PLN_ELOADER, "get: the loader failed and gave no reason");
        status = request->loader(request->loader_arg, request->key.key, load);
    }
    pln_nested_leave(&nested);
    return status;
}

int pln_fill_check_load(int status, const struct pln_load *load) {
    if (status == PLN_OK && load->value == NULL) {
        return pln_fail(PLN_ELOADER, "get: the loader succeeded without a value");
    }
    return status <= 0 || status == PLN_ABSENT
               ? status
               : pln_fail(PLN_ELOADER, "get: the loader returned status %d", status);
}

static int run_loader(struct fill *fill, struct pln_load *load) {
    struct pln_request *request = fill->request;
    int status = call_loader(fill, load);
    return request->loader == NULL ? status : pln_fill_check(fill, load, status);
}

int pln_fill_check(const struct fill *fill, struct pln_load *load, int status) {
    const struct pln_get_options *options = fill->request->options;
    status = pln_fill_check_load(status, load);
    if (status < 0) {
        return status;
    }
    for (size_t i = 0; i < options->n_tags; i++) {
        int tagged = pln_load_tag(load, options->tags[i]);
        if (tagged < 0) {
            return tagged;
        }
    }
    return status;
}

/* How long the loaded value is fresh, and how long after that it is kept. Negative: not stored. */
static pln_ms loaded_ttl(const struct pln_request *request, const struct pln_load *load,
                         bool is_absent, pln_ms *grace) {
    const struct pln_terms *terms = request->terms;
    const struct pln_get_options *options = request->options;
    pln_ms ttl = options->ttl_ms > 0 ? options->ttl_ms : terms->ttl_ms;
    *grace = options->stale_ms > 0 ? options->stale_ms : pln_life_grace(terms);
    if (is_absent) {
        ttl = options->negative_ms > 0 ? options->negative_ms : terms->negative_ms;
        *grace = 0;
    }
    if (load->ttl_ms != 0) {
        ttl = load->ttl_ms;
    }
    if (load->has_stale) {
        *grace = load->stale_ms;
    }
    return pln_life_jittered(terms, ttl);
}

/* True where the value may be kept in L1: no L2, or L2 took it under a valid lease. */
static bool commit(struct fill *fill, const struct pln_l2_item *item) {
    if (!fill->has_lease) {
        return !fill->cache->is_tracking || !fill->cache->has_l2;
    }
    if (fill->request->key.is_plain && item->is_absent) {
        pln_fill_end_lease(fill); /* there are no bytes for that */
        return false;
    }
    void *packed;
    struct pln_l2_item shared = pln_life_shared(fill->request->terms, item);
    pln_compress_item(fill->cache, fill->request->terms, &shared, &packed);
    int status = pln_l2_commit(pln_cache_l2(fill->cache), &fill->request->key, &fill->lease,
                               &shared, pln_cache_l2_deadline(fill->cache, PLN_FOREVER));
    free(packed);
    fill->has_lease = false;
    if (status == PLN_NOT_STORED) {
        pln_count(fill->cache->counts, PLN_COUNT_LEASES_LOST, 1);
    }
    return status == PLN_OK;
}

/* Whether the key was missed often enough for its value to be stored, or need not have been: it was
 * stored before, or somebody has asked for it to be. */
static bool is_admitted(const struct fill *fill) {
    const struct pln_request *request = fill->request;
    return request->terms->min_uses <= 1 || request->is_refresh || request->is_ahead ||
           request->is_wanted || fill->has_old ||
           pln_admit_is_due(fill->cache, &request->key, request->terms);
}

/* `began`: the loading. The value is no newer than that: what was written meanwhile it may lack,
 * and a delete that Redis did not take then is carried out later by what is older than it. */
static void store_loaded(struct fill *fill, struct pln_load *load, bool is_absent, pln_ms began,
                         struct pln_l1_life *life) {
    struct pln_request *request = fill->request;
    pln_ms now = pln_now(&fill->cache->host);
    pln_ms grace;
    pln_ms ttl = loaded_ttl(request, load, is_absent, &grace);
    struct pln_bytes value = pln_bytes_of(pln_value_data(load->value), pln_value_len(load->value));
    size_t limit = request->terms->max_bytes;
    *life = pln_life_of(request->terms, now, 0, ttl < 0 ? 0 : ttl, ttl < 0 ? 0 : ttl);
    bool is_kept = is_admitted(fill);
    pln_count(fill->cache->counts, PLN_COUNT_LOADS_UNKEPT, is_kept ? 0 : 1);
    if (!is_kept || fill->may_lag || ttl < 0 || (limit > 0 && value.len > limit)) {
        pln_fill_end_lease(fill);
        return;
    }
    struct pln_l2_item item = {
        .value = value,
        .age = pln_life_since(request->terms, now - began),
        .fresh_left = ttl,
        .life_left = pln_after(ttl, request->key.is_plain ? 0 : grace),
        .tag_clock = fill->lease.tag_clock,
        .tags = load->tags,
        .n_tags = load->n_tags,
        .format = load->value->format,
        .is_absent = is_absent,
    };
    if (!pln_fills_take(fill, &item, load) && commit(fill, &item)) {
        pln_life_keep(fill->cache, &request->key, request->terms, &fill->stamp, &item, life);
    }
}

static void load_related(struct pln_cache *cache, const struct pln_load *load) {
    for (size_t i = 0; i < load->n_related; i++) {
        struct pln_hashed key;
        struct pln_l1_hit hit;
        if (pln_cache_key(cache, load->related[i], &key) == PLN_OK &&
            pln_admit_check(cache, key.key, "load ahead") == PLN_OK &&
            pln_l1_get(cache->l1, &key, pln_now(&cache->host), PLN_L1_QUIET, NULL, 0, &hit) !=
                PLN_OK) {
            pln_fill_behind(cache, &key, PLN_FOREVER);
        }
    }
}

/* What there is of the key, for the loader to compare with its source: of L2, else of L1. A value
 * that is void by now does no harm: the loader's word is that the source has the same. */
static struct pln_value *find_old(struct fill *fill) {
    struct pln_l1_hit hit;
    struct pln_value *old = NULL;
    if (fill->fallback.status == PLN_OK && fill->fallback.value != NULL) {
        pln_value_ref(fill->fallback.value);
        return fill->fallback.value;
    }
    if (pln_l1_borrow(fill->cache->l1, &fill->request->key, pln_now(&fill->cache->host),
                      PLN_L1_QUIET, &hit, &old) == PLN_OK &&
        hit.is_absent) {
        pln_release(fill->cache, old);
        old = NULL;
    }
    return old;
}

void pln_fill_load_begins(struct fill *fill, struct pln_load *load) {
    fill->old = find_old(fill);
    fill->has_old = fill->old != NULL;
    load->old = fill->old;
    fill->load_began = pln_now(&fill->cache->host);
    fill->load_began_ns = pln_clock_precise();
    pln_count(fill->cache->counts, PLN_COUNT_LOADS, 1);
}

void pln_fill_load_ends(struct fill *fill, struct pln_load *load, int status) {
    pln_alerts_note_load(fill->cache->alerts, pln_clock_precise() - fill->load_began_ns);
    pln_count(fill->cache->counts, PLN_COUNT_LOADS_SAME, status == PLN_OK && load->is_same ? 1 : 0);
    load->old = NULL;
    pln_release(fill->cache, fill->old);
    fill->old = NULL;
}

int pln_fill_store(struct fill *fill, struct pln_load *load, int status,
                   struct pln_outcome *outcome) {
    struct pln_request *request = fill->request;
    bool is_absent = status == PLN_ABSENT;
    if (is_absent) {
        status = pln_load_value(load, pln_bytes_of(NULL, 0), 0);
    }
    if (status == PLN_OK) {
        status = pln_load_rule_tags(load, &request->match);
    }
    if (status < 0) {
        pln_failed_note(fill->cache, &request->key, request->terms);
        pln_count(fill->cache->counts, PLN_COUNT_LOAD_ERRORS, 1);
        pln_fill_end_lease(fill);
        return status;
    }
    pln_failed_clear(fill->cache, &request->key);
    pln_cost_note(request->terms, pln_now(&fill->cache->host) - fill->load_began);
    *outcome = (struct pln_outcome){.status = is_absent ? PLN_ABSENT : PLN_OK,
                                    .source = PLN_FROM_LOADER};
    store_loaded(fill, load, is_absent, fill->load_began, &outcome->life);
    outcome->value = load->value;
    load->value = NULL;
    if (!request->is_ahead) { /* or a list of pages would be loaded to its end */
        load_related(fill->cache, load);
    }
    return PLN_OK;
}

/* Runs the loader, where nothing newer waits to be stored, and stores what it brings. */
static int load_value(struct fill *fill, struct pln_outcome *outcome) {
    struct pln_load load = {0};
    int status = pln_fill_find_queued(fill, &load);
    if (status == PLN_MISS) {
        pln_fill_load_begins(fill, &load);
        status = run_loader(fill, &load);
        pln_fill_load_ends(fill, &load, status);
    }
    status = pln_fill_store(fill, &load, status, outcome);
    pln_load_fini(&load);
    return status;
}

/* ---- the leader's last word ---- */

void pln_fill_end(struct fill *fill, int status, struct pln_outcome *outcome) {
    const struct pln_terms *terms = fill->request->terms;
    pln_ms past = pln_now(&fill->cache->host) - fill->fallback.life.stale;
    if (status < 0) {
        pln_outcome_fail(outcome, status);
    } else if (status == PLN_MISS) {
        outcome->status = PLN_MISS;
        outcome->source = PLN_FROM_MISS;
    }
    if ((status < 0 || status == PLN_MISS) && fill->fallback.value != NULL &&
        past < (status < 0 ? pln_life_grace(terms) : terms->stale_ms) &&
        (fill->request->options->flags & PLN_GET_NO_STALE) == 0) {
        *outcome = fill->fallback;
        fill->fallback.value = NULL;
    }
    pln_outcome_fini(&fill->fallback);
    /* What stays in L1 may be claimed anew, whoever claimed it and whatever became of the load: its
     * value may not have been kept. Once before those who wait go on, who may look at once, and
     * once more after, for who has claimed it in between and joined this flight: who joins leaves
     * its claim to the flight. On an entry that this load brought it does no harm: should it be
     * claimed already, who claims it again joins that load. */
    pln_l1_unclaim_refresh(fill->cache->l1, &fill->request->key);
    if ((status == PLN_OK || status == PLN_ABSENT) &&
        pln_shadow_samples(fill->cache, fill->request->key.hash)) {
        pln_shadow_fetched(fill->cache, &fill->request->key, pln_value_len(outcome->value));
    }
    pln_flight_finish_take(fill->cache->flights, fill->flight, outcome);
    pln_l1_unclaim_refresh(fill->cache->l1, &fill->request->key);
}

bool pln_fill_has_loader(const struct pln_request *request) {
    return !request->terms->is_denied && (request->options->flags & PLN_GET_NO_LOAD) == 0 &&
           pln_loader_can_run(request);
}

void pln_fill_finish(struct fill *fill) {
    struct pln_outcome outcome = {0};
    int status = pln_fill_get_lease(fill, &outcome);
    if (status == PLN_MISS) {
        status = load_value(fill, &outcome);
    } else {
        outcome.is_leaders_own = status < 0; /* others may have more time to wait for a lease */
    }
    pln_fill_end(fill, status, &outcome);
}

/* True where L2 has what may be served after a failure, and the last load failed not long ago. */
static bool is_held(const struct fill *fill) {
    const struct pln_request *request = fill->request;
    pln_ms now = pln_now(&fill->cache->host);
    return fill->fallback.value != NULL && (request->options->flags & PLN_GET_NO_STALE) == 0 &&
           now - fill->fallback.life.stale < pln_life_grace(request->terms) &&
           pln_failed_lately(fill->cache, &request->key, now);
}

bool pln_fill_leaves_all(struct fill *fill) {
    const struct pln_request *request = fill->request;
    return request->has_stale && request->loader == NULL &&
           (pln_fill_uses_l2(fill) || pln_fill_has_loader(request)) &&
           (request->options->flags & (PLN_GET_NO_L2 | PLN_GET_NO_LOAD)) == 0;
}

bool pln_fill_asked(struct fill *fill, int status, struct pln_outcome *outcome) {
    const struct pln_request *request = fill->request;
    if (status == PLN_OK) {
        pln_fill_end(fill, status, outcome);
    } else if (is_held(fill)) {
        pln_count(request->cache->counts, PLN_COUNT_LOADS_HELD, 1);
        pln_fill_end(fill, pln_fail(PLN_ELOADER, "get: the last load failed just now"), outcome);
    } else if (request->loader != NULL) {
        return true;
    } else if (pln_fill_has_loader(request)) {
        pln_fill_hand_over(fill, false, true);
    } else {
        outcome->is_leaders_own = status == PLN_ETIMEOUT && pln_fill_is_late(fill);
        outcome->lacked_loader = true;
        pln_fill_end(fill, status < 0 ? status : pln_loader_missing(request), outcome);
    }
    return false;
}

void pln_fill_lead(struct pln_request *request, struct pln_flight *flight) {
    struct fill fill = {
        .request = request, .cache = request->cache, .flight = flight, .worker = -1};
    struct pln_outcome outcome = {0};
    if (request->loads_as > 0 && pln_fill_has_loader(request)) {
        fill.worker = (int) request->loads_as - 1;
        pln_flight_begin(request->cache->flights, flight);
        pln_fill_finish(&fill);
        return;
    }
    if (pln_fill_leaves_all(&fill)) {
        pln_fill_hand_over(&fill, true, true); /* all of it may take too long for the caller */
        return;
    }
    if (request->loader != NULL) {
        pln_flight_begin(request->cache->flights, flight);
    }
    int status = pln_fill_ask(&fill, pln_cache_read(request->options, request->terms), &outcome);
    if (pln_fill_asked(&fill, status, &outcome)) {
        pln_fill_finish(&fill);
    }
}
