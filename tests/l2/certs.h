/* SPDX-License-Identifier: MIT
 *
 * certs.h - certificates of a test's own, good and bad, made while it runs.
 */
#ifndef PLN_TEST_CERTS_H
#define PLN_TEST_CERTS_H

#include <openssl/x509.h>

struct cert {
    EVP_PKEY *key;
    X509 *cert;
};

/* Makes a certificate for `names` ("DNS:localhost,IP:127.0.0.1"; NULL: an authority), valid until
 * so many seconds from now, signed by `issuer`, NULL for by itself. Writes FOLDER/NAME.crt and
 * FOLDER/NAME.key. */
struct cert cert_make(const char *folder, const char *name, const char *names, long valid_s,
                      const struct cert *issuer);
void cert_free(struct cert *cert);

#endif
