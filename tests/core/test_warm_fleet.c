/* SPDX-License-Identifier: MIT
 * test_warm_fleet.c - core/warm_fleet.c, previous.c: instances over one real Redis that warm at
 * once, die, and tell the next ones what was hot. */
#include "rig.h"
#include "../../core/warm.h"
#include "../l2/server.h"

#include <sched.h>
#include <stdio.h>
#include <unistd.h>

enum { N_KEYS = 300 };

static struct server server;
static struct rig rig; /* for its rules and loader; the caches here have the system's clock */

static void no_log(void *arg, int level, const char *line) {
    (void) arg;
    (void) level;
    (void) line;
}

static struct pln_cache *open_cache(void) {
    struct pln_cache *cache;
    struct pln_options options = {.ns = "t",
                                  .redis = server.url,
                                  .timeout_ms = 2000,
                                  .ping_ms = 1000,
                                  .ttl_ms = 600000,
                                  .log = no_log};
    ck_assert_msg(pln_open(&options, &cache) == PLN_OK, "%s", pln_error_text());
    rig_policy(&rig, cache, rig_rule("k:{id}", pln_cache_terms(cache), PLN_RULE_LOAD));
    rig_await(cache, "generation", 2); /* the cache has heard that the link is live */
    return cache;
}

static void setup(void) {
    pln_test_redis_start(&server, NULL);
    memset(&rig, 0, sizeof rig);
    pthread_mutex_init(&rig.gate, NULL);
}

static void teardown(void) {
    pln_test_redis_stop(&server);
}

static void plan(struct pln_cache *cache, enum pln_warm_kind kind, const char *name) {
    struct pln_warm_plan *warm = &cache->policy->warm;
    warm->sources = realloc(warm->sources, (warm->n_sources + 1) * sizeof *warm->sources);
    warm->sources[warm->n_sources++] = (struct pln_warm_source){
        .kind = kind, .name = name != NULL ? strdup(name) : NULL, .top = 1000};
}

static void plan_keys(struct pln_cache *cache) {
    plan(cache, PLN_WARM_KEYS, NULL);
    struct pln_warm_source *source = &cache->policy->warm.sources[0];
    source->keys = calloc(N_KEYS, sizeof *source->keys);
    source->top = 0;
    for (size_t i = 0; i < N_KEYS; i++) {
        char key[32];
        int len = snprintf(key, sizeof key, "k:%zu", i);
        source->keys[source->n_keys++] = pln_bytes_of(strdup(key), (size_t) len);
    }
}

/* Sends words apart by spaces; an integer answer, a number as text, or -1. */
static double redis(struct pln_cache *cache, const char *words) {
    char text[256], *rest = NULL;
    struct pln_bytes args[8];
    size_t n = 0;
    struct pln_answer *answer;
    snprintf(text, sizeof text, "%s", words);
    for (char *word = strtok_r(text, " ", &rest); word != NULL; word = strtok_r(NULL, " ", &rest)) {
        args[n++] = pln_key(word);
    }
    ck_assert_msg(pln_command(cache, NULL, args, n, 0, &answer) == PLN_OK, "%s: %s", words,
                  pln_error_text());
    int kind = pln_answer_kind(answer);
    double number = kind == PLN_ANSWER_INTEGER  ? (double) pln_answer_integer(answer)
                    : kind == PLN_ANSWER_NUMBER ? pln_answer_number(answer)
                    : kind == PLN_ANSWER_STRING ? strtod(pln_answer_bytes(answer).data, NULL)
                                                : -1;
    pln_answer_free(answer);
    return number;
}

/* The name of what the instances meet at. */
static void find_meeting(struct pln_cache *cache, char *name, size_t size) {
    struct pln_bytes args[] = {pln_key("KEYS"), pln_key("t:w:*")};
    struct pln_answer *answer;
    ck_assert_int_eq(pln_command(cache, NULL, args, 2, 0, &answer), PLN_OK);
    ck_assert_uint_eq(pln_answer_len(answer), 1);
    struct pln_bytes bytes = pln_answer_bytes(pln_answer_at(answer, 0));
    snprintf(name, size, "%.*s", (int) bytes.len, (const char *) bytes.data);
    pln_answer_free(answer);
}

