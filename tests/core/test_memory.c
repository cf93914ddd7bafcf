/* SPDX-License-Identifier: MIT
 * test_memory.c - core/memory.c: caches that find each other by "memory:NAME", and what a user's
 * test can do to them, all through the public functions. */
#include "rig.h"

#include <sched.h>
#include <stdio.h>
#include <sys/wait.h>
#include <unistd.h>

/* The one does not follow a process with threads into a child; the other's allocator, unlike that
 * of the system, is left locked there by threads that did not come along. */
#if defined __SANITIZE_THREAD__ || defined __SANITIZE_ADDRESS__
enum { N_FORKS = 0 };
#else
enum { N_FORKS = 20 };
#endif

static _Atomic int64_t now;
static struct pln_memory *memory;
static struct pln_cache *a, *b;

static pln_ms read_clock(void *arg) {
    (void) arg;
    return atomic_load(&now);
}

static struct pln_cache *open_cache(const char *url) {
    struct pln_options options = {
        .name = "test", .redis = url, .ttl_ms = 600000, .l1_ttl_ms = 30000, .clock = read_clock};
    struct pln_cache *cache = NULL;
    ck_assert_msg(pln_open(&options, &cache) == PLN_OK, "%s", pln_error_text());
    return cache;
}

static void setup(void) {
    atomic_store(&now, 1000000);
    ck_assert_int_eq(pln_memory_open("fleet", &memory), PLN_OK);
    a = open_cache("memory:fleet");
    b = open_cache("memory://fleet");
}

static void teardown(void) {
    pln_close(a);
    pln_close(b);
    pln_memory_close(memory);
}

static void set_faults(struct pln_cache *cache, struct pln_memory_faults faults) {
    ck_assert_msg(pln_memory_faults(memory, cache, &faults) == PLN_OK, "%s", pln_error_text());
}

static struct pln_memory_stats stats_now(void) {
    struct pln_memory_stats stats;
    pln_memory_stats(memory, &stats);
    return stats;
}

static void await_delivery(void) {
    pln_ns deadline = pln_deadline(10000);
    while (stats_now().waiting > 0) {
        ck_assert_msg(pln_clock_precise() < deadline, "messages stay on their way");
        sched_yield();
    }
}

START_TEST(caches_that_name_the_same_memory_share_it) {
    rig_set(a, "k", "v");
    rig_expect(b, "k", "v", "l2");
    rig_expect(b, "k", "v", "l1");
    ck_assert_int_eq(pln_delete(a, pln_key("k")), PLN_OK);
    rig_expect(b, "k", NULL, "miss");
    struct pln_cache *other = open_cache("memory:other");
    rig_set(a, "k", "v");
    rig_expect(other, "k", NULL, "miss");
    pln_close(other);
}
END_TEST

START_TEST(what_is_stored_lives_as_long_as_somebody_uses_it) {
    rig_set(a, "k", "v");
    pln_close(a);
    pln_close(b);
    b = NULL;
    a = open_cache("memory:fleet");
    rig_expect(a, "k", "v", "l2"); /* the handle kept it */
    pln_close(a);
    pln_memory_close(memory);
    ck_assert_int_eq(pln_memory_open("fleet", &memory), PLN_OK);
    a = open_cache("memory:fleet");
    rig_expect(a, "k", NULL, "miss");
}
END_TEST

START_TEST(a_wrong_name_fault_or_cache_is_told) {
    struct pln_options options = {.redis = "memory:a b"};
    struct pln_memory_faults faults = {.lose = 1.5};
    struct pln_memory *none = NULL;
    struct pln_cache *cache = NULL;
    ck_assert_int_eq(pln_open(&options, &cache), PLN_EINVAL);
    ck_assert_ptr_nonnull(strstr(pln_error_text(), "'a b'"));
    options = (struct pln_options){.redis = "memory:late", .jitter = 7};
    ck_assert_int_eq(pln_open(&options, &cache), PLN_EINVAL);
    ck_assert_ptr_null(cache);
    ck_assert_int_eq(pln_memory_open("", &none), PLN_EINVAL);
    ck_assert_int_eq(pln_memory_faults(memory, NULL, &faults), PLN_EINVAL);
    ck_assert_ptr_nonnull(strstr(pln_error_text(), "lose: "));
    faults = (struct pln_memory_faults){.message_random_ms = -1};
    ck_assert_int_eq(pln_memory_faults(memory, NULL, &faults), PLN_EINVAL);
    ck_assert_ptr_nonnull(strstr(pln_error_text(), "message_random: "));
    faults = (struct pln_memory_faults){.reorder = 100000};
    ck_assert_int_eq(pln_memory_faults(memory, NULL, &faults), PLN_EINVAL);
    ck_assert_int_eq(pln_memory_evict(memory, -1, NULL), PLN_EINVAL);
    struct pln_cache *other = open_cache("memory:other");
    ck_assert_int_eq(pln_memory_link(memory, other, false), PLN_EINVAL);
    ck_assert_ptr_nonnull(strstr(pln_error_text(), "memory:fleet: cache 'test' does not use it"));
    pln_close(other);
}
END_TEST

