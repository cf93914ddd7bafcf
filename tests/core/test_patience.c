/* SPDX-License-Identifier: MIT
 * test_patience.c - how long callers wait for a load, and that it goes on without them: hard and
 * soft timeouts, with one flight for all of a process and one lease for all processes. */
#include "rig.h"

static struct rig rig;
static struct pln_terms terms;

static void open_rig(bool has_l2) {
    struct pln_options options = {.ttl_ms = 10000, .load_timeout_ms = 5000, .lease_ms = 60000};
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

/* A read in a thread of its own. */
struct reader {
    struct pln_cache *cache;
    pln_ms timeout;
    pln_loader loader;
    const char *source; /* where the value is to come from; NULL: PLN_ETIMEOUT */
    pthread_t thread;
    bool is_right;
};

static void *read_k(void *arg) {
    struct reader *reader = arg;
    struct pln_get_options options = {.timeout_ms = reader->timeout};
    struct pln_result result;
    int status = pln_get_or_load(reader->cache, pln_key("k:1"), &options, reader->loader, &rig,
                                 &result);
    reader->is_right = reader->source == NULL
                           ? status == PLN_ETIMEOUT
                           : status == PLN_OK &&
                                 strcmp(pln_source_name(result.source), reader->source) == 0 &&
                                 result.len == 8 &&
                                 memcmp(pln_value_data(result.value), "loaded 1", 8) == 0;
    pln_release(reader->cache, result.value);
    return NULL;
}

static void begin(struct reader *reader) {
    ck_assert_int_eq(pthread_create(&reader->thread, NULL, read_k, reader), 0);
}

static void join(struct reader *reader) {
    pthread_join(reader->thread, NULL);
    ck_assert(reader->is_right);
}

static void rule_everywhere(void) {
    for (size_t i = 0; i < 2 && rig.caches[i] != NULL; i++) {
        rig_policy(&rig, rig.caches[i], rig_rule("k:{id}", &terms, PLN_RULE_LOAD));
    }
}

/* ---- hard timeouts ---- */

START_TEST(who_comes_after_a_timeout_joins_the_load_that_goes_on) {
    struct reader hasty = {A, 20, NULL, NULL}, next = {A, 0, NULL, "loaded"};
    rule_everywhere();
    pthread_mutex_lock(&rig.gate);
    read_k(&hasty);
    ck_assert(hasty.is_right);
    begin(&next);
    rig_await(A, "load_waits", 1);
    pthread_mutex_unlock(&rig.gate);
    join(&next);
    ck_assert_int_eq(rig.n_loads, 1);
}
END_TEST

START_TEST(a_hasty_callers_load_waits_for_another_process_in_its_own_time) {
    struct reader first = {A, 0, NULL, "loaded"}, hasty = {B, 20, NULL, NULL};
    struct reader next = {B, 0, NULL, "l2"};
    rule_everywhere();
    pthread_mutex_lock(&rig.gate);
    begin(&first);
    rig_await(A, "loads", 1);
    read_k(&hasty);
    ck_assert(hasty.is_right);
    begin(&next);
    rig_await(B, "load_waits", 1); /* the hasty one's flight is still there */
    pthread_mutex_unlock(&rig.gate);
    join(&first);
    join(&next);
    ck_assert_int_eq(rig.n_loads, 1);
}
END_TEST

static int bring_one(void *arg, struct pln_bytes key, struct pln_load *load) {
    (void) key;
    atomic_fetch_add(&((struct rig *) arg)->n_loads, 1);
    return pln_load_value(load, pln_key("loaded 1"), 0);
}

START_TEST(who_has_more_time_than_the_leader_is_not_told_of_its_timeout) {
    struct reader first = {A, 0, NULL, "loaded"}, hasty = {B, 300, bring_one, NULL};
    struct reader patient = {B, 5000, bring_one, "l2"};
    rig_policy(&rig, A, rig_rule("k:{id}", &terms, PLN_RULE_LOAD));
    pthread_mutex_lock(&rig.gate);
    begin(&first);
    rig_await(A, "loads", 1);
    begin(&hasty);
    rig_await(B, "lease_waits", 1); /* it leads, in its own thread */
    begin(&patient);
    join(&hasty);
    rig_await(B, "lease_waits", 2); /* the patient one leads now */
    pthread_mutex_unlock(&rig.gate);
    join(&first);
    join(&patient);
    ck_assert_int_eq(rig.n_loads, 1);
}
END_TEST

/* ---- soft timeouts ---- */

static void expect_stale(struct pln_cache *cache) {
    rig_expect(cache, "k:1", "loaded 1", "stale");
}

/* A value in a cache, and in L2 where there is one, that is past its ttl by `past`. */
static void have_stale(struct pln_cache *cache, pln_ms past) {
    rule_everywhere();
    rig_expect(cache, "k:1", "loaded 1", "loaded");
    rig.now += 10000 + past;
}

START_TEST(after_a_soft_timeout_the_stale_value_is_served_and_the_load_goes_on) {
    terms.stale_if_error_ms = 60000;
    terms.soft_timeout_ms = 20;
    have_stale(A, 1);
    pthread_mutex_lock(&rig.gate);
    expect_stale(A);
    expect_stale(A);
    ck_assert_uint_eq(rig_stat(A, "load_waits"), 1);
    ck_assert_uint_eq(rig_stat(A, "soft_timeouts"), 2);
    pthread_mutex_unlock(&rig.gate);
    rig_await(A, "l1_replaces", 1);
    rig_expect(A, "k:1", "loaded 2", "l1");
    ck_assert_int_eq(rig.n_loads, 2);
}
END_TEST

START_TEST(a_load_that_ends_before_the_soft_timeout_is_waited_for) {
    terms.stale_if_error_ms = 60000;
    terms.soft_timeout_ms = 3600000;
    have_stale(A, 1);
    rig_expect(A, "k:1", "loaded 2", "loaded");
    ck_assert_uint_eq(rig_stat(A, "soft_timeouts"), 0);
}
END_TEST

START_TEST(a_soft_timeout_is_for_those_who_may_be_served_stale) {
    struct pln_get_options strict = {.flags = PLN_GET_NO_STALE, .timeout_ms = 50};
    struct pln_get_options hasty = {.timeout_ms = 50};
    struct pln_result result;
    terms.stale_if_error_ms = 60000;
    terms.soft_timeout_ms = 1;
    have_stale(A, 1);
    pthread_mutex_lock(&rig.gate);
    ck_assert_int_eq(pln_get(A, pln_key("k:1"), &strict, &result), PLN_ETIMEOUT);
    ck_assert_int_eq(pln_get(A, pln_key("k:2"), &hasty, &result), PLN_ETIMEOUT); /* no value */
    rig.now += 60000;
    ck_assert_int_eq(pln_get(A, pln_key("k:1"), &hasty, &result), PLN_ETIMEOUT); /* too old */
    ck_assert_uint_eq(rig_stat(A, "soft_timeouts"), 0);
    pthread_mutex_unlock(&rig.gate);
}
END_TEST

START_TEST(a_call_may_have_a_soft_timeout_of_its_own) {
    struct pln_get_options soft = {.soft_timeout_ms = 20};
    struct pln_result result;
    terms.stale_if_error_ms = 60000;
    have_stale(A, 1);
    pthread_mutex_lock(&rig.gate);
    ck_assert_int_eq(pln_get(A, pln_key("k:1"), &soft, &result), PLN_OK);
    ck_assert_str_eq(pln_source_name(result.source), "stale");
    pln_release(A, result.value);
    pthread_mutex_unlock(&rig.gate);
}
END_TEST

START_TEST(a_stale_value_of_l2_is_served_after_the_soft_timeout) {
    terms.stale_if_error_ms = 60000;
    terms.soft_timeout_ms = 20;
    have_stale(A, 1);
    pthread_mutex_lock(&rig.gate);
    expect_stale(B); /* it led */
    expect_stale(B); /* it followed */
    ck_assert_uint_eq(rig_stat(B, "soft_timeouts"), 2);
    pthread_mutex_unlock(&rig.gate);
    rig_await(B, "l1_inserts", 1);
    rig_expect(B, "k:1", "loaded 2", "l1");
    ck_assert_int_eq(rig.n_loads, 2);
}
END_TEST

START_TEST(a_value_of_l2_in_its_stale_window_is_served_at_once) {
    terms.stale_ms = 60000;
    terms.soft_timeout_ms = _i == 0 ? 0 : 3600000;
    have_stale(A, 1);
    pthread_mutex_lock(&rig.gate);
    expect_stale(B);
    ck_assert_uint_eq(rig_stat(B, "soft_timeouts"), 0); /* it was not waited for */
    pthread_mutex_unlock(&rig.gate);
    rig_await(B, "l1_inserts", 1);
    rig_expect(B, "k:1", "loaded 2", "l1");
}
END_TEST

START_TEST(what_cannot_be_vouched_for_waits_for_the_load) {
    struct pln_get_options hasty = {.timeout_ms = 50};
    struct pln_result result;
    terms.soft_timeout_ms = 1;
    terms.stale_if_error_ms = 60000;
    rule_everywhere();
    rig_expect(B, "k:1", "loaded 1", "loaded");
    pln_l2_mem_part(B->l2);
    rig.now += 5000; /* over max_staleness */
    ck_assert_int_eq(pln_delete(A, pln_key("k:1")), PLN_OK);
    pthread_mutex_lock(&rig.gate);
    ck_assert_int_eq(pln_get(B, pln_key("k:1"), &hasty, &result), PLN_OK);
    pln_release(B, result.value);
    ck_assert_uint_eq(rig_stat(B, "soft_timeouts"), 0);
    pthread_mutex_unlock(&rig.gate);
}
END_TEST

int main(void) {
    Suite *suite = suite_create("patience");
    TCase *alone = tcase_create("alone"), *two = tcase_create("two");
    suite_add_tcase(suite, alone);
    suite_add_tcase(suite, two);
    tcase_add_checked_fixture(alone, setup, teardown);
    tcase_add_checked_fixture(two, setup_two, teardown);
    tcase_set_timeout(alone, 30);
    tcase_set_timeout(two, 30);
    tcase_add_test(alone, who_comes_after_a_timeout_joins_the_load_that_goes_on);
    tcase_add_test(two, a_hasty_callers_load_waits_for_another_process_in_its_own_time);
    tcase_add_test(two, who_has_more_time_than_the_leader_is_not_told_of_its_timeout);
    tcase_add_test(alone, after_a_soft_timeout_the_stale_value_is_served_and_the_load_goes_on);
    tcase_add_test(alone, a_load_that_ends_before_the_soft_timeout_is_waited_for);
    tcase_add_test(alone, a_soft_timeout_is_for_those_who_may_be_served_stale);
    tcase_add_test(alone, a_call_may_have_a_soft_timeout_of_its_own);
    tcase_add_test(two, a_stale_value_of_l2_is_served_after_the_soft_timeout);
    tcase_add_loop_test(two, a_value_of_l2_in_its_stale_window_is_served_at_once, 0, 2);
    tcase_add_test(two, what_cannot_be_vouched_for_waits_for_the_load);
    return rig_run(suite);
}
