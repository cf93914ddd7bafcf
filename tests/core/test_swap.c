/* SPDX-License-Identifier: MIT
 * test_swap.c - core/swap.c: values that change by what they are, in one process without Redis, and
 * in two instances over memory; what each then reads, and that no addition is lost. */
#include "rig.h"

#include <pthread.h>
#include <sched.h>
#include <stdio.h>

static struct rig rig;
static struct pln_cache *a, *b; /* b only where there is an L2 */

static void setup_alone(void) {
    rig_open(&rig, 1, false, NULL);
    a = rig.caches[0];
}

static void setup_fleet(void) {
    struct pln_options options = {.stale_ms = 5000};
    rig_open(&rig, 2, true, &options);
    a = rig.caches[0];
    b = rig.caches[1];
}

static void teardown(void) {
    rig_close(&rig);
}

static struct pln_cache *other(void) {
    return rig.caches[1] != NULL ? rig.caches[1] : rig.caches[0];
}

static int swap(struct pln_cache *cache, const char *old, const char *value, pln_ms ttl) {
    struct pln_swap_options options = {.ttl_ms = ttl};
    struct pln_bytes bytes = pln_key(old != NULL ? old : "");
    return pln_swap(cache, pln_key("k"), old != NULL ? &bytes : NULL, pln_key(value), &options,
                    NULL);
}

/* How long a value that is read is still fresh. */
static pln_ms left_of(struct pln_cache *cache, const char *key) {
    struct pln_result result;
    ck_assert_int_eq(pln_get(cache, pln_key(key), NULL, &result), PLN_OK);
    pln_release(cache, result.value);
    return result.left_ms;
}

static void expect_sum(struct pln_cache *cache, int64_t delta, int64_t wanted) {
    int64_t sum = -1;
    ck_assert_msg(pln_incr(cache, pln_key("k"), delta, NULL, &sum) == PLN_OK, "%s",
                  pln_error_text());
    ck_assert_int_eq(sum, wanted);
}

/* Each of these runs alone and in a fleet. */

START_TEST(a_value_gives_way_only_to_who_knows_it) {
    struct pln_result present;
    struct pln_bytes old = pln_key("none");
    ck_assert_int_eq(swap(a, "one", "two", 0), PLN_MISS);
    ck_assert_int_eq(swap(a, NULL, "one", 0), PLN_OK);
    rig_expect(a, "k", "one", "l1");
    ck_assert_int_eq(swap(other(), NULL, "two", 0), PLN_NOT_STORED);
    ck_assert_int_eq(pln_swap(other(), pln_key("k"), &old, pln_key("two"), NULL, &present),
                     PLN_NOT_STORED);
    ck_assert(present.value != NULL && present.len == 3);
    ck_assert_mem_eq(pln_value_data(present.value), "one", 3);
    pln_release(other(), present.value);
    ck_assert_int_eq(swap(other(), "one", "two", 0), PLN_OK);
    rig_expect(other(), "k", "two", "l1");
    rig_expect(a, "k", "two", a == other() ? "l1" : "l2");
}
END_TEST

START_TEST(the_format_is_a_part_of_the_value) {
    struct pln_set_options set = {.format = 7};
    struct pln_swap_options options = {.format = 8};
    struct pln_bytes old = pln_key("v");
    ck_assert_int_eq(pln_set(a, pln_key("k"), old, &set), PLN_OK);
    ck_assert_int_eq(pln_swap(a, pln_key("k"), &old, pln_key("w"), &options, NULL), PLN_NOT_STORED);
    options.old_format = 7;
    ck_assert_int_eq(pln_swap(a, pln_key("k"), &old, pln_key("w"), &options, NULL), PLN_OK);
    struct pln_result result;
    ck_assert_int_eq(pln_get(a, pln_key("k"), NULL, &result), PLN_OK);
    ck_assert_uint_eq(result.format, 8);
    pln_release(a, result.value);
}
END_TEST

