/* SPDX-License-Identifier: MIT
 *
 * floor.c - the latest time of "everything" on one server: what is older than it is void.
 *
 * It is kept here while the link is up, so that a value without tags needs no second look at the
 * server; it is 0 while it is not known. It only rises while it is known. Own clears are kept
 * apart, since an answer that was on its way may be older than a clear that has ended. The masks in
 * force (drops.h) are known where the floor is.
 *
 * Label: F1, the floor set / read: what is known of masks before the floor that makes it count.
 */
#include "internal.h"

#include <stdio.h>

void pln_floor_server(struct pln_node *node, const char *run_id) {
    pthread_mutex_lock(&node->floor_lock);
    if (strcmp(node->floor_run_id, run_id) != 0) {
        snprintf(node->floor_run_id, sizeof node->floor_run_id, "%s", run_id);
        node->own_clear = 0;
        pln_drops_forget_locked(node);
    }
    pthread_mutex_unlock(&node->floor_lock);
}

void pln_floor_run_id(struct pln_node *node, char run_id[PLN_RUN_ID + 1]) {
    pthread_mutex_lock(&node->floor_lock);
    memcpy(run_id, node->floor_run_id, sizeof node->floor_run_id);
    pthread_mutex_unlock(&node->floor_lock);
}

static void set_floor_locked(struct pln_node *node, uint64_t floor) {
    /* F1 release: the masks before it; pairs with pln_floor_now. As to itself it is a number alone:
     * a reader that still sees the old one is one that asked before the clear was answered */
    atomic_store_explicit(&node->floor, floor, memory_order_release);
}

uint64_t pln_floor_now(struct pln_node *node) {
    /* F1 acquire: pairs with set_floor_locked */
    return atomic_load_explicit(&node->floor, memory_order_acquire);
}

void pln_floor_raise(struct pln_node *node, uint64_t clock, bool is_own) {
    pthread_mutex_lock(&node->floor_lock);
    if (is_own && clock > node->own_clear) {
        node->own_clear = clock;
    }
    if (pln_floor_now(node) != 0 && clock > pln_floor_now(node)) {
        set_floor_locked(node, clock);
    }
    pthread_mutex_unlock(&node->floor_lock);
}

void pln_floor_forget(struct pln_node *node) {
    pthread_mutex_lock(&node->floor_lock);
    set_floor_locked(node, 0);
    pthread_mutex_unlock(&node->floor_lock);
}

void pln_floor_take(struct pln_node *node, const struct pln_times *times) {
    pthread_mutex_lock(&node->floor_lock);
    uint64_t cleared = times->cleared > node->own_clear ? times->cleared : node->own_clear;
    bool is_known = pln_drops_take_locked(node, times->drops, times->clock);
    uint64_t floor = cleared > times->base ? cleared : times->base;
    uint64_t present = pln_floor_now(node); /* a clear that was heard after the question */
    set_floor_locked(node, !is_known ? 0 : floor > present ? floor : present);
    pthread_mutex_unlock(&node->floor_lock);
}

int pln_floor_clock(struct pln_node *node, pln_ns deadline, uint64_t *clock) {
    struct pln_script_call call = {.script = PLN_SCRIPT_TIMES};
    struct pln_reply *reply;
    int result = pln_script_run(node, &call, deadline, &reply);
    if (result != PLN_OK) {
        return result;
    }
    if (reply->kind == PLN_REPLY_ARRAY && reply->n_elements == 3) {
        *clock = pln_reply_number(&reply->elements[2]);
    } else {
        result = pln_fail(PLN_EL2, "l2: redis at %s: the tags' clock is damaged (%s)",
                          pln_pool_label(&node->pool), node->redis->names.tags);
    }
    pln_reply_free(reply);
    return result;
}

void pln_floor_init(struct pln_node *node) {
    pthread_mutex_init(&node->floor_lock, NULL);
}

void pln_floor_fini(struct pln_node *node) {
    free(node->drops.bytes);
    pthread_mutex_destroy(&node->floor_lock);
}
