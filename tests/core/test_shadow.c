/* SPDX-License-Identifier: MIT
 *
 * test_shadow.c - a candidate policy beside the live one: it is told what happens to the sampled
 * keys, and changes nothing of it.
 */
#include "../../core/shadow.h"
#include "rig.h"

#include <sched.h>
#include <stdio.h>
#include <sys/wait.h>
#include <unistd.h>

static struct rig rig;
static struct pln_cache *live, *candidate;
static struct pln_shadow_report report;

static struct pln_terms terms_of(pln_ms ttl, pln_ms stale) {
    struct pln_terms terms = *pln_cache_terms(live);
    terms.ttl_ms = ttl;
    terms.stale_ms = stale;
    return terms;
}

static void begin(size_t max_bytes) {
    struct pln_options options = {.max_bytes = max_bytes, .ttl_ms = 10000};
    rig_open(&rig, 1, false, &options);
    live = rig.caches[0];
}

/* A candidate of one rule, for all keys. */
static struct pln_shadow *candidate_of(double sample, pln_ms ttl, pln_ms stale, uint32_t hooks) {
    struct pln_shadow *shadow;
    struct pln_terms terms = terms_of(ttl, stale);
    ck_assert_msg(pln_shadow_new(live, sample, &shadow) == PLN_OK, "%s", pln_error_text());
    candidate = pln_shadow_candidate(shadow);
    rig_policy(&rig, candidate, rig_rule("*", &terms, hooks));
    return shadow;
}

static void shadow_by(double sample, pln_ms ttl, pln_ms stale) {
    pln_shadow_start_take(live, candidate_of(sample, ttl, stale, PLN_RULE_LOAD));
}

/* Waits until the candidate has played so many reads, which is also when it has done what it was
 * told before the last of them. */
static void await_reads(uint64_t n) {
    pln_ns deadline = pln_deadline(30000);
    do {
        ck_assert_msg(pln_clock_precise() < deadline, "it stays at %llu reads, not %llu",
                      (unsigned long long) report.candidate.requests, (unsigned long long) n);
        sched_yield();
        ck_assert_int_eq(pln_shadow_report(live, &report), PLN_OK);
    } while (report.candidate.requests < n);
    ck_assert_uint_eq(report.candidate.requests, n);
    ck_assert_uint_eq(report.live.requests, n);
}

static int load_text(void *arg, struct pln_bytes key, struct pln_load *load) {
    (void) key;
    atomic_fetch_add(&rig.n_loads, 1);
    return pln_load_value(load, pln_key(arg), 0);
}

static void get_loading(const char *key, const char *value) {
    struct pln_result result;
    char text[64];
    snprintf(text, sizeof text, "%s", value);
    ck_assert_int_eq(pln_get_or_load(live, pln_key(key), NULL, load_text, text, &result), PLN_OK);
    pln_release(live, result.value);
}

START_TEST(both_sides_count_the_same_reads) {
    begin(8 << 20);
    shadow_by(1, 60000, 0);
    get_loading("a", "four");
    get_loading("a", "four");
    await_reads(2); /* each has its answer before the clock goes on */
    atomic_fetch_add(&rig.now, 20000);
    get_loading("a", "longer");
    await_reads(3);
    ck_assert_uint_eq(report.live.hits, 1);
    ck_assert_uint_eq(report.live.waited, 2);
    ck_assert_uint_eq(report.live.fetches, 2);
    ck_assert_uint_eq(report.live.fetched_bytes, 10);
    ck_assert_uint_eq(report.candidate.hits, 2);
    ck_assert_uint_eq(report.candidate.waited, 1);
    ck_assert_uint_eq(report.candidate.fetches, 1);
    ck_assert_uint_eq(report.candidate.fetched_bytes, 4);
    ck_assert_int_eq(atomic_load(&rig.n_loads), 2); /* nothing is loaded for the candidate */
    ck_assert_int_eq(report.took_ms, 20000);
    rig_close(&rig);
}
END_TEST

START_TEST(what_the_candidate_would_serve_stale_is_counted_so) {
    begin(8 << 20);
    shadow_by(1, 10000, 60000);
    get_loading("a", "value");
    await_reads(1);
    atomic_fetch_add(&rig.now, 15000);
    get_loading("a", "value");
    await_reads(2);
    ck_assert_uint_eq(report.live.waited, 2);
    ck_assert_uint_eq(report.candidate.stale, 1);
    get_loading("a", "value"); /* by then it was loaded behind */
    await_reads(3);
    ck_assert_uint_eq(report.candidate.hits, 1);
    ck_assert_uint_eq(report.candidate.fetches, 2);
    rig_close(&rig);
}
END_TEST

