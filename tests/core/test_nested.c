/* SPDX-License-Identifier: MIT
 * test_nested.c - core/nested.c, worker.c: loaders that use the cache themselves. */
#include "rig.h"

#include <sched.h>
#include <stdio.h>

static struct rig rig;
static size_t stack_bytes; /* of the worker that ran the policy's loader */

#define CACHE rig.caches[0]

/* One worker, so that whoever waits for another waits for ever. */
static void open_rig(bool has_l2) {
    struct pln_options options = {.ttl_ms = 10000, .load_timeout_ms = 60000, .workers = 1};
    rig_open(&rig, 1, has_l2, &options);
}

static void setup(void) {
    open_rig(false);
}

static void setup_l2(void) {
    open_rig(true);
}

static void teardown(void) {
    rig_close(&rig);
}

/* The key's own value, asked for while it is loaded. */
static int ask_for_itself(void *arg, struct pln_bytes key, struct pln_load *load) {
    struct pln_result result;
    (void) arg;
    ck_assert_int_eq(pln_get(CACHE, key, NULL, &result), PLN_ELOADER);
    ck_assert_str_eq(pln_error_text(),
                     "get: 'k' is being loaded by its own loader, which asked for it");
    return pln_load_value(load, pln_key("v"), 0);
}

START_TEST(a_loader_that_asks_for_its_own_key_is_told_at_once) {
    struct pln_result result;
    ck_assert_int_eq(pln_get_or_load(CACHE, pln_key("k"), NULL, ask_for_itself, NULL, &result),
                     PLN_OK);
    pln_release(CACHE, result.value);
    rig_expect(CACHE, "k", "v", "l1");
}
END_TEST

static int ask_for_the_next(void *arg, struct pln_bytes key, struct pln_load *load) {
    int *depth = arg;
    struct pln_result result;
    char next[32];
    (void) key;
    (void) load;
    int len = snprintf(next, sizeof next, "k%d", ++*depth);
    return pln_get_or_load(CACHE, pln_bytes_of(next, (size_t) len), NULL, ask_for_the_next, depth,
                           &result);
}

START_TEST(a_chain_of_loaders_ends_at_its_eighth) {
    struct pln_result result;
    int depth = 0;
    ck_assert_int_eq(pln_get_or_load(CACHE, pln_key("k"), NULL, ask_for_the_next, &depth, &result),
                     PLN_ELOADER);
    ck_assert_str_eq(pln_error_text(),
                     "get: loaders that ask for other keys are nested over 8 deep");
    ck_assert_int_eq(depth, 8);
}
END_TEST

static pthread_mutex_t gate = PTHREAD_MUTEX_INITIALIZER; /* what loads "page" waits for it */

/* "page" is made of "user" and keeps a copy under "copy". */
static int load(void *arg, unsigned worker, const struct pln_match *match, struct pln_bytes key,
                struct pln_load *load) {
    struct pln_result result;
    pthread_attr_t attributes;
    (void) arg;
    (void) match;
    ck_assert_uint_eq(worker, 0);
    pthread_getattr_np(pthread_self(), &attributes);
    pthread_attr_getstacksize(&attributes, &stack_bytes);
    pthread_attr_destroy(&attributes);
    if (pln_bytes_equal(key, pln_key("page"))) {
        pthread_mutex_lock(&gate);
        pthread_mutex_unlock(&gate);
        ck_assert_msg(pln_get(CACHE, pln_key("user"), NULL, &result) == PLN_OK, "%s",
                      pln_error_text());
        pln_release(CACHE, result.value);
        rig_set(CACHE, "copy", "12345");
        return pln_load_value(load, pln_key("page of user"), 0);
    }
    return pln_load_value(load, key, 0);
}

static int shape(void *arg, unsigned worker, const struct pln_match *match, struct pln_bytes key,
                 struct pln_bytes value, uint8_t format, struct pln_load *load) {
    (void) arg;
    (void) match;
    (void) key;
    (void) format;
    ck_assert_uint_eq(worker, 0);
    pln_load_ttl(load, (pln_ms) value.len * 1000);
    return PLN_OK;
}

static void put_policy_of(const struct pln_terms *terms) {
    struct pln_ruleset *ruleset = pln_ruleset_new();
    ruleset->rules = malloc(sizeof *ruleset->rules);
    ruleset->rules[0] = rig_rule("*", terms, PLN_RULE_LOAD | PLN_RULE_TTL);
    ruleset->n_rules = 1;
    ruleset->hooks = (struct pln_hooks){.load = load, .shape = shape};
    pln_cache_set_policy_take(CACHE, ruleset);
}

static void put_policy(void) {
    put_policy_of(pln_cache_terms(CACHE));
}