static struct pln_warm_report report_of(struct pln_cache *cache) {
    struct pln_warm_report report;
    pln_ready(cache, &report);
    return report;
}

static void await_true(bool (*is_true)(struct pln_cache *), struct pln_cache *cache,
                       const char *what) {
    pln_ns deadline = pln_deadline(20000);
    while (!is_true(cache)) {
        ck_assert_msg(pln_clock_precise() < deadline, "%s", what);
        sched_yield();
    }
}

static bool follows(struct pln_cache *cache) {
    return report_of(cache).is_following;
}

static bool has_begun(struct pln_cache *cache) {
    return report_of(cache).wanted > 0;
}

static bool is_loading(struct pln_cache *cache) {
    (void) cache;
    return atomic_load(&rig.n_loads) > 0;
}

static bool is_ready(struct pln_cache *cache) {
    return pln_ready(cache, NULL);
}

START_TEST(of_instances_that_start_together_one_loads) {
    struct pln_cache *caches[3];
    for (int i = 0; i < 3; i++) {
        caches[i] = open_cache();
        plan_keys(caches[i]);
    }
    pthread_mutex_lock(&rig.gate); /* the first is in the midst of it when the others come */
    ck_assert_int_eq(pln_warm_start(caches[0], NULL), PLN_OK);
    await_true(is_loading, NULL, "nobody loads");
    for (int i = 1; i < 3; i++) {
        ck_assert_int_eq(pln_warm_start(caches[i], NULL), PLN_OK);
        await_true(follows, caches[i], "it does not follow");
    }
    pthread_mutex_unlock(&rig.gate);
    for (int i = 0; i < 3; i++) {
        await_true(is_ready, caches[i], "it does not become ready");
        struct pln_result result;
        ck_assert_int_eq(pln_peek(caches[i], pln_key("k:299"), &result), PLN_OK);
        pln_release(caches[i], result.value);
    }
    ck_assert_uint_eq(report_of(caches[0]).loaded, N_KEYS);
    ck_assert_uint_eq(report_of(caches[1]).present, N_KEYS);
    ck_assert_uint_eq(report_of(caches[2]).present, N_KEYS);
    ck_assert_int_eq(rig.n_loads, N_KEYS);
    for (int i = 0; i < 3; i++) {
        pln_close(caches[i]);
    }
}
END_TEST

struct seen {
    bool has_followed, has_led;
};

static bool look(void *arg, const struct pln_warm_report *report) {
    struct seen *seen = arg;
    seen->has_followed = seen->has_followed || report->is_following;
    seen->has_led = seen->has_led || !report->is_following;
    return true;
}

START_TEST(where_the_leader_is_heard_of_no_more_another_goes_on) {
    struct pln_cache *cache = open_cache();
    struct seen seen = {false, false};
    struct pln_warm_options options = {.progress = look, .arg = &seen};
    struct pln_warm_report report;
    char meeting[128], words[256];
    plan_keys(cache);
    pthread_mutex_lock(&rig.gate);
    ck_assert_int_eq(pln_warm_start(cache, NULL), PLN_OK);
    await_true(is_loading, NULL, "nobody loads");
    find_meeting(cache, meeting, sizeof meeting);
    pthread_mutex_unlock(&rig.gate);
    await_true(is_ready, cache, "it does not become ready");
    pln_close(cache);
    cache = open_cache();
    plan_keys(cache);
    snprintf(words, sizeof words, "EXISTS %s", meeting);
    ck_assert_double_eq(redis(cache, words), 0); /* the lead was given back */
    ck_assert_int_eq(pln_clear(cache), PLN_OK);
    /* one that died, which says that it had done ten keys; Redis has none of them */
    snprintf(words, sizeof words, "HSET %s token dead done 10", meeting);
    redis(cache, words);
    snprintf(words, sizeof words, "PEXPIRE %s 1000", meeting);
    redis(cache, words);
    ck_assert_int_eq(pln_warm(cache, &options, &report), PLN_OK);
    ck_assert(seen.has_followed && seen.has_led);
    ck_assert_uint_eq(report.loaded, N_KEYS);
    ck_assert_int_eq(rig.n_loads, 2 * N_KEYS);
    pln_close(cache);
}
END_TEST

