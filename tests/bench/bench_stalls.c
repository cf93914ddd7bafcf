/* SPDX-License-Identifier: MIT
 *
 * bench_stalls.c - what a single request may suffer: a flood of keys that collide in the table's
 * index, a million entries that end at the same instant, and a budget that changes under load.
 *
 * The longest of millions of requests is above all the machine's doing. So each such line has a
 * twin, ".idle": the same requests while the other thread leaves the tier alone.
 */
#include <stdio.h>

#include "bench_budget.h"
#include "tier.h"

enum {
    N_HOT = 10000,
    N_1M = 1000000,
    N_DRAWS = 1 << 20, /* a power of two */
    N_PLAIN = 1000,    /* keys that the companion of a flood stores instead */
    N_GETS = 1 << 21,
    TICK = 4096,
    PUT_EVERY = 4,
    ENDS_AT = 1000,
    SWEEP_BUCKETS = 4096, /* a call, as the cache's own */
    N_RESIZE_OPS = 4000000,
    SWEEP_EVERY = 4096, /* requests of a thread, while the budget changes */
};

static char value[BENCH_VALUE_BYTES];
static uint32_t *hot; /* draws from N_HOT keys */

static double ns_since(pln_ns begin) {
    return (double) (pln_clock_precise() - begin);
}

/* ---- the flood ---- */

/* An attacker who knows the seed can make keys of any hash: the hash is the key's first word. */
static uint64_t chosen_hash(struct pln_bytes key, uint64_t seed) {
    uint64_t hash = seed * 0;
    memcpy(&hash, key.data, sizeof hash);
    return hash;
}

static void plain_key(uint32_t number, char *key) {
    uint64_t state = number, words[2] = {bench_random(&state), number};
    memcpy(key, words, sizeof words);
}

/* All in one place of the index, which is taken from a hash's lower half. */
static void colliding_key(uint32_t number, char *key) {
    uint64_t state = ~(uint64_t) number;
    uint64_t words[2] = {(bench_random(&state) & ~(uint64_t) UINT32_MAX) | 0x12345678, number};
    memcpy(key, words, sizeof words);
}

struct flood {
    struct tier tier;
    bool collides;
    atomic_bool is_over;
    double get_ns, put_ns;
};

static void flood_put(const struct flood *flood, const char *key, size_t op) {
    tier_put(&flood->tier, key, pln_bytes_of(value, sizeof value), (pln_ms) (op / TICK),
             PLN_FOREVER);
}

static size_t flood_get(const struct flood *flood, size_t op) {
    char key[BENCH_KEY_BYTES], buffer[BENCH_VALUE_BYTES];
    plain_key(hot[op % N_DRAWS], key);
    return tier_get(&flood->tier, key, (pln_ms) (op / TICK), buffer, sizeof buffer);
}

static size_t flood_gets(void *arg, unsigned thread) {
    struct flood *flood = arg;
    pln_ns begin = pln_clock_precise();
    size_t i = thread;
    for (; i < N_GETS; i++) {
        flood_get(flood, i);
    }
    flood->get_ns = ns_since(begin) / (double) i;
    return i;
}

static size_t flood_puts(struct flood *flood) {
    char key[BENCH_KEY_BYTES];
    pln_ns begin = pln_clock_precise();
    for (uint32_t i = 0; i < N_1M; i++) {
        if (flood->collides) {
            colliding_key(i, key);
        } else {
            plain_key(N_HOT + i % N_PLAIN, key);
        }
        flood_put(flood, key, i);
    }
    flood->put_ns = ns_since(begin) / N_1M;
    /* relaxed: only an end, nothing is read after it that was written before */
    atomic_store_explicit(&flood->is_over, true, memory_order_relaxed);
    return N_1M;
}

