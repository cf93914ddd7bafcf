/* SPDX-License-Identifier: MIT
 *
 * fleet.h - the nodes of a run and what their threads do (fleet.c, acts.c), and what goes wrong
 * (trouble.c).
 */
#ifndef PLN_SIM_FLEET_H
#define PLN_SIM_FLEET_H

#include "history.h"

enum { SIM_SLOTS = 3, SIM_ACTORS = 2 };

struct sim_plan {
    unsigned n_nodes, n_actors, n_acts;
    struct sim_shape shape;
    struct pln_options options;
    pln_ms load_ms;       /* a loader takes up to so long */
    unsigned load_faults; /* thousandths of loads that fail */
    pln_ms think_us;      /* between two acts, likewise */
    bool has_policy;      /* it loads, on a worker; else the call's own loader does */
    bool has_touches;     /* and no expires: a touch makes fresh again what was expired */
    unsigned trouble;     /* bits of enum in trouble.c; 0: nothing goes wrong */
};

/* A place in the fleet, and the node that has it. */
struct sim_slot {
    struct sim_fleet *fleet;
    struct pln_cache *cache;
    int node;
    bool is_dying; /* its threads end, whatever they had in mind */
    unsigned n_running;
    struct sim_task *actors[SIM_ACTORS];
};

struct sim_fleet {
    struct sim_plan plan;
    struct pln_memory *memory;
    struct sim_slot slots[SIM_SLOTS];
    int n_opened;
    bool is_calm; /* nothing goes wrong any more */
};

void sim_fleet_open(struct sim_fleet *fleet);
void sim_fleet_close(struct sim_fleet *fleet);
/* Opens a node in a place of the fleet. */
void sim_slot_open(struct sim_fleet *fleet, unsigned slot);
/* Starts its threads. */
void sim_slot_start(struct sim_fleet *fleet, unsigned slot);
/* Waits for them, and closes it. */
void sim_slot_join(struct sim_slot *slot);
void sim_slot_close(struct sim_slot *slot);
/* True while a node has kept what failed. */
bool sim_keeps(const struct sim_fleet *fleet);

/* ---- acts.c ---- */

/* What one thread of a node does; the argument is its slot. */
void *sim_act(void *slot);
/* One of them: a read of a key with the loader that the plan says, and a delete. */
int sim_get(const struct sim_slot *slot, unsigned key, uint32_t flags, struct pln_result *result);
int sim_delete(const struct sim_slot *slot, unsigned key);
/* The policy's loader, as struct pln_hooks has it. */
struct pln_match;
int sim_load(void *fleet, unsigned worker, const struct pln_match *match, struct pln_bytes key,
             struct pln_load *load);

/* ---- trouble.c ---- */

/* A thread; the argument is the fleet. Ends when the last actor has. */
void *sim_make_trouble(void *fleet);

#endif
