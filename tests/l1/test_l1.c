/* SPDX-License-Identifier: MIT
 * test_l1.c - the contract of l1.h, one thread. */
#include "table.h"

#include <sys/resource.h>

static struct table table;
static char text[256], bytes[16];

static void setup(void) {
    table_open(&table, 1 << 20, PLN_L1_LRU);
}

static void teardown(void) {
    table_close(&table);
}

START_TEST(a_value_is_found_replaced_and_removed) {
    ck_assert_ptr_null(get_text(&table, 1, 0, text));
    ck_assert_int_eq(put_text(&table, 1, "one", 0), PLN_OK);
    ck_assert_str_eq(get_text(&table, 1, 0, text), "one");
    ck_assert_int_eq(put_text(&table, 1, "two", 0), PLN_OK);
    ck_assert_str_eq(get_text(&table, 1, 0, text), "two");
    ck_assert_int_eq(remove_key(&table, 1), PLN_OK);
    ck_assert_int_eq(remove_key(&table, 1), PLN_MISS);
    ck_assert_ptr_null(get_text(&table, 1, 0, text));
}
END_TEST

START_TEST(an_entry_ends_at_its_millisecond) {
    struct pln_hashed key = key_of(1, bytes);
    struct pln_l1_item item = item_of(pln_key("v"), 1000, 5000);
    struct pln_l1_hit hit;
    item.life.refresh = 3000;
    item.life.stale = 4000;
    ck_assert_int_eq(pln_l1_put(table.l1, &key, &item, 1000, NULL, NULL), PLN_OK);
    ck_assert_int_eq(pln_l1_get(table.l1, &key, 5999, 0, NULL, 0, &hit), PLN_OK);
    ck_assert_int_eq(hit.life.created, 1000);
    ck_assert_int_eq(hit.life.refresh, 3000);
    ck_assert_int_eq(hit.life.stale, 4000);
    ck_assert_int_eq(hit.life.end, 6000);
    ck_assert_int_eq(pln_l1_get(table.l1, &key, 6000, 0, NULL, 0, &hit), PLN_MISS);
}
END_TEST

START_TEST(lives_of_forty_days_and_of_ever_are_kept) {
    const pln_ms forty_days = (pln_ms) 40 * 86400 * 1000;
    struct pln_hashed key = key_of(1, bytes);
    struct pln_l1_item item = item_of(pln_key("v"), 0, forty_days);
    struct pln_l1_hit hit;
    ck_assert_int_eq(pln_l1_put(table.l1, &key, &item, 0, NULL, NULL), PLN_OK);
    ck_assert_int_eq(pln_l1_get(table.l1, &key, forty_days - 1, 0, NULL, 0, &hit), PLN_OK);
    ck_assert_int_eq(pln_l1_get(table.l1, &key, forty_days, 0, NULL, 0, &hit), PLN_MISS);
    item = item_of(pln_key("v"), 0, PLN_FOREVER);
    ck_assert_int_eq(pln_l1_put(table.l1, &key, &item, 0, NULL, NULL), PLN_OK);
    ck_assert_int_eq(pln_l1_get(table.l1, &key, forty_days * 1000, 0, NULL, 0, &hit), PLN_OK);
    ck_assert_int_eq(hit.life.end, PLN_FOREVER);
}
END_TEST

START_TEST(a_lost_link_leaves_the_last_generation_doubtful_and_then_ends_it) {
    struct pln_hashed key = key_of(1, bytes);
    struct pln_l1_hit hit;
    pln_l1_set_generation(table.l1, 2);
    put_text(&table, 1, "v", 0);
    pln_l1_set_generation(table.l1, 3);
    ck_assert_int_eq(pln_l1_get(table.l1, &key, 0, 0, NULL, 0, &hit), PLN_OK);
    ck_assert_uint_eq(hit.generation, 2);
    put_text(&table, 2, "of the gap", 0);
    pln_l1_set_generation(table.l1, 4);
    ck_assert_ptr_null(get_text(&table, 1, 0, text));
    ck_assert_ptr_null(get_text(&table, 2, 0, text));
    pln_l1_set_generation(table.l1, 3);
    ck_assert_str_eq(get_text(&table, 2, 0, text), "of the gap");
    pln_l1_set_generation(table.l1, 5);
    ck_assert_ptr_null(get_text(&table, 1, 0, text));
}
END_TEST

