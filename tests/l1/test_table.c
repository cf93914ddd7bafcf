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

enum { N_ORACLE_KEYS = 500, MOST_VALUE = 3000, LARGE_VALUE = 40000 };

struct known {
    unsigned number;
    unsigned value; /* what its bytes are made of */
    size_t len;
    pln_ms end;
    uint32_t generation;
    unsigned mark; /* over the number of marks: none */
    uint64_t mark_stamp;
    UT_hash_handle hh;
};

struct oracle {
    struct known *map;
    uint64_t state;
    pln_ms now;
    bool may_miss;      /* the budget is small: what is not there may have been evicted */
    unsigned n_refused; /* while that budget changes, now and then */
};

static void forget(struct oracle *oracle, struct known *known) {
    if (known != NULL) {
        HASH_DEL(oracle->map, known);
        free(known);
    }
}

/* libcheck writes a file at each of its assertions, also where it holds. */
static void must(bool holds, const char *what, unsigned number) {
    if (!holds) {
        ck_abort_msg("%u %s", number, what);
    }
}

static struct known *find_known(struct oracle *oracle, unsigned number) {
    struct known *known;
    HASH_FIND(hh, oracle->map, &number, sizeof number, known);
    return known;
}

static bool is_live(const struct oracle *oracle, const struct known *known) {
    return known != NULL && oracle->now < known->end &&
           known->generation == pln_l1_generation(table.l1) &&
           (known->mark >= 4 || atomic_load(&table.marks[known->mark]) <= known->mark_stamp);
}

static size_t some_length(uint64_t *state) {
    uint64_t drawn = chance(state) % 100;
    return drawn == 0 ? LARGE_VALUE : drawn < 80 ? chance(state) % 100 : chance(state) % MOST_VALUE;
}

static void put_both(struct oracle *oracle, unsigned number, unsigned value) {
    static char bytes_of_value[LARGE_VALUE];
    char bytes[16];
    struct known *known = malloc(sizeof *known);
    struct pln_hashed key = key_of(number, bytes);
    pln_ms ttl = chance(&oracle->state) % 6 == 0 ? PLN_FOREVER
                                                 : (pln_ms) (chance(&oracle->state) % 500) + 1;
    *known = (struct known){.number = number,
                            .value = value,
                            .len = some_length(&oracle->state),
                            .end = pln_after(oracle->now, ttl),
                            .generation = pln_l1_generation(table.l1),
                            .mark = (unsigned) (chance(&oracle->state) % 40),
                            .mark_stamp = value};
    memset(bytes_of_value, (int) (value % 251), known->len);
    uint16_t mark = (uint16_t) known->mark;
    struct pln_l1_item item = item_of(pln_bytes_of(bytes_of_value, known->len), oracle->now, ttl);
    item.generation = known->generation;
    item.n_marks = known->mark < 4;
    item.marks = &mark;
    item.mark_stamp = known->mark_stamp;
    item.weight = number % 5 == 0;
    int status = pln_l1_put(table.l1, &key, &item, oracle->now, NULL, NULL);
    if (status == PLN_EBUSY && oracle->may_miss) {
        oracle->n_refused++; /* what was there stays */
        free(known);
        return;
    }
    must(status == PLN_OK, pln_error_text(), number);
    forget(oracle, find_known(oracle, number));
    HASH_ADD(hh, oracle->map, number, sizeof number, known);
}

static void get_both(struct oracle *oracle, unsigned number) {
    static char seen[LARGE_VALUE];
    char bytes[16];
    struct pln_l1_hit hit;
    struct pln_hashed key = key_of(number, bytes);
    const struct known *known = find_known(oracle, number);
    bool is_hit = pln_l1_get(table.l1, &key, oracle->now, 0, seen, sizeof seen, &hit) == PLN_OK;
    if (!is_hit) {
        must(oracle->may_miss || !is_live(oracle, known), "is missing", number);
        return;
    }
    must(is_live(oracle, known), "should be gone", number);
    must(hit.len == known->len && hit.life.end == known->end, "differs", number);
    for (size_t i = 0; i < hit.len; i++) {
        must((unsigned char) seen[i] == known->value % 251, "holds other bytes", number);
    }
}

static void remove_both(struct oracle *oracle, unsigned number) {
    struct known *known = find_known(oracle, number);
    int status = remove_key(&table, number);
    must(status == PLN_OK || oracle->may_miss || !is_live(oracle, known), "was missing", number);
    forget(oracle, known);
}

