/* SPDX-License-Identifier: MIT
 * test_async.c - l2/async.c, courier.c, read_async.c: thousands of gets in flight on one connection
 * end once each, with their own answer or the reason why there is none. */
#include <check.h>
#include <sched.h>
#include <stdio.h>

#include "client.h"
#include "proxy.h"
#include "server.h"

enum { MANY = 1000, CHAIN = 2000, THREADS = 4, SOME = 100 };

static struct server server;
static struct proxy proxy;
static struct client a;

/* A get and how it ended. */
struct ask {
    struct pln_l2_get get;
    char key[24], text[24];
    unsigned number, left; /* gets that follow on this one */
    int status;
    unsigned n_ended;
    bool is_right;
    char error[200];
};

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER; /* guards n_ended */
static pthread_cond_t ended;
static size_t n_ended;
static struct ask asks[10000];

static void open_client(const char *url, pln_ms timeout, pln_ms ping) {
    client_init(&a);
    struct pln_l2_options options = client_options(&a, url);
    options.timeout_ms = timeout;
    options.ping_ms = ping;
    options.pool = 1;
    ck_assert_msg(pln_l2_redis_new(&options, &a.l2) == PLN_OK, "%s", pln_error_text());
}

static void reopen(const char *url, pln_ms timeout, pln_ms ping) {
    client_fini(&a);
    open_client(url, timeout, ping);
}

static void set_up(void) {
    pthread_condattr_t attributes;
    pthread_condattr_init(&attributes);
    pthread_condattr_setclock(&attributes, CLOCK_MONOTONIC);
    pthread_cond_init(&ended, &attributes);
    pthread_condattr_destroy(&attributes);
    n_ended = 0;
    pln_test_redis_start(&server, NULL);
    pln_test_proxy_start(&proxy, server.path);
    open_client(server.url, 5000, 250);
}

static void tear_down(void) {
    client_fini(&a);
    pln_test_proxy_stop(&proxy);
    pln_test_redis_stop(&server);
    pthread_cond_destroy(&ended);
}

static void command(const char *line) {
    free(pln_test_redis_command(&server, "%s", line));
}

static pln_ns in_ms(int ms) {
    return pln_clock_precise() + ms * 1000000LL;
}

/* ---- asking ---- */

static void note_end(void) {
    pthread_mutex_lock(&lock);
    n_ended++;
    pthread_cond_signal(&ended);
    pthread_mutex_unlock(&lock);
}

/* Waits until so many have ended; far longer than it can take. */
static void await(size_t n) {
    struct timespec until = pln_timespec(in_ms(20000));
    int result = 0;
    pthread_mutex_lock(&lock);
    while (n_ended < n && result == 0) {
        result = pthread_cond_timedwait(&ended, &lock, &until);
    }
    size_t seen = n_ended;
    pthread_mutex_unlock(&lock);
    ck_assert_uint_eq(seen, n);
}

static int begin(struct ask *ask, unsigned number, pln_ns deadline);

static void done(struct pln_l2_get *get, int status, struct pln_l2_value *value) {
    struct ask *ask = get->arg;
    ask->status = status;
    ask->n_ended++;
    ask->is_right = false;
    if (status < 0) {
        snprintf(ask->error, sizeof ask->error, "%s", pln_error_text());
    }
    if (status == PLN_OK) {
        ask->is_right = pln_bytes_equal(value->item.value, pln_key(ask->text));
        pln_l2_value_fini(value);
    }
    bool goes_on = ask->left > 0 && (status != PLN_OK || ask->is_right);
    ask->left -= goes_on;
    if (!goes_on || begin(ask, ask->number + 1, get->deadline) != PLN_OK) {
        note_end();
    }
}

static int begin(struct ask *ask, unsigned number, pln_ns deadline) {
    ask->number = number;
    snprintf(ask->key, sizeof ask->key, "key-%u", number % MANY);
    snprintf(ask->text, sizeof ask->text, "text-%u", number % MANY);
    ask->get.key = key_of(ask->key);
    ask->get.deadline = deadline;
    ask->get.done = done;
    ask->get.arg = ask;
    return pln_l2_get_async(a.l2, &ask->get);
}

