/* SPDX-License-Identifier: MIT
 *
 * bench_l1.c - what the in-process tier costs: bench_l1 [PREFIX], only lines whose name begins so.
 *
 * The floor is the least that any cache must do: a seeded hash, one index line, one record with
 * the key and the value in it, a comparison and a copy; no threads, no recency, no deadlines.
 * It is timed in turn with the tier itself.
 */
#include <malloc.h>
#include <pthread.h>
#include <stdio.h>
#include <sys/mman.h>

#include "../../core/base/stats.h"
#include "../../l1/l1.h"
#include "bench.h"

enum {
    N_1M = 1000000,
    N_10K = 10000,
    FILL_BYTES = 21 << 20, /* 100,000 entries of these sizes */
    N_DRAWS = 1 << 22,
    N_OPS = 1500000, /* a thread and run */
    TICK = 4096,     /* requests in a millisecond of the cache's clock */
    SWEPT = 1024,    /* buckets */
    FLOOR_SLOTS = 8,
    MOST_MANY = 128,
};

static const size_t BIG = (size_t) 256 << 20;

/* ---- the floor ---- */

struct record {
    char key[BENCH_KEY_BYTES];
    char value[BENCH_VALUE_BYTES];
    char pad[12]; /* two whole lines */
};

struct floor {
    uint64_t (*index)[FLOOR_SLOTS]; /* 16 bits of hash, then the record's number plus one */
    struct record *records;
    size_t n_lines;
    uint64_t seed;
};

/* Page-aligned and on huge pages where the system grants them, as the tier's own table. */
static void *map(size_t bytes) {
    void *memory = mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (memory == MAP_FAILED) {
        fprintf(stderr, "bench: out of memory\n");
        exit(1);
    }
    madvise(memory, bytes, MADV_HUGEPAGE);
    return memory;
}

static size_t floor_line(const struct floor *floor, uint64_t hash) {
    return ((hash & UINT32_MAX) * floor->n_lines) >> 32;
}

static void floor_put(struct floor *floor, uint32_t number) {
    struct record *record = &floor->records[number];
    bench_key(number, record->key);
    memset(record->value, (int) number & 0xff, BENCH_VALUE_BYTES);
    uint64_t hash = pln_hash(pln_bytes_of(record->key, BENCH_KEY_BYTES), floor->seed);
    for (size_t line = floor_line(floor, hash);; line = (line + 1) % floor->n_lines) {
        for (size_t i = 0; i < FLOOR_SLOTS; i++) {
            if (floor->index[line][i] == 0) {
                floor->index[line][i] = (hash & ~(UINT64_MAX >> 16)) | (number + 1);
                return;
            }
        }
    }
}

static struct floor floor_new(size_t n_keys) {
    struct floor floor = {.n_lines = n_keys / 3, .seed = pln_random64()};
    floor.index = map(floor.n_lines * sizeof *floor.index);
    floor.records = map(n_keys * sizeof *floor.records);
    for (uint32_t i = 0; i < n_keys; i++) {
        floor_put(&floor, i);
    }
    return floor;
}

static void floor_free(struct floor *floor, size_t n_keys) {
    munmap(floor->index, floor->n_lines * sizeof *floor->index);
    munmap(floor->records, n_keys * sizeof *floor->records);
}

static bool floor_get(const struct floor *floor, const char *key, char *buffer) {
    uint64_t hash = pln_hash(pln_bytes_of(key, BENCH_KEY_BYTES), floor->seed);
    for (size_t line = floor_line(floor, hash);; line = (line + 1) % floor->n_lines) {
        for (size_t i = 0; i < FLOOR_SLOTS; i++) {
            uint64_t slot = floor->index[line][i];
            if (slot == 0) {
                return false;
            }
            const struct record *record = &floor->records[(slot & (UINT64_MAX >> 16)) - 1];
            if (((slot ^ hash) >> 48) == 0 && memcmp(record->key, key, BENCH_KEY_BYTES) == 0) {
                memcpy(buffer, record->value, BENCH_VALUE_BYTES);
                return true;
            }
        }
    }
}

/* ---- the tier ---- */

struct work {
    struct pln_l1 *l1;
    struct pln_counts *counts;
    struct floor floor;
    const uint32_t *draws;
    size_t n_keys, n_many;
    unsigned n_threads;
    uint64_t seed;
    pln_ms now;     /* of the cache's clock, when this run began */
    size_t nothing; /* 0, which the compiler does not know: makes one request wait for another */
};

