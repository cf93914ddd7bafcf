/* SPDX-License-Identifier: MIT
 * test_through.c - writes through and around: the store first, then the tiers; and what becomes of
 * the tiers where either fails. */
#include "base_rig.h"

#include "../../core/store.h"

static void setup(void) {
    base_open(2, true, PLN_WRITE_THROUGH);
}

static void setup_around(void) {
    base_open(2, true, PLN_WRITE_AROUND);
}

static void setup_alone(void) {
    base_open(1, false, PLN_WRITE_THROUGH);
}

static int set(struct pln_cache *cache, const char *key, const char *value) {
    return pln_set(cache, pln_key(key), pln_key(value), NULL);
}

static int delete (struct pln_cache *cache, const char *key) {
    return pln_delete(cache, pln_key(key));
}

/* ---- all goes well ---- */

START_TEST(the_store_has_it_first_then_all_tiers) {
    rig_set(A, "k:1", "one");
    ck_assert_str_eq(base_get("k:1"), "one");
    rig_expect(A, "k:1", "one", "l1");
    if (B != NULL) {
        rig_expect(B, "k:1", "one", "l2");
        rig_expect(B, "k:1", "one", "l1");
        rig_set(B, "k:1", "two");
        rig_expect(A, "k:1", "two", "l2");
    }
    ck_assert_int_eq(base.n_loads, 0);
    ck_assert_uint_eq(rig_stat(A, "stores"), 1);
    ck_assert_uint_eq(rig_stat(A, "store_batches"), 1);
    ck_assert_uint_eq(rig_stat(A, "store_failures"), 0);
    ck_assert_uint_eq(rig_stat(A, "through_conflicts"), 0);
}
END_TEST

START_TEST(one_after_the_other_is_no_conflict) {
    for (int i = 0; i < 50; i++) {
        rig_set(A, "k:1", i % 2 == 0 ? "even" : "odd");
        rig_expect(A, "k:1", i % 2 == 0 ? "even" : "odd", "l1");
    }
    ck_assert_uint_eq(rig_stat(A, "through_conflicts"), 0);
}
END_TEST

static bool was_called_before;

static void look_at_tiers(void) {
    rig_expect(A, "k:1", "old", "l1");
    rig_expect(B, "k:1", "old", "l1");
    was_called_before = true;
}

START_TEST(while_the_store_is_at_it_readers_have_the_old_value) {
    rig_set(A, "k:1", "old");
    rig_expect(B, "k:1", "old", "l2");
    base.before = look_at_tiers;
    was_called_before = false;
    rig_set(A, "k:1", "new");
    ck_assert(was_called_before);
    rig_expect(B, "k:1", "new", "l2");
}
END_TEST

START_TEST(around_the_key_goes_and_the_next_reader_loads) {
    base_put("k:1", "old");
    rig_expect(A, "k:1", "old", "loaded");
    rig_expect(B, "k:1", "old", "l2");
    rig_set(A, "k:1", "new");
    ck_assert_str_eq(base_get("k:1"), "new");
    rig_expect(B, "k:1", "new", "loaded");
    rig_expect(A, "k:1", "new", "l2");
}
END_TEST

START_TEST(a_delete_is_one_of_the_store_too) {
    rig_set(A, "k:1", "one");
    rig_expect(A, "k:1", base_get("k:1"), base_get("k:1") == NULL ? "negative" : "l1");
    ck_assert_int_eq(delete (A, "k:1"), PLN_OK);
    ck_assert_int_eq(base.last.op, PLN_STORE_DELETE);
    ck_assert_ptr_null(base_get("k:1"));
    rig_expect(A, "k:1", NULL, "negative");
}
END_TEST

START_TEST(many_deletes_are_one_call_for_each_rule) {
    struct pln_bytes keys[] = {pln_key("k:1"), pln_key("j:1"), pln_key("other"),
                               pln_key("k:2"), pln_key("k:1"), pln_key("j:2")};
    rig_set(A, "k:1", "one");
    rig_set(A, "j:2", "two");
    rig_set(A, "other", "three");
    base.n_calls = base.n_items = 0;
    ck_assert_int_eq(pln_delete_many(A, keys, 6), PLN_OK);
    ck_assert_int_eq(base.n_calls, 2);
    ck_assert_int_eq(base.n_items, 4);
    ck_assert_ptr_null(base_get("k:1"));
    ck_assert_ptr_null(base_get("j:2"));
    rig_expect(A, "k:1", NULL, "negative");
    rig_expect(A, "other", NULL, "negative");
    ck_assert_uint_eq(rig_stat(A, "deletes"), 6);
}
END_TEST

