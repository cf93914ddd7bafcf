/* SPDX-License-Identifier: MIT
 * faults_server.c - what may become of a real server while callers are at work: it dies, falls
 * silent, loads, is full, is busy, forgets, throws us out. No answer is wrong, no call outstays its
 * deadline, nothing acknowledged is lost that the server did not lose. */
#include "faults.h"

#include <hiredis/hiredis.h>
#include <stdio.h>
#include <sys/stat.h>
#include <unistd.h>

#include "server.h"

static struct server server;
static struct client a;
static struct load load;

static const char *const options[] = {"--enable-debug-command", "yes", "--busy-reply-threshold",
                                      "50", NULL};

static void set_up(void) {
    pln_test_redis_start(&server, options);
    faults_open(&a, server.url, 2);
    ck_assert_int_eq(pln_l2_start(a.l2), PLN_OK);
    ck_assert(client_hears(&a, "+"));
    load = (struct load){.l2 = a.l2, .patience_ms = 250, .n_threads = 4};
    load_start(&load);
    load_await_ok(&load, 500);
}

static void tear_down(void) {
    client_fini(&a);
    pln_test_redis_stop(&server);
}

static void command(const char *line) {
    free(pln_test_redis_command(&server, "%s", line));
}

/* A number from the server's INFO. */
static long info(const char *section, const char *name) {
    char *text = pln_test_redis_command(&server, "INFO %s", section);
    const char *at = strstr(text, name);
    ck_assert_msg(at != NULL, "no %s in INFO %s", name, section);
    long number = atol(at + strlen(name) + 1);
    free(text);
    return number;
}

/* The fault is over: calls go well again, and what was acknowledged is there. */
static void end_well(void) {
    load_await_ok(&load, 500);
    load_stop(&load);
    load_check(&load);
    faults_recover(&a);
}

START_TEST(a_killed_server_is_missed_at_once_and_found_again) {
    load_let_lose(&load);
    for (size_t i = 0; i < 3; i++) {
        pln_test_redis_kill(&server);
        /* callers do not wait for it: many fail in the time of one deadline, and by no deadline */
        load_await(&load, PLN_EL2DOWN, 2000);
        pln_test_redis_restart(&server);
        load_await_ok(&load, 500);
        faults_await_ups(&a, i + 2);
    }
    end_well();
}
END_TEST

START_TEST(a_stopped_server_costs_deadlines_and_loses_nothing) {
    for (int i = 0; i < 3; i++) {
        pln_test_redis_pause(&server);
        load_await(&load, PLN_ETIMEOUT, 4);
        load_await(&load, PLN_EL2DOWN, 50); /* the breaker is open */
        pln_test_redis_resume(&server);
        load_await_ok(&load, 500);
    }
    faults_await_downs(&a, 1);
    end_well();
}
END_TEST

/* Asks until it is told that the server loads; returns NULL where that was so, and no answer. */
static void *ask_a_loading_server(void *arg) {
    bool is_told = false;
    pln_ns until = faults_in(10000);
    while (!is_told && pln_clock_precise() < until) {
        int result = faults_get(arg, "load 0.0", faults_in(250), NULL);
        if (result >= 0) {
            return arg;
        }
        is_told = strstr(pln_error_text(), "LOADING") != NULL;
    }
    return is_told ? NULL : arg;
}

/* It has everything in its file, and takes its time to read that. */
START_TEST(a_server_that_loads_is_waited_for_and_has_what_was_saved) {
    pthread_t asker;
    void *failed;
    char path[128];
    load_stop(&load);
    command("DEBUG POPULATE 3000 x 10");
    command("SAVE");
    pln_test_redis_kill(&server);
    server.options[4] = "--key-load-delay";
    server.options[5] = "300"; /* microseconds a key: a second */
    server.options[6] = "--loading-process-events-interval-bytes";
    server.options[7] = "1024";
    pthread_create(&asker, NULL, ask_a_loading_server, &a);
    pln_test_redis_restart(&server); /* which waits until the server has loaded */
    pthread_join(asker, &failed);
    ck_assert_ptr_null(failed);
    load_check(&load); /* a restart, and no loss */
    faults_recover(&a);
    snprintf(path, sizeof path, "%s/dump.rdb", server.folder);
    unlink(path);
}
END_TEST

