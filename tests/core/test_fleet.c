/* SPDX-License-Identifier: MIT
 * test_fleet.c - several instances over one server in memory: what one does the others see, and no
 * old value comes back by any of the races that can be forced. */
#include "rig.h"

static struct rig rig;
static struct pln_terms terms;

static void setup(void) {
    struct pln_options options = {.ttl_ms = 10000, .load_timeout_ms = 5000, .lease_ms = 2000};
    rig_open(&rig, 2, true, &options);
    terms = *pln_cache_terms(rig.caches[0]);
}

static void teardown(void) {
    rig_close(&rig);
}

#define A rig.caches[0]
#define B rig.caches[1]

START_TEST(a_value_set_on_one_is_read_on_the_other_through_l2_and_then_l1) {
    rig_set(A, "k", "v");
    rig_expect(A, "k", "v", "l1");
    rig_expect(B, "k", "v", "l2");
    rig_expect(B, "k", "v", "l1");
}
END_TEST

START_TEST(a_write_on_one_removes_the_old_value_from_the_other) {
    rig_set(A, "k", "old");
    rig_expect(B, "k", "old", "l2");
    rig_set(A, "k", "new");
    rig_expect(B, "k", "new", "l2");
    ck_assert_int_eq(pln_delete(B, pln_key("k")), PLN_OK);
    rig_expect(A, "k", NULL, "miss");
}
END_TEST

START_TEST(own_messages_leave_the_own_value_alone) {
    rig_set(A, "k", "v");
    rig_expect(A, "k", "v", "l1");
    ck_assert_uint_eq(rig_stat(A, "l1_removes"), 0);
}
END_TEST

START_TEST(a_message_that_comes_late_still_ends_the_old_value) {
    rig_set(A, "k", "old");
    rig_expect(B, "k", "old", "l2");
    pln_l2_mem_hold(B->l2, true);
    rig_set(A, "k", "new");
    rig_expect(B, "k", "old", "l1"); /* not told yet: the delay of delivery */
    pln_l2_mem_deliver(B->l2, 1);
    rig_expect(B, "k", "new", "l2");
}
END_TEST

START_TEST(an_invalidation_between_stamp_and_install_keeps_the_value_out) {
    struct pln_stamp stamp;
    struct pln_hashed key;
    struct pln_l1_life life;
    pln_cache_key(B, pln_key("k"), &key);
    rig_set(A, "k", "old");
    pln_stamp_take(B->inval, key.hash, &stamp); /* B asks, and is answered "old" ... */
    rig_set(A, "k", "new");                     /* ... A writes, B is told ... */
    struct pln_l2_item item = {.value = pln_key("old"), .fresh_left = 10000, .life_left = 10000};
    pln_life_keep(B, &key, &terms, &stamp, &item, &life); /* ... and B's reply lands */
    ck_assert_uint_eq(rig_stat(B, "fills_refused"), 1);
    rig_expect(B, "k", "new", "l2");
}
END_TEST

START_TEST(the_same_race_with_a_tag_keeps_the_value_out) {
    struct pln_stamp stamp;
    struct pln_hashed key;
    struct pln_l1_life life;
    struct pln_bytes tag = pln_key("t");
    pln_cache_key(B, pln_key("k"), &key);
    pln_stamp_take(B->inval, key.hash, &stamp);
    pln_invalidate_tag(A, tag);
    struct pln_l2_item item = {.value = pln_key("old"),
                               .fresh_left = 10000,
                               .life_left = 10000,
                               .tags = &tag,
                               .n_tags = 1};
    pln_life_keep(B, &key, &terms, &stamp, &item, &life);
    ck_assert_uint_eq(rig_stat(B, "fills_refused"), 1);
    rig_expect(B, "k", NULL, "miss");
}
END_TEST

START_TEST(of_two_writers_the_last_in_redis_is_what_both_read) {
    struct pln_stamp stamp;
    struct pln_hashed key;
    pln_cache_key(A, pln_key("k"), &key);
    pln_stamp_take(A->inval, key.hash, &stamp);  /* A's set is on its way ... */
    rig_set(B, "k", "b");                        /* ... B's comes after it, and A is told first */
    ck_assert(!pln_stamp_advance(&stamp, &key)); /* A's reply: not to be kept */
    rig_expect(A, "k", "b", "l2");
}
END_TEST

