/* SPDX-License-Identifier: MIT
 * test_steady.c - a hot key under refresh-ahead: requests come every millisecond for a hundred
 * ttls, loads take their time, and no request ever waits for one. */
#include "rig.h"

enum {
    TTL_MS = 1000,
    N_TTLS = 100,
    LOAD_MS = 150, /* of the ttl's last fifth, which is all the time that a refresh has */
};

static struct rig rig;

static void teardown(void) {
    rig_close(&rig);
}

/* _i: with an L2. The clock stands still while a load begins or its value is put in place, and only
 * then: a load takes its time on the clock of the requests. A request that waited for one would
 * wait for ever, since the gate is opened by later requests. */
START_TEST(no_request_for_a_hot_key_waits_for_a_load) {
    struct pln_options options = {.ttl_ms = TTL_MS, .load_timeout_ms = 20000, .lease_ms = 20000};
    rig_open(&rig, 1, _i == 1, &options);
    struct pln_cache *cache = rig.caches[0];
    struct pln_terms terms = *pln_cache_terms(cache);
    terms.refresh = 0.8;
    terms.jitter = 0.05;
    rig_policy(&rig, cache, rig_rule("hot:{id}", &terms, PLN_RULE_LOAD));
    rig_expect(cache, "hot:1", "loaded 1", "loaded");

    uint64_t n_refreshes = 0;
    pln_ms done_at = PLN_FOREVER;
    pthread_mutex_lock(&rig.gate);
    for (int request = 0; request < TTL_MS * N_TTLS; request++) {
        struct pln_result result;
        rig.now++;
        if (rig.now == done_at) {
            pthread_mutex_unlock(&rig.gate);
            rig_await(cache, "l1_replaces", n_refreshes);
            pthread_mutex_lock(&rig.gate);
            done_at = PLN_FOREVER;
        }
        ck_assert_int_eq(pln_get(cache, pln_key("hot:1"), NULL, &result), PLN_OK);
        ck_assert_str_eq(pln_source_name(result.source), "l1");
        ck_assert_int_gt(result.left_ms, 0);
        pln_release(cache, result.value);
        if (rig_stat(cache, "refreshes") > n_refreshes) {
            n_refreshes++;
            rig_await(cache, "loads", n_refreshes + 1);
            done_at = rig.now + LOAD_MS;
        }
    }
    pthread_mutex_unlock(&rig.gate);
    /* each refresh takes the place of about 0.93 of a ttl; there is none without a reason */
    ck_assert_uint_ge(n_refreshes, N_TTLS);
    ck_assert_uint_le(n_refreshes, N_TTLS * 5 / 4);
    ck_assert_uint_eq(rig_stat(cache, "loads_served"), 1);
    ck_assert_uint_eq(rig_stat(cache, "load_waits"), 0);
    ck_assert_uint_eq(rig_stat(cache, "stale_served"), 0);
    ck_assert_uint_eq(rig_stat(cache, "l1_hits"), TTL_MS * N_TTLS);
}
END_TEST

int main(void) {
    Suite *suite = suite_create("steady");
    TCase *tests = tcase_create("steady");
    suite_add_tcase(suite, tests);
    tcase_set_timeout(tests, 120);
    tcase_add_checked_fixture(tests, NULL, teardown);
    tcase_add_loop_test(tests, no_request_for_a_hot_key_waits_for_a_load, 0, 2);
    return rig_run(suite);
}
