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

static int try_until(struct pln_lock *lock, pln_ns deadline, pln_ms retry, pln_ms *left) {
    pln_ns longest = retry * 1000000, pause = longest / FIRST_PAUSE_SHARE;
    for (;;) {
        int status = pln_lock_grant(lock, left);
        pln_ns now = pln_clock_precise();
        if (status != PLN_PENDING || now >= deadline) {
            return status;
        }
        pln_ns wake = now + jittered(pause);
        if (*left < retry && now + (*left + 1) * 1000000 < wake) {
            wake = now + (*left + 1) * 1000000;
        }
        sleep_until(wake < deadline ? wake : deadline);
        pause = pause * 2 < longest ? pause * 2 : longest;
    }
}

/* ---- for programs ---- */

int pln_lock(struct pln_cache *cache, struct pln_bytes name, const struct pln_lock_options *options,
             pln_ms *held_ms, struct pln_lock **lock) {
    static const struct pln_lock_options defaults;
    options = options != NULL ? options : &defaults;
    pln_ms retry = options->retry_ms > 0 ? options->retry_ms : RETRY, left = 0;
    struct pln_lock *made = calloc(1, sizeof *made);
    if (made == NULL) {
        return pln_fail(PLN_ENOMEM, "lock: no memory");
    }
    made->cache = cache;
    made->owner = getpid();
    made->nodes = options->nodes;
    made->ttl = options->ttl_ms != 0 ? options->ttl_ms : TTL;
    snprintf(made->token, sizeof made->token, "%016llx%016llx", (unsigned long long) pln_random64(),
             (unsigned long long) pln_random64());
    int status = check_ttl(made->ttl);
    if (status == PLN_OK && (options->wait_ms < 0 || retry > LONGEST_TTL)) {
        status = pln_fail(PLN_EINVAL, "lock: wait and retry must be durations, of a year at most");
    }
    if (status == PLN_OK) {
        status = name_it(made, name);
    }
    if (status == PLN_OK) {
        status = try_until(made, pln_deadline(options->wait_ms), retry, &left);
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
    pln_ms ttl = ttl_ms != 0 ? ttl_ms : lock->ttl;
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

void pln_lock_free(struct pln_lock *lock) {
    free(lock);
}

int64_t pln_lock_fence(const struct pln_lock *lock) {
    return lock->fence;
}

pln_ms pln_lock_left(const struct pln_lock *lock) {
    pln_ns now = pln_lock_clock();
    return now < lock->until ? (lock->until - now) / 1000000 : 0;
}
