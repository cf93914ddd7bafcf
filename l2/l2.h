/* SPDX-License-Identifier: MIT
 *
 * l2.h - the shared tier and the bus: what every process of a fleet sees, and how it hears of what
 * the others did. It knows nothing of L1, of policies, or of the cache above.
 *
 * Two implementations stand behind one table of functions: Redis (redis.c over conn.c, with the
 * link of bus.c) and memory (mem.c: several clients of one server inside a process, with delay,
 * loss and cut, for tests: ours and users'). What the state of the link means for L1 is the cache's
 * business: this side only reports, in the order in which things happened.
 *
 *   url.c    where the servers are and how to log in
 *   lookup.c, descriptors.c, dial.c, tls.c, secure.c, stream.c   names, sockets, TLS, bytes
 *   conn.c   one supervised connection: deadline, identity, reconnect
 *   pool.c   the data connections of a node, its circuit breaker and backoff
 *   resp.c   commands as bytes; shape.c answers of RESP3 in the shape of RESP2
 *   redis.c  a client, and the operations that change a value; swap.c the one that looks first
 *   read.c   those that read; near.c from replicas, which replica.c looks after; read_async.c a get
 *            whose caller does not wait
 *   lease.c  the right to load, and what is stored by it, by itself and many at once
 *   async.c  a thread with many commands in flight; courier.c its connection
 *   script.c the Lua scripts that run inside Redis, by hash
 *   codec.c  the envelope of a stored value; message.c what is said on the channel
 *   bus.c    the link: subscription, tracking, heartbeat; hear.c what comes over it
 *   queue.c, behind.c, take.c, letters.c  writes that wait to be stored (queue.h); through.c those
 *            that were stored first
 *   removes.c many keys at once; drops.c prefixes and patterns; sweep.c gives their memory back
 *   feed.c   the row of messages: what is missing; mend.c how it is come by
 *   talk.c   a conversation of somebody's own: a connection that may block, or subscribe
 *   slots.c, shards.c, ring.c, sentinel.c, address.c  where a key lies among several servers
 *   keeper.c who knows where servers are: watch.c by sentinels, cluster.c in a cluster
 *   mem.c    tier and bus in memory; memops.c operations, memfault.c faults, memlate.c delays
 *
 * Names in Redis, for a namespace N and a key K: N:v:K the value in its envelope, N:l:K the lease,
 * N:tags the clock and the tags' times (a hash), N:log the last messages (a stream), N:peers who
 * is there (a sorted set), N:sweep who removes what prefixes and patterns have voided, N:queue and
 * three more the writes that wait, N:inv:2 the channel (2 is the wire version).
 *
 * The tag clock is a counter kept in Redis: dropping a tag, or everything, gives that the next
 * number as its time. A value carries the clock's number of when its source was read, and is void
 * once one of its tags, or "everything", has a later time. No wall clock takes part.
 */
#ifndef PLN_L2_H
#define PLN_L2_H

#include "../core/base/base.h"
#include "../core/base/stats.h"

struct pln_l2;
struct pln_l2_health;

/* What other instances did, and how the link fares. Called from the thread of a link, one at a time
 * for each server. Own messages are not reported, unless a connection was lost in between. */
struct pln_l2_events {
    void *arg;
    /* the key was written or deleted by somebody else: forget it */
    void (*on_key)(void *arg, struct pln_bytes key);
    /* the key was made stale by somebody else */
    void (*on_expire)(void *arg, struct pln_bytes key);
    /* the key was given new durations from then on, by somebody else */
    void (*on_extend)(void *arg, struct pln_bytes key, pln_ms fresh, pln_ms life);
    void (*on_tag)(void *arg, struct pln_bytes tag);
    /* all keys of the mask were deleted by somebody else */
    void (*on_match)(void *arg, const struct pln_mask *mask);
    /* everything is void: clear(), FLUSHALL, or a server that forgot */
    void (*on_clear)(void *arg);
    /* a load that others wait for has ended, well or badly: wake who waits */
    void (*on_filled)(void *arg, struct pln_bytes key);
    /* messages may be missing from now on; called before anything else can happen */
    void (*on_down)(void *arg);
    /* Messages about the keys that one server of several has may be missing: between on_down and
     * on_up. `has` says of a key whether that server has it. */
    void (*on_part)(void *arg, bool (*has)(const void *server, struct pln_bytes key),
                    const void *server);
    /* Subscribed again, confirmed, and to the server that data comes from. Whole: whatever was said
     * meanwhile has been reported, so what was known before on_down is good again. */
    void (*on_up)(void *arg, bool is_whole);
    /* all that was done before this point of the host's clock has been reported */
    void (*on_certain)(void *arg, pln_ms at);
};

