/* SPDX-License-Identifier: MIT
 * test_races.c - what can go wrong between two caches and real servers, each shown by itself and
 * forced: fills and writes that overtake each other, links that are cut or deaf, messages that come
 * twice or late, servers that die, forget or are replaced too early. What each cache then reads,
 * where from, and what it counts. */
#include <stdio.h>

#include "../l2/proxy.h"
#include "../l2/row.h"
#include "rig.h"

static struct server server, second;
static struct proxy proxy;
static struct rig rig;
static struct pln_cache *a, *b; /* b goes through the proxy */

static pln_ms read_clock(void *arg) {
    return atomic_load(&((struct rig *) arg)->now);
}

static void no_log(void *arg, int level, const char *line) {
    (void) arg, (void) level, (void) line;
}

static struct pln_cache *open_cache(const char *url, pln_ms ping_ms, const char *on_lost_writes) {
    struct pln_cache *cache;
    struct pln_options options = {.ns = "ns",
                                  .redis = url,
                                  .timeout_ms = 5000,
                                  .ping_ms = ping_ms,
                                  .ttl_ms = 600000,
                                  .on_lost_writes = on_lost_writes,
                                  .clock = read_clock,
                                  .clock_arg = &rig,
                                  .log = no_log};
    ck_assert_msg(pln_open(&options, &cache) == PLN_OK, "%s", pln_error_text());
    rig_await(cache, "generation", 2);
    return cache;
}

static void set_up(const char *const *options, pln_ms ping_ms, const char *on_lost_writes) {
    memset(&rig, 0, sizeof rig);
    atomic_store(&rig.now, 1000000);
    pthread_mutex_init(&rig.gate, NULL);
    pln_test_redis_start(&server, options);
    pln_test_proxy_start(&proxy, server.path);
    a = open_cache(server.url, ping_ms, on_lost_writes);
    b = open_cache(proxy.url, ping_ms, on_lost_writes);
}

static void set_up_seldom(void) {
    set_up(NULL, 60000, NULL);
}

static void set_up_often(void) {
    set_up(NULL, 50, NULL);
}

static void tear_down(void) {
    pln_close(a);
    pln_close(b);
    pln_test_proxy_stop(&proxy);
    pln_test_redis_stop(&server);
}

/* Sets by one and has the other read it, so that both have it in L1. */
static void share(struct pln_cache *from, struct pln_cache *to, const char *key,
                  const char *value) {
    uint64_t heard = rig_stat(to, "bus_received");
    rig_set(from, key, value);
    rig_await(to, "bus_received", heard + 1);
    rig_expect(to, key, value, "l2");
    rig_expect(to, key, value, "l1");
}

/* A call on a thread of its own. */
struct call {
    pthread_t thread;
    struct pln_cache *cache;
    const char *key, *value; /* NULL: a get */
    char got[32];
    int status;
};

static void *run_call(void *arg) {
    struct call *call = arg;
    struct pln_result result = {0};
    if (call->value != NULL) {
        call->status = pln_set(call->cache, pln_key(call->key), pln_key(call->value), NULL);
    } else {
        call->status = pln_get(call->cache, pln_key(call->key), NULL, &result);
        if (call->status == PLN_OK) {
            snprintf(call->got, sizeof call->got, "%.*s", (int) result.len,
                     (const char *) pln_value_data(result.value));
            pln_release(call->cache, result.value);
        }
    }
    return NULL;
}

static void begin_call(struct call *call) {
    ck_assert_int_eq(pthread_create(&call->thread, NULL, run_call, call), 0);
}

static void end_call(struct call *call) {
    pthread_join(call->thread, NULL);
    ck_assert_msg(call->status == PLN_OK, "%s", pln_status_name(call->status));
}

/* ---- fills ---- */

