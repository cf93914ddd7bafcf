/* SPDX-License-Identifier: MIT
 * test_drop.c - core/drop.c: instances over one L2 that end many keys at once. */
#include "rig.h"

#include <stdio.h>

#define A rig.caches[0]
#define B rig.caches[1]

static struct rig rig;

static void setup(void) {
    rig_open(&rig, 2, true, NULL);
}

static void setup_alone(void) {
    rig_open(&rig, 1, false, NULL);
}

static void teardown(void) {
    rig_close(&rig);
}

START_TEST(a_prefix_goes_from_all_tiers_of_all_and_nothing_else_does) {
    rig_set(A, "user:1", "v");
    rig_set(A, "user", "v");
    rig_expect(B, "user:1", "v", "l2");
    rig_expect(B, "user", "v", "l2");
    ck_assert_int_eq(pln_invalidate_prefix(A, pln_key("user:")), PLN_OK);
    rig_expect(A, "user:1", NULL, "miss");
    rig_expect(B, "user:1", NULL, "miss");
    rig_expect(A, "user", "v", "l1");
    rig_expect(B, "user", "v", "l1");
    rig_set(B, "user:1", "new");
    rig_expect(A, "user:1", "new", "l2");
    ck_assert_int_eq(pln_invalidate_pattern(B, pln_key("*:1")), PLN_OK);
    rig_expect(A, "user:1", NULL, "miss");
    rig_expect(B, "user", "v", "l1");
    ck_assert_uint_eq(rig_stat(A, "match_invalidations"), 1);
}
END_TEST

START_TEST(an_answer_from_before_is_not_kept) {
    struct pln_stamp stamp;
    struct pln_hashed key;
    struct pln_l1_life life;
    pln_cache_key(B, pln_key("k:1"), &key);
    pln_stamp_take(B->inval, key.hash, &stamp); /* B asks, and is answered "old" ... */
    ck_assert_int_eq(pln_invalidate_prefix(A, pln_key("k:")), PLN_OK);
    struct pln_l2_item item = {.value = pln_key("old"), .fresh_left = 10000, .life_left = 10000};
    pln_life_keep(B, &key, pln_cache_terms(B), &stamp, &item, &life); /* ... which lands */
    ck_assert_uint_eq(rig_stat(B, "fills_refused"), 1);
    rig_expect(B, "k:1", NULL, "miss");
}
END_TEST

START_TEST(a_write_that_is_overtaken_forgets_its_key) {
    struct pln_stamp stamp;
    struct pln_hashed key;
    pln_cache_key(A, pln_key("k:1"), &key);
    pln_stamp_take(A->inval, key.hash, &stamp);
    ck_assert_int_eq(pln_invalidate_pattern(B, pln_key("k*")), PLN_OK);
    ck_assert(!pln_stamp_advance(&stamp, &key));
}
END_TEST

static void *get_k1(void *arg) {
    struct pln_result result;
    int status = pln_get(arg, pln_key("k:1"), NULL, &result);
    pln_release(arg, result.value);
    return status == PLN_OK ? NULL : arg;
}

START_TEST(a_load_that_began_before_is_handed_out_and_kept_nowhere) {
    pthread_t reader;
    void *wrong;
    rig_policy(&rig, A, rig_rule("k:{id}", pln_cache_terms(A), PLN_RULE_LOAD));
    pthread_mutex_lock(&rig.gate);
    pthread_create(&reader, NULL, get_k1, A);
    rig_await(A, "loads", 1);
    while (atomic_load(&rig.n_loads) == 0) { /* the loader has asked its source */
    }
    ck_assert_int_eq(pln_invalidate_prefix(B, pln_key("k:")), PLN_OK);
    pthread_mutex_unlock(&rig.gate);
    pthread_join(reader, &wrong);
    ck_assert_ptr_null(wrong);
    rig_expect(B, "k:1", NULL, "miss");
    rig_expect(A, "k:1", "loaded 2", "loaded");
    rig_expect(B, "k:1", "loaded 2", "l2");
}
END_TEST

