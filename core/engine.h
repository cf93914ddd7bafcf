/* SPDX-License-Identifier: MIT
 *
 * engine.h - private to core: the cache and the rooms' doors to each other.
 *
 *   options.c  what can be set, by name, and what it is when it is not
 *   open.c     a cache's beginning and end, and what it does with what the bus says
 *   request.c  a key's hash, its rule, and deadlines
 *   cache.c    every read: the way of a key through the tiers
 *   many.c     reading many keys at once; bulk.c loading those that are missing, bulk_call.c the
 *              loader's call
 *   flight.c   one load per key and process: lead, wait, hand over
 *   fill.c     the leader's way: stamp, L2, lease (lease.c), loader, commit, install; behind.c on a
 *              worker; steps.c in steps that no thread waits for; fills.c many of them, with one
 *              round trip for all leases, and one for all commits
 *   async.c    reads without waiting; task.c what a worker does for them; news.c how it is told
 *   admit.c    what is not kept: denied keys, and what is seldom missed
 *   compress.c values in fewer bytes, in L2
 *   life.c     how long a value lives, and keeping it in L1
 *   due.c      what a hit sets going, and what holds it back (due.h); cost.c what loads take
 *   slide.c    lives that hits prolong; popular.c keys that are loaded anew without a request
 *   load.c     what a loader says
 *   heard.c    what is heard of others, kept (heard.h); schema.c the form of keys (schema.h)
 *   inval.c    stamps, generations and marks: why no old value comes back
 *   write.c    set, expire, touch, tags, clear; swap.c what looks first (write.h)
 *   store.c    stores of record; through.c writes that they have first (store.h)
 *   reload.c   the policy in force, and reading it again
 *   alert.c    what the policy wants to be told of
 *   events.c   what an event makes void; contract.c the same, told
 *   feeder.c   threads that take events from Redis, for each source one; intake.c how; notice.c
 *              what an entry or a message says
 *   recover.c  what failed while Redis was away, and is carried out later: kept.c holds it, redo.c
 *              does it
 *   drop.c     what ends keys, one or many at once
 *   queued.c   writes that wait in Redis to be stored; drain.c who stores them, and when; turn.c,
 *              batch.c, attempt.c how; letters.c what could not be (drain.h)
 *   remote.c   commands and scripts on the cache's Redis, beside the cached values
 *   command.c  any command of a program's: which are refused, and which word is a key
 *   data.c     Redis's data structures under the cache's namespace and terms
 *   hash.c     hashes, read whole into L1
 *   wake.c     its threads and connections, when they are first needed; registry.c by its name
 *   worker.c   threads for loads that run behind, and housekeeping; thread.c how threads begin;
 *              step.c callers in their place
 *   warm.c     warming; its other rooms are in warm.h
 *   memory.c   servers in memory, by name
 *   fork.c     caches and servers of the process, and what a child has of them
 *   report.c   statistics
 *   loaders.c  loaders by name; shaping.c a rule's functions asked by a caller (ask.c); shared.c
 *              numbers
 *   nested.c   loaders that ask the cache
 *   named.c    names in Redis of what is no cached value (named.h)
 *   lock.c     locks; redlock.c their steps on one server, or on several as one
 *   limit.c    limits of a rate, and counters
 *   session.c  sessions
 *   simulate.c a trace on a virtual clock
 *   shadow.c   a candidate policy beside the live one; rehearse.c what it does, compare.c how the
 *              two differ
 *
 * Order of locks: none is taken while another of these is held, but for the policy's, which may be
 * taken with that of the sources of events (feeder.c) held, all that come after a shadow's
 * (shadow.c): it is the first, but for that under which a cache is begun (wake.c), and that of news
 * (news.c), which may be taken with the flights' held: it is the last.
 *
 * Labels of this folder:
 *   C1  mark written / mark read: a tag's time after the clock that gave it (inval.c)
 *   C2  stripe bumped / stripe checked, with a seq_cst fence on both sides (inval.c)
 *   C3  generation moved on, then a time vouched for / that time read, then the generation
 */
