/* SPDX-License-Identifier: MIT
 *
 * perilune_store.h - where what is written goes besides the cache; a part of perilune.h, which
 * includes it.
 *
 * A cache can write to the store of record (a database, say) for its caller. Which way is a key's
 * rule to say, or for keys without one the options given to pln_open():
 *
 *   aside    nothing is stored but in the cache: the program writes its database itself
 *   through  the store first, then Redis and the other instances, then L1
 *   behind   Redis first, value and a place in a queue in one step; the store afterwards, in
 *            batches, by whichever instance is at it
 *   around   the store, and then the key is removed from all tiers: the next reader loads it
 *
 * pln_set() and pln_delete() then do it by themselves, and of keys that are written behind
 * pln_swap() and pln_incr(), too. What ends keys in the cache alone (expire, tags, prefixes,
 * events) tells no store.
 *
 * Written through and around, a write is visible once the call has returned: to this instance at
 * once, to others when they have heard of it. Until then they may read the value before it. Where
 * two write a key at once nobody knows whose the store has; its value is removed then, and the next
 * reader loads it: so such a key wants a loader. A store that fails leaves all tiers as they are;
 * after PLN_ETIMEOUT the key is gone from them. Where Redis cannot be told, the call returns PLN_OK
 * for the record is written; other instances may read the value before it until this one can reach
 * Redis again, or its life in their L1 ends.
 */
#ifndef PERILUNE_STORE_H
#define PERILUNE_STORE_H

#ifndef PERILUNE_H
#error "include perilune.h"
#endif

