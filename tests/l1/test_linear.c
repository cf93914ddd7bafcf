/* SPDX-License-Identifier: MIT
 * test_linear.c - what threads see of a key fits into one order of their operations: histories of 2
 * to 8 threads on 1 to 4 keys, recorded under many seeds, with evictions, expiry, clearing and
 * tables that are replaced. PLN_SEEDS tells how many (500). L1 is built here with its points, at
 * which threads lose time at random. */
#include "table.h"

#include <sched.h>

#include "linear.h"

enum { MOST_KEYS = 4, MOST_THREADS = 8, STEPS = 14, FILLERS = 24 };

/* ---- the checker itself ---- */

struct sample {
    const char *title;
    bool holds;
    struct linear_op ops[6];
    size_t n;
};

static const struct sample samples[] = {
    {"a get after a put sees it", true, {{LINEAR_PUT, 1, 0, 1, 2}, {LINEAR_GET, 1, 1, 3, 4}}, 2},
    {"a get may miss what was evicted",
     true,
     {{LINEAR_PUT, 1, 0, 1, 2}, {LINEAR_GET, 0, 1, 3, 4}},
     2},
    {"a get beside a put may see either",
     true,
     {{LINEAR_PUT, 1, 0, 1, 2},
      {LINEAR_PUT, 2, 0, 3, 8},
      {LINEAR_GET, 1, 1, 4, 5},
      {LINEAR_GET, 2, 1, 6, 7}},
     4},
    {"no value comes from nowhere", false, {{LINEAR_GET, 9, 0, 1, 2}}, 1},
    {"no value comes before its put",
     false,
     {{LINEAR_GET, 1, 0, 1, 2}, {LINEAR_PUT, 1, 1, 3, 4}},
     2},
    {"the newer is not followed by the older",
     false,
     {{LINEAR_PUT, 1, 0, 1, 2},
      {LINEAR_PUT, 2, 0, 3, 8},
      {LINEAR_GET, 2, 1, 4, 5},
      {LINEAR_GET, 1, 2, 6, 7}},
     4},
    {"what was removed is not seen",
     false,
     {{LINEAR_PUT, 1, 0, 1, 2}, {LINEAR_REMOVE, 0, 0, 3, 4}, {LINEAR_GET, 1, 1, 5, 6}},
     3},
    {"what was missed does not come back",
     false,
     {{LINEAR_PUT, 1, 0, 1, 2}, {LINEAR_GET, 0, 1, 3, 4}, {LINEAR_GET, 1, 1, 5, 6}},
     3},
    {"what was overwritten is not seen",
     false,
     {{LINEAR_PUT, 1, 0, 1, 2}, {LINEAR_PUT, 2, 1, 3, 4}, {LINEAR_GET, 1, 0, 5, 6}},
     3},
};

START_TEST(the_checker_tells_right_from_wrong) {
    const struct sample *sample = &samples[_i];
    struct linear_history history = {.n = sample->n};
    memcpy(history.ops, sample->ops, sizeof sample->ops);
    ck_assert_msg(linear_holds(&history) == sample->holds, "%s", sample->title);
}
END_TEST

/* ---- histories ---- */

static struct table table;
static struct linear_history histories[MOST_KEYS];
static _Atomic size_t lengths[MOST_KEYS];
static _Atomic uint64_t moment;
static _Atomic int64_t clock_now;
static unsigned n_keys;
static bool is_crowded, resizes, expires;
static pthread_barrier_t start;
static _Thread_local uint64_t chance_state;

static uint64_t chance(void) {
    chance_state ^= chance_state << 13;
    chance_state ^= chance_state >> 7;
    chance_state ^= chance_state << 17;
    return chance_state;
}

/* Here a thread loses time now and then, so that others come in between. */
void pln_point(const char *name) {
    (void) name;
    uint64_t drawn = chance_state != 0 ? chance() % 16 : 15;
    if (drawn == 0) {
        sched_yield();
    } else if (drawn < 4) {
        for (volatile uint64_t i = chance() % 300; i > 0; i--) {
        }
    }
}

