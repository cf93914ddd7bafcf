/* SPDX-License-Identifier: MIT
 *
 * mem.h - the server in memory, as its files share it: mem.c (life, the bus), memops.c (values,
 * leases, tags), memswap.c (what depends on the value that is there), memmany.c (many at once),
 * memqueue.c, memletters.c (writes that wait), memfault.c (what goes wrong, as it is told to),
 * memlate.c (messages that come late, and the thread that brings them) and memrow.c (the row of
 * messages, and what of it was missed).
 */
#ifndef PLN_L2_MEM_H
#define PLN_L2_MEM_H

#include "internal.h"

#include <pthread.h>

#define HASH_NONFATAL_OOM 1
#include <uthash.h>

/* The last write of a key that waits, or that could not be stored. */
struct mem_last {
    uint64_t ms, seq;        /* 0-0: there is none */
    struct mem_write *write; /* NULL: it is a dead letter */
};

struct record {
    uint8_t *envelope; /* NULL: no value */
    size_t envelope_bytes;
    uint8_t token[16];
    pln_ms lease_until;
    bool is_leased;
    pln_ns made_at;  /* the value, or the removal of one that was written through */
    bool is_awaited; /* somebody was told to wait for the lease's end */
    struct mem_last last;
    UT_hash_handle hh;
    size_t key_len;
    char key[];
};

/* Writes that wait (memqueue.c), and what became of them (memletters.c). */
struct mem_write {
    struct mem_write *next;
    struct pln_l2_entry entry; /* its bytes lie behind it */
    char bytes[];
};
struct mem_letter {
    struct mem_letter *next;
    struct pln_l2_letter letter; /* likewise its error's; its time in the place of its age */
    struct mem_write *write;
    char error[];
};
struct mem_ids {
    uint64_t ms, seq; /* of the last one */
};
struct mem_queue {
    struct mem_write *first, **end;
    struct mem_letter *first_letter, **end_letter;
    size_t n, n_letters;
    struct mem_ids ids, letter_ids;
    uint8_t lead[16];
    pln_ms lead_until; /* of the server's clock */
};

struct tag_time {
    uint64_t time;
    UT_hash_handle hh;
    size_t tag_len;
    char tag[];
};

/* A message, as it is kept for those who miss it. */
struct logged {
    struct logged *next;
    uint64_t number;
    enum pln_message_kind kind;
    const struct mem_client *from; /* only compared: it may be gone */
    size_t len;
    char payload[];
};

struct space {
    struct space *next;
    struct record *records;
    struct tag_time *tags;
    struct mem_client *clients;
    uint64_t clock;
    uint64_t cleared;
    uint64_t matched;      /* of the last mask: leases from before it store nothing */
    uint64_t base, number; /* of messages: of the row, and of the last */
    struct logged *log, **log_end;
    size_t n_logged;
    struct mem_queue queue;
    char ns[];
};

/* A message on its way. A queue is in the order of `turn`, which is that of posting but for those
 * that let others pass. */
struct queued {
    struct queued *next;
    uint64_t turn;
    pln_ns due; /* not before; a point of pln_clock_precise() */
    uint64_t number;
    bool is_own;
    enum pln_message_kind kind;
    size_t len;
    char payload[];
};

/* What goes wrong: of a client, and of the server for clients to come. */
struct trouble {
    struct pln_memory_faults faults;
    enum pln_memory_cut cut;
    bool is_parted;
};

struct pln_l2_mem_server {
    char label[80];         /* "memory:NAME"; written before the first client */
    pthread_mutex_t lock;   /* guards everything below, and all clients but their constants */
    pthread_cond_t changed; /* a queue was emptied, or what goes wrong is another thing */
    struct space *spaces;
    struct trouble trouble;
    bool is_away;  /* between a server that ends and one that begins anew */
    uint64_t life; /* how many times it has begun anew */
    uint64_t dice; /* of what is not a client's */
    uint64_t n_clients;
    struct pln_memory_stats stats;

    pthread_cond_t courier_wake;
    pthread_t courier;
    bool has_courier, is_stopping;
    bool is_called; /* the courier: since its round began */
};

