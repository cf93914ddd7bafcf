/* SPDX-License-Identifier: MIT
 * test_redis.c - the whole engine over a real redis-server: fan-out, and what becomes of requests
 * when the server dies, falls silent, or comes back. */
#include "rig.h"
#include "../l2/server.h"

#include <arpa/inet.h>
#include <stdio.h>
#include <unistd.h>

static struct server server;
static struct rig rig; /* for its rules and loader; the caches here have the system's clock */
static struct pln_cache *a, *b;

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
                                  .ping_ms = 500,
                                  .ttl_ms = 600000,
                                  .log = no_log};
    ck_assert_msg(pln_open(&options, &cache) == PLN_OK, "%s", pln_error_text());
    rig_await(cache, "generation", 2); /* the cache has heard that the link is live */
    return cache;
}

static void setup(void) {
    pln_test_redis_start(&server, NULL);
    memset(&rig, 0, sizeof rig);
    pthread_mutex_init(&rig.gate, NULL);
    a = open_cache();
    b = open_cache();
}

static void teardown(void) {
    pln_close(a);
    pln_close(b);
    pln_test_redis_stop(&server);
}

static void load_by_rule(struct pln_cache *cache) {
    rig_policy(&rig, cache, rig_rule("k:{id}", pln_cache_terms(cache), PLN_RULE_LOAD));
}

/* Sets a value on `a` and waits until `b` has heard of it, so that a copy which `b` then takes is
 * not made void by a message still on its way. */
static void set_and_hear(const char *key, const char *value) {
    uint64_t heard = rig_stat(b, "bus_received");
    rig_set(a, key, value);
    rig_await(b, "bus_received", heard + 1);
}

/* Reads until a value is the one expected: what others wrote arrives a moment later. */
static void await_value(struct pln_cache *cache, const char *key, const char *value) {
    pln_ns deadline = pln_deadline(10000);
    bool is_there = false;
    while (!is_there) {
        struct pln_result result;
        int status = pln_get(cache, pln_key(key), NULL, &result);
        is_there = value == NULL ? status == PLN_MISS
                                 : status == PLN_OK && result.len == strlen(value) &&
                                       memcmp(pln_value_data(result.value), value, result.len) == 0;
        pln_release(cache, result.value);
        ck_assert_msg(pln_clock_precise() < deadline, "%s is not %s (%s)", key,
                      value != NULL ? value : "gone", pln_status_name(status));
    }
}

/* L1 serves for a while after the link was lost; then only as what it is. */
static void await_stale(struct pln_cache *cache, const char *key, const char *value) {
    const char *source = "";
    pln_ns deadline = pln_deadline(10000);
    while (strcmp(source, "stale") != 0) {
        struct pln_result result;
        ck_assert_int_eq(pln_get(cache, pln_key(key), NULL, &result), PLN_OK);
        ck_assert(result.len == strlen(value) &&
                  memcmp(pln_value_data(result.value), value, result.len) == 0);
        source = pln_source_name(result.source);
        pln_release(cache, result.value);
        ck_assert(pln_clock_precise() < deadline);
    }
}

START_TEST(what_one_writes_the_other_sees) {
    set_and_hear("k", "one");
    rig_expect(b, "k", "one", "l2");
    rig_expect(b, "k", "one", "l1");
    rig_set(a, "k", "two");
    await_value(b, "k", "two");
    ck_assert_int_eq(pln_delete(b, pln_key("k")), PLN_OK);
    await_value(a, "k", NULL);
}
END_TEST

START_TEST(own_messages_leave_the_own_value_in_l1) {
    rig_set(a, "k", "v");
    rig_await(a, "bus_own", 2); /* the link's test of itself, and this set */
    rig_expect(a, "k", "v", "l1");
}
END_TEST

START_TEST(tags_and_clear_reach_the_other) {
    struct pln_bytes tag = pln_key("t");
    struct pln_set_options tagged = {.tags = &tag, .n_tags = 1};
    ck_assert_int_eq(pln_set(a, pln_key("k"), pln_key("v"), &tagged), PLN_OK);
    rig_expect(b, "k", "v", "l2");
    ck_assert_int_eq(pln_invalidate_tag(a, tag), PLN_OK);
    await_value(b, "k", NULL);
    rig_set(a, "k", "w");
    rig_expect(b, "k", "w", "l2");
    ck_assert_int_eq(pln_clear(a), PLN_OK);
    await_value(b, "k", NULL);
}
END_TEST

