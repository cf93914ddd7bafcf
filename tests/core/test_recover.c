/* SPDX-License-Identifier: MIT
 * test_recover.c - core/recover.c over a server in memory: what failed is kept, carried out later,
 * and gives way to what is newer. */
#include "recover_rig.h"

#include <sched.h>
#include <stdio.h>

/* Both, as with a server that is away. */
static void leave(void) {
    cut(true);
    pln_l2_mem_part(A->l2);
}

static void come_back(void) {
    cut(false);
    pln_l2_mem_join(A->l2);
}

START_TEST(a_delete_that_failed_is_carried_out_and_told) {
    rig_set(A, "k", "old");
    rig_expect(B, "k", "old", "l2");
    cut(true);
    fail_delete("k");
    ck_assert_ptr_nonnull(strstr(pln_error_text(), "; kept, and tried again later"));
    ck_assert_uint_eq(rig_stat(A, "recovery_waiting"), 1);
    rig_expect(B, "k", "old", "l1"); /* nobody has told it */
    rig.now += LONG;
    heal();
    rig_expect(B, "k", NULL, "miss");
    ck_assert_uint_eq(rig_stat(A, "recovery_kept"), 1);
    ck_assert_uint_eq(rig_stat(A, "recovery_done"), 1);
    ck_assert_uint_eq(rig_stat(A, "recovery_dropped"), 0);
}
END_TEST

START_TEST(a_set_that_failed_takes_the_place_of_an_older_value_with_what_is_left_of_its_life) {
    struct pln_result result;
    rig_set(A, "k", "old");
    rig_expect(B, "k", "old", "l2");
    rig.now += LONG;
    cut(true);
    fail_set("k", "new");
    rig.now += LONG;
    heal();
    ck_assert_int_eq(pln_get(B, pln_key("k"), NULL, &result), PLN_OK);
    ck_assert_mem_eq(pln_value_data(result.value), "new", 3);
    ck_assert_int_eq(result.age_ms, LONG);
    ck_assert_int_eq(result.left_ms, 600000 - LONG);
    pln_release(B, result.value);
}
END_TEST

START_TEST(the_own_copy_of_what_was_read_meanwhile_goes_too) {
    rig_set(A, "k", "old");
    rig.now += LONG;
    cut(true);
    fail_set("k", "new");
    cut(false);
    rig_expect(A, "k", "old", "l2"); /* nothing was told yet, and the caller knows of it */
    await_done(A);
    rig_expect(A, "k", "new", "l2");
}
END_TEST

START_TEST(an_expire_that_failed_makes_it_stale_later) {
    terms.stale_ms = 5000;
    rig_policy(&rig, A, rig_rule("{k}", &terms, 0));
    rig_policy(&rig, B, rig_rule("{k}", &terms, 0));
    rig_set(A, "k", "v");
    rig_expect(B, "k", "v", "l2");
    cut(true);
    ck_assert_int_eq(pln_expire(A, pln_key("k")), PLN_EL2DOWN);
    rig.now += LONG;
    rig_expect(B, "k", "v", "l1");
    heal();
    rig_expect(B, "k", "v", "stale");
}
END_TEST

START_TEST(a_tag_and_a_clear_that_failed_are_carried_out) {
    ck_assert_int_eq(set(A, "tagged", "v", "t"), PLN_OK);
    rig_set(A, "plain", "v");
    cut(true);
    ck_assert_int_eq(pln_invalidate_tag(A, pln_key("t")), PLN_EL2DOWN);
    heal();
    rig_expect(B, "tagged", NULL, "miss");
    rig_expect(B, "plain", "v", "l2");
    cut(true);
    ck_assert_int_eq(pln_clear(A), PLN_EL2DOWN);
    heal();
    rig_expect(B, "plain", NULL, "miss");
}
END_TEST

START_TEST(one_is_kept_for_a_key_the_last) {
    rig_set(A, "k", "old");
    rig.now += LONG;
    cut(true);
    fail_delete("k");
    fail_set("k", "one");
    fail_set("k", "two");
    ck_assert_uint_eq(rig_stat(A, "recovery_waiting"), 1);
    ck_assert_uint_eq(rig_stat(A, "recovery_dropped"), 2);
    heal();
    rig_expect(B, "k", "two", "l2");
}
END_TEST

