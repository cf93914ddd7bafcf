/* SPDX-License-Identifier: MIT
 * test_queue_trouble.c - writes that wait, where something is in their way: what others put into
 * the queue, took out of it, or put in its place; a full server; a user who may not do all. */
#include <check.h>
#include <stdio.h>

#include "queue_server.h"

/* What is in the stream, or in its place, may be anybody's. */
START_TEST(entries_that_are_not_ours_become_dead_letters) {
    struct pln_l2_taking taking = taker('1', true);
    struct pln_l2_entries entries;
    struct pln_l2_letters letters;
    char *line = malloc(70000);
    static const char *const strange[] = {
        "XADD ns:queue * k a",
        "XADD ns:queue * a k b v c f",
        "XADD ns:queue * k a v one f s",
        "XADD ns:queue * k a v one f s256",
        "XADD ns:queue * k a v one f s0x",
        "XADD ns:queue * k a v one f s99999999999999999999999",
        "XADD ns:queue * k a v one f r",
        "XADD ns:queue * k a v one f q0",
        "XADD ns:queue * v one k a f s0",
    };
    ck_assert_int_eq(write_set(&a, "a", "one"), PLN_OK);
    for (size_t i = 0; i < PLN_ARRAY_LEN(strange); i++) {
        command(NULL, strange[i]);
    }
    memset(line, 0, 70000);
    int head = snprintf(line, 100, "XADD ns:queue * k ");
    memset(line + head, 'k', PLN_MAX_KEY + 1);
    memcpy(line + head + PLN_MAX_KEY + 1, " v one f s0", 12);
    command(NULL, line);
    free(line);
    ck_assert_int_eq(write_set(&a, "b", "two"), PLN_OK);
    ck_assert_uint_eq(count_taken(&b, &taking), 0);
    taking.is_first = false;
    ck_assert_int_eq(take(&b, &taking, &entries), PLN_OK);
    ck_assert_uint_eq(entries.n, 2);
    ck_assert(pln_bytes_equal(entries.entries[1].value, pln_key("two")));
    pln_l2_entries_fini(&entries);
    ck_assert(client_logs(&b, "are no writes of ours"));
    expect_depth(&a, 2, PLN_ARRAY_LEN(strange) + 1);
    ck_assert_int_eq(pln_l2_letters(a.l2, 0, 0, 100, soon(), &letters), PLN_OK);
    ck_assert_uint_eq(letters.n, PLN_ARRAY_LEN(strange) + 1);
    for (size_t i = 0; i < letters.n; i++) {
        const struct pln_l2_entry *entry = &letters.letters[i].entry;
        ck_assert(pln_bytes_equal(letters.letters[i].error, pln_key("no write of perilune")));
        ck_assert_int_eq(pln_l2_letter_end(a.l2, entry->ms, entry->seq, true, soon()), PLN_EINVAL);
        ck_assert_int_eq(pln_l2_letter_end(a.l2, entry->ms, entry->seq, false, soon()), PLN_OK);
    }
    pln_l2_letters_fini(&letters);
    expect_depth(&a, 2, 0);
}
END_TEST

START_TEST(entries_that_are_not_ours_hide_none_behind_them) {
    struct pln_l2_taking taking = taker('1', true);
    ck_assert_int_eq(write_set(&a, "a", "one"), PLN_OK);
    expect_take(&a, &taking, "");
    taking.is_first = false;
    ck_assert_uint_eq(count_taken(&a, &taking), 1); /* so there is a group */
    for (int i = 0; i < 3; i++) {
        command(NULL, "XADD ns:queue * what ever");
    }
    ck_assert_int_eq(write_set(&a, "b", "two"), PLN_OK);
    command(NULL, "XREADGROUP GROUP store store STREAMS ns:queue >");
    taking = taker('1', true);
    taking.most = 1;
    expect_take(&a, &taking, "a=one");
    struct pln_l2_queue_state state;
    ck_assert_int_eq(pln_l2_queue_state(a.l2, soon(), &state), PLN_OK);
    taking.after_ms = state.first_ms;
    taking.after_seq = state.first_seq;
    expect_take(&a, &taking, "b=two");
    expect_depth(&a, 2, 3);
}
END_TEST

START_TEST(entries_that_are_not_ours_take_no_letters_place) {
    struct pln_l2_taking taking = taker('1', true);
    command(NULL, "EVAL for\ti=1,10001\tdo\tredis.call('XADD',KEYS[1],'*','k','a','f','r')\tend "
                  "1 ns:queue:dead");
    command(NULL, "XADD ns:queue * what ever");
    expect_take(&a, &taking, "");
    taking.is_first = false;
    expect_take(&a, &taking, "");
    expect_depth(&a, 0, 10001);
}
END_TEST

