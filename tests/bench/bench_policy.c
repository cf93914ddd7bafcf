/* SPDX-License-Identifier: MIT
 *
 * bench_policy.c - what a policy costs: bench_policy [PREFIX], only lines whose name begins so.
 *
 * The cache has L1 alone, so that no network hides what is measured. `hit`: reads of what L1 has,
 * with 200 rules in force and with none, in turn, each after its values were stored under it.
 * `match`: the search for a key's rule among 1000, all of which are asked for; `tenants`: the same
 * where each pattern begins with a capture; `in_turn`: by trying one rule after the other. `load`:
 * a file of 1000 rules from the disk to being in force. `store`: a set, by what the key's rule has;
 * one with a function waits for a worker.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "../../core/policy.h"
#include "bench.h"

enum {
    N_RULES = 1000,
    N_RULES_OF_HITS = 200,
    N_KEYS = 10000,
    KEY_BYTES = 48,
    N_DRAWS = 1 << 20,
    N_HITS = 1500000,
    N_MATCHES = 1000000,
    N_TRIALS = 100000, /* of rules in turn */
    N_LOADS = 4,
    N_STORES = 200000,
    N_SHAPED = 20000,
    HIT_ROUNDS = 9,
};

struct work {
    struct pln_cache *cache;
    const struct pln_ruleset *ruleset;
    const uint32_t *draws;
    size_t n_matches, n_stores;
    char path[32];
    char keys[N_KEYS][KEY_BYTES];
};

static void need(int status, const char *what) {
    if (status < 0) {
        fprintf(stderr, "bench_policy: %s: %s\n", what, pln_error_text());
        exit(1);
    }
}

/* ---- policies and keys ---- */

/* Rule number i's pattern, or with a number in the place of its capture a key of its own. */
static void write_name(char *text, size_t size, unsigned i, bool is_tenant, const char *tenant,
                       const char *id) {
    static const char *const areas[] = {"shop",  "user", "session", "cart",    "search",
                                        "price", "api",  "page",    "product", "stock"};
    static const char *const shapes[] = {"%s:%s%u:%s:parts", "%s:%s%u:%s", "%s/%s%u/%s.json",
                                         "%s:%s%u-%s", "%s:list:%s%u:%s"};
    const char *area = areas[i % PLN_ARRAY_LEN(areas)];
    const char *shape = shapes[i / 10 % PLN_ARRAY_LEN(shapes)];
    snprintf(text, size, shape, is_tenant ? tenant : area, is_tenant ? area : "kind", i / 50, id);
}

static FILE *open_policy(const struct work *work) {
    FILE *file = fopen(work->path, "w");
    need(file == NULL ? -1 : 0, "a temporary file");
    return file;
}

static void load(struct work *work) {
    need(pln_load_policy(work->cache, work->path, 0), "pln_load_policy");
}

static void write_rules(const struct work *work, unsigned n, bool is_tenant) {
    FILE *file = open_policy(work);
    char name[KEY_BYTES];
    for (unsigned i = 0; i < 8; i++) {
        fprintf(file,
                "cache.class \"c%u\" { ttl = \"%um\", jitter = \"10%%\", stale = \"1m\", "
                "refresh = 0.8 }\n",
                i, 5 * (i + 1));
    }
    for (unsigned i = 0; i + 1 < n; i++) {
        write_name(name, sizeof name, i, is_tenant, "{tenant}", "{id}");
        fprintf(file, "cache.rule \"%s\" { class = \"c%u\", max_bytes = \"64k\"", name, i % 8);
        fprintf(file, i % 2 == 0 ? ", tags = { \"all\", \"of:{id}\" } }\n" : " }\n");
    }
    fprintf(file, "cache.rule \"*\" { class = \"c0\" }\n");
    fclose(file);
}

static void write_keys(struct work *work, unsigned n, bool is_tenant) {
    uint64_t random = 42;
    for (size_t i = 0; i < N_KEYS; i++) {
        char id[24], tenant[24];
        uint64_t number = bench_random(&random);
        snprintf(id, sizeof id, "%u", (unsigned) (number >> 32));
        snprintf(tenant, sizeof tenant, "t%u", (unsigned) (number % 1000));
        write_name(work->keys[i], KEY_BYTES, (unsigned) i % n, is_tenant, tenant, id);
    }
}

static struct pln_bytes key_at(const struct work *work, size_t i) {
    return pln_key(work->keys[work->draws[i % N_DRAWS]]);
}

static void store(const struct work *work, struct pln_bytes key) {
    static const char value[BENCH_VALUE_BYTES] = "value";
    need(pln_set(work->cache, key, pln_bytes_of(value, sizeof value), NULL), "pln_set");
}

/* ---- hits ---- */

static size_t hits(void *arg, unsigned thread) {
    const struct work *work = arg;
    char buffer[BENCH_VALUE_BYTES];
    struct pln_result result;
    (void) thread;
    for (size_t i = 0; i < N_HITS; i++) {
        need(pln_get_copy(work->cache, key_at(work, i), NULL, buffer, sizeof buffer, &result),
             "pln_get_copy");
        bench_use(buffer);
    }
    return N_HITS;
}

static void run_hits(struct work *work, unsigned n_rules, struct bench_series *series) {
    if (n_rules > 0) {
        write_rules(work, n_rules, false);
    } else {
        fclose(open_policy(work));
    }
    load(work);
    for (size_t i = 0; i < N_KEYS; i++) {
        store(work, pln_key(work->keys[i]));
    }
    bench_time(1, hits, work);
    bench_run(series, 1, hits, work);
}

