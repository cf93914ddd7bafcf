/* SPDX-License-Identifier: MIT
 *
 * conn.c - one connection to one server: every operation ends at its deadline, whatever the other
 * side does.
 *
 * stream.c carries the bytes, hiredis only parses them.
 *
 * Replies are bounded: in bytes (max_reply), in elements and depth (reply.c). A string that
 * announces more bytes than are allowed is refused at its announcement.
 *
 * Where hiredis reads RESP3, a login may ask for it: HELLO goes in the same batch, after AUTH, so
 * that a server that does not know it refuses that one command, and all the others still do what
 * they did. (HELLO can say the password too; then such a server would be without it.) What a server
 * pushes is no answer, and is taken out before anybody could take it for one.
 */
#include "internal.h"
#include "topology.h"

#include <stdio.h>

static const pln_ns one_ms = 1000000;

static int lost(struct pln_conn *conn, int status, const char *what) {
    return pln_fail(status, "l2: redis at %s: %s", conn->label, what);
}

/* ---- opening ---- */

int pln_conn_open(struct pln_conn *conn, const struct pln_endpoint *endpoint, struct pln_tls *tls,
                  pln_ns deadline) {
    *conn = (struct pln_conn){
        .stream = {.fd = -1}, .label = endpoint->label, .max_reply = (size_t) 513 * 1024 * 1024};
    if (endpoint->path == NULL && endpoint->port == 0) {
        return lost(conn, PLN_EL2DOWN, "no sentinel has told yet where it is");
    }
    int result = pln_stream_open(&conn->stream, endpoint, tls, deadline);
    if (result != PLN_OK) {
        return result;
    }
    conn->reader = pln_reader_new(&conn->state);
    if (conn->reader == NULL) {
        pln_stream_close(&conn->stream);
        return lost(conn, PLN_ENOMEM, "no memory for a connection");
    }
    return PLN_OK;
}

void pln_conn_set_patience(struct pln_conn *conn, pln_ns timeout) {
    pln_stream_set_patience(&conn->stream, timeout);
}

bool pln_conn_is_open(const struct pln_conn *conn) {
    return conn->reader != NULL;
}

void pln_conn_close(struct pln_conn *conn) {
    if (conn->reader != NULL) {
        redisReaderFree(conn->reader);
        pln_stream_close(&conn->stream);
    }
    *conn = (struct pln_conn){.stream = {.fd = -1}};
}

/* ---- sending and receiving ---- */

int pln_conn_send(struct pln_conn *conn, const struct pln_batch *batch, pln_ns deadline) {
    if (batch->has_failed) {
        return lost(conn, PLN_ENOMEM, "no memory for a command");
    }
    return pln_stream_send(&conn->stream, batch->bytes, batch->len, deadline);
}

int pln_conn_push(struct pln_conn *conn, struct pln_bytes bytes, size_t *sent) {
    return pln_stream_push(&conn->stream, bytes, sent);
}

bool pln_conn_has_unsent(const struct pln_conn *conn) {
    return pln_stream_has_unsent(&conn->stream);
}

int pln_conn_pull(struct pln_conn *conn, void *bytes, size_t size, size_t *n) {
    return pln_stream_pull(&conn->stream, bytes, size, n);
}

int pln_conn_feed(struct pln_conn *conn, const char *bytes, size_t n) {
    conn->reply_bytes += n;
    if (conn->reply_bytes > conn->max_reply) {
        return lost(conn, PLN_EL2DOWN, "a reply over the limit of its size");
    }
    if (redisReaderFeed(conn->reader, bytes, n) != REDIS_OK) {
        return lost(conn, PLN_ENOMEM, conn->reader->errstr);
    }
    return PLN_OK;
}

static int feed(void *arg, const char *bytes, size_t n) {
    return pln_conn_feed(arg, bytes, n);
}

int pln_conn_fill(struct pln_conn *conn, pln_ns deadline) {
    return pln_stream_receive(&conn->stream, deadline, feed, conn);
}

/* What the reader is amid, at a depth of a reply; negative where nothing of it has come. */
static int type_at(const redisReader *reader, int depth) {
    if (depth < 0 || depth > reader->ridx) {
        return -1;
    }
#if HIREDIS_MAJOR >= 1
    return reader->task[depth]->type;
#else
    return reader->rstack[depth].type;
#endif
}

