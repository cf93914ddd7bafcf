/* SPDX-License-Identifier: MIT
 *
 * warm.c - a warming from its beginning to its report: keys are gathered, threads read them through
 * the tiers like any other read, so that single flight, leases and terms hold for them too, and the
 * thread that called watches over these: it meets the other instances, tells how far all is, and
 * stops it where it is asked to.
 */
#include "thread.h"
#include "warm.h"

#include <errno.h>
#include <stdio.h>
#include <time.h>

enum {
    DEFAULT_CONCURRENCY = 8,
    TICK_MS = 100,
    MEET_EVERY_MS = 200,
    NOTIFY_EVERY_MS = 1000,
    LINK_MS = 2000, /* in which the link of a cache that was just opened is live, or Redis away */
    LINK_LOOK_MS = 2,
    GRANTED_US = 10 * 1000 * 1000, /* the time that the service manager is asked for */
};

/* ---- watching ---- */

static struct pln_warm_report snapshot_locked(const struct pln_warming *warming) {
    struct pln_warm_report report = warming->report;
    report.took_ms = (pln_clock_precise() - warming->began) / 1000000;
    report.is_following = !warming->is_leading;
    report.is_ready = (double) (report.loaded + report.present) >=
                      warming->ready_at * (double) report.wanted;
    return report;
}

/* All before this place has been read. */
static size_t done_locked(const struct pln_warming *warming) {
    size_t done = warming->next;
    for (unsigned i = 0; i < warming->n_threads; i++) {
        done = warming->threads[i].low < done ? warming->threads[i].low : done;
    }
    return done;
}

static void meet(struct pln_warming *warming, struct pln_warm_fleet *fleet) {
    pthread_mutex_lock(&warming->lock);
    size_t done = done_locked(warming);
    pthread_mutex_unlock(&warming->lock);
    pln_warm_fleet_meet(fleet, &done);
    pthread_mutex_lock(&warming->lock);
    warming->is_leading = fleet->is_leading;
    warming->limit = done < warming->list.n ? done : warming->list.n;
    pthread_cond_broadcast(&warming->changed);
    pthread_mutex_unlock(&warming->lock);
}

static void notify(const struct pln_warm_report *report, bool becomes_ready) {
    char text[200];
    snprintf(text, sizeof text,
             "%sSTATUS=%zu of %zu keys are warm, %zu failed\nEXTEND_TIMEOUT_USEC=%d",
             becomes_ready ? "READY=1\n" : "", report->loaded + report->present, report->wanted,
             report->failed, GRANTED_US);
    (void) pln_notify(text); /* who does not listen need not know */
}

/* Tells all who want to know; false where somebody wants it stopped. */
static bool tell(const struct pln_warming *warming, const struct pln_warm_report *report,
                 pln_ns *notify_at, bool *is_ready) {
    const struct pln_warm_options *options = warming->options;
    bool becomes_ready = report->is_ready && !*is_ready;
    *is_ready = report->is_ready;
    if ((options->flags & PLN_WARM_NOTIFY) != 0 &&
        (becomes_ready || pln_clock_precise() >= *notify_at)) {
        *notify_at = pln_deadline(NOTIFY_EVERY_MS);
        notify(report, becomes_ready);
    }
    bool goes_on = pln_readiness_tell(warming->cache->readiness, report);
    return (options->progress == NULL || options->progress(options->arg, report)) && goes_on;
}

/* Watches until the threads are through. */
static void watch(struct pln_warming *warming, struct pln_warm_fleet *fleet) {
    pln_ns notify_at = 0, meet_at = pln_deadline(MEET_EVERY_MS);
    bool is_ready = false, is_over = false;
    while (!is_over) {
        struct timespec until = pln_timespec(pln_deadline(TICK_MS));
        pthread_mutex_lock(&warming->lock);
        if (warming->n_running > 0) {
            pthread_cond_clockwait(&warming->changed, &warming->lock, CLOCK_MONOTONIC, &until);
        }
        is_over = warming->n_running == 0;
        struct pln_warm_report report = snapshot_locked(warming);
        pthread_mutex_unlock(&warming->lock);
        bool goes_on = tell(warming, &report, &notify_at, &is_ready);
        if (!is_over && pln_clock_precise() >= meet_at) {
            meet(warming, fleet);
            meet_at = pln_deadline(MEET_EVERY_MS);
        }
        pthread_mutex_lock(&warming->lock);
        warming->is_stopped = warming->is_stopped || !goes_on;
        pthread_cond_broadcast(&warming->changed); /* who waits for keys looks at the time */
        pthread_mutex_unlock(&warming->lock);
    }
}

/* ---- all together ---- */

static int start_threads(struct pln_warming *warming) {
    unsigned n = 0;
    pthread_mutex_lock(&warming->lock);
    for (; n < warming->n_threads; n++) {
        struct pln_warm_thread *thread = &warming->threads[n];
        *thread = (struct pln_warm_thread){.warming = warming,
                                           .worker = warming->cache->n_workers + n,
                                           .low = SIZE_MAX,
                                           .at_once = 1};
        if (pln_thread_start(&thread->thread, pln_warm_thread, thread) < 0) {
            break;
        }
    }
    bool is_good = n > 0 || warming->n_threads == 0;
    warming->n_threads = n;
    warming->n_running = n;
    pthread_mutex_unlock(&warming->lock);
    return is_good ? PLN_OK : PLN_ESYSTEM;
}

