/* SPDX-License-Identifier: MIT
 *
 * bus.c - the link: one connection that hears what others do, and one thread that listens.
 *
 * The connection tracks (where wanted), is the target of its own tracking, and subscribes. So
 * tracker and subscriber live and die together: with two connections the tracking one can die
 * while the subscriber stays up and silent.
 *
 * Up means: logged in to a master; tracking and subscriptions confirmed; the data connections reach
 * the same server; a message of our own, sent over a data connection, heard; the floor read; and
 * what was said since the link was last up heard from the log, or known to be out of reach
 * (mend.c). Messages are reported from the subscription on: where nothing is missing, what was kept
 * before the link was lost is good again.
 *
 * Any fault takes the link down: end of file, error, two heartbeats long no byte, a reply that
 * makes no sense (hear.c), a message that is missing, another server under the data connections.
 * on_down is called before anything else, and once; then the connection is closed and made anew,
 * after a growing pause where it does not stay up.
 */
#include "internal.h"
#include "thread.h"

#include <errno.h>
#include <poll.h>
#include <stdio.h>
#include <time.h>
#include <unistd.h>

enum {
    MAX_MESSAGE = 32 * 1024 * 1024, /* of tracking: the keys of one turn of the server's loop */
    BEATS_TO_DEATH = 2,             /* one after the last byte, and one more without an answer */
};

/* A link that lived so long was a good one: the next is made without a pause. */
static const pln_ns good_life = 1000 * 1000000LL;
static const pln_ns while_awaited = 10 * 1000000LL; /* between two tries */

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

void pln_link_hurry(void *arg) {
    struct pln_node *node = arg;
    pln_flag_set(&node->link.is_hurried, true);
    pln_wake(node->link.wake_fd);
}

void pln_link_drop(void *arg) {
    struct pln_node *node = arg;
    pln_flag_set(&node->link.is_unwanted, true);
    pln_wake(node->link.wake_fd);
}

/* ---- what comes in ---- */

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
    pln_ms certain_at = node->feed.certain_at;
    if (result == PLN_OK) {
        note_life(&node->link);
        result = take_replies(node);
    }
    if (node->feed.certain_at != certain_at) {
        pln_node_certain(node, node->feed.certain_at);
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
                    node->redis->tracking ? pln_tracking_channel : NULL, NULL);
    node->link.n_subscribed = 0;
    node->link.n_unanswered = 0;
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

static int go_up(struct pln_node *node, bool *is_whole) {
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
    if (result == PLN_OK) {
        result = test_itself(node, deadline);
    }
    if (result == PLN_OK) {
        result = pln_mend(node, is_whole);
    }
    if (result == PLN_OK) {
        pln_node_checked(node, link->conn.run_id);
    }
    return result;
}

/* ---- being up ---- */

static int ask_for_life(struct pln_node *node) {
    struct pln_batch batch;
    pln_batch_init(&batch);
    pln_batch_texts(&batch, "PING", NULL);
    node->link.n_unanswered++;
    return send_texts(node, &batch, pln_clock_precise() + node->redis->timeout);
}

static int beat(struct pln_node *node) {
    int result = pln_mend_beat(node);
    pln_node_certain(node, node->feed.certain_at);
    return result == PLN_OK ? ask_for_life(node) : result;
}

/* Once the server has said how far it is, what it named has come with the next sign of life. */
static int take_answer(struct pln_node *node) {
    bool is_there;
    int result = pln_mend_answer(node, &is_there);
    return result == PLN_OK && is_there ? ask_for_life(node) : result;
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
        if (result == PLN_OK) {
            result = take_answer(node);
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
        pln_node_heard(node, PLN_UNHEARD);
        pln_count(node->redis->counts, PLN_COUNT_BUS_LOSSES, 1);
    }
    pln_floor_forget(node);
    pln_pulse_forget(node);
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

/* Waits a while, less and less often; a stop ends it, and so does who has reached the server. Not
 * for long while readers wait for it to be looked at: it is there, and a try may have come before
 * the breaker knew. */
static void rest(struct pln_node *node) {
    struct pln_link *link = &node->link;
    pln_ns pause = pln_backoff_next(&link->backoff);
    bool is_awaited = pln_pool_trust(&node->pool) == 0;
    pln_ns until = pln_clock_precise() +
                   (is_awaited && pause > while_awaited ? while_awaited : pause);
    while (!pln_flag_is_set(&link->is_stopping) && !pln_flag_is_set(&link->is_idle) &&
           !pln_flag_is_set(&link->is_hurried) && pln_clock_precise() < until) {
        has_bytes(link, until);
    }
    pln_flag_set(&link->is_hurried, false);
}

static void *run(void *arg) {
    struct pln_node *node = arg;
    struct pln_link *link = &node->link;
    while (!pln_flag_is_set(&link->is_stopping)) {
        if (pln_flag_is_set(&link->is_idle)) {
            has_bytes(link, pln_clock_precise() + good_life);
            continue;
        }
        bool is_whole = false;
        int result = go_up(node, &is_whole);
        pln_ns up_at = pln_clock_precise();
        if (result == PLN_OK) {
            log_change(node, PLN_LINK_UP);
            pln_flag_set(&link->is_up, true);
            pln_node_heard(node, is_whole ? PLN_HEARD_ON : PLN_HEARD_ANEW);
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
            rest(node);
        }
    }
    return NULL;
}

int pln_link_init(struct pln_node *node) {
    node->link.wake_fd = pln_descriptor_event();
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
        pln_descriptor_close(link->wake_fd);
        link->wake_fd = -1;
    }
}
