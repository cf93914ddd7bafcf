/* SPDX-License-Identifier: MIT
 * test_async.c - l2/async.c, courier.c, read_async.c: thousands of gets in flight on one connection
 * are answered each with its own. */
#include <check.h>
#include <sched.h>
#include <stdio.h>

#include "../../l2/internal.h"
#include "asks.h"

enum { CHAIN = 2000, THREADS = 4 };

/* ---- answers ---- */

START_TEST(a_thousand_in_flight_are_answered_each_with_its_own) {
    fill();
    for (size_t round = 1; round <= 5; round++) {
        begin_some(0, MANY, in_ms(20000));
        await(round * MANY);
        expect_all(0, MANY, PLN_OK);
    }
    ck_assert_uint_eq(client_count(&a, PLN_COUNT_L2_CONNECTS), 2); /* fill's, and the courier's */
}
END_TEST

static void *ask_often(void *arg) {
    struct ask *mine = arg;
    for (unsigned i = 0; i < MANY; i++) {
        mine[i] = (struct ask){.left = 1};
        if (begin(&mine[i], i, in_ms(20000)) != PLN_OK) {
            abort(); /* no word of it from here on: it is the client's */
        }
    }
    return NULL;
}

START_TEST(gets_of_many_threads_are_answered_each_with_its_own) {
    pthread_t threads[THREADS];
    fill();
    for (size_t i = 0; i < THREADS; i++) {
        ck_assert_int_eq(pthread_create(&threads[i], NULL, ask_often, asks + i * MANY), 0);
    }
    for (size_t i = 0; i < THREADS; i++) {
        pthread_join(threads[i], NULL);
    }
    await((size_t) THREADS * MANY);
    for (size_t i = 0; i < (size_t) THREADS * MANY; i++) {
        if (asks[i].n_ended != 2 || !asks[i].is_right) {
            ck_abort_msg("get %zu ended %u times, with %d", i, asks[i].n_ended, asks[i].status);
        }
    }
}
END_TEST

START_TEST(a_get_that_ends_begins_the_next) {
    struct ask ask = {.left = CHAIN - 1};
    fill();
    ck_assert_int_eq(begin(&ask, 0, in_ms(20000)), PLN_OK);
    await(1);
    ck_assert_uint_eq(ask.n_ended, CHAIN);
    ck_assert(ask.is_right);
    ck_assert_uint_eq(client_count(&a, PLN_COUNT_L2_CONNECTS), 2);
}
END_TEST

START_TEST(what_is_not_there_or_none_of_ours_is_a_miss) {
    struct ask ask;
    ck_assert_int_eq(get_one(&ask, 1), PLN_MISS);
    command("SET ns:v:key-1 plain");
    ck_assert_int_eq(get_one(&ask, 1), PLN_MISS);
    command("DEL ns:v:key-1");
    command("LPUSH ns:v:key-1 list");
    ck_assert_int_eq(get_one(&ask, 1), PLN_MISS);
    ck_assert_uint_eq(client_count(&a, PLN_COUNT_L2_BAD_VALUES), 2);
    struct ask longest = {.left = 0};
    char *key = calloc(1, PLN_MAX_KEY + 1);
    longest.get.key = (struct pln_hashed){pln_bytes_of(key, PLN_MAX_KEY + 1), 1};
    longest.get.deadline = soon();
    ck_assert_int_eq(pln_l2_get_async(a.l2, &longest.get), PLN_ETOOBIG);
    free(key);
}
END_TEST

static void check_plain(struct pln_l2_get *get, int status, struct pln_l2_value *value) {
    struct ask *ask = get->arg;
    ask->status = status;
    if (status == PLN_OK) {
        ask->is_right = pln_bytes_equal(value->item.value, pln_key("foreign")) &&
                        value->item.fresh_left > 0 && value->item.fresh_left <= 60000 &&
                        value->item.n_tags == 0;
        pln_l2_value_fini(value);
    }
    note_end();
}

/* The same bytes are one of ours to no other key. */
START_TEST(plain_values_are_read_as_they_lie) {
    static const char *const commands[] = {"SET ns:v:key-1 foreign PX 60000", "DEL ns:v:key-1",
                                           "LPUSH ns:v:key-1 list"};
    struct pln_l2_value value;
    for (size_t i = 0; i < PLN_ARRAY_LEN(commands); i++) {
        struct ask ask = {.status = PLN_OK};
        command(commands[i]);
        ask.get = (struct pln_l2_get){
            .key = key_of("key-1"), .deadline = in_ms(20000), .done = check_plain, .arg = &ask};
        ask.get.key.is_plain = true;
        ck_assert_int_eq(pln_l2_get_async(a.l2, &ask.get), PLN_OK);
        await(i + 1);
        ck_assert(ask.is_right == (i == 0));
        ck_assert(i == 0 ? ask.status == PLN_OK : ask.status != PLN_OK);
        int status = pln_l2_get(a.l2, &ask.get.key, soon(), &value);
        ck_assert_int_eq(status, ask.status);
        if (status == PLN_OK) {
            ck_assert(pln_bytes_equal(value.item.value, pln_key("foreign")));
            pln_l2_value_fini(&value);
        }
    }
    ck_assert_uint_eq(client_count(&a, PLN_COUNT_L2_BAD_VALUES), 0);
}
END_TEST

