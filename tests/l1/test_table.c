/* SPDX-License-Identifier: MIT
 * test_table.c - the table against an oracle, and under threads that know what they may see. */
#include "table.h"

#include <uthash.h>

static struct table table;

static void setup(void) {
    table_open(&table, 4 << 20, PLN_L1_LRU);
}

static void teardown(void) {
    table_close(&table);
}

static uint64_t chance(uint64_t *state) {
    *state ^= *state << 13;
    *state ^= *state >> 7;
    *state ^= *state << 17;
    return *state;
}

/* ---- the oracle: a plain map with the same rules ---- */

struct known {
    unsigned number;
    unsigned value;
    pln_ms end;
    UT_hash_handle hh;
};

static void forget(struct known **map, struct known *known) {
    if (known != NULL) {
        HASH_DEL(*map, known);
        free(known);
    }
}

static void put_both(struct known **map, unsigned number, unsigned value, pln_ms now, pln_ms ttl) {
    char bytes[16], text[32];
    struct known *known;
    struct pln_hashed key = key_of(number, bytes);
    snprintf(text, sizeof text, "%u", value);
    struct pln_l1_item item = item_of(pln_key(text), now, ttl);
    ck_assert_int_eq(pln_l1_put(table.l1, &key, &item, now, NULL, NULL), PLN_OK);
    HASH_FIND(hh, *map, &number, sizeof number, known);
    forget(map, known);
    known = malloc(sizeof *known);
    *known = (struct known){.number = number, .value = value, .end = pln_after(now, ttl)};
    HASH_ADD(hh, *map, number, sizeof number, known);
}

static void get_both(struct known **map, unsigned number, pln_ms now) {
    char text[256];
    struct known *known;
    HASH_FIND(hh, *map, &number, sizeof number, known);
    const char *seen = get_text(&table, number, now, text);
    if (known == NULL || now >= known->end) {
        ck_assert_ptr_null(seen);
    } else {
        ck_assert_ptr_nonnull(seen);
        ck_assert_uint_eq((unsigned) atoi(seen), known->value);
    }
}

START_TEST(random_steps_agree_with_a_plain_map) {
    uint64_t state = 42;
    pln_ms now = 0;
    struct known *map = NULL, *known, *next;
    for (unsigned step = 0; step < 200000; step++) {
        unsigned number = (unsigned) (chance(&state) % 500);
        unsigned what = (unsigned) (chance(&state) % 100);
        now += (pln_ms) (chance(&state) % 3);
        HASH_FIND(hh, map, &number, sizeof number, known);
        if (what < 30) {
            put_both(&map, number, step, now,
                     what < 5 ? PLN_FOREVER : (pln_ms) (chance(&state) % 500) + 1);
        } else if (what < 40) {
            bool is_there = known != NULL && now < known->end;
            int status = remove_key(&table, number);
            ck_assert(status == PLN_OK || !is_there);
            forget(&map, known);
        } else if (what < 42) {
            pln_l1_sweep(table.l1, now, 50);
        } else {
            get_both(&map, number, now);
        }
    }
    HASH_ITER(hh, map, known, next) {
        forget(&map, known);
    }
}
END_TEST

/* ---- threads ---- */

enum { N_KEYS = 8, N_THREADS = 4, N_ROUNDS = 20000, VALUE_BYTES = 96 };

/* A value says of which key it is and which write it was, over and over. */
struct claim {
    uint32_t key, write;
};

struct stress {
    _Atomic uint32_t
        written[N_KEYS]; /* the last write that has returned, by the key's one writer */
    _Atomic uint32_t
        removed[N_KEYS]; /* the last write that was removed: older ones must not show */
    _Atomic bool has_failed;
};

static struct stress stress;

static void fill(struct claim claims[VALUE_BYTES / sizeof(struct claim)], uint32_t key,
                 uint32_t write) {
    for (size_t i = 0; i < VALUE_BYTES / sizeof(struct claim); i++) {
        claims[i] = (struct claim){key, write};
    }
}

/* Reads a key; each value must be whole, of this key, not older than the last one seen by this
 * thread, and not one that had been removed before the read began. */
static void read_key(uint32_t number, uint32_t *last) {
    char bytes[16];
    struct claim claims[VALUE_BYTES / sizeof(struct claim)];
    struct pln_l1_hit hit;
    struct pln_hashed key = key_of(number, bytes);
    uint32_t removed = atomic_load(&stress.removed[number]);
    if (pln_l1_get(table.l1, &key, 0, 0, claims, sizeof claims, &hit) != PLN_OK) {
        return;
    }
    bool is_right = hit.len == VALUE_BYTES && claims[0].write >= *last &&
                    claims[0].write > removed && claims[0].key == number;
    for (size_t i = 1; i < VALUE_BYTES / sizeof(struct claim); i++) {
        is_right = is_right && claims[i].key == number && claims[i].write == claims[0].write;
    }
    *last = claims[0].write;
    if (!is_right) {
        atomic_store(&stress.has_failed, true);
    }
}

