/* SPDX-License-Identifier: MIT
 *
 * shaping.c - what the functions of a rule say of a value that a caller brought: they run on a
 * worker, where the policy's states are, and the caller waits. No longer than for a load, until a
 * worker has begun: all of them may wait for a load that this caller is in the midst of.
 */
#include "flight.h"
#include "hosts.h"

#include <time.h>

struct shape_job {
    struct pln_job job;
    const struct pln_ruleset *ruleset;
    const struct pln_match *match;
    struct pln_bytes key, value;
    uint8_t format;
    struct pln_load *load;
    pthread_mutex_t lock; /* over: */
    pthread_cond_t changed;
    bool is_done;
    int status;
    char text[PLN_ERROR_TEXT];
};

static void end(struct shape_job *job, int status) {
    pthread_mutex_lock(&job->lock);
    job->status = status;
    if (status < 0) {
        memcpy(job->text, pln_error_text(), sizeof job->text);
    }
    job->is_done = true;
    pthread_cond_signal(&job->changed);
    pthread_mutex_unlock(&job->lock);
}

static void run(struct pln_job *base, unsigned worker) {
    struct shape_job *job = PLN_CONTAINER_OF(base, struct shape_job, job);
    end(job, job->ruleset->hooks.shape(job->ruleset->hooks_arg, worker, job->match, job->key,
                                       job->value, job->format, job->load));
}

static void drop(struct pln_job *base) {
    struct shape_job *job = PLN_CONTAINER_OF(base, struct shape_job, job);
    end(job, pln_fail(PLN_ECLOSED, "set: the cache is being closed"));
}

/* Waits for the end; false once the deadline has passed. */
static bool has_ended(struct shape_job *job, pln_ns deadline) {
    struct timespec until = pln_timespec(deadline);
    int waited = 0;
    pthread_mutex_lock(&job->lock);
    while (!job->is_done && waited == 0) {
        waited = pthread_cond_clockwait(&job->changed, &job->lock, CLOCK_MONOTONIC, &until);
    }
    bool is_done = job->is_done;
    pthread_mutex_unlock(&job->lock);
    return is_done;
}

int pln_shape_by_rule(struct pln_cache *cache, const struct pln_ruleset *ruleset,
                      const struct pln_match *match, struct pln_bytes key, struct pln_bytes value,
                      uint8_t format, struct pln_load *load) {
    struct shape_job job = {.job = {.run = run, .drop = drop},
                            .ruleset = ruleset,
                            .match = match,
                            .key = key,
                            .value = value,
                            .format = format,
                            .load = load};
    pthread_mutex_init(&job.lock, NULL);
    pthread_cond_init(&job.changed, NULL);
    int status = pln_workers_submit(cache->workers, &job.job, true);
    pln_ms most = match->rule->terms.load_timeout_ms;
    if (status == PLN_OK && !has_ended(&job, pln_deadline(most)) &&
        pln_workers_withdraw(cache->workers, &job.job)) {
        status = pln_fail(PLN_ETIMEOUT, "shape: no worker was free for %lld ms", (long long) most);
    } else if (status == PLN_OK) {
        while (!has_ended(&job, PLN_FOREVER)) { /* it runs, and has hold of what is the caller's */
        }
        status = job.status < 0 ? pln_fail(job.status, "%s", job.text) : PLN_OK;
    }
    pthread_cond_destroy(&job.changed);
    pthread_mutex_destroy(&job.lock);
    return status;
}