bool pln_conn_is_midway(const struct pln_conn *conn) {
    const redisReader *reader = conn->reader;
    /* of a reply's first byte the reader keeps the type alone */
    return reader->len > reader->pos || type_at(reader, 0) >= 0;
}

/* The bytes that an unfinished bulk has announced; 0 where nothing is known. The reader stands
 * behind its '$', or its '='. */
static long long announced(const redisReader *reader) {
    const char *head = reader->buf + reader->pos;
    int type = type_at(reader, reader->ridx);
    bool is_bulk = type == REDIS_REPLY_STRING;
#if HIREDIS_MAJOR >= 1
    is_bulk = is_bulk || type == REDIS_REPLY_VERB;
#endif
    bool is_whole = is_bulk && memchr(head, '\r', reader->len - reader->pos) != NULL;
    return is_whole ? strtoll(head, NULL, 10) : 0;
}

/* hiredis would wait for all the bytes that a bulk announces, and take memory as they come. */
static int check_bulk(struct pln_conn *conn) {
    long long bytes = announced(conn->reader);
    if (bytes > 0 && (unsigned long long) bytes > conn->max_reply) {
        return pln_fail(PLN_EL2DOWN,
                        "l2: redis at %s: a reply of %lld bytes, over the limit of %zu",
                        conn->label, bytes, conn->max_reply);
    }
    return PLN_MISS;
}

/* Takes a whole object out of the bytes: an answer or a push. */
static int take_object(struct pln_conn *conn, struct pln_reply **reply) {
    void *object = NULL;
    if (redisReaderGetReply(conn->reader, &object) != REDIS_OK) {
        return lost(conn, PLN_EL2DOWN,
                    conn->state.refusal[0] != 0 ? conn->state.refusal : conn->reader->errstr);
    }
    if (object == NULL) {
        return check_bulk(conn);
    }
    *reply = object;
    return PLN_OK;
}

static void drop_push(struct pln_conn *conn, struct pln_reply *push) {
    if (conn->counts != NULL) {
        pln_count(conn->counts, PLN_COUNT_L2_PUSHES, 1);
    }
    pln_reply_free(push);
}

int pln_conn_next(struct pln_conn *conn, struct pln_reply **reply) {
    struct pln_reply *object = NULL;
    int result;
    while ((result = take_object(conn, &object)) == PLN_OK) {
        assert(object != NULL);
        if (object->kind != PLN_REPLY_PUSH) {
            conn->reply_bytes = 0; /* not by a push: whoever says nothing else is bounded too */
            *reply = object;
            return PLN_OK;
        }
        drop_push(conn, object);
    }
    return result;
}

/* Whether what comes next, or what the reader is amid, is a push. */
static bool is_at_push(const redisReader *reader) {
#if HIREDIS_MAJOR >= 1
    int type = type_at(reader, 0);
    return type == REDIS_REPLY_PUSH ||
           (type < 0 && reader->len > reader->pos && reader->buf[reader->pos] == '>');
#else
    (void) reader;
    return false;
#endif
}

bool pln_conn_is_ahead(struct pln_conn *conn) {
    const redisReader *reader = conn->reader;
    struct pln_reply *push = NULL;
    while (is_at_push(reader) && take_object(conn, &push) == PLN_OK) {
        drop_push(conn, push);
    }
    return reader->err != 0 || (reader->len > reader->pos && !is_at_push(reader));
}

bool pln_conn_is_spoilt(struct pln_conn *conn) {
    while (!pln_conn_is_ahead(conn)) {
        if (pln_stream_is_quiet(&conn->stream, feed, conn)) {
            return pln_conn_is_ahead(conn); /* what TLS has given while it looked */
        }
        if (pln_conn_fill(conn, 0) != PLN_OK) {
            return true;
        }
    }
    return true;
}

int pln_conn_receive(struct pln_conn *conn, pln_ns deadline, struct pln_reply **reply) {
    int result;
    while ((result = pln_conn_next(conn, reply)) == PLN_MISS) {
        result = pln_conn_fill(conn, deadline);
        if (result != PLN_OK) {
            return result;
        }
    }
    return result;
}

