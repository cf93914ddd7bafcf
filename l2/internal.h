/* SPDX-License-Identifier: MIT
 *
 * internal.h - what the files of this folder, and their tests, share.
 *
 * From the ground up: url, resp (commands as bytes), reply (answers as trees), conn (one socket),
 * pool (data connections and breaker), line (callers on one connection), async (many commands of a
 * thread's own), script (what runs in the server), redis (the operations), bus (the link). None
 * calls what stands above it; the pool asks the link to go down through a function pointer.
 *
 * Locks: a line's, the courier's (async.c), the pool's and the floor's; the pool's may be taken
 * with a line's held, else none is held while another is taken, and none across a system call that
 * may wait.
 *
 * Order labels, a pair each:
 *   Q1 a request's outcome, or the lead / its caller takes it
 * All other atomics here are relaxed, each with its reason; what must be ordered is ordered by a
 * mutex or by the server.
 */
#ifndef PLN_L2_INTERNAL_H
#define PLN_L2_INTERNAL_H

#include "l2.h"

#include <hiredis/hiredis.h>
#include <pthread.h>

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
    PLN_MESSAGE_EXPIRE = 'x', /* the key */
    PLN_MESSAGE_TAG = 't',    /* the tag */
    PLN_MESSAGE_CLEAR = 'c',  /* database, 16 bits; the new tag clock, 64 bits */
    PLN_MESSAGE_FILLED = 'f', /* the key */
    PLN_MESSAGE_PING = 'p',   /* a number, 64 bits: the link's test of itself */
};

enum {
    PLN_MESSAGE_HEAD = 14, /* version, kind, origin */
    PLN_MESSAGE_CLEAR_BYTES = 10,
    PLN_MESSAGE_MAX = PLN_MESSAGE_HEAD + PLN_MAX_KEY,
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
};

/* Returns the length. The payload is at most PLN_MAX_KEY bytes. */
size_t pln_message_write(const struct pln_message *message, uint8_t bytes[PLN_MESSAGE_MAX]);
/* Returns false where the bytes are damaged or of another version. */
bool pln_message_read(struct pln_bytes bytes, struct pln_message *message);
/* Calls the event a message stands for; events that are not set are passed over. */
void pln_message_report(const struct pln_l2_events *events, const struct pln_message *message);

/* ---- url.c: where a server is and how to log in ---- */

struct pln_url {
    char *host; /* NULL where there is a path */
    char *path;
    char *username;
    char *password;
    char *label; /* for people: no secrets in it */
    int port;
    int database;
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
    int fd; /* meaningful where `reader` is set */
    redisReader *reader;
    struct pln_reader_state state;
    size_t max_reply, reply_bytes; /* limit, and bytes read since the last whole reply */
    pln_ns receive_timeout;        /* the socket's own, 0 for none */
    pln_ns sent_at;                /* when the last batch began to go out */
    const char *label;             /* the URL's */
    long long id;                  /* CLIENT ID; 0 where the server does not tell */
    char run_id[PLN_RUN_ID + 1];   /* "" likewise */
    pln_ms clock_offset;           /* server's clock less CLOCK_MONOTONIC */
};

/* Connects. Returns: PLN_OK; PLN_EL2DOWN, PLN_ETIMEOUT, PLN_ENOMEM. */
int pln_conn_open(struct pln_conn *conn, const struct pln_url *url, pln_ns deadline);
/* Lets a receive with at least so much time left sleep in recv() itself, without a poll(). */
void pln_conn_set_patience(struct pln_conn *conn, pln_ns timeout);
/* Logs in and learns who the server is. Returns: PLN_OK; PLN_EL2DOWN with the reason (a refused
 * login, a replica, a server that is loading), or as pln_conn_receive(). */
int pln_conn_login(struct pln_conn *conn, const struct pln_url *url, const char *name,
                   pln_ns deadline);
bool pln_conn_is_open(const struct pln_conn *conn);
/* Whether bytes were received that no reply has taken yet. */
bool pln_conn_is_ahead(const struct pln_conn *conn);
/* Whether the other end has closed, or said something unasked. */
bool pln_conn_is_spoilt(const struct pln_conn *conn);
void pln_conn_close(struct pln_conn *conn);

/* Return: PLN_OK; PLN_ETIMEOUT, PLN_EL2DOWN (connection lost, protocol error), PLN_ENOMEM. */
int pln_conn_send(struct pln_conn *conn, const struct pln_batch *batch, pln_ns deadline);
int pln_conn_receive(struct pln_conn *conn, pln_ns deadline, struct pln_reply **reply);
/* The parts of receive: takes bytes from the socket; takes a whole reply from the bytes, PLN_MISS
 * where there is none yet. */