static struct pln_hashed key_number(unsigned number, char bytes[16]) {
    int len = snprintf(bytes, 16, "%skey %u", is_crowded ? "*" : "", number);
    struct pln_bytes key = pln_bytes_of(bytes, (size_t) len);
    return (struct pln_hashed){key, table_hash(key, 0)};
}

static void record(unsigned key, struct linear_op op) {
    op.end = atomic_fetch_add(&moment, 1);
    size_t at = atomic_fetch_add(&lengths[key], 1);
    ck_assert_uint_lt(at, LINEAR_MOST);
    histories[key].ops[at] = op;
}

static bool no_at_all(const void *arg) {
    int *calls = *(int *const *) arg;
    return ++*calls == 1; /* yes before it is linked, no after */
}

static void do_put(unsigned key, unsigned thread, uint32_t value) {
    char bytes[16];
    int calls = 0, *calls_at = &calls;
    bool is_withdrawn = chance() % 8 == 0;
    struct pln_hashed at = key_number(key, bytes);
    struct linear_op op = {LINEAR_PUT, value, thread, atomic_fetch_add(&moment, 1), 0};
    uint32_t generation = pln_l1_generation(table.l1);
    pln_ms now = atomic_load(&clock_now);
    struct pln_l1_item item = item_of(pln_bytes_of(&value, sizeof value), now,
                                      expires && chance() % 4 == 0 ? (pln_ms) (chance() % 20)
                                                                   : PLN_FOREVER);
    item.generation = generation;
    item.weight = chance() % 4 == 0; /* some have more to say */
    int status = pln_l1_put(table.l1, &at, &item, now, is_withdrawn ? no_at_all : NULL, &calls_at);
    if (status == PLN_OK) {
        record(key, op);
    }
    ck_assert(!is_withdrawn || status != PLN_OK);
}

static void do_get(unsigned key, unsigned thread) {
    char bytes[16];
    uint32_t value = LINEAR_NONE;
    struct pln_l1_hit hit;
    struct pln_value *lent;
    struct pln_hashed at = key_number(key, bytes);
    struct linear_op op = {LINEAR_GET, LINEAR_NONE, thread, atomic_fetch_add(&moment, 1), 0};
    pln_ms now = atomic_load(&clock_now);
    if (chance() % 2 == 0) {
        if (pln_l1_get(table.l1, &at, now, 0, &value, sizeof value, &hit) == PLN_OK) {
            op.value = value;
        }
        record(key, op);
    } else {
        bool is_hit = pln_l1_borrow(table.l1, &at, now, 0, &hit, &lent) == PLN_OK;
        if (is_hit) {
            memcpy(&op.value, pln_value_data(lent), sizeof op.value);
        }
        record(key, op);
        if (is_hit) {
            pln_l1_release(table.l1, lent);
        }
    }
}

static void do_remove(unsigned key, unsigned thread) {
    char bytes[16];
    struct pln_hashed at = key_number(key, bytes);
    struct linear_op op = {LINEAR_REMOVE, 0, thread, atomic_fetch_add(&moment, 1), 0};
    pln_l1_remove(table.l1, &at);
    record(key, op);
}

static void do_clear(unsigned thread) {
    static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER; /* as the caller must see to it */
    uint64_t begin = atomic_fetch_add(&moment, 1);
    pthread_mutex_lock(&lock);
    pln_l1_set_generation(table.l1, pln_l1_generation(table.l1) + 2);
    pthread_mutex_unlock(&lock);
    for (unsigned key = 0; key < n_keys; key++) {
        record(key, (struct linear_op){LINEAR_REMOVE, 0, thread, begin, 0});
    }
}

