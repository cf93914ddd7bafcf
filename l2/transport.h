/* SPDX-License-Identifier: MIT
 *
 * transport.h - private to this folder: commands to one server and answers from it, up to the
 * connections of a node, their breaker and their callers. What the commands mean is internal.h's.
 *
 * Locks: a line's, the pool's and its breaker's; the latter two may be taken with a line's held,
 * and none is held across a system call that may wait, nor while something is logged.
 *
 * Order labels, a pair each:
 *   Q1 a request's outcome, or the lead / its caller takes it
 *   E1 where a server is / who connects to it
 *   S1 a name's addresses / who asked for them takes them
 *   T1 a slot's place in the map (topology.h) / its reader
 *   N1 a node (internal.h) / its place among the nodes
 *   H1 what messages did / who asks how far the row (feed.h) was heard
 * All other atomics of this folder are relaxed, each with its reason; what must be ordered is
 * ordered by a mutex or by the server.
 */
#ifndef PLN_L2_TRANSPORT_H
#define PLN_L2_TRANSPORT_H

#include "breaker.h"
#include "l2.h"
#include "stream.h"

#include <hiredis/hiredis.h>
#include <pthread.h>

/* ---- url.c: where the servers are and how to log in ---- */

enum pln_topology { PLN_ALONE, PLN_SENTINEL, PLN_CLUSTER, PLN_RING };

/* One server. */
struct pln_endpoint {
    char *host; /* NULL where there is a path */
    char *path;
    int port;
    unsigned weight; /* in a ring; 1 elsewhere */
    char *label;     /* for people: no secrets in it */
};

struct pln_login {
    char *username;
    char *password;
    int database;
};

struct pln_url {
    enum pln_topology topology;
    struct pln_endpoint *endpoints; /* at least one; of sentinels: theirs */
    size_t n_endpoints;
    struct pln_login login;
    bool is_tls;
    char *service; /* what sentinels call the servers; else NULL */
    struct pln_login sentinel_login;
    bool is_sentinel_tls;
    char *label; /* for people: no secrets in it */
};

/* Returns: PLN_OK; PLN_EINVAL (what is wrong; the text shows no part of the URL, since that may be
 * a password), PLN_ENOMEM. */
int pln_url_read(const char *text, struct pln_url *url);
/* Replaces what the URL says of the login; NULL leaves it. */
int pln_url_login(struct pln_url *url, const char *username, const char *password);
void pln_url_fini(struct pln_url *url);

/* ---- resp.c: commands as bytes ---- */

/* Commands to be sent together. Zero memory is all it can lack, and it says so once, at the end. */
struct pln_batch {
    char *bytes;
    size_t len, size;
    size_t n_commands;
    bool has_failed;
    char small[512]; /* most commands need no memory */
};

void pln_batch_init(struct pln_batch *batch);
void pln_batch_fini(struct pln_batch *batch);
/* Begins a command; n_args calls of the others must follow. */
void pln_batch_command(struct pln_batch *batch, size_t n_args);
/* Begins one whose first arguments are there as bytes. */
void pln_batch_begun(struct pln_batch *batch, struct pln_bytes begun);
void pln_batch_bytes(struct pln_batch *batch, struct pln_bytes bytes);
/* Adds another batch's commands. */
void pln_batch_add(struct pln_batch *batch, const struct pln_batch *other);
/* One argument made of several. */
void pln_batch_pieces(struct pln_batch *batch, const struct pln_bytes *pieces, size_t n);
void pln_batch_joined(struct pln_batch *batch, struct pln_bytes a, struct pln_bytes b);
void pln_batch_text(struct pln_batch *batch, const char *text);
void pln_batch_number(struct pln_batch *batch, int64_t number);
/* A command all of texts. The last argument is NULL. */
void pln_batch_texts(struct pln_batch *batch, ...) __attribute__((sentinel));

/* ---- reply.c: what a server answers ---- */

/* Of one reader: the tree being built, and why an object was refused. */
struct pln_reader_state {
    struct root *root;
    size_t n_elements;
    char refusal[64];
};

/* A reader of hiredis's that makes struct pln_reply. NULL where memory is out. `state` must live
 * as long as the reader, at one place. */
