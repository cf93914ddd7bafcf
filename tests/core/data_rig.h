/* SPDX-License-Identifier: MIT
 *
 * data_rig.h - what the tests of commands and data structures stand on: a redis-server, two caches
 * of one namespace over it, and commands given as text.
 */
#ifndef PLN_TEST_DATA_RIG_H
#define PLN_TEST_DATA_RIG_H

#include "rig.h"
#include "../l2/server.h"

enum { DATA_WORDS = 16 };

extern struct server server;
extern struct pln_cache *a, *b; /* with the system's clock */

/* A fixture: starts the server and opens both; closes and stops them. */
void data_setup(void);
void data_teardown(void);
/* One more cache; closed by its test. */
struct pln_cache *data_open(pln_ms ping_ms);

/* Parts a text at its blanks; the words lie in `copy`. */
size_t data_words(const char *text, char *copy, struct pln_bytes *words);
/* A call on a structure, "HSET field value"; and one that answers with a number. */
int data_call(struct pln_cache *cache, const char *name, const char *text, pln_ms ttl,
              struct pln_answer **answer);
void data_expect(struct pln_cache *cache, const char *name, const char *text, pln_ms ttl,
                 int64_t wanted);
/* Gives a cache a rule by which hashes "cart:{id}" are kept in L1. */
void data_keep_hashes(struct pln_cache *cache);

#endif
