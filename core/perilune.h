/* SPDX-License-Identifier: MIT
 *
 * perilune.h - a multi-tier cache for C and Lua programs.
 *
 * A cache has an in-process tier (L1: lock-free, bounded in bytes) and, where a Redis URL is given,
 * a shared one (L2). Instances that share an L2 tell each other what changed, so a value that was
 * replaced or deleted on one of them is not served from the L1 of another. What a key's life looks
 * like (time to live, stale serving, refresh ahead, tags, how it is loaded) is said by a policy: a
 * Lua 5.4 file whose fixed fields are compiled into C when it is read. A hit never enters Lua.
 *
 *     struct pln_options options = { .redis = "redis://localhost", .ttl_ms = 60000 };
 *     struct pln_cache *cache;
 *     struct pln_result result;
 *     if (pln_open(&options, &cache) < 0) { puts(pln_error_text()); exit(1); }
 *     if (pln_get_or_load(cache, pln_key("user:7"), NULL, load_user, db, &result) == PLN_OK) {
 *         fwrite(pln_value_data(result.value), 1, result.len, stdout);
 *         pln_release(cache, result.value);
 *     }
 *     pln_close(cache);
 *
 * Rules that hold everywhere:
 * - Results: 0 is PLN_OK; positive values are outcomes to be handled (a miss is not an error);
 *   negative ones are failures, and pln_error_text() says in a sentence what happened and where.
 * - Options: zero means the default named beside the field; a NULL options pointer means all zero.
 * - Ownership: bytes passed in are copied; nothing passed in is kept. A result's value is held by
 *   the caller until pln_release().
 * - Threads: all functions may be called from any thread, but for pln_close(), which must be the
 *   last call. Those that may wait say until when.
 */
#ifndef PERILUNE_H
#define PERILUNE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

#if defined(__GNUC__)
#define PLN_API __attribute__((visibility("default")))
#else
#define PLN_API
#endif

typedef int64_t pln_ms; /* milliseconds: a duration, or a point on the cache's monotonic clock */
typedef int64_t pln_ns; /* nanoseconds, likewise */

#define PLN_FOREVER INT64_MAX /* a duration without end */
#define PLN_NONE SIZE_MAX /* for an amount: none, in the place of the default that 0 stands for */

struct pln_bytes {
    const void *data;
    size_t len;
};

enum pln_status {
    PLN_OK = 0,
    PLN_MISS = 1,       /* no tier has the key, and nothing loaded it */
    PLN_ABSENT = 2,     /* "there is no such thing" is known, and cached */
    PLN_PENDING = 3,    /* somebody else is at it */
    PLN_NOT_STORED = 4, /* a condition (nx, xx, a newer value, a lost lease) kept the value out */
    PLN_TRUNCATED = 5,  /* the buffer took only the first bytes */
    PLN_EINVAL = -1,    /* an argument is not usable */
    PLN_ENOMEM = -2,    /* the system has no memory */
    PLN_ETIMEOUT = -3,  /* a deadline passed */
    PLN_EL2DOWN = -4,   /* Redis is not reachable, or its circuit breaker is open */
    PLN_EL2 = -5,       /* Redis answered with an error */
    PLN_ETOOBIG = -6,   /* a key or value is over its limit */
    PLN_ELOADER = -7,   /* the loader failed */
    PLN_EPOLICY = -8,   /* a policy script is wrong, or failed */
    PLN_ECLOSED = -9,   /* the cache is being closed */
    PLN_EBUSY = -10,    /* a bound is reached: memory waiting for readers, a full queue */
    PLN_ESYSTEM = -11,  /* the operating system refused something */
    PLN_EDENIED = -12,  /* the policy says that the key must never be cached */
    PLN_ETYPE = -13,    /* what is there is of another kind */
    PLN_ECODEC = -14,   /* a value is compressed by what this build lacks */
    PLN_ESTORE = -15,   /* the store of record did not take a write */
};

/* Where a value came from. */
enum pln_source {
    PLN_FROM_MISS = 0,
    PLN_FROM_L1,
    PLN_FROM_L2,
    PLN_FROM_LOADER,
    PLN_FROM_STALE,    /* past its ttl, served because the policy allows it */
    PLN_FROM_NEGATIVE, /* a cached "does not exist" */
};

/* Which of Redis's servers a value is read from. What is written, and every lease, goes to the
 * primary. */
