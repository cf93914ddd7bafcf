/* SPDX-License-Identifier: MIT
 *
 * memory.h - the server in memory, for who opens it and says what goes wrong; a part of l2.h.
 */
#ifndef PLN_L2_MEMORY_H
#define PLN_L2_MEMORY_H

#include "l2.h"

/* Memory in the place of Redis: clients of one server see each other's writes and messages. In all
 * below, NULL in the place of a client means all of the server's, and those to come. */
struct pln_l2_mem_server;
int pln_l2_mem_server_new(struct pln_l2_mem_server **server);
/* Gives it a name for messages; before its first client. */
void pln_l2_mem_server_label(struct pln_l2_mem_server *server, const char *name);
void pln_l2_mem_server_free(struct pln_l2_mem_server *server); /* after its clients */
int pln_l2_mem_new(const struct pln_l2_options *options, struct pln_l2_mem_server *server,
                   struct pln_l2 **l2);
/* What goes wrong from now on; the dice begin anew. Checked by the caller. */
void pln_l2_mem_faults(struct pln_l2_mem_server *server, struct pln_l2 *client,
                       const struct pln_memory_faults *faults);
void pln_l2_mem_set_link(struct pln_l2_mem_server *server, struct pln_l2 *client, bool is_up);
void pln_l2_mem_set_cut(struct pln_l2_mem_server *server, struct pln_l2 *client,
                        enum pln_memory_cut cut);
/* Reports up to n messages to each client, whatever holds them up. Returns how many. */
size_t pln_l2_mem_bring(struct pln_l2_mem_server *server, struct pln_l2 *client, size_t n);
void pln_l2_mem_forget(struct pln_l2_mem_server *server);
size_t pln_l2_mem_evict(struct pln_l2_mem_server *server, double share);
void pln_l2_mem_stats(struct pln_l2_mem_server *server, struct pln_memory_stats *stats);
/* Around a fork. A child has the values, and none of the clients. */
void pln_l2_mem_freeze(struct pln_l2_mem_server *server);
void pln_l2_mem_thaw(struct pln_l2_mem_server *server, bool is_child);
/* One client: holds messages to it back (delivered by pln_l2_mem_deliver), loses them with its link
 * (on_down, then nothing until pln_l2_mem_join), or makes its commands fail as if cut off. */
void pln_l2_mem_hold(struct pln_l2 *client, bool held);
size_t pln_l2_mem_deliver(struct pln_l2 *client, size_t n);
void pln_l2_mem_part(struct pln_l2 *client);
void pln_l2_mem_join(struct pln_l2 *client);
void pln_l2_mem_cut(struct pln_l2 *client, bool is_cut);

#endif
