/* SPDX-License-Identifier: MIT
 * sqlite.c - SQLite as a store of record of the tests: see database.h. */
#include "kinds.h"

#include <sqlite3.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static const char *const texts[DATABASE_N_STATEMENTS + 1] = {
    "INSERT INTO last VALUES (?1, ?2, ?3) ON CONFLICT (key) DO UPDATE SET value = excluded.value, "
    "version = excluded.version WHERE version < excluded.version",
    "INSERT OR REPLACE INTO last VALUES (?1, ?2, ?3)",
    "INSERT INTO log (key, value, version) VALUES (?1, ?2, ?3)",
    "SELECT value FROM last WHERE key = ?1",
};
enum { READ = DATABASE_N_STATEMENTS };

struct sqlite {
    struct database base;
    sqlite3 *db;
    sqlite3_stmt *statements[DATABASE_N_STATEMENTS + 1];
};

static const char *lack_nothing(void) {
    return NULL;
}

static bool is_good(struct sqlite *sqlite, bool is_so) {
    if (!is_so) {
        snprintf(sqlite->base.error, sizeof sqlite->base.error, "%s", sqlite3_errmsg(sqlite->db));
    }
    return is_so;
}

static bool run(struct database *database, const char *sql) {
    struct sqlite *sqlite = (struct sqlite *) database;
    return is_good(sqlite, sqlite3_exec(sqlite->db, sql, NULL, NULL, NULL) == SQLITE_OK);
}

static void close_it(struct database *database) {
    struct sqlite *sqlite = (struct sqlite *) database;
    for (size_t i = 0; i <= READ; i++) {
        sqlite3_finalize(sqlite->statements[i]);
    }
    sqlite3_close(sqlite->db);
    free(sqlite);
}

static struct database *open_it(const char *where, bool syncs) {
    struct sqlite *sqlite = calloc(1, sizeof *sqlite);
    if (sqlite == NULL) {
        return NULL;
    }
    sqlite->base.kind = &database_sqlite;
    if (sqlite3_open(where, &sqlite->db) != SQLITE_OK ||
        sqlite3_busy_timeout(sqlite->db, DATABASE_WAIT_MS) != SQLITE_OK ||
        !run(&sqlite->base, "PRAGMA journal_mode = WAL") ||
        !run(&sqlite->base, syncs ? "PRAGMA synchronous = FULL" : "PRAGMA synchronous = OFF")) {
        close_it(&sqlite->base);
        return NULL;
    }
    return &sqlite->base;
}

/* A statement, made when it is first needed: the tables must be there. */
static sqlite3_stmt *statement_of(struct sqlite *sqlite, size_t which) {
    sqlite3_stmt **statement = &sqlite->statements[which];
    return *statement != NULL || is_good(sqlite, sqlite3_prepare_v2(sqlite->db, texts[which], -1,
                                                                    statement, NULL) == SQLITE_OK)
               ? *statement
               : NULL;
}

static bool write_it(struct database *database, enum database_statement which, const char *key,
                     const char *value, uint64_t version) {
    struct sqlite *sqlite = (struct sqlite *) database;
    sqlite3_stmt *statement = statement_of(sqlite, which);
    if (statement == NULL) {
        return false;
    }
    sqlite3_bind_text(statement, 1, key, -1, SQLITE_STATIC);
    sqlite3_bind_text(statement, 2, value, -1, SQLITE_STATIC); /* NULL gives NULL */
    sqlite3_bind_int64(statement, 3, (sqlite3_int64) version);
    bool is_done = is_good(sqlite, sqlite3_step(statement) == SQLITE_DONE);
    sqlite3_reset(statement);
    return is_done;
}

static int read_it(struct database *database, const char *key, char value[DATABASE_TEXT]) {
    struct sqlite *sqlite = (struct sqlite *) database;
    sqlite3_stmt *statement = statement_of(sqlite, READ);
    if (statement == NULL) {
        return -1;
    }
    sqlite3_bind_text(statement, 1, key, -1, SQLITE_STATIC);
    int step = sqlite3_step(statement);
    const char *text = step == SQLITE_ROW ? (const char *) sqlite3_column_text(statement, 0) : NULL;
    snprintf(value, DATABASE_TEXT, "%s", text != NULL ? text : "");
    is_good(sqlite, step == SQLITE_ROW || step == SQLITE_DONE);
    sqlite3_reset(statement);
    return step != SQLITE_ROW && step != SQLITE_DONE ? -1 : text != NULL;
}

static bool each(struct database *database, const char *sql, database_visit visit, void *arg) {
    struct sqlite *sqlite = (struct sqlite *) database;
    sqlite3_stmt *statement;
    int step;
    if (!is_good(sqlite, sqlite3_prepare_v2(sqlite->db, sql, -1, &statement, NULL) == SQLITE_OK)) {
        return false;
    }
    while ((step = sqlite3_step(statement)) == SQLITE_ROW) {
        visit(arg, (const char *) sqlite3_column_text(statement, 0),
              (const char *) sqlite3_column_text(statement, 1),
              (uint64_t) sqlite3_column_int64(statement, 2));
    }
    is_good(sqlite, step == SQLITE_DONE);
    sqlite3_finalize(statement);
    return step == SQLITE_DONE;
}

const struct database_kind database_sqlite = {
    .name = "sqlite",
    .tables = "CREATE TABLE last (key TEXT PRIMARY KEY, value TEXT, version INTEGER NOT NULL);"
              "CREATE TABLE log (place INTEGER PRIMARY KEY AUTOINCREMENT, key TEXT NOT NULL, "
              "value TEXT, version INTEGER NOT NULL)",
    .begin = "BEGIN IMMEDIATE",
    .lacks = lack_nothing,
    .open = open_it,
    .close = close_it,
    .run = run,
    .write = write_it,
    .read = read_it,
    .each = each,
};
