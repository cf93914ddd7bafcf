/* SPDX-License-Identifier: MIT
 *
 * thread.h - how the threads of a cache begin.
 */
#ifndef PLN_THREAD_H
#define PLN_THREAD_H

#include <pthread.h>

/* Starts one with all signals blocked (the host's handlers run in the host's threads), and with a
 * stack that policies can do with. Returns: PLN_OK; PLN_ESYSTEM. */
int pln_thread_start(pthread_t *thread, void *(*run)(void *), void *arg);

#endif
