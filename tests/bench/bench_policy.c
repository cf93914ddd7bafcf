/* SPDX-License-Identifier: MIT
 *
 * bench_policy.c - what a policy costs: bench_policy [PREFIX], only lines whose name begins so.
 *
 * The cache has L1 alone, so that no network hides what is measured. `hit`: reads of what L1 has,
 * with 200 rules in force and with none, of the same values with the same tags; and, with no rules,
 * what the tags (two on every second value) cost. Three caches take short turns and change places,
 * so that it does not count which lies best in memory.
 * `match`: the search for a key's rule among 1000, all of which are asked for; `tenants`: the same
 * where each pattern begins with a capture; `in_turn`: by trying one rule after the other. `load`:
 * a file of 1000 rules from the disk to being in force. These count the processor time of the one
 * thread that does it all. `store`: a set, by what the key's rule has, in the time that passes; one
 * with a function waits for a worker.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "../../core/policy.h"
#include "bench.h"

enum {
    N_RULES = 1000,
    N_RULES_OF_HITS = 200,
    N_KEYS = 10000,
    KEY_BYTES = 48,
    N_DRAWS = 1 << 20,
    N_HITS = 200000, /* of a turn: a few milliseconds */
    N_MATCHES = 1000000,
    N_TRIALS = 100000, /* of rules in turn */
    N_LOADS = 4,
    N_STORES = 200000,
    N_SHAPED = 20000,
    HIT_ROUNDS = 20, /* at each place */
};

struct work {
    struct pln_cache *cache;
    const struct pln_ruleset *ruleset;
    const uint32_t *draws;
    size_t n_matches, n_stores;
    char path[32];
    char keys[N_KEYS][KEY_BYTES];
    char tags[N_KEYS][32]; /* the tag of a key's own; "" where its rule gives it none */
};

static void need(int status, const char *what) {
    if (status < 0) {
        fprintf(stderr, "bench_policy: %s: %s\n", what, pln_error_text());
        exit(1);
    }
}

/* ---- processor time ---- */

struct timed {
    bench_body body;
    void *arg;
    double ns; /* an operation */
};

static double processor_ns(void) {
    struct timespec time;
    clock_gettime(CLOCK_THREAD_CPUTIME_ID, &time);
    return (double) time.tv_sec * 1e9 + (double) time.tv_nsec;
}

static size_t time_body(void *arg, unsigned thread) {
    struct timed *timed = arg;
    double begin = processor_ns();
    size_t n = timed->body(timed->arg, thread);
    timed->ns = (processor_ns() - begin) / (double) n;
    return n;
}

/* As bench_run(), but others that get the processor meanwhile cost nothing but caches. */
static void run(struct bench_series *series, bench_body body, void *arg) {
    struct timed timed = {body, arg, 0};
    bench_run(series, 1, time_body, &timed);
    series->values[series->n - 1] = timed.ns;
}

/* As bench_measure(), in units of so many nanoseconds. */
static void measure(const char *name, const char *metric, double unit, bench_body body, void *arg) {
    struct bench_series series = {0};
    if (!bench_is_wanted(name)) {
        return;
    }
    bench_time(1, body, arg);
    for (int i = 0; i < BENCH_RUNS; i++) {
        run(&series, body, arg);
        series.values[i] /= unit;
    }
    bench_print(name, metric, &series);
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

static bool has_tags(unsigned rule) {
    return rule % 2 == 0;
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
        fputs(has_tags(i) ? ", tags = { \"all\", \"of:{id}\" } }\n" : " }\n", file);
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
        snprintf(work->tags[i], sizeof work->tags[i], has_tags((unsigned) i % n) ? "of:%s" : "",
                 id);
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

enum side { UNTAGGED, TAGGED, RULED, N_SIDES };

static void store_tagged(const struct work *work, size_t i) {
    static const char value[BENCH_VALUE_BYTES] = "value";
    struct pln_bytes tags[] = {pln_key("all"), pln_key(work->tags[i])};
    struct pln_set_options options = {.tags = tags, .n_tags = work->tags[i][0] == 0 ? 0 : 2};
    need(pln_set(work->cache, pln_key(work->keys[i]), pln_bytes_of(value, sizeof value), &options),
         "pln_set");
}

static void prepare(struct work *work, enum side side) {
    if (side == RULED) {
        write_rules(work, N_RULES_OF_HITS, false);
    } else {
        fclose(open_policy(work));
    }
    load(work);
    for (size_t i = 0; i < N_KEYS; i++) {
        if (side == TAGGED) {
            store_tagged(work, i);
        } else {
            store(work, pln_key(work->keys[i]));
        }
    }
    bench_time(1, hits, work);
}

static void print_ratio(const char *name, const struct bench_series *with,
                        const struct bench_series *without) {
    struct bench_series ratio = {.n = with->n,
                                 .busy = with->busy + without->busy,
                                 .own = with->own + without->own,
                                 .wall = with->wall + without->wall};
    for (size_t i = 0; i < ratio.n; i++) {
        ratio.values[i] = with->values[i] / without->values[i];
    }
    bench_print(name, "ratio", &ratio);
}

static void bench_hit(struct work *work) {
    static struct work others[N_SIDES - 1];
    struct work *places[N_SIDES] = {work, &others[0], &others[1]};
    struct bench_series sides[N_SIDES] = {{.n = 0}};
    struct pln_options options = {.name = "bench too"};
    if (!bench_is_wanted("policy.hit")) {
        return;
    }
    write_keys(work, N_RULES_OF_HITS, false);
    for (unsigned i = 1; i < N_SIDES; i++) {
        *places[i] = *work;
        need(pln_open(&options, &places[i]->cache), "pln_open");
    }
    for (unsigned shift = 0; shift < N_SIDES; shift++) {
        for (unsigned side = 0; side < N_SIDES; side++) {
            prepare(places[(side + shift) % N_SIDES], side);
        }
        for (unsigned turn = 0; turn < HIT_ROUNDS * N_SIDES; turn++) {
            unsigned side = turn % N_SIDES;
            run(&sides[side], hits, places[(side + shift) % N_SIDES]);
        }
    }
    bench_print("policy.hit.none", "ns", &sides[TAGGED]);
    bench_print("policy.hit.with200", "ns", &sides[RULED]);
    print_ratio("policy.hit.with200.vs.none", &sides[RULED], &sides[TAGGED]);
    print_ratio("policy.hit.tagged.vs.untagged", &sides[TAGGED], &sides[UNTAGGED]);
    pln_close(others[0].cache);
    pln_close(others[1].cache);
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
        measure(is_tenant ? "policy.match.1000.tenants" : "policy.match.1000", "ns", 1, matches,
                work);
        work->ruleset = &untouched;
        work->n_matches = N_TRIALS;
        measure(is_tenant ? "policy.match.1000.tenants.in_turn" : "policy.match.1000.in_turn", "ns",
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
        write_rules(work, N_RULES, is_tenant != 0);
        measure(is_tenant ? "policy.load.1000.tenants" : "policy.load.1000", "us", 1000, loads,
                work);
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
