/* SPDX-License-Identifier: MIT
 *
 * store_rig.h - a store of record in memory: what it has of each key, in which order it came, and
 * how it fails.
 */
#ifndef PLN_TEST_STORE_RIG_H
#define PLN_TEST_STORE_RIG_H

#include "rig.h"

enum { DB_ROWS = 64, DB_TEXT = 64 };

struct db {
    pthread_mutex_t lock; /* over all but what a test sets before */
    struct row {
        char key[DB_TEXT], value[DB_TEXT];
        bool is_there;
        uint64_t version;
        unsigned n_writes;
    } rows[DB_ROWS];
    size_t n_rows;
    char log[4096];       /* "a=1 b- c=2", as it came; what does not fit is left out */
    pthread_mutex_t gate; /* held by a test: the store waits for it */
    _Atomic unsigned n_calls, n_items;
    _Atomic int status;         /* of each call: negative, it takes nothing */
    const char *_Atomic poison; /* a value that it never takes; likewise the next, not yet */
    const char *_Atomic bad;
    _Atomic bool is_versioned; /* what is older than what is there is left out */
    _Atomic bool saw_old;      /* a write came behind a later one of its key */
};

void db_init(struct db *db);
void db_fini(struct db *db);
/* A pln_store. */
int db_store(void *arg, struct pln_store_item *items, size_t n);
/* Checks what a key has; NULL: nothing. */
void db_expect(struct db *db, const char *key, const char *value);
/* Waits until it has that. */
void db_await(struct db *db, const char *key, const char *value);

#endif
