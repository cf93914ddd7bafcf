/* SPDX-License-Identifier: MIT
 *
 * courier.c - what the courier sends and receives: commands in batches, answers in their order.
 *
 * Answers are nearly all plain strings, found by their length without a copy. What is not, or is
 * larger than the buffer, goes through hiredis's reader, to its end.
 */
#include "courier.h"

enum {
    MOST_BYTES = 8 * 1024 * 1024, /* of commands in flight; one more may be over it */
    KEPT_BYTES = 1024 * 1024,     /* of a buffer for commands, between two rounds */
    HEAD_BYTES = 16,              /* of a string in the buffer: '$', its length, CR LF */
};

struct sent pln_courier_next(struct pln_async *async) {
    struct sent sent = *in_flight(async, 0);
    async->first_in_flight = (async->first_in_flight + 1) % MOST_IN_FLIGHT;
    async->n_in_flight--;
    async->bytes_in_flight -= sent.bytes;
    return sent;
}

/* ---- sending ---- */

static void put_in_flight(struct pln_async *async, struct sent sent, size_t from) {
    sent.bytes = (uint32_t) (async->batch.len - from);
    async->bytes_in_flight += sent.bytes;
    *in_flight(async, async->n_in_flight++) = sent;
}

/* Writes what is queued, as far as there is room. The clock is asked for on a busy connection too:
 * one on which answers are always awaited would never learn it else. */
static void write_queued(struct pln_async *async) {
    struct pln_batch *batch = &async->batch;
    if (async->n_in_flight == 0) {
        async->heard_at = async->now;
    }
    if (!async->awaits_time && async->n_in_flight < MOST_IN_FLIGHT &&
        pln_pool_needs_time(async->pool, slot_of(async))) {
        pln_batch_texts(batch, "TIME", NULL);
        put_in_flight(async, (struct sent){.is_time = true}, 0);
        async->awaits_time = true;
        async->time_asked_at = pln_clock_precise();
    }
    while (async->queue.first != NULL && async->n_in_flight + 1 < MOST_IN_FLIGHT &&
           async->bytes_in_flight < MOST_BYTES) {
        struct pln_errand *errand = take_first(&async->queue);
        if (errand->is_asking) {
            pln_batch_texts(batch, "ASKING", NULL);
            put_in_flight(async, (struct sent){.deadline = errand->deadline}, batch->len);
        }
        size_t from = batch->len;
        errand->write(errand, batch);
        put_in_flight(
            async,
            (struct sent){.errand = errand, .deadline = errand->deadline, .kinds = errand->kinds},
            from);
    }
    pln_count(async->pool->counts, PLN_COUNT_L2_COMMANDS, batch->n_commands);
    batch->n_commands = 0;
}

static int push(struct pln_async *async) {
    struct pln_batch *batch = &async->batch;
    size_t sent = 0;
    if (batch->has_failed) {
        return pln_fail(PLN_ENOMEM, "l2: redis at %s: no memory for a command",
                        pln_pool_label(async->pool));
    }
    int result = pln_conn_push(
        &slot_of(async)->conn,
        pln_bytes_of(batch->bytes + async->n_sent, batch->len - async->n_sent), &sent);
    async->n_sent += sent;
    if (async->n_sent == batch->len) {
        async->n_sent = batch->len = 0;
        if (batch->size > KEPT_BYTES) {
            pln_batch_fini(batch);
        }
    }
    return result;
}

int pln_courier_send(struct pln_async *async) {
    bool may_write = async->batch.len == 0 && !slot_of(async)->is_done_for;
    if (may_write && async->queue.first != NULL) {
        write_queued(async);
    }
    bool has_bytes = async->batch.len > 0 ||
                     (async->is_taken && pln_conn_has_unsent(&slot_of(async)->conn));
    return has_bytes ? push(async) : PLN_OK;
}

/* ---- receiving ---- */

static int hand_out(struct pln_async *async, const struct pln_reply *reply) {
    if (async->n_in_flight == 0) {
        return pln_fail(PLN_EL2DOWN, "l2: redis at %s: an answer that nobody asked for",
                        pln_pool_label(async->pool));
    }
    struct sent sent = pln_courier_next(async);
    bool is_right = sent.kinds == 0 || reply->kind == PLN_REPLY_ERROR ||
                    (sent.kinds & PLN_KIND(reply->kind)) != 0;
    if (!is_right) { /* of another command, or of none: and so are those behind it */
        int result = pln_fail(PLN_EL2DOWN, "l2: redis at %s: an answer of an unexpected kind (%d)",
                              pln_pool_label(async->pool), reply->kind);
        if (sent.errand != NULL) {
            sent.errand->end(sent.errand, result, NULL);
        }
        return pln_fail(PLN_EL2DOWN, "l2: redis at %s: an answer of an unexpected kind",
                        pln_pool_label(async->pool));
    }
    if (sent.is_time || reply->kind == PLN_REPLY_ERROR) {
        if (sent.is_time) { /* others were sent since */
            slot_of(async)->conn.time_asked_at = async->time_asked_at;
            async->awaits_time = false;
        }
        pln_pool_note_reply(async->pool, slot_of(async), sent.is_time, reply);
    }
    if (sent.errand != NULL) {
        sent.errand->end(sent.errand, PLN_OK, reply);
    }
    return PLN_OK;
}

