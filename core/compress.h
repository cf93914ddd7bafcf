/* SPDX-License-Identifier: MIT
 *
 * compress.h - private to core: values are compressed on their way to L2, and brought back on
 * their way from there. Whoever takes a value from L2 opens it before anything looks at its bytes.
 */
#ifndef PLN_COMPRESS_H
#define PLN_COMPRESS_H

#include "engine.h"

/* Compresses an item's value in the place of the value it has, where the terms say so and it gets
 * smaller. Owns: *memory is for free() once the item is not used any more; NULL: nothing. Where
 * memory is out the item stays as it is. Threads: any. */
void pln_compress_item(struct pln_cache *cache, const struct pln_terms *terms,
                       struct pln_l2_item *item, void **memory);

/* Brings a value back in its place, if it is compressed; one of a plain rule is given its format,
 * and lives no longer than the rule says. Returns: PLN_OK; else the value is gone: PLN_MISS
 * (damaged, and counted), PLN_ECODEC (by what this build lacks), PLN_ENOMEM. Threads: any. */
int pln_compress_open(struct pln_cache *cache, const struct pln_terms *terms,
                      struct pln_l2_value *value);

/* The two without a cache. Pack returns false where the bytes do not get smaller by a sixteenth, or
 * memory is out. Unpack returns as above; *raw is for free(). */
bool pln_compress_pack(int method, struct pln_bytes raw, struct pln_bytes *packed);
int pln_compress_unpack(int method, struct pln_bytes packed, struct pln_bytes *raw);

#endif
