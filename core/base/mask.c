/* SPDX-License-Identifier: MIT
 *
 * mask.c - which keys an invalidation is for.
 *
 * A pattern is cut at its stars: the first piece stands at the key's beginning, the last one at its
 * end, and each between them where it is first found behind the one before. Taking the first place
 * is right, as it leaves the most to those that follow; so no choice is ever taken back, and the
 * work is bounded by the lengths alone. script.c says the same in Lua.
 */
#include "base.h"

static bool begins_with(struct pln_bytes bytes, struct pln_bytes piece) {
    return bytes.len >= piece.len &&
           (piece.len == 0 ||
            (bytes.data != NULL && memcmp(bytes.data, piece.data, piece.len) == 0));
}

static struct pln_bytes from(struct pln_bytes bytes, size_t at) {
    return pln_bytes_of((const char *) bytes.data + at, bytes.len - at);
}

/* Up to the next star, or the end. */
static struct pln_bytes first_piece(struct pln_bytes pattern) {
    const char *star = pattern.len == 0 ? NULL : memchr(pattern.data, '*', pattern.len);
    size_t len = star == NULL ? pattern.len : (size_t) (star - (const char *) pattern.data);
    return pln_bytes_of(pattern.data, len);
}

/* Where a piece stands first, or SIZE_MAX. */
static size_t find(struct pln_bytes bytes, struct pln_bytes piece) {
    if (piece.len == 0 || bytes.len < piece.len || bytes.data == NULL) {
        return piece.len == 0 ? 0 : SIZE_MAX;
    }
    const char *found = memmem(bytes.data, bytes.len, piece.data, piece.len);
    return found == NULL ? SIZE_MAX : (size_t) (found - (const char *) bytes.data);
}

static bool fits_pattern(struct pln_bytes pattern, struct pln_bytes key) {
    struct pln_bytes piece = first_piece(pattern);
    if (piece.len == pattern.len) {
        return pln_bytes_equal(piece, key);
    }
    if (!begins_with(key, piece)) {
        return false;
    }
    key = from(key, piece.len);
    pattern = from(pattern, piece.len + 1);
    for (piece = first_piece(pattern); piece.len < pattern.len; piece = first_piece(pattern)) {
        size_t at = find(key, piece);
        if (at == SIZE_MAX) {
            return false;
        }
        key = from(key, at + piece.len);
        pattern = from(pattern, piece.len + 1);
    }
    return key.len >= piece.len && begins_with(from(key, key.len - piece.len), piece);
}

bool pln_mask_is_kind(uint8_t kind) {
    return kind == PLN_MASK_PREFIX || kind == PLN_MASK_PATTERN;
}

bool pln_mask_fits(const void *mask, struct pln_bytes key) {
    const struct pln_mask *of = mask;
    return of->kind == PLN_MASK_PREFIX ? begins_with(key, of->text) : fits_pattern(of->text, key);
}
