/* SPDX-License-Identifier: MIT
 * faults_moved.c - a cluster that sends its callers round and round, or to nowhere, or asks for
 * patience: said by a server that pretends to be one. */
#include "faults.h"

#include <stdio.h>

#include "fake.h"

static struct fake fake;
static struct client a;
static char slots[128], moved[64], asked[64];

static void set_up(void) {
    char url[64];
    pln_test_fake_start(&fake);
    snprintf(slots, sizeof slots,
             "*1\r\n*3\r\n:0\r\n:16383\r\n*3\r\n$9\r\n127.0.0.1\r\n:%d\r\n$2\r\nid\r\n", fake.port);
    snprintf(moved, sizeof moved, "-MOVED 5 127.0.0.1:%d\r\n", fake.port);
    snprintf(asked, sizeof asked, "-ASK 5 127.0.0.1:%d\r\n", fake.port);
    snprintf(url, sizeof url, "redis+cluster://127.0.0.1:%d", fake.port);
    pln_test_fake_rule(&fake, (struct fake_rule){.command = "CLUSTER SLOTS", .bytes = slots});
    faults_open(&a, url, 1);
}

static void tear_down(void) {
    client_fini(&a);
    pln_test_fake_stop(&fake);
}

/* What is said for GET: so often after the usual answer came so often. */
static void say(const char *bytes, unsigned times) {
    pln_test_fake_rule(&fake, (struct fake_rule){.command = "GET", .bytes = bytes, .times = times});
}

static int get(const char *key) {
    char text[FAULTS_TEXT] = "", expected[FAULTS_TEXT];
    int result = faults_get(&a, key, soon(), text);
    snprintf(expected, sizeof expected, "%s=1;", key);
    if (result == PLN_OK) {
        ck_assert_str_eq(text, expected);
    }
    return result;
}

START_TEST(a_usual_answer_is_read) {
    ck_assert_msg(get("a") == PLN_OK, "%s", pln_error_text());
}
END_TEST

START_TEST(a_loop_of_moved_ends_after_some_hops_and_is_named) {
    ck_assert_int_eq(get("a"), PLN_OK);
    say(moved, 0);
    size_t before = pln_test_fake_followed(&fake);
    ck_assert_int_eq(get("a"), PLN_EL2);
    ck_assert_msg(strstr(pln_error_text(), "MOVED") != NULL, "%s", pln_error_text());
    ck_assert_uint_le(pln_test_fake_followed(&fake) - before, 6 + 2); /* hops, and looks */
}
END_TEST

START_TEST(a_storm_of_moved_asks_for_few_looks) {
    ck_assert_int_eq(get("a"), PLN_OK);
    say(moved, 0);
    unsigned before = pln_test_fake_met(&fake, 0);
    pln_ns began = pln_clock_precise();
    for (int i = 0; i < 200; i++) {
        ck_assert_int_eq(get("a"), PLN_EL2);
    }
    pln_ns took = pln_clock_precise() - began;
    /* at most one in 50 ms, and the first at once */
    ck_assert_int_le(pln_test_fake_met(&fake, 0) - before, took / 50000000 + 2);
}
END_TEST

START_TEST(a_loop_of_ask_ends_too) {
    say(asked, 0);
    ck_assert_int_eq(get("a"), PLN_EL2);
    ck_assert_msg(strstr(pln_error_text(), "ASK") != NULL, "%s", pln_error_text());
}
END_TEST

START_TEST(one_redirect_is_followed) {
    say(_i == 0 ? moved : asked, 1);
    ck_assert_msg(get("a") == PLN_OK, "%s", pln_error_text());
}
END_TEST

START_TEST(who_is_sent_to_nowhere_is_told_where) {
    static const char *const nowhere[] = {"-MOVED 5 127.0.0.1:1\r\n", "-MOVED 5 ?:7000\r\n",
                                          "-MOVED 99999 127.0.0.1:7000\r\n", "-MOVED\r\n"};
    say(nowhere[_i], 0);
    int result = get("a");
    ck_assert_int_lt(result, 0);
    ck_assert_msg(strstr(pln_error_text(), "MOVED") != NULL, "%s", pln_error_text());
}
END_TEST

START_TEST(who_is_asked_for_patience_has_it_till_the_deadline) {
    static const char *const words[] = {
        "-TRYAGAIN Multiple keys request during rehashing of slot\r\n",
        "-CLUSTERDOWN The cluster is down\r\n"};
    say(words[_i], 3);
    ck_assert_msg(get("a") == PLN_OK, "%s", pln_error_text());
    say(words[_i], 0);
    do { /* of the last try the deadline may be over first */
        ck_assert_int_lt(faults_get(&a, "a", faults_in(100), NULL), 0);
    } while (strstr(pln_error_text(), "no answer before the deadline") != NULL);
    ck_assert_msg(strncmp(strstr(words[_i], "-") + 1, "TRYAGAIN", 3) == 0
                      ? strstr(pln_error_text(), "TRYAGAIN") != NULL
                      : strstr(pln_error_text(), "CLUSTERDOWN") != NULL,
                  "%s", pln_error_text());
}
END_TEST

START_TEST(a_map_that_makes_no_sense_is_refused_by_name) {
    static const char *const maps[] = {"*0\r\n", "*1\r\n*3\r\n:9\r\n:3\r\n*2\r\n$1\r\nh\r\n:1\r\n",
                                       "-ERR This instance has cluster support disabled\r\n",
                                       "+OK\r\n"};
    static const char *const words[] = {"no slots", "9", "cluster support disabled",
                                        "CLUSTER SLOTS"};
    struct client b;
    char url[64];
    pln_test_fake_forget_rules(&fake);
    pln_test_fake_rule(&fake, (struct fake_rule){.command = "CLUSTER SLOTS", .bytes = maps[_i]});
    snprintf(url, sizeof url, "redis+cluster://127.0.0.1:%d", fake.port);
    client_init(&b);
    struct pln_l2_options options = client_options(&b, url);
    ck_assert_int_eq(pln_l2_redis_new(&options, &b.l2), PLN_OK);
    ck_assert_int_eq(faults_get(&b, "a", soon(), NULL), PLN_EL2DOWN);
    ck_assert_msg(strstr(pln_error_text(), words[_i]) != NULL, "%s", pln_error_text());
    client_fini(&b);
}
END_TEST

int main(void) {
    Suite *suite = suite_create("moved");
    TCase *tests = faults_case(suite, set_up, tear_down);
    tcase_add_test(tests, a_usual_answer_is_read);
    tcase_add_test(tests, a_loop_of_moved_ends_after_some_hops_and_is_named);
    tcase_add_test(tests, a_storm_of_moved_asks_for_few_looks);
    tcase_add_test(tests, a_loop_of_ask_ends_too);
    tcase_add_loop_test(tests, one_redirect_is_followed, 0, 2);
    tcase_add_loop_test(tests, who_is_sent_to_nowhere_is_told_where, 0, 4);
    tcase_add_loop_test(tests, who_is_asked_for_patience_has_it_till_the_deadline, 0, 2);
    tcase_add_loop_test(tests, a_map_that_makes_no_sense_is_refused_by_name, 0, 4);
    return faults_run(suite);
}
