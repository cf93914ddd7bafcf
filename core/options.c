/* SPDX-License-Identifier: MIT
 *
 * options.c - what can be set at open: names, kinds, limits, defaults. The Lua module, the command
 * line and C programs that read a configuration of their own all pass here.
 */
#include "engine.h"

#include <errno.h>
#include <stdio.h>

enum kind { TEXT, SIZE, AMOUNT, DURATION, LIFETIME, COUNT, SHARE, FACTOR, FLAG, FLAG_WHEN_FALSE };

static const char *const kind_wants[] = {
    [TEXT] = "a text",
    [SIZE] = "a size such as \"64m\" or bytes",
    [AMOUNT] = "a whole number, or \"none\"",
    [DURATION] = "a duration such as \"250ms\" or seconds",
    [LIFETIME] = "a duration such as \"15m\" or seconds, or \"forever\"",
    [COUNT] = "a whole number from 1 to 1024",
    [SHARE] = "a share such as \"10%\" or 0.1, from 0 to 0.99",
    [FACTOR] = "a number from 0 to 10",
    [FLAG] = "\"true\" or \"false\"",
    [FLAG_WHEN_FALSE] = "\"true\" or \"false\"",
};

static const struct option {
    const char *name;
    enum kind kind;
    size_t offset;
} table[] = {
    {"name", TEXT, offsetof(struct pln_options, name)},
    {"ns", TEXT, offsetof(struct pln_options, ns)},
    {"max_bytes", SIZE, offsetof(struct pln_options, max_bytes)},
    {"max_item_bytes", SIZE, offsetof(struct pln_options, max_item_bytes)},
    {"max_entries", SIZE, offsetof(struct pln_options, max_entries)},
    {"eviction", TEXT, offsetof(struct pln_options, eviction)},
    {"weigh", TEXT, offsetof(struct pln_options, weigh)},
    {"redis", TEXT, offsetof(struct pln_options, redis)},
    {"username", TEXT, offsetof(struct pln_options, username)},
    {"password", TEXT, offsetof(struct pln_options, password)},
    {"tls_ca", TEXT, offsetof(struct pln_options, tls_ca)},
    {"tls_cert", TEXT, offsetof(struct pln_options, tls_cert)},
    {"tls_key", TEXT, offsetof(struct pln_options, tls_key)},
    {"tls_name", TEXT, offsetof(struct pln_options, tls_name)},
    {"tls_verify", FLAG_WHEN_FALSE, offsetof(struct pln_options, tls_unverified)},
    {"connect_timeout", DURATION, offsetof(struct pln_options, connect_timeout_ms)},
    {"timeout", DURATION, offsetof(struct pln_options, timeout_ms)},
    {"pool", COUNT, offsetof(struct pln_options, pool)},
    {"bulk_pool", COUNT, offsetof(struct pln_options, bulk_pool)},
    {"tracking", FLAG, offsetof(struct pln_options, tracking)},
    {"ping", DURATION, offsetof(struct pln_options, ping_ms)},
    {"bus_log", AMOUNT, offsetof(struct pln_options, bus_log)},
    {"on_lost_writes", TEXT, offsetof(struct pln_options, on_lost_writes)},
    {"workers", COUNT, offsetof(struct pln_options, workers)},
    {"ttl", LIFETIME, offsetof(struct pln_options, ttl_ms)},
    {"l1_ttl", LIFETIME, offsetof(struct pln_options, l1_ttl_ms)},
    {"stale", DURATION, offsetof(struct pln_options, stale_ms)},
    {"stale_if_error", DURATION, offsetof(struct pln_options, stale_if_error_ms)},
    {"negative", DURATION, offsetof(struct pln_options, negative_ms)},
    {"jitter", SHARE, offsetof(struct pln_options, jitter)},
    {"refresh", SHARE, offsetof(struct pln_options, refresh)},
    {"lease", DURATION, offsetof(struct pln_options, lease_ms)},
    {"load_timeout", DURATION, offsetof(struct pln_options, load_timeout_ms)},
    {"read", TEXT, offsetof(struct pln_options, read)},
    {"replica_ttl", DURATION, offsetof(struct pln_options, replica_ttl_ms)},
    {"max_staleness", LIFETIME, offsetof(struct pln_options, max_staleness_ms)},
    {"recovery", AMOUNT, offsetof(struct pln_options, recovery)},
    {"soft_timeout", DURATION, offsetof(struct pln_options, soft_timeout_ms)},
    {"l2_ttl", LIFETIME, offsetof(struct pln_options, l2_ttl_ms)},
    {"max_age", LIFETIME, offsetof(struct pln_options, max_age_ms)},
    {"retry", DURATION, offsetof(struct pln_options, retry_ms)},
    {"policy_watch", DURATION, offsetof(struct pln_options, policy_watch_ms)},
    {"policy_budget", DURATION, offsetof(struct pln_options, policy_budget_ms)},
    {"negative_share", SHARE, offsetof(struct pln_options, negative_share)},
    {"early", FACTOR, offsetof(struct pln_options, early)},
    {"sliding", FLAG, offsetof(struct pln_options, sliding)},
    {"compress", SIZE, offsetof(struct pln_options, compress_bytes)},
    {"compression", TEXT, offsetof(struct pln_options, compression)},
    {"codec", TEXT, offsetof(struct pln_options, codec)},
    {"key_schema", TEXT, offsetof(struct pln_options, key_schema)},
    {"close_timeout", DURATION, offsetof(struct pln_options, close_timeout_ms)},
};

