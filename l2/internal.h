/* SPDX-License-Identifier: MIT
 *
 * internal.h - what the files of this folder, and their tests, share.
 *
 * From the ground up: transport.h (url, resp, reply, conn, pool, line), script (what runs in the
 * server), floor, redis and read (the operations), bus (the link), client (its life). None calls
 * what stands above it; the pool asks the link to go down through a function pointer.
 *
 * The floor's lock is taken while no other is held; the lock of the links is held while events are
 * reported, so that up and down are told in the order in which they came.
 */
#ifndef PLN_L2_INTERNAL_H
#define PLN_L2_INTERNAL_H

#include "descriptors.h"
#include "drops.h"
#include "feed.h"
#include "pulse.h"
#include "queued.h"
#include "removes.h"
#include "replica.h"

/* ---- codec.c: the envelope ---- */

enum {
    PLN_ENVELOPE_BEFORE = 8,  /* bytes before the times */
    PLN_ENVELOPE_CREATED = 8, /* where the times are */
    PLN_ENVELOPE_STALE = 16,
    PLN_ENVELOPE_GONE = 24,
    PLN_ENVELOPE_TAGS = 44, /* the head's length: the tags begin here */
    PLN_ENVELOPE_AFTER_MAX = 4 + PLN_MAX_TAGS * (1 + PLN_MAX_TAG),
    PLN_L2_MAX_VALUE = 511 * 1024 * 1024, /* Redis ends at 512 MiB, envelope included */
};

/* About 30,000 years. What lasts longer is forever; what is not longer can be added to any time of
 * a server and stays a whole number in Lua's doubles. */
#define PLN_L2_LONGEST ((pln_ms) 1000000000000000)

void pln_put_big(uint8_t *at, uint64_t number, size_t n_bytes);
uint64_t pln_take_big(const uint8_t *at, size_t n_bytes);

/* Returns: PLN_OK; PLN_ETOOBIG, PLN_EINVAL where the item cannot be stored. */
int pln_envelope_check(const struct pln_l2_item *item);
/* An envelope but for its times and tag clock, which a script puts between: the bytes before them,
 * and those after (returns how many). The value follows as it is. */
void pln_envelope_before(const struct pln_l2_item *item, uint8_t before[PLN_ENVELOPE_BEFORE]);
size_t pln_envelope_after(const struct pln_l2_item *item, uint8_t after[PLN_ENVELOPE_AFTER_MAX]);
/* A whole envelope, and the changes that scripts make, for a server without scripts (mem.c). */
size_t pln_envelope_size(const struct pln_l2_item *item);
void pln_envelope_write(const struct pln_l2_item *item, pln_ms server_now, uint8_t *envelope);
void pln_envelope_expire(uint8_t *envelope, pln_ms server_now);
void pln_envelope_touch(uint8_t *envelope, pln_ms server_now, pln_ms fresh, pln_ms life);
/* Returns: PLN_OK, PLN_MISS (past its end), PLN_EINVAL (no envelope of this version), PLN_ENOMEM.
 */
int pln_envelope_read(struct pln_bytes envelope, pln_ms server_now, struct pln_l2_value *value);

/* ---- message.c: what is said on the channel ---- */

enum pln_message_kind {
    PLN_MESSAGE_KEY = 'k',    /* payload: the key */
    PLN_MESSAGE_KEYS = 'K',   /* several, each behind its length, 16 bits */
    PLN_MESSAGE_EXPIRE = 'x', /* the key */
    PLN_MESSAGE_EXTEND = 'e', /* how long it is fresh, how long it lives, 64 bits each; the key */
    PLN_MESSAGE_TAG = 't',    /* the tag */
    PLN_MESSAGE_MATCH = 'm',  /* a mask's kind and text; its time, 64 bits */
    PLN_MESSAGE_CLEAR = 'c',  /* the new tag clock, 64 bits */
    PLN_MESSAGE_FILLED = 'f', /* the key */
    PLN_MESSAGE_PING = 'p',   /* a number, 64 bits: the link's test of itself */
};

