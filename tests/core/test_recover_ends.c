/* SPDX-License-Identifier: MIT
 * test_recover_ends.c - core/recover.c over a server in memory: its bounds, its races with what is
 * newer, close and fork. */
#include "recover_rig.h"

#include <stdio.h>
#include <sys/wait.h>
#include <unistd.h>

/* ---- bounds ---- */

START_TEST(a_set_of_a_key_that_is_denied_since_is_a_delete) {
    rig_set(A, "k", "old");
    rig.now += LONG;
    cut(true);
    fail_set("k", "secret");
    rig.now += LONG;
    terms.is_denied = true;
    rig_policy(&rig, A, rig_rule("k", &terms, 0));
    heal();
    rig_expect(B, "k", NULL, "miss");
}
END_TEST

START_TEST(past_the_bound_all_that_waits_becomes_one_clear) {
    char key[16];
    recover_reopen(4, 0);
    rig_set(A, "deleted", "old");
    rig_set(A, "bystander", "v");
    rig_expect(B, "deleted", "old", "l2");
    rig_expect(B, "bystander", "v", "l2");
    cut(true);
    for (int i = 0; i < 4; i++) {
        snprintf(key, sizeof key, "k%d", i);
        fail_set(key, "v");
    }
    ck_assert_uint_eq(rig_stat(A, "recovery_waiting"), 4);
    fail_delete("deleted");
    ck_assert_uint_eq(rig_stat(A, "recovery_waiting"), 1);
    ck_assert_uint_eq(rig_stat(A, "recovery_overflows"), 1);
    fail_delete("k1"); /* the clear does that, too */
    ck_assert_uint_eq(rig_stat(A, "recovery_waiting"), 1);
    heal();
    rig_expect(B, "deleted", NULL, "miss");
    rig_expect(B, "bystander", NULL, "miss");
}
END_TEST

START_TEST(a_value_past_the_bound_of_bytes_is_kept_as_a_delete) {
    char *large = calloc(1, 8001);
    recover_reopen(0, 1 << 16); /* an eighth: 8192 */
    rig_set(A, "k", "old");
    rig_set(A, "small", "old");
    rig.now += LONG;
    cut(true);
    memset(large, 'x', 8000);
    fail_set("k", large);
    fail_set("small", "new");
    ck_assert_uint_eq(rig_stat(A, "recovery_overflows"), 0);
    heal();
    rig_expect(B, "k", NULL, "miss");
    rig_expect(B, "small", "new", "l2");
    free(large);
}
END_TEST

START_TEST(a_clear_swallows_what_is_older_and_not_what_is_newer) {
    rig_set(A, "k", "old");
    rig.now += LONG;
    cut(true);
    fail_set("k", "older");
    ck_assert_int_eq(pln_clear(A), PLN_EL2DOWN);
    ck_assert_uint_eq(rig_stat(A, "recovery_waiting"), 1);
    fail_set("l", "newer");
    heal();
    rig_expect(B, "k", NULL, "miss");
    rig_expect(B, "l", "newer", "l2");
    cut(true);
    fail_set("k", "older");
    cut(false);
    ck_assert_int_eq(pln_clear(A), PLN_OK);
    ck_assert_uint_eq(rig_stat(A, "recovery_waiting"), 0);
    rig_expect(B, "k", NULL, "miss");
}
END_TEST

static void *finish(void *arg) {
    pln_recovery_finish(arg);
    return NULL;
}

static int end_k(int how) {
    switch (how) {
    case 0:
        return pln_clear(A);
    case 1:
        return pln_delete(A, pln_key("k"));
    case 2:
        return pln_invalidate_prefix(A, pln_key("k"));
    default:
        return pln_invalidate_pattern(A, pln_key("*"));
    }
}

START_TEST(nothing_older_comes_back_behind_what_has_ended_it_and_returned) {
    pthread_t thread;
    for (int i = 0; i < 60; i++) {
        cut(true);
        fail_set("k", "v");
        cut(false);
        /* commands of both take turns as chance has it */
        pln_l2_mem_faults(rig.server, A->l2,
                          &(struct pln_memory_faults){.delay_random_ms = 3, .seed = (uint64_t) i});
        uint64_t commands = rig_stat(A, "l2_commands");
        pthread_create(&thread, NULL, finish, A->recovery);
        if (i % 3 > 0) {
            rig_await(A, "l2_commands", commands + 1); /* it is under way */
        }
        ck_assert_int_eq(end_k(i % 4), PLN_OK);
        pthread_join(thread, NULL);
        pln_l2_mem_faults(rig.server, A->l2, &(struct pln_memory_faults){0});
        await_done(A);
        rig_expect(B, "k", NULL, "miss");
    }
}
END_TEST