static void work_new(struct work *work, size_t max_bytes) {
    struct pln_l1_options options = {.max_bytes = max_bytes, .max_item_bytes = 1 << 20};
    if (pln_counts_new(&work->counts) != PLN_OK) {
        exit(1);
    }
    work->seed = pln_random64();
    options.counts = work->counts;
    options.seed = work->seed;
    if (pln_l1_new(&options, &work->l1) != PLN_OK) {
        fprintf(stderr, "bench: %s\n", pln_error_text());
        exit(1);
    }
}

static void work_free(struct work *work) {
    pln_l1_free(work->l1);
    pln_counts_free(work->counts);
    work->l1 = NULL;
}

static struct pln_hashed hashed(const struct work *work, const char *key) {
    struct pln_bytes bytes = pln_bytes_of(key, BENCH_KEY_BYTES);
    return (struct pln_hashed){bytes, pln_hash(bytes, work->seed)};
}

static void put(const struct work *work, uint32_t number, pln_ms now) {
    char key[BENCH_KEY_BYTES], value[BENCH_VALUE_BYTES];
    bench_key(number, key);
    memset(value, (int) number & 0xff, sizeof value);
    struct pln_hashed at = hashed(work, key);
    struct pln_l1_item item = {.value = pln_bytes_of(value, sizeof value),
                               .life = {now, PLN_FOREVER, PLN_FOREVER, PLN_FOREVER}};
    /* PLN_NOT_STORED is as good: the other thread has stored the key a moment later. PLN_EBUSY
     * where the system stopped the other one inside a section */
    int status = pln_l1_put(work->l1, &at, &item, now, NULL, NULL);
    if (status < 0 && status != PLN_EBUSY) {
        fprintf(stderr, "bench: put: %s\n", pln_error_text());
        exit(1);
    }
}

/* May miss: a key is missing while it is replaced, and where its bucket is full (one in a million
 * at this load). */
static bool get_to(const struct work *work, uint32_t number, pln_ms now, char buffer[128]) {
    char key[BENCH_KEY_BYTES];
    struct pln_l1_hit hit;
    bench_key(number, key);
    struct pln_hashed at = hashed(work, key);
    int status = pln_l1_get(work->l1, &at, now, 0, buffer, 128, &hit);
    bench_use(buffer);
    return status == PLN_OK;
}

static bool get(const struct work *work, uint32_t number, pln_ms now) {
    char buffer[128];
    return get_to(work, number, now, buffer);
}

static pln_ms at_request(const struct work *work, size_t i) {
    return work->now + (pln_ms) (i / TICK);
}

static const uint32_t *draws_of(const struct work *work, unsigned thread) {
    return work->draws + (size_t) thread * (N_DRAWS / 2);
}

static size_t floor_gets(void *arg, unsigned thread) {
    const struct work *work = arg;
    const uint32_t *draws = draws_of(work, thread);
    char key[BENCH_KEY_BYTES], buffer[128];
    for (size_t i = 0; i < N_OPS; i++) {
        bench_key(draws[i], key);
        if (!floor_get(&work->floor, key, buffer)) {
            exit(1);
        }
        bench_use(buffer);
    }
    return N_OPS;
}

/* The floor with as many instructions more as a get of the tier takes (some 190), none of which
 * touches memory: they leave a processor less room to begin with the next request while this one
 * waits for its record. What remains between this and the tier is the tier's own. */
static size_t floor_idle(void *arg, unsigned thread) {
    const struct work *work = arg;
    const uint32_t *draws = draws_of(work, thread);
    char key[BENCH_KEY_BYTES], buffer[128];
    for (size_t i = 0; i < N_OPS; i++) {
        bench_key(draws[i], key);
        if (!floor_get(&work->floor, key, buffer)) {
            exit(1);
        }
        bench_use(buffer);
        __asm__ volatile(".rept 190\n\tnop\n\t.endr");
    }
    return N_OPS;
}

/* The same where each request depends on the answer to the one before, as in most programs: the
 * memory accesses of two requests cannot overlap. */
static size_t floor_chain(void *arg, unsigned thread) {
    const struct work *work = arg;
    const uint32_t *draws = draws_of(work, thread);
    char key[BENCH_KEY_BYTES], buffer[128] = {0};
    for (size_t i = 0; i < N_OPS; i++) {
        bench_key(draws[i + ((size_t) buffer[99] & work->nothing)], key);
        if (!floor_get(&work->floor, key, buffer)) {
            exit(1);
        }
        bench_use(buffer);
    }
    return N_OPS;
}

