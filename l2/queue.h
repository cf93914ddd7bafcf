/* SPDX-License-Identifier: MIT
 *
 * queue.h - writes that wait to be stored elsewhere; a part of l2.h.
 *
 * Names in Redis, for a namespace N: N:queue the writes in the order in which they were
 * acknowledged (a stream, with a consumer group), N:queue:last which entry is a key's last one (a
 * hash, for as long as it waits), N:queue:lead who stores just now (a token, and its end),
 * N:queue:dead what could not be stored (a stream). They lie on one server, and so must the values:
 * a cluster needs a namespace in braces, and independent servers (redis+ring) are refused.
 *
 * One instance at a time takes from the queue, so what is stored is stored in order. The right to
 * do so ends by itself; whoever takes it next finds what its predecessor had taken and not ended.
 */
#ifndef PLN_L2_QUEUE_H
#define PLN_L2_QUEUE_H

#include "l2.h"
#include "swap.h"

struct pln_l2_write {
    enum pln_l2_write_kind { PLN_L2_WRITE_SET, PLN_L2_WRITE_REMOVE, PLN_L2_WRITE_SWAP } kind;
    const struct pln_l2_item *item; /* of a set; in the tier as the queue */
    struct pln_bytes value;         /* of a set and a swap: for the queue, uncompressed */
    uint32_t set_flags;             /* of a set: PLN_SET_NX, PLN_SET_XX */
    const struct pln_l2_swap *swap; /* of a swap */
    size_t most;                    /* entries that may wait; with so many it is refused */
};

/* Does to the tier what pln_l2_set(), _remove() or _swap() would, tells the others, and puts the
 * write into the queue, in one step of the server's.
 * Returns: as these; PLN_EBUSY where the queue is full: nothing was done. *value as from
 * pln_l2_swap(), of a swap alone. */
static inline int pln_l2_write(struct pln_l2 *l2, const struct pln_hashed *key,
                               const struct pln_l2_write *write, pln_ns deadline,
                               struct pln_l2_value *value) {
    *value = (struct pln_l2_value){.memory = NULL};
    return l2->ops->write(l2, key, write, deadline, value);
}

/* One write of the queue. */
struct pln_l2_entry {
    uint64_t ms, seq; /* its id in the stream: "ms-seq" */
    bool is_removal;
    bool is_absent;
    uint8_t format;
    unsigned n_taken; /* how often it was taken, this time included */
    struct pln_bytes key, value;
};

/* Entries taken; their bytes lie in `memory`, which pln_l2_entries_fini() frees. */
struct pln_l2_entries {
    struct pln_l2_entry *entries;
    size_t n;
    void *memory;
};
void pln_l2_entries_fini(struct pln_l2_entries *entries);

struct pln_l2_taking {
    uint8_t token[16]; /* of who takes, random; the same for all calls of one lead */
    pln_ms lead;       /* for so long nobody else may; each call begins that anew */
    bool is_first;     /* hand out again what was taken and not ended; else only what is new */
    uint64_t after_ms, after_seq; /* of is_first: entries after this one; 0-0 to begin with */
    size_t most;                  /* entries */
};

struct pln_l2_queue_state;
struct pln_l2_letters;

/* One function for each of those below, as they stand there. */
struct pln_l2_queue_ops {
    int (*check)(struct pln_l2 *);
    int (*take)(struct pln_l2 *, const struct pln_l2_taking *, pln_ns deadline,
                struct pln_l2_entries *, pln_ms *left);
    int (*hold)(struct pln_l2 *, const struct pln_l2_taking *, pln_ns deadline);
    int (*end)(struct pln_l2 *, const struct pln_l2_taking *, const struct pln_l2_entry *, size_t n,
               pln_ns deadline);
    int (*bury)(struct pln_l2 *, const struct pln_l2_taking *, const struct pln_l2_entry *,
                unsigned attempts, const char *error, size_t most, pln_ns deadline);
    void (*leave)(struct pln_l2 *, const struct pln_l2_taking *, pln_ns deadline);
    int (*find)(struct pln_l2 *, const struct pln_hashed *, pln_ns deadline,
                struct pln_l2_entries *);
    int (*state)(struct pln_l2 *, pln_ns deadline, struct pln_l2_queue_state *);
    int (*letters)(struct pln_l2 *, uint64_t after_ms, uint64_t after_seq, size_t most,
                   pln_ns deadline, struct pln_l2_letters *);
    int (*letter_end)(struct pln_l2 *, uint64_t ms, uint64_t seq, bool again, pln_ns deadline);
};

