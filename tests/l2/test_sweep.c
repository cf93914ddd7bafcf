/* SPDX-License-Identifier: MIT
 * test_sweep.c - l2/drops.c and sweep.c over real servers: what a mask voids is void whether or not
 * it has been swept, and its memory comes back. */
#include <check.h>
#include <stdio.h>

#include "../../l2/internal.h"
#include "client.h"
#include "cluster.h"
#include "server.h"

static struct server server;
static struct test_cluster cluster;
static struct client a, b;
static pln_ms timeout_ms = 5000; /* no machine is so slow; what is not answered is not counted */

static struct pln_sweeper *sweeper_of(struct client *client) {
    return &pln_redis_of(client->l2)->sweeper;
}

static void set_rate(struct client *client, unsigned rate) {
    atomic_store(&sweeper_of(client)->rate, rate);
}

/* Its sweeper waits until the test lets it go on. */
static void open_at(struct client *client, const char *url, const char *ns) {
    client_init(client);
    struct pln_l2_options options = client_options(client, url);
    options.ns = ns;
    options.log_length = 100;
    options.timeout_ms = timeout_ms;
    ck_assert_msg(pln_l2_redis_new(&options, &client->l2) == PLN_OK, "%s", pln_error_text());
    set_rate(client, 0);
    atomic_store(&sweeper_of(client)->wait, 0);
    ck_assert_int_eq(pln_l2_start(client->l2), PLN_OK);
    ck_assert_msg(client_hears(client, "+"), "%s", client->log);
}

static void open_client(struct client *client) {
    open_at(client, server.url, "ns");
}

static void set_up(void) {
    pln_test_redis_start(&server, NULL);
    open_client(&a);
    open_client(&b);
}

static void tear_down(void) {
    client_fini(&a);
    client_fini(&b);
    pln_test_redis_stop(&server);
}

static void set(struct client *client, const char *key, const char *text) {
    struct pln_hashed hashed = key_of(key);
    struct pln_l2_item item = item_of(text);
    int result = pln_l2_set(client->l2, &hashed, &item, 0, soon());
    ck_assert_msg(result == PLN_OK, "%s: %s", key, pln_error_text());
}

static void drop(struct client *client, enum pln_mask_kind kind, const char *text) {
    struct pln_mask mask = {kind, pln_key(text)};
    ck_assert_msg(pln_l2_drop_match(client->l2, &mask, soon()) == PLN_OK, "%s", pln_error_text());
}

static long number_of(const char *command) {
    char *text = pln_test_redis_command(&server, "%s", command);
    long number = atol(text);
    free(text);
    return number;
}

static void await_number(const char *command, long number) {
    /* longer than N:sweep is held by who could not give it back */
    pln_ns until = pln_clock_precise() + 60000000000;
    while (number_of(command) != number) {
        ck_assert_msg(pln_clock_precise() < until, "%s stays %ld", command, number_of(command));
    }
}

static void await_swept(struct client *client, uint64_t n) {
    pln_ns until = pln_clock_precise() + 20000000000;
    while (client_count(client, PLN_COUNT_L2_SWEPT) < n) {
        ck_assert(pln_clock_precise() < until);
    }
    ck_assert_uint_eq(client_count(client, PLN_COUNT_L2_SWEPT), n);
}

static const char has_list[] = "HEXISTS ns:tags ~", is_held[] = "EXISTS ns:sweep";

