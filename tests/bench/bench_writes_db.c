/* SPDX-License-Identifier: MIT
 *
 * bench_writes_db.c - writing into SQLite and PostgreSQL by each strategy. Both wait for the disk
 * when they commit; a write is one transaction of one statement.
 *
 * `writes.through` is the time of pln_set() with write-through; `writes.sum` that of the same
 * store alone, and then one SET of the same key and value by hiredis: in turn, round by round.
 * `writes.through.window` is the time from the end of the store's commit until the last of three
 * other instances in this process has heard, when all that can be read is the new value.
 *
 * Those of PostgreSQL have its name at their end.
 *
 * The table: `writes.DB.STRATEGY.write`, and `.read`: the first read of that key afterwards, by the
 * instance that wrote; a loader fetches it from the database where no tier has it. `aside` is a
 * program that writes its database and then deletes the key.
 */
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "bench_writes.h"
#include "../writes/database.h"
#ifdef TEST_HAVE_POSTGRES
#include "../writes/postgres.h"
#endif

enum { OPS = 300, LISTENERS = 3 };

struct bed {
    struct server server;
    char where[160];
    struct database *database; /* of the caller's thread */
    struct database *behind;   /* of the one that stores behind */
    redisContext *context;
    const char *kind;
    pln_ns committed;
};

/* A line's name for this database; whether it is wanted. */
static bool wants(const struct bed *bed, char name[64], const char *format) {
    const char *suffix = strcmp(bed->kind, "sqlite") == 0 ? "" : ".postgres";
    snprintf(name, 64, format, suffix);
    return bench_is_wanted(name);
}

static double us_since(pln_ns begun) {
    return (double) (pln_clock_precise() - begun) / 1000;
}

static void store_bare(struct database *database, const char *key, const char *value) {
    writes_need(database_begin(database) &&
                    database_write(database, DATABASE_FORCE, key, value, 1) &&
                    database_commit(database),
                database_error(database));
}

static void store_items(struct database *database, const struct pln_store_item *items, size_t n) {
    writes_need(database_begin(database), database_error(database));
    for (size_t i = 0; i < n; i++) {
        char key[WRITES_KEY], value[DATABASE_TEXT];
        snprintf(key, sizeof key, "%.*s", (int) items[i].key.len, (const char *) items[i].key.data);
        snprintf(value, sizeof value, "%.*s", (int) items[i].value.len,
                 (const char *) items[i].value.data);
        writes_need(database_write(database, DATABASE_FORCE, key, value, 1),
                    database_error(database));
    }
    writes_need(database_commit(database), database_error(database));
}

static int store_now(void *arg, struct pln_store_item *items, size_t n) {
    struct bed *bed = arg;
    store_items(bed->database, items, n);
    bed->committed = pln_clock_precise();
    return PLN_OK;
}

static int store_later(void *arg, struct pln_store_item *items, size_t n) {
    const struct bed *bed = arg;
    store_items(bed->behind, items, n);
    return PLN_OK;
}

static int load(void *arg, struct pln_bytes key, struct pln_load *loaded) {
    const struct bed *bed = arg;
    char name[WRITES_KEY], value[DATABASE_TEXT];
    snprintf(name, sizeof name, "%.*s", (int) key.len, (const char *) key.data);
    writes_need(database_read(bed->database, name, value) == 1, "the loader");
    return pln_load_value(loaded, pln_key(value), 0);
}

static void make_value(char value[BENCH_VALUE_BYTES + 1], uint32_t number) {
    snprintf(value, BENCH_VALUE_BYTES + 1, "%0*u", BENCH_VALUE_BYTES, number);
}

/* ---- through, beside its two parts ---- */

static double write_through(struct bed *bed, struct pln_cache *cache, uint32_t i) {
    char key[WRITES_KEY], value[BENCH_VALUE_BYTES + 1];
    writes_key(i, key);
    make_value(value, i);
    pln_ns begun = pln_clock_precise();
    writes_need(pln_set(cache, pln_key(key), pln_key(value), NULL) == PLN_OK, "set");
    (void) bed;
    return us_since(begun);
}

static double write_parts(struct bed *bed, struct pln_cache *cache, uint32_t i) {
    char key[WRITES_KEY], value[BENCH_VALUE_BYTES + 1];
    writes_key(i, key);
    make_value(value, i);
    (void) cache;
    pln_ns begun = pln_clock_precise();
    store_bare(bed->database, key, value);
    redisReply *reply = redisCommand(bed->context, "SET bare:%s %s", key, value);
    writes_need(reply != NULL && reply->type == REDIS_REPLY_STATUS, "SET");
    freeReplyObject(reply);
    return us_since(begun);
}