static size_t chain(void *arg, unsigned thread) {
    const struct work *work = arg;
    const uint32_t *draws = draws_of(work, thread);
    char buffer[128] = {0};
    for (size_t i = 0; i < N_OPS; i++) {
        get_to(work, draws[i + ((size_t) buffer[99] & work->nothing)], at_request(work, i), buffer);
    }
    return N_OPS;
}

static size_t gets(void *arg, unsigned thread) {
    const struct work *work = arg;
    const uint32_t *draws = draws_of(work, thread);
    for (size_t i = 0; i < N_OPS; i++) {
        get(work, draws[i], at_request(work, i));
    }
    return N_OPS;
}

static size_t mixed(void *arg, unsigned thread) {
    const struct work *work = arg;
    const uint32_t *draws = draws_of(work, thread);
    for (size_t i = 0; i < N_OPS; i++) {
        if (i % 20 == 19) {
            put(work, draws[i], at_request(work, i));
        } else {
            get(work, draws[i], at_request(work, i));
        }
    }
    return N_OPS;
}

static size_t replaces(void *arg, unsigned thread) {
    const struct work *work = arg;
    const uint32_t *draws = draws_of(work, thread);
    size_t n = N_OPS / 4;
    for (size_t i = 0; i < n; i++) {
        put(work, draws[i], at_request(work, i));
    }
    return n;
}

/* Read-through: a miss stores. */
static size_t fills(void *arg, unsigned thread) {
    const struct work *work = arg;
    const uint32_t *draws = draws_of(work, thread);
    for (size_t i = 0; i < N_OPS; i++) {
        if (!get(work, draws[i], at_request(work, i))) {
            put(work, draws[i], at_request(work, i));
        }
    }
    return N_OPS;
}

static void get_many(const struct work *work, const uint32_t *draws, pln_ms now) {
    char keys[MOST_MANY][BENCH_KEY_BYTES], buffer[128];
    struct pln_hashed at[MOST_MANY];
    struct pln_l1_hit hits[MOST_MANY];
    struct pln_value *values[MOST_MANY];
    int statuses[MOST_MANY];
    for (size_t i = 0; i < work->n_many; i++) {
        bench_key(draws[i], keys[i]);
        at[i] = hashed(work, keys[i]);
    }
    pln_l1_borrow_many(work->l1, at, work->n_many, now, hits, values, statuses);
    for (size_t i = 0; i < work->n_many; i++) {
        if (statuses[i] == PLN_OK) {
            memcpy(buffer, pln_value_data(values[i]), BENCH_VALUE_BYTES);
            bench_use(buffer);
            pln_l1_release(work->l1, values[i]);
        }
    }
}

static size_t gets_many(void *arg, unsigned thread) {
    const struct work *work = arg;
    const uint32_t *draws = draws_of(work, thread);
    size_t i = 0;
    for (; i < N_OPS; i += work->n_many) {
        get_many(work, draws + i, at_request(work, i));
    }
    return i;
}

/* ---- the lines ---- */

static const char *prefix = "";

static bool is_wanted(const char *name) {
    return strncmp(name, prefix, strlen(prefix)) == 0;
}

/* One run, the time that it took on the cache's clock, and the sweep that goes on beside it all. */
static void run(struct bench_series *series, struct work *work, unsigned n_threads,
                bench_body body) {
    bench_run(series, n_threads, body, work);
    work->now += N_OPS / TICK;
    pln_l1_sweep(work->l1, work->now, SWEPT);
}

static void measure(const char *name, struct work *work, unsigned n_threads, bench_body body) {
    struct bench_series series = {.n = 0}, warm_up = {.n = 0};
    if (!is_wanted(name)) {
        return;
    }
    work->n_threads = n_threads;
    run(&warm_up, work, n_threads, body);
    for (int i = 0; i < BENCH_RUNS; i++) {
        run(&series, work, n_threads, body);
    }
    bench_print(name, "ns", &series);
}

/* The tier and the floor in turn, A B A B. */
static void compare(struct work *work, const char *name, bench_body body, const char *floor_name,
                    bench_body floor_body) {
    char ratio_name[64];
    struct bench_series tier = {.n = 0}, floor = {.n = 0}, warm_up = {.n = 0};
    if (!is_wanted(name) && !is_wanted(floor_name)) {
        return;
    }
    work->floor = floor_new(work->n_keys);
    run(&warm_up, work, 1, floor_body);
    run(&warm_up, work, 1, body);
    for (int i = 0; i < BENCH_RUNS + 2; i++) {
        run(&floor, work, 1, floor_body);
        run(&tier, work, 1, body);
    }
    snprintf(ratio_name, sizeof ratio_name, "%s.vs.floor", name);
    bench_print(floor_name, "ns", &floor);
    bench_print(name, "ns", &tier);
    bench_print_one(ratio_name, "ratio", bench_median(&tier) / bench_median(&floor));
    floor_free(&work->floor, work->n_keys);
}

