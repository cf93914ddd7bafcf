/* SPDX-License-Identifier: MIT
 *
 * perilune_async.h - reading and writing without waiting; a part of perilune.h, which includes it.
 *
 * What is begun is an op. It is looked at until it is ready, and in between its owner does
 * something else, or waits for the one descriptor of its news, in poll() or an event loop:
 *
 *     struct pln_news *news;
 *     struct pln_result result;
 *     struct pln_op *op;
 *     pln_news_new(cache, &news);
 *     int status = pln_begin_get(news, pln_key("user:7"), NULL, 0, &result, &op);
 *     if (status == PLN_PENDING) {
 *         while (pln_op_look(op) != PLN_OP_READY) {
 *             struct pollfd polled = { .fd = pln_news_fd(news), .events = POLLIN };
 *             pln_ms left = pln_op_timeout(op);
 *             poll(&polled, 1, left == PLN_FOREVER ? -1 : (int) left);
 *         }
 *         status = pln_op_result(op, &result);
 *         pln_op_free(op);
 *     }
 *
 * Reads do what pln_get() does: one flight for all who want a key, threads and ops alike; stale
 * values, negative ones, refreshes, soft timeouts and limits as the key's rule says.
 *
 * Threads: news, and the ops begun with them, belong to one thread at a time. Where a cache has no
 * threads of its own (see pln_step()), what an op has to do is done in pln_op_look(), which then
 * waits; a call is carried out when it is begun.
 */
#ifndef PERILUNE_ASYNC_H
#define PERILUNE_ASYNC_H

#include "perilune.h"