START_TEST(a_mark_over_the_stamp_ends_an_entry) {
    static const uint16_t marks[] = {1, 3};
    struct pln_hashed key = key_of(1, bytes);
    struct pln_l1_item item = item_of(pln_key("v"), 0, PLN_FOREVER);
    item.marks = marks;
    item.n_marks = 2;
    item.mark_stamp = 10;
    ck_assert_int_eq(pln_l1_put(table.l1, &key, &item, 0, NULL, NULL), PLN_OK);
    atomic_store(&table.marks[3], 10);
    atomic_store(&table.marks[2], 99);
    ck_assert_str_eq(get_text(&table, 1, 0, text), "v");
    atomic_store(&table.marks[3], 11);
    ck_assert_ptr_null(get_text(&table, 1, 0, text));
}
END_TEST

static bool no_at(const void *arg) {
    int *calls = *(int *const *) arg;
    return ++calls[0] != calls[1];
}

START_TEST(a_check_that_fails_withdraws_the_new_value_and_leaves_the_old) {
    struct pln_hashed key = key_of(1, bytes);
    struct pln_l1_item item = item_of(pln_key("new"), 0, PLN_FOREVER);
    put_text(&table, 1, "old", 0);
    for (int no = 1; no <= 2; no++) {
        int calls[] = {0, no};
        int *arg = calls;
        ck_assert_int_eq(pln_l1_put(table.l1, &key, &item, 0, no_at, &arg), PLN_NOT_STORED);
        ck_assert_int_eq(calls[0], no);
        ck_assert_str_eq(get_text(&table, 1, 0, text), "old");
    }
    int calls[] = {0, 3};
    int *arg = calls;
    ck_assert_int_eq(pln_l1_put(table.l1, &key, &item, 0, no_at, &arg), PLN_OK);
    ck_assert_str_eq(get_text(&table, 1, 0, text), "new");
}
END_TEST

START_TEST(a_refresh_is_claimed_once_until_it_is_opened_again) {
    struct pln_hashed key = key_of(1, bytes);
    struct pln_l1_item item = item_of(pln_key("v"), 0, PLN_FOREVER);
    ck_assert(!pln_l1_claim_refresh(table.l1, &key));
    item.life.refresh = item.life.stale = 5; /* a window, so that there is room for one later */
    pln_l1_put(table.l1, &key, &item, 0, NULL, NULL);
    ck_assert(pln_l1_claim_refresh(table.l1, &key));
    ck_assert(!pln_l1_claim_refresh(table.l1, &key));
    ck_assert_str_eq(get_text(&table, 1, 0, text), "v");
    ck_assert_int_eq(pln_l1_retime(table.l1, &key, 0, 10, 20, 30), PLN_OK);
    ck_assert(pln_l1_claim_refresh(table.l1, &key));
    pln_l1_unclaim_refresh(table.l1, &key);
    ck_assert(pln_l1_claim_refresh(table.l1, &key));
    ck_assert_str_eq(get_text(&table, 1, 29, text), "v");
    ck_assert_ptr_null(get_text(&table, 1, 30, text));
    ck_assert_int_eq(remove_key(&table, 1), PLN_OK); /* a claimed one too */
}
END_TEST

/* As an expiry leaves it that came in the middle of a prolongation. */
START_TEST(what_is_stale_is_due_for_refresh_whatever_its_other_points_say) {
    struct pln_hashed key = key_of(1, bytes);
    struct pln_l1_item item = item_of(pln_key("v"), 0, 50);
    struct pln_l1_hit hit;
    item.life.refresh = 5;
    pln_l1_put(table.l1, &key, &item, 0, NULL, NULL);
    ck_assert_int_eq(pln_l1_retime(table.l1, &key, 10, 80, 10, 90), PLN_OK);
    ck_assert_int_eq(pln_l1_get(table.l1, &key, 10, 0, NULL, 0, &hit), PLN_OK);
    ck_assert_int_eq(hit.life.stale, 10);
    ck_assert_int_eq(hit.life.refresh, 10);
    ck_assert_int_eq(hit.life.end, 90);
}
END_TEST

