/* SPDX-License-Identifier: MIT
 * test_child.c - core/fork.c and wake.c over a real Redis: a forked child has each cache whole,
 * with connections of its own, and its parent notices nothing. */
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
static struct pln_cache *cache;

static void no_log(void *arg, int level, const char *line) {
    (void) arg, (void) level, (void) line;
}

static struct pln_cache *open_cache(void) {
    struct pln_cache *opened;
    struct pln_options options = {.ns = "t",
                                  .redis = server.url,
                                  .ping_ms = 2000,
                                  .timeout_ms = 10000,
                                  .ttl_ms = 600000,
                                  .max_staleness_ms = 600000,
                                  .log = no_log};
    ck_assert_msg(pln_open(&options, &opened) == PLN_OK, "%s", pln_error_text());
    return opened;
}

static void set_up(void) {
    pln_test_redis_start(&server, NULL);
    cache = open_cache();
}

static void tear_down(void) {
    pln_close(cache);
    pln_test_redis_stop(&server);
}

/* In a child ck_assert would speak for its parent: what follows says how it went. */

static uint64_t stat_of(const char *name) {
    struct pln_stat stats[128];
    size_t n = pln_stats(cache, stats, PLN_ARRAY_LEN(stats));
    for (size_t i = 0; i < n; i++) {
        if (strcmp(stats[i].name, name) == 0) {
            return stats[i].value;
        }
    }
    return UINT64_MAX;
}

static bool await(const char *name, uint64_t at_least) {
    pln_ns deadline = pln_deadline(20000);
    while (stat_of(name) < at_least) {
        if (pln_clock_precise() > deadline) {
            return false;
        }
        usleep(1000);
    }
    return true;
}

static bool has(const char *key, const char *value) {
    char text[64];
    struct pln_result result;
    return pln_get_copy(cache, pln_key(key), NULL, text, sizeof text, &result) == PLN_OK &&
           result.len == strlen(value) && memcmp(text, value, result.len) == 0;
}

static bool comes_to_have(const char *key, const char *value) {
    pln_ns deadline = pln_deadline(20000);
    while (!has(key, value)) {
        if (pln_clock_precise() > deadline) {
            return false;
        }
        usleep(1000);
    }
    return true;
}

static bool set(const char *key, const char *value) {
    return pln_set(cache, pln_key(key), pln_key(value), NULL) == PLN_OK;
}

/* Parent and child take turns: each writes a byte when it is the other's. */
static int to_child[2], to_parent[2];

static void open_pipes(void) {
    ck_assert_int_eq(pipe(to_child), 0);
    ck_assert_int_eq(pipe(to_parent), 0);
}

static bool give_turn(const int *to) {
    return write(to[1], "x", 1) == 1;
}

static bool take_turn(const int *to) {
    char byte;
    return read(to[0], &byte, 1) == 1;
}

static int status_of(pid_t child) {
    int status = -1;
    ck_assert_int_eq(waitpid(child, &status, 0), child);
    return WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
}

/* The number of the first step that failed, or 0. */
static int first_failed(const bool *steps, size_t n) {
    for (size_t i = 0; i < n; i++) {
        if (!steps[i]) {
            return (int) i + 1;
        }
    }
    return 0;
}

/* ---- both go on ---- */

static int be_a_child(void) {
    bool steps[] = {
        stat_of("bus_losses") == 0,
        set("of child", "1"),
        has("of parent", "1"),
        await("bus_ok", 1),
        has("of parent", "1"), /* in L1 from now on */
        has("k", "from parent"),
        set("k", "from child"),
        give_turn(to_parent) && take_turn(to_child),
        comes_to_have("k", "from parent again"),
        pln_delete(cache, pln_key("of parent")) == PLN_OK,
        give_turn(to_parent),
    };
    pln_close(cache);
    return first_failed(steps, PLN_ARRAY_LEN(steps));
}

START_TEST(parent_and_child_hear_of_each_other) {
    open_pipes();
    rig_await(cache, "bus_ok", 1);
    rig_set(cache, "of parent", "1");
    rig_set(cache, "k", "from parent");
    rig_expect(cache, "k", "from parent", "l1");
    uint64_t connects = rig_stat(cache, "l2_connects");
    pid_t child = fork();
    if (child == 0) {
        _exit(be_a_child());
    }
    ck_assert(take_turn(to_parent));
    ck_assert(comes_to_have("k", "from child"));
    ck_assert(has("of child", "1"));
    rig_set(cache, "k", "from parent again");
    ck_assert(give_turn(to_child) && take_turn(to_parent));
    ck_assert_int_eq(status_of(child), 0);
    pln_ns deadline = pln_deadline(20000);
    struct pln_result result;
    while (pln_get(cache, pln_key("of parent"), NULL, &result) == PLN_OK) {
        pln_release(cache, result.value);
        ck_assert(pln_clock_precise() < deadline);
    }
    ck_assert_uint_eq(rig_stat(cache, "bus_losses"), 0);
    ck_assert_uint_ge(rig_stat(cache, "l2_connects"), connects);
    ck_assert_uint_eq(rig_stat(cache, "l2_errors"), 0);
}
END_TEST

