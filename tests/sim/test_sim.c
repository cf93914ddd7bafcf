/* SPDX-License-Identifier: MIT
 *
 * test_sim.c - the protocol holds in runs of many seeds; each seed is one run, to the byte; and
 * every rule that is left out of the protocol is missed by some run.
 *
 * PLN_SEEDS says how many seeds the first test plays, 2,000 by default.
 */
#include "runs.h"
#include "play.h"

#include <check.h>

enum {
    N_SEEDS = 2000,
    N_EXACT = 60,
    N_MUTANT_SEEDS = 10000, /* the best hidden of them took 1,033 */
};

static void explain(const struct sim_report *report) {
    ck_abort_msg("seed %llu: %s; to see it again: ./dev sim 1 --seed %llu -v",
                 (unsigned long long) report->seed, report->text,
                 (unsigned long long) report->seed);
}

START_TEST(no_run_finds_a_fault) {
    const char *seeds = getenv("PLN_SEEDS");
    struct sim_runs runs = {
        .first = 1, .n = seeds != NULL ? strtoull(seeds, NULL, 10) : N_SEEDS, .n_processes = 2};
    struct sim_report report;
    sim_run(&runs, &report);
    if (report.is_fault) {
        explain(&report);
    }
    ck_assert_uint_eq(report.n_runs, runs.n);
    /* and they have been everywhere */
    for (int source = PLN_FROM_MISS; source <= PLN_FROM_NEGATIVE; source++) {
        ck_assert_uint_gt(report.tally.from[source], 0);
    }
    ck_assert_uint_gt(report.tally.failures, 0);
    ck_assert_uint_gt(report.tally.writes_failed, 0);
    ck_assert_uint_gt(report.tally.losses, 0);
    ck_assert_uint_gt(report.tally.repairs, 0);
    ck_assert_uint_gt(report.tally.gap_hits, 0);
    ck_assert_uint_gt(report.tally.crashes, 0);
    ck_assert_uint_gt(report.tally.forgotten, 0);
    ck_assert_uint_gt(report.tally.voided_commits, 0);
    ck_assert_uint_gt(report.tally.refused, 0);
    ck_assert_uint_gt(report.tally.kept, 0);
    ck_assert_uint_gt(report.tally.redone, 0);
}
END_TEST

struct played {
    char *trace;
    size_t len;
    uint64_t digest;
};

static struct played play(uint64_t seed) {
    struct played played;
    FILE *file = open_memstream(&played.trace, &played.len);
    ck_assert_ptr_nonnull(file);
    sim_trace_to(file);
    played.digest = sim_play(seed);
    sim_trace_to(NULL);
    fclose(file);
    return played;
}

/* Played again in another order, and with memory elsewhere. */
START_TEST(a_seed_is_one_run_to_the_byte) {
    static struct played first[N_EXACT];
    void *elsewhere[N_EXACT];
    for (unsigned i = 0; i < N_EXACT; i++) {
        first[i] = play(i + 1);
        elsewhere[i] = malloc(100 + 977 * i);
    }
    for (unsigned i = N_EXACT; i-- > 0;) {
        struct played again = play(i + 1);
        ck_assert_msg(again.len == first[i].len &&
                          memcmp(again.trace, first[i].trace, again.len) == 0,
                      "two runs of seed %u show different events", i + 1);
        ck_assert_msg(again.digest == first[i].digest, "two runs of seed %u go different ways",
                      i + 1);
        ck_assert_uint_gt(again.len, 0);
        free(again.trace);
        free(first[i].trace);
        free(elsewhere[i]);
    }
}
END_TEST

START_TEST(a_rule_left_out_is_missed) {
    struct sim_runs runs = {
        .first = 1, .n = N_MUTANT_SEEDS, .n_processes = 1, .mutant = (enum sim_mutant) _i};
    struct sim_report report;
    sim_run(&runs, &report);
    ck_assert_msg(report.is_fault, "nobody notices that %s", sim_mutant_name(runs.mutant));
    printf("# after %llu seeds: %s\n", (unsigned long long) report.n_runs,
           sim_mutant_name(runs.mutant));
}
END_TEST

int main(void) {
    Suite *suite = suite_create("sim");
    TCase *tests = tcase_create("sim");
    suite_add_tcase(suite, tests);
    tcase_set_timeout(tests, 0); /* meson's holds */
    tcase_add_test(tests, no_run_finds_a_fault);
    tcase_add_test(tests, a_seed_is_one_run_to_the_byte);
    tcase_add_loop_test(tests, a_rule_left_out_is_missed, SIM_INTACT + 1, SIM_MUTANTS);
    SRunner *runner = srunner_create(suite);
    srunner_run_all(runner, CK_ENV);
    int failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed == 0 ? 0 : 1;
}
