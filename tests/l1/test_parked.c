/* SPDX-License-Identifier: MIT
 * test_parked.c - a thread stopped for good at any step of a store or a removal keeps nobody else
 * from finishing, and does no harm when it goes on. L1 is built here with its points. */
#include "table.h"

#include <semaphore.h>

#ifdef __SANITIZE_THREAD__
enum { N_STEPS = 300 }; /* each takes some twenty times as long */
#else
enum { N_STEPS = 2000 };
#endif

static struct table table;
static char text[256];
static _Thread_local const char *stop_at; /* of the thread that is to be stopped */
static sem_t is_parked, may_go_on;

void pln_point(const char *name) {
    if (stop_at != NULL && strcmp(name, stop_at) == 0) {
        stop_at = NULL;
        sem_post(&is_parked);
        while (sem_wait(&may_go_on) != 0) {
        }
    }
}

static void setup(void) {
    /* with somebody stopped in a section nothing is freed: all that the work ends must find room
     * among what may wait */
    table_open(&table, 32 << 20, PLN_L1_LRU);
    sem_init(&is_parked, 0, 0);
    sem_init(&may_go_on, 0, 0);
}

static void teardown(void) {
    table_close(&table);
}

/* Keys of one half of one bucket. */
static struct pln_hashed crowded(unsigned number, char bytes[16]) {
    int len = snprintf(bytes, 16, "*%u", number);
    struct pln_bytes key = pln_bytes_of(bytes, (size_t) len);
    return (struct pln_hashed){key, table_hash(key, 0)};
}

static int put_crowded(unsigned number, const char *value) {
    char bytes[16];
    struct pln_hashed key = crowded(number, bytes);
    struct pln_l1_item item = item_of(pln_key(value), 0, PLN_FOREVER);
    return pln_l1_put(table.l1, &key, &item, 0, NULL, NULL);
}

static const char *get_crowded(unsigned number) {
    char bytes[16];
    struct pln_l1_hit hit;
    struct pln_hashed key = crowded(number, bytes);
    if (pln_l1_get(table.l1, &key, 0, 0, text, 255, &hit) != PLN_OK) {
        return NULL;
    }
    text[hit.len] = 0;
    return text;
}

static int remove_crowded(unsigned number) {
    char bytes[16];
    struct pln_hashed key = crowded(number, bytes);
    return pln_l1_remove(table.l1, &key);
}

static int expire_crowded(unsigned number) {
    char bytes[16];
    struct pln_hashed key = crowded(number, bytes);
    return pln_l1_expire(table.l1, &key, 0);
}

/* Work on the bucket in which somebody is stopped: each step ends, and with the right answer. */
static void work_beside(void) {
    for (unsigned i = 0; i < N_STEPS; i++) {
        unsigned number = 100 + i % 6; /* as many as find room beside the others */
        int status = put_crowded(number, "beside");
        const char *seen = get_crowded(number);
        if (status != PLN_OK || seen == NULL || strcmp(seen, "beside") != 0 ||
            remove_crowded(number) != PLN_OK || get_crowded(number) != NULL) {
            ck_abort_msg("step %u: put %d, read %s, or not removed: %s", i, status,
                         seen != NULL ? seen : "nothing", pln_error_text());
        }
        if (i % 64 == 0) {
            pln_l1_sweep(table.l1, 0, SIZE_MAX);
        }
    }
}

struct parked {
    const char *point;
    bool removes; /* a remove, else a put of "new" */
    int status;
};

static void *park(void *arg) {
    struct parked *parked = arg;
    stop_at = parked->point;
    parked->status = parked->removes ? remove_crowded(1) : put_crowded(1, "new");
    return NULL;
}

static const struct parked places[] = {
    {"linked", false, 0},   {"versioned", false, 0},  {"collected", false, 0}, {"fenced", false, 0},
    {"checked", false, 0},  {"unrivalled", false, 0}, {"visible", false, 0},   {"killed", false, 0},
    {"unlinked", false, 0}, {"killed", true, 0},      {"unlinked", true, 0},
};

enum { N_NOT_VISIBLE = 6 }; /* of them: a store that no reader sees yet */

START_TEST(a_stopped_thread_stops_nobody) {
    struct parked parked = places[_i];
    pthread_t thread;
    put_crowded(1, "old");
    pthread_create(&thread, NULL, park, &parked);
    sem_wait(&is_parked);
    work_beside();
    const char *seen = get_crowded(1);
    ck_assert(seen == NULL || strcmp(seen, "old") == 0 || strcmp(seen, "new") == 0);
    sem_post(&may_go_on);
    pthread_join(thread, NULL);
    ck_assert_int_eq(parked.status, PLN_OK);
    seen = get_crowded(1);
    if (parked.removes) {
        ck_assert_ptr_null(seen);
    } else {
        ck_assert_str_eq(seen, "new");
    }
    work_beside();
}
END_TEST