struct mem_client {
    struct pln_l2 l2; /* first, so that a pointer to it is one to the client */
    /* constants */
    struct pln_l2_mem_server *server;
    struct space *space;
    struct pln_l2_events events;
    struct pln_counts *counts;
    const struct pln_host *host;
    size_t log_length;
    pln_ns ping;
    /* guarded by the server's lock */
    struct mem_client *next;
    struct queued *first;
    uint64_t n_posted;       /* messages to it so far */
    uint64_t number;         /* of the server's clients, in the order in which they came */
    uint64_t dice, bus_dice; /* for its commands, and for messages to it */
    struct trouble trouble;
    bool has_started;
    bool is_up;       /* of the link: follows from has_started, trouble and the server's is_away */
    bool is_held;     /* by pln_l2_mem_hold() */
    bool is_draining; /* a thread reports events to this client, which owns the feed meanwhile */
    struct pln_feed feed;
    bool must_mend; /* messages are missing: its link goes down, and comes up again */
    pln_ns beat_at; /* a lost message is noticed then at the latest; 0: none was lost */
};

static inline struct mem_client *pln_mem_client(struct pln_l2 *l2) {
    return PLN_CONTAINER_OF(l2, struct mem_client, l2);
}

/* ---- mem.c ---- */

/* Gives a message its number, keeps it, and puts it into the queue of every client of the namespace
 * whose link is up, the sender too. */
void pln_mem_post_locked(struct mem_client *from, enum pln_message_kind kind,
                         struct pln_bytes payload);
/* Reports up to n messages of a client's queue, with the lock dropped meanwhile: those that are
 * due, or all where forced. Returns how many. */
size_t pln_mem_drain_locked(struct mem_client *client, size_t n, bool is_forced);
/* The same for all clients of a namespace, with what is due; wakes the courier for the rest. */
void pln_mem_drain_all_locked(struct space *space);
/* Brings every link into the state that follows from what was set, and reports each change; waits
 * for whatever is being reported. */
void pln_mem_settle_locked(struct pln_l2_mem_server *server);
void pln_mem_close(struct pln_l2 *l2);
int pln_mem_command(struct pln_l2 *l2, const struct pln_bytes *key, const struct pln_bytes *args,
                    size_t n_args, pln_ns deadline, struct pln_reply **reply);
void pln_mem_health(struct pln_l2 *l2, struct pln_l2_health *health);
size_t pln_mem_nodes(struct pln_l2 *l2, pln_node_visit visit, void *arg);

/* ---- memops.c ---- */

void pln_mem_forget_records(struct space *space);
size_t pln_mem_evict_records(struct space *space, double share, uint64_t *dice);
size_t pln_mem_count_values(const struct space *space);
extern const struct pln_l2_ops pln_mem_ops;
void pln_mem_drop_value(struct record *record);
/* Ends a key's value and its lease. */
void pln_mem_remove_locked(struct mem_client *client, struct pln_bytes key);

/* The server's clock: the client's, set forward so that a virtual clock may start at zero and a
 * value may still be older than that. */
pln_ms pln_mem_server_now(struct mem_client *client);
struct record *pln_mem_find_record(struct space *space, struct pln_bytes key);
/* The record's value, if it has one that is neither past its end nor void. */
int pln_mem_read_record(struct mem_client *client, struct record *record,
                        struct pln_l2_value *value);
/* Sets under a condition, and tells. */
int pln_mem_set_locked(struct mem_client *client, struct pln_bytes key,
                       const struct pln_l2_item *item, uint32_t flags);
struct record *pln_mem_make_record(struct space *space, struct pln_bytes key);
int pln_mem_store(struct mem_client *client, struct pln_bytes key, const struct pln_l2_item *item,
                  uint64_t tag_clock);

/* ---- memswap.c ---- */

/* With the lock held. */
int pln_mem_swap_locked(struct mem_client *client, const struct pln_hashed *key,
                        const struct pln_l2_swap *swap, struct pln_l2_value *value);
int pln_mem_swap(struct pln_l2 *l2, const struct pln_hashed *key, const struct pln_l2_swap *swap,
                 pln_ns deadline, struct pln_l2_value *value);
uint64_t pln_mem_heard(struct pln_l2 *l2, const struct pln_hashed *key);
int pln_mem_redo(struct pln_l2 *l2, const struct pln_hashed *key, const struct pln_l2_redo *redo,
                 pln_ns deadline);

/* ---- memqueue.c ---- */

extern const struct pln_l2_queue_ops pln_mem_queue_ops;
void pln_mem_queue_init(struct mem_queue *queue);
void pln_mem_queue_forget(struct mem_queue *queue);
int pln_mem_write(struct pln_l2 *l2, const struct pln_hashed *key, const struct pln_l2_write *write,
                  pln_ns deadline, struct pln_l2_value *value);
