/* SPDX-License-Identifier: MIT
 *
 * kinds.h - private to database.c and the two kinds of it.
 */
#ifndef PLN_TEST_KINDS_H
#define PLN_TEST_KINDS_H

#include "database.h"

enum { DATABASE_WAIT_MS = 100 };

struct database_kind {
    const char *name;
    const char *tables, *begin;
    const char *(*lacks)(void);
    struct database *(*open)(const char *where, bool syncs);
    void (*close)(struct database *database);
    bool (*run)(struct database *database, const char *sql);
    bool (*write)(struct database *database, enum database_statement statement, const char *key,
                  const char *value, uint64_t version);
    int (*read)(struct database *database, const char *key, char value[DATABASE_TEXT]);
    bool (*each)(struct database *database, const char *sql, database_visit visit, void *arg);
};

/* The first member of each kind's own. */
struct database {
    const struct database_kind *kind;
    char error[DATABASE_TEXT];
};

extern const struct database_kind database_sqlite, database_postgres;

#endif
