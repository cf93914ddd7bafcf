/* SPDX-License-Identifier: MIT
 *
 * secure.c - TLS on one connection, as a change of bytes: what has come from the network is put in
 * and read as plain bytes, what is written plain is taken out to be sent. It touches no socket, so
 * that deadlines, and being safe from SIGPIPE, are stream.c's affair alone.
 *
 * OpenSSL keeps its errors by thread and adds to them, so each call begins with none and leaves
 * none behind for the host's own use of it.
 */
#include "internal.h"
#include "tls.h"

#include <arpa/inet.h>
#include <openssl/err.h>
#include <openssl/x509v3.h>
#include <stdio.h>

enum { SCRATCH_BYTES = 16 * 1024 };

struct pln_secure {
    struct pln_tls *tls;
    SSL *ssl;
    BIO *in, *out;     /* ssl's */
    const char *label; /* the endpoint's, by which its sessions are known */
    const char *name;  /* that the server must have */
    bool has_shaken;
    bool was_asked; /* for a certificate, of which it has none */
};

/* ---- words for failures ---- */

/* Why a certificate was refused by us. */
static int refuse_certificate(const struct pln_secure *secure) {
    long why = SSL_get_verify_result(secure->ssl);
    switch (why) {
    case X509_V_ERR_CERT_HAS_EXPIRED:
        return pln_fail(PLN_EL2DOWN, "TLS: the server's certificate has expired");
    case X509_V_ERR_CERT_NOT_YET_VALID:
        return pln_fail(PLN_EL2DOWN, "TLS: the server's certificate is not valid yet");
    case X509_V_ERR_HOSTNAME_MISMATCH:
    case X509_V_ERR_IP_ADDRESS_MISMATCH:
        return pln_fail(PLN_EL2DOWN, "TLS: the server's certificate is not for '%s' (tls_name)",
                        secure->name);
    case X509_V_ERR_DEPTH_ZERO_SELF_SIGNED_CERT:
        return pln_fail(PLN_EL2DOWN, "TLS: the server's certificate is signed by itself, and not "
                                     "one that we trust (tls_ca)");
    case X509_V_ERR_SELF_SIGNED_CERT_IN_CHAIN:
    case X509_V_ERR_UNABLE_TO_GET_ISSUER_CERT:
    case X509_V_ERR_UNABLE_TO_GET_ISSUER_CERT_LOCALLY:
    case X509_V_ERR_UNABLE_TO_VERIFY_LEAF_SIGNATURE:
        return pln_fail(PLN_EL2DOWN, "TLS: the server's certificate is signed by nobody that we "
                                     "trust (tls_ca)");
    default:
        return pln_fail(PLN_EL2DOWN, "TLS: the server's certificate: %s",
                        X509_verify_cert_error_string(why));
    }
}

/* What the server has sent as its last word, where that is about our certificate. */
static const char *refusal_of_ours(int reason) {
    switch (reason) {
    case SSL_R_TLSV13_ALERT_CERTIFICATE_REQUIRED:
        return "it wants one";
    case SSL_R_TLSV1_ALERT_UNKNOWN_CA:
        return "it is signed by nobody that the server trusts";
    case SSL_R_SSLV3_ALERT_CERTIFICATE_EXPIRED:
        return "it has expired";
    case SSL_R_SSLV3_ALERT_CERTIFICATE_REVOKED:
        return "it was revoked";
    case SSL_R_SSLV3_ALERT_BAD_CERTIFICATE:
    case SSL_R_SSLV3_ALERT_UNSUPPORTED_CERTIFICATE:
    case SSL_R_SSLV3_ALERT_CERTIFICATE_UNKNOWN:
    case SSL_R_TLSV1_ALERT_ACCESS_DENIED:
        return "it will not do";
    default:
        return NULL;
    }
}

/* The failure of the last call of OpenSSL. */
static int fail(const struct pln_secure *secure) {
    unsigned long error = ERR_peek_error();
    int reason = ERR_GET_REASON(error);
    const char *words = ERR_reason_error_string(error);
    const char *of_ours = refusal_of_ours(reason);
    int result;
    if (reason == SSL_R_CERTIFICATE_VERIFY_FAILED) {
        result = refuse_certificate(secure);
    } else if (secure->was_asked &&
               (of_ours != NULL || reason == SSL_R_SSLV3_ALERT_HANDSHAKE_FAILURE)) {
        result = pln_fail(PLN_EL2DOWN,
                          "TLS: the server wants a client certificate (tls_cert, tls_key)");
    } else if (of_ours != NULL) {
        result = pln_fail(PLN_EL2DOWN, "TLS: the server refused our certificate (tls_cert): %s",
                          of_ours);
    } else if (reason == SSL_R_WRONG_VERSION_NUMBER && !secure->has_shaken) {
        result = pln_fail(PLN_EL2DOWN, "TLS: the server does not speak TLS at this port");
    } else if (reason == SSL_R_UNSUPPORTED_PROTOCOL ||
               reason == SSL_R_TLSV1_ALERT_PROTOCOL_VERSION) {
        result = pln_fail(PLN_EL2DOWN, "TLS: the server knows no version from 1.2 on");
    } else {
        result = pln_fail(PLN_EL2DOWN, "TLS: %s", words != NULL ? words : "the protocol is broken");
    }
    ERR_clear_error();
    return result;
}

/* ---- opening ---- */

int pln_secure_on_session(SSL *ssl, SSL_SESSION *session) {
    const struct pln_secure *secure = SSL_get_app_data(ssl);
    return pln_tls_keep_session(secure->tls, secure->label, SSL_get_SSL_CTX(ssl), session);
}