/* The first thread gets for as long as the second one stores. */
static size_t flood_both(void *arg, unsigned thread) {
    struct flood *flood = arg;
    if (thread == 1) {
        return flood_puts(flood);
    }
    pln_ns begin = pln_clock_precise();
    size_t i = 0;
    /* relaxed: as above */
    while (!atomic_load_explicit(&flood->is_over, memory_order_relaxed)) {
        flood_get(flood, i++);
    }
    flood->get_ns = ns_since(begin) / (double) i;
    return i;
}

static size_t table_bytes(const struct tier *tier) {
    struct pln_l1_usage usage;
    pln_l1_usage(tier->l1, &usage);
    return usage.table_bytes;
}

static double kept(const struct flood *flood) {
    size_t n = 0;
    for (uint32_t i = 0; i < N_HOT; i++) {
        char key[BENCH_KEY_BYTES], buffer[BENCH_VALUE_BYTES];
        plain_key(i, key);
        n += tier_get(&flood->tier, key, 0, buffer, sizeof buffer);
    }
    return (double) n / N_HOT;
}

struct flood_series {
    struct bench_series before, beside, during, after, plain_put, put;
    double kept, table;
};

static void run_as(struct bench_series *series, unsigned n_threads, bench_body body,
                   struct flood *flood, const double *figure) {
    atomic_init(&flood->is_over, false);
    bench_run(series, n_threads, body, flood);
    series->values[series->n - 1] = *figure;
}

static void flood_round(struct flood_series *all) {
    struct flood flood = {.collides = false};
    tier_new(&flood.tier, (size_t) 256 << 20, chosen_hash);
    for (uint32_t i = 0; i < N_HOT; i++) {
        char key[BENCH_KEY_BYTES];
        plain_key(i, key);
        flood_put(&flood, key, 0);
    }
    double table = (double) table_bytes(&flood.tier);
    bench_time(1, flood_gets, &flood);
    run_as(&all->before, 1, flood_gets, &flood, &flood.get_ns);
    run_as(&all->beside, 2, flood_both, &flood, &flood.get_ns);
    all->plain_put.values[all->plain_put.n++] = flood.put_ns;
    flood.collides = true;
    run_as(&all->during, 2, flood_both, &flood, &flood.get_ns);
    all->put.values[all->put.n++] = flood.put_ns;
    run_as(&all->after, 1, flood_gets, &flood, &flood.get_ns);
    all->kept = kept(&flood);
    all->table = (double) table_bytes(&flood.tier) / table;
    tier_free(&flood.tier);
}

/* Gets during the flood are set against gets beside as many stores of ordinary keys, so that what
 * a busy second core costs is not taken for the flood's doing. */
static void bench_flood(void) {
    struct flood_series all = {.kept = 0};
    if (!bench_is_wanted("l1.flood")) {
        return;
    }
    hot = bench_zipf(N_HOT, N_DRAWS, 0.99, 31);
    for (int i = 0; i < BENCH_RUNS; i++) {
        flood_round(&all);
    }
    double after = bench_median(&all.after) / bench_median(&all.before);
    double during = bench_median(&all.during) / bench_median(&all.beside);
    bench_print("l1.flood.before", "ns", &all.before);
    bench_print("l1.flood.after", "ns", &all.after);
    bench_print("l1.flood.beside", "ns", &all.beside);
    bench_print("l1.flood.during", "ns", &all.during);
    bench_print("l1.flood.put.plain", "ns", &all.plain_put);
    bench_print("l1.flood.put", "ns", &all.put);
    printf("l1.flood ratio=%.3f after=%.3f during=%.3f kept=%.4f table=%.3f\n",
           after > during ? after : during, after, during, all.kept, all.table);
    fflush(stdout);
    free(hot);
}

/* ---- the longest request ---- */

struct longest {
    _Alignas(PLN_CACHE_LINE) pln_ns get, put;
};

struct stall {
    struct tier tier;
    const uint32_t *draws;
    atomic_bool is_over;
    pln_ms now;
    double other_ms; /* what the second thread does takes so long */
    bool resizes;
    double call_us; /* the longest pln_l1_resize() */
    struct longest longest[2];
};

