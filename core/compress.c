/* SPDX-License-Identifier: MIT
 *
 * compress.c - values in fewer bytes, by lz4 or zstd, on their way to L2 and back.
 *
 *     0  length of the value, 32 bits, big endian
 *     4  what the library makes of it: a block of lz4, a frame of zstd
 *
 * Only L2 holds it so: there bytes cross a network and are kept by a server that many use. In L1 a
 * value of 4 KiB is read in some 150 ns, and to bring it back would take seven or seventy times as
 * long. Measured (AMD EPYC, Debian's lz4 1.9.4 and zstd 1.5.4), on records as JSON, what is left,
 * microseconds to pack and to unpack:
 *
 *              lz4                 zstd, level 1        level 5
 *     1 KiB    39 %   1.2   0.6    28 %  11.6   9.6     28 %   14    10
 *     4 KiB    30 %   2.5   1.0    17 %  15    11       17 %   23    11
 *     64 KiB   26 %  31     9      14 %  73    31       15 %  253    33
 *
 * What lies in Redis may have been put there by anybody. The length is not believed beyond what a
 * value can have, nor beyond what the library can make of so many bytes; the libraries' own bounded
 * decoders do the rest, and what does not come out exactly as long as was said is no value.
 */
#include "compress.h"

#include <limits.h>

#ifdef PLN_HAVE_LZ4
#include <lz4.h>
#endif
#ifdef PLN_HAVE_ZSTD
#include <zstd.h>
#endif

enum {
    HEAD = 4,
    MOST_BYTES = 511 << 20, /* as in L2, of which this is the largest value */
    LEAST_GAIN = 16,        /* a part of so many, or it is not worth a second look at each read */
    ZSTD_LEVEL = 1,         /* higher ones make no less of values as short as these: see above */
};

/* ---- the libraries ---- */

/* Each packs into at most `size` bytes, and returns how many; 0: it needs more. Each unpacks to
 * exactly `size` bytes, or returns false. */
struct method {
    size_t (*pack)(struct pln_bytes raw, void *to, size_t size);
    bool (*is_believable)(struct pln_bytes packed, size_t size);
    bool (*unpack)(struct pln_bytes packed, void *to, size_t size);
};

#ifdef PLN_HAVE_LZ4
static size_t pack_lz4(struct pln_bytes raw, void *to, size_t size) {
    int n = LZ4_compress_default(raw.data, to, (int) raw.len, (int) size);
    return n > 0 ? (size_t) n : 0;
}

/* A byte of a block stands for at most 255. */
static bool is_believable_lz4(struct pln_bytes packed, size_t size) {
    return packed.len > 0 && size / 255 <= packed.len;
}

static bool unpack_lz4(struct pln_bytes packed, void *to, size_t size) {
    return LZ4_decompress_safe(packed.data, to, (int) packed.len, (int) size) == (int) size;
}
#endif

#ifdef PLN_HAVE_ZSTD
static size_t pack_zstd(struct pln_bytes raw, void *to, size_t size) {
    size_t n = ZSTD_compress(to, size, raw.data, raw.len, ZSTD_LEVEL);
    return ZSTD_isError(n) ? 0 : n;
}

/* The frame has the length, too. */
static bool is_believable_zstd(struct pln_bytes packed, size_t size) {
    return ZSTD_getFrameContentSize(packed.data, packed.len) == size;
}

static bool unpack_zstd(struct pln_bytes packed, void *to, size_t size) {
    return ZSTD_decompress(to, size, packed.data, packed.len) == size;
}
#endif

static const struct method methods[] = {
    [PLN_COMPRESSION_DEFAULT] = {.pack = NULL},
#ifdef PLN_HAVE_LZ4
    [PLN_COMPRESSION_LZ4] = {pack_lz4, is_believable_lz4, unpack_lz4},
#endif
#ifdef PLN_HAVE_ZSTD
    [PLN_COMPRESSION_ZSTD] = {pack_zstd, is_believable_zstd, unpack_zstd},
#endif
};

static int resolve(int method) {
    if (method != PLN_COMPRESSION_DEFAULT) {
        return method;
    }
    return pln_has_compression(PLN_COMPRESSION_LZ4) ? PLN_COMPRESSION_LZ4 : PLN_COMPRESSION_ZSTD;
}

/* ---- bytes ---- */