START_TEST(a_tag_and_a_clear_reach_every_instance_and_l2) {
    struct pln_bytes tag = pln_key("t");
    struct pln_set_options tagged = {.tags = &tag, .n_tags = 1};
    pln_set(A, pln_key("k"), pln_key("v"), &tagged);
    rig_set(A, "plain", "p");
    rig_expect(B, "k", "v", "l2");
    rig_expect(B, "plain", "p", "l2");
    ck_assert_int_eq(pln_invalidate_tag(B, tag), PLN_OK);
    rig_expect(A, "k", NULL, "miss");
    rig_expect(B, "k", NULL, "miss");
    rig_expect(A, "plain", "p", "l1");
    pln_set(A, pln_key("k"), pln_key("again"), &tagged);
    rig_expect(B, "k", "again", "l2");
    ck_assert_int_eq(pln_clear(A), PLN_OK);
    rig_expect(A, "k", NULL, "miss");
    rig_expect(B, "plain", NULL, "miss");
    rig_set(B, "plain", "q");
    rig_expect(A, "plain", "q", "l2");
}
END_TEST

START_TEST(expire_makes_it_stale_everywhere) {
    struct pln_set_options lasting = {.stale_ms = 5000};
    terms.stale_ms = 5000;
    rig_policy(&rig, A, rig_rule("{k}", &terms, 0));
    rig_policy(&rig, B, rig_rule("{k}", &terms, 0));
    pln_set(A, pln_key("k"), pln_key("v"), &lasting);
    rig_expect(B, "k", "v", "l2");
    ck_assert_int_eq(pln_expire(A, pln_key("k")), PLN_OK);
    rig_expect(A, "k", "v", "stale");
    rig_expect(B, "k", "v", "stale");
}
END_TEST

START_TEST(one_load_serves_the_fleet) {
    rig_policy(&rig, A, rig_rule("k:{id}", &terms, PLN_RULE_LOAD));
    rig_policy(&rig, B, rig_rule("k:{id}", &terms, PLN_RULE_LOAD));
    rig_expect(A, "k:1", "loaded 1", "loaded");
    rig_expect(B, "k:1", "loaded 1", "l2");
    ck_assert_int_eq(rig.n_loads, 1);
}
END_TEST

static void *get_on_b(void *arg) {
    (void) arg;
    rig_expect(B, "k:1", "loaded 1", "l2");
    return NULL;
}

static void *get_on_a(void *arg) {
    (void) arg;
    rig_expect(A, "k:1", "loaded 1", "loaded");
    return NULL;
}

START_TEST(a_second_instance_waits_for_the_firsts_load) {
    pthread_t on_a, on_b;
    rig_policy(&rig, A, rig_rule("k:{id}", &terms, PLN_RULE_LOAD));
    rig_policy(&rig, B, rig_rule("k:{id}", &terms, PLN_RULE_LOAD));
    pthread_mutex_lock(&rig.gate);
    pthread_create(&on_a, NULL, get_on_a, NULL);
    rig_await(A, "loads", 1);
    pthread_create(&on_b, NULL, get_on_b, NULL);
    rig_await(B, "lease_waits", 1);
    pthread_mutex_unlock(&rig.gate);
    pthread_join(on_a, NULL);
    pthread_join(on_b, NULL);
    ck_assert_int_eq(rig.n_loads, 1);
}
END_TEST

START_TEST(a_delete_voids_the_lease_so_that_the_loaded_value_is_kept_nowhere) {
    pthread_t on_a;
    rig_policy(&rig, A, rig_rule("k:{id}", &terms, PLN_RULE_LOAD));
    pthread_mutex_lock(&rig.gate);
    pthread_create(&on_a, NULL, get_on_a, NULL);
    rig_await(A, "loads", 1);
    ck_assert_int_eq(pln_delete(B, pln_key("k:1")), PLN_OK);
    pthread_mutex_unlock(&rig.gate);
    pthread_join(on_a, NULL);
    ck_assert_uint_eq(rig_stat(A, "leases_lost"), 1);
    rig_expect(B, "k:1", NULL, "miss");
    rig_expect(A, "k:1", "loaded 2", "loaded");
}
END_TEST

/* A second pair, without a log. */
static void open_without_log(void) {
    struct pln_options options = {.bus_log = PLN_NONE};
    rig_close(&rig);
    rig_open(&rig, 2, true, &options);
}