#ifndef PLN_ENGINE_H
#define PLN_ENGINE_H

#include <pthread.h>

#include "due.h"
#include "policy.h"
#include "../l1/l1.h"
#include "../l2/l2.h"

enum {
    PLN_N_STRIPES =
        1 << 16, /* a fill is refused in vain in (invalidations/s x round trip) / 2^16 */
    PLN_N_MARKS = 1 << 16,
    PLN_QUEUE_MAX = 16384, /* jobs waiting; past that refreshes are dropped and loads refused */
};

/* ---- inval.c ---- */

/* What the instance knew when a fill began. Taken before the first byte of a request is queued
 * (R2); a value is kept in L1 only if nothing that may concern it has been heard since (R3). */
struct pln_stamp {
    struct pln_inval *inval;
    _Atomic uint64_t *stripe;
    uint64_t epoch;      /* of the key's stripe */
    uint64_t mark_clock; /* tags invalidated up to here were invalidated before */
    uint32_t generation;
    uint8_t n_marks; /* set once the tags are known */
    uint16_t marks[PLN_MAX_TAGS];
};

struct pln_inval; /* opaque: stripes, marks, generation */

int pln_inval_new(struct pln_inval **inval);
void pln_inval_free(struct pln_inval *inval);
/* Gives the L1 whose generation and entries it rules, and the parity to begin with. */
void pln_inval_attach(struct pln_inval *inval, struct pln_l1 *l1, bool is_linked);
const _Atomic uint64_t *pln_inval_marks(const struct pln_inval *inval);
/* R2. Threads: any, wait-free. */
void pln_stamp_take(struct pln_inval *inval, uint64_t hash, struct pln_stamp *stamp);
/* Adds the marks of a value's tags. */
void pln_stamp_tags(struct pln_stamp *stamp, const struct pln_bytes *tags, size_t n_tags);
/* R3's check, in the form pln_l1_put() takes it. */
bool pln_stamp_holds(const void *stamp);
/* Takes one that no older fill or write can hold beside: without L2 the last to do so is kept. */
void pln_stamp_raise(struct pln_inval *inval, uint64_t hash, struct pln_stamp *stamp);
/* R9's reply: true where nothing was heard since the stamp, which is then moved past the own
 * write; else the key is forgotten, as after R4. */
bool pln_stamp_advance(struct pln_stamp *stamp, const struct pln_hashed *key);
/* R4: forget a key, loads under way included. */
void pln_inval_key(struct pln_inval *inval, const struct pln_hashed *key);
/* The same for all keys that are wanted, and all loads under way. Rare: it takes as long as a look
 * at the whole of L1. */
void pln_inval_match(struct pln_inval *inval, pln_l1_wanted wanted, const void *arg);
/* As pln_inval_key(), leaving the entry as a stale one. */
void pln_inval_expire(struct pln_inval *inval, const struct pln_hashed *key, pln_ms now);
void pln_inval_tag(struct pln_inval *inval, struct pln_bytes tag);
/* R5: everything is void. R6: the link is lost, or live again, with or without a gap. */
void pln_inval_all(struct pln_inval *inval);
void pln_inval_down(struct pln_inval *inval);
void pln_inval_up(struct pln_inval *inval, bool is_whole);
/* Around a fork; likewise below. */
void pln_inval_freeze(struct pln_inval *inval);
void pln_inval_thaw(struct pln_inval *inval);

/* ---- load.c ---- */

struct pln_load {
    struct pln_value *value;
    const struct pln_value *old; /* borrowed; NULL: none */
    bool is_same;
    pln_ms ttl_ms;   /* 0: not said; negative: do not store */
    pln_ms stale_ms; /* how long it is kept after that, where it was said */
    bool has_stale;
    struct pln_bytes tags[PLN_MAX_TAGS]; /* owned */
    size_t n_tags;
    struct pln_bytes *related; /* owned */
    size_t n_related;
};

