/* SPDX-License-Identifier: MIT
 * test_child.c - a child made while a thread of the parent is stopped at a step goes on with the
 * table and closes it, whatever the step was. L1 is built here with its points. */
#include "table.h"

#include <semaphore.h>
#include <sys/wait.h>
#include <unistd.h>

enum { N_FILLED = 2000, LENT_BYTES = 1000 };

static struct table table;
static char text[256];
static _Thread_local const char *stop_at; /* of the thread that is to be stopped */
static sem_t is_parked, may_go_on;
static struct pln_value *lent;

void pln_point(const char *name) {
    if (stop_at != NULL && strcmp(name, stop_at) == 0) {
        stop_at = NULL;
        sem_post(&is_parked);
        while (sem_wait(&may_go_on) != 0) {
        }
    }
}

static void setup(void) {
    table_open(&table, 4 << 20, PLN_L1_LRU);
    sem_init(&is_parked, 0, 0);
    sem_init(&may_go_on, 0, 0);
}

static void teardown(void) {
    table_close(&table);
}

/* ---- what threads are stopped at ---- */

static int put_sized(unsigned number, size_t bytes) {
    static const char value[100000];
    char at[16];
    struct pln_hashed key = key_of(number, at);
    struct pln_l1_item item = item_of(pln_bytes_of(value, bytes), 0, PLN_FOREVER);
    item.generation = pln_l1_generation(table.l1);
    return pln_l1_put(table.l1, &key, &item, 0, NULL, NULL);
}

static struct pln_value *lend(unsigned number) {
    char at[16];
    struct pln_l1_hit hit;
    struct pln_value *value = NULL;
    struct pln_hashed key = key_of(number, at);
    (void) pln_l1_borrow(table.l1, &key, 0, 0, &hit, &value);
    return value;
}

static void sweep(int times) {
    for (int i = 0; i < times; i++) {
        pln_l1_sweep(table.l1, 0, SIZE_MAX);
    }
}

static void put(void) {
    put_text(&table, 1, "new", 0);
}

static void put_large(void) {
    put_sized(1, 100000);
}

static void end(void) {
    remove_key(&table, 1);
}

/* Frees what many removals left. */
static void clean(void) {
    for (unsigned i = 2; i < 1000; i++) {
        remove_key(&table, i);
    }
    sweep(8);
}

/* Stops after the table, with a slot for the entry, is being replaced. */
static void enlarge(void) {
    pln_l1_resize(table.l1, 32 << 20);
    sweep(1);
}

/* Until a slab must change its class. */
static void drain(void) {
    for (unsigned i = 0; i < 100000 && stop_at != NULL; i++) {
        put_sized(10000 + i, i % 3000);
    }
}

static void give_back(void) {
    remove_key(&table, 5000);
    sweep(8);
    pln_l1_release(table.l1, lent);
}

struct step {
    const char *point;
    void (*act)(void);
    bool replaces;   /* another table is begun with before the fork */
    unsigned n_over; /* so many entries more are counted than seen: ended, replaced or lost */
};

static const struct step steps[] = {
    {"linked", put, false, 0},          {"versioned", put, false, 0},
    {"collected", put, false, 0},       {"fenced", put, false, 0},
    {"checked", put, false, 0},         {"unrivalled", put, false, 0},
    {"visible", put, false, 1},         {"killed", put, false, 1},
    {"unlinked", put, false, 1},        {"retiring", put, false, 1},
    {"linked", put, true, 0},           {"checked", put, true, 0},
    {"visible", put, true, 1},          {"linked", put_large, false, 0},
    {"linked", put_large, true, 0},     {"visible", put_large, true, 1},
    {"killed", end, false, 1},          {"unlinked", end, false, 1},
    {"retiring", end, false, 1},        {"killed", end, true, 1},
    {"collecting", clean, false, 1000}, {"emptying", clean, false, 0},
    {"freeing", clean, false, 1},       {"freed", clean, false, 0},
    {"published", enlarge, false, 0},   {"marked", enlarge, false, 0},
    {"twice", enlarge, false, 0},       {"moved", enlarge, false, 0},
    {"closed", drain, false, 0},        {"emptied", drain, false, 1000},
    {"returned", give_back, false, 0},
};

