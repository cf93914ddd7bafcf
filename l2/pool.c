/* SPDX-License-Identifier: MIT
 *
 * pool.c - the data connections of one node, and the breaker that keeps callers from waiting for a
 * node that is away.
 *
 * A key belongs to one connection, by its hash, so commands for a key are executed in the order in
 * which they were sent. Of the callers of a connection one at a time has it (line.c).
 *
 * A connection that fails is closed at once: an answer that comes too late finds nobody. What was
 * sent over it may still be executed, so the next connection of the slot first has the server kill
 * the old one. Only then can no old command undo a newer one. Ids are meaningful within one life
 * of a server, so this is done where the server's run id is the same.
 *
 * The breaker: closed (commands go through), open (they fail at once, until retry_at), and from
 * then on one caller at a time tries. It opens after five failures in a row, or when a connection
 * is refused; any answer closes it. Each change is logged, once.
 */
#include "internal.h"

#include <errno.h>
#include <stdio.h>
#include <time.h>

enum { FAILURES_TO_OPEN = 5 };

static const pln_ns first_backoff = 20 * 1000000LL;
static const pln_ns last_backoff = 2000 * 1000000LL;

pln_ns pln_backoff_next(pln_ns *backoff) {
    pln_ns longest = *backoff < first_backoff ? first_backoff : *backoff;
    *backoff = longest * 2 < last_backoff ? longest * 2 : last_backoff;
    /* a random half of it, so that the clients of a server that restarts do not come as one */
    return longest / 2 + (pln_ns) (pln_random64() % (uint64_t) (longest / 2));
}

/* ---- breaker ---- */

/* Returns: PLN_OK; PLN_EL2DOWN while the breaker is open and it is nobody's turn to try. */
static int admit_locked(struct pln_pool *pool) {
    pln_ns left = pool->retry_at - pln_clock_precise();
    if (!pool->is_open || (left <= 0 && !pool->is_probing)) {
        return PLN_OK;
    }
    return pln_fail(PLN_EL2DOWN, "%s; not tried again before %lld ms from now", pool->reason,
                    (long long) (left > 0 ? left / 1000000 + 1 : 0));
}

/* Returns whether this closes the breaker. */
static bool note_success_locked(struct pln_pool *pool) {
    bool was_open = pool->is_open;
    pool->is_open = false;
    pool->n_failures = 0;
    pool->backoff = 0;
    return was_open;
}

/* The reason is the text of the failure just met. Returns whether this opens the breaker. */
static bool note_failure_locked(struct pln_pool *pool, bool is_probe, bool is_final) {
    pool->n_failures++;
    bool opens = !pool->is_open && (is_final || pool->n_failures >= FAILURES_TO_OPEN);
    if (opens || is_probe) {
        pool->is_open = true;
        pool->retry_at = pln_clock_precise() + pln_backoff_next(&pool->backoff);
        snprintf(pool->reason, sizeof pool->reason, "%s", pln_error_text());
    }
    return opens;
}

bool pln_pool_is_open(struct pln_pool *pool) {
    /* relaxed: it may change at any time */
    return atomic_load_explicit(&pool->is_open, memory_order_relaxed);
}

int pln_pool_admit(struct pln_pool *pool) {
    if (!pln_pool_is_open(pool)) {
        return PLN_OK;
    }
    pthread_mutex_lock(&pool->lock);
    int result = admit_locked(pool);
    pthread_mutex_unlock(&pool->lock);
    return result;
}

static void tell_open(struct pln_pool *pool, const char *reason) {
    pln_logf(pool->host, PLN_LOG_WARN, "%s; commands fail at once until it answers", reason);
}

static void tell_closed(struct pln_pool *pool) {
    /* who was warned is told of the end */
    pln_logf(pool->host, PLN_LOG_WARN, "l2: redis at %s answers again", pln_pool_label(pool));
}

void pln_pool_praise(struct pln_pool *pool) {
    /* relaxed: whether there is anything to do */
    if (atomic_load_explicit(&pool->n_failures, memory_order_relaxed) == 0 &&
        !pln_pool_is_open(pool)) {
        return;
    }
    pthread_mutex_lock(&pool->lock);
    bool closes = note_success_locked(pool);
    pthread_mutex_unlock(&pool->lock);
    if (closes) {
        tell_closed(pool);
    }
}