static void withdraw_by(int (*end)(unsigned number), struct parked parked) {
    pthread_t thread;
    put_crowded(1, "old");
    pthread_create(&thread, NULL, park, &parked);
    sem_wait(&is_parked);
    end(1);
    ck_assert_ptr_null(get_crowded(1));
    work_beside(); /* its entry has been unlinked, and waits with many others */
    sem_post(&may_go_on);
    pthread_join(thread, NULL);
    ck_assert_int_eq(parked.status, PLN_NOT_STORED);
    ck_assert_ptr_null(get_crowded(1));
    work_beside();
}

START_TEST(a_store_stopped_anywhere_before_it_shows_is_withdrawn_by_a_remove) {
    withdraw_by(remove_crowded, places[_i]);
}
END_TEST

/* Its entry would show as a fresh one. */
START_TEST(a_store_stopped_anywhere_before_it_shows_is_withdrawn_by_an_expire) {
    withdraw_by(expire_crowded, places[_i]);
}
END_TEST

START_TEST(a_store_stopped_anywhere_before_it_shows_is_withdrawn_by_a_walk) {
    struct parked parked = places[_i]; /* not yet visible */
    struct pln_mask mask = {PLN_MASK_PATTERN, pln_key("?*1")};
    pthread_t thread;
    put_crowded(1, "old");
    put_crowded(2, "other");
    pthread_create(&thread, NULL, park, &parked);
    sem_wait(&is_parked);
    ck_assert_int_eq(pln_l1_remove_each(table.l1, pln_mask_fits, &mask), PLN_OK);
    ck_assert_str_eq(get_crowded(1), "old"); /* no key begins so */
    mask.text = pln_key("**1");
    ck_assert_int_eq(pln_l1_remove_each(table.l1, pln_mask_fits, &mask), PLN_OK);
    ck_assert_ptr_null(get_crowded(1));
    ck_assert_str_eq(get_crowded(2), "other");
    sem_post(&may_go_on);
    pthread_join(thread, NULL);
    ck_assert_int_eq(parked.status, PLN_NOT_STORED);
    ck_assert_ptr_null(get_crowded(1));
    ck_assert_str_eq(get_crowded(2), "other");
}
END_TEST

static void *walk_parked(void *arg) {
    struct pln_mask mask = {PLN_MASK_PREFIX, pln_key("*1")};
    stop_at = arg;
    pln_l1_remove_each(table.l1, pln_mask_fits, &mask);
    return NULL;
}

/* What it has found is replaced meanwhile: the key is gone all the same, or what came later. */
START_TEST(a_stopped_walk_stops_nobody) {
    pthread_t thread;
    put_crowded(1, "old");
    pthread_create(&thread, NULL, walk_parked, (void *) (uintptr_t) "to_remove");
    sem_wait(&is_parked);
    work_beside();
    put_crowded(1, "later");
    sem_post(&may_go_on);
    pthread_join(thread, NULL);
    const char *seen = get_crowded(1);
    ck_assert(seen == NULL || strcmp(seen, "later") == 0);
    work_beside();
}
END_TEST

START_TEST(a_store_stopped_before_it_shows_gives_way_to_a_later_one) {
    struct parked parked = places[_i];
    pthread_t thread;
    pthread_create(&thread, NULL, park, &parked);
    sem_wait(&is_parked);
    ck_assert_int_eq(put_crowded(1, "later"), PLN_OK);
    ck_assert_str_eq(get_crowded(1), "later");
    sem_post(&may_go_on);
    pthread_join(thread, NULL);
    /* stopped before it had a version it is the later one; else it was overtaken */
    ck_assert_str_eq(get_crowded(1), parked.status == PLN_OK ? "new" : "later");
    ck_assert_int_eq(parked.status, strcmp(parked.point, "linked") == 0 ? PLN_OK : PLN_NOT_STORED);
}
END_TEST

/* ---- moving to another table ---- */

static const char *const mover_points[] = {"marked", "twice", "moved"};

static void *sweep_parked(void *arg) {
    stop_at = arg;
    pln_l1_sweep(table.l1, 0, 1);
    return NULL;
}

