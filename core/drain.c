/* SPDX-License-Identifier: MIT
 *
 * drain.c - when turns at the queue are taken (turn.c), and in whose thread.
 *
 * A cache has a thread for it from when it first needs Redis, if a rule of its policy writes
 * behind; where the system starts no threads its callers take the turns, one at a time, as they do
 * the workers' jobs (step.c). In a child of fork() it begins anew, as an instance of its own. The
 * thread stays when a later policy has no such rule: what was put into the queue by a former one
 * is to leave it. A process that never had such a rule takes no turns but to flush, and once it
 * writes through what may wait there.
 *
 * The thread waits for workers, which run the stores of a policy. So a worker must not wait for the
 * thread: one that has to, since the queue is full, runs the workers' urgent jobs meanwhile, those
 * of the thread among them (pln_drain_rest()).
 *
 * A cache that is closed stores what waits, but begins nothing more after twice the longest timeout
 * of a store: the rest is in Redis, and other instances, or the next, have it. A call that is under
 * way by then is waited for a third time as long; one that hangs is left behind, as loads are, and
 * the cache is freed when it returns.
 */
#include "drain.h"
#include "thread.h"

#include <stdio.h>

static const pln_ms start_again = 1000; /* a thread that could not be started */
static const pln_ms look_every = 1000;  /* at the queue, for those who ask how long it is */
static const pln_ns first_nap = 2 * 1000000LL, longest_nap = 50 * 1000000LL;

struct pln_drain {
    struct pln_cache *cache;
    struct pln_turns *turns; /* of who is at work; made anew in a child */
    pthread_mutex_t lock;    /* over: */
    pthread_cond_t wake;     /* the thread: it is time for a turn */
    pthread_cond_t changed;  /* something has left the queue, or a turn is over */
    pthread_t thread;
    bool has_thread, is_wanted, is_closing;
    bool has_finished; /* the thread */
    bool is_at_work;   /* a turn is under way */
    bool is_hurried;   /* the next turn is to try what has failed */
    unsigned n_hasty;  /* who flush */
    bool has_written;  /* this instance, into the queue, since somebody looked */
    size_t n_told;     /* writes of this instance that no turn has looked for */
    pln_ns due, start_at, look_at;
    pln_ns close_until; /* calls may begin */
    struct pln_drain_turn last;
    struct pln_queue_state state;
    bool has_told_loss;
};

int pln_drain_new(struct pln_cache *cache, struct pln_drain **drain) {
    struct pln_drain *created = calloc(1, sizeof *created);
    if (created == NULL) {
        return pln_fail(PLN_ENOMEM, "open: no memory for the queue");
    }
    created->cache = cache;
    pthread_mutex_init(&created->lock, NULL);
    pthread_cond_init(&created->wake, NULL);
    pthread_cond_init(&created->changed, NULL);
    *drain = created;
    return PLN_OK;
}

void pln_drain_free(struct pln_drain *drain) {
    if (drain != NULL) {
        assert(!drain->has_thread && !drain->is_at_work);
        pln_turns_free(drain->turns);
        pthread_cond_destroy(&drain->changed);
        pthread_cond_destroy(&drain->wake);
        pthread_mutex_destroy(&drain->lock);
        free(drain);
    }
}

bool pln_drain_is_wanted(struct pln_cache *cache) {
    struct pln_ruleset *ruleset = pln_cache_policy(cache);
    bool is_wanted = false;
    for (size_t i = 0; i <= ruleset->n_rules && !is_wanted; i++) {
        const struct pln_rule *rule = i == 0 ? NULL : &ruleset->rules[i - 1];
        is_wanted = pln_store_terms(cache, rule)->strategy == PLN_WRITE_BEHIND;
    }
    pln_ruleset_unref(ruleset);
    return is_wanted;
}

/* ---- what is shown ---- */