static void begin_some(size_t from, size_t n, pln_ns deadline) {
    for (size_t i = from; i < from + n; i++) {
        asks[i] = (struct ask){.left = 0};
        int result = begin(&asks[i], (unsigned) i, deadline);
        ck_assert_msg(result == PLN_OK, "get %zu: %s", i, pln_error_text());
    }
}

static void expect_all(size_t from, size_t n, int status) {
    for (size_t i = from; i < from + n; i++) {
        if (asks[i].status != status || asks[i].n_ended != 1 ||
            asks[i].is_right != (status == PLN_OK)) {
            ck_abort_msg("get %zu ended %u times, with %d (%s), %s", i, asks[i].n_ended,
                         asks[i].status, asks[i].error,
                         asks[i].is_right ? "right" : "not its own value");
        }
    }
}

static void fill(void) {
    for (unsigned i = 0; i < MANY; i++) {
        char key[24], text[24];
        snprintf(key, sizeof key, "key-%u", i);
        snprintf(text, sizeof text, "text-%u", i);
        struct pln_hashed hashed = key_of(key);
        struct pln_l2_item item = item_of(text);
        ck_assert_int_eq(pln_l2_set(a.l2, &hashed, &item, 0, soon()), PLN_OK);
    }
}

/* One get, waited for. */
static int get_one(struct ask *ask, unsigned number) {
    size_t before = n_ended;
    *ask = (struct ask){.left = 0};
    int result = begin(ask, number, in_ms(10000));
    if (result != PLN_OK) {
        return result;
    }
    await(before + 1);
    return ask->status;
}

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
        mine[i].status = begin(&mine[i], i, in_ms(20000));
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

/* ---- deadlines ---- */

START_TEST(a_deadline_ends_a_get_and_its_late_answer_is_given_to_nobody) {
    fill();
    begin_some(0, 1, in_ms(20000));
    await(1);
    pln_test_redis_pause(&server);
    for (size_t i = 1; i < SOME; i++) { /* each has a deadline of its own */
        begin_some(i, 1, in_ms(20 + (int) i % 7 * 5));
        begin_some(SOME + i, 1, in_ms(20000));
    }
    await(SOME);
    expect_all(1, SOME - 1, PLN_ETIMEOUT);
    ck_assert_ptr_nonnull(strstr(asks[1].error, "no answer before the deadline"));
    ck_assert_uint_eq(client_count(&a, PLN_COUNT_L2_TIMEOUTS), SOME - 1);
    pln_test_redis_resume(&server);
    await(2 * SOME - 1);
    expect_all(SOME + 1, SOME - 1, PLN_OK);
    begin_some(0, MANY, in_ms(20000));
    await(2 * SOME - 1 + MANY);
    expect_all(0, MANY, PLN_OK);
    /* all that over one connection: the late answers came, and went nowhere */
    ck_assert_uint_eq(client_count(&a, PLN_COUNT_L2_CONNECTS), 2);
}
END_TEST

START_TEST(a_server_that_is_silent_too_long_is_given_up) {
    struct ask ask;
    reopen(proxy.url, 100, 250);
    fill();
    ck_assert_int_eq(get_one(&ask, 1), PLN_OK);
    pln_test_redis_pause(&server);
    begin_some(0, SOME, in_ms(60000));
    begin_some(SOME, 1, in_ms(150));
    await(1 + SOME + 1);
    expect_all(SOME, 1, PLN_ETIMEOUT);
    expect_all(0, SOME, PLN_EL2DOWN);
    ck_assert_ptr_nonnull(strstr(asks[0].error, "said nothing for 100 ms"));
    pln_test_redis_resume(&server);
    ck_assert_int_eq(get_one(&ask, 2), PLN_OK);
    ck_assert(ask.is_right);
}
END_TEST

START_TEST(a_deadline_that_has_passed_is_refused) {
    ck_assert_int_eq(begin(&asks[0], 0, in_ms(0)), PLN_ETIMEOUT);
}
END_TEST

