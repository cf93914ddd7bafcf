/* SPDX-License-Identifier: MIT
 *
 * fuzz_packed.c - whatever bytes lie in Redis as a compressed value, they are refused or become
 * one; and whatever is compressed becomes itself again.
 *
 * The input's first byte is the method.
 */
#include "../../core/compress.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void free_bytes(struct pln_bytes bytes) {
    free((void *) (uintptr_t) bytes.data);
}

/* Reads every byte, so that the address sanitizer sees them all. */
static unsigned sum(struct pln_bytes bytes) {
    const uint8_t *at = bytes.data;
    unsigned total = 0;
    for (size_t i = 0; i < bytes.len; i++) {
        total += at[i];
    }
    return total;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    static volatile unsigned seen;
    struct pln_bytes raw, packed, again;
    if (size == 0) {
        return 0;
    }
    int method = data[0];
    struct pln_bytes rest = {data + 1, size - 1};
    int status = pln_compress_unpack(method, rest, &raw);
    assert(status == PLN_OK || status == PLN_MISS || status == PLN_ECODEC || status == PLN_ENOMEM);
    if (status == PLN_OK) {
        seen += sum(raw);
        free_bytes(raw);
    }
    if (pln_compress_pack(method, rest, &packed)) {
        assert(packed.len < rest.len);
        status = pln_compress_unpack(method, packed, &again);
        assert(status == PLN_OK && pln_bytes_equal(again, rest));
        free_bytes(packed);
        free_bytes(again);
    }
    return 0;
}
