/* SPDX-License-Identifier: MIT
 * test_url.c - l2/url.c: what a URL means, and that a faulty one is refused without a secret. */
#include <check.h>
#include <stdio.h>

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
    {"rediss://u:p@h/2", "h", NULL, "u", "p", "h:6379", 6379, 2},
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
    ck_assert_int_eq(url.topology, PLN_ALONE);
    ck_assert_uint_eq(url.n_endpoints, 1);
    expect_text(url.endpoints[0].host, good[_i].host);
    expect_text(url.endpoints[0].path, good[_i].path);
    expect_text(url.endpoints[0].label, good[_i].label);
    ck_assert_int_eq(url.endpoints[0].port, good[_i].port);
    expect_text(url.login.username, good[_i].username);
    expect_text(url.login.password, good[_i].password);
    ck_assert_int_eq(url.login.database, good[_i].database);
    expect_text(url.label, good[_i].label);
    ck_assert_int_eq(url.is_tls, strncmp(good[_i].text, "rediss", 6) == 0);
    pln_url_fini(&url);
    pln_url_fini(&url);
}
END_TEST

static const char *const bad[] = {
    "",
    "localhost",
    "http://localhost",
    "redis+ssh://:hunter2@h",
    "rediss+ring://:hunter2@h",
    "rediss://:hunter2@h?tls=true",
    "redis://:hunter2@h,g",
    "redis://:hunter2@h*2",
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
    "redis+sentinel://:hunter2@h",
    "redis+sentinel://:hunter2@h/",
    "redis+sentinel://:hunter2@h?tls=true",
    "redis+sentinel://:hunter2@h/s/x",
    "redis+sentinel://:hunter2@h,/s",
    "redis+sentinel://:hunter2@h,unix:/s/s",
    "redis+sentinel://:hunter2@h*2/s",
    "redis+sentinel://:hunter2@h/s?tls=hunter2",
    "redis+sentinel://:hunter2@h/s?sentinel_password=hunter2%",
    "redis+sentinel://:hunter2@h/s?hunter2",
    "redis+sentinel://:hunter2@h/s?db=1",
    "redis+cluster://:hunter2@h/1",
    "redis+cluster://:hunter2@h?db=0",
    "redis+cluster://:hunter2@",
    "redis+ring://:hunter2@h*0",
    "redis+ring://:hunter2@h*1001",
    "redis+ring://:hunter2@h*",
    "redis+ring://:hunter2@h,",
    "redis+ring://:hunter2@h,H:6379",
    "redis+ring://:hunter2@unix:/s,unix:/s*2",
    "redis+ring://:hunter2@unix:/s%2",
    "redis+ring://:hunter2@h,unix:/s?tls=true",
    "redis+ring://:hunter2@h#1",
    "redis+ring://:hunter2@h?sentinel_tls=true",
};

START_TEST(a_faulty_url_is_refused_and_not_quoted) {
    struct pln_url url;
    ck_assert_msg(pln_url_read(bad[_i], &url) == PLN_EINVAL, "'%s' was taken", bad[_i]);
    ck_assert_ptr_nonnull(strstr(pln_error_text(), "redis url: "));
    ck_assert_ptr_null(strstr(pln_error_text(), "hunter2"));
}
END_TEST

START_TEST(sentinels_are_named_with_what_they_watch) {
    struct pln_url url;
    ck_assert_int_eq(pln_url_read("redis+sentinel://u:p@a,[::1]:7/my%2fservice/3"
                                  "?sentinel_username=s&sentinel_password=%26&tls=true",
                                  &url),
                     PLN_OK);
    ck_assert_int_eq(url.topology, PLN_SENTINEL);
    ck_assert_uint_eq(url.n_endpoints, 2);
    expect_text(url.endpoints[0].label, "a:26379");
    expect_text(url.endpoints[1].label, "[::1]:7");
    expect_text(url.service, "my/service");
    expect_text(url.login.username, "u");
    expect_text(url.login.password, "p");
    ck_assert_int_eq(url.login.database, 3);
    expect_text(url.sentinel_login.username, "s");
    expect_text(url.sentinel_login.password, "&");
    ck_assert(url.is_tls && !url.is_sentinel_tls);
    expect_text(url.label, "sentinel my/service of a:26379 and 1 more");
    pln_url_fini(&url);
    ck_assert_int_eq(pln_url_read("redis+sentinel://a/s?sentinel_tls=true&tls=false", &url),
                     PLN_OK);
    ck_assert(!url.is_tls && url.is_sentinel_tls);
    pln_url_fini(&url);
}
END_TEST