START_TEST(a_sample_has_its_share_of_keys_and_bytes) {
    enum { N_KEYS = 20000 };
    char key[16];
    uint64_t n_sampled = 0;
    begin(64 << 20);
    shadow_by(0.1, 10000, 0);
    for (int i = 0; i < 2 * N_KEYS; i++) {
        struct pln_hashed hashed;
        snprintf(key, sizeof key, "k%d", i % N_KEYS);
        get_loading(key, "value");
        ck_assert_int_eq(pln_cache_key(live, pln_key(key), &hashed), PLN_OK);
        n_sampled += pln_shadow_samples(live, hashed.hash);
        if (i % 4096 == 0) {
            await_reads(n_sampled); /* so that none is dropped */
        }
    }
    await_reads(n_sampled);
    ck_assert_uint_ge(n_sampled, 2 * N_KEYS / 100 * 9);
    ck_assert_uint_le(n_sampled, 2 * N_KEYS / 100 * 11);
    ck_assert_uint_eq(report.candidate.hits, n_sampled / 2); /* the same keys again */
    ck_assert_uint_eq(report.l1_entries, n_sampled / 2);
    ck_assert_uint_eq(report.max_bytes, (64 << 20) / 10);
    ck_assert_uint_eq(report.dropped, 0);
    rig_close(&rig);
}
END_TEST

/* Reads "a" of both, after what was done to it; says whether the candidate had it. */
static bool candidate_has(uint64_t n) {
    uint64_t hits = report.candidate.hits;
    get_loading("a", "value");
    await_reads(n);
    return report.candidate.hits > hits;
}

START_TEST(what_is_void_for_the_live_one_is_for_the_candidate) {
    struct pln_bytes key = pln_key("a"), tag = pln_key("shaped");
    begin(8 << 20);
    pln_shadow_start_take(live, candidate_of(1, 60000, 0, PLN_RULE_LOAD | PLN_RULE_TAGS));
    uint64_t n = 0;
    ck_assert(!candidate_has(++n));
    ck_assert(candidate_has(++n));
    ck_assert_int_eq(pln_delete(live, key), PLN_OK);
    ck_assert(!candidate_has(++n));
    ck_assert_int_eq(pln_expire(live, key), PLN_OK);
    ck_assert(!candidate_has(++n));
    ck_assert_int_eq(pln_invalidate_prefix(live, key), PLN_OK);
    ck_assert(!candidate_has(++n));
    ck_assert_int_eq(pln_invalidate_pattern(live, pln_key("*a")), PLN_OK);
    ck_assert(!candidate_has(++n));
    ck_assert_int_eq(pln_invalidate_pattern(live, pln_key("*b")), PLN_OK);
    ck_assert(candidate_has(++n));
    ck_assert_int_eq(pln_clear(live), PLN_OK);
    ck_assert(!candidate_has(++n));
    ck_assert_int_eq(pln_invalidate_tag(live, tag), PLN_OK); /* which its rule gives */
    ck_assert(!candidate_has(++n));
    ck_assert_int_eq(pln_delete_many(live, &key, 1), PLN_OK);
    ck_assert(!candidate_has(++n));
    ck_assert(candidate_has(++n));
    rig_close(&rig);
}
END_TEST

START_TEST(sets_and_touches_are_played_too) {
    begin(8 << 20);
    shadow_by(1, 20000, 0);
    rig_set(live, "a", "set");
    get_loading("a", "not asked");
    await_reads(1);
    ck_assert_uint_eq(report.candidate.hits, 1);
    ck_assert_uint_eq(report.candidate.fetches, 0);
    ck_assert_int_eq(pln_touch(live, pln_key("a"), 100000), PLN_OK);
    get_loading("a", "not asked");
    await_reads(2);
    atomic_fetch_add(&rig.now, 90000);
    get_loading("a", "not asked");
    await_reads(3);
    ck_assert_uint_eq(report.live.hits, 3);
    ck_assert_uint_eq(report.candidate.hits, 3);
    rig_close(&rig);
}
END_TEST

