/* SPDX-License-Identifier: MIT
 *
 * engine.c - points inside the engine, and the mutants that live there. See seams.h.
 */
#include "seams.h"

#include "../../core/nested.h"
#include "../../core/recover.h"

/* NOLINTBEGIN(bugprone-reserved-identifier): these names are the linker's */

int __real_pln_l1_put(struct pln_l1 *l1, const struct pln_hashed *key,
                      const struct pln_l1_item *item, pln_ms now, pln_l1_check check,
                      const void *arg);
int __real_pln_l1_expire(struct pln_l1 *l1, const struct pln_hashed *key, pln_ms now);
int __wrap_pln_l1_expire(struct pln_l1 *l1, const struct pln_hashed *key, pln_ms now);
int __wrap_pln_l1_put(struct pln_l1 *l1, const struct pln_hashed *key,
                      const struct pln_l1_item *item, pln_ms now, pln_l1_check check,
                      const void *arg);
void __real_pln_recovery_begin(struct pln_recovery *recovery, struct pln_attempt *attempt);
void __wrap_pln_recovery_begin(struct pln_recovery *recovery, struct pln_attempt *attempt);
int __real_pln_recovery_end(struct pln_recovery *recovery, struct pln_attempt *attempt, int status);
int __wrap_pln_recovery_end(struct pln_recovery *recovery, struct pln_attempt *attempt, int status);
void __real_pln_stamp_take(struct pln_inval *inval, uint64_t hash, struct pln_stamp *stamp);
void __wrap_pln_stamp_take(struct pln_inval *inval, uint64_t hash, struct pln_stamp *stamp);
bool __real_pln_stamp_advance(struct pln_stamp *stamp, const struct pln_hashed *key);
bool __wrap_pln_stamp_advance(struct pln_stamp *stamp, const struct pln_hashed *key);
void __real_pln_inval_key(struct pln_inval *inval, const struct pln_hashed *key);
void __wrap_pln_inval_key(struct pln_inval *inval, const struct pln_hashed *key);
void __real_pln_inval_all(struct pln_inval *inval);
void __wrap_pln_inval_all(struct pln_inval *inval);
void __real_pln_inval_tag(struct pln_inval *inval, struct pln_bytes tag);
void __wrap_pln_inval_tag(struct pln_inval *inval, struct pln_bytes tag);
bool __real_pln_life_in_doubt(const struct pln_cache *cache, const struct pln_terms *terms,
                              const struct pln_get_options *options, const struct pln_l1_hit *hit,
                              pln_ms now);
bool __wrap_pln_life_in_doubt(const struct pln_cache *cache, const struct pln_terms *terms,
                              const struct pln_get_options *options, const struct pln_l1_hit *hit,
                              pln_ms now);
struct pln_flight *__real_pln_flight_join(struct pln_flights *flights,
                                          const struct pln_stamp *stamp,
                                          const struct pln_hashed *key, bool may_lag, bool *leads);
struct pln_flight *__wrap_pln_flight_join(struct pln_flights *flights,
                                          const struct pln_stamp *stamp,
                                          const struct pln_hashed *key, bool may_lag, bool *leads);

void __wrap_pln_nested_enter(struct pln_nested *nested, const struct pln_cache *cache,
                             struct pln_bytes key);
void __wrap_pln_nested_leave(const struct pln_nested *nested);
int __wrap_pln_nested_check(const struct pln_cache *cache, struct pln_bytes key);

enum sim_mutant sim_mutant;

