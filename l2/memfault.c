/* SPDX-License-Identifier: MIT
 *
 * memfault.c - what goes wrong with the server in memory, as a test has told it to: commands that
 * wait, fail, hang or come too late, links that are lost, a server that forgets or evicts.
 *
 * Chance is a row of numbers that a seed decides: one for each client's commands, one for the
 * messages to it, one for the server. So what a thread does to one client moves nothing for
 * another, and a test that does the same in the same order sees the same faults.
 *
 * A command waits in real time, without the lock, and never past its deadline. One that would be
 * answered later ends in a timeout at the deadline, and was carried out then or not at all: its
 * caller cannot know, and neither could one of Redis.
 */
#include "mem.h"

#include <errno.h>
#include <math.h>

/* ---- chance ---- */

/* A counter, mixed: any two neighbouring seeds give rows that have nothing in common. */
uint64_t pln_mem_roll(uint64_t *dice) {
    uint64_t number = ++*dice;
    return pln_hash(pln_bytes_of(&number, sizeof number), 0);
}

bool pln_mem_chance(uint64_t *dice, double share) {
    /* rolled even where nothing hangs on it, so that one fault's share leaves the others' dice */
    return ldexp((double) (pln_mem_roll(dice) >> 11), -53) < share;
}

uint64_t pln_mem_upto(uint64_t *dice, uint64_t most) {
    return pln_mem_roll(dice) % (most + 1);
}

static uint64_t begin_dice(uint64_t seed, uint64_t number, uint64_t which) {
    uint64_t of[] = {number, which};
    return pln_hash(pln_bytes_of(of, sizeof of), seed);
}

static void begin_client_dice(struct mem_client *client) {
    uint64_t seed = client->trouble.faults.seed;
    client->dice = begin_dice(seed, client->number, 1);
    client->bus_dice = begin_dice(seed, client->number, 2);
}

void pln_mem_set_trouble_locked(struct mem_client *client, const struct trouble *trouble) {
    client->trouble = *trouble;
    begin_client_dice(client);
}

/* ---- commands ---- */

static int fail_locked(struct mem_client *client, int status, const char *why) {
    pthread_mutex_unlock(&client->server->lock);
    pln_count(client->counts, PLN_COUNT_L2_ERRORS, 1);
    if (status == PLN_ETIMEOUT) {
        pln_count(client->counts, PLN_COUNT_L2_TIMEOUTS, 1);
    }
    return pln_fail(status, "l2: %s%s", client->server->label, why);
}

/* Until the time has come, or what goes wrong has changed. */
static void wait_locked(struct pln_l2_mem_server *server, pln_ns until) {
    struct timespec at = pln_timespec(until);
    pthread_cond_timedwait(&server->changed, &server->lock, &at);
}

static void sleep_unlocked(struct pln_l2_mem_server *server, pln_ns until) {
    struct timespec at = pln_timespec(until);
    pthread_mutex_unlock(&server->lock);
    while (clock_nanosleep(CLOCK_MONOTONIC, TIMER_ABSTIME, &at, NULL) == EINTR) {
    }
    pthread_mutex_lock(&server->lock);
}

/* A client that is cut off gets no answer; one that hangs goes on when it is healed in time. */
static const char *pass_cut_locked(struct mem_client *client, pln_ns deadline, int *status) {
    while (client->trouble.cut == PLN_MEMORY_HANGS) {
        if (pln_clock_precise() >= deadline) {
            *status = PLN_ETIMEOUT;
            return " gave no answer in time; the outcome is unknown";
        }
        wait_locked(client->server, deadline);
    }
    if (client->trouble.cut == PLN_MEMORY_FAILS) {
        *status = PLN_EL2DOWN;
        return " is cut off";
    }
    return NULL;
}

static const char *refuse(const struct mem_client *client, enum mem_access access) {
    const struct pln_memory_faults *faults = &client->trouble.faults;
    if (faults->read_only && access != MEM_READS) {
        return ": READONLY You can't write against a read only replica.";
    }
    if (faults->out_of_memory && access == MEM_WRITES) {
        return ": OOM command not allowed when used memory > 'maxmemory'.";
    }
    return NULL;
}