START_TEST(when_an_entry_was_made_stays_put_however_often_its_end_moves) {
    const pln_ms made = 1000003, ttl = 1800000, month = 30LL * 86400000;
    struct pln_hashed key = key_of(1, bytes);
    struct pln_l1_item item = item_of(pln_key("v"), made, ttl);
    struct pln_l1_hit hit;
    item.life.refresh = made + ttl / 10; /* a window, so that there is room for one later */
    pln_l1_put(table.l1, &key, &item, made, NULL, NULL);
    for (pln_ms now = made; now < made + month; now += ttl / 9) {
        pln_l1_retime(table.l1, &key, now, now + ttl / 10, now + ttl, now + ttl);
        ck_assert_int_eq(pln_l1_get(table.l1, &key, now, 0, NULL, 0, &hit), PLN_OK);
        ck_assert_int_eq(hit.life.stale, now + ttl);
        ck_assert_int_ge(hit.life.created, made);
        ck_assert_int_le(hit.life.created - made, (now + ttl - made) / 65000);
        ck_assert_int_le(pln_l1_earliest(&hit), made);
    }
    pln_l1_expire(table.l1, &key, made); /* before what `created` was rounded to */
    ck_assert_int_eq(pln_l1_get(table.l1, &key, made, 0, NULL, 0, &hit), PLN_OK);
    ck_assert_int_le(hit.life.created, hit.life.stale);
    ck_assert_int_le(pln_l1_earliest(&hit), made);
    pln_l1_retime(table.l1, &key, made, PLN_FOREVER, PLN_FOREVER, PLN_FOREVER);
    ck_assert_int_eq(pln_l1_get(table.l1, &key, made, 0, NULL, 0, &hit), PLN_OK);
    ck_assert_int_le(pln_l1_earliest(&hit), made);
}
END_TEST

START_TEST(a_borrowed_value_outlives_its_removal_and_is_counted_until_it_is_back) {
    struct pln_hashed key = key_of(1, bytes);
    struct pln_l1_hit hit;
    struct pln_value *value;
    struct pln_l1_usage usage;
    put_text(&table, 1, "lent", 0);
    ck_assert_int_eq(pln_l1_borrow(table.l1, &key, 0, 0, &hit, &value), PLN_OK);
    remove_key(&table, 1);
    for (int i = 0; i < 8; i++) {
        pln_l1_sweep(table.l1, 0, 1);
    }
    ck_assert_mem_eq(pln_value_data(value), "lent", 4);
    pln_l1_usage(table.l1, &usage);
    ck_assert_uint_gt(usage.waiting_bytes, 0);
    ck_assert_uint_eq(usage.entries, 0);
    pln_l1_release(table.l1, value);
    pln_l1_usage(table.l1, &usage);
    ck_assert_uint_eq(usage.waiting_bytes, 0);
}
END_TEST

START_TEST(a_sweep_gives_back_what_has_ended) {
    struct pln_l1_usage usage;
    for (unsigned i = 0; i < 100; i++) {
        struct pln_hashed key = key_of(i, bytes);
        struct pln_l1_item item = item_of(pln_key("v"), 0, i < 60 ? 10 : PLN_FOREVER);
        pln_l1_put(table.l1, &key, &item, 0, NULL, NULL);
    }
    ck_assert_uint_eq(pln_l1_sweep(table.l1, 9, SIZE_MAX), 0);
    ck_assert_uint_eq(pln_l1_sweep(table.l1, 10, SIZE_MAX), 60);
    pln_l1_usage(table.l1, &usage);
    ck_assert_uint_eq(usage.entries, 40);
}
END_TEST

static bool count_one(void *arg, struct pln_bytes key, const struct pln_l1_hit *hit) {
    int *n = arg;
    ck_assert_uint_ge(key.len, 5);
    ck_assert_uint_eq(hit->len, 1);
    return ++*n < 150;
}