START_TEST(its_life_goes_on_unless_another_is_given) {
    struct pln_set_options set = {.ttl_ms = 10000};
    ck_assert_int_eq(pln_set(a, pln_key("k"), pln_key("one"), &set), PLN_OK);
    atomic_fetch_add(&rig.now, 4000);
    ck_assert_int_eq(swap(other(), "one", "two", 0), PLN_OK);
    ck_assert_int_eq(left_of(other(), "k"), 6000);
    ck_assert_int_eq(left_of(a, "k"), 6000);
    ck_assert_int_eq(swap(other(), "two", "three", 20000), PLN_OK);
    ck_assert_int_eq(left_of(other(), "k"), 20000);
    ck_assert_int_eq(left_of(a, "k"), 20000);
    atomic_fetch_add(&rig.now,
                     20000); /* past its ttl it counts as nothing, and may be begun anew */
    ck_assert_int_eq(swap(a, "three", "four", 0), PLN_MISS);
    ck_assert_int_eq(swap(a, NULL, "four", 0), PLN_OK);
    ck_assert_int_eq(left_of(other(), "k"), 300000);
}
END_TEST

START_TEST(its_tags_go_on) {
    struct pln_bytes tag = pln_key("t");
    struct pln_set_options set = {.tags = &tag, .n_tags = 1};
    ck_assert_int_eq(pln_set(a, pln_key("k"), pln_key("1"), &set), PLN_OK);
    expect_sum(other(), 1, 2);
    expect_sum(a, 1, 3);
    ck_assert_int_eq(pln_invalidate_tag(other(), tag), PLN_OK);
    rig_expect(a, "k", NULL, "miss");
    rig_expect(other(), "k", NULL, "miss");
    ck_assert_int_eq(swap(a, "3", "4", 0), PLN_MISS);
}
END_TEST

START_TEST(what_is_absent_is_nothing) {
    struct pln_set_options set = {.is_absent = true};
    int64_t sum;
    ck_assert_int_eq(pln_set(a, pln_key("k"), pln_key(""), &set), PLN_OK);
    ck_assert_int_eq(swap(other(), "", "v", 0), PLN_MISS);
    ck_assert_int_eq(pln_incr(other(), pln_key("k"), 1, NULL, &sum), PLN_MISS);
    ck_assert_int_eq(swap(other(), NULL, "v", 0), PLN_OK);
    rig_expect(a, "k", "v", a == other() ? "l1" : "l2");
}
END_TEST

START_TEST(numbers_are_added_to) {
    struct pln_incr_options options = {.has_initial = true, .initial = 40, .ttl_ms = 5000};
    int64_t sum = 0;
    ck_assert_int_eq(pln_incr(a, pln_key("k"), 2, NULL, &sum), PLN_MISS);
    ck_assert_int_eq(pln_incr(a, pln_key("k"), 2, &options, &sum), PLN_OK);
    ck_assert_int_eq(sum, 42);
    rig_expect(a, "k", "42", "l1");
    ck_assert_int_eq(left_of(a, "k"), 5000);
    atomic_fetch_add(&rig.now, 1000);
    expect_sum(other(), -50, -8);
    rig_expect(other(), "k", "-8", "l1");
    rig_expect(a, "k", "-8", a == other() ? "l1" : "l2");
    ck_assert_int_eq(left_of(a, "k"), 4000);
    ck_assert_int_eq(pln_incr(a, pln_key("k"), 1, &options, &sum), PLN_OK);
    ck_assert_int_eq(sum, -7);
    ck_assert_int_eq(left_of(a, "k"), 5000);
}
END_TEST

START_TEST(what_is_no_number_stays_as_it_is) {
    static const char *const texts[] = {"", "-", "12a", " 1", "1.5", "0x1", "9223372036854775808"};
    int64_t sum = 7;
    for (size_t i = 0; i < PLN_ARRAY_LEN(texts); i++) {
        rig_set(a, "k", texts[i]);
        ck_assert_int_eq(pln_incr(a, pln_key("k"), 1, NULL, &sum), PLN_ETYPE);
        rig_expect(a, "k", texts[i], "l1");
    }
    rig_set(a, "k", "9223372036854775806");
    expect_sum(a, 1, INT64_MAX);
    ck_assert_int_eq(pln_incr(other(), pln_key("k"), 1, NULL, &sum), PLN_ETOOBIG);
    expect_sum(other(), INT64_MIN, -1);
    expect_sum(a, INT64_MIN + 1, INT64_MIN);
    ck_assert_int_eq(pln_incr(a, pln_key("k"), -1, NULL, &sum), PLN_ETOOBIG);
    ck_assert_int_eq(sum, 7);
}
END_TEST

