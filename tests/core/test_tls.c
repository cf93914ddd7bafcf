/* SPDX-License-Identifier: MIT
 * test_tls.c - the options of TLS, as a program sets them by name, on their way to a server. */
#include <check.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "../../core/perilune.h"
#include "../l2/certs.h"
#include "../l2/server.h"

static struct server server;
static char folder[] = "/tmp/pln-test-XXXXXX";
static char url[64], files[6][64];

enum { CA, CA_KEY, GOOD, GOOD_KEY, CLIENT, CLIENT_KEY };

static void no_log(void *arg, int level, const char *line) {
    (void) arg, (void) level, (void) line;
}

/* A server known as redis.test alone, to clients that show a certificate. */
static void set_up(void) {
    static const char *const names[] = {"ca.crt",   "ca.key",     "good.crt",
                                        "good.key", "client.crt", "client.key"};
    char port_text[16];
    int port = pln_test_free_port();
    ck_assert_ptr_nonnull(mkdtemp(folder));
    for (size_t i = 0; i < 6; i++) {
        snprintf(files[i], sizeof files[i], "%s/%s", folder, names[i]);
    }
    struct cert ca = cert_make(folder, "ca", NULL, 3600, NULL);
    struct cert good = cert_make(folder, "good", "DNS:redis.test", 3600, &ca);
    struct cert client = cert_make(folder, "client", "DNS:client", 3600, &ca);
    snprintf(port_text, sizeof port_text, "%d", port);
    snprintf(url, sizeof url, "rediss://127.0.0.1:%d", port);
    const char *const options[] = {
        "--tls-port", port_text,        "--bind",        "127.0.0.1",          "--tls-cert-file",
        files[GOOD],  "--tls-key-file", files[GOOD_KEY], "--tls-ca-cert-file", files[CA],
        NULL};
    pln_test_redis_start(&server, options);
    cert_free(&ca);
    cert_free(&good);
    cert_free(&client);
}

static void tear_down(void) {
    pln_test_redis_stop(&server);
    for (size_t i = 0; i < 6; i++) {
        unlink(files[i]);
    }
    rmdir(folder);
}

/* Sets a value by a cache with the options that are not NULL. */
static int try(const char *ca, const char *cert, const char *key, const char *name,
               const char *verify) {
    const struct {
        const char *name, *text;
    } settings[] = {{"redis", url},   {"tls_ca", ca},     {"tls_cert", cert},
                    {"tls_key", key}, {"tls_name", name}, {"tls_verify", verify},
                    {"timeout", "5s"}};
    struct pln_options options = {.log = no_log};
    struct pln_cache *cache;
    for (size_t i = 0; i < sizeof settings / sizeof settings[0]; i++) {
        ck_assert(settings[i].text == NULL ||
                  pln_options_set(&options, settings[i].name, settings[i].text) == PLN_OK);
    }
    ck_assert_msg(pln_open(&options, &cache) == PLN_OK, "%s", pln_error_text());
    int result = pln_set(cache, pln_key("k"), pln_key("v"), NULL);
    char text[256];
    snprintf(text, sizeof text, "%s", result < 0 ? pln_error_text() : "");
    pln_close(cache);
    ck_assert_msg(result == PLN_OK || strstr(text, "TLS: ") != NULL, "%s", text);
    return result;
}

START_TEST(each_option_of_tls_counts) {
    ck_assert_int_eq(try(files[CA], files[CLIENT], files[CLIENT_KEY], "redis.test", NULL), PLN_OK);
    ck_assert_int_eq(try(files[CA], files[CLIENT], files[CLIENT_KEY], NULL, NULL), PLN_EL2DOWN);
    ck_assert_int_eq(try(NULL, files[CLIENT], files[CLIENT_KEY], "redis.test", NULL), PLN_EL2DOWN);
    ck_assert_int_eq(try(files[CA], NULL, NULL, "redis.test", NULL), PLN_EL2DOWN);
    ck_assert_int_eq(try(NULL, files[CLIENT], files[CLIENT_KEY], NULL, "true"), PLN_EL2DOWN);
    ck_assert_int_eq(try(NULL, files[CLIENT], files[CLIENT_KEY], NULL, "false"), PLN_OK);
}
END_TEST

int main(void) {
    Suite *suite = suite_create("tls");
    TCase *tests = tcase_create("tls");
    suite_add_tcase(suite, tests);
    tcase_set_timeout(tests, 60);
    tcase_add_checked_fixture(tests, set_up, tear_down);
    tcase_add_test(tests, each_option_of_tls_counts);
    SRunner *runner = srunner_create(suite);
    srunner_run_all(runner, CK_ENV);
    int failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed == 0 ? 0 : 1;
}
