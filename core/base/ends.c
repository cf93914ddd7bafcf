/* SPDX-License-Identifier: MIT
 *
 * ends.c - see ends.h. Parts are known by their owner's number, not its address: another owner may
 * come to be where one has gone.
 */
#include "ends.h"

#include <pthread.h>

/* A part that a thread has: in a list of the thread's own. */
struct held {
    struct held *next;
    uint64_t owner;
    void *part;
};

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER; /* over these two */
static struct pln_ends *live;
static uint64_t last_id;

static pthread_key_t key;
static bool has_key;

static struct pln_ends *find_locked(uint64_t id) {
    struct pln_ends *ends = live;
    while (ends != NULL && ends->id != id) {
        ends = ends->next;
    }
    return ends;
}

static void end_thread(void *arg) {
    struct held *next;
    for (struct held *held = arg; held != NULL; held = next) {
        next = held->next;
        pthread_mutex_lock(&lock);
        struct pln_ends *owner = find_locked(held->owner);
        if (owner != NULL) {
            owner->give_back(owner, held->part);
        }
        pthread_mutex_unlock(&lock);
        free(held);
    }
}

static void make_key(void) {
    has_key = pthread_key_create(&key, end_thread) == 0;
}

int pln_ends_open(struct pln_ends *ends, void (*give_back)(struct pln_ends *ends, void *part)) {
    static pthread_once_t once = PTHREAD_ONCE_INIT;
    pthread_once(&once, make_key);
    if (!has_key) {
        return pln_fail(PLN_ESYSTEM, "the process has no thread-specific keys left");
    }
    pthread_mutex_lock(&lock);
    *ends = (struct pln_ends){.give_back = give_back, .id = ++last_id, .next = live};
    live = ends;
    pthread_mutex_unlock(&lock);
    return PLN_OK;
}

void pln_ends_close(struct pln_ends *ends) {
    pthread_mutex_lock(&lock);
    struct pln_ends **at = &live;
    while (*at != NULL && *at != ends) {
        at = &(*at)->next;
    }
    if (*at != NULL) {
        *at = ends->next;
    }
    pthread_mutex_unlock(&lock);
}

/* Forgets the parts of what is gone, which a thread that lives long would gather. */
static struct held *without_gone(struct held *first) {
    struct held **at = &first;
    pthread_mutex_lock(&lock);
    while (*at != NULL) {
        struct held *held = *at;
        if (find_locked(held->owner) == NULL) {
            *at = held->next;
            free(held);
        } else {
            at = &held->next;
        }
    }
    pthread_mutex_unlock(&lock);
    return first;
}

bool pln_ends_note(struct pln_ends *ends, void *part) {
    struct held *held = malloc(sizeof *held);
    if (held == NULL) {
        return false;
    }
    struct held *others = without_gone(pthread_getspecific(key));
    *held = (struct held){.next = others, .owner = ends->id, .part = part};
    if (pthread_setspecific(key, held) != 0) { /* only a thread's first can fail */
        free(held);
        return false;
    }
    return true;
}

void pln_ends_forget(struct pln_ends *ends, void *part) {
    struct held *first = pthread_getspecific(key), **at = &first;
    while (*at != NULL && ((*at)->owner != ends->id || (*at)->part != part)) {
        at = &(*at)->next;
    }
    if (*at != NULL) {
        struct held *held = *at;
        *at = held->next;
        free(held);
        pthread_setspecific(key, first);
    }
}

void pln_ends_freeze(void) {
    pthread_mutex_lock(&lock);
}

void pln_ends_thaw(void) {
    pthread_mutex_unlock(&lock);
}
