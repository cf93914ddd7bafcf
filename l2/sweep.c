/* SPDX-License-Identifier: MIT
 *
 * sweep.c - gives back the memory of values that masks have voided (drops.h), and takes the masks
 * off the list.
 *
 * One thread of a client, started when there is something to do. It goes through a server's keys
 * with SCAN, over the connections of what may take long, so many keys a second; what fits a mask is
 * removed where it is older, in one step with the look at its time, so that what was written since
 * stays. A mask goes off the list only if nothing can have been missed:
 *
 *   - the scan began after the mask was listed and came to its end, all of it on one server: a
 *     cursor means nothing to another, so the server's run id is looked at with each step
 *   - no value from before the mask comes later: what is set has the clock of then, what is loaded
 *     is refused if its lease is older (script.c). In a cluster these scripts do not see the tags'
 *     hash, so the scan begins when every lease from before has ended
 *   - in a cluster, no slot has moved meanwhile, as the servers tell themselves
 *   - the list has the same mask with the same time, still
 *
 * Whoever drops a mask sweeps. N:sweep, which ends by itself, keeps others from doing the same at
 * the same time; should they, nothing but the work is doubled. What is left of one that is no more
 * is swept by the next who sees that it is old (pln_sweep_look).
 */
#include "internal.h"
#include "sweep_scripts.h"
#include "thread.h"
#include "topology.h"

#include <inttypes.h>
#include <stdio.h>

enum {
    STEP_KEYS = 500, /* of one SCAN, about */
    HOLD_MS = 30000, /* of N:sweep, from each step on */
    PAUSE_MS = 1000, /* before another try */
    OWNER = 128,
    MAX_PATTERN = 20000, /* of MATCH: a namespace and a mask, with backslashes */
};

/* A pass over the keys of a server. */
struct pass {
    struct pln_node *tags; /* whose list it is */
    struct pln_node *node; /* whose keys */
    struct pln_bytes list;
    char *match;
    char run_id[PLN_RUN_ID + 1]; /* that the first step was of; then of each */
    uint32_t incarnation;        /* likewise, where the server does not tell its run id */
    bool has_begun, is_other;    /* whether there was a first step, and one of another */
    uint64_t cursor;
    size_t n_removed;
};

/* ---- asking ---- */

struct ask {
    struct pln_batch batch;
    struct pass *pass; /* NULL: any server may answer */
};

static void write_ask(void *arg, const struct pln_slot *slot, struct pln_batch *batch) {
    struct ask *ask = arg;
    struct pass *pass = ask->pass;
    /* relaxed: written by whoever leads the connection, and that is this thread */
    uint32_t incarnation = atomic_load_explicit(&slot->incarnation, memory_order_relaxed);
    if (pass != NULL && !pass->has_begun) {
        pass->has_begun = true;
        memcpy(pass->run_id, slot->conn.run_id, sizeof pass->run_id);
        pass->incarnation = incarnation;
    } else if (pass != NULL) {
        pass->is_other = pass->is_other || strcmp(pass->run_id, slot->conn.run_id) != 0 ||
                         (pass->run_id[0] == 0 && pass->incarnation != incarnation);
    }
    pln_batch_add(batch, &ask->batch);
}

/* Sends what is in the batch, which is emptied. */
static int send_ask(struct pln_node *node, struct ask *ask, unsigned kinds,
                    struct pln_reply **reply) {
    struct pln_request request = {
        .write = write_ask, .arg = ask, .kinds = kinds, .n_bytes = ask->batch.len};
    pln_ns deadline = pln_clock_precise() + node->redis->timeout;
    int result = ask->batch.has_failed ? pln_fail(PLN_ENOMEM, "l2: no memory for a sweep")
                                       : pln_line_ask(&node->bulk, 0, &request, deadline, reply);
    pln_batch_fini(&ask->batch);
    if (result == PLN_OK && (*reply)->kind == PLN_REPLY_ERROR) {
        result = pln_pool_refused(&node->bulk, "sweep", *reply);
        pln_reply_free(*reply);
    }
    return result;
}

static int read_list(struct pln_node *tags, struct pln_reply **list) {
    struct ask ask = {.pass = NULL};
    pln_batch_init(&ask.batch);
    pln_batch_texts(&ask.batch, "HGET", tags->redis->names.tags, "~", NULL);
    return send_ask(tags, &ask, PLN_KIND(PLN_REPLY_STRING) | PLN_KIND(PLN_REPLY_NIL), list);
}

