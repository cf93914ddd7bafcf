/* SPDX-License-Identifier: MIT
 *
 * stream.c - bytes to and from a server, in the clear or over TLS: every call ends at its deadline,
 * whatever the other side does.
 *
 * The usual exchange is two system calls: one send(), and one recv() that sleeps, where the
 * deadline is further away than the socket's own receive timeout; only near the deadline poll()
 * does. That holds for TLS too, which is a change of bytes between here and the socket: whatever
 * has come is opened at once, so that a socket without bytes means that there are none.
 *
 * Everything goes out by send() with MSG_NOSIGNAL, so a reset does not kill the process.
 */
#include "internal.h"
#include "stream.h"

#include <errno.h>
#include <poll.h>
#include <stdio.h>
#include <sys/socket.h>
#include <unistd.h>

enum {
    FEED_BYTES = 16 * 1024, /* measured: larger reads parse slower */
    SEAL_BYTES = 256 *
                 1024, /* sealed and sent at a time, so that a large value is not there twice */
};

/* The kernel counts the socket's timeout in its ticks, so it may sleep so much longer. */
static const pln_ns tick = 8 * 1000000;

static int lost(const struct pln_stream *stream, int status, const char *what) {
    return pln_fail(status, "l2: redis at %s: %s", stream->label, what);
}

/* Puts the server's name before what tls.c had to say. */
static int lost_in_tls(const struct pln_stream *stream, int status) {
    char text[PLN_ERROR_TEXT];
    snprintf(text, sizeof text, "%s", pln_error_text());
    return lost(stream, status, text);
}

static int wait_for(const struct pln_stream *stream, short events, pln_ns left) {
    struct pollfd poll = {.fd = stream->fd, .events = events};
    struct timespec timeout = pln_timespec(left);
    if (left <= 0) {
        return lost(stream, PLN_ETIMEOUT, "no answer before the deadline");
    }
    if (ppoll(&poll, 1, &timeout, NULL) < 0 && errno != EINTR) {
        return lost(stream, PLN_EL2DOWN, strerror(errno));
    }
    return PLN_OK;
}

/* ---- sending ---- */

static bool would_wait(int error) {
    return error == EAGAIN || error == EWOULDBLOCK;
}

static int send_raw(const struct pln_stream *stream, const char *bytes, size_t n, pln_ns deadline) {
    size_t sent = 0;
    while (sent < n) {
        ssize_t more = send(stream->fd, bytes + sent, n - sent, MSG_NOSIGNAL | MSG_DONTWAIT);
        if (more >= 0) {
            sent += (size_t) more;
        } else if (would_wait(errno)) {
            int result = wait_for(stream, POLLOUT, deadline - pln_clock_precise());
            if (result != PLN_OK) {
                return result;
            }
        } else if (errno != EINTR) {
            return lost(stream, PLN_EL2DOWN, strerror(errno));
        }
    }
    return PLN_OK;
}

static int send_sealed(struct pln_stream *stream, pln_ns deadline) {
    struct pln_bytes unsent = pln_secure_unsent(stream->secure);
    int result = unsent.len == 0 ? PLN_OK : send_raw(stream, unsent.data, unsent.len, deadline);
    if (result == PLN_OK) {
        pln_secure_sent(stream->secure, unsent.len);
    }
    return result;
}

int pln_stream_send(struct pln_stream *stream, const void *bytes, size_t n, pln_ns deadline) {
    if (stream->secure == NULL) {
        return send_raw(stream, bytes, n, deadline);
    }
    int result = PLN_OK;
    for (size_t at = 0; result == PLN_OK && at < n; at += SEAL_BYTES) {
        size_t len = n - at < SEAL_BYTES ? n - at : SEAL_BYTES;
        result = pln_secure_write(stream->secure, (const char *) bytes + at, len);
        result = result == PLN_OK ? send_sealed(stream, deadline) : lost_in_tls(stream, result);
    }
    return result;
}

/* ---- receiving ---- */

/* Opens what has come and hands it over. */
static int open_sealed(struct pln_stream *stream, const char *bytes, size_t n,
                       int (*take)(void *, const char *, size_t), void *arg) {
    char plain[FEED_BYTES];
    size_t n_plain;
    int result = pln_secure_put(stream->secure, bytes, n);
    while (result == PLN_OK) {
        result = pln_secure_read(stream->secure, plain, sizeof plain, &n_plain);
        if (result == PLN_OK) {
            int taken = take(arg, plain, n_plain);
            if (taken != PLN_OK) {
                return taken;
            }
        }
    }
    if (result < 0) {
        return lost_in_tls(stream, result);
    }
    /* TLS may have an answer of its own to give; it is not waited for */
    struct pln_bytes unsent = pln_secure_unsent(stream->secure);
    ssize_t sent = unsent.len == 0
                       ? 0
                       : send(stream->fd, unsent.data, unsent.len, MSG_NOSIGNAL | MSG_DONTWAIT);
    pln_secure_sent(stream->secure, sent > 0 ? (size_t) sent : 0);
    return result == PLN_MISS ? PLN_OK
                              : lost(stream, PLN_EL2DOWN, "the server closed the connection");
}

/* An end of the stream. What was cut off says no farewell under TLS. */
static int ended(const struct pln_stream *stream) {
    return lost(stream, PLN_EL2DOWN,
                stream->secure == NULL ? "the server closed the connection"
                                       : "the connection was cut: it ended without TLS's farewell");
}