/* What has no place in a history: other keys of the bucket, time, the sweep, another table. */
static void do_else(unsigned key) {
    char bytes[16];
    struct pln_hashed at = key_number(MOST_KEYS + (unsigned) (chance() % FILLERS), bytes);
    struct pln_l1_item item = item_of(pln_key("filler"), 0, PLN_FOREVER);
    item.generation = pln_l1_generation(table.l1);
    switch (chance() % 4) {
    case 0:
        atomic_fetch_add(&clock_now, 3);
        break;
    case 1:
        at = key_number(key, bytes);
        if (!expires) { /* else it could outrun a clock that has moved already */
            pln_l1_retime(table.l1, &at, 0, PLN_FOREVER, PLN_FOREVER, PLN_FOREVER);
        }
        break;
    case 2:
        if (resizes) {
            pln_l1_resize(table.l1, (size_t) (1 + chance() % 3) << 18);
        }
        pln_l1_sweep(table.l1, atomic_load(&clock_now), 64);
        break;
    default:
        (void) pln_l1_put(table.l1, &at, &item, atomic_load(&clock_now), NULL, NULL);
    }
}

struct actor {
    unsigned number;
    uint64_t seed;
};

static void *act(void *arg) {
    const struct actor *actor = arg;
    chance_state = actor->seed * UINT64_C(0x9e3779b97f4a7c15) + actor->number + 1;
    pthread_barrier_wait(&start);
    for (uint32_t step = 1; step <= STEPS; step++) {
        unsigned key = (unsigned) (chance() % n_keys), what = (unsigned) (chance() % 16);
        if (what < 5) {
            do_put(key, actor->number, (actor->number + 1) * 1000 + step);
        } else if (what < 11) {
            do_get(key, actor->number);
        } else if (what < 13) {
            do_remove(key, actor->number);
        } else if (what < 15) {
            do_else(key);
        } else if (step % 4 == 0) {
            do_clear(actor->number);
        }
    }
    chance_state = 0;
    return NULL;
}

static void run_seed(uint64_t seed) {
    pthread_t threads[MOST_THREADS];
    struct actor actors[MOST_THREADS];
    unsigned n_threads = 2 + (unsigned) (seed % (MOST_THREADS - 1));
    static const enum pln_l1_eviction policies[] = {PLN_L1_LRU, PLN_L1_ADAPTIVE, PLN_L1_FIFO};
    n_keys = 1 + (unsigned) (seed / 7 % MOST_KEYS);
    is_crowded = seed % 3 != 0;
    resizes = seed % 4 == 1;
    expires = seed % 2 == 0;
    table_open(&table, 1 << 19, policies[seed / 3 % 3]);
    pthread_barrier_init(&start, NULL, n_threads);
    atomic_store(&clock_now, 0);
    for (unsigned key = 0; key < n_keys; key++) {
        atomic_store(&lengths[key], 0);
    }
    for (unsigned i = 0; i < n_threads; i++) {
        actors[i] = (struct actor){i, seed};
        pthread_create(&threads[i], NULL, act, &actors[i]);
    }
    for (unsigned i = 0; i < n_threads; i++) {
        pthread_join(threads[i], NULL);
    }
    pthread_barrier_destroy(&start);
    table_close(&table);
    for (unsigned key = 0; key < n_keys; key++) {
        histories[key].n = atomic_load(&lengths[key]);
        if (!linear_holds(&histories[key])) {
            fprintf(stderr, "seed %llu, key %u of %u:\n", (unsigned long long) seed, key, n_keys);
            linear_print(&histories[key]);
            ck_abort_msg("no order of the operations fits");
        }
    }
}

START_TEST(what_threads_see_fits_into_one_order) {
    const char *wanted = getenv("PLN_SEEDS"), *first = getenv("PLN_FIRST_SEED");
    uint64_t n_seeds = wanted != NULL ? strtoull(wanted, NULL, 10) : 500;
    uint64_t from = first != NULL ? strtoull(first, NULL, 10) : 1;
    for (uint64_t seed = from; seed < from + n_seeds; seed++) {
        run_seed(seed);
    }
}
END_TEST

int main(void) {
    Suite *suite = suite_create("linear");
    TCase *tests = tcase_create("linear");
    suite_add_tcase(suite, tests);
    tcase_set_timeout(tests, 0); /* meson has one */
    tcase_add_loop_test(tests, the_checker_tells_right_from_wrong, 0, PLN_ARRAY_LEN(samples));
    tcase_add_test(tests, what_threads_see_fits_into_one_order);
    return run_suite(suite);
}
