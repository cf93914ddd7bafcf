/* SPDX-License-Identifier: MIT
 *
 * bench_async.c - a thousand gets in flight on one connection, beside what redis-benchmark gets
 * out of the same server over the same socket, in turn.
 *
 * redis-benchmark -P 64 has 50 connections of 64 commands each, as it does by default; we have
 * one. `l2.async1000.get` is a plain GET, as redis-benchmark and the measurements of other clients
 * have it; `l2.async1000.value` is a get of the tier over the same connection, which decodes an
 * envelope, sees to it that the value is not void, and copies it out. The
 * processor time is that of our whole process, the kernel's part included, for each get.
 */
#include <semaphore.h>
#include <stdio.h>
#include <sys/resource.h>

#include "../../l2/async.h"
#include "bench_l2.h"

enum {
    IN_FLIGHT = 1000,
    OPS = 1000000,
    BENCHMARK_CONNECTIONS = 50,
};

struct one {
    struct pln_l2_get get;
    struct pln_errand errand; /* of a raw one */
    struct stream *stream;
    char key[BENCH_KEY_BYTES];
};

/* Gets that follow one another: each that ends begins the next. Touched by the client's thread
 * alone, once the first are begun. */
struct stream {
    struct bed *bed;
    size_t n_begun, n_ended;
    pln_ns deadline;
    sem_t end;
    struct one ones[IN_FLIGHT];
};

static void begin(struct one *one, uint32_t number) {
    bench_key(number, one->key);
    one->get.key.key = pln_bytes_of(one->key, sizeof one->key);
    one->get.deadline = one->stream->deadline;
    bed_need(pln_l2_get_async(one->stream->bed->l2, &one->get) == PLN_OK, "get_async");
}

static void begin_raw(struct one *one, uint32_t number) {
    bench_key(number, one->key);
    one->errand.deadline = one->stream->deadline;
    bed_need(pln_async_post(&pln_redis_of(one->stream->bed->l2)->nodes[0]->pool, &one->errand) ==
                 PLN_OK,
             "post");
}

/* Whether another one is to begin. */
static bool goes_on(struct stream *stream) {
    if (++stream->n_ended == OPS) {
        sem_post(&stream->end);
    }
    return stream->n_begun < OPS;
}

static void done(struct pln_l2_get *get, int status, struct pln_l2_value *value) {
    struct one *one = get->arg;
    char copy[BENCH_VALUE_BYTES];
    bed_need(status == PLN_OK && value->item.value.len == sizeof copy, "get_async's end");
    memcpy(copy, value->item.value.data, sizeof copy);
    bench_use(copy);
    pln_l2_value_fini(value);
    if (goes_on(one->stream)) {
        begin(one, bed_draw(one->stream->bed, 0, one->stream->n_begun++));
    }
}

static void write_raw(struct pln_errand *errand, struct pln_batch *batch) {
    struct one *one = PLN_CONTAINER_OF(errand, struct one, errand);
    pln_batch_command(batch, 2);
    pln_batch_text(batch, "GET");
    pln_batch_bytes(batch, pln_bytes_of(one->key, sizeof one->key));
}

static void end_raw(struct pln_errand *errand, int status, const struct pln_reply *reply) {
    struct one *one = PLN_CONTAINER_OF(errand, struct one, errand);
    char copy[BENCH_VALUE_BYTES];
    bed_need(status == PLN_OK && reply->bytes.len == sizeof copy, "a raw get's end");
    memcpy(copy, reply->bytes.data, sizeof copy);
    bench_use(copy);
    if (goes_on(one->stream)) {
        begin_raw(one, bed_draw(one->stream->bed, 0, one->stream->n_begun++));
    }
}

static size_t run(struct bed *bed, void (*begin_one)(struct one *, uint32_t)) {
    static struct stream stream;
    stream.bed = bed;
    stream.n_begun = IN_FLIGHT;
    stream.n_ended = 0;
    stream.deadline = pln_clock_precise() + 60000000000;
    sem_init(&stream.end, 0, 0);
    for (size_t i = 0; i < IN_FLIGHT; i++) {
        struct one *one = &stream.ones[i];
        *one = (struct one){.stream = &stream};
        one->get.done = done;
        one->get.arg = one;
        one->errand.write = write_raw;
        one->errand.end = end_raw;
        begin_one(one, bed_draw(bed, 0, i));
    }
    sem_wait(&stream.end);
    sem_destroy(&stream.end);
    return OPS;
}

