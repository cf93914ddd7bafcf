/* SPDX-License-Identifier: MIT
 *
 * conn.c - one connection to one server: every operation ends at its deadline, whatever the other
 * side does.
 *
 * hiredis connects and parses. Sending and receiving are our own: hiredis 0.14 writes without
 * MSG_NOSIGNAL, so a reset would kill the process, and it knows timeouts per read only, so a
 * server that sends a byte now and then would never be given up.
 *
 * The usual exchange is two system calls, as with plain hiredis: where the deadline is further
 * away than the socket's own receive timeout, recv() sleeps; only near the deadline poll() does.
 *
 * Replies are bounded: in bytes (max_reply), in elements (reply.c), in depth by hiredis. A string
 * that announces more bytes than are allowed is refused at its announcement.
 */
#include "internal.h"

#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <stdio.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

enum {
    FEED_BYTES = 16 * 1024, /* measured: larger reads parse slower */
    USER_TIMEOUT_MS = 5000, /* unacknowledged bytes end a TCP connection after that */
};

static const pln_ns one_ms = 1000000;
/* The kernel counts the socket's timeout in its ticks, so it may sleep so much longer. */
static const pln_ns tick = 8 * 1000000;

static int lost(struct pln_conn *conn, int status, const char *what) {
    return pln_fail(status, "l2: redis at %s: %s", conn->label, what);
}

/* ---- opening ---- */

static redisContext *dial(const struct pln_url *url, pln_ns left) {
    struct timeval timeout = {.tv_sec = left / 1000000000, .tv_usec = left % 1000000000 / 1000 + 1};
    if (url->path != NULL) {
        return redisConnectUnixWithTimeout(url->path, timeout);
    }
    return redisConnectWithTimeout(url->host, url->port, timeout);
}

