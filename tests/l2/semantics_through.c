/* SPDX-License-Identifier: MIT
 * semantics_through.c - see semantics.h: writes that were stored first. */
#include "semantics.h"

#include <check.h>
#include <stdio.h>

#include "../../l2/queue.h"

static int through(struct client *client, const char *key, const char *text, pln_ns began) {
    struct pln_hashed hashed = key_of(key);
    struct pln_l2_item item = item_of(text == NULL ? "" : text);
    return pln_l2_through(client->l2, &hashed, text == NULL ? NULL : &item, began, soon());
}

static void what_one_writes_through_in_turn_stays(struct client *a, struct client *b) {
    char text[16];
    for (int i = 0; i < 50; i++) { /* several in one millisecond */
        snprintf(text, sizeof text, "%d", i);
        ck_assert_int_eq(through(a, "a", text, pln_clock_precise()), PLN_OK);
        expect_text(b, "a", text);
        if (i % 10 == 9) {
            ck_assert_int_eq(through(a, "a", NULL, pln_clock_precise()), PLN_OK);
            expect_text(b, "a", NULL);
        }
    }
    ck_assert(client_hears(b, "k:a"));
    expect_story(a, "");
}

static void writes_through_that_overlap_leave_no_value(struct client *a, struct client *b) {
    struct pln_hashed key = key_of("a");
    struct pln_l2_lease lease;
    pln_ns began_a = pln_clock_precise(), began_c = began_a;
    ck_assert_int_eq(through(b, "a", "b's", pln_clock_precise()), PLN_OK);
    expect_text(a, "a", "b's");
    ck_assert_int_eq(through(a, "a", "a's", began_a), PLN_NOT_STORED);
    expect_text(a, "a", NULL);
    expect_text(b, "a", NULL);
    ck_assert_int_eq(through(b, "a", "c's", began_c), PLN_NOT_STORED); /* it sees the mark */
    expect_text(a, "a", NULL);
    /* which is no value to anybody */
    ck_assert_int_eq(pln_l2_expire(a->l2, &key, soon()), PLN_MISS);
    ck_assert_int_eq(pln_l2_touch(a->l2, &key, 1000, 1000, 0, soon()), PLN_MISS);
    ck_assert_uint_eq(client_count(a, PLN_COUNT_L2_BAD_VALUES), 0);
    ck_assert_int_eq(pln_l2_lease(a->l2, &key, 5000, soon(), &lease), PLN_OK);
    struct pln_l2_item item = item_of("loaded");
    item.tag_clock = lease.tag_clock;
    ck_assert_int_eq(pln_l2_commit(a->l2, &key, &lease, &item, soon()), PLN_OK);
    expect_text(b, "a", "loaded");
}

static void a_removal_through_is_seen_by_who_began_before(struct client *a, struct client *b) {
    struct pln_l2_lease lease;
    struct pln_hashed key = key_of("a");
    pln_ns began = pln_clock_precise();
    ck_assert_int_eq(through(b, "a", NULL, pln_clock_precise()), PLN_OK);
    ck_assert(client_hears(a, "k:a"));
    ck_assert_int_eq(through(a, "a", "older", began), PLN_NOT_STORED);
    ck_assert_int_eq(pln_l2_lease(b->l2, &key, 5000, soon(), &lease), PLN_OK);
    ck_assert_int_eq(through(a, "a", "newer", pln_clock_precise()), PLN_OK);
    expect_text(b, "a", "newer");
    struct pln_l2_item item = item_of("loaded before");
    item.tag_clock = lease.tag_clock;
    ck_assert_int_eq(pln_l2_commit(b->l2, &key, &lease, &item, soon()), PLN_NOT_STORED);
    expect_text(b, "a", "newer");
}

static void conditions_take_a_mark_for_no_value(struct client *a, struct client *b) {
    struct pln_hashed key = key_of("a");
    struct pln_l2_item item = item_of("new");
    struct pln_l2_value value;
    struct pln_l2_swap swap = {.item = &item};
    ck_assert_int_eq(through(a, "a", NULL, pln_clock_precise()), PLN_OK);
    ck_assert_int_eq(pln_l2_set(b->l2, &key, &item, PLN_SET_XX, soon()), PLN_NOT_STORED);
    ck_assert_int_eq(pln_l2_set(b->l2, &key, &item, PLN_SET_NX, soon()), PLN_OK);
    expect_text(a, "a", "new");
    ck_assert_int_eq(through(a, "a", NULL, pln_clock_precise()), PLN_OK);
    ck_assert_int_eq(pln_l2_swap(b->l2, &key, &swap, soon(), &value), PLN_OK);
    pln_l2_value_fini(&value);
    expect_text(a, "a", "new");
}

#define SEMANTIC(function)                                                                         \
    { #function, function }
const struct semantic through_semantics[] = {
    SEMANTIC(what_one_writes_through_in_turn_stays),
    SEMANTIC(writes_through_that_overlap_leave_no_value),
    SEMANTIC(a_removal_through_is_seen_by_who_began_before),
    SEMANTIC(conditions_take_a_mark_for_no_value),
};
const int n_through_semantics = PLN_ARRAY_LEN(through_semantics);
