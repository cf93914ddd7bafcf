/* SPDX-License-Identifier: MIT
 *
 * worker.c - the threads that run policy loaders, refreshes and housekeeping.
 *
 * Each worker has a number, by which a policy keeps a script state for it alone. Two queues: loads
 * that a caller waits for go first; where that caller is a worker itself, in the midst of a job, it
 * runs the other one in between: all workers might wait like it. For the same reason it does not
 * wait for another's load that has yet to begin (flight.c). The first worker also sweeps L1
 * once a second, so that ended entries give their memory back where nobody asks for them, and a
 * table that is being replaced goes; then it has popular keys loaded that are due, carries out what
 * Redis did not take before, looks whether the policy wants to be told of something, and saves what
 * is hot.
 *
 * The pool of a cache that one thread has to itself (simulate.h) may be without threads: then who
 * submits an urgent job runs it.
 */
#include "alert.h"
#include "flight.h"
#include "own.h"
#include "simulate.h"
#include "thread.h"
#include "warm.h"

#include <time.h>

enum {
    SWEEP_EVERY_MS = 1000,
    MOVE_EVERY_MS = 10,   /* while L1's table is being replaced */
    SWEEP_BUCKETS = 4096, /* 64 k slots: some 2 ms of one core */
};

struct queue {
    struct pln_job *first, **last;
};

struct pln_worker {
    struct pln_workers *pool;
    pthread_t thread;
    unsigned number;
};

struct pln_workers {
    struct pln_cache *cache;
    struct pln_worker *workers;
    unsigned n_started;
    bool has_no_threads;  /* who submits an urgent job runs it */
    pthread_mutex_t lock; /* over: */
    pthread_cond_t changed;
    struct queue urgent, behind;
    size_t depth;
    bool is_closing;
    bool is_gone; /* this is a forked child */
};

static void queue_init(struct queue *queue) {
    queue->first = NULL;
    queue->last = &queue->first;
}

/* Takes a job out of its midst; false where it is not in it. */
static bool queue_remove(struct queue *queue, struct pln_job *job) {
    struct pln_job **place = &queue->first;
    while (*place != NULL && *place != job) {
        place = &(*place)->next;
    }
    if (*place == NULL) {
        return false;
    }
    *place = job->next;
    if (job->next == NULL) {
        queue->last = place;
    }
    return true;
}

static struct pln_job *queue_take(struct queue *queue) {
    struct pln_job *job = queue->first;
    if (job != NULL) {
        queue->first = job->next;
        if (job->next == NULL) {
            queue->last = &queue->first;
        }
    }
    return job;
}

/* The next job, or NULL where there is none until a point in time, or when the pool closes. */
static struct pln_job *next_locked(struct pln_workers *pool, pln_ns at) {
    struct timespec until = pln_timespec(at);
    int waited = 0;
    while (pool->depth == 0 && !pool->is_closing && waited == 0) {
        waited = pthread_cond_clockwait(&pool->changed, &pool->lock, CLOCK_MONOTONIC, &until);
    }
    if (pool->depth == 0 || pool->is_closing) {
        return NULL;
    }
    struct pln_job *job = queue_take(&pool->urgent);
    if (job == NULL) {
        job = queue_take(&pool->behind);
    }
    pool->depth--;
    return job;
}

/* Returns when it is to be done again. */
static pln_ns sweep(struct pln_cache *cache) {
    pln_l1_sweep(cache->l1, pln_now(&cache->host), SWEEP_BUCKETS);
    if (!pln_l1_is_replacing(cache->l1)) {
        pln_popular_run(cache);
    }
    pln_ns recovery_at = pln_recovery_run(cache->recovery);
    if (cache->stand_in == NULL) { /* what is only played with alarms nobody */
        pln_alerts_look(cache->alerts, 0);
    }
    pln_ns at = pln_deadline(pln_l1_is_replacing(cache->l1) ? MOVE_EVERY_MS : SWEEP_EVERY_MS);
    pln_ns save_at = pln_previous_run(cache);
    at = save_at < at ? save_at : at;
    return recovery_at < at ? recovery_at : at;
}

static void *work(void *arg) {
    struct pln_worker *worker = arg;
    struct pln_workers *pool = worker->pool;
    *pln_own(PLN_OWN_WORKER) = worker;
    pln_ns sweep_at = worker->number == 0 ? pln_deadline(SWEEP_EVERY_MS) : PLN_FOREVER;
    pthread_mutex_lock(&pool->lock);
    while (!pool->is_closing) {
        struct pln_job *job = next_locked(pool, sweep_at);
        pthread_mutex_unlock(&pool->lock);
        if (job != NULL) {
            job->run(job, worker->number);
        }
        if (pln_clock_precise() >= sweep_at) {
            sweep_at = sweep(pool->cache);
        }
        pthread_mutex_lock(&pool->lock);
    }
    pthread_mutex_unlock(&pool->lock);
    return NULL;
}

static unsigned start(struct pln_workers *pool, unsigned n) {
    unsigned started = 0;
    while (started < n) {
        struct pln_worker *worker = &pool->workers[started];
        *worker = (struct pln_worker){.pool = pool, .number = started};
        if (pln_thread_start(&worker->thread, work, worker) < 0) {
            break;
        }
        started++;
    }
    return started;
}

