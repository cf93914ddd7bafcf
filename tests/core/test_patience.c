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
    return rig_run(suite);
}
