/* SPDX-License-Identifier: MIT
 *
 * mem.c - tier and bus in memory: clients of one server object see each other's writes and
 * messages, as clients of one Redis do. For tests, ours and those of programs that use perilune:
 * what can go wrong with a Redis goes wrong here when it is told to (memfault.c).
 *
 * One mutex guards the server and all its clients. It is never held while an event is reported:
 * a message is put into the queue of each client it is for, and the queues are emptied after the
 * change, by the thread that wrote. So where nothing is held, a write returns when everybody knows.
 * One thread at a time empties a queue; a second one leaves its messages to the first.
 *
 * Time is the clock of the client that acts, so a virtual clock rules values and leases too. What
 * faults make wait, and deadlines, go by the real one.
 */
#include "mem.h"

#include <stdio.h>

/* ---- messages ---- */

void pln_mem_post_locked(struct mem_client *from, enum pln_message_kind kind,
                         struct pln_bytes payload) {
    struct queued message = {.number = pln_mem_number_locked(from, kind, payload), .kind = kind};
    for (struct mem_client *to = from->space->clients; to != NULL; to = to->next) {
        message.is_own = to == from;
        if (to->is_up) {
            pln_mem_send_locked(to, &message, payload);
        }
    }
}

static struct queued *take_locked(struct mem_client *client) {
    struct queued *queued = client->first;
    client->first = queued->next;
    return queued;
}

static void drop_queue_locked(struct mem_client *client) {
    while (client->first != NULL) {
        free(take_locked(client));
    }
}

static void report(struct mem_client *client, const struct queued *queued) {
    struct pln_message message = {.kind = queued->kind,
                                  .payload = pln_bytes_of(queued->payload, queued->len)};
    if (!queued->is_own) {
        pln_message_report(&client->events, &message);
    }
    pln_count(client->counts, queued->is_own ? PLN_COUNT_BUS_OWN : PLN_COUNT_BUS_RECEIVED, 1);
}

static bool may_report_locked(const struct mem_client *client, bool is_forced) {
    pln_ns when;
    return client->first != NULL &&
           (is_forced || pln_mem_is_due(client, pln_clock_precise(), &when));
}

size_t pln_mem_drain_locked(struct mem_client *client, size_t n, bool is_forced) {
    size_t reported = 0;
    if (client->is_draining) {
        return 0;
    }
    client->is_draining = true;
    while (reported < n && may_report_locked(client, is_forced)) {
        struct queued *queued = take_locked(client);
        pthread_mutex_unlock(&client->server->lock);
        report(client, queued);
        pthread_mutex_lock(&client->server->lock);
        pln_mem_note_locked(client, queued);
        reported += !queued->is_own;
        free(queued);
    }
    client->is_draining = false;
    pthread_cond_broadcast(&client->server->changed);
    if (client->must_mend) {
        pln_mem_settle_locked(client->server);
    }
    return reported;
}

void pln_mem_drain_all_locked(struct space *space) {
    for (struct mem_client *client = space->clients; client != NULL; client = client->next) {
        pln_mem_drain_locked(client, SIZE_MAX, false);
        pln_mem_call_courier_locked(client);
    }
}

static bool should_be_up(const struct mem_client *client) {
    return client->has_started && !client->trouble.is_parted && !client->server->is_away &&
           !client->must_mend;
}

/* Reports what was missed, in the order in which it was said. */
static void report_missed(struct mem_client *client, struct logged *missed) {
    while (missed != NULL) {
        struct logged *next = missed->next;
        struct pln_message message = {.kind = missed->kind,
                                      .payload = pln_bytes_of(missed->payload, missed->len)};
        if (missed->from != client) {
            pln_message_report(&client->events, &message);
        }
        pln_count(client->counts, PLN_COUNT_BUS_REPLAYED, 1);
        free(missed);
        missed = next;
    }
}

static void report_up(struct mem_client *client, struct logged *missed, bool is_whole) {
    const struct pln_l2_events *events = &client->events;
    report_missed(client, missed);
    pln_count(client->counts, PLN_COUNT_BUS_REPAIRS, is_whole);
    if (events->on_up != NULL) {
        events->on_up(events->arg, is_whole);
    }
    if (events->on_certain != NULL) { /* not before what cannot be vouched for is gone */
        events->on_certain(events->arg, client->feed.certain_at);
    }
}

static void change_link_locked(struct mem_client *client) {
    bool is_up = !client->is_up, is_whole = false;
    client->is_up = is_up;
    client->is_draining = true;
    client->must_mend = false;
    drop_queue_locked(client);
    struct logged *missed = is_up ? pln_mem_missed_locked(client, &is_whole) : NULL;
    pthread_mutex_unlock(&client->server->lock);
    if (is_up) {
        report_up(client, missed, is_whole);
    } else {
        pln_count(client->counts, PLN_COUNT_BUS_LOSSES, 1);
        if (client->events.on_down != NULL) {
            client->events.on_down(client->events.arg);
        }
    }
    pthread_mutex_lock(&client->server->lock);
    client->is_draining = false;
    pthread_cond_broadcast(&client->server->changed);
    pln_mem_drain_locked(client, SIZE_MAX, false); /* what came meanwhile */
    pln_mem_call_courier_locked(client);
}

/* A client whose link is not as it should be, one that can be changed now before others. */
static struct mem_client *find_unsettled(struct pln_l2_mem_server *server) {
    struct mem_client *found = NULL;
    for (struct space *space = server->spaces; space != NULL; space = space->next) {
        for (struct mem_client *client = space->clients; client != NULL; client = client->next) {
            if (client->is_up != should_be_up(client) && (found == NULL || found->is_draining)) {
                found = client;
            }
        }
    }
    return found;
}