/* One get or store, begun at `before`: the clock is read once a request. Returns its end. */
static pln_ns ask(struct stall *stall, unsigned thread, size_t op, pln_ns before) {
    char key[BENCH_KEY_BYTES], buffer[BENCH_VALUE_BYTES];
    bool is_put = op % PUT_EVERY == 0;
    struct longest *longest = &stall->longest[thread];
    pln_ms now = stall->now + (pln_ms) (op / TICK);
    bench_key(stall->draws[(op + thread * (N_DRAWS / 2)) % N_DRAWS], key);
    if (is_put) {
        tier_put(&stall->tier, key, pln_bytes_of(value, sizeof value), now, PLN_FOREVER);
    } else {
        tier_get(&stall->tier, key, now, buffer, sizeof buffer);
    }
    pln_ns after = pln_clock_precise();
    pln_ns *most = is_put ? &longest->put : &longest->get;
    *most = after - before > *most ? after - before : *most;
    return after;
}

struct stall_series {
    struct bench_series any, get, put;
};

static double most_us(pln_ns a, pln_ns b) {
    return (double) (a > b ? a : b) * 1e-3;
}

static void run_longest(struct stall *stall, bench_body body, struct stall_series *all) {
    struct longest *longest = stall->longest;
    atomic_init(&stall->is_over, false);
    memset(stall->longest, 0, sizeof stall->longest);
    bench_run(&all->any, 2, body, stall);
    double get = most_us(longest[0].get, longest[1].get);
    double put = most_us(longest[0].put, longest[1].put);
    all->get.values[all->get.n++] = get;
    all->put.values[all->put.n++] = put;
    all->any.values[all->any.n - 1] = get > put ? get : put;
}

static void print_longest(const char *name, const struct stall_series *all) {
    char part[64];
    bench_print(name, "us", &all->any);
    snprintf(part, sizeof part, "%s.get", name);
    bench_print(part, "us", &all->get);
    snprintf(part, sizeof part, "%s.put", name);
    bench_print(part, "us", &all->put);
}

/* ---- a million entries that end at once ---- */

static void ask_until_over(struct stall *stall) {
    pln_ns at = pln_clock_precise();
    /* relaxed: only an end, nothing is read after it that was written before */
    for (size_t i = 0; !atomic_load_explicit(&stall->is_over, memory_order_relaxed); i++) {
        at = ask(stall, 0, i, at);
    }
}

/* Until the entries that ended have gone; those stored meanwhile are no more than N_HOT. */
static void sweep_all(struct stall *stall) {
    pln_ns begin = pln_clock_precise();
    while (tier_entries(&stall->tier) > N_HOT) {
        pln_l1_sweep(stall->tier.l1, stall->now, SWEEP_BUCKETS);
    }
    stall->other_ms = ns_since(begin) * 1e-6;
}

static size_t swept(void *arg, unsigned thread) {
    struct stall *stall = arg;
    if (thread == 0) {
        ask_until_over(stall);
    } else {
        sweep_all(stall);
        /* relaxed: as in ask_until_over() */
        atomic_store_explicit(&stall->is_over, true, memory_order_relaxed);
    }
    return 1;
}

/* As long as the sweep took, but the second thread only looks at the clock. */
static size_t idle(void *arg, unsigned thread) {
    struct stall *stall = arg;
    if (thread == 0) {
        ask_until_over(stall);
    } else {
        pln_ns begin = pln_clock_precise();
        while (ns_since(begin) * 1e-6 < stall->other_ms) {
        }
        /* relaxed: as in ask_until_over() */
        atomic_store_explicit(&stall->is_over, true, memory_order_relaxed);
    }
    return 1;
}

static void store_ending(const struct stall *stall) {
    for (uint32_t i = 0; i < N_1M; i++) {
        char key[BENCH_KEY_BYTES];
        bench_key(N_HOT + i, key);
        tier_put(&stall->tier, key, pln_bytes_of(value, sizeof value), 0, ENDS_AT);
    }
}

