/* SPDX-License-Identifier: MIT
 *
 * drain.h - private to core: how what waits in the queue gets to its store: drain.c (when, and in
 * whose thread), turn.c (by whom: the lead, and one turn of it), batch.h (what, and in which
 * order).
 */
#ifndef PLN_DRAIN_H
#define PLN_DRAIN_H

#include "batch.h"
#include "store.h"

/* ---- turn.c ---- */

/* An instance's part in the queue. One thread at a time has it. */
struct pln_turns;

int pln_turns_new(struct pln_cache *cache, struct pln_turns **turns);
void pln_turns_free(struct pln_turns *turns);

/* What is asked of a turn, and what it says. */
struct pln_drain_turn {
    bool has_news;    /* there is something in the queue that the last turn has not seen */
    bool is_hasty;    /* nothing waits for others to come with it */
    bool is_hurried;  /* nor for its next attempt, this once */
    bool is_leading;  /* by its end */
    bool is_at_end;   /* all that could be taken and stored for now is stored */
    bool has_ended;   /* something left the queue */
    size_t n_waiting; /* taken, and not stored */
    size_t n_wanted;  /* so many new writes are a reason for a turn before it is due */
};

/* Asks for the lead, or takes what there is and stores one batch. Returns when the next is due. */
pln_ns pln_turns_take(struct pln_turns *turns, struct pln_drain_turn *turn);
/* Gives the lead back. */
void pln_turns_leave(struct pln_turns *turns);
/* The longest that a call of a store may take, by the rules of the present policy. */
pln_ms pln_turns_longest(struct pln_cache *cache);

/* ---- drain.c ---- */

/* Whether a rule of the policy in force writes behind, to a store that is there. */
bool pln_drain_is_wanted(struct pln_cache *cache);
/* Waits until something has left the queue, as far as is known here, or for a while: see
 * pln_drain_rest(). */
struct pln_rest {
    pln_ns until;
    pln_ns nap; /* 0 at first */
};
/* Sleeps a little, longer each time, or works in the meantime where this thread may be needed for
 * it. False where it is too late. */
bool pln_drain_rest(struct pln_cache *cache, struct pln_rest *rest);
/* Everybody who can is to store without delay, from then on, and until as many times taken back. In
 * the calling thread, where there is no other; `is_first`: failed attempts are tried at once. */
void pln_drain_haste(struct pln_cache *cache, bool is_hasty);
/* Whether anything may wait in the queue, as it was seen within the last second or, where this
 * instance has written into it since, is now. Then this instance takes its turns. */
bool pln_drain_may_hold(struct pln_cache *cache);
/* The state last seen, no older than about a second while the drain is at work. */
void pln_drain_show(struct pln_cache *cache, struct pln_queue_state *state);

/* ---- letters.c ---- */

/* The client that has the queue. `verb` is what the program does: "flush". Returns: PLN_OK;
 * PLN_EINVAL where there is no queue, PLN_EL2DOWN. */
int pln_queue_client(struct pln_cache *cache, const char *verb, struct pln_l2 **l2);
/* Asks Redis, and keeps the answer for pln_drain_show(). */
int pln_queue_look(struct pln_cache *cache, pln_ns deadline, struct pln_l2_queue_state *state);

#endif
