/* SPDX-License-Identifier: MIT
 *
 * removes.c - many keys removed at once: one script and one message for all that go over one
 * connection.
 *
 * Each key's commands are of one connection, which is fenced against its own late commands
 * (pool.c): so keys are sorted by server and connection, and what is sorted together is one step of
 * the server's. In a cluster a script is of one slot, and keys are sorted by that as well. All are
 * on their way before the first is waited for.
 *
 * The same command serves callers who remove one key each, and meet while the connection is busy:
 * their requests stand side by side in its queue, and go out as one (lead.c, PLN_SCRIPT_REMOVE in
 * script.c).
 */
#include "removes.h"
#include "internal.h"

#include <stdio.h>

enum { PARTS_AT_ONCE = 256 }; /* on their way: a queue takes four times as many */

/* ---- the command ---- */

void pln_removes_write(const struct pln_redis *redis, const struct pln_slot *slot,
                       const struct pln_bytes *keys, size_t n, bool by_text,
                       struct pln_batch *batch) {
    const char *hash = slot->hashes[PLN_SCRIPT_REMOVE_MANY];
    bool has_tags = redis->slots == NULL, has_log = pln_redis_has_log(redis);
    uint8_t bytes[PLN_MESSAGE_HEAD + PLN_MESSAGE_KEYS_MAX];
    by_text = by_text || hash[0] == 0;
    pln_batch_command(batch, 3 + 2 * n + has_tags + has_log + 4);
    pln_batch_text(batch, by_text ? "EVAL" : "EVALSHA");
    pln_batch_text(batch, by_text ? pln_script_text(PLN_SCRIPT_REMOVE_MANY) : hash);
    pln_batch_number(batch, (int64_t) (2 * n + has_tags + has_log));
    for (size_t i = 0; i < n; i++) {
        pln_names_write_value(&redis->names, keys[i], batch);
    }
    for (size_t i = 0; i < n; i++) {
        pln_names_write_lease(&redis->names, keys[i], batch);
    }
    if (has_tags) {
        pln_batch_text(batch, redis->names.tags);
    }
    if (has_log) {
        pln_batch_text(batch, redis->names.log);
    }
    /* relaxed: written by whoever leads the connection, and that is this thread */
    uint32_t incarnation = atomic_load_explicit(&slot->incarnation, memory_order_relaxed);
    struct pln_message message = {.kind = PLN_MESSAGE_KEYS,
                                  .origin = {redis->instance, incarnation}};
    size_t head = pln_message_write(&message, bytes), len = 0;
    for (size_t i = 0; i < n; i++) {
        len = pln_message_add_key(bytes + head, len, keys[i]);
    }
    pln_batch_text(batch, redis->names.channel);
    pln_batch_bytes(batch, pln_bytes_of(bytes, head + len));
    pln_batch_number(batch, (int64_t) redis->log_length);
    pln_batch_number(batch, (int64_t) n);
}

/* ---- many keys of one caller ---- */

/* A key's place among the servers (or slots), its connection, and what it is. */
struct placed {
    size_t place, index;
    struct pln_bytes key;
};

/* Keys that go together. */
struct part {
    struct pln_node *node;
    const struct placed *first;
    size_t n;
    bool by_text;
    struct pln_request request;
};

static int compare(const void *left, const void *right) {
    const struct placed *a = left, *b = right;
    if (a->place != b->place) {
        return a->place < b->place ? -1 : 1;
    }
    return a->index < b->index ? -1 : a->index > b->index;
}

static void write_part(void *arg, const struct pln_slot *slot, struct pln_batch *batch) {
    const struct part *part = arg;
    struct pln_bytes keys[PLN_MESSAGE_KEYS_MOST];
    for (size_t i = 0; i < part->n; i++) {
        keys[i] = part->first[i].key;
    }
    pln_removes_write(part->node->redis, slot, keys, part->n, part->by_text, batch);
}

