/* SPDX-License-Identifier: MIT
 *
 * flight.h - private to core: one load per key and process (flight.c), and what is kept of what it
 * brings (admit.c).
 */
#ifndef PLN_FLIGHT_H
#define PLN_FLIGHT_H

#include "engine.h"

/* ---- request.c ---- */

/* How a read or load ended. Owns its value. */
struct pln_outcome {
    int status;
    struct pln_value *value;
    struct pln_l1_life life;
    uint8_t source;            /* enum pln_source */
    bool is_leaders_own;       /* a failure of the leader's alone: its time was over */
    bool lacked_loader;        /* nothing was found, and the leader had no loader */
    char text[PLN_ERROR_TEXT]; /* where status is negative */
};

void pln_outcome_fini(struct pln_outcome *outcome);
/* Ends in a failure whose text pln_fail() has just kept. */
void pln_outcome_fail(struct pln_outcome *outcome, int status);

/* ---- flight.c ---- */

struct pln_flight;  /* one key being loaded */
struct pln_flights; /* all of them */

int pln_flights_new(struct pln_flights **flights);
void pln_flights_free(struct pln_flights *flights);
size_t pln_flights_count(struct pln_flights *flights);
void pln_flights_freeze(struct pln_flights *flights);
/* A child has none of the flights that were under way: nobody is left to end them. */
void pln_flights_thaw(struct pln_flights *flights, bool is_child);

/* Joins the load of a key, or begins one. A load that began before the key was last invalidated
 * is not joined: what it brings may be older than what this caller has seen. Nor is one that may
 * lag (it reads from a replica) by who wants what the primary has. Returns NULL where memory is
 * out. Owns: a reference, for pln_flight_leave(). */
struct pln_flight *pln_flight_join(struct pln_flights *flights, const struct pln_stamp *stamp,
                                   const struct pln_hashed *key, bool may_lag, bool *leads);
/* Begins one even where there is another, which is left to its own users. Returns, Owns: likewise.
 */
struct pln_flight *pln_flight_lead(struct pln_flights *flights, const struct pln_stamp *stamp,
                                   const struct pln_hashed *key, bool may_lag);
/* Its load runs now, in a thread that needs no other one to go on. */
void pln_flight_begin(struct pln_flights *flights, struct pln_flight *flight);
/* True from then on. Until then it may wait for a worker, so no worker may wait for it. */
bool pln_flight_has_begun(struct pln_flights *flights, struct pln_flight *flight);
const struct pln_hashed *pln_flight_key(const struct pln_flight *flight);
void pln_flight_ref(struct pln_flights *flights, struct pln_flight *flight);
void pln_flight_leave(struct pln_flights *flights, struct pln_flight *flight);
/* The leader's last word, kept for all who wait: takes over the outcome's value. */
void pln_flight_finish_take(struct pln_flights *flights, struct pln_flight *flight,
                            struct pln_outcome *outcome);
/* Shows those who wait a stale value while the load goes on: to be taken at once, or by those whose
 * patience is over. */
void pln_flight_offer(struct pln_flights *flights, struct pln_flight *flight,
                      const struct pln_outcome *stale, bool is_at_once);

/* How long a caller waits. */
struct pln_patience {
    pln_ns deadline;
    pln_ms soft_ms;   /* from the load's beginning on, where a stale value is at hand; 0: longer */
    bool has_stale;   /* the caller has one */
    bool takes_stale; /* one that is offered will do */
};

/* Waits for it. Returns: PLN_OK (how it ended, or a stale value that is offered at once);
 * PLN_PENDING (the caller's patience is over, and a stale value will do: its own, or else that in
 * the outcome); PLN_ETIMEOUT; PLN_EBUSY (this thread is the one that is to run the load). */
int pln_flight_wait(struct pln_flights *flights, struct pln_flight *flight,
                    const struct pln_patience *patience, struct pln_outcome *outcome);
/* The leader waits for another process: until nudged, or the deadline. */
void pln_flight_sleep(struct pln_flights *flights, struct pln_flight *flight, pln_ns deadline);
void pln_flight_nudge(struct pln_flights *flights, struct pln_bytes key);

