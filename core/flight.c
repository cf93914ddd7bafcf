/* SPDX-License-Identifier: MIT
 *
 * flight.c - single flight: of all threads that want one missing key, one loads and the others
 * wait.
 *
 * A flight is found by its key while it may still be joined; it lives until its last user has left.
 * Four things take it out of the table: its end; a caller who finds that the key, any tag or all
 * was invalidated since it began; one who wants the primary's word where the flight asks a replica;
 * and a worker, where the flight's load has yet to begin. The second and third may know of a newer
 * value (their own delete has returned, say), so they begin a flight of their own instead of
 * waiting for an old answer. A worker does so because the load may be a job in the workers' queue:
 * were all of them to wait for such, none would be left to run it. The job still runs: it finds in
 * L2 what the worker brought, and loads once more only where there is no L2.
 *
 * One mutex guards the table and all flights: it is off the hit path, held for a few hundred
 * nanoseconds, and a miss costs a round trip anyway.
 *
 * Some who wait do not sleep: they watch a flight, are told that something has happened, and look
 * (async.c). One of them may lead, and have the load run by its own program, in pieces between
 * which no thread has hold of it (steps.c). So its flight says whose turn it is. A thread that
 * sleeps until such a load has ended, and is the one that is to run it, would sleep until its
 * deadline; it is told instead. Nor is such a flight joined for longer than a load may take: a
 * program may lose sight of what it began.
 */
#include "flight.h"

#include <time.h>

#define HASH_NONFATAL_OOM 1
#include <uthash.h>

struct pln_flight {
    UT_hash_handle hh;
    struct pln_hashed key; /* bytes follow the struct */
    /* of when it began, as in its stamp: the key's stripe, the tags, the link and clears */
    uint64_t epoch, mark_clock;
    uint32_t generation;
    unsigned n_forks; /* of the table's, at that time */
    bool may_lag;     /* what it brings may come from a replica */
    pln_ns began;
    pthread_cond_t changed;
    /* under the table's lock: */
    unsigned refs;
    unsigned nudges; /* ends of other processes' leases heard of */
    bool is_listed;
    bool has_begun; /* its load runs */
    bool is_done;
    struct pln_outcome outcome;
    struct pln_value *offer; /* a stale value, or NULL */
    struct pln_l1_life offer_life;
    bool is_offered_at_once;
    struct pln_watcher *watchers;
    struct pln_watcher *host; /* of them, who runs the load; NULL: a worker does, or a caller */
    enum pln_turn turn;       /* likewise all below: where there is a host, or was */
    bool is_given_up;
    pthread_t host_thread; /* in which it was seen last */
    pln_ns host_until;     /* not to be joined from then on; 0: it has no host */
    pln_ns rests_until;
};

struct pln_flights {
    pthread_mutex_t lock; /* over: */
    struct pln_flight *by_key;
    size_t n_live;
    unsigned n_forks; /* written by a child alone, before it has threads */
    size_t n_asking;  /* questions to L2 that nobody waits for */
    pthread_cond_t answered;
};

int pln_flights_new(struct pln_flights **flights) {
    struct pln_flights *created = calloc(1, sizeof *created);
    if (created == NULL) {
        return pln_fail(PLN_ENOMEM, "open: no memory for the table of loads");
    }
    pthread_mutex_init(&created->lock, NULL);
    pthread_cond_init(&created->answered, NULL);
    *flights = created;
    return PLN_OK;
}

void pln_flights_free(struct pln_flights *flights) {
    if (flights != NULL) {
        assert(flights->by_key == NULL && flights->n_live == 0 && flights->n_asking == 0);
        pthread_cond_destroy(&flights->answered);
        pthread_mutex_destroy(&flights->lock);
        free(flights);
    }
}

size_t pln_flights_count(struct pln_flights *flights) {
    pthread_mutex_lock(&flights->lock);
    size_t n = flights->n_live;
    pthread_mutex_unlock(&flights->lock);
    return n;
}