int pln_queue_look(struct pln_cache *cache, pln_ns deadline, struct pln_l2_queue_state *state) {
    struct pln_drain *drain = cache->drain;
    pthread_mutex_lock(&drain->lock);
    drain->has_written = false;
    pthread_mutex_unlock(&drain->lock);
    int status = pln_l2_queue_state(pln_cache_l2(cache), deadline, state);
    pthread_mutex_lock(&drain->lock);
    bool tells = status == PLN_OK && state->may_evict && !drain->has_told_loss && drain->is_wanted;
    drain->has_told_loss = drain->has_told_loss || tells;
    drain->look_at = pln_deadline(look_every);
    if (status == PLN_OK) {
        drain->state = (struct pln_queue_state){
            .depth = state->depth, .lag_ms = state->oldest, .dead = state->dead};
    }
    pthread_mutex_unlock(&drain->lock);
    if (tells) {
        pln_logf(&cache->host, PLN_LOG_WARN,
                 "queue: Redis may drop writes that wait to be stored, when its memory is full: "
                 "set its maxmemory-policy to noeviction, or to a volatile one");
    }
    return status;
}

void pln_drain_look(struct pln_drain *drain) {
    struct pln_l2_queue_state state;
    pthread_mutex_lock(&drain->lock);
    bool looks = drain->is_wanted && !drain->is_closing && pln_clock_precise() >= drain->look_at;
    pthread_mutex_unlock(&drain->lock);
    if (looks) {
        (void) pln_queue_look(drain->cache, pln_cache_l2_deadline(drain->cache, PLN_FOREVER),
                              &state);
    }
}

void pln_drain_show(struct pln_cache *cache, struct pln_queue_state *state) {
    struct pln_drain *drain = cache->drain;
    *state = (struct pln_queue_state){.depth = 0};
    if (drain != NULL) {
        pthread_mutex_lock(&drain->lock);
        *state = drain->state;
        state->is_ours = drain->last.is_leading;
        pthread_mutex_unlock(&drain->lock);
    }
}

/* ---- one turn ---- */

static bool is_due_locked(const struct pln_drain *drain) {
    return drain->is_hurried || drain->n_told >= drain->last.n_wanted ||
           pln_clock_precise() >= drain->due;
}

/* The lock is not held meanwhile. */
static void take_turn_locked(struct pln_drain *drain) {
    bool is_hasty = drain->n_hasty > 0 || drain->is_closing;
    struct pln_drain_turn turn = {.has_news = drain->n_told > 0 || is_hasty,
                                  .is_hasty = is_hasty,
                                  .is_hurried = drain->is_hurried};
    pln_ns due = pln_deadline(start_again);
    drain->is_at_work = true;
    drain->is_hurried = false;
    drain->n_told = 0;
    pthread_mutex_unlock(&drain->lock);
    if (drain->turns != NULL || pln_turns_new(drain->cache, &drain->turns) == PLN_OK) {
        due = pln_turns_take(drain->turns, &turn);
    } else {
        turn.is_at_end = true;
    }
    pthread_mutex_lock(&drain->lock);
    drain->is_at_work = false;
    drain->last = turn;
    drain->due = due;
    pthread_cond_broadcast(&drain->changed);
}

/* What a cache that is closed leaves in the queue that it had the lead of. */
static void tell_rest(struct pln_cache *cache) {
    struct pln_l2_queue_state state;
    if (pln_queue_look(cache, pln_cache_l2_deadline(cache, PLN_FOREVER), &state) == PLN_OK &&
        state.depth > 0) {
        pln_logf(&cache->host, PLN_LOG_WARN,
                 "queue: the cache is closed before all was stored: %llu writes wait in Redis, for "
                 "another instance or the next",
                 (unsigned long long) state.depth);
    }
}

/* Stores what waits, as long as that may take, and gives the lead back. */
static void finish_locked(struct pln_drain *drain) {
    do {
        take_turn_locked(drain);
    } while (!drain->last.is_at_end && pln_clock_precise() < drain->close_until);
    bool has_rest = drain->last.is_leading && (drain->last.n_waiting > 0 || !drain->last.is_at_end);
    drain->last.is_leading = false;
    pthread_mutex_unlock(&drain->lock);
    if (drain->turns != NULL) {
        pln_turns_leave(drain->turns);
    }
    if (has_rest) {
        tell_rest(drain->cache);
    }
    pthread_mutex_lock(&drain->lock);
}

static void await_turn_locked(struct pln_drain *drain) {
    while (!drain->is_closing && !is_due_locked(drain)) {
        struct timespec until = pln_timespec(drain->due);
        pthread_cond_clockwait(&drain->wake, &drain->lock, CLOCK_MONOTONIC, &until);
    }
    while (drain->is_at_work) { /* by a caller, before there were threads */
        pthread_cond_wait(&drain->changed, &drain->lock);
    }
}

