/* SPDX-License-Identifier: MIT
 *
 * warm_read.c - the life of a thread that warms: it takes keys, reads what is there, and loads what
 * is not.
 *
 *     list ─► batch ─► pln_get_many: what L1 and L2 have, in one round trip ─► present
 *                        └ missing ─► leading: load each, no faster than the rate ─► loaded, failed
 *                                 └─► following: put off until this instance leads
 *
 * Such a thread has a number as workers have, and so a state of its own for the policy's functions:
 * it loads itself, and as many keys are loaded at once as the plan says. While another instance
 * leads, only keys are read that the leader is through with. Where nothing holds the loads back,
 * those of a batch share their leases' and their commits' round trips (fills.h), and those of a
 * rule that loads many at once are one call of its function.
 *
 * The values come the way of every other read: what is kept in L1 has to be read in order with the
 * key's writes (R10), so another connection is no place for it. What bounds the delay that warming
 * costs others is its concurrency: each of its threads has one small command under way, or one of
 * BATCH keys that are there, so a read never finds more than that before it.
 */
#include "fills.h"
#include "warm.h"
#include "way.h"

#include <stdio.h>

enum {
    BATCH = PLN_FILLS_MOST, /* keys asked for together */
    SHARES = 4,             /* of a short list each thread takes its part in so many batches */
    TOGETHER_MS = 40,       /* loads that share their round trips take no longer than this */
};

/* Keys that one thread has taken; places in the list. */
struct batch {
    size_t places[BATCH], n;
    size_t low;    /* none of the list before this is in it */
    bool may_load; /* this instance leads */
};

/* ---- who takes what ---- */

static bool is_late_locked(const struct pln_warming *warming) {
    return pln_clock_precise() >= warming->deadline;
}

static bool has_left_locked(const struct pln_warming *warming) {
    return warming->next < warming->list.n || warming->next_late < warming->n_late;
}

static size_t batch_size(const struct pln_warming *warming, size_t left) {
    size_t size = left / (warming->n_threads * SHARES);
    return size < 1 ? 1 : size < BATCH ? size : BATCH;
}

