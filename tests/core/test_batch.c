/* SPDX-License-Identifier: MIT
 *
 * test_batch.c - core/batch.c: what is gathered, in which order it is stored, when it is tried
 * again, and when it is given up. malloc() and its like are the linker's to replace (--wrap).
 */
#include "batch_rig.h"

#include <stdio.h>

void *__real_malloc(size_t size);
void *__real_calloc(size_t n, size_t size);
void *__real_realloc(void *memory, size_t size);
void *__wrap_malloc(size_t size);
void *__wrap_calloc(size_t n, size_t size);
void *__wrap_realloc(void *memory, size_t size);

static unsigned n_left; /* the last of so many to come fails; 0: none does */

static bool fails(void) {
    return n_left > 0 && --n_left == 0;
}

void *__wrap_malloc(size_t size) {
    return fails() ? NULL : __real_malloc(size);
}

void *__wrap_calloc(size_t n, size_t size) {
    return fails() ? NULL : __real_calloc(n, size);
}

void *__wrap_realloc(void *memory, size_t size) {
    return fails() ? NULL : __real_realloc(memory, size);
}

/* ---- gathering ---- */

START_TEST(a_batch_waits_for_others_to_come_with_its_first) {
    add("a", "1");
    ck_assert_int_eq(pln_batches_due(batches, now), now + 100 * MS);
    pass(60);
    add("b", "1");
    expect_calls("");
    ck_assert_int_eq(pln_batches_due(batches, now), now + 40 * MS);
    pass(40);
    expect_calls("a=1 b=1");
    expect_over("1 2");
    ck_assert_uint_eq(pln_batches_count(batches), 0);
    ck_assert_int_eq(pln_batches_due(batches, now), PLN_FOREVER);
}
END_TEST

START_TEST(a_full_batch_does_not_wait) {
    add("a", "1");
    add("b", "1");
    add("c", "1");
    pass(0);
    expect_calls("");
    add("d", "1");
    add("e", "1");
    ck_assert_int_eq(pln_batches_due(batches, now), now);
    pass(0);
    expect_calls("a=1 b=1 c=1 d=1");
    pass(100);
    expect_calls("e=1");
}
END_TEST

START_TEST(the_last_write_of_a_key_stands_for_all_before_it) {
    add("a", "1");
    add("b", "1");
    pass(50);
    add("a", "2");
    add("a", NULL);
    ck_assert_uint_eq(pln_batches_count(batches), 4);
    pass(50); /* it waits no longer for being written again */
    expect_calls("a- b=1");
    expect_over("1 3 4 2");
    ck_assert_uint_eq(pln_batches_count(batches), 0);
}
END_TEST

START_TEST(in_order_every_write_of_a_key_is_stored_in_its_order) {
    terms.in_order = true;
    add("a", "1");
    add("b", "1");
    add("a", "2");
    add("a", "3");
    add("a", "4");
    pass(100);
    expect_calls("a=1 b=1 a=2 a=3 | a=4");
    expect_over("1 2 3 4 5");
}
END_TEST

START_TEST(each_store_has_its_own_batches) {
    others.every_ms = 10;
    add("a", "1");
    add("o", "1");
    add("b", "1");
    pass(10);
    expect_calls("o=1");
    pass(90);
    expect_calls("a=1 b=1");
    ck_assert_uint_eq(pln_batches_report(batches)->group, 1);
}
END_TEST

START_TEST(what_has_no_store_is_left_out) {
    ck_assert_int_eq(add_taken("?", "1", 1), PLN_MISS);
    ck_assert_uint_eq(pln_batches_count(batches), 0);
}
END_TEST

