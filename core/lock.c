/* SPDX-License-Identifier: MIT
 *
 * lock.c - locks as programs see them: taken at once or after waiting, prolonged, given back.
 *
 * Who waits asks again after pauses that double from an eighth of `retry` up to it, each shortened
 * at random by up to a half, so that those who wait for one lock do not ask in step; and no later
 * than when the holder's time is over. So a lock that was given back is taken by one of those who
 * wait after a quarter of `retry` or so, `retry` at most; there is no queue, and no order in it.
 */
#include "named.h"

#include <errno.h>
#include <stdio.h>
#include <unistd.h>

#define LONGEST_TTL ((pln_ms) 365 * 24 * 3600 * 1000)

enum {
    TTL = 10000,
    SHORTEST_TTL = 5, /* of which asking and the clocks' difference leave something */
    RETRY = 100,
    FIRST_PAUSE_SHARE = 8,
};

static int check_ttl(pln_ms ttl) {
    return ttl >= SHORTEST_TTL && ttl <= LONGEST_TTL
               ? PLN_OK
               : pln_fail(PLN_EINVAL, "ttl: %lld ms, must be %d ms to 365 days", (long long) ttl,
                          SHORTEST_TTL);
}

static int name_it(struct pln_lock *lock, struct pln_bytes name) {
    /* what stands between braces says to which server of a cluster both names go; a name that
     * begins with a closing one would leave nothing between them */
    if (name.len > 0 && name.data != NULL && *(const char *) name.data == '}') {
        return pln_fail(PLN_EINVAL, "name: must not begin with '}'");
    }
    int status = pln_named_make(lock->cache, ":k:{", name, "}", &lock->name);
    return status == PLN_OK ? pln_named_make(lock->cache, ":k:{", name, "}:f", &lock->fence_name)
                            : status;
}

/* ---- waiting ---- */

static void sleep_until(pln_ns time) {
    struct timespec until = pln_timespec(time);
    while (clock_nanosleep(CLOCK_MONOTONIC, TIMER_ABSTIME, &until, NULL) == EINTR) {
    }
}

/* Half of the pause to all of it. */
static pln_ns jittered(pln_ns pause) {
    return pause - (pln_ns) (pln_random64() % (uint64_t) (pause / 2 + 1));
}

static pln_ms retry_of(const struct pln_lock_options *options) {
    return options != NULL && options->retry_ms > 0 ? options->retry_ms : RETRY;
}

struct pln_lock_tries pln_lock_tries_of(const struct pln_lock_options *options) {
    pln_ns longest = retry_of(options) * 1000000;
    return (struct pln_lock_tries){
        .deadline = pln_deadline(options != NULL ? options->wait_ms : 0),
        .longest = longest,
        .pause = longest / FIRST_PAUSE_SHARE,
    };
}

bool pln_lock_tries_again(struct pln_lock_tries *tries, int status, pln_ms left, pln_ns *when) {
    pln_ns now = pln_clock_precise();
    if (status != PLN_PENDING || now >= tries->deadline) {
        return false;
    }
    pln_ns wake = now + jittered(tries->pause);
    if (left < tries->longest / 1000000 && now + (left + 1) * 1000000 < wake) {
        wake = now + (left + 1) * 1000000;
    }
    *when = wake < tries->deadline ? wake : tries->deadline;
    tries->pause = tries->pause * 2 < tries->longest ? tries->pause * 2 : tries->longest;
    return true;
}

/* ---- for programs ---- */

int pln_lock_make(struct pln_cache *cache, struct pln_bytes name,
                  const struct pln_lock_options *options, struct pln_lock **lock) {
    static const struct pln_lock_options defaults;
    options = options != NULL ? options : &defaults;
    struct pln_lock *made = calloc(1, sizeof *made);
    if (made == NULL) {
        return pln_fail(PLN_ENOMEM, "lock: no memory");
    }
    made->cache = cache;
    made->owner = getpid();
    made->nodes = options->nodes;
    if (made->nodes != NULL) {
        pln_lock_nodes_keep(made->nodes);
    }
    atomic_init(&made->refs, 1);
    pln_lock_set(made, options->ttl_ms != 0 ? options->ttl_ms : TTL, 0);
    snprintf(made->token, sizeof made->token, "%016llx%016llx", (unsigned long long) pln_random64(),
             (unsigned long long) pln_random64());
    int status = check_ttl(pln_lock_ttl(made));
    if (status == PLN_OK && (options->wait_ms < 0 || retry_of(options) > LONGEST_TTL)) {
        status = pln_fail(PLN_EINVAL, "lock: wait and retry must be durations, of a year at most");
    }
    if (status == PLN_OK) {
        status = name_it(made, name);
    }
    if (status < 0) {
        pln_lock_free(made);
        return status;
    }
    *lock = made;
    return PLN_OK;
}

int pln_lock(struct pln_cache *cache, struct pln_bytes name, const struct pln_lock_options *options,
             pln_ms *held_ms, struct pln_lock **lock) {
    struct pln_lock *made;
    pln_ms left = 0;
    pln_ns when;
    int status = pln_lock_make(cache, name, options, &made);
    if (status < 0) {
        return status;
    }
    struct pln_lock_tries tries = pln_lock_tries_of(options);
    while (status = pln_lock_grant(made, &left),
           pln_lock_tries_again(&tries, status, left, &when)) {
        sleep_until(when);
    }
    if (status == PLN_OK) {
        *lock = made;
        return PLN_OK;
    }
    if (status == PLN_PENDING && held_ms != NULL) {
        *held_ms = left;
    }
    pln_lock_free(made);
    return status;
}

int pln_lock_extend(struct pln_lock *lock, pln_ms ttl_ms) {
    pln_ms ttl = ttl_ms != 0 ? ttl_ms : pln_lock_ttl(lock);
    int status = check_ttl(ttl);
    return status == PLN_OK ? pln_lock_prolong(lock, ttl) : status;
}

int pln_unlock(struct pln_lock *lock) {
    if (lock == NULL) {
        return pln_fail(PLN_EINVAL, "unlock: no lock");
    }
    int status = pln_lock_give_back(lock);
    pln_lock_free(lock);
    return status;
}

void pln_lock_keep(struct pln_lock *lock) {
    /* relaxed: who keeps it has it, so it stays */
    atomic_fetch_add_explicit(&lock->refs, 1, memory_order_relaxed);
}

void pln_lock_free(struct pln_lock *lock) {
    /* K1 release and K1 acquire: what others did with it comes before its free() */
    if (lock != NULL && atomic_fetch_sub_explicit(&lock->refs, 1, memory_order_acq_rel) == 1) {
        pln_lock_nodes_free(lock->nodes);
        free(lock);
    }
}

int64_t pln_lock_fence(const struct pln_lock *lock) {
    return lock->fence;
}

pln_ms pln_lock_left(const struct pln_lock *lock) {
    pln_ns now = pln_lock_clock(), until = pln_lock_until(lock);
    return now < until ? (until - now) / 1000000 : 0;
}