#ifdef __cplusplus
extern "C" {
#endif

struct pln_news; /* opaque: what a program's ops have to tell */
struct pln_op;   /* opaque */

/* ---- news ---- */

/* Makes news of a cache. They may be many; each has its own descriptor.
 * Returns: PLN_OK, PLN_ENOMEM. Owns: the caller frees them, before the cache is closed. */
PLN_API int pln_news_new(struct pln_cache *cache, struct pln_news **news);

/* Ends all of their ops, which then answer PLN_ECLOSED and are the caller's to free yet, and closes
 * the descriptor. Loads of the policy's and calls go on. NULL is allowed. */
PLN_API void pln_news_free(struct pln_news *news);

/* Whether this process was forked from the one that made them: all that is left to do is to free
 * them, and make others. */
PLN_API bool pln_news_are_lost(const struct pln_news *news);

/* The descriptor: readable as long as there is an op with news that its owner has not seen, by
 * pln_op_look(). An eventfd, made when first asked for; it is not to be read, written or closed.
 * Returns: the descriptor; PLN_ESYSTEM where the system has none left: then ops are to be looked at
 * now and then; PLN_ECLOSED in a forked child, where news are to be made anew. */
PLN_API int pln_news_fd(struct pln_news *news);

/* ---- beginning ---- */

enum pln_begin_flags {
    PLN_BEGIN_LOADS = 1,       /* the caller has a loader, and runs it when the op wants that */
    PLN_BEGIN_LOADS_NAMED = 2, /* likewise of loaders that rules call for by name */
};

/* As pln_get(), or pln_get_or_load() where flags has PLN_BEGIN_LOADS. In options, load_by_name is
 * not looked at.
 * Returns: as these where it is answered at once, as by an L1 hit: then *op is NULL, and no system
 * was called. PLN_PENDING: *op is the caller's, for pln_op_free(). */
PLN_API int pln_begin_get(struct pln_news *news, struct pln_bytes key,
                          const struct pln_get_options *options, uint32_t flags,
                          struct pln_result *result, struct pln_op **op);

/* As pln_get_many(): L1 is looked at now; all that it lacks is asked for in one round trip, by a
 * worker. Returns: PLN_OK with *op set, which may be ready; negative where there is none. */
PLN_API int pln_begin_get_many(struct pln_news *news, const struct pln_bytes *keys, size_t n,
                               const struct pln_get_options *options, struct pln_op **op);

/* Has `run` called by a worker: to write, say. What it returns is the op's status, with the text of
 * its failure. `end` (may be NULL) frees `arg`, after it, or where this fails. Neither is left out
 * where the op is freed before. Calls that are under way at once may be carried out in any order.
 * Returns: PLN_OK with *op set; PLN_ENOMEM, PLN_EBUSY (too many wait), PLN_ECLOSED. */
PLN_API int pln_begin_call(struct pln_news *news, int (*run)(struct pln_cache *cache, void *arg),
                           void (*end)(void *arg), void *arg, struct pln_op **op);

struct pln_lock;
struct pln_lock_options;

/* As pln_lock(). While others have the lock and options->wait_ms is not over, no worker is busy
 * with it: pln_op_timeout() says when the op wants to be looked at for the next try. Returns:
 * PLN_OK with *op set; as pln_begin_call(); PLN_EINVAL. Owns: what was granted and not taken by
 * pln_op_lock() is given back when the op is freed, by a worker. */
PLN_API int pln_begin_lock(struct pln_news *news, struct pln_bytes name,
                           const struct pln_lock_options *options, struct pln_op **op);

/* ---- ops ---- */

enum pln_op_state {
    PLN_OP_UNDER_WAY,
    PLN_OP_WANTS_LOAD, /* the caller's loader is to run: pln_op_load_begin() */
    PLN_OP_READY,
};

/* Sees what is new. */
PLN_API enum pln_op_state pln_op_look(struct pln_op *op);

/* How long from now it need not be looked at unless the descriptor is readable, in ms, rounded up;
 * 0: at once; PLN_FOREVER: there is no need. */
PLN_API pln_ms pln_op_timeout(struct pln_op *op);

/* Of one that wants a load: the name of the loader that the rule calls for; NULL: the call's own.
 * It is valid until the load has ended. */
PLN_API const char *pln_op_loader(const struct pln_op *op);

/* Takes the load on: what it returns is to be filled as by a loader, in the owner's own time. All
 * others who want the key wait for it meanwhile, in any thread and process, but for no longer than
 * the load timeout. NULL: the op wants no load. Owns: valid until pln_op_load_end(), or until op or
 * news are freed. */
PLN_API struct pln_load *pln_op_load_begin(struct pln_op *op);
/* The load that was taken on; NULL: there is none, or no more. */
PLN_API struct pln_load *pln_op_load(struct pln_op *op);

/* Hands over what was loaded, with the status that a loader returns; a negative one with its text
 * in pln_error_text(). It is stored by a worker: unless it was made void meanwhile. */
PLN_API void pln_op_load_end(struct pln_op *op, int status);

/* How a get or a call ended. Returns: as pln_get(), or what the call returned; PLN_PENDING while it
 * is not ready; PLN_ECLOSED after its news were freed, or in a forked child. Owns: result->value
 * (not of a call) is the caller's, once. */
PLN_API int pln_op_result(struct pln_op *op, struct pln_result *result);

/* How a get_many ended: n results and statuses, which are the op's. Returns: PLN_OK; PLN_PENDING,
 * PLN_ECLOSED likewise. Owns: the values are the caller's; to be called once. */
PLN_API int pln_op_results(struct pln_op *op, size_t *n, struct pln_result **results,
                           int **statuses);

/* How pln_begin_lock() ended, of an op that is ready. Returns: as pln_lock(); PLN_ECLOSED;
 * PLN_EINVAL: the op is not ready, or of something else. Owns: *lock is the caller's, once. */
PLN_API int pln_op_lock(struct pln_op *op, pln_ms *held_ms, struct pln_lock **lock);

/* Ends an op, whatever it is at. A load that it has taken on is left to others, at once; what
 * workers do goes on without it. NULL is allowed. */
PLN_API void pln_op_free(struct pln_op *op);

#ifdef __cplusplus
}
#endif

#endif