static void bench_through(struct bed *bed, int rounds) {
    struct bench_series medians[2] = {{.n = 0}}, tails[2] = {{.n = 0}};
    double us[2][OPS];
    char ratio[64], name[64], peer[64];
    if (!(wants(bed, ratio, "writes.through.vs.sum%s") | wants(bed, name, "writes.through%s") |
          wants(bed, peer, "writes.sum%s"))) {
        return;
    }
    struct pln_write_options writing = {
        .strategy = PLN_WRITE_THROUGH, .store = store_now, .arg = bed};
    struct pln_cache *cache = writes_open(&bed->server, &writing);
    for (int round = -1; round < rounds; round++) { /* the first is for warming */
        for (uint32_t i = 0; i < OPS; i++) {        /* write by write, since disks have moods */
            us[0][i] = write_through(bed, cache, i);
            us[1][i] = write_parts(bed, cache, i);
        }
        for (int side = 0; side < 2 && round >= 0; side++) {
            writes_add(us[side], OPS, &medians[side], &tails[side]);
        }
    }
    writes_compare(ratio, name, &medians[0], peer, &medians[1]);
    pln_close(cache);
}

/* ---- until all have heard ---- */

static void (*forget)(void *arg, struct pln_bytes key);
static _Atomic int64_t last_heard;
static _Atomic int n_heard;

static void on_key(void *arg, struct pln_bytes key) {
    forget(arg, key);
    atomic_store(&last_heard, pln_clock_precise());
    atomic_fetch_add(&n_heard, 1);
}

static int make_listening(void *arg, const struct pln_l2_options *options, struct pln_l2 **l2) {
    struct pln_l2_options own = *options;
    (void) arg;
    forget = own.events.on_key;
    own.events.on_key = on_key;
    return pln_l2_redis_new(&own, l2);
}

static struct pln_cache *open_listener(const struct bed *bed) {
    struct pln_options options = {.redis = bed->server.url, .ns = "bench", .timeout_ms = 10000};
    struct pln_cache *cache;
    writes_need(pln_open_over(&options, make_listening, NULL, &cache) == PLN_OK, "open");
    pln_wake(cache);
    while (pln_l1_generation(cache->l1) % 2 != 0) {
        usleep(1000);
    }
    return cache;
}

static double window_of(struct bed *bed, struct pln_cache *cache, uint32_t i) {
    atomic_store(&n_heard, 0);
    write_through(bed, cache, i);
    while (atomic_load(&n_heard) < LISTENERS) {
        usleep(20);
    }
    return (double) (atomic_load(&last_heard) - bed->committed) / 1000;
}

static void bench_window(struct bed *bed, int rounds) {
    struct bench_series medians = {0}, tails = {0};
    struct pln_cache *listeners[LISTENERS];
    double us[OPS];
    char name[64], tail[64];
    if (!(wants(bed, name, "writes.through.window%s") |
          wants(bed, tail, "writes.through.window.p99%s"))) {
        return;
    }
    struct pln_write_options writing = {
        .strategy = PLN_WRITE_THROUGH, .store = store_now, .arg = bed};
    struct pln_cache *cache = writes_open(&bed->server, &writing);
    for (int i = 0; i < LISTENERS; i++) {
        listeners[i] = open_listener(bed);
    }
    for (int round = 0; round < rounds; round++) {
        for (uint32_t i = 0; i < OPS; i++) {
            us[i] = window_of(bed, cache, i);
        }
        writes_add(us, OPS, &medians, &tails);
    }
    bench_print(name, "us", &medians);
    bench_print(tail, "us", &tails);
    for (int i = 0; i < LISTENERS; i++) {
        pln_close(listeners[i]);
    }
    pln_close(cache);
}

/* ---- the table ---- */

static const struct strategy {
    const char *name;
    uint8_t strategy;
} strategies[] = {{"aside", PLN_WRITE_ASIDE},
                  {"through", PLN_WRITE_THROUGH},
                  {"behind", PLN_WRITE_BEHIND},
                  {"around", PLN_WRITE_AROUND}};
enum { N_STRATEGIES = sizeof strategies / sizeof *strategies };

static void write_by(struct bed *bed, struct pln_cache *cache, const struct strategy *strategy,
                     const char *key, const char *value) {
    if (strategy->strategy == PLN_WRITE_ASIDE) {
        store_bare(bed->database, key, value);
        writes_need(pln_delete(cache, pln_key(key)) == PLN_OK, "delete");
    } else {
        writes_need(pln_set(cache, pln_key(key), pln_key(value), NULL) == PLN_OK, "set");
    }
}

static void check_read(struct bed *bed, struct pln_cache *cache, const char *key,
                       const char *value) {
    struct pln_result result;
    writes_need(pln_get_or_load(cache, pln_key(key), NULL, load, bed, &result) == PLN_OK, "get");
    writes_need(result.len == strlen(value) &&
                    memcmp(pln_value_data(result.value), value, result.len) == 0,
                "another value was read");
    pln_release(cache, result.value);
}