START_TEST(a_later_write_that_succeeds_ends_what_waits_for_its_key) {
    cut(true);
    fail_set("k", "old");
    fail_set("gone", "old");
    cut(false);
    rig_set(A, "k", "new");
    ck_assert_int_eq(pln_delete(A, pln_key("gone")), PLN_OK);
    ck_assert_uint_eq(rig_stat(A, "recovery_waiting"), 0);
    rig_expect(B, "k", "new", "l2");
    rig_expect(B, "gone", NULL, "miss");
}
END_TEST

START_TEST(a_later_write_that_is_refused_leaves_what_waits) {
    struct pln_set_options xx = {.flags = PLN_SET_XX};
    cut(true);
    fail_set("k", "v");
    ck_assert_int_eq(pln_set(A, pln_key("k"), pln_key("w"), &xx), PLN_EL2DOWN);
    ck_assert_ptr_null(strstr(pln_error_text(), "kept"));
    cut(false);
    ck_assert_int_eq(pln_set(A, pln_key("k"), pln_key("w"), &xx), PLN_NOT_STORED);
    ck_assert_uint_eq(rig_stat(A, "recovery_kept"), 1);
    await_done(A);
    rig_expect(B, "k", "v", "l2");
}
END_TEST

START_TEST(an_expire_after_a_delete_or_set_that_waits_deletes) {
    rig_set(A, "k", "old");
    rig_set(A, "l", "old");
    rig.now += LONG;
    cut(true);
    fail_delete("k");
    fail_set("l", "new");
    ck_assert_int_eq(pln_expire(A, pln_key("k")), PLN_EL2DOWN);
    rig.now += LONG;
    cut(false);
    ck_assert_int_eq(pln_expire(A, pln_key("l")), PLN_OK);
    await_done(A);
    rig_expect(B, "k", NULL, "miss");
    rig_expect(B, "l", NULL, "miss");
}
END_TEST

START_TEST(what_another_wrote_since_wins_over_each) {
    rig_set(A, "set", "old");
    rig_set(A, "delete", "old");
    rig_set(A, "expire", "old");
    cut(true);
    fail_set("set", "ours");
    fail_delete("delete");
    ck_assert_int_eq(pln_expire(A, pln_key("expire")), PLN_EL2DOWN);
    rig.now += LONG;
    rig_set(B, "set", "theirs");
    rig_set(B, "delete", "theirs");
    rig_set(B, "expire", "theirs");
    heal();
    rig_expect(A, "set", "theirs", "l2");
    rig_expect(A, "delete", "theirs", "l2");
    rig_expect(A, "expire", "theirs", "l2");
    ck_assert_uint_eq(rig_stat(A, "recovery_dropped"), 3);
}
END_TEST

START_TEST(of_two_at_about_the_same_time_neither_stays) {
    cut(true);
    fail_set("k", "ours");
    rig.now += 1;
    rig_set(B, "k", "theirs");
    heal();
    rig_expect(A, "k", NULL, "miss");
    rig_expect(B, "k", NULL, "miss");
}
END_TEST

START_TEST(a_copy_that_is_older_than_what_was_loaded_meanwhile_goes_all_the_same) {
    struct pln_hashed key;
    struct pln_l2_lease lease;
    struct pln_l2_item item = {.value = pln_key("new"), .fresh_left = 9000, .life_left = 9000};
    rig_set(A, "k", "old");
    rig_expect(B, "k", "old", "l2");
    cut(true);
    fail_delete("k");
    rig.now += LONG;
    ck_assert_uint_eq(pln_l2_mem_evict(rig.server, 1), 1); /* nobody is told ... */
    pln_cache_key(B, pln_key("k"), &key);
    ck_assert_int_eq(pln_l2_lease(B->l2, &key, 1000, PLN_FOREVER, &lease), PLN_OK);
    ck_assert_int_eq(pln_l2_commit(B->l2, &key, &lease, &item, PLN_FOREVER),
                     PLN_OK); /* ... of it */
    rig_expect(B, "k", "old", "l1");
    heal();
    rig_expect(B, "k", "new", "l2");
}
END_TEST

static void *get_k1(void *arg) {
    struct pln_result result;
    ck_assert_int_eq(pln_get(arg, pln_key("k:1"), NULL, &result), PLN_OK);
    pln_release(arg, result.value);
    return NULL;
}