enum {
    PLN_MESSAGE_HEAD = 14,  /* version, kind, origin */
    PLN_MESSAGE_NUMBER = 8, /* behind the payload */
    PLN_MESSAGE_CLEAR_BYTES = 8,
    PLN_MESSAGE_EXTEND_BYTES = 16, /* before the key */
    PLN_MESSAGE_MAX = PLN_MESSAGE_HEAD + PLN_MESSAGE_EXTEND_BYTES + PLN_MAX_KEY,
};

/* Who wrote: an instance, and which of its connections, counted through its life. */
struct pln_origin {
    uint64_t instance;
    uint32_t incarnation;
};

struct pln_message {
    enum pln_message_kind kind;
    struct pln_origin origin;
    struct pln_bytes payload;
    uint64_t number; /* 0: it has none */
};

/* Whether the server numbers messages of this kind: those that report a change. */
bool pln_message_is_numbered(enum pln_message_kind kind);
/* All but the number. Returns the length, which is the head's and the payload's. */
size_t pln_message_write(const struct pln_message *message, uint8_t *bytes);
/* Returns false where the bytes are damaged or of another version. */
bool pln_message_read(struct pln_bytes bytes, struct pln_message *message);
/* Puts the payload of an extension together. */
struct pln_bytes pln_message_extend(struct pln_bytes key, pln_ms fresh, pln_ms life,
                                    uint8_t payload[PLN_MESSAGE_MAX]);
/* The mask of a message's payload, and its time. */
struct pln_mask pln_message_mask(struct pln_bytes payload, uint64_t *clock);
/* Calls the event a message stands for; events that are not set are passed over. */
void pln_message_report(const struct pln_l2_events *events, const struct pln_message *message);

/* ---- names.c: what things are called in Redis ---- */

struct pln_names {
    char *value;     /* "N:v:" */
    char *lease;     /* "N:l:" */
    char *odd_value; /* "N:u:"; this and below: see names.c */
    char *odd_lease; /* "N:k:" */
    char *wrapped;   /* "{N:v:" */
    char *tags;      /* "N:tags" */
    char *log;       /* "N:log" */
    char *peers;     /* "N:peers" */
    char *sweep;     /* "N:sweep" */
    char *queue;     /* "N:queue"; this and the next three: see queue.h */
    char *last;      /* "N:queue:last" */
    char *lead;      /* "N:queue:lead" */
    char *dead;      /* "N:queue:dead" */
    char *channel;   /* "N:inv:2", and with another database than 0 that, too */
    bool is_cluster; /* names decide where things are */
    bool is_tagged;  /* the namespace decides */
    unsigned slot;   /* then: of everything */
    unsigned tags_slot;
};

/* Returns: PLN_OK; PLN_EINVAL (a namespace that cannot be), PLN_ENOMEM. */
int pln_names_init(struct pln_names *names, const char *ns, bool is_cluster, int database);
void pln_names_fini(struct pln_names *names);
/* Write an argument: the name of a key's value, of its lease. */
void pln_names_write_value(const struct pln_names *names, struct pln_bytes key,
                           struct pln_batch *batch);
void pln_names_write_lease(const struct pln_names *names, struct pln_bytes key,
                           struct pln_batch *batch);
/* The slot that both are in, in a cluster. */
unsigned pln_names_slot(const struct pln_names *names, struct pln_bytes key);
/* The key of a value's name; it points into it. False where the name is none of a value. */
bool pln_names_read(const struct pln_names *names, struct pln_bytes name, struct pln_bytes *key);

/* ---- client.c: a client of Redis ---- */

enum pln_link_state { PLN_LINK_NEW, PLN_LINK_UP, PLN_LINK_DOWN };

struct pln_link {
    pthread_t thread;
    bool is_started;
    int wake_fd; /* an eventfd: stop, or go down */
    struct pln_conn conn;
    uint64_t ping; /* the number the link sends to itself */
    bool has_pinged;
    unsigned n_subscribed;
    unsigned n_unanswered;      /* signs of life that were asked for and have not come */
    enum pln_link_state logged; /* what was there last */
    struct pln_hush hush;
    pln_ns backoff;
    char reason[256]; /* of the last failure */
    atomic_bool is_stopping, is_unwanted, is_up, is_hurried;
    atomic_bool is_idle;      /* nobody wants values of this server */
    _Atomic int64_t heard_at; /* last byte */
};

