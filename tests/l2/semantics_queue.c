/* SPDX-License-Identifier: MIT
 * semantics_queue.c - see semantics.h: writes that wait to be stored. */
#include "semantics.h"
#include "waiting.h"

#include <check.h>
#include <stdio.h>

/* ---- into the queue ---- */

static void a_write_that_waits_is_read_heard_and_queued(struct client *a, struct client *b) {
    struct pln_l2_taking taking = taker('1', true);
    ck_assert_int_eq(pln_l2_queue_check(a->l2), PLN_OK);
    expect_take(a, &taking, "");
    ck_assert_int_eq(write_set(a, "a", "one"), PLN_OK);
    expect_text(b, "a", "one");
    ck_assert(client_hears(b, "k:a"));
    expect_story(b, "k:a");
    expect_story(a, "");
    ck_assert_int_eq(write_remove(b, "a"), PLN_OK);
    expect_text(a, "a", NULL);
    ck_assert(client_hears(a, "k:a"));
    expect_depth(b, 2, 0);
    taking.is_first = false;
    expect_take(a, &taking, "a=one a-");
    expect_take(a, &taking, "");
}

static void keys_and_values_that_wait_are_of_any_bytes(struct client *a, struct client *b) {
    static char big[300000];
    struct pln_hashed key = {.key = pln_bytes_of("\0k\r\n\xff", 5)};
    struct pln_l2_item item = item_of("");
    struct pln_l2_value value;
    struct pln_l2_taking taking = taker('1', true);
    struct pln_l2_entries entries;
    struct pln_bytes packed = pln_key("packed");
    key.hash = pln_hash(key.key, 0);
    memset(big, 'x', sizeof big);
    struct pln_l2_write write = {.kind = PLN_L2_WRITE_SET, .item = &item, .most = 1000};
    expect_take(b, &taking, "");
    write.value = item.value = pln_bytes_of("\0\r\n", 3);
    item.format = 200;
    ck_assert_int_eq(pln_l2_write(a->l2, &key, &write, soon(), &value), PLN_OK);
    item = item_of("");
    item.is_absent = true;
    write.value = item.value;
    ck_assert_int_eq(pln_l2_write(a->l2, &key, &write, soon(), &value), PLN_OK);
    item = item_of("");
    item.value = packed;
    item.packing = 1;
    item.life_left = item.fresh_left = PLN_FOREVER;
    write.value = pln_bytes_of(big, sizeof big);
    ck_assert_int_eq(pln_l2_write(a->l2, &key, &write, soon(), &value), PLN_OK);
    taking.is_first = false;
    pln_ms left;
    ck_assert_int_eq(pln_l2_queue_take(b->l2, &taking, soon(), &entries, &left), PLN_OK);
    ck_assert_uint_eq(entries.n, 3);
    for (size_t i = 0; i < 3; i++) {
        ck_assert(pln_bytes_equal(entries.entries[i].key, key.key));
        ck_assert_uint_eq(entries.entries[i].n_taken, 1);
    }
    ck_assert(pln_bytes_equal(entries.entries[0].value, pln_bytes_of("\0\r\n", 3)));
    ck_assert_uint_eq(entries.entries[0].format, 200);
    ck_assert(!entries.entries[0].is_absent && entries.entries[1].is_absent);
    ck_assert(pln_bytes_equal(entries.entries[2].value, write.value));
    pln_l2_entries_fini(&entries);
    ck_assert_int_eq(pln_l2_get(b->l2, &key, soon(), &value), PLN_OK);
    ck_assert(pln_bytes_equal(value.item.value, packed));
    ck_assert(value.item.packing == 1 && value.item.life_left == PLN_FOREVER);
    pln_l2_value_fini(&value);
}

