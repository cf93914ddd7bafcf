/* SPDX-License-Identifier: MIT
 *
 * bench_warm.c - how fast 100,000 keys are warmed out of SQLite, against the loader alone.
 *
 * The policy is the shipped scripts/warmers/from_sqlite.lua: a query names the keys, the rule's
 * load function fetches each value. `warm.loader` calls that function for the same keys, in the
 * order of the list, in as many threads, and does nothing with what it says; each thread has a Lua
 * state and a connection of its own, made within the time, in both. `warm.l1` has no Redis, and its
 * time begins before the query; `warm.l2` stores everything in a Redis as well. One after the
 * other, round by round, each time with a cache that is empty. `ops` are keys per second, `cpu` the
 * processor time of this process for a key, without that of Redis.
 */
#include <lauxlib.h>
#include <lualib.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <unistd.h>

#include "../../core/warm.h"
#include "../l2/server.h"
#include "bench.h"

enum { N_KEYS = 100000, MOST_THREADS = 8 };

static const char making[] =
    "local db = assert(require('luasql.sqlite3').sqlite3():connect(path))\n"
    "assert(db:execute 'create table products (id text primary key, value text, sold integer)')\n"
    "assert(db:execute 'begin')\n"
    "for i = 1, n do\n"
    "  assert(db:execute(string.format('insert into products values (%d, \"%s\", %d)', i,\n"
    "    string.rep(string.format('value %d ', i), 12), i * 7919 % n)))\n"
    "end\n"
    "assert(db:execute 'commit')\n";

static char folder[] = "/tmp/pln-bench-warm-XXXXXX", path[64];
static struct server server;

static void need(bool is_well, const char *what) {
    if (!is_well) {
        fprintf(stderr, "bench_warm: %s failed: %s\n", what, pln_error_text());
        exit(1);
    }
}

static void make_database(void) {
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
    unlink(path);
    rmdir(folder);
}

static struct pln_cache *open_cache(const char *redis) {
    struct pln_options options = {.redis = redis, .max_bytes = 256 << 20, .timeout_ms = 10000};
    struct pln_cache *cache;
    need(pln_open(&options, &cache) == PLN_OK, "open");
    need(pln_load_policy(cache, WARMERS "/from_sqlite.lua", PLN_POLICY_TRUSTED) == PLN_OK,
         "load_policy");
    pln_wake(cache); /* it sleeps until it is needed */
    while (redis != NULL && pln_l1_generation(cache->l1) % 2 != 0) {
        usleep(1000);
    }
    return cache;
}

/* What a run is measured by. */
struct figures {
    double speed, cost; /* keys a second; microseconds of processor time a key */
};

/* Seconds of processor time of this process so far. */
static double own_time(void) {
    struct rusage usage;
    getrusage(RUSAGE_SELF, &usage);
    return (double) (usage.ru_utime.tv_sec + usage.ru_stime.tv_sec) +
           (double) (usage.ru_utime.tv_usec + usage.ru_stime.tv_usec) / 1e6;
}

static struct figures figures_since(pln_ns began, double before) {
    double took = (double) (pln_clock_precise() - began);
    return (struct figures){N_KEYS * 1e9 / took, (own_time() - before) * 1e6 / N_KEYS};
}

/* ---- the loader alone ---- */

struct loader {
    struct pln_cache *cache;
    struct pln_ruleset *ruleset;
    const struct pln_warm_list *list;
    unsigned n_threads, number;
    pthread_t thread;
};

static void *load_share(void *arg) {
    const struct loader *loader = arg;
    for (unsigned i = loader->number; i < N_KEYS; i += loader->n_threads) {
        struct pln_match match;
        struct pln_load load = {0};
        struct pln_bytes key = loader->list->keys[i].key;
        pln_ruleset_match(loader->ruleset, key, &match);
        need(loader->ruleset->hooks.load(loader->ruleset->hooks_arg,
                                         loader->cache->n_workers + loader->number, &match, key,
                                         &load) == PLN_OK,
             "load");
        pln_load_fini(&load);
    }
    return NULL;
}

