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
 * Where the system starts no thread, callers are in the workers' place, each under the number of
 * one of them: who submits an urgent job runs it, and what runs behind waits for a call that has
 * time for it (step.c). They go on until threads can be had. The pool of a cache that one thread
 * has to itself (simulate.h) never has any.
 */
#include "alert.h"
#include "flight.h"
#include "own.h"
#include "simulate.h"
#include "store.h"
#include "thread.h"
#include "warm.h"

#include <stdio.h>
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
    /* under the pool's lock: */
    bool is_lent;    /* a caller works under this number */
    char doing[160]; /* its thread's job, for people; "": none */
};

struct pln_workers {
    struct pln_cache *cache;
    struct pln_worker *workers;
    unsigned n, n_wanted;    /* numbers, and threads: all of them, or none */
    atomic_bool are_callers; /* written under the lock: no thread runs */
    pthread_mutex_t lock;    /* over: */
    pthread_cond_t changed;
    unsigned n_started, n_ended;
    unsigned n_forks; /* a thread of before the last one is none of the pool's */
    struct queue urgent, behind;
    size_t depth;
    bool is_closing;
    pln_ns sweep_at; /* of callers; PLN_FOREVER: one is at it */
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

static struct pln_job *take_locked(struct pln_workers *pool) {
    struct pln_job *job = queue_take(&pool->urgent);
    if (job == NULL) {
        job = queue_take(&pool->behind);
    }
    pool->depth -= job != NULL;
    return job;
}

/* The next job, or NULL where there is none until a point in time, or when the pool closes. */
static struct pln_job *next_locked(struct pln_worker *worker, pln_ns at) {
    struct pln_workers *pool = worker->pool;
    struct timespec until = pln_timespec(at);
    int waited = 0;
    while ((pool->depth == 0 || worker->is_lent) && !pool->is_closing && waited == 0) {
        waited = pthread_cond_clockwait(&pool->changed, &pool->lock, CLOCK_MONOTONIC, &until);
    }
    return worker->is_lent || pool->is_closing ? NULL : take_locked(pool);
}

/* Returns when it is to be done again. */
static pln_ns sweep(struct pln_cache *cache) {
    pln_start_again(cache);
    pln_l1_sweep(cache->l1, pln_now(&cache->host), SWEEP_BUCKETS);
    if (!pln_l1_is_replacing(cache->l1)) {
        pln_popular_run(cache);
    }
    pln_ns recovery_at = pln_recovery_run(cache->recovery);
    pln_drain_look(cache->drain);
    if (cache->stand_in == NULL) { /* what is only played with alarms nobody */
        pln_alerts_look(cache->alerts, 0);
    }
    pln_ns at = pln_deadline(pln_l1_is_replacing(cache->l1) ? MOVE_EVERY_MS : SWEEP_EVERY_MS);
    pln_ns save_at = pln_previous_run(cache);
    at = save_at < at ? save_at : at;
    return recovery_at < at ? recovery_at : at;
}

static void describe_locked(struct pln_worker *worker, const struct pln_job *job) {
    if (job == NULL) {
        worker->doing[0] = 0;
    } else if (job->describe == NULL) {
        snprintf(worker->doing, sizeof worker->doing, "a call");
    } else {
        job->describe(job, worker->doing, sizeof worker->doing);
    }
}

static void *work(void *arg) {
    struct pln_worker *worker = arg;
    struct pln_workers *pool = worker->pool;
    *pln_own(PLN_OWN_WORKER) = worker;
    pln_ns sweep_at = worker->number == 0 ? pln_deadline(SWEEP_EVERY_MS) : PLN_FOREVER;
    pthread_mutex_lock(&pool->lock);
    unsigned n_forks = pool->n_forks;
    while (!pool->is_closing && pool->n_forks == n_forks) {
        struct pln_job *job = next_locked(worker, sweep_at);
        bool may_sweep = !worker->is_lent;
        describe_locked(worker, job);
        pthread_mutex_unlock(&pool->lock);
        if (job != NULL) {
            job->run(job, worker->number);
        }
        if (pln_clock_precise() >= sweep_at) {
            sweep_at = may_sweep ? sweep(pool->cache) : pln_deadline(MOVE_EVERY_MS);
        }
        pthread_mutex_lock(&pool->lock);
    }
    if (pool->n_forks == n_forks) {
        describe_locked(worker, NULL);
        pool->n_ended++;
        pthread_cond_broadcast(&pool->changed);
    }
    pthread_mutex_unlock(&pool->lock);
    return NULL;
}

/* ---- life ---- */

int pln_workers_new(struct pln_cache *cache, unsigned n, struct pln_workers **workers) {
    struct pln_workers *pool = calloc(1, sizeof *pool);
    if (pool == NULL || (pool->workers = calloc(n + 1, sizeof *pool->workers)) == NULL) {
        free(pool);
        return pln_fail(PLN_ENOMEM, "open: no memory for %u workers", n);
    }
    pool->cache = cache;
    pool->n_wanted = n;
    pool->n = n == 0 ? 1 : n;
    for (unsigned i = 0; i < pool->n; i++) {
        pool->workers[i] = (struct pln_worker){.pool = pool, .number = i};
    }
    atomic_init(&pool->are_callers, n == 0);
    queue_init(&pool->urgent);
    queue_init(&pool->behind);
    pthread_mutex_init(&pool->lock, NULL);
    pthread_cond_init(&pool->changed, NULL);
    *workers = pool;
    return PLN_OK;
}

bool pln_workers_start(struct pln_workers *pool) {
    pthread_mutex_lock(&pool->lock);
    bool is_good = !pool->is_closing;
    while (is_good && pool->n_started < pool->n_wanted) {
        struct pln_worker *worker = &pool->workers[pool->n_started];
        is_good = pln_thread_start(&worker->thread, work, worker) == PLN_OK;
        pool->n_started += is_good;
    }
    /* relaxed: see pln_workers_are_callers() */
    atomic_store_explicit(&pool->are_callers, pool->n_started == 0, memory_order_relaxed);
    pthread_cond_broadcast(&pool->changed);
    pthread_mutex_unlock(&pool->lock);
    return is_good;
}

bool pln_workers_stop(struct pln_workers *pool, pln_ns deadline, char *text, size_t size) {
    struct timespec until = pln_timespec(deadline);
    int waited = 0;
    size_t len = 0;
    pthread_mutex_lock(&pool->lock);
    pool->is_closing = true;
    pthread_cond_broadcast(&pool->changed);
    while (pool->n_ended < pool->n_started && waited == 0) {
        waited = pthread_cond_clockwait(&pool->changed, &pool->lock, CLOCK_MONOTONIC, &until);
    }
    bool is_over = pool->n_ended == pool->n_started;
    text[0] = 0;
    for (unsigned i = 0; !is_over && i < pool->n && len < size; i++) {
        const char *doing = pool->workers[i].doing;
        if (doing[0] != 0) {
            len += (size_t) snprintf(text + len, size - len, "%s%s", len > 0 ? ", " : "", doing);
        }
    }
    pthread_mutex_unlock(&pool->lock);
    return is_over;
}

void pln_workers_free(struct pln_workers *pool) {
    if (pool == NULL) {
        return;
    }
    pthread_mutex_lock(&pool->lock);
    pool->is_closing = true;
    unsigned n_started = pool->n_started;
    pthread_cond_broadcast(&pool->changed);
    pthread_mutex_unlock(&pool->lock);
    for (unsigned i = 0; i < n_started; i++) {
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

bool pln_workers_are_callers(const struct pln_workers *pool) {
    /* relaxed: a hint, since the next moment may start threads; what is done by it is decided under
     * the lock */
    return atomic_load_explicit(&pool->are_callers, memory_order_relaxed);
}

bool pln_workers_has_caller(const struct pln_workers *pool) {
    return pln_workers_are_callers(pool) || self_in(pool) != NULL;
}

bool pln_workers_withdraw(struct pln_workers *pool, struct pln_job *job) {
    pthread_mutex_lock(&pool->lock);
    bool is_found = queue_remove(&pool->urgent, job) || queue_remove(&pool->behind, job);
    pool->depth -= is_found;
    pthread_mutex_unlock(&pool->lock);
    return is_found;
}

/* ---- callers in a worker's place ---- */

static struct pln_worker *find_idle_locked(struct pln_workers *pool) {
    for (unsigned i = 0; i < pool->n; i++) {
        if (!pool->workers[i].is_lent) {
            return &pool->workers[i];
        }
    }
    return NULL;
}

/* A number to work under, once there is one; NULL where there are threads again. */
static int borrow_locked(struct pln_workers *pool, struct pln_worker **worker) {
    pln_ms most = pool->cache->terms.load_timeout_ms;
    struct timespec until = pln_timespec(pln_deadline(most));
    int waited = 0;
    *worker = NULL;
    while (pool->n_started == 0 && (*worker = find_idle_locked(pool)) == NULL && waited == 0) {
        waited = pthread_cond_clockwait(&pool->changed, &pool->lock, CLOCK_MONOTONIC, &until);
    }
    if (*worker != NULL) {
        (*worker)->is_lent = true;
    }
    return waited == 0 || *worker != NULL
               ? PLN_OK
               : pln_fail(PLN_EBUSY,
                          "load: there are no threads, and %u callers have been at work "
                          "in their place for %lld ms",
                          pool->n, (long long) most);
}

/* Runs a job, or sweeps where it is NULL; the lock is not held meanwhile. */
static pln_ns work_locked(struct pln_worker *worker, struct pln_job *job) {
    struct pln_workers *pool = worker->pool;
    const void **own = pln_own(PLN_OWN_WORKER), *before = *own;
    pln_ns again_at = PLN_FOREVER;
    pthread_mutex_unlock(&pool->lock);
    *own = worker;
    if (job != NULL) {
        job->run(job, worker->number);
    } else {
        again_at = sweep(pool->cache);
    }
    *own = before;
    pthread_mutex_lock(&pool->lock);
    worker->is_lent = false;
    pthread_cond_broadcast(&pool->changed);
    return again_at;
}

bool pln_workers_work(struct pln_workers *pool) {
    struct pln_job *job = NULL;
    pthread_mutex_lock(&pool->lock);
    struct pln_worker *worker = find_idle_locked(pool);
    if (worker != NULL && pool->n_started == 0 && !pool->is_closing &&
        (job = take_locked(pool)) != NULL) {
        worker->is_lent = true;
        work_locked(worker, job);
    }
    pthread_mutex_unlock(&pool->lock);
    return job != NULL;
}

pln_ns pln_workers_keep_house(struct pln_workers *pool) {
    struct pln_worker *first = &pool->workers[0];
    pthread_mutex_lock(&pool->lock);
    if (pool->n_started == 0 && !pool->is_closing && !first->is_lent &&
        pln_clock_precise() >= pool->sweep_at) {
        first->is_lent = true;
        pool->sweep_at = PLN_FOREVER;
        pln_ns again_at = work_locked(first, NULL);
        pool->sweep_at = again_at;
    }
    pln_ns at = pool->sweep_at;
    pthread_mutex_unlock(&pool->lock);
    return at;
}

bool pln_workers_help(struct pln_workers *pool) {
    const struct pln_worker *self = self_in(pool);
    struct pln_job *job = NULL;
    if (self != NULL) {
        pthread_mutex_lock(&pool->lock);
        job = queue_take(&pool->urgent);
        pool->depth -= job != NULL;
        pthread_mutex_unlock(&pool->lock);
    }
    if (job != NULL) {
        job->run(job, self->number);
    }
    return job != NULL;
}

void pln_workers_step(struct pln_workers *pool, bool sweeps) {
    while (pln_workers_work(pool)) {
    }
    if (sweeps) {
        sweep(pool->cache);
    }
}

/* ---- for those who have work ---- */

static int queue_locked(struct pln_workers *pool, struct pln_job *job, bool is_urgent) {
    if (pool->depth >= PLN_QUEUE_MAX) {
        return pln_fail(PLN_EBUSY, "load: %d loads are waiting for a worker", PLN_QUEUE_MAX);
    }
    if (pool->is_closing) {
        return pln_fail(PLN_ECLOSED, "load: the cache is being closed");
    }
    struct queue *queue = is_urgent ? &pool->urgent : &pool->behind;
    job->next = NULL;
    *queue->last = job;
    queue->last = &job->next;
    pool->depth++;
    pthread_cond_signal(&pool->changed);
    return PLN_OK;
}

int pln_workers_submit(struct pln_workers *pool, struct pln_job *job, bool is_urgent) {
    const struct pln_worker *self = self_in(pool);
    struct pln_worker *lent = NULL;
    int status = PLN_OK;
    pln_wake(pool->cache);
    if (is_urgent && self != NULL) {
        job->run(job, self->number);
        return PLN_OK;
    }
    pthread_mutex_lock(&pool->lock);
    if (is_urgent && pool->n_started == 0 && !pool->is_closing) {
        status = borrow_locked(pool, &lent);
    }
    if (lent != NULL) {
        work_locked(lent, job);
    } else if (status == PLN_OK) {
        status = queue_locked(pool, job, is_urgent);
    }
    pthread_mutex_unlock(&pool->lock);
    return status;
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
        pool->n_started = pool->n_ended = 0;
        pool->n_forks++;
        pool->depth = 0;
        queue_init(&pool->urgent); /* those who had submitted them are no more */
        queue_init(&pool->behind);
        pthread_cond_init(&pool->changed, NULL); /* nor those who waited */
        for (unsigned i = 0; i < pool->n; i++) {
            pool->workers[i].is_lent = false;
            pool->workers[i].doing[0] = 0;
        }
        pool->sweep_at = 0;
        /* relaxed: a child has one thread */
        atomic_store_explicit(&pool->are_callers, pool->n_wanted == 0, memory_order_relaxed);
    }
    pthread_mutex_unlock(&pool->lock);
}
