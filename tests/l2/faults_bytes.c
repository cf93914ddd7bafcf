/* SPDX-License-Identifier: MIT
 * faults_bytes.c - what a server may say that it should not: answers cut off, wrong, unasked, too
 * long, too deep, too slow. Nothing of it is ever handed to a caller, and the connection goes. */
#include "faults.h"

#include <stdio.h>
#include <sys/resource.h>

#include "fake.h"

static struct fake fake;
static struct client a;

static void set_up(void) {
    pln_test_fake_start(&fake);
    faults_open(&a, fake.url, 1);
}

static void tear_down(void) {
    client_fini(&a);
    pln_test_fake_stop(&fake);
}

static int get(const char *key, pln_ns deadline) {
    return faults_get(&a, key, deadline, NULL);
}

/* The key's own value comes, once the breaker lets a caller through. */
static void expect_own(const char *key) {
    char expected[64], text[64] = "";
    pln_ns until = pln_clock_precise() + 10000000000;
    int result = PLN_EL2DOWN;
    snprintf(expected, sizeof expected, "%s=1;", key);
    while (result < 0 && pln_clock_precise() < until) {
        result = faults_get(&a, key, soon(), text);
    }
    ck_assert_msg(result == PLN_OK, "get of %s gives %d: %s", key, result, pln_error_text());
    ck_assert_str_eq(text, expected);
}

/* An answer's first bytes, at each length, and then the end. The answer has 55
 * bytes. */
START_TEST(an_answer_cut_off_anywhere_installs_nothing) {
    expect_own("a");
    for (size_t cut = 1; cut < 55; cut++) {
        pln_test_fake_rule(&fake,
                           (struct fake_rule){"GET ns:v:a", 0, 1, .cut = cut, .end = FAKE_CLOSE});
        size_t n = pln_test_fake_accepted(&fake);
        ck_assert_int_eq(get("a", soon()), PLN_EL2DOWN);
        expect_own("b");
        ck_assert_uint_gt(pln_test_fake_accepted(&fake), n);
        pln_test_fake_forget_rules(&fake);
    }
    expect_own("a");
}
END_TEST

/* Without the end of the connection it is the deadline that ends it; and what comes then comes to
 * nobody. */
START_TEST(a_half_answer_that_stalls_costs_the_deadline_and_the_connection) {
    expect_own("a");
    pln_test_fake_rule(&fake, (struct fake_rule){"GET ns:v:a", 0, 1, .cut = 20, .end = FAKE_STALL});
    ck_assert_int_eq(get("a", faults_in(100)), PLN_ETIMEOUT);
    expect_own("b");
    expect_own("a");
}
END_TEST

START_TEST(an_answer_that_comes_after_the_deadline_is_nobodys) {
    expect_own("a");
    for (int i = 0; i < 5; i++) {
        pln_test_fake_rule(&fake, (struct fake_rule){"GET ns:v:a", 0, 1, .delay_ms = 60});
        int result = get("a", faults_in(30));
        /* a sleepy machine may have made it */
        ck_assert(result == PLN_ETIMEOUT || result == PLN_OK);
        expect_own("b");
        expect_own("c");
        pln_test_fake_forget_rules(&fake);
    }
}
END_TEST

/* Not RESP, or more than our commands can be answered with. */
static const char *const nonsense[] = {
    "HTTP/1.1 400 Bad Request\r\n\r\n",
    "\r\n",
    "\x16\x03\x01\x02",
    "*-7\r\n$5\r\n",
    "$-5\r\n",
    "$x\r\n",
    "*2147483648\r\n",
    "*99999999999999999999\r\n",
    "$99999999999999999999\r\n",
};

START_TEST(what_is_no_resp_closes_the_connection_at_once) {
    expect_own("a");
    pln_test_fake_rule(&fake, (struct fake_rule){"GET ns:v:a", 0, 1, nonsense[_i]});
    size_t n = pln_test_fake_accepted(&fake);
    /* were it taken for the beginning of something, it would be a timeout */
    int result = get("a", faults_in(15000));
    ck_assert_msg(result == PLN_EL2DOWN, "'%s' gives %d: %s", nonsense[_i], result,
                  pln_error_text());
    ck_assert_msg(strstr(pln_error_text(), fake.path) != NULL, "%s", pln_error_text());
    expect_own("b");
    ck_assert_uint_gt(pln_test_fake_accepted(&fake), n);
    expect_own("a");
}
END_TEST

/* RESP, but no answer to GET: not a value, whatever else. */
static const char *const unexpected[] = {
    "+OK\r\n",
    ":1\r\n",
    "*0\r\n",
    "*-1\r\n",
    "*2\r\n$1\r\na\r\n$1\r\nb\r\n",
    "$0\r\n\r\n",
    "$5\r\nhello\r\n",
    "$3\r\nabcde\r\n",
    "-ERR something\r\n",
    "-\r\n",
    "-WRONGTYPE of key\r\n",
};

