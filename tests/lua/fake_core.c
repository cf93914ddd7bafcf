/* SPDX-License-Identifier: MIT
 * fake_core.c - see fake_core.h. */
#include "fake_core.h"

#include <check.h>
#include <stdio.h>
#include <unistd.h>

static pln_ms fake_now(void *arg) {
    return ((struct pln_cache *) arg)->now;
}

static void fake_log(void *arg, int level, const char *line) {
    struct pln_cache *cache = arg;
    cache->n_logs++;
    cache->last_level = level;
    snprintf(cache->last_log, sizeof cache->last_log, "%s", line);
}

void fake_open(struct pln_cache *cache) {
    *cache = (struct pln_cache){
        .host = {fake_now, cache, fake_log, cache, "test"},
        .terms = {.ttl_ms = 300000,
                  .l1_ttl_ms = 3600000,
                  .negative_ms = 10000,
                  .lease_ms = 5000,
                  .load_timeout_ms = 10000,
                  .replica_ttl_ms = 1000,
                  .max_staleness_ms = 1000,
                  .read = PLN_READ_PRIMARY,
                  .use_l1 = true,
                  .use_l2 = true,
                  .l2_ttl_ms = PLN_FOREVER,
                  .max_age_ms = PLN_FOREVER,
                  .retry_ms = 1000,
                  .compression = PLN_COMPRESSION_LZ4,
                  .codec = PLN_CODEC_MSGPACK},
        .ruleset = pln_ruleset_new(),
        .folder = "/tmp/perilune-XXXXXX",
    };
    ck_assert_ptr_nonnull(mkdtemp(cache->folder));
    snprintf(cache->path, sizeof cache->path, "%s/policy.lua", cache->folder);
}

void fake_close(struct pln_cache *cache) {
    pln_ruleset_unref(cache->ruleset);
    unlink(cache->path);
    rmdir(cache->folder);
}

void fake_write(const struct pln_cache *cache, const char *text, size_t len) {
    FILE *file = fopen(cache->path, "w");
    ck_assert_ptr_nonnull(file);
    ck_assert_uint_eq(fwrite(text, 1, len, file), len);
    fclose(file);
}

int fake_load_text(struct pln_cache *cache, const char *text, uint32_t flags) {
    fake_write(cache, text, strlen(text));
    return pln_load_policy(cache, cache->path, flags);
}

void fake_empty(struct pln_load *load) {
    free((void *) load->value.data);
    *load = (struct pln_load){.n_tags = 0};
}

int fake_load_key(struct pln_cache *cache, unsigned worker, const char *key,
                  struct pln_load *load) {
    struct pln_match match;
    fake_empty(load);
    load->cache = cache;
    pln_ruleset_match(cache->ruleset, pln_key(key), &match);
    ck_assert_ptr_nonnull(match.rule);
    return cache->ruleset->hooks.load(cache->ruleset->hooks_arg, worker, &match, pln_key(key),
                                      load);
}

int fake_shape_key(struct pln_cache *cache, const char *key, struct pln_bytes value, uint8_t format,
                   struct pln_load *load) {
    struct pln_match match;
    fake_empty(load);
    pln_ruleset_match(cache->ruleset, pln_key(key), &match);
    ck_assert_ptr_nonnull(match.rule);
    return cache->ruleset->hooks.shape(cache->ruleset->hooks_arg, 0, &match, pln_key(key), value,
                                       format, load);
}

/* ---- what policy.h and perilune.h say of the core ---- */

void pln_cache_set_policy_take(struct pln_cache *cache, struct pln_ruleset *ruleset) {
    pln_ruleset_unref(cache->ruleset);
    cache->ruleset = ruleset;
}

const struct pln_terms *pln_cache_terms(const struct pln_cache *cache) {
    return &cache->terms;
}

const struct pln_host *pln_cache_host(const struct pln_cache *cache) {
    return &cache->host;
}

unsigned pln_cache_workers(const struct pln_cache *cache) {
    (void) cache;
    return FAKE_WORKERS;
}

unsigned pln_cache_numbers(const struct pln_cache *cache) {
    return pln_cache_workers(cache);
}

int pln_cache_check_policy(struct pln_cache *cache, const struct pln_ruleset *ruleset) {
    (void) cache;
    (void) ruleset;
    return PLN_OK;
}

