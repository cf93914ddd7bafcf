/* SPDX-License-Identifier: MIT
 *
 * runs.c - see runs.h. A child reports in memory that it shares with its parent, before each run
 * and at the fault, so that a crash too is known by its seed.
 */
#include "runs.h"
#include "play.h"

#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

enum { MOST_PROCESSES = 64 };

static struct sim_report *shared; /* one for each process, in the parent; in a child its own */
static FILE *trace;

void sim_fail(const char *format, ...) {
    va_list args;
    va_start(args, format);
    vsnprintf(shared->text, sizeof shared->text, format, args);
    va_end(args);
    shared->is_fault = true;
    shared->tally = sim_tally;
    sim_trace("FAULT: %s", shared->text);
    if (trace != NULL) {
        fflush(trace);
    }
    _exit(1);
}

static void run_share(const struct sim_runs *runs, unsigned number) {
    shared += number;
    trace = runs->trace;
    sim_trace_to(trace);
    sim_mutant = runs->mutant;
    for (uint64_t i = number; i < runs->n; i += runs->n_processes) {
        shared->seed = runs->first + i;
        shared->n_runs++;
        sim_play(shared->seed);
    }
    shared->tally = sim_tally;
    if (trace != NULL) {
        fflush(trace);
    }
    _exit(0);
}

static void add(struct sim_tally *sum, const struct sim_tally *tally) {
    uint64_t *to = (uint64_t *) sum;
    const uint64_t *from = (const uint64_t *) tally;
    for (size_t i = 0; i < sizeof *sum / sizeof *to; i++) {
        to[i] += from[i];
    }
}

static void collect(struct sim_report *report, const struct sim_report *one) {
    struct sim_tally tally = report->tally;
    uint64_t n_runs = report->n_runs + one->n_runs;
    if (one->is_fault && (!report->is_fault || one->seed < report->seed)) {
        *report = *one;
    }
    add(&tally, &one->tally);
    report->tally = tally;
    report->n_runs = n_runs;
}

static void await(pid_t child, struct sim_report *one) {
    int status;
    if (waitpid(child, &status, 0) != child) {
        return;
    }
    if (WIFSIGNALED(status)) {
        one->is_fault = true;
        snprintf(one->text, sizeof one->text, "the library ended by signal %d (%s)",
                 WTERMSIG(status), strsignal(WTERMSIG(status)));
    } else if (WEXITSTATUS(status) != 0 && !one->is_fault) {
        one->is_fault = true;
        snprintf(one->text, sizeof one->text, "the process ended with status %d",
                 WEXITSTATUS(status));
    }
}

void sim_run(const struct sim_runs *runs, struct sim_report *report) {
    unsigned n = runs->n_processes < MOST_PROCESSES ? runs->n_processes : MOST_PROCESSES;
    struct sim_runs own = *runs;
    pid_t children[MOST_PROCESSES];
    own.n_processes = n;
    *report = (struct sim_report){0};
    shared = mmap(NULL, n * sizeof *shared, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1,
                  0);
    if (shared == MAP_FAILED) {
        abort();
    }
    fflush(NULL);
    for (unsigned i = 0; i < n; i++) {
        children[i] = fork();
        if (children[i] == 0) {
            run_share(&own, i);
        }
    }
    for (unsigned i = 0; i < n; i++) {
        await(children[i], &shared[i]);
        collect(report, &shared[i]);
    }
    munmap(shared, n * sizeof *shared);
}
