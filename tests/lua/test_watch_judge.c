/* SPDX-License-Identifier: MIT
 *
 * test_watch_judge.c - the judge of `perilune watch` on histories made by hand, where it is known
 * what is stale. Times are in ms here.
 */
#include "../../lua/watch_judge.h"

#include <check.h>
#include <stdlib.h>

enum { ME = 1, OTHER = 2 };

static const pln_ns ms = 1000000;
static struct pln_judge *judge;

/* Messages take up to 100 ms, a gap may show what is 1000 ms old, a dead link is found out in 500,
 * and a process counts as recovered for 2000. Two processes, up at 0. */
static void set_up(void) {
    struct pln_bounds bounds = {100 * ms, 1000 * ms, 500 * ms, 2000 * ms};
    ck_assert_int_eq(pln_judge_new(&judge, 2, &bounds), PLN_OK);
    for (unsigned i = 0; i < 2; i++) {
        ck_assert_int_eq(pln_judge_link(judge, i, true, 0), PLN_OK);
    }
}

static void tear_down(void) {
    pln_judge_free(judge);
    judge = NULL;
}

static void link_is(unsigned process, bool is_up, int at) {
    ck_assert_int_eq(pln_judge_link(judge, process, is_up, at * ms), PLN_OK);
}

static void fault(const char *name, int process, int from, int to) {
    ck_assert_int_eq(pln_judge_fault(judge, name, process, from * ms), PLN_OK);
    ck_assert(pln_judge_end(judge, name, to * ms));
}

static enum pln_phase phase(unsigned process, int at) {
    return pln_judge_phase(judge, process, at * ms);
}

/* Whether a read at that time of what another had replaced `age` before is beyond its bound. */
static bool is_stale(int at, int age, bool is_own, uint8_t source) {
    struct pln_old_read read = {.began = at * ms, .version = 1, .source = source};
    read.missed = (struct pln_missed){{2, (at - age) * ms, OTHER}, is_own};
    return pln_judge_read(judge, &read);
}

static bool is_stale_from_l1(int at, int age) {
    return is_stale(at, age, false, PLN_FROM_L1);
}

/* ---- the truth of a key ---- */

START_TEST(a_read_missed_the_first_newer_version_acknowledged_before_it_began) {
    struct pln_truth truth = {0};
    struct pln_missed missed;
    pln_truth_ack(&truth, 1, 10, OTHER);
    pln_truth_ack(&truth, 2, 20, OTHER);
    pln_truth_ack(&truth, 3, 30, OTHER);
    ck_assert(!pln_truth_missed(&truth, 3, 99, ME, &missed));
    ck_assert(!pln_truth_missed(&truth, 1, 20, ME, &missed));
    ck_assert(pln_truth_missed(&truth, 1, 21, ME, &missed));
    ck_assert_uint_eq(missed.first.version, 2);
    ck_assert(pln_truth_missed(&truth, 1, 99, ME, &missed));
    ck_assert_int_eq(missed.first.at, 20);
    ck_assert(pln_truth_missed(&truth, 0, 99, ME, &missed));
    ck_assert_int_eq(missed.first.at, 10);
}
END_TEST

START_TEST(a_write_that_failed_counts_from_the_next_that_did_not) {
    struct pln_truth truth = {0};
    struct pln_missed missed;
    pln_truth_ack(&truth, 1, 10, OTHER);
    /* version 2 was committed, and nobody was told: both may be read */
    ck_assert(!pln_truth_missed(&truth, 1, 99, ME, &missed));
    ck_assert(!pln_truth_missed(&truth, 2, 99, ME, &missed));
    pln_truth_ack(&truth, 3, 100, OTHER);
    ck_assert(pln_truth_missed(&truth, 1, 101, ME, &missed));
    ck_assert(pln_truth_missed(&truth, 2, 101, ME, &missed));
    ck_assert_int_eq(missed.first.at, 100);
}
END_TEST

