/* SPDX-License-Identifier: MIT
 *
 * steps.h - private to core: a fill that no thread waits for (steps.c).
 */
#ifndef PLN_STEPS_H
#define PLN_STEPS_H

#include "fill.h"

struct pln_steps;

/* In the place of the request's loader, where the program that asks will load the value itself when
 * it is told to. Never called. */
int pln_steps_host_loads(void *arg, struct pln_bytes key, struct pln_load *load);

/* Leads a flight to its end. Copies what it needs of the request. `is_named`: the host's loader is
 * one that the rule calls for. *of_host is what the functions below want, of the host, when it is
 * its turn (flight.h); at other times it may have gone. */
void pln_steps_lead(const struct pln_request *request, struct pln_flight *flight, bool is_named,
                    struct pln_steps **of_host);

/* By the host, who has taken its turn. The first looks again whether another process is still
 * loading. The second gives what a loader fills, until the third takes it, with the loader's
 * status. The last ends the flight, so that others may load. */
void pln_steps_go_on(struct pln_steps *steps);
struct pln_load *pln_steps_load(struct pln_steps *steps);
struct pln_load *pln_steps_taken(struct pln_steps *steps); /* the same again */
void pln_steps_loaded(struct pln_steps *steps, int status);
void pln_steps_give_up(struct pln_steps *steps);

#endif
