/* SPDX-License-Identifier: MIT
 * semantics.c - see semantics.h. */
#include "semantics.h"

#include <check.h>
#include <stdio.h>

static int set(struct client *client, const char *key, const char *text, uint32_t flags) {
    struct pln_hashed hashed = key_of(key);
    struct pln_l2_item item = item_of(text);
    return pln_l2_set(client->l2, &hashed, &item, flags, soon());
}

static int set_tagged(struct client *client, const char *key, const char *text, const char *tag) {
    struct pln_hashed hashed = key_of(key);
    struct pln_l2_item item = item_of(text);
    struct pln_bytes tags[] = {pln_key("other"), pln_key(tag)};
    item.tags = tags;
    item.n_tags = 2;
    return pln_l2_set(client->l2, &hashed, &item, 0, soon());
}

static int take_lease(struct client *client, const char *key, struct pln_l2_lease *lease) {
    struct pln_hashed hashed = key_of(key);
    return pln_l2_lease(client->l2, &hashed, 5000, soon(), lease);
}

static int commit(struct client *client, const char *key, const struct pln_l2_lease *lease,
                  const char *text, const char *tag) {
    struct pln_hashed hashed = key_of(key);
    struct pln_l2_item item = item_of(text);
    struct pln_bytes bytes = pln_key(tag == NULL ? "" : tag);
    item.tags = &bytes;
    item.n_tags = tag != NULL;
    item.tag_clock = lease->tag_clock;
    return pln_l2_commit(client->l2, &hashed, lease, &item, soon());
}

static void a_set_is_read_and_heard_by_the_other(struct client *a, struct client *b) {
    expect_text(a, "a", NULL);
    ck_assert_int_eq(set(a, "a", "one", 0), PLN_OK);
    expect_text(a, "a", "one");
    expect_text(b, "a", "one");
    ck_assert(client_hears(b, "k:a"));
    expect_story(b, "k:a");
    expect_story(a, "");
}

static void all_of_an_item_comes_back(struct client *a, struct client *b) {
    struct pln_hashed key = key_of("a");
    struct pln_bytes tags[] = {pln_bytes_of("x\0y", 3), pln_key("")};
    struct pln_l2_item item = {.value = pln_bytes_of("\0\r\n", 3),
                               .age = 10000,
                               .fresh_left = -5000,
                               .life_left = PLN_FOREVER,
                               .tags = tags,
                               .n_tags = 2,
                               .format = 9};
    struct pln_l2_value value;
    ck_assert_int_eq(pln_l2_set(a->l2, &key, &item, 0, soon()), PLN_OK);
    ck_assert_int_eq(pln_l2_get(b->l2, &key, soon(), &value), PLN_OK);
    ck_assert(pln_bytes_equal(value.item.value, item.value));
    ck_assert(value.item.age >= 9900 && value.item.age < 15000);
    ck_assert(value.item.fresh_left <= -4900 && value.item.fresh_left > -10000);
    ck_assert(value.item.life_left == PLN_FOREVER);
    ck_assert_uint_eq(value.item.n_tags, 2);
    ck_assert(pln_bytes_equal(value.item.tags[0], tags[0]));
    ck_assert(pln_bytes_equal(value.item.tags[1], tags[1]));
    ck_assert_uint_eq(value.item.format, 9);
    pln_l2_value_fini(&value);
    item = (struct pln_l2_item){.is_absent = true, .fresh_left = 1000, .life_left = 1000};
    ck_assert_int_eq(pln_l2_set(a->l2, &key, &item, 0, soon()), PLN_OK);
    ck_assert_int_eq(pln_l2_get(b->l2, &key, soon(), &value), PLN_OK);
    ck_assert(value.item.is_absent && value.item.value.len == 0);
    pln_l2_value_fini(&value);
}

