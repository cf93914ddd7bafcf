/* SPDX-License-Identifier: MIT
 * test_slide.c - core/slide.c: lives that hits prolong, and what they do not.
 */
#include "rig.h"

static struct rig rig;
static struct pln_terms terms;

static void setup(bool has_l2) {
    struct pln_options options = {.ttl_ms = 10000, .sliding = true};
    rig_open(&rig, 2, has_l2, &options);
    terms = *pln_cache_terms(rig.caches[0]);
}

static void setup_apart(void) {
    setup(false);
}

static void setup_shared(void) {
    setup(true);
}

static void teardown(void) {
    rig_close(&rig);
}

#define A rig.caches[0]
#define B rig.caches[1]

static pln_ms left_of(struct pln_cache *cache, const char *key, const char *source) {
    struct pln_result result;
    ck_assert_int_eq(pln_get(cache, pln_key(key), NULL, &result), PLN_OK);
    ck_assert_str_eq(pln_source_name(result.source), source);
    pln_release(cache, result.value);
    return result.left_ms;
}

static void set_for(struct pln_cache *cache, const char *key, pln_ms ttl) {
    struct pln_set_options options = {.ttl_ms = ttl};
    ck_assert_int_eq(pln_set(cache, pln_key(key), pln_key("v"), &options), PLN_OK);
}

static void rule_on_both(void) {
    rig_policy(&rig, A, rig_rule("k:{id}", &terms, 0));
    rig_policy(&rig, B, rig_rule("k:{id}", &terms, 0));
}

/* ---- in L1 alone ---- */

START_TEST(a_hit_past_the_first_tenth_prolongs_and_idleness_ends) {
    rig_set(A, "k", "v");
    rig.now += 999;
    ck_assert_int_eq(left_of(A, "k", "l1"), 9001);
    ck_assert_int_eq(left_of(A, "k", "l1"), 9001);
    ck_assert_uint_eq(rig_stat(A, "slides"), 0);
    rig.now += 1;
    ck_assert_int_eq(left_of(A, "k", "l1"), 9000); /* what this hit finds */
    ck_assert_int_eq(left_of(A, "k", "l1"), 10000);
    ck_assert_uint_eq(rig_stat(A, "slides"), 1);
    for (unsigned i = 2; i < 100; i++) {
        rig.now += 9999;
        ck_assert_int_eq(left_of(A, "k", "l1"), 1);
        ck_assert_uint_eq(rig_stat(A, "slides"), i);
    }
    rig.now += 10000;
    rig_expect(A, "k", NULL, "miss");
}
END_TEST

START_TEST(no_hit_prolongs_a_life_past_the_greatest_age) {
    terms.max_age_ms = 35000;
    rule_on_both();
    rig_set(A, "k:1", "v");
    for (int i = 1; i < 35; i++) {
        rig.now += 1000;
        pln_ms left = left_of(A, "k:1", "l1");
        ck_assert_int_le(left, 35000 - i * 1000);
    }
    ck_assert_int_eq(left_of(A, "k:1", "l1"), 1000);
    rig.now += 1000;
    rig_expect(A, "k:1", NULL, "miss");
}
END_TEST

START_TEST(what_has_a_shorter_ttl_of_its_own_keeps_it_and_a_longer_one_is_not_cut) {
    set_for(A, "short", 5000);
    set_for(A, "long", 30000);
    rig.now += 4999;
    ck_assert_int_eq(left_of(A, "short", "l1"), 1);
    ck_assert_int_eq(left_of(A, "long", "l1"), 25001);
    ck_assert_int_eq(left_of(A, "short", "l1"), 1);
    ck_assert_int_eq(left_of(A, "long", "l1"), 25001);
    rig.now += 1;
    rig_expect(A, "short", NULL, "miss");
    rig.now += 24000;
    ck_assert_int_eq(left_of(A, "long", "l1"), 1000);
    ck_assert_int_eq(left_of(A, "long", "l1"), 10000);
}
END_TEST

