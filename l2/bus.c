/* SPDX-License-Identifier: MIT
 *
 * bus.c - the link: one connection that hears what others do, and one thread that listens.
 *
 * The connection tracks (where wanted), is the target of its own tracking, and subscribes. So
 * tracker and subscriber live and die together: with two connections the tracking one can die
 * while the subscriber stays up and silent.
 *
 * Up means: logged in to a master; tracking and subscriptions confirmed; the data connections reach
 * the same server; the floor read from it; and a message of our own, sent over a data connection,
 * heard. Events are reported from then on. Messages before that need no report, since nothing that
 * was read before on_up may be kept.
 *
 * Any fault takes the link down: end of file, error, two heartbeats long no byte, a reply that
 * makes no sense, another server under the data connections. on_down is called before anything
 * else, and once; then the connection is closed and made anew, after a growing pause where it does
 * not stay up.
 *
 * A damaged message does not take the link down, because the next connection would hear it too. It
 * may have been anything, so it is taken for the worst: everything is void.
 */
#include "internal.h"
#include "thread.h"

#include <errno.h>
#include <poll.h>
#include <stdio.h>
#include <sys/eventfd.h>
#include <time.h>
#include <unistd.h>

enum {
    MAX_MESSAGE = 32 * 1024 * 1024, /* of tracking: the keys of one turn of the server's loop */
    BEATS_TO_DEATH = 2,             /* one after the last byte, and one more without an answer */
};

static const char tracking_channel[] = "__redis__:invalidate";
/* A link that lived so long was a good one: the next is made without a pause. */
static const pln_ns good_life = 1000 * 1000000LL;

/* ---- flags that other threads read ---- */

static void note_life(struct pln_link *link) {
    /* relaxed: only shown */
    atomic_store_explicit(&link->heard_at, pln_clock_precise(), memory_order_relaxed);
}

bool pln_link_is_ok(struct pln_node *node, pln_ms *beat_age) {
    /* relaxed: only shown */
    pln_ns heard_at = atomic_load_explicit(&node->link.heard_at, memory_order_relaxed);
    *beat_age = heard_at == 0 ? PLN_FOREVER : (pln_clock_precise() - heard_at) / 1000000;
    return pln_flag_is_set(&node->link.is_up) &&
           *beat_age <= BEATS_TO_DEATH * node->redis->ping / 1000000;
}

void pln_link_set_idle(struct pln_node *node, bool is_idle) {
    pln_flag_set(&node->link.is_idle, is_idle);
    pln_wake(node->link.wake_fd);
}

void pln_link_drop(void *arg) {
    struct pln_node *node = arg;
    pln_flag_set(&node->link.is_unwanted, true);
    pln_wake(node->link.wake_fd);
}

/* ---- what comes in ---- */

static void call(struct pln_node *node, void (*event)(void *)) {
    if (event != NULL) {
        event(node->redis->events.arg);
    }
}

static void take_all_for_void(struct pln_node *node) {
    if (pln_flag_is_set(&node->link.is_up)) {
        call(node, node->redis->events.on_clear);
    }
}

/* In a cluster the message comes over every link, and whoever has the tags then, or has them next,
 * must know of it. */
static void take_clear(struct pln_node *node, const struct pln_message *message) {
    struct pln_redis *redis = node->redis;
    const uint8_t *payload = message->payload.data;
    uint64_t clock = pln_take_big(payload + 2, 8);
    /* channels know no databases, but each database has a clock of its own */
    if (pln_take_big(payload, 2) != (uint64_t) redis->url.login.database) {
        return;
    }
    if (redis->slots == NULL) {
        pln_floor_raise(node, clock, false);
        return;
    }
    for (size_t i = 0; i < pln_nodes_count(redis); i++) {
        pln_floor_raise(redis->nodes[i], clock, false);
    }
}

/* Whose connection it came over is told apart by server only, so in a cluster, where messages come
 * over others too, none is taken for own. */
static bool is_own(struct pln_node *node, const struct pln_message *message) {
    return message->origin.instance == node->redis->instance &&
           (message->kind == PLN_MESSAGE_PING ||
            (node->redis->slots == NULL && pln_pool_has(&node->pool, message->origin.incarnation)));
}