static void *run(void *arg) {
    struct pln_drain *drain = arg;
    pthread_mutex_lock(&drain->lock);
    await_turn_locked(drain);
    while (!drain->is_closing) {
        take_turn_locked(drain);
        await_turn_locked(drain);
    }
    finish_locked(drain);
    drain->has_finished = true;
    pthread_cond_broadcast(&drain->changed);
    pthread_mutex_unlock(&drain->lock);
    return NULL;
}

/* ---- when ---- */

/* Returns whether it could not be begun, with a text. */
static bool begin_locked(struct pln_drain *drain) {
    bool begins = drain->is_wanted && !drain->has_thread && !drain->is_closing &&
                  !pln_workers_are_callers(drain->cache->workers) &&
                  pln_clock_precise() >= drain->start_at;
    if (begins) {
        drain->has_thread = pln_thread_start(&drain->thread, run, drain) == PLN_OK;
        drain->start_at = pln_deadline(start_again);
    }
    return begins && !drain->has_thread;
}

static void tell_failure(const struct pln_drain *drain) {
    pln_logf(&drain->cache->host, PLN_LOG_WARN, "queue: nothing is stored for now: %s",
             pln_error_text());
}

static void begin(struct pln_drain *drain, bool is_wanted) {
    pthread_mutex_lock(&drain->lock);
    drain->is_wanted = drain->is_wanted || is_wanted;
    drain->due = 0;
    bool has_failed = begin_locked(drain);
    pthread_cond_signal(&drain->wake);
    pthread_mutex_unlock(&drain->lock);
    if (has_failed) {
        tell_failure(drain);
    }
}

void pln_drain_follow(struct pln_drain *drain) {
    if (drain != NULL && pln_is_awake(drain->cache) && drain->cache->stand_in == NULL) {
        begin(drain, drain->cache->has_l2 && pln_drain_is_wanted(drain->cache));
    }
}

bool pln_drain_may_hold(struct pln_cache *cache) {
    struct pln_drain *drain = cache->drain;
    struct pln_l2_queue_state state;
    if (drain == NULL || !cache->has_l2 || cache->stand_in != NULL) {
        return false;
    }
    pthread_mutex_lock(&drain->lock);
    bool is_known = !drain->has_written && pln_clock_precise() < drain->look_at;
    bool holds = drain->state.depth > 0, is_wanted = drain->is_wanted;
    pthread_mutex_unlock(&drain->lock);
    if (!is_known &&
        pln_queue_look(cache, pln_cache_l2_deadline(cache, PLN_FOREVER), &state) == PLN_OK) {
        holds = state.depth > 0;
    }
    if (holds && !is_wanted) { /* by former instances, of which there may be none any more */
        begin(drain, true);
    }
    return holds;
}

void pln_drain_tell(struct pln_drain *drain) {
    if (drain == NULL) {
        return;
    }
    pthread_mutex_lock(&drain->lock);
    drain->n_told++;
    drain->has_written = true;
    bool has_failed = !drain->has_thread && begin_locked(drain);
    if (drain->n_told >= drain->last.n_wanted) {
        pthread_cond_signal(&drain->wake);
    }
    pthread_mutex_unlock(&drain->lock);
    if (has_failed) {
        tell_failure(drain);
    }
}

/* By a caller in the thread's place. Returns when it is the next time. */
static pln_ns step_locked(struct pln_drain *drain) {
    bool is_ours = (drain->is_wanted || drain->n_hasty > 0) && !drain->has_thread &&
                   !drain->is_closing;
    if (!is_ours || drain->is_at_work) {
        return is_ours ? pln_clock_precise() + longest_nap : PLN_FOREVER;
    }
    if (is_due_locked(drain)) {
        take_turn_locked(drain);
    }
    return is_due_locked(drain) ? 0 : drain->due;
}

pln_ns pln_drain_step(struct pln_drain *drain) {
    pln_ns due = PLN_FOREVER;
    if (drain != NULL) {
        pthread_mutex_lock(&drain->lock);
        due = step_locked(drain);
        pthread_mutex_unlock(&drain->lock);
    }
    return due;
}

