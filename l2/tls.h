/* SPDX-License-Identifier: MIT
 *
 * tls.h - between tls.c, which knows what all connections of a client share, and secure.c, which
 * knows one of them. Nothing else sees OpenSSL.
 */
#ifndef PLN_L2_TLS_H
#define PLN_L2_TLS_H

#include "stream.h"

#include <openssl/ssl.h>

/* The context for a new connection, whose reference the caller takes over; made anew where a file
 * has changed. */
SSL_CTX *pln_tls_context(struct pln_tls *tls);
/* The name that servers must have, NULL for their hosts'. */
const char *pln_tls_name(const struct pln_tls *tls);
/* A session with the server of that label that may be resumed, whose reference the caller takes
 * over, or NULL. */
SSL_SESSION *pln_tls_session(struct pln_tls *tls, const char *label);
/* Keeps the session, and takes over its reference, where it was made under the current context.
 * Returns whether it did. */
bool pln_tls_keep_session(struct pln_tls *tls, const char *label, const SSL_CTX *context,
                          SSL_SESSION *session);

/* Of secure.c, called by OpenSSL with each new session: hands it to pln_tls_keep_session(). */
int pln_secure_on_session(SSL *ssl, SSL_SESSION *session);
/* Likewise, where a server asks for a certificate and there is none: notes that. */
int pln_secure_on_request(SSL *ssl, X509 **cert, EVP_PKEY **key);

#endif