static void take_message(struct pln_node *node, struct pln_bytes bytes) {
    struct pln_message message;
    if (!pln_message_read(bytes, &message)) {
        pln_count(node->redis->counts, PLN_COUNT_BUS_BAD, 1);
        pln_floor_forget(node); /* it may have been a clear; the next beat reads the floor */
        take_all_for_void(node);
        return;
    }
    bool is_from_us = is_own(node, &message);
    if (message.kind == PLN_MESSAGE_CLEAR) {
        take_clear(node, &message);
    } else if (message.kind == PLN_MESSAGE_PING && is_from_us) {
        node->link.has_pinged = node->link.has_pinged ||
                                pln_take_big(message.payload.data, 8) == node->link.ping;
    }
    if (!is_from_us && pln_flag_is_set(&node->link.is_up)) {
        pln_message_report(&node->redis->events, &message);
    }
    /* last, so that who sees the count may rely on what the message did */
    pln_count(node->redis->counts, is_from_us ? PLN_COUNT_BUS_OWN : PLN_COUNT_BUS_RECEIVED, 1);
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
            pln_flag_is_set(&node->link.is_up) && node->redis->events.on_key != NULL) {
            node->redis->events.on_key(node->redis->events.arg, key);
        }
    }
}

static bool is_text(const struct pln_reply *reply, const char *text) {
    return reply->kind == PLN_REPLY_STRING && reply->bytes.len == strlen(text) &&
           memcmp(reply->bytes.data, text, reply->bytes.len) == 0;
}

int pln_link_take(struct pln_node *node, const struct pln_reply *reply) {
    const struct pln_reply *part = reply->elements;
    if (reply->kind == PLN_REPLY_ARRAY && reply->n_elements == 3 && is_text(&part[0], "message")) {
        if (is_text(&part[1], tracking_channel)) {
            take_invalidation(node, &part[2]);
            return PLN_OK;
        }
        if (is_text(&part[1], node->redis->names.channel) && part[2].kind == PLN_REPLY_STRING) {
            take_message(node, part[2].bytes);
            return PLN_OK;
        }
    } else if (reply->kind == PLN_REPLY_ARRAY && reply->n_elements == 3 &&
               is_text(&part[0], "subscribe")) {
        node->link.n_subscribed++;
        return PLN_OK;
    } else if (reply->kind == PLN_REPLY_ARRAY && reply->n_elements == 2 &&
               is_text(&part[0], "pong")) {
        return PLN_OK;
    }
    return pln_fail(PLN_EL2DOWN, "l2: redis at %s: the link heard what is no message (%s)",
                    pln_pool_label(&node->pool),
                    reply->kind == PLN_REPLY_ERROR ? pln_reply_text(reply) : "of an unknown kind");
}

/* Takes all whole replies that have arrived. */
static int take_replies(struct pln_node *node) {
    struct pln_reply *reply;
    int result;
    while ((result = pln_conn_next(&node->link.conn, &reply)) == PLN_OK) {
        result = pln_link_take(node, reply);
        pln_reply_free(reply);
        if (result != PLN_OK) {
            return result;
        }
    }
    return result == PLN_MISS ? PLN_OK : result;
}

static int take_bytes(struct pln_node *node, pln_ns deadline) {
    int result = pln_conn_fill(&node->link.conn, deadline);
    if (result == PLN_OK) {
        note_life(&node->link);
        result = take_replies(node);
    }
    return result;
}

/* ---- going up ---- */

static int send_texts(struct pln_node *node, struct pln_batch *batch, pln_ns deadline) {
    int result = pln_conn_send(&node->link.conn, batch, deadline);
    pln_batch_fini(batch);
    return result;
}

static int track(struct pln_node *node, pln_ns deadline) {
    struct pln_batch batch;
    struct pln_reply *reply = NULL;
    char id[24];
    snprintf(id, sizeof id, "%lld", node->link.conn.id);
    pln_batch_init(&batch);
    pln_batch_texts(&batch, "CLIENT", "TRACKING", "ON", "REDIRECT", id, "BCAST", "PREFIX",
                    node->redis->names.value, "PREFIX", node->redis->names.odd_value, NULL);
    int result = pln_conn_exchange(&node->link.conn, &batch, deadline, &reply);
    if (result == PLN_OK && reply->kind == PLN_REPLY_ERROR) {
        /* going on without would serve what foreign programs have replaced */
        result = pln_fail(PLN_EL2DOWN, "l2: redis at %s refused CLIENT TRACKING: %s",
                          pln_pool_label(&node->pool), pln_reply_text(reply));
    }
    pln_replies_free(&reply, 1);
    pln_batch_fini(&batch);
    return result;
}

