/* SPDX-License-Identifier: MIT
 * test_overlap.c - writes through of one key at once, and a load beside them, in every order of
 * their steps: whoever reads afterwards reads what the store has, on both instances. Messages are
 * heard at once, or only when all is over: then L2 alone can tell that others wrote. */
#include "rig.h"

#include <stdio.h>

enum { MOST = 3, STEPS = 3 };

enum kind { SET, DELETE, LOAD };

/* A thread that waits at each of its gates to be let on. */
struct actor {
    enum kind kind;
    struct pln_cache *cache;
    const char *value;
    pthread_t thread;
    bool has_begun, is_let_on, is_waiting, is_done;
};

static struct rig rig;
static struct actor actors[MOST];
static size_t n_actors;
static _Thread_local struct actor *self;
static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER; /* over the actors and the store: */
static pthread_cond_t changed = PTHREAD_COND_INITIALIZER;
static char stored[16]; /* "": nothing */
static char key[24];
static unsigned long n_runs, n_loads;

#define A rig.caches[0]
#define B rig.caches[1]

/* ---- gates ---- */

static void wait_at_gate(void) {
    pthread_mutex_lock(&lock);
    self->is_waiting = true;
    pthread_cond_broadcast(&changed);
    while (!self->is_let_on) {
        pthread_cond_wait(&changed, &lock);
    }
    self->is_waiting = self->is_let_on = false;
    pthread_mutex_unlock(&lock);
}

/* ---- the store: begun, has it, returns ---- */

static int store(void *arg, struct pln_store_item *items, size_t n) {
    (void) arg;
    ck_assert_uint_eq(n, 1);
    wait_at_gate();
    pthread_mutex_lock(&lock);
    snprintf(stored, sizeof stored, "%.*s", (int) items->value.len,
             items->value.len > 0 ? (const char *) items->value.data : "");
    pthread_mutex_unlock(&lock);
    wait_at_gate();
    return PLN_OK;
}

/* The load of an actor: has read, returns. Of a reader afterwards: at once. */
static int load(void *arg, struct pln_bytes bytes, struct pln_load *load) {
    char value[16];
    (void) arg;
    (void) bytes;
    pthread_mutex_lock(&lock);
    memcpy(value, stored, sizeof value);
    n_loads++;
    pthread_mutex_unlock(&lock);
    if (self != NULL) {
        wait_at_gate();
    }
    return value[0] == 0 ? PLN_ABSENT : pln_load_value(load, pln_key(value), 0);
}

/* ---- actors ---- */

static void *act(void *arg) {
    struct pln_result result = {.value = NULL};
    self = arg;
    int status = self->kind == SET ? pln_set(self->cache, pln_key(key), pln_key(self->value), NULL)
                 : self->kind == DELETE
                     ? pln_delete(self->cache, pln_key(key))
                     : pln_get_or_load(self->cache, pln_key(key), NULL, load, NULL, &result);
    pln_release(self->cache, result.value);
    ck_assert_msg(status >= 0, "%s", pln_error_text());
    pthread_mutex_lock(&lock);
    self->is_done = true;
    pthread_cond_broadcast(&changed);
    pthread_mutex_unlock(&lock);
    return NULL;
}

static void step(struct actor *actor) {
    pthread_mutex_lock(&lock);
    if (!actor->has_begun) {
        actor->has_begun = true;
        ck_assert_int_eq(pthread_create(&actor->thread, NULL, act, actor), 0);
    } else {
        actor->is_let_on = true;
        pthread_cond_broadcast(&changed);
    }
    while (!actor->is_done && (!actor->is_waiting || actor->is_let_on)) {
        pthread_cond_wait(&changed, &lock);
    }
    pthread_mutex_unlock(&lock);
}

/* ---- one order ---- */

static void read_all(const size_t *order, size_t n) {
    for (int i = 0; i < 4; i++) {
        struct pln_cache *cache = rig.caches[i % 2] != NULL ? rig.caches[i % 2] : A;
        struct pln_result result;
        char text[32] = "";
        int status = pln_get_or_load(cache, pln_key(key), NULL, load, NULL, &result);
        struct pln_bytes value = pln_bytes_of(pln_value_data(result.value), result.len);
        for (size_t k = 0; k < n; k++) {
            text[k] = (char) ('1' + order[k]);
        }
        ck_assert_msg(stored[0] == 0 ? status == PLN_ABSENT
                                     : status == PLN_OK && pln_bytes_equal(value, pln_key(stored)),
                      "order %s: the store has '%s', and cache %d '%.*s' (%s)", text, stored, i % 2,
                      (int) value.len, (const char *) value.data, pln_source_name(result.source));
        pln_release(cache, result.value);
    }
}

static bool are_apart(const size_t *order, size_t n) {
    size_t n_changes = 0;
    for (size_t i = 1; i < n; i++) {
        n_changes += order[i] != order[i - 1];
    }
    return n_changes + 1 == n_actors;
}

/* Whether messages wait until all is over. */
static void hold(bool is_held) {
    for (int i = 0; i < 2 && rig.server != NULL; i++) {
        pln_l2_mem_hold(rig.caches[i]->l2, is_held);
    }
}

