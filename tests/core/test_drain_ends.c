/* SPDX-License-Identifier: MIT
 *
 * test_drain_ends.c - what becomes of writes behind: drain.c, turn.c, letters.c, over a server in
 * memory.
 */
#include "drain_rig.h"

#include "../../core/batch.h"

#include <stdio.h>

/* ---- failures ---- */

START_TEST(what_is_not_stored_is_tried_again) {
    atomic_store(&db.status, PLN_ESTORE);
    rig_set(A, "k", "v");
    rig_await(A, "store_retries", 1);
    atomic_store(&db.status, PLN_OK);
    db_await(&db, "k", "v");
}
END_TEST

struct letters {
    size_t n;
    char last[128], id[64];
};

static bool see(void *arg, const struct pln_dead_letter *letter) {
    struct letters *letters = arg;
    letters->n++;
    snprintf(letters->last, sizeof letters->last, "%.*s%s%.*s: %s, %u", (int) letter->key.len,
             (const char *) letter->key.data, letter->op == PLN_STORE_SET ? "=" : "-",
             (int) letter->value.len, (const char *) letter->value.data, letter->error,
             letter->attempts);
    snprintf(letters->id, sizeof letters->id, "%s", letter->id);
    ck_assert_ptr_nonnull(strchr(letter->write_id, '-'));
    return true;
}

static struct letters look_at_letters(void) {
    struct letters letters = {.n = 0};
    ck_assert_int_eq(pln_dead_letters(B, 0, see, &letters), PLN_OK);
    return letters;
}

START_TEST(what_can_never_be_stored_becomes_a_dead_letter_with_its_reason) {
    atomic_store(&db.poison, "x");
    rig_set(A, "k", "x");
    rig_set(A, "l", "1");
    flush(A);
    db_expect(&db, "l", "1");
    struct letters letters = look_at_letters();
    ck_assert_uint_eq(letters.n, 1);
    ck_assert_str_eq(letters.last, "k=x: no such column, 1");
    ck_assert_uint_eq(rig_stat(A, "store_dead") + rig_stat(B, "store_dead"), 1);
    struct pln_queue_state state;
    ck_assert_int_eq(pln_queue_state(B, &state), PLN_OK);
    ck_assert_uint_eq(state.dead, 1);
}
END_TEST

START_TEST(what_fails_too_often_becomes_one_and_can_be_tried_again) {
    size_t n = 0;
    atomic_store(&db.bad, "x");
    rig_set(A, "k", "x");
    flush(A);
    struct letters letters = look_at_letters();
    ck_assert_uint_eq(letters.n, 1);
    ck_assert_str_eq(letters.last, "k=x: locked, 3");
    atomic_store(&db.bad, NULL);
    ck_assert_int_eq(pln_retry_letter(B, letters.id, &n), PLN_OK);
    ck_assert_uint_eq(n, 1);
    flush(B);
    db_expect(&db, "k", "x");
    ck_assert_uint_eq(look_at_letters().n, 0);
    ck_assert_int_eq(pln_retry_letter(B, letters.id, &n), PLN_MISS);
    ck_assert_int_eq(pln_retry_letter(B, "nonsense", &n), PLN_EINVAL);
}
END_TEST

START_TEST(a_letter_does_not_undo_a_later_write) {
    size_t n = 7;
    atomic_store(&db.poison, "x");
    rig_set(A, "k", "x");
    flush(A);
    atomic_fetch_add(&rig.now, 1000);
    rig_set(A, "k", "later");
    flush(A);
    atomic_store(&db.poison, NULL);
    ck_assert_int_eq(pln_retry_letter(B, NULL, &n), PLN_OK);
    ck_assert_uint_eq(n, 0);
    flush(B);
    db_expect(&db, "k", "later");
    ck_assert_uint_eq(look_at_letters().n, 0);
}
END_TEST

