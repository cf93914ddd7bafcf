/* SPDX-License-Identifier: MIT
 * test_redis.c - l2/redis.c, read.c and script.c over a real server: the tier's semantics, and
 * what only a server can do to us. */
#include <check.h>
#include <stdio.h>

#include "semantics.h"
#include "server.h"

static struct server server;
static struct client a, b;

static void open_client(struct client *client, struct pln_l2_options *options) {
    int result = pln_l2_redis_new(options, &client->l2);
    ck_assert_msg(result == PLN_OK, "%s", pln_error_text());
}

static void set_up(void) {
    pln_test_redis_start(&server, NULL);
    struct client *const clients[] = {&a, &b};
    for (size_t i = 0; i < 2; i++) {
        client_init(clients[i]);
        struct pln_l2_options options = client_options(clients[i], server.url);
        open_client(clients[i], &options);
        ck_assert_int_eq(pln_l2_start(clients[i]->l2), PLN_OK);
        ck_assert_msg(client_hears(clients[i], "+"), "%s", clients[i]->log);
        expect_story(clients[i], "+");
    }
}

static void tear_down(void) {
    client_fini(&a);
    client_fini(&b);
    pln_test_redis_stop(&server);
}

static void command(const char *expected, const char *line) {
    char *reply = pln_test_redis_command(&server, "%s", line);
    if (expected != NULL) {
        ck_assert_str_eq(reply, expected);
    }
    free(reply);
}

static int set(struct client *client, const char *key, const char *text) {
    struct pln_hashed hashed = key_of(key);
    struct pln_l2_item item = item_of(text);
    return pln_l2_set(client->l2, &hashed, &item, 0, soon());
}

START_TEST(redis_does_what_a_tier_must_do) {
    semantics[_i].run(&a, &b);
}
END_TEST

/* The same without a link: nothing tells the floor, so the times are asked for each time. */
START_TEST(commands_work_before_the_link_is_started) {
    struct client c;
    client_init(&c);
    struct pln_l2_options options = client_options(&c, server.url);
    open_client(&c, &options);
    ck_assert_int_eq(set(&c, "a", "one"), PLN_OK);
    expect_text(&c, "a", "one");
    expect_text(&a, "a", "one");
    ck_assert_int_eq(pln_l2_clear(a.l2, soon()), PLN_OK);
    expect_text(&c, "a", NULL);
    ck_assert_int_eq(set(&a, "a", "two"), PLN_OK);
    expect_text(&c, "a", "two");
    expect_story(&c, "");
    client_fini(&c);
}
END_TEST

START_TEST(a_server_that_forgot_the_scripts_is_told_again) {
    ck_assert_int_eq(set(&a, "a", "one"), PLN_OK);
    command("OK", "SCRIPT FLUSH");
    ck_assert_int_eq(set(&a, "a", "two"), PLN_OK);
    expect_text(&b, "a", "two");
}
END_TEST

START_TEST(what_others_put_in_our_place_is_a_miss_and_counted) {
    command("OK", "SET ns:v:a nonsense");
    expect_text(&a, "a", NULL);
    command("1", "LPUSH ns:v:b list");
    expect_text(&a, "b", NULL);
    ck_assert_uint_eq(client_count(&a, PLN_COUNT_L2_BAD_VALUES), 2);
    /* and it stands in nobody's way */
    struct pln_hashed key = key_of("b");
    struct pln_l2_item item = item_of("ours");
    ck_assert_int_eq(pln_l2_touch(a.l2, &key, 1000, 1000, 0, soon()), PLN_MISS);
    ck_assert_int_eq(pln_l2_expire(a.l2, &key, soon()), PLN_MISS);
    ck_assert_int_eq(pln_l2_set(a.l2, &key, &item, PLN_SET_NX, soon()), PLN_OK);
    expect_text(&b, "b", "ours");
}
END_TEST

