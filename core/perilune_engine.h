/* SPDX-License-Identifier: MIT
 *
 * perilune_engine.h - engines that all of a process shares by name, and who does their work; a part
 * of perilune.h, which includes it.
 *
 * A cache sleeps until it is needed: pln_open() starts no thread and connects nowhere. The first
 * read past L1, the first write, whoever asks for statistics, wakes it. After fork() a child's
 * caches sleep again, and wake with threads and connections of the child's own, whatever the parent
 * had under way; what L1 holds counts there as after a lost link. The parent's go on undisturbed,
 * and not a byte is said on their connections.
 *
 * Where the system starts no threads, calls do the engine's work: see pln_step().
 */
#ifndef PLN_PERILUNE_ENGINE_H
#define PLN_PERILUNE_ENGINE_H

#include "perilune.h"

#ifdef __cplusplus
extern "C" {
#endif

/* ---- engines by name ---- */

struct pln_engine_options {
    /* Called once for an engine that was not there before, and before anybody else gets it: to load
     * its policy, say. What it fails with pln_open_named() returns, and the engine is gone. */
    int (*prepare)(void *arg, struct pln_cache *cache);
    void *arg;
    const char *settings; /* what that depends on, in words: as an option, to be the same in all */
    bool stays;           /* also when nobody has it open, until pln_shutdown() */
};

/* Finds the open cache of this process that has the name in `options`, or opens it; each is to be
 * closed by pln_close(), and the last one closes the cache. `engine` may be NULL. Of several
 * threads that want a new one at once one opens it, and the others wait for that.
 * Returns: PLN_OK; as pln_open(), or `prepare`; PLN_EINVAL where an option that is given differs
 * from the running cache's, with its name and both values (not of a password): what is left out is
 * as it is there. PLN_EBUSY from within `prepare` of the same name. Threads: any, may block. */
PLN_API int pln_open_named(const struct pln_options *options,
                           const struct pln_engine_options *engine, struct pln_cache **cache);

/* Closes an engine that stays: now, or when the last user closes it.
 * Returns: PLN_OK; PLN_PENDING where it is still in use; PLN_MISS where there is none of the name.
 * Threads: any, may block as pln_close(). */
PLN_API int pln_shutdown(const char *name);

/* ---- who does the work ---- */

/* "threads"; or "caller" where the system starts none. Wakes the cache. */
PLN_API const char *pln_mode(struct pln_cache *cache);

/* In the mode "caller": loads that run behind, retries, and what else is done now and then, for up
 * to max_ms (0: one piece), and for as long as the last piece takes. In the other mode nothing.
 * Loads that somebody waits for run in his thread, and a call that had to leave L1 does a piece at
 * its end, so that all goes on without this, if later. Not to be had without threads: the link (L1
 * serves nothing for longer than max_staleness after it was loaded), servers that have to be looked
 * for (Sentinel, a cluster), replicas, warming, channels and streams of events, and files of a
 * policy that are watched. Threads are tried again once a second.
 * Returns: ms until it is of use again; 0: more waits; PLN_FOREVER: threads do it.
 * Threads: any, several at once; may block as a load. */
PLN_API pln_ms pln_step(struct pln_cache *cache, pln_ms max_ms);

#ifdef __cplusplus
}
#endif

#endif
