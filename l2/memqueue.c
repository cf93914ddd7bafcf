/* SPDX-License-Identifier: MIT
 *
 * memqueue.c - writes that wait, of the server in memory: behind.c, take.c and through.c, said in
 * C. Time is the clock of the client that acts, as for values; but what was written through is told
 * apart by the real one, as its store's begin is a point of that.
 */
#include "mem.h"

/* ---- the queue ---- */

void pln_mem_queue_init(struct mem_queue *queue) {
    *queue = (struct mem_queue){.end = &queue->first, .end_letter = &queue->first_letter};
}

void pln_mem_next_id(struct mem_ids *ids, pln_ms now) {
    bool is_new = (uint64_t) now > ids->ms;
    ids->seq = is_new ? 0 : ids->seq + 1;
    ids->ms = is_new ? (uint64_t) now : ids->ms;
}

struct record *pln_mem_whose_last(struct space *space, const struct mem_write *write) {
    struct record *record = pln_mem_find_record(space, write->entry.key);
    bool is_last = record != NULL && record->last.ms == write->entry.ms &&
                   record->last.seq == write->entry.seq;
    return is_last ? record : NULL;
}

void pln_mem_forget_last(struct space *space, const struct mem_write *write) {
    struct record *record = pln_mem_whose_last(space, write);
    if (record != NULL) {
        record->last = (struct mem_last){.ms = 0};
    }
}

void pln_mem_queue_add(struct mem_queue *queue, struct record *record, struct mem_write *write,
                       pln_ms now) {
    pln_mem_next_id(&queue->ids, now);
    record->last = (struct mem_last){queue->ids.ms, queue->ids.seq, write};
    write->entry.ms = queue->ids.ms;
    write->entry.seq = queue->ids.seq;
    write->entry.n_taken = 0;
    write->next = NULL;
    *queue->end = write;
    queue->end = &write->next;
    queue->n++;
}

struct mem_write *pln_mem_unqueue(struct mem_queue *queue, uint64_t ms, uint64_t seq) {
    struct mem_write **at = &queue->first;
    while (*at != NULL && ((*at)->entry.ms != ms || (*at)->entry.seq != seq)) {
        at = &(*at)->next;
    }
    struct mem_write *write = *at;
    if (write != NULL) {
        *at = write->next;
        queue->end = *at == NULL ? at : queue->end;
        queue->n--;
    }
    return write;
}

void pln_mem_queue_forget(struct mem_queue *queue) {
    while (queue->first != NULL) {
        struct mem_write *after = queue->first->next;
        free(queue->first);
        queue->first = after;
    }
    pln_mem_forget_letters(queue);
    pln_mem_queue_init(queue);
}

/* ---- in ---- */

static struct mem_write *new_write(const struct pln_hashed *key, const struct pln_l2_write *write) {
    size_t value_len = write->kind == PLN_L2_WRITE_REMOVE ? 0 : write->value.len;
    const struct pln_l2_item *item = write->kind == PLN_L2_WRITE_SWAP ? write->swap->item
                                                                      : write->item;
    struct mem_write *made = malloc(sizeof *made + key->key.len + value_len);
    if (made == NULL) {
        return NULL;
    }
    made->entry = (struct pln_l2_entry){
        .is_removal = write->kind == PLN_L2_WRITE_REMOVE,
        .is_absent = write->kind == PLN_L2_WRITE_SET && item->is_absent,
        .format = write->kind == PLN_L2_WRITE_REMOVE ? 0 : item->format,
        .key = pln_bytes_of(made->bytes, key->key.len),
        .value = pln_bytes_of(made->bytes + key->key.len, value_len)};
    if (key->key.len > 0) {
        memcpy(made->bytes, key->key.data, key->key.len);
    }
    if (value_len > 0) {
        memcpy(made->bytes + key->key.len, write->value.data, value_len);
    }
    return made;
}

/* What the write does to the tier itself. */
static int write_locked(struct mem_client *client, const struct pln_hashed *key,
                        const struct pln_l2_write *write, struct pln_l2_value *value) {
    switch (write->kind) {
    case PLN_L2_WRITE_SET:
        return pln_mem_set_locked(client, key->key, write->item, write->set_flags);
    case PLN_L2_WRITE_SWAP:
        return pln_mem_swap_locked(client, key, write->swap, value);
    case PLN_L2_WRITE_REMOVE:
        break;
    }
    pln_mem_remove_locked(client, key->key);
    pln_mem_post_locked(client, PLN_MESSAGE_KEY, key->key);
    return PLN_OK;
}