START_TEST(many_keys_go_at_once_by_one_message) {
    struct pln_bytes keys[300];
    char names[300][16];
    for (size_t i = 0; i < 300; i++) {
        snprintf(names[i], sizeof names[i], "k:%u", (unsigned) i);
        keys[i] = pln_key(names[i]);
        rig_set(A, names[i], "v");
        rig_expect(B, names[i], "v", "l2");
    }
    rig_set(A, "other", "v");
    uint64_t heard = rig_stat(B, "bus_received");
    ck_assert_int_eq(pln_delete_many(A, keys, 300), PLN_OK);
    ck_assert_uint_eq(rig_stat(B, "bus_received"), heard + 1);
    for (size_t i = 0; i < 300; i++) {
        rig_expect(A, names[i], NULL, "miss");
        rig_expect(B, names[i], NULL, "miss");
    }
    rig_expect(B, "other", "v", "l2");
    ck_assert_uint_eq(rig_stat(A, "deletes"), 300);
    ck_assert_int_eq(pln_delete_many(A, NULL, 0), PLN_OK);
}
END_TEST

START_TEST(a_key_that_is_none_keeps_all_of_them) {
    static char text[PLN_MAX_KEY + 1];
    memset(text, 'x', sizeof text);
    struct pln_bytes keys[] = {pln_key("k"), pln_bytes_of(text, sizeof text)};
    rig_set(A, "k", "v");
    ck_assert_int_lt(pln_delete_many(A, keys, 2), 0);
    rig_expect(A, "k", "v", "l1");
}
END_TEST

START_TEST(keys_that_l2_does_not_have_are_not_sent) {
    struct pln_terms terms = *pln_cache_terms(A);
    struct pln_bytes keys[] = {pln_key("own:1"), pln_key("shared"), pln_key("own:2")};
    terms.use_l2 = false;
    rig_policy(&rig, A, rig_rule("own:{id}", &terms, 0));
    rig_set(A, "own:1", "a");
    rig_set(B, "own:1", "b");
    rig_set(B, "shared", "b");
    ck_assert_int_eq(pln_delete_many(A, keys, 3), PLN_OK);
    rig_expect(A, "own:1", NULL, "miss");
    rig_expect(B, "own:1", "b", "l1");
    rig_expect(B, "shared", NULL, "miss");
}
END_TEST

START_TEST(without_l2_a_prefix_goes_from_l1) {
    rig_set(A, "user:1", "v");
    rig_set(A, "other", "v");
    ck_assert_int_eq(pln_invalidate_prefix(A, pln_key("user:")), PLN_OK);
    rig_expect(A, "user:1", NULL, "miss");
    rig_expect(A, "other", "v", "l1");
    struct pln_bytes other = pln_key("other");
    ck_assert_int_eq(pln_delete_many(A, &other, 1), PLN_OK);
    rig_expect(A, "other", NULL, "miss");
}
END_TEST

START_TEST(what_no_key_can_be_is_refused) {
    static char text[PLN_MAX_KEY + 1];
    memset(text, 'x', sizeof text);
    struct pln_bytes bytes = pln_bytes_of(text, sizeof text);
    ck_assert_int_eq(pln_invalidate_prefix(A, bytes), PLN_EINVAL);
    ck_assert_str_eq(pln_error_text(), "prefix: 4097 bytes, at most 4096");
    ck_assert_int_eq(pln_invalidate_pattern(A, bytes), PLN_EINVAL);
    ck_assert_str_eq(pln_error_text(), "pattern: 4097 bytes, at most 4096");
}
END_TEST

int main(void) {
    Suite *suite = suite_create("drop");
    TCase *tests = tcase_create("drop"), *alone = tcase_create("alone");
    suite_add_tcase(suite, tests);
    tcase_add_checked_fixture(tests, setup, teardown);
    tcase_add_test(tests, a_prefix_goes_from_all_tiers_of_all_and_nothing_else_does);
    tcase_add_test(tests, an_answer_from_before_is_not_kept);
    tcase_add_test(tests, a_write_that_is_overtaken_forgets_its_key);
    tcase_add_test(tests, a_load_that_began_before_is_handed_out_and_kept_nowhere);
    tcase_add_test(tests, what_no_key_can_be_is_refused);
    tcase_add_test(tests, many_keys_go_at_once_by_one_message);
    tcase_add_test(tests, a_key_that_is_none_keeps_all_of_them);
    tcase_add_test(tests, keys_that_l2_does_not_have_are_not_sent);
    suite_add_tcase(suite, alone);
    tcase_add_checked_fixture(alone, setup_alone, teardown);
    tcase_add_test(alone, without_l2_a_prefix_goes_from_l1);
    return rig_run(suite);
}
