/* SPDX-License-Identifier: MIT
 * test_base.c - core/base: units, failure texts, counted values, counters. */
#include <check.h>
#include <pthread.h>
#include <sched.h>

#include "../../core/base/ends.h"
#include "../../core/base/stats.h"

START_TEST(durations_are_read_with_and_without_units) {
    static const struct {
        const char *text;
        pln_ms ms;
    } good[] = {{"15m", 900000}, {"250ms", 250}, {"1.5h", 5400000}, {"30d", 2592000000},
                {"30", 30000},   {"0.5", 500},   {"1w", 604800000}, {"forever", PLN_FOREVER},
                {"90S", 90000}};
    for (size_t i = 0; i < PLN_ARRAY_LEN(good); i++) {
        pln_ms ms = -1;
        ck_assert_msg(pln_parse_duration(good[i].text, &ms), "%s", good[i].text);
        ck_assert_int_eq(ms, good[i].ms);
    }
    static const char *const bad[] = {"",    "m",    "-1s", "15 parsecs", "inf",
                                      "nan", "0x10", " 1",  "1e300d"};
    for (size_t i = 0; i < PLN_ARRAY_LEN(bad); i++) {
        pln_ms ms;
        ck_assert_msg(!pln_parse_duration(bad[i], &ms), "'%s' was taken", bad[i]);
    }
}
END_TEST

START_TEST(sizes_and_shares_are_read) {
    size_t size = 0;
    double share = 0;
    ck_assert(pln_parse_size("64k", &size) && size == 65536);
    ck_assert(pln_parse_size("2MB", &size) && size == 2097152);
    ck_assert(!pln_parse_size("64q", &size));
    ck_assert(pln_parse_share("10%", &share) && share > 0.0999 && share < 0.1001);
    ck_assert(pln_parse_share("0.8", &share) && share > 0.7999 && share < 0.8001);
}
END_TEST

START_TEST(a_misspelt_name_finds_its_neighbour) {
    static const char *const names[] = {"ttl", "stale", "jitter", "max_bytes", NULL};
    ck_assert_str_eq(pln_nearest(names, "tll"), "ttl");
    ck_assert_str_eq(pln_nearest(names, "TTL"), "ttl");
    ck_assert_str_eq(pln_nearest(names, "max_byte"), "max_bytes");
    ck_assert_ptr_null(pln_nearest(names, "something_else"));
}
END_TEST

START_TEST(a_failure_keeps_its_text_and_may_quote_the_last) {
    ck_assert_int_eq(pln_fail(PLN_EL2, "inner %d", 7), PLN_EL2);
    ck_assert_int_eq(pln_fail(PLN_ELOADER, "outer: %s", pln_error_text()), PLN_ELOADER);
    ck_assert_str_eq(pln_error_text(), "outer: inner 7");
    ck_assert_str_eq(pln_status_name(PLN_EL2DOWN), "l2_down");
    ck_assert_str_eq(pln_source_name(PLN_FROM_STALE), "stale");
}
END_TEST

START_TEST(a_value_lives_until_its_last_reference) {
    struct pln_value *value = pln_value_new(pln_bytes_of("abc", 3), 4);
    pln_value_ref(value);
    pln_value_drop(value);
    ck_assert_mem_eq(pln_value_data(value), "abc", 3);
    ck_assert_uint_eq(pln_value_len(value), 3);
    pln_value_drop(value);
}
END_TEST

static void *count_gets(void *arg) {
    for (int i = 0; i < 1000; i++) {
        pln_count(arg, PLN_COUNT_GETS, 1);
    }
    return NULL;
}

