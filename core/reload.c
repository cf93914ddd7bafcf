/* SPDX-License-Identifier: MIT
 *
 * reload.c - the policy in force: put there, read again while calls go on, and let go of.
 *
 * A call takes a reference to the policy in force, and works by it to its end. Whoever puts another
 * one in its place does all that takes long before (compiling, the file's tests, a Lua state for
 * each worker) or after: the last reference of a replaced policy is kept here, and given back by
 * this room's thread once it is the only one, so that no call ever closes a Lua state.
 *
 * The thread begins with the first policy that has states to be closed, or is to be watched, or
 * read again. It looks at the policy's files where that is asked for; what has changed is read
 * again once it is the same at two looks, for it may be half written at the first. What was refused
 * is tried again when it changes, and now and then, since the fault may be in a file that the
 * policy in force does not have; the same fault is told of once.
 */
#include "reload.h"
#include "store.h"
#include "way.h"
#include "warm.h"

#include "feeder.h"
#include "flight.h"
#include "thread.h"

#include <stdio.h>

static const pln_ms look_at_retired = 50; /* whether their last call has ended */

enum { RETRY_LOOKS = 8 }; /* at what was refused */

struct pln_reloads {
    struct pln_cache *cache;
    pln_ms watch;           /* 0: files are not looked at */
    uint64_t seen, refused; /* stamps; the thread's own, as the next */
    unsigned n_looks;       /* since it was refused */
    pthread_t thread;
    pthread_mutex_t lock; /* over: */
    pthread_cond_t changed;
    char fault[PLN_ERROR_TEXT];   /* that was told of, since a policy last came into force */
    struct pln_ruleset *retiring; /* each with one reference of ours */
    bool is_ending;               /* some that were are being freed */
    bool has_thread, is_wanted, is_closing;
};

/* ---- the policy in force ---- */

struct pln_ruleset *pln_cache_policy(struct pln_cache *cache) {
    pthread_mutex_lock(&cache->policy_lock);
    struct pln_ruleset *ruleset = cache->policy;
    pln_ruleset_ref(ruleset);
    pthread_mutex_unlock(&cache->policy_lock);
    return ruleset;
}

static void begin_thread_locked(struct pln_reloads *reloads);

/* Ends what L1 has of keys that the policy in force denies, for a hit asks no policy. Done when it
 * comes into force, and again when the last call by a former one has ended: that may have stored
 * some meanwhile. */
static void forget_denied(struct pln_cache *cache) {
    struct pln_ruleset *ruleset = pln_cache_policy(cache);
    if (ruleset->has_denied) {
        pln_inval_match(cache->inval, pln_admit_denies, ruleset);
    }
    pln_ruleset_unref(ruleset);
}

static void retire_take(struct pln_reloads *reloads, struct pln_ruleset *former, bool denies) {
    if (former->hooks.retire == NULL && !denies) { /* its end costs and changes nothing */
        pln_ruleset_unref(former);
        return;
    }
    pthread_mutex_lock(&reloads->lock);
    begin_thread_locked(reloads);
    bool has_thread = reloads->has_thread;
    if (has_thread) {
        former->next = reloads->retiring;
        reloads->retiring = former;
        pthread_cond_signal(&reloads->changed);
    }
    pthread_mutex_unlock(&reloads->lock);
    if (!has_thread) {
        pln_ruleset_unref(former);
    }
}

/* Puts a ruleset in force, in the place of `expected` (NULL: of any), and takes over the caller's
 * reference. Returns false where another is in force, and changes nothing then. */
static bool put_take(struct pln_cache *cache, const struct pln_ruleset *expected,
                     struct pln_ruleset *ruleset) {
    for (size_t i = 0; i < ruleset->n_rules; i++) {
        ruleset->has_denied = ruleset->has_denied || ruleset->rules[i].terms.is_denied;
        ruleset->loads_many = ruleset->loads_many || pln_rule_loads_many(&ruleset->rules[i]);
        pln_writing_settle(cache, &ruleset->rules[i]);
    }
    struct pln_ruleset *former = pln_cache_policy(cache);
    pln_costs_follow(ruleset, former);
    pln_ruleset_unref(former);
    pthread_mutex_lock(&cache->policy_lock);
    former = cache->policy;
    bool is_expected = expected == NULL || expected == former;
    if (is_expected) {
        pln_ruleset_ref(ruleset);
        cache->policy = ruleset;
    }
    pthread_mutex_unlock(&cache->policy_lock);
    if (is_expected) {
        if (former->n_files > 0) {
            pln_count(cache->counts, PLN_COUNT_POLICY_RELOADS, 1);
        }
        pthread_mutex_lock(&cache->reloads->lock);
        cache->reloads->fault[0] = 0;
        pthread_mutex_unlock(&cache->reloads->lock);
        forget_denied(cache);
        retire_take(cache->reloads, former, ruleset->has_denied);
        pln_feeders_follow(cache->feeders);
        pln_drain_follow(cache->drain);
    }
    pln_ruleset_unref(ruleset);
    return is_expected;
}

