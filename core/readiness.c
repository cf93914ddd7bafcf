/* SPDX-License-Identifier: MIT
 *
 * readiness.c - whether a cache is as warm as it is to be, and the one warming that a cache has at
 * a time: in the caller's thread, or in one of its own that ends with the cache.
 */
#include "thread.h"
#include "warm.h"

#include <stdio.h>

static const double LEAST_RATE = 1e-6; /* per second: the time between two loads fits in ns */

struct pln_readiness {
    pthread_cond_t ended;
    pthread_mutex_t lock; /* over: */
    struct pln_warm_report report;
    bool is_ready;   /* for good */
    bool has_begun;  /* some warming has */
    bool is_running; /* one is */
    bool is_closing;
    bool has_thread; /* `thread` is to be joined */
    pthread_t thread;
};

int pln_readiness_new(struct pln_readiness **readiness) {
    struct pln_readiness *created = calloc(1, sizeof *created);
    if (created == NULL) {
        return pln_fail(PLN_ENOMEM, "open: no memory");
    }
    pthread_mutex_init(&created->lock, NULL);
    pthread_cond_init(&created->ended, NULL);
    *readiness = created;
    return PLN_OK;
}

/* Joins the thread of the last warming, which has ended or is about to. */
static void join(struct pln_readiness *readiness) {
    pthread_mutex_lock(&readiness->lock);
    bool has_thread = readiness->has_thread;
    readiness->has_thread = false;
    pthread_mutex_unlock(&readiness->lock);
    if (has_thread) {
        pthread_join(readiness->thread, NULL);
    }
}

bool pln_readiness_stop(struct pln_readiness *readiness, pln_ns deadline) {
    struct timespec until = pln_timespec(deadline);
    int waited = 0;
    pthread_mutex_lock(&readiness->lock);
    readiness->is_closing = true;
    while (readiness->is_running && waited == 0) {
        waited = pthread_cond_clockwait(&readiness->ended, &readiness->lock, CLOCK_MONOTONIC,
                                        &until);
    }
    bool is_over = !readiness->is_running;
    pthread_mutex_unlock(&readiness->lock);
    return is_over;
}

void pln_readiness_free(struct pln_readiness *readiness) {
    if (readiness == NULL) {
        return;
    }
    pthread_mutex_lock(&readiness->lock);
    readiness->is_closing = true;
    pthread_mutex_unlock(&readiness->lock);
    join(readiness);
    assert(!readiness->is_running);
    pthread_cond_destroy(&readiness->ended);
    pthread_mutex_destroy(&readiness->lock);
    free(readiness);
}

void pln_readiness_freeze(struct pln_readiness *readiness) {
    pthread_mutex_lock(&readiness->lock);
}

void pln_readiness_thaw(struct pln_readiness *readiness, bool is_child) {
    if (is_child) {
        readiness->is_running = false; /* who warmed did not come along */
        readiness->has_thread = false;
        pthread_cond_init(&readiness->ended, NULL);
    }
    pthread_mutex_unlock(&readiness->lock);
}

bool pln_readiness_tell(struct pln_readiness *readiness, const struct pln_warm_report *report) {
    pthread_mutex_lock(&readiness->lock);
    readiness->report = *report;
    readiness->is_ready = readiness->is_ready || report->is_ready;
    bool goes_on = !readiness->is_closing;
    pthread_mutex_unlock(&readiness->lock);
    return goes_on;
}

static int check(const struct pln_warm_options *options) {
    const uint32_t known = PLN_WARM_L2_ONLY | PLN_WARM_ALONE | PLN_WARM_NOTIFY;
    if ((options->flags & ~known) != 0) {
        return pln_fail(PLN_EINVAL, "warm: unknown flags");
    }
    if (options->concurrency > PLN_WARM_THREADS) {
        return pln_fail(PLN_EINVAL, "warm: concurrency: %u, at most %d", options->concurrency,
                        PLN_WARM_THREADS);
    }
    if (options->rate != 0 && !(options->rate >= LEAST_RATE)) {
        return pln_fail(PLN_EINVAL, "warm: rate: %g per second, at least %g", options->rate,
                        LEAST_RATE);
    }
    if (options->deadline_ms < 0 || !(options->ready_at >= 0) || options->ready_at > 1) {
        return pln_fail(PLN_EINVAL, "warm: deadline must not be negative, ready_at is a share");
    }
    return PLN_OK;
}