static void a_remove_is_heard_even_where_nothing_was(struct client *a, struct client *b) {
    struct pln_hashed key = key_of("a");
    ck_assert_int_eq(pln_l2_remove(a->l2, &key, soon()), PLN_OK);
    ck_assert(client_hears(b, "k:a"));
    ck_assert_int_eq(set(b, "a", "one", 0), PLN_OK);
    ck_assert_int_eq(pln_l2_remove(a->l2, &key, soon()), PLN_OK);
    expect_text(b, "a", NULL);
    ck_assert(client_hears(b, "k:a k:a"));
    ck_assert(client_hears(a, "k:a"));
}

static void conditions_of_set_look_at_what_can_be_read(struct client *a, struct client *b) {
    struct pln_hashed key = key_of("a");
    struct pln_l2_item absent = {.is_absent = true, .fresh_left = 60000, .life_left = 60000};
    ck_assert_int_eq(set(a, "a", "one", PLN_SET_XX), PLN_NOT_STORED);
    ck_assert_int_eq(set(a, "a", "one", PLN_SET_NX), PLN_OK);
    ck_assert_int_eq(set(b, "a", "two", PLN_SET_NX), PLN_NOT_STORED);
    expect_text(b, "a", "one");
    ck_assert_int_eq(set(b, "a", "two", PLN_SET_XX), PLN_OK);
    expect_text(a, "a", "two");
    /* "does not exist" is no value, and one with a dropped tag is none any more */
    ck_assert_int_eq(pln_l2_set(a->l2, &key, &absent, 0, soon()), PLN_OK);
    ck_assert_int_eq(set(b, "a", "three", PLN_SET_XX), PLN_NOT_STORED);
    ck_assert_int_eq(set(b, "a", "three", PLN_SET_NX), PLN_OK);
    ck_assert_int_eq(set_tagged(a, "a", "four", "tag"), PLN_OK);
    ck_assert_int_eq(set(b, "a", "five", PLN_SET_NX), PLN_NOT_STORED);
    ck_assert_int_eq(pln_l2_drop_tag(a->l2, pln_key("tag"), soon()), PLN_OK);
    ck_assert_int_eq(set(b, "a", "five", PLN_SET_XX), PLN_NOT_STORED);
    ck_assert_int_eq(set(b, "a", "five", PLN_SET_NX), PLN_OK);
    expect_text(a, "a", "five");
}

static void expire_leaves_the_value_and_makes_it_stale(struct client *a, struct client *b) {
    struct pln_hashed key = key_of("a");
    struct pln_l2_value value;
    ck_assert_int_eq(pln_l2_expire(a->l2, &key, soon()), PLN_MISS);
    ck_assert(client_hears(b, "x:a"));
    ck_assert_int_eq(set(a, "a", "one", 0), PLN_OK);
    ck_assert_int_eq(pln_l2_expire(a->l2, &key, soon()), PLN_OK);
    ck_assert(client_hears(b, "x:a k:a x:a"));
    ck_assert_int_eq(pln_l2_get(b->l2, &key, soon(), &value), PLN_OK);
    ck_assert_int_lt(value.item.fresh_left, 0);
    ck_assert_int_gt(value.item.fresh_left, -10000);
    ck_assert_int_gt(value.item.life_left, 100000);
    ck_assert_int_le(value.item.life_left, 120010);
    pln_l2_value_fini(&value);
}

