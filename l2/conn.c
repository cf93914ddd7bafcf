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
 * Replies are bounded: in bytes (max_reply), in elements of all their arrays, in depth by hiredis.
 * What is announced over a bound is refused when the announcement is read.
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
    FEED_BYTES = 16 * 1024,     /* measured: larger reads parse slower */
    MAX_ELEMENTS = 1024 * 1024, /* of one reply; what we ask for is bounded below that */
    USER_TIMEOUT_MS = 5000,     /* unacknowledged bytes end a TCP connection after that */
};

static const pln_ns one_ms = 1000000;
/* The kernel counts the socket's timeout in its ticks, so it may sleep so much longer. */
static const pln_ns tick = 8 * 1000000;

static int lost(struct pln_conn *conn, int status, const char *what) {
    return pln_fail(status, "l2: redis at %s: %s", conn->label, what);
}

/* ---- opening ---- */

#if HIREDIS_MAJOR >= 1
static void *create_array(const redisReadTask *task, size_t n)
#else
static void *create_array(const redisReadTask *task, int n)
#endif
{
    struct pln_conn *conn = task->privdata;
    conn->reply_elements += (size_t) n; /* of all: arrays in arrays multiply */
    if (conn->reply_elements > MAX_ELEMENTS) {
        return NULL;
    }
    return conn->defaults->createArray(task, n);
}

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
    conn->reader = redisReaderCreate();
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
    conn->defaults = conn->reader->fn;
    conn->functions = *conn->defaults;
    conn->functions.createArray = create_array;
    conn->reader->fn = &conn->functions;
    conn->reader->privdata = conn;
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

