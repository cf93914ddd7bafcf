/* SPDX-License-Identifier: MIT
 * test_ring.c - l2/ring.c: keys are spread by weight, the same everywhere, and few of them move.
 *
 * Labels and keys are fixed, so the figures are too. What they are held against is the theory at
 * the head of ring.c, not what happened to come out. */
#include <check.h>
#include <math.h>
#include <stdio.h>

#include "../../l2/topology.h"

enum { N_KEYS = 100000, MOST_NODES = 12 };

static const char *const labels[MOST_NODES] = {
    "10.0.0.1:6379", "10.0.0.2:6379",  "10.0.0.3:6379",  "10.0.0.4:6379",
    "10.0.0.5:6379", "10.0.0.6:6379",  "10.0.0.7:6379",  "10.0.0.8:6379",
    "10.0.0.9:6379", "10.0.0.10:6379", "10.0.0.11:6379", "10.0.0.12:6379"};

static struct pln_ring *ring_of(const char *const *names, const unsigned *weights, size_t n) {
    struct pln_ring *ring = NULL;
    ck_assert_msg(pln_ring_new(names, weights, n, &ring) == PLN_OK, "%s", pln_error_text());
    return ring;
}

static size_t find(const struct pln_ring *ring, unsigned number) {
    char key[32];
    int len = snprintf(key, sizeof key, "key:%u", number);
    return pln_ring_find(ring, pln_bytes_of(key, (size_t) len));
}

/* The keys of each node are as many as its weight says, within four standard deviations: those of
 * its arcs on the circle, and of the keys' own chance. */
static void expect_shares(const unsigned *weights, size_t n) {
    struct pln_ring *ring = ring_of(labels, weights, n);
    unsigned counts[MOST_NODES] = {0}, sum = 0;
    for (size_t i = 0; i < n; i++) {
        sum += weights == NULL ? 1 : weights[i];
    }
    for (unsigned key = 0; key < N_KEYS; key++) {
        counts[find(ring, key)]++;
    }
    for (size_t i = 0; i < n; i++) {
        double weight = weights == NULL ? 1 : weights[i];
        double share = weight / sum, is = (double) counts[i] / N_KEYS;
        double variance = share * (1 - share) / (sum * PLN_RING_POINTS) +
                          share * (1 - share) / N_KEYS;
        ck_assert_msg(fabs(is - share) <= 4 * sqrt(variance), "node %zu of %zu: %g, not %g", i, n,
                      is, share);
    }
    pln_ring_free(ring);
}

START_TEST(equal_nodes_have_equal_shares) {
    expect_shares(NULL, (size_t) _i);
}
END_TEST

START_TEST(a_node_has_keys_by_its_weight) {
    expect_shares((unsigned[]){1, 2, 3, 4, 10}, 5);
    expect_shares((unsigned[]){1, 0, 1}, 3);
    expect_shares((unsigned[]){1023, 1}, 2);
}
END_TEST

/* Counts keys that two rings give to different nodes; `stays` is the node from or to which alone
 * they may move. The second ring's nodes are the first's, and one more. */
static unsigned count_moves(const struct pln_ring *less, const struct pln_ring *more,
                            size_t extra) {
    unsigned n_moved = 0;
    for (unsigned key = 0; key < N_KEYS; key++) {
        size_t before = find(less, key), after = find(more, key);
        if (before != after) {
            n_moved++;
            if (after != extra) {
                ck_abort_msg("key %u moved from %zu to %zu, not to %zu", key, before, after, extra);
            }
        }
    }
    return n_moved;
}

START_TEST(a_node_that_comes_or_goes_moves_only_its_own_keys) {
    size_t n = (size_t) _i;
    struct pln_ring *less = ring_of(labels, NULL, n), *more = ring_of(labels, NULL, n + 1);
    unsigned n_moved = count_moves(less, more, n);
    ck_assert_msg(n_moved > 0 && n_moved <= 1.1 / (double) (n + 1) * N_KEYS, "%u of %d keys moved",
                  n_moved, N_KEYS);
    pln_ring_free(less);
    pln_ring_free(more);
}
END_TEST

