/* SPDX-License-Identifier: MIT
 *
 * fork.c - what a child does after fork(): L1 goes on, in every cache that was open.
 *
 * The caches of the process stand in a list, because fork() tells nobody else, and so do its
 * servers in memory, which are found by name; the one thing here that is global. It and the locks
 * of each cache are held across the fork, so that the child finds what they guard whole. Threads do
 * not come along, nor are connections of use to two: in the child L2 is down for good, what L1
 * holds of it counts as with a lost link, and what a policy's functions would have to do is
 * refused. Loaders of the caller's own run as ever.
 */
#include "feeder.h"
#include "flight.h"
#include "heard.h"
#include "reload.h"
#include "warm.h"
#include "shadow.h"
#include "write.h"

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER; /* over both: */
static struct pln_cache *caches;
static struct pln_memory *memories;

static void before(void) {
    pthread_mutex_lock(&lock);
    for (struct pln_cache *cache = caches; cache != NULL; cache = cache->next) {
        /* first: it looks at the policy with its lock held, and ends threads that tell a shadow */
        pln_feeders_freeze(cache->feeders);
    }
    for (struct pln_cache *cache = caches; cache != NULL; cache = cache->next) {
        pln_shadow_freeze(cache); /* of all caches: one's shadow is another's user */
    }
    for (struct pln_cache *cache = caches; cache != NULL; cache = cache->next) {
        pln_reloads_freeze(cache->reloads);
        pln_readiness_freeze(cache->readiness);
        pthread_mutex_lock(&cache->policy_lock);
        pln_flights_freeze(cache->flights);
        pln_workers_freeze(cache->workers);
        pln_swaps_freeze(cache->swaps);
        pln_heard_freeze(cache->heard);
        pln_inval_freeze(cache->inval);
        pln_recovery_freeze(cache->recovery);
    }
    for (struct pln_memory *memory = memories; memory != NULL; memory = memory->next) {
        pln_l2_mem_freeze(memory->server);
    }
}

static void after(bool is_child) {
    for (struct pln_memory *memory = memories; memory != NULL; memory = memory->next) {
        pln_l2_mem_thaw(memory->server, is_child);
    }
    for (struct pln_cache *cache = caches; cache != NULL; cache = cache->next) {
        pln_recovery_thaw(cache->recovery, is_child);
        pln_inval_thaw(cache->inval);
        pln_heard_thaw(cache->heard);
        pln_swaps_thaw(cache->swaps);
        pln_workers_thaw(cache->workers, is_child);
        pln_flights_thaw(cache->flights, is_child);
        pthread_mutex_unlock(&cache->policy_lock);
        pln_reloads_thaw(cache->reloads, is_child);
        pln_readiness_thaw(cache->readiness, is_child);
    }
    for (struct pln_cache *cache = caches; cache != NULL; cache = cache->next) {
        pln_shadow_thaw(cache, is_child);
    }
    for (struct pln_cache *cache = caches; cache != NULL; cache = cache->next) {
        pln_feeders_thaw(cache->feeders, is_child);
    }
    pthread_mutex_unlock(&lock);
}

static void after_in_parent(void) {
    after(false);
}

static void after_in_child(void) {
    after(true);
    for (struct pln_cache *cache = caches; cache != NULL; cache = cache->next) {
        pln_l1_after_fork(cache->l1);
        if (cache->has_l2) {
            cache->l2 = pln_l2_gone();
            pln_inval_down(cache->inval);
        }
    }
}

static void watch(void) {
    pthread_atfork(before, after_in_parent, after_in_child);
}

static void lock_and_watch(void) {
    static pthread_once_t once = PTHREAD_ONCE_INIT;
    pthread_once(&once, watch);
    pthread_mutex_lock(&lock);
}

struct pln_memory **pln_fork_lock_memories(void) {
    lock_and_watch();
    return &memories;
}

void pln_fork_unlock(void) {
    pthread_mutex_unlock(&lock);
}

void pln_fork_remember(struct pln_cache *cache) {
    lock_and_watch();
    cache->next = caches;
    caches = cache;
    pthread_mutex_unlock(&lock);
}

void pln_fork_forget(struct pln_cache *cache) {
    pthread_mutex_lock(&lock);
    struct pln_cache **at = &caches;
    while (*at != NULL && *at != cache) {
        at = &(*at)->next;
    }
    if (*at != NULL) { /* one that failed to open never came here */
        *at = cache->next;
    }
    pthread_mutex_unlock(&lock);
}

size_t pln_fork_count(bool (*holds)(struct pln_cache *cache)) {
    size_t n = 0;
    lock_and_watch();
    for (struct pln_cache *cache = caches; cache != NULL; cache = cache->next) {
        n += holds(cache);
    }
    pthread_mutex_unlock(&lock);
    return n;
}
