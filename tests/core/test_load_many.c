/* SPDX-License-Identifier: MIT
 * test_load_many.c - a rule's loader of many keys: called once for all of its keys that no tier
 * has, by those who read many, and by who warms. */
#include "rig.h"

#include <stdio.h>

enum { MOST = 8 };

static struct rig rig;
static char words[512]; /* "1: a b | 2: c": what was asked, of which rule */
static int status_of_call;
static _Atomic int n_calls;
static unsigned worker_seen;

#define A rig.caches[0]
#define B rig.caches[1]

static int load_many(void *arg, unsigned worker, const struct pln_rule *rule,
                     const struct pln_bulk *bulk) {
    size_t len = strlen(words);
    (void) arg;
    worker_seen = worker;
    len += (size_t) snprintf(words + len, sizeof words - len, "%s%d:", len > 0 ? " | " : "",
                             rule->line);
    for (size_t i = 0; i < bulk->n; i++) {
        struct pln_bytes key = bulk->keys[i];
        len += (size_t) snprintf(words + len, sizeof words - len, " %.*s", (int) key.len,
                                 (const char *) key.data);
        bool is_there = ((const char *) key.data)[key.len - 1] != '0';
        bulk->statuses[i] = is_there ? pln_load_value(bulk->loads[i], key, 0) : PLN_ABSENT;
    }
    atomic_fetch_add(&n_calls, 1);
    return status_of_call < 0 ? pln_fail(status_of_call, "the source is away") : PLN_OK;
}

static void policy(struct pln_cache *cache) {
    static const char *const patterns[] = {"x:{id}", "y:{id}", "z:{id}"};
    struct pln_ruleset *ruleset = pln_ruleset_new();
    ruleset->rules = calloc(3, sizeof *ruleset->rules);
    for (int i = 0; i < 3; i++) {
        ruleset->rules[i] = rig_rule(patterns[i], pln_cache_terms(cache),
                                     i < 2 ? PLN_RULE_LOAD_MANY : 0);
        ruleset->rules[i].line = i + 1;
    }
    ruleset->n_rules = 3;
    ruleset->hooks = (struct pln_hooks){.load_many = load_many};
    pln_cache_set_policy_take(cache, ruleset);
}

static void open_caches(size_t n, bool has_l2) {
    rig_open(&rig, n, has_l2, NULL);
    for (size_t i = 0; i < n; i++) {
        policy(rig.caches[i]);
    }
    words[0] = 0;
    status_of_call = PLN_OK;
    n_calls = 0;
}

static void setup(void) {
    open_caches(2, true);
}

static void setup_alone(void) {
    open_caches(1, false);
}

static void teardown(void) {
    rig_close(&rig);
}

/* Reads keys, "a b c", and checks how each ended, and what the loader was asked. */
static void expect(struct pln_cache *cache, const char *list, uint32_t flags, const char *wanted,
                   const char *asked) {
    struct pln_get_options options = {.flags = flags};
    struct pln_result results[MOST];
    struct pln_bytes keys[MOST];
    int statuses[MOST];
    char text[256], hows[256] = "", *rest;
    size_t n = 0, len = 0;
    words[0] = 0;
    snprintf(text, sizeof text, "%s", list);
    for (char *word = strtok_r(text, " ", &rest); word != NULL; word = strtok_r(NULL, " ", &rest)) {
        keys[n++] = pln_key(word);
    }
    ck_assert_int_eq(pln_get_many(cache, keys, n, &options, results, statuses), PLN_OK);
    for (size_t i = 0; i < n; i++) {
        const char *how = statuses[i] < 0 ? pln_status_name(statuses[i])
                                          : pln_source_name(results[i].source);
        len += (size_t) snprintf(hows + len, sizeof hows - len, "%s%s", i > 0 ? " " : "", how);
        pln_release(cache, results[i].value);
    }
    ck_assert_str_eq(hows, wanted);
    ck_assert_str_eq(words, asked);
}

START_TEST(each_rule_is_asked_once_for_its_own) {
    expect(A, "x:1 y:1 z:1 x:2 other y:0", 0, "loaded loaded miss loaded miss negative",
           "1: x:1 x:2 | 2: y:1 y:0");
    expect(A, "x:1 y:1 z:1 x:2 other y:0 x:3", 0, "l1 l1 miss l1 miss negative loaded", "1: x:3");
    expect(A, "x:1 y:1", 0, "l1 l1", "");
    expect(A, "x:9", PLN_GET_NO_LOAD, "miss", "");
    if (B != NULL) {
        expect(B, "x:1 y:0 x:4", 0, "l2 negative loaded", "1: x:4");
    }
    ck_assert_uint_eq(rig_stat(A, "misses"), 5);
    ck_assert_uint_eq(rig_stat(A, "loads"), 5);
    ck_assert_uint_eq(rig_stat(A, "gets"), 16);
    ck_assert_uint_lt(worker_seen, pln_cache_workers(A));
}
END_TEST