const char *const pln_evictions[] = {"lru", "adaptive", "fifo", "random", "none", NULL};
const char *const pln_weighings[] = {"entries", "bytes", NULL};
const char *const pln_reads[] = {"primary", "replica", "nearest", NULL};
const char *const pln_losses[] = {"clear", "keep", NULL};
/* from 1 on in what they stand for */
const char *const pln_compressions[] = {"lz4", "zstd", NULL};
const char *const pln_codecs[] = {"msgpack", "json", NULL};

enum { N_OPTIONS = sizeof table / sizeof table[0] };

const char *pln_option_name(size_t i) {
    return i < N_OPTIONS ? table[i].name : NULL;
}

static bool parse_amount(const char *text, size_t *amount) {
    char *end;
    errno = 0;
    unsigned long long number = strtoull(text, &end, 10);
    if (strcmp(text, "none") == 0) {
        *amount = PLN_NONE;
        return true;
    }
    if (errno != 0 || end == text || *end != 0 || text[0] == '-' || number > 1000000000) {
        return false;
    }
    *amount = number == 0 ? PLN_NONE : (size_t) number;
    return true;
}

static bool parse_count(const char *text, unsigned *count) {
    char *end;
    errno = 0;
    unsigned long number = strtoul(text, &end, 10);
    if (errno != 0 || end == text || *end != 0 || number < 1 || number > 1024) {
        return false;
    }
    *count = (unsigned) number;
    return true;
}

static bool parse_factor(const char *text, double *factor) {
    char *end;
    *factor = strtod(text, &end);
    return end != text && *end == 0 && *factor >= 0 && *factor <= 10;
}

/* A flag of either kind: "true", or "false", sets it. */
static bool parse_flag(const char *text, bool sets, bool *flag) {
    bool is_true = strcmp(text, "true") == 0;
    *flag = is_true == sets;
    return is_true || strcmp(text, "false") == 0;
}

static bool parse(enum kind kind, const char *text, void *field) {
    pln_ms *duration = field;
    switch (kind) {
    case TEXT:
        *(const char **) field = text;
        return true;
    case SIZE:
        return pln_parse_size(text, field) && *(size_t *) field > 0;
    case AMOUNT:
        return parse_amount(text, field);
    case DURATION:
        return pln_parse_duration(text, duration) && *duration != PLN_FOREVER;
    case LIFETIME:
        return pln_parse_duration(text, duration) && *duration > 0;
    case COUNT:
        return parse_count(text, field);
    case SHARE:
        return pln_parse_share(text, field) && *(double *) field <= 0.99;
    case FACTOR:
        return parse_factor(text, field);
    case FLAG:
        return parse_flag(text, true, field);
    case FLAG_WHEN_FALSE:
        return parse_flag(text, false, field);
    }
    return false;
}

int pln_options_set(struct pln_options *options, const char *name, const char *text) {
    const char *names[N_OPTIONS + 1] = {NULL};
    for (size_t i = 0; i < N_OPTIONS; i++) {
        names[i] = table[i].name;
        if (strcmp(name, names[i]) == 0) {
            struct pln_options changed = *options;
            if (!parse(table[i].kind, text, (char *) &changed + table[i].offset)) {
                return pln_fail(PLN_EINVAL, "%s: must be %s, got '%.64s'", name,
                                kind_wants[table[i].kind], text);
            }
            *options = changed;
            return PLN_OK;
        }
    }
    const char *nearest = pln_nearest(names, name);
    return nearest == NULL
               ? pln_fail(PLN_EINVAL, "unknown option '%.64s'", name)
               : pln_fail(PLN_EINVAL, "unknown option '%.64s', did you mean '%s'?", name, nearest);
}

