/* SPDX-License-Identifier: MIT
 * test_line.c - l2/line.c: callers of one connection are sent together and answered each with its
 * own; a deadline, a lost connection, or a crowd concerns just those it should. */
#include <check.h>
#include <poll.h>
#include <stdio.h>

#include "../../l2/internal.h"
#include "client.h"
#include "proxy.h"
#include "server.h"

static struct server server;
static struct proxy proxy;
static struct client a;

static void set_up(void) {
    pln_test_redis_start(&server, NULL);
    pln_test_proxy_start(&proxy, server.path);
    client_init(&a);
    struct pln_l2_options options = client_options(&a, proxy.url);
    options.pool = 1;                             /* every key shares it */
    options.timeout_ms = options.ping_ms = 60000; /* nor is TIME asked for between */
    ck_assert_msg(pln_l2_redis_new(&options, &a.l2) == PLN_OK, "%s", pln_error_text());
}

static void tear_down(void) {
    client_fini(&a);
    pln_test_proxy_stop(&proxy);
    pln_test_redis_stop(&server);
}

/* A thread that reads or stores one key once. */
struct caller {
    pthread_t thread;
    char key[24], text[24];
    bool sets;
    int patience_ms;
    int result;
    bool is_right;
    char error[200];
};

static void *call(void *arg) {
    struct caller *caller = arg;
    struct pln_hashed key = key_of(caller->key);
    pln_ns deadline = pln_clock_precise() + caller->patience_ms * 1000000LL;
    if (caller->sets) {
        struct pln_l2_item item = item_of(caller->text);
        caller->result = pln_l2_set(a.l2, &key, &item, 0, deadline);
        snprintf(caller->error, sizeof caller->error, "%s", pln_error_text());
        return NULL;
    }
    struct pln_l2_value value;
    caller->result = pln_l2_get(a.l2, &key, deadline, &value);
    if (caller->result == PLN_OK) {
        caller->is_right = value.item.value.len == strlen(caller->text) &&
                           memcmp(value.item.value.data, caller->text, strlen(caller->text)) == 0;
        pln_l2_value_fini(&value);
    } else {
        snprintf(caller->error, sizeof caller->error, "%s", pln_error_text());
    }
    return NULL;
}

static void begin(struct caller *caller, unsigned number, bool sets, int patience_ms) {
    pthread_attr_t attributes;
    *caller = (struct caller){.sets = sets, .patience_ms = patience_ms};
    snprintf(caller->key, sizeof caller->key, "key %u", number);
    snprintf(caller->text, sizeof caller->text, "text %u", number);
    pthread_attr_init(&attributes);
    pthread_attr_setstacksize(&attributes, 256 * 1024);
    ck_assert_int_eq(pthread_create(&caller->thread, &attributes, call, caller), 0);
    pthread_attr_destroy(&attributes);
}

static void end(struct caller *caller) {
    pthread_join(caller->thread, NULL);
}

static void do_all(struct caller *callers, unsigned n, bool sets) {
    for (unsigned i = 0; i < n; i++) {
        begin(&callers[i], i, sets, 60000);
    }
    for (unsigned i = 0; i < n; i++) {
        end(&callers[i]);
        ck_assert_int_eq(callers[i].result, PLN_OK);
        ck_assert(sets || callers[i].is_right);
    }
}

/* Waits until so many are in flight, and so many queue. */
static void await(size_t n_in_flight, size_t n_queued) {
    struct pln_line *line = &pln_redis_of(a.l2)->nodes[0]->pool.slots[0].line;
    pln_ns until = pln_clock_precise() + 10000000000;
    bool is_so = false;
    while (!is_so) {
        ck_assert_msg(pln_clock_precise() < until, "%zu in flight, %zu queued, not %zu and %zu",
                      line->n_in_flight, line->n_queued, n_in_flight, n_queued);
        poll(NULL, 0, 1);
        pthread_mutex_lock(&line->lock);
        is_so = line->n_in_flight == n_in_flight && line->n_queued == n_queued;
        pthread_mutex_unlock(&line->lock);
    }
}

static long reads_of_server(void) {
    char *stats = pln_test_redis_command(&server, "INFO stats");
    const char *at = strstr(stats, "total_reads_processed:");
    ck_assert_ptr_nonnull(at);
    long n = atol(at + strlen("total_reads_processed:"));
    free(stats);
    return n;
}

