/* SPDX-License-Identifier: MIT
 * test_evict.c - who goes when it is full: the policies, weights, priorities, sizes, bounds. */
#include "table.h"

enum { N_HELD = 1000 };

static struct table table;
static char bytes[16];

static void open_with(struct pln_l1_options options) {
    memset(&table, 0, sizeof table);
    ck_assert_int_eq(pln_counts_new(&table.counts), PLN_OK);
    options.max_bytes = options.max_bytes > 0 ? options.max_bytes : 4 << 20;
    options.max_item_bytes = 1 << 20;
    options.counts = table.counts;
    options.marks = table.marks;
    options.hash = table_hash;
    ck_assert_msg(pln_l1_new(&options, &table.l1) == PLN_OK, "%s", pln_error_text());
}

static void teardown(void) {
    table_close(&table);
}

static void put_item(unsigned number, struct pln_l1_item item, pln_ms now) {
    struct pln_hashed key = key_of(number, bytes);
    item.life = (struct pln_l1_life){now, PLN_FOREVER, PLN_FOREVER, PLN_FOREVER};
    ck_assert_msg(pln_l1_put(table.l1, &key, &item, now, NULL, NULL) == PLN_OK, "%s",
                  pln_error_text());
}

static void put(unsigned number, pln_ms now) {
    put_item(number, (struct pln_l1_item){.value = pln_key("value")}, now);
}

static bool get(unsigned number, pln_ms now) {
    struct pln_l1_hit hit;
    struct pln_hashed key = key_of(number, bytes);
    return pln_l1_get(table.l1, &key, now, 0, NULL, 0, &hit) == PLN_OK;
}

/* How many of a range of keys are held; looks without a trace. */
static unsigned held(unsigned first, unsigned n) {
    unsigned found = 0;
    struct pln_l1_hit hit;
    for (unsigned i = first; i < first + n; i++) {
        struct pln_hashed key = key_of(i, bytes);
        found += pln_l1_get(table.l1, &key, 0, PLN_L1_QUIET, NULL, 0, &hit) == PLN_OK;
    }
    return found;
}

static size_t entries(void) {
    struct pln_l1_usage usage;
    pln_l1_usage(table.l1, &usage);
    return usage.entries;
}

START_TEST(a_bound_of_entries_is_kept) {
    static const enum pln_l1_eviction policies[] = {PLN_L1_LRU, PLN_L1_ADAPTIVE, PLN_L1_FIFO,
                                                    PLN_L1_RANDOM};
    open_with((struct pln_l1_options){.eviction = policies[_i], .max_entries = N_HELD});
    for (unsigned i = 0; i < 5 * N_HELD; i++) {
        put(i, i);
        ck_assert_uint_le(entries(), i < N_HELD ? i + 1 : N_HELD);
    }
    ck_assert_uint_ge(entries(), N_HELD * 99 / 100); /* a bucket may have been full */
}
END_TEST

static size_t absent_bytes(void) {
    struct pln_l1_usage usage;
    pln_l1_usage(table.l1, &usage);
    return usage.absent_bytes;
}

START_TEST(what_does_not_exist_keeps_to_its_share_and_pushes_out_no_value) {
    static const enum pln_l1_eviction policies[] = {PLN_L1_LRU, PLN_L1_ADAPTIVE, PLN_L1_FIFO,
                                                    PLN_L1_RANDOM};
    const size_t share = (4 << 20) / 10;
    open_with((struct pln_l1_options){.eviction = policies[_i], .absent_share = 0.1});
    for (unsigned i = 0; i < N_HELD; i++) {
        put(i, i);
    }
    for (unsigned i = N_HELD; i < 60 * N_HELD; i++) {
        put_item(i, (struct pln_l1_item){.is_absent = true}, i);
        ck_assert_uint_le(absent_bytes(), share);
        if (_i < 2 && i % 20 == 0 && i >= 2 * N_HELD) {
            ck_assert(get(2 * N_HELD, i)); /* one that is asked for stays, where use counts */
        }
    }
    ck_assert_uint_ge(absent_bytes(), share * 9 / 10);
    ck_assert_uint_eq(held(0, N_HELD), N_HELD);
    for (unsigned i = 0; i < 60 * N_HELD; i++) {
        struct pln_hashed key = key_of(i, bytes);
        pln_l1_remove(table.l1, &key);
    }
    ck_assert_uint_eq(absent_bytes(), 0);
}
END_TEST

