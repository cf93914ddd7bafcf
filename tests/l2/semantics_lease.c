/* SPDX-License-Identifier: MIT
 * semantics_lease.c - part of semantics.c: leases that tell of values, and many of them at once. */
#include "semantics.h"

#include <check.h>
#include <stdio.h>

static int take_lease(struct client *client, const char *key, struct pln_l2_lease *lease) {
    struct pln_hashed hashed = key_of(key);
    return pln_l2_lease(client->l2, &hashed, 5000, soon(), lease);
}

static int set(struct client *client, const char *key, const char *text) {
    struct pln_hashed hashed = key_of(key);
    struct pln_l2_item item = item_of(text);
    return pln_l2_set(client->l2, &hashed, &item, 0, soon());
}

void a_lease_tells_whether_there_is_a_value(struct client *a, struct client *b) {
    struct pln_l2_lease lease;
    ck_assert_int_eq(take_lease(a, "a", &lease), PLN_OK);
    ck_assert(lease.is_empty);
    ck_assert_int_eq(set(a, "a", "there"), PLN_OK);
    ck_assert_int_eq(take_lease(b, "a", &lease), PLN_OK);
    ck_assert(!lease.is_empty);
    struct pln_hashed key = key_of("a");
    ck_assert_int_eq(pln_l2_release(b->l2, &key, &lease, soon()), PLN_OK);
    ck_assert_int_eq(pln_l2_remove(a->l2, &key, soon()), PLN_OK);
    ck_assert_int_eq(take_lease(b, "a", &lease), PLN_OK);
    ck_assert(lease.is_empty);
}

enum { MANY = 600 }; /* more than are on their way at once */

void many_leases_and_commits_are_each_as_one(struct client *a, struct client *b) {
    static struct pln_hashed keys[MANY];
    static struct pln_l2_lease leases[MANY];
    static struct pln_l2_item items[MANY];
    static pln_ms lengths[MANY];
    static int statuses[MANY];
    static char texts[MANY][8];
    const struct pln_bytes tags[] = {pln_key("red"), pln_key("")};
    struct pln_l2_lease held;
    for (int i = 0; i < MANY; i++) {
        snprintf(texts[i], sizeof texts[i], "k%d", i);
        keys[i] = key_of(texts[i]);
        lengths[i] = 5000;
        items[i] = item_of(texts[i]);
        items[i].tags = tags;
        items[i].n_tags = (size_t) i % 3;
    }
    ck_assert_int_eq(take_lease(b, "k1", &held), PLN_OK);
    ck_assert_int_eq(set(b, "k2", "there"), PLN_OK);
    pln_l2_lease_many(a->l2, keys, lengths, MANY, soon(), leases, statuses);
    for (int i = 0; i < MANY; i++) {
        ck_assert_int_eq(statuses[i], i == 1 ? PLN_PENDING : PLN_OK);
        ck_assert(i == 1 || leases[i].is_empty == (i != 2));
        items[i].tag_clock = leases[i].tag_clock;
    }
    ck_assert_int_eq(take_lease(b, "k3", &held), PLN_PENDING);
    ck_assert_int_eq(set(b, "k5", "newer"), PLN_OK);
    pln_l2_commit_many(a->l2, keys, leases, items, MANY, soon(), statuses);
    for (int i = 0; i < MANY; i++) {
        ck_assert_int_eq(statuses[i], i == 1 || i == 5 ? PLN_NOT_STORED : PLN_OK);
        expect_text(b, texts[i], i == 1 ? NULL : i == 5 ? "newer" : texts[i]);
    }
    ck_assert_int_eq(pln_l2_drop_tag(b->l2, pln_key("red"), soon()), PLN_OK);
    expect_text(a, "k597", "k597"); /* without a tag */
    expect_text(a, "k598", NULL);
    expect_text(a, "k599", NULL);
    ck_assert(client_hears(b, "f:k3")); /* who was told to wait */
}