int pln_stream_receive(struct pln_stream *stream, pln_ns deadline,
                       int (*take)(void *arg, const char *bytes, size_t n), void *arg) {
    char bytes[FEED_BYTES];
    for (;;) {
        pln_ns left = deadline - pln_clock_precise();
        bool may_sleep = stream->receive_timeout > 0 && left > stream->receive_timeout + tick;
        ssize_t n = recv(stream->fd, bytes, sizeof bytes, may_sleep ? 0 : MSG_DONTWAIT);
        if (n > 0) {
            return stream->secure == NULL ? take(arg, bytes, (size_t) n)
                                          : open_sealed(stream, bytes, (size_t) n, take, arg);
        }
        if (n == 0) {
            return ended(stream);
        }
        if (!would_wait(errno) && errno != EINTR) {
            return lost(stream, PLN_EL2DOWN, strerror(errno));
        }
        int result = may_sleep ? PLN_OK : wait_for(stream, POLLIN, left);
        if (result != PLN_OK) {
            return result;
        }
    }
}

bool pln_stream_is_quiet(struct pln_stream *stream,
                         int (*take)(void *arg, const char *bytes, size_t n), void *arg) {
    char byte;
    int result = PLN_OK;
    if (stream->secure == NULL) {
        return recv(stream->fd, &byte, 1, MSG_PEEK | MSG_DONTWAIT) < 0 &&
               (would_wait(errno) || errno == EINTR);
    }
    while (result == PLN_OK) {
        result = pln_stream_receive(stream, 0, take, arg);
    }
    return result == PLN_ETIMEOUT;
}

/* ---- opening and closing ---- */

int pln_tls_refuse_unused(const struct pln_tls_options *options) {
    const char *given = options->ca != NULL     ? "tls_ca"
                        : options->cert != NULL ? "tls_cert"
                        : options->key != NULL  ? "tls_key"
                        : options->name != NULL ? "tls_name"
                                                : NULL;
    if (given == NULL) {
        return PLN_OK;
    }
    return pln_fail(PLN_EINVAL,
                    "%s: given, but the redis url says no TLS (rediss://, or ?tls=true)", given);
}

/* Takes the server's part of a handshake. */
static int receive_part(struct pln_stream *stream, pln_ns deadline) {
    char bytes[FEED_BYTES];
    for (;;) {
        ssize_t n = recv(stream->fd, bytes, sizeof bytes, MSG_DONTWAIT);
        if (n > 0) {
            int result = pln_secure_put(stream->secure, bytes, (size_t) n);
            return result == PLN_OK ? result : lost_in_tls(stream, result);
        }
        if (n == 0 || (!would_wait(errno) && errno != EINTR)) {
            return lost(stream, PLN_EL2DOWN,
                        "the server ended the connection in the TLS handshake");
        }
        pln_ns left = deadline - pln_clock_precise();
        if (left <= 0) {
            return lost(stream, PLN_ETIMEOUT,
                        "no TLS handshake before the deadline (does it speak TLS at this port?)");
        }
        int result = wait_for(stream, POLLIN, left);
        if (result != PLN_OK) {
            return result;
        }
    }
}

static int shake_hands(struct pln_stream *stream, pln_ns deadline) {
    for (;;) {
        int shaken = pln_secure_shake(stream->secure);
        if (shaken < 0) {
            int result = lost_in_tls(stream, shaken);
            struct pln_bytes alert = pln_secure_unsent(stream->secure);
            /* so that the server can say why, too; whether it hears it is its affair */
            ssize_t n = alert.len == 0
                            ? 0
                            : send(stream->fd, alert.data, alert.len, MSG_NOSIGNAL | MSG_DONTWAIT);
            (void) n;
            return result;
        }
        int result = send_sealed(stream, deadline);
        if (result == PLN_OK && shaken == PLN_PENDING) {
            result = receive_part(stream, deadline);
        } else if (result == PLN_OK) {
            return PLN_OK;
        }
        if (result != PLN_OK) {
            return result;
        }
    }
}

int pln_stream_open(struct pln_stream *stream, const struct pln_endpoint *endpoint,
                    struct pln_tls *tls, pln_ns deadline) {
    struct pln_stream opened = {.fd = -1, .label = endpoint->label};
    *stream = opened;
    int result = pln_dial(endpoint, deadline, &opened.fd);
    if (result == PLN_OK && tls != NULL) {
        result = pln_secure_new(tls, endpoint, &opened.secure);
        result = result == PLN_OK ? shake_hands(&opened, deadline) : lost_in_tls(&opened, result);
    }
    if (result == PLN_OK) {
        *stream = opened;
    } else {
        pln_secure_free(opened.secure);
        if (opened.fd >= 0) {
            pln_descriptor_close(opened.fd);
        }
    }
    return result;
}

void pln_stream_close(struct pln_stream *stream) {
    if (stream->fd < 0) {
        return;
    }
    if (stream->secure != NULL) {
        pln_secure_end(stream->secure);
        struct pln_bytes farewell = pln_secure_unsent(stream->secure);
        ssize_t n = farewell.len == 0 ? 0
                                      : send(stream->fd, farewell.data, farewell.len,
                                             MSG_NOSIGNAL | MSG_DONTWAIT);
        (void) n; /* who is gone needs none */
        pln_secure_free(stream->secure);
    }
    pln_descriptor_close(stream->fd);
    *stream = (struct pln_stream){.fd = -1};
}

void pln_stream_set_patience(struct pln_stream *stream, pln_ns timeout) {
    struct timeval wait = {.tv_sec = timeout / 1000000000, .tv_usec = timeout % 1000000000 / 1000};
    if (timeout > 2 * tick &&
        setsockopt(stream->fd, SOL_SOCKET, SO_RCVTIMEO, &wait, sizeof wait) == 0) {
        stream->receive_timeout = timeout;
    }
}
