/* SPDX-License-Identifier: MIT
 *
 * warm.c - warming: reads every key of a list through the tiers like any other read, so that single
 * flight, leases and terms hold for it too.
 *
 *     list ─► batch ─► pln_get_many: what L1 and L2 have, in one round trip ─► present
 *                        └ missing ─► leading: load each, no faster than the rate ─► loaded, failed
 *                                 └─► following: put off until this instance leads
 *
 * A thread that warms has a number as workers have, and so a state of its own for the policy's
 * functions: it loads itself, and as many keys are loaded at once as the plan says. The thread that
 * called meets the other instances meanwhile, and tells how far all is. While another instance
 * leads, only keys are read that the leader is through with.
 *
 * The lists come over the connections of commands, which no value waits for. The values themselves
 * come the way of every other read: what is kept in L1 has to be read in order with the key's
 * writes (R10), so another connection is no place for it. What bounds the delay that warming costs
 * others is its concurrency: each of its threads has one small command under way, or one of
 * BATCH keys that are there, so a read never finds more than that before it.
 */
#include "warm.h"

#include <errno.h>
#include <stdio.h>
#include <time.h>

enum {
    DEFAULT_CONCURRENCY = 8,
    BATCH = 64, /* keys asked for together */
    SHARES = 4, /* of a short list each thread takes its part in so many batches */
    TICK_MS = 100,
    MEET_EVERY_MS = 200,
    NOTIFY_EVERY_MS = 1000,
    LINK_MS = 2000, /* in which the link of a cache that was just opened is live, or Redis away */
    LINK_LOOK_MS = 2,
    GRANTED_US = 10 * 1000 * 1000, /* the time that the service manager is asked for */
};

/* Keys that one thread has taken; places in the list. */
struct batch {
    size_t places[BATCH], n;
    size_t low;    /* none of the list before this is in it */
    bool may_load; /* this instance leads */
};

struct warm_thread {
    struct warming *warming;
    pthread_t thread;
    unsigned worker;
    size_t low; /* of its batch; SIZE_MAX: none */
};

struct warming {
    struct pln_cache *cache;
    const struct pln_warm_options *options;
    struct pln_warm_list list;
    unsigned n_threads;
    double rate, ready_at;
    pln_ns began, deadline;
    pthread_mutex_t lock; /* over: */
    pthread_cond_t changed;
    struct warm_thread *threads;
    size_t next;    /* of the list; before it all is taken */
    size_t limit;   /* of the list, for now: what the leader is through with */
    uint32_t *late; /* places that were passed over, to be read again when this instance leads */
    size_t n_late, next_late;
    pln_ns next_at; /* when the rate allows the next load */
    unsigned n_running;
    bool is_leading, is_stopped;
    struct pln_warm_report report, *rows;
};

/* ---- who takes what ---- */

static bool is_late_locked(const struct warming *warming) {
    return pln_clock_precise() >= warming->deadline;
}

static bool has_left_locked(const struct warming *warming) {
    return warming->next < warming->list.n || warming->next_late < warming->n_late;
}

static size_t batch_size(const struct warming *warming, size_t left) {
    size_t size = left / (warming->n_threads * SHARES);
    return size < 1 ? 1 : size < BATCH ? size : BATCH;
}

static bool take_locked(struct warming *warming, struct batch *batch) {
    size_t limit = warming->is_leading ? warming->list.n : warming->limit;
    batch->n = 0;
    batch->low = SIZE_MAX;
    batch->may_load = warming->is_leading;
    if (warming->next < limit) {
        size_t n = batch_size(warming, limit - warming->next);
        batch->low = warming->next;
        while (batch->n < n) {
            batch->places[batch->n++] = warming->next++;
        }
    } else if (warming->is_leading && warming->next_late < warming->n_late) {
        size_t n = batch_size(warming, warming->n_late - warming->next_late);
        while (batch->n < n) {
            batch->places[batch->n++] = warming->late[warming->next_late++];
        }
    }
    return batch->n > 0;
}

/* Waits for keys that may be read; false where there are none left, or it is time to stop. */
static bool take(struct warm_thread *self, struct batch *batch) {
    struct warming *warming = self->warming;
    bool has_batch = false;
    pthread_mutex_lock(&warming->lock);
    self->low = SIZE_MAX;
    while (!warming->is_stopped && !is_late_locked(warming) && has_left_locked(warming) &&
           !(has_batch = take_locked(warming, batch))) {
        pthread_cond_wait(&warming->changed, &warming->lock); /* the watch wakes it each tick */
    }
    self->low = has_batch ? batch->low : SIZE_MAX;
    if (!has_batch && !warming->is_stopped && has_left_locked(warming)) {
        warming->report.deadline_passed = true;
    }
    pthread_mutex_unlock(&warming->lock);
    return has_batch;
}

static void sleep_until(pln_ns time) {
    struct timespec until = pln_timespec(time);
    while (clock_nanosleep(CLOCK_MONOTONIC, TIMER_ABSTIME, &until, NULL) == EINTR) {
    }
}

