/* SPDX-License-Identifier: MIT
 *
 * client.h - a client of the tier as the tests see one: its counters, a clock that stands still
 * until it is told, and everything it was told by the bus, which can be waited for.
 */
#ifndef PLN_TEST_CLIENT_H
#define PLN_TEST_CLIENT_H

#include "../../l2/l2.h"

#include <pthread.h>

struct client {
    struct pln_l2 *l2;
    struct pln_counts *counts;
    struct pln_host host;
    pln_ms now;       /* of the host's clock */
    size_t n_servers; /* of a ring, whose links go each at its own pace; 0: one */
    pthread_mutex_t lock;
    pthread_cond_t heard;
    char *story; /* "+ k:a t:b -": link up, key a, tag b, link down */
    char *log;
};

void client_init(struct client *client);
/* Options with the client's events, counters and host, and timeouts that a busy machine keeps. */
struct pln_l2_options client_options(struct client *client, const char *url);
void client_fini(struct client *client);

/* Waits until the story so far contains `part`; false after a minute. */
bool client_hears(struct client *client, const char *part);
/* The same, until it was heard of every server. */
bool client_hears_all(struct client *client, const char *part);
/* Waits until the log so far contains `part`. */
bool client_logs(struct client *client, const char *part);
uint64_t client_count(struct client *client, enum pln_count which);

/* A key with its hash, and a value that is fresh for a minute. */
struct pln_hashed key_of(const char *text);
struct pln_l2_item item_of(const char *text);
/* A point five seconds from now, for commands that should answer. */
pln_ns soon(void);
/* The key's value is this text; NULL: there is none. */
void expect_text(struct client *client, const char *key, const char *expected);
/* Whether the story so far contains `part`. */
bool client_heard(struct client *client, const char *part);
/* A copy of the story so far, for free(). */
char *client_story(struct client *client);
/* This was heard since the story was last looked at, and nothing else. */
void expect_story(struct client *client, const char *expected);

#endif