/* ---- the child ---- */

#define EXPECT(condition)                                                                          \
    do {                                                                                           \
        if (!(condition)) {                                                                        \
            fprintf(stderr, "in the child, line %d: %s\n", __LINE__, #condition);                  \
            return false;                                                                          \
        }                                                                                          \
    } while (0)

static bool count(void *arg, struct pln_bytes key, const struct pln_l1_hit *hit) {
    (void) key;
    (void) hit;
    ++*(size_t *) arg;
    return true;
}

/* The bytes of all cells that are not free: what the sums must come to. */
static size_t taken_bytes(void) {
    return pln_l1_slabs_after_fork(table.l1);
}

/* What is used agrees with what can be seen. */
static bool is_counted(unsigned n_over) {
    struct pln_l1_usage usage;
    size_t n = 0;
    pln_l1_usage(table.l1, &usage);
    pln_l1_each(table.l1, 0, pln_bytes_of("", 0), count, &n);
    EXPECT(usage.bytes - usage.table_bytes == taken_bytes());
    EXPECT(usage.entries >= n && usage.entries <= n + n_over);
    return true;
}

/* No limbo or place is somebody's, and each closed slab stands in a place. */
static bool is_nobodys(void) {
    const struct slabs *slabs = &table.l1->slabs;
    size_t n_closed = 0, n_places = 0;
    for (size_t i = 0; i < PLN_L1_LIMBOS; i++) {
        EXPECT(!atomic_load(&table.l1->limbos[i].is_taken));
    }
    for (size_t i = 0; i < PLN_L1_DRAINED; i++) {
        uint64_t draining = atomic_load(&slabs->draining[i]);
        EXPECT(draining >> 63 == 0);
        n_places += draining != 0;
    }
    for (size_t i = 0; i < slabs->n_slabs; i++) {
        n_closed += (atomic_load(&slabs->class_of[i]) & PLN_SLAB_CLOSED) != 0;
    }
    EXPECT(n_closed == n_places);
    return true;
}

/* Every put finds room, and is read. */
static bool can_fill(unsigned first, size_t bytes) {
    struct pln_l1_usage usage;
    for (unsigned i = 0; i < N_FILLED; i++) {
        EXPECT(put_sized(first + i, bytes) == PLN_OK);
        EXPECT(get_text(&table, first + i, 0, text) != NULL);
    }
    pln_l1_usage(table.l1, &usage);
    EXPECT(usage.bytes <= usage.max_bytes + usage.max_bytes / 16);
    return true;
}

static bool can_resize(size_t max_bytes) {
    EXPECT(pln_l1_resize(table.l1, max_bytes) == PLN_OK);
    for (int i = 0; i < 1000 && pln_l1_is_replacing(table.l1); i++) {
        sweep(1);
    }
    EXPECT(!pln_l1_is_replacing(table.l1));
    return true;
}

static bool can_end_all(bool gives_back) {
    struct pln_l1_usage usage;
    if (gives_back) {
        pln_l1_release(table.l1, lent);
    }
    pln_l1_set_generation(table.l1, pln_l1_generation(table.l1) + 2);
    sweep(8);
    pln_l1_usage(table.l1, &usage);
    EXPECT(usage.waiting_bytes == 0 || (!gives_back && usage.waiting_bytes < 2 * LENT_BYTES));
    return true;
}

/* All that is asked of a table whose parent had a thread stopped. */
static bool goes_on(const struct step *step) {
    pln_l1_after_fork(table.l1);
    EXPECT(is_nobodys() && is_counted(step->n_over));
    const char *seen = get_text(&table, 1, 0, text);
    EXPECT(step->act != put ||
           (seen != NULL && (strcmp(seen, "old") == 0 || strcmp(seen, "new") == 0)));
    EXPECT(can_fill(20000, 10) && can_fill(30000, 3000));
    EXPECT(can_resize(48 << 20) && can_fill(40000, 3000) && can_resize(2 << 20));
    EXPECT(put_text(&table, 1, "of the child", 0) == PLN_OK);
    EXPECT(strcmp(get_text(&table, 1, 0, text), "of the child") == 0);
    EXPECT(remove_key(&table, 1) == PLN_OK);
    EXPECT(get_text(&table, 1, 0, text) == NULL);
    EXPECT(can_fill(50000, 100) && is_counted(step->n_over));
    EXPECT(can_end_all(step->act != give_back));
    EXPECT(can_fill(60000, 1000));
    table_close(&table);
    return true;
}

static void *park(void *arg) {
    const struct step *step = arg;
    stop_at = step->point;
    step->act();
    stop_at = NULL;
    return NULL;
}

START_TEST(a_child_goes_on_whatever_step_a_thread_was_at) {
    const struct step *step = &steps[_i];
    pthread_t thread;
    int status = 0;
    put_text(&table, 1, "old", 0);
    for (unsigned i = 2; i < 1000; i++) {
        put_text(&table, i, "from the parent", 0);
    }
    ck_assert_int_eq(put_sized(5000, LENT_BYTES), PLN_OK);
    lent = lend(5000);
    ck_assert_ptr_nonnull(lent);
    pthread_create(&thread, NULL, park, (void *) (uintptr_t) step);
    sem_wait(&is_parked);
    if (step->replaces) {
        ck_assert_int_eq(pln_l1_resize(table.l1, 32 << 20), PLN_OK);
        ck_assert(pln_l1_is_replacing(table.l1));
    }
    pid_t child = fork();
    ck_assert_int_ge(child, 0);
    if (child == 0) {
        _exit(goes_on(step) ? 0 : 1);
    }
    ck_assert_int_eq(waitpid(child, &status, 0), child);
    sem_post(&may_go_on);
    pthread_join(thread, NULL);
    if (step->act != give_back) {
        pln_l1_release(table.l1, lent);
    }
    ck_assert_msg(status == 0, "the child of step %s: status %x", step->point, (unsigned) status);
}
END_TEST

/* ---- values lent to threads that are not there ---- */

/* More than may wait for readers. */
static bool outlives_lenders(void) {
    pln_l1_after_fork(table.l1);
    EXPECT(is_counted(0));
    for (unsigned i = 0; i < 300; i++) {
        EXPECT(remove_key(&table, i) == PLN_OK);
    }
    sweep(8);
    EXPECT(can_fill(20000, 1000) && is_counted(0));
    struct pln_l1_usage usage;
    pln_l1_usage(table.l1, &usage);
    EXPECT(usage.waiting_bytes >= 300 * 5000);
    table_close(&table);
    return true;
}

START_TEST(a_child_stores_and_closes_though_much_is_lent_to_threads_of_the_parent) {
    struct pln_value *values[300];
    int status = 0;
    for (unsigned i = 0; i < 300; i++) {
        ck_assert_int_eq(put_sized(i, 5000), PLN_OK);
        values[i] = lend(i);
        ck_assert_ptr_nonnull(values[i]);
    }
    pid_t child = fork();
    ck_assert_int_ge(child, 0);
    if (child == 0) {
        _exit(outlives_lenders() ? 0 : 1);
    }
    ck_assert_int_eq(waitpid(child, &status, 0), child);
    for (size_t i = 0; i < 300; i++) {
        pln_l1_release(table.l1, values[i]);
    }
    ck_assert_int_eq(status, 0);
}
END_TEST

int main(void) {
    Suite *suite = suite_create("child");
    TCase *tests = tcase_create("child");
    suite_add_tcase(suite, tests);
    tcase_set_timeout(tests, 60);
    tcase_add_checked_fixture(tests, setup, teardown);
    tcase_add_loop_test(tests, a_child_goes_on_whatever_step_a_thread_was_at, 0,
                        PLN_ARRAY_LEN(steps));
    tcase_add_test(tests, a_child_stores_and_closes_though_much_is_lent_to_threads_of_the_parent);
    return run_suite(suite);
}
