/* SPDX-License-Identifier: MIT
 * test_nodes.c - the whole engine over several servers: a ring of independent ones, and a cluster.
 * What one instance writes is not served in its old form by the other, whoever has the key, also
 * while slots move; and loads are made once for both. */
#include "rig.h"
#include "../l2/cluster.h"
#include "../l2/server.h"

#include <stdio.h>

enum { RING, CLUSTER, N_KINDS, N_SERVERS = 3, N_KEYS = 40 };

static int kind;
static struct server servers[N_SERVERS];
static struct test_cluster cluster;
static struct pln_cache *a, *b;
static char url[512], names[N_KEYS][24];

static void no_log(void *arg, int level, const char *line) {
    (void) arg;
    (void) level;
    (void) line;
}

static struct pln_cache *open_cache(void) {
    struct pln_cache *cache;
    struct pln_options options = {.ns = "t",
                                  .redis = url,
                                  .timeout_ms = 1000,
                                  .ping_ms = 100,
                                  .ttl_ms = 600000,
                                  .log = no_log};
    ck_assert_msg(pln_open(&options, &cache) == PLN_OK, "%s", pln_error_text());
    rig_await(cache, "generation", 2); /* all links are up */
    return cache;
}

static void begin(int wanted) {
    kind = wanted;
    for (size_t i = 0; i < N_KEYS; i++) {
        snprintf(names[i], sizeof names[i], i % 2 == 0 ? "key%zu" : "user:{%zu}:name", i);
    }
    if (kind == CLUSTER) {
        test_cluster_start(&cluster, N_SERVERS, 0);
        snprintf(url, sizeof url, "redis+cluster://127.0.0.1:%d", cluster.nodes[1].port);
    } else {
        strcpy(url, "redis+ring://");
        for (size_t i = 0; i < N_SERVERS; i++) {
            pln_test_redis_start(&servers[i], NULL);
            strcat(strcat(url, i > 0 ? "," : ""), servers[i].url);
        }
    }
    a = open_cache();
    b = open_cache();
}

static void finish(void) {
    pln_close(a);
    pln_close(b);
    if (kind == CLUSTER) {
        test_cluster_stop(&cluster);
    } else {
        for (size_t i = 0; i < N_SERVERS; i++) {
            pln_test_redis_stop(&servers[i]);
        }
    }
}

static bool is_there(struct pln_cache *cache, const char *key, const char *value) {
    struct pln_result result;
    int status = pln_get(cache, pln_key(key), NULL, &result);
    bool is_so = value == NULL ? status == PLN_MISS
                               : status == PLN_OK && result.len == strlen(value) &&
                                     memcmp(pln_value_data(result.value), value, result.len) == 0;
    pln_release(cache, result.value);
    return is_so;
}

/* Reads until a value is the one expected: what others wrote arrives a moment later. */
static void await_value(struct pln_cache *cache, const char *key, const char *value) {
    pln_ns deadline = pln_deadline(10000);
    while (!is_there(cache, key, value)) {
        if (pln_clock_precise() > deadline) {
            ck_abort_msg("%s is not %s", key, value != NULL ? value : "gone");
        }
    }
}

static const char *name(size_t i) {
    return names[i];
}

START_TEST(what_one_writes_the_other_sees_whoever_has_it) {
    begin(_i);
    for (size_t i = 0; i < N_KEYS; i++) {
        rig_set(a, name(i), "one");
        await_value(b, name(i), "one");
        await_value(b, name(i), "one"); /* from its L1 */
    }
    for (size_t i = 0; i < N_KEYS; i++) {
        rig_set(a, name(i), "two");
        if (!is_there(a, name(i), "two")) {
            ck_abort_msg("%s is not what was just written", name(i));
        }
        await_value(b, name(i), "two");
    }
    ck_assert_uint_gt(rig_stat(b, "l1_hits"), 0);
    for (size_t i = 0; i < N_KEYS; i++) {
        ck_assert_int_eq(pln_delete(b, pln_key(name(i))), PLN_OK);
        await_value(a, name(i), NULL);
    }
    finish();
}
END_TEST