void pln_load_fini(struct pln_load *load);
/* Adds the tags a rule's templates give for a key. */
int pln_load_rule_tags(struct pln_load *load, const struct pln_match *match);

/* ---- life.c ---- */

/* Keeps in L1 what was read from L2 under a stamp; the points of its life in L1 to *life. */
void pln_life_keep(struct pln_cache *cache, const struct pln_hashed *key,
                   const struct pln_terms *terms, struct pln_stamp *stamp,
                   const struct pln_l2_item *item, struct pln_l1_life *life);
/* The same for what may be from a replica: its life in L1 is bounded by the terms' replica ttl,
 * since a write that we were told of before we read may come to the replica later. */
void pln_life_keep_read(struct pln_cache *cache, const struct pln_hashed *key,
                        const struct pln_terms *terms, struct pln_stamp *stamp,
                        const struct pln_l2_value *value, struct pln_l1_life *life);
/* While messages may be missing (R6): whether it is longer ago than may be that an entry of L1 was
 * known to be current. It was when its value was loaded, and when all that had been done in Redis
 * had been heard. Options may be NULL. */
bool pln_life_in_doubt(const struct pln_cache *cache, const struct pln_terms *terms,
                       const struct pln_get_options *options, const struct pln_l1_hit *hit,
                       pln_ms now);
/* The same by the key's own terms. */
bool pln_cache_in_doubt(struct pln_cache *cache, struct pln_bytes key,
                        const struct pln_get_options *options, const struct pln_l1_hit *hit,
                        pln_ms now);
/* The points of a life from durations counted from now, bounded by the terms' L1 ttl. */
struct pln_l1_life pln_life_of(const struct pln_terms *terms, pln_ms now, pln_ms age,
                               pln_ms fresh_left, pln_ms life_left);
/* Bounds what is left of a life by the terms' greatest age. False where nothing is. */
bool pln_life_bound(const struct pln_terms *terms, struct pln_l2_item *item);
/* How long ago at least something was that took `ms` by the clock, which reads in steps, of keys
 * that are written through: by when a value was made others see what came before it. */
pln_ms pln_life_since(const struct pln_terms *terms, pln_ms ms);
/* A value as it goes to L2: bounded by the terms' L2 ttl besides. */
struct pln_l2_item pln_life_shared(const struct pln_terms *terms, const struct pln_l2_item *item);
/* How long past its ttl a value is kept, whatever for. */
pln_ms pln_life_grace(const struct pln_terms *terms);
/* How long past its ttl a value may be served while another load of it is under way. */
pln_ms pln_life_window(const struct pln_terms *terms, const struct pln_get_options *options);
/* The ttl less a random part, so that what was stored together does not end together. One that is
 * not positive says that nothing is to be stored, and goes on saying it. */
pln_ms pln_life_jittered(const struct pln_terms *terms, pln_ms ttl);
/* Tells a caller how old a value is, and how long it is fresh. */
void pln_life_describe(const struct pln_l1_life *life, pln_ms now, struct pln_result *result);

/* ---- fill.c ---- */

struct pln_flight; /* flight.h; likewise the next two */
struct pln_flights;
struct pln_misses;

/* One read on its way past L1. */
struct pln_request {
    struct pln_cache *cache;
    struct pln_hashed key;
    const struct pln_get_options *options; /* never NULL */
    pln_loader loader;                     /* the call's own, or NULL */
    void *loader_arg;
    struct pln_ruleset *ruleset; /* a reference */
    struct pln_match match;
    const struct pln_terms *terms;
    pln_ms timeout_ms;
    pln_ns deadline;
    pln_ms soft_ms;    /* of its patience; 0: none */
    bool has_stale;    /* a value is at hand that will do after that */
    bool is_refresh;   /* a value is being served meanwhile */
    bool is_from_l1;   /* it was answered so */
    pln_ms created;    /* of that value */
    bool is_ahead;     /* nobody has asked for it yet */
    bool is_wanted;    /* what is loaded is stored, however seldom the key was missed */
    unsigned loads_as; /* a thread that warms and has asked L2 already: it loads itself, under the
                          number before this one; 0: no such thread */
};

