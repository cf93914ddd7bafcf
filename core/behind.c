/* SPDX-License-Identifier: MIT
 *
 * behind.c - the part of a fill that runs on a worker: the rest of one that a caller began, from
 * the lease on, or the whole of one that nobody waits for.
 *
 * A job outlives the call that began it. It has its own copy of the request, whose key is the
 * flight's, and its own reference to the flight and to the ruleset.
 */
#include "fill.h"

#include <stdio.h>

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

/* The load goes on when the time of the caller who began it is over, and others may join it: so it
 * gets a time of its own. That is no shorter than a lease, or those who wait for another process
 * would be told of a failure while that one is loading. */
static void give_time(struct pln_request *request) {
    const struct pln_terms *terms = request->terms;
    request->timeout_ms = terms->load_timeout_ms > terms->lease_ms ? terms->load_timeout_ms
                                                                   : terms->lease_ms;
    request->deadline = pln_deadline(request->timeout_ms);
}

static void job_run(struct pln_job *base, unsigned worker) {
    struct fill_job *job = PLN_CONTAINER_OF(base, struct fill_job, job);
    struct pln_outcome outcome = {0};
    int status = PLN_MISS;
    job->fill.worker = (int) worker;
    give_time(&job->request);
    pln_flight_begin(job->request.cache->flights, job->fill.flight);
    if (job->asks_l2_first) {
        status = pln_fill_ask(&job->fill, PLN_READ_PRIMARY, &outcome);
    }
    if (status != PLN_OK && pln_fill_has_loader(&job->request)) {
        pln_fill_finish(&job->fill);
    } else {
        outcome.lacked_loader = status != PLN_OK;
        pln_fill_end(&job->fill, status, &outcome);
    }
    job_free(job);
}

static void job_drop(struct pln_job *base) {
    struct fill_job *job = PLN_CONTAINER_OF(base, struct fill_job, job);
    struct pln_outcome outcome = {0};
    pln_fill_end(&job->fill, pln_fail(PLN_ECLOSED, "get: the cache is being closed"), &outcome);
    job_free(job);
}

static void job_describe(const struct pln_job *base, char *text, size_t size) {
    const struct fill_job *job = PLN_CONTAINER_OF(base, const struct fill_job, job);
    const struct pln_rule *rule = job->request.match.rule;
    struct pln_bytes key = job->request.key.key;
    int len = key.len > 60 ? 60 : (int) key.len;
    if (rule == NULL || rule->file == NULL) {
        snprintf(text, size, "'%.*s'", len, (const char *) key.data);
    } else {
        snprintf(text, size, "'%.*s' by the rule at %s:%d", len, (const char *) key.data,
                 rule->file, rule->line);
    }
}

void pln_fill_hand_over(struct fill *fill, bool asks_l2_first, bool is_urgent) {
    struct fill_job *job = malloc(sizeof *job);
    struct pln_outcome outcome = {0};
    if (job == NULL) {
        pln_fill_end(fill, pln_fail(PLN_ENOMEM, "get: no memory to start a load"), &outcome);
        return;
    }
    job->job = (struct pln_job){.run = job_run, .drop = job_drop, .describe = job_describe};
    job->request = *fill->request;
    job->request.key = *pln_flight_key(fill->flight);
    job->request.options = &no_options;
    job->fill = *fill;
    job->fill.request = &job->request;
    if (pln_fill_is_late(fill)) {
        job->fill.is_l2_away = false; /* it may only have been slower than a hasty caller */
    }
    job->asks_l2_first = asks_l2_first;
    pln_cache_match(fill->cache, job->request.key.key, &job->request.match,
                    &job->request.ruleset); /* anew: captures point into the key */
    job->request.terms = job->request.match.rule != NULL ? &job->request.match.rule->terms
                                                         : &fill->cache->terms;
    job->request.key.is_plain = job->request.terms->is_plain;
    pln_flight_ref(fill->cache->flights, fill->flight);
    fill->fallback.value = NULL;
    int status = pln_workers_submit(fill->cache->workers, &job->job, is_urgent);
    if (status < 0) {
        pln_fill_end(&job->fill, status, &outcome);
        job_free(job);
    }
}

void pln_fill_behind(struct pln_cache *cache, const struct pln_hashed *key, pln_ms created) {
    bool leads;
    struct pln_stamp stamp;
    pln_stamp_take(cache->inval, key->hash, &stamp);
    struct pln_flight *flight = pln_flight_join(cache->flights, &stamp, key, false, &leads);
    if (flight == NULL) {
        pln_l1_unclaim_refresh(cache->l1, key);
        return;
    }
    if (leads) { /* else the one that is under way ends the caller's claim, as it would its own */
        struct pln_request request = {
            .cache = cache,
            .key = *key,
            .options = &no_options,
            .is_refresh = created != PLN_FOREVER,
            .created = created,
            .is_ahead = created == PLN_FOREVER,
        };
        request.terms = pln_cache_match(cache, key->key, &request.match, &request.ruleset);
        request.timeout_ms = request.terms->load_timeout_ms;
        request.deadline = pln_deadline(request.timeout_ms);
        struct fill fill = {.request = &request, .cache = cache, .flight = flight, .worker = -1};
        pln_count(cache->counts, PLN_COUNT_REFRESHES, 1);
        pln_fill_hand_over(&fill, true, false);
        pln_ruleset_unref(request.ruleset);
    }
    pln_flight_leave(cache->flights, flight);
}