#ifdef __cplusplus
extern "C" {
#endif

enum {
    PLN_STORE_TEXT = 200,     /* bytes kept of why an item failed, with a zero at the end */
    PLN_MAX_STORE_NAME = 512, /* bytes */
};

enum pln_write_strategy {
    PLN_WRITE_ASIDE = 1,
    PLN_WRITE_THROUGH,
    PLN_WRITE_BEHIND,
    PLN_WRITE_AROUND,
};

enum pln_store_op {
    PLN_STORE_SET = 1,
    PLN_STORE_DELETE,
};

/* One write on its way to the store. */
struct pln_store_item {
    enum pln_store_op op;
    struct pln_bytes key;
    struct pln_bytes value; /* of a set, as it was given to the cache; likewise its format */
    uint8_t format;
    bool is_absent;   /* of a set: "there is no such thing" */
    const char *id;   /* behind: the same whenever this write is tried again; else "" */
    uint64_t version; /* behind: the id as a number below 2^63, larger for what was written later:
                         WHERE version < ... makes a write that comes late or twice do no harm;
                         else 0 */
    unsigned attempt; /* 1, 2, ... */
    int status;       /* for the store to set where one item of several fails: see pln_store */
    char error[PLN_STORE_TEXT];
};

/* Writes n items to the store of record: all of one rule, no key twice unless the rule is "in
 * order", and then in the order in which they were written.
 * Returns: PLN_OK: each is stored, but those whose status was set negative (pln_store_fail());
 * PLN_ESTORE: none is, and the first item's error says why; PLN_ETIMEOUT: it is not known which
 * are. An item whose status is PLN_EINVAL can never be stored, and is not tried again. Threads:
 * through and around run it in the caller's thread, behind in one of the cache's; several at once.
 * It may use the cache for reading. */
typedef int (*pln_store)(void *arg, struct pln_store_item *items, size_t n);

/* Sets an item's status, PLN_ESTORE, PLN_EINVAL or PLN_ETIMEOUT, and its error (NULL: none), of
 * which the first bytes are kept; PLN_OK takes that back. Threads: that of the store. */
PLN_API void pln_store_fail(struct pln_store_item *item, int status, const char *text);

/* What a key's rule says of writing; in pln_options, for keys without a rule. Zero means default.
 */
struct pln_write_options {
    uint8_t strategy; /* enum pln_write_strategy; default aside */
    bool in_order; /* behind: every write of a key is stored, in order; else the last one of those
                      that wait. A store that does not take one of several must leave those of its
                      key behind it as well */
    uint8_t when_full; /* behind: enum pln_when_full */
    pln_store store;   /* required but for aside */
    void *arg;
    pln_ms timeout_ms; /* of one call of the store; default 5 s: it is told by no one, so a store
                          that blocks must have such a bound of its own. Behind, an instance that
                          has died is followed by another after twice that */
    /* behind */
    size_t batch;      /* items of one call at most; default 500 */
    pln_ms every_ms;   /* an item waits so long for others to come with it; default 100 ms */
    size_t most;       /* items waiting in the queue of the namespace; default 100,000 */
    unsigned attempts; /* after so many an item becomes a dead letter; default 10. Of instances that
                          had it before at most half of them count */
    pln_ms backoff_ms; /* before the second attempt, doubling up to a minute; default 200 ms */
    size_t dead;       /* dead letters kept, the oldest go first; default 10,000 */
};

enum pln_when_full {
    PLN_FULL_WAIT = 1, /* for room, until the call's timeout; then PLN_EBUSY. The default */
    PLN_FULL_THROUGH,  /* written through, once nothing of the key waits; not with in_order */
    PLN_FULL_REFUSE,   /* PLN_EBUSY at once */
};

/* Gives a store the name by which rules call for it: write = behind { store = store "name" }. It is
 * kept through reloads; one of the same name takes its place; NULL takes it back. `arg` has to live
 * until pln_close().
 * Returns: PLN_OK; PLN_EINVAL (no name, or a long one), PLN_ENOMEM. Threads: any. */
PLN_API int pln_register_store(struct pln_cache *cache, const char *name, pln_store store,
                               void *arg);

/* Waits until all that was acknowledged before this call, by any instance, is stored or a dead
 * letter; takes part in it where no other instance is at it.
 * Returns: PLN_OK; PLN_ETIMEOUT (0: a minute); as other calls where Redis is away. Threads: any,
 * may block until the deadline. */
PLN_API int pln_flush(struct pln_cache *cache, pln_ms timeout_ms);

/* The queue of a namespace, as all its instances see it. */
struct pln_queue_state {
    uint64_t depth; /* writes that are not stored yet */
    pln_ms lag_ms;  /* the age of the oldest; 0: there is none */
    uint64_t dead;  /* dead letters */
    bool is_ours;   /* this instance is the one that stores */
};
PLN_API int pln_queue_state(struct pln_cache *cache, struct pln_queue_state *state);

/* A write that could not be stored. Bytes are valid during the call that shows it. */
struct pln_dead_letter {
    const char *id; /* of the letter, for the calls below */
    enum pln_store_op op;
    struct pln_bytes key, value;
    uint8_t format;
    bool is_absent;
    const char *write_id; /* of the write: see pln_store_item */
    unsigned attempts;
    pln_ms age_ms; /* since it was given up */
    const char *error;
};

/* Shows the letters, oldest first, `most` at most (0: all); a visitor that returns false ends it.
 * Return: PLN_OK; as other calls where Redis is away. */
typedef bool (*pln_letter_visit)(void *arg, const struct pln_dead_letter *letter);
PLN_API int pln_dead_letters(struct pln_cache *cache, size_t most, pln_letter_visit visit,
                             void *arg);
/* Puts a letter back at the end of the queue, unless the key has been written since: then it is
 * dropped, since it would undo that. The next reader gets what waits again. With NULL all of them,
 * but for those that are no writes of ours. *n: how many were put back.
 * Return: PLN_OK; PLN_MISS where there is no such letter; PLN_EINVAL where it is no write. */
PLN_API int pln_retry_letter(struct pln_cache *cache, const char *id, size_t *n);
/* Removes one, or with NULL all of them. */
PLN_API int pln_drop_letter(struct pln_cache *cache, const char *id, size_t *n);

#ifdef __cplusplus
}
#endif

#endif