START_TEST(many_keys_absences_and_misses_are_counted) {
    struct pln_bytes keys[] = {pln_key("a"), pln_key("b")};
    struct pln_result results[2];
    int statuses[2];
    begin(8 << 20);
    struct pln_terms terms = terms_of(10000, 0);
    rig_policy(&rig, live, rig_rule("none:*", &terms, PLN_RULE_LOAD));
    shadow_by(1, 60000, 0);
    rig_set(live, "a", "set");
    ck_assert_int_eq(pln_get_many(live, keys, 2, NULL, results, statuses), PLN_OK);
    pln_release(live, results[0].value);
    await_reads(2);
    ck_assert_uint_eq(report.candidate.hits, 1);
    ck_assert_uint_eq(report.candidate.misses, 1);
    ck_assert_uint_eq(report.live.misses, 1);
    atomic_store(&rig.load_status, PLN_ABSENT);
    rig_expect(live, "none:1", NULL, "negative");
    rig_expect(live, "none:1", NULL, "negative");
    await_reads(4);
    ck_assert_uint_eq(report.live.waited, 1);
    ck_assert_uint_eq(report.candidate.waited, 1);
    ck_assert_uint_eq(report.live.hits, 2);
    ck_assert_uint_eq(report.candidate.hits, 2);
    rig_close(&rig);
}
END_TEST

START_TEST(a_failure_keeps_its_text) {
    struct pln_result result;
    begin(8 << 20);
    struct pln_terms terms = terms_of(10000, 0);
    rig_policy(&rig, live, rig_rule("*", &terms, PLN_RULE_LOAD));
    shadow_by(1, 60000, 0);
    atomic_store(&rig.load_status, PLN_ELOADER);
    ck_assert_int_eq(pln_get(live, pln_key("a"), NULL, &result), PLN_ELOADER);
    ck_assert_str_eq(pln_error_text(), "the source is out of order");
    await_reads(1);
    ck_assert_uint_eq(report.live.failures, 1);
    ck_assert_uint_eq(report.candidate.failures, 1);
    rig_close(&rig);
}
END_TEST

static pthread_mutex_t gate = PTHREAD_MUTEX_INITIALIZER;

static int wait_at_gate(void *arg, unsigned worker, const struct pln_match *match,
                        struct pln_bytes key, struct pln_bytes value, uint8_t format,
                        struct pln_load *load) {
    (void) arg, (void) worker, (void) match, (void) key, (void) value, (void) format, (void) load;
    pthread_mutex_lock(&gate);
    pthread_mutex_unlock(&gate);
    return PLN_OK;
}

START_TEST(a_candidate_that_hangs_keeps_nobody_waiting) {
    begin(8 << 20);
    struct pln_shadow *shadow = candidate_of(1, 60000, 0, PLN_RULE_LOAD | PLN_RULE_TTL);
    candidate->policy->hooks.shape = wait_at_gate;
    pthread_mutex_lock(&gate);
    pln_shadow_start_take(live, shadow);
    for (int i = 0; i < 10000; i++) {
        get_loading("a", "value");
    }
    ck_assert_int_eq(pln_shadow_report(live, &report), PLN_OK);
    ck_assert_uint_gt(report.dropped, 1000);
    ck_assert_uint_gt(report.waiting, 8000);
    pthread_mutex_unlock(&gate);
    await_reads(10000 - report.dropped);
    rig_close(&rig);
}
END_TEST

static size_t describe(const struct pln_terms *terms, char *buffer, size_t size) {
    return (size_t) snprintf(buffer, size, "ttl %d\nstale %d\n", (int) terms->ttl_ms,
                             (int) terms->stale_ms);
}

START_TEST(terms_that_differ_are_told_by_pairs_of_rules) {
    char text[1024];
    begin(8 << 20);
    struct pln_terms terms = terms_of(10000, 0);
    rig_policy(&rig, live, rig_rule("a*", &terms, 0));
    struct pln_shadow *shadow = candidate_of(1, 60000, 0, PLN_RULE_LOAD);
    candidate->policy->hooks.describe = describe;
    pln_shadow_start_take(live, shadow);
    get_loading("a1", "value");
    get_loading("a2", "value");
    get_loading("b", "value");
    await_reads(3);
    ck_assert_uint_eq(report.differing, 3);
    size_t len = pln_shadow_terms(live, text, sizeof text);
    ck_assert_str_eq(text, "2 requests: a1 and others: rule 'a*' (test:1), candidate rule '*' "
                           "(test:1)\n"
                           "  ttl 10000, candidate 60000\n"
                           "  load by no function, candidate by a function\n"
                           "1 request: b and others: no rule, candidate rule '*' (test:1)\n"
                           "  ttl 10000, candidate 60000\n"
                           "  load by no function, candidate by a function\n");
    ck_assert_uint_eq(len, strlen(text));
    ck_assert_uint_eq(pln_shadow_terms(live, text, 10), len);
    ck_assert_str_eq(text, "2 request");
    rig_policy(&rig, live, rig_rule("*", &terms, PLN_RULE_LOAD)); /* it begins anew */
    get_loading("b", "value");
    await_reads(4);
    ck_assert_uint_eq(report.differing, 4);
    pln_shadow_terms(live, text, sizeof text);
    ck_assert_str_eq(text, "1 request: b and others: rule '*' (test:1), candidate rule '*' "
                           "(test:1)\n  ttl 10000, candidate 60000\n");
    rig_close(&rig);
}
END_TEST

