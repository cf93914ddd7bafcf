/* SPDX-License-Identifier: MIT
 * faults_host.c - what the host's own process may do to a cache over a real Redis: fork with calls
 * under way, close or exit amid them, loaders that hang or ask for what they are loading. */
#include "rig.h"
#include "../l2/server.h"

#include <signal.h>
#include <stdio.h>
#include <sys/wait.h>
#include <unistd.h>

/* The one does not follow a process with threads into a child; the other's allocator may be locked
 * there. */
#if defined __SANITIZE_THREAD__ || defined __SANITIZE_ADDRESS__
enum { MAY_FORK = false };
#else
enum { MAY_FORK = true };
#endif

static struct server server;
static struct pln_cache *a, *b;

static void no_log(void *arg, int level, const char *line) {
    (void) arg;
    (void) level;
    (void) line;
}

static struct pln_cache *open_cache(void) {
    struct pln_cache *cache;
    struct pln_options options = {.ns = "t",
                                  .redis = server.url,
                                  .timeout_ms = 200,
                                  .ping_ms = 100,
                                  .lease_ms = 300,
                                  .load_timeout_ms = 600,
                                  .ttl_ms = 600000,
                                  .log = no_log};
    ck_assert_msg(pln_open(&options, &cache) == PLN_OK, "%s", pln_error_text());
    rig_await(cache, "generation", 2); /* the cache has heard that the link is live */
    return cache;
}

static void set_up(void) {
    pln_test_redis_start(&server, NULL);
    a = open_cache();
    b = open_cache();
}

static void tear_down(void) {
    pln_close(a);
    pln_close(b);
    pln_test_redis_stop(&server);
}

/* ---- callers ---- */

struct caller {
    pthread_t thread;
    struct pln_cache *cache;
    const atomic_bool *has_ended;
    unsigned number;
    long n_calls;
    bool is_wrong;
};

/* Writes a number that grows, and reads it back: it is the only one to write its key. */
static void *work(void *arg) {
    struct caller *caller = arg;
    char key[24], value[24];
    snprintf(key, sizeof key, "caller %u", caller->number);
    while (!atomic_load_explicit(caller->has_ended, memory_order_relaxed)) { /* relaxed: a flag */
        struct pln_result result;
        int len = snprintf(value, sizeof value, "%ld", ++caller->n_calls);
        int set = pln_set(caller->cache, pln_key(key), pln_key(value), NULL);
        int get = pln_get(caller->cache, pln_key(key), NULL, &result);
        if (set == PLN_OK && get == PLN_OK) {
            caller->is_wrong = caller->is_wrong || result.len != (size_t) len ||
                               memcmp(pln_value_data(result.value), value, (size_t) len) != 0;
        }
        if (get >= 0) {
            pln_release(caller->cache, result.value);
        }
    }
    return NULL;
}

static void start(struct caller *callers, unsigned n, struct pln_cache *cache,
                  const atomic_bool *has_ended) {
    for (unsigned i = 0; i < n; i++) {
        callers[i] = (struct caller){.cache = cache, .has_ended = has_ended, .number = i};
        ck_assert_int_eq(pthread_create(&callers[i].thread, NULL, work, &callers[i]), 0);
    }
}

/* ---- fork and exit ---- */

/* The child reads, writes and closes, on connections of its own; had it a word to say on the
 * parent's sockets, answers in the parent would be shifted. */
START_TEST(a_child_says_nothing_on_its_parents_connections) {
    atomic_bool has_ended = false;
    struct caller callers[4];
    for (unsigned i = 0; i < 4; i++) { /* so that each key's connection is there */
        char key[24];
        snprintf(key, sizeof key, "caller %u", i);
        rig_set(a, key, "0");
    }
    start(callers, 4, a, &has_ended);
    uint64_t connects = rig_stat(a, "l2_connects");
    for (int i = 0; i < 20; i++) {
        int status = 1;
        pid_t pid = fork();
        if (pid == 0) {
            struct pln_result result;
            int set = pln_set(a, pln_key("child"), pln_key("a child's"), NULL);
            int get = pln_get(a, pln_key("nothing"), NULL, &result);
            pln_close(a);
            pln_close(b);
            _exit(set == PLN_OK && get == PLN_MISS ? 0 : 1);
        }
        ck_assert_int_eq(waitpid(pid, &status, 0), pid);
        ck_assert_msg(WIFEXITED(status) && WEXITSTATUS(status) == 0, "fork %d: status %d", i,
                      status);
    }
    atomic_store_explicit(&has_ended, true, memory_order_relaxed); /* relaxed: a flag */
    for (unsigned i = 0; i < 4; i++) {
        pthread_join(callers[i].thread, NULL);
        ck_assert(!callers[i].is_wrong);
    }
    ck_assert_uint_eq(rig_stat(a, "l2_connects"), connects);
    ck_assert_uint_eq(rig_stat(a, "bus_losses"), 0);
}
END_TEST

/* Waits for a child to end by itself, and returns its status; -1 where it has not in 20 s. */
static int status_of(pid_t pid) {
    int status = -1;
    pln_ns deadline = pln_deadline(20000);
    while (waitpid(pid, &status, WNOHANG) == 0) {
        if (pln_clock_precise() > deadline) {
            kill(pid, SIGKILL);
            waitpid(pid, &status, 0);
            return -1;
        }
        usleep(2000);
    }
    return WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
}

