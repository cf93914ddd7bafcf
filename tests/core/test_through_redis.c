/* SPDX-License-Identifier: MIT
 * test_through_redis.c - core/through.c over a real redis-server: it is stopped, or started anew,
 * between the store and its own turn; and many write at once. */
#include "../l2/server.h"
#include "base_rig.h"

#include <sched.h>
#include <stdio.h>

static struct server server;

static const char *const lasting[] = {"--appendonly", "yes", "--appendfsync", "always", NULL};

static void count_log(void *arg, int level, const char *line) {
    (void) arg;
    (void) level;
    if (strstr(line, "could not be told") != NULL) {
        atomic_fetch_add(&rig.n_logs, 1);
    }
}

static struct pln_cache *open_cache(void) {
    struct pln_cache *cache;
    struct pln_options options = {.ns = "t",
                                  .redis = server.url,
                                  .timeout_ms = 200,
                                  .ping_ms = 100,
                                  .ttl_ms = 600000,
                                  .log = count_log};
    ck_assert_msg(pln_open(&options, &cache) == PLN_OK, "%s", pln_error_text());
    rig_await(cache, "generation", 2); /* the link is live */
    base_join(cache, PLN_WRITE_THROUGH);
    return cache;
}

static void setup(void) {
    memset(&rig, 0, sizeof rig);
    base_begin();
    pln_test_redis_start(&server, lasting);
    A = open_cache();
    B = open_cache();
}

static void teardown(void) {
    pln_close(A);
    pln_close(B);
    pln_test_redis_stop(&server);
    pthread_mutex_destroy(&base.lock);
}

static bool has_what_the_base_has(struct pln_cache *cache, const char *key) {
    struct pln_result result;
    const char *value = base_get(key);
    int status = pln_get(cache, pln_key(key), NULL, &result);
    bool has = value == NULL
                   ? status == PLN_ABSENT
                   : status == PLN_OK &&
                         pln_bytes_equal(pln_key(value),
                                         pln_bytes_of(pln_value_data(result.value), result.len));
    pln_release(cache, result.value);
    return has;
}

/* News of it comes a moment later, or once the link is back; then it stays. */
static void await_base(const char *key) {
    pln_ns deadline = pln_deadline(20000);
    for (int i = 0; i < 2; i++) {
        while (!has_what_the_base_has(rig.caches[i], key)) {
            ck_assert_msg(pln_clock_precise() < deadline, "cache %d does not get what is stored",
                          i);
            sched_yield();
        }
    }
    for (int i = 0; i < 2; i++) {
        while (rig_stat(rig.caches[i], "recovery_waiting") > 0 ||
               rig_stat(rig.caches[i], "generation") % 2 != 0) {
            ck_assert(pln_clock_precise() < deadline);
            sched_yield();
        }
    }
    for (int i = 0; i < 4; i++) {
        ck_assert_msg(has_what_the_base_has(rig.caches[i % 2], key), "cache %d lost it again",
                      i % 2);
    }
}

START_TEST(one_writes_and_the_other_reads_it) {
    for (int i = 0; i < 20; i++) { /* with nothing in between: it is no conflict */
        rig_set(A, "k:1", "one");
        rig_set(A, "k:1", "two");
    }
    rig_expect(A, "k:1", "two", "l1");
    rig_expect(B, "k:1", "two", "l2");
    ck_assert_uint_eq(rig_stat(A, "through_conflicts"), 0);
    rig_set(B, "k:1", "three"); /* within a millisecond of the last: it may count as one at once */
    await_base("k:1");
    ck_assert_int_eq(pln_delete(A, pln_key("k:1")), PLN_OK);
    await_base("k:1");
}
END_TEST

static void stop(void) {
    pln_test_redis_kill(&server);
}

static void start(void) {
    pln_test_redis_restart(&server);
}

static void restart(void) {
    stop();
    start();
}

/* _i: a set, or a delete */
START_TEST(redis_may_begin_anew_between_the_store_and_its_turn) {
    rig_set(A, "k:1", "old");
    rig_expect(B, "k:1", "old", "l2");
    base.after = restart;
    ck_assert_msg((_i == 0 ? pln_set(A, pln_key("k:1"), pln_key("new"), NULL)
                           : pln_delete(A, pln_key("k:1"))) == PLN_OK,
                  "%s", pln_error_text());
    await_base("k:1");
}
END_TEST

START_TEST(redis_may_be_away_for_a_while) {
    rig_set(A, "k:1", "old");
    rig_expect(B, "k:1", "old", "l2");
    base.after = stop;
    for (int i = 0; i < 3; i++) {
        rig_set(A, "k:1", i == 2 ? "last" : "next");
        ck_assert(has_what_the_base_has(A, "k:1"));
    }
    ck_assert_int_eq(rig.n_logs, 1);
    ck_assert_uint_ge(rig_stat(A, "recovery_kept"), 1);
    start();
    await_base("k:1");
}
END_TEST

/* ---- many at once ---- */

enum { WRITERS = 4, ROUNDS = 40, WRITES = 10, KEYS = 2 };

static int store_slowly(void *arg, struct pln_store_item *items, size_t n) {
    if (pln_random64() % 4 == 0) {
        sched_yield();
    }
    int status = base_store(arg, items, n);
    if (pln_random64() % 4 == 0) {
        sched_yield();
    }
    return status;
}

static void *write_some(void *arg) {
    struct pln_cache *cache = arg;
    char key[8], value[24];
    for (int i = 0; i < WRITES; i++) {
        uint64_t dice = pln_random64();
        snprintf(key, sizeof key, "k:%d", (int) (dice % KEYS));
        snprintf(value, sizeof value, "%llx", (unsigned long long) dice);
        struct pln_result result;
        if (dice >> 60 == 0) {
            ck_assert_int_eq(pln_delete(cache, pln_key(key)), PLN_OK);
        } else if (dice >> 60 < 8) {
            ck_assert_int_ge(pln_get(cache, pln_key(key), NULL, &result), 0);
            pln_release(cache, result.value);
        } else {
            rig_set(cache, key, value);
        }
    }
    return NULL;
}

START_TEST(of_many_at_once_what_the_store_has_is_read) {
    pthread_t writers[WRITERS];
    ck_assert_int_eq(pln_register_store(A, "base", store_slowly, NULL), PLN_OK);
    ck_assert_int_eq(pln_register_store(B, "base", store_slowly, NULL), PLN_OK);
    for (int round = 0; round < ROUNDS; round++) {
        for (int i = 0; i < WRITERS; i++) {
            ck_assert_int_eq(pthread_create(&writers[i], NULL, write_some, rig.caches[i % 2]), 0);
        }
        for (int i = 0; i < WRITERS; i++) {
            pthread_join(writers[i], NULL);
        }
        await_base("k:0");
        await_base("k:1");
    }
    ck_assert_uint_gt(rig_stat(A, "through_conflicts") + rig_stat(B, "through_conflicts"), 0);
}
END_TEST

int main(void) {
    Suite *suite = suite_create("through over Redis");
    TCase *tcase = tcase_create("through");
    tcase_set_timeout(tcase, 60);
    tcase_add_checked_fixture(tcase, setup, teardown);
    tcase_add_test(tcase, one_writes_and_the_other_reads_it);
    tcase_add_loop_test(tcase, redis_may_begin_anew_between_the_store_and_its_turn, 0, 2);
    tcase_add_test(tcase, redis_may_be_away_for_a_while);
    tcase_add_test(tcase, of_many_at_once_what_the_store_has_is_read);
    suite_add_tcase(suite, tcase);
    return rig_run(suite);
}
