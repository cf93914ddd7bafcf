/* SPDX-License-Identifier: MIT
 *
 * async.h - commands that nobody waits for: the courier that carries them, and a get made of them.
 */
#ifndef PLN_L2_ASYNC_H
#define PLN_L2_ASYNC_H

#include "internal.h"

/* ---- async.c: the courier ----
 * A thread that has many commands in flight on one connection of its own. Only commands that read:
 * between it and the pool's other connections there is no order. */

int pln_async_init(struct pln_pool *pool);
/* Ends all errands and the thread; nothing is taken from then on. Before the link is stopped, on
 * whose agreement the courier may be waiting. */
void pln_async_stop(struct pln_pool *pool);
void pln_async_fini(struct pln_pool *pool);
/* Takes an errand, whose `write`, `end` and `deadline` are set. Returns: PLN_OK: end() is called
 * once, by the courier's thread, and nothing of the errand is touched from then on. Its status is
 * PLN_OK with a reply, lent, that may be an error; or PLN_ETIMEOUT, PLN_EL2DOWN, PLN_ENOMEM. Where
 * this fails end() is not called: PLN_EBUSY, PLN_EL2DOWN, PLN_ETIMEOUT, PLN_ESYSTEM. */
int pln_async_post(struct pln_pool *pool, struct pln_errand *errand);
/* For end(): one more command of an errand that is not done. Cannot fail. */
void pln_async_go_on(struct pln_pool *pool, struct pln_errand *errand);
/* For end(): the server's clock, read once for many. */
pln_ms pln_async_server_now(struct pln_pool *pool);

/* ---- read.c, for read_async.c ---- */

/* What a GET brought. Returns: PLN_OK, PLN_MISS, PLN_ENOMEM; PLN_PENDING where it depends on the
 * answer to a second command, and the value is the caller's to free if that cannot be had. */
int pln_read_now(struct pln_node *node, const struct pln_hashed *key, const struct pln_reply *reply,
                 pln_ms server_now, struct pln_l2_value *value);
void pln_read_ask_times(struct pln_node *node, struct pln_l2_value *value, struct pln_batch *batch);
/* Returns: PLN_OK, PLN_MISS, PLN_EL2; but for PLN_OK the value is freed. */
int pln_read_take_times(struct pln_node *node, const struct pln_hashed *key,
                        const struct pln_reply *reply, struct pln_l2_value *value);

/* The answer to the script of a plain get. Returns: PLN_OK, PLN_MISS, PLN_ENOMEM. */
int pln_read_plain(const struct pln_reply *reply, pln_ms server_now, struct pln_l2_value *value);

/* ---- read_async.c ---- */

int pln_redis_get_async(struct pln_l2 *l2, struct pln_l2_get *get);

#endif
