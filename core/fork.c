/* SPDX-License-Identifier: MIT
 *
 * fork.c - what a child does after fork(): every cache that was open goes on, and is the child's
 * own.
 *
 * The caches of the process stand in a list, because fork() tells nobody else, and so do its
 * servers in memory, which are found by name; the one thing here that is global. It and the locks
 * of each cache are held across the fork, so that the child finds what they guard whole.
 *
 * Threads do not come along, and a connection is of no use to two. So the child finds each cache
 * asleep (wake.c): its parent's descriptors are closed without a word, what its threads were at is
 * left to it, and with the first need the child begins threads and connections of its own. What L1
 * holds counts as after a lost link (R6), and serves meanwhile as long as the terms allow. What the
 * parent's threads may have left half done outside of any lock is made anew: the scripts of a
 * policy, what is watched for alerts. Its memory is given up, some 100 kB a fork and cache.
 */
#include "alert.h"
#include "base/ends.h"
#include "feeder.h"
#include "flight.h"
#include "heard.h"
#include "reload.h"
#include "warm.h"
#include "shadow.h"
#include "store.h"

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER; /* over both: */
static struct pln_cache *caches;
static struct pln_memory *memories;

static void before(void) {
    pln_engines_freeze();
    pthread_mutex_lock(&lock);
    for (struct pln_cache *cache = caches; cache != NULL; cache = cache->next) {
        pln_start_freeze(cache->start); /* who begins a cache takes others of its locks */
    }
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
        pln_drain_freeze(cache->drain);
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
    pln_l2_freeze();   /* a connection may be opened under any lock */
    pln_ends_freeze(); /* the innermost: anywhere may a thread count for the first time */
}

static void after(bool is_child) {
    pln_ends_thaw();
    pln_l2_thaw(is_child);
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
        pln_drain_thaw(cache->drain, is_child);
        pln_readiness_thaw(cache->readiness, is_child);
    }
    for (struct pln_cache *cache = caches; cache != NULL; cache = cache->next) {
        pln_shadow_thaw(cache, is_child);
    }
    for (struct pln_cache *cache = caches; cache != NULL; cache = cache->next) {
        pln_feeders_thaw(cache->feeders, is_child);
    }
    for (struct pln_cache *cache = caches; cache != NULL; cache = cache->next) {
        pln_start_thaw(cache, is_child);
    }
    pthread_mutex_unlock(&lock);
    pln_engines_thaw(is_child);
}

static void after_in_parent(void) {
    after(false);
}

static void after_in_child(void) {
    after(true);
    pln_chance_anew();
    for (struct pln_cache *cache = caches; cache != NULL; cache = cache->next) {
        const struct pln_hooks *hooks = &cache->policy->hooks;
        pln_l1_after_fork(cache->l1);
        pln_alerts_after_fork(cache->alerts);
        pln_popular_after_fork(&cache->popular);
        if (hooks->after_fork != NULL) {
            hooks->after_fork(cache->policy->hooks_arg);
        }
        cache->n_forks++;
        if (cache->has_l2) {
            pln_inval_down(cache->inval);
            pln_recovery_down(cache->recovery);
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
