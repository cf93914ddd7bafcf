/* SPDX-License-Identifier: MIT
 *
 * queued.h - private to this folder: writes that wait, in Redis (behind.c, take.c, letters.c,
 * through.c) and in memory (memqueue.c, memletters.c); what both need is in queue.c.
 */
#ifndef PLN_L2_QUEUED_H
#define PLN_L2_QUEUED_H

#include "queue.h"
#include "transport.h"

enum {
    PLN_QUEUE_BYTES = 8 << 20, /* of entries that are handed out at once, about */
    PLN_QUEUE_MOST = 10000,    /* of them */
    PLN_MARK_MS = 60000,       /* so long can be seen that a key was written through */
    PLN_MARK = 'T',            /* in the place of an envelope's first byte; see queue_scripts.h */
};

/* ---- queue.c ---- */

/* Copies entries, or letters, whose bytes are somebody's, into memory of their own. Return: PLN_OK,
 * PLN_ENOMEM. */
int pln_entries_pack(const struct pln_l2_entry *from, size_t n, struct pln_l2_entries *to);
int pln_letters_pack(const struct pln_l2_letter *from, size_t n, struct pln_l2_letters *to);
/* A bound, for a script. */
static inline int64_t pln_queue_most(size_t most) {
    return most > INT64_MAX ? INT64_MAX : (int64_t) most;
}
/* Says that the queue is full. */
int pln_queue_full(size_t most);

/* ---- of Redis ---- */

struct pln_redis;
struct pln_script_call;

/* When a client's own writes through ended, each in the place of its key's hash, and with what
 * clock: all that has this clock or a lower one was there before. */
enum { PLN_N_THROUGHS = 256 };
struct pln_throughs {
    pthread_mutex_t lock;
    struct pln_through_end {
        uint64_t hash, clock;
        pln_ns at;
    } ends[PLN_N_THROUGHS];
};

extern const struct pln_l2_queue_ops pln_redis_queue_ops;

/* Runs a script on the queue, where there can be one. */
int pln_queue_run(struct pln_l2 *l2, const struct pln_script_call *call, pln_ns deadline,
                  struct pln_reply **reply);
/* The same with one that answers with a number. */
int pln_queue_run_number(struct pln_l2 *l2, const struct pln_script_call *call, pln_ns deadline,
                         int64_t *number);
int pln_queue_check(struct pln_l2 *l2);
/* The queue's and its last writes' names, for a script that has them. */
void pln_queue_add_names(struct pln_redis *redis, struct pln_script_call *call);
/* An id, "ms-seq". */
enum { PLN_ID_TEXT = 44 };
void pln_id_write(uint64_t ms, uint64_t seq, char text[PLN_ID_TEXT]);
bool pln_id_read(struct pln_bytes text, uint64_t *ms, uint64_t *seq);
/* An entry from its fields, of which it points to the bytes; false where it is no write of ours:
 * then it has what could be made of it. */
bool pln_entry_read(const struct pln_reply *fields, struct pln_l2_entry *entry);
/* The same of one as the script gives it, with its id and how often it was taken; false where that
 * makes no sense. */
bool pln_taken_read(const struct pln_reply *reply, struct pln_l2_entry *entry, bool *is_ours);
/* Letters, as the script gives them: copies, or PLN_EL2 where they make no sense. */
int pln_letters_read(const struct pln_reply *reply, struct pln_l2_letters *letters);
/* The field that stands behind this name; empty where there is none. */
struct pln_bytes pln_field(const struct pln_reply *fields, const char *name);

/* Says that an answer makes no sense. */
int pln_queue_no_answer(const char *command);

int pln_redis_write(struct pln_l2 *l2, const struct pln_hashed *key,
                    const struct pln_l2_write *write, pln_ns deadline, struct pln_l2_value *value);
int pln_redis_write_swap(struct pln_l2 *l2, const struct pln_hashed *key,
                         const struct pln_l2_write *write, pln_ns deadline,
                         struct pln_l2_value *value);
int pln_queue_find(struct pln_l2 *l2, const struct pln_hashed *key, pln_ns deadline,
                   struct pln_l2_entries *found);
int pln_queue_state_of(struct pln_l2 *l2, pln_ns deadline, struct pln_l2_queue_state *to);
int pln_redis_through(struct pln_l2 *l2, const struct pln_hashed *key,
                      const struct pln_l2_item *item, pln_ns began, pln_ns deadline);
int pln_queue_letters(struct pln_l2 *l2, uint64_t after_ms, uint64_t after_seq, size_t most,
                      pln_ns deadline, struct pln_l2_letters *letters);
int pln_queue_letter_end(struct pln_l2 *l2, uint64_t ms, uint64_t seq, bool again, pln_ns deadline);

#endif
