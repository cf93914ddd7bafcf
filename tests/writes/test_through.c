/* SPDX-License-Identifier: MIT
 * test_through.c - writes through and around two instances into a real database, over a real Redis:
 * what goes wrong in between leaves all of them in agreement. */
#include "../../core/perilune.h"
#include "../l2/server.h"
#include "database.h"

#include <check.h>
#include <pthread.h>
#include <semaphore.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

enum { SKIPPED = 77, ROUNDS = 150, KEYS = 3, WRITES = 4, WAIT_MS = 10000 };

/* One of the two; its writer has a connection of its own, and its loader another. */
struct instance {
    struct pln_cache *cache;
    struct database *writing, *reading;
    uint64_t dice;
    bool fails, kills;     /* the next store: says that it failed; kills Redis when it is done */
    bool stops;            /* where the next store waits, */
    bool stops_after;      /* before or after its commit, */
    sem_t arrived, may_go; /* says so, and is let go on */
};

static struct server server;
static struct instance a, b;
static char where[128];
static _Atomic uint64_t version;

static void nap_us(long us) {
    struct timespec time = {us / 1000000, us % 1000000 * 1000};
    nanosleep(&time, NULL);
}

static void no_log(void *arg, int level, const char *line) {
    (void) arg, (void) level, (void) line;
}

/* ---- the database ---- */

static void text_of(struct pln_bytes bytes, char text[DATABASE_TEXT]) {
    snprintf(text, DATABASE_TEXT, "%.*s", (int) bytes.len, (const char *) bytes.data);
}

static void wait_here(struct instance *instance, bool is_after) {
    if (instance->stops && instance->stops_after == is_after) {
        instance->stops = false;
        sem_post(&instance->arrived);
        sem_wait(&instance->may_go);
    }
}

static void wait_a_little(struct instance *instance) {
    instance->dice = instance->dice * 6364136223846793005 + 1442695040888963407;
    nap_us((long) (instance->dice >> 33) % 500);
}

/* Several writers may be at it: whoever finds the database busy tries again. */
static bool put(struct instance *instance, const struct pln_store_item *item) {
    char key[DATABASE_TEXT], value[DATABASE_TEXT];
    text_of(item->key, key);
    text_of(item->value, value);
    for (int i = 0; i < 50; i++) {
        if (database_write(instance->writing, DATABASE_FORCE, key,
                           item->op == PLN_STORE_DELETE ? NULL : value,
                           atomic_fetch_add(&version, 1))) {
            return true;
        }
    }
    return false;
}

static int store(void *arg, struct pln_store_item *items, size_t n) {
    struct instance *instance = arg;
    wait_here(instance, false);
    wait_a_little(instance);
    for (size_t i = 0; i < n; i++) {
        if (instance->fails) {
            pln_store_fail(&items[i], PLN_ESTORE, "the disk is full");
        } else {
            ck_assert_msg(put(instance, &items[i]), "%s", database_error(instance->writing));
        }
    }
    instance->fails = false;
    wait_a_little(instance);
    wait_here(instance, true);
    if (instance->kills) {
        instance->kills = false;
        pln_test_redis_kill(&server);
    }
    return PLN_OK;
}

static int load(void *arg, struct pln_bytes key, struct pln_load *loaded) {
    struct instance *instance = arg;
    char name[DATABASE_TEXT], value[DATABASE_TEXT];
    text_of(key, name);
    int found = database_read(instance->reading, name, value);
    if (found < 0) {
        return pln_load_error(loaded, database_error(instance->reading));
    }
    return found == 0 ? PLN_ABSENT : pln_load_value(loaded, pln_key(value), 0);
}

/* ---- two instances ---- */

/* What L1 had before the link was live is dropped then. */
static void await_link(struct pln_cache *cache) {
    struct pln_stat stats[256];
    for (int i = 0; i < WAIT_MS; i++) {
        size_t n = pln_stats(cache, stats, 256);
        for (size_t j = 0; j < n && j < 256; j++) {
            if (strcmp(stats[j].name, "generation") == 0 && stats[j].value >= 2) {
                return;
            }
        }
        nap_us(1000);
    }
    ck_abort_msg("the link does not come up");
}

static void open_instance(struct instance *instance, int strategy) {
    struct pln_write_options writing = {
        .strategy = (uint8_t) strategy, .store = store, .arg = instance};
    struct pln_options options = {.redis = server.url,
                                  .ns = "t",
                                  .timeout_ms = 1000,
                                  .ping_ms = 100,
                                  .ttl_ms = 600000,
                                  .negative_ms = 600000,
                                  .lease_ms = 500,
                                  .writing = &writing,
                                  .log = no_log};
    memset(instance, 0, sizeof *instance);
    instance->dice = (uint64_t) strategy;
    sem_init(&instance->arrived, 0, 0);
    sem_init(&instance->may_go, 0, 0);
    instance->writing = database_open(where, false);
    instance->reading = database_open(where, false);
    ck_assert(instance->writing != NULL && instance->reading != NULL);
    ck_assert_msg(pln_open(&options, &instance->cache) == PLN_OK, "%s", pln_error_text());
    await_link(instance->cache);
}

