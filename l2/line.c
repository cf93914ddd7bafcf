/* SPDX-License-Identifier: MIT
 *
 * line.c - many callers on one connection, batched by themselves.
 *
 * Each caller has one command. The first to come leads: it writes and reads itself, with no other
 * thread between, as if the connection were its own. Who comes meanwhile queues up. Whenever the
 * leader would wait for the server, it first sends what has queued, in one go and in order; as
 * answers come it hands them out, in the same order. When it has its own, the next whose answer is
 * awaited takes over, or the connection goes back to the pool.
 *
 * Commands for a key are of one connection (pool.c), so they are executed in the order in which
 * their callers came.
 *
 * A caller whose deadline comes leaves, and its answer is read and dropped when it arrives. So one
 * caller's short patience ends nobody else's command; but a connection that has said nothing for
 * the pool's timeout is given up, with all that is in flight on it.
 *
 * A request lives on its caller's stack. The line points to it as long as it is queued or in
 * flight; who leaves takes the pointer out, under the lock.
 */
#include "internal.h"

#include <errno.h>
#include <linux/futex.h>
#include <stdio.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

/* ---- the queue ---- */

static int enqueue(struct pln_pool *pool, struct pln_line *line, struct pln_request *request) {
    if (line->n_queued >= PLN_MOST_QUEUED) {
        return pln_fail(PLN_EBUSY, "l2: redis at %s: %d commands wait for their turn",
                        pln_pool_label(pool), PLN_MOST_QUEUED);
    }
    if (line->bytes_queued > 0 && line->bytes_queued + request->n_bytes > pool->most_queued_bytes) {
        return pln_fail(PLN_EBUSY,
                        "l2: redis at %s: %zu bytes of commands wait for their turn; with %zu more "
                        "it would be over %zu",
                        pln_pool_label(pool), line->bytes_queued, request->n_bytes,
                        pool->most_queued_bytes);
    }
    if (line->leader != NULL || line->is_taken) {
        /* the leader may be trying whether the server is back */
        int result = pln_breaker_admit(&pool->breaker);
        if (result != PLN_OK) {
            return result;
        }
    }
    request->next = NULL;
    *line->last = request;
    line->last = &request->next;
    line->n_queued++;
    line->bytes_queued += request->n_bytes;
    return PLN_OK;
}

void pln_line_unqueue(struct pln_line *line, struct pln_request *request) {
    struct pln_request **at = &line->queue;
    while (*at != request) {
        at = &(*at)->next;
    }
    *at = request->next;
    if (line->last == &request->next) {
        line->last = at;
    }
    line->n_queued--;
    line->bytes_queued -= request->n_bytes;
}

/* ---- turns ---- */

/* Wakes those whose turn has come, without the lock, which each would have to wait for. Who saw it
 * without sleeping may be gone already: then nobody sleeps at that address, or somebody does who
 * looks again. */
void pln_line_unlock(struct pln_line *line) {
    _Atomic uint32_t *woken[PLN_MOST_WOKEN];
    size_t n = line->n_woken;
    memcpy(woken, line->woken, n * sizeof *woken);
    line->n_woken = 0;
    pthread_mutex_unlock(&line->lock);
    for (size_t i = 0; i < n; i++) {
        syscall(SYS_futex, woken[i], FUTEX_WAKE_PRIVATE, 1, NULL, NULL, 0);
    }
}

void pln_line_give_turn(struct pln_line *line, struct pln_request *request, enum pln_turn turn) {
    /* who leads does not sleep, nor who has posted it and is yet to come for it */
    if (turn == PLN_TO_LEAD || (request != line->leader && request->is_awaited)) {
        line->woken[line->n_woken++] = &request->turn;
    }
    /* Q1 release: the outcome before it; pairs with await. From here on it is its caller's */
    atomic_store_explicit(&request->turn, turn, memory_order_release);
    if (line->n_woken == PLN_ARRAY_LEN(line->woken)) {
        pln_line_unlock(line);
        pthread_mutex_lock(&line->lock);
    }
}

/* Sleeps until it is this caller's turn, or its deadline. */
static enum pln_turn await(struct pln_request *request) {
    struct timespec until = pln_timespec(request->deadline);
    bool is_late = false;
    for (;;) {
        /* Q1 acquire: pairs with give_turn */
        uint32_t turn = atomic_load_explicit(&request->turn, memory_order_acquire);
        if (turn != PLN_NO_TURN || is_late) {
            return (enum pln_turn) turn;
        }
        is_late = syscall(SYS_futex, &request->turn, FUTEX_WAIT_BITSET_PRIVATE, PLN_NO_TURN, &until,
                          NULL, FUTEX_BITSET_MATCH_ANY) != 0 &&
                  errno == ETIMEDOUT;
    }
}

void pln_line_end(struct pln_line *line, struct pln_request *request, int status, const char *text,
                  struct pln_reply *reply) {
    request->status = status;
    request->reply = reply;
    if (text != NULL) {
        snprintf(request->text, sizeof request->text, "%s", text);
    }
    request->state = PLN_REQUEST_DONE;
    pln_line_give_turn(line, request, PLN_TO_TAKE);
}

void pln_line_end_queued(struct pln_line *line, int status, const char *text) {
    while (line->queue != NULL) {
        struct pln_request *request = line->queue;
        pln_line_unqueue(line, request);
        pln_line_end(line, request, status, text, NULL);
    }
}

