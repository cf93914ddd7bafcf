/* SPDX-License-Identifier: MIT
 * test_feed.c - l2/feed.c: the row of messages as its listener sees it, by itself and beside a
 * naive model that keeps the set of all numbers; and hear.c's place in it. */
#include <check.h>
#include <stdio.h>

#include "../../l2/internal.h"

enum { BASE = 1000 };

static struct pln_feed feed;

static struct pln_bytes text_of(uint64_t number, const char *of) {
    static char text[64];
    int len = snprintf(text, sizeof text, "%s %llu", of, (unsigned long long) number);
    return pln_bytes_of(text, (size_t) len);
}

static struct pln_feed_state state_of(const char *run_id, uint64_t base, uint64_t number) {
    struct pln_feed_state state = {
        .base = base, .number = number, .known = pln_feed_known(&feed), .at = 77};
    snprintf(state.run_id, sizeof state.run_id, "%s", run_id);
    return state;
}

static struct pln_feed_state same(uint64_t number) {
    return state_of("server", BASE, number);
}

static void begin(void) {
    pln_feed_init(&feed);
    struct pln_feed_state state = same(BASE);
    ck_assert_int_eq(pln_feed_sync(&feed, &state), PLN_FEED_NEW);
    pln_feed_begin(&feed, &state);
}

static void take(uint64_t number) {
    pln_feed_take(&feed, number, text_of(number, "m"));
}

static bool take_logged(const struct pln_feed_state *state, uint64_t number, const char *of,
                        bool is_ours, bool *is_other) {
    return pln_feed_take_logged(&feed, state, number, text_of(number, of), is_ours, is_other);
}

START_TEST(before_it_has_begun_nothing_counts) {
    pln_feed_init(&feed);
    take(5);
    ck_assert_uint_eq(feed.last, 0);
    ck_assert(!pln_feed_is_broken(&feed));
    ck_assert_uint_eq(pln_feed_known(&feed), 0);
}
END_TEST

START_TEST(a_row_goes_on_and_old_ones_are_passed_over) {
    begin();
    take(BASE + 1);
    take(BASE + 2);
    take(BASE + 2);
    take(BASE + 1);
    take(BASE);
    take(0);
    ck_assert_uint_eq(feed.last, BASE + 2);
    ck_assert(!pln_feed_is_broken(&feed));
}
END_TEST

START_TEST(it_says_how_far_it_was_heard_and_never_further) {
    pln_feed_init(&feed);
    ck_assert_uint_eq(pln_feed_heard(&feed), 0);
    begin();
    ck_assert_uint_eq(pln_feed_heard(&feed), BASE);
    take(BASE + 2);
    ck_assert_uint_eq(pln_feed_heard(&feed), BASE);
    pln_feed_ack(&feed, BASE + 3);
    take(BASE + 1);
    ck_assert_uint_eq(pln_feed_heard(&feed), BASE + 2);
    struct pln_feed_state state = state_of("another", 5, 5);
    pln_feed_begin(&feed, &state);
    ck_assert_uint_eq(pln_feed_heard(&feed), 5);
}
END_TEST

START_TEST(a_gap_is_one_until_it_closes) {
    begin();
    take(BASE + 3);
    ck_assert(pln_feed_is_broken(&feed));
    take(BASE + 1);
    ck_assert(pln_feed_is_broken(&feed));
    ck_assert_uint_eq(feed.last, BASE + 1);
    take(BASE + 2);
    ck_assert(!pln_feed_is_broken(&feed));
    ck_assert_uint_eq(feed.last, BASE + 3);
}
END_TEST

START_TEST(a_gap_as_wide_as_the_window_closes_and_a_wider_one_never_does) {
    begin();
    for (uint64_t i = PLN_FEED_AHEAD - 1; i > 1; i--) {
        take(BASE + i);
        ck_assert_uint_eq(feed.last, BASE);
    }
    take(BASE + 1);
    ck_assert_uint_eq(feed.last, BASE + PLN_FEED_AHEAD - 1);
    ck_assert(!pln_feed_is_broken(&feed));
    uint64_t last = feed.last;
    take(last + PLN_FEED_AHEAD);
    ck_assert(pln_feed_is_broken(&feed));
    for (uint64_t i = 1; i <= PLN_FEED_AHEAD; i++) {
        take(last + i);
    }
    ck_assert(pln_feed_is_broken(&feed)); /* what came too far ahead was not kept */
    take(UINT64_MAX);
    ck_assert_uint_eq(feed.last, last + PLN_FEED_AHEAD);
}
END_TEST

/* ---- beside a model ---- */

static uint64_t dice = 1;

static uint64_t roll(uint64_t n) {
    dice ^= dice << 13;
    dice ^= dice >> 7;
    dice ^= dice << 17;
    return dice % n;
}

