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

enum {
    MOST_BYTES = 1 << 20, /* of one send; a command that is larger goes alone */
    AT_ONCE = 32,         /* answers handed out under one lock */
};

/* What it may be a caller's turn to do. */
enum turn { NO_TURN, TO_TAKE, TO_LEAD };

static bool has_room(const struct pln_line *line) {
    return line->n_in_flight < PLN_ARRAY_LEN(line->in_flight);
}

static struct pln_in_flight *in_flight(struct pln_line *line, size_t i) {
    return &line->in_flight[(line->first_in_flight + i) % PLN_ARRAY_LEN(line->in_flight)];
}

/* ---- the queue ---- */

static int enqueue(struct pln_pool *pool, struct pln_line *line, struct pln_request *request) {
    if (line->n_queued >= PLN_MOST_QUEUED) {
        return pln_fail(PLN_EBUSY, "l2: redis at %s: %d commands wait for their turn",
                        pool->url->label, PLN_MOST_QUEUED);
    }
    if (line->leader != NULL) {
        int result = pln_pool_admit(pool); /* the leader may be trying whether the server is back */
        if (result != PLN_OK) {
            return result;
        }
    }
    request->next = NULL;
    *line->last = request;
    line->last = &request->next;
    line->n_queued++;
    return PLN_OK;
}

static void unlink_request(struct pln_line *line, struct pln_request *request) {
    struct pln_request **at = &line->queue;
    while (*at != request) {
        at = &(*at)->next;
    }
    *at = request->next;
    if (line->last == &request->next) {
        line->last = at;
    }
    line->n_queued--;
}

/* ---- turns ---- */

/* Wakes those whose turn has come, without the lock, which each would have to wait for. Who saw it
 * without sleeping may be gone already: then nobody sleeps at that address, or somebody does who
 * looks again. */
static void unlock(struct pln_line *line) {
    _Atomic uint32_t *woken[PLN_MOST_WOKEN];
    size_t n = line->n_woken;
    memcpy(woken, line->woken, n * sizeof *woken);
    line->n_woken = 0;
    pthread_mutex_unlock(&line->lock);
    for (size_t i = 0; i < n; i++) {
        syscall(SYS_futex, woken[i], FUTEX_WAKE_PRIVATE, 1, NULL, NULL, 0);
    }
}

static void give_turn(struct pln_line *line, struct pln_request *request, enum turn turn) {
    if (turn == TO_LEAD || request != line->leader) { /* who leads does not sleep */
        line->woken[line->n_woken++] = &request->turn;
    }
    /* Q1 release: the outcome before it; pairs with await. From here on it is its caller's */
    atomic_store_explicit(&request->turn, turn, memory_order_release);
    if (line->n_woken == PLN_ARRAY_LEN(line->woken)) {
        unlock(line);
        pthread_mutex_lock(&line->lock);
    }
}

/* Sleeps until it is this caller's turn, or its deadline. */
static enum turn await(struct pln_request *request) {
    struct timespec until = pln_timespec(request->deadline);
    bool is_late = false;
    for (;;) {
        /* Q1 acquire: pairs with give_turn */
        uint32_t turn = atomic_load_explicit(&request->turn, memory_order_acquire);
        if (turn != NO_TURN || is_late) {
            return (enum turn) turn;
        }
        is_late = syscall(SYS_futex, &request->turn, FUTEX_WAIT_BITSET_PRIVATE, NO_TURN, &until,
                          NULL, FUTEX_BITSET_MATCH_ANY) != 0 &&
                  errno == ETIMEDOUT;
    }
}

static void end(struct pln_line *line, struct pln_request *request, int status, const char *text,
                redisReply *reply) {
    request->status = status;
    request->reply = reply;
    if (text != NULL) {
        snprintf(request->text, sizeof request->text, "%s", text);
    }
    request->state = PLN_REQUEST_DONE;
    give_turn(line, request, TO_TAKE);
}

static void end_queued(struct pln_line *line, int status, const char *text) {
    while (line->queue != NULL) {
        struct pln_request *request = line->queue;
        unlink_request(line, request);
        end(line, request, status, text, NULL);
    }
}

