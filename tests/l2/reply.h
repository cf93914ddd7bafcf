/* SPDX-License-Identifier: MIT
 *
 * reply.h - replies without a server: from the text of RESP, and from what hiredis read.
 *
 * All memory of a reply is pieces of exactly the size needed, each string with one zero behind it,
 * so that the address sanitizer sees whoever reads too far.
 */
#ifndef PLN_TEST_REPLY_H
#define PLN_TEST_REPLY_H

#include "../../l2/l2.h"

struct redisReply;

/* Reads one reply: the protocol's text (+ - : $ * _ % ~ > #), where a newline does for its two
 * bytes and may be missing after a string. NULL where it is none, or is nested deeper than 8. The
 * caller frees. */
struct pln_reply *test_reply_read(const void *text, size_t len);
struct pln_reply *test_reply_of(const struct redisReply *reply);
void test_reply_free(struct pln_reply *reply);

#endif
