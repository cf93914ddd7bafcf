/* SPDX-License-Identifier: MIT
 * test_store.c - whose store a key's is, how it is called, and what is believed of its answer. */
#include "base_rig.h"

#include "../../core/store.h"

static void setup(void) {
    base_open(1, false, PLN_WRITE_THROUGH);
}

static int n_others;

static int other_store(void *arg, struct pln_store_item *items, size_t n) {
    (void) items;
    (void) n;
    n_others += *(int *) arg;
    return PLN_OK;
}

static int set(const char *key, const char *value) {
    return pln_set(A, pln_key(key), pln_key(value), NULL);
}

/* ---- by name ---- */

START_TEST(one_of_the_same_name_takes_its_place) {
    int step = 10;
    n_others = 0;
    ck_assert_int_eq(pln_register_store(A, "base", other_store, &step), PLN_OK);
    ck_assert_int_eq(set("k:1", "v"), PLN_OK);
    ck_assert_int_eq(n_others, 10);
    ck_assert_int_eq(base.n_calls, 0);
    ck_assert_int_eq(pln_register_store(A, "base", NULL, NULL), PLN_OK);
    ck_assert_int_eq(set("k:1", "w"), PLN_ESTORE);
    ck_assert_str_eq(pln_error_text(),
                     "store: test:1: rule 'k:{id}': no store 'base' is registered");
    rig_expect(A, "k:1", "v", "l1");
    ck_assert_int_eq(pln_register_store(A, "base", NULL, NULL), PLN_OK);
    ck_assert_uint_eq(rig_stat(A, "store_batches"), 1);
}
END_TEST

START_TEST(names_are_checked) {
    char name[PLN_MAX_STORE_NAME + 2];
    memset(name, 'n', sizeof name);
    name[PLN_MAX_STORE_NAME + 1] = 0;
    ck_assert_int_eq(pln_register_store(A, name, base_store, NULL), PLN_EINVAL);
    name[PLN_MAX_STORE_NAME] = 0;
    ck_assert_int_eq(pln_register_store(A, name, base_store, NULL), PLN_OK);
    ck_assert_int_eq(pln_register_store(A, "", base_store, NULL), PLN_EINVAL);
    ck_assert_int_eq(pln_register_store(A, NULL, base_store, NULL), PLN_EINVAL);
    ck_assert_int_eq(pln_register_store(NULL, "name", base_store, NULL), PLN_EINVAL);
}
END_TEST

/* ---- what it answers ---- */

enum { N = 5 };

static struct pln_store_item items[N];
static int answer;
static size_t n_seen, n_calls;

static int answering_store(void *arg, struct pln_store_item *given, size_t n) {
    (void) arg;
    n_calls++;
    n_seen += n;
    for (size_t i = 0; i < n; i++) {
        switch (*(const char *) given[i].key.data) {
        case 'e':
            pln_store_fail(&given[i], PLN_EINVAL, "never");
            break;
        case 's':
            pln_store_fail(&given[i], PLN_ESTORE, "not now");
            break;
        case 'n': /* a status that is not one of a store's */
            given[i].status = PLN_ENOMEM;
            break;
        case 'b':
            pln_store_fail(&given[i], PLN_ESTORE, "no");
            pln_store_fail(&given[i], PLN_OK, NULL);
            break;
        default:
            break;
        }
    }
    return answer;
}

static int run(const char *keys, int status) {
    struct pln_ruleset *ruleset = pln_cache_policy(A);
    ck_assert_int_eq(pln_register_store(A, "base", answering_store, NULL), PLN_OK);
    memset(items, 0, sizeof items);
    n_seen = n_calls = 0;
    answer = status;
    for (size_t i = 0; i < N; i++) {
        items[i].op = PLN_STORE_SET;
        items[i].key = pln_bytes_of(keys + i, 1);
        items[i].status = keys[i] == '-' ? PLN_EINVAL : PLN_OK;
    }
    int got = pln_store_run(A, ruleset, &ruleset->rules[0], items, N);
    pln_ruleset_unref(ruleset);
    return got;
}