START_TEST(a_prefix_and_a_pattern_reach_the_other) {
    set_and_hear("user:1", "v");
    set_and_hear("other", "v");
    rig_expect(b, "user:1", "v", "l2");
    rig_expect(b, "other", "v", "l2");
    ck_assert_int_eq(pln_invalidate_prefix(a, pln_key("user:")), PLN_OK);
    await_value(b, "user:1", NULL);
    rig_expect(b, "other", "v", "l1");
    rig_await(a, "l2_swept", 1);
    set_and_hear("user:1", "new");
    rig_expect(b, "user:1", "new", "l2");
    ck_assert_int_eq(pln_invalidate_pattern(a, pln_key("us*1")), PLN_OK);
    await_value(b, "user:1", NULL);
    rig_expect(b, "other", "v", "l1");
}
END_TEST

static void *get_k1(void *arg) {
    struct pln_result result;
    int status = pln_get(arg, pln_key("k:1"), NULL, &result);
    pln_release(arg, result.value);
    return status == PLN_OK ? NULL : arg;
}

START_TEST(one_load_for_two_instances_of_many_threads) {
    pthread_t threads[16];
    load_by_rule(a);
    load_by_rule(b);
    pthread_mutex_lock(&rig.gate);
    for (size_t i = 0; i < 16; i++) {
        pthread_create(&threads[i], NULL, get_k1, i % 2 == 0 ? a : b);
    }
    pln_ns deadline = pln_deadline(10000);
    while (rig_stat(a, "load_waits") + rig_stat(b, "load_waits") < 14) {
        ck_assert(pln_clock_precise() < deadline);
    }
    pthread_mutex_unlock(&rig.gate);
    for (size_t i = 0; i < 16; i++) {
        void *wrong;
        pthread_join(threads[i], &wrong);
        ck_assert_ptr_null(wrong);
    }
    ck_assert_int_eq(rig.n_loads, 1);
}
END_TEST

START_TEST(the_lease_of_a_dead_loader_delays_nobody_longer_than_it_lasts) {
    struct pln_cache *hasty;
    struct pln_options options = {
        .ns = "t", .redis = server.url, .lease_ms = 300, .load_timeout_ms = 5000, .log = no_log};
    struct pln_result result;
    ck_assert_int_eq(pln_open(&options, &hasty), PLN_OK);
    load_by_rule(hasty);
    free(pln_test_redis_command(&server, "SET t:l:k:1 0123456789abcdef PX 300"));
    ck_assert_int_eq(pln_get(hasty, pln_key("k:1"), NULL, &result), PLN_OK);
    ck_assert_str_eq(pln_source_name(result.source), "loaded");
    ck_assert_uint_ge(rig_stat(hasty, "lease_waits"), 1);
    pln_release(hasty, result.value);
    pln_close(hasty);
}
END_TEST

START_TEST(who_waits_for_anothers_load_does_not_outwait_the_server) {
    struct pln_cache *patient;
    pthread_t reader;
    void *wrong;
    struct pln_options options = {
        .ns = "t", .redis = server.url, .load_timeout_ms = 20000, .log = no_log};
    ck_assert_int_eq(pln_open(&options, &patient), PLN_OK);
    rig_await(patient, "bus_ok", 1);
    load_by_rule(patient);
    free(pln_test_redis_command(&server, "SET t:l:k:1 0123456789abcdef PX 60000"));
    pthread_create(&reader, NULL, get_k1, patient);
    rig_await(patient, "lease_waits", 1);
    pln_test_redis_kill(&server);
    pthread_join(reader, &wrong);
    ck_assert_ptr_null(wrong); /* or, after 20 s, a timeout */
    pln_close(patient);
}
END_TEST