START_TEST(one_that_is_alone_asks_nobody) {
    struct pln_cache *a = open_cache(), *b = open_cache();
    struct pln_warm_options options = {.flags = PLN_WARM_ALONE};
    plan_keys(a);
    plan_keys(b);
    pthread_mutex_lock(&rig.gate);
    ck_assert_int_eq(pln_warm_start(a, NULL), PLN_OK);
    await_true(is_loading, NULL, "nobody loads");
    ck_assert_int_eq(pln_warm_start(b, &options), PLN_OK);
    await_true(has_begun, b, "it does not begin");
    ck_assert(!follows(b));
    pthread_mutex_unlock(&rig.gate);
    await_true(is_ready, a, "it does not become ready");
    await_true(is_ready, b, "it does not become ready");
    ck_assert_int_eq(rig.n_loads, N_KEYS); /* each under its own lease, as ever */
    pln_close(a);
    pln_close(b);
}
END_TEST

static void heat(struct pln_cache *cache, const char *key) {
    for (int i = 0; i < 20000; i++) {
        struct pln_result result;
        ck_assert_int_eq(pln_get(cache, pln_key(key), NULL, &result), PLN_OK);
        pln_release(cache, result.value);
    }
}

START_TEST(the_hottest_keys_of_those_that_stopped_are_warmed_by_the_next) {
    struct pln_warm_report report;
    struct pln_cache *cache = open_cache();
    plan(cache, PLN_WARM_PREVIOUS, NULL);
    ck_assert_int_eq(pln_warm(cache, NULL, &report), PLN_OK); /* there were none */
    ck_assert_uint_eq(report.wanted, 0);
    heat(cache, "k:1");
    heat(cache, "k:2");
    rig_set(cache, "session", "ended by then, and no rule loads it");
    heat(cache, "session");
    pln_close(cache);
    cache = open_cache();
    plan(cache, PLN_WARM_PREVIOUS, NULL);
    double score = redis(cache, "ZSCORE t:hot k:1");
    ck_assert(score > 10000 && score < 40000);
    ck_assert_double_gt(redis(cache, "PTTL t:hot"), 29.9 * 86400 * 1000);
    ck_assert_int_eq(pln_clear(cache), PLN_OK);
    ck_assert_int_eq(pln_warm(cache, NULL, &report), PLN_OK);
    ck_assert_uint_eq(report.loaded, 2);
    ck_assert_uint_eq(report.wanted, 2);
    ck_assert(report.is_ready);
    redis(cache, "PEXPIRE t:hot 2591400000"); /* as ten minutes later */
    heat(cache, "k:9");
    pln_close(cache);
    cache = open_cache();
    ck_assert_double_eq_tol(redis(cache, "ZSCORE t:hot k:1"), score / 2, score / 20);
    ck_assert_double_gt(redis(cache, "ZSCORE t:hot k:9"), 10000);
    redis(cache, "DEL t:hot");
    heat(cache, "k:1");
    pln_close(cache); /* whose policy has no `previous` */
    cache = open_cache();
    ck_assert_double_eq(redis(cache, "EXISTS t:hot"), 0);
    pln_close(cache);
}
END_TEST

static bool has_hot_keys(struct pln_cache *cache) {
    return redis(cache, "EXISTS t:hot") == 1;
}

