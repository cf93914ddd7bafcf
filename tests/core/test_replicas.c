/* SPDX-License-Identifier: MIT
 * test_replicas.c - core/fill.c, many.c and life.c over a primary and a replica that lags: how long
 * what it said is believed, and who never believes it. */
#include "rig.h"
#include "../../core/flight.h"

#include "../l2/node.h"

#include <stdio.h>

#include "../../core/flight.h"

static struct test_node primary, replica;
static struct rig rig; /* its clock, and the loaders of its rules */
static struct pln_cache *a, *b;
static char url[64];

static pln_ms read_clock(void *arg) {
    return atomic_load(&((struct rig *) arg)->now);
}

static void pass(pln_ms ms) {
    atomic_fetch_add(&rig.now, ms);
}

static void no_log(void *arg, int level, const char *line) {
    (void) arg, (void) level, (void) line;
}

static struct pln_cache *open_cache(void) {
    struct pln_cache *cache;
    struct pln_options options = {.ns = "t",
                                  .redis = url,
                                  .clock = read_clock,
                                  .clock_arg = &rig,
                                  .timeout_ms = 2000,
                                  .log = no_log};
    ck_assert_msg(pln_open(&options, &cache) == PLN_OK, "%s", pln_error_text());
    rig_await(cache, "bus_ok", 1);
    return cache;
}

static struct pln_terms near_terms(void) {
    struct pln_terms terms = *pln_cache_terms(b);
    terms.read = PLN_READ_REPLICA;
    return terms;
}

static bool has_caught_up(void *arg) {
    (void) arg;
    redisReply *ours = test_node_ask(&primary, "GET t:v:k"),
               *its = test_node_ask(&replica, "GET t:v:k");
    bool is_so = ours->len == its->len &&
                 (ours->len == 0 || memcmp(ours->str, its->str, ours->len) == 0);
    freeReplyObject(ours);
    freeReplyObject(its);
    return is_so;
}

static bool is_found(void *arg) {
    struct pln_result result;
    struct pln_get_options near = {.read = PLN_READ_REPLICA, .flags = PLN_GET_NO_L1};
    pln_get(arg, pln_key("nothing"), &near, &result);
    pln_release(arg, result.value);
    return rig_stat(arg, "l2_replicas") == 1;
}

/* One replica, which keeps what it has of k under another name, so that it can lag at will. `b`
 * reads k from it, `a` from the primary. */
static void set_up(void) {
    static const char *const options[] = {"--repl-diskless-sync-delay", "0", NULL};
    test_node_start(&primary, options);
    test_node_follow(&replica, &primary, NULL);
    snprintf(url, sizeof url, "redis://127.0.0.1:%d", primary.port);
    rig = (struct rig){.now = 1000};
    pthread_mutex_init(&rig.gate, NULL);
    a = open_cache();
    b = open_cache();
    struct pln_terms terms = near_terms();
    rig_policy(&rig, b, rig_rule("k*", &terms, 0));
    test_until(is_found, b, "the replica is not found");
}

static void tear_down(void) {
    pln_close(a);
    pln_close(b);
    test_node_stop(&primary);
    test_node_stop(&replica);
}

static void heard(uint64_t before) {
    rig_await(b, "bus_received", before + 1);
}

/* The primary has "two", of which b has heard, and the replica still "one". */
static void let_lag(void) {
    uint64_t before = rig_stat(b, "bus_received");
    rig_set(a, "k", "one");
    test_until(has_caught_up, NULL, "the replica does not catch up");
    test_node_tell(&replica, "COPY t:v:k kept");
    rig_set(a, "k", "two");
    test_until(has_caught_up, NULL, "the replica does not catch up");
    test_node_tell(&replica, "COPY kept t:v:k REPLACE");
    heard(before + 1);
}

START_TEST(what_a_replica_says_is_believed_for_a_second) {
    let_lag();
    rig_expect(b, "k", "one", "l2");
    rig_expect(b, "k", "one", "l1");
    pass(999);
    rig_expect(b, "k", "one", "l1");
    test_node_tell(&replica, "DEL t:v:k");
    rig_expect(b, "k", "one", "l1");
    pass(1);
    rig_expect(b, "k", "two", "l2"); /* the primary's, and believed as ever */
    pass(5000);
    rig_expect(b, "k", "two", "l1");
    ck_assert_uint_eq(rig_stat(b, "replica_hits"), 1);
}
END_TEST

START_TEST(the_bound_is_the_rules) {
    struct pln_terms terms = near_terms();
    terms.replica_ttl_ms = 5000;
    terms.l1_ttl_ms = 3000;
    rig_policy(&rig, b, rig_rule("k", &terms, 0));
    let_lag();
    rig_expect(b, "k", "one", "l2");
    pass(2999);
    rig_expect(b, "k", "one", "l1");
    pass(1);
    rig_expect(b, "k", "one", "l2");
    terms.l1_ttl_ms = 60000;
    rig_policy(&rig, b, rig_rule("k", &terms, 0));
    pass(3000);
    rig_expect(b, "k", "one", "l2");
    pass(4999);
    rig_expect(b, "k", "one", "l1");
    pass(1);
    rig_expect(b, "k", "one", "l2");
}
END_TEST

