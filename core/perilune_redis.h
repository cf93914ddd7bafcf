/* SPDX-License-Identifier: MIT
 *
 * perilune_redis.h - what Redis keeps for all processes beside the cache; a part of perilune.h,
 * which includes it.
 */
#ifndef PERILUNE_REDIS_H
#define PERILUNE_REDIS_H

#include "perilune.h"

#ifdef __cplusplus
extern "C" {
#endif

/* ---- locks ---- */

/* A lock kept in Redis, for all processes. It ends by itself after its ttl, so that a holder that
 * died holds up nobody for longer; and so a holder that was stopped for longer than that goes on
 * beside the next one. What may not be done twice must be told the fence and refuse a smaller one.
 * Names, here and below, have 1 to 512 bytes. Without Redis: PLN_EL2DOWN. */
struct pln_lock;       /* opaque: a lock that is held; used by one thread at a time */
struct pln_lock_nodes; /* opaque: independent servers that keep locks together (Redlock) */

/* Opens clients of n servers, 1 to 15, better an odd number, none a replica of another: locks over
 * them hold while most are up. A server that takes longer than timeout_ms (default 50; never over
 * a tenth of the ttl) is passed over. Returns: PLN_OK, PLN_EINVAL. Threads: any. */
PLN_API int pln_lock_nodes_new(const char *const *urls, size_t n, pln_ms timeout_ms,
                               struct pln_lock_nodes **nodes);
PLN_API void pln_lock_nodes_free(struct pln_lock_nodes *nodes); /* after the locks over them */

struct pln_lock_options {
    pln_ms ttl_ms;                /* default 10 s */
    pln_ms wait_ms;               /* default 0: one try */
    pln_ms retry_ms;              /* longest pause between tries; default 100 */
    struct pln_lock_nodes *nodes; /* default: the cache's Redis keeps it */
};

/* Takes a lock. Returns: PLN_OK; PLN_PENDING where another has it, at most for *held_ms more (may
 * be NULL); PLN_EL2DOWN, PLN_ETIMEOUT. Owns: pln_unlock() or pln_lock_free() it before the cache
 * is closed. Threads: any, waits until wait_ms is over. */
PLN_API int pln_lock(struct pln_cache *cache, struct pln_bytes name,
                     const struct pln_lock_options *options, pln_ms *held_ms,
                     struct pln_lock **lock);
/* A new ttl from now; 0: the former. Returns: PLN_OK, PLN_MISS (it is lost). */
PLN_API int pln_lock_extend(struct pln_lock *lock, pln_ms ttl_ms);
/* Ends and frees it. Returns: PLN_OK; PLN_MISS where it had ended before. */
PLN_API int pln_unlock(struct pln_lock *lock);
PLN_API void pln_lock_free(struct pln_lock *lock); /* without ending it; NULL is allowed */
/* A number that grows with every grant of the name; and how long it is sure to be held yet. */
PLN_API int64_t pln_lock_fence(const struct pln_lock *lock);
PLN_API pln_ms pln_lock_left(const struct pln_lock *lock);

/* ---- counters and limits ---- */

/* Adds to a counter in Redis, exact for all processes. A ttl begins with the first addition; 0: it
 * stays. Returns: PLN_OK, PLN_EL2 (an overflow, or no counter). */
PLN_API int pln_counter_add(struct pln_cache *cache, struct pln_bytes name, int64_t by,
                            pln_ms ttl_ms, int64_t *value);
PLN_API int pln_counter_get(struct pln_cache *cache, struct pln_bytes name, int64_t *value);
PLN_API int pln_counter_reset(struct pln_cache *cache, struct pln_bytes name);

enum pln_limit_kind {
    PLN_LIMIT_FIXED = 0, /* so many from the first request on, for so long; then anew */
    PLN_LIMIT_SLIDING,   /* this window and the last one, by its share: smooth, and an estimate */
    PLN_LIMIT_LOG,       /* in no span longer than `per` more: exact, memory for each request */
    PLN_LIMIT_BUCKET,    /* refills steadily, and holds `burst` */
};

enum pln_limit_away { PLN_LIMIT_FAIL = 0, PLN_LIMIT_ALLOW, PLN_LIMIT_DENY };

struct pln_limit_options {
    int64_t rate;    /* so many, 1 to 10^9 (PLN_LIMIT_LOG: to 10,000), */
    pln_ms per_ms;   /* in so long; default 1 s */
    int64_t burst;   /* of a bucket; default: rate */
    int64_t cost;    /* of this request; default 1 */
    uint8_t kind;    /* enum pln_limit_kind */
    uint8_t on_away; /* what holds while Redis cannot be asked; enum pln_limit_away */
    pln_ms timeout_ms;
};

struct pln_limit_result {
    bool is_allowed;
    bool is_guess;     /* Redis could not be asked: on_away's answer */
    int64_t remaining; /* so many of cost 1 would be allowed now */
    pln_ms retry_ms;   /* after so long this one would be; 0 where it is */
    pln_ms reset_ms;   /* after so long without requests it is as if there had been none */
};

/* Counts a request, if the limit allows it, by the server's clock. PLN_OK in either case. */
PLN_API int pln_limit(struct pln_cache *cache, struct pln_bytes name,
                      const struct pln_limit_options *options, struct pln_limit_result *result);

/* ---- sessions ---- */

enum { PLN_SESSION_ID = 44 }; /* 256 random bits as text, and a zero */

struct pln_session_options {
    pln_ms ttl_ms; /* default 30 min */
    bool is_fixed; /* it ends then, used or not; else each use gives it a new ttl */
};

struct pln_session { /* what is known of one */
    char id[PLN_SESSION_ID];
    struct pln_value *user, *data; /* for pln_release(); of pln_session_of(): NULL */
    uint8_t format;                /* of the data */
    pln_ms created_ms, seen_ms;    /* ago; seen to a tenth of the ttl */
    pln_ms left_ms;
};

/* Begins a session of a user; an empty one has no list. */
PLN_API int pln_session_create(struct pln_cache *cache, const struct pln_session_options *options,
                               struct pln_bytes user, struct pln_bytes data, uint8_t format,
                               char id[PLN_SESSION_ID]);
/* Reads one, always from Redis: what was ended is gone at once. PLN_MISS, here and below: there is
 * none. */
PLN_API int pln_session_get(struct pln_cache *cache, const struct pln_session_options *options,
                            struct pln_bytes id, struct pln_session *session);
PLN_API int pln_session_update(struct pln_cache *cache, struct pln_bytes id, struct pln_bytes data,
                               uint8_t format);
PLN_API int pln_session_destroy(struct pln_cache *cache, struct pln_bytes id);
/* Visits a user's sessions, in no order, until `visit` returns false. */
typedef bool (*pln_session_visit)(void *arg, const struct pln_session *session);
PLN_API int pln_session_of(struct pln_cache *cache, struct pln_bytes user, pln_session_visit visit,
                           void *arg);
/* Ends all sessions of a user that were begun before the call; *n is their number. */
PLN_API int pln_session_destroy_all(struct pln_cache *cache, struct pln_bytes user, size_t *n);

#ifdef __cplusplus
}
#endif

#endif