/* Whether the tier, as it was opened, can have a queue. Returns: PLN_OK; PLN_EINVAL, naming the
 * cure: in a cluster a namespace in braces, and never independent servers (redis+ring). The others
 * below, and pln_l2_write(), return that too. */
int pln_l2_queue_check(struct pln_l2 *l2);
/* Takes the next entries, in order; fewer than `most` where they are big. With is_first it comes to
 * the lead where nobody has it; else it must have it still. What is no write of ours goes to the
 * dead letters. Returns: PLN_OK (perhaps none); PLN_PENDING where another instance has the lead, or
 * it was lost: *left is when to ask again, with is_first. */
int pln_l2_queue_take(struct pln_l2 *l2, const struct pln_l2_taking *taking, pln_ns deadline,
                      struct pln_l2_entries *entries, pln_ms *left);
/* Keeps the lead while a store is at work. Returns: PLN_OK; PLN_PENDING where it is lost. */
int pln_l2_queue_hold(struct pln_l2 *l2, const struct pln_l2_taking *taking, pln_ns deadline);
/* These are stored, or have become needless: they are taken out. Returns: PLN_OK; PLN_PENDING where
 * the lead is lost: nothing was done. */
int pln_l2_queue_end(struct pln_l2 *l2, const struct pln_l2_taking *taking,
                     const struct pln_l2_entry *entries, size_t n, pln_ns deadline);
/* This one can never be stored: it goes to the dead letters, of which the oldest beyond `most` go,
 * and out of the queue. Returns likewise. */
int pln_l2_queue_bury(struct pln_l2 *l2, const struct pln_l2_taking *taking,
                      const struct pln_l2_entry *entry, unsigned attempts, const char *error,
                      size_t most, pln_ns deadline);
/* Gives the lead back, where it is still had. */
void pln_l2_queue_leave(struct pln_l2 *l2, const struct pln_l2_taking *taking, pln_ns deadline);

/* The last write of a key that waits: what a loader would not find in the store yet. Returns:
 * PLN_OK (one entry); PLN_MISS. */
int pln_l2_queue_find(struct pln_l2 *l2, const struct pln_hashed *key, pln_ns deadline,
                      struct pln_l2_entries *entry);

struct pln_l2_queue_state {
    uint64_t depth, dead;
    pln_ms oldest;                /* age of the first that waits */
    uint64_t last_ms, last_seq;   /* the entry added last, ever */
    uint64_t first_ms, first_seq; /* the first that waits; 0-0: none does */
    bool may_evict;               /* the server may drop the queue when its memory is full */
};
int pln_l2_queue_state(struct pln_l2 *l2, pln_ns deadline, struct pln_l2_queue_state *state);

struct pln_l2_letter {
    struct pln_l2_entry entry; /* its id is the letter's */
    uint64_t write_ms, write_seq;
    unsigned attempts;
    pln_ms age;
    struct pln_bytes error;
};
struct pln_l2_letters {
    struct pln_l2_letter *letters;
    size_t n;
    void *memory;
};
void pln_l2_letters_fini(struct pln_l2_letters *letters);
/* The dead letters after an id, oldest first. */
int pln_l2_letters(struct pln_l2 *l2, uint64_t after_ms, uint64_t after_seq, size_t most,
                   pln_ns deadline, struct pln_l2_letters *letters);
/* Ends a letter; `again`: by a new place at the queue's end, unless the key was written behind or
 * through since. Returns: PLN_OK; PLN_NOT_STORED (it was dropped, since the key has been written
 * since); PLN_EINVAL (what is no write of ours cannot be tried again, and stays); PLN_MISS. */
int pln_l2_letter_end(struct pln_l2 *l2, uint64_t ms, uint64_t seq, bool again, pln_ns deadline);

/* ---- written through ---- */

/* As pln_l2_set() (an item) or pln_l2_remove() (NULL), for a write whose store was begun at
 * `began`, a point of pln_clock_precise(). Where another such write of the key ended since then (or
 * may have, since the command was long on its way), nobody knows which of the two the store has:
 * then the value is removed instead, and the key is marked, so that a third one that began before
 * sees it. A removal leaves such a mark always. The mark, and a value that was stored so, can be
 * seen for a minute, however short the value's life: an end that nobody can see any more may be
 * that of a newer write. Plain keys are removed by either, since their values do not tell when they
 * were made.
 * Returns: as these; PLN_NOT_STORED where the value was removed instead. */
static inline int pln_l2_through(struct pln_l2 *l2, const struct pln_hashed *key,
                                 const struct pln_l2_item *item, pln_ns began, pln_ns deadline) {
    return l2->ops->through(l2, key, item, began, deadline);
}

#endif