static struct pln_flight *flight_new(const struct pln_hashed *key, const struct pln_stamp *stamp,
                                     bool may_lag, unsigned n_forks) {
    struct pln_flight *flight = calloc(1, sizeof *flight + key->key.len);
    if (flight == NULL) {
        pln_fail(PLN_ENOMEM, "get: no memory to load a key of %zu bytes", key->key.len);
        return NULL;
    }
    memcpy(flight + 1, key->key.data, key->key.len);
    flight->key = (struct pln_hashed){pln_bytes_of(flight + 1, key->key.len), key->hash};
    flight->epoch = stamp->epoch;
    flight->mark_clock = stamp->mark_clock;
    flight->generation = stamp->generation;
    flight->may_lag = may_lag;
    flight->n_forks = n_forks;
    flight->began = pln_clock_precise();
    flight->refs = 1;
    pthread_cond_init(&flight->changed, NULL);
    return flight;
}

static void flight_free(struct pln_flight *flight) {
    assert(flight->refs == 0 && !flight->is_listed && flight->watchers == NULL);
    pln_outcome_fini(&flight->outcome);
    if (flight->offer != NULL) {
        pln_value_drop(flight->offer);
    }
    pthread_cond_destroy(&flight->changed);
    free(flight);
}

static struct pln_flight *find_locked(struct pln_flights *flights, struct pln_bytes key) {
    struct pln_flight *found = NULL;
    HASH_FIND(hh, flights->by_key, key.data, key.len, found);
    return found;
}

static void unlist_locked(struct pln_flights *flights, struct pln_flight *flight) {
    if (flight->is_listed) {
        HASH_DELETE(hh, flights->by_key, flight);
        flight->is_listed = false;
    }
}

/* True where nothing was invalidated since it began that may concern its key. Its tags are not yet
 * known, so that is any tag. And no host has had it for too long. */
static bool is_current(const struct pln_flight *flight, const struct pln_stamp *stamp) {
    return flight->epoch == stamp->epoch && flight->mark_clock == stamp->mark_clock &&
           flight->generation == stamp->generation &&
           (flight->host_until == 0 || pln_clock_precise() < flight->host_until);
}

static void tell_all_locked(struct pln_flight *flight) {
    for (struct pln_watcher *at = flight->watchers; at != NULL; at = at->next) {
        at->tell(at);
    }
    pthread_cond_broadcast(&flight->changed);
}

/* Lists a new flight, in the place of one that is listed. */
static void list_locked(struct pln_flights *flights, struct pln_flight *flight,
                        struct pln_flight *former) {
    if (former != NULL) {
        unlist_locked(flights, former); /* its own users go on with it */
    }
    HASH_ADD_KEYPTR(hh, flights->by_key, flight->key.key.data, flight->key.key.len, flight);
    flight->is_listed = flight->hh.tbl != NULL; /* else memory is out, and nobody finds it */
    flights->n_live++;
}

struct pln_flight *pln_flight_join(struct pln_flights *flights, const struct pln_stamp *stamp,
                                   const struct pln_hashed *key, bool may_lag, bool *leads) {
    struct pln_flight *created = flight_new(key, stamp, may_lag, flights->n_forks);
    if (created == NULL) {
        return NULL;
    }
    pthread_mutex_lock(&flights->lock);
    struct pln_flight *joined = find_locked(flights, key->key);
    if (joined != NULL && is_current(joined, stamp) && (may_lag || !joined->may_lag)) {
        joined->refs++;
    } else {
        list_locked(flights, created, joined);
        joined = created;
        created = NULL;
    }
    pthread_mutex_unlock(&flights->lock);
    *leads = created == NULL;
    if (created != NULL) {
        created->refs = 0;
        flight_free(created);
    }
    return joined;
}

