/* SPDX-License-Identifier: MIT
 * fake_core.h - as much of a cache as a policy sees: terms, host, one ruleset, and loads that
 * remember what was put into them. */
#ifndef FAKE_CORE_H
#define FAKE_CORE_H

#include "../../core/policy.h"

enum { FAKE_WORKERS = 4 };

struct pln_cache {
    struct pln_host host;
    struct pln_terms terms;
    struct pln_ruleset *ruleset;
    int64_t shared; /* the number behind every name */
    pln_ms now;
    int n_failures;           /* pln_cache_policy_failed() */
    int n_refused;            /* pln_cache_policy_refused() */
    int counts[PLN_N_COUNTS]; /* pln_cache_policy_count() */
    int n_logs;
    int last_level;
    char last_log[700];
    const char *old; /* value of what is loaded, or NULL */
    uint8_t old_format;
    char folder[32]; /* with policy.lua in it */
    char path[64];
};

struct pln_load {
    const struct pln_cache *cache;
    struct pln_bytes value;
    uint8_t format;
    bool has_ttl;
    bool is_same; /* pln_load_same() was called */
    pln_ms ttl_ms;
    size_t n_tags, n_related;
    char tags[1024]; /* "a,b," */
    char related[1024];
};

void fake_open(struct pln_cache *cache);
void fake_close(struct pln_cache *cache);
/* Writes the text to the cache's policy.lua. */
void fake_write(const struct pln_cache *cache, const char *text, size_t len);
/* Writes and loads it. */
int fake_load_text(struct pln_cache *cache, const char *text, uint32_t flags);
/* Runs the hook for a key's rule; the load is emptied first. */
int fake_load_key(struct pln_cache *cache, unsigned worker, const char *key, struct pln_load *load);
int fake_shape_key(struct pln_cache *cache, const char *key, struct pln_bytes value, uint8_t format,
                   struct pln_load *load);
void fake_empty(struct pln_load *load);

/* The policy is right; or it is refused, with this text to the letter. */
void fake_load_good(struct pln_cache *cache, const char *policy);
void fake_expect_refusal(struct pln_cache *cache, const char *policy, const char *text);
/* The rule that a key has, which there is. */
const struct pln_rule *fake_rule_of(const struct pln_cache *cache, const char *key);

#endif
