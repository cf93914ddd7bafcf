/* SPDX-License-Identifier: MIT
 *
 * fills.h - private to core: several loads of one thread that share their round trips to L2.
 */
#ifndef PLN_FILLS_H
#define PLN_FILLS_H

#include "fill.h"

enum { PLN_FILLS_MOST = 64 };

struct pln_fills; /* opaque */

/* Asks for the leases of keys that this thread is about to load, in one round trip. Until the end
 * the loads of these keys in this thread find them, and leave what they bring to be stored at the
 * end. Keys that got none are loaded like any other. Returns NULL where memory is out, or there is
 * no L2: then each load goes by itself. Threads: the calling one alone; not within a load. */
struct pln_fills *pln_fills_begin(struct pln_cache *cache, const struct pln_bytes *keys, size_t n);
/* Stores what was brought, in one round trip, and gives back what was not used. NULL is allowed. */
void pln_fills_end(struct pln_fills *fills);

/* ---- for fill.c ---- */

/* Gives a fill the lease that was asked for, and the stamp from before that. */
bool pln_fills_grant(struct fill *fill);
/* Takes over what a fill under such a lease is to store. False where it is another's to store. */
bool pln_fills_take(struct fill *fill, const struct pln_l2_item *item, struct pln_load *load);

/* ---- for cache.c and lease.c ---- */

/* Before this thread may wait for another's load: stores and gives back all, so that nobody waits
 * for what it holds while it waits for them. */
void pln_fills_yield(void);

#endif
