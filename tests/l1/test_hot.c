/* SPDX-License-Identifier: MIT
 * test_hot.c - the hottest keys: ranks, ageing, floods, threads, and the countdown to a sample. */
#include "table.h"

#include <math.h>

enum {
    N_ZIPF = 1000000,
    N_TOP = 100,
    HALF_WINDOW = 1 << 19, /* samples after which counts are halved */
    N_THREADS = 4,
    N_FEW = 5,
    N_EACH = 100000,
};

static struct pln_hot *hot;
static struct pln_hot_key top[N_TOP + 1];

static void setup(void) {
    ck_assert_int_eq(pln_hot_new(&hot), PLN_OK);
}

static void teardown(void) {
    pln_hot_free(hot);
}

static uint64_t hash_of(uint32_t number) {
    return pln_hash(pln_bytes_of(&number, sizeof number), 7);
}

static void see_times(uint32_t number, unsigned times) {
    for (unsigned i = 0; i < times; i++) {
        pln_hot_see(hot, hash_of(number));
    }
}

/* Keys first .. first + n_keys - 1 in turn. */
static void see_in_turn(uint32_t first, uint32_t n_keys, unsigned samples) {
    for (unsigned i = 0; i < samples; i++) {
        pln_hot_see(hot, hash_of(first + i % n_keys));
    }
}

/* The place of a key among the first n of the top, from 1; 0: it is not there. */
static size_t place_of(uint32_t number, size_t n) {
    for (size_t i = 0; i < n; i++) {
        if (top[i].hash == hash_of(number)) {
            return i + 1;
        }
    }
    return 0;
}

/* ---- ranks ---- */

static double *zipf_sums(void) {
    double *sums = malloc(N_ZIPF * sizeof *sums), total = 0;
    for (size_t i = 0; i < N_ZIPF; i++) {
        sums[i] = total += 1 / pow((double) (i + 1), 0.99);
    }
    return sums;
}

/* Key 0 is the hottest, key 1 the next. */
static uint32_t zipf(const double *sums, uint64_t *state) {
    uint32_t low = 0, high = N_ZIPF - 1;
    *state = *state * UINT64_C(6364136223846793005) + 1442695040888963407;
    double at = (double) (*state >> 11) * 0x1p-53 * sums[N_ZIPF - 1];
    while (low < high) {
        uint32_t middle = (low + high) / 2;
        if (sums[middle] < at) {
            low = middle + 1;
        } else {
            high = middle;
        }
    }
    return low;
}

struct draws {
    const double *sums;
    uint64_t seed;
    size_t n;
};

static void *see_zipf(void *arg) {
    struct draws *draws = arg;
    uint64_t state = draws->seed;
    for (size_t i = 0; i < draws->n; i++) {
        pln_hot_see(hot, hash_of(zipf(draws->sums, &state)));
    }
    return NULL;
}

/* How many of the hundred hottest by the law are told a rank off by no more than a share of it. */
static unsigned ranked_within(double share) {
    struct pln_hot_key more[2 * N_TOP];
    unsigned n_right = 0;
    ck_assert_uint_eq(pln_hot_top(hot, more, 2 * N_TOP), 2 * N_TOP);
    for (uint32_t i = 0; i < N_TOP; i++) {
        size_t at = 0;
        while (at < 2 * N_TOP && more[at].hash != hash_of(i)) {
            at++;
        }
        double off = fabs((double) at - (double) i);
        n_right += off <= fmax(1, share * (i + 1));
    }
    return n_right;
}

START_TEST(ten_million_requests_rank_95_of_the_hundred_hottest_right) {
    double *sums = zipf_sums();
    struct draws draws = {.sums = sums, .seed = 5, .n = 10000000 / PLN_HOT_EVERY};
    see_zipf(&draws);
    ck_assert_uint_ge(ranked_within(0.10), 95);
    ck_assert_uint_eq(ranked_within(0.20), 100);
    pln_hot_top(hot, top, N_TOP);
    ck_assert_double_eq_tol(top[0].share, 1 / sums[N_ZIPF - 1], 0.002);
    free(sums);
}
END_TEST

START_TEST(twenty_million_requests_rank_98_of_them_right) {
    double *sums = zipf_sums();
    struct draws draws = {.sums = sums, .seed = 6, .n = 20000000 / PLN_HOT_EVERY};
    see_zipf(&draws);
    ck_assert_uint_ge(ranked_within(0.10), 98);
    free(sums);
}
END_TEST

START_TEST(two_threads_rank_as_well_as_one) {
    double *sums = zipf_sums();
    struct draws draws[2];
    pthread_t threads[2];
    for (unsigned i = 0; i < 2; i++) {
        draws[i] = (struct draws){.sums = sums, .seed = i + 8, .n = 10000000 / PLN_HOT_EVERY / 2};
        ck_assert_int_eq(pthread_create(&threads[i], NULL, see_zipf, &draws[i]), 0);
    }
    for (unsigned i = 0; i < 2; i++) {
        pthread_join(threads[i], NULL);
    }
    ck_assert_uint_ge(ranked_within(0.10), 95);
    ck_assert_uint_eq(ranked_within(0.20), 100);
    free(sums);
}
END_TEST

/* ---- few keys ---- */

START_TEST(fewer_keys_than_asked_for_are_all_told) {
    ck_assert_uint_eq(pln_hot_top(hot, top, N_TOP), 0);
    see_times(1, 10);
    see_times(2, 30);
    see_times(3, 20);
    ck_assert_uint_eq(pln_hot_top(hot, top, N_TOP), 3);
    ck_assert_uint_eq(place_of(2, 3), 1);
    ck_assert_uint_eq(place_of(3, 3), 2);
    ck_assert_uint_eq(place_of(1, 3), 3);
    ck_assert_uint_eq(top[0].requests, 30 * PLN_HOT_EVERY);
    ck_assert_double_eq_tol(top[0].share, 0.5, 1e-9);
}
END_TEST

