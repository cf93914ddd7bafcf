/* SPDX-License-Identifier: MIT
 *
 * news.h - private to core: ops, as the files of perilune_async.h share them.
 *
 *   news.c   the descriptor, and an op's life
 *   async.c  a get
 *   task.c   what a worker does: a get of many, and calls
 */
#ifndef PLN_NEWS_H
#define PLN_NEWS_H

#include "engine.h"

/* What one kind of op does. */
struct pln_op_kind {
    /* Moves it on, where it is not ready. */
    enum pln_op_state (*look)(struct pln_op *op);
    /* Lets go of all that is the cache's: it was freed, or closed. Not in a forked child. */
    void (*end)(struct pln_op *op);
};

struct pln_op {
    const struct pln_op_kind *kind;
    struct pln_news *news;     /* a reference */
    struct pln_op *next, **at; /* of those of the news that have not ended */
    bool has_news;             /* not seen yet; under the news' lock */
    bool has_ended;            /* likewise */
    bool is_held;  /* likewise: a worker is at it, and frees it where it has ended and: */
    bool is_freed; /* likewise */
    bool is_ready; /* the owner's, as all below */
    int status;
    pln_ns until;             /* look again then */
    struct pln_result result; /* its value is the op's until it is given away */
    char *text;               /* of a failure; NULL: there was no memory for it, or none */
};

/* Lists a new op, zero but for its kind. */
void pln_op_begin(struct pln_op *op, struct pln_news *news, const struct pln_op_kind *kind);
/* It has something new. Threads: any. */
void pln_op_tell(struct pln_op *op);
/* By the owner: it is ready; keeps the text of a failure. */
void pln_op_ready(struct pln_op *op, int status);
/* Around what a worker does with it. The first is the owner's. The second tells; after it nothing
 * of the op may be touched. */
void pln_op_hold(struct pln_op *op);
void pln_op_let_go(struct pln_op *op);
bool pln_op_is_held(struct pln_op *op);
/* For an owner who asks how it ended: PLN_OK, with the text of its failure put back; PLN_PENDING;
 * PLN_ECLOSED. */
int pln_op_ended(struct pln_op *op);

struct pln_cache *pln_news_cache(const struct pln_news *news);
/* PLN_ECLOSED in a child of the process that made them. */
int pln_news_check(const struct pln_news *news);
/* Whether ops have to do what they do in the thread that looks. */
bool pln_news_has_no_threads(const struct pln_news *news);

#endif
