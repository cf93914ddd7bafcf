/* SPDX-License-Identifier: MIT
 *
 * tls_none.c - in the place of tls.c where OpenSSL is not built in: no client with TLS can be made,
 * so nothing else here is ever called.
 */
#include "stream.h"

#include <stdlib.h>

static int never(void) {
    return pln_fail(PLN_EL2DOWN, "TLS is not built in");
}

int pln_tls_new(const struct pln_tls_options *options, const struct pln_host *host,
                struct pln_tls **tls) {
    (void) options, (void) host, (void) tls;
    return pln_fail(PLN_EINVAL, "redis url: TLS was asked for, but this perilune was built without "
                                "OpenSSL (meson's option tls)");
}

void pln_tls_free(struct pln_tls *tls) {
    (void) tls;
}

int pln_secure_new(struct pln_tls *tls, const struct pln_endpoint *endpoint,
                   struct pln_secure **secure) {
    (void) tls, (void) endpoint, (void) secure;
    return never();
}

void pln_secure_free(struct pln_secure *secure) {
    (void) secure;
}

int pln_secure_shake(struct pln_secure *secure) {
    (void) secure;
    return never();
}

int pln_secure_put(struct pln_secure *secure, const void *bytes, size_t n) {
    (void) secure, (void) bytes, (void) n;
    return never();
}

int pln_secure_read(struct pln_secure *secure, void *bytes, size_t size, size_t *n) {
    (void) secure, (void) bytes, (void) size, (void) n;
    return never();
}

int pln_secure_write(struct pln_secure *secure, const void *bytes, size_t n) {
    (void) secure, (void) bytes, (void) n;
    return never();
}

void pln_secure_end(struct pln_secure *secure) {
    (void) secure;
}

struct pln_bytes pln_secure_unsent(struct pln_secure *secure) {
    (void) secure;
    return pln_bytes_of(NULL, 0);
}

void pln_secure_sent(struct pln_secure *secure, size_t n) {
    (void) secure, (void) n;
}
