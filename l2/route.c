/* SPDX-License-Identifier: MIT
 *
 * route.c - a command that is sent to where its key is, also while that changes.
 *
 * MOVED: the slot is elsewhere from now on. The map is mended, the command sent there, and the
 * keeper asked to look at the whole. ASK: the key has gone ahead of its slot; the command is sent
 * after it, this once. TRYAGAIN and CLUSTERDOWN pass: the command is sent again after a moment.
 * So do LOADING, BUSY and MASTERDOWN of any server; these may last, so it is tried a few times
 * only. READONLY behind sentinels or in a cluster: the server is no master any more; the command
 * was not carried out, and is sent once more when it is known who is. All that within the caller's
 * deadline, and a bounded number of times.
 */
#include "internal.h"
#include "topology.h"

#include <errno.h>
#include <stdio.h>
#include <time.h>

enum {
    MOST_HOPS = 5,
    MOST_TRIES = 6, /* a tenth of a second in all: many callers may wait like that */
};

static const pln_ns first_pause = 2 * 1000000LL;
static const pln_ns last_pause = 30 * 1000000LL;

/* A command on its way. */
struct way {
    struct pln_node *node;
    pln_ns deadline, pause;
    unsigned n_hops, n_tries;
    bool is_asking;
    bool has_waited; /* for a look, after READONLY */
};

/* Sleeps a little, longer each time; false where that would pass the deadline. */
static bool take_breath(struct way *way) {
    pln_ns until = pln_clock_precise() + way->pause / 2 +
                   (pln_ns) (pln_random64() % (uint64_t) way->pause);
    struct timespec point = pln_timespec(until);
    if (until >= way->deadline) {
        return false;
    }
    pln_count(way->node->redis->counts, PLN_COUNT_L2_RETRIES, 1);
    while (clock_nanosleep(CLOCK_MONOTONIC, TIMER_ABSTIME, &point, NULL) == EINTR) {
    }
    way->pause = way->pause * 2 < last_pause ? way->pause * 2 : last_pause;
    return pln_clock_precise() < way->deadline; /* else what it was refused for is the answer */
}

struct pln_node *pln_route_find(struct pln_node *asked, struct pln_redirect *redirect,
                                size_t *place) {
    struct pln_redis *redis = asked->redis;
    if (redirect->to.host[0] == 0) {
        snprintf(redirect->to.host, sizeof redirect->to.host, "%s",
                 pln_pool_endpoint(&asked->pool)->host);
    }
    struct pln_node *node = pln_cluster_node(redis, &redirect->to, place);
    if (node == NULL) {
        pln_keeper_ask(redis);
    }
    return node;
}

void pln_route_note(struct pln_redis *redis, const struct pln_redirect *redirect,
                    struct pln_node *node, size_t place) {
    pln_node_want(node, true); /* before anything of it is kept: see cluster.c */
    if (!redirect->is_ask) {
        pln_slot_map_set(redis->slots, redirect->slot, (unsigned) place);
        pln_keeper_ask(redis);
    }
}

static bool follow(struct pln_redis *redis, struct way *way, const struct pln_reply *reply) {
    struct pln_redirect redirect;
    size_t place;
    if (!pln_moved_read(reply->bytes, &redirect) || ++way->n_hops > MOST_HOPS) {
        return false;
    }
    struct pln_node *node = pln_route_find(way->node, &redirect, &place);
    if (node == NULL && pln_keeper_wait(redis, way->deadline) == PLN_OK) {
        node = pln_route_find(way->node, &redirect, &place);
    }
    if (node == NULL) {
        return false;
    }
    pln_route_note(redis, &redirect, node, place);
    way->node = node;
    way->is_asking = redirect.is_ask;
    return true;
}

static bool is_passing_in_cluster(const struct pln_reply *reply) {
    return pln_reply_is(reply, "TRYAGAIN") || pln_reply_is(reply, "CLUSTERDOWN");
}

/* Whether the command is to be sent again, and where. */
static bool goes_on(struct pln_redis *redis, struct way *way, const struct pln_reply *reply) {
    way->is_asking = false;
    if (reply->kind != PLN_REPLY_ERROR) {
        return false;
    }
    if (redis->slots != NULL && follow(redis, way, reply)) {
        return true;
    }
    if (redis->slots != NULL && is_passing_in_cluster(reply)) {
        return take_breath(way);
    }
    if (pln_refusal_is_passing(reply)) {
        return ++way->n_tries <= MOST_TRIES && take_breath(way);
    }
    if (redis->keeper.look != NULL && strstr(pln_reply_text(reply), "READONLY") != NULL &&
        !way->has_waited) {
        way->has_waited = true;
        return pln_keeper_wait(redis, way->deadline) == PLN_OK;
    }
    return false;
}

int pln_route_ask(struct pln_node **node, size_t index, struct pln_request *request,
                  pln_ns deadline, struct pln_reply **reply) {
    struct pln_redis *redis = (*node)->redis;
    struct way way = {.node = *node, .deadline = deadline, .pause = first_pause};
    struct pln_reply *got;
    for (;;) {
        request->is_asking = way.is_asking;
        int result = pln_line_ask(pln_node_pool(way.node, request), index, request, deadline, &got);
        *node = way.node;
        if (result == PLN_EL2DOWN) {
            pln_keeper_ask(redis); /* another may have taken over */
        }
        if (result != PLN_OK) {
            return result;
        }
        if (!goes_on(redis, &way, got)) {
            *reply = got;
            return PLN_OK;
        }
        pln_reply_free(got);
    }
}