enum pln_read {
    PLN_READ_BY_RULE = 0, /* in the options of a call: as the key's rule says */
    PLN_READ_PRIMARY,
    PLN_READ_REPLICA, /* the replicas in turn; the primary where none is well */
    PLN_READ_NEAREST, /* the one with the shortest round trip, the primary among them */
};

struct pln_cache;         /* opaque */
struct pln_write_options; /* perilune_store.h */
struct pln_value;         /* opaque: counted, immutable bytes */
struct pln_load;          /* opaque: what a loader hands back */

struct pln_result {
    struct pln_value *value; /* set where a value is borrowed; give it to pln_release() */
    size_t len;              /* bytes of the value, whole, even where a buffer took less */
    pln_ms age_ms;           /* since it was loaded or set */
    pln_ms left_ms;          /* until it is stale; negative: stale for so long; PLN_FOREVER */
    uint8_t source;          /* enum pln_source */
    uint8_t format;          /* as given to pln_set(): 0 raw bytes, others are the caller's */
};

/* Called to get a missing value. Fills `load` by the pln_load_...() functions.
 * Returns: PLN_OK after pln_load_value(), PLN_ABSENT where there is no such thing, or negative.
 * Threads: runs in the thread that asked; may block, and may use the cache for other keys, whose
 * loaders may do so again, 8 deep: past that, and for the key itself, it gets PLN_ELOADER. */
typedef int (*pln_loader)(void *arg, struct pln_bytes key, struct pln_load *load);

enum pln_log_level { PLN_LOG_DEBUG, PLN_LOG_INFO, PLN_LOG_WARN, PLN_LOG_ERROR };

/* One line, no newline. Threads: called from any thread. */
typedef void (*pln_log)(void *arg, int level, const char *line);

/* A point on a monotonic clock. Threads: any; called on every get, so it must be cheap. */
typedef pln_ms (*pln_clock)(void *arg);