static void touch_gives_new_durations_and_tells_nobody(struct client *a, struct client *b) {
    struct pln_hashed key = key_of("a");
    struct pln_l2_value value;
    ck_assert_int_eq(pln_l2_touch(a->l2, &key, 1000, 2000, 0, soon()), PLN_MISS);
    ck_assert_int_eq(set(a, "a", "one", 0), PLN_OK);
    ck_assert_int_eq(pln_l2_expire(a->l2, &key, soon()), PLN_OK);
    ck_assert_int_eq(pln_l2_touch(a->l2, &key, 200000, PLN_FOREVER, 0, soon()), PLN_OK);
    ck_assert_int_eq(pln_l2_get(b->l2, &key, soon(), &value), PLN_OK);
    ck_assert_int_gt(value.item.fresh_left, 190000);
    ck_assert_int_le(value.item.fresh_left, 200010);
    ck_assert(value.item.life_left == PLN_FOREVER);
    pln_l2_value_fini(&value);
    ck_assert_int_eq(pln_l2_touch(a->l2, &key, 1000, 300000, 0, soon()), PLN_OK);
    ck_assert_int_eq(pln_l2_get(b->l2, &key, soon(), &value), PLN_OK);
    ck_assert_int_le(value.item.life_left, 300010);
    pln_l2_value_fini(&value);
    ck_assert_int_eq(set(a, "z", "end", 0), PLN_OK);
    ck_assert(client_hears(b, "k:z"));
    expect_story(b, "k:a x:a k:z");
}

static void prolonging_takes_what_is_fresh_and_lives_long_enough(struct client *a,
                                                                 struct client *b) {
    struct pln_hashed key = key_of("a");
    struct pln_l2_value value;
    ck_assert_int_eq(pln_l2_touch(a->l2, &key, 1000, 2000, 1, soon()), PLN_MISS);
    ck_assert_int_eq(set(a, "a", "one", 0), PLN_OK);
    ck_assert_int_eq(pln_l2_touch(a->l2, &key, 100000, 200000, 0, soon()), PLN_OK);
    ck_assert_int_eq(pln_l2_touch(a->l2, &key, 900000, 900000, 200000, soon()), PLN_MISS);
    ck_assert_int_eq(pln_l2_touch(a->l2, &key, 300000, 400000, 100000, soon()), PLN_OK);
    ck_assert_int_eq(pln_l2_get(b->l2, &key, soon(), &value), PLN_OK);
    ck_assert_int_gt(value.item.fresh_left, 290000);
    ck_assert_int_le(value.item.fresh_left, 300010);
    pln_l2_value_fini(&value);
    ck_assert_int_eq(pln_l2_expire(b->l2, &key, soon()), PLN_OK);
    ck_assert_int_eq(pln_l2_touch(a->l2, &key, 900000, 900000, 1, soon()), PLN_MISS);
    ck_assert_int_eq(pln_l2_get(b->l2, &key, soon(), &value), PLN_OK);
    ck_assert_int_lt(value.item.fresh_left, 0);
    pln_l2_value_fini(&value);
}

static void one_lease_at_a_time_and_its_loser_is_woken(struct client *a, struct client *b) {
    struct pln_l2_lease first, second;
    ck_assert_int_eq(take_lease(a, "a", &first), PLN_OK);
    ck_assert_int_eq(take_lease(b, "a", &second), PLN_PENDING);
    ck_assert_int_gt(second.left, 0);
    ck_assert_int_le(second.left, 5000);
    ck_assert_int_eq(take_lease(b, "a", &second), PLN_PENDING);
    ck_assert_int_eq(commit(a, "a", &first, "loaded", NULL), PLN_OK);
    ck_assert(client_hears(b, "f:a"));
    expect_story(b, "f:a");
    expect_text(b, "a", "loaded");
    ck_assert_int_eq(commit(a, "a", &first, "again", NULL), PLN_NOT_STORED);
    ck_assert_int_eq(take_lease(b, "a", &second), PLN_OK);
}

static void a_commit_that_nobody_waits_for_is_silent(struct client *a, struct client *b) {
    struct pln_l2_lease lease;
    ck_assert_int_eq(take_lease(a, "a", &lease), PLN_OK);
    ck_assert_int_eq(commit(a, "a", &lease, "loaded", NULL), PLN_OK);
    ck_assert_int_eq(set(a, "z", "end", 0), PLN_OK);
    ck_assert(client_hears(b, "k:z"));
    expect_story(b, "k:z");
}

