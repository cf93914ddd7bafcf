/* SPDX-License-Identifier: MIT
 *
 * codec.c - the envelope in which a value lies in Redis.
 *
 *     0  'P'             magic
 *     1  1               version of this layout
 *     2  flags           1: absent, 2: made stale by expire()
 *     3  format          the caller's
 *     4  packing         the caller's, 0 for none (n_tags once had both: who knows no packing
 *     5  n_tags          sees more tags than there can be, and so no value)
 *     6  tags_bytes      16 bits
 *     8  created         \
 *    16  stale at         | milliseconds of the server's clock, 64 bits;
 *    24  gone at         /  the largest number: never
 *    32  tag clock       64 bits
 *    40  value_bytes     32 bits
 *    44  tags            each one byte of length, then its bytes
 *     .  value
 *
 * Where a key was removed, and it must be seen for a while when that was, there is a mark: the head
 * alone, with a 'T' in front. It is no value.
 *
 * All numbers are big endian. The times are the server's, because it is the one clock that all
 * clients can see; scripts write them (script.c), and each client knows how far its own monotonic
 * clock is from it. They stand at fixed places so that a script can change them where they lie.
 *
 * Whatever comes out of Redis may have been put there by anybody: every length is checked against
 * the bytes at hand before it is used, and what does not fit is no value.
 */
#include "internal.h"

enum {
    AT_MAGIC = 0,
    AT_VERSION = 1,
    AT_FLAGS = 2,
    AT_FORMAT = 3,
    AT_PACKING = 4,
    AT_N_TAGS = 5,
    AT_TAGS_BYTES = 6,
    AT_TAG_CLOCK = 32,
    AT_VALUE_BYTES = 40,
    MAGIC = 'P',
    VERSION = 1,
    FLAG_ABSENT = 1,
    FLAG_EXPIRED = 2,
    FLAGS_KNOWN = FLAG_ABSENT | FLAG_EXPIRED,
};

void pln_put_big(uint8_t *at, uint64_t number, size_t n_bytes) {
    for (size_t i = n_bytes; i-- > 0;) {
        at[i] = (uint8_t) number;
        number >>= 8;
    }
}

uint64_t pln_take_big(const uint8_t *at, size_t n_bytes) {
    uint64_t number = 0;
    for (size_t i = 0; i < n_bytes; i++) {
        number = number << 8 | at[i];
    }
    return number;
}

void pln_l2_value_fini(struct pln_l2_value *value) {
    if (value != NULL) {
        free(value->memory);
        free(value->raw);
        memset(value, 0, sizeof *value);
    }
}

/* ---- writing ---- */

int pln_envelope_check(const struct pln_l2_item *item) {
    if (item->value.len > PLN_L2_MAX_VALUE) {
        return pln_fail(PLN_ETOOBIG, "l2: a value of %zu bytes, %d at most", item->value.len,
                        PLN_L2_MAX_VALUE);
    }
    if (item->n_tags > PLN_MAX_TAGS) {
        return pln_fail(PLN_EINVAL, "l2: %zu tags on one value, %d at most", item->n_tags,
                        PLN_MAX_TAGS);
    }
    for (size_t i = 0; i < item->n_tags; i++) {
        if (item->tags[i].len > PLN_MAX_TAG) {
            return pln_fail(PLN_EINVAL, "l2: a tag of %zu bytes, %d at most", item->tags[i].len,
                            PLN_MAX_TAG);
        }
    }
    return PLN_OK;
}

static size_t tags_bytes(const struct pln_l2_item *item) {
    size_t bytes = 0;
    for (size_t i = 0; i < item->n_tags; i++) {
        bytes += 1 + item->tags[i].len;
    }
    return bytes;
}

void pln_envelope_before(const struct pln_l2_item *item, uint8_t before[PLN_ENVELOPE_BEFORE]) {
    before[AT_MAGIC] = MAGIC;
    before[AT_VERSION] = VERSION;
    before[AT_FLAGS] = item->is_absent ? FLAG_ABSENT : 0;
    before[AT_FORMAT] = item->format;
    before[AT_PACKING] = item->packing;
    before[AT_N_TAGS] = (uint8_t) item->n_tags;
    pln_put_big(before + AT_TAGS_BYTES, tags_bytes(item), 2);
}

size_t pln_envelope_after(const struct pln_l2_item *item, uint8_t after[PLN_ENVELOPE_AFTER_MAX]) {
    uint8_t *at = after;
    pln_put_big(at, item->value.len, 4);
    at += 4;
    for (size_t i = 0; i < item->n_tags; i++) {
        *at++ = (uint8_t) item->tags[i].len;
        if (item->tags[i].len > 0) {
            memcpy(at, item->tags[i].data, item->tags[i].len);
        }
        at += item->tags[i].len;
    }
    return (size_t) (at - after);
}

/* A point `left` from now, as stored: never negative, and without end where it is far enough. */
static uint64_t stored_time(pln_ms server_now, pln_ms left) {
    if (left > PLN_L2_LONGEST) {
        return PLN_FOREVER;
    }
    pln_ms at = left < -server_now ? 0 : server_now + left;
    return (uint64_t) at;
}

size_t pln_envelope_size(const struct pln_l2_item *item) {
    return PLN_ENVELOPE_TAGS + tags_bytes(item) + item->value.len;
}

