/* SPDX-License-Identifier: MIT
 *
 * alert.h - private to core: what the policy wants to be told of how the cache fares. See alert.c.
 */
#ifndef PLN_ALERT_H
#define PLN_ALERT_H

#include "engine.h"

int pln_alerts_new(struct pln_cache *cache, struct pln_alerts **alerts);
void pln_alerts_free(struct pln_alerts *alerts);
/* In a child: who was looking did not come along. What is watched is watched from now on. */
void pln_alerts_after_fork(struct pln_alerts *alerts);
/* Looks at all windows, and raises what is to be raised: by a function of the policy, on the worker
 * of this number, or with a line in the log. Called about once a second, by that worker. */
void pln_alerts_look(struct pln_alerts *alerts, unsigned worker);
/* Note how long a load, and a read from L2, took. Threads: any, wait-free. */
void pln_alerts_note_load(struct pln_alerts *alerts, pln_ns took);
void pln_alerts_note_l2(struct pln_alerts *alerts, pln_ns took);

#endif