/* On a connection that is never idle. */
START_TEST(the_clock_of_the_server_is_asked_for_meanwhile) {
    static struct ask chains[10];
    reopen(server.url, 5000, 20);
    fill();
    for (size_t i = 0; i < PLN_ARRAY_LEN(chains); i++) {
        chains[i] = (struct ask){.left = UINT32_MAX};
        ck_assert_int_eq(begin(&chains[i], 0, in_ms(60000)), PLN_OK);
    }
    bool has_asked = false;
    for (pln_ns until = in_ms(20000); !has_asked && pln_clock_precise() < until;) {
        char *stats = pln_test_redis_command(&server, "INFO commandstats");
        const char *times = strstr(stats, "cmdstat_time:calls=");
        has_asked = times != NULL && strtol(times + strlen("cmdstat_time:calls="), NULL, 10) > 8;
        free(stats);
    }
    ck_assert(has_asked);
    pln_l2_close(a.l2);
    a.l2 = NULL;
    await(PLN_ARRAY_LEN(chains));
}
END_TEST

/* ---- ends ---- */

START_TEST(a_killed_server_ends_all_at_once) {
    struct ask ask;
    fill();
    ck_assert_int_eq(get_one(&ask, 1), PLN_OK);
    pln_test_redis_pause(&server);
    begin_some(0, MANY, in_ms(600000));
    pln_test_redis_kill(&server);
    await(1 + MANY);
    expect_all(0, MANY, PLN_EL2DOWN);
    int result = PLN_OK;
    for (int i = 0; i < 3; i++) {
        result = get_one(&ask, 1);
        ck_assert_int_eq(result, PLN_EL2DOWN);
    }
    ck_assert_msg(client_logs(&a, "commands fail at once"), "%s", a.log);
    pln_test_redis_restart(&server);
    for (pln_ns until = in_ms(10000); result != PLN_MISS && pln_clock_precise() < until;) {
        result = get_one(&ask, 1); /* nothing is left in it */
    }
    ck_assert_int_eq(result, PLN_MISS);
}
END_TEST

START_TEST(an_answer_nobody_asked_for_ends_the_connection) {
    struct ask ask;
    reopen(proxy.url, 5000, 250);
    fill();
    ck_assert_int_eq(get_one(&ask, 1), PLN_OK);
    pln_test_redis_pause(&server);
    begin_some(0, 1, in_ms(60000));
    while (client_count(&a, PLN_COUNT_L2_COMMANDS) < MANY + 2) {
        sched_yield(); /* until it is sent */
    }
    pln_test_proxy_say(&proxy, "$1\r\nx\r\n$3\r\nfor\r\n+nobody\r\n");
    await(2);
    expect_all(0, 1, PLN_MISS);
    pln_test_redis_resume(&server);
    for (unsigned i = 0; i < SOME; i++) {
        ck_assert_int_eq(get_one(&ask, i), PLN_OK);
        ck_assert(ask.is_right);
    }
    ck_assert_uint_eq(client_count(&a, PLN_COUNT_L2_CONNECTS), 3);
}
END_TEST

START_TEST(nonsense_ends_the_connection) {
    static const char *const nonsense[] = {"?",       "$-2\r\n",     "$x\r\n", "HTTP/1.1 400\r\n",
                                           "*-7\r\n", "$\r\n"};
    struct ask ask;
    reopen(proxy.url, 5000, 250);
    fill();
    ck_assert_int_eq(get_one(&ask, 1), PLN_OK);
    pln_test_redis_pause(&server);
    begin_some(0, 2, in_ms(60000));
    while (client_count(&a, PLN_COUNT_L2_COMMANDS) < MANY + 3) {
        sched_yield();
    }
    pln_test_proxy_say(&proxy, nonsense[_i]);
    await(3);
    expect_all(0, 2, PLN_EL2DOWN);
    pln_test_redis_resume(&server);
    ck_assert_int_eq(get_one(&ask, 1), PLN_OK);
    ck_assert(ask.is_right);
}
END_TEST

