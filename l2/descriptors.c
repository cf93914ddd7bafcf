/* SPDX-License-Identifier: MIT
 *
 * descriptors.c - which descriptors of the process are ours, for the day on which it forks.
 *
 * A child has a copy of each of its parent's connections. It may not say a word on them: a farewell
 * of TLS would end the parent's session. And it may not keep them: a server sees the end of a
 * connection only when the last copy of it is closed. Its threads were in the midst of anything, so
 * the structures that the descriptors stand in tell nothing; hence this set, which knows of each
 * from the call that opens it on. It belongs to the process as descriptors do: the lock and the set
 * are global, beside those of core/fork.c.
 */
#include "descriptors.h"

#include "l2.h"

#include <errno.h>
#include <pthread.h>
#include <sys/eventfd.h>
#include <sys/socket.h>
#include <unistd.h>

enum { BITS = 64 };

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER; /* over both, and held across a fork: */
static uint64_t *bits;                                   /* one for each descriptor */
static size_t n_words;

/* Where there is no memory to remember a descriptor by there is none. */
static int note_locked(int fd) {
    size_t word = (size_t) fd / BITS;
    if (word >= n_words) {
        uint64_t *more = realloc(bits, (word + 1) * sizeof *bits);
        if (more == NULL) {
            close(fd);
            errno = ENOMEM;
            return -1;
        }
        memset(more + n_words, 0, (word + 1 - n_words) * sizeof *bits);
        bits = more;
        n_words = word + 1;
    }
    bits[word] |= UINT64_C(1) << fd % BITS;
    return fd;
}

int pln_descriptor_socket(int family) {
    pthread_mutex_lock(&lock);
    int fd = socket(family, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    fd = fd < 0 ? fd : note_locked(fd);
    pthread_mutex_unlock(&lock);
    return fd;
}

int pln_descriptor_event(void) {
    pthread_mutex_lock(&lock);
    int fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    fd = fd < 0 ? fd : note_locked(fd);
    pthread_mutex_unlock(&lock);
    return fd;
}

void pln_descriptor_close(int fd) {
    if (fd >= 0) {
        pthread_mutex_lock(&lock);
        if ((size_t) fd / BITS < n_words) { /* else it was opened elsewhere: by a test */
            bits[(size_t) fd / BITS] &= ~(UINT64_C(1) << fd % BITS);
        }
        close(fd);
        pthread_mutex_unlock(&lock);
    }
}

/* ---- around a fork ---- */

void pln_l2_freeze(void) {
    pthread_mutex_lock(&lock);
}

void pln_l2_thaw(bool is_child) {
    for (size_t i = 0; is_child && i < n_words; i++) {
        for (; bits[i] != 0; bits[i] &= bits[i] - 1) {
            close((int) (i * BITS) + __builtin_ctzll(bits[i]));
        }
    }
    pthread_mutex_unlock(&lock);
}