static void expect_statuses(int a, int b, int c, int d, int e) {
    int expected[N] = {a, b, c, d, e};
    for (size_t i = 0; i < N; i++) {
        ck_assert_msg(items[i].status == expected[i], "item %zu: %d, not %d", i, items[i].status,
                      expected[i]);
        ck_assert(items[i].status == PLN_OK || items[i].error[0] != 0 || items[i].key.len != 1 ||
                  *(const char *) items[i].key.data == '-');
    }
}

START_TEST(each_item_has_its_own_end) {
    ck_assert_int_eq(run("obebo", PLN_OK), PLN_EINVAL);
    ck_assert_str_eq(pln_error_text(), "store: never");
    expect_statuses(PLN_OK, PLN_OK, PLN_EINVAL, PLN_OK, PLN_OK);
    ck_assert_uint_eq(rig_stat(A, "stores"), 4);
    ck_assert_int_eq(run("onsoe", PLN_OK), PLN_ESTORE);
    expect_statuses(PLN_OK, PLN_ESTORE, PLN_ESTORE, PLN_OK, PLN_EINVAL);
    ck_assert_str_eq(items[1].error, "the store failed, and gave no reason");
    ck_assert_uint_eq(rig_stat(A, "store_failures"), 4);
    ck_assert_int_eq(run("ooooo", PLN_OK), PLN_OK);
}
END_TEST

START_TEST(a_call_that_fails_fails_all) {
    ck_assert_int_eq(run("ooeoo", PLN_ESTORE), PLN_ESTORE);
    expect_statuses(PLN_ESTORE, PLN_ESTORE, PLN_EINVAL, PLN_ESTORE, PLN_ESTORE);
    ck_assert_int_eq(run("ooooo", PLN_ENOMEM), PLN_ESTORE);
    ck_assert_int_eq(run("soooo", PLN_ESTORE), PLN_ESTORE);
    ck_assert_str_eq(items[3].error, "not now");
    ck_assert_int_eq(run("ooooo", PLN_EINVAL), PLN_EINVAL);
    ck_assert_int_eq(run("ooooo", 7), PLN_ESTORE);
    ck_assert_str_eq(items[0].error, "the store returned status 7");
}
END_TEST

START_TEST(of_what_took_too_long_nothing_is_known) {
    ck_assert_int_eq(run("ooeoo", PLN_ETIMEOUT), PLN_ETIMEOUT);
    expect_statuses(PLN_ETIMEOUT, PLN_ETIMEOUT, PLN_ETIMEOUT, PLN_ETIMEOUT, PLN_ETIMEOUT);
}
END_TEST

START_TEST(items_that_have_failed_are_left_out) {
    ck_assert_int_eq(run("-o-oo", PLN_OK), PLN_OK);
    expect_statuses(PLN_EINVAL, PLN_OK, PLN_EINVAL, PLN_OK, PLN_OK);
    ck_assert_uint_eq(n_seen, 3);
    ck_assert_uint_eq(n_calls, 2);
    ck_assert_int_eq(run("-----", PLN_OK), PLN_OK);
    ck_assert_uint_eq(n_calls, 0);
}
END_TEST

/* ---- the policy's functions ---- */

static _Atomic unsigned worker_seen;

static int store_of_policy(void *arg, unsigned worker, const struct pln_rule *rule,
                           struct pln_store_item *given, size_t n) {
    (void) rule;
    worker_seen = worker;
    pthread_mutex_lock(&rig.gate);
    pthread_mutex_unlock(&rig.gate);
    return base_store(arg, given, n);
}

static void short_timeout(struct pln_rule *rule) {
    rule->writing.timeout_ms = 30;
}

static void policy_with_function(void (*change)(struct pln_rule *rule)) {
    struct pln_terms terms = *pln_cache_terms(A);
    terms.write = PLN_WRITE_THROUGH;
    struct pln_ruleset *ruleset = pln_ruleset_new();
    ruleset->rules = calloc(1, sizeof *ruleset->rules);
    ruleset->rules[0] = rig_rule("f:{id}", &terms, PLN_RULE_STORE);
    ruleset->n_rules = 1;
    ruleset->hooks = (struct pln_hooks){.store = store_of_policy};
    if (change != NULL) {
        change(&ruleset->rules[0]);
    }
    pln_cache_set_policy_take(A, ruleset);
}

