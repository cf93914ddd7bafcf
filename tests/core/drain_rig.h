/* SPDX-License-Identifier: MIT
 *
 * drain_rig.h - two caches over a server in memory that write behind, to one store.
 */
#ifndef PLN_TEST_DRAIN_RIG_H
#define PLN_TEST_DRAIN_RIG_H

#include "store_rig.h"

extern struct rig rig;
extern struct db db;
extern struct pln_write_options writing; /* of keys without a rule */

#define A rig.caches[0]
#define B rig.caches[1]

void drain_setup(void);
void drain_teardown(void);
/* The same with other ways of writing, or another number of caches. */
void drain_reopen(size_t n);

void flush(struct pln_cache *cache);
uint64_t depth(struct pln_cache *cache);
/* The store waits in its next call, or in one that is under way. */
void hold_store(void);
void let_store_go(void);
/* Until the store has been called so often. */
void await_call(unsigned n);

/* One cache that closes with a write that would wait for others stores it. */
void expect_close_stores(void);

/* A rule with the rig's loader, where hooks say so, over a store by name: "db". */
struct pln_rule behind_rule(const char *pattern, uint32_t hooks);
void register_db(struct pln_cache *cache);

#endif
