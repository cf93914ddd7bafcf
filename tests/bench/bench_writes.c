/* SPDX-License-Identifier: MIT
 *
 * bench_writes.c - what it costs to write through the cache to a store of record:
 * bench_writes [PREFIX [ROUNDS]], only lines whose name begins so.
 *
 * `writes.behind.ack` is the time of pln_set() where the write is acknowledged when Redis has it,
 * in its place and in the queue, and the queue is emptied all the while by the same process, into a
 * store that costs nothing; `writes.xadd` is that of a bare XADD of the same key and value by
 * hiredis. Both over a unix socket, in turn, round by round, each with Redis waiting for the disk
 * before it answers (fsync) and without a file (memory).
 *
 * `writes.behind.statements` counts what reaches SQLite of 100,000 increments by four threads over
 * 1,000 keys: an item is one statement, and a batch one transaction. What comes in between of the
 * rule's `every` is one item, so the rule says a time that is longer than all of it takes.
 */
#include <inttypes.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "bench_writes.h"
#include "../writes/database.h"

enum {
    OPS_FSYNC = 400,
    OPS_MEMORY = 5000,
    INCREMENTS = 100000,
    COUNTERS = 1000,
    THREADS = 4,
};

void writes_need(bool is_well, const char *what) {
    if (!is_well) {
        fprintf(stderr, "bench_writes: %s: %s\n", what, pln_error_text());
        exit(1);
    }
}

void writes_key(uint32_t number, char key[WRITES_KEY]) {
    snprintf(key, WRITES_KEY, "key:%012" PRIu32, number % 1000000);
}

struct pln_cache *writes_open(const struct server *server,
                              const struct pln_write_options *writing) {
    struct pln_options options = {.redis = server->url,
                                  .ns = "bench",
                                  .timeout_ms = 10000,
                                  .ttl_ms = PLN_FOREVER,
                                  .writing = writing};
    struct pln_cache *cache;
    writes_need(pln_open(&options, &cache) == PLN_OK, "open");
    pln_wake(cache);
    while (pln_l1_generation(cache->l1) % 2 != 0) {
        usleep(1000);
    }
    return cache;
}

void writes_compare(const char *ratio, const char *name, const struct bench_series *ours,
                    const char *peer, const struct bench_series *theirs) {
    bench_print(name, "us", ours);
    bench_print(peer, "us", theirs);
    bench_print_one(ratio, "ratio", bench_median(ours) / bench_median(theirs));
}

static int compare(const void *a, const void *b) {
    const double *x = a, *y = b;
    return (*x > *y) - (*x < *y);
}

void writes_add(double *us, size_t n, struct bench_series *medians, struct bench_series *tails) {
    qsort(us, n, sizeof *us, compare);
    medians->values[medians->n++] = us[n / 2];
    tails->values[tails->n++] = us[n * 99 / 100];
}

/* ---- acknowledged, beside XADD ---- */

struct ack {
    struct pln_cache *cache;
    redisContext *context;
    size_t n_ops;
};

static int store_nowhere(void *arg, struct pln_store_item *items, size_t n) {
    (void) arg, (void) items, (void) n;
    return PLN_OK;
}

static size_t set_behind(void *arg, unsigned thread) {
    const struct ack *ack = arg;
    char key[WRITES_KEY], value[BENCH_VALUE_BYTES];
    (void) thread;
    memset(value, 'v', sizeof value);
    for (size_t i = 0; i < ack->n_ops; i++) {
        writes_key((uint32_t) i, key);
        writes_need(pln_set(ack->cache, pln_key(key), (struct pln_bytes){value, sizeof value},
                            NULL) == PLN_OK,
                    "set");
    }
    return ack->n_ops;
}

static size_t add_bare(void *arg, unsigned thread) {
    const struct ack *ack = arg;
    char key[WRITES_KEY], value[BENCH_VALUE_BYTES];
    (void) thread;
    memset(value, 'v', sizeof value);
    for (size_t i = 0; i < ack->n_ops; i++) {
        writes_key((uint32_t) i, key);
        redisReply *reply = redisCommand(ack->context, "XADD bare * k %b v %b", key,
                                         (size_t) BENCH_KEY_BYTES, value, sizeof value);
        writes_need(reply != NULL && reply->type == REDIS_REPLY_STRING, "XADD");
        freeReplyObject(reply);
    }
    return ack->n_ops;
}

/* A timed run, in microseconds; the queue is empty before and after it. */
static void run_ack(struct ack *ack, struct bench_series *series, bench_body body) {
    bench_run(series, 1, body, ack);
    if (series->n > 0) {
        series->values[series->n - 1] /= 1000;
    }
    writes_need(pln_flush(ack->cache, 60000) == PLN_OK, "flush");
    void *reply = redisCommand(ack->context, "DEL bare");
    writes_need(reply != NULL, "DEL");
    freeReplyObject(reply);
}