START_TEST(a_loader_that_was_overtaken_by_a_write_is_kept_nowhere) {
    struct call get = {.cache = b, .key = "k:1"};
    rig_policy(&rig, b, rig_rule("k:{id}", pln_cache_terms(b), PLN_RULE_LOAD));
    pthread_mutex_lock(&rig.gate);
    begin_call(&get);
    for (pln_ns until = pln_deadline(10000); atomic_load(&rig.n_loads) < 1;) {
        ck_assert(pln_clock_precise() < until);
    }
    rig_set(a, "k:1", "written");
    pthread_mutex_unlock(&rig.gate);
    end_call(&get);
    ck_assert_str_eq(get.got, "loaded 1"); /* its caller asked before the write */
    rig_expect(b, "k:1", "written", "l2");
    rig_expect(b, "k:1", "written", "l1");
    rig_expect(a, "k:1", "written", "l1");
    ck_assert_int_eq(atomic_load(&rig.n_loads), 1);
}
END_TEST

START_TEST(an_answer_that_was_overtaken_by_a_message_is_not_kept) {
    struct call get = {.cache = b, .key = "k"};
    rig_expect(b, "k", NULL, "miss"); /* its connection is there now */
    rig_set(a, "k", "old");
    rig_await(b, "bus_received", 1);
    uint64_t heard = rig_stat(b, "bus_received"), refused = rig_stat(b, "fills_refused");
    row_command(&server, "CONFIG RESETSTAT");
    pln_test_proxy_mute(&proxy, true);
    begin_call(&get);
    for (pln_ns until = pln_deadline(10000);;) { /* until the server has answered it */
        char *stats = pln_test_redis_command(&server, "INFO commandstats");
        bool is_asked = strstr(stats, "cmdstat_get:") != NULL ||
                        strstr(stats, "cmdstat_mget:") != NULL;
        free(stats);
        ck_assert(pln_clock_precise() < until);
        if (is_asked) {
            break;
        }
    }
    rig_set(a, "k", "new");
    rig_await(b, "bus_received", heard + 1);
    pln_test_proxy_mute(&proxy, false);
    end_call(&get);
    ck_assert_str_eq(get.got, "old");
    ck_assert_uint_eq(rig_stat(b, "fills_refused"), refused + 1);
    rig_expect(b, "k", "new", "l2");
    rig_expect(b, "k", "new", "l1");
}
END_TEST

/* ---- two writers ---- */

START_TEST(of_two_writers_the_one_whose_command_comes_last_wins) {
    struct call set = {.cache = b, .key = "k", .value = "b's"};
    share(a, b, "k", "old");
    pln_test_proxy_hold(&proxy);
    begin_call(&set);
    rig_set(a, "k", "a's"); /* b's is held on its way */
    uint64_t heard = rig_stat(a, "bus_received");
    pln_test_proxy_release(&proxy);
    end_call(&set);
    rig_await(a, "bus_received", heard + 1);
    rig_expect(a, "k", "b's", "l2");
    struct pln_result result;
    ck_assert_int_eq(pln_get(b, pln_key("k"), NULL, &result), PLN_OK);
    ck_assert_uint_eq(result.len, 3);
    ck_assert_mem_eq(pln_value_data(result.value), "b's", 3);
    pln_release(b, result.value);
}
END_TEST

START_TEST(a_writer_whose_answer_comes_after_anothers_message_does_not_keep_its_own) {
    struct call set = {.cache = b, .key = "k", .value = "b's"};
    share(a, b, "k", "old");
    uint64_t heard_a = rig_stat(a, "bus_received"), heard_b = rig_stat(b, "bus_received");
    pln_test_proxy_mute(&proxy, true);
    begin_call(&set);
    rig_await(a, "bus_received", heard_a + 1); /* b's is in Redis, and b does not know */
    rig_set(a, "k", "a's");
    rig_await(b, "bus_received", heard_b + 1);
    pln_test_proxy_mute(&proxy, false);
    end_call(&set);
    rig_expect(b, "k", "a's", "l2");
    rig_expect(b, "k", "a's", "l1");
    rig_expect(a, "k", "a's", "l1");
}
END_TEST

/* ---- links ---- */

