/* SPDX-License-Identifier: MIT
 *
 * fork.c - what a child does after fork(): L1 goes on, in every cache that was open.
 *
 * The caches of the process stand in a list, the one thing here that is global, because fork()
 * tells nobody else. It is locked across the fork, so that the child finds it whole. Threads and
 * connections do not come along into a child: what needs them (Redis, policies' loaders) is not
 * repaired here.
 */
#include "engine.h"

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER; /* over caches */
static struct pln_cache *caches;

static void before(void) {
    pthread_mutex_lock(&lock);
}

static void after_in_parent(void) {
    pthread_mutex_unlock(&lock);
}

static void after_in_child(void) {
    for (struct pln_cache *cache = caches; cache != NULL; cache = cache->next) {
        pln_l1_after_fork(cache->l1);
    }
    pthread_mutex_unlock(&lock);
}

static void watch(void) {
    pthread_atfork(before, after_in_parent, after_in_child);
}

void pln_fork_remember(struct pln_cache *cache) {
    static pthread_once_t once = PTHREAD_ONCE_INIT;
    pthread_once(&once, watch);
    pthread_mutex_lock(&lock);
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
