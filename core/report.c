/* SPDX-License-Identifier: MIT
 *
 * report.c - what can be seen of a cache: statistics, as a table and as Prometheus's text.
 */
#include "drain.h"
#include "reload.h"

#include <stdio.h>

/* ---- statistics ---- */

enum { N_GAUGES = 22, N_STATS = PLN_N_COUNTS + N_GAUGES };

static uint64_t sum_of_gets(const uint64_t *totals) {
    return totals[PLN_COUNT_L1_HITS] + totals[PLN_COUNT_L2_HITS] + totals[PLN_COUNT_LOADS_SERVED] +
           totals[PLN_COUNT_STALE_SERVED] + totals[PLN_COUNT_MISSES] + totals[PLN_COUNT_FAILURES];
}

static size_t fill_gauges(struct pln_cache *cache, const uint64_t *totals, struct pln_stat *stats) {
    struct pln_l1_usage usage;
    struct pln_l2_health health = {0};
    struct pln_queue_state queue;
    pln_l1_usage(cache->l1, &usage);
    pln_wake(cache); /* who waits for the link to be up waits for something */
    pln_drain_show(cache, &queue);
    if (cache->has_l2) {
        pln_l2_health(pln_cache_l2(cache), &health);
    }
    const struct pln_stat gauges[N_GAUGES] = {
        {"l1_bytes", "bytes of L1's budget in use", usage.bytes, true},
        {"l1_held_bytes", "memory for L1's entries, taken from the system", usage.held_bytes, true},
        {"l1_max_bytes", "L1's budget in bytes", usage.max_bytes, true},
        {"l1_waiting_bytes", "of the bytes in use: ended, waiting for readers", usage.waiting_bytes,
         true},
        {"l1_negative_bytes", "of the bytes in use: what is known not to exist", usage.absent_bytes,
         true},
        {"l1_entries", "entries in L1", usage.entries, true},
        {"generation", "of L1's entries; odd while the link is lost", pln_l1_generation(cache->l1),
         true},
        {"bus_ok", "1 while the link is live", health.bus_ok, true},
        {"bus_beat_age_ms", "since the link's last sign of life", (uint64_t) health.beat_age, true},
        {"bus_peers", "instances of the namespace that were heard of lately, this one too",
         health.peers, true},
        {"l2_breaker_open", "1 while commands fail at once", health.breaker_open, true},
        {"l2_connections", "connections to Redis that are up, but to replicas", health.connections,
         true},
        {"l2_nodes", "servers that values come from", health.n_nodes, true},
        {"l2_nodes_up", "of them: the link is live, and commands go there", health.n_nodes_up,
         true},
        {"l2_replicas", "replicas that are read from", health.replicas, true},
        {"loads_waiting", "loads queued for a worker", pln_workers_depth(cache->workers), true},
        {"recovery_waiting", "operations that wait for Redis to be back",
         pln_recovery_waiting(cache->recovery), true},
        {"queue_depth", "writes that wait to be stored, of all instances", queue.depth, true},
        {"queue_lag_ms", "the age of the oldest of them", (uint64_t) queue.lag_ms, true},
        {"queue_dead", "writes that could not be stored: dead letters", queue.dead, true},
        {"policies_retiring", "policies that were replaced, and are used by calls under way",
         pln_reloads_retiring(cache->reloads), true},
        {"compress_percent", "of compressed: bytes after, of those before",
         totals[PLN_COUNT_COMPRESS_BYTES_IN] == 0
             ? 100
             : totals[PLN_COUNT_COMPRESS_BYTES_OUT] * 100 / totals[PLN_COUNT_COMPRESS_BYTES_IN],
         true},
    };
    memcpy(stats, gauges, sizeof gauges);
    return N_GAUGES;
}

static void fill_stats(struct pln_cache *cache, struct pln_stat stats[N_STATS]) {
    uint64_t totals[PLN_N_COUNTS];
    pln_counts_sum(cache->counts, totals);
    totals[PLN_COUNT_GETS] = sum_of_gets(totals);
    for (int i = 0; i < PLN_N_COUNTS; i++) {
        stats[i] = (struct pln_stat){pln_count_name((enum pln_count) i),
                                     pln_count_help((enum pln_count) i), totals[i], false};
    }
    fill_gauges(cache, totals, stats + PLN_N_COUNTS);
}

