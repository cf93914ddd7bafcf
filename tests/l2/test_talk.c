/* SPDX-License-Identifier: MIT
 * test_talk.c - l2/talk.c: a conversation of one's own with one server, with the one that a cluster
 * or sentinels name, and with none. */
#include <check.h>
#include <stdio.h>

#include "../../l2/internal.h"
#include "client.h"
#include "cluster.h"
#include "sentinels.h"
#include "server.h"

static struct server server;
static struct client client;
static struct pln_l2_talk *talk;
static struct pln_reply *reply;

static void open_client(const char *url, const char *name) {
    client_init(&client);
    struct pln_l2_options options = client_options(&client, url);
    ck_assert_msg(pln_l2_redis_new(&options, &client.l2) == PLN_OK, "%s", pln_error_text());
    ck_assert_int_eq(pln_l2_talk_new(client.l2, pln_key(name), &talk), PLN_OK);
}

static void close_client(void) {
    pln_l2_talk_free(talk);
    client_fini(&client);
}

static void set_up(void) {
    static const char *const options[] = {"--requirepass", "secret", NULL};
    char url[160];
    pln_test_redis_start(&server, options);
    snprintf(url, sizeof url, "unix:%s", server.path);
    client_init(&client);
    struct pln_l2_options with = client_options(&client, url);
    with.password = "secret";
    ck_assert_msg(pln_l2_redis_new(&with, &client.l2) == PLN_OK, "%s", pln_error_text());
    ck_assert_int_eq(pln_l2_talk_new(client.l2, pln_key("name"), &talk), PLN_OK);
}

static void tear_down(void) {
    close_client();
    pln_test_redis_stop(&server);
}

/* Says a command of words. */
static int say(const char *words) {
    struct pln_bytes args[8];
    size_t n = 0;
    for (const char *at = words; *at != 0; at += strcspn(at, " "), at += *at == ' ') {
        args[n++] = pln_bytes_of(at, strcspn(at, " "));
    }
    return pln_l2_talk_say(talk, args, n);
}

/* Waits for what comes next, and shows it: a string, or the last of an array. */
static const char *heard(void) {
    static char text[256];
    int result = pln_l2_talk_hear(talk, soon(), &reply);
    if (result != PLN_OK) {
        return pln_status_name(result);
    }
    const struct pln_reply *shown = reply->n_elements > 0 ? &reply->elements[reply->n_elements - 1]
                                                          : reply;
    if (shown->kind == PLN_REPLY_INTEGER) {
        snprintf(text, sizeof text, "%lld", (long long) shown->integer);
    } else {
        snprintf(text, sizeof text, "%.*s", (int) shown->bytes.len,
                 (const char *) shown->bytes.data);
    }
    pln_reply_free(reply);
    return text;
}

static void open_talk(void) {
    ck_assert_msg(pln_l2_talk_open(talk) == PLN_OK, "%s", pln_error_text());
}

START_TEST(it_may_block_or_subscribe_and_keeps_nobody_waiting) {
    struct pln_hashed key = key_of("k");
    struct pln_l2_item item = item_of("v");
    ck_assert_int_eq(say("PING"), PLN_EL2DOWN); /* not open yet */
    open_talk();
    ck_assert_int_eq(say("BLPOP list 0"), PLN_OK);
    ck_assert_int_eq(pln_l2_set(client.l2, &key, &item, 0, soon()), PLN_OK);
    expect_text(&client, "k", "v");
    struct pln_bytes name = pln_key("list");
    struct pln_bytes push[] = {pln_key("RPUSH"), name, pln_key("pushed")};
    ck_assert_int_eq(pln_l2_command(client.l2, &name, push, 3, soon(), &reply), PLN_OK);
    pln_reply_free(reply);
    ck_assert_str_eq(heard(), "pushed");
    ck_assert_int_eq(say("SUBSCRIBE channel"), PLN_OK);
    ck_assert_str_eq(heard(), "1");
    struct pln_bytes publish[] = {pln_key("PUBLISH"), pln_key("channel"), pln_key("said")};
    ck_assert_int_eq(pln_l2_command(client.l2, NULL, publish, 3, soon(), &reply), PLN_OK);
    pln_reply_free(reply);
    ck_assert_str_eq(heard(), "said");
}
END_TEST

START_TEST(a_wake_ends_the_wait_and_the_next_one_waits_again) {
    pln_l2_talk_wake(talk);
    ck_assert_int_eq(pln_l2_talk_hear(talk, PLN_FOREVER, &reply), PLN_MISS); /* not open: asleep */
    open_talk();
    ck_assert_int_eq(say("BLPOP list 0"), PLN_OK);
    pln_l2_talk_wake(talk);
    ck_assert_int_eq(pln_l2_talk_hear(talk, PLN_FOREVER, &reply), PLN_MISS);
    pln_ns until = pln_clock_precise() + 20 * 1000000;
    ck_assert_int_eq(pln_l2_talk_hear(talk, until, &reply), PLN_MISS);
    ck_assert_int_ge(pln_clock_precise(), until);
}
END_TEST