int pln_conn_fill(struct pln_conn *conn, pln_ns deadline);
int pln_conn_next(struct pln_conn *conn, struct pln_reply **reply);
/* Sends a batch and receives a reply for each of its commands; on failure there are none. */
int pln_conn_exchange(struct pln_conn *conn, const struct pln_batch *batch, pln_ns deadline,
                      struct pln_reply **replies);

/* For a thread that waits elsewhere. As much as can be sent at once, which may be nothing; what has
 * come, PLN_MISS where nothing has (only then is the socket worth a poll()). Return: PLN_OK;
 * PLN_EL2DOWN. */
int pln_conn_push(struct pln_conn *conn, struct pln_bytes bytes, size_t *sent);
int pln_conn_pull(struct pln_conn *conn, void *bytes, size_t size, size_t *n);
/* Gives the reader what was pulled, for pln_conn_next(). */
int pln_conn_feed(struct pln_conn *conn, const char *bytes, size_t n);
/* Whether a reply has begun that is not whole, or none has taken what was fed. */
bool pln_conn_is_midway(const struct pln_conn *conn);

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

enum pln_request_state { PLN_REQUEST_QUEUED, PLN_REQUEST_SENT, PLN_REQUEST_DONE };

/* One command of one caller, which has one reply. */
struct pln_request {
    /* adds it to a batch; any thread may call this while the caller waits */
    void (*write)(void *arg, const struct pln_slot *slot, struct pln_batch *batch);
    void *arg;
    bool is_link; /* the link asks, which nobody can ask to go down */

    /* of line.c */
    _Atomic uint32_t turn; /* a futex: what its caller waits for */
    pln_ns deadline;
    bool is_late;
    int status; /* with reply and text: the outcome, once it is the caller's turn to have it */
    struct pln_reply *reply;
    char text[PLN_ERROR_TEXT];

    /* under the line's lock */
    enum pln_request_state state;
    struct pln_request *next;
};

struct pln_in_flight {
    struct pln_request *request; /* NULL: its caller has left */
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

void pln_line_init(struct pln_line *line);
void pln_line_fini(struct pln_line *line);
/* Sends a command over a connection, together with those of others, and waits for its reply, which
 * is the caller's to free. Returns: PLN_OK (the reply may be an error); PLN_ETIMEOUT, PLN_EL2DOWN
 * (the outcome of the command is unknown where the text does not say that it was not sent),
 * PLN_EBUSY (too many wait), PLN_ENOMEM. */
int pln_line_ask(struct pln_pool *pool, size_t index, struct pln_request *request, pln_ns deadline,
                 struct pln_reply **reply);

/* ---- pool.c: the data connections of a node ---- */

struct pln_slot {
    struct pln_line line;
    bool is_probe; /* the taker decides whether the breaker closes; guarded by the pool's lock */

    /* the taker's */
    struct pln_conn conn;
    char hashes[PLN_N_SCRIPTS][PLN_SHA + 1]; /* of scripts the server has; "" where it took none */
    long long ghost_id; /* of the connection before: it may still have a command in the air */
    char ghost_run_id[PLN_RUN_ID + 1];
    pln_ns used_at, clock_at;
    bool is_done_for; /* the server said something after which the connection must go */

    _Atomic uint32_t incarnation; /* 0: not connected */
};

struct pln_pool {
    /* constants */
    const struct pln_url *url;
    const char *client_name;
    const struct pln_host *host;
    struct pln_counts *counts;
    pln_ns connect_timeout, timeout, clock_period;
    void (*on_other_server)(void *arg); /* the link is to go down: data comes from elsewhere */
    void *arg;
    size_t n_slots;
    struct pln_slot *slots;  /* and one more, the courier's */
    struct pln_async *async; /* the courier (async.h) */

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

/* ---- redis.c: a client ---- */

struct pln_names {
    char *value;   /* "N:v:" */
    char *lease;   /* "N:l:" */
    char *tags;    /* "N:tags" */
    char *channel; /* "N:inv:1" */
};

enum pln_link_state { PLN_LINK_NEW, PLN_LINK_UP, PLN_LINK_DOWN };

struct pln_link {
    pthread_t thread;
    bool is_started;
    int wake_fd; /* an eventfd: stop, or go down */
    struct pln_conn conn;
    uint64_t ping; /* the number the link sends to itself */
    bool has_pinged;
    unsigned n_subscribed;
    enum pln_link_state logged; /* what was said last */
    pln_ns backoff;
    char reason[256]; /* of the last failure */
    atomic_bool is_stopping, is_unwanted, is_up;
    _Atomic int64_t heard_at; /* last byte */
};

struct pln_redis {
    struct pln_l2 l2; /* first, so that a pointer to it is one to the client */
    /* constants */
    struct pln_url url;
    struct pln_names names;
    char *client_name;
    uint64_t instance;
    pln_ns connect_timeout, timeout, ping;
    bool tracking;
    struct pln_host host;
    struct pln_counts *counts;
    struct pln_l2_events events;

