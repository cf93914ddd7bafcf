/* SPDX-License-Identifier: MIT
 *
 * hear.c - what comes over a link: messages of the namespace, and what the server tells by
 * tracking.
 *
 * A damaged message, or one of another version, does not take the link down, because the next
 * connection would hear it too. It may have been anything, so it is taken for the worst: everything
 * is void. Its number is then missing, and read from the log by the next connection.
 */
#include "internal.h"
#include "thread.h"

const char pln_tracking_channel[] = "__redis__:invalidate";

static void take_all_for_void(struct pln_node *node) {
    const struct pln_l2_events *events = &node->redis->events;
    if (events->on_clear != NULL) {
        events->on_clear(events->arg);
    }
}

/* A clear, or a mask, before anybody is told: what is read after that is read with it in force. In
 * a cluster the message comes over every link, and whoever has the tags then, or has them next,
 * must know of it. */
static void take_drop(struct pln_node *node, const struct pln_message *message) {
    struct pln_redis *redis = node->redis;
    bool is_cluster = redis->slots != NULL;
    for (size_t i = 0; i < (is_cluster ? pln_nodes_count(redis) : 1); i++) {
        struct pln_node *one = is_cluster ? redis->nodes[i] : node;
        uint64_t clock;
        if (message->kind == PLN_MESSAGE_CLEAR) {
            clock = pln_take_big(message->payload.data, PLN_MESSAGE_CLEAR_BYTES);
            pln_floor_raise(one, clock, false);
        } else {
            struct pln_mask mask = pln_message_mask(message->payload, &clock);
            pln_drops_add(one, clock, &mask);
        }
    }
}

/* Whose connection it came over is told apart by server only, so in a cluster, where messages come
 * over others too, none is taken for own. */
static bool is_own(struct pln_node *node, const struct pln_message *message) {
    return message->origin.instance == node->redis->instance &&
           (message->kind == PLN_MESSAGE_PING ||
            (node->redis->slots == NULL && pln_pool_has(&node->pool, message->origin.incarnation)));
}

/* Until a link that comes up has asked for the row, another server than before may say the number
 * that comes next, and have another history before it. */
static bool is_in_row(struct pln_node *node) {
    return pln_flag_is_set(&node->link.is_up) ||
           strcmp(node->feed.run_id, node->link.conn.run_id) == 0;
}

/* Returns whether the row of messages is unbroken. */
static bool take_message(struct pln_node *node, struct pln_bytes bytes, bool is_logged) {
    struct pln_message message;
    if (!pln_message_read(bytes, &message)) {
        pln_count(node->redis->counts, PLN_COUNT_BUS_BAD, 1);
        pln_floor_forget(node); /* it may have been a clear; the next beat reads the floor */
        take_all_for_void(node);
        return true;
    }
    bool is_from_us = is_own(node, &message);
    if (message.kind == PLN_MESSAGE_CLEAR || message.kind == PLN_MESSAGE_MATCH) {
        take_drop(node, &message);
    } else if (message.kind == PLN_MESSAGE_PING && is_from_us) {
        node->link.has_pinged = node->link.has_pinged ||
                                pln_take_big(message.payload.data, 8) == node->link.ping;
    }
    if (!is_from_us) {
        pln_message_report(&node->redis->events, &message);
    }
    if (!is_logged && is_in_row(node)) {
        bool is_old = message.number != 0 && message.number <= node->feed.last;
        pln_feed_take(&node->feed, message.number, bytes);
        pln_count(node->redis->counts, PLN_COUNT_BUS_OLD, is_old);
    }
    /* last, so that who sees the count may rely on what the message did */
    pln_count(node->redis->counts, is_from_us ? PLN_COUNT_BUS_OWN : PLN_COUNT_BUS_RECEIVED, 1);
    return !pln_feed_is_broken(&node->feed);
}

void pln_link_take_logged(struct pln_node *node, struct pln_bytes bytes) {
    take_message(node, bytes, true);
}

/* A message in the right place of the row. What is missing is looked for where it is kept, once the
 * link has been made anew; while it comes up, the gap is the one that it mends anyway. */
static int hear_message(struct pln_node *node, struct pln_bytes bytes) {
    uint64_t last = node->feed.last;
    if (take_message(node, bytes, false) || !pln_flag_is_set(&node->link.is_up)) {
        return PLN_OK;
    }
    pln_count(node->redis->counts, PLN_COUNT_BUS_GAPS, 1);
    return pln_fail(PLN_EL2DOWN, "l2: redis at %s: the message after number %llu is missing",
                    pln_pool_label(&node->pool), (unsigned long long) last);
}

/* Keys that the server saw change, whoever changed them: our own writes come back too, since the
 * server does not say whose they were. Without a list: all of them. */
static void take_invalidation(struct pln_node *node, const struct pln_reply *keys) {
    if (keys->kind != PLN_REPLY_ARRAY) {
        pln_count(node->redis->counts, PLN_COUNT_BUS_RECEIVED, 1);
        take_all_for_void(node);
        return;
    }
    for (size_t i = 0; i < keys->n_elements; i++) {
        const struct pln_reply *name = &keys->elements[i];
        struct pln_bytes key;
        pln_count(node->redis->counts, PLN_COUNT_BUS_RECEIVED, 1);
        if (name->kind == PLN_REPLY_STRING &&
            pln_names_read(&node->redis->names, name->bytes, &key) &&
            node->redis->events.on_key != NULL) {
            node->redis->events.on_key(node->redis->events.arg, key);
        }
    }
}

static bool is_text(const struct pln_reply *reply, const char *text) {
    return reply->kind == PLN_REPLY_STRING && reply->bytes.len == strlen(text) &&
           memcmp(reply->bytes.data, text, reply->bytes.len) == 0;
}

static bool is_pong(const struct pln_reply *reply) {
    const struct pln_refusal *refusal = pln_refusal_of(reply);
    return (refusal != NULL && refusal->is_pong) ||
           (reply->kind == PLN_REPLY_ARRAY && reply->n_elements == 2 &&
            is_text(&reply->elements[0], "pong"));
}

int pln_link_take(struct pln_node *node, const struct pln_reply *reply) {
    const struct pln_reply *part = reply->elements;
    if (reply->kind == PLN_REPLY_ARRAY && reply->n_elements == 3 && is_text(&part[0], "message")) {
        if (is_text(&part[1], pln_tracking_channel)) {
            take_invalidation(node, &part[2]);
            return PLN_OK;
        }
        if (is_text(&part[1], node->redis->names.channel) && part[2].kind == PLN_REPLY_STRING) {
            return hear_message(node, part[2].bytes);
        }
    } else if (reply->kind == PLN_REPLY_ARRAY && reply->n_elements == 3 &&
               is_text(&part[0], "subscribe")) {
        node->link.n_subscribed++;
        return PLN_OK;
    } else if (is_pong(reply)) {
        node->link.n_unanswered -= node->link.n_unanswered > 0;
        return node->link.n_unanswered == 0 ? pln_mend_confirm(node) : PLN_OK;
    }
    return pln_fail(PLN_EL2DOWN, "l2: redis at %s: the link heard what is no message (%s)",
                    pln_pool_label(&node->pool),
                    reply->kind == PLN_REPLY_ERROR ? pln_reply_text(reply) : "of an unknown kind");
}
