/* SPDX-License-Identifier: MIT
 *
 * recover_rig.h - two caches over a server in memory, of which the first is cut off from it.
 */
#ifndef PLN_TEST_RECOVER_RIG_H
#define PLN_TEST_RECOVER_RIG_H

#include "rig.h"

enum { LONG = 1000 }; /* ms: far beyond what clocks may differ by */

extern struct rig rig;
extern struct pln_terms terms;

#define A rig.caches[0]
#define B rig.caches[1]

void recover_setup(void);
void recover_teardown(void);
/* The same with other bounds; 0: as ever. */
void recover_reopen(size_t recovery, size_t max_bytes);
/* A's commands fail, or run again; its link stays, so that it hears all. */
void cut(bool is_cut);
/* Sets with a tag, or without one. */
int set(struct pln_cache *cache, const char *key, const char *value, const char *tag);
void fail_set(const char *key, const char *value);
void fail_delete(const char *key);
/* Until nothing waits; the worker would do it by itself, and may. */
void await_done(struct pln_cache *cache);
void heal(void);

#endif