static _Atomic bool is_over;

static void *read_on(void *arg) {
    char key[16];
    unsigned i = 0;
    (void) arg;
    while (!atomic_load(&is_over)) {
        snprintf(key, sizeof key, "k%u", i++ % 100);
        get_loading(key, "value");
        if (i % 64 == 0) {
            pln_delete(live, pln_key(key));
            pln_invalidate_tag(live, pln_key("tag"));
            pln_shadow_report(live, &(struct pln_shadow_report){0});
        }
    }
    return NULL;
}

START_TEST(it_comes_and_goes_under_load) {
    pthread_t threads[4];
    begin(8 << 20);
    atomic_store(&is_over, false);
    for (size_t i = 0; i < PLN_ARRAY_LEN(threads); i++) {
        ck_assert_int_eq(pthread_create(&threads[i], NULL, read_on, NULL), 0);
    }
    for (int i = 0; i < 30; i++) {
        shadow_by(0.5, 60000, 0);
        pln_ns deadline = pln_deadline(30000);
        do {
            ck_assert(pln_clock_precise() < deadline);
            ck_assert_int_eq(pln_shadow_report(live, &report), PLN_OK);
        } while (report.candidate.requests < 10);
        if (i % 3 == 0) {
            pln_shadow_end(live);
            ck_assert_int_eq(pln_shadow_report(live, &report), PLN_MISS);
        }
    }
    atomic_store(&is_over, true);
    for (size_t i = 0; i < PLN_ARRAY_LEN(threads); i++) {
        pthread_join(threads[i], NULL);
    }
    rig_close(&rig);
}
END_TEST

#ifndef __SANITIZE_THREAD__
START_TEST(a_child_goes_on_without) {
    begin(8 << 20);
    shadow_by(1, 60000, 0);
    get_loading("a", "value");
    pid_t child = fork();
    if (child == 0) {
        struct pln_result result;
        int status = pln_get(live, pln_key("a"), NULL, &result);
        pln_release(live, result.value);
        bool is_good = status == PLN_OK && pln_shadow_report(live, &report) == PLN_OK;
        pln_close(live);
        _exit(is_good ? 0 : 1);
    }
    int exit_status;
    ck_assert_int_eq(waitpid(child, &exit_status, 0), child);
    ck_assert_int_eq(exit_status, 0);
    get_loading("a", "value");
    await_reads(2);
    rig_close(&rig);
}
END_TEST

#endif

START_TEST(a_wrong_sample_is_refused) {
    struct pln_shadow *shadow;
    begin(8 << 20);
    ck_assert_int_eq(pln_shadow_new(live, 1.5, &shadow), PLN_EINVAL);
    ck_assert_int_eq(pln_shadow_new(live, -0.1, &shadow), PLN_EINVAL);
    ck_assert_int_eq(pln_shadow_report(live, &report), PLN_MISS);
    pln_shadow_end(live);
    rig_close(&rig);
}
END_TEST

int main(void) {
    Suite *suite = suite_create("shadow");
    TCase *tests = tcase_create("shadow");
    tcase_set_timeout(tests, 60);
    tcase_add_test(tests, both_sides_count_the_same_reads);
    tcase_add_test(tests, what_the_candidate_would_serve_stale_is_counted_so);
    tcase_add_test(tests, a_sample_has_its_share_of_keys_and_bytes);
    tcase_add_test(tests, what_is_void_for_the_live_one_is_for_the_candidate);
    tcase_add_test(tests, sets_and_touches_are_played_too);
    tcase_add_test(tests, many_keys_absences_and_misses_are_counted);
    tcase_add_test(tests, a_failure_keeps_its_text);
    tcase_add_test(tests, a_candidate_that_hangs_keeps_nobody_waiting);
    tcase_add_test(tests, terms_that_differ_are_told_by_pairs_of_rules);
    tcase_add_test(tests, it_comes_and_goes_under_load);
#ifndef __SANITIZE_THREAD__ /* which does not follow a process with threads into a child */
    tcase_add_test(tests, a_child_goes_on_without);
#endif
    tcase_add_test(tests, a_wrong_sample_is_refused);
    suite_add_tcase(suite, tests);
    return rig_run(suite);
}
