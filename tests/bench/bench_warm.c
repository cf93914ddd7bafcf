/* SPDX-License-Identifier: MIT
 *
 * bench_warm.c - how fast 100,000 keys are warmed out of SQLite, against the loader alone.
 *
 * The policy is the shipped scripts/warmers/from_sqlite.lua: a query names the keys, the rule's
 * load function fetches each value. `warm.loader` calls that function for the same keys in as many
 * threads, and does nothing with what it says; each thread has a Lua state and a connection of its
 * own, made within the time, in both. `warm.l1` has no Redis, and its time begins before the query;
 * `warm.l2` stores everything in a Redis as well. One after the other, round by round, each time
 * with a cache that is empty. Figures are keys per second.
 */
#include <lauxlib.h>
#include <lualib.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "../../core/engine.h"
#include "../l2/server.h"
#include "bench.h"

enum { N_KEYS = 100000, ROUNDS = 5, MOST_THREADS = 8 };

static const char making[] =
    "local db = assert(require('luasql.sqlite3').sqlite3():connect(path))\n"
    "assert(db:execute 'create table products (id text primary key, value text, sold integer)')\n"
    "assert(db:execute 'begin')\n"
    "for i = 1, n do\n"
    "  assert(db:execute(string.format('insert into products values (%d, \"%s\", %d)', i,\n"
    "    string.rep(string.format('value %d ', i), 12), i * 7919 % n)))\n"
    "end\n"
    "assert(db:execute 'commit')\n";

static char folder[] = "/tmp/pln-bench-warm-XXXXXX";
static struct server server;

static void need(bool is_well, const char *what) {
    if (!is_well) {
        fprintf(stderr, "bench_warm: %s failed: %s\n", what, pln_error_text());
        exit(1);
    }
}

static void make_database(void) {
    char path[64];
    need(mkdtemp(folder) != NULL, "mkdtemp");
    snprintf(path, sizeof path, "%s/shop.db", folder);
    setenv("WARM_DB", path, 1);
    lua_State *L = luaL_newstate();
    luaL_openlibs(L);
    lua_pushstring(L, path);
    lua_setglobal(L, "path");
    lua_pushinteger(L, N_KEYS);
    lua_setglobal(L, "n");
    if (luaL_dostring(L, making)) {
        fprintf(stderr, "bench_warm: %s\n", lua_tostring(L, -1));
        exit(1);
    }
    lua_close(L);
}

static void remove_database(void) {
    unlink(getenv("WARM_DB"));
    rmdir(folder);
}

static struct pln_cache *open_cache(const char *redis) {
    struct pln_options options = {.redis = redis, .max_bytes = 256 << 20, .timeout_ms = 10000};
    struct pln_cache *cache;
    need(pln_open(&options, &cache) == PLN_OK, "open");
    need(pln_load_policy(cache, WARMERS "/from_sqlite.lua", PLN_POLICY_TRUSTED) == PLN_OK,
         "load_policy");
    while (redis != NULL && pln_l1_generation(cache->l1) % 2 != 0) {
        usleep(1000);
    }
    return cache;
}

/* ---- the loader alone ---- */

struct loader {
    struct pln_cache *cache;
    struct pln_ruleset *ruleset;
    unsigned n_threads, number;
    pthread_t thread;
};

static void *load_share(void *arg) {
    const struct loader *loader = arg;
    for (unsigned i = loader->number; i < N_KEYS; i += loader->n_threads) {
        struct pln_match match;
        struct pln_load load = {0};
        char text[32];
        snprintf(text, sizeof text, "product:%u", i + 1);
        pln_ruleset_match(loader->ruleset, pln_key(text), &match);
        need(loader->ruleset->hooks.load(loader->ruleset->hooks_arg,
                                         loader->cache->n_workers + loader->number, &match,
                                         pln_key(text), &load) == PLN_OK,
             "load");
        pln_load_fini(&load);
    }
    return NULL;
}

static double run_loader(unsigned n_threads) {
    struct loader loaders[MOST_THREADS];
    struct pln_cache *cache = open_cache(NULL);
    struct pln_ruleset *ruleset = pln_cache_policy(cache);
    pln_ns began = pln_clock_precise();
    for (unsigned i = 0; i < n_threads; i++) {
        loaders[i] = (struct loader){cache, ruleset, n_threads, i, 0};
        pthread_create(&loaders[i].thread, NULL, load_share, &loaders[i]);
    }
    for (unsigned i = 0; i < n_threads; i++) {
        pthread_join(loaders[i].thread, NULL);
    }
    pln_ns took = pln_clock_precise() - began;
    pln_ruleset_unref(ruleset);
    pln_close(cache);
    return N_KEYS * 1e9 / (double) took;
}

/* ---- warming ---- */

static double run_warm(unsigned n_threads, const char *redis) {
    struct pln_warm_options options = {.concurrency = n_threads};
    struct pln_warm_report report;
    struct pln_cache *cache = open_cache(redis);
    pln_clear(cache);
    pln_ns began = pln_clock_precise();
    need(pln_warm(cache, &options, &report) == PLN_OK, "warm");
    pln_ns took = pln_clock_precise() - began;
    if (report.loaded != N_KEYS) {
        fprintf(stderr, "bench_warm: %zu loaded, %zu present, %zu failed: %s\n", report.loaded,
                report.present, report.failed, report.error);
        exit(1);
    }
    pln_close(cache);
    return N_KEYS * 1e9 / (double) took;
}

static void add(struct bench_series *series, double value) {
    series->values[series->n++] = value;
}

static void compare(unsigned n_threads) {
    struct bench_series loader = {.n = 0}, l1 = {.n = 0}, l2 = {.n = 0};
    char name[40];
    for (int round = 0; round < ROUNDS; round++) {
        add(&loader, run_loader(n_threads));
        add(&l1, run_warm(n_threads, NULL));
        add(&l2, run_warm(n_threads, server.url));
    }
    snprintf(name, sizeof name, "warm.loader.%ut", n_threads);
    bench_print(name, "ops", &loader);
    snprintf(name, sizeof name, "warm.l1.%ut", n_threads);
    bench_print(name, "ops", &l1);
    snprintf(name, sizeof name, "warm.l1.%ut.vs.loader", n_threads);
    bench_print_one(name, "ratio", bench_median(&l1) / bench_median(&loader));
    snprintf(name, sizeof name, "warm.l2.%ut", n_threads);
    bench_print(name, "ops", &l2);
    snprintf(name, sizeof name, "warm.l2.%ut.vs.loader", n_threads);
    bench_print_one(name, "ratio", bench_median(&l2) / bench_median(&loader));
}

int main(void) {
    bench_print_machine();
    make_database();
    pln_test_redis_start(&server, NULL);
    compare(1);
    compare(2);
    compare(8);
    pln_test_redis_stop(&server);
    remove_database();
    return 0;
}