/* With the lives of what the tiers have a reader gets what the store has. */
START_TEST(a_letter_that_waits_again_is_what_is_read) {
    struct pln_rule rule = behind_rule("{k}", PLN_RULE_LOAD);
    register_db(A);
    rig_policy(&rig, A, rule);
    atomic_store(&db.poison, "x");
    rig_set(A, "k", "x");
    rig_set(A, "l", "x");
    flush(A);
    atomic_fetch_add(&rig.now, 10000000);
    rig_expect(A, "k", "loaded 1", "loaded");
    rig_expect(A, "l", "loaded 2", "loaded");
    atomic_store(&db.poison, NULL);
    hold_store();
    size_t n = 0;
    ck_assert_int_eq(pln_retry_letter(A, look_at_letters().id, &n), PLN_OK); /* the last one */
    ck_assert_int_eq(pln_retry_letter(B, NULL, &n), PLN_OK);
    ck_assert_uint_eq(n, 1);
    rig_expect(A, "l", "x", "loaded");
    rig_expect(A, "k", "x", "loaded");
    let_store_go();
    flush(A);
    db_expect(&db, "k", "x");
}
END_TEST

START_TEST(letters_are_dropped) {
    size_t n = 0;
    atomic_store(&db.poison, "x");
    rig_set(A, "k", "x");
    rig_set(A, "l", "x");
    flush(A);
    ck_assert_uint_eq(look_at_letters().n, 2);
    ck_assert_int_eq(pln_drop_letter(A, look_at_letters().id, &n), PLN_OK);
    ck_assert_uint_eq(n, 1);
    ck_assert_int_eq(pln_drop_letter(A, NULL, &n), PLN_OK);
    ck_assert_uint_eq(n, 1);
    ck_assert_uint_eq(look_at_letters().n, 0);
    ck_assert_int_eq(pln_drop_letter(A, NULL, NULL), PLN_OK);
}
END_TEST

START_TEST(letters_that_come_back_at_once_are_tried_once) {
    size_t n = 0;
    atomic_store(&db.poison, "x");
    rig_set(A, "k", "x");
    rig_set(A, "l", "x");
    flush(A);
    ck_assert_int_eq(pln_retry_letter(B, NULL, &n), PLN_OK);
    ck_assert_uint_eq(n, 2);
    flush(A);
    ck_assert_uint_eq(look_at_letters().n, 2);
}
END_TEST

/* ---- flush, close, who stores ---- */

START_TEST(a_flush_does_not_wait_forever) {
    hold_store();
    rig_set(A, "k", "v");
    ck_assert_int_eq(pln_flush(B, 50), PLN_ETIMEOUT);
    ck_assert_ptr_nonnull(strstr(pln_error_text(), "1 writes"));
    ck_assert_int_eq(pln_flush(B, -1), PLN_EINVAL);
    let_store_go();
    flush(B);
}
END_TEST

START_TEST(a_flush_does_not_wait_for_others_to_come_with_a_write) {
    writing.every_ms = 3600000;
    drain_reopen(1);
    rig_set(A, "k", "v");
    flush(A);
    db_expect(&db, "k", "v");
}
END_TEST

START_TEST(a_cache_that_is_closed_stores_what_waits) {
    expect_close_stores();
}
END_TEST

START_TEST(what_a_closed_cache_could_not_store_is_stored_by_another) {
    atomic_store(&db.status, PLN_ESTORE);
    writing.backoff_ms = 1000;
    drain_reopen(2);
    rig_set(A, "k", "v");
    await_call(1);
    pln_close(A);
    A = NULL;
    db_expect(&db, "k", NULL);
    atomic_store(&db.status, PLN_OK);
    flush(B);
    db_expect(&db, "k", "v");
}
END_TEST

/* Else it would take twice a store's timeout, and with it the test's own. */
START_TEST(who_closes_does_not_wait_for_more_than_it_can_hold) {
    char key[16];
    writing.timeout_ms = 120000;
    writing.backoff_ms = 60000;
    drain_reopen(1);
    atomic_store(&db.status, PLN_ESTORE);
    for (int i = 0; i <= PLN_HELD_MOST; i++) {
        snprintf(key, sizeof key, "k%d", i);
        rig_set(A, key, "v");
    }
    pln_close(A);
    A = NULL;
    ck_assert_ptr_nonnull(strstr(rig.last_log, "closed before all was stored"));
}
END_TEST

