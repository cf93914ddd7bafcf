/* SPDX-License-Identifier: MIT
 *
 * redo.c - carries out what failed before: clear, tags, keys, one after the other and from one
 * thread at a time, in short batches between which a worker does other things. The first that fails
 * again ends the batch; the next begins after a pause, each twice as long as the one before, or
 * when the link is back.
 *
 * A set that would bring a key back waits until everything is heard that Redis has said: a while,
 * then it becomes a delete.
 */
#include "flight.h"
#include "recover.h"
#include "store.h"

enum {
    LAST_PAUSE_MS = 5000,
    BATCH = 256, /* operations in a row, or what so many milliseconds take: */
    BATCH_MS = 20,
    BREATH_MS = 10,  /* between two batches */
    LOOK_MS = 50,    /* until what was on its way is looked for again, */
    MOST_LOOKS = 20, /* so often */
};

/* The message up to which nothing was heard that ended the key of a set since; 0 where something
 * was, or may have been. */
static uint64_t heard_unended(struct pln_recovery *recovery, const struct pln_kept *kept) {
    /* first this, then the look at what was heard: what comes in between only has a higher number,
     * which Redis then has, too */
    uint64_t heard = pln_l2_heard(pln_cache_l2(recovery->cache), &kept->key);
    pthread_mutex_lock(&recovery->lock);
    bool is_unended = recovery->is_linked && !kept->is_contested && kept->ticket > recovery->bar &&
                      kept->n_looks < (recovery->is_ending ? 1 : MOST_LOOKS);
    pthread_mutex_unlock(&recovery->lock);
    return is_unended ? heard : 0;
}

/* Of a key that is written through the end is told as such, whatever is there: a write that ended
 * before this one could not be told may have left an older value, and one that is under way sees
 * the mark (through.c). */
static bool is_marked(struct pln_cache *cache, const struct pln_kept *kept,
                      struct pln_hashed *key) {
    struct pln_match match;
    struct pln_ruleset *ruleset;
    const struct pln_terms *terms = pln_cache_match(cache, kept->key.key, &match, &ruleset);
    int strategy = pln_store_terms(cache, match.rule)->strategy;
    *key = kept->key;
    key->is_plain = terms->is_plain;
    pln_ruleset_unref(ruleset);
    return kept->kind != PLN_ATTEMPT_EXPIRE &&
           (strategy == PLN_WRITE_THROUGH || strategy == PLN_WRITE_AROUND);
}

static int redo_key(struct pln_recovery *recovery, const struct pln_kept *kept, pln_ns deadline) {
    struct pln_cache *cache = recovery->cache;
    struct pln_hashed key;
    struct pln_l2_item item = kept->item;
    pln_ms age = pln_now(&cache->host) - kept->at;
    struct pln_l2_redo redo = {
        .kind = (enum pln_l2_redo_kind) kept->kind, .age = age, .item = &item};
    struct pln_ruleset *ruleset = pln_cache_policy(cache);
    bool is_denied = ruleset->has_denied && pln_admit_denies(ruleset, kept->key.key);
    pln_ruleset_unref(ruleset);
    if (kept->kind == PLN_ATTEMPT_SET && (is_denied || item.life_left <= age)) {
        redo.kind = PLN_REDO_REMOVE; /* a policy that came meanwhile may deny the key */
    } else if (kept->kind == PLN_ATTEMPT_SET) {
        redo.heard = heard_unended(recovery, kept);
    }
    item.age += age;
    item.fresh_left -= item.fresh_left == PLN_FOREVER ? 0 : age;
    item.life_left -= item.life_left == PLN_FOREVER ? 0 : age;
    pln_inval_key(cache->inval, &kept->key); /* R8: before it is sent, and again at the reply */
    int status = is_marked(cache, kept, &key)
                     ? pln_l2_through(pln_cache_l2(cache), &key, NULL, pln_clock_precise(),
                                      deadline)
                     : pln_l2_redo(pln_cache_l2(cache), &kept->key, &redo, deadline);
    pln_inval_key(cache->inval, &kept->key);
    return status;
}

static int redo_tag(struct pln_recovery *recovery, const struct pln_kept *kept, pln_ns deadline) {
    struct pln_cache *cache = recovery->cache;
    pln_inval_tag(cache->inval, kept->key.key);
    int status = pln_l2_drop_tag(pln_cache_l2(cache), kept->key.key, deadline);
    pln_inval_tag(cache->inval, kept->key.key);
    return status;
}

static int redo_clear(struct pln_recovery *recovery, pln_ns deadline) {
    struct pln_cache *cache = recovery->cache;
    pln_inval_all(cache->inval);
    int status = pln_l2_clear(pln_cache_l2(cache), deadline);
    pln_inval_all(cache->inval);
    return status;
}

/* Whether it is over, well or badly; and counted. */
static bool is_over(struct pln_recovery *recovery, int status) {
    struct pln_cache *cache = recovery->cache;
    if (status == PLN_PENDING || (status < 0 && pln_l2_may_pass(status))) {
        return false;
    }
    if (status < 0) {
        pln_logf(&cache->host, PLN_LOG_WARN, "what failed before is given up: %s",
                 pln_error_text());
    }
    pln_count(cache->counts,
              status == PLN_OK ? PLN_COUNT_RECOVERY_DONE : PLN_COUNT_RECOVERY_DROPPED, 1);
    return true;
}

