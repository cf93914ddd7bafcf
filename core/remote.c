/* SPDX-License-Identifier: MIT
 *
 * remote.c - commands and scripts of the core's own on the cache's Redis: what is done there beside
 * the cached values.
 *
 * A script goes by its hash, and by its text where the server does not have it: after a start, a
 * SCRIPT FLUSH, a failover. The hash is worked out anew at every call (a microsecond, beside a
 * round trip of thirty and more), so that nothing has to be remembered, per server or at all.
 */
#include "engine.h"

#include <stdio.h>

enum { BLOCK = 64, FEW_WORDS = 64 };

/* ---- SHA-1, which is how Redis names scripts; nothing is kept safe by it ---- */

static uint32_t turn(uint32_t word, unsigned n) {
    return word << n | word >> (32 - n);
}

static void mix(uint32_t state[5], const uint8_t *block) {
    static const uint32_t constants[] = {0x5a827999, 0x6ed9eba1, 0x8f1bbcdc, 0xca62c1d6};
    uint32_t words[80];
    uint32_t a = state[0], b = state[1], c = state[2], d = state[3], e = state[4];
    for (size_t i = 0; i < 80; i++) {
        const uint8_t *at = block + 4 * i;
        words[i] = i < 16 ? (uint32_t) at[0] << 24 | (uint32_t) at[1] << 16 |
                                (uint32_t) at[2] << 8 | at[3]
                          : turn(words[i - 3] ^ words[i - 8] ^ words[i - 14] ^ words[i - 16], 1);
        uint32_t f = i < 20   ? (b & c) | (~b & d)
                     : i < 40 ? b ^ c ^ d
                     : i < 60 ? (b & c) | (b & d) | (c & d)
                              : b ^ c ^ d;
        uint32_t sum = turn(a, 5) + f + e + constants[i / 20] + words[i];
        e = d;
        d = c;
        c = turn(b, 30);
        b = a;
        a = sum;
    }
    state[0] += a;
    state[1] += b;
    state[2] += c;
    state[3] += d;
    state[4] += e;
}

void pln_remote_hash(struct pln_bytes text, char hash[PLN_REMOTE_HASH]) {
    uint32_t state[5] = {0x67452301, 0xefcdab89, 0x98badcfe, 0x10325476, 0xc3d2e1f0};
    const uint8_t *bytes = text.data;
    uint8_t last[2 * BLOCK] = {0};
    size_t n_whole = text.len / BLOCK * BLOCK, rest = text.len - n_whole;
    size_t n_last = rest < BLOCK - 8 ? BLOCK : 2 * BLOCK;
    for (size_t i = 0; i < n_whole; i += BLOCK) {
        mix(state, bytes + i);
    }
    if (rest > 0) {
        memcpy(last, bytes + n_whole, rest);
    }
    last[rest] = 0x80;
    for (size_t i = 0; i < 8; i++) {
        last[n_last - 1 - i] = (uint8_t) ((uint64_t) text.len * 8 >> 8 * i);
    }
    for (size_t i = 0; i < n_last; i += BLOCK) {
        mix(state, last + i);
    }
    snprintf(hash, PLN_REMOTE_HASH, "%08x%08x%08x%08x%08x", state[0], state[1], state[2], state[3],
             state[4]);
}

/* ---- commands ---- */

static int no_redis(const char *what) {
    return pln_fail(PLN_EL2DOWN, "%s: this cache has no Redis", what);
}

static pln_ns deadline_of(const struct pln_cache *cache, pln_ms timeout_ms) {
    return pln_deadline(timeout_ms > 0 ? timeout_ms : cache->timeout_ms);
}

int pln_remote_command(struct pln_cache *cache, const struct pln_bytes *key,
                       const struct pln_bytes *args, size_t n_args, pln_ms timeout_ms,
                       struct pln_reply **reply) {
    if (n_args == 0) {
        return pln_fail(PLN_EINVAL, "command: empty");
    }
    return cache->l2 == NULL ? no_redis("command")
                             : pln_l2_command(cache->l2, key, args, n_args,
                                              deadline_of(cache, timeout_ms), reply);
}

int pln_remote_run_on(struct pln_l2 *l2, const struct pln_remote_script *script,
                      const struct pln_bytes *keys, size_t n_keys, const struct pln_bytes *args,
                      size_t n_args, pln_ns deadline, struct pln_reply **reply) {
    struct pln_bytes few[FEW_WORDS], *many = NULL, *words = few;
    char hash[PLN_REMOTE_HASH], count[24];
    size_t n = 3;
    if (3 + n_keys + n_args > FEW_WORDS) {
        words = many = malloc((3 + n_keys + n_args) * sizeof *words);
        if (words == NULL) {
            return pln_fail(PLN_ENOMEM, "%s: no memory for %zu arguments", script->name, n_args);
        }
    }
    pln_remote_hash(pln_key(script->text), hash);
    snprintf(count, sizeof count, "%zu", n_keys);
    words[0] = pln_key("EVALSHA");
    words[1] = pln_key(hash);
    words[2] = pln_key(count);
    for (size_t i = 0; i < n_keys; i++) {
        words[n++] = keys[i];
    }
    for (size_t i = 0; i < n_args; i++) {
        words[n++] = args[i];
    }
    const struct pln_bytes *key = n_keys > 0 ? keys : NULL;
    int status = pln_l2_command(l2, key, words, n, deadline, reply);
    /* the server's words come last, after "EVALSHA: "; a failure inside a script begins otherwise
     */
    if (status == PLN_EL2 && strstr(pln_error_text(), "EVALSHA: NOSCRIPT") != NULL) {
        words[0] = pln_key("EVAL");
        words[1] = pln_key(script->text);
        status = pln_l2_command(l2, key, words, n, deadline, reply);
    }
    free(many);
    return status;
}

int pln_remote_run(struct pln_cache *cache, const struct pln_remote_script *script,
                   const struct pln_bytes *keys, size_t n_keys, const struct pln_bytes *args,
                   size_t n_args, pln_ms timeout_ms, struct pln_reply **reply) {
    return cache->l2 == NULL ? no_redis(script->name)
                             : pln_remote_run_on(cache->l2, script, keys, n_keys, args, n_args,
                                                 deadline_of(cache, timeout_ms), reply);
}