START_TEST(a_thousand_disorders_end_as_the_model_does) {
    enum { N = 400 };
    for (int run = 0; run < 1000; run++) {
        bool is_taken[N + 200] = {false};
        uint64_t last = 0, at = 0;
        bool has_lost = false;
        begin();
        for (int i = 0; i < N; i++) {
            at += roll(8) != 0; /* the server's row */
            uint64_t number = roll(10) == 0 ? at + roll(100) : at > 6 ? at - roll(6) : at;
            take(BASE + number);
            has_lost = has_lost || (number > last && number - last >= PLN_FEED_AHEAD);
            is_taken[number] = is_taken[number] || number < last + PLN_FEED_AHEAD;
            while (is_taken[last + 1]) {
                last++;
            }
            bool has_more = false;
            for (uint64_t j = last + 1; j < last + PLN_FEED_AHEAD; j++) {
                has_more = has_more || is_taken[j];
            }
            if (feed.last != BASE + last || pln_feed_is_broken(&feed) != (has_lost || has_more)) {
                ck_abort_msg("run %d, message %d: at %llu, not %llu", run, i,
                             (unsigned long long) feed.last, (unsigned long long) (BASE + last));
            }
        }
    }
}
END_TEST

/* ---- what a server says when the link is up again ---- */

START_TEST(a_server_that_has_said_no_more_is_gone_on_with) {
    begin();
    take(BASE + 1);
    struct pln_feed_state state = same(BASE + 1);
    ck_assert_int_eq(pln_feed_sync(&feed, &state), PLN_FEED_SAME);
    ck_assert(pln_feed_has_all(&feed, &state));
    ck_assert_int_eq(feed.certain_at, 77);
}
END_TEST

START_TEST(what_was_said_meanwhile_is_read_and_what_was_ahead_forgotten) {
    bool is_other;
    begin();
    take(BASE + 1);
    take(BASE + 3);
    struct pln_feed_state state = same(BASE + 3);
    ck_assert_int_eq(pln_feed_sync(&feed, &state), PLN_FEED_READ);
    ck_assert(!pln_feed_is_broken(&feed));
    ck_assert(take_logged(&state, BASE + 1, "m", false, &is_other));
    ck_assert(!pln_feed_has_all(&feed, &state));
    ck_assert(take_logged(&state, BASE + 2, "m", false, &is_other));
    ck_assert_uint_eq(feed.last, BASE + 2);
    ck_assert(!pln_feed_has_all(&feed, &state));
    ck_assert(take_logged(&state, BASE + 3, "m", false, &is_other));
    ck_assert(pln_feed_has_all(&feed, &state));
    ck_assert(!take_logged(&state, BASE + 5, "m", false, &is_other)); /* not the next */
    ck_assert(!is_other);
    ck_assert(!take_logged(&state, BASE + 1, "m", false, &is_other)); /* an old one */
}
END_TEST

START_TEST(another_row_is_new_and_a_lower_number_is_a_loss) {
    begin();
    take(BASE + 1);
    take(BASE + 2);
    struct pln_feed_state state = state_of("server", BASE + 500000, BASE + 500000);
    ck_assert_int_eq(pln_feed_sync(&feed, &state), PLN_FEED_NEW);
    state = same(BASE + 1);
    ck_assert_int_eq(pln_feed_sync(&feed, &state), PLN_FEED_LOST);
    state = state_of("server", BASE - 500, BASE - 500);
    ck_assert_int_eq(pln_feed_sync(&feed, &state), PLN_FEED_LOST);
    pln_feed_begin(&feed, &state);
    ck_assert_uint_eq(feed.last, BASE - 500);
    ck_assert_uint_eq(feed.base, BASE - 500);
}
END_TEST

/* A number that was acknowledged is known though its message has not come. */
START_TEST(what_was_acknowledged_counts_as_known_until_the_row_begins_anew) {
    begin();
    pln_feed_ack(&feed, BASE + 5);
    pln_feed_ack(&feed, BASE + 3);
    ck_assert_uint_eq(pln_feed_known(&feed), BASE + 5);
    struct pln_feed_state state = same(BASE + 4);
    ck_assert(!pln_feed_beat(&feed, &state));
    ck_assert_int_eq(pln_feed_sync(&feed, &state), PLN_FEED_LOST);
    pln_feed_begin(&feed, &state);
    ck_assert_uint_eq(pln_feed_known(&feed), BASE + 4);
    state = same(BASE + 4); /* what it has forgotten is not held against it for ever */
    ck_assert(pln_feed_beat(&feed, &state));
    ck_assert_int_eq(pln_feed_sync(&feed, &state), PLN_FEED_SAME);
}
END_TEST

