/* SPDX-License-Identifier: MIT
 *
 * feed.h - the row of messages of one namespace on one server, as one who listens to it sees it:
 * how far it is unbroken, and what has to be done when it is not. A machine without sockets, clocks
 * or threads of its own: the link of Redis (hear.c, mend.c) and the memory server (mem.c) run it.
 *
 * Each message has the number after that of the one before it. So a number that was skipped tells
 * of a loss at once, and an answer of the server's (the beat) that names a higher one than has come
 * when everything said before it must have come tells of one at the row's end. What is missing is
 * read from the log, where there is one; else the listener has to forget what it cannot vouch for.
 *
 * A server may also know less than its listeners do: restored from an old state, or made a primary
 * before it had copied everything. It is found out by its number being too low, or by its log
 * having another message where the row ended.
 *
 * Not for several threads at once, but for pln_feed_ack() and pln_feed_heard().
 */
#ifndef PLN_L2_FEED_H
#define PLN_L2_FEED_H

#include "transport.h"

enum { PLN_FEED_AHEAD = 64 };

struct pln_feed {
    uint64_t base;          /* which row: when the server began to number; 0: none is known yet */
    uint64_t last;          /* up to here it is unbroken */
    _Atomic uint64_t heard; /* the same, for other threads */
    /* Messages that came before one that is missing: bit i is that of last + 1 + i. A bus that lets
     * messages pass each other closes such a gap by itself. */
    uint64_t ahead;
    bool has_lost;                   /* one that is further ahead: the row will not close */
    uint64_t prints[PLN_FEED_AHEAD]; /* of the messages last heard, by number */
    uint64_t goal;                   /* what the last beat promised; 0: nothing, or it has come */
    pln_ms goal_at, certain_at;      /* points of the host's clock */
    char run_id[PLN_RUN_ID + 1];     /* of the server that the row was heard from */
    _Atomic uint64_t acked;          /* the highest number that answered a change of our own */
};

/* What a server says of its row, and what was known when it was asked. */
struct pln_feed_state {
    char run_id[PLN_RUN_ID + 1];
    uint64_t base, number;
    uint64_t known; /* pln_feed_known() */
    pln_ms at;      /* of the host's clock */
};

enum pln_feed_sync {
    PLN_FEED_SAME, /* nothing is missing */
    PLN_FEED_READ, /* go on by the log, from `last` (its entry there, too) up to the number */
    PLN_FEED_NEW,  /* another row: everything heard before is worth nothing */
    PLN_FEED_LOST, /* the same, and the server has lost what it had acknowledged */
};

void pln_feed_init(struct pln_feed *feed);
/* Notes the number of an own change. Threads: any. */
void pln_feed_ack(struct pln_feed *feed, uint64_t number);
/* The highest number that is known to have been given. Taken before the server is asked: what is
 * acknowledged while it answers, it need not know yet. */
uint64_t pln_feed_known(const struct pln_feed *feed);
/* Up to which number the row is unbroken; what those messages did has been done, but for what a
 * link that comes up reads from the log, which is taken before it is applied. 0: no row is known.
 * Threads: any. */
uint64_t pln_feed_heard(const struct pln_feed *feed);
/* Takes a message that was applied. The bytes are the whole message. */
void pln_feed_take(struct pln_feed *feed, uint64_t number, struct pln_bytes bytes);
/* Whether messages are known to be missing. */
bool pln_feed_is_broken(const struct pln_feed *feed);

/* What to do when a subscription has begun, and the server then says so of its row. */
enum pln_feed_sync pln_feed_sync(struct pln_feed *feed, const struct pln_feed_state *state);
/* Takes an entry of the log, in their order, from that of `last` on; is_ours: this instance said
 * it. Returns: whether the row goes on with it; else the log is of no use, and *is_other says
 * whether its history is another one. */
bool pln_feed_take_logged(struct pln_feed *feed, const struct pln_feed_state *state,
                          uint64_t number, struct pln_bytes bytes, bool is_ours, bool *is_other);
/* Whether all that the server told of has now been taken. */
bool pln_feed_has_all(struct pln_feed *feed, const struct pln_feed_state *state);
/* Begins at what the server said: after PLN_FEED_NEW and PLN_FEED_LOST, or where the log did not
 * help. */
void pln_feed_begin(struct pln_feed *feed, const struct pln_feed_state *state);
/* Notes the message where the row has begun, if this is the one, for what may come after. */
void pln_feed_note(struct pln_feed *feed, uint64_t number, struct pln_bytes bytes);

/* Takes the answer to a beat. Returns false where the row is not this one. */
bool pln_feed_beat(struct pln_feed *feed, const struct pln_feed_state *state);
/* Everything has come that the server said before the answer to the last beat. Returns false where
 * what the beat promised is not among it. */
bool pln_feed_confirm(struct pln_feed *feed);

#endif