int pln_conn_exchange(struct pln_conn *conn, const struct pln_batch *batch, pln_ns deadline,
                      struct pln_reply **replies) {
    int result = pln_conn_send(conn, batch, deadline);
    for (size_t i = 0; result == PLN_OK && i < batch->n_commands; i++) {
        result = pln_conn_receive(conn, deadline, &replies[i]);
        if (result != PLN_OK) {
            pln_replies_free(replies, i);
        }
    }
    return result;
}

/* ---- logging in ---- */

static pln_ms time_of(const struct pln_reply *reply) {
    if (reply->kind != PLN_REPLY_ARRAY || reply->n_elements != 2 ||
        reply->elements[0].kind != PLN_REPLY_STRING ||
        reply->elements[1].kind != PLN_REPLY_STRING) {
        return -1;
    }
    long long seconds = strtoll(pln_reply_text(&reply->elements[0]), NULL, 10);
    long long micros = strtoll(pln_reply_text(&reply->elements[1]), NULL, 10);
    bool is_sane = seconds >= 0 && seconds < PLN_L2_LONGEST / 1000 && micros >= 0 &&
                   micros < 1000000;
    return is_sane ? seconds * 1000 + micros / 1000 : -1;
}

bool pln_conn_take_time(struct pln_conn *conn, const struct pln_reply *reply) {
    pln_ms server = time_of(reply);
    if (server >= 0) {
        /* the server looked at its clock somewhere between our sending and now */
        pln_ns half = (pln_clock_precise() - conn->time_asked_at) / 2;
        conn->clock_offset = server - (conn->time_asked_at + half) / one_ms;
        conn->clock_doubt = half / one_ms + 2; /* and what the divisions leave out */
    }
    return server >= 0;
}

static int take_done(struct pln_conn *conn, const struct pln_reply *reply) {
    (void) conn, (void) reply;
    return PLN_OK;
}

static int take_id(struct pln_conn *conn, const struct pln_reply *reply) {
    conn->id = reply->kind == PLN_REPLY_INTEGER ? reply->integer : 0;
    return PLN_OK;
}

static int take_info(struct pln_conn *conn, const struct pln_reply *reply) {
    const char *found = reply->kind == PLN_REPLY_STRING ? strstr(pln_reply_text(reply), "\nrun_id:")
                                                        : NULL;
    if (found != NULL) {
        snprintf(conn->run_id, sizeof conn->run_id, "%s", found + strlen("\nrun_id:"));
        conn->run_id[strcspn(conn->run_id, "\r\n")] = 0;
    }
    return PLN_OK;
}

static int take_role(struct pln_conn *conn, const struct pln_reply *reply) {
    const struct pln_reply *role = reply->kind == PLN_REPLY_ARRAY && reply->n_elements > 0
                                       ? &reply->elements[0]
                                       : NULL;
    if (conn->is_to_replica) {
        struct pln_role is;
        int result = pln_role_read(reply, &is);
        if (result == PLN_OK && (is.kind != PLN_ROLE_REPLICA || !is.is_linked)) {
            result = pln_fail(PLN_EL2DOWN, "l2: redis at %s is no replica that hears its primary",
                              conn->label);
        }
        return result == PLN_OK ? PLN_OK : PLN_EL2DOWN;
    }
    if (!conn->takes_replicas && role != NULL && role->kind == PLN_REPLY_STRING &&
        strcmp(pln_reply_text(role), "master") != 0) {
        return pln_fail(PLN_EL2DOWN, "l2: redis at %s is a %s, not the master", conn->label,
                        pln_reply_text(role));
    }
    return PLN_OK;
}

static int take_time(struct pln_conn *conn, const struct pln_reply *reply) {
    return pln_conn_take_time(conn, reply)
               ? PLN_OK
               : lost(conn, PLN_EL2DOWN, "TIME did not answer with a time");
}

/* The commands of a login, in order. Where one that is not needed is refused (by an ACL, or an old
 * server), we do without what it would have told us. */