/* Acknowledged after the server was asked: it need not know it. */
START_TEST(what_is_acknowledged_while_the_server_answers_is_no_loss) {
    begin();
    struct pln_feed_state state = same(BASE);
    pln_feed_ack(&feed, BASE + 1);
    ck_assert(pln_feed_beat(&feed, &state));
    ck_assert_int_eq(pln_feed_sync(&feed, &state), PLN_FEED_SAME);
}
END_TEST

/* ---- another server, another history ---- */

START_TEST(another_server_with_the_same_history_is_gone_on_with) {
    bool is_other;
    begin();
    take(BASE + 1);
    struct pln_feed_state state = state_of("other", BASE, BASE + 2);
    ck_assert_int_eq(pln_feed_sync(&feed, &state), PLN_FEED_READ);
    ck_assert(!pln_feed_has_all(&feed, &state));
    ck_assert(take_logged(&state, BASE + 1, "m", false, &is_other));
    ck_assert(take_logged(&state, BASE + 2, "m", false, &is_other));
    ck_assert(pln_feed_has_all(&feed, &state));
    ck_assert_str_eq(feed.run_id, "other");
}
END_TEST

START_TEST(another_history_is_told_by_the_entry_where_the_row_ended) {
    bool is_other;
    begin();
    take(BASE + 1);
    struct pln_feed_state state = state_of("other", BASE, BASE + 1);
    ck_assert_int_eq(pln_feed_sync(&feed, &state), PLN_FEED_READ);
    ck_assert(!take_logged(&state, BASE + 1, "another", false, &is_other));
    ck_assert(is_other);
    ck_assert(!pln_feed_has_all(&feed, &state));
    ck_assert_str_eq(feed.run_id, "server");
}
END_TEST

START_TEST(without_that_entry_another_server_is_not_believed) {
    bool is_other;
    begin();
    take(BASE + 1);
    struct pln_feed_state state = state_of("other", BASE, BASE + 2);
    ck_assert_int_eq(pln_feed_sync(&feed, &state), PLN_FEED_READ);
    ck_assert(!take_logged(&state, BASE + 2, "m", false, &is_other));
    ck_assert(!is_other);
    begin(); /* nothing was heard here, so there is nothing to compare */
    state = state_of("other", BASE, BASE + 1);
    ck_assert(take_logged(&state, BASE, "m", false, &is_other));
    ck_assert(!take_logged(&state, BASE + 1, "m", false, &is_other));
    ck_assert(!is_other);
    ck_assert(!pln_feed_has_all(&feed, &state));
}
END_TEST

START_TEST(what_was_heard_of_a_row_is_no_witness_against_the_next) {
    bool is_other;
    begin();
    take(BASE + 1);
    struct pln_feed_state state = same(BASE + 1 + PLN_FEED_AHEAD); /* the same place to be kept */
    pln_feed_begin(&feed, &state);
    ck_assert(take_logged(&state, state.number, "another", false, &is_other));
    ck_assert(!is_other);
}
END_TEST

START_TEST(a_server_that_does_not_say_who_it_is_is_never_the_same) {
    pln_feed_init(&feed);
    struct pln_feed_state state = state_of("", BASE, BASE);
    pln_feed_begin(&feed, &state);
    ck_assert_int_eq(pln_feed_sync(&feed, &state), PLN_FEED_READ);
    ck_assert(!pln_feed_has_all(&feed, &state));
}
END_TEST

/* Our change had that number: where somebody else's has it, ours was lost. */
START_TEST(an_own_number_that_is_anothers_shows_another_history) {
    bool is_other;
    begin();
    take(BASE + 1);
    pln_feed_ack(&feed, BASE + 2); /* whose message did not come */
    struct pln_feed_state state = state_of("other", BASE, BASE + 3);
    ck_assert_int_eq(pln_feed_sync(&feed, &state), PLN_FEED_READ);
    ck_assert(take_logged(&state, BASE + 1, "m", false, &is_other));
    ck_assert(!take_logged(&state, BASE + 2, "theirs", false, &is_other));
    ck_assert(is_other);
    ck_assert(take_logged(&state, BASE + 2, "ours", true, &is_other));
}
END_TEST

/* ---- heartbeats ---- */

START_TEST(what_a_beat_promised_must_have_come_with_the_sign_of_life) {
    begin();
    ck_assert(pln_feed_confirm(&feed)); /* nothing was promised */
    ck_assert_int_eq(feed.certain_at, 77);
    struct pln_feed_state state = same(BASE + 2);
    state.at = 100;
    ck_assert(pln_feed_beat(&feed, &state));
    take(BASE + 1);
    take(BASE + 2);
    ck_assert_int_eq(feed.certain_at, 77); /* not before the sign: there may be more than numbers */
    ck_assert(pln_feed_confirm(&feed));
    ck_assert_int_eq(feed.certain_at, 100);
    state = same(BASE + 3);
    ck_assert(pln_feed_beat(&feed, &state));
    ck_assert(!pln_feed_confirm(&feed));
    ck_assert_int_eq(feed.certain_at, 100);
    state.base++;
    ck_assert(!pln_feed_beat(&feed, &state));
}
END_TEST

