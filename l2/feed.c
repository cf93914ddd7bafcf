/* SPDX-License-Identifier: MIT
 *
 * feed.c - see feed.h.
 */
#include "internal.h"

#include <stdio.h>

void pln_feed_init(struct pln_feed *feed) {
    memset(feed, 0, sizeof *feed);
    atomic_init(&feed->acked, 0);
    atomic_init(&feed->heard, 0);
}

void pln_feed_ack(struct pln_feed *feed, uint64_t number) {
    /* relaxed, as all that touch it: a number by itself, which only grows */
    uint64_t present = atomic_load_explicit(&feed->acked, memory_order_relaxed);
    while (present < number &&
           !atomic_compare_exchange_weak_explicit(&feed->acked, &present, number,
                                                  memory_order_relaxed, memory_order_relaxed)) {
    }
}

uint64_t pln_feed_heard(const struct pln_feed *feed) {
    /* H1 acquire: pairs with say_heard() */
    return atomic_load_explicit(&feed->heard, memory_order_acquire);
}

static void say_heard(struct pln_feed *feed) {
    /* H1 release: what the messages did comes before their number; pairs with pln_feed_heard() */
    atomic_store_explicit(&feed->heard, feed->last, memory_order_release);
}

static uint64_t print_of(struct pln_bytes bytes) {
    uint64_t print = pln_hash(bytes, 0);
    return print != 0 ? print : 1; /* 0: none is kept */
}

void pln_feed_take(struct pln_feed *feed, uint64_t number, struct pln_bytes bytes) {
    if (number == 0 || feed->base == 0 || number <= feed->last) {
        return;
    }
    if (number - feed->last >= PLN_FEED_AHEAD) {
        feed->has_lost = true;
        return;
    }
    feed->prints[number % PLN_FEED_AHEAD] = print_of(bytes);
    feed->ahead |= (uint64_t) 1 << (number - feed->last - 1);
    while ((feed->ahead & 1) != 0) {
        feed->ahead >>= 1;
        feed->last++;
    }
    say_heard(feed);
}

bool pln_feed_is_broken(const struct pln_feed *feed) {
    return feed->has_lost || feed->ahead != 0;
}

uint64_t pln_feed_known(const struct pln_feed *feed) {
    uint64_t acked = atomic_load_explicit(&feed->acked,
                                          memory_order_relaxed); /* relaxed: see ack */
    return acked > feed->last ? acked : feed->last;
}

/* A server that does not say who it is may be any. */
static bool is_same_server(const struct pln_feed *feed, const struct pln_feed_state *state) {
    return state->run_id[0] != 0 && strcmp(feed->run_id, state->run_id) == 0;
}

enum pln_feed_sync pln_feed_sync(struct pln_feed *feed, const struct pln_feed_state *state) {
    feed->ahead = 0; /* heard before the server was asked, so it is in the log, too */
    feed->has_lost = false;
    if (feed->base == 0) {
        return PLN_FEED_NEW;
    }
    if (state->number < state->known) {
        return PLN_FEED_LOST;
    }
    if (state->base != feed->base) {
        return PLN_FEED_NEW;
    }
    return state->number == feed->last && is_same_server(feed, state) ? PLN_FEED_SAME
                                                                      : PLN_FEED_READ;
}

bool pln_feed_take_logged(struct pln_feed *feed, const struct pln_feed_state *state,
                          uint64_t number, struct pln_bytes bytes, bool is_ours, bool *is_other) {
    uint64_t print = feed->prints[feed->last % PLN_FEED_AHEAD];
    *is_other = false;
    if (number == feed->last) {
        *is_other = print != 0 && print != print_of(bytes);
        if (print != 0 && !*is_other) {
            snprintf(feed->run_id, sizeof feed->run_id, "%s", state->run_id);
        }
        return !*is_other;
    }
    /* where a server's history parts from what was heard of another one cannot be told */
    if (number != feed->last + 1 || !is_same_server(feed, state)) {
        return false;
    }
    /* relaxed: see ack */
    if (!is_ours && number == atomic_load_explicit(&feed->acked, memory_order_relaxed)) {
        *is_other = true; /* the server had given this number to a change of our own */
        return false;
    }
    pln_feed_take(feed, number, bytes);
    return true;
}

bool pln_feed_has_all(struct pln_feed *feed, const struct pln_feed_state *state) {
    bool has_all = feed->last >= state->number && is_same_server(feed, state);
    if (has_all) {
        feed->goal = 0;
        feed->certain_at = state->at;
    }
    return has_all;
}

void pln_feed_begin(struct pln_feed *feed, const struct pln_feed_state *state) {
    memset(feed->prints, 0, sizeof feed->prints);
    feed->base = state->base;
    feed->last = state->number;
    feed->ahead = 0;
    feed->has_lost = false;
    feed->goal = 0;
    feed->certain_at = state->at;
    /* relaxed: see ack. What a server has forgotten it will not know the next time either; what is
     * acknowledged at this moment may be forgotten with it, and is then no witness against it */
    atomic_store_explicit(&feed->acked, state->number, memory_order_relaxed);
    snprintf(feed->run_id, sizeof feed->run_id, "%s", state->run_id);
    say_heard(feed);
}

void pln_feed_note(struct pln_feed *feed, uint64_t number, struct pln_bytes bytes) {
    if (number == feed->last) {
        feed->prints[number % PLN_FEED_AHEAD] = print_of(bytes);
    }
}

bool pln_feed_beat(struct pln_feed *feed, const struct pln_feed_state *state) {
    if (state->base != feed->base || state->number < state->known) {
        return false;
    }
    feed->goal = state->number;
    feed->goal_at = state->at;
    return true;
}

bool pln_feed_confirm(struct pln_feed *feed) {
    if (feed->goal == 0) {
        return true;
    }
    if (feed->last < feed->goal) {
        return false;
    }
    feed->goal = 0;
    feed->certain_at = feed->goal_at;
    return true;
}
