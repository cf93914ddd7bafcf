/* SPDX-License-Identifier: MIT
 * certs.c - see certs.h. */
#include "certs.h"

#include <openssl/evp.h>
#include <openssl/pem.h>
#include <openssl/x509v3.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>

/* Made before any test runs, so not by check's asserts. */
static void need(bool is_well) {
    if (!is_well) {
        fprintf(stderr, "test certificates: they cannot be made\n");
        abort();
    }
}

static void extend(X509 *cert, X509 *issuer, int which, const char *value) {
    X509V3_CTX context;
    X509V3_set_ctx(&context, issuer, cert, NULL, NULL, 0);
    X509_EXTENSION *extension = X509V3_EXT_conf_nid(NULL, &context, which, value);
    need(extension != NULL);
    need(X509_add_ext(cert, extension, -1) == 1);
    X509_EXTENSION_free(extension);
}

static FILE *create(const char *folder, const char *name, const char *suffix) {
    char path[128];
    snprintf(path, sizeof path, "%s/%s.%s", folder, name, suffix);
    FILE *file = fopen(path, "w");
    need(file != NULL);
    return file;
}

static void write_out(const struct cert *made, const char *folder, const char *name) {
    FILE *file = create(folder, name, "crt");
    need(PEM_write_X509(file, made->cert) == 1);
    fclose(file);
    file = create(folder, name, "key");
    need(PEM_write_PrivateKey(file, made->key, NULL, NULL, 0, NULL, NULL) == 1);
    fclose(file);
}

struct cert cert_make(const char *folder, const char *name, const char *names, long valid_s,
                      const struct cert *issuer) {
    static long last_serial = 1;
    struct cert made = {EVP_EC_gen("P-256"), X509_new()};
    need(made.key != NULL && made.cert != NULL);
    const struct cert *signer = issuer != NULL ? issuer : &made;
    X509_set_version(made.cert, X509_VERSION_3);
    ASN1_INTEGER_set(X509_get_serialNumber(made.cert), ++last_serial);
    X509_gmtime_adj(X509_getm_notBefore(made.cert), -7200);
    X509_gmtime_adj(X509_getm_notAfter(made.cert), valid_s);
    X509_set_pubkey(made.cert, made.key);
    X509_NAME_add_entry_by_txt(X509_get_subject_name(made.cert), "CN", MBSTRING_ASC,
                               (const unsigned char *) name, -1, -1, 0);
    X509_set_issuer_name(made.cert, X509_get_subject_name(signer->cert));
    extend(made.cert, signer->cert, NID_basic_constraints,
           names == NULL ? "critical,CA:TRUE" : "CA:FALSE");
    if (names != NULL) {
        extend(made.cert, signer->cert, NID_subject_alt_name, names);
    }
    need(X509_sign(made.cert, signer->key, EVP_sha256()) > 0);
    write_out(&made, folder, name);
    return made;
}

void cert_free(struct cert *cert) {
    X509_free(cert->cert);
    EVP_PKEY_free(cert->key);
}