START_TEST(a_void_value_is_void_before_the_sweep_and_gone_after_it) {
    struct client late;
    set(&a, "user:1", "old");
    set(&a, "user:2", "old");
    set(&a, "other", "v");
    drop(&a, PLN_MASK_PREFIX, "user:");
    b.now += 1000000000; /* no clock of a client's has a say */
    set(&b, "user:2", "new");
    open_client(&late);
    struct client *const clients[] = {&a, &b, &late};
    ck_assert(client_hears(&b, "p:user:"));
    for (int swept = 0; swept < 2; swept++) {
        for (size_t i = 0; i < 3; i++) {
            expect_text(clients[i], "user:1", NULL);
            expect_text(clients[i], "user:2", "new");
            expect_text(clients[i], "other", "v");
        }
        ck_assert_int_eq(number_of("EXISTS ns:v:user:1"), 1 - swept);
        ck_assert_int_eq(number_of(has_list), 1 - swept);
        set_rate(&a, 1000000);
        await_number(has_list, 0);
    }
    await_number(is_held, 0);
    await_swept(&a, 1);
    client_fini(&late);
}
END_TEST

/* Without a link nothing is known, and the list is read with each value. */
START_TEST(a_client_without_a_link_asks_for_the_masks) {
    struct client deaf;
    client_init(&deaf);
    struct pln_l2_options options = client_options(&deaf, server.url);
    ck_assert_int_eq(pln_l2_redis_new(&options, &deaf.l2), PLN_OK);
    set(&a, "user:1", "old");
    set(&a, "other", "v");
    expect_text(&deaf, "user:1", "old");
    drop(&a, PLN_MASK_PATTERN, "u*:1");
    expect_text(&deaf, "user:1", NULL);
    expect_text(&deaf, "other", "v");
    client_fini(&deaf);
}
END_TEST

START_TEST(a_load_from_before_is_not_stored_after_the_sweep) {
    struct pln_hashed key = key_of("user:1");
    struct pln_l2_lease lease;
    struct pln_l2_item item = item_of("old");
    ck_assert_int_eq(pln_l2_lease(b.l2, &key, 60000, soon(), &lease), PLN_OK);
    drop(&a, PLN_MASK_PREFIX, "user:");
    set_rate(&a, 1000000);
    await_number(has_list, 0);
    item.tag_clock = lease.tag_clock;
    ck_assert_int_eq(pln_l2_commit(b.l2, &key, &lease, &item, soon()), PLN_NOT_STORED);
    expect_text(&a, "user:1", NULL);
}
END_TEST

START_TEST(a_hundred_thousand_keys_are_swept_at_the_rate) {
    enum { RATE = 50000 };
    set(&a, "k:0", "v");
    free(pln_test_redis_command(&server, /* a command is cut at spaces */
                                "EVAL local\nv=redis.call('GET','ns:v:k:0')\n"
                                "for\ni=0,49999\ndo\n"
                                "redis.call('SET','ns:v:k:'..i,v)\n"
                                "redis.call('SET','ns:v:o:'..i,v)\nend 0"));
    set(&b, "k:7", "new");
    long before = number_of("DBSIZE");
    set(&a, "k:8", "old");
    drop(&a, PLN_MASK_PREFIX, "k:");
    set(&b, "k:9", "new");
    ck_assert(client_hears(&b, "p:k:"));
    expect_text(&b, "k:49999", NULL);
    expect_text(&b, "o:49999", "v");
    pln_ns began = pln_clock_precise();
    set_rate(&a, RATE);
    await_number(has_list, 0);
    pln_ns took = pln_clock_precise() - began;
    ck_assert_int_ge(took, 1000000000LL * 99000 / RATE); /* the last step may be a small one */
    await_number(is_held, 0);
    ck_assert_int_eq(number_of("DBSIZE"), before - 49999);
    await_swept(&a, 49999);
    expect_text(&b, "k:9", "new");
    expect_text(&b, "o:0", "v");
}
END_TEST