/* ---- nothing is told that L2 did not take ---- */

START_TEST(what_l2_does_not_take_is_not_told) {
    rig_set(A, "k", "old");
    rig_expect(B, "k", "old", "l2");
    rig.now += LONG;
    pln_l2_mem_faults(rig.server, A->l2, &(struct pln_memory_faults){.out_of_memory = true});
    ck_assert_int_eq(set(A, "k", "new", NULL), PLN_EL2);
    uint64_t heard = rig_stat(B, "bus_received");
    uint64_t commands = rig_stat(A, "l2_commands");
    pln_ns deadline = pln_deadline(10000);
    while (rig_stat(A, "l2_commands") < commands + 2) { /* tried again, and again in vain */
        ck_assert(pln_clock_precise() < deadline);
        pln_recovery_run(A->recovery);
    }
    ck_assert_uint_eq(rig_stat(B, "bus_received"), heard);
    rig_expect(B, "k", "old", "l1");
    pln_l2_mem_faults(rig.server, A->l2, &(struct pln_memory_faults){0});
    await_done(A);
    rig_expect(B, "k", "new", "l2");
}
END_TEST

/* ---- the end, and a child ---- */

static _Atomic int n_lost_lines;

static void watch_log(void *arg, int level, const char *line) {
    (void) arg;
    (void) level;
    if (strstr(line, "Redis did not take are lost with the cache: 2") != NULL) {
        atomic_fetch_add(&n_lost_lines, 1);
    }
}

START_TEST(nothing_is_kept_where_the_option_says_none) {
    recover_reopen(PLN_NONE, 0);
    cut(true);
    ck_assert_int_eq(pln_delete(A, pln_key("k")), PLN_EL2DOWN);
    ck_assert_ptr_null(strstr(pln_error_text(), "kept"));
    ck_assert_int_eq(pln_clear(A), PLN_EL2DOWN);
    ck_assert_uint_eq(rig_stat(A, "recovery_waiting"), 0);
    ck_assert_uint_eq(rig_stat(A, "recovery_kept"), 0);
    struct pln_options options = {0};
    ck_assert_int_eq(pln_options_set(&options, "recovery", "none"), PLN_OK);
    ck_assert(options.recovery == PLN_NONE);
    ck_assert_int_eq(pln_options_set(&options, "recovery", "500"), PLN_OK);
    ck_assert_uint_eq(options.recovery, 500);
    ck_assert_int_eq(pln_options_set(&options, "recovery", "-1"), PLN_EINVAL);
}
END_TEST

START_TEST(close_tries_once_and_says_what_is_lost) {
    rig_set(A, "k", "old");
    rig_expect(B, "k", "old", "l2");
    cut(true);
    fail_delete("k");
    cut(false);
    pln_close(A);
    A = NULL;
    rig_expect(B, "k", NULL, "miss");
    B->host.log = watch_log;
    pln_l2_mem_cut(B->l2, true);
    ck_assert_int_eq(pln_delete(B, pln_key("k")), PLN_EL2DOWN);
    ck_assert_int_eq(pln_delete(B, pln_key("l")), PLN_EL2DOWN);
    pln_close(B);
    B = NULL;
    ck_assert_int_eq(atomic_load(&n_lost_lines), 1);
}
END_TEST

START_TEST(close_does_not_wait_for_what_is_on_its_way) {
    rig_expect(B, "k", NULL, "miss");
    cut(true);
    fail_set("k", "v");
    pln_l2_mem_hold(A->l2, true);
    rig_set(B, "other", "v");
    cut(false);
    uint64_t heard = rig_stat(B, "bus_received");
    pln_close(A);
    A = NULL;
    ck_assert_uint_eq(rig_stat(B, "bus_received"), heard + 1); /* a delete: an old copy goes */
    rig_expect(B, "k", NULL, "miss");
}
END_TEST

#if defined __SANITIZE_THREAD__ || defined __SANITIZE_ADDRESS__
enum { MAY_FORK = 0 };
#else
enum { MAY_FORK = 1 };
#endif

