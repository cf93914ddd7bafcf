/* SPDX-License-Identifier: MIT
 *
 * queue.c - writes that wait: what all tiers have in common.
 */
#include "internal.h"

/* ---- what was handed out ---- */

static void copy(struct pln_bytes *bytes, uint8_t **at) {
    if (bytes->len > 0) {
        memcpy(*at, bytes->data, bytes->len);
    }
    bytes->data = *at;
    *at += bytes->len;
}

int pln_entries_pack(const struct pln_l2_entry *from, size_t n, struct pln_l2_entries *to) {
    size_t bytes = 0;
    for (size_t i = 0; i < n; i++) {
        bytes += from[i].key.len + from[i].value.len;
    }
    struct pln_l2_entry *entries = malloc(n * sizeof *entries + bytes + 1);
    if (entries == NULL) {
        return pln_fail(PLN_ENOMEM, "l2: no memory for %zu writes of %zu bytes", n, bytes);
    }
    uint8_t *at = (uint8_t *) (entries + n);
    for (size_t i = 0; i < n; i++) {
        entries[i] = from[i];
        copy(&entries[i].key, &at);
        copy(&entries[i].value, &at);
    }
    *to = (struct pln_l2_entries){.entries = entries, .n = n, .memory = entries};
    return PLN_OK;
}

void pln_l2_entries_fini(struct pln_l2_entries *entries) {
    free(entries->memory);
    *entries = (struct pln_l2_entries){.n = 0};
}

int pln_letters_pack(const struct pln_l2_letter *from, size_t n, struct pln_l2_letters *to) {
    size_t bytes = 0;
    for (size_t i = 0; i < n; i++) {
        bytes += from[i].entry.key.len + from[i].entry.value.len + from[i].error.len;
    }
    struct pln_l2_letter *letters = malloc(n * sizeof *letters + bytes + 1);
    if (letters == NULL) {
        return pln_fail(PLN_ENOMEM, "l2: no memory for %zu letters of %zu bytes", n, bytes);
    }
    uint8_t *at = (uint8_t *) (letters + n);
    for (size_t i = 0; i < n; i++) {
        letters[i] = from[i];
        copy(&letters[i].entry.key, &at);
        copy(&letters[i].entry.value, &at);
        copy(&letters[i].error, &at);
    }
    *to = (struct pln_l2_letters){.letters = letters, .n = n, .memory = letters};
    return PLN_OK;
}

void pln_l2_letters_fini(struct pln_l2_letters *letters) {
    free(letters->memory);
    *letters = (struct pln_l2_letters){.n = 0};
}

int pln_queue_full(size_t most) {
    return pln_fail(PLN_EBUSY, "l2: the queue is full: %zu writes wait for the store", most);
}

/* ---- the doors ---- */

static int refuse(void) {
    return pln_fail(PLN_EL2DOWN, "l2: this process has no client of a server, and so no queue");
}

int pln_l2_queue_check(struct pln_l2 *l2) {
    return l2->ops->queue != NULL ? l2->ops->queue->check(l2) : refuse();
}

int pln_l2_queue_take(struct pln_l2 *l2, const struct pln_l2_taking *taking, pln_ns deadline,
                      struct pln_l2_entries *entries, pln_ms *left) {
    *entries = (struct pln_l2_entries){.n = 0};
    *left = 0;
    return l2->ops->queue != NULL ? l2->ops->queue->take(l2, taking, deadline, entries, left)
                                  : refuse();
}

int pln_l2_queue_hold(struct pln_l2 *l2, const struct pln_l2_taking *taking, pln_ns deadline) {
    return l2->ops->queue != NULL ? l2->ops->queue->hold(l2, taking, deadline) : refuse();
}

int pln_l2_queue_end(struct pln_l2 *l2, const struct pln_l2_taking *taking,
                     const struct pln_l2_entry *entries, size_t n, pln_ns deadline) {
    return l2->ops->queue != NULL ? l2->ops->queue->end(l2, taking, entries, n, deadline)
                                  : refuse();
}

int pln_l2_queue_bury(struct pln_l2 *l2, const struct pln_l2_taking *taking,
                      const struct pln_l2_entry *entry, unsigned attempts, const char *error,
                      size_t most, pln_ns deadline) {
    return l2->ops->queue != NULL
               ? l2->ops->queue->bury(l2, taking, entry, attempts, error, most, deadline)
               : refuse();
}

void pln_l2_queue_leave(struct pln_l2 *l2, const struct pln_l2_taking *taking, pln_ns deadline) {
    if (l2->ops->queue != NULL) {
        l2->ops->queue->leave(l2, taking, deadline);
    }
}

int pln_l2_queue_find(struct pln_l2 *l2, const struct pln_hashed *key, pln_ns deadline,
                      struct pln_l2_entries *entry) {
    *entry = (struct pln_l2_entries){.n = 0};
    return l2->ops->queue != NULL ? l2->ops->queue->find(l2, key, deadline, entry) : refuse();
}

int pln_l2_queue_state(struct pln_l2 *l2, pln_ns deadline, struct pln_l2_queue_state *state) {
    *state = (struct pln_l2_queue_state){.depth = 0};
    return l2->ops->queue != NULL ? l2->ops->queue->state(l2, deadline, state) : refuse();
}

int pln_l2_letters(struct pln_l2 *l2, uint64_t after_ms, uint64_t after_seq, size_t most,
                   pln_ns deadline, struct pln_l2_letters *letters) {
    *letters = (struct pln_l2_letters){.n = 0};
    return l2->ops->queue != NULL
               ? l2->ops->queue->letters(l2, after_ms, after_seq, most, deadline, letters)
               : refuse();
}

int pln_l2_letter_end(struct pln_l2 *l2, uint64_t ms, uint64_t seq, bool again, pln_ns deadline) {
    return l2->ops->queue != NULL ? l2->ops->queue->letter_end(l2, ms, seq, again, deadline)
                                  : refuse();
}
