/* SPDX-License-Identifier: MIT
 * test_memfault.c - l2/memfault.c and l2/memlate.c: each thing that can go wrong with the server in
 * memory does, when it is told to, and the same seed tells the same story. */
#include <check.h>
#include <sched.h>
#include <stdio.h>

#include "client.h"

static struct pln_l2_mem_server *server;
static struct client a, b;

static void open_client(struct client *client) {
    client_init(client);
    struct pln_l2_options options = client_options(client, NULL);
    ck_assert_int_eq(pln_l2_mem_new(&options, server, &client->l2), PLN_OK);
    ck_assert_int_eq(pln_l2_start(client->l2), PLN_OK);
    expect_story(client, "+");
}

static void set_up(void) {
    ck_assert_int_eq(pln_l2_mem_server_new(&server), PLN_OK);
    open_client(&a);
    open_client(&b);
}

static void tear_down(void) {
    client_fini(&a);
    client_fini(&b);
    pln_l2_mem_server_free(server);
}

static void set(struct client *client, const char *key) {
    struct pln_hashed hashed = key_of(key);
    struct pln_l2_item item = item_of(key);
    ck_assert_int_eq(pln_l2_set(client->l2, &hashed, &item, 0, soon()), PLN_OK);
}

static void set_faults(struct pln_l2 *l2, struct pln_memory_faults faults) {
    pln_l2_mem_faults(server, l2, &faults);
}

static struct pln_memory_stats stats_now(void) {
    struct pln_memory_stats stats;
    pln_l2_mem_stats(server, &stats);
    return stats;
}

static int try_set(struct client *client, const char *key, pln_ns deadline) {
    struct pln_hashed hashed = key_of(key);
    struct pln_l2_item item = item_of(key);
    return pln_l2_set(client->l2, &hashed, &item, 0, deadline);
}

static bool has(struct client *client, const char *key) {
    struct pln_l2_value value;
    struct pln_hashed hashed = key_of(key);
    if (pln_l2_get(client->l2, &hashed, soon(), &value) != PLN_OK) {
        return false;
    }
    pln_l2_value_fini(&value);
    return true;
}

/* What b hears of twenty sets of a's, all delivered; the caller's to free. */
static char *story_under(struct pln_memory_faults faults) {
    char key[8];
    faults.hold = true;
    set_faults(b.l2, faults);
    for (int i = 0; i < 20; i++) {
        snprintf(key, sizeof key, "%d", i);
        set(&a, key);
    }
    expect_story(&b, "");
    pln_l2_mem_bring(server, NULL, SIZE_MAX);
    char *story = strdup(b.story);
    expect_story(&b, story);
    return story;
}

/* The same seed tells the same story, another one another. */
static char *expect_seeded(struct pln_memory_faults faults) {
    faults.seed = 7;
    char *first = story_under(faults);
    char *again = story_under(faults);
    ck_assert_str_eq(first, again);
    faults.seed = 8;
    char *other = story_under(faults);
    ck_assert_str_ne(first, other);
    free(again);
    free(other);
    return first;
}

START_TEST(a_share_of_messages_is_lost_by_seed_and_the_next_tells_of_it) {
    char *story = expect_seeded((struct pln_memory_faults){.lose = 0.5});
    struct pln_memory_stats stats = stats_now();
    ck_assert_ptr_nonnull(strstr(story, " - +")); /* after all that had come: there is no log */
    ck_assert_uint_eq(stats.messages, 60);
    ck_assert(stats.lost > 0 && stats.lost < 60);
    ck_assert_uint_eq(client_count(&b, PLN_COUNT_BUS_GAPS), 3);
    ck_assert_uint_eq(client_count(&b, PLN_COUNT_BUS_LOSSES), 3);
    ck_assert_uint_eq(client_count(&b, PLN_COUNT_BUS_RECEIVED), 60 - stats.lost);
    free(story);
}
END_TEST

