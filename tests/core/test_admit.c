/* SPDX-License-Identifier: MIT
 * test_admit.c - core/admit.c, fill.c: what is kept of what is loaded: from the n-th miss on, not
 * where a ttl says so, ahead of requests; and keys that must never be cached. */
#include "rig.h"

#include <sched.h>
#include <stdio.h>

#include "../../core/flight.h"

static struct rig rig;
static struct pln_terms terms;

static void open_rig(bool has_l2) {
    struct pln_options options = {.ttl_ms = 10000, .load_timeout_ms = 20000};
    rig_open(&rig, has_l2 ? 2 : 1, has_l2, &options);
    terms = *pln_cache_terms(rig.caches[0]);
}

static void setup(void) {
    open_rig(false);
}

static void setup_two(void) {
    open_rig(true);
}

static void teardown(void) {
    rig_close(&rig);
}

#define A rig.caches[0]
#define B rig.caches[1]

static void rule(const char *pattern, uint32_t hooks) {
    for (size_t i = 0; i < 2 && rig.caches[i] != NULL; i++) {
        rig_policy(&rig, rig.caches[i], rig_rule(pattern, &terms, hooks));
    }
}

/* ---- min_uses ---- */

START_TEST(a_value_is_kept_from_the_nth_miss_on) {
    terms.min_uses = 3;
    rule("k:{id}", PLN_RULE_LOAD);
    rig_expect(A, "k:1", "loaded 1", "loaded");
    rig_expect(A, "k:1", "loaded 2", "loaded");
    rig_expect(A, "k:2", "loaded 3", "loaded");
    ck_assert_uint_eq(rig_stat(A, "l1_entries"), 0);
    rig_expect(A, "k:1", "loaded 4", "loaded");
    rig_expect(A, "k:1", "loaded 4", "l1");
    ck_assert_uint_eq(rig_stat(A, "loads_unkept"), 3);
}
END_TEST

START_TEST(misses_count_within_one_ttl) {
    terms.min_uses = 2;
    rule("k:{id}", PLN_RULE_LOAD);
    rig_expect(A, "k:1", "loaded 1", "loaded");
    rig.now += 10000;
    rig_expect(A, "k:1", "loaded 2", "loaded"); /* the first again */
    rig.now += 9999;
    rig_expect(A, "k:1", "loaded 3", "loaded");
    rig_expect(A, "k:1", "loaded 3", "l1");
}
END_TEST

static void *get_k(void *arg) {
    struct pln_result result;
    int status = pln_get(arg, pln_key("k:1"), NULL, &result);
    pln_release(arg, result.value);
    return status == PLN_OK ? NULL : arg;
}

START_TEST(each_caller_who_waits_for_a_load_has_missed) {
    pthread_t threads[3];
    terms.min_uses = 3;
    rule("k:{id}", PLN_RULE_LOAD);
    pthread_mutex_lock(&rig.gate);
    for (size_t i = 0; i < 3; i++) {
        pthread_create(&threads[i], NULL, get_k, A);
    }
    rig_await(A, "load_waits", 2);
    pthread_mutex_unlock(&rig.gate);
    for (size_t i = 0; i < 3; i++) {
        void *wrong;
        pthread_join(threads[i], &wrong);
        ck_assert_ptr_null(wrong);
    }
    rig_expect(A, "k:1", "loaded 1", "l1");
}
END_TEST

START_TEST(what_is_not_kept_is_in_no_tier_and_what_is_comes_to_all) {
    terms.min_uses = 2;
    rule("k:{id}", PLN_RULE_LOAD);
    rig_expect(A, "k:1", "loaded 1", "loaded");
    rig_expect(B, "k:1", "loaded 2", "loaded"); /* each counts for itself */
    rig_expect(A, "k:1", "loaded 3", "loaded");
    rig_expect(B, "k:1", "loaded 3", "l2");
    rig_expect(B, "k:1", "loaded 3", "l1");
}
END_TEST