START_TEST(letters_that_are_not_ours_are_shown_and_dropped) {
    struct pln_l2_letters letters;
    command(NULL, "XADD ns:queue:dead * what ever");
    command(NULL, "XADD ns:queue:dead * k a v b f s0 w nonsense n many e why");
    ck_assert_int_eq(pln_l2_letters(a.l2, 0, 0, 100, soon(), &letters), PLN_OK);
    ck_assert_uint_eq(letters.n, 2);
    ck_assert(pln_bytes_equal(letters.letters[0].error, pln_key("no letter of perilune")));
    ck_assert(letters.letters[1].write_ms == 0 && letters.letters[1].attempts == 0);
    for (size_t i = 0; i < 2; i++) {
        const struct pln_l2_entry *entry = &letters.letters[i].entry;
        ck_assert_int_eq(pln_l2_letter_end(a.l2, entry->ms, entry->seq, false, soon()), PLN_OK);
    }
    pln_l2_letters_fini(&letters);
}
END_TEST

START_TEST(a_letter_that_cannot_be_queued_stays) {
    struct pln_l2_taking taking = taker('1', true);
    struct pln_l2_entries entries;
    struct pln_l2_letters letters;
    expect_take(&a, &taking, "");
    taking.is_first = false;
    ck_assert_int_eq(write_set(&a, "a", "one"), PLN_OK);
    expect_taken(&a, &taking, "a=one", &entries);
    ck_assert_int_eq(pln_l2_queue_bury(a.l2, &taking, entries.entries, 1, "why", 9, soon()),
                     PLN_OK);
    pln_l2_entries_fini(&entries);
    command("1", "DEL ns:queue");
    command("OK", "SET ns:queue nonsense");
    ck_assert_int_eq(pln_l2_letters(a.l2, 0, 0, 9, soon(), &letters), PLN_OK);
    const struct pln_l2_entry *entry = &letters.letters[0].entry;
    ck_assert_int_eq(pln_l2_letter_end(a.l2, entry->ms, entry->seq, true, soon()), PLN_EL2);
    command("1", "DEL ns:queue");
    expect_depth(&a, 0, 1);
    ck_assert_int_eq(pln_l2_letter_end(a.l2, entry->ms, entry->seq, true, soon()), PLN_OK);
    pln_l2_letters_fini(&letters);
    expect_depth(&a, 1, 0);
    expect_waiting(&a, "a", "a=one");
}
END_TEST

START_TEST(what_stands_in_the_queues_place_is_an_error) {
    struct pln_l2_taking taking = taker('1', true);
    struct pln_l2_entries entries;
    struct pln_l2_queue_state state;
    struct pln_hashed key = key_of("a");
    command("OK", "SET ns:queue nonsense");
    ck_assert_int_eq(write_set(&a, "a", "one"), PLN_EL2);
    ck_assert_int_eq(take(&a, &taking, &entries), PLN_EL2);
    ck_assert_int_eq(pln_l2_queue_state(a.l2, soon(), &state), PLN_EL2);
    command("1", "DEL ns:queue");
    command("1", "HSET ns:queue:last a nonsense");
    ck_assert_int_lt(pln_l2_queue_find(a.l2, &key, soon(), &entries), 0);
    command("1", "DEL ns:queue:last");
    ck_assert_int_eq(write_set(&a, "a", "one"), PLN_OK);
    command(NULL, "XADD ns:queue 99999999999999-7 k b v one f s0");
    command(NULL, "HSET ns:queue:last a 99999999999999-7"); /* which is of another key */
    ck_assert_int_eq(pln_l2_queue_find(a.l2, &key, soon(), &entries), PLN_MISS);
}
END_TEST

static int write_any(enum pln_l2_write_kind kind, uint32_t flags, size_t most) {
    struct pln_hashed key = key_of("a");
    struct pln_l2_item item = item_of("two");
    struct pln_l2_value value;
    struct pln_l2_swap swap = {.item = &item, .expects = true, .expected = pln_key("one")};
    struct pln_l2_write write = {.kind = kind,
                                 .item = &item,
                                 .value = item.value,
                                 .set_flags = flags,
                                 .swap = &swap,
                                 .most = most};
    int result = pln_l2_write(a.l2, &key, &write, soon(), &value);
    pln_l2_value_fini(&value);
    return result;
}

