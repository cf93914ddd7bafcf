/* SPDX-License-Identifier: MIT
 *
 * swap.c - a value in the place of another one, if that is there. What was there comes back with
 * the answer where it was another one, so who tries again needs no read in between.
 *
 * In a cluster the script cannot see the tags, so the value is read before. Where it is found to be
 * void, and none is expected, what the script still sees gives way, as it is.
 *
 * One that has to be stored elsewhere gets its place in the queue in the same step (behind.c).
 */
#include "internal.h"

#include <inttypes.h>
#include <stdio.h>

/* A swap under way. */
struct swapping {
    struct pln_redis *redis;
    const struct pln_hashed *key;
    const struct pln_l2_write *write; /* NULL: nothing is put into the queue */
    pln_ns deadline;
};

static int take_answer(struct pln_node *node, const struct pln_reply *reply,
                       struct pln_l2_value *value) {
    if (reply->kind != PLN_REPLY_ARRAY || reply->n_elements != 2 ||
        reply->elements[0].kind != PLN_REPLY_INTEGER) {
        return pln_fail(PLN_EL2, "l2: redis at %s: swap: an answer of an unexpected kind",
                        pln_pool_label(&node->pool));
    }
    int64_t number = reply->elements[0].integer;
    if (number > 1) {
        pln_feed_ack(&pln_node_of_tags(node)->feed, (uint64_t) number);
    }
    if (number < 0) {
        return number == -2 ? PLN_EBUSY : PLN_MISS;
    }
    if (pln_read_value(node->redis, &node->pool, &reply->elements[1], value) != PLN_OK) {
        *value = (struct pln_l2_value){.memory = NULL};
    }
    return number > 0 ? PLN_OK : PLN_NOT_STORED;
}

static int swap_once(const struct swapping *swapping, const struct pln_l2_swap *swap,
                     const char *mode, uint64_t clock, struct pln_l2_value *value) {
    const struct pln_l2_write *write = swapping->write;
    struct pln_script_call call = {.script = PLN_SCRIPT_SWAP,
                                   .key = swapping->key,
                                   .kind = PLN_MESSAGE_KEY,
                                   .payload = swapping->key->key};
    uint8_t memory[PLN_SCRIPT_ITEM_MAX];
    char how[96];
    struct pln_node *node = pln_node_of(swapping->redis, swapping->key->key);
    struct pln_reply *reply;
    int len = snprintf(how, sizeof how, "%s %u %u %" PRIu64, mode, (unsigned) swap->format,
                       (unsigned) swap->packing, clock);
    bool is_own = write != NULL && !pln_bytes_equal(write->value, swap->item->value);
    if (write != NULL) {
        snprintf(how + len, sizeof how - (size_t) len, " %zu s%u %d", write->most,
                 (unsigned) swap->item->format, is_own);
    }
    pln_script_add(&call, pln_key(how));
    pln_script_add(&call, swap->expected);
    if (write == NULL) {
        pln_script_add_item(&call, swap->item, memory);
    } else {
        call.script = PLN_SCRIPT_WRITE_SWAP;
        pln_queue_add_names(swapping->redis, &call);
        pln_script_add_envelope(&call, swap->item, memory);
        pln_script_add(&call, is_own ? write->value : pln_key(""));
    }
    int status = pln_script_run(node, &call, swapping->deadline, &reply);
    if (status == PLN_OK) {
        status = take_answer(node, reply, value);
        pln_reply_free(reply);
    }
    return status == PLN_EBUSY && write != NULL ? pln_queue_full(write->most) : status;
}

int pln_swap_compare(const struct pln_l2_swap *swap, const struct pln_l2_value *value) {
    const struct pln_l2_item *item = &value->item;
    if (value->memory == NULL || item->is_absent || item->fresh_left <= 0) {
        return swap->expects ? PLN_MISS : PLN_OK;
    }
    return swap->expects && item->format == swap->format && item->packing == swap->packing &&
                   pln_bytes_equal(item->value, swap->expected)
               ? PLN_OK
               : PLN_NOT_STORED;
}

static const char *mode_of(const struct pln_l2_swap *swap) {
    return !swap->expects ? "none" : swap->keeps_life ? "keep" : "renew";
}

/* What the script took for a value, and gave us, was found to be void before. */
static int replace_void(const struct swapping *swapping, const struct pln_l2_swap *swap,
                        uint64_t clock, struct pln_l2_value *value) {
    struct pln_l2_value is_void = *value;
    struct pln_l2_swap again = *swap;
    again.expected = is_void.item.value;
    again.format = is_void.item.format;
    again.packing = is_void.item.packing;
    *value = (struct pln_l2_value){.memory = NULL};
    int status = swap_once(swapping, &again, "void", clock, value);
    if (status == PLN_MISS) {
        status = swap_once(swapping, swap, "none", clock, value);
    }
    pln_l2_value_fini(&is_void);
    return status;
}

static int swap_apart(const struct swapping *swapping, const struct pln_l2_swap *swap,
                      struct pln_l2_value *value) {
    struct pln_l2_value present = {.memory = NULL};
    struct pln_redis *redis = swapping->redis;
    uint64_t clock = 0;
    int status = pln_redis_clock_apart(redis, swapping->deadline, &clock);
    if (status == PLN_OK) {
        status = pln_redis_get(&redis->l2, swapping->key, swapping->deadline, &present);
    }
    if (status < 0) {
        return status;
    }
    status = pln_swap_compare(swap, &present);
    if (status == PLN_NOT_STORED) {
        *value = present;
        return status;
    }
    bool was_there = present.memory != NULL;
    pln_l2_value_fini(&present);
    if (status == PLN_OK) {
        status = swap_once(swapping, swap, mode_of(swap), clock, value);
    }
    if (status == PLN_NOT_STORED && !swap->expects && !was_there && value->memory != NULL) {
        status = replace_void(swapping, swap, clock, value);
    }
    return status;
}

static int swap_value(const struct swapping *swapping, const struct pln_l2_swap *swap,
                      struct pln_l2_value *value) {
    int status = pln_envelope_check(swap->item);
    if (status == PLN_OK) {
        status = pln_redis_check_key(swapping->key);
    }
    if (status == PLN_OK) {
        status = pln_nodes_await(swapping->redis, swapping->deadline);
    }
    if (status != PLN_OK) {
        return status;
    }
    return swapping->redis->slots == NULL ? swap_once(swapping, swap, mode_of(swap), 0, value)
                                          : swap_apart(swapping, swap, value);
}

int pln_redis_swap(struct pln_l2 *l2, const struct pln_hashed *key, const struct pln_l2_swap *swap,
                   pln_ns deadline, struct pln_l2_value *value) {
    struct swapping swapping = {.redis = pln_redis_of(l2), .key = key, .deadline = deadline};
    return swap_value(&swapping, swap, value);
}

int pln_redis_write_swap(struct pln_l2 *l2, const struct pln_hashed *key,
                         const struct pln_l2_write *write, pln_ns deadline,
                         struct pln_l2_value *value) {
    struct swapping swapping = {pln_redis_of(l2), key, write, deadline};
    return swap_value(&swapping, write->swap, value);
}
