/* SPDX-License-Identifier: MIT
 *
 * message.c - the messages on the channel of a namespace.
 *
 *     0  '1'            wire version, also the last part of the channel's name
 *     1  kind
 *     2  instance       64 bits, random
 *    10  incarnation    32 bits: which connection of the instance wrote
 *    14  payload        a key, a tag, or numbers
 *
 * Numbers are big endian. A message says what happened, never the new value: who wants it fetches
 * it. So messages may be repeated and dropped copies only cost a read.
 */
#include "internal.h"

enum { WIRE_VERSION = '1', AT_KIND = 1, AT_INSTANCE = 2, AT_INCARNATION = 10 };

size_t pln_message_write(const struct pln_message *message, uint8_t bytes[PLN_MESSAGE_MAX]) {
    assert(message->payload.len <= PLN_MAX_KEY);
    bytes[0] = WIRE_VERSION;
    bytes[AT_KIND] = (uint8_t) message->kind;
    pln_put_big(bytes + AT_INSTANCE, message->origin.instance, 8);
    pln_put_big(bytes + AT_INCARNATION, message->origin.incarnation, 4);
    if (message->payload.len > 0) {
        memcpy(bytes + PLN_MESSAGE_HEAD, message->payload.data, message->payload.len);
    }
    return PLN_MESSAGE_HEAD + message->payload.len;
}

static bool payload_fits(enum pln_message_kind kind, size_t len) {
    switch (kind) {
    case PLN_MESSAGE_KEY:
    case PLN_MESSAGE_EXPIRE:
    case PLN_MESSAGE_FILLED:
        return len <= PLN_MAX_KEY;
    case PLN_MESSAGE_TAG:
        return len <= PLN_MAX_TAG;
    case PLN_MESSAGE_CLEAR:
        return len == PLN_MESSAGE_CLEAR_BYTES;
    case PLN_MESSAGE_PING:
        return len == 8;
    }
    return false;
}

bool pln_message_read(struct pln_bytes bytes, struct pln_message *message) {
    const uint8_t *at = bytes.data;
    if (bytes.len < PLN_MESSAGE_HEAD || at[0] != WIRE_VERSION) {
        return false;
    }
    struct pln_message read = {
        .kind = (enum pln_message_kind) at[AT_KIND],
        .origin = {.instance = pln_take_big(at + AT_INSTANCE, 8),
                   .incarnation = (uint32_t) pln_take_big(at + AT_INCARNATION, 4)},
        .payload = pln_bytes_of(at + PLN_MESSAGE_HEAD, bytes.len - PLN_MESSAGE_HEAD)};
    if (!payload_fits(read.kind, read.payload.len)) {
        return false;
    }
    *message = read;
    return true;
}

void pln_message_report(const struct pln_l2_events *events, const struct pln_message *message) {
    void (*on_bytes)(void *, struct pln_bytes) = NULL;
    switch (message->kind) {
    case PLN_MESSAGE_KEY:
        on_bytes = events->on_key;
        break;
    case PLN_MESSAGE_EXPIRE:
        on_bytes = events->on_expire;
        break;
    case PLN_MESSAGE_FILLED:
        on_bytes = events->on_filled;
        break;
    case PLN_MESSAGE_TAG:
        on_bytes = events->on_tag;
        break;
    case PLN_MESSAGE_CLEAR:
        if (events->on_clear != NULL) {
            events->on_clear(events->arg);
        }
        break;
    case PLN_MESSAGE_PING:
        break;
    }
    if (on_bytes != NULL) {
        on_bytes(events->arg, message->payload);
    }
}
