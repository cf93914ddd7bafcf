/* SPDX-License-Identifier: MIT
 *
 * test_attempt.c - core/attempt.c: calls that fail as a whole, a store that is away, and all of it
 * by chance.
 */
#include "batch_rig.h"

#include <stdio.h>

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

START_TEST(the_pause_before_an_attempt_begins_where_the_one_before_it_ends) {
    is_away = true;
    takes = 30;
    add("a", "1");
    pass(100);
    expect_calls("a=1");
    ck_assert_int_eq(pln_batches_due(batches, now), now + 10 * MS);
    pass(10);
    expect_calls("a=1");
    ck_assert_int_eq(pln_batches_due(batches, now), now + 20 * MS);
}
END_TEST

START_TEST(so_does_that_of_a_store_that_is_away) {
    is_away = true;
    takes = 30;
    add("a", "1");
    add("b", "1");
    pass(100);
    expect_calls("a=1 b=1 | a=1 | b=1");
    ck_assert_int_eq(pln_batches_due(batches, now), now + 10 * MS);
}
END_TEST

/* To be taken is not to be tried: what has been taken anew again and again, since policies came or
 * Redis was away, has half of its attempts before it all the same. */
START_TEST(attempts_of_former_instances_count_for_half_of_all_at_most) {
    bad = "x";
    terms.attempts = 4;
    ck_assert_int_eq(add_taken("a", "x", 2), PLN_OK);
    ck_assert_int_eq(add_taken("b", "x", 50), PLN_OK);
    add("c", "1");
    pass(100);
    expect_over("3");
    ck_assert(!is_any_given_up());
    pass(10);
    expect_given_up(2, 0, "bad");
    ck_assert(!is_any_given_up());
    pass(20);
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
    ck_assert_int_eq(pln_batches_store(batches, &now, batch_store, NULL), PLN_PENDING);
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
        (void) pln_batches_store(batches, &now, store_by_chance, NULL);
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
    Suite *suite = suite_create("attempt");
    TCase *tests = tcase_create("attempt");
    suite_add_tcase(suite, tests);
    tcase_set_timeout(tests, 60);
    tcase_add_checked_fixture(tests, batch_setup, batch_teardown);
    tcase_add_test(tests, one_that_makes_a_whole_call_fail_is_found_by_halves);
    tcase_add_test(tests, two_of_those_are_found_as_well);
    tcase_add_test(tests, in_order_a_half_is_not_stored_before_what_failed_in_the_other);
    tcase_add_test(tests, a_store_that_is_away_is_asked_less_and_less_and_then_has_everything);
    tcase_add_test(tests, with_lasting_pauses_an_outage_gives_up_next_to_nothing);
    tcase_add_test(tests, where_nothing_else_is_there_what_fails_is_given_up_all_the_same);
    tcase_add_test(tests, the_pause_before_an_attempt_begins_where_the_one_before_it_ends);
    tcase_add_test(tests, so_does_that_of_a_store_that_is_away);
    tcase_add_test(tests, attempts_of_former_instances_count_for_half_of_all_at_most);
    tcase_add_test(tests, who_flushes_has_what_failed_tried_at_once);
    tcase_add_test(tests, a_lost_lead_ends_everything);
    tcase_add_test(tests, by_chance_no_key_ever_goes_back);
    tcase_add_test(tests, by_chance_in_order_nothing_is_left_out);
    return rig_run(suite);
}
