/* SPDX-License-Identifier: MIT
 * test_cache.c - core/cache.c, write.c, many.c, report.c without L2, on a clock moved by hand. */
#include "rig.h"

#include <stdio.h>

static struct rig rig;

static void setup(void) {
    struct pln_options options = {.ttl_ms = 10000, .stale_ms = 5000, .negative_ms = 2000};
    rig_open(&rig, 1, false, &options);
}

static void teardown(void) {
    rig_close(&rig);
}

#define CACHE rig.caches[0]

START_TEST(what_is_set_is_got_until_it_is_deleted) {
    rig_expect(CACHE, "k", NULL, "miss");
    rig_set(CACHE, "k", "one");
    rig_expect(CACHE, "k", "one", "l1");
    rig_set(CACHE, "k", "two");
    rig_expect(CACHE, "k", "two", "l1");
    ck_assert_int_eq(pln_delete(CACHE, pln_key("k")), PLN_OK);
    rig_expect(CACHE, "k", NULL, "miss");
    ck_assert_int_eq(pln_delete(CACHE, pln_key("k")), PLN_OK);
}
END_TEST

START_TEST(a_copy_tells_the_whole_length_where_the_buffer_is_short) {
    char buffer[3];
    struct pln_result result;
    rig_set(CACHE, "k", "abcdef");
    ck_assert_int_eq(pln_get_copy(CACHE, pln_key("k"), NULL, buffer, 3, &result), PLN_TRUNCATED);
    ck_assert_uint_eq(result.len, 6);
    ck_assert_mem_eq(buffer, "abc", 3);
    ck_assert_ptr_null(result.value);
}
END_TEST

START_TEST(what_does_not_fit_is_borrowed_where_the_caller_takes_that) {
    static const uint32_t flags[] = {PLN_GET_LONG, PLN_GET_LONG | PLN_GET_NO_L1};
    char buffer[3];
    struct pln_result result;
    struct pln_get_options options = {.flags = PLN_GET_LONG};
    rig_set(CACHE, "k", "abcdef");
    ck_assert_int_eq(pln_get_copy(CACHE, pln_key("k"), &options, buffer, 3, &result), PLN_OK);
    ck_assert_uint_eq(result.len, 6);
    ck_assert_mem_eq(pln_value_data(result.value), "abcdef", 6);
    pln_release(CACHE, result.value);
    rig.now += 10000; /* stale: no plain hit */
    ck_assert_int_eq(pln_get_copy(CACHE, pln_key("k"), &options, buffer, 3, &result), PLN_OK);
    ck_assert_uint_eq(result.source, PLN_FROM_STALE);
    ck_assert_mem_eq(pln_value_data(result.value), "abcdef", 6);
    pln_release(CACHE, result.value);
    for (size_t i = 0; i < PLN_ARRAY_LEN(flags); i++) {
        options.flags = flags[i];
        rig_set(CACHE, "k", "abc");
        int status = pln_get_copy(CACHE, pln_key("k"), &options, buffer, 3, &result);
        ck_assert_int_eq(status, i == 0 ? PLN_OK : PLN_MISS);
        ck_assert_ptr_null(result.value);
    }
}
END_TEST

START_TEST(age_and_remaining_time_are_told_to_the_millisecond) {
    struct pln_result result;
    rig_set(CACHE, "k", "v");
    rig.now += 1234;
    ck_assert_int_eq(pln_get(CACHE, pln_key("k"), NULL, &result), PLN_OK);
    ck_assert_int_eq(result.age_ms, 1234);
    ck_assert_int_eq(result.left_ms, 10000 - 1234);
    pln_release(CACHE, result.value);
}
END_TEST

START_TEST(without_a_window_of_the_rules_a_value_may_have_its_own) {
    struct rig other;
    struct pln_options options = {.ttl_ms = 10000};
    struct pln_set_options set = {.stale_ms = 3000};
    struct pln_get_options get = {.flags = PLN_GET_OWN_STALE};
    struct pln_result result;
    rig_open(&other, 1, false, &options);
    struct pln_cache *cache = other.caches[0];
    ck_assert_int_eq(pln_set(cache, pln_key("k"), pln_key("v"), &set), PLN_OK);
    other.now += 12999;
    ck_assert_int_eq(pln_get(cache, pln_key("k"), &get, &result), PLN_OK);
    ck_assert_uint_eq(result.source, PLN_FROM_STALE);
    pln_release(cache, result.value);
    ck_assert_int_eq(pln_get(cache, pln_key("k"), NULL, &result), PLN_MISS);
    other.now += 1;
    ck_assert_int_eq(pln_get(cache, pln_key("k"), &get, &result), PLN_MISS);
    rig_close(&other);
    ck_assert_int_eq(
        pln_set(CACHE, pln_key("k"), pln_key("v"), &(struct pln_set_options){.stale_ms = 60000}),
        PLN_OK);
    rig.now += 15000; /* the rule's 5 s bound it */
    ck_assert_int_eq(pln_get(CACHE, pln_key("k"), &get, &result), PLN_MISS);
}
END_TEST

