/* SPDX-License-Identifier: MIT
 *
 * keeper.c - a thread that knows where the servers are, behind sentinels or in a cluster: it looks
 * when it is asked to, when there is news, and now and then.
 *
 * Whoever finds a server gone, demoted, or not in charge of a key asks for a look, and may wait for
 * one that begins after it asked. However many ask, one look at a time is made, and none sooner
 * than a pause after the one before. What a look is, is watch.c's affair or cluster.c's.
 */
#include "internal.h"
#include "thread.h"

#include <errno.h>
#include <poll.h>
#include <stdio.h>
#include <unistd.h>

/* Between two looks, however many ask: a cluster that moves slots answers MOVED by the thousand. It
 * grows while nothing is found to have changed. */
static const pln_ns first_pause = 50 * 1000000LL;
static const pln_ns last_pause = 1000 * 1000000LL;

/* ---- asking ---- */

void pln_keeper_ask(struct pln_redis *redis) {
    struct pln_keeper *keeper = &redis->keeper;
    if (keeper->look != NULL && !pln_flag_is_set(&keeper->is_asked)) {
        pln_flag_set(&keeper->is_asked, true);
        pln_wake(keeper->wake_fd);
    }
}

int pln_keeper_wait(struct pln_redis *redis, pln_ns deadline) {
    struct pln_keeper *keeper = &redis->keeper;
    struct timespec until = pln_timespec(deadline);
    int waited = 0;
    pthread_mutex_lock(&keeper->lock);
    uint64_t wanted = keeper->n_begun + 1;
    pln_keeper_ask(redis);
    while (waited == 0 && keeper->n_ended < wanted && !pln_flag_is_set(&keeper->is_stopping)) {
        waited = pthread_cond_clockwait(&keeper->ended, &keeper->lock, CLOCK_MONOTONIC, &until);
    }
    int result = keeper->n_ended < wanted ? PLN_ETIMEOUT : keeper->result;
    if (result != PLN_OK) {
        pln_fail(result == PLN_ETIMEOUT ? PLN_EL2DOWN : result, "%s",
                 keeper->reason[0] != 0 ? keeper->reason
                                        : "l2: where the servers are is not known yet");
    }
    pthread_mutex_unlock(&keeper->lock);
    return result == PLN_OK ? PLN_OK : PLN_EL2DOWN;
}

bool pln_keeper_has_looked(struct pln_redis *redis) {
    return redis->keeper.look == NULL || pln_flag_is_set(&redis->keeper.has_found);
}

/* ---- looking ---- */

static int look(struct pln_redis *redis) {
    struct pln_keeper *keeper = &redis->keeper;
    bool was_in_trouble = keeper->reason[0] != 0;
    pthread_mutex_lock(&keeper->lock);
    keeper->n_begun++;
    pthread_mutex_unlock(&keeper->lock);
    pln_flag_set(&keeper->is_asked, false);
    int result = keeper->look(redis);
    if (result == PLN_OK) {
        pln_flag_set(&keeper->has_found, true);
    }
    pthread_mutex_lock(&keeper->lock);
    keeper->n_ended = keeper->n_begun;
    keeper->result = result;
    snprintf(keeper->reason, sizeof keeper->reason, "%s", result == PLN_OK ? "" : pln_error_text());
    pthread_cond_broadcast(&keeper->ended);
    pthread_mutex_unlock(&keeper->lock);
    if (result != PLN_OK && !was_in_trouble) {
        pln_logf(&redis->host, PLN_LOG_WARN, "%s; asked again and again until it is known",
                 keeper->reason);
    } else if (result == PLN_OK && was_in_trouble) {
        pln_logf(&redis->host, PLN_LOG_WARN, "l2: %s: the servers are known again",
                 redis->url.label);
    }
    return result;
}