/* One server that values come from: its connections, its link, its floor. */
struct pln_node {
    struct pln_redis *redis; /* the client */
    struct pln_pool pool;    /* of values: each key's commands go over one of its connections */
    struct pln_pool bulk;    /* of all else, which may take long: see node.c */
    struct pln_replicas replicas;
    struct pln_link link;
    struct pln_feed feed; /* of the link's thread */
    struct pln_pulse pulse;
    _Atomic unsigned n_peers;
    pthread_mutex_t floor_lock; /* guards own_clear, and writes of floor */
    uint64_t own_clear;         /* the latest clear of this client's */
    char floor_run_id[PLN_RUN_ID + 1];
    _Atomic uint64_t floor;
    struct pln_drops drops;

    /* of node.c, under the client's lock of the links */
    bool is_wanted;    /* values come from here now */
    bool is_heard;     /* its link is up */
    pln_ms certain_at; /* all that was done here before has been heard; of the host's clock */
};

/* Servers whose addresses were learnt, each once; of the keeper's thread. */
struct pln_places {
    struct pln_endpoint **endpoints;
    size_t n;
};

struct pln_keeper {
    /* constants; `look` is NULL where nothing ever moves */
    int (*look)(struct pln_redis *redis);
    bool (*hear)(struct pln_redis *redis); /* of what `conn` brings; whether to look */
    pln_ns period;

    pthread_t thread;
    int wake_fd; /* an eventfd */
    atomic_bool is_stopping, is_asked, has_found;

    /* the thread's */
    struct pln_conn conn; /* what news comes over */
    struct pln_places places;
    size_t n_sentinels, turn;
    pln_ns backoff, pause, looked_at;
    bool has_changed; /* by the last look */

    pthread_mutex_t lock; /* guards all below */
    pthread_cond_t ended;
    bool is_started;
    uint64_t n_begun, n_ended; /* looks */
    int result;
    char reason[PLN_ERROR_TEXT]; /* of the last look; "" where it was well */
};

struct pln_redis {
    struct pln_l2 l2; /* first, so that a pointer to it is one to the client */
    /* constants */
    struct pln_url url;
    struct pln_names names;
    char *client_name;
    uint64_t instance;
    pln_ns connect_timeout, timeout, ping;
    struct pln_tls *tls; /* NULL where the URL says none */
    unsigned n_slots;    /* data connections to each server */
    unsigned n_bulk;     /* likewise, for what may take long */
    bool tracking;
    size_t log_length; /* messages that are kept in Redis; 0: none */
    bool keeps_lost;   /* a server that has lost writes keeps its values */
    struct pln_host host;
    struct pln_counts *counts;
    struct pln_l2_events events;

    struct pln_node **nodes; /* none goes before the client does */
    _Atomic size_t n_nodes;
    struct pln_ring *ring;      /* NULL: there is none */
    struct pln_slot_map *slots; /* likewise: of a cluster */
    struct pln_places servers;
    struct pln_endpoint unknown; /* where a master is of whom no sentinel has told */
    struct pln_keeper keeper;
    struct pln_pulser pulser;
    struct pln_scout scout;
    struct pln_sweeper sweeper;
    struct pln_throughs throughs;

    pthread_mutex_t links_lock; /* guards what is below, and is held while changes are reported */
    bool is_started;
    bool is_bus_up;    /* every wanted node is heard */
    bool was_up;       /* once */
    bool has_gap;      /* one of them could not tell what was said while it was not heard */
    pln_ms certain_at; /* the earliest of theirs that was reported */
};

static inline struct pln_redis *pln_redis_of(struct pln_l2 *l2) {
    return PLN_CONTAINER_OF(l2, struct pln_redis, l2);
}

/* Whether messages are kept in Redis. */
static inline bool pln_redis_has_log(const struct pln_redis *redis) {
    return redis->log_length > 0 && redis->slots == NULL;
}