START_TEST(a_policys_loader_may_load_and_set_with_the_only_worker) {
    struct pln_result result;
    put_policy();
    rig_expect(CACHE, "page", "page of user", "loaded");
    rig_expect(CACHE, "user", "user", "l1");
    ck_assert_int_eq(pln_get(CACHE, pln_key("copy"), NULL, &result), PLN_OK);
    ck_assert_int_eq(result.left_ms, 5000);
    pln_release(CACHE, result.value);
    ck_assert_uint_eq(rig_stat(CACHE, "loads"), 2);
}
END_TEST

/* However short the rule's time is. */
static void *get_patiently(void *arg) {
    struct pln_get_options options = {.timeout_ms = 60000};
    struct pln_result result;
    int status = pln_get(CACHE, pln_key((const char *) arg), &options, &result);
    pln_release(CACHE, result.value);
    return status == PLN_OK ? NULL : arg;
}

static void await_queue(size_t depth) {
    pln_ns deadline = pln_deadline(10000);
    while (pln_workers_depth(CACHE->workers) < depth) {
        ck_assert(pln_clock_precise() < deadline);
        sched_yield();
    }
}

START_TEST(the_only_worker_does_not_wait_for_a_load_that_waits_for_a_worker) {
    pthread_t page, user;
    void *wrong;
    put_policy();
    pthread_mutex_lock(&gate);
    pthread_create(&page, NULL, get_patiently, "page");
    rig_await(CACHE, "loads", 1); /* the worker is in its loader */
    pthread_create(&user, NULL, get_patiently, "user");
    await_queue(1); /* who leads it waits for the worker */
    pthread_mutex_unlock(&gate);
    pthread_join(page, &wrong);
    ck_assert_ptr_null(wrong);
    pthread_join(user, &wrong);
    ck_assert_ptr_null(wrong);
    ck_assert_uint_eq(rig_stat(CACHE, "load_waits"), 0);
    ck_assert_uint_eq(rig_stat(CACHE, "loads"), rig.server != NULL ? 2 : 3);
}
END_TEST

START_TEST(who_has_a_value_shaped_does_not_wait_for_a_worker_for_ever) {
    pthread_t page;
    void *wrong;
    struct pln_terms terms = *pln_cache_terms(CACHE);
    terms.load_timeout_ms = 50;
    put_policy_of(&terms);
    pthread_mutex_lock(&gate);
    pthread_create(&page, NULL, get_patiently, "page");
    rig_await(CACHE, "loads", 1);
    ck_assert_int_eq(pln_set(CACHE, pln_key("user"), pln_key("v"), NULL), PLN_ETIMEOUT);
    ck_assert_str_eq(pln_error_text(), "shape: no worker was free for 50 ms");
    ck_assert_uint_eq(pln_workers_depth(CACHE->workers), 0);
    pthread_mutex_unlock(&gate);
    pthread_join(page, &wrong);
    ck_assert_ptr_null(wrong);
    rig_set(CACHE, "user", "v");
}
END_TEST

START_TEST(workers_have_a_stack_of_a_megabyte_where_the_system_gives_less) {
    pthread_attr_t small;
    teardown();
    pthread_attr_init(&small);
    pthread_attr_setstacksize(&small, 256 << 10);
    ck_assert_int_eq(pthread_setattr_default_np(&small), 0);
    pthread_attr_destroy(&small);
    setup();
    put_policy();
    rig_expect(CACHE, "user", "user", "loaded");
    ck_assert_uint_ge(stack_bytes, 1 << 20);
}
END_TEST

int main(void) {
    Suite *suite = suite_create("nested");
    TCase *tests = tcase_create("nested"), *l2 = tcase_create("over L2");
    suite_add_tcase(suite, tests);
    suite_add_tcase(suite, l2);
    tcase_set_timeout(l2, 30);
    tcase_add_checked_fixture(l2, setup_l2, teardown);
    tcase_add_test(l2, the_only_worker_does_not_wait_for_a_load_that_waits_for_a_worker);
    tcase_set_timeout(tests, 30);
    tcase_add_checked_fixture(tests, setup, teardown);
    tcase_add_test(tests, a_loader_that_asks_for_its_own_key_is_told_at_once);
    tcase_add_test(tests, a_chain_of_loaders_ends_at_its_eighth);
    tcase_add_test(tests, a_policys_loader_may_load_and_set_with_the_only_worker);
    tcase_add_test(tests, the_only_worker_does_not_wait_for_a_load_that_waits_for_a_worker);
    tcase_add_test(tests, who_has_a_value_shaped_does_not_wait_for_a_worker_for_ever);
    tcase_add_test(tests, workers_have_a_stack_of_a_megabyte_where_the_system_gives_less);
    return rig_run(suite);
}