/* _i: whether Redis has fallen silent, so that each call is under way. */
START_TEST(a_process_may_exit_amid_its_calls) {
    int ready[2];
    char byte;
    pln_close(a); /* a sanitizer wants no threads where one forks and goes on */
    pln_close(b);
    a = b = NULL;
    ck_assert_int_eq(pipe(ready), 0);
    pid_t pid = fork();
    if (pid == 0) {
        static atomic_bool never = false;
        static struct caller callers[4];
        start(callers, 4, open_cache(), &never);
        usleep(20000);
        bool is_well = write(ready[1], "r", 1) == 1;
        usleep(100000);
        exit(is_well ? 7 : 1);
    }
    close(ready[1]);
    ck_assert_int_eq(read(ready[0], &byte, 1), 1);
    if (_i == 1) {
        pln_test_redis_pause(&server);
    }
    ck_assert_int_eq(status_of(pid), 7);
    if (_i == 1) {
        pln_test_redis_resume(&server);
    }
    close(ready[0]);
}
END_TEST

START_TEST(a_close_ends_whatever_the_server_does) {
    struct pln_cache *own = open_cache();
    pln_test_redis_pause(&server);
    struct pln_result result;
    ck_assert_int_lt(pln_get(own, pln_key("k"), NULL, &result), 0);
    pln_close(own); /* or the test's own time is over */
    pln_test_redis_resume(&server);
}
END_TEST

/* ---- loaders ---- */

struct loading {
    struct pln_cache *cache;
    pthread_mutex_t gate;
    _Atomic int n_begun;
    int inner;
};

static int ask_for_itself(void *arg, struct pln_bytes key, struct pln_load *load) {
    struct loading *loading = arg;
    struct pln_result result;
    loading->inner = pln_get_or_load(loading->cache, key, NULL, ask_for_itself, arg, &result);
    if (loading->inner >= 0) {
        pln_release(loading->cache, result.value);
    }
    pln_load_value(load, pln_key("after all"), 0);
    return PLN_OK;
}

/* Not allowed, but a mistake that is made: it costs the load's timeout, and no more. */
START_TEST(a_loader_that_asks_for_what_it_loads_waits_for_itself_and_not_for_ever) {
    struct loading loading = {.cache = a};
    struct pln_result result;
    int status = pln_get_or_load(a, pln_key("k"), NULL, ask_for_itself, &loading, &result);
    ck_assert_int_lt(loading.inner, 0);
    if (status == PLN_OK) {
        pln_release(a, result.value);
    }
    rig_set(a, "k", "v"); /* nothing is held */
    rig_expect(a, "k", "v", "l1");
}
END_TEST

static int hang(void *arg, struct pln_bytes key, struct pln_load *load) {
    struct loading *loading = arg;
    (void) key;
    loading->n_begun++;
    pthread_mutex_lock(&loading->gate);
    pthread_mutex_unlock(&loading->gate);
    pln_load_value(load, pln_key("old"), 0);
    return PLN_OK;
}

static int bring(void *arg, struct pln_bytes key, struct pln_load *load) {
    (void) arg;
    (void) key;
    pln_load_value(load, pln_key("new"), 0);
    return PLN_OK;
}

static void *load_with_hanging_loader(void *arg) {
    struct loading *loading = arg;
    struct pln_result result;
    int status = pln_get_or_load(loading->cache, pln_key("k"), NULL, hang, loading, &result);
    if (status >= 0) {
        pln_release(loading->cache, result.value);
    }
    return NULL;
}

START_TEST(a_loader_that_hangs_loses_its_lease_and_its_value_does_not_undo_a_newer_one) {
    struct loading loading = {.cache = a};
    struct pln_result result;
    pthread_t thread;
    pthread_mutex_init(&loading.gate, NULL);
    pthread_mutex_lock(&loading.gate);
    pthread_create(&thread, NULL, load_with_hanging_loader, &loading);
    pln_ns deadline = pln_deadline(10000);
    while (loading.n_begun == 0) {
        ck_assert(pln_clock_precise() < deadline);
    }
    /* who waits in the same process is released by the timeout of loads */
    int waited = pln_get_or_load(a, pln_key("k"), NULL, bring, NULL, &result);
    ck_assert_msg(waited < 0, "%d", waited);
    /* another process waits no longer than the lease */
    ck_assert_int_eq(pln_get_or_load(b, pln_key("k"), NULL, bring, NULL, &result), PLN_OK);
    ck_assert_mem_eq(pln_value_data(result.value), "new", 3);
    pln_release(b, result.value);
    pthread_mutex_unlock(&loading.gate);
    pthread_join(thread, NULL);
    pln_close(b);
    b = open_cache(); /* with nothing in its memory */
    rig_expect(b, "k", "new", "l2");
}
END_TEST

int main(void) {
    Suite *suite = suite_create("host");
    TCase *tests = tcase_create("host");
    suite_add_tcase(suite, tests);
    tcase_add_checked_fixture(tests, set_up, tear_down);
    tcase_set_timeout(tests, 60);
    if (MAY_FORK) {
        tcase_add_test(tests, a_child_says_nothing_on_its_parents_connections);
    }
    tcase_add_loop_test(tests, a_process_may_exit_amid_its_calls, 0, 2);
    tcase_add_test(tests, a_close_ends_whatever_the_server_does);
    tcase_add_test(tests, a_loader_that_asks_for_what_it_loads_waits_for_itself_and_not_for_ever);
    tcase_add_test(tests,
                   a_loader_that_hangs_loses_its_lease_and_its_value_does_not_undo_a_newer_one);
    return rig_run(suite);
}
