/* SPDX-License-Identifier: MIT
 *
 * courier.h - the courier, as its two files share it: async.c (what is posted, deadlines, the
 * thread) and courier.c (what goes over the connection).
 */
#ifndef PLN_L2_COURIER_H
#define PLN_L2_COURIER_H

#include "async.h"

enum {
    MOST_IN_FLIGHT = 4096,    /* commands */
    BUFFER_BYTES = 64 * 1024, /* for answers: about what a server sends at a time */
};

/* A command that was sent. */
struct sent {
    struct pln_errand *errand; /* NULL: nobody wants the answer */
    pln_ns deadline;
    uint32_t bytes;
    unsigned kinds; /* as in the errand */
    bool is_time;   /* a TIME of our own */
};

struct list {
    struct pln_errand *first, **last;
    size_t n;
};

struct pln_async {
    struct pln_pool *pool;
    int wake_fd; /* an eventfd */
    /* The thread's name, as it wrote it itself: no other thread finds its own name here. */
    _Atomic uintptr_t self;

    pthread_mutex_t lock; /* guards all to the next heading */
    pthread_t thread;
    bool is_started, is_stopping;
    bool is_asleep; /* or about to be: who posts has to wake it */
    struct list posted;
    size_t n_behind; /* the queue's length, as of when the courier last looked */

    /* ---- the courier's own ---- */
    struct list queue;
    bool is_closing;
    bool is_taken; /* the connection, from the pool */
    struct pln_batch batch;
    size_t n_sent; /* bytes of the batch */
    pln_ns now;    /* of this round */
    pln_ns soonest, scanned_at;
    pln_ns heard_at; /* the last answer, or the first command that waits for one */
    pln_ns time_asked_at;
    bool awaits_time;
    size_t bytes_in_flight;
    size_t first_in_flight, n_in_flight;
    struct sent ring[MOST_IN_FLIGHT];
    size_t n_bytes; /* in the buffer, no answer yet */
    char buffer[BUFFER_BYTES];
};

/* ---- small things ---- */

static inline void clear(struct list *list) {
    list->first = NULL;
    list->last = &list->first;
    list->n = 0;
}

static inline void append(struct list *list, struct pln_errand *errand) {
    errand->next = NULL;
    *list->last = errand;
    list->last = &errand->next;
    list->n++;
}

static inline struct pln_errand *take_first(struct list *list) {
    struct pln_errand *errand = list->first;
    list->first = errand->next;
    list->n--;
    if (list->first == NULL) {
        list->last = &list->first;
    }
    return errand;
}

/* Moves all of one list behind another. */
static inline void move(struct list *from, struct list *to) {
    if (from->first != NULL) {
        *to->last = from->first;
        to->last = from->last;
        to->n += from->n;
        clear(from);
    }
}

static inline struct pln_slot *slot_of(struct pln_async *async) {
    return &async->pool->slots[async->pool->n_slots];
}

static inline struct sent *in_flight(struct pln_async *async, size_t i) {
    return &async->ring[(async->first_in_flight + i) % MOST_IN_FLIGHT];
}

static inline void note_deadline(struct pln_async *async, pln_ns deadline) {
    async->soonest = deadline < async->soonest ? deadline : async->soonest;
}

/* ---- courier.c ---- */

/* The oldest command in flight, which is none from then on. */
struct sent pln_courier_next(struct pln_async *async);
/* Writes what is queued, and sends what the socket takes: one batch after the other. */
int pln_courier_send(struct pln_async *async);
/* Hands out what has come. Returns: PLN_OK; PLN_MISS where nothing has. */
int pln_courier_receive(struct pln_async *async);

#endif
