/* SPDX-License-Identifier: MIT
 * test_fills.c - core/fills.c: loads of one thread that share their round trips. */
#include "rig.h"
#include "../../core/fills.h"

#include <stdio.h>

static struct rig rig;

#define CACHE rig.caches[0]
#define OTHER rig.caches[1]

/* Leases so long that whoever waits for one waits for ever. */
static void setup(void) {
    struct pln_options options = {
        .ttl_ms = 10000, .lease_ms = 3600000, .load_timeout_ms = 3600000, .timeout_ms = 1000};
    rig_open(&rig, 2, true, &options);
    for (int i = 0; i < 2; i++) {
        rig_policy(&rig, rig.caches[i],
                   rig_rule("k:{id}", pln_cache_terms(rig.caches[i]), PLN_RULE_LOAD));
    }
}

static void teardown(void) {
    rig_close(&rig);
}

static struct pln_fills *begin(const char *first, const char *second, const char *third) {
    struct pln_bytes keys[] = {pln_key(first), pln_key(second), pln_key(third)};
    struct pln_fills *fills = pln_fills_begin(CACHE, keys, 3);
    ck_assert_ptr_nonnull(fills);
    return fills;
}

/* As a thread that warms does. */
static void load_as(const char *key, unsigned worker, const char *source) {
    struct pln_result result;
    struct pln_get_options options = {.flags = PLN_GET_NO_STALE | PLN_GET_NO_L1 | PLN_GET_KEEP};
    ck_assert_msg(pln_cache_load_as(CACHE, pln_key(key), &options, worker, &result) == PLN_OK, "%s",
                  pln_error_text());
    ck_assert_str_eq(pln_source_name(result.source), source);
    pln_release(CACHE, result.value);
}

static bool others_may_load(const char *key) {
    struct pln_hashed hashed;
    struct pln_l2_lease lease;
    ck_assert_int_eq(pln_cache_key(OTHER, pln_key(key), &hashed), PLN_OK);
    int status = pln_l2_lease(OTHER->l2, &hashed, 1000, pln_deadline(1000), &lease);
    if (status == PLN_OK) {
        ck_assert_int_eq(pln_l2_release(OTHER->l2, &hashed, &lease, pln_deadline(1000)), PLN_OK);
    }
    return status == PLN_OK;
}

static void expect_in_l2(const char *key, bool is_there) {
    struct pln_hashed hashed;
    struct pln_l2_value value;
    ck_assert_int_eq(pln_cache_key(OTHER, pln_key(key), &hashed), PLN_OK);
    int status = pln_l2_get(OTHER->l2, &hashed, pln_deadline(1000), &value);
    ck_assert_int_eq(status, is_there ? PLN_OK : PLN_MISS);
    if (is_there) {
        pln_l2_value_fini(&value);
    }
}

START_TEST(what_is_loaded_is_stored_at_the_end_of_all) {
    struct pln_fills *fills = begin("k:1", "k:2", "k:3");
    ck_assert(!others_may_load("k:1") && !others_may_load("k:3"));
    load_as("k:1", 2, "loaded");
    load_as("k:2", 2, "loaded");
    expect_in_l2("k:1", false);
    pln_fills_end(fills);
    expect_in_l2("k:1", true);
    expect_in_l2("k:2", true);
    expect_in_l2("k:3", false);
    rig_expect(CACHE, "k:1", "loaded 1", "l1");
    ck_assert_msg(others_may_load("k:3"), "what was not used is given back");
    ck_assert_msg(others_may_load("k:2"), "what was used has ended");
}
END_TEST

START_TEST(what_was_deleted_meanwhile_is_not_stored) {
    struct pln_fills *fills = begin("k:1", "k:2", "k:3");
    load_as("k:1", 2, "loaded");
    load_as("k:2", 2, "loaded");
    ck_assert_int_eq(pln_delete(OTHER, pln_key("k:1")), PLN_OK);
    pln_fills_end(fills);
    expect_in_l2("k:1", false);
    expect_in_l2("k:2", true);
    struct pln_result result;
    ck_assert_int_eq(pln_peek(CACHE, pln_key("k:1"), &result), PLN_MISS);
    ck_assert_uint_eq(rig_stat(CACHE, "leases_lost"), 1);
}
END_TEST

