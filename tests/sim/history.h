/* SPDX-License-Identifier: MIT
 *
 * history.h - what happened in a run, and what a read may therefore return.
 *
 * Keys are of two kinds. One of a source has versions that commits give it, and is invalidated
 * after each; one of record lives in the server alone, and its versions are the order in which the
 * server carried writes out. A node's floor for a key is the oldest version that it may still
 * return: it rises with what the node was told (the message of an invalidation was handled, or the
 * link came back after it) and with the node's own writes that returned PLN_OK. That is I2, I3 and
 * I6 of the protocol, exactly; there are two floors, since what an expire reports may still be
 * served as stale where the terms allow that. Between the change and the end of its message's
 * handling a node may return either value, and after the newer one the older again.
 *
 * While a node's link is down nothing raises its floors; what it serves from L1 is then bounded in
 * time (max_staleness).
 *
 * What the server holds must never be older than the last invalidation that it carried out (I1).
 *
 * A call that failed may be kept, and is then carried out later, unless its node dies (a redo).
 * Where what is there by then is newer than the call, it stays, and no floor rises above the
 * versions of when the call began. A value that a redo stores comes after none that began when its
 * call was over; and no redo comes after a later write of its node's that returned PLN_OK, but for
 * one that had been put aside for yet another: such a one may take away what is of about its time.
 */
#ifndef PLN_SIM_HISTORY_H
#define PLN_SIM_HISTORY_H

#include "tasks.h"

#include "../../l2/l2.h"

enum {
    SIM_KEYS = 6,
    SIM_TAGS = 2,
    SIM_NODES = 12, /* opened in a run, one after a crash counting anew */
    SIM_VALUE = 32, /* bytes of a value's text at most */
};

/* What a write does to others' copies. */
enum sim_change { SIM_KEY, SIM_EXPIRE, SIM_LIST, SIM_MATCH, SIM_TAG, SIM_CLEAR };

enum sim_floor { SIM_GONE, SIM_STALE, SIM_FLOORS };

/* For each key the versions below which nothing may be returned. */
struct sim_floors {
    uint64_t of[SIM_KEYS][SIM_FLOORS];
};

/* A write of a node's own, while its command runs; its task has it noted (sim_set_note). Or a redo:
 * what was kept is carried out later, in a task of the library's. */
struct sim_write {
    int node;
    uint64_t set;    /* the number in the value; 0: an invalidation */
    unsigned keys;   /* bits: what it is about */
    bool is_of_keys; /* by name, not all that have something in common */
    uint64_t begun;
    uint64_t versions[SIM_KEYS]; /* of when it began */
    bool is_carried_out;
    struct sim_floors floors; /* then: of what it concerned */
    bool is_redo, stays;      /* `stays`: what is there by now is newer, and stays */
    bool is_back;             /* another write of the key had taken its place, and failed */
    uint64_t ended;           /* of a redo: when the call that failed returned; 0: no single one */
};

struct sim_read {
    int node;
    unsigned key;
    uint64_t floor[SIM_FLOORS];
    uint64_t gap_floor; /* where the link is down from the begin to the end */
    unsigned link;      /* counts what becomes of it */
};

/* Of all runs of a process, for whoever wonders whether they saw anything. */
struct sim_tally {
    uint64_t reads, from[8], failures, writes, writes_failed;
    uint64_t messages, losses, repairs, gap_hits, crashes, forgotten, voided_commits, refused;
    uint64_t kept, redone;
};
extern struct sim_tally sim_tally;

struct sim_shape {
    unsigned n_source, n_record; /* keys of each kind, those of a source first */
    bool may_vanish;             /* what is of record may go unasked: evicted, or forgotten */
    bool serves_stale;
    pln_ns gap_bound; /* without a link L1 serves what was true so long ago at the earliest */
};

void sim_history_begin(const struct sim_shape *shape);
unsigned sim_n_keys(void);
struct pln_bytes sim_key_name(unsigned key);
/* The number of a key that has this name; SIM_KEYS where it has none. */
unsigned sim_key_of(struct pln_bytes name);
bool sim_is_record(unsigned key);
/* Each key of a source has one. */
struct pln_bytes sim_tag_of(unsigned key);
struct pln_bytes sim_tag_name(unsigned tag);

/* ---- the source ---- */

uint64_t sim_source_commit(unsigned key);
uint64_t sim_source_version(unsigned key);
/* Of all keys. */
void sim_versions(uint64_t versions[SIM_KEYS]);
/* True where the server has not carried out an invalidation since the last commit; it is a fault
 * where a node that lives has kept it. */
bool sim_is_behind(unsigned key);
/* Some versions say that there is no such thing. */
bool sim_is_absent(uint64_t version);
/* The text of a version of a source's, or of the value that a set of this number stores. */
struct pln_bytes sim_value(unsigned key, uint64_t number, char text[SIM_VALUE]);

/* ---- the server ---- */

/* A number for a set. */
uint64_t sim_next_set(void);
/* What a change is about: key, tag, keys each behind its length, mask behind its kind. */
unsigned sim_keys_of(enum sim_change kind, struct pln_bytes payload);
/* A change is carried out: the versions that exist now are what it concerns. */
void sim_carried_out(enum sim_change kind, struct pln_bytes payload, struct sim_write *write);
/* The same where all of it is lost, or some values are. */
void sim_lost_records(void);
/* Checks a value that the server gave to who began to ask when the floors were these. */
void sim_check_stored(const struct sim_floors *then, unsigned key, const struct pln_l2_item *item,
                      const char *who);
void sim_executed(struct sim_floors *floors);
/* The same without the changes of a node's own. */
void sim_executed_by_others(int node, struct sim_floors *floors);

/* ---- the bus ---- */

void sim_sent(int node, enum sim_change kind, struct pln_bytes payload);
void sim_heard(int node, enum sim_change kind, struct pln_bytes payload);
void sim_link_down(int node);
/* After the node was told; `then` is what was carried out before, without its own where the link
 * was repaired: what it does itself it knows when the call returns. */
void sim_link_up(int node, const struct sim_floors *then);
bool sim_is_linked(int node);

/* ---- nodes ---- */

/* The next number in the order of what happens. */
uint64_t sim_event(void);
void sim_write_begin(struct sim_write *write, int node, enum sim_change kind,
                     struct pln_bytes payload);
void sim_write_end(const struct sim_write *write, int status, bool is_kept);
void sim_redo_end(const struct sim_write *redo);
/* What it had kept is lost. */
void sim_node_dies(int node);
void sim_read_begin(struct sim_read *read, int node, unsigned key);
void sim_read_end(const struct sim_read *read, int status, const struct pln_result *result);
/* At the end: a read must return exactly the newest version. */
void sim_read_must_be_last(int node, unsigned key, int status, const struct pln_result *result);

#endif
