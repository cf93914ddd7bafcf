/* SPDX-License-Identifier: MIT
 *
 * asks.h - gets whose callers do not wait, as the tests begin them by the thousand and look at how
 * each ended. There is one server, one proxy before it, and one client, of a test's fixture.
 */
#ifndef PLN_TEST_ASKS_H
#define PLN_TEST_ASKS_H

#include "client.h"
#include "proxy.h"
#include "server.h"

enum { MANY = 1000, MOST_ASKS = 10000 };

extern struct server server;
extern struct proxy proxy;
extern struct client a;

/* A get and how it ended. */
struct ask {
    struct pln_l2_get get;
    char key[24], text[24];
    unsigned number, left; /* gets that follow on this one */
    int status;
    unsigned n_ended;
    bool is_right;
    char error[200];
};

extern size_t n_ended; /* of all of a test */
extern struct ask asks[MOST_ASKS];

void asks_set_up(void); /* the client's pool has one connection, and a long timeout */
void asks_tear_down(void);
/* The client anew. */
void reopen(const char *url, pln_ms timeout, pln_ms ping);
void command(const char *line); /* to the server */
pln_ns in_ms(int ms);

/* Stores the values of all MANY keys. */
void fill(void);
/* Begins a get of key number % MANY; `left` in it says how many others follow on it. */
int begin(struct ask *ask, unsigned number, pln_ns deadline);
/* Begins asks[from] and those after it, of keys of the same numbers. */
void begin_some(size_t from, size_t n, pln_ns deadline);
/* For a callback of a test's own: counts an end. */
void note_end(void);
size_t how_many_ended(void);
/* Waits until so many have ended since the test began. */
void await(size_t n);
/* Each has ended once, so, and with the right value. */
void expect_all(size_t from, size_t n, int status);
/* One get, waited for. */
int get_one(struct ask *ask, unsigned number);

#endif
