/* SPDX-License-Identifier: MIT
 *
 * pool.c - the data connections of one node.
 *
 * A key belongs to one connection, by its hash, so commands for a key are executed in the order in
 * which they were sent. Of the callers of a connection one at a time has it (line.c).
 *
 * A connection that fails is closed at once: an answer that comes too late finds nobody. What was
 * sent over it may still be executed, so the next connection of the slot first has the server kill
 * the old one. Only then can no old command undo a newer one. Ids are meaningful within one life
 * of a server, so this is done where the server's run id is the same.
 *
 * What befalls a connection is told to the node's breaker, which says who may have one (breaker.c).
 */
#include "async.h"

#include <errno.h>
#include <stdio.h>
#include <time.h>

/* ---- breaker ---- */

/* Answers in time, over all connections. */
static uint64_t count_answered(struct pln_pool *pool) {
    uint64_t n = 0;
    for (size_t i = 0; i <= pool->n_slots; i++) {
        /* relaxed: only counted */
        n += atomic_load_explicit(&pool->slots[i].line.n_answered, memory_order_relaxed);
    }
    return n;
}

/* Counts a failure, and lets the breaker know of it. */
static void note_failure(struct pln_pool *pool, enum pln_outcome outcome, uint32_t probe,
                         size_t n_lost) {
    bool is_late = outcome == PLN_LATE;
    struct pln_turn_end end = {outcome, probe, is_late ? (unsigned) n_lost : 0, 0};
    pln_count(pool->counts, is_late ? PLN_COUNT_L2_TIMEOUTS : PLN_COUNT_L2_ERRORS, 1);
    /* relaxed: only shown */
    atomic_fetch_add_explicit(is_late ? &pool->n_timeouts : &pool->n_errors, 1,
                              memory_order_relaxed);
    if (is_late) {
        end.n_answered = count_answered(pool);
    }
    pln_breaker_end(&pool->breaker, &end, pln_pool_label(pool));
}

void pln_pool_blame(struct pln_pool *pool) {
    note_failure(pool, PLN_LATE, 0, 1);
}

/* ---- which server ---- */

/* So long is a server not believed that the link could look at and has not. */
static const pln_ns longest_doubt = 3000 * 1000000LL;
/* In which the link looks at another server, where it can. Then readers are refused at once. */
static const pln_ns usual_patience = 250 * 1000000LL;

void pln_pool_require(struct pln_pool *pool, const char *run_id) {
    pthread_mutex_lock(&pool->lock);
    snprintf(pool->required_run_id, sizeof pool->required_run_id, "%s", run_id);
    pthread_cond_broadcast(&pool->agreed);
    pthread_mutex_unlock(&pool->lock);
}

static bool is_right_locked(struct pln_pool *pool, const struct pln_conn *conn) {
    return pool->required_run_id[0] == 0 || strcmp(pool->required_run_id, conn->run_id) == 0;
}

void pln_pool_checked(struct pln_pool *pool, const char *run_id) {
    pthread_mutex_lock(&pool->lock);
    snprintf(pool->checked_run_id, sizeof pool->checked_run_id, "%s", run_id);
    /* relaxed: written under the lock alone */
    uint64_t trust = atomic_load_explicit(&pool->trust, memory_order_relaxed);
    /* T1 release: after the server was looked at; pairs with pln_pool_trust */
    atomic_store_explicit(&pool->trust, trust + trust % 2, memory_order_release);
    pthread_cond_broadcast(&pool->agreed);
    pthread_mutex_unlock(&pool->lock);
}

/* Before anything is asked over the connection, so that whoever is answered by an unchecked server
 * sees it afterwards. */