START_TEST(one_instance_at_a_time_stores) {
    struct pln_queue_state a, b;
    rig_set(A, "k", "v");
    rig_set(B, "l", "v");
    flush(A);
    flush(B);
    ck_assert_int_eq(pln_queue_state(A, &a), PLN_OK);
    ck_assert_int_eq(pln_queue_state(B, &b), PLN_OK);
    ck_assert_int_eq(a.is_ours + b.is_ours, 1);
    ck_assert_int_eq(a.lag_ms, 0);
}
END_TEST

START_TEST(the_queue_is_seen_in_the_statistics) {
    hold_store();
    rig_set(A, "k", "v");
    rig_set(A, "l", "v");
    atomic_fetch_add(&rig.now, 5000);
    rig_await(A, "queue_depth", 2);
    rig_await(A, "queue_lag_ms", 5000);
    let_store_go();
    flush(A);
    ck_assert_uint_eq(rig_stat(A, "queue_depth"), 0);
    ck_assert_uint_eq(rig_stat(A, "stores") + rig_stat(B, "stores"), 2);
}
END_TEST

START_TEST(a_store_that_outlives_the_lead_is_told_of) {
    writing.timeout_ms = 1;
    drain_reopen(1);
    hold_store();
    rig_set(A, "k", "v");
    await_call(1);
    for (pln_ns end = pln_deadline(250); pln_clock_precise() < end;) { /* the lead has 200 ms */
        sched_yield();
    }
    atomic_fetch_add(&rig.now, 250);
    ck_assert_int_eq(atomic_load(&rig.n_logs), 0);
    let_store_go();
    flush(A);
    ck_assert_uint_gt(atomic_load(&db.n_calls), 1);
    ck_assert_ptr_nonnull(strstr(rig.last_log, "s, and the lead ended meanwhile"));
}
END_TEST

/* ---- rules that change ---- */

static void open_by_rules(void) {
    rig_close(&rig);
    struct pln_options options = {.ttl_ms = 600000, .timeout_ms = 2000, .workers = 2};
    rig_open(&rig, 2, true, &options);
}

START_TEST(what_has_no_store_waits_for_one) {
    open_by_rules();
    rig_policy(&rig, A, behind_rule("{k}", 0));
    rig_set(A, "k", "v");
    ck_assert_int_eq(pln_flush(A, 100), PLN_ETIMEOUT);
    ck_assert_uint_eq(depth(A), 1);
    register_db(A);
    flush(A);
    db_expect(&db, "k", "v");
}
END_TEST

/* What waits for a store is not overtaken by what is written once there is one. */
START_TEST(a_store_that_is_given_later_has_the_writes_in_their_order) {
    open_by_rules();
    rig_policy(&rig, A, behind_rule("{k}", 0));
    rig_set(A, "k", "1");
    ck_assert_int_eq(pln_flush(A, 100), PLN_ETIMEOUT);
    register_db(A);
    rig_set(A, "k", "2");
    flush(A);
    db_expect(&db, "k", "2");
    ck_assert(!atomic_load(&db.saw_old));
}
END_TEST

START_TEST(an_instance_with_a_store_stores_for_one_without) {
    open_by_rules();
    rig_policy(&rig, A, behind_rule("{k}", 0));
    rig_set(A, "k", "v");
    ck_assert_int_eq(pln_flush(A, 100), PLN_ETIMEOUT); /* it had the lead */
    register_db(B);
    rig_policy(&rig, B, behind_rule("{k}", 0));
    rig_set(B, "l", "v");
    db_await(&db, "k", "v");
    db_await(&db, "l", "v");
}
END_TEST