/* ---- defaults ---- */

static void default_ms(pln_ms *field, pln_ms value) {
    if (*field == 0) {
        *field = value;
    }
}

static void fill_defaults(struct pln_options *options, bool has_l2) {
    options->name = options->name != NULL ? options->name
                    : options->ns != NULL ? options->ns
                                          : "perilune";
    options->ns = options->ns != NULL ? options->ns : options->name;
    options->max_bytes = options->max_bytes != 0 ? options->max_bytes : (size_t) 64 << 20;
    options->max_item_bytes = options->max_item_bytes != 0 ? options->max_item_bytes
                                                           : options->max_bytes / 16;
    options->eviction = options->eviction != NULL ? options->eviction : pln_evictions[0];
    options->weigh = options->weigh != NULL ? options->weigh : pln_weighings[0];
    options->read = options->read != NULL ? options->read : pln_reads[0];
    options->on_lost_writes = options->on_lost_writes != NULL ? options->on_lost_writes
                                                              : pln_losses[0];
    if (options->compression == NULL) {
        bool has_lz4 = pln_has_compression(PLN_COMPRESSION_LZ4);
        options->compression = pln_compressions[has_lz4 ? 0 : 1];
    }
    options->codec = options->codec != NULL ? options->codec : pln_codecs[0];
    options->bus_log = options->bus_log != 0 ? options->bus_log : 10000;
    options->pool = options->pool != 0 ? options->pool : 4;
    options->bulk_pool = options->bulk_pool != 0 ? options->bulk_pool : 2;
    options->workers = options->workers != 0 ? options->workers : 2;
    options->recovery = options->recovery != 0 ? options->recovery : 10000;
    options->log = options->log != NULL ? options->log : pln_log_stderr;
    options->clock = options->clock != NULL ? options->clock : pln_clock_coarse;
    options->negative_share = options->negative_share != 0 ? options->negative_share : 0.1;
    default_ms(&options->connect_timeout_ms, 1000);
    default_ms(&options->timeout_ms, 250);
    default_ms(&options->ping_ms, 1000);
    default_ms(&options->ttl_ms, 300000);
    default_ms(&options->l1_ttl_ms, has_l2 ? 3600000 : PLN_FOREVER);
    default_ms(&options->stale_if_error_ms, options->stale_ms);
    default_ms(&options->negative_ms, 10000);
    default_ms(&options->lease_ms, 5000);
    default_ms(&options->load_timeout_ms, 10000);
    default_ms(&options->replica_ttl_ms, 1000);
    default_ms(&options->max_staleness_ms, 1000);
    default_ms(&options->l2_ttl_ms, PLN_FOREVER);
    default_ms(&options->max_age_ms, PLN_FOREVER);
    default_ms(&options->retry_ms, 1000);
    default_ms(&options->policy_budget_ms, 5);
    default_ms(&options->close_timeout_ms, 5000);
}

static int check_durations(const struct pln_options *options) {
    for (size_t i = 0; i < N_OPTIONS; i++) {
        if (table[i].kind == DURATION || table[i].kind == LIFETIME) {
            const pln_ms *field = (const void *) ((const char *) options + table[i].offset);
            if (*field < 0) {
                return pln_fail(PLN_EINVAL, "%s: must not be negative, got %lld ms", table[i].name,
                                (long long) *field);
            }
        }
    }
    return PLN_OK;
}

int pln_option_index(const char *const *names, const char *name) {
    for (int i = 0; names[i] != NULL; i++) {
        if (strcmp(names[i], name) == 0) {
            return i;
        }
    }
    return -1;
}

static int refuse_name(const char *option, const char *const *names, const char *name) {
    char list[128] = "";
    for (size_t i = 0; names[i] != NULL; i++) {
        strcat(strcat(list, i > 0 ? ", " : ""), names[i]);
    }
    return pln_fail(PLN_EINVAL, "%s: must be one of %s, got '%.64s'", option, list, name);
}

