/* SPDX-License-Identifier: MIT
 *
 * lead.c - what the caller does who has a connection: it sends what is queued, its own command and
 * those of others, hands out the answers, and sees to it that somebody leads after it.
 *
 * All of it runs with the line's lock held, but for system calls and what concerns the pool: then
 * the lock is dropped, and who comes meanwhile queues.
 */
#include "internal.h"

#include <stdio.h>

enum {
    MOST_BYTES = 1 << 20, /* of one send; a command that is larger goes alone */
    AT_ONCE = 32,         /* answers handed out under one lock */
};

static bool has_room(const struct pln_line *line) {
    return line->n_in_flight < PLN_ARRAY_LEN(line->in_flight);
}

/* Many bytes wait for those before them, but are sent where there is nothing else. */
static bool fits(const struct pln_pool *pool, const struct pln_line *line,
                 const struct pln_request *request) {
    return line->bytes_in_flight == 0 ||
           line->bytes_in_flight + request->n_bytes <= pool->most_in_flight_bytes;
}

/* ---- sending and receiving ---- */

/* How many of the first in the queue go as one command. */
static size_t count_joined(const struct pln_line *line) {
    const struct pln_request *first = line->queue, *at = first->next;
    size_t n = 1, bytes = first->n_bytes + 2;
    if (first->join == NULL || first->is_asking) {
        return 1;
    }
    for (; at != NULL && at->join == first->join && !at->is_asking && n < PLN_MOST_JOINED &&
           line->n_in_flight + n < PLN_ARRAY_LEN(line->in_flight) &&
           bytes + at->n_bytes + 2 <= PLN_MOST_JOINED_BYTES;
         at = at->next) {
        bytes += at->n_bytes + 2;
        n++;
    }
    return n;
}

/* Writes the first n of the queue as one command. */
static void write_first(struct pln_line *line, struct pln_slot *slot, size_t n,
                        struct pln_batch *batch) {
    void *args[PLN_MOST_JOINED];
    size_t before = batch->len;
    struct pln_request *request = line->queue;
    for (size_t i = 0; i < n; i++) {
        request = line->queue;
        args[i] = request->arg;
        pln_line_unqueue(line, request);
        request->state = PLN_REQUEST_SENT;
        *pln_in_flight_at(line, line->n_in_flight++) = (struct pln_in_flight){
            .request = request, .kinds = request->kinds, .is_joined = i < n - 1};
    }
    if (n == 1) {
        request->write(request->arg, slot, batch);
    } else {
        request->join(args, n, slot, batch);
    }
    line->n_joined += n - 1;
    line->bytes_in_flight += batch->len - before;
    pln_in_flight_at(line, line->n_in_flight - 1)->n_bytes = batch->len - before;
}

/* Writes what is queued, as far as there is room. */
static void write_queued(const struct pln_pool *pool, struct pln_line *line, struct pln_slot *slot,
                         bool asks_time, struct pln_batch *batch) {
    if (asks_time) {
        pln_batch_texts(batch, "TIME", NULL);
        slot->conn.time_asked_at = pln_clock_precise();
        *pln_in_flight_at(line, line->n_in_flight++) = (struct pln_in_flight){
            .kinds = PLN_KIND(PLN_REPLY_ARRAY), .is_time = true};
    }
    while (line->queue != NULL && has_room(line) && fits(pool, line, line->queue) &&
           batch->len < MOST_BYTES) {
        if (line->queue->is_asking) {
            if (line->n_in_flight + 2 > PLN_ARRAY_LEN(line->in_flight)) {
                return;
            }
            pln_batch_texts(batch, "ASKING", NULL);
            *pln_in_flight_at(line, line->n_in_flight++) = (struct pln_in_flight){
                .kinds = PLN_KIND(PLN_REPLY_STATUS)};
        }
        write_first(line, slot, count_joined(line), batch);
    }
}

static int send_queued(struct pln_pool *pool, struct pln_line *line, struct pln_slot *slot,
                       pln_ns deadline) {
    struct pln_batch batch;
    bool is_first = line->n_in_flight == 0;
    if (is_first && pln_conn_is_ahead(&slot->conn)) {
        line->is_broken = true; /* it would be taken for the next one's */
        return pln_fail(PLN_EL2DOWN, "l2: redis at %s: an answer that nobody asked for",
                        pln_pool_label(pool));
    }
    pln_batch_init(&batch);
    write_queued(pool, line, slot, is_first && pln_pool_needs_time(pool, slot), &batch);
    if (is_first) {
        line->heard_at = pln_clock_precise();
    }
    pln_line_unlock(line);
    pln_count(pool->counts, PLN_COUNT_L2_COMMANDS, batch.n_commands);
    /* empty: what waits is too large to go along with what is under way */
    int result = batch.n_commands == 0 ? PLN_OK : pln_conn_send(&slot->conn, &batch, deadline);
    pln_batch_fini(&batch);
    pthread_mutex_lock(&line->lock);
    line->is_broken = result != PLN_OK; /* a part of a command may have gone out */
    return result;
}