static void bench_ack(const char *how, bool syncs, size_t n_ops, int rounds) {
    static const char *const syncing[] = {"--appendonly", "yes", "--appendfsync", "always", NULL};
    struct bench_series warm = {0}, ours = {0}, bare = {0};
    struct pln_write_options writing = {.strategy = PLN_WRITE_BEHIND, .store = store_nowhere};
    struct server server;
    struct ack ack = {.n_ops = n_ops};
    char ratio[64], name[64], peer[64];
    snprintf(ratio, sizeof ratio, "writes.behind.ack.vs.xadd%s", how);
    snprintf(name, sizeof name, "writes.behind.ack%s", how);
    snprintf(peer, sizeof peer, "writes.xadd%s", how);
    if (!bench_is_wanted(ratio) && !bench_is_wanted(name) && !bench_is_wanted(peer)) {
        return;
    }
    pln_test_redis_start(&server, syncs ? syncing : NULL);
    ack.cache = writes_open(&server, &writing);
    ack.context = redisConnectUnix(server.path);
    run_ack(&ack, &warm, set_behind);
    run_ack(&ack, &warm, add_bare);
    for (int i = 0; i < rounds; i++) {
        run_ack(&ack, &ours, set_behind);
        run_ack(&ack, &bare, add_bare);
    }
    writes_compare(ratio, name, &ours, peer, &bare);
    redisFree(ack.context);
    pln_close(ack.cache);
    pln_test_redis_stop(&server);
}

/* ---- statements ---- */

struct counting {
    struct pln_cache *cache;
    struct database *database;
    uint64_t n_batches, n_items;
};

static int store_counters(void *arg, struct pln_store_item *items, size_t n) {
    struct counting *counting = arg;
    bool is_well = database_begin(counting->database);
    for (size_t i = 0; i < n && is_well; i++) {
        char key[WRITES_KEY], value[PLN_NUMERAL];
        snprintf(key, sizeof key, "%.*s", (int) items[i].key.len, (const char *) items[i].key.data);
        snprintf(value, sizeof value, "%.*s", (int) items[i].value.len,
                 (const char *) items[i].value.data);
        is_well = database_write(counting->database, DATABASE_PUT, key, value, items[i].version);
    }
    is_well = is_well && database_commit(counting->database);
    writes_need(is_well, database_error(counting->database));
    counting->n_batches++;
    counting->n_items += n;
    return PLN_OK;
}

static size_t increment(void *arg, unsigned thread) {
    const struct counting *counting = arg;
    struct pln_incr_options options = {.has_initial = true};
    uint64_t dice = thread;
    for (int i = 0; i < INCREMENTS / THREADS; i++) {
        char key[WRITES_KEY];
        int64_t sum;
        writes_key((uint32_t) (bench_random(&dice) % COUNTERS), key);
        writes_need(pln_incr(counting->cache, pln_key(key), 1, &options, &sum) == PLN_OK, "incr");
    }
    return INCREMENTS / THREADS;
}

static void add_up(void *arg, const char *key, const char *value, uint64_t version) {
    (void) key, (void) version;
    *(long long *) arg += value == NULL ? 0 : atoll(value);
}

static void bench_statements(void) {
    struct counting counting = {.n_items = 0};
    struct pln_write_options writing = {.strategy = PLN_WRITE_BEHIND,
                                        .store = store_counters,
                                        .arg = &counting,
                                        .batch = 10 * COUNTERS,
                                        .every_ms = 120000,
                                        .most = 2 * INCREMENTS};
    struct server server;
    char where[128];
    long long sum = 0;
    if (!bench_is_wanted("writes.behind.statements") || database_lacks("sqlite") != NULL) {
        return;
    }
    pln_test_redis_start(&server, NULL);
    snprintf(where, sizeof where, "sqlite:%s/db", server.folder);
    counting.database = database_open(where, true);
    writes_need(counting.database != NULL && database_make(counting.database), "SQLite");
    counting.cache = writes_open(&server, &writing);
    double ns = bench_time(THREADS, increment, &counting);
    writes_need(pln_flush(counting.cache, 120000) == PLN_OK, "flush");
    pln_close(counting.cache);
    writes_need(database_each(counting.database, false, add_up, &sum), "SQLite");
    database_close(counting.database);
    pln_test_redis_stop(&server);
    printf("writes.behind.statements count=%" PRIu64 " batches=%" PRIu64
           " increments=%d keys=%d ratio=%.4g\n",
           counting.n_items, counting.n_batches, INCREMENTS, COUNTERS,
           (double) counting.n_items / (double) (COUNTERS + counting.n_batches));
    bench_print_one("writes.behind.incr", "us", ns / 1000);
    writes_need(sum == INCREMENTS, "SQLite has another sum");
}

int main(int argc, char **argv) {
    int rounds = argc > 2 ? atoi(argv[2]) : BENCH_RUNS;
    writes_need(rounds > 0 && rounds <= 64, "bench_writes [PREFIX [ROUNDS]]: the number");
    bench_choose(argc > 1 ? argv[1] : "");
    bench_print_machine();
    bench_ack("", true, OPS_FSYNC, rounds);
    bench_ack(".memory", false, OPS_MEMORY, rounds);
    bench_statements();
    writes_into_databases(rounds);
    return 0;
}
