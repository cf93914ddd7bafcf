/* SPDX-License-Identifier: MIT
 * test_queue.c - writes that wait, and those stored first, over a real server: what every tier
 * must do, and what only a server can do to a queue. */
#include <check.h>
#include <stdio.h>
#include <unistd.h>

#include "queue_server.h"
#include "semantics.h"

START_TEST(redis_has_a_queue) {
    queue_semantics[_i].run(&a, &b);
}
END_TEST

START_TEST(redis_takes_what_was_stored_first) {
    through_semantics[_i].run(&a, &b);
}
END_TEST

START_TEST(a_queue_lies_under_its_names) {
    struct pln_l2_taking taking = taker('x', true);
    ck_assert_int_eq(write_set(&a, "a", "one"), PLN_OK);
    ck_assert_uint_eq(count_taken(&a, &taking), 0);
    command("stream", "TYPE ns:queue");
    command("1", "HLEN ns:queue:last");
    command("xxxxxxxxxxxxxxxx", "GETRANGE ns:queue:lead 0 15");
    command("24", "STRLEN ns:queue:lead");
    command("-1", "PTTL ns:queue:lead");
    command("-1", "PTTL ns:queue");
    char *entry = pln_test_redis_command(&server, "XRANGE ns:queue - +");
    ck_assert_ptr_nonnull(strstr(entry, "k\na\nv\none\nf\ns0"));
    free(entry);
    taking.is_first = false;
    struct pln_l2_entries entries;
    ck_assert_int_eq(take(&a, &taking, &entries), PLN_OK);
    ck_assert_int_eq(pln_l2_queue_end(a.l2, &taking, entries.entries, 1, soon()), PLN_OK);
    pln_l2_entries_fini(&entries);
    command("0", "EXISTS ns:queue:last");
    command("0", "XLEN ns:queue");
    expect_nothing_taken();
}
END_TEST

START_TEST(a_lead_ends_by_itself_and_another_goes_on) {
    struct pln_l2_taking first = taker('1', true), second = taker('2', true);
    struct pln_l2_entries entries;
    first.lead = 30;
    ck_assert_int_eq(write_set(&a, "a", "one"), PLN_OK);
    ck_assert_uint_eq(count_taken(&a, &first), 0);
    first.is_first = false;
    (void) take(&a, &first, &entries); /* unless its lead has ended on a slow machine */
    pln_l2_entries_fini(&entries);
    int result;
    do {
        result = take(&b, &second, &entries);
    } while (result == PLN_PENDING);
    ck_assert_int_eq(result, PLN_OK);
    size_t n = entries.n;
    pln_l2_entries_fini(&entries);
    second.is_first = false;
    ck_assert_uint_eq(n + count_taken(&b, &second), 1);
    ck_assert_int_eq(pln_l2_queue_hold(a.l2, &first, soon()), PLN_PENDING);
}
END_TEST

START_TEST(letters_that_are_gone_leave_nothing) {
    struct pln_l2_taking taking = taker('1', true);
    struct pln_l2_entries entries;
    struct pln_l2_letters letters;
    expect_take(&a, &taking, "");
    taking.is_first = false;
    ck_assert_int_eq(write_set(&a, "a", "v"), PLN_OK);
    ck_assert_int_eq(write_set(&a, "b", "v"), PLN_OK);
    expect_taken(&a, &taking, "a=v b=v", &entries);
    for (size_t i = 0; i < 2; i++) {
        int result = pln_l2_queue_bury(a.l2, &taking, &entries.entries[i], 1, "why", 1, soon());
        ck_assert_int_eq(result, PLN_OK);
    }
    pln_l2_entries_fini(&entries);
    command("1", "HLEN ns:queue:last");
    command("1", "HEXISTS ns:queue:last b");
    ck_assert_int_eq(pln_l2_letters(a.l2, 0, 0, 9, soon(), &letters), PLN_OK);
    const struct pln_l2_entry *entry = &letters.letters[0].entry;
    ck_assert_int_eq(pln_l2_letter_end(a.l2, entry->ms, entry->seq, false, soon()), PLN_OK);
    pln_l2_letters_fini(&letters);
    command("0", "EXISTS ns:queue:last");
}
END_TEST

