/* SPDX-License-Identifier: MIT
 *
 * alert.c - cache.alert: measures over sliding windows, and what is raised where one is beyond its
 * bound.
 *
 * Counts only grow, so a window is the difference of two samples of them: now's, and one as old as
 * the window. An alert keeps a sample for each twelfth of its window, and says nothing before it
 * has one that is old enough. Times are counted in buckets, four to each doubling, of which a
 * percentile is found to within an eighth.
 *
 * An alert that a new policy states word for word goes on with its window.
 */
#include "alert.h"

#include <math.h>

enum {
    N_SLICES = 12, /* of a window */
    N_SAMPLES = N_SLICES + 2,
    N_BUCKETS = 128, /* up to some 70 minutes, in microseconds */
    SHARE_WIDTH = 2, /* numbers in a sample of a share: the part, and all */
};

struct watch {
    struct pln_alert alert; /* its texts are the ruleset's, and not looked at */
    size_t width;           /* numbers in a sample */
    size_t n_taken;         /* samples, the last N_SAMPLES of which are kept */
    pln_ms taken_at[N_SAMPLES];
    uint64_t *samples;
    uint64_t memory[SHARE_WIDTH]; /* sums over all looks: bytes in use, and allowed */
    bool has_raised;
    pln_ms raised_at;
};

struct pln_alerts {
    struct pln_cache *cache;
    _Atomic uint64_t load_times[N_BUCKETS], l2_times[N_BUCKETS];
    pthread_mutex_t lock; /* over: */
    struct watch *watches;
    size_t n_watches;
};

/* ---- times ---- */

static size_t bucket_of(pln_ns took) {
    uint64_t us = took < 0 ? 0 : (uint64_t) took / 1000;
    if (us < 4) {
        return (size_t) us;
    }
    unsigned top = 63 - (unsigned) __builtin_clzll(us); /* 2 and more */
    size_t bucket = (size_t) 4 * (top - 1) + (us >> (top - 2) & 3);
    return bucket < N_BUCKETS ? bucket : N_BUCKETS - 1;
}

/* The least microseconds of a bucket. */
static double floor_of(size_t bucket) {
    return bucket < 4 ? (double) bucket : ldexp(4 + (double) (bucket % 4), (int) (bucket / 4) - 1);
}

static void note(_Atomic uint64_t *times, pln_ns took) {
    /* relaxed: a count, whose reader needs no order */
    atomic_fetch_add_explicit(&times[bucket_of(took)], 1, memory_order_relaxed);
}

void pln_alerts_note_load(struct pln_alerts *alerts, pln_ns took) {
    note(alerts->load_times, took);
}

void pln_alerts_note_l2(struct pln_alerts *alerts, pln_ns took) {
    note(alerts->l2_times, took);
}

/* ---- samples ---- */

static bool is_of_times(const struct watch *watch) {
    return watch->width == N_BUCKETS;
}

static void copy_times(const _Atomic uint64_t *times, uint64_t *numbers) {
    for (size_t i = 0; i < N_BUCKETS; i++) {
        /* relaxed: a count */
        numbers[i] = atomic_load_explicit(&times[i], memory_order_relaxed);
    }
}

static void add_memory(struct pln_cache *cache, struct watch *watch) {
    struct pln_l1_usage usage;
    pln_l1_usage(cache->l1, &usage);
    watch->memory[0] += usage.bytes;
    watch->memory[1] += usage.max_bytes;
}

/* What the counts are now. */
static void take_numbers(struct pln_alerts *alerts, struct watch *watch, const uint64_t *totals,
                         uint64_t *numbers) {
    uint64_t l1 = totals[PLN_COUNT_L1_HITS];
    uint64_t hits = l1 + totals[PLN_COUNT_L2_HITS] + totals[PLN_COUNT_STALE_SERVED];
    uint64_t all = hits + totals[PLN_COUNT_LOADS_SERVED] + totals[PLN_COUNT_MISSES] +
                   totals[PLN_COUNT_FAILURES];
    switch (watch->alert.metric) {
    case PLN_METRIC_HIT_RATIO:
        numbers[0] = hits;
        numbers[1] = all;
        break;
    case PLN_METRIC_L1_HIT_RATIO:
        numbers[0] = l1;
        numbers[1] = all;
        break;
    case PLN_METRIC_LOAD_ERRORS:
        numbers[0] = totals[PLN_COUNT_LOAD_ERRORS];
        numbers[1] = totals[PLN_COUNT_LOADS];
        break;
    case PLN_METRIC_MEMORY:
        add_memory(alerts->cache, watch);
        memcpy(numbers, watch->memory, sizeof watch->memory);
        break;
    case PLN_METRIC_LOAD_LATENCY:
        copy_times(alerts->load_times, numbers);
        break;
    case PLN_METRIC_L2_LATENCY:
        copy_times(alerts->l2_times, numbers);
        break;
    }
}

