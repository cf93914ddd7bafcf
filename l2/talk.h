/* SPDX-License-Identifier: MIT
 *
 * talk.h - a conversation of one's own with a server; a part of l2.h, which includes it.
 */
#ifndef PLN_L2_TALK_H
#define PLN_L2_TALK_H

#include "l2.h"

/* A connection beside the pools, of one user: for commands that block (XREADGROUP) or change what a
 * connection is (SUBSCRIBE). It is made by open(), with the client's login, and gone after any
 * failure; the next open() finds out anew where the server is. It speaks RESP2.
 * Threads: one at a time, but for wake. */

/* A conversation with the server that has a name, in a cluster or a ring; not yet open. The client
 * outlives it. Returns: PLN_OK; PLN_EINVAL where there is no Redis (memory, a forked child),
 * PLN_ENOMEM, PLN_ESYSTEM. */
static inline int pln_l2_talk_new(struct pln_l2 *l2, struct pln_bytes name,
                                  struct pln_l2_talk **talk) {
    return l2->ops->talk != NULL ? l2->ops->talk(l2, name, talk)
                                 : pln_fail(PLN_EINVAL, "l2: there is no Redis to talk to");
}
void pln_l2_talk_free(struct pln_l2_talk *talk); /* NULL is allowed */
/* Connects, unless it is open. Returns: PLN_OK; PLN_EL2DOWN, PLN_ETIMEOUT (the time to connect has
 * passed), PLN_ENOMEM. */
int pln_l2_talk_open(struct pln_l2_talk *talk);
/* Sends a command. Returns: PLN_OK; else as open. */
int pln_l2_talk_say(struct pln_l2_talk *talk, const struct pln_bytes *args, size_t n_args);
/* Waits for what the server says next: an answer, which may be an error, or a message. Returns:
 * PLN_OK (the reply is the caller's to free); PLN_MISS (nothing by then, or it was woken; where it
 * is not open it just sleeps); PLN_EL2DOWN (lost, or the server is elsewhere now), PLN_ENOMEM. */
int pln_l2_talk_hear(struct pln_l2_talk *talk, pln_ns until, struct pln_reply **reply);
/* Gives it up, to be opened anew. */
void pln_l2_talk_close(struct pln_l2_talk *talk);
/* Ends a hear(), the present one or else the next. Threads: any. */
void pln_l2_talk_wake(struct pln_l2_talk *talk);
/* For people: where it goes to. It stays as long as the client. */
const char *pln_l2_talk_label(const struct pln_l2_talk *talk);

#endif
