/* SPDX-License-Identifier: MIT
 *
 * shaping.c - what the functions of a rule say of a value that a caller brought: they run on a
 * worker, where the policy's states are, and the caller waits.
 */
#include "hosts.h"

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
    if (status == PLN_OK) {
        pthread_mutex_lock(&job.lock);
        while (!job.is_done) {
            pthread_cond_wait(&job.changed, &job.lock);
        }
        pthread_mutex_unlock(&job.lock);
        status = job.status < 0 ? pln_fail(job.status, "%s", job.text) : PLN_OK;
    }
    pthread_cond_destroy(&job.changed);
    pthread_mutex_destroy(&job.lock);
    return status;
}
