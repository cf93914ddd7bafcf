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

/* ---- the rest of Redis ----
 *
 * Beside values a cache has Redis's data structures: hashes, sorted sets, sets, lists, streams. One
 * named NAME is the key "N:d:NAME" in Redis, N being the namespace; the rule that matches NAME says
 * how long it lives, as it does for keys. They live in Redis alone, but for hashes whose rule says
 * hash_l1. Tags, loaders and pln_clear() are not for them. Without the option `redis` all of these
 * functions fail with PLN_EL2DOWN. */

/* What Redis answered: a tree. The root is its receiver's, for pln_answer_free(); what
 * pln_answer_at() gives lives as long as its root. */
struct pln_answer;

enum pln_answer_kind {
    PLN_ANSWER_NIL,
    PLN_ANSWER_INTEGER,
    PLN_ANSWER_STRING,  /* also "OK" and the like */
    PLN_ANSWER_ARRAY,   /* also sets; of maps keys and values in turn */
    PLN_ANSWER_NUMBER,  /* a double of RESP3; over RESP2 these are strings, of the same text */
    PLN_ANSWER_BOOLEAN, /* likewise; over RESP2 integers */
    PLN_ANSWER_ERROR,   /* inside of arrays only */
};

PLN_API int pln_answer_kind(const struct pln_answer *answer);        /* of NULL: NIL */
PLN_API int64_t pln_answer_integer(const struct pln_answer *answer); /* INTEGER, BOOLEAN */
PLN_API double pln_answer_number(const struct pln_answer *answer);   /* NUMBER */
/* STRING, ERROR, and a NUMBER's text; a zero byte follows. */
PLN_API struct pln_bytes pln_answer_bytes(const struct pln_answer *answer);
/* How many elements an ARRAY has, and the i-th, NULL past the last. */
PLN_API size_t pln_answer_len(const struct pln_answer *answer);
PLN_API const struct pln_answer *pln_answer_at(const struct pln_answer *answer, size_t i);
PLN_API void pln_answer_free(struct pln_answer *answer); /* a root; NULL is allowed */

/* Connections speak RESP3 where the server and the hiredis that the library was built with do. An
 * answer has the shape of RESP2 all the same (scores after their members in one ARRAY, of XREAD a
 * list of pairs); only NUMBER and BOOLEAN come by RESP3 alone. */

/* Sends any command, its name first, and takes names as they are, without the namespace. `key` says
 * which server of several it is for; NULL: the command's first key, which is known of Redis's own
 * commands. Refused are those that would block or change a connection, since callers share them
 * (BLPOP, SUBSCRIBE, MULTI, SELECT, ...). timeout_ms 0: the cache's.
 * Returns: PLN_OK; PLN_EINVAL (refused, and what to use instead), PLN_EL2 in the server's words,
 * PLN_EL2DOWN, PLN_ETIMEOUT: it may have happened. Threads: any, waits until the timeout. */
PLN_API int pln_command(struct pln_cache *cache, const struct pln_bytes *key,
                        const struct pln_bytes *args, size_t n_args, pln_ms timeout_ms,
                        struct pln_answer **answer);

struct pln_data_options {
    pln_ms ttl_ms;     /* of writes: its life from this call on, PLN_FOREVER allowed; default: the
                          rule's ttl from the write that makes it */
    pln_ms timeout_ms; /* default: the cache's */
};

/* Runs a command on the structure `name`. args[0] is the command ("ZADD"), the others what follows
 * the key in it. Taken are commands with one key that follows their name, of these structures, and
 * DEL, UNLINK, PEXPIRE, PERSIST, PTTL, TYPE, EXISTS. A write and its ttl are one step of Redis.
 * Returns: as pln_command(). */
PLN_API int pln_data(struct pln_cache *cache, struct pln_bytes name, const struct pln_bytes *args,
                     size_t n_args, const struct pln_data_options *options,
                     struct pln_answer **answer);

/* Writes the name that a structure has in Redis, for pln_command(); no zero follows it.
 * Returns: PLN_OK, PLN_TRUNCATED; PLN_EINVAL. */
PLN_API int pln_data_name(struct pln_cache *cache, struct pln_bytes name, char *buffer, size_t size,
                          size_t *len);

/* Reads fields of a hash (n_fields 0: all). Where the rule says hash_l1, the whole hash comes from
 * L1, or is read once from Redis and kept there (as the key "\0h:NAME") until somebody writes to it
 * by pln_data(). The value has at least the fields that were asked for and exist, for the two
 * functions below; a hash that does not exist has none. result->source is "l1", "l2", or "stale"
 * with Redis away.
 * Returns: as pln_command(). Owns: result->value is the caller's until pln_release(). */