/* ---- cache.c ---- */

/* Loads a key that no tier had a moment ago, in this thread, whose number for the policy's
 * functions is `worker`. Returns: as pln_get(). */
int pln_cache_load_as(struct pln_cache *cache, struct pln_bytes key,
                      const struct pln_get_options *options, unsigned worker,
                      struct pln_result *result);

/* Leads a flight to its end: L2, then, where need be, the loader. The policy's loader runs on a
 * worker, so it may end after this returns. */
void pln_fill_lead(struct pln_request *request, struct pln_flight *flight);

/* ---- behind.c ---- */

/* Loads a key behind, unless that is being done. */
void pln_fill_behind(struct pln_cache *cache, const struct pln_hashed *key, pln_ms created);

/* ---- remote.c ---- */

struct pln_remote_script {
    const char *name; /* for failures */
    const char *text;
};

/* Runs a script on the cache's Redis; the first key says where. timeout_ms 0: the cache's.
 * Returns: PLN_OK (the reply is the caller's to free); PLN_EL2DOWN, also where there is no Redis;
 * else as pln_l2_command(). */
int pln_remote_run(struct pln_cache *cache, const struct pln_remote_script *script,
                   const struct pln_bytes *keys, size_t n_keys, const struct pln_bytes *args,
                   size_t n_args, pln_ms timeout_ms, struct pln_reply **reply);
/* The same on another client. */
int pln_remote_run_on(struct pln_l2 *l2, const struct pln_remote_script *script,
                      const struct pln_bytes *keys, size_t n_keys, const struct pln_bytes *args,
                      size_t n_args, pln_ns deadline, struct pln_reply **reply);
/* Sends a command to the cache's Redis; likewise. */
int pln_remote_command(struct pln_cache *cache, const struct pln_bytes *key,
                       const struct pln_bytes *args, size_t n_args, pln_ms timeout_ms,
                       struct pln_reply **reply);

/* ---- data.c ---- */

/* The longest name of a structure: it has to fit a key with something before it. */
enum { PLN_MAX_DATA_NAME = PLN_MAX_KEY - 3 };

/* The name in Redis of a structure, "N:d:NAME", in memory for free(). Returns: PLN_OK, PLN_EINVAL
 * (too long, or none), PLN_ENOMEM. */
int pln_data_key(const struct pln_cache *cache, struct pln_bytes name, struct pln_bytes *key);

/* ---- hash.c ---- */

/* Around a write to a hash that L1 may hold whole: forget it here before it is sent; then, whatever
 * became of it, forget it again and tell the others. The name is a valid one. */
void pln_hash_forget(struct pln_cache *cache, struct pln_bytes name);
int pln_hash_tell(struct pln_cache *cache, struct pln_bytes name);

/* ---- recover.c ---- */

struct pln_recovery; /* opaque: operations that failed, and wait; NULL does in all below */

/* An operation on L2 that may fail and be kept. Zero but for what is said here. */
struct pln_attempt {
    enum pln_attempt_kind {
        PLN_ATTEMPT_SET = PLN_REDO_SET,
        PLN_ATTEMPT_REMOVE = PLN_REDO_REMOVE,
        PLN_ATTEMPT_EXPIRE = PLN_REDO_EXPIRE,
        PLN_ATTEMPT_TAG,
        PLN_ATTEMPT_MATCH, /* is kept as a clear, which it is part of */
        PLN_ATTEMPT_CLEAR,
    } kind;
    struct pln_hashed key;          /* or the tag; borrowed, likewise below */
    const struct pln_mask *mask;    /* of a match */
    const struct pln_l2_item *item; /* of a set */
    const struct pln_stamp *stamp;  /* of a set: taken before it, and before it is begun */
    bool is_conditional;            /* a set that is not kept: nx, xx */
    /* recover.c's */
    uint64_t ticket;
    pln_ms at;
    struct pln_kept *former; /* what waited for the same key */
};

