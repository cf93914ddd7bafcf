/* SPDX-License-Identifier: MIT
 *
 * queue_server.h - a redis-server with two clients of a namespace, for what waits there.
 */
#ifndef PLN_TEST_QUEUE_SERVER_H
#define PLN_TEST_QUEUE_SERVER_H

#include "server.h"
#include "waiting.h"

extern struct server server;
extern struct client a, b;

void open_client(struct client *client);
void set_up_with(const char *const *options);
void set_up(void);
void tear_down(void);
/* An operator's command, and what it answers; NULL: whatever. */
void command(const char *expected, const char *line);
void expect_nothing_taken(void);

#endif