START_TEST(behind_a_cut_that_nobody_tells_of_staleness_is_bounded) {
    share(a, b, "k", "old");
    share(a, b, "other", "o");
    uint64_t generation = rig_stat(b, "generation");
    pln_test_proxy_link(&proxy, PROXY_CUT);
    rig_set(a, "k", "new");
    rig_await(b, "bus_losses", 1);
    ck_assert_uint_eq(rig_stat(b, "generation"), generation + 1);
    rig_expect(b, "k", "old", "l1"); /* no longer than max_staleness after it was current */
    atomic_fetch_add(&rig.now, 1001);
    rig_expect(b, "k", "new", "l2");
    rig_expect(b, "other", "o", "l2");
    pln_test_proxy_link(&proxy, PROXY_HEARS);
    rig_await(b, "bus_repairs", 1);
    ck_assert_uint_eq(rig_stat(b, "generation"), generation);
    rig_expect(b, "k", "new", "l2"); /* what was filled in a gap does not outlast it */
    rig_expect(b, "k", "new", "l1");
}
END_TEST

START_TEST(what_a_deaf_link_did_not_hear_is_found_missing_and_heard_from_the_log) {
    share(a, b, "k", "old");
    share(a, b, "other", "o");
    uint64_t generation = rig_stat(b, "generation");
    pln_test_proxy_link(&proxy, PROXY_DEAF);
    rig_set(a, "k", "new");
    rig_await(b, "bus_gaps", 1);
    pln_test_proxy_link(&proxy, PROXY_HEARS);
    rig_await(b, "bus_repairs", 1);
    ck_assert_uint_eq(rig_stat(b, "generation"), generation);
    rig_expect(b, "k", "new", "l2");
    rig_expect(b, "other", "o", "l1");
}
END_TEST

START_TEST(doubled_and_late_messages_cost_a_read_and_bring_nothing_back) {
    uint8_t bytes[64];
    share(a, b, "k", "one");
    uint64_t number = row_number(&server, "HGET ns:tags @");
    share(a, b, "k", "two");
    uint64_t generation = rig_stat(b, "generation"), heard = rig_stat(b, "bus_received");
    size_t len = row_message(bytes, "k", number);
    row_publish(&server, bytes, len);
    len = row_message(bytes, "k", number + 1);
    row_publish(&server, bytes, len);
    row_publish(&server, bytes, row_message(bytes, "k", number));
    rig_await(b, "bus_received", heard + 3);
    rig_expect(b, "k", "two", "l2");
    rig_expect(b, "k", "two", "l1");
    ck_assert_uint_eq(rig_stat(b, "bus_old"), 3);
    ck_assert_uint_eq(rig_stat(b, "bus_gaps"), 0);
    ck_assert_uint_eq(rig_stat(b, "generation"), generation);
}
END_TEST

/* ---- servers ---- */

static void restart(void) {
    pln_test_redis_kill(&server);
    rig_await(a, "bus_losses", 1);
    rig_await(b, "bus_losses", 1);
    pln_test_redis_restart(&server);
}

START_TEST(a_restart_that_forgets_nothing_leaves_all_in_l1) {
    const char *options[] = {"--appendonly", "yes", "--appendfsync", "always", NULL};
    set_up(options, 60000, NULL);
    share(a, b, "k", "v");
    uint64_t generation = rig_stat(b, "generation");
    restart();
    rig_await(a, "bus_repairs", 1);
    rig_await(b, "bus_repairs", 1);
    ck_assert_uint_eq(rig_stat(b, "generation"), generation);
    rig_expect(a, "k", "v", "l1");
    rig_expect(b, "k", "v", "l1");
    tear_down();
}
END_TEST

static void await_anew(struct pln_cache *cache, uint64_t generation) {
    rig_await(cache, "generation", generation + 2);
    ck_assert_uint_eq(rig_stat(cache, "generation") % 2, 0);
    ck_assert_uint_eq(rig_stat(cache, "bus_repairs"), 0);
}

