/* SPDX-License-Identifier: MIT
 *
 * feeder.h - private to core: the doors of the rooms that take events from outside.
 */
#ifndef PLN_FEEDER_H
#define PLN_FEEDER_H

#include "engine.h"

/* ---- events.c ---- */

/* Whether what pln_raise() failed with may go well another time. */
bool pln_event_may_pass(int status);

/* ---- notice.c ---- */

enum {
    PLN_NOTICE_BYTES = 64 * 1024, /* of a message or an entry */
    PLN_NOTICE_EVENT = 512,       /* of an event's name */
    PLN_NOTICE_FIELDS = 64,
};

/* What came from outside, read: an event with its fields. Bytes point into the memory below, or
 * into what was read. */
struct pln_notice {
    struct pln_bytes event;
    struct pln_field fields[PLN_NOTICE_FIELDS];
    size_t n_fields;
    void *memory; /* see notice.c */
};

/* Return: PLN_OK (the notice is the caller's to fini); PLN_EINVAL, PLN_ETOOBIG with what is wrong
 * with it, PLN_ENOMEM. */
int pln_notice_read_message(struct pln_bytes message, struct pln_notice *notice);
/* Names and values of an entry in turn, as a server has answered; NULL: it has none any more. */
int pln_notice_read_entry(const struct pln_reply *entry, struct pln_notice *notice);
void pln_notice_fini(struct pln_notice *notice);

/* ---- feeder.c ---- */

struct pln_feeders; /* the sources of a cache, and a thread for each */

int pln_feeders_new(struct pln_cache *cache, struct pln_feeders **feeders);
/* Ends the threads, and waits for what they are doing. */
void pln_feeders_free(struct pln_feeders *feeders);
/* Ends the sources that the policy in force no longer has, and begins those that are new. */
void pln_feeders_follow(struct pln_feeders *feeders);
void pln_feeders_freeze(struct pln_feeders *feeders);
/* A child has none of the threads yet. */
void pln_feeders_thaw(struct pln_feeders *feeders, bool is_child);

/* A source at work; its thread's, but for is_stopping. */
struct pln_feeder {
    struct pln_feeder *next;
    struct pln_cache *cache;
    struct pln_event_source source; /* a copy of its own */
    struct pln_l2_talk *talk;
    pthread_t thread;
    atomic_bool is_stopping;
    unsigned told; /* kinds of faulty events that were logged; bits */
    pln_ns backoff;
    /* of a stream */
    char consumer[64];
    pln_ns retry_at, claim_at; /* points at which to look for what is not acknowledged */
    pln_ns retry_backoff;
};

static inline bool pln_feeder_is_stopping(struct pln_feeder *feeder) {
    /* relaxed: a flag by itself; who sleeps is woken by the conversation */
    return atomic_load_explicit(&feeder->is_stopping, memory_order_relaxed);
}
/* The next pause, a random part of one that doubles, up to 2 s. */
pln_ns pln_feeder_pause(pln_ns *backoff);

/* ---- intake.c ---- */

/* What a source does: goes up once the conversation is open (subscribes, or finds its group); then
 * takes what comes, for about a second, again and again; and takes its leave. Return: PLN_OK; else
 * the conversation is of no more use. */
int pln_intake_begin(struct pln_feeder *feeder);
int pln_intake_take(struct pln_feeder *feeder);
void pln_intake_end(struct pln_feeder *feeder);

#endif
