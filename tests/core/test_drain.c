/* SPDX-License-Identifier: MIT
 *
 * test_drain.c - writes behind, over a server in memory: queued.c, and what a load does while a
 * write waits.
 */
#include "drain_rig.h"

#include <stdio.h>

/* ---- writing ---- */

START_TEST(a_write_is_acknowledged_before_it_is_stored_and_stored_soon) {
    hold_store();
    rig_set(A, "k", "v");
    rig_expect(A, "k", "v", "l1");
    rig_expect(B, "k", "v", "l2");
    db_expect(&db, "k", NULL);
    ck_assert_uint_eq(depth(B), 1);
    let_store_go();
    db_await(&db, "k", "v");
    flush(B);
    ck_assert_uint_eq(depth(A), 0);
    rig_expect(A, "k", "v", "l1"); /* storing it changes nothing in the tiers */
}
END_TEST

START_TEST(the_last_write_of_a_key_is_stored_once) {
    char value[16];
    hold_store();
    rig_set(A, "first", "v");
    await_call(1);
    for (int i = 0; i < 200; i++) {
        snprintf(value, sizeof value, "%d", i);
        rig_set(i % 2 == 0 ? A : B, "k", value);
    }
    rig_set(A, "other", "v");
    ck_assert_uint_eq(depth(A), 202);
    let_store_go();
    flush(A);
    db_expect(&db, "k", "199");
    db_expect(&db, "other", "v");
    ck_assert_uint_lt(atomic_load(&db.n_items), 10);
    ck_assert_uint_eq(depth(A), 0);
}
END_TEST

START_TEST(in_order_all_writes_of_a_key_are_stored) {
    writing.in_order = true;
    drain_reopen(2);
    rig_set(A, "k", "1");
    rig_set(B, "k", "2");
    ck_assert_int_eq(pln_delete(A, pln_key("k")), PLN_OK);
    rig_set(B, "k", "3");
    flush(A);
    ck_assert_str_eq(db.log, "k=1 k=2 k- k=3");
}
END_TEST

START_TEST(a_delete_is_stored_as_one) {
    rig_set(A, "k", "v");
    flush(A);
    db_expect(&db, "k", "v");
    ck_assert_int_eq(pln_delete(B, pln_key("k")), PLN_OK);
    flush(A);
    db_expect(&db, "k", NULL);
    ck_assert_int_eq(db.rows[0].n_writes, 2);
}
END_TEST

START_TEST(additions_of_two_instances_all_count_and_reach_the_store) {
    struct pln_incr_options options = {.has_initial = true};
    int64_t sum;
    for (int i = 0; i < 100; i++) {
        ck_assert_msg(pln_incr(i % 2 == 0 ? A : B, pln_key("n"), 1, &options, &sum) == PLN_OK, "%s",
                      pln_error_text());
    }
    ck_assert_int_eq(sum, 100);
    flush(A);
    db_expect(&db, "n", "100");
}
END_TEST

START_TEST(a_condition_that_does_not_hold_stores_nothing) {
    struct pln_set_options nx = {.flags = PLN_SET_NX};
    rig_set(A, "k", "1");
    ck_assert_int_eq(pln_set(B, pln_key("k"), pln_key("2"), &nx), PLN_NOT_STORED);
    flush(A);
    ck_assert_str_eq(db.log, "k=1");
}
END_TEST

START_TEST(without_redis_nothing_can_be_written_behind) {
    struct pln_cache *cache;
    struct pln_options options = {.writing = &writing};
    ck_assert_int_eq(pln_open(&options, &cache), PLN_OK);
    ck_assert_int_eq(pln_set(cache, pln_key("k"), pln_key("v"), NULL), PLN_EINVAL);
    ck_assert_ptr_nonnull(strstr(pln_error_text(), "needs Redis"));
    ck_assert_int_eq(pln_flush(cache, 0), PLN_EINVAL);
    pln_close(cache);
}
END_TEST

/* ---- reading what waits ---- */

static int load_old(void *arg, struct pln_bytes key, struct pln_load *load) {
    unsigned *n = arg;
    (void) key;
    (*n)++;
    return pln_load_value(load, pln_key("old"), 0);
}

static void expect_load(struct pln_cache *cache, const char *key, const char *value,
                        unsigned n_loads) {
    unsigned n = 0;
    struct pln_result result;
    int status = pln_get_or_load(cache, pln_key(key), NULL, load_old, &n, &result);
    ck_assert_msg(status == (value != NULL ? PLN_OK : PLN_ABSENT), "%s", pln_error_text());
    if (value != NULL) {
        ck_assert_uint_eq(result.len, strlen(value));
        ck_assert_mem_eq(pln_value_data(result.value), value, result.len);
    }
    ck_assert_uint_eq(n, n_loads);
    pln_release(cache, result.value);
}

