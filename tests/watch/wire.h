/* SPDX-License-Identifier: MIT
 *
 * wire.h - a network between processes and one server: a socket for each process, "link0" and so
 * on in a folder, so that what happens to one of them need not happen to the others.
 *
 * Bytes keep their order, and those of a client that has closed still arrive, as they do in
 * networks.
 */
#ifndef PLN_TEST_WIRE_H
#define PLN_TEST_WIRE_H

enum wire_mode {
    WIRE_PASS,
    WIRE_SWALLOW, /* bytes vanish both ways, new connections lead nowhere, nobody is told */
    WIRE_DELAY,   /* each piece arrives late */
    WIRE_DEAF,    /* what is published vanishes; all else passes */
};

enum { WIRE_ALL = -1 };

struct wire; /* opaque */

/* Ends the program where that cannot be. `folder` and `target`, a socket, must exist. */
struct wire *wire_start(const char *folder, unsigned n_links, const char *target);
void wire_stop(struct wire *wire);
void wire_set(struct wire *wire, int link, enum wire_mode mode, int delay_ms);
/* Lets bytes pass again. Connections that swallowed some are closed: their ends hear of it now. */
void wire_heal(struct wire *wire, int link);

#endif