START_TEST(what_somebody_wants_kept_is_kept_at_once) {
    struct pln_get_options keep = {.flags = PLN_GET_KEEP};
    struct pln_result result;
    terms.min_uses = 2;
    terms.stale_if_error_ms = 60000;
    rule("k:{id}", PLN_RULE_LOAD);
    ck_assert_int_eq(pln_get(A, pln_key("k:1"), &keep, &result), PLN_OK);
    pln_release(A, result.value);
    rig_expect(A, "k:1", "loaded 1", "l1");
    rig.now += 10001;
    rig_expect(A, "k:1", "loaded 2", "loaded"); /* it was kept before */
    rig_expect(A, "k:1", "loaded 2", "l1");
    rig_set(A, "k:2", "set");
    rig_expect(A, "k:2", "set", "l1");
}
END_TEST

START_TEST(keys_that_are_wanted_once_do_not_hide_one_that_is_wanted_twice) {
    char key[24];
    terms.min_uses = 2;
    rule("k:{id}", PLN_RULE_LOAD);
    for (int i = 0; i < 2000; i++) {
        struct pln_result result;
        snprintf(key, sizeof key, "k:once-%d", i);
        ck_assert_int_eq(pln_get(A, pln_key(key), NULL, &result), PLN_OK);
        pln_release(A, result.value);
    }
    ck_assert_uint_eq(rig_stat(A, "l1_entries"), 0);
    rig_expect(A, "k:1", "loaded 2001", "loaded");
    rig_expect(A, "k:1", "loaded 2002", "loaded");
    rig_expect(A, "k:1", "loaded 2002", "l1");
}
END_TEST

/* ---- the share of what does not exist ---- */

START_TEST(a_flood_of_missing_keys_takes_no_more_than_its_share) {
    struct pln_options options = {.max_bytes = 4 << 20, .negative_share = 0.05};
    char key[24];
    rig_close(&rig);
    rig_open(&rig, 1, false, &options);
    rig.load_status = PLN_ABSENT;
    rule("k:{id}", PLN_RULE_LOAD);
    for (int i = 0; i < 100; i++) {
        snprintf(key, sizeof key, "value:%d", i);
        rig_set(A, key, "v");
    }
    for (int i = 0; i < 8000; i++) {
        snprintf(key, sizeof key, "k:%d", i);
        rig_expect(A, key, NULL, "negative");
    }
    ck_assert_uint_le(rig_stat(A, "l1_negative_bytes"), (4 << 20) / 20);
    ck_assert_uint_ge(rig_stat(A, "l1_negative_bytes"), (4 << 20) / 24);
    for (int i = 0; i < 100; i++) {
        snprintf(key, sizeof key, "value:%d", i);
        rig_expect(A, key, "v", "l1");
    }
    options.negative_share = 1;
    struct pln_cache *cache;
    ck_assert_int_eq(pln_open(&options, &cache), PLN_EINVAL);
    ck_assert_str_eq(pln_error_text(), "negative_share: must be from 0.01 to 0.99, got 1");
}
END_TEST

/* ---- a ttl of the loader's ---- */

static int bring_for(void *arg, struct pln_bytes key, struct pln_load *load) {
    (void) key;
    pln_load_ttl(load, *(pln_ms *) arg);
    return pln_load_value(load, pln_key("brought"), 0);
}

START_TEST(a_negative_ttl_of_a_loader_hands_out_and_stores_nowhere) {
    struct pln_result result;
    pln_ms never = -1, short_while = 2500;
    ck_assert_int_eq(pln_get_or_load(A, pln_key("k"), NULL, bring_for, &never, &result), PLN_OK);
    ck_assert_uint_eq(result.len, 7);
    pln_release(A, result.value);
    rig_expect(A, "k", NULL, "miss");
    rig_expect(B, "k", NULL, "miss");
    ck_assert_int_eq(pln_get_or_load(A, pln_key("k"), NULL, bring_for, &short_while, &result),
                     PLN_OK);
    ck_assert_int_eq(result.left_ms, 2500);
    pln_release(A, result.value);
    rig_expect(B, "k", "brought", "l2");
}
END_TEST

/* ---- what is loaded ahead ---- */

/* Each key is related to the one with a further '+'. */
static int load_page(void *arg, unsigned worker, const struct pln_match *match,
                     struct pln_bytes key, struct pln_load *load) {
    char next[64];
    (void) worker;
    (void) match;
    atomic_fetch_add(&((struct rig *) arg)->n_loads, 1);
    int len = snprintf(next, sizeof next, "%.*s+", (int) key.len, (const char *) key.data);
    pln_load_related(load, pln_bytes_of(next, (size_t) len));
    return pln_load_value(load, key, 0);
}

