/* SPDX-License-Identifier: MIT
 * test_memqueue.c - writes that wait, and those stored first, over memory: what every tier must do,
 * and what goes wrong when it is told to. */
#include <check.h>

#include "semantics.h"
#include "waiting.h"

static struct pln_l2_mem_server *memory;
static struct client a, b;

static void open_memory(struct client *client) {
    client_init(client);
    struct pln_l2_options options = client_options(client, NULL);
    ck_assert_int_eq(pln_l2_mem_new(&options, memory, &client->l2), PLN_OK);
    ck_assert_int_eq(pln_l2_start(client->l2), PLN_OK);
    expect_story(client, "+");
}

static void set_up_memory(void) {
    ck_assert_int_eq(pln_l2_mem_server_new(&memory), PLN_OK);
    open_memory(&a);
    open_memory(&b);
}

static void tear_down_memory(void) {
    client_fini(&a);
    client_fini(&b);
    pln_l2_mem_server_free(memory);
}

START_TEST(memory_has_a_queue) {
    queue_semantics[_i].run(&a, &b);
}
END_TEST

START_TEST(memory_takes_what_was_stored_first) {
    through_semantics[_i].run(&a, &b);
}
END_TEST

START_TEST(in_memory_the_lead_ends_by_the_clock_and_ages_grow) {
    struct pln_l2_taking first = taker('1', true), second = taker('2', true);
    struct pln_l2_entries entries;
    struct pln_l2_queue_state state;
    ck_assert_int_eq(write_set(&a, "a", "one"), PLN_OK);
    ck_assert_uint_eq(count_taken(&a, &first), 0);
    a.now += 4999;
    b.now += 4999;
    ck_assert_int_eq(take(&b, &second, &entries), PLN_PENDING);
    b.now += 1;
    ck_assert_uint_eq(count_taken(&b, &second), 0);
    a.now += 1;
    ck_assert_int_eq(pln_l2_queue_hold(a.l2, &first, soon()), PLN_PENDING);
    ck_assert_int_eq(pln_l2_queue_state(a.l2, soon(), &state), PLN_OK);
    ck_assert_int_eq(state.oldest, 5000);
}
END_TEST

START_TEST(in_memory_what_goes_wrong_goes_wrong_for_the_queue_too) {
    struct pln_l2_taking taking = taker('1', true);
    struct pln_l2_entries entries;
    struct pln_l2_queue_state state;
    struct pln_memory_faults faults = {.out_of_memory = true};
    ck_assert_int_eq(write_set(&a, "a", "one"), PLN_OK);
    pln_l2_mem_cut(a.l2, true);
    ck_assert_int_eq(write_set(&a, "a", "two"), PLN_EL2DOWN);
    ck_assert_int_eq(take(&a, &taking, &entries), PLN_EL2DOWN);
    ck_assert_int_eq(pln_l2_queue_state(a.l2, soon(), &state), PLN_EL2DOWN);
    pln_l2_mem_cut(a.l2, false);
    pln_l2_mem_faults(memory, NULL, &faults);
    ck_assert_int_eq(write_set(&a, "a", "two"), PLN_EL2);
    ck_assert_uint_eq(count_taken(&a, &taking), 0); /* what frees memory is done */
    taking.is_first = false;
    ck_assert_uint_eq(count_taken(&a, &taking), 1);
    faults = (struct pln_memory_faults){.delay_ms = 50, .carried_out = 1};
    pln_l2_mem_faults(memory, NULL, &faults);
    struct pln_hashed key = key_of("b");
    struct pln_l2_item item = item_of("late");
    struct pln_l2_value value;
    struct pln_l2_write write = {
        .kind = PLN_L2_WRITE_SET, .item = &item, .value = item.value, .most = 1000};
    pln_ns at_once = pln_clock_precise() + 1000000;
    ck_assert_int_eq(pln_l2_write(a.l2, &key, &write, at_once, &value), PLN_ETIMEOUT);
    faults = (struct pln_memory_faults){.delay_ms = 0};
    pln_l2_mem_faults(memory, NULL, &faults);
    ck_assert_int_eq(pln_l2_queue_state(b.l2, soon(), &state), PLN_OK);
    ck_assert_uint_eq(state.depth, 2); /* it was carried out, though its caller cannot know */
    pln_l2_mem_forget(memory);
    ck_assert_int_eq(pln_l2_queue_state(b.l2, soon(), &state), PLN_OK);
    ck_assert_uint_eq(state.depth, 0);
}
END_TEST

START_TEST(who_has_no_client_has_no_queue) {
    struct pln_l2 *gone = pln_l2_gone();
    struct pln_l2_taking taking = taker('1', true);
    struct pln_l2_entries entries;
    struct pln_l2_letters letters;
    struct pln_l2_queue_state state;
    struct pln_l2_entry entry = {.ms = 1};
    struct pln_hashed key = key_of("a");
    pln_ms left;
    ck_assert_int_eq(pln_l2_queue_check(gone), PLN_EL2DOWN);
    ck_assert_int_eq(pln_l2_queue_take(gone, &taking, soon(), &entries, &left), PLN_EL2DOWN);
    ck_assert_int_eq(pln_l2_queue_hold(gone, &taking, soon()), PLN_EL2DOWN);
    ck_assert_int_eq(pln_l2_queue_end(gone, &taking, &entry, 1, soon()), PLN_EL2DOWN);
    ck_assert_int_eq(pln_l2_queue_bury(gone, &taking, &entry, 1, "", 1, soon()), PLN_EL2DOWN);
    pln_l2_queue_leave(gone, &taking, soon());
    ck_assert_int_eq(pln_l2_queue_find(gone, &key, soon(), &entries), PLN_EL2DOWN);
    ck_assert_int_eq(pln_l2_queue_state(gone, soon(), &state), PLN_EL2DOWN);
    ck_assert_int_eq(pln_l2_letters(gone, 0, 0, 1, soon(), &letters), PLN_EL2DOWN);
    ck_assert_int_eq(pln_l2_letter_end(gone, 1, 1, true, soon()), PLN_EL2DOWN);
    ck_assert_int_eq(pln_l2_through(gone, &key, NULL, 1, soon()), PLN_EL2DOWN);
}
END_TEST

int main(void) {
    Suite *suite = suite_create("memqueue");
    TCase *tests = tcase_create("memory");
    suite_add_tcase(suite, tests);
    tcase_add_checked_fixture(tests, set_up_memory, tear_down_memory);
    tcase_add_loop_test(tests, memory_has_a_queue, 0, n_queue_semantics);
    tcase_add_loop_test(tests, memory_takes_what_was_stored_first, 0, n_through_semantics);
    tcase_add_test(tests, in_memory_the_lead_ends_by_the_clock_and_ages_grow);
    tcase_add_test(tests, in_memory_what_goes_wrong_goes_wrong_for_the_queue_too);
    tcase_add_test(tests, who_has_no_client_has_no_queue);
    SRunner *runner = srunner_create(suite);
    srunner_run_all(runner, CK_ENV);
    int failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed == 0 ? 0 : 1;
}