/* Takes a request out of the line, wherever it is; its answer, if it was sent, will be dropped. */
static void forget(struct pln_line *line, struct pln_request *request) {
    if (request->state == PLN_REQUEST_QUEUED) {
        unlink_request(line, request);
        return;
    }
    for (size_t i = 0; i < line->n_in_flight; i++) {
        if (in_flight(line, i)->request == request) {
            in_flight(line, i)->request = NULL;
        }
    }
}

/* ---- the leader: sending and receiving ---- */

/* Writes what is queued, as far as there is room. */
static void write_queued(struct pln_line *line, struct pln_slot *slot, bool asks_time,
                         struct pln_batch *batch) {
    if (asks_time) {
        pln_batch_texts(batch, "TIME", NULL);
        *in_flight(line, line->n_in_flight++) = (struct pln_in_flight){NULL, REDIS_REPLY_ARRAY,
                                                                       true};
    }
    while (line->queue != NULL && has_room(line) && batch->len < MOST_BYTES) {
        struct pln_request *request = line->queue;
        unlink_request(line, request);
        request->write(request->arg, slot, batch);
        request->state = PLN_REQUEST_SENT;
        *in_flight(line, line->n_in_flight++) = (struct pln_in_flight){request, request->kind,
                                                                       false};
    }
}

static int send_queued(struct pln_pool *pool, struct pln_line *line, struct pln_slot *slot,
                       pln_ns deadline) {
    struct pln_batch batch;
    bool is_first = line->n_in_flight == 0;
    if (is_first && pln_conn_is_ahead(&slot->conn)) {
        line->is_broken = true; /* it would be taken for the next one's */
        return pln_fail(PLN_EL2DOWN, "l2: redis at %s: an answer that nobody asked for",
                        pool->url->label);
    }
    pln_batch_init(&batch);
    write_queued(line, slot, is_first && pln_pool_needs_time(pool, slot), &batch);
    if (is_first) {
        line->heard_at = pln_clock_precise();
    }
    unlock(line);
    pln_count(pool->counts, PLN_COUNT_L2_COMMANDS, batch.n_commands);
    int result = pln_conn_send(&slot->conn, &batch, deadline);
    pln_batch_fini(&batch);
    pthread_mutex_lock(&line->lock);
    line->is_broken = result != PLN_OK; /* a part of a command may have gone out */
    return result;
}

/* An answer of another kind is that of another command, or of no command at all: then all that
 * follow it would reach the wrong callers too. */
static bool is_of_kind(const struct pln_in_flight *awaited, const redisReply *reply) {
    return reply->type == awaited->kind || reply->type == REDIS_REPLY_ERROR ||
           (reply->type == REDIS_REPLY_NIL && awaited->kind == REDIS_REPLY_STRING);
}

static int refuse(struct pln_pool *pool, struct pln_line *line, redisReply **replies, size_t n) {
    int result = pln_fail(PLN_EL2DOWN,
                          "l2: redis at %s: an answer of an unexpected kind (%d, not %d)",
                          pool->url->label, replies[0]->type, in_flight(line, 0)->kind);
    pln_replies_free(replies, n);
    line->is_broken = true;
    return result;
}

static void hand_out(struct pln_pool *pool, struct pln_line *line, struct pln_slot *slot,
                     redisReply *reply) {
    struct pln_in_flight *awaited = in_flight(line, 0);
    struct pln_request *request = awaited->request;
    line->first_in_flight = (line->first_in_flight + 1) % PLN_ARRAY_LEN(line->in_flight);
    line->n_in_flight--;
    pln_pool_note_reply(pool, slot, awaited->is_time, reply);
    if (request != NULL) {
        end(line, request, PLN_OK, NULL, reply);
    } else {
        freeReplyObject(reply);
    }
}

