/* SPDX-License-Identifier: MIT
 *
 * lookup.c - the addresses of a name, before a deadline.
 *
 * The system's look-up can neither be given a deadline nor be ended, so it has a thread of its own,
 * and who waits for it no longer leaves it alone. It then holds nothing but what it works on, which
 * it frees itself. What follows:
 *
 * - The thread returns into this code, which must still be there: before it is left alone, the
 *   library is kept from being unloaded, for good.
 * - There is a bound on those that are left alone, since a name server that is away may keep each
 *   of them for half a minute. They belong to the process and not to a client, so they are counted
 *   for the process: the one variable here that is global. A forked child has none of them.
 * - Where the system starts no thread, the caller looks up itself, for as long as that takes.
 * - glibc's getaddrinfo_a() would need no thread of ours, but does not live through fork(): in a
 *   child whose parent has just used it, every look-up fails (tried with 2.36).
 */
#include "internal.h"
#include "stream.h"

#include <dlfcn.h>
#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <sys/socket.h>
#include <unistd.h>

enum { MOST_LEFT_ALONE = 32 };

struct lookup {
    char port[8];
    struct addrinfo *found; /* with error and system_error: the thread's, until it is done */
    int error;
    int system_error;
    pthread_mutex_t lock; /* guards what follows */
    pthread_cond_t ended;
    bool is_done, is_left_alone;
    char host[];
};

/* ---- how many are left alone ---- */

static _Atomic uint64_t left_alone; /* how many, and above that the process whose they are */

static uint64_t this_process(void) {
    return (uint64_t) getpid() << 32;
}

static uint64_t number_in(uint64_t count) {
    return count >> 32 == this_process() >> 32 ? count & UINT32_MAX : 0;
}

static void count_left_alone(bool is_more) {
    /* relaxed, here and below: a number by itself */
    uint64_t before = atomic_load_explicit(&left_alone, memory_order_relaxed);
    uint64_t n;
    do {
        n = number_in(before);
        n = is_more ? n + 1 : n - (n > 0);
        /* relaxed: as above */
    } while (!atomic_compare_exchange_weak_explicit(&left_alone, &before, this_process() | n,
                                                    memory_order_relaxed, memory_order_relaxed));
}

static bool are_too_many(void) {
    /* relaxed: as above */
    return number_in(atomic_load_explicit(&left_alone, memory_order_relaxed)) >= MOST_LEFT_ALONE;
}

/* ---- the thread ---- */

static void free_lookup(struct lookup *lookup) {
    if (lookup->found != NULL) {
        freeaddrinfo(lookup->found);
    }
    pthread_cond_destroy(&lookup->ended);
    pthread_mutex_destroy(&lookup->lock);
    free(lookup);
}

static int ask_system(const char *host, const char *port, int flags, struct addrinfo **found) {
    struct addrinfo hints = {.ai_flags = flags | AI_NUMERICSERV, .ai_socktype = SOCK_STREAM};
    return getaddrinfo(host, port, &hints, found);
}

static void *run(void *arg) {
    struct lookup *lookup = arg;
    lookup->error = ask_system(lookup->host, lookup->port, 0, &lookup->found);
    lookup->system_error = errno;
    pthread_mutex_lock(&lookup->lock);
    lookup->is_done = true;
    bool is_left_alone = lookup->is_left_alone;
    pthread_cond_signal(&lookup->ended);
    pthread_mutex_unlock(&lookup->lock);
    if (is_left_alone) {
        free_lookup(lookup);
        count_left_alone(false);
    }
    return NULL;
}

static int start(struct lookup *lookup, pthread_t *thread) {
    sigset_t all, before;
    sigfillset(&all);
    /* signals belong to the host's threads */
    pthread_sigmask(SIG_SETMASK, &all, &before);
    int error = pthread_create(thread, NULL, run, lookup);
    pthread_sigmask(SIG_SETMASK, &before, NULL);
    return error;
}

/* Keeps the library that this function is in where it is. */
static void pin_library(void) {
    Dl_info info;
    void *library = dladdr((void *) (uintptr_t) pin_library, &info) == 0
                        ? NULL
                        : dlopen(info.dli_fname, RTLD_LAZY | RTLD_NOLOAD | RTLD_NODELETE);
    if (library != NULL) {
        dlclose(library); /* it stays all the same */
    }
}

/* ---- callers ---- */

static int refuse(const char *host, const char *reason) {
    return pln_fail(PLN_EL2DOWN, "l2: no address for %s: %s", host, reason);
}

static int take(struct lookup *lookup, struct addrinfo **found) {
    int result = PLN_OK;
    if (lookup->error == 0) {
        *found = lookup->found;
        lookup->found = NULL;
    } else {
        result = refuse(lookup->host, lookup->error == EAI_SYSTEM ? strerror(lookup->system_error)
                                                                  : gai_strerror(lookup->error));
    }
    free_lookup(lookup);
    return result;
}

/* Waits for the thread. Returns false where it was left alone: then it owns the lookup. */
static bool await(struct lookup *lookup, pthread_t thread, pln_ns deadline) {
    struct timespec until = pln_timespec(deadline);
    int waited = 0;
    pthread_mutex_lock(&lookup->lock);
    while (!lookup->is_done && waited == 0) {
        waited = pthread_cond_clockwait(&lookup->ended, &lookup->lock, CLOCK_MONOTONIC, &until);
    }
    bool is_done = lookup->is_done;
    if (!is_done) {
        pin_library();
        count_left_alone(true);
        lookup->is_left_alone = true;
    }
    pthread_mutex_unlock(&lookup->lock);
    if (is_done) {
        pthread_join(thread, NULL); /* it has nothing left to do but to end */
    } else {
        pthread_detach(thread);
    }
    return is_done;
}

static int look_up(const char *host, const char *port, pln_ns deadline, struct addrinfo **found) {
    struct lookup *lookup = calloc(1, sizeof *lookup + strlen(host) + 1);
    pthread_t thread;
    if (lookup == NULL) {
        return pln_fail(PLN_ENOMEM, "l2: no memory to look up a name");
    }
    strcpy(lookup->host, host);
    strcpy(lookup->port, port);
    pthread_mutex_init(&lookup->lock, NULL);
    pthread_cond_init(&lookup->ended, NULL);
    int error = start(lookup, &thread);
    if (error != 0) { /* the system starts no threads: better late than never */
        lookup->error = ask_system(host, port, 0, &lookup->found);
        lookup->system_error = errno;
        return take(lookup, found);
    }
    if (!await(lookup, thread, deadline)) {
        return pln_fail(PLN_ETIMEOUT,
                        "l2: no address for %s: the name server did not answer before the deadline",
                        host);
    }
    return take(lookup, found);
}

int pln_lookup(const char *host, int port, pln_ns deadline, struct addrinfo **found) {
    char text[8];
    snprintf(text, sizeof text, "%d", port);
    if (ask_system(host, text, AI_NUMERICHOST, found) == 0) {
        return PLN_OK;
    }
    if (are_too_many()) {
        return refuse(host, "the name server owes us the answers to many earlier questions");
    }
    return look_up(host, text, deadline, found);
}