START_TEST(what_waits_is_stored_by_the_rule_of_then) {
    open_by_rules();
    writing.every_ms = 3600000;
    register_db(A);
    rig_policy(&rig, A, behind_rule("{k}", 0));
    rig_set(A, "k", "v");
    struct pln_rule rule = behind_rule("{k}", 0);
    rule.terms.write = PLN_WRITE_THROUGH;
    rule.writing.strategy = PLN_WRITE_THROUGH;
    rig_policy(&rig, A, rule);
    flush(A);
    db_expect(&db, "k", "v");
    rig_set(A, "k", "through");
    db_expect(&db, "k", "through");
}
END_TEST

/* What strategies.md warns of. */
START_TEST(what_waits_for_a_rule_that_is_aside_by_then_stays_and_passes_what_came_since) {
    open_by_rules();
    writing.every_ms = 3600000;
    register_db(A);
    rig_policy(&rig, A, behind_rule("{k}", 0));
    rig_set(A, "k", "1");
    struct pln_rule aside = rig_rule("{k}", pln_cache_terms(A), PLN_RULE_LOAD);
    rig_policy(&rig, A, aside);
    ck_assert_int_eq(pln_flush(A, 100), PLN_ETIMEOUT);
    ck_assert_msg(strstr(rig.last_log, "no store here for 'k'") != NULL, "%s", rig.last_log);
    db_expect(&db, "k", NULL);
    rig_expect(A, "k", "1", "l1");
    ck_assert_int_eq(pln_clear(A), PLN_OK);
    rig_expect(A, "k", "loaded 1", "loaded"); /* and not what waits */
    rig_set(A, "k", "2");
    rig_policy(&rig, A, behind_rule("{k}", 0));
    flush(A);
    db_expect(&db, "k", "1");
    rig_expect(A, "k", "2", "l1");
}
END_TEST

/* As the rule was behind a moment ago. */
static void write_through_from_now_on(struct pln_cache *cache) {
    struct pln_rule rule = behind_rule("{k}", PLN_RULE_LOAD);
    rule.terms.write = PLN_WRITE_THROUGH;
    rule.writing.strategy = PLN_WRITE_THROUGH;
    rig_policy(&rig, cache, rule);
}

START_TEST(what_is_written_through_is_not_overtaken_by_what_waits) {
    struct pln_set_options hasty = {.timeout_ms = 50}, patient = {.timeout_ms = 20000};
    open_by_rules();
    register_db(A);
    register_db(B);
    rig_policy(&rig, A, behind_rule("{k}", 0));
    hold_store();
    rig_set(A, "k", "1");
    await_call(1);
    write_through_from_now_on(A);
    write_through_from_now_on(B);
    ck_assert_int_eq(pln_set(A, pln_key("k"), pln_key("2"), &hasty), PLN_EBUSY);
    ck_assert_int_eq(pln_set(B, pln_key("k"), pln_key("2"), &hasty), PLN_EBUSY);
    ck_assert_uint_eq(atomic_load(&db.n_calls), 1);
    ck_assert_int_eq(pln_clear(A), PLN_OK);
    rig_expect(B, "k", "1", "loaded"); /* by what waits: its loader knows of nothing */
    let_store_go();
    ck_assert_int_eq(pln_set(B, pln_key("k"), pln_key("2"), &patient), PLN_OK);
    flush(A);
    db_expect(&db, "k", "2");
    ck_assert_str_eq(db.log, "k=1 k=2");
}
END_TEST

START_TEST(who_writes_through_stores_what_former_instances_left) {
    struct pln_set_options patient = {.timeout_ms = 5000};
    open_by_rules();
    register_db(A);
    register_db(B);
    rig_policy(&rig, A, behind_rule("{k}", 0));
    write_through_from_now_on(B);
    atomic_store(&db.status, PLN_ESTORE);
    rig_set(A, "k", "1");
    await_call(1);
    pln_close(A);
    A = NULL;
    atomic_store(&db.status, PLN_OK);
    ck_assert_msg(pln_set(B, pln_key("k"), pln_key("2"), &patient) == PLN_OK, "%s",
                  pln_error_text());
    ck_assert_str_eq(db.log, "k=1 k=2");
}
END_TEST

/* ---- several at once ---- */

enum { N_KEYS = 8, N_WRITES = 300 };

