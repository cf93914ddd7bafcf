/* SPDX-License-Identifier: MIT
 * test_forget.c - l2/mend.c on real servers that have forgotten what they had acknowledged, or
 * lack rights or room for what the row of messages needs. */
#include <stdio.h>

#include "proxy.h"
#include "row.h"

static struct server first, second;
static struct proxy proxy;
static struct client a, b;

static const struct row_options seldom = {0}, keeping = {.keeps_lost = true};

static void open_both(const char *url, const struct row_options *options) {
    row_open(&a, url, options);
    row_open(&b, url, options);
}

static void tear_down(void) {
    client_fini(&a);
    client_fini(&b);
    pln_test_redis_stop(&first);
}

static void start_saving(void) {
    static const char *const options[] = {"--appendonly", "yes", "--appendfsync", "always", NULL};
    pln_test_redis_start(&first, options);
}

/* Both have noticed, or one, and the other that the row is another one since. */
static void expect_lost_writes(void) {
    uint64_t n = client_count(&a, PLN_COUNT_BUS_LOST_WRITES) +
                 client_count(&b, PLN_COUNT_BUS_LOST_WRITES);
    ck_assert_msg(n == 1 || n == 2, "%llu", (unsigned long long) n);
    ck_assert(strstr(a.log, "has lost writes that it had acknowledged") != NULL ||
              strstr(b.log, "has lost writes that it had acknowledged") != NULL);
    ck_assert(!client_heard(&a, "="));
    ck_assert(!client_heard(&b, "="));
}

/* ---- one server that dies and comes back ---- */

START_TEST(a_server_that_kept_everything_costs_nothing) {
    start_saving();
    open_both(first.url, &seldom);
    row_tell(&b, &a, "one");
    row_await_own(&b);
    pln_test_redis_kill(&first);
    ck_assert(client_hears(&a, "-"));
    pln_test_redis_restart(&first);
    ck_assert(client_hears(&a, "="));
    expect_story(&a, "k:one - =");
    expect_text(&a, "one", "one");
    ck_assert_uint_eq(client_count(&a, PLN_COUNT_BUS_LOST_WRITES), 0);
    tear_down();
}
END_TEST

START_TEST(a_server_that_kept_nothing_begins_another_row) {
    pln_test_redis_start(&first, NULL);
    open_both(first.url, &seldom);
    row_tell(&b, &a, "one");
    pln_test_redis_kill(&first);
    ck_assert(client_hears(&a, "-"));
    pln_test_redis_restart(&first);
    ck_assert(client_hears(&a, "- +"));
    ck_assert(client_hears(&b, "- +"));
    row_tell(&b, &a, "two");
    expect_story(&a, "k:one - + k:two");
    expect_text(&a, "one", NULL);
    ck_assert_uint_eq(client_count(&a, PLN_COUNT_BUS_LOST_WRITES), 0);
    tear_down();
}
END_TEST

/* Three messages that a restored server knows nothing of. */
static void restore_an_old_state(const struct row_options *options) {
    pln_test_redis_start(&first, NULL);
    open_both(first.url, options);
    row_tell(&b, &a, "deleted");
    row_tell(&b, &a, "kept");
    row_command(&first, "SAVE");
    row_remove(&b, "deleted");
    row_remove(&b, "more");
    row_remove(&b, "last");
    ck_assert(client_hears(&a, "k:last"));
    expect_story(&a, "k:deleted k:kept k:deleted k:more k:last");
    expect_text(&a, "deleted", NULL);
    pln_test_redis_kill(&first);
    ck_assert(client_hears(&a, "-"));
    ck_assert(client_hears(&b, "-"));
    pln_test_redis_restart(&first);
    ck_assert_msg(client_hears(&a, "+"), "%s (%s)", a.story, a.log);
    ck_assert_msg(client_hears(&b, "+"), "%s (%s)", b.story, b.log);
}

