/* SPDX-License-Identifier: MIT
 *
 * wake.c - a cache's threads and connections, begun when they are first needed, and begun anew in
 * every child of fork().
 *
 * Opening a cache checks what can be checked, and starts nothing: hosts load their configuration in
 * one process and serve in its children, forbid threads from some moment on, or never use what they
 * have opened. Whoever needs more than L1 looks at one flag; the first finds it unset and begins
 * the rest, under a lock that the others wait for.
 *
 * Where the system starts no thread the cache is awake all the same: its callers are in the place
 * of the workers (worker.c), and a link that is not there counts as lost, so that L1 serves nothing
 * for longer than the terms allow. Once a second it is tried again.
 */
#include "feeder.h"
#include "flight.h"
#include "reload.h"
#include "store.h"

#include <stdio.h>

static const pln_ms try_again = 1000;

struct pln_start {
    struct pln_options options; /* resolved; the texts are copies */
    pln_l2_maker make;
    void *arg;
    pthread_mutex_t lock; /* over this, and over what begins and ends with it: */
    bool is_short;        /* something could not be begun: a thread, or the client of a child */
    bool has_told;
    pln_ns again_at;
};

static const char without[] = "what is to be done behind waits for pln_step(), and without a link "
                              "L1 serves nothing for longer than max_staleness";

/* ---- life ---- */

int pln_start_new(const struct pln_options *resolved, pln_l2_maker make, void *arg,
                  struct pln_start **start) {
    struct pln_start *created = calloc(1, sizeof *created);
    if (created == NULL) {
        return pln_fail(PLN_ENOMEM, "open: no memory for the options");
    }
    created->make = make;
    created->arg = arg;
    pthread_mutex_init(&created->lock, NULL);
    int status = pln_options_copy(resolved, &created->options);
    if (status < 0) {
        pln_start_free(created);
        return status;
    }
    *start = created;
    return PLN_OK;
}

void pln_start_free(struct pln_start *start) {
    if (start != NULL) {
        pln_options_fini(&start->options);
        pthread_mutex_destroy(&start->lock);
        free(start);
    }
}

const struct pln_options *pln_start_options(const struct pln_start *start) {
    return &start->options;
}

int pln_start_l2(struct pln_cache *cache) {
    const struct pln_start *start = cache->start;
    return start->make == NULL
               ? PLN_OK
               : pln_cache_make_l2(cache, &start->options, start->make, start->arg, &cache->l2);
}

/* ---- waking ---- */

/* Tells once what could not be begun, and once that it could in the end. Without any lock held. */
static void tell(const struct pln_cache *cache, bool is_short, const char *reason) {
    if (is_short) {
        pln_logf(&cache->host, PLN_LOG_WARN, "%s: %s", reason, without);
    } else {
        pln_logf(&cache->host, PLN_LOG_WARN, "the threads that could not be started run now");
    }
}

/* Begins what is not begun yet. Returns whether there is news, and what was amiss. */
static bool begin_locked(struct pln_cache *cache, char reason[PLN_ERROR_TEXT]) {
    struct pln_start *start = cache->start;
    bool is_whole = pln_workers_start(cache->workers);
    if (!is_whole) {
        snprintf(reason, PLN_ERROR_TEXT, "%s", pln_error_text());
    }
    if (cache->l2 != NULL && pln_l2_start(cache->l2) != PLN_OK) {
        snprintf(reason, PLN_ERROR_TEXT, "%s", pln_error_text());
        is_whole = false;
    }
    bool has_news = is_whole == start->has_told;
    start->is_short = !is_whole;
    start->has_told = !is_whole;
    start->again_at = pln_deadline(try_again);
    return has_news;
}

/* What the policy wants of threads of its own; those who have any are left alone. */
static void follow_policy(struct pln_cache *cache) {
    if (cache->has_l2) { /* else there is nobody to hear, as was told when the policy was read */
        pln_feeders_follow(cache->feeders);
    }
    pln_reloads_wake(cache->reloads);
    pln_drain_follow(cache->drain);
}

/* Returns whether this call began it. */
static bool wake(struct pln_cache *cache, struct pln_l2 **client) {
    struct pln_start *start = cache->start;
    char reason[PLN_ERROR_TEXT] = "";
    bool has_begun = false, has_news = false;
    pthread_mutex_lock(&start->lock);
    /* relaxed: written under the lock alone */
    if (!atomic_load_explicit(&cache->is_awake, memory_order_relaxed) &&
        (cache->l2 != NULL || pln_start_l2(cache) == PLN_OK)) {
        has_news = begin_locked(cache, reason);
        has_begun = true;
        /* W1 release: after the client and what was begun; pairs with pln_is_awake() */
        atomic_store_explicit(&cache->is_awake, true, memory_order_release);
    }
    bool is_short = start->is_short;
    *client = cache->l2 == NULL && cache->has_l2 ? pln_l2_gone() : cache->l2;
    pthread_mutex_unlock(&start->lock);
    if (has_news) {
        tell(cache, is_short, reason);
    }
    if (has_begun) {
        follow_policy(cache);
    }
    return has_begun;
}

struct pln_l2 *pln_wake_slowly(struct pln_cache *cache) {
    struct pln_l2 *client;
    wake(cache, &client);
    return client;
}

struct pln_l2 *pln_start_client(struct pln_cache *cache) {
    pthread_mutex_lock(&cache->start->lock);
    struct pln_l2 *client = cache->l2;
    pthread_mutex_unlock(&cache->start->lock);
    return client;
}

bool pln_wake_first(struct pln_cache *cache) {
    struct pln_l2 *client;
    return wake(cache, &client);
}

void pln_start_again(struct pln_cache *cache) {
    struct pln_start *start = cache->start;
    char reason[PLN_ERROR_TEXT] = "";
    bool has_news = false, is_short;
    pthread_mutex_lock(&start->lock);
    if (start->is_short && pln_clock_precise() >= start->again_at) {
        has_news = begin_locked(cache, reason);
    }
    is_short = start->is_short;
    pthread_mutex_unlock(&start->lock);
    if (has_news) {
        tell(cache, is_short, reason);
        follow_policy(cache);
    }
}

const char *pln_mode(struct pln_cache *cache) {
    pln_wake(cache);
    return pln_workers_are_callers(cache->workers) ? "caller" : "threads";
}

/* ---- around a fork ---- */

void pln_start_freeze(struct pln_start *start) {
    pthread_mutex_lock(&start->lock);
}

void pln_start_thaw(struct pln_cache *cache, bool is_child) {
    struct pln_start *start = cache->start;
    if (is_child) {
        /* relaxed: a child has one thread */
        atomic_store_explicit(&cache->is_awake, false, memory_order_relaxed);
        cache->l2 = NULL; /* the parent's, whose threads were in the midst of anything */
        start->is_short = start->has_told = false;
    }
    pthread_mutex_unlock(&start->lock);
}