START_TEST(no_more_keys_than_asked_for_are_told) {
    see_in_turn(0, 1000, 20000);
    see_times(1000, 1000);
    memset(top, 0xee, sizeof top);
    ck_assert_uint_eq(pln_hot_top(hot, top, 0), 0);
    ck_assert_uint_eq(pln_hot_top(hot, top, 2), 2);
    ck_assert_uint_eq(top[0].hash, hash_of(1000));
    ck_assert_uint_eq(top[2].hash, UINT64_C(0xeeeeeeeeeeeeeeee));
}
END_TEST

static void *see_few(void *arg) {
    (void) arg;
    see_in_turn(0, N_FEW, N_EACH);
    return NULL;
}

START_TEST(threads_lose_no_sample) {
    pthread_t threads[N_THREADS];
    uint64_t sum = 0;
    for (unsigned i = 0; i < N_THREADS; i++) {
        ck_assert_int_eq(pthread_create(&threads[i], NULL, see_few, NULL), 0);
    }
    for (unsigned i = 0; i < N_THREADS; i++) {
        pthread_join(threads[i], NULL);
    }
    ck_assert_uint_eq(pln_hot_top(hot, top, N_TOP), N_FEW);
    for (unsigned i = 0; i < N_FEW; i++) {
        sum += top[i].requests;
        /* where all meet in a free cell, some count for the one who keeps it */
        ck_assert_double_eq_tol((double) top[i].requests,
                                (double) N_THREADS * N_EACH / N_FEW * PLN_HOT_EVERY,
                                N_THREADS * N_FEW * PLN_HOT_EVERY);
    }
    ck_assert_uint_eq(sum, (uint64_t) N_THREADS * N_EACH * PLN_HOT_EVERY);
}
END_TEST

/* ---- floods and age ---- */

START_TEST(a_flood_of_keys_that_come_once_does_not_wash_out_the_hot_ones) {
    see_in_turn(0, 50, 50 * 60);
    see_in_turn(1000, 400000, 400000); /* 78 for every cell there is */
    ck_assert_uint_eq(pln_hot_top(hot, top, 50), 50);
    for (uint32_t i = 0; i < 50; i++) {
        size_t place = place_of(i, 50);
        ck_assert_uint_gt(place, 0);
        ck_assert_uint_le(top[place - 1].requests, 66 * PLN_HOT_EVERY);
        ck_assert_uint_ge(top[place - 1].requests, 60 * PLN_HOT_EVERY);
    }
}
END_TEST

START_TEST(yesterdays_hot_keys_give_way_within_a_window) {
    see_in_turn(0, N_TOP, 4 * HALF_WINDOW);
    see_in_turn(1000, N_TOP, 2 * HALF_WINDOW);
    ck_assert_uint_eq(pln_hot_top(hot, top, N_TOP), N_TOP);
    for (uint32_t i = 0; i < N_TOP; i++) {
        ck_assert_uint_gt(place_of(1000 + i, N_TOP), 0);
    }
}
END_TEST

START_TEST(a_key_that_nobody_asks_for_is_forgotten) {
    see_times(1, N_EACH);
    see_times(2, 33 * HALF_WINDOW);
    ck_assert_uint_eq(pln_hot_top(hot, top, N_TOP), 1);
    ck_assert_uint_eq(top[0].hash, hash_of(2));
    ck_assert_double_eq_tol(top[0].share, 1, 1e-9);
}
END_TEST

/* ---- the countdown ---- */

START_TEST(a_regular_program_hides_no_key_from_the_sample) {
    struct pln_hot_turn turn = {.left = 0};
    const uint32_t n_keys = PLN_HOT_EVERY;
    for (uint32_t i = 0; i < n_keys * N_EACH; i++) {
        pln_hot_hit(hot, &turn, hash_of(i % n_keys));
    }
    ck_assert_uint_eq(pln_hot_top(hot, top, N_TOP), n_keys);
    for (uint32_t i = 0; i < n_keys; i++) {
        ck_assert_double_eq_tol((double) top[i].requests, N_EACH, 0.1 * N_EACH);
        ck_assert_double_eq_tol(top[i].share, 1.0 / n_keys, 0.1 / n_keys);
    }
}
END_TEST

int main(void) {
    Suite *suite = suite_create("hot");
    TCase *cases = tcase_create("hot");
    suite_add_tcase(suite, cases);
    tcase_add_checked_fixture(cases, setup, teardown);
    tcase_set_timeout(cases, 60);
    tcase_add_test(cases, ten_million_requests_rank_95_of_the_hundred_hottest_right);
    tcase_add_test(cases, twenty_million_requests_rank_98_of_them_right);
    tcase_add_test(cases, two_threads_rank_as_well_as_one);
    tcase_add_test(cases, fewer_keys_than_asked_for_are_all_told);
    tcase_add_test(cases, no_more_keys_than_asked_for_are_told);
    tcase_add_test(cases, threads_lose_no_sample);
    tcase_add_test(cases, a_flood_of_keys_that_come_once_does_not_wash_out_the_hot_ones);
    tcase_add_test(cases, yesterdays_hot_keys_give_way_within_a_window);
    tcase_add_test(cases, a_key_that_nobody_asks_for_is_forgotten);
    tcase_add_test(cases, a_regular_program_hides_no_key_from_the_sample);
    return run_suite(suite);
}
