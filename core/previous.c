/* SPDX-License-Identifier: MIT
 *
 * previous.c - what was hot before: instances save their hottest keys to a sorted set in Redis, for
 * those who start next. Only where the policy in force has the source `previous`.
 *
 * The set is the fleet's, N:hot for a namespace N. Each instance adds its keys' requests of late
 * every minute and at its end, so what is hot in many instances stands above what is hot in one. A
 * score halves in ten minutes, while anybody adds: the set says what was hot when the last instance
 * stopped, however long ago. When that was is what is left of the set's own ttl, and so no second
 * name is needed that would have to lie on the same server.
 */
#include "warm.h"

#include <stdio.h>

enum {
    SAVE_EVERY_MS = 60 * 1000,
    PART = 200, /* keys saved by one script, so that no other command waits for long */
    DEFAULT_TOP = 10000,
    HALF_LIFE_MS = 10 * 60 * 1000,
    MOST_WORDS = 3 + 2 * PART,
};

#define LIFE_MS ((int64_t) 30 * 24 * 3600 * 1000)

/* Scores are brought up to date at most twice a minute, however many add: it takes a look at the
 * whole set. */
static const struct pln_remote_script save_script = {
    "previous", "local life, half, most = tonumber(ARGV[1]), tonumber(ARGV[2]), tonumber(ARGV[3])\n"
                "local left = redis.call('PTTL', KEYS[1])\n"
                "local passed = life - left\n"
                "local is_due = left > 0 and passed >= 30000\n"
                "if is_due then\n"
                "  redis.call('ZUNIONSTORE', KEYS[1], 1, KEYS[1], 'WEIGHTS',\n"
                "             string.format('%.17g', 0.5 ^ (passed / half)))\n"
                "end\n"
                "for i = 4, #ARGV, 2 do\n"
                "  redis.call('ZINCRBY', KEYS[1], ARGV[i + 1], ARGV[i])\n"
                "end\n"
                "if is_due or left < 0 then\n"
                "  redis.call('PEXPIRE', KEYS[1], life)\n"
                "end\n"
                "redis.call('ZREMRANGEBYRANK', KEYS[1], 0, -most - 1)\n"
                "return 1\n"};

struct hot_key {
    char *bytes;
    size_t len;
    uint64_t requests;
};

struct hot_keys {
    struct hot_key *keys;
    size_t n, most;
};

int pln_previous_name(const struct pln_cache *cache, struct pln_named *name) {
    return pln_named_make(cache, ":", pln_key("hot"), "", name);
}

/* How many keys the policy wants kept; 0: it does not ask. */
static size_t wanted_by_policy(struct pln_cache *cache) {
    struct pln_ruleset *ruleset = pln_cache_policy(cache);
    size_t most = 0;
    for (size_t i = 0; i < ruleset->warm.n_sources; i++) {
        const struct pln_warm_source *source = &ruleset->warm.sources[i];
        if (source->kind == PLN_WARM_PREVIOUS) {
            size_t top = source->top != 0 ? source->top : DEFAULT_TOP;
            most = top > most ? top : most;
        }
    }
    pln_ruleset_unref(ruleset);
    return most;
}

static bool keep(void *arg, struct pln_bytes key, uint64_t requests, double share) {
    struct hot_keys *hot = arg;
    (void) share;
    if (key.len == 0 || *(const char *) key.data == 0) {
        return true; /* what the library keeps there for itself begins so, as copies of hashes */
    }
    struct hot_key *at = &hot->keys[hot->n];
    *at = (struct hot_key){.bytes = malloc(key.len), .len = key.len, .requests = requests};
    if (at->bytes == NULL) {
        return false;
    }
    memcpy(at->bytes, key.data, key.len);
    return ++hot->n < hot->most;
}

static int save_part(struct pln_cache *cache, const struct hot_key *keys, size_t n, size_t most) {
    struct pln_named name;
    char life[PLN_NAMED_NUMBER], half[PLN_NAMED_NUMBER], kept[PLN_NAMED_NUMBER];
    char scores[PART][PLN_NAMED_NUMBER];
    struct pln_bytes args[MOST_WORDS];
    struct pln_reply *reply;
    size_t n_args = 0;
    int status = pln_previous_name(cache, &name);
    if (status < 0) {
        return status;
    }
    struct pln_bytes set = pln_named_bytes(&name);
    args[n_args++] = pln_named_number(LIFE_MS, life);
    args[n_args++] = pln_named_number(HALF_LIFE_MS, half);
    args[n_args++] = pln_named_number((int64_t) most, kept);
    for (size_t i = 0; i < n; i++) {
        args[n_args++] = pln_bytes_of(keys[i].bytes, keys[i].len);
        args[n_args++] = pln_named_number((int64_t) keys[i].requests, scores[i]);
    }
    status = pln_remote_run(cache, &save_script, &set, 1, args, n_args, 0, &reply);
    if (status == PLN_OK) {
        pln_reply_free(reply);
    }
    return status;
}

/* Saves; what Redis does not take is not tried again: there is a next time, or there is none. */
static void save(struct pln_cache *cache, size_t most) {
    struct hot_keys hot = {.keys = calloc(most, sizeof *hot.keys), .most = most};
    int status = hot.keys != NULL ? pln_hottest(cache, most, keep, &hot)
                                  : pln_fail(PLN_ENOMEM, "previous: no memory");
    for (size_t i = 0; status == PLN_OK && i < hot.n; i += PART) {
        status = save_part(cache, hot.keys + i, hot.n - i < PART ? hot.n - i : PART, most);
    }
    if (status < 0) {
        pln_logf(&cache->host, PLN_LOG_INFO, "the hottest keys are not saved: %s",
                 pln_error_text());
    }
    for (size_t i = 0; i < hot.n; i++) {
        free(hot.keys[i].bytes);
    }
    free(hot.keys);
}

pln_ns pln_previous_run(struct pln_cache *cache) {
    if (!cache->has_l2) {
        return PLN_FOREVER;
    }
    pln_ns now = pln_clock_precise(), next = now + (pln_ns) SAVE_EVERY_MS * 1000000;
    /* relaxed, likewise below: the first worker's own; tests alone set it besides */
    pln_ns at = atomic_load_explicit(&cache->save_hot_at, memory_order_relaxed);
    if (at != 0 && now < at) {
        return at;
    }
    atomic_store_explicit(&cache->save_hot_at, next, memory_order_relaxed); /* relaxed: as above */
    size_t most = at != 0 ? wanted_by_policy(cache) : 0; /* at first there is nothing to save */
    if (most > 0) {
        save(cache, most);
    }
    return next;
}

void pln_previous_finish(struct pln_cache *cache) {
    bool may_know = cache->has_l2 && cache->policy != NULL && pln_is_awake(cache);
    size_t most = may_know ? wanted_by_policy(cache) : 0;
    if (most > 0) {
        save(cache, most);
    }
}
