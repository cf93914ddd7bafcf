/* SPDX-License-Identifier: MIT
 *
 * async.c - the courier: one thread with thousands of commands in flight on one connection.
 *
 * Who has an errand posts it and goes on. In each round the courier takes what was posted, sends
 * all of it in one go, and hands out the answers that have come, in the order of the commands. So
 * commands that come while answers are handed out go together, and one that comes alone goes at
 * once: nothing waits to be joined by others. Only when there is nothing to do does the courier
 * sleep, and only then does a post cost its caller a system call.
 *
 * An errand's memory is its caller's. The courier points to it from one of three places: posted
 * (under the lock), the queue, or the ring of commands in flight (the courier's own). Whoever ends
 * it takes it out first, so that end() may post it again.
 *
 * Deadlines cost an answer nothing. `soonest` is no later than any of them; when it comes, all
 * errands are looked at, those that are due are ended, and it is set anew. That happens at most
 * once in a millisecond, however many deadlines there are, and with equal timeouts about once in
 * one of them. The answer to an errand that has ended is dropped when it comes: its place in the
 * ring stays, and points to nobody.
 */
#include "courier.h"
#include "thread.h"

#include <errno.h>
#include <poll.h>
#include <stdio.h>
#include <unistd.h>

enum { MOST_WAITING = 4096 }; /* errands that are not sent yet */

static const pln_ns scan_period = 1000000;
static const pln_ns never = INT64_MAX;

/* ---- ends ---- */

static void end(struct pln_errand *errand, int status, const char *text) {
    pln_fail(status, "%s", text); /* each time: end() may have failed at something of its own */
    errand->end(errand, status, NULL);
}

/* Ends those of a list, but not those that come into it meanwhile. */
static void end_all(struct list *list, int status, const char *text) {
    struct list ended;
    clear(&ended);
    move(list, &ended);
    while (ended.first != NULL) {
        end(take_first(&ended), status, text);
    }
}

/* Gives the connection back; whose answers have not come are returned. */
static void give(struct pln_async *async, int result, struct list *unanswered) {
    clear(unanswered);
    while (async->n_in_flight > 0) {
        struct pln_errand *errand = pln_courier_next(async).errand;
        if (errand != NULL) {
            append(unanswered, errand);
        }
    }
    async->n_bytes = 0;
    pln_batch_fini(&async->batch);
    async->n_sent = 0;
    async->awaits_time = false;
    if (async->is_taken) {
        async->is_taken = false;
        pln_pool_give(async->pool, slot_of(async), result, unanswered->n);
    }
}

/* The connection is of no more use. What was not sent may go over the next one, if there is one. */
static void lose(struct pln_async *async, int result) {
    struct list unanswered;
    char text[PLN_ERROR_TEXT];
    snprintf(text, sizeof text, "%s", pln_error_text());
    give(async, result, &unanswered);
    end_all(&unanswered, result == PLN_ETIMEOUT ? PLN_EL2DOWN : result, text);
}

/* ---- deadlines ---- */

static void take_due_of_queue(struct pln_async *async, struct list *due) {
    struct list all;
    clear(&all);
    move(&async->queue, &all);
    while (all.first != NULL) {
        struct pln_errand *errand = take_first(&all);
        note_deadline(async, errand->deadline > async->now ? errand->deadline : never);
        append(errand->deadline > async->now ? &async->queue : due, errand);
    }
}

static void take_due_of_ring(struct pln_async *async, struct list *due) {
    for (size_t i = 0; i < async->n_in_flight; i++) {
        struct sent *sent = in_flight(async, i);
        if (sent->errand != NULL && sent->deadline <= async->now) {
            append(due, sent->errand);
            sent->errand = NULL;
        } else if (sent->errand != NULL) {
            note_deadline(async, sent->deadline);
        }
    }
}

/* Ends what is due. A connection that has said nothing for the pool's timeout meanwhile is given
 * up; one that is only too slow for some is not. */
