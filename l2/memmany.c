/* SPDX-License-Identifier: MIT
 *
 * memmany.c - the tier in memory: what ends many values at once, and a get that does not wait.
 */
#include "mem.h"

/* One that would wait has no thread that could carry it. */
int pln_mem_get_async(struct pln_l2 *l2, struct pln_l2_get *get) {
    struct mem_client *client = pln_mem_client(l2);
    struct pln_l2_value value = {0};
    pthread_mutex_lock(&client->server->lock);
    const struct trouble *trouble = &client->trouble;
    bool waits = trouble->cut == PLN_MEMORY_HANGS || trouble->faults.delay_ms > 0 ||
                 trouble->faults.delay_random_ms > 0;
    pthread_mutex_unlock(&client->server->lock);
    if (waits) {
        return pln_fail(PLN_EBUSY, "l2: %s is slow, and has no thread to wait for it",
                        client->server->label);
    }
    int status = l2->ops->get(l2, &get->key, get->deadline, &value);
    get->done(get, status, status == PLN_OK ? &value : NULL);
    return PLN_OK;
}

int pln_mem_remove_many(struct pln_l2 *l2, const struct pln_hashed *keys, size_t n,
                        pln_ns deadline) {
    struct mem_client *client = pln_mem_client(l2);
    uint8_t payload[PLN_MESSAGE_KEYS_MAX];
    bool is_late;
    size_t len = 0, n_told = 0;
    int result = pln_mem_enter(client, MEM_FREES, deadline, &is_late);
    if (result != PLN_OK) {
        return result;
    }
    for (size_t i = 0; i < n; i++) {
        pln_mem_remove_locked(client, keys[i].key);
        if (len + 2 + keys[i].key.len > sizeof payload || i - n_told == PLN_MESSAGE_KEYS_MOST) {
            pln_mem_post_locked(client, PLN_MESSAGE_KEYS, pln_bytes_of(payload, len));
            len = 0;
            n_told = i;
        }
        len = pln_message_add_key(payload, len, keys[i].key);
    }
    if (len > 0) {
        pln_mem_post_locked(client, PLN_MESSAGE_KEYS, pln_bytes_of(payload, len));
    }
    return pln_mem_leave(client, is_late, PLN_OK);
}

/* The records are looked through at once, so there is no list of masks. */
int pln_mem_drop_match(struct pln_l2 *l2, const struct pln_mask *mask, pln_ns deadline) {
    struct mem_client *client = pln_mem_client(l2);
    uint8_t payload[1 + PLN_MAX_KEY + PLN_MESSAGE_CLEAR_BYTES];
    size_t len = mask->text.len;
    bool is_late;
    if (len > PLN_MAX_KEY) {
        return pln_fail(PLN_ETOOBIG, "l2: a prefix or pattern of %zu bytes, %d at most", len,
                        PLN_MAX_KEY);
    }
    int result = pln_mem_enter(client, MEM_FREES, deadline, &is_late);
    if (result != PLN_OK) {
        return result;
    }
    struct space *space = client->space;
    for (struct record *record = space->records; record != NULL; record = record->hh.next) {
        if (pln_mask_fits(mask, pln_bytes_of(record->key, record->key_len))) {
            pln_mem_drop_value(record);
        }
    }
    space->matched = ++space->clock;
    payload[0] = (uint8_t) mask->kind;
    if (len > 0) {
        memcpy(payload + 1, mask->text.data, len);
    }
    pln_put_big(payload + 1 + len, space->matched, PLN_MESSAGE_CLEAR_BYTES);
    pln_mem_post_locked(client, PLN_MESSAGE_MATCH,
                        pln_bytes_of(payload, 1 + len + PLN_MESSAGE_CLEAR_BYTES));
    return pln_mem_leave(client, is_late, PLN_OK);
}
