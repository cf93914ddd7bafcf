/* SPDX-License-Identifier: MIT
 * test_row.c - l2/feed.c, mend.c, hear.c on a real server: whatever is missing of the row of
 * messages is noticed, and heard from the log where the log has it. */
#include <hiredis/hiredis.h>
#include <stdio.h>

#include "proxy.h"
#include "row.h"

static struct server server;
static struct client a, b;

static const struct row_options seldom = {0}, often = {.ping_ms = 1000};

static void open_both(const struct row_options *options) {
    pln_test_redis_start(&server, NULL);
    /* one after the other, so that the older link is a's */
    row_open(&a, server.url, options);
    row_open(&b, server.url, options);
}

static void set_up(void) {
    open_both(&seldom);
}

static void set_up_often(void) {
    open_both(&often);
}

static void set_up_tracking(void) {
    const struct row_options options = {.tracking = true, .ping_ms = 400};
    open_both(&options);
}

static void tear_down(void) {
    client_fini(&a);
    client_fini(&b);
    pln_test_redis_stop(&server);
}

/* ---- on a live link ---- */

START_TEST(a_lost_message_is_missed_at_the_next_and_heard_from_the_log) {
    row_tell(&b, &a, "one");
    row_lose(&server, "lost", true);
    row_set(&b, "next");
    ck_assert(client_hears(&a, "="));
    /* the one that told of it was heard when it came, and is in the log */
    expect_story(&a, "k:one k:next - k:lost k:next =");
    ck_assert_uint_eq(client_count(&a, PLN_COUNT_BUS_GAPS), 1);
    ck_assert_uint_eq(client_count(&a, PLN_COUNT_BUS_REPAIRS), 1);
    ck_assert_uint_eq(client_count(&a, PLN_COUNT_BUS_REPLAYED), 2);
    ck_assert_uint_eq(client_count(&a, PLN_COUNT_BUS_LOSSES), 1);
}
END_TEST

START_TEST(one_that_is_not_in_the_log_either_voids_everything) {
    row_tell(&b, &a, "one");
    row_lose(&server, "lost", false);
    row_set(&b, "next");
    ck_assert(client_hears(&a, "+"));
    expect_story(&a, "k:one k:next - +");
    ck_assert_uint_eq(client_count(&a, PLN_COUNT_BUS_GAPS), 1);
    ck_assert_uint_eq(client_count(&a, PLN_COUNT_BUS_REPAIRS), 0);
    row_tell(&b, &a, "after");
    expect_story(&a, "k:after");
}
END_TEST

START_TEST(without_a_log_a_gap_voids_everything) {
    const struct row_options options = {.has_no_log = true};
    struct client c, d;
    row_open(&c, server.url, &options);
    row_open(&d, server.url, &options);
    row_tell(&d, &c, "one");
    row_lose(&server, "lost", true);
    row_set(&d, "next");
    ck_assert(client_hears(&c, "+"));
    expect_story(&c, "k:one k:next - +");
    client_fini(&c);
    client_fini(&d);
}
END_TEST

START_TEST(a_lost_message_that_none_follows_is_missed_by_the_heartbeat) {
    row_tell(&b, &a, "one");
    row_lose(&server, "lost", true);
    ck_assert(client_hears(&a, "="));
    expect_story(&a, "k:one - k:lost =");
    ck_assert_uint_eq(client_count(&a, PLN_COUNT_BUS_GAPS), 1);
    row_tell(&b, &a, "after");
    expect_story(&a, "k:after");
}
END_TEST

START_TEST(the_heartbeat_finds_what_no_log_has) {
    row_tell(&b, &a, "one");
    row_lose(&server, "lost", false);
    ck_assert(client_hears(&a, "+"));
    expect_story(&a, "k:one - +");
}
END_TEST

