/* SPDX-License-Identifier: MIT
 *
 * store.h - private to core: the doors of the rooms through which a write gets to the store of
 * record: store.c (calls the store), through.c (now), queued.c (later), drain.c (that is later),
 * letters.c (never).
 */
#ifndef PLN_STORE_H
#define PLN_STORE_H

#include "write.h"

/* ---- store.c ---- */

/* How the keys of a rule, or with NULL those without one, are written: every field has its value.
 */
const struct pln_write_options *pln_store_terms(const struct pln_cache *cache,
                                                const struct pln_rule *rule);
/* Whether the keys of a rule (NULL: those without one) have a store in this process now. */
bool pln_store_is_there(struct pln_cache *cache, const struct pln_rule *rule);
/* How often that may have changed for a rule that stays as it is. */
uint64_t pln_store_changes(struct pln_cache *cache);
/* Calls the store of a rule (NULL: that of the options) on items whose status is PLN_OK: a function
 * of the program's in this thread, one of the policy's on a worker, for which this thread waits.
 * Afterwards each item has its status, and an error where that is negative.
 * Returns: PLN_OK where all are stored; else the first failure, with its text: PLN_ESTORE,
 * PLN_EINVAL (never to be tried again), PLN_ETIMEOUT (unknown whether it is stored). */
int pln_store_run(struct pln_cache *cache, const struct pln_ruleset *ruleset,
                  const struct pln_rule *rule, struct pln_store_item *items, size_t n);

/* A rule's own word, or the options', with every default; what `given` lacks is refused with
 * PLN_EINVAL. */
int pln_writing_resolve(const struct pln_write_options *given, struct pln_write_options *writing);
/* The same for a rule that is put in force. */
void pln_writing_settle(struct pln_cache *cache, struct pln_rule *rule);
/* Which way the keys of a rule are written, an enum pln_write_strategy; PLN_EINVAL where that
 * cannot be. `verb` is what the program does. */
int pln_store_strategy(struct pln_cache *cache, const struct pln_rule *rule, const char *verb);
/* Whether any key is written but aside. Threads: any. */
bool pln_store_may_be(struct pln_cache *cache);

/* ---- drop.c ---- */

/* As pln_delete() and pln_delete_many() of keys that are written aside, for what is void since its
 * source has changed: nothing is stored. They count nothing. */
int pln_cache_forget(struct pln_cache *cache, struct pln_bytes key);
int pln_cache_forget_many(struct pln_cache *cache, const struct pln_bytes *keys, size_t n);

/* Whether the client, if there is one, can have a queue. Returns: PLN_OK; PLN_EINVAL. */
int pln_store_check_client(struct pln_cache *cache);

/* ---- through.c: the store first; `write` has been shaped and checked ---- */

int pln_through_set(struct write *write);
/* Of around: the same, and then the key is removed. */
int pln_around_set(struct write *write);
/* Keys of any rules, those that write through or around (each by its own); one call of each rule's
 * store. */
int pln_through_delete(struct pln_cache *cache, const struct pln_bytes *keys, size_t n);
/* The end of such a key for all, which is in L2: for who writes it at once to see. Returns: as
 * pln_recovery_end(). */
int pln_through_forget(struct pln_cache *cache, const struct pln_hashed *key);

/* ---- queued.c: Redis first ---- */

/* As set, delete and a swap do in L2, with a place in the queue; waits, writes through or refuses
 * where that is full. L1 is the caller's matter, and the stamp is from before; but what was written
 * through (*is_through) has come to L1. */
int pln_queued_set(struct write *write, struct pln_stamp *stamp, const struct pln_l2_item *shared,
                   bool *is_through);
int pln_queued_delete(struct pln_cache *cache, const struct pln_hashed *key,
                      const struct pln_match *match);
int pln_queued_swap(struct pln_cache *cache, const struct pln_hashed *key,
                    const struct pln_match *match, const struct pln_l2_swap *swap,
                    struct pln_bytes value, pln_ns deadline, struct pln_l2_value *now);
/* What a load of such a key has to look at before it asks the store's loader: the write that waits.
 * Returns: PLN_OK (`load` is filled), PLN_ABSENT (a removal waits), PLN_MISS. */
int pln_queued_find(struct pln_cache *cache, const struct pln_hashed *key, struct pln_load *load);
/* Whether keys of these terms are put into it. */
bool pln_queued_is_used(const struct pln_cache *cache, const struct pln_terms *terms);
/* Before a key is written through: a write of it that waits, since its rule wrote behind until a
 * moment ago, must not be stored behind this one. Waits until none does. Returns: PLN_OK; PLN_EBUSY
 * at the deadline. */
int pln_queued_yield(struct pln_cache *cache, const struct pln_hashed *key, pln_ns deadline);

/* ---- drain.c: takes from the queue and stores, in a thread of its own or in step() ---- */

struct pln_drain;

int pln_drain_new(struct pln_cache *cache, struct pln_drain **drain);
/* Stores what waits for as long as close allows, gives the lead back, and waits for the thread's
 * end; false where a store does not return in time. The other waits as long as it takes. */
bool pln_drain_stop(struct pln_drain *drain);
void pln_drain_finish(struct pln_drain *drain);
void pln_drain_free(struct pln_drain *drain);
/* A policy was put in force, or the cache has woken: begins where a rule writes behind. */
void pln_drain_follow(struct pln_drain *drain);
/* This instance has put something into the queue. */
void pln_drain_tell(struct pln_drain *drain);
/* A turn in the caller's thread, where there are no threads. Returns when the next is due. */
pln_ns pln_drain_step(struct pln_drain *drain);
/* Once a second: looks how long the queue is, for those who ask, where this process writes into it.
 */
void pln_drain_look(struct pln_drain *drain);
void pln_drain_freeze(struct pln_drain *drain);
void pln_drain_thaw(struct pln_drain *drain, bool is_child);

#endif