static void expire(struct pln_async *async) {
    struct list late, unsent;
    char text[PLN_ERROR_TEXT];
    clear(&late);
    clear(&unsent);
    async->soonest = never;
    async->scanned_at = async->now;
    take_due_of_queue(async, &unsent);
    take_due_of_ring(async, &late);
    /* what was not sent counts too: nothing is, where all in flight have ended without an answer */
    bool is_silent = (late.first != NULL || unsent.first != NULL) && async->n_in_flight > 0 &&
                     async->now - async->heard_at >= async->pool->timeout;
    snprintf(text, sizeof text, "l2: redis at %s: no answer before the deadline",
             pln_pool_label(async->pool));
    while (late.first != NULL) {
        struct pln_errand *errand = take_first(&late);
        pln_fail(PLN_ETIMEOUT, "%s", text);
        pln_pool_blame(async->pool);
        end(errand, PLN_ETIMEOUT, text);
    }
    if (is_silent) {
        pln_fail(PLN_ETIMEOUT, "l2: redis at %s: given up, since it has said nothing for %lld ms",
                 pln_pool_label(async->pool), (long long) (async->pool->timeout / 1000000));
        lose(async, PLN_ETIMEOUT);
    }
    snprintf(text, sizeof text, "l2: redis at %s: the connection was busy until the deadline",
             pln_pool_label(async->pool));
    end_all(&unsent, PLN_ETIMEOUT, text);
}

/* ---- sending ---- */

/* A connection, before the first deadline. Returns: PLN_OK; PLN_MISS: there is none. */
static int take(struct pln_async *async) {
    struct pln_slot *slot;
    char text[PLN_ERROR_TEXT];
    expire(async); /* and soonest is the queue's, which it may have been no longer */
    if (async->queue.first == NULL) {
        return PLN_MISS;
    }
    int result = pln_pool_take(async->pool, async->pool->n_slots, false, async->soonest, &slot);
    async->is_taken = result == PLN_OK;
    if (result != PLN_OK && result != PLN_ETIMEOUT) {
        snprintf(text, sizeof text, "%s", pln_error_text());
        end_all(&async->queue, result, text);
    }
    return async->is_taken ? PLN_OK : PLN_MISS;
}

/* Sends what is queued, over a connection that is taken for it and given back when it is idle. */
static int send_queued(struct pln_async *async) {
    struct list none;
    bool is_idle = async->is_taken && async->n_in_flight == 0;
    if (is_idle && (async->queue.first == NULL || slot_of(async)->is_done_for)) {
        give(async, PLN_OK, &none);
    }
    if (async->queue.first != NULL && !async->is_taken && take(async) != PLN_OK) {
        return PLN_OK;
    }
    return async->is_taken ? pln_courier_send(async) : PLN_OK;
}

/* ---- the thread ---- */

static void take_posted(struct pln_async *async) {
    pthread_mutex_lock(&async->lock);
    for (struct pln_errand *errand = async->posted.first; errand != NULL; errand = errand->next) {
        note_deadline(async, errand->deadline);
    }
    move(&async->posted, &async->queue);
    async->n_behind = async->queue.n;
    async->is_asleep = false;
    async->is_closing = async->is_stopping;
    pthread_mutex_unlock(&async->lock);
    async->now = pln_clock_precise();
}

/* When the deadlines are to be looked at. */
static pln_ns scan_at(const struct pln_async *async) {
    pln_ns earliest = async->scanned_at + scan_period;
    return async->soonest > earliest ? async->soonest : earliest;
}

/* Sleeps until something is posted or heard, or a deadline comes. */
static void rest(struct pln_async *async) {
    const struct pln_conn *conn = &slot_of(async)->conn;
    bool has_bytes = async->is_taken && (async->batch.len > 0 || pln_conn_has_unsent(conn));
    struct pollfd polls[] = {
        {.fd = async->wake_fd, .events = POLLIN},
        {.fd = conn->stream.fd, .events = has_bytes ? POLLIN | POLLOUT : POLLIN}};
    pthread_mutex_lock(&async->lock);
    async->is_asleep = async->posted.first == NULL && !async->is_stopping;
    bool may_sleep = async->is_asleep;
    pthread_mutex_unlock(&async->lock);
    if (!may_sleep) {
        return;
    }
    pln_ns left = scan_at(async) - pln_clock_precise();
    struct timespec timeout = pln_timespec(left > 0 ? left : 0);
    int n = ppoll(polls, async->is_taken ? 2 : 1, async->soonest == never ? NULL : &timeout, NULL);
    if (n > 0 && polls[0].revents != 0) {
        pln_was_woken(async->wake_fd);
    }
}

static void *run(void *arg) {
    struct pln_async *async = arg;
    struct list unanswered;
    char text[PLN_ERROR_TEXT];
    /* relaxed: see `self` */
    atomic_store_explicit(&async->self, (uintptr_t) pthread_self(), memory_order_relaxed);
    for (take_posted(async); !async->is_closing; take_posted(async)) {
        if (async->now >= scan_at(async)) {
            expire(async);
        }
        int received = pln_courier_receive(async);
        int result = received < 0 ? received : send_queued(async);
        if (result < 0) {
            lose(async, result);
        } else if (received == PLN_MISS) {
            rest(async);
        }
    }
    snprintf(text, sizeof text, "l2: redis at %s: the client was closed",
             pln_pool_label(async->pool));
    give(async, PLN_OK, &unanswered);
    end_all(&unanswered, PLN_EL2DOWN, text);
    end_all(&async->queue, PLN_EL2DOWN, text);
    return NULL;
}

