/* SPDX-License-Identifier: MIT
 *
 * tier.c - an L1 as the benchmarks use it.
 */
#include "tier.h"

#include <stdio.h>

enum { MAX_ITEM_SHARE = 16 };

static void need(bool is_right, const char *what) {
    if (!is_right) {
        fprintf(stderr, "bench: %s: %s\n", what, pln_error_text());
        exit(1);
    }
}

void tier_new(struct tier *tier, size_t max_bytes, pln_l1_hash hash) {
    tier->hash = hash;
    tier->seed = pln_random64();
    need(pln_counts_new(&tier->counts) == PLN_OK, "counts");
    struct pln_l1_options options = {.max_bytes = max_bytes,
                                     .max_item_bytes = max_bytes / MAX_ITEM_SHARE,
                                     .hash = hash,
                                     .seed = tier->seed,
                                     .counts = tier->counts};
    need(pln_l1_new(&options, &tier->l1) == PLN_OK, "new");
}

void tier_free(struct tier *tier) {
    pln_l1_free(tier->l1);
    pln_counts_free(tier->counts);
    tier->l1 = NULL;
}

bool tier_put(const struct tier *tier, const char *key, struct pln_bytes value, pln_ms now,
              pln_ms end) {
    struct pln_hashed at = tier_at(tier, key);
    struct pln_l1_item item = {.value = value, .life = {now, end, end, end}};
    int status = pln_l1_put(tier->l1, &at, &item, now, NULL, NULL);
    need(status >= 0 || status == PLN_EBUSY, "put");
    return status >= 0;
}

bool tier_get(const struct tier *tier, const char *key, pln_ms now, void *buffer, size_t size) {
    struct pln_l1_hit hit;
    struct pln_hashed at = tier_at(tier, key);
    int status = pln_l1_get(tier->l1, &at, now, 0, buffer, size, &hit);
    bench_use(buffer);
    return status == PLN_OK;
}

size_t tier_entries(const struct tier *tier) {
    struct pln_l1_usage usage;
    pln_l1_usage(tier->l1, &usage);
    return usage.entries;
}

static bool add(void *arg, struct pln_bytes key, const struct pln_l1_hit *hit) {
    size_t *sum = arg;
    *sum += key.len + hit->len;
    return true;
}

size_t tier_useful(const struct tier *tier, pln_ms now) {
    size_t sum = 0;
    tier_each(tier, now, add, &sum);
    return sum;
}

void tier_each(const struct tier *tier, pln_ms now, pln_l1_visit visit, void *arg) {
    pln_l1_each(tier->l1, now, pln_bytes_of(NULL, 0), visit, arg);
}
