/* SPDX-License-Identifier: MIT
 *
 * drops.h - the masks in force on a server: values whose keys fit one are void if they are older
 * than it.
 *
 * A mask that was dropped takes the next number of the tag clock as its time and is listed in the
 * tags' hash, so that a reader can tell a void value by its key. Each client keeps the list beside
 * the floor (floor.c): read with each beat, added to by messages. Then a sweep (sweep.c) goes
 * through the keys and removes what is void, and takes the masks off the list. So the list is
 * short, and mostly empty.
 *
 * The list is bytes: for each mask its time and the server's milliseconds then, 64 bits each, the
 * length of what follows, 16 bits, the mask's kind and its text. Numbers are big endian.
 */
#ifndef PLN_L2_DROPS_H
#define PLN_L2_DROPS_H

#include "transport.h"

struct pln_node;
struct pln_redis;

enum {
    PLN_MOST_DROPS = 64, /* masks on a list; with one more everything is dropped */
    PLN_MOST_DROP_BYTES = 16384,
};

struct pln_drop {
    uint64_t clock;
    pln_ms at;
    struct pln_mask mask;
    struct pln_bytes entry; /* all of it, as it stands in the list */
};

/* What a node knows of its server's list; under the floor's lock. */
struct pln_drops {
    uint8_t *bytes;
    size_t len;
    _Atomic uint64_t
        newest; /* no value of this time or a later one is void by it; 0: it is empty */
};

/* Takes the first mask off a list; false where there is none, or bytes that are none. */
bool pln_drops_next(struct pln_bytes *list, struct pln_drop *drop);
/* Whether a value of this time is void; also where the list is damaged. */
bool pln_drops_void(struct pln_bytes list, struct pln_bytes key, uint64_t clock);

/* The same by what the node knows. Threads: any. */
bool pln_drops_know(struct pln_node *node, struct pln_bytes key, uint64_t clock);
/* Adds a mask that somebody dropped at this time. */
void pln_drops_add(struct pln_node *node, uint64_t clock, const struct pln_mask *mask);
/* Takes the server's list as it was when the tag clock stood at `clock`; what was added since
 * stays. False where memory is out. With the floor's lock held. */
bool pln_drops_take_locked(struct pln_node *node, struct pln_bytes list, uint64_t clock);
void pln_drops_forget_locked(struct pln_node *node);

int pln_redis_drop_match(struct pln_l2 *l2, const struct pln_mask *mask, pln_ns deadline);

/* ---- sweep.c: memory back ---- */

enum {
    PLN_SWEEP_RATE = 10000,        /* keys a second */
    PLN_SWEEP_WAIT_MS = 60000,     /* in a cluster: no lease from before the drop is left then */
    PLN_SWEEP_ORPHANED_MS = 300000 /* whoever dropped it is no more, or does not get on */
};

struct pln_sweeper {
    _Atomic unsigned rate;   /* 0: it waits; a test's to change, as the two below */
    _Atomic pln_ms wait;     /* from the drop of a mask to its sweep */
    _Atomic pln_ms orphaned; /* from there on anybody sweeps it */
    pthread_t thread;
    pthread_mutex_t lock; /* over: */
    pthread_cond_t wake;
    bool is_started, is_stopping, is_asked;
};

void pln_sweep_init(struct pln_redis *redis);
/* Looks for masks to be swept, behind. */
void pln_sweep_ask(struct pln_redis *redis);
/* The same if one on the list, just read from a server, was left by whoever dropped it. */
void pln_sweep_look(struct pln_node *node, struct pln_bytes list);
void pln_sweep_stop(struct pln_redis *redis);
void pln_sweep_fini(struct pln_redis *redis);

#endif