static uint64_t *sample_of(const struct watch *watch, size_t i) {
    return watch->samples + i % N_SAMPLES * watch->width;
}

static void keep_sample(struct watch *watch, pln_ms now, const uint64_t *numbers) {
    size_t i = watch->n_taken;
    if (i > 0 && now - watch->taken_at[(i - 1) % N_SAMPLES] < watch->alert.over / N_SLICES) {
        return;
    }
    watch->taken_at[i % N_SAMPLES] = now;
    memcpy(sample_of(watch, i), numbers, watch->width * sizeof *numbers);
    watch->n_taken++;
}

/* The newest sample that is as old as the window; NULL where there is none yet. */
static const uint64_t *find_base(const struct watch *watch, pln_ms now) {
    for (size_t age = 1; age <= N_SAMPLES && age <= watch->n_taken; age++) {
        size_t i = watch->n_taken - age;
        if (now - watch->taken_at[i % N_SAMPLES] >= watch->alert.over) {
            return sample_of(watch, i);
        }
    }
    return NULL;
}

/* ---- what a window says ---- */

/* In milliseconds: under it are 99 of 100. */
static double percentile(const uint64_t *numbers, const uint64_t *base, uint64_t n) {
    double wanted = 0.99 * (double) n, below = 0;
    size_t i = 0;
    while (i < N_BUCKETS - 1 && below + (double) (numbers[i] - base[i]) < wanted) {
        below += (double) (numbers[i] - base[i]);
        i++;
    }
    double share = (wanted - below) / (double) (numbers[i] - base[i]);
    return (floor_of(i) + share * (floor_of(i + 1) - floor_of(i))) / 1000;
}

/* Returns what was measured, over how many requests; with none it means nothing. */
static double measure(const struct watch *watch, const uint64_t *numbers, const uint64_t *base,
                      uint64_t *n_requests) {
    uint64_t n = 0;
    if (!is_of_times(watch)) {
        n = numbers[1] - base[1];
        *n_requests = watch->alert.metric == PLN_METRIC_MEMORY ? 0 : n;
        return n == 0 ? 0 : (double) (numbers[0] - base[0]) / (double) n;
    }
    for (size_t i = 0; i < N_BUCKETS; i++) {
        n += numbers[i] - base[i];
    }
    *n_requests = n;
    return n == 0 ? 0 : percentile(numbers, base, n);
}

static void announce(struct pln_cache *cache, const struct pln_ruleset *ruleset, size_t i,
                     unsigned worker, const struct pln_alert_news *news) {
    const struct pln_alert *alert = &ruleset->alerts[i];
    const char *unit = alert->bound == PLN_ALERT_P99_ABOVE ? " ms" : "";
    pln_count(cache->counts, PLN_COUNT_POLICY_ALERTS, 1);
    if (alert->has_call) {
        ruleset->hooks.alert(ruleset->hooks_arg, worker, (unsigned) i, news);
    } else {
        pln_logf(&cache->host, PLN_LOG_WARN,
                 "%s:%d: alert '%s': %.3g%s over the last %.10g s, which is %s %.3g%s", alert->file,
                 alert->line, alert->name, news->value, unit, (double) alert->over / 1000,
                 alert->bound == PLN_ALERT_BELOW ? "below" : "above", alert->limit, unit);
    }
}

/* Takes note of how things are; true where that is to be raised. */
static bool look(struct pln_alerts *alerts, struct watch *watch, const uint64_t *totals, pln_ms now,
                 struct pln_alert_news *news) {
    const struct pln_alert *alert = &watch->alert;
    uint64_t numbers[N_BUCKETS];
    take_numbers(alerts, watch, totals, numbers);
    const uint64_t *base = find_base(watch, now);
    bool is_beyond = false;
    if (base != NULL) {
        news->value = measure(watch, numbers, base, &news->requests);
        is_beyond = alert->bound == PLN_ALERT_BELOW ? news->value < alert->limit
                                                    : news->value > alert->limit;
        is_beyond = is_beyond && news->requests >= alert->min_requests;
    }
    keep_sample(watch, now, numbers); /* after the base was used: it may take that one's place */
    if (!is_beyond || (watch->has_raised && now - watch->raised_at < alert->over)) {
        return false;
    }
    watch->has_raised = true;
    watch->raised_at = now;
    return true;
}