static void doubt_locked(struct pln_pool *pool, const struct pln_conn *conn) {
    /* relaxed: written under the lock alone */
    uint64_t trust = atomic_load_explicit(&pool->trust, memory_order_relaxed);
    if (pool->checked_run_id[0] == 0 || conn->run_id[0] == 0 ||
        strcmp(pool->checked_run_id, conn->run_id) == 0 ||
        (trust % 2 == 1 && strcmp(pool->doubted_run_id, conn->run_id) == 0)) {
        return;
    }
    snprintf(pool->doubted_run_id, sizeof pool->doubted_run_id, "%s", conn->run_id);
    /* relaxed: read after the trust, which says that it counts */
    atomic_store_explicit(&pool->doubt_until, pln_clock_precise() + longest_doubt,
                          memory_order_relaxed);
    /* T1 release: pairs with pln_pool_trust */
    atomic_store_explicit(&pool->trust, trust + (trust % 2 == 1 ? 2 : 1), memory_order_release);
    pool->on_doubt(pool->arg);
}

uint64_t pln_pool_trust(const struct pln_pool *pool) {
    /* T1 acquire: when the doubt ends; pairs with doubt_locked. That answers come before it is the
     * connection's order */
    uint64_t trust = atomic_load_explicit(&pool->trust, memory_order_acquire);
    if (trust % 2 == 1 &&
        /* relaxed: as above */
        pln_clock_precise() < atomic_load_explicit(&pool->doubt_until, memory_order_relaxed)) {
        return 0;
    }
    return trust + 1;
}

bool pln_pool_await_trust(struct pln_pool *pool, pln_ns deadline) {
    pthread_mutex_lock(&pool->lock);
    int waited = 0;
    while (pln_pool_trust(pool) == 0 && waited == 0) {
        /* relaxed: written under the lock; the other one a test's */
        pln_ns until = atomic_load_explicit(&pool->doubt_until, memory_order_relaxed) -
                       longest_doubt + atomic_load_explicit(&pool->patience, memory_order_relaxed);
        struct timespec time = pln_timespec(until < deadline ? until : deadline);
        waited = pthread_cond_clockwait(&pool->agreed, &pool->lock, CLOCK_MONOTONIC, &time);
    }
    pthread_mutex_unlock(&pool->lock);
    return waited == 0;
}

/* A new connection found another server than the link did: the link goes down before any command
 * is sent, since its messages say nothing about this server's values. */
static int agree(struct pln_pool *pool, const struct pln_conn *conn, bool is_link,
                 pln_ns deadline) {
    struct timespec until = pln_timespec(deadline);
    int waited = 0;
    pthread_mutex_lock(&pool->lock);
    while (waited == 0 && !is_right_locked(pool, conn)) {
        pool->on_other_server(pool->arg);
        if (is_link) { /* which would wait for itself */
            break;
        }
        waited = pthread_cond_clockwait(&pool->agreed, &pool->lock, CLOCK_MONOTONIC, &until);
    }
    bool is_right = is_right_locked(pool, conn);
    doubt_locked(pool, conn);
    pthread_mutex_unlock(&pool->lock);
    if (!is_right) {
        return pln_fail(PLN_EL2DOWN,
                        "l2: redis at %s: data and messages come from different servers",
                        pln_pool_label(pool));
    }
    return PLN_OK;
}

/* ---- connecting ---- */

static void hang_up(struct pln_slot *slot) {
    /* relaxed: a message that comes at this very moment may be taken for own or foreign; the
     * caller whose command failed forgets the key itself, after this */
    if (atomic_load_explicit(&slot->incarnation, memory_order_relaxed) != 0) {
        slot->ghost_id = slot->conn.id;
        memcpy(slot->ghost_run_id, slot->conn.run_id, sizeof slot->ghost_run_id);
        atomic_store_explicit(&slot->incarnation, 0, memory_order_relaxed); /* relaxed: as above */
    }
    pln_conn_close(&slot->conn);
    slot->is_done_for = false;
}

/* Keeps the script's hash where the server has taken it; else the text will be sent. */
static void take_hash(struct pln_slot *slot, size_t i, const struct pln_reply *reply) {
    bool is_hash = reply->kind == PLN_REPLY_STRING && reply->bytes.len == PLN_SHA;
    snprintf(slot->hashes[i], sizeof slot->hashes[i], "%s", is_hash ? pln_reply_text(reply) : "");
}

