/* SPDX-License-Identifier: MIT
 * test_tls.c - l2/tls.c, l2/secure.c and l2/stream.c against a redis-server that speaks TLS: whom a
 * client trusts, what it says where it does not, and that it never goes on in the clear. */
#include <check.h>
#include <netinet/in.h>
#include <signal.h>
#include <stdio.h>
#include <sys/socket.h>
#include <unistd.h>

#include "../../l2/internal.h"
#include "certs.h"
#include "client.h"
#include "server.h"

enum { HOUR = 3600 };

/* ---- certificates: made once for all tests ---- */

static char folder[] = "/tmp/pln-test-XXXXXX";
static const char *const made[] = {"ca",       "foreign", "good",   "expired",
                                   "misnamed", "alone",   "client", "alien"};

static void make_certificates(void) {
    if (mkdtemp(folder) == NULL) {
        abort();
    }
    struct cert ca = cert_make(folder, "ca", NULL, HOUR, NULL);
    struct cert foreign = cert_make(folder, "foreign", NULL, HOUR, NULL);
    static const char here[] = "DNS:localhost,IP:127.0.0.1";
    struct cert others[] = {cert_make(folder, "good", here, HOUR, &ca),
                            cert_make(folder, "expired", here, -60, &ca),
                            cert_make(folder, "misnamed", "DNS:redis.test", HOUR, &ca),
                            cert_make(folder, "alone", here, HOUR, NULL),
                            cert_make(folder, "client", "DNS:client", HOUR, &ca),
                            cert_make(folder, "alien", "DNS:client", HOUR, &foreign)};
    for (size_t i = 0; i < PLN_ARRAY_LEN(others); i++) {
        cert_free(&others[i]);
    }
    cert_free(&ca);
    cert_free(&foreign);
}

/* "ca.crt" with its folder. Several may be held at a time. */
static const char *in_folder(const char *name) {
    static char paths[16][96];
    static size_t next;
    char *path = paths[next++ % PLN_ARRAY_LEN(paths)];
    snprintf(path, sizeof paths[0], "%s/%s", folder, name);
    return path;
}

static void remove_certificates(void) {
    char name[32];
    for (size_t i = 0; i < PLN_ARRAY_LEN(made); i++) {
        snprintf(name, sizeof name, "%s.crt", made[i]);
        unlink(in_folder(name));
        snprintf(name, sizeof name, "%s.key", made[i]);
        unlink(in_folder(name));
    }
    unlink(in_folder("trusted"));
    rmdir(folder);
}

/* ---- servers and clients ---- */

static struct server server;
static struct client client;
static char url[64], port_text[16];

/* A server whose certificate is of that name. The last option and its value are the test's. */
static void start(const char *name, const char *clients, const char *option, const char *value) {
    char cert[32], key[32];
    snprintf(cert, sizeof cert, "%s.crt", name);
    snprintf(key, sizeof key, "%s.key", name);
    int port = pln_test_free_port();
    snprintf(port_text, sizeof port_text, "%d", port);
    snprintf(url, sizeof url, "rediss://localhost:%d", port);
    const char *const options[] = {"--tls-port",
                                   port_text,
                                   "--bind",
                                   "127.0.0.1",
                                   "--tls-cert-file",
                                   in_folder(cert),
                                   "--tls-key-file",
                                   in_folder(key),
                                   "--tls-ca-cert-file",
                                   in_folder("ca.crt"),
                                   "--tls-auth-clients",
                                   clients,
                                   option,
                                   value,
                                   NULL};
    pln_test_redis_start(&server, options);
}

static struct pln_l2_options trusting(const char *ca) {
    struct pln_l2_options options = client_options(&client, url);
    options.tls.ca = ca == NULL ? NULL : in_folder(ca);
    return options;
}

static void open_client(const struct pln_l2_options *options) {
    ck_assert_msg(pln_l2_redis_new(options, &client.l2) == PLN_OK, "%s", pln_error_text());
}