struct pln_flight *pln_flight_lead(struct pln_flights *flights, const struct pln_stamp *stamp,
                                   const struct pln_hashed *key, bool may_lag) {
    struct pln_flight *created = flight_new(key, stamp, may_lag, flights->n_forks);
    if (created != NULL) {
        pthread_mutex_lock(&flights->lock);
        list_locked(flights, created, find_locked(flights, key->key));
        pthread_mutex_unlock(&flights->lock);
    }
    return created;
}

void pln_flight_begin(struct pln_flights *flights, struct pln_flight *flight) {
    pthread_mutex_lock(&flights->lock);
    flight->has_begun = true;
    pthread_mutex_unlock(&flights->lock);
}

bool pln_flight_has_begun(struct pln_flights *flights, struct pln_flight *flight) {
    pthread_mutex_lock(&flights->lock);
    bool has_begun = flight->has_begun || flight->is_done;
    pthread_mutex_unlock(&flights->lock);
    return has_begun;
}

const struct pln_hashed *pln_flight_key(const struct pln_flight *flight) {
    return &flight->key;
}

void pln_flight_ref(struct pln_flights *flights, struct pln_flight *flight) {
    pthread_mutex_lock(&flights->lock);
    flight->refs++;
    pthread_mutex_unlock(&flights->lock);
}

void pln_flight_leave(struct pln_flights *flights, struct pln_flight *flight) {
    if (flight->n_forks != flights->n_forks) {
        return; /* the parent's: threads that are not here may wait on it, and have hold of it */
    }
    pthread_mutex_lock(&flights->lock);
    assert(flight->refs > 0);
    bool is_last = --flight->refs == 0;
    if (is_last) {
        assert(flight->is_done);
        flights->n_live--;
    }
    pthread_mutex_unlock(&flights->lock);
    if (is_last) {
        flight_free(flight);
    }
}

void pln_flight_finish_take(struct pln_flights *flights, struct pln_flight *flight,
                            struct pln_outcome *outcome) {
    pthread_mutex_lock(&flights->lock);
    assert(!flight->is_done);
    flight->outcome = *outcome;
    flight->is_done = true;
    flight->turn = PLN_TURN_OURS;
    unlist_locked(flights, flight);
    tell_all_locked(flight);
    pthread_mutex_unlock(&flights->lock);
    outcome->value = NULL;
}

/* Waits for a change of the flight; false once the deadline has passed. */
static bool wait_locked(struct pln_flights *flights, struct pln_flight *flight, pln_ns deadline) {
    struct timespec until = pln_timespec(deadline);
    return pthread_cond_clockwait(&flight->changed, &flights->lock, CLOCK_MONOTONIC, &until) == 0;
}

void pln_flight_offer(struct pln_flights *flights, struct pln_flight *flight,
                      const struct pln_outcome *stale, bool is_at_once) {
    pln_value_ref(stale->value);
    pthread_mutex_lock(&flights->lock);
    struct pln_value *former = flight->offer;
    flight->offer = stale->value;
    flight->offer_life = stale->life;
    flight->is_offered_at_once = is_at_once;
    tell_all_locked(flight);
    pthread_mutex_unlock(&flights->lock);
    if (former != NULL) {
        pln_value_drop(former);
    }
}

static bool is_offered_locked(const struct pln_flight *flight,
                              const struct pln_patience *patience) {
    return patience->takes_stale && flight->offer != NULL;
}

/* When a caller's patience is over, as things stand. */
static pln_ns soft_end_locked(const struct pln_flight *flight,
                              const struct pln_patience *patience) {
    bool is_offered = is_offered_locked(flight, patience);
    return patience->soft_ms > 0 && (is_offered || patience->has_stale)
               ? flight->began + patience->soft_ms * 1000000
               : PLN_FOREVER;
}

/* What has become of it for one who waits. Returns as pln_flight_wait(); PLN_MISS: nothing yet, and
 * *until says when to look again, where nothing happens before. */
