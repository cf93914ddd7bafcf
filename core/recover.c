/* SPDX-License-Identifier: MIT
 *
 * recover.c - what failed while Redis was away is kept, and carried out when it is back.
 *
 * One operation is kept for each key (the last), one for each tag, and one clear, which swallows
 * all that is older. Each has the moment at which it began. When it is carried out, a script in
 * Redis (pln_l2_redo()) looks at what is there by then: what is newer than that moment stays, what
 * is older gives way. Value and message are one step there, so nothing is told that Redis has not
 * taken, and an operation of unknown outcome may be done again.
 *
 * Messages of others have no such moment. One that comes after an operation was kept may be about a
 * change that came before it, so none ends what is kept. But a set may bring back a key that Redis
 * does not have only where nobody can have deleted it meanwhile: the link is live, no gap since was
 * left unrepaired, nothing was heard of the key, of its tags, of a prefix or pattern that it fits,
 * or of a clear, and Redis has said nothing that was not heard yet (by its messages' numbers). Else
 * it becomes a delete, which is never wrong. So does a set whose life ends while it waits: what it
 * was to replace may live longer.
 *
 * An operation of this process's that begins while one waits for the same key takes that out first,
 * waiting while it is under way, so that no older one is carried out behind it. What it took goes
 * back where neither of the two was done; what was heard of the key meanwhile counts against it.
 *
 * Past its bounds the queue becomes one clear: nothing of it is lost, and much else with it.
 */
#include "recover.h"

#include <stdio.h>

enum {
    RETURN_MS = 500, /* at random up to so long after the link is back: a fleet comes bit by bit */
};

/* ---- what waits ---- */

static uint64_t latest(struct pln_recovery *recovery) {
    /* relaxed: whoever has a ticket from another thread has it by what orders the two */
    return atomic_load_explicit(&recovery->tickets, memory_order_relaxed);
}

void pln_recovery_count_locked(struct pln_recovery *recovery) {
    size_t n = pln_backlog_count(&recovery->backlog) + (recovery->clear != 0);
    /* relaxed: an operation that has to know of what an earlier one kept comes after it by what
     * orders the two; and it is shown */
    atomic_store_explicit(&recovery->n_waiting, n, memory_order_relaxed);
    if (n == 0) {
        recovery->due = PLN_FOREVER;
    }
}

size_t pln_recovery_waiting(struct pln_recovery *recovery) {
    /* relaxed: see pln_recovery_count_locked() */
    return recovery == NULL ? 0 : atomic_load_explicit(&recovery->n_waiting, memory_order_relaxed);
}

static void plan_first_locked(struct pln_recovery *recovery) {
    if (recovery->due == PLN_FOREVER) {
        recovery->pause = PLN_FIRST_PAUSE_MS;
        recovery->due = pln_deadline(PLN_FIRST_PAUSE_MS);
    }
}

void pln_recovery_remove_locked(struct pln_recovery *recovery, struct pln_kept *kept) {
    pln_backlog_remove(&recovery->backlog, kept);
    pln_recovery_count_locked(recovery);
}

bool pln_recovery_add_locked(struct pln_recovery *recovery, struct pln_kept *kept) {
    if (!pln_backlog_add(&recovery->backlog, kept)) {
        return false;
    }
    plan_first_locked(recovery);
    pln_recovery_count_locked(recovery);
    return true;
}

static void drop(struct pln_recovery *recovery, struct pln_kept *kept) {
    if (kept != NULL) {
        pln_count(recovery->cache->counts, PLN_COUNT_RECOVERY_DROPPED, 1);
        pln_kept_free(kept);
    }
}

/* What is kept for a key or tag, once it is not under way; taken out. */
static struct pln_kept *take_locked(struct pln_recovery *recovery, enum pln_attempt_kind kind,
                                    struct pln_bytes key) {
    struct pln_kept *found = NULL;
    do {
        if (found != NULL) {
            pthread_cond_wait(&recovery->changed, &recovery->lock);
        }
        found = pln_backlog_find(&recovery->backlog, kind, key);
    } while (found != NULL && found == recovery->under_way);
    if (found != NULL) {
        pln_recovery_remove_locked(recovery, found);
    }
    return found;
}