static void what_waits_has_its_tags_and_its_life(struct client *a, struct client *b) {
    struct pln_hashed key = key_of("a");
    struct pln_bytes tags[] = {pln_key("x"), pln_key("red")};
    struct pln_l2_item item = item_of("one");
    struct pln_l2_value value;
    struct pln_l2_write write = {
        .kind = PLN_L2_WRITE_SET, .item = &item, .value = item.value, .most = 1000};
    item.tags = tags;
    item.n_tags = 2;
    item.age = 10000;
    ck_assert_int_eq(pln_l2_write(a->l2, &key, &write, soon(), &value), PLN_OK);
    ck_assert_int_eq(pln_l2_get(b->l2, &key, soon(), &value), PLN_OK);
    ck_assert(value.item.age >= 9900 && value.item.age < 15000);
    ck_assert(value.item.fresh_left > 50000 && value.item.fresh_left <= 60010);
    ck_assert(value.item.life_left > 110000 && value.item.life_left <= 120010);
    ck_assert_uint_eq(value.item.n_tags, 2);
    pln_l2_value_fini(&value);
    ck_assert_int_eq(pln_l2_drop_tag(b->l2, pln_key("red"), soon()), PLN_OK);
    expect_text(a, "a", NULL);
    expect_waiting(a, "a", "a=one"); /* the write is still to be stored */
    ck_assert_int_eq(pln_l2_clear(a->l2, soon()), PLN_OK);
    ck_assert_int_eq(pln_l2_remove(a->l2, &key, soon()), PLN_OK);
    expect_depth(b, 1, 0);
}

static void what_a_condition_refuses_does_not_wait(struct client *a, struct client *b) {
    struct pln_hashed key = key_of("a");
    struct pln_l2_item item = item_of("one");
    struct pln_l2_value value;
    struct pln_l2_write write = {.kind = PLN_L2_WRITE_SET,
                                 .item = &item,
                                 .value = item.value,
                                 .set_flags = PLN_SET_XX,
                                 .most = 1000};
    ck_assert_int_eq(pln_l2_write(a->l2, &key, &write, soon(), &value), PLN_NOT_STORED);
    write.set_flags = PLN_SET_NX;
    ck_assert_int_eq(pln_l2_write(a->l2, &key, &write, soon(), &value), PLN_OK);
    ck_assert_int_eq(pln_l2_write(b->l2, &key, &write, soon(), &value), PLN_NOT_STORED);
    expect_depth(a, 1, 0);
    write.set_flags = PLN_SET_XX;
    write.value = item.value = pln_key("two");
    ck_assert_int_eq(pln_l2_write(b->l2, &key, &write, soon(), &value), PLN_OK);
    expect_text(a, "a", "two");
    expect_waiting(a, "a", "a=two");
    expect_depth(a, 2, 0);
}

static void a_swap_that_waits_is_queued_where_it_swaps(struct client *a, struct client *b) {
    struct pln_hashed key = key_of("a");
    struct pln_l2_item item = item_of("one");
    struct pln_l2_value value;
    struct pln_l2_swap swap = {.item = &item};
    struct pln_l2_write write = {
        .kind = PLN_L2_WRITE_SWAP, .swap = &swap, .value = item.value, .most = 2};
    ck_assert_int_eq(pln_l2_write(a->l2, &key, &write, soon(), &value), PLN_OK);
    ck_assert(pln_bytes_equal(value.item.value, item.value));
    pln_l2_value_fini(&value);
    ck_assert_int_eq(pln_l2_write(a->l2, &key, &write, soon(), &value), PLN_NOT_STORED);
    pln_l2_value_fini(&value);
    expect_depth(b, 1, 0);
    swap.expects = true;
    swap.expected = pln_key("one");
    item.value = pln_key("packed");
    write.value = pln_key("two");
    ck_assert_int_eq(pln_l2_write(b->l2, &key, &write, soon(), &value), PLN_OK);
    pln_l2_value_fini(&value);
    expect_text(a, "a", "packed");
    expect_waiting(a, "a", "a=two");
    ck_assert(client_hears(a, "k:a"));
    swap.expected = pln_key("packed");
    ck_assert_int_eq(pln_l2_write(b->l2, &key, &write, soon(), &value), PLN_EBUSY);
    ck_assert_ptr_null(value.memory);
    expect_depth(a, 2, 0);
}

