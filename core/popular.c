/* SPDX-License-Identifier: MIT
 *
 * popular.c - popular keys that are loaded anew without a request: the field `keep_hot`.
 *
 * Once a second the first worker looks at the keys that L1 counts as its hottest. Where the rule of
 * one wants it, and its refresh point comes before the next look, it is loaded behind, as by a hit.
 * That goes on until no request has come for as long as the rule says: L1's count, which is of a
 * sample of the hits, has not risen since. Then the key is left to its ttl, like any other.
 */
#include "engine.h"

enum {
    MOST = 512, /* keys looked at */
    LOOK_EVERY_MS = 1000,
};

/* What was known of a key at the last look. */
struct pln_popular_key {
    uint64_t hash, requests;
    pln_ms seen; /* when the count was last found to have risen */
};

/* A key found by a look. */
struct found {
    struct pln_hashed key; /* its bytes are a copy */
    const struct pln_terms *terms;
    uint64_t requests;
};

struct look {
    struct pln_cache *cache;
    struct pln_ruleset *ruleset;
    size_t n;
    struct found found[MOST];
};

static bool is_wanted(const struct pln_rule *rule) {
    return rule->terms.keep_hot_ms > 0 && (rule->hooks & PLN_RULE_LOAD) != 0;
}

static bool find(void *arg, struct pln_bytes key, const struct pln_l1_hot *hot) {
    struct look *look = arg;
    struct pln_match match;
    if (*(const char *) key.data == 0) {
        return true; /* a copy of a structure in Redis (hash.c): no loader knows it */
    }
    pln_ruleset_match(look->ruleset, key, &match);
    void *copy = match.rule != NULL && is_wanted(match.rule) ? malloc(key.len + 1) : NULL;
    if (copy != NULL) {
        memcpy(copy, key.data, key.len);
        look->found[look->n++] = (struct found){
            {pln_bytes_of(copy, key.len), pln_hash(key, look->cache->seed)},
            &match.rule->terms,
            hot->requests};
    }
    return look->n < MOST;
}

static const struct pln_popular_key *known(const struct pln_popular *popular, uint64_t hash) {
    for (size_t i = 0; i < popular->n; i++) {
        if (popular->keys[i].hash == hash) {
            return &popular->keys[i];
        }
    }
    return NULL;
}

static void refresh(struct pln_cache *cache, const struct found *found, pln_ms now) {
    struct pln_l1_hit hit;
    if (pln_l1_get(cache->l1, &found->key, now, PLN_L1_QUIET, NULL, 0, &hit) == PLN_OK &&
        !hit.is_absent && now + LOOK_EVERY_MS >= hit.life.refresh &&
        !pln_failed_lately(cache, &found->key, now) &&
        pln_l1_claim_refresh(cache->l1, &found->key)) {
        pln_count(cache->counts, PLN_COUNT_HOT_REFRESHES, 1);
        pln_fill_behind(cache, &found->key, hit.life.created);
    }
}

/* Compares what was found with what was known, which it becomes. */
static void act_locked(struct pln_popular *popular, const struct look *look, pln_ms now) {
    struct pln_popular_key *keys = malloc(MOST * sizeof *keys);
    if (keys == NULL) {
        return; /* the next look will do */
    }
    for (size_t i = 0; i < look->n; i++) {
        const struct found *found = &look->found[i];
        const struct pln_popular_key *before = known(popular, found->key.hash);
        bool has_risen = before == NULL || found->requests > before->requests;
        keys[i] = (struct pln_popular_key){found->key.hash, found->requests,
                                           has_risen ? now : before->seen};
        if (now - keys[i].seen < found->terms->keep_hot_ms) {
            refresh(look->cache, found, now);
        }
    }
    struct pln_popular_key *former = popular->keys;
    popular->keys = keys; /* first: a child that is forked here frees what it finds */
    popular->n = look->n;
    free(former);
}

void pln_popular_run(struct pln_cache *cache) {
    struct look *look = NULL;
    struct pln_ruleset *ruleset = pln_cache_policy(cache);
    pln_ms now = pln_now(&cache->host);
    size_t i = 0;
    while (i < ruleset->n_rules && !is_wanted(&ruleset->rules[i])) {
        i++;
    }
    if (i < ruleset->n_rules && (look = malloc(sizeof *look)) != NULL) {
        look->cache = cache;
        look->ruleset = ruleset;
        look->n = 0;
        (void) pln_l1_hottest(cache->l1, now, MOST, find, look); /* without memory: next time */
        pthread_mutex_lock(&cache->popular.lock);
        act_locked(&cache->popular, look, now);
        pthread_mutex_unlock(&cache->popular.lock);
        for (size_t k = 0; k < look->n; k++) {
            free((void *) look->found[k].key.key.data);
        }
    }
    free(look);
    pln_ruleset_unref(ruleset);
}

void pln_popular_fini(struct pln_popular *popular) {
    free(popular->keys);
    popular->keys = NULL;
    popular->n = 0;
}

void pln_popular_after_fork(struct pln_popular *popular) {
    pthread_mutex_init(&popular->lock, NULL);
    popular->keys = NULL;
    popular->n = 0;
}