/* Writes of both, in turns, with reads between; then, with nothing on its way, both must read the
 * same of every key, and of the last writer. */
static void write_in_turns(char last[8][16]) {
    char key[8];
    struct pln_result result;
    for (int i = 0; i < 400; i++) {
        snprintf(key, sizeof key, "k%d", i % 8);
        snprintf(last[i % 8], 16, "value %d", i);
        rig_set(i % 3 == 0 ? a : b, key, last[i % 8]);
        snprintf(key, sizeof key, "k%d", i * 5 % 8);
        for (int reader = 0; reader < 2; reader++) {
            struct pln_cache *cache = reader == 0 ? a : b;
            ck_assert_int_ge(pln_get(cache, pln_key(key), NULL, &result), 0);
            pln_release(cache, result.value);
        }
    }
}

static void expect_everywhere(const char *key, const char *value) {
    struct pln_cache *const caches[] = {a, b};
    struct pln_result result;
    for (size_t i = 0; i < 2; i++) {
        ck_assert_int_eq(pln_get(caches[i], pln_key(key), NULL, &result), PLN_OK);
        ck_assert_msg(result.len == strlen(value) &&
                          memcmp(pln_value_data(result.value), value, result.len) == 0,
                      "cache %zu has '%.*s' for %s, not '%s'", i, (int) result.len,
                      (const char *) pln_value_data(result.value), key, value);
        pln_release(caches[i], result.value);
    }
}

START_TEST(late_doubled_and_reordered_messages_end_with_the_same_value_everywhere) {
    char key[8], last[8][16];
    set_faults(NULL, (struct pln_memory_faults){.seed = (uint64_t) _i + 1,
                                                .message_delay_ms = _i % 2,
                                                .message_random_ms = 3,
                                                .reorder = 5,
                                                .duplicate = 0.3});
    write_in_turns(last);
    await_delivery();
    ck_assert_uint_gt(stats_now().duplicated, 0);
    for (int i = 0; i < 8; i++) {
        snprintf(key, sizeof key, "k%d", i);
        expect_everywhere(key, last[i]);
    }
}
END_TEST

START_TEST(after_a_lost_message_an_old_value_ends_with_its_life_in_l1) {
    rig_set(a, "k", "old");
    rig_expect(b, "k", "old", "l2");
    set_faults(b, (struct pln_memory_faults){.lose = 1});
    rig_set(a, "k", "new");
    rig_expect(b, "k", "old", "l1");
    atomic_fetch_add(&now, 29000);
    rig_expect(b, "k", "old", "l1"); /* nobody knows of it */
    atomic_fetch_add(&now, 1000);
    rig_expect(b, "k", "new", "l2");
    ck_assert_uint_eq(rig_stat(b, "bus_losses"), 0);
    ck_assert_uint_eq(stats_now().lost, 1);
}
END_TEST

START_TEST(what_is_lost_with_the_link_is_noticed) {
    rig_set(a, "k", "old");
    rig_expect(b, "k", "old", "l2");
    ck_assert_int_eq(pln_memory_link(memory, b, false), PLN_OK);
    rig_set(a, "k", "new");
    atomic_fetch_add(&now, 1001);
    rig_expect(b, "k", "new", "l2");
    ck_assert_int_eq(pln_memory_link(memory, b, true), PLN_OK);
    rig_expect(b, "k", "new", "l2");
    ck_assert_uint_eq(rig_stat(b, "bus_losses"), 1);
    ck_assert_uint_eq(rig_stat(a, "bus_losses"), 0);
}
END_TEST