/* ---- a link that comes up ---- */

static void count_key(void *arg, struct pln_bytes key) {
    (void) key;
    ++*(int *) arg;
}

static void hear(struct pln_node *node, const char *text, size_t len) {
    char channel[] = "ns:inv:2", kind[] = "message";
    char copy[64];
    memcpy(copy, text, len);
    struct pln_reply parts[3] = {
        {.kind = PLN_REPLY_STRING, .bytes = pln_bytes_of(kind, 7)},
        {.kind = PLN_REPLY_STRING, .bytes = pln_bytes_of(channel, 8)},
        {.kind = PLN_REPLY_STRING, .bytes = pln_bytes_of(copy, len)},
    };
    struct pln_reply reply = {.kind = PLN_REPLY_ARRAY, .elements = parts, .n_elements = 3};
    ck_assert_int_eq(pln_link_take(node, &reply), PLN_OK);
}

/* Else a message with the number that comes next, of a server with another history, would be taken
 * for the end of ours, and found again in its log. */
START_TEST(what_another_server_says_before_it_was_asked_is_heard_and_not_counted) {
    static const struct pln_host host = {.clock = pln_clock_coarse, .name = "test"};
    int n_heard = 0;
    struct pln_l2_options options = {.url = "redis://127.0.0.1:1",
                                     .ns = "ns",
                                     .log_length = 10,
                                     .host = &host,
                                     .events = {.arg = &n_heard, .on_key = count_key}};
    struct pln_l2 *l2;
    ck_assert_int_eq(pln_counts_new(&options.counts), PLN_OK);
    ck_assert_int_eq(pln_l2_redis_new(&options, &l2), PLN_OK);
    struct pln_node *node = pln_redis_of(l2)->nodes[0];
    struct pln_feed_state state = same(0);
    state.base = state.number = 0x3132333435363737; /* "12345677" */
    pln_feed_begin(&node->feed, &state);
    snprintf(node->link.conn.run_id, sizeof node->link.conn.run_id, "other");
    hear(node, "2k--------....key12345678", 25);
    ck_assert_int_eq(n_heard, 1);
    ck_assert_uint_eq(node->feed.last, state.number);
    snprintf(node->link.conn.run_id, sizeof node->link.conn.run_id, "server");
    hear(node, "2k--------....key12345678", 25);
    ck_assert_int_eq(n_heard, 2);
    ck_assert_uint_eq(node->feed.last, state.number + 1);
    pln_l2_close(l2);
    pln_counts_free(options.counts);
}
END_TEST

int main(void) {
    Suite *suite = suite_create("feed");
    TCase *tests = tcase_create("machine");
    suite_add_tcase(suite, tests);
    tcase_set_timeout(tests, 60);
    tcase_add_test(tests, before_it_has_begun_nothing_counts);
    tcase_add_test(tests, a_row_goes_on_and_old_ones_are_passed_over);
    tcase_add_test(tests, it_says_how_far_it_was_heard_and_never_further);
    tcase_add_test(tests, a_gap_is_one_until_it_closes);
    tcase_add_test(tests, a_gap_as_wide_as_the_window_closes_and_a_wider_one_never_does);
    tcase_add_test(tests, a_thousand_disorders_end_as_the_model_does);
    tcase_add_test(tests, a_server_that_has_said_no_more_is_gone_on_with);
    tcase_add_test(tests, what_was_said_meanwhile_is_read_and_what_was_ahead_forgotten);
    tcase_add_test(tests, another_row_is_new_and_a_lower_number_is_a_loss);
    tcase_add_test(tests, what_was_acknowledged_counts_as_known_until_the_row_begins_anew);
    tcase_add_test(tests, what_is_acknowledged_while_the_server_answers_is_no_loss);
    tcase_add_test(tests, another_server_with_the_same_history_is_gone_on_with);
    tcase_add_test(tests, another_history_is_told_by_the_entry_where_the_row_ended);
    tcase_add_test(tests, without_that_entry_another_server_is_not_believed);
    tcase_add_test(tests, what_was_heard_of_a_row_is_no_witness_against_the_next);
    tcase_add_test(tests, a_server_that_does_not_say_who_it_is_is_never_the_same);
    tcase_add_test(tests, an_own_number_that_is_anothers_shows_another_history);
    tcase_add_test(tests, what_a_beat_promised_must_have_come_with_the_sign_of_life);
    tcase_add_test(tests, what_another_server_says_before_it_was_asked_is_heard_and_not_counted);
    SRunner *runner = srunner_create(suite);
    srunner_run_all(runner, CK_ENV);
    int failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed == 0 ? 0 : 1;
}