START_TEST(an_answer_of_another_kind_is_no_value) {
    expect_own("a");
    pln_test_fake_rule(&fake, (struct fake_rule){"GET ns:v:a", 0, 1, unexpected[_i]});
    int result = get("a", soon());
    ck_assert_msg(result == PLN_MISS || result == PLN_EL2 || result == PLN_EL2DOWN, "'%s' gives %d",
                  unexpected[_i], result);
    expect_own("b");
    expect_own("a");
}
END_TEST

/* The same for each command, so that no operation trusts the shape of its answer. */
static const char *const commands[] = {"GET", "MGET", "HMGET", "EVALSHA"};

START_TEST(no_operation_trusts_the_shape_of_its_answer) {
    struct pln_hashed keys[] = {key_of("a"), key_of("b")};
    struct pln_l2_item item = item_of("text");
    struct pln_bytes tag = pln_key("tag");
    item.tags = &tag;
    item.n_tags = 1;
    for (size_t i = 0; i < PLN_ARRAY_LEN(unexpected); i++) {
        struct pln_l2_value values[2] = {0};
        int statuses[2] = {PLN_MISS, PLN_MISS};
        struct pln_l2_lease lease = {{0}};
        pln_test_fake_rule(&fake, (struct fake_rule){commands[_i], 0, 0, unexpected[i]});
        ck_assert_int_ne(get("a", soon()) == PLN_OK && _i == 0, true);
        int result = pln_l2_get_many(a.l2, keys, 2, soon(), values, statuses);
        for (size_t j = 0; j < 2 && result == PLN_OK; j++) {
            ck_assert_int_ne(statuses[j] == PLN_OK && _i == 1, true);
            pln_l2_value_fini(&values[j]);
        }
        pln_l2_set(a.l2, &keys[0], &item, 0, soon());
        pln_l2_lease(a.l2, &keys[0], 1000, soon(), &lease);
        pln_l2_commit(a.l2, &keys[0], &lease, &item, soon());
        pln_l2_release(a.l2, &keys[0], &lease, soon());
        pln_l2_remove(a.l2, &keys[0], soon());
        pln_l2_drop_tag(a.l2, tag, soon());
        pln_l2_clear(a.l2, soon());
        pln_test_fake_forget_rules(&fake);
    }
    expect_own("a");
}
END_TEST

static const char extra[] = "$3\r\nbad\r\n";

/* What the server has said is in our socket, read or not. */
static void await_followed(size_t n) {
    pln_ns until = pln_clock_precise() + 10000000000;
    while (pln_test_fake_followed(&fake) < n) {
        ck_assert(pln_clock_precise() < until);
    }
}

/* Here an answer is taken for the next where the two are of one kind, unless it is seen before. */
START_TEST(an_answer_nobody_asked_for_is_seen_before_the_next_command) {
    ck_assert_int_eq(pln_l2_start(a.l2), PLN_OK);
    ck_assert(client_hears(&a, "+"));
    expect_own("a");
    for (int delay = 0; delay <= 1; delay++) {
        pln_test_fake_rule(
            &fake, (struct fake_rule){"GET ns:v:a", 0, 1, .extra = extra, .extra_delay_ms = delay});
        size_t n = pln_test_fake_followed(&fake);
        expect_own("a");
        await_followed(n + 1);
        expect_own("b");
        expect_own("a");
        pln_test_fake_forget_rules(&fake);
    }
}
END_TEST

START_TEST(an_answer_nobody_asked_for_is_not_taken_for_the_next) {
    expect_own("a");
    for (int delay = 0; delay <= 1; delay++) {
        pln_test_fake_rule(
            &fake, (struct fake_rule){"GET ns:v:a", 0, 1, .extra = extra, .extra_delay_ms = delay});
        size_t n = pln_test_fake_accepted(&fake);
        size_t followed = pln_test_fake_followed(&fake);
        expect_own("a");
        await_followed(followed + 1);
        expect_own("b");
        expect_own("a");
        ck_assert_uint_gt(pln_test_fake_accepted(&fake), n);
        pln_test_fake_forget_rules(&fake);
    }
}
END_TEST

/* ---- limits ---- */

static const struct {
    const char *bytes, *says;
} too_much[] = {
    {"$99999999999\r\n", "limit"},
    {"$2000000000\r\nxyz", "limit"},
    {"*2147483647\r\n", "limit"},
    {"*1048577\r\n", "limit"},
    {"*1048576\r\n*1048576\r\n", "limit"},
    {"*1\r\n*1\r\n*1\r\n*1\r\n*1\r\n*1\r\n*1\r\n*1\r\n*1\r\n*1\r\n*1\r\n", "nest"},
};