void pln_drain_haste(struct pln_cache *cache, bool is_hasty) {
    struct pln_drain *drain = cache->drain;
    if (drain == NULL) {
        return;
    }
    pthread_mutex_lock(&drain->lock);
    drain->n_hasty += is_hasty ? 1 : -1U;
    drain->is_hurried = drain->is_hurried || is_hasty;
    pthread_cond_signal(&drain->wake);
    bool leaves = drain->n_hasty == 0 && !drain->is_wanted && !drain->is_at_work &&
                  drain->turns != NULL;
    drain->is_at_work = drain->is_at_work || leaves;
    pthread_mutex_unlock(&drain->lock);
    if (leaves) { /* who only came to flush */
        pln_turns_leave(drain->turns);
        pthread_mutex_lock(&drain->lock);
        drain->is_at_work = false;
        pthread_cond_broadcast(&drain->changed);
        pthread_mutex_unlock(&drain->lock);
    }
}

bool pln_drain_rest(struct pln_cache *cache, struct pln_rest *rest) {
    struct pln_drain *drain = cache->drain;
    pln_ns now = pln_clock_precise();
    if (now >= rest->until) {
        return false;
    }
    if (pln_workers_help(cache->workers)) {
        return true;
    }
    rest->nap = rest->nap == 0                ? first_nap
                : rest->nap * 2 < longest_nap ? rest->nap * 2
                                              : longest_nap;
    pln_ns nap_until = now + rest->nap < rest->until ? now + rest->nap : rest->until;
    pthread_mutex_lock(&drain->lock);
    pln_ns due = step_locked(drain);
    nap_until = due < nap_until ? due : nap_until;
    struct timespec until = pln_timespec(nap_until);
    if (pln_clock_precise() < nap_until) {
        pthread_cond_clockwait(&drain->changed, &drain->lock, CLOCK_MONOTONIC, &until);
    }
    pthread_mutex_unlock(&drain->lock);
    return true;
}

/* ---- the end, and a fork ---- */

/* Joins the thread, waiting for it so long; false where it has not ended by then. */
static bool join(struct pln_drain *drain, pln_ns at) {
    struct timespec until = pln_timespec(at);
    int waited = 0;
    pthread_mutex_lock(&drain->lock);
    while (!drain->has_finished && waited == 0) {
        waited = pthread_cond_clockwait(&drain->changed, &drain->lock, CLOCK_MONOTONIC, &until);
    }
    pthread_mutex_unlock(&drain->lock);
    if (waited != 0) {
        return false;
    }
    pthread_join(drain->thread, NULL);
    pthread_mutex_lock(&drain->lock);
    drain->has_thread = false;
    pthread_mutex_unlock(&drain->lock);
    return true;
}

bool pln_drain_stop(struct pln_drain *drain) {
    if (drain == NULL) {
        return true;
    }
    pln_ms longest = pln_turns_longest(drain->cache);
    pthread_mutex_lock(&drain->lock);
    bool has_thread = drain->has_thread;
    drain->is_closing = true;
    drain->close_until = pln_deadline(2 * longest);
    pthread_cond_signal(&drain->wake);
    if (!has_thread && drain->is_wanted && !drain->is_at_work) {
        finish_locked(drain);
    }
    pthread_mutex_unlock(&drain->lock);
    if (has_thread && !join(drain, drain->close_until + longest * 1000000)) {
        pln_logf(&drain->cache->host, PLN_LOG_WARN,
                 "close: a store has not returned for longer than its timeout; memory and "
                 "connections stay until it does");
        return false;
    }
    return true;
}

void pln_drain_finish(struct pln_drain *drain) {
    if (drain != NULL && drain->has_thread) {
        join(drain, PLN_FOREVER);
    }
}

void pln_drain_freeze(struct pln_drain *drain) {
    if (drain != NULL) {
        pthread_mutex_lock(&drain->lock);
    }
}

void pln_drain_thaw(struct pln_drain *drain, bool is_child) {
    if (drain == NULL) {
        return;
    }
    if (is_child) {
        /* what the parent has taken is the parent's, and may be half done */
        drain->turns = NULL;
        drain->has_thread = drain->is_wanted = drain->is_at_work = drain->is_hurried = false;
        drain->n_hasty = 0;
        drain->n_told = 0;
        drain->due = drain->start_at = drain->look_at = 0;
        drain->last = (struct pln_drain_turn){.n_waiting = 0};
        pthread_cond_init(&drain->wake, NULL);
        pthread_cond_init(&drain->changed, NULL);
    }
    pthread_mutex_unlock(&drain->lock);
}