START_TEST(a_share_of_messages_comes_twice_by_seed) {
    free(expect_seeded((struct pln_memory_faults){.duplicate = 0.5}));
    set_faults(NULL, (struct pln_memory_faults){.duplicate = 1});
    set(&a, "1");
    set(&a, "2");
    expect_story(&b, "k:1 k:1 k:2 k:2");
}
END_TEST

START_TEST(messages_pass_each_other_by_seed_and_no_further_than_the_window) {
    int n = 0, n_moved = 0, seen = 0;
    char *story = expect_seeded((struct pln_memory_faults){.reorder = 3});
    for (char *rest = story, *word = strsep(&rest, " "); word != NULL;
         word = strsep(&rest, " "), n++) {
        int number = atoi(word + 2);
        ck_assert_int_le(number - n, 3); /* as many as went before it in vain */
        ck_assert_int_le(n - number, 3);
        n_moved += number != n;
        seen |= 1 << number;
    }
    ck_assert_int_eq(seen, (1 << 20) - 1);
    ck_assert_int_gt(n_moved, 0);
    free(story);
}
END_TEST

START_TEST(a_message_that_waits_for_others_comes_without_them_too) {
    set_faults(NULL, (struct pln_memory_faults){.seed = 1, .reorder = 1000});
    set(&a, "1");
    ck_assert(client_hears(&b, "k:1"));
}
END_TEST

START_TEST(a_message_on_its_way_comes_though_nobody_writes) {
    set_faults(NULL, (struct pln_memory_faults){.message_delay_ms = 20, .message_random_ms = 5});
    pln_ns start = pln_clock_precise();
    set(&a, "1");
    set(&a, "2");
    ck_assert(client_hears(&b, "k:1 k:2"));
    while (stats_now().waiting > 0) { /* the courier may not have put the second away yet */
        sched_yield();
    }
    ck_assert_int_ge(pln_clock_precise() - start, 20000000);
    set_faults(NULL, (struct pln_memory_faults){.message_delay_ms = 3600000});
    set(&a, "3");
    ck_assert_uint_eq(stats_now().waiting, 1);
    expect_story(&b, "k:1 k:2");
    set_faults(NULL, (struct pln_memory_faults){0}); /* it keeps the time it was given */
    expect_story(&b, "");
    ck_assert_uint_eq(pln_l2_mem_bring(server, NULL, SIZE_MAX), 1);
    expect_story(&b, "k:3");
}
END_TEST

START_TEST(a_lost_message_is_noticed_though_one_before_it_was_late_and_nobody_writes) {
    struct client c;
    client_init(&c);
    struct pln_l2_options options = client_options(&c, NULL);
    options.ping_ms = 5;
    ck_assert_int_eq(pln_l2_mem_new(&options, server, &c.l2), PLN_OK);
    ck_assert_int_eq(pln_l2_start(c.l2), PLN_OK);
    set_faults(NULL, (struct pln_memory_faults){.message_delay_ms = 100});
    set(&a, "1");
    set_faults(NULL, (struct pln_memory_faults){.lose = 1});
    set(&a, "2");
    ck_assert(client_hears(&c, "k:1 - +"));
    client_fini(&c);
}
END_TEST

START_TEST(a_hold_that_ends_lets_all_go) {
    set_faults(NULL, (struct pln_memory_faults){.hold = true});
    set(&a, "1");
    set(&a, "2");
    ck_assert_uint_eq(pln_l2_mem_bring(server, a.l2, SIZE_MAX), 0);
    ck_assert_uint_eq(pln_l2_mem_bring(server, b.l2, 1), 1);
    expect_story(&b, "k:1");
    set_faults(NULL, (struct pln_memory_faults){0});
    expect_story(&b, "k:2");
}
END_TEST

START_TEST(a_server_closes_with_messages_on_their_way) {
    set_faults(NULL, (struct pln_memory_faults){.message_delay_ms = 3600000});
    set(&a, "1");
    ck_assert_uint_eq(stats_now().waiting, 1);
}
END_TEST