/* Its connection goes, or the server is silent for longer than a command may take. */
START_TEST(a_sweep_that_is_disturbed_misses_nothing) {
    char name[16];
    client_fini(&a);
    timeout_ms = 250;
    open_client(&a);
    for (int i = 0; i < 3000; i++) {
        snprintf(name, sizeof name, "k:%d", i);
        set(&a, name, "v");
    }
    drop(&a, PLN_MASK_PREFIX, "k:");
    set_rate(&a, 5000); /* six steps, 100 ms apart */
    await_number(is_held, 1);
    if (_i == 0) {
        free(pln_test_redis_command(&server, "CLIENT KILL TYPE normal"));
    } else {
        uint64_t before = client_count(&a, PLN_COUNT_L2_TIMEOUTS);
        pln_test_redis_pause(&server);
        pln_ns until = pln_clock_precise() + 20000000000;
        while (client_count(&a, PLN_COUNT_L2_TIMEOUTS) == before) {
            ck_assert(pln_clock_precise() < until);
        }
        pln_test_redis_resume(&server);
    }
    set_rate(&a, 1000000);
    await_number(has_list, 0);
    await_number(is_held, 0);
    ck_assert_int_le(number_of("DBSIZE"), 3); /* the tags, the log and the peers */
}
END_TEST

/* A right to sweep that another client has is its own; one's own from before is as good as a new
 * one. */
START_TEST(a_right_that_was_never_given_back_is_still_ones_own) {
    set(&b, "user:1", "old");
    drop(&a, PLN_MASK_PREFIX, "user:");
    await_number(is_held, 1);
    free(pln_test_redis_command(&server, "COPY ns:sweep kept"));
    set_rate(&a, 1000000);
    await_number(has_list, 0);
    await_number(is_held, 0);
    drop(&b, PLN_MASK_PREFIX, "user:"); /* b has the right, and a must wait */
    await_number(is_held, 1);
    drop(&a, PLN_MASK_PREFIX, "x:");
    ck_assert(client_hears(&b, "p:x:"));
    free(pln_test_redis_command(&server, "RENAME kept ns:sweep")); /* now it is a's, from before */
    await_number(has_list, 0);
    await_number(is_held, 0);
}
END_TEST

START_TEST(what_a_dead_client_left_is_swept_by_another) {
    set(&b, "user:1", "old");
    drop(&a, PLN_MASK_PREFIX, "user:");
    client_fini(&a);
    ck_assert(client_hears(&b, "p:user:"));
    expect_text(&b, "user:1", NULL);
    ck_assert_int_eq(number_of("EXISTS ns:v:user:1"), 1);
    set_rate(&b, 1000000);
    atomic_store(&sweeper_of(&b)->orphaned, 0); /* looked at with the next beat */
    await_number(has_list, 0);
    ck_assert_int_eq(number_of("EXISTS ns:v:user:1"), 0);
    open_client(&a);
}
END_TEST

START_TEST(a_list_that_is_full_is_a_clear) {
    char text[32];
    set(&a, "other", "v");
    for (int i = 0; i < PLN_MOST_DROPS; i++) {
        snprintf(text, sizeof text, "p%d:", i);
        drop(&a, PLN_MASK_PREFIX, text);
        drop(&b, PLN_MASK_PREFIX, text); /* the same again takes no place */
    }
    expect_text(&b, "other", "v");
    drop(&a, PLN_MASK_PREFIX, "one more");
    ck_assert(client_hears(&b, "clear"));
    ck_assert(client_logs(&a, "all its values are dropped instead"));
    expect_text(&b, "other", NULL);
    ck_assert_int_eq(number_of(has_list), 0);
    set(&a, "later:x", "v");
    drop(&a, PLN_MASK_PREFIX, "later:");
    ck_assert(client_hears(&b, "p:later:"));
    expect_text(&b, "later:x", NULL);
}
END_TEST

START_TEST(long_masks_fill_the_list_too) {
    static char text[PLN_MAX_KEY + 1];
    memset(text, 'x', PLN_MAX_KEY);
    set(&a, "other", "v");
    for (int i = 0; i < 4; i++) {
        expect_text(&b, "other", "v");
        text[0] = (char) ('a' + i);
        drop(&a, PLN_MASK_PREFIX, text);
    }
    ck_assert(client_hears(&b, "clear"));
    expect_text(&b, "other", NULL);
    struct pln_mask mask = {PLN_MASK_PREFIX, pln_bytes_of(text, PLN_MAX_KEY + 1)};
    ck_assert_int_eq(pln_l2_drop_match(a.l2, &mask, soon()), PLN_ETOOBIG);
}
END_TEST