START_TEST(a_load_that_began_before_a_delete_is_older_however_late_it_ends) {
    pthread_t thread;
    rig_policy(&rig, B, rig_rule("k:{id}", &terms, PLN_RULE_LOAD));
    pthread_mutex_lock(&rig.gate);
    pthread_create(&thread, NULL, get_k1, B);
    rig_await(B, "loads", 1);
    pln_ns deadline = pln_deadline(10000);
    while (atomic_load(&rig.n_loads) == 0) { /* it has read its source ... */
        ck_assert(pln_clock_precise() < deadline);
    }
    rig.now += LONG;
    cut(true);
    fail_delete("k:1"); /* ... which changes, and the lease is not voided ... */
    rig.now += LONG;
    pthread_mutex_unlock(&rig.gate);
    pthread_join(thread, NULL); /* ... so the old value is stored */
    rig_expect(B, "k:1", "loaded 1", "l1");
    heal();
    rig_expect(B, "k:1", "loaded 2", "loaded");
}
END_TEST

/* ---- where there is no value ---- */

START_TEST(a_set_brings_a_key_back_that_nobody_can_have_deleted) {
    cut(true);
    ck_assert_int_eq(set(A, "k", "v", "t"), PLN_EL2DOWN);
    rig.now += LONG;
    rig_set(B, "other", "v");
    ck_assert_int_eq(pln_invalidate_tag(B, pln_key("another")), PLN_OK);
    heal();
    rig_expect(B, "k", "v", "l2");
    ck_assert_int_eq(pln_invalidate_tag(B, pln_key("t")), PLN_OK);
    rig_expect(B, "k", NULL, "miss"); /* it has its tags */
}
END_TEST

START_TEST(a_set_brings_no_key_back_whose_deletion_was_heard) {
    cut(true);
    fail_set("deleted", "v");
    ck_assert_int_eq(set(A, "tagged", "v", "t"), PLN_EL2DOWN);
    ck_assert_int_eq(pln_delete(B, pln_key("deleted")), PLN_OK);
    ck_assert_int_eq(pln_invalidate_tag(B, pln_key("t")), PLN_OK);
    heal();
    rig_expect(B, "deleted", NULL, "miss");
    rig_expect(B, "tagged", NULL, "miss");
    cut(true);
    fail_set("cleared", "v");
    ck_assert_int_eq(pln_clear(B), PLN_OK);
    heal();
    rig_expect(B, "cleared", NULL, "miss");
}
END_TEST

static void *set_k(void *arg) {
    (void) set(arg, "k", "v", NULL);
    return NULL;
}

START_TEST(a_set_brings_no_key_back_whose_deletion_was_heard_while_it_was_tried) {
    pthread_t thread;
    pln_l2_mem_set_cut(rig.server, A->l2, PLN_MEMORY_HANGS);
    pthread_create(&thread, NULL, set_k, A);
    rig_await(A, "l2_commands", 1);
    ck_assert_int_eq(pln_delete(B, pln_key("k")), PLN_OK);
    pthread_join(thread, NULL);
    ck_assert_uint_eq(rig_stat(A, "recovery_kept"), 1);
    heal();
    rig_expect(B, "k", NULL, "miss");
}
END_TEST

/* Tries what waits at least once more. */
static void look_again(void) {
    uint64_t commands = rig_stat(A, "l2_commands");
    pln_ns deadline = pln_deadline(10000);
    while (rig_stat(A, "l2_commands") == commands) {
        ck_assert(pln_clock_precise() < deadline);
        pln_recovery_run(A->recovery);
    }
}

static void *set_new_k(void *arg) {
    (void) pln_set(arg, pln_key("k"), pln_key("w"), &(struct pln_set_options){.flags = PLN_SET_NX});
    return NULL;
}

START_TEST(nor_where_it_was_heard_while_another_write_of_the_key_was_tried_in_vain) {
    pthread_t thread;
    cut(true);
    fail_set("k", "v");
    pln_l2_mem_set_cut(rig.server, A->l2, PLN_MEMORY_HANGS);
    uint64_t commands = rig_stat(A, "l2_commands");
    pthread_create(&thread, NULL, set_new_k, A);
    rig_await(A, "l2_commands", commands + 1);
    ck_assert_int_eq(pln_delete(B, pln_key("k")), PLN_OK);
    pthread_join(thread, NULL);
    heal();
    rig_expect(B, "k", NULL, "miss");
}
END_TEST

