/* SPDX-License-Identifier: MIT
 *
 * stats.c - the cells of stats.h: handed out one to a thread, summed by readers.
 *
 * Cells are linked once and never freed before the whole; a thread finds its own by a key of
 * thread-specific data, and its end (ends.h) gives the cell back by clearing `is_taken`, counts and
 * all.
 * Measured as the cheapest way that survives dlopen (no static TLS) and any number of caches.
 */
#include "stats.h"

#include "ends.h"

#include <pthread.h>

struct cell {
    _Alignas(PLN_CACHE_LINE) _Atomic uint64_t counts[PLN_N_COUNTS];
    atomic_bool is_taken;
    struct cell *next; /* written before the cell is published */
};

struct pln_counts {
    pthread_key_t key;
    struct pln_ends ends;
    struct cell *_Atomic cells;
    struct cell spare; /* shared where memory is out: may lose counts, never a get */
};

static const struct {
    const char *name;
    const char *help;
} counts_table[PLN_N_COUNTS] = {
    [PLN_COUNT_GETS] = {"gets", "keys asked for: the sum of the six that follow"},
    [PLN_COUNT_L1_HITS] = {"l1_hits", "answered fresh by L1"},
    [PLN_COUNT_L2_HITS] = {"l2_hits", "answered fresh by L2"},
    [PLN_COUNT_LOADS_SERVED] = {"loads_served", "answered by a loader, own or another caller's"},
    [PLN_COUNT_STALE_SERVED] = {"stale_served", "answered by a value past its ttl"},
    [PLN_COUNT_MISSES] = {"misses", "answered by no tier"},
    [PLN_COUNT_FAILURES] = {"failures", "ended in an error"},
    [PLN_COUNT_NEGATIVES] = {"negatives", "of the answers: known not to exist"},
    [PLN_COUNT_PEEKS] = {"peeks", "looks at L1 alone"},
    [PLN_COUNT_SETS] = {"sets", "values stored by callers"},
    [PLN_COUNT_DELETES] = {"deletes", "keys deleted by callers"},
    [PLN_COUNT_EXPIRES] = {"expires", "keys made stale by callers"},
    [PLN_COUNT_TOUCHES] = {"touches", "keys given a new ttl by callers"},
    [PLN_COUNT_SLIDES] = {"slides", "lives prolonged by hits"},
    [PLN_COUNT_TAG_INVALIDATIONS] = {"tag_invalidations", "tags invalidated by callers"},
    [PLN_COUNT_MATCH_INVALIDATIONS] = {"match_invalidations",
                                       "prefixes and patterns invalidated by callers"},
    [PLN_COUNT_CLEARS] = {"clears", "clears by callers"},
    [PLN_COUNT_LOADS] = {"loads", "loader calls"},
    [PLN_COUNT_LOAD_ERRORS] = {"load_errors", "loader calls that failed"},
    [PLN_COUNT_LOADS_HELD] = {"loads_held", "not tried, since the last one had just failed"},
    [PLN_COUNT_LOAD_WAITS] = {"load_waits", "callers that waited for another's load"},
    [PLN_COUNT_REFRESHES] = {"refreshes", "loads behind a served value"},
    [PLN_COUNT_HOT_REFRESHES] = {"hot_refreshes",
                                 "of refreshes: of popular keys, without a request"},
    [PLN_COUNT_LEASE_WAITS] = {"lease_waits", "loads that waited for another process"},
    [PLN_COUNT_LEASES_LOST] = {"leases_lost", "loaded values not stored: invalidated meanwhile"},
    [PLN_COUNT_FILLS_REFUSED] = {"fills_refused", "values not kept in L1: invalidated meanwhile"},
    [PLN_COUNT_L1_INSERTS] = {"l1_inserts", "entries of new keys"},
    [PLN_COUNT_L1_REPLACES] = {"l1_replaces", "entries of known keys"},
    [PLN_COUNT_L1_REMOVES] = {"l1_removes", "entries ended by delete or invalidation"},
    [PLN_COUNT_L1_EVICTIONS] = {"l1_evictions", "entries ended to stay within the budget"},
    [PLN_COUNT_L1_CROWDED] = {"l1_crowded", "entries evicted because their bucket was full"},
    [PLN_COUNT_L1_DRAINED] = {"l1_drained", "entries evicted for memory of another size"},
    [PLN_COUNT_L1_EXPIRATIONS] = {"l1_expirations", "entries past their end, or void"},
    [PLN_COUNT_L1_REFUSALS] = {"l1_refusals", "values L1 did not take"},
    [PLN_COUNT_L2_COMMANDS] = {"l2_commands", "commands sent to Redis"},
    [PLN_COUNT_L2_ERRORS] = {"l2_errors", "commands that failed"},
    [PLN_COUNT_L2_TIMEOUTS] = {"l2_timeouts", "commands that passed their deadline"},
    [PLN_COUNT_L2_CONNECTS] = {"l2_connects", "data connections made"},
    [PLN_COUNT_L2_BREAKS] = {"l2_breaks", "times a server's breaker opened"},
    [PLN_COUNT_L2_RETRIES] = {"l2_retries", "commands sent again: refused for a moment"},
    [PLN_COUNT_L2_BAD_VALUES] = {"l2_bad_values", "values in Redis that cannot be decoded"},
    [PLN_COUNT_L2_SWEPT] = {"l2_swept", "values removed behind after a prefix or pattern"},
    [PLN_COUNT_L2_PUSHES] = {"l2_pushes", "what servers said unasked, which was dropped"},
    [PLN_COUNT_REPLICA_HITS] = {"replica_hits", "values read from replicas"},
    [PLN_COUNT_REPLICA_MISSES] = {"replica_misses", "asked of a replica, then of the primary"},
    [PLN_COUNT_DATA_CALLS] = {"data_calls", "commands, and calls on data structures, by callers"},
    [PLN_COUNT_HASH_L1_HITS] = {"hash_l1_hits", "of data_calls: hashes answered fresh by L1"},
    [PLN_COUNT_BUS_RECEIVED] = {"bus_received", "messages of other instances"},
    [PLN_COUNT_BUS_OWN] = {"bus_own", "own messages, ignored"},
    [PLN_COUNT_BUS_BAD] = {"bus_bad", "damaged messages or foreign versions"},
    [PLN_COUNT_BUS_LOSSES] = {"bus_losses", "times the link was lost"},
    [PLN_COUNT_BUS_OLD] = {"bus_old", "messages that came twice, or late"},
    [PLN_COUNT_BUS_GAPS] = {"bus_gaps", "times messages were found missing on a live link"},
    [PLN_COUNT_BUS_REPLAYED] = {"bus_replayed", "messages heard from the log"},
    [PLN_COUNT_BUS_REPAIRS] = {"bus_repairs", "losses of the link after which nothing was missed"},
    [PLN_COUNT_BUS_LOST_WRITES] = {"bus_lost_writes",
                                   "times a server had lost writes that it had acknowledged"},
    [PLN_COUNT_RECOVERY_KEPT] = {"recovery_kept", "operations Redis did not take, kept for later"},
    [PLN_COUNT_RECOVERY_DONE] = {"recovery_done", "of them: carried out"},
    [PLN_COUNT_RECOVERY_DROPPED] = {"recovery_dropped",
                                    "of them: not wanted any more, since something newer happened"},
    [PLN_COUNT_RECOVERY_OVERFLOWS] = {"recovery_overflows",
                                      "times too many were kept, and became a clear of all"},
    [PLN_COUNT_LOADS_SAME] = {"loads_same", "of loads: the old value was not modified"},
    [PLN_COUNT_LOADS_UNKEPT] = {"loads_unkept", "of loads: not stored, by the rule's min_uses"},
    [PLN_COUNT_DENIED] = {"denied", "reads and sets refused: the policy denies the key"},
    [PLN_COUNT_SOFT_TIMEOUTS] = {"soft_timeouts", "served stale: the load had taken too long"},
    [PLN_COUNT_POLICY_ERRORS] = {"policy_errors", "failures of policy functions"},
    [PLN_COUNT_POLICY_ALERTS] = {"policy_alerts", "alerts of the policy that were raised"},
    [PLN_COUNT_POLICY_RELOADS] = {"policy_reloads", "times a policy took another one's place"},
    [PLN_COUNT_POLICY_RELOAD_ERRORS] = {"policy_reload_errors",
                                        "policies that were refused: the one in force stayed"},
    [PLN_COUNT_POLICY_OUT_OF_TIME] = {"policy_out_of_time", "of policy_errors: it was stopped"},
    [PLN_COUNT_POLICY_OUT_OF_MEMORY] = {"policy_out_of_memory", "of policy_errors: likewise"},
    [PLN_COUNT_POLICY_BREAKS] = {"policy_breaks",
                                 "times a policy function was turned off, as it went on failing"},
    [PLN_COUNT_POLICY_SKIPPED] = {"policy_skipped", "calls not made of functions turned off"},
    [PLN_COUNT_COMPRESSED] = {"compressed", "values compressed on their way to Redis"},
    [PLN_COUNT_COMPRESS_BYTES_IN] = {"compress_bytes_in", "of compressed: bytes before"},
    [PLN_COUNT_COMPRESS_BYTES_OUT] = {"compress_bytes_out", "of compressed: bytes after"},
    [PLN_COUNT_COMPRESS_REFUSED] = {"compress_refused",
                                    "values left as they are, since they would not be smaller"},
    [PLN_COUNT_DECOMPRESSED] = {"decompressed", "values from Redis that were compressed"},
    [PLN_COUNT_DECOMPRESS_FAILURES] =
        {"decompress_failures", "such values that are damaged, or need what is not built in"},
    [PLN_COUNT_STORES] = {"stores", "writes that a store of record took"},
    [PLN_COUNT_STORE_FAILURES] = {"store_failures", "writes it did not take, at each attempt"},
    [PLN_COUNT_STORE_BATCHES] = {"store_batches", "calls of stores"},
    [PLN_COUNT_STORE_RETRIES] = {"store_retries", "writes behind that were tried again"},
    [PLN_COUNT_STORE_DEAD] = {"store_dead", "writes behind that were given up: dead letters"},
    [PLN_COUNT_QUEUE_WAITS] = {"queue_waits", "writes that waited for room in the queue"},
    [PLN_COUNT_QUEUE_REFUSED] = {"queue_refused", "writes refused, since the queue was full"},
    [PLN_COUNT_THROUGH_CONFLICTS] =
        {"through_conflicts",
         "writes through by two at once: the value was removed, and is loaded anew"},
    [PLN_COUNT_EVENTS_RECEIVED] = {"events_received", "events from channels and streams"},
    [PLN_COUNT_EVENTS_RAISED] = {"events_raised", "of events_received: carried out"},
    [PLN_COUNT_EVENTS_FAILED] = {"events_failed", "of events_received: Redis could not be told"},
    [PLN_COUNT_EVENTS_DEAD] = {"events_dead", "of events_received: that can never be carried out"},
};