void pln_reloads_wake(struct pln_reloads *reloads) {
    struct pln_ruleset *ruleset = pln_cache_policy(reloads->cache);
    bool is_watched = reloads->watch > 0 && ruleset->n_files > 0;
    pln_ruleset_unref(ruleset);
    pthread_mutex_lock(&reloads->lock);
    if (is_watched || reloads->retiring != NULL) {
        begin_thread_locked(reloads);
    }
    pthread_mutex_unlock(&reloads->lock);
}

void pln_cache_set_policy_take(struct pln_cache *cache, struct pln_ruleset *ruleset) {
    put_take(cache, NULL, ruleset);
    if (pln_is_awake(cache)) {
        pln_reloads_wake(cache->reloads);
    }
}

const struct pln_terms *pln_cache_terms(const struct pln_cache *cache) {
    return &cache->terms;
}

const struct pln_host *pln_cache_host(const struct pln_cache *cache) {
    return &cache->host;
}

unsigned pln_cache_workers(const struct pln_cache *cache) {
    return cache->n_workers;
}

unsigned pln_cache_numbers(const struct pln_cache *cache) {
    return cache->n_workers + PLN_WARM_THREADS;
}

void pln_cache_policy_failed(struct pln_cache *cache) {
    pln_count(cache->counts, PLN_COUNT_POLICY_ERRORS, 1);
}

void pln_cache_policy_count(struct pln_cache *cache, enum pln_count which) {
    pln_count(cache->counts, which, 1);
}

pln_ms pln_cache_policy_budget(const struct pln_cache *cache) {
    return cache->policy_budget_ms;
}

void pln_cache_policy_refused(struct pln_cache *cache) {
    pln_count(cache->counts, PLN_COUNT_POLICY_RELOAD_ERRORS, 1);
}

/* ---- reading again ---- */

static int read_again(struct pln_cache *cache) {
    struct pln_ruleset *former = pln_cache_policy(cache);
    struct pln_ruleset *ruleset;
    int status = PLN_MISS;
    if (former->hooks.again != NULL) {
        status = former->hooks.again(former->hooks_arg, &ruleset);
    }
    if (status == PLN_OK) {
        put_take(cache, former, ruleset);
    }
    pln_ruleset_unref(former); /* not the last reference: that is the cache's, or `retiring`'s */
    return status;
}

int pln_reload_policy(struct pln_cache *cache) {
    int status = read_again(cache);
    if (status < 0) {
        pln_cache_policy_refused(cache);
    }
    return status;
}

/* Whether the fault that was just found is to be told: once, or to whoever asked. */
static bool is_news(struct pln_reloads *reloads, bool is_asked_for) {
    pthread_mutex_lock(&reloads->lock);
    bool is_new = is_asked_for || strcmp(reloads->fault, pln_error_text()) != 0;
    snprintf(reloads->fault, sizeof reloads->fault, "%s", pln_error_text());
    pthread_mutex_unlock(&reloads->lock);
    return is_new;
}

/* `is_asked_for`: somebody waits for what is told of it. */
static void reload_and_tell(struct pln_reloads *reloads, bool is_asked_for) {
    const struct pln_host *host = &reloads->cache->host;
    int status = read_again(reloads->cache);
    if (status == PLN_OK) {
        pln_logf(host, PLN_LOG_INFO, "policy: read again, and in force");
    } else if (status < 0 && is_news(reloads, is_asked_for)) {
        pln_cache_policy_refused(reloads->cache);
        pln_logf(host, PLN_LOG_ERROR, "policy: the one in force stays: %s", pln_error_text());
    }
}

/* Whether the files have changed, and stayed so since the last look; or were refused a while ago.
 */
static bool have_files_changed(struct pln_reloads *reloads) {
    struct pln_ruleset *ruleset = pln_cache_policy(reloads->cache);
    uint64_t now = pln_ruleset_stamp_now(ruleset);
    bool is_news = now != ruleset->stamp && now == reloads->seen &&
                   (now != reloads->refused || ++reloads->n_looks >= RETRY_LOOKS);
    pln_ruleset_unref(ruleset);
    reloads->seen = now;
    if (is_news) {
        reloads->refused = now; /* until it has been read; then the ruleset's own stamp is this */
        reloads->n_looks = 0;
    }
    return is_news;
}

/* ---- the thread ---- */

/* Takes those off the list whose only reference is ours. */
static struct pln_ruleset *take_ended_locked(struct pln_reloads *reloads) {
    struct pln_ruleset *ended = NULL;
    struct pln_ruleset **at = &reloads->retiring;
    while (*at != NULL) {
        struct pln_ruleset *ruleset = *at;
        /* R1 acquire: what its other users did comes before it is freed; pairs with
         * pln_ruleset_unref(). Nobody can take a reference to it any more, so one stays one. */
        if (atomic_load_explicit(&ruleset->refs, memory_order_acquire) == 1) {
            *at = ruleset->next;
            ruleset->next = ended;
            ended = ruleset;
        } else {
            at = &ruleset->next;
        }
    }
    return ended;
}