struct pln_options {
    const char *name;           /* shown in logs and stats; default: ns, else "perilune" */
    const char *ns;             /* prefix of all keys in Redis ("namespace"); default: name */
    size_t max_bytes;           /* budget of L1, all included; default 64 MiB */
    size_t max_item_bytes;      /* larger values live in L2 only; default max_bytes / 16 */
    size_t max_entries;         /* of L1, beside its budget; default: no bound */
    const char *eviction;       /* who goes when L1 is full: "lru" (default), "adaptive", "fifo",
                                   "random", or "none": then what does not fit is refused */
    const char *weigh;          /* "entries" (default); "bytes": of two equally old entries the
                                   larger goes first */
    const char *redis;          /* redis://[user[:password]@]host[:port][/db], rediss:// for TLS, or
                                   unix:path[?db=n]; redis+sentinel://, redis+cluster:// and
                                   redis+ring:// for several servers; memory:NAME for tests, see
                                   pln_memory_open(); default: none, L1 only */
    const char *username;       /* for AUTH; wins over the URL's */
    const char *password;       /* for AUTH; wins over the URL's */
    const char *tls_ca;         /* whom to trust, a file or folder; default: whom the system does */
    const char *tls_cert;       /* what is shown to the server, a file; default: nothing */
    const char *tls_key;        /* the key of tls_cert; default: in the same file */
    const char *tls_name;       /* that the server's certificate must have; default: its host */
    bool tls_unverified;        /* any certificate will do ("tls_verify" is "false") */
    pln_ms connect_timeout_ms;  /* default 1000 */
    pln_ms timeout_ms;          /* bound on one command, and on waiting for a connection; 250 */
    unsigned pool;              /* connections that values go over; default 4 */
    unsigned bulk_pool;         /* those of everything else: commands, data structures, scripts,
                                   locks, limits; made when first used; default 2 */
    bool tracking;              /* also let the server report writes by foreign programs */
    pln_ms ping_ms;             /* heartbeat of the link; default 1000; dead after two */
    size_t bus_log;             /* messages that Redis keeps for instances that missed some, so that
                                   they need not drop all of L1; default 10000; or PLN_NONE */
    const char *on_lost_writes; /* what becomes of L2 when Redis has forgotten what it had
                                  acknowledged (a restart from an older state, a failover): "clear"
                                  (default), since it may hold what was deleted; "keep", where Redis
                                  is all there is of the values */
    unsigned workers;           /* threads for policy loads and refreshes; default 2 */
    /* the terms of a key for which no rule and no call says otherwise */
    pln_ms ttl_ms;            /* fresh for so long; default 5 minutes; PLN_FOREVER allowed */
    pln_ms l1_ttl_ms;         /* bound on the life of a copy in L1; default 1 hour, and without
                                 Redis none: then L1 holds no copies */
    pln_ms stale_ms;          /* after that, servable while a refresh runs; default 0 */
    pln_ms stale_if_error_ms; /* servable when the loader or L2 fails; default: stale_ms */
    pln_ms negative_ms;       /* life of "does not exist"; default 10 s */
    double jitter;            /* share of the ttl taken off at random, 0 to 0.9; default 0 */
    double refresh;           /* share of the ttl after which a hit refreshes behind; 0: off */
    pln_ms lease_ms;          /* longest time one loader keeps the fleet waiting; default 5 s */
    pln_ms load_timeout_ms;   /* longest wait of a caller for a load; default 10 s */
    const char *read;         /* "primary" (default), "replica" or "nearest": see enum pln_read */
    pln_ms replica_ttl_ms;    /* bound on the life in L1 of what a replica said; default 1 s */
    pln_ms max_staleness_ms;  /* while messages may be missing, L1 serves what was current no longer
                                 ago than this; default 1 s */
    size_t recovery;          /* operations that Redis did not take which are kept, to be carried
                                 out later, in at most an eighth of max_bytes; past that the whole
                                 namespace is cleared; default 10000; PLN_NONE: none are */
    double negative_share;    /* of max_bytes, for what is known not to exist, 0.01 to 0.99; past
                                 that goes what was not used for longest; default 0.1 */
    pln_ms soft_timeout_ms; /* so long does a load keep callers waiting to whom a stale value may be
                               served when it fails; then they are served that, and it goes on, if
                               a worker or somebody else is at it. Default 0: load_timeout */
    pln_ms l2_ttl_ms;       /* bound on the life of a value in L2; default none */
    pln_ms max_age_ms;      /* bound on the age of a value, whatever prolongs it; default none */
    pln_ms retry_ms;        /* after a failed load of a key there is no other for so long, while
                               a value can be served; default 1 s */
    pln_ms policy_watch_ms; /* a policy's files are looked at so often, and read again when they
                               have changed; default 0: never */
    pln_ms policy_budget_ms; /* processor time of a policy's ttl, tags or related function, unless
                                it is trusted; default 5 ms; at most 10 s */
    double early;            /* hits load before the end by chance, so many times what a load takes
                                before it; 1 is a good value; 0 (default): off; not with refresh */
    bool sliding;            /* hits prolong lives; default false; not with refresh or early */
    size_t compress_bytes;   /* values from so many bytes on are compressed in Redis; default 0:
                                none ("compress") */
    const char *compression; /* "lz4" (default, where it is built in) or "zstd" */
    const char *codec;       /* in which Lua's policies store what is no string: "msgpack" (default)
                                or "json" */
    const char *key_schema;  /* the parts of every key: names, "env:service:version:entity:id", or
                                names in braces and what is fixed, "prod:shop:v2:{entity}:{id}";
                                "{id...}" takes the rest. What reads past L1 or writes a key that
                                does not fit gets PLN_EINVAL. Default: none */
    const struct pln_write_options *writing; /* for keys without a rule; copied; default: aside */
    pln_ms close_timeout_ms; /* pln_close() waits so long for loads that run; default 5 s */
    /* seams */
    pln_log log; /* default: warnings and errors to standard error */
    void *log_arg;
    pln_clock clock; /* default: the system's coarse monotonic clock */
    void *clock_arg;
};

/* ---- life ---- */

/* Opens a cache, which sleeps until it is needed: see perilune_engine.h. A Redis that is away is no
 * error: it is connected to when it comes.
 * Returns: PLN_OK; PLN_EINVAL (which option, and why), PLN_ENOMEM, PLN_ESYSTEM.
 * Owns: the caller closes it. Threads: any. */
PLN_API int pln_open(const struct pln_options *options, struct pln_cache **cache);

/* One that pln_open_named() gave goes on where others have it or it stays. Else ends background
 * work, tries once, for one timeout at most, what L2 did not take before (a warning says how much
 * is lost), and frees everything; where loads run on past close_timeout, that is done when they
 * end, as a warning says. NULL is allowed. No value may be lent, and no other call be running. */
PLN_API void pln_close(struct pln_cache *cache);

