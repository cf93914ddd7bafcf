/* SPDX-License-Identifier: MIT
 *
 * tasks.c - see tasks.h.
 *
 * Exactness rests on this: nothing here looks at a clock, an address or the order of a table that
 * depends on one. All chance is one row of numbers, drawn in the order in which tasks run.
 */
#include "tasks.h"
#include "../../core/own.h"

#include <ucontext.h>
#ifdef __SANITIZE_ADDRESS__
#include <sanitizer/common_interface_defs.h>
#endif

enum {
    STACK_BYTES = 256 * 1024,
    MOST_STEPS = 4 * 1000 * 1000, /* of one run; a usual one has some ten thousand */
};

#define NS_OF_MS ((pln_ns) 1000000)

enum state { FREE, READY, WAITING, DONE };

struct sim_task {
    ucontext_t context;
    const void *stack; /* kept for the next task in this place */
    size_t stack_bytes;
    void *fake_stack; /* AddressSanitizer's */
    enum state state;
    const void *waits_for;
    pln_ns until;
    bool is_late; /* its time came before the word */
    int node;
    void *note;
    void *(*run)(void *);
    void *arg;
    void *specific[SIM_MOST_SPECIFIC];
    const void *own[PLN_N_OWN];
};

static struct {
    struct sim_task tasks[SIM_MOST_TASKS];
    struct sim_task *current, *left; /* that ran before it */
    unsigned n_used;                 /* places of tasks that were ever used in this run */
    bool is_running;
    pln_ns now;
    uint64_t dice, digest;
    uint64_t steps;
    struct sim_pace pace;
    FILE *trace;
} sim = {.current = &sim.tasks[0]};

/* ---- chance and time ---- */

uint64_t sim_random(void) {
    uint64_t mixed = sim.dice += UINT64_C(0x9e3779b97f4a7c15);
    mixed = (mixed ^ mixed >> 30) * UINT64_C(0xbf58476d1ce4e5b9);
    mixed = (mixed ^ mixed >> 27) * UINT64_C(0x94d049bb133111eb);
    return mixed ^ mixed >> 31;
}

uint64_t sim_upto(uint64_t most) {
    return sim_random() % (most + 1);
}

bool sim_chance(unsigned thousandths) {
    return sim_upto(999) < thousandths;
}

pln_ns sim_now(void) {
    return sim.now;
}

/* ---- from stack to stack ---- */

#ifdef __SANITIZE_ADDRESS__

static void leave(struct sim_task *from, const struct sim_task *to) {
    __sanitizer_start_switch_fiber(from->state == DONE ? NULL : &from->fake_stack, to->stack,
                                   to->stack_bytes);
}

/* The first task's stack is the system's: known once it has been left. */
static void arrive(struct sim_task *self, struct sim_task *from) {
    const void *stack;
    size_t bytes;
    __sanitizer_finish_switch_fiber(self->fake_stack, &stack, &bytes);
    from->stack = stack;
    from->stack_bytes = bytes;
}

#else

static void leave(const struct sim_task *from, const struct sim_task *to) {
    (void) from;
    (void) to;
}

static void arrive(const struct sim_task *self, const struct sim_task *from) {
    (void) self;
    (void) from;
}

#endif

/* ---- who goes on ---- */

static void wake(struct sim_task *task, bool is_late) {
    task->state = READY;
    task->is_late = is_late;
}

/* Wakes whose time has come; returns when the next one's will. */
static pln_ns look_at_time(void) {
    pln_ns next = PLN_FOREVER;
    for (unsigned i = 0; i < sim.n_used; i++) {
        struct sim_task *task = &sim.tasks[i];
        if (task->state == WAITING && task->until <= sim.now) {
            wake(task, true);
        } else if (task->state == WAITING && task->until < next) {
            next = task->until;
        }
    }
    return next;
}

static struct sim_task *choose(void) {
    struct sim_task *ready[SIM_MOST_TASKS];
    size_t n = 0;
    while (n == 0) {
        pln_ns next = look_at_time();
        for (unsigned i = 0; i < sim.n_used; i++) {
            if (sim.tasks[i].state == READY) {
                ready[n++] = &sim.tasks[i];
            }
        }
        if (n == 0 && next == PLN_FOREVER) {
            sim_fail("all threads wait, and nothing will wake them");
        }
        sim.now = n == 0 ? next : sim.now;
    }
    return ready[sim_upto(n - 1)];
}

static void go_on(void) {
    struct sim_task *from = sim.current;
    sim.current = choose();
    uint64_t step[] = {(uint64_t) sim.now, (uint64_t) (sim.current - sim.tasks)};
    sim.digest = pln_hash(pln_bytes_of(step, sizeof step), sim.digest);
    if (++sim.steps > MOST_STEPS) {
        sim_fail("no end after %d steps", MOST_STEPS);
    }
    if (sim.current != from) {
        leave(from, sim.current);
        sim.left = from;
        swapcontext(&from->context, &sim.current->context);
        arrive(from, sim.left);
    }
}