redisReader *pln_reader_new(struct pln_reader_state *state);
/* The bytes of a string, a status or an error, which end with a zero. */
static inline const char *pln_reply_text(const struct pln_reply *reply) {
    return reply->bytes.data;
}
/* The number that a string says; 0 where there is none. */
static inline uint64_t pln_reply_number(const struct pln_reply *reply) {
    return reply->kind == PLN_REPLY_STRING ? strtoull(pln_reply_text(reply), NULL, 10) : 0;
}
bool pln_reply_is(const struct pln_reply *reply, const char *error_prefix);
/* Room for n more elements in a tree, which go with its root; NULL where memory is out. */
struct pln_reply *pln_reply_more(struct pln_reply *root, size_t n);
/* A copy of a reply that has no elements; NULL where memory is out. */
struct pln_reply *pln_reply_copy(const struct pln_reply *reply);
void pln_replies_free(struct pln_reply **replies, size_t n);

/* ---- shape.c ---- */

/* Gives a command's answer the shape it has in RESP2. Returns: PLN_OK, PLN_ENOMEM. */
int pln_shape(struct pln_bytes command, struct pln_reply *root);

/* ---- refusal.c: errors of a server that mean something to us ---- */

struct pln_refusal {
    const char *name; /* the word that the error begins with */
    const char *part; /* what else its text has; NULL: any */
    const char *hint; /* what an operator can do about it; NULL where there is nothing */
    bool is_passing;  /* it may be gone in a moment, and the command was not carried out */
    bool is_last;     /* the connection is of no more use */
    bool is_fatal;    /* in a login: no other command will do better */
    bool is_for_good; /* until somebody changes who may do what */
    bool is_pong;     /* of a PING, though nothing else that reads is refused so */
};

/* NULL where the reply is none of these. */
const struct pln_refusal *pln_refusal_of(const struct pln_reply *reply);
/* Whether to send the command again after a moment: it was certainly not carried out. */
bool pln_refusal_is_passing(const struct pln_reply *reply);
/* What is to be said behind the server's own words: " (a hint)", or "". */
void pln_refusal_hint(const struct pln_reply *reply, char *hint, size_t size);

/* ---- conn.c: one connection ---- */

enum { PLN_RUN_ID = 40 };

/* The protocol that a login asks for: maps, numbers and the like are told apart in RESP3. Where the
 * server has none, it stays RESP2. */
enum pln_resp {
    PLN_RESP2 = 2,
    PLN_RESP3 = 3,
    PLN_RESP_BEST = HIREDIS_MAJOR >= 1 ? PLN_RESP3 : PLN_RESP2, /* that hiredis reads */
};

/* A connection belongs to one thread at a time. After any failure it is of no more use, but to be
 * closed. */
struct pln_conn {
    struct pln_stream stream; /* open where `reader` is set */
    redisReader *reader;
    struct pln_reader_state state;
    size_t max_reply, reply_bytes; /* limit, and bytes read since the last whole answer */
    bool takes_replicas;           /* a server of any role will do */
    pln_ns time_asked_at;          /* when the last TIME was about to be sent */
    const char *label;             /* the endpoint's */
    struct pln_counts *counts;     /* borrowed; NULL: nothing is counted */
    long long id;                  /* CLIENT ID; 0 where the server does not tell */
    char run_id[PLN_RUN_ID + 1];   /* "" likewise */
    pln_ms clock_offset;           /* server's clock less CLOCK_MONOTONIC; right but for: */
    pln_ms clock_doubt;
    bool is_to_replica; /* set before login: a replica in touch is wanted, no master */
};

/* Connects, over TLS where there is a `tls`. The endpoint's label must outlive the connection.
 * Returns: PLN_OK; PLN_EL2DOWN, PLN_ETIMEOUT, PLN_ENOMEM. */
int pln_conn_open(struct pln_conn *conn, const struct pln_endpoint *endpoint, struct pln_tls *tls,
                  pln_ns deadline);
