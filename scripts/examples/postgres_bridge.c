/* SPDX-License-Identifier: MIT
 *
 * postgres_bridge.c - hands events from a PostgreSQL database on to a stream of Redis, from where
 * the caches whose policy names it (cache.events) take them.
 *
 *     postgres_bridge CONNINFO REDIS_URL STREAM
 *     cc postgres_bridge.c -o postgres_bridge -I$(pg_config --includedir) -lpq -lperilune
 *
 * postgres_events.sql makes the events: rows of the table perilune_outbox. A NOTIFY only wakes this
 * program, so one that was missed costs nothing: whatever stands in the table is taken, also after
 * every connect. Rows are taken off in a transaction that is committed when Redis has them, so none
 * is lost, and one may be handed on twice, which does no harm. Any number of bridges may run.
 *
 * SIGTERM and SIGINT end it.
 */
#include <libpq-fe.h>
#include <perilune.h>
#include <perilune_redis.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <time.h>

enum {
    LOOK_EVERY_S = 10, /* though nobody has called */
    REST_S = 1,        /* after a failure */
    MOST_WORDS = 6 + 2 * 64,
};

static const char take[] =
    "WITH taken AS (DELETE FROM perilune_outbox WHERE id IN (SELECT id FROM perilune_outbox "
    "ORDER BY id LIMIT 100 FOR UPDATE SKIP LOCKED) RETURNING id, event, fields) "
    "SELECT t.id, t.event, f.key, f.value FROM taken t "
    "LEFT JOIN LATERAL jsonb_each_text(t.fields) f ON true ORDER BY t.id, f.key";

static volatile sig_atomic_t is_ending;

static void note_end(int signal_number) {
    (void) signal_number;
    is_ending = 1;
}

struct bridge {
    PGconn *db;
    struct pln_cache *cache;
    const char *stream;
    bool is_listening;
    bool is_told; /* that it does not go on: once, until it does again */
};

static bool complain(struct bridge *bridge, const char *what, const char *why) {
    if (!bridge->is_told) {
        bridge->is_told = true;
        fprintf(stderr, "postgres_bridge: %s: %s%s", what, why,
                why[0] != 0 && why[strlen(why) - 1] == '\n' ? "" : "\n");
    }
    return false;
}

/* ---- Redis ---- */

/* Adds the event whose fields stand in the rows from `first` on. Returns how many those are; 0
 * where it failed. */
static int add_event(struct bridge *bridge, const PGresult *rows, int first) {
    struct pln_bytes words[MOST_WORDS] = {pln_key("XADD"),    pln_key(bridge->stream),
                                          pln_key("MAXLEN"),  pln_key("~"),
                                          pln_key("1000000"), pln_key("*"),
                                          pln_key("event"),   pln_key(PQgetvalue(rows, first, 1))};
    struct pln_answer *answer;
    size_t n = 8;
    int row = first;
    for (;
         row < PQntuples(rows) && strcmp(PQgetvalue(rows, row, 0), PQgetvalue(rows, first, 0)) == 0;
         row++) {
        if (!PQgetisnull(rows, row, 3) && n + 2 <= MOST_WORDS) {
            words[n++] = pln_key(PQgetvalue(rows, row, 2));
            words[n++] = pln_key(PQgetvalue(rows, row, 3));
        }
    }
    if (pln_command(bridge->cache, NULL, words, n, 0, &answer) != PLN_OK) {
        complain(bridge, "redis", pln_error_text());
        return 0;
    }
    pln_answer_free(answer);
    return row - first;
}

/* ---- PostgreSQL ---- */

static bool run(struct bridge *bridge, const char *command) {
    PGresult *result = PQexec(bridge->db, command);
    bool is_good = PQresultStatus(result) == PGRES_COMMAND_OK;
    PQclear(result);
    return is_good || complain(bridge, command, PQerrorMessage(bridge->db));
}

/* Hands on up to a hundred events. Returns how many rows there were; -1 where it failed, and then
 * they stay. */
static int hand_on_some(struct bridge *bridge) {
    if (!run(bridge, "BEGIN")) {
        return -1;
    }
    PGresult *rows = PQexec(bridge->db, take);
    bool is_good = PQresultStatus(rows) == PGRES_TUPLES_OK ||
                   complain(bridge, "perilune_outbox", PQerrorMessage(bridge->db));
    int n = PQntuples(rows);
    for (int row = 0, taken; is_good && row < n; row += taken) {
        taken = add_event(bridge, rows, row);
        is_good = taken > 0;
    }
    PQclear(rows);
    return run(bridge, is_good ? "COMMIT" : "ROLLBACK") && is_good ? n : -1;
}

static bool hand_on_all(struct bridge *bridge) {
    int n;
    while ((n = hand_on_some(bridge)) > 0 && !is_ending) {
    }
    return n >= 0;
}

/* Listens before it looks, so that nothing falls between. */
static bool be_listening(struct bridge *bridge) {
    if (PQstatus(bridge->db) != CONNECTION_OK) {
        bridge->is_listening = false;
        PQreset(bridge->db);
    }
    if (PQstatus(bridge->db) != CONNECTION_OK) {
        return complain(bridge, "database", PQerrorMessage(bridge->db));
    }
    bridge->is_listening = bridge->is_listening || run(bridge, "LISTEN perilune");
    return bridge->is_listening;
}

/* Sleeps until somebody notifies, the connection ends, or the time has passed. Signals come in only
 * here. */
static void wait_for_notice(PGconn *db, int seconds) {
    struct pollfd poll = {.fd = db == NULL ? -1 : PQsocket(db), .events = POLLIN};
    struct timespec time = {.tv_sec = seconds};
    sigset_t none;
    sigemptyset(&none);
    if (ppoll(&poll, 1, &time, &none) > 0) {
        PGnotify *notice;
        PQconsumeInput(db);
        while ((notice = PQnotifies(db)) != NULL) {
            PQfreemem(notice);
        }
    }
}

static void catch_signals(void) {
    struct sigaction action = {.sa_handler = note_end};
    sigset_t ends;
    sigemptyset(&ends);
    sigaddset(&ends, SIGTERM);
    sigaddset(&ends, SIGINT);
    sigprocmask(SIG_BLOCK, &ends, NULL);
    sigaction(SIGTERM, &action, NULL);
    sigaction(SIGINT, &action, NULL);
}

int main(int argc, char **argv) {
    if (argc != 4) {
        fprintf(stderr, "usage: postgres_bridge CONNINFO REDIS_URL STREAM\n");
        return 2;
    }
    struct pln_options options = {.redis = argv[2], .name = "postgres_bridge"};
    struct bridge bridge = {.stream = argv[3]};
    catch_signals();
    if (pln_open(&options, &bridge.cache) < 0) {
        complain(&bridge, "redis", pln_error_text());
        return 1;
    }
    bridge.db = PQconnectdb(argv[1]);
    while (!is_ending) {
        bool is_well = be_listening(&bridge) && hand_on_all(&bridge);
        if (is_well && bridge.is_told) {
            bridge.is_told = false;
            fprintf(stderr, "postgres_bridge: it goes on\n");
        }
        wait_for_notice(is_well ? bridge.db : NULL, is_well ? LOOK_EVERY_S : REST_S);
    }
    PQfinish(bridge.db);
    pln_close(bridge.cache);
    return 0;
}
