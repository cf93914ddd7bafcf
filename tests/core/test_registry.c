/* SPDX-License-Identifier: MIT
 * test_registry.c - core/registry.c and wake.c: caches that sleep until they are needed, and
 * engines that a process shares by name. */
#include "rig.h"

#include <dirent.h>
#include <sched.h>
#include <stdio.h>

static pln_ms now_ms(void *arg) {
    (void) arg;
    return 1000000;
}

static void no_log(void *arg, int level, const char *line) {
    (void) arg, (void) level, (void) line;
}

static int open_named(const char *name, const struct pln_options *options,
                      const struct pln_engine_options *engine, struct pln_cache **cache) {
    struct pln_options own = options != NULL ? *options : (struct pln_options){0};
    own.name = name;
    own.log = no_log;
    return pln_open_named(&own, engine, cache);
}

static struct pln_cache *need(const char *name) {
    struct pln_cache *cache;
    ck_assert_msg(open_named(name, NULL, NULL, &cache) == PLN_OK, "%s", pln_error_text());
    return cache;
}

/* ---- sleep ---- */

#ifdef __SANITIZE_THREAD__
enum { SANITIZERS_OWN = 1 }; /* begun with the first thread */
#else
enum { SANITIZERS_OWN = 0 };
#endif

static int count_threads(void) {
    int n = 0;
    DIR *folder = opendir("/proc/self/task");
    ck_assert_ptr_nonnull(folder);
    for (struct dirent *entry; (entry = readdir(folder)) != NULL;) {
        n += entry->d_name[0] != '.';
    }
    closedir(folder);
    return n;
}

START_TEST(an_open_cache_has_no_threads_until_it_is_needed) {
    struct pln_cache *cache;
    struct pln_result result;
    struct pln_options options = {.redis = "unix:/nowhere/redis.sock", .log = no_log};
    int before = count_threads();
    ck_assert_int_eq(pln_open(&options, &cache), PLN_OK);
    ck_assert_int_eq(pln_peek(cache, pln_key("k"), &result), PLN_MISS);
    ck_assert(!pln_is_awake(cache));
    ck_assert_int_eq(count_threads(), before);
    pln_get(cache, pln_key("k"), NULL, &result);
    ck_assert(pln_is_awake(cache));
    ck_assert_int_gt(count_threads(), before);
    ck_assert_str_eq(pln_mode(cache), "threads");
    pln_close(cache);
    ck_assert_int_le(count_threads(), before + SANITIZERS_OWN);
}
END_TEST

static void write_something(struct pln_cache *cache) {
    pln_set(cache, pln_key("k"), pln_key("v"), NULL);
}

static void delete_something(struct pln_cache *cache) {
    pln_delete(cache, pln_key("k"));
}

static void read_many(struct pln_cache *cache) {
    struct pln_bytes key = pln_key("k");
    struct pln_result result;
    int status;
    pln_get_many(cache, &key, 1, NULL, &result, &status);
}

static void look_at_it(struct pln_cache *cache) {
    struct pln_stat stat;
    pln_stats(cache, &stat, 1);
}

static void clear_it(struct pln_cache *cache) {
    pln_clear(cache);
}

static void (*const needs[])(struct pln_cache *cache) = {
    write_something, delete_something, read_many, look_at_it, clear_it,
};

START_TEST(whatever_needs_more_than_l1_wakes_it) {
    struct pln_cache *cache;
    struct pln_memory *memory;
    struct pln_options options = {.redis = "memory:sleepers", .log = no_log};
    ck_assert_int_eq(pln_memory_open("sleepers", &memory), PLN_OK);
    ck_assert_int_eq(pln_open(&options, &cache), PLN_OK);
    ck_assert(!pln_is_awake(cache));
    needs[_i](cache);
    ck_assert(pln_is_awake(cache));
    ck_assert_uint_eq(pln_l1_generation(cache->l1) % 2, 0); /* the link is live */
    pln_close(cache);
    pln_memory_close(memory);
}
END_TEST