/* Lets a receive with at least so much time left sleep in recv() itself, without a poll(). */
void pln_conn_set_patience(struct pln_conn *conn, pln_ns timeout);
/* Says the password, where there is one, and no more. Returns as login. */
int pln_conn_greet(struct pln_conn *conn, const struct pln_login *login, pln_ns deadline);
/* Logs in and learns who the server is. Returns: PLN_OK; PLN_EL2DOWN with the reason (a refused
 * login, a replica, a server that is loading), or as pln_conn_receive(). */
int pln_conn_login(struct pln_conn *conn, const struct pln_login *login, const char *name,
                   enum pln_resp resp, pln_ns deadline);
bool pln_conn_is_open(const struct pln_conn *conn);
/* Whether bytes were received that no reply has taken yet; pushes are dropped first. */
bool pln_conn_is_ahead(struct pln_conn *conn);
/* Whether the other end has closed, or said something unasked that is no push. */
bool pln_conn_is_spoilt(struct pln_conn *conn);
void pln_conn_close(struct pln_conn *conn);

/* Return: PLN_OK; PLN_ETIMEOUT, PLN_EL2DOWN (connection lost, protocol error), PLN_ENOMEM. */
int pln_conn_send(struct pln_conn *conn, const struct pln_batch *batch, pln_ns deadline);
int pln_conn_receive(struct pln_conn *conn, pln_ns deadline, struct pln_reply **reply);
/* The parts of receive: takes bytes from the socket; takes a whole reply from the bytes, PLN_MISS
 * where there is none yet. Pushes are dropped. */
int pln_conn_fill(struct pln_conn *conn, pln_ns deadline);
int pln_conn_next(struct pln_conn *conn, struct pln_reply **reply);
/* Sends a batch and receives a reply for each of its commands; on failure there are none. */
int pln_conn_exchange(struct pln_conn *conn, const struct pln_batch *batch, pln_ns deadline,
                      struct pln_reply **replies);

/* For a thread that waits elsewhere. As much as can be sent at once, which may be nothing, and
 * whether some of what was taken is still to go out; what has come, PLN_MISS where nothing has
 * (only then is the socket worth a poll()). Return: PLN_OK; PLN_EL2DOWN. */
int pln_conn_push(struct pln_conn *conn, struct pln_bytes bytes, size_t *sent);
bool pln_conn_has_unsent(const struct pln_conn *conn);
int pln_conn_pull(struct pln_conn *conn, void *bytes, size_t size, size_t *n);
/* Gives the reader what was pulled, for pln_conn_next(). */
int pln_conn_feed(struct pln_conn *conn, const char *bytes, size_t n);
/* Whether a reply has begun that is not whole, or none has taken what was fed. */
bool pln_conn_is_midway(const struct pln_conn *conn);

/* Learns the offset of the server's clock from the answer to TIME. Returns false where it is no
 * time. */
bool pln_conn_take_time(struct pln_conn *conn, const struct pln_reply *reply);

/* ---- script.c, first half: what a connection has to load ---- */

enum pln_script {
    PLN_SCRIPT_SET,
    PLN_SCRIPT_REMOVE,
    PLN_SCRIPT_REMOVE_MANY,
    PLN_SCRIPT_EXPIRE,
    PLN_SCRIPT_TOUCH,
    PLN_SCRIPT_LEASE,
    PLN_SCRIPT_COMMIT,
    PLN_SCRIPT_RELEASE,
    PLN_SCRIPT_DROP_TAG,
    PLN_SCRIPT_DROP_MATCH,
    PLN_SCRIPT_CLEAR,
    PLN_SCRIPT_CLEAR_LOST,
    PLN_SCRIPT_TIMES,
    PLN_SCRIPT_BEAT,
    PLN_SCRIPT_RECOVER,
    PLN_SCRIPT_PLAIN,
    PLN_SCRIPT_SWAP,
    PLN_SCRIPT_WRITE_SET, /* this and below: of writes that wait, queue_scripts.h */
    PLN_SCRIPT_WRITE_IF,
    PLN_SCRIPT_WRITE_REMOVE,
    PLN_SCRIPT_WRITE_SWAP,
    PLN_SCRIPT_THROUGH,
    PLN_SCRIPT_TAKE,
    PLN_SCRIPT_HOLD,
    PLN_SCRIPT_LEAVE,
    PLN_SCRIPT_END,
    PLN_SCRIPT_BURY,
    PLN_SCRIPT_LETTERS,
    PLN_SCRIPT_LETTER_END,
    PLN_SCRIPT_FIND,
    PLN_SCRIPT_STATE,
    PLN_N_SCRIPTS,
};