START_TEST(iteration_visits_every_live_entry_and_may_be_stopped) {
    int n = 0;
    for (unsigned i = 0; i < 100; i++) {
        put_text(&table, i, "v", 0);
    }
    pln_l1_each(table.l1, 0, pln_key(""), count_one, &n);
    ck_assert_int_eq(n, 100);
    pln_l1_each(table.l1, 0, pln_key(""), count_one, &n);
    ck_assert_int_eq(n, 150);
}
END_TEST

START_TEST(a_value_over_the_limit_is_refused_and_disturbs_nothing) {
    static char big[(1 << 18) + 1];
    struct pln_hashed key = key_of(1, bytes);
    struct pln_l1_item item = item_of(pln_bytes_of(big, sizeof big), 0, PLN_FOREVER);
    put_text(&table, 1, "small", 0);
    ck_assert_int_eq(pln_l1_put(table.l1, &key, &item, 0, NULL, NULL), PLN_ETOOBIG);
    ck_assert_str_eq(get_text(&table, 1, 0, text), "small");
}
END_TEST

START_TEST(many_keys_are_borrowed_in_one_call) {
    char names[70][16];
    struct pln_hashed keys[70];
    struct pln_l1_hit hits[70];
    struct pln_value *values[70];
    int statuses[70];
    for (unsigned i = 0; i < 70; i++) {
        keys[i] = key_of(i, names[i]);
        if (i % 2 == 0) {
            put_text(&table, i, "even", 0);
        }
    }
    pln_l1_borrow_many(table.l1, keys, 70, 0, hits, values, statuses);
    for (unsigned i = 0; i < 70; i++) {
        ck_assert_int_eq(statuses[i], i % 2 == 0 ? PLN_OK : PLN_MISS);
        if (statuses[i] == PLN_OK) {
            ck_assert_mem_eq(pln_value_data(values[i]), "even", 4);
            pln_l1_release(table.l1, values[i]);
        }
    }
}
END_TEST

/* ---- the budget ---- */

static uint64_t chance(uint64_t *state) {
    *state ^= *state << 13;
    *state ^= *state >> 7;
    *state ^= *state << 17;
    return *state;
}

START_TEST(the_budget_holds_under_mixed_sizes) {
    static char value[2000];
    uint64_t state = 88172645463325252;
    struct pln_l1_usage usage;
    for (unsigned i = 0; i < 60000; i++) {
        struct pln_hashed key = key_of((unsigned) (chance(&state) % 20000), bytes);
        struct pln_l1_item item = item_of(pln_bytes_of(value, 16 + chance(&state) % 1984), i,
                                          PLN_FOREVER);
        int status = pln_l1_put(table.l1, &key, &item, i, NULL, NULL);
        ck_assert_msg(status == PLN_OK, "%s", pln_error_text());
        pln_l1_usage(table.l1, &usage);
        /* what one store evicted waits until the next one counts it */
        ck_assert_uint_le(usage.bytes, usage.max_bytes + usage.max_bytes / 100);
    }
    ck_assert_uint_gt(usage.bytes, usage.max_bytes / 10 * 8); /* and it is used */
}
END_TEST

START_TEST(without_eviction_a_full_table_refuses_and_keeps_what_it_has) {
    struct table full;
    static char value[1000];
    unsigned n = 0;
    table_open(&full, 1 << 18, PLN_L1_NONE);
    for (;; n++) {
        struct pln_hashed key = key_of(n, bytes);
        struct pln_l1_item item = item_of(pln_bytes_of(value, sizeof value), 0, PLN_FOREVER);
        int status = pln_l1_put(full.l1, &key, &item, 0, NULL, NULL);
        if (status != PLN_OK) {
            ck_assert_int_eq(status, PLN_EBUSY);
            break;
        }
    }
    ck_assert_uint_gt(n, 50);
    for (unsigned i = 0; i < n; i++) {
        ck_assert_ptr_nonnull(get_text(&full, i, 0, text));
    }
    table_close(&full);
}
END_TEST