START_TEST(a_value_past_its_ttl_is_stale_for_its_window_and_then_gone) {
    rig_set(CACHE, "k", "v");
    rig.now += 9999;
    rig_expect(CACHE, "k", "v", "l1");
    rig.now += 1;
    rig_expect(CACHE, "k", "v", "stale");
    struct pln_get_options strict = {.flags = PLN_GET_NO_STALE};
    struct pln_result result;
    ck_assert_int_eq(pln_get(CACHE, pln_key("k"), &strict, &result), PLN_MISS);
    rig.now += 4999;
    rig_expect(CACHE, "k", "v", "stale");
    rig.now += 1;
    rig_expect(CACHE, "k", NULL, "miss");
}
END_TEST

START_TEST(a_cached_absence_is_told_from_a_miss_and_has_its_own_ttl) {
    struct pln_set_options absent = {.is_absent = true};
    ck_assert_int_eq(pln_set(CACHE, pln_key("k"), pln_key(""), &absent), PLN_OK);
    rig_expect(CACHE, "k", NULL, "negative");
    rig.now += 2000;
    rig_expect(CACHE, "k", NULL, "miss");
}
END_TEST

START_TEST(an_empty_value_is_a_value) {
    rig_set(CACHE, "k", "");
    rig_expect(CACHE, "k", "", "l1");
}
END_TEST

START_TEST(conditions_on_a_set_are_kept) {
    struct pln_set_options nx = {.flags = PLN_SET_NX};
    struct pln_set_options xx = {.flags = PLN_SET_XX};
    struct pln_set_options both = {.flags = PLN_SET_NX | PLN_SET_XX};
    ck_assert_int_eq(pln_set(CACHE, pln_key("k"), pln_key("a"), &xx), PLN_NOT_STORED);
    ck_assert_int_eq(pln_set(CACHE, pln_key("k"), pln_key("b"), &nx), PLN_OK);
    ck_assert_int_eq(pln_set(CACHE, pln_key("k"), pln_key("c"), &nx), PLN_NOT_STORED);
    rig_expect(CACHE, "k", "b", "l1");
    ck_assert_int_eq(pln_set(CACHE, pln_key("k"), pln_key("d"), &xx), PLN_OK);
    rig_expect(CACHE, "k", "d", "l1");
    ck_assert_int_eq(pln_set(CACHE, pln_key("k"), pln_key("e"), &both), PLN_EINVAL);
}
END_TEST

START_TEST(expire_leaves_a_stale_value_and_delete_none) {
    rig_set(CACHE, "k", "v");
    rig_expect(CACHE, "k", "v", "l1");
    ck_assert_int_eq(pln_expire(CACHE, pln_key("k")), PLN_OK);
    rig_expect(CACHE, "k", "v", "stale");
    rig_set(CACHE, "k", "w");
    rig_expect(CACHE, "k", "w", "l1");
}
END_TEST

START_TEST(touch_gives_a_new_ttl) {
    ck_assert_int_eq(pln_touch(CACHE, pln_key("k"), 1000), PLN_MISS);
    rig_set(CACHE, "k", "v");
    ck_assert_int_eq(pln_touch(CACHE, pln_key("k"), 60000), PLN_OK);
    rig.now += 59999;
    rig_expect(CACHE, "k", "v", "l1");
    rig.now += 1;
    rig_expect(CACHE, "k", "v", "stale");
}
END_TEST

START_TEST(a_tag_takes_its_values_along_and_leaves_the_others) {
    struct pln_bytes tags[] = {pln_key("red"), pln_key("round")};
    struct pln_set_options tagged = {.tags = tags, .n_tags = 2};
    pln_set(CACHE, pln_key("apple"), pln_key("a"), &tagged);
    rig_set(CACHE, "pear", "p");
    rig_expect(CACHE, "apple", "a", "l1");
    ck_assert_int_eq(pln_invalidate_tag(CACHE, pln_key("round")), PLN_OK);
    rig_expect(CACHE, "apple", NULL, "miss");
    rig_expect(CACHE, "pear", "p", "l1");
    pln_set(CACHE, pln_key("apple"), pln_key("new"), &tagged);
    rig_expect(CACHE, "apple", "new", "l1");
}
END_TEST

