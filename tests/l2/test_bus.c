/* SPDX-License-Identifier: MIT
 * test_bus.c - l2/bus.c: what is heard over the link of a real server, and that its loss never
 * passes unnoticed. */
#include <check.h>
#include <hiredis/hiredis.h>
#include <stdio.h>

#include "client.h"
#include "server.h"

static struct server server;
static struct client a, b;

static void open_client(struct client *client, const char *url, bool tracking) {
    client_init(client);
    struct pln_l2_options options = client_options(client, url);
    options.tracking = tracking;
    ck_assert_msg(pln_l2_redis_new(&options, &client->l2) == PLN_OK, "%s", pln_error_text());
    ck_assert_int_eq(pln_l2_start(client->l2), PLN_OK);
}

static void set_up_with(bool tracking) {
    pln_test_redis_start(&server, NULL);
    /* one after the other, so that the older link is a's */
    open_client(&a, server.url, tracking);
    ck_assert_msg(client_hears(&a, "+"), "%s", a.log);
    open_client(&b, server.url, tracking);
    ck_assert_msg(client_hears(&b, "+"), "%s", b.log);
    expect_story(&a, "+");
    expect_story(&b, "+");
}

static void set_up(void) {
    set_up_with(false);
}

static void set_up_tracking(void) {
    set_up_with(true);
}

static void tear_down(void) {
    client_fini(&a);
    client_fini(&b);
    pln_test_redis_stop(&server);
}

static void set(struct client *client, const char *key) {
    struct pln_hashed hashed = key_of(key);
    struct pln_l2_item item = item_of(key);
    int result = pln_l2_set(client->l2, &hashed, &item, 0, soon());
    ck_assert_msg(result == PLN_OK, "%s", pln_error_text());
}

static void command(const char *line) {
    free(pln_test_redis_command(&server, "%s", line));
}

/* The id of the nth connection of ours that subscribes, or of those that do not; 0: there is none.
 */
static long id_of(bool is_link, int nth) {
    char *list = pln_test_redis_command(&server, "CLIENT LIST");
    char *rest = NULL;
    long id = 0;
    for (char *line = strtok_r(list, "\n", &rest); line != NULL && id == 0;
         line = strtok_r(NULL, "\n", &rest)) {
        char *name = strstr(line, "name=perilune:test");
        bool subscribes = strstr(line, " sub=0 ") == NULL;
        if (name != NULL && subscribes == is_link && nth-- == 0) {
            sscanf(line, "id=%ld", &id);
        }
    }
    free(list);
    return id;
}

START_TEST(messages_come_in_the_order_of_the_writes) {
    struct pln_hashed key = key_of("x");
    set(&a, "1");
    pln_l2_remove(a.l2, &key, soon());
    pln_l2_expire(a.l2, &key, soon());
    pln_l2_drop_tag(a.l2, pln_key("tag"), soon());
    pln_l2_clear(a.l2, soon());
    set(&a, "2");
    ck_assert(client_hears(&b, "k:2"));
    expect_story(&b, "k:1 k:x x:x t:tag clear k:2");
    expect_story(&a, "");
    for (pln_ns until = soon(); client_count(&a, PLN_COUNT_BUS_OWN) < 6;) { /* its link may lag */
        ck_assert(pln_clock_precise() < until);
    }
    /* but for b's test of itself, where that came after a was up */
    ck_assert_uint_le(client_count(&a, PLN_COUNT_BUS_RECEIVED), 1);
}
END_TEST

START_TEST(a_killed_link_is_noticed_and_made_anew) {
    long id = id_of(true, 0);
    ck_assert_int_ne(id, 0);
    free(pln_test_redis_command(&server, "CLIENT KILL ID %ld", id));
    ck_assert(client_hears(&a, "- ="));
    expect_story(&b, "");
    set(&b, "1");
    ck_assert(client_hears(&a, "- = k:1"));
    ck_assert_uint_eq(client_count(&a, PLN_COUNT_BUS_LOSSES), 1);
    ck_assert_uint_eq(client_count(&b, PLN_COUNT_BUS_LOSSES), 0);
}
END_TEST