static int queue_locked(struct mem_client *client, const struct pln_hashed *key,
                        const struct pln_l2_write *write, struct pln_l2_value *value) {
    struct mem_queue *queue = &client->space->queue;
    if (queue->n >= write->most) {
        return pln_queue_full(write->most);
    }
    struct mem_write *made = new_write(key, write);
    struct record *record = pln_mem_make_record(client->space, key->key);
    if (made == NULL || record == NULL) {
        free(made);
        return pln_fail(PLN_ENOMEM, "l2: no memory for a write that waits");
    }
    int status = write_locked(client, key, write, value);
    if (status == PLN_OK) {
        pln_mem_queue_add(queue, record, made, pln_mem_server_now(client));
    } else {
        free(made);
    }
    return status;
}

int pln_mem_write(struct pln_l2 *l2, const struct pln_hashed *key, const struct pln_l2_write *write,
                  pln_ns deadline, struct pln_l2_value *value) {
    struct mem_client *client = pln_mem_client(l2);
    bool is_late;
    const struct pln_l2_item *item = write->kind == PLN_L2_WRITE_SWAP ? write->swap->item
                                                                      : write->item;
    int status = write->kind == PLN_L2_WRITE_REMOVE ? PLN_OK : pln_envelope_check(item);
    if (status == PLN_OK) {
        status = pln_mem_enter(client, write->kind == PLN_L2_WRITE_REMOVE ? MEM_FREES : MEM_WRITES,
                               deadline, &is_late);
    }
    if (status != PLN_OK) {
        return status;
    }
    status = pln_mem_leave(client, is_late, queue_locked(client, key, write, value));
    if (status < 0) {
        pln_l2_value_fini(value);
    }
    return status;
}

/* ---- through ---- */

static int through_locked(struct mem_client *client, const struct pln_hashed *key,
                          const struct pln_l2_item *item, pln_ns began) {
    struct record *record = pln_mem_make_record(client->space, key->key);
    int status = PLN_OK;
    if (record == NULL) {
        return pln_fail(PLN_ENOMEM, "l2: no memory for a value");
    }
    bool is_waiting = record->last.write != NULL; /* it came while this was stored */
    bool is_mixed = item != NULL && (record->made_at > began || key->is_plain || is_waiting);
    if (item != NULL && !is_mixed) {
        status = pln_mem_store(client, key->key, item, client->space->clock);
        record->made_at = pln_clock_precise();
    } else {
        pln_mem_remove_locked(client, key->key);
        record->made_at = pln_clock_precise();
    }
    if (!is_waiting) { /* of a dead letter, if any, which this has written over */
        record->last = (struct mem_last){.ms = 0};
    }
    pln_mem_post_locked(client, PLN_MESSAGE_KEY, key->key);
    return status == PLN_OK && is_mixed ? PLN_NOT_STORED : status;
}

int pln_mem_through(struct pln_l2 *l2, const struct pln_hashed *key, const struct pln_l2_item *item,
                    pln_ns began, pln_ns deadline) {
    struct mem_client *client = pln_mem_client(l2);
    bool is_late;
    int status = item != NULL ? pln_envelope_check(item) : PLN_OK;
    if (status == PLN_OK) {
        status = pln_mem_enter(client, item == NULL ? MEM_FREES : MEM_WRITES, deadline, &is_late);
    }
    return status != PLN_OK
               ? status
               : pln_mem_leave(client, is_late, through_locked(client, key, item, began));
}

/* ---- out ---- */

static bool is_led(struct mem_client *client) {
    return client->space->queue.lead_until > pln_mem_server_now(client);
}

bool pln_mem_leads(struct mem_client *client, const struct pln_l2_taking *taking) {
    struct mem_queue *queue = &client->space->queue;
    bool leads = is_led(client) && memcmp(queue->lead, taking->token, sizeof queue->lead) == 0;
    if (leads) {
        queue->lead_until = pln_after(pln_mem_server_now(client), taking->lead);
    }
    return leads;
}

static bool is_after(const struct pln_l2_entry *entry, const struct pln_l2_taking *taking) {
    return entry->ms > taking->after_ms ||
           (entry->ms == taking->after_ms && entry->seq > taking->after_seq);
}

static int hand_out_locked(struct mem_client *client, const struct pln_l2_taking *taking,
                           struct pln_l2_entries *entries) {
    size_t n = 0, bytes = 0;
    struct pln_l2_entry *found = calloc(client->space->queue.n + 1, sizeof *found);
    if (found == NULL) {
        return pln_fail(PLN_ENOMEM, "l2: no memory for writes");
    }
    for (struct mem_write *at = client->space->queue.first;
         at != NULL && n < taking->most && bytes < PLN_QUEUE_BYTES; at = at->next) {
        bool was_taken = at->entry.n_taken > 0;
        if (was_taken == taking->is_first && (!was_taken || is_after(&at->entry, taking))) {
            at->entry.n_taken++;
            found[n++] = at->entry;
            bytes += at->entry.key.len + at->entry.value.len;
        }
    }
    int status = pln_entries_pack(found, n, entries);
    free(found);
    return status;
}

