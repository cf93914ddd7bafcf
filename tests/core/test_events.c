/* SPDX-License-Identifier: MIT
 * test_events.c - core/feeder.c and intake.c: events that come over a channel and a stream of a
 * real redis-server, while processes die, entries are wrong, and the server comes and goes. */
#include "rig.h"
#include "../l2/cluster.h"
#include "../l2/server.h"

#include <stdio.h>
#include <sys/wait.h>
#include <unistd.h>

/* The one does not follow a process with threads into a child; the other's allocator may be locked
 * there. */
#if defined __SANITIZE_THREAD__ || defined __SANITIZE_ADDRESS__
enum { MAY_FORK = false };
#else
enum { MAY_FORK = true };
#endif

static struct server server;
static char path[96];
static _Atomic int n_lost, n_back, n_faults; /* lines of the log, by what they tell */

#define RULES "cache.on 'changed' { keys = { 'user:{id}' } }\n"
#define STREAM "cache.events { stream = 'ev', group = 'g', idle = '200ms' }\n"

static void count_line(_Atomic int *count, const char *line, const char *part) {
    if (strstr(line, part) != NULL) {
        atomic_fetch_add_explicit(count, 1, memory_order_relaxed); /* relaxed: a count */
    }
}

static void keep_log(void *arg, int level, const char *line) {
    (void) arg;
    (void) level;
    count_line(&n_lost, line, " is not heard: ");
    count_line(&n_back, line, " is heard again");
    count_line(&n_faults, line, "as others of this kind");
}

static int count_of(_Atomic int *count) {
    return atomic_load_explicit(count, memory_order_relaxed); /* relaxed: a count */
}

static struct pln_cache *open_at(const char *url, pln_log log) {
    struct pln_cache *cache;
    struct pln_options options = {
        .ns = "t", .redis = url, .timeout_ms = 1000, .ping_ms = 100, .ttl_ms = 600000, .log = log};
    ck_assert_msg(pln_open(&options, &cache) == PLN_OK, "%s", pln_error_text());
    return cache;
}

static void load(struct pln_cache *cache, const char *text) {
    FILE *file = fopen(path, "w");
    ck_assert_ptr_nonnull(file);
    fputs(text, file);
    fclose(file);
    ck_assert_msg(pln_load_policy(cache, path, 0) == PLN_OK, "%s", pln_error_text());
}

static struct pln_cache *open_with(const char *policy) {
    struct pln_cache *cache = open_at(server.url, keep_log);
    rig_await(cache, "bus_ok", 1);
    load(cache, policy);
    return cache;
}

static void setup(void) {
    n_lost = n_back = n_faults = 0;
    pln_test_redis_start(&server, NULL);
    snprintf(path, sizeof path, "%s/policy.lua", server.folder);
}

static void teardown(void) {
    unlink(path);
    pln_test_redis_stop(&server);
}

#define redis(...) free(pln_test_redis_command(&server, __VA_ARGS__))

/* Waits until a command is answered so. */
static void await_answer(const char *wanted, const char *command) {
    pln_ns deadline = pln_deadline(20000);
    char *got = NULL;
    do {
        free(got);
        got = pln_test_redis_command(&server, "%s", command);
        ck_assert_msg(pln_clock_precise() < deadline, "%s: %s, not %s", command, got, wanted);
        usleep(5000);
    } while (strncmp(got, wanted, strlen(wanted)) != 0);
    free(got);
}

static void await_count(_Atomic int *count, int wanted) {
    pln_ns deadline = pln_deadline(20000);
    while (count_of(count) < wanted) {
        ck_assert(pln_clock_precise() < deadline);
        usleep(5000);
    }
}

static void await_all_acknowledged(void) {
    await_answer("0", "XPENDING ev g");
}

static void await_gone(struct pln_cache *cache, const char *key) {
    pln_ns deadline = pln_deadline(20000);
    struct pln_result result;
    int status;
    while ((status = pln_get(cache, pln_key(key), NULL, &result)) != PLN_MISS) {
        pln_release(cache, result.value);
        ck_assert_msg(pln_clock_precise() < deadline, "%s is still there", key);
        usleep(5000);
    }
}

