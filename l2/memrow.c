/* SPDX-License-Identifier: MIT
 *
 * memrow.c - the row of messages of the server in memory: their numbers, what is kept of them, and
 * what a client missed, as feed.h has it.
 */
#include "mem.h"

#include <stdio.h>

void pln_mem_begin_row_locked(struct space *space) {
    space->number += 1000000; /* far ahead, as the server's clock is */
    space->base = space->number;
}

void pln_mem_forget_log(struct space *space) {
    while (space->log != NULL) {
        struct logged *next = space->log->next;
        free(space->log);
        space->log = next;
    }
    space->log_end = &space->log;
    space->n_logged = 0;
}

static struct logged *new_logged(struct pln_bytes payload) {
    struct logged *logged = malloc(sizeof *logged + payload.len);
    if (logged != NULL) {
        logged->next = NULL;
        logged->len = payload.len;
        if (payload.len > 0) {
            memcpy(logged->payload, payload.data, payload.len);
        }
    }
    return logged;
}

/* Without memory the log has a gap, which whoever reads it sees. */
static void keep_locked(struct space *space, const struct mem_client *from,
                        enum pln_message_kind kind, struct pln_bytes payload) {
    struct logged *logged = new_logged(payload);
    if (logged != NULL) {
        logged->number = space->number;
        logged->kind = kind;
        logged->from = from;
        *space->log_end = logged;
        space->log_end = &logged->next;
        space->n_logged++;
    }
    while (space->n_logged > from->log_length) {
        struct logged *oldest = space->log;
        space->log = oldest->next;
        free(oldest);
        space->n_logged--;
    }
    if (space->log == NULL) {
        space->log_end = &space->log;
    }
}

uint64_t pln_mem_number_locked(struct mem_client *from, enum pln_message_kind kind,
                               struct pln_bytes payload) {
    if (!pln_message_is_numbered(kind)) {
        return 0;
    }
    from->space->number++;
    keep_locked(from->space, from, kind, payload);
    pln_feed_ack(&from->feed, from->space->number);
    return from->space->number;
}

/* ---- what is missing ---- */

static bool is_on_its_way(const struct mem_client *client, uint64_t number) {
    for (const struct queued *queued = client->first; queued != NULL; queued = queued->next) {
        if (queued->number == number) {
            return true;
        }
    }
    return false;
}

void pln_mem_note_locked(struct mem_client *client, const struct queued *queued) {
    bool is_old = queued->number != 0 && queued->number <= client->feed.last;
    pln_count(client->counts, PLN_COUNT_BUS_OLD, is_old);
    pln_feed_take(&client->feed, queued->number, pln_bytes_of(queued->payload, queued->len));
    if (client->is_up && !client->must_mend && pln_feed_is_broken(&client->feed) &&
        !is_on_its_way(client, client->feed.last + 1)) {
        client->must_mend = true;
        pln_count(client->counts, PLN_COUNT_BUS_GAPS, 1);
    }
}

void pln_mem_beat_locked(struct mem_client *client) {
    client->beat_at = 0;
    if (!client->is_up || client->must_mend || client->feed.last >= client->space->number) {
        return;
    }
    if (is_on_its_way(client, client->feed.last + 1)) {
        client->beat_at = pln_clock_precise() + client->ping; /* one after it may be missing */
    } else {
        client->must_mend = true;
        pln_count(client->counts, PLN_COUNT_BUS_GAPS, 1);
        pln_mem_settle_locked(client->server);
    }
}

/* ---- what was missed ---- */

static struct pln_feed_state state_of(const struct mem_client *client) {
    struct pln_feed_state state = {.base = client->space->base,
                                   .number = client->space->number,
                                   .known = pln_feed_known(&client->feed),
                                   .at = pln_now(client->host)};
    snprintf(state.run_id, sizeof state.run_id, "%llu", (unsigned long long) client->server->life);
    return state;
}

static void free_logged(struct logged *logged) {
    while (logged != NULL) {
        struct logged *next = logged->next;
        free(logged);
        logged = next;
    }
}

/* Copies the log from where the client's row ends; NULL with *is_whole false where that is not to
 * be had. */
static struct logged *copy_log(struct mem_client *client, const struct pln_feed_state *state,
                               bool *is_whole) {
    struct logged *first = NULL, **end = &first;
    bool is_other, goes_on = true;
    for (const struct logged *at = client->space->log; at != NULL && goes_on; at = at->next) {
        struct pln_bytes payload = pln_bytes_of(at->payload, at->len);
        uint64_t last = client->feed.last;
        if (at->number < last) {
            continue;
        }
        struct logged *copy = at->number > last ? new_logged(payload) : NULL;
        goes_on = (copy != NULL || at->number == last) &&
                  pln_feed_take_logged(&client->feed, state, at->number, payload,
                                       at->from == client, &is_other);
        if (copy != NULL) {
            copy->number = at->number;
            copy->kind = at->kind;
            copy->from = at->from;
            *end = copy;
            end = &copy->next;
        }
    }
    *is_whole = goes_on && pln_feed_has_all(&client->feed, state);
    if (!*is_whole) {
        free_logged(first);
        first = NULL;
    }
    return first;
}

struct logged *pln_mem_missed_locked(struct mem_client *client, bool *is_whole) {
    struct pln_feed_state state = state_of(client);
    struct logged *missed = NULL;
    enum pln_feed_sync sync = pln_feed_sync(&client->feed, &state);
    client->beat_at = 0;
    *is_whole = sync == PLN_FEED_SAME && pln_feed_has_all(&client->feed, &state);
    if (sync == PLN_FEED_READ) {
        missed = copy_log(client, &state, is_whole);
    }
    if (!*is_whole) {
        pln_feed_begin(&client->feed, &state);
    }
    return missed;
}
