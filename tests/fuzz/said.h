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

/* Never NULL. Where it is parted, each text and array of a reply, its root apart, is moved to
 * memory of its own, no byte too long: the address sanitizer then sees whoever reads too far, which
 * it cannot in the chunks of a true reply. It does not see who reads them after the reply's end,
 * since they live until said_free(). */
struct said *said_new(const void *bytes, size_t len, bool is_parted);
void said_free(struct said *said);
/* The next reply, for pln_reply_free(); NULL where there is none, or it is damaged. */
struct pln_reply *said_next(struct said *said);

#endif
