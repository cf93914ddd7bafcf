/* SPDX-License-Identifier: MIT
 *
 * thread.h - private to this folder: what its threads of its own have in common. Signals belong to
 * the host's threads, so ours take none; and they are woken by a descriptor, or told by flags.
 */
#ifndef PLN_L2_THREAD_H
#define PLN_L2_THREAD_H

#include "l2.h"

#include <pthread.h>
#include <signal.h>
#include <unistd.h>

static inline bool pln_flag_is_set(atomic_bool *flag) {
    return atomic_load_explicit(flag, memory_order_relaxed); /* relaxed: a flag by itself */
}

static inline void pln_flag_set(atomic_bool *flag, bool value) {
    atomic_store_explicit(flag, value, memory_order_relaxed); /* relaxed: a flag by itself */
}

/* Wakes who sleeps on an eventfd; why stands elsewhere, and was written before. */
static inline void pln_wake(int fd) {
    uint64_t one = 1;
    ssize_t n = write(fd, &one, sizeof one);
    (void) n; /* a counter that is full wakes as well */
}

/* Makes an eventfd that has woken somebody ready for the next time. */
static inline void pln_was_woken(int fd) {
    uint64_t count;
    ssize_t n = read(fd, &count, sizeof count);
    (void) n;
}

/* Returns: PLN_OK; PLN_ESYSTEM, with what the thread is for in the text. */
static inline int pln_thread_start(pthread_t *thread, void *(*run)(void *), void *arg,
                                   const char *what) {
    sigset_t all, before;
    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, &before);
    int error = pthread_create(thread, NULL, run, arg);
    pthread_sigmask(SIG_SETMASK, &before, NULL);
    return error == 0 ? PLN_OK
                      : pln_fail(PLN_ESYSTEM, "l2: no thread for %s: %s", what, strerror(error));
}

#endif