START_TEST(a_server_with_an_old_state_is_cleared_once) {
    restore_an_old_state(&seldom);
    ck_assert_uint_eq(row_logged(&first, 'c'), 1);
    expect_text(&a, "deleted", NULL);
    expect_text(&a, "kept", NULL);
    expect_text(&b, "deleted", NULL);
    expect_lost_writes();
    row_tell(&b, &a, "after");
    expect_text(&a, "after", "after");
    /* the rest is as it always was */
    row_command(&first, "CLIENT KILL TYPE pubsub");
    row_await(&a, PLN_COUNT_BUS_REPAIRS, 1);
    row_await(&b, PLN_COUNT_BUS_REPAIRS, 1);
    ck_assert_uint_eq(row_logged(&first, 'c'), 1);
    tear_down();
}
END_TEST

/* Redis is all there is: nothing is cleared, and the link comes up and stays so. */
START_TEST(where_redis_is_the_source_an_old_state_is_the_state) {
    restore_an_old_state(&keeping);
    ck_assert_uint_eq(row_logged(&first, 'c'), 0);
    expect_text(&a, "deleted", "deleted");
    expect_text(&b, "kept", "kept");
    ck_assert_uint_eq(client_count(&a, PLN_COUNT_BUS_LOST_WRITES), 1);
    ck_assert_uint_eq(client_count(&b, PLN_COUNT_BUS_LOST_WRITES), 1);
    row_tell(&b, &a, "after");
    row_command(&first, "CLIENT KILL TYPE pubsub");
    row_await(&a, PLN_COUNT_BUS_REPAIRS, 1);
    row_await(&b, PLN_COUNT_BUS_REPAIRS, 1);
    ck_assert_uint_eq(client_count(&b, PLN_COUNT_BUS_LOST_WRITES), 1);
    tear_down();
}
END_TEST

static void await_gone(struct client *client, const char *key) {
    struct pln_hashed hashed = key_of(key);
    struct pln_l2_value value;
    for (pln_ns until = soon() + 9000000000;
         pln_l2_get(client->l2, &hashed, soon(), &value) == PLN_OK;) {
        pln_l2_value_fini(&value);
        ck_assert(pln_clock_precise() < until);
    }
}

/* The same process, which was restored twice: what was done after the first time does not count for
 * the second. */
START_TEST(a_server_that_forgets_twice_is_cleared_twice) {
    const struct row_options often = {.ping_ms = 400};
    char line[64];
    pln_test_redis_start(&first, NULL);
    open_both(first.url, &often);
    for (int i = 0; i < 2; i++) {
        row_tell(&b, &a, "deleted");
        uint64_t number = row_number(&first, "HGET ns:tags @");
        uint64_t cleared = row_number(&first, "HGET ns:tags *");
        snprintf(line, sizeof line, "HSET ns:tags @ %llu", (unsigned long long) number - 1);
        row_command(&first, line);
        for (pln_ns until = soon() + 9000000000; row_number(&first, "HGET ns:tags *") == cleared;) {
            ck_assert(pln_clock_precise() < until);
        }
        await_gone(&a, "deleted"); /* who has not noticed it is told */
        await_gone(&b, "deleted");
    }
    tear_down();
}
END_TEST

/* As a primary that was a replica for a while, or whose data was loaded anew. */
START_TEST(another_history_of_the_same_server_is_found_too) {
    char line[96];
    pln_test_redis_start(&first, NULL);
    open_both(first.url, &seldom);
    row_tell(&b, &a, "one");
    uint64_t number = row_number(&first, "HGET ns:tags @");
    row_command(&first, "DEL ns:log");
    snprintf(line, sizeof line, "XADD ns:log %llu-0 m other", (unsigned long long) number);
    row_command(&first, line);
    row_kill_link(&first, 0);
    ck_assert(client_hears(&a, "+"));
    ck_assert_uint_eq(client_count(&a, PLN_COUNT_BUS_LOST_WRITES), 1);
    expect_text(&a, "one", NULL);
    tear_down();
}
END_TEST

