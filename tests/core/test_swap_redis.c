/* SPDX-License-Identifier: MIT
 * test_swap_redis.c - core/swap.c over a real redis-server: additions of two processes, and what
 * becomes of them when the server is away. */
#include "rig.h"
#include "../l2/server.h"

#include <sys/wait.h>
#include <unistd.h>

enum { N_PROCESSES = 2, N_THREADS = 2, N_ADDITIONS = 500 };

static struct server server;

static void no_log(void *arg, int level, const char *line) {
    (void) arg, (void) level, (void) line;
}

static struct pln_cache *open_cache(void) {
    struct pln_cache *cache;
    struct pln_options options = {
        .ns = "t", .redis = server.url, .timeout_ms = 1000, .ping_ms = 100, .log = no_log};
    ck_assert_msg(pln_open(&options, &cache) == PLN_OK, "%s", pln_error_text());
    rig_await(cache, "generation", 2);
    return cache;
}

static void *add_up(void *arg) {
    struct pln_incr_options options = {.has_initial = true, .timeout_ms = 60000};
    int64_t sum;
    for (int i = 0; i < N_ADDITIONS; i++) {
        if (pln_incr(arg, pln_key("k"), 3, &options, &sum) != PLN_OK) {
            return arg;
        }
    }
    return NULL;
}

/* Returns the exit code of a process: 0 where all went well. */
static int run_process(void) {
    struct pln_cache *cache = open_cache();
    pthread_t threads[N_THREADS];
    bool has_failed = false;
    for (int i = 0; i < N_THREADS; i++) {
        pthread_create(&threads[i], NULL, add_up, cache);
    }
    for (int i = 0; i < N_THREADS; i++) {
        void *failed;
        pthread_join(threads[i], &failed);
        has_failed = has_failed || failed != NULL;
    }
    pln_close(cache);
    return has_failed;
}

START_TEST(additions_of_two_processes_all_count) {
    pid_t children[N_PROCESSES];
    int64_t sum;
    pln_test_redis_start(&server, NULL);
    for (int i = 0; i < N_PROCESSES; i++) {
        children[i] = fork();
        ck_assert_int_ge(children[i], 0);
        if (children[i] == 0) {
            _exit(run_process());
        }
    }
    for (int i = 0; i < N_PROCESSES; i++) {
        int status;
        ck_assert_int_eq(waitpid(children[i], &status, 0), children[i]);
        ck_assert_int_eq(status, 0);
    }
    struct pln_cache *cache = open_cache();
    ck_assert_int_eq(pln_incr(cache, pln_key("k"), 0, NULL, &sum), PLN_OK);
    ck_assert_int_eq(sum, 3 * N_PROCESSES * N_THREADS * N_ADDITIONS);
    pln_close(cache);
    pln_test_redis_stop(&server);
}
END_TEST

START_TEST(the_other_reads_the_sum_and_an_outage_is_told) {
    int64_t sum = 7;
    pln_test_redis_start(&server, NULL);
    struct pln_cache *a = open_cache(), *b = open_cache();
    rig_set(a, "k", "1");
    rig_expect(b, "k", "1", "l2");
    uint64_t heard = rig_stat(a, "bus_received");
    ck_assert_int_eq(pln_incr(b, pln_key("k"), 1, NULL, &sum), PLN_OK);
    ck_assert_int_eq(sum, 2);
    rig_expect(b, "k", "2", "l1");
    rig_await(a, "bus_received", heard + 1);
    rig_expect(a, "k", "2", "l2");
    pln_test_redis_stop(&server);
    ck_assert_int_eq(pln_incr(a, pln_key("k"), 1, NULL, &sum), PLN_EL2DOWN);
    ck_assert_uint_eq(rig_stat(a, "recovery_kept"), 0);
    pln_close(a);
    pln_close(b);
}
END_TEST

int main(void) {
    Suite *suite = suite_create("swap over redis");
    TCase *tests = tcase_create("all");
    tcase_set_timeout(tests, 120);
    tcase_add_test(tests, additions_of_two_processes_all_count);
    tcase_add_test(tests, the_other_reads_the_sum_and_an_outage_is_told);
    suite_add_tcase(suite, tests);
    return rig_run(suite);
}
