/* SPDX-License-Identifier: MIT
 *
 * node.h - a redis-server on a loopback port, for tests that need several that know each other
 * (cluster.h, sentinels.h). Started by fork and exec, stopped by its process id, and gone with the
 * test's process. Where something does not come to pass within a minute, the program ends and says
 * what.
 */
#ifndef PLN_TEST_NODE_H
#define PLN_TEST_NODE_H

#include <hiredis/hiredis.h>
#include <stdbool.h>
#include <sys/types.h>

enum { TEST_NODE_OPTIONS = 24 };

struct test_node {
    pid_t pid; /* 0: not running */
    int port;
    char folder[64];
    char config[80];                        /* of a sentinel: its file; else "" */
    const char *options[TEST_NODE_OPTIONS]; /* ending in NULL; kept for a restart */
    redisContext *context;                  /* of test_node_ask() */
};

/* Starts it on a free port, of which 10000 higher is free too (a cluster's bus), and waits until it
 * answers. `options` (ending in NULL) are passed on as they are, and must live as long. */
void test_node_start(struct test_node *node, const char *const *options);
/* The same as a sentinel, with these lines in its file. */
void test_node_start_sentinel(struct test_node *node, const char *lines);
/* After a kill, on the same port, with the files that it left. */
void test_node_restart(struct test_node *node);
void test_node_kill(struct test_node *node);  /* at once: SIGKILL. Also where it does not run */
void test_node_pause(struct test_node *node); /* alive and silent: SIGSTOP */
void test_node_resume(struct test_node *node);
void test_node_stop(struct test_node *node); /* kills it and removes its folder */

/* Asks it something, as redisCommand() does. The caller frees the reply; errors are replies. */
redisReply *test_node_ask(struct test_node *node, const char *format, ...);
/* The same where nothing but success is expected, and the reply of no interest. */
void test_node_tell(struct test_node *node, const char *format, ...);
/* Whether the answer to a command is a text that contains `part`. */
bool test_node_says(struct test_node *node, const char *command, const char *part);
/* Whether it is a replica that hears its master; whether it is a master. */
bool test_node_is_linked(struct test_node *node);
bool test_node_is_master(struct test_node *node);

/* The number behind a name in the answer to a command; 0 where there is none. */
long test_node_number(struct test_node *node, const char *command, const char *name);
/* How many GET and MGET it has carried out. */
long test_node_reads(struct test_node *node);
/* Starts a replica, which takes writes of its own, so that a test can make it differ; waits until
 * it has what its primary has. `announced` is the port that it says it is at; NULL: its own. */
void test_node_follow(struct test_node *replica, struct test_node *of, const char *announced);

/* Waits until a thing is so, looking every 20 ms. */
void test_until(bool (*is_so)(void *arg), void *arg, const char *what);
/* The same for so long; whether it is so. */
bool test_is_soon(bool (*is_so)(void *arg), void *arg, long most_ms);
/* Ends the program where a thing is not so. */
_Noreturn void test_end(const char *what);
static inline void test_need(bool is_so, const char *what) {
    if (!is_so) {
        test_end(what);
    }
}

#endif