static void *be_busy(void *arg) {
    free(pln_test_redis_command(arg, "EVAL %s 0", "while\ttrue\tdo\tend"));
    return NULL;
}

START_TEST(a_busy_server_refuses_and_loses_nothing) {
    pthread_t operator_;
    load_set_patience(&load, 1000);
    pthread_create(&operator_, NULL, be_busy, &server);
    load_await(&load, PLN_EL2, 20);
    ck_assert_uint_gt(client_count(&a, PLN_COUNT_L2_RETRIES), 0);
    command("SCRIPT KILL");
    pthread_join(operator_, NULL);
    end_well();
}
END_TEST

START_TEST(a_server_out_of_memory_refuses_writes_and_goes_on_reading) {
    struct client b;
    ck_assert_int_eq(faults_set(&a, "a", "one", soon()), PLN_OK);
    command("CONFIG SET maxmemory 1");
    load_await(&load, PLN_EL2, 50);
    ck_assert_int_eq(faults_set(&a, "a", "two", soon()), PLN_EL2);
    ck_assert_ptr_nonnull(strstr(pln_error_text(), "OOM"));
    ck_assert_ptr_nonnull(strstr(pln_error_text(), "reads go on"));
    expect_text(&a, "a", "one");
    struct pln_hashed key = key_of("a");
    ck_assert_int_eq(pln_l2_remove(a.l2, &key, soon()), PLN_OK); /* which frees some */
    expect_text(&a, "a", NULL);
    /* a client that comes now can read, too */
    faults_open(&b, server.url, 1);
    ck_assert_int_eq(faults_get(&b, "load 0.0", soon(), NULL), PLN_OK);
    client_fini(&b);
    command("CONFIG SET maxmemory 0");
    end_well();
    ck_assert_uint_eq(faults_logged(&a, "link is down"), 0);
}
END_TEST

/* Such a server refuses PING, too, by which the link asks whether it lives. */
START_TEST(a_server_that_cannot_save_refuses_writes_and_is_read_and_heard) {
    struct client b;
    char in_its_way[96];
    snprintf(in_its_way, sizeof in_its_way, "%s/dump.rdb", server.folder);
    ck_assert_int_eq(faults_set(&a, "a", "one", soon()), PLN_OK);
    ck_assert_int_eq(mkdir(in_its_way, 0700), 0);
    redisContext *operator_ = redisConnectUnix(server.path);
    freeReplyObject(redisCommand(operator_, "CONFIG SET save %s", "3600 1"));
    command("BGSAVE");
    load_await(&load, PLN_EL2, 50);
    ck_assert_int_eq(faults_set(&a, "a", "two", soon()), PLN_EL2);
    ck_assert_ptr_nonnull(strstr(pln_error_text(), "MISCONF"));
    expect_text(&a, "a", "one");
    for (long pings = 0; pings < 3;) {
        char *text = pln_test_redis_command(&server, "INFO commandstats");
        const char *at = strstr(text, "cmdstat_ping");
        at = at == NULL ? NULL : strstr(at, "rejected_calls=");
        pings = at == NULL ? 0 : atol(at + strlen("rejected_calls="));
        free(text);
    }
    faults_open(&b, server.url, 1);
    ck_assert_int_eq(pln_l2_start(b.l2), PLN_OK);
    ck_assert(client_hears(&b, "+"));
    expect_text(&b, "a", "one");
    client_fini(&b);
    ck_assert_uint_eq(faults_logged(&a, "link is down"), 0);
    freeReplyObject(redisCommand(operator_, "CONFIG SET save %s", ""));
    redisFree(operator_);
    ck_assert_int_eq(rmdir(in_its_way), 0);
    end_well();
}
END_TEST

START_TEST(a_master_that_becomes_a_replica_is_left_and_nothing_is_lost) {
    for (int i = 0; i < 2; i++) {
        command("REPLICAOF 127.0.0.1 1");
        load_await(&load, PLN_EL2DOWN, 50);
        command("REPLICAOF NO ONE");
        load_await_ok(&load, 500);
    }
    faults_await_downs(&a, 1);
    end_well();
}
END_TEST