START_TEST(a_load_brings_what_waits_and_not_what_the_store_has) {
    hold_store();
    rig_set(A, "k", "new");
    rig_set(A, "gone", "v");
    ck_assert_int_eq(pln_delete(A, pln_key("gone")), PLN_OK);
    ck_assert_int_eq(pln_clear(B), PLN_OK); /* as if it had been evicted */
    expect_load(B, "k", "new", 0);
    expect_load(B, "gone", NULL, 0);
    expect_load(B, "other", "old", 1);
    rig_expect(A, "k", "new", "l2"); /* it is a value like any */
    let_store_go();
    flush(A);
    ck_assert_int_eq(pln_clear(B), PLN_OK);
    expect_load(B, "k", "old", 1);
}
END_TEST

static int load_all_old(void *arg, const struct pln_bulk *bulk) {
    unsigned *n = arg;
    for (size_t i = 0; i < bulk->n; i++) {
        (*n)++;
        bulk->statuses[i] = pln_load_value(bulk->loads[i], pln_key("old"), 0);
    }
    return PLN_OK;
}

static void expect_loads(const char *first, unsigned n_loads) {
    struct pln_bytes keys[] = {pln_key("k"), pln_key("gone"), pln_key("other")};
    struct pln_result results[3];
    int statuses[3];
    unsigned n = 0;
    ck_assert_int_eq(pln_clear(B), PLN_OK);
    ck_assert_int_eq(pln_get_or_load_many(B, keys, 3, NULL, load_all_old, &n, results, statuses),
                     PLN_OK);
    ck_assert_int_eq(statuses[0], PLN_OK);
    ck_assert_mem_eq(pln_value_data(results[0].value), first, strlen(first));
    ck_assert_int_eq(statuses[1], n_loads == 3 ? PLN_OK : PLN_ABSENT);
    ck_assert_int_eq(statuses[2], PLN_OK);
    ck_assert_uint_eq(n, n_loads);
    for (int i = 0; i < 3; i++) {
        pln_release(B, results[i].value);
    }
    rig_expect(A, "k", first, "l2"); /* it was stored for all */
}

START_TEST(a_load_of_many_brings_what_waits) {
    hold_store();
    rig_set(A, "k", "new");
    ck_assert_int_eq(pln_delete(A, pln_key("gone")), PLN_OK);
    expect_loads("new", 1);
    let_store_go();
    flush(A);
    expect_loads("old", 3);
}
END_TEST

START_TEST(the_policys_loader_and_a_refresh_are_not_asked_while_a_write_waits) {
    register_db(A);
    register_db(B);
    rig_policy(&rig, A, behind_rule("{k}", PLN_RULE_LOAD));
    rig_policy(&rig, B, behind_rule("{k}", PLN_RULE_LOAD));
    hold_store();
    rig_set(A, "k", "new");
    ck_assert_int_eq(pln_clear(B), PLN_OK);
    rig_expect(B, "k", "new", "loaded");
    ck_assert_int_eq(atomic_load(&rig.n_loads), 0);
    rig_expect(B, "other", "loaded 1", "loaded");
    let_store_go();
    flush(A);
    ck_assert_int_eq(pln_clear(B), PLN_OK);
    rig_expect(B, "k", "loaded 2", "loaded");
}
END_TEST

START_TEST(where_the_queue_cannot_be_asked_a_loaders_value_is_kept_nowhere) {
    hold_store();
    rig_set(A, "k", "new");
    ck_assert_int_eq(pln_clear(A), PLN_OK);
    pln_l2_mem_cut(B->l2, true);
    expect_load(B, "k", "old", 1);
    expect_load(B, "k", "old", 1);
    pln_l2_mem_cut(B->l2, false);
    expect_load(B, "k", "new", 0);
    let_store_go();
}
END_TEST

static int refuse(void *arg, unsigned worker, const struct pln_match *match, struct pln_bytes key,
                  struct pln_bytes value, uint8_t format, struct pln_load *load) {
    (void) arg, (void) worker, (void) match, (void) key, (void) value, (void) format, (void) load;
    return pln_fail(PLN_EPOLICY, "ttl: out of order");
}

START_TEST(what_waits_and_cannot_be_shaped_fails_as_a_load_and_is_not_passed_over) {
    struct pln_result result;
    register_db(B);
    hold_store();
    rig_set(A, "k", "new");
    ck_assert_int_eq(pln_clear(B), PLN_OK);
    rig_policy(&rig, B, behind_rule("{k}", PLN_RULE_LOAD | PLN_RULE_TTL));
    B->policy->hooks.shape = refuse;
    ck_assert_int_eq(pln_get(B, pln_key("k"), NULL, &result), PLN_EPOLICY);
    ck_assert_int_eq(atomic_load(&rig.n_loads), 0);
    let_store_go();
}
END_TEST

/* ---- a full queue ---- */

static void fill(uint8_t when_full) {
    writing.most = 2;
    writing.when_full = when_full;
    drain_reopen(2);
    hold_store();
    rig_set(A, "k", "1");
    await_call(1);
    rig_set(A, "l", "1");
}