/* A value that is in the L1 of both. */
static void set_in_both(struct pln_cache *a, struct pln_cache *b, const char *key) {
    uint64_t heard = rig_stat(b, "bus_received");
    rig_set(a, key, "old");
    rig_await(b, "bus_received", heard + 1);
    rig_expect(b, key, "old", "l2");
    rig_expect(b, key, "old", "l1");
}

START_TEST(a_message_on_a_channel_makes_void_in_every_process) {
    struct pln_cache *a = open_with(RULES "cache.events { channel = 'ev' }");
    struct pln_cache *b = open_with("");
    await_answer("ev\n1", "PUBSUB NUMSUB ev");
    set_in_both(a, b, "user:7");
    set_in_both(a, b, "user:8");
    redis("PUBLISH ev %s", "{\"event\":\"changed\",\"id\":7}");
    await_gone(b, "user:7");
    redis("EVAL %s 0", "return(redis.call('PUBLISH','ev','changed\\32id=8'))");
    await_gone(b, "user:8");
    await_gone(a, "user:8");
    redis("PUBLISH ev nonsense{");
    rig_await(a, "events_dead", 1);
    ck_assert_uint_eq(rig_stat(a, "events_raised"), 2);
    ck_assert_uint_eq(rig_stat(a, "events_received"), 3);
    ck_assert_int_eq(count_of(&n_faults), 1);
    pln_close(a);
    await_answer("ev\n0", "PUBSUB NUMSUB ev");
    pln_close(b);
}
END_TEST

START_TEST(an_entry_of_a_stream_is_carried_out_and_acknowledged) {
    redis("XADD ev * event changed id 7"); /* before anybody listens */
    struct pln_cache *a = open_with(RULES STREAM);
    struct pln_cache *b = open_with("");
    rig_await(a, "events_raised", 1);
    set_in_both(a, b, "user:7");
    redis("XADD ev * event changed id 7");
    await_gone(b, "user:7");
    await_all_acknowledged();
    ck_assert_uint_eq(rig_stat(a, "events_raised"), 2);
    pln_close(a);
    await_answer("", "XINFO CONSUMERS ev g"); /* it took its leave */
    char *left = pln_test_redis_command(&server, "XINFO CONSUMERS ev g");
    ck_assert_str_eq(left, "");
    free(left);
    pln_close(b);
}
END_TEST

START_TEST(two_instances_share_the_entries_and_each_goes_to_one) {
    struct pln_cache *a = open_with(RULES STREAM), *b = open_with(RULES STREAM);
    for (int i = 0; i < 300; i++) {
        redis("XADD ev * event changed id %d", i);
    }
    pln_ns deadline = pln_deadline(20000);
    while (rig_stat(a, "events_raised") + rig_stat(b, "events_raised") < 300) {
        ck_assert(pln_clock_precise() < deadline);
        usleep(5000);
    }
    await_all_acknowledged();
    ck_assert_uint_eq(rig_stat(a, "events_received") + rig_stat(b, "events_received"), 300);
    ck_assert_uint_gt(rig_stat(a, "events_received"), 0);
    ck_assert_uint_gt(rig_stat(b, "events_received"), 0);
    pln_close(a);
    pln_close(b);
}
END_TEST

static int child_says;

/* The line about the entry that is wrong comes while the batch is under way: there it stays. */
static void stop_amid(void *arg, int level, const char *line) {
    (void) arg;
    (void) level;
    if (strstr(line, "as others of this kind") != NULL) {
        ssize_t n = write(child_says, "x", 1);
        (void) n;
        for (;;) {
            pause();
        }
    }
}

START_TEST(what_a_killed_consumer_had_is_carried_out_by_another) {
    int ends[2];
    char byte;
    redis("XADD ev * event unheard");
    redis("XADD ev * event changed id 7");
    ck_assert_int_eq(pipe(ends), 0);
    pid_t child = fork();
    if (child == 0) {
        child_says = ends[1];
        load(open_at(server.url, stop_amid), RULES STREAM);
        for (;;) {
            pause();
        }
    }
    ck_assert_int_eq(read(ends[0], &byte, 1), 1);
    await_answer("2", "XPENDING ev g");
    ck_assert_int_eq(kill(child, SIGKILL), 0);
    waitpid(child, NULL, 0);
    close(ends[0]);
    close(ends[1]);
    struct pln_cache *cache = open_at(server.url, keep_log);
    rig_set(cache, "user:7", "old");
    load(cache, RULES STREAM);
    await_all_acknowledged();
    await_gone(cache, "user:7");
    ck_assert_uint_eq(rig_stat(cache, "events_raised"), 1);
    ck_assert_uint_eq(rig_stat(cache, "events_dead"), 1);
    pln_close(cache);
}
END_TEST

