/* SPDX-License-Identifier: MIT
 *
 * reload.h - private to core: the policy in force, read again while calls go on. See reload.c.
 */
#ifndef PLN_RELOAD_H
#define PLN_RELOAD_H

#include "engine.h"

/* `watch`: how often the policy's files are looked at; 0: never. */
int pln_reloads_new(struct pln_cache *cache, pln_ms watch, struct pln_reloads **reloads);
/* Ends the thread, after what it is doing, and gives back what was replaced. No call is under way
 * any more. */
void pln_reloads_free(struct pln_reloads *reloads);
/* Starts the thread where there is something for it to do. */
void pln_reloads_wake(struct pln_reloads *reloads);
/* How many policies were replaced, and are still used by calls under way. */
size_t pln_reloads_retiring(struct pln_reloads *reloads);
void pln_reloads_freeze(struct pln_reloads *reloads);
/* A child has no thread yet. */
void pln_reloads_thaw(struct pln_reloads *reloads, bool is_child);

#endif