/* Sets one field of `options` by its name in Lua and on the command line ("max_bytes", "ttl") from
 * text: "64m", "15m", "10%", "true". Texts are kept by pointer: they must outlive pln_open().
 * Returns: PLN_OK; PLN_EINVAL with a text that suggests a name, or shows what is wanted. */
PLN_API int pln_options_set(struct pln_options *options, const char *name, const char *text);

/* The i-th option's name, NULL past the last. */
PLN_API const char *pln_option_name(size_t i);

/* ---- reading ---- */

enum pln_get_flags {
    PLN_GET_NO_L1 = 1,      /* do not read L1 */
    PLN_GET_NO_L2 = 2,      /* do not read L2 */
    PLN_GET_NO_LOAD = 4,    /* do not run the policy's loader */
    PLN_GET_NO_STALE = 8,   /* never serve a stale value */
    PLN_GET_KEEP = 16,      /* what is loaded is stored, whatever the rule's min_uses */
    PLN_GET_OWN_STALE = 64, /* where the rule has no stale: for as long as the value is kept */
    PLN_GET_LONG = 32,      /* of pln_get_copy(): what is longer is borrowed, as by pln_get() */
};

struct pln_get_options {
    uint32_t flags;    /* enum pln_get_flags */
    pln_ms timeout_ms; /* bound on the whole call; default: the rule's load timeout */
    pln_ms ttl_ms;     /* for a value the call's own loader brings; default: the rule's */
    pln_ms stale_ms;
    pln_ms negative_ms;
    const struct pln_bytes *tags; /* likewise */
    size_t n_tags;
    uint8_t read; /* enum pln_read: whom L2 asks. A copy in L1 is served whoever it is from */
    pln_ms max_staleness_ms; /* default: the rule's */
    pln_ms soft_timeout_ms;  /* likewise */
    /* For a rule whose load names a loader (perilune_policy.h): runs it, in this thread, as the
     * loader of pln_get_or_load() would; default: the one that is registered, on a worker. */
    int (*load_by_name)(void *arg, const char *name, struct pln_bytes key, struct pln_load *load);
    void *load_arg;
};

/* Reads a key through the tiers and, where a rule has a loader, from its source.
 * Returns: PLN_OK, PLN_MISS, PLN_ABSENT; PLN_ETIMEOUT, PLN_ELOADER, PLN_EL2DOWN (only where nothing
 * can be served). Owns: result->value is the caller's until pln_release().
 * Threads: any; an L1 hit never waits, else until the timeout. */
PLN_API int pln_get(struct pln_cache *cache, struct pln_bytes key,
                    const struct pln_get_options *options, struct pln_result *result);

/* As pln_get(), but copies the value's first `size` bytes to `buffer`; result->value is NULL.
 * Returns: as pln_get(); PLN_TRUNCATED where result->len > size, unless that is borrowed. */
PLN_API int pln_get_copy(struct pln_cache *cache, struct pln_bytes key,
                         const struct pln_get_options *options, void *buffer, size_t size,
                         struct pln_result *result);

/* As pln_get(), with a loader of the caller's for a value that no tier has. Of all threads and
 * processes that miss one key at once, one loads; the others wait for its value. */
PLN_API int pln_get_or_load(struct pln_cache *cache, struct pln_bytes key,
                            const struct pln_get_options *options, pln_loader loader, void *arg,
                            struct pln_result *result);

/* Reads n keys with at most one round trip to L2. statuses[i] is what pln_get() would return; of
 * loaders only those of many keys are run, once for each rule that has one. Returns: PLN_OK, or
 * negative where the call as a whole failed. */
PLN_API int pln_get_many(struct pln_cache *cache, const struct pln_bytes *keys, size_t n,
                         const struct pln_get_options *options, struct pln_result *results,
                         int *statuses);

/* Looks at L1 only: no load, no promotion, no count of a hit; a stale value is returned as such.
 * Returns: PLN_OK, PLN_MISS, PLN_ABSENT. Threads: any, wait-free. */
PLN_API int pln_peek(struct pln_cache *cache, struct pln_bytes key, struct pln_result *result);

/* Gives a borrowed value back. NULL is allowed. Threads: any, lock-free. */
PLN_API void pln_release(struct pln_cache *cache, struct pln_value *value);

/* The bytes of a borrowed value: valid until pln_release(). */
PLN_API const void *pln_value_data(const struct pln_value *value);
PLN_API size_t pln_value_len(const struct pln_value *value);

/* ---- what a loader says ---- */