static void reopen_client(const struct pln_l2_options *options) {
    pln_l2_close(client.l2);
    open_client(options);
}

static int set(const char *key, const char *text) {
    struct pln_hashed hashed = key_of(key);
    struct pln_l2_item item = item_of(text);
    return pln_l2_set(client.l2, &hashed, &item, 0, pln_clock_precise() + 5000000000LL);
}

static void expect_set(void) {
    ck_assert_msg(set("a", "one") == PLN_OK, "%s", pln_error_text());
    expect_text(&client, "a", "one");
}

static void expect_refusal(const char *words) {
    int result = set("a", "one");
    ck_assert_msg(result == PLN_EL2DOWN && strstr(pln_error_text(), words) != NULL,
                  "got %d (%s), expected ...%s...", result, pln_error_text(), words);
    ck_assert_ptr_nonnull(strstr(pln_error_text(), "l2: redis at localhost:"));
    ck_assert_uint_eq(client_count(&client, PLN_COUNT_L2_CONNECTS), 0);
    char *keys = pln_test_redis_command(&server, "DBSIZE");
    ck_assert_str_eq(keys, "0");
    free(keys);
}

static void set_up(void) {
    client_init(&client);
    memset(&server, 0, sizeof server);
}

static void tear_down(void) {
    client_fini(&client);
    if (server.pid > 0) {
        pln_test_redis_stop(&server);
    }
}

/* ---- tests ---- */

START_TEST(values_and_news_go_over_tls) {
    struct client other;
    struct pln_l2_value value;
    struct pln_hashed key = key_of("large");
    size_t len = 3 * 1000 * 1000;
    char *large = malloc(len + 1);
    start("good", "no", NULL, NULL);
    struct pln_l2_options options = trusting("ca.crt");
    options.tracking = true;
    open_client(&options);
    ck_assert_int_eq(pln_l2_start(client.l2), PLN_OK);
    ck_assert(client_hears(&client, "+"));
    expect_set();
    memset(large, 'x', len);
    large[len] = 0;
    ck_assert_msg(set("large", large) == PLN_OK, "%s", pln_error_text());
    ck_assert_int_eq(pln_l2_get(client.l2, &key, soon() + 4000000000LL, &value), PLN_OK);
    ck_assert(pln_bytes_equal(value.item.value, pln_bytes_of(large, len)));
    pln_l2_value_fini(&value);
    client_init(&other);
    options.counts = other.counts;
    options.host = &other.host;
    options.events.arg = &other;
    options.tracking = false;
    ck_assert_int_eq(pln_l2_redis_new(&options, &other.l2), PLN_OK);
    struct pln_hashed news = key_of("news");
    ck_assert_int_eq(pln_l2_remove(other.l2, &news, soon()), PLN_OK);
    ck_assert(client_hears(&client, "k:news"));
    client_fini(&other);
    free(large);
}
END_TEST

START_TEST(a_conversation_of_ones_own_goes_over_tls_too) {
    struct pln_bytes ping = pln_key("PING");
    struct pln_l2_talk *talk;
    struct pln_reply *reply;
    start("good", "no", NULL, NULL);
    struct pln_l2_options options = trusting("ca.crt");
    open_client(&options);
    ck_assert_int_eq(pln_l2_talk_new(client.l2, pln_key("x"), &talk), PLN_OK);
    ck_assert_msg(pln_l2_talk_open(talk) == PLN_OK, "%s", pln_error_text());
    ck_assert_int_eq(pln_l2_talk_say(talk, &ping, 1), PLN_OK);
    ck_assert_int_eq(pln_l2_talk_hear(talk, soon(), &reply), PLN_OK);
    ck_assert(pln_bytes_equal(reply->bytes, pln_key("PONG")));
    pln_reply_free(reply);
    ck_assert_int_eq(pln_l2_talk_hear(talk, pln_clock_precise() + 1000000, &reply), PLN_MISS);
    pln_l2_talk_free(talk);
}
END_TEST