static int set_within(struct pln_cache *cache, const char *key, pln_ms timeout) {
    struct pln_set_options options = {.timeout_ms = timeout};
    return pln_set(cache, pln_key(key), pln_key("2"), &options);
}

START_TEST(who_finds_the_queue_full_waits_for_room_but_not_forever) {
    fill(PLN_FULL_WAIT);
    ck_assert_int_eq(set_within(B, "m", 50), PLN_EBUSY);
    ck_assert_ptr_nonnull(strstr(pln_error_text(), "2 writes wait"));
    ck_assert_uint_eq(rig_stat(B, "queue_waits"), 1);
    ck_assert_uint_eq(rig_stat(B, "queue_refused"), 1);
    rig_expect(B, "m", NULL, "miss");
    let_store_go();
    ck_assert_int_eq(set_within(B, "m", 10000), PLN_OK);
    flush(B);
    db_expect(&db, "m", "2");
}
END_TEST

static void *set_m(void *arg) {
    int *status = arg;
    *status = set_within(B, "m", 20000);
    return NULL;
}

START_TEST(who_waits_for_room_goes_on_when_there_is_some) {
    pthread_t thread;
    int status = PLN_MISS;
    fill(PLN_FULL_WAIT);
    pthread_create(&thread, NULL, set_m, &status);
    rig_await(B, "queue_waits", 1);
    let_store_go();
    pthread_join(thread, NULL);
    ck_assert_int_eq(status, PLN_OK);
    flush(A);
    db_expect(&db, "m", "2");
}
END_TEST

START_TEST(who_may_not_wait_is_refused_at_once) {
    fill(PLN_FULL_REFUSE);
    ck_assert_int_eq(set_within(B, "m", 20000), PLN_EBUSY);
    ck_assert_int_eq(pln_delete(B, pln_key("m")), PLN_EBUSY);
    ck_assert_uint_eq(rig_stat(B, "queue_waits"), 0);
    ck_assert_uint_eq(rig_stat(B, "queue_refused"), 2);
    let_store_go();
}
END_TEST

START_TEST(a_full_queue_is_passed_but_not_by_a_key_that_waits_in_it) {
    fill(PLN_FULL_THROUGH);
    pthread_t thread;
    int status = PLN_MISS;
    pthread_create(&thread, NULL, set_m, &status); /* it meets the gate in a call of its own */
    await_call(2);
    let_store_go();
    pthread_join(thread, NULL);
    ck_assert_int_eq(status, PLN_OK);
    db_expect(&db, "m", "2");
    rig_expect(B, "m", "2", "l1");
    flush(A);
    db_expect(&db, "k", "1");
    db_expect(&db, "l", "1");
}
END_TEST

START_TEST(a_write_through_waits_for_the_one_of_its_key_that_waits) {
    fill(PLN_FULL_THROUGH);
    ck_assert_int_eq(set_within(B, "l", 50), PLN_EBUSY);
    ck_assert_uint_eq(atomic_load(&db.n_calls), 1);
    let_store_go();
    ck_assert_int_eq(set_within(B, "l", 20000), PLN_OK);
    flush(A);
    db_expect(&db, "l", "2");
    ck_assert(!atomic_load(&db.saw_old));
}
END_TEST

int main(void) {
    Suite *suite = suite_create("drain");
    TCase *tests = tcase_create("drain");
    suite_add_tcase(suite, tests);
    tcase_set_timeout(tests, 60);
    tcase_add_checked_fixture(tests, drain_setup, drain_teardown);
    tcase_add_test(tests, a_write_is_acknowledged_before_it_is_stored_and_stored_soon);
    tcase_add_test(tests, the_last_write_of_a_key_is_stored_once);
    tcase_add_test(tests, in_order_all_writes_of_a_key_are_stored);
    tcase_add_test(tests, a_delete_is_stored_as_one);
    tcase_add_test(tests, additions_of_two_instances_all_count_and_reach_the_store);
    tcase_add_test(tests, a_condition_that_does_not_hold_stores_nothing);
    tcase_add_test(tests, without_redis_nothing_can_be_written_behind);
    tcase_add_test(tests, a_load_brings_what_waits_and_not_what_the_store_has);
    tcase_add_test(tests, a_load_of_many_brings_what_waits);
    tcase_add_test(tests, the_policys_loader_and_a_refresh_are_not_asked_while_a_write_waits);
    tcase_add_test(tests, where_the_queue_cannot_be_asked_a_loaders_value_is_kept_nowhere);
    tcase_add_test(tests, what_waits_and_cannot_be_shaped_fails_as_a_load_and_is_not_passed_over);
    tcase_add_test(tests, who_finds_the_queue_full_waits_for_room_but_not_forever);
    tcase_add_test(tests, who_waits_for_room_goes_on_when_there_is_some);
    tcase_add_test(tests, who_may_not_wait_is_refused_at_once);
    tcase_add_test(tests, a_full_queue_is_passed_but_not_by_a_key_that_waits_in_it);
    tcase_add_test(tests, a_write_through_waits_for_the_one_of_its_key_that_waits);
    return rig_run(suite);
}
