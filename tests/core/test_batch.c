/* SPDX-License-Identifier: MIT
 *
 * test_batch.c - core/batch.c and attempt.c: what is gathered, in which order it is stored, when it
 * is tried again, and when it is given up. Time is what the test says, in ms.
 */
#include "rig.h"

#include "../../core/batch.h"

#include <stdio.h>

enum { MS = 1000000 };

static struct pln_batches *batches;
static struct pln_write_options terms, others; /* of keys, and of those that begin with 'o' */
static uint64_t last_id;
static pln_ns now;

/* The store: what it was called with, "a=1 b=2 | c=3", a call after the other. */
static char calls[4096];
static size_t n_calls, n_items;
static bool is_away;            /* it takes nothing */
static const char *poison;      /* a value that makes a call fail as a whole */
static const char *bad, *never; /* values that it says so of */
static bool loses_lead;
static bool is_mute;
static char item_id[64]; /* of the last item, likewise the next two */
static uint64_t item_version;
static unsigned item_attempt;

static void note(const char *text) {
    size_t len = strlen(calls);
    ck_assert_uint_lt(len + strlen(text), sizeof calls);
    snprintf(calls + len, sizeof calls - len, "%s", text);
}

static bool is(struct pln_bytes value, const char *text) {
    return text != NULL && pln_bytes_equal(value, pln_key(text));
}

static bool store(void *arg, size_t group, struct pln_store_item *items, size_t n) {
    char text[64];
    bool fails = is_away;
    (void) arg;
    (void) group;
    if (loses_lead) {
        return false;
    }
    if (!is_mute && n_calls > 0) {
        note(" | ");
    }
    n_calls++;
    n_items += n;
    for (size_t i = 0; i < n; i++) {
        ck_assert_int_eq(items[i].status, PLN_OK);
        ck_assert_int_eq(items[i].error[0], 0);
        snprintf(text, sizeof text, "%s%.*s%s%.*s", i > 0 ? " " : "", (int) items[i].key.len,
                 (const char *) items[i].key.data, items[i].op == PLN_STORE_SET ? "=" : "-",
                 (int) items[i].value.len, (const char *) items[i].value.data);
        if (!is_mute) {
            note(text);
        }
        fails = fails || is(items[i].value, poison);
        snprintf(item_id, sizeof item_id, "%s", items[i].id);
        item_version = items[i].version;
        item_attempt = items[i].attempt;
    }
    for (size_t i = 0; i < n; i++) {
        if (fails) {
            pln_store_fail(&items[i], PLN_ESTORE, "all of it");
        } else if (is(items[i].value, bad)) {
            pln_store_fail(&items[i], PLN_ESTORE, "bad");
        } else if (is(items[i].value, never)) {
            pln_store_fail(&items[i], PLN_EINVAL, "never");
        }
    }
    return true;
}

static const struct pln_write_options *terms_of(void *arg, struct pln_bytes key, size_t *group) {
    const char *name = key.data;
    (void) arg;
    *group = name[0] == 'o' ? 3 : 1;
    return name[0] == '?' ? NULL : name[0] == 'o' ? &others : &terms;
}

static void setup(void) {
    terms = (struct pln_write_options){.strategy = PLN_WRITE_BEHIND,
                                       .batch = 4,
                                       .every_ms = 100,
                                       .attempts = 3,
                                       .backoff_ms = 10,
                                       .dead = 7};
    others = terms;
    last_id = n_calls = n_items = 0;
    now = 1000LL * MS;
    calls[0] = 0;
    is_away = loses_lead = is_mute = false;
    poison = bad = never = NULL;
    ck_assert_int_eq(pln_batches_new(terms_of, NULL, &batches), PLN_OK);
}

static void teardown(void) {
    pln_batches_free(batches);
}

static int add_taken(const char *key, const char *value, unsigned n_taken) {
    struct pln_l2_entry entry = {.ms = ++last_id,
                                 .n_taken = n_taken,
                                 .is_removal = value == NULL,
                                 .key = pln_key(key),
                                 .value = pln_key(value != NULL ? value : "")};
    return pln_batches_add(batches, &entry, now);
}

static void add(const char *key, const char *value) {
    ck_assert_int_eq(add_taken(key, value, 1), PLN_OK);
}

/* Lets time pass, and stores all that is due by then. */
static void pass(pln_ms ms) {
    now += ms * MS;
    while (pln_batches_store(batches, now, store, NULL) == PLN_OK) {
    }
}