START_TEST(a_server_is_known_by_its_address_too) {
    start("good", "no", NULL, NULL);
    snprintf(url, sizeof url, "rediss://127.0.0.1:%s", port_text);
    struct pln_l2_options options = trusting("ca.crt");
    open_client(&options);
    expect_set();
}
END_TEST

static const struct {
    const char *cert, *ca, *words;
} bad[] = {
    {"good", "foreign.crt", "the server's certificate is signed by nobody that we trust (tls_ca)"},
    {"good", NULL, "the server's certificate is signed by nobody that we trust (tls_ca)"},
    {"expired", "ca.crt", "the server's certificate has expired"},
    {"misnamed", "ca.crt", "the server's certificate is not for 'localhost' (tls_name)"},
    {"alone", "ca.crt", "the server's certificate is signed by itself"},
};

START_TEST(a_server_that_does_not_prove_itself_is_sent_nothing) {
    start(bad[_i].cert, "no", NULL, NULL);
    struct pln_l2_options options = trusting(bad[_i].ca);
    open_client(&options);
    expect_refusal(bad[_i].words);
    options.tls.is_unchecked = true;
    reopen_client(&options);
    expect_set();
}
END_TEST

START_TEST(a_name_given_apart_is_the_one_that_counts) {
    start("misnamed", "no", NULL, NULL);
    struct pln_l2_options options = trusting("ca.crt");
    options.tls.name = "redis.test";
    open_client(&options);
    expect_set();
}
END_TEST

START_TEST(a_server_may_want_to_know_its_clients) {
    static const char *const protocols[] = {"TLSv1.2", "TLSv1.3"};
    start("good", "yes", "--tls-protocols", protocols[_i]);
    struct pln_l2_options options = trusting("ca.crt");
    open_client(&options);
    expect_refusal("the server wants a client certificate (tls_cert, tls_key)");
    options.tls.cert = in_folder("alien.crt");
    options.tls.key = in_folder("alien.key");
    reopen_client(&options);
    expect_refusal("the server refused our certificate (tls_cert)");
    options.tls.cert = in_folder("client.crt");
    options.tls.key = in_folder("client.key");
    reopen_client(&options);
    expect_set();
}
END_TEST

/* A server of the test's own, in the clear; returns its socket. */
static int listen_plainly(void) {
    struct sockaddr_in address = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    socklen_t len = sizeof address;
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    ck_assert_int_eq(bind(fd, (struct sockaddr *) &address, len), 0);
    ck_assert_int_eq(listen(fd, 8), 0);
    ck_assert_int_eq(getsockname(fd, (struct sockaddr *) &address, &len), 0);
    snprintf(url, sizeof url, "rediss://localhost:%d", ntohs(address.sin_port));
    return fd;
}

/* Says what a Redis that took a greeting of TLS for a command would say. */
static void *refuse_plainly(void *arg) {
    static const char words[] = "-ERR unknown command\r\n";
    int fd = accept(*(int *) arg, NULL, NULL);
    ck_assert_int_eq(send(fd, words, sizeof words - 1, MSG_NOSIGNAL), sizeof words - 1);
    char bytes[2048];
    while (recv(fd, bytes, sizeof bytes, 0) > 0) {
    }
    close(fd);
    return NULL;
}

START_TEST(a_server_in_the_clear_is_not_spoken_to) {
    pthread_t thread;
    int fd = listen_plainly();
    struct pln_l2_options options = trusting("ca.crt");
    ck_assert_int_eq(pthread_create(&thread, NULL, refuse_plainly, &fd), 0);
    open_client(&options);
    ck_assert_int_eq(set("a", "one"), PLN_EL2DOWN);
    ck_assert_ptr_nonnull(strstr(pln_error_text(), "the server does not speak TLS at this port"));
    pthread_join(thread, NULL);
    close(fd);
}
END_TEST