START_TEST(a_server_that_goes_is_told_of_and_found_again) {
    open_talk();
    ck_assert_int_eq(say("BLPOP list 0"), PLN_OK);
    pln_test_redis_kill(&server);
    ck_assert_int_eq(pln_l2_talk_hear(talk, PLN_FOREVER, &reply), PLN_EL2DOWN);
    ck_assert_int_eq(pln_l2_talk_open(talk), PLN_EL2DOWN);
    pln_test_redis_restart(&server);
    open_talk();
    ck_assert_int_eq(say("PING"), PLN_OK);
    ck_assert_str_eq(heard(), "PONG");
}
END_TEST

START_TEST(there_is_none_with_a_memory_nor_in_a_child) {
    struct pln_l2_mem_server *memory;
    struct client other;
    struct pln_l2_talk *none = NULL;
    client_init(&other);
    struct pln_l2_options options = client_options(&other, NULL);
    ck_assert_int_eq(pln_l2_mem_server_new(&memory), PLN_OK);
    ck_assert_int_eq(pln_l2_mem_new(&options, memory, &other.l2), PLN_OK);
    ck_assert_int_eq(pln_l2_talk_new(other.l2, pln_key("x"), &none), PLN_EINVAL);
    ck_assert_int_eq(pln_l2_talk_new(pln_l2_gone(), pln_key("x"), &none), PLN_EINVAL);
    ck_assert_ptr_null(none);
    client_fini(&other);
    pln_l2_mem_server_free(memory);
}
END_TEST

START_TEST(in_a_cluster_it_goes_to_where_its_name_is_and_follows) {
    static struct test_cluster cluster;
    char url[64];
    test_cluster_start(&cluster, 3, 0);
    snprintf(url, sizeof url, "redis+cluster://127.0.0.1:%d", cluster.nodes[0].port);
    open_client(url, "name");
    unsigned slot = test_cluster_slot(&cluster, "name");
    size_t from = test_cluster_owner(&cluster, slot), to = (from + 1) % 3;
    open_talk();
    ck_assert_int_eq(say("SET name before"), PLN_OK);
    ck_assert_str_eq(heard(), "OK");
    test_cluster_move(&cluster, slot, 1, from, to);
    ck_assert_int_eq(say("GET name"), PLN_OK);
    ck_assert_ptr_nonnull(strstr(heard(), "MOVED"));
    pln_l2_talk_close(talk);
    open_talk();
    ck_assert_int_eq(say("GET name"), PLN_OK);
    ck_assert_str_eq(heard(), "before");
    close_client();
    test_cluster_stop(&cluster);
}
END_TEST

START_TEST(behind_sentinels_a_switch_ends_it_and_the_next_is_with_the_new_master) {
    static struct test_sentinels set;
    char url[128];
    test_sentinels_start(&set, 1, 1, 1);
    snprintf(url, sizeof url, "redis+sentinel://127.0.0.1:%d/%s", set.sentinels[0].port,
             TEST_SERVICE);
    open_client(url, "name");
    open_talk();
    ck_assert_int_eq(say("BLPOP list 0"), PLN_OK);
    test_sentinels_failover(&set);
    pln_ns deadline = pln_clock_precise() + 20 * 1000000000LL;
    int result;
    do { /* first perhaps the server's own word, that nobody may block there any more */
        result = pln_l2_talk_hear(talk, pln_clock_precise() + 50 * 1000000, &reply);
        if (result == PLN_OK) {
            ck_assert_int_eq(reply->kind, PLN_REPLY_ERROR);
            pln_reply_free(reply);
        }
        ck_assert_int_lt(pln_clock_precise(), deadline);
    } while (result != PLN_EL2DOWN);
    while (pln_l2_talk_open(talk) != PLN_OK) {
        ck_assert_int_lt(pln_clock_precise(), deadline);
    }
    ck_assert_int_eq(say("SET name after"), PLN_OK);
    ck_assert_str_eq(heard(), "OK");
    close_client();
    test_sentinels_stop(&set);
}
END_TEST

int main(void) {
    Suite *suite = suite_create("talk");
    TCase *alone = tcase_create("alone"), *several = tcase_create("several");
    suite_add_tcase(suite, alone);
    suite_add_tcase(suite, several);
    tcase_add_checked_fixture(alone, set_up, tear_down);
    tcase_set_timeout(alone, 30);
    tcase_set_timeout(several, 120);
    tcase_add_test(alone, it_may_block_or_subscribe_and_keeps_nobody_waiting);
    tcase_add_test(alone, a_wake_ends_the_wait_and_the_next_one_waits_again);
    tcase_add_test(alone, a_server_that_goes_is_told_of_and_found_again);
    tcase_add_test(alone, there_is_none_with_a_memory_nor_in_a_child);
    tcase_add_test(several, in_a_cluster_it_goes_to_where_its_name_is_and_follows);
    tcase_add_test(several, behind_sentinels_a_switch_ends_it_and_the_next_is_with_the_new_master);
    SRunner *runner = srunner_create(suite);
    srunner_run_all(runner, CK_ENV);
    int failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed == 0 ? 0 : 1;
}
