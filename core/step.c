/* SPDX-License-Identifier: MIT
 *
 * step.c - the engine's work, done by its callers where the system starts no threads for it.
 *
 * It is done in pieces: a job, or what is done once a second, each as a worker would, or a turn
 * at the queue of writes. What is
 * urgent was done by the call that wanted it (worker.c); here is what runs behind. A call that had
 * to leave L1 does a piece at its end, a hit never does.
 *
 * There is no link in this mode. It could be looked at now and then; but between two looks L1 would
 * take for current what a message that lies unread has ended. As things are L1 takes the link for
 * lost, and keeps its word on that (life.c).
 */
#include "own.h"

#include "store.h"

pln_ms pln_step(struct pln_cache *cache, pln_ms max_ms) {
    pln_ns until = pln_deadline(max_ms > 0 ? max_ms : 0), again_at;
    bool has_worked;
    pln_wake(cache);
    if (!pln_workers_are_callers(cache->workers)) {
        return PLN_FOREVER;
    }
    do {
        again_at = pln_workers_keep_house(cache->workers);
        has_worked = pln_workers_work(cache->workers);
        pln_ns turn_at = pln_drain_step(cache->drain);
        has_worked = has_worked || turn_at == 0;
        again_at = turn_at < again_at ? turn_at : again_at;
    } while (has_worked && pln_clock_precise() < until);
    pln_ns left = again_at - pln_clock_precise();
    if (pln_workers_depth(cache->workers) > 0 || left <= 0) {
        return 0;
    }
    return again_at == PLN_FOREVER ? PLN_FOREVER : left / 1000000 + 1;
}

void pln_step_a_little(struct pln_cache *cache, bool has_time) {
    /* not amid a load, on which others may be waiting */
    if (pln_workers_are_callers(cache->workers) && cache->stand_in == NULL &&
        *pln_own(PLN_OWN_LOAD) == NULL && *pln_own(PLN_OWN_WORKER) == NULL) {
        pln_workers_keep_house(cache->workers);
        if (has_time) {
            pln_workers_work(cache->workers);
            pln_drain_step(cache->drain);
        }
    }
}
