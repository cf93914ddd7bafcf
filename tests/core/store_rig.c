/* SPDX-License-Identifier: MIT
 *
 * store_rig.c - see store_rig.h.
 */
#include "store_rig.h"

#include <sched.h>
#include <stdio.h>

void db_init(struct db *db) {
    memset(db, 0, sizeof *db);
    pthread_mutex_init(&db->lock, NULL);
    pthread_mutex_init(&db->gate, NULL);
}

void db_fini(struct db *db) {
    pthread_mutex_destroy(&db->lock);
    pthread_mutex_destroy(&db->gate);
}

static struct row *find_locked(struct db *db, struct pln_bytes key) {
    size_t i = 0;
    while (i < db->n_rows && !pln_bytes_equal(pln_key(db->rows[i].key), key)) {
        i++;
    }
    if (i == db->n_rows) {
        ck_assert_uint_lt(db->n_rows, DB_ROWS);
        ck_assert_uint_lt(key.len, DB_TEXT);
        memcpy(db->rows[i].key, key.data, key.len);
        db->n_rows++;
    }
    return &db->rows[i];
}

static void write_locked(struct db *db, const struct pln_store_item *item) {
    struct row *row = find_locked(db, item->key);
    size_t len = strlen(db->log);
    bool is_set = item->op == PLN_STORE_SET;
    row->n_writes++;
    snprintf(db->log + len, sizeof db->log - len, "%s%.*s%s%.*s", len > 0 ? " " : "",
             (int) item->key.len, (const char *) item->key.data, is_set ? "=" : "-",
             (int) item->value.len, is_set ? (const char *) item->value.data : "");
    if (item->version > 0 && item->version < row->version) {
        atomic_store(&db->saw_old, true);
        if (atomic_load(&db->is_versioned)) {
            return;
        }
    }
    row->version = item->version;
    row->is_there = is_set && !item->is_absent;
    snprintf(row->value, sizeof row->value, "%.*s", (int) item->value.len,
             is_set ? (const char *) item->value.data : "");
}

static bool is(struct pln_bytes value, const char *text) {
    return text != NULL && pln_bytes_equal(value, pln_key(text));
}

int db_store(void *arg, struct pln_store_item *items, size_t n) {
    struct db *db = arg;
    atomic_fetch_add(&db->n_calls, 1);
    pthread_mutex_lock(&db->gate);
    pthread_mutex_unlock(&db->gate);
    int status = atomic_load(&db->status);
    if (status < 0) {
        return pln_fail(status, "the store is away");
    }
    pthread_mutex_lock(&db->lock);
    for (size_t i = 0; i < n; i++) {
        if (is(items[i].value, atomic_load(&db->poison))) {
            pln_store_fail(&items[i], PLN_EINVAL, "no such column");
        } else if (is(items[i].value, atomic_load(&db->bad))) {
            pln_store_fail(&items[i], PLN_ESTORE, "locked");
        } else {
            write_locked(db, &items[i]);
        }
    }
    atomic_fetch_add(&db->n_items, (unsigned) n);
    pthread_mutex_unlock(&db->lock);
    return PLN_OK;
}

static bool has(struct db *db, const char *key, const char *value, char present[DB_TEXT]) {
    pthread_mutex_lock(&db->lock);
    const struct row *row = find_locked(db, pln_key(key));
    snprintf(present, DB_TEXT, "%s", row->is_there ? row->value : "(nothing)");
    bool is_there = row->is_there;
    pthread_mutex_unlock(&db->lock);
    return value == NULL ? !is_there : is_there && strcmp(present, value) == 0;
}

void db_expect(struct db *db, const char *key, const char *value) {
    char present[DB_TEXT];
    ck_assert_msg(has(db, key, value, present), "%s is %s, not %s", key, present,
                  value != NULL ? value : "(nothing)");
}

void db_await(struct db *db, const char *key, const char *value) {
    char present[DB_TEXT];
    pln_ns deadline = pln_deadline(20000);
    while (!has(db, key, value, present)) {
        ck_assert_msg(pln_clock_precise() < deadline, "%s stays %s, not %s", key, present,
                      value != NULL ? value : "(nothing)");
        sched_yield();
    }
}
