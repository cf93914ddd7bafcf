/* SPDX-License-Identifier: MIT
 *
 * mend.c - what a link did not hear: how far the server's row of messages is, what is missing, and
 * how it is come by.
 *
 * With each heartbeat the server is asked for its number, over a data connection, and then for a
 * sign of life over the link. What the number names was said before that sign, so it has come when
 * the sign does, or it never will, however slow the link is. All that was done before the question
 * is then known to have been heard, what the server tells by tracking too: that is what a value in
 * L1 can be vouched for.
 *
 * A link that comes up again goes on where it ended, if the log has all that was said meanwhile and
 * the same message where it ended. Writers that use the library are in the log, others are not:
 * with tracking, what was missed is never known.
 *
 * A server that has lost what it had acknowledged may hold values that were deleted long since. So
 * the first who notices clears the namespace, which takes constant time; or nobody does, where
 * Redis is all there is of the values (on_lost_writes). It is noticed by its number, by its log's
 * entry where the row ended, and by that of the own change that was answered last: and another
 * server that can show neither is taken for one that has lost something. Without a log the number
 * has to do.
 */
#include "internal.h"

#include <stdio.h>

enum {
    ENTRIES_AT_ONCE = 500,
    PEER_BEATS = 5, /* heartbeats until a silent peer is none */
};

static const pln_ms shortest_peer_ms = 5000;

static pln_ns until(const struct pln_node *node) {
    return pln_clock_precise() + node->redis->timeout;
}

/* ---- asking ---- */

/* A floor that was forgotten after the question may be above the one of the answer. */
static int read_state(struct pln_node *node, const struct pln_reply *reply, bool is_floor_good,
                      struct pln_feed_state *state) {
    uint64_t numbers[5];
    if (reply->kind != PLN_REPLY_ARRAY || reply->n_elements != PLN_ARRAY_LEN(numbers) + 1) {
        return pln_fail(PLN_EL2, "l2: redis at %s: the tags' clock is damaged (%s)",
                        pln_pool_label(&node->pool), node->redis->names.tags);
    }
    for (size_t i = 0; i < PLN_ARRAY_LEN(numbers); i++) {
        numbers[i] = pln_reply_number(&reply->elements[i]);
    }
    state->base = numbers[0];
    state->number = numbers[3];
    if (pln_node_of_tags(node) == node && is_floor_good) {
        struct pln_times times = {numbers[0], numbers[1], numbers[2], reply->elements[5].bytes};
        pln_floor_take(node, &times);
        pln_sweep_look(node, times.drops);
    }
    /* relaxed: only shown */
    atomic_store_explicit(&node->n_peers, (unsigned) numbers[4], memory_order_relaxed);
    return PLN_OK;
}

/* In a cluster one server has the row of all. */
int pln_mend_ask(struct pln_node *node, struct pln_reply **reply) {
    struct pln_node *tags = pln_node_of_tags(node);
    struct pln_script_call call = {.script = PLN_SCRIPT_BEAT, .is_link = tags == node};
    char instance[24];
    pln_ms silence = PEER_BEATS * node->redis->ping / 1000000;
    snprintf(instance, sizeof instance, "%016llx", (unsigned long long) node->redis->instance);
    pln_script_add(&call, pln_key(instance));
    pln_script_add_number(&call, silence > shortest_peer_ms ? silence : shortest_peer_ms);
    return pln_script_run(tags, &call, until(node), reply);
}

/* What is known before the question is asked. */
static void prepare(struct pln_node *node, struct pln_feed_state *state) {
    pln_floor_run_id(pln_node_of_tags(node), state->run_id);
    state->known = pln_feed_known(&node->feed);
    state->at = pln_now(&node->redis->host);
}

static int ask(struct pln_node *node, struct pln_feed_state *state) {
    struct pln_reply *reply;
    prepare(node, state);
    int result = pln_mend_ask(node, &reply);
    if (result == PLN_OK) {
        result = read_state(node, reply, true, state);
        pln_reply_free(reply);
    }
    return result;
}

/* Whether what was promised has come. */
static int check_promise(struct pln_node *node) {
    if (!pln_feed_confirm(&node->feed)) {
        pln_count(node->redis->counts, PLN_COUNT_BUS_GAPS, 1);
        return pln_fail(PLN_EL2DOWN, "l2: redis at %s: messages up to number %llu are missing",
                        pln_pool_label(&node->pool), (unsigned long long) node->feed.goal);
    }
    return PLN_OK;
}