extern const struct pln_l2_ops pln_redis_ops;
void pln_redis_close(struct pln_l2 *l2);
int pln_redis_start(struct pln_l2 *l2);
void pln_redis_health(struct pln_l2 *l2, struct pln_l2_health *health);
size_t pln_redis_nodes(struct pln_l2 *l2, pln_node_visit visit, void *arg);

/* ---- node.c: the servers of a client ---- */

enum { PLN_MOST_NODES = 1024 };

/* Makes the servers of the URL. */
int pln_nodes_init(struct pln_redis *redis);
void pln_nodes_fini(struct pln_redis *redis);
static inline size_t pln_nodes_count(struct pln_redis *redis) {
    /* N1 acquire: a node before it is counted; pairs with add */
    return atomic_load_explicit(&redis->n_nodes, memory_order_acquire);
}
/* The place of the server that has a name, which tells equal ones apart and sorts them. */
size_t pln_node_place(struct pln_redis *redis, struct pln_bytes key);
struct pln_node *pln_node_at(struct pln_redis *redis, size_t place);
static inline struct pln_node *pln_node_of(struct pln_redis *redis, struct pln_bytes key) {
    return pln_node_at(redis, pln_node_place(redis, key));
}
/* The same for a whole name in Redis. */
struct pln_node *pln_node_of_name(struct pln_redis *redis, struct pln_bytes name);
/* Waits until it is known where the servers are. Returns: PLN_OK; PLN_EL2DOWN, and why not. */
int pln_nodes_await(struct pln_redis *redis, pln_ns deadline);
/* The same for who cannot wait. */
int pln_nodes_need(struct pln_redis *redis);
/* The connection that a key's commands go over. */
static inline size_t pln_node_slot(const struct pln_node *node, const struct pln_hashed *key) {
    return (size_t) (key->hash % node->pool.n_slots);
}
/* What the pools of a node and its replicas have in common; how many connections, and how patient,
 * is for the caller to add. */
struct pln_pool pln_node_constants(struct pln_node *node, const struct pln_endpoint *endpoint);
/* Where a request's commands go. */
static inline struct pln_pool *pln_node_pool(struct pln_node *node,
                                             const struct pln_request *request) {
    return request->is_bulk ? &node->bulk : &node->pool;
}
/* The server is elsewhere from now on; only connections to this one are right. */
void pln_node_move(struct pln_node *node, const struct pln_endpoint *endpoint);
void pln_node_require(struct pln_node *node, const char *run_id);
void pln_node_checked(struct pln_node *node, const char *run_id);
/* As pln_pool_trust(), of all servers; likewise the next. */
uint64_t pln_nodes_trust(struct pln_redis *redis);
bool pln_nodes_await_trust(struct pln_redis *redis, pln_ns deadline);
/* Refuses what was read meanwhile, of servers that may lack what was acknowledged. Returns whether
 * there was any. */
bool pln_nodes_distrust(struct pln_redis *redis, uint64_t before, struct pln_l2_value *values,
                        int *statuses, size_t n);
/* The server that has the tags' clock for what is on `node`. */
struct pln_node *pln_node_of_tags(struct pln_node *node);
/* One more; by one thread at a time. */
int pln_node_add(struct pln_redis *redis, const struct pln_endpoint *endpoint, bool is_wanted);
/* Its link is up, or lost; whether values come from it: reported where that changes it for all. */
enum pln_hearing { PLN_UNHEARD, PLN_HEARD_ANEW, PLN_HEARD_ON /* nothing was missed */ };
void pln_node_heard(struct pln_node *node, enum pln_hearing hearing);
/* All that was done on it before this point has been heard. */
void pln_node_certain(struct pln_node *node, pln_ms at);
void pln_node_want(struct pln_node *node, bool is_wanted);
bool pln_node_is_wanted(struct pln_node *node);
/* Starts the links of those that are wanted. */
int pln_nodes_start(struct pln_redis *redis);

struct pln_address;
/* The endpoint of an address, made where there is none; NULL (with the failure kept) where memory
 * or the bound is at its end. */
const struct pln_endpoint *pln_places_find(struct pln_places *places,
                                           const struct pln_address *address);
