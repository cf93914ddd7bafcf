/* SPDX-License-Identifier: MIT
 * test_same.c - core/load.c, fill.c: loaders that see the old value, and say that it is still that
 * of their source. */
#include "rig.h"

static struct rig rig;
static struct pln_terms terms;

static void setup(void) {
    struct pln_options options = {.ttl_ms = 10000, .stale_if_error_ms = 60000};
    rig_open(&rig, 2, true, &options);
    terms = *pln_cache_terms(rig.caches[0]);
}

static void setup_alone(void) {
    struct pln_options options = {.ttl_ms = 10000, .stale_if_error_ms = 60000};
    rig_open(&rig, 1, false, &options);
    terms = *pln_cache_terms(rig.caches[0]);
}

static void teardown(void) {
    rig_close(&rig);
}

#define A rig.caches[0]
#define B rig.caches[1]

static int say_same(void *arg, struct pln_bytes key, struct pln_load *load) {
    uint8_t format;
    const char *old = arg;
    (void) key;
    struct pln_bytes seen = pln_load_old(load, &format);
    ck_assert(old == NULL ? seen.data == NULL : pln_bytes_equal(seen, pln_key(old)));
    ck_assert_uint_eq(format, old == NULL ? 0 : 7);
    return pln_load_same(load);
}

static void set_seven(struct pln_cache *cache, const char *value) {
    struct pln_set_options options = {.format = 7};
    ck_assert_int_eq(pln_set(cache, pln_key("k"), pln_key(value), &options), PLN_OK);
}

static void expect_same(struct pln_cache *cache, char *value) {
    struct pln_result result;
    ck_assert_msg(pln_get_or_load(cache, pln_key("k"), NULL, say_same, value, &result) == PLN_OK,
                  "%s", pln_error_text());
    ck_assert_str_eq(pln_source_name(result.source), "loaded");
    ck_assert_uint_eq(result.format, 7);
    ck_assert_int_eq(result.left_ms, 10000);
    ck_assert_int_eq(result.age_ms, 0);
    ck_assert_mem_eq(pln_value_data(result.value), value, result.len);
    pln_release(cache, result.value);
}

START_TEST(an_unchanged_value_of_l1_begins_a_new_life) {
    set_seven(A, "v");
    rig.now += 15000;
    expect_same(A, "v");
    rig.now += 9999;
    rig_expect(A, "k", "v", "l1");
    ck_assert_uint_eq(rig_stat(A, "loads_same"), 1);
}
END_TEST

START_TEST(an_unchanged_value_of_l2_begins_a_new_life_for_all) {
    set_seven(A, "v");
    rig.now += 15000;
    expect_same(B, "v"); /* L1 of B has none */
    rig.now += 9999;
    rig_expect(B, "k", "v", "l1");
    rig_expect(A, "k", "v", "l2"); /* its own copy is past its ttl; that in L2 is not */
}
END_TEST

START_TEST(a_refresh_behind_may_find_the_value_unchanged) {
    terms.refresh = 0.8;
    rig.is_unchanged = true;
    rig_policy(&rig, A, rig_rule("k:{id}", &terms, PLN_RULE_LOAD));
    rig_expect(A, "k:1", "loaded 1", "loaded");
    rig.now += 8000;
    rig_expect(A, "k:1", "loaded 1", "l1");
    rig_await(A, "l1_replaces", 1);
    ck_assert_uint_eq(rig_stat(A, "loads_same"), 1);
    rig.now += 7999;
    rig_expect(A, "k:1", "loaded 1", "l1");
    ck_assert_int_eq(rig.n_loads, 2);
}
END_TEST

START_TEST(nothing_is_the_same_as_no_value) {
    struct pln_result result;
    ck_assert_int_eq(pln_get_or_load(A, pln_key("k"), NULL, say_same, NULL, &result), PLN_EINVAL);
    ck_assert_str_eq(pln_error_text(), "load: not modified, but there is no old value");
    struct pln_set_options absent = {.is_absent = true};
    ck_assert_int_eq(pln_set(A, pln_key("k"), pln_key(""), &absent), PLN_OK);
    rig.now += 20000;
    ck_assert_int_eq(pln_get_or_load(A, pln_key("k"), NULL, say_same, NULL, &result), PLN_EINVAL);
    set_seven(A, "v");
    ck_assert_int_eq(pln_delete(A, pln_key("k")), PLN_OK); /* deleted is no old value */
    ck_assert_int_eq(pln_get_or_load(A, pln_key("k"), NULL, say_same, NULL, &result), PLN_EINVAL);
    ck_assert_uint_eq(rig_stat(A, "loads_same"), 0);
}
END_TEST