static void expect_calls(const char *expected) {
    ck_assert_str_eq(calls, expected);
    calls[0] = 0;
    n_calls = 0;
}

/* The ids that are over, "1 2". */
static void expect_over(const char *expected) {
    char text[256] = "";
    size_t n, len = 0;
    const struct pln_l2_entry *over = pln_batches_over(batches, &n);
    for (size_t i = 0; i < n; i++) {
        len += (size_t) snprintf(text + len, sizeof text - len, "%s%llu", i > 0 ? " " : "",
                                 (unsigned long long) over[i].ms);
    }
    ck_assert_str_eq(text, expected);
    pln_batches_ended(batches);
}

static void expect_given_up(uint64_t id, size_t n_older, const char *error) {
    struct pln_given_up given_up;
    ck_assert(pln_batches_given_up(batches, &given_up));
    ck_assert_uint_eq(given_up.entry->ms, id);
    ck_assert_uint_eq(given_up.n_older, n_older);
    ck_assert_str_eq(given_up.error, error);
    ck_assert_uint_eq(given_up.dead, 7);
    for (size_t i = 0; i < n_older; i++) {
        ck_assert(pln_bytes_equal(given_up.older[i].key, given_up.entry->key));
    }
    pln_batches_buried(batches);
}

static bool is_any_given_up(void) {
    struct pln_given_up given_up;
    return pln_batches_given_up(batches, &given_up);
}

/* ---- gathering ---- */

START_TEST(a_batch_waits_for_others_to_come_with_its_first) {
    add("a", "1");
    ck_assert_int_eq(pln_batches_due(batches, now), now + 100 * MS);
    pass(60);
    add("b", "1");
    expect_calls("");
    ck_assert_int_eq(pln_batches_due(batches, now), now + 40 * MS);
    pass(40);
    expect_calls("a=1 b=1");
    expect_over("1 2");
    ck_assert_uint_eq(pln_batches_count(batches), 0);
    ck_assert_int_eq(pln_batches_due(batches, now), PLN_FOREVER);
}
END_TEST

START_TEST(a_full_batch_does_not_wait) {
    add("a", "1");
    add("b", "1");
    add("c", "1");
    pass(0);
    expect_calls("");
    add("d", "1");
    add("e", "1");
    ck_assert_int_eq(pln_batches_due(batches, now), now);
    pass(0);
    expect_calls("a=1 b=1 c=1 d=1");
    pass(100);
    expect_calls("e=1");
}
END_TEST

START_TEST(the_last_write_of_a_key_stands_for_all_before_it) {
    add("a", "1");
    add("b", "1");
    pass(50);
    add("a", "2");
    add("a", NULL);
    ck_assert_uint_eq(pln_batches_count(batches), 4);
    pass(50); /* it waits no longer for being written again */
    expect_calls("a- b=1");
    expect_over("1 3 4 2");
    ck_assert_uint_eq(pln_batches_count(batches), 0);
}
END_TEST

START_TEST(in_order_every_write_of_a_key_is_stored_in_its_order) {
    terms.in_order = true;
    add("a", "1");
    add("b", "1");
    add("a", "2");
    add("a", "3");
    add("a", "4");
    pass(100);
    expect_calls("a=1 b=1 a=2 a=3 | a=4");
    expect_over("1 2 3 4 5");
}
END_TEST

START_TEST(each_store_has_its_own_batches) {
    others.every_ms = 10;
    add("a", "1");
    add("o", "1");
    add("b", "1");
    pass(10);
    expect_calls("o=1");
    pass(90);
    expect_calls("a=1 b=1");
    ck_assert_uint_eq(pln_batches_report(batches)->group, 1);
}
END_TEST

START_TEST(what_has_no_store_is_left_out) {
    ck_assert_int_eq(add_taken("?", "1", 1), PLN_MISS);
    ck_assert_uint_eq(pln_batches_count(batches), 0);
}
END_TEST

START_TEST(who_is_in_haste_does_not_wait_for_others) {
    add("a", "1");
    pln_batches_set_hasty(batches, true);
    pass(0);
    expect_calls("a=1");
    add("b", "1");
    pass(0);
    expect_calls("b=1");
    pln_batches_set_hasty(batches, false);
    add("c", "1");
    pass(0);
    expect_calls("");
}
END_TEST