START_TEST(absence_is_stored_as_such) {
    struct pln_set_options absent = {.is_absent = true};
    rig_set(A, "k:1", "one");
    ck_assert_int_eq(pln_set(A, pln_key("k:1"), pln_key(""), &absent), PLN_OK);
    ck_assert(base.last.is_absent);
    ck_assert_ptr_null(base_get("k:1"));
    rig_expect(A, "k:1", NULL, "negative");
    ck_assert_int_eq(base.n_loads, 0);
}
END_TEST

static void short_ttl(struct pln_terms *terms) {
    terms->ttl_ms = 1;
    terms->negative_ms = 1;
}

static void sleep_a_little(void) {
    pln_ns until = pln_deadline(3);
    while (pln_clock_precise() < until) {
    }
}

static void short_l2_ttl(struct pln_terms *terms) {
    terms->l2_ttl_ms = 1;
}

static void short_by_chance(struct pln_terms *terms) {
    terms->ttl_ms = 20;
    terms->jitter = 0.9;
}

/* _i: by what it may be so short */
START_TEST(what_took_longer_to_store_than_it_lives_is_not_kept) {
    void (*const changes[])(struct pln_terms *) = {short_ttl, short_l2_ttl, short_by_chance};
    base_policy(A, PLN_WRITE_THROUGH, changes[_i]);
    rig_set(A, "k:1", "old");
    base.after = sleep_a_little;
    rig_set(A, "k:1", "new");
    base_policy(A, PLN_WRITE_THROUGH, NULL);
    rig_expect(A, "k:1", "new", "loaded");
}
END_TEST

static void without_l2(struct pln_terms *terms) {
    terms->use_l2 = false;
}

START_TEST(a_rule_without_l2_is_written_through_to_l1) {
    base_policy(A, PLN_WRITE_THROUGH, without_l2);
    rig_set(A, "k:1", "one");
    rig_expect(A, "k:1", "one", "l1");
    ck_assert_str_eq(base_get("k:1"), "one");
    ck_assert_int_eq(delete (A, "k:1"), PLN_OK);
    rig_expect(A, "k:1", NULL, "negative");
}
END_TEST

/* ---- what does not concern the store ---- */

START_TEST(what_only_ends_keys_in_the_cache_deletes_nothing) {
    struct pln_bytes tag = pln_key("tag");
    struct pln_set_options tagged = {.tags = &tag, .n_tags = 1};
    for (int i = 0; i < 6; i++) {
        ck_assert_int_eq(pln_set(A, pln_key("k:1"), pln_key("one"), &tagged), PLN_OK);
        rig_expect(B, "k:1", "one", "l2");
        base.n_calls = base.n_loads = 0;
        struct pln_bytes key = pln_key("k:1");
        int status = i == 0   ? pln_invalidate_tag(A, tag)
                     : i == 1 ? pln_invalidate_prefix(A, pln_key("k:"))
                     : i == 2 ? pln_clear(A)
                     : i == 3 ? pln_expire(A, key)
                     : i == 4 ? pln_cache_forget(A, key)
                              : pln_cache_forget_many(A, &key, 1);
        ck_assert_int_eq(status, PLN_OK);
        ck_assert_int_eq(base.n_calls, 0);
        ck_assert_str_eq(base_get("k:1"), "one");
        rig_expect(B, "k:1", "one", "loaded");
        rig_expect(A, "k:1", "one", "l2");
    }
}
END_TEST

START_TEST(an_event_deletes_nothing) {
    struct pln_ruleset *ruleset = pln_cache_policy(A);
    ruleset->events = calloc(1, sizeof *ruleset->events);
    ruleset->events[0] = (struct pln_event_rule){.name = strdup("changed"), .n_keys = 1};
    ruleset->events[0].keys = malloc(sizeof *ruleset->events[0].keys);
    ck_assert_int_eq(pln_template_new_free("k:{id}", ruleset->events[0].keys), PLN_OK);
    ruleset->n_events = 1;
    pln_ruleset_unref(ruleset);
    rig_set(A, "k:1", "one");
    base.n_calls = 0;
    struct pln_field field = {pln_key("id"), pln_key("1")};
    ck_assert_int_eq(pln_raise(A, pln_key("changed"), &field, 1), PLN_OK);
    ck_assert_int_eq(base.n_calls, 0);
    rig_expect(A, "k:1", "one", "loaded");
}
END_TEST

