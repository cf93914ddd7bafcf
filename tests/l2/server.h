/* SPDX-License-Identifier: MIT
 *
 * server.h - a redis-server of a test's own: on a unix socket in a folder of its own, without a
 * port, without files. Started by fork and exec, stopped by its process id, and gone with the
 * test's process.
 */
#ifndef PLN_TEST_SERVER_H
#define PLN_TEST_SERVER_H

#include <stdbool.h>
#include <sys/types.h>

struct server {
    char folder[64];
    char path[96];           /* of the socket */
    char url[112];           /* "unix:..." */
    const char *options[16]; /* beside the usual ones, ending in NULL; kept for a restart */
    pid_t pid;
};

/* Whose name or path the environment gives in PLN_REDIS_SERVER, such as valkey-server; else
 * redis-server. */
const char *pln_test_redis_program(void);
/* Starts it and waits until it answers. `options` (ending in NULL, may be NULL) are passed on as
 * they are: "--requirepass", "secret". Aborts where there is no such program. */
void pln_test_redis_start(struct server *server, const char *const *options);
/* After a kill, at the same place, with what it has saved: nothing, where it was not told to. */
void pln_test_redis_restart(struct server *server);
void pln_test_redis_kill(struct server *server);  /* at once: SIGKILL */
void pln_test_redis_pause(struct server *server); /* alive and silent: SIGSTOP */
void pln_test_redis_resume(struct server *server);
void pln_test_redis_stop(struct server *server); /* kills it and removes its folder */

/* A port of 127.0.0.1 at which nobody listened just now, for "--port" or "--tls-port". */
int pln_test_free_port(void);

/* A command as an operator would give it. Returns the reply as text, as redis-cli shows it but
 * without ornament: the lines of an array one after the other. The caller frees. */
char *pln_test_redis_command(struct server *server, const char *format, ...)
    __attribute__((format(printf, 2, 3)));

#endif