START_TEST(one_that_was_never_needed_is_closed) {
    struct pln_cache *cache;
    struct pln_options options = {.redis = "redis://127.0.0.1:1", .log = no_log};
    ck_assert_int_eq(pln_open(&options, &cache), PLN_OK);
    pln_close(cache);
    options.redis = "gopher:x"; /* what can be told at once is */
    ck_assert_int_eq(pln_open(&options, &cache), PLN_EINVAL);
}
END_TEST

enum { N_WAKERS = 8 };

static void *wake_it(void *arg) {
    struct pln_cache *cache = arg;
    return pln_set(cache, pln_key("k"), pln_key("v"), NULL) == PLN_OK ? cache : NULL;
}

START_TEST(of_many_that_need_it_at_once_one_wakes_it) {
    pthread_t threads[N_WAKERS];
    for (int round = 0; round < 20; round++) {
        struct pln_cache *cache;
        struct pln_options options = {.redis = "memory:woken", .workers = 1, .log = no_log};
        ck_assert_int_eq(pln_open(&options, &cache), PLN_OK);
        for (int i = 0; i < N_WAKERS; i++) {
            pthread_create(&threads[i], NULL, wake_it, cache);
        }
        for (int i = 0; i < N_WAKERS; i++) {
            void *woken;
            pthread_join(threads[i], &woken);
            ck_assert_ptr_eq(woken, cache);
        }
        pln_close(cache);
    }
}
END_TEST

/* ---- by name ---- */

START_TEST(all_who_open_a_name_share_one_and_the_last_closes_it) {
    struct pln_cache *first = need("users"), *second = need("users"), *other = need("orders");
    ck_assert_ptr_eq(first, second);
    ck_assert_ptr_ne(first, other);
    rig_set(first, "k", "v");
    pln_close(first);
    rig_expect(second, "k", "v", "l1");
    pln_close(second);
    second = need("users");
    rig_expect(second, "k", NULL, "miss");
    pln_close(second);
    pln_close(other);
}
END_TEST

START_TEST(a_cache_of_ones_own_is_never_shared) {
    struct pln_options options = {.name = "users", .log = no_log};
    struct pln_cache *shared = need("users"), *own;
    ck_assert_int_eq(pln_open(&options, &own), PLN_OK);
    ck_assert_ptr_ne(shared, own);
    rig_set(shared, "k", "v");
    rig_expect(own, "k", NULL, "miss");
    pln_close(own);
    pln_close(shared);
}
END_TEST

static const struct difference {
    struct pln_options given;
    const char *told;
} differences[] = {
    {{.ttl_ms = 1000}, "ttl is 5000 ms, not 1000 ms"},
    {{.ttl_ms = PLN_FOREVER}, "ttl is 5000 ms, not forever"},
    {{.eviction = "fifo"}, "eviction is 'adaptive', not 'fifo'"},
    {{.max_bytes = 1 << 20}, "max_bytes is 67108864, not 1048576"},
    {{.bus_log = PLN_NONE}, "bus_log is 10000, not none"},
    {{.workers = 7}, "workers is 2, not 7"},
    {{.jitter = 0.5}, "jitter is 0.25, not 0.5"},
    {{.tracking = true}, "tracking is false, not true"},
    {{.tls_unverified = true}, "tls_verify is true, not false"},
    {{.ns = "other"}, "ns is 'users', not 'other'"},
    {{.tls_ca = "/ca"}, "tls_ca is not set, not '/ca'"},
    {{.password = "secret"}, "password is another one, not another one"},
    {{.redis = "redis://u:secret@host:1/?x=secret"}, "redis is 'unix:/nowhere', not 'host:1/'"},
    {{.clock = now_ms}, "clock is another function"},
};

START_TEST(an_option_that_differs_is_named_with_both_values) {
    const struct difference *difference = &differences[_i];
    struct pln_options options = {.ttl_ms = 5000,
                                  .eviction = "adaptive",
                                  .jitter = 0.25,
                                  .redis = "unix:/nowhere",
                                  .password = "hidden"};
    struct pln_cache *cache, *again;
    ck_assert_int_eq(open_named("users", &options, NULL, &cache), PLN_OK);
    ck_assert_int_eq(open_named("users", &options, NULL, &again), PLN_OK);
    pln_close(again);
    ck_assert_int_eq(open_named("users", &difference->given, NULL, &again), PLN_EINVAL);
    ck_assert_msg(strstr(pln_error_text(), difference->told) != NULL, "%s", pln_error_text());
    ck_assert_ptr_nonnull(strstr(pln_error_text(), "engine 'users' runs with other options"));
    ck_assert_ptr_null(strstr(pln_error_text(), "secret"));
    ck_assert_ptr_null(strstr(pln_error_text(), "hidden"));
    pln_close(cache);
}
END_TEST