PLN_API int pln_hash_get(struct pln_cache *cache, struct pln_bytes name,
                         const struct pln_bytes *fields, size_t n_fields,
                         const struct pln_data_options *options, struct pln_result *result);
/* The same, of all fields, from L1 alone: calls nothing of the system's. Returns: PLN_OK; PLN_MISS
 * where L1 has no copy that is fresh, or the name is none. */
PLN_API int pln_hash_peek(struct pln_cache *cache, struct pln_bytes name,
                          struct pln_result *result);
/* The text of a field, which lies in the value; false where there is none. Linear in the hash. */
PLN_API bool pln_hash_field(const struct pln_value *hash, struct pln_bytes field,
                            struct pln_bytes *text);
/* One field after the other, from *at = 0 on, in no order; false after the last. */
PLN_API bool pln_hash_next(const struct pln_value *hash, size_t *at, struct pln_bytes *field,
                           struct pln_bytes *text);

/* ---- the servers ---- */

/* How one server of the cache fares. */
struct pln_node_info {
    const char *address;  /* "host:port", a socket's path; lives as long as the cache */
    bool is_up;           /* its link is live, and commands go to it */
    bool is_breaker_open; /* commands to it fail at once; one that tries now and then is let through
                           */
    unsigned connections; /* for data, that are up */
    pln_ms beat_age_ms;   /* since its link's last sign of life; PLN_FOREVER: none yet */
    uint64_t timeouts;    /* commands that were not answered in time */
    uint64_t errors;      /* commands that it refused, or that were lost with their connection */
};

typedef void (*pln_node_visit)(void *arg, const struct pln_node_info *info);

/* Shows each server that values come from to `visit` (may be NULL); without the option `redis`
 * there are none. Returns how many. Threads: any; `visit` is called in this one, and holds nothing
 * up. */
PLN_API size_t pln_nodes(struct pln_cache *cache, pln_node_visit visit, void *arg);

/* ---- locks ---- */

/* A lock kept in Redis, for all processes. It ends by itself after its ttl, so that a holder that
 * died holds up nobody for longer; and so a holder that was stopped for longer than that goes on
 * beside the next one. What may not be done twice must be told the fence and refuse a smaller one.
 * Names, here and below, have 1 to 512 bytes. Without Redis: PLN_EL2DOWN. */
struct pln_lock;       /* opaque: a lock that is held */
struct pln_lock_nodes; /* opaque: independent servers that keep locks together (Redlock) */

/* Opens clients of n servers, 1 to 15, better an odd number, none a replica of another: locks over
 * them hold while most are up. A server that takes longer than timeout_ms (default 50; never over
 * a tenth of the ttl) is passed over. Returns: PLN_OK, PLN_EINVAL. Threads: any. */
PLN_API int pln_lock_nodes_new(const char *const *urls, size_t n, pln_ms timeout_ms,
                               struct pln_lock_nodes **nodes);
PLN_API void pln_lock_nodes_free(struct pln_lock_nodes *nodes); /* locks over them live on */

struct pln_lock_options {
    pln_ms ttl_ms;                /* default 10 s */
    pln_ms wait_ms;               /* default 0: one try */
    pln_ms retry_ms;              /* longest pause between tries; default 100 */
    struct pln_lock_nodes *nodes; /* default: the cache's Redis keeps it */
};

/* Takes a lock. Returns: PLN_OK; PLN_PENDING where another has it, at most for *held_ms more (may
 * be NULL); PLN_EL2DOWN, PLN_ETIMEOUT. Owns: pln_unlock() it before the cache is closed, or
 * pln_lock_free() it. Threads: any, waits until wait_ms is over. Each thread that uses the lock
 * needs a reference of its own. pln_begin_lock() does not wait. */
PLN_API int pln_lock(struct pln_cache *cache, struct pln_bytes name,
                     const struct pln_lock_options *options, pln_ms *held_ms,
                     struct pln_lock **lock);
/* A new ttl from now; 0: the former. Returns: PLN_OK, PLN_MISS (it is lost). */
PLN_API int pln_lock_extend(struct pln_lock *lock, pln_ms ttl_ms);
/* Ends it, and frees the reference. Returns: PLN_OK; PLN_MISS where it had ended before. */
PLN_API int pln_unlock(struct pln_lock *lock);
PLN_API void pln_lock_keep(struct pln_lock *lock); /* one more reference, to be freed as well */
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