void pln_pool_blame(struct pln_pool *pool) {
    pln_count(pool->counts, PLN_COUNT_L2_TIMEOUTS, 1);
    pthread_mutex_lock(&pool->lock);
    bool opens = note_failure_locked(pool, false, false);
    pthread_mutex_unlock(&pool->lock);
    if (opens) {
        tell_open(pool, pln_error_text());
    }
}

/* ---- which server ---- */

void pln_pool_require(struct pln_pool *pool, const char *run_id) {
    pthread_mutex_lock(&pool->lock);
    snprintf(pool->required_run_id, sizeof pool->required_run_id, "%s", run_id);
    pthread_cond_broadcast(&pool->agreed);
    pthread_mutex_unlock(&pool->lock);
}

static bool is_right_locked(struct pln_pool *pool, const struct pln_conn *conn) {
    return pool->required_run_id[0] == 0 || strcmp(pool->required_run_id, conn->run_id) == 0;
}

/* A new connection found another server than the link did: the link goes down before any command
 * is sent, since its messages say nothing about this server's values. */
static int agree(struct pln_pool *pool, const struct pln_conn *conn, bool is_link,
                 pln_ns deadline) {
    struct timespec until = pln_timespec(deadline);
    int waited = 0;
    pthread_mutex_lock(&pool->lock);
    while (waited == 0 && !is_link && !is_right_locked(pool, conn)) {
        pool->on_other_server(pool->arg);
        waited = pthread_cond_clockwait(&pool->agreed, &pool->lock, CLOCK_MONOTONIC, &until);
    }
    bool has_agreed = is_right_locked(pool, conn);
    pthread_mutex_unlock(&pool->lock);
    if (!has_agreed) {
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

static int dial(struct pln_pool *pool, struct pln_slot *slot, bool is_link, pln_ns deadline) {
    pln_ns until = pln_clock_precise() + pool->connect_timeout;
    until = until < deadline ? until : deadline;
    int result = pln_conn_open(&slot->conn, pln_pool_endpoint(pool), pool->tls, until);
    if (result == PLN_OK) {
        slot->conn.is_to_replica = pool->is_replica;
        result = pln_conn_login(&slot->conn, pool->login, pool->client_name, until);
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

/* How a caller's turn ended. */
enum outcome {
    ANSWERED,
    FAILED,
    REFUSED, /* not even connected */
};

/* Ends the taker's turn, and says what changed for all. */
static void end_turn(struct pln_pool *pool, struct pln_slot *slot, enum outcome outcome) {
    char reason[sizeof pool->reason];
    bool opens = false, closes = false;
    pthread_mutex_lock(&pool->lock);
    if (outcome == ANSWERED) {
        closes = note_success_locked(pool);
    } else {
        opens = note_failure_locked(pool, slot->is_probe, outcome == REFUSED);
    }
    if (slot->is_probe) {
        slot->is_probe = pool->is_probing = false;
    }
    if (opens) {
        memcpy(reason, pool->reason, sizeof reason);
    }
    pthread_mutex_unlock(&pool->lock);
    if (outcome != ANSWERED && pool->on_trouble != NULL) {
        pool->on_trouble(pool->arg);
    }
    if (opens) {
        tell_open(pool, reason);
    } else if (closes) {
        tell_closed(pool);
    }
}

/* Where the breaker is open, who is admitted is the one to try. */
static int claim(struct pln_pool *pool, struct pln_slot *slot, bool *is_wrong) {
    pthread_mutex_lock(&pool->lock);
    int result = admit_locked(pool);
    if (result == PLN_OK) {
        slot->is_probe = pool->is_open;
        pool->is_probing = pool->is_probing || pool->is_open;
        *is_wrong = !is_right_locked(pool, &slot->conn) ||
                    (pln_conn_is_open(&slot->conn) && slot->conn.label != pln_pool_label(pool));
    }
    pthread_mutex_unlock(&pool->lock);
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
    bool is_wrong;
    if (deadline <= pln_clock_precise()) {
        return pln_fail(PLN_ETIMEOUT, "l2: the deadline passed before a command was sent");
    }
    int result = claim(pool, slot, &is_wrong);
    if (result != PLN_OK) {
        return result;
    }
    if (is_wrong || !is_usable(slot)) {
        hang_up(slot);
        result = dial(pool, slot, is_link, deadline);
    }
    if (result != PLN_OK) {
        end_turn(pool, slot, result == PLN_EL2DOWN ? REFUSED : FAILED);
        return result;
    }
    *taken = slot;
    return PLN_OK;
}

bool pln_pool_needs_time(const struct pln_pool *pool, const struct pln_slot *slot) {
    return pln_clock_precise() - slot->clock_at > pool->clock_period;
}

/* After an error of these the connection is of no more use. */
static bool is_last_word(const struct pln_reply *reply) {
    static const char *const last_words[] = {"NOAUTH", "LOADING", "MASTERDOWN"};
    bool is_last = false;
    for (size_t i = 0; i < PLN_ARRAY_LEN(last_words); i++) {
        is_last = is_last || pln_reply_is(reply, last_words[i]);
    }
    return is_last;
}

void pln_pool_note_reply(struct pln_pool *pool, struct pln_slot *slot, bool is_time,
                         const struct pln_reply *reply) {
    if (is_time && pln_conn_take_time(&slot->conn, reply)) {
        note_clock(pool, slot);
    }
    if (reply->kind == PLN_REPLY_ERROR) {
        bool is_demoted = strstr(pln_reply_text(reply), "READONLY") != NULL;
        slot->is_done_for = slot->is_done_for || is_demoted || is_last_word(reply);
        if (is_demoted) {
            pool->on_other_server(pool->arg); /* the link has to look where the master is, too */
            if (pool->on_trouble != NULL) {
                pool->on_trouble(pool->arg);
            }
        }
    }
}

int pln_pool_refused(struct pln_pool *pool, const char *command, const struct pln_reply *reply) {
    pln_count(pool->counts, PLN_COUNT_L2_ERRORS, 1);
    if (reply->kind != PLN_REPLY_ERROR) {
        return pln_fail(PLN_EL2, "l2: redis at %s: %s: an answer of an unexpected kind (%d)",
                        pln_pool_label(pool), command, reply->kind);
    }
    return pln_fail(PLN_EL2, "l2: redis at %s: %s: %s", pln_pool_label(pool), command,
                    pln_reply_text(reply));
}

void pln_pool_give(struct pln_pool *pool, struct pln_slot *slot, int result) {
    bool has_failed = result < 0 && result != PLN_EL2;
    /* an answer nobody asked for would be taken for that of the next command */
    if (has_failed || slot->is_done_for || pln_conn_is_ahead(&slot->conn)) {
        hang_up(slot);
    }
    if (has_failed) {
        pln_count(pool->counts,
                  result == PLN_ETIMEOUT ? PLN_COUNT_L2_TIMEOUTS : PLN_COUNT_L2_ERRORS, 1);
    }
    end_turn(pool, slot, has_failed ? FAILED : ANSWERED);
}

/* ---- life, and what others ask ---- */

bool pln_pool_has(struct pln_pool *pool, uint32_t incarnation) {
    for (size_t i = 0; i < pool->n_slots; i++) {
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
    for (size_t i = 0; i < pool->n_slots; i++) {
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
    pool->slots = calloc(pool->n_slots, sizeof *pool->slots);
    if (pool->slots == NULL) {
        return pln_fail(PLN_ENOMEM, "l2: no memory for %zu connections", pool->n_slots);
    }
    for (size_t i = 0; i < pool->n_slots; i++) {
        pln_line_init(&pool->slots[i].line);
        pool->slots[i].conn.stream.fd = -1;
    }
    pthread_mutex_init(&pool->lock, NULL);
    pthread_cond_init(&pool->agreed, NULL);
    return PLN_OK;
}

void pln_pool_fini(struct pln_pool *pool) {
    if (pool->slots == NULL) {
        return;
    }
    for (size_t i = 0; i < pool->n_slots; i++) {
        pln_conn_close(&pool->slots[i].conn);
        pln_line_fini(&pool->slots[i].line);
    }
    pthread_cond_destroy(&pool->agreed);
    pthread_mutex_destroy(&pool->lock);
    free(pool->slots);
    pool->slots = NULL;
}