static void retime_both(struct oracle *oracle, unsigned number) {
    char bytes[16];
    struct known *known = find_known(oracle, number);
    struct pln_hashed key = key_of(number, bytes);
    pln_ms end = oracle->now + (pln_ms) (chance(&oracle->state) % 300);
    int status = pln_l1_retime(table.l1, &key, oracle->now, end, end, end);
    must(status == PLN_MISS || is_live(oracle, known), "was gone", number);
    if (status == PLN_OK) {
        known->end = end;
    } else {
        must(oracle->may_miss || !is_live(oracle, known), "is missing", number);
    }
}

struct tour {
    struct oracle *oracle;
    unsigned n;
};

static bool visit_known(void *arg, struct pln_bytes key, const struct pln_l1_hit *hit) {
    struct tour *tour = arg;
    char text[16] = {0};
    memcpy(text, key.data, key.len);
    const struct known *known = find_known(tour->oracle, (unsigned) atoi(text + strlen("key ")));
    must(is_live(tour->oracle, known) && hit->len == known->len, "was visited", tour->n);
    tour->n++;
    return true;
}

static void visit_both(struct oracle *oracle) {
    struct tour tour = {oracle, 0};
    struct known *known = NULL, *next = NULL;
    unsigned n_live = 0;
    pln_l1_each(table.l1, oracle->now, pln_key("key 1"), visit_known, &tour);
    HASH_ITER(hh, oracle->map, known, next) {
        char text[16];
        snprintf(text, sizeof text, "%u", known->number);
        n_live += is_live(oracle, known) && text[0] == '1';
    }
    must(tour.n == n_live || (oracle->may_miss && tour.n < n_live), "keys were visited", tour.n);
}

static void step_both(struct oracle *oracle, unsigned step) {
    unsigned number = (unsigned) (chance(&oracle->state) % N_ORACLE_KEYS);
    unsigned what = (unsigned) (chance(&oracle->state) % 10000);
    oracle->now += (pln_ms) (chance(&oracle->state) % 3);
    if (what < 3000) {
        put_both(oracle, number, step);
    } else if (what < 4000) {
        remove_both(oracle, number);
    } else if (what < 4500) {
        retime_both(oracle, number);
    } else if (what < 4600) {
        pln_l1_sweep(table.l1, oracle->now, 50);
    } else if (what < 4610) {
        visit_both(oracle);
    } else if (what < 4615) {
        atomic_store(&table.marks[step % 4], step);
    } else if (what < 4617) {
        pln_l1_set_generation(table.l1, pln_l1_generation(table.l1) + 2);
    } else if (what < 4622 && oracle->may_miss) {
        must(pln_l1_resize(table.l1, (size_t) (1 + step % 5) << 19) == PLN_OK, "resize", step);
    } else {
        get_both(oracle, number);
    }
}

/* 0: all fits, so that nothing may be missing. Else an eviction policy each, in a small budget. */
START_TEST(random_steps_agree_with_a_plain_map) {
    static const enum pln_l1_eviction policies[] = {PLN_L1_LRU, PLN_L1_LRU, PLN_L1_ADAPTIVE,
                                                    PLN_L1_FIFO, PLN_L1_RANDOM};
    const char *wanted = getenv("PLN_STEPS");
    unsigned n_steps = wanted != NULL ? (unsigned) atoi(wanted) : 100000;
    struct oracle oracle = {.state = 42, .may_miss = _i > 0};
    struct known *known = NULL, *next = NULL;
    table_close(&table);
    table_open(&table, (size_t) (oracle.may_miss ? 1 : 64) << 20, policies[_i]);
    for (unsigned step = 1; step <= n_steps; step++) {
        step_both(&oracle, step);
    }
    HASH_ITER(hh, oracle.map, known, next) {
        forget(&oracle, known);
    }
    must(oracle.n_refused <= n_steps / 100000, "stores were refused", oracle.n_refused);
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
    for (uintptr_t i = 0; i < 10000; i++) {
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
    tcase_set_timeout(tests, 0); /* meson has one */
    tcase_add_checked_fixture(tests, setup, teardown);
    tcase_add_loop_test(tests, random_steps_agree_with_a_plain_map, 0, 5);
    tcase_add_test(tests, threads_see_whole_values_that_never_go_back);
    tcase_add_test(tests, a_lent_value_stays_whole_while_it_is_replaced_and_removed);
    tcase_add_test(tests, threads_that_come_and_go_leave_no_records_behind);
    return run_suite(suite);
}