struct older {
    struct pln_recovery *recovery;
    uint64_t ticket;
};

static void drop_if_older(void *arg, struct pln_kept *kept) {
    const struct older *older = arg;
    if (kept->ticket <= older->ticket && kept != older->recovery->under_way) {
        pln_recovery_remove_locked(older->recovery, kept);
        drop(older->recovery, kept);
    }
}

/* Ends what began before a ticket. What is under way ends by itself. */
static void drop_older_locked(struct pln_recovery *recovery, uint64_t ticket) {
    pln_backlog_each(&recovery->backlog, drop_if_older, &(struct older){recovery, ticket});
}

static void keep_clear_locked(struct pln_recovery *recovery, uint64_t ticket) {
    drop_older_locked(recovery, ticket);
    recovery->clear = recovery->clear < ticket ? ticket : recovery->clear;
    plan_first_locked(recovery);
    pln_recovery_count_locked(recovery);
}

/* Puts one into its table, unless something there says it is over. Returns false where there is no
 * room; takes over `kept` in any case. */
static bool put_locked(struct pln_recovery *recovery, struct pln_kept *kept) {
    struct pln_kept *present = take_locked(recovery, kept->kind, kept->key.key);
    if (present != NULL && present->ticket > kept->ticket) {
        struct pln_kept *older = kept;
        kept = present;
        present = older;
    }
    drop(recovery, present);
    if (recovery->clear > kept->ticket) {
        drop(recovery, kept); /* the clear does its work */
        return true;
    }
    if (recovery->clear != 0 && kept->kind != PLN_ATTEMPT_SET) {
        recovery->clear = kept->ticket; /* likewise, once more where it is under way */
        drop(recovery, kept);
        return true;
    }
    if (kept->kind == PLN_ATTEMPT_SET &&
        recovery->backlog.bytes + pln_kept_bytes(kept) > recovery->most_bytes) {
        pln_kept_forget_value(kept);
    }
    if (pln_recovery_waiting(recovery) < recovery->most &&
        recovery->backlog.bytes + pln_kept_bytes(kept) <= recovery->most_bytes &&
        pln_recovery_add_locked(recovery, kept)) {
        return true;
    }
    drop(recovery, kept);
    return false;
}

static void contest_if_fits(void *arg, struct pln_kept *kept) {
    kept->is_contested = kept->is_contested || pln_mask_fits(arg, kept->key.key);
}

static void contest_fitting_locked(struct pln_recovery *recovery, const struct pln_mask *mask) {
    struct pln_mask copy = *mask;
    pln_backlog_each(&recovery->backlog, contest_if_fits, &copy);
}

/* ---- around an operation ---- */

void pln_recovery_begin(struct pln_recovery *recovery, struct pln_attempt *attempt) {
    if (recovery == NULL) {
        return;
    }
    attempt->at = pln_now(&recovery->cache->host);
    /* relaxed: see latest */
    attempt->ticket = atomic_fetch_add_explicit(&recovery->tickets, 1, memory_order_relaxed) + 1;
    if (pln_recovery_waiting(recovery) == 0 && attempt->kind < PLN_ATTEMPT_MATCH) {
        return;
    }
    pthread_mutex_lock(&recovery->lock);
    if (attempt->kind >= PLN_ATTEMPT_TAG) {
        while (recovery->under_way != NULL) {
            pthread_cond_wait(&recovery->changed, &recovery->lock);
        }
    }
    if (attempt->kind == PLN_ATTEMPT_MATCH) {
        /* one that is being tried sees it by its stamp */
        contest_fitting_locked(recovery, attempt->mask);
    } else if (attempt->kind == PLN_ATTEMPT_CLEAR) {
        recovery->bar = attempt->ticket;
    } else {
        attempt->former = take_locked(recovery, attempt->kind, attempt->key.key);
    }
    pthread_mutex_unlock(&recovery->lock);
    if (attempt->kind == PLN_ATTEMPT_TAG) {
        pln_recovery_heard_tag(recovery, attempt->key.key);
    }
}

/* Whether something was heard, or done here, of a set's key or tags while a write of the key was
 * tried. That the link was lost is another matter: see `bar`. */