static int begin(struct pln_cache *cache, const struct pln_warm_options *options) {
    struct pln_readiness *readiness = cache->readiness;
    int status = check(options);
    if (status == PLN_OK && (options->flags & PLN_WARM_L2_ONLY) != 0 && !cache->has_l2) {
        status = pln_fail(PLN_EINVAL, "warm: L2 alone is to be warmed, and the cache has none");
    }
    if (status < 0) {
        return status;
    }
    pthread_mutex_lock(&readiness->lock);
    if (readiness->is_running) {
        status = pln_fail(PLN_EBUSY, "warm: this cache is being warmed already");
    } else {
        readiness->is_running = readiness->has_begun = true;
        readiness->report = (struct pln_warm_report){.wanted = 0};
    }
    pthread_mutex_unlock(&readiness->lock);
    return status;
}

static void end(struct pln_readiness *readiness) {
    pthread_mutex_lock(&readiness->lock);
    readiness->is_running = false;
    pthread_cond_broadcast(&readiness->ended);
    pthread_mutex_unlock(&readiness->lock);
}

static int run(struct pln_cache *cache, const struct pln_warm_options *options,
               struct pln_warm_report *report) {
    int status = pln_warm_run(cache, options, report);
    if (status < 0) {
        *report = (struct pln_warm_report){.wanted = 0};
        snprintf(report->error, sizeof report->error, "%s", pln_error_text());
    }
    pln_readiness_tell(cache->readiness, report);
    end(cache->readiness);
    return status;
}

static const struct pln_warm_options no_options;

int pln_warm(struct pln_cache *cache, const struct pln_warm_options *options,
             struct pln_warm_report *report) {
    struct pln_warm_report own;
    options = options != NULL ? options : &no_options;
    int status = begin(cache, options);
    return status < 0 ? status : run(cache, options, report != NULL ? report : &own);
}

/* ---- behind ---- */

struct errand {
    struct pln_cache *cache;
    struct pln_warm_options options;
};

static void *run_behind(void *arg) {
    struct errand *errand = arg;
    struct pln_warm_report report;
    if (run(errand->cache, &errand->options, &report) < 0) {
        pln_logf(&errand->cache->host, PLN_LOG_ERROR, "%s", pln_error_text());
    } else if (report.error[0] != 0) {
        pln_logf(&errand->cache->host, PLN_LOG_WARN, "warm: %zu of %zu keys failed, the first: %s",
                 report.failed, report.wanted, report.error);
    }
    free(errand);
    return NULL;
}

int pln_warm_start(struct pln_cache *cache, const struct pln_warm_options *options) {
    struct pln_readiness *readiness = cache->readiness;
    options = options != NULL ? options : &no_options;
    struct errand *errand = malloc(sizeof *errand);
    if (errand == NULL) {
        return pln_fail(PLN_ENOMEM, "warm: no memory");
    }
    *errand = (struct errand){cache, *options};
    int status = begin(cache, options);
    if (status < 0) {
        free(errand);
        return status;
    }
    join(readiness);
    pthread_mutex_lock(&readiness->lock);
    status = pln_thread_start(&readiness->thread, run_behind, errand);
    readiness->has_thread = status == PLN_OK;
    readiness->is_running = status == PLN_OK;
    pthread_mutex_unlock(&readiness->lock);
    if (status < 0) {
        free(errand);
    }
    return status;
}

bool pln_ready(struct pln_cache *cache, struct pln_warm_report *report) {
    struct pln_readiness *readiness = cache->readiness;
    struct pln_ruleset *ruleset = pln_cache_policy(cache);
    bool has_plan = ruleset->warm.n_sources > 0;
    pln_ruleset_unref(ruleset);
    pthread_mutex_lock(&readiness->lock);
    bool is_ready = readiness->is_ready || (!readiness->has_begun && !has_plan);
    if (report != NULL) {
        *report = readiness->report;
    }
    pthread_mutex_unlock(&readiness->lock);
    return is_ready;
}
