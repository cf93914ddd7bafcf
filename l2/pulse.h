/* SPDX-License-Identifier: MIT
 *
 * pulse.h - the thread that asks the servers how far they are, since a link must not wait for an
 * answer: what others did meanwhile would be heard only after it.
 */
#ifndef PLN_L2_PULSE_H
#define PLN_L2_PULSE_H

#include <pthread.h>

#include "feed.h"

struct pln_node;
struct pln_redis;

/* A question and its answer; of one node. */
struct pln_pulse {
    enum pln_pulse_turn {
        PLN_PULSE_IDLE,
        PLN_PULSE_ASKED,
        PLN_PULSE_ASKING,
        PLN_PULSE_ANSWERED
    } turn;
    struct pln_feed_state state; /* what was known when it was asked */
    struct pln_reply *reply;
};

/* Who asks; of a client. */
struct pln_pulser {
    pthread_mutex_t lock; /* guards all pulses of its nodes, and the below */
    pthread_cond_t wake;
    pthread_t thread;
    bool is_started, is_stopping;
};

void pln_pulse_init(struct pln_redis *redis);
void pln_pulse_fini(struct pln_redis *redis);
/* Ends the thread; before the nodes end. */
void pln_pulse_stop(struct pln_redis *redis);
/* By the node's link. Asks, unless an earlier question is still unanswered; the link is woken when
 * the answer is there. Returns: PLN_OK; PLN_ESYSTEM (no thread). */
int pln_pulse_ask(struct pln_node *node, const struct pln_feed_state *state);
/* Takes the answer, if it is there; the reply is the caller's to free. */
bool pln_pulse_take(struct pln_node *node, struct pln_feed_state *state, struct pln_reply **reply);
/* What was asked before is of no more use. */
void pln_pulse_forget(struct pln_node *node);

#endif