START_TEST(a_set_brings_no_key_back_whose_deletion_is_on_its_way) {
    cut(true);
    fail_set("k", "v");
    pln_l2_mem_hold(A->l2, true);
    ck_assert_int_eq(pln_delete(B, pln_key("k")), PLN_OK);
    cut(false);
    look_again();
    rig_expect(B, "k", NULL, "miss");
    pln_l2_mem_deliver(A->l2, 1);
    await_done(A);
    rig_expect(B, "k", NULL, "miss");
}
END_TEST

START_TEST(a_set_waits_for_what_is_on_its_way_and_does_not_wait_for_ever) {
    cut(true);
    fail_set("early", "v");
    pln_l2_mem_hold(A->l2, true);
    rig_set(B, "other", "v");
    cut(false);
    look_again();
    ck_assert_uint_eq(rig_stat(A, "recovery_waiting"), 1);
    pln_l2_mem_hold(A->l2, false);
    await_done(A);
    rig_expect(B, "early", "v", "l2");
    cut(true);
    fail_set("late", "v");
    pln_l2_mem_hold(A->l2, true);
    rig_set(B, "other", "w");
    heal();
    rig_expect(B, "late", NULL, "miss");
}
END_TEST

START_TEST(sets_bring_their_keys_back_one_after_the_other) {
    char key[16];
    cut(true);
    for (int i = 0; i < 100; i++) {
        snprintf(key, sizeof key, "k%d", i);
        fail_set(key, "v");
    }
    heal();
    for (int i = 0; i < 100; i++) {
        snprintf(key, sizeof key, "k%d", i);
        rig_expect(B, key, "v", "l2");
    }
}
END_TEST

START_TEST(a_set_brings_no_key_back_after_a_gap_unless_it_was_repaired) {
    pln_recovery_down(A->recovery);
    cut(true);
    fail_set("k", "v");
    pln_recovery_up(A->recovery, false);
    heal();
    rig_expect(B, "k", NULL, "miss");
    pln_recovery_down(A->recovery);
    cut(true);
    fail_set("k", "v");
    pln_recovery_up(A->recovery, true);
    heal();
    rig_expect(B, "k", "v", "l2");
}
END_TEST

START_TEST(a_set_does_not_void_the_tags_that_were_dropped_in_a_gap) {
    ck_assert_int_eq(set(A, "k", "old", "u"), PLN_OK);
    rig.now += LONG;
    leave();
    ck_assert_int_eq(set(A, "k", "new", "t"), PLN_EL2DOWN);
    ck_assert_int_eq(pln_invalidate_tag(B, pln_key("t")), PLN_OK);
    come_back();
    await_done(A);
    rig_expect(B, "k", NULL, "miss");
}
END_TEST

START_TEST(a_set_whose_life_is_over_deletes_what_it_was_to_replace) {
    struct pln_set_options brief = {.ttl_ms = 5000};
    rig_set(A, "k", "old");
    rig.now += LONG;
    cut(true);
    ck_assert_int_eq(pln_set(A, pln_key("k"), pln_key("new"), &brief), PLN_EL2DOWN);
    rig.now += 5000;
    heal();
    struct pln_memory_stats stats;
    pln_l2_mem_stats(rig.server, &stats);
    ck_assert_uint_eq(stats.values, 0);
}
END_TEST

START_TEST(what_a_rule_lets_be_written_to_l1_alone_reaches_l2_later) {
    terms.local_writes = true;
    rig_policy(&rig, A, rig_rule("{k}", &terms, 0));
    rig_set(A, "k", "old");
    rig.now += LONG;
    leave();
    rig_set(A, "k", "here");
    rig_expect(A, "k", "here", "l1");
    come_back();
    await_done(A);
    rig_expect(B, "k", "here", "l2");
    rig_expect(A, "k", "here", "l2");
}
END_TEST

/* ---- which failures ---- */

START_TEST(what_timed_out_is_tried_again_on_a_link_that_lives) {
    rig_set(A, "k", "old");
    rig_expect(B, "k", "old", "l2");
    pln_l2_mem_faults(rig.server, A->l2, &(struct pln_memory_faults){.delay_ms = 1000});
    ck_assert_int_eq(pln_delete(A, pln_key("k")), PLN_ETIMEOUT);
    pln_l2_mem_faults(rig.server, A->l2, &(struct pln_memory_faults){0});
    pln_ns deadline = pln_deadline(10000); /* by the worker, without help */
    while (rig_stat(A, "recovery_waiting") > 0) {
        ck_assert(pln_clock_precise() < deadline);
        sched_yield();
    }
    rig_expect(B, "k", NULL, "miss");
}
END_TEST

