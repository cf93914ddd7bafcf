/* SPDX-License-Identifier: MIT
 *
 * nonblock.c - a stream for a thread that waits elsewhere: each call does what can be done at once.
 *
 * Over TLS bytes are sealed when they are taken, so what is taken may still be here: has_unsent()
 * says so, and the next push sends it first. What has come is opened as far as it fits; the rest
 * waits inside, so that only a pull that finds nothing says that the socket is worth a poll().
 */
#include "stream.h"

#include <errno.h>
#include <sys/socket.h>

enum { SEAL_BYTES = 64 * 1024, RAW_BYTES = 16 * 1024 };

static bool would_wait(int error) {
    return error == EAGAIN || error == EWOULDBLOCK || error == EINTR;
}

static int lost(const struct pln_stream *stream, int status, const char *what) {
    return pln_fail(status, "l2: redis at %s: %s", stream->label, what);
}

static int send_some(const struct pln_stream *stream, struct pln_bytes bytes, size_t *sent) {
    ssize_t n = send(stream->fd, bytes.data, bytes.len, MSG_NOSIGNAL | MSG_DONTWAIT);
    if (n < 0 && !would_wait(errno)) {
        return lost(stream, PLN_EL2DOWN, strerror(errno));
    }
    *sent = n < 0 ? 0 : (size_t) n;
    return PLN_OK;
}

/* Returns what there is no more room for as PLN_OK too. */
static int send_sealed(struct pln_stream *stream) {
    struct pln_bytes unsent = pln_secure_unsent(stream->secure);
    size_t sent = 0;
    int result = unsent.len == 0 ? PLN_OK : send_some(stream, unsent, &sent);
    pln_secure_sent(stream->secure, sent);
    return result;
}

bool pln_stream_has_unsent(const struct pln_stream *stream) {
    return stream->secure != NULL && pln_secure_unsent(stream->secure).len > 0;
}

int pln_stream_push(struct pln_stream *stream, struct pln_bytes bytes, size_t *sent) {
    if (stream->secure == NULL) {
        return send_some(stream, bytes, sent);
    }
    size_t n = bytes.len < SEAL_BYTES ? bytes.len : SEAL_BYTES;
    int result = send_sealed(stream);
    *sent = 0;
    if (result != PLN_OK || pln_stream_has_unsent(stream) || n == 0) {
        return result;
    }
    result = pln_secure_write(stream->secure, bytes.data, n);
    if (result != PLN_OK) {
        return result;
    }
    *sent = n;
    return send_sealed(stream);
}

/* Takes bytes from the socket. Returns: PLN_OK, PLN_MISS, PLN_EL2DOWN. */
static int receive_some(const struct pln_stream *stream, void *bytes, size_t size, size_t *n) {
    ssize_t got = recv(stream->fd, bytes, size, MSG_DONTWAIT);
    if (got > 0) {
        *n = (size_t) got;
        return PLN_OK;
    }
    if (got == 0) {
        return lost(stream, PLN_EL2DOWN, "the server closed the connection");
    }
    return would_wait(errno) ? PLN_MISS : lost(stream, PLN_EL2DOWN, strerror(errno));
}

int pln_stream_pull(struct pln_stream *stream, void *bytes, size_t size, size_t *n) {
    char raw[RAW_BYTES];
    size_t n_raw = 0;
    if (stream->secure == NULL) {
        return receive_some(stream, bytes, size, n);
    }
    for (;;) {
        int result = pln_secure_read(stream->secure, bytes, size, n);
        if (result == PLN_ABSENT) {
            return lost(stream, PLN_EL2DOWN, "the server closed the connection");
        }
        if (result != PLN_MISS) {
            return result;
        }
        result = receive_some(stream, raw, sizeof raw, &n_raw);
        if (result == PLN_OK) {
            result = pln_secure_put(stream->secure, raw, n_raw);
        }
        if (result != PLN_OK) {
            return result;
        }
    }
}