static int subscribe(struct pln_node *node, pln_ns deadline) {
    struct pln_batch batch;
    unsigned wanted = node->redis->tracking ? 2 : 1;
    pln_batch_init(&batch);
    pln_batch_texts(&batch, "SUBSCRIBE", node->redis->names.channel,
                    node->redis->tracking ? tracking_channel : NULL, NULL);
    node->link.n_subscribed = 0;
    int result = send_texts(node, &batch, deadline);
    while (result == PLN_OK && node->link.n_subscribed < wanted) {
        result = take_bytes(node, deadline);
    }
    return result;
}

/* Hears a message of its own that went the way of all others. */
static int test_itself(struct pln_node *node, pln_ns deadline) {
    node->link.ping = pln_random64();
    node->link.has_pinged = false;
    int result = pln_redis_ping(node, node->link.ping, deadline);
    while (result == PLN_OK && !node->link.has_pinged) {
        result = take_bytes(node, deadline);
    }
    return result;
}

static int go_up(struct pln_node *node) {
    struct pln_link *link = &node->link;
    pln_ns deadline = pln_clock_precise() + node->redis->connect_timeout;
    pln_flag_set(&link->is_unwanted, false);
    int result = pln_conn_open(&link->conn, pln_pool_endpoint(&node->pool), node->pool.tls,
                               deadline);
    if (result == PLN_OK) {
        link->conn.max_reply = MAX_MESSAGE;
        /* not RESP3: its pushes say the same as RESP2's messages, and would be a second way */
        result = pln_conn_login(&link->conn, node->pool.login, node->redis->client_name, PLN_RESP2,
                                deadline);
    }
    if (result == PLN_OK) {
        pln_node_require(node, link->conn.run_id);
        pln_floor_server(node, link->conn.run_id);
        result = node->redis->tracking ? track(node, deadline) : PLN_OK;
    }
    if (result == PLN_OK) {
        result = subscribe(node, deadline);
    }
    if (result == PLN_OK && pln_node_of_tags(node) == node) {
        result = pln_floor_read(node, deadline);
    }
    return result == PLN_OK ? test_itself(node, deadline) : result;
}

/* ---- being up ---- */

static int beat(struct pln_node *node) {
    struct pln_batch batch;
    pln_batch_init(&batch);
    pln_batch_texts(&batch, "PING", NULL);
    int result = send_texts(node, &batch, pln_clock_precise() + node->redis->timeout);
    if (result == PLN_OK && pln_floor_now(node) == 0 && pln_node_of_tags(node) == node) {
        pln_floor_read(node, pln_clock_precise() + node->redis->timeout);
    }
    return result;
}

/* Sleeps until there are bytes, the link is woken, or the point has come. */
static bool has_bytes(struct pln_link *link, pln_ns until) {
    bool is_open = pln_conn_is_open(&link->conn);
    pln_ns left = until - pln_clock_precise();
    left = left < 0 ? 0 : left;
    struct timespec timeout = pln_timespec(left);
    struct pollfd polls[] = {{.fd = link->wake_fd, .events = POLLIN},
                             {.fd = link->conn.stream.fd, .events = POLLIN}};
    int n = ppoll(polls, is_open ? 2 : 1, &timeout, NULL);
    if (n > 0 && polls[0].revents != 0) {
        pln_was_woken(link->wake_fd);
    }
    return n > 0 && is_open && polls[1].revents != 0;
}

static bool must_go(struct pln_link *link) {
    return pln_flag_is_set(&link->is_stopping) || pln_flag_is_set(&link->is_unwanted) ||
           pln_flag_is_set(&link->is_idle);
}

/* Listens until something is wrong, and says what. Life is any byte, so a link that is busy is not
 * taken for dead because its pong is late; and bytes are looked for first, so neither is one whose
 * process was asleep. */
static int listen_on(struct pln_node *node) {
    struct pln_link *link = &node->link;
    pln_ns beat_at = pln_clock_precise();
    bool has_heard = true;
    int result = take_replies(node); /* what came with the answer to the test */
    while (result == PLN_OK && !must_go(link)) {
        if (has_bytes(link, beat_at)) {
            result = take_bytes(node, pln_clock_precise());
            has_heard = true;
        }
        pln_ns now = pln_clock_precise();
        if (result != PLN_OK || now < beat_at) {
            continue;
        }
        if (!has_heard) {
            return pln_fail(PLN_EL2DOWN, "l2: redis at %s: no sign of life on the link",
                            pln_pool_label(&node->pool));
        }
        result = beat(node);
        has_heard = false;
        beat_at = now + node->redis->ping;
    }
    if (result == PLN_OK) {
        result = pln_fail(PLN_EL2DOWN, "l2: redis at %s: data comes from another server",
                          pln_pool_label(&node->pool));
    }
    return result;
}