static void give_back(struct cell *cell) {
    /* S1 release: this thread's counts before the cell's next owner adds to them */
    atomic_store_explicit(&cell->is_taken, false, memory_order_release);
}

static void end_thread(struct pln_ends *ends, void *part) {
    pthread_setspecific(PLN_CONTAINER_OF(ends, struct pln_counts, ends)->key, NULL);
    give_back(part);
}

int pln_counts_new(struct pln_counts **counts) {
    struct pln_counts *created = aligned_alloc(PLN_CACHE_LINE, sizeof *created);
    if (created == NULL) {
        return pln_fail(PLN_ENOMEM, "stats: no memory for the counters");
    }
    memset(created, 0, sizeof *created);
    if (pthread_key_create(&created->key, NULL) != 0) {
        free(created);
        return pln_fail(PLN_ESYSTEM, "stats: the process has no thread-specific keys left");
    }
    if (pln_ends_open(&created->ends, end_thread) < 0) {
        pthread_key_delete(created->key);
        free(created);
        return PLN_ESYSTEM;
    }
    *counts = created;
    return PLN_OK;
}

void pln_counts_free(struct pln_counts *counts) {
    if (counts == NULL) {
        return;
    }
    pln_ends_close(&counts->ends);
    pthread_key_delete(counts->key);
    struct cell *next;
    /* relaxed: no other thread uses the counters any more */
    for (struct cell *cell = atomic_load_explicit(&counts->cells, memory_order_relaxed);
         cell != NULL; cell = next) {
        next = cell->next;
        free(cell);
    }
    free(counts);
}