static void a_full_queue_refuses_and_nothing_is_done(struct client *a, struct client *b) {
    struct pln_hashed key = key_of("c");
    struct pln_l2_item item = item_of("new");
    struct pln_l2_value value;
    struct pln_l2_write write = {
        .kind = PLN_L2_WRITE_SET, .item = &item, .value = item.value, .most = 2};
    ck_assert_int_eq(write_set(a, "a", "one"), PLN_OK);
    ck_assert_int_eq(write_set(a, "c", "two"), PLN_OK);
    ck_assert(client_hears(b, "k:c"));
    expect_story(b, "k:a k:c");
    ck_assert_int_eq(pln_l2_write(a->l2, &key, &write, soon(), &value), PLN_EBUSY);
    ck_assert_ptr_nonnull(strstr(pln_error_text(), "the queue is full: 2 writes wait"));
    write.set_flags = PLN_SET_XX;
    ck_assert_int_eq(pln_l2_write(a->l2, &key, &write, soon(), &value), PLN_EBUSY);
    write = (struct pln_l2_write){.kind = PLN_L2_WRITE_REMOVE, .most = 2};
    ck_assert_int_eq(pln_l2_write(a->l2, &key, &write, soon(), &value), PLN_EBUSY);
    expect_text(b, "c", "two");
    expect_waiting(b, "c", "c=two");
    expect_story(b, "");
    struct pln_l2_taking taking = taker('1', true);
    struct pln_l2_entries entries;
    expect_take(b, &taking, "");
    taking.is_first = false;
    expect_taken(b, &taking, "a=one c=two", &entries);
    ck_assert_int_eq(pln_l2_queue_end(b->l2, &taking, entries.entries, 1, soon()), PLN_OK);
    pln_l2_entries_fini(&entries);
    ck_assert_int_eq(pln_l2_write(a->l2, &key, &write, soon(), &value), PLN_OK);
    expect_waiting(b, "c", "c-");
}

/* ---- out of it ---- */

static void one_at_a_time_has_the_lead(struct client *a, struct client *b) {
    struct pln_l2_taking first = taker('1', true), second = taker('2', true);
    struct pln_l2_entries entries;
    pln_ms left = 0;
    ck_assert_int_eq(write_set(a, "a", "one"), PLN_OK);
    first.is_first = false; /* what it does not have it cannot go on with */
    ck_assert_int_eq(pln_l2_queue_take(a->l2, &first, soon(), &entries, &left), PLN_PENDING);
    ck_assert_int_eq(left, 0);
    first.is_first = true;
    expect_take(a, &first, "");
    ck_assert_int_eq(pln_l2_queue_take(b->l2, &second, soon(), &entries, &left), PLN_PENDING);
    ck_assert(left > 3000 && left <= 5000);
    ck_assert_uint_eq(entries.n, 0);
    ck_assert_int_eq(pln_l2_queue_hold(a->l2, &first, soon()), PLN_OK);
    ck_assert_int_eq(pln_l2_queue_hold(b->l2, &second, soon()), PLN_PENDING);
    pln_l2_queue_leave(b->l2, &second, soon()); /* it is not the second's to give */
    ck_assert_int_eq(pln_l2_queue_hold(a->l2, &first, soon()), PLN_OK);
    pln_l2_queue_leave(a->l2, &first, soon());
    ck_assert_int_eq(pln_l2_queue_hold(a->l2, &first, soon()), PLN_PENDING);
    expect_take(b, &second, "");
    second.is_first = false;
    expect_take(b, &second, "a=one");
    ck_assert_int_eq(pln_l2_queue_hold(b->l2, &second, soon()), PLN_OK);
}