/* A string, or nil, at the beginning of some bytes. Returns how many are its own; 0 where it is not
 * whole; SIZE_MAX where there is something else, or what is too large to wait for. */
static size_t find_string(char *bytes, size_t n, struct pln_reply *reply) {
    size_t len = 0, at = 1;
    if (bytes[0] != '$') {
        return SIZE_MAX;
    }
    while (at < n && at < HEAD_BYTES - 2 && bytes[at] >= '0' && bytes[at] <= '9') {
        len = len * 10 + (size_t) (bytes[at++] - '0');
    }
    if (at + 2 > n) {
        return 0;
    }
    if (at == 1) {
        *reply = (struct pln_reply){.kind = PLN_REPLY_NIL};
        return memcmp(bytes, "$-1\r\n", n < 5 ? n : 5) != 0 ? SIZE_MAX : n < 5 ? 0 : 5;
    }
    size_t whole = at + 2 + len + 2;
    if (bytes[at] != '\r' || bytes[at + 1] != '\n' || whole > BUFFER_BYTES) {
        return SIZE_MAX;
    }
    if (whole > n) {
        return 0;
    }
    char *end_of_text = bytes + whole - 2;
    if (end_of_text[0] != '\r' || end_of_text[1] != '\n') {
        return SIZE_MAX;
    }
    *end_of_text = 0; /* as a reply has it */
    *reply = (struct pln_reply){.kind = PLN_REPLY_STRING,
                                .bytes = pln_bytes_of(bytes + at + 2, len)};
    return whole;
}

/* All that is in the buffer from a place on, by hiredis's reader. */
static int read_any(struct pln_async *async, size_t at) {
    struct pln_conn *conn = &slot_of(async)->conn;
    struct pln_reply *reply;
    int result = pln_conn_feed(conn, async->buffer + at, async->n_bytes - at);
    while (result == PLN_OK && (result = pln_conn_next(conn, &reply)) == PLN_OK) {
        result = hand_out(async, reply);
        pln_reply_free(reply);
    }
    return result == PLN_MISS ? PLN_OK : result;
}

static int read_buffer(struct pln_async *async) {
    size_t at = 0;
    while (at < async->n_bytes) {
        struct pln_reply reply;
        size_t n = pln_conn_is_midway(&slot_of(async)->conn)
                       ? SIZE_MAX
                       : find_string(async->buffer + at, async->n_bytes - at, &reply);
        int result = n == 0          ? PLN_MISS
                     : n == SIZE_MAX ? read_any(async, at)
                                     : hand_out(async, &reply);
        if (result == PLN_MISS) {
            break;
        }
        if (result != PLN_OK) {
            return result;
        }
        at = n == SIZE_MAX ? async->n_bytes : at + n;
    }
    async->n_bytes -= at;
    memmove(async->buffer, async->buffer + at, async->n_bytes);
    return PLN_OK;
}

int pln_courier_receive(struct pln_async *async) {
    size_t n = 0;
    if (!async->is_taken) {
        return PLN_MISS;
    }
    int result = pln_conn_pull(&slot_of(async)->conn, async->buffer + async->n_bytes,
                               sizeof async->buffer - async->n_bytes, &n);
    if (result != PLN_OK) {
        return result;
    }
    size_t awaited = async->n_in_flight;
    async->n_bytes += n;
    async->heard_at = async->now;
    result = read_buffer(async);
    if (async->n_in_flight < awaited) {
        _Atomic uint64_t *n_answered = &slot_of(async)->line.n_answered;
        /* relaxed: only counted; written by the courier alone */
        uint64_t before = atomic_load_explicit(n_answered, memory_order_relaxed);
        atomic_store_explicit(n_answered, before + awaited - async->n_in_flight,
                              memory_order_relaxed); /* relaxed: as is */
        pln_breaker_praise(&async->pool->breaker, pln_pool_label(async->pool));
    }
    return result;
}
