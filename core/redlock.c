/* SPDX-License-Identifier: MIT
 *
 * redlock.c - the steps of a lock: grant, prolong, give back; on the cache's Redis, or on several
 * servers that know nothing of each other, where most of them decide (Redlock). One server is a
 * majority of one, so the steps are the same.
 *
 * A lock lies on a server as a random token with a ttl. Only who knows the token ends or prolongs
 * it. It is granted where most servers took the token while, by our clock, it was sure to be alive
 * on the first of them: the ttl, less the time that asking took, less what clocks may differ. Else
 * it is taken back everywhere, also from those that did not answer, for they may have heard.
 *
 * The servers are asked one after the other, each for a small part of the ttl at most. A thread for
 * each would save a few round trips, and cost more than these.
 *
 * The fence. Each server counts grants of a name: the next number is the larger of the last one
 * plus one, and its clock in microseconds, so that a counter that was lost does not begin again
 * below itself. The fence of a grant is the largest number of its majority. That alone would not
 * grow: A says 6 and B says 9, so the fence is 9; then A says 7 and C says 4. So the counters of a
 * majority are raised to the fence before the grant is good, on each server only while the token
 * lies there. The next majority shares a server with this one; it took the token there after ours
 * had gone, thus after the raise; its number there, and so its fence, is larger than ours. No clock
 * takes part in this as long as the counter lives. It is kept for a day after the last grant; then
 * the server's time is larger, unless it was set back by more than that day.
 */
#include "named.h"

#include <stdio.h>
#include <unistd.h>

#define FENCE_LIFE ((pln_ms) 24 * 3600 * 1000)

enum {
    MOST_NODES = 15,
    NODE_TIMEOUT = 50,   /* ms; a server near by answers within one or two */
    NODE_TTL_SHARE = 10, /* asking one server takes a tenth of the ttl at most */
    NODE_POOL = 2,       /* connections to each */
    DRIFT_SHARE = 100,   /* clocks run alike to a hundredth ... */
    DRIFT = 2,           /* ... and 2 ms, what Redis takes to notice that a key has ended */
};

/* All take the lock and the counter as keys, the token as first argument, and answer two numbers:
 * whether it was done, and one that says more. */
static const struct pln_remote_script
    grant_script = {"lock",
                    "local left = redis.call('PTTL', KEYS[1])\n"
                    "if left ~= -2 and redis.call('GET', KEYS[1]) ~= ARGV[1] then\n"
                    "  return {0, left}\n"
                    "end\n"
                    "redis.call('SET', KEYS[1], ARGV[1], 'PX', ARGV[2])\n"
                    "local t = redis.call('TIME')\n"
                    "local last = tonumber(redis.call('GET', KEYS[2]) or 0)\n"
                    "local fence = math.max(t[1] * 1000000 + t[2], last + 1)\n"
                    "redis.call('SET', KEYS[2], string.format('%.0f', fence), 'PX', ARGV[3])\n"
                    "return {1, fence}\n"},
    raise_script = {"lock",
                    "if redis.call('GET', KEYS[1]) ~= ARGV[1] then return {0, 0} end\n"
                    "if tonumber(redis.call('GET', KEYS[2]) or 0) < tonumber(ARGV[2]) then\n"
                    "  redis.call('SET', KEYS[2], ARGV[2], 'PX', ARGV[3])\n"
                    "end\n"
                    "return {1, 0}\n"},
    prolong_script = {"lock_extend",
                      "if redis.call('GET', KEYS[1]) ~= ARGV[1] then return {0, 0} end\n"
                      "redis.call('PEXPIRE', KEYS[1], ARGV[2])\n"
                      "redis.call('PEXPIRE', KEYS[2], ARGV[3])\n"
                      "return {1, 0}\n"},
    release_script = {"unlock", "if redis.call('GET', KEYS[1]) ~= ARGV[1] then return {0, 0} end\n"
                                "redis.call('DEL', KEYS[1])\n"
                                "return {1, 0}\n"};

/* ---- the servers ---- */

struct pln_lock_nodes {
    atomic_uint refs; /* the program's, and each lock's */
    struct pln_host host;
    struct pln_counts *counts;
    pln_ms timeout;
    pid_t owner; /* a forked child may not use the connections */
    size_t n;
    struct pln_l2 *clients[MOST_NODES];
};