static void play(const size_t *order, size_t n, bool is_held) {
    bool has_load = false;
    snprintf(key, sizeof key, "key:%lu", n_runs++);
    strcpy(stored, "first");
    for (size_t i = 0; i < n_actors; i++) {
        struct actor *actor = &actors[i];
        has_load = has_load || actor->kind == LOAD;
        *actor = (struct actor){.kind = actor->kind, .cache = actor->cache, .value = actor->value};
    }
    if (!has_load) { /* all have an old value */
        read_all(order, n);
    }
    hold(is_held);
    for (size_t i = 0; i < n; i++) {
        step(&actors[order[i]]);
    }
    for (size_t i = 0; i < n_actors; i++) {
        ck_assert(actors[i].is_done);
        pthread_join(actors[i].thread, NULL);
    }
    hold(false);
    n_loads = 0;
    read_all(order, n);
    /* else nobody would see that nothing is ever kept */
    ck_assert(!are_apart(order, n) || has_load || stored[0] == 0 || n_loads == 0);
}

static size_t n_steps(const struct actor *actor) {
    return actor->kind == LOAD ? STEPS - 1 : STEPS;
}

static void play_from(size_t *order, size_t n, size_t *left) {
    bool is_over = true;
    for (size_t i = 0; i < n_actors; i++) {
        if (left[i] > 0) {
            is_over = false;
            left[i]--;
            order[n] = i;
            play_from(order, n + 1, left);
            left[i]++;
        }
    }
    if (is_over) {
        play(order, n, false);
        play(order, n, true);
    }
}

/* In every order of their steps, with messages that are heard at once, and with such as are heard
 * when all is over. */
static void play_all(void) {
    size_t order[MOST * STEPS], left[MOST];
    for (size_t i = 0; i < n_actors; i++) {
        left[i] = n_steps(&actors[i]);
    }
    play_from(order, 0, left);
}

static void add(enum kind kind, struct pln_cache *cache) {
    static const char *const values[MOST] = {"one", "two", "three"};
    actors[n_actors] = (struct actor){
        .kind = kind, .cache = cache != NULL ? cache : A, .value = values[n_actors]};
    n_actors++;
}

/* ---- the tests; _i: 0: two instances, 1: one, without L2 ---- */

static void open_caches(int i, uint8_t strategy) {
    struct pln_options options = {.ttl_ms = 600000, .lease_ms = 100000};
    rig_open(&rig, i == 0 ? 2 : 1, i == 0, &options);
    n_actors = 0;
    for (int k = 0; k < 2 && rig.caches[k] != NULL; k++) {
        struct pln_terms terms = *pln_cache_terms(rig.caches[k]);
        terms.write = strategy;
        ck_assert_int_eq(pln_register_store(rig.caches[k], "base", store, NULL), PLN_OK);
        struct pln_rule rule = rig_rule("*", &terms, 0);
        rule.store = strdup("base");
        rig_policy(&rig, rig.caches[k], rule);
    }
}

static void teardown(void) {
    rig_close(&rig);
}

START_TEST(two_writes_at_once) {
    static const enum kind kinds[][2] = {{SET, SET}, {SET, DELETE}, {DELETE, SET}};
    open_caches(_i, PLN_WRITE_THROUGH);
    for (size_t i = 0; i < PLN_ARRAY_LEN(kinds); i++) {
        for (int k = 0; k < 2; k++) {
            n_actors = 0;
            add(kinds[i][0], A);
            add(kinds[i][1], k == 0 ? A : B);
            play_all();
        }
    }
    ck_assert_uint_eq(n_runs, 3 * 2 * 20 * 2);
}
END_TEST

START_TEST(three_writes_at_once) {
    open_caches(_i, PLN_WRITE_THROUGH);
    add(SET, A);
    add(SET, B);
    add(SET, A);
    play_all();
    ck_assert_uint_eq(n_runs, 1680 * 2);
}
END_TEST

/* _i / 2: the load is on A, or on B */
START_TEST(two_writes_and_a_load) {
    open_caches(_i % 2, PLN_WRITE_THROUGH);
    add(SET, A);
    add(SET, B);
    add(LOAD, _i / 2 == 0 ? A : B);
    play_all();
    ck_assert_uint_eq(n_runs, 560 * 2);
}
END_TEST

START_TEST(a_write_around_a_write_and_a_load) {
    open_caches(_i, PLN_WRITE_AROUND);
    add(SET, A);
    add(DELETE, B);
    add(LOAD, B);
    play_all();
}
END_TEST

int main(void) {
    Suite *suite = suite_create("overlap");
    TCase *tcase = tcase_create("overlap");
    tcase_set_timeout(tcase, 60);
    tcase_add_checked_fixture(tcase, NULL, teardown);
    tcase_add_loop_test(tcase, two_writes_at_once, 0, 2);
    tcase_add_loop_test(tcase, three_writes_at_once, 0, 2);
    tcase_add_loop_test(tcase, two_writes_and_a_load, 0, 4);
    tcase_add_loop_test(tcase, a_write_around_a_write_and_a_load, 0, 2);
    suite_add_tcase(suite, tcase);
    return rig_run(suite);
}