START_TEST(without_a_log_nothing_filled_before_a_lost_link_is_served_after_it) {
    open_without_log();
    rig_set(A, "k", "old");
    rig_set(A, "other", "o");
    rig_expect(B, "k", "old", "l2");
    rig_expect(B, "other", "o", "l2");
    pln_l2_mem_part(B->l2);
    rig_set(A, "k", "new"); /* B is not told */
    rig.now += 1001;
    rig_expect(B, "k", "new", "l2");
    pln_l2_mem_join(B->l2);
    rig_expect(B, "k", "new", "l2");
    rig_expect(B, "k", "new", "l1");
    rig_expect(B, "other", "o", "l2");
    ck_assert_uint_eq(rig_stat(B, "generation") % 2, 0);
    ck_assert_uint_eq(rig_stat(B, "bus_repairs"), 0);
}
END_TEST

START_TEST(with_a_log_only_what_changed_goes_with_a_lost_link) {
    uint64_t generation = rig_stat(B, "generation");
    rig_set(A, "k", "old");
    rig_set(A, "other", "o");
    rig_expect(B, "k", "old", "l2");
    rig_expect(B, "other", "o", "l2");
    pln_l2_mem_part(B->l2);
    rig_set(A, "k", "new");
    ck_assert_uint_eq(rig_stat(B, "generation"), generation + 1);
    pln_l2_mem_join(B->l2);
    ck_assert_uint_eq(rig_stat(B, "generation"), generation);
    rig_expect(B, "other", "o", "l1");
    rig_expect(B, "k", "new", "l2");
    ck_assert_uint_eq(rig_stat(B, "bus_repairs"), 1);
    ck_assert_uint_eq(rig_stat(B, "bus_replayed"), 1);
}
END_TEST

START_TEST(a_log_that_no_longer_has_it_all_does_not_help) {
    struct pln_options options = {.bus_log = 2};
    rig_close(&rig);
    rig_open(&rig, 2, true, &options);
    rig_set(A, "k", "old");
    rig_expect(B, "k", "old", "l2");
    pln_l2_mem_part(B->l2);
    rig_set(A, "k", "new");
    rig_set(A, "1", "x");
    rig_set(A, "2", "x");
    pln_l2_mem_join(B->l2);
    rig_expect(B, "k", "new", "l2");
    ck_assert_uint_eq(rig_stat(B, "bus_repairs"), 0);
}
END_TEST

START_TEST(in_a_gap_a_copy_serves_while_it_was_current_not_long_ago) {
    struct pln_get_options strict = {.max_staleness_ms = 100};
    struct pln_result result;
    rig_set(A, "k", "old");
    rig_expect(B, "k", "old", "l2");
    pln_l2_mem_part(B->l2);
    rig_set(A, "k", "new");
    rig.now += 1000; /* the default bound, counted from when the value was made */
    rig_expect(B, "k", "old", "l1");
    ck_assert_int_eq(pln_get(B, pln_key("k"), &strict, &result), PLN_OK);
    ck_assert_str_eq(pln_source_name(result.source), "l2");
    pln_release(B, result.value);
    rig.now += 1;
    rig_expect(B, "k", "new", "l2");
    pln_l2_mem_cut(B->l2, true);
    rig_expect(B, "k", "new", "stale");
}
END_TEST

/* L1 keeps when a value was made in steps, 16 seconds long for such a life. */
START_TEST(in_a_gap_a_long_life_makes_no_copy_younger) {
    const pln_ms month = 30LL * 86400000;
    struct pln_options options = {.ttl_ms = month, .l1_ttl_ms = month};
    rig_close(&rig);
    rig_open(&rig, 2, true, &options);
    rig_set(A, "k", "old");
    rig_expect(B, "k", "old", "l2");
    pln_l2_mem_part(B->l2);
    rig_set(A, "k", "new");
    rig.now += 1001;
    rig_expect(B, "k", "new", "l2");
}
END_TEST

START_TEST(an_extension_is_heard_by_all) {
    struct pln_result result;
    rig_set(A, "k", "v");
    rig_expect(B, "k", "v", "l2");
    ck_assert_int_eq(pln_touch(A, pln_key("k"), 3600000), PLN_OK);
    ck_assert_int_eq(pln_get(B, pln_key("k"), NULL, &result), PLN_OK);
    ck_assert_str_eq(pln_source_name(result.source), "l1");
    ck_assert_int_eq(result.left_ms, 3600000);
    pln_release(B, result.value);
}
END_TEST