/* ---- for others ---- */

static bool is_own(struct pln_async *async) {
    /* relaxed: see `self` */
    return atomic_load_explicit(&async->self, memory_order_relaxed) == (uintptr_t) pthread_self();
}

static int start_locked(struct pln_async *async) {
    int result = pln_thread_start(&async->thread, run, async, "asynchronous commands");
    async->is_started = result == PLN_OK;
    return result;
}

static int admit(const struct pln_async *async, bool is_closing, size_t n_waiting) {
    if (is_closing) {
        return pln_fail(PLN_EL2DOWN, "l2: redis at %s: the client is being closed",
                        pln_pool_label(async->pool));
    }
    if (n_waiting >= MOST_WAITING) {
        return pln_fail(PLN_EBUSY, "l2: redis at %s: %d asynchronous commands wait to be sent",
                        pln_pool_label(async->pool), MOST_WAITING);
    }
    return PLN_OK;
}

void pln_async_go_on(struct pln_pool *pool, struct pln_errand *errand) {
    struct pln_async *async = pool->async;
    append(&async->queue, errand);
    note_deadline(async, errand->deadline);
}

/* Without the lock: what end() begins. */
static int post_own(struct pln_async *async, struct pln_errand *errand) {
    int result = admit(async, async->is_closing, async->queue.n);
    if (result == PLN_OK) {
        pln_async_go_on(async->pool, errand);
    }
    return result;
}

static int post(struct pln_async *async, struct pln_errand *errand) {
    if (errand->deadline <= pln_clock_precise()) {
        return pln_fail(PLN_ETIMEOUT, "l2: the deadline passed before a command was sent");
    }
    pthread_mutex_lock(&async->lock);
    int result = admit(async, async->is_stopping, async->posted.n + async->n_behind);
    if (result == PLN_OK && !async->is_started) {
        result = start_locked(async);
    }
    bool wakes = result == PLN_OK && async->is_asleep;
    if (result == PLN_OK) {
        append(&async->posted, errand);
        async->is_asleep = false;
    }
    pthread_mutex_unlock(&async->lock);
    if (wakes) {
        pln_wake(async->wake_fd);
    }
    return result;
}

int pln_async_post(struct pln_pool *pool, struct pln_errand *errand) {
    int result = pln_breaker_look(&pool->breaker);
    if (result != PLN_OK) {
        return result;
    }
    return is_own(pool->async) ? post_own(pool->async, errand) : post(pool->async, errand);
}

pln_ms pln_async_server_now(struct pln_pool *pool) {
    /* relaxed: a number by itself; each reading of it is as good as any other */
    return pool->async->now / 1000000 +
           atomic_load_explicit(&pool->clock_offset, memory_order_relaxed);
}

int pln_async_init(struct pln_pool *pool) {
    struct pln_async *async = calloc(1, sizeof *async);
    if (async == NULL) {
        return pln_fail(PLN_ENOMEM, "l2: no memory for asynchronous commands");
    }
    async->pool = pool;
    async->soonest = never;
    async->wake_fd = pln_descriptor_event();
    pthread_mutex_init(&async->lock, NULL);
    clear(&async->posted);
    clear(&async->queue);
    pln_batch_init(&async->batch);
    pool->async = async;
    if (async->wake_fd < 0) {
        return pln_fail(PLN_ESYSTEM, "l2: no eventfd for asynchronous commands: %s",
                        strerror(errno));
    }
    return PLN_OK;
}

void pln_async_stop(struct pln_pool *pool) {
    struct pln_async *async = pool->async;
    if (async == NULL) {
        return;
    }
    pthread_mutex_lock(&async->lock);
    async->is_stopping = true;
    bool is_started = async->is_started;
    async->is_started = false;
    pthread_mutex_unlock(&async->lock);
    if (is_started) {
        pln_wake(async->wake_fd);
        pthread_join(async->thread, NULL);
    }
}

void pln_async_fini(struct pln_pool *pool) {
    struct pln_async *async = pool->async;
    if (async == NULL) {
        return;
    }
    assert(!async->is_started && async->posted.first == NULL && async->queue.first == NULL);
    if (async->wake_fd >= 0) {
        pln_descriptor_close(async->wake_fd);
    }
    pln_batch_fini(&async->batch);
    pthread_mutex_destroy(&async->lock);
    free(async);
    pool->async = NULL;
}
