/* SPDX-License-Identifier: MIT
 *
 * removes.h - many keys removed by one command, with one message.
 */
#ifndef PLN_L2_REMOVES_H
#define PLN_L2_REMOVES_H

#include "transport.h"

struct pln_redis;

enum {
    PLN_MESSAGE_KEYS_MOST = 1000,     /* of one message */
    PLN_MESSAGE_KEYS_MAX = 32 * 1024, /* bytes of them, each with its length */
};

/* Writes a key behind `len` bytes of others of a message. Returns how many bytes there are now. */
size_t pln_message_add_key(uint8_t payload[PLN_MESSAGE_KEYS_MAX], size_t len, struct pln_bytes key);
/* Takes the first key off a message's; false at the end. */
bool pln_message_next_key(struct pln_bytes *payload, struct pln_bytes *key);

/* Writes the command that removes them all; of one connection, and in a cluster of one slot. They
 * fit a message. */
void pln_removes_write(const struct pln_redis *redis, const struct pln_slot *slot,
                       const struct pln_bytes *keys, size_t n, bool by_text,
                       struct pln_batch *batch);
int pln_redis_remove_many(struct pln_l2 *l2, const struct pln_hashed *keys, size_t n,
                          pln_ns deadline);

#endif