START_TEST(a_value_lies_under_its_name_and_dies_by_itself) {
    ck_assert_int_eq(set(&a, "a", "one"), PLN_OK);
    char *left = pln_test_redis_command(&server, "PTTL ns:v:a");
    ck_assert_int_gt(atoi(left), 100000);
    ck_assert_int_le(atoi(left), 120000);
    free(left);
    struct pln_hashed key = key_of("a");
    struct pln_l2_item item = item_of("two");
    item.life_left = item.fresh_left = PLN_FOREVER;
    ck_assert_int_eq(pln_l2_set(a.l2, &key, &item, 0, soon()), PLN_OK);
    command("-1", "PTTL ns:v:a");
    item.life_left = 1;
    ck_assert_int_eq(pln_l2_set(a.l2, &key, &item, 0, soon()), PLN_OK);
    while (true) {
        char *exists = pln_test_redis_command(&server, "EXISTS ns:v:a");
        bool is_gone = strcmp(exists, "0") == 0;
        free(exists);
        if (is_gone) {
            break;
        }
    }
    expect_text(&b, "a", NULL);
}
END_TEST

/* The hash of the tags may be evicted. Whatever was stored under it might have been void. */
START_TEST(a_lost_tag_clock_voids_tagged_values_and_never_restarts_low) {
    struct pln_hashed key = key_of("a");
    struct pln_bytes tag = pln_key("user");
    struct pln_l2_item item = item_of("one");
    struct pln_l2_lease lease;
    item.tags = &tag;
    item.n_tags = 1;
    ck_assert_int_eq(pln_l2_set(a.l2, &key, &item, 0, soon()), PLN_OK);
    ck_assert_int_eq(pln_l2_lease(a.l2, &key, 1000, soon(), &lease), PLN_OK);
    command("1", "DEL ns:tags");
    expect_text(&b, "a", NULL);
    ck_assert_int_eq(pln_l2_drop_tag(b.l2, pln_key("other"), soon()), PLN_OK);
    expect_text(&b, "a", NULL);
    item.tag_clock = lease.tag_clock;
    ck_assert_int_eq(pln_l2_commit(a.l2, &key, &lease, &item, soon()), PLN_NOT_STORED);
    item.tag_clock = 0;
    ck_assert_int_eq(pln_l2_set(a.l2, &key, &item, 0, soon()), PLN_OK);
    expect_text(&b, "a", "one");
}
END_TEST

START_TEST(a_lease_ends_by_itself) {
    struct pln_hashed key = key_of("a");
    struct pln_l2_lease first, second;
    ck_assert_int_eq(pln_l2_lease(a.l2, &key, 20, soon(), &first), PLN_OK);
    pln_ns until = soon();
    int result = PLN_PENDING;
    while (result == PLN_PENDING && pln_clock_precise() < until) {
        result = pln_l2_lease(b.l2, &key, 5000, soon(), &second);
    }
    ck_assert_int_eq(result, PLN_OK);
    struct pln_l2_item item = item_of("late");
    ck_assert_int_eq(pln_l2_commit(a.l2, &key, &first, &item, soon()), PLN_NOT_STORED);
    ck_assert_int_eq(pln_l2_commit(b.l2, &key, &second, &item, soon()), PLN_OK);
}
END_TEST

START_TEST(an_error_of_the_server_names_it_and_the_command) {
    struct pln_hashed key = key_of("a");
    command("OK", "CONFIG SET maxmemory 1");
    ck_assert_int_eq(set(&a, "a", "one"), PLN_EL2);
    ck_assert_ptr_nonnull(strstr(pln_error_text(), "OOM"));
    ck_assert_ptr_nonnull(strstr(pln_error_text(), server.path));
    ck_assert_ptr_nonnull(strstr(pln_error_text(), ": set: "));
    /* reading and deleting go on, and the breaker stays closed */
    for (int i = 0; i < 10; i++) {
        ck_assert_int_eq(set(&a, "a", "one"), PLN_EL2);
    }
    ck_assert_int_eq(pln_l2_remove(a.l2, &key, soon()), PLN_OK);
    expect_text(&a, "a", NULL);
}
END_TEST

static struct pln_reply *ask(const char *line) {
    struct pln_bytes args[8];
    struct pln_reply *reply;
    size_t n = 0;
    char *words = strdup(line), *rest = words, *word;
    while ((word = strsep(&rest, " ")) != NULL) {
        args[n++] = pln_key(word);
    }
    int status = pln_l2_command(a.l2, n > 1 ? &args[1] : NULL, args, n, soon(), &reply);
    free(words);
    return status == PLN_OK ? reply : NULL;
}

static bool says(const struct pln_reply *reply, enum pln_reply_kind kind, const char *text) {
    return reply->kind == kind && pln_bytes_equal(reply->bytes, pln_key(text));
}