/* What is not acknowledged since something of others is in the way is not done by halves. */
START_TEST(a_write_that_fails_is_neither_queued_nor_kept) {
    static const char *const in_the_way[] = {"ns:queue:last", "ns:tags", "ns:queue"};
    char line[64];
    for (size_t i = 0; i < 3; i++) {
        command("OK", "FLUSHALL");
        struct pln_hashed key = key_of("a");
        struct pln_l2_item item = item_of("one");
        ck_assert_int_eq(pln_l2_set(a.l2, &key, &item, 0, soon()), PLN_OK);
        snprintf(line, sizeof line, "SET %s nonsense", in_the_way[i]);
        command("OK", line);
        ck_assert_int_eq(write_any(PLN_L2_WRITE_SET, 0, 9), PLN_EL2);
        ck_assert_ptr_nonnull(strstr(pln_error_text(), "WRONGTYPE"));
        ck_assert_int_eq(write_any(PLN_L2_WRITE_SET, PLN_SET_XX, 9), PLN_EL2);
        ck_assert_int_eq(write_any(PLN_L2_WRITE_SWAP, 0, 9), PLN_EL2);
        ck_assert_ptr_nonnull(strstr(pln_error_text(), "WRONGTYPE"));
        if (i != 1) { /* a removal needs no clock, and does what it can */
            ck_assert_int_eq(write_any(PLN_L2_WRITE_REMOVE, 0, 9), PLN_EL2);
        }
        snprintf(line, sizeof line, "DEL %s", in_the_way[i]);
        command("1", line);
        command("0", "XLEN ns:queue");
        if (i != 1) { /* without the tags' hash all is void */
            expect_text(&a, "a", "one");
        }
    }
}
END_TEST

START_TEST(a_user_who_may_not_queue_changes_nothing) {
    command("OK", "ACL SETUSER default -xadd");
    struct pln_hashed key = key_of("a");
    struct pln_l2_item item = item_of("one");
    ck_assert_int_eq(pln_l2_set(a.l2, &key, &item, 0, soon()), PLN_OK);
    ck_assert_int_eq(write_any(PLN_L2_WRITE_SET, 0, 9), PLN_EL2);
    ck_assert_int_eq(write_any(PLN_L2_WRITE_SET, PLN_SET_XX, 9), PLN_EL2);
    ck_assert_int_eq(write_any(PLN_L2_WRITE_SWAP, 0, 9), PLN_EL2);
    ck_assert_int_eq(write_any(PLN_L2_WRITE_REMOVE, 0, 9), PLN_EL2);
    expect_text(&b, "a", "one");
    expect_waiting(&b, "a", NULL);
}
END_TEST

START_TEST(as_many_may_wait_as_can_be_counted) {
    ck_assert_int_eq(write_set(&a, "a", "one"), PLN_OK);
    ck_assert_int_eq(write_any(PLN_L2_WRITE_SET, 0, SIZE_MAX), PLN_OK);
    ck_assert_int_eq(write_any(PLN_L2_WRITE_SET, PLN_SET_XX, SIZE_MAX), PLN_OK);
    ck_assert_int_eq(write_any(PLN_L2_WRITE_REMOVE, 0, SIZE_MAX), PLN_OK);
    expect_depth(&a, 4, 0);
}
END_TEST

START_TEST(what_others_have_deleted_is_made_anew) {
    struct pln_l2_taking taking = taker('1', true);
    ck_assert_int_eq(write_set(&a, "a", "one"), PLN_OK);
    ck_assert_uint_eq(count_taken(&a, &taking), 0);
    taking.is_first = false;
    ck_assert_uint_eq(count_taken(&a, &taking), 1);
    command("OK", "FLUSHALL");
    taking.is_first = true;
    ck_assert_uint_eq(count_taken(&a, &taking), 0);
    command("0", "EXISTS ns:queue");
    ck_assert_int_eq(write_set(&a, "b", "two"), PLN_OK);
    taking.is_first = false;
    ck_assert_uint_eq(count_taken(&a, &taking), 1);
    command("1", "XGROUP DESTROY ns:queue store"); /* nobody knows now what was taken */
    ck_assert_uint_eq(count_taken(&a, &taking), 1);
    command("1", "XTRIM ns:queue MAXLEN 0"); /* it was taken, and is no more */
    taking.is_first = true;
    ck_assert_uint_eq(count_taken(&a, &taking), 0);
    expect_nothing_taken();
}
END_TEST

START_TEST(many_that_were_taken_and_trimmed_are_forgotten) {
    struct pln_l2_taking taking = taker('1', true);
    /* more than Lua hands over at once */
    command(NULL,
            "EVAL for\ti=1,9000\tdo\tredis.call('XADD',KEYS[1],'*','k','a','v','','f','r')\tend "
            "1 ns:queue");
    command("OK", "XGROUP CREATE ns:queue store 0");
    command(NULL, "XREADGROUP GROUP store store COUNT 9000 STREAMS ns:queue >");
    command("9000", "XTRIM ns:queue MAXLEN 0");
    ck_assert_int_eq(write_set(&a, "a", "one"), PLN_OK);
    taking.most = 10000;
    ck_assert_uint_eq(count_taken(&a, &taking), 0);
    expect_nothing_taken();
    taking.is_first = false;
    ck_assert_uint_eq(count_taken(&a, &taking), 1);
}
END_TEST