START_TEST(one_that_stays_does_so_until_it_is_ended_by_name) {
    struct pln_engine_options stays = {.stays = true};
    struct pln_cache *cache, *again;
    ck_assert_int_eq(pln_shutdown("users"), PLN_MISS);
    ck_assert_int_eq(open_named("users", NULL, &stays, &cache), PLN_OK);
    rig_set(cache, "k", "v");
    pln_close(cache);
    again = need("users");
    ck_assert_ptr_eq(cache, again);
    rig_expect(again, "k", "v", "l1");
    ck_assert_int_eq(pln_shutdown("users"), PLN_PENDING);
    rig_expect(again, "k", "v", "l1");
    pln_close(again); /* the last */
    ck_assert_int_eq(pln_shutdown("users"), PLN_MISS);
    ck_assert_int_eq(open_named("users", NULL, &stays, &cache), PLN_OK);
    pln_close(cache);
    ck_assert_int_eq(pln_shutdown("users"), PLN_OK);
    ck_assert_int_eq(pln_shutdown("users"), PLN_MISS);
}
END_TEST

/* ---- what a new one needs ---- */

struct preparing {
    _Atomic int n_calls;
    int status, inner;
    pthread_mutex_t gate;
};

static int prepare(void *arg, struct pln_cache *cache) {
    struct preparing *preparing = arg;
    preparing->n_calls++;
    pthread_mutex_lock(&preparing->gate);
    pthread_mutex_unlock(&preparing->gate);
    if (preparing->status < 0) {
        return pln_fail(preparing->status, "it does not please");
    }
    return pln_set(cache, pln_key("prepared"), pln_key("yes"), NULL);
}

static int open_within(void *arg, struct pln_cache *cache) {
    struct preparing *preparing = arg;
    struct pln_cache *other;
    (void) cache;
    preparing->inner = open_named("users", NULL, NULL, &other);
    if (open_named("orders", NULL, NULL, &other) == PLN_OK) {
        pln_close(other);
    }
    return PLN_OK;
}

START_TEST(a_new_one_is_prepared_once_and_gone_where_that_fails) {
    struct preparing preparing = {.status = PLN_EPOLICY, .gate = PTHREAD_MUTEX_INITIALIZER};
    struct pln_engine_options engine = {.prepare = prepare, .arg = &preparing, .settings = "p one"};
    struct pln_cache *cache, *again;
    ck_assert_int_eq(open_named("users", NULL, &engine, &cache), PLN_EPOLICY);
    ck_assert_str_eq(pln_error_text(), "it does not please");
    ck_assert_int_eq(pln_shutdown("users"), PLN_MISS);
    preparing.status = PLN_OK;
    ck_assert_int_eq(open_named("users", NULL, &engine, &cache), PLN_OK);
    ck_assert_int_eq(open_named("users", NULL, &engine, &again), PLN_OK);
    ck_assert_int_eq(preparing.n_calls, 2);
    pln_close(again);
    engine.settings = "p two";
    ck_assert_int_eq(open_named("users", NULL, &engine, &again), PLN_EINVAL);
    ck_assert_ptr_nonnull(strstr(pln_error_text(), "p one, not p two"));
    ck_assert_int_eq(open_named("users", NULL, NULL, &again), PLN_OK); /* whatever it is */
    pln_close(again);
    pln_close(cache);
}
END_TEST

START_TEST(who_prepares_a_name_cannot_open_it_but_any_other) {
    struct preparing preparing = {0};
    struct pln_engine_options engine = {.prepare = open_within, .arg = &preparing};
    struct pln_cache *cache;
    ck_assert_int_eq(open_named("users", NULL, &engine, &cache), PLN_OK);
    ck_assert_int_eq(preparing.inner, PLN_EBUSY);
    pln_close(cache);
}
END_TEST

