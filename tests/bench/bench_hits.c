/* SPDX-License-Identifier: MIT
 *
 * bench_hits.c - which share of recorded requests L1 answers, and what a request costs:
 *
 *     bench_hits TRACE... [--policy P]... [--sizes 1,5,10,25] [--exact]
 *
 * A table starts empty and holds a share of the trace's unique keys, to the nearest. Each request
 * is a get and, on a miss, a put of one byte; the clock goes on by one each time. --exact replays
 * an exact LRU beside it. The hash is seeded always alike, so that a figure can be had again.
 */
#include <getopt.h>
#include <stdio.h>

#include "../../core/base/stats.h"
#include "../../l1/l1.h"
#include "bench.h"
#include "trace.h"

enum {
    MOST_SIZES = 32,
    /* Bytes that never bound the table: its entries do. */
    BYTES_LEAST = 16 << 20,
    BYTES_ENTRY = 512,
};

static const uint64_t SEED = 42;

static const struct {
    const char *name;
    enum pln_l1_eviction eviction;
} policies[] = {{"lru", PLN_L1_LRU},
                {"adaptive", PLN_L1_ADAPTIVE},
                {"fifo", PLN_L1_FIFO},
                {"random", PLN_L1_RANDOM},
                {"none", PLN_L1_NONE}};

struct options {
    bool is_wanted[PLN_ARRAY_LEN(policies)];
    unsigned long sizes[MOST_SIZES]; /* percent */
    size_t n_sizes;
    bool is_exact;
};

static size_t capacity_of(const struct bench_trace *trace, unsigned long percent) {
    size_t capacity = (trace->n_unique * percent + 50) / 100;
    return capacity > 0 ? capacity : 1;
}

/* ---- the exact LRU ---- */

/* A ring of keys by number, from the oldest to the newest; the number after the last is where it
 * begins and ends. */
struct ring {
    uint32_t *newer, *older;
    uint32_t end;
};

static const uint32_t ABSENT = UINT32_MAX; /* as `newer`: not in the ring */

static void leave(struct ring *ring, uint32_t key) {
    ring->older[ring->newer[key]] = ring->older[key];
    ring->newer[ring->older[key]] = ring->newer[key];
    ring->newer[key] = ABSENT;
}

static void join_newest(struct ring *ring, uint32_t key) {
    uint32_t newest = ring->older[ring->end];
    ring->newer[key] = ring->end;
    ring->older[key] = newest;
    ring->newer[newest] = ring->older[ring->end] = key;
}

static struct ring ring_new(size_t n_keys) {
    size_t bytes = (n_keys + 1) * sizeof(uint32_t);
    struct ring ring = {malloc(bytes), malloc(bytes), (uint32_t) n_keys};
    if (ring.newer == NULL || ring.older == NULL) {
        fprintf(stderr, "bench_hits: out of memory\n");
        exit(1);
    }
    memset(ring.newer, 0xff, bytes);
    ring.newer[ring.end] = ring.older[ring.end] = ring.end;
    return ring;
}

static double exact_ratio(const struct bench_trace *trace, size_t capacity) {
    struct ring ring = ring_new(trace->n_unique);
    size_t n_hits = 0, n_held = 0;
    for (size_t i = 0; i < trace->n; i++) {
        uint32_t key = trace->numbers[i];
        if (ring.newer[key] != ABSENT) {
            n_hits++;
            leave(&ring, key);
        } else if (n_held == capacity) {
            leave(&ring, ring.newer[ring.end]);
        } else {
            n_held++;
        }
        join_newest(&ring, key);
    }
    free(ring.newer);
    free(ring.older);
    return (double) n_hits / (double) trace->n;
}

/* ---- L1 ---- */

struct replay {
    const struct bench_trace *trace;
    struct pln_l1 *l1;
    enum pln_l1_eviction eviction;
    size_t n_hits;
};

static void put(const struct replay *replay, const struct pln_hashed *key, pln_ms now) {
    struct pln_l1_item item = {.value = pln_bytes_of("v", 1),
                               .life = {now, PLN_FOREVER, PLN_FOREVER, PLN_FOREVER}};
    int status = pln_l1_put(replay->l1, key, &item, now, NULL, NULL);
    if (status < 0 && !(status == PLN_EBUSY && replay->eviction == PLN_L1_NONE)) {
        fprintf(stderr, "bench_hits: put: %s\n", pln_error_text());
        exit(1);
    }
}

static size_t run(void *arg, unsigned thread) {
    struct replay *replay = arg;
    char buffer[8];
    struct pln_l1_hit hit;
    size_t n = replay->trace->n;
    (void) thread;
    replay->n_hits = 0;
    for (size_t i = 0; i < n; i++) {
        struct pln_bytes bytes = replay->trace->keys[i];
        struct pln_hashed key = {bytes, pln_hash(bytes, SEED)};
        if (pln_l1_get(replay->l1, &key, (pln_ms) i, 0, buffer, sizeof buffer, &hit) == PLN_OK) {
            replay->n_hits++;
        } else {
            put(replay, &key, (pln_ms) i);
        }
    }
    return n;
}

