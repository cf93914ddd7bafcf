/* SPDX-License-Identifier: MIT
 * test_lock.c - locks over real redis-servers: one, and five of which some are away. */
#include "rig.h"
#include "../l2/server.h"

#include <stdio.h>
#include <sys/wait.h>
#include <unistd.h>

enum { N_SERVERS = 5, N_THREADS = 8 };

static struct server servers[N_SERVERS];
static struct pln_cache *caches[N_SERVERS]; /* one over each server */
static size_t n_servers;
static struct pln_lock_nodes *nodes; /* all of them */

static void no_log(void *arg, int level, const char *line) {
    (void) arg;
    (void) level;
    (void) line;
}

static void start(size_t n) {
    const char *urls[N_SERVERS];
    n_servers = n;
    for (size_t i = 0; i < n; i++) {
        pln_test_redis_start(&servers[i], NULL);
        urls[i] = servers[i].url;
        struct pln_options options = {.ns = "t", .redis = urls[i], .log = no_log};
        options.timeout_ms = 2000; /* the machine may be busy */
        ck_assert_int_eq(pln_open(&options, &caches[i]), PLN_OK);
    }
    ck_assert_int_eq(pln_lock_nodes_new(urls, n, 1000, &nodes), PLN_OK);
}

static void start_one(void) {
    start(1);
}

static void start_five(void) {
    start(N_SERVERS);
}

static void stop(void) {
    pln_lock_nodes_free(nodes);
    for (size_t i = 0; i < n_servers; i++) {
        pln_close(caches[i]);
        pln_test_redis_stop(&servers[i]);
    }
}

/* Sends a command of up to six words, separated by blanks; returns its number. */
static int64_t tell(size_t server, const char *format, ...) {
    struct pln_bytes args[6];
    size_t n = 0;
    char text[256];
    va_list list;
    struct pln_reply *reply;
    va_start(list, format);
    vsnprintf(text, sizeof text, format, list);
    va_end(list);
    for (char *save, *word = strtok_r(text, " ", &save); word != NULL;
         word = strtok_r(NULL, " ", &save)) {
        args[n++] = pln_key(word);
    }
    if (pln_remote_command(caches[server], NULL, args, n, 0, &reply) != PLN_OK) {
        ck_abort_msg("%s", pln_error_text());
    }
    int64_t number = reply->integer;
    pln_reply_free(reply);
    return number;
}

static struct pln_lock *take(struct pln_cache *cache, const struct pln_lock_options *options) {
    struct pln_lock *lock = NULL;
    int status = pln_lock(cache, pln_key("x"), options, NULL, &lock);
    ck_assert_msg(status == PLN_OK, "%s: %s", pln_status_name(status), pln_error_text());
    return lock;
}

static void expect_taken(struct pln_cache *cache, const struct pln_lock_options *options) {
    struct pln_lock *lock = NULL;
    pln_ms left = 0;
    ck_assert_int_eq(pln_lock(cache, pln_key("x"), options, &left, &lock), PLN_PENDING);
    ck_assert_int_gt(left, 0);
    ck_assert_ptr_null(lock);
}

/* ---- one server ---- */

START_TEST(a_lock_is_held_by_one_and_given_back) {
    struct pln_lock_options options = {.ttl_ms = 60000};
    struct pln_lock *lock = take(caches[0], &options);
    ck_assert_int_gt(pln_lock_left(lock), 50000);
    ck_assert_int_le(pln_lock_left(lock), 60000);
    int64_t fence = pln_lock_fence(lock);
    struct pln_lock *other;
    pln_ms left;
    ck_assert_int_eq(pln_lock(caches[0], pln_key("x"), NULL, &left, &other), PLN_PENDING);
    ck_assert_int_gt(left, 50000);
    ck_assert_int_le(left, 60000);
    ck_assert_int_eq(pln_lock(caches[0], pln_key("y"), NULL, NULL, &other), PLN_OK);
    ck_assert_int_eq(pln_unlock(other), PLN_OK);
    ck_assert_int_eq(pln_unlock(lock), PLN_OK);
    lock = take(caches[0], NULL);
    ck_assert_int_gt(pln_lock_fence(lock), fence);
    ck_assert_int_eq(pln_unlock(lock), PLN_OK);
    ck_assert_int_eq(tell(0, "EXISTS t:k:{x}"), 0);
}
END_TEST