START_TEST(what_finds_no_memory_is_not_added_and_harms_nobody) {
    unsigned n_failed = 0;
    int status = PLN_ENOMEM;
    while (status == PLN_ENOMEM) {
        pln_batches_clear(batches);
        n_left = n_failed + 1;
        status = add_taken("a", "1", 1);
        n_failed += n_left == 0;
    }
    n_left = 0;
    ck_assert_int_eq(status, PLN_OK);
    ck_assert_uint_gt(n_failed, 4); /* group, write, bytes, chain, and the table */
    pass(100);
    expect_calls("a=1");
}
END_TEST

START_TEST(who_is_in_haste_does_not_wait_for_others) {
    add("a", "1");
    pln_batches_set_hasty(batches, true);
    pass(0);
    expect_calls("a=1");
    add("b", "1");
    pass(0);
    expect_calls("b=1");
    pln_batches_set_hasty(batches, false);
    add("c", "1");
    pass(0);
    expect_calls("");
}
END_TEST

START_TEST(an_item_says_its_id_its_version_and_how_often_it_was_tried) {
    const uint64_t ms = 1700000000000;
    struct pln_l2_entry entry = {.ms = ms, .seq = 7, .n_taken = 2, .key = pln_key("a")};
    bad = "";
    ck_assert_int_eq(pln_batches_add(batches, &entry, now), PLN_OK);
    pass(100);
    ck_assert_str_eq(item_id, "1700000000000-7");
    ck_assert_uint_eq(item_version, (ms << 20) + 7);
    ck_assert_uint_eq(item_attempt, 2);
    pass(10);
    ck_assert_uint_eq(item_attempt, 3);
    batch_teardown();
    batch_setup();
    entry.seq = 1 << 20; /* a version never reaches into the next ms */
    ck_assert_int_eq(pln_batches_add(batches, &entry, now), PLN_OK);
    pass(100);
    ck_assert_uint_eq(item_version, (ms << 20) + (1 << 20) - 1);
}
END_TEST

START_TEST(what_is_held_has_bounds) {
    char key[16];
    ck_assert(!pln_batches_are_full(batches));
    for (int i = 0; i < PLN_HELD_MOST; i++) {
        snprintf(key, sizeof key, "k%d", i);
        add(key, "1");
    }
    ck_assert(pln_batches_are_full(batches));
    is_mute = true;
    pass(100);
    ck_assert_uint_eq(n_items, PLN_HELD_MOST);
    ck_assert(pln_batches_are_full(batches)); /* until it has left the queue */
    size_t n;
    (void) pln_batches_over(batches, &n);
    ck_assert_uint_eq(n, PLN_HELD_MOST);
    pln_batches_ended(batches);
    ck_assert(!pln_batches_are_full(batches));
}
END_TEST

/* ---- failing ---- */

START_TEST(one_that_fails_is_tried_again_later_and_later_and_then_given_up) {
    bad = "x";
    add("a", "x");
    add("b", "1");
    pass(100);
    expect_calls("a=x b=1");
    expect_over("2");
    ck_assert_int_eq(pln_batches_due(batches, now), now + 10 * MS);
    pass(9);
    expect_calls("");
    pass(1);
    expect_calls("a=x");
    ck_assert_int_eq(pln_batches_due(batches, now), now + 20 * MS);
    ck_assert(!is_any_given_up());
    pass(20);
    expect_calls("a=x");
    expect_given_up(1, 0, "bad");
    ck_assert_uint_eq(pln_batches_count(batches), 0);
}
END_TEST

START_TEST(one_that_can_never_be_stored_is_given_up_at_once) {
    never = "x";
    add("a", "1");
    add("a", "x");
    add("b", "1");
    pass(100);
    expect_over("3");
    expect_given_up(2, 1, "never");
}
END_TEST

START_TEST(several_that_can_never_be_stored_are_each_asked_for) {
    never = "x";
    add("a", "x");
    add("b", "x");
    add("c", "x");
    pass(100);
    expect_calls("a=x b=x c=x | a=x b=x | c=x | a=x | b=x");
    expect_given_up(1, 0, "never");
    expect_given_up(2, 0, "never");
    expect_given_up(3, 0, "never");
}
END_TEST

