/* SPDX-License-Identifier: MIT
 * test_recover_redis.c - core/recover.c over a real redis-server: killed amid writers and started
 * again with its data, stopped, full, or cut off from one instance alone. */
#include "rig.h"
#include "../l2/proxy.h"
#include "../l2/server.h"

#include <sched.h>
#include <stdio.h>

static struct server server;
static struct pln_cache *a, *b;

static void no_log(void *arg, int level, const char *line) {
    (void) arg;
    (void) level;
    (void) line;
}

static struct pln_cache *open_at(const char *url, size_t recovery) {
    struct pln_cache *cache;
    struct pln_options options = {.ns = "t",
                                  .redis = url,
                                  .timeout_ms = 2000,
                                  .ping_ms = 500,
                                  .ttl_ms = 600000,
                                  .recovery = recovery,
                                  .log = no_log};
    ck_assert_msg(pln_open(&options, &cache) == PLN_OK, "%s", pln_error_text());
    rig_await(cache, "generation", 2); /* the cache has heard that the link is live */
    return cache;
}

static void setup(void) {
    /* what it has answered it has written; else it may come back older than that */
    const char *const lasting[] = {"--appendonly", "yes", "--appendfsync", "always", NULL};
    pln_test_redis_start(&server, lasting);
    a = open_at(server.url, 0);
    b = open_at(server.url, 0);
}

static void teardown(void) {
    pln_close(a);
    pln_close(b);
    pln_test_redis_stop(&server);
}

static void await_done(struct pln_cache *cache) {
    pln_ns deadline = pln_deadline(20000);
    while (rig_stat(cache, "recovery_waiting") > 0) {
        ck_assert_msg(pln_clock_precise() < deadline, "something waits on");
        sched_yield();
    }
}

/* Reads until it is gone: news of it comes a moment later. */
static void await_gone(struct pln_cache *cache, const char *key) {
    pln_ns deadline = pln_deadline(10000);
    int status = PLN_OK;
    while (status != PLN_MISS) {
        struct pln_result result;
        status = pln_get(cache, pln_key(key), NULL, &result);
        pln_release(cache, result.value);
        ck_assert_msg(pln_clock_precise() < deadline, "%s stays (%s)", key,
                      pln_status_name(status));
    }
}

/* Until both know that the link is lost, or live again: the generation is odd, or even. */
static void await_links(bool is_live) {
    pln_ns deadline = pln_deadline(20000);
    while (rig_stat(a, "generation") % 2 == is_live || rig_stat(b, "generation") % 2 == is_live) {
        ck_assert_msg(pln_clock_precise() < deadline, "the links do not change");
        sched_yield();
    }
}

static void kill_server(void) {
    pln_test_redis_kill(&server);
    await_links(false);
}

static void come_back(void) {
    pln_test_redis_restart(&server);
    await_links(true);
}

/* What is written now is far from what was written before, for clocks that differ a little. */
static void let_time_pass(void) {
    pln_ns until = pln_deadline(3 * PLN_REDO_DOUBT);
    while (pln_clock_precise() < until) {
        sched_yield();
    }
}

START_TEST(what_failed_while_redis_was_dead_is_done_when_it_is_back_with_its_data) {
    struct pln_bytes tag = pln_key("t");
    struct pln_set_options tagged = {.tags = &tag, .n_tags = 1};
    rig_set(a, "deleted", "old");
    rig_set(a, "set", "old");
    rig_set(a, "untouched", "old");
    ck_assert_int_eq(pln_set(a, pln_key("tagged"), pln_key("old"), &tagged), PLN_OK);
    let_time_pass();
    kill_server();
    ck_assert_int_eq(pln_delete(a, pln_key("deleted")), PLN_EL2DOWN);
    ck_assert_int_eq(pln_set(a, pln_key("set"), pln_key("new"), NULL), PLN_EL2DOWN);
    ck_assert_int_eq(pln_invalidate_tag(a, tag), PLN_EL2DOWN);
    ck_assert_uint_eq(rig_stat(a, "recovery_waiting"), 3);
    come_back();
    await_done(a);
    rig_expect(b, "deleted", NULL, "miss");
    rig_expect(b, "set", "new", "l2");
    rig_expect(b, "tagged", NULL, "miss");
    rig_expect(b, "untouched", "old", "l2");
    rig_expect(a, "set", "new", "l2");
    ck_assert_uint_eq(rig_stat(a, "recovery_done"), 3);
}
END_TEST