/* Of several servers one may be away for long: the next time another operation is first. */
static void move_last_locked(struct pln_recovery *recovery, struct pln_kept *kept) {
    pln_backlog_remove(&recovery->backlog, kept);
    if (!pln_backlog_add(&recovery->backlog, kept)) {
        recovery->clear = kept->ticket; /* memory is out: a clear does its work, too */
        pln_kept_free(kept);
    }
}

/* Carries out what is first. Returns: PLN_OK, PLN_MISS (nothing waits), PLN_PENDING (it has had its
 * turn in this round), or why it failed. */
static int redo_first(struct pln_recovery *recovery, pln_ns deadline) {
    pthread_mutex_lock(&recovery->lock);
    uint64_t clear = recovery->clear;
    struct pln_kept *kept = clear != 0 ? NULL : pln_backlog_first(&recovery->backlog);
    bool has_looked = kept != NULL && kept->round == recovery->round && !recovery->is_ending;
    recovery->under_way = has_looked ? NULL : kept;
    pthread_mutex_unlock(&recovery->lock);
    if (has_looked || (clear == 0 && kept == NULL)) {
        return has_looked ? PLN_PENDING : PLN_MISS;
    }
    int status = kept == NULL                    ? redo_clear(recovery, deadline)
                 : kept->kind == PLN_ATTEMPT_TAG ? redo_tag(recovery, kept, deadline)
                                                 : redo_key(recovery, kept, deadline);
    bool is_ended = is_over(recovery, status);
    pthread_mutex_lock(&recovery->lock);
    recovery->under_way = NULL;
    recovery->n_ended += is_ended;
    if (kept == NULL && is_ended && recovery->clear == clear) {
        recovery->clear = 0;
        pln_recovery_count_locked(recovery);
    } else if (kept != NULL && is_ended) {
        pln_recovery_remove_locked(recovery, kept);
        pln_kept_free(kept);
    } else if (kept != NULL) {
        kept->n_looks += status == PLN_PENDING;
        kept->round = status == PLN_PENDING ? recovery->round : 0;
        move_last_locked(recovery, kept);
    }
    pthread_cond_broadcast(&recovery->changed);
    pthread_mutex_unlock(&recovery->lock);
    return is_ended || status == PLN_PENDING ? PLN_OK : status;
}

/* As many as go until a time. Returns as redo_first(); PLN_PENDING also where another thread is at
 * it. */
static int redo_some(struct pln_recovery *recovery, size_t most, pln_ns until, pln_ns deadline) {
    pthread_mutex_lock(&recovery->lock);
    bool is_mine = !recovery->is_busy;
    recovery->is_busy = recovery->is_busy || is_mine;
    recovery->round += is_mine;
    pthread_mutex_unlock(&recovery->lock);
    int status = is_mine ? PLN_OK : PLN_PENDING;
    for (size_t i = 0; status == PLN_OK && i < most && pln_clock_precise() < until; i++) {
        status = redo_first(recovery, pln_cache_l2_deadline(recovery->cache, deadline));
    }
    if (is_mine) {
        pthread_mutex_lock(&recovery->lock);
        recovery->is_busy = false;
        pthread_mutex_unlock(&recovery->lock);
    }
    return status;
}

/* When to go on after a batch that ended so. */
static pln_ns plan_locked(struct pln_recovery *recovery, int status) {
    if (pln_recovery_waiting(recovery) == 0) {
        recovery->due = PLN_FOREVER;
    } else if (status >= 0) {
        recovery->due = pln_deadline(status == PLN_PENDING ? LOOK_MS : BREATH_MS);
    } else {
        pln_ms pause = recovery->pause;
        recovery->due = pln_deadline(pause / 2 + (pln_ms) (pln_random64() % (uint64_t) pause));
        recovery->pause = pause * 2 < LAST_PAUSE_MS ? pause * 2 : LAST_PAUSE_MS;
    }
    return recovery->due;
}

pln_ns pln_recovery_run(struct pln_recovery *recovery) {
    uint64_t n_ended = 0;
    if (recovery == NULL) {
        return PLN_FOREVER;
    }
    pthread_mutex_lock(&recovery->lock);
    pln_ns due = recovery->due;
    pthread_mutex_unlock(&recovery->lock);
    if (pln_clock_precise() < due) {
        return due;
    }
    int status = redo_some(recovery, BATCH, pln_deadline(BATCH_MS), PLN_FOREVER);
    pthread_mutex_lock(&recovery->lock);
    due = plan_locked(recovery, status);
    if (due == PLN_FOREVER) {
        n_ended = recovery->n_ended;
        recovery->n_ended = 0;
    }
    pthread_mutex_unlock(&recovery->lock);
    if (n_ended > 0) {
        pln_logf(&recovery->cache->host, PLN_LOG_INFO, "%llu operations that had failed are done",
                 (unsigned long long) n_ended);
    }
    return due;
}

void pln_recovery_finish(struct pln_recovery *recovery) {
    if (recovery == NULL || pln_recovery_waiting(recovery) == 0) {
        return;
    }
    pln_ns until = pln_deadline(recovery->cache->timeout_ms);
    pthread_mutex_lock(&recovery->lock);
    recovery->is_ending = true; /* what is on its way is not waited for */
    pthread_mutex_unlock(&recovery->lock);
    (void) redo_some(recovery, SIZE_MAX, until, until);
    size_t n = pln_recovery_waiting(recovery);
    if (n > 0) {
        pln_logf(&recovery->cache->host, PLN_LOG_WARN,
                 "operations that Redis did not take are lost with the cache: %zu", n);
    }
}