/* Between the servers of a cluster messages and signs of life go different ways. There a heartbeat
 * is long enough for a message to come, if the link itself does not lag. */
int pln_mend_confirm(struct pln_node *node) {
    return node->redis->slots == NULL ? check_promise(node) : PLN_OK;
}

static int take_state(struct pln_node *node, const struct pln_feed_state *state) {
    if (!pln_feed_beat(&node->feed, state)) {
        return pln_fail(PLN_EL2DOWN,
                        "l2: redis at %s: has lost what it knew, at message %llu of %llu",
                        pln_pool_label(&node->pool), (unsigned long long) state->number,
                        (unsigned long long) state->known);
    }
    return PLN_OK;
}

/* Where the server does not answer, the link is not to blame; nothing newer can be vouched for. */
int pln_mend_beat(struct pln_node *node) {
    struct pln_feed_state state;
    if (node->redis->slots != NULL && node->link.n_unanswered == 0 &&
        check_promise(node) != PLN_OK) {
        return PLN_EL2DOWN;
    }
    bool needs_floor = pln_node_of_tags(node) == node && pln_floor_now(node) == 0;
    prepare(node, &state);
    if (!needs_floor && pln_pulse_ask(node, &state) == PLN_OK) {
        return PLN_OK;
    }
    return ask(node, &state) == PLN_OK ? take_state(node, &state) : PLN_OK;
}

int pln_mend_answer(struct pln_node *node, bool *is_there) {
    struct pln_feed_state state;
    struct pln_reply *reply;
    *is_there = pln_pulse_take(node, &state, &reply);
    if (!*is_there) {
        return PLN_OK;
    }
    int result = read_state(node, reply, pln_floor_now(node) != 0, &state);
    pln_reply_free(reply);
    return result == PLN_OK ? take_state(node, &state) : result;
}

/* ---- the log ---- */

/* *reply is an error where the server does not let us, or has something else in its place. */
static int read_log(struct pln_node *node, int n, struct pln_reply **reply) {
    struct pln_batch batch;
    char from[32], count[16];
    snprintf(from, sizeof from, "%llu-0", (unsigned long long) node->feed.last);
    snprintf(count, sizeof count, "%d", n);
    pln_batch_init(&batch);
    pln_batch_texts(&batch, "XRANGE", node->redis->names.log, from, "+", "COUNT", count, NULL);
    struct pln_request request = {.write = pln_write_batch,
                                  .arg = &batch,
                                  .kinds = PLN_KIND(PLN_REPLY_ARRAY),
                                  .is_link = true};
    int result = pln_line_ask(&node->pool, 0, &request, until(node), reply);
    pln_batch_fini(&batch);
    if (result == PLN_OK && (*reply)->kind == PLN_REPLY_ERROR) {
        (void) pln_pool_refused(&node->pool, "XRANGE", *reply);
        pln_logf(&node->redis->host, PLN_LOG_WARN, "%s; what a lost link misses cannot be found",
                 pln_error_text());
    }
    return result;
}

/* An entry is [id, [field, message]], its id the number and "-0". */
static bool read_entry(const struct pln_reply *entry, uint64_t *number, struct pln_bytes *bytes) {
    const struct pln_reply *parts = entry->elements;
    char *rest;
    if (entry->kind != PLN_REPLY_ARRAY || entry->n_elements != 2 ||
        parts[0].kind != PLN_REPLY_STRING || parts[1].kind != PLN_REPLY_ARRAY ||
        parts[1].n_elements != 2 || parts[1].elements[1].kind != PLN_REPLY_STRING) {
        return false;
    }
    *number = strtoull(parts[0].bytes.data, &rest, 10);
    *bytes = parts[1].elements[1].bytes;
    return strcmp(rest, "-0") == 0;
}

static bool is_ours(const struct pln_node *node, struct pln_bytes bytes) {
    struct pln_message message;
    return pln_message_read(bytes, &message) && message.origin.instance == node->redis->instance;
}

/* Hears what a piece of the log says. False where the row does not go on with it. */
static bool hear_entries(struct pln_node *node, const struct pln_reply *log,
                         const struct pln_feed_state *state, bool *is_other) {
    for (size_t i = 0; log->kind == PLN_REPLY_ARRAY && i < log->n_elements; i++) {
        struct pln_bytes bytes;
        uint64_t number, last = node->feed.last;
        if (!read_entry(&log->elements[i], &number, &bytes) ||
            !pln_feed_take_logged(&node->feed, state, number, bytes, is_ours(node, bytes),
                                  is_other)) {
            return false;
        }
        if (number > last) {
            pln_link_take_logged(node, bytes);
            pln_count(node->redis->counts, PLN_COUNT_BUS_REPLAYED, 1);
        }
    }
    return true;
}

