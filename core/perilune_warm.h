/* SPDX-License-Identifier: MIT
 *
 * perilune_warm.h - loading ahead what will be asked for; a part of perilune.h, which includes it.
 */
#ifndef PERILUNE_WARM_H
#define PERILUNE_WARM_H

#include "perilune.h"

#ifdef __cplusplus
extern "C" {
#endif

/* ---- warming ---- */

struct pln_warm_report {
    size_t wanted; /* keys, each once */
    size_t loaded; /* by the policy's loaders, now and here */
    size_t
        present;   /* were in L1 or L2, also as "does not exist", or another instance loaded them */
    size_t failed; /* did not load, or have no loader and are nowhere */
    pln_ms took_ms;
    bool deadline_passed; /* with keys left */
    bool is_ready;        /* the share that ready_at asks for is loaded or present */
    bool is_following;    /* another instance loads; this one takes from L2 what that has done */
    char error[160];      /* why the first key failed, or all; "" where none did */
};

/* Called some ten times a second while keys are read, in the thread that warms; false stops it,
 * after the keys that are under way. */
typedef bool (*pln_warm_progress)(void *arg, const struct pln_warm_report *report);

/* How the keys of one source fared; called for each source at the end, in the order in which they
 * were read. `source` is such as "file hot.txt"; it lives as long as the call. */
typedef void (*pln_warm_visit)(void *arg, const char *source, const struct pln_warm_report *row);

enum pln_warm_flags {
    PLN_WARM_L2_ONLY = 1, /* what L2 has is not fetched, and a value that L2 did not take has
                             failed; keys whose rule keeps them out of L2 are left out */
    PLN_WARM_ALONE = 2,   /* do not leave the loading to another instance that is at it */
    PLN_WARM_NOTIFY = 4,  /* tell systemd how far it is, and READY=1: see pln_notify() */
};

struct pln_warm_options {
    uint32_t flags;               /* enum pln_warm_flags */
    const struct pln_bytes *keys; /* these keys and those in the file, in the place of what the */
    size_t n_keys;              /* policy names; of pln_warm_start() they stay where they are until
                                   it has ended */
    const char *file;           /* one key a line, likewise */
    size_t top;                 /* at most so many keys, the first of all; default: all */
    unsigned concurrency;       /* keys loaded at once, 1 to 256; default: the policy's */
    double rate;                /* loads per second; default: the policy's */
    pln_ms deadline_ms;         /* beside the policy's: the earlier one holds */
    double ready_at;            /* share of the keys; default: the policy's */
    pln_warm_progress progress; /* NULL is allowed, likewise below */
    pln_warm_visit row;
    void *arg;
};

/* Reads the keys that the policy's cache.warm names through the tiers, and loads what no tier has,
 * as it says (concurrency, rate, deadline). What is there already is read in bulk, so that a second
 * run goes on where the first one stopped. Of several instances over one Redis that warm the same
 * lists at once, one loads at a time; when it ends, or dies, another goes on with what is left.
 * NULL options: all defaults.
 * Returns: PLN_OK, also where some keys failed: see the report (NULL is allowed); PLN_EBUSY where
 * this cache is being warmed already; PLN_EINVAL; PLN_ESYSTEM, PLN_EL2DOWN, PLN_EPOLICY where keys
 * could not be listed. Threads: any; waits until done. */
PLN_API int pln_warm(struct pln_cache *cache, const struct pln_warm_options *options,
                     struct pln_warm_report *report);

/* The same in a thread of the cache's own, which `progress` and `row` are called in; pln_close()
 * stops it. Returns at once: PLN_OK, PLN_EBUSY, PLN_EINVAL, PLN_ESYSTEM; what fails later is
 * logged, and told by pln_ready() as the report's error. */
PLN_API int pln_warm_start(struct pln_cache *cache, const struct pln_warm_options *options);

/* True where the cache is as warm as it is to be: a warming has reached its ready_at, also one that
 * still runs; or the policy has no cache.warm. Once true, it stays so. `report` (NULL is allowed)
 * is that of the present warming, or of the last one; all zero before. Threads: any, never waits.
 */
PLN_API bool pln_ready(struct pln_cache *cache, struct pln_warm_report *report);

/* Sends a message to the service manager, as sd_notify(3) does: "READY=1", "STATUS=loading".
 * Returns: PLN_OK; PLN_MISS where NOTIFY_SOCKET is not set, and nobody wants to know; PLN_ESYSTEM.
 * Threads: any. */
PLN_API int pln_notify(const char *message);

#ifdef __cplusplus
}
#endif

#endif
