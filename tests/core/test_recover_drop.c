/* SPDX-License-Identifier: MIT
 * test_recover_drop.c - core/recover.c and core/drop.c over a server in memory: many keys at once
 * that fail, and what waits while many keys end. */
#include "recover_rig.h"

START_TEST(each_key_of_a_list_that_failed_goes_everywhere_and_nothing_else_does) {
    struct pln_bytes keys[] = {pln_key("k"), pln_key("l"), pln_key("k"), pln_key("none")};
    rig_set(A, "k", "old");
    rig_set(A, "l", "old");
    rig_set(A, "other", "v");
    rig_expect(B, "k", "old", "l2");
    rig_expect(B, "l", "old", "l2");
    cut(true);
    ck_assert_int_eq(pln_delete_many(A, keys, 4), PLN_EL2DOWN);
    ck_assert_ptr_nonnull(strstr(pln_error_text(), "is cut off; kept, and tried again later"));
    ck_assert_uint_eq(rig_stat(A, "recovery_waiting"), 3);
    heal();
    rig_expect(A, "k", NULL, "miss");
    rig_expect(A, "l", NULL, "miss");
    rig_expect(B, "k", NULL, "miss");
    rig_expect(B, "l", NULL, "miss");
    rig_expect(B, "other", "v", "l2");
}
END_TEST

START_TEST(a_list_that_failed_takes_the_place_of_what_waited_and_one_that_succeeds_ends_it) {
    struct pln_bytes keys[] = {pln_key("k"), pln_key("l")};
    cut(true);
    fail_set("k", "v");
    fail_set("other", "v");
    ck_assert_int_eq(pln_delete_many(A, keys, 2), PLN_EL2DOWN);
    ck_assert_uint_eq(rig_stat(A, "recovery_waiting"), 3);
    cut(false);
    ck_assert_int_eq(pln_delete_many(A, keys, 2), PLN_OK);
    ck_assert_uint_le(rig_stat(A, "recovery_waiting"), 1);
    await_done(A);
    rig_expect(B, "k", NULL, "miss");
    rig_expect(B, "other", "v", "l2");
}
END_TEST

START_TEST(a_list_past_the_bound_becomes_one_clear) {
    struct pln_bytes keys[] = {pln_key("k"), pln_key("l"), pln_key("m")};
    recover_reopen(2, 0);
    rig_set(A, "k", "old");
    rig_set(A, "m", "old");
    rig_expect(B, "m", "old", "l2");
    cut(true);
    ck_assert_int_eq(pln_delete_many(A, keys, 3), PLN_EL2DOWN);
    ck_assert_uint_eq(rig_stat(A, "recovery_waiting"), 1);
    heal();
    rig_expect(B, "k", NULL, "miss");
    rig_expect(B, "m", NULL, "miss");
}
END_TEST

static void fail_prefix(const char *prefix) {
    ck_assert_int_eq(pln_invalidate_prefix(A, pln_key(prefix)), PLN_EL2DOWN);
    ck_assert_ptr_nonnull(strstr(pln_error_text(), "is cut off; kept, and tried again later"));
}

START_TEST(a_prefix_and_a_pattern_that_failed_end_everything_everywhere) {
    rig_set(A, "user:1", "old");
    rig_expect(B, "user:1", "old", "l2");
    cut(true);
    fail_set("user:1", "older than the prefix");
    fail_prefix("user:");
    fail_set("user:1", "newer");
    ck_assert_uint_eq(rig_stat(A, "recovery_waiting"), 2);
    heal();
    rig_expect(A, "user:1", "newer", "l2");
    rig_expect(B, "user:1", "newer", "l2");
    cut(true);
    ck_assert_int_eq(pln_invalidate_pattern(A, pln_key("*:1")), PLN_EL2DOWN);
    heal();
    rig_expect(A, "user:1", NULL, "miss");
    rig_expect(B, "user:1", NULL, "miss");
}
END_TEST

START_TEST(a_set_brings_no_key_back_that_a_prefix_has_ended_since) {
    struct pln_cache *who[] = {B, A};
    for (size_t i = 0; i < 2; i++) {
        cut(true);
        fail_set("user:1", "v");
        fail_set("other", "v");
        cut(false);
        ck_assert_int_eq(pln_invalidate_prefix(who[i], pln_key("user:")), PLN_OK);
        await_done(A);
        rig_expect(B, "user:1", NULL, "miss");
        rig_expect(B, "other", "v", "l2");
        ck_assert_int_eq(pln_delete(B, pln_key("other")), PLN_OK);
    }
}
END_TEST

/* While the clear runs: it has been carried out, and its answer is on its way. */
static void write_behind_the_clear(void *arg) {
    bool *is_done = arg;
    if (!*is_done) {
        *is_done = true;
        rig_set(B, "k", "of a source that changes now");
        cut(true);
        fail_delete("k");
        cut(false);
    }
}

START_TEST(a_delete_that_fails_while_a_clear_is_under_way_is_not_taken_for_its_part) {
    bool is_done = false;
    struct pln_l2 *witness;
    struct pln_l2_options options = {
        .ns = A->ns,
        .counts = A->counts,
        .host = &A->host,
        .events = {.arg = &is_done, .on_clear = write_behind_the_clear}};
    ck_assert_int_eq(pln_l2_mem_new(&options, rig.server, &witness), PLN_OK);
    ck_assert_int_eq(pln_l2_start(witness), PLN_OK);
    cut(true);
    ck_assert_int_eq(pln_clear(A), PLN_EL2DOWN);
    heal();
    ck_assert(is_done);
    rig_expect(A, "k", NULL, "miss");
    rig_expect(B, "k", NULL, "miss");
    pln_l2_close(witness);
}
END_TEST

int main(void) {
    Suite *suite = suite_create("recover and drop");
    TCase *tests = tcase_create("recover and drop");
    suite_add_tcase(suite, tests);
    tcase_add_checked_fixture(tests, recover_setup, recover_teardown);
    tcase_set_timeout(tests, 60);
    tcase_add_test(tests, each_key_of_a_list_that_failed_goes_everywhere_and_nothing_else_does);
    tcase_add_test(tests,
                   a_list_that_failed_takes_the_place_of_what_waited_and_one_that_succeeds_ends_it);
    tcase_add_test(tests, a_list_past_the_bound_becomes_one_clear);
    tcase_add_test(tests, a_prefix_and_a_pattern_that_failed_end_everything_everywhere);
    tcase_add_test(tests, a_set_brings_no_key_back_that_a_prefix_has_ended_since);
    tcase_add_test(tests, a_delete_that_fails_while_a_clear_is_under_way_is_not_taken_for_its_part);
    return rig_run(suite);
}
