/* SPDX-License-Identifier: MIT
 *
 * writes_sqlite.c - a program whose SQLite database is written behind it: what it sets is in Redis
 * and acknowledged at once, and reaches the table in batches, the last value of each key. What no
 * tier has is loaded from the table.
 *
 *     writes_sqlite REDIS_URL FILE set KEY VALUE | get KEY | delete KEY | add KEY NUMBER
 *     cc writes_sqlite.c -o writes_sqlite -lsqlite3 -lperilune
 */
#include <perilune.h>
#include <sqlite3.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* Whatever is tried twice, or comes late, is older than what is there, and does no harm. */
static const char put[] = "INSERT INTO item VALUES (?1, ?2, ?3) ON CONFLICT (key) DO UPDATE SET "
                          "value = excluded.value, version = excluded.version "
                          "WHERE version < excluded.version";
static const char table[] = "CREATE TABLE IF NOT EXISTS item "
                            "(key BLOB PRIMARY KEY, value BLOB, version INTEGER NOT NULL)";

struct shop {
    sqlite3 *db; /* SQLite lets one thread at a time into it */
    sqlite3_stmt *put, *get;
};

/* A deleted key stays as a row without a value, so that no older write can come back. */
static int put_item(struct shop *shop, const struct pln_store_item *item) {
    const void *value = item->op == PLN_STORE_DELETE ? NULL : item->value.data;
    sqlite3_bind_blob(shop->put, 1, item->key.data, (int) item->key.len, SQLITE_STATIC);
    sqlite3_bind_blob(shop->put, 2, value, (int) item->value.len, SQLITE_STATIC);
    sqlite3_bind_int64(shop->put, 3, (sqlite3_int64) item->version);
    int step = sqlite3_step(shop->put);
    sqlite3_reset(shop->put);
    return step;
}

/* The store: all items in one transaction, or none. */
static int store_items(void *arg, struct pln_store_item *items, size_t n) {
    struct shop *shop = arg;
    bool is_well = sqlite3_exec(shop->db, "BEGIN IMMEDIATE", NULL, NULL, NULL) == SQLITE_OK;
    for (size_t i = 0; i < n && is_well; i++) {
        is_well = put_item(shop, &items[i]) == SQLITE_DONE;
    }
    if (is_well && sqlite3_exec(shop->db, "COMMIT", NULL, NULL, NULL) == SQLITE_OK) {
        return PLN_OK;
    }
    pln_store_fail(&items[0], PLN_ESTORE, sqlite3_errmsg(shop->db));
    sqlite3_exec(shop->db, "ROLLBACK", NULL, NULL, NULL);
    return PLN_ESTORE;
}

static int load_item(void *arg, struct pln_bytes key, struct pln_load *load) {
    struct shop *shop = arg;
    sqlite3_bind_blob(shop->get, 1, key.data, (int) key.len, SQLITE_STATIC);
    int status = PLN_ABSENT, step = sqlite3_step(shop->get);
    if (step == SQLITE_ROW) {
        struct pln_bytes value = {sqlite3_column_blob(shop->get, 0),
                                  (size_t) sqlite3_column_bytes(shop->get, 0)};
        status = pln_load_value(load, value, 0);
    } else if (step != SQLITE_DONE) {
        status = pln_load_error(load, sqlite3_errmsg(shop->db));
    }
    sqlite3_reset(shop->get);
    return status;
}

/* Returns NULL, or what is wrong. */
static const char *open_shop(struct shop *shop, const char *file) {
    return sqlite3_open(file, &shop->db) == SQLITE_OK &&
                   sqlite3_busy_timeout(shop->db, 1000) == SQLITE_OK &&
                   sqlite3_exec(shop->db, table, NULL, NULL, NULL) == SQLITE_OK &&
                   sqlite3_prepare_v2(shop->db, put, -1, &shop->put, NULL) == SQLITE_OK &&
                   sqlite3_prepare_v2(shop->db,
                                      "SELECT value FROM item WHERE key = ?1 AND value NOT NULL",
                                      -1, &shop->get, NULL) == SQLITE_OK
               ? NULL
               : sqlite3_errmsg(shop->db);
}

static bool is_known(const char *word) {
    return strcmp(word, "set") == 0 || strcmp(word, "get") == 0 || strcmp(word, "delete") == 0 ||
           strcmp(word, "add") == 0;
}

static int act(struct shop *shop, struct pln_cache *cache, char **words) {
    struct pln_bytes key = pln_key(words[1]);
    const char *word = words[2] != NULL ? words[2] : "";
    struct pln_result result = {.value = NULL};
    int64_t sum;
    if (strcmp(words[0], "set") == 0) {
        return pln_set(cache, key, pln_key(word), NULL);
    }
    if (strcmp(words[0], "delete") == 0) {
        return pln_delete(cache, key);
    }
    int status = pln_get_or_load(cache, key, NULL, load_item, shop, &result);
    if (strcmp(words[0], "add") == 0 && status >= 0) { /* to what the table has, if anything */
        struct pln_incr_options options = {.has_initial = status == PLN_ABSENT};
        status = pln_incr(cache, key, atoll(word), &options, &sum);
    } else if (status == PLN_OK) {
        printf("%.*s\n", (int) result.len, (const char *) pln_value_data(result.value));
    }
    pln_release(cache, result.value);
    return status;
}

int main(int argc, char **argv) {
    struct shop shop = {NULL, NULL, NULL};
    struct pln_write_options writing = {
        .strategy = PLN_WRITE_BEHIND, .store = store_items, .arg = &shop, .every_ms = 50};
    struct pln_options options = {.ns = "{shop}", .redis = argv[1], .writing = &writing};
    struct pln_cache *cache;
    const char *why = argc < 5 || !is_known(argv[3]) ? "see its head" : open_shop(&shop, argv[2]);
    if (why == NULL && pln_open(&options, &cache) < 0) {
        why = pln_error_text();
    }
    if (why != NULL) {
        fprintf(stderr, "writes_sqlite: %s\n", why);
        return 2;
    }
    int status = act(&shop, cache, argv + 3);
    if (status < 0) {
        fprintf(stderr, "writes_sqlite: %s\n", pln_error_text());
    }
    pln_close(cache); /* stores what waits */
    sqlite3_close(shop.db);
    return status == PLN_OK ? 0 : 1;
}
