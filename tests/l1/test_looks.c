/* SPDX-License-Identifier: MIT
 * test_looks.c - what a thread has seen may be overtaken before it has seen the rest: each second
 * look is needed, in a schedule forced upon two or three threads. L1 is built here with its points.
 */
#include "table.h"

#include <semaphore.h>

/* Stops a thread at its n-th passing of a point, for each n of a list. */
struct stops {
    const char *point;
    unsigned at[4], n, n_passed;
    sem_t may_go_on;
};

static struct table table;
static _Thread_local struct stops *stops;
static sem_t is_stopped;

void pln_point(const char *name) {
    if (stops == NULL || strcmp(name, stops->point) != 0) {
        return;
    }
    unsigned passed = stops->n_passed++;
    for (unsigned i = 0; i < stops->n; i++) {
        if (stops->at[i] == passed) {
            sem_post(&is_stopped);
            while (sem_wait(&stops->may_go_on) != 0) {
            }
        }
    }
}

/* A thread that does one thing with key 9, and what came of it. */
struct actor {
    pthread_t thread;
    struct stops stops;
    void (*act)(struct actor *actor);
    int status;
    unsigned n;
    char seen[256];
};

static void *run(void *arg) {
    struct actor *actor = arg;
    stops = &actor->stops;
    actor->act(actor);
    stops = NULL;
    return NULL;
}

static void begin(struct actor *actor) {
    sem_init(&actor->stops.may_go_on, 0, 0);
    ck_assert_int_eq(pthread_create(&actor->thread, NULL, run, actor), 0);
    sem_wait(&is_stopped);
}

static void go_on(struct actor *actor) {
    sem_post(&actor->stops.may_go_on);
    sem_wait(&is_stopped);
}

static void end(struct actor *actor) {
    sem_post(&actor->stops.may_go_on);
    pthread_join(actor->thread, NULL);
}

static void setup(void) {
    table_open(&table, 32 << 20, PLN_L1_LRU);
    sem_init(&is_stopped, 0, 0);
}

static void teardown(void) {
    table_close(&table);
}

/* Keys of one bucket and one home in it. */
static struct pln_hashed crowded(unsigned number, char bytes[16]) {
    int len = snprintf(bytes, 16, "*%u", number);
    struct pln_bytes key = pln_bytes_of(bytes, (size_t) len);
    return (struct pln_hashed){key, table_hash(key, 0)};
}

static int put(unsigned number, const char *value) {
    char bytes[16];
    struct pln_hashed key = crowded(number, bytes);
    struct pln_l1_item item = item_of(pln_key(value), 0, PLN_FOREVER);
    item.generation = pln_l1_generation(table.l1);
    return pln_l1_put(table.l1, &key, &item, 0, NULL, NULL);
}

static int get(unsigned number, char seen[256]) {
    char bytes[16];
    struct pln_l1_hit hit;
    struct pln_hashed key = crowded(number, bytes);
    int status = pln_l1_get(table.l1, &key, 0, 0, seen, 255, &hit);
    seen[status == PLN_OK ? hit.len : 0] = 0;
    return status;
}

static int remove_one(unsigned number) {
    char bytes[16];
    struct pln_hashed key = crowded(number, bytes);
    return pln_l1_remove(table.l1, &key);
}

static void put_all(unsigned first, unsigned last) {
    for (unsigned i = first; i <= last; i++) {
        ck_assert_int_eq(put(i, "value"), PLN_OK);
    }
}

static void act_get(struct actor *actor) {
    actor->status = get(9, actor->seen);
}

static void act_put(struct actor *actor) {
    actor->status = put(9, "newest");
}

static void act_remove(struct actor *actor) {
    actor->status = remove_one(9);
}

static bool count(void *arg, struct pln_bytes key, const struct pln_l1_hit *hit) {
    (void) key;
    (void) hit;
    ++*(unsigned *) arg;
    return true;
}

static void act_each(struct actor *actor) {
    actor->status = pln_l1_each(table.l1, 0, pln_key("*"), count, &actor->n);
}

/* Publishes a larger table and moves all into it, as far as a stopped thread lets it go. */
static void move_all(void) {
    ck_assert_int_eq(pln_l1_resize(table.l1, 128 << 20), PLN_OK);
    for (int i = 0; i < 100; i++) {
        pln_l1_sweep(table.l1, 0, 1);
    }
}

/* Key 8 is stored anew into the slot that the iteration has passed, and gone from the one it comes
 * to; in its second look too. */