START_TEST(what_was_acknowledged_is_known_as_far_back_as_is_remembered) {
    struct pln_truth truth = {0};
    ck_assert(!pln_truth_knows(&truth, 1));
    for (uint64_t version = 2; version < 2 * (PLN_ACKS + 10); version += 2) {
        pln_truth_ack(&truth, version, (pln_ns) version, OTHER);
    }
    ck_assert(pln_truth_knows(&truth, 2 * PLN_ACKS));
    ck_assert(!pln_truth_knows(&truth, 2 * PLN_ACKS + 1));
    ck_assert(!pln_truth_knows(&truth, 2 * PLN_ACKS - 1));
    ck_assert(pln_truth_knows(&truth, 3)); /* too long ago */
}
END_TEST

START_TEST(own_writes_are_told_from_those_of_others) {
    struct pln_truth truth = {0};
    struct pln_missed missed;
    pln_truth_ack(&truth, 1, 10, OTHER);
    pln_truth_ack(&truth, 2, 20, OTHER);
    pln_truth_ack(&truth, 3, 30, ME);
    ck_assert(pln_truth_missed(&truth, 1, 30, ME, &missed));
    ck_assert(!missed.is_own);
    ck_assert(pln_truth_missed(&truth, 1, 31, ME, &missed));
    ck_assert(missed.is_own);
    ck_assert_int_eq(missed.first.at, 20);
}
END_TEST

START_TEST(of_more_than_it_keeps_the_oldest_stands_for_those_before) {
    struct pln_truth truth = {0};
    struct pln_missed missed;
    for (unsigned i = 1; i <= 3 * PLN_ACKS; i++) {
        pln_truth_ack(&truth, i, i * 10, OTHER);
    }
    ck_assert(pln_truth_missed(&truth, 5, 100000, ME, &missed));
    ck_assert_uint_eq(missed.first.version, 2 * PLN_ACKS + 1);
    ck_assert(pln_truth_missed(&truth, 3 * PLN_ACKS - 1, 100000, ME, &missed));
    ck_assert_uint_eq(missed.first.version, 3 * PLN_ACKS);
}
END_TEST

/* ---- phases ---- */

START_TEST(a_fault_is_a_gap_for_those_it_concerns_and_then_they_recover) {
    fault("cut", 0, 5000, 6000);
    ck_assert_int_eq(phase(0, 4999), PLN_CONNECTED);
    ck_assert_int_eq(phase(0, 5000), PLN_GAP);
    ck_assert_int_eq(phase(1, 5000), PLN_CONNECTED);
    ck_assert_int_eq(phase(0, 6100), PLN_GAP); /* its end may take so long to get there */
    ck_assert_int_eq(phase(0, 6101), PLN_RECOVERED);
    ck_assert_int_eq(phase(0, 8099), PLN_RECOVERED);
    ck_assert_int_eq(phase(0, 8100), PLN_CONNECTED);
}
END_TEST

START_TEST(a_gap_lasts_until_the_link_is_up_again) {
    fault("restart", PLN_EVERYWHERE, 5000, 6000);
    link_is(0, false, 5010);
    link_is(0, true, 7000);
    ck_assert_int_eq(phase(0, 6999), PLN_GAP);
    ck_assert_int_eq(phase(1, 6999), PLN_RECOVERED);
    ck_assert_int_eq(phase(0, 7000), PLN_RECOVERED);
    ck_assert_int_eq(phase(0, 9000), PLN_CONNECTED);
    /* what was lost to a fault was alive until it began */
    ck_assert_int_eq(phase(0, 4999), PLN_CONNECTED);
}
END_TEST

START_TEST(a_fault_that_nobody_noticed_yet_is_a_gap_all_the_same) {
    fault("cut", PLN_EVERYWHERE, 5000, 9000);
    link_is(0, false, 7000);
    link_is(0, true, 9050);
    ck_assert_int_eq(phase(0, 5001), PLN_GAP);
    ck_assert_int_eq(phase(0, 9075), PLN_GAP);
    ck_assert_int_eq(phase(0, 9101), PLN_RECOVERED);
}
END_TEST