START_TEST(what_was_deleted_before_its_load_is_loaded_and_not_stored) {
    struct pln_fills *fills = begin("k:1", "k:2", "k:3");
    ck_assert_int_eq(pln_delete(OTHER, pln_key("k:1")), PLN_OK);
    load_as("k:1", 2, "loaded"); /* after the delete, but under a stamp and a lease from before */
    pln_fills_end(fills);
    expect_in_l2("k:1", false);
    struct pln_result result;
    ck_assert_int_eq(pln_peek(CACHE, pln_key("k:1"), &result), PLN_MISS);
}
END_TEST

START_TEST(a_value_that_is_there_is_found_and_not_loaded) {
    rig_set(OTHER, "k:2", "theirs");
    struct pln_fills *fills = begin("k:1", "k:2", "k:3");
    load_as("k:2", 2, "l2");
    pln_fills_end(fills);
    ck_assert_int_eq(rig.n_loads, 0);
    ck_assert(others_may_load("k:2"));
}
END_TEST

START_TEST(a_key_that_others_hold_is_theirs_to_load) {
    struct pln_hashed hashed;
    struct pln_l2_lease lease;
    ck_assert_int_eq(pln_cache_key(OTHER, pln_key("k:2"), &hashed), PLN_OK);
    ck_assert_int_eq(pln_l2_lease(OTHER->l2, &hashed, 1000, pln_deadline(1000), &lease), PLN_OK);
    struct pln_fills *fills = begin("k:1", "k:2", "k:3");
    load_as("k:1", 2, "loaded");
    pln_fills_end(fills);
    ck_assert_int_eq(pln_l2_release(OTHER->l2, &hashed, &lease, pln_deadline(1000)), PLN_OK);
}
END_TEST

START_TEST(a_failed_load_gives_its_lease_back) {
    struct pln_result result;
    struct pln_get_options options = {.flags = PLN_GET_NO_L1};
    struct pln_fills *fills = begin("k:1", "k:2", "k:3");
    rig.load_status = PLN_ELOADER;
    ck_assert_int_eq(pln_cache_load_as(CACHE, pln_key("k:1"), &options, 2, &result), PLN_ELOADER);
    ck_assert(others_may_load("k:1"));
    pln_fills_end(fills);
}
END_TEST

START_TEST(ages_count_from_the_load) {
    struct pln_result result;
    struct pln_fills *fills = begin("k:1", "k:2", "k:3");
    load_as("k:1", 2, "loaded");
    atomic_fetch_add(&rig.now, 30);
    pln_fills_end(fills);
    ck_assert_int_eq(pln_peek(CACHE, pln_key("k:1"), &result), PLN_OK);
    ck_assert_int_eq(result.age_ms, 30);
    ck_assert_int_eq(result.left_ms, 10000 - 30);
    pln_release(CACHE, result.value);
}
END_TEST

/* ---- loaders that ask for what is held ---- */

static pthread_barrier_t both_hold;

/* "k:page" is made of "k:part", "k:left" of "k:up", and "k:right" of "k:down". */
static int load_parts(void *arg, unsigned worker, const struct pln_match *match,
                      struct pln_bytes key, struct pln_load *load) {
    static const char *const parts[][2] = {
        {"k:page", "k:part"}, {"k:left", "k:up"}, {"k:right", "k:down"}};
    struct pln_result result;
    (void) arg;
    (void) worker;
    (void) match;
    for (size_t i = 0; i < PLN_ARRAY_LEN(parts); i++) {
        if (pln_bytes_equal(key, pln_key(parts[i][0]))) {
            if (i > 0) {
                pthread_barrier_wait(&both_hold);
            }
            ck_assert_msg(pln_get(CACHE, pln_key(parts[i][1]), NULL, &result) == PLN_OK, "%s",
                          pln_error_text());
            pln_release(CACHE, result.value);
        }
    }
    return pln_load_value(load, key, 0);
}

