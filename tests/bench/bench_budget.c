/* SPDX-License-Identifier: MIT
 *
 * bench_budget.c - whether L1's budget is honest: bench_budget [PREFIX], only lines whose name
 * begins so.
 *
 * Each mix of requests runs in a process of its own. What is held against the budget is the most
 * that this process ever had in memory more than before the tier was made, less a constant for
 * stacks, code and the C library. `gross` is the same without the constant, `useful` the bytes of
 * the keys and values that could be read at the end, `refused` the share of stores without room.
 */
#include "bench_budget.h"

#include <math.h>
#include <pthread.h>
#include <semaphore.h>
#include <stdio.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

#include "day.h"
#include "tier.h"

enum {
    CONSTANT = 4 << 20,
    N_WRITERS = 2,
    N_HELD = 512,         /* values that each writer borrows where a mix says so */
    MOST_OPS = 20 << 20,  /* a mix, so that the largest takes half a minute */
    TICK = 16,            /* stores of a writer in a millisecond of the cache's clock */
    SWEEP_EVERY = 1024,   /* stores of the first writer */
    SWEEP_BUCKETS = 1024, /* as much work as the cache's own sweep for so many stores */
    OVERHEAD = 80,        /* about what an entry takes beside its value; only for the planning */
    LARGE_LEAST = 64 << 10,
    LARGEST = 4 << 20,
    RELEASE_AT = 90, /* per cent of the stores after which stalled readers go on */
};

/* ---- the mixes ---- */

/* The next value's size at a moment of the run, 0 to 1. */
typedef size_t (*mix_size)(uint64_t *random, double moment, size_t most);

struct mix {
    const char *name;
    mix_size size;
    size_t mean;   /* of the sizes, roughly */
    double reach;  /* keys, in multiples of what fits */
    double rounds; /* bytes stored, in multiples of the budget */
    bool expires;  /* each entry ends after up to twice the time that fills the budget */
    bool borrows;  /* writers keep hundreds of values of all sizes */
    bool stops;    /* a reader stands still in the midst of an iteration */
};

static double share(uint64_t *random) {
    return (double) (bench_random(random) >> 11) * 0x1p-53;
}

static size_t log_even(uint64_t *random, double least, double most) {
    return (size_t) (least * exp(share(random) * log(most / least)));
}

static size_t size_fixed(uint64_t *random, double moment, size_t most) {
    (void) random, (void) moment, (void) most;
    return 100;
}

static size_t size_random(uint64_t *random, double moment, size_t most) {
    (void) moment, (void) most;
    return log_even(random, 16, 16 << 10);
}

static size_t size_day(uint64_t *random, double moment, size_t most) {
    (void) most;
    return day_size(random, moment);
}

static size_t size_tiny(uint64_t *random, double moment, size_t most) {
    (void) moment, (void) most;
    return 1 + bench_random(random) % 8;
}

static size_t size_over_power(uint64_t *random, double moment, size_t most) {
    (void) moment, (void) most;
    uint64_t bits = bench_random(random);
    return ((size_t) 16 << bits % 11) + 1 + (bits >> 32) % 8;
}

static size_t size_large(uint64_t *random, double moment, size_t most) {
    (void) moment;
    return log_even(random, LARGE_LEAST, (double) most);
}

static const struct mix mixes[] = {
    {"fixed", size_fixed, 100, 2, 6},
    {"random", size_random, 2400, 2, 12},
    {"day", size_day, 1300, 16, 160},
    {"tiny", size_tiny, 5, 2, 4},
    {"power", size_over_power, 3000, 2, 12},
    {"large", size_large, 600 << 10, 2, 40},
    {"expire", size_random, 2400, 2, 12, .expires = true},
    {"overwrite", size_random, 2400, 0.5, 24},
    {"borrowed", size_random, 2400, 2, 12, .borrows = true},
    {"stopped", size_random, 2400, 2, 12, .stops = true},
};