START_TEST(a_server_that_forgot_everything_has_no_masks) {
    set(&a, "user:1", "old");
    drop(&a, PLN_MASK_PREFIX, "user:");
    free(pln_test_redis_command(&server, "FLUSHALL"));
    set(&b, "user:1", "new");
    expect_text(&a, "user:1", "new");
    ck_assert(client_hears(&a, "- +")); /* its row of messages is another one now */
    ck_assert(client_hears(&b, "- +"));
    drop(&b, PLN_MASK_PREFIX, "user:");
    ck_assert(client_hears(&a, "p:user:"));
    expect_text(&a, "user:1", NULL);
    expect_text(&b, "user:1", NULL);
}
END_TEST

START_TEST(a_server_that_begins_anew_has_no_masks) {
    set(&a, "user:1", "old");
    drop(&a, PLN_MASK_PREFIX, "user:");
    pln_test_redis_kill(&server);
    ck_assert(client_hears(&a, "-"));
    ck_assert(client_hears(&b, "-"));
    pln_test_redis_restart(&server);
    ck_assert(client_hears(&a, "- +"));
    ck_assert(client_hears(&b, "- +"));
    set(&a, "user:1", "newer");
    expect_text(&b, "user:1", "newer");
    set_rate(&a, 1000000);
    set_rate(&b, 1000000);
    drop(&b, PLN_MASK_PREFIX, "user:");
    await_number(has_list, 0);
    ck_assert_int_eq(number_of("EXISTS ns:v:user:1"), 0);
}
END_TEST

/* SCAN has a language of its own, and masks are not in it. */
START_TEST(names_mean_what_they_say_to_scan) {
    static const char *const gone[] = {"k*?[a]1", "k*?[a]\\", "k*?[a]"}, *const there[] = {
                                                                             "kx?[a]1", "k*xa",
                                                                             "K*?[a]1"};
    struct client odd;
    open_at(&odd, server.url, "n[s]*?^-\\");
    for (size_t i = 0; i < 3; i++) {
        set(&odd, gone[i], "v");
        set(&odd, there[i], "v");
    }
    set(&a, gone[0], "v"); /* another namespace */
    long before = number_of("DBSIZE");
    drop(&odd, PLN_MASK_PREFIX, "k*?[a]");
    set_rate(&odd, 1000000);
    await_number("DBSIZE", before - 3); /* and the sweep's own key came and went */
    for (size_t i = 0; i < 3; i++) {
        expect_text(&odd, there[i], "v");
    }
    drop(&odd, PLN_MASK_PATTERN, "k*?[a]*");
    await_number("DBSIZE", before - 4);
    expect_text(&a, gone[0], "v");
    client_fini(&odd);
}
END_TEST

/* ---- a ring, a cluster ---- */

START_TEST(every_server_of_a_ring_is_swept) {
    struct server other;
    struct client ring;
    char url[300], name[16];
    pln_test_redis_start(&other, NULL);
    snprintf(url, sizeof url, "redis+ring://%s,%s", server.url, other.url);
    open_at(&ring, url, "ns");
    for (int i = 0; i < 40; i++) {
        snprintf(name, sizeof name, "%s:%d", i % 2 == 0 ? "k" : "o", i);
        set(&ring, name, "v");
    }
    drop(&ring, PLN_MASK_PREFIX, "k:");
    for (int i = 0; i < 40; i++) {
        snprintf(name, sizeof name, "%s:%d", i % 2 == 0 ? "k" : "o", i);
        expect_text(&ring, name, i % 2 == 0 ? NULL : "v");
    }
    set_rate(&ring, 1000000);
    await_number(has_list, 0);
    await_swept(&ring, 20);
    client_fini(&ring);
    pln_test_redis_stop(&other);
}
END_TEST