START_TEST(a_loss_without_a_fault_began_before_it_was_noticed) {
    link_is(0, false, 5000);
    link_is(0, true, 5200);
    ck_assert_int_eq(phase(0, 4499), PLN_CONNECTED);
    ck_assert_int_eq(phase(0, 4500), PLN_GAP);
    ck_assert_int_eq(phase(0, 5199), PLN_GAP);
    ck_assert_int_eq(phase(0, 5200), PLN_RECOVERED);
    ck_assert_int_eq(phase(1, 4500), PLN_CONNECTED);
}
END_TEST

START_TEST(a_process_begins_in_a_gap_and_a_fault_in_force_has_no_end) {
    ck_assert_int_eq(phase(0, -1), PLN_GAP);
    ck_assert_int_eq(pln_judge_fault(judge, "stop", PLN_EVERYWHERE, 3000 * ms), PLN_OK);
    ck_assert_int_eq(phase(0, 1000000), PLN_GAP);
    ck_assert(!pln_judge_end(judge, "cut", 4000 * ms));
    ck_assert(pln_judge_end(judge, "stop", 4000 * ms));
    ck_assert(!pln_judge_end(judge, "stop", 4000 * ms));
    ck_assert_int_eq(phase(0, 1000000), PLN_CONNECTED);
}
END_TEST

/* ---- what is stale ---- */

START_TEST(each_phase_has_its_bound) {
    fault("cut", PLN_EVERYWHERE, 5000, 6000);
    ck_assert(!is_stale_from_l1(4000, 100));
    ck_assert(is_stale_from_l1(4000, 101));
    ck_assert(!is_stale_from_l1(5500, 1000));
    ck_assert(is_stale_from_l1(5500, 1001));
    ck_assert(!is_stale_from_l1(7000, 100));
    ck_assert(is_stale_from_l1(7000, 101));
    for (int i = 0; i < PLN_N_PHASES; i++) {
        const struct pln_tally *tally = pln_judge_tally(judge, (enum pln_phase) i);
        ck_assert_uint_eq(tally->old, 2);
        ck_assert_uint_eq(tally->stale, 1);
        ck_assert_int_eq(tally->longest, (i == PLN_GAP ? 1001 : 101) * ms);
    }
}
END_TEST

START_TEST(what_is_marked_as_stale_is_no_finding_unless_it_was_ones_own_write) {
    ck_assert(!is_stale(4000, 5000, false, PLN_FROM_STALE));
    ck_assert(is_stale(4000, 1, true, PLN_FROM_STALE));
    ck_assert(is_stale(4000, 1, true, PLN_FROM_L1));
    const struct pln_tally *tally = pln_judge_tally(judge, PLN_CONNECTED);
    ck_assert_uint_eq(tally->marked, 2);
    ck_assert_int_eq(tally->longest, 1 * ms);
}
END_TEST

START_TEST(counts_go_to_the_phase_of_their_time) {
    struct pln_tally counts = {.reads = 10, .writes = 2, .refused = 1, .unanswered = 3};
    fault("cut", 1, 5000, 6000);
    pln_judge_count(judge, 1, 5500 * ms, &counts);
    pln_judge_count(judge, 0, 5500 * ms, &counts);
    pln_judge_count(judge, 0, 5600 * ms, &counts);
    ck_assert_uint_eq(pln_judge_tally(judge, PLN_GAP)->reads, 10);
    ck_assert_uint_eq(pln_judge_tally(judge, PLN_GAP)->refused, 1);
    ck_assert_uint_eq(pln_judge_tally(judge, PLN_CONNECTED)->reads, 20);
    ck_assert_uint_eq(pln_judge_tally(judge, PLN_CONNECTED)->unanswered, 6);
}
END_TEST