pln_ms pln_cache_policy_budget(const struct pln_cache *cache) {
    (void) cache;
    return 5;
}

void pln_cache_policy_failed(struct pln_cache *cache) {
    cache->n_failures++;
}

void pln_cache_policy_refused(struct pln_cache *cache) {
    cache->n_refused++;
}

void pln_cache_policy_count(struct pln_cache *cache, enum pln_count which) {
    cache->counts[which]++;
}

int pln_load_value(struct pln_load *load, struct pln_bytes value, uint8_t format) {
    char *copy = malloc(value.len + 1);
    ck_assert_ptr_nonnull(copy);
    memcpy(copy, value.data, value.len);
    copy[value.len] = 0;
    load->value = pln_bytes_of(copy, value.len);
    load->format = format;
    return PLN_OK;
}

struct pln_bytes pln_load_peek(const struct pln_load *load, uint8_t *format) {
    *format = load->format;
    return load->value;
}

struct pln_bytes pln_load_old(const struct pln_load *load, uint8_t *format) {
    *format = load->cache->old_format;
    return load->cache->old == NULL ? pln_bytes_of(NULL, 0) : pln_key(load->cache->old);
}

int pln_load_same(struct pln_load *load) {
    if (load->cache->old == NULL) {
        return pln_fail(PLN_EINVAL, "no old value");
    }
    load->is_same = true;
    return pln_load_value(load, pln_key(load->cache->old), load->cache->old_format);
}

int pln_cache_load_by_name(struct pln_cache *cache, const char *name, struct pln_bytes key,
                           struct pln_load *load, bool *has_ttl) {
    (void) cache;
    (void) has_ttl;
    ck_assert_str_eq(name, "echo");
    return pln_load_value(load, key, 0);
}

int pln_shared_add(struct pln_cache *cache, struct pln_bytes name, int64_t by, int64_t *sum) {
    (void) name;
    *sum = cache->shared += by;
    return PLN_OK;
}

int pln_shared_get(struct pln_cache *cache, struct pln_bytes name, int64_t *number) {
    return pln_shared_add(cache, name, 0, number);
}

int pln_shared_set(struct pln_cache *cache, struct pln_bytes name, int64_t number) {
    return pln_shared_add(cache, name, number - cache->shared, &number);
}

int pln_raised_key(struct pln_raised *raised, struct pln_bytes key) {
    (void) raised;
    (void) key;
    return PLN_OK;
}

int pln_raised_tag(struct pln_raised *raised, struct pln_bytes tag) {
    return pln_raised_key(raised, tag);
}

int pln_raised_match(struct pln_raised *raised, struct pln_bytes pattern) {
    return pln_raised_key(raised, pattern);
}

void pln_load_ttl(struct pln_load *load, pln_ms ttl_ms) {
    load->has_ttl = true;
    load->ttl_ms = ttl_ms;
}

static void join(char *list, struct pln_bytes item) {
    size_t at = strlen(list);
    snprintf(list + at, 1024 - at, "%.*s,", (int) item.len, (const char *) item.data);
}

int pln_load_tag(struct pln_load *load, struct pln_bytes tag) {
    load->n_tags++;
    join(load->tags, tag);
    return PLN_OK;
}

int pln_load_related(struct pln_load *load, struct pln_bytes key) {
    load->n_related++;
    join(load->related, key);
    return PLN_OK;
}

void fake_load_good(struct pln_cache *cache, const char *policy) {
    ck_assert_msg(fake_load_text(cache, policy, 0) == PLN_OK, "%s", pln_error_text());
}

void fake_expect_refusal(struct pln_cache *cache, const char *policy, const char *text) {
    int status = fake_load_text(cache, policy, 0);
    ck_assert_msg(status == PLN_EPOLICY, "%s gave %d", policy, status);
    ck_assert_msg(strcmp(pln_error_text(), text) == 0, "%s\n got: %s\nnot: %s", policy,
                  pln_error_text(), text);
}

const struct pln_rule *fake_rule_of(const struct pln_cache *cache, const char *key) {
    struct pln_match match;
    pln_ruleset_match(cache->ruleset, pln_key(key), &match);
    ck_assert_msg(match.rule != NULL, "no rule for %s", key);
    return match.rule;
}