START_TEST(a_command_waits_as_long_as_it_is_told) {
    set_faults(a.l2, (struct pln_memory_faults){.delay_ms = 20});
    pln_ns start = pln_clock_precise();
    ck_assert_int_eq(try_set(&a, "1", start + (pln_ns) 60 * 1000000000), PLN_OK);
    ck_assert_int_ge(pln_clock_precise() - start, 20000000);
    ck_assert_uint_eq(stats_now().late, 0);
}
END_TEST

/* "10110...": of twenty commands that came too late, which were carried out. */
static void outcomes_under(uint64_t seed, double share, char outcomes[21]) {
    char key[8];
    memset(outcomes, 0, 21);
    ck_assert_int_eq(pln_l2_clear(b.l2, soon()), PLN_OK);
    set_faults(a.l2,
               (struct pln_memory_faults){.seed = seed, .delay_ms = 1000, .carried_out = share});
    for (int i = 0; i < 20; i++) {
        snprintf(key, sizeof key, "%d", i);
        ck_assert_int_eq(try_set(&a, key, pln_clock_precise() + 1000), PLN_ETIMEOUT);
        outcomes[i] = has(&b, key) ? '1' : '0';
    }
}

START_TEST(a_command_that_comes_too_late_is_carried_out_or_not_by_seed) {
    char first[21], again[21], other[21];
    outcomes_under(7, 0.5, first);
    outcomes_under(7, 0.5, again);
    outcomes_under(8, 0.5, other);
    ck_assert_str_eq(first, again);
    ck_assert_str_ne(first, other);
    outcomes_under(7, 0, other);
    ck_assert_str_eq(other, "00000000000000000000");
    outcomes_under(7, 1, other);
    ck_assert_str_eq(other, "11111111111111111111");
    ck_assert_uint_eq(stats_now().late, 100);
    ck_assert_uint_eq(client_count(&a, PLN_COUNT_L2_TIMEOUTS), 100);
}
END_TEST

START_TEST(a_read_that_comes_too_late_gives_nothing) {
    struct pln_hashed key = key_of("1");
    struct pln_l2_value value;
    set(&a, "1");
    set_faults(a.l2, (struct pln_memory_faults){.delay_ms = 1000, .carried_out = 1});
    ck_assert_int_eq(pln_l2_get(a.l2, &key, pln_clock_precise() + 1000, &value), PLN_ETIMEOUT);
    ck_assert_uint_eq(stats_now().carried_out, 0);
}
END_TEST

START_TEST(a_hanging_command_ends_at_its_deadline) {
    pln_l2_mem_set_cut(server, NULL, PLN_MEMORY_HANGS);
    pln_ns deadline = pln_clock_precise() + 20000000;
    ck_assert_int_eq(try_set(&a, "1", deadline), PLN_ETIMEOUT);
    ck_assert_int_ge(pln_clock_precise(), deadline);
    ck_assert_ptr_nonnull(strstr(pln_error_text(), "outcome is unknown"));
    pln_l2_mem_set_cut(server, NULL, PLN_MEMORY_UNCUT);
    expect_text(&a, "1", NULL);
}
END_TEST

static void *set_patiently(void *arg) {
    pln_ns deadline = pln_clock_precise() + (pln_ns) 60 * 1000000000;
    *(int *) arg = try_set(&a, "1", deadline);
    return NULL;
}

START_TEST(a_hanging_command_goes_on_when_it_is_healed) {
    int result = 99;
    pthread_t thread;
    pln_l2_mem_set_cut(server, a.l2, PLN_MEMORY_HANGS);
    pthread_create(&thread, NULL, set_patiently, &result);
    while (stats_now().commands == 0) {
        sched_yield();
    }
    pln_l2_mem_set_cut(server, a.l2, PLN_MEMORY_UNCUT);
    pthread_join(thread, NULL);
    ck_assert_int_eq(result, PLN_OK);
    expect_text(&b, "1", "1");
}
END_TEST