START_TEST(counts_of_ended_threads_are_kept) {
    struct pln_counts *counts;
    uint64_t totals[PLN_N_COUNTS];
    ck_assert_int_eq(pln_counts_new(&counts), PLN_OK);
    for (int round = 0; round < 20; round++) {
        pthread_t threads[4];
        for (size_t i = 0; i < 4; i++) {
            pthread_create(&threads[i], NULL, count_gets, counts);
        }
        for (size_t i = 0; i < 4; i++) {
            pthread_join(threads[i], NULL);
        }
    }
    pln_counts_sum(counts, totals);
    ck_assert_uint_eq(totals[PLN_COUNT_GETS], 80000);
    for (int i = 0; i < PLN_N_COUNTS; i++) {
        ck_assert_ptr_nonnull(pln_count_name((enum pln_count) i));
        ck_assert_ptr_nonnull(pln_count_help((enum pln_count) i));
    }
    pln_counts_free(counts);
}
END_TEST

/* What a mask says of a key, found out by trying every way to cut it. */
static bool tries(const char *pattern, const char *key) {
    if (*pattern == 0) {
        return *key == 0;
    }
    if (*pattern != '*') {
        return *pattern == *key && tries(pattern + 1, key + 1);
    }
    return tries(pattern + 1, key) || (*key != 0 && tries(pattern, key + 1));
}

/* All words of up to `most` of three letters, by number. */
static void word_of(unsigned number, const char letters[3], char word[8]) {
    size_t len = 0;
    for (; number > 0; number = (number - 1) / 3) {
        word[len++] = letters[(number - 1) % 3];
    }
    word[len] = 0;
}

START_TEST(patterns_fit_what_trying_every_way_finds) {
    enum { PATTERNS = 1093, KEYS = 364 }; /* of up to six letters, and up to five */
    for (unsigned i = 0; i < PATTERNS; i++) {
        char pattern[8];
        word_of(i, "*ab", pattern);
        struct pln_mask mask = {PLN_MASK_PATTERN, pln_key(pattern)};
        for (unsigned j = 0; j < KEYS; j++) {
            char key[8];
            word_of(j, "ab*", key);
            ck_assert_msg(pln_mask_fits(&mask, pln_key(key)) == tries(pattern, key), "%s and %s",
                          pattern, key);
        }
    }
}
END_TEST

START_TEST(a_prefix_is_its_bytes_and_a_star_in_it_a_star) {
    struct pln_mask mask = {PLN_MASK_PREFIX, pln_bytes_of("a*\0", 3)};
    ck_assert(pln_mask_fits(&mask, pln_bytes_of("a*\0x", 4)));
    ck_assert(pln_mask_fits(&mask, mask.text));
    ck_assert(!pln_mask_fits(&mask, pln_key("a*")));
    ck_assert(!pln_mask_fits(&mask, pln_bytes_of("ax\0", 3)));
    mask.text.len = 0;
    ck_assert(pln_mask_fits(&mask, pln_bytes_of(NULL, 0)));
    ck_assert(pln_mask_fits(&mask, pln_key("x")));
}
END_TEST

enum { N_CHANCES = 100000 };

static void *draw(void *arg) {
    double *chances = arg;
    for (size_t i = 0; i < N_CHANCES; i++) {
        chances[i] = pln_chance();
    }
    return NULL;
}

START_TEST(chances_are_even_and_differ_between_threads) {
    static double here[N_CHANCES], there[N_CHANCES];
    int tenths[10] = {0}, n_same = 0;
    pthread_t thread;
    ck_assert_int_eq(pthread_create(&thread, NULL, draw, there), 0);
    draw(here);
    pthread_join(thread, NULL);
    for (size_t i = 0; i < N_CHANCES; i++) {
        ck_assert(here[i] >= 0 && here[i] < 1);
        tenths[(int) (here[i] * 10)]++;
        n_same += here[i] == there[i];
    }
    for (size_t i = 0; i < PLN_ARRAY_LEN(tenths); i++) {
        ck_assert_int_ge(tenths[i], 9000); /* ten times the usual distance from 10000 */
        ck_assert_int_le(tenths[i], 11000);
    }
    ck_assert_int_eq(n_same, 0);
}
END_TEST