/* Adds one replay from an empty start to the series. Returns the ratio of hits. */
static double replay_once(const struct bench_trace *trace, enum pln_l1_eviction eviction,
                          size_t capacity, struct bench_series *series) {
    struct replay replay = {.trace = trace, .eviction = eviction};
    struct pln_l1_options options = {.max_bytes = BYTES_LEAST + capacity * BYTES_ENTRY,
                                     .max_item_bytes = 1024,
                                     .max_entries = capacity,
                                     .eviction = eviction,
                                     .hash = pln_hash,
                                     .seed = SEED};
    if (pln_counts_new(&options.counts) < 0 || pln_l1_new(&options, &replay.l1) < 0) {
        fprintf(stderr, "bench_hits: %s\n", pln_error_text());
        exit(1);
    }
    bench_run(series, 1, run, &replay);
    pln_l1_free(replay.l1);
    pln_counts_free(options.counts);
    return (double) replay.n_hits / (double) trace->n;
}

/* ---- the lines ---- */

static void measure(const struct bench_trace *trace, size_t policy, unsigned long percent) {
    char name[128], metrics[64];
    struct bench_series series = {.n = 0}, ratios = {.n = 0};
    for (int i = 0; i < BENCH_RUNS; i++) {
        ratios.values[ratios.n++] = replay_once(trace, policies[policy].eviction,
                                                capacity_of(trace, percent), &series);
    }
    snprintf(name, sizeof name, "hits.%s.%s.%lupct", trace->name, policies[policy].name, percent);
    snprintf(metrics, sizeof metrics, "ratio=%.4f ns", bench_median(&ratios));
    bench_print(name, metrics, &series);
}

static void measure_all(const struct bench_trace *trace, const struct options *options) {
    char name[128];
    for (size_t i = 0; i < options->n_sizes; i++) {
        unsigned long percent = options->sizes[i];
        if (options->is_exact) {
            snprintf(name, sizeof name, "hits.%s.exact_lru.%lupct", trace->name, percent);
            bench_print_one(name, "ratio", exact_ratio(trace, capacity_of(trace, percent)));
        }
        for (size_t policy = 0; policy < PLN_ARRAY_LEN(policies); policy++) {
            if (options->is_wanted[policy]) {
                measure(trace, policy, percent);
            }
        }
    }
}

/* ---- options ---- */

static __attribute__((noreturn)) void refuse(const char *what, const char *value) {
    fprintf(stderr,
            "bench_hits: %s%s\n"
            "usage: bench_hits TRACE... [--policy P]... [--sizes 1,5,10,25] [--exact]\n"
            "  TRACE     recorded requests: text of one decimal key a line, plain or .xz\n"
            "  --policy  lru, adaptive, fifo, random or none; without it lru and adaptive\n"
            "  --sizes   entries of the table, in percent of the trace's unique keys\n"
            "  --exact   an exact LRU beside it\n",
            what, value);
    exit(1);
}

static void want(struct options *options, const char *name) {
    for (size_t i = 0; i < PLN_ARRAY_LEN(policies); i++) {
        if (strcmp(policies[i].name, name) == 0) {
            options->is_wanted[i] = true;
            return;
        }
    }
    refuse("there is no policy ", name);
}

static void parse_sizes(struct options *options, const char *text) {
    const char *at = text;
    char *end;
    options->n_sizes = 0;
    do {
        unsigned long percent = strtoul(at, &end, 10);
        if (*at < '0' || *at > '9' || percent < 1 || percent > 100 || (*end != ',' && *end != 0) ||
            options->n_sizes == MOST_SIZES) {
            refuse("sizes are whole percents from 1 to 100, as in 1,5,10,25, and not ", text);
        }
        options->sizes[options->n_sizes++] = percent;
        at = end + 1;
    } while (*end == ',');
}

/* Leaves `optind` at the first trace: getopt moves the options before them. */
static struct options parse(int argc, char **argv) {
    static const struct option known[] = {{"policy", required_argument, NULL, 'p'},
                                          {"sizes", required_argument, NULL, 's'},
                                          {"exact", no_argument, NULL, 'e'},
                                          {NULL, 0, NULL, 0}};
    struct options options = {.sizes = {1, 5, 10, 25}, .n_sizes = 4};
    bool is_chosen = false;
    int option;
    while ((option = getopt_long(argc, argv, "", known, NULL)) != -1) {
        if (option == 'p') {
            want(&options, optarg);
            is_chosen = true;
        } else if (option == 's') {
            parse_sizes(&options, optarg);
        } else if (option == 'e') {
            options.is_exact = true;
        } else {
            refuse("see above", "");
        }
    }
    if (!is_chosen) {
        want(&options, "lru");
        want(&options, "adaptive");
    }
    if (optind == argc) {
        refuse("no trace is given, and none comes with the sources", "");
    }
    return options;
}

int main(int argc, char **argv) {
    struct options options = parse(argc, argv);
    struct bench_trace trace;
    bench_print_machine();
    for (int i = optind; i < argc; i++) {
        bench_trace_read(&trace, argv[i]);
        measure_all(&trace, &options);
        bench_trace_free(&trace);
    }
    return 0;
}