static void *write_on(void *arg) {
    struct pln_cache *cache = arg;
    char key[16], value[24];
    for (int i = 0; i < N_WRITES; i++) {
        snprintf(key, sizeof key, "k%d", i % N_KEYS);
        snprintf(value, sizeof value, "%d-%d", cache == A, i);
        if (i % 11 == 10) {
            ck_assert_int_eq(pln_delete(cache, pln_key(key)), PLN_OK);
        } else {
            rig_set(cache, key, value);
        }
    }
    return NULL;
}

static void expect_same(void) {
    char key[16], value[DB_TEXT];
    for (int i = 0; i < N_KEYS; i++) {
        struct pln_result result;
        snprintf(key, sizeof key, "k%d", i);
        struct pln_get_options options = {.flags = PLN_GET_NO_STALE};
        int status = pln_get(B, pln_key(key), &options, &result);
        ck_assert_int_ge(status, 0);
        snprintf(value, sizeof value, "%.*s", (int) result.len,
                 status == PLN_OK ? (const char *) pln_value_data(result.value) : "");
        db_expect(&db, key, status == PLN_OK ? value : NULL);
        pln_release(B, result.value);
    }
}

START_TEST(the_store_ends_with_what_the_tiers_have) {
    pthread_t threads[2];
    atomic_store(&db.bad, "1-100");
    for (size_t i = 0; i < 2; i++) {
        pthread_create(&threads[i], NULL, write_on, rig.caches[i]);
    }
    for (size_t i = 0; i < 2; i++) {
        pthread_join(threads[i], NULL);
    }
    flush(A);
    ck_assert_uint_eq(depth(B), 0);
    ck_assert(!atomic_load(&db.saw_old));
    expect_same();
}
END_TEST

int main(void) {
    Suite *suite = suite_create("drain ends");
    TCase *tests = tcase_create("drain ends");
    suite_add_tcase(suite, tests);
    tcase_set_timeout(tests, 60);
    tcase_add_checked_fixture(tests, drain_setup, drain_teardown);
    tcase_add_test(tests, what_is_not_stored_is_tried_again);
    tcase_add_test(tests, what_can_never_be_stored_becomes_a_dead_letter_with_its_reason);
    tcase_add_test(tests, what_fails_too_often_becomes_one_and_can_be_tried_again);
    tcase_add_test(tests, a_letter_does_not_undo_a_later_write);
    tcase_add_test(tests, a_letter_that_waits_again_is_what_is_read);
    tcase_add_test(tests, letters_are_dropped);
    tcase_add_test(tests, letters_that_come_back_at_once_are_tried_once);
    tcase_add_test(tests, a_flush_does_not_wait_forever);
    tcase_add_test(tests, a_flush_does_not_wait_for_others_to_come_with_a_write);
    tcase_add_test(tests, a_cache_that_is_closed_stores_what_waits);
    tcase_add_test(tests, what_a_closed_cache_could_not_store_is_stored_by_another);
    tcase_add_test(tests, who_closes_does_not_wait_for_more_than_it_can_hold);
    tcase_add_test(tests, one_instance_at_a_time_stores);
    tcase_add_test(tests, the_queue_is_seen_in_the_statistics);
    tcase_add_test(tests, a_store_that_outlives_the_lead_is_told_of);
    tcase_add_test(tests, what_has_no_store_waits_for_one);
    tcase_add_test(tests, a_store_that_is_given_later_has_the_writes_in_their_order);
    tcase_add_test(tests, an_instance_with_a_store_stores_for_one_without);
    tcase_add_test(tests, what_waits_is_stored_by_the_rule_of_then);
    tcase_add_test(tests,
                   what_waits_for_a_rule_that_is_aside_by_then_stays_and_passes_what_came_since);
    tcase_add_test(tests, what_is_written_through_is_not_overtaken_by_what_waits);
    tcase_add_test(tests, who_writes_through_stores_what_former_instances_left);
    tcase_add_test(tests, the_store_ends_with_what_the_tiers_have);
    return rig_run(suite);
}