START_TEST(conditions_are_refused_before_anything_is_stored) {
    struct pln_set_options nx = {.flags = PLN_SET_NX}, xx = {.flags = PLN_SET_XX};
    int64_t sum;
    ck_assert_int_eq(pln_set(A, pln_key("k:1"), pln_key("v"), &nx), PLN_EINVAL);
    ck_assert_ptr_nonnull(strstr(pln_error_text(), "aside or behind"));
    ck_assert_int_eq(pln_set(A, pln_key("k:1"), pln_key("v"), &xx), PLN_EINVAL);
    ck_assert_int_eq(pln_swap(A, pln_key("k:1"), NULL, pln_key("v"), NULL, NULL), PLN_EINVAL);
    ck_assert_ptr_nonnull(strstr(pln_error_text(), "aside or behind"));
    struct pln_incr_options options = {.has_initial = true};
    ck_assert_int_eq(pln_incr(A, pln_key("k:1"), 1, &options, &sum), PLN_EINVAL);
    ck_assert_int_eq(pln_incr(A, pln_key("k:1"), 1, NULL, &sum), PLN_EINVAL); /* nor a miss */
    ck_assert_int_eq(base.n_calls, 0);
    ck_assert_int_eq(pln_set(A, pln_key("other"), pln_key("v"), &nx), PLN_OK);
}
END_TEST

/* ---- the store fails ---- */

/* _i: set or delete */
START_TEST(a_store_that_fails_leaves_all_as_it_was) {
    static const int statuses[] = {PLN_ESTORE, PLN_EINVAL};
    rig_set(A, "k:1", "old");
    if (B != NULL) {
        rig_expect(B, "k:1", "old", "l2");
    }
    for (size_t i = 0; i < PLN_ARRAY_LEN(statuses); i++) {
        base.status = statuses[i];
        ck_assert_int_eq(_i == 0 ? set(A, "k:1", "new") : delete (A, "k:1"), PLN_ESTORE);
        ck_assert_ptr_nonnull(strstr(pln_error_text(), "the base is out of order"));
        rig_expect(A, "k:1", "old", "l1");
        if (B != NULL) {
            rig_expect(B, "k:1", "old", "l1");
        }
    }
    ck_assert_uint_eq(rig_stat(A, "store_failures"), 2);
    ck_assert_uint_eq(rig_stat(A, "recovery_kept"), 0);
}
END_TEST

START_TEST(what_may_be_stored_goes_from_all_tiers) {
    rig_set(A, "k:1", "old");
    if (B != NULL) {
        base_expect(B, "k:1");
    }
    base_expect(A, "k:1");
    base.n_loads = 0;
    base.status = PLN_ETIMEOUT;
    base.is_late = true;
    ck_assert_int_eq(_i == 0 ? set(A, "k:1", "new") : delete (A, "k:1"), PLN_ETIMEOUT);
    ck_assert_ptr_nonnull(strstr(pln_error_text(), "the base is out of order"));
    base_expect(B != NULL ? B : A, "k:1");
    base_expect(A, "k:1");
    ck_assert_int_eq(base.n_loads, 1);
}
END_TEST

START_TEST(of_many_deletes_those_that_fail_stay) {
    struct pln_bytes keys[] = {pln_key("k:1"), pln_key("k:2")};
    rig_set(A, "k:1", "one");
    rig_set(A, "k:2", "two");
    base.fails = "k:1";
    ck_assert_int_eq(pln_delete_many(A, keys, 2), PLN_ESTORE);
    ck_assert_ptr_nonnull(strstr(pln_error_text(), "this row does not fit"));
    rig_expect(A, "k:1", "one", "l1");
    rig_expect(A, "k:2", NULL, "negative");
}
END_TEST

/* ---- Redis fails ---- */

static void cut(void) {
    pln_l2_mem_cut(A->l2, true);
}

static void await_done(void) {
    pln_l2_mem_cut(A->l2, false);
    pln_ns deadline = pln_deadline(10000);
    while (rig_stat(A, "recovery_waiting") > 0) {
        ck_assert_msg(pln_clock_precise() < deadline, "something waits on");
        pln_recovery_run(A->recovery);
    }
}

/* _i: set or delete */
START_TEST(what_redis_is_not_told_is_mended_when_it_is_back) {
    rig_set(A, "k:1", "old");
    rig_expect(B, "k:1", "old", "l2");
    for (int i = 0; i < 2; i++) {
        base.after = i == 0 ? cut : NULL;
        ck_assert_msg((_i == 0 ? set(A, "k:1", "new") : delete (A, "k:1")) == PLN_OK, "%s",
                      pln_error_text());
    }
    ck_assert_int_eq(rig.n_logs, 1); /* once */
    ck_assert_ptr_nonnull(strstr(rig.last_log, "could not be told"));
    ck_assert_uint_ge(rig_stat(A, "recovery_kept"), 1);
    base_expect(A, "k:1");
    rig_expect(B, "k:1", "old", "l1"); /* it hears of it when */
    await_done();
    base_expect(B, "k:1");
    base_expect(A, "k:1");
    rig_set(A, "k:1", "newer");
    rig_expect(B, "k:1", "newer", "l2");
}
END_TEST

static void write_on_b(void) {
    rig_set(B, "k:1", "lost");
    pln_l2_mem_cut(A->l2, true);
}

/* B's write began and ended while A's store was at it, and ended later than that in Redis: there it
 * looks newer than what A could not tell. */