START_TEST(a_function_answers_entries_and_those_it_fails_at_go_to_the_dead) {
    struct pln_cache *cache = open_with(
        "cache.on 'changed' (function(e) return { keys = 'user:' .. e.id } end)\n" STREAM);
    rig_set(cache, "user:7", "old");
    redis("XADD ev 1-1 event changed name Ada");
    redis("XADD ev 2-1 event changed id 7");
    await_gone(cache, "user:7");
    rig_await(cache, "events_dead", 1);
    await_all_acknowledged();
    char *dead = pln_test_redis_command(&server, "XRANGE ev:dead - +");
    ck_assert_msg(strstr(dead, "of\n1-1\nreason\n") != NULL &&
                      strstr(dead, "attempt to concatenate a nil value (field 'id')\n") != NULL,
                  "%s", dead);
    free(dead);
    ck_assert_uint_eq(rig_stat(cache, "policy_errors"), 1);
    pln_close(cache);
}
END_TEST

START_TEST(entries_that_can_never_be_carried_out_go_to_the_dead_with_their_reason) {
    struct pln_cache *cache = open_with(RULES STREAM);
    rig_set(cache, "user:7", "old");
    redis("XADD ev 1-1 id 7");
    redis("XADD ev 2-1 event unheard id 7");
    redis("XADD ev 3-1 event changed name Ada");
    redis("XADD ev 4-1 event changed event changed");
    redis("XADD ev 5-1 event changed id 7");
    redis("XADD ev 6-1 event unheard id 8");
    rig_await(cache, "events_dead", 5);
    await_gone(cache, "user:7");
    await_all_acknowledged();
    char *dead = pln_test_redis_command(&server, "XRANGE ev:dead - +");
    static const char *const parts[] = {
        "of\n1-1\nreason\nit has no field 'event'\nid\n7\n",
        "of\n2-1\nreason\nno cache.on of the policy names the event 'unheard'\nevent\nunheard\n",
        "of\n3-1\nreason\nraise: 'user:{id}' needs the field 'id', which the event lacks\n",
        "of\n4-1\nreason\nraise: 'user:{id}' needs the field 'id', which the event lacks\n",
        "of\n6-1\n"};
    for (size_t i = 0; i < PLN_ARRAY_LEN(parts); i++) {
        ck_assert_msg(strstr(dead, parts[i]) != NULL, "%s is not in %s", parts[i], dead);
    }
    free(dead);
    ck_assert_uint_eq(rig_stat(cache, "events_received"), 6);
    ck_assert_int_eq(count_of(&n_faults), 3); /* unreadable, unknown, unfit */
    pln_close(cache);
}
END_TEST

START_TEST(what_redis_could_not_be_told_stays_and_is_tried_again) {
    struct pln_cache *cache = open_with(RULES STREAM);
    rig_set(cache, "user:7", "old");
    rig_set(cache, "user:8", "old");
    redis("ACL SETUSER default -evalsha");
    redis("XADD ev * event changed id 7");
    redis("XADD ev * event changed id 8");
    rig_await(cache, "events_failed", 5); /* the two, and again */
    await_answer("2", "XPENDING ev g");
    ck_assert_uint_eq(rig_stat(cache, "events_raised"), 0);
    redis("ACL SETUSER default +evalsha");
    await_all_acknowledged();
    await_gone(cache, "user:7");
    await_gone(cache, "user:8");
    ck_assert_uint_eq(rig_stat(cache, "events_dead"), 0);
    ck_assert_int_eq(count_of(&n_faults), 1);
    pln_close(cache);
}
END_TEST

