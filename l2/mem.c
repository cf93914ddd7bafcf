/* SPDX-License-Identifier: MIT
 *
 * mem.c - tier and bus in memory: clients of one server object see each other's writes and
 * messages, as clients of one Redis do. For tests, which can hold messages back, lose them with
 * the link, and cut a client off, each at the exact step they want.
 *
 * One mutex guards the server and all its clients. It is never held while an event is reported:
 * a message is put into the queue of each client it is for, and the queues are emptied after the
 * change, by the thread that wrote. So where nothing is held, a write returns when everybody knows.
 * One thread at a time empties a queue; a second one leaves its messages to the first.
 *
 * Time is the clock of the client that acts, so a virtual clock rules values and leases too.
 * Deadlines play no part: nothing here waits.
 */
#include "mem.h"

/* ---- messages ---- */

static void post_to_locked(struct mem_client *to, enum pln_message_kind kind,
                           struct pln_bytes payload) {
    struct queued *queued = malloc(sizeof *queued + payload.len);
    if (queued == NULL) {
        to->has_lost = true;
        return;
    }
    queued->next = NULL;
    queued->kind = kind;
    queued->len = payload.len;
    if (payload.len > 0) {
        memcpy(queued->payload, payload.data, payload.len);
    }
    *to->last = queued;
    to->last = &queued->next;
}

void pln_mem_post_locked(struct mem_client *from, enum pln_message_kind kind,
                         struct pln_bytes payload) {
    for (struct mem_client *to = from->space->clients; to != NULL; to = to->next) {
        if (to != from && to->is_up) {
            post_to_locked(to, kind, payload);
        }
    }
    if (from->is_up) {
        pln_count(from->counts, PLN_COUNT_BUS_OWN, 1);
    }
}

static struct queued *take_locked(struct mem_client *client) {
    struct queued *queued = client->first;
    client->first = queued->next;
    if (client->first == NULL) {
        client->last = &client->first;
    }
    return queued;
}

static void drop_queue_locked(struct mem_client *client) {
    while (client->first != NULL) {
        free(take_locked(client));
    }
    client->has_lost = false;
}

static void report(struct mem_client *client, const struct queued *queued) {
    struct pln_message message = {.kind = PLN_MESSAGE_CLEAR};
    if (queued != NULL) {
        message.kind = queued->kind;
        message.payload = pln_bytes_of(queued->payload, queued->len);
    }
    pln_count(client->counts, PLN_COUNT_BUS_RECEIVED, 1);
    pln_message_report(&client->events, &message);
}

/* Reports up to n messages, with the lock dropped meanwhile; those of a held client if forced. */
static size_t drain_locked(struct mem_client *client, size_t n, bool is_forced) {
    size_t reported = 0;
    if (client->is_draining) {
        return 0;
    }
    client->is_draining = true;
    while (reported < n && (is_forced || !client->is_held) &&
           (client->has_lost || client->first != NULL)) {
        struct queued *queued = client->has_lost ? NULL : take_locked(client);
        client->has_lost = false;
        pthread_mutex_unlock(&client->server->lock);
        report(client, queued);
        free(queued);
        pthread_mutex_lock(&client->server->lock);
        reported++;
    }
    client->is_draining = false;
    pthread_cond_broadcast(&client->server->drained);
    return reported;
}

void pln_mem_drain_locked(struct space *space) {
    for (struct mem_client *client = space->clients; client != NULL; client = client->next) {
        drain_locked(client, SIZE_MAX, false);
    }
}

void pln_mem_set_link(struct mem_client *client, bool is_up) {
    pthread_mutex_t *lock = &client->server->lock;
    pthread_mutex_lock(lock);
    while (client->is_draining) {
        pthread_cond_wait(&client->server->drained, lock);
    }
    bool is_change = client->is_up != is_up;
    client->is_up = is_up;
    client->is_draining = true;
    drop_queue_locked(client);
    pthread_mutex_unlock(lock);
    void (*on_change)(void *) = is_up ? client->events.on_up : client->events.on_down;
    if (is_change && !is_up) {
        pln_count(client->counts, PLN_COUNT_BUS_LOSSES, 1);
    }
    if (is_change && on_change != NULL) {
        on_change(client->events.arg);
    }
    pthread_mutex_lock(lock);
    client->is_draining = false;
    pthread_cond_broadcast(&client->server->drained);
    pthread_mutex_unlock(lock);
}