static void who_comes_next_goes_on_with_what_was_taken(struct client *a, struct client *b) {
    struct pln_l2_taking first = taker('1', true), second = taker('2', true);
    struct pln_l2_entries entries, again;
    char key[8];
    for (int i = 0; i < 5; i++) {
        snprintf(key, sizeof key, "%d", i);
        ck_assert_int_eq(write_set(a, key, "v"), PLN_OK);
    }
    expect_take(a, &first, "");
    first.is_first = false;
    first.most = 3;
    expect_taken(a, &first, "0=v 1=v 2=v", &entries);
    ck_assert_int_eq(pln_l2_queue_end(a->l2, &first, &entries.entries[1], 1, soon()), PLN_OK);
    pln_l2_queue_leave(a->l2, &first, soon()); /* as if its lead had ended */
    second.most = 1;
    expect_taken(b, &second, "0=v", &again);
    ck_assert_uint_eq(again.entries[0].n_taken, 2);
    ck_assert_uint_eq(again.entries[0].ms, entries.entries[0].ms);
    ck_assert_uint_eq(again.entries[0].seq, entries.entries[0].seq);
    second.after_ms = again.entries[0].ms;
    second.after_seq = again.entries[0].seq;
    pln_l2_entries_fini(&again);
    second.most = 10;
    expect_take(b, &second, "2=v");
    second.is_first = false;
    expect_take(b, &second, "3=v 4=v");
    /* the first has lost the lead: whatever it does, nothing is done */
    ck_assert_int_eq(pln_l2_queue_end(a->l2, &first, entries.entries, entries.n, soon()),
                     PLN_PENDING);
    ck_assert_int_eq(pln_l2_queue_bury(a->l2, &first, &entries.entries[0], 1, "no", 10, soon()),
                     PLN_PENDING);
    expect_depth(a, 4, 0);
    ck_assert_int_eq(pln_l2_queue_end(b->l2, &second, entries.entries, entries.n, soon()), PLN_OK);
    expect_depth(a, 2, 0);
    pln_l2_entries_fini(&entries);
}

static void what_waits_is_found_until_it_is_stored(struct client *a, struct client *b) {
    struct pln_l2_taking taking = taker('1', true);
    struct pln_l2_entries entries, more;
    struct pln_l2_queue_state state;
    expect_waiting(b, "a", NULL);
    ck_assert_int_eq(write_set(a, "a", "one"), PLN_OK);
    ck_assert_int_eq(write_set(a, "b", "other"), PLN_OK);
    expect_waiting(b, "a", "a=one");
    expect_take(b, &taking, "");
    taking.is_first = false;
    expect_taken(b, &taking, "a=one b=other", &entries);
    ck_assert_int_eq(pln_l2_queue_state(a->l2, soon(), &state), PLN_OK);
    ck_assert_uint_eq(state.first_ms, entries.entries[0].ms);
    ck_assert_uint_eq(state.first_seq, entries.entries[0].seq);
    ck_assert_uint_eq(state.last_ms, entries.entries[1].ms);
    ck_assert_uint_eq(state.last_seq, entries.entries[1].seq);
    ck_assert(state.oldest >= 0 && state.oldest < 10000 && !state.may_evict);
    ck_assert_int_eq(write_remove(a, "a"), PLN_OK);
    ck_assert_int_eq(pln_l2_queue_end(b->l2, &taking, entries.entries, 2, soon()), PLN_OK);
    expect_waiting(b, "a", "a-"); /* the later one */
    expect_waiting(b, "b", NULL);
    expect_taken(b, &taking, "a-", &more);
    ck_assert_int_eq(pln_l2_queue_end(b->l2, &taking, more.entries, 1, soon()), PLN_OK);
    expect_waiting(b, "a", NULL);
    ck_assert_int_eq(pln_l2_queue_end(b->l2, &taking, entries.entries, 2, soon()), PLN_OK);
    ck_assert_int_eq(pln_l2_queue_state(a->l2, soon(), &state), PLN_OK);
    ck_assert_uint_eq(state.depth, 0);
    ck_assert(state.first_ms == 0 && state.oldest == 0);
    ck_assert_uint_eq(state.last_ms, more.entries[0].ms);
    ck_assert_uint_eq(state.last_seq, more.entries[0].seq);
    pln_l2_entries_fini(&more);
    pln_l2_entries_fini(&entries);
}

enum { MANY = 2500 }; /* more than one script ends */