static bool has_heard(struct pln_recovery *recovery, const struct pln_stamp *before,
                      const struct pln_l2_item *item) {
    struct pln_stamp stamp = *before;
    stamp.generation = pln_l1_generation(recovery->cache->l1);
    pln_stamp_tags(&stamp, item->tags, item->n_tags);
    return !pln_stamp_holds(&stamp);
}

/* What is to wait now, in the place of what the operation found waiting; NULL: nothing. */
static struct pln_kept *heir_of(struct pln_recovery *recovery, const struct pln_attempt *attempt,
                                bool is_kept, bool is_done) {
    struct pln_kept *former = attempt->former;
    if (!is_kept && !is_done) {
        if (former != NULL && former->kind == PLN_ATTEMPT_SET) {
            former->is_contested = former->is_contested || attempt->stamp == NULL ||
                                   has_heard(recovery, attempt->stamp, &former->item);
        }
        return former;
    }
    if (former != NULL && attempt->kind == PLN_ATTEMPT_EXPIRE &&
        former->kind != PLN_ATTEMPT_EXPIRE) {
        /* what was to go or be replaced must not stay on as a stale value */
        pln_kept_forget_value(former);
        former->ticket = attempt->ticket;
        former->at = attempt->at;
        return former;
    }
    drop(recovery, former);
    return is_kept ? pln_kept_new(attempt) : NULL;
}

/* Returns false where there was no room. */
static bool settle_locked(struct pln_recovery *recovery, const struct pln_attempt *attempt,
                          struct pln_kept *heir, bool is_kept, bool is_done) {
    if (attempt->kind < PLN_ATTEMPT_MATCH) {
        if (heir != NULL && heir->kind == PLN_ATTEMPT_SET && is_kept) {
            heir->is_contested = has_heard(recovery, attempt->stamp, attempt->item);
        }
        return heir != NULL ? put_locked(recovery, heir) : !is_kept;
    }
    if (is_kept) {
        keep_clear_locked(recovery, attempt->ticket);
    } else if (is_done && attempt->kind == PLN_ATTEMPT_CLEAR) {
        drop_older_locked(recovery, attempt->ticket);
        recovery->clear = recovery->clear > attempt->ticket ? recovery->clear : 0;
        pln_recovery_count_locked(recovery);
    }
    return true;
}

static int tell_kept(struct pln_recovery *recovery, int status) {
    char text[PLN_ERROR_TEXT];
    snprintf(text, sizeof text, "%s", pln_error_text());
    pln_count(recovery->cache->counts, PLN_COUNT_RECOVERY_KEPT, 1);
    return pln_fail(status, "%s; kept, and tried again later", text);
}

static void tell_overflow(struct pln_recovery *recovery) {
    pln_count(recovery->cache->counts, PLN_COUNT_RECOVERY_OVERFLOWS, 1);
    pln_logf(&recovery->cache->host, PLN_LOG_WARN,
             "more has failed while Redis is away than is kept (%zu operations, %zu bytes): the "
             "whole namespace will be cleared when it is back",
             recovery->most, recovery->most_bytes);
}

int pln_recovery_end(struct pln_recovery *recovery, struct pln_attempt *attempt, int status) {
    bool is_kept = recovery != NULL && status < 0 && !attempt->is_conditional &&
                   pln_l2_may_pass(status);
    bool is_done = status == PLN_OK || status == PLN_MISS;
    bool is_wide = attempt->kind >= PLN_ATTEMPT_MATCH;
    if (recovery == NULL || (!is_kept && !is_wide && attempt->former == NULL)) {
        return status;
    }
    struct pln_kept *heir = is_wide ? NULL : heir_of(recovery, attempt, is_kept, is_done);
    pthread_mutex_lock(&recovery->lock);
    bool has_room = settle_locked(recovery, attempt, heir, is_kept, is_done);
    if (!has_room) {
        keep_clear_locked(recovery, latest(recovery));
    }
    pthread_mutex_unlock(&recovery->lock);
    status = is_kept ? tell_kept(recovery, status) : status;
    if (!has_room) {
        tell_overflow(recovery);
    }
    return status;
}

/* ---- what is heard ---- */