START_TEST(what_a_silent_redis_may_have_done_is_done_again) {
    rig_set(a, "deleted", "old");
    rig_set(a, "stale", "old");
    rig_expect(b, "deleted", "old", "l2");
    pln_test_redis_pause(&server);
    ck_assert_int_eq(pln_delete(a, pln_key("deleted")), PLN_ETIMEOUT);
    ck_assert_int_lt(pln_expire(a, pln_key("stale")), 0);
    pln_test_redis_resume(&server);
    await_done(a);
    await_gone(b, "deleted");
    await_gone(b, "stale");
    await_gone(a, "deleted");
}
END_TEST

START_TEST(what_does_not_fit_is_set_when_there_is_room) {
    rig_set(a, "k", "old");
    let_time_pass();
    free(pln_test_redis_command(&server, "CONFIG SET maxmemory 1"));
    ck_assert_int_eq(pln_set(a, pln_key("k"), pln_key("new"), NULL), PLN_EL2);
    ck_assert_ptr_nonnull(strstr(pln_error_text(), "OOM"));
    ck_assert_uint_eq(rig_stat(a, "recovery_kept"), 1);
    free(pln_test_redis_command(&server, "CONFIG SET maxmemory 0"));
    await_done(a);
    rig_expect(b, "k", "new", "l2");
}
END_TEST

/* Makes sets fail while the link lives. */
static void set_room(bool has_room) {
    free(pln_test_redis_command(&server,
                                has_room ? "CONFIG SET maxmemory 0" : "CONFIG SET maxmemory 1"));
}

static void fail_set(struct pln_cache *cache, const char *key) {
    ck_assert_int_eq(pln_set(cache, pln_key(key), pln_key("v"), NULL), PLN_EL2);
}

START_TEST(a_set_brings_a_key_back_that_nobody_has_ended_and_no_other) {
    rig_set(b, "deleted", "old");
    set_room(false);
    fail_set(a, "k");
    fail_set(a, "l");
    fail_set(a, "deleted");
    fail_set(a, "user:1");
    ck_assert_int_eq(pln_delete(b, pln_key("deleted")), PLN_OK);
    set_room(true);
    ck_assert_int_eq(pln_invalidate_prefix(a, pln_key("user:")), PLN_OK);
    await_done(a);
    rig_expect(b, "k", "v", "l2");
    rig_expect(b, "l", "v", "l2");
    rig_expect(b, "deleted", NULL, "miss");
    rig_expect(b, "user:1", NULL, "miss");
}
END_TEST

/* The deletion's message is lost on its way, which nobody notices before the next heartbeat. */
START_TEST(a_set_brings_no_key_back_whose_deletion_was_not_heard) {
    struct proxy proxy;
    pln_test_proxy_start(&proxy, server.path);
    struct pln_options options = {
        .ns = "t", .redis = proxy.url, .ping_ms = 3600000, .ttl_ms = 600000, .log = no_log};
    struct pln_cache *far;
    ck_assert_int_eq(pln_open(&options, &far), PLN_OK);
    rig_await(far, "generation", 2);
    set_room(false);
    fail_set(far, "k");
    set_room(true);
    await_done(far);
    rig_expect(b, "k", "v", "l2"); /* it can */
    set_room(false);
    fail_set(far, "l");
    pln_test_proxy_link(&proxy, PROXY_DEAF);
    ck_assert_int_eq(pln_delete(b, pln_key("l")), PLN_OK);
    set_room(true);
    await_done(far);
    rig_expect(b, "l", NULL, "miss");
    ck_assert_uint_eq(rig_stat(far, "generation"), 2); /* and the link lives */
    pln_close(far);
    pln_test_proxy_stop(&proxy);
}
END_TEST

START_TEST(what_a_rule_lets_be_written_to_l1_alone_reaches_redis_where_there_is_nothing) {
    struct rig rig = {0};
    struct pln_hashed key;
    struct pln_terms terms = *pln_cache_terms(a);
    terms.local_writes = true;
    rig_policy(&rig, a, rig_rule("{k}", &terms, 0));
    pln_cache_key(a, pln_key("k"), &key);
    uint64_t heard = pln_l2_heard(a->l2, &key);
    rig_set(b, "other", "v");
    pln_ns deadline = pln_deadline(10000);
    while (pln_l2_heard(a->l2, &key) == heard) { /* by which the server is known again */
        ck_assert(pln_clock_precise() < deadline);
        sched_yield();
    }
    kill_server();
    rig_set(a, "k", "here");
    rig_expect(a, "k", "here", "l1");
    come_back();
    await_done(a);
    rig_expect(b, "k", "here", "l2");
    rig_expect(a, "k", "here", "l2");
}
END_TEST