static int look_locked(const struct pln_flight *flight, const struct pln_patience *patience,
                       struct pln_outcome *outcome, pln_ns *until) {
    pln_ns soft = soft_end_locked(flight, patience), now = pln_clock_precise();
    bool is_at_once = flight->is_offered_at_once && is_offered_locked(flight, patience);
    int status = PLN_MISS;
    *until = soft < patience->deadline ? soft : patience->deadline;
    if (flight->is_done) {
        status = PLN_OK;
        *outcome = flight->outcome;
    } else if (is_at_once || now >= soft) {
        status = is_at_once ? PLN_OK : PLN_PENDING;
        if (is_at_once || !patience->has_stale) {
            *outcome = (struct pln_outcome){
                .value = flight->offer, .life = flight->offer_life, .source = PLN_FROM_STALE};
        }
    } else if (now >= patience->deadline) {
        status = PLN_ETIMEOUT;
    }
    if (outcome->value != NULL) {
        pln_value_ref(outcome->value);
    }
    return status;
}

static bool is_own_locked(const struct pln_flight *flight) {
    return flight->turn != PLN_TURN_OURS && pthread_equal(flight->host_thread, pthread_self());
}

bool pln_flight_is_own(struct pln_flights *flights, struct pln_flight *flight) {
    pthread_mutex_lock(&flights->lock);
    bool is_own = is_own_locked(flight);
    pthread_mutex_unlock(&flights->lock);
    return is_own;
}

int pln_flight_wait(struct pln_flights *flights, struct pln_flight *flight,
                    const struct pln_patience *patience, struct pln_outcome *outcome) {
    int status;
    pln_ns until;
    pthread_mutex_lock(&flights->lock);
    while ((status = look_locked(flight, patience, outcome, &until)) == PLN_MISS) {
        if (is_own_locked(flight)) {
            status = PLN_EBUSY;
            break;
        }
        wait_locked(flights, flight, until);
    }
    pthread_mutex_unlock(&flights->lock);
    return status;
}

void pln_flight_sleep(struct pln_flights *flights, struct pln_flight *flight, pln_ns deadline) {
    pthread_mutex_lock(&flights->lock);
    bool is_in_time = true;
    while (flight->nudges == 0 && is_in_time) {
        is_in_time = wait_locked(flights, flight, deadline);
    }
    flight->nudges = 0;
    pthread_mutex_unlock(&flights->lock);
}

void pln_flight_nudge(struct pln_flights *flights, struct pln_bytes key) {
    pthread_mutex_lock(&flights->lock);
    struct pln_flight *flight = find_locked(flights, key);
    if (flight != NULL) {
        flight->nudges++;
        if (flight->turn == PLN_TURN_RESTS) {
            flight->host->tell(flight->host);
        }
        pthread_cond_broadcast(&flight->changed);
    }
    pthread_mutex_unlock(&flights->lock);
}

/* ---- those who do not sleep ---- */

void pln_flight_watch(struct pln_flights *flights, struct pln_flight *flight,
                      struct pln_watcher *watcher) {
    pthread_mutex_lock(&flights->lock);
    watcher->next = flight->watchers;
    watcher->at = &flight->watchers;
    if (watcher->next != NULL) {
        watcher->next->at = &watcher->next;
    }
    flight->watchers = watcher;
    pthread_mutex_unlock(&flights->lock);
}

void pln_flight_unwatch(struct pln_flights *flights, struct pln_flight *flight,
                        struct pln_watcher *watcher) {
    pthread_mutex_lock(&flights->lock);
    *watcher->at = watcher->next;
    if (watcher->next != NULL) {
        watcher->next->at = watcher->at;
    }
    if (flight->host == watcher) {
        flight->host = NULL;
    }
    pthread_mutex_unlock(&flights->lock);
}