START_TEST(a_weight_that_grows_takes_keys_for_its_node_alone) {
    struct pln_ring *less = ring_of(labels, (unsigned[]){1, 2, 3}, 3);
    struct pln_ring *more = ring_of(labels, (unsigned[]){1, 4, 3}, 3);
    ck_assert_uint_gt(count_moves(less, more, 1), 0);
    pln_ring_free(less);
    pln_ring_free(more);
}
END_TEST

START_TEST(the_order_of_the_nodes_does_not_matter) {
    static const char *const names[] = {"a", "b", "c", "d"}, *const turned[] = {"d", "b", "a", "c"};
    struct pln_ring *one = ring_of(names, (unsigned[]){1, 2, 3, 4}, 4);
    struct pln_ring *other = ring_of(turned, (unsigned[]){4, 2, 1, 3}, 4);
    for (unsigned key = 0; key < N_KEYS; key++) {
        if (names[find(one, key)][0] != turned[find(other, key)][0]) {
            ck_abort_msg("key %u", key);
        }
    }
    pln_ring_free(one);
    pln_ring_free(other);
}
END_TEST

/* Written down once: another hash, seed or number of points would move every user's keys. */
START_TEST(keys_lie_where_they_always_lay) {
    static const char expected[] = "6576609093973643523309107274537834540895";
    char is[sizeof expected] = "";
    struct pln_ring *ring = ring_of(labels, NULL, 10);
    for (unsigned key = 0; key < sizeof is - 1; key++) {
        is[key] = (char) ('0' + find(ring, key));
    }
    ck_assert_str_eq(is, expected);
    ck_assert_uint_lt(pln_ring_find(ring, pln_bytes_of(NULL, 0)), 10);
    pln_ring_free(ring);
    pln_ring_free(NULL);
}
END_TEST

START_TEST(a_ring_that_cannot_be_is_refused_by_name) {
    struct pln_ring *ring = NULL;
    static const char *const twice[] = {"a", "b", "a"};
    ck_assert_int_eq(pln_ring_new(twice, NULL, 3, &ring), PLN_EINVAL);
    ck_assert_ptr_nonnull(strstr(pln_error_text(), "'a' is listed twice"));
    ck_assert_int_eq(pln_ring_new(labels, NULL, 0, &ring), PLN_EINVAL);
    ck_assert_ptr_nonnull(strstr(pln_error_text(), "0 nodes add up to 0"));
    ck_assert_int_eq(pln_ring_new(labels, (unsigned[]){0, 0}, 2, &ring), PLN_EINVAL);
    ck_assert_int_eq(pln_ring_new(labels, (unsigned[]){1, 1024}, 2, &ring), PLN_EINVAL);
    ck_assert_ptr_nonnull(strstr(pln_error_text(), "add up to 1025"));
    ck_assert_int_eq(pln_ring_new(labels, (unsigned[]){1, 1025}, 2, &ring), PLN_EINVAL);
    ck_assert_ptr_nonnull(strstr(pln_error_text(), "'10.0.0.2:6379' has the weight 1025"));
    ck_assert_ptr_null(ring);
}
END_TEST

int main(void) {
    Suite *suite = suite_create("ring");
    TCase *tests = tcase_create("ring");
    suite_add_tcase(suite, tests);
    tcase_set_timeout(tests, 60);
    tcase_add_loop_test(tests, equal_nodes_have_equal_shares, 1, MOST_NODES + 1);
    tcase_add_test(tests, a_node_has_keys_by_its_weight);
    tcase_add_loop_test(tests, a_node_that_comes_or_goes_moves_only_its_own_keys, 1, MOST_NODES);
    tcase_add_test(tests, a_weight_that_grows_takes_keys_for_its_node_alone);
    tcase_add_test(tests, the_order_of_the_nodes_does_not_matter);
    tcase_add_test(tests, keys_lie_where_they_always_lay);
    tcase_add_test(tests, a_ring_that_cannot_be_is_refused_by_name);
    SRunner *runner = srunner_create(suite);
    srunner_run_all(runner, CK_ENV);
    int failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed == 0 ? 0 : 1;
}