START_TEST(a_replica_that_serves_nothing_stale_is_waited_for) {
    command("CONFIG SET replica-serve-stale-data no");
    command("REPLICAOF 127.0.0.1 1");
    load_await(&load, PLN_EL2DOWN, 50);
    command("REPLICAOF NO ONE");
    end_well();
}
END_TEST

START_TEST(a_master_without_its_replicas_refuses_writes_and_goes_on_reading) {
    ck_assert_int_eq(faults_set(&a, "a", "one", soon()), PLN_OK);
    command("CONFIG SET min-replicas-to-write 1");
    load_await(&load, PLN_EL2, 50);
    ck_assert_int_eq(faults_set(&a, "a", "two", soon()), PLN_EL2);
    ck_assert_ptr_nonnull(strstr(pln_error_text(), "NOREPLICAS"));
    ck_assert_ptr_nonnull(strstr(pln_error_text(), "min-replicas-to-write"));
    expect_text(&a, "a", "one");
    command("CONFIG SET min-replicas-to-write 0");
    end_well();
    ck_assert_uint_eq(faults_logged(&a, "link is down"), 0);
}
END_TEST

/* No room for anybody but the operator. */
START_TEST(a_full_server_is_not_stormed) {
    redisContext *operator_ = redisConnectUnix(server.path);
    long before = info("stats", "rejected_connections");
    long accepted = info("stats", "total_connections_received");
    freeReplyObject(redisCommand(operator_, "CONFIG SET maxclients 1"));
    freeReplyObject(redisCommand(operator_, "CLIENT KILL TYPE pubsub"));
    freeReplyObject(redisCommand(operator_, "CLIENT KILL TYPE normal SKIPME yes"));
    load_await(&load, PLN_EL2DOWN, 20000);
    freeReplyObject(redisCommand(operator_, "CONFIG SET maxclients 100"));
    redisFree(operator_);
    load_await_ok(&load, 500);
    long rejected = info("stats", "rejected_connections") - before;
    ck_assert_int_ge(rejected, 1);
    ck_assert_int_lt(info("stats", "total_connections_received") - accepted, 300);
    ck_assert_uint_ge(faults_logged(&a, "max number of clients"), 1);
    end_well();
}
END_TEST

START_TEST(a_flush_under_load_brings_nothing_old_back) {
    load_let_lose(&load);
    for (int i = 0; i < 10; i++) {
        command(i % 2 == 0 ? "FLUSHALL" : "FLUSHDB ASYNC");
        load_await_ok(&load, 200);
    }
    ck_assert_int_eq(load_count(&load, PLN_EL2) + load_count(&load, PLN_EL2DOWN), 0);
    end_well();
}
END_TEST

START_TEST(a_server_that_forgets_its_scripts_is_told_them_and_nobody_notices) {
    load_set_patience(&load, 5000);
    for (int i = 0; i < 20; i++) {
        command("SCRIPT FLUSH");
        load_await_ok(&load, 50);
    }
    load_stop(&load);
    ck_assert_int_eq(load.n_ok, load.n_calls);
    load_check(&load);
    ck_assert_int_ge(info("commandstats", "cmdstat_eval:calls"), 1);
}
END_TEST

/* A message over the limit of what the server keeps for a subscriber: it ends the connection. */
START_TEST(a_link_whose_buffer_overflows_is_made_anew) {
    char big[900];
    memset(big, 'x', sizeof big - 1);
    big[sizeof big - 1] = 0;
    redisContext *operator_ = redisConnectUnix(server.path);
    freeReplyObject(
        redisCommand(operator_, "CONFIG SET client-output-buffer-limit %s", "pubsub 16384 0 0"));
    /* as much as that in one step of the server's */
    freeReplyObject(
        redisCommand(operator_, "EVAL %s 0 %s",
                     "for i = 1, 2000 do redis.call('PUBLISH', 'ns:inv:2', ARGV[1]) end", big));
    faults_await_downs(&a, 1);
    faults_await_ups(&a, 2);
    ck_assert_uint_ge(client_count(&a, PLN_COUNT_BUS_LOSSES), 1);
    redisFree(operator_);
    end_well();
}
END_TEST

