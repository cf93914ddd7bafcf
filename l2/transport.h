/* SPDX-License-Identifier: MIT
 *
 * transport.h - private to this folder: commands to one server and answers from it, up to the
 * connections of a node, their breaker and their callers. What the commands mean is internal.h's.
 *
 * Locks: a line's and the pool's; the pool's may be taken with a line's held, and none is held
 * across a system call that may wait.
 *
 * Order labels, a pair each:
 *   Q1 a request's outcome, or the lead / its caller takes it
 *   E1 where a server is / who connects to it
 *   S1 a name's addresses / who asked for them takes them
 *   T1 a slot's place in the map (topology.h) / its reader
 *   N1 a node (internal.h) / its place among the nodes
 * All other atomics of this folder are relaxed, each with its reason; what must be ordered is
 * ordered by a mutex or by the server.
 */
#ifndef PLN_L2_TRANSPORT_H
#define PLN_L2_TRANSPORT_H

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
bool pln_reply_is(const struct pln_reply *reply, const char *error_prefix);
void pln_replies_free(struct pln_reply **replies, size_t n);

/* ---- conn.c: one connection ---- */

enum { PLN_RUN_ID = 40 };

/* A connection belongs to one thread at a time. After any failure it is of no more use, but to be
 * closed. */
struct pln_conn {
    struct pln_stream stream; /* open where `reader` is set */
    redisReader *reader;
    struct pln_reader_state state;
    size_t max_reply, reply_bytes; /* limit, and bytes read since the last whole reply */
    pln_ns sent_at;                /* when the last batch began to go out */
    const char *label;             /* the endpoint's */
    long long id;                  /* CLIENT ID; 0 where the server does not tell */
    char run_id[PLN_RUN_ID + 1];   /* "" likewise */
    pln_ms clock_offset;           /* server's clock less CLOCK_MONOTONIC */
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
                   pln_ns deadline);
bool pln_conn_is_open(const struct pln_conn *conn);
/* Whether bytes were received that no reply has taken yet. */
bool pln_conn_is_ahead(const struct pln_conn *conn);
/* Whether the other end has closed, or said something unasked. */
bool pln_conn_is_spoilt(struct pln_conn *conn);
void pln_conn_close(struct pln_conn *conn);

/* Return: PLN_OK; PLN_ETIMEOUT, PLN_EL2DOWN (connection lost, protocol error), PLN_ENOMEM. */
int pln_conn_send(struct pln_conn *conn, const struct pln_batch *batch, pln_ns deadline);
int pln_conn_receive(struct pln_conn *conn, pln_ns deadline, struct pln_reply **reply);
/* The parts of receive: takes bytes from the socket; takes bytes that came (`arg` is the
 * connection); takes a whole reply from the bytes, PLN_MISS where there is none yet. */
int pln_conn_fill(struct pln_conn *conn, pln_ns deadline);
int pln_conn_feed(void *arg, const char *bytes, size_t n);
int pln_conn_next(struct pln_conn *conn, struct pln_reply **reply);
/* Sends a batch and receives a reply for each of its commands; on failure there are none. */
int pln_conn_exchange(struct pln_conn *conn, const struct pln_batch *batch, pln_ns deadline,
                      struct pln_reply **replies);

/* Learns the offset of the server's clock from the answer to TIME, which was sent with the last
 * batch. Returns false where it is no time. */
bool pln_conn_take_time(struct pln_conn *conn, const struct pln_reply *reply);

/* ---- script.c, first half: what a connection has to load ---- */

enum pln_script {
    PLN_SCRIPT_SET,
    PLN_SCRIPT_REMOVE,
    PLN_SCRIPT_EXPIRE,
    PLN_SCRIPT_TOUCH,
    PLN_SCRIPT_LEASE,
    PLN_SCRIPT_COMMIT,
    PLN_SCRIPT_RELEASE,
    PLN_SCRIPT_DROP_TAG,
    PLN_SCRIPT_CLEAR,
    PLN_SCRIPT_TIMES,
    PLN_N_SCRIPTS,
};

enum { PLN_SHA = 40 };

/* Adds SCRIPT LOAD of every script; each reply is the script's hash. */
void pln_script_load(struct pln_batch *batch);

/* ---- line.c: many callers on one connection ---- */

struct pln_pool;
struct pln_slot;

enum {
    PLN_MOST_QUEUED = 1024, /* callers that wait for one connection */
    PLN_MOST_IN_FLIGHT = 256,
    PLN_MOST_WOKEN = 40,
};