/* ---- a run ---- */

struct writer {
    _Alignas(PLN_CACHE_LINE) uint64_t random;
    size_t n_refused, n_held;
    struct pln_value *held[N_HELD];
};

/* All that a child needs; not on the heap, whose growth is measured. */
static struct course {
    const struct mix *mix;
    struct tier tier;
    size_t n_ops, n_keys, from, to, max_item; /* n_ops: of each writer */
    pln_ms life;
    struct writer writers[N_WRITERS];
    sem_t is_stopped, may_go_on;
    bool has_stopped;
} course;

static char bytes[LARGEST];

static pln_ms time_at(size_t op) {
    return 1 + (pln_ms) (op / TICK);
}

static void hold(struct writer *writer, const char *key, pln_ms now) {
    struct pln_l1_hit hit;
    struct pln_hashed at = tier_at(&course.tier, key);
    if (writer->n_held < N_HELD &&
        pln_l1_borrow(course.tier.l1, &at, now, 0, &hit, &writer->held[writer->n_held]) == PLN_OK) {
        writer->n_held++;
    }
}

static void store_one(struct writer *writer, size_t op) {
    char key[BENCH_KEY_BYTES];
    pln_ms now = time_at(op), end = PLN_FOREVER;
    double moment = (double) op / (double) course.n_ops, skewed = share(&writer->random);
    /* skewed: of twice what fits, some keys stay and some come and go */
    bench_key((uint32_t) (skewed * skewed * (double) course.n_keys), key);
    size_t size = course.mix->size(&writer->random, moment, course.max_item);
    if (course.mix->expires) {
        end = now + 1 + (pln_ms) (share(&writer->random) * 2 * (double) course.life);
    }
    writer->n_refused += !tier_put(&course.tier, key, pln_bytes_of(bytes, size), now, end);
    if (course.mix->borrows && op % (course.n_ops / N_HELD + 1) == 0) {
        hold(writer, key, now);
    }
}

static size_t store(void *arg, unsigned thread) {
    (void) arg;
    for (size_t i = course.from; i < course.to; i++) {
        store_one(&course.writers[thread], i);
        if (thread == 0 && i % SWEEP_EVERY == 0) {
            pln_l1_sweep(course.tier.l1, time_at(i), SWEEP_BUCKETS);
        }
    }
    return course.to - course.from;
}

static bool stop(void *arg, struct pln_bytes key, const struct pln_l1_hit *hit) {
    (void) arg, (void) key, (void) hit;
    if (!course.has_stopped) {
        course.has_stopped = true;
        sem_post(&course.is_stopped);
        sem_wait(&course.may_go_on);
    }
    return true;
}

static void *iterate(void *arg) {
    tier_each(&course.tier, time_at(0), stop, NULL);
    return arg;
}

static void run_until(size_t to) {
    course.from = course.to;
    course.to = to;
    bench_time(N_WRITERS, store, NULL);
}

/* The first tenth, then readers stall; they go on when nine tenths are done. */
static void run_stretches(void) {
    pthread_t iterator = pthread_self();
    run_until(course.n_ops / 10);
    if (course.mix->stops) {
        if (pthread_create(&iterator, NULL, iterate, NULL) != 0) {
            exit(1);
        }
        sem_wait(&course.is_stopped);
    }
    run_until(course.n_ops / 100 * RELEASE_AT);
    if (course.mix->stops) {
        sem_post(&course.may_go_on);
        pthread_join(iterator, NULL);
    }
    for (size_t i = 0; i < N_WRITERS; i++) {
        while (course.writers[i].n_held > 0) {
            pln_l1_release(course.tier.l1, course.writers[i].held[--course.writers[i].n_held]);
        }
    }
    run_until(course.n_ops);
}

struct outcome {
    double ratio, gross, useful, refused;
};