void pln_recovery_heard_key(struct pln_recovery *recovery, struct pln_bytes key) {
    struct pln_kept *found;
    if (recovery == NULL) {
        return;
    }
    pthread_mutex_lock(&recovery->lock);
    found = pln_backlog_find(&recovery->backlog, PLN_ATTEMPT_SET, key);
    if (found != NULL) {
        found->is_contested = true;
    }
    pthread_mutex_unlock(&recovery->lock);
}

static void contest_if_tagged(void *arg, struct pln_kept *kept) {
    const struct pln_bytes *tag = arg;
    kept->is_contested = kept->is_contested || pln_kept_has_tag(kept, *tag);
}

void pln_recovery_heard_tag(struct pln_recovery *recovery, struct pln_bytes tag) {
    if (recovery == NULL) {
        return;
    }
    pthread_mutex_lock(&recovery->lock);
    pln_backlog_each(&recovery->backlog, contest_if_tagged, &tag);
    pthread_mutex_unlock(&recovery->lock);
}

void pln_recovery_heard_match(struct pln_recovery *recovery, const struct pln_mask *mask) {
    if (recovery == NULL) {
        return;
    }
    pthread_mutex_lock(&recovery->lock);
    contest_fitting_locked(recovery, mask);
    pthread_mutex_unlock(&recovery->lock);
}

static void bar_locked(struct pln_recovery *recovery) {
    recovery->bar = latest(recovery);
}

void pln_recovery_heard_clear(struct pln_recovery *recovery) {
    if (recovery != NULL) {
        pthread_mutex_lock(&recovery->lock);
        bar_locked(recovery);
        pthread_mutex_unlock(&recovery->lock);
    }
}

void pln_recovery_down(struct pln_recovery *recovery) {
    if (recovery != NULL) {
        pthread_mutex_lock(&recovery->lock);
        recovery->is_linked = false;
        pthread_mutex_unlock(&recovery->lock);
    }
}

void pln_recovery_up(struct pln_recovery *recovery, bool is_repaired) {
    if (recovery == NULL) {
        return;
    }
    pthread_mutex_lock(&recovery->lock);
    recovery->is_linked = true;
    if (!is_repaired) {
        bar_locked(recovery);
    }
    if (recovery->due != PLN_FOREVER) {
        recovery->pause = PLN_FIRST_PAUSE_MS;
        recovery->due = pln_deadline((pln_ms) (pln_random64() % RETURN_MS));
    }
    pthread_mutex_unlock(&recovery->lock);
}

/* ---- life ---- */

int pln_recovery_new(struct pln_cache *cache, size_t most, size_t most_bytes,
                     struct pln_recovery **recovery) {
    struct pln_recovery *created = calloc(1, sizeof *created);
    if (created == NULL) {
        return pln_fail(PLN_ENOMEM, "open: no memory for what is kept while Redis is away");
    }
    created->cache = cache;
    created->most = most;
    created->most_bytes = most_bytes;
    created->due = PLN_FOREVER;
    pthread_mutex_init(&created->lock, NULL);
    pthread_cond_init(&created->changed, NULL);
    *recovery = created;
    return PLN_OK;
}

void pln_recovery_free(struct pln_recovery *recovery) {
    if (recovery == NULL) {
        return;
    }
    assert(recovery->under_way == NULL);
    drop_older_locked(recovery, UINT64_MAX);
    pthread_cond_destroy(&recovery->changed);
    pthread_mutex_destroy(&recovery->lock);
    free(recovery);
}

/* ---- around a fork ---- */

void pln_recovery_freeze(struct pln_recovery *recovery) {
    if (recovery != NULL) {
        pthread_mutex_lock(&recovery->lock);
    }
}

void pln_recovery_thaw(struct pln_recovery *recovery, bool is_child) {
    if (recovery == NULL) {
        return;
    }
    if (is_child) { /* what waits is the parent's affair; its memory is lost */
        recovery->is_busy = recovery->is_ending = false;
        recovery->backlog = (struct pln_backlog){0};
        recovery->under_way = NULL;
        recovery->clear = 0;
        pln_recovery_count_locked(recovery);
        pthread_cond_init(&recovery->changed, NULL);
    }
    pthread_mutex_unlock(&recovery->lock);
}