START_TEST(a_mend_takes_what_looks_newer_and_is_not) {
    rig_set(A, "k:1", "old");
    base.before = write_on_b; /* its row is overwritten by A's */
    ck_assert_int_eq(set(A, "k:1", "last"), PLN_OK);
    atomic_fetch_add(&rig.now, 1000);
    rig_expect(B, "k:1", "lost", "l1");
    ck_assert_str_eq(base_get("k:1"), "last");
    await_done();
    base_expect(B, "k:1");
    base_expect(A, "k:1");
}
END_TEST

/* ---- loads at once ---- */

static void write_on_a(void) {
    rig_set(A, "k:1", "new");
}

/* _i: the loader is A's, or B's */
START_TEST(a_load_under_way_does_not_bring_the_old_value_back) {
    base_put("k:1", "old");
    base.after_read = write_on_a;
    struct pln_result result;
    ck_assert_int_eq(pln_get(rig.caches[_i], pln_key("k:1"), NULL, &result), PLN_OK);
    pln_release(rig.caches[_i], result.value);
    for (int i = 0; i < 2; i++) {
        base_expect(rig.caches[i] != NULL ? rig.caches[i] : A, "k:1");
    }
}
END_TEST

static void load_on_all(void) {
    for (int i = 0; i < 2 && rig.caches[i] != NULL; i++) {
        struct pln_result result;
        ck_assert_int_eq(pln_get(rig.caches[i], pln_key("k:1"), NULL, &result), PLN_OK);
        pln_release(rig.caches[i], result.value);
    }
}

/* _i: before the store has it, or after */
START_TEST(what_is_loaded_while_the_store_is_at_it_gives_way) {
    base_put("k:1", "old");
    *(_i == 0 ? &base.before : &base.after) = load_on_all;
    rig_set(A, "k:1", "new");
    base_expect(A, "k:1");
    base_expect(B != NULL ? B : A, "k:1");
}
END_TEST

/* With Redis or without. */
static void add_common(TCase *tests) {
    tcase_add_test(tests, the_store_has_it_first_then_all_tiers);
    tcase_add_test(tests, one_after_the_other_is_no_conflict);
    tcase_add_test(tests, a_delete_is_one_of_the_store_too);
    tcase_add_test(tests, conditions_are_refused_before_anything_is_stored);
    tcase_add_loop_test(tests, a_store_that_fails_leaves_all_as_it_was, 0, 2);
    tcase_add_loop_test(tests, what_may_be_stored_goes_from_all_tiers, 0, 2);
    tcase_add_loop_test(tests, what_is_loaded_while_the_store_is_at_it_gives_way, 0, 2);
}

int main(void) {
    Suite *suite = suite_create("through");
    TCase *through = tcase_create("through");
    tcase_add_checked_fixture(through, setup, base_close);
    add_common(through);
    tcase_add_test(through, while_the_store_is_at_it_readers_have_the_old_value);
    tcase_add_test(through, many_deletes_are_one_call_for_each_rule);
    tcase_add_test(through, absence_is_stored_as_such);
    tcase_add_loop_test(through, what_took_longer_to_store_than_it_lives_is_not_kept, 0, 3);
    tcase_add_test(through, a_rule_without_l2_is_written_through_to_l1);
    tcase_add_test(through, what_only_ends_keys_in_the_cache_deletes_nothing);
    tcase_add_test(through, an_event_deletes_nothing);
    tcase_add_test(through, of_many_deletes_those_that_fail_stay);
    tcase_add_loop_test(through, what_redis_is_not_told_is_mended_when_it_is_back, 0, 2);
    tcase_add_test(through, a_mend_takes_what_looks_newer_and_is_not);
    tcase_add_loop_test(through, a_load_under_way_does_not_bring_the_old_value_back, 0, 2);
    suite_add_tcase(suite, through);
    TCase *alone = tcase_create("without Redis");
    tcase_add_checked_fixture(alone, setup_alone, base_close);
    add_common(alone);
    tcase_add_loop_test(alone, a_load_under_way_does_not_bring_the_old_value_back, 0, 1);
    suite_add_tcase(suite, alone);
    TCase *around = tcase_create("around");
    tcase_add_checked_fixture(around, setup_around, base_close);
    tcase_add_test(around, around_the_key_goes_and_the_next_reader_loads);
    tcase_add_test(around, conditions_are_refused_before_anything_is_stored);
    tcase_add_loop_test(around, what_may_be_stored_goes_from_all_tiers, 0, 2);
    tcase_add_loop_test(around, a_load_under_way_does_not_bring_the_old_value_back, 0, 2);
    tcase_add_loop_test(around, what_is_loaded_while_the_store_is_at_it_gives_way, 0, 2);
    suite_add_tcase(suite, around);
    return rig_run(suite);
}