START_TEST(big_writes_are_handed_out_a_few_at_a_time) {
    enum { BIG = 3 << 20, N = 12, AT_ONCE = 5 };
    struct pln_l2_taking taking = taker('1', true);
    struct pln_l2_entries entries;
    char *text = malloc(BIG + 1);
    memset(text, 'x', BIG);
    text[BIG] = 0;
    ck_assert_uint_eq(count_taken(&a, &taking), 0);
    ck_assert_int_eq(write_set(&a, "a", "small"), PLN_OK);
    for (int i = 1; i < N; i++) {
        ck_assert_int_eq(write_set(&a, "a", text), PLN_OK);
    }
    free(text);
    taking.is_first = false;
    size_t n = 0;
    for (int i = 0; i < N && n < N; i++) {
        ck_assert_int_eq(take(&a, &taking, &entries), PLN_OK);
        ck_assert_uint_le(entries.n, AT_ONCE);
        n += entries.n;
        pln_l2_entries_fini(&entries);
    }
    ck_assert_uint_eq(n, N);
    taking = taker('1', true);
    ck_assert_int_eq(take(&a, &taking, &entries), PLN_OK);
    ck_assert(entries.n > 0 && entries.n <= AT_ONCE);
    ck_assert_uint_eq(entries.entries[0].n_taken, 2);
    pln_l2_entries_fini(&entries);
}
END_TEST

START_TEST(a_server_that_evicts_says_so) {
    struct pln_l2_queue_state state;
    command("OK", "CONFIG SET maxmemory-policy allkeys-lru");
    ck_assert_int_eq(pln_l2_queue_state(a.l2, soon(), &state), PLN_OK);
    ck_assert(!state.may_evict); /* it has no bound */
    command("OK", "CONFIG SET maxmemory 1000000000");
    ck_assert_int_eq(pln_l2_queue_state(a.l2, soon(), &state), PLN_OK);
    ck_assert(state.may_evict);
    command("OK", "CONFIG SET maxmemory-policy volatile-lru");
    ck_assert_int_eq(pln_l2_queue_state(a.l2, soon(), &state), PLN_OK);
    ck_assert(!state.may_evict);
}
END_TEST

START_TEST(plain_keys_are_queued_and_removed_through) {
    struct pln_hashed key = key_of("a");
    struct pln_l2_item item = item_of("one");
    struct pln_l2_value value;
    struct pln_l2_write write = {
        .kind = PLN_L2_WRITE_SET, .item = &item, .value = item.value, .most = 1000};
    key.is_plain = true;
    ck_assert_int_eq(pln_l2_write(a.l2, &key, &write, soon(), &value), PLN_OK);
    command("one", "GET ns:v:a");
    expect_depth(&a, 1, 0);
    ck_assert_int_eq(pln_l2_through(a.l2, &key, &item, pln_clock_precise(), soon()),
                     PLN_NOT_STORED);
    command("0", "EXISTS ns:v:a");
    ck_assert_int_eq(pln_l2_through(a.l2, &key, NULL, pln_clock_precise(), soon()), PLN_OK);
    command("0", "EXISTS ns:v:a");
}
END_TEST

START_TEST(a_mark_and_a_short_life_are_seen_for_a_minute) {
    struct pln_hashed key = key_of("a");
    struct pln_l2_item item = item_of("one");
    pln_ns began = pln_clock_precise();
    item.life_left = item.fresh_left = 1;
    ck_assert_int_eq(pln_l2_through(a.l2, &key, &item, pln_clock_precise(), soon()), PLN_OK);
    char *left = pln_test_redis_command(&server, "PTTL ns:v:a");
    ck_assert(atoi(left) > 50000 && atoi(left) <= 60000);
    free(left);
    struct pln_l2_value value;
    int result;
    do {
        result = pln_l2_get(b.l2, &key, soon(), &value);
        if (result == PLN_OK) {
            pln_l2_value_fini(&value);
        }
    } while (result == PLN_OK);
    ck_assert_int_eq(result, PLN_MISS);
    ck_assert_int_eq(pln_l2_through(b.l2, &key, &item, began, soon()), PLN_NOT_STORED);
    left = pln_test_redis_command(&server, "PTTL ns:v:a");
    ck_assert(atoi(left) > 50000 && atoi(left) <= 60000);
    free(left);
}
END_TEST

static void *resume_later(void *arg) {
    (void) arg;
    usleep(50000);
    pln_test_redis_resume(&server);
    return NULL;
}

/* By the time since it was sent the store's begin looks later than it was: too late to tell what
 * was made meanwhile. */
START_TEST(a_write_through_that_was_long_on_its_way_is_not_believed) {
    struct pln_hashed key = key_of("a");
    struct pln_l2_item item = item_of("new");
    pthread_t thread;
    ck_assert_int_eq(pln_l2_remove(a.l2, &key, soon()), PLN_OK); /* it is connected */
    pln_ns began = pln_clock_precise();
    ck_assert_int_eq(pln_l2_through(b.l2, &key, &item, pln_clock_precise(), soon()), PLN_OK);
    pln_test_redis_pause(&server);
    ck_assert_int_eq(pthread_create(&thread, NULL, resume_later, NULL), 0);
    int result = pln_l2_through(a.l2, &key, &item, began, soon());
    pthread_join(thread, NULL);
    ck_assert_int_eq(result, PLN_NOT_STORED);
    expect_text(&b, "a", NULL);
}
END_TEST