START_TEST(an_iteration_sees_a_key_that_jumps_over_it) {
    struct actor actor = {.act = act_each, .stops = {"slot", {4, 16, 20}, 3}};
    put_all(1, 8);
    remove_one(1);
    begin(&actor);
    put(8, "into slot 0");
    go_on(&actor);
    put(8, "into slot 7");
    go_on(&actor);
    put(8, "into slot 0");
    end(&actor);
    ck_assert_uint_eq(actor.n, 7);
}
END_TEST

START_TEST(an_iteration_sees_what_a_new_table_took_over) {
    struct actor actor = {.act = act_each, .stops = {"slot", {0}, 1}};
    put_all(1, 8);
    begin(&actor);
    move_all();
    end(&actor);
    ck_assert_uint_eq(actor.n, 8);
}
END_TEST

/* Having found key 8 the iteration looks it up, as a reader does: three times in vain, since each
 * time it is stored into another slot before that is read. */
START_TEST(an_iteration_looks_up_what_jumps_until_it_has_it) {
    struct actor actor = {.act = act_each, .stops = {"match", {6, 7, 8}, 3}};
    put_all(1, 8);
    remove_one(1);
    begin(&actor);
    put(8, "into slot 0");
    go_on(&actor);
    put(8, "into slot 7");
    go_on(&actor);
    put(8, "into slot 0");
    end(&actor);
    ck_assert_uint_eq(actor.n, 7);
}
END_TEST

START_TEST(a_remove_finds_what_a_new_table_took_over) {
    struct actor actor = {.act = act_remove, .stops = {"viewed", {0}, 1}};
    char seen[256];
    put(9, "value");
    begin(&actor);
    move_all();
    end(&actor);
    ck_assert_int_eq(actor.status, PLN_OK);
    ck_assert_int_eq(get(9, seen), PLN_MISS);
}
END_TEST

/* The remover has seen that slot 0 has the key's tag. Before it looks at the entry, that one is
 * gone, an entry stands in slot 1, and a newer one in slot 0, whose put has not yet ended the
 * other: to end just the newer one would bring the older one back. */
static void act_sweep(struct actor *actor) {
    for (int i = 0; i < 40 && actor->stops.n_passed == 0; i++) {
        pln_l1_sweep(table.l1, 0, 1);
    }
}

/* A key of the last bucket, which is moved last. */
static unsigned last_key(void) {
    char bytes[16];
    unsigned number = 0;
    while ((key_of(number, bytes).hash & UINT32_MAX) < UINT32_MAX / 1000 * 999) {
        number++;
    }
    return number;
}

static void sweep_to_the_end(void) {
    for (int i = 0; i < 400 && pln_l1_is_replacing(table.l1); i++) {
        pln_l1_sweep(table.l1, 0, 1);
    }
    for (int i = 0; i < 4; i++) {
        pln_l1_sweep(table.l1, 0, 1);
    }
}

/* A mover has seen an entry where it was. Meanwhile another has moved it, and it may even have been
 * removed: it is not moved, nor retired, once more. */
START_TEST(an_entry_is_moved_once) {
    struct actor mover = {.act = act_sweep, .stops = {"unmarked", {0}, 1}};
    struct pln_l1_usage usage;
    unsigned number = last_key();
    char seen[256];
    put_text(&table, number, "value", 0);
    ck_assert_int_eq(pln_l1_resize(table.l1, 128 << 20), PLN_OK);
    for (int i = 0; i < 6; i++) {
        pln_l1_sweep(table.l1, 0, 1); /* until all see both tables */
    }
    ck_assert_uint_eq(pln_l1_stage(atomic_load(&table.l1->stage)), STAGE_MOVING);
    begin(&mover);
    for (int i = 0; i < 40; i++) {
        pln_l1_sweep(table.l1, 0, 1);
    }
    if (_i == 1) {
        remove_key(&table, number);
    }
    end(&mover);
    ck_assert_int_eq(get_text(&table, number, 0, seen) == NULL, _i == 1);
    remove_key(&table, number);
    sweep_to_the_end();
    pln_l1_usage(table.l1, &usage);
    ck_assert_uint_eq(usage.entries, 0);
    ck_assert_uint_eq(usage.waiting_bytes, 0);
}
END_TEST

