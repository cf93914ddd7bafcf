/* SPDX-License-Identifier: MIT
 *
 * stats.h - counters without sharing: every thread counts in a cell of its own, a reader sums them.
 *
 * A cell belongs to one thread at a time, so counting is a plain load and store (relaxed atomics,
 * for the reader's sake), never a locked instruction. A thread that ends hands its cell back with
 * its counts in it; the next new thread goes on with them.
 */
#ifndef PLN_STATS_H
#define PLN_STATS_H

#include "base.h"

/* Every count of the library. Names and helps stand in stats.c, in this order. */
enum pln_count {
    PLN_COUNT_GETS,         /* keys asked for by get, get_copy, get_or_load, get_many */
    PLN_COUNT_L1_HITS,      /* answered fresh by L1, negatives included */
    PLN_COUNT_L2_HITS,      /* answered by L2 */
    PLN_COUNT_LOADS_SERVED, /* answered by a loader's value, own or another caller's */
    PLN_COUNT_STALE_SERVED, /* answered by a value past its ttl */
    PLN_COUNT_MISSES,       /* answered by nothing */
    PLN_COUNT_FAILURES,     /* ended in an error; gets is the sum of these six */
    PLN_COUNT_NEGATIVES,    /* of the answers: "does not exist" */
    PLN_COUNT_PEEKS,
    PLN_COUNT_SETS,
    PLN_COUNT_DELETES,
    PLN_COUNT_EXPIRES,
    PLN_COUNT_TOUCHES,
    PLN_COUNT_SLIDES, /* lives prolonged by hits */
    PLN_COUNT_TAG_INVALIDATIONS,
    PLN_COUNT_MATCH_INVALIDATIONS,
    PLN_COUNT_CLEARS,
    PLN_COUNT_LOADS, /* loader calls */
    PLN_COUNT_LOAD_ERRORS,
    PLN_COUNT_LOADS_HELD,    /* not tried, since the last one had just failed */
    PLN_COUNT_LOAD_WAITS,    /* callers that waited for another's load */
    PLN_COUNT_REFRESHES,     /* loads behind a served value */
    PLN_COUNT_HOT_REFRESHES, /* of these: of popular keys, without a request */
    PLN_COUNT_LEASE_WAITS,   /* loads that waited for another process */
    PLN_COUNT_LEASES_LOST,   /* loaded values not stored: invalidated meanwhile */
    PLN_COUNT_FILLS_REFUSED, /* values not kept in L1: invalidated meanwhile */
    PLN_COUNT_L1_INSERTS,
    PLN_COUNT_L1_REPLACES,
    PLN_COUNT_L1_REMOVES,     /* by delete or invalidation */
    PLN_COUNT_L1_EVICTIONS,   /* to stay within the budget */
    PLN_COUNT_L1_CROWDED,     /* evicted because their bucket was full */
    PLN_COUNT_L1_DRAINED,     /* evicted because entries of another size needed the memory */
    PLN_COUNT_L1_EXPIRATIONS, /* past their end, or of a dropped generation or tag */
    PLN_COUNT_L1_REFUSALS,    /* too big, budget, memory waiting for readers */
    PLN_COUNT_L2_COMMANDS,
    PLN_COUNT_L2_ERRORS,
    PLN_COUNT_L2_TIMEOUTS,
    PLN_COUNT_L2_CONNECTS,
    PLN_COUNT_L2_BREAKS,      /* times the breaker of a server opened */
    PLN_COUNT_L2_RETRIES,     /* sent again: refused for a moment */
    PLN_COUNT_L2_BAD_VALUES,  /* undecodable: treated as misses */
    PLN_COUNT_L2_SWEPT,       /* values removed behind, since a prefix or pattern had voided them */
    PLN_COUNT_REPLICA_HITS,   /* values read from replicas */
    PLN_COUNT_REPLICA_MISSES, /* asked of one in vain, and of the primary then */
    PLN_COUNT_L2_PUSHES,      /* said by servers unasked, and dropped */
    PLN_COUNT_DATA_CALLS,     /* of commands, and on data structures, by callers */
    PLN_COUNT_HASH_L1_HITS,   /* of these: hashes answered fresh by L1 */
    PLN_COUNT_BUS_RECEIVED,
    PLN_COUNT_BUS_OWN,         /* own echoes, ignored */
    PLN_COUNT_BUS_BAD,         /* damaged or of a foreign version */
    PLN_COUNT_BUS_LOSSES,      /* times the link was lost */
    PLN_COUNT_BUS_OLD,         /* doubled, or come late */
    PLN_COUNT_BUS_GAPS,        /* times messages were found missing on a live link */
    PLN_COUNT_BUS_REPLAYED,    /* messages heard from the log */
    PLN_COUNT_BUS_REPAIRS,     /* gaps after which nothing was missing */
    PLN_COUNT_BUS_LOST_WRITES, /* times a server had lost what it had acknowledged */
    /* events from channels and streams, those that come again too: the sum of the three; carried
     * out; not for now (to be tried again, or lost); such as can never be carried out */
    PLN_COUNT_EVENTS_RECEIVED,
    PLN_COUNT_EVENTS_RAISED,
    PLN_COUNT_EVENTS_FAILED,
    PLN_COUNT_EVENTS_DEAD,
    PLN_COUNT_RECOVERY_KEPT, /* operations that Redis did not take, kept for later */
    PLN_COUNT_RECOVERY_DONE,
    PLN_COUNT_RECOVERY_DROPPED,   /* something newer had happened */
    PLN_COUNT_RECOVERY_OVERFLOWS, /* times they became a clear of all */
    PLN_COUNT_LOADS_SAME,         /* loader calls that found the old value unchanged */
    PLN_COUNT_LOADS_UNKEPT,       /* loaded values not stored: missed too seldom so far */
    PLN_COUNT_DENIED,             /* reads and sets of keys that must never be cached */
    PLN_COUNT_SOFT_TIMEOUTS,      /* served stale since a load took too long */
    PLN_COUNT_POLICY_ERRORS,      /* failures of policy functions */
    PLN_COUNT_POLICY_RELOADS,
    PLN_COUNT_POLICY_ALERTS,
    PLN_COUNT_POLICY_RELOAD_ERRORS, /* policies that were refused: nothing changed */
    PLN_COUNT_POLICY_OUT_OF_TIME,
    PLN_COUNT_POLICY_OUT_OF_MEMORY,
    PLN_COUNT_POLICY_BREAKS,  /* times a function was turned off */
    PLN_COUNT_POLICY_SKIPPED, /* calls not made of functions turned off */
    PLN_COUNT_COMPRESSED,     /* values on their way to L2; of these, bytes before and after: */
    PLN_COUNT_COMPRESS_BYTES_IN,
    PLN_COUNT_COMPRESS_BYTES_OUT,
    PLN_COUNT_COMPRESS_REFUSED, /* values left as they are: they would not be smaller */
    PLN_COUNT_DECOMPRESSED,
    PLN_COUNT_DECOMPRESS_FAILURES, /* damaged, or by what this build lacks */
    PLN_COUNT_STORES,              /* writes that a store of record took */
    PLN_COUNT_STORE_FAILURES,      /* writes that it did not, each time */
    PLN_COUNT_STORE_BATCHES,       /* calls of stores */
    PLN_COUNT_STORE_RETRIES,       /* writes tried again, each time */
    PLN_COUNT_STORE_DEAD,          /* writes given up: dead letters */
    PLN_COUNT_QUEUE_WAITS,         /* writes behind that waited for room in the queue */
    PLN_COUNT_QUEUE_REFUSED,       /* writes behind that were refused since it was full */
    PLN_COUNT_THROUGH_CONFLICTS, /* writes through at once: the value was removed, and is loaded */
    PLN_N_COUNTS,
};

struct pln_counts; /* opaque */

int pln_counts_new(struct pln_counts **counts);
void pln_counts_free(struct pln_counts *counts);
/* This thread counts no more, as at its end; it may come back. To be called by a thread that may
 * end while others free the counters. */
void pln_counts_part(struct pln_counts *counts);

/* This thread's cell; never NULL (a shared spare one, which may lose counts, where memory is out).
 */
_Atomic uint64_t *pln_counts_cell(struct pln_counts *counts);

/* Adds to one count. Threads: any, wait-free after a thread's first count. */
static inline void pln_count(struct pln_counts *counts, enum pln_count which, uint64_t n) {
    _Atomic uint64_t *cell = pln_counts_cell(counts) + which;
    /* relaxed: a cell has one writer, and readers need no order between counts */
    atomic_store_explicit(cell, atomic_load_explicit(cell, memory_order_relaxed) + n,
                          memory_order_relaxed);
}

/* Sums all cells into totals[PLN_N_COUNTS]. Threads: any. */
void pln_counts_sum(struct pln_counts *counts, uint64_t *totals);
const char *pln_count_name(enum pln_count which);
const char *pln_count_help(enum pln_count which);

#endif