START_TEST(where_nobody_is_evicted_more_that_does_not_exist_is_refused) {
    struct pln_l1_item absent = {.is_absent = true, .life = {0, 10, 10, 10}};
    unsigned n = 0;
    open_with((struct pln_l1_options){.eviction = PLN_L1_NONE, .absent_share = 0.1});
    struct pln_hashed key = key_of(0, bytes);
    while (pln_l1_put(table.l1, &key, &absent, 1, NULL, NULL) == PLN_OK) {
        key = key_of(++n, bytes);
        ck_assert_uint_lt(n, 60 * N_HELD);
    }
    ck_assert_uint_le(absent_bytes(), (4 << 20) / 10);
    ck_assert_uint_eq(held(0, n), n);
    put(n, 1); /* a value has room */
    absent.life = (struct pln_l1_life){10, 20, 20, 20};
    key = key_of(n + 1, bytes); /* those whose time has come give theirs */
    ck_assert_int_eq(pln_l1_put(table.l1, &key, &absent, 10, NULL, NULL), PLN_OK);
}
END_TEST

START_TEST(lru_keeps_what_was_used_last) {
    open_with((struct pln_l1_options){.eviction = PLN_L1_LRU, .max_entries = N_HELD});
    for (unsigned i = 0; i < N_HELD; i++) {
        put(i, i);
    }
    for (unsigned i = 0; i < N_HELD / 2; i++) {
        ck_assert(get(i, 2 * N_HELD + i)); /* the older half is the one that is used */
    }
    for (unsigned i = 0; i < N_HELD / 4; i++) {
        put(N_HELD + i, 4 * N_HELD + i);
    }
    ck_assert_uint_eq(held(0, N_HELD / 2), N_HELD / 2);
    ck_assert_uint_eq(held(N_HELD / 2, N_HELD / 2), N_HELD / 4);
}
END_TEST

START_TEST(fifo_keeps_what_came_last) {
    open_with((struct pln_l1_options){.eviction = PLN_L1_FIFO, .max_entries = N_HELD});
    for (unsigned i = 0; i < N_HELD; i++) {
        put(i, i);
    }
    for (unsigned i = 0; i < N_HELD / 2; i++) {
        ck_assert(get(i, 2 * N_HELD + i)); /* which does not count */
    }
    for (unsigned i = 0; i < N_HELD / 4; i++) {
        put(N_HELD + i, 4 * N_HELD + i);
    }
    ck_assert_uint_eq(held(N_HELD / 2, N_HELD / 2), N_HELD / 2);
    ck_assert_uint_eq(held(0, N_HELD / 2), N_HELD / 4);
}
END_TEST

START_TEST(random_takes_from_everywhere) {
    open_with((struct pln_l1_options){.eviction = PLN_L1_RANDOM, .max_entries = N_HELD});
    for (unsigned i = 0; i < 2 * N_HELD; i++) {
        put(i, i);
    }
    ck_assert_uint_ge(held(0, N_HELD), N_HELD / 4);
    ck_assert_uint_ge(held(N_HELD, N_HELD), N_HELD / 4);
}
END_TEST

START_TEST(adaptive_keeps_what_is_asked_for_again_through_a_scan) {
    pln_ms now = 0;
    open_with((struct pln_l1_options){.eviction = PLN_L1_ADAPTIVE, .max_entries = N_HELD});
    for (unsigned round = 0; round < 20; round++) {
        for (unsigned i = 0; i < N_HELD / 2; i++, now++) {
            if (!get(i, now)) {
                put(i, now);
            }
        }
        for (unsigned i = 0; round > 4 && i < 2 * N_HELD; i++, now++) {
            put(100000 + round * 2 * N_HELD + i, now); /* keys that never come back */
        }
    }
    ck_assert_uint_ge(held(0, N_HELD / 2), N_HELD / 2 * 9 / 10); /* lru would keep none */
}
END_TEST