START_TEST(an_item_says_its_id_its_version_and_how_often_it_was_tried) {
    const uint64_t ms = 1700000000000;
    struct pln_l2_entry entry = {.ms = ms, .seq = 7, .n_taken = 2, .key = pln_key("a")};
    bad = "";
    ck_assert_int_eq(pln_batches_add(batches, &entry, now), PLN_OK);
    pass(100);
    ck_assert_str_eq(item_id, "1700000000000-7");
    ck_assert_uint_eq(item_version, (ms << 20) + 7);
    ck_assert_uint_eq(item_attempt, 2);
    pass(10);
    ck_assert_uint_eq(item_attempt, 3);
    teardown();
    setup();
    entry.seq = 1 << 20; /* a version never reaches into the next ms */
    ck_assert_int_eq(pln_batches_add(batches, &entry, now), PLN_OK);
    pass(100);
    ck_assert_uint_eq(item_version, (ms << 20) + (1 << 20) - 1);
}
END_TEST

START_TEST(what_is_held_has_bounds) {
    char key[16];
    ck_assert(!pln_batches_are_full(batches));
    for (int i = 0; i < PLN_HELD_MOST; i++) {
        snprintf(key, sizeof key, "k%d", i);
        add(key, "1");
    }
    ck_assert(pln_batches_are_full(batches));
    is_mute = true;
    pass(100);
    ck_assert_uint_eq(n_items, PLN_HELD_MOST);
    ck_assert(pln_batches_are_full(batches)); /* until it has left the queue */
    size_t n;
    (void) pln_batches_over(batches, &n);
    ck_assert_uint_eq(n, PLN_HELD_MOST);
    pln_batches_ended(batches);
    ck_assert(!pln_batches_are_full(batches));
}
END_TEST

/* ---- failing ---- */

START_TEST(one_that_fails_is_tried_again_later_and_later_and_then_given_up) {
    bad = "x";
    add("a", "x");
    add("b", "1");
    pass(100);
    expect_calls("a=x b=1");
    expect_over("2");
    ck_assert_int_eq(pln_batches_due(batches, now), now + 10 * MS);
    pass(9);
    expect_calls("");
    pass(1);
    expect_calls("a=x");
    ck_assert_int_eq(pln_batches_due(batches, now), now + 20 * MS);
    ck_assert(!is_any_given_up());
    pass(20);
    expect_calls("a=x");
    expect_given_up(1, 0, "bad");
    ck_assert_uint_eq(pln_batches_count(batches), 0);
}
END_TEST

START_TEST(one_that_can_never_be_stored_is_given_up_at_once) {
    never = "x";
    add("a", "1");
    add("a", "x");
    add("b", "1");
    pass(100);
    expect_over("3");
    expect_given_up(2, 1, "never");
}
END_TEST

START_TEST(several_that_can_never_be_stored_are_each_asked_for) {
    never = "x";
    add("a", "x");
    add("b", "x");
    add("c", "x");
    pass(100);
    expect_calls("a=x b=x c=x | a=x b=x | c=x | a=x | b=x");
    expect_given_up(1, 0, "never");
    expect_given_up(2, 0, "never");
    expect_given_up(3, 0, "never");
}
END_TEST

START_TEST(a_later_write_takes_the_place_of_one_that_failed_and_begins_anew) {
    bad = "x";
    add("a", "x");
    pass(100);
    pass(10);
    expect_calls("a=x | a=x");
    add("a", "2");
    pass(99);
    expect_calls("");
    pass(1);
    expect_calls("a=2");
    expect_over("1 2");
}
END_TEST

START_TEST(in_order_later_writes_wait_behind_one_that_failed) {
    terms.in_order = true;
    bad = "x";
    add("a", "x");
    add("b", "1");
    add("a", "2");
    pass(100);
    expect_calls("a=x b=1 a=2");
    expect_over("2"); /* whatever the store says of the third: it is not known to be in order */
    add("a", "3");
    bad = NULL;
    pass(10);
    expect_calls("a=x a=2 a=3");
    expect_over("1 3 4");
}
END_TEST

START_TEST(in_order_what_follows_one_given_up_waits_until_that_is_buried) {
    terms.in_order = true;
    never = "x";
    add("a", "x");
    add("a", "2");
    pass(100);
    expect_calls("a=x a=2 | a=x");
    pass(1000);
    expect_calls("");
    expect_given_up(1, 0, "never");
    pass(0);
    expect_calls("a=2");
    expect_over("2");
}
END_TEST