/* One that is away is the rule here, and told by the lock itself. */
static void log_nothing(void *arg, int level, const char *line) {
    (void) arg;
    (void) level;
    (void) line;
}

static int open_node(struct pln_lock_nodes *nodes, const char *url) {
    struct pln_l2_options options = {.url = url,
                                     .ns = "",
                                     .connect_timeout_ms = nodes->timeout,
                                     .timeout_ms = nodes->timeout,
                                     .pool = 1, /* for values, of which there are none */
                                     .bulk_pool = NODE_POOL,
                                     .counts = nodes->counts,
                                     .host = &nodes->host};
    if (url == NULL) {
        return pln_fail(PLN_EINVAL, "no URL");
    }
    int status = pln_l2_redis_new(&options, &nodes->clients[nodes->n]);
    nodes->n += status == PLN_OK;
    return status;
}

int pln_lock_nodes_new(const char *const *urls, size_t n, pln_ms timeout_ms,
                       struct pln_lock_nodes **nodes) {
    if (n < 1 || n > MOST_NODES) {
        return pln_fail(PLN_EINVAL, "nodes: %zu servers, must be 1 to %d", n, MOST_NODES);
    }
    struct pln_lock_nodes *created = calloc(1, sizeof *created);
    if (created == NULL) {
        return pln_fail(PLN_ENOMEM, "nodes: no memory");
    }
    atomic_init(&created->refs, 1);
    created->host = (struct pln_host){
        .clock = pln_clock_coarse, .log = log_nothing, .name = "perilune-locks"};
    created->timeout = timeout_ms > 0 ? timeout_ms : NODE_TIMEOUT;
    created->owner = getpid();
    int status = pln_counts_new(&created->counts);
    for (size_t i = 0; status == PLN_OK && i < n; i++) {
        status = open_node(created, urls[i]);
        if (status < 0) {
            char text[PLN_ERROR_TEXT];
            snprintf(text, sizeof text, "%s", pln_error_text());
            pln_fail(status, "nodes: server %zu of %zu: %s", i + 1, n, text);
        }
    }
    if (status < 0) {
        pln_lock_nodes_free(created);
        return status;
    }
    *nodes = created;
    return PLN_OK;
}

void pln_lock_nodes_keep(struct pln_lock_nodes *nodes) {
    /* relaxed: who keeps them has them, so they stay */
    atomic_fetch_add_explicit(&nodes->refs, 1, memory_order_relaxed);
}

void pln_lock_nodes_free(struct pln_lock_nodes *nodes) {
    /* K2 release and K2 acquire: what the last lock did with them comes before their end */
    if (nodes == NULL || atomic_fetch_sub_explicit(&nodes->refs, 1, memory_order_acq_rel) != 1) {
        return;
    }
    for (size_t i = 0; i < nodes->n && nodes->owner == getpid(); i++) {
        pln_l2_close(nodes->clients[i]);
    }
    pln_counts_free(nodes->counts);
    free(nodes);
}

/* ---- asking all ---- */

enum answer { UNASKED, YES, NO, FAILED };

struct round {
    size_t n_nodes, quorum;
    size_t n_yes, n_no;
    enum answer answers[MOST_NODES];
    int64_t numbers[MOST_NODES];
    int failure; /* the last, and its text */
    char text[PLN_ERROR_TEXT];
};

pln_ns pln_lock_clock(void) {
    struct timespec time;
    clock_gettime(CLOCK_BOOTTIME, &time);
    return (pln_ns) time.tv_sec * 1000000000 + time.tv_nsec;
}

static void begin(const struct pln_lock *lock, struct round *round) {
    *round = (struct round){.n_nodes = lock->nodes == NULL ? 1 : lock->nodes->n};
    round->quorum = round->n_nodes / 2 + 1;
}

static struct pln_l2 *client_of(const struct pln_lock *lock, size_t i) {
    if (lock->nodes == NULL) {
        return pln_cache_l2(lock->cache);
    }
    return lock->nodes->owner == getpid() ? lock->nodes->clients[i] : NULL;
}