START_TEST(one_that_was_never_needed_is_begun_by_each_for_itself) {
    pid_t child = fork();
    if (child == 0) {
        bool is_good = set("of child", "1") && await("bus_ok", 1);
        pln_close(cache);
        _exit(is_good ? 0 : 1);
    }
    ck_assert_int_eq(status_of(child), 0);
    ck_assert(has("of child", "1"));
}
END_TEST

static int descend(int generations) {
    if (generations == 0) {
        return 0;
    }
    pid_t child = fork();
    if (child == 0) {
        char key[16];
        snprintf(key, sizeof key, "g%d", generations);
        bool is_good = has("root", "1") && set(key, "1") && await("bus_ok", 1) && set("all", key) &&
                       has("all", key) && descend(generations - 1) == 0 && has("g1", "1");
        pln_close(cache);
        _exit(is_good ? 0 : 1);
    }
    int status = -1;
    return waitpid(child, &status, 0) == child && WIFEXITED(status) ? WEXITSTATUS(status) : 128;
}

START_TEST(a_childs_children_are_no_different) {
    rig_set(cache, "root", "1");
    ck_assert_int_eq(descend(4), 0);
    ck_assert(comes_to_have("all", "g1"));
    ck_assert_uint_eq(rig_stat(cache, "bus_losses"), 0);
}
END_TEST

/* What L1 has serves no longer than with a lost link; what was deleted meanwhile does not come back
 * once the child's own link is up. */
START_TEST(what_was_missed_between_fork_and_link_ends_with_the_link) {
    open_pipes();
    rig_await(cache, "bus_ok", 1);
    rig_set(cache, "k", "old");
    rig_expect(cache, "k", "old", "l1");
    pid_t child = fork();
    if (child == 0) {
        struct pln_result result = {.value = NULL};
        bool is_good = take_turn(to_child) && pln_peek(cache, pln_key("k"), &result) == PLN_OK;
        pln_release(cache, result.value);
        is_good = is_good && await("bus_ok", 1) && has("k", "new");
        _exit(is_good ? 0 : 1);
    }
    rig_set(cache, "k", "new");
    ck_assert(give_turn(to_child));
    ck_assert_int_eq(status_of(child), 0);
}
END_TEST

/* ---- connections ---- */

static int count_clients(void) {
    int n = 0;
    char *list = pln_test_redis_command(&server, "CLIENT LIST");
    for (const char *at = list; (at = strstr(at, "name=perilune:")) != NULL; at++) {
        n++;
    }
    free(list);
    return n;
}

START_TEST(a_child_keeps_none_of_its_parents_connections) {
    open_pipes();
    rig_await(cache, "bus_ok", 1);
    rig_set(cache, "k", "v");
    ck_assert_int_gt(count_clients(), 1);
    pid_t child = fork();
    if (child == 0) {
        bool is_good = take_turn(to_child) && has("k", "v");
        _exit(is_good ? 0 : 1);
    }
    pln_close(cache);
    pln_ns deadline = pln_deadline(20000);
    while (count_clients() > 0) {
        ck_assert_msg(pln_clock_precise() < deadline, "%d are left", count_clients());
        usleep(1000);
    }
    ck_assert(give_turn(to_child));
    ck_assert_int_eq(status_of(child), 0);
    cache = open_cache();
}
END_TEST

START_TEST(a_childs_copy_of_a_lock_is_none) {
    struct pln_lock *lock;
    struct pln_lock_options options = {.ttl_ms = 60000};
    ck_assert_int_eq(pln_lock(cache, pln_key("l"), &options, NULL, &lock), PLN_OK);
    pid_t child = fork();
    if (child == 0) {
        struct pln_lock *other;
        bool is_good = pln_lock(cache, pln_key("l"), &options, NULL, &other) == PLN_PENDING &&
                       pln_lock_extend(lock, 0) == PLN_ECLOSED && pln_unlock(lock) == PLN_ECLOSED;
        _exit(is_good ? 0 : 1);
    }
    ck_assert_int_eq(status_of(child), 0);
    ck_assert_int_eq(pln_unlock(lock), PLN_OK);
}
END_TEST

/* ---- amid calls ---- */

/* A loader of the call's own that forks: both processes come back from it. */
static int fork_amid(void *arg, struct pln_bytes key, struct pln_load *load) {
    (void) key;
    *(pid_t *) arg = fork();
    return pln_load_value(load, pln_key("loaded"), 0);
}

