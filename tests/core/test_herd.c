/* SPDX-License-Identifier: MIT
 * test_herd.c - ten thousand requests for one key that is nowhere, from four processes of sixteen
 * threads over a real Redis, make one load. */
#include "rig.h"
#include "../l2/server.h"

#include <signal.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

enum {
    N_PROCESSES = 4,
    N_THREADS = 16, /* of a process */
    N_REQUESTS = 10000,
    LONGEST_MS = 60000, /* for what is waited for, on however busy a machine */
};

/* What all processes share. */
struct board {
    pthread_barrier_t start;
    _Atomic int n_waiting; /* processes all of whose threads wait for the load */
    _Atomic int n_taken;   /* requests */
    _Atomic int n_loads;
    _Atomic int n_served[PLN_FROM_NEGATIVE + 1]; /* by source */
    _Atomic int n_wrong;
};

static struct server server;
static struct board *board;

static void no_log(void *arg, int level, const char *line) {
    (void) arg;
    (void) level;
    (void) line;
}

/* Brings the value once all threads of all processes wait for it. */
static int bring(struct pln_load *load) {
    pln_ns deadline = pln_deadline(LONGEST_MS / 2);
    atomic_fetch_add(&board->n_loads, 1);
    while (atomic_load(&board->n_waiting) < N_PROCESSES && pln_clock_precise() < deadline) {
        usleep(1000);
    }
    return pln_load_value(load, pln_key("brought"), 0);
}

static int bring_by_policy(void *arg, unsigned worker, const struct pln_match *match,
                           struct pln_bytes key, struct pln_load *load) {
    (void) arg, (void) worker, (void) match, (void) key;
    return bring(load);
}

static int bring_by_call(void *arg, struct pln_bytes key, struct pln_load *load) {
    (void) arg, (void) key;
    return bring(load);
}

/* ---- a process ---- */

struct asker {
    pthread_t thread;
    struct pln_cache *cache;
    pln_loader loader; /* of the call; NULL: the policy's */
};

static void *ask(void *arg) {
    struct asker *asker = arg;
    pthread_barrier_wait(&board->start);
    while (atomic_fetch_add(&board->n_taken, 1) < N_REQUESTS) {
        struct pln_result result;
        int status = pln_get_or_load(asker->cache, pln_key("k:1"), NULL, asker->loader, NULL,
                                     &result);
        bool is_right = status == PLN_OK && result.len == 7 &&
                        memcmp(pln_value_data(result.value), "brought", 7) == 0;
        atomic_fetch_add(&board->n_wrong, is_right ? 0 : 1);
        atomic_fetch_add(&board->n_served[result.source], 1);
        if (status >= 0) {
            pln_release(asker->cache, result.value);
        }
    }
    return NULL;
}

static void set_policy(struct pln_cache *cache) {
    struct pln_ruleset *ruleset = pln_ruleset_new();
    ruleset->rules = malloc(sizeof *ruleset->rules);
    ruleset->rules[0] = rig_rule("k:{id}", pln_cache_terms(cache), PLN_RULE_LOAD);
    ruleset->n_rules = 1;
    ruleset->hooks = (struct pln_hooks){.load = bring_by_policy};
    pln_cache_set_policy_take(cache, ruleset);
}

static _Noreturn void be_a_process(bool has_policy) {
    struct asker askers[N_THREADS];
    struct pln_cache *cache;
    struct pln_options options = {.ns = "t",
                                  .redis = server.url,
                                  .timeout_ms = 10000,
                                  .ping_ms = 10000,
                                  .lease_ms = LONGEST_MS,
                                  .load_timeout_ms = LONGEST_MS,
                                  .ttl_ms = 10 * LONGEST_MS,
                                  .log = no_log};
    if (pln_open(&options, &cache) < 0) {
        _exit(1);
    }
    rig_await(cache, "generation", 2); /* the cache has heard that the link is live */
    if (has_policy) {
        set_policy(cache);
    }
    for (unsigned i = 0; i < N_THREADS; i++) {
        askers[i] = (struct asker){.cache = cache, .loader = has_policy ? NULL : bring_by_call};
        if (pthread_create(&askers[i].thread, NULL, ask, &askers[i]) != 0) {
            _exit(1);
        }
    }
    rig_await(cache, "load_waits", N_THREADS - 1); /* all but the one that leads */
    atomic_fetch_add(&board->n_waiting, 1);
    for (unsigned i = 0; i < N_THREADS; i++) {
        pthread_join(askers[i].thread, NULL);
    }
    pln_close(cache);
    _exit(0);
}

/* ---- the herd ---- */

static void set_up(void) {
    pthread_barrierattr_t shared;
    pln_test_redis_start(&server, NULL);
    board = mmap(NULL, sizeof *board, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    ck_assert(board != MAP_FAILED);
    pthread_barrierattr_init(&shared);
    pthread_barrierattr_setpshared(&shared, PTHREAD_PROCESS_SHARED);
    pthread_barrier_init(&board->start, &shared, N_PROCESSES * N_THREADS);
    pthread_barrierattr_destroy(&shared);
}

static void tear_down(void) {
    munmap(board, sizeof *board);
    pln_test_redis_stop(&server);
}

/* Waits for a child to end by itself; false where it fails, or has not ended in time. */
static bool ends_well(pid_t pid) {
    int status = 0;
    pln_ns deadline = pln_deadline(3 * LONGEST_MS / 2);
    while (waitpid(pid, &status, WNOHANG) == 0) {
        if (pln_clock_precise() > deadline) {
            kill(pid, SIGKILL);
            waitpid(pid, &status, 0);
            return false;
        }
        usleep(2000);
    }
    return WIFEXITED(status) && WEXITSTATUS(status) == 0;
}

/* _i: the loader is the call's own, or the policy's. */
START_TEST(ten_thousand_requests_of_four_processes_make_one_load) {
    pid_t pids[N_PROCESSES];
    int n_well = 0, n_served = 0;
    for (int i = 0; i < N_PROCESSES; i++) {
        pids[i] = fork();
        ck_assert_int_ge(pids[i], 0);
        if (pids[i] == 0) {
            be_a_process(_i == 1);
        }
    }
    for (int i = 0; i < N_PROCESSES; i++) {
        n_well += ends_well(pids[i]);
    }
    for (size_t i = 0; i < PLN_ARRAY_LEN(board->n_served); i++) {
        n_served += atomic_load(&board->n_served[i]);
    }
    ck_assert_int_eq(n_well, N_PROCESSES);
    ck_assert_int_eq(atomic_load(&board->n_wrong), 0);
    ck_assert_int_eq(n_served, N_REQUESTS);
    ck_assert_int_eq(atomic_load(&board->n_loads), 1);
    /* those of the loading process were handed what was loaded, the others what that stored */
    ck_assert_int_eq(atomic_load(&board->n_served[PLN_FROM_LOADER]), N_THREADS);
    ck_assert_int_eq(atomic_load(&board->n_served[PLN_FROM_L2]), (N_PROCESSES - 1) * N_THREADS);
}
END_TEST

int main(void) {
    Suite *suite = suite_create("herd");
    TCase *tests = tcase_create("herd");
    suite_add_tcase(suite, tests);
    tcase_set_timeout(tests, 240);
    tcase_add_checked_fixture(tests, set_up, tear_down);
    tcase_add_loop_test(tests, ten_thousand_requests_of_four_processes_make_one_load, 0, 2);
    return rig_run(suite);
}
