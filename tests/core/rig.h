/* SPDX-License-Identifier: MIT
 *
 * rig.h - what the engine's tests stand on: a clock that is moved by hand, caches over a server in
 * memory, and rules whose functions are C.
 */
#ifndef PLN_TEST_RIG_H
#define PLN_TEST_RIG_H

#include <check.h>

#include "../../core/engine.h"

struct rig {
    _Atomic int64_t now;
    struct pln_l2_mem_server *server;
    struct pln_cache *caches[4];
    _Atomic int n_loads;       /* calls of the policy's loader */
    _Atomic int n_shapes;      /* calls of its other functions */
    _Atomic int load_status;   /* what it returns: PLN_OK brings "loaded N" */
    _Atomic bool is_unchanged; /* it says of an old value that it is not modified */
    _Atomic int n_logs;
    char last_log[400];   /* looked at after the call that logs */
    pthread_mutex_t gate; /* held by a test: its functions wait for it */
};

/* Opens n caches; over one server in memory where `has_l2`. Options are those given, with the
 * rig's clock. */
void rig_open(struct rig *rig, size_t n, bool has_l2, const struct pln_options *options);
void rig_close(struct rig *rig);

/* Puts one rule in force in a cache. Its loader is the rig's where hooks say so. */
struct pln_rule rig_rule(const char *pattern, const struct pln_terms *terms, uint32_t hooks);
void rig_policy(struct rig *rig, struct pln_cache *cache, struct pln_rule rule);

void rig_set(struct pln_cache *cache, const char *key, const char *value);
/* Reads a key and checks value and origin; NULL: not there. */
void rig_expect(struct pln_cache *cache, const char *key, const char *value, const char *source);
uint64_t rig_stat(struct pln_cache *cache, const char *name);
/* Waits until a statistic reaches a value; fails the test after ten seconds. */
void rig_await(struct pln_cache *cache, const char *name, uint64_t at_least);

int rig_run(Suite *suite);

#endif
