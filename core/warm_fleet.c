/* SPDX-License-Identifier: MIT
 *
 * warm_fleet.c - of several instances that warm the same lists at once, one loads.
 *
 * They meet at a hash in Redis, N:w:DIGEST for a namespace N, the digest being that of what names
 * the keys. It has the leader's token and how far the leader is, and ends by itself some seconds
 * after the leader was last heard of: then the first to ask is the next one. Nothing depends on
 * there being one leader only, since a key is loaded under its own lease as ever: two would do
 * work twice, and that only for keys on which they do not meet.
 */
#include "warm.h"

#include <stdio.h>

enum { LEAD_MS = 5000 };

/* Answers 1 and what was given to the leader, 0 and how far the leader is to the others. */
static const struct pln_remote_script meet_script = {
    "warm", "local token = redis.call('HGET', KEYS[1], 'token')\n"
            "if token and token ~= ARGV[1] then\n"
            "  return {0, tonumber(redis.call('HGET', KEYS[1], 'done')) or 0}\n"
            "end\n"
            "redis.call('HSET', KEYS[1], 'token', ARGV[1], 'done', ARGV[2])\n"
            "redis.call('PEXPIRE', KEYS[1], ARGV[3])\n"
            "return {1, tonumber(ARGV[2])}\n"};

static const struct pln_remote_script leave_script = {
    "warm", "if redis.call('HGET', KEYS[1], 'token') == ARGV[1] then\n"
            "  return redis.call('DEL', KEYS[1])\n"
            "end\n"
            "return 0\n"};

static uint64_t mix(uint64_t digest, struct pln_bytes bytes) {
    return pln_hash(bytes, digest + 1);
}

static uint64_t mix_keys(uint64_t digest, const struct pln_bytes *keys, size_t n) {
    for (size_t i = 0; i < n; i++) {
        digest = mix(digest, keys[i]);
    }
    return digest;
}

static uint64_t digest_of(const struct pln_ruleset *ruleset,
                          const struct pln_warm_options *options) {
    char numbers[80];
    uint64_t digest = mix_keys(options->top, options->keys, options->n_keys);
    if (options->n_keys > 0 || options->file != NULL) {
        return mix(digest, pln_key(options->file != NULL ? options->file : ""));
    }
    for (size_t i = 0; i < ruleset->warm.n_sources; i++) {
        const struct pln_warm_source *source = &ruleset->warm.sources[i];
        snprintf(numbers, sizeof numbers, "%d %d %zu %u", source->kind, source->priority,
                 source->top, source->function);
        digest = mix(digest, pln_key(numbers));
        digest = mix(digest, pln_key(source->name != NULL ? source->name : ""));
        digest = mix_keys(digest, source->keys, source->n_keys);
    }
    return digest;
}

void pln_warm_fleet_init(struct pln_warm_fleet *fleet, struct pln_cache *cache,
                         const struct pln_ruleset *ruleset,
                         const struct pln_warm_options *options) {
    char digest[24];
    *fleet = (struct pln_warm_fleet){.cache = cache};
    snprintf(digest, sizeof digest, "%016llx", (unsigned long long) digest_of(ruleset, options));
    snprintf(fleet->token, sizeof fleet->token, "%016llx%016llx",
             (unsigned long long) pln_random64(), (unsigned long long) pln_random64());
    fleet->is_alone = !cache->has_l2 || (options->flags & PLN_WARM_ALONE) != 0 ||
                      pln_named_make(cache, ":w:", pln_key(digest), "", &fleet->name) < 0;
    fleet->is_leading = fleet->is_alone;
}

void pln_warm_fleet_meet(struct pln_warm_fleet *fleet, size_t *done) {
    char count[PLN_NAMED_NUMBER], life[PLN_NAMED_NUMBER];
    int64_t numbers[2];
    struct pln_reply *reply;
    if (fleet->is_alone) {
        return;
    }
    struct pln_bytes name = pln_named_bytes(&fleet->name);
    struct pln_bytes args[] = {pln_key(fleet->token), pln_named_number((int64_t) *done, count),
                               pln_named_number(LEAD_MS, life)};
    int status = pln_remote_run(fleet->cache, &meet_script, &name, 1, args, PLN_ARRAY_LEN(args), 0,
                                &reply);
    if (status == PLN_OK) {
        status = pln_named_integers(reply, "warm", numbers, 2);
        pln_reply_free(reply);
    }
    if (status != PLN_OK) {
        fleet->is_leading = true; /* where nobody can be met, each is for itself */
        return;
    }
    fleet->is_leading = numbers[0] == 1;
    *done = numbers[1] > 0 ? (size_t) numbers[1] : 0;
}

void pln_warm_fleet_leave(struct pln_warm_fleet *fleet) {
    struct pln_reply *reply;
    if (fleet->is_alone || !fleet->is_leading) {
        return;
    }
    struct pln_bytes name = pln_named_bytes(&fleet->name), token = pln_key(fleet->token);
    /* should this fail the lead ends by itself */
    if (pln_remote_run(fleet->cache, &leave_script, &name, 1, &token, 1, 0, &reply) == PLN_OK) {
        pln_reply_free(reply);
    }
}
