/* SPDX-License-Identifier: MIT
 *
 * bench.c - workloads, timing and printing for all benchmarks. A failure here ends the program: a
 * benchmark has nobody to report to.
 */
#include "bench.h"

#include <fcntl.h>
#include <math.h>
#include <pthread.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/utsname.h>
#include <time.h>
#include <unistd.h>

enum { MAX_THREADS = 64 };

static void *need(void *memory) {
    if (memory == NULL) {
        fprintf(stderr, "bench: out of memory\n");
        exit(1);
    }
    return memory;
}

/* ---- workloads ---- */

uint64_t bench_random(uint64_t *state) {
    uint64_t x = *state += UINT64_C(0x9e3779b97f4a7c15);
    x = (x ^ (x >> 30)) * UINT64_C(0xbf58476d1ce4e5b9);
    x = (x ^ (x >> 27)) * UINT64_C(0x94d049bb133111eb);
    return x ^ (x >> 31);
}

static uint32_t *shuffled(size_t n, uint64_t *state) {
    uint32_t *numbers = need(malloc(n * sizeof *numbers));
    for (size_t i = 0; i < n; i++) {
        numbers[i] = (uint32_t) i;
    }
    for (size_t i = n; i > 1; i--) {
        size_t other = bench_random(state) % i;
        uint32_t kept = numbers[i - 1];
        numbers[i - 1] = numbers[other];
        numbers[other] = kept;
    }
    return numbers;
}

static size_t rank_at(const double *sums, size_t n, double at) {
    size_t low = 0, high = n - 1;
    while (low < high) {
        size_t middle = (low + high) / 2;
        if (sums[middle] < at) {
            low = middle + 1;
        } else {
            high = middle;
        }
    }
    return low;
}

uint32_t *bench_zipf(size_t n_keys, size_t n, double exponent, uint64_t seed) {
    uint64_t state = seed;
    double total = 0;
    double *sums = need(malloc(n_keys * sizeof *sums));
    uint32_t *draws = need(malloc(n * sizeof *draws));
    uint32_t *numbers = shuffled(n_keys, &state);
    for (size_t i = 0; i < n_keys; i++) {
        total += 1 / pow((double) (i + 1), exponent);
        sums[i] = total;
    }
    for (size_t i = 0; i < n; i++) {
        double at = (double) (bench_random(&state) >> 11) * 0x1p-53 * total;
        draws[i] = numbers[rank_at(sums, n_keys, at)];
    }
    free(numbers);
    free(sums);
    return draws;
}

/* ---- timing ---- */

static double seconds_now(void) {
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (double) now.tv_sec + (double) now.tv_nsec * 1e-9;
}

struct runner {
    pthread_t thread;
    pthread_barrier_t *start;
    bench_body body;
    void *arg;
    unsigned number;
    double ns;
};

static void pin(unsigned number) {
    cpu_set_t all, one;
    unsigned at = 0;
    if (sched_getaffinity(0, sizeof all, &all) != 0) {
        return;
    }
    unsigned wanted = number % (unsigned) CPU_COUNT(&all);
    for (size_t cpu = 0; cpu < CPU_SETSIZE; cpu++) {
        if (CPU_ISSET(cpu, &all) && at++ == wanted) {
            CPU_ZERO(&one);
            CPU_SET(cpu, &one);
            pthread_setaffinity_np(pthread_self(), sizeof one, &one);
            return;
        }
    }
}

static void *run(void *arg) {
    struct runner *runner = arg;
    pin(runner->number);
    pthread_barrier_wait(runner->start);
    double begin = seconds_now();
    size_t n = runner->body(runner->arg, runner->number);
    runner->ns = (seconds_now() - begin) * 1e9 / (double) n;
    return NULL;
}

double bench_time(unsigned n_threads, bench_body body, void *arg) {
    struct runner runners[MAX_THREADS];
    pthread_barrier_t start;
    double sum = 0;
    pthread_barrier_init(&start, NULL, n_threads);
    for (unsigned i = 0; i < n_threads; i++) {
        runners[i] = (struct runner){.start = &start, .body = body, .arg = arg, .number = i};
        if (pthread_create(&runners[i].thread, NULL, run, &runners[i]) != 0) {
            fprintf(stderr, "bench: no thread\n");
            exit(1);
        }
    }
    for (unsigned i = 0; i < n_threads; i++) {
        pthread_join(runners[i].thread, NULL);
        sum += runners[i].ns;
    }
    pthread_barrier_destroy(&start);
    return sum / n_threads;
}