static void a_write_voids_the_lease(struct client *a, struct client *b) {
    struct pln_hashed key = key_of("a");
    struct pln_l2_lease lease;
    ck_assert_int_eq(take_lease(a, "a", &lease), PLN_OK);
    ck_assert_int_eq(set(b, "a", "written", 0), PLN_OK);
    ck_assert_int_eq(commit(a, "a", &lease, "loaded", NULL), PLN_NOT_STORED);
    expect_text(a, "a", "written");
    ck_assert_int_eq(take_lease(a, "a", &lease), PLN_OK);
    ck_assert_int_eq(pln_l2_remove(b->l2, &key, soon()), PLN_OK);
    ck_assert_int_eq(commit(a, "a", &lease, "loaded", NULL), PLN_NOT_STORED);
    expect_text(a, "a", NULL);
    ck_assert_int_eq(take_lease(a, "a", &lease), PLN_OK);
    ck_assert_int_eq(pln_l2_expire(b->l2, &key, soon()), PLN_MISS);
    ck_assert_int_eq(commit(a, "a", &lease, "loaded", NULL), PLN_NOT_STORED);
    expect_text(a, "a", NULL);
}

static void a_released_lease_is_free_and_tells_who_waits(struct client *a, struct client *b) {
    struct pln_hashed key = key_of("a");
    struct pln_l2_lease first, second;
    ck_assert_int_eq(take_lease(a, "a", &first), PLN_OK);
    ck_assert_int_eq(take_lease(b, "a", &second), PLN_PENDING);
    ck_assert_int_eq(pln_l2_release(a->l2, &key, &first, soon()), PLN_OK);
    ck_assert(client_hears(b, "f:a"));
    ck_assert_int_eq(pln_l2_release(a->l2, &key, &first, soon()), PLN_MISS);
    ck_assert_int_eq(take_lease(b, "a", &second), PLN_OK);
    ck_assert_int_eq(pln_l2_release(a->l2, &key, &first, soon()), PLN_MISS);
    ck_assert_int_eq(commit(b, "a", &second, "loaded", NULL), PLN_OK);
}

static void a_dropped_tag_voids_what_carries_it(struct client *a, struct client *b) {
    ck_assert_int_eq(set_tagged(a, "a", "one", "user"), PLN_OK);
    ck_assert_int_eq(set_tagged(a, "b", "two", "shop"), PLN_OK);
    ck_assert_int_eq(set(a, "c", "three", 0), PLN_OK);
    expect_text(b, "a", "one");
    ck_assert_int_eq(pln_l2_drop_tag(b->l2, pln_key("user"), soon()), PLN_OK);
    expect_text(a, "a", NULL);
    expect_text(b, "a", NULL);
    expect_text(b, "b", "two");
    expect_text(b, "c", "three");
    ck_assert(client_hears(a, "t:user"));
    ck_assert_int_eq(set_tagged(a, "a", "anew", "user"), PLN_OK);
    expect_text(b, "a", "anew");
}

static void clear_voids_everything(struct client *a, struct client *b) {
    ck_assert_int_eq(set_tagged(a, "a", "one", "user"), PLN_OK);
    ck_assert_int_eq(set(a, "b", "two", 0), PLN_OK);
    ck_assert_int_eq(pln_l2_clear(a->l2, soon()), PLN_OK);
    expect_text(a, "a", NULL);
    expect_text(a, "b", NULL);
    ck_assert(client_hears_all(b, "clear"));
    expect_text(b, "a", NULL);
    expect_text(b, "b", NULL);
    ck_assert_int_eq(set(b, "b", "anew", 0), PLN_OK);
    expect_text(a, "b", "anew");
}

/* The value was read before the tag was dropped, so it must not survive the drop. */
static int drop_match(struct client *client, enum pln_mask_kind kind, const char *text) {
    struct pln_mask mask = {kind, pln_key(text)};
    return pln_l2_drop_match(client->l2, &mask, soon());
}