START_TEST(it_survives_the_server_and_says_so_once) {
    struct pln_cache *cache = open_with(RULES STREAM "cache.events { channel = 'ch' }");
    redis("XADD ev * event changed id 7");
    rig_await(cache, "events_raised", 1);
    await_answer("ch\n1", "PUBSUB NUMSUB ch");
    pln_test_redis_kill(&server);
    await_count(&n_lost, 2);
    pln_test_redis_restart(&server); /* empty: neither stream nor group */
    await_count(&n_back, 2);
    redis("XADD ev * event changed id 7");
    rig_await(cache, "events_raised", 2);
    await_all_acknowledged();
    redis("PUBLISH ch %s", "{\"event\":\"changed\",\"id\":7}");
    rig_await(cache, "events_raised", 3);
    ck_assert_int_eq(count_of(&n_lost), 2);
    ck_assert_int_eq(count_of(&n_back), 2);
    pln_close(cache);
}
END_TEST

START_TEST(a_server_that_falls_silent_is_left_and_found_again) {
    struct pln_cache *cache = open_with(RULES "cache.events { channel = 'ch' }");
    await_answer("ch\n1", "PUBSUB NUMSUB ch");
    pln_test_redis_pause(&server);
    await_count(&n_lost, 1);
    pln_test_redis_resume(&server);
    await_count(&n_back, 1);
    await_answer("ch\n1", "PUBSUB NUMSUB ch");
    pln_close(cache);
}
END_TEST

START_TEST(flushall_costs_neither_group_nor_entries) {
    struct pln_cache *cache = open_with(RULES STREAM);
    redis("XADD ev * event changed id 7");
    rig_await(cache, "events_raised", 1);
    redis("FLUSHALL");
    redis("XADD ev * event changed id 7");
    rig_await(cache, "events_raised", 2);
    await_all_acknowledged();
    redis("DEL ev");
    redis("XADD ev * event changed id 7");
    rig_await(cache, "events_raised", 3);
    ck_assert_int_eq(count_of(&n_lost), 0);
    pln_close(cache);
}
END_TEST

START_TEST(a_reload_changes_the_sources_and_leaves_those_that_stay) {
    struct pln_cache *cache = open_with(RULES STREAM "cache.events { stream = 'old' }");
    redis("XADD old * event changed id 7");
    redis("XADD ev * event changed id 7");
    rig_await(cache, "events_raised", 2);
    char *before = pln_test_redis_command(&server, "EVAL %s 0",
                                          "return(redis.call('XINFO','CONSUMERS','ev','g')[1][2])");
    load(cache, RULES STREAM "cache.events { stream = 'new' }");
    await_answer("0", "EVAL return(#redis.call('XINFO','CONSUMERS','old','t')) 0");
    redis("XADD old * event changed id 7");
    redis("XADD new * event changed id 7");
    rig_await(cache, "events_raised", 3);
    char *after = pln_test_redis_command(&server, "EVAL %s 0",
                                         "return(redis.call('XINFO','CONSUMERS','ev','g')[1][2])");
    ck_assert_str_eq(before, after);
    free(before);
    free(after);
    load(cache, RULES);
    await_answer("0", "EVAL return(#redis.call('XINFO','CONSUMERS','new','t')) 0");
    ck_assert_uint_eq(rig_stat(cache, "events_received"), 3);
    pln_close(cache);
}
END_TEST

START_TEST(without_redis_a_source_is_told_of_and_raise_works) {
    struct pln_cache *memory = open_at("memory:events", keep_log), *bare = open_at(NULL, keep_log);
    struct pln_field id = {pln_key("id"), pln_key("7")};
    load(memory, RULES STREAM);
    load(bare, RULES STREAM);
    ck_assert_int_eq(count_of(&n_lost), 2);
    rig_set(memory, "user:7", "old");
    ck_assert_int_eq(pln_raise(memory, pln_key("changed"), &id, 1), PLN_OK);
    rig_expect(memory, "user:7", NULL, "miss");
    pln_close(memory);
    pln_close(bare);
}
END_TEST

START_TEST(a_forked_child_has_sources_of_its_own) {
    struct pln_cache *cache = open_with(RULES STREAM);
    int how;
    redis("XADD ev * event changed id 7");
    rig_await(cache, "events_raised", 1);
    pid_t child = fork();
    if (child == 0) {
        load(cache, RULES STREAM "cache.events { stream = 'other' }");
        await_answer("1", "EXISTS other");
        pln_close(cache);
        _exit(0);
    }
    waitpid(child, &how, 0);
    ck_assert(WIFEXITED(how) && WEXITSTATUS(how) == 0);
    redis("XADD ev * event changed id 7");
    rig_await(cache, "events_raised", 2);
    pln_close(cache);
}
END_TEST