START_TEST(a_child_leaves_what_waits_to_its_parent) {
    cut(true);
    fail_delete("k");
    if (MAY_FORK) {
        int status;
        pid_t child = fork();
        if (child == 0) {
            bool is_empty = rig_stat(A, "recovery_waiting") == 0;
            bool deletes = pln_delete(A, pln_key("l")) ==
                           PLN_OK; /* its own client is not cut off */
            _exit(is_empty && deletes ? 0 : 1);
        }
        ck_assert_int_eq(waitpid(child, &status, 0), child);
        ck_assert_int_eq(status, 0);
    }
    ck_assert_uint_eq(rig_stat(A, "recovery_waiting"), 1);
    heal();
}
END_TEST

/* ---- many threads ---- */

enum { N_WRITERS = 4, N_ROUNDS = 3000, N_KEYS = 8 };

static _Atomic int n_writing;

struct writer {
    pthread_t thread;
    int number;
    char last[N_KEYS][16]; /* "" where the last was a delete */
};

/* Each has keys of its own, and knows what it did last, whatever became of it. */
static void *write_on(void *arg) {
    struct writer *writer = arg;
    char key[16];
    for (int i = 0; i < N_ROUNDS; i++) {
        int which = i % N_KEYS;
        snprintf(key, sizeof key, "k%d-%d", writer->number, which);
        if ((i / N_KEYS + writer->number) % 3 == 0) {
            (void) pln_delete(A, pln_key(key));
            writer->last[which][0] = 0;
        } else {
            snprintf(writer->last[which], 16, "%d", i);
            (void) set(A, key, writer->last[which], NULL);
        }
    }
    atomic_fetch_sub(&n_writing, 1);
    return NULL;
}

START_TEST(no_old_value_is_left_however_often_commands_fail_amid_writers) {
    struct writer writers[N_WRITERS] = {0};
    struct pln_result result;
    char key[16];
    atomic_store(&n_writing, N_WRITERS);
    cut(true);
    for (int i = 0; i < N_WRITERS; i++) {
        writers[i].number = i;
        pthread_create(&writers[i].thread, NULL, write_on, &writers[i]);
    }
    for (int i = 0; atomic_load(&n_writing) > 0; i++) {
        cut(i % 2 == 0);
        pln_recovery_finish(A->recovery); /* at once, whatever the pause */
        rig.now += 20;
        sched_yield();
    }
    cut(false);
    for (int i = 0; i < N_WRITERS; i++) {
        pthread_join(writers[i].thread, NULL);
    }
    await_done(A);
    ck_assert_uint_gt(rig_stat(A, "recovery_kept"), 0);
    for (int i = 0; i < N_WRITERS * N_KEYS * 2; i++) {
        const char *last = writers[i % N_WRITERS].last[i / N_WRITERS % N_KEYS];
        struct pln_cache *cache = i < N_WRITERS * N_KEYS ? A : B;
        snprintf(key, sizeof key, "k%d-%d", i % N_WRITERS, i / N_WRITERS % N_KEYS);
        int status = pln_get(cache, pln_key(key), NULL, &result);
        if (status != PLN_MISS) { /* in doubt it was deleted */
            ck_assert_int_eq(status, PLN_OK);
            ck_assert_msg(result.len == strlen(last) && result.len > 0 &&
                              memcmp(pln_value_data(result.value), last, result.len) == 0,
                          "%s is '%.*s', not '%s'", key, (int) result.len,
                          (const char *) pln_value_data(result.value), last);
        }
        pln_release(cache, result.value);
    }
}
END_TEST

int main(void) {
    Suite *suite = suite_create("recover");
    TCase *tests = tcase_create("recover");
    suite_add_tcase(suite, tests);
    tcase_add_checked_fixture(tests, recover_setup, recover_teardown);
    tcase_set_timeout(tests, 60);
    tcase_add_test(tests, a_set_of_a_key_that_is_denied_since_is_a_delete);
    tcase_add_test(tests, past_the_bound_all_that_waits_becomes_one_clear);
    tcase_add_test(tests, a_value_past_the_bound_of_bytes_is_kept_as_a_delete);
    tcase_add_test(tests, a_clear_swallows_what_is_older_and_not_what_is_newer);
    tcase_add_test(tests, nothing_older_comes_back_behind_what_has_ended_it_and_returned);
    tcase_add_test(tests, what_l2_does_not_take_is_not_told);
    tcase_add_test(tests, nothing_is_kept_where_the_option_says_none);
    tcase_add_test(tests, close_tries_once_and_says_what_is_lost);
    tcase_add_test(tests, close_does_not_wait_for_what_is_on_its_way);
    tcase_add_test(tests, a_child_leaves_what_waits_to_its_parent);
    tcase_add_test(tests, no_old_value_is_left_however_often_commands_fail_amid_writers);
    return rig_run(suite);
}
