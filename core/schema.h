/* SPDX-License-Identifier: MIT
 *
 * schema.h - private to core: the form that a cache's keys must have, where the option key_schema
 * says one.
 */
#ifndef PLN_SCHEMA_H
#define PLN_SCHEMA_H

#include "engine.h"

struct pln_schema; /* opaque; NULL: any key will do */

/* Reads a schema; text NULL: none. Returns: PLN_OK; PLN_EINVAL (what is wrong with it), PLN_ENOMEM.
 */
int pln_schema_new(const char *text, struct pln_schema **schema);
void pln_schema_free(struct pln_schema *schema);
/* PLN_OK; PLN_EINVAL with a text that names the part which does not fit. */
int pln_schema_check(const struct pln_schema *schema, struct pln_bytes key);
/* As pln_cache_key(), with that check. Not for a look at L1: what does not fit cannot have been
 * stored. */
int pln_schema_key(const struct pln_cache *cache, struct pln_bytes key, struct pln_hashed *hashed);

#endif