static const struct step {
    const char *name;
    bool is_needed;
    int (*take)(struct pln_conn *conn, const struct pln_reply *reply);
    bool is_resp3; /* only of a login that asks for that */
} steps[] = {
    {"AUTH", true, take_done},
    {"HELLO", false, take_done, .is_resp3 = true}, /* refused: it stays RESP2 */
    {"SELECT", true, take_done},
    {"CLIENT SETNAME", false, take_done},
    {"CLIENT ID", false, take_id},
    {"INFO", false, take_info},
    {"ROLE", false, take_role},
    {"TIME", true, take_time},
};

static void write_auth(struct pln_batch *batch, const struct pln_login *login) {
    if (login->password != NULL && login->username != NULL) {
        pln_batch_texts(batch, "AUTH", login->username, login->password, NULL);
    } else if (login->password != NULL) {
        pln_batch_texts(batch, "AUTH", login->password, NULL);
    } else {
        pln_batch_texts(batch, "PING", NULL); /* so that the answers keep their places */
    }
}

static void write_login(struct pln_batch *batch, const struct pln_login *login, const char *name,
                        enum pln_resp resp) {
    write_auth(batch, login);
    if (resp == PLN_RESP3) {
        pln_batch_texts(batch, "HELLO", "3", NULL);
    }
    pln_batch_command(batch, 2);
    pln_batch_text(batch, "SELECT");
    pln_batch_number(batch, login->database);
    pln_batch_texts(batch, "CLIENT", "SETNAME", name, NULL);
    pln_batch_texts(batch, "CLIENT", "ID", NULL);
    pln_batch_texts(batch, "INFO", "server", NULL);
    pln_batch_texts(batch, "ROLE", NULL);
    pln_batch_texts(batch, "TIME", NULL);
}

static int take_step(struct pln_conn *conn, const struct step *step,
                     const struct pln_reply *reply) {
    if (reply->kind != PLN_REPLY_ERROR) {
        return step->take(conn, reply);
    }
    const struct pln_refusal *refusal = pln_refusal_of(reply);
    if (refusal != NULL && refusal->is_pong) { /* in the place of AUTH */
        return PLN_OK;
    }
    if (step->is_needed || (refusal != NULL && refusal->is_fatal)) {
        char hint[PLN_ERROR_TEXT / 2];
        pln_refusal_hint(reply, hint, sizeof hint);
        return pln_fail(PLN_EL2DOWN, "l2: redis at %s refused %s: %s%s", conn->label, step->name,
                        pln_reply_text(reply), hint);
    }
    return PLN_OK;
}

int pln_conn_login(struct pln_conn *conn, const struct pln_login *login, const char *name,
                   enum pln_resp resp, pln_ns deadline) {
    struct pln_batch batch;
    pln_batch_init(&batch);
    write_login(&batch, login, name, resp);
    conn->time_asked_at = pln_clock_precise();
    /* a server that is full says so and closes: its word is worth more than our broken pipe */
    int sent = pln_conn_send(conn, &batch, deadline);
    int result = sent == PLN_EL2DOWN ? PLN_OK : sent;
    for (size_t i = 0; result == PLN_OK && i < PLN_ARRAY_LEN(steps); i++) {
        struct pln_reply *reply = NULL;
        if (steps[i].is_resp3 && resp != PLN_RESP3) {
            continue;
        }
        result = pln_conn_receive(conn, deadline, &reply);
        if (result == PLN_OK) {
            result = take_step(conn, &steps[i], reply);
            pln_reply_free(reply);
        }
    }
    pln_batch_fini(&batch);
    return result;
}

int pln_conn_greet(struct pln_conn *conn, const struct pln_login *login, pln_ns deadline) {
    struct pln_batch batch;
    struct pln_reply *reply = NULL;
    if (login->password == NULL) {
        return PLN_OK;
    }
    pln_batch_init(&batch);
    write_auth(&batch, login);
    int result = pln_conn_exchange(conn, &batch, deadline, &reply);
    assert(result != PLN_OK || reply != NULL);
    if (result == PLN_OK) {
        result = take_step(conn, &steps[0], reply);
    }
    pln_reply_free(reply);
    pln_batch_fini(&batch);
    return result;
}