START_TEST(a_server_of_an_old_tls_is_refused) {
    start("good", "no", "--tls-protocols", "TLSv1.1");
    struct pln_l2_options options = trusting("ca.crt");
    open_client(&options);
    expect_refusal("the server knows no version from 1.2 on");
}
END_TEST

START_TEST(a_handshake_ends_at_its_deadline) {
    int silent = listen_plainly();
    struct pln_l2_options options = trusting("ca.crt");
    struct pln_hashed key = key_of("a");
    struct pln_l2_value value;
    open_client(&options);
    ck_assert_int_eq(pln_l2_get(client.l2, &key, pln_clock_precise() + 500000000, &value),
                     PLN_ETIMEOUT);
    ck_assert_ptr_nonnull(strstr(pln_error_text(), "no TLS handshake before the deadline"));
    close(silent);
}
END_TEST

START_TEST(a_server_that_dies_under_tls_takes_nobody_along) {
    struct sigaction action;
    start("good", "no", NULL, NULL);
    sigaction(SIGPIPE, NULL, &action);
    ck_assert(action.sa_handler == SIG_DFL);
    struct pln_l2_options options = trusting("ca.crt");
    open_client(&options);
    for (int i = 0; i < 5; i++) {
        ck_assert_msg(set("a", "one") == PLN_OK, "%s", pln_error_text());
        pln_test_redis_kill(&server);
        ck_assert_int_eq(set("a", "two"), PLN_EL2DOWN);
        pln_test_redis_restart(&server);
        int result = PLN_EL2DOWN;
        for (int tries = 0; result != PLN_OK && tries < 5000; tries++) {
            result = set("a", "three");
            usleep(1000);
        }
        ck_assert_int_eq(result, PLN_OK);
    }
}
END_TEST

START_TEST(what_tls_says_to_itself_spoils_no_connection) {
    start("good", "no", NULL, NULL);
    struct pln_l2_options options = trusting("ca.crt");
    options.pool = 1;
    open_client(&options);
    for (int i = 0; i < 4; i++) {
        expect_set();
        usleep(15000); /* so that it is looked at before it is used again */
    }
    ck_assert_uint_eq(client_count(&client, PLN_COUNT_L2_CONNECTS), 1);
    pln_test_redis_kill(&server);
    usleep(15000);
    ck_assert_int_eq(set("a", "two"), PLN_EL2DOWN);
    ck_assert_ptr_nonnull(
        strstr(pln_error_text(), "Connection refused")); /* it was seen to be gone */
}
END_TEST

static void copy_file(const char *from, const char *to) {
    char bytes[8192], path[128];
    snprintf(path, sizeof path, "%s.new", to);
    FILE *in = fopen(from, "r"), *out = fopen(path, "w");
    ck_assert(in != NULL && out != NULL);
    size_t n = fread(bytes, 1, sizeof bytes, in);
    ck_assert_uint_eq(fwrite(bytes, 1, n, out), n);
    fclose(in);
    fclose(out);
    ck_assert_int_eq(rename(path, to), 0);
}

START_TEST(replaced_certificates_are_used_from_the_next_connection_on) {
    start("good", "no", NULL, NULL);
    copy_file(in_folder("foreign.crt"), in_folder("trusted"));
    struct pln_l2_options options = trusting("trusted");
    options.pool = 1;
    open_client(&options);
    expect_refusal("signed by nobody that we trust");
    copy_file(in_folder("ca.crt"), in_folder("trusted"));
    int result = PLN_EL2DOWN;
    for (int tries = 0; result != PLN_OK && tries < 5000; tries++) {
        result = set("a", "one");
        usleep(1000);
    }
    ck_assert_msg(result == PLN_OK, "%s", pln_error_text());
    copy_file(in_folder("ca.key"), in_folder("trusted")); /* no certificate at all */
    char *killed = pln_test_redis_command(&server, "CLIENT KILL TYPE normal");
    free(killed);
    for (result = PLN_EL2DOWN; result != PLN_OK;) {
        result = set("a", "two");
    }
    ck_assert(client_logs(&client, "tls_ca: cannot use "));
    ck_assert(client_logs(&client, "what was read before it changed stays in use"));
}
END_TEST