const char *sim_mutant_name(enum sim_mutant which) {
    static const char *const names[] = {
        [SIM_INTACT] = "nothing is left out",
        [SIM_NO_CHECK] = "a value is installed whatever was heard since it was asked for",
        [SIM_ONE_CHECK] = "the stamp is not looked at again once the entry is linked",
        [SIM_LATE_STAMP] = "the stamp is taken at the reply",
        [SIM_DEAF_TO_KEYS] = "messages of keys do nothing",
        [SIM_DEAF_TO_TAGS] = "messages of tags do nothing",
        [SIM_DEAF_TO_CLEARS] = "messages of clears do nothing",
        [SIM_DEAF_TO_EXPIRES] = "messages of expires do nothing",
        [SIM_NO_REPLY] = "a delete forgets nothing at its reply",
        [SIM_NO_REPLY_TO_TAG] = "an invalidated tag is not marked at the reply",
        [SIM_NO_DOWN] = "a lost link is not noticed",
        [SIM_SAME_GENERATION] = "what was held before a gap is valid after it",
        [SIM_NO_REPLAY] = "what was missed in a gap is not applied",
        [SIM_NO_BOUND] = "in a gap what is in L1 is served without bound",
        [SIM_LEASE_STAYS] = "a delete leaves the lease",
        [SIM_ANY_TOKEN] = "a commit needs no valid lease",
        [SIM_BLIND_SET] = "a set is kept whatever was heard meanwhile",
        [SIM_JOINS_OLD] = "a load from before a write is joined after it",
        [SIM_JOINS_UNTAGGED] = "a load from before a tag was invalidated is joined after it",
        [SIM_LEAVES_OLD] = "a set that L1 refuses leaves what was there before",
        [SIM_EXPIRES_SHOWN] = "an expire sees no entry that is about to show",
        [SIM_DEAF_TO_MATCHES] = "messages of prefixes and patterns do nothing",
        [SIM_MATCH_WALKS] = "a prefix or pattern refuses no fill that is under way",
        [SIM_FORMER_STAYS] = "what was kept of a key stays so when it is written anew",
        [SIM_REDO_AGELESS] = "what was kept comes as if it had just begun",
        [SIM_REDO_SILENT] = "nobody is told when what was kept is carried out",
    };
    return names[which];
}

/* Which loads a thread is in the midst of the library keeps for each thread, and all tasks are one.
 * No loader of a fleet asks for another key. */

void __wrap_pln_nested_enter(struct pln_nested *nested, const struct pln_cache *cache,
                             struct pln_bytes key) {
    (void) nested;
    (void) cache;
    (void) key;
}

void __wrap_pln_nested_leave(const struct pln_nested *nested) {
    (void) nested;
}

int __wrap_pln_nested_check(const struct pln_cache *cache, struct pln_bytes key) {
    (void) cache;
    (void) key;
    return PLN_OK;
}

/* The stamp that a task took last is in the last of its places for data, which threads.c leaves
 * alone. */
static void **last_stamp(void) {
    return sim_specific(SIM_MOST_SPECIFIC - 1);
}

void sim_stamp_again(const struct pln_hashed *key) {
    struct pln_stamp *stamp = *last_stamp();
    if (stamp != NULL) {
        __real_pln_stamp_take(stamp->inval, key->hash, stamp);
    }
}

/* A check of R3, with a point after it: what comes then is for the next one to see. */
struct look {
    pln_l1_check check;
    const void *arg;
    unsigned n;
};

static bool look(const void *arg) {
    struct look *own = *(struct look *const *) arg;
    bool is_left_out = sim_mutant == SIM_NO_CHECK || (sim_mutant == SIM_ONE_CHECK && own->n > 0);
    own->n++;
    bool holds = is_left_out || own->check(own->arg);
    sim_point();
    return holds;
}

int __wrap_pln_l1_put(struct pln_l1 *l1, const struct pln_hashed *key,
                      const struct pln_l1_item *item, pln_ms now, pln_l1_check check,
                      const void *arg) {
    struct look own = {.check = check, .arg = arg};
    struct look *at = &own;
    sim_point();
    int status = __real_pln_l1_put(l1, key, item, now, look, &at);
    sim_trace("L1 is given %.*s: %s", (int) item->value.len, (const char *) item->value.data,
              pln_status_name(status));
    sim_tally.refused += status == PLN_NOT_STORED;
    const struct sim_write *write = sim_note();
    bool is_set = write != NULL && write->set != 0;
    return sim_mutant == SIM_LEAVES_OLD && is_set && status == PLN_NOT_STORED ? PLN_OK : status;
}

int __wrap_pln_l1_expire(struct pln_l1 *l1, const struct pln_hashed *key, pln_ms now) {
    sim_point();
    return sim_mutant == SIM_EXPIRES_SHOWN ? pln_l1_retime(l1, key, now, now, now, now)
                                           : __real_pln_l1_expire(l1, key, now);
}

void __wrap_pln_stamp_take(struct pln_inval *inval, uint64_t hash, struct pln_stamp *stamp) {
    sim_point();
    __real_pln_stamp_take(inval, hash, stamp);
    *last_stamp() = stamp;
}