/* The value, copied. */
PLN_API int pln_load_value(struct pln_load *load, struct pln_bytes value, uint8_t format);
/* Why there is none: kept as the text of the failure. Returns PLN_ELOADER, for the loader to
 * return. */
PLN_API int pln_load_error(struct pln_load *load, const char *text);
/* How long it is fresh (or, where absent, negative); a negative ttl: hand out, do not store. */
PLN_API void pln_load_ttl(struct pln_load *load, pln_ms ttl_ms);
/* How long it is kept after that, for the next loader to see (pln_load_old), and to be served stale
 * within the key's terms; 0: it ends with its ttl. Default: as the call or the terms say. */
PLN_API void pln_load_stale(struct pln_load *load, pln_ms stale_ms);
/* The value that is being loaded anew, for a loader that can ask its source whether it has changed;
 * without data where there is none. Owns: valid until the loader returns. */
PLN_API struct pln_bytes pln_load_old(const struct pln_load *load, uint8_t *format);
/* In the place of a value: the old one is what the source has. It begins a new life, with the ttl
 * and tags of this load. Returns: PLN_OK; PLN_EINVAL where there is no old value. */
PLN_API int pln_load_same(struct pln_load *load);
/* One more tag, copied. At most 64 of 250 bytes. */
PLN_API int pln_load_tag(struct pln_load *load, struct pln_bytes tag);
/* One more key that will be wanted soon: loaded behind, where a rule can. */
PLN_API int pln_load_related(struct pln_load *load, struct pln_bytes key);

/* ---- writing ---- */

enum pln_set_flags {
    PLN_SET_NX = 1, /* only where no tier of record has the key */
    PLN_SET_XX = 2, /* only where it has */
};

struct pln_set_options {
    uint32_t flags; /* enum pln_set_flags */
    uint8_t format; /* handed back with the value; 0 means raw bytes */
    bool is_absent; /* store "does not exist"; the value is ignored */
    pln_ms ttl_ms;  /* default: the rule's; likewise below */
    pln_ms stale_ms;
    const struct pln_bytes *tags; /* beside the rule's */
    size_t n_tags;
    uint32_t weight;  /* against eviction: it counts as 1 + weight times younger; 1..255;
                         0: the rule's */
    int32_t priority; /* of what eviction looks at, some 40 at a time, the lowest goes first;
                         -128..127; 0: the rule's */
    pln_ms timeout_ms;
};

/* Stores a value in all tiers and tells the other instances; visible to this one at once. Where the
 * key's rule writes to a store of record, it does that: see perilune_store.h.
 * Returns: PLN_OK, PLN_NOT_STORED (nx, xx); PLN_EL2DOWN, PLN_ETIMEOUT, PLN_EL2: L2 did not take it
 * (or may not have), and no L1 keeps it; PLN_ETOOBIG. Threads: any, waits until the timeout.
 *
 * Where L2 may take it later, it is kept, with its moment (option `recovery`; not nx, xx): it is
 * carried out then if L2 has an older value, or none and nobody can have deleted it since; it gives
 * way to a newer one, and else is a delete. A later operation of this cache on the key takes its
 * place.
 * So it is with delete, expire, tags and clear, which do later what they were to do, but to no
 * value that is newer. A cache keeps no more than it may: past that all becomes one clear. */
PLN_API int pln_set(struct pln_cache *cache, struct pln_bytes key, struct pln_bytes value,
                    const struct pln_set_options *options);

/* Removes a key from all tiers and all instances, and from its store of record where its rule
 * writes to one; loads under way do not bring it back.
 * Returns: PLN_OK whether or not it was there; as pln_set() where L2 could not be told: then it is
 * gone here, and elsewhere once L2 is back, or when its life in L1 ends. */
PLN_API int pln_delete(struct pln_cache *cache, struct pln_bytes key);

/* The same for n keys, in one round trip, with few messages: a key that is too long refuses all,
 * and of other failures the first is told; all keys are tried. */
PLN_API int pln_delete_many(struct pln_cache *cache, const struct pln_bytes *keys, size_t n);

/* Makes a key stale everywhere: it is loaded anew at the next read, and may be served meanwhile or
 * when that fails, as its rule allows. */
PLN_API int pln_expire(struct pln_cache *cache, struct pln_bytes key);

/* Gives a key a new ttl from now, everywhere. Returns: PLN_OK, PLN_MISS. */
PLN_API int pln_touch(struct pln_cache *cache, struct pln_bytes key, pln_ms ttl_ms);