static void bench_hit(struct work *work) {
    struct bench_series none = {0}, with = {0}, ratio = {0};
    if (!bench_is_wanted("policy.hit")) {
        return;
    }
    write_keys(work, N_RULES_OF_HITS, false);
    for (int round = 0; round < HIT_ROUNDS; round++) {
        run_hits(work, 0, &none);
        run_hits(work, N_RULES_OF_HITS, &with);
        ratio.values[ratio.n] = with.values[ratio.n] / none.values[ratio.n];
        ratio.n++;
    }
    ratio.busy = none.busy + with.busy;
    ratio.own = none.own + with.own;
    ratio.wall = none.wall + with.wall;
    bench_print("policy.hit.none", "ns", &none);
    bench_print("policy.hit.with200", "ns", &with);
    bench_print("policy.hit.with200.vs.none", "ratio", &ratio);
}

/* ---- matching ---- */

static size_t matches(void *arg, unsigned thread) {
    const struct work *work = arg;
    struct pln_match match;
    (void) thread;
    for (size_t i = 0; i < work->n_matches; i++) {
        pln_ruleset_match(work->ruleset, pln_key(work->keys[i % N_KEYS]), &match);
        bench_use(&match);
    }
    return work->n_matches;
}

static void bench_match(struct work *work) {
    if (!bench_is_wanted("policy.match")) {
        return;
    }
    for (int is_tenant = 0; is_tenant <= 1; is_tenant++) {
        write_rules(work, N_RULES, is_tenant != 0);
        write_keys(work, N_RULES, is_tenant != 0);
        load(work);
        struct pln_ruleset *ruleset = pln_cache_policy(work->cache);
        struct pln_ruleset untouched = {.rules = ruleset->rules, .n_rules = ruleset->n_rules};
        work->ruleset = ruleset;
        work->n_matches = N_MATCHES;
        bench_measure(is_tenant ? "policy.match.1000.tenants" : "policy.match.1000", 1, matches,
                      work);
        work->ruleset = &untouched;
        work->n_matches = N_TRIALS;
        bench_measure(is_tenant ? "policy.match.1000.tenants.in_turn" : "policy.match.1000.in_turn",
                      1, matches, work);
        pln_ruleset_unref(ruleset);
    }
}

/* ---- loading ---- */

static size_t loads(void *arg, unsigned thread) {
    (void) thread;
    for (int i = 0; i < N_LOADS; i++) {
        load(arg);
    }
    return N_LOADS;
}

static void bench_load(struct work *work) {
    for (int is_tenant = 0; is_tenant <= 1; is_tenant++) {
        const char *name = is_tenant ? "policy.load.1000.tenants" : "policy.load.1000";
        struct bench_series series = {0};
        if (!bench_is_wanted(name)) {
            continue;
        }
        write_rules(work, N_RULES, is_tenant != 0);
        bench_time(1, loads, work);
        for (int i = 0; i < BENCH_RUNS; i++) {
            bench_run(&series, 1, loads, work);
            series.values[i] /= 1000;
        }
        bench_print(name, "us", &series);
    }
}

/* ---- storing ---- */

static size_t stores(void *arg, unsigned thread) {
    const struct work *work = arg;
    (void) thread;
    for (size_t i = 0; i < work->n_stores; i++) {
        store(work, key_at(work, i));
    }
    return work->n_stores;
}

static void bench_store(struct work *work) {
    static const struct {
        const char *name, *rule;
        size_t n;
    } kinds[] = {
        {"policy.store.none", "", N_STORES},
        {"policy.store.fixed",
         "cache.rule \"*\" { ttl = \"15m\", jitter = \"10%\", stale = \"1m\", max_bytes = \"64k\" }",
         N_STORES},
        {"policy.store.ttl",
         "cache.rule \"*\" { ttl = function(key, m, value)\n"
         "  return #value > 100000 and \"1h\" or \"15m\"\nend }",
         N_SHAPED},
        {"policy.store.tags",
         "cache.rule \"{area}:*\" { tags = function(key, m, value)\n"
         "  return { \"all\", \"of:\" .. m.area }\nend }",
         N_SHAPED},
    };
    write_keys(work, N_RULES_OF_HITS, false);
    for (size_t i = 0; i < PLN_ARRAY_LEN(kinds); i++) {
        FILE *file = open_policy(work);
        fputs(kinds[i].rule, file);
        fclose(file);
        load(work);
        work->n_stores = kinds[i].n;
        bench_measure(kinds[i].name, 1, stores, work);
    }
}

int main(int argc, char **argv) {
    struct pln_options options = {.name = "bench"};
    struct work *work = calloc(1, sizeof *work);
    uint32_t *draws = bench_zipf(N_KEYS, N_DRAWS, 0.99, 1);
    need(work == NULL ? -1 : pln_open(&options, &work->cache), "pln_open");
    bench_choose(argc > 1 ? argv[1] : "");
    work->draws = draws;
    strcpy(work->path, "/tmp/perilune-bench-XXXXXX");
    int file = mkstemp(work->path);
    need(file, "a temporary file");
    close(file);
    bench_print_machine();
    bench_hit(work);
    bench_match(work);
    bench_load(work);
    bench_store(work);
    unlink(work->path);
    pln_close(work->cache);
    free(draws);
    free(work);
    return 0;
}
