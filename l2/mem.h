/* SPDX-License-Identifier: MIT
 *
 * mem.h - the server in memory, as its two files share it: mem.c (life, messages, what tests do to
 * a client) and memops.c (values, leases, tags).
 */
#ifndef PLN_L2_MEM_H
#define PLN_L2_MEM_H

#include "internal.h"

#include <pthread.h>

#define HASH_NONFATAL_OOM 1
#include <uthash.h>

struct record {
    uint8_t *envelope; /* NULL: no value */
    size_t envelope_bytes;
    uint8_t token[16];
    pln_ms lease_until;
    bool is_leased;
    bool is_awaited; /* somebody was told to wait for the lease's end */
    UT_hash_handle hh;
    size_t key_len;
    char key[];
};

struct tag_time {
    uint64_t time;
    UT_hash_handle hh;
    size_t tag_len;
    char tag[];
};

struct space {
    struct space *next;
    struct record *records;
    struct tag_time *tags;
    struct mem_client *clients;
    uint64_t clock;
    uint64_t cleared;
    char ns[];
};

struct queued {
    struct queued *next;
    enum pln_message_kind kind;
    size_t len;
    char payload[];
};

struct pln_l2_mem_server {
    pthread_mutex_t lock; /* guards everything below, and all clients but their constants */
    pthread_cond_t drained;
    struct space *spaces;
};

struct mem_client {
    struct pln_l2 l2; /* first, so that a pointer to it is one to the client */
    /* constants */
    struct pln_l2_mem_server *server;
    struct space *space;
    struct pln_l2_events events;
    struct pln_counts *counts;
    const struct pln_host *host;
    /* guarded by the server's lock */
    struct mem_client *next;
    struct queued *first, **last;
    bool is_up, is_held, is_cut;
    bool is_draining; /* a thread reports events to this client */
    bool has_lost;    /* a message found no memory: everything has to be taken for void */
};

static inline struct mem_client *pln_mem_client(struct pln_l2 *l2) {
    return PLN_CONTAINER_OF(l2, struct mem_client, l2);
}

/* Puts a message into the queue of every other client of the namespace whose link is up. */
void pln_mem_post_locked(struct mem_client *from, enum pln_message_kind kind,
                         struct pln_bytes payload);
/* Reports what is queued for clients that are not held, with the lock dropped meanwhile. */
void pln_mem_drain_locked(struct space *space);
/* Sets the link's state and reports it, after whatever is being reported. */
void pln_mem_set_link(struct mem_client *client, bool is_up);
void pln_mem_close(struct pln_l2 *l2);
void pln_mem_free_records(struct space *space);
extern const struct pln_l2_ops pln_mem_ops;

#endif