START_TEST(any_command_may_be_given_and_its_reply_is_a_tree) {
    struct pln_reply *reply = ask("ZADD hot 1 least 4 most 3 more");
    ck_assert(reply->kind == PLN_REPLY_INTEGER && reply->integer == 3);
    pln_reply_free(reply);
    reply = ask("ZREVRANGE hot 0 1");
    ck_assert(reply->kind == PLN_REPLY_ARRAY && reply->n_elements == 2);
    ck_assert(says(&reply->elements[0], PLN_REPLY_STRING, "most"));
    ck_assert(says(&reply->elements[1], PLN_REPLY_STRING, "more"));
    pln_reply_free(reply);
    reply = ask("PING");
    ck_assert(says(reply, PLN_REPLY_STATUS, "PONG"));
    pln_reply_free(reply);
    reply = ask("GET nothing");
    ck_assert_int_eq(reply->kind, PLN_REPLY_NIL);
    pln_reply_free(reply);
    ck_assert_ptr_null(ask("GET hot"));
    ck_assert_ptr_nonnull(strstr(pln_error_text(), ": GET: WRONGTYPE"));
}
END_TEST

START_TEST(big_values_and_too_big_ones) {
    enum { BIG = 8 * 1024 * 1024 };
    struct pln_hashed key = key_of("a");
    struct pln_l2_item item = item_of("");
    struct pln_l2_value value;
    char *bytes = malloc(BIG);
    for (size_t i = 0; i < BIG; i++) {
        bytes[i] = (char) (i * 7 + i / 256);
    }
    item.value = pln_bytes_of(bytes, BIG);
    ck_assert_int_eq(pln_l2_set(a.l2, &key, &item, 0, soon()), PLN_OK);
    ck_assert_int_eq(pln_l2_get(b.l2, &key, soon(), &value), PLN_OK);
    ck_assert(pln_bytes_equal(value.item.value, item.value));
    pln_l2_value_fini(&value);
    item.value.len = (size_t) 512 * 1024 * 1024;
    ck_assert_int_eq(pln_l2_set(a.l2, &key, &item, 0, soon()), PLN_ETOOBIG);
    key.key = pln_bytes_of(bytes, PLN_MAX_KEY);
    item.value.len = 3;
    ck_assert_int_eq(pln_l2_set(a.l2, &key, &item, 0, soon()), PLN_OK);
    key.key.len++;
    ck_assert_int_eq(pln_l2_set(a.l2, &key, &item, 0, soon()), PLN_ETOOBIG);
    ck_assert_int_eq(pln_l2_get(a.l2, &key, soon(), &value), PLN_ETOOBIG);
    free(bytes);
}
END_TEST

START_TEST(more_keys_than_go_into_one_command) {
    enum { N = 20000 };
    struct pln_hashed *keys = calloc(N, sizeof *keys);
    struct pln_l2_value *values = calloc(N, sizeof *values);
    int *statuses = calloc(N, sizeof *statuses);
    char(*names)[8] = calloc(N, sizeof *names);
    for (int i = 0; i < N; i++) {
        snprintf(names[i], sizeof names[i], "%d", i);
        keys[i] = key_of(names[i]);
    }
    ck_assert_int_eq(set(&a, "17", "first"), PLN_OK);
    ck_assert_int_eq(set(&a, "19999", "last"), PLN_OK);
    ck_assert_int_eq(pln_l2_get_many(b.l2, keys, N, soon(), values, statuses), PLN_OK);
    for (int i = 0; i < N; i++) {
        ck_assert_int_eq(statuses[i], i == 17 || i == 19999 ? PLN_OK : PLN_MISS);
    }
    ck_assert(pln_bytes_equal(values[17].item.value, pln_key("first")));
    ck_assert(pln_bytes_equal(values[19999].item.value, pln_key("last")));
    pln_l2_value_fini(&values[17]);
    pln_l2_value_fini(&values[19999]);
    free(keys);
    free(values);
    free(statuses);
    free(names);
}
END_TEST

