/* SPDX-License-Identifier: MIT
 * harm.c - what goes wrong in a run: see harness.h. Each fault begins, lasts and ends within one
 * function. */
#include "harness.h"

#include <stdlib.h>
#include <string.h>

/* From `least` up to `most`, by dice that the seed rules. */
static int roll(struct harness *harness, int least, int most) {
    harness->dice = harness->dice * 6364136223846793005 + 1442695040888963407;
    return least + (int) ((harness->dice >> 33) % (uint64_t) (most - least + 1));
}

static void command(struct harness *harness, const char *line) {
    free(pln_test_redis_command(&harness->server, "%s", line));
}

/* ---- with one server ---- */

static void restart(struct harness *harness, int process) {
    (void) process;
    pln_test_redis_kill(&harness->server);
    nap_ms(roll(harness, 0, 1500));
    pln_test_redis_restart(&harness->server);
}

static void stop(struct harness *harness, int process) {
    (void) process;
    pln_test_redis_pause(&harness->server);
    nap_ms(roll(harness, 500, 4000));
    pln_test_redis_resume(&harness->server);
}

static void cut(struct harness *harness, int process) {
    wire_set(harness->wire, process, WIRE_SWALLOW, 0);
    nap_ms(roll(harness, 300, 4000));
    wire_heal(harness->wire, process);
}

static void lag(struct harness *harness, int process) {
    int ms = roll(harness, 5, 200);
    wire_set(harness->wire, process, WIRE_DELAY, ms);
    nap_ms(roll(harness, 500, 3000));
    wire_heal(harness->wire, process);
    nap_ms(ms); /* what was under way arrives */
}

static void deafen(struct harness *harness, int process) {
    wire_set(harness->wire, process, WIRE_DEAF, 0);
    nap_ms(roll(harness, 4000, 6000));
    wire_heal(harness->wire, process);
}

static void kill_links(struct harness *harness, int process) {
    (void) process;
    command(harness, "CLIENT KILL TYPE pubsub");
}

static void kill_data(struct harness *harness, int process) {
    (void) process;
    command(harness, "CLIENT KILL TYPE normal");
}

/* A message that is larger than what the server keeps for a subscriber: it gives up all of them. */
static void overflow(struct harness *harness, int process) {
    (void) process;
    char *channels = pln_test_redis_command(&harness->server, "PUBSUB CHANNELS *:inv:*");
    channels[strcspn(channels, "\n")] = 0;
    if (*channels != 0) {
        free(pln_test_redis_command(&harness->server,
                                    "EVAL redis.call('PUBLISH','%s',string.rep('x',%d)) 0",
                                    channels, 2 * HARNESS_KEPT));
    }
    free(channels);
}

static void pause_clients(struct harness *harness, int process) {
    int ms = roll(harness, 300, 2000);
    (void) process;
    free(pln_test_redis_command(&harness->server, "CLIENT PAUSE %d ALL", ms));
    nap_ms(ms);
}

static void flush(struct harness *harness, int process) {
    (void) process;
    command(harness, "FLUSHALL");
}

static void flush_scripts(struct harness *harness, int process) {
    (void) process;
    command(harness, "SCRIPT FLUSH");
}

/* The watcher kills it, and announces that by itself. */
static void kill_process(struct harness *harness, int process) {
    pthread_mutex_lock(&harness->lock);
    fprintf(harness->orders, "kill %d\n", process);
    fflush(harness->orders);
    pthread_mutex_unlock(&harness->lock);
}

/* ---- with sentinels ---- */

static void fail_over(struct harness *harness, int process) {
    (void) process;
    test_sentinels_failover(&harness->sentinels);
}

static void kill_primary(struct harness *harness, int process) {
    (void) process;
    size_t old = test_sentinels_kill_primary(&harness->sentinels);
    test_sentinels_await_switch(&harness->sentinels, old);
    test_sentinels_rejoin(&harness->sentinels, old);
}

/* ---- all of them ---- */

enum {
    FOR_ONE = 1,   /* befalls one process, by dice */
    SILENT = 2,    /* announced by the watcher itself */
    SENTINELS = 4, /* of the other topology */
};

static const struct fault {
    const char *name;
    void (*act)(struct harness *harness, int process);
    int flags;
} faults[] = {
    {"restart", restart, 0},
    {"stop", stop, 0},
    {"cut", cut, 0},
    {"cut-one", cut, FOR_ONE},
    {"lag", lag, 0},
    {"lag-one", lag, FOR_ONE},
    {"kill-links", kill_links, 0},
    {"kill-data", kill_data, 0},
    {"overflow", overflow, 0},
    {"pause", pause_clients, 0},
    {"flush", flush, 0},
    {"flush-scripts", flush_scripts, 0},
    {"kill", kill_process, FOR_ONE | SILENT},
    {"deaf", deafen, FOR_ONE},
    {"failover", fail_over, SENTINELS},
    {"kill-primary", kill_primary, SENTINELS},
};

enum { N_FAULTS = sizeof faults / sizeof faults[0] };

static bool is_wanted(const struct harness *harness, const struct fault *fault) {
    char name[64];
    snprintf(name, sizeof name, ",%s,", fault->name);
    if (((fault->flags & SENTINELS) != 0) != harness->fails_over) {
        return false;
    }
    return harness->only[0] == 0 || strstr(harness->only, name) != NULL;
}

bool harness_has_harm(const struct harness *harness) {
    bool has = false;
    for (size_t i = 0; i < N_FAULTS; i++) {
        has = has || is_wanted(harness, &faults[i]);
    }
    return has;
}

/* Tells the watcher, and remembers that harm begins or ends. */
static void announce(struct harness *harness, const char *verb, const char *name, int process) {
    char whom[16] = "";
    if (process != WIRE_ALL) {
        snprintf(whom, sizeof whom, "%d ", process);
    }
    pthread_mutex_lock(&harness->lock);
    harness->n_harms++;
    fprintf(harness->orders, "%s %s %s@%lld\n", verb, name, whom, now_ns());
    fflush(harness->orders);
    pthread_mutex_unlock(&harness->lock);
}

void harness_do_harm(struct harness *harness) {
    const struct fault *fault;
    do {
        fault = &faults[roll(harness, 0, N_FAULTS - 1)];
    } while (!is_wanted(harness, fault));
    int process = (fault->flags & FOR_ONE) != 0 ? roll(harness, 0, (int) harness->n_processes - 1)
                                                : WIRE_ALL;
    if ((fault->flags & SILENT) != 0) {
        fault->act(harness, process);
        return;
    }
    announce(harness, "fault", fault->name, process);
    fault->act(harness, process);
    announce(harness, "end", fault->name, WIRE_ALL);
}