START_TEST(what_has_a_lower_priority_goes_first) {
    open_with((struct pln_l1_options){.eviction = PLN_L1_LRU, .max_entries = N_HELD});
    for (unsigned i = 0; i < N_HELD; i++) { /* the older half has the higher priority */
        int8_t priority = i < N_HELD / 2 ? 1 : i < N_HELD / 4 * 3 ? 0 : -1;
        put_item(i, (struct pln_l1_item){.value = pln_key("value"), .priority = priority}, i);
    }
    for (unsigned i = 0; i < N_HELD / 8; i++) {
        put_item(N_HELD + i, (struct pln_l1_item){.value = pln_key("value"), .priority = 1},
                 2 * N_HELD + i);
    }
    ck_assert_uint_eq(held(0, N_HELD / 2), N_HELD / 2);
    ck_assert_uint_le(held(N_HELD / 4 * 3, N_HELD / 4), N_HELD / 8 + N_HELD / 50);
    ck_assert_uint_ge(held(N_HELD / 2, N_HELD / 4), N_HELD / 4 - N_HELD / 50);
}
END_TEST

START_TEST(a_weight_makes_an_entry_younger) {
    open_with((struct pln_l1_options){.eviction = PLN_L1_LRU, .max_entries = N_HELD});
    for (unsigned i = 0; i < N_HELD; i++) {
        put_item(i, (struct pln_l1_item){.value = pln_key("value"), .weight = i % 2 == 0 ? 9 : 0},
                 0);
    }
    for (unsigned i = 0; i < N_HELD / 2; i++) {
        put(N_HELD + i, 1000 + i);
    }
    for (unsigned i = 0, heavy = 0; i < N_HELD; i++) {
        heavy += i % 2 == 0 && held(i, 1) == 1;
        ck_assert(i < N_HELD - 1 || heavy >= N_HELD / 2 * 9 / 10);
    }
}
END_TEST

START_TEST(weighed_by_bytes_the_larger_goes_first) {
    static char large[2000];
    open_with((struct pln_l1_options){.eviction = PLN_L1_LRU, .weighs_bytes = true});
    for (unsigned i = 0; i < 10000; i++) {
        struct pln_bytes value = i % 10 == 0 ? pln_bytes_of(large, sizeof large) : pln_key("small");
        put_item(i, (struct pln_l1_item){.value = value}, 100 + i / 1000);
    }
    unsigned n_small = 0, n_large = 0;
    for (unsigned i = 0; i < 10000; i++) {
        n_small += i % 10 != 0 && held(i, 1) == 1;
        n_large += i % 10 == 0 && held(i, 1) == 1;
    }
    for (unsigned i = 0; i < 2000; i++) { /* more than fits: 4 MB of large ones */
        put_item(20000 + i, (struct pln_l1_item){.value = pln_bytes_of(large, sizeof large)}, 110);
    }
    unsigned n_small_left = 0;
    for (unsigned i = 0; i < 10000; i++) {
        n_small_left += i % 10 != 0 && held(i, 1) == 1;
    }
    ck_assert_uint_gt(n_large, 0);
    ck_assert_uint_ge(n_small_left, n_small * 9 / 10);
}
END_TEST

START_TEST(a_value_over_the_limit_disturbs_nothing) {
    static char value[(1 << 20) + 1];
    struct pln_hashed key = key_of(1, bytes);
    struct pln_l1_item item = item_of(pln_bytes_of(value, sizeof value), 0, PLN_FOREVER);
    open_with((struct pln_l1_options){.eviction = PLN_L1_LRU});
    for (unsigned i = 0; i < 100; i++) {
        put(i, 0);
    }
    ck_assert_int_eq(pln_l1_put(table.l1, &key, &item, 0, NULL, NULL), PLN_ETOOBIG);
    ck_assert_str_eq(pln_error_text(), "l1: a value of 1048577 bytes, at most 1048576");
    ck_assert_uint_eq(held(0, 100), 100);
}
END_TEST

