/* SPDX-License-Identifier: MIT
 *
 * test_drain_redis.c - writes behind over a real redis-server: instances die at any moment, Redis
 * does, a process forks, and what was acknowledged reaches the store, per key in order.
 *
 * The store of record is a page that all processes share: it outlives whoever writes to it.
 */
#include "rig.h"
#include "../l2/server.h"

#include <errno.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

/* The one does not follow a process with threads into a child; the other's allocator may be locked
 * there. */
#if defined __SANITIZE_THREAD__ || defined __SANITIZE_ADDRESS__
enum { MAY_FORK = false };
#else
enum { MAY_FORK = true };
#endif

enum { N_KEYS = 20, TEXT = 32 };

struct page {
    struct {
        _Atomic int value; /* that the store has; 0: none */
        _Atomic int acknowledged, attempted;
    } rows[N_KEYS];
    _Atomic unsigned n_calls, n_items, n_acknowledged;
    _Atomic int stop_at;     /* of a call's items: its process stops there; 0: never */
    _Atomic bool is_stopped; /* it does */
    _Atomic int poison;      /* the value that is never taken */
};

static struct page *page;
static struct server server;
static struct pln_write_options writing;
static bool is_mortal; /* this process's store stops where the page says so */

static _Atomic unsigned n_warnings; /* that the queue may be lost */

static void count_log(void *arg, int level, const char *line) {
    (void) arg;
    (void) level;
    atomic_fetch_add(&n_warnings, strstr(line, "maxmemory-policy") != NULL);
}

static void stop_here(void) {
    atomic_store(&page->is_stopped, true);
    for (;;) {
        pause();
    }
}

static int store(void *arg, struct pln_store_item *items, size_t n) {
    (void) arg;
    atomic_fetch_add(&page->n_calls, 1);
    for (size_t i = 0; i < n; i++) {
        char key[TEXT] = "", value[TEXT] = "";
        memcpy(key, items[i].key.data, items[i].key.len);
        memcpy(value, items[i].value.data, items[i].value.len);
        int which = atoi(key + 1), number = items[i].op == PLN_STORE_SET ? atoi(value) : 0;
        if (is_mortal && atomic_load(&page->stop_at) == (int) i + 1) {
            stop_here();
        }
        if (number != 0 && number == atomic_load(&page->poison)) {
            pln_store_fail(&items[i], PLN_EINVAL, "a poison");
            continue;
        }
        atomic_store(&page->rows[which].value, number);
        atomic_fetch_add(&page->n_items, 1);
    }
    return PLN_OK;
}

static struct pln_cache *open_cache(void) {
    struct pln_cache *cache;
    struct pln_options options = {.ns = "t",
                                  .redis = server.url,
                                  .timeout_ms = 1000,
                                  .ttl_ms = 600000,
                                  .workers = 2,
                                  .writing = &writing,
                                  .log = count_log};
    ck_assert_msg(pln_open(&options, &cache) == PLN_OK, "%s", pln_error_text());
    return cache;
}

