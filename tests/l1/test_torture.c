/* SPDX-License-Identifier: MIT
 * test_torture.c - all that can be done to a table at once: values of all sizes, sweeps by several,
 * budgets and generations that change, iteration, the hottest. What is read is whole, and in the
 * end everything adds up. Under a sanitizer, so are the accesses. */
#include "table.h"

#ifdef __SANITIZE_THREAD__
enum { N_ROUNDS = 10000 };
#else
enum { N_ROUNDS = 40000 };
#endif

enum { N_KEYS = 2000, N_WRITERS = 2, N_KEEPERS = 2, N_ALL = N_WRITERS + N_KEEPERS };
enum { MOST_BYTES = 3000 };

static struct table table;
static atomic_uint n_wrong, n_writing;

static uint64_t chance(uint64_t *state) {
    *state = *state * UINT64_C(6364136223846793005) + UINT64_C(1442695040888963407);
    return *state >> 33;
}

/* A value tells its key and its length in each byte. */
static void check(unsigned number, const void *value, size_t len) {
    const unsigned char *bytes = value;
    for (size_t i = 0; i < len; i++) {
        if (bytes[i] != (unsigned char) (number + len)) {
            atomic_fetch_add(&n_wrong, 1);
            return;
        }
    }
}

static void put_sized(unsigned number, size_t len, pln_ms now) {
    char bytes[16], value[MOST_BYTES];
    struct pln_hashed key = key_of(number, bytes);
    memset(value, (int) (number + len), len);
    struct pln_l1_item item = item_of(pln_bytes_of(value, len), now, 1 + (pln_ms) len);
    item.life.end = item.life.stale + 10;
    item.generation = pln_l1_generation(table.l1);
    (void) pln_l1_put(table.l1, &key, &item, now, NULL, NULL); /* refused is as good as evicted */
}

static void read_one(unsigned number, pln_ms now, bool borrows) {
    char bytes[16], copy[MOST_BYTES];
    struct pln_l1_hit hit;
    struct pln_hashed key = key_of(number, bytes);
    struct pln_value *value;
    if (!borrows && pln_l1_get(table.l1, &key, now, 0, copy, sizeof copy, &hit) == PLN_OK) {
        check(number, copy, hit.len);
    } else if (borrows && pln_l1_borrow(table.l1, &key, now, 0, &hit, &value) == PLN_OK) {
        check(number, pln_value_data(value), hit.len);
        pln_l1_release(table.l1, value);
    }
}

static void *write_and_read(void *arg) {
    uint64_t state = 1 + (uintptr_t) arg;
    char bytes[16];
    for (unsigned round = 0; round < N_ROUNDS; round++) {
        unsigned number = (unsigned) (chance(&state) % N_KEYS);
        unsigned what = (unsigned) (chance(&state) % 100);
        pln_ms now = round / 10;
        struct pln_hashed key = key_of(number, bytes);
        if (what < 40) {
            put_sized(number, chance(&state) % (chance(&state) % 8 > 0 ? 100 : MOST_BYTES), now);
        } else if (what < 50) {
            pln_l1_remove(table.l1, &key);
        } else if (what < 54) {
            pln_l1_retime(table.l1, &key, now, now + 5, now + 10, now + 20);
        } else if (what < 58) {
            pln_l1_claim_refresh(table.l1, &key);
        } else {
            read_one(number, now, what % 2 == 0);
        }
    }
    atomic_fetch_sub(&n_writing, 1);
    return NULL;
}

static bool visit(void *arg, struct pln_bytes key, const struct pln_l1_hit *hit) {
    unsigned number = 0;
    char bytes[16];
    ++*(unsigned *) arg;
    snprintf(bytes, sizeof bytes, "%.*s", (int) key.len, (const char *) key.data);
    if (sscanf(bytes, "key %u", &number) != 1 || number >= N_KEYS || hit->len > MOST_BYTES) {
        atomic_fetch_add(&n_wrong, 1);
    }
    return true;
}

static bool visit_hot(void *arg, struct pln_bytes key, const struct pln_l1_hot *hot) {
    struct pln_l1_hit hit = {.len = 0};
    (void) hot;
    return visit(arg, key, &hit);
}

/* Threads that come and go take each other's records. */
static void *visit_shortly(void *arg) {
    put_sized((unsigned) (uintptr_t) arg % N_KEYS, 10, 0);
    read_one((unsigned) (uintptr_t) arg % N_KEYS, 0, true);
    return NULL;
}

static void *keep(void *arg) {
    uint64_t state = 100 + (uintptr_t) arg;
    unsigned n = 0;
    for (unsigned turn = 0; atomic_load(&n_writing) > 0; turn++) {
        pln_ms now = (pln_ms) (chance(&state) % (N_ROUNDS / 10));
        struct pln_l1_usage usage;
        pln_l1_sweep(table.l1, now, 1 + chance(&state) % 200);
        if (turn % 4 == 0) {
            pln_l1_each(table.l1, now, pln_key("key"), visit, &n);
        } else if (turn % 8 == 6) {
            struct pln_mask mask = {PLN_MASK_PATTERN, pln_key("key *7*")};
            pln_l1_remove_each(table.l1, pln_mask_fits, &mask);
        } else if (turn % 4 == 1) {
            pln_l1_hottest(table.l1, now, 20, visit_hot, &n);
        } else if (turn % 8 == 2) {
            (void) pln_l1_resize(table.l1, (size_t) (2 + chance(&state) % 6) << 20);
        } else if (turn % 16 == 3 && (uintptr_t) arg == N_WRITERS) { /* one at a time */
            /* now and then so many that all are looked through */
            pln_l1_set_generation(table.l1, pln_l1_generation(table.l1) +
                                                (chance(&state) % 4 > 0 ? 16384 : 2));
        }
        if (turn % 16 == 5) {
            pthread_t visitor;
            pthread_create(&visitor, NULL, visit_shortly, (void *) (uintptr_t) turn);
            pthread_join(visitor, NULL);
        }
        pln_l1_usage(table.l1, &usage);
    }
    return NULL;
}