/* Waits for the moment at which one more key may be loaded; false where there will be none. */
static bool await_turn(struct warming *warming) {
    pthread_mutex_lock(&warming->lock);
    pln_ns now = pln_clock_precise(), at = now;
    if (warming->rate > 0) {
        at = warming->next_at > now ? warming->next_at : now;
    }
    bool is_late = at >= warming->deadline;
    bool may = !warming->is_stopped && !is_late;
    if (may && warming->rate > 0) {
        warming->next_at = at + (pln_ns) (1e9 / warming->rate);
    }
    if (is_late && !warming->is_stopped) {
        warming->report.deadline_passed = true;
    }
    pthread_mutex_unlock(&warming->lock);
    if (may && at > now) {
        sleep_until(at);
    }
    return may;
}

/* ---- reading ---- */

enum fate { PRESENT, LOADED, FAILED, MISSING };

static void note(struct warming *warming, size_t place, enum fate fate, const char *text) {
    const struct pln_warm_key *key = &warming->list.keys[place];
    struct pln_warm_report *row = &warming->rows[key->source];
    pthread_mutex_lock(&warming->lock);
    if (fate == FAILED && warming->report.error[0] == 0) {
        snprintf(warming->report.error, sizeof warming->report.error, "%.*s: %s",
                 key->key.len < 60 ? (int) key->key.len : 60, (const char *) key->key.data, text);
    }
    warming->report.present += fate == PRESENT;
    warming->report.loaded += fate == LOADED;
    warming->report.failed += fate == FAILED;
    row->present += fate == PRESENT;
    row->loaded += fate == LOADED;
    row->failed += fate == FAILED;
    pthread_mutex_unlock(&warming->lock);
}

static void put_off(struct warming *warming, size_t place) {
    pthread_mutex_lock(&warming->lock);
    warming->late[warming->n_late++] = (uint32_t) place;
    pthread_mutex_unlock(&warming->lock);
}

/* Asks the tiers for a batch, without loading. A key that L2 gives no answer for is missing, unless
 * it is for L2 alone: then it has failed, and the source need not be troubled. */
static void find(struct warming *warming, const size_t *places, size_t n, enum fate *fates) {
    struct pln_get_options options = {.flags = PLN_GET_NO_LOAD | PLN_GET_NO_STALE};
    struct pln_bytes keys[BATCH] = {{NULL, 0}};
    struct pln_result results[BATCH] = {{.value = NULL}};
    int statuses[BATCH] = {0};
    bool is_l2_only = (warming->options->flags & PLN_WARM_L2_ONLY) != 0;
    options.flags |= is_l2_only ? PLN_GET_NO_L1 : 0u;
    for (size_t i = 0; i < n; i++) {
        keys[i] = warming->list.keys[places[i]].key;
    }
    int status = pln_get_many(warming->cache, keys, n, &options, results, statuses);
    for (size_t i = 0; i < n; i++) {
        int each = status < 0 ? status : statuses[i];
        fates[i] = each == PLN_OK || each == PLN_ABSENT ? PRESENT
                   : each < 0 && is_l2_only             ? FAILED
                                                        : MISSING;
        pln_release(warming->cache, status < 0 ? NULL : results[i].value);
    }
}

/* Loads one key, which no tier has had a moment ago. */
static enum fate load(struct warm_thread *self, size_t place, char *text, size_t size) {
    struct warming *warming = self->warming;
    struct pln_result result;
    struct pln_get_options options = {.flags = PLN_GET_NO_STALE | PLN_GET_NO_L1};
    int status = pln_cache_load_as(warming->cache, warming->list.keys[place].key, &options,
                                   self->worker, &result);
    pln_release(warming->cache, result.value);
    if (status == PLN_OK || status == PLN_ABSENT) {
        return result.source == PLN_FROM_LOADER || result.source == PLN_FROM_NEGATIVE ? LOADED
                                                                                      : PRESENT;
    }
    snprintf(text, size, "%s",
             status == PLN_MISS ? "it is nowhere, and no rule loads it" : pln_error_text());
    return FAILED;
}

/* Of L2 only: what was loaded counts when L2 has it. */
static void check_stored(struct warming *warming, const size_t *places, size_t n) {
    enum fate fates[BATCH];
    find(warming, places, n, fates);
    for (size_t i = 0; i < n; i++) {
        note(warming, places[i], fates[i] == PRESENT ? LOADED : FAILED,
             "it was loaded, but Redis has not got it");
    }
}

static void load_missing(struct warm_thread *self, const size_t *places, size_t n) {
    struct warming *warming = self->warming;
    bool is_l2_only = (warming->options->flags & PLN_WARM_L2_ONLY) != 0;
    size_t loaded[BATCH], n_loaded = 0;
    char text[PLN_ERROR_TEXT];
    for (size_t i = 0; i < n; i++) {
        if (!await_turn(warming)) {
            break;
        }
        enum fate fate = load(self, places[i], text, sizeof text);
        if (fate == LOADED && is_l2_only) {
            loaded[n_loaded++] = places[i];
        } else {
            note(warming, places[i], fate, text);
        }
    }
    if (n_loaded > 0) {
        check_stored(warming, loaded, n_loaded);
    }
}