START_TEST(a_lock_that_ended_is_not_the_former_holders) {
    struct pln_lock_options brief = {.ttl_ms = 500}, patient = {.ttl_ms = 60000, .wait_ms = 20000};
    struct pln_lock *first = take(caches[0], &brief);
    struct pln_lock *second = take(caches[0], &patient);
    ck_assert_int_eq(pln_lock_left(first), 0);
    ck_assert_int_gt(pln_lock_fence(second), pln_lock_fence(first));
    ck_assert_int_eq(pln_lock_extend(first, 60000), PLN_MISS);
    ck_assert_int_eq(pln_unlock(first), PLN_MISS);
    expect_taken(caches[0], NULL);
    ck_assert_int_eq(pln_unlock(second), PLN_OK);
}
END_TEST

START_TEST(extending_gives_a_new_ttl) {
    struct pln_lock_options options = {.ttl_ms = 5000};
    struct pln_lock *lock = take(caches[0], &options);
    ck_assert_int_eq(pln_lock_extend(lock, 100000), PLN_OK);
    ck_assert_int_gt(pln_lock_left(lock), 90000);
    ck_assert_int_gt(tell(0, "PTTL t:k:{x}"), 90000);
    ck_assert_int_eq(pln_lock_extend(lock, -1), PLN_EINVAL);
    tell(0, "DEL t:k:{x}");
    ck_assert_int_eq(pln_lock_extend(lock, 0), PLN_MISS);
    ck_assert_int_eq(pln_lock_left(lock), 0);
    pln_lock_free(lock);
}
END_TEST

static void *wait_for_it(void *arg) {
    struct pln_lock_options options = {.wait_ms = 20000};
    struct pln_lock *lock;
    int status = pln_lock(caches[0], pln_key("x"), &options, NULL, &lock);
    return status == PLN_OK && pln_unlock(lock) == PLN_OK ? arg : NULL;
}

START_TEST(who_waits_gets_what_is_given_back) {
    struct pln_lock_options options = {.ttl_ms = 100000};
    struct pln_lock *lock = take(caches[0], &options);
    pthread_t thread;
    void *good;
    ck_assert_int_eq(pthread_create(&thread, NULL, wait_for_it, &options), 0);
    ck_assert_int_eq(pln_unlock(lock), PLN_OK);
    pthread_join(thread, &good);
    ck_assert_ptr_nonnull(good);
}
END_TEST

static _Atomic int n_holders;
static int n_times; /* guarded by the lock alone */
static struct pln_lock_options shared;

static void *hold_often(void *arg) {
    struct pln_cache *cache = arg;
    int64_t last = 0;
    for (int i = 0; i < 40; i++) {
        struct pln_lock *lock;
        if (pln_lock(cache, pln_key("x"), &shared, NULL, &lock) != PLN_OK) {
            return strdup(pln_error_text());
        }
        /* relaxed: whoever sees another's mark at all has found two holders */
        if (atomic_fetch_add_explicit(&n_holders, 1, memory_order_relaxed) != 0) {
            return strdup("two hold it");
        }
        n_times++;
        bool has_grown = pln_lock_fence(lock) > last;
        last = pln_lock_fence(lock);
        /* relaxed: as above */
        atomic_fetch_sub_explicit(&n_holders, 1, memory_order_relaxed);
        if (!has_grown || pln_unlock(lock) != PLN_OK) {
            return strdup(has_grown ? pln_error_text() : "the fence did not grow");
        }
    }
    return NULL;
}

static void hold_in_threads(void) {
    pthread_t threads[N_THREADS];
    for (size_t i = 0; i < N_THREADS; i++) {
        pthread_create(&threads[i], NULL, hold_often, caches[i % n_servers]);
    }
    for (size_t i = 0; i < N_THREADS; i++) {
        void *failure;
        pthread_join(threads[i], &failure);
        ck_assert_msg(failure == NULL, "%s", (char *) failure);
    }
    ck_assert_int_eq(n_times, 40 * N_THREADS);
}

START_TEST(of_many_threads_one_holds) {
    shared = (struct pln_lock_options){.ttl_ms = 60000, .wait_ms = 60000, .retry_ms = 4};
    hold_in_threads();
}
END_TEST

START_TEST(a_fence_never_goes_back) {
    struct pln_lock *lock = take(caches[0], NULL);
    int64_t fence = pln_lock_fence(lock);
    pln_lock_free(lock);
    tell(0, "FLUSHALL");
    lock = take(caches[0], NULL);
    ck_assert_int_gt(pln_lock_fence(lock), fence);
    ck_assert_int_eq(pln_unlock(lock), PLN_OK);
    tell(0, "SET t:k:{x}:f 5000000000000000"); /* as under a clock that has since been set back */
    lock = take(caches[0], NULL);
    ck_assert_int_eq(pln_lock_fence(lock), 5000000000000001);
    ck_assert_int_gt(tell(0, "PTTL t:k:{x}:f"), 3600 * 1000);
    ck_assert_int_eq(pln_unlock(lock), PLN_OK);
}
END_TEST