/* Hears from the log what the server has told since. Looked at even where nothing seems to be: the
 * same process may have been a replica of another meanwhile, and have that one's history. */
static int hear_log(struct pln_node *node, const struct pln_feed_state *state, bool *is_whole,
                    bool *is_other) {
    bool goes_on, has_all;
    do {
        struct pln_reply *log;
        uint64_t last = node->feed.last;
        int result = read_log(node, ENTRIES_AT_ONCE, &log);
        if (result != PLN_OK) {
            return result;
        }
        goes_on = hear_entries(node, log, state, is_other);
        has_all = goes_on && pln_feed_has_all(&node->feed, state);
        goes_on = has_all || (goes_on && node->feed.last > last);
        pln_reply_free(log);
    } while (goes_on && !has_all);
    *is_whole = goes_on;
    return PLN_OK;
}

/* What another server that takes over must have in the same place. */
static int note_beginning(struct pln_node *node) {
    struct pln_reply *log;
    struct pln_bytes bytes;
    uint64_t number;
    int result = read_log(node, 1, &log);
    if (result == PLN_OK) {
        if (log->kind == PLN_REPLY_ARRAY && log->n_elements == 1 &&
            read_entry(&log->elements[0], &number, &bytes)) {
            pln_feed_note(&node->feed, number, bytes);
        }
        pln_reply_free(log);
    }
    return result;
}

/* ---- a server that has lost writes ---- */

static int settle_loss(struct pln_node *node, struct pln_feed_state *state) {
    struct pln_reply *reply;
    struct pln_script_call call = {.script = PLN_SCRIPT_CLEAR_LOST,
                                   .kind = PLN_MESSAGE_CLEAR, /* the script appends the clock */
                                   .is_link = pln_node_of_tags(node) == node};
    pln_script_add(&call, pln_key(state->run_id));
    pln_script_add_number(&call, (int64_t) state->known);
    pln_script_add(&call, pln_key(node->redis->keeps_lost ? "keep" : "clear"));
    int result = pln_script_run(pln_node_of_tags(node), &call, until(node), &reply);
    if (result == PLN_OK) {
        pln_reply_free(reply);
        result = ask(node, state); /* the floor, and where the row goes on */
    }
    return result;
}

static int take_loss(struct pln_node *node, struct pln_feed_state *state, bool is_sure) {
    struct pln_redis *redis = node->redis;
    pln_count(redis->counts, PLN_COUNT_BUS_LOST_WRITES, 1);
    pln_logf(&redis->host, PLN_LOG_WARN,
             "l2: redis at %s %s writes that it had acknowledged, up to message %llu; its values "
             "are %s",
             pln_pool_label(&node->pool), is_sure ? "has lost" : "cannot show that it has all",
             (unsigned long long) state->known,
             redis->keeps_lost ? "kept, as on_lost_writes says" : "dropped");
    return settle_loss(node, state);
}

int pln_mend(struct pln_node *node, bool *is_whole) {
    struct pln_redis *redis = node->redis;
    struct pln_feed_state state;
    bool has_log = pln_redis_has_log(redis);
    bool is_other = false;
    int result = ask(node, &state);
    *is_whole = false;
    if (result != PLN_OK) {
        return result;
    }
    enum pln_feed_sync sync = pln_feed_sync(&node->feed, &state);
    if (has_log && (sync == PLN_FEED_SAME || sync == PLN_FEED_READ)) {
        result = hear_log(node, &state, is_whole, &is_other);
    } else if (sync == PLN_FEED_SAME) {
        *is_whole = pln_feed_has_all(&node->feed, &state);
    }
    bool is_lost = sync == PLN_FEED_LOST || is_other;
    bool is_unsure = sync == PLN_FEED_READ && has_log && !*is_whole &&
                     strcmp(node->feed.run_id, state.run_id) != 0;
    if (result == PLN_OK && (is_lost || is_unsure)) {
        result = take_loss(node, &state, is_lost);
    }
    if (result != PLN_OK) {
        return result;
    }
    if (!*is_whole) {
        pln_feed_begin(&node->feed, &state);
        result = has_log ? note_beginning(node) : PLN_OK;
    }
    *is_whole = *is_whole && !redis->tracking;
    return result;
}