/* ---- life, and what tests do to a client ---- */

int pln_l2_mem_server_new(struct pln_l2_mem_server **server) {
    struct pln_l2_mem_server *created = calloc(1, sizeof *created);
    if (created == NULL) {
        return pln_fail(PLN_ENOMEM, "l2: no memory for a memory server");
    }
    pthread_mutex_init(&created->lock, NULL);
    pthread_cond_init(&created->drained, NULL);
    *server = created;
    return PLN_OK;
}

void pln_l2_mem_server_free(struct pln_l2_mem_server *server) {
    if (server == NULL) {
        return;
    }
    struct space *next;
    for (struct space *space = server->spaces; space != NULL; space = next) {
        next = space->next;
        pln_mem_free_records(space);
        free(space);
    }
    pthread_cond_destroy(&server->drained);
    pthread_mutex_destroy(&server->lock);
    free(server);
}

static struct space *make_space_locked(struct pln_l2_mem_server *server, const char *ns) {
    for (struct space *space = server->spaces; space != NULL; space = space->next) {
        if (strcmp(space->ns, ns) == 0) {
            return space;
        }
    }
    struct space *space = calloc(1, sizeof *space + strlen(ns) + 1);
    if (space != NULL) {
        memcpy(space->ns, ns, strlen(ns) + 1);
        space->clock = 1; /* 0 in an item means "now" */
        space->next = server->spaces;
        server->spaces = space;
    }
    return space;
}

int pln_l2_mem_new(const struct pln_l2_options *options, struct pln_l2_mem_server *server,
                   struct pln_l2 **l2) {
    struct mem_client *client = calloc(1, sizeof *client);
    if (client == NULL) {
        return pln_fail(PLN_ENOMEM, "l2: no memory for a client");
    }
    client->l2.ops = &pln_mem_ops;
    client->server = server;
    client->events = options->events;
    client->counts = options->counts;
    client->host = options->host;
    client->last = &client->first;
    pthread_mutex_lock(&server->lock);
    client->space = make_space_locked(server, options->ns);
    if (client->space != NULL) {
        client->next = client->space->clients;
        client->space->clients = client;
    }
    pthread_mutex_unlock(&server->lock);
    if (client->space == NULL) {
        free(client);
        return pln_fail(PLN_ENOMEM, "l2: no memory for a namespace");
    }
    *l2 = &client->l2;
    return PLN_OK;
}

void pln_mem_close(struct pln_l2 *l2) {
    struct mem_client *client = pln_mem_client(l2);
    pthread_mutex_lock(&client->server->lock);
    while (client->is_draining) {
        pthread_cond_wait(&client->server->drained, &client->server->lock);
    }
    struct mem_client **link = &client->space->clients;
    while (*link != client) {
        link = &(*link)->next;
    }
    *link = client->next;
    drop_queue_locked(client);
    pthread_mutex_unlock(&client->server->lock);
    free(client);
}

void pln_l2_mem_hold(struct pln_l2 *l2, bool held) {
    struct mem_client *client = pln_mem_client(l2);
    pthread_mutex_lock(&client->server->lock);
    client->is_held = held;
    drain_locked(client, SIZE_MAX, false);
    pthread_mutex_unlock(&client->server->lock);
}

size_t pln_l2_mem_deliver(struct pln_l2 *l2, size_t n) {
    struct mem_client *client = pln_mem_client(l2);
    pthread_mutex_lock(&client->server->lock);
    size_t reported = drain_locked(client, n, true);
    pthread_mutex_unlock(&client->server->lock);
    return reported;
}

void pln_l2_mem_part(struct pln_l2 *l2) {
    pln_mem_set_link(pln_mem_client(l2), false);
}

void pln_l2_mem_join(struct pln_l2 *l2) {
    pln_mem_set_link(pln_mem_client(l2), true);
}

void pln_l2_mem_cut(struct pln_l2 *l2, bool is_cut) {
    struct mem_client *client = pln_mem_client(l2);
    pthread_mutex_lock(&client->server->lock);
    client->is_cut = is_cut;
    pthread_mutex_unlock(&client->server->lock);
}