/* How a client knows a server under TLS, and how it shows who it is itself. */
struct pln_tls_options {
    const char *ca;    /* whom to trust, a file or folder; NULL: whom the system trusts */
    const char *cert;  /* the client's own, and its key; NULL: none */
    const char *key;   /* NULL: in the file of `cert` */
    const char *name;  /* in the servers' certificates; NULL: the host of the URL */
    bool is_unchecked; /* any certificate will do */
};

struct pln_l2_options {
    const char *url;      /* redis://..., unix:..., and those of several servers: see url.c */
    const char *username; /* NULL: the URL's */
    const char *password;
    struct pln_tls_options tls;
    const char *ns;
    pln_ms connect_timeout_ms, timeout_ms, ping_ms;
    unsigned pool, bulk_pool; /* connections: of values, of pln_l2_command() */
    bool tracking;
    size_t log_length; /* messages that the server keeps for who missed them; 0: none */
    bool keeps_lost;   /* a server that has lost writes keeps its values; else they are dropped */
    struct pln_counts *counts;   /* borrowed */
    const struct pln_host *host; /* borrowed; its clock is not used for system deadlines */
    struct pln_l2_events events;
};

/* A value as stored or read. Durations count from now; the tier turns them into its own times. */
struct pln_l2_item {
    struct pln_bytes value;
    pln_ms age;         /* since its source was read */
    pln_ms fresh_left;  /* until stale; negative: stale for so long */
    pln_ms life_left;   /* until gone; PLN_FOREVER allowed here and above */
    uint64_t tag_clock; /* of when its source was read (from a lease); 0 in set: now */
    const struct pln_bytes *tags;
    size_t n_tags;
    uint8_t format, packing; /* the caller's; packing 0: the bytes are the value */
    bool is_absent;
};

/* A value read: the item's bytes and tags lie in `memory`, which pln_l2_value_fini() frees. */
struct pln_l2_value {
    struct pln_l2_item item;
    void *memory, *raw;   /* raw: of the caller's, freed with the rest */
    bool is_from_replica; /* it may be older than what was heard last: for a short life only */
};
void pln_l2_value_fini(struct pln_l2_value *value);

struct pln_batch;
struct pln_l2_swap;  /* swap.h */
struct pln_l2_write; /* queue.h */
struct pln_l2_queue_ops;
struct pln_l2_talk;
struct pln_node;
struct pln_reply;

/* A command given to the thread that carries many at a time (async.c). */
struct pln_errand {
    void (*write)(struct pln_errand *errand, struct pln_batch *batch);
    void (*end)(struct pln_errand *errand, int status, const struct pln_reply *reply);
    pln_ns deadline;
    unsigned kinds; /* of replies that may be the answer, beside errors; bits, 0: any */
    bool is_asking; /* of a cluster: the slot is on its way to this server */
    struct pln_errand *next;
};

/* A get whose caller does not wait. The memory is the caller's, and stays until done() is called;
 * there it is the caller's again, who may free it or use it for the next. */
struct pln_l2_get {
    struct pln_hashed key; /* borrowed until done() */
    pln_ns deadline;
    /* Status and value as from pln_l2_get(); `value` is NULL but for PLN_OK, and then the callee's
     * to fini. A failure's text is pln_error_text(). Called from a thread of the client's: it must
     * not wait, nor close the client, and may begin other gets. */
    void (*done)(struct pln_l2_get *get, int status, struct pln_l2_value *value);
    void *arg; /* the caller's own */

    struct pln_node *node; /* that is asked; the tier's, as all below */
    uint64_t trust;        /* in the servers when it began */
    unsigned n_hops;
    struct pln_l2_value value; /* read, while the times of its tags are asked for */
    struct pln_errand errand;
};

struct pln_l2_lease {
    uint8_t token[16];
    uint64_t tag_clock; /* to be put in the item that is committed */
    pln_ms left;        /* where another holds it: at most so long */
    bool is_empty;      /* granted, while there was no value at all: none need be asked for */
};