START_TEST(a_write_that_comes_after_one_was_given_up_waits_until_that_is_buried) {
    never = "x";
    add("a", "x");
    pass(100);
    add("a", "2");
    pass(1000);
    expect_calls("a=x");
    expect_given_up(1, 0, "never");
    pass(0);
    expect_calls("a=2");
    expect_over("2");
}
END_TEST

START_TEST(nothing_is_buried_before_what_is_over_is_ended) {
    never = "x";
    add("a", "1");
    add("b", "x");
    pass(100);
    ck_assert(!is_any_given_up());
    expect_over("1");
    expect_given_up(2, 0, "never");
}
END_TEST

/* ---- failing as a whole ---- */

START_TEST(one_that_makes_a_whole_call_fail_is_found_by_halves) {
    poison = "x";
    terms.batch = 8;
    add("a", "1");
    add("b", "1");
    add("c", "1");
    add("d", "1");
    add("e", "1");
    add("f", "x");
    add("g", "1");
    pass(100);
    expect_calls("a=1 b=1 c=1 d=1 e=1 f=x g=1 | a=1 b=1 c=1 d=1 | e=1 f=x g=1 | e=1 f=x | g=1 | "
                 "e=1 | f=x");
    expect_over("1 2 3 4 5 7");
    add("h", "1");
    pass(9);
    expect_calls("");
    pass(1); /* it goes alone from now on, and h waits for others */
    expect_calls("f=x");
    pass(90);
    expect_calls("f=x | h=1");
    expect_over("8");
    expect_given_up(6, 0, "all of it");
}
END_TEST

START_TEST(two_of_those_are_found_as_well) {
    poison = "x";
    terms.batch = 4;
    add("a", "x");
    add("b", "1");
    add("c", "1");
    add("d", "x");
    pass(100);
    expect_calls("a=x b=1 c=1 d=x | a=x b=1 | c=1 d=x"); /* the store may be away */
    pass(10);
    expect_calls("a=x b=1 | a=x | b=1 | c=1 d=x | c=1 | d=x");
    expect_over("2 3");
    pass(10);
    expect_calls("a=x | d=x");
    pass(20);
    expect_calls("a=x | d=x");
    expect_given_up(1, 0, "all of it");
    expect_given_up(4, 0, "all of it");
}
END_TEST

START_TEST(in_order_a_half_is_not_stored_before_what_failed_in_the_other) {
    terms.in_order = true;
    poison = "x";
    add("a", "x");
    add("b", "1");
    add("a", "2");
    add("c", "1");
    pass(100);
    expect_calls("a=x b=1 a=2 c=1 | a=x b=1 | c=1 | a=x | b=1");
    expect_over("2 4");
    poison = NULL;
    pass(10);
    expect_calls("a=x | a=2");
    expect_over("1 3");
}
END_TEST

START_TEST(a_store_that_is_away_is_asked_less_and_less_and_then_has_everything) {
    char key[16];
    terms.batch = 100;
    is_away = true;
    is_mute = true;
    for (int i = 0; i < 100; i++) {
        snprintf(key, sizeof key, "k%d", i);
        add(key, "1");
    }
    pass(100);
    ck_assert_uint_eq(n_calls, 3);
    pass(9);
    ck_assert_uint_eq(n_calls, 3);
    pass(1);
    ck_assert_uint_eq(n_calls, 6);
    for (int i = 0; i < 600; i++) {
        pass(100);
    }
    ck_assert_uint_lt(n_calls, 500); /* a minute, and never more than one each pause of 160 ms */
    is_away = false;
    for (int i = 0; i < 20; i++) {
        pass(100);
    }
    size_t n, n_lost = 0;
    (void) pln_batches_over(batches, &n);
    pln_batches_ended(batches);
    while (is_any_given_up()) {
        pln_batches_buried(batches);
        n_lost++;
    }
    ck_assert_uint_eq(n + n_lost, 100);
    ck_assert_uint_eq(pln_batches_count(batches), 0);
}
END_TEST

