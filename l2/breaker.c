/* SPDX-License-Identifier: MIT
 *
 * breaker.c - keeps callers from waiting for a node that is away, or that answers too late to be of
 * use.
 *
 * It opens when a connection is refused; after five failures in a row; and when half or more of the
 * commands of the last ten seconds were not answered in time, if there were twenty. While it is
 * open all fail at once, but one that tries, at growing and random intervals.
 *
 * What closes it is any answer that came in time. Opened for a share of late ones it hears none
 * before the first try: others of the commands under way would close it at once.
 *
 * A server that is well costs one relaxed load for each look: seconds are counted from late
 * commands on, and answers by those who hand them out, each line for itself.
 */
#include "internal.h"

#include <stdio.h>

enum {
    FAILURES_TO_OPEN = 5,
    LEAST_COMMANDS = 20, /* to speak of a share */
    REASON = sizeof((struct pln_breaker *) NULL)->reason,
};

static const pln_ns first_backoff = 20 * 1000000LL;
static const pln_ns last_backoff = 2000 * 1000000LL;
static const pln_ns one_second = 1000 * 1000000LL;
/* Who was closed for so long begins anew with the shortest backoff. */
static const pln_ns good_life = 1000 * 1000000LL;
/* The breaker and the link have a pair of lines each: one line a second in all. */
static const pln_ns hush_time = 4000 * 1000000LL;

pln_ns pln_backoff_next(pln_ns *backoff) {
    pln_ns longest = *backoff < first_backoff ? first_backoff : *backoff;
    *backoff = longest * 2 < last_backoff ? longest * 2 : last_backoff;
    /* a random half of it, so that the clients of a server that restarts do not come as one */
    return longest / 2 + (pln_ns) (pln_random64() % (uint64_t) (longest / 2));
}

/* ---- what is told ---- */

bool pln_hush_down(struct pln_hush *hush, unsigned *n_left_out) {
    pln_ns now = pln_clock_precise();
    if (hush->is_told || now < hush->quiet_until) {
        hush->is_owed = !hush->is_told;
        return false;
    }
    *n_left_out = hush->n_left_out;
    *hush = (struct pln_hush){.is_told = true, .quiet_until = now + hush_time};
    return true;
}

bool pln_hush_up(struct pln_hush *hush) {
    bool was_told = hush->is_told;
    hush->n_left_out += hush->is_owed;
    hush->is_told = hush->is_owed = false;
    return was_told;
}

static void tell_open(struct pln_breaker *breaker, const char *reason, unsigned n_left_out) {
    char more[64] = "";
    if (n_left_out > 0) {
        snprintf(more, sizeof more, " (%u more times went untold)", n_left_out);
    }
    pln_logf(breaker->host, PLN_LOG_WARN, "%s; commands fail at once until it answers%s", reason,
             more);
}

static void tell_closed(struct pln_breaker *breaker, const char *label) {
    /* who was warned is told of the end */
    pln_logf(breaker->host, PLN_LOG_WARN, "l2: redis at %s answers again", label);
}

/* ---- the share of late ones ---- */

/* The second that is now, emptied if it was another's. */
static struct pln_breaker_second *second_locked(struct pln_breaker *breaker, pln_ns now,
                                                uint64_t n_answered) {
    pln_ns begin = now - now % one_second;
    struct pln_breaker_second *second =
        &breaker->seconds[(size_t) (now / one_second) % PLN_BREAKER_SECONDS];
    if (second->begin != begin) {
        *second = (struct pln_breaker_second){.begin = begin, .n_answered = n_answered};
    }
    return second;
}

/* Counts late commands. Returns whether they are too many of all since the first of them, and says
 * so in `text`. */
static bool note_late_locked(struct pln_breaker *breaker, const struct pln_turn_end *end,
                             const char *label, char text[REASON]) {
    pln_ns now = pln_clock_precise();
    uint64_t answered_before = end->n_answered, late = 0;
    second_locked(breaker, now, end->n_answered)->n_late += end->n_late;
    for (size_t i = 0; i < PLN_BREAKER_SECONDS; i++) {
        const struct pln_breaker_second *second = &breaker->seconds[i];
        if (second->n_late > 0 && now - second->begin < PLN_BREAKER_SECONDS * one_second) {
            late += second->n_late;
            answered_before = second->n_answered < answered_before ? second->n_answered
                                                                   : answered_before;
        }
    }
    uint64_t all = late + (end->n_answered - answered_before);
    if (all < LEAST_COMMANDS || late * 2 < all) {
        return false;
    }
    snprintf(text, REASON, "l2: redis at %s: %llu of the last %llu commands not answered in time",
             label, (unsigned long long) late, (unsigned long long) all);
    return true;
}

/* ---- open and closed ---- */

static void store_open(struct pln_breaker *breaker, bool is_open) {
    /* relaxed: a flag by itself */
    atomic_store_explicit(&breaker->is_open, is_open, memory_order_relaxed);
}

/* Whether nobody need wait; where somebody tries already, others do not. */
static int admit_locked(struct pln_breaker *breaker, pln_ns now) {
    pln_ns left = breaker->retry_at - now;
    if (!pln_breaker_is_open(breaker) || (left <= 0 && breaker->probe == 0)) {
        return PLN_OK;
    }
    if (left <= 0) {
        return pln_fail(PLN_EL2DOWN, "%s; being tried at this moment", breaker->reason);
    }
    return pln_fail(PLN_EL2DOWN, "%s; not tried again before %lld ms from now", breaker->reason,
                    (long long) (left / 1000000 + 1));
}