enum { PLN_SHA = 40 };

/* Adds SCRIPT LOAD of every script; each reply is the script's hash. */
void pln_script_load(struct pln_batch *batch);

/* ---- line.c: many callers on one connection ---- */

struct pln_pool;
struct pln_slot;

enum {
    PLN_MOST_QUEUED = 1024,              /* callers that wait for one connection */
    PLN_MOST_QUEUED_BYTES = 64 << 20,    /* of their commands; a larger one waits alone */
    PLN_MOST_IN_FLIGHT_BYTES = 64 << 20, /* likewise: sent, and not yet answered */
    PLN_MOST_IN_FLIGHT = 256,
    PLN_MOST_WOKEN = 40,
    PLN_MOST_JOINED = 128,
    PLN_MOST_JOINED_BYTES = 24 * 1024,
};

#define PLN_KIND(kind) (1U << (kind))

enum pln_request_state { PLN_REQUEST_QUEUED, PLN_REQUEST_SENT, PLN_REQUEST_DONE };

/* One command of one caller, which has one reply. */
struct pln_request {
    /* adds it to a batch; any thread may call this while the caller waits */
    void (*write)(void *arg, const struct pln_slot *slot, struct pln_batch *batch);
    /* Writes one command for several requests that stand side by side and have the same `join`; its
     * reply is that of each. NULL: it goes by itself. At most PLN_MOST_JOINED of them, and
     * PLN_MOST_JOINED_BYTES of theirs. */
    void (*join)(void *const *args, size_t n, const struct pln_slot *slot, struct pln_batch *batch);
    void *arg;
    unsigned
        kinds;    /* of replies that may be an answer, PLN_KIND() of each, beside errors; 0: any */
    bool is_link; /* the link asks, which nobody can ask to go down */
    bool is_asking; /* to be preceded by ASKING: the slot is on its way to this server */
    size_t n_bytes; /* about how long the command is; 0 where it is short */
    bool is_bulk;   /* goes over the node's second pool (internal.h) */

    /* of line.c */
    _Atomic uint32_t turn; /* a futex: what its caller waits for */
    pln_ns deadline;
    bool is_late;
    int status; /* with reply and text: the outcome, once it is the caller's turn to have it */
    struct pln_reply *reply;
    char text[PLN_ERROR_TEXT];

    /* under the line's lock */
    enum pln_request_state state;
    bool is_awaited; /* its caller sleeps, or leads */
    struct pln_request *next;
};

struct pln_in_flight {
    struct pln_request *request; /* NULL: its caller has left */
    unsigned kinds;              /* as in the request */
    bool is_time;                /* a TIME of our own */
    bool is_joined;              /* with the one that follows: the same answer is both's */
    size_t n_bytes;              /* of the command */
};

struct pln_line {
    pthread_mutex_t lock;                    /* guards all below */
    const struct pln_request *leader;        /* NULL: nobody has the connection */
    _Atomic uint32_t *woken[PLN_MOST_WOKEN]; /* whose turn has come: to be woken without the lock */
    size_t n_woken;
    bool is_taken;  /* from the pool, for the leader */
    bool is_broken; /* nothing can be sent or received any more */
    struct pln_request *queue, **last;
    size_t n_queued, bytes_queued;
    struct pln_in_flight in_flight[PLN_MOST_IN_FLIGHT]; /* a ring: sent, and not yet answered */
    size_t first_in_flight, n_in_flight, bytes_in_flight;
    size_t n_joined;             /* of those in flight: so many fewer answers will come */
    pln_ns heard_at;             /* the last answer, or the first command that waits for one */
    _Atomic uint64_t n_answered; /* in time; read without the lock, for the breaker */
};

static inline struct pln_in_flight *pln_in_flight_at(struct pln_line *line, size_t i) {
    return &line->in_flight[(line->first_in_flight + i) % PLN_ARRAY_LEN(line->in_flight)];
}