int pln_secure_on_request(SSL *ssl, X509 **cert, EVP_PKEY **key) {
    struct pln_secure *secure = SSL_get_app_data(ssl);
    (void) cert, (void) key;
    secure->was_asked = true;
    return 0; /* goes on without */
}

static bool is_address(const char *name) {
    struct in6_addr address;
    return inet_pton(AF_INET, name, &address) == 1 || inet_pton(AF_INET6, name, &address) == 1;
}

/* Says whom we expect: to OpenSSL, and, by name, to a server that is many. */
static bool expect(SSL *ssl, const char *name) {
    if (is_address(name)) {
        return X509_VERIFY_PARAM_set1_ip_asc(SSL_get0_param(ssl), name) == 1;
    }
    SSL_set_hostflags(ssl, X509_CHECK_FLAG_NO_PARTIAL_WILDCARDS);
    return SSL_set1_host(ssl, name) == 1 && SSL_set_tlsext_host_name(ssl, name) == 1;
}

static SSL *new_ssl(struct pln_tls *tls) {
    SSL_CTX *context = pln_tls_context(tls);
    SSL *ssl = SSL_new(context);
    SSL_CTX_free(context);
    return ssl;
}

static bool attach(struct pln_secure *secure) {
    secure->in = BIO_new(BIO_s_mem());
    secure->out = BIO_new(BIO_s_mem());
    if (secure->in == NULL || secure->out == NULL) {
        BIO_free(secure->in);
        BIO_free(secure->out);
        return false;
    }
    BIO_set_mem_eof_return(secure->in, -1); /* empty is not the end */
    SSL_set_bio(secure->ssl, secure->in, secure->out);
    SSL_set_app_data(secure->ssl, secure);
    SSL_set_connect_state(secure->ssl);
    return true;
}

static void resume(struct pln_secure *secure) {
    SSL_SESSION *session = pln_tls_session(secure->tls, secure->label);
    if (session != NULL) {
        SSL_set_session(secure->ssl, session);
        SSL_SESSION_free(session);
    }
}

int pln_secure_new(struct pln_tls *tls, const struct pln_endpoint *endpoint,
                   struct pln_secure **secure) {
    const char *name = pln_tls_name(tls) != NULL ? pln_tls_name(tls) : endpoint->host;
    if (name == NULL) {
        return pln_fail(PLN_EL2DOWN, "TLS: a unix socket has no name to check (tls_name)");
    }
    struct pln_secure *created = calloc(1, sizeof *created);
    if (created == NULL) {
        return pln_fail(PLN_ENOMEM, "no memory for TLS");
    }
    ERR_clear_error();
    *created = (struct pln_secure){
        .tls = tls, .ssl = new_ssl(tls), .label = endpoint->label, .name = name};
    if (created->ssl == NULL || !attach(created) || !expect(created->ssl, name)) {
        pln_secure_free(created);
        ERR_clear_error();
        return pln_fail(PLN_ENOMEM, "no memory for TLS, or no name of a server: '%s'", name);
    }
    resume(created);
    *secure = created;
    return PLN_OK;
}

void pln_secure_free(struct pln_secure *secure) {
    if (secure != NULL) {
        SSL_free(secure->ssl);
        free(secure);
    }
}

/* ---- bytes ---- */

int pln_secure_shake(struct pln_secure *secure) {
    ERR_clear_error();
    int done = SSL_do_handshake(secure->ssl);
    if (done == 1) {
        secure->has_shaken = true;
        return PLN_OK;
    }
    return SSL_get_error(secure->ssl, done) == SSL_ERROR_WANT_READ ? PLN_PENDING : fail(secure);
}

int pln_secure_put(struct pln_secure *secure, const void *bytes, size_t n) {
    size_t put = 0;
    if (BIO_write_ex(secure->in, bytes, n, &put) != 1 || put != n) {
        ERR_clear_error();
        return pln_fail(PLN_ENOMEM, "no memory for TLS");
    }
    return PLN_OK;
}

int pln_secure_read(struct pln_secure *secure, void *bytes, size_t size, size_t *n) {
    ERR_clear_error();
    int done = SSL_read_ex(secure->ssl, bytes, size, n);
    if (done == 1) {
        return PLN_OK;
    }
    int error = SSL_get_error(secure->ssl, done);
    return error == SSL_ERROR_WANT_READ     ? PLN_MISS
           : error == SSL_ERROR_ZERO_RETURN ? PLN_ABSENT
                                            : fail(secure);
}

int pln_secure_write(struct pln_secure *secure, const void *bytes, size_t n) {
    size_t written = 0;
    ERR_clear_error();
    if (n > 0 && SSL_write_ex(secure->ssl, bytes, n, &written) != 1) {
        return fail(secure);
    }
    assert(written == n); /* memory takes all */
    return PLN_OK;
}

void pln_secure_end(struct pln_secure *secure) {
    ERR_clear_error();
    if (secure->has_shaken) {
        SSL_shutdown(secure->ssl);
        ERR_clear_error();
    }
}

struct pln_bytes pln_secure_unsent(struct pln_secure *secure) {
    char *bytes = NULL;
    long len = BIO_get_mem_data(secure->out, &bytes);
    return pln_bytes_of(bytes, len > 0 ? (size_t) len : 0);
}

void pln_secure_sent(struct pln_secure *secure, size_t n) {
    char scratch[SCRATCH_BYTES];
    while (n > 0) { /* BIO_reset() would clear all memory that was ever used */
        size_t some = n < sizeof scratch ? n : sizeof scratch;
        if (BIO_read_ex(secure->out, scratch, some, &some) != 1) {
            break;
        }
        n -= some;
    }
}