static void rule_of_pages(void) {
    struct pln_ruleset *ruleset = pln_ruleset_new();
    ruleset->rules = malloc(2 * sizeof *ruleset->rules);
    ruleset->rules[0] = rig_rule("k++", &terms, 0);
    ruleset->rules[0].terms.is_denied = true;
    ruleset->rules[1] = rig_rule("{any}", &terms, PLN_RULE_LOAD | PLN_RULE_RELATED);
    ruleset->n_rules = 2;
    ruleset->hooks = (struct pln_hooks){.load = load_page};
    ruleset->hooks_arg = &rig;
    pln_cache_set_policy_take(A, ruleset);
    /* while denied keys are looked for, L1 keeps nothing of what is under way */
    pln_ns deadline = pln_deadline(10000);
    while (rig_stat(A, "policies_retiring") > 0) {
        ck_assert(pln_clock_precise() < deadline);
        sched_yield();
    }
}

/* Waits until nothing is being loaded: what a load asks for ahead is under way before it ends. */
static void await_landing(void) {
    pln_ns deadline = pln_deadline(10000);
    while (pln_flights_count(A->flights) > 0) {
        ck_assert_msg(pln_clock_precise() < deadline, "loads follow loads without end");
        sched_yield();
    }
}

START_TEST(what_is_loaded_ahead_is_kept_and_asks_for_nothing_further) {
    terms.min_uses = 2;
    rule_of_pages();
    rig_expect(A, "p", "p", "loaded"); /* too seldom to be kept itself */
    await_landing();
    ck_assert_uint_eq(rig_stat(A, "l1_entries"), 1);
    rig_expect(A, "p+", "p+", "l1");
    ck_assert_int_eq(rig.n_loads, 2);
}
END_TEST

START_TEST(what_is_there_or_denied_is_not_loaded_ahead) {
    rule_of_pages();
    rig_set(A, "p+", "set");
    rig_expect(A, "p", "p", "loaded");
    rig_expect(A, "p+", "set", "l1");
    rig_expect(A, "k+", "k+", "loaded");
    await_landing();
    ck_assert_int_eq(rig.n_loads, 2);
    ck_assert_uint_eq(rig_stat(A, "refreshes"), 0);
    ck_assert_uint_eq(rig_stat(A, "denied"), 1);
}
END_TEST

/* ---- keys that must never be cached ---- */

static int never_called(void *arg, struct pln_bytes key, struct pln_load *load) {
    (void) arg;
    (void) key;
    (void) load;
    ck_abort_msg("a denied key is loaded");
    return PLN_ABSENT;
}

static void expect_denied(int status, const char *verb) {
    char text[100];
    snprintf(text, sizeof text,
             "%s: rule 'secret:*' (test:1) denies the key: it must never be cached", verb);
    ck_assert_int_eq(status, PLN_EDENIED);
    ck_assert_str_eq(pln_error_text(), text);
    ck_assert_str_eq(pln_status_name(status), "denied");
}

START_TEST(a_denied_key_is_refused_whatever_is_done_and_told_once) {
    struct pln_bytes keys[] = {pln_key("open"), pln_key("secret:1")};
    struct pln_result result, results[2];
    int statuses[2];
    char buffer[8];
    terms.is_denied = true;
    rule("secret:*", 0);
    rig_set(A, "open", "v");
    int n_logs = rig.n_logs;
    expect_denied(pln_get(A, keys[1], NULL, &result), "get");
    ck_assert_ptr_null(result.value);
    expect_denied(pln_get_copy(A, keys[1], NULL, buffer, sizeof buffer, &result), "get");
    expect_denied(pln_get_or_load(A, keys[1], NULL, never_called, NULL, &result), "get");
    expect_denied(pln_set(A, keys[1], pln_key("v"), NULL), "set");
    ck_assert_int_eq(pln_get_many(A, keys, 2, NULL, results, statuses), PLN_OK);
    expect_denied(statuses[1], "get_many");
    ck_assert_int_eq(statuses[0], PLN_OK);
    pln_release(A, results[0].value);
    ck_assert_int_eq(pln_delete(A, keys[1]), PLN_OK); /* it may go */
    ck_assert_int_eq(rig.n_logs, n_logs + 1);
    ck_assert_str_eq(rig.last_log,
                     "perilune perilune: test:1: rule 'secret:*' denies a key that was given to "
                     "get: it must never be cached (told once for a rule, counted as denied)");
    ck_assert_uint_eq(rig_stat(A, "denied"), 5);
    ck_assert_uint_eq(rig_stat(A, "failures"), 4);
    ck_assert_uint_eq(rig_stat(A, "gets"), 5);
}
END_TEST