static void teardown(void) {
    table_close(&table);
}

START_TEST(everything_at_once_leaves_a_whole_table) {
    static const enum pln_l1_eviction policies[] = {PLN_L1_LRU, PLN_L1_ADAPTIVE};
    pthread_t threads[N_ALL];
    struct pln_l1_usage usage;
    unsigned n = 0;
    table_open(&table, 4 << 20, policies[_i]);
    atomic_store(&n_writing, N_WRITERS);
    for (uintptr_t i = 0; i < N_ALL; i++) {
        pthread_create(&threads[i], NULL, i < N_WRITERS ? write_and_read : keep, (void *) i);
    }
    for (size_t i = 0; i < N_ALL; i++) {
        pthread_join(threads[i], NULL);
    }
    ck_assert_uint_eq(n_wrong, 0);
    pln_l1_set_generation(table.l1, pln_l1_generation(table.l1) + 16384); /* all go */
    for (int i = 0; i < 200; i++) {
        pln_l1_sweep(table.l1, 0, SIZE_MAX);
    }
    pln_l1_each(table.l1, 0, pln_key(""), visit, &n);
    pln_l1_usage(table.l1, &usage);
    ck_assert_uint_eq(n, 0);
    ck_assert_uint_eq(usage.entries, 0);
    ck_assert_uint_eq(usage.waiting_bytes, 0);
    ck_assert_uint_le(usage.bytes, usage.table_bytes);
}
END_TEST

/* ---- removing by walk, beside fills ---- */

enum { N_FEW = 60, N_WALKS = 300 };

static _Atomic uint64_t source, epoch; /* what is true now; raised by each invalidation */

static bool epoch_is(const void *stamp) {
    return atomic_load(&epoch) == *(const uint64_t *) stamp;
}

/* A stamp, then the source, then the table: as fills do it. */
static void *fill(void *arg) {
    uint64_t state = 1 + (uintptr_t) arg;
    while (atomic_load(&n_writing) > 0) {
        char bytes[16];
        struct pln_hashed key = key_of((unsigned) (chance(&state) % N_FEW), bytes);
        uint64_t stamp = atomic_load(&epoch), value = atomic_load(&source);
        struct pln_l1_item item = item_of(pln_bytes_of(&value, sizeof value), 0, PLN_FOREVER);
        (void) pln_l1_put(table.l1, &key, &item, 0, epoch_is, &stamp);
    }
    return NULL;
}

/* Moves all entries again and again. */
static void *move(void *arg) {
    (void) arg;
    for (unsigned turn = 0; atomic_load(&n_writing) > 0; turn++) {
        (void) pln_l1_resize(table.l1, (size_t) (turn % 2 == 0 ? 32 : 2) << 20);
        for (int i = 0; i < 100 && pln_l1_is_replacing(table.l1); i++) {
            pln_l1_sweep(table.l1, 0, 64);
        }
    }
    return NULL;
}

START_TEST(what_is_removed_by_walk_leaves_nothing_older) {
    pthread_t fillers[3], mover;
    struct pln_mask all = {PLN_MASK_PREFIX, pln_key("key ")};
    table_open(&table, 2 << 20, PLN_L1_LRU);
    atomic_store(&n_writing, 1);
    for (uintptr_t i = 0; i < 3; i++) {
        pthread_create(&fillers[i], NULL, fill, (void *) i);
    }
    pthread_create(&mover, NULL, move, NULL);
    for (unsigned i = 0; i < N_WALKS; i++) {
        uint64_t now = atomic_fetch_add(&source, 1) + 1;
        atomic_fetch_add(&epoch, 1);
        ck_assert_int_eq(pln_l1_remove_each(table.l1, pln_mask_fits, &all), PLN_OK);
        for (unsigned number = 0; number < N_FEW; number++) {
            char bytes[16];
            uint64_t seen = now;
            struct pln_l1_hit hit;
            struct pln_hashed key = key_of(number, bytes);
            pln_l1_get(table.l1, &key, 0, 0, &seen, sizeof seen, &hit);
            ck_assert_uint_ge(seen, now);
        }
    }
    atomic_store(&n_writing, 0);
    pthread_join(mover, NULL);
    for (size_t i = 0; i < 3; i++) {
        pthread_join(fillers[i], NULL);
    }
}
END_TEST

int main(void) {
    Suite *suite = suite_create("torture");
    TCase *tests = tcase_create("torture");
    suite_add_tcase(suite, tests);
    tcase_set_timeout(tests, 120);
    tcase_add_checked_fixture(tests, NULL, teardown);
    tcase_add_loop_test(tests, everything_at_once_leaves_a_whole_table, 0, 2);
    tcase_add_test(tests, what_is_removed_by_walk_leaves_nothing_older);
    SRunner *runner = srunner_create(suite);
    srunner_run_all(runner, CK_ENV);
    int failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed == 0 ? 0 : 1;
}