void pln_envelope_write(const struct pln_l2_item *item, pln_ms server_now, uint8_t *envelope) {
    pln_ms age = item->age < 0 ? 0 : item->age;
    pln_envelope_before(item, envelope);
    pln_put_big(envelope + PLN_ENVELOPE_CREATED, stored_time(server_now, -age), 8);
    pln_put_big(envelope + PLN_ENVELOPE_STALE, stored_time(server_now, item->fresh_left), 8);
    pln_put_big(envelope + PLN_ENVELOPE_GONE, stored_time(server_now, item->life_left), 8);
    pln_put_big(envelope + AT_TAG_CLOCK, item->tag_clock, 8);
    uint8_t *value = envelope + AT_VALUE_BYTES;
    value += pln_envelope_after(item, value);
    if (item->value.len > 0) {
        memcpy(value, item->value.data, item->value.len);
    }
}

void pln_envelope_expire(uint8_t *envelope, pln_ms server_now) {
    if (pln_take_big(envelope + PLN_ENVELOPE_STALE, 8) > (uint64_t) server_now) {
        pln_put_big(envelope + PLN_ENVELOPE_STALE, (uint64_t) server_now, 8);
    }
    envelope[AT_FLAGS] |= FLAG_EXPIRED;
}

void pln_envelope_touch(uint8_t *envelope, pln_ms server_now, pln_ms fresh, pln_ms life) {
    pln_put_big(envelope + PLN_ENVELOPE_STALE, stored_time(server_now, fresh), 8);
    pln_put_big(envelope + PLN_ENVELOPE_GONE, stored_time(server_now, life), 8);
    envelope[AT_FLAGS] &= (uint8_t) ~FLAG_EXPIRED;
}

/* ---- reading ---- */

/* Checks what the head says against the bytes there are. */
static bool fits(const uint8_t *head, size_t len) {
    return len >= PLN_ENVELOPE_TAGS && head[AT_MAGIC] == MAGIC && head[AT_VERSION] == VERSION &&
           (head[AT_FLAGS] & ~FLAGS_KNOWN) == 0 && head[AT_N_TAGS] <= PLN_MAX_TAGS &&
           PLN_ENVELOPE_TAGS + pln_take_big(head + AT_TAGS_BYTES, 2) +
                   pln_take_big(head + AT_VALUE_BYTES, 4) ==
               len;
}

/* Points the tags at their bytes. Returns false where they do not fill their part exactly. */
static bool find_tags(const uint8_t *at, size_t len, struct pln_bytes *tags, size_t n_tags) {
    for (size_t i = 0; i < n_tags; i++) {
        if (len == 0 || at[0] >= len) {
            return false;
        }
        tags[i] = pln_bytes_of(at + 1, at[0]);
        len -= 1 + tags[i].len;
        at += 1 + tags[i].len;
    }
    return len == 0;
}

/* The durations of an item; nonsense is brought to what is nearest and harmless. */
static void read_times(const uint8_t *head, pln_ms server_now, struct pln_l2_item *item) {
    uint64_t created = pln_take_big(head + PLN_ENVELOPE_CREATED, 8);
    uint64_t stale = pln_take_big(head + PLN_ENVELOPE_STALE, 8);
    uint64_t gone = pln_take_big(head + PLN_ENVELOPE_GONE, 8);
    /* A value from the future is as new as can be: a server's clock that was set back makes none
     * live longer than it was stored for. */
    uint64_t now = (uint64_t) server_now;
    now = created > now && created < PLN_L2_LONGEST ? created : now;
    server_now = (pln_ms) now;
    uint64_t furthest = now + PLN_L2_LONGEST;

    item->age = created >= now ? 0 : (pln_ms) (now - created);
    item->life_left = gone > furthest ? PLN_FOREVER : (pln_ms) gone - server_now;
    item->fresh_left = stale > furthest ? PLN_FOREVER : (pln_ms) stale - server_now;
    if (item->fresh_left > item->life_left) {
        item->fresh_left = item->life_left;
    }
    if ((head[AT_FLAGS] & FLAG_EXPIRED) != 0 && item->fresh_left >= 0) {
        item->fresh_left = -1; /* the estimate of the server's clock may be a little behind */
    }
}

int pln_envelope_read(struct pln_bytes envelope, pln_ms server_now, struct pln_l2_value *value) {
    const uint8_t *head = envelope.data;
    if (envelope.len == PLN_ENVELOPE_TAGS && head[AT_MAGIC] == PLN_MARK) {
        return PLN_MISS;
    }
    if (server_now < 0 || !fits(head, envelope.len)) {
        return PLN_EINVAL;
    }
    struct pln_l2_item item = {.tag_clock = pln_take_big(head + AT_TAG_CLOCK, 8),
                               .n_tags = head[AT_N_TAGS],
                               .format = head[AT_FORMAT],
                               .packing = head[AT_PACKING],
                               .is_absent = (head[AT_FLAGS] & FLAG_ABSENT) != 0};
    read_times(head, server_now, &item);
    if (item.life_left <= 0) {
        return PLN_MISS;
    }
    size_t tail_bytes = envelope.len - PLN_ENVELOPE_TAGS;
    size_t in_tags = (size_t) pln_take_big(head + AT_TAGS_BYTES, 2);
    struct pln_bytes *tags = malloc(item.n_tags * sizeof *tags + tail_bytes + 1);
    if (tags == NULL) {
        return pln_fail(PLN_ENOMEM, "l2: no memory for a value of %zu bytes", envelope.len);
    }
    uint8_t *tail = (uint8_t *) (tags + item.n_tags);
    memcpy(tail, head + PLN_ENVELOPE_TAGS, tail_bytes);
    if (!find_tags(tail, in_tags, tags, item.n_tags)) {
        free(tags);
        return PLN_EINVAL;
    }
    item.tags = tags;
    item.value = pln_bytes_of(tail + in_tags, tail_bytes - in_tags);
    *value = (struct pln_l2_value){.item = item, .memory = tags};
    return PLN_OK;
}
