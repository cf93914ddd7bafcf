/* SPDX-License-Identifier: MIT
 *
 * perilune_swap.h - cached values that change by what they are: compare and swap, numbers; a part
 * of perilune.h, which includes it.
 */
#ifndef PERILUNE_SWAP_H
#define PERILUNE_SWAP_H

#include "perilune.h"

#ifdef __cplusplus
extern "C" {
#endif

struct pln_swap_options {
    uint8_t format;     /* of the new value */
    uint8_t old_format; /* of the old one */
    pln_ms ttl_ms;      /* default: the old value's life goes on; of one that is new: the rule's */
    pln_ms timeout_ms;  /* default: the cache's */
};

/* Puts a value in the place of another one, if that is what is there, byte for byte and in format;
 * where `old` is NULL, if nothing is there. Nothing can come between the look and the write: with
 * Redis both are one step of the server's, without it they are one of the process's. The old
 * value's tags go on. What is stale or negative counts as nothing. Told to the others as
 * pln_set().
 * Returns: PLN_OK; PLN_NOT_STORED (another value is there: where `present` is not NULL, it is
 * that); PLN_MISS (nothing is there); PLN_EL2DOWN, PLN_ETIMEOUT, PLN_EL2: it is not done, or may
 * have been, and is not kept for later; PLN_EBUSY. Owns: present->value is the caller's until
 * pln_release(). Threads: any, waits until the timeout. */
PLN_API int pln_swap(struct pln_cache *cache, struct pln_bytes key, const struct pln_bytes *old,
                     struct pln_bytes value, const struct pln_swap_options *options,
                     struct pln_result *present);

enum { PLN_NUMERAL = 32 }; /* bytes that a number takes at most */

/* How numbers are written in values. */
struct pln_numerals {
    /* The number that a value is; false where it is none, or one out of range. */
    bool (*read)(struct pln_bytes value, uint8_t format, int64_t *number);
    /* Writes one in a format that read() takes. Returns its length. */
    size_t (*write)(int64_t number, uint8_t format, char text[PLN_NUMERAL]);
};

struct pln_incr_options {
    bool has_initial; /* nothing there is no miss, but this number. Of a key that is written behind
                         the rule's loader is asked before; without one, what the store has is
                         counted anew, and lost */
    int64_t initial;
    uint8_t format;                      /* of one that is new; what is there keeps its own */
    pln_ms ttl_ms;                       /* as above; likewise the next */
    pln_ms timeout_ms;                   /* of the whole call, however often others come first */
    const struct pln_numerals *numerals; /* default: decimal digits, in format 0 */
};

/* Adds to a cached value that is a whole number. Each addition counts once, whoever adds at the
 * same time; it is a read and pln_swap(), again where another one came first. For what many
 * processes count up all the time pln_counter_add() is the cheaper one: it is always one step, but
 * its numbers are no cached values: they have no rule, no tags and no copies in L1.
 * Returns: PLN_OK; PLN_MISS (nothing there, and no initial number); PLN_ETYPE (no whole number is
 * there), PLN_ETOOBIG (the sum is out of range): nothing has changed; else as pln_swap().
 * Threads: likewise. */
PLN_API int pln_incr(struct pln_cache *cache, struct pln_bytes key, int64_t delta,
                     const struct pln_incr_options *options, int64_t *sum);

#ifdef __cplusplus
}
#endif

#endif