static size_t run_tier(void *arg, unsigned thread) {
    (void) thread;
    return run(arg, begin);
}

static size_t run_raw(void *arg, unsigned thread) {
    (void) thread;
    return run(arg, begin_raw);
}

/* ---- redis-benchmark ---- */

static double ask_benchmark(const struct bed *bed, const char *test, int n) {
    char command[256], line[256];
    double ops = 0;
    snprintf(command, sizeof command,
             "redis-benchmark -s %s -t %s -d %d -r %d -n %d -c %d -P 64 --csv 2>&1",
             bed->server.path, test, BENCH_VALUE_BYTES, N_KEYS, n, BENCHMARK_CONNECTIONS);
    FILE *output = popen(command, "r");
    bed_need(output != NULL, "redis-benchmark");
    while (fgets(line, sizeof line, output) != NULL) {
        (void) sscanf(line, "\"%*[A-Z]\",\"%lf\"", &ops);
    }
    bed_need(pclose(output) == 0 && ops > 0, "redis-benchmark (is it installed?)");
    return ops;
}

static double said; /* by redis-benchmark, of its own run */

static size_t run_benchmark(void *arg, unsigned thread) {
    (void) thread;
    said = ask_benchmark(arg, "get", OPS);
    return OPS;
}

/* ---- in turn ---- */

static double seconds_of(int who) {
    struct rusage usage;
    getrusage(who, &usage);
    return (double) (usage.ru_utime.tv_sec + usage.ru_stime.tv_sec) +
           (double) (usage.ru_utime.tv_usec + usage.ru_stime.tv_usec) * 1e-6;
}

struct side {
    bench_body body;
    struct bench_series ops, cpu; /* a second; microseconds for each */
};

static void measure(struct bed *bed, struct side *side) {
    struct bench_series *ops = &side->ops, *cpu = &side->cpu;
    double self = seconds_of(RUSAGE_SELF), children = seconds_of(RUSAGE_CHILDREN);
    double server = bed_server_seconds(bed);
    bench_run(ops, 1, side->body, bed);
    double *last = &ops->values[ops->n - 1];
    *last = side->body == run_benchmark ? said : 1e9 / *last;
    ops->own += bed_server_seconds(bed) - server + seconds_of(RUSAGE_CHILDREN) - children;
    cpu->values[cpu->n++] = (seconds_of(RUSAGE_SELF) - self) * 1e6 / OPS;
    cpu->busy = ops->busy;
    cpu->own = ops->own;
    cpu->wall = ops->wall;
}

void bench_async(struct bed *bed) {
    struct side warm[] = {{.body = run_benchmark}, {.body = run_tier}, {.body = run_raw}};
    struct side sides[] = {{.body = run_benchmark}, {.body = run_tier}, {.body = run_raw}};
    struct side *benchmark = &sides[0], *tier = &sides[1], *raw = &sides[2];
    if (!bench_is_wanted("l2.benchmark.p64") && !bench_is_wanted("l2.async1000.")) {
        return;
    }
    ask_benchmark(bed, "set", 20 * N_KEYS); /* so that its gets find something */
    fprintf(stderr, "redis-benchmark: %d connections, 64 commands in flight on each\n",
            BENCHMARK_CONNECTIONS);
    for (size_t i = 0; i < PLN_ARRAY_LEN(sides); i++) {
        measure(bed, &warm[i]);
    }
    for (int round = 0; round < ROUNDS; round++) {
        for (size_t i = 0; i < PLN_ARRAY_LEN(sides); i++) {
            measure(bed, &sides[i]);
        }
    }
    bench_print("l2.benchmark.p64", "ops", &benchmark->ops);
    bench_print("l2.async1000.get", "ops", &raw->ops);
    bench_print("l2.async1000.value", "ops", &tier->ops);
    bench_print_one("l2.async1000.get.vs.benchmark", "ratio",
                    bench_median(&raw->ops) / bench_median(&benchmark->ops));
    bench_print_one("l2.async1000.value.vs.benchmark", "ratio",
                    bench_median(&tier->ops) / bench_median(&benchmark->ops));
    bench_print("l2.async1000.cpu", "us", &raw->cpu);
    bench_print("l2.async1000.value.cpu", "us", &tier->cpu);
}
