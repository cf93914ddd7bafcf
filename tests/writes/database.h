/* SPDX-License-Identifier: MIT
 *
 * database.h - a store of record as the tests use one: SQLite or PostgreSQL, with two tables.
 *
 *     last  key, value, version    what a key is now; a value of NULL: it was deleted
 *     log   place, key, value, version    all that ever happened to it
 *
 * A connection belongs to one thread at a time. Keys and values are text.
 */
#ifndef PLN_TEST_DATABASE_H
#define PLN_TEST_DATABASE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum { DATABASE_TEXT = 256 };

struct database; /* opaque */

/* "sqlite:PATH" or "postgres:CONNINFO". `syncs`: what is committed outlives the machine, not only
 * the process. NULL where it cannot be had just now. */
struct database *database_open(const char *where, bool syncs);
void database_close(struct database *database);
/* Why there is no such kind here; NULL: there is. */
const char *database_lacks(const char *kind);

/* Each: false where it failed; then database_error() says why, and what was begun must be rolled
 * back. Without syncs no wait is longer than 100 ms. */
bool database_make(struct database *database);
bool database_begin(struct database *database);
bool database_commit(struct database *database);
void database_rollback(struct database *database);
const char *database_error(const struct database *database);

enum database_statement {
    DATABASE_PUT,    /* into last, where it is newer than what is there */
    DATABASE_FORCE,  /* into last, whatever is there */
    DATABASE_APPEND, /* to log */
    DATABASE_N_STATEMENTS
};
/* `value` NULL: a delete. */
bool database_write(struct database *database, enum database_statement statement, const char *key,
                    const char *value, uint64_t version);

/* What `last` has of a key: 1; 0: nothing, or a delete; -1: it failed. */
int database_read(struct database *database, const char *key, char value[DATABASE_TEXT]);

/* Visits all rows of `last`, or of `log` in their order. */
typedef void (*database_visit)(void *arg, const char *key, const char *value, uint64_t version);
bool database_each(struct database *database, bool of_log, database_visit visit, void *arg);

#endif