START_TEST(databases_are_apart) {
    struct client c;
    char url[200];
    snprintf(url, sizeof url, "%s?db=5", server.url);
    client_init(&c);
    struct pln_l2_options options = client_options(&c, url);
    open_client(&c, &options);
    ck_assert_int_eq(pln_l2_start(c.l2), PLN_OK);
    ck_assert(client_hears(&c, "+"));
    ck_assert_int_eq(set(&a, "a", "one"), PLN_OK);
    expect_text(&c, "a", NULL);
    for (int i = 0; i < 3; i++) {
        ck_assert_int_eq(pln_l2_clear(c.l2, soon()), PLN_OK);
    }
    expect_text(&a, "a", "one");
    /* nor is anything heard: each database has a row of messages of its own */
    ck_assert_int_eq(pln_l2_clear(a.l2, soon()), PLN_OK);
    ck_assert_int_eq(set(&c, "c", "two"), PLN_OK);
    ck_assert_int_eq(set(&b, "last", "three"), PLN_OK);
    ck_assert(client_hears(&a, "k:last"));
    client_fini(&c);
}
END_TEST

static void *write_and_read(void *arg) {
    struct client *client = arg;
    char key[32], text[32];
    snprintf(key, sizeof key, "%p", (void *) pthread_self());
    for (int i = 0; i < 300; i++) {
        snprintf(text, sizeof text, "%d", i);
        ck_assert_int_eq(set(client, key, text), PLN_OK);
        expect_text(client, key, text);
    }
    return NULL;
}

START_TEST(threads_read_what_they_wrote) {
    pthread_t threads[8];
    for (size_t i = 0; i < PLN_ARRAY_LEN(threads); i++) {
        ck_assert_int_eq(pthread_create(&threads[i], NULL, write_and_read, i % 2 ? &a : &b), 0);
    }
    for (size_t i = 0; i < PLN_ARRAY_LEN(threads); i++) {
        pthread_join(threads[i], NULL);
    }
    struct pln_l2_health health;
    pln_l2_health(a.l2, &health);
    ck_assert(health.bus_ok && !health.breaker_open);
    ck_assert_uint_ge(health.connections, 1); /* as many as the keys that came along */
    ck_assert_uint_eq(client_count(&a, PLN_COUNT_L2_ERRORS), 0);
}
END_TEST

START_TEST(bad_options_are_refused_by_name) {
    struct client c;
    client_init(&c);
    struct pln_l2_options options = client_options(&c, "redis://:hunter2@h:x");
    ck_assert_int_eq(pln_l2_redis_new(&options, &c.l2), PLN_EINVAL);
    options.url = server.url;
    options.pool = 100000;
    ck_assert_int_eq(pln_l2_redis_new(&options, &c.l2), PLN_EINVAL);
    ck_assert_ptr_nonnull(strstr(pln_error_text(), "pool: "));
    char ns[400];
    memset(ns, 'n', sizeof ns);
    ns[sizeof ns - 1] = 0;
    options.pool = 1;
    options.ns = ns;
    ck_assert_int_eq(pln_l2_redis_new(&options, &c.l2), PLN_EINVAL);
    ck_assert_ptr_nonnull(strstr(pln_error_text(), "ns: "));
    client_fini(&c);
}
END_TEST

int main(void) {
    Suite *suite = suite_create("redis");
    TCase *tests = tcase_create("redis");
    suite_add_tcase(suite, tests);
    tcase_add_checked_fixture(tests, set_up, tear_down);
    tcase_set_timeout(tests, 30);
    tcase_add_loop_test(tests, redis_does_what_a_tier_must_do, 0, n_semantics);
    tcase_add_test(tests, commands_work_before_the_link_is_started);
    tcase_add_test(tests, a_server_that_forgot_the_scripts_is_told_again);
    tcase_add_test(tests, what_others_put_in_our_place_is_a_miss_and_counted);
    tcase_add_test(tests, a_value_lies_under_its_name_and_dies_by_itself);
    tcase_add_test(tests, a_lost_tag_clock_voids_tagged_values_and_never_restarts_low);
    tcase_add_test(tests, a_lease_ends_by_itself);
    tcase_add_test(tests, an_error_of_the_server_names_it_and_the_command);
    tcase_add_test(tests, any_command_may_be_given_and_its_reply_is_a_tree);
    tcase_add_test(tests, big_values_and_too_big_ones);
    tcase_add_test(tests, more_keys_than_go_into_one_command);
    tcase_add_test(tests, databases_are_apart);
    tcase_add_test(tests, threads_read_what_they_wrote);
    tcase_add_test(tests, bad_options_are_refused_by_name);
    SRunner *runner = srunner_create(suite);
    srunner_run_all(runner, CK_ENV);
    int failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed == 0 ? 0 : 1;
}