START_TEST(with_redis_killed_no_request_fails_or_waits_past_its_timeout) {
    pln_ns longest = 0;
    char key[16];
    load_by_rule(a);
    rig_set(a, "plain", "p");
    rig_expect(a, "k:warm", "loaded 1", "loaded");
    pln_test_redis_kill(&server);
    for (int i = 0; i < 300; i++) {
        struct pln_result result;
        snprintf(key, sizeof key, i % 3 == 0 ? "plain" : i % 3 == 1 ? "k:warm" : "k:%d", i);
        pln_ns began = pln_clock_precise();
        int status = pln_get(a, pln_key(key), NULL, &result);
        pln_ns took = pln_clock_precise() - began;
        longest = took > longest ? took : longest;
        ck_assert_msg(status == PLN_OK, "%s: %s", key, pln_error_text());
        pln_release(a, result.value);
    }
    /* two commands of 200 ms each and a loader that takes no time: ten times that is a hang */
    ck_assert_int_lt(longest / 1000000, 4000);
    ck_assert_uint_eq(rig_stat(a, "failures"), 0);
    ck_assert_uint_eq(rig_stat(a, "bus_ok"), 0);
}
END_TEST

START_TEST(with_redis_silent_requests_end_and_it_is_found_dead) {
    struct pln_result result;
    load_by_rule(a);
    rig_expect(a, "k:1", "loaded 1", "loaded");
    pln_test_redis_pause(&server);
    ck_assert_int_eq(pln_get(a, pln_key("k:2"), NULL, &result), PLN_OK);
    pln_release(a, result.value);
    ck_assert_int_eq(pln_get(a, pln_key("nothing"), NULL, &result) < 0, true);
    rig_await(a, "bus_losses", 1);
    ck_assert_uint_eq(rig_stat(a, "generation") % 2, 1);
    pln_test_redis_resume(&server);
    rig_await(a, "bus_ok", 1);
    rig_await(b, "bus_ok", 1);
}
END_TEST

START_TEST(after_a_restart_fan_out_works_by_itself_and_nothing_old_is_served) {
    set_and_hear("k", "old");
    rig_expect(b, "k", "old", "l2");
    pln_test_redis_kill(&server);
    rig_await(a, "bus_losses", 1);
    rig_await(b, "bus_losses", 1);
    await_stale(b, "k", "old");
    pln_test_redis_restart(&server);
    rig_await(a, "bus_ok", 1);
    rig_await(b, "bus_ok", 1);
    rig_expect(b, "k", NULL, "miss"); /* the new server is empty */
    set_and_hear("k", "new");
    rig_expect(b, "k", "new", "l2");
    rig_set(a, "k", "newer");
    await_value(b, "k", "newer");
}
END_TEST

START_TEST(a_link_that_is_killed_alone_is_made_anew_and_costs_nothing) {
    set_and_hear("k", "v");
    rig_expect(b, "k", "v", "l2");
    uint64_t generation = rig_stat(b, "generation");
    free(pln_test_redis_command(&server, "CLIENT KILL TYPE pubsub"));
    rig_await(b, "bus_repairs", 1);
    rig_await(b, "bus_ok", 1);
    ck_assert_uint_eq(rig_stat(b, "generation"), generation);
    rig_expect(b, "k", "v", "l1");
}
END_TEST

START_TEST(a_cache_may_be_opened_before_its_server_is_there) {
    struct pln_cache *early;
    struct pln_result result;
    pln_test_redis_kill(&server);
    struct pln_options options = {.ns = "t", .redis = server.url, .log = no_log};
    ck_assert_int_eq(pln_open(&options, &early), PLN_OK);
    load_by_rule(early);
    ck_assert_int_eq(pln_get(early, pln_key("k:1"), NULL, &result), PLN_OK);
    pln_release(early, result.value);
    pln_test_redis_restart(&server);
    rig_await(early, "generation", 2);
    rig_set(early, "k", "v");
    rig_expect(early, "k", "v", "l1");
    pln_close(early);
}
END_TEST

/* A port that nobody has just now. */
static int free_port(void) {
    struct sockaddr_in address = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    socklen_t size = sizeof address;
    int fd = socket(AF_INET, SOCK_STREAM, 0);
    ck_assert_int_eq(bind(fd, (struct sockaddr *) &address, size), 0);
    ck_assert_int_eq(getsockname(fd, (struct sockaddr *) &address, &size), 0);
    close(fd);
    return ntohs(address.sin_port);
}