START_TEST(one_that_fails_fails_its_own) {
    status_of_call = PLN_ELOADER;
    expect(A, "x:1 z:1 y:1", 0, "loader miss loader", "1: x:1 | 2: y:1");
    ck_assert_uint_eq(rig_stat(A, "load_errors"), 2);
    ck_assert_uint_eq(rig_stat(A, "failures"), 2);
    ck_assert_uint_eq(rig_stat(A, "misses"), 1);
    status_of_call = PLN_OK;
    expect(A, "x:1 y:1", 0, "loaded loaded", "1: x:1 | 2: y:1");
}
END_TEST

START_TEST(what_is_invalidated_meanwhile_is_not_kept) {
    expect(A, "x:1 x:2", 0, "loaded loaded", "1: x:1 x:2");
    ck_assert_int_eq(pln_delete(A, pln_key("x:1")), PLN_OK);
    expect(A, "x:1 x:2", 0, "loaded l1", "1: x:1");
}
END_TEST

START_TEST(a_policy_without_it_leaves_misses_as_they_were) {
    rig_policy(&rig, A, rig_rule("x:{id}", pln_cache_terms(A), PLN_RULE_LOAD));
    expect(A, "x:1 x:2", 0, "miss miss", "");
    ck_assert_uint_eq(rig_stat(A, "misses"), 2);
}
END_TEST

START_TEST(an_op_of_many_keys_loads_behind) {
    struct pln_news *news;
    struct pln_op *op;
    struct pln_bytes keys[] = {pln_key("x:1"), pln_key("z:1"), pln_key("y:1")};
    struct pln_result *results;
    int *statuses;
    size_t n;
    ck_assert_int_eq(pln_news_new(A, &news), PLN_OK);
    ck_assert_int_eq(pln_begin_get_many(news, keys, 3, NULL, &op), PLN_OK);
    pln_ns deadline = pln_deadline(10000);
    while (pln_op_look(op) != PLN_OP_READY) {
        ck_assert(pln_clock_precise() < deadline);
    }
    ck_assert_int_eq(pln_op_results(op, &n, &results, &statuses), PLN_OK);
    ck_assert_int_eq(statuses[0], PLN_OK);
    ck_assert_int_eq(statuses[1], PLN_MISS);
    ck_assert_int_eq(statuses[2], PLN_OK);
    for (size_t i = 0; i < n; i++) {
        pln_release(A, results[i].value);
    }
    pln_op_free(op);
    pln_news_free(news);
    ck_assert_str_eq(words, "1: x:1 | 2: y:1");
}
END_TEST

/* _i: keys in a second; 0: no limit */
START_TEST(who_warms_calls_it_for_a_batch) {
    struct pln_warm_options options = {.concurrency = 1, .rate = _i};
    struct pln_warm_report report;
    struct pln_ruleset *ruleset = pln_cache_policy(A);
    struct pln_warm_source *source = calloc(1, sizeof *source);
    source->kind = PLN_WARM_KEYS;
    source->keys = calloc(5, sizeof *source->keys);
    for (int i = 0; i < 5; i++) {
        char key[8];
        snprintf(key, sizeof key, i == 4 ? "z:%d" : "x:%d", i);
        source->keys[source->n_keys++] = pln_bytes_of(strdup(key), strlen(key));
    }
    ruleset->warm.sources = source;
    ruleset->warm.n_sources = 1;
    pln_ruleset_unref(ruleset);
    ck_assert_int_eq(pln_warm(A, &options, &report), PLN_OK);
    ck_assert_uint_eq(report.loaded, 4);
    ck_assert_uint_eq(report.failed, 1); /* nobody loads it */
    ck_assert_uint_ge(worker_seen, pln_cache_workers(A));
    expect(A, "x:1 x:2 x:3 x:0", 0, "l1 l1 l1 negative", "");
}
END_TEST

static void add_common(TCase *tests) {
    tcase_add_test(tests, each_rule_is_asked_once_for_its_own);
    tcase_add_test(tests, one_that_fails_fails_its_own);
    tcase_add_test(tests, what_is_invalidated_meanwhile_is_not_kept);
    tcase_add_test(tests, an_op_of_many_keys_loads_behind);
    tcase_add_loop_test(tests, who_warms_calls_it_for_a_batch, 0, 1);
}

int main(void) {
    Suite *suite = suite_create("load_many");
    TCase *alone = tcase_create("alone");
    tcase_add_checked_fixture(alone, setup_alone, teardown);
    add_common(alone);
    tcase_add_test(alone, a_policy_without_it_leaves_misses_as_they_were);
    tcase_add_loop_test(alone, who_warms_calls_it_for_a_batch, 1000, 1001);
    suite_add_tcase(suite, alone);
    TCase *fleet = tcase_create("fleet");
    tcase_add_checked_fixture(fleet, setup, teardown);
    add_common(fleet);
    suite_add_tcase(suite, fleet);
    return rig_run(suite);
}
