/* SPDX-License-Identifier: MIT
 *
 * memlate.c - messages of the server in memory that do not come at once: lost, doubled, passed by
 * later ones, late. A thread, started with the first late one, brings those whose time has come;
 * all others are brought by the thread that wrote.
 *
 * Order: a queue is sorted by turn. A message that lets r others pass has a turn after that of the
 * r-th message to come; it goes when so many have come, or after LONGEST_WAIT, since a live link
 * loses nothing. Only the first of a queue may go: one that is late delays those behind it, as on
 * the one connection that Redis sends them over.
 */
#include "mem.h"

/* For those who are to pass, where none comes. Long beside the microseconds between the messages
 * of a busy test, short beside what a test waits for. */
#define LONGEST_WAIT ((pln_ns) 10 * 1000000)

/* ---- the queue ---- */

static bool is_held(const struct mem_client *client) {
    return client->is_held || client->trouble.faults.hold;
}

bool pln_mem_is_due(const struct mem_client *client, pln_ns now, pln_ns *when) {
    const struct queued *first = client->first;
    if (is_held(client)) {
        *when = INT64_MAX;
        return false;
    }
    *when = first->due;
    if (first->turn >= 2 * (client->n_posted + 1)) {
        *when += LONGEST_WAIT;
    }
    return now >= *when;
}

static void insert(struct mem_client *to, struct queued *queued) {
    struct queued **at = &to->first;
    while (*at != NULL && (*at)->turn <= queued->turn) {
        at = &(*at)->next;
    }
    queued->next = *at;
    *at = queued;
}

/* Own ones come at once, as the dice are for what others say; in their turn all the same. */
static void queue_locked(struct mem_client *to, const struct queued *message,
                         struct pln_bytes payload) {
    const struct pln_memory_faults *faults = &to->trouble.faults;
    pln_ms late = 0;
    uint64_t n_passing = 0;
    struct queued *queued = malloc(sizeof *queued + payload.len);
    if (!message->is_own) {
        late = faults->message_delay_ms +
               (pln_ms) pln_mem_upto(&to->bus_dice, (uint64_t) faults->message_random_ms);
        n_passing = pln_mem_upto(&to->bus_dice, faults->reorder);
    }
    if (queued == NULL) {
        to->beat_at = pln_clock_precise() + to->ping; /* as if it had been lost */
        return;
    }
    *queued = *message;
    to->n_posted++;
    /* even: its place in the order of posting; odd: just after the last that passes it */
    queued->turn = 2 * (to->n_posted + n_passing) + (n_passing > 0);
    queued->due = pln_clock_precise() + late * 1000000;
    queued->len = payload.len;
    if (payload.len > 0) {
        memcpy(queued->payload, payload.data, payload.len);
    }
    insert(to, queued);
}

void pln_mem_send_locked(struct mem_client *to, const struct queued *message,
                         struct pln_bytes payload) {
    const struct pln_memory_faults *faults = &to->trouble.faults;
    struct pln_memory_stats *stats = &to->server->stats;
    if (message->is_own) {
        queue_locked(to, message, payload);
        return;
    }
    bool is_lost = pln_mem_chance(&to->bus_dice, faults->lose);
    bool is_double = pln_mem_chance(&to->bus_dice, faults->duplicate);
    stats->messages++;
    if (is_lost) {
        stats->lost++;
        to->beat_at = pln_clock_precise() + to->ping;
        return;
    }
    queue_locked(to, message, payload);
    if (is_double) {
        stats->duplicated++;
        queue_locked(to, message, payload);
    }
}

/* ---- the thread ---- */

/* Brings what is due; returns when the next will be. */
static pln_ns make_round_locked(struct pln_l2_mem_server *server) {
    pln_ns next = INT64_MAX;
    for (struct space *space = server->spaces; space != NULL; space = space->next) {
        for (struct mem_client *client = space->clients; client != NULL; client = client->next) {
            pln_ns when;
            pln_mem_drain_locked(client, SIZE_MAX, false);
            if (client->beat_at != 0 && pln_clock_precise() >= client->beat_at) {
                pln_mem_beat_locked(client);
            } else if (client->beat_at != 0) {
                next = client->beat_at < next ? client->beat_at : next;
            }
            /* one that another thread is emptying is that thread's, which calls for us after it */
            if (client->first != NULL && !client->is_draining) {
                pln_mem_is_due(client, 0, &when);
                next = when < next ? when : next;
            }
        }
    }
    return next;
}

static void *run(void *arg) {
    struct pln_l2_mem_server *server = arg;
    pthread_mutex_lock(&server->lock);
    while (!server->is_stopping) {
        server->is_called = false;
        pln_ns next = make_round_locked(server);
        if (server->is_called || server->is_stopping) {
            continue; /* the lock was dropped while it reported */
        }
        if (next == INT64_MAX) {
            pthread_cond_wait(&server->courier_wake, &server->lock);
        } else {
            struct timespec at = pln_timespec(next);
            pthread_cond_timedwait(&server->courier_wake, &server->lock, &at);
        }
    }
    pthread_mutex_unlock(&server->lock);
    return NULL;
}

void pln_mem_call_courier_locked(const struct mem_client *client) {
    struct pln_l2_mem_server *server = client->server;
    if ((client->first == NULL || is_held(client)) && client->beat_at == 0) {
        return;
    }
    if (!server->has_courier) {
        /* without a thread, what is late comes with the next command, or when delivered by hand */
        server->has_courier = pthread_create(&server->courier, NULL, run, server) == 0;
    }
    server->is_called = true;
    pthread_cond_signal(&server->courier_wake);
}

void pln_mem_stop_courier(struct pln_l2_mem_server *server) {
    pthread_mutex_lock(&server->lock);
    bool has_courier = server->has_courier;
    server->is_stopping = true;
    pthread_cond_signal(&server->courier_wake);
    pthread_mutex_unlock(&server->lock);
    if (has_courier) {
        pthread_join(server->courier, NULL);
    }
}
