/* SPDX-License-Identifier: MIT
 * test_secure.c - l2/secure.c and l2/stream.c against a server of OpenSSL's in this process, which
 * can be asked what it saw: resumed sessions, names, farewells, and bytes cut anywhere. */
#include <check.h>
#include <openssl/pem.h>
#include <openssl/ssl.h>
#include <stdio.h>
#include <sys/socket.h>
#include <unistd.h>

#include "../../l2/internal.h"
#include "certs.h"

enum { HOUR = 3600 };

static char folder[] = "/tmp/pln-test-XXXXXX";
static struct cert authority, good;
static struct pln_tls *tls;
static SSL_CTX *server_context;
static SSL *server;
static BIO *to_server, *from_server;
static struct pln_secure *secure;

static char host[] = "localhost", label[] = "localhost:1";
static const struct pln_endpoint endpoint = {.host = host, .port = 1, .weight = 1, .label = label};

static const char *in_folder(const char *name) {
    static char path[96];
    snprintf(path, sizeof path, "%s/%s", folder, name);
    return path;
}

static pln_ms no_clock(void *arg) {
    (void) arg;
    return 0;
}

static void no_log(void *arg, int level, const char *line) {
    (void) arg, (void) level, (void) line;
}

static void set_up(void) {
    static const struct pln_host pln_host = {.clock = no_clock, .log = no_log, .name = "test"};
    ck_assert_ptr_nonnull(mkdtemp(folder));
    authority = cert_make(folder, "ca", NULL, HOUR, NULL);
    good = cert_make(folder, "good", "DNS:localhost", HOUR, &authority);
    struct pln_tls_options options = {.ca = in_folder("ca.crt")};
    ck_assert_int_eq(pln_tls_new(&options, &pln_host, &tls), PLN_OK);
    server_context = SSL_CTX_new(TLS_server_method());
    ck_assert_int_eq(SSL_CTX_use_certificate(server_context, good.cert), 1);
    ck_assert_int_eq(SSL_CTX_use_PrivateKey(server_context, good.key), 1);
    SSL_CTX_set_session_id_context(server_context, (const unsigned char *) "t", 1);
}

static void hang_up(void) {
    pln_secure_free(secure);
    SSL_free(server);
    secure = NULL;
    server = NULL;
}

static void tear_down(void) {
    static const char *const names[] = {"ca.crt", "ca.key", "good.crt", "good.key"};
    hang_up();
    pln_tls_free(tls);
    SSL_CTX_free(server_context);
    cert_free(&authority);
    cert_free(&good);
    for (size_t i = 0; i < PLN_ARRAY_LEN(names); i++) {
        unlink(in_folder(names[i]));
    }
    rmdir(folder);
}

/* ---- a connection whose wire is this function ---- */

/* Carries at most so many bytes each way; returns whether there were any. */
static bool carry(size_t most) {
    char bytes[4096];
    struct pln_bytes unsent = pln_secure_unsent(secure);
    size_t n = unsent.len < most ? unsent.len : most;
    bool has_moved = n > 0;
    if (n > 0) {
        ck_assert_int_eq(BIO_write(to_server, unsent.data, (int) n), (int) n);
        pln_secure_sent(secure, n);
    }
    most = most < sizeof bytes ? most : sizeof bytes;
    int got = BIO_read(from_server, bytes, (int) most);
    if (got > 0) {
        ck_assert_int_eq(pln_secure_put(secure, bytes, (size_t) got), PLN_OK);
    }
    return has_moved || got > 0;
}

/* Shakes hands over a wire that carries so many bytes at a time. Returns the client's result. */
static int connect_over(size_t most) {
    int result;
    server = SSL_new(server_context);
    to_server = BIO_new(BIO_s_mem());
    from_server = BIO_new(BIO_s_mem());
    BIO_set_mem_eof_return(to_server, -1);
    BIO_set_mem_eof_return(from_server, -1);
    SSL_set_bio(server, to_server, from_server);
    SSL_set_accept_state(server);
    ck_assert_int_eq(pln_secure_new(tls, &endpoint, &secure), PLN_OK);
    do {
        result = pln_secure_shake(secure);
        SSL_do_handshake(server);
    } while (carry(most) && result == PLN_PENDING);
    do { /* the client is done first */
        SSL_do_handshake(server);
    } while (carry(most));
    return result;
}