START_TEST(what_was_used_lately_stays) {
    static char value[200];
    for (unsigned i = 0; i < 30000; i++) {
        struct pln_hashed key = key_of(i, bytes);
        struct pln_l1_item item = item_of(pln_bytes_of(value, sizeof value), i, PLN_FOREVER);
        ck_assert_int_eq(pln_l1_put(table.l1, &key, &item, i, NULL, NULL), PLN_OK);
        if (i > 100) {
            get_text(&table, 100, i, text); /* asked for all the time */
        }
    }
    ck_assert_ptr_nonnull(get_text(&table, 100, 30000, text));
    ck_assert_ptr_nonnull(get_text(&table, 29999, 30000, text));
    ck_assert_ptr_null(get_text(&table, 99, 30000, text));
}
END_TEST

#ifndef __SANITIZE_ADDRESS__ /* which takes address space of its own */
#ifndef __SANITIZE_THREAD__
START_TEST(two_fit_into_a_small_address_space) {
    struct table tables[2];
    struct rlimit before, limit = {(rlim_t) 256 << 20, RLIM_INFINITY};
    ck_assert_int_eq(getrlimit(RLIMIT_AS, &before), 0);
    limit.rlim_max = before.rlim_max;
    ck_assert_int_eq(setrlimit(RLIMIT_AS, &limit), 0);
    for (int i = 0; i < 2; i++) {
        table_open(&tables[i], 64 << 20, PLN_L1_LRU);
        ck_assert_int_eq(put_text(&tables[i], 1, "one", 0), PLN_OK);
    }
    ck_assert_int_eq(pln_l1_resize(tables[0].l1, 32 << 20), PLN_OK);
    ck_assert_int_eq(pln_l1_resize(tables[0].l1, 128 << 20), PLN_EINVAL);
    for (int i = 0; i < 2; i++) {
        table_close(&tables[i]);
    }
    ck_assert_int_eq(setrlimit(RLIMIT_AS, &before), 0);
}
END_TEST
#define HAS_SMALL_SPACE
#endif
#endif

int main(void) {
    Suite *suite = suite_create("l1");
    TCase *tests = tcase_create("l1");
    suite_add_tcase(suite, tests);
    tcase_set_timeout(tests, 60);
    tcase_add_checked_fixture(tests, setup, teardown);
    tcase_add_test(tests, a_value_is_found_replaced_and_removed);
    tcase_add_test(tests, an_entry_ends_at_its_millisecond);
    tcase_add_test(tests, lives_of_forty_days_and_of_ever_are_kept);
    tcase_add_test(tests, a_lost_link_leaves_the_last_generation_doubtful_and_then_ends_it);
    tcase_add_test(tests, a_mark_over_the_stamp_ends_an_entry);
    tcase_add_test(tests, a_check_that_fails_withdraws_the_new_value_and_leaves_the_old);
    tcase_add_test(tests, a_refresh_is_claimed_once_until_it_is_opened_again);
    tcase_add_test(tests, what_is_stale_is_due_for_refresh_whatever_its_other_points_say);
    tcase_add_test(tests, when_an_entry_was_made_stays_put_however_often_its_end_moves);
    tcase_add_test(tests, a_borrowed_value_outlives_its_removal_and_is_counted_until_it_is_back);
    tcase_add_test(tests, a_sweep_gives_back_what_has_ended);
    tcase_add_test(tests, iteration_visits_every_live_entry_and_may_be_stopped);
    tcase_add_test(tests, a_value_over_the_limit_is_refused_and_disturbs_nothing);
    tcase_add_test(tests, many_keys_are_borrowed_in_one_call);
    tcase_add_test(tests, the_budget_holds_under_mixed_sizes);
    tcase_add_test(tests, without_eviction_a_full_table_refuses_and_keeps_what_it_has);
    tcase_add_test(tests, what_was_used_lately_stays);
#ifdef HAS_SMALL_SPACE
    tcase_add_test(tests, two_fit_into_a_small_address_space);
#endif
    return run_suite(suite);
}