START_TEST(tags_and_clear_reach_all_servers_and_both_instances) {
    struct pln_bytes tag = pln_key("t");
    struct pln_set_options tagged = {.tags = &tag, .n_tags = 1};
    begin(_i);
    for (size_t i = 0; i < N_KEYS; i++) {
        ck_assert_int_eq(pln_set(a, pln_key(name(i)), pln_key("v"), &tagged), PLN_OK);
        await_value(b, name(i), "v");
    }
    ck_assert_int_eq(pln_invalidate_tag(a, tag), PLN_OK);
    for (size_t i = 0; i < N_KEYS; i++) {
        await_value(b, name(i), NULL);
        rig_set(a, name(i), "w");
        await_value(b, name(i), "w");
    }
    ck_assert_int_eq(pln_clear(b), PLN_OK);
    for (size_t i = 0; i < N_KEYS; i++) {
        await_value(a, name(i), NULL);
    }
    finish();
}
END_TEST

static _Atomic int n_loads;

static int load(void *arg, struct pln_bytes key, struct pln_load *result) {
    (void) arg;
    atomic_fetch_add_explicit(&n_loads, 1, memory_order_relaxed); /* relaxed: only counted */
    return pln_load_value(result, key, 0);
}

static void *load_all(void *arg) {
    struct pln_cache *cache = arg;
    for (size_t i = 0; i < N_KEYS; i++) {
        struct pln_result result;
        int status = pln_get_or_load(cache, pln_key(name(i)), NULL, load, NULL, &result);
        if (status != PLN_OK) {
            fprintf(stderr, "%s: %d %s\n", name(i), status, pln_error_text());
            return cache;
        }
        pln_release(cache, result.value);
    }
    return NULL;
}

static void await_in_l1(struct pln_cache *cache, const char *key) {
    pln_ns deadline = pln_deadline(10000);
    struct pln_result result = {0};
    while (result.source != PLN_FROM_L1) {
        ck_assert(pln_clock_precise() < deadline);
        if (pln_get(cache, pln_key(key), NULL, &result) == PLN_OK) {
            pln_release(cache, result.value);
        }
    }
}

/* Nothing is kept in a log: the keys of the server whose link was lost have to go. */
START_TEST(in_a_ring_a_lost_link_costs_the_keys_of_its_server) {
    size_t n_kept = 0, n_there = 0;
    begin(RING);
    for (size_t i = 0; i < N_KEYS; i++) {
        rig_set(a, name(i), "old");
    }
    rig_await(b, "bus_received", N_KEYS); /* what comes after a fill would end it */
    for (size_t i = 0; i < N_KEYS; i++) {
        await_in_l1(b, name(i));
    }
    pln_test_redis_kill(&servers[1]);
    rig_await(b, "bus_losses", 1);
    pln_test_redis_restart(&servers[1]); /* empty */
    rig_await(b, "bus_ok", 1);
    ck_assert_uint_eq(rig_stat(b, "generation"), 2);
    for (size_t i = 0; i < N_KEYS; i++) {
        struct pln_result result;
        int status = pln_get(b, pln_key(name(i)), NULL, &result);
        n_there += status == PLN_OK;
        n_kept += status == PLN_OK && result.source == PLN_FROM_L1;
        pln_release(b, result.value);
    }
    ck_assert_uint_eq(n_kept, n_there); /* those of the other two */
    ck_assert(n_there > 0 && n_there < N_KEYS);
    finish();
}
END_TEST

START_TEST(one_load_for_two_instances) {
    pthread_t threads[8];
    begin(_i);
    for (size_t i = 0; i < 8; i++) {
        pthread_create(&threads[i], NULL, load_all, i % 2 == 0 ? a : b);
    }
    for (size_t i = 0; i < 8; i++) {
        void *wrong;
        pthread_join(threads[i], &wrong);
        ck_assert_ptr_null(wrong);
    }
    ck_assert_int_eq(n_loads, N_KEYS);
    finish();
}
END_TEST

START_TEST(many_keys_come_from_all_servers) {
    struct pln_bytes keys[N_KEYS];
    struct pln_result results[N_KEYS];
    int statuses[N_KEYS];
    begin(_i);
    for (size_t i = 0; i < N_KEYS; i++) {
        keys[i] = pln_key(name(i));
        rig_set(a, name(i), name(i));
    }
    ck_assert_int_eq(pln_get_many(b, keys, N_KEYS, NULL, results, statuses), PLN_OK);
    for (size_t i = 0; i < N_KEYS; i++) {
        ck_assert_int_eq(statuses[i], PLN_OK);
        ck_assert_uint_eq(results[i].len, keys[i].len);
        pln_release(b, results[i].value);
    }
    finish();
}
END_TEST

static void expect_sum(struct pln_cache *cache, const char *key, int64_t delta, int64_t wanted) {
    struct pln_incr_options options = {.has_initial = true, .initial = 10};
    int64_t sum = 0;
    int status = pln_incr(cache, pln_key(key), delta, &options, &sum);
    ck_assert_msg(status == PLN_OK && sum == wanted, "%s is %lld, not %lld (%s)", key,
                  (long long) sum, (long long) wanted, pln_status_name(status));
}