START_TEST(a_port_a_login_and_a_database_are_used_as_the_url_says) {
    struct server locked;
    struct pln_cache *right, *wrong;
    struct pln_result result;
    char port[8], url[96];
    int number = free_port();
    snprintf(port, sizeof port, "%d", number);
    const char *const options[] = {"--port",  port,          "--bind",      "127.0.0.1",
                                   "--user",  "ada",         "on",          ">lovelace",
                                   "allkeys", "allchannels", "allcommands", NULL};
    pln_test_redis_start(&locked, options);
    snprintf(url, sizeof url, "redis://ada:lovelace@127.0.0.1:%d/3", number);
    struct pln_options by_port = {.ns = "t", .redis = url, .log = no_log};
    ck_assert_int_eq(pln_open(&by_port, &right), PLN_OK);
    rig_await(right, "generation", 2);
    rig_set(right, "k", "v");
    char *keys = pln_test_redis_command(&locked, "INFO keyspace");
    ck_assert_ptr_nonnull(strstr(keys, "db3:keys="));
    free(keys);
    snprintf(url, sizeof url, "redis://127.0.0.1:%d/3", number);
    by_port.username = "ada";
    by_port.password = "byron";
    ck_assert_int_eq(pln_open(&by_port, &wrong), PLN_OK);
    ck_assert_int_eq(pln_get(wrong, pln_key("k"), NULL, &result), PLN_EL2DOWN);
    ck_assert_ptr_nonnull(strstr(pln_error_text(), "WRONGPASS"));
    ck_assert_ptr_null(strstr(pln_error_text(), "byron"));
    pln_close(wrong);
    pln_close(right);
    pln_test_redis_stop(&locked);
}
END_TEST

/* ---- under load ---- */

enum { N_KEYS = 8, N_WRITES = 400 };

/* What the source of each key holds: only the writer changes it. */
static _Atomic int truth[N_KEYS];

static void *read_on_b(void *arg) {
    _Atomic bool *is_over = arg;
    void *wrong = NULL;
    int last[N_KEYS] = {0};
    while (!atomic_load(is_over)) {
        for (int i = 0; i < N_KEYS; i++) {
            char key[8];
            struct pln_result result;
            snprintf(key, sizeof key, "w%d", i);
            if (pln_get(b, pln_key(key), NULL, &result) == PLN_OK) {
                int value = atoi(pln_value_data(result.value));
                wrong = value < last[i] ? arg : wrong; /* I3: never back */
                last[i] = value;
            }
            pln_release(b, result.value);
        }
    }
    return wrong;
}

START_TEST(under_a_writer_a_reader_never_goes_back_and_ends_at_the_truth) {
    _Atomic bool is_over = false;
    pthread_t reader;
    char key[8], value[16];
    pthread_create(&reader, NULL, read_on_b, &is_over);
    for (int n = 1; n <= N_WRITES; n++) {
        for (int i = 0; i < N_KEYS; i++) {
            snprintf(key, sizeof key, "w%d", i);
            snprintf(value, sizeof value, "%d", n);
            ck_assert_int_eq(pln_set(a, pln_key(key), pln_bytes_of(value, strlen(value) + 1), NULL),
                             PLN_OK);
            atomic_store(&truth[i], n);
        }
    }
    atomic_store(&is_over, true);
    void *wrong;
    pthread_join(reader, &wrong);
    ck_assert_ptr_null(wrong);
    rig_await(b, "bus_received", (uint64_t) N_WRITES * N_KEYS);
    for (int i = 0; i < N_KEYS; i++) {
        struct pln_result result;
        snprintf(key, sizeof key, "w%d", i);
        ck_assert_int_eq(pln_get(b, pln_key(key), NULL, &result), PLN_OK);
        ck_assert_int_eq(atoi(pln_value_data(result.value)), N_WRITES);
        pln_release(b, result.value);
    }
}
END_TEST

static void see(void *arg, const struct pln_node_info *info) {
    *(struct pln_node_info *) arg = *info;
}