/* A message of a connection that is no more may be that of a command whose caller was told that it
 * failed: it counts as foreign. */
START_TEST(a_message_of_an_own_lost_connection_is_foreign) {
    char bytes[64];
    set(&a, "1");
    ck_assert(client_hears(&b, "k:1"));
    redisContext *context = redisConnectUnix(server.path);
    freeReplyObject(redisCommand(context, "SUBSCRIBE ns:inv:2"));
    set(&a, "2");
    redisReply *reply = NULL;
    ck_assert_int_eq(redisGetReply(context, (void **) &reply), REDIS_OK);
    size_t len = reply->element[2]->len;
    memcpy(bytes, reply->element[2]->str, len);
    freeReplyObject(reply);
    redisFree(context);
    context = redisConnectUnix(server.path);
    freeReplyObject(redisCommand(context, "PUBLISH ns:inv:2 %b", bytes, len));
    set(&b, "3");
    ck_assert(client_hears(&a, "k:3"));
    expect_story(&a, "k:3"); /* the connection lives: own */
    for (long id; (id = id_of(false, 0)) != 0;) {
        free(pln_test_redis_command(&server, "CLIENT KILL ID %ld", id));
    }
    struct pln_l2_value value;
    for (int i = 0; i < 20; i++) {
        char name[8];
        snprintf(name, sizeof name, "%d", i);
        struct pln_hashed key = key_of(name);
        /* finds its connection gone, and makes a new one */
        if (pln_l2_get(a.l2, &key, soon(), &value) == PLN_OK) {
            pln_l2_value_fini(&value);
        }
    }
    freeReplyObject(redisCommand(context, "PUBLISH ns:inv:2 %b", bytes, len));
    redisFree(context);
    ck_assert(client_hears(&a, "k:2"));
}
END_TEST

START_TEST(a_killed_server_is_noticed_and_found_again) {
    set(&a, "1");
    pln_test_redis_kill(&server);
    ck_assert(client_hears(&a, "-"));
    ck_assert(client_hears(&b, "-"));
    struct pln_l2_health health;
    pln_l2_health(a.l2, &health);
    ck_assert(!health.bus_ok);
    pln_test_redis_restart(&server);
    ck_assert(client_hears(&a, "- +"));
    ck_assert(client_hears(&b, "- +"));
    expect_text(&a, "1", NULL);
    set(&a, "2");
    ck_assert(client_hears(&b, "- + k:2"));
    expect_text(&b, "2", "2");
    pln_l2_health(a.l2, &health);
    ck_assert(health.bus_ok);
}
END_TEST

START_TEST(a_silent_server_is_taken_for_lost) {
    pln_test_redis_pause(&server);
    ck_assert(client_hears(&a, "-"));
    pln_test_redis_resume(&server);
    ck_assert(client_hears(&a, "- ="));
    set(&b, "1");
    ck_assert(client_hears(&a, "- = k:1"));
}
END_TEST

START_TEST(a_clear_while_the_link_was_down_is_not_missed) {
    set(&a, "1");
    expect_text(&b, "1", "1");
    free(pln_test_redis_command(&server, "CLIENT KILL ID %ld", id_of(true, 1)));
    ck_assert_int_eq(pln_l2_clear(a.l2, soon()), PLN_OK);
    expect_text(&a, "1", NULL);
    ck_assert(client_hears(&b, "- +"));
    expect_text(&b, "1", NULL);
}
END_TEST