static void plan(const struct mix *mix, size_t max_bytes) {
    double fit = (double) max_bytes / (double) (mix->mean + OVERHEAD);
    double n_ops = mix->rounds * fit < MOST_OPS ? mix->rounds * fit : MOST_OPS;
    course.mix = mix;
    course.n_ops = (size_t) n_ops / N_WRITERS;
    course.n_keys = (size_t) (mix->reach * fit);
    course.max_item = max_bytes / 16 < LARGEST ? max_bytes / 16 : LARGEST;
    course.life = (pln_ms) (fit / (TICK * N_WRITERS));
    for (size_t i = 0; i < N_WRITERS; i++) {
        course.writers[i].random = 17 + i;
    }
    sem_init(&course.is_stopped, 0, 0);
    sem_init(&course.may_go_on, 0, 0);
}

/* In the child, which ends afterwards without giving anything back. */
static void run_mix(const struct mix *mix, size_t max_bytes, struct outcome *outcome) {
    plan(mix, max_bytes);
    bench_resident_mark();
    size_t before = bench_resident();
    tier_new(&course.tier, max_bytes, pln_hash);
    run_stretches();
    double growth = (double) (bench_resident_peak() - before), budget = (double) max_bytes;
    size_t n_refused = course.writers[0].n_refused + course.writers[1].n_refused;
    outcome->ratio = (growth - CONSTANT) / budget;
    outcome->gross = growth / budget;
    outcome->useful = (double) tier_useful(&course.tier, time_at(course.n_ops)) / budget;
    outcome->refused = (double) n_refused / (double) (course.n_ops * N_WRITERS);
}

/* ---- the lines ---- */

/* A clean process for each: memory that one has left behind would hide the growth of the next. */
static struct outcome run_apart(const struct mix *mix, size_t max_bytes) {
    struct outcome *shared = mmap(NULL, sizeof *shared, PROT_READ | PROT_WRITE,
                                  MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    int status = 0;
    if (shared == MAP_FAILED) {
        exit(1);
    }
    pid_t child = fork();
    if (child == 0) {
        run_mix(mix, max_bytes, shared);
        _exit(0);
    }
    if (child < 0 || waitpid(child, &status, 0) != child || status != 0) {
        fprintf(stderr, "bench: the mix %s ended with status %d\n", mix->name, status);
        exit(1);
    }
    struct outcome outcome = *shared;
    munmap(shared, sizeof *shared);
    return outcome;
}

static double worst;
static char worst_name[64];

static void bench_mix(const struct mix *mix, unsigned mebibytes) {
    char name[64];
    snprintf(name, sizeof name, "l1.budget.%s.%um", mix->name, mebibytes);
    if (!bench_is_wanted(name) && !bench_is_wanted("l1.budget.worst")) {
        return;
    }
    struct outcome outcome = run_apart(mix, (size_t) mebibytes << 20);
    printf("%s ratio=%.4f gross=%.4f useful=%.4f refused=%.4f\n", name, outcome.ratio,
           outcome.gross, outcome.useful, outcome.refused);
    fflush(stdout);
    if (outcome.ratio > worst) {
        worst = outcome.ratio;
        memcpy(worst_name, name, sizeof worst_name);
    }
}

static void bench_mixes(void) {
    memset(bytes, 'v', sizeof bytes);
    for (size_t i = 0; i < PLN_ARRAY_LEN(mixes); i++) {
        bench_mix(&mixes[i], 8);
        bench_mix(&mixes[i], 64);
        if (mixes[i].size == size_day) {
            bench_mix(&mixes[i], 512);
        }
    }
    if (bench_is_wanted("l1.budget.worst")) {
        printf("l1.budget.worst ratio=%.4f in=%s\n", worst, worst_name);
        fflush(stdout);
    }
}

int main(int argc, char **argv) {
    bench_choose(argc > 1 ? argv[1] : "");
    bench_print_machine();
    bench_mixes();
    bench_sizes();
    bench_stalls();
    return 0;
}