static void many_are_taken_and_ended_at_once(struct client *a, struct client *b) {
    struct pln_l2_taking taking = taker('1', true);
    struct pln_l2_entries entries;
    pln_ms left;
    char key[16];
    expect_take(b, &taking, "");
    for (int i = 0; i < MANY; i++) {
        snprintf(key, sizeof key, "key %d", i % 2000);
        struct pln_hashed hashed = key_of(key);
        struct pln_l2_item item = item_of(key);
        struct pln_l2_value value;
        struct pln_l2_write write = {
            .kind = PLN_L2_WRITE_SET, .item = &item, .value = item.value, .most = MANY};
        ck_assert_int_eq(pln_l2_write(a->l2, &hashed, &write, soon(), &value), PLN_OK);
    }
    taking.is_first = false;
    taking.most = MANY;
    ck_assert_int_eq(pln_l2_queue_take(b->l2, &taking, soon(), &entries, &left), PLN_OK);
    ck_assert_uint_eq(entries.n, MANY);
    for (size_t i = 0; i < MANY; i++) {
        snprintf(key, sizeof key, "key %d", (int) i % 2000);
        ck_assert(pln_bytes_equal(entries.entries[i].key, pln_key(key)));
    }
    ck_assert_int_eq(pln_l2_queue_end(b->l2, &taking, entries.entries, MANY, soon()), PLN_OK);
    pln_l2_entries_fini(&entries);
    expect_depth(a, 0, 0);
    expect_waiting(a, "key 7", NULL);
}

/* ---- dead letters ---- */

/* Takes the one write that waits, and buries it. */
static struct pln_l2_letter bury_one(struct client *client, const struct pln_l2_taking *taking,
                                     const char *taken, size_t most) {
    struct pln_l2_entries entries;
    struct pln_l2_letters letters;
    expect_taken(client, taking, taken, &entries);
    ck_assert_int_eq(
        pln_l2_queue_bury(client->l2, taking, &entries.entries[0], 3, "no room", most, soon()),
        PLN_OK);
    ck_assert_int_eq(pln_l2_letters(client->l2, 0, 0, 100, soon(), &letters), PLN_OK);
    ck_assert_uint_gt(letters.n, 0);
    struct pln_l2_letter last = letters.letters[letters.n - 1];
    ck_assert_uint_eq(last.write_ms, entries.entries[0].ms);
    ck_assert_uint_eq(last.write_seq, entries.entries[0].seq);
    ck_assert_uint_eq(last.attempts, 3);
    ck_assert(last.age >= 0 && last.age < 10000);
    ck_assert(pln_bytes_equal(last.error, pln_key("no room")));
    ck_assert(pln_bytes_equal(last.entry.key, entries.entries[0].key));
    ck_assert(pln_bytes_equal(last.entry.value, entries.entries[0].value));
    pln_l2_letters_fini(&letters);
    pln_l2_entries_fini(&entries);
    return last;
}

static int end_letter(struct client *client, const struct pln_l2_letter *letter, bool again) {
    return pln_l2_letter_end(client->l2, letter->entry.ms, letter->entry.seq, again, soon());
}

static void a_letter_is_shown_tried_again_and_dropped(struct client *a, struct client *b) {
    struct pln_l2_taking taking = taker('1', true);
    expect_take(b, &taking, "");
    taking.is_first = false;
    ck_assert_int_eq(write_set(a, "a", "one"), PLN_OK);
    struct pln_l2_letter letter = bury_one(b, &taking, "a=one", 100);
    expect_depth(a, 0, 1);
    expect_waiting(a, "a", NULL);
    ck_assert_int_eq(end_letter(a, &letter, true), PLN_OK);
    ck_assert_int_eq(end_letter(a, &letter, true), PLN_MISS);
    expect_depth(a, 1, 0);
    expect_waiting(a, "a", "a=one");
    letter = bury_one(b, &taking, "a=one", 100);
    ck_assert_int_eq(end_letter(a, &letter, false), PLN_OK);
    expect_depth(a, 0, 0);
    ck_assert_int_eq(end_letter(a, &letter, false), PLN_MISS);
}