START_TEST(a_function_of_the_policy_runs_on_a_worker) {
    policy_with_function(NULL);
    worker_seen = 99;
    ck_assert_int_eq(set("f:1", "v"), PLN_OK);
    ck_assert_uint_lt(worker_seen, 2);
    ck_assert_str_eq(base_get("f:1"), "v");
    rig_expect(A, "f:1", "v", "l1");
    base.status = PLN_ESTORE;
    ck_assert_int_eq(set("f:1", "w"), PLN_ESTORE);
    ck_assert_str_eq(pln_error_text(), "store: the base is out of order");
    rig_expect(A, "f:1", "v", "l1");
}
END_TEST

static void *set_behind_gate(void *arg) {
    *(int *) arg = set("f:1", "v");
    return NULL;
}

START_TEST(what_no_worker_has_begun_is_surely_not_stored) {
    pthread_t threads[2];
    int statuses[2];
    policy_with_function(short_timeout);
    pthread_mutex_lock(&rig.gate);
    for (int i = 0; i < 2; i++) {
        ck_assert_int_eq(pthread_create(&threads[i], NULL, set_behind_gate, &statuses[i]), 0);
    }
    rig_await(A, "store_batches", 2);
    pln_ns deadline = pln_deadline(10000);
    while (pln_workers_depth(A->workers) > 0) {
        ck_assert(pln_clock_precise() < deadline);
    }
    ck_assert_int_eq(set("f:2", "w"), PLN_ESTORE);
    ck_assert_str_eq(pln_error_text(), "store: policy: no worker was free for 30 ms");
    pthread_mutex_unlock(&rig.gate);
    for (int i = 0; i < 2; i++) {
        pthread_join(threads[i], NULL);
        ck_assert_int_eq(statuses[i], PLN_OK);
    }
    ck_assert_ptr_null(base_get("f:2"));
}
END_TEST

/* ---- terms ---- */

START_TEST(every_field_has_its_value) {
    const struct pln_write_options *terms = pln_store_terms(A, NULL);
    ck_assert_int_eq(terms->strategy, PLN_WRITE_ASIDE);
    struct pln_ruleset *ruleset = pln_cache_policy(A);
    terms = pln_store_terms(A, &ruleset->rules[0]);
    ck_assert_int_eq(terms->strategy, PLN_WRITE_THROUGH);
    ck_assert_int_eq(terms->when_full, PLN_FULL_WAIT);
    ck_assert_int_eq(terms->timeout_ms, 5000);
    ck_assert_uint_eq(terms->batch, 500);
    ck_assert_int_eq(terms->every_ms, 100);
    ck_assert_uint_eq(terms->most, 100000);
    ck_assert_uint_eq(terms->attempts, 10);
    ck_assert_int_eq(terms->backoff_ms, 200);
    ck_assert_uint_eq(terms->dead, 10000);
    pln_ruleset_unref(ruleset);
}
END_TEST

START_TEST(options_hold_for_keys_without_a_rule_and_rules_that_say_nothing) {
    static int step = 1;
    struct pln_write_options writing = {
        .strategy = PLN_WRITE_THROUGH, .store = other_store, .arg = &step, .timeout_ms = 77};
    struct pln_options options = {.writing = &writing};
    struct pln_cache *cache;
    base_close();
    ck_assert_int_eq(pln_open(&options, &cache), PLN_OK);
    writing = (struct pln_write_options){0}; /* it was copied */
    n_others = 0;
    rig_set(cache, "any", "v");
    ck_assert_int_eq(n_others, 1);
    struct pln_terms terms = *pln_cache_terms(cache);
    rig_policy(&rig, cache, rig_rule("k:{id}", &terms, 0));
    rig_set(cache, "k:1", "v");
    ck_assert_int_eq(n_others, 2);
    struct pln_ruleset *ruleset = pln_cache_policy(cache);
    ck_assert_int_eq(pln_store_terms(cache, &ruleset->rules[0])->timeout_ms, 77);
    pln_ruleset_unref(ruleset);
    terms.write = PLN_WRITE_ASIDE;
    rig_policy(&rig, cache, rig_rule("k:{id}", &terms, 0));
    rig_set(cache, "k:1", "w");
    ck_assert_int_eq(n_others, 2);
    pln_close(cache);
    base_open(1, false, PLN_WRITE_THROUGH);
}
END_TEST