void pln_mem_settle_locked(struct pln_l2_mem_server *server) {
    struct mem_client *client;
    /* looked for anew after each wait, in which clients may have come and gone */
    while ((client = find_unsettled(server)) != NULL) {
        if (client->is_draining) {
            pthread_cond_wait(&server->changed, &server->lock);
        } else {
            change_link_locked(client);
        }
    }
}

/* ---- life ---- */

static void init_signals(struct pln_l2_mem_server *server) {
    pthread_condattr_t attributes;
    pthread_condattr_init(&attributes);
    pthread_condattr_setclock(&attributes, CLOCK_MONOTONIC);
    pthread_cond_init(&server->changed, &attributes);
    pthread_cond_init(&server->courier_wake, &attributes);
    pthread_condattr_destroy(&attributes);
}

int pln_l2_mem_server_new(struct pln_l2_mem_server **server) {
    struct pln_l2_mem_server *created = calloc(1, sizeof *created);
    if (created == NULL) {
        return pln_fail(PLN_ENOMEM, "l2: no memory for a memory server");
    }
    snprintf(created->label, sizeof created->label, "memory");
    pthread_mutex_init(&created->lock, NULL);
    init_signals(created);
    *server = created;
    return PLN_OK;
}

void pln_l2_mem_server_label(struct pln_l2_mem_server *server, const char *name) {
    snprintf(server->label, sizeof server->label, "memory:%s", name);
}

void pln_l2_mem_server_free(struct pln_l2_mem_server *server) {
    if (server == NULL) {
        return;
    }
    pln_mem_stop_courier(server);
    struct space *next;
    for (struct space *space = server->spaces; space != NULL; space = next) {
        next = space->next;
        assert(space->clients == NULL);
        pln_mem_forget_records(space);
        pln_mem_forget_log(space);
        pln_mem_queue_forget(&space->queue);
        free(space);
    }
    pthread_cond_destroy(&server->courier_wake);
    pthread_cond_destroy(&server->changed);
    pthread_mutex_destroy(&server->lock);
    free(server);
}

void pln_l2_mem_freeze(struct pln_l2_mem_server *server) {
    pthread_mutex_lock(&server->lock);
}

void pln_l2_mem_thaw(struct pln_l2_mem_server *server, bool is_child) {
    if (is_child) {
        for (struct space *space = server->spaces; space != NULL; space = space->next) {
            space->clients = NULL; /* the parent's: their memory is left alone */
        }
        server->has_courier = false;
        init_signals(server); /* threads that are not here may be waiting on the old ones */
    }
    pthread_mutex_unlock(&server->lock);
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
        space->log_end = &space->log;
        pln_mem_queue_init(&space->queue);
        pln_mem_begin_row_locked(space);
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
    client->log_length = options->log_length;
    client->ping = (options->ping_ms > 0 ? options->ping_ms : 1000) * 1000000;
    pln_feed_init(&client->feed);
    pthread_mutex_lock(&server->lock);
    client->space = make_space_locked(server, options->ns);
    if (client->space != NULL) {
        client->number = server->n_clients++;
        pln_mem_set_trouble_locked(client, &server->trouble);
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
        pthread_cond_wait(&client->server->changed, &client->server->lock);
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

/* ---- what it tells of itself, and what it refuses ---- */

int pln_mem_command(struct pln_l2 *l2, const struct pln_bytes *key, const struct pln_bytes *args,
                    size_t n_args, pln_ns deadline, struct pln_reply **reply) {
    struct mem_client *client = pln_mem_client(l2);
    bool is_late;
    (void) key, (void) n_args, (void) reply;
    int result = pln_mem_enter(client, MEM_READS, deadline, &is_late);
    if (result == PLN_OK) {
        result = pln_mem_leave(client, is_late, PLN_OK);
    }
    return result != PLN_OK
               ? result
               : pln_fail(PLN_EL2, "l2: memory has no commands of Redis, and so no %.*s",
                          args[0].len > 24 ? 24 : (int) args[0].len, (const char *) args[0].data);
}

void pln_mem_health(struct pln_l2 *l2, struct pln_l2_health *health) {
    struct mem_client *client = pln_mem_client(l2);
    pthread_mutex_lock(&client->server->lock);
    bool is_cut = client->trouble.cut != PLN_MEMORY_UNCUT;
    unsigned peers = 0;
    for (const struct mem_client *each = client->space->clients; each != NULL; each = each->next) {
        peers += each->is_up;
    }
    *health = (struct pln_l2_health){.bus_ok = client->is_up,
                                     .breaker_open = is_cut,
                                     .connections = is_cut ? 0 : 1,
                                     .beat_age = client->is_up ? 0 : PLN_FOREVER,
                                     .peers = peers,
                                     .n_nodes = 1,
                                     .n_nodes_up = client->is_up && !is_cut};
    pthread_mutex_unlock(&client->server->lock);
}

size_t pln_mem_nodes(struct pln_l2 *l2, pln_node_visit visit, void *arg) {
    struct pln_l2_health health;
    if (visit != NULL) {
        pln_mem_health(l2, &health);
        visit(arg, &(struct pln_node_info){.address = pln_mem_client(l2)->server->label,
                                           .is_up = health.n_nodes_up == 1,
                                           .is_breaker_open = health.breaker_open,
                                           .connections = health.connections,
                                           .beat_age_ms = health.beat_age});
    }
    return 1;
}