START_TEST(a_lost_message_is_noticed_with_the_next_and_heard_from_the_log) {
    struct pln_memory_faults lossy = {.lose = 1}, none = {0};
    rig_set(A, "k", "old");
    rig_expect(B, "k", "old", "l2");
    pln_l2_mem_faults(rig.server, B->l2, &lossy);
    rig_set(A, "k", "new");
    rig_expect(B, "k", "old", "l1");
    pln_l2_mem_faults(rig.server, B->l2, &none);
    rig_set(A, "next", "n");
    rig_expect(B, "k", "new", "l2");
    ck_assert_uint_eq(rig_stat(B, "bus_gaps"), 1);
    ck_assert_uint_eq(rig_stat(B, "bus_repairs"), 1);
}
END_TEST

START_TEST(a_lost_message_that_none_follows_is_noticed_with_the_heartbeat) {
    struct pln_options options = {.ping_ms = 20};
    struct pln_memory_faults lossy = {.lose = 1};
    rig_close(&rig);
    rig_open(&rig, 2, true, &options);
    rig_set(A, "k", "old");
    rig_expect(B, "k", "old", "l2");
    pln_l2_mem_faults(rig.server, B->l2, &lossy);
    rig_set(A, "k", "new");
    rig_await(B, "bus_repairs", 1);
    rig_expect(B, "k", "new", "l2");
}
END_TEST

START_TEST(with_l2_away_l1_serves_as_stale_and_loaders_bring_the_rest) {
    struct pln_result result;
    rig_policy(&rig, A, rig_rule("k:{id}", &terms, PLN_RULE_LOAD));
    rig_set(A, "plain", "p");
    pln_l2_mem_cut(A->l2, true);
    pln_l2_mem_part(A->l2);
    rig.now += 1001;
    rig_expect(A, "plain", "p", "stale");
    rig_expect(A, "k:1", "loaded 1", "loaded");
    rig_expect(A, "k:1", "loaded 1", "l1");
    ck_assert_int_eq(pln_get(A, pln_key("nowhere"), NULL, &result), PLN_EL2DOWN);
    ck_assert_int_eq(pln_set(A, pln_key("plain"), pln_key("q"), NULL), PLN_EL2DOWN);
    ck_assert_int_eq(pln_get(A, pln_key("plain"), NULL, &result), PLN_EL2DOWN);
    pln_l2_mem_cut(A->l2, false);
    pln_l2_mem_join(A->l2);
    rig_expect(A, "plain", "p", "l2"); /* the set that failed has taken it out of L1 */
    rig_expect(A, "k:1", "loaded 2", "loaded");
    ck_assert_uint_eq(rig_stat(A, "gets"), rig_stat(A, "l1_hits") + rig_stat(A, "l2_hits") +
                                               rig_stat(A, "loads_served") +
                                               rig_stat(A, "stale_served") + rig_stat(A, "misses") +
                                               rig_stat(A, "failures"));
    ck_assert_uint_eq(rig_stat(A, "gets"), 7);
}
END_TEST

START_TEST(a_rule_may_allow_writes_to_l1_alone_while_l2_is_away) {
    terms.local_writes = true;
    rig_policy(&rig, A, rig_rule("{k}", &terms, 0));
    pln_l2_mem_cut(A->l2, true);
    pln_l2_mem_part(A->l2);
    rig_set(A, "k", "here");
    rig_expect(A, "k", "here", "l1");
    pln_l2_mem_cut(A->l2, false);
    pln_l2_mem_join(A->l2);
    rig_expect(A, "k", NULL, "miss");
}
END_TEST