START_TEST(what_makes_no_sense_is_refused) {
    int64_t sum;
    struct pln_swap_options swap_options = {.ttl_ms = -1};
    struct pln_incr_options incr_options = {.timeout_ms = -1};
    ck_assert_int_eq(pln_swap(a, pln_key("k"), NULL, pln_key("v"), &swap_options, NULL),
                     PLN_EINVAL);
    ck_assert_int_eq(pln_incr(a, pln_key("k"), 1, &incr_options, &sum), PLN_EINVAL);
    ck_assert_int_eq(pln_swap(a, pln_key(""), NULL, pln_key("v"), NULL, NULL), PLN_EINVAL);
    ck_assert_int_eq(pln_incr(a, pln_key(""), 1, NULL, &sum), PLN_EINVAL);
}
END_TEST

START_TEST(the_rule_of_the_key_holds) {
    struct pln_terms terms = *pln_cache_terms(a);
    terms.max_bytes = 2;
    terms.ttl_ms = 7000;
    rig_policy(&rig, a, rig_rule("k", &terms, 0));
    ck_assert_int_eq(swap(a, NULL, "long", 0), PLN_ETOOBIG);
    ck_assert_int_eq(swap(a, NULL, "98", 0), PLN_OK);
    ck_assert_int_eq(left_of(a, "k"), 7000);
    expect_sum(a, 1, 99);
    int64_t sum;
    ck_assert_int_eq(pln_incr(a, pln_key("k"), 1, NULL, &sum), PLN_ETOOBIG);
    rig_expect(a, "k", "99", "l1");
    terms.is_denied = true;
    rig_policy(&rig, a, rig_rule("k", &terms, 0));
    ck_assert_int_eq(swap(a, NULL, "v", 0), PLN_EDENIED);
    ck_assert_int_eq(pln_incr(a, pln_key("k"), 1, NULL, &sum), PLN_EDENIED);
}
END_TEST

/* ---- at once ---- */

enum { N_THREADS = 4, N_ADDITIONS = 2000, N_KEYS = 300 };

static void *add_up(void *arg) {
    struct pln_incr_options options = {.has_initial = true, .timeout_ms = 60000};
    for (int i = 0; i < N_ADDITIONS; i++) {
        int64_t sum;
        int status = pln_incr(arg, pln_key("k"), 1, &options, &sum);
        ck_assert_msg(status == PLN_OK, "%s", pln_error_text());
    }
    return NULL;
}

START_TEST(no_addition_is_lost) {
    pthread_t threads[N_THREADS];
    for (int i = 0; i < N_THREADS; i++) {
        ck_assert_int_eq(pthread_create(&threads[i], NULL, add_up, i % 2 == 0 ? a : other()), 0);
    }
    for (int i = 0; i < N_THREADS; i++) {
        pthread_join(threads[i], NULL);
    }
    expect_sum(a, 0, N_THREADS * N_ADDITIONS);
}
END_TEST

static _Atomic int n_stored;
static _Atomic int round_now;

static void *be_first(void *arg) {
    struct pln_set_options nx = {.flags = PLN_SET_NX};
    for (int i = 1; i <= N_KEYS; i++) {
        char key[16];
        snprintf(key, sizeof key, "nx:%d", i);
        atomic_fetch_add(&round_now, 1); /* all begin a key together */
        while (atomic_load(&round_now) < N_THREADS * i) {
            sched_yield();
        }
        if (pln_set(arg, pln_key(key), pln_key("v"), &nx) == PLN_OK) {
            atomic_fetch_add(&n_stored, 1);
        }
    }
    return NULL;
}