/* Kills the slot's former connection and loads the scripts. */
static int prepare(struct pln_pool *pool, struct pln_slot *slot, pln_ns deadline) {
    struct pln_reply *replies[1 + PLN_N_SCRIPTS] = {NULL};
    struct pln_batch batch;
    bool has_ghost = slot->ghost_id != 0 && strcmp(slot->ghost_run_id, slot->conn.run_id) == 0;
    pln_batch_init(&batch);
    if (has_ghost) {
        pln_batch_command(&batch, 4);
        pln_batch_text(&batch, "CLIENT");
        pln_batch_text(&batch, "KILL");
        pln_batch_text(&batch, "ID");
        pln_batch_number(&batch, slot->ghost_id);
    }
    pln_script_load(&batch);
    int result = pln_conn_exchange(&slot->conn, &batch, deadline, replies);
    for (size_t i = 0; result == PLN_OK && i < PLN_N_SCRIPTS; i++) {
        take_hash(slot, i, replies[has_ghost + i]);
    }
    if (result == PLN_OK && has_ghost && pln_reply_is(replies[0], "NOPERM")) {
        pln_logf(pool->host, PLN_LOG_WARN,
                 "l2: redis at %s does not let us kill our lost connection: a late write may undo "
                 "a newer one (grant CLIENT KILL)",
                 pln_pool_label(pool));
    }
    pln_replies_free(replies, batch.n_commands);
    pln_batch_fini(&batch);
    return result;
}

/* A replica runs no scripts of ours and has no writes to be afraid of. */
static int prepare_replica(struct pln_pool *pool, struct pln_slot *slot, pln_ns deadline) {
    struct pln_reply *reply = NULL;
    struct pln_batch batch;
    if (!pool->is_readonly) {
        return PLN_OK;
    }
    pln_batch_init(&batch);
    pln_batch_texts(&batch, "READONLY", NULL);
    int result = pln_conn_exchange(&slot->conn, &batch, deadline, &reply);
    if (result == PLN_OK && reply->kind == PLN_REPLY_ERROR) {
        result = pln_fail(PLN_EL2DOWN, "l2: redis at %s refused READONLY: %s", slot->conn.label,
                          pln_reply_text(reply));
    }
    pln_replies_free(&reply, 1);
    pln_batch_fini(&batch);
    return result;
}

static void note_clock(struct pln_pool *pool, struct pln_slot *slot) {
    slot->clock_at = pln_clock_precise();
    /* relaxed: a number by itself; each reading of it is as good as any other */
    atomic_store_explicit(&pool->clock_offset, slot->conn.clock_offset, memory_order_relaxed);
}

static int dial(struct pln_pool *pool, struct pln_slot *slot, bool is_link, pln_ns until) {
    int result = pln_conn_open(&slot->conn, pln_pool_endpoint(pool), pool->tls, until);
    if (result == PLN_OK) {
        slot->conn.takes_replicas = pool->takes_replicas;
        slot->conn.is_to_replica = pool->is_replica;
        slot->conn.counts = pool->counts;
        result = pln_conn_login(&slot->conn, pool->login, pool->client_name, PLN_RESP_BEST, until);
    }
    if (result == PLN_OK) {
        result = agree(pool, &slot->conn, is_link, until);
    }
    if (result == PLN_OK) {
        result = pool->is_replica ? prepare_replica(pool, slot, until) : prepare(pool, slot, until);
    }
    if (result != PLN_OK) {
        hang_up(slot);
        return result;
    }
    pln_conn_set_patience(&slot->conn, pool->timeout / 2);
    note_clock(pool, slot);
    pln_count(pool->counts, PLN_COUNT_L2_CONNECTS, 1);
    pthread_mutex_lock(&pool->lock);
    uint32_t incarnation = ++pool->last_incarnation;
    pthread_mutex_unlock(&pool->lock);
    /* relaxed: its first message can come only after its first command, which is sent later */
    atomic_store_explicit(&slot->incarnation, incarnation, memory_order_relaxed);
    return PLN_OK;
}