static void close_instance(struct instance *instance) {
    pln_close(instance->cache);
    database_close(instance->writing);
    database_close(instance->reading);
    sem_destroy(&instance->arrived);
    sem_destroy(&instance->may_go);
}

static const int strategies[] = {PLN_WRITE_THROUGH, PLN_WRITE_AROUND};

static void set_up(int which) {
    static const char *const options[] = {"--appendonly", "yes", "--appendfsync", "always", NULL};
    pln_test_redis_start(&server, options);
    snprintf(where, sizeof where, "sqlite:%s/db", server.folder);
    struct database *database = database_open(where, false);
    ck_assert(database != NULL && database_make(database));
    database_close(database);
    open_instance(&a, strategies[which]);
    open_instance(&b, strategies[which]);
}

static void tear_down(void) {
    close_instance(&a);
    close_instance(&b);
    pln_test_redis_stop(&server);
}

/* What an instance reads, by its loader where no tier has it; "" is nothing. */
static int read_value(struct instance *instance, const char *key, char value[DATABASE_TEXT]) {
    struct pln_result result = {.value = NULL};
    int status = pln_get_or_load(instance->cache, pln_key(key), NULL, load, instance, &result);
    value[0] = 0;
    if (status == PLN_OK) {
        text_of((struct pln_bytes){pln_value_data(result.value), result.len}, value);
    }
    if (status >= 0) {
        pln_release(instance->cache, result.value);
    }
    return status;
}

static bool reads(struct instance *instance, const char *key, const char *wanted) {
    char value[DATABASE_TEXT];
    return read_value(instance, key, value) >= 0 && strcmp(value, wanted) == 0;
}

/* Messages are under way for a moment. */
static void await(struct instance *instance, const char *key, const char *wanted) {
    char value[DATABASE_TEXT];
    for (int i = 0; i < WAIT_MS && !reads(instance, key, wanted); i++) {
        nap_us(1000);
    }
    int status = read_value(instance, key, value);
    ck_assert_msg(status >= 0 && strcmp(value, wanted) == 0,
                  "%s: the database has '%s', instance %s reads '%s' (status %d)", key, wanted,
                  instance == &a ? "a" : "b", value, status);
}

/* Both read what the database has. */
static void await_agreement(const char *key) {
    char value[DATABASE_TEXT];
    ck_assert_int_ge(database_read(a.reading, key, value), 0);
    await(&a, key, value);
    await(&b, key, value);
    ck_assert(reads(&a, key, value)); /* and nothing old is heard late */
}

static void expect_stored(const char *key, const char *wanted) {
    char value[DATABASE_TEXT];
    ck_assert_int_ge(database_read(a.reading, key, value), 0);
    ck_assert_str_eq(value, wanted);
}

static int set(struct instance *instance, const char *key, const char *value) {
    return pln_set(instance->cache, pln_key(key), pln_key(value), NULL);
}

/* ---- failures ---- */

START_TEST(a_store_that_fails_leaves_all_as_it_was) {
    set_up(_i);
    ck_assert_int_eq(set(&a, "k", "old"), PLN_OK);
    await(&a, "k", "old");
    await(&b, "k", "old");
    a.fails = true;
    ck_assert_int_eq(set(&a, "k", "new"), PLN_ESTORE);
    ck_assert_msg(strstr(pln_error_text(), "the disk is full") != NULL, "%s", pln_error_text());
    struct pln_result result;
    ck_assert_int_eq(pln_peek(a.cache, pln_key("k"), &result), PLN_OK); /* not even forgotten */
    pln_release(a.cache, result.value);
    a.fails = true;
    ck_assert_int_eq(pln_delete(a.cache, pln_key("k")), PLN_ESTORE);
    expect_stored("k", "old");
    ck_assert(reads(&a, "k", "old"));
    ck_assert(reads(&b, "k", "old"));
}
END_TEST