/* The server says something; returns what the client reads, after all was carried. */
static int say(const char *words, size_t most, char *heard, size_t size, size_t *n) {
    int result = PLN_MISS;
    ck_assert_int_eq(SSL_write(server, words, (int) strlen(words)), (int) strlen(words));
    *n = 0;
    while (result == PLN_MISS && carry(most)) {
        result = pln_secure_read(secure, heard, size, n);
    }
    return result;
}

START_TEST(bytes_that_are_cut_anywhere_arrive_whole) {
    static const size_t cuts[] = {1, 7, 4096};
    char heard[64];
    size_t n;
    ck_assert_int_eq(connect_over(cuts[_i]), PLN_OK);
    ck_assert_int_eq(say("+PONG", cuts[_i], heard, sizeof heard, &n), PLN_OK);
    ck_assert(pln_bytes_equal(pln_bytes_of(heard, n), pln_key("+PONG")));
    ck_assert_int_eq(pln_secure_read(secure, heard, sizeof heard, &n), PLN_MISS);
    ck_assert_int_eq(pln_secure_write(secure, "PING", 4), PLN_OK);
    while (carry(cuts[_i])) {
    }
    ck_assert_int_eq(SSL_read(server, heard, sizeof heard), 4);
}
END_TEST

/* Whether a connection, after the server has said something, is a resumed one. */
static bool is_resumed(void) {
    char heard[64];
    size_t n;
    ck_assert_int_eq(connect_over(4096), PLN_OK);
    ck_assert_int_eq(say("x", 4096, heard, sizeof heard, &n), PLN_OK);
    bool is = SSL_session_reused(server) == 1;
    pln_secure_end(secure);
    hang_up();
    return is;
}

START_TEST(a_session_is_resumed_until_what_is_trusted_changes) {
    static const int versions[] = {TLS1_2_VERSION, TLS1_3_VERSION};
    SSL_CTX_set_max_proto_version(server_context, versions[_i]);
    ck_assert(!is_resumed());
    ck_assert(is_resumed());
    ck_assert(is_resumed());
    unlink(in_folder("ca.crt")); /* in place of which another file comes */
    FILE *file = fopen(in_folder("ca.crt"), "w");
    ck_assert_int_eq(PEM_write_X509(file, good.cert), 1);
    ck_assert_int_eq(PEM_write_X509(file, authority.cert), 1);
    fclose(file);
    ck_assert(!is_resumed());
    ck_assert(is_resumed());
}
END_TEST

START_TEST(the_server_is_told_which_name_is_wanted) {
    ck_assert_int_eq(connect_over(4096), PLN_OK);
    ck_assert_pstr_eq(SSL_get_servername(server, TLSEXT_NAMETYPE_host_name), "localhost");
}
END_TEST

START_TEST(a_farewell_is_an_end_and_a_damaged_record_is_not) {
    char heard[64], bytes[256];
    size_t n;
    ck_assert_int_eq(connect_over(4096), PLN_OK);
    SSL_shutdown(server);
    while (carry(4096)) {
    }
    ck_assert_int_eq(pln_secure_read(secure, heard, sizeof heard, &n), PLN_ABSENT);
    hang_up();
    ck_assert_int_eq(connect_over(4096), PLN_OK);
    while (carry(4096)) {
    }
    ck_assert_int_eq(SSL_write(server, "x", 1), 1);
    int len = BIO_read(from_server, bytes, sizeof bytes);
    ck_assert_int_gt(len, 8);
    bytes[len - 1] = (char) (bytes[len - 1] ^ 1);
    ck_assert_int_eq(pln_secure_put(secure, bytes, (size_t) len), PLN_OK);
    ck_assert_int_eq(pln_secure_read(secure, heard, sizeof heard, &n), PLN_EL2DOWN);
    ck_assert_ptr_nonnull(strstr(pln_error_text(), "TLS: "));
}
END_TEST

