/* SPDX-License-Identifier: MIT
 *
 * hangup.c - SIGHUP in a program that `perilune run` runs: the policies of all its caches are read
 * again. Where none of them has one it ends the program, as it ever did.
 *
 * The handler may do next to nothing, so it wakes a thread. A program that was started to ignore
 * the signal (nohup) goes on ignoring it; one that is forked from a script is not ours, and dies of
 * it.
 */
#include <errno.h>
#include <pthread.h>
#include <semaphore.h>
#include <signal.h>
#include <unistd.h>

#include "../core/perilune.h"
#include "program.h"

/* A signal's handler can be told in no other way. */
static sem_t hangups;
static pid_t our_pid;

static void end_by_hangup(void) {
    signal(SIGHUP, SIG_DFL);
    kill(getpid(), SIGHUP);
}

static void note_hangup(int signal_number) {
    int before = errno;
    (void) signal_number;
    if (getpid() == our_pid) {
        sem_post(&hangups);
    } else {
        end_by_hangup();
    }
    errno = before;
}

static void *obey(void *arg) {
    (void) arg;
    for (;;) {
        if (sem_wait(&hangups) == 0 && pln_reload_policies() == 0) {
            end_by_hangup();
        }
    }
    return NULL;
}

void pln_program_obey_hangups(void) {
    struct sigaction now, then = {.sa_handler = note_hangup, .sa_flags = SA_RESTART};
    sigset_t all, before;
    pthread_t thread;
    if (sigaction(SIGHUP, NULL, &now) != 0 || now.sa_handler != SIG_DFL ||
        sem_init(&hangups, 0, 0) != 0) {
        return;
    }
    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, &before); /* signals are for the thread that runs Lua */
    bool has_thread = pthread_create(&thread, NULL, obey, NULL) == 0;
    pthread_sigmask(SIG_SETMASK, &before, NULL);
    if (has_thread) {
        pthread_detach(thread);
        our_pid = getpid();
        sigemptyset(&then.sa_mask);
        sigaction(SIGHUP, &then, NULL);
    }
}