/* Sleeps until a point in time, until it is woken, or there are bytes on the line of news. */
static bool has_news(struct pln_keeper *keeper, pln_ns until) {
    bool listens = pln_conn_is_open(&keeper->conn);
    pln_ns left = until - pln_clock_precise();
    struct timespec timeout = pln_timespec(left < 0 ? 0 : left);
    struct pollfd polls[] = {{.fd = keeper->wake_fd, .events = POLLIN},
                             {.fd = keeper->conn.stream.fd, .events = POLLIN}};
    int n = ppoll(polls, listens ? 2 : 1, &timeout, NULL);
    if (n > 0 && polls[0].revents != 0) {
        pln_was_woken(keeper->wake_fd);
    }
    return n > 0 && listens && polls[1].revents != 0;
}

/* Waits for a reason to look again. */
static void rest(struct pln_redis *redis, pln_ns looked_at, int result) {
    struct pln_keeper *keeper = &redis->keeper;
    pln_ns until = looked_at + keeper->period;
    bool was_quiet = looked_at - keeper->looked_at > 5 * last_pause;
    keeper->looked_at = looked_at;
    keeper->pause = keeper->has_changed || was_quiet ? first_pause
                    : keeper->pause < last_pause     ? keeper->pause * 2
                                                     : last_pause;
    keeper->has_changed = false;
    if (result != PLN_OK) {
        until = pln_clock_precise() + pln_backoff_next(&keeper->backoff);
    } else {
        keeper->backoff = 0;
    }
    while (!pln_flag_is_set(&keeper->is_stopping) && pln_clock_precise() < until) {
        if (has_news(keeper, until) && keeper->hear(redis)) {
            break;
        }
        if (result == PLN_OK && pln_flag_is_set(&keeper->is_asked)) {
            until = looked_at + keeper->pause;
        }
    }
}

static void *run(void *arg) {
    struct pln_redis *redis = arg;
    while (!pln_flag_is_set(&redis->keeper.is_stopping)) {
        pln_ns looked_at = pln_clock_precise();
        int result = look(redis);
        rest(redis, looked_at, result);
    }
    return NULL;
}

/* ---- life ---- */

int pln_keeper_init(struct pln_redis *redis) {
    struct pln_keeper *keeper = &redis->keeper;
    pthread_mutex_init(&keeper->lock, NULL);
    pthread_cond_init(&keeper->ended, NULL);
    keeper->conn.stream.fd = -1;
    keeper->pause = first_pause;
    keeper->wake_fd = pln_descriptor_event();
    if (keeper->wake_fd < 0) {
        return pln_fail(PLN_ESYSTEM, "l2: no eventfd for the keeper: %s", strerror(errno));
    }
    return PLN_OK;
}

int pln_keeper_start(struct pln_redis *redis) {
    struct pln_keeper *keeper = &redis->keeper;
    int result = PLN_OK;
    if (keeper->look == NULL) {
        return PLN_OK;
    }
    pthread_mutex_lock(&keeper->lock);
    if (!keeper->is_started) {
        result = pln_thread_start(&keeper->thread, run, redis, "the keeper");
        keeper->is_started = result == PLN_OK;
    }
    pthread_mutex_unlock(&keeper->lock);
    return result;
}

void pln_keeper_stop(struct pln_redis *redis) {
    struct pln_keeper *keeper = &redis->keeper;
    if (keeper->is_started) {
        pln_flag_set(&keeper->is_stopping, true);
        pln_wake(keeper->wake_fd);
        pthread_join(keeper->thread, NULL);
        keeper->is_started = false;
    }
}

void pln_keeper_fini(struct pln_redis *redis) {
    struct pln_keeper *keeper = &redis->keeper;
    pln_conn_close(&keeper->conn);
    pln_places_fini(&keeper->places);
    if (keeper->wake_fd >= 0) {
        pln_descriptor_close(keeper->wake_fd);
    }
    pthread_cond_destroy(&keeper->ended);
    pthread_mutex_destroy(&keeper->lock);
}