/* Its connections stay, and what it says is what another master says, or nothing. */
START_TEST(a_server_that_is_made_a_replica_is_left) {
    const struct row_options often = {.ping_ms = 400};
    pln_test_redis_start(&first, NULL);
    open_both(first.url, &often);
    row_tell(&b, &a, "one");
    row_command(&first, "REPLICAOF 127.0.0.1 1");
    ck_assert_msg(client_hears(&a, "-"), "%s", a.log);
    row_command(&first, "REPLICAOF NO ONE");
    ck_assert_msg(client_hears(&a, "="), "%s", a.log);
    tear_down();
}
END_TEST

/* ---- two servers, the second made a primary too early ---- */

static void start_pair(const struct row_options *options) {
    static char port[8];
    const char *listening[] = {"--port", port, NULL};
    char line[64];
    snprintf(port, sizeof port, "%d", pln_test_free_port());
    pln_test_redis_start(&first, listening);
    pln_test_redis_start(&second, NULL);
    snprintf(line, sizeof line, "REPLICAOF 127.0.0.1 %s", port);
    row_command(&second, line);
    pln_test_proxy_start(&proxy, first.path);
    open_both(proxy.url, options);
}

static void let_it_follow(void) {
    pln_ns until = pln_clock_precise() + 30 * 1000000000LL;
    char *there, *here;
    bool is_same;
    do {
        there = pln_test_redis_command(&first, "HGET ns:tags @");
        here = pln_test_redis_command(&second, "HGET ns:tags @");
        is_same = strcmp(there, here) == 0;
        free(there);
        free(here);
        ck_assert(pln_clock_precise() < until);
    } while (!is_same);
}

static void fail_over(void) {
    pln_test_redis_kill(&first);
    ck_assert(client_hears(&a, "-"));
    ck_assert(client_hears(&b, "-"));
    pln_test_proxy_lead_to(&proxy, second.path);
}

static void tear_down_pair(void) {
    tear_down();
    pln_test_redis_stop(&second);
    pln_test_proxy_stop(&proxy);
}

START_TEST(a_failover_that_lost_nothing_costs_nothing) {
    start_pair(&seldom);
    row_tell(&b, &a, "one");
    row_await_own(&b);
    let_it_follow();
    row_command(&second, "REPLICAOF NO ONE");
    fail_over();
    ck_assert(client_hears(&a, "="));
    expect_story(&a, "k:one - =");
    ck_assert(client_hears(&b, "="));
    expect_text(&a, "one", "one");
    tear_down_pair();
}
END_TEST

/* Who has heard nothing since it came up looks where it began. */
START_TEST(a_failover_costs_those_nothing_who_have_heard_nothing) {
    struct client idle;
    start_pair(&seldom);
    row_tell(&b, &a, "one");
    row_await_own(&b);
    row_open(&idle, proxy.url, &seldom);
    let_it_follow();
    row_command(&second, "REPLICAOF NO ONE");
    fail_over();
    ck_assert_msg(client_hears(&idle, "="), "%s (%s)", idle.story, idle.log);
    expect_story(&idle, "- =");
    client_fini(&idle);
    tear_down_pair();
}
END_TEST

START_TEST(a_failover_that_lost_writes_is_cleared_once) {
    start_pair(&seldom);
    row_tell(&b, &a, "one");
    let_it_follow();
    row_command(&second, "REPLICAOF NO ONE");
    row_remove(&b, "one"); /* the second does not know */
    row_tell(&b, &a, "two");
    fail_over();
    ck_assert_msg(client_hears(&a, "+"), "%s (%s)", a.story, a.log);
    ck_assert_msg(client_hears(&b, "+"), "%s (%s)", b.story, b.log);
    expect_text(&a, "one", NULL);
    expect_text(&b, "one", NULL);
    ck_assert_uint_eq(row_logged(&second, 'c'), 1);
    expect_lost_writes();
    tear_down_pair();
}
END_TEST