START_TEST(ages_are_told_to_an_eighth) {
    const struct pln_tally *tally = pln_judge_tally(judge, PLN_CONNECTED);
    ck_assert_int_eq(pln_tally_age(tally, 0.5), 0);
    for (int i = 0; i < 99; i++) {
        is_stale_from_l1(4000, 1);
    }
    is_stale_from_l1(4000, 64);
    ck_assert_int_ge(pln_tally_age(tally, 0.5), 1 * ms);
    ck_assert_int_le(pln_tally_age(tally, 0.5), 1 * ms + ms / 8);
    ck_assert_int_le(pln_tally_age(tally, 0.99), 1 * ms + ms / 8);
    ck_assert_int_eq(pln_tally_age(tally, 0.999), 64 * ms);
}
END_TEST

START_TEST(a_recovery_that_the_next_fault_disturbed_is_not_counted) {
    fault("cut", PLN_EVERYWHERE, 5000, 6000);
    fault("lag", 1, 6200, 6500);
    link_is(0, false, 5500);
    link_is(0, true, 6300);
    ck_assert_int_eq(pln_judge_recovered_in(judge, pln_judge_fault_at(judge, 0)), 300 * ms);
    fault("stop", 0, 6250, 6400);
    ck_assert_int_eq(pln_judge_recovered_in(judge, pln_judge_fault_at(judge, 0)), PLN_FOREVER);
}
END_TEST

START_TEST(recovery_is_counted_from_the_end_of_a_fault_to_the_last_link) {
    fault("cut", PLN_EVERYWHERE, 5000, 6000);
    link_is(0, false, 5100);
    link_is(0, true, 6300);
    link_is(1, false, 6010); /* its end is what was felt */
    const struct pln_fault *first = pln_judge_fault_at(judge, 0);
    ck_assert_int_eq(pln_judge_recovered_in(judge, first), PLN_FOREVER);
    link_is(1, true, 6700);
    ck_assert_int_eq(pln_judge_recovered_in(judge, first), 700 * ms);
    fault("lag", 0, 10000, 11000);
    ck_assert_int_eq(pln_judge_recovered_in(judge, pln_judge_fault_at(judge, 1)), 0);
    ck_assert_ptr_null(pln_judge_fault_at(judge, 2));
}
END_TEST

int main(void) {
    Suite *suite = suite_create("watch_judge");
    TCase *group = tcase_create("judge");
    tcase_add_checked_fixture(group, set_up, tear_down);
    tcase_add_test(group, a_read_missed_the_first_newer_version_acknowledged_before_it_began);
    tcase_add_test(group, a_write_that_failed_counts_from_the_next_that_did_not);
    tcase_add_test(group, what_was_acknowledged_is_known_as_far_back_as_is_remembered);
    tcase_add_test(group, own_writes_are_told_from_those_of_others);
    tcase_add_test(group, of_more_than_it_keeps_the_oldest_stands_for_those_before);
    tcase_add_test(group, a_fault_is_a_gap_for_those_it_concerns_and_then_they_recover);
    tcase_add_test(group, a_gap_lasts_until_the_link_is_up_again);
    tcase_add_test(group, a_fault_that_nobody_noticed_yet_is_a_gap_all_the_same);
    tcase_add_test(group, a_loss_without_a_fault_began_before_it_was_noticed);
    tcase_add_test(group, a_process_begins_in_a_gap_and_a_fault_in_force_has_no_end);
    tcase_add_test(group, each_phase_has_its_bound);
    tcase_add_test(group, what_is_marked_as_stale_is_no_finding_unless_it_was_ones_own_write);
    tcase_add_test(group, counts_go_to_the_phase_of_their_time);
    tcase_add_test(group, ages_are_told_to_an_eighth);
    tcase_add_test(group, recovery_is_counted_from_the_end_of_a_fault_to_the_last_link);
    tcase_add_test(group, a_recovery_that_the_next_fault_disturbed_is_not_counted);
    suite_add_tcase(suite, group);
    SRunner *runner = srunner_create(suite);
    srunner_run_all(runner, CK_ENV);
    int failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed == 0 ? EXIT_SUCCESS : EXIT_FAILURE;
}