/* What was to be done to a key a while ago, and failed. */
struct pln_l2_redo {
    enum pln_l2_redo_kind { PLN_REDO_SET, PLN_REDO_REMOVE, PLN_REDO_EXPIRE } kind;
    pln_ms age;     /* since it was to be done */
    uint64_t heard; /* of a set: up to here nothing was heard that ended the key since; or 0 */
    const struct pln_l2_item *item; /* of a set; its durations count from now, as ever */
};

enum pln_reply_kind {
    PLN_REPLY_NIL,
    PLN_REPLY_STATUS, /* bytes; likewise ERROR and STRING */
    PLN_REPLY_ERROR,
    PLN_REPLY_INTEGER,
    PLN_REPLY_STRING,
    PLN_REPLY_ARRAY,  /* elements; likewise MAP (keys and values in turn), SET and PUSH */
    PLN_REPLY_DOUBLE, /* number, and its text in bytes; this and below: RESP3 only */
    PLN_REPLY_BOOL,   /* integer */
    PLN_REPLY_MAP,
    PLN_REPLY_SET,
    PLN_REPLY_PUSH,
};

/* What a server answered. A tree is one piece of memory: who has its root frees it. */
struct pln_reply {
    enum pln_reply_kind kind;
    int64_t integer;
    double number;
    struct pln_bytes bytes; /* with a zero behind them */
    const struct pln_reply *elements;
    size_t n_elements;
};
void pln_reply_free(struct pln_reply *reply); /* a root; NULL is allowed */

/* The function table. Semantics of each stand at the inline functions below. `deadline` is a point
 * of pln_clock_precise(). */
struct pln_l2_ops {
    void (*close)(struct pln_l2 *);
    int (*start)(struct pln_l2 *);
    int (*get)(struct pln_l2 *, const struct pln_hashed *, pln_ns deadline, struct pln_l2_value *);
    int (*get_many)(struct pln_l2 *, const struct pln_hashed *, size_t n, pln_ns deadline,
                    struct pln_l2_value *, int *statuses);
    int (*get_async)(struct pln_l2 *, struct pln_l2_get *);
    /* NULL where there are no replicas */
    int (*get_near)(struct pln_l2 *, const struct pln_hashed *, enum pln_read, pln_ns deadline,
                    struct pln_l2_value *);
    int (*get_many_near)(struct pln_l2 *, const struct pln_hashed *, const enum pln_read *,
                         size_t n, pln_ns deadline, struct pln_l2_value *, int *statuses);
    int (*set)(struct pln_l2 *, const struct pln_hashed *, const struct pln_l2_item *,
               uint32_t set_flags, pln_ns deadline);
    int (*remove)(struct pln_l2 *, const struct pln_hashed *, pln_ns deadline);
    int (*remove_many)(struct pln_l2 *, const struct pln_hashed *, size_t n, pln_ns deadline);
    int (*expire)(struct pln_l2 *, const struct pln_hashed *, pln_ns deadline);
    int (*touch)(struct pln_l2 *, const struct pln_hashed *, pln_ms fresh, pln_ms life,
                 pln_ms least, pln_ns deadline);
    int (*swap)(struct pln_l2 *, const struct pln_hashed *, const struct pln_l2_swap *,
                pln_ns deadline, struct pln_l2_value *);
    int (*lease)(struct pln_l2 *, const struct pln_hashed *, pln_ms length, pln_ns deadline,
                 struct pln_l2_lease *);
    void (*lease_many)(struct pln_l2 *, const struct pln_hashed *, const pln_ms *lengths, size_t n,
                       pln_ns deadline, struct pln_l2_lease *, int *statuses); /* NULL: singly */
    int (*commit)(struct pln_l2 *, const struct pln_hashed *, const struct pln_l2_lease *,
                  const struct pln_l2_item *, pln_ns deadline);
    void (*commit_many)(struct pln_l2 *, const struct pln_hashed *, const struct pln_l2_lease *,
                        const struct pln_l2_item *, size_t n, pln_ns deadline,
                        int *statuses); /* likewise */
    int (*release)(struct pln_l2 *, const struct pln_hashed *, const struct pln_l2_lease *,
                   pln_ns deadline);
    uint64_t (*heard)(struct pln_l2 *, const struct pln_hashed *); /* NULL: there are no numbers */
    int (*redo)(struct pln_l2 *, const struct pln_hashed *, const struct pln_l2_redo *,
                pln_ns deadline);
    int (*write)(struct pln_l2 *, const struct pln_hashed *, const struct pln_l2_write *,
                 pln_ns deadline, struct pln_l2_value *);
    int (*through)(struct pln_l2 *, const struct pln_hashed *, const struct pln_l2_item *,
                   pln_ns began, pln_ns deadline);
    const struct pln_l2_queue_ops *queue; /* queue.h; NULL: it has none */
    int (*drop_tag)(struct pln_l2 *, struct pln_bytes tag, pln_ns deadline);
    int (*drop_match)(struct pln_l2 *, const struct pln_mask *, pln_ns deadline);
    int (*clear)(struct pln_l2 *, pln_ns deadline);
    int (*command)(struct pln_l2 *, const struct pln_bytes *key, const struct pln_bytes *args,
                   size_t n_args, pln_ns deadline, struct pln_reply **reply);
    int (*talk)(struct pln_l2 *, struct pln_bytes name, struct pln_l2_talk **); /* NULL: none */
    void (*health)(struct pln_l2 *, struct pln_l2_health *);
    size_t (*nodes)(struct pln_l2 *, pln_node_visit visit, void *arg); /* NULL: it has none */
};

