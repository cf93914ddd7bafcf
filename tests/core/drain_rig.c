/* SPDX-License-Identifier: MIT
 *
 * drain_rig.c - see drain_rig.h.
 */
#include "drain_rig.h"

#include <sched.h>

struct rig rig;
struct db db;
struct pln_write_options writing;

static void open_caches(size_t n) {
    struct pln_options options = {
        .ttl_ms = 600000, .timeout_ms = 2000, .workers = 2, .writing = &writing};
    rig_open(&rig, n, true, &options);
}

void drain_setup(void) {
    db_init(&db);
    writing = (struct pln_write_options){.strategy = PLN_WRITE_BEHIND,
                                         .store = db_store,
                                         .arg = &db,
                                         .every_ms = 10,
                                         .attempts = 3,
                                         .backoff_ms = 5};
    open_caches(2);
}

void drain_teardown(void) {
    rig_close(&rig);
    db_fini(&db);
}

/* The same with other ways of writing. */
void drain_reopen(size_t n) {
    rig_close(&rig);
    open_caches(n);
}

void flush(struct pln_cache *cache) {
    ck_assert_msg(pln_flush(cache, 20000) == PLN_OK, "%s", pln_error_text());
}

uint64_t depth(struct pln_cache *cache) {
    struct pln_queue_state state;
    ck_assert_msg(pln_queue_state(cache, &state) == PLN_OK, "%s", pln_error_text());
    return state.depth;
}

void hold_store(void) {
    pthread_mutex_lock(&db.gate);
}

void let_store_go(void) {
    pthread_mutex_unlock(&db.gate);
}

void await_call(unsigned n) {
    pln_ns deadline = pln_deadline(20000);
    while (atomic_load(&db.n_calls) < n) {
        ck_assert_msg(pln_clock_precise() < deadline, "the store was called %u times, not %u",
                      atomic_load(&db.n_calls), n);
        sched_yield();
    }
}

void expect_close_stores(void) {
    writing.every_ms = 3600000;
    drain_reopen(1);
    rig_set(A, "k", "v");
    pln_close(A);
    A = NULL;
    db_expect(&db, "k", "v");
}

/* A rule with the rig's loader, over a store by name. */
struct pln_rule behind_rule(const char *pattern, uint32_t hooks) {
    struct pln_terms terms = *pln_cache_terms(A);
    terms.write = PLN_WRITE_BEHIND;
    struct pln_rule rule = rig_rule(pattern, &terms, hooks);
    rule.writing = writing;
    rule.writing.store = NULL;
    rule.store = strdup("db");
    return rule;
}

void register_db(struct pln_cache *cache) {
    ck_assert_int_eq(pln_register_store(cache, "db", db_store, &db), PLN_OK);
}