int pln_workers_new(struct pln_cache *cache, unsigned n, struct pln_workers **workers) {
    struct pln_workers *pool = calloc(1, sizeof *pool);
    if (pool == NULL || (pool->workers = calloc(n + 1, sizeof *pool->workers)) == NULL) {
        free(pool);
        return pln_fail(PLN_ENOMEM, "open: no memory for %u workers", n);
    }
    pool->cache = cache;
    pool->has_no_threads = n == 0;
    queue_init(&pool->urgent);
    queue_init(&pool->behind);
    pthread_mutex_init(&pool->lock, NULL);
    pthread_cond_init(&pool->changed, NULL);
    pool->n_started = start(pool, n);
    if (pool->n_started == 0 && n > 0) {
        pln_workers_free(pool);
        return pln_fail(PLN_ESYSTEM, "open: the system starts no thread for a worker");
    }
    *workers = pool;
    return PLN_OK;
}

void pln_workers_free(struct pln_workers *pool) {
    if (pool == NULL) {
        return;
    }
    pthread_mutex_lock(&pool->lock);
    pool->is_closing = true;
    pthread_cond_broadcast(&pool->changed);
    pthread_mutex_unlock(&pool->lock);
    for (unsigned i = 0; i < pool->n_started; i++) {
        pthread_join(pool->workers[i].thread, NULL);
    }
    struct pln_job *job;
    while ((job = queue_take(&pool->urgent)) != NULL || (job = queue_take(&pool->behind)) != NULL) {
        job->drop(job);
    }
    pthread_cond_destroy(&pool->changed);
    pthread_mutex_destroy(&pool->lock);
    free(pool->workers);
    free(pool);
}

/* The pool's worker that the calling thread is, or NULL. */
static const struct pln_worker *self_in(const struct pln_workers *pool) {
    const struct pln_worker *self = *pln_own(PLN_OWN_WORKER); /* NULL: none */
    return self != NULL && self->pool == pool ? self : NULL;
}

bool pln_workers_has_caller(const struct pln_workers *pool) {
    return pool->has_no_threads || self_in(pool) != NULL;
}

bool pln_workers_withdraw(struct pln_workers *pool, struct pln_job *job) {
    pthread_mutex_lock(&pool->lock);
    bool is_found = queue_remove(&pool->urgent, job) || queue_remove(&pool->behind, job);
    pool->depth -= is_found;
    pthread_mutex_unlock(&pool->lock);
    return is_found;
}

int pln_workers_submit(struct pln_workers *pool, struct pln_job *job, bool is_urgent) {
    int status = PLN_OK;
    if (is_urgent && pln_workers_has_caller(pool)) {
        const struct pln_worker *self = self_in(pool);
        job->run(job, self != NULL ? self->number : 0);
        return PLN_OK;
    }
    pthread_mutex_lock(&pool->lock);
    if (pool->depth >= PLN_QUEUE_MAX) {
        status = pln_fail(PLN_EBUSY, "load: %d loads are waiting for a worker", PLN_QUEUE_MAX);
    } else if (pool->is_gone) {
        status = pln_fail(PLN_ECLOSED, "load: this process was forked from the one that opened the "
                                       "cache; open one here to run a policy's functions");
    } else if (pool->is_closing) {
        status = pln_fail(PLN_ECLOSED, "load: the cache is being closed");
    } else {
        struct queue *queue = is_urgent ? &pool->urgent : &pool->behind;
        job->next = NULL;
        *queue->last = job;
        queue->last = &job->next;
        pool->depth++;
        pthread_cond_signal(&pool->changed);
    }
    pthread_mutex_unlock(&pool->lock);
    return status;
}

void pln_workers_step(struct pln_workers *pool, bool sweeps) {
    struct pln_job *job;
    assert(pool->n_started == 0);
    do {
        pthread_mutex_lock(&pool->lock);
        job = queue_take(&pool->behind);
        pool->depth -= job != NULL;
        pthread_mutex_unlock(&pool->lock);
        if (job != NULL) {
            job->run(job, 0);
        }
    } while (job != NULL);
    if (sweeps) {
        sweep(pool->cache);
    }
}

size_t pln_workers_depth(struct pln_workers *pool) {
    pthread_mutex_lock(&pool->lock);
    size_t depth = pool->depth;
    pthread_mutex_unlock(&pool->lock);
    return depth;
}

/* ---- around a fork ---- */

void pln_workers_freeze(struct pln_workers *pool) {
    pthread_mutex_lock(&pool->lock);
}

void pln_workers_thaw(struct pln_workers *pool, bool is_child) {
    if (is_child) {
        pool->is_gone = true;
        pool->n_started = 0;
        pool->depth = 0;
        queue_init(&pool->urgent); /* those who had submitted them are no more */
        queue_init(&pool->behind);
        pthread_cond_init(&pool->changed, NULL); /* nor those who waited */
    }
    pthread_mutex_unlock(&pool->lock);
}