/* Sizes at which an answer fits a buffer just so, or does not, or not at all. */
static size_t size_of(unsigned number) {
    static const size_t sizes[] = {0, 1, 9, 65463, 65465, 65469, 65470, 65480, 65537, 200000, 50};
    return number < 300 ? 65400 + number : sizes[number % PLN_ARRAY_LEN(sizes)];
}

static void check_size(struct pln_l2_get *get, int status, struct pln_l2_value *value) {
    struct ask *ask = get->arg;
    ask->n_ended++;
    ask->status = status;
    if (status == PLN_OK) {
        const char *text = value->item.value.data;
        size_t len = value->item.value.len;
        ask->is_right = len == size_of(ask->number);
        for (size_t i = 0; ask->is_right && i < len; i++) {
            ask->is_right = (uint8_t) text[i] == (uint8_t) (ask->number + i);
        }
        pln_l2_value_fini(value);
    }
    note_end();
}

START_TEST(values_of_all_sizes_are_read) {
    enum { N = 400 };
    uint8_t *text = malloc(200000);
    for (unsigned i = 0; i < N; i++) {
        char key[24];
        snprintf(key, sizeof key, "key-%u", i);
        for (size_t j = 0; j < size_of(i); j++) {
            text[j] = (uint8_t) (i + j);
        }
        struct pln_hashed hashed = key_of(key);
        struct pln_l2_item item = item_of("");
        item.value = pln_bytes_of(text, size_of(i));
        ck_assert_int_eq(pln_l2_set(a.l2, &hashed, &item, 0, soon()), PLN_OK);
    }
    free(text);
    for (unsigned i = 0; i < N; i++) {
        struct ask *ask = &asks[i];
        *ask = (struct ask){.number = i};
        snprintf(ask->key, sizeof ask->key, "key-%u", i);
        ask->get = (struct pln_l2_get){
            .key = key_of(ask->key), .deadline = in_ms(20000), .done = check_size, .arg = ask};
        ck_assert_int_eq(pln_l2_get_async(a.l2, &ask->get), PLN_OK);
    }
    await(N);
    expect_all(0, N, PLN_OK);
    ck_assert_uint_eq(client_count(&a, PLN_COUNT_L2_CONNECTS), 2);
}
END_TEST

/* _i: with a link, whose floor decides for values without tags; and without one. */
START_TEST(a_value_whose_tag_was_dropped_is_a_miss) {
    struct ask ask;
    struct pln_bytes tags[] = {pln_key("red"), pln_key("blue")};
    struct pln_hashed key = key_of("key-1");
    struct pln_l2_item item = item_of("text-1");
    if (_i == 1) {
        ck_assert_int_eq(pln_l2_start(a.l2), PLN_OK);
        ck_assert(client_hears(&a, "+"));
    }
    item.tags = tags;
    item.n_tags = 2;
    ck_assert_int_eq(pln_l2_set(a.l2, &key, &item, 0, soon()), PLN_OK);
    ck_assert_int_eq(get_one(&ask, 1), PLN_OK);
    ck_assert(ask.is_right);
    ck_assert_int_eq(pln_l2_drop_tag(a.l2, pln_key("green"), soon()), PLN_OK);
    ck_assert_int_eq(get_one(&ask, 1), PLN_OK);
    ck_assert_int_eq(pln_l2_drop_tag(a.l2, tags[1], soon()), PLN_OK);
    ck_assert_int_eq(get_one(&ask, 1), PLN_MISS);
    item.n_tags = 0;
    ck_assert_int_eq(pln_l2_set(a.l2, &key, &item, 0, soon()), PLN_OK);
    ck_assert_int_eq(get_one(&ask, 1), PLN_OK);
    ck_assert_int_eq(pln_l2_clear(a.l2, soon()), PLN_OK);
    ck_assert_int_eq(get_one(&ask, 1), PLN_MISS);
}
END_TEST

/* kind: by a get that is not waited for, one that is, and one of many. The server is another one
 * than the link has looked at; then it has. */
static int read_first(struct ask *ask, int kind) {
    struct pln_hashed key = key_of("key-1");
    struct pln_l2_value value;
    int status = PLN_OK;
    if (kind == 0) {
        return get_one(ask, 1);
    }
    int result = kind == 1 ? pln_l2_get(a.l2, &key, in_ms(20000), &value)
                           : pln_l2_get_many(a.l2, &key, 1, in_ms(20000), &value, &status);
    status = result == PLN_OK ? status : result;
    snprintf(ask->error, sizeof ask->error, "%s", pln_error_text());
    if (status == PLN_OK) {
        pln_l2_value_fini(&value);
    }
    return status;
}

/* A client whose connections are all still to be made, and whose link has looked at another server
 * than they will find; the run id of that. */