static void setup(void) {
    const char *const lasting[] = {"--appendonly", "yes", "--appendfsync", "always", NULL};
    page = mmap(NULL, sizeof *page, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    ck_assert_ptr_ne(page, MAP_FAILED);
    is_mortal = false;
    writing = (struct pln_write_options){.strategy = PLN_WRITE_BEHIND,
                                         .store = store,
                                         .timeout_ms = 500, /* and so a lead of a second */
                                         .every_ms = 20,
                                         .backoff_ms = 20};
    pln_test_redis_start(&server, lasting);
}

static void teardown(void) {
    pln_test_redis_stop(&server);
    munmap(page, sizeof *page);
}

/* ---- writers ---- */

static void write_one(struct pln_cache *cache, int which, int number) {
    char key[TEXT], value[TEXT];
    snprintf(key, sizeof key, "k%d", which);
    snprintf(value, sizeof value, "%d", number);
    atomic_store(&page->rows[which].attempted, number);
    int status = number == 0 ? pln_delete(cache, pln_key(key))
                             : pln_set(cache, pln_key(key), pln_key(value), NULL);
    if (status == PLN_OK) {
        atomic_store(&page->rows[which].acknowledged, number);
        atomic_fetch_add(&page->n_acknowledged, 1);
    }
}

/* Writes on and on, until it is killed. */
static void write_forever(void) {
    struct pln_cache *cache = open_cache();
    int first = atomic_load(&page->rows[0].attempted) + 1;
    for (int i = first;; i++) {
        for (int which = 0; which < N_KEYS; which++) {
            write_one(cache, which, i);
        }
    }
}

static pid_t fork_writer(void (*run)(void)) {
    pid_t pid = fork();
    ck_assert_int_ge(pid, 0);
    if (pid == 0) {
        prctl(PR_SET_PDEATHSIG, SIGKILL);
        is_mortal = true;
        run();
        _exit(0);
    }
    return pid;
}

static void kill_writer(pid_t pid) {
    ck_assert_int_eq(kill(pid, SIGKILL), 0);
    ck_assert_int_eq(waitpid(pid, NULL, 0), pid);
}

static void await(bool (*holds)(void), const char *what) {
    pln_ns deadline = pln_deadline(30000);
    while (!holds()) {
        ck_assert_msg(pln_clock_precise() < deadline, "%s", what);
        sched_yield();
    }
}

static bool is_stopped(void) {
    return atomic_load(&page->is_stopped);
}

/* What was acknowledged last of each key is there, or what was under way behind it. */
static void expect_all(void) {
    for (int i = 0; i < N_KEYS; i++) {
        int value = atomic_load(&page->rows[i].value);
        int acknowledged = atomic_load(&page->rows[i].acknowledged);
        ck_assert_msg(value == acknowledged || value == atomic_load(&page->rows[i].attempted),
                      "k%d is %d; %d was acknowledged, %d tried", i, value, acknowledged,
                      atomic_load(&page->rows[i].attempted));
    }
}

static void flush(struct pln_cache *cache) {
    ck_assert_msg(pln_flush(cache, 30000) == PLN_OK, "%s", pln_error_text());
}

/* ---- tests ---- */

START_TEST(when_one_dies_amid_a_batch_another_carries_on) {
    struct pln_cache *other = open_cache();
    atomic_store(&page->stop_at, 8);
    pid_t pid = fork_writer(write_forever);
    await(is_stopped, "nobody stored anything");
    unsigned n = atomic_load(&page->n_acknowledged);
    while (atomic_load(&page->n_acknowledged) < n + 100) { /* it writes while its store hangs */
        sched_yield();
    }
    kill_writer(pid);
    atomic_store(&page->stop_at, 0);
    flush(other);
    expect_all();
    struct pln_queue_state state;
    ck_assert_int_eq(pln_queue_state(other, &state), PLN_OK);
    ck_assert_uint_eq(state.depth, 0);
    ck_assert(state.is_ours);
    pln_close(other);
}
END_TEST

START_TEST(instances_that_die_at_any_moment_lose_nothing) {
    for (int round = 0; round < 10; round++) {
        atomic_store(&page->is_stopped, false);
        atomic_store(&page->stop_at, round % 3 == 0 ? round % 7 + 1 : 0);
        unsigned until = atomic_load(&page->n_acknowledged) + 30 + 37U * (unsigned) round;
        pid_t pid = fork_writer(write_forever);
        pln_ns deadline = pln_deadline(30000);
        while (atomic_load(&page->n_acknowledged) < until) {
            ck_assert(pln_clock_precise() < deadline);
            sched_yield();
        }
        kill_writer(pid);
    }
    atomic_store(&page->stop_at, 0);
    struct pln_cache *last = open_cache();
    flush(last);
    expect_all();
    pln_close(last);
}
END_TEST

START_TEST(a_redis_that_dies_loses_nothing_that_was_acknowledged) {
    struct pln_cache *cache = open_cache();
    for (int i = 1; i <= 3; i++) {
        for (int which = 0; which < N_KEYS; which++) {
            write_one(cache, which, i);
        }
        pln_test_redis_kill(&server);
        pln_test_redis_restart(&server);
        pln_ns deadline = pln_deadline(30000);
        while (pln_flush(cache, 30000) != PLN_OK) { /* until it is connected again */
            ck_assert_msg(pln_clock_precise() < deadline, "%s", pln_error_text());
            sched_yield();
        }
        expect_all();
    }
    pln_close(cache);
}
END_TEST

START_TEST(a_poison_does_not_hold_up_the_others) {
    size_t n = 0;
    struct pln_queue_state state;
    struct pln_cache *cache = open_cache();
    atomic_store(&page->poison, 66);
    free(pln_test_redis_command(&server, "XADD t:queue * what ever"));
    for (int which = 0; which < N_KEYS; which++) {
        write_one(cache, which, which == 7 ? 66 : 1);
    }
    flush(cache);
    for (int which = 0; which < N_KEYS; which++) {
        ck_assert_int_eq(atomic_load(&page->rows[which].value), which == 7 ? 0 : 1);
    }
    atomic_store(&page->poison, 0);
    ck_assert_int_eq(pln_retry_letter(cache, NULL, &n), PLN_OK);
    ck_assert_uint_eq(n, 1);
    flush(cache);
    ck_assert_int_eq(atomic_load(&page->rows[7].value), 66);
    ck_assert_int_eq(pln_queue_state(cache, &state), PLN_OK);
    ck_assert_uint_eq(state.dead, 1); /* which is no write, and can be dropped only */
    ck_assert_int_eq(pln_drop_letter(cache, NULL, &n), PLN_OK);
    ck_assert_uint_eq(n, 1);
    pln_close(cache);
}
END_TEST

static int load_old(void *arg, struct pln_bytes key, struct pln_load *load) {
    (void) arg;
    (void) key;
    return pln_load_value(load, pln_key("old"), 0);
}

START_TEST(what_was_evicted_from_redis_before_it_was_stored_is_read_all_the_same) {
    writing.every_ms = 3600000;
    struct pln_cache *a = open_cache(), *b = open_cache();
    struct pln_result result;
    write_one(a, 3, 5);
    write_one(a, 4, 5);
    write_one(a, 4, 0);
    free(pln_test_redis_command(&server, "DEL t:v:k3 t:v:k4"));
    ck_assert_int_eq(pln_get_or_load(b, pln_key("k3"), NULL, load_old, NULL, &result), PLN_OK);
    ck_assert_mem_eq(pln_value_data(result.value), "5", 1);
    pln_release(b, result.value);
    ck_assert_int_eq(pln_get_or_load(b, pln_key("k4"), NULL, load_old, NULL, &result), PLN_ABSENT);
    pln_release(b, result.value);
    ck_assert_int_eq(atomic_load(&page->rows[3].value), 0);
    flush(a); /* who has the lead */
    ck_assert_int_eq(atomic_load(&page->rows[3].value), 5);
    pln_close(a);
    pln_close(b);
}
END_TEST

/* A plain value has no place for it. */
START_TEST(that_there_is_no_such_thing_is_not_read_as_an_empty_value) {
    struct pln_set_options absent = {.is_absent = true};
    struct pln_cache *a = open_cache(), *b = open_cache();
    struct rig none = {.now = 0};
    for (int i = 0; i < 2; i++) {
        struct pln_rule rule = rig_rule("k{id}", pln_cache_terms(a), 0);
        rule.terms.is_plain = true;
        rule.terms.negative_ms = 600000;
        rule.terms.write = PLN_WRITE_BEHIND;
        rig_policy(&none, i == 0 ? a : b, rule);
    }
    write_one(a, 3, 5);
    ck_assert_int_eq(pln_set(a, pln_key("k3"), pln_key(""), &absent), PLN_OK);
    flush(a);
    ck_assert_int_eq(atomic_load(&page->rows[3].value), 0);
    pln_ns deadline = pln_deadline(10000);
    struct pln_result result;
    while (pln_get(b, pln_key("k3"), NULL, &result) != PLN_MISS) {
        ck_assert_msg(pln_clock_precise() < deadline, "it is there");
        pln_release(b, result.value);
    }
    pln_close(a);
    pln_close(b);
}
END_TEST

START_TEST(a_child_of_fork_is_an_instance_of_its_own) {
    struct pln_cache *cache = open_cache();
    write_one(cache, 0, 1);
    flush(cache);
    pid_t pid = fork();
    ck_assert_int_ge(pid, 0);
    if (pid == 0) {
        write_one(cache, 1, 2);
        struct pln_queue_state state;
        int status = pln_flush(cache, 20000);
        status = status == PLN_OK ? pln_queue_state(cache, &state) : status;
        pln_close(cache);
        _exit(status == PLN_OK && state.depth == 0 ? 0 : 1);
    }
    int ended;
    ck_assert_int_eq(waitpid(pid, &ended, 0), pid);
    ck_assert(WIFEXITED(ended) && WEXITSTATUS(ended) == 0);
    ck_assert_int_eq(atomic_load(&page->rows[1].value), 2);
    write_one(cache, 0, 3);
    flush(cache);
    ck_assert_int_eq(atomic_load(&page->rows[0].value), 3);
    pln_close(cache);
}
END_TEST

START_TEST(a_redis_that_may_drop_the_queue_is_told_of_once) {
    free(pln_test_redis_command(&server, "CONFIG SET maxmemory 1gb"));
    free(pln_test_redis_command(&server, "CONFIG SET maxmemory-policy allkeys-lru"));
    struct pln_cache *cache = open_cache();
    struct pln_queue_state state;
    write_one(cache, 0, 1);
    ck_assert_int_eq(pln_queue_state(cache, &state), PLN_OK);
    ck_assert_int_eq(pln_queue_state(cache, &state), PLN_OK);
    ck_assert_uint_eq(atomic_load(&n_warnings), 1);
    pln_close(cache);
    atomic_store(&n_warnings, 0);
    free(pln_test_redis_command(&server, "CONFIG SET maxmemory-policy volatile-lru"));
    cache = open_cache();
    write_one(cache, 0, 2);
    ck_assert_int_eq(pln_queue_state(cache, &state), PLN_OK);
    ck_assert_uint_eq(atomic_load(&n_warnings), 0);
    pln_close(cache);
}
END_TEST

int main(void) {
    Suite *suite = suite_create("drain over redis");
    TCase *tests = tcase_create("drain over redis");
    suite_add_tcase(suite, tests);
    tcase_set_timeout(tests, 120);
    tcase_add_checked_fixture(tests, setup, teardown);
    if (MAY_FORK) {
        tcase_add_test(tests, when_one_dies_amid_a_batch_another_carries_on);
        tcase_add_test(tests, instances_that_die_at_any_moment_lose_nothing);
        tcase_add_test(tests, a_child_of_fork_is_an_instance_of_its_own);
    }
    tcase_add_test(tests, a_redis_that_dies_loses_nothing_that_was_acknowledged);
    tcase_add_test(tests, a_poison_does_not_hold_up_the_others);
    tcase_add_test(tests, what_was_evicted_from_redis_before_it_was_stored_is_read_all_the_same);
    tcase_add_test(tests, that_there_is_no_such_thing_is_not_read_as_an_empty_value);
    tcase_add_test(tests, a_redis_that_may_drop_the_queue_is_told_of_once);
    return rig_run(suite);
}