START_TEST(held_messages_are_delivered_by_hand) {
    size_t delivered = 99;
    rig_set(a, "k", "old");
    rig_expect(b, "k", "old", "l2");
    set_faults(NULL, (struct pln_memory_faults){.hold = true});
    rig_set(a, "k", "new");
    rig_expect(b, "k", "old", "l1");
    ck_assert_uint_eq(stats_now().waiting, 1);
    ck_assert_int_eq(pln_memory_deliver(memory, NULL, 1, &delivered), PLN_OK);
    ck_assert_uint_eq(delivered, 1);
    rig_expect(b, "k", "new", "l2");
}
END_TEST

START_TEST(a_cache_that_is_cut_off_serves_what_it_has_as_stale_until_it_is_healed) {
    struct pln_result result;
    rig_set(a, "k", "v");
    ck_assert_int_eq(pln_memory_cut(memory, NULL, PLN_MEMORY_FAILS), PLN_OK);
    rig_expect(a, "k", "v", "l1");
    atomic_fetch_add(&now, 1001); /* longer than it may be in doubt */
    rig_expect(a, "k", "v", "stale");
    ck_assert_int_eq(pln_get(a, pln_key("other"), NULL, &result), PLN_EL2DOWN);
    ck_assert_ptr_nonnull(strstr(pln_error_text(), "memory:fleet"));
    ck_assert_uint_eq(rig_stat(a, "bus_ok"), 0);
    ck_assert_int_eq(pln_memory_cut(memory, NULL, PLN_MEMORY_HANGS), PLN_OK);
    ck_assert_int_eq(pln_get(a, pln_key("other"), NULL, &result), PLN_ETIMEOUT);
    ck_assert_int_eq(pln_memory_cut(memory, NULL, PLN_MEMORY_UNCUT), PLN_OK);
    rig_expect(a, "k", "v", "l1"); /* nothing was said meanwhile */
    ck_assert_uint_eq(rig_stat(a, "bus_ok"), 1);
}
END_TEST

START_TEST(a_write_whose_outcome_is_unknown_is_kept_in_no_l1) {
    rig_set(a, "k", "old");
    set_faults(a, (struct pln_memory_faults){.delay_ms = 10000, .carried_out = 1});
    ck_assert_int_eq(pln_set(a, pln_key("k"), pln_key("new"), NULL), PLN_ETIMEOUT);
    ck_assert_int_eq(pln_memory_faults(memory, NULL, NULL), PLN_OK);
    rig_expect(a, "k", "new", "l2"); /* it was carried out, and a did not know */
    set_faults(a, (struct pln_memory_faults){.delay_ms = 10000});
    ck_assert_int_eq(pln_set(a, pln_key("k"), pln_key("newer"), NULL), PLN_ETIMEOUT);
    ck_assert_int_eq(pln_memory_faults(memory, NULL, NULL), PLN_OK);
    rig_expect(a, "k", "new", "l2");
}
END_TEST

START_TEST(after_a_restart_that_forgets_nothing_old_is_served) {
    size_t evicted = 99;
    rig_set(a, "k", "v");
    rig_expect(b, "k", "v", "l2");
    pln_memory_forget(memory);
    rig_expect(a, "k", NULL, "miss");
    rig_expect(b, "k", NULL, "miss");
    rig_set(a, "k", "w");
    ck_assert_int_eq(pln_memory_evict(memory, 1, &evicted), PLN_OK);
    ck_assert_uint_eq(evicted, 1);
    rig_expect(a, "k", "w", "l1"); /* nobody is told of an eviction */
    rig_expect(b, "k", NULL, "miss");
}
END_TEST