START_TEST(a_restart_that_forgets_everything_leaves_nothing) {
    set_up(NULL, 60000, NULL);
    share(a, b, "k", "v");
    uint64_t generation_a = rig_stat(a, "generation"), generation_b = rig_stat(b, "generation");
    restart();
    await_anew(a, generation_a);
    await_anew(b, generation_b);
    rig_expect(a, "k", NULL, "miss");
    rig_expect(b, "k", NULL, "miss");
    ck_assert_uint_eq(rig_stat(b, "bus_lost_writes"), 0);
    tear_down();
}
END_TEST

/* The second server has "old" where the first had acknowledged "new", and b had read it. */
static void fail_over(const char *on_lost_writes) {
    char line[64];
    int port = pln_test_free_port();
    set_up(NULL, 60000, on_lost_writes);
    snprintf(line, sizeof line, "CONFIG SET port %d", port);
    row_command(&server, line);
    pln_test_redis_start(&second, NULL);
    snprintf(line, sizeof line, "REPLICAOF 127.0.0.1 %d", port);
    row_command(&second, line);
    share(a, b, "k", "old");
    for (pln_ns until = pln_deadline(30000); row_number(&second, "EXISTS ns:v:k") == 0;) {
        ck_assert(pln_clock_precise() < until);
    }
    row_command(&second, "REPLICAOF NO ONE");
    share(a, b, "k", "new");
    uint64_t generation = rig_stat(b, "generation");
    pln_test_redis_kill(&server);
    rig_await(b, "bus_losses", 1);
    pln_test_proxy_lead_to(&proxy, second.path);
    await_anew(b, generation);
    ck_assert_uint_eq(rig_stat(b, "bus_lost_writes"), 1);
}

START_TEST(a_failover_that_loses_writes_brings_back_nothing_old) {
    fail_over(NULL);
    rig_expect(b, "k", NULL, "miss");
    rig_set(b, "k", "after");
    rig_expect(b, "k", "after", "l1");
    pln_test_redis_stop(&second);
    tear_down();
}
END_TEST

START_TEST(where_redis_is_the_source_a_failover_goes_back_to_what_it_has) {
    fail_over("keep");
    rig_expect(b, "k", "old", "l2");
    rig_expect(b, "k", "old", "l1");
    pln_test_redis_stop(&second);
    tear_down();
}
END_TEST

int main(void) {
    Suite *suite = suite_create("races");
    TCase *tests = tcase_create("order");
    suite_add_tcase(suite, tests);
    tcase_add_checked_fixture(tests, set_up_seldom, tear_down);
    tcase_set_timeout(tests, 60);
    tcase_add_test(tests, a_loader_that_was_overtaken_by_a_write_is_kept_nowhere);
    tcase_add_test(tests, an_answer_that_was_overtaken_by_a_message_is_not_kept);
    tcase_add_test(tests, of_two_writers_the_one_whose_command_comes_last_wins);
    tcase_add_test(tests, a_writer_whose_answer_comes_after_anothers_message_does_not_keep_its_own);
    tcase_add_test(tests, doubled_and_late_messages_cost_a_read_and_bring_nothing_back);
    TCase *links = tcase_create("links");
    suite_add_tcase(suite, links);
    tcase_add_checked_fixture(links, set_up_often, tear_down);
    tcase_set_timeout(links, 60);
    tcase_add_test(links, behind_a_cut_that_nobody_tells_of_staleness_is_bounded);
    tcase_add_test(links, what_a_deaf_link_did_not_hear_is_found_missing_and_heard_from_the_log);
    TCase *servers = tcase_create("servers");
    suite_add_tcase(suite, servers);
    tcase_set_timeout(servers, 60);
    tcase_add_test(servers, a_restart_that_forgets_nothing_leaves_all_in_l1);
    tcase_add_test(servers, a_restart_that_forgets_everything_leaves_nothing);
    tcase_add_test(servers, a_failover_that_loses_writes_brings_back_nothing_old);
    tcase_add_test(servers, where_redis_is_the_source_a_failover_goes_back_to_what_it_has);
    SRunner *runner = srunner_create(suite);
    srunner_run_all(runner, CK_ENV);
    int failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed == 0 ? 0 : 1;
}