/* Removes every value that carries the tag, everywhere, in constant time. */
PLN_API int pln_invalidate_tag(struct pln_cache *cache, struct pln_bytes tag);

/* Removes every value whose key begins with the prefix, or fits the pattern, in which each '*'
 * stands for any bytes, also none. Everywhere at once: loads under way are not kept. Takes a look
 * at all keys in L1, twice here and once in each other instance (some 0.13 s for a million), and
 * constant time in Redis, where the memory is given back in the background. For rare events: the
 * namespace keeps 64 of them, in 16 KiB, until their values have gone from Redis (10,000 keys a
 * second), and with one more all its values are removed.
 * Returns: as pln_delete(); PLN_EINVAL where it is longer than a key may be. */
PLN_API int pln_invalidate_prefix(struct pln_cache *cache, struct pln_bytes prefix);
PLN_API int pln_invalidate_pattern(struct pln_cache *cache, struct pln_bytes pattern);

/* Removes all values of the namespace, everywhere, in constant time. */
PLN_API int pln_clear(struct pln_cache *cache);

/* ---- seeing ---- */

struct pln_stat {
    const char *name; /* "l1_hits" */
    const char *help;
    uint64_t value;
    bool is_gauge; /* a level, not a count */
};

/* Fills up to `max` statistics; returns how many there are. Counts are exact once the threads that
 * count have stopped; gets = l1_hits + l2_hits + loads + ... (see the help texts). */
PLN_API size_t pln_stats(struct pln_cache *cache, struct pln_stat *stats, size_t max);

/* The same in Prometheus's text format; returns the whole length, as snprintf does. */
PLN_API size_t pln_prometheus(struct pln_cache *cache, char *buffer, size_t size);

/* ---- L1 as a whole ---- */

/* Changes L1's budget, up to some 16 times the first one, and under RLIMIT_AS up to that. Returns
 * at once; what is over goes bit by bit, with writes and in the background; until then a store may
 * be refused (PLN_EBUSY). Returns: PLN_OK, PLN_EINVAL (the bounds are in the text). Threads: any.
 */
PLN_API int pln_resize(struct pln_cache *cache, size_t max_bytes);

/* Called for a key; false stops. It must not use the cache, and the key is not its to keep. */
typedef bool (*pln_key_visit)(void *arg, struct pln_bytes key);
/* The same with what is known of its use: requests of late, and their share of all hits in L1;
 * estimated from one hit in 16. */
typedef bool (*pln_hot_visit)(void *arg, struct pln_bytes key, uint64_t requests, double share);

/* Visits the live keys in L1 that begin with `prefix`, in no order; one that is there all the time
 * exactly once. Returns: PLN_OK, PLN_ENOMEM. Threads: any. */
PLN_API int pln_each(struct pln_cache *cache, struct pln_bytes prefix, pln_key_visit visit,
                     void *arg);
/* Visits at most `n` of the hottest keys in L1, hottest first. Budgets under 2 MiB know none.
 * Returns: PLN_OK, PLN_ENOMEM. Threads: any. */
PLN_API int pln_hottest(struct pln_cache *cache, size_t n, pln_hot_visit visit, void *arg);

/* ---- errors ---- */

/* "timeout", "l2_down": the short name of a status, for programs. */
PLN_API const char *pln_status_name(int status);
/* A sentence for a status, for people. */
PLN_API const char *pln_strerror(int status);
/* What the last failure in this thread was, and where: valid until the next one. */
PLN_API const char *pln_error_text(void);
/* The name of an enum pln_source: "l1", "l2", "loaded", "stale", "negative", "miss". */
PLN_API const char *pln_source_name(int source);
/* The name of an enum pln_read: "primary", "replica", "nearest"; NULL for others. */
PLN_API const char *pln_read_name(int read);

/* A C string as a key. */
static inline struct pln_bytes pln_key(const char *text) {
    struct pln_bytes key = {text, 0};
    while (text[key.len] != 0) {
        key.len++;
    }
    return key;
}

#ifdef __cplusplus
}
#endif

#include "perilune_async.h"
#include "perilune_engine.h"
#include "perilune_bulk.h"
#include "perilune_heard.h"
#include "perilune_memory.h"
#include "perilune_policy.h"
#include "perilune_reload.h"
#include "perilune_redis.h"
#include "perilune_shadow.h"
#include "perilune_simulate.h"
#include "perilune_store.h"
#include "perilune_values.h"
#include "perilune_swap.h"
#include "perilune_warm.h"

#endif