/* In a child ck_assert would speak for the parent. */
static int use_in_child(void) {
    struct pln_options options = {.redis = "memory:fleet", .name = "test", .clock = read_clock};
    struct pln_cache *cache;
    struct pln_result result;
    char text[16];
    pln_memory_faults(memory, NULL, NULL);
    pln_memory_cut(memory, NULL, PLN_MEMORY_FAILS); /* of the parent's caches none is here yet */
    pln_memory_cut(memory, NULL, PLN_MEMORY_UNCUT);
    if (pln_memory_link(memory, a, false) != PLN_OK || pln_memory_link(memory, a, true) != PLN_OK) {
        return 1;
    }
    if (pln_open(&options, &cache) != PLN_OK) {
        return 2;
    }
    if (pln_get_copy(cache, pln_key("k"), NULL, text, sizeof text, &result) != PLN_OK) {
        return 3;
    }
    struct pln_memory_faults late = {.message_delay_ms = 1};
    struct pln_cache *other;
    if (pln_open(&options, &other) != PLN_OK) {
        return 4;
    }
    pln_memory_faults(memory, NULL, &late);
    pln_set(cache, pln_key("k"), pln_key("child's"), NULL);
    for (pln_ns deadline = pln_deadline(10000); stats_now().waiting > 0; sched_yield()) {
        if (pln_clock_precise() > deadline) {
            return 5;
        }
    }
    pln_close(other);
    pln_close(cache);
    return 0;
}

START_TEST(a_child_closes_what_its_parent_opened_and_the_parent_goes_on) {
    int status = 1;
    rig_set(a, "k", "v");
    pid_t child = N_FORKS > 0 ? fork() : -1;
    if (child == 0) {
        int result = use_in_child();
        pln_close(a);
        pln_close(b);
        pln_memory_close(memory);
        _exit(result);
    }
    if (child > 0) {
        ck_assert_int_eq(waitpid(child, &status, 0), child);
        ck_assert_msg(WIFEXITED(status) && WEXITSTATUS(status) == 0, "status %d", status);
    }
    rig_expect(b, "k", "v", "l2");
}
END_TEST

static void *keep_setting(void *arg) {
    atomic_bool *has_ended = arg;
    while (!atomic_load(has_ended)) {
        rig_set(a, "busy", "v");
    }
    return NULL;
}

START_TEST(a_child_has_a_copy_of_its_own_whatever_the_parent_was_doing) {
    atomic_bool has_ended = false;
    pthread_t thread;
    rig_set(a, "k", "v");
    set_faults(NULL, (struct pln_memory_faults){.message_random_ms = 1});
    pthread_create(&thread, NULL, keep_setting, &has_ended);
    for (int i = 0; i < N_FORKS; i++) {
        int status = 1;
        pid_t child = fork();
        if (child == 0) {
            _exit(use_in_child());
        }
        ck_assert_int_eq(waitpid(child, &status, 0), child);
        ck_assert_msg(WIFEXITED(status) && WEXITSTATUS(status) == 0, "fork %d: status %d", i,
                      status);
    }
    atomic_store(&has_ended, true);
    pthread_join(thread, NULL);
    await_delivery();
    rig_expect(b, "k", "v", "l2");
}
END_TEST

int main(void) {
    Suite *suite = suite_create("memory");
    TCase *tests = tcase_create("memory");
    suite_add_tcase(suite, tests);
    tcase_add_checked_fixture(tests, setup, teardown);
    tcase_set_timeout(tests, 60); /* sanitizers fork slowly */
    tcase_add_test(tests, caches_that_name_the_same_memory_share_it);
    tcase_add_test(tests, what_is_stored_lives_as_long_as_somebody_uses_it);
    tcase_add_test(tests, a_wrong_name_fault_or_cache_is_told);
    tcase_add_loop_test(
        tests, late_doubled_and_reordered_messages_end_with_the_same_value_everywhere, 0, 6);
    tcase_add_test(tests, after_a_lost_message_an_old_value_ends_with_its_life_in_l1);
    tcase_add_test(tests, what_is_lost_with_the_link_is_noticed);
    tcase_add_test(tests, held_messages_are_delivered_by_hand);
    tcase_add_test(tests, a_cache_that_is_cut_off_serves_what_it_has_as_stale_until_it_is_healed);
    tcase_add_test(tests, a_write_whose_outcome_is_unknown_is_kept_in_no_l1);
    tcase_add_test(tests, after_a_restart_that_forgets_nothing_old_is_served);
    tcase_add_test(tests, a_child_closes_what_its_parent_opened_and_the_parent_goes_on);
    tcase_add_test(tests, a_child_has_a_copy_of_its_own_whatever_the_parent_was_doing);
    return rig_run(suite);
}