/* Returns whether this closes it, and is to be told. */
static bool close_locked(struct pln_breaker *breaker) {
    if (!pln_breaker_is_open(breaker)) {
        return false;
    }
    store_open(breaker, false);
    breaker->probe = 0; /* whose outcome decides nothing any more */
    breaker->closed_at = pln_clock_precise();
    memset(breaker->seconds, 0, sizeof breaker->seconds);
    return pln_hush_up(&breaker->hush);
}

static void forget_failures_locked(struct pln_breaker *breaker) {
    /* relaxed: a number by itself */
    atomic_store_explicit(&breaker->n_failures, 0, memory_order_relaxed);
}

/* Waits for the next try. */
static void shut_locked(struct pln_breaker *breaker, pln_ns now, const char *reason) {
    store_open(breaker, true);
    breaker->retry_at = now + pln_backoff_next(&breaker->backoff);
    snprintf(breaker->reason, REASON, "%s", reason);
}

/* Returns whether the breaker is open, and that is to be told. */
static bool fail_locked(struct pln_breaker *breaker, const struct pln_turn_end *end, bool is_probe,
                        const char *label, unsigned *n_left_out) {
    char share[REASON];
    bool was_open = pln_breaker_is_open(breaker);
    /* relaxed: only changed under the lock */
    unsigned n = 1 + atomic_load_explicit(&breaker->n_failures, memory_order_relaxed);
    atomic_store_explicit(&breaker->n_failures, n, memory_order_relaxed); /* relaxed: likewise */
    bool is_plain = end->outcome == PLN_REFUSED || n >= FAILURES_TO_OPEN;
    bool is_share = !was_open && end->n_late > 0 && note_late_locked(breaker, end, label, share) &&
                    !is_plain;
    if (was_open ? !is_probe : !is_plain && !is_share) {
        return false;
    }
    pln_ns now = pln_clock_precise();
    if (!was_open && now - breaker->closed_at > good_life) {
        breaker->backoff = 0;
    }
    shut_locked(breaker, now, is_share ? share : pln_error_text());
    if (!was_open) {
        breaker->deaf_until = is_share ? breaker->retry_at : 0;
        pln_count(breaker->counts, PLN_COUNT_L2_BREAKS, 1);
    }
    return pln_hush_down(&breaker->hush, n_left_out);
}

/* ---- for others ---- */

int pln_breaker_admit(struct pln_breaker *breaker) {
    if (!pln_breaker_is_open(breaker)) {
        return PLN_OK;
    }
    pthread_mutex_lock(&breaker->lock);
    pln_ns now = pln_clock_precise();
    int result = admit_locked(breaker, now);
    if (result == PLN_OK && pln_breaker_is_open(breaker)) {
        /* it goes over a connection that another has: the next try is a while off all the same */
        breaker->retry_at = now + pln_backoff_next(&breaker->backoff);
    }
    pthread_mutex_unlock(&breaker->lock);
    return result;
}

int pln_breaker_look(struct pln_breaker *breaker) {
    if (!pln_breaker_is_open(breaker)) {
        return PLN_OK;
    }
    pthread_mutex_lock(&breaker->lock);
    int result = admit_locked(breaker, pln_clock_precise());
    pthread_mutex_unlock(&breaker->lock);
    return result;
}

int pln_breaker_claim(struct pln_breaker *breaker, uint32_t *probe) {
    *probe = 0;
    if (!pln_breaker_is_open(breaker)) {
        return PLN_OK;
    }
    pthread_mutex_lock(&breaker->lock);
    int result = admit_locked(breaker, pln_clock_precise());
    if (result == PLN_OK && pln_breaker_is_open(breaker)) {
        breaker->n_probes += breaker->n_probes == UINT32_MAX ? 2 : 1; /* no 0 */
        *probe = breaker->probe = breaker->n_probes;
    }
    pthread_mutex_unlock(&breaker->lock);
    return result;
}

void pln_breaker_praise(struct pln_breaker *breaker, const char *label) {
    /* relaxed: whether there is anything to do */
    if (atomic_load_explicit(&breaker->n_failures, memory_order_relaxed) == 0 &&
        !pln_breaker_is_open(breaker)) {
        return;
    }
    pthread_mutex_lock(&breaker->lock);
    bool is_told = false;
    forget_failures_locked(breaker);
    if (pln_breaker_is_open(breaker) && pln_clock_precise() >= breaker->deaf_until) {
        is_told = close_locked(breaker);
    }
    pthread_mutex_unlock(&breaker->lock);
    if (is_told) {
        tell_closed(breaker, label);
    }
}

void pln_breaker_end(struct pln_breaker *breaker, const struct pln_turn_end *end,
                     const char *label) {
    char reason[REASON];
    unsigned n_left_out = 0;
    bool tells_open = false, tells_closed = false;
    if (end->outcome == PLN_ANSWERED && end->probe == 0) {
        return; /* who was answered has praised it */
    }
    pthread_mutex_lock(&breaker->lock);
    bool is_probe = end->probe != 0 && end->probe == breaker->probe;
    breaker->probe = is_probe ? 0 : breaker->probe;
    if (end->outcome != PLN_ANSWERED) {
        tells_open = fail_locked(breaker, end, is_probe, label, &n_left_out);
        memcpy(reason, breaker->reason, REASON);
    } else if (is_probe) {
        forget_failures_locked(breaker);
        tells_closed = close_locked(breaker);
    }
    pthread_mutex_unlock(&breaker->lock);
    if (tells_open) {
        tell_open(breaker, reason, n_left_out);
    } else if (tells_closed) {
        tell_closed(breaker, label);
    }
}

void pln_breaker_init(struct pln_breaker *breaker) {
    pthread_mutex_init(&breaker->lock, NULL);
}

void pln_breaker_fini(struct pln_breaker *breaker) {
    pthread_mutex_destroy(&breaker->lock);
}
