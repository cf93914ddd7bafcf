/* SPDX-License-Identifier: MIT
 *
 * fill.c - the way of the one who leads: stamp, L2, lease, loader, commit, install.
 *
 *     stamp ─► L2 get ── fresh ─► install in L1 ─────────────────────────────► done
 *                │ miss or stale
 *                ▼
 *              lease ── held elsewhere ─► sleep until told, look again
 *                │ ours
 *                ▼
 *              stamp ─► L2 get once more (the last holder may just have stored it)
 *                │ still missing
 *                ▼
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
 * rest of the way from the lease on. A thread that warms is a worker of its own.
 */
#include "engine.h"

/* So long does a process sleep that waits for another's load, before it looks again unasked. The
 * word that wakes it is lost where the link has just gone, or is not yet there: without the look it
 * would sleep to the end of a lease whose holder, or server, is long dead. */
enum { LOOK_AGAIN_MS = 50 };

/* The state of a fill. */
struct fill {
    struct pln_request *request;
    struct pln_cache *cache;
    struct pln_flight *flight;
    struct pln_stamp stamp;
    struct pln_l2_lease lease;
    bool has_lease;
    bool is_l2_away;             /* failed in this fill: not asked again */
    int worker;                  /* -1: of no number for the policy's functions */
    struct pln_outcome fallback; /* a stale value of L2's */
};

/* ---- L2 ---- */

static bool uses_l2(const struct fill *fill) {
    return fill->cache->has_l2 && fill->request->terms->use_l2 && !fill->is_l2_away &&
           (fill->request->options->flags & PLN_GET_NO_L2) == 0;
}

static void take_stamp(struct fill *fill) {
    pln_stamp_take(fill->cache->inval, fill->request->key.hash, &fill->stamp);
}

