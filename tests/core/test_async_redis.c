/* SPDX-License-Identifier: MIT
 * test_async_redis.c - gets that do not wait, over a real redis-server: hundreds at once, a server
 * that falls silent, a cache that closes meanwhile, and a process that dies while it loads. */
#include "../l2/server.h"
#include "async_rig.h"

#include <signal.h>
#include <stdio.h>
#include <sys/wait.h>
#include <unistd.h>

enum { N = 300, LEASE_MS = 400 };

static struct server server;
static struct pln_cache *a, *b;
static struct pln_news *news;

static void no_log(void *arg, int level, const char *line) {
    (void) arg;
    (void) level;
    (void) line;
}

static struct pln_cache *open_cache(void) {
    struct pln_cache *cache;
    struct pln_options options = {.ns = "t",
                                  .redis = server.url,
                                  .timeout_ms = 300,
                                  .ping_ms = 1000,
                                  .ttl_ms = 600000,
                                  .lease_ms = LEASE_MS,
                                  .log = no_log};
    ck_assert_msg(pln_open(&options, &cache) == PLN_OK, "%s", pln_error_text());
    rig_await(cache, "generation", 2); /* the cache has heard that the link is live */
    return cache;
}

static void setup(void) {
    pln_test_redis_start(&server, NULL);
    a = open_cache();
    b = open_cache();
    ck_assert_int_eq(pln_news_new(a, &news), PLN_OK);
}

static void teardown(void) {
    pln_news_free(news);
    pln_close(a);
    pln_close(b);
    pln_test_redis_stop(&server);
}

static struct pln_bytes numbered(char text[32], int i) {
    return pln_bytes_of(text, (size_t) snprintf(text, 32, "n:%d", i));
}

START_TEST(hundreds_are_under_way_at_once_and_each_gets_its_own) {
    struct begun all[N];
    char text[32];
    for (int i = 0; i < N; i++) {
        struct pln_bytes key = numbered(text, i);
        ck_assert_int_eq(pln_set(b, key, key, NULL), PLN_OK);
    }
    uint64_t sent = rig_stat(a, "l2_commands");
    for (int i = 0; i < N; i++) {
        all[i] = (struct begun){.cache = a};
        all[i].status = pln_begin_get(news, numbered(text, i), NULL, 0, &all[i].result, &all[i].op);
    }
    for (int i = 0; i < N; i++) {
        numbered(text, i);
        async_expect(news, &all[i], text, "l2");
    }
    ck_assert_uint_ge(rig_stat(a, "l2_commands"), sent + N);
}
END_TEST

START_TEST(a_silent_server_ends_the_wait_with_a_failure) {
    struct begun late = async_begin(a, news, 0, NULL);
    async_expect(news, &late, NULL, "miss");
    pln_test_redis_pause(&server);
    late = async_begin(a, news, 0, NULL);
    async_expect(news, &late, NULL, "timeout");
    pln_test_redis_resume(&server);
}
END_TEST

START_TEST(a_cache_closes_with_questions_under_way) {
    struct pln_op *ops[N];
    struct pln_result result;
    char text[32];
    pln_test_redis_pause(&server);
    for (int i = 0; i < N; i++) {
        uint32_t flags = i % 2 == 0 ? PLN_BEGIN_LOADS : 0;
        pln_begin_get(news, numbered(text, i), NULL, flags, &result, &ops[i]);
    }
    pln_news_free(news);
    news = NULL;
    pln_close(a);
    a = NULL;
    for (int i = 0; i < N; i++) {
        pln_op_free(ops[i]);
    }
    pln_test_redis_resume(&server);
}
END_TEST

/* Takes a load on, says so, and does nothing more. */
static void be_host(int told) {
    struct pln_cache *own = open_cache();
    struct pln_news *its;
    ck_assert_int_eq(pln_news_new(own, &its), PLN_OK);
    struct begun got = async_begin(own, its, PLN_BEGIN_LOADS, NULL);
    async_await(its, got.op, PLN_OP_WANTS_LOAD);
    ck_assert_ptr_nonnull(pln_op_load_begin(got.op));
    ck_assert_int_eq(write(told, "x", 1), 1);
    pause();
}

START_TEST(a_host_s_process_that_dies_keeps_others_waiting_no_longer_than_its_lease) {
    int pipes[2];
    char byte;
    ck_assert_int_eq(pipe(pipes), 0);
    pln_news_free(news); /* a sanitizer wants no threads where one forks and goes on */
    pln_close(a);
    pln_close(b);
    b = NULL;
    pid_t pid = fork();
    if (pid == 0) {
        be_host(pipes[1]);
        _exit(1);
    }
    a = open_cache();
    ck_assert_int_eq(pln_news_new(a, &news), PLN_OK);
    ck_assert_int_eq(read(pipes[0], &byte, 1), 1);
    struct begun got = async_begin(a, news, PLN_BEGIN_LOADS, NULL);
    rig_await(a, "lease_waits", 1);
    ck_assert_int_eq(pln_op_look(got.op), PLN_OP_UNDER_WAY);
    kill(pid, SIGKILL);
    waitpid(pid, NULL, 0);
    async_await(news, got.op, PLN_OP_WANTS_LOAD);
    async_load(got.op, "mine", 0);
    async_expect(news, &got, "mine", "loaded");
    close(pipes[0]);
    close(pipes[1]);
}
END_TEST

START_TEST(what_another_process_stores_meanwhile_ends_the_wait) {
    struct pln_news *its;
    ck_assert_int_eq(pln_news_new(b, &its), PLN_OK);
    struct begun first = async_begin(b, its, PLN_BEGIN_LOADS, NULL);
    async_await(its, first.op, PLN_OP_WANTS_LOAD);
    struct begun second = async_begin(a, news, PLN_BEGIN_LOADS, NULL);
    rig_await(a, "lease_waits", 1);
    async_load(first.op, "theirs", 0);
    async_expect(its, &first, "theirs", "loaded");
    async_expect(news, &second, "theirs", "l2");
    pln_news_free(its);
}
END_TEST

int main(void) {
    Suite *suite = suite_create("async_redis");
    TCase *tcase = tcase_create("async_redis");
    tcase_set_timeout(tcase, 60);
    tcase_add_checked_fixture(tcase, setup, teardown);
    tcase_add_test(tcase, hundreds_are_under_way_at_once_and_each_gets_its_own);
    tcase_add_test(tcase, a_silent_server_ends_the_wait_with_a_failure);
    tcase_add_test(tcase, a_cache_closes_with_questions_under_way);
    tcase_add_test(tcase, a_host_s_process_that_dies_keeps_others_waiting_no_longer_than_its_lease);
    tcase_add_test(tcase, what_another_process_stores_meanwhile_ends_the_wait);
    suite_add_tcase(suite, tcase);
    return rig_run(suite);
}
