/* SPDX-License-Identifier: MIT
 *
 * said.h - the replies in a piece of RESP, one after the other, as a connection would read them.
 *
 * Apart from the fuzzers that use it, since the private headers of core and l2 do not go together.
 */
#ifndef PLN_FUZZ_SAID_H
#define PLN_FUZZ_SAID_H

#include "../../l2/l2.h"

struct said; /* opaque */

/* Never NULL. */
struct said *said_new(const void *bytes, size_t len);
void said_free(struct said *said);
/* The next reply, for pln_reply_free(); NULL where there is none, or it is damaged. */
struct pln_reply *said_next(struct said *said);

#endif