START_TEST(a_server_that_forgets_its_scripts_changes_nothing) {
    struct pln_lock *lock = take(caches[0], NULL);
    tell(0, "SCRIPT FLUSH");
    ck_assert_int_eq(pln_unlock(lock), PLN_OK);
}
END_TEST

START_TEST(what_cannot_be_a_lock_is_refused) {
    struct pln_lock_options options = {.ttl_ms = 1};
    struct pln_lock *lock = NULL;
    ck_assert_int_eq(pln_lock(caches[0], pln_key("x"), &options, NULL, &lock), PLN_EINVAL);
    ck_assert_ptr_nonnull(strstr(pln_error_text(), "ttl: 1 ms"));
    ck_assert_int_eq(pln_lock(caches[0], pln_key(""), NULL, NULL, &lock), PLN_EINVAL);
    ck_assert_int_eq(pln_lock(caches[0], pln_key("}"), NULL, NULL, &lock), PLN_EINVAL);
    struct pln_lock_nodes *none = NULL;
    const char *urls[] = {"redis://:hunter2@h:x"};
    ck_assert_int_eq(pln_lock_nodes_new(urls, 1, 0, &none), PLN_EINVAL);
    ck_assert_ptr_nonnull(strstr(pln_error_text(), "server 1 of 1"));
    ck_assert_ptr_null(strstr(pln_error_text(), "hunter2"));
    ck_assert_int_eq(pln_lock_nodes_new(urls, 0, 0, &none), PLN_EINVAL);
    struct pln_cache *alone;
    ck_assert_int_eq(pln_open(NULL, &alone), PLN_OK);
    ck_assert_int_eq(pln_lock(alone, pln_key("x"), NULL, NULL, &lock), PLN_EL2DOWN);
    ck_assert_ptr_nonnull(strstr(pln_error_text(), "this cache has no Redis"));
    pln_close(alone);
    pln_test_redis_kill(&servers[0]);
    options = (struct pln_lock_options){.wait_ms = 60000};
    ck_assert_int_eq(pln_lock(caches[0], pln_key("x"), &options, NULL, &lock), PLN_EL2DOWN);
    ck_assert_ptr_null(lock);
}
END_TEST

/* ---- five servers ---- */

START_TEST(with_two_of_five_dead_locks_are_as_ever) {
    struct pln_lock_options options = {.ttl_ms = 60000, .nodes = nodes};
    pln_test_redis_kill(&servers[0]);
    pln_test_redis_kill(&servers[3]);
    struct pln_lock *lock = take(caches[0], &options);
    ck_assert_int_gt(pln_lock_left(lock), 0);
    ck_assert_int_lt(pln_lock_left(lock), 60000 - 600); /* less what clocks may differ */
    expect_taken(caches[1], &options);
    ck_assert_int_eq(pln_lock_extend(lock, 90000), PLN_OK);
    ck_assert_int_gt(pln_lock_left(lock), 60000);
    ck_assert_int_eq(pln_unlock(lock), PLN_OK);
    lock = take(caches[1], &options);
    ck_assert_int_eq(pln_unlock(lock), PLN_OK);
}
END_TEST

static void expect_refused(void) {
    struct pln_lock_options options = {.ttl_ms = 60000, .nodes = nodes};
    struct pln_lock *lock = NULL;
    ck_assert_int_eq(pln_lock(caches[0], pln_key("x"), &options, NULL, &lock), PLN_EL2DOWN);
    ck_assert_ptr_nonnull(strstr(pln_error_text(), "2 of 5 servers answered, 3 are needed"));
    ck_assert_int_eq(tell(3, "EXISTS t:k:{x}"), 0);
    ck_assert_int_eq(tell(4, "EXISTS t:k:{x}"), 0);
}

START_TEST(with_three_of_five_dead_none_is_granted_and_nothing_stays) {
    for (size_t i = 0; i < 3; i++) {
        pln_test_redis_kill(&servers[i]);
    }
    expect_refused();
}
END_TEST

START_TEST(with_three_of_five_silent_none_is_granted_and_nothing_stays) {
    for (size_t i = 0; i < 3; i++) {
        pln_test_redis_pause(&servers[i]);
    }
    expect_refused();
    for (size_t i = 0; i < 3; i++) {
        pln_test_redis_resume(&servers[i]);
    }
}
END_TEST

