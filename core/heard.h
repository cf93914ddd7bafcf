/* SPDX-License-Identifier: MIT
 *
 * heard.h - private to core: what is heard of other instances, kept for a program that asks.
 */
#ifndef PLN_HEARD_H
#define PLN_HEARD_H

#include "engine.h"

struct pln_heard; /* opaque */

int pln_heard_new(struct pln_heard **heard);
void pln_heard_free(struct pln_heard *heard);
/* Keeps an event, where that is wanted. Threads: any. */
void pln_heard_note(struct pln_heard *heard, enum pln_heard_kind kind, struct pln_bytes text);
/* Around a fork. */
void pln_heard_freeze(struct pln_heard *heard);
void pln_heard_thaw(struct pln_heard *heard);

#endif
