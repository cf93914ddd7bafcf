/* SPDX-License-Identifier: MIT
 *
 * threads.c - what the library asks of the system, answered by the simulation: the linker puts each
 * __wrap_x here in the place of x (tests/sim/meson.build has the list).
 *
 * A lock is the system's own, only tried: in one thread of the system a lock that is held is held
 * by another task. A condition is its address, that somebody waits for.
 */
#include "tasks.h"

#include <errno.h>
#include <pthread.h>

/* NOLINTBEGIN(bugprone-reserved-identifier): these names are the linker's */

int __real_pthread_mutex_trylock(pthread_mutex_t *mutex);
int __real_pthread_mutex_unlock(pthread_mutex_t *mutex);

pln_ns __wrap_pln_clock_precise(void);
uint64_t __wrap_pln_random64(void);
double __wrap_pln_chance(void);
const void **__wrap_pln_own(unsigned which);
int __wrap_clock_nanosleep(clockid_t clock, int flags, const struct timespec *at,
                           struct timespec *left);
int __wrap_pthread_create(pthread_t *thread, const pthread_attr_t *attributes, void *(*run)(void *),
                          void *arg);
int __wrap_pthread_join(pthread_t thread, void **result);
int __wrap_pthread_mutex_lock(pthread_mutex_t *mutex);
int __wrap_pthread_mutex_unlock(pthread_mutex_t *mutex);
int __wrap_pthread_cond_wait(pthread_cond_t *condition, pthread_mutex_t *mutex);
int __wrap_pthread_cond_timedwait(pthread_cond_t *condition, pthread_mutex_t *mutex,
                                  const struct timespec *at);
int __wrap_pthread_cond_clockwait(pthread_cond_t *condition, pthread_mutex_t *mutex,
                                  clockid_t clock, const struct timespec *at);
int __wrap_pthread_cond_signal(pthread_cond_t *condition);
int __wrap_pthread_cond_broadcast(pthread_cond_t *condition);
int __wrap_pthread_key_create(pthread_key_t *key, void (*end)(void *));
int __wrap_pthread_key_delete(pthread_key_t key);
void *__wrap_pthread_getspecific(pthread_key_t key);
int __wrap_pthread_setspecific(pthread_key_t key, const void *value);
void pln_point(const char *name);

/* ---- time and chance ---- */

pln_ns __wrap_pln_clock_precise(void) {
    sim_point();
    return sim_now();
}

uint64_t __wrap_pln_random64(void) {
    return sim_random();
}

double __wrap_pln_chance(void) {
    return (double) (__wrap_pln_random64() >> 11) * 0x1p-53;
}

const void **__wrap_pln_own(unsigned which) {
    return sim_own(which);
}

static pln_ns point_of(const struct timespec *at) {
    return (pln_ns) at->tv_sec * 1000000000 + at->tv_nsec;
}

int __wrap_clock_nanosleep(clockid_t clock, int flags, const struct timespec *at,
                           struct timespec *left) {
    (void) left;
    assert(clock == CLOCK_MONOTONIC && flags == TIMER_ABSTIME);
    sim_wait(NULL, point_of(at));
    return 0;
}

/* ---- threads ---- */

int __wrap_pthread_create(pthread_t *thread, const pthread_attr_t *attributes, void *(*run)(void *),
                          void *arg) {
    (void) attributes; /* the size of a stack, for a policy's functions: here there are none */
    struct sim_task *task = sim_start(run, arg);
    *thread = (pthread_t) task;
    return task == NULL ? EAGAIN : 0;
}

int __wrap_pthread_join(pthread_t thread, void **result) {
    assert(result == NULL);
    sim_join((struct sim_task *) thread); /* NOLINT(performance-no-int-to-ptr): as it was made */
    return 0;
}

/* ---- locks ---- */

int __wrap_pthread_mutex_lock(pthread_mutex_t *mutex) {
    sim_point();
    while (__real_pthread_mutex_trylock(mutex) != 0) {
        sim_wait(mutex, PLN_FOREVER);
    }
    return 0;
}

int __wrap_pthread_mutex_unlock(pthread_mutex_t *mutex) {
    int status = __real_pthread_mutex_unlock(mutex);
    sim_tell(mutex, true);
    sim_point();
    return status;
}

static int wait_until(pthread_cond_t *condition, pthread_mutex_t *mutex, pln_ns until) {
    __real_pthread_mutex_unlock(mutex);
    sim_tell(mutex, true);
    bool is_told = sim_wait(condition, until);
    __wrap_pthread_mutex_lock(mutex);
    return is_told ? 0 : ETIMEDOUT;
}

int __wrap_pthread_cond_wait(pthread_cond_t *condition, pthread_mutex_t *mutex) {
    return wait_until(condition, mutex, PLN_FOREVER);
}

int __wrap_pthread_cond_timedwait(pthread_cond_t *condition, pthread_mutex_t *mutex,
                                  const struct timespec *at) {
    return wait_until(condition, mutex, point_of(at));
}

int __wrap_pthread_cond_clockwait(pthread_cond_t *condition, pthread_mutex_t *mutex,
                                  clockid_t clock, const struct timespec *at) {
    assert(clock == CLOCK_MONOTONIC);
    return wait_until(condition, mutex, point_of(at));
}

int __wrap_pthread_cond_signal(pthread_cond_t *condition) {
    sim_tell(condition, false);
    return 0;
}

int __wrap_pthread_cond_broadcast(pthread_cond_t *condition) {
    sim_tell(condition, true);
    return 0;
}

/* ---- thread-specific data ---- */

static struct {
    bool is_used;
    void (*end)(void *);
} keys[SIM_MOST_SPECIFIC];

int __wrap_pthread_key_create(pthread_key_t *key, void (*end)(void *)) {
    for (unsigned i = 0; i < SIM_MOST_SPECIFIC - 1; i++) { /* the last is that of engine.c */
        if (!keys[i].is_used) {
            keys[i].is_used = true;
            keys[i].end = end;
            *key = i;
            return 0;
        }
    }
    return EAGAIN;
}

int __wrap_pthread_key_delete(pthread_key_t key) {
    keys[key].is_used = false;
    sim_forget_specific(key);
    return 0;
}

void *__wrap_pthread_getspecific(pthread_key_t key) {
    return *sim_specific(key);
}

int __wrap_pthread_setspecific(pthread_key_t key, const void *value) {
    *sim_specific(key) = (void *) value;
    return 0;
}

void sim_end_specific(void) {
    for (unsigned i = 0; i < SIM_MOST_SPECIFIC; i++) {
        void *value = *sim_specific(i);
        *sim_specific(i) = NULL;
        if (value != NULL && keys[i].end != NULL) {
            keys[i].end(value);
        }
    }
}

/* ---- L1's own points ---- */

/* Those of reading, storing and removing. Not those of giving memory back: which of several shared
 * lists it goes through depends on addresses, and no value does. */
void pln_point(const char *name) {
    static const char *const points[] = {"match",   "found",   "place",     "viewed",    "unlinked",
                                         "killed",  "linked",  "versioned", "collected", "fenced",
                                         "checked", "visible", "unrivalled"};
    for (size_t i = 0; i < PLN_ARRAY_LEN(points); i++) {
        if (strcmp(name, points[i]) == 0) {
            sim_point();
            return;
        }
    }
}

/* NOLINTEND(bugprone-reserved-identifier) */