START_TEST(news_ends_a_copy_at_once_as_it_ends_any) {
    rig_set(a, "k", "one");
    test_until(has_caught_up, NULL, "the replica does not catch up");
    rig_expect(b, "k", "one", "l2");
    rig_expect(b, "k", "one", "l1");
    ck_assert_uint_eq(rig_stat(b, "replica_hits"), 1);
    uint64_t before = rig_stat(b, "bus_received");
    rig_set(a, "k", "two");
    test_until(has_caught_up, NULL, "the replica does not catch up");
    heard(before);
    rig_expect(b, "k", "two", "l2");
}
END_TEST

static void expect_read(uint8_t read, const char *value) {
    struct pln_result result;
    struct pln_get_options options = {.read = read, .flags = PLN_GET_NO_L1};
    ck_assert_int_eq(pln_get(b, pln_key("k"), &options, &result), PLN_OK);
    ck_assert_msg(result.len == strlen(value) &&
                      memcmp(pln_value_data(result.value), value, result.len) == 0,
                  "not %s", value);
    pln_release(b, result.value);
}

START_TEST(a_call_may_say_otherwise) {
    let_lag();
    expect_read(PLN_READ_BY_RULE, "one");
    expect_read(PLN_READ_PRIMARY, "two");
    expect_read(PLN_READ_REPLICA, "one");
    expect_read(PLN_READ_PRIMARY, "two");
}
END_TEST

START_TEST(many_keys_are_read_as_the_rule_of_each_says) {
    struct pln_bytes keys[] = {pln_key("k"), pln_key("other")};
    struct pln_result results[2];
    int statuses[2];
    rig_set(a, "other", "o");
    let_lag();
    ck_assert_int_eq(pln_get_many(b, keys, 2, NULL, results, statuses), PLN_OK);
    ck_assert(statuses[0] == PLN_OK && statuses[1] == PLN_OK);
    ck_assert_int_eq(memcmp(pln_value_data(results[0].value), "one", 3), 0);
    pln_release(b, results[0].value);
    pln_release(b, results[1].value);
    ck_assert_uint_eq(rig_stat(b, "replica_hits"), 1);
    pass(1000);
    test_node_tell(&replica, "DEL t:v:k");
    rig_expect(b, "k", "two", "l2");
    rig_expect(b, "other", "o", "l1");
}
END_TEST

/* The replica has nothing, the primary has what was set: nobody may load it anew, and what has to
 * be loaded is stored. */
START_TEST(no_loader_runs_because_a_replica_lags) {
    struct pln_terms terms = near_terms();
    rig_policy(&rig, b, rig_rule("k*", &terms, PLN_RULE_LOAD));
    rig_set(a, "k", "v");
    test_until(has_caught_up, NULL, "the replica does not catch up");
    test_node_tell(&replica, "DEL t:v:k");
    rig_expect(b, "k", "v", "l2");
    ck_assert_int_eq(rig.n_loads, 0);
    rig_expect(b, "k2", "loaded 1", "loaded");
    rig_expect(a, "k2", "loaded 1", "l2");
    ck_assert_int_eq(rig.n_loads, 1);
}
END_TEST

START_TEST(who_wants_the_primarys_word_joins_no_flight_that_may_lag) {
    struct pln_stamp stamp;
    struct pln_hashed key;
    struct pln_flight *flights[4];
    static const bool may_lag[] = {true, true, false, true};
    static const bool should_lead[] = {true, false, true, false};
    ck_assert_int_eq(pln_cache_key(b, pln_key("k"), &key), PLN_OK);
    pln_stamp_take(b->inval, key.hash, &stamp);
    for (size_t i = 0; i < 4; i++) {
        bool leads;
        flights[i] = pln_flight_join(b->flights, &stamp, &key, may_lag[i], &leads);
        ck_assert_int_eq(leads, should_lead[i]);
    }
    ck_assert(flights[0] == flights[1] && flights[1] != flights[2] && flights[2] == flights[3]);
    for (size_t i = 0; i < 4; i++) {
        struct pln_outcome outcome = {.status = PLN_MISS};
        if (should_lead[i]) {
            pln_flight_finish_take(b->flights, flights[i], &outcome);
        }
        pln_flight_leave(b->flights, flights[i]);
    }
}
END_TEST

START_TEST(an_option_that_is_none_is_refused) {
    struct pln_options options = {.read = "nearst"};
    struct pln_cache *cache;
    ck_assert_int_eq(pln_open(&options, &cache), PLN_EINVAL);
    ck_assert_str_eq(pln_error_text(),
                     "read: must be one of primary, replica, nearest, got 'nearst'");
    ck_assert_int_eq(pln_options_set(&options, "replica_ttl", "2s"), PLN_OK);
    ck_assert_int_eq(options.replica_ttl_ms, 2000);
}
END_TEST

int main(void) {
    Suite *suite = suite_create("replicas");
    TCase *tests = tcase_create("replicas");
    suite_add_tcase(suite, tests);
    tcase_set_timeout(tests, 90);
    tcase_add_checked_fixture(tests, set_up, tear_down);
    tcase_add_test(tests, what_a_replica_says_is_believed_for_a_second);
    tcase_add_test(tests, the_bound_is_the_rules);
    tcase_add_test(tests, news_ends_a_copy_at_once_as_it_ends_any);
    tcase_add_test(tests, a_call_may_say_otherwise);
    tcase_add_test(tests, many_keys_are_read_as_the_rule_of_each_says);
    tcase_add_test(tests, no_loader_runs_because_a_replica_lags);
    tcase_add_test(tests, who_wants_the_primarys_word_joins_no_flight_that_may_lag);
    tcase_add_test(tests, an_option_that_is_none_is_refused);
    return rig_run(suite);
}