/* An answer of another kind is that of another command, or of no command at all: then all that
 * follow it would reach the wrong callers too. */
static bool is_of_kind(const struct pln_in_flight *awaited, const struct pln_reply *reply) {
    return awaited->kinds == 0 || reply->kind == PLN_REPLY_ERROR ||
           (awaited->kinds & PLN_KIND(reply->kind)) != 0;
}

static int refuse(struct pln_pool *pool, struct pln_line *line, struct pln_reply **replies,
                  size_t n) {
    int result = pln_fail(PLN_EL2DOWN, "l2: redis at %s: an answer of an unexpected kind (%d)",
                          pln_pool_label(pool), replies[0]->kind);
    pln_replies_free(replies, n);
    line->is_broken = true;
    return result;
}

/* Gives the first in flight its answer; where that is others' too, a copy. Returns whether it is.
 */
static bool give_first(struct pln_line *line, struct pln_reply *reply) {
    struct pln_in_flight awaited = *pln_in_flight_at(line, 0);
    struct pln_reply *own = reply;
    line->first_in_flight = (line->first_in_flight + 1) % PLN_ARRAY_LEN(line->in_flight);
    line->n_in_flight--;
    line->n_joined -= awaited.is_joined;
    line->bytes_in_flight -= awaited.n_bytes;
    if (awaited.request != NULL) {
        /* relaxed: only counted; written under the lock alone */
        uint64_t n = atomic_load_explicit(&line->n_answered, memory_order_relaxed);
        atomic_store_explicit(&line->n_answered, n + 1, memory_order_relaxed); /* relaxed: as is */
        own = awaited.is_joined ? pln_reply_copy(reply) : reply;
        pln_line_end(line, awaited.request, own != NULL ? PLN_OK : PLN_ENOMEM,
                     own != NULL ? NULL : "l2: no memory for a reply", own);
    } else if (!awaited.is_joined) {
        pln_reply_free(reply);
    }
    return awaited.is_joined;
}

static void hand_out(struct pln_pool *pool, struct pln_line *line, struct pln_slot *slot,
                     struct pln_reply *reply) {
    pln_pool_note_reply(pool, slot, pln_in_flight_at(line, 0)->is_time, reply);
    while (give_first(line, reply)) {
    }
}

/* How many answers come first that nobody waits for any more: they are no sign of health. */
static size_t count_late(struct pln_line *line) {
    size_t n = 0;
    for (size_t i = 0; i < line->n_in_flight && pln_in_flight_at(line, i)->request == NULL; i++) {
        n += !pln_in_flight_at(line, i)->is_joined;
    }
    return n;
}