struct pln_l2 {
    const struct pln_l2_ops *ops;
};

struct pln_l2_health {
    bool bus_ok;          /* subscribed, confirmed by an own message, heartbeat in time */
    bool breaker_open;    /* commands fail at once */
    unsigned connections; /* that are up, of both pools */
    pln_ms beat_age;      /* since the link's last sign of life */
    unsigned peers;       /* instances of the namespace that were heard of lately, this one too */
    unsigned n_nodes;     /* servers */
    unsigned n_nodes_up;  /* of them: the link is live, and commands go to it */
    unsigned replicas;    /* that are read from */
};

/* Opens a client; nothing is connected, and no thread begun, until start or the first command.
 * Returns: PLN_OK; PLN_EINVAL (a URL or option, named), PLN_ENOMEM. */
int pln_l2_redis_new(const struct pln_l2_options *options, struct pln_l2 **l2);

/* What stands in the place of a client that could not be made: it refuses all. Never closed. */
struct pln_l2 *pln_l2_gone(void);
/* Around a fork. In the child all descriptors of its parent's clients are closed, without a word to
 * the servers; the clients are of no more use there, and their memory is left alone. */
void pln_l2_freeze(void);
void pln_l2_thaw(bool is_child);

/* ---- the operations ----
 * All return PLN_EL2DOWN (not reachable, breaker open), PLN_ETIMEOUT (after it was sent: the
 * outcome is unknown), PLN_EL2 (the server's own error) or PLN_ENOMEM where they fail.
 * Threads: any, may block until the deadline. Commands for one key go over one connection, in
 * order; a connection that was lost with a command under way is fenced (CLIENT KILL of its id)
 * before its successor sends anything, so that a late command cannot undo a newer one. */

/* Ends the gets under way (PLN_EL2DOWN), stops the threads, frees the client. NULL is allowed. */
static inline void pln_l2_close(struct pln_l2 *l2) {
    l2 == NULL ? (void) 0 : l2->ops->close(l2);
}

/* Starts the link's thread; PLN_ESYSTEM: try again later. Of its events the first is on_up. */
static inline int pln_l2_start(struct pln_l2 *l2) {
    return l2->ops->start(l2);
}

/* Returns: PLN_OK (value is the caller's to fini), PLN_MISS (or an undecodable or void one). */
static inline int pln_l2_get(struct pln_l2 *l2, const struct pln_hashed *key, pln_ns deadline,
                             struct pln_l2_value *value) {
    return l2->ops->get(l2, key, deadline, value);
}

/* One round trip, and a second where tags have to be looked at. statuses[i] as from get; the result
 * is PLN_OK, or negative where no key was answered. */
static inline int pln_l2_get_many(struct pln_l2 *l2, const struct pln_hashed *keys, size_t n,
                                  pln_ns deadline, struct pln_l2_value *values, int *statuses) {
    return l2->ops->get_many(l2, keys, n, deadline, values, statuses);
}