/* Seconds that all processors were busy since boot; 0 where the system does not tell. */
static double busy_seconds(void) {
    double user = 0, nice = 0, system = 0;
    FILE *file = fopen("/proc/stat", "r");
    if (file == NULL) {
        return 0;
    }
    if (fscanf(file, "cpu %lf %lf %lf", &user, &nice, &system) != 3) {
        user = nice = system = 0;
    }
    fclose(file);
    return (user + nice + system) / (double) sysconf(_SC_CLK_TCK);
}

static double own_seconds(void) {
    struct rusage usage;
    getrusage(RUSAGE_SELF, &usage);
    return (double) (usage.ru_utime.tv_sec + usage.ru_stime.tv_sec) +
           (double) (usage.ru_utime.tv_usec + usage.ru_stime.tv_usec) * 1e-6;
}

void bench_run(struct bench_series *series, unsigned n_threads, bench_body body, void *arg) {
    double busy = busy_seconds(), own = own_seconds(), wall = seconds_now();
    series->values[series->n++] = bench_time(n_threads, body, arg);
    series->busy += busy_seconds() - busy;
    series->own += own_seconds() - own;
    series->wall += seconds_now() - wall;
}

/* ---- memory ---- */

/* A line of /proc/self/status in kilobytes; read without the heap, which may be what is measured.
 */
static size_t status_bytes(const char *label) {
    char text[4096];
    int file = open("/proc/self/status", O_RDONLY);
    ssize_t n = file >= 0 ? read(file, text, sizeof text - 1) : -1;
    if (file >= 0) {
        close(file);
    }
    text[n > 0 ? n : 0] = '\0';
    const char *at = strstr(text, label);
    if (at == NULL) {
        fprintf(stderr, "bench: the system does not say %s\n", label);
        exit(1);
    }
    return strtoull(at + strlen(label), NULL, 10) << 10;
}

size_t bench_resident(void) {
    return status_bytes("VmRSS:");
}

size_t bench_resident_peak(void) {
    return status_bytes("VmHWM:");
}

void bench_resident_mark(void) {
    int file = open("/proc/self/clear_refs", O_WRONLY);
    if (file >= 0) {
        if (write(file, "5", 1) != 1) {
            fprintf(stderr, "bench: the peak of memory is that of the whole run\n");
        }
        close(file);
    }
}

/* ---- which lines ---- */

static const char *chosen = "";

void bench_choose(const char *prefix) {
    chosen = prefix;
}

bool bench_is_wanted(const char *name) {
    return strncmp(name, chosen, strlen(chosen)) == 0;
}

/* ---- printing ---- */

static int compare(const void *a, const void *b) {
    double x = *(const double *) a, y = *(const double *) b;
    return (x > y) - (x < y);
}

static void sorted(const struct bench_series *series, double *values) {
    memcpy(values, series->values, series->n * sizeof *values);
    qsort(values, series->n, sizeof *values, compare);
}

double bench_median(const struct bench_series *series) {
    double values[64];
    sorted(series, values);
    return series->n % 2 == 1 ? values[series->n / 2]
                              : (values[series->n / 2 - 1] + values[series->n / 2]) / 2;
}

void bench_print(const char *name, const char *metric, const struct bench_series *series) {
    double values[64];
    sorted(series, values);
    /* the system counts in hundredths of a second: less than three of them say nothing */
    double others = series->busy - series->own;
    double share = others / (series->wall * (double) sysconf(_SC_NPROCESSORS_ONLN));
    printf("%s %s=%.4g min=%.4g max=%.4g runs=%zu%s\n", name, metric, bench_median(series),
           values[0], values[series->n - 1], series->n,
           others > 0.03 && share > 0.05 ? " noisy=1" : "");
    fflush(stdout);
}

void bench_print_one(const char *name, const char *metric, double value) {
    printf("%s %s=%.4g\n", name, metric, value);
    fflush(stdout);
}

void bench_measure(const char *name, unsigned n_threads, bench_body body, void *arg) {
    struct bench_series series = {.n = 0};
    if (!bench_is_wanted(name)) {
        return;
    }
    bench_time(n_threads, body, arg);
    for (int i = 0; i < BENCH_RUNS; i++) {
        bench_run(&series, n_threads, body, arg);
    }
    bench_print(name, "ns", &series);
}

void bench_print_machine(void) {
    struct utsname system;
    char line[256], cpu[128] = "unknown";
    FILE *file = fopen("/proc/cpuinfo", "r");
    while (file != NULL && fgets(line, sizeof line, file) != NULL) {
        if (sscanf(line, "model name : %127[^\n]", cpu) == 1) {
            break;
        }
    }
    if (file != NULL) {
        fclose(file);
    }
    uname(&system);
    printf("machine cores=%ld cpu=\"%s\" kernel=%s compiler=\"%s\"\n",
           sysconf(_SC_NPROCESSORS_ONLN), cpu, system.release, __VERSION__);
    fflush(stdout);
}
