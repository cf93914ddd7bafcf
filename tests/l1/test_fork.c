/* SPDX-License-Identifier: MIT
 * test_fork.c - a child goes on with the table, whatever the parent's threads were at. */
#include "table.h"

#include <sys/wait.h>
#include <unistd.h>

enum { N_KEYS = 20000, N_THREADS = 3, N_FORKS = 20, N_CLOSED = 300, SWEEPS = 50, MOST_ENTRY = 64 };

static struct table table;
static atomic_bool has_ended;

static void setup(void) {
    atomic_store(&has_ended, false);
    table_open(&table, 16 << 20, PLN_L1_LRU);
    for (unsigned i = 0; i < N_KEYS; i++) {
        put_text(&table, i, "from the parent", 0);
    }
}

static void teardown(void) {
    table_close(&table);
}

static struct pln_value *lend(unsigned number) {
    char bytes[16];
    struct pln_l1_hit hit;
    struct pln_value *value;
    struct pln_hashed key = key_of(number, bytes);
    return pln_l1_borrow(table.l1, &key, 0, 0, &hit, &value) == PLN_OK ? value : NULL;
}

/* Keys from 1 million on: overwritten, lent and removed all the time. */
static void *keep_busy(void *arg) {
    unsigned number = 1000000 + (unsigned) (uintptr_t) arg * 1000;
    char text[256];
    for (unsigned i = 0; !atomic_load(&has_ended); i++) {
        put_text(&table, number + i % 100, "busy", 0);
        get_text(&table, number + i % 77, 0, text);
        struct pln_value *value = lend(number + i % 50);
        remove_key(&table, number + i % 50);
        if (value != NULL) {
            pln_l1_release(table.l1, value);
        }
    }
    return NULL;
}

static void *use_in_child(void *arg) {
    char text[256];
    unsigned first = 50000 + (unsigned) (uintptr_t) arg * 1000;
    bool is_right = true;
    for (unsigned i = 0; i < 1000 && is_right; i++) {
        is_right = put_text(&table, first + i, "of the child", 0) == PLN_OK &&
                   get_text(&table, first + i, 0, text) != NULL &&
                   strcmp(text, "of the child") == 0;
    }
    return (void *) (uintptr_t) is_right;
}

/* What a child finds: the parent's entries, room for its own, memory that comes back. */
static bool is_usable(void) {
    char text[256];
    struct pln_l1_usage usage;
    pthread_t threads[2];
    void *results[2];
    pln_l1_after_fork(table.l1);
    for (unsigned i = 0; i < N_KEYS; i++) {
        const char *seen = get_text(&table, i, 0, text);
        if (seen == NULL || strcmp(seen, "from the parent") != 0 ||
            remove_key(&table, i) != PLN_OK) {
            return false;
        }
    }
    for (uintptr_t i = 0; i < 2; i++) {
        pthread_create(&threads[i], NULL, use_in_child, (void *) i);
    }
    for (size_t i = 0; i < 2; i++) {
        pthread_join(threads[i], &results[i]);
    }
    for (int i = 0; i < SWEEPS; i++) {
        pln_l1_sweep(table.l1, 0, SIZE_MAX);
    }
    pln_l1_usage(table.l1, &usage);
    table_close(&table);
    return results[0] != NULL && results[1] != NULL &&
           usage.waiting_bytes <= N_THREADS * MOST_ENTRY;
}

static void start(pthread_t threads[N_THREADS]) {
    for (uintptr_t i = 0; i < N_THREADS; i++) {
        pthread_create(&threads[i], NULL, keep_busy, (void *) i);
    }
}

static void stop(pthread_t threads[N_THREADS]) {
    atomic_store(&has_ended, true);
    for (size_t i = 0; i < N_THREADS; i++) {
        pthread_join(threads[i], NULL);
    }
}

START_TEST(a_child_goes_on_while_the_parents_threads_were_at_work) {
    pthread_t threads[N_THREADS];
    start(threads);
    for (int i = 0; i < N_FORKS; i++) {
        int status = 0;
        pid_t child = fork();
        ck_assert_int_ge(child, 0);
        if (child == 0) {
            _exit(is_usable() ? 0 : 1);
        }
        ck_assert_int_eq(waitpid(child, &status, 0), child);
        ck_assert_int_eq(status, 0);
    }
    stop(threads);
    char text[256];
    for (unsigned i = 0; i < N_KEYS; i++) { /* the children's removals are their own */
        ck_assert_str_eq(get_text(&table, i, 0, text), "from the parent");
    }
}
END_TEST

/* Closes the table at once, where `value` is lent to this thread, which gives it back before or
 * never. */
static void close_in_child(struct pln_value *value, bool gives_back) {
    pln_l1_after_fork(table.l1);
    remove_key(&table, 0);
    if (gives_back) {
        pln_l1_release(table.l1, value);
    }
    table_close(&table);
}

START_TEST(a_child_closes_what_the_parents_threads_were_at) {
    pthread_t threads[N_THREADS];
    struct pln_value *value = lend(0);
    ck_assert_ptr_nonnull(value);
    start(threads);
    for (int i = 0; i < N_CLOSED; i++) {
        int status = 0;
        pid_t child = fork();
        if (child == 0) {
            close_in_child(value, i % 2 == 0);
            _exit(0);
        }
        if (child < 0 || waitpid(child, &status, 0) != child || status != 0) {
            ck_abort_msg("child %d of process %d: status %x", i, (int) child, (unsigned) status);
        }
    }
    stop(threads);
    pln_l1_release(table.l1, value);
}
END_TEST

int main(void) {
#ifdef __SANITIZE_ADDRESS__
    puts("1..0 # SKIP the sanitizer's allocator may stay locked in a child of many threads");
    return 0;
#endif
    Suite *suite = suite_create("fork");
    TCase *tests = tcase_create("fork");
    suite_add_tcase(suite, tests);
    tcase_set_timeout(tests, 120);
    tcase_add_checked_fixture(tests, setup, teardown);
    tcase_add_test(tests, a_child_goes_on_while_the_parents_threads_were_at_work);
    tcase_add_test(tests, a_child_closes_what_the_parents_threads_were_at);
    return run_suite(suite);
}