START_TEST(a_remove_ends_no_entry_before_an_older_one) {
    struct actor remover = {.act = act_remove, .stops = {"match", {0}, 1}};
    struct actor writer = {.act = act_put, .stops = {"visible", {0}, 1}};
    char seen[256];
    put(9, "in slot 0");
    begin(&remover);
    put(9, "in slot 1");
    begin(&writer);
    ck_assert_int_eq(get(9, seen), PLN_OK);
    ck_assert_str_eq(seen, "newest");
    end(&remover);
    ck_assert_int_eq(get(9, seen), PLN_MISS);
    end(&writer);
    ck_assert_int_eq(get(9, seen), PLN_MISS);
}
END_TEST

START_TEST(a_get_finds_what_a_new_table_took_over) {
    struct actor actor = {.act = act_get, .stops = {"viewed", {0}, 1}};
    put_all(1, 9); /* 9 is away from home, where looking takes longer */
    begin(&actor);
    move_all();
    end(&actor);
    ck_assert_int_eq(actor.status, PLN_OK);
    ck_assert_str_eq(actor.seen, "value");
}
END_TEST

/* The reader has looked at home. Then the key is stored there, and, while home is full, once more
 * away from it, by a put that has not yet ended the one at home: that one is still the value. */
START_TEST(a_get_does_not_return_what_is_shadowed_from_home) {
    struct actor reader = {.act = act_get, .stops = {"place", {1}, 1}};
    struct actor writer = {.act = act_put, .stops = {"visible", {0}, 1}};
    char seen[256];
    put_all(1, 8);
    put(9, "oldest");
    begin(&reader);
    remove_one(1);
    put(9, "at home");
    begin(&writer);
    ck_assert_int_eq(get(9, seen), PLN_OK);
    ck_assert_str_eq(seen, "at home");
    end(&reader);
    ck_assert_int_eq(reader.status, PLN_OK);
    ck_assert_str_eq(reader.seen, "at home");
    end(&writer);
    ck_assert_int_eq(get(9, seen), PLN_OK);
    ck_assert_str_eq(seen, "newest");
}
END_TEST

/* What was retired meanwhile has an address in the place of its times. */
START_TEST(a_get_does_not_return_the_times_of_what_was_retired) {
    struct actor actor = {.act = act_get, .stops = {"found", {0}, 1}};
    put(9, "value");
    put(10, "value");
    begin(&actor);
    put(9, "another");
    remove_one(10);
    end(&actor);
    ck_assert_int_eq(actor.status, PLN_OK);
    ck_assert_str_eq(actor.seen, "another");
}
END_TEST

/* Entries know the low half of their generation: one that was stamped long ago, and shows after all
 * was swept, would be taken for one of now. */
START_TEST(a_put_of_a_generation_long_gone_does_not_show) {
    char bytes[16], seen[256];
    struct pln_hashed key = crowded(9, bytes);
    struct pln_l1_item item = item_of(pln_key("value"), 0, PLN_FOREVER);
    item.generation = pln_l1_generation(table.l1);
    for (int i = 0; i < 4; i++) {
        pln_l1_set_generation(table.l1, pln_l1_generation(table.l1) + 16384);
    }
    ck_assert_int_eq(pln_l1_put(table.l1, &key, &item, 0, NULL, NULL), PLN_NOT_STORED);
    ck_assert_int_eq(get(9, seen), PLN_MISS);
}
END_TEST

int main(void) {
    Suite *suite = suite_create("looks");
    TCase *tests = tcase_create("looks");
    suite_add_tcase(suite, tests);
    tcase_set_timeout(tests, 30);
    tcase_add_checked_fixture(tests, setup, teardown);
    tcase_add_test(tests, an_iteration_sees_a_key_that_jumps_over_it);
    tcase_add_test(tests, an_iteration_sees_what_a_new_table_took_over);
    tcase_add_test(tests, an_iteration_looks_up_what_jumps_until_it_has_it);
    tcase_add_test(tests, a_remove_finds_what_a_new_table_took_over);
    tcase_add_loop_test(tests, an_entry_is_moved_once, 0, 2);
    tcase_add_test(tests, a_remove_ends_no_entry_before_an_older_one);
    tcase_add_test(tests, a_get_finds_what_a_new_table_took_over);
    tcase_add_test(tests, a_get_does_not_return_what_is_shadowed_from_home);
    tcase_add_test(tests, a_get_does_not_return_the_times_of_what_was_retired);
    tcase_add_test(tests, a_put_of_a_generation_long_gone_does_not_show);
    SRunner *runner = srunner_create(suite);
    srunner_run_all(runner, CK_ENV);
    int failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed == 0 ? 0 : 1;
}
