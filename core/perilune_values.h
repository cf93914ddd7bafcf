/* SPDX-License-Identifier: MIT
 *
 * perilune_values.h - in what form values lie in Redis: codec, compression, plain bytes; a part of
 * perilune.h, which includes it.
 */
#ifndef PERILUNE_VALUES_H
#define PERILUNE_VALUES_H

#include "perilune.h"

#ifdef __cplusplus
extern "C" {
#endif

/* ---- codecs ---- */

/* The `format` of values that Lua has stored: a C program that shares keys with Lua reads and
 * writes by it; for others any number is the program's own. */
enum pln_codec {
    PLN_CODEC_RAW = 0,     /* a string, as it is */
    PLN_CODEC_MSGPACK = 1, /* a number, boolean or table, as MessagePack */
    PLN_CODEC_JSON = 2,    /* the same, as JSON */
};

/* In which form the rule of a key wants what is no string: PLN_CODEC_MSGPACK or PLN_CODEC_JSON.
 * *is_plain (may be NULL): the rule is plain, so Redis has the value's bytes and nothing besides.
 * Threads: any. */
PLN_API int pln_codec_of(struct pln_cache *cache, struct pln_bytes key, bool *is_plain);

/* "msgpack", "json"; NULL for others. */
PLN_API const char *pln_codec_name(int codec);

/* ---- compression ---- */

/* Values of at least so many bytes as the key's rule says (`compress`) are compressed on their way
 * to Redis, where that makes them smaller; L1 holds them as they are. */
enum pln_compression {
    PLN_COMPRESSION_DEFAULT = 0, /* lz4, where this build has it */
    PLN_COMPRESSION_LZ4 = 1,
    PLN_COMPRESSION_ZSTD = 2,
};

/* "lz4", "zstd"; NULL for others. */
PLN_API const char *pln_compression_name(int compression);
/* Whether this build has it. One that has not cannot read what another has compressed so: its gets
 * load the value anew, or fail with PLN_ECODEC. */
PLN_API bool pln_has_compression(int compression);

#ifdef __cplusplus
}
#endif

#endif