/* One who waits and does not sleep, but is told when it is time to look. */
struct pln_watcher {
    struct pln_watcher *next, **at; /* of those of its flight; under the lock of the flights */
    /* Called with that lock held, in the thread in which something has happened. */
    void (*tell)(struct pln_watcher *watcher);
};

/* Whose turn it is with a load that the host's program runs. */
enum pln_turn {
    PLN_TURN_OURS,   /* a question or a job is under way, or there is no host */
    PLN_TURN_RESTS,  /* another process is loading; look again later, or when told */
    PLN_TURN_WANTED, /* the host is to load */
    PLN_TURN_OUT,    /* it does */
};

struct pln_glance {
    enum pln_turn turn; /* of the host; ours to all others */
    pln_ns until;       /* look again then, should nothing be told before */
};

/* Begins and ends to tell a watcher, who has joined the flight. */
void pln_flight_watch(struct pln_flights *flights, struct pln_flight *flight,
                      struct pln_watcher *watcher);
void pln_flight_unwatch(struct pln_flights *flights, struct pln_flight *flight,
                        struct pln_watcher *watcher);
/* As pln_flight_wait() without waiting: PLN_MISS: nothing yet. A host is shown nothing stale, and
 * has no deadline while it loads. */
int pln_flight_look(struct pln_flights *flights, struct pln_flight *flight,
                    const struct pln_watcher *watcher, const struct pln_patience *patience,
                    struct pln_outcome *outcome, struct pln_glance *glance);
/* Whether the calling thread is the one that is to go on with it. */
bool pln_flight_is_own(struct pln_flights *flights, struct pln_flight *flight);
/* The leader's watcher runs the load itself; until then others may join. */
void pln_flight_host(struct pln_flights *flights, struct pln_flight *flight,
                     struct pln_watcher *host, pln_ns until);
/* Our turn is over. False: the host has given it up, so it stays ours, to be ended. */
bool pln_flight_turn(struct pln_flights *flights, struct pln_flight *flight, enum pln_turn turn,
                     pln_ns rests_until);
/* The host goes on. False: it is not (or, resting, not yet) its turn. */
bool pln_flight_take(struct pln_flights *flights, struct pln_flight *flight, enum pln_turn from,
                     enum pln_turn to);
/* The host goes. True: it was its turn, so it ends the flight; else who is at it does. */
bool pln_flight_give_up(struct pln_flights *flights, struct pln_flight *flight);

/* A question to L2 that nobody waits for begins, or has its answer; and a cache that closes awaits
 * all answers: what comes after them needs the workers. */
void pln_flights_ask(struct pln_flights *flights, bool begins);
void pln_flights_await_answers(struct pln_flights *flights);

/* ---- worker.c: for those who wait for what a worker does ---- */

/* Whether the calling thread is one that runs the pool's jobs. */
bool pln_workers_has_caller(const struct pln_workers *workers);
/* Takes a job back that no worker has begun: it is the caller's again. False where one has. */
bool pln_workers_withdraw(struct pln_workers *workers, struct pln_job *job);

/* ---- admit.c ---- */

struct pln_misses; /* opaque: how often keys were missed */

/* Counts a miss of a key, where its terms ask for a number of them before a value is stored. */
void pln_admit_note(struct pln_cache *cache, const struct pln_hashed *key,
                    const struct pln_terms *terms);
/* Whether it has been missed so often. */
bool pln_admit_is_due(struct pln_cache *cache, const struct pln_hashed *key,
                      const struct pln_terms *terms);
/* PLN_EDENIED, told once for a rule and counted. `verb` is what the program does: "get". */
int pln_admit_refuse(struct pln_cache *cache, const struct pln_match *match, const char *verb);
/* The same where the policy denies the key; else PLN_OK. */
int pln_admit_check(struct pln_cache *cache, struct pln_bytes key, const char *verb);
/* A pln_l1_wanted: whether the ruleset `arg` denies a key. */
bool pln_admit_denies(const void *arg, struct pln_bytes key);

#endif
