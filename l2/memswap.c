/* SPDX-License-Identifier: MIT
 *
 * memswap.c - the tier in memory: what depends on the value that is there.
 */
#include "mem.h"

/* ---- swap ---- */

int pln_mem_swap_locked(struct mem_client *client, const struct pln_hashed *key,
                        const struct pln_l2_swap *swap, struct pln_l2_value *value) {
    struct pln_l2_value present = {.memory = NULL};
    struct record *record = pln_mem_find_record(client->space, key->key);
    struct pln_l2_item item = *swap->item;
    uint64_t clock = client->space->clock;
    (void) pln_mem_read_record(client, record, &present);
    int status = pln_swap_compare(swap, &present);
    if (status == PLN_NOT_STORED) {
        *value = present;
        return status;
    }
    if (status == PLN_OK) {
        if (swap->expects) {
            clock = present.item.tag_clock;
            item.tags = present.item.tags;
            item.n_tags = present.item.n_tags;
            item.fresh_left = swap->keeps_life ? present.item.fresh_left : item.fresh_left;
            item.life_left = swap->keeps_life ? present.item.life_left : item.life_left;
        }
        status = pln_mem_store(client, key->key, &item, clock);
    }
    if (status == PLN_OK) {
        record = pln_mem_find_record(client->space, key->key);
        pln_mem_post_locked(client, PLN_MESSAGE_KEY, key->key);
        (void) pln_mem_read_record(client, record, value);
    }
    pln_l2_value_fini(&present);
    return status;
}

int pln_mem_swap(struct pln_l2 *l2, const struct pln_hashed *key, const struct pln_l2_swap *swap,
                 pln_ns deadline, struct pln_l2_value *value) {
    struct mem_client *client = pln_mem_client(l2);
    bool is_late;
    int status = pln_envelope_check(swap->item);
    if (status == PLN_OK) {
        status = pln_mem_enter(client, MEM_WRITES, deadline, &is_late);
    }
    if (status != PLN_OK) {
        return status;
    }
    status = pln_mem_leave(client, is_late, pln_mem_swap_locked(client, key, swap, value));
    if (status < 0) {
        pln_l2_value_fini(value);
    }
    return status;
}

/* ---- redo ---- */

/* Does what was to be done at a moment, to a value that is older, newer, or of about that time. */
static int redo_locked(struct mem_client *client, const struct pln_hashed *key,
                       const struct pln_l2_redo *redo, const struct pln_l2_value *value) {
    struct record *record = pln_mem_find_record(client->space, key->key);
    pln_ms later = redo->age - value->item.age;
    bool is_there = value->memory != NULL;
    bool creates = !is_there && redo->heard != 0;
    if (creates && redo->heard != client->space->number) {
        return PLN_PENDING;
    }
    if (record != NULL) {
        record->is_leased = false;
    }
    if (is_there && later > PLN_REDO_DOUBT) {
        return PLN_NOT_STORED;
    }
    if (creates || (redo->kind == PLN_REDO_SET && is_there && later < -PLN_REDO_DOUBT)) {
        return pln_mem_store(client, key->key, redo->item,
                             is_there ? value->item.tag_clock : client->space->clock);
    }
    if (redo->kind == PLN_REDO_EXPIRE && is_there && record != NULL) {
        pln_envelope_expire(record->envelope, pln_mem_server_now(client));
    } else if (redo->kind != PLN_REDO_EXPIRE && record != NULL) {
        pln_mem_drop_value(record);
    }
    return PLN_OK;
}

uint64_t pln_mem_heard(struct pln_l2 *l2, const struct pln_hashed *key) {
    (void) key;
    return pln_feed_heard(&pln_mem_client(l2)->feed);
}

int pln_mem_redo(struct pln_l2 *l2, const struct pln_hashed *key, const struct pln_l2_redo *redo,
                 pln_ns deadline) {
    struct mem_client *client = pln_mem_client(l2);
    struct pln_l2_value value = {0};
    bool is_late;
    int result = redo->kind == PLN_REDO_SET ? pln_envelope_check(redo->item) : PLN_OK;
    if (result == PLN_OK) {
        result = pln_mem_enter(client, redo->kind == PLN_REDO_REMOVE ? MEM_FREES : MEM_WRITES,
                               deadline, &is_late);
    }
    if (result != PLN_OK) {
        return result;
    }
    (void) pln_mem_read_record(client, pln_mem_find_record(client->space, key->key), &value);
    result = redo_locked(client, key, redo, &value);
    pln_l2_value_fini(&value);
    if (result == PLN_OK || result == PLN_NOT_STORED) {
        pln_mem_post_locked(
            client, redo->kind == PLN_REDO_EXPIRE ? PLN_MESSAGE_EXPIRE : PLN_MESSAGE_KEY, key->key);
    }
    return pln_mem_leave(client, is_late, result);
}