int pln_conn_open(struct pln_conn *conn, const struct pln_url *url, pln_ns deadline) {
    *conn = (struct pln_conn){
        .fd = -1, .label = url->label, .max_reply = (size_t) 513 * 1024 * 1024};
    pln_ns left = deadline - pln_clock_precise();
    if (left <= 0) {
        return lost(conn, PLN_ETIMEOUT, "the deadline passed before a connection was made");
    }
    redisContext *context = dial(url, left);
    if (context == NULL) {
        return lost(conn, PLN_ENOMEM, "no memory for a connection");
    }
    if (context->err != 0) {
        int result = lost(conn, PLN_EL2DOWN, context->errstr);
        redisFree(context);
        return result;
    }
    conn->reader = pln_reader_new(&conn->state);
    if (conn->reader == NULL) {
        redisFree(context);
        return lost(conn, PLN_ENOMEM, "no memory for a connection");
    }
    conn->fd = redisFreeKeepFd(context);
    fcntl(conn->fd, F_SETFD, FD_CLOEXEC);
    if (url->path == NULL) {
        unsigned timeout = USER_TIMEOUT_MS;
        int on = 1;
        setsockopt(conn->fd, IPPROTO_TCP, TCP_USER_TIMEOUT, &timeout, sizeof timeout);
        setsockopt(conn->fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
    }
    return PLN_OK;
}

void pln_conn_set_patience(struct pln_conn *conn, pln_ns timeout) {
    struct timeval wait = {.tv_sec = timeout / 1000000000, .tv_usec = timeout % 1000000000 / 1000};
    if (timeout > 2 * tick &&
        setsockopt(conn->fd, SOL_SOCKET, SO_RCVTIMEO, &wait, sizeof wait) == 0) {
        conn->receive_timeout = timeout;
    }
}

bool pln_conn_is_open(const struct pln_conn *conn) {
    return conn->reader != NULL;
}

bool pln_conn_is_ahead(const struct pln_conn *conn) {
    return conn->reader->len > conn->reader->pos;
}

bool pln_conn_is_spoilt(const struct pln_conn *conn) {
    char byte;
    return pln_conn_is_ahead(conn) || recv(conn->fd, &byte, 1, MSG_PEEK | MSG_DONTWAIT) >= 0 ||
           (errno != EAGAIN && errno != EWOULDBLOCK && errno != EINTR);
}

void pln_conn_close(struct pln_conn *conn) {
    if (conn->reader != NULL) {
        redisReaderFree(conn->reader);
        close(conn->fd);
    }
    *conn = (struct pln_conn){.fd = -1};
}

/* ---- sending and receiving ---- */

static int wait_for(struct pln_conn *conn, short events, pln_ns left) {
    struct pollfd poll = {.fd = conn->fd, .events = events};
    struct timespec timeout = pln_timespec(left);
    if (left <= 0) {
        return lost(conn, PLN_ETIMEOUT, "no answer before the deadline");
    }
    if (ppoll(&poll, 1, &timeout, NULL) < 0 && errno != EINTR) {
        return lost(conn, PLN_EL2DOWN, strerror(errno));
    }
    return PLN_OK;
}

int pln_conn_send(struct pln_conn *conn, const struct pln_batch *batch, pln_ns deadline) {
    size_t sent = 0;
    conn->sent_at = pln_clock_precise();
    if (batch->has_failed) {
        return lost(conn, PLN_ENOMEM, "no memory for a command");
    }
    while (sent < batch->len) {
        ssize_t n = send(conn->fd, batch->bytes + sent, batch->len - sent,
                         MSG_NOSIGNAL | MSG_DONTWAIT);
        if (n >= 0) {
            sent += (size_t) n;
        } else if (errno == EAGAIN || errno == EWOULDBLOCK) {
            int result = wait_for(conn, POLLOUT, deadline - pln_clock_precise());
            if (result != PLN_OK) {
                return result;
            }
        } else if (errno != EINTR) {
            return lost(conn, PLN_EL2DOWN, strerror(errno));
        }
    }
    return PLN_OK;
}

int pln_conn_push(struct pln_conn *conn, struct pln_bytes bytes, size_t *sent) {
    ssize_t n = send(conn->fd, bytes.data, bytes.len, MSG_NOSIGNAL | MSG_DONTWAIT);
    if (n < 0 && errno != EAGAIN && errno != EWOULDBLOCK && errno != EINTR) {
        return lost(conn, PLN_EL2DOWN, strerror(errno));
    }
    *sent = n < 0 ? 0 : (size_t) n;
    return PLN_OK;
}

int pln_conn_pull(struct pln_conn *conn, void *bytes, size_t size, size_t *n) {
    ssize_t got = recv(conn->fd, bytes, size, MSG_DONTWAIT);
    if (got > 0) {
        *n = (size_t) got;
        return PLN_OK;
    }
    if (got == 0) {
        return lost(conn, PLN_EL2DOWN, "the server closed the connection");
    }
    return errno == EAGAIN || errno == EWOULDBLOCK || errno == EINTR
               ? PLN_MISS
               : lost(conn, PLN_EL2DOWN, strerror(errno));
}

bool pln_conn_is_midway(const struct pln_conn *conn) {
    return pln_conn_is_ahead(conn) || conn->reader->reply != NULL;
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

int pln_conn_fill(struct pln_conn *conn, pln_ns deadline) {
    char bytes[FEED_BYTES];
    for (;;) {
        pln_ns left = deadline - pln_clock_precise();
        bool may_sleep = conn->receive_timeout > 0 && left > conn->receive_timeout + tick;
        ssize_t n = recv(conn->fd, bytes, sizeof bytes, may_sleep ? 0 : MSG_DONTWAIT);
        if (n > 0) {
            return pln_conn_feed(conn, bytes, (size_t) n);
        }
        if (n == 0) {
            return lost(conn, PLN_EL2DOWN, "the server closed the connection");
        }
        if (errno != EAGAIN && errno != EWOULDBLOCK && errno != EINTR) {
            return lost(conn, PLN_EL2DOWN, strerror(errno));
        }
        int result = may_sleep ? PLN_OK : wait_for(conn, POLLIN, left);
        if (result != PLN_OK) {
            return result;
        }
    }
}

/* Of a string that has begun, the reader has its length in front of it: whether it is too long. */
static bool announces_too_much(const struct pln_conn *conn) {
    const redisReader *reader = conn->reader;
    return reader->pos < reader->len && reader->buf[reader->pos] == '$' &&
           strtoull(reader->buf + reader->pos + 1, NULL, 10) > conn->max_reply &&
           reader->buf[reader->pos + 1] != '-';
}

int pln_conn_next(struct pln_conn *conn, struct pln_reply **reply) {
    void *object = NULL;
    if (redisReaderGetReply(conn->reader, &object) != REDIS_OK) {
        return lost(conn, PLN_EL2DOWN,
                    conn->state.refusal[0] != 0 ? conn->state.refusal : conn->reader->errstr);
    }
    if (object == NULL) {
        return announces_too_much(conn)
                   ? lost(conn, PLN_EL2DOWN, "a reply over the limit of its size")
                   : PLN_MISS;
    }
    conn->reply_bytes = 0;
    *reply = object;
    return PLN_OK;
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
    bool is_sane = seconds >= 0 && seconds < PLN_L2_LONGEST / 1000 && micros >= 0;
    return is_sane ? seconds * 1000 + micros / 1000 : -1;
}

bool pln_conn_take_time(struct pln_conn *conn, const struct pln_reply *reply) {
    pln_ms server = time_of(reply);
    if (server >= 0) {
        /* the server looked at its clock somewhere between our sending and now */
        pln_ns middle = conn->sent_at + (pln_clock_precise() - conn->sent_at) / 2;
        conn->clock_offset = server - middle / one_ms;
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
    if (role != NULL && role->kind == PLN_REPLY_STRING &&
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
} steps[] = {
    {"AUTH", true, take_done},
    {"SELECT", true, take_done},
    {"CLIENT SETNAME", false, take_done},
    {"CLIENT ID", false, take_id},
    {"INFO", false, take_info},
    {"ROLE", false, take_role},
    {"TIME", true, take_time},
};

static void write_login(struct pln_batch *batch, const struct pln_url *url, const char *name) {
    if (url->password != NULL && url->username != NULL) {
        pln_batch_texts(batch, "AUTH", url->username, url->password, NULL);
    } else if (url->password != NULL) {
        pln_batch_texts(batch, "AUTH", url->password, NULL);
    } else {
        pln_batch_texts(batch, "PING", NULL); /* so that the answers keep their places */
    }
    pln_batch_command(batch, 2);
    pln_batch_text(batch, "SELECT");
    pln_batch_number(batch, url->database);
    pln_batch_texts(batch, "CLIENT", "SETNAME", name, NULL);
    pln_batch_texts(batch, "CLIENT", "ID", NULL);
    pln_batch_texts(batch, "INFO", "server", NULL);
    pln_batch_texts(batch, "ROLE", NULL);
    pln_batch_texts(batch, "TIME", NULL);
}

/* Errors after which no other command will do better. */
static bool is_fatal(const struct pln_reply *reply) {
    static const char *const prefixes[] = {"NOAUTH",     "WRONGPASS", "LOADING",
                                           "MASTERDOWN", "DENIED",    "ERR max number of clients"};
    for (size_t i = 0; i < PLN_ARRAY_LEN(prefixes); i++) {
        if (pln_reply_is(reply, prefixes[i])) {
            return true;
        }
    }
    return false;
}

static int take_step(struct pln_conn *conn, const struct step *step,
                     const struct pln_reply *reply) {
    if (reply->kind != PLN_REPLY_ERROR) {
        return step->take(conn, reply);
    }
    if (step->is_needed || is_fatal(reply)) {
        return pln_fail(PLN_EL2DOWN, "l2: redis at %s refused %s: %s", conn->label, step->name,
                        pln_reply_text(reply));
    }
    return PLN_OK;
}

int pln_conn_login(struct pln_conn *conn, const struct pln_url *url, const char *name,
                   pln_ns deadline) {
    struct pln_batch batch;
    pln_batch_init(&batch);
    write_login(&batch, url, name);
    /* a server that is full says so and closes: its word is worth more than our broken pipe */
    int sent = pln_conn_send(conn, &batch, deadline);
    int result = sent == PLN_EL2DOWN ? PLN_OK : sent;
    for (size_t i = 0; result == PLN_OK && i < PLN_ARRAY_LEN(steps); i++) {
        struct pln_reply *reply = NULL;
        result = pln_conn_receive(conn, deadline, &reply);
        if (result == PLN_OK) {
            result = take_step(conn, &steps[i], reply);
            pln_reply_free(reply);
        }
    }
    pln_batch_fini(&batch);
    return result;
}