/* _i / 2: a set or a delete */
START_TEST(what_is_stored_while_Redis_dies_is_seen_everywhere_later) {
    set_up(_i % 2);
    ck_assert_int_eq(set(&a, "k", "old"), PLN_OK);
    await(&a, "k", "old");
    await(&b, "k", "old");
    a.kills = true;
    int status = _i / 2 == 0 ? set(&a, "k", "new") : pln_delete(a.cache, pln_key("k"));
    ck_assert_msg(status == PLN_OK, "%d: %s", status, pln_error_text());
    expect_stored("k", _i / 2 == 0 ? "new" : "");
    nap_us(20000);
    pln_test_redis_restart(&server); /* with "old" in its file */
    await_agreement("k");
}
END_TEST

/* ---- two writers ---- */

struct writer {
    pthread_t thread;
    struct instance *instance;
    const char *value; /* NULL: a delete */
    int status;
};

static void *write_once(void *arg) {
    struct writer *writer = arg;
    writer->status = writer->value != NULL ? set(writer->instance, "k", writer->value)
                                           : pln_delete(writer->instance->cache, pln_key("k"));
    return NULL;
}

/* _i / 2: bit 0: the first one has committed when the second begins; bit 1: which deletes */
START_TEST(of_two_writers_the_cache_has_whom_the_database_has) {
    bool is_after = _i / 2 % 2 == 1;
    struct writer writer = {.instance = &a, .value = _i / 4 == 1 ? NULL : "of a"};
    set_up(_i % 2);
    ck_assert_int_eq(set(&a, "k", "old"), PLN_OK);
    await(&b, "k", "old");
    a.stops_after = is_after;
    a.stops = true;
    ck_assert_int_eq(pthread_create(&writer.thread, NULL, write_once, &writer), 0);
    sem_wait(&a.arrived);
    if (_i / 4 == 2) {
        ck_assert_int_eq(pln_delete(b.cache, pln_key("k")), PLN_OK);
    } else {
        ck_assert_int_eq(set(&b, "k", "of b"), PLN_OK);
    }
    read_value(&b, "k", (char[DATABASE_TEXT]){0}); /* what it reads now may not stay */
    sem_post(&a.may_go);
    pthread_join(writer.thread, NULL);
    ck_assert_int_eq(writer.status, PLN_OK);
    expect_stored("k", is_after ? (_i / 4 == 2 ? "" : "of b") : (_i / 4 == 1 ? "" : "of a"));
    await_agreement("k");
}
END_TEST

/* ---- many ---- */

static void *write_many(void *arg) {
    struct writer *writer = arg;
    struct instance *instance = writer->instance;
    for (int i = 0; i < WRITES; i++) {
        char key[16], value[DATABASE_TEXT];
        wait_a_little(instance);
        snprintf(key, sizeof key, "key %d", (int) (instance->dice >> 40) % KEYS);
        snprintf(value, sizeof value, "%d of %s", (int) (instance->dice >> 35) % 1000,
                 instance == &a ? "a" : "b");
        int status = (instance->dice >> 50) % 5 == 0 ? pln_delete(instance->cache, pln_key(key))
                                                     : set(instance, key, value);
        if (status != PLN_OK) {
            writer->status = status;
        }
        read_value(instance, key, value);
    }
    return NULL;
}

START_TEST(after_many_writes_at_once_all_agree) {
    set_up(_i);
    for (int round = 0; round < ROUNDS; round++) {
        struct writer writers[2] = {{.instance = &a}, {.instance = &b}};
        for (int i = 0; i < 2; i++) {
            pthread_create(&writers[i].thread, NULL, write_many, &writers[i]);
        }
        for (int i = 0; i < 2; i++) {
            pthread_join(writers[i].thread, NULL);
            ck_assert_int_eq(writers[i].status, PLN_OK);
        }
        for (int i = 0; i < KEYS; i++) {
            char key[16];
            snprintf(key, sizeof key, "key %d", i);
            await_agreement(key);
        }
    }
}
END_TEST

int main(void) {
    const char *lack = database_lacks("sqlite");
    if (lack != NULL) {
        printf("1..0 # SKIP no SQLite: %s\n", lack);
        return 0;
    }
    Suite *suite = suite_create("through");
    TCase *tests = tcase_create("through");
    suite_add_tcase(suite, tests);
    tcase_add_checked_fixture(tests, NULL, tear_down);
    tcase_set_timeout(tests, 120);
    tcase_add_loop_test(tests, a_store_that_fails_leaves_all_as_it_was, 0, 2);
    tcase_add_loop_test(tests, what_is_stored_while_Redis_dies_is_seen_everywhere_later, 0, 4);
    tcase_add_loop_test(tests, of_two_writers_the_cache_has_whom_the_database_has, 0, 12);
    tcase_add_loop_test(tests, after_many_writes_at_once_all_agree, 0, 2);
    SRunner *runner = srunner_create(suite);
    srunner_run_all(runner, CK_ENV);
    int n_failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return n_failed == 0 ? 0 : 1;
}