/* As many messages as were lost, so that the number alone shows nothing. */
START_TEST(another_history_of_the_same_length_is_found_by_the_log) {
    struct client c;
    start_pair(&seldom);
    row_tell(&b, &a, "one");
    let_it_follow();
    row_command(&second, "REPLICAOF NO ONE");
    row_remove(&b, "one");
    row_tell(&b, &a, "two");
    ck_assert(client_hears(&a, "k:one k:one k:two"));
    row_open(&c, second.url, &seldom);
    row_set(&c, "other");
    row_set(&c, "others");
    row_set(&c, "more");
    client_fini(&c);
    fail_over();
    ck_assert_msg(client_hears(&a, "+"), "%s (%s)", a.story, a.log);
    ck_assert_msg(client_hears(&b, "+"), "%s (%s)", b.story, b.log);
    ck_assert(!client_heard(&a, "="));
    expect_text(&a, "one", NULL);
    ck_assert_uint_eq(row_logged(&second, 'c'), 1);
    ck_assert_uint_ge(client_count(&a, PLN_COUNT_BUS_LOST_WRITES), 1);
    tear_down_pair();
}
END_TEST

START_TEST(with_keep_a_failover_that_lost_writes_drops_what_was_heard_alone) {
    start_pair(&keeping);
    row_tell(&b, &a, "one");
    let_it_follow();
    row_command(&second, "REPLICAOF NO ONE");
    row_remove(&b, "one");
    row_tell(&b, &a, "two");
    fail_over();
    ck_assert_msg(client_hears(&a, "+"), "%s (%s)", a.story, a.log);
    ck_assert_msg(client_hears(&b, "+"), "%s (%s)", b.story, b.log);
    expect_text(&a, "one", "one");
    ck_assert_uint_eq(row_logged(&second, 'c'), 0);
    tear_down_pair();
}
END_TEST

/* ---- rights and room ---- */

static void start_with_user(const char *rights) {
    char line[200], url[200];
    int port = pln_test_free_port();
    pln_test_redis_start(&first, NULL);
    snprintf(line, sizeof line, "CONFIG SET port %d", port);
    row_command(&first, line);
    snprintf(line, sizeof line, "ACL SETUSER app on >secret ~* &* +@all %s", rights);
    row_command(&first, line);
    snprintf(url, sizeof url, "redis://app:secret@127.0.0.1:%d", port);
    row_open(&a, url, &seldom);
    row_open(&b, first.url, &seldom);
}

/* Without the right to read the log what was missed is not known; no link stays down for it. */
static void lose_the_link_without(const char *rights, const char *how_up) {
    start_with_user(rights);
    row_tell(&b, &a, "one");
    row_set(&a, "own");
    row_lose(&first, "lost", true);
    row_kill_link(&first, 0);
    ck_assert_msg(client_hears(&a, "- "), "%s", a.log);
    ck_assert_msg(client_hears(&a, how_up), "%s", a.log);
    row_tell(&b, &a, "after");
}

START_TEST(without_the_right_to_read_the_log_it_does_not_help) {
    lose_the_link_without("-xrange", "+");
    expect_story(&a, "k:one - + k:after");
    ck_assert(client_logs(&a, "xrange"));
    tear_down();
}
END_TEST

START_TEST(without_the_right_to_write_the_log_that_of_others_is_left_alone) {
    start_with_user("-xadd");
    row_tell(&b, &a, "one");
    row_set(&a, "unlogged");
    ck_assert_uint_eq(row_logged(&first, 'k'), 1);
    tear_down();
}
END_TEST

START_TEST(without_the_right_to_tell_of_itself_an_instance_counts_none) {
    lose_the_link_without("-zadd -zremrangebyscore -zcard", "=");
    expect_story(&a, "k:one - k:lost = k:after");
    struct pln_l2_health health;
    pln_l2_health(a.l2, &health);
    ck_assert_uint_eq(health.peers, 0);
    tear_down();
}
END_TEST

