/* SPDX-License-Identifier: MIT
 * pq.c - PostgreSQL as a store of record of the tests: see database.h. */
#include "kinds.h"
#include "postgres.h"

#include <inttypes.h>
#include <libpq-fe.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static const char *const texts[DATABASE_N_STATEMENTS + 1] = {
    "INSERT INTO last VALUES ($1, $2, $3) ON CONFLICT (key) DO UPDATE SET value = excluded.value, "
    "version = excluded.version WHERE last.version < excluded.version",
    "INSERT INTO last VALUES ($1, $2, $3) ON CONFLICT (key) DO UPDATE SET value = excluded.value, "
    "version = excluded.version",
    "INSERT INTO log (key, value, version) VALUES ($1, $2, $3)",
    "SELECT value FROM last WHERE key = $1",
};
enum { READ = DATABASE_N_STATEMENTS };

struct pq {
    struct database base;
    PGconn *db;
    bool is_prepared[DATABASE_N_STATEMENTS + 1];
};

static const char *lacks(void) {
    return test_postgres_programs() == NULL ? "its server is not installed" : NULL;
}

/* Whether a result is what was wanted; ends it where it is not. */
static bool is_good(struct pq *pq, PGresult *result, ExecStatusType wanted) {
    if (PQresultStatus(result) == wanted) {
        return true;
    }
    snprintf(pq->base.error, sizeof pq->base.error, "%s", PQerrorMessage(pq->db));
    PQclear(result);
    return false;
}

static bool run(struct database *database, const char *sql) {
    struct pq *pq = (struct pq *) database;
    PGresult *result = PQexec(pq->db, sql);
    if (!is_good(pq, result, PGRES_COMMAND_OK)) {
        return false;
    }
    /* after a failure within it COMMIT is no failure, but a rollback */
    bool is_undone = strcmp(sql, "COMMIT") == 0 && strcmp(PQcmdStatus(result), "COMMIT") != 0;
    PQclear(result);
    return !is_undone;
}

static void close_it(struct database *database) {
    struct pq *pq = (struct pq *) database;
    PQfinish(pq->db);
    free(pq);
}

static void be_quiet(void *arg, const char *text) {
    (void) arg, (void) text;
}

static struct database *open_it(const char *where, bool syncs) {
    char sql[80];
    struct pq *pq = calloc(1, sizeof *pq);
    if (pq == NULL) {
        return NULL;
    }
    pq->base.kind = &database_postgres;
    pq->db = PQconnectdb(where);
    PQsetNoticeProcessor(pq->db, be_quiet, NULL);
    /* whether it syncs is the server's to say; a disk may take its time */
    snprintf(sql, sizeof sql, "SET statement_timeout = %d", syncs ? 0 : DATABASE_WAIT_MS);
    if (PQstatus(pq->db) != CONNECTION_OK || !run(&pq->base, sql)) {
        close_it(&pq->base);
        return NULL;
    }
    return &pq->base;
}

/* Carries out a statement, which is prepared when it is first needed. NULL where that failed. */
static PGresult *carry_out(struct pq *pq, size_t which, int n, const char *const *words,
                           ExecStatusType wanted) {
    char name[24];
    snprintf(name, sizeof name, "s%zu", which);
    if (!pq->is_prepared[which]) {
        PGresult *result = PQprepare(pq->db, name, texts[which], n, NULL);
        if (!is_good(pq, result, PGRES_COMMAND_OK)) {
            return NULL;
        }
        PQclear(result);
        pq->is_prepared[which] = true;
    }
    PGresult *result = PQexecPrepared(pq->db, name, n, words, NULL, NULL, 0);
    return is_good(pq, result, wanted) ? result : NULL;
}

static bool write_it(struct database *database, enum database_statement which, const char *key,
                     const char *value, uint64_t version) {
    struct pq *pq = (struct pq *) database;
    char number[24];
    const char *words[] = {key, value, number};
    snprintf(number, sizeof number, "%" PRIu64, version);
    PGresult *result = carry_out(pq, which, 3, words, PGRES_COMMAND_OK);
    bool is_done = result != NULL;
    PQclear(result);
    return is_done;
}

static int read_it(struct database *database, const char *key, char value[DATABASE_TEXT]) {
    struct pq *pq = (struct pq *) database;
    PGresult *result = carry_out(pq, READ, 1, &key, PGRES_TUPLES_OK);
    if (result == NULL) {
        return -1;
    }
    bool is_there = PQntuples(result) == 1 && !PQgetisnull(result, 0, 0);
    snprintf(value, DATABASE_TEXT, "%s", is_there ? PQgetvalue(result, 0, 0) : "");
    PQclear(result);
    return is_there;
}

static bool each(struct database *database, const char *sql, database_visit visit, void *arg) {
    struct pq *pq = (struct pq *) database;
    if (!run(database, "SET statement_timeout = 0")) {
        return false;
    }
    PGresult *rows = PQexec(pq->db, sql);
    if (!is_good(pq, rows, PGRES_TUPLES_OK)) {
        return false;
    }
    for (int i = 0; i < PQntuples(rows); i++) {
        visit(arg, PQgetvalue(rows, i, 0), PQgetisnull(rows, i, 1) ? NULL : PQgetvalue(rows, i, 1),
              strtoull(PQgetvalue(rows, i, 2), NULL, 10));
    }
    PQclear(rows);
    return true;
}

const struct database_kind database_postgres = {
    .name = "postgres",
    .tables = "CREATE TABLE last (key text PRIMARY KEY, value text, version bigint NOT NULL);"
              "CREATE TABLE log (place bigserial PRIMARY KEY, key text NOT NULL, value text, "
              "version bigint NOT NULL)",
    .begin = "BEGIN",
    .lacks = lacks,
    .open = open_it,
    .close = close_it,
    .run = run,
    .write = write_it,
    .read = read_it,
    .each = each,
};