START_TEST(doubled_and_late_messages_are_heard_and_break_nothing) {
    uint8_t first[64], second[64];
    uint64_t number = row_number(&server, "HGET ns:tags @");
    size_t n_first = row_message(first, "first", number + 1);
    size_t n_second = row_message(second, "second", number + 2);
    row_settle(&server);
    row_command(&server, "HINCRBY ns:tags @ 2");
    row_publish(&server, first, n_first);
    row_publish(&server, second, n_second);
    row_publish(&server, second, n_second); /* doubled */
    row_publish(&server, first, n_first);   /* late */
    row_tell(&b, &a, "next");
    expect_story(&a, "k:first k:second k:second k:first k:next");
    row_await(&a, PLN_COUNT_BUS_OLD, 2);
    ck_assert_uint_eq(client_count(&a, PLN_COUNT_BUS_OLD), 2);
    ck_assert_uint_eq(client_count(&a, PLN_COUNT_BUS_GAPS), 0);
    ck_assert_uint_eq(client_count(&a, PLN_COUNT_BUS_LOSSES), 0);
}
END_TEST

START_TEST(on_a_link_where_order_is_kept_a_skipped_number_is_not_waited_for) {
    uint8_t first[64], second[64];
    uint64_t number = row_number(&server, "HGET ns:tags @");
    size_t n_first = row_message(first, "first", number + 1);
    size_t n_second = row_message(second, "second", number + 2);
    char id[32];
    row_tell(&b, &a, "zero"); /* number + 1, in truth */
    n_first = row_message(first, "first", number + 2);
    n_second = row_message(second, "second", number + 3);
    row_settle(&server);
    row_command(&server, "HINCRBY ns:tags @ 2");
    snprintf(id, sizeof id, "%llu-0", (unsigned long long) number + 2);
    row_log(&server, id, first, n_first);
    snprintf(id, sizeof id, "%llu-0", (unsigned long long) number + 3);
    row_log(&server, id, second, n_second);
    row_publish(&server, second, n_second);
    row_publish(&server, first, n_first);
    ck_assert(client_hears(&a, "="));
    row_tell(&b, &a, "next");
    expect_story(&a, "k:zero k:second - k:first k:second = k:next");
}
END_TEST

START_TEST(messages_of_no_number_or_of_a_far_one_do_no_harm) {
    uint8_t bytes[64];
    row_publish(&server, bytes, row_message(bytes, "none", 0));
    ck_assert(client_hears(&a, "k:none"));
    row_publish(&server, bytes, row_message(bytes, "far", UINT64_MAX));
    ck_assert(client_hears(&a, "="));
    row_tell(&b, &a, "next");
    expect_story(&a, "k:none k:far - = k:next");
}
END_TEST

/* Bytes that are no message have a number of their own in the log. */
START_TEST(a_damaged_message_of_the_row_is_the_worst_and_is_survived) {
    char id[32];
    row_settle(&server);
    uint64_t number = row_number(&server, "HINCRBY ns:tags @ 1");
    snprintf(id, sizeof id, "%llu-0", (unsigned long long) number);
    row_log(&server, id, (const uint8_t *) "nonsense", 8);
    row_publish(&server, (const uint8_t *) "nonsense", 8);
    row_tell(&b, &a, "next");
    ck_assert(client_hears(&a, "="));
    expect_story(&a, "clear k:next - clear k:next =");
    row_tell(&b, &a, "after");
    expect_story(&a, "k:after");
}
END_TEST

/* ---- a link that is lost ---- */

START_TEST(under_a_writer_a_killed_link_misses_nothing) {
    enum { N = 300 };
    char name[16];
    for (int i = 0; i < N; i++) {
        if (i % 100 == 50) {
            row_command(&server, "CLIENT KILL TYPE pubsub");
        }
        snprintf(name, sizeof name, "<%d>", i);
        row_set(&b, name);
    }
    snprintf(name, sizeof name, "k:<%d>", N - 1);
    ck_assert(client_hears(&a, name));
    row_await(&a, PLN_COUNT_BUS_REPAIRS, 1);
    ck_assert(!client_heard(&a, "+"));
    char *story = client_story(&a);
    const char *at = story;
    for (int i = 0; i < N; i++) { /* in their order: the first time each is heard */
        snprintf(name, sizeof name, "k:<%d>", i);
        at = strstr(at, name);
        ck_assert_msg(at != NULL, "%s is not heard in its turn: %s", name, story);
    }
    free(story);
}
END_TEST

START_TEST(a_log_that_was_trimmed_does_not_help) {
    row_tell(&b, &a, "one");
    row_lose(&server, "lost", true);
    row_lose(&server, "last", true);
    row_command(&server, "XTRIM ns:log MAXLEN 1");
    row_kill_link(&server, 0);
    ck_assert(client_hears(&a, "+"));
    expect_story(&a, "k:one - +");
}
END_TEST