/* `most` operations of `most_bytes` in all are kept. */
int pln_recovery_new(struct pln_cache *cache, size_t most, size_t most_bytes,
                     struct pln_recovery **recovery);
/* Tries once, for no longer than one timeout, what still waits; says what is lost. After the
 * workers' end. */
void pln_recovery_finish(struct pln_recovery *recovery);
void pln_recovery_free(struct pln_recovery *recovery);
/* Around every operation that changes L2, before its first byte is queued and once its outcome is
 * known; each begun is ended, in the same thread. The first may wait for what is being carried out
 * for the same key. The second returns the status, and where that is kept says so in the text. */
void pln_recovery_begin(struct pln_recovery *recovery, struct pln_attempt *attempt);
int pln_recovery_end(struct pln_recovery *recovery, struct pln_attempt *attempt, int status);
/* What others did, and how the link fares: after L1 was told. */
void pln_recovery_heard_key(struct pln_recovery *recovery, struct pln_bytes key);
void pln_recovery_heard_tag(struct pln_recovery *recovery, struct pln_bytes tag);
void pln_recovery_heard_match(struct pln_recovery *recovery, const struct pln_mask *mask);
void pln_recovery_heard_clear(struct pln_recovery *recovery);
void pln_recovery_down(struct pln_recovery *recovery);
/* is_repaired: whatever was said meanwhile has been heard by now. */
void pln_recovery_up(struct pln_recovery *recovery, bool is_repaired);
/* Carries out some of what waits, where it is time to; returns when to call again. */
pln_ns pln_recovery_run(struct pln_recovery *recovery);
size_t pln_recovery_waiting(struct pln_recovery *recovery);
void pln_recovery_freeze(struct pln_recovery *recovery);
void pln_recovery_thaw(struct pln_recovery *recovery, bool is_child);

struct pln_workers; /* wake.h, likewise the next two */
struct pln_start;
struct pln_engine;
struct pln_shared; /* hosts.h, likewise the next */
struct pln_registered;

/* ---- the cache itself ---- */

struct pln_cache {
    /* line 0: read by every get, written only at open */
    _Alignas(PLN_CACHE_LINE) struct pln_l1 *l1;
    struct pln_counts *counts;
    _Atomic uint64_t shadow_below; /* keys whose hash is less are told to the shadow: shadow.h */
    uint64_t seed;
    struct pln_host host;
    struct pln_cache *next; /* of all caches of the process: fork.c */
    unsigned n_forks;       /* how many times the process became a child: news.c */

    atomic_bool is_awake;      /* in this process: wake.h */
    struct pln_start *start;   /* likewise */
    struct pln_engine *engine; /* registry.c; NULL: a cache of its opener's own */
    struct pln_inval *inval;
    _Atomic pln_ms certain_at; /* all that was done in Redis before has been heard */
    struct pln_l2 *l2;         /* NULL: L1 only; see pln_cache_l2() */
    struct pln_memory *memory; /* whose client l2 is, or NULL; a reference */
    struct pln_flights *flights;
    struct pln_workers *workers;
    struct pln_swaps *swaps;         /* write.h */
    struct pln_schema *schema;       /* schema.h; NULL: none */
    struct pln_heard *heard;         /* heard.h */
    struct pln_feeders *feeders;     /* feeder.h */
    struct pln_drain *drain;         /* store.h */
    struct pln_reloads *reloads;     /* reload.h */
    struct pln_alerts *alerts;       /* alert.h */
    struct pln_recovery *recovery;   /* NULL: nothing is kept */
    struct pln_readiness *readiness; /* warm.h */
    _Atomic pln_ns save_hot_at;      /* the first worker's: when the hottest keys are saved */
    struct pln_terms terms;
    struct pln_write_options writing; /* of keys without a rule, and of rules that inherit it */
    atomic_bool may_store;            /* some keys are written but aside */
    _Atomic uint64_t registrations;   /* how often a function by name came or went */
    atomic_bool has_told_through;     /* that Redis cannot be told of writes through */
    size_t max_item_bytes;
    pln_ms timeout_ms;
    struct pln_misses *_Atomic misses; /* NULL until a rule asks for it */
    unsigned n_workers;
    pln_ms policy_budget_ms, close_timeout_ms;
    bool is_tracking;
    bool has_l2;
    pln_loader stand_in; /* in the place of the policy's load functions, or NULL */
    void *stand_in_arg;
    const char *eviction, *weigh; /* as given, for a shadow; likewise max_entries */
    size_t max_entries;
    char *name;
    char *ns; /* before all names in Redis */