START_TEST(without_memory_only_deletes_are_taken_and_a_replica_takes_nothing) {
    struct pln_hashed key = key_of("1");
    struct pln_l2_lease lease;
    set(&a, "1");
    set_faults(NULL, (struct pln_memory_faults){.out_of_memory = true});
    ck_assert_int_eq(try_set(&a, "2", soon()), PLN_EL2);
    ck_assert_ptr_nonnull(strstr(pln_error_text(), "OOM"));
    ck_assert_int_eq(pln_l2_lease(a.l2, &key, 100, soon(), &lease), PLN_EL2);
    ck_assert_int_eq(pln_l2_clear(a.l2, soon()), PLN_EL2);
    expect_text(&a, "1", "1");
    ck_assert_int_eq(pln_l2_remove(a.l2, &key, soon()), PLN_OK);
    set_faults(NULL, (struct pln_memory_faults){.read_only = true});
    ck_assert_int_eq(pln_l2_remove(a.l2, &key, soon()), PLN_EL2);
    ck_assert_ptr_nonnull(strstr(pln_error_text(), "READONLY"));
    expect_text(&a, "1", NULL);
    ck_assert_uint_eq(stats_now().refused, 4);
}
END_TEST

START_TEST(all_links_part_and_join_at_once) {
    pln_l2_mem_set_link(server, NULL, false);
    set(&a, "1");
    pln_l2_mem_set_link(server, NULL, true);
    expect_story(&a, "- +");
    expect_story(&b, "- +");
}
END_TEST

START_TEST(a_client_that_comes_later_finds_what_was_set_for_all) {
    struct client c;
    client_init(&c);
    struct pln_l2_options options = client_options(&c, NULL);
    set_faults(NULL, (struct pln_memory_faults){.read_only = true});
    pln_l2_mem_set_link(server, NULL, false);
    ck_assert_int_eq(pln_l2_mem_new(&options, server, &c.l2), PLN_OK);
    ck_assert_int_eq(pln_l2_start(c.l2), PLN_OK);
    expect_story(&c, "");
    ck_assert_int_eq(try_set(&c, "1", soon()), PLN_EL2);
    pln_l2_mem_set_link(server, c.l2, true);
    expect_story(&c, "+");
    client_fini(&c);
}
END_TEST

START_TEST(a_server_that_forgot_has_nothing_and_takes_nothing_that_is_older) {
    struct pln_hashed key = key_of("1"), other = key_of("2");
    struct pln_l2_lease lease, second;
    struct pln_l2_item item = item_of("1");
    set(&a, "1");
    ck_assert_int_eq(pln_l2_lease(a.l2, &other, 1000, soon(), &lease), PLN_OK);
    expect_story(&b, "k:1");
    pln_l2_mem_forget(server);
    expect_story(&a, "- +");
    expect_story(&b, "- +");
    expect_text(&a, "1", NULL);
    ck_assert_int_eq(pln_l2_commit(a.l2, &other, &lease, &item, soon()), PLN_NOT_STORED);
    ck_assert_int_eq(pln_l2_lease(b.l2, &other, 1000, soon(), &second), PLN_OK);
    item.tag_clock = lease.tag_clock; /* read from its source before */
    ck_assert_int_eq(pln_l2_set(a.l2, &key, &item, 0, soon()), PLN_NOT_STORED);
    set(&a, "1");
    expect_text(&b, "1", "1");
}
END_TEST

START_TEST(a_share_of_values_is_evicted_by_seed) {
    char key[8], first[21] = "", again[21] = "";
    char *const rounds[] = {first, again};
    for (size_t round = 0; round < 2; round++) {
        set_faults(NULL, (struct pln_memory_faults){.seed = 3});
        for (int i = 0; i < 20; i++) {
            snprintf(key, sizeof key, "%d", i);
            set(&a, key);
        }
        size_t n_evicted = pln_l2_mem_evict(server, 0.5);
        ck_assert_uint_eq(stats_now().values, 20 - n_evicted);
        ck_assert(n_evicted > 0 && n_evicted < 20);
        for (int i = 0; i < 20; i++) {
            snprintf(key, sizeof key, "%d", i);
            rounds[round][i] = has(&a, key) ? '1' : '0';
        }
    }
    ck_assert_str_eq(first, again);
    pln_l2_mem_evict(server, 1);
    ck_assert_uint_eq(stats_now().values, 0);
}
END_TEST