START_TEST(the_server_is_shown_in_numbers_and_in_text) {
    static char text[65536], line[256];
    struct pln_node_info info = {0};
    ck_assert_uint_eq(pln_nodes(a, NULL, NULL), 1);
    ck_assert_uint_eq(pln_nodes(a, see, &info), 1);
    ck_assert(info.is_up && !info.is_breaker_open && info.connections > 0);
    ck_assert_int_lt(info.beat_age_ms, 60000);
    ck_assert_ptr_nonnull(strstr(info.address, server.path));
    ck_assert_uint_eq(rig_stat(a, "l2_nodes_up"), 1);
    pln_test_redis_kill(&server);
    rig_await(a, "bus_losses", 1);
    ck_assert_int_lt(pln_invalidate_tag(a, pln_key("t")), 0); /* which nothing but Redis can do */
    ck_assert_int_lt(pln_invalidate_tag(a, pln_key("t")), 0);
    ck_assert_uint_gt(rig_stat(a, "l2_breaks"), 0);
    pln_nodes(a, see, &info);
    ck_assert(!info.is_up && info.is_breaker_open && info.errors > 0);
    ck_assert_uint_eq(rig_stat(a, "l2_nodes"), 1);
    ck_assert_uint_eq(rig_stat(a, "l2_nodes_up"), 0);
    ck_assert_uint_lt(pln_prometheus(a, text, sizeof text), sizeof text);
    snprintf(line, sizeof line, "perilune_node_up{cache=\"t\",node=\"%s\"} 0\n", info.address);
    ck_assert_msg(strstr(text, line) != NULL, "no line %s", line);
}
END_TEST

START_TEST(hits_in_one_process_keep_a_value_alive_in_redis) {
    struct pln_terms terms = *pln_cache_terms(a);
    struct pln_result result;
    terms.sliding = true;
    terms.ttl_ms = 5000;
    rig_policy(&rig, a, rig_rule("k:{id}", &terms, 0));
    rig_policy(&rig, b, rig_rule("k:{id}", &terms, 0));
    pln_ns end = pln_deadline(7000);
    set_and_hear("k:1", "v");
    while (pln_clock_precise() < end) { /* longer than it would live alone */
        ck_assert_int_eq(pln_get(a, pln_key("k:1"), NULL, &result), PLN_OK);
        pln_release(a, result.value);
        usleep(20000);
    }
    rig_await(a, "slides", 2);
    ck_assert_int_eq(pln_get(b, pln_key("k:1"), NULL, &result), PLN_OK);
    ck_assert_str_eq(pln_source_name(result.source), "l2");
    ck_assert_int_ge(result.age_ms, 6900); /* the clocks agree to some ms only */
    ck_assert_int_le(result.left_ms, 5100);
    pln_release(b, result.value);
}
END_TEST

int main(void) {
    Suite *suite = suite_create("redis");
    TCase *tests = tcase_create("redis");
    suite_add_tcase(suite, tests);
    tcase_set_timeout(tests, 60);
    tcase_add_checked_fixture(tests, setup, teardown);
    tcase_add_test(tests, what_one_writes_the_other_sees);
    tcase_add_test(tests, own_messages_leave_the_own_value_in_l1);
    tcase_add_test(tests, tags_and_clear_reach_the_other);
    tcase_add_test(tests, a_prefix_and_a_pattern_reach_the_other);
    tcase_add_test(tests, one_load_for_two_instances_of_many_threads);
    tcase_add_test(tests, the_lease_of_a_dead_loader_delays_nobody_longer_than_it_lasts);
    tcase_add_test(tests, who_waits_for_anothers_load_does_not_outwait_the_server);
    tcase_add_test(tests, with_redis_killed_no_request_fails_or_waits_past_its_timeout);
    tcase_add_test(tests, with_redis_silent_requests_end_and_it_is_found_dead);
    tcase_add_test(tests, after_a_restart_fan_out_works_by_itself_and_nothing_old_is_served);
    tcase_add_test(tests, a_link_that_is_killed_alone_is_made_anew_and_costs_nothing);
    tcase_add_test(tests, a_cache_may_be_opened_before_its_server_is_there);
    tcase_add_test(tests, a_port_a_login_and_a_database_are_used_as_the_url_says);
    tcase_add_test(tests, under_a_writer_a_reader_never_goes_back_and_ends_at_the_truth);
    tcase_add_test(tests, the_server_is_shown_in_numbers_and_in_text);
    tcase_add_test(tests, hits_in_one_process_keep_a_value_alive_in_redis);
    return rig_run(suite);
}