START_TEST(a_later_write_takes_the_place_of_one_that_failed_and_begins_anew) {
    bad = "x";
    add("a", "x");
    pass(100);
    pass(10);
    expect_calls("a=x | a=x");
    add("a", "2");
    pass(99);
    expect_calls("");
    pass(1);
    expect_calls("a=2");
    expect_over("1 2");
}
END_TEST

START_TEST(in_order_later_writes_wait_behind_one_that_failed) {
    terms.in_order = true;
    bad = "x";
    add("a", "x");
    add("b", "1");
    add("a", "2");
    pass(100);
    expect_calls("a=x b=1 a=2");
    expect_over("2"); /* whatever the store says of the third: it is not known to be in order */
    add("a", "3");
    bad = NULL;
    pass(10);
    expect_calls("a=x a=2 a=3");
    expect_over("1 3 4");
}
END_TEST

START_TEST(in_order_what_follows_one_given_up_waits_until_that_is_buried) {
    terms.in_order = true;
    never = "x";
    add("a", "x");
    add("a", "2");
    pass(100);
    expect_calls("a=x a=2 | a=x");
    pass(1000);
    expect_calls("");
    expect_given_up(1, 0, "never");
    pass(0);
    expect_calls("a=2");
    expect_over("2");
}
END_TEST

START_TEST(a_write_that_comes_after_one_was_given_up_waits_until_that_is_buried) {
    never = "x";
    add("a", "x");
    pass(100);
    add("a", "2");
    pass(1000);
    expect_calls("a=x");
    expect_given_up(1, 0, "never");
    pass(0);
    expect_calls("a=2");
    expect_over("2");
}
END_TEST

START_TEST(nothing_is_buried_before_what_is_over_is_ended) {
    never = "x";
    add("a", "1");
    add("b", "x");
    pass(100);
    ck_assert(!is_any_given_up());
    expect_over("1");
    expect_given_up(2, 0, "never");
}
END_TEST

int main(void) {
    Suite *suite = suite_create("batch");
    TCase *tests = tcase_create("batch");
    suite_add_tcase(suite, tests);
    tcase_set_timeout(tests, 60);
    tcase_add_checked_fixture(tests, batch_setup, batch_teardown);
    tcase_add_test(tests, a_batch_waits_for_others_to_come_with_its_first);
    tcase_add_test(tests, a_full_batch_does_not_wait);
    tcase_add_test(tests, the_last_write_of_a_key_stands_for_all_before_it);
    tcase_add_test(tests, in_order_every_write_of_a_key_is_stored_in_its_order);
    tcase_add_test(tests, each_store_has_its_own_batches);
    tcase_add_test(tests, what_has_no_store_is_left_out);
    tcase_add_test(tests, what_finds_no_memory_is_not_added_and_harms_nobody);
    tcase_add_test(tests, who_is_in_haste_does_not_wait_for_others);
    tcase_add_test(tests, an_item_says_its_id_its_version_and_how_often_it_was_tried);
    tcase_add_test(tests, what_is_held_has_bounds);
    tcase_add_test(tests, one_that_fails_is_tried_again_later_and_later_and_then_given_up);
    tcase_add_test(tests, one_that_can_never_be_stored_is_given_up_at_once);
    tcase_add_test(tests, several_that_can_never_be_stored_are_each_asked_for);
    tcase_add_test(tests, a_later_write_takes_the_place_of_one_that_failed_and_begins_anew);
    tcase_add_test(tests, in_order_later_writes_wait_behind_one_that_failed);
    tcase_add_test(tests, in_order_what_follows_one_given_up_waits_until_that_is_buried);
    tcase_add_test(tests, a_write_that_comes_after_one_was_given_up_waits_until_that_is_buried);
    tcase_add_test(tests, nothing_is_buried_before_what_is_over_is_ended);
    return rig_run(suite);
}