/* As soon as the length is known: at the latest in a minute would be at the deadline. */
START_TEST(what_is_too_long_or_too_deep_is_refused_when_its_length_is_read) {
    struct rusage before, after;
    expect_own("a");
    getrusage(RUSAGE_SELF, &before);
    pln_test_fake_rule(&fake, (struct fake_rule){"GET ns:v:a", 0, 1, too_much[_i].bytes});
    int result = get("a", faults_in(15000));
    ck_assert_msg(result == PLN_EL2DOWN, "'%s' gives %d: %s", too_much[_i].bytes, result,
                  pln_error_text());
    ck_assert_msg(strstr(pln_error_text(), too_much[_i].says) != NULL, "%s", pln_error_text());
    getrusage(RUSAGE_SELF, &after);
#ifndef __SANITIZE_THREAD__ /* which takes memory of its own */
    ck_assert_int_lt(after.ru_maxrss - before.ru_maxrss, 64 * 1024);
#endif
    expect_own("a");
}
END_TEST

START_TEST(a_login_is_bounded_as_any_answer) {
    for (size_t i = 0; i < PLN_ARRAY_LEN(too_much); i++) {
        pln_test_fake_hang_up(&fake);
        faults_nap(20);
        pln_test_fake_rule(&fake, (struct fake_rule){"INFO", 0, 1, too_much[i].bytes});
        int result = get("a", faults_in(15000));
        ck_assert_msg(result == PLN_EL2DOWN, "'%s' gives %d: %s", too_much[i].bytes, result,
                      pln_error_text());
        pln_test_fake_forget_rules(&fake);
        expect_own("a");
    }
}
END_TEST

/* Messages are longer than their limit, or no messages: the link goes, and says so. */
static const char *const no_messages[] = {
    "$99999999999\r\n",
    "*3\r\n$7\r\nmessage\r\n$99999999\r\n",
    "+OK\r\n",
    "-ERR whatever\r\n",
    "*3\r\n:1\r\n:2\r\n:3\r\n",
    "*4\r\n$8\r\npmessage\r\n$1\r\na\r\n$1\r\na\r\n$1\r\na\r\n",
    "!\r\n",
};

START_TEST(a_link_that_hears_nonsense_goes_down_and_comes_up_again) {
    ck_assert_int_eq(pln_l2_start(a.l2), PLN_OK);
    ck_assert(client_hears(&a, "+"));
    /* the link beats by PING and is answered by that; without a login's password, a login has one
     * PING too, which is the first of each connection */
    pln_test_fake_rule(&fake, (struct fake_rule){"SUBSCRIBE", 0, 1, .extra = no_messages[_i],
                                                 .extra_delay_ms = 50});
    pln_test_fake_hang_up(&fake);
    ck_assert_msg(client_hears(&a, "+ - = - =") || client_hears(&a, "+ - ="), "%s", a.story);
    ck_assert_uint_ge(pln_test_fake_met(&fake, 0), 2);
    expect_own("a");
}
END_TEST

/* ---- slowness ---- */

START_TEST(a_byte_now_and_then_does_not_keep_a_caller) {
    expect_own("a");
    pln_test_fake_rule(&fake, (struct fake_rule){"GET ns:v:a", 0, 1, .drip_ms = 20});
    /* more than a second for all the bytes, and none of them late by itself */
    ck_assert_int_eq(get("a", faults_in(150)), PLN_ETIMEOUT);
    expect_own("b");
}
END_TEST

START_TEST(a_login_a_byte_now_and_then_ends_by_its_timeout) {
    pln_test_fake_rule(&fake, (struct fake_rule){"INFO", 0, 1, .drip_ms = 50});
    pln_test_fake_rule(&fake, (struct fake_rule){"SCRIPT", 0, 1, .drip_ms = 50});
    for (int i = 0; i < 2; i++) {
        int result = get("a", faults_in(150));
        ck_assert_msg(result == PLN_ETIMEOUT || result == PLN_EL2DOWN, "%d", result);
    }
    pln_test_fake_forget_rules(&fake);
    expect_own("a");
}
END_TEST

/* ---- under load ---- */

static const char *const lies[] = {"HTTP/1.1 400 Bad Request\r\n\r\n",
                                   "$99999999999\r\n",
                                   "*2147483647\r\n",
                                   "$-5\r\n",
                                   "+OK\r\n",
                                   "-LOADING wait\r\n",
                                   "-BUSY wait\r\n",
                                   "-TRYAGAIN later\r\n",
                                   "-CLUSTERDOWN the cluster\r\n",
                                   "-MASTERDOWN link\r\n"};