START_TEST(peers_of_a_foreign_shape_keep_no_link_down) {
    pln_test_redis_start(&first, NULL);
    row_command(&first, "SET ns:peers nonsense");
    open_both(first.url, &seldom);
    row_tell(&b, &a, "one");
    tear_down();
}
END_TEST

START_TEST(a_full_server_still_takes_what_ends_values_and_is_heard) {
    const struct row_options often = {.ping_ms = 400};
    pln_test_redis_start(&first, NULL);
    open_both(first.url, &often);
    row_tell(&b, &a, "one");
    row_command(&first, "CONFIG SET maxmemory 1");
    ck_assert_int_eq(pln_l2_drop_tag(b.l2, pln_key("tag"), soon()), PLN_OK);
    row_remove(&b, "one");
    struct pln_hashed key = key_of("one");
    ck_assert_int_eq(pln_l2_expire(b.l2, &key, soon()), PLN_MISS);
    ck_assert_int_eq(pln_l2_clear(b.l2, soon()), PLN_OK);
    ck_assert(client_hears(&a, "clear"));
    expect_story(&a, "k:one t:tag k:one x:one clear");
    row_kill_link(&first, 0);
    ck_assert(client_hears(&a, "="));
    expect_story(&a, "- =");
    tear_down();
}
END_TEST

/* All writes are refused there: nobody can change anything, and what is read is right. */
START_TEST(a_server_that_takes_no_writes_keeps_no_link_down) {
    pln_test_redis_start(&first, NULL);
    open_both(first.url, &seldom);
    row_tell(&b, &a, "one");
    row_command(&first, "CONFIG SET min-replicas-to-write 1");
    row_kill_link(&first, 0);
    ck_assert_msg(client_hears(&a, "="), "%s", a.log);
    expect_story(&a, "k:one - =");
    tear_down();
}
END_TEST

int main(void) {
    Suite *suite = suite_create("forget");
    TCase *tests = tcase_create("one");
    suite_add_tcase(suite, tests);
    tcase_set_timeout(tests, 60);
    tcase_add_test(tests, a_server_that_kept_everything_costs_nothing);
    tcase_add_test(tests, a_server_that_kept_nothing_begins_another_row);
    tcase_add_test(tests, a_server_with_an_old_state_is_cleared_once);
    tcase_add_test(tests, where_redis_is_the_source_an_old_state_is_the_state);
    tcase_add_test(tests, a_server_that_forgets_twice_is_cleared_twice);
    tcase_add_test(tests, another_history_of_the_same_server_is_found_too);
    tcase_add_test(tests, a_server_that_is_made_a_replica_is_left);
    TCase *pair = tcase_create("pair");
    suite_add_tcase(suite, pair);
    tcase_set_timeout(pair, 60);
    tcase_add_test(pair, a_failover_that_lost_nothing_costs_nothing);
    tcase_add_test(pair, a_failover_costs_those_nothing_who_have_heard_nothing);
    tcase_add_test(pair, a_failover_that_lost_writes_is_cleared_once);
    tcase_add_test(pair, another_history_of_the_same_length_is_found_by_the_log);
    tcase_add_test(pair, with_keep_a_failover_that_lost_writes_drops_what_was_heard_alone);
    TCase *rights = tcase_create("rights");
    suite_add_tcase(suite, rights);
    tcase_set_timeout(rights, 60);
    tcase_add_test(rights, without_the_right_to_read_the_log_it_does_not_help);
    tcase_add_test(rights, without_the_right_to_write_the_log_that_of_others_is_left_alone);
    tcase_add_test(rights, without_the_right_to_tell_of_itself_an_instance_counts_none);
    tcase_add_test(rights, peers_of_a_foreign_shape_keep_no_link_down);
    tcase_add_test(rights, a_full_server_still_takes_what_ends_values_and_is_heard);
    tcase_add_test(rights, a_server_that_takes_no_writes_keeps_no_link_down);
    SRunner *runner = srunner_create(suite);
    srunner_run_all(runner, CK_ENV);
    int failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed == 0 ? 0 : 1;
}