START_TEST(entries_smaller_than_was_thought_get_a_larger_table) {
    struct pln_l1_usage usage;
    open_with((struct pln_l1_options){.eviction = PLN_L1_LRU, .max_bytes = 1 << 20});
    pln_l1_usage(table.l1, &usage);
    size_t first = usage.table_bytes, n_slots = (1 << 20) / 118;
    for (unsigned i = 0; i < 100000; i++) {
        put_item(i, (struct pln_l1_item){.value = pln_key("")}, i);
        ck_assert(get(i, i));
    }
    for (unsigned i = 0; i < 2000; i++) {
        pln_l1_sweep(table.l1, 100000, 16);
    }
    pln_l1_usage(table.l1, &usage);
    ck_assert_uint_gt(usage.table_bytes, first);
    ck_assert_uint_gt(usage.entries, n_slots * 3 / 2); /* more than the first table had slots for */
    ck_assert_uint_le(usage.bytes, usage.max_bytes);
}
END_TEST

START_TEST(while_there_is_room_hardly_anything_goes_for_want_of_a_slot) {
    open_with((struct pln_l1_options){.eviction = PLN_L1_LRU});
    for (unsigned i = 0; i < 40000; i++) { /* half of the budget */
        put_item(i, (struct pln_l1_item){.value = pln_key("")}, i);
    }
    ck_assert_uint_ge(held(0, 40000), 40000 - 40000 / 100);
}
END_TEST

START_TEST(without_eviction_nothing_stored_goes_and_the_budget_is_used) {
    static const unsigned lens[] = {0, 100, 1000};
    static char value[1000];
    struct pln_l1_usage usage;
    unsigned n = 0;
    int status;
    open_with((struct pln_l1_options){.eviction = PLN_L1_NONE});
    do {
        struct pln_hashed key = key_of(n++, bytes);
        struct pln_l1_item item = item_of(pln_bytes_of(value, lens[_i]), 0, PLN_FOREVER);
        status = pln_l1_put(table.l1, &key, &item, 0, NULL, NULL);
    } while (status == PLN_OK);
    ck_assert_int_eq(status, PLN_EBUSY);
    pln_l1_usage(table.l1, &usage);
    ck_assert_uint_gt(usage.bytes, usage.max_bytes / 10 * 7);
    ck_assert_uint_eq(held(0, n), n - 1);
}
END_TEST

START_TEST(a_budget_goes_up_and_down_while_it_is_used) {
    static const size_t budgets[] = {16 << 20, 2 << 20, 8 << 20, 1 << 20};
    struct pln_l1_usage usage;
    char text[256], value[400];
    unsigned number = 0;
    memset(value, 'v', sizeof value - 1);
    value[sizeof value - 1] = 0;
    open_with((struct pln_l1_options){.eviction = PLN_L1_LRU, .max_bytes = 4 << 20});
    for (size_t at = 0; at < PLN_ARRAY_LEN(budgets); at++) {
        ck_assert_int_eq(pln_l1_resize(table.l1, budgets[at]), PLN_OK);
        for (unsigned i = 0; i < 50000; i++, number++) {
            int status = put_text(&table, number, value, number);
            ck_assert_msg(status == PLN_OK, "%u %zu: %s", i, at, pln_error_text());
            ck_assert_ptr_nonnull(get_text(&table, number, number, text));
            if (i % 100 == 0) {
                pln_l1_sweep(table.l1, number, 64);
            }
        }
        pln_l1_usage(table.l1, &usage);
        ck_assert_uint_eq(usage.max_bytes, budgets[at]);
        ck_assert_uint_le(usage.bytes, budgets[at]);
        ck_assert_uint_gt(usage.bytes, budgets[at] / 10 * 8);
        ck_assert_uint_le(usage.held_bytes, budgets[at] + budgets[at] / 8 + (64 << 10));
    }
    ck_assert_int_eq(pln_l1_resize(table.l1, 100), PLN_EINVAL);
    ck_assert_int_eq(pln_l1_resize(table.l1, (size_t) 1 << 40), PLN_EINVAL);
}
END_TEST

static bool count_seen(void *arg, struct pln_bytes key, const struct pln_l1_hit *hit) {
    unsigned *seen = arg;
    char text[16] = {0};
    memcpy(text, key.data, key.len);
    seen[atoi(text + strlen("key "))]++;
    return hit->len > 0;
}

