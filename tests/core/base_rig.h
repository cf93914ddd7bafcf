/* SPDX-License-Identifier: MIT
 *
 * base_rig.h - a store of record for tests of writes through: rows in memory, a rule that stores
 * and loads there, and failures to order.
 */
#ifndef PLN_TEST_BASE_RIG_H
#define PLN_TEST_BASE_RIG_H

#include "rig.h"

enum { MOST_ROWS = 32 };

struct row {
    char key[32], value[32];
    bool is_there, is_absent;
};

struct base {
    pthread_mutex_t lock;
    struct row rows[MOST_ROWS];
    size_t n_rows;
    _Atomic int n_calls, n_items, n_loads;
    _Atomic int status;       /* what the store returns; negative: it changes nothing, */
    _Atomic bool is_late;     /* or it does all the same */
    const char *fails;        /* this key fails alone */
    void (*before)(void);     /* once, in the next call of the store: before it has it, */
    void (*after)(void);      /* or after */
    void (*after_read)(void); /* once, in the next load */
    struct pln_store_item last;
};

extern struct rig rig;
extern struct base base;

#define A rig.caches[0]
#define B rig.caches[1]

/* n caches, of which `strategy` is the one of the keys "k:*" and "j:*"; the others' are aside. */
void base_open(size_t n, bool has_l2, uint8_t strategy);
void base_close(void);
/* The same in pieces, for caches over something else. */
void base_begin(void);
void base_join(struct pln_cache *cache, uint8_t strategy);
/* The rules again, with terms changed by `change`. */
void base_policy(struct pln_cache *cache, uint8_t strategy,
                 void (*change)(struct pln_terms *terms));
/* What a store and a loader do, for those who have their own. */
int base_store(void *arg, struct pln_store_item *items, size_t n);
void base_put(const char *key, const char *value); /* NULL: it goes */
/* NULL: there is none. */
const char *base_get(const char *key);
/* Reads it twice: it is what the base has. */
void base_expect(struct pln_cache *cache, const char *key);

#endif