/* Hands out the answers that have arrived. Returns how many, or a failure. */
static int receive_some(struct pln_pool *pool, struct pln_line *line, struct pln_slot *slot) {
    struct pln_reply *replies[AT_ONCE];
    size_t awaited = line->n_in_flight - line->n_joined, n_late = count_late(line), n = 0;
    int result = PLN_OK;
    pln_line_unlock(line);
    while (n < AT_ONCE && n < awaited &&
           (result = pln_conn_next(&slot->conn, &replies[n])) == PLN_OK) {
        n++;
    }
    if (n > n_late) {
        pln_breaker_praise(&pool->breaker, pln_pool_label(pool));
    }
    pthread_mutex_lock(&line->lock);
    for (size_t i = 0; i < n; i++) {
        if (!is_of_kind(pln_in_flight_at(line, 0), replies[i])) {
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
    pln_line_unlock(line);
    int result = pln_conn_fill(&slot->conn, deadline);
    pthread_mutex_lock(&line->lock);
    line->is_broken = result != PLN_OK && result != PLN_ETIMEOUT;
    return result;
}

/* ---- ends ---- */

static int take(struct pln_pool *pool, struct pln_line *line, size_t index,
                const struct pln_request *me) {
    struct pln_slot *slot;
    pln_line_unlock(line);
    int result = pln_pool_take(pool, index, me->is_link, me->deadline, &slot);
    pthread_mutex_lock(&line->lock);
    line->is_taken = result == PLN_OK;
    line->is_broken = false;
    return result;
}

static void give(struct pln_pool *pool, struct pln_line *line, struct pln_slot *slot, int result,
                 size_t n_lost) {
    line->is_taken = false;
    line->n_in_flight = line->n_joined = line->bytes_in_flight = 0;
    pln_line_unlock(line);
    pln_pool_give(pool, slot, result, n_lost);
    pthread_mutex_lock(&line->lock);
}

static struct pln_request *first_in_flight(struct pln_line *line, const struct pln_request *but) {
    for (size_t i = 0; i < line->n_in_flight; i++) {
        struct pln_request *request = pln_in_flight_at(line, i)->request;
        if (request != NULL && request != but) {
            return request;
        }
    }
    return NULL;
}

/* One whose caller is there to lead: in flight, else in the queue. */
static struct pln_request *first_awaited(struct pln_line *line) {
    struct pln_request *queued = line->queue;
    for (size_t i = 0; i < line->n_in_flight; i++) {
        struct pln_request *request = pln_in_flight_at(line, i)->request;
        if (request != NULL && request->is_awaited) {
            return request;
        }
    }
    while (queued != NULL && !queued->is_awaited) {
        queued = queued->next;
    }
    return queued;
}

static bool has_others(struct pln_line *line, const struct pln_request *me) {
    return first_in_flight(line, me) != NULL ||
           line->n_queued > (size_t) (me->state == PLN_REQUEST_QUEUED);
}

/* The connection is of no more use: ends what was in flight on it. What was not sent may go over
 * the next one, unless the server is taken to be away. */
static void lose(struct pln_pool *pool, struct pln_line *line, struct pln_slot *slot, int result,
                 const char *text) {
    struct pln_request *request;
    size_t n = 0;
    for (; (request = first_in_flight(line, NULL)) != NULL; n++) {
        pln_line_forget(line, request);
        pln_line_end(line, request, result, text, NULL);
    }
    give(pool, line, slot, result, n);
    if (pln_pool_is_open(pool)) {
        pln_line_end_queued(line, PLN_EL2DOWN, text);
    }
}

static void fail(struct pln_pool *pool, struct pln_line *line, struct pln_slot *slot,
                 struct pln_request *me, int result) {
    char text[PLN_ERROR_TEXT];
    bool is_late = result == PLN_ETIMEOUT && !line->is_broken;
    bool is_silent = pln_clock_precise() - line->heard_at >= pool->timeout;
    snprintf(text, sizeof text, "%s", pln_error_text());
    if (!line->is_taken && result != PLN_ETIMEOUT) {
        pln_line_end_queued(line, result, text); /* they would fare no better */
    } else if (!line->is_taken || (is_late && !is_silent && has_others(line, me))) {
        me->is_late = line->is_taken;
        pln_line_forget(line, me);
        pln_line_end(line, me, result, text, NULL);
    } else {
        lose(pool, line, slot, result, text);
    }
    if (me->state == PLN_REQUEST_QUEUED && pln_clock_precise() >= me->deadline) {
        pln_line_unqueue(line, me);
        pln_line_end(line, me, PLN_ETIMEOUT, text, NULL);
    }
}

/* Another leads from here on, or nobody. Answers that nobody will ask for are not waited for; those
 * to what was posted stay in the connection until their callers come. */
static void hand_over(struct pln_pool *pool, struct pln_line *line, struct pln_slot *slot) {
    struct pln_request *next = first_awaited(line);
    if (next == NULL && line->is_taken && line->queue == NULL &&
        first_in_flight(line, NULL) == NULL) {
        give(pool, line, slot, line->n_in_flight > 0 ? PLN_ETIMEOUT : PLN_OK, 0);
        next = first_awaited(line); /* who came while the lock was open */
    }
    line->leader = next;
    if (next != NULL) {
        pln_line_give_turn(line, next, PLN_TO_LEAD);
    }
}

void pln_line_lead(struct pln_pool *pool, struct pln_line *line, size_t index,
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
            give(pool, line, slot, PLN_OK, 0); /* and take another connection */
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

/* Leads for as long as it takes to send. */
void pln_line_send_off(struct pln_pool *pool, struct pln_line *line, size_t index,
                       struct pln_request *me) {
    struct pln_slot *slot = &pool->slots[index];
    line->leader = me;
    int result = line->is_taken ? PLN_OK : take(pool, line, index, me);
    if (result == PLN_OK && line->queue != NULL && !slot->is_done_for && has_room(line)) {
        result = send_queued(pool, line, slot, me->deadline);
    }
    if (result != PLN_OK) {
        fail(pool, line, slot, me, result);
    }
    hand_over(pool, line, slot);
}