START_TEST(a_log_that_was_deleted_does_not_help) {
    row_tell(&b, &a, "one");
    row_lose(&server, "lost", true);
    row_command(&server, "DEL ns:log");
    row_kill_link(&server, 0);
    ck_assert(client_hears(&a, "+"));
    expect_story(&a, "k:one - +");
}
END_TEST

START_TEST(a_log_that_is_none_does_not_keep_the_link_down) {
    row_tell(&b, &a, "one");
    row_lose(&server, "lost", true);
    row_command(&server, "SET ns:log nonsense");
    row_kill_link(&server, 0);
    ck_assert_msg(client_hears(&a, "+"), "%s", a.log);
    expect_story(&a, "k:one - +");
    row_tell(&b, &a, "two"); /* which makes the log anew */
    ck_assert(client_hears(&b, "- +"));
    row_lose(&server, "lost", true);
    row_kill_link(&server, 0); /* the older one again */
    ck_assert(client_hears(&a, "="));
    expect_story(&a, "k:two - k:lost =");
}
END_TEST

START_TEST(foreign_entries_in_the_log_are_not_taken_for_ours) {
    char id[32];
    row_tell(&b, &a, "one");
    uint64_t number = row_number(&server, "HGET ns:tags @");
    snprintf(id, sizeof id, "%llu-7", (unsigned long long) number);
    row_log(&server, id, (const uint8_t *) "nonsense", 8);
    row_lose(&server, "lost", true);
    row_kill_link(&server, 0);
    ck_assert(client_hears(&a, "+"));
    expect_story(&a, "k:one - +");
    ck_assert_uint_eq(client_count(&a, PLN_COUNT_BUS_LOST_WRITES), 0);
    row_settle(&server);
    free(pln_test_redis_command(&server, "XADD ns:log %llu-0 a b c d",
                                (unsigned long long) row_number(&server, "HINCRBY ns:tags @ 1")));
    row_kill_link(&server, 1); /* the younger one now */
    ck_assert(client_hears(&a, "- +"));
    row_settle(&server);
    row_command(&server, "XADD ns:log 99999999999999999-0 m far");
    row_tell(&b, &a, "two"); /* its log begins anew */
    expect_story(&a, "- + k:two");
    ck_assert_uint_eq(client_count(&a, PLN_COUNT_BUS_LOST_WRITES), 0);
}
END_TEST

/* ---- a link that is slow, peers, other databases ---- */

/* What is on its way is not missing, however many heartbeats it takes. */
START_TEST(a_slow_link_misses_nothing) {
    struct proxy proxy;
    struct client c;
    enum { N = 60 };
    char name[16];
    pln_test_proxy_start(&proxy, server.path);
    row_open(&c, proxy.url, &often);
    pln_test_proxy_link(&proxy, PROXY_SLOW);
    for (int i = 0; i < N; i++) {
        snprintf(name, sizeof name, "<%d>", i);
        row_set(&b, name);
    }
    ck_assert_msg(client_hears(&c, "k:<59>"), "%s (%s)", c.story, c.log);
    pln_test_proxy_link(&proxy, PROXY_HEARS);
    ck_assert_uint_eq(client_count(&c, PLN_COUNT_BUS_GAPS), 0);
    ck_assert_uint_eq(client_count(&c, PLN_COUNT_BUS_LOSSES), 0);
    client_fini(&c);
    pln_test_proxy_stop(&proxy);
}
END_TEST

/* The link's own sign of life comes, and messages do not. */
START_TEST(a_deaf_link_is_found_out_by_the_heartbeat) {
    struct proxy proxy;
    struct client c;
    pln_test_proxy_start(&proxy, server.path);
    row_open(&c, proxy.url, &often);
    pln_test_proxy_link(&proxy, PROXY_DEAF);
    row_set(&b, "unheard");
    ck_assert(client_hears(&c, "-"));
    pln_test_proxy_link(&proxy, PROXY_HEARS);
    ck_assert(client_hears(&c, "="));
    ck_assert(strstr(c.story, "k:unheard =") != NULL);
    ck_assert_uint_ge(client_count(&c, PLN_COUNT_BUS_GAPS), 1);
    client_fini(&c);
    pln_test_proxy_stop(&proxy);
}
END_TEST