    struct pln_failed failed;
    struct pln_shared *shared; /* hosts.h */
    _Atomic uint32_t cost;     /* of loads that no rule matches: see cost.c */
    struct pln_popular popular;

    pthread_mutex_t policy_lock; /* over: */
    struct pln_ruleset *policy;
    struct pln_registered *loaders; /* loaders.c; and */
    struct pln_registered *stores;  /* store.c */

    pthread_mutex_t shadow_lock; /* over: */
    struct pln_shadow *shadow;
};

/* ---- request.c ---- */

/* Checks a key's length and hashes it. */
int pln_cache_key(const struct pln_cache *cache, struct pln_bytes key, struct pln_hashed *hashed);
/* The point on the precise clock at which a timeout that begins now ends. */
pln_ns pln_deadline(pln_ms timeout);
/* The deadline of one L2 command that ends no later than `deadline`. */
pln_ns pln_cache_l2_deadline(const struct pln_cache *cache, pln_ns deadline);
/* Whom L2 asks for a key: as the call says, else as the terms say. */
enum pln_read pln_cache_read(const struct pln_get_options *options, const struct pln_terms *terms);
/* Finds a key's rule and terms; the ruleset's reference goes back by pln_ruleset_unref(). */
const struct pln_terms *pln_cache_match(struct pln_cache *cache, struct pln_bytes key,
                                        struct pln_match *match, struct pln_ruleset **ruleset);

/* ---- open.c ---- */

/* Makes a cache's L2; pln_open() uses pln_l2_redis_new, tests put memory in its place. */
typedef int (*pln_l2_maker)(void *arg, const struct pln_l2_options *options, struct pln_l2 **l2);

/* As pln_open(), with an L2 made by `make`. */
int pln_open_over(const struct pln_options *options, pln_l2_maker make, void *arg,
                  struct pln_cache **cache);

/* ---- fork.c ---- */

/* Puts a cache on the list of those that a child looks after, and takes it off. */
void pln_fork_remember(struct pln_cache *cache);
void pln_fork_forget(struct pln_cache *cache);
/* Counts those of which something holds, with the list locked. */
size_t pln_fork_count(bool (*holds)(struct pln_cache *cache));
/* The list of memory servers of the process, under its lock until pln_fork_unlock(). */
struct pln_memory **pln_fork_lock_memories(void);
void pln_fork_unlock(void);

/* ---- memory.c ---- */

/* What stands behind "memory:NAME"; a reference for each cache and handle. */
struct pln_memory {
    struct pln_memory *next; /* this and n_users under the lock of fork.c */
    size_t n_users;
    struct pln_l2_mem_server *server;
    char name[];
};

/* The name in such a URL, or NULL where it is another one. */
const char *pln_memory_name(const char *url);
/* A pln_l2_maker; `arg` is the memory. */
int pln_memory_client(void *arg, const struct pln_l2_options *options, struct pln_l2 **l2);

/* ---- options.c ---- */

/* The names of an option's values, in the order of what they stand for; ending in NULL. */
extern const char *const pln_evictions[], *const pln_weighings[], *const pln_reads[];
extern const char *const pln_losses[], *const pln_compressions[], *const pln_codecs[];
/* Where a name stands among others, or -1. */
int pln_option_index(const char *const *names, const char *name);
/* A copy with every default filled in, or PLN_EINVAL naming the option. */
int pln_options_resolve(const struct pln_options *options, bool has_l2,
                        struct pln_options *resolved);

#include "wake.h"

#endif