START_TEST(who_may_not_is_not_tried_again) {
    free(pln_test_redis_command(&server, "ACL SETUSER default -del -@scripting"));
    ck_assert_int_eq(pln_delete(a, pln_key("k")), PLN_EL2);
    ck_assert_ptr_nonnull(strstr(pln_error_text(), "NOPERM"));
    ck_assert_uint_eq(rig_stat(a, "recovery_kept"), 0);
}
END_TEST

START_TEST(a_newer_write_of_another_wins_over_what_waits) {
    struct proxy proxy;
    pln_test_proxy_start(&proxy, server.path);
    struct pln_cache *far = open_at(proxy.url, 0);
    rig_set(far, "set", "old");
    rig_set(far, "deleted", "old");
    rig_set(far, "older", "old");
    let_time_pass();
    pln_test_proxy_lead_to(&proxy, "/nowhere");
    pln_test_proxy_hold(&proxy);
    ck_assert_int_lt(pln_set(far, pln_key("older"), pln_key("ours"), NULL), 0);
    ck_assert_int_lt(pln_set(far, pln_key("set"), pln_key("ours"), NULL), 0);
    ck_assert_int_lt(pln_delete(far, pln_key("deleted")), 0);
    ck_assert_uint_eq(rig_stat(far, "recovery_waiting"), 3);
    let_time_pass();
    rig_set(b, "set", "theirs");
    rig_set(b, "deleted", "theirs");
    pln_test_proxy_lead_to(&proxy, server.path);
    await_done(far);
    pln_test_proxy_release(&proxy); /* what was sent before must not come behind */
    rig_expect(b, "older", "ours", "l2");
    rig_expect(a, "set", "theirs", "l2");
    rig_expect(a, "deleted", "theirs", "l2");
    ck_assert_uint_eq(rig_stat(far, "recovery_dropped"), 2);
    pln_close(far);
    pln_test_proxy_stop(&proxy);
}
END_TEST

START_TEST(of_two_at_about_the_same_time_neither_stays) {
    struct pln_hashed key;
    struct pln_l2_item item = {.value = pln_key("ours"), .fresh_left = 9000, .life_left = 9000};
    struct pln_l2_redo redo = {.kind = PLN_REDO_SET, .item = &item};
    pln_ns began, took = PLN_FOREVER;
    pln_cache_key(a, pln_key("k"), &key);
    while (took > PLN_REDO_DOUBT * 500000LL) { /* a busy machine may take longer */
        began = pln_clock_precise();
        rig_set(b, "k", "theirs");
        took = pln_clock_precise() - began;
    }
    let_time_pass();
    redo.age = (pln_clock_precise() - began) / 1000000;
    ck_assert_int_eq(pln_l2_redo(a->l2, &key, &redo, pln_deadline(5000)), PLN_OK);
    await_gone(b, "k");
}
END_TEST

START_TEST(past_the_bound_the_namespace_is_cleared) {
    char key[16];
    pln_close(a);
    a = open_at(server.url, 4);
    rig_set(a, "deleted", "old");
    rig_set(a, "bystander", "v");
    kill_server();
    ck_assert_int_eq(pln_delete(a, pln_key("deleted")), PLN_EL2DOWN);
    for (int i = 0; i < 10; i++) {
        snprintf(key, sizeof key, "k%d", i);
        ck_assert_int_eq(pln_delete(a, pln_key(key)), PLN_EL2DOWN);
    }
    ck_assert_uint_eq(rig_stat(a, "recovery_waiting"), 1);
    ck_assert_uint_eq(rig_stat(a, "recovery_overflows"), 1);
    uint64_t n_heard = rig_stat(b, "bus_received");
    come_back();
    await_done(a);
    rig_await(b, "bus_received", n_heard + 1); /* the clear is told to it like anything */
    rig_expect(b, "deleted", NULL, "miss");
    rig_expect(b, "bystander", NULL, "miss");
}
END_TEST

/* ---- under load ---- */

enum { N_WRITERS = 4, N_KEYS = 16, N_OUTAGES = 3 };

struct writer {
    pthread_t thread;
    int number;
    int last[N_KEYS]; /* what each key was set to; 0: deleted */
};

static _Atomic bool is_over;
static _Atomic unsigned long n_writes;

static void name_key(char key[16], int writer, int which) {
    snprintf(key, 16, "k%d-%d", writer, which);
}

/* Each has keys of its own, and knows what it did last, whatever became of it. */
static void *write_on(void *arg) {
    struct writer *writer = arg;
    char key[16], value[16];
    for (int i = 1; !atomic_load(&is_over); i++) {
        int which = i % N_KEYS;
        name_key(key, writer->number, which);
        snprintf(value, sizeof value, "%d", i);
        writer->last[which] = (i / N_KEYS + writer->number) % 3 == 0 ? 0 : i;
        (void) (writer->last[which] == 0
                    ? pln_delete(a, pln_key(key))
                    : pln_set(a, pln_key(key), pln_bytes_of(value, strlen(value) + 1), NULL));
        atomic_fetch_add(&n_writes, 1);
    }
    return NULL;
}

