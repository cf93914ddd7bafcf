/* SPDX-License-Identifier: MIT
 *
 * simulate.c - a trace of requests on a virtual clock.
 *
 * The cache is an ordinary one that a single thread has to itself (simulate.h), so a replay is the
 * same each time, but for jitter, which is drawn at random. Its pool has no threads: what runs
 * behind is done between two requests, and what is done once a second is done when the virtual
 * clock has gone on by a second.
 */
#include "simulate.h"

#include <stdio.h>

enum {
    DEFAULT_VALUE_BYTES = 1024,
    SWEEP_EVERY_MS = 1000,
    MOST_VALUE_BYTES = 1 << 30,
};

/* Far from zero, where a point in time may mean none. */
static const pln_ms BEGINNING = 1000000;

/* The same each time, so that two policies meet the same collisions. */
static const uint64_t SEED = 42;

struct pln_simulation {
    struct pln_cache *cache;
    pln_ms origin; /* the first request's point in time, which becomes the beginning */
    pln_ms now, swept_at;
    bool has_begun;
    struct pln_bytes key; /* of the request being played */
    size_t value_bytes, default_bytes;
    char *zeros;
    size_t n_zeros;
    uint64_t requests, loaded_bytes, served_bytes;
};

/* ---- in the sources' place ---- */

int pln_stand_in_load(const struct pln_request *request, unsigned worker, struct pln_load *load) {
    static const uint32_t shaping = PLN_RULE_TTL | PLN_RULE_TAGS | PLN_RULE_RELATED;
    const struct pln_cache *cache = request->cache;
    const struct pln_hooks *hooks = &request->ruleset->hooks;
    int status = cache->stand_in(cache->stand_in_arg, request->key.key, load);
    if (status == PLN_OK && (request->match.rule->hooks & shaping) != 0) {
        uint8_t format;
        struct pln_bytes value = pln_load_peek(load, &format);
        status = hooks->shape(request->ruleset->hooks_arg, worker, &request->match,
                              request->key.key, value, format, load);
    }
    return status;
}

/* A value has the size that the request says, or, where another key is loaded behind it, the size
 * that it had. */
static size_t size_of(struct pln_simulation *simulation, struct pln_bytes key) {
    struct pln_l1_hit hit;
    struct pln_hashed hashed;
    if (pln_bytes_equal(key, simulation->key)) {
        return simulation->value_bytes;
    }
    bool is_known = pln_cache_key(simulation->cache, key, &hashed) == PLN_OK &&
                    pln_l1_get(simulation->cache->l1, &hashed, simulation->now, PLN_L1_QUIET, NULL,
                               0, &hit) == PLN_OK;
    return is_known ? hit.len : simulation->default_bytes;
}

static int load_zeros(void *arg, struct pln_bytes key, struct pln_load *load) {
    struct pln_simulation *simulation = arg;
    size_t n = size_of(simulation, key);
    if (n > simulation->n_zeros) {
        char *grown = calloc(1, n);
        if (grown == NULL) {
            return pln_fail(PLN_ENOMEM, "simulation: no memory for a value of %zu bytes", n);
        }
        free(simulation->zeros);
        simulation->zeros = grown;
        simulation->n_zeros = n;
    }
    simulation->loaded_bytes += n;
    return pln_load_value(load, pln_bytes_of(simulation->zeros, n), 0);
}

static pln_ms virtual_clock(void *arg) {
    const struct pln_simulation *simulation = arg;
    return simulation->now;
}

/* ---- life ---- */

static int make_l2(void *arg, const struct pln_l2_options *options, struct pln_l2 **l2) {
    return pln_memory_client(arg, options, l2);
}

static int open_cache(struct pln_simulation *simulation, const struct pln_options *options,
                      bool has_l2) {
    struct pln_alone alone = {.load = load_zeros, .arg = simulation, .seed = SEED};
    char name[40];
    if (!has_l2) {
        return pln_open_alone(options, &alone, NULL, NULL, &simulation->cache);
    }
    struct pln_memory *memory;
    snprintf(name, sizeof name, "simulation-%llx", (unsigned long long) pln_random64());
    int status = pln_memory_open(name, &memory);
    if (status < 0) {
        return status;
    }
    status = pln_open_alone(options, &alone, make_l2, memory, &simulation->cache);
    if (status < 0) {
        pln_memory_close(memory);
        return status;
    }
    simulation->cache->memory = memory;
    return PLN_OK;
}