static void put_length(uint8_t *at, size_t length) {
    for (int i = HEAD; i-- > 0; length >>= 8) {
        at[i] = (uint8_t) length;
    }
}

static size_t take_length(const uint8_t *at) {
    size_t length = 0;
    for (int i = 0; i < HEAD; i++) {
        length = length << 8 | at[i];
    }
    return length;
}

bool pln_compress_pack(int method, struct pln_bytes raw, struct pln_bytes *packed) {
    size_t gain = raw.len / LEAST_GAIN;
    if (!pln_has_compression(method) || gain <= HEAD || raw.len > MOST_BYTES) {
        return false;
    }
    size_t size = raw.len - gain - HEAD;
    uint8_t *memory = malloc(HEAD + size);
    size_t n = memory == NULL ? 0 : methods[method].pack(raw, memory + HEAD, size);
    if (n == 0) {
        free(memory);
        return false;
    }
    put_length(memory, raw.len);
    *packed = pln_bytes_of(memory, HEAD + n);
    return true;
}

int pln_compress_unpack(int method, struct pln_bytes packed, struct pln_bytes *raw) {
    const char *name = pln_compression_name(method);
    if (name == NULL || packed.len < HEAD || packed.len > MOST_BYTES) {
        return PLN_MISS;
    }
    if (!pln_has_compression(method)) {
        return pln_fail(PLN_ECODEC, "the value is compressed by %s, which this build lacks", name);
    }
    struct pln_bytes rest = {(const uint8_t *) packed.data + HEAD, packed.len - HEAD};
    size_t size = take_length(packed.data);
    if (size == 0 || size > MOST_BYTES || !methods[method].is_believable(rest, size)) {
        return PLN_MISS;
    }
    void *memory = malloc(size);
    if (memory == NULL) {
        return pln_fail(PLN_ENOMEM, "no memory to decompress a value of %zu bytes", size);
    }
    if (!methods[method].unpack(rest, memory, size)) {
        free(memory);
        return PLN_MISS;
    }
    *raw = pln_bytes_of(memory, size);
    return PLN_OK;
}

/* ---- values ---- */

void pln_compress_item(struct pln_cache *cache, const struct pln_terms *terms,
                       struct pln_l2_item *item, void **memory) {
    struct pln_bytes packed;
    *memory = NULL;
    if (terms->compress_bytes == 0 || item->value.len < terms->compress_bytes || item->is_absent ||
        terms->is_plain) {
        return;
    }
    int method = resolve(terms->compression);
    if (!pln_compress_pack(method, item->value, &packed)) {
        pln_count(cache->counts, PLN_COUNT_COMPRESS_REFUSED, 1);
        return;
    }
    pln_count(cache->counts, PLN_COUNT_COMPRESSED, 1);
    pln_count(cache->counts, PLN_COUNT_COMPRESS_BYTES_IN, item->value.len);
    pln_count(cache->counts, PLN_COUNT_COMPRESS_BYTES_OUT, packed.len);
    item->value = packed;
    item->packing = (uint8_t) method;
    *memory = (void *) (uintptr_t) packed.data;
}

/* Who wrote it may not have said how long it lives, and never in which format it is. */
static void shape_plain(const struct pln_terms *terms, struct pln_l2_item *item) {
    item->format = terms->codec == PLN_CODEC_JSON ? PLN_CODEC_JSON : PLN_CODEC_RAW;
    item->fresh_left = item->fresh_left < terms->ttl_ms ? item->fresh_left : terms->ttl_ms;
    item->life_left = item->fresh_left;
}

int pln_compress_open(struct pln_cache *cache, const struct pln_terms *terms,
                      struct pln_l2_value *value) {
    struct pln_l2_item *item = &value->item;
    struct pln_bytes raw;
    if (terms->is_plain) {
        shape_plain(terms, item);
    }
    if (item->packing == 0) {
        return PLN_OK;
    }
    int status = pln_compress_unpack(item->packing, item->value, &raw);
    if (status != PLN_OK) {
        pln_count(cache->counts, PLN_COUNT_DECOMPRESS_FAILURES, 1);
        pln_l2_value_fini(value);
        return status;
    }
    pln_count(cache->counts, PLN_COUNT_DECOMPRESSED, 1);
    item->packing = 0;
    item->value = raw;
    assert(value->raw == NULL);
    value->raw = (void *) (uintptr_t) raw.data;
    return PLN_OK;
}