static void go_down(struct pln_node *node) {
    struct pln_link *link = &node->link;
    bool was_up = pln_flag_is_set(&link->is_up);
    pln_flag_set(&link->is_up, false);
    if (was_up && !pln_flag_is_set(&link->is_stopping)) {
        pln_node_heard(node, false);
        pln_count(node->redis->counts, PLN_COUNT_BUS_LOSSES, 1);
    }
    pln_floor_forget(node);
    pln_conn_close(&link->conn);
    pln_node_require(node, "");
}

/* ---- the thread ---- */

static void log_change(struct pln_node *node, enum pln_link_state state) {
    struct pln_link *link = &node->link;
    const struct pln_host *host = &node->redis->host;
    bool is_first = link->logged == PLN_LINK_NEW;
    unsigned n_left_out;
    if (pln_flag_is_set(&link->is_stopping)) {
        return;
    }
    link->logged = state;
    if (state == PLN_LINK_UP) {
        /* who was warned of the loss is told of its end */
        bool is_return = pln_hush_up(&link->hush);
        if (is_return || is_first) {
            pln_logf(host, is_return ? PLN_LOG_WARN : PLN_LOG_INFO,
                     "l2: the link to redis at %s is up%s", pln_pool_label(&node->pool),
                     is_return ? " again" : "");
        }
    } else if (pln_hush_down(&link->hush, &n_left_out)) {
        char more[64] = "";
        if (n_left_out > 0) {
            snprintf(more, sizeof more, " (%u more times went untold)", n_left_out);
        }
        pln_logf(host, PLN_LOG_WARN, "the link is down, nothing is heard from others: %s%s",
                 link->reason, more);
    }
}

/* Waits a while, less and less often; a stop ends it. */
static void rest(struct pln_link *link) {
    pln_ns until = pln_clock_precise() + pln_backoff_next(&link->backoff);
    while (!pln_flag_is_set(&link->is_stopping) && !pln_flag_is_set(&link->is_idle) &&
           pln_clock_precise() < until) {
        has_bytes(link, until);
    }
}

static void *run(void *arg) {
    struct pln_node *node = arg;
    struct pln_link *link = &node->link;
    while (!pln_flag_is_set(&link->is_stopping)) {
        if (pln_flag_is_set(&link->is_idle)) {
            has_bytes(link, pln_clock_precise() + good_life);
            continue;
        }
        int result = go_up(node);
        pln_ns up_at = pln_clock_precise();
        if (result == PLN_OK) {
            log_change(node, PLN_LINK_UP);
            pln_flag_set(&link->is_up, true);
            pln_node_heard(node, true);
            listen_on(node);
        }
        /* now, since on_down may fail at something of its own */
        snprintf(link->reason, sizeof link->reason, "%s", pln_error_text());
        if (result == PLN_OK && pln_clock_precise() - up_at > good_life) {
            link->backoff = 0;
        }
        go_down(node);
        if (!pln_flag_is_set(&link->is_idle)) {
            log_change(node, PLN_LINK_DOWN);
            pln_keeper_ask(node->redis);
            rest(link);
        }
    }
    return NULL;
}

int pln_link_init(struct pln_node *node) {
    node->link.wake_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    if (node->link.wake_fd < 0) {
        return pln_fail(PLN_ESYSTEM, "l2: no eventfd for the link: %s", strerror(errno));
    }
    return PLN_OK;
}

int pln_link_start(struct pln_node *node) {
    int result = PLN_OK;
    if (!node->link.is_started) {
        result = pln_thread_start(&node->link.thread, run, node, "the link");
        node->link.is_started = result == PLN_OK;
    }
    return result;
}

void pln_link_stop(struct pln_node *node) {
    struct pln_link *link = &node->link;
    if (link->is_started) {
        pln_flag_set(&link->is_stopping, true);
        pln_wake(link->wake_fd);
        pthread_join(link->thread, NULL);
        link->is_started = false;
    }
    if (link->wake_fd >= 0) {
        close(link->wake_fd);
        link->wake_fd = -1;
    }
}