START_TEST(an_instance_counts_the_others_and_notices_that_one_is_gone) {
    struct client c;
    struct pln_l2_health health;
    row_open(&c, server.url, &often);
    pln_ns until = pln_clock_precise() + 10 * 1000000000LL;
    do {
        pln_l2_health(a.l2, &health);
        ck_assert(pln_clock_precise() < until);
    } while (health.peers != 3);
    client_fini(&c);
    until = pln_clock_precise() + 20 * 1000000000LL;
    do {
        pln_l2_health(a.l2, &health);
        ck_assert_uint_ge(health.peers, 2);
        ck_assert(pln_clock_precise() < until);
    } while (health.peers != 2);
}
END_TEST

/* Who beats often does not take for gone who has said that he beats seldom. */
START_TEST(each_instance_has_its_own_patience) {
    struct client quick;
    const struct row_options options = {.ping_ms = 20};
    struct pln_l2_health health;
    row_open(&quick, server.url, &options); /* a and b beat once a minute */
    row_command(&server, "ZADD ns:peers 1 somebody");
    for (pln_ns until = pln_clock_precise() + 10 * 1000000000LL;
         row_number(&server, "ZCARD ns:peers") != 3;) {
        ck_assert(pln_clock_precise() < until);
    }
    char *scores = pln_test_redis_command(&server, "ZRANGE ns:peers 2 2 WITHSCORES");
    char *now = pln_test_redis_command(&server, "TIME");
    double left = strtod(strchr(scores, '\n'), NULL) - strtod(now, NULL) * 1000;
    ck_assert_msg(left > 200000, "a peer that beats once a minute counts for %.0f ms", left);
    free(scores);
    free(now);
    pln_l2_health(quick.l2, &health);
    ck_assert_uint_ge(health.peers, 3);
    client_fini(&quick);
}
END_TEST

START_TEST(databases_of_one_server_do_not_disturb_each_other) {
    struct client c, d;
    char url[128];
    int port = pln_test_free_port();
    snprintf(url, sizeof url, "CONFIG SET port %d", port);
    row_command(&server, url);
    snprintf(url, sizeof url, "redis://127.0.0.1:%d/3", port);
    row_open(&c, url, &often);
    row_open(&d, url, &often);
    row_tell(&b, &a, "zero");
    row_tell(&d, &c, "three");
    snprintf(url, sizeof url, "CLIENT KILL TYPE pubsub ADDR %s:0", server.path); /* a's and b's */
    row_command(&server, url);
    row_set(&d, "more");
    ck_assert(client_hears(&c, "k:more"));
    row_tell(&b, &a, "last");
    ck_assert(client_hears(&a, "="));
    expect_story(&c, "k:three k:more");
    ck_assert(!client_heard(&a, "three"));
    expect_text(&a, "three", NULL);
    client_fini(&c);
    client_fini(&d);
}
END_TEST

START_TEST(a_flush_of_scripts_and_of_everything_is_survived) {
    row_tell(&b, &a, "one");
    row_command(&server, "SCRIPT FLUSH");
    row_tell(&b, &a, "two");
    expect_story(&a, "k:one k:two");
    row_command(&server, "FLUSHALL");
    ck_assert(client_hears(&a, "- +"));
    expect_text(&a, "one", NULL);
    row_tell(&b, &a, "three");
    expect_text(&a, "three", "three");
    ck_assert_uint_eq(client_count(&a, PLN_COUNT_BUS_LOST_WRITES), 0);
}
END_TEST

/* ---- with tracking ---- */

START_TEST(with_tracking_what_foreign_programs_did_in_a_gap_is_never_known) {
    row_tell(&b, &a, "one");
    row_kill_link(&server, 0);
    ck_assert(client_hears(&a, "- +"));
    ck_assert(!client_heard(&a, "="));
    ck_assert_uint_eq(client_count(&a, PLN_COUNT_BUS_REPAIRS), 0);
}
END_TEST