/* ---- the policy's alerts ---- */

static bool is_same(const struct pln_alert *a, const struct pln_alert *b) {
    return a->metric == b->metric && a->bound == b->bound && a->limit == b->limit &&
           a->over == b->over && a->min_requests == b->min_requests;
}

static void free_watches(struct watch *watches, size_t n) {
    for (size_t i = 0; i < n; i++) {
        free(watches[i].samples);
    }
    free(watches);
}

/* Takes over the watch of an equal alert, or begins one. */
static bool begin(struct pln_alerts *alerts, const struct pln_alert *alert, struct watch *watch) {
    for (size_t i = 0; i < alerts->n_watches; i++) {
        struct watch *former = &alerts->watches[i];
        if (former->samples != NULL && is_same(&former->alert, alert)) {
            *watch = *former;
            watch->alert = *alert;
            former->samples = NULL;
            return true;
        }
    }
    bool is_latency = alert->bound == PLN_ALERT_P99_ABOVE;
    *watch = (struct watch){.alert = *alert, .width = is_latency ? N_BUCKETS : SHARE_WIDTH};
    watch->samples = calloc(N_SAMPLES * watch->width, sizeof *watch->samples);
    return watch->samples != NULL;
}

/* Watches what a policy states. Returns false where memory is out; then it is tried again. */
static bool follow_locked(struct pln_alerts *alerts, const struct pln_ruleset *ruleset) {
    bool is_all_same = alerts->n_watches == ruleset->n_alerts;
    for (size_t i = 0; is_all_same && i < alerts->n_watches; i++) {
        is_all_same = is_same(&alerts->watches[i].alert, &ruleset->alerts[i]);
    }
    if (is_all_same) {
        return true;
    }
    size_t n = 0;
    struct watch *watches = calloc(ruleset->n_alerts + 1, sizeof *watches);
    bool is_good = watches != NULL;
    for (; is_good && n < ruleset->n_alerts; n++) {
        is_good = begin(alerts, &ruleset->alerts[n], &watches[n]);
    }
    struct watch *former = alerts->watches;
    size_t n_former = alerts->n_watches;
    alerts->watches = watches; /* first: a child that is forked here frees what it finds */
    alerts->n_watches = is_good || n == 0 ? n : n - 1; /* the last one has no memory */
    free_watches(former, n_former);
    return is_good;
}

void pln_alerts_look(struct pln_alerts *alerts, unsigned worker) {
    struct pln_cache *cache = alerts->cache;
    struct pln_ruleset *ruleset = pln_cache_policy(cache);
    uint64_t totals[PLN_N_COUNTS];
    pthread_mutex_lock(&alerts->lock);
    if (follow_locked(alerts, ruleset) && alerts->n_watches > 0) {
        pln_ms now = pln_now(&cache->host);
        pln_counts_sum(cache->counts, totals);
        for (size_t i = 0; i < alerts->n_watches; i++) {
            struct pln_alert_news news = {0};
            if (look(alerts, &alerts->watches[i], totals, now, &news)) {
                announce(cache, ruleset, i, worker, &news);
            }
        }
    }
    pthread_mutex_unlock(&alerts->lock);
    pln_ruleset_unref(ruleset);
}

int pln_alerts_new(struct pln_cache *cache, struct pln_alerts **alerts) {
    struct pln_alerts *created = calloc(1, sizeof *created);
    if (created == NULL) {
        return pln_fail(PLN_ENOMEM, "open: no memory for alerts");
    }
    created->cache = cache;
    pthread_mutex_init(&created->lock, NULL);
    *alerts = created;
    return PLN_OK;
}

void pln_alerts_free(struct pln_alerts *alerts) {
    if (alerts != NULL) {
        free_watches(alerts->watches, alerts->n_watches);
        pthread_mutex_destroy(&alerts->lock);
        free(alerts);
    }
}

void pln_alerts_after_fork(struct pln_alerts *alerts) {
    pthread_mutex_init(&alerts->lock, NULL);
    alerts->watches = NULL;
    alerts->n_watches = 0;
}