START_TEST(who_comes_meanwhile_is_sent_together) {
    struct caller callers[41];
    do_all(callers, 1, true);
    long before = reads_of_server();
    pln_test_proxy_hold(&proxy);
    begin(&callers[0], 0, true, 60000);
    await(1, 0);
    for (unsigned i = 1; i < 41; i++) {
        begin(&callers[i], i, true, 60000);
    }
    await(1, 40);
    pln_test_proxy_release(&proxy);
    for (unsigned i = 0; i < 41; i++) {
        end(&callers[i]);
        ck_assert_int_eq(callers[i].result, PLN_OK);
    }
    /* one for each send, and some where a send was long; and those of the operator */
    ck_assert_int_lt(reads_of_server() - before, 12);
    do_all(callers, 41, false);
    ck_assert_uint_eq(client_count(&a, PLN_COUNT_L2_CONNECTS), 1);
}
END_TEST

static void *get_and_set_often(void *arg) {
    unsigned number = (unsigned) (uintptr_t) arg;
    for (unsigned i = 0; i < 300; i++) {
        struct caller caller = {.sets = i % 3 == 0, .patience_ms = 60000};
        snprintf(caller.key, sizeof caller.key, "key %u", number);
        snprintf(caller.text, sizeof caller.text, "text %u of %u", i / 3, number);
        call(&caller);
        if (caller.result != PLN_OK || !(caller.sets || caller.is_right)) {
            return arg; /* each is the only one to write its key: it reads what it wrote */
        }
    }
    return NULL;
}

START_TEST(each_is_answered_with_its_own) {
    pthread_t threads[16];
    for (size_t i = 0; i < PLN_ARRAY_LEN(threads); i++) {
        pthread_create(&threads[i], NULL, get_and_set_often, (void *) (i + 1));
    }
    for (size_t i = 0; i < PLN_ARRAY_LEN(threads); i++) {
        void *failed;
        pthread_join(threads[i], &failed);
        ck_assert_ptr_null(failed);
    }
    ck_assert_uint_eq(client_count(&a, PLN_COUNT_L2_CONNECTS), 1);
}
END_TEST

/* The leader's patience ends first. Its answer, which comes later, is nobody else's. */
START_TEST(a_leader_that_leaves_takes_nobody_along) {
    struct caller callers[4];
    do_all(callers, 4, true);
    pln_test_proxy_hold(&proxy);
    begin(&callers[0], 0, false, 2000); /* the others have to be there before it leaves */
    await(1, 0);
    for (unsigned i = 1; i < 4; i++) {
        begin(&callers[i], i, false, 60000);
    }
    end(&callers[0]);
    ck_assert_int_eq(callers[0].result, PLN_ETIMEOUT);
    await(4, 0); /* another leads, and has sent what had queued */
    pln_test_proxy_release(&proxy);
    for (unsigned i = 1; i < 4; i++) {
        end(&callers[i]);
        ck_assert_msg(callers[i].is_right, "%u: %s", i, callers[i].error);
    }
    ck_assert_uint_eq(client_count(&a, PLN_COUNT_L2_CONNECTS), 1);
    ck_assert_uint_eq(client_count(&a, PLN_COUNT_L2_TIMEOUTS), 1);
}
END_TEST

START_TEST(who_waits_leaves_at_its_own_deadline) {
    struct caller leader, queued;
    do_all(&leader, 1, true);
    pln_test_proxy_hold(&proxy);
    begin(&leader, 0, false, 60000);
    await(1, 0);
    begin(&queued, 1, true, 50);
    end(&queued);
    ck_assert_int_eq(queued.result, PLN_ETIMEOUT);
    await(1, 0);
    pln_test_proxy_release(&proxy);
    end(&leader);
    ck_assert(leader.is_right);
    begin(&queued, 1, false, 60000);
    end(&queued);
    ck_assert_int_eq(queued.result, PLN_MISS); /* it was not sent */
}
END_TEST

