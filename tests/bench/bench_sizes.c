/* SPDX-License-Identifier: MIT
 *
 * bench_sizes.c - gets of values from 16 bytes to 16 KB, some 128 MB of keys and values each, and
 * keys that are removed and stored again.
 */
#include <stdio.h>

#include "bench_budget.h"
#include "tier.h"

enum {
    DATA_BYTES = 128 << 20,
    LARGEST = 16 << 10,
    N_DRAWS = 1 << 21,
    N_OPS = N_DRAWS / 2, /* a thread and run; fewer of large values */
    N_1M = 1000000,
    TICK = 4096,
    ROOM = 64, /* a generous guess of what an entry takes beside key and value */
};

struct sized {
    struct tier tier;
    const uint32_t *draws;
    size_t n_keys, len, n_ops;
    struct {
        _Alignas(PLN_CACHE_LINE) char bytes[LARGEST];
    } buffers[2];
};

static char value[LARGEST];

static void put(const struct sized *sized, uint32_t number, pln_ms now) {
    char key[BENCH_KEY_BYTES];
    bench_key(number, key);
    tier_put(&sized->tier, key, pln_bytes_of(value, sized->len), now, PLN_FOREVER);
}

static size_t gets(void *arg, unsigned thread) {
    struct sized *sized = arg;
    const uint32_t *draws = sized->draws + (size_t) thread * N_OPS;
    for (size_t i = 0; i < sized->n_ops; i++) {
        char key[BENCH_KEY_BYTES];
        bench_key(draws[i], key);
        tier_get(&sized->tier, key, (pln_ms) (i / TICK), sized->buffers[thread].bytes, LARGEST);
    }
    return sized->n_ops;
}

/* Removed and stored again: two requests, counted as one. */
static size_t readds(void *arg, unsigned thread) {
    struct sized *sized = arg;
    const uint32_t *draws = sized->draws + (size_t) thread * N_OPS;
    for (size_t i = 0; i < sized->n_ops; i++) {
        char key[BENCH_KEY_BYTES];
        bench_key(draws[i], key);
        struct pln_hashed at = tier_at(&sized->tier, key);
        if (pln_l1_remove(sized->tier.l1, &at) < 0) {
            fprintf(stderr, "bench: remove: %s\n", pln_error_text());
            exit(1);
        }
        put(sized, draws[i], (pln_ms) (i / TICK));
    }
    return sized->n_ops;
}

static void fill(struct sized *sized, size_t max_bytes) {
    memset(value, 'v', sizeof value);
    tier_new(&sized->tier, max_bytes, pln_hash);
    for (uint32_t i = 0; i < sized->n_keys; i++) {
        put(sized, i, 0);
    }
    if (tier_entries(&sized->tier) < sized->n_keys - sized->n_keys / 50) {
        fprintf(stderr, "bench: only %zu of %zu keys are held\n", tier_entries(&sized->tier),
                sized->n_keys);
        exit(1);
    }
}

/* Both lines of one filling: with one thread and with two. */
static void measure(struct sized *sized, const char *name, size_t max_bytes, bench_body body) {
    char names[2][64];
    snprintf(names[0], sizeof names[0], "%s.1t", name);
    snprintf(names[1], sizeof names[1], "%s.2t", name);
    if (!bench_is_wanted(names[0]) && !bench_is_wanted(names[1])) {
        return;
    }
    uint32_t *draws = bench_zipf(sized->n_keys, N_DRAWS, 0.99, 21);
    sized->draws = draws;
    fill(sized, max_bytes);
    bench_measure(names[0], 1, body, sized);
    bench_measure(names[1], 2, body, sized);
    tier_free(&sized->tier);
    free(draws);
}

static void bench_size(const char *name, size_t len) {
    static struct sized sized;
    sized.len = len;
    sized.n_keys = DATA_BYTES / (len + BENCH_KEY_BYTES);
    sized.n_ops = N_OPS / (1 + len / 4096);
    /* three times what it takes: no key is to be missing because its bucket is full */
    measure(&sized, name, 3 * sized.n_keys * (len + BENCH_KEY_BYTES + ROOM), gets);
}

static void bench_readd(void) {
    static struct sized sized;
    sized.len = BENCH_VALUE_BYTES;
    sized.n_keys = N_1M;
    sized.n_ops = N_OPS / 4;
    measure(&sized, "l1.readd.1m", (size_t) 512 << 20, readds);
}

void bench_sizes(void) {
    bench_size("l1.get.v16", 16);
    bench_size("l1.get.v100", 100);
    bench_size("l1.get.v1k", 1024);
    bench_size("l1.get.v16k", 16 << 10);
    bench_readd();
}
