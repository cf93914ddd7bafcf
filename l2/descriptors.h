/* SPDX-License-Identifier: MIT
 *
 * descriptors.h - private to this folder: sockets and eventfds are opened and closed here, so that
 * a forked child knows which of its descriptors are the parent's.
 */
#ifndef PLN_L2_DESCRIPTORS_H
#define PLN_L2_DESCRIPTORS_H

/* A stream socket that does not block, or an eventfd; both end with an exec(). Returns -1 with
 * errno where the system has none. Threads: any. */
int pln_descriptor_socket(int family);
int pln_descriptor_event(void);
/* Closes one of these; a negative one is none. */
void pln_descriptor_close(int fd);

#endif