/* Of one client alone, and an operator can read whose it is. */
static void write_owner(const struct pln_redis *redis, char owner[OWNER]) {
    snprintf(owner, OWNER, "%016" PRIx64 " %s", redis->instance, redis->client_name);
}

/* Whether the right is this client's own: left by a pass whose end the server was not told. */
static bool is_own(struct pln_node *tags) {
    struct ask ask = {.pass = NULL};
    char owner[OWNER];
    write_owner(tags->redis, owner);
    struct pln_reply *reply;
    pln_batch_init(&ask.batch);
    pln_batch_texts(&ask.batch, "GET", tags->redis->names.sweep, NULL);
    if (send_ask(tags, &ask, 0, &reply) != PLN_OK) {
        return false;
    }
    bool is_own = reply->kind == PLN_REPLY_STRING && pln_bytes_equal(reply->bytes, pln_key(owner));
    pln_reply_free(reply);
    return is_own;
}

/* Takes the right to sweep, or prolongs it. False where another has it, or nobody answers. */
static bool hold(struct pln_node *tags, bool is_first) {
    struct ask ask = {.pass = NULL};
    struct pln_reply *reply;
    char owner[OWNER], length[16];
    write_owner(tags->redis, owner);
    snprintf(length, sizeof length, "%d", HOLD_MS);
    pln_batch_init(&ask.batch);
    pln_batch_texts(&ask.batch, "SET", tags->redis->names.sweep, owner, "PX", length,
                    is_first ? "NX" : "XX", NULL);
    if (send_ask(tags, &ask, 0, &reply) != PLN_OK) {
        return false;
    }
    bool is_taken = reply->kind == PLN_REPLY_STATUS;
    pln_reply_free(reply);
    return is_taken || !is_first || is_own(tags);
}

static void let_go(struct pln_node *tags) {
    struct ask ask = {.pass = NULL};
    struct pln_reply *reply;
    pln_batch_init(&ask.batch);
    pln_batch_texts(&ask.batch, "DEL", tags->redis->names.sweep, NULL);
    if (send_ask(tags, &ask, 0, &reply) == PLN_OK) {
        pln_reply_free(reply);
    }
}

static int delist(struct pln_node *tags, struct pln_bytes swept) {
    struct ask ask = {.pass = NULL};
    struct pln_reply *reply;
    pln_batch_init(&ask.batch);
    pln_batch_command(&ask.batch, 5);
    pln_batch_text(&ask.batch, "EVAL");
    pln_batch_text(&ask.batch, delist_script);
    pln_batch_text(&ask.batch, "1");
    pln_batch_text(&ask.batch, tags->redis->names.tags);
    pln_batch_bytes(&ask.batch, swept);
    int result = send_ask(tags, &ask, 0, &reply);
    if (result == PLN_OK) {
        pln_reply_free(reply);
    }
    return result;
}

/* ---- one step ---- */

/* The latest time of a mask that the key fits; 0: it fits none. */
static uint64_t time_of(struct pln_bytes list, struct pln_bytes key) {
    struct pln_drop drop;
    uint64_t latest = 0;
    while (pln_drops_next(&list, &drop)) {
        if (drop.clock > latest && pln_mask_fits(&drop.mask, key)) {
            latest = drop.clock;
        }
    }
    return latest;
}

/* Removes some of the names that a scan has brought. In a cluster a script is of one slot, so each
 * goes by itself. */
static int remove_names(struct pass *pass, const struct pln_bytes *names, const uint64_t *times,
                        size_t n) {
    struct ask ask = {.pass = pass};
    struct pln_reply *reply;
    pln_batch_init(&ask.batch);
    pln_batch_command(&ask.batch, 3 + 2 * n);
    pln_batch_text(&ask.batch, "EVAL");
    pln_batch_text(&ask.batch, remove_script);
    pln_batch_number(&ask.batch, (int64_t) n);
    for (size_t i = 0; i < n; i++) {
        pln_batch_bytes(&ask.batch, names[i]);
    }
    for (size_t i = 0; i < n; i++) {
        pln_batch_number(&ask.batch, (int64_t) times[i]);
    }
    int result = send_ask(pass->node, &ask, PLN_KIND(PLN_REPLY_INTEGER), &reply);
    if (result == PLN_OK) {
        pass->n_removed += (size_t) reply->integer;
        pln_reply_free(reply);
    }
    return result;
}

