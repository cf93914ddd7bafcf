/* SPDX-License-Identifier: MIT
 *
 * tasks.h - threads that are none: each task has a stack of its own, one runs at a time, and which
 * one goes on at a point follows from a seed alone. Time is a number that grows at points and, when
 * all tasks wait, jumps to the next deadline.
 *
 * threads.c puts them in the place of the system's for the code under test: pthread_create() makes
 * a task, locks, conditions and sleeps wait in this time, and thread-specific data are the task's.
 * So a task may be left at any point, also amid an operation of L1.
 */
#ifndef PLN_SIM_TASKS_H
#define PLN_SIM_TASKS_H

#include <stdio.h>

#include "../../core/base/base.h"

enum { SIM_MOST_TASKS = 64, SIM_MOST_SPECIFIC = 64 };

struct sim_task; /* opaque */

/* How a run goes about its points: in thousandths of them. */
struct sim_pace {
    unsigned switches; /* another task goes on */
    unsigned pauses;   /* the task sleeps: microseconds mostly, now and then the longest time */
    pln_ms longest_ms;
};

/* Begins a run; the caller is its first task. */
void sim_begin(uint64_t seed);
void sim_set_pace(const struct sim_pace *pace);
/* Ends it; all other tasks must have been joined. Returns a number that two runs have in common
 * only if they left the same tasks at the same times. */
uint64_t sim_end(void);
/* Lines of sim_trace() go there; NULL: nowhere. */
void sim_trace_to(FILE *file);

/* ---- from tasks ---- */

pln_ns sim_now(void);
uint64_t sim_random(void);
/* From 0 to `most`. */
uint64_t sim_upto(uint64_t most);
/* True in so many cases of a thousand. */
bool sim_chance(unsigned thousandths);
/* A place where another task may go on, and time pass. */
void sim_point(void);
void sim_sleep(pln_ns duration);
/* Waits until told of `what`, or a point in time. False where that came first. */
bool sim_wait(const void *what, pln_ns until);
/* Tells all who wait for it, or one of them. */
void sim_tell(const void *what, bool is_all);
/* Starts a task, of the same node as its starter; NULL where there are too many. */
struct sim_task *sim_start(void *(*run)(void *), void *arg);
void sim_join(struct sim_task *task);
/* Which node of the fleet the task belongs to: shown in traces, and handed on to those it starts.
 */
void sim_set_node(int node);
int sim_node(void);
/* What the task carries along for whoever looks. */
void sim_set_note(void *note);
void *sim_note(void);
/* The task's own data, by number; threads.c. */
void **sim_specific(unsigned number);
/* What the library keeps for the task: core/own.h. */
const void **sim_own(unsigned number);
void sim_forget_specific(unsigned number);
/* Called for the data of a task that ends; threads.c. */
void sim_end_specific(void);

void sim_trace(const char *format, ...) __attribute__((format(printf, 1, 2)));
/* Ends the process: the run has found a fault. Given by whoever runs runs (runs.c). */
void sim_fail(const char *format, ...) __attribute__((format(printf, 1, 2), noreturn));

#endif