/* Waits as the faults say. Returns whether the command is still to be carried out. */
static bool pass_delay_locked(struct mem_client *client, enum mem_access access, pln_ns deadline,
                              bool *is_late) {
    const struct pln_memory_faults *faults = &client->trouble.faults;
    pln_ms delay = faults->delay_ms +
                   (pln_ms) pln_mem_upto(&client->dice, (uint64_t) faults->delay_random_ms);
    bool would_run = pln_mem_chance(&client->dice, faults->carried_out);
    if (delay == 0) {
        return true;
    }
    pln_ns until = pln_clock_precise() + delay * 1000000;
    *is_late = until >= deadline;
    sleep_unlocked(client->server, *is_late ? deadline : until);
    return !*is_late || (would_run && access != MEM_READS);
}

static int answer_late_locked(struct mem_client *client) {
    client->server->stats.late++;
    return fail_locked(client, PLN_ETIMEOUT, " answered too late; the outcome is unknown");
}

int pln_mem_enter(struct mem_client *client, enum mem_access access, pln_ns deadline,
                  bool *is_late) {
    int status;
    *is_late = false;
    pln_count(client->counts, PLN_COUNT_L2_COMMANDS, 1);
    pthread_mutex_lock(&client->server->lock);
    client->server->stats.commands++;
    const char *why = pass_cut_locked(client, deadline, &status);
    if (why != NULL) {
        return fail_locked(client, status, why);
    }
    if (!pass_delay_locked(client, access, deadline, is_late)) {
        return answer_late_locked(client);
    }
    why = refuse(client, access);
    if (why != NULL) {
        client->server->stats.refused++;
        return *is_late ? answer_late_locked(client) : fail_locked(client, PLN_EL2, why);
    }
    return PLN_OK;
}

int pln_mem_leave(struct mem_client *client, bool is_late, int result) {
    pln_mem_drain_all_locked(client->space);
    if (is_late) {
        client->server->stats.carried_out++;
        return answer_late_locked(client);
    }
    pthread_mutex_unlock(&client->server->lock);
    return result;
}

/* ---- what a test says: to one client, or to all ---- */

/* Calls `change` for a client, or for the server's own trouble and that of every client. */
static void change_trouble_locked(struct pln_l2_mem_server *server, struct pln_l2 *l2,
                                  void (*change)(struct trouble *, const void *), const void *arg) {
    struct mem_client *only = l2 != NULL ? pln_mem_client(l2) : NULL;
    if (only == NULL) {
        change(&server->trouble, arg);
    }
    for (struct space *space = server->spaces; space != NULL; space = space->next) {
        for (struct mem_client *client = space->clients; client != NULL; client = client->next) {
            if (only == NULL || client == only) {
                change(&client->trouble, arg);
            }
        }
    }
    pthread_cond_broadcast(&server->changed);
}

static void change_faults(struct trouble *trouble, const void *faults) {
    trouble->faults = *(const struct pln_memory_faults *) faults;
}

static void change_link(struct trouble *trouble, const void *is_up) {
    trouble->is_parted = !*(const bool *) is_up;
}

static void change_cut(struct trouble *trouble, const void *cut) {
    trouble->cut = *(const enum pln_memory_cut *) cut;
}

/* What a change has let go is brought at once, as it would have been had it been posted now. */
static void drain_server_locked(struct pln_l2_mem_server *server) {
    for (struct space *space = server->spaces; space != NULL; space = space->next) {
        pln_mem_drain_all_locked(space);
    }
}

void pln_l2_mem_faults(struct pln_l2_mem_server *server, struct pln_l2 *l2,
                       const struct pln_memory_faults *faults) {
    pthread_mutex_lock(&server->lock);
    change_trouble_locked(server, l2, change_faults, faults);
    if (l2 == NULL) {
        server->dice = begin_dice(faults->seed, 0, 0);
    }
    for (struct space *space = server->spaces; space != NULL; space = space->next) {
        for (struct mem_client *client = space->clients; client != NULL; client = client->next) {
            if (l2 == NULL || client == pln_mem_client(l2)) {
                begin_client_dice(client);
            }
        }
    }
    drain_server_locked(server);
    pthread_mutex_unlock(&server->lock);
}

