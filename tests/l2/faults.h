/* SPDX-License-Identifier: MIT
 *
 * faults.h - what the programs of the suite l2-faults share.
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