static int feed(struct pln_conn *conn, const char *bytes, size_t n) {
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
            return feed(conn, bytes, (size_t) n);
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

/* The bytes that an unfinished bulk has announced; 0 where nothing is known. The reader stands
 * behind its '$'. */
static long long announced(const redisReader *reader) {
    const char *head = reader->buf + reader->pos;
#if HIREDIS_MAJOR >= 1
    bool is_bulk = reader->ridx >= 0 && reader->task[reader->ridx]->type == REDIS_REPLY_STRING;
#else
    bool is_bulk = reader->ridx >= 0 && reader->rstack[reader->ridx].type == REDIS_REPLY_STRING;
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

int pln_conn_next(struct pln_conn *conn, redisReply **reply) {
    void *object = NULL;
    if (redisReaderGetReply(conn->reader, &object) != REDIS_OK) {
        return conn->reply_elements <= MAX_ELEMENTS
                   ? lost(conn, PLN_EL2DOWN, conn->reader->errstr)
                   : pln_fail(PLN_EL2DOWN,
                              "l2: redis at %s: a reply of %zu elements, over the limit of %d",
                              conn->label, conn->reply_elements, MAX_ELEMENTS);
    }
    if (object == NULL) {
        return check_bulk(conn);
    }
    conn->reply_bytes = 0;
    conn->reply_elements = 0;
    *reply = object;
    return PLN_OK;
}

int pln_conn_receive(struct pln_conn *conn, pln_ns deadline, redisReply **reply) {
    int result;
    while ((result = pln_conn_next(conn, reply)) == PLN_MISS) {
        result = pln_conn_fill(conn, deadline);
        if (result != PLN_OK) {
            return result;
        }
    }
    return result;
}

void pln_replies_free(redisReply **replies, size_t n) {
    for (size_t i = 0; i < n; i++) {
        if (replies[i] != NULL) {
            freeReplyObject(replies[i]);
            replies[i] = NULL;
        }
    }
}

int pln_conn_exchange(struct pln_conn *conn, const struct pln_batch *batch, pln_ns deadline,
                      redisReply **replies) {
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

bool pln_reply_is(const redisReply *reply, const char *error_prefix) {
    return reply->type == REDIS_REPLY_ERROR &&
           strncmp(reply->str, error_prefix, strlen(error_prefix)) == 0;
}

static pln_ms time_of(const redisReply *reply) {
    if (reply->type != REDIS_REPLY_ARRAY || reply->elements != 2 ||
        reply->element[0]->type != REDIS_REPLY_STRING ||
        reply->element[1]->type != REDIS_REPLY_STRING) {
        return -1;
    }
    long long seconds = strtoll(reply->element[0]->str, NULL, 10);
    long long micros = strtoll(reply->element[1]->str, NULL, 10);
    bool is_sane = seconds >= 0 && seconds < PLN_L2_LONGEST / 1000 && micros >= 0;
    return is_sane ? seconds * 1000 + micros / 1000 : -1;
}

bool pln_conn_take_time(struct pln_conn *conn, const redisReply *reply) {
    pln_ms server = time_of(reply);
    if (server >= 0) {
        /* the server looked at its clock somewhere between our sending and now */
        pln_ns middle = conn->sent_at + (pln_clock_precise() - conn->sent_at) / 2;
        conn->clock_offset = server - middle / one_ms;
    }
    return server >= 0;
}

static int take_done(struct pln_conn *conn, const redisReply *reply) {
    (void) conn, (void) reply;
    return PLN_OK;
}

static int take_id(struct pln_conn *conn, const redisReply *reply) {
    conn->id = reply->type == REDIS_REPLY_INTEGER ? reply->integer : 0;
    return PLN_OK;
}

static int take_info(struct pln_conn *conn, const redisReply *reply) {
    const char *found = reply->type == REDIS_REPLY_STRING ? strstr(reply->str, "\nrun_id:") : NULL;
    if (found != NULL) {
        snprintf(conn->run_id, sizeof conn->run_id, "%s", found + strlen("\nrun_id:"));
        conn->run_id[strcspn(conn->run_id, "\r\n")] = 0;
    }
    return PLN_OK;
}

static int take_role(struct pln_conn *conn, const redisReply *reply) {
    const redisReply *role = reply->type == REDIS_REPLY_ARRAY && reply->elements > 0
                                 ? reply->element[0]
                                 : NULL;
    if (role != NULL && role->type == REDIS_REPLY_STRING && strcmp(role->str, "master") != 0) {
        return pln_fail(PLN_EL2DOWN, "l2: redis at %s is a %s, not the master", conn->label,
                        role->str);
    }
    return PLN_OK;
}

static int take_time(struct pln_conn *conn, const redisReply *reply) {
    return pln_conn_take_time(conn, reply)
               ? PLN_OK
               : lost(conn, PLN_EL2DOWN, "TIME did not answer with a time");
}

/* The commands of a login, in order. Where one that is not needed is refused (by an ACL, or an old
 * server), we do without what it would have told us. */
static const struct step {
    const char *name;
    bool is_needed;
    int (*take)(struct pln_conn *conn, const redisReply *reply);
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
static bool is_fatal(const redisReply *reply) {
    static const char *const prefixes[] = {"NOAUTH",     "WRONGPASS", "LOADING",
                                           "MASTERDOWN", "DENIED",    "ERR max number of clients"};
    for (size_t i = 0; i < PLN_ARRAY_LEN(prefixes); i++) {
        if (pln_reply_is(reply, prefixes[i])) {
            return true;
        }
    }
    return false;
}

static int take_step(struct pln_conn *conn, const struct step *step, const redisReply *reply) {
    if (reply->type != REDIS_REPLY_ERROR) {
        return step->take(conn, reply);
    }
    if (step->is_needed || is_fatal(reply)) {
        return pln_fail(PLN_EL2DOWN, "l2: redis at %s refused %s: %s", conn->label, step->name,
                        reply->str);
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
        redisReply *reply = NULL;
        result = pln_conn_receive(conn, deadline, &reply);
        if (result == PLN_OK) {
            result = take_step(conn, &steps[i], reply);
            freeReplyObject(reply);
        }
    }
    pln_batch_fini(&batch);
    return result;
}