static bool take_locked(struct pln_warming *warming, struct batch *batch) {
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
static bool take(struct pln_warm_thread *self, struct batch *batch) {
    struct pln_warming *warming = self->warming;
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

/* Waits for the moment at which one more key may be loaded; false where there will be none. */
static bool await_turn(struct pln_warming *warming) {
    pthread_mutex_lock(&warming->lock);
    pln_ns at = pln_clock_precise();
    if (warming->rate > 0) {
        at = warming->next_at > at ? warming->next_at : at;
    }
    bool is_late = at >= warming->deadline;
    if (!warming->is_stopped && is_late) {
        warming->report.deadline_passed = true;
    } else if (!warming->is_stopped && warming->rate > 0) {
        warming->next_at = at + (pln_ns) (1e9 / warming->rate);
    }
    struct timespec until = pln_timespec(at);
    while (!warming->is_stopped && !is_late && pln_clock_precise() < at) {
        pthread_cond_clockwait(&warming->changed, &warming->lock, CLOCK_MONOTONIC, &until);
    }
    bool may = !warming->is_stopped && !is_late;
    pthread_mutex_unlock(&warming->lock);
    return may;
}

/* ---- reading ---- */

enum fate { PRESENT, LOADED, FAILED, MISSING, GONE };

static void note(struct pln_warming *warming, size_t place, enum fate fate, const char *text) {
    const struct pln_warm_key *key = &warming->list.keys[place];
    struct pln_warm_report *row = &warming->list.rows[key->source].report;
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
    if (fate == GONE) {
        warming->report.wanted--;
        row->wanted--;
    }
    pthread_mutex_unlock(&warming->lock);
}

static void put_off(struct pln_warming *warming, size_t place) {
    pthread_mutex_lock(&warming->lock);
    warming->late[warming->n_late++] = (uint32_t) place;
    pthread_mutex_unlock(&warming->lock);
}

/* Asks the tiers for a batch, without loading. A key that L2 gives no answer for is missing, unless
 * it is for L2 alone: then it has failed, and the source need not be troubled. */
static void find(struct pln_warming *warming, const size_t *places, size_t n, enum fate *fates) {
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

static const struct pln_get_options load_options = {.flags = PLN_GET_NO_STALE | PLN_GET_NO_L1 |
                                                             PLN_GET_KEEP};

/* What became of a load, whose value is given back. */
static enum fate fate_of(const struct pln_warming *warming, size_t place, int status,
                         const struct pln_result *result, char *text, size_t size) {
    const struct pln_warm_key *key = &warming->list.keys[place];
    pln_release(warming->cache, result->value);
    if (status == PLN_OK || status == PLN_ABSENT) {
        return result->source == PLN_FROM_LOADER || result->source == PLN_FROM_NEGATIVE ? LOADED
                                                                                        : PRESENT;
    }
    if (status == PLN_MISS && warming->list.rows[key->source].may_be_gone) {
        return GONE;
    }
    snprintf(text, size, "%s",
             status == PLN_MISS ? "it is nowhere, and no rule loads it" : pln_error_text());
    return FAILED;
}

/* Loads one key, which no tier has had a moment ago. */
static enum fate load(struct pln_warm_thread *self, size_t place, char *text, size_t size) {
    struct pln_warming *warming = self->warming;
    struct pln_result result;
    int status = pln_cache_load_as(warming->cache, warming->list.keys[place].key, &load_options,
                                   self->worker, &result);
    return fate_of(warming, place, status, &result, text, size);
}

/* Of L2 only: what was loaded counts when L2 has it. */
static void check_stored(struct pln_warming *warming, const size_t *places, size_t n) {
    enum fate fates[BATCH];
    find(warming, places, n, fates);
    for (size_t i = 0; i < n; i++) {
        note(warming, places[i], fates[i] == PRESENT ? LOADED : FAILED,
             "it was loaded, but Redis has not got it");
    }
}

/* Keys whose round trips are made together: so many that their loads take no longer than others may
 * have to wait for one of them. */
static size_t together(const struct pln_warm_thread *self, size_t left) {
    size_t most = self->warming->rate > 0 ? 1 : self->at_once;
    return left < most ? left : most;
}

static void adapt(struct pln_warm_thread *self, pln_ns took) {
    if (took > TOGETHER_MS * 1000000 && self->at_once > 1) {
        self->at_once /= 2;
    } else if (took < TOGETHER_MS * 1000000 / 4 && self->at_once < BATCH) {
        self->at_once *= 2;
    }
}

static struct pln_fills *begin_together(const struct pln_warming *warming, const size_t *places,
                                        size_t n) {
    struct pln_bytes keys[BATCH];
    for (size_t i = 0; i < n; i++) {
        keys[i] = warming->list.keys[places[i]].key;
    }
    return pln_fills_begin(warming->cache, keys, n);
}

/* Keys that were loaded, of which Redis is yet to be asked whether it has them. */
struct loaded {
    size_t places[BATCH], n;
};

static void note_load(struct pln_warming *warming, size_t place, enum fate fate, const char *text,
                      struct loaded *loaded) {
    if (fate == LOADED && (warming->options->flags & PLN_WARM_L2_ONLY) != 0) {
        loaded->places[loaded->n++] = place;
    } else {
        note(warming, place, fate, text);
    }
}

/* Moves the keys whose rules load many at once to the end; returns how many others there are. */
static size_t sort(struct pln_warming *warming, size_t *places, size_t n) {
    struct pln_ruleset *ruleset = pln_cache_policy(warming->cache);
    size_t n_others = ruleset->loads_many ? 0 : n;
    for (size_t i = 0; ruleset->loads_many && i < n; i++) {
        struct pln_match match;
        size_t place = places[i];
        pln_ruleset_match(ruleset, warming->list.keys[place].key, &match);
        if (!pln_rule_loads_many(match.rule)) {
            places[i] = places[n_others];
            places[n_others++] = place;
        }
    }
    pln_ruleset_unref(ruleset);
    return n_others;
}

/* Those of one rule by one call. */
static void load_many(struct pln_warm_thread *self, const size_t *places, size_t n,
                      struct loaded *loaded) {
    struct pln_warming *warming = self->warming;
    struct pln_bytes keys[BATCH];
    struct pln_result results[BATCH] = {{.value = NULL}};
    int statuses[BATCH];
    char text[PLN_ERROR_TEXT];
    for (size_t i = 0; i < n; i++) {
        keys[i] = warming->list.keys[places[i]].key;
        statuses[i] = PLN_MISS;
    }
    struct pln_many many = {.cache = warming->cache,
                            .keys = keys,
                            .n = n,
                            .options = &load_options,
                            .results = results,
                            .statuses = statuses,
                            .loads_as = self->worker + 1};
    pln_many_load(&many);
    for (size_t i = 0; i < n; i++) {
        enum fate fate = fate_of(warming, places[i], statuses[i], &results[i], text, sizeof text);
        note_load(warming, places[i], fate, text, loaded);
    }
}

/* Each for itself, with round trips in common. False where it is time to stop. */
static bool load_each(struct pln_warm_thread *self, const size_t *places, size_t n,
                      struct loaded *loaded) {
    struct pln_warming *warming = self->warming;
    bool goes_on = true;
    char text[PLN_ERROR_TEXT];
    for (size_t at = 0, n_now; goes_on && at < n; at += n_now) {
        n_now = together(self, n - at);
        pln_ns began = pln_clock_precise();
        struct pln_fills *fills = begin_together(warming, places + at, n_now);
        for (size_t i = at; i < at + n_now && (goes_on = await_turn(warming)); i++) {
            note_load(warming, places[i], load(self, places[i], text, sizeof text), text, loaded);
        }
        pln_fills_end(fills);
        adapt(self, pln_clock_precise() - began);
    }
    return goes_on;
}

/* A rate is kept by loading one key after the other. */
static void load_missing(struct pln_warm_thread *self, size_t *places, size_t n) {
    struct pln_warming *warming = self->warming;
    struct loaded loaded = {.n = 0};
    size_t at = sort(warming, places, n), most = warming->rate > 0 ? 1 : n;
    bool goes_on = load_each(self, places, at, &loaded);
    for (size_t n_now; at < n && goes_on && await_turn(warming); at += n_now) {
        n_now = most < n - at ? most : n - at;
        load_many(self, places + at, n_now, &loaded);
    }
    if (loaded.n > 0) {
        check_stored(warming, loaded.places, loaded.n);
    }
}

static void read_batch(struct pln_warm_thread *self, const struct batch *batch) {
    struct pln_warming *warming = self->warming;
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

void *pln_warm_thread(void *arg) {
    struct pln_warm_thread *self = arg;
    struct pln_warming *warming = self->warming;
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