START_TEST(iteration_by_prefix_sees_each_key_once_also_in_two_tables) {
    static unsigned seen[5000];
    memset(seen, 0, sizeof seen);
    open_with((struct pln_l1_options){.eviction = PLN_L1_LRU, .max_bytes = 4 << 20});
    for (unsigned i = 0; i < 5000; i++) {
        put(i, 0);
    }
    if (_i == 1) {
        ck_assert_int_eq(pln_l1_resize(table.l1, 16 << 20), PLN_OK); /* some moved, some not */
        pln_l1_sweep(table.l1, 0, 1);
        ck_assert_uint_ne(pln_l1_view(table.l1)->old.n_buckets, 0);
    }
    pln_l1_each(table.l1, 0, pln_key("key 12"), count_seen, seen);
    for (unsigned i = 0; i < 5000; i++) {
        bool begins_so = i == 12 || i / 10 == 12 || i / 100 == 12;
        ck_assert_msg(seen[i] == begins_so, "key %u was seen %u times", i, seen[i]);
    }
}
END_TEST

static bool list(void *arg, struct pln_bytes key, const struct pln_l1_hot *hot) {
    (void) hot;
    char *text = arg;
    strncat(text, key.data, key.len);
    return strlen(text) < 200;
}

START_TEST(the_hottest_keys_are_told_by_name) {
    char text[256] = {0};
    open_with((struct pln_l1_options){.eviction = PLN_L1_LRU});
    for (unsigned i = 0; i < 100; i++) {
        put(i, 0);
    }
    for (unsigned i = 0; i < 200000; i++) {
        get(i % 3 == 0 ? 7 : i % 100, 0);
    }
    ck_assert_int_eq(pln_l1_hottest(table.l1, 0, 1, list, text), PLN_OK);
    ck_assert_str_eq(text, "key 7");
    remove_key(&table, 7);
    text[0] = 0;
    ck_assert_int_eq(pln_l1_hottest(table.l1, 0, 1, list, text), PLN_OK);
    ck_assert_str_ne(text, "key 7"); /* gone keys are not told */
    ck_assert_uint_gt(strlen(text), 0);
}
END_TEST

int main(void) {
    Suite *suite = suite_create("evict");
    TCase *tests = tcase_create("evict");
    suite_add_tcase(suite, tests);
    tcase_set_timeout(tests, 60);
    tcase_add_checked_fixture(tests, NULL, teardown);
    tcase_add_loop_test(tests, a_bound_of_entries_is_kept, 0, 4);
    tcase_add_loop_test(tests, what_does_not_exist_keeps_to_its_share_and_pushes_out_no_value, 0,
                        4);
    tcase_add_test(tests, where_nobody_is_evicted_more_that_does_not_exist_is_refused);
    tcase_add_test(tests, lru_keeps_what_was_used_last);
    tcase_add_test(tests, fifo_keeps_what_came_last);
    tcase_add_test(tests, random_takes_from_everywhere);
    tcase_add_test(tests, adaptive_keeps_what_is_asked_for_again_through_a_scan);
    tcase_add_test(tests, what_has_a_lower_priority_goes_first);
    tcase_add_test(tests, a_weight_makes_an_entry_younger);
    tcase_add_test(tests, weighed_by_bytes_the_larger_goes_first);
    tcase_add_test(tests, a_value_over_the_limit_disturbs_nothing);
    tcase_add_test(tests, entries_smaller_than_was_thought_get_a_larger_table);
    tcase_add_test(tests, while_there_is_room_hardly_anything_goes_for_want_of_a_slot);
    tcase_add_loop_test(tests, without_eviction_nothing_stored_goes_and_the_budget_is_used, 0, 3);
    tcase_add_test(tests, a_budget_goes_up_and_down_while_it_is_used);
    tcase_add_loop_test(tests, iteration_by_prefix_sees_each_key_once_also_in_two_tables, 0, 2);
    tcase_add_test(tests, the_hottest_keys_are_told_by_name);
    return run_suite(suite);
}