START_TEST(what_a_new_policy_denies_goes_from_l1) {
    struct pln_result result;
    rig_set(A, "secret:1", "v");
    rig_set(A, "open", "v");
    terms.is_denied = true;
    rule("secret:*", 0);
    ck_assert_int_eq(pln_peek(A, pln_key("secret:1"), &result), PLN_MISS);
    expect_denied(pln_get(A, pln_key("secret:1"), NULL, &result), "get");
    rig_expect(A, "open", "v", "l1");
}
END_TEST

START_TEST(what_is_loaded_while_a_new_policy_denies_it_is_not_kept) {
    pthread_t thread;
    struct pln_result result;
    rule("k:{id}", PLN_RULE_LOAD);
    pthread_mutex_lock(&rig.gate);
    pthread_create(&thread, NULL, get_k, A);
    rig_await(A, "loads", 1);
    terms.is_denied = true;
    rule("k:*", 0);
    pthread_mutex_unlock(&rig.gate);
    pthread_join(thread, NULL);
    ck_assert_int_eq(pln_peek(A, pln_key("k:1"), &result), PLN_MISS);
}
END_TEST

static void *set_k(void *arg) {
    rig_set(arg, "k:1", "v");
    return NULL;
}

START_TEST(what_is_set_by_a_policy_that_was_replaced_goes_when_the_call_has_ended) {
    pthread_t thread;
    struct pln_result result = {.value = NULL};
    pln_ns deadline = pln_deadline(10000);
    rule("k:{id}", PLN_RULE_TTL);
    pthread_mutex_lock(&rig.gate);
    pthread_create(&thread, NULL, set_k, A);
    while (rig.n_shapes == 0) {
        ck_assert(pln_clock_precise() < deadline);
        sched_yield();
    }
    terms.is_denied = true;
    rule("k:*", 0);
    pthread_mutex_unlock(&rig.gate);
    pthread_join(thread, NULL); /* it was allowed when it began */
    while (pln_peek(A, pln_key("k:1"), &result) != PLN_MISS) {
        pln_release(A, result.value);
        ck_assert_msg(pln_clock_precise() < deadline, "a denied key stays in L1");
        sched_yield();
    }
}
END_TEST

static void add_both(TCase *tests) {
    tcase_add_test(tests, a_value_is_kept_from_the_nth_miss_on);
    tcase_add_test(tests, misses_count_within_one_ttl);
    tcase_add_test(tests, each_caller_who_waits_for_a_load_has_missed);
    tcase_add_test(tests, what_somebody_wants_kept_is_kept_at_once);
    tcase_add_test(tests, what_is_loaded_ahead_is_kept_and_asks_for_nothing_further);
    tcase_add_test(tests, what_is_there_or_denied_is_not_loaded_ahead);
    tcase_add_test(tests, a_denied_key_is_refused_whatever_is_done_and_told_once);
    tcase_add_test(tests, what_a_new_policy_denies_goes_from_l1);
    tcase_add_test(tests, what_is_loaded_while_a_new_policy_denies_it_is_not_kept);
    tcase_add_test(tests, what_is_set_by_a_policy_that_was_replaced_goes_when_the_call_has_ended);
    tcase_set_timeout(tests, 30);
}

int main(void) {
    Suite *suite = suite_create("admit");
    TCase *alone = tcase_create("alone"), *two = tcase_create("two");
    suite_add_tcase(suite, alone);
    suite_add_tcase(suite, two);
    tcase_add_checked_fixture(alone, setup, teardown);
    tcase_add_checked_fixture(two, setup_two, teardown);
    add_both(alone);
    add_both(two);
    tcase_add_test(alone, keys_that_are_wanted_once_do_not_hide_one_that_is_wanted_twice);
    tcase_add_test(alone, a_flood_of_missing_keys_takes_no_more_than_its_share);
    tcase_add_test(two, what_is_not_kept_is_in_no_tier_and_what_is_comes_to_all);
    tcase_add_test(two, a_negative_ttl_of_a_loader_hands_out_and_stores_nowhere);
    return rig_run(suite);
}