bool sim_wait(const void *what, pln_ns until) {
    struct sim_task *self = sim.current;
    self->waits_for = what;
    self->until = until;
    self->state = WAITING;
    go_on();
    self->waits_for = NULL;
    return !self->is_late;
}

void sim_tell(const void *what, bool is_all) {
    struct sim_task *waiting[SIM_MOST_TASKS];
    size_t n = 0;
    for (unsigned i = 0; i < sim.n_used; i++) {
        if (sim.tasks[i].state == WAITING && sim.tasks[i].waits_for == what) {
            waiting[n++] = &sim.tasks[i];
        }
    }
    if (n > 1 && !is_all) {
        waiting[0] = waiting[sim_upto(n - 1)];
        n = 1;
    }
    for (size_t i = 0; i < n; i++) {
        wake(waiting[i], false);
    }
}

void sim_sleep(pln_ns duration) {
    sim_wait(NULL, sim.now + duration);
}

void sim_point(void) {
    if (!sim.is_running) {
        return;
    }
    uint64_t roll = sim_random();
    sim.now += 500 + (pln_ns) (roll >> 40) % 2000;
    if (roll % 1000 < sim.pace.pauses) {
        bool is_long = (roll >> 10) % 8 == 0;
        sim_sleep(
            (pln_ns) sim_upto((uint64_t) (is_long ? sim.pace.longest_ms * NS_OF_MS : NS_OF_MS)));
    } else if ((roll >> 20) % 1000 < sim.pace.switches) {
        go_on();
    }
}

/* ---- the life of a task ---- */

static void begin_task(void) {
    arrive(sim.current, sim.left);
    sim.current->run(sim.current->arg);
    sim_end_specific();
    sim.current->state = DONE;
    sim_tell(sim.current, true);
    go_on(); /* for good */
}

static struct sim_task *find_free(void) {
    for (unsigned i = 0; i < SIM_MOST_TASKS; i++) {
        if (sim.tasks[i].state == FREE) {
            sim.n_used = i < sim.n_used ? sim.n_used : i + 1;
            return &sim.tasks[i];
        }
    }
    return NULL;
}

static void make_context(struct sim_task *task) {
    ucontext_t *context = &task->context;
    getcontext(context);
    task->context.uc_stack.ss_sp = (void *) task->stack;
    task->context.uc_stack.ss_size = STACK_BYTES;
    makecontext(context, begin_task, 0);
}

struct sim_task *sim_start(void *(*run)(void *), void *arg) {
    struct sim_task *task = find_free();
    if (task == NULL || (task->stack == NULL && (task->stack = malloc(STACK_BYTES)) == NULL)) {
        return NULL;
    }
    task->stack_bytes = STACK_BYTES;
    task->fake_stack = NULL;
    task->run = run;
    task->arg = arg;
    task->node = sim.current->node;
    task->note = NULL;
    memset(task->specific, 0, sizeof task->specific);
    memset(task->own, 0, sizeof task->own);
    make_context(task);
    task->state = READY;
    return task;
}

void sim_join(struct sim_task *task) {
    while (task->state != DONE) {
        sim_wait(task, PLN_FOREVER);
    }
    task->state = FREE;
}

void sim_set_node(int node) {
    sim.current->node = node;
}

int sim_node(void) {
    return sim.current->node;
}

void sim_set_note(void *note) {
    sim.current->note = note;
}

void *sim_note(void) {
    return sim.current->note;
}

void **sim_specific(unsigned number) {
    return &sim.current->specific[number];
}

const void **sim_own(unsigned number) {
    return &sim.current->own[number];
}

void sim_forget_specific(unsigned number) {
    for (unsigned i = 0; i < SIM_MOST_TASKS; i++) {
        sim.tasks[i].specific[number] = NULL;
    }
}

/* ---- the life of a run ---- */

void sim_begin(uint64_t seed) {
    assert(!sim.is_running);
    sim.dice = seed * UINT64_C(0xd1342543de82ef95);
    sim.digest = 0;
    sim.steps = 0;
    sim.n_used = 1;
    sim.now = 1000 * 1000 * NS_OF_MS;
    sim.tasks[0].state = READY;
    sim.tasks[0].node = -1;
    sim.is_running = true;
}

void sim_set_pace(const struct sim_pace *pace) {
    sim.pace = *pace;
}

uint64_t sim_end(void) {
    for (unsigned i = 1; i < sim.n_used; i++) {
        assert(sim.tasks[i].state == FREE);
    }
    sim.is_running = false;
    return sim.digest;
}

void sim_trace_to(FILE *file) {
    sim.trace = file;
}

void sim_trace(const char *format, ...) {
    if (sim.trace == NULL) {
        return;
    }
    pln_ns since = sim.now - 1000 * 1000 * NS_OF_MS;
    fprintf(sim.trace, "%6lld.%06lld ms  n%-2d t%-2d  ", (long long) (since / NS_OF_MS),
            (long long) (since % NS_OF_MS), sim.current->node, (int) (sim.current - sim.tasks));
    va_list args;
    va_start(args, format);
    vfprintf(sim.trace, format, args);
    va_end(args);
    fputc('\n', sim.trace);
}