START_TEST(a_lock_that_most_servers_lost_is_lost) {
    struct pln_lock_options options = {.ttl_ms = 60000, .nodes = nodes};
    struct pln_lock *lock = take(caches[0], &options);
    tell(0, "FLUSHALL");
    tell(1, "FLUSHALL");
    ck_assert_int_eq(pln_lock_extend(lock, 0), PLN_OK);
    tell(2, "FLUSHALL");
    ck_assert_int_eq(pln_lock_extend(lock, 0), PLN_MISS);
    ck_assert_int_eq(pln_lock_left(lock), 0);
    ck_assert_int_eq(pln_unlock(lock), PLN_MISS);
    ck_assert_int_eq(tell(3, "EXISTS t:k:{x}"), 0);
}
END_TEST

START_TEST(over_five_servers_one_holds) {
    shared = (struct pln_lock_options){
        .ttl_ms = 60000, .wait_ms = 60000, .retry_ms = 16, .nodes = nodes};
    pln_test_redis_kill(&servers[2]);
    hold_in_threads();
}
END_TEST

/* Takes the lock where the servers of `majority` alone can give it. */
static int64_t fence_of(unsigned majority) {
    struct pln_lock_options options = {.ttl_ms = 60000, .nodes = nodes};
    for (size_t i = 0; i < N_SERVERS; i++) {
        if ((majority >> i & 1) == 0) {
            tell(i, "SET t:k:{x} another PX 60000");
        }
    }
    struct pln_lock *lock = take(caches[0], &options);
    int64_t fence = pln_lock_fence(lock);
    ck_assert_int_eq(pln_unlock(lock), PLN_OK);
    for (size_t i = 0; i < N_SERVERS; i++) {
        tell(i, "DEL t:k:{x}");
    }
    return fence;
}

/* Counters far above the servers' clocks, which else would hide what is missing. */
START_TEST(the_fence_grows_from_any_majority_to_any) {
    uint64_t random = 12345;
    for (unsigned pair = 0; pair < 1 << 2 * N_SERVERS; pair++) {
        unsigned first = pair & 31, second = pair >> N_SERVERS;
        if (__builtin_popcount(first) < 3 || __builtin_popcount(second) < 3) {
            continue;
        }
        for (size_t i = 0; i < N_SERVERS; i++) {
            random = random * 6364136223846793005 + 1442695040888963407;
            tell(i, "SET t:k:{x}:f %llu", 5000000000000000 + (unsigned long long) (random >> 60));
        }
        int64_t a = fence_of(first), b = fence_of(second);
        if (a >= b) {
            ck_abort_msg("majority %x: %lld, then %x: %lld", first, (long long) a, second,
                         (long long) b);
        }
    }
}
END_TEST

START_TEST(a_forked_child_leaves_the_parents_lock_alone) {
    struct pln_lock_options options = {.ttl_ms = 60000, .nodes = nodes};
    struct pln_lock *lock = take(caches[0], &options);
    pid_t child = fork();
    if (child == 0) {
        bool is_good = pln_unlock(lock) == PLN_ECLOSED;
        pln_lock_nodes_free(nodes);
        _exit(is_good ? 0 : 1);
    }
    int how;
    ck_assert_int_eq(waitpid(child, &how, 0), child);
    ck_assert_int_eq(how, 0);
    ck_assert_int_eq(pln_unlock(lock), PLN_OK);
}
END_TEST

int main(void) {
    Suite *suite = suite_create("lock");
    TCase *one = tcase_create("one server"), *five = tcase_create("five servers");
    tcase_add_checked_fixture(one, start_one, stop);
    tcase_set_timeout(one, 120);
    tcase_add_test(one, a_lock_is_held_by_one_and_given_back);
    tcase_add_test(one, a_lock_that_ended_is_not_the_former_holders);
    tcase_add_test(one, extending_gives_a_new_ttl);
    tcase_add_test(one, who_waits_gets_what_is_given_back);
    tcase_add_test(one, of_many_threads_one_holds);
    tcase_add_test(one, a_fence_never_goes_back);
    tcase_add_test(one, a_server_that_forgets_its_scripts_changes_nothing);
    tcase_add_test(one, what_cannot_be_a_lock_is_refused);
    suite_add_tcase(suite, one);
    tcase_add_checked_fixture(five, start_five, stop);
    tcase_set_timeout(five, 120);
    tcase_add_test(five, with_two_of_five_dead_locks_are_as_ever);
    tcase_add_test(five, with_three_of_five_dead_none_is_granted_and_nothing_stays);
    tcase_add_test(five, with_three_of_five_silent_none_is_granted_and_nothing_stays);
    tcase_add_test(five, a_lock_that_most_servers_lost_is_lost);
    tcase_add_test(five, over_five_servers_one_holds);
    tcase_add_test(five, the_fence_grows_from_any_majority_to_any);
    tcase_add_test(five, a_forked_child_leaves_the_parents_lock_alone);
    suite_add_tcase(suite, five);
    return rig_run(suite);
}