/* Begins a get; at its deadline it ends with PLN_ETIMEOUT, and its answer, should it come, is
 * dropped. There is no order between it and other commands: who has written a key and wants to read
 * it begins the get after the write has returned. In memory done() is called before this returns.
 * Returns: PLN_OK: done() is called, exactly once. Else it never is: PLN_EBUSY (too many wait, or
 * memory is slow), PLN_EL2DOWN (breaker open, or closing), PLN_ETIMEOUT (the deadline has passed),
 * PLN_ETOOBIG, PLN_ESYSTEM (no thread).
 * Threads: any, does not wait for the server. */
static inline int pln_l2_get_async(struct pln_l2 *l2, struct pln_l2_get *get) {
    return l2->ops->get_async(l2, get);
}

/* The same from a replica, where `how` allows it and one is well: a value that was current not long
 * ago. What no replica has, or only past its time, is asked of the primary. Nothing that is
 * written, and no lease, may rest on a value that is from a replica. */
static inline int pln_l2_get_near(struct pln_l2 *l2, const struct pln_hashed *key,
                                  enum pln_read how, pln_ns deadline, struct pln_l2_value *value) {
    value->is_from_replica = false;
    return how == PLN_READ_PRIMARY || key->is_plain || l2->ops->get_near == NULL
               ? l2->ops->get(l2, key, deadline, value)
               : l2->ops->get_near(l2, key, how, deadline, value);
}
static inline int pln_l2_get_many_near(struct pln_l2 *l2, const struct pln_hashed *keys,
                                       const enum pln_read *hows, size_t n, pln_ns deadline,
                                       struct pln_l2_value *values, int *statuses) {
    return l2->ops->get_many_near == NULL
               ? l2->ops->get_many(l2, keys, n, deadline, values, statuses)
               : l2->ops->get_many_near(l2, keys, hows, n, deadline, values, statuses);
}

/* Stores, voids the key's lease and tells the others, in one step of the server's. set_flags are
 * those of enum pln_set_flags. Returns: PLN_OK, PLN_NOT_STORED. */
static inline int pln_l2_set(struct pln_l2 *l2, const struct pln_hashed *key,
                             const struct pln_l2_item *item, uint32_t set_flags, pln_ns deadline) {
    return l2->ops->set(l2, key, item, set_flags, deadline);
}

/* Deletes value and lease and tells the others, whether or not they existed. */
static inline int pln_l2_remove(struct pln_l2 *l2, const struct pln_hashed *key, pln_ns deadline) {
    return l2->ops->remove(l2, key, deadline);
}

/* The same for many keys, in one round trip: those of one connection to one server (in a cluster of
 * one slot) in one step, up to 1,000 and 32 KiB, told by one message. The first failure is told. */
static inline int pln_l2_remove_many(struct pln_l2 *l2, const struct pln_hashed *keys, size_t n,
                                     pln_ns deadline) {
    return l2->ops->remove_many(l2, keys, n, deadline);
}

/* Makes the value stale where it lies, voids the lease, tells the others also on PLN_MISS. */
static inline int pln_l2_expire(struct pln_l2 *l2, const struct pln_hashed *key, pln_ns deadline) {
    return l2->ops->expire(l2, key, deadline);
}

/* New durations from now; tells the others. Where `least` is not 0, only to what is fresh, and is
 * for at least that long from when it was made to when it is stale. Returns: PLN_OK, PLN_MISS. */
static inline int pln_l2_touch(struct pln_l2 *l2, const struct pln_hashed *key, pln_ms fresh,
                               pln_ms life, pln_ms least, pln_ns deadline) {
    return l2->ops->touch(l2, key, fresh, life, least, deadline);
}

/* The right to load a key for all: at most one valid at a time, void once the key is written,
 * deleted or expired. Returns: PLN_OK, PLN_PENDING (on_filled or on_key will say when it ends). */
static inline int pln_l2_lease(struct pln_l2 *l2, const struct pln_hashed *key, pln_ms length,
                               pln_ns deadline, struct pln_l2_lease *lease) {
    return l2->ops->lease(l2, key, length, deadline, lease);
}

/* Stores what was loaded, if the lease is still valid, and ends it; tells those who wait, and
 * nobody else. Returns: PLN_OK, PLN_NOT_STORED (void: hand the value out, keep it nowhere). */