static struct preparing shared_preparing = {.gate = PTHREAD_MUTEX_INITIALIZER};

static void *open_it(void *arg) {
    struct pln_engine_options engine = {.prepare = prepare, .arg = &shared_preparing};
    struct pln_cache *cache = NULL;
    (void) arg;
    return open_named("users", NULL, &engine, &cache) == PLN_OK ? cache : NULL;
}

START_TEST(of_many_that_open_a_name_at_once_one_does) {
    enum { N = 8 };
    pthread_t threads[N];
    struct pln_cache *caches[N];
    pthread_mutex_lock(&shared_preparing.gate);
    for (int i = 0; i < N; i++) {
        pthread_create(&threads[i], NULL, open_it, NULL);
    }
    while (shared_preparing.n_calls == 0) {
        sched_yield();
    }
    pthread_mutex_unlock(&shared_preparing.gate);
    for (int i = 0; i < N; i++) {
        pthread_join(threads[i], (void **) &caches[i]);
        ck_assert_ptr_nonnull(caches[i]);
        ck_assert_ptr_eq(caches[i], caches[0]);
    }
    ck_assert_int_eq(shared_preparing.n_calls, 1);
    rig_expect(caches[0], "prepared", "yes", "l1");
    for (int i = 0; i < N; i++) {
        pln_close(caches[i]);
    }
    ck_assert_int_eq(pln_shutdown("users"), PLN_MISS);
}
END_TEST

static void *open_and_close(void *arg) {
    uintptr_t n_wrong = 0;
    for (int i = 0; i < 300; i++) {
        struct pln_cache *cache = NULL;
        char key[24], text[8];
        struct pln_result result;
        snprintf(key, sizeof key, "%d-%d", (int) (uintptr_t) arg, i);
        if (open_named("busy", &(struct pln_options){.workers = 1}, NULL, &cache) != PLN_OK) {
            n_wrong++;
            continue;
        }
        n_wrong += pln_set(cache, pln_key(key), pln_key("v"), NULL) != PLN_OK ||
                   pln_get_copy(cache, pln_key(key), NULL, text, sizeof text, &result) != PLN_OK;
        pln_close(cache);
    }
    return (void *) n_wrong;
}

START_TEST(names_are_opened_and_closed_by_many_threads) {
    enum { N = 4 };
    pthread_t threads[N];
    for (int i = 0; i < N; i++) {
        pthread_create(&threads[i], NULL, open_and_close, (void *) (uintptr_t) i);
    }
    for (int i = 0; i < N; i++) {
        void *n_wrong;
        pthread_join(threads[i], &n_wrong);
        ck_assert_ptr_null(n_wrong);
    }
    ck_assert_int_eq(pln_shutdown("busy"), PLN_MISS);
}
END_TEST

int main(void) {
    Suite *suite = suite_create("registry");
    TCase *tests = tcase_create("registry");
    suite_add_tcase(suite, tests);
    tcase_set_timeout(tests, 60);
    tcase_add_test(tests, an_open_cache_has_no_threads_until_it_is_needed);
    tcase_add_loop_test(tests, whatever_needs_more_than_l1_wakes_it, 0, PLN_ARRAY_LEN(needs));
    tcase_add_test(tests, one_that_was_never_needed_is_closed);
    tcase_add_test(tests, of_many_that_need_it_at_once_one_wakes_it);
    tcase_add_test(tests, all_who_open_a_name_share_one_and_the_last_closes_it);
    tcase_add_test(tests, a_cache_of_ones_own_is_never_shared);
    tcase_add_loop_test(tests, an_option_that_differs_is_named_with_both_values, 0,
                        PLN_ARRAY_LEN(differences));
    tcase_add_test(tests, one_that_stays_does_so_until_it_is_ended_by_name);
    tcase_add_test(tests, a_new_one_is_prepared_once_and_gone_where_that_fails);
    tcase_add_test(tests, who_prepares_a_name_cannot_open_it_but_any_other);
    tcase_add_test(tests, of_many_that_open_a_name_at_once_one_does);
    tcase_add_test(tests, names_are_opened_and_closed_by_many_threads);
    return rig_run(suite);
}