static void fill_all(struct work *work) {
    uint64_t state = 7;
    struct pln_l1_usage usage;
    /* in the order of the draws first, as a cache fills; then those never drawn */
    for (size_t i = 0; i < work->n_keys; i++) {
        put(work, (uint32_t) (bench_random(&state) % work->n_keys), 0);
    }
    for (uint32_t i = 0; i < work->n_keys; i++) {
        put(work, i, 0);
    }
    pln_l1_usage(work->l1, &usage);
    if (usage.entries < work->n_keys - work->n_keys / 1000) {
        fprintf(stderr, "bench: only %zu of %zu keys are held\n", usage.entries, work->n_keys);
        exit(1);
    }
}

static void bench_10k(void) {
    struct work work = {.n_keys = N_10K};
    uint32_t *draws = bench_zipf(N_10K, N_DRAWS, 0.99, 11);
    work.draws = draws;
    work_new(&work, 8 << 20);
    fill_all(&work);
    compare(&work, "l1.get.10k.1t", gets, "l1.floor.get.10k.1t", floor_gets);
    measure("l1.get.10k.2t", &work, 2, gets);
    work_free(&work);
    free(draws);
}

/* What bounds a get of many keys, beside the lines it touches. */
static void bench_bound(struct work *work) {
    if (is_wanted("l1.floor.idle.1m.1t")) {
        work->floor = floor_new(work->n_keys);
        measure("l1.floor.idle.1m.1t", work, 1, floor_idle);
        floor_free(&work->floor, work->n_keys);
    }
}

static void bench_many(struct work *work) {
    static const size_t sizes[] = {8, 32, 128};
    for (size_t i = 0; i < PLN_ARRAY_LEN(sizes); i++) {
        char name[64];
        snprintf(name, sizeof name, "l1.get_many%zu.1m.1t", sizes[i]);
        work->n_many = sizes[i];
        measure(name, work, 1, gets_many);
    }
}

static void bench_1m(void) {
    struct work work = {.n_keys = N_1M};
    uint32_t *draws = bench_zipf(N_1M, N_DRAWS, 0.99, 12);
    work.draws = draws;
    work_new(&work, BIG);
    fill_all(&work);
    compare(&work, "l1.get.1m.1t", gets, "l1.floor.get.1m.1t", floor_gets);
    bench_bound(&work);
    compare(&work, "l1.chain.1m.1t", chain, "l1.floor.chain.1m.1t", floor_chain);
    measure("l1.get.1m.2t", &work, 2, gets);
    bench_many(&work);
    measure("l1.mix95.1m.1t", &work, 1, mixed);
    measure("l1.mix95.1m.2t", &work, 2, mixed);
    measure("l1.replace.1m.1t", &work, 1, replaces);
    measure("l1.replace.1m.2t", &work, 2, replaces);
    work_free(&work);
    free(draws);
}

/* Zipf over 1 M keys through a table that holds some 100,000 of them. */
static void bench_fill(const char *name, unsigned n_threads) {
    struct work work = {.n_keys = N_1M};
    if (!is_wanted(name)) {
        return;
    }
    uint32_t *draws = bench_zipf(N_1M, N_DRAWS, 0.99, 13);
    work.draws = draws;
    work_new(&work, (size_t) FILL_BYTES);
    measure(name, &work, n_threads, fills);
    work_free(&work);
    free(draws);
}

/* All that a stored pair takes beyond its key and value, table and waste included, in a table that
 * is filled to its budget. */
static void bench_overhead(void) {
    struct work work = {.n_keys = N_1M};
    struct pln_l1_usage usage;
    if (!is_wanted("l1.entry.overhead")) {
        return;
    }
    work_new(&work, (size_t) 64 << 20);
    for (uint32_t i = 0; i < work.n_keys; i++) {
        put(&work, i, i / TICK);
    }
    pln_l1_usage(work.l1, &usage);
    bench_print_one("l1.entry.overhead", "bytes",
                    (double) usage.bytes / (double) usage.entries - BENCH_KEY_BYTES -
                        BENCH_VALUE_BYTES);
    work_free(&work);
}

int main(int argc, char **argv) {
    prefix = argc > 1 ? argv[1] : "";
    bench_print_machine();
    bench_10k();
    bench_1m();
    bench_fill("l1.fill.100k.1t", 1);
    bench_fill("l1.fill.100k.2t", 2);
    bench_overhead();
    return 0;
}