START_TEST(a_damaged_message_voids_everything_and_is_survived) {
    set(&a, "1");
    command("PUBLISH ns:inv:2 nonsense");
    ck_assert(client_hears(&b, "k:1 clear"));
    command("PUBLISH ns:inv:2 3kxxxxxxxxxxxxtail"); /* of a version to come */
    ck_assert(client_hears(&b, "k:1 clear clear"));
    ck_assert_uint_eq(client_count(&b, PLN_COUNT_BUS_BAD), 2);
    expect_text(&b, "1", "1");
    set(&a, "2");
    ck_assert(client_hears(&b, "k:1 clear clear k:2"));
}
END_TEST

START_TEST(nothing_is_heard_after_close_and_close_is_quick) {
    pln_test_redis_pause(&server);
    pln_ns before = pln_clock_precise();
    pln_l2_close(a.l2);
    a.l2 = NULL;
    /* no command was under way: a stopped server cannot hold us up for longer than a connect */
    ck_assert_int_lt(pln_clock_precise() - before, 20000000000);
    expect_story(&a, "");
    pln_test_redis_resume(&server);
}
END_TEST

START_TEST(a_server_that_comes_later_is_found) {
    struct client c;
    pln_test_redis_kill(&server);
    open_client(&c, server.url, false);
    ck_assert(client_logs(&c, "the link is down"));
    pln_test_redis_restart(&server);
    ck_assert(client_hears(&c, "+"));
    expect_story(&c, "+");
    client_fini(&c);
}
END_TEST

/* ---- tracking ---- */

START_TEST(writes_of_foreign_programs_are_heard) {
    command("SET ns:v:foreign x");
    ck_assert(client_hears(&a, "k:foreign"));
    ck_assert(client_hears(&b, "k:foreign"));
    command("SET ns:v:short x PX 1"); /* its end is a change, too */
    ck_assert(client_hears(&a, "k:foreign k:short k:short"));
}
END_TEST

START_TEST(a_flush_voids_everything) {
    set(&a, "1");
    command("FLUSHALL");
    ck_assert(client_hears(&b, "clear"));
    ck_assert(client_hears(&a, "clear"));
    expect_text(&b, "1", NULL);
    set(&a, "2");
    expect_text(&b, "2", "2");
}
END_TEST

START_TEST(a_killed_tracking_link_tracks_again) {
    free(pln_test_redis_command(&server, "CLIENT KILL ID %ld", id_of(true, 0)));
    ck_assert(client_hears(&a, "- +"));
    command("SET ns:v:foreign x");
    ck_assert(client_hears(&a, "- + k:foreign"));
}
END_TEST

int main(void) {
    Suite *suite = suite_create("bus");
    TCase *tests = tcase_create("channel");
    suite_add_tcase(suite, tests);
    tcase_add_checked_fixture(tests, set_up, tear_down);
    tcase_set_timeout(tests, 30);
    tcase_add_test(tests, messages_come_in_the_order_of_the_writes);
    tcase_add_test(tests, a_killed_link_is_noticed_and_made_anew);
    tcase_add_test(tests, a_message_of_an_own_lost_connection_is_foreign);
    tcase_add_test(tests, a_killed_server_is_noticed_and_found_again);
    tcase_add_test(tests, a_silent_server_is_taken_for_lost);
    tcase_add_test(tests, a_clear_while_the_link_was_down_is_not_missed);
    tcase_add_test(tests, a_damaged_message_voids_everything_and_is_survived);
    tcase_add_test(tests, nothing_is_heard_after_close_and_close_is_quick);
    tcase_add_test(tests, a_server_that_comes_later_is_found);
    TCase *tracking = tcase_create("tracking");
    suite_add_tcase(suite, tracking);
    tcase_add_checked_fixture(tracking, set_up_tracking, tear_down);
    tcase_set_timeout(tracking, 30);
    tcase_add_test(tracking, writes_of_foreign_programs_are_heard);
    tcase_add_test(tracking, a_flush_voids_everything);
    tcase_add_test(tracking, a_killed_tracking_link_tracks_again);
    SRunner *runner = srunner_create(suite);
    srunner_run_all(runner, CK_ENV);
    int failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed == 0 ? 0 : 1;
}