START_TEST(an_instance_that_runs_saves_its_hottest_keys_when_it_is_time) {
    struct pln_cache *cache = open_cache();
    plan(cache, PLN_WARM_PREVIOUS, NULL);
    heat(cache, "k:1");
    ck_assert_double_eq(redis(cache, "EXISTS t:hot"), 0);
    atomic_store(&cache->save_hot_at, 1); /* a minute has passed */
    await_true(has_hot_keys, cache, "nothing is saved");
    ck_assert_double_gt(redis(cache, "ZSCORE t:hot k:1"), 10000);
    pln_close(cache);
}
END_TEST

START_TEST(a_set_keeps_no_more_keys_than_the_policy_wants) {
    struct pln_cache *cache = open_cache();
    plan(cache, PLN_WARM_PREVIOUS, NULL);
    cache->policy->warm.sources[0].top = 3;
    for (int i = 0; i < 5; i++) {
        char words[64];
        snprintf(words, sizeof words, "ZADD t:hot %d k:old%d", i + 1, i);
        redis(cache, words);
    }
    heat(cache, "k:1");
    pln_close(cache);
    cache = open_cache();
    ck_assert_double_eq(redis(cache, "ZCARD t:hot"), 3);
    ck_assert_double_eq(redis(cache, "ZRANK t:hot k:1"), 2); /* the last, so the highest */
    pln_close(cache);
}
END_TEST

START_TEST(a_sorted_set_is_warmed_from_its_highest_scores) {
    struct pln_cache *cache = open_cache();
    struct pln_warm_report report;
    redis(cache, "ZADD stats:hot 1 k:a 3 k:b 2 k:c");
    plan(cache, PLN_WARM_ZSET, "stats:hot");
    cache->policy->warm.sources[0].top = 2;
    cache->policy->warm.concurrency = 1;
    ck_assert_int_eq(pln_warm(cache, NULL, &report), PLN_OK);
    ck_assert_uint_eq(report.loaded, 2);
    rig_expect(cache, "k:b", "loaded 1", "l1");
    rig_expect(cache, "k:a", "loaded 3", "loaded");
    pln_close(cache);
}
END_TEST

START_TEST(with_redis_gone_each_is_for_itself) {
    struct pln_cache *cache = open_cache();
    struct pln_warm_report report;
    plan_keys(cache);
    pln_test_redis_stop(&server);
    ck_assert_int_eq(pln_warm(cache, NULL, &report), PLN_OK);
    ck_assert_uint_eq(report.loaded, N_KEYS);
    plan(cache, PLN_WARM_PREVIOUS, NULL);
    ck_assert_int_eq(pln_warm(cache, NULL, &report), PLN_OK); /* good to have, not promised */
    ck_assert_uint_eq(report.loaded + report.present, N_KEYS);
    pln_close(cache);
    pln_test_redis_start(&server, NULL);
}
END_TEST

int main(void) {
    Suite *suite = suite_create("warm_fleet");
    TCase *tests = tcase_create("warm_fleet");
    suite_add_tcase(suite, tests);
    tcase_set_timeout(tests, 120);
    tcase_add_checked_fixture(tests, setup, teardown);
    tcase_add_test(tests, of_instances_that_start_together_one_loads);
    tcase_add_test(tests, where_the_leader_is_heard_of_no_more_another_goes_on);
    tcase_add_test(tests, one_that_is_alone_asks_nobody);
    tcase_add_test(tests, the_hottest_keys_of_those_that_stopped_are_warmed_by_the_next);
    tcase_add_test(tests, an_instance_that_runs_saves_its_hottest_keys_when_it_is_time);
    tcase_add_test(tests, a_set_keeps_no_more_keys_than_the_policy_wants);
    tcase_add_test(tests, a_sorted_set_is_warmed_from_its_highest_scores);
    tcase_add_test(tests, with_redis_gone_each_is_for_itself);
    return rig_run(suite);
}