START_TEST(a_hash_without_a_key_is_that_of_xxh3_and_the_same_everywhere) {
    struct pln_hash128 hash = pln_hash128(pln_bytes_of("", 0)); /* its specification's */
    ck_assert_uint_eq(hash.high, UINT64_C(0x99aa06d3014798d8));
    ck_assert_uint_eq(hash.low, UINT64_C(0x6001c324468d497f));
    struct pln_hash128 one = pln_hash128(pln_bytes_of("a\0b", 3));
    struct pln_hash128 other = pln_hash128(pln_bytes_of("a\0c", 3));
    ck_assert(one.high != other.high && one.low != other.low);
}
END_TEST

/* ---- the ends of threads ---- */

static struct pln_ends ends;
static int part; /* of what is closed meanwhile */
static atomic_bool is_ending, may_close, has_ended;
static atomic_int n_given_back;

static void give_back_slowly(struct pln_ends *owner, void *given) {
    ck_assert(owner == &ends && given == &part);
    atomic_store(&is_ending, true);
    while (!atomic_load(&may_close)) {
        sched_yield();
    }
    for (int i = 0; i < 1000; i++) { /* who did not wait for it would be back by now */
        sched_yield();
    }
    atomic_store(&has_ended, true);
}

static void count_given_back(struct pln_ends *owner, void *given) {
    (void) owner;
    (void) given;
    atomic_fetch_add(&n_given_back, 1);
}

static void *take_part(void *arg) {
    ck_assert(pln_ends_note(arg, &part));
    return NULL;
}

START_TEST(closing_waits_for_a_thread_that_is_just_ending) {
    pthread_t thread;
    ck_assert_int_eq(pln_ends_open(&ends, give_back_slowly), PLN_OK);
    ck_assert_int_eq(pthread_create(&thread, NULL, take_part, &ends), 0);
    while (!atomic_load(&is_ending)) {
        sched_yield();
    }
    atomic_store(&may_close, true);
    pln_ends_close(&ends);
    ck_assert(atomic_load(&has_ended));
    pthread_join(thread, NULL);
}
END_TEST

static void *take_of_two_that_go(void *arg) {
    struct pln_ends others[2];
    for (int i = 0; i < 2; i++) {
        ck_assert_int_eq(pln_ends_open(&others[i], count_given_back), PLN_OK);
        ck_assert(pln_ends_note(&others[i], &part));
        pln_ends_close(&others[i]);
    }
    take_part(arg);
    ck_assert(pln_ends_note(arg, &others));
    pln_ends_forget(arg, &others); /* given back by itself */
    return NULL;
}

START_TEST(what_is_gone_is_given_nothing) {
    pthread_t thread;
    ck_assert_int_eq(pln_ends_open(&ends, count_given_back), PLN_OK);
    ck_assert_int_eq(pthread_create(&thread, NULL, take_of_two_that_go, &ends), 0);
    pthread_join(thread, NULL);
    ck_assert_int_eq(atomic_load(&n_given_back), 1);
    pln_ends_close(&ends);
}
END_TEST

int main(void) {
    Suite *suite = suite_create("base");
    TCase *tests = tcase_create("base");
    suite_add_tcase(suite, tests);
    tcase_add_test(tests, durations_are_read_with_and_without_units);
    tcase_add_test(tests, sizes_and_shares_are_read);
    tcase_add_test(tests, a_misspelt_name_finds_its_neighbour);
    tcase_add_test(tests, a_failure_keeps_its_text_and_may_quote_the_last);
    tcase_add_test(tests, a_value_lives_until_its_last_reference);
    tcase_add_test(tests, counts_of_ended_threads_are_kept);
    tcase_add_test(tests, closing_waits_for_a_thread_that_is_just_ending);
    tcase_add_test(tests, what_is_gone_is_given_nothing);
    tcase_add_test(tests, patterns_fit_what_trying_every_way_finds);
    tcase_add_test(tests, a_prefix_is_its_bytes_and_a_star_in_it_a_star);
    tcase_add_test(tests, a_hash_without_a_key_is_that_of_xxh3_and_the_same_everywhere);
    tcase_add_test(tests, chances_are_even_and_differ_between_threads);
    SRunner *runner = srunner_create(suite);
    srunner_run_all(runner, CK_ENV);
    int failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed == 0 ? 0 : 1;
}