static int remove_found(struct pass *pass, const struct pln_reply *found) {
    struct pln_bytes names[STEP_KEYS];
    uint64_t times[STEP_KEYS];
    const struct pln_redis *redis = pass->node->redis;
    size_t most = redis->slots != NULL ? 1 : STEP_KEYS, n = 0;
    int result = PLN_OK;
    for (size_t i = 0; result == PLN_OK && i < found->n_elements; i++) {
        struct pln_bytes key;
        names[n] = found->elements[i].bytes;
        if (found->elements[i].kind == PLN_REPLY_STRING &&
            pln_names_read(&redis->names, names[n], &key)) {
            times[n] = time_of(pass->list, key);
            n += times[n] > 0;
        }
        if (n == most) {
            result = remove_names(pass, names, times, n);
            n = 0;
        }
    }
    return result == PLN_OK && n > 0 ? remove_names(pass, names, times, n) : result;
}

/* Goes on by some keys; *is_done where those were the last. */
static int step(struct pass *pass, bool *is_done) {
    struct ask ask = {.pass = pass};
    struct pln_reply *reply;
    char cursor[24], count[16];
    snprintf(cursor, sizeof cursor, "%llu", (unsigned long long) pass->cursor);
    snprintf(count, sizeof count, "%d", STEP_KEYS);
    pln_batch_init(&ask.batch);
    pln_batch_texts(&ask.batch, "SCAN", cursor, "MATCH", pass->match, "COUNT", count, NULL);
    int result = send_ask(pass->node, &ask, PLN_KIND(PLN_REPLY_ARRAY), &reply);
    if (result != PLN_OK) {
        return result;
    }
    if (reply->n_elements != 2 || reply->elements[1].kind != PLN_REPLY_ARRAY) {
        result = pln_pool_refused(&pass->node->bulk, "SCAN", reply);
    } else {
        pass->cursor = pln_reply_number(&reply->elements[0]);
        *is_done = pass->cursor == 0;
        result = pass->is_other ? PLN_EL2DOWN : remove_found(pass, &reply->elements[1]);
    }
    pln_reply_free(reply);
    return result;
}

/* ---- a pass ---- */

static bool is_stopping(struct pln_sweeper *sweeper) {
    pthread_mutex_lock(&sweeper->lock);
    bool is_stopping = sweeper->is_stopping;
    pthread_mutex_unlock(&sweeper->lock);
    return is_stopping;
}

/* Sleeps; false where a stop ended it. */
static bool rest(struct pln_sweeper *sweeper, pln_ms ms) {
    struct timespec until = pln_timespec(pln_clock_precise() + ms * 1000000);
    int waited = 0;
    pthread_mutex_lock(&sweeper->lock);
    while (!sweeper->is_stopping && waited == 0) {
        waited = pthread_cond_clockwait(&sweeper->wake, &sweeper->lock, CLOCK_MONOTONIC, &until);
    }
    bool goes_on = !sweeper->is_stopping;
    pthread_mutex_unlock(&sweeper->lock);
    return goes_on;
}

/* Keeps to the rate, whatever it is by now. */
static bool keep_pace(struct pln_sweeper *sweeper) {
    unsigned rate;
    bool goes_on = true;
    /* relaxed: a number by itself */
    while (goes_on && (rate = atomic_load_explicit(&sweeper->rate, memory_order_relaxed)) == 0) {
        goes_on = rest(sweeper, 20);
    }
    return goes_on && rest(sweeper, (pln_ms) STEP_KEYS * 1000 / rate);
}

static bool sweep_node(struct pass *pass) {
    struct pln_redis *redis = pass->node->redis;
    bool is_done = false;
    int result = PLN_OK;
    pass->cursor = 0;
    pass->has_begun = pass->is_other = false;
    while (!is_done && result == PLN_OK && keep_pace(&redis->sweeper)) {
        result = hold(pass->tags, false) ? step(pass, &is_done) : PLN_EL2DOWN;
    }
    return is_done && result == PLN_OK && !pass->is_other;
}