/* Takes a request out of the line, wherever it is; its answer, if it was sent, will be dropped. */
void pln_line_forget(struct pln_line *line, struct pln_request *request) {
    if (request->state == PLN_REQUEST_QUEUED) {
        pln_line_unqueue(line, request);
        return;
    }
    for (size_t i = 0; i < line->n_in_flight; i++) {
        if (pln_in_flight_at(line, i)->request == request) {
            pln_in_flight_at(line, i)->request = NULL;
        }
    }
}

/* ---- callers ---- */

static void leave(struct pln_pool *pool, struct pln_line *line, struct pln_request *request) {
    bool was_sent = request->state == PLN_REQUEST_SENT;
    pln_line_forget(line, request);
    request->is_late = was_sent;
    request->status = PLN_ETIMEOUT;
    snprintf(request->text, sizeof request->text, "l2: redis at %s: %s", pln_pool_label(pool),
             was_sent ? "no answer before the deadline"
                      : "the connection was busy until the deadline");
}

/* Waits among the others; then it has its outcome, or it leads, or it was too late. */
static void wait_or_lead(struct pln_pool *pool, struct pln_line *line, size_t index,
                         struct pln_request *request) {
    if (await(request) == PLN_TO_TAKE) {
        return;
    }
    pthread_mutex_lock(&line->lock);
    /* relaxed: ordered by the lock, under which it is set */
    uint32_t turn = atomic_load_explicit(&request->turn, memory_order_relaxed);
    if (turn == PLN_TO_LEAD) {
        pln_line_lead(pool, line, index, request);
    } else if (turn == PLN_NO_TURN) {
        leave(pool, line, request);
    }
    pln_line_unlock(line);
}

static int take_outcome(struct pln_pool *pool, struct pln_request *request,
                        struct pln_reply **reply) {
    if (request->status == PLN_OK) {
        *reply = request->reply;
        return PLN_OK;
    }
    pln_fail(request->status, "%s", request->text);
    if (request->is_late) {
        pln_pool_blame(pool);
    }
    return request->status;
}

static void prepare(struct pln_request *request, pln_ns deadline, bool is_awaited) {
    request->deadline = deadline;
    request->state = PLN_REQUEST_QUEUED;
    request->is_late = false;
    request->is_awaited = is_awaited;
    /* relaxed: nobody else knows it yet */
    atomic_store_explicit(&request->turn, PLN_NO_TURN, memory_order_relaxed);
}

static int refuse_late(void) {
    return pln_fail(PLN_ETIMEOUT, "l2: the deadline passed before a command was sent");
}

int pln_line_ask(struct pln_pool *pool, size_t index, struct pln_request *request, pln_ns deadline,
                 struct pln_reply **reply) {
    struct pln_line *line = &pool->slots[index].line;
    if (deadline <= pln_clock_precise()) {
        return refuse_late();
    }
    prepare(request, deadline, true);
    pthread_mutex_lock(&line->lock);
    bool leads = line->leader == NULL;
    int result = enqueue(pool, line, request);
    if (result == PLN_OK && leads) {
        line->leader = request;
        pln_line_lead(pool, line, index, request);
    }
    pln_line_unlock(line);
    if (result != PLN_OK) {
        return result;
    }
    if (!leads) {
        wait_or_lead(pool, line, index, request);
    }
    return take_outcome(pool, request, reply);
}

/* Ends a request that was not even queued. */
static void refuse(struct pln_request *request, int status) {
    request->status = status;
    request->state = PLN_REQUEST_DONE;
    snprintf(request->text, sizeof request->text, "%s", pln_error_text());
}

void pln_line_post(struct pln_pool *pool, size_t index, struct pln_request *request,
                   pln_ns deadline) {
    struct pln_line *line = &pool->slots[index].line;
    prepare(request, deadline, false);
    if (deadline <= pln_clock_precise()) {
        refuse(request, refuse_late());
        return;
    }
    pthread_mutex_lock(&line->lock);
    int result = enqueue(pool, line, request);
    if (result != PLN_OK) {
        refuse(request, result);
    }
    pln_line_unlock(line);
}

void pln_line_flush(struct pln_pool *pool, size_t index) {
    struct pln_line *line = &pool->slots[index].line;
    pthread_mutex_lock(&line->lock);
    if (line->leader == NULL && line->queue != NULL) {
        pln_line_send_off(pool, line, index, line->queue);
    }
    pln_line_unlock(line);
}

int pln_line_finish(struct pln_pool *pool, size_t index, struct pln_request *request,
                    struct pln_reply **reply) {
    struct pln_line *line = &pool->slots[index].line;
    pthread_mutex_lock(&line->lock);
    bool is_done = request->state == PLN_REQUEST_DONE;
    bool leads = !is_done && line->leader == NULL;
    request->is_awaited = true;
    if (leads) {
        line->leader = request;
        pln_line_lead(pool, line, index, request);
    }
    pln_line_unlock(line);
    if (!is_done && !leads) {
        wait_or_lead(pool, line, index, request);
    }
    return take_outcome(pool, request, reply);
}

void pln_line_init(struct pln_line *line) {
    pthread_mutex_init(&line->lock, NULL);
    line->last = &line->queue;
}

void pln_line_fini(struct pln_line *line) {
    assert(line->queue == NULL && line->leader == NULL);
    pthread_mutex_destroy(&line->lock);
}