START_TEST(what_was_expired_or_is_absent_is_not_prolonged) {
    struct pln_set_options absent = {.is_absent = true, .ttl_ms = 10000};
    rig_set(A, "k", "v");
    ck_assert_int_eq(pln_set(A, pln_key("none"), pln_key(""), &absent), PLN_OK);
    rig.now += 5000;
    ck_assert_int_eq(pln_expire(A, pln_key("k")), PLN_OK);
    rig_expect(A, "k", NULL, "miss");
    rig_expect(A, "none", NULL, "negative");
    ck_assert_uint_eq(rig_stat(A, "slides"), 0);
}
END_TEST

/* ---- in both tiers ---- */

/* Waits until an attempt to prolong a life has failed. */
static void await_failed_slide(struct pln_cache *cache, const char *name) {
    pln_ns deadline = pln_deadline(10000);
    struct pln_hashed key;
    pln_cache_key(cache, pln_key(name), &key);
    struct pln_hashed slide = {key.key, ~key.hash};
    while (!pln_failed_lately(cache, &slide, rig.now)) {
        ck_assert_int_lt(pln_clock_precise(), deadline);
    }
    ck_assert(!pln_failed_lately(cache, &key, rig.now)); /* no load has */
}

/* Reads in A's L1, and waits until what that set going is done. */
static void use(struct pln_cache *cache, const char *key, uint64_t slides) {
    uint64_t replaced = rig_stat(cache, "l1_replaces");
    left_of(cache, key, "l1");
    rig_await(cache, "slides", slides);
    rig_await(cache, "l1_replaces", replaced + 1);
}

START_TEST(hits_in_one_process_keep_a_value_alive_for_all) {
    rig_set(A, "k", "v");
    for (uint64_t i = 1; i <= 20; i++) {
        rig.now += 8000;
        use(A, "k", i);
        ck_assert_int_eq(left_of(A, "k", "l1"), 10000);
    }
    rig.now += 500;
    ck_assert_int_eq(left_of(B, "k", "l2"), 9500);
    rig.now += 8000;
    ck_assert_int_eq(left_of(B, "k", "l1"), 1500);
    rig_await(B, "slides", 1);
    ck_assert_int_eq(left_of(A, "k", "l2"), 10000); /* told, and reads it anew */
    rig.now += 10000;
    rig_expect(A, "k", NULL, "miss");
    rig_expect(B, "k", NULL, "miss");
}
END_TEST

START_TEST(reads_from_l2_prolong_too) {
    terms.use_l1 = false;
    rule_on_both();
    rig_set(A, "k:1", "v");
    for (uint64_t i = 1; i <= 5; i++) {
        rig.now += 9000;
        ck_assert_int_eq(left_of(B, "k:1", "l2"), 1000);
        rig_await(B, "slides", i);
    }
    rig.now += 999;
    ck_assert_int_eq(left_of(B, "k:1", "l2"), 9001);
    ck_assert_uint_eq(rig_stat(B, "slides"), 5);
}
END_TEST

START_TEST(the_greatest_age_holds_in_both_tiers) {
    terms.max_age_ms = 24000;
    rule_on_both();
    rig_set(A, "k:1", "v");
    rig.now += 8000;
    use(A, "k:1", 1);
    rig.now += 8000;
    use(A, "k:1", 2);
    ck_assert_int_eq(left_of(A, "k:1", "l1"), 8000);
    rig.now += 7999;
    ck_assert_int_eq(left_of(A, "k:1", "l1"), 1);
    ck_assert_int_eq(left_of(B, "k:1", "l2"), 1);
    rig.now += 1;
    rig_expect(A, "k:1", NULL, "miss");
    rig_expect(B, "k:1", NULL, "miss");
}
END_TEST

/* A does not hear of what B does, nor does its hit undo it. */
START_TEST(a_hit_brings_nothing_back_that_was_expired_or_given_a_shorter_life) {
    rig_set(A, "expired", "v");
    rig_set(A, "cut", "v");
    pln_l2_mem_hold(A->l2, true);
    rig.now += 5000;
    ck_assert_int_eq(pln_expire(B, pln_key("expired")), PLN_OK);
    set_for(B, "cut", 2000);
    ck_assert_int_eq(left_of(A, "expired", "l1"), 5000);
    ck_assert_int_eq(left_of(A, "cut", "l1"), 5000);
    await_failed_slide(A, "expired");
    await_failed_slide(A, "cut");
    rig_expect(B, "expired", NULL, "miss");
    rig.now += 2000;
    rig_expect(B, "cut", NULL, "miss");
    ck_assert_uint_eq(rig_stat(A, "slides"), 0);
}
END_TEST