/* Takes as many of the first keys as go together. */
static void cut(struct pln_redis *redis, const struct placed *placed, size_t n, struct part *part) {
    size_t bytes = 0;
    *part = (struct part){
        .node = pln_node_at(redis, placed->place),
        .first = placed,
        .request = {.write = write_part, .arg = part, .kinds = PLN_KIND(PLN_REPLY_INTEGER)}};
    while (part->n < n && part->n < PLN_MESSAGE_KEYS_MOST &&
           compare(placed, placed + part->n) == 0 &&
           bytes + 2 + placed[part->n].key.len <= PLN_MESSAGE_KEYS_MAX) {
        bytes += 2 + placed[part->n++].key.len;
    }
    part->request.n_bytes = 3 * bytes;
}

/* Takes the answer; where the server refused, or has the keys no more, it is asked in the usual
 * way. */
static int finish(struct part *part, pln_ns deadline) {
    struct pln_node *node = part->node;
    struct pln_reply *reply;
    int result = pln_line_finish(&node->pool, part->first->index, &part->request, &reply);
    if (result == PLN_OK && reply->kind == PLN_REPLY_ERROR) {
        part->by_text = pln_reply_is(reply, "NOSCRIPT");
        pln_reply_free(reply);
        result = pln_route_ask(&node, part->first->index, &part->request, deadline, &reply);
    }
    if (result == PLN_OK && reply->kind != PLN_REPLY_INTEGER) {
        result = pln_pool_refused(&node->pool, "remove", reply);
        pln_reply_free(reply);
    } else if (result == PLN_OK) {
        if (reply->integer > 1) {
            pln_feed_ack(&pln_node_of_tags(node)->feed, (uint64_t) reply->integer);
        }
        pln_reply_free(reply);
    }
    return result;
}

/* Sends some parts and waits for them; the first failure is kept in `failure` and its text. */
static size_t remove_some(struct pln_redis *redis, const struct placed *placed, size_t n,
                          struct part *parts, pln_ns deadline, int *failure,
                          char text[PLN_ERROR_TEXT]) {
    size_t n_parts = 0, at = 0;
    for (; at < n && n_parts < PARTS_AT_ONCE; n_parts++) {
        struct part *part = &parts[n_parts];
        cut(redis, placed + at, n - at, part);
        at += part->n;
        pln_line_post(&part->node->pool, part->first->index, &part->request, deadline);
    }
    for (size_t i = 0; i < n_parts; i++) {
        pln_line_flush(&parts[i].node->pool, parts[i].first->index);
    }
    for (size_t i = 0; i < n_parts; i++) {
        int result = finish(&parts[i], deadline);
        if (result != PLN_OK && *failure == PLN_OK) {
            *failure = result;
            snprintf(text, PLN_ERROR_TEXT, "%s", pln_error_text());
        }
    }
    return at;
}

int pln_redis_remove_many(struct pln_l2 *l2, const struct pln_hashed *keys, size_t n,
                          pln_ns deadline) {
    struct pln_redis *redis = pln_redis_of(l2);
    char text[PLN_ERROR_TEXT] = "";
    int failure = PLN_OK, result = PLN_OK;
    for (size_t i = 0; result == PLN_OK && i < n; i++) {
        result = pln_redis_check_key(&keys[i]);
    }
    if (result == PLN_OK) {
        result = pln_nodes_await(redis, deadline);
    }
    if (result != PLN_OK || n == 0) {
        return result;
    }
    struct placed *placed = calloc(n, sizeof *placed);
    struct part *parts = calloc(n < PARTS_AT_ONCE ? n : PARTS_AT_ONCE, sizeof *parts);
    for (size_t i = 0; placed != NULL && i < n; i++) {
        size_t place = pln_node_place(redis, keys[i].key);
        size_t index = pln_node_slot(pln_node_at(redis, place), &keys[i]);
        placed[i] = (struct placed){place, index, keys[i].key};
    }
    if (placed == NULL || parts == NULL) {
        failure = PLN_ENOMEM;
        snprintf(text, sizeof text, "l2: no memory for %zu keys", n);
    } else {
        qsort(placed, n, sizeof *placed, compare);
        for (size_t at = 0; at < n;) {
            at += remove_some(redis, placed + at, n - at, parts, deadline, &failure, text);
        }
    }
    free(parts);
    free(placed);
    return failure == PLN_OK ? PLN_OK : pln_fail(failure, "%s", text);
}