void pln_line_init(struct pln_line *line);
void pln_line_fini(struct pln_line *line);
/* Sends a command over a connection, together with those of others, and waits for its reply, which
 * is the caller's to free. Returns: PLN_OK (the reply may be an error); PLN_ETIMEOUT, PLN_EL2DOWN
 * (the outcome of the command is unknown where the text does not say that it was not sent),
 * PLN_EBUSY (too many wait), PLN_ENOMEM. */
int pln_line_ask(struct pln_pool *pool, size_t index, struct pln_request *request, pln_ns deadline,
                 struct pln_reply **reply);
/* The same in steps, for a caller that asks several things at once: what is posted is queued; a
 * flush sends what is queued where nobody has the connection, else who has it does. Each must be
 * finished, with the same pool and index, before its memory goes. */
void pln_line_post(struct pln_pool *pool, size_t index, struct pln_request *request,
                   pln_ns deadline);
void pln_line_flush(struct pln_pool *pool, size_t index);
int pln_line_finish(struct pln_pool *pool, size_t index, struct pln_request *request,
                    struct pln_reply **reply);

/* For lead.c; with the line's lock held. unlock() drops it, and wakes whose turn has come. */
enum pln_turn { PLN_NO_TURN, PLN_TO_TAKE, PLN_TO_LEAD };
void pln_line_unlock(struct pln_line *line);
void pln_line_give_turn(struct pln_line *line, struct pln_request *request, enum pln_turn turn);
void pln_line_unqueue(struct pln_line *line, struct pln_request *request);
/* Takes a request out of the line, wherever it is; its answer, if it was sent, will be dropped. */
void pln_line_forget(struct pln_line *line, struct pln_request *request);
/* Gives a request its outcome. `text` may be NULL; the reply is its caller's. */
void pln_line_end(struct pln_line *line, struct pln_request *request, int status, const char *text,
                  struct pln_reply *reply);
void pln_line_end_queued(struct pln_line *line, int status, const char *text);

/* ---- lead.c: who has a line's connection ---- */

/* Sends and receives until `me` has its outcome; the line's leader is `me`. With the lock held. */
void pln_line_lead(struct pln_pool *pool, struct pln_line *line, size_t index,
                   struct pln_request *me);
/* Leads for as long as it takes to send. */
void pln_line_send_off(struct pln_pool *pool, struct pln_line *line, size_t index,
                       struct pln_request *me);

/* ---- pool.c: the data connections of a node ---- */

struct pln_slot {
    struct pln_line line;

    /* the taker's */
    uint32_t probe; /* its number, if it is to decide whether the breaker closes; else 0 */
    struct pln_conn conn;
    char hashes[PLN_N_SCRIPTS][PLN_SHA + 1]; /* of scripts the server has; "" where it took none */
    long long ghost_id; /* of the connection before: it may still have a command in the air */
    char ghost_run_id[PLN_RUN_ID + 1];
    pln_ns clock_at;
    bool is_done_for; /* the server said something after which the connection must go */

    _Atomic uint32_t incarnation; /* 0: not connected */
};

struct pln_pool {
    /* constants */
    const struct pln_login *login;
    struct pln_tls *tls; /* NULL: none */
    bool takes_replicas; /* of a cluster: they answer where the key is */
    const char *client_name;
    const struct pln_host *host;
    struct pln_counts *counts;
    pln_ns connect_timeout, timeout, clock_period;
    size_t most_queued_bytes, most_in_flight_bytes; /* of a line; 0: as PLN_MOST_... say */
    void (*on_other_server)(void *arg); /* the link is to go down: data comes from elsewhere */
    void (*on_doubt)(void *arg);   /* the link is to come up soon: this server is another one */
    void (*on_trouble)(void *arg); /* the server may have moved; NULL: it cannot */
    void *arg;
    bool is_replica;  /* of a server that follows another: see replica.c */
    bool is_readonly; /* which answers only who says READONLY */
    size_t n_slots;
    struct pln_slot *slots;  /* and one more, the courier's */
    struct pln_async *async; /* the courier (async.h) */