static int delete_and_say_same(void *arg, struct pln_bytes key, struct pln_load *load) {
    ck_assert_int_eq(pln_delete(arg, key), PLN_OK);
    return pln_load_same(load);
}

START_TEST(what_is_deleted_while_it_is_compared_is_not_kept) {
    struct pln_result result;
    set_seven(A, "v");
    rig.now += 15000;
    ck_assert_int_eq(pln_get_or_load(A, pln_key("k"), NULL, delete_and_say_same, A, &result),
                     PLN_OK);
    pln_release(A, result.value);
    rig_expect(A, "k", NULL, "miss");
}
END_TEST

/* Says how long its value is fresh and kept: 5 s, and what `arg` is, in ms. */
static int say_stale(void *arg, struct pln_bytes key, struct pln_load *load) {
    (void) key;
    pln_load_ttl(load, 5000);
    pln_load_stale(load, *(pln_ms *) arg);
    return pln_load_value(load, pln_key("v"), 7);
}

static void load_with_stale(struct pln_cache *cache, pln_ms stale) {
    struct pln_result result;
    ck_assert_int_eq(pln_get_or_load(cache, pln_key("k"), NULL, say_stale, &stale, &result),
                     PLN_OK);
    pln_release(cache, result.value);
}

/* Whether a loader of an instance is shown the old value; it stores nothing. */
static int see_old(void *arg, struct pln_bytes key, struct pln_load *load) {
    uint8_t format;
    (void) key;
    *(bool *) arg = pln_load_old(load, &format).data != NULL;
    return pln_load_error(load, "seen");
}

static bool has_old(struct pln_cache *cache) {
    struct pln_get_options options = {.flags = PLN_GET_NO_STALE};
    struct pln_result result;
    bool has_old = false;
    ck_assert_int_eq(pln_get_or_load(cache, pln_key("k"), &options, see_old, &has_old, &result),
                     PLN_ELOADER);
    return has_old;
}

START_TEST(a_value_is_kept_past_its_ttl_for_as_long_as_its_loader_said) {
    for (int i = 0; i < 2 && rig.caches[i] != NULL; i++) {
        load_with_stale(A, 0);
        rig.now += 4999;
        rig_expect(rig.caches[i], "k", "v", i == 0 ? "l1" : "l2");
        rig.now += 2;
        ck_assert(!has_old(rig.caches[i])); /* though the terms have a minute */
    }
    load_with_stale(A, 100000);
    rig.now += 5000 + 99000;
    for (int i = 0; i < 2 && rig.caches[i] != NULL; i++) {
        ck_assert(has_old(rig.caches[i]));
    }
    struct pln_result result; /* the terms say how long of that it is served */
    bool has_seen;
    ck_assert_int_eq(pln_get_or_load(A, pln_key("k"), NULL, see_old, &has_seen, &result),
                     PLN_ELOADER);
    rig.now += 1001;
    for (int i = 0; i < 2 && rig.caches[i] != NULL; i++) {
        ck_assert(!has_old(rig.caches[i]));
    }
}
END_TEST

START_TEST(a_program_learns_the_terms_of_a_key) {
    struct pln_key_terms said;
    ck_assert_int_eq(pln_key_terms(A, pln_key("k"), &said), PLN_OK);
    ck_assert_int_eq(said.ttl_ms, 10000);
    ck_assert_int_eq(said.stale_ms, 0);
    ck_assert_int_eq(said.stale_if_error_ms, 60000);
    ck_assert_int_eq(said.negative_ms, 10000);
    ck_assert_int_eq(pln_key_terms(A, pln_key(""), &said), PLN_EINVAL);
}
END_TEST

static void add_both(TCase *tests) {
    tcase_add_test(tests, an_unchanged_value_of_l1_begins_a_new_life);
    tcase_add_test(tests, a_refresh_behind_may_find_the_value_unchanged);
    tcase_add_test(tests, nothing_is_the_same_as_no_value);
    tcase_add_test(tests, what_is_deleted_while_it_is_compared_is_not_kept);
    tcase_set_timeout(tests, 30);
    tcase_add_test(tests, a_value_is_kept_past_its_ttl_for_as_long_as_its_loader_said);
    tcase_add_test(tests, a_program_learns_the_terms_of_a_key);
}

int main(void) {
    Suite *suite = suite_create("same");
    TCase *alone = tcase_create("alone"), *two = tcase_create("two");
    suite_add_tcase(suite, alone);
    suite_add_tcase(suite, two);
    tcase_add_checked_fixture(alone, setup_alone, teardown);
    tcase_add_checked_fixture(two, setup, teardown);
    add_both(alone);
    add_both(two);
    tcase_add_test(two, an_unchanged_value_of_l2_begins_a_new_life_for_all);
    return rig_run(suite);
}