START_TEST(a_lost_connection_ends_what_is_in_flight_at_once) {
    struct caller callers[8];
    do_all(callers, 8, true);
    pln_test_proxy_hold(&proxy);
    begin(&callers[0], 0, false, 60000);
    await(1, 0);
    for (unsigned i = 1; i < 8; i++) {
        begin(&callers[i], i, false, 60000);
    }
    await(1, 7);
    pln_test_redis_kill(&server);
    for (unsigned i = 0; i < 8; i++) {
        end(&callers[i]); /* those that queued meet the refused connection of the next leader */
        ck_assert_int_eq(callers[i].result, PLN_EL2DOWN);
    }
}
END_TEST

START_TEST(a_crowd_is_refused_past_its_bound) {
    enum { N = 1 + PLN_MOST_QUEUED };
    struct caller *callers = calloc(N, sizeof *callers), refused;
    do_all(callers, 1, true);
    pln_test_proxy_hold(&proxy);
    begin(&callers[0], 0, true, 30000);
    await(1, 0);
    for (unsigned i = 1; i < N; i++) {
        begin(&callers[i], 0, true, 30000);
    }
    await(1, PLN_MOST_QUEUED);
    begin(&refused, 0, true, 30000);
    end(&refused);
    ck_assert_int_eq(refused.result, PLN_EBUSY);
    pln_test_proxy_release(&proxy);
    for (unsigned i = 0; i < N; i++) {
        end(&callers[i]);
        ck_assert_int_eq(callers[i].result, PLN_OK);
    }
    free(callers);
}
END_TEST

/* A command that is asked in two steps. */
struct posted {
    struct pln_request request;
    const char *word;
};

static void write_echo(void *arg, const struct pln_slot *slot, struct pln_batch *batch) {
    const struct posted *posted = arg;
    (void) slot;
    pln_batch_texts(batch, "ECHO", posted->word, NULL);
}

static struct pln_pool *pool(void) {
    return &pln_redis_of(a.l2)->nodes[0]->pool;
}

static void post(struct posted *posted, const char *word, pln_ns deadline) {
    *posted = (struct posted){.request = {.write = write_echo, .arg = posted}, .word = word};
    pln_line_post(pool(), 0, &posted->request, deadline);
    pln_line_flush(pool(), 0);
}

static int finish(struct posted *posted) {
    struct pln_reply *reply = NULL;
    int result = pln_line_finish(pool(), 0, &posted->request, &reply);
    if (result == PLN_OK) {
        ck_assert_str_eq(pln_reply_text(reply), posted->word);
        pln_reply_free(reply);
    }
    return result;
}

START_TEST(what_is_posted_is_sent_at_once_and_answered_in_any_order) {
    static const char *const words[] = {"one", "two", "three", "four"};
    struct posted posted[4];
    for (size_t i = 0; i < 4; i++) {
        post(&posted[i], words[i], soon());
    }
    await(4, 0); /* all on their way, and nobody waits */
    ck_assert_int_eq(finish(&posted[2]), PLN_OK);
    ck_assert_int_eq(finish(&posted[0]), PLN_OK);
    ck_assert_int_eq(finish(&posted[3]), PLN_OK);
    ck_assert_int_eq(finish(&posted[1]), PLN_OK);
    ck_assert_uint_eq(client_count(&a, PLN_COUNT_L2_CONNECTS), 1);
}
END_TEST

START_TEST(who_asks_meanwhile_does_not_wait_for_the_poster) {
    struct caller caller;
    struct posted posted, more;
    do_all(&caller, 1, true);
    post(&posted, "posted", soon());
    begin(&caller, 0, false, 60000);
    end(&caller); /* it leads, and takes the answer of the other along */
    ck_assert(caller.is_right);
    await(0, 0);
    post(&more, "more", soon());
    ck_assert_int_eq(finish(&posted), PLN_OK);
    ck_assert_int_eq(finish(&more), PLN_OK);
}
END_TEST

START_TEST(what_is_posted_while_another_leads_is_sent_by_it) {
    struct caller caller;
    struct posted posted;
    do_all(&caller, 1, true);
    pln_test_proxy_hold(&proxy);
    begin(&caller, 0, false, 60000);
    await(1, 0);
    post(&posted, "posted", soon());
    await(1, 1);
    pln_test_proxy_release(&proxy);
    ck_assert_int_eq(finish(&posted), PLN_OK);
    end(&caller);
    ck_assert(caller.is_right);
}
END_TEST