static void expect_refused(struct pln_write_options writing, const char *text) {
    struct pln_options options = {.writing = &writing};
    struct pln_cache *cache;
    ck_assert_int_eq(pln_open(&options, &cache), PLN_EINVAL);
    ck_assert_msg(strstr(pln_error_text(), text) != NULL, "'%s' is not in '%s'", text,
                  pln_error_text());
}

START_TEST(options_that_cannot_be_are_refused) {
    expect_refused((struct pln_write_options){.strategy = PLN_WRITE_THROUGH}, "needs a store");
    expect_refused((struct pln_write_options){.strategy = 9, .store = other_store},
                   "no strategy has the number 9");
    expect_refused((struct pln_write_options){.when_full = 9}, "when_full");
    expect_refused((struct pln_write_options){.strategy = PLN_WRITE_BEHIND,
                                              .store = other_store,
                                              .in_order = true,
                                              .when_full = PLN_FULL_THROUGH},
                   "in_order");
    expect_refused((struct pln_write_options){.timeout_ms = -1}, "negative");
}
END_TEST

START_TEST(behind_without_redis_is_refused_at_the_write) {
    base_policy(A, PLN_WRITE_BEHIND, NULL);
    ck_assert_int_eq(set("k:1", "v"), PLN_EINVAL);
    ck_assert_str_eq(pln_error_text(),
                     "set: the key is written behind, which needs Redis: the cache has none");
    ck_assert_int_eq(pln_delete(A, pln_key("k:1")), PLN_EINVAL);
    ck_assert_int_eq(pln_swap(A, pln_key("k:1"), NULL, pln_key("v"), NULL, NULL), PLN_EINVAL);
    ck_assert_int_eq(base.n_calls, 0);
    rig_expect(A, "k:1", NULL, "negative");
}
END_TEST

START_TEST(what_is_only_played_stores_nothing) {
    struct pln_shadow *shadow;
    ck_assert_int_eq(pln_shadow_new(A, 1, &shadow), PLN_OK);
    struct pln_cache *candidate = pln_shadow_candidate(shadow);
    base_policy(candidate, PLN_WRITE_THROUGH, NULL);
    rig_set(candidate, "k:1", "v");
    ck_assert_int_eq(pln_delete(candidate, pln_key("k:1")), PLN_OK);
    ck_assert_int_eq(base.n_calls, 0);
    pln_shadow_free(shadow);
}
END_TEST

int main(void) {
    Suite *suite = suite_create("store");
    TCase *tcase = tcase_create("store");
    tcase_add_checked_fixture(tcase, setup, base_close);
    tcase_add_test(tcase, one_of_the_same_name_takes_its_place);
    tcase_add_test(tcase, names_are_checked);
    tcase_add_test(tcase, each_item_has_its_own_end);
    tcase_add_test(tcase, a_call_that_fails_fails_all);
    tcase_add_test(tcase, of_what_took_too_long_nothing_is_known);
    tcase_add_test(tcase, items_that_have_failed_are_left_out);
    tcase_add_test(tcase, a_function_of_the_policy_runs_on_a_worker);
    tcase_add_test(tcase, what_no_worker_has_begun_is_surely_not_stored);
    tcase_add_test(tcase, every_field_has_its_value);
    tcase_add_test(tcase, options_hold_for_keys_without_a_rule_and_rules_that_say_nothing);
    tcase_add_test(tcase, options_that_cannot_be_are_refused);
    tcase_add_test(tcase, behind_without_redis_is_refused_at_the_write);
    tcase_add_test(tcase, what_is_only_played_stores_nothing);
    suite_add_tcase(suite, tcase);
    return rig_run(suite);
}