void pln_counts_part(struct pln_counts *counts) {
    struct cell *cell = pthread_getspecific(counts->key);
    if (cell != NULL) {
        pln_ends_forget(&counts->ends, cell);
        end_thread(&counts->ends, cell);
    }
}

static struct cell *take_used(struct pln_counts *counts) {
    /* S2 acquire: a cell's fields after the pointer to it; pairs with link_new */
    for (struct cell *cell = atomic_load_explicit(&counts->cells, memory_order_acquire);
         cell != NULL; cell = cell->next) {
        bool is_taken = false;
        /* S1 acquire: the former owner's counts; pairs with give_back. relaxed on failure:
         * nothing of the cell is used */
        if (atomic_compare_exchange_strong_explicit(&cell->is_taken, &is_taken, true,
                                                    memory_order_acquire, memory_order_relaxed)) {
            return cell;
        }
    }
    return NULL;
}

static struct cell *link_new(struct pln_counts *counts) {
    struct cell *cell = aligned_alloc(PLN_CACHE_LINE, sizeof *cell);
    if (cell == NULL) {
        return NULL;
    }
    memset(cell, 0, sizeof *cell);
    atomic_init(&cell->is_taken, true);
    /* relaxed: the exchange below reads it again */
    cell->next = atomic_load_explicit(&counts->cells, memory_order_relaxed);
    /* S2 release: the cell's fields before the pointer; pairs with take_used. relaxed on failure:
     * only the pointer is used */
    while (!atomic_compare_exchange_weak_explicit(&counts->cells, &cell->next, cell,
                                                  memory_order_release, memory_order_relaxed)) {
    }
    return cell;
}