START_TEST(a_full_server_that_drops_what_has_a_life_drops_no_lead) {
    struct pln_l2_taking taking = taker('1', true), other = taker('2', true);
    struct pln_l2_entries entries;
    command("OK", "SET ns:other value PX 100000");
    expect_take(&a, &taking, "");
    command("OK", "CONFIG SET maxmemory-policy volatile-ttl");
    command("OK", "CONFIG SET maxmemory 1");
    command(NULL, "SET ns:more value");
    command("0", "EXISTS ns:other");
    ck_assert_int_eq(take(&b, &other, &entries), PLN_PENDING);
    ck_assert_int_eq(pln_l2_queue_hold(a.l2, &taking, soon()), PLN_OK);
    pln_l2_queue_leave(a.l2, &taking, soon());
    expect_take(&b, &other, "");
}
END_TEST

START_TEST(what_stands_in_the_leads_place_ends_with_the_next_one) {
    struct pln_l2_taking taking = taker('1', true);
    command("OK", "SET ns:queue:lead nonsense");
    expect_take(&a, &taking, "");
    ck_assert_int_eq(pln_l2_queue_hold(a.l2, &taking, soon()), PLN_OK);
}
END_TEST

START_TEST(a_full_server_takes_no_set_and_lets_the_queue_be_emptied) {
    struct pln_l2_taking taking = taker('1', true);
    struct pln_l2_entries entries;
    ck_assert_int_eq(write_set(&a, "a", "one"), PLN_OK);
    ck_assert_int_eq(write_set(&a, "b", "two"), PLN_OK);
    command("OK", "CONFIG SET maxmemory 1");
    ck_assert_int_eq(write_set(&a, "a", "three"), PLN_EL2);
    ck_assert_ptr_nonnull(strstr(pln_error_text(), "maxmemory"));
    ck_assert_uint_eq(count_taken(&a, &taking), 0);
    taking.is_first = false;
    ck_assert_int_eq(take(&a, &taking, &entries), PLN_OK);
    ck_assert_uint_eq(entries.n, 2);
    ck_assert_int_eq(pln_l2_queue_bury(a.l2, &taking, &entries.entries[0], 1, "why", 10, soon()),
                     PLN_OK);
    ck_assert_int_eq(pln_l2_queue_end(a.l2, &taking, &entries.entries[1], 1, soon()), PLN_OK);
    pln_l2_entries_fini(&entries);
    expect_depth(&a, 0, 1);
    struct pln_hashed key = key_of("a");
    struct pln_l2_write write = {.kind = PLN_L2_WRITE_REMOVE, .most = 1000};
    struct pln_l2_value value;
    ck_assert_int_eq(pln_l2_write(a.l2, &key, &write, soon(), &value), PLN_OK);
    ck_assert_int_eq(pln_l2_through(a.l2, &key, NULL, pln_clock_precise(), soon()), PLN_OK);
}
END_TEST

int main(void) {
    Suite *suite = suite_create("queue_trouble");
    TCase *tests = tcase_create("redis");
    suite_add_tcase(suite, tests);
    tcase_add_checked_fixture(tests, set_up, tear_down);
    tcase_set_timeout(tests, 60);
    tcase_add_test(tests, entries_that_are_not_ours_become_dead_letters);
    tcase_add_test(tests, entries_that_are_not_ours_hide_none_behind_them);
    tcase_add_test(tests, entries_that_are_not_ours_take_no_letters_place);
    tcase_add_test(tests, letters_that_are_not_ours_are_shown_and_dropped);
    tcase_add_test(tests, a_letter_that_cannot_be_queued_stays);
    tcase_add_test(tests, what_stands_in_the_queues_place_is_an_error);
    tcase_add_test(tests, a_write_that_fails_is_neither_queued_nor_kept);
    tcase_add_test(tests, a_user_who_may_not_queue_changes_nothing);
    tcase_add_test(tests, as_many_may_wait_as_can_be_counted);
    tcase_add_test(tests, what_others_have_deleted_is_made_anew);
    tcase_add_test(tests, many_that_were_taken_and_trimmed_are_forgotten);
    tcase_add_test(tests, a_full_server_that_drops_what_has_a_life_drops_no_lead);
    tcase_add_test(tests, what_stands_in_the_leads_place_ends_with_the_next_one);
    tcase_add_test(tests, a_full_server_takes_no_set_and_lets_the_queue_be_emptied);
    SRunner *runner = srunner_create(suite);
    srunner_run_all(runner, CK_ENV);
    int failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed == 0 ? 0 : 1;
}