START_TEST(of_many_that_want_to_be_first_one_is) {
    pthread_t threads[N_THREADS];
    for (int i = 0; i < N_THREADS; i++) {
        ck_assert_int_eq(pthread_create(&threads[i], NULL, be_first, i % 2 == 0 ? a : other()), 0);
    }
    for (int i = 0; i < N_THREADS; i++) {
        pthread_join(threads[i], NULL);
    }
    ck_assert_int_eq(atomic_load(&n_stored), N_KEYS);
}
END_TEST

/* ---- a fleet's own affairs ---- */

START_TEST(an_old_copy_costs_a_try_and_no_error) {
    rig_set(a, "k", "1");
    rig_expect(b, "k", "1", "l2");
    pln_l2_mem_hold(b->l2, true); /* it hears of nothing */
    expect_sum(a, 1, 2);
    rig_expect(b, "k", "1", "l1");
    expect_sum(b, 1, 3);
    rig_expect(b, "k", "3", "l1");
    rig_expect(a, "k", "3", "l2");
}
END_TEST

START_TEST(an_outage_is_told_and_nothing_is_kept_for_later) {
    int64_t sum = 7;
    rig_set(a, "k", "1");
    pln_l2_mem_cut(a->l2, true);
    ck_assert_int_eq(pln_incr(a, pln_key("k"), 1, NULL, &sum), PLN_EL2DOWN);
    ck_assert_int_eq(swap(a, "1", "5", 0), PLN_EL2DOWN);
    ck_assert_int_eq(swap(a, NULL, "5", 0), PLN_EL2DOWN);
    ck_assert_int_eq(sum, 7);
    ck_assert_uint_eq(rig_stat(a, "recovery_kept"), 0);
    pln_l2_mem_cut(a->l2, false);
    expect_sum(a, 1, 2);
}
END_TEST

START_TEST(who_waits_for_a_load_sees_what_was_swapped_in) {
    struct pln_l2_lease lease;
    struct pln_hashed key = {pln_key("k"), pln_hash(pln_key("k"), a->seed)};
    ck_assert_int_eq(pln_l2_lease(b->l2, &key, 5000, pln_deadline(1000), &lease), PLN_OK);
    ck_assert_int_eq(swap(a, NULL, "v", 0), PLN_OK);
    struct pln_l2_item item = {.value = pln_key("old"), .fresh_left = 1000, .life_left = 1000};
    ck_assert_int_eq(pln_l2_commit(b->l2, &key, &lease, &item, pln_deadline(1000)), PLN_NOT_STORED);
    rig_expect(b, "k", "v", "l2");
}
END_TEST

static TCase *both(Suite *suite, const char *name, void (*set_up)(void)) {
    TCase *tests = tcase_create(name);
    tcase_add_checked_fixture(tests, set_up, teardown);
    tcase_set_timeout(tests, 120);
    tcase_add_test(tests, a_value_gives_way_only_to_who_knows_it);
    tcase_add_test(tests, the_format_is_a_part_of_the_value);
    tcase_add_test(tests, its_life_goes_on_unless_another_is_given);
    tcase_add_test(tests, its_tags_go_on);
    tcase_add_test(tests, what_is_absent_is_nothing);
    tcase_add_test(tests, numbers_are_added_to);
    tcase_add_test(tests, what_is_no_number_stays_as_it_is);
    tcase_add_test(tests, what_makes_no_sense_is_refused);
    tcase_add_test(tests, the_rule_of_the_key_holds);
    tcase_add_test(tests, no_addition_is_lost);
    tcase_add_test(tests, of_many_that_want_to_be_first_one_is);
    suite_add_tcase(suite, tests);
    return tests;
}

int main(void) {
    Suite *suite = suite_create("swap");
    both(suite, "alone", setup_alone);
    TCase *fleet = both(suite, "fleet", setup_fleet);
    tcase_add_test(fleet, an_old_copy_costs_a_try_and_no_error);
    tcase_add_test(fleet, an_outage_is_told_and_nothing_is_kept_for_later);
    tcase_add_test(fleet, who_waits_for_a_load_sees_what_was_swapped_in);
    return rig_run(suite);
}
