/* SPDX-License-Identifier: MIT
 *
 * fuzz_queue.c - whatever stands in a queue or among dead letters is read without harm: an entry
 * that is taken for a write of ours has a key that can be one, an id is what it says, a letter is
 * shown as far as it goes.
 *
 * The input is taken for an id, and for an answer in RESP: to the taking of one entry, to that of
 * letters, and for the fields of an entry.
 */
#include "../../l2/internal.h"
#include "../l2/reply.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static uint64_t sum(struct pln_bytes bytes) {
    uint64_t all = 0;
    for (size_t i = 0; i < bytes.len; i++) {
        all += ((const uint8_t *) bytes.data)[i];
    }
    return all;
}

/* Its bytes can be read, and its kinds exclude each other. */
static void check_entry(const struct pln_l2_entry *entry, bool is_ours) {
    static volatile uint64_t sink;
    sink = sum(entry->key) + sum(entry->value);
    assert(!is_ours || entry->key.len <= PLN_MAX_KEY);
    assert(!is_ours || !entry->is_removal || (entry->value.len == 0 && !entry->is_absent));
    (void) sink;
}

static void fuzz_id(struct pln_bytes text) {
    uint64_t ms, seq, again_ms, again_seq;
    char written[PLN_ID_TEXT];
    if (pln_id_read(text, &ms, &seq)) {
        pln_id_write(ms, seq, written);
        bool is_read = pln_id_read(pln_key(written), &again_ms, &again_seq);
        assert(is_read && again_ms == ms && again_seq == seq);
        (void) is_read;
    }
}

static void fuzz_answers(const struct pln_reply *reply) {
    struct pln_l2_entry entry = {.ms = 0};
    struct pln_l2_letters letters;
    bool is_ours = pln_entry_read(reply, &entry);
    check_entry(&entry, is_ours);
    if (pln_taken_read(reply, &entry, &is_ours)) {
        assert(entry.n_taken >= 1);
        check_entry(&entry, is_ours);
    }
    if (pln_letters_read(reply, &letters) == PLN_OK) {
        for (size_t i = 0; i < letters.n; i++) {
            check_entry(&letters.letters[i].entry, false);
            (void) sum(letters.letters[i].error);
            assert(letters.letters[i].age >= 0);
        }
        pln_l2_letters_fini(&letters);
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    fuzz_id(pln_bytes_of(data, size));
    struct pln_reply *reply = test_reply_read(data, size);
    if (reply != NULL) {
        fuzz_answers(reply);
        test_reply_free(reply);
    }
    return 0;
}