static void write_key(uint32_t number, uint32_t write, bool removes) {
    char bytes[16];
    struct claim claims[VALUE_BYTES / sizeof(struct claim)];
    struct pln_hashed key = key_of(number, bytes);
    fill(claims, number, write);
    struct pln_l1_item item = item_of(pln_bytes_of(claims, sizeof claims), 0, PLN_FOREVER);
    (void) pln_l1_put(table.l1, &key, &item, 0, NULL, NULL); /* refused is as good as evicted */
    atomic_store(&stress.written[number], write);
    if (removes) {
        pln_l1_remove(table.l1, &key);
        atomic_store(&stress.removed[number], write);
    }
}

/* Each key has one writer; everybody reads all. */
static void *strain(void *arg) {
    uint32_t self = (uint32_t) (uintptr_t) arg;
    uint32_t last[N_KEYS] = {0};
    uint64_t state = self + 1;
    for (uint32_t round = 1; round <= N_ROUNDS; round++) {
        uint32_t own = self + N_THREADS * (uint32_t) (chance(&state) % (N_KEYS / N_THREADS));
        write_key(own, round, chance(&state) % 4 == 0);
        for (int i = 0; i < 3; i++) {
            uint32_t number = (uint32_t) (chance(&state) % N_KEYS);
            read_key(number, &last[number]);
        }
    }
    return NULL;
}

START_TEST(threads_see_whole_values_that_never_go_back) {
    pthread_t threads[N_THREADS];
    for (uintptr_t i = 0; i < N_THREADS; i++) {
        pthread_create(&threads[i], NULL, strain, (void *) i);
    }
    for (size_t i = 0; i < N_THREADS; i++) {
        pthread_join(threads[i], NULL);
    }
    ck_assert(!stress.has_failed);
}
END_TEST

static void *lend(void *arg) {
    (void) arg;
    for (unsigned round = 0; round < N_ROUNDS; round++) {
        char bytes[16];
        struct pln_l1_hit hit;
        struct pln_value *value;
        struct pln_hashed key = key_of(round % N_KEYS, bytes);
        if (pln_l1_borrow(table.l1, &key, 0, 0, &hit, &value) == PLN_OK) {
            struct claim claims[VALUE_BYTES / sizeof(struct claim)];
            memcpy(claims, pln_value_data(value), sizeof claims);
            for (size_t i = 0; i < VALUE_BYTES / sizeof(struct claim); i++) {
                if (claims[i].key != round % N_KEYS || claims[i].write != claims[0].write) {
                    atomic_store(&stress.has_failed, true);
                }
            }
            pln_l1_release(table.l1, value);
        }
    }
    return NULL;
}

START_TEST(a_lent_value_stays_whole_while_it_is_replaced_and_removed) {
    pthread_t lenders[2];
    for (size_t i = 0; i < 2; i++) {
        pthread_create(&lenders[i], NULL, lend, NULL);
    }
    for (uint32_t round = 1; round <= N_ROUNDS; round++) {
        write_key(round % N_KEYS, round, round % 5 == 0);
    }
    for (size_t i = 0; i < 2; i++) {
        pthread_join(lenders[i], NULL);
    }
    ck_assert(!stress.has_failed);
}
END_TEST

static void *put_once(void *arg) {
    put_text(&table, (unsigned) (uintptr_t) arg % 50, "v", 0);
    return NULL;
}

START_TEST(threads_that_come_and_go_leave_no_records_behind) {
    size_t n = 0;
    for (uintptr_t i = 0; i < 1500; i++) {
        pthread_t thread;
        ck_assert_int_eq(pthread_create(&thread, NULL, put_once, (void *) i), 0);
        pthread_join(thread, NULL);
    }
    for (struct thread_record *record = table.l1->records; record != NULL; record = record->next) {
        n++;
    }
    ck_assert_uint_eq(n, 1); /* each took over the one before's */
}
END_TEST

int main(void) {
    Suite *suite = suite_create("table");
    TCase *tests = tcase_create("table");
    suite_add_tcase(suite, tests);
    tcase_set_timeout(tests, 120);
    tcase_add_checked_fixture(tests, setup, teardown);
    tcase_add_test(tests, random_steps_agree_with_a_plain_map);
    tcase_add_test(tests, threads_see_whole_values_that_never_go_back);
    tcase_add_test(tests, a_lent_value_stays_whole_while_it_is_replaced_and_removed);
    tcase_add_test(tests, threads_that_come_and_go_leave_no_records_behind);
    return run_suite(suite);
}
