/* SPDX-License-Identifier: MIT
 *
 * stream.h - the bottom of the transport: names, sockets, TLS, and the bytes that go over them.
 *
 *   lookup.c   a name's addresses, before a deadline
 *   dial.c     a connected socket
 *   tls.c      what a client trusts and shows; secure.c TLS on one connection, as a change of
 *              bytes; tls_none.c in the place of both where OpenSSL is not built in
 *   stream.c   bytes to and from a server, each call ending at its deadline
 */
#ifndef PLN_L2_STREAM_H
#define PLN_L2_STREAM_H

#include "l2.h"

#include <netdb.h>

struct pln_endpoint;

/* ---- lookup.c ---- */

/* The addresses of a name, TCP, for freeaddrinfo(). An address as text is not looked up.
 * Returns: PLN_OK; PLN_EL2DOWN, PLN_ETIMEOUT, each with the name and the reason; PLN_ENOMEM. */
int pln_lookup(const char *host, int port, pln_ns deadline, struct addrinfo **found);

/* ---- dial.c ---- */

/* A connected socket, the caller's to close; it blocks where a call does not say otherwise. All
 * addresses of a name are tried. Returns: PLN_OK; PLN_EL2DOWN, PLN_ETIMEOUT with the endpoint and
 * the reason; PLN_ENOMEM. */
int pln_dial(const struct pln_endpoint *endpoint, pln_ns deadline, int *fd);

/* ---- tls.c: a client's side of TLS ---- */

/* What is trusted and shown, and the sessions that may be resumed: one for all connections of a
 * client. The files are read now, and again by the first connection after they have changed.
 * Returns: PLN_OK; PLN_EINVAL with the option and the reason; PLN_ENOMEM. */
struct pln_tls;
int pln_tls_new(const struct pln_tls_options *options, const struct pln_host *host,
                struct pln_tls **tls);
void pln_tls_free(struct pln_tls *tls); /* after its connections */

/* ---- secure.c: one connection ---- */

/* Bytes in, bytes out. All functions but free may fail with PLN_EL2DOWN and a text that says why
 * in words of TLS, without the server's name. */
struct pln_secure;
int pln_secure_new(struct pln_tls *tls, const struct pln_endpoint *endpoint,
                   struct pln_secure **secure);
void pln_secure_free(struct pln_secure *secure);
/* Goes on with the handshake. Returns: PLN_OK (done), PLN_PENDING (the server's turn). */
int pln_secure_shake(struct pln_secure *secure);
/* What has come from the network. */
int pln_secure_put(struct pln_secure *secure, const void *bytes, size_t n);
/* Plain bytes out of that. Returns: PLN_OK with n > 0; PLN_MISS: no more for now; PLN_ABSENT: the
 * server has said that it ends here. */
int pln_secure_read(struct pln_secure *secure, void *bytes, size_t size, size_t *n);
/* Plain bytes in, to be sent. */
int pln_secure_write(struct pln_secure *secure, const void *bytes, size_t n);
/* The farewell, to be sent. */
void pln_secure_end(struct pln_secure *secure);
/* What is to go to the network, and how much of it has gone. */
struct pln_bytes pln_secure_unsent(struct pln_secure *secure);
void pln_secure_sent(struct pln_secure *secure, size_t n);

/* ---- stream.c ---- */

/* PLN_EINVAL where options of TLS are set, for a client that has none: they are a mistake by which
 * secrets would go out in the clear. */
int pln_tls_refuse_unused(const struct pln_tls_options *options);

/* Belongs to one thread at a time. After any failure it is of no more use, but to be closed. */
struct pln_stream {
    int fd;                    /* -1: closed */
    struct pln_secure *secure; /* NULL: plain */
    pln_ns receive_timeout;    /* the socket's own, 0 for none */
    const char *label;         /* the endpoint's */
};

/* Connects, and shakes hands where there is a `tls`. Returns as pln_dial(). */
int pln_stream_open(struct pln_stream *stream, const struct pln_endpoint *endpoint,
                    struct pln_tls *tls, pln_ns deadline);
/* A zeroed stream is not a closed one: its fd is 0. */
void pln_stream_close(struct pln_stream *stream);
/* Lets a receive with at least so much time left sleep in recv() itself, without a poll(). */
void pln_stream_set_patience(struct pln_stream *stream, pln_ns timeout);
/* Return: PLN_OK; PLN_ETIMEOUT, PLN_EL2DOWN, with the server and the reason. */
int pln_stream_send(struct pln_stream *stream, const void *bytes, size_t n, pln_ns deadline);
/* Waits for bytes and hands over all that have come, which may be none: TLS has news of its own.
 * A failure of take() is returned as it is. */
int pln_stream_receive(struct pln_stream *stream, pln_ns deadline,
                       int (*take)(void *arg, const char *bytes, size_t n), void *arg);
/* Whether nothing has come, not even an end. What TLS says to itself is not counted; plain bytes
 * that came with it are handed over. */
bool pln_stream_is_quiet(struct pln_stream *stream,
                         int (*take)(void *arg, const char *bytes, size_t n), void *arg);

/* ---- nonblock.c ---- */

/* Takes as much as can be sent at once, which may be nothing. Returns: PLN_OK, PLN_EL2DOWN. */
int pln_stream_push(struct pln_stream *stream, struct pln_bytes bytes, size_t *sent);
/* Whether some of what was taken is still to go out. */
bool pln_stream_has_unsent(const struct pln_stream *stream);
/* What has come, PLN_MISS where nothing has. */
int pln_stream_pull(struct pln_stream *stream, void *bytes, size_t size, size_t *n);

#endif
