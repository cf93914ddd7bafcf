/* SPDX-License-Identifier: MIT
 *
 * drops.c - see drops.h; and the operation that adds to the list.
 */
#include "drops.h"
#include "internal.h"

enum { AT_TIME = 8, AT_LEN = 16, AT_KIND = 18, HEAD = 18 };

/* ---- a list ---- */

bool pln_drops_next(struct pln_bytes *list, struct pln_drop *drop) {
    const uint8_t *at = list->data;
    if (list->len <= HEAD) {
        return false;
    }
    size_t len = (size_t) pln_take_big(at + AT_LEN, 2);
    if (len == 0 || len > list->len - HEAD || !pln_mask_is_kind(at[AT_KIND])) {
        return false;
    }
    *drop = (struct pln_drop){
        .clock = pln_take_big(at, 8),
        .at = (pln_ms) pln_take_big(at + AT_TIME, 8),
        .mask = {(enum pln_mask_kind) at[AT_KIND], pln_bytes_of(at + HEAD + 1, len - 1)},
        .entry = pln_bytes_of(at, HEAD + len)};
    *list = pln_bytes_of(at + HEAD + len, list->len - HEAD - len);
    return true;
}

bool pln_drops_void(struct pln_bytes list, struct pln_bytes key, uint64_t clock) {
    struct pln_drop drop;
    while (pln_drops_next(&list, &drop)) {
        if (clock < drop.clock && pln_mask_fits(&drop.mask, key)) {
            return true;
        }
    }
    return list.len > 0;
}

/* ---- what a node knows of it ---- */

static struct pln_bytes known_locked(const struct pln_node *node) {
    return pln_bytes_of(node->drops.bytes, node->drops.len);
}

static uint64_t newest(const struct pln_node *node) {
    /* relaxed: who has not heard of a drop asked before it was answered, and who reads the floor
     * as known has this one of then, too (F1 in floor.c) */
    return atomic_load_explicit(&node->drops.newest, memory_order_relaxed);
}

static void set_newest_locked(struct pln_node *node) {
    struct pln_bytes list = known_locked(node);
    struct pln_drop drop;
    uint64_t latest = 0;
    while (pln_drops_next(&list, &drop)) {
        latest = drop.clock > latest ? drop.clock : latest;
    }
    /* relaxed: see newest(); one of ours that is damaged is taken for later than all */
    atomic_store_explicit(&node->drops.newest, list.len > 0 ? UINT64_MAX : latest,
                          memory_order_relaxed);
}

bool pln_drops_know(struct pln_node *node, struct pln_bytes key, uint64_t clock) {
    if (clock >= newest(node)) {
        return false;
    }
    pthread_mutex_lock(&node->floor_lock);
    bool is_void = pln_drops_void(known_locked(node), key, clock);
    pthread_mutex_unlock(&node->floor_lock);
    return is_void;
}

static bool append_locked(struct pln_node *node, struct pln_bytes entry) {
    uint8_t *longer = realloc(node->drops.bytes, node->drops.len + entry.len);
    if (longer == NULL) {
        return false;
    }
    memcpy(longer + node->drops.len, entry.data, entry.len);
    node->drops.bytes = longer;
    node->drops.len += entry.len;
    return true;
}

/* Whether the mask is listed with this time or a later one. */
static bool is_listed_locked(const struct pln_node *node, uint64_t clock,
                             const struct pln_mask *mask) {
    struct pln_bytes list = known_locked(node);
    struct pln_drop drop;
    while (pln_drops_next(&list, &drop)) {
        if (drop.clock >= clock && drop.mask.kind == mask->kind &&
            pln_bytes_equal(drop.mask.text, mask->text)) {
            return true;
        }
    }
    return false;
}

