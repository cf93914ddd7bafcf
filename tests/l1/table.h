/* SPDX-License-Identifier: MIT
 *
 * table.h - what the tests of L1 share: a table, keys by number, values that betray a mix-up.
 */
#ifndef PLN_TEST_TABLE_H
#define PLN_TEST_TABLE_H

#include <check.h>
#include <stdio.h>

#include "../../l1/internal.h"

struct table {
    struct pln_l1 *l1;
    struct pln_counts *counts;
    _Atomic uint64_t marks[4];
};

/* Of a key that begins with '*' the lower half is 0: all in one bucket, and one home. */
static inline uint64_t table_hash(struct pln_bytes key, uint64_t seed) {
    uint64_t hash = pln_hash(key, seed + 1);
    bool is_crowded = key.len > 0 && *(const char *) key.data == '*';
    return is_crowded ? hash & ~((uint64_t) UINT32_MAX * 2 + 1) : hash;
}

static inline void table_open(struct table *table, size_t max_bytes,
                              enum pln_l1_eviction eviction) {
    memset(table, 0, sizeof *table);
    ck_assert_int_eq(pln_counts_new(&table->counts), PLN_OK);
    struct pln_l1_options options = {.max_bytes = max_bytes,
                                     .max_item_bytes = max_bytes / 4,
                                     .eviction = eviction,
                                     .hash = table_hash,
                                     .counts = table->counts,
                                     .marks = table->marks};
    ck_assert_msg(pln_l1_new(&options, &table->l1) == PLN_OK, "%s", pln_error_text());
}

static inline void table_close(struct table *table) {
    pln_l1_free(table->l1);
    pln_counts_free(table->counts);
}

/* A key by its number; `bytes` must outlive it. */
static inline struct pln_hashed key_of(unsigned number, char bytes[16]) {
    int len = snprintf(bytes, 16, "key %u", number);
    struct pln_bytes key = pln_bytes_of(bytes, (size_t) len);
    return (struct pln_hashed){key, table_hash(key, 0)};
}

static inline struct pln_l1_item item_of(struct pln_bytes value, pln_ms now, pln_ms ttl) {
    pln_ms end = pln_after(now, ttl);
    return (struct pln_l1_item){.value = value, .life = {now, end, end, end}};
}

static inline int put_text(struct table *table, unsigned number, const char *text, pln_ms now) {
    char bytes[16];
    struct pln_hashed key = key_of(number, bytes);
    struct pln_l1_item item = item_of(pln_key(text), now, PLN_FOREVER);
    item.generation = pln_l1_generation(table->l1);
    return pln_l1_put(table->l1, &key, &item, now, NULL, NULL);
}

/* The value's text, or NULL. */
static inline const char *get_text(struct table *table, unsigned number, pln_ms now,
                                   char text[256]) {
    char bytes[16];
    struct pln_l1_hit hit;
    struct pln_hashed key = key_of(number, bytes);
    if (pln_l1_get(table->l1, &key, now, 0, text, 255, &hit) != PLN_OK) {
        return NULL;
    }
    text[hit.len < 255 ? hit.len : 255] = 0;
    return text;
}

static inline int remove_key(struct table *table, unsigned number) {
    char bytes[16];
    struct pln_hashed key = key_of(number, bytes);
    return pln_l1_remove(table->l1, &key);
}

static inline int run_suite(Suite *suite) {
    SRunner *runner = srunner_create(suite);
    srunner_run_all(runner, CK_ENV);
    int failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed == 0 ? 0 : 1;
}

#endif