static void a_letter_undoes_no_later_write(struct client *a, struct client *b) {
    struct pln_l2_taking taking = taker('1', true);
    struct pln_l2_entries entries;
    expect_take(b, &taking, "");
    taking.is_first = false;
    ck_assert_int_eq(write_set(a, "a", "one"), PLN_OK);
    struct pln_l2_letter letter = bury_one(b, &taking, "a=one", 100);
    ck_assert_int_eq(write_set(a, "a", "two"), PLN_OK); /* it waits */
    ck_assert_int_eq(end_letter(a, &letter, true), PLN_NOT_STORED);
    expect_depth(a, 1, 0);
    expect_waiting(a, "a", "a=two");

    letter = bury_one(b, &taking, "a=two", 100);
    ck_assert_int_eq(write_remove(a, "a"), PLN_OK); /* and is stored, and leaves nothing */
    expect_taken(b, &taking, "a-", &entries);
    ck_assert_int_eq(pln_l2_queue_end(b->l2, &taking, entries.entries, 1, soon()), PLN_OK);
    pln_l2_entries_fini(&entries);
    ck_assert_int_eq(end_letter(a, &letter, true), PLN_NOT_STORED);
    expect_depth(a, 0, 0);

    ck_assert_int_eq(write_set(a, "a", "three"), PLN_OK);
    letter = bury_one(b, &taking, "a=three", 100);
    struct pln_hashed key = key_of("a");
    ck_assert_int_eq(pln_l2_through(a->l2, &key, NULL, pln_clock_precise(), soon()), PLN_OK);
    ck_assert_int_eq(end_letter(a, &letter, true), PLN_NOT_STORED);
    expect_depth(a, 0, 0);
}

static void a_write_through_leaves_what_waits(struct client *a, struct client *b) {
    struct pln_hashed key = key_of("a");
    struct pln_l2_item item = item_of("through");
    pln_ns began = pln_clock_precise();
    ck_assert_int_eq(write_set(b, "a", "waits"), PLN_OK);
    ck_assert_int_eq(pln_l2_through(a->l2, &key, &item, began, soon()), PLN_NOT_STORED);
    expect_waiting(b, "a", "a=waits");
    expect_text(b, "a", NULL);
    ck_assert_int_eq(pln_l2_through(a->l2, &key, NULL, began, soon()), PLN_OK);
    expect_waiting(b, "a", "a=waits");
}

static void the_oldest_letters_go_first(struct client *a, struct client *b) {
    struct pln_l2_taking taking = taker('1', true);
    struct pln_l2_letters letters;
    expect_take(b, &taking, "");
    taking.is_first = false;
    const char *keys[] = {"a", "b", "c"}, *taken[] = {"a=v", "b=v", "c=v"};
    for (int i = 0; i < 3; i++) {
        ck_assert_int_eq(write_set(a, keys[i], "v"), PLN_OK);
        (void) bury_one(b, &taking, taken[i], 2);
    }
    expect_depth(a, 0, 2);
    ck_assert_int_eq(pln_l2_letters(a->l2, 0, 0, 1, soon(), &letters), PLN_OK);
    ck_assert_uint_eq(letters.n, 1);
    ck_assert(pln_bytes_equal(letters.letters[0].entry.key, pln_key("b")));
    uint64_t ms = letters.letters[0].entry.ms, seq = letters.letters[0].entry.seq;
    pln_l2_letters_fini(&letters);
    ck_assert_int_eq(pln_l2_letters(a->l2, ms, seq, 10, soon(), &letters), PLN_OK);
    ck_assert_uint_eq(letters.n, 1);
    ck_assert(pln_bytes_equal(letters.letters[0].entry.key, pln_key("c")));
    pln_l2_letters_fini(&letters);
}

#define SEMANTIC(function)                                                                         \
    { #function, function }
const struct semantic queue_semantics[] = {
    SEMANTIC(a_write_that_waits_is_read_heard_and_queued),
    SEMANTIC(keys_and_values_that_wait_are_of_any_bytes),
    SEMANTIC(what_waits_has_its_tags_and_its_life),
    SEMANTIC(what_a_condition_refuses_does_not_wait),
    SEMANTIC(a_swap_that_waits_is_queued_where_it_swaps),
    SEMANTIC(a_full_queue_refuses_and_nothing_is_done),
    SEMANTIC(one_at_a_time_has_the_lead),
    SEMANTIC(who_comes_next_goes_on_with_what_was_taken),
    SEMANTIC(what_waits_is_found_until_it_is_stored),
    SEMANTIC(many_are_taken_and_ended_at_once),
    SEMANTIC(a_letter_is_shown_tried_again_and_dropped),
    SEMANTIC(a_letter_undoes_no_later_write),
    SEMANTIC(a_write_through_leaves_what_waits),
    SEMANTIC(the_oldest_letters_go_first),
};
const int n_queue_semantics = PLN_ARRAY_LEN(queue_semantics);
