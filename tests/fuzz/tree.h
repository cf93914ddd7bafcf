/* SPDX-License-Identifier: MIT
 *
 * tree.h - reading every byte of a reply, so that the address sanitizer sees them all; and whether
 * a text of RESP is worth its time.
 */
#ifndef PLN_FUZZ_TREE_H
#define PLN_FUZZ_TREE_H

#include "../../l2/l2.h"

struct tree_sum {
    uint64_t mark; /* alike for equal trees, whatever memory they lie in */
    size_t n_bytes, n_elements;
};

static inline void tree_mix(struct tree_sum *sum, uint64_t number) {
    sum->mark = (sum->mark ^ number) * 0x9e3779b97f4a7c15;
    sum->mark ^= sum->mark >> 29;
}

static inline void tree_read(const struct pln_reply *reply, struct tree_sum *sum) {
    const uint8_t *bytes = reply->bytes.data;
    bool has_bytes = reply->kind == PLN_REPLY_STATUS || reply->kind == PLN_REPLY_ERROR ||
                     reply->kind == PLN_REPLY_STRING;
    uint64_t number;
    assert(reply->kind <= PLN_REPLY_PUSH);
    assert(!has_bytes || bytes[reply->bytes.len] == 0);
    assert(has_bytes || reply->bytes.len == 0);
    tree_mix(sum, reply->kind);
    tree_mix(sum, (uint64_t) reply->integer);
    memcpy(&number, &reply->number, sizeof number);
    tree_mix(sum, number);
    for (size_t i = 0; i < reply->bytes.len; i++) {
        tree_mix(sum, bytes[i]);
    }
    sum->n_bytes += reply->bytes.len;
    sum->n_elements += reply->n_elements;
    for (size_t i = 0; i < reply->n_elements; i++) {
        tree_read(&reply->elements[i], sum);
    }
}

/* Whether the bytes announce an array of ten thousand elements or more: memory is taken for all of
 * them at once, and clearing that takes longer than a hundred other inputs. Only fuzz_reply.c,
 * whose subject these are, tries them. */
static inline bool tree_is_dear(const uint8_t *bytes, size_t n) {
    size_t n_digits = 0;
    bool is_count = false;
    for (size_t i = 0; i < n; i++) {
        bool is_digit = bytes[i] >= '0' && bytes[i] <= '9';
        is_count = is_digit ? is_count : bytes[i] != 0 && strchr("*%~>", bytes[i]) != NULL;
        n_digits = is_digit ? n_digits + 1 : 0;
        if (is_count && n_digits > 4) {
            return true;
        }
    }
    return false;
}

#endif