_Atomic uint64_t *pln_counts_cell(struct pln_counts *counts) {
    struct cell *cell = pthread_getspecific(counts->key);
    if (cell != NULL) {
        return cell->counts;
    }
    cell = take_used(counts);
    if (cell == NULL) {
        cell = link_new(counts);
    }
    if (cell == NULL) {
        return counts->spare.counts;
    }
    if (!pln_ends_note(&counts->ends, cell)) {
        give_back(cell);
        return counts->spare.counts;
    }
    if (pthread_setspecific(counts->key, cell) != 0) {
        pln_ends_forget(&counts->ends, cell);
        give_back(cell);
        return counts->spare.counts;
    }
    return cell->counts;
}

void pln_counts_sum(struct pln_counts *counts, uint64_t *totals) {
    for (size_t i = 0; i < PLN_N_COUNTS; i++) {
        /* relaxed: counts have no order among each other */
        totals[i] = atomic_load_explicit(&counts->spare.counts[i], memory_order_relaxed);
    }
    /* S2 acquire: as in take_used; pairs with link_new */
    for (struct cell *cell = atomic_load_explicit(&counts->cells, memory_order_acquire);
         cell != NULL; cell = cell->next) {
        for (size_t i = 0; i < PLN_N_COUNTS; i++) {
            /* relaxed: as above */
            totals[i] += atomic_load_explicit(&cell->counts[i], memory_order_relaxed);
        }
    }
}

const char *pln_count_name(enum pln_count which) {
    return counts_table[which].name;
}

const char *pln_count_help(enum pln_count which) {
    return counts_table[which].help;
}