START_TEST(a_cluster_is_found_by_any_of_its_servers) {
    struct pln_url url;
    ck_assert_int_eq(pln_url_read("redis+cluster://:p@a:7000,b/0?tls=true", &url), PLN_OK);
    ck_assert_int_eq(url.topology, PLN_CLUSTER);
    ck_assert_uint_eq(url.n_endpoints, 2);
    expect_text(url.endpoints[0].label, "a:7000");
    expect_text(url.endpoints[1].label, "b:6379");
    ck_assert(url.is_tls);
    expect_text(url.login.password, "p");
    pln_url_fini(&url);
    ck_assert_int_eq(pln_url_read("redis+cluster://h/1", &url), PLN_EINVAL);
    ck_assert_ptr_nonnull(strstr(pln_error_text(), "a cluster has no databases but 0"));
}
END_TEST

START_TEST(a_ring_has_servers_of_different_weight) {
    struct pln_url url;
    ck_assert_int_eq(
        pln_url_read("redis+ring://:p@a:1*3,unix:/x%2c1.sock,unix:/y*1000,b/5?tls=false", &url),
        PLN_OK);
    ck_assert_int_eq(url.topology, PLN_RING);
    ck_assert_uint_eq(url.n_endpoints, 4);
    expect_text(url.endpoints[0].host, "a");
    ck_assert_uint_eq(url.endpoints[0].weight, 3);
    expect_text(url.endpoints[1].path, "/x,1.sock");
    expect_text(url.endpoints[1].label, "/x,1.sock");
    ck_assert_uint_eq(url.endpoints[1].weight, 1);
    expect_text(url.endpoints[2].path, "/y");
    ck_assert_uint_eq(url.endpoints[2].weight, 1000);
    expect_text(url.endpoints[3].host, "b");
    ck_assert_int_eq(url.login.database, 5);
    pln_url_fini(&url);
    ck_assert_int_eq(pln_url_read("redis+ring://unix:/x/y,unix:/x/z?db=4", &url), PLN_OK);
    expect_text(url.endpoints[1].path, "/x/z");
    ck_assert_int_eq(url.login.database, 4);
    pln_url_fini(&url);
}
END_TEST

/* A ring of n servers h0, h1, ... */
static int read_ring(int n) {
    char *text = NULL;
    size_t len = 0;
    struct pln_url url;
    FILE *out = open_memstream(&text, &len);
    fprintf(out, "redis+ring://h0");
    for (int i = 1; i < n; i++) {
        fprintf(out, ",h%d", i);
    }
    fclose(out);
    int result = pln_url_read(text, &url);
    if (result == PLN_OK) {
        ck_assert_uint_eq(url.n_endpoints, (size_t) n);
        pln_url_fini(&url);
    }
    free(text);
    return result;
}

START_TEST(the_number_of_servers_is_bounded) {
    ck_assert_int_eq(read_ring(1024), PLN_OK);
    ck_assert_int_eq(read_ring(1025), PLN_EINVAL);
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
    ck_assert_str_eq(url.login.username, "a");
    ck_assert_str_eq(url.login.password, "c");
    pln_url_fini(&url);
}
END_TEST

int main(void) {
    Suite *suite = suite_create("url");
    TCase *tests = tcase_create("url");
    suite_add_tcase(suite, tests);
    tcase_add_loop_test(tests, a_url_says_where_and_who, 0, PLN_ARRAY_LEN(good));
    tcase_add_loop_test(tests, a_faulty_url_is_refused_and_not_quoted, 0, PLN_ARRAY_LEN(bad));
    tcase_add_test(tests, sentinels_are_named_with_what_they_watch);
    tcase_add_test(tests, a_cluster_is_found_by_any_of_its_servers);
    tcase_add_test(tests, a_ring_has_servers_of_different_weight);
    tcase_add_test(tests, the_number_of_servers_is_bounded);
    tcase_add_test(tests, a_path_too_long_for_a_socket_is_refused);
    tcase_add_test(tests, a_login_given_apart_wins);
    SRunner *runner = srunner_create(suite);
    srunner_run_all(runner, CK_ENV);
    int failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed == 0 ? 0 : 1;
}