static int check_forms(const struct pln_options *options) {
    int compression = pln_option_index(pln_compressions, options->compression);
    if (compression < 0) {
        return refuse_name("compression", pln_compressions, options->compression);
    }
    /* where any is built in, one that is not was asked for */
    bool has_any = pln_has_compression(PLN_COMPRESSION_LZ4) ||
                   pln_has_compression(PLN_COMPRESSION_ZSTD);
    if (!pln_has_compression(compression + 1) && (has_any || options->compress_bytes > 0)) {
        return pln_fail(PLN_EINVAL, "compression: this build has no %s", options->compression);
    }
    return pln_option_index(pln_codecs, options->codec) < 0
               ? refuse_name("codec", pln_codecs, options->codec)
               : PLN_OK;
}

static int check(const struct pln_options *options) {
    int forms = check_forms(options);
    if (forms < 0) {
        return forms;
    }
    if (pln_option_index(pln_evictions, options->eviction) < 0) {
        return refuse_name("eviction", pln_evictions, options->eviction);
    }
    if (pln_option_index(pln_weighings, options->weigh) < 0) {
        return refuse_name("weigh", pln_weighings, options->weigh);
    }
    if (pln_option_index(pln_reads, options->read) < 0) {
        return refuse_name("read", pln_reads, options->read);
    }
    if (pln_option_index(pln_losses, options->on_lost_writes) < 0) {
        return refuse_name("on_lost_writes", pln_losses, options->on_lost_writes);
    }
    if (options->max_bytes < (size_t) 1 << 16) {
        return pln_fail(PLN_EINVAL, "max_bytes: must be at least 64k, got %zu", options->max_bytes);
    }
    if (options->max_item_bytes > options->max_bytes) {
        return pln_fail(PLN_EINVAL, "max_item_bytes: %zu is over max_bytes, %zu",
                        options->max_item_bytes, options->max_bytes);
    }
    if (options->name[0] == 0 || strlen(options->name) > 64 || strlen(options->ns) > 128) {
        return pln_fail(PLN_EINVAL, "name: must be 1 to 64 bytes, and ns at most 128");
    }
    if (!(options->jitter >= 0 && options->jitter <= 0.9)) {
        return pln_fail(PLN_EINVAL, "jitter: must be from 0 to 0.9, got %g", options->jitter);
    }
    if (options->refresh != 0 && !(options->refresh >= 0.1 && options->refresh <= 0.99)) {
        return pln_fail(PLN_EINVAL, "refresh: must be 0 or from 0.1 to 0.99, got %g",
                        options->refresh);
    }
    if (options->policy_budget_ms > 10000) {
        return pln_fail(PLN_EINVAL, "policy_budget: must be at most 10 s, got %lld ms",
                        (long long) options->policy_budget_ms);
    }
    if (!(options->negative_share >= 0.01 && options->negative_share <= 0.99)) {
        return pln_fail(PLN_EINVAL, "negative_share: must be from 0.01 to 0.99, got %g",
                        options->negative_share);
    }
    if (!(options->early >= 0 && options->early <= 10)) {
        return pln_fail(PLN_EINVAL, "early: must be from 0 to 10, got %g", options->early);
    }
    if (options->early > 0 && options->refresh > 0) {
        return pln_fail(PLN_EINVAL, "early: not with refresh, which is %g: choose one",
                        options->refresh);
    }
    if (options->sliding && (options->refresh > 0 || options->early > 0)) {
        return pln_fail(PLN_EINVAL, "sliding: not with refresh or early");
    }
    return check_durations(options);
}

int pln_options_resolve(const struct pln_options *options, bool has_l2,
                        struct pln_options *resolved) {
    *resolved = options != NULL ? *options : (struct pln_options){0};
    fill_defaults(resolved, has_l2);
    return check(resolved);
}

/* ---- keeping and comparing ---- */

static size_t size_of(enum kind kind) {
    switch (kind) {
    case TEXT:
        return sizeof(const char *);
    case SIZE:
    case AMOUNT:
        return sizeof(size_t);
    case DURATION:
    case LIFETIME:
        return sizeof(pln_ms);
    case COUNT:
        return sizeof(unsigned);
    case SHARE:
    case FACTOR:
        return sizeof(double);
    case FLAG:
    case FLAG_WHEN_FALSE:
        return sizeof(bool);
    }
    return 0;
}

static const void *field_of(const struct pln_options *options, const struct option *option) {
    return (const char *) options + option->offset;
}

static const char *text_of(const struct pln_options *options, const struct option *option) {
    return *(const char *const *) field_of(options, option);
}

