/* SPDX-License-Identifier: MIT
 *
 * watch_judge.h - what a read may bring: the judge of `perilune watch`, without processes, clocks
 * or caches. All points in time come in from outside.
 *
 * Two things are known. The truth of each key: when which version of it was acknowledged, that is,
 * from when on no reader should get an older one. And the history of the processes: when faults
 * were in force, and when the link of each was down. A read that began at t and brought version v
 * is stale by t minus the time of the first acknowledgement of a version above v. What is right
 * depends on the phase that its process was in at t, which is known in hindsight only:
 *
 *   gap        a fault concerns the process, or ended so shortly ago that its end may not have got
 *              there yet, or its link is down. A link that is lost without a fault was dead for up
 *              to `detection` before that was noticed, so the gap begins so much earlier
 *   recovered  for a while after a gap
 *   connected  else
 *
 * Writes of a process's own have no bound: they are seen at once, in every phase.
 */
#ifndef PLN_LUA_WATCH_JUDGE_H
#define PLN_LUA_WATCH_JUDGE_H

#include "../core/perilune.h"

/* ---- the truth of a key ---- */

enum { PLN_ACKS = 256 }; /* of a key that are remembered */

struct pln_ack {
    uint64_t version;
    pln_ns at;
    uint32_t writer; /* of which life of which process: unique in a run */
};

/* A zeroed one is that of a key never written. Guarded by its owner. */
struct pln_truth {
    size_t n_acks; /* ever; the last PLN_ACKS of them are here */
    struct pln_ack acks[PLN_ACKS];
};

/* What a read did not see. */
struct pln_missed {
    struct pln_ack first; /* the first acknowledged version that is newer */
    bool is_own;          /* one of them was the reader's own */
};

/* Versions and times grow from call to call. A write that failed is not acknowledged: it is once a
 * later one of the key is. */
void pln_truth_ack(struct pln_truth *truth, uint64_t version, pln_ns at, uint32_t writer);
/* True where a newer version had been acknowledged when the read began. If that was more than
 * PLN_ACKS acknowledgements ago, the first that is remembered stands for it. */
bool pln_truth_missed(const struct pln_truth *truth, uint64_t version, pln_ns began,
                      uint32_t reader, struct pln_missed *missed);
/* True where the version was acknowledged, as far as is remembered. One that was not, and that a
 * server is all there is of, may still take effect after a newer one: its writer gave up waiting,
 * and its command had not been carried out. */
bool pln_truth_knows(const struct pln_truth *truth, uint64_t version);

/* ---- the history ---- */

enum pln_phase { PLN_CONNECTED, PLN_GAP, PLN_RECOVERED, PLN_N_PHASES };

enum { PLN_EVERYWHERE = -1, PLN_FAULT_NAME = 24 };

struct pln_fault {
    char name[PLN_FAULT_NAME];
    int process;         /* or PLN_EVERYWHERE */
    pln_ns began, ended; /* PLN_FOREVER while in force */
};

struct pln_bounds {
    pln_ns delivery;  /* of a message to a process that is well */
    pln_ns gap;       /* of a read in a gap */
    pln_ns detection; /* of a link that is dead */
    pln_ns recovery;  /* so long a process counts as recovered */
};

/* Of reads that saw an old version: how old. Each power of two microseconds is cut in 8. */
enum { PLN_AGES = 8 * 40 };

struct pln_tally {
    uint64_t reads, unanswered, writes, refused; /* refused: not acknowledged */
    uint64_t old, marked; /* reads of an old version; of them: which said that they were stale */
    uint64_t stale;       /* reads beyond their bound */
    pln_ns longest;       /* of unmarked ones */
    uint64_t ages[PLN_AGES];
};

struct pln_judge; /* opaque */

/* A read that missed something. */
struct pln_old_read {
    pln_ns began, took;
    uint64_t version, newest; /* what it brought; what was committed when it ended */
    struct pln_missed missed;
    uint32_t key, reader;
    uint16_t process;
    uint8_t source; /* enum pln_source */
};

int pln_judge_new(struct pln_judge **judge, unsigned n_processes, const struct pln_bounds *bounds);
void pln_judge_free(struct pln_judge *judge); /* NULL is allowed */

/* What happened. A process begins with its link down. Of each process in order of time; where
 * memory is out they return PLN_ENOMEM, and the history is not to be used. */
int pln_judge_link(struct pln_judge *judge, unsigned process, bool is_up, pln_ns at);
int pln_judge_fault(struct pln_judge *judge, const char *name, int process, pln_ns at);
/* Ends the latest fault of that name that is in force; false where there is none. */
bool pln_judge_end(struct pln_judge *judge, const char *name, pln_ns at);

/* All that follows is right once no more is reported of the time asked for, and of `detection`
 * after it. */
enum pln_phase pln_judge_phase(const struct pln_judge *judge, unsigned process, pln_ns at);
/* Counts a read; true where it is beyond its bound. */
bool pln_judge_read(struct pln_judge *judge, const struct pln_old_read *read);
/* Adds counts of one process to the phase it was in. */
void pln_judge_count(struct pln_judge *judge, unsigned process, pln_ns at,
                     const struct pln_tally *counts);
const struct pln_tally *pln_judge_tally(const struct pln_judge *judge, enum pln_phase phase);
/* The age that a share of the reads of an old version did not exceed, to an eighth. 0: no such
 * reads. */
pln_ns pln_tally_age(const struct pln_tally *tally, double share);

/* The i-th fault, NULL past the last, and how long after its end all links that it concerned were
 * up. PLN_FOREVER: not yet, or not before the next fault. */
const struct pln_fault *pln_judge_fault_at(const struct pln_judge *judge, size_t i);
pln_ns pln_judge_recovered_in(const struct pln_judge *judge, const struct pln_fault *fault);

const char *pln_phase_name(enum pln_phase phase);

#endif