static void put_parts(void) {
    struct pln_ruleset *ruleset = pln_ruleset_new();
    ruleset->rules = malloc(sizeof *ruleset->rules);
    ruleset->rules[0] = rig_rule("k:{id}", pln_cache_terms(CACHE), PLN_RULE_LOAD);
    ruleset->n_rules = 1;
    ruleset->hooks = (struct pln_hooks){.load = load_parts};
    pln_cache_set_policy_take(CACHE, ruleset);
}

START_TEST(a_loader_may_ask_for_a_key_whose_lease_its_own_thread_holds) {
    put_parts();
    struct pln_fills *fills = begin("k:1", "k:page", "k:part");
    load_as("k:1", 2, "loaded");
    load_as("k:page", 2, "loaded");
    expect_in_l2("k:1", true); /* all was stored before it asked */
    load_as("k:part", 2, "l2");
    pln_fills_end(fills);
    expect_in_l2("k:page", true);
}
END_TEST

static void *load_left(void *arg) {
    struct pln_fills *fills = begin("k:left", "k:down", "k:2");
    (void) arg;
    load_as("k:left", 2, "loaded");
    pln_fills_end(fills);
    return NULL;
}

START_TEST(two_threads_may_ask_for_what_the_other_holds) {
    pthread_t thread;
    put_parts();
    pthread_barrier_init(&both_hold, NULL, 2);
    struct pln_fills *fills = begin("k:right", "k:up", "k:3");
    pthread_create(&thread, NULL, load_left, NULL);
    load_as("k:right", 3, "loaded");
    pln_fills_end(fills);
    pthread_join(thread, NULL);
    pthread_barrier_destroy(&both_hold);
    expect_in_l2("k:left", true);
    expect_in_l2("k:right", true);
    expect_in_l2("k:up", true);
    expect_in_l2("k:down", true);
}
END_TEST

static void *load_as_other(void *arg) {
    struct pln_bytes keys[] = {pln_key("k:c"), pln_key("k:d")};
    struct pln_get_options options = {.flags = PLN_GET_NO_L1 | PLN_GET_KEEP};
    struct pln_result result;
    (void) arg;
    struct pln_fills *fills = pln_fills_begin(OTHER, keys, 2);
    pthread_barrier_wait(&both_hold);
    ck_assert_int_eq(pln_cache_load_as(OTHER, pln_key("k:a"), &options, 2, &result), PLN_OK);
    pln_release(OTHER, result.value);
    pln_fills_end(fills);
    return NULL;
}

START_TEST(two_instances_may_want_what_the_other_holds) {
    struct pln_bytes keys[] = {pln_key("k:a"), pln_key("k:b")};
    pthread_t thread;
    pthread_barrier_init(&both_hold, NULL, 2);
    struct pln_fills *fills = pln_fills_begin(CACHE, keys, 2);
    pthread_create(&thread, NULL, load_as_other, NULL);
    pthread_barrier_wait(&both_hold);
    load_as("k:c", 2, "loaded");
    pln_fills_end(fills);
    pthread_join(thread, NULL);
    pthread_barrier_destroy(&both_hold);
    expect_in_l2("k:a", true);
    expect_in_l2("k:c", true);
}
END_TEST

int main(void) {
    Suite *suite = suite_create("fills");
    TCase *tc = tcase_create("all");
    tcase_add_checked_fixture(tc, setup, teardown);
    tcase_set_timeout(tc, 60);
    tcase_add_test(tc, what_is_loaded_is_stored_at_the_end_of_all);
    tcase_add_test(tc, what_was_deleted_meanwhile_is_not_stored);
    tcase_add_test(tc, what_was_deleted_before_its_load_is_loaded_and_not_stored);
    tcase_add_test(tc, a_value_that_is_there_is_found_and_not_loaded);
    tcase_add_test(tc, a_key_that_others_hold_is_theirs_to_load);
    tcase_add_test(tc, a_failed_load_gives_its_lease_back);
    tcase_add_test(tc, ages_count_from_the_load);
    tcase_add_test(tc, a_loader_may_ask_for_a_key_whose_lease_its_own_thread_holds);
    tcase_add_test(tc, two_threads_may_ask_for_what_the_other_holds);
    tcase_add_test(tc, two_instances_may_want_what_the_other_holds);
    suite_add_tcase(suite, tc);
    return rig_run(suite);
}
