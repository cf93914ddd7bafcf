/* SPDX-License-Identifier: MIT
 * test_url.c - l2/url.c: what a URL means, and that a faulty one is refused without a secret. */
#include <check.h>

#include "../../l2/internal.h"

static const struct {
    const char *text;
    const char *host, *path, *username, *password, *label;
    int port, database;
} good[] = {
    {"redis://localhost", "localhost", NULL, NULL, NULL, "localhost:6379", 6379, 0},
    {"redis://localhost/", "localhost", NULL, NULL, NULL, "localhost:6379", 6379, 0},
    {"redis://10.0.0.1:7000/3", "10.0.0.1", NULL, NULL, NULL, "10.0.0.1:7000", 7000, 3},
    {"redis://:p%40ss%3a@h", "h", NULL, NULL, "p@ss:", "h:6379", 6379, 0},
    {"redis://me:a@b@h:1", "h", NULL, "me", "a@b", "h:1", 1, 0},
    {"redis://me@h", "h", NULL, "me", NULL, "h:6379", 6379, 0},
    {"redis://[::1]:7/1", "::1", NULL, NULL, NULL, "[::1]:7", 7, 1},
    {"unix:/run/redis.sock", NULL, "/run/redis.sock", NULL, NULL, "/run/redis.sock", 0, 0},
    {"unix:///run/redis.sock?db=2", NULL, "/run/redis.sock", NULL, NULL, "/run/redis.sock", 0, 2},
};

static void expect_text(const char *is, const char *expected) {
    ck_assert_pstr_eq(is, expected);
}

START_TEST(a_url_says_where_and_who) {
    struct pln_url url;
    ck_assert_msg(pln_url_read(good[_i].text, &url) == PLN_OK, "%s: %s", good[_i].text,
                  pln_error_text());
    expect_text(url.host, good[_i].host);
    expect_text(url.path, good[_i].path);
    expect_text(url.username, good[_i].username);
    expect_text(url.password, good[_i].password);
    expect_text(url.label, good[_i].label);
    ck_assert_int_eq(url.port, good[_i].port);
    ck_assert_int_eq(url.database, good[_i].database);
    pln_url_fini(&url);
    pln_url_fini(&url);
}
END_TEST

static const char *const bad[] = {
    "",
    "localhost",
    "http://localhost",
    "rediss://:hunter2@h",
    "redis://",
    "redis://:hunter2@",
    "redis://:hunter2@h:0",
    "redis://:hunter2@h:65536",
    "redis://:hunter2@h:1x",
    "redis://:hunter2@h/x",
    "redis://:hunter2@h/99999999999999",
    "redis://:hunter2@h?db=1",
    "redis://:hunter2%4@h",
    "redis://:hunter2%zz@h",
    "redis://:hunter2%00@h",
    "redis://[::1",
    "redis://[::1]x",
    "unix:",
    "unix:?db=1",
    "unix:/s?database=1",
    "unix:/s?db=",
    "unix:/s?db=-1",
};

START_TEST(a_faulty_url_is_refused_and_not_quoted) {
    struct pln_url url;
    ck_assert_msg(pln_url_read(bad[_i], &url) == PLN_EINVAL, "'%s' was taken", bad[_i]);
    ck_assert_ptr_nonnull(strstr(pln_error_text(), "redis url: "));
    ck_assert_ptr_null(strstr(pln_error_text(), "hunter2"));
}
END_TEST

START_TEST(a_path_too_long_for_a_socket_is_refused) {
    char text[200] = "unix:/";
    struct pln_url url;
    memset(text + 6, 'x', 107);
    ck_assert_int_eq(pln_url_read(text, &url), PLN_EINVAL);
    text[5 + 107] = 0;
    ck_assert_int_eq(pln_url_read(text, &url), PLN_OK);
    pln_url_fini(&url);
}
END_TEST

START_TEST(a_login_given_apart_wins) {
    struct pln_url url;
    ck_assert_int_eq(pln_url_read("redis://a:b@h", &url), PLN_OK);
    ck_assert_int_eq(pln_url_login(&url, NULL, "c"), PLN_OK);
    ck_assert_str_eq(url.username, "a");
    ck_assert_str_eq(url.password, "c");
    pln_url_fini(&url);
}
END_TEST

int main(void) {
    Suite *suite = suite_create("url");
    TCase *tests = tcase_create("url");
    suite_add_tcase(suite, tests);
    tcase_add_loop_test(tests, a_url_says_where_and_who, 0, PLN_ARRAY_LEN(good));
    tcase_add_loop_test(tests, a_faulty_url_is_refused_and_not_quoted, 0, PLN_ARRAY_LEN(bad));
    tcase_add_test(tests, a_path_too_long_for_a_socket_is_refused);
    tcase_add_test(tests, a_login_given_apart_wins);
    SRunner *runner = srunner_create(suite);
    srunner_run_all(runner, CK_ENV);
    int failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed == 0 ? 0 : 1;
}
