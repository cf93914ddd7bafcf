/* SPDX-License-Identifier: MIT
 *
 * crash_store.c - the store of crash.c: one transaction for a call. It has bad days, refuses
 * poison, and is where a process may be made to end: see enum crash_point.
 */
#include "crash.h"

#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

/* Of a hundred calls, and items, so many fail, and go well another time. */
enum { BAD_CALLS = 3, BAD_ITEMS = 1 };

static void pass(const struct crash_store *store, int point) {
    struct crash_board *board = store->crash->board;
    int armed = point;
    if (store->worker >= 0 &&
        atomic_compare_exchange_strong(&board->armed, &armed, CRASH_NOWHERE)) {
        atomic_store(&board->hit, 1 + store->worker);
        raise(atomic_load(&board->signal));
    }
}

static void text_of(struct pln_bytes bytes, char *text, size_t size) {
    snprintf(text, size, "%.*s", (int) bytes.len, (const char *) bytes.data);
}

static bool is_poison(const struct pln_store_item *item) {
    return item->key.len > 6 && memcmp(item->key.data, "poison", 6) == 0;
}

/* In order, nothing of a key may be stored after what failed. */
static bool is_behind_a_failure(const struct crash_store *store, const struct pln_store_item *items,
                                size_t i) {
    for (size_t j = 0; store->crash->in_order && j < i; j++) {
        if (items[j].status < 0 && items[j].key.len == items[i].key.len &&
            memcmp(items[j].key.data, items[i].key.data, items[i].key.len) == 0) {
            return true;
        }
    }
    return false;
}

/* A store with a fault: whether it leaves this item alone. */
static bool leaves(struct crash_store *store, const char *key, const char *value,
                   uint64_t version) {
    enum crash_mutant mutant = store->crash->mutant;
    if (mutant != CRASH_LOSE && mutant != CRASH_LATE) {
        return false;
    }
    bool is_left = crash_roll(&store->dice, 5) == 0;
    if (is_left && mutant == CRASH_LATE && value != NULL) {
        if (store->kept.version != 0) {
            database_write(store->database,
                           store->crash->in_order ? DATABASE_APPEND : DATABASE_FORCE,
                           store->kept.key, store->kept.value, store->kept.version);
        }
        snprintf(store->kept.key, sizeof store->kept.key, "%s", key);
        snprintf(store->kept.value, sizeof store->kept.value, "%s", value);
        store->kept.version = version;
    }
    return is_left;
}

/* False where the transaction is spoilt. */
static bool store_one(struct crash_store *store, struct pln_store_item *item) {
    char key[CRASH_KEY], value[DATABASE_TEXT];
    text_of(item->key, key, sizeof key);
    text_of(item->value, value, sizeof value);
    if (is_poison(item)) {
        if (store->crash->mutant != CRASH_SWALLOW) {
            pln_store_fail(item, PLN_EINVAL, "it is poison");
        }
        return true;
    }
    if (crash_roll(&store->dice, 100) < BAD_ITEMS) {
        pln_store_fail(item, PLN_ESTORE, "not this one, not now");
        return true;
    }
    const char *what = item->op == PLN_STORE_DELETE ? NULL : value;
    if (leaves(store, key, what, item->version)) {
        return true;
    }
    return (!store->crash->in_order ||
            database_write(store->database, DATABASE_APPEND, key, what, item->version)) &&
           database_write(store->database, DATABASE_PUT, key, what, item->version);
}

static bool store_all(struct crash_store *store, struct pln_store_item *items, size_t n) {
    if (!database_begin(store->database)) {
        return false;
    }
    for (size_t i = 0; i < n; i++) {
        if (is_behind_a_failure(store, items, i)) {
            pln_store_fail(&items[i], PLN_ESTORE, "an earlier one of its key has failed");
        } else if (!store_one(store, &items[i])) {
            return false;
        }
        if (i == n / 2) {
            pass(store, CRASH_AMID);
        }
    }
    pass(store, CRASH_BEFORE_COMMIT);
    return database_commit(store->database);
}

static int fail_all(struct pln_store_item *items, size_t n, const char *why) {
    for (size_t i = 0; i < n; i++) {
        pln_store_fail(&items[i], PLN_ESTORE, why);
    }
    return PLN_OK;
}

int crash_store(void *arg, struct pln_store_item *items, size_t n) {
    struct crash_store *store = arg;
    struct crash_board *board = store->crash->board;
    atomic_store(&board->storer, 1 + store->worker);
    atomic_fetch_add(&board->n_store_calls, 1);
    pass(store, CRASH_BEFORE);
    if (crash_roll(&store->dice, 100) < BAD_CALLS) {
        return fail_all(items, n, "the store has a bad day");
    }
    if (store->database == NULL) {
        store->database = database_open(store->crash->where, false);
    }
    if (store->database == NULL) {
        return fail_all(items, n, "there is no way to the database");
    }
    if (!store_all(store, items, n)) {
        database_rollback(store->database);
        return fail_all(items, n, database_error(store->database));
    }
    atomic_fetch_add(&board->n_items, n);
    pass(store, CRASH_AFTER_COMMIT);
    return PLN_OK;
}