/* ---- over sockets ---- */

static int keep_nothing(void *arg, const char *bytes, size_t n) {
    (void) arg, (void) bytes, (void) n;
    return PLN_OK;
}

START_TEST(an_end_without_a_farewell_is_told_from_one_with) {
    static const char *const words[] = {"the connection was cut",
                                        "the server closed the connection"};
    char bytes[4096];
    int fds[2];
    ck_assert_int_eq(connect_over(4096), PLN_OK);
    while (carry(4096)) {
    }
    ck_assert_int_eq(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, fds), 0);
    struct pln_stream stream = {.fd = fds[0], .secure = secure, .label = label};
    ck_assert(pln_stream_is_quiet(&stream, keep_nothing, NULL));
    if (_i == 1) {
        SSL_shutdown(server);
        int len = BIO_read(from_server, bytes, sizeof bytes);
        ck_assert_int_eq(send(fds[1], bytes, (size_t) len, MSG_NOSIGNAL), len);
    }
    close(fds[1]);
    ck_assert_int_eq(
        pln_stream_receive(&stream, pln_clock_precise() + 5000000000LL, keep_nothing, NULL),
        PLN_EL2DOWN);
    ck_assert_msg(strstr(pln_error_text(), words[_i]) != NULL, "%s", pln_error_text());
    pln_stream_close(&stream); /* says farewell to nobody, and lives */
    secure = NULL;
}
END_TEST

static int count_bytes(void *arg, const char *bytes, size_t n) {
    (void) bytes;
    *(size_t *) arg += n;
    return PLN_OK;
}

/* Sends what the server has to say over the socket. */
static void flush_server(int fd) {
    char bytes[4096];
    int len = BIO_read(from_server, bytes, sizeof bytes);
    ck_assert_int_gt(len, 0);
    ck_assert_int_eq(send(fd, bytes, (size_t) len, MSG_NOSIGNAL), len);
}

START_TEST(a_ticket_is_quiet_and_bytes_are_handed_over) {
    int fds[2];
    size_t n = 0;
    ck_assert_int_eq(connect_over(4096), PLN_OK);
    ck_assert_int_eq(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, fds), 0);
    struct pln_stream stream = {.fd = fds[0], .secure = secure, .label = label};
    ck_assert_int_eq(SSL_new_session_ticket(server), 1);
    ck_assert_int_eq(SSL_do_handshake(server), 1);
    flush_server(fds[1]);
    ck_assert(pln_stream_is_quiet(&stream, count_bytes, &n));
    ck_assert_uint_eq(n, 0);
    ck_assert_int_eq(SSL_write(server, "+PONG", 5), 5);
    flush_server(fds[1]);
    pln_stream_is_quiet(&stream, count_bytes, &n);
    ck_assert_uint_eq(n, 5);
    close(fds[1]);
    ck_assert(!pln_stream_is_quiet(&stream, count_bytes, &n));
    pln_stream_close(&stream);
    secure = NULL;
}
END_TEST

int main(void) {
    Suite *suite = suite_create("secure");
    TCase *tests = tcase_create("secure");
    suite_add_tcase(suite, tests);
    tcase_set_timeout(tests, 60);
    tcase_add_checked_fixture(tests, set_up, tear_down);
    tcase_add_loop_test(tests, bytes_that_are_cut_anywhere_arrive_whole, 0, 3);
    tcase_add_loop_test(tests, a_session_is_resumed_until_what_is_trusted_changes, 0, 2);
    tcase_add_test(tests, the_server_is_told_which_name_is_wanted);
    tcase_add_test(tests, a_farewell_is_an_end_and_a_damaged_record_is_not);
    tcase_add_loop_test(tests, an_end_without_a_farewell_is_told_from_one_with, 0, 2);
    tcase_add_test(tests, a_ticket_is_quiet_and_bytes_are_handed_over);
    SRunner *runner = srunner_create(suite);
    srunner_run_all(runner, CK_ENV);
    int failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed == 0 ? 0 : 1;
}