/* What a primary says of its slots, so that two can be compared; "" where some are on their way, or
 * it does not say. Freed by the caller; NULL where memory is out. */
static char *slots_of(struct pln_node *node) {
    struct ask ask = {.pass = NULL};
    struct pln_reply *reply;
    pln_batch_init(&ask.batch);
    pln_batch_texts(&ask.batch, "CLUSTER", "NODES", NULL);
    if (send_ask(node, &ask, PLN_KIND(PLN_REPLY_STRING), &reply) != PLN_OK) {
        return strdup("");
    }
    /* ID ADDRESS FLAGS PRIMARY PING PONG EPOCH STATE SLOT...; the times are no part of it */
    char *own = strstr(pln_reply_text(reply), "myself"), *said = NULL;
    char *end = own == NULL ? NULL : strchr(own, '\n');
    int ping = 0, pong = 0;
    if (end != NULL) {
        *end = 0;
        sscanf(own, "%*s %*s %*s %n%*s %n", &ping, &pong);
    }
    bool is_still = end != NULL && pong > 0 && strchr(own + pong, '[') == NULL;
    said = strdup(is_still ? own + pong : "");
    pln_reply_free(reply);
    return said;
}

/* One server, or every primary of a cluster; true where nothing can have been missed. */
static bool sweep_all(struct pass *pass) {
    struct pln_redis *redis = pass->tags->redis;
    if (redis->slots == NULL) {
        pass->node = pass->tags;
        return sweep_node(pass);
    }
    char *before[PLN_MOST_NODES];
    size_t n = pln_nodes_count(redis);
    bool is_whole = true;
    for (size_t i = 0; i < n; i++) {
        before[i] = pln_node_is_wanted(redis->nodes[i]) ? slots_of(redis->nodes[i]) : NULL;
    }
    for (size_t i = 0; is_whole && i < n; i++) {
        pass->node = redis->nodes[i];
        is_whole = before[i] == NULL || sweep_node(pass);
    }
    is_whole = is_whole && n == pln_nodes_count(redis);
    for (size_t i = 0; i < n; i++) {
        bool was_wanted = before[i] != NULL;
        char *after = is_whole && was_wanted ? slots_of(redis->nodes[i]) : NULL;
        is_whole = is_whole && was_wanted == pln_node_is_wanted(redis->nodes[i]) &&
                   (!was_wanted || (after != NULL && *after != 0 && strcmp(before[i], after) == 0));
        free(after);
        free(before[i]);
    }
    return is_whole;
}

/* ---- what SCAN is to look for ---- */

static char *escape(char *to, struct pln_bytes text, bool has_stars) {
    for (size_t i = 0; i < text.len; i++) {
        char c = ((const char *) text.data)[i];
        if (strchr("?[]\\^", c) != NULL || (c == '*' && !has_stars)) {
            *to++ = '\\';
        }
        *to++ = c;
    }
    return to;
}

/* Where there is one mask the server need not tell of other keys. A zero ends the text that SCAN
 * is given, and what it then brings is looked at again. */
static void write_match(const struct pass *pass, char match[MAX_PATTERN]) {
    struct pln_bytes list = pass->list;
    const struct pln_names *names = &pass->tags->redis->names;
    struct pln_drop drop;
    bool is_one = pln_drops_next(&list, &drop) && list.len == 0 && !names->is_cluster &&
                  memchr(drop.mask.text.data, 0, drop.mask.text.len) == NULL;
    char *to = match;
    struct pln_bytes value = pln_key(names->value);
    if (names->is_cluster) { /* N:v: and N:u: */
        to = escape(to, pln_bytes_of(value.data, value.len - 2), false);
        to = stpcpy(to, "[uv]:");
    } else {
        to = escape(to, value, false);
    }
    if (is_one) {
        to = escape(to, drop.mask.text, drop.mask.kind == PLN_MASK_PATTERN);
    }
    strcpy(to, !is_one || drop.mask.kind == PLN_MASK_PREFIX ? "*" : "");
}

/* ---- the sweeper ---- */

/* The masks that are old enough; they come first in the list, which is in the order of time.
 * Returns whether there are others. */
