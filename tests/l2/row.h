/* SPDX-License-Identifier: MIT
 *
 * row.h - a redis-server and clients that number their messages and keep a log of them, as the
 * tests of the row of messages want them; and what a test does to that row behind their backs.
 */
#ifndef PLN_TEST_ROW_H
#define PLN_TEST_ROW_H

#include <check.h>

#include "client.h"
#include "server.h"

/* What differs from client_options(). */
struct row_options {
    bool tracking, keeps_lost, has_no_log;
    pln_ms ping_ms; /* 0: so seldom that no heartbeat comes during a test but the first */
};

/* Opens a client and waits until its link is up; its story is empty then. */
void row_open(struct client *client, const char *url, const struct row_options *options);

void row_set(struct client *client, const char *key);
void row_remove(struct client *client, const char *key);
/* Sets a key by one client and waits until the other has heard it. */
void row_tell(struct client *from, struct client *to, const char *key);
/* Waits until it has heard its own last message, too. Else it cannot know, once the server is
 * another one, that this one has it. */
void row_await_own(struct client *client);

/* A command of a foreign program's, whose answer is of no interest; one that answers a number. */
void row_command(struct server *server, const char *line);
uint64_t row_number(struct server *server, const char *line);
/* The id of the nth connection that subscribes, in the order in which they were made; 0: none. */
long row_link_id(struct server *server, int nth);
void row_kill_link(struct server *server, int nth);

/* The bytes of a message that a key was changed, by an instance that is none of ours. Returns
 * their length. */
size_t row_message(uint8_t bytes[64], const char *key, uint64_t number);
void row_publish(struct server *server, const uint8_t *bytes, size_t len);
void row_log(struct server *server, const char *id, const uint8_t *bytes, size_t len);
/* Waits until every link, of which there are two at least, has sent its first heartbeat, and has
 * its answer: what is done after that it does not hear of before the next. */
void row_settle(struct server *server);
/* Gives the next number to a message that nobody hears; it is in the log, or not even there.
 * The links have settled before. */
uint64_t row_lose(struct server *server, const char *key, bool is_logged);
/* How many messages of a kind the log has. */
size_t row_logged(struct server *server, char kind);

/* Waits until a count is reached. */
void row_await(struct client *client, enum pln_count which, uint64_t at_least);

#endif