static struct figures run_loader(unsigned n_threads) {
    struct loader loaders[MOST_THREADS];
    struct pln_cache *cache = open_cache(NULL);
    struct pln_ruleset *ruleset = pln_cache_policy(cache);
    struct pln_warm_options options = {.flags = 0};
    struct pln_warm_list list = {.n = 0};
    need(pln_warm_gather(cache, ruleset, &options, cache->n_workers, &list) == PLN_OK &&
             list.n == N_KEYS,
         "gather");
    ruleset->hooks.leave(ruleset->hooks_arg, cache->n_workers);
    double before = own_time();
    pln_ns began = pln_clock_precise();
    for (unsigned i = 0; i < n_threads; i++) {
        loaders[i] = (struct loader){cache, ruleset, &list, n_threads, i, 0};
        pthread_create(&loaders[i].thread, NULL, load_share, &loaders[i]);
    }
    for (unsigned i = 0; i < n_threads; i++) {
        pthread_join(loaders[i].thread, NULL);
    }
    struct figures figures = figures_since(began, before);
    pln_warm_list_fini(&list);
    pln_ruleset_unref(ruleset);
    pln_close(cache);
    return figures;
}

/* ---- warming ---- */

static struct figures run_warm(unsigned n_threads, const char *redis) {
    struct pln_warm_options options = {.concurrency = n_threads};
    struct pln_warm_report report;
    struct pln_cache *cache = open_cache(redis);
    pln_clear(cache);
    double before = own_time();
    pln_ns began = pln_clock_precise();
    need(pln_warm(cache, &options, &report) == PLN_OK, "warm");
    struct figures figures = figures_since(began, before);
    if (report.loaded != N_KEYS) {
        fprintf(stderr, "bench_warm: %zu loaded, %zu present, %zu failed: %s\n", report.loaded,
                report.present, report.failed, report.error);
        exit(1);
    }
    pln_close(cache);
    return figures;
}

/* ---- side by side ---- */

/* What is compared; the first is what the others are compared with. */
static const struct side {
    const char *name;
    bool warms, has_redis;
} sides[] = {{"loader", false, false}, {"l1", true, false}, {"l2", true, true}};

enum { N_SIDES = 3 };

/* The loader is, where anything that is compared with it is. */
static bool is_wanted(const struct side *side, unsigned n_threads) {
    char name[40];
    snprintf(name, sizeof name, "warm.%s.%ut", side->name, n_threads);
    return bench_is_wanted(name) || (side == &sides[0] && (is_wanted(&sides[1], n_threads) ||
                                                           is_wanted(&sides[2], n_threads)));
}

static void run_side(const struct side *side, unsigned n_threads, struct bench_series *speed,
                     struct bench_series *cost) {
    struct figures figures = side->warms ? run_warm(n_threads, side->has_redis ? server.url : NULL)
                                         : run_loader(n_threads);
    speed->values[speed->n++] = figures.speed;
    cost->values[cost->n++] = figures.cost;
}

static void compare(unsigned n_threads, int rounds) {
    struct bench_series speeds[N_SIDES] = {{.n = 0}}, costs[N_SIDES] = {{.n = 0}};
    char name[60];
    for (int round = 0; round < rounds; round++) {
        for (int i = 0; i < N_SIDES; i++) {
            if (is_wanted(&sides[i], n_threads)) {
                run_side(&sides[i], n_threads, &speeds[i], &costs[i]);
            }
        }
    }
    for (int i = 0; i < N_SIDES; i++) {
        if (speeds[i].n == 0) {
            continue;
        }
        snprintf(name, sizeof name, "warm.%s.%ut", sides[i].name, n_threads);
        bench_print(name, "ops", &speeds[i]);
        snprintf(name, sizeof name, "warm.%s.%ut.cpu", sides[i].name, n_threads);
        bench_print(name, "us", &costs[i]);
        if (i > 0) {
            snprintf(name, sizeof name, "warm.%s.%ut.vs.loader", sides[i].name, n_threads);
            bench_print_one(name, "ratio", bench_median(&speeds[i]) / bench_median(&speeds[0]));
        }
    }
}

int main(int argc, char **argv) {
    int rounds = argc > 2 ? atoi(argv[2]) : BENCH_RUNS;
    need(rounds > 0 && rounds <= 64, "bench_warm [PREFIX [ROUNDS]]: the number");
    bench_choose(argc > 1 ? argv[1] : "");
    bench_print_machine();
    make_database();
    pln_test_redis_start(&server, NULL);
    compare(1, rounds);
    compare(2, rounds);
    compare(8, rounds);
    pln_test_redis_stop(&server);
    remove_database();
    return 0;
}
