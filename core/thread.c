/* SPDX-License-Identifier: MIT
 *
 * thread.c - see thread.h. Policies are read and run in such threads, and Lua nests up to 200 calls
 * in C, of 1 to 3 kB each.
 */
#include "thread.h"

#include "base/base.h"

#include <signal.h>
#include <string.h>

enum { LEAST_STACK = 1 << 20 };

/* The system's size of a stack where that is enough, as it is but for small limits and libraries
 * that begin with 128 kB. */
static void choose_stack(pthread_attr_t *attributes) {
    size_t size = 0;
    pthread_attr_init(attributes);
    pthread_attr_getstacksize(attributes, &size);
    if (size < LEAST_STACK) {
        pthread_attr_setstacksize(attributes, LEAST_STACK);
    }
}

int pln_thread_start(pthread_t *thread, void *(*run)(void *), void *arg) {
    sigset_t all, before;
    pthread_attr_t attributes;
    choose_stack(&attributes);
    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, &before);
    int error = pthread_create(thread, &attributes, run, arg);
    pthread_sigmask(SIG_SETMASK, &before, NULL);
    pthread_attr_destroy(&attributes);
    return error == 0 ? PLN_OK
                      : pln_fail(PLN_ESYSTEM, "the system starts no thread: %s", strerror(error));
}