START_TEST(either_of_the_pair_may_be_killed_under_load) {
    pln_ns before = pln_clock_precise();
    for (size_t i = 0; i < 6; i++) {
        command("CLIENT KILL TYPE normal SKIPME yes");
        load_await_ok(&load, 100);
        faults_await_ups(&a, i + 1);
        command("CLIENT KILL TYPE pubsub");
        faults_await_downs(&a, i + 1);
        faults_await_ups(&a, i + 2);
        load_await_ok(&load, 100);
    }
    ck_assert_uint_ge(client_count(&a, PLN_COUNT_L2_CONNECTS), 6);
    /* the log has not all of that */
    size_t most = 1 + (size_t) ((pln_clock_precise() - before) / 4000000000);
    ck_assert_uint_le(faults_logged(&a, "link is down"), most);
    ck_assert_uint_ge(faults_logged(&a, "link is down"), 1);
    end_well();
}
END_TEST

/* A fork, a slow disk, a slow command: the server says nothing for a while, and then all at once.
 * With the patience for it nothing fails, and nobody connects anew. */
START_TEST(a_pause_is_only_a_pause) {
    struct client b;
    load_stop(&load);
    long failed = load.n_calls - load.n_ok;
    client_init(&b);
    struct pln_l2_options patient = client_options(&b, server.url);
    patient.timeout_ms = 10000;
    patient.ping_ms = 10000;
    ck_assert_int_eq(pln_l2_redis_new(&patient, &b.l2), PLN_OK);
    ck_assert_int_eq(pln_l2_start(b.l2), PLN_OK);
    ck_assert(client_hears(&b, "+"));
    load_go_on(&load, b.l2, 10000);
    load_await_ok(&load, 200);
    uint64_t connects = client_count(&b, PLN_COUNT_L2_CONNECTS);
    for (int i = 0; i < 3; i++) {
        command("DEBUG SLEEP 0.3");
        command("BGSAVE");
        load_await_ok(&load, 100);
    }
    load_stop(&load);
    ck_assert_int_eq(load.n_calls - load.n_ok, failed);
    ck_assert_uint_eq(client_count(&b, PLN_COUNT_L2_CONNECTS), connects);
    expect_story(&b, "+");
    client_fini(&b);
    free(pln_test_redis_command(&server, "CONFIG SET save %s", ""));
    char path[128];
    while (info("persistence", "rdb_bgsave_in_progress") != 0) {
        faults_nap(5);
    }
    snprintf(path, sizeof path, "%s/dump.rdb", server.folder);
    unlink(path);
}
END_TEST

int main(void) {
    Suite *suite = suite_create("server");
    TCase *tests = faults_case(suite, set_up, tear_down);
    tcase_add_test(tests, a_killed_server_is_missed_at_once_and_found_again);
    tcase_add_test(tests, a_stopped_server_costs_deadlines_and_loses_nothing);
    tcase_add_test(tests, a_server_that_loads_is_waited_for_and_has_what_was_saved);
    tcase_add_test(tests, a_busy_server_refuses_and_loses_nothing);
    tcase_add_test(tests, a_server_out_of_memory_refuses_writes_and_goes_on_reading);
    tcase_add_test(tests, a_server_that_cannot_save_refuses_writes_and_is_read_and_heard);
    tcase_add_test(tests, a_master_that_becomes_a_replica_is_left_and_nothing_is_lost);
    tcase_add_test(tests, a_replica_that_serves_nothing_stale_is_waited_for);
    tcase_add_test(tests, a_master_without_its_replicas_refuses_writes_and_goes_on_reading);
    tcase_add_test(tests, a_full_server_is_not_stormed);
    tcase_add_test(tests, a_flush_under_load_brings_nothing_old_back);
    tcase_add_test(tests, a_server_that_forgets_its_scripts_is_told_them_and_nobody_notices);
    tcase_add_test(tests, a_link_whose_buffer_overflows_is_made_anew);
    tcase_add_test(tests, either_of_the_pair_may_be_killed_under_load);
    tcase_add_test(tests, a_pause_is_only_a_pause);
    return faults_run(suite);
}