static bool has_no_list(void *arg) {
    for (size_t i = 0; i < 3; i++) {
        redisReply *reply = test_node_ask(&cluster.nodes[i], "HEXISTS ns:tags ~");
        bool is_there = reply->type == REDIS_REPLY_INTEGER && reply->integer == 1;
        freeReplyObject(reply);
        if (is_there) {
            return false;
        }
    }
    (void) arg;
    return true;
}

START_TEST(every_primary_of_a_cluster_is_swept) {
    char url[64], name[16];
    struct client first, second;
    test_cluster_start(&cluster, 3, 0);
    snprintf(url, sizeof url, "redis+cluster://127.0.0.1:%d", cluster.nodes[0].port);
    open_at(&first, url, "ns");
    open_at(&second, url, "ns");
    for (int i = 0; i < 60; i++) {
        snprintf(name, sizeof name, i % 3 == 0 ? "k:}%d" : i % 3 == 1 ? "k:{t}%d" : "o:%d", i);
        set(&first, name, "v");
    }
    drop(&first, PLN_MASK_PREFIX, "k:");
    ck_assert(client_hears(&second, "p:k:"));
    for (int i = 0; i < 60; i++) {
        snprintf(name, sizeof name, i % 3 == 0 ? "k:}%d" : i % 3 == 1 ? "k:{t}%d" : "o:%d", i);
        expect_text(&first, name, i % 3 == 2 ? "v" : NULL);
        expect_text(&second, name, i % 3 == 2 ? "v" : NULL);
    }
    static char names[20][16];
    struct pln_hashed keys[20]; /* of many slots: each goes by itself */
    for (int i = 0; i < 20; i++) {
        snprintf(names[i], sizeof names[i], "o:%d", 3 * i + 2);
        keys[i] = key_of(names[i]);
    }
    ck_assert_int_eq(pln_l2_remove_many(second.l2, keys, 20, soon()), PLN_OK);
    for (int i = 0; i < 20; i++) {
        expect_text(&first, names[i], NULL);
    }
    ck_assert(client_hears(&first, "k:o:59"));
    set_rate(&first, 1000000);
    test_until(has_no_list, NULL, "the masks are swept");
    await_swept(&first, 40);
    client_fini(&first);
    client_fini(&second);
    test_cluster_stop(&cluster);
}
END_TEST

int main(void) {
    Suite *suite = suite_create("sweep");
    TCase *tests = tcase_create("sweep");
    suite_add_tcase(suite, tests);
    tcase_set_timeout(tests, 120);
    tcase_add_checked_fixture(tests, set_up, tear_down);
    tcase_add_test(tests, a_void_value_is_void_before_the_sweep_and_gone_after_it);
    tcase_add_test(tests, a_client_without_a_link_asks_for_the_masks);
    tcase_add_test(tests, a_load_from_before_is_not_stored_after_the_sweep);
    tcase_add_test(tests, a_hundred_thousand_keys_are_swept_at_the_rate);
    tcase_add_loop_test(tests, a_sweep_that_is_disturbed_misses_nothing, 0, 2);
    tcase_add_test(tests, a_right_that_was_never_given_back_is_still_ones_own);
    tcase_add_test(tests, what_a_dead_client_left_is_swept_by_another);
    tcase_add_test(tests, a_list_that_is_full_is_a_clear);
    tcase_add_test(tests, long_masks_fill_the_list_too);
    tcase_add_test(tests, a_server_that_forgot_everything_has_no_masks);
    tcase_add_test(tests, a_server_that_begins_anew_has_no_masks);
    tcase_add_test(tests, names_mean_what_they_say_to_scan);
    tcase_add_test(tests, every_server_of_a_ring_is_swept);
    tcase_add_test(tests, every_primary_of_a_cluster_is_swept);
    SRunner *runner = srunner_create(suite);
    srunner_run_all(runner, CK_ENV);
    int failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed == 0 ? 0 : 1;
}