static pln_ms node_timeout(const struct pln_lock *lock) {
    pln_ms share = pln_lock_ttl(lock) / NODE_TTL_SHARE;
    if (lock->nodes == NULL) {
        return lock->cache->timeout_ms;
    }
    return share < 1 ? 1 : share < lock->nodes->timeout ? share : lock->nodes->timeout;
}

/* Runs a script on one server and notes what it says. */
static void ask(const struct pln_lock *lock, size_t i, const struct pln_remote_script *script,
                const struct pln_bytes *more, size_t n_more, struct round *round) {
    struct pln_bytes keys[] = {pln_named_bytes(&lock->name), pln_named_bytes(&lock->fence_name)};
    struct pln_bytes args[3] = {pln_key(lock->token)};
    struct pln_l2 *client = client_of(lock, i);
    struct pln_reply *reply;
    int64_t said[2] = {0, 0};
    int status;
    for (size_t k = 0; k < n_more; k++) {
        args[1 + k] = more[k];
    }
    if (client == NULL) {
        status = pln_fail(PLN_EL2DOWN, "%s: this %s", script->name,
                          lock->nodes == NULL ? "cache has no Redis"
                                              : "process was forked: open nodes of its own");
    } else {
        status = pln_remote_run_on(client, script, keys, 2, args, 1 + n_more,
                                   pln_deadline(node_timeout(lock)), &reply);
    }
    if (status == PLN_OK) {
        status = pln_named_integers(reply, script->name, said, 2);
        pln_reply_free(reply);
    }
    if (status < 0) {
        round->answers[i] = FAILED;
        round->failure = status;
        snprintf(round->text, sizeof round->text, "%s", pln_error_text());
        return;
    }
    round->answers[i] = said[0] == 1 ? YES : NO;
    round->numbers[i] = said[1];
    round->n_yes += said[0] == 1;
    round->n_no += said[0] != 1;
}

static void ask_all(const struct pln_lock *lock, const struct pln_remote_script *script,
                    const struct pln_bytes *more, size_t n_more, struct round *round) {
    begin(lock, round);
    for (size_t i = 0; i < round->n_nodes; i++) {
        ask(lock, i, script, more, n_more, round);
    }
}

/* The failure of a round in which too few answered. */
static int fail(const struct pln_lock *lock, const struct round *round, const char *what) {
    if (lock->nodes == NULL) {
        return pln_fail(round->failure, "%s", round->text);
    }
    return pln_fail(PLN_EL2DOWN,
                    "%s: %zu of %zu servers answered, %zu are needed; the last: %.300s", what,
                    round->n_yes + round->n_no, round->n_nodes, round->quorum, round->text);
}

/* ---- grant ---- */

/* When a lock of this ttl, set by a server that was first asked at `start`, is over at the latest
 * by our clock. */
static pln_ns end_of(pln_ns start, pln_ms ttl) {
    return start + (ttl - ttl / DRIFT_SHARE - DRIFT) * 1000000;
}

static pln_ms largest_left(const struct round *round) {
    int64_t left = 0;
    for (size_t i = 0; i < round->n_nodes; i++) {
        if (round->answers[i] == NO) {
            int64_t own = round->numbers[i] < 0 ? PLN_FOREVER : round->numbers[i];
            left = own > left ? own : left;
        }
    }
    return left;
}

static int64_t largest_fence(const struct round *round) {
    int64_t fence = 0;
    for (size_t i = 0; i < round->n_nodes; i++) {
        if (round->answers[i] == YES && round->numbers[i] > fence) {
            fence = round->numbers[i];
        }
    }
    return fence;
}

/* Brings the counters of those that granted up to the fence. */
static void raise_fence(const struct pln_lock *lock, const struct round *granted, int64_t fence,
                        struct pln_bytes life, struct round *raised) {
    char number[PLN_NAMED_NUMBER];
    struct pln_bytes more[] = {pln_named_number(fence, number), life};
    begin(lock, raised);
    for (size_t i = 0; i < granted->n_nodes; i++) {
        if (granted->answers[i] == YES && granted->numbers[i] == fence) {
            raised->n_yes++; /* it gave that number */
        } else if (granted->answers[i] == YES) {
            ask(lock, i, &raise_script, more, 2, raised);
        }
    }
}