START_TEST(clear_takes_everything) {
    rig_set(CACHE, "a", "1");
    rig_set(CACHE, "b", "2");
    ck_assert_int_eq(pln_clear(CACHE), PLN_OK);
    rig_expect(CACHE, "a", NULL, "miss");
    rig_expect(CACHE, "b", NULL, "miss");
    rig_set(CACHE, "a", "3");
    rig_expect(CACHE, "a", "3", "l1");
}
END_TEST

START_TEST(peek_looks_without_counting_or_loading) {
    struct pln_result result;
    ck_assert_int_eq(pln_peek(CACHE, pln_key("k"), &result), PLN_MISS);
    rig_set(CACHE, "k", "v");
    rig.now += 10001;
    ck_assert_int_eq(pln_peek(CACHE, pln_key("k"), &result), PLN_OK);
    ck_assert_str_eq(pln_source_name(result.source), "stale");
    ck_assert_int_eq(result.left_ms, -1);
    pln_release(CACHE, result.value);
    ck_assert_uint_eq(rig_stat(CACHE, "gets"), 0);
    ck_assert_uint_eq(rig_stat(CACHE, "peeks"), 2);
}
END_TEST

START_TEST(many_keys_are_read_each_with_its_own_outcome) {
    struct pln_bytes keys[] = {pln_key("a"), pln_key("none"), pln_key("absent"), pln_key("b")};
    struct pln_set_options absent = {.is_absent = true};
    struct pln_result results[4];
    int statuses[4];
    rig_set(CACHE, "a", "1");
    rig_set(CACHE, "b", "22");
    pln_set(CACHE, pln_key("absent"), pln_key(""), &absent);
    ck_assert_int_eq(pln_get_many(CACHE, keys, 4, NULL, results, statuses), PLN_OK);
    static const int expected[] = {PLN_OK, PLN_MISS, PLN_ABSENT, PLN_OK};
    for (size_t i = 0; i < 4; i++) {
        ck_assert_int_eq(statuses[i], expected[i]);
        pln_release(CACHE, results[i].value);
    }
    ck_assert_uint_eq(results[3].len, 2);
    ck_assert_uint_eq(rig_stat(CACHE, "gets"), 4);
    ck_assert_uint_eq(rig_stat(CACHE, "l1_hits"), 3);
    ck_assert_uint_eq(rig_stat(CACHE, "negatives"), 1);
}
END_TEST

/* L1 lends what it has while L2 is asked; were it not given back, closing would say so. */
START_TEST(many_keys_give_back_what_was_too_old_to_be_served) {
    struct pln_bytes key = pln_key("a");
    struct pln_get_options fresh = {.flags = PLN_GET_NO_STALE};
    struct pln_result result;
    int status;
    rig_set(CACHE, "a", "1");
    rig.now += 12000; /* past its ttl, within its stale window */
    ck_assert_int_eq(pln_get_many(CACHE, &key, 1, &fresh, &result, &status), PLN_OK);
    ck_assert_int_eq(status, PLN_MISS);
    ck_assert_int_eq(pln_delete(CACHE, key), PLN_OK);
}
END_TEST

START_TEST(a_bad_key_is_refused_with_its_length) {
    static char key[5000];
    struct pln_result result;
    memset(key, 'k', sizeof key);
    ck_assert_int_eq(pln_get(CACHE, pln_bytes_of(key, sizeof key), NULL, &result), PLN_EINVAL);
    ck_assert_str_eq(pln_error_text(), "key: 5000 bytes, must be 1 to 4096");
    ck_assert_int_eq(pln_set(CACHE, pln_key(""), pln_key("v"), NULL), PLN_EINVAL);
}
END_TEST

START_TEST(a_value_over_the_limit_is_refused_and_takes_the_old_one_along) {
    size_t size = 8 << 20;
    char *big = calloc(1, size);
    rig_set(CACHE, "k", "old");
    rig_set(CACHE, "other", "kept");
    ck_assert_int_eq(pln_set(CACHE, pln_key("k"), pln_bytes_of(big, size), NULL), PLN_ETOOBIG);
    rig_expect(CACHE, "k", NULL, "miss");
    rig_expect(CACHE, "other", "kept", "l1");
    free(big);
}
END_TEST