static bool take_ripe(struct pln_node *tags, struct pln_bytes list, struct pln_bytes *ripe) {
    struct pln_sweeper *sweeper = &tags->redis->sweeper;
    /* relaxed: a number by itself */
    pln_ms wait = atomic_load_explicit(&sweeper->wait, memory_order_relaxed);
    pln_ms now = pln_pool_server_now(&tags->pool);
    struct pln_drop drop;
    *ripe = pln_bytes_of(list.data, 0);
    while (pln_drops_next(&list, &drop)) {
        if (wait > 0 && drop.at + wait > now) {
            return true;
        }
        ripe->len += drop.entry.len;
    }
    return false;
}

/* Sweeps what is listed on a server; false where something is left to be done. */
static bool sweep_list(struct pln_node *tags) {
    struct pln_reply *list;
    char match[MAX_PATTERN];
    struct pass pass = {.tags = tags, .match = match};
    if (read_list(tags, &list) != PLN_OK) {
        return false;
    }
    bool is_left = take_ripe(tags, list->bytes, &pass.list);
    if (pass.list.len > 0 && !hold(tags, true)) {
        is_left = true;
    } else if (pass.list.len > 0) {
        write_match(&pass, match);
        bool is_whole = sweep_all(&pass);
        is_left = !is_whole || delist(tags, pass.list) != PLN_OK || is_left;
        pln_count(tags->redis->counts, PLN_COUNT_L2_SWEPT, pass.n_removed);
        let_go(tags);
    }
    pln_reply_free(list);
    return !is_left;
}

static void *run(void *arg) {
    struct pln_redis *redis = arg;
    struct pln_sweeper *sweeper = &redis->sweeper;
    bool is_left = false;
    while (!is_stopping(sweeper)) {
        pthread_mutex_lock(&sweeper->lock);
        while (!sweeper->is_asked && !is_left && !sweeper->is_stopping) {
            pthread_cond_wait(&sweeper->wake, &sweeper->lock);
        }
        sweeper->is_asked = false;
        pthread_mutex_unlock(&sweeper->lock);
        is_left = false;
        for (size_t i = 0; i < (redis->slots != NULL ? 1 : pln_nodes_count(redis)); i++) {
            is_left = !sweep_list(pln_node_of_tags(redis->nodes[i])) || is_left;
        }
        if (is_left) {
            rest(sweeper, PAUSE_MS);
        }
    }
    return NULL;
}

void pln_sweep_ask(struct pln_redis *redis) {
    struct pln_sweeper *sweeper = &redis->sweeper;
    pthread_mutex_lock(&sweeper->lock);
    sweeper->is_asked = true;
    if (!sweeper->is_started && !sweeper->is_stopping) {
        sweeper->is_started = pln_thread_start(&sweeper->thread, run, redis, "the sweeper") ==
                              PLN_OK; /* else the list stays, for the next who asks */
    }
    pthread_cond_signal(&sweeper->wake);
    pthread_mutex_unlock(&sweeper->lock);
}

void pln_sweep_look(struct pln_node *node, struct pln_bytes list) {
    struct pln_drop drop;
    /* relaxed: a number by itself */
    pln_ms orphaned = atomic_load_explicit(&node->redis->sweeper.orphaned, memory_order_relaxed);
    if (pln_drops_next(&list, &drop) && drop.at + orphaned <= pln_pool_server_now(&node->pool)) {
        pln_sweep_ask(node->redis);
    }
}

void pln_sweep_init(struct pln_redis *redis) {
    struct pln_sweeper *sweeper = &redis->sweeper;
    pthread_mutex_init(&sweeper->lock, NULL);
    pthread_cond_init(&sweeper->wake, NULL);
    atomic_init(&sweeper->rate, PLN_SWEEP_RATE);
    atomic_init(&sweeper->orphaned, PLN_SWEEP_ORPHANED_MS);
}

void pln_sweep_stop(struct pln_redis *redis) {
    struct pln_sweeper *sweeper = &redis->sweeper;
    pthread_mutex_lock(&sweeper->lock);
    sweeper->is_stopping = true;
    pthread_cond_signal(&sweeper->wake);
    pthread_mutex_unlock(&sweeper->lock);
    if (sweeper->is_started) {
        pthread_join(sweeper->thread, NULL);
        sweeper->is_started = false;
    }
}

void pln_sweep_fini(struct pln_redis *redis) {
    pthread_cond_destroy(&redis->sweeper.wake);
    pthread_mutex_destroy(&redis->sweeper.lock);
}