START_TEST(refusals_that_pass_are_kept_and_the_others_not) {
    pln_l2_mem_faults(rig.server, A->l2, &(struct pln_memory_faults){.out_of_memory = true});
    ck_assert_int_eq(set(A, "k", "v", NULL), PLN_EL2);
    pln_l2_mem_faults(rig.server, A->l2, &(struct pln_memory_faults){.read_only = true});
    ck_assert_int_eq(pln_delete(A, pln_key("l")), PLN_EL2);
    ck_assert_uint_eq(rig_stat(A, "recovery_kept"), 2);
    ck_assert_int_eq(pln_set(A, pln_key(""), pln_key("v"), NULL), PLN_EINVAL);
    pln_fail(PLN_EL2, "l2: redis at x: set: NOPERM no permissions to run the 'evalsha' command");
    ck_assert(!pln_l2_may_pass(PLN_EL2));
    pln_fail(PLN_EL2, "l2: redis at x: set: ERR Error running script: -OOM command not allowed");
    ck_assert(pln_l2_may_pass(PLN_EL2));
    pln_fail(PLN_EL2, "l2: redis at x: set: ERR unknown command 'EVALSHA'");
    ck_assert(!pln_l2_may_pass(PLN_EL2));
    ck_assert(!pln_l2_may_pass(PLN_ETOOBIG));
    pln_l2_mem_faults(rig.server, A->l2, &(struct pln_memory_faults){0});
    await_done(A);
}
END_TEST

int main(void) {
    Suite *suite = suite_create("recover");
    TCase *tests = tcase_create("recover");
    suite_add_tcase(suite, tests);
    tcase_add_checked_fixture(tests, recover_setup, recover_teardown);
    tcase_set_timeout(tests, 60);
    tcase_add_test(tests, a_delete_that_failed_is_carried_out_and_told);
    tcase_add_test(
        tests, a_set_that_failed_takes_the_place_of_an_older_value_with_what_is_left_of_its_life);
    tcase_add_test(tests, the_own_copy_of_what_was_read_meanwhile_goes_too);
    tcase_add_test(tests, an_expire_that_failed_makes_it_stale_later);
    tcase_add_test(tests, a_tag_and_a_clear_that_failed_are_carried_out);
    tcase_add_test(tests, one_is_kept_for_a_key_the_last);
    tcase_add_test(tests, a_later_write_that_succeeds_ends_what_waits_for_its_key);
    tcase_add_test(tests, a_later_write_that_is_refused_leaves_what_waits);
    tcase_add_test(tests, an_expire_after_a_delete_or_set_that_waits_deletes);
    tcase_add_test(tests, what_another_wrote_since_wins_over_each);
    tcase_add_test(tests, of_two_at_about_the_same_time_neither_stays);
    tcase_add_test(tests, a_copy_that_is_older_than_what_was_loaded_meanwhile_goes_all_the_same);
    tcase_add_test(tests, a_load_that_began_before_a_delete_is_older_however_late_it_ends);
    tcase_add_test(tests, a_set_brings_a_key_back_that_nobody_can_have_deleted);
    tcase_add_test(tests, a_set_brings_no_key_back_whose_deletion_was_heard);
    tcase_add_test(tests, a_set_brings_no_key_back_whose_deletion_was_heard_while_it_was_tried);
    tcase_add_test(tests, nor_where_it_was_heard_while_another_write_of_the_key_was_tried_in_vain);
    tcase_add_test(tests, a_set_brings_no_key_back_whose_deletion_is_on_its_way);
    tcase_add_test(tests, a_set_waits_for_what_is_on_its_way_and_does_not_wait_for_ever);
    tcase_add_test(tests, sets_bring_their_keys_back_one_after_the_other);
    tcase_add_test(tests, a_set_brings_no_key_back_after_a_gap_unless_it_was_repaired);
    tcase_add_test(tests, a_set_does_not_void_the_tags_that_were_dropped_in_a_gap);
    tcase_add_test(tests, a_set_whose_life_is_over_deletes_what_it_was_to_replace);
    tcase_add_test(tests, what_a_rule_lets_be_written_to_l1_alone_reaches_l2_later);
    tcase_add_test(tests, what_timed_out_is_tried_again_on_a_link_that_lives);
    tcase_add_test(tests, refusals_that_pass_are_kept_and_the_others_not);
    return rig_run(suite);
}