/* Keys, tags, the stream and its dead lie where their names lead. */
static void carry_out_everywhere(const char *url) {
    enum { N = 20 };
    struct pln_cache *cache = open_at(url, keep_log);
    struct pln_answer *answer;
    char name[24];
    load(cache, RULES STREAM);
    for (int i = 0; i < N; i++) {
        snprintf(name, sizeof name, "user:%d", i);
        rig_set(cache, name, "old");
        const struct pln_bytes add[] = {pln_key("XADD"),  pln_key("ev"),      pln_key("*"),
                                        pln_key("event"), pln_key("changed"), pln_key("id"),
                                        pln_key(name + 5)};
        ck_assert_msg(pln_command(cache, NULL, add, PLN_ARRAY_LEN(add), 0, &answer) == PLN_OK, "%s",
                      pln_error_text());
        pln_answer_free(answer);
    }
    const struct pln_bytes wrong[] = {pln_key("XADD"), pln_key("ev"), pln_key("*"),
                                      pln_key("event"), pln_key("unheard")};
    ck_assert_int_eq(pln_command(cache, NULL, wrong, PLN_ARRAY_LEN(wrong), 0, &answer), PLN_OK);
    pln_answer_free(answer);
    rig_await(cache, "events_raised", N);
    rig_await(cache, "events_dead", 1);
    for (int i = 0; i < N; i++) {
        snprintf(name, sizeof name, "user:%d", i);
        await_gone(cache, name);
    }
    const struct pln_bytes count[] = {pln_key("XLEN"), pln_key("ev:dead")};
    ck_assert_int_eq(pln_command(cache, NULL, count, PLN_ARRAY_LEN(count), 0, &answer), PLN_OK);
    ck_assert_int_eq(pln_answer_integer(answer), 1);
    pln_answer_free(answer);
    pln_close(cache);
}

START_TEST(a_ring_and_a_cluster_have_a_stream_where_its_name_leads) {
    static struct test_cluster cluster;
    struct server second;
    char url[300];
    pln_test_redis_start(&second, NULL);
    snprintf(url, sizeof url, "redis+ring://%s,%s", server.url, second.url);
    carry_out_everywhere(url);
    pln_test_redis_stop(&second);
    test_cluster_start(&cluster, 3, 0);
    snprintf(url, sizeof url, "redis+cluster://127.0.0.1:%d", cluster.nodes[0].port);
    carry_out_everywhere(url);
    test_cluster_stop(&cluster);
}
END_TEST

int main(void) {
    Suite *suite = suite_create("events");
    TCase *tests = tcase_create("events");
    suite_add_tcase(suite, tests);
    tcase_set_timeout(tests, 60);
    tcase_add_checked_fixture(tests, setup, teardown);
    tcase_add_test(tests, a_message_on_a_channel_makes_void_in_every_process);
    tcase_add_test(tests, an_entry_of_a_stream_is_carried_out_and_acknowledged);
    tcase_add_test(tests, two_instances_share_the_entries_and_each_goes_to_one);
    tcase_add_test(tests, what_a_killed_consumer_had_is_carried_out_by_another);
    tcase_add_test(tests, a_function_answers_entries_and_those_it_fails_at_go_to_the_dead);
    tcase_add_test(tests, entries_that_can_never_be_carried_out_go_to_the_dead_with_their_reason);
    tcase_add_test(tests, what_redis_could_not_be_told_stays_and_is_tried_again);
    tcase_add_test(tests, it_survives_the_server_and_says_so_once);
    tcase_add_test(tests, a_server_that_falls_silent_is_left_and_found_again);
    tcase_add_test(tests, flushall_costs_neither_group_nor_entries);
    tcase_add_test(tests, a_reload_changes_the_sources_and_leaves_those_that_stay);
    tcase_add_test(tests, without_redis_a_source_is_told_of_and_raise_works);
    if (MAY_FORK) {
        tcase_add_test(tests, a_forked_child_has_sources_of_its_own);
    }
    tcase_add_test(tests, a_ring_and_a_cluster_have_a_stream_where_its_name_leads);
    return rig_run(suite);
}
