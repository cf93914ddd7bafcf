/* SPDX-License-Identifier: MIT
 *
 * talk.c - a conversation of somebody's own with a server: a connection that nobody shares, so that
 * it may block, or be subscribed to something.
 *
 * What it is about is its user's affair. This side knows where the server is, how to log in, and
 * when the connection is of no more use: when bytes fail, when the server that is wanted has become
 * another one (a master was switched, a slot has moved), or when a server says so itself.
 */
#include "internal.h"
#include "thread.h"
#include "topology.h"

#include <errno.h>
#include <poll.h>
#include <stdio.h>

struct pln_l2_talk {
    struct pln_redis *redis;
    struct pln_node *node; /* whom it last went to; NULL before */
    const struct pln_endpoint *endpoint;
    struct pln_conn conn;
    int wake_fd; /* an eventfd */
    struct pln_bytes name;
    char text[];
};

int pln_redis_talk(struct pln_l2 *l2, struct pln_bytes name, struct pln_l2_talk **talk) {
    struct pln_l2_talk *created = calloc(1, sizeof *created + name.len);
    if (created == NULL) {
        return pln_fail(PLN_ENOMEM, "l2: no memory for a conversation");
    }
    created->redis = pln_redis_of(l2);
    created->conn.stream.fd = -1;
    if (name.len > 0) {
        memcpy(created->text, name.data, name.len);
    }
    created->name = pln_bytes_of(created->text, name.len);
    created->wake_fd = pln_descriptor_event();
    if (created->wake_fd < 0) {
        int error = errno;
        free(created);
        return pln_fail(PLN_ESYSTEM, "l2: no eventfd for a conversation: %s", strerror(error));
    }
    *talk = created;
    return PLN_OK;
}

void pln_l2_talk_free(struct pln_l2_talk *talk) {
    if (talk != NULL) {
        pln_conn_close(&talk->conn);
        pln_descriptor_close(talk->wake_fd);
        free(talk);
    }
}

void pln_l2_talk_close(struct pln_l2_talk *talk) {
    pln_conn_close(&talk->conn);
}

void pln_l2_talk_wake(struct pln_l2_talk *talk) {
    pln_wake(talk->wake_fd);
}

const char *pln_l2_talk_label(const struct pln_l2_talk *talk) {
    return talk->endpoint != NULL ? talk->endpoint->label : talk->redis->url.label;
}

/* After a failure: the connection goes, and perhaps the server has moved. */
static int lose(struct pln_l2_talk *talk, int status) {
    pln_conn_close(&talk->conn);
    pln_keeper_ask(talk->redis);
    return status;
}

int pln_l2_talk_open(struct pln_l2_talk *talk) {
    struct pln_redis *redis = talk->redis;
    pln_ns deadline = pln_clock_precise() + redis->connect_timeout;
    if (pln_conn_is_open(&talk->conn)) {
        return PLN_OK;
    }
    int result = pln_nodes_await(redis, deadline);
    if (result != PLN_OK) {
        return result;
    }
    talk->node = pln_node_of_name(redis, talk->name);
    talk->endpoint = pln_pool_endpoint(&talk->node->bulk);
    result = pln_conn_open(&talk->conn, talk->endpoint, talk->node->bulk.tls, deadline);
    if (result == PLN_OK) {
        talk->conn.takes_replicas = talk->node->bulk.takes_replicas;
        result = pln_conn_login(&talk->conn, talk->node->bulk.login, redis->client_name, PLN_RESP2,
                                deadline);
    }
    return result == PLN_OK ? PLN_OK : lose(talk, result);
}

int pln_l2_talk_say(struct pln_l2_talk *talk, const struct pln_bytes *args, size_t n_args) {
    struct pln_batch batch;
    if (!pln_conn_is_open(&talk->conn)) {
        return pln_fail(PLN_EL2DOWN, "l2: %s: the conversation is not open",
                        pln_l2_talk_label(talk));
    }
    pln_batch_init(&batch);
    pln_batch_command(&batch, n_args);
    for (size_t i = 0; i < n_args; i++) {
        pln_batch_bytes(&batch, args[i]);
    }
    int result = pln_conn_send(&talk->conn, &batch, pln_clock_precise() + talk->redis->timeout);
    pln_batch_fini(&batch);
    return result == PLN_OK ? PLN_OK : lose(talk, result);
}

/* Learns from an error where the server is not. */
static void note_refusal(struct pln_l2_talk *talk, const struct pln_reply *reply) {
    struct pln_redirect redirect;
    size_t place;
    if (talk->redis->slots != NULL && pln_moved_read(reply->bytes, &redirect)) {
        struct pln_node *node = pln_route_find(talk->node, &redirect, &place);
        if (node != NULL) {
            pln_route_note(talk->redis, &redirect, node, place);
        }
    } else if (pln_reply_is(reply, "READONLY") || pln_reply_is(reply, "UNBLOCKED")) {
        pln_keeper_ask(talk->redis);
    }
}

/* Sleeps until there are bytes, somebody wakes it, or the point has come. */
static bool has_bytes(struct pln_l2_talk *talk, pln_ns until, bool *is_woken) {
    bool is_open = pln_conn_is_open(&talk->conn);
    pln_ns left = until - pln_clock_precise();
    struct timespec timeout = pln_timespec(left < 0 ? 0 : left);
    struct pollfd polls[] = {{.fd = talk->wake_fd, .events = POLLIN},
                             {.fd = talk->conn.stream.fd, .events = POLLIN}};
    int n = ppoll(polls, is_open ? 2 : 1, &timeout, NULL);
    if (n > 0 && polls[0].revents != 0) {
        pln_was_woken(talk->wake_fd);
        *is_woken = true;
    }
    return n > 0 && is_open && polls[1].revents != 0;
}

int pln_l2_talk_hear(struct pln_l2_talk *talk, pln_ns until, struct pln_reply **reply) {
    bool is_woken = false;
    for (;;) {
        bool is_open = pln_conn_is_open(&talk->conn);
        if (is_open && talk->endpoint != pln_pool_endpoint(&talk->node->bulk)) {
            return lose(talk,
                        pln_fail(PLN_EL2DOWN, "l2: redis is at %s no more", talk->endpoint->label));
        }
        int result = is_open ? pln_conn_next(&talk->conn, reply) : PLN_MISS;
        if (result == PLN_OK && (*reply)->kind == PLN_REPLY_ERROR) {
            note_refusal(talk, *reply);
        }
        if (result == PLN_MISS && (is_woken || pln_clock_precise() >= until)) {
            return PLN_MISS;
        }
        if (result == PLN_MISS) {
            result = has_bytes(talk, until, &is_woken)
                         ? pln_conn_fill(&talk->conn, pln_clock_precise())
                         : PLN_OK;
            if (result == PLN_OK || result == PLN_ETIMEOUT) {
                continue; /* the poll was mistaken */
            }
        }
        return result == PLN_OK ? PLN_OK : lose(talk, result);
    }
}