/* True where an L2 value ends the fill: fresh, and newer than the one being refreshed. */
static bool is_answer(const struct fill *fill, const struct pln_l2_item *item, pln_ms now) {
    if (item->fresh_left <= 0) {
        return false;
    }
    /* A clock reads in steps and L2's ages are estimates: what seems less than 10 ms younger than
     * the value at hand is that value. */
    return !fill->request->is_refresh || now - item->age > fill->request->created + 10;
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

/* Asks L2. PLN_OK: the outcome is set. PLN_MISS: go on; a stale value is the fallback. */
static int ask_l2(struct fill *fill, enum pln_read how, struct pln_outcome *outcome) {
    struct pln_request *request = fill->request;
    struct pln_l2_value value;
    struct pln_l1_life life;
    int status = pln_l2_get_near(fill->cache->l2, &request->key, how,
                                 pln_cache_l2_deadline(fill->cache, request->deadline), &value);
    if (status != PLN_OK) {
        fill->is_l2_away = status < 0;
        return status;
    }
    pln_ms now = pln_now(&fill->cache->host);
    if (is_answer(fill, &value.item, now)) {
        pln_life_keep_read(fill->cache, &request->key, request->terms, &fill->stamp, &value, &life);
        status = outcome_of_l2(outcome, &value.item, &life, PLN_FROM_L2);
    } else {
        life = pln_life_of(request->terms, now, value.item.age, value.item.fresh_left,
                           value.item.life_left);
        status = outcome_of_l2(&fill->fallback, &value.item, &life, PLN_FROM_STALE);
        status = status < 0 ? status : PLN_MISS;
    }
    pln_l2_value_fini(&value);
    return status;
}

static void end_lease(struct fill *fill) {
    if (fill->has_lease) {
        /* should this fail the lease ends by itself */
        (void) pln_l2_release(fill->cache->l2, &fill->request->key, &fill->lease,
                              pln_cache_l2_deadline(fill->cache, PLN_FOREVER));
        fill->has_lease = false;
    }
}

/* Gets the right to load, or another's value meanwhile. PLN_OK: the outcome is set. PLN_MISS: load
 * (with a lease, or without where L2 is away). Negative: the deadline. */
static int get_lease(struct fill *fill, struct pln_outcome *outcome) {
    struct pln_request *request = fill->request;
    bool has_waited = false;
    while (uses_l2(fill)) {
        int status = pln_l2_lease(fill->cache->l2, &request->key, request->terms->lease_ms,
                                  pln_cache_l2_deadline(fill->cache, request->deadline),
                                  &fill->lease);
        if (status < 0) {
            fill->is_l2_away = true;
            break;
        }
        fill->has_lease = status == PLN_OK;
        if (status == PLN_PENDING) {
            pln_count(fill->cache->counts, PLN_COUNT_LEASE_WAITS, has_waited ? 0 : 1);
            has_waited = true;
            pln_ms nap = fill->lease.left < LOOK_AGAIN_MS ? fill->lease.left + 1 : LOOK_AGAIN_MS;
            pln_ns until = pln_clock_precise() + nap * 1000000;
            pln_flight_sleep(fill->cache->flights, fill->flight,
                             until < request->deadline ? until : request->deadline);
        }
        take_stamp(fill); /* again: what is read from here on may be kept */
        status = ask_l2(fill, PLN_READ_PRIMARY, outcome);
        if (status == PLN_OK) {
            end_lease(fill);
            return PLN_OK;
        }
        if (fill->has_lease) {
            return PLN_MISS;
        }
        if (pln_clock_precise() >= request->deadline) {
            return pln_fail(PLN_ETIMEOUT,
                            "get: another process has been loading the key for longer "
                            "than %lld ms",
                            (long long) request->timeout_ms);
        }
    }
    take_stamp(fill);
    return PLN_MISS;
}

/* ---- loading ---- */

static int run_loader(struct fill *fill, struct pln_load *load) {
    struct pln_request *request = fill->request;
    const struct pln_hooks *hooks = &request->ruleset->hooks;
    pln_count(fill->cache->counts, PLN_COUNT_LOADS, 1);
    if (request->loader == NULL) {
        return hooks->load(request->ruleset->hooks_arg, (unsigned) fill->worker, &request->match,
                           request->key.key, load);
    }
    pln_fail(PLN_ELOADER, "get: the loader failed and gave no reason");
    int status = request->loader(request->loader_arg, request->key.key, load);
    if (status == PLN_OK && load->value == NULL) {
        return pln_fail(PLN_ELOADER, "get: the loader succeeded without a value");
    }
    if (status != PLN_OK && status != PLN_ABSENT) {
        return status < 0 ? status
                          : pln_fail(PLN_ELOADER, "get: the loader returned status %d", status);
    }
    for (size_t i = 0; i < request->options->n_tags; i++) {
        int tagged = pln_load_tag(load, request->options->tags[i]);
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
    return pln_life_jittered(ttl, terms->jitter);
}

/* True where the value may be kept in L1: no L2, or L2 took it under a valid lease. */
static bool commit(struct fill *fill, const struct pln_l2_item *item) {
    if (!fill->has_lease) {
        return !fill->cache->is_tracking || !fill->cache->has_l2;
    }
    int status = pln_l2_commit(fill->cache->l2, &fill->request->key, &fill->lease, item,
                               pln_cache_l2_deadline(fill->cache, PLN_FOREVER));
    fill->has_lease = false;
    if (status == PLN_NOT_STORED) {
        pln_count(fill->cache->counts, PLN_COUNT_LEASES_LOST, 1);
    }
    return status == PLN_OK;
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
    if (ttl < 0 || (limit > 0 && value.len > limit)) {
        end_lease(fill);
        return;
    }
    struct pln_l2_item item = {
        .value = value,
        .age = now - began,
        .fresh_left = ttl,
        .life_left = pln_after(ttl, grace),
        .tag_clock = fill->lease.tag_clock,
        .tags = load->tags,
        .n_tags = load->n_tags,
        .format = load->value->format,
        .is_absent = is_absent,
    };
    if (commit(fill, &item)) {
        pln_life_keep(fill->cache, &request->key, request->terms, &fill->stamp, &item, life);
    }
}

static void load_related(struct pln_cache *cache, const struct pln_load *load) {
    for (size_t i = 0; i < load->n_related; i++) {
        struct pln_hashed key;
        struct pln_l1_hit hit;
        if (pln_cache_key(cache, load->related[i], &key) == PLN_OK &&
            pln_l1_get(cache->l1, &key, pln_now(&cache->host), PLN_L1_QUIET, NULL, 0, &hit) !=
                PLN_OK) {
            pln_fill_behind(cache, &key, PLN_FOREVER);
        }
    }
}

/* Runs the loader and stores what it brings. */
static int load_value(struct fill *fill, struct pln_outcome *outcome) {
    struct pln_load load = {0};
    struct pln_request *request = fill->request;
    pln_ms began = pln_now(&fill->cache->host);
    int status = run_loader(fill, &load);
    bool is_absent = status == PLN_ABSENT;
    if (is_absent) {
        status = pln_load_value(&load, pln_bytes_of(NULL, 0), 0);
    }
    if (status == PLN_OK) {
        status = pln_load_rule_tags(&load, &request->match);
    }
    if (status < 0) {
        pln_count(fill->cache->counts, PLN_COUNT_LOAD_ERRORS, 1);
        end_lease(fill);
    } else {
        *outcome = (struct pln_outcome){.status = is_absent ? PLN_ABSENT : PLN_OK,
                                        .source = PLN_FROM_LOADER};
        store_loaded(fill, &load, is_absent, began, &outcome->life);
        outcome->value = load.value;
        load.value = NULL;
        load_related(fill->cache, &load);
    }
    pln_load_fini(&load);
    return status;
}

/* ---- the leader's last word ---- */

/* Turns a failure or miss into L2's stale value, where the terms allow that. */
static void end(struct fill *fill, int status, struct pln_outcome *outcome) {
    const struct pln_terms *terms = fill->request->terms;
    pln_ms past = pln_now(&fill->cache->host) - fill->fallback.life.stale;
    if (status < 0) {
        pln_outcome_fail(outcome, status);
    } else if (status == PLN_MISS) {
        *outcome = (struct pln_outcome){.status = PLN_MISS, .source = PLN_FROM_MISS};
    }
    if ((status < 0 || status == PLN_MISS) && fill->fallback.value != NULL &&
        past < (status < 0 ? pln_life_grace(terms) : terms->stale_ms) &&
        (fill->request->options->flags & PLN_GET_NO_STALE) == 0) {
        *outcome = fill->fallback;
        fill->fallback.value = NULL;
    }
    pln_outcome_fini(&fill->fallback);
    if (fill->request->is_refresh && status != PLN_OK && status != PLN_ABSENT) {
        pln_l1_unclaim_refresh(fill->cache->l1, &fill->request->key);
    }
    pln_flight_finish_take(fill->cache->flights, fill->flight, outcome);
}

static bool has_policy_loader(const struct pln_request *request) {
    return request->match.rule != NULL && (request->match.rule->hooks & PLN_RULE_LOAD) != 0 &&
           (request->options->flags & PLN_GET_NO_LOAD) == 0;
}

/* From the lease on. */
static void finish(struct fill *fill) {
    struct pln_outcome outcome = {0};
    int status = get_lease(fill, &outcome);
    if (status == PLN_MISS) {
        status = load_value(fill, &outcome);
    }
    end(fill, status, &outcome);
}

/* ---- on a worker ---- */

struct fill_job {
    struct pln_job job;
    struct pln_request request; /* its key's bytes are the flight's */
    struct fill fill;
    bool asks_l2_first;
};

static const struct pln_get_options no_options = {0};

static void job_free(struct fill_job *job) {
    pln_flight_leave(job->request.cache->flights, job->fill.flight);
    pln_ruleset_unref(job->request.ruleset);
    free(job);
}

static void job_run(struct pln_job *base, unsigned worker) {
    struct fill_job *job = PLN_CONTAINER_OF(base, struct fill_job, job);
    struct pln_outcome outcome = {0};
    int status = PLN_MISS;
    job->fill.worker = (int) worker;
    if (job->asks_l2_first && uses_l2(&job->fill)) {
        take_stamp(&job->fill);
        status = ask_l2(&job->fill, PLN_READ_PRIMARY, &outcome);
    }
    if (status != PLN_OK && has_policy_loader(&job->request)) {
        finish(&job->fill);
    } else {
        end(&job->fill, status, &outcome);
    }
    job_free(job);
}

static void job_drop(struct pln_job *base) {
    struct fill_job *job = PLN_CONTAINER_OF(base, struct fill_job, job);
    struct pln_outcome outcome = {0};
    end(&job->fill, pln_fail(PLN_ECLOSED, "get: the cache is being closed"), &outcome);
    job_free(job);
}

/* Hands the rest of a fill to a worker; takes over the fallback. The flight is ended where that
 * fails. */
static void hand_over(struct fill *fill, bool asks_l2_first, bool is_urgent) {
    struct fill_job *job = malloc(sizeof *job);
    struct pln_outcome outcome = {0};
    if (job == NULL) {
        end(fill, pln_fail(PLN_ENOMEM, "get: no memory to start a load"), &outcome);
        return;
    }
    job->job = (struct pln_job){.run = job_run, .drop = job_drop};
    job->request = *fill->request;
    job->request.key = *pln_flight_key(fill->flight);
    job->request.options = &no_options;
    job->fill = *fill;
    job->fill.request = &job->request;
    job->asks_l2_first = asks_l2_first;
    pln_cache_match(fill->cache, job->request.key.key, &job->request.match,
                    &job->request.ruleset); /* anew: captures point into the key */
    job->request.terms = job->request.match.rule != NULL ? &job->request.match.rule->terms
                                                         : &fill->cache->terms;
    pln_flight_ref(fill->cache->flights, fill->flight);
    fill->fallback.value = NULL;
    int status = pln_workers_submit(fill->cache->workers, &job->job, is_urgent);
    if (status < 0) {
        end(&job->fill, status, &outcome);
        job_free(job);
    }
}

void pln_fill_lead(struct pln_request *request, struct pln_flight *flight) {
    struct fill fill = {
        .request = request, .cache = request->cache, .flight = flight, .worker = -1};
    struct pln_outcome outcome = {0};
    int status = PLN_MISS;
    if (request->loads_as > 0 && has_policy_loader(request)) {
        fill.worker = (int) request->loads_as - 1;
        finish(&fill);
        return;
    }
    if (uses_l2(&fill)) {
        take_stamp(&fill);
        status = ask_l2(&fill, pln_cache_read(request->options, request->terms), &outcome);
    }
    if (status == PLN_OK) {
        end(&fill, status, &outcome);
    } else if (request->loader != NULL) {
        finish(&fill);
    } else if (has_policy_loader(request)) {
        hand_over(&fill, false, true);
    } else {
        end(&fill, status, &outcome);
    }
}

void pln_fill_behind(struct pln_cache *cache, const struct pln_hashed *key, pln_ms created) {
    bool leads;
    struct pln_stamp stamp;
    pln_stamp_take(cache->inval, key->hash, &stamp);
    struct pln_flight *flight = pln_flight_join(cache->flights, &stamp, key, false, &leads);
    if (flight == NULL) {
        return;
    }
    if (leads) {
        struct pln_request request = {
            .cache = cache,
            .key = *key,
            .options = &no_options,
            .is_refresh = created != PLN_FOREVER,
            .created = created,
        };
        request.terms = pln_cache_match(cache, key->key, &request.match, &request.ruleset);
        request.timeout_ms = request.terms->load_timeout_ms;
        request.deadline = pln_deadline(request.timeout_ms);
        struct fill fill = {.request = &request, .cache = cache, .flight = flight, .worker = -1};
        pln_count(cache->counts, PLN_COUNT_REFRESHES, 1);
        hand_over(&fill, true, false);
        pln_ruleset_unref(request.ruleset);
    }
    pln_flight_leave(cache->flights, flight);
}
