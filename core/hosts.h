/* SPDX-License-Identifier: MIT
 *
 * hosts.h - private to core: what a cache has from the program around it for its policy's use.
 *
 *   loaders.c  functions by name: loaders, and the stores of store.c
 *   ask.c      what only a worker can do, for a thread that is none
 *   shaping.c  a rule's functions, asked so
 *   shared.c   numbers that the functions of a policy share
 *
 * Label:
 *   S1  a number published / found: its name is written before it can be seen (shared.c)
 */
#ifndef PLN_HOSTS_H
#define PLN_HOSTS_H

#include "engine.h"

/* ---- loaders.c ---- */

/* Of any kind: whoever takes one out knows which. */
typedef void (*pln_function)(void);
/* Gives a function a name in one of the cache's lists, in the place of the one that has it; NULL
 * takes that back. `what` it is: "loader". Returns: as pln_register_loader(). */
int pln_register(struct pln_cache *cache, struct pln_registered **list, const char *what,
                 const char *name, pln_function function, void *arg);
/* NULL: nobody has registered it. */
pln_function pln_registered_find(struct pln_cache *cache, struct pln_registered **list,
                                 const char *name, void **arg);
void pln_registered_free(struct pln_registered *list);
/* Lets the call's own loaders by name answer where the rule calls for one. */
void pln_loader_choose(struct pln_request *request);
/* What the rule's other functions make of what such a loader has brought; waits for a worker. */
int pln_loader_shape(const struct pln_request *request, int status, struct pln_load *load);
/* Whether a worker can load the request's key. */
bool pln_loader_can_run(const struct pln_request *request);
/* The end of a read that brought nothing and can load nothing: a miss, or a failure where the rule
 * calls for a loader that nobody has registered. */
int pln_loader_missing(const struct pln_request *request);

/* ---- ask.c ---- */

/* Has a worker make a call, and waits for its end. Returns: as the call, with its text; `none_free`
 * where none has begun for so long, PLN_EBUSY, PLN_ECLOSED: then it was never made. */
int pln_ask_worker(struct pln_cache *cache, int (*call)(void *arg, unsigned worker), void *arg,
                   pln_ms most, const char *verb, int none_free);

/* ---- shaping.c ---- */

/* Asks the rule's ttl, tags and related functions about a value, on a worker, and waits: a call of
 * a policy's is bounded by its own budget. */
int pln_shape_by_rule(struct pln_cache *cache, const struct pln_ruleset *ruleset,
                      const struct pln_match *match, struct pln_bytes key, struct pln_bytes value,
                      uint8_t format, struct pln_load *load);

/* ---- shared.c ---- */

int pln_shared_new(struct pln_shared **shared);
void pln_shared_free(struct pln_shared *shared);

#endif