START_TEST(a_loader_may_fork) {
    pid_t child = -1;
    struct pln_result result;
    int status = pln_get_or_load(cache, pln_key("k"), NULL, fork_amid, &child, &result);
    if (child == 0) {
        bool is_good = status == PLN_OK && set("of child", "1") && has("of child", "1");
        pln_release(cache, result.value);
        pln_close(cache);
        _exit(is_good ? 0 : 1);
    }
    ck_assert_int_eq(status, PLN_OK);
    pln_release(cache, result.value);
    ck_assert_int_eq(status_of(child), 0);
    ck_assert(has("k", "loaded"));
}
END_TEST

struct busy {
    pthread_t thread;
    atomic_bool *has_ended;
    unsigned number;
    bool is_wrong;
    long n_calls;
};

static void *be_busy(void *arg) {
    struct busy *busy = arg;
    char key[24], value[24];
    snprintf(key, sizeof key, "busy %u", busy->number);
    while (!atomic_load(busy->has_ended)) {
        snprintf(value, sizeof value, "%ld", ++busy->n_calls);
        busy->is_wrong = busy->is_wrong || !set(key, value) || !has(key, value);
        pln_invalidate_tag(cache, pln_key("t"));
    }
    return NULL;
}

START_TEST(under_load_every_child_is_whole) {
    enum { N_THREADS = 4, N_CHILDREN = 25 };
    struct busy busy[N_THREADS];
    atomic_bool has_ended = false;
    rig_set(cache, "k", "v");
    for (unsigned i = 0; i < N_THREADS; i++) {
        busy[i] = (struct busy){.has_ended = &has_ended, .number = i};
        ck_assert_int_eq(pthread_create(&busy[i].thread, NULL, be_busy, &busy[i]), 0);
    }
    for (int i = 0; i < N_CHILDREN; i++) {
        char key[24];
        snprintf(key, sizeof key, "child %d", i);
        pid_t child = fork();
        if (child == 0) {
            alarm(60);
            bool steps[] = {set(key, "1"), has(key, "1"), has("k", "v"), await("bus_ok", 1),
                            pln_delete(cache, pln_key(key)) == PLN_OK};
            int failed = first_failed(steps, PLN_ARRAY_LEN(steps));
            if (i % 2 == 0) {
                pln_close(cache);
            }
            _exit(failed);
        }
        ck_assert_int_eq(status_of(child), 0);
    }
    atomic_store(&has_ended, true);
    for (unsigned i = 0; i < N_THREADS; i++) {
        pthread_join(busy[i].thread, NULL);
        ck_assert(!busy[i].is_wrong);
    }
    ck_assert_uint_eq(rig_stat(cache, "bus_losses"), 0);
}
END_TEST

/* Workers of the parent's amid its policy's loader; the child's begin anew. */
static struct rig rig;

START_TEST(a_childs_workers_load_whatever_its_parents_were_at) {
    struct pln_result result;
    rig_open(&rig, 1, false, NULL);
    struct pln_terms terms = rig.caches[0]->terms;
    terms.stale_ms = 60000;
    terms.ttl_ms = 1000;
    rig_policy(&rig, rig.caches[0], rig_rule("*", &terms, PLN_RULE_LOAD));
    rig_expect(rig.caches[0], "k", "loaded 1", "loaded");
    atomic_fetch_add(&rig.now, 1500);
    pthread_mutex_lock(&rig.gate);
    rig_expect(rig.caches[0], "k", "loaded 1", "stale");
    rig_await(rig.caches[0], "loads", 2); /* a worker waits at the gate */
    pid_t child = fork();
    if (child == 0) {
        alarm(60);
        pthread_mutex_unlock(&rig.gate); /* this thread's, also here */
        bool is_good = pln_get(rig.caches[0], pln_key("other"), NULL, &result) == PLN_OK &&
                       result.source == PLN_FROM_LOADER;
        pln_release(rig.caches[0], result.value);
        pln_close(rig.caches[0]);
        _exit(is_good ? 0 : 1);
    }
    ck_assert_int_eq(status_of(child), 0);
    pthread_mutex_unlock(&rig.gate);
    rig_close(&rig);
}
END_TEST

int main(void) {
    Suite *suite = suite_create("child");
    TCase *tests = tcase_create("child");
    suite_add_tcase(suite, tests);
    tcase_add_checked_fixture(tests, set_up, tear_down);
    tcase_set_timeout(tests, 90);
    if (MAY_FORK) {
        tcase_add_test(tests, parent_and_child_hear_of_each_other);
        tcase_add_test(tests, one_that_was_never_needed_is_begun_by_each_for_itself);
        tcase_add_test(tests, a_childs_children_are_no_different);
        tcase_add_test(tests, what_was_missed_between_fork_and_link_ends_with_the_link);
        tcase_add_test(tests, a_child_keeps_none_of_its_parents_connections);
        tcase_add_test(tests, a_childs_copy_of_a_lock_is_none);
        tcase_add_test(tests, a_loader_may_fork);
        tcase_add_test(tests, under_load_every_child_is_whole);
        tcase_add_test(tests, a_childs_workers_load_whatever_its_parents_were_at);
    }
    return rig_run(suite);
}