void pln_drops_add(struct pln_node *node, uint64_t clock, const struct pln_mask *mask) {
    uint8_t entry[HEAD + 1 + PLN_MAX_KEY];
    assert(mask->text.len <= PLN_MAX_KEY);
    pln_put_big(entry, clock, 8);
    pln_put_big(entry + AT_TIME, 0, 8); /* of the sweeper's concern, who reads the list itself */
    pln_put_big(entry + AT_LEN, 1 + mask->text.len, 2);
    entry[AT_KIND] = (uint8_t) mask->kind;
    if (mask->text.len > 0) {
        memcpy(entry + HEAD + 1, mask->text.data, mask->text.len);
    }
    pthread_mutex_lock(&node->floor_lock);
    bool is_kept = is_listed_locked(node, clock, mask) ||
                   append_locked(node, pln_bytes_of(entry, HEAD + 1 + mask->text.len));
    set_newest_locked(node);
    pthread_mutex_unlock(&node->floor_lock);
    if (!is_kept) {
        pln_floor_forget(node); /* so that the server is asked until a beat has brought the list */
    }
}

bool pln_drops_take_locked(struct pln_node *node, struct pln_bytes list, uint64_t clock) {
    struct pln_drops before = {.bytes = node->drops.bytes, .len = node->drops.len};
    struct pln_bytes known = known_locked(node);
    struct pln_drop drop;
    node->drops.bytes = NULL;
    node->drops.len = 0;
    bool is_kept = list.len == 0 || append_locked(node, list);
    while (is_kept && pln_drops_next(&known, &drop)) {
        is_kept = drop.clock <= clock || append_locked(node, drop.entry);
    }
    if (!is_kept) {
        free(node->drops.bytes);
        node->drops.bytes = before.bytes;
        node->drops.len = before.len;
        return false;
    }
    free(before.bytes);
    set_newest_locked(node);
    return true;
}

void pln_drops_forget_locked(struct pln_node *node) {
    free(node->drops.bytes);
    node->drops.bytes = NULL;
    node->drops.len = 0;
    set_newest_locked(node);
}

/* ---- the operation ---- */

/* A list that is full is emptied by dropping everything, which is more than was asked for, and
 * safe. */
static int clear_instead(struct pln_node *node, pln_ns deadline) {
    pln_logf(&node->redis->host, PLN_LOG_WARN,
             "l2: redis at %s: more prefixes and patterns are being invalidated than are kept (%d, "
             "%d bytes): all its values are dropped instead",
             pln_pool_label(&node->pool), PLN_MOST_DROPS, PLN_MOST_DROP_BYTES);
    return pln_redis_clear_node(node, deadline);
}

static int take_drop(struct pln_node *node, uint64_t clock, const void *arg, pln_ns deadline) {
    if (clock == 0) {
        return clear_instead(node, deadline);
    }
    pln_drops_add(node, clock, arg);
    return PLN_OK;
}

int pln_redis_drop_match(struct pln_l2 *l2, const struct pln_mask *mask, pln_ns deadline) {
    struct pln_redis *redis = pln_redis_of(l2);
    uint8_t payload[1 + PLN_MAX_KEY] = {(uint8_t) mask->kind};
    if (mask->text.len > PLN_MAX_KEY) {
        return pln_fail(PLN_ETOOBIG, "l2: a prefix or pattern of %zu bytes, %d at most",
                        mask->text.len, PLN_MAX_KEY);
    }
    if (mask->text.len > 0) {
        memcpy(payload + 1, mask->text.data, mask->text.len);
    }
    struct pln_bytes bytes = pln_bytes_of(payload, 1 + mask->text.len);
    struct pln_script_call call = {.script = PLN_SCRIPT_DROP_MATCH,
                                   .kind = PLN_MESSAGE_MATCH, /* the script appends the clock */
                                   .payload = bytes};
    pln_script_add(&call, bytes);
    pln_script_add_number(&call, PLN_MOST_DROPS);
    pln_script_add_number(&call, PLN_MOST_DROP_BYTES);
    int result = pln_redis_run_everywhere(redis, &call, take_drop, mask, deadline);
    pln_sweep_ask(redis);
    return result;
}