void pln_places_fini(struct pln_places *places);

/* ---- keeper.c: who knows where the servers are; watch.c, cluster.c: how ---- */

int pln_keeper_init(struct pln_redis *redis);
int pln_keeper_start(struct pln_redis *redis);
void pln_keeper_stop(struct pln_redis *redis);
void pln_keeper_fini(struct pln_redis *redis);
/* Asks for a look, and returns. */
void pln_keeper_ask(struct pln_redis *redis);
/* Waits for a look that begins after this. Returns: PLN_OK; PLN_EL2DOWN with what it met. */
int pln_keeper_wait(struct pln_redis *redis, pln_ns deadline);
/* Whether it is known where the servers are. */
bool pln_keeper_has_looked(struct pln_redis *redis);

int pln_watch_init(struct pln_redis *redis);
int pln_cluster_init(struct pln_redis *redis);
void pln_cluster_fini(struct pln_redis *redis);
struct pln_node *pln_cluster_node(struct pln_redis *redis, const struct pln_address *address,
                                  size_t *place);

/* ---- route.c: a command to where its key is ---- */

/* As pln_line_ask(), from *node on, which becomes the one that answered. */
int pln_route_ask(struct pln_node **node, size_t index, struct pln_request *request,
                  pln_ns deadline, struct pln_reply **reply);

/* ---- redis.c: the operations ---- */

struct pln_script_call;

/* A request's write() whose argument is a batch, sent as it is. */
void pln_write_batch(void *arg, const struct pln_slot *slot, struct pln_batch *batch);
/* Sends a batch of one command over a connection and takes its reply, which is no error but perhaps
 * WRONGTYPE: a key that is none of ours. *node becomes the one that answered. */
int pln_redis_ask(struct pln_node **node, size_t index, struct pln_batch *batch,
                  const char *command, unsigned kinds, pln_ns deadline, struct pln_reply **reply);
/* The same to one server, wherever the key is. */
int pln_redis_ask_pool(struct pln_pool *pool, size_t index, struct pln_batch *batch,
                       const char *command, unsigned kinds, pln_ns deadline,
                       struct pln_reply **reply);
int pln_redis_check_key(const struct pln_hashed *key);
int pln_redis_clock_apart(struct pln_redis *redis, pln_ns deadline, uint64_t *clock);
int pln_redis_swap(struct pln_l2 *l2, const struct pln_hashed *key, const struct pln_l2_swap *swap,
                   pln_ns deadline, struct pln_l2_value *value);
/* Runs a script on every server that has tags, and gives the number it answers with to `take` (may
 * be NULL). All are tried, and the first failure is told. */
int pln_redis_run_everywhere(struct pln_redis *redis, const struct pln_script_call *call,
                             int (*take)(struct pln_node *node, uint64_t number, const void *arg,
                                         pln_ns deadline),
                             const void *arg, pln_ns deadline);
int pln_redis_clear_node(struct pln_node *node, pln_ns deadline);
/* Publishes the link's test of itself over a data connection. */
int pln_redis_ping(struct pln_node *node, uint64_t number, pln_ns deadline);

/* Where a redirect leads, seen from the server that gave it. NULL where that is no node yet: then
 * the keeper is asked to look. */
struct pln_redirect;
struct pln_node *pln_route_find(struct pln_node *asked, struct pln_redirect *redirect,
                                size_t *place);
/* Takes a redirect for what is so. */
void pln_route_note(struct pln_redis *redis, const struct pln_redirect *redirect,
                    struct pln_node *node, size_t place);

/* ---- floor.c: the latest clear ---- */

void pln_floor_init(struct pln_node *node);
void pln_floor_fini(struct pln_node *node);
/* The server that the link found: own clears of another one mean nothing there. */
void pln_floor_server(struct pln_node *node, const char *run_id);
void pln_floor_run_id(struct pln_node *node, char run_id[PLN_RUN_ID + 1]);
void pln_floor_raise(struct pln_node *node, uint64_t clock, bool is_own);
void pln_floor_forget(struct pln_node *node);
uint64_t pln_floor_now(struct pln_node *node);
/* What the server says of its tags: when the hash was made, the last clear, the clock, and the
 * masks in force. */