int pln_simulation_open(const struct pln_simulation_options *options,
                        struct pln_simulation **simulation) {
    static const struct pln_simulation_options defaults = {0};
    options = options != NULL ? options : &defaults;
    struct pln_simulation *created = calloc(1, sizeof *created);
    if (created == NULL) {
        return pln_fail(PLN_ENOMEM, "simulation: no memory");
    }
    struct pln_options own = options->cache != NULL ? *options->cache : (struct pln_options){0};
    own.clock = virtual_clock;
    own.clock_arg = created;
    own.timeout_ms = PLN_FOREVER / 1000000; /* it goes by the real clock, which is of no matter */
    created->now = created->swept_at = BEGINNING;
    created->default_bytes = options->value_bytes > 0 ? options->value_bytes : DEFAULT_VALUE_BYTES;
    int status = open_cache(created, &own, options->has_l2);
    if (status < 0) {
        pln_simulation_close(created);
        return status;
    }
    *simulation = created;
    return PLN_OK;
}

void pln_simulation_close(struct pln_simulation *simulation) {
    if (simulation != NULL) {
        pln_close(simulation->cache);
        free(simulation->zeros);
        free(simulation);
    }
}

struct pln_cache *pln_simulation_cache(struct pln_simulation *simulation) {
    return simulation->cache;
}

/* ---- requests ---- */

static bool rule_loads(struct pln_cache *cache, struct pln_bytes key) {
    struct pln_match match;
    struct pln_ruleset *ruleset;
    pln_cache_match(cache, key, &match, &ruleset);
    bool loads = match.rule != NULL && (match.rule->hooks & PLN_RULE_LOAD) != 0;
    pln_ruleset_unref(ruleset);
    return loads;
}

static void go_on_to(struct pln_simulation *simulation, pln_ms at) {
    if (!simulation->has_begun) {
        simulation->has_begun = true;
        simulation->origin = at;
    }
    pln_ms now = BEGINNING + (at - simulation->origin);
    simulation->now = now > simulation->now ? now : simulation->now;
}

int pln_simulation_get(struct pln_simulation *simulation, struct pln_bytes key, size_t value_bytes,
                       pln_ms at) {
    struct pln_cache *cache = simulation->cache;
    struct pln_hashed hashed;
    struct pln_result result;
    int status = pln_cache_key(cache, key, &hashed);
    if (status == PLN_OK && value_bytes > MOST_VALUE_BYTES) {
        status = pln_fail(PLN_EINVAL, "simulation: a value of %zu bytes, at most 1 GiB",
                          value_bytes);
    }
    if (status < 0) {
        return status;
    }
    go_on_to(simulation, at);
    simulation->key = key;
    simulation->value_bytes = value_bytes;
    simulation->requests++;
    pln_loader loader = rule_loads(cache, key) ? NULL : load_zeros;
    status = pln_get_or_load(cache, key, NULL, loader, simulation, &result);
    simulation->served_bytes += status == PLN_OK ? result.len : 0;
    pln_release(cache, result.value);
    bool sweeps = simulation->now - simulation->swept_at >= SWEEP_EVERY_MS;
    simulation->swept_at = sweeps ? simulation->now : simulation->swept_at;
    pln_workers_step(cache->workers, sweeps);
    return status == PLN_ENOMEM ? status : PLN_OK;
}

void pln_simulation_report(struct pln_simulation *simulation,
                           struct pln_simulation_report *report) {
    uint64_t totals[PLN_N_COUNTS];
    struct pln_l1_usage usage;
    pln_counts_sum(simulation->cache->counts, totals);
    pln_l1_usage(simulation->cache->l1, &usage);
    *report = (struct pln_simulation_report){
        .l1_hits = totals[PLN_COUNT_L1_HITS],
        .stale = totals[PLN_COUNT_STALE_SERVED],
        .l2_hits = totals[PLN_COUNT_L2_HITS],
        .waited = totals[PLN_COUNT_LOADS_SERVED],
        .misses = totals[PLN_COUNT_MISSES],
        .failures = totals[PLN_COUNT_FAILURES],
        .requests = simulation->requests,
        .loads = totals[PLN_COUNT_LOADS],
        .refreshes = totals[PLN_COUNT_REFRESHES],
        .loaded_bytes = simulation->loaded_bytes,
        .served_bytes = simulation->served_bytes,
        .evictions = totals[PLN_COUNT_L1_EVICTIONS],
        .policy_errors = totals[PLN_COUNT_POLICY_ERRORS],
        .l1_bytes = usage.bytes,
        .l1_entries = usage.entries,
    };
}