START_TEST(a_posted_command_ends_at_its_deadline_or_with_its_connection) {
    struct caller caller;
    struct posted late, lost;
    do_all(&caller, 1, true);
    pln_test_proxy_hold(&proxy);
    post(&late, "late", pln_clock_precise() + 50 * 1000000LL);
    ck_assert_int_eq(finish(&late), PLN_ETIMEOUT);
    pln_test_proxy_release(&proxy);
    post(&lost, "lost", soon());
    ck_assert_int_eq(finish(&lost), PLN_OK);
    post(&late, "late", pln_clock_precise() - 1);
    ck_assert_int_eq(finish(&late), PLN_ETIMEOUT);
    pln_test_proxy_hold(&proxy);
    post(&lost, "lost", soon());
    pln_test_redis_kill(&server);
    ck_assert_int_eq(finish(&lost), PLN_EL2DOWN);
    post(&lost, "lost", soon());
    ck_assert_int_eq(finish(&lost), PLN_EL2DOWN); /* refused where it was posted */
}
END_TEST

START_TEST(bytes_that_wait_are_bounded_and_the_bound_is_named) {
    struct caller leader, queued, refused;
    do_all(&leader, 1, true);
    pool()->most_queued_bytes = 1;
    pln_test_proxy_hold(&proxy);
    begin(&leader, 0, true, 30000);
    await(1, 0);
    begin(&queued, 1, true, 30000);
    await(1, 1);
    begin(&refused, 2, true, 30000);
    end(&refused);
    ck_assert_int_eq(refused.result, PLN_EBUSY);
    ck_assert_msg(strstr(refused.error, "over 1") != NULL, "%s", refused.error);
    pln_test_proxy_release(&proxy);
    end(&leader);
    end(&queued); /* alone it may be as long as it is */
    ck_assert_int_eq(queued.result, PLN_OK);
    begin(&refused, 2, true, 30000);
    end(&refused);
    ck_assert_int_eq(refused.result, PLN_OK);
}
END_TEST

START_TEST(bytes_in_flight_are_bounded_and_a_large_command_goes_alone) {
    static const char *const words[] = {"one", "two", "three", "four"};
    struct posted posted[4];
    struct caller callers[6];
    do_all(callers, 1, true);
    pool()->most_in_flight_bytes = 1;
    for (size_t i = 0; i < 4; i++) {
        post(&posted[i], words[i], soon());
    }
    await(1, 3); /* without the bound all would be on their way */
    for (size_t i = 0; i < 4; i++) {
        ck_assert_int_eq(finish(&posted[i]), PLN_OK);
    }
    do_all(callers, 6, true); /* each alone */
    do_all(callers, 6, false);
    ck_assert_uint_eq(pool()->slots[0].line.bytes_in_flight, 0);
    ck_assert_uint_eq(pool()->slots[0].line.bytes_queued, 0);
}
END_TEST

int main(void) {
    Suite *suite = suite_create("line");
    TCase *tests = tcase_create("line");
    suite_add_tcase(suite, tests);
    tcase_add_checked_fixture(tests, set_up, tear_down);
    tcase_set_timeout(tests, 60);
    tcase_add_test(tests, who_comes_meanwhile_is_sent_together);
    tcase_add_test(tests, each_is_answered_with_its_own);
    tcase_add_test(tests, a_leader_that_leaves_takes_nobody_along);
    tcase_add_test(tests, who_waits_leaves_at_its_own_deadline);
    tcase_add_test(tests, a_lost_connection_ends_what_is_in_flight_at_once);
    tcase_add_test(tests, a_crowd_is_refused_past_its_bound);
    tcase_add_test(tests, what_is_posted_is_sent_at_once_and_answered_in_any_order);
    tcase_add_test(tests, who_asks_meanwhile_does_not_wait_for_the_poster);
    tcase_add_test(tests, what_is_posted_while_another_leads_is_sent_by_it);
    tcase_add_test(tests, a_posted_command_ends_at_its_deadline_or_with_its_connection);
    tcase_add_test(tests, bytes_that_wait_are_bounded_and_the_bound_is_named);
    tcase_add_test(tests, bytes_in_flight_are_bounded_and_a_large_command_goes_alone);
    SRunner *runner = srunner_create(suite);
    srunner_run_all(runner, CK_ENV);
    int failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed == 0 ? 0 : 1;
}