static void a_dropped_prefix_voids_what_begins_with_it(struct client *a, struct client *b) {
    static const char *const there[] = {"user", "use", "xuser:1"}, *const gone[] = {
                                                                       "user:", "user:1", "user:*"};
    for (size_t i = 0; i < 3; i++) {
        ck_assert_int_eq(set(a, there[i], "v", 0), PLN_OK);
        ck_assert_int_eq(set_tagged(b, gone[i], "v", "t"), PLN_OK);
        ck_assert_int_eq(set(a, gone[i], "w", 0), PLN_OK);
    }
    ck_assert(client_hears(b, "k:user:*"));
    ck_assert_int_eq(drop_match(a, PLN_MASK_PREFIX, "user:"), PLN_OK);
    for (size_t i = 0; i < 3; i++) {
        expect_text(a, gone[i], NULL);
        expect_text(a, there[i], "v");
        expect_text(b, there[i], "v");
    }
    ck_assert(client_hears_all(b, "p:user:"));
    for (size_t i = 0; i < 3; i++) {
        expect_text(b, gone[i], NULL);
    }
    ck_assert_int_eq(set(b, "user:1", "new", 0), PLN_OK);
    expect_text(a, "user:1", "new");
    ck_assert_int_eq(drop_match(b, PLN_MASK_PREFIX, "user:*"), PLN_OK); /* a star and no more */
    expect_text(b, "user:1", "new");
    ck_assert_int_eq(drop_match(b, PLN_MASK_PREFIX, ""), PLN_OK);
    expect_text(b, "use", NULL);
}

static void a_dropped_pattern_voids_what_fits_it(struct client *a, struct client *b) {
    static const char *const there[] = {"a", "ab:x", "b:a:z", "a:bz"}, *const gone[] = {
                                                                           "a:z", "a:b:z", "a::z"};
    for (size_t i = 0; i < 4; i++) {
        ck_assert_int_eq(set(a, there[i], "v", 0), PLN_OK);
    }
    for (size_t i = 0; i < 3; i++) {
        ck_assert_int_eq(set_tagged(a, gone[i], "v", "t"), PLN_OK);
    }
    ck_assert_int_eq(drop_match(b, PLN_MASK_PATTERN, "a*:z"), PLN_OK);
    for (size_t i = 0; i < 4; i++) {
        expect_text(b, there[i], "v");
    }
    for (size_t i = 0; i < 3; i++) {
        expect_text(b, gone[i], NULL);
    }
    ck_assert(client_hears_all(a, "*:a*:z"));
    expect_text(a, "a:z", NULL);
}

static void many_keys_are_removed_at_once(struct client *a, struct client *b) {
    enum { N = 1200 };
    static char names[N][8];
    struct pln_hashed keys[N];
    struct pln_l2_lease lease;
    for (int i = 0; i < N; i++) {
        snprintf(names[i], sizeof names[i], "k%d", i);
        keys[i] = key_of(names[i]);
    }
    ck_assert_int_eq(set(a, "k0", "v", 0), PLN_OK);
    ck_assert_int_eq(set(a, "k1199", "v", 0), PLN_OK);
    ck_assert_int_eq(set(a, "k1200", "v", 0), PLN_OK);
    ck_assert_int_eq(take_lease(b, "k7", &lease), PLN_OK);
    ck_assert_int_eq(pln_l2_remove_many(a->l2, keys, N, soon()), PLN_OK);
    expect_text(b, "k0", NULL);
    expect_text(b, "k1199", NULL);
    expect_text(b, "k1200", "v");
    ck_assert_int_eq(commit(b, "k7", &lease, "old", NULL), PLN_NOT_STORED);
    for (int i = 0; i < N; i += 100) {
        char part[32];
        snprintf(part, sizeof part, "k:k%d", i);
        ck_assert(client_hears(b, part));
    }
    ck_assert_int_eq(pln_l2_remove_many(a->l2, keys, 0, soon()), PLN_OK);
}