START_TEST(many_keys_come_from_both_tiers_in_one_call) {
    struct pln_bytes keys[] = {pln_key("here"), pln_key("there"), pln_key("nowhere")};
    struct pln_result results[3];
    int statuses[3];
    rig_set(A, "here", "1");
    rig_set(B, "there", "2");
    ck_assert_int_eq(pln_get_many(A, keys, 3, NULL, results, statuses), PLN_OK);
    ck_assert_str_eq(pln_source_name(results[0].source), "l1");
    ck_assert_str_eq(pln_source_name(results[1].source), "l2");
    ck_assert_int_eq(statuses[2], PLN_MISS);
    pln_release(A, results[0].value);
    pln_release(A, results[1].value);
    rig_expect(A, "there", "2", "l1");
    pln_l2_mem_cut(A->l2, true);
    pln_l2_mem_part(A->l2);
    rig.now += 1001;
    ck_assert_int_eq(pln_get_many(A, keys, 3, NULL, results, statuses), PLN_OK);
    ck_assert_str_eq(pln_source_name(results[0].source), "stale");
    ck_assert_int_eq(statuses[2], PLN_EL2DOWN);
    pln_release(A, results[0].value);
    pln_release(A, results[1].value);
}
END_TEST

START_TEST(a_conditional_set_asks_the_tier_of_record) {
    struct pln_set_options nx = {.flags = PLN_SET_NX};
    rig_set(A, "k", "a");
    ck_assert_int_eq(pln_set(B, pln_key("k"), pln_key("b"), &nx), PLN_NOT_STORED);
    rig_expect(B, "k", "a", "l2");
}
END_TEST

START_TEST(the_remaining_ttl_is_carried_over) {
    struct pln_result result;
    rig_set(A, "k", "v");
    rig.now += 4000;
    ck_assert_int_eq(pln_get(B, pln_key("k"), NULL, &result), PLN_OK);
    ck_assert_int_eq(result.left_ms, 6000);
    ck_assert_int_eq(result.age_ms, 4000);
    pln_release(B, result.value);
    ck_assert_int_eq(pln_touch(B, pln_key("k"), 30000), PLN_OK);
    ck_assert_int_eq(pln_get(B, pln_key("k"), NULL, &result), PLN_OK);
    ck_assert_int_eq(result.left_ms, 30000);
    pln_release(B, result.value);
}
END_TEST

int main(void) {
    Suite *suite = suite_create("fleet");
    TCase *tests = tcase_create("fleet");
    suite_add_tcase(suite, tests);
    tcase_add_checked_fixture(tests, setup, teardown);
    tcase_add_test(tests, a_value_set_on_one_is_read_on_the_other_through_l2_and_then_l1);
    tcase_add_test(tests, a_write_on_one_removes_the_old_value_from_the_other);
    tcase_add_test(tests, own_messages_leave_the_own_value_alone);
    tcase_add_test(tests, a_message_that_comes_late_still_ends_the_old_value);
    tcase_add_test(tests, an_invalidation_between_stamp_and_install_keeps_the_value_out);
    tcase_add_test(tests, the_same_race_with_a_tag_keeps_the_value_out);
    tcase_add_test(tests, of_two_writers_the_last_in_redis_is_what_both_read);
    tcase_add_test(tests, a_tag_and_a_clear_reach_every_instance_and_l2);
    tcase_add_test(tests, expire_makes_it_stale_everywhere);
    tcase_add_test(tests, one_load_serves_the_fleet);
    tcase_add_test(tests, a_second_instance_waits_for_the_firsts_load);
    tcase_add_test(tests, a_delete_voids_the_lease_so_that_the_loaded_value_is_kept_nowhere);
    tcase_add_test(tests, without_a_log_nothing_filled_before_a_lost_link_is_served_after_it);
    tcase_add_test(tests, with_a_log_only_what_changed_goes_with_a_lost_link);
    tcase_add_test(tests, a_log_that_no_longer_has_it_all_does_not_help);
    tcase_add_test(tests, in_a_gap_a_copy_serves_while_it_was_current_not_long_ago);
    tcase_add_test(tests, in_a_gap_a_long_life_makes_no_copy_younger);
    tcase_add_test(tests, an_extension_is_heard_by_all);
    tcase_add_test(tests, a_lost_message_is_noticed_with_the_next_and_heard_from_the_log);
    tcase_add_test(tests, a_lost_message_that_none_follows_is_noticed_with_the_heartbeat);
    tcase_add_test(tests, with_l2_away_l1_serves_as_stale_and_loaders_bring_the_rest);
    tcase_add_test(tests, a_rule_may_allow_writes_to_l1_alone_while_l2_is_away);
    tcase_add_test(tests, many_keys_come_from_both_tiers_in_one_call);
    tcase_add_test(tests, a_conditional_set_asks_the_tier_of_record);
    tcase_add_test(tests, the_remaining_ttl_is_carried_over);
    return rig_run(suite);
}