static void write_other(void *arg, bool is_whole) {
    (void) arg, (void) is_whole;
    set(&a, "early");
}

START_TEST(what_comes_while_the_link_is_being_reported_is_not_left_behind) {
    struct client c;
    client_init(&c);
    struct pln_l2_options options = client_options(&c, NULL);
    options.events.on_up = write_other;
    ck_assert_int_eq(pln_l2_mem_new(&options, server, &c.l2), PLN_OK);
    ck_assert_int_eq(pln_l2_start(c.l2), PLN_OK);
    expect_story(&c, "k:early");
    client_fini(&c);
}
END_TEST

static void note_waiting(void *arg, struct pln_bytes key) {
    (void) key;
    *(size_t *) arg = stats_now().waiting;
}

START_TEST(a_message_that_is_being_reported_counts_as_not_heard) {
    struct client c;
    size_t n_waiting = 99;
    client_init(&c);
    struct pln_l2_options options = client_options(&c, NULL);
    options.events = (struct pln_l2_events){.arg = &n_waiting, .on_key = note_waiting};
    ck_assert_int_eq(pln_l2_mem_new(&options, server, &c.l2), PLN_OK);
    ck_assert_int_eq(pln_l2_start(c.l2), PLN_OK);
    pln_l2_mem_part(b.l2); /* or its message would count too */
    set(&a, "1");
    ck_assert_uint_eq(n_waiting, 1);
    ck_assert_uint_eq(stats_now().waiting, 0);
    client_fini(&c);
}
END_TEST

int main(void) {
    Suite *suite = suite_create("memfault");
    TCase *tests = tcase_create("memfault");
    suite_add_tcase(suite, tests);
    tcase_add_checked_fixture(tests, set_up, tear_down);
    tcase_add_test(tests, a_share_of_messages_is_lost_by_seed_and_the_next_tells_of_it);
    tcase_add_test(tests, a_share_of_messages_comes_twice_by_seed);
    tcase_add_test(tests, messages_pass_each_other_by_seed_and_no_further_than_the_window);
    tcase_add_test(tests, a_message_that_waits_for_others_comes_without_them_too);
    tcase_add_test(tests, a_message_on_its_way_comes_though_nobody_writes);
    tcase_add_test(tests,
                   a_lost_message_is_noticed_though_one_before_it_was_late_and_nobody_writes);
    tcase_add_test(tests, a_hold_that_ends_lets_all_go);
    tcase_add_test(tests, a_server_closes_with_messages_on_their_way);
    tcase_add_test(tests, a_command_waits_as_long_as_it_is_told);
    tcase_add_test(tests, a_command_that_comes_too_late_is_carried_out_or_not_by_seed);
    tcase_add_test(tests, a_read_that_comes_too_late_gives_nothing);
    tcase_add_test(tests, a_hanging_command_ends_at_its_deadline);
    tcase_add_test(tests, a_hanging_command_goes_on_when_it_is_healed);
    tcase_add_test(tests, without_memory_only_deletes_are_taken_and_a_replica_takes_nothing);
    tcase_add_test(tests, all_links_part_and_join_at_once);
    tcase_add_test(tests, a_client_that_comes_later_finds_what_was_set_for_all);
    tcase_add_test(tests, a_server_that_forgot_has_nothing_and_takes_nothing_that_is_older);
    tcase_add_test(tests, a_share_of_values_is_evicted_by_seed);
    tcase_add_test(tests, what_comes_while_the_link_is_being_reported_is_not_left_behind);
    tcase_add_test(tests, a_message_that_is_being_reported_counts_as_not_heard);
    SRunner *runner = srunner_create(suite);
    srunner_run_all(runner, CK_ENV);
    int failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed == 0 ? 0 : 1;
}
