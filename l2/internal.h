/* SPDX-License-Identifier: MIT
 *
 * internal.h - what the files of this folder, and their tests, share.
 */
#ifndef PLN_L2_INTERNAL_H
#define PLN_L2_INTERNAL_H

#include "l2.h"

/* ---- codec.c: the envelope ---- */

enum {
    PLN_ENVELOPE_BEFORE = 8,  /* bytes before the times */
    PLN_ENVELOPE_CREATED = 8, /* where the times are */
    PLN_ENVELOPE_STALE = 16,
    PLN_ENVELOPE_GONE = 24,
    PLN_ENVELOPE_TAGS = 44, /* the head's length: the tags begin here */
    PLN_ENVELOPE_AFTER_MAX = 4 + PLN_MAX_TAGS * (1 + PLN_MAX_TAG),
    PLN_L2_MAX_VALUE = 511 * 1024 * 1024, /* Redis ends at 512 MiB, envelope included */
};

/* About 30,000 years. What lasts longer is forever; what is not longer can be added to any time of
 * a server and stays a whole number in Lua's doubles. */
#define PLN_L2_LONGEST ((pln_ms) 1000000000000000)

void pln_put_big(uint8_t *at, uint64_t number, size_t n_bytes);
uint64_t pln_take_big(const uint8_t *at, size_t n_bytes);

/* Returns: PLN_OK; PLN_ETOOBIG, PLN_EINVAL where the item cannot be stored. */
int pln_envelope_check(const struct pln_l2_item *item);
/* An envelope but for its times and tag clock, which a script puts between: the bytes before them,
 * and those after (returns how many). The value follows as it is. */
void pln_envelope_before(const struct pln_l2_item *item, uint8_t before[PLN_ENVELOPE_BEFORE]);
size_t pln_envelope_after(const struct pln_l2_item *item, uint8_t after[PLN_ENVELOPE_AFTER_MAX]);
/* A whole envelope, and the changes that scripts make, for a server without scripts (mem.c). */
size_t pln_envelope_size(const struct pln_l2_item *item);
void pln_envelope_write(const struct pln_l2_item *item, pln_ms server_now, uint8_t *envelope);
void pln_envelope_expire(uint8_t *envelope, pln_ms server_now);
void pln_envelope_touch(uint8_t *envelope, pln_ms server_now, pln_ms fresh, pln_ms life);
/* Returns: PLN_OK, PLN_MISS (past its end), PLN_EINVAL (no envelope of this version), PLN_ENOMEM.
 */
int pln_envelope_read(struct pln_bytes envelope, pln_ms server_now, struct pln_l2_value *value);

/* ---- message.c: what is said on the channel ---- */

enum pln_message_kind {
    PLN_MESSAGE_KEY = 'k',    /* payload: the key */
    PLN_MESSAGE_EXPIRE = 'x', /* the key */
    PLN_MESSAGE_TAG = 't',    /* the tag */
    PLN_MESSAGE_CLEAR = 'c',  /* database, 16 bits; the new tag clock, 64 bits */
    PLN_MESSAGE_FILLED = 'f', /* the key */
    PLN_MESSAGE_PING = 'p',   /* a number, 64 bits: the link's test of itself */
};

enum {
    PLN_MESSAGE_HEAD = 14, /* version, kind, origin */
    PLN_MESSAGE_CLEAR_BYTES = 10,
    PLN_MESSAGE_MAX = PLN_MESSAGE_HEAD + PLN_MAX_KEY,
};

/* Who wrote: an instance, and which of its connections, counted through its life. */
struct pln_origin {
    uint64_t instance;
    uint32_t incarnation;
};

struct pln_message {
    enum pln_message_kind kind;
    struct pln_origin origin;
    struct pln_bytes payload;
};

/* Returns the length. The payload is at most PLN_MAX_KEY bytes. */
size_t pln_message_write(const struct pln_message *message, uint8_t bytes[PLN_MESSAGE_MAX]);
/* Returns false where the bytes are damaged or of another version. */
bool pln_message_read(struct pln_bytes bytes, struct pln_message *message);
/* Calls the event a message stands for; events that are not set are passed over. */
void pln_message_report(const struct pln_l2_events *events, const struct pln_message *message);

#endif