START_TEST(the_usual_write_makes_the_tags_hash_where_there_is_none) {
    ck_assert_int_eq(write_set(&a, "a", "one"), PLN_OK);
    command("OK", "FLUSHALL");
    ck_assert_int_eq(write_set(&a, "a", "two"), PLN_OK);
    expect_text(&b, "a", "two");
    command("0", "HEXISTS ns:tags *");
    command("1", "HEXISTS ns:tags #");
    command("1", "XLEN ns:log");
    command("1", "DEL ns:log");
    command("OK", "SET ns:log nonsense");
    ck_assert_int_eq(write_set(&a, "a", "three"), PLN_OK);
    command("1", "XLEN ns:log");
    ck_assert_int_eq(pln_l2_drop_tag(a.l2, pln_key("t"), soon()), PLN_OK);
    expect_text(&b, "a", "three");
    ck_assert_int_eq(pln_l2_clear(b.l2, soon()), PLN_OK); /* others hear of it later */
    expect_text(&b, "a", NULL);
    expect_depth(&a, 2, 0);
}
END_TEST

/* Ids go on from the last one, where the server's clock was set back; values keep to the clock. */
START_TEST(an_id_ahead_of_the_clock_makes_no_value_younger) {
    command(NULL, "XADD ns:queue 99999999999999-7 k b v one f s0");
    ck_assert_int_eq(write_set(&a, "a", "one"), PLN_OK);
    char *made = pln_test_redis_command(&server, "BITFIELD ns:v:a GET i64 64");
    char *now = pln_test_redis_command(&server, "TIME");
    ck_assert_int_le(atoll(made) / 1000, atoll(now));
    ck_assert_int_gt(atoll(made) / 1000, atoll(now) - 10);
    free(made);
    free(now);
}
END_TEST

START_TEST(a_queue_outlives_its_server) {
    static const char *const options[] = {"--appendonly", "yes", "--appendfsync", "always", NULL};
    struct pln_l2_taking taking = taker('1', true);
    struct pln_l2_entries entries;
    set_up_with(options);
    ck_assert_int_eq(write_set(&a, "a", "one"), PLN_OK);
    ck_assert_uint_eq(count_taken(&a, &taking), 0);
    taking.is_first = false;
    ck_assert_uint_eq(count_taken(&a, &taking), 1);
    ck_assert_int_eq(write_set(&a, "b", "two"), PLN_OK);
    pln_test_redis_kill(&server);
    pln_test_redis_restart(&server);
    struct client c;
    open_client(&c);
    taking = taker('2', true);
    int result;
    do { /* the lead of the one before may last */
        result = take(&c, &taking, &entries);
    } while (result == PLN_PENDING);
    ck_assert_msg(result == PLN_OK, "%d (%s)", result, result < 0 ? pln_error_text() : "");
    ck_assert_uint_eq(entries.n, 1);
    ck_assert(pln_bytes_equal(entries.entries[0].value, pln_key("one")));
    pln_l2_entries_fini(&entries);
    taking.is_first = false;
    ck_assert_uint_eq(count_taken(&c, &taking), 1);
    client_fini(&c);
    tear_down();
}
END_TEST

int main(void) {
    Suite *suite = suite_create("queue");
    TCase *redis = tcase_create("redis"), *alone = tcase_create("alone");
    suite_add_tcase(suite, redis);
    suite_add_tcase(suite, alone);
    tcase_add_checked_fixture(redis, set_up, tear_down);
    tcase_set_timeout(redis, 60);
    tcase_set_timeout(alone, 60);
    tcase_add_loop_test(redis, redis_has_a_queue, 0, n_queue_semantics);
    tcase_add_loop_test(redis, redis_takes_what_was_stored_first, 0, n_through_semantics);
    tcase_add_test(redis, a_queue_lies_under_its_names);
    tcase_add_test(redis, a_lead_ends_by_itself_and_another_goes_on);
    tcase_add_test(redis, letters_that_are_gone_leave_nothing);
    tcase_add_test(redis, big_writes_are_handed_out_a_few_at_a_time);
    tcase_add_test(redis, a_server_that_evicts_says_so);
    tcase_add_test(redis, plain_keys_are_queued_and_removed_through);
    tcase_add_test(redis, a_mark_and_a_short_life_are_seen_for_a_minute);
    tcase_add_test(redis, a_write_through_that_was_long_on_its_way_is_not_believed);
    tcase_add_test(redis, the_usual_write_makes_the_tags_hash_where_there_is_none);
    tcase_add_test(redis, an_id_ahead_of_the_clock_makes_no_value_younger);
    tcase_add_test(alone, a_queue_outlives_its_server);
    SRunner *runner = srunner_create(suite);
    srunner_run_all(runner, CK_ENV);
    int failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed == 0 ? 0 : 1;
}