START_TEST(with_tracking_both_sources_are_heard) {
    row_command(&server, "SET ns:v:foreign x");
    ck_assert(client_hears(&a, "k:foreign"));
    row_command(&server, "PEXPIRE ns:v:foreign 100000");
    ck_assert(client_hears(&a, "k:foreign k:foreign"));
    row_command(&server, "DEL ns:v:foreign");
    ck_assert(client_hears(&a, "k:foreign k:foreign k:foreign"));
    expect_story(&a, "k:foreign k:foreign k:foreign");
    row_set(&b, "ours");
    ck_assert(client_hears(&a, "k:ours k:ours"));
    ck_assert(client_hears(&b, "k:foreign k:foreign k:foreign k:ours")); /* tracking's alone */
    expect_story(&a, "k:ours k:ours");
    expect_story(&b, "k:foreign k:foreign k:foreign k:ours");
    row_await(&b, PLN_COUNT_BUS_OWN, 1);
    row_lose(&server, "lost", true);
    ck_assert(client_hears(&a, "- k:lost +"));
}
END_TEST

START_TEST(with_tracking_an_eviction_is_heard) {
    row_set(&b, "full");
    ck_assert(client_hears(&a, "k:full k:full"));
    row_command(&server, "CONFIG SET maxmemory-policy allkeys-random");
    row_command(&server, "CONFIG SET maxmemory 1");
    row_command(&server, "SET some thing"); /* everything goes */
    row_command(&server, "CONFIG SET maxmemory 0");
    ck_assert(client_hears(&a, "k:full k:full k:full"));
}
END_TEST

int main(void) {
    Suite *suite = suite_create("row");
    TCase *tests = tcase_create("seldom");
    suite_add_tcase(suite, tests);
    tcase_add_checked_fixture(tests, set_up, tear_down);
    tcase_set_timeout(tests, 60);
    tcase_add_test(tests, a_lost_message_is_missed_at_the_next_and_heard_from_the_log);
    tcase_add_test(tests, one_that_is_not_in_the_log_either_voids_everything);
    tcase_add_test(tests, without_a_log_a_gap_voids_everything);
    tcase_add_test(tests, doubled_and_late_messages_are_heard_and_break_nothing);
    tcase_add_test(tests, on_a_link_where_order_is_kept_a_skipped_number_is_not_waited_for);
    tcase_add_test(tests, messages_of_no_number_or_of_a_far_one_do_no_harm);
    tcase_add_test(tests, a_damaged_message_of_the_row_is_the_worst_and_is_survived);
    tcase_add_test(tests, under_a_writer_a_killed_link_misses_nothing);
    tcase_add_test(tests, a_log_that_was_trimmed_does_not_help);
    tcase_add_test(tests, a_log_that_was_deleted_does_not_help);
    tcase_add_test(tests, a_log_that_is_none_does_not_keep_the_link_down);
    tcase_add_test(tests, foreign_entries_in_the_log_are_not_taken_for_ours);
    tcase_add_test(tests, each_instance_has_its_own_patience);
    TCase *beats = tcase_create("often");
    suite_add_tcase(suite, beats);
    tcase_add_checked_fixture(beats, set_up_often, tear_down);
    tcase_set_timeout(beats, 60);
    tcase_add_test(beats, a_lost_message_that_none_follows_is_missed_by_the_heartbeat);
    tcase_add_test(beats, the_heartbeat_finds_what_no_log_has);
    tcase_add_test(beats, a_slow_link_misses_nothing);
    tcase_add_test(beats, a_deaf_link_is_found_out_by_the_heartbeat);
    tcase_add_test(beats, an_instance_counts_the_others_and_notices_that_one_is_gone);
    tcase_add_test(beats, databases_of_one_server_do_not_disturb_each_other);
    tcase_add_test(beats, a_flush_of_scripts_and_of_everything_is_survived);
    TCase *tracking = tcase_create("tracking");
    suite_add_tcase(suite, tracking);
    tcase_add_checked_fixture(tracking, set_up_tracking, tear_down);
    tcase_set_timeout(tracking, 60);
    tcase_add_test(tracking, with_tracking_what_foreign_programs_did_in_a_gap_is_never_known);
    tcase_add_test(tracking, with_tracking_both_sources_are_heard);
    tcase_add_test(tracking, with_tracking_an_eviction_is_heard);
    SRunner *runner = srunner_create(suite);
    srunner_run_all(runner, CK_ENV);
    int failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed == 0 ? 0 : 1;
}