int pln_options_copy(const struct pln_options *options, struct pln_options *copy) {
    int status = PLN_OK;
    *copy = *options;
    if (options->writing != NULL) {
        struct pln_write_options *writing = malloc(sizeof *writing);
        copy->writing = writing;
        if (writing != NULL) {
            *writing = *options->writing;
        } else {
            status = pln_fail(PLN_ENOMEM, "open: no memory for options");
        }
    }
    for (size_t i = 0; i < N_OPTIONS; i++) {
        if (table[i].kind == TEXT && text_of(options, &table[i]) != NULL) {
            char *text = strdup(text_of(options, &table[i]));
            *(const char **) ((char *) copy + table[i].offset) = text;
            status = text != NULL ? status : pln_fail(PLN_ENOMEM, "open: no memory for options");
        }
    }
    return status;
}

void pln_options_fini(struct pln_options *copy) {
    for (size_t i = 0; i < N_OPTIONS; i++) {
        if (table[i].kind == TEXT) {
            free((char *) (uintptr_t) text_of(copy, &table[i]));
        }
    }
    free((struct pln_write_options *) (uintptr_t) copy->writing);
    *copy = (struct pln_options){0};
}

static bool is_given(const struct pln_options *options, const struct option *option) {
    static const char zeros[sizeof(double) + sizeof(size_t)];
    return memcmp(field_of(options, option), zeros, size_of(option->kind)) != 0;
}

static bool is_equal(const struct pln_options *a, const struct pln_options *b,
                     const struct option *option) {
    if (option->kind != TEXT) {
        return memcmp(field_of(a, option), field_of(b, option), size_of(option->kind)) == 0;
    }
    const char *x = text_of(a, option), *y = text_of(b, option);
    return x == y || (x != NULL && y != NULL && strcmp(x, y) == 0);
}

/* A text for people. A password is not shown, nor what a URL has before its host or behind '?'. */
static void show_text(const struct option *option, const char *value, char *text, size_t size) {
    bool is_url = strcmp(option->name, "redis") == 0;
    const char *at = is_url && value != NULL ? strrchr(value, '@') : NULL;
    value = at != NULL ? at + 1 : value;
    if (value == NULL) {
        snprintf(text, size, "not set");
    } else if (strcmp(option->name, "password") == 0) {
        snprintf(text, size, "another one");
    } else {
        snprintf(text, size, "'%.*s'", is_url ? (int) strcspn(value, "?") : 100, value);
    }
}

static void show(const struct pln_options *options, const struct option *option, char *text,
                 size_t size) {
    const void *field = field_of(options, option);
    enum kind kind = option->kind;
    if (kind == TEXT) {
        show_text(option, text_of(options, option), text, size);
    } else if (kind == SHARE || kind == FACTOR) {
        snprintf(text, size, "%g", *(const double *) field);
    } else if (kind == COUNT) {
        snprintf(text, size, "%u", *(const unsigned *) field);
    } else if (kind == FLAG || kind == FLAG_WHEN_FALSE) {
        snprintf(text, size, "%s", *(const bool *) field == (kind == FLAG) ? "true" : "false");
    } else if (kind == SIZE || (kind == AMOUNT && *(const size_t *) field != PLN_NONE)) {
        snprintf(text, size, "%zu", *(const size_t *) field);
    } else if (kind == AMOUNT) {
        snprintf(text, size, "none");
    } else if (*(const pln_ms *) field == PLN_FOREVER) {
        snprintf(text, size, "forever");
    } else {
        snprintf(text, size, "%lld ms", (long long) *(const pln_ms *) field);
    }
}

int pln_options_compare(const struct pln_options *running, const struct pln_options *given) {
    char has[128], wants[128];
    for (size_t i = 0; i < N_OPTIONS; i++) {
        if (is_given(given, &table[i]) && !is_equal(running, given, &table[i])) {
            show(running, &table[i], has, sizeof has);
            show(given, &table[i], wants, sizeof wants);
            return pln_fail(PLN_EINVAL, "%s is %s, not %s", table[i].name, has, wants);
        }
    }
    if ((given->log != NULL && given->log != running->log) ||
        (given->clock != NULL && given->clock != running->clock)) {
        return pln_fail(PLN_EINVAL, "%s is another function",
                        given->log != NULL && given->log != running->log ? "log" : "clock");
    }
    if (given->writing != NULL && !pln_writing_equal(given->writing, running->writing)) {
        return pln_fail(PLN_EINVAL, "writing is another way");
    }
    return PLN_OK;
}