/* Takes a token back from all servers that may have it. */
static void take_back(const struct pln_lock *lock, const struct round *granted) {
    struct round released;
    begin(lock, &released);
    for (size_t i = 0; i < granted->n_nodes; i++) {
        if (granted->answers[i] != NO) {
            ask(lock, i, &release_script, NULL, 0, &released);
        }
    }
}

/* After a round in which most granted: makes the grant good, or says why it is not. */
static int make_good(struct pln_lock *lock, const struct round *granted, pln_ns start,
                     struct pln_bytes life) {
    struct round raised;
    int64_t fence = largest_fence(granted);
    raise_fence(lock, granted, fence, life, &raised);
    pln_ns now = pln_lock_clock(), until = end_of(start, pln_lock_ttl(lock));
    if (now >= until) {
        return pln_fail(PLN_ETIMEOUT, "lock: asking took %lld ms of a ttl of %lld ms",
                        (long long) (now - start) / 1000000, (long long) pln_lock_ttl(lock));
    }
    if (raised.n_yes < raised.quorum) {
        return raised.failure == 0 ? pln_fail(PLN_ETIMEOUT, "lock: it ended while it was taken")
                                   : fail(lock, &raised, "lock");
    }
    lock->fence = fence;
    pln_lock_set(lock, pln_lock_ttl(lock), until);
    return PLN_OK;
}

int pln_lock_grant(struct pln_lock *lock, pln_ms *left) {
    struct round round;
    char ttl[PLN_NAMED_NUMBER], life[PLN_NAMED_NUMBER], text[PLN_ERROR_TEXT];
    struct pln_bytes more[] = {pln_named_number(pln_lock_ttl(lock), ttl),
                               pln_named_number(pln_lock_ttl(lock) + FENCE_LIFE, life)};
    pln_ns start = pln_lock_clock();
    int status;
    ask_all(lock, &grant_script, more, 2, &round);
    if (round.n_yes >= round.quorum) {
        status = make_good(lock, &round, start, more[1]);
    } else if (round.n_yes + round.n_no >= round.quorum) {
        *left = largest_left(&round);
        status = PLN_PENDING;
    } else {
        status = fail(lock, &round, "lock");
    }
    if (status != PLN_OK) {
        snprintf(text, sizeof text, "%s", pln_error_text());
        take_back(lock, &round);
        if (status < 0) {
            pln_fail(status, "%s", text);
        }
    }
    return status;
}

/* ---- prolong, give back ---- */

/* Most said yes; or so many no that it cannot be ours; or nobody knows. */
static int verdict(const struct pln_lock *lock, const struct round *round, const char *what) {
    if (round->n_yes >= round->quorum) {
        return PLN_OK;
    }
    return round->n_no > round->n_nodes - round->quorum ? PLN_MISS : fail(lock, round, what);
}

static int check_owner(const struct pln_lock *lock, const char *what) {
    return lock->owner == getpid()
               ? PLN_OK
               : pln_fail(PLN_ECLOSED,
                          "%s: it is held by the process that took it, from which this "
                          "one was forked",
                          what);
}

int pln_lock_prolong(struct pln_lock *lock, pln_ms ttl) {
    struct round round;
    int status = check_owner(lock, "lock_extend");
    if (status < 0) {
        return status;
    }
    char number[PLN_NAMED_NUMBER], life[PLN_NAMED_NUMBER];
    struct pln_bytes more[] = {pln_named_number(ttl, number),
                               pln_named_number(ttl + FENCE_LIFE, life)};
    pln_ns start = pln_lock_clock();
    ask_all(lock, &prolong_script, more, 2, &round);
    status = verdict(lock, &round, "lock_extend");
    if (status == PLN_OK && pln_lock_clock() >= end_of(start, ttl)) {
        status = PLN_MISS;
    }
    if (status == PLN_OK) {
        pln_lock_set(lock, ttl, end_of(start, ttl));
    } else if (status == PLN_MISS) {
        pln_lock_set(lock, pln_lock_ttl(lock), 0);
    }
    return status;
}

int pln_lock_give_back(struct pln_lock *lock) {
    struct round round;
    int status = check_owner(lock, "unlock");
    if (status < 0) {
        return status;
    }
    ask_all(lock, &release_script, NULL, 0, &round);
    pln_lock_set(lock, pln_lock_ttl(lock), 0);
    return verdict(lock, &round, "unlock");
}