int pln_flight_look(struct pln_flights *flights, struct pln_flight *flight,
                    const struct pln_watcher *watcher, const struct pln_patience *patience,
                    struct pln_outcome *outcome, struct pln_glance *glance) {
    struct pln_patience own = *patience;
    pthread_mutex_lock(&flights->lock);
    bool is_host = flight->host == watcher;
    if (is_host) {
        flight->host_thread = pthread_self();
        own = (struct pln_patience){.deadline = flight->turn == PLN_TURN_OUT ? PLN_FOREVER
                                                                             : patience->deadline};
    }
    int status = look_locked(flight, &own, outcome, &glance->until);
    glance->turn = is_host ? flight->turn : PLN_TURN_OURS;
    if (glance->turn == PLN_TURN_RESTS && flight->rests_until < glance->until) {
        glance->until = flight->rests_until;
    }
    pthread_mutex_unlock(&flights->lock);
    return status;
}

/* ---- loads that the host runs ---- */

void pln_flight_host(struct pln_flights *flights, struct pln_flight *flight,
                     struct pln_watcher *host, pln_ns until) {
    pthread_mutex_lock(&flights->lock);
    flight->host = host;
    flight->host_thread = pthread_self();
    flight->host_until = until;
    pthread_mutex_unlock(&flights->lock);
}

bool pln_flight_turn(struct pln_flights *flights, struct pln_flight *flight, enum pln_turn turn,
                     pln_ns rests_until) {
    pthread_mutex_lock(&flights->lock);
    bool is_wanted = !flight->is_given_up;
    assert(flight->turn == PLN_TURN_OURS && !flight->is_done);
    if (is_wanted) {
        flight->turn = turn;
        flight->rests_until = rests_until;
        flight->host->tell(flight->host);
        pthread_cond_broadcast(&flight->changed); /* who sleeps in the host's thread is told */
    }
    pthread_mutex_unlock(&flights->lock);
    return is_wanted;
}

bool pln_flight_take(struct pln_flights *flights, struct pln_flight *flight, enum pln_turn from,
                     enum pln_turn to) {
    pthread_mutex_lock(&flights->lock);
    bool is_taken = flight->turn == from && (from != PLN_TURN_RESTS || flight->nudges > 0 ||
                                             pln_clock_precise() >= flight->rests_until);
    if (is_taken) {
        flight->turn = to;
        flight->nudges = 0;
    }
    pthread_mutex_unlock(&flights->lock);
    return is_taken;
}

bool pln_flight_give_up(struct pln_flights *flights, struct pln_flight *flight) {
    pthread_mutex_lock(&flights->lock);
    bool is_at_rest = flight->turn != PLN_TURN_OURS;
    flight->turn = PLN_TURN_OURS;
    flight->is_given_up = true;
    pthread_mutex_unlock(&flights->lock);
    return is_at_rest;
}

/* ---- questions that nobody waits for ---- */

void pln_flights_ask(struct pln_flights *flights, bool begins) {
    pthread_mutex_lock(&flights->lock);
    flights->n_asking += begins ? 1 : (size_t) -1;
    if (flights->n_asking == 0) {
        pthread_cond_broadcast(&flights->answered);
    }
    pthread_mutex_unlock(&flights->lock);
}

void pln_flights_await_answers(struct pln_flights *flights) {
    pthread_mutex_lock(&flights->lock);
    while (flights->n_asking > 0) {
        pthread_cond_wait(&flights->answered, &flights->lock);
    }
    pthread_mutex_unlock(&flights->lock);
}

/* ---- around a fork ---- */

void pln_flights_freeze(struct pln_flights *flights) {
    pthread_mutex_lock(&flights->lock);
}

void pln_flights_thaw(struct pln_flights *flights, bool is_child) {
    if (is_child) {
        /* their memory is lost: threads that are no more had hold of it. The one that forked may be
         * in the midst of a loader of its own, and will yet end its flight */
        while (flights->by_key != NULL) {
            struct pln_flight *flight = flights->by_key;
            unlist_locked(flights, flight);
            pthread_cond_init(&flight->changed, NULL);
        }
        flights->n_live = 0;
        flights->n_forks++;
        flights->n_asking = 0;
        pthread_cond_init(&flights->answered, NULL);
    }
    pthread_mutex_unlock(&flights->lock);
}