static struct pln_node *doubt_all(int kind, char run_id[PLN_RUN_ID + 1]) {
    struct ask ask = {.left = 0};
    fill();
    reopen(server.url, 20000, 250);
    ck_assert_int_eq(read_first(&ask, kind), PLN_OK);
    struct pln_node *node = pln_redis_of(a.l2)->nodes[0];
    snprintf(run_id, PLN_RUN_ID + 1, "%s", node->pool.slots[0].conn.run_id);
    reopen(server.url, 20000, 250);
    node = pln_redis_of(a.l2)->nodes[0];
    pln_node_checked(node, "another");
    return node;
}

START_TEST(a_server_that_was_not_looked_at_is_not_believed) {
    struct ask ask = {.left = 0};
    char run_id[PLN_RUN_ID + 1];
    struct pln_node *node = doubt_all(_i, run_id);
    ck_assert_int_eq(read_first(&ask, _i), PLN_EL2DOWN);
    ck_assert_msg(strstr(ask.error, "was not looked at yet") != NULL, "%s", ask.error);
    pln_node_checked(node, run_id);
    ck_assert_int_eq(read_first(&ask, _i), PLN_OK);
}
END_TEST

struct reader {
    int kind, status;
};

static void *read_behind(void *arg) {
    struct reader *reader = arg;
    struct ask ask = {.left = 0};
    reader->status = read_first(&ask, reader->kind);
    return NULL;
}

/* _i: one, or many. */
START_TEST(who_waits_for_an_answer_waits_for_that_look) {
    char run_id[PLN_RUN_ID + 1];
    struct reader reader = {.kind = _i + 1};
    pthread_t thread;
    struct pln_node *node = doubt_all(_i + 1, run_id);
    /* relaxed: before the thread starts */
    atomic_store_explicit(&node->pool.patience, 20000 * 1000000LL, memory_order_relaxed);
    ck_assert_int_eq(pthread_create(&thread, NULL, read_behind, &reader), 0);
    pln_ns deadline = in_ms(20000);
    while (pln_pool_trust(&node->pool) != 0) {
        ck_assert(pln_clock_precise() < deadline);
        sched_yield();
    }
    pln_node_checked(node, run_id);
    pthread_join(thread, NULL);
    ck_assert_int_eq(reader.status, PLN_OK);
}
END_TEST

/* ---- the other tiers ---- */

START_TEST(memory_answers_before_it_returns) {
    struct pln_l2_mem_server *memory;
    struct ask ask = {.left = 0};
    client_fini(&a);
    client_init(&a);
    struct pln_l2_options options = client_options(&a, NULL);
    ck_assert_int_eq(pln_l2_mem_server_new(&memory), PLN_OK);
    ck_assert_int_eq(pln_l2_mem_new(&options, memory, &a.l2), PLN_OK);
    fill();
    ck_assert_int_eq(begin(&ask, 7, soon()), PLN_OK);
    ck_assert(ask.n_ended == 1 && ask.status == PLN_OK && ask.is_right);
    pln_l2_mem_cut(a.l2, true);
    ask = (struct ask){.left = 0};
    ck_assert_int_eq(begin(&ask, 7, soon()), PLN_OK);
    ck_assert_int_eq(ask.status, PLN_EL2DOWN);
    pln_l2_close(a.l2);
    a.l2 = NULL;
    pln_l2_mem_server_free(memory);
}
END_TEST

START_TEST(a_forked_child_is_refused) {
    struct ask ask = {.get = {.key = key_of("a"), .deadline = soon()}};
    ck_assert_int_eq(pln_l2_get_async(pln_l2_gone(), &ask.get), PLN_EL2DOWN);
}
END_TEST

int main(void) {
    Suite *suite = suite_create("async");
    TCase *tests = tcase_create("async");
    suite_add_tcase(suite, tests);
    tcase_add_checked_fixture(tests, asks_set_up, asks_tear_down);
    tcase_set_timeout(tests, 60);
    tcase_add_test(tests, a_thousand_in_flight_are_answered_each_with_its_own);
    tcase_add_test(tests, gets_of_many_threads_are_answered_each_with_its_own);
    tcase_add_test(tests, a_get_that_ends_begins_the_next);
    tcase_add_test(tests, plain_values_are_read_as_they_lie);
    tcase_add_test(tests, what_is_not_there_or_none_of_ours_is_a_miss);
    tcase_add_test(tests, values_of_all_sizes_are_read);
    tcase_add_loop_test(tests, a_value_whose_tag_was_dropped_is_a_miss, 0, 2);
    tcase_add_loop_test(tests, a_server_that_was_not_looked_at_is_not_believed, 0, 3);
    tcase_add_loop_test(tests, who_waits_for_an_answer_waits_for_that_look, 0, 2);
    tcase_add_test(tests, memory_answers_before_it_returns);
    tcase_add_test(tests, a_forked_child_is_refused);
    SRunner *runner = srunner_create(suite);
    srunner_run_all(runner, CK_ENV);
    int failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed == 0 ? 0 : 1;
}
