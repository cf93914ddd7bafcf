/* SPDX-License-Identifier: MIT
 *
 * sim.c - the program of `./dev sim`: plays runs from a seed on until one finds a fault, and says
 * how to see that one again.
 *
 *   sim [N] [--seed S] [-v] [--mutant M]
 *
 * N runs, 100,000 by default, from seed 1 on; -v shows every event of them; --mutant leaves a rule
 * of the protocol out (seams.h), by its number.
 */
#include "runs.h"

#include <unistd.h>

static bool take_number(const char *text, uint64_t *number) {
    char *end;
    *number = strtoull(text, &end, 10);
    return *text >= '0' && *text <= '9' && *end == 0;
}

static int refuse(const char *what) {
    fprintf(stderr, "sim: cannot take '%s'; usage: sim [N] [--seed S] [-v] [--mutant 0..%d]\n",
            what, SIM_MUTANTS - 1);
    return 2;
}

/* Returns 0, or what to exit with. */
static int read_words(int n, char **words, struct sim_runs *runs) {
    for (int i = 1; i < n; i++) {
        uint64_t number = 0;
        bool has_next = i + 1 < n && take_number(words[i + 1], &number);
        if (strcmp(words[i], "-v") == 0) {
            runs->trace = stdout;
            runs->n_processes = 1;
        } else if (strcmp(words[i], "--seed") == 0 && has_next) {
            runs->first = number;
            i++;
        } else if (strcmp(words[i], "--mutant") == 0 && has_next && number < SIM_MUTANTS) {
            runs->mutant = (enum sim_mutant) number;
            i++;
        } else if (!take_number(words[i], &runs->n)) {
            return refuse(words[i]);
        }
    }
    return 0;
}

static void show(const struct sim_report *report, double seconds) {
    const struct sim_tally *tally = &report->tally;
    printf("%llu runs in %.1f s (%.0f a second)\n", (unsigned long long) report->n_runs, seconds,
           (double) report->n_runs / seconds);
    printf("reads %llu:", (unsigned long long) tally->reads);
    for (int source = 0; source <= PLN_FROM_NEGATIVE; source++) {
        printf(" %s %llu,", pln_source_name(source), (unsigned long long) tally->from[source]);
    }
    printf(" failed %llu\n", (unsigned long long) tally->failures);
    printf("writes %llu, of them failed %llu; messages %llu, links lost %llu, repaired %llu "
           "(served meanwhile %llu), crashes %llu, "
           "servers that forgot %llu; commits void %llu, fills refused %llu; "
           "kept %llu, carried out later %llu\n",
           (unsigned long long) tally->writes, (unsigned long long) tally->writes_failed,
           (unsigned long long) tally->messages, (unsigned long long) tally->losses,
           (unsigned long long) tally->repairs, (unsigned long long) tally->gap_hits,
           (unsigned long long) tally->crashes, (unsigned long long) tally->forgotten,
           (unsigned long long) tally->voided_commits, (unsigned long long) tally->refused,
           (unsigned long long) tally->kept, (unsigned long long) tally->redone);
}

int main(int n, char **words) {
    long cores = sysconf(_SC_NPROCESSORS_ONLN);
    struct sim_runs runs = {
        .first = 1, .n = 100000, .n_processes = cores > 1 ? (unsigned) cores : 1};
    struct sim_report report;
    struct timespec before, after;
    int status = read_words(n, words, &runs);
    if (status != 0) {
        return status;
    }
    clock_gettime(CLOCK_MONOTONIC, &before);
    sim_run(&runs, &report);
    clock_gettime(CLOCK_MONOTONIC, &after);
    show(&report, (double) (after.tv_sec - before.tv_sec) +
                      (double) (after.tv_nsec - before.tv_nsec) * 1e-9);
    if (report.is_fault) {
        printf("seed %llu: %s\nto see it again: ./dev sim 1 --seed %llu -v\n",
               (unsigned long long) report.seed, report.text, (unsigned long long) report.seed);
    }
    return report.is_fault ? 1 : 0;
}
