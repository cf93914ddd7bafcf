/* SPDX-License-Identifier: MIT
 *
 * memletters.c - writes that nobody could store, of the server in memory: letters.c, said in C.
 */
#include "mem.h"

static void free_letter(struct mem_letter *letter) {
    free(letter->write);
    free(letter);
}

/* Takes a letter out, which becomes the caller's. */
static struct mem_letter *unlist(struct mem_queue *queue, uint64_t ms, uint64_t seq) {
    struct mem_letter **at = &queue->first_letter;
    while (*at != NULL && ((*at)->letter.entry.ms != ms || (*at)->letter.entry.seq != seq)) {
        at = &(*at)->next;
    }
    struct mem_letter *letter = *at;
    if (letter != NULL) {
        *at = letter->next;
        queue->end_letter = *at == NULL ? at : queue->end_letter;
        queue->n_letters--;
    }
    return letter;
}

static void drop_oldest(struct space *space) {
    const struct pln_l2_entry *oldest = &space->queue.first_letter->letter.entry;
    struct mem_letter *letter = unlist(&space->queue, oldest->ms, oldest->seq);
    pln_mem_forget_last(space, letter->write);
    free_letter(letter);
}

void pln_mem_forget_letters(struct mem_queue *queue) {
    while (queue->first_letter != NULL) {
        struct mem_letter *next = queue->first_letter->next;
        free_letter(queue->first_letter);
        queue->first_letter = next;
    }
}

/* ---- one more ---- */

static int bury_locked(struct mem_client *client, const struct pln_l2_entry *entry,
                       unsigned attempts, const char *error, size_t most) {
    struct mem_queue *queue = &client->space->queue;
    size_t len = strlen(error);
    struct mem_letter *letter = malloc(sizeof *letter + len + 1);
    struct mem_write *write = letter != NULL ? pln_mem_unqueue(queue, entry->ms, entry->seq) : NULL;
    if (letter == NULL) {
        return pln_fail(PLN_ENOMEM, "l2: no memory for a letter");
    }
    if (write == NULL) {
        free(letter);
        return PLN_OK;
    }
    struct record *record = pln_mem_whose_last(client->space, write);
    if (record != NULL) {
        record->last.write = NULL;
    }
    pln_ms now = pln_mem_server_now(client);
    pln_mem_next_id(&queue->letter_ids, now);
    *letter = (struct mem_letter){.write = write,
                                  .letter = {.entry = write->entry,
                                             .write_ms = write->entry.ms,
                                             .write_seq = write->entry.seq,
                                             .attempts = attempts,
                                             .age = now}};
    letter->letter.entry.ms = queue->letter_ids.ms;
    letter->letter.entry.seq = queue->letter_ids.seq;
    letter->letter.entry.n_taken = 0;
    memcpy(letter->error, error, len + 1);
    letter->letter.error = pln_bytes_of(letter->error, len);
    *queue->end_letter = letter;
    queue->end_letter = &letter->next;
    queue->n_letters++;
    while (queue->n_letters > most) {
        drop_oldest(client->space);
    }
    return PLN_OK;
}

int pln_mem_bury(struct pln_l2 *l2, const struct pln_l2_taking *taking,
                 const struct pln_l2_entry *entry, unsigned attempts, const char *error,
                 size_t most, pln_ns deadline) {
    struct mem_client *client = pln_mem_client(l2);
    bool is_late;
    int status = pln_mem_enter(client, MEM_FREES, deadline, &is_late);
    if (status != PLN_OK) {
        return status;
    }
    status = pln_mem_leads(client, taking) ? bury_locked(client, entry, attempts, error, most)
                                           : PLN_PENDING;
    return pln_mem_leave(client, is_late, status);
}

/* ---- what is there ---- */

static int list_locked(struct mem_client *client, uint64_t after_ms, uint64_t after_seq,
                       size_t most, struct pln_l2_letters *letters) {
    const struct mem_queue *queue = &client->space->queue;
    size_t n = 0, bytes = 0;
    struct pln_l2_letter *found = calloc(queue->n_letters + 1, sizeof *found);
    if (found == NULL) {
        return pln_fail(PLN_ENOMEM, "l2: no memory for letters");
    }
    for (const struct mem_letter *at = queue->first_letter;
         at != NULL && n < most && bytes < PLN_QUEUE_BYTES; at = at->next) {
        const struct pln_l2_entry *entry = &at->letter.entry;
        if (entry->ms > after_ms || (entry->ms == after_ms && entry->seq > after_seq)) {
            pln_ms age = pln_mem_server_now(client) - at->letter.age;
            found[n] = at->letter;
            found[n++].age = age < 0 ? 0 : age;
            bytes += entry->key.len + entry->value.len;
        }
    }
    int status = pln_letters_pack(found, n, letters);
    free(found);
    return status;
}

int pln_mem_letters(struct pln_l2 *l2, uint64_t after_ms, uint64_t after_seq, size_t most,
                    pln_ns deadline, struct pln_l2_letters *letters) {
    struct mem_client *client = pln_mem_client(l2);
    bool is_late;
    int status = pln_mem_enter(client, MEM_READS, deadline, &is_late);
    if (status != PLN_OK) {
        return status;
    }
    status = list_locked(client, after_ms, after_seq, most, letters);
    status = pln_mem_leave(client, is_late, status);
    if (status != PLN_OK) {
        pln_l2_letters_fini(letters);
    }
    return status;
}

static int end_locked(struct mem_client *client, uint64_t ms, uint64_t seq, bool again) {
    struct mem_queue *queue = &client->space->queue;
    struct mem_letter *letter = unlist(queue, ms, seq);
    if (letter == NULL) {
        return PLN_MISS;
    }
    struct record *record = pln_mem_whose_last(client->space, letter->write);
    int status = !again || record != NULL ? PLN_OK : PLN_NOT_STORED;
    if (!again) {
        pln_mem_forget_last(client->space, letter->write);
    } else if (record != NULL) {
        pln_mem_queue_add(queue, record, letter->write, pln_mem_server_now(client));
        letter->write = NULL; /* the queue's again */
    }
    free_letter(letter);
    return status;
}

int pln_mem_letter_end(struct pln_l2 *l2, uint64_t ms, uint64_t seq, bool again, pln_ns deadline) {
    struct mem_client *client = pln_mem_client(l2);
    bool is_late;
    int status = pln_mem_enter(client, MEM_FREES, deadline, &is_late);
    return status != PLN_OK ? status
                            : pln_mem_leave(client, is_late, end_locked(client, ms, seq, again));
}