static const struct {
    struct pln_tls_options tls;
    const char *scheme, *words;
} unusable[] = {
    {{.ca = "/nowhere/ca.crt"}, "rediss", "tls_ca: cannot use '/nowhere/ca.crt': No such file"},
    {{.cert = "/nowhere/a.crt"}, "rediss", "tls_cert: cannot use '/nowhere/a.crt': No such file"},
    {{.key = "/nowhere/a.key"}, "rediss", "tls_key: a key without its certificate (tls_cert)"},
    {{.ca = "/nowhere/ca.crt"}, "redis", "tls_ca: given, but the redis url says no TLS"},
};

START_TEST(options_that_cannot_be_used_are_refused_by_name) {
    snprintf(url, sizeof url, "%s://localhost", unusable[_i].scheme);
    struct pln_l2_options options = trusting(NULL);
    options.tls = unusable[_i].tls;
    ck_assert_int_eq(pln_l2_redis_new(&options, &client.l2), PLN_EINVAL);
    ck_assert_msg(strstr(pln_error_text(), unusable[_i].words) != NULL, "%s", pln_error_text());
}
END_TEST

START_TEST(a_key_of_another_certificate_is_refused_by_name) {
    snprintf(url, sizeof url, "rediss://localhost");
    struct pln_l2_options options = trusting("ca.crt");
    options.tls.cert = in_folder("client.crt");
    options.tls.key = in_folder("good.key");
    ck_assert_int_eq(pln_l2_redis_new(&options, &client.l2), PLN_EINVAL);
    ck_assert_ptr_nonnull(strstr(pln_error_text(), "tls_key: cannot use '"));
    ck_assert_ptr_nonnull(strstr(pln_error_text(), "key values mismatch"));
}
END_TEST

int main(void) {
    make_certificates();
    Suite *suite = suite_create("tls");
    TCase *tests = tcase_create("tls");
    suite_add_tcase(suite, tests);
    tcase_set_timeout(tests, 60);
    tcase_add_checked_fixture(tests, set_up, tear_down);
    tcase_add_test(tests, values_and_news_go_over_tls);
    tcase_add_test(tests, a_server_is_known_by_its_address_too);
    tcase_add_test(tests, a_conversation_of_ones_own_goes_over_tls_too);
    tcase_add_loop_test(tests, a_server_that_does_not_prove_itself_is_sent_nothing, 0,
                        PLN_ARRAY_LEN(bad));
    tcase_add_test(tests, a_name_given_apart_is_the_one_that_counts);
    tcase_add_loop_test(tests, a_server_may_want_to_know_its_clients, 0, 2);
    tcase_add_test(tests, a_server_in_the_clear_is_not_spoken_to);
    tcase_add_test(tests, a_server_of_an_old_tls_is_refused);
    tcase_add_test(tests, a_handshake_ends_at_its_deadline);
    tcase_add_test(tests, a_server_that_dies_under_tls_takes_nobody_along);
    tcase_add_test(tests, what_tls_says_to_itself_spoils_no_connection);
    tcase_add_test(tests, replaced_certificates_are_used_from_the_next_connection_on);
    tcase_add_loop_test(tests, options_that_cannot_be_used_are_refused_by_name, 0,
                        PLN_ARRAY_LEN(unusable));
    tcase_add_test(tests, a_key_of_another_certificate_is_refused_by_name);
    SRunner *runner = srunner_create(suite);
    srunner_run_all(runner, CK_ENV);
    int failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    remove_certificates();
    return failed == 0 ? 0 : 1;
}