START_TEST(with_lasting_pauses_an_outage_gives_up_next_to_nothing) {
    char key[16];
    size_t n, n_lost = 0;
    terms = (struct pln_write_options){.strategy = PLN_WRITE_BEHIND, /* the defaults */
                                       .batch = 500,
                                       .every_ms = 100,
                                       .attempts = 10,
                                       .backoff_ms = 200,
                                       .dead = 7};
    is_away = true;
    is_mute = true;
    for (int i = 0; i < 5000; i++) {
        snprintf(key, sizeof key, "k%d", i);
        add(key, "1");
    }
    for (int i = 0; i < 10 * 60; i++) {
        pass(1000);
    }
    while (is_any_given_up()) {
        pln_batches_buried(batches);
        n_lost++;
    }
    ck_assert_uint_lt(n_lost, 12); /* of ten minutes */
    is_away = false;
    for (int i = 0; i < 100; i++) {
        pass(1000);
    }
    (void) pln_batches_over(batches, &n);
    ck_assert_uint_eq(n + n_lost, 5000);
}
END_TEST

START_TEST(where_nothing_else_is_there_what_fails_is_given_up_all_the_same) {
    is_away = true;
    add("a", "1");
    add("b", "1");
    add("c", "1");
    add("d", "1");
    add("e", "1");
    for (int i = 0; i < 100; i++) {
        pass(100);
    }
    for (int i = 0; i < 5; i++) {
        ck_assert(is_any_given_up());
        pln_batches_buried(batches);
    }
    ck_assert_uint_eq(pln_batches_count(batches), 0);
}
END_TEST

START_TEST(attempts_of_former_instances_count) {
    bad = "x";
    ck_assert_int_eq(add_taken("a", "x", 3), PLN_OK);
    add("b", "1");
    pass(100);
    expect_over("2");
    expect_given_up(1, 0, "bad");
}
END_TEST

START_TEST(who_flushes_has_what_failed_tried_at_once) {
    bad = "x";
    add("a", "x");
    pass(100);
    pln_batches_hurry(batches, now);
    pass(0);
    expect_calls("a=x | a=x");
}
END_TEST

START_TEST(a_lost_lead_ends_everything) {
    add("a", "1");
    now += 100 * MS;
    loses_lead = true;
    ck_assert_int_eq(pln_batches_store(batches, now, store, NULL), PLN_PENDING);
    pln_batches_clear(batches);
    ck_assert_uint_eq(pln_batches_count(batches), 0);
    ck_assert_int_eq(pln_batches_due(batches, now), PLN_FOREVER);
    loses_lead = false;
    pass(1000);
    expect_calls("");
    add("a", "1");
    pass(100);
    expect_calls("a=1");
}
END_TEST

/* ---- all of it, against what must hold ---- */

enum { N_KEYS = 12, N_ROUNDS = 3000 };

/* The values of each key in the order in which they were written are 1, 2, 3, ...; what a store has
 * taken of a key never goes back, but to what was not ended when an instance was lost. */
static unsigned written[N_KEYS], stored[N_KEYS], ended[N_KEYS];
static unsigned chance; /* in percent */

static unsigned draw(void) {
    static uint64_t state = 88172645463325252ULL;
    state ^= state << 13;
    state ^= state >> 7;
    state ^= state << 17;
    return (unsigned) (state >> 33);
}

static bool store_by_chance(void *arg, size_t group, struct pln_store_item *items, size_t n) {
    bool fails = draw() % 100 < chance;
    (void) arg;
    (void) group;
    for (size_t i = 0; i < n; i++) {
        unsigned key = (unsigned) atoi((const char *) items[i].key.data + 1);
        unsigned value = (unsigned) atoi(items[i].value.data);
        bool fails_alone = draw() % 100 < chance;
        if (fails || fails_alone) {
            pln_store_fail(&items[i], PLN_ESTORE, "by chance");
        } else {
            ck_assert_uint_gt(value, ended[key]);
            if (!terms.in_order) {
                ck_assert_uint_gt(value, stored[key]);
            }
            stored[key] = value;
        }
    }
    return true;
}

static void end_some(void) {
    size_t n;
    struct pln_given_up given_up;
    const struct pln_l2_entry *over = pln_batches_over(batches, &n);
    for (size_t i = 0; i < n; i++) {
        unsigned key = (unsigned) (over[i].ms % N_KEYS);
        ck_assert_uint_gt(over[i].seq, ended[key]); /* never a newer one before an older one */
        ended[key] = (unsigned) over[i].seq;
    }
    pln_batches_ended(batches);
    while (pln_batches_given_up(batches, &given_up)) {
        unsigned key = (unsigned) (given_up.entry->ms % N_KEYS);
        ck_assert_uint_gt(given_up.entry->seq, ended[key]);
        ended[key] = (unsigned) given_up.entry->seq;
        pln_batches_buried(batches);
    }
}