/* ---- take and give ---- */

/* Ends the taker's turn with a failure, and asks where the server is. */
static void fail_turn(struct pln_pool *pool, struct pln_slot *slot, enum pln_outcome outcome,
                      size_t n_lost) {
    note_failure(pool, outcome, slot->probe, n_lost);
    slot->probe = 0;
    if (pool->on_trouble != NULL) {
        pool->on_trouble(pool->arg);
    }
}

/* Where the breaker is open, who is admitted is the one to try. */
static int claim(struct pln_pool *pool, struct pln_slot *slot, bool *is_wrong) {
    int result = pln_breaker_claim(&pool->breaker, &slot->probe);
    if (result == PLN_OK) {
        pthread_mutex_lock(&pool->lock);
        *is_wrong = !is_right_locked(pool, &slot->conn) ||
                    (pln_conn_is_open(&slot->conn) && slot->conn.label != pln_pool_label(pool));
        pthread_mutex_unlock(&pool->lock);
    }
    return result;
}

/* It is looked at each time, which costs a system call that returns at once: an answer nobody asked
 * for would be taken for that of the next command. */
static bool is_usable(struct pln_slot *slot) {
    return pln_conn_is_open(&slot->conn) && !pln_conn_is_spoilt(&slot->conn);
}

int pln_pool_take(struct pln_pool *pool, size_t index, bool is_link, pln_ns deadline,
                  struct pln_slot **taken) {
    struct pln_slot *slot = &pool->slots[index];
    pln_ns now = pln_clock_precise();
    bool is_wrong, is_impatient = deadline < now + pool->connect_timeout;
    if (deadline <= now) {
        return pln_fail(PLN_ETIMEOUT, "l2: the deadline passed before a command was sent");
    }
    int result = claim(pool, slot, &is_wrong);
    if (result != PLN_OK) {
        return result;
    }
    if (is_wrong || !is_usable(slot)) {
        hang_up(slot);
        result = dial(pool, slot, is_link, is_impatient ? deadline : now + pool->connect_timeout);
    }
    if (result != PLN_OK) {
        /* who takes longer than any connection should is as good as away */
        bool is_late = result == PLN_ETIMEOUT && is_impatient;
        fail_turn(pool, slot,
                  is_late                ? PLN_LATE
                  : result == PLN_ENOMEM ? PLN_BROKEN
                                         : PLN_REFUSED,
                  1);
        return result;
    }
    *taken = slot;
    return PLN_OK;
}

bool pln_pool_needs_time(const struct pln_pool *pool, const struct pln_slot *slot) {
    return pln_clock_precise() - slot->clock_at > pool->clock_period;
}

void pln_pool_note_reply(struct pln_pool *pool, struct pln_slot *slot, bool is_time,
                         const struct pln_reply *reply) {
    if (is_time && pln_conn_take_time(&slot->conn, reply)) {
        note_clock(pool, slot);
    }
    if (reply->kind == PLN_REPLY_ERROR) {
        bool is_demoted = strstr(pln_reply_text(reply), "READONLY") != NULL;
        const struct pln_refusal *refusal = pln_refusal_of(reply);
        slot->is_done_for = slot->is_done_for || is_demoted ||
                            (refusal != NULL && refusal->is_last);
        if (is_demoted) {
            pool->on_other_server(pool->arg); /* the link has to look where the master is, too */
            if (pool->on_trouble != NULL) {
                pool->on_trouble(pool->arg);
            }
        }
    }
}

