/* SPDX-License-Identifier: MIT
 *
 * recover_rig.c - see recover_rig.h.
 */
#include "recover_rig.h"

#include <sched.h>

struct rig rig;
struct pln_terms terms;

static void open_with(size_t recovery, size_t max_bytes) {
    struct pln_options options = {.ttl_ms = 600000,
                                  .timeout_ms = 50,
                                  .lease_ms = 100000,
                                  .recovery = recovery,
                                  .max_bytes = max_bytes};
    rig_open(&rig, 2, true, &options);
    terms = *pln_cache_terms(A);
}

void recover_setup(void) {
    open_with(0, 0);
}

void recover_teardown(void) {
    rig_close(&rig);
}

void recover_reopen(size_t recovery, size_t max_bytes) {
    rig_close(&rig);
    open_with(recovery, max_bytes);
}

void cut(bool is_cut) {
    pln_l2_mem_cut(A->l2, is_cut);
}

int set(struct pln_cache *cache, const char *key, const char *value, const char *tag) {
    struct pln_bytes bytes = pln_key(tag != NULL ? tag : "");
    struct pln_set_options options = {.tags = &bytes, .n_tags = tag != NULL};
    return pln_set(cache, pln_key(key), pln_key(value), &options);
}

void fail_set(const char *key, const char *value) {
    ck_assert_int_eq(set(A, key, value, NULL), PLN_EL2DOWN);
}

void fail_delete(const char *key) {
    ck_assert_int_eq(pln_delete(A, pln_key(key)), PLN_EL2DOWN);
}

void await_done(struct pln_cache *cache) {
    pln_ns deadline = pln_deadline(10000);
    while (rig_stat(cache, "recovery_waiting") > 0) {
        ck_assert_msg(pln_clock_precise() < deadline, "something waits on");
        pln_recovery_run(cache->recovery);
        sched_yield();
    }
}

void heal(void) {
    cut(false);
    await_done(A);
}