static void conditions_see_what_a_mask_has_voided(struct client *a, struct client *b) {
    struct pln_hashed gone = key_of("k:1"), there = key_of("l:1");
    ck_assert_int_eq(set(a, "k:1", "old", 0), PLN_OK);
    ck_assert_int_eq(set(a, "l:1", "old", 0), PLN_OK);
    ck_assert_int_eq(drop_match(b, PLN_MASK_PATTERN, "*k*:*1"), PLN_OK);
    ck_assert_int_eq(set(a, "k:1", "new", PLN_SET_XX), PLN_NOT_STORED);
    ck_assert_int_eq(pln_l2_touch(a->l2, &gone, 1000, 1000, 0, soon()), PLN_MISS);
    ck_assert_int_eq(pln_l2_expire(a->l2, &gone, soon()), PLN_MISS);
    ck_assert_int_eq(set(a, "k:1", "new", PLN_SET_NX), PLN_OK);
    ck_assert_int_eq(set(a, "l:1", "new", PLN_SET_NX), PLN_NOT_STORED);
    ck_assert_int_eq(pln_l2_touch(a->l2, &there, 1000, 1000, 0, soon()), PLN_OK);
    expect_text(a, "k:1", "new");
    expect_text(a, "l:1", "old");
}

static void a_load_from_before_a_mask_is_not_stored(struct client *a, struct client *b) {
    struct pln_l2_lease lease;
    ck_assert_int_eq(take_lease(a, "k:1", &lease), PLN_OK);
    ck_assert_int_eq(drop_match(b, PLN_MASK_PREFIX, "k:"), PLN_OK);
    ck_assert_int_eq(commit(a, "k:1", &lease, "old", NULL), PLN_NOT_STORED);
    expect_text(b, "k:1", NULL);
    ck_assert_int_eq(take_lease(a, "k:1", &lease), PLN_OK);
    ck_assert_int_eq(commit(a, "k:1", &lease, "new", NULL), PLN_OK);
    expect_text(b, "k:1", "new");
}

static void what_was_read_before_a_drop_is_not_committed_after(struct client *a, struct client *b) {
    struct pln_l2_lease lease;
    ck_assert_int_eq(take_lease(a, "a", &lease), PLN_OK);
    ck_assert_int_eq(pln_l2_drop_tag(b->l2, pln_key("user"), soon()), PLN_OK);
    ck_assert_int_eq(commit(a, "a", &lease, "old", "user"), PLN_NOT_STORED);
    ck_assert_int_eq(take_lease(a, "a", &lease), PLN_OK);
    ck_assert_int_eq(commit(a, "a", &lease, "new", "user"), PLN_OK);
    expect_text(b, "a", "new");
    ck_assert_int_eq(take_lease(a, "b", &lease), PLN_OK);
    ck_assert_int_eq(pln_l2_clear(b->l2, soon()), PLN_OK);
    ck_assert_int_eq(commit(a, "b", &lease, "old", NULL), PLN_NOT_STORED);
    expect_text(b, "b", NULL);
}

static void many_keys_are_read_at_once(struct client *a, struct client *b) {
    enum { N = 300 };
    char names[N][8];
    struct pln_hashed keys[N];
    struct pln_l2_value values[N];
    int statuses[N];
    for (int i = 0; i < N; i++) {
        snprintf(names[i], sizeof names[i], "k%d", i);
        keys[i] = key_of(names[i]);
        if (i % 3 == 0) {
            ck_assert_int_eq(set(a, names[i], names[i], 0), PLN_OK);
        } else if (i % 3 == 1) {
            ck_assert_int_eq(set_tagged(a, names[i], names[i], i % 2 == 0 ? "even" : "odd"),
                             PLN_OK);
        }
    }
    ck_assert_int_eq(pln_l2_drop_tag(a->l2, pln_key("odd"), soon()), PLN_OK);
    ck_assert_int_eq(pln_l2_get_many(b->l2, keys, N, soon(), values, statuses), PLN_OK);
    for (int i = 0; i < N; i++) {
        bool is_there = i % 3 == 0 || (i % 3 == 1 && i % 2 == 0);
        ck_assert_msg(statuses[i] == (is_there ? PLN_OK : PLN_MISS), "%s: %d", names[i],
                      statuses[i]);
        if (is_there) {
            ck_assert(pln_bytes_equal(values[i].item.value, pln_key(names[i])));
            pln_l2_value_fini(&values[i]);
        }
    }
}

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