static void read_batch(struct warm_thread *self, const struct batch *batch) {
    struct warming *warming = self->warming;
    size_t missing[BATCH], n_missing = 0;
    enum fate fates[BATCH];
    find(warming, batch->places, batch->n, fates);
    for (size_t i = 0; i < batch->n; i++) {
        if (fates[i] != MISSING) {
            note(warming, batch->places[i], fates[i], pln_error_text());
        } else if (batch->may_load) {
            missing[n_missing++] = batch->places[i];
        } else {
            put_off(warming, batch->places[i]);
        }
    }
    load_missing(self, missing, n_missing);
}

static void *warm_thread(void *arg) {
    struct warm_thread *self = arg;
    struct warming *warming = self->warming;
    struct batch batch;
    while (take(self, &batch)) {
        read_batch(self, &batch);
    }
    pthread_mutex_lock(&warming->lock);
    warming->n_running--;
    pthread_cond_broadcast(&warming->changed);
    pthread_mutex_unlock(&warming->lock);
    return NULL;
}

/* ---- watching ---- */

static struct pln_warm_report snapshot_locked(const struct warming *warming) {
    struct pln_warm_report report = warming->report;
    report.took_ms = (pln_clock_precise() - warming->began) / 1000000;
    report.is_following = !warming->is_leading;
    report.is_ready = (double) (report.loaded + report.present) >=
                      warming->ready_at * (double) report.wanted;
    return report;
}

/* All before this place has been read. */
static size_t done_locked(const struct warming *warming) {
    size_t done = warming->next;
    for (unsigned i = 0; i < warming->n_threads; i++) {
        done = warming->threads[i].low < done ? warming->threads[i].low : done;
    }
    return done;
}

static void meet(struct warming *warming, struct pln_warm_fleet *fleet) {
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
static bool tell(const struct warming *warming, const struct pln_warm_report *report,
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
static void watch(struct warming *warming, struct pln_warm_fleet *fleet) {
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

static int start_threads(struct warming *warming) {
    unsigned n = 0;
    pthread_mutex_lock(&warming->lock);
    for (; n < warming->n_threads; n++) {
        struct warm_thread *thread = &warming->threads[n];
        *thread = (struct warm_thread){
            .warming = warming, .worker = warming->cache->n_workers + n, .low = SIZE_MAX};
        if (pln_thread_start(&thread->thread, warm_thread, thread) < 0) {
            break;
        }
    }
    bool is_good = n > 0 || warming->n_threads == 0;
    warming->n_threads = n;
    warming->n_running = n;
    pthread_mutex_unlock(&warming->lock);
    return is_good ? PLN_OK : PLN_ESYSTEM;
}

static void end_threads(struct warming *warming, struct pln_ruleset *ruleset) {
    for (unsigned i = 0; i < warming->n_threads; i++) {
        pthread_join(warming->threads[i].thread, NULL);
        if (ruleset->hooks.leave != NULL) {
            ruleset->hooks.leave(ruleset->hooks_arg, warming->threads[i].worker);
        }
    }
}

static int prepare(struct warming *warming) {
    size_t n = warming->list.n, n_rows = warming->list.n_rows;
    warming->report.wanted = n;
    warming->n_threads = warming->n_threads < n ? warming->n_threads : (unsigned) n;
    warming->threads = calloc(warming->n_threads + 1, sizeof *warming->threads);
    warming->rows = calloc(n_rows + 1, sizeof *warming->rows);
    warming->late = malloc((n + 1) * sizeof *warming->late);
    if (warming->threads == NULL || warming->rows == NULL || warming->late == NULL) {
        return pln_fail(PLN_ENOMEM, "warm: no memory for %zu keys", n);
    }
    for (size_t i = 0; i < n; i++) {
        warming->rows[warming->list.keys[i].source].wanted++;
    }
    return PLN_OK;
}

static void tell_rows(const struct warming *warming) {
    for (size_t i = 0; warming->options->row != NULL && i < warming->list.n_rows; i++) {
        warming->options->row(warming->options->arg, warming->list.rows[i], &warming->rows[i]);
    }
}

/* While the link is not live L1 keeps nothing that L2 has, so what is read then warms L2 alone. */
static void await_link(const struct warming *warming) {
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
static int warm(struct warming *warming, struct pln_ruleset *ruleset) {
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

static void choose(struct warming *warming, const struct pln_warm_plan *plan) {
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
    struct warming warming = {.cache = cache, .options = options};
    warming.began = pln_clock_precise();
    choose(&warming, &ruleset->warm);
    pthread_mutex_init(&warming.lock, NULL);
    pthread_cond_init(&warming.changed, NULL);
    int status = warm(&warming, ruleset);
    warming.is_leading = true; /* it follows nobody any more */
    *report = snapshot_locked(&warming);
    pln_warm_list_fini(&warming.list);
    free(warming.threads);
    free(warming.rows);
    free(warming.late);
    pthread_cond_destroy(&warming.changed);
    pthread_mutex_destroy(&warming.lock);
    pln_ruleset_unref(ruleset);
    return status;
}