/* A table that is being replaced by a larger one, with a thread stopped while it moves key 1. */
static pthread_t park_mover(const char *point) {
    pthread_t thread;
    put_crowded(1, "old");
    ck_assert_int_eq(pln_l1_resize(table.l1, 128 << 20), PLN_OK);
    pthread_create(&thread, NULL, sweep_parked, (void *) (uintptr_t) point);
    sem_wait(&is_parked);
    return thread;
}

static void let_go(pthread_t thread) {
    sem_post(&may_go_on);
    pthread_join(thread, NULL);
    for (int i = 0; i < 400 && pln_l1_is_replacing(table.l1); i++) {
        pln_l1_sweep(table.l1, 0, 1024); /* until the old table is gone */
    }
    for (int i = 0; i < 4; i++) { /* and what waits, too */
        pln_l1_sweep(table.l1, 0, 1);
    }
    ck_assert_uint_eq(pln_l1_stage(atomic_load(&table.l1->stage)), STAGE_IDLE);
}

START_TEST(a_stopped_mover_stops_nobody) {
    pthread_t thread = park_mover(mover_points[_i]);
    work_beside();
    ck_assert_str_eq(get_crowded(1), "old");
    let_go(thread);
    ck_assert_str_eq(get_crowded(1), "old");
    work_beside();
}
END_TEST

START_TEST(an_entry_removed_while_its_mover_is_stopped_stays_removed) {
    struct pln_l1_usage usage;
    pthread_t thread = park_mover(mover_points[_i]);
    ck_assert_int_eq(remove_crowded(1), PLN_OK);
    ck_assert_ptr_null(get_crowded(1));
    work_beside();
    ck_assert_ptr_null(get_crowded(1));
    let_go(thread);
    ck_assert_ptr_null(get_crowded(1));
    pln_l1_usage(table.l1, &usage);
    ck_assert_uint_eq(usage.entries, 0);
    ck_assert_uint_eq(usage.waiting_bytes, 0);
}
END_TEST

/* ---- memory ---- */

static void *fill_parked(void *arg) {
    static char value[3000];
    char bytes[16];
    stop_at = arg;
    for (unsigned i = 0; i < 200000 && (arg == NULL) == (stop_at == NULL);
         i++) { /* until it has stopped once */
        struct pln_hashed key = key_of(i, bytes);
        struct pln_l1_item item = item_of(pln_bytes_of(value, i % sizeof value), 0, PLN_FOREVER);
        (void) pln_l1_put(table.l1, &key, &item, 0, NULL, NULL);
    }
    return NULL;
}

START_TEST(a_thread_stopped_while_it_frees_memory_stops_nobody) {
    static const char *const points[] = {"emptying", "closed"};
    pthread_t thread;
    table_close(&table);
    table_open(&table, 4 << 20, PLN_L1_LRU); /* soon full, of all sizes */
    pthread_create(&thread, NULL, fill_parked, (void *) (uintptr_t) points[_i]);
    sem_wait(&is_parked);
    work_beside();
    fill_parked(NULL);
    sem_post(&may_go_on);
    pthread_join(thread, NULL);
    work_beside();
}
END_TEST

int main(void) {
    Suite *suite = suite_create("parked");
    TCase *tests = tcase_create("parked");
    suite_add_tcase(suite, tests);
    tcase_set_timeout(tests, 30);
    tcase_add_checked_fixture(tests, setup, teardown);
    tcase_add_loop_test(tests, a_stopped_thread_stops_nobody, 0, PLN_ARRAY_LEN(places));
    tcase_add_loop_test(tests, a_store_stopped_anywhere_before_it_shows_is_withdrawn_by_a_remove, 0,
                        N_NOT_VISIBLE);
    tcase_add_loop_test(tests, a_store_stopped_anywhere_before_it_shows_is_withdrawn_by_an_expire,
                        0, N_NOT_VISIBLE);
    tcase_add_loop_test(tests, a_store_stopped_anywhere_before_it_shows_is_withdrawn_by_a_walk, 0,
                        N_NOT_VISIBLE);
    tcase_add_test(tests, a_stopped_walk_stops_nobody);
    tcase_add_loop_test(tests, a_store_stopped_before_it_shows_gives_way_to_a_later_one, 0,
                        N_NOT_VISIBLE);
    tcase_add_loop_test(tests, a_stopped_mover_stops_nobody, 0, PLN_ARRAY_LEN(mover_points));
    tcase_add_loop_test(tests, an_entry_removed_while_its_mover_is_stopped_stays_removed, 0,
                        PLN_ARRAY_LEN(mover_points));
    tcase_add_loop_test(tests, a_thread_stopped_while_it_frees_memory_stops_nobody, 0, 2);
    return run_suite(suite);
}
