/* SPDX-License-Identifier: MIT
 *
 * faults.h - what the programs of the suite l2-faults share: what may befall a client of Redis,
 * against real servers, or one that says what it is told (fake.h), with callers at work (load.h).
 * Asserted is what a call came back with, that it did, that no answer was wrong, and that nothing
 * was lost that had been acknowledged and that the server did not lose.
 *
 *  case                                          shown by (all in tests/l2, if not said otherwise)
 *   1 server killed                              faults_server, test_line, tests/core/test_redis
 *   2 server stopped, late answers               faults_server, faults_bytes, test_pool
 *   3 packets dropped                            faults_net
 *   4 half-open connection                       faults_net
 *   5 refused; a name unknown, changed, slow     test_pool, faults_net
 *   6 a byte now and then                        faults_bytes, test_pool
 *   7 server full                                faults_server, test_pool
 *   8 server out of memory                       faults_server
 *   9 read-only: now a replica                   faults_server, test_pool
 *  10 loading, busy, no replicas, no master,     faults_server, faults_moved; what is tried again
 *     try again, cluster down                    and what is told: faults_refusal
 *  11 MOVED, also for ever and to nowhere        faults_moved, faults_cluster
 *  12 ASK, a slot half on its way                faults_cluster, faults_moved
 *  13 wrong password                             test_pool, faults_login
 *  14 login needed again, user deleted           faults_login
 *  15 rights missing: CLIENT, EVAL, channel      faults_login, test_pool
 *  16 scripts forgotten                          faults_server, test_redis
 *  17 answer cut off                             faults_bytes
 *  18 invalid, unexpected, unasked               faults_bytes, faults_login
 *  19 too long, too many, too deep               faults_bytes
 *  20 the link's buffer overflows                faults_server
 *  21 one of the pair killed                     faults_server, test_bus, test_pool
 *  22 FLUSHALL, FLUSHDB                          faults_server, test_bus; SWAPDB: only by TTL
 *  23 failover, with writes lost                 faults_sentinel, faults_cluster; another server in
 *                                                the same place: faults_login, test_pool
 *  24 clocks jump                                faults_time, test_codec
 *  25 fork, stalls and slow commands             faults_server
 *  26 a write that comes late                    faults_time, faults_net, test_pool
 *  27 fork, close, exit in the host              tests/core/faults_host, tests/core/test_keys
 *  28 loaders that fail, hang, re-enter          tests/core/faults_host, tests/core/test_load
 *  29 TLS                                        test_tls, test_secure
 *  30 another server, or one that knows less     faults_login
 *
 * What cannot be seen: an answer too many of the kind that is awaited, which comes after the next
 * command was sent. RESP2 has no numbers to tell answers by.
 */
#ifndef PLN_TEST_FAULTS_H
#define PLN_TEST_FAULTS_H

#include <check.h>

#include "client.h"
#include "load.h"

enum { FAULTS_TEXT = 64 };

/* A client with so many connections. */
void faults_open(struct client *client, const char *url, unsigned pool);
/* Reads a key; `text` (of FAULTS_TEXT bytes, or NULL) gets the value's beginning. */
int faults_get(struct client *client, const char *key, pln_ns deadline, char *text);
int faults_set(struct client *client, const char *key, const char *text, pln_ns deadline);
/* Sets a key until that is taken; fails the test after 20 seconds. */
void faults_recover(struct client *client);
/* How often the log so far contains `part`. */
size_t faults_logged(struct client *client, const char *part);
/* Waits until the link has come up so often, or gone down, since the client was opened. */
void faults_await_ups(struct client *client, size_t n);
void faults_await_downs(struct client *client, size_t n);
void faults_nap(int ms);
/* A deadline. */
pln_ns faults_in(int ms);

TCase *faults_case(Suite *suite, void (*set_up)(void), void (*tear_down)(void));
int faults_run(Suite *suite);

#endif
