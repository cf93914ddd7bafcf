/* SPDX-License-Identifier: MIT
 *
 * fuzz_envelope.c - whatever lies in Redis or comes over the channel is read without harm: it is
 * refused, or it is a value or message whose parts can be read.
 */
#include "../../l2/internal.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

/* Reads every byte, so that the address sanitizer sees them all. */
static uint64_t sum(struct pln_bytes bytes) {
    const uint8_t *at = bytes.data;
    uint64_t total = 0;
    for (size_t i = 0; i < bytes.len; i++) {
        total += at[i];
    }
    return total;
}

static void see_key(void *arg, struct pln_bytes key) {
    *(uint64_t *) arg += sum(key);
}

static void see_nothing(void *arg) {
    *(uint64_t *) arg += 1;
}

static void see_extension(void *arg, struct pln_bytes key, pln_ms fresh, pln_ms life) {
    assert(fresh >= 0 && life >= 0);
    see_key(arg, key);
}

static void fuzz_value(struct pln_bytes bytes, uint64_t *seen) {
    struct pln_l2_value value;
    if (pln_envelope_read(bytes, 1000, &value) != PLN_OK) {
        return;
    }
    assert(value.item.n_tags <= PLN_MAX_TAGS);
    for (size_t i = 0; i < value.item.n_tags; i++) {
        assert(value.item.tags[i].len <= PLN_MAX_TAG);
        *seen += sum(value.item.tags[i]);
    }
    *seen += sum(value.item.value);
    pln_l2_value_fini(&value);
}

static void fuzz_message(struct pln_bytes bytes, uint64_t *seen) {
    struct pln_l2_events events = {.arg = seen,
                                   .on_key = see_key,
                                   .on_expire = see_key,
                                   .on_extend = see_extension,
                                   .on_tag = see_key,
                                   .on_clear = see_nothing,
                                   .on_filled = see_key};
    struct pln_message message;
    uint8_t again[PLN_MESSAGE_MAX + PLN_MESSAGE_NUMBER];
    if (!pln_message_read(bytes, &message)) {
        return;
    }
    bool is_numbered = pln_message_is_numbered(message.kind);
    pln_message_report(&events, &message);
    assert(is_numbered || message.number == 0);
    size_t len = pln_message_write(&message, again);
    if (is_numbered) { /* as the script appends it */
        pln_put_big(again + len, message.number, PLN_MESSAGE_NUMBER);
        len += PLN_MESSAGE_NUMBER;
    }
    assert(pln_bytes_equal(bytes, pln_bytes_of(again, len)));
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    uint64_t seen = 0;
    fuzz_value(pln_bytes_of(data, size), &seen);
    fuzz_message(pln_bytes_of(data, size), &seen);
    return 0;
}