int pln_pool_refused(struct pln_pool *pool, const char *command, const struct pln_reply *reply) {
    char hint[PLN_ERROR_TEXT / 2];
    pln_count(pool->counts, PLN_COUNT_L2_ERRORS, 1);
    /* relaxed: only shown */
    atomic_fetch_add_explicit(&pool->n_errors, 1, memory_order_relaxed);
    if (reply->kind != PLN_REPLY_ERROR) {
        return pln_fail(PLN_EL2, "l2: redis at %s: %s: an answer of an unexpected kind (%d)",
                        pln_pool_label(pool), command, reply->kind);
    }
    pln_refusal_hint(reply, hint, sizeof hint);
    return pln_fail(PLN_EL2, "l2: redis at %s: %s: %s%s", pln_pool_label(pool), command,
                    pln_reply_text(reply), hint);
}

void pln_pool_give(struct pln_pool *pool, struct pln_slot *slot, int result, size_t n_lost) {
    bool has_failed = result < 0 && result != PLN_EL2;
    /* an answer nobody asked for would be taken for that of the next command */
    if (has_failed || slot->is_done_for || pln_conn_is_ahead(&slot->conn)) {
        hang_up(slot);
    }
    if (has_failed) {
        fail_turn(pool, slot, result == PLN_ETIMEOUT ? PLN_LATE : PLN_BROKEN, n_lost);
    } else {
        struct pln_turn_end end = {.outcome = PLN_ANSWERED, .probe = slot->probe};
        slot->probe = 0;
        pln_breaker_end(&pool->breaker, &end, pln_pool_label(pool));
    }
}

/* ---- life, and what others ask ---- */

bool pln_pool_has(struct pln_pool *pool, uint32_t incarnation) {
    for (size_t i = 0; i <= pool->n_slots; i++) {
        /* relaxed: see hang_up */
        if (atomic_load_explicit(&pool->slots[i].incarnation, memory_order_relaxed) ==
            incarnation) {
            return incarnation != 0;
        }
    }
    return false;
}

size_t pln_pool_connections(struct pln_pool *pool) {
    size_t n = 0;
    for (size_t i = 0; i <= pool->n_slots; i++) {
        /* relaxed: only counted */
        n += atomic_load_explicit(&pool->slots[i].incarnation, memory_order_relaxed) != 0;
    }
    return n;
}

pln_ms pln_pool_server_now(struct pln_pool *pool) {
    /* relaxed: see note_clock */
    return pln_clock_precise() / 1000000 +
           atomic_load_explicit(&pool->clock_offset, memory_order_relaxed);
}

int pln_pool_init(struct pln_pool *pool) {
    pool->slots = calloc(pool->n_slots + 1, sizeof *pool->slots);
    if (pool->slots == NULL) {
        return pln_fail(PLN_ENOMEM, "l2: no memory for %zu connections", pool->n_slots);
    }
    if (pool->most_queued_bytes == 0) {
        pool->most_queued_bytes = PLN_MOST_QUEUED_BYTES;
    }
    if (pool->most_in_flight_bytes == 0) {
        pool->most_in_flight_bytes = PLN_MOST_IN_FLIGHT_BYTES;
    }
    for (size_t i = 0; i <= pool->n_slots; i++) {
        pln_line_init(&pool->slots[i].line);
        pool->slots[i].conn.stream.fd = -1;
    }
    pool->breaker.host = pool->host;
    pool->breaker.counts = pool->counts;
    pln_breaker_init(&pool->breaker);
    atomic_init(&pool->patience, usual_patience);
    pthread_mutex_init(&pool->lock, NULL);
    pthread_cond_init(&pool->agreed, NULL);
    return pln_async_init(pool);
}

void pln_pool_fini(struct pln_pool *pool) {
    if (pool->slots == NULL) {
        return;
    }
    pln_async_fini(pool);
    for (size_t i = 0; i <= pool->n_slots; i++) {
        pln_conn_close(&pool->slots[i].conn);
        pln_line_fini(&pool->slots[i].line);
    }
    pln_breaker_fini(&pool->breaker);
    pthread_cond_destroy(&pool->agreed);
    pthread_mutex_destroy(&pool->lock);
    free(pool->slots);
    pool->slots = NULL;
}
