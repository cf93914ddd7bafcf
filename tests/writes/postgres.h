/* SPDX-License-Identifier: MIT
 *
 * postgres.h - a PostgreSQL of a test's own: on a unix socket in a folder of its own, without a
 * port. As root it runs as the user "postgres", since it refuses to be root. It is gone with the
 * test's process.
 */
#ifndef PLN_TEST_POSTGRES_H
#define PLN_TEST_POSTGRES_H

#include <stdbool.h>
#include <sys/types.h>

struct test_postgres {
    char folder[64];
    char conninfo[128]; /* for libpq */
    pid_t pid;
};

/* The folder of its programs; NULL where it is not installed. */
const char *test_postgres_programs(void);
/* Makes a database and waits until it answers. `syncs`: what is committed is on the disk, and the
 * folder as well; else all is in memory, where that can be. Aborts where it cannot be. */
void test_postgres_start(struct test_postgres *postgres, bool syncs);
void test_postgres_stop(struct test_postgres *postgres);

#endif
