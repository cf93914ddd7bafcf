/* SPDX-License-Identifier: MIT
 *
 * semantics_swap.c - see semantics.h: a value in the place of another one. */
#include "semantics.h"

#include <check.h>

/* Swaps `old` (NULL: none) for a text that is fresh for a second, and tells what is there then. */
static int swap(struct client *client, const char *key, const char *old, const char *text,
                bool keeps_life, struct pln_l2_value *value) {
    struct pln_hashed hashed = key_of(key);
    struct pln_l2_item item = item_of(text);
    item.fresh_left = 1000;
    item.life_left = 2000;
    struct pln_l2_swap swap = {.item = &item,
                               .expects = old != NULL,
                               .expected = pln_key(old != NULL ? old : ""),
                               .keeps_life = keeps_life};
    return pln_l2_swap(client->l2, &hashed, &swap, soon(), value);
}

static void expect_swap(struct client *client, const char *key, const char *old, const char *text,
                        int status, const char *now) {
    struct pln_l2_value value;
    ck_assert_int_eq(swap(client, key, old, text, true, &value), status);
    ck_assert_int_eq(value.memory != NULL, now != NULL);
    ck_assert(now == NULL || pln_bytes_equal(value.item.value, pln_key(now)));
    pln_l2_value_fini(&value);
}

void a_swap_takes_the_place_of_what_is_expected_alone(struct client *a, struct client *b) {
    struct pln_hashed key = key_of("a");
    struct pln_l2_lease lease;
    expect_swap(a, "a", "one", "two", PLN_MISS, NULL);
    expect_swap(a, "a", NULL, "one", PLN_OK, "one");
    ck_assert(client_hears(b, "k:a"));
    expect_story(b, "k:a");
    expect_story(a, "");
    expect_swap(a, "a", NULL, "two", PLN_NOT_STORED, "one");
    expect_swap(b, "a", "on", "two", PLN_NOT_STORED, "one");
    expect_text(b, "a", "one");
    ck_assert_int_eq(semantic_take_lease(b, "a", &lease), PLN_OK);
    expect_swap(a, "a", "one", "", PLN_OK, "");
    ck_assert_int_eq(semantic_commit(b, "a", &lease, "loaded", NULL), PLN_NOT_STORED);
    expect_swap(b, "a", "", "two", PLN_OK, "two");
    ck_assert_int_eq(pln_l2_expire(a->l2, &key, soon()), PLN_OK);
    expect_swap(b, "a", "two", "three", PLN_MISS, NULL); /* it is stale */
    struct pln_l2_item item = {.is_absent = true, .fresh_left = 1000, .life_left = 1000};
    ck_assert_int_eq(pln_l2_set(a->l2, &key, &item, 0, soon()), PLN_OK);
    expect_swap(b, "a", "", "three", PLN_MISS, NULL);
    expect_swap(b, "a", NULL, "three", PLN_OK, "three");
    expect_text(a, "a", "three");
}

void a_swap_leaves_tags_and_life_as_they_were(struct client *a, struct client *b) {
    struct pln_l2_value value;
    ck_assert_int_eq(semantic_set_tagged(a, "a", "one", "t"), PLN_OK);
    ck_assert_int_eq(swap(b, "a", "one", "two", true, &value), PLN_OK);
    ck_assert(value.item.fresh_left > 50000 && value.item.fresh_left <= 60000);
    ck_assert(value.item.life_left > 110000 && value.item.life_left <= 120000);
    ck_assert_uint_eq(value.item.n_tags, 2);
    ck_assert(pln_bytes_equal(value.item.tags[1], pln_key("t")));
    pln_l2_value_fini(&value);
    ck_assert_int_eq(swap(b, "a", "two", "three", false, &value), PLN_OK);
    ck_assert(value.item.fresh_left > 0 && value.item.fresh_left <= 1000);
    ck_assert_uint_eq(value.item.n_tags, 2);
    pln_l2_value_fini(&value);
    ck_assert_int_eq(pln_l2_drop_tag(a->l2, pln_key("t"), soon()), PLN_OK);
    expect_text(b, "a", NULL);
    expect_swap(b, "a", "three", "four", PLN_MISS, NULL);
    expect_swap(b, "a", NULL, "four", PLN_OK, "four");
    expect_text(a, "a", "four");
}