static void bench_expire(void) {
    struct stall_series during = {.any = {.n = 0}}, beside = {.any = {.n = 0}};
    struct bench_series sweeps = {.n = 0};
    if (!bench_is_wanted("l1.expire")) {
        return;
    }
    uint32_t *draws = bench_zipf(N_HOT, N_DRAWS, 0.99, 32);
    for (int i = 0; i < BENCH_RUNS; i++) {
        struct stall stall = {.draws = draws, .now = ENDS_AT + 1};
        tier_new(&stall.tier, (size_t) 512 << 20, pln_hash);
        store_ending(&stall);
        run_longest(&stall, swept, &during);
        sweeps.values[sweeps.n++] = stall.other_ms;
        run_longest(&stall, idle, &beside);
        tier_free(&stall.tier);
    }
    print_longest("l1.expire.1m", &during);
    print_longest("l1.expire.1m.idle", &beside);
    bench_print("l1.expire.sweep", "ms", &sweeps);
    free(draws);
}

/* ---- another budget ---- */

static void resize(struct stall *stall, size_t mebibytes) {
    pln_ns begin = pln_clock_precise();
    if (stall->resizes && pln_l1_resize(stall->tier.l1, mebibytes << 20) < 0) {
        fprintf(stderr, "bench: resize: %s\n", pln_error_text());
        exit(1);
    }
    double us = ns_since(begin) * 1e-3;
    stall->call_us = us > stall->call_us ? us : stall->call_us;
}

/* What is done between two requests, not counted to either. */
static void keep_house(struct stall *stall, size_t op) {
    if (op == N_RESIZE_OPS / 8) {
        resize(stall, 256);
    } else if (op == N_RESIZE_OPS / 4 * 3) {
        resize(stall, 32);
    } else if (op % SWEEP_EVERY == 0) {
        pln_l1_sweep(stall->tier.l1, stall->now, SWEEP_BUCKETS);
    }
}

/* The second thread changes the budget and sweeps as well: a third one would only be measured as
 * the others' waiting for a processor. */
static size_t resized(void *arg, unsigned thread) {
    struct stall *stall = arg;
    for (size_t i = 0; i < N_RESIZE_OPS; i++) {
        if (thread == 1) {
            keep_house(stall, i);
        }
        ask(stall, thread, i, pln_clock_precise());
    }
    return N_RESIZE_OPS;
}

static void resize_round(const uint32_t *draws, bool resizes, struct stall_series *all,
                         struct bench_series *calls) {
    struct stall stall = {.draws = draws, .resizes = resizes};
    tier_new(&stall.tier, (size_t) 64 << 20, pln_hash);
    for (uint32_t i = 0; i < N_1M; i++) {
        char key[BENCH_KEY_BYTES];
        bench_key(i, key);
        tier_put(&stall.tier, key, pln_bytes_of(value, sizeof value), 0, PLN_FOREVER);
    }
    run_longest(&stall, resized, all);
    calls->values[calls->n++] = stall.call_us;
    tier_free(&stall.tier);
}

static void bench_resize(void) {
    struct stall_series during = {.any = {.n = 0}}, beside = {.any = {.n = 0}};
    struct bench_series calls = {.n = 0}, no_calls = {.n = 0};
    if (!bench_is_wanted("l1.resize")) {
        return;
    }
    uint32_t *draws = bench_zipf(N_1M, N_DRAWS, 0, 33); /* all keys alike */
    for (int i = 0; i < BENCH_RUNS; i++) {
        resize_round(draws, true, &during, &calls);
        resize_round(draws, false, &beside, &no_calls);
    }
    print_longest("l1.resize.stall", &during);
    print_longest("l1.resize.stall.idle", &beside);
    bench_print("l1.resize.call", "us", &calls);
    free(draws);
}

void bench_stalls(void) {
    memset(value, 'v', sizeof value);
    bench_flood();
    bench_expire();
    bench_resize();
}