static int take(struct pln_l2 *l2, const struct pln_l2_taking *taking, pln_ns deadline,
                struct pln_l2_entries *entries, pln_ms *left) {
    struct mem_client *client = pln_mem_client(l2);
    struct mem_queue *queue = &client->space->queue;
    bool is_late;
    int status = pln_mem_enter(client, MEM_FREES, deadline, &is_late);
    if (status != PLN_OK) {
        return status;
    }
    if (!pln_mem_leads(client, taking)) {
        bool is_free = !is_led(client);
        *left = is_free ? 0 : queue->lead_until - pln_mem_server_now(client);
        if (!is_free || !taking->is_first) {
            return pln_mem_leave(client, is_late, PLN_PENDING);
        }
        memcpy(queue->lead, taking->token, sizeof queue->lead);
        queue->lead_until = pln_after(pln_mem_server_now(client), taking->lead);
    }
    *left = 0;
    status = pln_mem_leave(client, is_late, hand_out_locked(client, taking, entries));
    if (status != PLN_OK) {
        pln_l2_entries_fini(entries);
    }
    return status;
}

static int hold(struct pln_l2 *l2, const struct pln_l2_taking *taking, pln_ns deadline) {
    struct mem_client *client = pln_mem_client(l2);
    bool is_late;
    int status = pln_mem_enter(client, MEM_FREES, deadline, &is_late);
    return status != PLN_OK ? status
                            : pln_mem_leave(client, is_late,
                                            pln_mem_leads(client, taking) ? PLN_OK : PLN_PENDING);
}

static void leave(struct pln_l2 *l2, const struct pln_l2_taking *taking, pln_ns deadline) {
    struct mem_client *client = pln_mem_client(l2);
    bool is_late;
    if (pln_mem_enter(client, MEM_FREES, deadline, &is_late) == PLN_OK) {
        if (pln_mem_leads(client, taking)) {
            client->space->queue.lead_until = 0;
        }
        (void) pln_mem_leave(client, is_late, PLN_OK);
    }
}

static int end(struct pln_l2 *l2, const struct pln_l2_taking *taking,
               const struct pln_l2_entry *entries, size_t n, pln_ns deadline) {
    struct mem_client *client = pln_mem_client(l2);
    struct mem_queue *queue = &client->space->queue;
    bool is_late;
    int status = n == 0 ? PLN_OK : pln_mem_enter(client, MEM_FREES, deadline, &is_late);
    if (status != PLN_OK || n == 0) {
        return status;
    }
    status = pln_mem_leads(client, taking) ? PLN_OK : PLN_PENDING;
    for (size_t i = 0; status == PLN_OK && i < n; i++) {
        struct mem_write *write = pln_mem_unqueue(queue, entries[i].ms, entries[i].seq);
        if (write != NULL) {
            pln_mem_forget_last(client->space, write);
            free(write);
        }
    }
    return pln_mem_leave(client, is_late, status);
}

/* ---- what is there ---- */

static int check(struct pln_l2 *l2) {
    (void) l2;
    return PLN_OK;
}

static int find(struct pln_l2 *l2, const struct pln_hashed *key, pln_ns deadline,
                struct pln_l2_entries *entry) {
    struct mem_client *client = pln_mem_client(l2);
    bool is_late;
    int status = pln_mem_enter(client, MEM_READS, deadline, &is_late);
    if (status != PLN_OK) {
        return status;
    }
    const struct record *record = pln_mem_find_record(client->space, key->key);
    bool is_there = record != NULL && record->last.write != NULL;
    status = is_there ? pln_entries_pack(&record->last.write->entry, 1, entry) : PLN_MISS;
    status = pln_mem_leave(client, is_late, status);
    if (status != PLN_OK) {
        pln_l2_entries_fini(entry);
    }
    return status;
}

static int state(struct pln_l2 *l2, pln_ns deadline, struct pln_l2_queue_state *to) {
    struct mem_client *client = pln_mem_client(l2);
    const struct mem_queue *queue = &client->space->queue;
    bool is_late;
    int status = pln_mem_enter(client, MEM_READS, deadline, &is_late);
    if (status != PLN_OK) {
        return status;
    }
    *to = (struct pln_l2_queue_state){.depth = queue->n,
                                      .dead = queue->n_letters,
                                      .last_ms = queue->ids.ms,
                                      .last_seq = queue->ids.seq};
    if (queue->first != NULL) {
        pln_ms age = pln_mem_server_now(client) - (pln_ms) queue->first->entry.ms;
        to->oldest = age < 0 ? 0 : age;
        to->first_ms = queue->first->entry.ms;
        to->first_seq = queue->first->entry.seq;
    }
    return pln_mem_leave(client, is_late, PLN_OK);
}

const struct pln_l2_queue_ops pln_mem_queue_ops = {
    .check = check,
    .take = take,
    .hold = hold,
    .end = end,
    .bury = pln_mem_bury,
    .leave = leave,
    .find = find,
    .state = state,
    .letters = pln_mem_letters,
    .letter_end = pln_mem_letter_end,
};
