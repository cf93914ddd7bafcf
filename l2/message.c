/* SPDX-License-Identifier: MIT
 *
 * message.c - the messages on the channel of a namespace.
 *
 *     0  '2'            wire version, also the last part of the channel's name
 *     1  kind
 *     2  instance       64 bits, random
 *    10  incarnation    32 bits: which connection of the instance wrote
 *    14  payload        a key, keys, a tag, a mask, or numbers
 *        number         64 bits: which message of the namespace it is; what changes nothing has
 * none
 *
 * Numbers are big endian. A message says what happened, never the new value: who wants it fetches
 * it. So messages may be repeated and dropped copies only cost a read. The number comes from the
 * server, in the step that makes the change, and its script appends it: so every receiver hears one
 * unbroken row, and knows when something is missing (feed.c).
 */
#include "internal.h"

enum { WIRE_VERSION = '2', AT_KIND = 1, AT_INSTANCE = 2, AT_INCARNATION = 10 };

bool pln_message_is_numbered(enum pln_message_kind kind) {
    return kind != PLN_MESSAGE_FILLED && kind != PLN_MESSAGE_PING;
}

size_t pln_message_write(const struct pln_message *message, uint8_t bytes[PLN_MESSAGE_MAX]) {
    assert(message->payload.len <= PLN_MESSAGE_MAX - PLN_MESSAGE_HEAD);
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
    case PLN_MESSAGE_EXTEND:
        return len >= PLN_MESSAGE_EXTEND_BYTES && len - PLN_MESSAGE_EXTEND_BYTES <= PLN_MAX_KEY;
    case PLN_MESSAGE_TAG:
        return len <= PLN_MAX_TAG;
    case PLN_MESSAGE_MATCH:
        return len > PLN_MESSAGE_CLEAR_BYTES && len - PLN_MESSAGE_CLEAR_BYTES - 1 <= PLN_MAX_KEY;
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
                   .incarnation = (uint32_t) pln_take_big(at + AT_INCARNATION, 4)}};
    size_t len = bytes.len - PLN_MESSAGE_HEAD;
    if (pln_message_is_numbered(read.kind)) {
        if (len < PLN_MESSAGE_NUMBER) {
            return false;
        }
        len -= PLN_MESSAGE_NUMBER;
        read.number = pln_take_big(at + PLN_MESSAGE_HEAD + len, PLN_MESSAGE_NUMBER);
    }
    read.payload = pln_bytes_of(at + PLN_MESSAGE_HEAD, len);
    if (!payload_fits(read.kind, len) ||
        (read.kind == PLN_MESSAGE_MATCH && !pln_mask_is_kind(at[PLN_MESSAGE_HEAD]))) {
        return false;
    }
    *message = read;
    return true;
}

struct pln_bytes pln_message_extend(struct pln_bytes key, pln_ms fresh, pln_ms life,
                                    uint8_t payload[PLN_MESSAGE_MAX]) {
    assert(key.len <= PLN_MAX_KEY);
    pln_put_big(payload, (uint64_t) fresh, 8);
    pln_put_big(payload + 8, (uint64_t) life, 8);
    if (key.len > 0) {
        memcpy(payload + PLN_MESSAGE_EXTEND_BYTES, key.data, key.len);
    }
    return pln_bytes_of(payload, PLN_MESSAGE_EXTEND_BYTES + key.len);
}

struct pln_mask pln_message_mask(struct pln_bytes payload, uint64_t *clock) {
    const uint8_t *at = payload.data;
    size_t len = payload.len - PLN_MESSAGE_CLEAR_BYTES;
    *clock = pln_take_big(at + len, PLN_MESSAGE_CLEAR_BYTES);
    return (struct pln_mask){(enum pln_mask_kind) at[0], pln_bytes_of(at + 1, len - 1)};
}

static void report_match(const struct pln_l2_events *events, struct pln_bytes payload) {
    uint64_t clock;
    struct pln_mask mask = pln_message_mask(payload, &clock);
    if (events->on_match != NULL) {
        events->on_match(events->arg, &mask);
    }
}

/* Durations that are none end the value, which is safe. */
static void report_extension(const struct pln_l2_events *events, struct pln_bytes payload) {
    const uint8_t *at = payload.data;
    struct pln_bytes key = pln_bytes_of(at + PLN_MESSAGE_EXTEND_BYTES,
                                        payload.len - PLN_MESSAGE_EXTEND_BYTES);
    pln_ms fresh = (pln_ms) pln_take_big(at, 8), life = (pln_ms) pln_take_big(at + 8, 8);
    if (events->on_extend != NULL) {
        events->on_extend(events->arg, key, fresh < 0 ? 0 : fresh, life < 0 ? 0 : life);
    }
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
    case PLN_MESSAGE_EXTEND:
        report_extension(events, message->payload);
        break;
    case PLN_MESSAGE_MATCH:
        report_match(events, message->payload);
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