    struct pln_pool pool;
    struct pln_link link;

    /* The latest time of "everything": what is older than it is void. Kept here while the link is
     * up, so that a value without tags needs no second look at the server; 0 while it is not. */
    pthread_mutex_t floor_lock; /* guards own_clear, and writes of floor */
    uint64_t own_clear;         /* the latest clear of this client's */
    char floor_run_id[PLN_RUN_ID + 1];
    _Atomic uint64_t floor;
};

static inline struct pln_redis *pln_redis_of(struct pln_l2 *l2) {
    return PLN_CONTAINER_OF(l2, struct pln_redis, l2);
}

/* The server that the link found: own clears of another one mean nothing there. */
void pln_floor_server(struct pln_redis *redis, const char *run_id);
void pln_floor_raise(struct pln_redis *redis, uint64_t clock, bool is_own);
void pln_floor_forget(struct pln_redis *redis);
uint64_t pln_floor_now(struct pln_redis *redis);
int pln_floor_read(struct pln_redis *redis, pln_ns deadline);
/* Sends a batch of one command over a connection and takes its reply, which is no error but perhaps
 * WRONGTYPE: a key that is none of ours. */
int pln_redis_ask(struct pln_redis *redis, size_t index, struct pln_batch *batch,
                  const char *command, pln_ns deadline, struct pln_reply **reply);
int pln_redis_check_key(const struct pln_hashed *key);
/* Publishes the link's test of itself over a data connection. */
int pln_redis_ping(struct pln_redis *redis, uint64_t number, pln_ns deadline);

/* ---- read.c: get and get_many ---- */

int pln_redis_get(struct pln_l2 *l2, const struct pln_hashed *key, pln_ns deadline,
                  struct pln_l2_value *value);
int pln_redis_get_many(struct pln_l2 *l2, const struct pln_hashed *keys, size_t n, pln_ns deadline,
                       struct pln_l2_value *values, int *statuses);

/* ---- script.c, second half: running one ---- */

enum { PLN_SCRIPT_MAX_ARGS = 8 + PLN_MAX_TAGS, PLN_SCRIPT_MAX_NUMBERS = 5 };

struct pln_script_call {
    enum pln_script script;
    const struct pln_hashed *key; /* NULL: the script needs the tags only */
    enum pln_message_kind kind;   /* what it tells the others; 0: nothing */
    struct pln_bytes payload;
    struct pln_bytes args[PLN_SCRIPT_MAX_ARGS];
    size_t n_args;
    char numbers[PLN_SCRIPT_MAX_NUMBERS][24]; /* texts of the numbers among them */
    size_t n_numbers;
    bool is_link;
};

void pln_script_add(struct pln_script_call *call, struct pln_bytes arg);
void pln_script_add_number(struct pln_script_call *call, int64_t number);
/* A duration; what is longer than any is "". */
void pln_script_add_duration(struct pln_script_call *call, pln_ms duration);
/* An item as set and commit want it: six arguments. The buffers must outlive the call. */
void pln_script_add_item(struct pln_script_call *call, const struct pln_l2_item *item,
                         uint8_t before[PLN_ENVELOPE_BEFORE],
                         uint8_t after[PLN_ENVELOPE_AFTER_MAX]);
/* Runs it. Returns: PLN_OK with a reply that is no error and is the caller's to free. */
int pln_script_run(struct pln_redis *redis, const struct pln_script_call *call, pln_ns deadline,
                   struct pln_reply **reply);

/* ---- bus.c: the link ---- */

int pln_link_init(struct pln_redis *redis);
int pln_link_start(struct pln_redis *redis);
/* Asks the link to go down and come up anew. */
void pln_link_drop(void *redis);
void pln_link_stop(struct pln_redis *redis);
bool pln_link_is_ok(struct pln_redis *redis, pln_ms *beat_age);

#endif
