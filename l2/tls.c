/* SPDX-License-Identifier: MIT
 *
 * tls.c - what all connections of a client share under TLS: whom it trusts, what it shows of
 * itself, and the sessions that may be resumed.
 *
 * At least TLS 1.2; the server's certificate and name are checked, if that was not switched off.
 * There is no way from here back to a connection in the clear.
 *
 * Certificates are replaced while processes run, so each new connection first looks whether the
 * files are still those that were read. Where they are not, they are read anew; where that fails
 * (a certificate that is there before its key), this is logged, and what was read before holds
 * until they change again. Sessions end with the context they were made under, since resuming one
 * repeats no check.
 */
#include "tls.h"

#include <errno.h>
#include <openssl/err.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

enum { MOST_SESSIONS = 2048 }; /* more servers than a URL may name */

/* By which a file is known to be the one that was read. */
struct mark {
    ino_t inode;
    off_t size;
    struct timespec changed;
};

struct session {
    SSL_SESSION *session;
    struct session *next;
    char label[];
};

struct pln_tls {
    /* constants */
    char *ca, *cert, *key, *name;
    bool is_unchecked;
    const struct pln_host *host;

    pthread_mutex_t lock; /* guards all below */
    SSL_CTX *context;
    struct mark marks[3];
    struct session *sessions;
    size_t n_sessions;
};

/* ---- files ---- */

static int refuse_file(const char *option, const char *path) {
    struct stat file;
    const char *reason = ERR_reason_error_string(ERR_peek_last_error());
    if (stat(path, &file) != 0) {
        reason = strerror(errno);
    }
    ERR_clear_error();
    return pln_fail(PLN_EINVAL, "%s: cannot use '%s': %s", option, path,
                    reason != NULL ? reason : "it is damaged");
}

static void mark_files(const struct pln_tls *tls, struct mark marks[3]) {
    const char *const paths[] = {tls->ca, tls->cert, tls->key};
    memset(marks, 0, 3 * sizeof *marks);
    for (size_t i = 0; i < PLN_ARRAY_LEN(paths); i++) {
        struct stat file;
        if (paths[i] != NULL && stat(paths[i], &file) == 0) {
            marks[i].inode = file.st_ino;
            marks[i].size = file.st_size;
            marks[i].changed = file.st_ctim;
        }
    }
}

static bool is_same(const struct mark *a, const struct mark *b) {
    return a->inode == b->inode && a->size == b->size && a->changed.tv_sec == b->changed.tv_sec &&
           a->changed.tv_nsec == b->changed.tv_nsec;
}

/* ---- contexts ---- */

/* In the place of OpenSSL's own, which asks at the terminal. */
static int no_passphrase(char *buffer, int size, int is_writing, void *arg) {
    (void) buffer, (void) size, (void) is_writing, (void) arg;
    return -1;
}

static int load_trust(const struct pln_tls *tls, SSL_CTX *context) {
    struct stat file;
    if (tls->ca == NULL) {
        return SSL_CTX_set_default_verify_paths(context) == 1
                   ? PLN_OK
                   : refuse_file("tls_ca", "(the system's)");
    }
    bool is_folder = stat(tls->ca, &file) == 0 && S_ISDIR(file.st_mode);
    int loaded = is_folder ? SSL_CTX_load_verify_dir(context, tls->ca)
                           : SSL_CTX_load_verify_file(context, tls->ca);
    return loaded == 1 ? PLN_OK : refuse_file("tls_ca", tls->ca);
}

static int load_own(const struct pln_tls *tls, SSL_CTX *context) {
    const char *key = tls->key != NULL ? tls->key : tls->cert;
    if (tls->cert == NULL) {
        return PLN_OK;
    }
    if (SSL_CTX_use_certificate_chain_file(context, tls->cert) != 1) {
        return refuse_file("tls_cert", tls->cert);
    }
    if (SSL_CTX_use_PrivateKey_file(context, key, SSL_FILETYPE_PEM) != 1 ||
        SSL_CTX_check_private_key(context) != 1) {
        return refuse_file("tls_key", key);
    }
    return PLN_OK;
}

static int make_context(const struct pln_tls *tls, SSL_CTX **made) {
    SSL_CTX *context = SSL_CTX_new(TLS_client_method());
    if (context == NULL) {
        ERR_clear_error();
        return pln_fail(PLN_ENOMEM, "l2: no memory for TLS");
    }
    SSL_CTX_set_min_proto_version(context, TLS1_2_VERSION);
    SSL_CTX_set_options(context, SSL_OP_NO_RENEGOTIATION | SSL_OP_NO_COMPRESSION);
    SSL_CTX_set_mode(context, SSL_MODE_RELEASE_BUFFERS);
    SSL_CTX_set_verify(context, tls->is_unchecked ? SSL_VERIFY_NONE : SSL_VERIFY_PEER, NULL);
    SSL_CTX_set_session_cache_mode(context, SSL_SESS_CACHE_CLIENT | SSL_SESS_CACHE_NO_INTERNAL);
    SSL_CTX_sess_set_new_cb(context, pln_secure_on_session);
    SSL_CTX_set_client_cert_cb(context, pln_secure_on_request);
    SSL_CTX_set_default_passwd_cb(context, no_passphrase);
    int result = load_trust(tls, context);
    if (result == PLN_OK) {
        result = load_own(tls, context);
    }
    if (result != PLN_OK) {
        SSL_CTX_free(context);
        return result;
    }
    *made = context;
    return PLN_OK;
}

