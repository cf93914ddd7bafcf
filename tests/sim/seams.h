/* SPDX-License-Identifier: MIT
 *
 * seams.h - where the run looks into the library, and where it can break it.
 *
 * What stands between the engine and the server in memory is seen from both sides: the events that
 * a client reports, the commands it is given, and what the server carries out. Most of it through
 * the tables of functions that are there anyway (struct pln_l2_events, struct pln_l2_ops), the rest
 * through the linker's --wrap.
 *
 * A mutant is the library with one rule of the protocol left out. A simulation that finds none of
 * them would prove nothing.
 */
#ifndef PLN_SIM_SEAMS_H
#define PLN_SIM_SEAMS_H

#include "history.h"

enum sim_mutant {
    SIM_INTACT,
    SIM_NO_CHECK,     /* R3: what was loaded is installed whatever was heard meanwhile */
    SIM_ONE_CHECK,    /* R3: the stamp is looked at before the entry is linked, and not after */
    SIM_LATE_STAMP,   /* R2: the stamp is taken at the reply */
    SIM_DEAF_TO_KEYS, /* R4: messages do nothing */
    SIM_DEAF_TO_TAGS,
    SIM_DEAF_TO_CLEARS,
    SIM_DEAF_TO_EXPIRES,
    SIM_NO_REPLY, /* R8: a writer forgets the key before it sends, and not at the reply */
    SIM_NO_REPLY_TO_TAG,
    SIM_NO_DOWN,         /* R6: a lost link is not noticed */
    SIM_SAME_GENERATION, /* R6: after a gap all is as it was before */
    SIM_NO_REPLAY,       /* 2.3: nor is what was missed applied */
    SIM_NO_BOUND,        /* in a gap L1 serves without bound */
    SIM_LEASE_STAYS,     /* R7: a delete leaves the lease */
    SIM_ANY_TOKEN,       /* R7: a commit is carried out whoever holds the lease */
    SIM_BLIND_SET,       /* R9: a set is kept whatever was heard meanwhile */
    SIM_JOINS_OLD,       /* I6: a load that began before an own write is joined after it */
    SIM_JOINS_UNTAGGED,  /* the same after a tag or a clear */
    SIM_LEAVES_OLD,      /* R9: a set that is refused by L1 leaves what was there before */
    SIM_EXPIRES_SHOWN,   /* R4: an expire sees no entry that is about to show */
    SIM_DEAF_TO_MATCHES, /* R4: messages of prefixes and patterns do nothing */
    SIM_MATCH_WALKS,     /* R3: one ends what is there, and refuses no fill under way */
    SIM_FORMER_STAYS,    /* what is kept stays so when its key is written anew */
    SIM_REDO_AGELESS,    /* what is kept comes as if it had just begun */
    SIM_REDO_SILENT,     /* nobody is told of it */
    SIM_MUTANTS,
};

extern enum sim_mutant sim_mutant; /* set before a run */
const char *sim_mutant_name(enum sim_mutant mutant);

/* ---- engine.c, for server.c ---- */

struct pln_hashed;
/* Takes the stamp that this task took last anew. */
void sim_stamp_again(const struct pln_hashed *key);
/* Ends what fits in L1, and no more. */
void sim_walk(void *cache, const struct pln_mask *mask);

/* The number of the call that is carried out later, by the key that it does this with. */
uint64_t sim_kept_ticket(const struct pln_hashed *key);

/* ---- kept.c, for server.c and engine.c ---- */

/* The library gave a write a number, when the versions were these; it was done with it; and took it
 * back for that of another. */
void sim_ticket(const struct sim_write *write, uint64_t ticket, const uint64_t versions[SIM_KEYS]);
void sim_ticket_end(int node, uint64_t ticket);
void sim_ticket_back(int node, uint64_t ticket);
struct record;
/* Carries out what a node kept of a key. */
int sim_redo(struct pln_l2 *l2, int node, const struct pln_hashed *key,
             const struct pln_l2_redo *what, pln_ns deadline);
/* Where no actor is about it, notes that a node does what it kept of a tag, or of everything. */
void sim_redo_without_key(int node, const char *what);
/* What became of a key's record by a redo of it: what stays, or what was stored. */
void sim_redo_judge(struct sim_write *redo, enum sim_change kind, const struct record *record);
/* After L1 was told at the reply: the end of a redo, where this task is in one. */
void sim_redo_heard(void);

#endif