static inline int pln_l2_commit(struct pln_l2 *l2, const struct pln_hashed *key,
                                const struct pln_l2_lease *lease, const struct pln_l2_item *item,
                                pln_ns deadline) {
    return l2->ops->commit(l2, key, lease, item, deadline);
}

/* Ends a lease without a value. Returns: PLN_OK, PLN_MISS (it had ended). */
static inline int pln_l2_release(struct pln_l2 *l2, const struct pln_hashed *key,
                                 const struct pln_l2_lease *lease, pln_ns deadline) {
    return l2->ops->release(l2, key, lease, deadline);
}

/* The number of the last message reported of the key's server; 0: not known. Until on_up ahead of
 * the reports: ask first, then look whether the link is up and what came. Threads: any. */
static inline uint64_t pln_l2_heard(struct pln_l2 *l2, const struct pln_hashed *key) {
    return l2->ops->heard != NULL ? l2->ops->heard(l2, key) : 0;
}

/* Does late what could not be done in time, unless something newer has happened, and tells the
 * others to forget the key. What the server has is newer where it was made more than
 * PLN_REDO_DOUBT after the moment at which this was to be done, by the server's clock as far as it
 * is known: then it stays. A set takes the place of a value that is older by as much, or of none
 * where the last message of the server is the one up to which all was heard (`heard`, from
 * pln_l2_heard(); 0: a set creates nothing). Else it becomes a delete: nobody can know then what
 * came last, and no value is never a wrong one. Returns: PLN_OK; PLN_NOT_STORED (a newer one is
 * there); PLN_PENDING (none is there, and a message is on its way: nothing was done). */
enum { PLN_REDO_DOUBT = 100 }; /* ms: clocks in steps of 10 ms, and some that drift */
static inline int pln_l2_redo(struct pln_l2 *l2, const struct pln_hashed *key,
                              const struct pln_l2_redo *redo, pln_ns deadline) {
    return l2->ops->redo(l2, key, redo, deadline);
}

/* Whether what an operation of this thread has just failed with may be over a while later: no
 * server, no answer, or a refusal that is not about who we are and what we ask. */
bool pln_l2_may_pass(int status);

/* Voids every value with the tag, in constant time, and tells the others. */
static inline int pln_l2_drop_tag(struct pln_l2 *l2, struct pln_bytes tag, pln_ns deadline) {
    return l2->ops->drop_tag(l2, tag, deadline);
}

/* The same with every key that fits. Their memory is given back behind. Masks whose values have not
 * gone yet are bounded; past that all is void. Loads under way are not stored, whatever the key. */
static inline int pln_l2_drop_match(struct pln_l2 *l2, const struct pln_mask *mask,
                                    pln_ns deadline) {
    return l2->ops->drop_match(l2, mask, deadline);
}

/* Voids every value of the namespace, in constant time, and tells the others. */
static inline int pln_l2_clear(struct pln_l2 *l2, pln_ns deadline) {
    return l2->ops->clear(l2, deadline);
}

/* Any command, as a program gives it; names are taken as they are, without the namespace. `key`
 * says which server of several it is for: one of the names in it, or NULL where it has none (then
 * it goes to any). It goes over connections of its own, where it may take long without any value
 * waiting for it; in order with other commands of the same key. Commands that change what a
 * connection is (SUBSCRIBE, MULTI, BLPOP ...) are for the caller to refuse. The reply's shape is
 * RESP2's also where the server speaks RESP3, but for the kinds that only that has. Returns: PLN_OK
 * (the reply is the caller's to free, and no error), PLN_EL2 with the server's own words where it
 * refuses. */
static inline int pln_l2_command(struct pln_l2 *l2, const struct pln_bytes *key,
                                 const struct pln_bytes *args, size_t n_args, pln_ns deadline,
                                 struct pln_reply **reply) {
    return l2->ops->command(l2, key, args, n_args, deadline, reply);
}

static inline void pln_l2_health(struct pln_l2 *l2, struct pln_l2_health *health) {
    l2->ops->health(l2, health);
}

/* Shows each server to `visit` (may be NULL). Returns how many there are. */
static inline size_t pln_l2_nodes(struct pln_l2 *l2, pln_node_visit visit, void *arg) {
    return l2->ops->nodes == NULL ? 0 : l2->ops->nodes(l2, visit, arg);
}

#include "many.h"
#include "memory.h"
#include "queue.h"
#include "swap.h"
#include "talk.h"

#endif