/* Hands out the answers that have arrived. Returns how many, or a failure. */
static int receive_some(struct pln_pool *pool, struct pln_line *line, struct pln_slot *slot) {
    redisReply *replies[AT_ONCE];
    size_t awaited = line->n_in_flight, n = 0;
    int result = PLN_OK;
    unlock(line);
    while (n < AT_ONCE && n < awaited &&
           (result = pln_conn_next(&slot->conn, &replies[n])) == PLN_OK) {
        n++;
    }
    if (n > 0) {
        pln_pool_praise(pool);
    }
    pthread_mutex_lock(&line->lock);
    for (size_t i = 0; i < n; i++) {
        if (!is_of_kind(in_flight(line, 0), replies[i])) {
            return refuse(pool, line, &replies[i], n - i);
        }
        hand_out(pool, line, slot, replies[i]);
    }
    if (n > 0) {
        line->heard_at = pln_clock_precise();
    }
    if (result < 0 && n == 0) { /* else it is met again next time */
        line->is_broken = true;
        return result;
    }
    return (int) n;
}

static int wait_for_bytes(struct pln_line *line, struct pln_slot *slot, pln_ns deadline) {
    unlock(line);
    int result = pln_conn_fill(&slot->conn, deadline);
    pthread_mutex_lock(&line->lock);
    line->is_broken = result != PLN_OK && result != PLN_ETIMEOUT;
    return result;
}

/* ---- the leader: ends ---- */

static int take(struct pln_pool *pool, struct pln_line *line, size_t index,
                const struct pln_request *me) {
    struct pln_slot *slot;
    unlock(line);
    int result = pln_pool_take(pool, index, me->is_link, me->deadline, &slot);
    pthread_mutex_lock(&line->lock);
    line->is_taken = result == PLN_OK;
    line->is_broken = false;
    return result;
}

static void give(struct pln_pool *pool, struct pln_line *line, struct pln_slot *slot, int result) {
    line->is_taken = false;
    line->n_in_flight = 0;
    unlock(line);
    pln_pool_give(pool, slot, result);
    pthread_mutex_lock(&line->lock);
}

static struct pln_request *first_awaiting(struct pln_line *line, const struct pln_request *but) {
    for (size_t i = 0; i < line->n_in_flight; i++) {
        struct pln_request *request = in_flight(line, i)->request;
        if (request != NULL && request != but) {
            return request;
        }
    }
    return NULL;
}

static bool has_others(struct pln_line *line, const struct pln_request *me) {
    return first_awaiting(line, me) != NULL ||
           line->n_queued > (size_t) (me->state == PLN_REQUEST_QUEUED);
}

/* The connection is of no more use: ends what was in flight on it. What was not sent may go over
 * the next one, unless the server is taken to be away. */
static void lose(struct pln_pool *pool, struct pln_line *line, struct pln_slot *slot, int result,
                 const char *text) {
    struct pln_request *request;
    while ((request = first_awaiting(line, NULL)) != NULL) {
        forget(line, request);
        end(line, request, result, text, NULL);
    }
    give(pool, line, slot, result);
    if (pln_pool_is_open(pool)) {
        end_queued(line, PLN_EL2DOWN, text);
    }
}

static void fail(struct pln_pool *pool, struct pln_line *line, struct pln_slot *slot,
                 struct pln_request *me, int result) {
    char text[PLN_ERROR_TEXT];
    bool is_late = result == PLN_ETIMEOUT && !line->is_broken;
    bool is_silent = pln_clock_precise() - line->heard_at >= pool->timeout;
    snprintf(text, sizeof text, "%s", pln_error_text());
    if (!line->is_taken && result != PLN_ETIMEOUT) {
        end_queued(line, result, text); /* they would fare no better */
    } else if (!line->is_taken || (is_late && !is_silent && has_others(line, me))) {
        me->is_late = line->is_taken;
        forget(line, me);
        end(line, me, result, text, NULL);
    } else {
        lose(pool, line, slot, result, text);
    }
    if (me->state == PLN_REQUEST_QUEUED && pln_clock_precise() >= me->deadline) {
        unlink_request(line, me);
        end(line, me, PLN_ETIMEOUT, text, NULL);
    }
}