static void forget_sessions(struct pln_tls *tls) {
    while (tls->sessions != NULL) {
        struct session *session = tls->sessions;
        tls->sessions = session->next;
        SSL_SESSION_free(session->session);
        free(session);
    }
    tls->n_sessions = 0;
}

static void renew_locked(struct pln_tls *tls) {
    struct mark marks[3];
    bool has_changed = false;
    mark_files(tls, marks); /* before they are read: what changes after that is seen next time */
    for (size_t i = 0; i < PLN_ARRAY_LEN(marks); i++) {
        has_changed = has_changed || !is_same(&marks[i], &tls->marks[i]);
    }
    if (!has_changed) {
        return;
    }
    SSL_CTX *context;
    memcpy(tls->marks, marks, sizeof marks);
    if (make_context(tls, &context) == PLN_OK) {
        SSL_CTX_free(tls->context);
        tls->context = context;
        forget_sessions(tls);
    } else {
        pln_logf(tls->host, PLN_LOG_WARN,
                 "%s; what was read before it changed stays in use for new connections",
                 pln_error_text());
    }
}

SSL_CTX *pln_tls_context(struct pln_tls *tls) {
    pthread_mutex_lock(&tls->lock);
    renew_locked(tls);
    SSL_CTX *context = tls->context;
    SSL_CTX_up_ref(context);
    pthread_mutex_unlock(&tls->lock);
    return context;
}

const char *pln_tls_name(const struct pln_tls *tls) {
    return tls->name;
}

/* ---- sessions ---- */

static struct session *find_locked(struct pln_tls *tls, const char *label) {
    struct session *session = tls->sessions;
    while (session != NULL && strcmp(session->label, label) != 0) {
        session = session->next;
    }
    return session;
}

SSL_SESSION *pln_tls_session(struct pln_tls *tls, const char *label) {
    SSL_SESSION *found = NULL;
    pthread_mutex_lock(&tls->lock);
    struct session *session = find_locked(tls, label);
    if (session != NULL && SSL_SESSION_is_resumable(session->session)) {
        found = session->session;
        SSL_SESSION_up_ref(found);
    }
    pthread_mutex_unlock(&tls->lock);
    return found;
}

static struct session *add_locked(struct pln_tls *tls, const char *label) {
    if (tls->n_sessions == MOST_SESSIONS) {
        return NULL;
    }
    struct session *session = calloc(1, sizeof *session + strlen(label) + 1);
    if (session != NULL) {
        strcpy(session->label, label);
        session->next = tls->sessions;
        tls->sessions = session;
        tls->n_sessions++;
    }
    return session;
}

bool pln_tls_keep_session(struct pln_tls *tls, const char *label, const SSL_CTX *context,
                          SSL_SESSION *session) {
    bool is_kept = false;
    pthread_mutex_lock(&tls->lock);
    if (context == tls->context) {
        struct session *at = find_locked(tls, label);
        at = at != NULL ? at : add_locked(tls, label);
        if (at != NULL) {
            SSL_SESSION_free(at->session);
            at->session = session;
            is_kept = true;
        }
    }
    pthread_mutex_unlock(&tls->lock);
    return is_kept;
}

/* ---- life ---- */

static bool copy(char **to, const char *text) {
    *to = text == NULL ? NULL : strdup(text);
    return text == NULL || *to != NULL;
}

void pln_tls_free(struct pln_tls *tls) {
    if (tls == NULL) {
        return;
    }
    forget_sessions(tls);
    SSL_CTX_free(tls->context);
    pthread_mutex_destroy(&tls->lock);
    free(tls->ca);
    free(tls->cert);
    free(tls->key);
    free(tls->name);
    free(tls);
}

int pln_tls_new(const struct pln_tls_options *options, const struct pln_host *host,
                struct pln_tls **tls) {
    if (options->key != NULL && options->cert == NULL) {
        return pln_fail(PLN_EINVAL, "tls_key: a key without its certificate (tls_cert)");
    }
    struct pln_tls *created = calloc(1, sizeof *created);
    if (created == NULL) {
        return pln_fail(PLN_ENOMEM, "l2: no memory for TLS");
    }
    created->is_unchecked = options->is_unchecked;
    created->host = host;
    pthread_mutex_init(&created->lock, NULL);
    int result = PLN_OK;
    if (!copy(&created->ca, options->ca) || !copy(&created->cert, options->cert) ||
        !copy(&created->key, options->key) || !copy(&created->name, options->name)) {
        result = pln_fail(PLN_ENOMEM, "l2: no memory for TLS");
    }
    mark_files(created, created->marks);
    if (result == PLN_OK) {
        result = make_context(created, &created->context);
    }
    if (result != PLN_OK) {
        pln_tls_free(created);
        return result;
    }
    *tls = created;
    return PLN_OK;
}