size_t pln_stats(struct pln_cache *cache, struct pln_stat *stats, size_t max) {
    struct pln_stat all[N_STATS];
    fill_stats(cache, all);
    memcpy(stats, all, (max < N_STATS ? max : N_STATS) * sizeof *stats);
    return N_STATS;
}

size_t pln_nodes(struct pln_cache *cache, pln_node_visit visit, void *arg) {
    return cache->has_l2 ? pln_l2_nodes(pln_cache_l2(cache), visit, arg) : 0;
}

/* ---- texts ---- */

/* A text that counts what it would need beyond its buffer. */
struct text {
    char *buffer;
    size_t size, len;
};

__attribute__((format(printf, 2, 3))) static void add(struct text *text, const char *format, ...) {
    char *at = text->len < text->size ? text->buffer + text->len : NULL;
    va_list args;
    va_start(args, format);
    int n = vsnprintf(at, at != NULL ? text->size - text->len : 0, format, args);
    va_end(args);
    if (n > 0) {
        text->len += (size_t) n;
    }
}

/* A label's value: backslashes, quotes and line ends escaped. */
static void add_label(struct text *text, const char *value) {
    for (; *value != 0; value++) {
        if (*value == '\n') {
            add(text, "\\n");
        } else {
            add(text, *value == '"' || *value == '\\' ? "\\%c" : "%c", *value);
        }
    }
}

/* What is told of each server. */
static const struct node_metric {
    const char *name, *type, *help;
} node_metrics[] = {
    {"node_up", "gauge", "1 while the server's link is live and commands go to it"},
    {"node_breaker_open", "gauge", "1 while commands to the server fail at once"},
    {"node_connections", "gauge", "data connections to the server that are up"},
    {"node_beat_age_ms", "gauge", "since the last sign of life on the server's link"},
    {"node_timeouts_total", "counter", "commands that the server did not answer in time"},
    {"node_errors_total", "counter", "commands that it refused, or that were lost with it"},
};

struct node_lines {
    struct text *text;
    const char *cache;
    size_t metric;
};

static void add_node(void *arg, const struct pln_node_info *info) {
    const struct node_lines *lines = arg;
    const uint64_t values[PLN_ARRAY_LEN(node_metrics)] = {
        info->is_up,    info->is_breaker_open, info->connections, (uint64_t) info->beat_age_ms,
        info->timeouts, info->errors};
    add(lines->text, "perilune_%s{cache=\"", node_metrics[lines->metric].name);
    add_label(lines->text, lines->cache);
    add(lines->text, "\",node=\"");
    add_label(lines->text, info->address);
    add(lines->text, "\"} %llu\n", (unsigned long long) values[lines->metric]);
}

static void add_nodes(struct text *text, struct pln_cache *cache) {
    size_t n = pln_nodes(cache, NULL, NULL);
    for (size_t i = 0; n > 0 && i < PLN_ARRAY_LEN(node_metrics); i++) {
        const struct node_metric *metric = &node_metrics[i];
        struct node_lines lines = {text, cache->name, i};
        add(text, "# HELP perilune_%s %s\n# TYPE perilune_%s %s\n", metric->name, metric->help,
            metric->name, metric->type);
        pln_nodes(cache, add_node, &lines);
    }
}

size_t pln_prometheus(struct pln_cache *cache, char *buffer, size_t size) {
    struct pln_stat stats[N_STATS];
    struct text text = {buffer, size, 0};
    fill_stats(cache, stats);
    for (size_t i = 0; i < N_STATS; i++) {
        const char *suffix = stats[i].is_gauge ? "" : "_total";
        add(&text, "# HELP perilune_%s%s %s\n# TYPE perilune_%s%s %s\nperilune_%s%s{cache=\"",
            stats[i].name, suffix, stats[i].help, stats[i].name, suffix,
            stats[i].is_gauge ? "gauge" : "counter", stats[i].name, suffix);
        add_label(&text, cache->name);
        add(&text, "\"} %llu\n", (unsigned long long) stats[i].value);
    }
    add_nodes(&text, cache);
    return text.len;
}