static void play(void) {
    char key[16], value[16];
    memset(written, 0, sizeof written);
    memset(stored, 0, sizeof stored);
    memset(ended, 0, sizeof ended);
    for (int i = 0; i < N_ROUNDS; i++) {
        chance = i < N_ROUNDS - 500 ? 20 : 0;
        for (unsigned n = draw() % 4; n > 0 && i < N_ROUNDS - 500; n--) {
            unsigned which = draw() % N_KEYS;
            snprintf(key, sizeof key, "k%u:", which);
            snprintf(value, sizeof value, "%u", ++written[which]);
            struct pln_l2_entry entry = {.ms = which,
                                         .seq = written[which],
                                         .key = pln_key(key),
                                         .value = pln_bytes_of(value, strlen(value) + 1)};
            ck_assert_int_eq(pln_batches_add(batches, &entry, now), PLN_OK);
        }
        now += (pln_ns) (draw() % 60) * MS;
        (void) pln_batches_store(batches, now, store_by_chance, NULL);
        if (draw() % 2 == 0) {
            end_some();
        }
    }
    end_some();
    ck_assert_uint_eq(pln_batches_count(batches), 0);
    for (unsigned i = 0; i < N_KEYS; i++) {
        ck_assert_uint_gt(written[i], 10);
        ck_assert_uint_eq(ended[i], written[i]);
    }
}

START_TEST(by_chance_no_key_ever_goes_back) {
    play();
}
END_TEST

START_TEST(by_chance_in_order_nothing_is_left_out) {
    terms.in_order = true;
    play();
}
END_TEST

int main(void) {
    Suite *suite = suite_create("batch");
    TCase *tests = tcase_create("batch");
    suite_add_tcase(suite, tests);
    tcase_add_checked_fixture(tests, setup, teardown);
    tcase_add_test(tests, a_batch_waits_for_others_to_come_with_its_first);
    tcase_add_test(tests, a_full_batch_does_not_wait);
    tcase_add_test(tests, the_last_write_of_a_key_stands_for_all_before_it);
    tcase_add_test(tests, in_order_every_write_of_a_key_is_stored_in_its_order);
    tcase_add_test(tests, each_store_has_its_own_batches);
    tcase_add_test(tests, what_has_no_store_is_left_out);
    tcase_add_test(tests, who_is_in_haste_does_not_wait_for_others);
    tcase_add_test(tests, an_item_says_its_id_its_version_and_how_often_it_was_tried);
    tcase_add_test(tests, what_is_held_has_bounds);
    tcase_add_test(tests, one_that_fails_is_tried_again_later_and_later_and_then_given_up);
    tcase_add_test(tests, one_that_can_never_be_stored_is_given_up_at_once);
    tcase_add_test(tests, several_that_can_never_be_stored_are_each_asked_for);
    tcase_add_test(tests, a_later_write_takes_the_place_of_one_that_failed_and_begins_anew);
    tcase_add_test(tests, in_order_later_writes_wait_behind_one_that_failed);
    tcase_add_test(tests, in_order_what_follows_one_given_up_waits_until_that_is_buried);
    tcase_add_test(tests, a_write_that_comes_after_one_was_given_up_waits_until_that_is_buried);
    tcase_add_test(tests, nothing_is_buried_before_what_is_over_is_ended);
    tcase_add_test(tests, one_that_makes_a_whole_call_fail_is_found_by_halves);
    tcase_add_test(tests, two_of_those_are_found_as_well);
    tcase_add_test(tests, in_order_a_half_is_not_stored_before_what_failed_in_the_other);
    tcase_add_test(tests, a_store_that_is_away_is_asked_less_and_less_and_then_has_everything);
    tcase_add_test(tests, with_lasting_pauses_an_outage_gives_up_next_to_nothing);
    tcase_add_test(tests, where_nothing_else_is_there_what_fails_is_given_up_all_the_same);
    tcase_add_test(tests, attempts_of_former_instances_count);
    tcase_add_test(tests, who_flushes_has_what_failed_tried_at_once);
    tcase_add_test(tests, a_lost_lead_ends_everything);
    tcase_add_test(tests, by_chance_no_key_ever_goes_back);
    tcase_add_test(tests, by_chance_in_order_nothing_is_left_out);
    return rig_run(suite);
}