START_TEST(numbers_are_added_to_wherever_they_are_and_end_with_their_tags) {
    struct pln_bytes tag = pln_key("t"), old = pln_key("13");
    struct pln_set_options tagged = {.tags = &tag, .n_tags = 1};
    int64_t sum;
    begin(_i);
    for (size_t i = 0; i < N_KEYS; i++) {
        expect_sum(a, name(i), 1, 11);
        expect_sum(b, name(i), 2, 13);
        ck_assert_int_eq(pln_swap(a, pln_key(name(i)), NULL, old, NULL, NULL), PLN_NOT_STORED);
        ck_assert_int_eq(pln_swap(a, pln_key(name(i)), &old, pln_key("20"), NULL, NULL), PLN_OK);
        await_value(b, name(i), "20");
        ck_assert_int_eq(pln_set(a, pln_key(name(i)), pln_key("1"), &tagged), PLN_OK);
        expect_sum(b, name(i), 1, 2);
    }
    ck_assert_int_eq(pln_invalidate_tag(a, tag), PLN_OK);
    for (size_t i = 0; i < N_KEYS; i++) {
        await_value(a, name(i), NULL);
        await_value(b, name(i), NULL);
        ck_assert_int_eq(pln_incr(b, pln_key(name(i)), 1, NULL, &sum), PLN_MISS);
        expect_sum(b, name(i), 1, 11); /* in the place of what is void */
        await_value(a, name(i), "11");
    }
    finish();
}
END_TEST

START_TEST(structures_locks_and_limits_work_too) {
    struct pln_lock *lock;
    struct pln_limit_options limit = {.rate = 5, .per_ms = 60000};
    struct pln_limit_result allowed;
    int64_t count;
    begin(_i);
    for (size_t i = 0; i < N_KEYS; i++) {
        ck_assert_msg(pln_lock(a, pln_key(name(i)), NULL, NULL, &lock) == PLN_OK, "%s",
                      pln_error_text());
        struct pln_lock *other;
        ck_assert_int_eq(pln_lock(b, pln_key(name(i)), NULL, NULL, &other), PLN_PENDING);
        ck_assert_int_eq(pln_unlock(lock), PLN_OK);
        ck_assert_int_eq(pln_counter_add(b, pln_key(name(i)), 2, 0, &count), PLN_OK);
        ck_assert_int_eq(count, 2);
        ck_assert_int_eq(pln_limit(a, pln_key(name(i)), &limit, &allowed), PLN_OK);
        ck_assert(allowed.is_allowed && allowed.remaining == 4);
    }
    finish();
}
END_TEST

START_TEST(no_old_value_is_served_while_slots_move) {
    (void) _i;
    begin(CLUSTER);
    char value[24];
    for (size_t i = 0; i < N_KEYS; i++) {
        rig_set(a, name(i), "0");
        await_value(b, name(i), "0");
    }
    for (unsigned round = 1; round <= 4; round++) {
        test_cluster_move(&cluster, (round - 1) * 1000, 1000, 0, 1 + round % 2);
        snprintf(value, sizeof value, "%u", round);
        for (size_t i = 0; i < N_KEYS; i++) {
            rig_set(a, name(i), value);
            await_value(b, name(i), value);
        }
    }
    finish();
}
END_TEST

int main(void) {
    Suite *suite = suite_create("nodes");
    TCase *tests = tcase_create("nodes");
    suite_add_tcase(suite, tests);
    tcase_set_timeout(tests, 120);
    tcase_add_loop_test(tests, what_one_writes_the_other_sees_whoever_has_it, 0, N_KINDS);
    tcase_add_loop_test(tests, tags_and_clear_reach_all_servers_and_both_instances, 0, N_KINDS);
    tcase_add_test(tests, in_a_ring_a_lost_link_costs_the_keys_of_its_server);
    tcase_add_loop_test(tests, one_load_for_two_instances, 0, N_KINDS);
    tcase_add_loop_test(tests, many_keys_come_from_all_servers, 0, N_KINDS);
    tcase_add_loop_test(tests, numbers_are_added_to_wherever_they_are_and_end_with_their_tags, 0,
                        N_KINDS);
    tcase_add_loop_test(tests, structures_locks_and_limits_work_too, 0, N_KINDS);
    tcase_add_test(tests, no_old_value_is_served_while_slots_move);
    return rig_run(suite);
}