int pln_mem_through(struct pln_l2 *l2, const struct pln_hashed *key, const struct pln_l2_item *item,
                    pln_ns began, pln_ns deadline);
/* The next id, at this time. */
void pln_mem_next_id(struct mem_ids *ids, pln_ms now);
/* Puts a write, which becomes the queue's, at the end, as its key's last one. */
void pln_mem_queue_add(struct mem_queue *queue, struct record *record, struct mem_write *write,
                       pln_ms now);
/* The key's record where this is the key's last write. */
struct record *pln_mem_whose_last(struct space *space, const struct mem_write *write);
/* Forgets that it is. */
void pln_mem_forget_last(struct space *space, const struct mem_write *write);
/* Takes a write out, which becomes the caller's; NULL: it is not there. */
struct mem_write *pln_mem_unqueue(struct mem_queue *queue, uint64_t ms, uint64_t seq);
bool pln_mem_leads(struct mem_client *client, const struct pln_l2_taking *taking);

/* ---- memletters.c ---- */

int pln_mem_bury(struct pln_l2 *l2, const struct pln_l2_taking *taking,
                 const struct pln_l2_entry *entry, unsigned attempts, const char *error,
                 size_t most, pln_ns deadline);
int pln_mem_letters(struct pln_l2 *l2, uint64_t after_ms, uint64_t after_seq, size_t most,
                    pln_ns deadline, struct pln_l2_letters *letters);
int pln_mem_letter_end(struct pln_l2 *l2, uint64_t ms, uint64_t seq, bool again, pln_ns deadline);
void pln_mem_forget_letters(struct mem_queue *queue);

/* ---- memmany.c ---- */

int pln_mem_get_async(struct pln_l2 *l2, struct pln_l2_get *get);
int pln_mem_remove_many(struct pln_l2 *l2, const struct pln_hashed *keys, size_t n,
                        pln_ns deadline);
int pln_mem_drop_match(struct pln_l2 *l2, const struct pln_mask *mask, pln_ns deadline);

/* ---- memfault.c ---- */

enum mem_access {
    MEM_READS,
    MEM_FREES, /* writes, and needs no memory for it */
    MEM_WRITES,
};

/* Begins a command: PLN_OK with the lock held, after whatever delay. *is_late says that its answer
 * comes too late: it is carried out, and ends in a timeout. */
int pln_mem_enter(struct mem_client *client, enum mem_access access, pln_ns deadline,
                  bool *is_late);
/* Ends a command: what it said is heard before it returns. */
int pln_mem_leave(struct mem_client *client, bool is_late, int result);

/* The next number of a row that its seed decides. */
uint64_t pln_mem_roll(uint64_t *dice);
/* True in this share of cases. */
bool pln_mem_chance(uint64_t *dice, double share);
/* From 0 to `most`. */
uint64_t pln_mem_upto(uint64_t *dice, uint64_t most);
void pln_mem_set_trouble_locked(struct mem_client *client, const struct trouble *trouble);

/* ---- memlate.c ---- */

/* Whether a client's first message may be reported now; if not, *when says when to look again
 * (INT64_MAX: when told). */
bool pln_mem_is_due(const struct mem_client *client, pln_ns now, pln_ns *when);
/* Queues a message, or two, or none, as the client's faults say. */
void pln_mem_send_locked(struct mem_client *to, const struct queued *message,
                         struct pln_bytes payload);
/* Lets the courier see to a client's messages that are not due yet, if there are any; starts it
 * where there is none. */
void pln_mem_call_courier_locked(const struct mem_client *client);
void pln_mem_stop_courier(struct pln_l2_mem_server *server);

/* ---- memrow.c ---- */

/* Numbers a message, where its kind has one, and keeps it as long as its sender wants it kept. */
uint64_t pln_mem_number_locked(struct mem_client *from, enum pln_message_kind kind,
                               struct pln_bytes payload);
/* Begins another row, as a server does that has forgotten everything. */
void pln_mem_begin_row_locked(struct space *space);
void pln_mem_forget_log(struct space *space);
/* Notes a message that was reported, and whether others are missing. */
void pln_mem_note_locked(struct mem_client *client, const struct queued *queued);
/* The answer to a heartbeat: whatever is not on its way has been lost. */
void pln_mem_beat_locked(struct mem_client *client);
/* What a client whose link comes up has missed, to be reported and freed; NULL also where there is
 * none, or it is not to be had (*is_whole is false). */
struct logged *pln_mem_missed_locked(struct mem_client *client, bool *is_whole);

#endif