struct row {
    struct pln_cache *cache;
    double write_us[OPS], read_us[OPS];
    struct bench_series writes, write_tails, reads, read_tails;
};

static void run_row(struct bed *bed, struct row *row, const struct strategy *strategy) {
    for (uint32_t i = 0; i < OPS; i++) {
        char key[WRITES_KEY], value[BENCH_VALUE_BYTES + 1];
        writes_key(i, key);
        make_value(value, i);
        pln_ns begun = pln_clock_precise();
        write_by(bed, row->cache, strategy, key, value);
        row->write_us[i] = us_since(begun);
        begun = pln_clock_precise();
        check_read(bed, row->cache, key, value);
        row->read_us[i] = us_since(begun);
    }
}

static void print_row(const struct bed *bed, const struct row *row, const char *strategy) {
    const struct {
        const char *name;
        const struct bench_series *series;
    } columns[] = {{"write", &row->writes},
                   {"write.p99", &row->write_tails},
                   {"read", &row->reads},
                   {"read.p99", &row->read_tails}};
    for (size_t i = 0; i < sizeof columns / sizeof *columns; i++) {
        char name[64];
        snprintf(name, sizeof name, "writes.%s.%s.%s", bed->kind, strategy, columns[i].name);
        bench_print(name, "us", columns[i].series);
    }
}

static void bench_table(struct bed *bed, int rounds) {
    static struct row rows[N_STRATEGIES];
    char name[64];
    snprintf(name, sizeof name, "writes.%s.table", bed->kind); /* all of it, or none */
    if (!bench_is_wanted(name)) {
        return;
    }
    memset(rows, 0, sizeof rows);
    for (int i = 0; i < N_STRATEGIES; i++) {
        bool is_behind = strategies[i].strategy == PLN_WRITE_BEHIND;
        struct pln_write_options writing = {.strategy = strategies[i].strategy,
                                            .store = is_behind ? store_later : store_now,
                                            .arg = bed};
        rows[i].cache = writes_open(&bed->server,
                                    strategies[i].strategy == PLN_WRITE_ASIDE ? NULL : &writing);
    }
    for (int round = -1; round < rounds; round++) {
        for (int i = 0; i < N_STRATEGIES; i++) {
            struct row *row = &rows[i];
            run_row(bed, row, &strategies[i]);
            if (round >= 0) {
                writes_add(row->write_us, OPS, &row->writes, &row->write_tails);
                writes_add(row->read_us, OPS, &row->reads, &row->read_tails);
            }
            if (strategies[i].strategy == PLN_WRITE_BEHIND) { /* none is in the others' way */
                writes_need(pln_flush(row->cache, 60000) == PLN_OK, "flush");
            }
        }
    }
    for (int i = 0; i < N_STRATEGIES; i++) {
        print_row(bed, &rows[i], strategies[i].name);
        pln_close(rows[i].cache);
    }
}

/* ---- all of one database ---- */

static void run_all(struct bed *bed, int rounds) {
    bed->database = database_open(bed->where, true);
    writes_need(bed->database != NULL && database_make(bed->database), "the database");
    bed->behind = database_open(bed->where, true);
    writes_need(bed->behind != NULL, "the database");
    bench_through(bed, rounds);
    bench_window(bed, rounds);
    bench_table(bed, rounds);
    database_close(bed->database);
    database_close(bed->behind);
}

static bool is_any_wanted(void) {
    static const char *const lines[] = {"writes.through.vs.sum.postgres",
                                        "writes.through.window.p99.postgres",
                                        "writes.through.postgres",
                                        "writes.sum.postgres",
                                        "writes.sqlite.table",
                                        "writes.postgres.table"};
    bool is_wanted = false;
    for (size_t i = 0; i < sizeof lines / sizeof *lines; i++) {
        is_wanted = is_wanted || bench_is_wanted(lines[i]);
    }
    return is_wanted;
}

void writes_into_databases(int rounds) {
    static struct bed bed;
    if (!is_any_wanted()) {
        return;
    }
    pln_test_redis_start(&bed.server, NULL);
    bed.context = redisConnectUnix(bed.server.path);
    bed.kind = "sqlite";
    if (database_lacks(bed.kind) == NULL) {
        snprintf(bed.where, sizeof bed.where, "sqlite:%s/db", bed.server.folder);
        run_all(&bed, rounds);
    }
#ifdef TEST_HAVE_POSTGRES
    bed.kind = "postgres";
    if (database_lacks(bed.kind) == NULL) {
        struct test_postgres postgres;
        test_postgres_start(&postgres, true);
        snprintf(bed.where, sizeof bed.where, "postgres:%s", postgres.conninfo);
        run_all(&bed, rounds);
        test_postgres_stop(&postgres);
    }
#endif
    redisFree(bed.context);
    pln_test_redis_stop(&bed.server);
}
