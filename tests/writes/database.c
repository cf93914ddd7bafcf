/* SPDX-License-Identifier: MIT
 * database.c - see database.h. What both kinds share is here; each has a file of its own. */
#include "kinds.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static const struct database_kind *const kinds[] = {
#ifdef TEST_HAVE_SQLITE
    &database_sqlite,
#endif
#ifdef TEST_HAVE_POSTGRES
    &database_postgres,
#endif
    NULL,
};

const char *database_lacks(const char *kind) {
    for (size_t i = 0; kinds[i] != NULL; i++) {
        if (strcmp(kinds[i]->name, kind) == 0) {
            return kinds[i]->lacks();
        }
    }
    return "built without its library";
}

struct database *database_open(const char *where, bool syncs) {
    for (size_t i = 0; kinds[i] != NULL; i++) {
        size_t len = strlen(kinds[i]->name);
        if (strncmp(where, kinds[i]->name, len) == 0 && where[len] == ':') {
            return kinds[i]->open(where + len + 1, syncs);
        }
    }
    return NULL;
}

void database_close(struct database *database) {
    if (database != NULL) {
        database->kind->close(database);
    }
}

bool database_make(struct database *database) {
    return database->kind->run(database, database->kind->tables);
}

bool database_begin(struct database *database) {
    return database->kind->run(database, database->kind->begin);
}

bool database_commit(struct database *database) {
    return database->kind->run(database, "COMMIT");
}

void database_rollback(struct database *database) {
    char kept[DATABASE_TEXT];
    snprintf(kept, sizeof kept, "%s", database->error); /* not why there was nothing to undo */
    database->kind->run(database, "ROLLBACK");
    snprintf(database->error, sizeof database->error, "%s", kept);
}

const char *database_error(const struct database *database) {
    return database->error;
}

bool database_write(struct database *database, enum database_statement statement, const char *key,
                    const char *value, uint64_t version) {
    return database->kind->write(database, statement, key, value, version);
}

int database_read(struct database *database, const char *key, char value[DATABASE_TEXT]) {
    return database->kind->read(database, key, value);
}

bool database_each(struct database *database, bool of_log, database_visit visit, void *arg) {
    return database->kind->each(database,
                                of_log ? "SELECT key, value, version FROM log ORDER BY place"
                                       : "SELECT key, value, version FROM last",
                                visit, arg);
}