/* Another leads from here on, or nobody. Answers that nobody awaits are not waited for. */
static void hand_over(struct pln_pool *pool, struct pln_line *line, struct pln_slot *slot) {
    struct pln_request *next = first_awaiting(line, NULL);
    next = next != NULL ? next : line->queue;
    if (next == NULL && line->is_taken) {
        give(pool, line, slot, line->n_in_flight > 0 ? PLN_ETIMEOUT : PLN_OK);
        next = line->queue; /* who came while the lock was open */
    }
    line->leader = next;
    if (next != NULL) {
        give_turn(line, next, TO_LEAD);
    }
}

static void lead(struct pln_pool *pool, struct pln_line *line, size_t index,
                 struct pln_request *me) {
    struct pln_slot *slot = &pool->slots[index];
    while (me->state != PLN_REQUEST_DONE) {
        int result = line->is_taken ? PLN_OK : take(pool, line, index, me);
        if (result == PLN_OK && line->n_in_flight > 0) {
            result = receive_some(pool, line, slot);
            if (result > 0) {
                continue;
            }
        }
        if (result == PLN_OK && slot->is_done_for && line->n_in_flight == 0) {
            give(pool, line, slot, PLN_OK); /* and take another connection */
            continue;
        }
        if (result == PLN_OK && line->queue != NULL && !slot->is_done_for) {
            result = send_queued(pool, line, slot, me->deadline);
        }
        if (result == PLN_OK) {
            result = wait_for_bytes(line, slot, me->deadline);
        }
        if (result != PLN_OK) {
            fail(pool, line, slot, me, result);
        }
    }
    hand_over(pool, line, slot);
}

/* ---- callers ---- */

static void leave(struct pln_pool *pool, struct pln_line *line, struct pln_request *request) {
    bool was_sent = request->state == PLN_REQUEST_SENT;
    forget(line, request);
    request->is_late = was_sent;
    request->status = PLN_ETIMEOUT;
    snprintf(request->text, sizeof request->text, "l2: redis at %s: %s", pool->url->label,
             was_sent ? "no answer before the deadline"
                      : "the connection was busy until the deadline");
}

/* Waits among the others; then it has its outcome, or it leads, or it was too late. */
static void wait_or_lead(struct pln_pool *pool, struct pln_line *line, size_t index,
                         struct pln_request *request) {
    if (await(request) == TO_TAKE) {
        return;
    }
    pthread_mutex_lock(&line->lock);
    /* relaxed: ordered by the lock, under which it is set */
    uint32_t turn = atomic_load_explicit(&request->turn, memory_order_relaxed);
    if (turn == TO_LEAD) {
        lead(pool, line, index, request);
    } else if (turn == NO_TURN) {
        leave(pool, line, request);
    }
    unlock(line);
}

int pln_line_ask(struct pln_pool *pool, size_t index, struct pln_request *request, pln_ns deadline,
                 redisReply **reply) {
    struct pln_line *line = &pool->slots[index].line;
    if (deadline <= pln_clock_precise()) {
        return pln_fail(PLN_ETIMEOUT, "l2: the deadline passed before a command was sent");
    }
    request->deadline = deadline;
    request->state = PLN_REQUEST_QUEUED;
    request->is_late = false;
    /* relaxed: nobody else knows it yet */
    atomic_store_explicit(&request->turn, NO_TURN, memory_order_relaxed);
    pthread_mutex_lock(&line->lock);
    bool leads = line->leader == NULL;
    int result = enqueue(pool, line, request);
    if (result == PLN_OK && leads) {
        line->leader = request;
        lead(pool, line, index, request);
    }
    unlock(line);
    if (result != PLN_OK) {
        return result;
    }
    if (!leads) {
        wait_or_lead(pool, line, index, request);
    }
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

void pln_line_init(struct pln_line *line) {
    pthread_mutex_init(&line->lock, NULL);
    line->last = &line->queue;
}

void pln_line_fini(struct pln_line *line) {
    assert(line->queue == NULL && line->leader == NULL);
    pthread_mutex_destroy(&line->lock);
}
