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

size_t pln_message_write(const struct pln_message *message, uint8_t *bytes) {
    bytes[0] = WIRE_VERSION;
    bytes[AT_KIND] = (uint8_t) message->kind;
    pln_put_big(bytes + AT_INSTANCE, message->origin.instance, 8);
    pln_put_big(bytes + AT_INCARNATION, message->origin.incarnation, 4);
    if (message->payload.len > 0) {
        memcpy(bytes + PLN_MESSAGE_HEAD, message->payload.data, message->payload.len);
    }
    return PLN_MESSAGE_HEAD + message->payload.len;
}

size_t pln_message_add_key(uint8_t payload[PLN_MESSAGE_KEYS_MAX], size_t len,
                           struct pln_bytes key) {
    assert(key.len <= PLN_MAX_KEY && len + 2 + key.len <= PLN_MESSAGE_KEYS_MAX);
    pln_put_big(payload + len, key.len, 2);
    if (key.len > 0) {
        memcpy(payload + len + 2, key.data, key.len);
    }
    return len + 2 + key.len;
}

bool pln_message_next_key(struct pln_bytes *payload, struct pln_bytes *key) {
    const uint8_t *at = payload->data;
    size_t len = payload->len < 2 ? 0 : (size_t) pln_take_big(at, 2);
    if (payload->len < 2 || len > payload->len - 2 || len > PLN_MAX_KEY) {
        return false;
    }
    *key = pln_bytes_of(at + 2, len);
    *payload = pln_bytes_of(at + 2 + len, payload->len - 2 - len);
    return true;
}

static bool are_keys(struct pln_bytes payload) {
    struct pln_bytes key;
    bool is_some = payload.len > 0 && payload.len <= PLN_MESSAGE_KEYS_MAX;
    while (is_some && pln_message_next_key(&payload, &key)) {
    }
    return is_some && payload.len == 0;
}

static bool is_mask(struct pln_bytes payload) {
    return payload.len > PLN_MESSAGE_CLEAR_BYTES &&
           payload.len - PLN_MESSAGE_CLEAR_BYTES - 1 <= PLN_MAX_KEY &&
           pln_mask_is_kind(*(const uint8_t *) payload.data);
}

static bool payload_fits(enum pln_message_kind kind, struct pln_bytes payload) {
    size_t len = payload.len;
    switch (kind) {
    case PLN_MESSAGE_KEYS:
        return are_keys(payload);
    case PLN_MESSAGE_KEY:
    case PLN_MESSAGE_EXPIRE:
    case PLN_MESSAGE_FILLED:
        return len <= PLN_MAX_KEY;
    case PLN_MESSAGE_EXTEND:
        return len >= PLN_MESSAGE_EXTEND_BYTES && len - PLN_MESSAGE_EXTEND_BYTES <= PLN_MAX_KEY;
    case PLN_MESSAGE_TAG:
        return len <= PLN_MAX_TAG;
    case PLN_MESSAGE_MATCH:
        return is_mask(payload);
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
    if (!payload_fits(read.kind, read.payload)) {
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

static void report_keys(const struct pln_l2_events *events, struct pln_bytes payload) {
    struct pln_bytes key;
    while (events->on_key != NULL && pln_message_next_key(&payload, &key)) {
        events->on_key(events->arg, key);
    }
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
    case PLN_MESSAGE_KEYS:
        report_keys(events, message->payload);
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