static void a_swap_takes_the_place_of_what_is_expected_alone(struct client *a, struct client *b) {
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
    ck_assert_int_eq(take_lease(b, "a", &lease), PLN_OK);
    expect_swap(a, "a", "one", "", PLN_OK, "");
    ck_assert_int_eq(commit(b, "a", &lease, "loaded", NULL), PLN_NOT_STORED);
    expect_swap(b, "a", "", "two", PLN_OK, "two");
    ck_assert_int_eq(pln_l2_expire(a->l2, &key, soon()), PLN_OK);
    expect_swap(b, "a", "two", "three", PLN_MISS, NULL); /* it is stale */
    struct pln_l2_item item = {.is_absent = true, .fresh_left = 1000, .life_left = 1000};
    ck_assert_int_eq(pln_l2_set(a->l2, &key, &item, 0, soon()), PLN_OK);
    expect_swap(b, "a", "", "three", PLN_MISS, NULL);
    expect_swap(b, "a", NULL, "three", PLN_OK, "three");
    expect_text(a, "a", "three");
}

static void a_swap_leaves_tags_and_life_as_they_were(struct client *a, struct client *b) {
    struct pln_l2_value value;
    ck_assert_int_eq(set_tagged(a, "a", "one", "t"), PLN_OK);
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

#define SEMANTIC(function)                                                                         \
    { #function, function }
const struct semantic semantics[] = {
    SEMANTIC(a_set_is_read_and_heard_by_the_other),
    SEMANTIC(all_of_an_item_comes_back),
    SEMANTIC(a_remove_is_heard_even_where_nothing_was),
    SEMANTIC(conditions_of_set_look_at_what_can_be_read),
    SEMANTIC(expire_leaves_the_value_and_makes_it_stale),
    SEMANTIC(touch_gives_new_durations_and_tells_nobody),
    SEMANTIC(prolonging_takes_what_is_fresh_and_lives_long_enough),
    SEMANTIC(one_lease_at_a_time_and_its_loser_is_woken),
    SEMANTIC(a_commit_that_nobody_waits_for_is_silent),
    SEMANTIC(a_lease_tells_whether_there_is_a_value),
    SEMANTIC(many_leases_and_commits_are_each_as_one),
    SEMANTIC(a_write_voids_the_lease),
    SEMANTIC(a_released_lease_is_free_and_tells_who_waits),
    SEMANTIC(a_dropped_tag_voids_what_carries_it),
    SEMANTIC(a_dropped_prefix_voids_what_begins_with_it),
    SEMANTIC(a_dropped_pattern_voids_what_fits_it),
    SEMANTIC(conditions_see_what_a_mask_has_voided),
    SEMANTIC(a_load_from_before_a_mask_is_not_stored),
    SEMANTIC(many_keys_are_removed_at_once),
    SEMANTIC(clear_voids_everything),
    SEMANTIC(what_was_read_before_a_drop_is_not_committed_after),
    SEMANTIC(many_keys_are_read_at_once),
    SEMANTIC(a_swap_takes_the_place_of_what_is_expected_alone),
    SEMANTIC(a_swap_leaves_tags_and_life_as_they_were),
};
const int n_semantics = PLN_ARRAY_LEN(semantics);