    /* Where the server is, which may change; what it pointed to stays as long as the pool. */
    const struct pln_endpoint *_Atomic endpoint;

    _Atomic uint64_t trust;       /* odd while a server is in doubt */
    _Atomic int64_t doubt_until;  /* but no longer than this */
    _Atomic int64_t patience;     /* readers wait so long for a doubt's end, from its begin */
    _Atomic int64_t clock_offset; /* as in pln_conn, of the last that learnt it */
    _Atomic uint64_t n_timeouts, n_errors; /* commands, to be shown */
    struct pln_breaker breaker;

    pthread_mutex_t lock; /* guards all below */
    pthread_cond_t agreed;
    char required_run_id[PLN_RUN_ID + 1]; /* the link's server; "" while there is no link */
    char checked_run_id[PLN_RUN_ID + 1];  /* the last that the link has found to know it all */
    char doubted_run_id[PLN_RUN_ID + 1];  /* another one, which the link has yet to look at */
    uint32_t last_incarnation;
};

static inline const struct pln_endpoint *pln_pool_endpoint(const struct pln_pool *pool) {
    /* E1 acquire: what the endpoint says; pairs with pln_pool_move() */
    return atomic_load_explicit(&pool->endpoint, memory_order_acquire);
}
static inline const char *pln_pool_label(const struct pln_pool *pool) {
    return pln_pool_endpoint(pool)->label;
}
/* The server is elsewhere from now on: connections to the former place are used no more. */
static inline void pln_pool_move(struct pln_pool *pool, const struct pln_endpoint *endpoint) {
    /* E1 release: the endpoint before its place; pairs with pln_pool_endpoint() */
    atomic_store_explicit(&pool->endpoint, endpoint, memory_order_release);
}

/* Sets up the pool from its constants, which the caller has filled in. */
int pln_pool_init(struct pln_pool *pool);
void pln_pool_fini(struct pln_pool *pool);

/* For line.c. A connection that is ready to send, the taker's until pln_pool_give(); one taker at a
 * time. Returns: PLN_OK; PLN_EL2DOWN, PLN_ETIMEOUT (nothing was sent), PLN_ENOMEM. */
int pln_pool_take(struct pln_pool *pool, size_t index, bool is_link, pln_ns deadline,
                  struct pln_slot **slot);
/* Gives it back; `result` is that of the last send or receive, where it failed with so many
 * commands that were waited for. */
void pln_pool_give(struct pln_pool *pool, struct pln_slot *slot, int result, size_t n_lost);
/* Whether it is time to ask the server for its clock; and what is to be learnt from a reply. */
bool pln_pool_needs_time(const struct pln_pool *pool, const struct pln_slot *slot);
void pln_pool_note_reply(struct pln_pool *pool, struct pln_slot *slot, bool is_time,
                         const struct pln_reply *reply);
/* For the breaker: one command was not answered in time. */
void pln_pool_blame(struct pln_pool *pool);
/* The failure of an error reply, with the server and the command in its text. */
int pln_pool_refused(struct pln_pool *pool, const char *command, const struct pln_reply *reply);

/* Only connections to this server are right from now on; "" for any. */
void pln_pool_require(struct pln_pool *pool, const char *run_id);
/* The link has found out whether this server has all that was acknowledged, and done what is to be
 * done where it has not. From then on what another one says is not believed before it was checked
 * likewise, or a while has passed in vain. */
void pln_pool_checked(struct pln_pool *pool, const char *run_id);
/* What was read may be believed where this was the same before and after, and not 0. */
uint64_t pln_pool_trust(const struct pln_pool *pool);
/* Waits for the end of a doubt, for as long as readers have patience. Returns whether it came. */
bool pln_pool_await_trust(struct pln_pool *pool, pln_ns deadline);
bool pln_pool_has(struct pln_pool *pool, uint32_t incarnation);
size_t pln_pool_connections(struct pln_pool *pool);
static inline bool pln_pool_is_open(struct pln_pool *pool) {
    return pln_breaker_is_open(&pool->breaker);
}
/* The server's clock, as far as it is known. */
pln_ms pln_pool_server_now(struct pln_pool *pool);

#endif
