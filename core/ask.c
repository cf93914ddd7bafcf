/* SPDX-License-Identifier: MIT
 *
 * ask.c - something that only a worker can do, asked for by a caller who waits: the functions of a
 * policy, whose states are the workers'. The caller waits no longer than it says until a worker has
 * begun, since all of them may wait for what this caller is in the midst of; then to the end, for
 * the worker has hold of what is the caller's.
 */
#include "flight.h"
#include "hosts.h"

#include <time.h>

struct question {
    struct pln_job job;
    int (*call)(void *arg, unsigned worker);
    void *arg;
    pthread_mutex_t lock; /* over: */
    pthread_cond_t changed;
    bool is_done;
    int status;
    char text[PLN_ERROR_TEXT];
};

static void end(struct question *question, int status) {
    pthread_mutex_lock(&question->lock);
    question->status = status;
    if (status < 0) {
        memcpy(question->text, pln_error_text(), sizeof question->text);
    }
    question->is_done = true;
    pthread_cond_signal(&question->changed);
    pthread_mutex_unlock(&question->lock);
}

static void run(struct pln_job *job, unsigned worker) {
    struct question *question = PLN_CONTAINER_OF(job, struct question, job);
    end(question, question->call(question->arg, worker));
}

static void drop(struct pln_job *job) {
    end(PLN_CONTAINER_OF(job, struct question, job),
        pln_fail(PLN_ECLOSED, "set: the cache is being closed"));
}

/* Waits for the end; false once the deadline has passed. */
static bool has_ended(struct question *question, pln_ns deadline) {
    struct timespec until = pln_timespec(deadline);
    int waited = 0;
    pthread_mutex_lock(&question->lock);
    while (!question->is_done && waited == 0) {
        waited = pthread_cond_clockwait(&question->changed, &question->lock, CLOCK_MONOTONIC,
                                        &until);
    }
    bool is_done = question->is_done;
    pthread_mutex_unlock(&question->lock);
    return is_done;
}

int pln_ask_worker(struct pln_cache *cache, int (*call)(void *arg, unsigned worker), void *arg,
                   pln_ms most, const char *verb, int none_free) {
    struct question question = {.job = {.run = run, .drop = drop}, .call = call, .arg = arg};
    pthread_mutex_init(&question.lock, NULL);
    pthread_cond_init(&question.changed, NULL);
    int status = pln_workers_submit(cache->workers, &question.job, true);
    if (status == PLN_OK && !has_ended(&question, pln_deadline(most)) &&
        pln_workers_withdraw(cache->workers, &question.job)) {
        status = pln_fail(none_free, "%s: no worker was free for %lld ms", verb, (long long) most);
    } else if (status == PLN_OK) {
        while (!has_ended(&question, PLN_FOREVER)) {
        }
        status = question.status < 0 ? pln_fail(question.status, "%s", question.text)
                                     : question.status;
    }
    pthread_cond_destroy(&question.changed);
    pthread_mutex_destroy(&question.lock);
    return status;
}