void pln_l2_mem_set_link(struct pln_l2_mem_server *server, struct pln_l2 *l2, bool is_up) {
    pthread_mutex_lock(&server->lock);
    change_trouble_locked(server, l2, change_link, &is_up);
    pln_mem_settle_locked(server);
    pthread_mutex_unlock(&server->lock);
}

void pln_l2_mem_set_cut(struct pln_l2_mem_server *server, struct pln_l2 *l2,
                        enum pln_memory_cut cut) {
    pthread_mutex_lock(&server->lock);
    change_trouble_locked(server, l2, change_cut, &cut);
    pthread_mutex_unlock(&server->lock);
}

size_t pln_l2_mem_bring(struct pln_l2_mem_server *server, struct pln_l2 *l2, size_t n) {
    size_t reported = 0;
    pthread_mutex_lock(&server->lock);
    for (struct space *space = server->spaces; space != NULL; space = space->next) {
        for (struct mem_client *client = space->clients; client != NULL; client = client->next) {
            if (l2 == NULL || client == pln_mem_client(l2)) {
                reported += pln_mem_drain_locked(client, n, true);
                pln_mem_call_courier_locked(client);
            }
        }
    }
    pthread_mutex_unlock(&server->lock);
    return reported;
}

/* Every link is lost, then what was stored, then the links come back: as after kill -9 of a Redis
 * that saves nothing. */
void pln_l2_mem_forget(struct pln_l2_mem_server *server) {
    pthread_mutex_lock(&server->lock);
    server->is_away = true;
    pln_mem_settle_locked(server);
    for (struct space *space = server->spaces; space != NULL; space = space->next) {
        pln_mem_forget_records(space);
        pln_mem_forget_log(space);
        pln_mem_queue_forget(&space->queue);
        pln_mem_begin_row_locked(space);
    }
    server->life++;
    server->is_away = false;
    pln_mem_settle_locked(server);
    pthread_mutex_unlock(&server->lock);
}

size_t pln_l2_mem_evict(struct pln_l2_mem_server *server, double share) {
    size_t n = 0;
    pthread_mutex_lock(&server->lock);
    for (struct space *space = server->spaces; space != NULL; space = space->next) {
        n += pln_mem_evict_records(space, share, &server->dice);
    }
    pthread_mutex_unlock(&server->lock);
    return n;
}

void pln_l2_mem_stats(struct pln_l2_mem_server *server, struct pln_memory_stats *stats) {
    pthread_mutex_lock(&server->lock);
    *stats = server->stats;
    for (struct space *space = server->spaces; space != NULL; space = space->next) {
        stats->values += pln_mem_count_values(space);
        for (struct mem_client *client = space->clients; client != NULL; client = client->next) {
            stats->clients++;
            stats->waiting += client->is_draining; /* one is being reported, and not yet heard */
            for (struct queued *queued = client->first; queued != NULL; queued = queued->next) {
                stats->waiting += !queued->is_own;
            }
        }
    }
    pthread_mutex_unlock(&server->lock);
}

/* ---- the same to one client, step by step ---- */

void pln_l2_mem_hold(struct pln_l2 *l2, bool held) {
    struct mem_client *client = pln_mem_client(l2);
    pthread_mutex_lock(&client->server->lock);
    client->is_held = held;
    pln_mem_drain_locked(client, SIZE_MAX, false);
    pln_mem_call_courier_locked(client);
    pthread_mutex_unlock(&client->server->lock);
}

size_t pln_l2_mem_deliver(struct pln_l2 *l2, size_t n) {
    return pln_l2_mem_bring(pln_mem_client(l2)->server, l2, n);
}

void pln_l2_mem_part(struct pln_l2 *l2) {
    pln_l2_mem_set_link(pln_mem_client(l2)->server, l2, false);
}

void pln_l2_mem_join(struct pln_l2 *l2) {
    pln_l2_mem_set_link(pln_mem_client(l2)->server, l2, true);
}

void pln_l2_mem_cut(struct pln_l2 *l2, bool is_cut) {
    pln_l2_mem_set_cut(pln_mem_client(l2)->server, l2,
                       is_cut ? PLN_MEMORY_FAILS : PLN_MEMORY_UNCUT);
}