bool __wrap_pln_stamp_advance(struct pln_stamp *stamp, const struct pln_hashed *key) {
    sim_point();
    if (sim_mutant == SIM_BLIND_SET) {
        /* relaxed: all tasks are one thread */
        stamp->epoch = atomic_fetch_add_explicit(stamp->stripe, 1, memory_order_relaxed) + 1;
        return true;
    }
    return __real_pln_stamp_advance(stamp, key);
}

bool __wrap_pln_life_in_doubt(const struct pln_cache *cache, const struct pln_terms *terms,
                              const struct pln_get_options *options, const struct pln_l1_hit *hit,
                              pln_ms now) {
    return sim_mutant != SIM_NO_BOUND && __real_pln_life_in_doubt(cache, terms, options, hit, now);
}

/* True in the task of a writer whose command was carried out. */
static bool is_at_reply(void) {
    const struct sim_write *write = sim_note();
    return write != NULL && write->is_carried_out;
}

void __wrap_pln_inval_key(struct pln_inval *inval, const struct pln_hashed *key) {
    sim_point();
    if (sim_mutant != SIM_NO_REPLY || !is_at_reply()) {
        __real_pln_inval_key(inval, key);
    }
    sim_redo_heard();
}

void __wrap_pln_inval_all(struct pln_inval *inval) {
    sim_point();
    __real_pln_inval_all(inval);
    sim_redo_heard();
}

void sim_walk(void *cache, const struct pln_mask *mask) {
    pln_l1_remove_each(((struct pln_cache *) cache)->l1, pln_mask_fits, mask);
}

void __wrap_pln_inval_tag(struct pln_inval *inval, struct pln_bytes tag) {
    sim_point();
    if (sim_mutant != SIM_NO_REPLY_TO_TAG || !is_at_reply()) {
        __real_pln_inval_tag(inval, tag);
    }
    sim_redo_heard();
}

struct pln_flight *__wrap_pln_flight_join(struct pln_flights *flights,
                                          const struct pln_stamp *stamp,
                                          const struct pln_hashed *key, bool may_lag, bool *leads) {
    struct pln_stamp ageless = *stamp;
    sim_point();
    if (sim_mutant == SIM_JOINS_OLD) {
        ageless.epoch = 0;
    } else if (sim_mutant == SIM_JOINS_UNTAGGED) {
        ageless.mark_clock = 0;
        ageless.generation = 0;
    }
    struct pln_flight *flight = __real_pln_flight_join(flights, &ageless, key, may_lag, leads);
    sim_trace("%s a load of %.*s", *leads ? "leads" : "joins", (int) key->key.len,
              (const char *) key->key.data);
    return flight;
}

/* ---- the calls that may be kept ---- */

/* Puts back what waited for the key, as if it did not matter any more that it is older. */
static void leave_former(struct pln_recovery *recovery, struct pln_attempt *attempt) {
    pthread_mutex_lock(&recovery->lock);
    if (attempt->former != NULL && pln_recovery_add_locked(recovery, attempt->former)) {
        attempt->former = NULL;
    }
    pthread_mutex_unlock(&recovery->lock);
}

void __wrap_pln_recovery_begin(struct pln_recovery *recovery, struct pln_attempt *attempt) {
    uint64_t versions[SIM_KEYS];
    sim_point();
    sim_versions(versions);
    __real_pln_recovery_begin(recovery, attempt);
    if (recovery == NULL) {
        return;
    }
    sim_ticket(sim_note(), attempt->ticket, versions);
    if (sim_mutant == SIM_FORMER_STAYS) {
        leave_former(recovery, attempt);
    }
}

int __wrap_pln_recovery_end(struct pln_recovery *recovery, struct pln_attempt *attempt,
                            int status) {
    const struct sim_write *write = sim_note();
    sim_point();
    uint64_t former = attempt->former != NULL ? attempt->former->ticket : 0;
    if (former != 0 && status != PLN_OK && status != PLN_MISS) {
        sim_ticket_back(write->node, former);
    }
    status = __real_pln_recovery_end(recovery, attempt, status);
    if (recovery != NULL) {
        sim_ticket_end(write->node, attempt->ticket);
    }
    return status;
}

uint64_t sim_kept_ticket(const struct pln_hashed *key) {
    const char *at = (const char *) key - offsetof(struct pln_kept, key);
    return ((const struct pln_kept *) (const void *) at)->ticket;
}

/* NOLINTEND(bugprone-reserved-identifier) */