START_TEST(counts_are_exact) {
    char key[16];
    for (int i = 0; i < 100; i++) {
        snprintf(key, sizeof key, "key %d", i % 10);
        struct pln_result result;
        if (pln_get(CACHE, pln_key(key), NULL, &result) == PLN_MISS) {
            rig_set(CACHE, key, "v");
        }
        pln_release(CACHE, result.value);
    }
    ck_assert_uint_eq(rig_stat(CACHE, "gets"), 100);
    ck_assert_uint_eq(rig_stat(CACHE, "l1_hits"), 90);
    ck_assert_uint_eq(rig_stat(CACHE, "misses"), 10);
    ck_assert_uint_eq(rig_stat(CACHE, "sets"), 10);
    ck_assert_uint_eq(rig_stat(CACHE, "l1_inserts"), 10);
    ck_assert_uint_eq(rig_stat(CACHE, "l1_entries"), 10);
}
END_TEST

START_TEST(prometheus_says_what_stats_say) {
    char text[32768];
    rig_set(CACHE, "k", "v");
    size_t len = pln_prometheus(CACHE, text, sizeof text);
    ck_assert_uint_lt(len, sizeof text);
    ck_assert_uint_eq(len, strlen(text));
    ck_assert_ptr_nonnull(strstr(text, "perilune_sets_total{cache=\"perilune\"} 1\n"));
    ck_assert_ptr_nonnull(strstr(text, "# TYPE perilune_l1_bytes gauge\n"));
    ck_assert_uint_eq(pln_prometheus(CACHE, NULL, 0), len);
}
END_TEST

START_TEST(options_are_set_by_name_and_checked) {
    struct pln_options options = {0};
    struct pln_cache *cache;
    ck_assert_int_eq(pln_options_set(&options, "ttl", "15m"), PLN_OK);
    ck_assert_int_eq(options.ttl_ms, 900000);
    ck_assert_int_eq(pln_options_set(&options, "max_bytes", "2m"), PLN_OK);
    ck_assert_uint_eq(options.max_bytes, 2 << 20);
    ck_assert_int_eq(pln_options_set(&options, "tll", "15m"), PLN_EINVAL);
    ck_assert_str_eq(pln_error_text(), "unknown option 'tll', did you mean 'ttl'?");
    ck_assert_int_eq(pln_options_set(&options, "ttl", "15 parsecs"), PLN_EINVAL);
    ck_assert_str_eq(pln_error_text(), "ttl: must be a duration such as \"15m\" or seconds, or "
                                       "\"forever\", got '15 parsecs'");
    ck_assert_int_eq(options.ttl_ms, 900000);
    options.refresh = 1.5;
    ck_assert_int_eq(pln_open(&options, &cache), PLN_EINVAL);
    ck_assert_str_eq(pln_error_text(), "refresh: must be 0 or from 0.1 to 0.99, got 1.5");
}
END_TEST

int main(void) {
    Suite *suite = suite_create("cache");
    TCase *tests = tcase_create("cache");
    suite_add_tcase(suite, tests);
    tcase_add_checked_fixture(tests, setup, teardown);
    tcase_add_test(tests, what_is_set_is_got_until_it_is_deleted);
    tcase_add_test(tests, a_copy_tells_the_whole_length_where_the_buffer_is_short);
    tcase_add_test(tests, without_a_window_of_the_rules_a_value_may_have_its_own);
    tcase_add_test(tests, what_does_not_fit_is_borrowed_where_the_caller_takes_that);
    tcase_add_test(tests, age_and_remaining_time_are_told_to_the_millisecond);
    tcase_add_test(tests, a_value_past_its_ttl_is_stale_for_its_window_and_then_gone);
    tcase_add_test(tests, a_cached_absence_is_told_from_a_miss_and_has_its_own_ttl);
    tcase_add_test(tests, an_empty_value_is_a_value);
    tcase_add_test(tests, conditions_on_a_set_are_kept);
    tcase_add_test(tests, expire_leaves_a_stale_value_and_delete_none);
    tcase_add_test(tests, touch_gives_a_new_ttl);
    tcase_add_test(tests, a_tag_takes_its_values_along_and_leaves_the_others);
    tcase_add_test(tests, clear_takes_everything);
    tcase_add_test(tests, peek_looks_without_counting_or_loading);
    tcase_add_test(tests, many_keys_are_read_each_with_its_own_outcome);
    tcase_add_test(tests, many_keys_give_back_what_was_too_old_to_be_served);
    tcase_add_test(tests, a_bad_key_is_refused_with_its_length);
    tcase_add_test(tests, a_value_over_the_limit_is_refused_and_takes_the_old_one_along);
    tcase_add_test(tests, counts_are_exact);
    tcase_add_test(tests, prometheus_says_what_stats_say);
    tcase_add_test(tests, options_are_set_by_name_and_checked);
    return rig_run(suite);
}