START_TEST(a_replica_that_has_lost_its_master_is_left) {
    struct ask ask;
    fill();
    ck_assert_int_eq(get_one(&ask, 1), PLN_OK);
    command("CONFIG SET replica-serve-stale-data no");
    command("REPLICAOF 127.0.0.1 1");
    ck_assert_int_eq(get_one(&ask, 1), PLN_EL2);
    ck_assert_ptr_nonnull(strstr(ask.error, "MASTERDOWN"));
    ck_assert_int_eq(get_one(&ask, 1), PLN_EL2DOWN);
    ck_assert_ptr_nonnull(strstr(ask.error, "refused"));
}
END_TEST

START_TEST(more_than_the_bounds_is_refused) {
    struct ask ask;
    size_t n = 0;
    int result = PLN_OK;
    fill();
    ck_assert_int_eq(get_one(&ask, 1), PLN_OK);
    pln_test_redis_pause(&server);
    while (n < PLN_ARRAY_LEN(asks) && result == PLN_OK) {
        asks[n] = (struct ask){.left = 0};
        result = begin(&asks[n], (unsigned) n, in_ms(60000));
        n += result == PLN_OK;
    }
    ck_assert_int_eq(result, PLN_EBUSY);
    ck_assert_ptr_nonnull(strstr(pln_error_text(), "4096 asynchronous commands wait"));
    ck_assert_uint_ge(n, 4096);
    ck_assert_uint_le(n, 8192 + 1);
    pln_test_redis_resume(&server);
    await(1 + n);
    expect_all(0, n, PLN_OK);
}
END_TEST

START_TEST(closing_ends_what_is_in_flight) {
    struct ask ask;
    fill();
    ck_assert_int_eq(get_one(&ask, 1), PLN_OK);
    pln_test_redis_pause(&server);
    begin_some(0, MANY, in_ms(600000));
    for (size_t i = 0; i < MANY; i++) {
        asks[i].left = i % 2; /* some try to go on, and are told not to */
    }
    pln_l2_close(a.l2);
    a.l2 = NULL;
    ck_assert_uint_eq(n_ended, 1 + MANY);
    expect_all(0, MANY, PLN_EL2DOWN);
    ck_assert_ptr_nonnull(strstr(asks[0].error, "closed"));
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
    client_fini(&a);
    pln_l2_mem_server_free(memory);
    open_client(server.url, 5000, 250);
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
    tcase_add_checked_fixture(tests, set_up, tear_down);
    tcase_set_timeout(tests, 60);
    tcase_add_test(tests, a_thousand_in_flight_are_answered_each_with_its_own);
    tcase_add_test(tests, gets_of_many_threads_are_answered_each_with_its_own);
    tcase_add_test(tests, a_get_that_ends_begins_the_next);
    tcase_add_test(tests, what_is_not_there_or_none_of_ours_is_a_miss);
    tcase_add_test(tests, values_of_all_sizes_are_read);
    tcase_add_loop_test(tests, a_value_whose_tag_was_dropped_is_a_miss, 0, 2);
    tcase_add_test(tests, a_deadline_ends_a_get_and_its_late_answer_is_given_to_nobody);
    tcase_add_test(tests, a_server_that_is_silent_too_long_is_given_up);
    tcase_add_test(tests, a_deadline_that_has_passed_is_refused);
    tcase_add_test(tests, the_clock_of_the_server_is_asked_for_meanwhile);
    tcase_add_test(tests, a_killed_server_ends_all_at_once);
    tcase_add_test(tests, an_answer_nobody_asked_for_ends_the_connection);
    tcase_add_loop_test(tests, nonsense_ends_the_connection, 0, 6);
    tcase_add_test(tests, a_replica_that_has_lost_its_master_is_left);
    tcase_add_test(tests, more_than_the_bounds_is_refused);
    tcase_add_test(tests, closing_ends_what_is_in_flight);
    tcase_add_test(tests, memory_answers_before_it_returns);
    tcase_add_test(tests, a_forked_child_is_refused);
    SRunner *runner = srunner_create(suite);
    srunner_run_all(runner, CK_ENV);
    int failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed == 0 ? 0 : 1;
}