START_TEST(with_l2_away_a_value_ends_in_time_and_is_asked_for_now_and_then) {
    rig_set(A, "k", "v");
    pln_l2_mem_cut(A->l2, true);
    rig.now += 5000;
    ck_assert_int_eq(left_of(A, "k", "l1"), 5000);
    await_failed_slide(A, "k");
    pln_l2_mem_cut(A->l2, false);
    rig.now += 999;
    ck_assert_int_eq(left_of(A, "k", "l1"), 4001);
    ck_assert_uint_eq(rig_stat(A, "slides"), 0);
    rig.now += 1;
    use(A, "k", 1);
    ck_assert_int_eq(left_of(A, "k", "l1"), 10000);
}
END_TEST

START_TEST(a_life_that_was_not_prolonged_holds_no_load_back) {
    terms.stale_if_error_ms = 60000;
    rig_policy(&rig, A, rig_rule("k:{id}", &terms, PLN_RULE_LOAD));
    rig_set(A, "k:1", "v");
    pln_l2_mem_hold(A->l2, true);
    rig.now += 5000;
    ck_assert_int_eq(pln_delete(B, pln_key("k:1")), PLN_OK);
    ck_assert_int_eq(left_of(A, "k:1", "l1"), 5000);
    await_failed_slide(A, "k:1");
    ck_assert_int_eq(pln_expire(A, pln_key("k:1")), PLN_OK);
    rig_expect(A, "k:1", "loaded 1", "loaded");
    ck_assert_uint_eq(rig_stat(A, "loads_held"), 0);
}
END_TEST

START_TEST(what_hits_prolong_ends_in_l2_with_its_l2_ttl) {
    terms.l2_ttl_ms = 10000;
    terms.stale_ms = 30000;
    rule_on_both();
    rig_set(A, "k:1", "v");
    rig.now += 5000;
    use(A, "k:1", 1);
    rig.now += 10000;
    rig_expect(B, "k:1", NULL, "miss");
}
END_TEST

START_TEST(a_copy_is_read_anew_where_another_process_has_prolonged_its_original) {
    terms.l1_ttl_ms = 8000;
    rule_on_both();
    rig_set(A, "k:1", "v");
    ck_assert_int_eq(left_of(B, "k:1", "l2"), 8000);
    rig.now += 5000;
    use(A, "k:1", 1);
    ck_assert_int_eq(left_of(B, "k:1", "l2"), 8000);
}
END_TEST

int main(void) {
    Suite *suite = suite_create("slide");
    TCase *apart = tcase_create("apart");
    suite_add_tcase(suite, apart);
    tcase_add_checked_fixture(apart, setup_apart, teardown);
    tcase_add_test(apart, a_hit_past_the_first_tenth_prolongs_and_idleness_ends);
    tcase_add_test(apart, no_hit_prolongs_a_life_past_the_greatest_age);
    tcase_add_test(apart, what_has_a_shorter_ttl_of_its_own_keeps_it_and_a_longer_one_is_not_cut);
    tcase_add_test(apart, what_was_expired_or_is_absent_is_not_prolonged);

    TCase *shared = tcase_create("shared");
    suite_add_tcase(suite, shared);
    tcase_add_checked_fixture(shared, setup_shared, teardown);
    tcase_add_test(shared, hits_in_one_process_keep_a_value_alive_for_all);
    tcase_add_test(shared, reads_from_l2_prolong_too);
    tcase_add_test(shared, the_greatest_age_holds_in_both_tiers);
    tcase_add_test(shared, a_hit_brings_nothing_back_that_was_expired_or_given_a_shorter_life);
    tcase_add_test(shared, with_l2_away_a_value_ends_in_time_and_is_asked_for_now_and_then);
    tcase_add_test(shared, a_life_that_was_not_prolonged_holds_no_load_back);
    tcase_add_test(shared, what_hits_prolong_ends_in_l2_with_its_l2_ttl);
    tcase_add_test(shared, a_copy_is_read_anew_where_another_process_has_prolonged_its_original);
    return rig_run(suite);
}