struct pln_times {
    uint64_t base, cleared, clock;
    struct pln_bytes drops;
};
void pln_floor_take(struct pln_node *node, const struct pln_times *times);
/* The tags' clock as it is now. */
int pln_floor_clock(struct pln_node *node, pln_ns deadline, uint64_t *clock);

/* ---- read.c: get ---- */

/* Values of one server, with their keys and statuses. */
struct pln_reading {
    const struct pln_hashed *keys;
    struct pln_l2_value *values;
    int *statuses;
    size_t n;
};

int pln_redis_get(struct pln_l2 *l2, const struct pln_hashed *key, pln_ns deadline,
                  struct pln_l2_value *value);
/* A value from its reply; what cannot be one is counted, and a miss. */
int pln_read_value(struct pln_redis *redis, struct pln_pool *pool, const struct pln_reply *reply,
                   struct pln_l2_value *value);
/* Turns what is void into misses. Where that cannot be found out, nothing is served. */
int pln_read_times(struct pln_node *node, size_t index, struct pln_reading *reading,
                   pln_ns deadline);

/* The same by what a replica says, where it is not NULL. */
int pln_read_times_over(struct pln_node *node, struct pln_pool *replica, size_t index,
                        struct pln_reading *reading, pln_ns deadline);

/* ---- near.c: from replicas ---- */

int pln_redis_get_near(struct pln_l2 *l2, const struct pln_hashed *key, enum pln_read how,
                       pln_ns deadline, struct pln_l2_value *value);
int pln_redis_get_many_near(struct pln_l2 *l2, const struct pln_hashed *keys,
                            const enum pln_read *hows, size_t n, pln_ns deadline,
                            struct pln_l2_value *values, int *statuses);

/* ---- many.c: get_many ---- */

int pln_redis_get_many(struct pln_l2 *l2, const struct pln_hashed *keys, size_t n, pln_ns deadline,
                       struct pln_l2_value *values, int *statuses);

#include "script.h"

/* ---- talk.c: a conversation of one's own ---- */

int pln_redis_talk(struct pln_l2 *l2, struct pln_bytes name, struct pln_l2_talk **talk);

/* ---- bus.c: the link ---- */

int pln_link_init(struct pln_node *node);
int pln_link_start(struct pln_node *node);
/* Asks the link to go down and come up anew; not to wait longer before it comes up. */
void pln_link_drop(void *node);
void pln_link_hurry(void *node);
/* Whether to stay down, since nobody wants values of this server. */
void pln_link_set_idle(struct pln_node *node, bool is_idle);
void pln_link_stop(struct pln_node *node);
bool pln_link_is_ok(struct pln_node *node, pln_ms *beat_age);

/* ---- hear.c: what comes over the link ---- */

extern const char pln_tracking_channel[];
/* Takes what came over the link; its thread, or a test without one. Returns: PLN_OK, or PLN_EL2DOWN
 * where the reply makes no sense, or shows that messages are missing. */
int pln_link_take(struct pln_node *node, const struct pln_reply *reply);
/* Takes a message that was read from the log. */
void pln_link_take_logged(struct pln_node *node, struct pln_bytes bytes);

/* ---- mend.c: what was not heard ---- */

/* Finds out what was missed while the link was down, and hears it from the log where it can be had.
 * Returns: PLN_OK, with whether nothing is missing; as pln_script_run(). */
int pln_mend(struct pln_node *node, bool *is_whole);
/* Has the server asked how far it is; takes its answer, where *is_there. Return: PLN_OK;
 * PLN_EL2DOWN where messages are missing, or its row is another one. */
int pln_mend_beat(struct pln_node *node);
int pln_mend_answer(struct pln_node *node, bool *is_there);
/* Asks it; any thread. */
int pln_mend_ask(struct pln_node *node, struct pln_reply **reply);
/* A sign of life has come over the link that was asked for after that. Returns: PLN_OK; PLN_EL2DOWN
 * where messages are missing. */
int pln_mend_confirm(struct pln_node *node);

#endif