/* Callers share the connection. One answer in ten is nonsense: no other caller gets it, and none
 * gets another's. */
static void *read_own(void *arg) {
    char key[16], text[64], expected[32];
    long *n_ok = arg;
    snprintf(key, sizeof key, "key %p", arg);
    snprintf(expected, sizeof expected, "%.15s=1;", key);
    for (int i = 0; i < 400; i++) {
        int result = faults_get(&a, key, faults_in(300), text);
        if (result == PLN_OK && strcmp(text, expected) != 0) {
            *n_ok = -1;
            return NULL;
        }
        *n_ok += result == PLN_OK;
    }
    return NULL;
}

START_TEST(among_callers_of_one_connection_nobody_gets_anothers_answer) {
    pthread_t threads[6];
    long n_ok[6] = {0};
    for (unsigned i = 0; i < FAKE_RULES; i++) {
        const char *lie = lies[(size_t) (i + (unsigned) _i) % PLN_ARRAY_LEN(lies)];
        pln_test_fake_rule(&fake, (struct fake_rule){"GET", 30 + 20 * i, 1, lie});
    }
    for (size_t i = 0; i < PLN_ARRAY_LEN(threads); i++) {
        pthread_create(&threads[i], NULL, read_own, &n_ok[i]);
    }
    for (size_t i = 0; i < PLN_ARRAY_LEN(threads); i++) {
        pthread_join(threads[i], NULL);
        ck_assert_int_ge(n_ok[i], 0);
    }
    pln_test_fake_forget_rules(&fake);
    expect_own("a");
}
END_TEST

START_TEST(connections_that_end_amid_answers_under_load_answer_nobody_wrongly) {
    pthread_t threads[6];
    long n_ok[6] = {0};
    pln_test_fake_rule(&fake, (struct fake_rule){"GET", 50, 1, .cut = 30, .end = FAKE_CLOSE});
    pln_test_fake_rule(&fake, (struct fake_rule){"GET", 90, 1, .cut = 4, .end = FAKE_CLOSE});
    pln_test_fake_rule(&fake, (struct fake_rule){"GET", 130, 1, .cut = 50, .end = FAKE_STALL});
    pln_test_fake_rule(&fake, (struct fake_rule){"GET", 170, 1, .drip_ms = 10});
    for (size_t i = 0; i < PLN_ARRAY_LEN(threads); i++) {
        pthread_create(&threads[i], NULL, read_own, &n_ok[i]);
    }
    for (size_t i = 0; i < PLN_ARRAY_LEN(threads); i++) {
        pthread_join(threads[i], NULL);
        ck_assert_int_ge(n_ok[i], 0);
    }
    pln_test_fake_forget_rules(&fake);
    expect_own("a");
}
END_TEST

int main(void) {
    Suite *suite = suite_create("bytes");
    TCase *tests = faults_case(suite, set_up, tear_down);
    tcase_add_test(tests, an_answer_cut_off_anywhere_installs_nothing);
    tcase_add_test(tests, a_half_answer_that_stalls_costs_the_deadline_and_the_connection);
    tcase_add_test(tests, an_answer_that_comes_after_the_deadline_is_nobodys);
    tcase_add_loop_test(tests, what_is_no_resp_closes_the_connection_at_once, 0,
                        PLN_ARRAY_LEN(nonsense));
    tcase_add_loop_test(tests, an_answer_of_another_kind_is_no_value, 0, PLN_ARRAY_LEN(unexpected));
    tcase_add_loop_test(tests, no_operation_trusts_the_shape_of_its_answer, 0,
                        PLN_ARRAY_LEN(commands));
    tcase_add_test(tests, an_answer_nobody_asked_for_is_seen_before_the_next_command);
    tcase_add_test(tests, an_answer_nobody_asked_for_is_not_taken_for_the_next);
    tcase_add_loop_test(tests, what_is_too_long_or_too_deep_is_refused_when_its_length_is_read, 0,
                        PLN_ARRAY_LEN(too_much));
    tcase_add_test(tests, a_login_is_bounded_as_any_answer);
    tcase_add_loop_test(tests, a_link_that_hears_nonsense_goes_down_and_comes_up_again, 0,
                        PLN_ARRAY_LEN(no_messages));
    tcase_add_test(tests, a_byte_now_and_then_does_not_keep_a_caller);
    tcase_add_test(tests, a_login_a_byte_now_and_then_ends_by_its_timeout);
    tcase_add_loop_test(tests, among_callers_of_one_connection_nobody_gets_anothers_answer, 0, 3);
    tcase_add_test(tests, connections_that_end_amid_answers_under_load_answer_nobody_wrongly);
    return faults_run(suite);
}