/* Fills the other instance's L1 with whatever there is. */
static void *read_on(void *arg) {
    char key[16];
    (void) arg;
    for (int i = 0; !atomic_load(&is_over); i++) {
        struct pln_result result;
        name_key(key, i % N_WRITERS, i / N_WRITERS % N_KEYS);
        (void) pln_get(b, pln_key(key), NULL, &result);
        pln_release(b, result.value);
    }
    return NULL;
}

static void await_writes(unsigned long more) {
    unsigned long until = atomic_load(&n_writes) + more;
    pln_ns deadline = pln_deadline(20000);
    while (atomic_load(&n_writes) < until) {
        ck_assert(pln_clock_precise() < deadline);
        sched_yield();
    }
}

static void expect_last(struct pln_cache *cache, const struct writer *writer, int which) {
    struct pln_get_options options = {.flags = PLN_GET_NO_STALE};
    pln_ns deadline = pln_deadline(10000);
    struct pln_result result;
    char key[16];
    int status = PLN_EL2DOWN;
    name_key(key, writer->number, which);
    while (status < 0) { /* the breaker may have heard later than the link */
        status = pln_get(cache, pln_key(key), &options, &result);
        ck_assert_msg(pln_clock_precise() < deadline, "%s", pln_error_text());
    }
    if (status == PLN_OK) { /* what is in doubt is deleted */
        ck_assert_msg(atoi(pln_value_data(result.value)) == writer->last[which],
                      "%s is %s, and was set to %d last", key,
                      (const char *) pln_value_data(result.value), writer->last[which]);
    }
    pln_release(cache, result.value);
}

START_TEST(no_old_value_is_left_by_a_redis_that_dies_amid_writers) {
    static struct writer writers[N_WRITERS];
    pthread_t reader;
    atomic_store(&is_over, false);
    pthread_create(&reader, NULL, read_on, NULL);
    for (int i = 0; i < N_WRITERS; i++) {
        writers[i] = (struct writer){.number = i};
        pthread_create(&writers[i].thread, NULL, write_on, &writers[i]);
    }
    for (int i = 0; i < N_OUTAGES; i++) {
        await_writes(500);
        kill_server();
        await_writes(500);
        if (i == N_OUTAGES - 1) { /* the last words of all are not heard */
            atomic_store(&is_over, true);
        } else {
            come_back();
        }
    }
    for (int i = 0; i < N_WRITERS; i++) {
        pthread_join(writers[i].thread, NULL);
    }
    pthread_join(reader, NULL);
    ck_assert_uint_gt(rig_stat(a, "recovery_waiting"), 0);
    come_back();
    await_done(a);
    ck_assert_uint_gt(rig_stat(a, "recovery_done"), 0);
    for (int i = 0; i < N_WRITERS; i++) {
        for (int which = 0; which < N_KEYS; which++) {
            expect_last(a, &writers[i], which);
            expect_last(b, &writers[i], which);
        }
    }
}
END_TEST

int main(void) {
    Suite *suite = suite_create("recover over redis");
    TCase *tests = tcase_create("recover over redis");
    suite_add_tcase(suite, tests);
    tcase_set_timeout(tests, 120);
    tcase_add_checked_fixture(tests, setup, teardown);
    tcase_add_test(tests, what_failed_while_redis_was_dead_is_done_when_it_is_back_with_its_data);
    tcase_add_test(tests, what_a_silent_redis_may_have_done_is_done_again);
    tcase_add_test(tests, what_does_not_fit_is_set_when_there_is_room);
    tcase_add_test(tests, a_set_brings_a_key_back_that_nobody_has_ended_and_no_other);
    tcase_add_test(tests, a_set_brings_no_key_back_whose_deletion_was_not_heard);
    tcase_add_test(tests,
                   what_a_rule_lets_be_written_to_l1_alone_reaches_redis_where_there_is_nothing);
    tcase_add_test(tests, who_may_not_is_not_tried_again);
    tcase_add_test(tests, a_newer_write_of_another_wins_over_what_waits);
    tcase_add_test(tests, of_two_at_about_the_same_time_neither_stays);
    tcase_add_test(tests, past_the_bound_the_namespace_is_cleared);
    tcase_add_test(tests, no_old_value_is_left_by_a_redis_that_dies_amid_writers);
    return rig_run(suite);
}