#define PLN_KIND(kind) (1U << (kind))

enum pln_request_state { PLN_REQUEST_QUEUED, PLN_REQUEST_SENT, PLN_REQUEST_DONE };

/* One command of one caller, which has one reply. */
struct pln_request {
    /* adds it to a batch; any thread may call this while the caller waits */
    void (*write)(void *arg, const struct pln_slot *slot, struct pln_batch *batch);
    void *arg;
    unsigned
        kinds;    /* of replies that may be an answer, PLN_KIND() of each, beside errors; 0: any */
    bool is_link; /* the link asks, which nobody can ask to go down */
    bool is_asking; /* to be preceded by ASKING: the slot is on its way to this server */

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
};

struct pln_line {
    pthread_mutex_t lock;                    /* guards all below */
    const struct pln_request *leader;        /* NULL: nobody has the connection */
    _Atomic uint32_t *woken[PLN_MOST_WOKEN]; /* whose turn has come: to be woken without the lock */
    size_t n_woken;
    bool is_taken;  /* from the pool, for the leader */
    bool is_broken; /* nothing can be sent or received any more */
    struct pln_request *queue, **last;
    size_t n_queued;
    struct pln_in_flight in_flight[PLN_MOST_IN_FLIGHT]; /* a ring: sent, and not yet answered */
    size_t first_in_flight, n_in_flight;
    pln_ns heard_at; /* the last answer, or the first command that waits for one */
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
/* The same in two steps, for a caller that asks several servers at once: what is posted is sent
 * where nobody has the connection, else by who has it. Each must be finished, with the same pool
 * and index, before its memory goes. */
void pln_line_post(struct pln_pool *pool, size_t index, struct pln_request *request,
                   pln_ns deadline);
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
    bool is_probe; /* the taker decides whether the breaker closes; guarded by the pool's lock */

    /* the taker's */
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
    const char *client_name;
    const struct pln_host *host;
    struct pln_counts *counts;
    pln_ns connect_timeout, timeout, clock_period;
    void (*on_other_server)(void *arg); /* the link is to go down: data comes from elsewhere */
    void (*on_trouble)(void *arg);      /* the server may have moved; NULL: it cannot */
    void *arg;
    size_t n_slots;
    struct pln_slot *slots;

    /* Where the server is, which may change; what it pointed to stays as long as the pool. */
    const struct pln_endpoint *_Atomic endpoint;

    _Atomic int64_t clock_offset; /* as in pln_conn, of the last that learnt it */

    pthread_mutex_t lock; /* guards all below */
    pthread_cond_t agreed;
    char required_run_id[PLN_RUN_ID + 1]; /* the link's server; "" while there is no link */
    uint32_t last_incarnation;
    _Atomic unsigned n_failures; /* in a row; read without the lock, to see whether there are any */
    atomic_bool is_open;         /* likewise */
    bool is_probing;
    pln_ns backoff, retry_at;
    char reason[256];
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
/* Gives it back; `result` is that of the last send or receive. */
void pln_pool_give(struct pln_pool *pool, struct pln_slot *slot, int result);
/* PLN_EL2DOWN while the breaker is open, and it is nobody's turn to try. */
int pln_pool_admit(struct pln_pool *pool);
/* Whether it is time to ask the server for its clock; and what is to be learnt from a reply. */
bool pln_pool_needs_time(const struct pln_pool *pool, const struct pln_slot *slot);
void pln_pool_note_reply(struct pln_pool *pool, struct pln_slot *slot, bool is_time,
                         const struct pln_reply *reply);
/* For the breaker: the server has answered; one command was not answered in time. */
void pln_pool_praise(struct pln_pool *pool);
void pln_pool_blame(struct pln_pool *pool);
/* The failure of an error reply, with the server and the command in its text. */
int pln_pool_refused(struct pln_pool *pool, const char *command, const struct pln_reply *reply);

/* Only connections to this server are right from now on; "" for any. */
void pln_pool_require(struct pln_pool *pool, const char *run_id);
bool pln_pool_has(struct pln_pool *pool, uint32_t incarnation);
size_t pln_pool_connections(struct pln_pool *pool);
bool pln_pool_is_open(struct pln_pool *pool);
/* The server's clock, as far as it is known. */
pln_ms pln_pool_server_now(struct pln_pool *pool);
/* From `backoff` to the next one, and a random point in it to wait for. */
pln_ns pln_backoff_next(pln_ns *backoff);

#endif