static void free_list(struct pln_ruleset *list) {
    while (list != NULL) {
        struct pln_ruleset *next = list->next;
        pln_ruleset_unref(list);
        list = next;
    }
}

/* Waits for something to do, until a point in time. */
static void wait_locked(struct pln_reloads *reloads, pln_ns at) {
    pln_ns soon = pln_deadline(look_at_retired);
    struct timespec until = pln_timespec(reloads->retiring != NULL && soon < at ? soon : at);
    if (!reloads->is_wanted && !reloads->is_closing) {
        pthread_cond_clockwait(&reloads->changed, &reloads->lock, CLOCK_MONOTONIC, &until);
    }
}

static void *work(void *arg) {
    struct pln_reloads *reloads = arg;
    pln_ns look_at = reloads->watch > 0 ? pln_deadline(reloads->watch) : PLN_FOREVER;
    pthread_mutex_lock(&reloads->lock);
    while (!reloads->is_closing) {
        bool is_wanted = reloads->is_wanted;
        reloads->is_wanted = false;
        struct pln_ruleset *ended = take_ended_locked(reloads);
        reloads->is_ending = ended != NULL;
        pthread_mutex_unlock(&reloads->lock);
        if (ended != NULL) {
            free_list(ended);
            forget_denied(reloads->cache);
        }
        bool has_changed = false;
        if (pln_clock_precise() >= look_at) {
            has_changed = have_files_changed(reloads);
            look_at = pln_deadline(reloads->watch);
        }
        if (is_wanted || has_changed) {
            reload_and_tell(reloads, is_wanted);
        }
        pthread_mutex_lock(&reloads->lock);
        reloads->is_ending = false;
        wait_locked(reloads, look_at);
    }
    pthread_mutex_unlock(&reloads->lock);
    return NULL;
}

static void begin_thread_locked(struct pln_reloads *reloads) {
    if (reloads->has_thread) {
        return;
    }
    reloads->has_thread = pln_thread_start(&reloads->thread, work, reloads) == PLN_OK;
    if (!reloads->has_thread) {
        pln_logf(&reloads->cache->host, PLN_LOG_WARN,
                 "policy: the system starts no thread: nothing is read again unasked");
    }
}

/* Under the lock of fork.c's list. A cache that plays a policy (simulate.h) keeps to it. */
static bool wake(struct pln_cache *cache) {
    struct pln_reloads *reloads = cache->reloads;
    if (cache->stand_in != NULL) {
        return false;
    }
    pthread_mutex_lock(&cache->policy_lock);
    bool has_policy = cache->policy->hooks.again != NULL;
    pthread_mutex_unlock(&cache->policy_lock);
    if (has_policy) {
        pthread_mutex_lock(&reloads->lock);
        reloads->is_wanted = true;
        begin_thread_locked(reloads);
        pthread_cond_signal(&reloads->changed);
        pthread_mutex_unlock(&reloads->lock);
    }
    return has_policy;
}

size_t pln_reload_policies(void) {
    return pln_fork_count(wake);
}

/* ---- life ---- */

int pln_reloads_new(struct pln_cache *cache, pln_ms watch, struct pln_reloads **reloads) {
    struct pln_reloads *created = calloc(1, sizeof *created);
    if (created == NULL) {
        return pln_fail(PLN_ENOMEM, "open: no memory for a policy that changes");
    }
    created->cache = cache;
    created->watch = watch;
    pthread_mutex_init(&created->lock, NULL);
    pthread_cond_init(&created->changed, NULL);
    *reloads = created;
    return PLN_OK;
}

void pln_reloads_free(struct pln_reloads *reloads) {
    if (reloads == NULL) {
        return;
    }
    pthread_mutex_lock(&reloads->lock);
    reloads->is_closing = true;
    pthread_cond_signal(&reloads->changed);
    pthread_mutex_unlock(&reloads->lock);
    if (reloads->has_thread) {
        pthread_join(reloads->thread, NULL);
    }
    free_list(reloads->retiring);
    pthread_cond_destroy(&reloads->changed);
    pthread_mutex_destroy(&reloads->lock);
    free(reloads);
}

size_t pln_reloads_retiring(struct pln_reloads *reloads) {
    pthread_mutex_lock(&reloads->lock);
    size_t n = reloads->is_ending ? 1 : 0;
    for (const struct pln_ruleset *ruleset = reloads->retiring; ruleset != NULL;
         ruleset = ruleset->next) {
        n++;
    }
    pthread_mutex_unlock(&reloads->lock);
    return n;
}

/* ---- around a fork ---- */

void pln_reloads_freeze(struct pln_reloads *reloads) {
    pthread_mutex_lock(&reloads->lock);
}

void pln_reloads_thaw(struct pln_reloads *reloads, bool is_child) {
    if (is_child) {
        reloads->has_thread = reloads->is_ending = false;
        pthread_cond_init(&reloads->changed, NULL); /* its waiter is the parent's */
    }
    pthread_mutex_unlock(&reloads->lock);
}