static void leave(const struct pln_warming *warming, const struct pln_ruleset *ruleset) {
    for (unsigned i = 0; ruleset->hooks.leave != NULL && i < warming->n_threads; i++) {
        ruleset->hooks.leave(ruleset->hooks_arg, warming->threads[i].worker);
    }
}

/* Keys are read under the policy in force, which may have changed meanwhile. */
static void end_threads(struct pln_warming *warming, const struct pln_ruleset *ruleset) {
    struct pln_ruleset *present = pln_cache_policy(warming->cache);
    for (unsigned i = 0; i < warming->n_threads; i++) {
        pthread_join(warming->threads[i].thread, NULL);
    }
    leave(warming, ruleset);
    leave(warming, present);
    pln_ruleset_unref(present);
}

static int prepare(struct pln_warming *warming) {
    size_t n = warming->list.n;
    warming->report.wanted = n;
    warming->n_threads = warming->n_threads < n ? warming->n_threads : (unsigned) n;
    warming->threads = calloc(warming->n_threads + 1, sizeof *warming->threads);
    warming->late = malloc((n + 1) * sizeof *warming->late);
    return warming->threads != NULL && warming->late != NULL
               ? PLN_OK
               : pln_fail(PLN_ENOMEM, "warm: no memory for %zu keys", n);
}

static void tell_rows(const struct pln_warming *warming) {
    for (size_t i = 0; warming->options->row != NULL && i < warming->list.n_rows; i++) {
        const struct pln_warm_row *row = &warming->list.rows[i];
        warming->options->row(warming->options->arg, row->name, &row->report);
    }
}

static void sleep_until(pln_ns time) {
    struct timespec until = pln_timespec(time);
    while (clock_nanosleep(CLOCK_MONOTONIC, TIMER_ABSTIME, &until, NULL) == EINTR) {
    }
}

/* While the link is not live L1 keeps nothing that L2 has, so what is read then warms L2 alone. */
static void await_link(const struct pln_warming *warming) {
    const struct pln_cache *cache = warming->cache;
    pln_ns until = pln_deadline(LINK_MS);
    until = until < warming->deadline ? until : warming->deadline;
    bool fills_l1 = (warming->options->flags & PLN_WARM_L2_ONLY) == 0;
    while (cache->has_l2 && fills_l1 && pln_l1_generation(cache->l1) % 2 != 0 &&
           pln_clock_precise() < until) {
        sleep_until(pln_deadline(LINK_LOOK_MS));
    }
}

/* Gathers and reads. */
static int warm(struct pln_warming *warming, struct pln_ruleset *ruleset) {
    struct pln_warm_fleet fleet;
    int status = pln_warm_gather(warming->cache, ruleset, warming->options,
                                 warming->cache->n_workers, &warming->list);
    if (status == PLN_OK) {
        status = prepare(warming);
    }
    if (status < 0) {
        return status;
    }
    await_link(warming);
    pln_warm_fleet_init(&fleet, warming->cache, ruleset, warming->options);
    meet(warming, &fleet);
    status = start_threads(warming);
    if (status == PLN_OK) {
        watch(warming, &fleet);
        end_threads(warming, ruleset);
        tell_rows(warming);
    }
    pln_warm_fleet_leave(&fleet);
    return status;
}

static void choose(struct pln_warming *warming, const struct pln_warm_plan *plan) {
    const struct pln_warm_options *options = warming->options;
    unsigned concurrency = options->concurrency != 0 ? options->concurrency : plan->concurrency;
    pln_ns own = pln_deadline(options->deadline_ms > 0 ? options->deadline_ms : PLN_FOREVER);
    pln_ns planned = pln_deadline(plan->deadline_ms > 0 ? plan->deadline_ms : PLN_FOREVER);
    warming->n_threads = concurrency != 0 ? concurrency : DEFAULT_CONCURRENCY;
    warming->rate = options->rate > 0 ? options->rate : plan->rate;
    warming->ready_at = options->ready_at > 0 ? options->ready_at
                        : plan->ready_at > 0  ? plan->ready_at
                                              : 1;
    warming->deadline = own < planned ? own : planned;
}

int pln_warm_run(struct pln_cache *cache, const struct pln_warm_options *options,
                 struct pln_warm_report *report) {
    struct pln_ruleset *ruleset = pln_cache_policy(cache);
    struct pln_warming warming = {.cache = cache, .options = options};
    pln_wake(cache); /* it waits for the link */
    warming.began = pln_clock_precise();
    choose(&warming, &ruleset->warm);
    pthread_mutex_init(&warming.lock, NULL);
    pthread_cond_init(&warming.changed, NULL);
    int status = warm(&warming, ruleset);
    warming.is_leading = true; /* it follows nobody any more */
    *report = snapshot_locked(&warming);
    pln_warm_list_fini(&warming.list);
    free(warming.threads);
    free(warming.late);
    pthread_cond_destroy(&warming.changed);
    pthread_mutex_destroy(&warming.lock);
    pln_ruleset_unref(ruleset);
    return status;
}
